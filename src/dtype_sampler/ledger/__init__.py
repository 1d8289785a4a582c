"""The ledger: what ran, when, and what never did, across runs, shards and machines.

`records` says what is kept and how two records of one thing become one; `store` is the protocol of
a store; `sqlite` is the one there is, `schema` its tables; `books` writes a run down as it goes on.
"""

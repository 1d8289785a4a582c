"""The ledger: what ran, when, and what never did, across runs, shards and machines.

`records` says what is kept and how two records of one thing become one; `store` is the protocol of
a store; `sqlite` is the one there is, `opening` opens its file, and `schema` has its tables. What
somebody else's file may do is bounded by `guard`, and what its rows may say by `rows`; `secrets`
keeps passwords out of all that is told.
`books` writes a run down as it goes on, with a `journal` of what has just ended, and `origin` says
where a run comes from. `coverage` says what all of it comes to, and `outlook` what the next runs
will come to.
"""

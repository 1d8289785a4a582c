"""The ledger: what ran, when, and what never did, across runs, shards and machines.

`records` says what is kept and how two records of one thing become one; `store` is the protocol of
a store. `sql` keeps one in tables, and `reading` reads them, in the SQL that SQLite and PostgreSQL
share; `rows` says what their rows may hold. `engine` is the protocol of what a database brings.
`sqlite` is that of a file: `opening` opens it, `schema` has its tables, what somebody else's file
may do is bounded by `guard`, and what it holds that none can is found by `damage`.
`postgres` is that of one project on a server: `connecting` connects, `server_schema` has its
tables, and `server` makes them and looks after them. `secrets` keeps passwords out of all that is
told.
`outcomes` says what one test's reports come to, cell by cell, and `tally` those of a run.
`books` writes a run down as it goes on, with a `journal` of what has just ended, and `origin` says
where a run comes from. `coverage` says what all of it comes to, and `outlook` what the next runs
will come to.
"""

"""The ledger: what ran, when, and what never did, across runs, shards and machines.

`records` says what is kept and how two records of one thing become one; `store` is the protocol of
a store. `sql` keeps one in tables, in the SQL that SQLite and PostgreSQL share: `reading` reads
them, by the statements of `questions` too, and has records made of the `answers`; `writing` adds to
them in sets, by the statements of `upserts`; `rows` says what their rows may hold. `engine` is the
protocol of what a database brings.
`sqlite` is that of a file: `opening` opens it, `schema` has its tables, what somebody else's file
may do is bounded by `guard`, and what it holds that none can is found by `damage`.
`postgres` is that of one project on a server, by a `postgres_engine`: `connecting` connects,
`server_schema` has its tables, and `server` makes them and looks after them, in a `server_session`.
`places` says where a ledger is, and `secrets` keeps passwords out of all that is told.
`outcomes` says what one test's reports come to, cell by cell, and `tally` those of a run.
`books` writes a run down as it goes on, with a `journal` of what has just ended; `spooling` does so
where the ledger is on a server, which `link` speaks to and `shipper` ships to; `untaken` says what
becomes of what it does not take. `consulting` is what a run asks of its ledger, `elsewhere` of
another one than its own; what goes wrong in any of it is kept `apart` from the tests, and `garbage`
is not looked for meanwhile. `origin` says where a run comes from.
`coverage` says what all of it comes to, `standing` the same in brief, `samples` what a test takes
with the next seeds, and `outlook` what the next runs will come to.
"""

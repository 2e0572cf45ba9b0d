"""What is kept of calls: while they last, so that they can go on elsewhere, and afterwards.

Rows go from the loop into a deque (`writer`), from there into files (`spool`), and from these into
the tables of the database (`shipper`, `store`): each step in a thread of its own. `call_log` makes
the rows (`rows`) of what happens, less what is not to be kept (`redaction`). Of these alone is
computed what a call was: its `record`, with its `turns`, the `call_transcript`, and the `export`
for other programs.

`store` is the face of the tables (`schema`, `database`). Behind it each subject has its SQL:
`lifecycle` what becomes of a call, `ended_calls` what is done when it is over, `processes` who
lives, `reading` one call, `search` a list of them (`filters`, `words`, `word_index`), `retention`
what is deleted, `event_days` how PostgreSQL parts the events, `event_rows` how they come in,
`movable` and `claims` who may go on with a call, `left_calls` those with which nobody does.

Beside them go recordings (`recorded_leg`, `recorder`, `recording_file`, their directory
`recordings`, a folder for each day by `daily_files`; `tracks` and `unplaced`, which compute where
audio belongs; `joined_recording`, which is one of a call's several), traces (`tracing`), and what
is told of ended calls: to a receiver (`courier`, `receiver`, `deliveries`, `webhook`) and to the
user's own code (`ending_hook`).

What processes on one database do together is asked of `shared`, which bounds how long anybody waits
for it: `limits` has what is good once and what there are so many of, `dials` the calls that are to
be placed, `fleet_calls` those that are under way anywhere.

`kept_calls` opens and starts all this as it is configured (`opening`), and is told of calls.
`identity` is what the process is called in the database.

`trio` is in `writer`, `recorder`, `courier`, `receiver`, `ending_hook`, `opening`, `kept_calls` and
`shared` only: all else is synchronous, and runs in threads.
"""

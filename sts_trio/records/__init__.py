"""What is kept of calls: while they last, so that they can go on elsewhere, and afterwards.

Rows go from the loop into a deque (`writer`), from there into files (`spool`), and from these into
the tables of the database (`shipper`, `store`): each step in a thread of its own. What a call's
record is made of is computed from its rows alone (`record`).

`store` is the face of the tables (`schema`, `database`). Behind it each subject has its SQL:
`lifecycle` what becomes of a call, `ended_calls` what is done when it is over, `processes` who
lives, `reading` one call, `search` a list of them, `retention` what is deleted, `event_days` how
PostgreSQL parts the events.

Beside them go recordings (`recorded_leg`, `recorder`, `recording_file`, their directory
`recordings`, and `tracks`, which computes where audio belongs), and what is told of ended calls: to
a receiver (`courier`, `receiver`, `deliveries`, `webhook`) and to the user's own code
(`ending_hook`).

What processes on one database do together is asked of `shared`, which bounds how long anybody waits
for it: `limits` has what is good once and what there are so many of, `dials` the calls that are to
be placed, `fleet_calls` those that are under way anywhere.

`kept_calls` opens and starts all this, and is told of calls.

`trio` is in `writer`, `recorder`, `courier`, `receiver`, `ending_hook`, `kept_calls` and `shared`
only: all else is synchronous, and runs in threads.
"""

"""Rows into the table of events, a batch in one statement.

Nearly all that is written are these rows, and SQLAlchemy makes objects of each value of each: some
10 µs a row for SQLite, 30 for PostgreSQL, beside the calls. So these statements alone go past it,
to the driver: SQLite's takes tuples, and PostgreSQL one array of JSON, which it takes apart itself.
All that is in a row is bound to a parameter; no statement is made of it.
"""

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from sts_trio.records.database import is_postgresql
from sts_trio.records.event_days import day_of
from sts_trio.records.rows import Row

_INTO = "INSERT INTO event (call_sid, epoch, seq, day, at, kind, body)"
# What was written before stays as it is.
_INTO_SQLITE = f"{_INTO} VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_INTO_POSTGRESQL = (
    f"{_INTO} SELECT e ->> 0, (e ->> 1)::bigint, (e ->> 2)::integer, (e ->> 3)::integer,"
    " (e ->> 4)::double precision, e ->> 5, e -> 6"
    " FROM jsonb_array_elements(%s::jsonb) AS batch(e) ON CONFLICT DO NOTHING"
)

_encode = msgspec.json.Encoder().encode


def insert_rows(connection: sa.Connection, rows: Sequence[Row]) -> None:
    """Those that are there already are left as they are."""
    if is_postgresql(connection):
        batch = [(*_place(row), row.body) for row in rows]
        connection.exec_driver_sql(_INTO_POSTGRESQL, (_encode(batch).decode(),))
    else:
        tuples = [(*_place(row), _encode(row.body).decode()) for row in rows]
        connection.exec_driver_sql(_INTO_SQLITE, tuples)


def _place(row: Row) -> tuple[str, int, int, int, float, str]:
    return row.call_sid, row.epoch, row.seq, day_of(row.at), row.at, row.kind.value

"""A batch of rows, as it comes into the table of events."""

from typing import Any

import sqlalchemy as sa

from sts_trio.records.database import Database
from sts_trio.records.event_rows import insert_rows
from sts_trio.records.rows import Kind, Row
from sts_trio.records.schema import event
from sts_trio.records.store import Store

NOON = 1_796_040_000.1234567
BODIES: list[dict[str, Any]] = [
    {},
    {"text": 'l\'"été"; DROP TABLE event; -- %s ? :text 🚆\n\t\\'},
    {"text": "", "until": 0.1 + 0.2, "position": 1e-7, "count": 2**53, "is": [True, None, {}]},
]


def rows(count: int = len(BODIES)) -> list[Row]:
    return [
        Row(f"CA{number}%s?", 2**53 + number, number, NOON + number / 7, Kind.NOTE, body)
        for number, body in ((each, BODIES[each % len(BODIES)]) for each in range(count))
    ]


def test_rows_are_read_as_they_were_written(database: Database, store: Store) -> None:
    with database.writing() as connection:
        insert_rows(connection, rows())
    for row in rows():
        assert store.rows(row.call_sid) == [row]
    with database.reading() as connection:
        days = connection.execute(sa.select(event.c.day)).scalars().all()
    assert days == [20787] * len(BODIES)


def test_rows_that_are_there_stay_as_they_are(database: Database, store: Store) -> None:
    first = rows()[0]
    with database.writing() as connection:
        insert_rows(connection, [first])
        again = Row(first.call_sid, first.epoch, first.seq, first.at, Kind.NOTE, {"text": "other"})
        insert_rows(connection, [again, *rows()])
    assert store.rows(first.call_sid) == [first]
    assert [len(store.rows(row.call_sid)) for row in rows()] == [1] * len(BODIES)


def test_a_batch_is_one_statement_with_nothing_of_a_row_in_it(database: Database) -> None:
    statements: list[str] = []

    @sa.event.listens_for(database.engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, *others: Any) -> None:
        statements.append(statement)

    with database.writing() as connection:
        statements.clear()
        insert_rows(connection, rows(500))
    [statement] = statements
    assert "CA" not in statement
    with database.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(event)).scalar() == 500

"""Processes that share a database, as its rows tell of them."""

from typing import Any

import msgspec
import sqlalchemy as sa

from sts_trio.records import schema
from sts_trio.records.database import Database
from sts_trio.records.process_state import Process

ME = Process(
    process_id="p1",
    name="here-5000",
    address="127.0.0.1:5000",
    version="0",
    state="ready",
    live=1,
    capacity=500,
)


def process(process_id: str, **told: Any) -> Process:
    return msgspec.structs.replace(ME, process_id=process_id, **told)


def silence(database: Database, process_id: str, seconds: float) -> None:
    """As if it had not told of itself for as much longer."""
    heartbeat_at = schema.process.c.heartbeat_at
    _change(database, process_id, heartbeat_at=heartbeat_at - seconds)


def last_told(database: Database, process_id: str, at: float) -> None:
    """When it last told of itself, by the database's clock."""
    _change(database, process_id, heartbeat_at=at)


def _change(database: Database, process_id: str, **values: Any) -> None:
    with database.writing() as connection:
        connection.execute(
            sa.update(schema.process)
            .where(schema.process.c.process_id == process_id)
            .values(**values)
        )

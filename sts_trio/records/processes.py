"""What a process tells of itself once a second, so that others know that it lives.

Functions on a connection, in a transaction of whoever calls.
"""

import msgspec
import sqlalchemy as sa

from sts_trio.records import schema
from sts_trio.records.database import insert_into

process = schema.process


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table, but for its heartbeat. Times are seconds since 1970."""

    process_id: str
    name: str
    address: str
    version: str
    state: str
    live: int
    capacity: int
    started_at: float


def beat(connection: sa.Connection, of: Process, now: float) -> None:
    told = {**msgspec.structs.asdict(of), "heartbeat_at": now}
    connection.execute(
        insert_into(connection, process)
        .values(**told)
        .on_conflict_do_update(
            index_elements=["process_id"],
            set_={name: told[name] for name in told if name != "process_id"},
        )
    )


def leave(connection: sa.Connection, process_id: str) -> None:
    connection.execute(sa.delete(process).where(process.c.process_id == process_id))


def heartbeat_of(connection: sa.Connection, process_id: str) -> float | None:
    """The last one; None of a process that has left."""
    return connection.execute(
        sa.select(process.c.heartbeat_at).where(process.c.process_id == process_id)
    ).scalar()


def silent_since(connection: sa.Connection, before: float, but: str) -> list[str]:
    """The processes, other than `but`, whose last heartbeat was before that time."""
    return list(
        connection.execute(
            sa.select(process.c.process_id).where(
                process.c.heartbeat_at < before, process.c.process_id != but
            )
        ).scalars()
    )

"""Which processes share the database, and which of them live.

Each has a row, from its start to its clean end, in which it tells once a second how it is. All
times are the database's own: the clocks of two machines may be a minute apart.

Functions on a connection, in a transaction of whoever calls.
"""

import ipaddress
import socket
from typing import Any

import msgspec
import sqlalchemy as sa

from sts_trio.records import schema
from sts_trio.records.database import insert_into, is_postgresql
from sts_trio.records.process_state import GONE, Process, Seen

# Where a database is reached by a name: any port would do.
DISCARD = 9

process = schema.process

_TOLD = [process.c[name] for name in Process.__struct_fields__]
_BEATS: dict[str, Any] = {}  # {dialect: the statement}


def clock(connection: sa.Connection) -> sa.ColumnElement[float]:
    """The time by the database's clock, in seconds since 1970, for use in a statement."""
    if is_postgresql(connection):
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
    # A Julian day begins at noon; its zero is long before 1970.
    return sa.literal_column("((julianday('now') - 2440587.5) * 86400.0)", sa.Double)


def now(connection: sa.Connection) -> float:
    """The time by the database's clock, in seconds since 1970."""
    told: float = connection.execute(sa.select(clock(connection))).scalar_one()
    return told


def beat(connection: sa.Connection, of: Process) -> None:
    """It lives, and is as it tells."""
    # Once a second, and by what a process tells all its life: made once, as SQLAlchemy takes longer
    # to make it than to execute it.
    statement = _BEATS.get(connection.dialect.name)
    if statement is None:
        now = clock(connection)
        insert = insert_into(connection, process).values(started_at=now, heartbeat_at=now)
        told = {name: insert.excluded[name] for name in Process.__struct_fields__}
        statement = _BEATS[connection.dialect.name] = insert.on_conflict_do_update(
            index_elements=["process_id"], set_=told | {"heartbeat_at": now}
        )
    connection.execute(statement, msgspec.structs.asdict(of))


def leave(connection: sa.Connection, process_id: str) -> None:
    connection.execute(sa.delete(process).where(process.c.process_id == process_id))


def note_gone(connection: sa.Connection, process_id: str) -> None:
    """It is dead. What it had is for others now, as if its last word had just come."""
    told = Process(
        process_id=process_id, name="", address="", version="", state=GONE, live=0, capacity=0
    )
    now = clock(connection)
    connection.execute(
        insert_into(connection, process)
        .values(**msgspec.structs.asdict(told), started_at=now, heartbeat_at=now)
        # Its own last word stands, if there was one: when that came is when it died.
        .on_conflict_do_update(index_elements=["process_id"], set_={"state": GONE, "live": 0})
    )


def seen(connection: sa.Connection) -> list[Seen]:
    """All that have not ended cleanly, the oldest first."""
    return _seen(connection, sa.true())


def find(connection: sa.Connection, process_id: str) -> Seen | None:
    """None of one that has ended cleanly, or whose calls have all been seen to."""
    found = _seen(connection, process.c.process_id == process_id)
    return found[0] if found else None


def _seen(connection: sa.Connection, wanted: sa.ColumnElement[bool]) -> list[Seen]:
    age = clock(connection) - process.c.heartbeat_at
    rows = connection.execute(
        sa.select(*_TOLD, process.c.started_at, process.c.heartbeat_at, age)
        .where(wanted)
        .order_by(process.c.started_at, process.c.process_id)
    )
    names = Process.__struct_fields__
    return [
        Seen(
            process=Process(**dict(zip(names, told, strict=True))),
            started_at=started_at,
            heartbeat_at=heartbeat_at,
            age=age,
        )
        for *told, started_at, heartbeat_at, age in rows
    ]


def heartbeat_of(connection: sa.Connection, process_id: str) -> float | None:
    """The last one; None where there is none of its own."""
    return connection.execute(
        sa.select(process.c.heartbeat_at).where(
            process.c.process_id == process_id, process.c.name != ""
        )
    ).scalar()


def own_address(url: sa.URL, listens_at: str) -> str:
    """Where others that share this database reach a process that listens on that address: one that
    listens everywhere, where the way to the database begins. Blocks."""
    host, _, port = listens_at.rpartition(":")
    if host.strip("[]") in ("", "0.0.0.0", "::"):
        host = _way_out(url) or "127.0.0.1"
    host = host.strip("[]")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _way_out(url: sa.URL) -> str | None:
    """None where there is no network in between, or none is to be found now."""
    host = url.host or ""
    if url.get_backend_name() != "postgresql" or not host or host.startswith("/"):
        return None
    try:
        [*_, place], *_ = socket.getaddrinfo(host, url.port or DISCARD, type=socket.SOCK_DGRAM)
        family = socket.AF_INET6 if ":" in str(place[0]) else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as way:
            way.connect(place)  # sends nothing
            own = str(way.getsockname()[0])
    except OSError:
        return None
    return own if not ipaddress.ip_address(own.partition("%")[0]).is_unspecified else None

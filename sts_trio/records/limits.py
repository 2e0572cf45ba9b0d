"""What must hold for all processes that share the database together: what is good once, and what
there are so many of. Each is exact, however many ask at the same moment.

Functions on a connection, in a transaction of whoever calls. Days are UTC's, by the database's
clock.
"""

import math
from collections.abc import Sequence

import sqlalchemy as sa

from sts_trio.records import processes, schema
from sts_trio.records.database import insert_into
from sts_trio.records.event_days import DAY, day_of
from sts_trio.records.process_state import ALIVE_WITHIN, GONE

# What is good once is remembered for longer than it is good: clocks may differ.
REMEMBERED = 3600.0
TURN = "dial turn"
AGENT_SESSIONS = "agent sessions"
AGENT_REST = "agent rest"
# Seconds. No rest is as long: the clock was put back since, and nobody would dial until it is there
# again.
MOST_REST = 10.0
# 2020-01-01: seconds since 1970 will be too many for the column in 2038.
SINCE = 1577836800

allowance, process, token = schema.allowance, schema.process, schema.token


def use_once(connection: sa.Connection, names: Sequence[str], seconds: float) -> set[str]:
    """Those of these that nobody has used. They are used from now on, for so many seconds."""
    if not names:
        return set()
    expires_at = processes.clock(connection) + seconds + REMEMBERED
    # In one order, whoever asks: else two who ask for the same two wait for each other.
    return set(
        connection.execute(
            insert_into(connection, token)
            .values(
                [
                    {"token_id": name, "call_sid": "", "expires_at": expires_at}
                    for name in sorted(set(names))
                ]
            )
            .on_conflict_do_nothing()
            .returning(token.c.token_id)
        ).scalars()
    )


def forget_used(connection: sa.Connection) -> None:
    """What is no longer good by itself."""
    connection.execute(sa.delete(token).where(token.c.expires_at < processes.clock(connection)))


def take(connection: sa.Connection, name: str, most: int) -> int | None:
    """Takes one of today's; returns the day, for who gives it back. None: they are used up."""
    day = day_of(processes.now(connection))
    return (
        day if most > 0 and _raise(connection, name, day, most, allowance.c.used + 1, 1) else None
    )


def give_back(connection: sa.Connection, name: str, day: int) -> None:
    connection.execute(
        sa.update(allowance)
        .where(allowance.c.name == name, allowance.c.day == day, allowance.c.used > 0)
        .values(used=allowance.c.used - 1)
    )


def seconds_left(connection: sa.Connection) -> float:
    """Until there are as many again."""
    return DAY - processes.now(connection) % DAY


def take_turn(connection: sa.Connection, per_second: float) -> bool:
    """Whether this moment's turn was still to be had: there are so many moments in a second."""
    at = processes.now(connection)
    moment = int(at % DAY * per_second) + 1
    return _raise(connection, TURN, day_of(at), moment, sa.literal(moment), moment)


def _raise(
    connection: sa.Connection,
    name: str,
    day: int,
    most: int,
    used: sa.ColumnElement[int],
    first: int,
) -> bool:
    """Whether that was below `most`, and is what `used` says now."""
    changed = connection.execute(
        insert_into(connection, allowance)
        .values(name=name, day=day, used=first, most=most)
        .on_conflict_do_update(
            index_elements=["name", "day"],
            set_={"used": used, "most": most},
            where=allowance.c.used < most,
        )
        .returning(allowance.c.used)
    )
    return changed.first() is not None


# --- sessions with agents -------------------------------------------------------------------------


def take_sessions(connection: sa.Connection, process_id: str, count: int, most: int) -> bool:
    """Whether this process may have so many, of those that all living ones may have together. It
    has them then."""
    # Whoever has this row is alone until the transaction is over.
    row = {"name": AGENT_SESSIONS, "day": 0, "used": 0, "most": most}
    connection.execute(
        insert_into(connection, allowance)
        .values(**row)
        .on_conflict_do_update(index_elements=["name", "day"], set_={"most": most})
    )
    age = processes.clock(connection) - process.c.heartbeat_at
    others = connection.execute(
        sa.select(sa.func.sum(process.c.agent_sessions)).where(
            process.c.process_id != process_id,
            process.c.state != GONE,
            age < ALIVE_WITHIN,
        )
    ).scalar()
    if (others or 0) + count > most:
        return False
    tell_sessions(connection, process_id, count)
    return True


def tell_sessions(connection: sa.Connection, process_id: str, count: int) -> None:
    """It has so many."""
    connection.execute(
        sa.update(process).where(process.c.process_id == process_id).values(agent_sessions=count)
    )


def rest(connection: sa.Connection, seconds: float) -> None:
    """Nobody is to dial for so long."""
    until = math.ceil(processes.now(connection) - SINCE + seconds)
    connection.execute(
        insert_into(connection, allowance)
        .values(name=AGENT_REST, day=0, used=until, most=0)
        .on_conflict_do_update(index_elements=["name", "day"], set_={"used": until})
    )


def rest_left(connection: sa.Connection) -> float:
    """Seconds, if there are any left."""
    now = processes.clock(connection)
    until = connection.execute(
        sa.select(allowance.c.used + SINCE - now).where(
            allowance.c.name == AGENT_REST, allowance.c.day == 0
        )
    ).scalar()
    left = float(until or 0.0)
    return left if 0 < left < MOST_REST else 0.0

"""Calls that nobody has: their process is dead, or has let go of them, and nobody has claimed them.

Functions on a connection, in a transaction of whoever calls.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from sts_trio.records import schema
from sts_trio.records.movable import Left
from sts_trio.records.processes import clock

# What is looked at in a second; of a process that died there are 500, rarely.
MOST = 500

call = schema.call


def left_calls(connection: sa.Connection, dead: Sequence[str]) -> list[Left]:
    """Those of `dead` processes, and those that any has let go of."""
    rows = connection.execute(
        sa.select(call.c.call_sid, call.c.epoch, call.c.state)
        .where(
            sa.or_(
                call.c.state == "moving",
                sa.and_(call.c.state == "live", call.c.process_id.in_(dead)),
            ),
            is_unclaimed(connection),
        )
        .order_by(call.c.epoch)
        .limit(MOST)
    )
    return [Left(*row) for row in rows]


def given_up(
    connection: sa.Connection, call_sid: str, epoch: int, by: str | None = None
) -> float | None:
    """When the call was made, if it may be given up: it is moving, in that epoch, and is claimed
    by that process, or by nobody. None: it is not so any more."""
    is_ours = is_unclaimed(connection) if by is None else call.c.claimed_by == by
    created_at: float | None = connection.execute(
        sa.select(call.c.created_at).where(
            call.c.call_sid == call_sid, call.c.epoch == epoch, call.c.state == "moving", is_ours
        )
    ).scalar()
    return created_at


def is_unclaimed(connection: sa.Connection) -> sa.ColumnElement[bool]:
    until = call.c.claimed_until
    return sa.or_(until.is_(None), until <= clock(connection))

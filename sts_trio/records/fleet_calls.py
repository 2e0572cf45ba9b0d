"""The calls that are under way in any process that shares the database.

Functions on a connection, in a transaction of whoever calls.
"""

import msgspec
import sqlalchemy as sa

from sts_trio.records import processes, schema
from sts_trio.records.process_state import ALIVE_WITHIN, GONE
from sts_trio.records.reading import is_askable

LIVE = ("live", "moving")
# What a page shows at once.
MOST = 1000

call, process = schema.call, schema.process


class FleetCall(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """A live call, by what is kept of it: that is half a second old. With `is_alive` false its
    process is gone, and it goes on elsewhere, or will be lost."""

    call_sid: str
    from_: str
    to: str
    direction: str
    agent: str
    phase: str  # live, moving
    seconds: float  # since it was answered
    process: str  # its name
    address: str
    is_alive: bool


def live_calls(
    connection: sa.Connection, *, but: str | None = None, call_sid: str | None = None
) -> list[FleetCall]:
    """All of them, the oldest first, `but` those of that process; or the one of that SID."""
    now = processes.clock(connection)
    since = sa.func.coalesce(call.c.answered_at, call.c.created_at)
    query = (
        sa.select(
            call.c.call_sid,
            call.c.from_,
            call.c.to,
            call.c.direction,
            call.c.agent,
            call.c.state,
            now - since,
            process.c.name,
            process.c.address,
            now - process.c.heartbeat_at,
            process.c.state,
        )
        .select_from(call.outerjoin(process, call.c.process_id == process.c.process_id))
        .where(call.c.state.in_(LIVE))
        .order_by(since, call.c.call_sid)
        .limit(MOST)
    )
    if but is not None:
        query = query.where(call.c.process_id != but)
    if call_sid is not None:
        if not is_askable(call_sid):
            return []
        query = query.where(call.c.call_sid == call_sid)
    return [
        FleetCall(
            call_sid=sid,
            from_=from_,
            to=to,
            direction=direction,
            agent=agent,
            phase=state,
            # Of two machines' clocks one may be behind.
            seconds=max(0.0, round(seconds, 3)),
            process=name or "",
            address=address or "",
            is_alive=age is not None and age < ALIVE_WITHIN and its != GONE,
        )
        for sid, from_, to, direction, agent, state, seconds, name, address, age, its in (
            connection.execute(query)
        )
    ]

"""Who goes on with a call whose stream is over: looked up, and claimed by one alone.

A claim is one UPDATE, so of several at once one wins. It is the fence as well: it raises the call's
epoch, and what the process that had the call writes from then on, of an older one, changes the
call's row no more. It lasts until the stream is there, or for `CLAIMED_FOR` seconds of the
database's clock.

Functions on a connection, in a transaction of whoever calls.
"""

import sqlalchemy as sa

from sts_trio.records import processes, schema
from sts_trio.records.database import insert_into
from sts_trio.records.event_days import day_of
from sts_trio.records.movable import CLAIMED_FOR, CallState, Claim, HowEnded, Moved, Owner
from sts_trio.records.process_state import owner_of
from sts_trio.records.processes import clock, find
from sts_trio.records.rows import Kind

# A process tells of itself as often. Of one that was killed the stream is lost within as long.
BEAT = 1.0

call, event = schema.call, schema.event


def look(connection: sa.Connection, call_sid: str) -> CallState | None:
    """What is known of a call; None: nothing."""
    now = clock(connection)
    found = connection.execute(
        sa.select(
            call.c.state,
            call.c.process_id,
            call.c.epoch,
            call.c.claimed_by,
            call.c.claimed_until > now,
            call.c.ending,
            call.c.detail,
            call.c.apologised,
        ).where(call.c.call_sid == call_sid)
    ).first()
    if found is None:
        return None
    state, process_id, epoch, claimed_by, is_claimed, ending, detail, apologised = found
    claimed_by = claimed_by if is_claimed else None
    moves = connection.execute(
        sa.select(now - event.c.at, event.c.body).where(
            event.c.call_sid == call_sid, event.c.kind == Kind.MOVED.value
        )
    )
    return CallState(
        call_sid=call_sid,
        state=state,
        process_id=process_id,
        epoch=epoch,
        account_sid=_account(connection, call_sid),
        claimed_by=claimed_by,
        moves=tuple(Moved(age, bool(body.get("is_crash"))) for age, body in moves),
        owner=_owner(connection, claimed_by or process_id),
        ended=None if ending is None else HowEnded(ending, detail or "", bool(apologised)),
    )


def claim(
    connection: sa.Connection, seen: CallState, by: str, *, is_crash: bool, road: str
) -> Claim | None:
    """Takes the call for process `by`, if it is as it was `seen`; None: it is not any more."""
    now = processes.now(connection)
    lost_at = now - (max(0.0, seen.owner.age - BEAT) if is_crash and seen.owner else 0.0)
    is_ours = seen.claimed_by == by  # and was asked about again
    epoch = seen.epoch if is_ours else seen.epoch + 1
    done = connection.execute(
        sa.update(call)
        .where(
            call.c.call_sid == seen.call_sid,
            call.c.epoch == seen.epoch,
            call.c.state == seen.state,
            call.c.process_id == seen.process_id,
            sa.or_(
                call.c.claimed_until.is_(None),
                call.c.claimed_until <= now,
                call.c.claimed_by == (seen.claimed_by or by),
            ),
        )
        .values(
            state="moving",
            epoch=epoch,
            claimed_by=by,
            # Else a call whose stream finds no way here would be ours for ever.
            claimed_until=call.c.claimed_until if is_ours else now + CLAIMED_FOR,
            ended_at=None,
            ending=None,
            verdict=None,
            detail=None,
        )
        .returning(call.c.call_sid)
    ).first()
    if done is None:
        return None
    if not is_ours:
        body = {"from": seen.owner_id, "to": by, "road": road, "is_crash": is_crash}
        connection.execute(
            insert_into(connection, event).values(
                call_sid=seen.call_sid,
                epoch=epoch,
                seq=0,
                day=day_of(now),
                at=now,
                kind=Kind.MOVED.value,
                body=body,
            )
        )
    return Claim(epoch, lost_at)


def _account(connection: sa.Connection, call_sid: str) -> str:
    """By the first row that tells who is calling whom."""
    told = connection.execute(
        sa.select(event.c.body)
        .where(
            event.c.call_sid == call_sid,
            event.c.kind.in_((Kind.ANNOUNCED.value, Kind.STARTED.value)),
        )
        .order_by(event.c.epoch, event.c.seq)
        .limit(1)
    ).scalar()
    return "" if told is None else str(told.get("account", ""))


def _owner(connection: sa.Connection, process_id: str) -> Owner | None:
    seen = find(connection, process_id)
    return None if seen is None else owner_of(seen)

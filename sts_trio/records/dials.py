"""Calls that are to be placed: by one process, whichever was asked, and known to all.

A row is made before the call is placed, and says what came of it afterwards. The same idempotency
key finds it, for a day. It has who answers the call and what a machine is told, for the process
that Twilio asks, as JSON in a text; the number it does not have.

Functions on a connection, in a transaction of whoever calls.
"""

from typing import Any

import msgspec
import sqlalchemy as sa

from sts_trio.records import limits, processes, schema
from sts_trio.records.database import insert_into
from sts_trio.records.reading import is_askable

# A client may ask again for as long, with the same key.
KEY_LIFETIME = 24 * 3600.0
BUDGET = "dial"

dial = schema.dial


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What there is under a key. `day` is that of the budget, if this is new. Of what is not new,
    `outcome` tells what came of it; else it is being placed, or its process `is_gone`, or it was
    surely not placed and `may_be_asked` for anew."""

    token: str
    is_new: bool = False
    day: int = 0
    is_other_request: bool = False  # which was given with the same key
    used_up_for: float | None = None  # seconds: today's budget is spent, and nothing was made
    outcome: dict[str, Any] | None = None
    is_gone: bool = False
    may_be_asked: bool = False


def ask(
    connection: sa.Connection,
    *,
    token: str,
    key: str | None,
    digest: str,
    request: str,
    process_id: str,
    per_day: int,
) -> Asked:
    """Makes a row, and takes a call of the day's budget, unless the key has a row."""
    if key is not None:
        _forget(connection, dial.c.idempotency_key == key)
    made = connection.execute(
        insert_into(connection, dial)
        .values(
            token=token,
            idempotency_key=key,
            digest=digest,
            request=request,
            process_id=process_id,
            asked_at=processes.clock(connection),
        )
        .on_conflict_do_nothing()
        .returning(dial.c.token)
    ).first()
    if made is None:
        return _known(connection, dial.c.idempotency_key == key, token, digest)
    day = limits.take(connection, BUDGET, per_day)
    if day is None:
        connection.execute(sa.delete(dial).where(dial.c.token == token))
        return Asked(token=token, used_up_for=limits.seconds_left(connection))
    return Asked(token=token, is_new=True, day=day)


def look(connection: sa.Connection, token: str) -> Asked:
    """What came of it so far."""
    return _known(connection, dial.c.token == token, token, None)


def _known(
    connection: sa.Connection, which: sa.ColumnElement[bool], token: str, digest: str | None
) -> Asked:
    row = connection.execute(
        sa.select(dial.c.token, dial.c.digest, dial.c.outcome, dial.c.process_id).where(which)
    ).first()
    if row is None:
        return Asked(token=token, may_be_asked=True)
    owner = processes.find(connection, row.process_id)
    return Asked(
        token=row.token,
        is_other_request=digest is not None and row.digest != digest,
        outcome=row.outcome,
        is_gone=row.outcome is None and (owner is None or not owner.is_alive),
    )


def settle(
    connection: sa.Connection, token: str, call_sid: str | None, outcome: dict[str, Any]
) -> None:
    """It was placed, or may have been."""
    connection.execute(
        sa.update(dial).where(dial.c.token == token).values(call_sid=call_sid, outcome=outcome)
    )


def give_up(connection: sa.Connection, token: str, day: int) -> None:
    """It was surely not placed: it costs nothing, and may be asked for again."""
    if connection.execute(sa.delete(dial).where(dial.c.token == token)).rowcount:
        limits.give_back(connection, BUDGET, day)


def request_of(connection: sa.Connection, token: str) -> str | None:
    """What is to be done with the call once it is answered; None once it is over."""
    if not is_askable(token):
        return None
    found = connection.execute(sa.select(dial.c.request).where(dial.c.token == token)).scalar()
    return None if found is None else str(found)


def end(connection: sa.Connection, token: str) -> None:
    """The call is over: what was to be said in it is nobody's any more."""
    connection.execute(sa.update(dial).where(dial.c.token == token).values(request=sa.null()))


def forget_old(connection: sa.Connection) -> None:
    _forget(connection, sa.true())


def _forget(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    before = processes.clock(connection) - KEY_LIFETIME
    connection.execute(sa.delete(dial).where(which, dial.c.asked_at < before))

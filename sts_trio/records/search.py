"""Which calls are asked for, and where in the list of all calls they are: newest first, a page at a
time, by a cursor that stays right while calls come and go.

Functions on a connection, in a transaction of whoever calls.
"""

from typing import Any

import msgspec
import sqlalchemy as sa

from sts_trio.records import schema
from sts_trio.records.reading import is_askable, read_calls
from sts_trio.records.record import CallRow
from sts_trio.records.redaction import Redaction
from sts_trio.records.rows import Kind

# What a list shows at once.
MAX_CALLS = 500
# Calls in which words are looked for at once, and in one statement.
SEARCHED = 2000
LOT = 200
_Place = tuple[float, str]  # created_at, call_sid

call, event = schema.call, schema.event


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls; what is None does not matter. Times are seconds since 1970."""

    since: float | None = None
    until: float | None = None  # before that
    number: str | None = None  # of either side, as Twilio writes it
    agent: str | None = None
    ending: str | None = None
    verdict: str | None = None
    words: str | None = None  # said by either side, in whichever case
    has_ended: bool | None = None


class Page(msgspec.Struct, frozen=True):
    """Calls, newest first. `after` is where the next page begins; None: there is none."""

    calls: list[CallRow]
    after: str | None


class BadCursor(ValueError):
    """`after` is none that a page gave."""


def find_calls(
    connection: sa.Connection,
    wanted: Wanted,
    limit: int,
    after: str | None = None,
    redaction: Redaction | None = None,
) -> Page:
    """The calls that are wanted. Words are looked for in so many calls at a time (`SEARCHED`), so a
    page of those may be short, or empty, and yet not the last. Numbers are kept as `redaction`
    makes them.

    Raises:
        BadCursor: `after` is none that a page gave.
    """
    texts = (wanted.number, wanted.agent, wanted.ending, wanted.verdict, wanted.words)
    if not all(is_askable(text) for text in texts if text is not None):
        return Page([], None)
    if redaction is not None and wanted.number is not None:
        wanted = msgspec.structs.replace(wanted, number=redaction.number(wanted.number))
    limit = max(1, min(limit, MAX_CALLS))
    places, position = _find(connection, wanted, limit, None if after is None else _position(after))
    sids = [sid for _, sid in places]
    found = read_calls(connection, sids)
    # One that was deleted between the two is not there any more.
    return Page([found[sid] for sid in sids if sid in found], _cursor(position))


def _find(
    connection: sa.Connection, wanted: Wanted, limit: int, position: _Place | None
) -> tuple[list[_Place], _Place | None]:
    """Where they are, and behind which one to go on, if at all."""
    if not wanted.words:
        places = _newest(connection, wanted, limit + 1, position)
        return places[:limit], places[limit - 1] if len(places) > limit else None
    found: list[_Place] = []
    for _ in range(SEARCHED // LOT):
        places = _newest(connection, wanted, LOT, position)
        sids = [sid for _, sid in places]
        # Call by call through their index: no plan of the database's own reads all there is.
        hits = set(
            connection.execute(
                sa.select(event.c.call_sid)
                .where(event.c.call_sid.in_(sids), _says(wanted.words))
                .distinct()
            ).scalars()
        )
        for place in places:
            position = place
            if place[1] in hits:
                found.append(place)
                if len(found) == limit:
                    return found, position
        if len(places) < LOT:
            return found, None
    return found, position


def _newest(
    connection: sa.Connection, wanted: Wanted, limit: int, position: _Place | None
) -> list[_Place]:
    choose = _choose(wanted, position).limit(limit)
    query: Any = choose
    if wanted.number is not None:
        # Two indexes, of which either gives its newest at once; `OR` would sort all there are.
        either = sa.union(
            *(
                sa.select(choose.where(side == wanted.number).subquery())
                for side in (call.c.from_, call.c.to)
            )
        ).subquery()
        query = (
            sa.select(either)
            .order_by(either.c.created_at.desc(), either.c.call_sid.desc())
            .limit(limit)
        )
    return [(row.created_at, row.call_sid) for row in connection.execute(query)]


def _choose(wanted: Wanted, position: _Place | None) -> sa.Select[float, str]:
    choose = sa.select(call.c.created_at, call.c.call_sid).order_by(
        call.c.created_at.desc(), call.c.call_sid.desc()
    )
    if position is not None:
        choose = choose.where(sa.tuple_(call.c.created_at, call.c.call_sid) < position)
    if wanted.since is not None:
        choose = choose.where(call.c.created_at >= wanted.since)
    if wanted.until is not None:
        choose = choose.where(call.c.created_at < wanted.until)
    for column, value in (
        (call.c.agent, wanted.agent),
        (call.c.ending, wanted.ending),
        (call.c.verdict, wanted.verdict),
    ):
        if value is not None:
            choose = choose.where(column == value)
    if wanted.has_ended is not None:
        # Nearly all have: by an index on that nearly all would be read, and then sorted.
        ended_at = call.c.ended_at
        choose = choose.where(ended_at.is_not(None) if wanted.has_ended else ended_at.is_(None))
    return choose


def _says(words: str) -> sa.ColumnElement[bool]:
    kinds = {Kind.USER: "text", Kind.AGENT: "text", Kind.HEARD: "said"}
    return sa.or_(
        *(
            sa.and_(
                event.c.kind == kind.value,
                event.c.body[name].as_string().icontains(words, autoescape=True),
            )
            for kind, name in kinds.items()
        )
    )


def _cursor(place: _Place | None) -> str | None:
    return None if place is None else f"{place[0]!r}~{place[1]}"


def _position(after: str) -> _Place:
    at, tilde, sid = after.partition("~")
    try:
        position = float(at)
    except ValueError:
        tilde = ""
    if not tilde or not is_askable(sid):
        raise BadCursor(f"expected what a page gave as `after`, got {after[:80]!r}")
    return position, sid

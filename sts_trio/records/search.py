"""Which calls are asked for, and where in the list of all calls they are: newest first, a page at a
time, by a cursor that stays right while calls come and go.

Functions on a connection, in a transaction of whoever calls.
"""

from typing import Any

import msgspec
import sqlalchemy as sa

from sts_trio.records import schema, word_index
from sts_trio.records.reading import is_askable, read_calls, read_rows
from sts_trio.records.record import CallRow
from sts_trio.records.redaction import Redaction
from sts_trio.records.word_index import Place
from sts_trio.records.words import Sought, said_in, sought

# What a list shows at once.
MAX_CALLS = 500
# Calls in which words are looked for at once that are not in the index of words.
SEARCHED = 400

call = schema.call


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls; what is None does not matter. Times are seconds since 1970."""

    since: float | None = None
    until: float | None = None  # before that
    number: str | None = None  # of either side, as Twilio writes it
    agent: str | None = None
    ending: str | None = None
    verdict: str | None = None
    # One behind the other, said by either side; the last may be the beginning of a word.
    words: str | None = None
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
    """The calls that are wanted. Words are looked for in so many calls at a time, so a page of
    those may be short, or empty, and yet not the last. Numbers are kept as `redaction` makes them.

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
    connection: sa.Connection, wanted: Wanted, limit: int, position: Place | None
) -> tuple[list[Place], Place | None]:
    """Where they are, and behind which one to go on, if at all."""
    if not wanted.words:
        places = _newest(connection, wanted, limit + 1, position)
        return places[:limit], places[limit - 1] if len(places) > limit else None
    is_said = sought(wanted.words)
    if is_said is None:
        return [], None
    return _saying(connection, wanted, is_said, limit, position)


def _saying(
    connection: sa.Connection,
    wanted: Wanted,
    is_said: Sought,
    limit: int,
    position: Place | None,
) -> tuple[list[Place], Place | None]:
    # Calls that last, have ended a moment ago, or are of an older release.
    others = _newest(connection, wanted, SEARCHED, position, is_indexed=False)
    rows = read_rows(connection, [sid for _, sid in others]) if others else {}
    found = [place for place in others if is_said.is_in(said_in(rows[place[1]]))]
    indexed, stop = word_index.find(
        connection,
        lambda calls: _of_number(_choose(wanted, position, calls), wanted.number, calls),
        is_said,
        limit,
        newest=lambda count: _newest(connection, wanted, count, position),
        since=wanted.since,
        before=min(
            (each for each in (position and position[0], wanted.until) if each), default=None
        ),
    )
    stops = [stop] if stop else []
    if len(others) == SEARCHED:
        stops.append(others[-1])
    # What is behind where one of both has stopped is for the next page.
    places = sorted(
        {place for place in (*found, *indexed) if all(place >= each for each in stops)},
        reverse=True,
    )
    if len(places) > limit:
        return places[:limit], places[limit - 1]
    return places, max(stops, default=None)


def _of_number(
    choose: sa.Select[float, str], number: str | None, calls: sa.FromClause
) -> sa.Select[float, str]:
    if number is None:
        return choose
    sides = (calls.c.from_, calls.c.to)
    return choose.where(sa.or_(*(unindexed(side) == number for side in sides)))


def unindexed(column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """The same, by which no planner looks into an index."""
    return column.concat("")


def _newest(
    connection: sa.Connection,
    wanted: Wanted,
    limit: int,
    position: Place | None,
    *,
    is_indexed: bool = True,
) -> list[Place]:
    if not is_indexed:
        # Few calls are not, and for these there is an index of their own.
        few = _of_number(_choose(wanted, position, by_index=False), wanted.number, call)
        few = few.where(call.c.word_place.is_(None)).limit(limit)
        return [(at, sid) for at, sid in connection.execute(few)]
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


def _choose(
    wanted: Wanted,
    position: Place | None,
    calls: sa.FromClause = call,
    *,
    by_index: bool = True,
) -> sa.Select[float, str]:
    choose = sa.select(calls.c.created_at, calls.c.call_sid).order_by(
        calls.c.created_at.desc(), calls.c.call_sid.desc()
    )
    if position is not None:
        choose = choose.where(sa.tuple_(calls.c.created_at, calls.c.call_sid) < position)
    if wanted.since is not None:
        choose = choose.where(calls.c.created_at >= wanted.since)
    if wanted.until is not None:
        choose = choose.where(calls.c.created_at < wanted.until)
    for column, value in (
        (calls.c.agent, wanted.agent),
        (calls.c.ending, wanted.ending),
        (calls.c.verdict, wanted.verdict),
    ):
        if value is not None:
            choose = choose.where((column if by_index else unindexed(column)) == value)
    if wanted.has_ended is not None:
        # Nearly all have: by an index on that nearly all would be read, and then sorted.
        ended_at = calls.c.ended_at
        choose = choose.where(ended_at.is_not(None) if wanted.has_ended else ended_at.is_(None))
    return choose


def _cursor(place: Place | None) -> str | None:
    return None if place is None else f"{place[0]!r}~{place[1]}"


def _position(after: str) -> Place:
    at, tilde, sid = after.partition("~")
    try:
        position = float(at)
    except ValueError:
        tilde = ""
    if not tilde or not is_askable(sid):
        raise BadCursor(f"expected what a page gave as `after`, got {after[:80]!r}")
    return position, sid

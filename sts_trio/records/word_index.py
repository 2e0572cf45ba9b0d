"""The index of the words of calls that have ended, by which they are found.

SQLite has it as an FTS5 table, whose rows are in the order of the calls' begin; PostgreSQL as a
table with a GIN index. `call.word_place` tells whether a call is in it: null, if it is not yet. A
call that is deleted goes from it by itself, whichever release deletes it.

Functions on a connection, in a transaction of whoever calls.
"""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY

from sts_trio.records import schema
from sts_trio.records.database import Database, is_postgresql
from sts_trio.records.reading import read_rows
from sts_trio.records.rows import Row
from sts_trio.records.words import Sought, said_in

TABLE = schema.WORDS
# Of a call that has ended without a word.
NOWHERE = 0
# Calls that are looked at for one page, should the other filters leave none of them.
LOOKED_AT = 1000
# Calls that the other filters leave, of which SQLite reads the words instead of asking its index:
# of a word that all say it would be told all calls, to find the few.
RARE = 200
# As many PostgreSQL's index is asked for at once: it has no order, and tells all or none.
FEW = 3000
# Pages of SQLite's that are merged in one transaction: 40 ms.
MERGED = 200
# Seconds for such a step: nobody waits.
MERGING = 30.0
_MICROSECONDS = 1_000_000
_LATEST = 2**52  # microseconds
# For calls of the same microsecond.
_SPREAD = 1024

Place = tuple[float, str]  # created_at, call_sid
# The newest of those calls, by what else they are filtered by.
Choose = Callable[[sa.FromClause], sa.Select[float, str]]

call = schema.call
_words = sa.table(TABLE, sa.column("rowid"), sa.column("words"))
_postgresql_words = sa.table(TABLE, sa.column("call_sid"), sa.column("words"))


# What calls are filtered by, and told by.
_FILTERED = [
    call.c[name]
    for name in (
        *("created_at", "call_sid", "from_", "to"),
        *("agent", "ending", "verdict", "ended_at"),
    )
]
_OF_THESE = call.c.call_sid.in_(sa.bindparam("sids", expanding=True))
_BEGUN = sa.select(call.c.call_sid, call.c.created_at).where(_OF_THESE)
_PLACES = sa.select(call.c.word_place).where(_OF_THESE, call.c.word_place.is_not(None))
_PLACED = (
    sa.update(call)
    .where(call.c.call_sid == sa.bindparam("of"))
    .values(word_place=sa.bindparam("place"))
)
_PUT = sa.text(f"INSERT INTO {TABLE} (rowid, words) VALUES (:place, :words)")
_PUT_VECTOR = sa.text(
    f"INSERT INTO {TABLE} (call_sid, words) VALUES (:sid, CAST(:words AS tsvector))"
)
_TAKEN = sa.text(f"SELECT 1 FROM {TABLE} WHERE rowid = :place")


def exists(connection: sa.Connection) -> bool:
    """Not every SQLite has FTS5."""
    return is_postgresql(connection) or bool(
        connection.execute(sa.text(f"SELECT 1 FROM sqlite_master WHERE name = '{TABLE}'")).scalar()
    )


# --- writing --------------------------------------------------------------------------------------


def put(connection: sa.Connection, rows: Mapping[str, Sequence[Row]]) -> None:
    """These calls have ended: {call: its rows}."""
    if not rows or not exists(connection):
        return
    take_out(connection, list(rows))
    placed: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for sid, created_at in connection.execute(_BEGUN, {"sids": list(rows)}).all():
        words = said_in(rows[sid])
        place = _free(connection, _place(created_at, sid), said) if words else NOWHERE
        placed.append({"of": sid, "place": place})
        if words:
            said.append({"sid": sid, "place": place, "words": words})
    if said and is_postgresql(connection):
        vectors = [{**each, "words": _vector(each["words"])} for each in said]
        connection.execute(_PUT_VECTOR, vectors)
    elif said:
        connection.execute(_PUT, [{**each, "words": " ".join(each["words"])} for each in said])
    if placed:
        connection.execute(_PLACED, placed)


def take_out(connection: sa.Connection, sids: Sequence[str]) -> None:
    """Those of them that are in it are not any more."""
    places = list(connection.execute(_PLACES, {"sids": sids}).scalars())
    if not places:
        return
    if is_postgresql(connection):
        words = _postgresql_words
        connection.execute(sa.delete(words).where(words.c.call_sid.in_(sids)))
    else:
        connection.execute(sa.delete(_words).where(_words.c.rowid.in_(places)))
    connection.execute(sa.update(call).where(call.c.call_sid.in_(sids)).values(word_place=None))


def has_more(connection: sa.Connection) -> bool:
    """Whether calls have ended that are not in it."""
    return exists(connection) and bool(_missing(connection, 1))


def put_some(connection: sa.Connection, most: int) -> int:
    """Some of those that have ended and are not in it: an older release wrote them, or something
    was told of them late. Returns how many."""
    found = _missing(connection, most)
    rows = read_rows(connection, found)
    put(connection, {sid: rows[sid] for sid in found})
    return len(found)


def _missing(connection: sa.Connection, most: int) -> list[str]:
    return list(
        connection.execute(
            sa.select(call.c.call_sid)
            .where(call.c.word_place.is_(None), call.c.ended_at.is_not(None))
            .order_by(call.c.created_at.desc())
            .limit(most)
        ).scalars()
    )


def purge(database: Database) -> None:
    """What was deleted is in no page of it any more.

    FTS5 only notes what is deleted, and drops it when it merges (https://sqlite.org/fts5.html,
    6.7, read 2026-11-30). So all of it is merged, in steps.
    """
    if database.is_postgresql:
        return
    pages = -MERGED  # the first step begins a merge of all there is
    while True:
        with database.giving_way(within=MERGING) as connection:
            if not exists(connection):
                return
            before = _changes(connection)
            connection.execute(
                sa.text(f"INSERT INTO {TABLE} ({TABLE}, rank) VALUES ('merge', :pages)"),
                {"pages": pages},
            )
            if _changes(connection) - before < 2:  # it was complete
                return
        pages = MERGED


def _changes(connection: sa.Connection) -> int:
    return int(connection.execute(sa.text("SELECT total_changes()")).scalar_one())


# --- reading --------------------------------------------------------------------------------------


def find(
    connection: sa.Connection,
    choose: Choose,
    sought: Sought,
    limit: int,
    *,
    newest: Callable[[int], list[Place]],
    since: float | None,
    before: float | None,
) -> tuple[list[Place], Place | None]:
    """The newest of the calls that `choose` leaves and in which that was said; and the last that
    was looked at, if there may be more behind it. `newest` are so many of those that it chooses,
    whatever was said; `since` and `before` are what it says of their begin."""
    if not exists(connection):
        return [], None
    if is_postgresql(connection):
        return _find_by_gin(connection, choose, sought, limit, newest)
    rare = newest(RARE + 1)
    is_rare = len(rare) <= RARE
    # What nearly all say is found in the first page.
    found, stop = _find_among(connection, sought, limit, rare if is_rare else rare[: limit + 1])
    if is_rare or stop is not None:
        return found, stop
    match = sa.text(f"{TABLE} MATCH :query").bindparams(query=_match(sought))
    matching = sa.select(_words.c.rowid).where(match).order_by(_words.c.rowid.desc())
    if since is not None:
        matching = matching.where(_words.c.rowid >= _first_place(since))
    if before is not None:
        matching = matching.where(_words.c.rowid < _first_place(before) + 2 * _SPREAD)
    found = []
    # One query, read on as far as it takes: to begin it takes longer than to read from it.
    with connection.execute(matching.limit(LOOKED_AT)).scalars() as rowids:
        for count in _windows(limit):
            places = list(rowids.fetchmany(count))
            among = _is_in(connection, call.c.word_place, places)
            found += _places(connection, choose(_these(among)).limit(limit + 1))
            # Of those of one microsecond it has its own order.
            found = sorted(found, reverse=True)[: limit + 1]
            if len(found) > limit and found[-1][0] < found[-2][0]:
                return found, found[-1]
            if len(places) < count:
                return found, None
    if len(found) > limit:
        return found, found[-1]
    at_last = sa.select(call.c.created_at, call.c.call_sid).where(call.c.word_place == places[-1])
    return found, _places(connection, at_last)[0]


def _find_among(
    connection: sa.Connection, sought: Sought, limit: int, places: Sequence[Place]
) -> tuple[list[Place], Place | None]:
    """In few calls: their words are read."""
    said = dict(
        connection.execute(
            sa.select(call.c.call_sid, _words.c.words)
            .join_from(call, _words, _words.c.rowid == call.c.word_place)
            .where(_is_in(connection, call.c.call_sid, [sid for _, sid in places]))
        ).all()
    )
    found = [each for each in places if sought.is_in(said.get(each[1], "").split())]
    return found[: limit + 1], found[limit] if len(found) > limit else None


def _find_by_gin(
    connection: sa.Connection,
    choose: Choose,
    sought: Sought,
    limit: int,
    newest: Callable[[int], list[Place]],
) -> tuple[list[Place], Place | None]:
    words = _postgresql_words
    query = _query(sought, " <-> ")
    phrase = words.c.words.op("@@")(query)
    # The index alone tells who said these words in any order. For a phrase PostgreSQL reads the
    # words of each of those calls, which takes longer than all the rest.
    each_word = words.c.words.op("@@")(_query(sought, " & "))
    found: list[Place] = []
    end = 0
    for count in _windows(limit):
        if end == limit + 1:
            # The index has no order: it is asked for what few calls have. What many have is found
            # in the newest of all, of which the first have been looked at by now.
            for among in (each_word, phrase) if len(sought.words) > 1 else (phrase,):
                few = _among_few(connection, choose, among, phrase, limit + 1)
                if few is not None:
                    return few, few[limit] if len(few) > limit else None
        begin, end = end, end + count
        places = newest(end)
        window = [sid for _, sid in places[begin:]]
        # Materialized, as the planner would else take the index, and all the calls in it.
        those = (
            sa.select(words.c.call_sid, words.c.words)
            .where(_is_in(connection, words.c.call_sid, window))
            .cte()
            .prefix_with("MATERIALIZED")
        )
        said = sa.select(those.c.call_sid).where(those.c.words.op("@@")(query))
        hits = set(connection.execute(said).scalars())
        found += [place for place in places[begin:] if place[1] in hits]
        if len(found) > limit:
            return found, found[limit]
        if len(places) < end:
            return found, None
    return found, places[-1]


def _among_few(
    connection: sa.Connection,
    choose: Choose,
    among: sa.ColumnElement[bool],
    phrase: sa.ColumnElement[bool],
    most: int,
) -> list[Place] | None:
    """The newest calls with that phrase `among` those that the index tells; None: these are more
    than a few."""
    words = _postgresql_words
    few = sa.select(words.c.call_sid).where(among).limit(FEW + 1).cte().prefix_with("MATERIALIZED")
    count = sa.select(sa.func.count()).select_from(few).scalar_subquery()
    # The limit has each of them looked up; the planner would else read all calls there are.
    its_call = sa.select(*_FILTERED).where(call.c.call_sid == few.c.call_sid).limit(1).lateral()
    calls = sa.select(*its_call.c).select_from(few.join(its_call, sa.true())).where(count <= FEW)
    chosen = choose(calls.subquery()).subquery()
    # A scalar subquery is asked behind the order, and so reads the words of the first calls alone.
    has_phrase = sa.select(phrase).where(words.c.call_sid == chosen.c.call_sid).scalar_subquery()
    found = sa.select(chosen).where(has_phrase).limit(most).subquery()
    # One row there always is, with the count, also where no call has the phrase.
    one = sa.select(count.label("count")).subquery()
    told = connection.execute(
        sa.select(one.c.count, found).select_from(one.outerjoin(found, sa.true()))
    ).all()
    if told[0][0] > FEW:
        return None
    return sorted(((at, sid) for _, at, sid in told if sid is not None), reverse=True)


def _windows(limit: int) -> list[int]:
    """How many more finds are looked at, each time: mostly there are no other filters, and the
    first few will do; or they leave more than an eighth."""
    ends = sorted({min(count, LOOKED_AT) for count in (limit + 1, 8 * (limit + 1), LOOKED_AT)})
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def _is_in(
    connection: sa.Connection, column: sa.ColumnElement[Any], values: Sequence[int | str]
) -> sa.ColumnElement[bool]:
    """By one parameter: with as many as there are values each query would be another."""
    if is_postgresql(connection):
        return column == sa.any_(sa.bindparam("values", list(values), type_=sa.ARRAY(sa.String)))
    among = sa.text("SELECT value FROM json_each(:values)")
    return column.in_(among.bindparams(values=json.dumps(values)))


def _these(which: sa.ColumnElement[bool]) -> sa.FromClause:
    """Calls, found by that alone. A limit keeps the planners from looking through all calls of an
    agent, say, for those that are among a few."""
    return sa.select(*_FILTERED).where(which).limit(FEW).subquery()


def _places(connection: sa.Connection, query: sa.Select[float, str]) -> list[Place]:
    return [(at, sid) for at, sid in connection.execute(query)]


# --- both databases' own words for it -------------------------------------------------------------


def _place(created_at: float, sid: str) -> int:
    """In the order of the calls' begin."""
    return _first_place(created_at) + zlib.crc32(sid.encode("utf-8", "replace")) % _SPREAD


def _first_place(at: float) -> int:
    return _SPREAD * min(max(1, int(at * _MICROSECONDS)), _LATEST)


def _free(connection: sa.Connection, place: int, others: Sequence[Mapping[str, Any]]) -> int:
    """The first from there on that no call has; PostgreSQL's index is not by places."""
    if is_postgresql(connection):
        return place
    taken = {each["place"] for each in others}
    while place in taken or connection.execute(_TAKEN, {"place": place}).scalar():
        place += 1
    return place


def _match(sought: Sought) -> str:
    """https://sqlite.org/fts5.html, 3.2 and 3.3, read 2026-11-30."""
    return f'"{" ".join(sought.words)}"{" *" if sought.is_open else ""}'


def _query(sought: Sought, between: str) -> sa.ColumnElement[str]:
    """https://www.postgresql.org/docs/15/datatype-textsearch.html, read 2026-11-30."""
    words = between.join(f"'{word}'" for word in sought.words)
    return sa.cast(words + (":*" if sought.is_open else ""), TSQUERY)


def _vector(said: Sequence[str]) -> str:
    return " ".join(f"'{word}':{place}" for place, word in enumerate(said, 1))

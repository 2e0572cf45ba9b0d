"""What is written into the tables, and what is read from them. Synchronous: for threads.

Writing is idempotent: what was written once may be written again, in whole or in part, and changes
nothing. So whoever does not know whether a transaction was committed writes it again.

Each method is a transaction, or a few small ones, and raises `DatabaseAway`.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from sts_trio.config.records import Prices
from sts_trio.records import deliveries, schema, webhook
from sts_trio.records.database import Database, DatabaseAway
from sts_trio.records.record import (
    CallRow,
    Record,
    RecordingRow,
    StreamRow,
    record,
    summary,
    without_words,
)
from sts_trio.records.redaction import Redaction
from sts_trio.records.rows import ESSENTIAL, Kind, Row

DAY = 86400
LOST = "lost"
_KINDS = frozenset(Kind)
_UNDER_WAY = ("announced", "live", "moving")
_OVER = ("ended", LOST)
# An announced call has its stream within seconds of its notice. Twilio's longest ring is 10 min.
ANNOUNCED_WITHIN = 900.0
NO_STREAM = "no_stream"
# Calls that are looked at or deleted in one transaction. On SQLite nobody else writes meanwhile.
LOT = 200
# And that are marked lost: with a handful of statements each.
STEP = 50
# Seconds for a statement of those who delete: nobody waits for them.
DELETING = 30.0
# What a list shows at once.
MAX_CALLS = 500

# Calls in which words are looked for at once.
SEARCHED = 2000
_Place = tuple[float, str]  # created_at, call_sid

call, event, recording, stream = schema.call, schema.event, schema.recording, schema.stream
T = TypeVar("T")
_Struct = TypeVar("_Struct", bound=msgspec.Struct)
# What a record is read from. A newer schema has columns that we do not know of.
_CALL = [call.c[name] for name in CallRow.__struct_fields__]
_RECORDING = [recording.c[name] for name in RecordingRow.__struct_fields__]
_STREAM = [stream.c[name] for name in StreamRow.__struct_fields__]


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


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table `process`: what a process tells of itself once a second."""

    process_id: str
    name: str
    address: str
    version: str
    state: str
    live: int
    capacity: int
    started_at: float


class Deleted(msgspec.Struct, frozen=True):
    calls: int = 0
    events: int = 0


class BadCursor(ValueError):
    """`after` is none that a page gave."""


class Store:
    """`remove` deletes a recording, by its URI, before it is forgotten that there was one. If it
    `tells_endings`, a delivery is written with each end of a call. `on_ended` is told of calls
    whose end has been written, in the thread that wrote it, perhaps more than once."""

    def __init__(
        self,
        database: Database,
        *,
        prices: Prices | None = None,
        keeps_words: bool = True,
        redaction: Redaction | None = None,
        remove: Callable[[str], None] = lambda uri: None,
        tells_endings: bool = False,
        on_ended: Callable[[Sequence[str]], None] = lambda call_sids: None,
    ) -> None:
        self._tells_endings = tells_endings
        self._on_ended = on_ended
        self.database = database
        self.redaction = redaction
        self._prices = prices or Prices()
        self._keeps_words = keeps_words
        self._remove = remove
        self._insert: Any = postgresql.insert if database.is_postgresql else sqlite.insert
        self._days: set[int] = set()  # with a partition of their own

    # --- writing --------------------------------------------------------------------------------

    def write(self, rows: Sequence[Row]) -> None:
        """Writes these, all or none; those of one call in the order in which they came.

        Raises:
            DatabaseAway: perhaps none is written.
            sqlalchemy.exc.SQLAlchemyError: the database takes none of them as one is not fit.
        """
        is_durable = any(row.kind in ESSENTIAL for row in rows)
        if self.database.is_postgresql:
            self._make_days({_day(row.at) for row in rows})
        with self.database.writing(is_durable=is_durable) as connection:
            connection.execute(
                self._insert(event).on_conflict_do_nothing(), [_event(row) for row in rows]
            )
            ended: dict[str, Row] = {}
            for row in rows:
                match row.kind:
                    case Kind.ANNOUNCED:
                        self._announce(connection, row)
                    case Kind.STARTED:
                        self._start(connection, row)
                    case Kind.ENDED:
                        if self._end(connection, row):
                            ended[row.call_sid] = row
                    case Kind.RECORDED:
                        self._keep_recording(connection, row)
            self._sum_up(connection, ended)
            if not self._keeps_words:
                self._forget_words(connection, {row.call_sid for row in rows})
            self._tell(connection, ended)
        if ended:
            self._on_ended(list(ended))

    def _announce(self, connection: sa.Connection, row: Row) -> None:
        known = _info(row)
        insert = self._insert(call).values(
            **_new_call(row), **known, state="announced", epoch=0, created_at=row.at
        )
        # A stream may have told of it first, when this waited in a spool.
        told = {
            "created_at": sa.case((call.c.created_at < row.at, call.c.created_at), else_=row.at)
        }
        connection.execute(
            insert.on_conflict_do_update(index_elements=["call_sid"], set_=known | told)
        )

    def _start(self, connection: sa.Connection, row: Row) -> None:
        body = row.body
        how = str(body.get("how", "first"))
        process_id = str(body.get("process_id", ""))
        connection.execute(
            self._insert(stream)
            .values(
                call_sid=row.call_sid,
                epoch=row.epoch,
                stream_sid=str(body.get("stream_sid", "")),
                process_id=process_id,
                how=how,
                started_at=row.at,
                gap_seconds=body.get("gap_seconds"),
            )
            .on_conflict_do_nothing()
        )
        insert = self._insert(call).values(
            **_new_call(row),
            **_info(row),
            state="live",
            epoch=row.epoch,
            created_at=row.at,
            answered_at=row.at,
        )
        live = {
            "state": "live",
            "epoch": row.epoch,
            "process_id": process_id,
            "answered_at": sa.func.coalesce(call.c.answered_at, row.at),
            "moves": call.c.moves + int(how != "first"),
            "claimed_by": None,
            "claimed_until": None,
            "ended_at": None,
            "ending": None,
            "verdict": None,
            "detail": None,
        }
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["call_sid"], set_=live, where=call.c.epoch < row.epoch
            )
        )

    def _end(self, connection: sa.Connection, row: Row) -> bool:
        """Whether that was the call's end, and not that of a stream which others go on without."""
        body = row.body
        ending = str(body.get("ending", ""))
        connection.execute(
            sa.update(stream)
            .where(stream.c.call_sid == row.call_sid, stream.c.epoch == row.epoch)
            .values(ended_at=row.at, ending=ending)
        )
        over = {
            "state": "ended",
            "ended_at": row.at,
            "ending": ending,
            "verdict": str(body.get("verdict", "")),
            "detail": str(body.get("detail", "")),
            "apologised": bool(body.get("apologised", False)),
        }
        insert = self._insert(call).values(
            **(_new_call(row) | _info(row) | over), epoch=0, created_at=row.at
        )
        # The agent of a call that came by a Bin was not known before.
        known = sa.func.nullif(call.c.agent, "")
        done = connection.execute(
            insert.on_conflict_do_update(
                index_elements=["call_sid"],
                set_={**over, "agent": sa.func.coalesce(known, _info(row)["agent"])},
                # The end of its newest stream, or of a call that never had one.
                where=sa.or_(call.c.epoch == row.epoch, call.c.epoch == 0),
            ).returning(call.c.call_sid)
        )
        return done.first() is not None

    def _keep_recording(self, connection: sa.Connection, row: Row) -> None:
        body = row.body
        told = {
            "uri": str(body.get("uri", "")),
            "began_at": float(body.get("began_at", row.at)),
            "seconds": float(body.get("seconds", 0.0)),
            "bytes": int(body.get("bytes", 0)),
            "result": str(body.get("result", "")),
        }
        insert = self._insert(recording).values(
            call_sid=row.call_sid, epoch=int(body.get("of", row.epoch)), **told
        )
        # One that could not be completed is told of again, once the next start has.
        connection.execute(
            insert.on_conflict_do_update(index_elements=["call_sid", "epoch"], set_=told)
        )

    def _sum_up(self, connection: sa.Connection, ended: dict[str, Row]) -> None:
        for lot in _lots(list(ended), LOT):
            answered = dict(
                connection.execute(
                    sa.select(call.c.call_sid, call.c.answered_at).where(call.c.call_sid.in_(lot))
                ).all()
            )
            rows = _events(connection, lot)
            connection.execute(
                sa.update(call).where(call.c.call_sid == sa.bindparam("of")),
                [
                    {
                        "of": sid,
                        "summary": msgspec.to_builtins(
                            summary(
                                rows[sid],
                                answered_at=answered[sid],
                                ended_at=ended[sid].at,
                                ending=str(ended[sid].body.get("ending", "")),
                                prices=self._prices,
                            )
                        ),
                    }
                    for sid in lot
                ],
            )

    def _tell(self, connection: sa.Connection, ended: dict[str, Row]) -> None:
        """The receiver is to be told of these ends, if there is one."""
        if not self._tells_endings:
            return
        for sid, row in ended.items():
            told = _record(connection, sid)
            if told is None:
                continue
            ending = str(row.body.get("ending", ""))
            webhook_id = webhook.webhook_id(sid, told.call.epoch, ending)
            body = webhook.ended(told, row.at)
            deliveries.insert(connection, webhook_id, sid, webhook.ENDED, body, row.at)

    def _forget_words(self, connection: sa.Connection, sids: set[str]) -> None:
        for lot in _lots(sorted(sids), LOT):
            over = connection.execute(
                sa.select(call.c.call_sid).where(call.c.call_sid.in_(lot), call.c.state.in_(_OVER))
            ).scalars()
            changed = [
                {"sid": row.call_sid, "of": row.epoch, "number": row.seq, "body": bare.body}
                for rows in _events(connection, list(over)).values()
                for row in rows
                if (bare := without_words(row)) is not row
            ]
            if changed:
                connection.execute(
                    sa.update(event).where(
                        event.c.call_sid == sa.bindparam("sid"),
                        event.c.epoch == sa.bindparam("of"),
                        event.c.seq == sa.bindparam("number"),
                    ),
                    changed,
                )

    # --- processes ------------------------------------------------------------------------------

    def beat(self, process: Process, now: float) -> None:
        """Tells that this process lives, and how it is."""
        told = {**msgspec.structs.asdict(process), "heartbeat_at": now}
        insert = self._insert(schema.process).values(**told)
        with self.database.writing(is_durable=False) as connection:
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=["process_id"],
                    set_={name: told[name] for name in told if name != "process_id"},
                )
            )

    def leave(self, process_id: str) -> None:
        """A process ends as it should, with no call any more."""
        with self.database.writing() as connection:
            connection.execute(
                sa.delete(schema.process).where(schema.process.c.process_id == process_id)
            )

    def silent_since(self, before: float, *, but: str) -> list[str]:
        """The processes, other than `but`, whose last heartbeat was before that time."""
        with self.database.reading() as connection:
            return list(
                connection.execute(
                    sa.select(schema.process.c.process_id).where(
                        schema.process.c.heartbeat_at < before,
                        schema.process.c.process_id != but,
                    )
                ).scalars()
            )

    def mark_lost(self, process_id: str) -> list[str]:
        """A process is dead: what it had is lost, with what is known. Returns the calls.

        Should it live all the same, the end of each call is written over it.
        """
        process = schema.process
        of_it = sa.and_(call.c.process_id == process_id, call.c.state.in_(_UNDER_WAY))
        lost: list[str] = []
        while True:
            # In small steps, each of which is done when it is done.
            with self.database.writing(within=DELETING) as connection:
                rows = connection.execute(
                    sa.select(call.c.call_sid, call.c.created_at).where(of_it).limit(STEP)
                ).all()
                if not rows:
                    connection.execute(sa.delete(process).where(process.c.process_id == process_id))
                    return lost
                heard_of = connection.execute(
                    sa.select(process.c.heartbeat_at).where(process.c.process_id == process_id)
                ).scalar()
                for sid, created_at in rows:
                    last = connection.execute(
                        sa.select(sa.func.max(event.c.at)).where(event.c.call_sid == sid)
                    ).scalar()
                    ended_at = max(last or created_at, heard_of or 0.0)
                    self._lose(connection, sid, ended_at, LOST, "ours", "its process was gone")
                lost += [sid for sid, _ in rows]

    def close_unanswered(self, now: float) -> int:
        """Calls whose webhook was answered, and whose stream never came. Returns how many."""
        with self.database.writing() as connection:
            rows = connection.execute(
                sa.select(call.c.call_sid, call.c.created_at)
                .where(call.c.state == "announced", call.c.created_at < now - ANNOUNCED_WITHIN)
                .limit(LOT)
            ).all()
            for sid, created_at in rows:
                self._lose(connection, sid, created_at, NO_STREAM, "unclear", "", state="ended")
        return len(rows)

    def _lose(
        self,
        connection: sa.Connection,
        sid: str,
        ended_at: float,
        ending: str,
        verdict: str,
        detail: str,
        *,
        state: str = LOST,
    ) -> None:
        connection.execute(
            sa.update(stream)
            .where(stream.c.call_sid == sid, stream.c.ended_at.is_(None))
            .values(ended_at=ended_at, ending=ending)
        )
        connection.execute(
            sa.update(call)
            .where(call.c.call_sid == sid)
            .values(state=state, ended_at=ended_at, ending=ending, verdict=verdict, detail=detail)
        )
        end = Row(sid, 0, 0, ended_at, Kind.ENDED, {"ending": ending})
        self._sum_up(connection, {sid: end})
        if not self._keeps_words:
            self._forget_words(connection, {sid})
        self._tell(connection, {sid: end})

    # --- reading --------------------------------------------------------------------------------

    def calls(self, wanted: Wanted, limit: int = 50, after: str | None = None) -> Page:
        """The calls that are wanted, newest first.

        Words are looked for in so many calls at a time (`SEARCHED`), so a page of those may be
        short, or empty, and yet not the last.

        Raises:
            BadCursor: `after` is none that a page gave.
        """
        texts = (wanted.number, wanted.agent, wanted.ending, wanted.verdict, wanted.words)
        if not all(_is_askable(text) for text in texts if text is not None):
            return Page([], None)
        limit = max(1, min(limit, MAX_CALLS))
        position = None if after is None else _position(after)
        with self.database.reading() as connection:
            places, position = self._find(connection, wanted, limit, position)
            sids = [sid for _, sid in places]
            found = {
                each.call_sid: each
                for each in _structs(
                    CallRow, connection.execute(sa.select(*_CALL).where(call.c.call_sid.in_(sids)))
                )
            }
        # One that was deleted between the two is not there any more.
        return Page([found[sid] for sid in sids if sid in found], _cursor(position))

    def _find(
        self, connection: sa.Connection, wanted: Wanted, limit: int, position: _Place | None
    ) -> tuple[list[_Place], _Place | None]:
        """Where they are, and behind which one to go on, if at all."""
        if not wanted.words:
            places = self._newest(connection, wanted, limit + 1, position)
            return places[:limit], places[limit - 1] if len(places) > limit else None
        found: list[_Place] = []
        for _ in range(SEARCHED // LOT):
            places = self._newest(connection, wanted, LOT, position)
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
        self, connection: sa.Connection, wanted: Wanted, limit: int, position: _Place | None
    ) -> list[_Place]:
        choose = self._choose(wanted, position).limit(limit)
        query: Any = choose
        if wanted.number is not None:
            number = wanted.number
            if self.redaction is not None:
                number = self.redaction.number(number)
            # Two indexes, of which either gives its newest at once; `OR` would sort all there are.
            either = sa.union(
                *(
                    sa.select(choose.where(side == number).subquery())
                    for side in (call.c.from_, call.c.to)
                )
            ).subquery()
            query = (
                sa.select(either)
                .order_by(either.c.created_at.desc(), either.c.call_sid.desc())
                .limit(limit)
            )
        return [(row.created_at, row.call_sid) for row in connection.execute(query)]

    def _choose(self, wanted: Wanted, position: _Place | None) -> sa.Select[float, str]:
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

    def record(self, call_sid: str) -> Record | None:
        """All that is kept of a call; None where nothing is."""
        if not _is_askable(call_sid):
            return None
        with self.database.reading() as connection:
            return _record(connection, call_sid)

    def rows(self, call_sid: str) -> list[Row]:
        """What has been put down of a call, in order: all that another process needs to go on."""
        with self.database.reading() as connection:
            return _events(connection, [call_sid])[call_sid]

    # --- deleting -------------------------------------------------------------------------------

    def expire(self, before: float, is_wanted: Callable[[], bool] = lambda: True) -> Deleted:
        """Deletes the calls that began before that time, in small steps, and all that is of them.

        Those that still last are left; and between two steps all others, if it is not `is_wanted`
        any more.
        """
        deleted = Deleted()
        if self.database.is_postgresql:
            self._drop_days(before)
        while is_wanted():
            with self.database.reading() as connection:
                sids = list(
                    connection.execute(
                        sa.select(call.c.call_sid)
                        .where(
                            call.c.created_at < before,
                            call.c.state.in_(_OVER),
                        )
                        .order_by(call.c.created_at)
                        .limit(LOT)
                    ).scalars()
                )
            if not sids:
                break
            deleted = _sum(deleted, self._delete(sids))
        with self.database.writing(within=DELETING) as connection:
            connection.execute(sa.delete(schema.token).where(schema.token.c.expires_at < before))
            connection.execute(
                sa.delete(schema.allowance).where(schema.allowance.c.day < _day(before))
            )
        self.database.shrink_log()
        return deleted

    def forget(self, *, call_sid: str | None = None, number: str | None = None) -> list[str]:
        """Deletes all that is known of a call, or of all calls from or to a number. Returns which.

        Of a call that is under way more is written later: it is left.
        """
        forgotten: list[str] = []
        if call_sid is not None and self._state(call_sid) in _OVER:
            self._delete([call_sid])
            forgotten = [call_sid]
        while number is not None:
            page = self.calls(Wanted(number=number, has_ended=True), limit=LOT)
            if not page.calls:
                break
            sids = [each.call_sid for each in page.calls]
            self._delete(sids)
            forgotten += sids
        self.database.shrink_log()
        return forgotten

    def _state(self, call_sid: str) -> str | None:
        if not _is_askable(call_sid):
            return None
        with self.database.reading() as connection:
            query = sa.select(call.c.state).where(call.c.call_sid == call_sid)
            return connection.execute(query).scalar()

    def _delete(self, sids: list[str]) -> Deleted:
        with self.database.reading() as connection:
            for uri in connection.execute(
                sa.select(recording.c.uri).where(recording.c.call_sid.in_(sids))
            ).scalars():
                if uri:
                    self._remove(uri)
        with self.database.writing(within=DELETING) as connection:
            for table in (recording, schema.delivery, schema.token, stream):
                connection.execute(sa.delete(table).where(table.c.call_sid.in_(sids)))
            events = connection.execute(sa.delete(event).where(event.c.call_sid.in_(sids)))
            calls = connection.execute(sa.delete(call).where(call.c.call_sid.in_(sids)))
        return Deleted(calls.rowcount, events.rowcount)

    # --- PostgreSQL: a partition of the events for each day -------------------------------------

    def prepare_day(self, at: float) -> None:
        """So that nobody has to in the midst of calls."""
        if self.database.is_postgresql:
            self._make_days({_day(at)})

    def _make_days(self, days: set[int]) -> None:
        """So that a day can be dropped. Where it cannot be made its rows go to `event_other`."""
        for day in sorted(days - self._days):
            self._days.add(day)  # to be tried once
            try:
                with self.database.writing() as connection:
                    connection.exec_driver_sql(
                        f"CREATE TABLE IF NOT EXISTS event_{day} PARTITION OF event"
                        f" FOR VALUES FROM ({day}) TO ({day + 1})"
                    )
            except (DatabaseAway, sa.exc.SQLAlchemyError):
                # Somebody reads at length, or rows of that day are in `event_other` already.
                continue

    def _drop_days(self, before: float) -> None:
        """Those that are over, all their calls with them: no call lasts longer than a day."""
        with self.database.reading() as connection:
            names = connection.exec_driver_sql(
                "SELECT inhrelid::regclass::text FROM pg_inherits"
                " WHERE inhparent = 'event'::regclass"
            ).scalars()
            days = [
                int(day) for day in (name.rpartition("_")[2] for name in names) if day.isdigit()
            ]
        for day in days:
            if day < _day(before) - 1:
                try:
                    with self.database.writing() as connection:
                        connection.exec_driver_sql(f"DROP TABLE IF EXISTS event_{day}")
                except DatabaseAway:
                    continue  # somebody reads at length; tomorrow will do


def _is_askable(text: str) -> bool:
    """What a database has no words for is in none of its rows."""
    return "\0" not in text and text.encode("utf-8", "replace").decode() == text


def _day(at: float) -> int:
    return int(at // DAY)


def _event(row: Row) -> dict[str, Any]:
    return {
        "call_sid": row.call_sid,
        "epoch": row.epoch,
        "seq": row.seq,
        "day": _day(row.at),
        "at": row.at,
        "kind": row.kind.value,
        "body": row.body,
    }


def _info(row: Row) -> dict[str, Any]:
    """Who calls whom, as far as a row tells."""
    body = row.body
    parameters = body.get("parameters")
    return {
        "direction": str(body.get("direction", "")),
        "from_": str(body.get("from", "")),
        "to": str(body.get("to", "")),
        "agent": str(body.get("agent", "")),
        "parameters": parameters if isinstance(parameters, dict) else {},
        "source": str(body.get("source", "")),
        "redacted_at": row.at if body.get("redacted") else None,
    }


def _new_call(row: Row) -> dict[str, Any]:
    return {
        "call_sid": row.call_sid,
        "process_id": str(row.body.get("process_id", "")),
        "moves": 0,
        "schema_version": schema.VERSION,
    }


def _record(connection: sa.Connection, call_sid: str) -> Record | None:
    found = _structs(
        CallRow, connection.execute(sa.select(*_CALL).where(call.c.call_sid == call_sid))
    )
    if not found:
        return None
    streams = connection.execute(
        sa.select(*_STREAM).where(stream.c.call_sid == call_sid).order_by(stream.c.epoch)
    )
    recordings = connection.execute(
        sa.select(*_RECORDING).where(recording.c.call_sid == call_sid).order_by(recording.c.epoch)
    )
    return record(
        found[0],
        _structs(StreamRow, streams),
        _events(connection, [call_sid])[call_sid],
        _structs(RecordingRow, recordings),
    )


def _events(connection: sa.Connection, sids: Sequence[str]) -> dict[str, list[Row]]:
    """{call: its rows, in order}"""
    found: dict[str, list[Row]] = defaultdict(list)
    columns = (event.c.call_sid, event.c.epoch, event.c.seq, event.c.at, event.c.kind, event.c.body)
    for row in connection.execute(
        sa.select(*columns)
        .where(event.c.call_sid.in_(sids))
        .order_by(event.c.call_sid, event.c.epoch, event.c.seq)
    ):
        sid, epoch, seq, at, kind, body = row
        if kind in _KINDS:  # else of a newer release
            found[sid].append(Row(sid, epoch, seq, at, Kind(kind), body))
    return found


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


def _structs(of: type[_Struct], rows: Iterable[sa.Row[Any]]) -> list[_Struct]:
    """Of rows whose columns are the fields, in their order."""
    names = of.__struct_encode_fields__
    return [msgspec.convert(dict(zip(names, row, strict=True)), of) for row in rows]


def _cursor(place: _Place | None) -> str | None:
    return None if place is None else f"{place[0]!r}~{place[1]}"


def _position(after: str) -> _Place:
    at, tilde, sid = after.partition("~")
    try:
        position = float(at)
    except ValueError:
        tilde = ""
    if not tilde or not _is_askable(sid):
        raise BadCursor(f"expected what a page gave as `after`, got {after[:80]!r}")
    return position, sid


def _lots(values: Sequence[T], size: int) -> Iterator[list[T]]:
    waiting = iter(values)
    while lot := list(itertools.islice(waiting, size)):
        yield lot


def _sum(one: Deleted, other: Deleted) -> Deleted:
    return Deleted(one.calls + other.calls, one.events + other.events)

"""The face of the tables: what is written into them, and what is read. Synchronous: for threads.

Writing is idempotent: what was written once may be written again, in whole or in part, and changes
nothing. So whoever does not know whether a transaction was committed writes it again.

Each method is a transaction, or a few small ones, and raises `DatabaseAway`. What happens in one is
in the modules that are imported here, each for one subject.
"""

import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from sts_trio.config.records import Prices
from sts_trio.records import claims, dials, lifecycle, limits, processes, schema, word_index
from sts_trio.records.database import Database
from sts_trio.records.ended_calls import EndedCalls
from sts_trio.records.event_days import EventDays
from sts_trio.records.event_rows import insert_rows
from sts_trio.records.fleet_calls import FleetCall, live_calls
from sts_trio.records.left_calls import given_up, is_unclaimed, left_calls
from sts_trio.records.lifecycle import LOST, UNDER_WAY
from sts_trio.records.movable import CallState, Claim, Left
from sts_trio.records.process_state import Process, Seen
from sts_trio.records.reading import is_askable, read_record, read_rows
from sts_trio.records.record import Record
from sts_trio.records.redaction import Redaction
from sts_trio.records.retention import DELETING, Deleted, Retention
from sts_trio.records.rows import ESSENTIAL, Kind, Row
from sts_trio.records.search import Page, Wanted, find_calls

# An announced call has its stream within seconds of its notice. Twilio's longest ring is 10 min.
ANNOUNCED_WITHIN = 900.0
NO_STREAM = "no_stream"
# Calls that are marked lost in one transaction, with a handful of statements each; and unanswered.
STEP = 50
LOT = 200

call, event = schema.call, schema.event


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
        self._on_ended = on_ended
        self.database = database
        self.redaction = redaction
        self._ended_calls = EndedCalls(
            prices or Prices(), keeps_words=keeps_words, tells=tells_endings
        )
        self._days = EventDays(database)
        self._retention = Retention(database, self._days, redaction, remove)

    # --- writing --------------------------------------------------------------------------------

    def write(self, rows: Sequence[Row]) -> None:
        """Writes these, all or none; those of one call in the order in which they came.

        Raises:
            DatabaseAway: perhaps none is written.
            sqlalchemy.exc.SQLAlchemyError: the database takes none of them as one is not fit.
        """
        is_durable = any(row.kind in ESSENTIAL for row in rows)
        self._days.make(row.at for row in rows)
        with self.database.writing(is_durable=is_durable) as connection:
            insert_rows(connection, rows)
            ended: dict[str, Row] = {}
            for row in rows:
                match row.kind:
                    case Kind.ANNOUNCED:
                        lifecycle.announce(connection, row)
                    case Kind.STARTED:
                        lifecycle.start(connection, row)
                    case Kind.AGENT_DIALLED:
                        lifecycle.answer(connection, row)
                    case Kind.ENDED:
                        if lifecycle.end(connection, row):
                            ended[row.call_sid] = row
                    case Kind.RECORDED:
                        lifecycle.keep_recording(connection, row)
            self._ended_calls.settle(connection, ended, {row.call_sid for row in rows})
        if ended:
            self._on_ended(list(ended))

    # --- reading --------------------------------------------------------------------------------

    def calls(self, wanted: Wanted, limit: int = 50, after: str | None = None) -> Page:
        """The calls that are wanted, newest first; see `find_calls`.

        Raises:
            BadCursor: `after` is none that a page gave.
        """
        with self.database.reading() as connection:
            return find_calls(connection, wanted, limit, after, self.redaction)

    def record(self, call_sid: str) -> Record | None:
        """All that is kept of a call; None where nothing is."""
        if not is_askable(call_sid):
            return None
        with self.database.reading() as connection:
            return read_record(connection, call_sid)

    def rows(self, call_sid: str) -> list[Row]:
        """What has been put down of a call, in order: all that another process needs to go on."""
        with self.database.reading() as connection:
            return read_rows(connection, [call_sid])[call_sid]

    @property
    def has_word_index(self) -> bool:
        with self.database.reading() as connection:
            return word_index.exists(connection)

    def index(self, is_wanted: Callable[[], bool] = lambda: True) -> int:
        """Puts calls into the index of words that have ended and are not in it, in small steps, as
        long as it `is_wanted`. Returns how many."""
        count = 0
        while is_wanted():
            with self.database.reading() as connection:  # mostly there is none: nobody is to wait
                if not word_index.has_more(connection):
                    break
            with self.database.giving_way(within=DELETING) as connection:
                count += word_index.put_some(connection, STEP)
        return count

    # --- who goes on with it --------------------------------------------------------------------

    def look(self, call_sid: str) -> CallState | None:
        """What is known of a call whose stream is over; None: nothing."""
        if not is_askable(call_sid):
            return None
        with self.database.reading() as connection:
            return claims.look(connection, call_sid)

    def claim(self, seen: CallState, by: str, *, is_crash: bool, road: str) -> Claim | None:
        """Takes the call for process `by`; None: it is not as it was `seen` any more."""
        self._days.make([time.time()])
        with self.database.writing() as connection:
            return claims.claim(connection, seen, by, is_crash=is_crash, road=road)

    def left(self, dead: Sequence[str]) -> list[Left]:
        """The calls that nobody has; see `left_calls`."""
        with self.database.reading() as connection:
            return left_calls(connection, dead)

    def give_up(self, call_sid: str, epoch: int, by: str | None = None) -> bool:
        """Nobody goes on with a call that was moving, in that epoch: process `by`, which has
        claimed it, cannot; or, by None, nobody has. Whether that was still so."""
        with self.database.writing() as connection:
            created_at = given_up(connection, call_sid, epoch, by)
            if created_at is None:
                return False
            ended_at = max(_last_told(connection, call_sid) or 0.0, created_at)
            how = (LOST, "ours", "nobody went on with it")
            end = lifecycle.lose(connection, call_sid, ended_at, *how)
            self._ended_calls.settle(connection, {call_sid: end})
        return True

    # --- processes, and what they leave behind --------------------------------------------------

    def beat(self, process: Process) -> list[Seen]:
        """Tells that this process lives, and how it is. Returns all that share the database."""
        with self.database.writing(is_durable=False) as connection:
            processes.beat(connection, process)
            return processes.seen(connection)

    def leave(self, process_id: str) -> None:
        """A process ends as it should, with no call any more."""
        with self.database.writing() as connection:
            processes.leave(connection, process_id)

    def live_calls(self) -> list[FleetCall]:
        """The calls that are under way in any process."""
        with self.database.reading() as connection:
            return live_calls(connection)

    def note_gone(self, process_id: str) -> None:
        """That process is dead, as we know by other means than its heartbeat."""
        with self.database.writing() as connection:
            processes.note_gone(connection, process_id)

    def processes(self) -> list[Seen]:
        """All that have not ended cleanly, the oldest first."""
        with self.database.reading() as connection:
            return processes.seen(connection)

    def mark_lost(self, process_id: str) -> list[str]:
        """A process is dead: what it had is lost, with what is known. Returns the calls.

        Those that another process is about to go on with are left, and the process is known for as
        long. Should it live all the same, the end of each call is written over it.
        """
        of_it = sa.and_(call.c.process_id == process_id, call.c.state.in_(UNDER_WAY))
        lost: list[str] = []
        while True:
            # In small steps, each of which is done when it is done.
            with self.database.writing(within=DELETING) as connection:
                rows = connection.execute(
                    sa.select(call.c.call_sid, call.c.created_at)
                    .where(of_it, is_unclaimed(connection))
                    .limit(STEP)
                ).all()
                if not rows:
                    if connection.execute(sa.select(call.c.call_sid).where(of_it)).first() is None:
                        processes.leave(connection, process_id)
                    return lost
                heard_of = processes.heartbeat_of(connection, process_id)
                for sid, created_at in rows:
                    ended_at = max(_last_told(connection, sid) or created_at, heard_of or 0.0)
                    how = (LOST, "ours", "its process was gone")
                    end = lifecycle.lose(connection, sid, ended_at, *how)
                    self._ended_calls.settle(connection, {sid: end})
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
                how = (NO_STREAM, "unclear", "")
                end = lifecycle.lose(connection, sid, created_at, *how, state="ended")
                self._ended_calls.settle(connection, {sid: end})
        return len(rows)

    # --- deleting -------------------------------------------------------------------------------

    def prepare_day(self, at: float) -> None:
        """So that nobody has to in the midst of calls."""
        self._days.make([at])

    def expire(self, before: float, is_wanted: Callable[[], bool] = lambda: True) -> Deleted:
        """See `Retention`."""
        return self._retention.expire(before, is_wanted)

    def forget_used(self) -> None:
        """What was good once, and keys of calls that were placed, when their time is over."""
        with self.database.writing(is_durable=False) as connection:
            limits.forget_used(connection)
            dials.forget_old(connection)

    def forget(self, *, call_sid: str | None = None, number: str | None = None) -> list[str]:
        """See `Retention`."""
        return self._retention.forget(call_sid=call_sid, number=number)


def _last_told(connection: sa.Connection, call_sid: str) -> float | None:
    """When the last of a call was told that is not of a claim."""
    of_it = sa.and_(event.c.call_sid == call_sid, event.c.kind != Kind.MOVED.value)
    at: float | None = connection.execute(sa.select(sa.func.max(event.c.at)).where(of_it)).scalar()
    return at

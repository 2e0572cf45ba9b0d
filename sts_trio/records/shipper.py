"""From the spool into the database: in order, each row once. Synchronous: for a thread.

A row that was written before, by a transaction whose end nobody saw, changes nothing. While the
database is away the rows stay in the spool.
"""

import time
from collections.abc import Callable, Sequence

import msgspec

from sts_trio.errors import ConfigError
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.records.database import DatabaseAway
from sts_trio.records.movable import Left
from sts_trio.records.process_state import DRAINING, GONE, LOST_AFTER, Process, Seen
from sts_trio.records.processes import own_address
from sts_trio.records.rows import Row
from sts_trio.records.spool import Spool
from sts_trio.records.store import Store

# Rows in one transaction: at 0.3 ms each, a good tenth of a second.
LOT = 500
# Seconds until a database that is away is tried again: at first, and at most.
RETRY = 1.0
LONGEST_RETRY = 5.0
# How long rows are written until heartbeat and news have their turn.
TURN = 0.5
# Whoever comes back first after the database was away gives the others as long to come back, too.
ALL_BACK_AFTER = 10.0
# A call that nobody has had for so long is asked about: Twilio asks within a second, if it does.
LEFT_FOR = 2.0
# And then it is lost: somebody has claimed it by then, more than once, or nobody ever will.
MOVING_FOR = 60.0


class Behind(msgspec.Struct, frozen=True):
    """The database takes no rows, since then (seconds since 1970), and why."""

    since: float
    reason: str


class Shipper:
    """`process_id` is ours. For one thread at a time, but for the attributes, which anybody may
    read."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        process_id: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.behind: Behind | None = None
        self.written = 0
        self.has_more = True  # to be shipped, as far as is known: others may have left something
        self.others: tuple[Seen, ...] = ()  # that shared the database at our last heartbeat
        self.left: tuple[Left, ...] = ()  # calls that nobody has had for a while
        self._left_since: dict[Left, float] = {}
        self._store = store
        self._spool = spool
        self._process_id = process_id
        self._clock = clock
        self._wall = wall
        self._retry_at = clock()
        self._retry = RETRY
        self._beats_since: float | None = None  # without a break
        self._addresses: dict[str, str] = {}  # {where we listen: where that is for others}
        self._namesakes: set[str] = set()  # that were told of

    def ship(self) -> None:
        """Writes what waits in the spool, for a turn, if it is time to try."""
        if self._clock() < self._retry_at:
            return
        until = self._clock() + TURN
        try:
            self._open()
            while rows := self._spool.first(LOT):
                self._write(rows)
                self._spool.done(len(rows))
                if self._clock() >= until:
                    break
            self.has_more = not self._spool.is_empty
            if not self.has_more:
                self._catch_up()
        except DatabaseAway as exc:
            self._fall_behind(exc)
            return
        self._retry = RETRY

    def heartbeat(self, process: Process) -> None:
        """Tells that we live, and looks after those who do not any more."""
        if self.behind is not None or not self._store.database.is_open:
            self._beats_since = None
            return
        try:
            seen = {each.process.process_id: each for each in self._store.beat(self._told(process))}
            us = seen.pop(self._process_id, None)
            self.others = tuple(seen.values())
            if us is not None:
                self._tell_namesakes(us)
            now = self._clock()
            if self._beats_since is None:
                self._beats_since = now
            # Whoever lives could tell of it for as long as we could: the database was not away.
            if now - self._beats_since > ALL_BACK_AFTER:
                for other in self.others:
                    if other.age > LOST_AFTER:
                        self._mark_lost(other.process.process_id)
                self._look_for_left(now)
        except DatabaseAway as exc:
            self._fall_behind(exc)

    def _look_for_left(self, now: float) -> None:
        dead = [each.process.process_id for each in self.others if not each.is_alive]
        since = self._left_since
        self._left_since = {each: since.get(each, now) for each in self._store.left(dead)}
        self.left = tuple(
            each for each, since in self._left_since.items() if now - since >= LEFT_FOR
        )
        for each, since_ in self._left_since.items():
            is_over = each.state == "moving" and now - since_ >= MOVING_FOR
            if is_over and self._store.give_up(each.call_sid, each.epoch):
                report(events.CallNotRescued(each.call_sid, f"for {MOVING_FOR:g} s nobody had it"))

    def _told(self, process: Process) -> Process:
        """What others are told: with an address that leads to us from where they are."""
        address = process.address
        if address and address not in self._addresses:
            self._addresses[address] = own_address(self._store.database.url, address)
        return msgspec.structs.replace(process, address=self._addresses.get(address, address))

    def _tell_namesakes(self, us: Seen) -> None:
        """A proxy cannot tell two of one name apart. One that has our address is a predecessor."""
        for other in self.others:
            process = other.process
            if (
                process.name == us.process.name
                and process.address != us.process.address
                and process.state not in (DRAINING, GONE)
                and other.heartbeat_at > us.started_at  # else it may have died by then
                and process.process_id not in self._namesakes
            ):
                self._namesakes.add(process.process_id)
                report(events.ProcessNamesake(process.name, process.address))

    def interrupt(self) -> None:
        """From another thread: what this one waits for is not worth it any more."""
        self._store.database.interrupt()

    def close(self) -> None:
        """The last word. What is in the spool waits there for the next start."""
        # With rows that wait here for the next start, its calls look as if they were under way.
        if self.behind is None and self._store.database.is_open and self._spool.is_empty:
            try:
                self._store.leave(self._process_id)
            except DatabaseAway as exc:
                self._fall_behind(exc)
        self._store.database.close()

    # --------------------------------------------------------------------------------------------

    def _write(self, rows: Sequence[Row]) -> None:
        """To the database. What it will never take is put aside, one by one."""
        try:
            self._store.write(rows)
        except DatabaseAway:
            raise
        except Exception as exc:
            if len(rows) > 1:
                for row in rows:
                    self._write([row])
                return
            self._spool.refuse(msgspec.json.encode(rows[0]))
            # Not the exception's text: it has what was said in it.
            report(events.RecordsRefused(rows[0].call_sid, rows[0].kind.value, type(exc).__name__))
            return
        self.written += len(rows)

    def _open(self) -> None:
        if not self._store.database.is_open:
            try:
                self._store.database.open()
            except ConfigError as exc:
                # At start-up it would have been one. Now there are calls.
                raise DatabaseAway(str(exc)) from None

    def _catch_up(self) -> None:
        """Nothing waits any more."""
        if self.behind is not None:
            # It may have been something else than rows that was not written.
            with self._store.database.writing():
                pass
            self.behind = None
        # The dead of this machine, once all that they left is written. What they had is lost only
        # if nobody goes on with it: a heartbeat will see to that.
        while self._spool.dead:
            process_id = self._spool.dead[0]
            self._store.note_gone(process_id)
            self._spool.release(process_id)

    def _fall_behind(self, exc: DatabaseAway) -> None:
        self._retry_at = self._clock() + self._retry
        self._retry = min(2 * self._retry, LONGEST_RETRY)
        self._beats_since = None
        self.left = ()
        if self.behind is None:
            self.behind = Behind(self._wall(), str(exc))

    def _mark_lost(self, process_id: str) -> None:
        if lost := self._store.mark_lost(process_id):
            report(events.RecordsCallsLost(process_id, len(lost)))

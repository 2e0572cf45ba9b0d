"""The loop's side of the records: rows are put into a deque, and nothing else happens there.

Two tasks, each with a thread of its own. One takes what has come every tenth of a second, and
writes it to the spool's file: from then on an end of this process does not lose it. The other ships
it from there to the database twice a second, which may take its time.

Whoever wants more says so: a row that is put `at_once` is taken at once, and `flush` waits until
all that was put is safe, for a bounded time. Nothing here can keep a call waiting, and nothing that
fails here ends one. When rows must be lost, it is the newest, and those last without which there
would be no record.
"""

import collections
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import trio

from sts_trio.net.threads import run_in_thread
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.records.movable import Left
from sts_trio.records.process_state import Process, Seen
from sts_trio.records.redaction import Redaction
from sts_trio.records.rows import ESSENTIAL, Row, storable
from sts_trio.records.shipper import LONGEST_RETRY, LOT, Behind, Shipper
from sts_trio.records.spool import Spool, SpoolFull

EVERY = 0.1
# A transaction takes a millisecond of CPU, however few rows are in it, and who looks at calls does
# not notice. An end of the process loses none of them: they are in the spool.
SHIP_EVERY = 0.5
# What a thousand calls make in 100 s, or 20 MB.
MAX_ROWS = 50_000
# And room for the beginnings and ends of those calls, when all else is lost.
MAX_ESSENTIAL = 10_000
# What the caller may notice of it is less than a breath.
FLUSH_WITHIN = 0.25
# Longer than anything that a database is allowed; then the connection is cut.
STUCK = 6.0
# A thread that is stuck in the system, as with a disk that is gone, is left to itself: it cannot be
# cancelled, and would keep the server from stopping. No other one begins before it has ended, and
# to write its rows a second time does no harm.
LEFT_AFTER = 15.0
# At the end: what the database has not taken by then waits in the spool for the next start.
LAST_WITHIN = 3.0
# And all in all, whatever disk and database do.
END_WITHIN = 20.0
BEAT_EVERY = 1.0
TIDY_EVERY = 3600.0
# Longer than a step of it is allowed.
TIDY_STUCK = 40.0
# What takes longer is gone on with after a pause.
TIDY_WITHIN = 20.0
TIDY_PAUSE = 2.0


class Figures(msgspec.Struct, frozen=True):
    """How the records are, for people and their tools."""

    status: str  # ok, behind
    lag: float  # seconds since the oldest row that is not in the database happened
    waiting: int  # rows in memory
    spooled: int  # rows on disk
    spooled_bytes: int
    written: int
    refused: int  # rows that no database takes, and lines that are no rows
    lost: int  # rows for which there was no room
    reason: str = ""


class Writer:
    """`process` tells how this process is, once a second. `tell` is given the news, with their
    fields: `records.behind` and `records.caught_up`.

    `tidy` deletes what is too old, and the like, step by step as long as what it is given is true:
    until the process ends, or its time is over, and then it is called again. `interrupt` ends a
    step. `close` is called at the very end. These have threads. At the end `others`, who
    still have rows to put, are waited for.
    """

    def __init__(
        self,
        spool: Spool,
        shipper: Shipper,
        process: Callable[[], Process],
        *,
        redaction: Redaction | None = None,
        tidy: Callable[[Callable[[], bool]], None] = lambda is_wanted: None,
        interrupt: Callable[[], None] = lambda: None,
        close: Callable[[], None] = lambda: None,
        others: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
        tell: Callable[[events.Event], None] = lambda event: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._spool = spool
        self._shipper = shipper
        self._process = process
        self._redaction = redaction
        self._tidy = tidy
        self._interrupt_tidy = interrupt
        self._is_ending = False
        self._tidying = trio.CapacityLimiter(1)  # as long as its thread is at work it is taken
        self._close_others = close
        self._before_end = others
        self._tell = tell
        self._wall = wall
        # Has whoever makes rows put those that are not made yet.
        self.gather: Callable[[], None] = lambda: None
        self._rows: collections.deque[Row] = collections.deque()
        self._lost = 0
        self._put = 0  # rows that ever came into the deque
        self._taken = 0  # and that have left it
        self._spool_is_full = False
        self._hurry = trio.Event()
        self._spooled = trio.Event()  # something waits for the database
        self._progress = trio.Event()  # anew for each batch that has become safe
        self._is_last = trio.Event()  # what is to be shipped is to be shipped now
        self._told: Behind | None = None

    def put(self, row: Row) -> None:
        """Keeps a row. Costs an append."""
        room = MAX_ROWS - len(self._rows)
        if room > 0 or (row.kind in ESSENTIAL and room > -MAX_ESSENTIAL):
            self._rows.append(row)
            self._put += 1
        else:
            self._lost += 1

    def put_at_once(self, row: Row) -> None:
        """The same, for what must not wait for the next tenth of a second."""
        self.put(row)
        self._hurry.set()

    async def flush(self, within: float = FLUSH_WITHIN, *, is_last: bool = False) -> bool:
        """Whether all that was put is safe from an end of this process. Waits no longer than that.

        Before something is done that must not be done twice, so that it is known of. `is_last`:
        before the process ends without more ado; the database is to have it, if it takes any.
        """
        self.gather()
        target = self._put
        with trio.move_on_after(within):
            await trio.lowlevel.checkpoint()
            if is_last:
                self._is_last.set()
            while not self._is_safe(target) or (is_last and self._is_shipping):
                self._hurry.set()
                await self._progress.wait()
        return self._is_safe(target)

    @property
    def _is_shipping(self) -> bool:
        return self._shipper.behind is None and not self._spool.is_empty

    def _is_safe(self, target: int) -> bool:
        return self._taken >= target and not self._spool.unfiled

    @property
    def figures(self) -> Figures:
        spool, shipper = self._spool, self._shipper
        behind = shipper.behind
        oldest = spool.oldest
        if oldest is None and self._rows:
            oldest = self._rows[0].at
        return Figures(
            status="ok" if behind is None else "behind",
            lag=0.0 if oldest is None else round(max(0.0, self._wall() - oldest), 3),
            waiting=len(self._rows) + spool.unfiled,
            spooled=spool.rows - spool.unfiled,
            spooled_bytes=spool.bytes,
            written=shipper.written,
            refused=spool.refused,
            lost=self._lost,
            reason="" if behind is None else behind.reason,
        )

    @property
    def others(self) -> tuple[Seen, ...]:
        """The processes that share the database, as of our last heartbeat."""
        return self._shipper.others

    @property
    def left(self) -> tuple[Left, ...]:
        """The calls that nobody has had for a while, as of then."""
        return self._shipper.left

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Writes until it is cancelled, and then the rest: for `LAST_WITHIN` seconds, or longer
        where a disk or a database answers no more, but no longer than `END_WITHIN`."""
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_spooling)
                nursery.start_soon(self._keep_shipping)
                nursery.start_soon(self._keep_tidy)
                nursery.start_soon(self._note_the_end)
        finally:
            with trio.CancelScope(shield=True, relative_deadline=END_WITHIN) as scope:
                await self._before_end()
                await self._finish()
            if scope.cancelled_caught:
                report(events.RecordsLost(len(self._rows) + self._spool.unfiled))

    # --- to the spool ---------------------------------------------------------------------------

    async def _keep_spooling(self) -> None:
        limiter = trio.CapacityLimiter(1)
        while True:
            if len(self._rows) < LOT or self._spool_is_full:
                with trio.move_on_after(EVERY):
                    await self._hurry.wait()
            await trio.lowlevel.checkpoint()
            if self._hurry.is_set():
                self._hurry = trio.Event()
            await self._spool_batch(limiter)

    async def _spool_batch(self, limiter: trio.CapacityLimiter) -> bool:
        """Whether it is not in memory any more."""
        self.gather()
        batch = list(itertools.islice(self._rows, LOT))
        if not batch:
            return False
        try:
            with trio.move_on_after(LEFT_AFTER, shield=True) as patience:
                await run_in_thread(lambda: self._append(batch), limiter)
            if patience.cancelled_caught:
                report(events.RecordsBehind(f"the disk has taken nothing for {LEFT_AFTER:g} s"))
                return False
            self._spool_is_full = False
        except SpoolFull:
            self._spool_is_full = True
            return False
        except Exception:
            # These rows have met a bug of ours, and would meet it again. The calls go on.
            report(events.RecordsCrashed(len(batch)), exc_info=True)
            self._lost += len(batch)
        for _ in batch:
            self._rows.popleft()
        self._taken += len(batch)
        self._spooled.set()
        self._tell_progress()
        return True

    def _append(self, batch: list[Row]) -> None:
        """In the thread."""
        rows = [storable(row) for row in batch]
        if self._redaction is not None:
            rows = [self._redaction.row(row) for row in rows]
        self._spool.append(rows)

    def _tell_progress(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

    # --- to the database ------------------------------------------------------------------------

    async def _keep_shipping(self) -> None:
        limiter = trio.CapacityLimiter(1)
        beat_at = trio.current_time()
        while True:
            process = None
            if trio.current_time() >= beat_at:
                beat_at = trio.current_time() + BEAT_EVERY
                process = self._process()
            self._spooled = trio.Event()
            shipped_at = trio.current_time()
            if not await self._ship(process, limiter):
                await trio.sleep(LONGEST_RETRY)
            if self._shipper.behind is not None:
                await trio.sleep(EVERY)  # it knows when to try again
            elif not self._shipper.has_more:
                with trio.move_on_at(beat_at):
                    await self._spooled.wait()
                with trio.move_on_at(min(beat_at, shipped_at + SHIP_EVERY)):
                    await self._is_last.wait()
            await trio.lowlevel.checkpoint()

    async def _ship(self, process: Process | None, limiter: trio.CapacityLimiter) -> bool:
        """Whether that met no bug of ours."""

        def work() -> None:
            self._shipper.ship()
            if process is not None:
                self._shipper.heartbeat(process)

        is_sound = False
        try:
            is_sound = await _bounded(work, self._shipper.interrupt, limiter)
            if not is_sound:
                report(events.RecordsBehind(f"the database has not answered for {LEFT_AFTER:g} s"))
        except* Exception:
            report(events.RecordsCrashed(0), exc_info=True)
        self._tell_progress()
        self._tell_news()
        return is_sound

    async def _finish(self) -> None:
        limiter = trio.CapacityLimiter(1)
        self.gather()
        while self._rows and await self._spool_batch(limiter):
            await trio.lowlevel.checkpoint()
        until = trio.current_time() + LAST_WITHIN
        self._shipper.has_more = True
        while (
            self._shipper.has_more and self._shipper.behind is None and trio.current_time() < until
        ):
            if not await self._ship(None, limiter):
                break
        if self._rows or self._spool.unfiled:
            report(events.RecordsLost(len(self._rows) + self._spool.unfiled))
        # Who deletes what is old was interrupted, and is waited for.
        with trio.move_on_after(LAST_WITHIN):
            async with self._tidying:
                pass
        await _bounded(self._close, self._shipper.interrupt, limiter)

    def _close(self) -> None:
        self._shipper.close()
        self._spool.close()
        self._close_others()

    async def _keep_tidy(self) -> None:
        def tidy() -> bool:
            until = time.monotonic() + TIDY_WITHIN
            self._tidy(lambda: not self._is_ending and time.monotonic() < until)
            return time.monotonic() >= until

        while True:
            has_more = False
            try:
                async with _interrupting(self._interrupt_tidy, TIDY_STUCK):
                    has_more = await run_in_thread(tidy, self._tidying)
            except* Exception as group:
                if not self._is_ending:
                    report(events.RecordsNotTidied(str(group.exceptions[0])))
            await trio.sleep(TIDY_PAUSE if has_more else TIDY_EVERY)

    async def _note_the_end(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._is_ending = True
            self._interrupt_tidy()

    def _tell_news(self) -> None:
        behind, told = self._shipper.behind, self._told
        if (behind is None) == (told is None):
            return
        self._told = behind
        if behind is not None:
            news: events.Event = events.RecordsBehind(behind.reason)
        else:
            assert told is not None
            news = events.RecordsCaughtUp(round(self._wall() - told.since, 1))
        report(news)
        self._tell(news)


async def _bounded(
    work: Callable[[], None], interrupt: Callable[[], None], limiter: trio.CapacityLimiter
) -> bool:
    """Whether it was done. Also when cancelled it is waited for: whoever leaves a thread that uses
    the database has two of them before long. Whatever `work` raises is raised, in a group."""
    with trio.move_on_after(LEFT_AFTER, shield=True) as patience:
        async with _interrupting(interrupt, STUCK):
            await run_in_thread(work, limiter)
    return not patience.cancelled_caught


@contextlib.asynccontextmanager
async def _interrupting(interrupt: Callable[[], None], every: float) -> AsyncIterator[None]:
    async def watch() -> None:
        while True:
            await trio.sleep(every)
            interrupt()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        yield
        nursery.cancel_scope.cancel()

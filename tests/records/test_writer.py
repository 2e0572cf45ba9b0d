"""From the loop to the database: an append here, a thread there, and nobody waits for them."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.lowlevel
import trio.testing
from call_stories import NOON, Story, sid, whole
from rig_postgresql import Cluster
from rig_processes import ME, process

from sts_trio.observe import events
from sts_trio.records import writer as writers
from sts_trio.records.database import Database, DatabaseAway
from sts_trio.records.process_state import Process, Seen
from sts_trio.records.redaction import Redaction
from sts_trio.records.rows import Kind, Row
from sts_trio.records.search import Wanted
from sts_trio.records.shipper import Shipper
from sts_trio.records.spool import Spool, SpoolFull
from sts_trio.records.store import Store
from sts_trio.records.writer import Writer

# Only so that a hang is noticed.
WITHIN = 60.0


class Rig:
    """A writer that runs, and what is around it."""

    def __init__(self, database: Database, root: Path, **options: Any) -> None:
        self.store = Store(database)
        self.spool = Spool(root, "p1")
        self.news: list[str] = []
        self.writer = Writer(
            self.spool,
            Shipper(self.store, self.spool, "p1"),
            lambda: ME,
            tell=lambda event: self.news.append(event.NAME),
            wall=lambda: NOON + 60,
            **options,
        )

    def put(self, *rows: Row) -> None:
        for row in rows:
            self.writer.put(row)

    async def written(self) -> None:
        """Until all that was put is in the database."""
        assert await self.writer.flush(WITHIN)
        await self.until(lambda: self.spool.rows == 0)

    async def until(self, condition: Callable[[], bool]) -> None:
        # What happens in a thread sets no event.
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    with trio.fail_after(WITHIN):
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.writer.run)
            yield rig
            nursery.cancel_scope.cancel()


@pytest.fixture
def rig(database: Database, tmp_path: Path) -> Rig:
    return Rig(database, tmp_path / "spool")


def reopened(rig: Rig) -> Store:
    rig.store.database.open()
    return rig.store


async def test_what_is_put_comes_into_the_database(rig: Rig) -> None:
    async with running(rig):
        rig.put(*whole())
        await rig.written()
        assert rig.store.rows(sid(1)) == whole()
        figures = rig.writer.figures
    assert (figures.status, figures.waiting, figures.written) == ("ok", 0, len(whole()))
    assert (figures.lost, figures.refused, figures.lag, figures.spooled) == (0, 0, 0, 0)


async def test_nothing_that_was_put_is_lost_when_it_is_cancelled(rig: Rig) -> None:
    async with running(rig):
        rig.put(*whole())
    assert reopened(rig).rows(sid(1)) == whole()


async def test_more_than_one_batch_is_written_in_order(rig: Rig) -> None:
    story = Story()
    for _ in range(1500):
        story.tell(Kind.NOTE, 0.0)
    async with running(rig):
        rig.put(*story.rows)
        await rig.written()
    assert reopened(rig).rows(sid(1)) == story.rows


async def test_flushing_where_there_is_nothing_takes_no_time(rig: Rig) -> None:
    assert await rig.writer.flush(0)
    async with running(rig):
        assert await rig.writer.flush()


async def test_before_the_process_ends_the_database_has_what_it_takes(rig: Rig) -> None:
    async with running(rig):
        rig.put(*whole())
        assert await rig.writer.flush(WITHIN, is_last=True)
        assert rig.store.rows(sid(1)) == whole()
        assert await rig.writer.flush(WITHIN, is_last=True)


async def test_a_row_that_is_put_at_once_does_not_wait_for_its_turn(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "EVERY", math.inf)
    monkeypatch.setattr(writers, "BEAT_EVERY", math.inf)
    async with running(rig):
        await trio.testing.wait_all_tasks_blocked(0.05)
        rig.put(*whole()[:-1])
        rig.writer.put_at_once(whole()[-1])
        await rig.until(lambda: rig.writer.figures.written == len(whole()))
        assert rig.store.rows(sid(1)) == whole()


async def test_the_process_tells_of_itself_while_it_lives(rig: Rig) -> None:
    async with running(rig):
        await rig.until(lambda: [each.process for each in rig.store.processes()] == [ME])
        rig.store.beat(process("p2"))
        await rig.until(lambda: [each.process for each in rig.writer.others] == [process("p2")])
    assert [each.process for each in reopened(rig).processes()] == [process("p2")]


async def test_tidying_that_takes_long_is_gone_on_with_after_a_pause(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a year of calls is to be deleted, or put into the index of words."""
    monkeypatch.setattr(writers, "TIDY_WITHIN", 0.01)
    monkeypatch.setattr(writers, "TIDY_PAUSE", 0.0)
    left = [3]

    def tidy(is_wanted: Callable[[], bool]) -> None:
        if left[0]:
            while is_wanted():
                pass
            left[0] -= 1

    rig = Rig(database, tmp_path / "spool", tidy=tidy)
    async with running(rig):
        await rig.until(lambda: not left[0])


async def test_tidying_is_done_beside_and_may_fail(database: Database, tmp_path: Path) -> None:
    calls = []

    def tidy(is_wanted: Callable[[], bool]) -> None:
        calls.append(threading.current_thread())
        raise DatabaseAway("away")

    rig = Rig(database, tmp_path / "spool", tidy=tidy)
    with structlog.testing.capture_logs() as lines:
        async with running(rig):
            await rig.until(lambda: bool(calls))
            rig.put(*whole())
            assert await rig.writer.flush(WITHIN)
    assert {
        "event": events.RecordsNotTidied.NAME,
        "reason": "away",
        "log_level": "warning",
    } in lines
    assert threading.main_thread() not in calls


async def test_a_server_that_ends_lets_tidying_come_to_its_end(
    database: Database, tmp_path: Path
) -> None:
    has_begun, may_go = threading.Event(), threading.Event()
    done = []

    def tidy(is_wanted: Callable[[], bool]) -> None:
        has_begun.set()
        may_go.wait(WITHIN)
        done.append(database.is_open)

    rig = Rig(database, tmp_path / "spool", tidy=tidy)
    async with running(rig):
        await rig.until(has_begun.is_set)
        trio.lowlevel.spawn_system_task(_set_once_it_is_cancelled, may_go)
    assert done == [True]


async def _set_once_it_is_cancelled(may_go: threading.Event) -> None:
    await trio.testing.wait_all_tasks_blocked(0.05)
    may_go.set()


async def test_but_no_longer_than_is_said(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "LAST_WITHIN", 0.05)
    has_begun, may_go = threading.Event(), threading.Event()

    def tidy(is_wanted: Callable[[], bool]) -> None:
        has_begun.set()
        may_go.wait(WITHIN)

    rig = Rig(database, tmp_path / "spool", tidy=tidy)
    try:
        async with running(rig):
            await rig.until(has_begun.is_set)
        assert not may_go.is_set()
    finally:
        may_go.set()


# --- a database that fails ----------------------------------------------------------------------


class StuckSpool(Spool):
    """A disk that does as it is told, in the thread."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "p1")
        self.may_go = threading.Event()
        self.fault: Exception | None = None

    def append(self, rows: Sequence[Row]) -> None:
        self.may_go.wait(WITHIN)
        if self.fault is not None:
            raise self.fault
        super().append(rows)


class StuckStore(Store):
    """A database that does as it is told, in the thread, and keeps no table."""

    def __init__(self, root: Path) -> None:
        super().__init__(Database(f"sqlite:///{root / 'unused.db'}"))
        self.database.is_open = True
        self.kept: list[Row] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.fault: Exception | None = None
        self.database.interrupt = self.interrupt  # type: ignore[method-assign]
        self.interruptions = 0

    def write(self, rows: Sequence[Row]) -> None:
        self.may_go.wait(WITHIN)
        if self.fault is not None:
            raise self.fault
        self.kept += rows

    def beat(self, process: Process) -> list[Seen]:
        return []

    def leave(self, process_id: str) -> None: ...
    def interrupt(self) -> None:
        self.interruptions += 1
        self.may_go.set()


class Stuck:
    def __init__(self, root: Path) -> None:
        self.spool = StuckSpool(root)
        self.store = StuckStore(root.parent)
        shipper = Shipper(self.store, self.spool, "p1")
        self.writer = Writer(self.spool, shipper, lambda: ME, wall=lambda: NOON + 60)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Writer]:
        with trio.fail_after(WITHIN):
            async with trio.open_nursery() as nursery:
                await nursery.start(self.writer.run)
                yield self.writer
                nursery.cancel_scope.cancel()


@pytest.fixture
def stuck(tmp_path: Path) -> Stuck:
    return Stuck(tmp_path / "spool")


async def test_a_flush_gives_up_in_time_and_nothing_is_lost(stuck: Stuck) -> None:
    async with stuck.writing() as writer:
        began = time.monotonic()
        for row in whole():
            writer.put(row)
        assert not await writer.flush(0.05)
        assert time.monotonic() - began < 5
        assert stuck.spool.rows == 0
        stuck.spool.may_go.set()
        assert await writer.flush(WITHIN)
    assert stuck.store.kept == whole()
    assert not stuck.store.database.is_open


async def test_a_database_that_is_stuck_keeps_no_row_from_being_safe(stuck: Stuck) -> None:
    stuck.spool.may_go.set()
    stuck.store.may_go.clear()
    async with stuck.writing() as writer:
        for row in whole():
            writer.put(row)
            assert await writer.flush(WITHIN)
        [file] = stuck.spool._own.glob("*.ndjson")
        assert file.read_bytes().count(b"\n") == len(whole())
        assert stuck.store.kept == []
        stuck.store.may_go.set()
    assert stuck.store.kept == whole()
    assert list(stuck.spool._root.iterdir()) == []


async def test_a_thread_that_is_stuck_is_interrupted(
    stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "STUCK", 0.05)
    stuck.spool.may_go.set()
    stuck.store.may_go.clear()
    async with stuck.writing() as writer:
        writer.put(whole()[0])
        while not stuck.store.kept:  # noqa: ASYNC110 - a thread sets no event
            await trio.sleep(0.01)
    assert stuck.store.interruptions >= 1


async def test_it_ends_even_while_its_thread_is_stuck(
    stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "STUCK", 0.05)
    stuck.spool.may_go.set()
    stuck.store.may_go.clear()
    async with stuck.writing() as writer:
        writer.put(whole()[0])
        assert await writer.flush(WITHIN)
    assert stuck.store.kept == whole()[:1]
    assert not stuck.store.database.is_open


async def test_it_ends_even_while_its_disk_is_stuck(
    stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "LEFT_AFTER", 0.05)
    began = time.monotonic()
    with structlog.testing.capture_logs() as lines:
        async with stuck.writing() as writer:
            writer.put(whole()[0])
            assert not await writer.flush(0.05)
    assert time.monotonic() - began < WITHIN / 2
    stuck.spool.may_go.set()
    lost = {"event": events.RecordsLost.NAME, "rows": 1, "log_level": "error"}
    assert {each["event"] for each in lines} == {events.RecordsBehind.NAME, events.RecordsLost.NAME}
    assert lost in lines


async def test_a_disk_that_was_stuck_costs_no_row(
    stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its thread had is given to another once that has ended, and both may have written it."""
    monkeypatch.setattr(writers, "LEFT_AFTER", 0.05)
    with structlog.testing.capture_logs() as lines:
        async with stuck.writing() as writer:
            writer.put(whole()[0])
            while not lines:  # noqa: ASYNC110 - a thread sets no event
                await trio.sleep(0.01)
            stuck.spool.may_go.set()
            writer.put(whole()[1])
            assert await writer.flush(WITHIN)
    assert {row.seq for row in stuck.store.kept} == {row.seq for row in whole()[:2]}
    assert lines[0]["event"] == events.RecordsBehind.NAME
    assert "disk" in lines[0]["reason"]


async def test_rows_that_nobody_takes_stay_until_somebody_does(stuck: Stuck) -> None:
    stuck.spool.may_go.set()
    stuck.spool.fault = SpoolFull("full")
    async with stuck.writing() as writer:
        writer.put(whole()[0])
        assert not await writer.flush(0.05)
        assert (writer.figures.waiting, writer.figures.lost) == (1, 0)
        writer.put(whole()[1])
        stuck.spool.fault = None
        assert await writer.flush(WITHIN)
    assert stuck.store.kept == whole()[:2]


async def test_what_nobody_takes_to_the_end_is_lost_and_said(stuck: Stuck) -> None:
    stuck.spool.may_go.set()
    stuck.spool.fault = SpoolFull("full")
    with structlog.testing.capture_logs() as lines:
        async with stuck.writing() as writer:
            writer.put(whole()[0])
    assert {"event": events.RecordsLost.NAME, "rows": 1, "log_level": "error"} in lines
    assert not stuck.store.database.is_open


async def test_a_bug_costs_its_rows_and_nothing_else(stuck: Stuck) -> None:
    stuck.spool.may_go.set()
    stuck.spool.fault = ZeroDivisionError()
    with structlog.testing.capture_logs() as lines:
        async with stuck.writing() as writer:
            writer.put(whole()[0])
            await writer.flush(WITHIN)
            stuck.spool.fault = None
            writer.put(whole()[1])
            assert await writer.flush(WITHIN)
    assert [line["event"] for line in lines] == [events.RecordsCrashed.NAME]
    assert (stuck.store.kept, writer.figures.lost) == (whole()[1:2], 1)


async def test_a_bug_on_the_way_to_the_database_costs_no_row(
    stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "LONGEST_RETRY", 0.01)
    stuck.spool.may_go.set()
    first = stuck.spool.first
    faults = [ZeroDivisionError(), ZeroDivisionError()]

    def failing(most: int) -> list[Row]:
        if faults and stuck.spool.rows:
            raise faults.pop()
        return first(most)

    monkeypatch.setattr(stuck.spool, "first", failing)
    with structlog.testing.capture_logs() as lines:
        async with stuck.writing() as writer:
            writer.put(whole()[0])
            while not stuck.store.kept:  # noqa: ASYNC110 - a thread sets no event
                await trio.sleep(0.01)
    assert [line["event"] for line in lines] == [events.RecordsCrashed.NAME] * 2
    assert stuck.store.kept == whole()[:1]


async def test_numbers_are_taken_out_before_they_reach_any_file(stuck: Stuck) -> None:
    redaction = Redaction("0123456789abcdef0123456789abcdef")
    shipper = Shipper(stuck.store, stuck.spool, "p1")
    stuck.writer = Writer(stuck.spool, shipper, lambda: ME, redaction=redaction)
    stuck.spool.may_go.set()
    stuck.store.may_go.clear()
    async with stuck.writing() as writer:
        for row in whole():
            writer.put(row)
        assert await writer.flush(WITHIN)
        [file] = stuck.spool._own.glob("*.ndjson")
        assert b"+1500555" not in file.read_bytes()
        stuck.store.may_go.set()
    assert len(stuck.store.kept) == len(whole())
    assert b"+1500555" not in msgspec.json.encode(stuck.store.kept)


def test_beginnings_and_ends_of_calls_are_the_last_to_be_lost(
    stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "MAX_ROWS", 5)
    monkeypatch.setattr(writers, "MAX_ESSENTIAL", 2)
    writer = stuck.writer
    story = Story().announce()
    for _ in range(9):
        story.tell(Kind.USER)
    story.end().end().end()
    for row in story.rows:
        writer.put(row)
    figures = writer.figures
    assert (figures.waiting, figures.lost) == (7, 6)
    assert [row.kind for row in writer._rows] == [
        Kind.ANNOUNCED,
        *[Kind.USER] * 4,
        *[Kind.ENDED] * 2,
    ]
    assert figures.lag > 0


async def test_the_loop_goes_on_while_the_thread_waits(stuck: Stuck) -> None:
    async with stuck.writing() as writer:
        writer.put(whole()[0])
        with trio.move_on_after(0.05):
            while True:
                writer.put(whole()[1])
                await trio.lowlevel.checkpoint()
        assert stuck.spool.rows == 0
        stuck.spool.may_go.set()
    assert len(stuck.store.kept) > 1


async def test_it_is_told_when_the_records_fall_behind_and_when_they_have_caught_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sts_trio.records.shipper.RETRY", 0.01)
    rows = whole()
    write = rig.store.write

    def away(rows: Any) -> None:
        raise DatabaseAway("it is away")

    with structlog.testing.capture_logs() as lines:
        async with running(rig):
            rig.put(*rows[:3])
            await rig.written()
            rig.store.write = away  # type: ignore[method-assign]
            rig.put(*rows[3:5])
            assert await rig.writer.flush(WITHIN)  # safe they are, if not there
            await rig.until(lambda: bool(rig.news))
            figures = rig.writer.figures
            assert (figures.status, figures.reason) == ("behind", "it is away")
            assert (figures.spooled, figures.spooled_bytes > 0, figures.lag > 0) == (2, True, True)
            rig.put(*rows[5:])
            rig.store.write = write  # type: ignore[method-assign]
            await rig.until(lambda: len(rig.news) == 2)
            assert rig.writer.figures.status == "ok"
    assert rig.news == [events.RecordsBehind.NAME, events.RecordsCaughtUp.NAME]
    assert [line["event"] for line in lines] == rig.news
    assert reopened(rig).rows(sid(1)) == rows


async def test_a_server_that_neither_answers_nor_hangs_up_is_cut_off(
    own_database: Database,
    own_cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(own_database, tmp_path / "spool")
    rows = whole()
    async with running(rig):
        rig.put(*rows[:3])
        await rig.written()
        # While it does answer, it has the time that a busy machine takes.
        with own_cluster.stopped(), monkeypatch.context() as patch:
            patch.setattr(writers, "STUCK", 0.5)
            rig.put(*rows[3:])
            assert await rig.writer.flush(WITHIN)
            await rig.until(lambda: rig.writer.figures.status == "behind")
            assert rig.writer.figures.spooled == len(rows[3:])
        await rig.until(lambda: rig.writer.figures.status == "ok")
        assert rig.store.rows(sid(1)) == rows


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_two_processes_on_one_file_get_along(database: Database, tmp_path: Path) -> None:
    """As far as SQLite is concerned two connections are two processes."""
    one = Rig(database, tmp_path / "spool")
    beside = Database(str(database.url))
    beside.open()
    two = Rig(beside, tmp_path / "other")
    async with running(one), running(two):
        for number in range(40):
            (one if number % 2 else two).put(*whole(number))
            await trio.sleep(0.005)
        await one.written()
        await two.written()
    store = reopened(one)
    for number in range(40):
        assert store.rows(sid(number)) == whole(number)


# --- a process that is killed -------------------------------------------------------------------

VICTIM = """
import structlog, sys, time, trio
from pathlib import Path
from call_stories import Story, sid
from sts_trio.records.database import Database
from sts_trio.records.rows import Kind, Row
from sts_trio.records.shipper import Shipper
from sts_trio.records.spool import Spool
from sts_trio.records.process_state import Process
from sts_trio.records.store import Store
from sts_trio.records.writer import Writer

async def main(url, root):
    database = Database(url)
    database.open()
    me = Process(process_id="victim", name="v", address="", version="0", state="ready", live=1,
                 capacity=1)
    spool = Spool(Path(root), "victim")
    writer = Writer(spool, Shipper(Store(database), spool, "victim"), lambda: me)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        story = Story(sid(1), at=time.time()).announce(process_id="victim")
        story.start(process_id="victim")
        for row in story.rows:
            writer.put(row)
        seq = 2
        while True:
            # What has happened is told before it is put: whoever reads it knows when it was.
            print(seq, time.time(), flush=True)
            writer.put(Row(sid(1), 10, seq, time.time(), Kind.USER, {"text": "word"}))
            seq += 1
            await trio.sleep(0.002)

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
trio.run(main, sys.argv[1], sys.argv[2])
"""


@pytest.mark.parametrize("is_locked", [False, True])
def test_of_a_process_that_is_killed_no_more_is_lost_than_its_last_moment(
    url: str, tmp_path: Path, is_locked: bool
) -> None:
    """Also where the database takes nothing meanwhile."""
    tests = Path(__file__).parent.parent
    database = Database(url)
    database.open()
    lock = database.engine.connect()
    if is_locked:
        lock.execution_options(sts_writes=True).begin()
        if database.is_postgresql:
            lock.exec_driver_sql("LOCK TABLE event IN EXCLUSIVE MODE")
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, url, str(tmp_path / "spool")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}"},
        text=True,
    )
    assert victim.stdout is not None
    put: list[tuple[int, float]] = []
    for line in victim.stdout:
        seq, at = line.split()
        put.append((int(seq), float(at)))
        if len(put) == 300:
            victim.send_signal(signal.SIGKILL)
            break
    for line in victim.stdout:
        if line.endswith("\n"):
            seq, at = line.split()
            put.append((int(seq), float(at)))
    victim.stdout.close()
    assert victim.wait(WITHIN) == -signal.SIGKILL

    lock.close()
    store = Store(database)
    assert not is_locked or store.rows(sid(1)) == []
    spool = Spool(tmp_path / "spool", "next")
    shipper = Shipper(store, spool, "next")
    shipper.ship()
    rows = store.rows(sid(1))
    assert [row.seq for row in rows] == list(range(len(rows)))
    missing = [at for seq, at in put if seq >= len(rows)]
    # A tenth of a second, and what a thread takes on a machine that is busy with other things.
    assert not missing or missing[-1] - missing[0] < 2.0
    assert len(rows) > 100
    [call] = store.calls(Wanted()).calls
    assert (call.state, call.ending) == ("live", None)
    assert [(each.process.process_id, each.is_alive) for each in store.processes()] == [
        ("victim", False)
    ]
    shipper.close()
    spool.close()

"""Every row that is taken is written, once, and in order, whatever fails in between."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog
from call_stories import NOON, Story, sid, whole
from hypothesis import given
from hypothesis import strategies as st
from rig_postgresql import Cluster
from rig_processes import process, silence

from sts_trio.observe import events
from sts_trio.records.database import Database, DatabaseAway
from sts_trio.records.movable import Left
from sts_trio.records.process_state import ALIVE_WITHIN, GONE, LOST_AFTER, Process, Seen
from sts_trio.records.rows import Kind, Row
from sts_trio.records.search import Wanted
from sts_trio.records.shipper import (
    ALL_BACK_AFTER,
    LEFT_FOR,
    LONGEST_RETRY,
    MOVING_FOR,
    RETRY,
    Shipper,
)
from sts_trio.records.spool import Spool, SpoolFull, _Segment
from sts_trio.records.store import Store


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return NOON + self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", "p1")


class Keeper(Shipper):
    """Both steps, one after the other, as the writer does them in two threads."""

    def __init__(self, store: Store, spool: Spool, process_id: str, clock: Clock) -> None:
        super().__init__(store, spool, process_id, clock=clock, wall=clock.wall)
        self.spool = spool

    def keep(self, rows: Sequence[Row]) -> None:
        self.spool.append(rows)
        self.ship()

    def close(self) -> None:
        super().close()
        self.spool.close()


@pytest.fixture
def keeper(store: Store, spool: Spool, clock: Clock) -> Iterator[Keeper]:
    keeper = Keeper(store, spool, "p1", clock)
    yield keeper
    keeper.close()


def catch_up(keeper: Keeper, clock: Clock) -> None:
    clock.now += LONGEST_RETRY
    keeper.ship()
    assert keeper.behind is None
    assert keeper.spool.rows == 0


def test_rows_are_in_the_database_when_keep_returns(keeper: Keeper, store: Store) -> None:
    keeper.keep(whole())
    assert store.rows(sid(1)) == whole()
    assert (keeper.written, keeper.spool.rows, keeper.behind) == (len(whole()), 0, None)
    assert not keeper.has_more


# --- faults of real databases -------------------------------------------------------------------


class Locked:
    """Somebody else holds the lock of the file, or of the table."""

    def __init__(self, store: Store, cluster: Cluster | None) -> None:
        self._url = store.database.url
        self._cluster = cluster

    def begin(self) -> None:
        if self._cluster is None:
            self._sqlite = sqlite3.connect(str(self._url.database), isolation_level=None)
            self._sqlite.execute("BEGIN IMMEDIATE")
            self.end = self._end_sqlite
        else:
            self._engine = sa.create_engine(self._url)
            self._postgresql = self._engine.connect()
            self._postgresql.exec_driver_sql("LOCK TABLE event IN ACCESS EXCLUSIVE MODE")
            self.end = self._end_postgresql

    def _end_sqlite(self) -> None:
        self._sqlite.execute("ROLLBACK")
        self._sqlite.close()

    def _end_postgresql(self) -> None:
        self._postgresql.close()
        self._engine.dispose()


@pytest.fixture
def real_cluster(store: Store, request: pytest.FixtureRequest) -> Cluster | None:
    if not store.database.is_postgresql:
        return None
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster


def test_a_locked_database_is_waited_for_in_the_spool(
    keeper: Keeper, store: Store, clock: Clock, real_cluster: Cluster | None
) -> None:
    rows = whole()
    keeper.keep(rows[:2])
    lock = Locked(store, real_cluster)
    lock.begin()
    try:
        keeper.keep(rows[2:4])
        assert keeper.behind is not None
        assert "lock" in keeper.behind.reason
        keeper.keep(rows[4:6])
        clock.now += RETRY
        keeper.ship()
        assert (keeper.spool.rows, keeper.spool.oldest) == (4, rows[2].at)
    finally:
        lock.end()
    keeper.keep(rows[6:])
    catch_up(keeper, clock)
    assert store.rows(sid(1)) == rows


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_full_database_is_waited_for_in_the_spool(
    keeper: Keeper, store: Store, clock: Clock
) -> None:
    rows = whole()
    keeper.keep(rows[:2])
    engine = store.database.engine

    def at_most(pages: int) -> None:
        engine.dispose()

        @sa.event.listens_for(engine, "connect")
        def connected(connection: sqlite3.Connection, record: object) -> None:
            connection.execute(f"PRAGMA max_page_count = {pages}")

    at_most(1)  # it keeps those that there are
    big = Row(sid(2), 10, 0, NOON, Kind.NOTE, {"big": "x" * 60_000})
    keeper.keep([big])
    assert keeper.behind is not None
    assert "full" in keeper.behind.reason
    keeper.keep(rows[2:])
    at_most(1_000_000)
    catch_up(keeper, clock)
    assert store.rows(sid(1)) == rows
    assert store.rows(sid(2)) == [big]


def test_a_database_that_is_restarted_in_the_midst_misses_nothing(
    own_database: Database, own_cluster: Cluster, spool: Spool, clock: Clock
) -> None:
    store = Store(own_database)
    keeper = Keeper(store, spool, "p1", clock)
    rows = whole()
    keeper.keep(rows[:3])
    own_cluster.stop("immediate")
    try:
        keeper.keep(rows[3:5])
        assert keeper.behind is not None
        clock.now += RETRY
        keeper.ship()
        keeper.keep(rows[5:6])
        assert keeper.spool.rows == 3
    finally:
        own_cluster.start()
    catch_up(keeper, clock)
    keeper.keep(rows[6:])
    assert store.rows(sid(1)) == rows
    keeper.close()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_slow_database_is_given_up_after_a_while(
    keeper: Keeper, store: Store, clock: Clock
) -> None:
    slow = (
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(5); RETURN NEW; END'"
    )
    with store.database.writing() as connection:
        connection.exec_driver_sql(slow)
        connection.exec_driver_sql(
            "CREATE TRIGGER slowly BEFORE INSERT ON call FOR EACH ROW EXECUTE FUNCTION slowly()"
        )
    try:
        keeper.keep(whole())
        assert keeper.behind is not None
        assert "statement timeout" in keeper.behind.reason
    finally:
        with store.database.writing() as connection:
            connection.exec_driver_sql("DROP FUNCTION slowly CASCADE")
    catch_up(keeper, clock)
    assert store.rows(sid(1)) == whole()


def test_what_no_database_takes_is_put_aside_and_the_rest_is_written(
    keeper: Keeper, store: Store, spool: Spool
) -> None:
    rows = whole()
    unfit = Row(sid(1), 2**80, 0, NOON, Kind.NOTE, {})
    keeper.keep([*rows[:3], unfit, *rows[3:]])
    assert store.rows(sid(1)) == rows
    assert (spool.refused, keeper.behind, keeper.spool.rows) == (1, None, 0)


def test_when_the_spool_is_full_its_rows_are_still_written(
    store: Store, tmp_path: Path, clock: Clock
) -> None:
    keeper = Keeper(store, Spool(tmp_path / "spool", "p1", max_bytes=1000), "p1", clock)
    rows = whole()
    write = store.write
    store.write = unwilling  # type: ignore[method-assign]
    keeper.keep(rows[:1])
    with pytest.raises(SpoolFull):
        keeper.keep(rows[1:])
    store.write = write  # type: ignore[method-assign]
    catch_up(keeper, clock)
    keeper.keep(rows[1:5])
    keeper.keep(rows[5:])
    assert (keeper.behind, keeper.spool.rows) == (None, 0)
    assert store.rows(sid(1)) == rows
    keeper.close()


def test_while_the_disk_takes_nothing_the_database_still_does(
    keeper: Keeper, store: Store, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = whole()
    keeper.keep(rows[:2])

    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sts_trio.records.spool.os.write", full)
        spool.append(rows[2:4])
        assert spool.unfiled == 2
        keeper.keep(rows[4:5])
    assert spool.unfiled == 0
    keeper.keep(rows[5:])
    assert store.rows(sid(1)) == rows


def unwilling(rows: Sequence[Row]) -> None:
    raise DatabaseAway("it is away")


def test_a_database_that_leaves_in_the_midst_of_burying_is_tried_again(
    store: Store, tmp_path: Path, clock: Clock
) -> None:
    Spool(tmp_path / "spool", "dead").close()
    (tmp_path / "spool" / "dead").mkdir(exist_ok=True)
    keeper = Keeper(store, Spool(tmp_path / "spool", "p1"), "p1", clock)
    note_gone = store.note_gone
    store.note_gone = unwilling  # type: ignore[method-assign, assignment]
    keeper.ship()
    assert keeper.behind is not None
    store.note_gone = note_gone  # type: ignore[method-assign]
    catch_up(keeper, clock)
    assert not keeper.has_more
    keeper.close()


def test_a_database_that_is_away_at_the_end_does_not_keep_us(
    store: Store, tmp_path: Path, clock: Clock
) -> None:
    keeper = Keeper(store, Spool(tmp_path / "spool", "p1"), "p1", clock)
    store.leave = unwilling  # type: ignore[method-assign, assignment]
    keeper.close()
    assert keeper.behind is not None
    assert not store.database.is_open


def test_a_database_that_is_a_mistake_by_now_is_away(
    tmp_path: Path, spool: Spool, clock: Clock
) -> None:
    """At start-up it did not answer, and calls have come since."""
    path = tmp_path / "calls.db"
    path.write_bytes(b"GIF89a" * 1000)
    keeper = Keeper(Store(Database(f"sqlite:///{path}")), spool, "p1", clock)
    keeper.keep(whole())
    assert keeper.behind is not None
    assert "not a database" in keeper.behind.reason
    assert keeper.spool.rows == len(whole())
    keeper.heartbeat(process("p1"))
    path.unlink()
    catch_up(keeper, clock)
    keeper.close()


# --- processes ----------------------------------------------------------------------------------


def states(store: Store) -> dict[str, str]:
    return {call.call_sid: call.state for call in store.calls(Wanted()).calls}


def known(store: Store) -> dict[str, str]:
    return {each.process.process_id: each.process.state for each in store.processes()}


def live_of(store: Store, process_id: str, number: int = 1) -> None:
    """A call that process has."""
    story = Story(sid(number)).announce(process_id=process_id).start(process_id=process_id)
    store.write(story.rows)


def test_the_dead_of_this_machine_are_known_at_the_next_start(
    store: Store, tmp_path: Path, clock: Clock
) -> None:
    """What they had in their spool comes first: one of the calls had ended. The other one is lost
    unless somebody goes on with it."""
    dead = Spool(tmp_path / "spool", "dead")
    dead.append(whole(2)[-1:])
    dead.close()
    store.beat(process("dead"))
    for number in (1, 2):
        story = Story(sid(number)).announce(process_id="dead").start(process_id="dead").talk()
        store.write(story.rows)
    keeper = Keeper(store, Spool(tmp_path / "spool", "p1"), "p1", clock)
    assert keeper.has_more
    keeper.ship()
    assert not keeper.has_more
    assert known(store) == {"dead": GONE}
    assert states(store) == {sid(1): "live", sid(2): "ended"}
    keeper.heartbeat(process("p1"))
    clock.now += ALL_BACK_AFTER + 1
    keeper.heartbeat(process("p1"))
    assert states(store) == {sid(1): "live", sid(2): "ended"}
    silence(store.database, "dead", LOST_AFTER)
    keeper.heartbeat(process("p1"))
    assert states(store) == {sid(1): "lost", sid(2): "ended"}
    assert known(store) == {"p1": "ready"}
    keeper.close()
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_second_process_on_one_database_leaves_the_first_ones_calls_alone(
    store: Store, tmp_path: Path, clock: Clock
) -> None:
    """Neither its start nor its heartbeats take them for lost: with one spool or with two."""
    for spool in ("spool", "other-spool"):
        first = Keeper(store, Spool(tmp_path / "spool", "first"), "first", clock)
        first.ship()
        first.heartbeat(process("first"))
        live_of(store, "first")
        second = Keeper(store, Spool(tmp_path / spool, "second"), "second", clock)
        second.ship()
        for _ in range(60):
            clock.now += 1
            first.heartbeat(process("first"))
            second.heartbeat(process("second"))
        assert states(store) == {sid(1): "live"}
        assert [each.process.process_id for each in second.others] == ["first"]
        second.close()
        store.database.open()
        assert known(store) == {"first": "ready"}
        first.close()
        store.database.open()


def test_the_dead_of_other_machines_are_those_whose_heartbeat_stops(
    keeper: Keeper, store: Store, clock: Clock
) -> None:
    live_of(store, "far")
    store.beat(process("far"))
    keeper.heartbeat(process("p1"))
    clock.now = ALL_BACK_AFTER + 1
    silence(store.database, "far", LOST_AFTER - 5)
    keeper.heartbeat(process("p1"))
    assert states(store) == {sid(1): "live"}
    silence(store.database, "far", 5)
    keeper.heartbeat(process("p1"))
    assert states(store) == {sid(1): "lost"}


@pytest.mark.parametrize("minute", [-60.0, 60.0])
def test_clocks_that_differ_by_a_minute_bury_nobody(
    keeper: Keeper, store: Store, tmp_path: Path, clock: Clock, minute: float
) -> None:
    """Who lives is judged by the database's clock alone."""
    other_clock = Clock()
    other_clock.wall = lambda: NOON + minute + other_clock.now  # type: ignore[method-assign]
    other = Keeper(store, Spool(tmp_path / "far", "far"), "far", other_clock)
    live_of(store, "p1", 1)
    live_of(store, "far", 2)
    for _ in range(30):
        clock.now += 1
        other_clock.now += 1
        keeper.heartbeat(process("p1"))
        other.heartbeat(process("far"))
    assert states(store) == {sid(1): "live", sid(2): "live"}
    assert all(each.is_alive for each in (*keeper.others, *other.others))
    other.spool.close()


def test_nobody_is_called_dead_who_could_not_tell_that_he_lives(
    keeper: Keeper, store: Store, clock: Clock
) -> None:
    """The database was away for all of us: who comes back first must not bury the others."""
    live_of(store, "far")
    store.beat(process("far"))
    keeper.heartbeat(process("p1"))
    real_beat = store.beat

    def failing(process: Process) -> list[Seen]:
        raise DatabaseAway("it is away")

    store.beat = failing  # type: ignore[method-assign]
    clock.now = 300
    silence(store.database, "far", 300)
    keeper.heartbeat(process("p1"))
    assert keeper.behind is not None
    store.beat = real_beat  # type: ignore[method-assign]
    catch_up(keeper, clock)
    keeper.heartbeat(process("p1"))
    assert states(store) == {sid(1): "live"}


def test_what_nobody_has_is_told_of_after_a_while(
    keeper: Keeper, store: Store, clock: Clock
) -> None:
    """And not before whoever lives could tell of it."""
    live_of(store, "far")
    store.beat(process("far"))
    silence(store.database, "far", ALIVE_WITHIN)
    keeper.heartbeat(process("p1"))
    clock.now = ALL_BACK_AFTER
    keeper.heartbeat(process("p1"))
    clock.now = ALL_BACK_AFTER + 1
    keeper.heartbeat(process("p1"))
    assert not keeper.left
    clock.now += LEFT_FOR
    keeper.heartbeat(process("p1"))
    assert list(keeper.left) == [Left(sid(1), 10, "live")]
    store.beat(process("far"))
    keeper.heartbeat(process("p1"))
    assert not keeper.left


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("minute", [-60.0, 60.0])
def test_a_call_that_nobody_picked_up_is_lost_after_a_minute(
    keeper: Keeper, store: Store, clock: Clock, minute: float
) -> None:
    """Also if the process that has let go of it has another clock."""
    story = Story(sid(1), at=NOON + minute).announce().start().end("moved", "success")
    store.write(story.rows)
    keeper.heartbeat(process("p1"))
    clock.now = began = ALL_BACK_AFTER + 1
    keeper.heartbeat(process("p1"))
    clock.now = began + MOVING_FOR - 1
    keeper.heartbeat(process("p1"))
    assert states(store) == {sid(1): "moving"}
    clock.now = began + MOVING_FOR
    keeper.heartbeat(process("p1"))
    assert states(store) == {sid(1): "lost"}
    keeper.heartbeat(process("p1"))
    assert not keeper.left


def test_a_clean_end_takes_the_process_off_the_list(keeper: Keeper, store: Store) -> None:
    keeper.heartbeat(process("p1"))
    assert known(store) == {"p1": "ready"}
    keeper.close()
    store.database.open()
    assert known(store) == {}
    keeper.spool = Spool(keeper.spool._root, "p1")


def test_who_ends_with_rows_that_are_not_written_stays_on_the_list(
    keeper: Keeper, store: Store, spool: Spool
) -> None:
    """Its calls have ended, and the database does not know: others are to see to them, should its
    spool never be read again."""
    keeper.heartbeat(process("p1"))
    spool.append(whole())
    keeper.close()
    store.database.open()
    assert known(store) == {"p1": "ready"}
    keeper.spool = Spool(keeper.spool._root, "p1")


def namesakes(keeper: Keeper, clock: Clock, other: Process, **told: str) -> list[str]:
    """Addresses that are told of while both live for a few seconds."""
    with structlog.testing.capture_logs() as lines:
        for _ in range(5):
            keeper.heartbeat(process("p1", **told))
            keeper._store.beat(other)
            clock.now += 1
    return [line["other"] for line in lines if line["event"] == events.ProcessNamesake.NAME]


def test_two_of_one_name_are_told_of_once(keeper: Keeper, clock: Clock, quiet: None) -> None:
    other = process("p2", address="10.0.0.2:5000")
    assert namesakes(keeper, clock, other) == ["10.0.0.2:5000"]
    assert namesakes(keeper, clock, process("p3", name="s2", address="10.0.0.3:5000")) == []


def test_a_predecessor_is_no_namesake(keeper: Keeper, clock: Clock, quiet: None) -> None:
    """One that was killed a moment ago, one that drains, and one whose address is taken over."""
    keeper._store.beat(process("killed", address="10.0.0.2:5000"))
    draining = process("draining", address="10.0.0.3:5000", state="draining")
    assert namesakes(keeper, clock, draining) == []
    assert namesakes(keeper, clock, process("same")) == []


def test_who_listens_everywhere_tells_others_an_address(keeper: Keeper, store: Store) -> None:
    keeper.heartbeat(process("p1", address="0.0.0.0:5000"))
    assert store.processes()[0].process.address == "127.0.0.1:5000"


# --- any interleaving of faults -----------------------------------------------------------------


class Table(Store):
    """A store of one table in memory, which fails as it is told: before, or behind the commit."""

    def __init__(self, faults: Iterator[str]) -> None:
        super().__init__(Database("sqlite:///unused.db"))
        self.database.is_open = True
        self.kept: dict[tuple[str, int, int], Row] = {}
        self.order: list[tuple[str, int, int]] = []
        self._faults = faults

    def write(self, rows: Sequence[Row]) -> None:
        fault = next(self._faults)
        if fault == "away":
            raise DatabaseAway("away")
        if any(row.body.get("unfit") for row in rows):
            raise ValueError("unfit")
        for row in rows:
            key = (row.call_sid, row.epoch, row.seq)
            if key not in self.kept:
                self.kept[key] = row
                self.order.append(key)
        if fault == "unsure":
            raise DatabaseAway("the connection was lost")


class Disk(Spool):
    """A spool on a disk that fails as it is told: at once, or in the middle of what it writes."""

    faults: Iterator[str] = iter(())

    def in_memory_alone(self) -> list[Row]:
        return [row for each in self._segments if each.path is None for row in each.rows or []]

    def _write(self, segment: _Segment, data: bytes) -> None:
        fault = next(self.faults)
        if fault == "full":
            raise OSError(28, "No space left on device")
        if fault == "torn":
            super()._write(segment, data[: len(data) // 2])
            self._finish_segment()
            raise OSError(5, "Input/output error")
        super()._write(segment, data)


def endless(drawn: list[str], good: str) -> Iterator[str]:
    yield from drawn
    while True:
        yield good


FAULTS = st.lists(st.sampled_from(["good", "away", "unsure"]), max_size=20)
DISK_FAULTS = st.lists(st.sampled_from(["good", "good", "full", "torn"]), max_size=20)
# {how many rows come at once, of which call, whether the process is killed behind them}
STEPS = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 3), st.sampled_from(["", "", "time", "killed"])),
    max_size=25,
)


@given(faults=FAULTS, disk_faults=DISK_FAULTS, steps=STEPS)
def test_every_row_that_was_taken_is_written_once_and_in_order(
    faults: list[str],
    disk_faults: list[str],
    steps: list[tuple[int, int, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # So that there are several lots and several files.
        patch.setattr("sts_trio.records.shipper.LOT", 3)
        patch.setattr("sts_trio.records.spool.MAX_SEGMENT", 300)
        play(faults, disk_faults, steps, tmp_path_factory.mktemp("spool"))


def play(
    faults: list[str], disk_faults: list[str], steps: list[tuple[int, int, str]], root: Path
) -> None:
    table = Table(endless(faults, "good"))
    disk = iter(endless(disk_faults, "good"))
    clock = Clock()
    starts = 0
    spool: Disk
    keeper: Keeper

    def start() -> Keeper:
        nonlocal starts, spool
        starts += 1
        name = f"p{starts:02}"  # what is left is brought in the order of the names
        spool = Disk(root, name)
        spool.faults = disk
        return Keeper(table, spool, name, clock)

    table.note_gone = lambda process_id: None  # type: ignore[method-assign]
    table.database.writing = nothing  # type: ignore[method-assign, assignment]
    keeper = start()
    taken: list[Row] = []
    seqs: dict[str, int] = {}
    waiting: list[Row] = []  # what the writer has in its deque
    for count, call, what in steps:
        for _ in range(count):
            seq = seqs.setdefault(sid(call), 0)
            seqs[sid(call)] += 1
            waiting.append(Row(sid(call), 10, seq, NOON, Kind.NOTE, {}))
        try:
            keeper.keep(waiting)
            taken += waiting
            waiting = []
        except SpoolFull:
            pass
        if what == "time":
            clock.now += LONGEST_RETRY
        keeper.ship()
        if what == "killed":
            # Its deque is gone with it, and so are the numbers in it.
            for row in waiting:
                seqs[row.call_sid] = min(seqs[row.call_sid], row.seq)
            waiting = []
            # And so is what no file has taken.
            lost = spool.in_memory_alone()
            taken = [row for row in taken if row not in lost]
            keeper.spool.close()
            keeper = start()
    for _ in range(60):
        clock.now += LONGEST_RETRY
        keeper.ship()
    assert keeper.spool.rows == 0
    keys = [(row.call_sid, row.epoch, row.seq) for row in taken]
    # A row may be written that nobody promised to keep; none that was promised is missing.
    assert set(keys) <= set(table.kept)
    for call_sid in {key[0] for key in keys}:
        ours = [key for key in table.order if key[0] == call_sid]
        assert ours == sorted(ours)
    keeper.spool.close()


def nothing(**options: object) -> "Nothing":
    return Nothing()


class Nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *exc: object) -> None: ...


def test_a_row_that_is_unfit_is_put_aside_once(tmp_path: Path, clock: Clock) -> None:
    table = Table(endless(["good", "away"], "good"))
    spool = Spool(tmp_path, "p1")
    keeper = Keeper(table, spool, "p1", clock)
    table.database.writing = nothing  # type: ignore[method-assign, assignment]
    story = Story()
    story.tell(Kind.NOTE)
    story.tell(Kind.NOTE, unfit=True)
    story.tell(Kind.NOTE)
    keeper.keep(story.rows)
    catch_up(keeper, clock)
    assert [row.seq for row in table.kept.values()] == [0, 2]
    assert spool.refused == 1
    spool.close()

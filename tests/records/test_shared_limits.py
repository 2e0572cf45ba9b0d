"""What is good once, and what there are so many of: exact, however many ask at the same moment."""

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
import sqlalchemy as sa
from rig_processes import process, silence

from sts_trio.records import limits, processes, schema
from sts_trio.records.database import Database, DatabaseAway
from sts_trio.records.store import Store

T = TypeVar("T")
# Three processes, each with one connection at work at a time.
PROCESSES = 3
AT_ONCE = 50
# A burst of fifty writers on one file: so long is the last of them waited for.
PATIENCE = 30.0


@pytest.fixture
def fleet(database: Database) -> Iterator[list[Database]]:
    others = [Database(database.url.render_as_string(hide_password=False)) for _ in range(2)]
    for other in others:
        other.open()
    yield [database, *others]
    for other in others:
        other.close()


def in_one(database: Database, work: Callable[[sa.Connection], T]) -> T:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            with database.writing() as connection:
                return work(connection)
        except DatabaseAway:  # locked: what was asked for was not done
            if time.monotonic() > until:
                raise


def burst(fleet: list[Database], work: Callable[[int, sa.Connection], T]) -> list[T]:
    """What fifty are told who ask in three processes at the same moment."""
    locks = [threading.Lock() for _ in fleet]
    begin = threading.Barrier(AT_ONCE)

    def ask(number: int) -> T:
        begin.wait(PATIENCE)
        with locks[number % len(fleet)]:
            return in_one(fleet[number % len(fleet)], lambda connection: work(number, connection))

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(ask, range(AT_ONCE)))


def test_of_a_burst_over_three_processes_exactly_as_many_are_taken_as_there_are(
    fleet: list[Database],
) -> None:
    days = burst(fleet, lambda number, connection: limits.take(connection, "dial", 20))
    assert sum(day is not None for day in days) == 20
    [day] = set(days) - {None}
    assert day is not None
    in_one(fleet[0], lambda connection: limits.give_back(connection, "dial", day))
    again = burst(fleet, lambda number, connection: limits.take(connection, "dial", 20))
    assert sum(day is not None for day in again) == 1


def test_limits_have_names_and_days_of_their_own(database: Database) -> None:
    with database.writing() as connection:
        day = limits.take(connection, "one", 1)
        assert day is not None
        assert limits.take(connection, "one", 1) is None
        assert limits.take(connection, "other", 1) == day
        assert limits.take(connection, "none", 0) is None
        # A limit that is raised is raised at once.
        assert limits.take(connection, "one", 2) == day
        connection.execute(sa.update(schema.allowance).values(day=day - 1))
        assert limits.take(connection, "one", 1) == day
        # What is given back too often makes no more than there are.
        for _ in range(3):
            limits.give_back(connection, "one", day)
        assert limits.take(connection, "one", 1) == day
        assert limits.take(connection, "one", 1) is None
        assert 0 < limits.seconds_left(connection) <= 86400


def test_what_is_good_once_is_good_for_one_of_a_burst(fleet: list[Database]) -> None:
    used = burst(fleet, lambda number, connection: limits.use_once(connection, ["a", "b"], 60))
    assert sorted(map(len, used))[-2:] == [0, 2]
    with fleet[0].writing() as connection:
        assert limits.use_once(connection, ["b", "c", "c"], 60) == {"c"}
        assert limits.use_once(connection, [], 60) == set()


def test_what_was_good_once_is_remembered_for_longer_than_it_is_good(store: Store) -> None:
    with store.database.writing() as connection:
        limits.use_once(connection, ["a"], 60)
    store.forget_used()
    with store.database.writing() as connection:
        assert limits.use_once(connection, ["a"], 60) == set()
        expires_at = schema.token.c.expires_at
        connection.execute(sa.update(schema.token).values(expires_at=expires_at - 7200))
    store.forget_used()
    with store.database.writing() as connection:
        assert limits.use_once(connection, ["a"], 60) == {"a"}


def test_a_moments_turn_is_one_processs(
    fleet: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 1_796_040_000.0
    monkeypatch.setattr(processes, "now", lambda connection: at)
    turns = burst(fleet, lambda number, connection: limits.take_turn(connection, 2.0))
    assert sum(turns) == 1
    for seconds, has_turn in ((0.4, False), (0.5, True), (0.9, False), (1.0, True), (86400, True)):
        monkeypatch.setattr(processes, "now", lambda connection, at=at + seconds: at)
        assert in_one(fleet[1], lambda connection: limits.take_turn(connection, 2.0)) is has_turn


# --- sessions with agents -------------------------------------------------------------------------


def test_of_a_burst_exactly_as_many_sessions_are_taken_as_there_are(
    fleet: list[Database],
) -> None:
    for number in range(PROCESSES):
        Store(fleet[0]).beat(process(f"p{number}"))
    # Each process asks for one more than it has, one after the other, as `burst` has them do.
    has = [0] * PROCESSES

    def take(number: int, connection: sa.Connection) -> bool:
        which = number % PROCESSES
        is_taken = limits.take_sessions(connection, f"p{which}", has[which] + 1, 20)
        has[which] += is_taken
        return is_taken

    assert sum(burst(fleet, take)) == sum(has) == 20


def test_sessions_of_the_dead_are_free_again(store: Store) -> None:
    for name in ("p1", "p2"):
        store.beat(process(name))
    with store.database.writing() as connection:
        assert limits.take_sessions(connection, "p1", 1, 2)
        assert limits.take_sessions(connection, "p2", 1, 2)
        assert not limits.take_sessions(connection, "p2", 2, 2)
        limits.tell_sessions(connection, "p2", 0)
        assert limits.take_sessions(connection, "p2", 1, 2)
    # A heartbeat takes nothing back of what is taken.
    store.beat(process("p2"))
    store.beat(process("p1"))
    with store.database.writing() as connection:
        assert not limits.take_sessions(connection, "p2", 2, 2)
    silence(store.database, "p1", 5)
    with store.database.writing() as connection:
        assert limits.take_sessions(connection, "p2", 2, 2)
        assert not limits.take_sessions(connection, "p2", 3, 2)
    store.beat(process("p1"))
    store.note_gone("p1")
    with store.database.writing() as connection:
        assert limits.take_sessions(connection, "p2", 2, 2)


def test_a_rest_is_one_for_all_and_runs_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.database.writing() as connection:
        assert limits.rest_left(connection) == 0
        limits.rest(connection, 1.0)
    with store.database.reading() as connection:
        assert 0 < limits.rest_left(connection) <= 2
    now = processes.now
    monkeypatch.setattr(processes, "now", lambda connection: now(connection) - 10)
    with store.database.writing() as connection:
        limits.rest(connection, 1.0)
        assert limits.rest_left(connection) == 0


def test_a_rest_ends_though_the_databases_clock_is_put_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = processes.now
    monkeypatch.setattr(processes, "now", lambda connection: now(connection) + 3600)
    with store.database.writing() as connection:
        limits.rest(connection, 1.0)
        assert limits.rest_left(connection) == 0

"""Questions to the database that somebody waits for: a thread each, and a bound."""

import sqlite3
import threading
from math import inf
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
import trio
import trio.testing
from rig_processes import process

from sts_trio.observe import events
from sts_trio.records import schema
from sts_trio.records import shared as shareds
from sts_trio.records.database import Database
from sts_trio.records.shared import Shared
from sts_trio.records.store import Store

# Only so that a hang is noticed.
WITHIN = 60.0


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other things is no database that is away."""
    monkeypatch.setattr(shareds, "DIAL_WITHIN", 30.0)


async def test_two_processes_answer_for_one_another(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shared._ask, "__defaults__", (30.0,))
    here, there = Shared(database, "p1"), Shared(database, "p2")
    for name in ("p1", "p2"):
        Store(database).beat(process(name))
    assert await here.use_once(["a"], 60) == {"a"}
    assert await there.use_once(["a", "b"], 60) == {"b"}
    asked = await here.ask("t1", "k", "d", "{}", 5)
    assert asked is not None
    assert asked.is_new
    known = await there.ask("t2", "k", "d", "{}", 5)
    assert known is not None
    assert (known.token, known.is_new) == ("t1", False)
    assert await there.consult("t1", ["news"], 60) == ("{}", {"news"})
    assert await here.consult("", ["news"], 60) == (None, set())
    await here.settle("t1", "CA1", {"call_sid": "CA1"})
    seen = await there.look("t1")
    assert seen is not None
    assert seen.outcome == {"call_sid": "CA1"}
    await there.end("t1")
    assert await here.consult("t1", [], 60) == (None, set())
    await here.give_up("t1", asked.day)
    gone = await there.look("t1")
    assert gone is not None
    assert gone.may_be_asked
    assert await here.take_turn(0.0001) is True
    assert await there.take_turn(0.0001) is False
    assert await here.take_sessions(1, 1) == 0
    assert await there.take_sessions(1, 1) == inf
    assert await here.tell_sessions(0, 0.0) is True
    assert await there.take_sessions(1, 1) == 0
    assert await here.tell_sessions(0, 5.0) is True
    rest = await there.take_sessions(1, 1)
    assert rest is not None
    assert 3 < rest <= 6


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_database_that_is_slow_is_waited_for_no_longer_than_a_breath(
    database: Database, autojump_clock: trio.testing.MockClock
) -> None:
    """And the next who asks is not kept waiting: nobody is asked for a second."""
    shared = Shared(database, "p1")
    may_go = threading.Event()
    asked: list[str] = []

    def work(connection: sa.Connection) -> bool:
        return may_go.wait(WITHIN)

    def again(connection: sa.Connection) -> str:
        asked.append("again")
        return "done"

    try:
        assert await shared._ask(work) is None
        assert trio.current_time() == shareds.WITHIN
        assert await shared._ask(again) is None
        await trio.sleep(shareds.REST / 2)
        assert await shared._ask(again) is None
        assert (trio.current_time(), asked) == (shareds.WITHIN + shareds.REST / 2, [])
    finally:
        may_go.set()


async def test_a_database_that_is_away_is_answered_for_at_once(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    database = Database(f"sqlite:///{path}")
    database.open()
    shared = Shared(database, "p1")
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    assert await shared.use_once(["a"], 60) is None
    lock.close()
    shared.close()


async def test_a_question_that_no_database_takes_is_a_bug_that_keeps_nobody(
    database: Database, quiet: None
) -> None:
    shared = Shared(database, "p1")

    def work(connection: sa.Connection) -> Any:
        return connection.execute(sa.insert(schema.token).values(token_id="a"))

    with structlog.testing.capture_logs() as lines:
        assert await shared._ask(work, 30.0) is None
    assert [line["event"] for line in lines] == [events.RecordsCrashed.NAME]
    assert await shared._ask(lambda connection: "next", 30.0) == "next"


async def test_who_closes_waits_for_questions_that_nobody_waits_for(database: Database) -> None:
    """Else a connection would be left to the garbage collector."""
    shared = Shared(database, "p1")
    may_go, done = threading.Event(), []

    def work(connection: sa.Connection) -> None:
        may_go.wait(WITHIN)
        done.append(connection.execute(sa.select(1)).scalar())

    with trio.move_on_after(0.05):
        await shared._ask(work, WITHIN)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, shared.close)
        may_go.set()
    assert done == [1]
    assert shared._asking == 0

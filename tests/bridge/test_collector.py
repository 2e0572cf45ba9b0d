"""When the garbage collector runs: what is new soon, everything only when nobody hears it."""

import collections
import gc
import itertools
import weakref
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest
import structlog
import trio
import trio.testing
from rig_peers import FakeAgent
from rig_server import talk, world
from rig_webhook import hang_up

from sts_trio import function
from sts_trio.bridge import collector
from sts_trio.bridge.collector import (
    LATE,
    LOTS,
    MAX_UNEXPLAINED,
    NEVER,
    NEW,
    OF_A_CALL,
    PAUSE,
    SHORT,
    SOON,
    Collector,
)
from sts_trio.observe import events
from sts_trio.wire import deepgram


class Loop:
    """Something that only the collector can free."""

    def __init__(self) -> None:
        self.me: Loop | None = self


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that has just looked at everything, and none but its own runs."""
    monkeypatch.setattr(collector, "gc", gc)
    thresholds = gc.get_threshold()
    this = Collector()
    this.start()
    this.note_end(0, 0.0)
    gc.disable()
    yield this
    gc.enable()
    gc.set_threshold(*thresholds)


def old_garbage(started: Collector) -> weakref.ref[Loop]:
    """A cycle that nobody has any more, but somebody had for long."""
    loop = Loop()
    for _ in range(3):
        gc.collect(1)
    return weakref.ref(loop)


def test_what_there_is_at_the_start_is_not_looked_at_again(started: Collector) -> None:
    assert gc.get_freeze_count() > 1000
    assert gc.get_threshold() == (NEW, LOTS, NEVER)


def test_what_is_new_is_looked_at_when_a_call_ends_or_begins(started: Collector) -> None:
    loop = weakref.ref(Loop())
    assert loop() is not None
    started.note_end(1000, 1.0)
    assert loop() is None
    loop = weakref.ref(Loop())
    started.note_begin()
    assert loop() is None


def test_what_a_lot_has_left_is_looked_at_again_some_calls_later(started: Collector) -> None:
    kept = Loop()
    loop = weakref.ref(kept)
    started.note_end(1000, 1.0)
    del kept
    for _ in range(LOTS + 1):
        assert loop() is not None
        started.note_end(1000, 1.0)
    assert loop() is None


def test_lots_stay_small_while_calls_come_and_go(started: Collector) -> None:
    """What old calls give back must not hide what new ones take."""
    objects_of_a_call, live = 600, 100
    looked_at = []

    def look(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            young = range(info["generation"] + 1)
            looked_at.append(sum(len(gc.get_objects(each)) for each in young))

    calls: collections.deque[list[list[int]]] = collections.deque()
    gc.callbacks.append(look)
    gc.enable()
    try:
        for number in range(10 * live):
            started.note_begin()
            calls.append([[] for _ in range(objects_of_a_call)])
            if number % 10 == 9:  # ten come, and then ten go
                while len(calls) > live:
                    calls.popleft()
                    started.note_end(live, number / 20)
    finally:
        gc.callbacks.remove(look)
    assert len(looked_at) > 10 * live
    assert max(looked_at) < 8 * NEW


async def test_what_is_new_is_looked_at_while_calls_stand_and_none_comes_or_goes(
    started: Collector, autojump_clock: trio.testing.MockClock
) -> None:
    """What they give back must not hide what they take."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(started.run)
        started.note_begin()
        for _ in range(3):
            loop = weakref.ref(Loop())
            await trio.sleep(2 * LATE)
            assert loop() is None
        started.note_end(1, trio.current_time())  # one is left
        loop = weakref.ref(Loop())
        await trio.sleep(2 * LATE)
        assert loop() is None
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("takes", "pauses"),
    [(0.0, [SOON, 2 * SOON, 4 * SOON, LATE, LATE]), (SHORT, [SOON] * 5)],
    ids=["short", "long"],
)
async def test_looks_are_rarer_while_they_are_short(
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    takes: float,
    pauses: list[float],
) -> None:
    cpu, looks = 0.0, [trio.current_time()]

    def look() -> None:
        nonlocal cpu
        cpu += takes
        looks.append(trio.current_time())

    this = Collector(lambda: cpu)
    monkeypatch.setattr(collector, "_look_at_new", look)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(this.run)
        this.note_begin()
        looks.pop()
        await trio.sleep(sum(pauses) + SOON / 2)
        nursery.cancel_scope.cancel()
    assert [after - before for before, after in itertools.pairwise(looks)] == pytest.approx(pauses)


async def test_without_a_call_nobody_wakes_up_to_look(
    started: Collector, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(started.run)
        started.note_begin()
        started.note_end(0, trio.current_time())
        await trio.sleep(2 * SOON)
        loop = weakref.ref(Loop())
        await trio.sleep(PAUSE)
        assert loop() is not None
        nursery.cancel_scope.cancel()


def test_everything_is_looked_at_when_there_is_no_call_at_most_once_a_minute(
    started: Collector,
) -> None:
    loop = old_garbage(started)
    started.note_end(1, PAUSE)
    assert loop() is not None
    started.note_end(0, PAUSE + 1)
    assert loop() is not None
    started.note_end(0, 2 * PAUSE)
    assert loop() is None


def test_everything_is_looked_at_when_memory_grew_by_more_than_calls_explain(
    started: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = started._explained
    monkeypatch.setattr("sys.getallocatedblocks", lambda: blocks)
    loop = old_garbage(started)
    live = 800
    with structlog.testing.capture_logs() as logs:
        blocks += live * OF_A_CALL + MAX_UNEXPLAINED
        started.note_end(live, PAUSE)
        assert loop() is not None
        blocks += 1
        started.note_end(live, 2 * PAUSE)
        assert loop() is None
    [line] = logs
    assert line["event"] == events.GarbageCollected.NAME
    assert (line["log_level"], line["live"]) == ("warning", live)
    assert line["objects"] >= 1
    # It is told once: that is what there is now.
    with structlog.testing.capture_logs() as logs:
        started.note_end(live, 3 * PAUSE)
    assert logs == []


async def test_the_app_tells_it_of_each_calls_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops: list[weakref.ref[Loop]] = []

    @function
    async def leave_a_cycle() -> str:
        """Leaves something that only the collector can free."""
        loops.append(weakref.ref(Loop()))
        return "done"

    told: list[int] = []

    def note_end(this: Collector, live: int, now: float) -> None:
        told.append(live)
        noted(this, live, now)

    noted = Collector.note_end
    monkeypatch.setattr(collector.Collector, "note_end", note_end)
    monkeypatch.setattr(collector, "SOON", inf)  # only the call's end looks at what is new
    asked = deepgram.FunctionCallRequest((deepgram.FunctionToCall("fc_1", "leave_a_cycle", "{}"),))
    agent = FakeAgent()
    async with world(tmp_path, agent, functions=[leave_a_cycle]) as here:
        gc.disable()
        try:
            async with here.phone() as phone:
                await talk(here, phone)
                await agent.say(asked, deepgram.Audio(b"\x12" * 160))
                await phone.play_until(lambda audio: audio.endswith(b"\x12" * 160))
                [loop] = loops
                assert loop() is not None
                await hang_up(here, phone)
        finally:
            gc.enable()
    assert told == [0]
    assert loop() is None

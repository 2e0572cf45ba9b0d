"""Who keeps the loop from its other tasks, told by name. In real time: a thread looks."""

import functools
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from rig_peers import STOP
from rig_server import talk, world

from sts_trio.observe import events, watch
from sts_trio.observe.watch import LoopWatch, codes
from sts_trio.wire import deepgram

# So that a busy machine does not end it before its time.
WITHIN = 60.0


@pytest.fixture(autouse=True)
def _as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere nobody is told: tests share their machine with each other."""
    monkeypatch.setattr(watch, "STOOD", 0.1)
    monkeypatch.setattr(watch, "STUCK", math.inf)


class Watched:
    def __init__(self, functions: dict[str, Callable[..., object]]) -> None:
        self.told: list[events.LoopBlocked] = []
        self.told_in: list[str] = []  # which thread
        self.watch = LoopWatch(codes(functions), self.tell)

    def tell(self, event: events.Event) -> None:
        assert isinstance(event, events.LoopBlocked)
        self.told.append(event)
        self.told_in.append(threading.current_thread().name)


@asynccontextmanager
async def watched(**functions: Callable[..., object]) -> AsyncIterator[Watched]:
    this = Watched(functions)
    with trio.fail_after(WITHIN):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(this.watch.run)
            await trio.sleep(0.1)
            yield this
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
        while any(each.name == "loop watch" for each in threading.enumerate()):  # noqa: ASYNC110
            await trio.sleep(0.01)


def _wait_in_the_system() -> None:
    time.sleep(0.4)


def _compute() -> None:
    until = time.thread_time() + 0.4
    while time.thread_time() < until:
        sum(range(1000))


async def book_a_table() -> None:
    await trio.lowlevel.checkpoint()
    _wait_in_the_system()


async def think() -> None:
    await trio.lowlevel.checkpoint()
    _compute()


async def test_it_looks_ten_times_a_second_while_the_loop_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each look takes the processor from the loop."""
    looks = []

    def cpu_of(thread: int) -> float:
        looks.append(time.perf_counter())
        return 0.0

    monkeypatch.setattr(watch, "_cpu_of", cpu_of)
    async with watched():
        await trio.sleep(1.5)
    assert len(looks) >= 3
    assert len(looks) <= 4 + (looks[-1] - looks[0]) / watch.PAUSE


async def test_the_task_and_the_function_that_wait_in_the_system_are_named() -> None:
    async with watched(book=book_a_table) as this, trio.open_nursery() as nursery:
        nursery.start_soon(book_a_table, name="a call's function")
    [event] = this.told
    assert event.seconds >= 0.2
    assert event.task == "a call's function"
    assert event.function == "book"
    assert event.where.startswith("_wait_in_the_system (observe/test_watch.py:")
    assert "_wait_in_the_system" in event.frames
    assert event.frames.endswith(f"{book_a_table.__qualname__} ({_place(event.frames)})")
    assert event.cpu is not None
    assert event.cpu < 0.2
    assert event.goes_on


def _place(frames: str) -> str:
    return frames.rpartition("(")[2].rstrip(")")


async def test_who_computes_for_too_long_is_named_and_what_it_took() -> None:
    async with watched() as this, trio.open_nursery() as nursery:
        began = time.perf_counter()
        nursery.start_soon(think, name="a thinker")
        await trio.sleep(0.1)
        took = time.perf_counter() - began
    if took > 0.8:
        return  # it had but half a processor: what is told then is told below
    [event] = this.told
    assert (event.task, event.function) == ("a thinker", None)
    assert event.cpu is not None
    assert 0.3 <= event.cpu <= took


async def test_of_several_who_had_their_turns_the_one_that_took_longest_is_named() -> None:
    async def short() -> None:
        await trio.lowlevel.checkpoint()
        time.sleep(0.02)  # noqa: ASYNC251

    async with watched() as this, trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(short, name=f"short {number}")
        nursery.start_soon(book_a_table, name="long")
    assert "long" in [event.task for event in this.told]


async def test_a_loop_that_only_waits_stands_for_nobody() -> None:
    async with watched() as this:
        await trio.sleep(0.5)
    assert this.told == []


async def test_a_loop_that_may_never_go_on_is_told_of_before_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "STUCK", 0.2)
    async with watched(book=book_a_table) as this:
        await book_a_table()
    assert [event.goes_on for event in this.told] == [False, True]
    assert this.told_in == ["loop watch", threading.current_thread().name]
    assert this.told[0].function == "book"


async def test_who_had_no_processor_has_kept_nobody_waiting() -> None:
    this = Watched({})
    begun = 10.0, (10.1, 1.0)
    look = watch._Look(*begun, "a task", "here", None, "here", is_running=True)
    this.watch._tell_of([look], 10.5, 1.01, goes_on=True)
    assert this.told == []
    this.watch._tell_of([look], 10.5, 1.4, goes_on=True)
    assert len(this.told) == 1, "and who had one has"
    for is_running in (False, None):
        other = watch._Look(*begun, "a task", "here", None, "here", is_running)
        this.watch._tell_of([look, other], 10.5, 1.01, goes_on=False)
    assert [event.goes_on for event in this.told] == [True, False, False]
    assert {event.seconds for event in this.told} == {0.5}


async def test_a_clock_of_a_test_that_stands_is_no_loop_that_does(
    mock_clock: trio.testing.MockClock,
) -> None:
    this = Watched({})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(this.watch.run)
        await trio.to_thread.run_sync(time.sleep, 0.4)
        nursery.cancel_scope.cancel()
    assert this.told == []


class Callable_:
    async def __call__(self) -> None: ...

    async def method(self) -> None: ...


def test_what_has_code_is_known_by_it_however_it_is_wrapped() -> None:
    @functools.wraps(book_a_table)
    async def wrapped() -> None: ...

    found = codes(
        {
            "plain": think,
            "wrapped": wrapped,
            "method": Callable_().method,
            "partial": functools.partial(book_a_table),
            "object": Callable_(),
        }
    )
    assert found[think.__code__] == "plain"
    assert found[Callable_.method.__code__] == "method"
    assert found[Callable_.__call__.__code__] == "object"
    assert found[book_a_table.__code__] in ("wrapped", "partial")


async def lookup() -> str:
    """Looks something up, and keeps everybody waiting."""
    time.sleep(0.4)  # noqa: ASYNC251
    return "found"


async def test_a_function_of_yours_that_keeps_all_calls_waiting_is_named_in_the_log(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, functions=[lookup]) as here, here.phone() as phone:
        await talk(here, phone)
        asked = deepgram.FunctionToCall("1", "lookup", "{}", client_side=True)
        await here.agent.say(deepgram.FunctionCallRequest((asked,)))

        def blocked() -> list[Any]:
            return [each for each in here.logs if each["event"] == events.LoopBlocked.NAME]

        while not (told := blocked()):  # noqa: ASYNC110
            await trio.sleep(0.01)
        assert told[0]["function"] == "lookup"
        assert told[0]["where"].startswith("lookup (observe/test_watch.py:")
        await phone.tell(STOP)
        await here.until_over()

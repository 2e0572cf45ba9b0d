"""Who goes when there are too many connections that are no calls, and what is said of it."""

import errno
import importlib.util
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from sts_trio.net.hypercorn_guard import descriptors, strangers
from sts_trio.net.hypercorn_guard.descriptors import RESERVE
from sts_trio.net.hypercorn_guard.strangers import FRESH, MAX, SELDOM, NoTracebacks, Strangers
from sts_trio.observe import events

AMPLE = 3


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "limit", lambda: 1024)


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


class Somebody:
    def __init__(self, name: str = "") -> None:
        self.name = name
        self.is_here = True

    def cut_off(self) -> None:
        assert self.is_here
        self.is_here = False

    def retire(self) -> None:
        """The connections' own tests tell what that is."""


def crowd(here: Strangers, count: int, descriptor: int = AMPLE) -> list[Somebody]:
    people = [Somebody(str(number)) for number in range(count)]
    for each in people:
        here.enter(each, descriptor)
    return people


def gone(people: list[Somebody]) -> list[str]:
    return [each.name for each in people if not each.is_here]


async def test_up_to_the_cap_nobody_goes(autojump_clock: trio.testing.MockClock) -> None:
    here = Strangers()
    people = crowd(here, MAX)
    await trio.sleep(60)
    assert gone(people) == []
    assert len(here) == MAX


async def test_above_it_the_one_that_has_waited_longest_goes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here = Strangers()
    people = crowd(here, MAX)
    await trio.sleep(60)
    here.turn(people[0], is_peers=True)  # it has had an answer, and may ask again
    here.turn(people[1], is_peers=False)  # its answer is being made
    crowd(here, 2)
    assert gone(people) == ["2", "3"]
    assert len(here) == MAX


async def test_who_has_only_just_come_may_stay(autojump_clock: trio.testing.MockClock) -> None:
    """A thousand calls may begin in the same second."""
    here = Strangers()
    people = crowd(here, 1000)
    assert gone(people) == []
    await trio.sleep(FRESH)
    crowd(here, 1)
    assert gone(people) == ["0"]


async def test_whose_answer_is_being_made_may_stay(autojump_clock: trio.testing.MockClock) -> None:
    here = Strangers()
    people = crowd(here, MAX)
    for each in people:
        here.turn(each, is_peers=False)
    await trio.sleep(60)
    crowd(here, 1)
    assert gone(people) == []


async def test_who_has_become_a_call_is_none_of_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here = Strangers()
    people = crowd(here, MAX)
    for each in people:
        here.leave(each)
        here.turn(each, is_peers=True)
        here.leave(each)
    await trio.sleep(60)
    assert len(here) == 0
    crowd(here, MAX)
    assert gone(people) == []


async def test_near_the_last_descriptor_each_that_comes_ends_two(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """One for itself, and one for the agent of the call that it may become."""
    here = Strangers()
    people = crowd(here, 10, 1024 - RESERVE - 1)
    assert gone(people) == []
    crowd(here, 1, 1024 - RESERVE)
    assert gone(people) == ["0", "1"]
    crowd(here, 1, 1023)
    assert gone(people) == ["0", "1", "2", "3"]


async def test_who_is_being_answered_goes_last_of_all(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The reserve is for them, too. Only where not even that is left, the oldest one goes."""
    here = Strangers()
    people = crowd(here, 4)
    for each in people[:3]:
        here.turn(each, is_peers=False)
    newcomers = crowd(here, 1, 1023)
    assert gone(people) == ["3"]
    assert gone(newcomers) == []
    here.make_room()
    assert gone(newcomers) == ["0"]
    assert gone(people) == ["0", "3"]


async def test_where_there_are_only_calls_who_comes_is_let_in(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here = Strangers()
    (people,) = crowd(here, 1, 1023)
    assert people.is_here


async def test_all_of_it_is_told_in_one_line_a_minute(
    autojump_clock: trio.testing.MockClock, log: list[Any]
) -> None:
    here = Strangers()
    crowd(here, 100)
    crowd(here, 20, 1023)
    assert log == [
        {
            "event": events.ConnectionsEvicted.NAME,
            "log_level": "warning",
            "reason": "the process has few descriptors left",
            "ended": 2,
            "left": 98,
            "descriptors": 1024,
        }
    ]
    await trio.sleep(SELDOM)
    crowd(here, 1, 1023)
    assert log[1]["ended"] == 40
    assert len(log) == 2


async def test_when_there_is_no_descriptor_at_all_there_is_no_traceback(
    autojump_clock: trio.testing.MockClock,
    log: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Trio's accept loop says so ten times a second."""

    class Full(trio.abc.Listener[trio.abc.Stream]):
        async def accept(self) -> trio.abc.Stream:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        async def aclose(self) -> None:
            pass

    logger = logging.getLogger("trio.serve_listeners")
    filters = NoTracebacks()
    logger.addFilter(filters)
    try:
        people = crowd(Strangers.of_this_run(), 100)
        with trio.move_on_after(0.95):
            await trio.serve_listeners(trio.aclose_forcefully, [Full()])
    finally:
        logger.removeFilter(filters)
    assert caplog.records == []
    assert len(log) == 1
    assert gone(people) == [str(number) for number in range(20)]


async def test_what_else_trio_has_to_say_is_said(caplog: pytest.LogCaptureFixture) -> None:
    record = logging.LogRecord("trio", logging.ERROR, "", 0, "something else", (), None)
    assert NoTracebacks().filter(record)


async def test_a_run_has_strangers_of_its_own() -> None:
    assert Strangers.of_this_run() is Strangers.of_this_run()

    async def elsewhere() -> Strangers:
        return Strangers.of_this_run()

    assert await trio.to_thread.run_sync(trio.run, elsewhere) is not Strangers.of_this_run()


# --- descriptors ----------------------------------------------------------------------------------


def test_a_descriptor_is_scarce_when_only_the_reserve_is_left() -> None:
    assert not descriptors.are_scarce(1024 - RESERVE - 1)
    assert descriptors.are_scarce(1024 - RESERVE)


@pytest.mark.parametrize(("calls", "is_enough"), [(412, True), (413, False)])
def test_too_few_for_the_calls_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, log: list[Any], calls: int, is_enough: bool
) -> None:
    descriptors.raise_limit(calls)
    assert [line["event"] for line in log] == ([] if is_enough else [events.DescriptorsTooFew.NAME])


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[int, int]]]:
    """A system with that hard limit, which it says or does not keep; returns what has been set."""

    def system(hard: int, most: float) -> list[tuple[int, int]]:
        have = [(256, hard)]

        def set_limits(wanted: tuple[int, int]) -> None:
            if not 0 <= wanted[0] <= most:
                raise ValueError("not allowed")
            have.append(wanted)

        monkeypatch.setattr(descriptors, "limits", lambda: have[-1])
        monkeypatch.setattr(descriptors, "set_limits", set_limits)
        return have

    return system


@pytest.mark.parametrize(
    ("hard", "most", "soft"),
    [(4096, 4096, 4096), (-1, 10_240, 10_240), (4096, 100, 256)],
    ids=["what is allowed", "macOS", "nothing is allowed"],
)
def test_the_limit_is_raised_as_far_as_the_system_has_it(
    limits: Callable[..., list[tuple[int, int]]], hard: int, most: int, soft: int
) -> None:
    have = limits(hard, most)
    descriptors.raise_limit(1)
    assert have[-1] == (soft, hard)


def test_a_system_without_limits_has_none_to_be_raised(
    monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    monkeypatch.setattr(descriptors, "resource", None)
    monkeypatch.setattr(descriptors, "limit", lambda: math.inf)
    descriptors.raise_limit(10**6)
    descriptors.set_limits((1, 1))
    descriptors.set_limits(None)
    assert descriptors.limits() is None
    assert log == []


def test_on_windows_nothing_is_known_of_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    spec = importlib.util.spec_from_file_location("as_on_windows", descriptors.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.limits() is None
    assert module.limit() == math.inf
    assert not module.are_scarce(10**9)


def test_strangers_are_few_enough_for_a_small_machine() -> None:
    assert strangers.MAX * 210 < 64 * 1024  # KiB: the most that one is known to keep

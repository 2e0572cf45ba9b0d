"""So many sessions with agents at once, and no more: in one process, and in several."""

from typing import Any

import pytest
import trio
import trio.testing

from sts_trio.agents.sessions import LOOK_EVERY, TELL_AGAIN, AgentSessions
from sts_trio.errors import AgentUnreachable

Clock = trio.testing.MockClock
ALONE: Any = lambda: None  # noqa: E731


class Others:
    """A database in which other processes have so many."""

    def __init__(self, theirs: int = 0) -> None:
        self.theirs = theirs
        self.told: list[int] = []
        self.is_away = False

    async def take_sessions(self, count: int, most: int) -> bool | None:
        await trio.lowlevel.checkpoint()
        return None if self.is_away else self.theirs + count <= most

    async def tell_sessions(self, count: int) -> bool:
        await trio.lowlevel.checkpoint()
        if not self.is_away:
            self.told.append(count)
        return not self.is_away


def among(others: Others, most: int) -> AgentSessions:
    shared: Any = others
    return AgentSessions(most, lambda: shared)


async def test_without_a_limit_nobody_counts(autojump_clock: Clock) -> None:
    sessions = AgentSessions(None, ALONE)
    async with sessions.one(0), sessions.one(0):
        assert sessions.open == 0


async def test_one_more_than_there_are_is_refused_at_once_or_waits(autojump_clock: Clock) -> None:
    sessions = AgentSessions(1, ALONE)
    async with sessions.one(0):
        for within in (0.0, 3.0):
            began = trio.current_time()
            with pytest.raises(AgentUnreachable, match="all 1 sessions with agents are taken"):
                async with sessions.one(within):
                    pytest.fail("it was taken")
            assert trio.current_time() == began + within
    async with sessions.one(0):
        assert sessions.open == 1
    assert sessions.open == 0


async def test_who_waits_has_the_next_that_is_given_back(autojump_clock: Clock) -> None:
    sessions = AgentSessions(2, ALONE)
    most = 0

    async def call() -> None:
        nonlocal most
        async with sessions.one(60):
            most = max(most, sessions.open)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(call)
    assert most == 2
    assert trio.current_time() < 5 * (1 + 1.5 * LOOK_EVERY)


async def test_what_others_have_counts(autojump_clock: Clock) -> None:
    others = Others(theirs=1)
    sessions = among(others, 2)
    async with sessions.one(0):
        with pytest.raises(AgentUnreachable):
            async with sessions.one(0):
                pytest.fail("it was taken")
        others.theirs = 0
        async with sessions.one(0):
            assert sessions.open == 2


async def test_others_are_told_of_what_is_given_back_once_they_can_be(
    autojump_clock: Clock,
) -> None:
    others = Others()
    sessions = among(others, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sessions.run)
        others.is_away = True
        async with sessions.one(0):
            assert sessions.open == 1
            # They do not know of it, and it is the same number that holds for us alone.
            async with sessions.one(0):
                with pytest.raises(AgentUnreachable):
                    async with sessions.one(0):
                        pytest.fail("it was taken")
        await trio.sleep(TELL_AGAIN)
        others.is_away = False
        await trio.sleep(2 * TELL_AGAIN)
        assert others.told == [0]
        nursery.cancel_scope.cancel()


async def test_who_is_cancelled_while_it_asks_has_none(autojump_clock: Clock) -> None:
    class Slow(Others):
        async def take_sessions(self, count: int, most: int) -> bool | None:
            await trio.sleep(10)
            return True

    sessions = among(Slow(), 2)
    with trio.move_on_after(1):
        async with sessions.one(60):
            pytest.fail("it was taken")
    assert sessions.open == 0

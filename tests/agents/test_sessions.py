"""So many sessions with agents at once, and no more: in one process, and in several."""

import contextlib
import itertools
from collections.abc import AsyncIterator
from math import inf
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from sts_trio.agents.sessions import APART, LOOK_EVERY, REST, TELL_AGAIN, AgentSessions
from sts_trio.errors import AgentRejected, AgentUnreachable
from sts_trio.observe import events

Clock = trio.testing.MockClock
ALONE: Any = lambda: None  # noqa: E731


class Others:
    """A database in which other processes have so many, or for `rest` nobody is to dial."""

    def __init__(self, theirs: int = 0) -> None:
        self.theirs = theirs
        self.told: list[int] = []
        self.rests: list[float] = []  # that they were told of
        self.rest_until = -inf
        self.is_away = False

    async def take_sessions(self, count: int, most: int) -> float | None:
        await trio.lowlevel.checkpoint()
        if self.is_away:
            return None
        if (rest := self.rest_until - trio.current_time()) > 0:
            return rest
        return 0.0 if self.theirs + count <= most else inf

    async def tell_sessions(self, count: int, rest: float) -> bool:
        await trio.lowlevel.checkpoint()
        if not self.is_away:
            self.told.append(count)
            self.rests += [rest] if rest else []
        return not self.is_away


class Vendor:
    """Grants so many sessions, and refuses all others."""

    def __init__(self, most: int, status: int = 429) -> None:
        self.most = most
        self.open = 0
        self.dials: list[float] = []
        self.refused: list[float] = []
        self._status = status

    @contextlib.asynccontextmanager
    async def dial(self) -> AsyncIterator[str]:
        self.dials.append(trio.current_time())
        await trio.sleep(0.1)
        if self.open >= self.most:
            self.refused.append(trio.current_time())
            raise AgentRejected(self._status, "")
        self.open += 1
        try:
            yield "a leg"
        finally:
            self.open -= 1


@contextlib.asynccontextmanager
async def at_once() -> AsyncIterator[None]:
    yield


def among(others: Others, most: int) -> AgentSessions:
    shared: Any = others
    return AgentSessions(most, lambda: shared)


async def test_without_a_limit_there_are_as_many_as_are_wanted(autojump_clock: Clock) -> None:
    sessions = AgentSessions(None, ALONE)
    async with sessions.dialled(at_once, 0), sessions.dialled(at_once, 0):
        assert sessions.open == 2


async def test_one_more_than_there_are_is_refused_at_once_or_waits(autojump_clock: Clock) -> None:
    sessions = AgentSessions(1, ALONE)
    async with sessions.dialled(at_once, 0):
        for within in (0.0, 3.0):
            began = trio.current_time()
            with pytest.raises(AgentUnreachable, match="all 1 sessions with agents are taken"):
                async with sessions.dialled(at_once, within):
                    pytest.fail("it was taken")
            assert trio.current_time() == began + within
    async with sessions.dialled(at_once, 0):
        assert sessions.open == 1
    assert sessions.open == 0


async def test_who_waits_has_the_next_that_is_given_back(autojump_clock: Clock) -> None:
    sessions = AgentSessions(2, ALONE)
    most = 0

    async def call() -> None:
        nonlocal most
        async with sessions.dialled(at_once, 60):
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
    async with sessions.dialled(at_once, 0):
        with pytest.raises(AgentUnreachable):
            async with sessions.dialled(at_once, 0):
                pytest.fail("it was taken")
        others.theirs = 0
        async with sessions.dialled(at_once, 0):
            assert sessions.open == 2


async def test_others_are_told_of_what_is_given_back_once_they_can_be(
    autojump_clock: Clock,
) -> None:
    others = Others()
    sessions = among(others, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sessions.run)
        others.is_away = True
        async with sessions.dialled(at_once, 0):
            assert sessions.open == 1
            # They do not know of it, and it is the same number that holds for us alone.
            async with sessions.dialled(at_once, 0):
                with pytest.raises(AgentUnreachable):
                    async with sessions.dialled(at_once, 0):
                        pytest.fail("it was taken")
        await trio.sleep(TELL_AGAIN)
        others.is_away = False
        await trio.sleep(2 * TELL_AGAIN)
        assert others.told == [0]
        nursery.cancel_scope.cancel()


async def test_who_is_cancelled_while_it_asks_has_none(autojump_clock: Clock) -> None:
    class Slow(Others):
        async def take_sessions(self, count: int, most: int) -> float | None:
            await trio.sleep(10)
            return 0.0

    sessions = among(Slow(), 2)
    with trio.move_on_after(1):
        async with sessions.dialled(at_once, 60):
            pytest.fail("it was taken")
    assert sessions.open == 0


# --- the vendor refuses ---------------------------------------------------------------------------


@pytest.mark.parametrize("most", [None, 500])
async def test_a_herd_has_all_sessions_of_an_account_that_has_few_and_bothers_it_little(
    most: int | None, autojump_clock: Clock
) -> None:
    """Whatever number is configured. Some give theirs back, and others have waited for these."""
    vendor = Vendor(10)
    sessions = AgentSessions(most, ALONE)
    served = []

    async def call(number: int) -> None:
        await trio.sleep(number * 0.05)
        with contextlib.suppress(AgentUnreachable):
            async with sessions.dialled(vendor.dial, 30):
                served.append(trio.current_time())
                await trio.sleep(5)

    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(call, number)
    # Those that dialled at once, and then whenever others had ended: 10 in 5 s, or nearly.
    assert len(served) >= 50
    assert len(vendor.refused) <= 2 * 35
    assert all(vendor.dials.count(at) == 1 for at in vendor.dials if at > 4)
    assert sessions.open == 0


async def test_who_is_refused_waits_and_has_a_session_once_there_is_one(
    autojump_clock: Clock,
) -> None:
    vendor = Vendor(0)
    sessions = AgentSessions(2, ALONE)

    async def grant() -> None:
        await trio.sleep(2)  # behind the second, whenever that is asked for
        vendor.most = 1

    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(grant)
            async with sessions.dialled(vendor.dial, 4.5) as leg:
                assert leg == "a leg"
                assert trio.current_time() < 4.5
    assert len(vendor.refused) == 2
    # Told once, for all of them.
    assert [line["event"] for line in logs] == [events.AgentSessionsRefused.NAME]


async def test_who_cannot_wait_is_told_what_the_vendor_says(autojump_clock: Clock) -> None:
    vendor = Vendor(0)
    sessions = AgentSessions(None, ALONE)
    for within in (0.0, 2.5):
        began = trio.current_time()
        with pytest.raises(AgentUnreachable, match="429"):
            async with sessions.dialled(vendor.dial, within):
                pytest.fail("there are none")
        assert trio.current_time() <= began + within + 0.2


async def test_all_of_the_fleet_hold_back_when_one_is_refused(autojump_clock: Clock) -> None:
    vendor, others = Vendor(0), Others()
    sessions = among(others, 5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sessions.run)
        with pytest.raises(AgentRejected):
            async with sessions.dialled(vendor.dial, 0):
                pytest.fail("there are none")
        await trio.sleep(0.01)
        assert others.rests == [pytest.approx(REST, abs=0.05)]
        nursery.cancel_scope.cancel()
    # Another one, that reads of it.
    others.rest_until = trio.current_time() + 2
    another, vendor = among(others, 5), Vendor(5)
    with pytest.raises(AgentUnreachable, match="refuses more sessions"):
        async with another.dialled(vendor.dial, 0):
            pytest.fail("it dialled")
    began = trio.current_time()
    legs = []

    async def call() -> None:
        async with another.dialled(vendor.dial, 10):
            legs.append(trio.current_time())
            await trio.sleep(60)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(call)
    assert min(legs) >= began + 2
    # One after the other.
    assert all(later - earlier >= APART for earlier, later in itertools.pairwise(vendor.dials))


async def test_what_one_has_read_of_a_refusal_it_does_not_tell_again(
    autojump_clock: Clock,
) -> None:
    """Else each would be made to rest by the others, who have it from there, for ever."""
    others = Others()
    sessions = among(others, 5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sessions.run)
        async with sessions.dialled(at_once, 0):
            others.rest_until = trio.current_time() + 2
            with pytest.raises(AgentUnreachable, match="refuses more sessions"):
                async with sessions.dialled(at_once, 0):
                    pytest.fail("it dialled")
        await trio.sleep(0.01)
        assert others.told == [0]
        assert others.rests == []
        nursery.cancel_scope.cancel()


async def test_a_refusal_is_told_once(autojump_clock: Clock) -> None:
    vendor, others = Vendor(1), Others()
    sessions = among(others, 5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sessions.run)
        async with sessions.dialled(vendor.dial, 0):
            with pytest.raises(AgentRejected):
                async with sessions.dialled(vendor.dial, 0):
                    pytest.fail("there is one alone")
            await trio.sleep(0.01)
        await trio.sleep(0.01)
        assert len(others.told) == 2
        assert len(others.rests) == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("after", [9.95, 10.1])
async def test_who_is_to_wait_for_the_dial_of_another_is_told_why(
    after: float, autojump_clock: Clock
) -> None:
    """The last of those that wait for each other is behind the time in which they do."""
    vendor = Vendor(0)
    sessions = AgentSessions(None, ALONE)
    with pytest.raises(AgentRejected):
        async with sessions.dialled(vendor.dial, 0):
            pytest.fail("there are none")
    refused_at = trio.current_time()
    await trio.sleep_until(refused_at + 9.95)
    async with sessions.dialled(at_once, 0):
        await trio.sleep_until(refused_at + after)
        with pytest.raises(AgentUnreachable, match="429"):
            async with sessions.dialled(at_once, 0):
                pytest.fail("it dialled")


@pytest.mark.parametrize("status", [401, 500])
async def test_any_other_refusal_holds_nobody_back(status: int, autojump_clock: Clock) -> None:
    vendor = Vendor(0, status)
    sessions = AgentSessions(5, ALONE)
    with pytest.raises(AgentRejected):
        async with sessions.dialled(vendor.dial, 4):
            pytest.fail("there are none")
    vendor.most = 1
    async with sessions.dialled(vendor.dial, 0):
        assert trio.current_time() == pytest.approx(0.2)


async def test_a_refusal_of_something_else_while_a_leg_is_open_is_none_of_ours(
    autojump_clock: Clock,
) -> None:
    sessions = AgentSessions(5, ALONE)
    with pytest.raises(AgentRejected):
        async with sessions.dialled(at_once, 4):
            raise AgentRejected(429, "")
    async with sessions.dialled(at_once, 0):
        assert trio.current_time() == 0

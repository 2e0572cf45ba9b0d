"""Everybody is asked in turn, by one task."""

import contextlib
from collections.abc import AsyncIterator

import trio
import trio.testing

from sts_trio.net.rounds import Rounds

Clock = trio.testing.MockClock
EVERY = 10.0


class Asked:
    def __init__(self, rounds: Rounds) -> None:
        self.at: list[float] = []
        rounds.join(self.ask)

    def ask(self) -> None:
        self.at.append(trio.current_time())


@contextlib.asynccontextmanager
async def going_round() -> AsyncIterator[Rounds]:
    rounds = Rounds(EVERY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rounds.run)
        yield rounds
        nursery.cancel_scope.cancel()


async def test_each_is_asked_by_their_own_time(autojump_clock: Clock) -> None:
    async with going_round() as rounds:
        await trio.sleep(100)  # nobody is there, and nothing comes of it
        one = Asked(rounds)
        await trio.sleep(4)
        other = Asked(rounds)
        await trio.sleep(27)
        assert one.at == [110, 120, 130]
        assert other.at == [114, 124]


async def test_who_leaves_is_asked_no_more_and_may_leave_again(autojump_clock: Clock) -> None:
    async with going_round() as rounds:
        one, other = Asked(rounds), Asked(rounds)
        await trio.sleep(15)
        rounds.leave(one.ask)
        rounds.leave(one.ask)
        await trio.sleep(10)
        rounds.leave(other.ask)
        await trio.sleep(30)
        assert (one.at, other.at) == ([10], [10, 20])
        late = Asked(rounds)
        await trio.sleep(11)
        assert late.at == [65]


async def test_who_is_ended_by_another_of_the_same_moment_is_not_asked(
    autojump_clock: Clock,
) -> None:
    async with going_round() as rounds:
        later: list[Asked] = []

        def end() -> None:
            rounds.leave(later[0].ask)

        rounds.join(end)
        later.append(Asked(rounds))
        await trio.sleep(25)
        assert later[0].at == []


async def test_whom_a_stall_has_made_late_is_asked_once(autojump_clock: Clock) -> None:
    async with going_round() as rounds:
        one = Asked(rounds)
        await trio.testing.wait_all_tasks_blocked()
        autojump_clock.jump(35)
        await trio.sleep(9)
        assert one.at == [35]
        await trio.sleep(2)
        assert one.at == [35, 45]

"""The tick on the virtual clock: who gets a turn when, whatever the others do."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
import strategies  # noqa: F401  its profile: no deadline for one example
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from rig_adopted import Line, mark, told
from rig_frames import frame

from sts_trio.legs.caller_adopted import RECEIVE
from sts_trio.net.poller import Poller
from sts_trio.net.ticker import (
    LATE,
    LONGEST_PERIOD,
    SHORTEST_PERIOD,
    TURNS_AT_ONCE,
    Ticker,
    period_for,
)
from sts_trio.wire.frames import PING, TEXT
from sts_trio.wire.twilio import Outbound, PlayMedia

# Of the time between two turns: sums of floats.
SLIGHTLY = 1e-6


class Player:
    """One call's turns: the times they were taken at."""

    def __init__(self) -> None:
        self.turns: list[float] = []

    def turn(self, now: float) -> None:
        assert now == pytest.approx(trio.current_time(), abs=1e-9)
        self.turns.append(now)

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in itertools.pairwise(self.turns)]


@contextlib.asynccontextmanager
async def a_ticker() -> AsyncIterator[Ticker]:
    ticker = Ticker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticker.run)
        yield ticker
        nursery.cancel_scope.cancel()


@contextlib.contextmanager
def playing(ticker: Ticker, count: int) -> Iterator[list[Player]]:
    with contextlib.ExitStack() as stack:
        players = [Player() for _ in range(count)]
        for player in players:
            stack.enter_context(ticker.registered(player.turn))
        yield players


@pytest.mark.parametrize(
    ("calls", "period"),
    [(1, 0.02), (20, 0.02), (74, 0.02), (100, 0.027), (125, 0.0635), (150, 0.1), (1000, 0.1)],
)
async def test_every_call_gets_its_turn_once_a_period_which_follows_the_load(
    calls: int, period: float, autojump_clock: trio.testing.MockClock
) -> None:
    async with a_ticker() as ticker:
        with playing(ticker, calls) as players:
            assert ticker.period == pytest.approx(period)
            await trio.sleep(20.5 * period)
            step = period / -(-calls // TURNS_AT_ONCE)
            for player in players:
                assert 19 <= len(player.turns) <= 21
                assert player.turns[0] <= period + step + SLIGHTLY
                for gap in player.gaps:
                    assert gap == pytest.approx(period, abs=(0 if step == period else step) + 1e-6)
            assert sum(len(player.turns) for player in players) == pytest.approx(
                20 * calls, abs=calls
            )


@given(st.integers(0, 1000))
def test_the_period_stays_between_one_frame_of_twilios_and_what_nobody_hears(calls: int) -> None:
    async def count() -> float:
        ticker = Ticker()
        with playing(ticker, calls):
            return ticker.period

    period = trio.run(count)
    assert SHORTEST_PERIOD == 0.02 <= period <= LONGEST_PERIOD == 0.1
    assert period <= period_for(calls + 1)
    if calls <= 100:
        assert period <= 0.027


def test_a_call_may_weigh_as_much_as_several() -> None:
    async def count(calls: int, weight: int) -> float:
        ticker = Ticker(weight=weight)
        with playing(ticker, calls):
            return ticker.period

    assert [trio.run(count, calls, 2) for calls in (37, 50, 75)] == [0.02, 0.027, 0.1]


async def test_many_calls_take_their_turns_evenly_spread_over_the_period(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_ticker() as ticker:
        with playing(ticker, 1000) as players:
            await trio.sleep(1)
            times = [time for player in players for time in player.turns]
        for _, turns in itertools.groupby(sorted(times)):
            assert TURNS_AT_ONCE - 5 <= len(list(turns)) <= TURNS_AT_ONCE


async def test_nobody_gets_a_second_turn_before_everybody_had_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    order: list[int] = []
    async with a_ticker() as ticker:
        with contextlib.ExitStack() as stack:
            for number in range(200):
                stack.enter_context(
                    ticker.registered(lambda now, number=number: order.append(number))  # type: ignore[misc]
                )
            await trio.sleep(1)
    assert len(order) >= 1800
    assert order == [position % 200 for position in range(len(order))]


async def test_who_joins_gets_a_first_turn_within_a_period_and_takes_nobodys(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_ticker() as ticker:
        with playing(ticker, 40) as early:
            await trio.sleep(0.111)
            joined = trio.current_time()
            with playing(ticker, 20) as late:
                await trio.sleep(0.2)
        for player in late:
            assert joined < player.turns[0] <= joined + 0.02 + SLIGHTLY
        for player in [*early, *late]:
            assert player.gaps == pytest.approx([0.02] * len(player.gaps), abs=SLIGHTLY)


async def test_who_leaves_gets_no_more_turns_and_takes_nobodys(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_ticker() as ticker:
        with playing(ticker, 125) as staying:
            with playing(ticker, 125) as leaving:
                await trio.sleep(0.517)
            left = trio.current_time()
            before = [len(player.turns) for player in leaving]
            await trio.sleep(0.5)
        assert [len(player.turns) for player in leaving] == before
        for player in staying:
            # From 250 calls to 125 the period shrinks by a third; a turn that was near goes by the
            # new one.
            after = [time for time in player.turns if time > left]
            assert after[0] <= left + 0.1 + SLIGHTLY
            assert len(after) >= 7
            assert max(player.gaps) <= 0.1 + 0.1 / 3 + SLIGHTLY


async def test_a_call_that_leaves_and_comes_back_within_a_beat_is_due_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    player = Player()
    async with a_ticker() as ticker:
        for _ in range(100):
            with ticker.registered(player.turn):
                await trio.sleep(0.001)
        with ticker.registered(player.turn):
            await trio.sleep(0.05)
    assert 2 <= len(player.turns) <= 8


async def test_a_call_that_comes_and_goes_between_two_steps_of_the_beat_is_no_harm(
    autojump_clock: trio.testing.MockClock,
) -> None:
    player = Player()
    async with a_ticker() as ticker:
        await trio.testing.wait_all_tasks_blocked()
        with ticker.registered(player.turn):
            pass
        await trio.testing.wait_all_tasks_blocked()
        assert player.turns == []
        with ticker.registered(player.turn):
            await trio.sleep(0.05)
    assert player.turns == pytest.approx([0.02, 0.04])


async def test_without_calls_there_is_no_beat(autojump_clock: trio.testing.MockClock) -> None:
    async with a_ticker() as ticker:
        await trio.sleep(1000)
        assert ticker.stats.ticks == 0
        with playing(ticker, 1) as [player]:
            await trio.sleep(0.11)
        assert len(player.turns) == 5
        ticks = ticker.stats.ticks
        await trio.sleep(1000)
        assert ticker.stats.ticks <= ticks + 1
        with playing(ticker, 1) as [player]:
            await trio.sleep(0.11)
        # The thousand seconds without anybody are no lateness, and nothing is made up for.
        assert player.gaps == pytest.approx([0.02] * 4)
        assert ticker.stats.late == 0
        assert ticker.stats.worst == pytest.approx(0, abs=SLIGHTLY)


async def test_a_beat_that_is_kept_is_not_late(autojump_clock: trio.testing.MockClock) -> None:
    async with a_ticker() as ticker:
        with playing(ticker, 10):
            await trio.sleep(1.01)
        assert ticker.stats.ticks == 50
        assert ticker.stats.late == 0


async def test_a_stall_makes_everyone_due_once_and_is_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_ticker() as ticker:
        with playing(ticker, 10) as players:
            await trio.sleep(0.11)
            before = [len(player.turns) for player in players]
            autojump_clock.jump(3)  # the process was elsewhere
            await trio.sleep(0.001)
            assert [len(player.turns) for player in players] == [n + 1 for n in before]
            await trio.sleep(0.1)
            assert [len(player.turns) for player in players] == [n + 6 for n in before]
        assert ticker.stats.late == 1
        assert ticker.stats.worst == pytest.approx(2.99, abs=0.011)


@pytest.mark.parametrize("calls", [10, 500])
async def test_a_call_whose_turn_takes_long_costs_the_others_that_time_and_no_turn(
    calls: int, autojump_clock: trio.testing.MockClock
) -> None:
    """A turn of 50 ms, once: the others' come that much later, in order, and go on as before."""
    stalls = iter([0.05])
    async with a_ticker() as ticker:
        with (
            playing(ticker, calls) as players,
            ticker.registered(lambda now: autojump_clock.jump(next(stalls, 0))),
        ):
            period = ticker.period
            await trio.sleep(10 * period + 0.05)
        for player in players:
            assert 8 <= len(player.turns) <= 11
            # Late by the stall, and then early by it: the tick goes on from where it is.
            assert max(player.gaps) <= 2 * period + 0.05 + SLIGHTLY
        assert ticker.stats.late == 1
        assert LATE < ticker.stats.worst <= 0.05


# --- with real legs: one bad call, and the tick of the others -----------------------------------


class Good:
    """A call that says something every tick, and the times it was said and heard at."""

    def __init__(self, ticker: Ticker) -> None:
        self.line = Line(ticker)
        self.line.on_hear = self._hear
        self.said: list[float] = []
        self.heard: list[float] = []

    def _hear(self, batch: Sequence[Any]) -> None:
        self.heard += [trio.current_time()] * len(batch)

    async def talk(self) -> None:
        for number in range(100):
            self.said.append(trio.current_time())
            self.line.say(told(mark(number)))
            await trio.sleep(SHORTEST_PERIOD)

    @property
    def waits(self) -> list[float]:
        return [heard - said for said, heard in zip(self.said, self.heard, strict=True)]


class Bad:
    def __init__(self, ticker: Ticker) -> None:
        self.line = Line(ticker, small=True)
        self.bug: Exception | None = None

    async def listen(self) -> None:
        try:
            await self.line.listen()
        except ZeroDivisionError as exc:
            self.bug = exc

    async def behave(self, how: str, clock: trio.testing.MockClock) -> None:
        line = self.line
        await trio.sleep(0.5)
        match how:
            case "raises":
                line.on_hear = _raise
                line.say(told(mark(0)))
            case "stalls":
                stalls = iter([STALL])
                line.on_hear = lambda batch: clock.jump(next(stalls, 0))
                line.say(told(mark(0)))
            case "floods":
                await line.say_much(told(*[mark("x" * 100)]) * 100_000)
            case "floods with pings":
                await line.say_much(frame(PING) * 1_000_000)
            case "floods with garbage":
                await line.say_much(frame(TEXT, length=b"\x7f" + (1 << 40).to_bytes(8)))
                await line.say_much(bytes(10_000_000))
            case "does not read":
                while line.leg.try_send(PlayMedia("MZ1", Outbound(bytes(160)))):
                    pass
                await line.leg.send(PlayMedia("MZ1", Outbound(bytes(160))))
            case "breaks the protocol":
                line.say(frame(TEXT, b"x", mask=None))
            case "is lost":
                line.socket.close()
            case "says nothing":
                pass


def _raise(batch: object) -> None:
    raise ZeroDivisionError("a bug in the dialogue")


STALL = 0.3
BAD = [
    "raises",
    "stalls",
    "floods",
    "floods with pings",
    "floods with garbage",
    "does not read",
    "breaks the protocol",
    "is lost",
    "says nothing",
]


@pytest.mark.parametrize("how", BAD)
async def test_one_bad_call_never_disturbs_the_beat_of_the_others(
    how: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with a_ticker() as ticker:
        bad = Bad(ticker)
        # Around it: some take their turns before it, some after.
        before = [Good(ticker) for _ in range(3)]
        after = [Good(ticker) for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for listen in (
                *(good.line.listen for good in before),
                bad.listen,
                *(good.line.listen for good in after),
            ):
                nursery.start_soon(listen)
                await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(SHORTEST_PERIOD / 4)
            nursery.start_soon(bad.behave, how, autojump_clock)
            async with trio.open_nursery() as talking:
                for good in (*before, *after):
                    talking.start_soon(good.talk)
            nursery.cancel_scope.cancel()

        for good in (*before, *after):
            assert good.line.heard == [mark(number) for number in range(100)]
            gaps = [b - a for a, b in itertools.pairwise(good.line.bridge.read_at)]
            late = sum(gap > SHORTEST_PERIOD + SLIGHTLY for gap in gaps)
            if how == "stalls":
                # What the process cannot do in that time, is done right behind it.
                assert late == 1
                assert max(good.waits) <= STALL + SHORTEST_PERIOD + SLIGHTLY
            else:
                assert late == 0
                assert max(good.waits) <= SHORTEST_PERIOD + SLIGHTLY
            good.line.close()
        assert ticker.stats.late == (how == "stalls")
        # The bad one: what it may do in a tick is bounded.
        assert (bad.bug is not None) == (how == "raises")
        assert (
            max(map(len, bad.line.batches), default=0) <= RECEIVE // len(told(mark("x" * 100))) + 1
        )
        if how in ("raises", "breaks the protocol", "is lost"):
            assert bad.line.bridge.read_at[-1] <= 0.5 + 3 * SHORTEST_PERIOD
        bad.line.close()


async def test_cancelled_the_beat_ends_and_the_turns_do(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ticker = Ticker()
    with playing(ticker, 3) as players:
        with trio.move_on_after(0.1):
            await ticker.run()
        await trio.sleep(1)
    assert max(player.turns[-1] for player in players) <= 0.1


class Words(Poller):
    """A poller, and the times it looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.polls: list[float] = []

    def poll(self) -> None:
        self.polls.append(trio.current_time())


@pytest.mark.parametrize("calls", [1, 100, 400])
async def test_agents_are_heard_before_the_callers_take_their_turns(
    calls: int, autojump_clock: trio.testing.MockClock
) -> None:
    words = Words()
    ticker = Ticker(words)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticker.run)
        polled_before: list[bool] = []

        def turn(now: float) -> None:
            polled_before.append(bool(words.polls) and words.polls[-1] == trio.current_time())

        with playing(ticker, calls - 1), ticker.registered(turn):
            await trio.sleep(1.001)
        assert polled_before
        assert all(polled_before)
        nursery.cancel_scope.cancel()

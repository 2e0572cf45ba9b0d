"""What is written while many have their turns: held back until the last of them, lost never."""

import contextlib
import functools
import os
from collections.abc import Iterator

import pytest
import trio
import trio.testing
from limits import HANG
from rig_adopted import TICK, Line, a_line, mark, told
from rig_frames import frame
from rig_streams import Reader, connected, fill, read, read_all, reset

from sts_trio.legs.caller_adopted import MAX_HELD, MAX_PENDING
from sts_trio.net.cork import Cork
from sts_trio.net.poller import Poller
from sts_trio.net.ticker import Ticker
from sts_trio.wire import twilio
from sts_trio.wire.frames import CLOSE, PING, PONG, TEXT, text
from sts_trio.wire.twilio import Clear, Outbound, PlayMedia

CLEAR = Clear("MZ1")
VOICE = PlayMedia("MZ1", Outbound(bytes(160)))


def test_what_is_held_back_is_written_in_order_when_the_cork_is_drawn() -> None:
    cork = Cork()
    written: list[int] = []
    with cork:
        assert cork.is_in
        cork.hold(lambda: written.append(1))
        cork.hold(lambda: written.append(2))
        assert not written
    assert written == [1, 2]
    assert not cork.is_in
    with cork:
        pass
    assert written == [1, 2]


def test_it_is_drawn_whatever_happens_under_it() -> None:
    cork = Cork()
    written: list[int] = []

    def fail() -> None:
        with cork:
            cork.hold(lambda: written.append(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert written == [1]
    assert not cork.is_in


# --- toward the agent -----------------------------------------------------------------------------


@contextlib.contextmanager
def nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def write(fileno: int, data: bytes) -> int:
        raise AssertionError(f"{data!r} was written")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        yield


async def test_an_agents_messages_of_one_beat_are_one_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cork = Cork()
    async with connected(cork=cork) as pair:
        assert pair.ours.try_send(b"before, ")
        with cork, nothing_is_written(monkeypatch):
            assert pair.ours.try_send(b"first, ")
            assert pair.ours.is_clear()
            assert pair.ours.try_send(b"second, ")
        assert pair.ours.try_send(b"after, ")
        await pair.ours.send_all(b"sent")
        assert await read(pair.theirs, 34) == b"before, first, second, after, sent"


async def test_what_a_full_socket_does_not_take_then_is_kept_and_goes_first() -> None:
    cork = Cork()
    async with connected(small=True, cork=cork) as pair:
        with cork:
            assert pair.ours.try_send(bytes(1 << 20))
        assert not pair.ours.is_clear()
        with cork:
            assert not pair.ours.try_send(b"refused")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.ours.send_all, b"sent")
            assert await read(pair.theirs, (1 << 20) + 4) == bytes(1 << 20) + b"sent"


async def test_behind_what_a_full_socket_did_not_take_nothing_is_held_back() -> None:
    cork = Cork()
    async with connected(small=True, cork=cork) as pair:
        taken = fill(pair.ours, bytes(100_000))
        with cork:
            assert not pair.ours.try_send(b"refused")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.ours.send_all, b"sent")
            assert await read(pair.theirs, len(taken) + 4) == taken + b"sent"


async def test_an_agents_socket_that_is_gone_by_then_is_no_bug_and_takes_nothing_more() -> None:
    cork = Cork()
    async with connected(cork=cork) as pair:
        await reset(pair.theirs)
        with pytest.raises(trio.BrokenResourceError):
            await read_all(pair.ours)
        with cork:
            pair.ours.try_send(b"nobody is there")
        assert not pair.ours.try_send(b"nor now")


async def test_an_agents_socket_that_is_closed_under_the_cork_is_no_bug() -> None:
    cork = Cork()
    async with connected(cork=cork) as pair:
        with cork:
            assert pair.ours.try_send(b"too late")
            await pair.ours.aclose()
        assert not pair.ours.try_send(b"later still")


# --- toward the caller ----------------------------------------------------------------------------


def answer(line: Line, batch: object) -> None:
    line.leg.try_send(VOICE)


async def test_a_callers_messages_of_one_beat_are_one_write(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async with a_line() as line:
        with line.ticker.cork, nothing_is_written(monkeypatch):
            assert line.leg.try_send(CLEAR)
            assert line.leg.try_send(VOICE)
        assert not line.leg.is_stuck
        assert line.frames == [(TEXT, twilio.encode(CLEAR)), (TEXT, twilio.encode(VOICE))]


async def test_what_a_turn_answers_is_written_in_the_same_beat_behind_the_last_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A pong and an echo of the caller's words, while another call has its turn."""
    async with a_line() as line:
        line.on_hear = functools.partial(answer, line)
        seen_by_the_next: list[list[tuple[int, bytes]]] = []
        line.say(frame(PING, b"there?"), told(mark(1)))
        with line.ticker.registered(lambda now: seen_by_the_next.append(line.frames)):
            await trio.sleep(TICK)
        assert seen_by_the_next == [[]]
        assert sorted(line.frames) == [(TEXT, twilio.encode(VOICE)), (PONG, b"there?")]


async def test_a_goodbye_in_a_beat_goes_out_with_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        line.on_hear = functools.partial(answer, line)
        line.say(told(mark(1)), frame(CLOSE, (1000).to_bytes(2)))
        await trio.sleep(TICK)
        assert line.ended_at is not None
        assert line.frames == [(CLOSE, (1000).to_bytes(2))]
        assert not line.leg.is_stuck


async def test_a_full_socket_and_a_full_cork_take_nothing_and_the_call_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A long clip in one tick is no sign of a caller who does not read."""
    async with a_line(small=True) as line:
        count = 0
        with line.ticker.cork:
            while line.leg.try_send(VOICE):
                count += 1
        assert MAX_HELD < count * len(text(twilio.encode(VOICE))) < MAX_PENDING
        assert line.leg.is_stuck
        with line.ticker.cork:
            assert not line.leg.try_send(CLEAR)
        while line.leg.is_stuck:
            line.read()
            await trio.sleep(TICK)
        assert line.ended_at is None
        assert line.frames == [(TEXT, twilio.encode(VOICE))] * count


async def test_a_callers_socket_that_is_gone_by_then_is_no_bug(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        with line.ticker.cork:
            assert line.leg.try_send(VOICE)
            line.bridge.close()
        assert line.leg.is_stuck


# --- who draws it ---------------------------------------------------------------------------------


async def test_lookout_and_ticker_share_one_cork() -> None:
    poller = Poller()
    assert Ticker(poller).cork is poller.cork
    assert Ticker().cork is not Ticker().cork


async def test_what_agents_say_at_one_look_is_passed_on_behind_the_last_of_them() -> None:
    poller = Poller()
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            await trio.testing.wait_all_tasks_blocked()
            order: list[str] = []

            def hear(reader: Reader) -> None:
                reader.read()
                order.append("heard")
                poller.cork.hold(lambda: order.append("passed on"))

            readers = [Reader(poller) for _ in range(2)]
            for reader in readers:
                poller.unregister(reader.fileno)
                poller.register(reader.fileno, functools.partial(hear, reader))
                reader.peer.send(b"x")
            poller.poll()
            assert order == ["heard", "heard", "passed on", "passed on"]
            for reader in readers:
                reader.close()
            nursery.cancel_scope.cancel()

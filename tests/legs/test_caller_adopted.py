"""The adopted leg, byte by byte on the virtual clock: on a plain socket, and on TLS."""

import contextlib
import contextvars
import socket
from collections.abc import Iterator

import pytest
import rig_adopted
import trio
import trio.testing
from rig_adopted import TICK, Line, a_line, mark, play, split, told
from rig_frames import closing, fragmented, frame
from rig_peers import STOP, media

from sts_trio.errors import How, Leg, LegEnded
from sts_trio.legs import caller_adopted as module
from sts_trio.legs.caller_adopted import MAX_PENDING, PING_EVERY
from sts_trio.legs.caller_asgi import MAX_PER_MESSAGE, SILENT_AFTER, STALLED_AFTER
from sts_trio.net.ticker import Ticker, Turn
from sts_trio.wire import frames, twilio
from sts_trio.wire.anomalies import Malformed, TooBig
from sts_trio.wire.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from sts_trio.wire.twilio import Clear, Connected, MarkName, PlayMark

HELLO = Connected()


@pytest.fixture(params=["plain", "TLS"], autouse=True)
def is_tls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    is_tls: bool = request.param == "TLS"
    monkeypatch.setattr(rig_adopted, "IS_TLS", is_tls)
    return is_tls


def said(*messages: twilio.ToCaller) -> list[tuple[int, bytes]]:
    return [(TEXT, twilio.encode(message)) for message in messages]


async def ticks(count: float = 1) -> None:
    await trio.sleep(count * TICK)


# --- reading ------------------------------------------------------------------------------------


async def test_what_has_come_by_a_beat_is_heard_in_one_batch(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        line.say(told(HELLO), told(media(), mark(1)))
        await trio.sleep(TICK / 4)
        assert line.batches == []
        await ticks()
        line.say(told(STOP))
        await ticks()
        assert line.batches == [[HELLO, media(), mark(1)], [STOP]]


async def test_a_beat_without_anything_new_is_not_heard(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        line.say(told(HELLO)[:10])
        await ticks(5)
        assert line.batches == []
        line.say(told(HELLO)[10:])
        await ticks()
        assert line.batches == [[HELLO]]
        assert len(line.bridge.read_at) == pytest.approx(7, abs=1)


async def test_a_thousand_messages_in_one_beat_are_one_batch(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        flood = [Connected() for _ in range(1000)]
        assert len(told(*flood)) < module.RECEIVE
        line.say(told(*flood))
        await ticks()
        assert line.batches == [flood]


async def test_more_than_a_beat_takes_is_heard_in_the_next_ones(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        flood = [media(bytes([n % 251]) * 160) for n in range(2000)]
        await line.say_much(told(*flood))
        await ticks(4)
        assert line.heard == flood
        assert max(map(len, line.batches)) <= module.RECEIVE // len(told(media())) + 1


async def test_fragments_and_what_is_between_them_are_heard(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        words = twilio.encode_as_twilio(HELLO).encode()
        first, second, third = fragmented(TEXT, words[:5], words[5:9], words[9:])
        line.say(first, frame(PING, b"still there?"), second)
        await ticks()
        line.say(frame(PONG), third, told(STOP))
        await ticks()
        assert line.heard == [HELLO, STOP]
        assert line.frames == [(PONG, b"still there?")]


async def test_a_binary_message_is_malformed_and_the_next_is_heard(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        line.say(frame(BINARY, b"\x00"), *fragmented(BINARY, b"1", b"2"), told(HELLO))
        await ticks()
        assert line.heard == [Malformed(Leg.CALLER, "binary frame")] * 2 + [HELLO]


async def test_what_hear_starts_inherits_the_context_of_the_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    variable = contextvars.ContextVar("variable", default="ticker")
    async with a_line() as line:
        seen: list[str] = []
        line.on_hear = lambda batch: seen.append(variable.get())
        other = Line(line.leg._ticker)
        async with trio.open_nursery() as nursery:
            token = variable.set("call")
            nursery.start_soon(other.listen)
            variable.reset(token)
            other.on_hear = line.on_hear
            await ticks()
            for each in (line, other):
                each.say(told(HELLO))
            await ticks(2)
            nursery.cancel_scope.cancel()
        other.close()
        assert sorted(seen) == ["call", "ticker"]


# --- bytes that Hypercorn's reader had taken ----------------------------------------------------


# --- ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "ended", "answer"),
    [
        (closing(1000), LegEnded(Leg.CALLER, How.CLOSED, 1000), closing(1000)),
        (closing(4000, b"bye"), LegEnded(Leg.CALLER, How.CLOSED, 4000, "bye"), closing(4000)),
        (frame(CLOSE), LegEnded(Leg.CALLER, How.CLOSED), frame(CLOSE)),
    ],
)
async def test_a_close_frame_is_answered_and_the_last_thing_heard_or_said(
    last: bytes, ended: LegEnded, answer: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with a_line() as line:
        line.say(told(STOP), frame(PING, b"?"), last, told(HELLO))
        await ticks()
        assert line.heard == [STOP, ended]
        assert line.ended_at is not None
        assert not line.leg.try_send(Clear("MZ1"))
        await line.leg.send(Clear("MZ1"))
        await line.leg.aclose(1000)
        line.say(told(HELLO))
        await ticks(2)
        code = line.frames[0][1]
        assert line.frames == [(CLOSE, code)]
        assert frame(CLOSE, code) == answer
        assert len(line.heard) == 2


VIOLATIONS = {
    "no mask": (frame(TEXT, b"x", mask=None), 1002),
    "reserved bit": (frame(TEXT, b"x", rsv=1), 1002),
    "reserved opcode": (frame(0x3, b"x"), 1002),
    "fragmented ping": (frame(PING, b"x", fin=False), 1002),
    "long ping": (frame(PING, b"x" * 126), 1002),
    "continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "message in a message": (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    "bad close code": (closing(1005), 1002),
    "bad text": (frame(TEXT, b"\xff"), 1007),
    "bad text in fragments": (b"".join(fragmented(TEXT, b"\xc3", b"x")), 1007),
    "bad text in the close frame": (closing(1000, b"\xff"), 1007),
}


@pytest.mark.parametrize("name", VIOLATIONS)
async def test_a_violation_is_told_with_its_code_and_ends_the_leg(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    bad, code = VIOLATIONS[name]
    async with a_line() as line:
        line.say(told(HELLO), bad, told(STOP))
        await ticks()
        line.say(told(STOP))
        await line.leg.aclose(1000)
        await ticks(2)
        hello, ended = line.heard
        assert hello == HELLO
        assert (ended.how, ended.code) == (How.LOST, None)
        assert ended.reason
        [(opcode, payload)] = line.frames
        assert opcode == CLOSE
        assert payload[:2] == code.to_bytes(2)


@pytest.mark.parametrize("in_fragments", [False, True])
async def test_a_message_over_the_limit_is_heard_as_such_and_closed_by_the_call(
    in_fragments: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """The caller goes on sending; nobody hears it, and it finds room to read our close frame."""
    size = MAX_PER_MESSAGE + 1
    async with a_line() as line, trio.open_nursery() as nursery:
        payload = bytes(size)
        parts = (
            fragmented(TEXT, payload[:9], payload[9:]) if in_fragments else [frame(TEXT, payload)]
        )
        nursery.start_soon(line.say_much, told(HELLO) + b"".join(parts) + told(STOP) * 1000)
        await ticks(3)
        assert line.heard == [HELLO, TooBig(Leg.CALLER, size)]
        await line.leg.aclose(1009)
        await ticks(20)
        assert line.frames == [(CLOSE, (1009).to_bytes(2))]
        assert len(line.heard) == 2
        line.socket.close()
        await ticks(2)
        assert line.heard[2:] == [LegEnded(Leg.CALLER, How.LOST)]


async def test_what_nobody_can_understand_is_read_away_for_as_long_as_it_comes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        line.say(frame(TEXT, length=b"\x7f" + (1 << 40).to_bytes(8)))
        await ticks()
        for _ in range(20):
            line.say(bytes(150_000))  # more than a tick would hear
            await ticks()
        line.say(bytes(150_000))
        line.socket.shutdown(socket.SHUT_WR)
        await ticks(2)
        assert [type(message).__name__ for message in line.heard] == ["TooBig", "LegEnded"]


async def test_what_is_read_away_in_a_beat_is_bounded(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller who floods with garbage must not keep the tick from the others."""
    monkeypatch.setattr(module, "MAX_DISCARDED", module.RECEIVE)
    async with a_line() as line:
        line.say(frame(TEXT, length=b"\x7f" + (1 << 40).to_bytes(8)))
        await ticks()
        line.say(bytes(150_000))
        await ticks()
        assert line.bridge.recv(1, socket.MSG_PEEK)
        await ticks()
        with pytest.raises(BlockingIOError):
            line.bridge.recv(1, socket.MSG_PEEK)


async def test_a_message_of_just_the_limit_is_heard(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        await line.say_much(frame(TEXT, b" " * (MAX_PER_MESSAGE - 2) + b"{}"))
        await ticks(40)
        [heard] = line.heard
        assert isinstance(heard, Malformed)


@pytest.mark.parametrize("how", ["FIN", "RST", "closed under us"])
async def test_a_lost_socket_ends_the_leg_once(
    how: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with a_line() as line:
        line.say(told(HELLO))
        await ticks()
        if how == "FIN":
            line.socket.shutdown(socket.SHUT_WR)
        elif how == "RST":
            assert line.leg.try_send(Clear("MZ1"))  # unread, it makes an RST of the close
            line.socket.close()
        else:
            line.bridge.close()
        await ticks(3)
        hello, ended = line.heard
        assert hello == HELLO
        assert isinstance(ended, LegEnded)
        assert ended.how is How.LOST
        assert bool(ended.reason) == (how != "FIN")


@pytest.mark.parametrize("how", ["FIN", "closed under us"])
async def test_a_leg_that_is_lost_says_nothing_any_more_and_waits_for_nobody(
    how: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with a_line(small=True) as line:
        if how == "FIN":
            line.socket.shutdown(socket.SHUT_WR)
        else:
            line.bridge.close()
        await ticks(2)
        ended = trio.current_time()
        assert not line.leg.try_send(Clear("MZ1"))
        for number in range(100):
            await line.leg.send(play(number))
        await line.leg.aclose(1000)
        assert trio.current_time() == ended
        if how == "FIN":
            assert [opcode for opcode, _ in line.frames] in ([], [CLOSE])


async def test_a_goodbye_that_cannot_be_written_to_a_lost_caller_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Who sent FIN and reads no more: nothing is pending, and there is no room for anything."""
    async with a_line(small=True) as line:
        with contextlib.suppress(BlockingIOError):
            while True:
                line.bridge.send(frames.text(b"x"))
        line.socket.shutdown(socket.SHUT_WR)
        await ticks(2)
        assert line.heard == [LegEnded(Leg.CALLER, How.LOST)]
        ended = trio.current_time()
        await line.leg.aclose(1000)
        assert trio.current_time() == ended
        assert line.leg.is_stuck


class ByHand(Ticker):
    """Ticks when told to."""

    @contextlib.contextmanager
    def registered(self, turn: Turn) -> Iterator[None]:
        self.tick = turn
        yield


async def test_a_beat_that_comes_before_the_listener_has_gone_is_not_heard(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """After a stall there may be no time for the listener between two ticks."""
    ticker = ByHand()
    line = Line(ticker)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.listen)
        await trio.testing.wait_all_tasks_blocked()
        line.say(closing(1000))
        ticker.tick(0)
        ticker.tick(0)
    assert line.heard == [LegEnded(Leg.CALLER, How.CLOSED, 1000)]
    line.close()


async def test_a_leg_is_idle_in_a_beat_without_anything_to_hear(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ticker = ByHand()
    line = Line(ticker)
    idle: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.leg.listen, line.hear, idle.append)
        await trio.testing.wait_all_tasks_blocked()
        assert line.leg.is_polled
        ticker.tick(1)
        line.say(told(HELLO))
        ticker.tick(2)
        ticker.tick(3)
        nursery.cancel_scope.cancel()
    assert line.heard == [HELLO]
    assert idle == [1, 3]
    line.close()


async def test_a_bug_in_hear_comes_out_of_listen_and_nothing_more_is_heard(
    autojump_clock: trio.testing.MockClock,
) -> None:
    def broken(batch: object) -> None:
        raise ZeroDivisionError("a bug in the dialogue")

    ticker = Ticker()
    line = Line(ticker, small=True)
    line.on_hear = broken
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticker.run)
        line.say(told(HELLO))
        with pytest.raises(ZeroDivisionError):
            await line.leg.listen(line.hear)
        line.say(told(STOP))
        await ticks(3)
        assert line.batches == [[HELLO]]
        await line.leg.aclose(1011)
        assert line.frames == [(CLOSE, (1011).to_bytes(2))]
        nursery.cancel_scope.cancel()
    line.close()


async def test_a_bug_lets_who_waits_for_a_full_socket_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    def broken(batch: object) -> None:
        raise ZeroDivisionError("a bug in the dialogue")

    ticker = Ticker()
    line = Line(ticker, small=True)
    line.on_hear = broken
    while line.leg.try_send(play(1)):
        pass
    async with trio.open_nursery() as tick:
        tick.start_soon(ticker.run)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.leg.send, play(2))
            line.say(told(HELLO))
            with pytest.raises(ZeroDivisionError):
                await line.leg.listen(line.hear)
            await line.leg.aclose(1011)
        assert trio.current_time() < 1
        assert line.leg.is_stuck
        tick.cancel_scope.cancel()
    line.close()


# --- pings --------------------------------------------------------------------------------------


async def test_a_ping_is_answered_and_of_many_the_last(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        line.say(frame(PING, b"one"))
        await ticks()
        line.say(*[frame(PING, b"%d" % number) for number in range(1000)], frame(PING))
        await ticks()
        assert line.frames == [(PONG, b"one"), (PONG, b"")]


async def test_a_caller_is_pinged_so_that_a_live_one_has_something_to_say(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        for _ in range(10):
            await trio.sleep(PING_EVERY + TICK)
            line.say(frame(PONG))
        line.read()
        assert split(line.got) == [(PING, b"")] * 10
        assert line.heard == []


async def test_a_caller_who_sends_nothing_not_even_pongs_is_silent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        await trio.sleep(7)
        line.say(frame(PONG))
        await ticks()
        spoke = trio.current_time()
        await trio.sleep(30)
        assert line.heard == [LegEnded(Leg.CALLER, How.SILENT)]
        assert line.ended_at == pytest.approx(spoke + SILENT_AFTER, abs=2 * TICK)


async def test_a_caller_who_is_lost_as_he_is_found_silent_ends_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        await trio.sleep(SILENT_AFTER - 2 * TICK)
        assert line.heard == []
        autojump_clock.jump(1)  # a stalled process: both are true by the next tick
        line.socket.shutdown(socket.SHUT_WR)
        await ticks(2)
        assert line.heard == [LegEnded(Leg.CALLER, How.LOST)]


async def test_after_our_goodbye_there_is_no_ping_no_pong_and_no_second_goodbye(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        await line.leg.aclose(1000)
        assert not line.leg.try_send(Clear("MZ1"))
        await line.leg.send(Clear("MZ1"))
        for _ in range(5):
            line.say(frame(PING, b"?"), told(media()))
            await trio.sleep(PING_EVERY / 2)
        await line.leg.aclose(1001)
        line.say(closing(1000))
        await ticks()
        line.read()
        assert split(line.got) == [(CLOSE, (1000).to_bytes(2))]
        assert line.heard == [media()] * 5 + [LegEnded(Leg.CALLER, How.CLOSED, 1000)]


# --- writing ------------------------------------------------------------------------------------


async def test_a_message_is_written_at_once_and_not_with_the_beat(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        now = trio.current_time()
        assert line.leg.try_send(play(1))
        await line.leg.send(PlayMark("MZ1", MarkName("m")))
        assert line.leg.try_send(Clear("MZ1"))
        assert line.frames == said(play(1), PlayMark("MZ1", MarkName("m")), Clear("MZ1"))
        assert trio.current_time() == now
        assert not line.leg.is_stuck


async def test_what_is_tried_and_what_is_sent_keep_their_order_on_a_full_socket(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line(small=True) as line, trio.open_nursery() as reading:
        reading.start_soon(_read_slowly, line)
        messages = [play(number, 100 + number * 7) for number in range(400)]
        waited = 0
        for number, message in enumerate(messages):
            if number % 20 == 0:
                line.say(frame(PING, b"?"))
            if not line.leg.try_send(message):
                waited += 1
                await line.leg.send(message)
        await line.leg.aclose(1000)
        await ticks(2)
        reading.cancel_scope.cancel()
        assert [item for item in line.frames if item[0] == TEXT] == said(*messages)
        assert (PONG, b"?") in line.frames
        assert line.frames[-1] == (CLOSE, (1000).to_bytes(2))
        assert waited > 20


async def _read_slowly(line: Line) -> None:
    while True:
        line.read(3000)
        await trio.sleep(TICK / 3)


async def test_a_message_is_taken_whole_or_not_at_all(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line(small=True) as line:
        taken = 0
        while line.leg.try_send(play(taken, 700)):
            taken += 1
        assert line.leg.is_stuck
        for number in range(10):
            assert not line.leg.try_send(play(number))
        line.read()
        await ticks(2)
        assert not line.leg.is_stuck
        assert line.frames == said(*[play(number, 700) for number in range(taken)])
        assert line.leg.try_send(Clear("MZ1"))
        assert line.frames[-1:] == said(Clear("MZ1"))


async def test_a_caller_who_does_not_read_is_stalled_and_who_waits_is_let_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line(small=True) as line:
        while line.leg.try_send(play(1)):
            pass
        full = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.leg.send, play(2))
            nursery.start_soon(line.leg.send, play(3))
            nursery.start_soon(line.say_much, told(media()) * 1000)
            await line.leg.aclose(1008)
            assert trio.current_time() == pytest.approx(full + STALLED_AFTER, abs=2 * TICK)
        assert line.heard[-1] == LegEnded(Leg.CALLER, How.STALLED)
        assert [type(message) for message in line.heard].count(LegEnded) == 1
        assert line.leg.is_stuck
        assert not line.leg._pending


async def test_a_caller_who_reads_now_and_then_is_not_stalled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line(small=True) as line:
        for number in range(5):
            while line.leg.try_send(play(number)):
                pass
            await trio.sleep(STALLED_AFTER - 1)
            line.say(frame(PONG))
            line.read()
        await ticks()
        assert line.heard == []


async def test_a_caller_who_sends_pings_and_does_not_read_never_grows_our_memory(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line(small=True) as line:
        while line.leg.try_send(play(1)):
            pass
        most = 0
        while not line.heard:
            line.say(*[frame(PING, b"x" * 125)] * 100)
            await ticks(1)
            most = max(most, len(line.leg._pending))
        assert 1000 < most <= MAX_PENDING
        assert line.heard == [LegEnded(Leg.CALLER, How.STALLED)]


async def test_pongs_that_pile_up_end_the_leg_though_a_little_is_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line(small=True) as line:
        while line.leg.try_send(play(1)):
            pass
        began = trio.current_time()
        most = 0
        while not line.heard:
            line.say(frame(PING, b"x" * 125))
            line.read(60)
            await ticks(1)
            most = max(most, len(line.leg._pending))
            assert trio.current_time() < began + 600
        assert trio.current_time() > began + STALLED_AFTER
        assert most <= MAX_PENDING
        assert line.heard == [LegEnded(Leg.CALLER, How.STALLED)]


async def test_a_caller_who_is_lost_as_he_is_found_stalled_ends_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line(small=True) as line:
        while line.leg.try_send(play(1)):
            pass
        await trio.sleep(STALLED_AFTER - 2 * TICK)
        autojump_clock.jump(1)
        line.socket.shutdown(socket.SHUT_WR)
        await ticks(2)
        assert line.heard == [LegEnded(Leg.CALLER, How.LOST)]


async def test_a_socket_that_breaks_in_a_write_is_heard_of_in_the_next_beat(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_line() as line:
        line.socket.close()
        assert line.leg.try_send(play(1))  # it cannot know better
        assert line.leg.is_stuck
        await line.leg.send(play(2))
        await line.leg.aclose(1000)
        await ticks(2)
        [ended] = line.heard
        assert ended.how is How.LOST

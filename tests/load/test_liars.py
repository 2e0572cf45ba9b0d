"""Bridges that lie, and one that does not: no good figure is told of one that does no good work.

All in one process, over memory streams and on a clock that jumps: nobody is late.
"""

import base64
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
import trio_websocket

from sts_trio.audio.frames import FRAME, SILENCE
from sts_trio.load import load_test
from sts_trio.load.figures import Run
from sts_trio.load.python import agent
from sts_trio.load.python.generator import HANDSHAKE, REMEMBERED, Generator
from sts_trio.load.python.options import Options
from sts_trio.load.report import Tried

PLACE = "CA{number:032x}\tbridge\t/twilio\t{{}}\t"
GATHERS = 20.0


class Bridge:
    """Relays between the generator's two peers. Liars leave something out, or put something in."""

    dials = True

    def __init__(self, open_agent: Callable[[], trio.abc.Stream]) -> None:
        self._open_agent = open_agent

    async def carry(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            any_stream: Any = stream  # which will do
            request = await trio_websocket.wrap_server_stream(nursery, any_stream)
            self.caller: Any = await request.accept()
            self.agent: Any = None
            self._nursery = nursery
            if self.dials:
                await self.dial()
            try:
                while True:
                    await self.hear(msgspec.json.decode(await self.caller.get_message()))
            except trio_websocket.ConnectionClosed:
                if self.agent is not None:
                    await self.agent.aclose()
            nursery.cancel_scope.cancel()

    async def dial(self) -> None:
        any_stream: Any = self._open_agent()
        self.agent = await trio_websocket.wrap_client_stream(
            self._nursery, any_stream, "agent", "/"
        )
        await self.agent.send_message('{"type":"Settings"}')
        self._nursery.start_soon(self._hear_agent)

    async def lose_agent(self) -> None:
        await self.caller.aclose()

    async def hear(self, message: Any) -> None:
        if message["event"] == "start":
            self.sid = message["streamSid"]
        if message["event"] == "media":
            await self.hear_media(base64.b64decode(message["media"]["payload"]))

    async def hear_media(self, audio: bytes) -> None:
        if self.agent is not None:
            await self.agent.send_message(audio)

    async def _hear_agent(self) -> None:
        try:
            while True:
                data = await self.agent.get_message()
                if isinstance(data, bytes):
                    await self.play(data)
                elif "UserStartedSpeaking" in data:
                    await self.tell({"event": "clear"})
        except trio_websocket.ConnectionClosed:
            await self.lose_agent()

    async def play(self, audio: bytes) -> None:
        payload = base64.b64encode(audio).decode()
        await self.tell({"event": "media", "media": {"payload": payload}})

    async def tell(self, message: dict[str, Any]) -> None:
        await self.caller.send_message(
            msgspec.json.encode({**message, "streamSid": self.sid}).decode()
        )


class Mute(Bridge):
    """Shakes hands, and does nothing more."""

    dials = False


class Deaf(Bridge):
    """Has an agent, that hears nothing."""

    async def hear_media(self, audio: bytes) -> None:
        return


class OneWay(Bridge):
    async def play(self, audio: bytes) -> None:
        return


class Echo(Bridge):
    """Sends the caller's own voice back, in time and in full."""

    dials = False

    async def hear_media(self, audio: bytes) -> None:
        await self.play(audio)


class EchoWithAgent(Bridge):
    async def hear_media(self, audio: bytes) -> None:
        await super().hear_media(audio)
        await super().play(audio)

    async def play(self, audio: bytes) -> None:
        return


class TooShort(Bridge):
    """A byte of each message is missing."""

    async def play(self, audio: bytes) -> None:
        await super().play(audio[:-1])


class TooMuch(Bridge):
    """Everything twice."""

    async def play(self, audio: bytes) -> None:
        await super().play(audio + audio)


class Silence(Bridge):
    async def play(self, audio: bytes) -> None:
        await super().play(SILENCE * len(audio))


class Tired(Bridge):
    """Closes after a second."""

    def __init__(self, open_agent: Callable[[], trio.abc.Stream]) -> None:
        super().__init__(open_agent)
        self._left = 50

    async def hear_media(self, audio: bytes) -> None:
        self._left -= 1
        if not self._left:
            await self.caller.aclose()
        await super().hear_media(audio)


class Hasty(Bridge):
    """Marks and clears, before there is anything to be marked or cleared, in place of audio."""

    dials = False

    async def hear_media(self, audio: bytes) -> None:
        await self.tell({"event": "mark", "mark": {"name": "played"}})
        await self.tell({"event": "clear"})


class NeverInterrupted(Bridge):
    async def tell(self, message: dict[str, Any]) -> None:
        if message["event"] != "clear":
            await super().tell(message)


class Dropping(Bridge):
    """Takes connections, and lets go of them."""

    async def carry(self, stream: trio.abc.Stream) -> None:
        await stream.aclose()


class Late(Bridge):
    """Holds a second of the caller's words back."""

    def __init__(self, open_agent: Callable[[], trio.abc.Stream]) -> None:
        super().__init__(open_agent)
        self._held: list[bytes] = []

    async def hear_media(self, audio: bytes) -> None:
        self._held.append(audio)
        if len(self._held) > 50:
            await super().hear_media(self._held.pop(0))


class Interrupted(Bridge):
    """Drops what it has not played when the caller cuts it short: half a block, here."""

    _held = b""

    async def play(self, audio: bytes) -> None:
        audio = self._held + audio
        self._held = audio[-FRAME // 2 :]
        await super().play(audio[: -FRAME // 2])

    async def tell(self, message: dict[str, Any]) -> None:
        if message["event"] == "clear":
            self._held = b""
        await super().tell(message)


# A handshake of a bridge's with its agent, but for the end.
HELLO = (
    b"GET / HTTP/1.1\r\nHost: agent\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
Kind = Callable[[Callable[[], trio.abc.Stream]], Bridge]


async def measure(
    kind: Kind,
    calls: int = 2,
    then: Callable[[Generator], Awaitable[None]] | None = None,
    **changes: Any,
) -> Run:
    """`then` is run once the calls are placed."""
    options = msgspec.structs.replace(
        Options(
            calls=calls,
            seconds=4.0,
            host="",
            port=0,
            agent_port=0,
            farewell=10.0,
            most_cpu=100.0,
            endings="1,1,1",
        ),
        **changes,
    )
    with trio.fail_after(600):
        async with trio.open_nursery() as nursery:

            async def quietly(run: Callable[..., Awaitable[None]], *what: Any) -> None:
                try:
                    await run(*what)
                except* (
                    trio.BrokenResourceError,
                    trio_websocket.ConnectionClosed,
                    trio_websocket.HandshakeError,
                ):
                    pass  # whoever lies may well be cut off

            def open_agent() -> trio.abc.Stream:
                ours, theirs = trio.testing.memory_stream_pair()
                nursery.start_soon(quietly, partial(agent.answer, generator), theirs)
                return ours

            async def dial(host: str) -> trio.abc.Stream:
                ours, theirs = trio.testing.memory_stream_pair()
                nursery.start_soon(quietly, kind(open_agent).carry, theirs)
                return ours

            generator = Generator(options, dial)
            runs: list[Run] = []

            async def run() -> None:
                runs.append(await generator.run())
                nursery.cancel_scope.cancel()

            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(calls):
                generator.hear_place(PLACE.format(number=number))
            if then is not None:
                await then(generator)
    return runs[0]


def verdict(run: Run) -> Tried:
    return load_test.judge(run.calls, run, GATHERS)


async def test_an_honest_bridge_does_well(autojump_clock: trio.testing.MockClock) -> None:
    run = await measure(Bridge)
    assert verdict(run).reasons == []
    assert verdict(run).verdict == "well"
    assert (run.placed, run.failed, run.left_open, run.kept) == (2, 0, 0, 0)
    assert run.up.arrived == run.up.sent >= 2 * 199
    assert run.down.arrived == run.down.sent > 0
    assert run.clears.asked == run.clears.answered > 0


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Mute, "calls were not through"),
        (Deaf, "calls were not through"),
        (OneWay, "0.00 % of the audio arrived to the caller"),
        (Echo, "calls were not through"),
        (EchoWithAgent, "blocks came to the caller that were not sent so"),
        (TooShort, "blocks came to the caller that were not sent so"),
        (TooMuch, "blocks came to the caller that were not sent so"),
        (Silence, "0.00 % of the audio arrived to the caller"),
        (Tired, "calls were cut off"),
        (Hasty, "calls were not through"),
        (NeverInterrupted, "no barge-in was answered"),
        (Dropping, "calls were refused"),
        (Late, "words took"),
    ],
)
async def test_a_liar_does_not_do_well(
    kind: Kind, reason: str, autojump_clock: trio.testing.MockClock
) -> None:
    run = await measure(kind)
    assert verdict(run).verdict == "not well"
    assert reason in "; ".join(verdict(run).reasons)


async def test_one_call_of_many_that_is_left_out_is_noticed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """In the sum of all calls it would hardly show."""
    made: list[Bridge] = []

    def one_is_mute(open_agent: Callable[[], trio.abc.Stream]) -> Bridge:
        made.append(OneWay(open_agent) if not made else Bridge(open_agent))
        return made[-1]

    run = await measure(one_is_mute, calls=6)
    assert run.failed == 1
    assert "1 of 6 calls failed" in "; ".join(verdict(run).reasons)


async def test_half_a_block_that_is_dropped_as_the_caller_cuts_in_harms_none_behind_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It is lost, which is told; what is said next is whole."""
    run = await measure(Interrupted, seconds=20.0)
    assert run.down.faults == 0
    assert 0 < run.down.sent - run.down.arrived <= run.clears.answered + 2


# --- the bridge's own agent: nothing of it can be known but what a caller hears ------------------

CLIP = bytes(range(16, 176)) * 50


class Answering(Bridge):
    """An agent inside the bridge, which speaks for a second after each second."""

    dials = False

    def __init__(self, open_agent: Callable[[], trio.abc.Stream]) -> None:
        super().__init__(open_agent)
        self._count = 0

    async def hear_media(self, audio: bytes) -> None:
        self._count += 1
        if self._count % 100 == 50:
            await self.play(bytes(range(240, 80, -1)) * 50)


class Flooding(Answering):
    async def hear_media(self, audio: bytes) -> None:
        await self.play(bytes(range(240, 80, -1)) * 10)


@pytest.fixture
def clip(tmp_path: Any) -> str:
    path = tmp_path / "clip"
    path.write_bytes(CLIP)
    return str(path)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Answering, ""),
        (Mute, "2 callers heard nothing"),
        (Echo, "2 callers heard their own voice"),
        (Flooding, "2 callers were sent more than can be played"),
        (Tired, "calls were cut off"),
    ],
)
async def test_of_an_agent_of_the_bridges_it_is_told_whether_calls_were_answered(
    kind: Kind, reason: str, clip: str, autojump_clock: trio.testing.MockClock
) -> None:
    run = await measure(kind, bridges_agent=True, caller_says=clip, seconds=20.0)
    found = verdict(run)
    assert found.verdict == ("not well" if reason else "well")
    assert reason in "; ".join(found.reasons)
    if not reason:
        assert run.heard is not None
        assert run.heard.seconds > 20
        assert run.heard.answer_ms is not None


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: x\r\n\r\n",
        b"\x16\x03\x01\x00garbage\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 10_000,
        HELLO + b"Content-Length: 4\r\n\r\nab",
        HELLO + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
        HELLO.replace(b"1.1", b"1.0") + b"\r\n",
    ],
)
async def test_what_is_no_handshake_is_let_go_by_the_agent(said: bytes) -> None:
    async def dial(host: str) -> trio.abc.Stream:
        raise AssertionError

    options = Options(calls=1, seconds=1, host="", port=0, agent_port=0)
    generator = Generator(options, dial)
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, said)
        nursery.start_soon(agent.answer, generator, theirs)
        await trio.testing.wait_all_tasks_blocked()
        await ours.send_eof()
    assert not generator.sessions


async def test_who_is_gone_before_the_agent_answers_ends_no_run() -> None:
    async def dial(host: str) -> trio.abc.Stream:
        raise AssertionError

    options = Options(calls=1, seconds=1, host="", port=0, agent_port=0)
    generator = Generator(options, dial)
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(HELLO + b"\r\n")
    await ours.aclose()
    await agent.answer(generator, theirs)
    assert not generator.sessions


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 101 x\r\n" + b"x: y\r\n" * 10_000,
    ],
)
async def test_a_bridge_that_shakes_no_hands_has_refused(
    answer: bytes,
    autojump_clock: trio.testing.MockClock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Refusing(Bridge):
        async def carry(self, stream: trio.abc.Stream) -> None:
            await stream.receive_some()
            await stream.send_all(answer)
            await stream.aclose()

    run = await measure(Refusing)
    assert (run.refused, run.failed) == (2, 2)
    assert "2 calls were refused" in verdict(run).reasons
    assert capsys.readouterr().err.count("the bridge refuses: ") == 1


async def test_who_gets_no_answer_to_the_handshake_lets_go_of_the_socket(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that had to wait too long, as one that was refused."""
    ends: list[float] = []

    class Silent(Bridge):
        async def carry(self, stream: trio.abc.Stream) -> None:
            began = trio.current_time()
            while await stream.receive_some():
                pass
            ends.append(trio.current_time() - began)

    run = await measure(Silent, farewell=20.0)
    assert run.refused == 2
    assert ends == [HANDSHAKE, HANDSHAKE]
    assert "refuses: no answer within 10 s" in capsys.readouterr().err


class Redialling(Bridge):
    """Takes an agent's end for a loss, once."""

    async def lose_agent(self) -> None:
        if self.dials:
            self.dials = False
            await self.dial()
        else:
            await super().lose_agent()


async def test_an_agent_that_comes_after_another_goes_on_counting(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What it says is not what was said before: who dials again is no liar."""
    run = await measure(Redialling, endings="0,0,1", farewell=20.0)
    assert verdict(run).verdict == "well"
    assert run.down.faults == 0
    assert run.kept == 2


# --- a long run -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "failures"), [(Bridge, 0), (Tired, 42), (Dropping, 42)], ids=["well", "cut", "refused"]
)
async def test_who_has_gone_is_counted_and_forgotten(
    kind: Kind, failures: int, autojump_clock: trio.testing.MockClock
) -> None:
    """A run of a day would else end with all its callers in memory."""

    async def come_and_go(generator: Generator) -> None:
        while not generator.meters.is_open:  # noqa: ASYNC110
            await trio.sleep(0.1)
        for number in range(2, 42):
            await trio.sleep(1.5)
            generator.hear_place(PLACE.format(number=number))
        assert generator.caller(0) is None
        assert generator.caller(41) is not None

    run = await measure(kind, then=come_and_go, seconds=62.0, endings="1,1,0")
    assert (run.placed, run.churned, run.failed) == (42, 40, failures)


async def test_who_leaves_as_their_agent_ends_is_remembered_until_then(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def come_and_go(generator: Generator) -> None:
        while not generator.meters.is_open:  # noqa: ASYNC110
            await trio.sleep(0.1)
        generator.hear_place(PLACE.format(number=2))
        await trio.sleep(REMEMBERED + 1)
        assert generator.caller(0) is not None
        await trio.sleep(3 * REMEMBERED)
        assert generator.caller(0) is None

    run = await measure(
        Bridge, 1, come_and_go, seconds=60.0, endings="0,0,1", turn=60.0, speech=2.0
    )
    assert (run.placed, run.failed) == (2, 0)

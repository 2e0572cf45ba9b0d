"""Measures what all other calls notice of one agent that misbehaves, in every way there is.

    python bench/bad_agent.py [--only WORDS] [--tries COUNT] [--as-before]

For each misbehaviour a bridge of its own, on core 0, and two calls on it. The agent of the good one
has the caller speak up a hundred times a second; the bad one sends what it sends as fast as the
bridge takes it. Loopback, some seconds each. Writes its section of `RESULTS.md`.

The good agent keeps to its schedule whatever comes back, so that a stall is met by all that were to
be answered in it, and not by one.
"""

import base64
import contextlib
import hashlib
import json
import math
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec
import report
import results
import trio
from results import BadAgent, BadAgents
from rich.console import Console
from servers import HERE, VARIANTS, Bridge, serve

from sts_trio.load import machine
from sts_trio.wire import frames, twilio

BRIDGE_CORE, OUR_CORE = 0, 1
SECONDS = 4.0  # of a flood, unless the bridge ends it
EVERY = 0.01  # seconds between two barge-ins of the good call
PROBE_EVERY = 0.05  # ... and between two looks at /healthz
# A bridge that has not answered by so long after the flood is not waited for any longer.
PATIENCE = 10.0
GOOD = 20.0  # ms of a barge-in, p99: what other calls are promised
RECEIVE = 65536

STREAM_SID = "MZ00000000000000000000000000000003"
ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 4.2.2
CLEAR = b'"event":"clear"'
# A sign of a turn, its first 100 ms, and the caller speaks up; and that pings are answered.
BARGE_IN = (
    frames.pong()
    + frames.text(b'{"type":"AgentThinking","content":""}')
    + frames.binary(bytes(800))
    + frames.text(b'{"type":"UserStartedSpeaking"}')
)

# --- the misbehaviours ---------------------------------------------------------------------------

BIG = 3_900_000  # letters: just within the 4 MiB that a message may have


def said(type: str, **fields: object) -> bytes:
    return frames.text(json.dumps({"type": type, **fields}).encode())


def filled(text: bytes, filler: bytes = b"a", most: int = BIG) -> bytes:
    """`text`, with as many fillers in the place of its `@` as make a big message of it."""
    return frames.text(text.replace(b"@", filler * (most // len(filler))))


def functions(count: int, *, ours: bool = True) -> bytes:
    """One message that calls so many."""
    asked = [
        {"id": f"f{number}", "name": "look_up", "arguments": "{}", "client_side": ours}
        for number in range(count)
    ]
    return said("FunctionCallRequest", functions=asked)


def fragments(text: bytes) -> bytes:
    """One message, a byte in each frame."""
    middle = b"".join(bytes((frames.CONTINUATION, 1, each)) for each in text[1:-1])
    last = bytes((frames.FIN | frames.CONTINUATION, 1, text[-1]))
    return bytes((frames.TEXT, 1, text[0])) + middle + last


def empty_fragments(count: int) -> bytes:
    middle = bytes((frames.CONTINUATION, 0)) * count
    return bytes((frames.TEXT, 0)) + middle + bytes((frames.FIN | frames.CONTINUATION, 0))


def each(count: int, message: Callable[[int], bytes]) -> bytes:
    return b"".join(map(message, range(count)))


SENTENCE = said("ConversationText", role="assistant", content="a")
SPEAKS = said("UserStartedSpeaking")
PIECE = frames.binary(b"\x11" * 20)
DONE = said("AgentAudioDone")

# {name: what is sent again and again}; made when it is its turn
MISBEHAVIOURS: dict[str, Callable[[], bytes]] = {
    "none": lambda: b"",
    "700 functions in a message": lambda: functions(700),
    "2,000 functions in a message": lambda: functions(2_000),
    "5,000 functions in a message": lambda: functions(5_000),
    "10,000 functions in a message": lambda: functions(10_000),
    "50,000 functions in a message": lambda: functions(50_000),
    "50,000 functions for Deepgram to run": lambda: functions(50_000, ours=False),
    "a function, again and again by one id": lambda: functions(1) * 5_000,
    "functions, one a message": lambda: each(
        20_000, lambda n: said("FunctionCallRequest", functions=[{"id": f"g{n}", "name": "x"}])
    ),
    "cancellations of unknown ids": lambda: (
        said("FunctionCallCancelled", functions=[{"id": f"f{n}"} for n in range(1_000)]) * 100
    ),
    "80,000 times 20 bytes of audio and AgentAudioDone": lambda: (PIECE + DONE) * 80_000,
    "60 MB of audio in messages of 3 MB": lambda: frames.binary(b"\x11" * 3_000_000) * 20,
    "audio, a byte a message": lambda: frames.binary(b"\x11") * 100_000,
    "empty audio": lambda: frames.binary(b"") * 100_000,
    "100,000 sentences": lambda: SENTENCE * 100_000,
    "100,000 sentences of the caller's": lambda: (
        said("ConversationText", role="user", content="a") * 100_000
    ),
    "sentences with audio, each cut short": lambda: (SENTENCE + PIECE + DONE + SPEAKS) * 30_000,
    "unknown kinds": lambda: each(100_000, lambda n: said(f"Kind{n}")),
    "UserStartedSpeaking": lambda: SPEAKS * 100_000,
    "AgentStartedSpeaking": lambda: said("AgentStartedSpeaking", total_latency=1.0) * 100_000,
    "Welcome": lambda: said("Welcome", request_id="x") * 100_000,
    "SettingsApplied": lambda: said("SettingsApplied") * 100_000,
    "Warnings": lambda: each(100_000, lambda n: said("Warning", code=f"W{n}", description="d")),
    "acknowledgements of nothing": lambda: (said("PromptUpdated") + said("ThinkUpdated")) * 50_000,
    "Error": lambda: said("Error", code="x", description="d"),
    "pings": lambda: frames.ping() * 100_000,
    "pongs": lambda: frames.pong() * 100_000,
    "fragments of one byte": lambda: fragments(b'{"type":"AgentThinking"%s}' % (b" " * 500_000)),
    "empty fragments": lambda: empty_fragments(100_000),
    "a close frame with a long reason": lambda: frames.close(1011, "x" * 123),
    "garbage": lambda: os.urandom(1_000_000),
    "texts of 3.9 MB": lambda: filled(b'{"type":"ConversationText","role":"user","content":"@"}'),
    "texts of 3.9 MB, all spaces": lambda: filled(
        b'{"type":"ConversationText","role":"assistant","content":"@"}', b" "
    ),
    "texts of 3.9 MB, not ASCII": lambda: filled(
        b'{"type":"ConversationText","role":"user","content":"@"}', "é".encode()
    ),
    "texts of 3.9 MB, escaped": lambda: filled(
        b'{"type":"ConversationText","role":"user","content":"@"}', rb"\u00e9"
    ),
    "roles of 3.9 MB": lambda: filled(b'{"type":"ConversationText","role":"@","content":"a"}'),
    "arguments of 3.9 MB": lambda: filled(
        b'{"type":"FunctionCallRequest","functions":[{"id":"1","name":"x","arguments":"@"}]}'
    ),
    "an unknown kind of 3.9 MB": lambda: filled(b'{"type":"@"}'),
    "3.9 MB that is no JSON": lambda: filled(b'{"type":"Welcome","a":[@', b"1,"),
    "3.9 MB of numbers": lambda: filled(
        b'{"type":"__customFromThinkProvider","content":[@1]}', b"1,"
    ),
    "3.9 MB of objects": lambda: filled(
        b'{"type":"__customFromThinkProvider","content":[@1]}', b'{"a":{}},'
    ),
    "1 MB of objects": lambda: filled(
        b'{"type":"__customFromThinkProvider","content":[@1]}', b'{"a":{}},', 1_000_000
    ),
    "60 KB of objects": lambda: filled(
        b'{"type":"__customFromThinkProvider","content":[@1]}', b'{"a":{}},', 60_000
    ),
    "60 KB of objects for functions": lambda: filled(
        b'{"type":"FunctionCallRequest","functions":[@1]}', b'{"a":{}},', 60_000
    ),
    "JSON 900,000 deep": lambda: frames.text(
        b'{"type":"History","content":' + b"[" * 900_000 + b"]" * 900_000 + b"}"
    ),
    "1e999, NaN, 100,000 digits": lambda: (
        frames.text(b'{"type":"LatencyReport","total_latency":1e999}')
        + frames.text(b'{"type":"LatencyReport","total_latency":NaN}')
        + filled(b'{"type":"FrustrationDetected","count":@}', b"9", 100_000)
    ),
    "lone surrogates": lambda: (
        frames.text(b'{"type":"ConversationText","role":"user","content":"\\ud800"}') * 100_000
    ),
}


# --- websockets, as plain as can be --------------------------------------------------------------


async def _answer_as_agent(stream: trio.SocketStream) -> None:
    lines = (await _head(stream)).split(b"\r\n")
    fields = {
        name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)
    }
    accept = base64.b64encode(hashlib.sha1(fields[b"sec-websocket-key"] + ACCEPT).digest())
    await stream.send_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: "
        + accept
        + b"\r\n\r\n"
        + said("Welcome", request_id="x")
        + said("SettingsApplied")
    )


async def _call(port: int) -> trio.SocketStream:
    """A caller's websocket, with its stream begun."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(
        b"GET /twilio HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n" % port
    )
    await _head(stream)
    start = twilio.Start(twilio.StreamStart(STREAM_SID), STREAM_SID)
    for message in (twilio.Connected(), start):
        await stream.send_all(frames.masked_text(twilio.encode_as_twilio(message).encode()))
    return stream


async def _head(stream: trio.SocketStream) -> bytes:
    """Up to the blank line. Neither side sends anything behind it of its own accord."""
    seen = b""
    while b"\r\n\r\n" not in seen:
        data = await stream.receive_some()
        if not data:
            raise OSError(f"there is no handshake: {seen!r}")
        seen += data
    return seen


# --- one measurement -----------------------------------------------------------------------------


class _Stage:
    """A bridge, a good call and a bad one."""

    def __init__(self, bridge: Bridge, payload: bytes) -> None:
        self._bridge = bridge
        self._payload = payload
        self._to_floods, self._agents = trio.open_memory_channel[trio.SocketStream](10)
        self._asked: list[float] = []  # when the caller spoke up
        self._waits: list[float] = []  # until `clear`
        self._probes: list[float] = []
        self._is_over = False
        self._answered = trio.Event()  # all that was asked so far
        self._probed = trio.Event()
        self._turn = 0.0
        self._sent = 0  # bytes of the flood

    async def run(self) -> None:
        [listener] = await trio.open_tcp_listeners(self._bridge.agent_port, host="127.0.0.1")
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._take_agent, [listener])
            async with await _call(self._bridge.port) as caller:
                agent = await self._agents.receive()
                nursery.start_soon(_drain, agent)
                nursery.start_soon(self._watch, caller)
                with trio.move_on_after(1.0):  # alone, until it has found its pace
                    await self._speak_up(agent)
                await self._answered.wait()
                self._asked.clear()
                self._waits.clear()
                os.kill(self._bridge.pid, signal.SIGUSR1)
                async with await _call(self._bridge.port) as other:
                    nursery.start_soon(_drain, other)
                    await self._stand_by(agent, nursery)
                self._turn = await self._longest_turn()
                nursery.cancel_scope.cancel()

    async def _stand_by(self, agent: trio.SocketStream, nursery: trio.Nursery) -> None:
        """The good agent goes on while the bad one floods, and a while longer if need be."""
        nursery.start_soon(self._probe)
        with self._flooding(nursery), trio.move_on_after(SECONDS):
            await self._speak_up(agent)
        with trio.move_on_after(PATIENCE):
            await self._answered.wait()
        now = trio.current_time()
        self._waits += [now - asked for asked in self._asked[len(self._waits) :]]
        self._is_over = True
        with trio.move_on_after(PATIENCE):
            await self._probed.wait()

    async def _longest_turn(self) -> float:
        os.kill(self._bridge.pid, signal.SIGUSR2)
        with trio.move_on_after(PATIENCE):
            while True:  # until another process has written it
                if told := LONGEST.findall("\n".join(self._bridge.said())):
                    return float(told[-1])
                await trio.sleep(0.02)
        return 1000 * PATIENCE  # in the midst of one, it has nothing to tell yet

    async def _take_agent(self, stream: trio.SocketStream) -> None:
        with contextlib.suppress(OSError, trio.BrokenResourceError):
            await _answer_as_agent(stream)
            await self._to_floods.send(stream)
            await trio.sleep_forever()

    @contextlib.contextmanager
    def _flooding(self, nursery: trio.Nursery) -> Iterator[None]:
        """Each agent of the bad call, also those that are dialled when one was lost."""
        floods: list[_Flood] = []

        async def flood() -> None:
            async for agent in self._agents:
                floods.append(_Flood(agent.socket, self._payload))

        nursery.start_soon(flood)
        try:
            yield
        finally:
            for each in floods:
                each.stop()
            self._sent = sum(each.sent for each in floods)

    async def _speak_up(self, agent: trio.SocketStream) -> None:
        due = trio.current_time()
        while True:
            due += EVERY
            await trio.sleep_until(due)
            self._asked.append(due)
            self._answered = trio.Event()
            with trio.move_on_after(PATIENCE, shield=True):  # never half a message
                try:
                    await agent.send_all(BARGE_IN)
                except trio.BrokenResourceError:
                    return  # the bridge gave the call up: nothing is answered any more

    async def _watch(self, caller: trio.SocketStream) -> None:
        """The k-th `clear` answers the k-th barge-in."""
        seen = b""
        while data := await caller.receive_some(RECEIVE):
            now = trio.current_time()
            *before, rest = (seen + data).split(CLEAR)
            seen = rest[1 - len(CLEAR) :]
            for _ in before[: len(self._asked) - len(self._waits)]:
                self._waits.append(now - self._asked[len(self._waits)])
            if len(self._waits) == len(self._asked):
                self._answered.set()

    async def _probe(self) -> None:
        due = trio.current_time()
        while not self._is_over:
            due = max(due + PROBE_EVERY, trio.current_time())
            await trio.sleep_until(due)
            self._probes.append(PATIENCE)  # if it is never answered
            with contextlib.suppress(OSError, trio.BrokenResourceError):
                async with await trio.open_tcp_stream("127.0.0.1", self._bridge.port) as stream:
                    await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                    await _head(stream)
                    self._probes[-1] = trio.current_time() - due
        self._probed.set()

    def found(self) -> BadAgent:
        ordered = sorted(1000 * wait for wait in self._waits)
        p50, p99 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.99))
        return BadAgent(
            (round(p50, 3), round(p99, 3), round(ordered[-1], 3)),
            round(1000 * max(self._probes), 3),
            self._turn,
            round(self._sent / 1e6, 3),
        )


async def _drain(stream: trio.SocketStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while await stream.receive_some(RECEIVE):
            pass


class _Flood:
    """A bad agent at work. In threads of its own, that nobody here waits for what it does."""

    def __init__(self, sock: trio.socket.SocketType, payload: bytes) -> None:
        self._socket = socket.socket(fileno=os.dup(sock.fileno()))
        self._socket.setblocking(True)
        self._payload = memoryview(payload)
        self._is_on = True
        self.sent = 0
        self._threads = [threading.Thread(target=work) for work in (self._send, self._receive)]
        for each in self._threads:
            each.start()

    def stop(self) -> None:
        self._is_on = False
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for each in self._threads:
            each.join()
        self._socket.close()

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            while self._is_on and self._payload:
                for at in range(0, len(self._payload), RECEIVE):
                    piece = self._payload[at : at + RECEIVE]
                    self._socket.sendall(piece)
                    self.sent += len(piece)

    def _receive(self) -> None:
        with contextlib.suppress(OSError):
            while self._socket.recv(RECEIVE):
                pass


# Whoever calls is let in, and what a bad agent does is not to be lost in what is logged of it.
BRIDGE = msgspec.structs.replace(
    VARIANTS["ours"],
    arguments=(str(HERE / "watched.py"), "{port}"),
    environment={"STS_ALLOW_UNSIGNED": "1"},
)
LONGEST = re.compile(r"longest turn: ([\d.]+) ms")


def measure(name: str, tries: int) -> BadAgent:
    """The best of so many: another program on the machine makes it worse, and none better.

    Raises:
        NoRun: there is no bridge to be had.
    """
    found = []
    for _ in range(tries):
        with serve(BRIDGE, BRIDGE_CORE) as bridge:
            stage = _Stage(bridge, MISBEHAVIOURS[name]())
            trio.run(stage.run)
            found.append(stage.found())
            if found[-1].barge_in_ms[1] <= GOOD:
                break
    return min(found, key=lambda each: each.barge_in_ms[1])


@click.command(help=__doc__)
@click.option("--only", default="", help="Misbehaviours with these words in their names.")
@click.option(
    "--tries",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Of which the best counts, unless one is good: for a machine that has other things to do.",
)
@click.option("--as-before", is_flag=True, help="Keep the figures as those to compare with.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=HERE,
    help="The directory for what is written: bench/ unless told.",
)
def main(only: str, tries: int, as_before: bool, out: Path) -> None:
    os.sched_setaffinity(0, {OUR_CORE})
    out.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False, soft_wrap=True)
    for name in MISBEHAVIOURS:
        if only not in name:
            continue
        each = measure(name, tries)
        kept = results.load(out / "results.json")
        bad = kept.bad_agents or BadAgents(machine.describe(), SECONDS)
        (bad.before if as_before else bad.after)[name] = each
        kept.bad_agents = msgspec.structs.replace(bad, made=machine.describe())
        results.save(kept, out / "results.json")
        (out / "RESULTS.md").write_text(report.write(kept))
        told = " / ".join(map(report.number, each.barge_in_ms))
        console.print(
            f"{name}: turn {report.number(each.turn_ms)} ms,"
            f" barge-in {told} ms (p50 / p99 / most), /healthz {report.number(each.health_ms)} ms"
        )


if __name__ == "__main__":
    main()

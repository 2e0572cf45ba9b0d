"""What a call's turn costs in the process, in µs, with warm caches and with empty ones.

python bench/turns.py [CALLS]

Real calls on loopback sockets, whose tick is struck by hand: no task to wake up, and no load but
this. In service the core sleeps between two ticks, and its caches are gone when it wakes up; here
they are swept by reading more memory than they hold. Linux, as the poller.
"""

import contextlib
import gc
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import msgspec
import structlog.testing
import trio
import trio.testing
from results import Turn
from rich.console import Console
from rich.table import Table

from sts_trio.bridge.run import Bridge
from sts_trio.legs.agent import AgentLeg
from sts_trio.legs.caller_adopted import AdoptedLeg
from sts_trio.logic.dialogue import Dialogue
from sts_trio.logic.states import Phase
from sts_trio.net import ticker as ticker
from sts_trio.net.poller import Poller
from sts_trio.net.streams import TcpStream
from sts_trio.wire import deepgram, deepgram_settings, frames, twilio
from sts_trio.wire.dialect import Dialect, language

CALLS = 100
ROUNDS = 40
# More than any cache of the last level holds that one core is likely to have.
SWEPT = 128 * 1024 * 1024

STREAM_SID = "MZ00000000000000000000000000000003"
START = twilio.encode_as_twilio(twilio.Start(twilio.StreamStart(STREAM_SID)))
FRAME = twilio.encode_as_twilio(twilio.Media(twilio.Inbound(bytes(range(160))), STREAM_SID))
CHUNK = bytes(range(250)) * 8  # 2000 bytes, a usual chunk of the agent's
MAX = 1 << 20  # what is read at once of what came


class Struck(ticker.Ticker):
    """A ticker that has no tick of its own."""

    def __init__(self, poller: Poller) -> None:
        super().__init__(poller)
        self._turns: list[ticker.Turn] = []

    @contextlib.contextmanager
    def registered(self, turn: ticker.Turn) -> Iterator[None]:
        self._turns.append(turn)
        yield

    def strike(self) -> None:
        now = trio.current_time()
        with self.cork:
            for turn in self._turns:
                turn(now)


class Rig:
    """Calls that are talking, and the far ends of their sockets."""

    def __init__(self) -> None:
        self.callers: list[socket.socket] = []
        self.agents: list[socket.socket] = []
        self.poller = Poller()
        self.ticker = Struck(self.poller)
        self._calls: list[Bridge] = []
        self._listener = socket.create_server(("127.0.0.1", 0))

    async def place_calls(self, count: int, nursery: trio.Nursery) -> None:
        nursery.start_soon(self.poller.run)
        await _settle()
        settings = deepgram_settings.phone_settings({"greeting": "Hello."})
        for _ in range(count):
            call = self.make_call(settings)
            self._calls.append(call)
            nursery.start_soon(call.run)
        await _settle()
        self.say(self.callers, frames.masked_text(START.encode()))
        self.ticker.strike()
        await _settle()
        for message in (deepgram.Welcome(), deepgram.SettingsApplied()):
            self.say(self.agents, _of_agent(message))
            self.poller.poll()
            await _settle()
        self.hear(self.agents)
        if not all(call.dialogue.phase is Phase.TALKING for call in self._calls):
            raise RuntimeError("not all calls are talking")

    def make_call(self, settings: deepgram_settings.Settings) -> Bridge:
        dialogue = Dialogue(lambda wanted: settings, now=trio.current_time())
        return Bridge(dialogue, self._open_caller, self)

    @contextlib.asynccontextmanager
    async def _open_caller(self) -> AsyncIterator[AdoptedLeg]:
        near, far = self._connection()
        self.callers.append(far)
        with near:
            yield AdoptedLeg(near, self.ticker)

    # As `sts_trio.bridge.run.Lines`.

    async def choose(self, info: Any) -> str:
        return "default"

    @contextlib.asynccontextmanager
    async def open(self, agent: str, info: Any, within: float) -> AsyncIterator[AgentLeg]:
        near, far = self._connection()
        self.agents.append(far)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(near))
        tcp = TcpStream(stream, self.poller.cork)
        async with tcp, trio.open_nursery() as nursery:
            leg = AgentLeg(tcp, language(Dialect.V1), nursery)
            leg.read_with(self.poller)
            yield leg

    def _connection(self) -> tuple[socket.socket, socket.socket]:
        far = socket.create_connection(self._listener.getsockname())
        near, _ = self._listener.accept()
        for end in near, far:
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return near, far

    # The far ends.

    def say(self, who: Sequence[socket.socket], data: bytes) -> None:
        for far in who:
            far.sendall(data)

    def hear(self, who: Sequence[socket.socket]) -> None:
        for far in who:
            far.recv(MAX)  # raises where nothing has come, and so nothing was done

    def close(self) -> None:
        for end in (self._listener, *self.callers, *self.agents):
            end.close()


class Step(msgspec.Struct, frozen=True):
    """Something that is done for every call: how it comes about, and who then has heard of it."""

    name: str
    prepare: Callable[[Rig], None]
    perform: Callable[[Rig], None]
    tells_caller: bool


def _frames(count: int) -> Callable[[Rig], None]:
    heard = frames.masked_text(FRAME.encode()) * count
    return lambda rig: rig.say(rig.callers, heard)


def _chunk(rig: Rig) -> None:
    rig.say(rig.agents, _of_agent(deepgram.Audio(CHUNK)))


def _interruption(rig: Rig) -> None:
    """There must be something to be cut, and so a new turn of the agent's before."""
    rig.say(rig.agents, _of_agent(deepgram.ConversationText("user", "When?")))
    _chunk(rig)
    _look(rig)
    rig.hear(rig.callers)
    rig.say(rig.agents, _of_agent(deepgram.UserStartedSpeaking()))


def _strike(rig: Rig) -> None:
    rig.ticker.strike()


def _look(rig: Rig) -> None:
    rig.poller.poll()


STEPS = (
    Step("two frames of the caller's, to the agent", _frames(2), _strike, tells_caller=False),
    Step("five of them", _frames(5), _strike, tells_caller=False),
    Step("2000 bytes of the agent's, to the caller", _chunk, _look, tells_caller=True),
    Step("barge-in: clear, to the caller", _interruption, _look, tells_caller=True),
)


def measure(calls: int = CALLS, rounds: int = ROUNDS) -> list[Turn]:
    with structlog.testing.capture_logs():  # each call has a line to tell, and none is asked for
        return trio.run(_measure, calls, rounds)


async def _measure(calls: int, rounds: int) -> list[Turn]:
    with contextlib.closing(Rig()) as rig:
        async with trio.open_nursery() as nursery:
            await rig.place_calls(calls, nursery)
            was_frozen = gc.get_freeze_count() > 0
            gc.collect()
            gc.freeze()  # as the server does
            turns = [
                Turn(
                    step.name, *(_microseconds(rig, step, rounds, sweep) for sweep in (False, True))
                )
                for step in STEPS
            ]
            if not was_frozen:
                gc.unfreeze()
            nursery.cancel_scope.cancel()
    return turns


def _microseconds(rig: Rig, step: Step, rounds: int, sweep: bool) -> float:
    """For one call, the median of so many rounds."""
    took = []
    swept = bytearray(SWEPT if sweep else 0)
    for _ in range(rounds):
        step.prepare(rig)
        swept.count(1)
        began = time.perf_counter()
        step.perform(rig)
        took.append(time.perf_counter() - began)
        rig.hear(rig.callers if step.tells_caller else rig.agents)
    return statistics.median(took) / len(rig.callers) * 1e6


def _of_agent(message: deepgram.TextFromAgent | deepgram.Audio) -> bytes:
    encoded = deepgram.encode_as_agent(message)
    return frames.binary(encoded) if isinstance(encoded, bytes) else frames.text(encoded.encode())


async def _settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


def table(turns: list[Turn]) -> Table:
    shown = Table("for one call", "warm µs", "cold µs")
    for turn in turns:
        shown.add_row(turn.name, f"{turn.warm:.1f}", f"{turn.cold:.1f}")
    return shown


if __name__ == "__main__":
    Console().print(table(measure(*map(int, sys.argv[1:]))))

"""Server processes that share a database, a balancer before them, and the agents that they dial."""

import contextlib
import signal
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import trio
from limits import HANG
from rig_hypercorn import free_port, sts_trio_serve, until_it_answers
from rig_peers import FakeAgent
from rig_told_call import AGENT

from sts_trio.records.database import Database
from sts_trio.records.record import Record
from sts_trio.records.search import Wanted
from sts_trio.records.store import Store
from sts_trio.simulate.phone_call import PhoneCall
from sts_trio.simulate.script import WaitForQuiet
from sts_trio.simulate.unknowns import Unknowns
from sts_trio.testing import carrier
from sts_trio.testing.carrier import Account
from sts_trio.wire import deepgram, deepgram_settings
from sts_trio.wire.deepgram import AgentAudioDone, Audio, ConversationText

WORD = b"\x31" * 1600
# Seconds for a story in which some processes start one after the other.
LONG = 3 * HANG
# The caller stays until the call is ended.
STAYS = [WaitForQuiet(patience=LONG, silence=LONG)]
# Nobody asks whether that caller is still there. On a busy machine the silence is long, and no
# `Talk` says such a question: the call would be ended for it.
LEAVES_SILENCE = {"STS_ASK_AFTER_SECONDS": "0"}


class Talk(FakeAgent):
    """A session of the agent's."""

    async def speak(self, text: str) -> None:
        await self.say(ConversationText(AGENT, text), Audio(WORD), AgentAudioDone())

    async def hear(self, text: str) -> None:
        await self.say(deepgram.UserStartedSpeaking(), ConversationText("user", text))

    @property
    def told(self) -> list[str]:
        """What it knows of before: who said what, or what came of which function."""
        settings = self.got[0]
        assert isinstance(settings, deepgram_settings.Settings)
        assert not isinstance(settings.agent, str)
        messages = (settings.agent.get("context") or {}).get("messages", [])
        return [
            each["content"] if "content" in each else each["function_calls"][0]["response"]
            for each in messages
        ]

    @property
    def asked(self) -> list[str]:
        """In the caller's name."""
        return [each.content for each in self.got if isinstance(each, deepgram.InjectUserMessage)]


class Fleet:
    """`processes` serve at `ports`, in the same order; `base` is the balancer's."""

    def __init__(self, account: Account, url: str) -> None:
        self.account = account
        self.ports: list[int] = []
        self.processes: dict[int, trio.Process] = {}  # {port: what serves there}
        self.agents: list[Talk] = []
        self.base = ""
        self.directory = Path()
        self.variables: dict[str, str] = {}
        self._url = url
        self._dialled = trio.Event()

    async def goes_on(self, number: int) -> Talk:
        """The agent's session of that number, once it has the call: it was dialled ahead."""
        talk = await self.talk(number)
        await until(lambda: self.moves == number)
        return talk

    @property
    def moves(self) -> int:
        """Of the newest call."""
        return self.record(self.newest).call.moves

    @property
    def newest(self) -> str:
        with self._store() as store:
            return store.calls(Wanted()).calls[0].call_sid

    async def talk(self, number: int) -> Talk:
        """The agent's session of that number, once it is ready."""
        while len(self.agents) <= number:
            await self._dialled.wait()
        await self.agents[number].ready.wait()
        return self.agents[number]

    def kill(self, port: int, how: signal.Signals = signal.SIGKILL) -> None:
        self.processes[port].send_signal(how)

    async def ended(self, call_sid: str) -> Record:
        """The record of a call, once its end is in it."""
        await until(lambda: self.record(call_sid).call.state == "ended")
        return self.record(call_sid)

    @contextlib.asynccontextmanager
    async def restarted(self, port: int, how: signal.Signals) -> AsyncIterator[None]:
        """As a supervisor does it, once the process has ended."""
        self.kill(port, how)
        await self.processes[port].wait()
        log = self.directory / "log-again"
        async with sts_trio_serve(port, environ=self.variables, log=log) as self.processes[port]:
            await until_it_answers(port)
            yield

    @contextlib.asynccontextmanager
    async def joined(self, **environ: str) -> AsyncIterator[int]:
        """By one more process, which listens on that port. It is the last that calls come to."""
        port = free_port()
        variables = {**self.variables, **environ}
        log = self.directory / f"log{len(self.ports)}"
        async with sts_trio_serve(port, environ=variables, log=log) as self.processes[port]:
            await until_it_answers(port)
            self.ports.append(port)
            yield port

    def record(self, call_sid: str) -> Record:
        with self._store() as store:
            found = store.record(call_sid)
        assert found is not None
        return found

    def knows(self, words: str) -> bool:
        """Whether a call with these is in the database."""
        with self._store() as store:
            return bool(store.calls(Wanted(words=words)).calls)

    def heard(self, words: str) -> bool:
        """Whether it is there that a caller has heard these: a later agent is told nothing else."""
        return self.knows(words) and any(
            turn.heard == words for turn in self.record(self.newest).turns
        )

    @contextlib.contextmanager
    def _store(self) -> Iterator[Store]:
        database = Database(self._url)
        database.open()
        try:
            yield Store(database)
        finally:
            database.close()

    # --- who answers -----------------------------------------------------------

    async def serve_agent(self, stream: trio.SocketStream) -> None:
        agent = Talk()
        self.agents.append(agent)
        self._dialled.set()
        self._dialled = trio.Event()
        await agent.serve(stream)


class Line:
    """A call by the balancer, and what came of it."""

    def __init__(self) -> None:
        self.came: PhoneCall | None = None

    async def run(self, there: Fleet) -> None:
        self.came = await there.account.call(f"{there.base}/twiml", STAYS, limit=LONG)

    @property
    def call(self) -> PhoneCall:
        assert self.came is not None
        return self.came


class Balancer:
    """Leads a connection to the first of these ports that takes it. One that a server resets is
    reset."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self._open: dict[trio.SocketStream, trio.CancelScope] = {}
        self._holds = False

    def cut(self) -> None:
        """All connections that there are, without a word."""
        for client, scope in self._open.items():
            _reset_at_close(client)
            scope.cancel()

    def hold(self) -> None:
        """All of them, in which nothing moves any more."""
        self._holds = True
        for scope in self._open.values():
            scope.cancel()

    async def serve(self, client: trio.SocketStream) -> None:
        for port in self.ports:
            with contextlib.suppress(OSError):
                server = await trio.open_tcp_stream("127.0.0.1", port)
                break
        else:
            await trio.aclose_forcefully(client)
            return
        try:
            async with trio.open_nursery() as nursery:
                self._open[client] = nursery.cancel_scope
                nursery.start_soon(_pump, client, server, nursery.cancel_scope)
                await _pump(server, client, nursery.cancel_scope)
            if self._holds and nursery.cancel_scope.cancelled_caught:
                await trio.sleep_forever()
        finally:
            del self._open[client]
            await trio.aclose_forcefully(server)
            await trio.aclose_forcefully(client)


async def until(condition: Callable[[], bool]) -> None:
    """Of another process nobody tells."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.02)


async def _pump(source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
    try:
        async for data in source:
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        with contextlib.suppress(OSError):
            _reset_at_close(sink)
    both.cancel()


def _reset_at_close(stream: trio.SocketStream) -> None:
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.asynccontextmanager
async def fleet(
    directory: Path,
    url: str,
    *,
    size: int = 2,
    unknowns: Unknowns | None = None,
    **environ: str,
) -> AsyncIterator[Fleet]:
    """So many processes on one database. All are gone when the block is left."""
    async with carrier(unknowns=unknowns) as account, trio.open_nursery() as nursery:
        this = Fleet(account, url)
        [agents] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        [balancer] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, this.serve_agent, [agents])
        nursery.start_soon(trio.serve_listeners, Balancer(this.ports).serve, [balancer])
        this.base = f"http://127.0.0.1:{balancer.socket.getsockname()[1]}"
        this.directory = directory
        this.variables = variables = {
            "STS_AGENT": "deepgram",
            "DEEPGRAM_API_KEY": "any",
            "DEEPGRAM_URL": f"ws://127.0.0.1:{agents.socket.getsockname()[1]}/v1/agent/converse",
            "STS_PUBLIC_URL": this.base,
            "STS_DATABASE_URL": url,
            "STS_SPOOL": str(directory / "spool"),
            "STS_LOG_LEVEL": "debug",
            "STS_DRAIN_SECONDS": "0",
            **LEAVES_SILENCE,
            **account.variables,
            **environ,
        }
        async with contextlib.AsyncExitStack() as stack:
            for number in range(size):
                port = free_port()
                serving = sts_trio_serve(port, environ=variables, log=directory / f"log{number}")
                this.processes[port] = await stack.enter_async_context(serving)
                this.ports.append(port)
            for port in this.ports:
                await until_it_answers(port)
            yield this
        nursery.cancel_scope.cancel()

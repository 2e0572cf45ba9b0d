"""An agent to be dialled, which tells how many sessions it has and can be taken away."""

import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import trio

from sts_trio.offline import mode as modes
from sts_trio.offline.mode import Mode
from sts_trio.offline.protocol import script_file
from sts_trio.offline.protocol import server as offline
from sts_trio.offline.protocol.faults import Faults
from sts_trio.offline.protocol.script import CAR_SELLER, Line, Script
from sts_trio.offline.workers import pool as workers
from sts_trio.testing.background import running_beside
from sts_trio.testing.clock import jumping_only_when_nothing_works


class ServeStream(Protocol):
    """Serves one session of an agent on a connected stream, and closes that."""

    def __call__(self, stream: trio.abc.Stream, /, *, faults: Faults) -> Awaitable[None]: ...


class Agent:
    """The offline agent on a free port of this machine.

    Made by `scripted_agent` and `offline_agent`. `faults` may be set at any time; they count
    for the sessions that begin then.
    """

    def __init__(
        self, serve_stream: ServeStream, faults: Faults, mode: Mode, reason: str | None = None
    ) -> None:
        self.url = ""  # what DEEPGRAM_URL has to be
        self.mode = mode
        self.reason = reason  # why it recognises no words, if that was not asked for
        self.faults = faults
        self.sessions = 0  # begun so far
        self.last_gone: float | None = None  # when a session last ended, on Trio's clock
        self._serve_stream = serve_stream
        self._back_at = -math.inf
        self._live: set[trio.CancelScope] = set()
        self._ended = trio.Event()

    @property
    def live(self) -> int:
        """Sessions under way."""
        return len(self._live)

    def drop(self, *, away: float = 0.0) -> None:
        """The agent dies: every session's connection is gone, without a close frame.

        A client that dials it in the next `away` seconds is kept waiting until they are over.
        """
        self._back_at = trio.current_time() + away
        for scope in self._live:
            scope.cancel()

    async def empty(self) -> None:
        """Waits until there is no session."""
        await trio.lowlevel.checkpoint()
        while self._live:
            await self._ended.wait()

    async def serve(
        self, *, task_status: trio.TaskStatus["Agent"] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serves until cancelled."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}/v1/agent/converse"
        task_status.started(self)
        await trio.serve_listeners(self._serve_one, listeners)

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        scope = trio.CancelScope()
        self._live.add(scope)
        self.sessions += 1
        try:
            with scope:
                await trio.sleep_until(self._back_at)
                await self._serve_stream(stream, faults=self.faults)
        finally:
            self.last_gone = trio.current_time()
            self._live.remove(scope)
            self._ended.set()
            self._ended = trio.Event()


@contextlib.asynccontextmanager
async def scripted_agent(*lines: Line | Path, faults: Faults | None = None) -> AsyncIterator[Agent]:
    """An agent that says these lines, one a turn, whatever it hears; then from the first again.

    It speaks all of Deepgram's Voice Agent protocol and is as strict about it, needs no key, and
    listens on a free port of the loopback. It notices when the caller speaks, and lets itself be
    interrupted, but recognises no words. Its greeting is not a line: that comes with the bridge's
    settings. A `CallFunction` among the lines has the bridge run a function, a `Silence` has the
    agent say nothing in its turn, and a `Path` is a file of lines, as `sts-trio agent --script`
    takes it.

    `faults` is what is to go wrong with every session, see `Faults`.

    Raises:
        ConfigError: a file is no script.
    """
    script = Script(tuple(_written(lines))) if lines else CAR_SELLER
    serve_stream = partial(offline.serve_stream, script=script)
    agent = Agent(serve_stream, faults or Faults(), Mode.SCRIPTED)
    async with running_beside(agent.serve):
        yield agent


def _written(lines: Iterable[Line | Path]) -> Iterator[Line]:
    for each in lines:
        if isinstance(each, Path):
            yield from script_file.read(each).lines
        else:
            yield each


@contextlib.asynccontextmanager
async def offline_agent(*, faults: Faults | None = None) -> AsyncIterator[Agent]:
    """The agent that `sts-trio agent` and the server without a key have: a car seller.

    It recognises what is said and answers in words, if what that takes is installed: the `demo`
    extra. Else it is a `scripted_agent`; `mode` and `reason` tell.
    """
    mode, reason = modes.choose(None)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(jumping_only_when_nothing_works())
        pool = await stack.enter_async_context(workers.open_pool()) if mode is Mode.EARS else None
        serve_stream = partial(offline.serve_stream, pool=pool)
        agent = Agent(serve_stream, faults or Faults(), mode, reason)
        await stack.enter_async_context(running_beside(agent.serve))
        yield agent

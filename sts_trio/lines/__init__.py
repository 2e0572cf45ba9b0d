"""The way to the agent: who answers a call, and a leg to them.

`choose` names the agent, `open` opens a leg. Between the answer to Twilio's webhook and the stream
there is time to dial: `dial_ahead` does, and gives a token that the stream brings back, so that
`open` has a leg ready, in most cases with the greeting in it. The token is a capability: it cannot
be guessed, is good for one call and once.

Whatever is wrong with a line dialled ahead, the token included, `open` dials afresh.
"""

import contextlib
import hmac
import secrets
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
import trio

from sts_trio.call_info import CallInfo
from sts_trio.lines.endpoints import AgentLeg, Dial, Endpoint, Endpoints, EndpointState
from sts_trio.lines.prepared import GOODBYE, Line
from sts_trio.lines.routing import Routing
from sts_trio.logic.states import AGENT_TIMEOUT
from sts_trio.wire import deepgram

SettingsFor = Callable[[str, CallInfo], deepgram.Settings]


class LinesState(msgspec.Struct, frozen=True):
    """What there is to say to operators."""

    endpoints: tuple[EndpointState, ...]
    waiting: int  # lines dialled ahead that no call has taken yet
    dialled_ahead: int  # so far
    handed_over: int  # ... of which a call made use


class _Promise(msgspec.Struct, frozen=True):
    """A line dialled ahead, and what has to be shown for it."""

    token: str
    agent: str
    line: Line


class AgentLines:
    """`settings_for` makes the `Settings` of an agent for a call; the call's dialogue has to make
    the same ones. `run` it, or nothing is dialled ahead."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        dial: Dial,
        routing: Routing,
        settings_for: SettingsFor,
    ) -> None:
        self._dial = dial
        self._endpoints = Endpoints(endpoints, dial)
        self._routing = routing
        self._settings_for = settings_for
        self._waiting: dict[str, _Promise] = {}  # {CallSid: line that nobody has taken}
        self._nursery: trio.Nursery | None = None
        self._dialled_ahead = 0
        self._handed_over = 0

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return self._endpoints.endpoints

    @endpoints.setter
    def endpoints(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = Endpoints(endpoints, self._dial)

    @property
    def state(self) -> LinesState:
        return LinesState(
            self._endpoints.states(), len(self._waiting), self._dialled_ahead, self._handed_over
        )

    # --- the call's side ------------------------------------------------------------------------

    async def choose(self, info: CallInfo) -> str:
        """The name of the agent that answers; see `Routing.choose`."""
        return await self._routing.choose(info)

    @contextlib.asynccontextmanager
    async def open(
        self, agent: str, info: CallInfo, within: float = AGENT_TIMEOUT
    ) -> AsyncIterator[AgentLeg]:
        """A leg for a call that `agent` answers: the one dialled ahead, whose `is_prepared` is true
        then, or a fresh one. Whoever opens it gives up after `within` seconds.

        Raises:
            AgentRejected, AgentUnreachable: there is no leg to be had.
        """
        by = trio.current_time() + within
        line = self._claim(agent, info)
        if line is not None:
            async with line.taken() as prepared:
                if prepared is not None:
                    self._handed_over += 1
                    yield prepared
                    return
        async with self._endpoints.open(by - trio.current_time()) as leg:
            yield leg

    def _claim(self, agent: str, info: CallInfo) -> Line | None:
        """The line this call has a token for. It is spent now."""
        promise = self._waiting.get(info.call_sid)
        if promise is None or not hmac.compare_digest(
            promise.token.encode(), info.line.encode(errors="replace")
        ):
            return None
        del self._waiting[info.call_sid]
        if promise.agent != agent:
            promise.line.spoil("another agent answers")
            return None
        return promise.line

    # --- the app's side -------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Owns the lines dialled ahead, those that calls took as well, until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    def dial_ahead(self, agent: str, info: CallInfo, *, room: int) -> str:
        """Starts to dial, and returns the token that `info.line` has to be for `open`.

        Returns "" if it does not: for a call without a CallSid, when lines wait for `room` calls
        already (as many as there can be), and while all endpoints rest.
        """
        self._give_up(info.call_sid, "asked for once more")
        if (
            self._nursery is None
            or not info.call_sid
            or len(self._waiting) >= room
            or not self._endpoints.admit
        ):
            return ""
        settings = self._settings_for(agent, info)
        line = Line(info.call_sid, self._endpoints.open, settings)
        promise = _Promise(secrets.token_urlsafe(32), agent, line)
        self._waiting[info.call_sid] = promise
        self._dialled_ahead += 1
        self._nursery.start_soon(self._hold, info.call_sid, promise)
        return promise.token

    async def aclose(self) -> None:
        """Says goodbye on all lines that wait, and gives the agent a moment for its answer."""
        lines = [promise.line for promise in self._waiting.values()]
        self.shut_down()
        with trio.move_on_after(GOODBYE):
            for line in lines:
                await line.gone.wait()

    def shut_down(self) -> None:
        """Says goodbye on all lines that wait, and does not wait itself."""
        for call_sid in list(self._waiting):
            self._give_up(call_sid, "the server goes away")

    def _give_up(self, call_sid: str, reason: str) -> None:
        promise = self._waiting.pop(call_sid, None)
        if promise is not None:
            promise.line.spoil(reason)

    async def _hold(self, call_sid: str, promise: _Promise) -> None:
        try:
            await promise.line.run()
        finally:
            if self._waiting.get(call_sid) is promise:
                del self._waiting[call_sid]

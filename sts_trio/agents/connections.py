"""The way to the agent: who answers a call, and a leg to them.

`choose` names the agent, `open` opens a leg. Between the answer to Twilio's webhook and the stream
there is time to dial: `dial_ahead` does, and gives a token that the stream brings back, so that
`open` has a leg ready, in most cases with the greeting in it. The token is a capability: it cannot
be guessed, is good for one call and once.

Whatever is wrong with a line dialled ahead, the token included, `open` dials afresh.

Webhooks are repeated, by Twilio and by whoever has caught one. A call that is announced again keeps
the line that it has and the agent that was chosen; how often it gets another line is bounded by its
`Allowance`. A line counts until it is gone, its goodbye included: one is dialled ahead only while
lines and live calls are fewer than the calls there may be. A call that is here comes before one
that may come: where it has to dial and all places are taken, the line that waits longest goes.
"""

import collections
import contextlib
import hmac
import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import msgspec
import trio

from sts_trio.agents.allowance import MAX_SID, REMEMBERED, Allowance
from sts_trio.agents.choice import AgentChoice
from sts_trio.agents.endpoints import AgentLeg, Dial, Endpoint, Endpoints, EndpointState
from sts_trio.agents.prewarm import GOODBYE, PrewarmedSession
from sts_trio.agents.routing import Routing
from sts_trio.agents.sessions import AgentSessions
from sts_trio.call.info import CallInfo
from sts_trio.logic.states import AGENT_TIMEOUT
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.wire import deepgram_settings

# Seconds that what was found out of a caller waits for their stream: after the longest notice, and
# a queue before it.
AWAITED = 600.0

# Of the time that a call has to dial in, this much is not waited for a session.
TO_DIAL = 0.5

SettingsFor = Callable[[str, CallInfo], deepgram_settings.Settings]


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
    line: PrewarmedSession
    past: deepgram_settings.Settings | None  # those of a call that is under way already


class AgentConnections:
    """`settings_for` makes the `Settings` of an agent for a call; the call's dialogue has to make
    the same ones. `live` tells how many calls there are, of `max_calls`; `sessions` how many of
    them may have an agent. `run` it, or nothing is dialled ahead."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        dial: Dial,
        routing: Routing,
        settings_for: SettingsFor,
        max_calls: int,
        live: Callable[[], int],
        sessions: AgentSessions | None = None,
    ) -> None:
        self._sessions = sessions or AgentSessions(None, lambda: None)
        self._dial = dial
        self._endpoints = Endpoints(endpoints, dial)
        self._routing = routing
        self._settings_for = settings_for
        self._max_calls = max_calls
        self._live = live
        self._allowance = Allowance()
        # {CallSid: (agent, whether more was found out)}, of calls that were announced
        self._chosen: collections.OrderedDict[str, tuple[str, bool]] = collections.OrderedDict()
        # {CallSid: what was}, of calls that are here or may come: it is somebody's name, or worse
        self._found: dict[str, AgentChoice] = {}
        # {CallSid: when it was found out}, of those that may come
        self._awaited: collections.OrderedDict[str, float] = collections.OrderedDict()
        self._choosing: dict[str, trio.Event] = {}  # {CallSid: is set when that is known}
        self._waiting: dict[str, _Promise] = {}  # {CallSid: line that nobody has taken}
        self._unowned: set[PrewarmedSession] = set()  # all that are not gone and no call has
        self._legs = 0  # that calls have, or are about to have
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
        """The name of the agent that answers; see `Routing.choose`.

        It is chosen once for a call that is announced, however often that is.
        """
        if not info.call_sid:
            return (await self._routing.choose(info)).agent
        sid = info.call_sid[:MAX_SID]
        if info.stream_sid:
            if self._known(sid) != info.agent:
                choice = await self._routing.choose(info)
                self._remember(sid, choice)
            self._awaited.pop(sid, None)
            return self._chosen[sid][0]
        while (agent := self._known(sid)) is None:
            if (choosing := self._choosing.get(sid)) is not None:
                await choosing.wait()
                continue
            self._choosing[sid] = trio.Event()
            try:
                self._remember(sid, await self._routing.choose(info))
            finally:
                self._choosing.pop(sid).set()
        return agent

    def choice(self, call_sid: str) -> AgentChoice:
        """What was found out for that call, as long as it is not over."""
        return self._found.get(call_sid[:MAX_SID]) or AgentChoice()

    def forget(self, call_sid: str) -> None:
        """The call is over: what was found out of it is not kept."""
        self._found.pop(call_sid[:MAX_SID], None)

    def _known(self, sid: str) -> str | None:
        """Who was chosen, if all that was found out with it is still there."""
        agent, is_tailored = self._chosen.get(sid, (None, False))
        return None if is_tailored and sid not in self._found else agent

    def _remember(self, sid: str, choice: AgentChoice) -> None:
        now = trio.current_time()
        self._chosen[sid] = choice.agent, choice.is_tailored
        if len(self._chosen) > REMEMBERED:
            self._chosen.popitem(last=False)
        if choice.is_tailored:
            self._found[sid], self._awaited[sid] = choice, now
        while self._awaited:
            oldest, since = next(iter(self._awaited.items()))
            if now < since + AWAITED and len(self._awaited) <= REMEMBERED:
                break
            del self._awaited[oldest]
            self.forget(oldest)

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
        with self._counted(info.call_sid):
            line = self._claim(agent, info)
            if line is not None:
                async with self._owned(line) as prepared:
                    if prepared is not None:
                        self._handed_over += 1
                        yield prepared
                        return
            self._make_room()
            patience = max(0.0, by - trio.current_time() - TO_DIAL)
            async with self._sessions.dialled(
                lambda: self._endpoints.open(by - trio.current_time()), patience
            ) as leg:
                yield leg

    @contextlib.asynccontextmanager
    async def _open_ahead(self) -> AsyncIterator[AgentLeg]:
        async with self._sessions.dialled(self._endpoints.open, 0) as leg:
            yield leg

    @contextlib.contextmanager
    def _counted(self, call_sid: str) -> Iterator[None]:
        self._legs += 1
        try:
            with self._allowance.live(call_sid):
                yield
        finally:
            self._legs -= 1

    @contextlib.asynccontextmanager
    async def _owned(self, line: PrewarmedSession) -> AsyncIterator[AgentLeg | None]:
        """While a call has the line, it is counted as that call's leg."""
        self._unowned.discard(line)
        try:
            async with line.claimed() as prepared:
                yield prepared
        finally:
            if not line.gone.is_set():
                self._unowned.add(line)

    def _make_room(self) -> None:
        """For a call that has to dial. Twilio opens a stream within a second of our answer, so the
        line that waits longest is likely to have no caller any more."""
        excess = max(0, self._legs + len(self._waiting) - self._max_calls)
        for call_sid in list(itertools.islice(self._waiting, excess)):
            self._give_up(call_sid, "its place was needed for a call")

    def _claim(self, agent: str, info: CallInfo) -> PrewarmedSession | None:
        """The line this call has a token for. It is spent now."""
        promise = self._waiting.get(info.call_sid)
        if promise is None or not hmac.compare_digest(
            promise.token.encode(), info.line.encode(errors="replace")
        ):
            return None
        del self._waiting[info.call_sid]
        if promise.agent != agent:
            promise.line.discard("another agent answers")
            return None
        return promise.line

    # --- the app's side -------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Owns the lines dialled ahead, those that calls took as well, until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await self._sessions.run()
        finally:
            self._nursery = None

    def dial_ahead(
        self, agent: str, info: CallInfo, settings: deepgram_settings.Settings | None = None
    ) -> str:
        """Starts to dial, and returns the token that `info.line` has to be for `open`. `settings`
        are those of a call that is under way already.

        For a call whose line waits already it is that one's, unless that agent has been told of
        another past: it may wait from before the call was another process's. Returns "" if nobody
        is dialled: for a call without a CallSid, for one that has had its share, when there is no
        room for another line, and while all endpoints rest.
        """
        promise = self._waiting.get(info.call_sid)
        if promise is not None and promise.past != settings:
            promise.line.discard("the call has gone on since")
        elif promise is not None and promise.line.is_good:
            return promise.token
        if self._nursery is None or not info.call_sid:
            return ""
        if (reason := self._dial_ahead_denial(info.call_sid)) is not None:
            report(events.AgentNotPrewarmed(info.call_sid, reason))
            return ""
        line = PrewarmedSession(
            info.call_sid, self._open_ahead, settings or self._settings_for(agent, info)
        )
        promise = _Promise(secrets.token_urlsafe(32), agent, line, settings)
        self._waiting.pop(info.call_sid, None)  # a discarded one, at an older place
        self._waiting[info.call_sid] = promise
        self._unowned.add(line)
        self._dialled_ahead += 1
        self._nursery.start_soon(self._hold, info.call_sid, promise)
        return promise.token

    def _dial_ahead_denial(self, call_sid: str) -> str | None:
        if self._live() + len(self._unowned) >= self._max_calls:
            return "there is no room for another line"
        if not self._endpoints.admit:
            return "every agent endpoint is resting after failures"
        return self._allowance.take(call_sid, trio.current_time())

    async def aclose(self) -> None:
        """Says goodbye on all lines that wait, and gives the agent a moment for its answer."""
        self.shut_down()
        lines = list(self._unowned)
        with trio.move_on_after(GOODBYE):
            for line in lines:
                await line.gone.wait()

    def shut_down(self) -> None:
        """Says goodbye on all lines that wait, and does not wait itself."""
        for call_sid in list(self._waiting):
            self._give_up(call_sid, "the server goes away")

    def _give_up(self, call_sid: str, reason: str) -> None:
        self._waiting.pop(call_sid).line.discard(reason)

    async def _hold(self, call_sid: str, promise: _Promise) -> None:
        try:
            await promise.line.run()
        finally:
            self._unowned.discard(promise.line)
            if self._waiting.get(call_sid) is promise:
                del self._waiting[call_sid]

"""The addresses at which the agent may be dialled, in order, each with its circuit breaker.

One dial goes through them until one answers. An endpoint that rests after failures is passed over;
one that fails, or is silent for `PATIENCE` while another is left, has the next one tried within the
same dial. The time there is for it all is shared out so that the last one still has a chance.

What makes an endpoint rest: nobody there, no websocket handshake in time, 5xx, and 429 where
another one is left to be dialled. Of the last one 429 tells that there are no more sessions for
now, which `sessions` makes everybody wait for. Not 401 to 404 and their like: they are the
operator's to mend, the endpoint is well, and resting would only hide the reason.
"""

import contextlib
import urllib.parse
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from math import inf

import msgspec
import trio

from sts_trio.agents.breaker import Attempt, Breaker, Outcome, State
from sts_trio.agents.sessions import TOO_MANY
from sts_trio.config import Config
from sts_trio.errors import AgentRejected, AgentUnreachable, NoCredential
from sts_trio.legs.contract import OpenAgentLeg
from sts_trio.logic.states import AGENT_TIMEOUT
from sts_trio.observe import events
from sts_trio.observe.report import report

# A handshake takes 0.1 to 0.3 s, and somebody is waiting on the phone.
PATIENCE = 2.0

AgentLeg = OpenAgentLeg


class Endpoint(msgspec.Struct, frozen=True):
    """Where the agent is dialled, and with which key."""

    url: str
    key: str | None = None

    @property
    def address(self) -> str:
        """For people: neither key nor query, which may hold one."""
        parts = urllib.parse.urlsplit(self.url)
        return parts.netloc + parts.path

    @property
    def is_secure(self) -> bool:
        return urllib.parse.urlsplit(self.url).scheme == "wss"

    def __repr__(self) -> str:
        return f"Endpoint({self.address!r})"


def configured_endpoints(config: Config) -> list[Endpoint]:
    keys: tuple[str | None, ...] = config.deepgram_api_keys or (None,)
    if len(keys) == 1:
        keys *= len(config.deepgram_urls)
    return [Endpoint(url, key) for url, key in zip(config.deepgram_urls, keys, strict=True)]


class EndpointState(msgspec.Struct, frozen=True):
    """How an endpoint does, for operators."""

    address: str
    state: State
    failures: int  # in a row
    rest: float  # seconds for which nobody will dial it
    reached: int  # dials so far that came through
    failed: int  # ... and that did not


Dial = Callable[[Endpoint], AbstractAsyncContextManager[AgentLeg]]


class _Known:
    """An endpoint, and what is known of it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.breaker = Breaker()
        self.reached = 0
        self.failed = 0

    def state(self, now: float) -> EndpointState:
        return EndpointState(
            self.endpoint.address,
            self.breaker.state(now),
            self.breaker.failures,
            round(self.breaker.rest(now), 3),
            self.reached,
            self.failed,
        )

    def conclude(self, attempt: Attempt, outcome: Outcome, reason: str) -> None:
        """Counts, and tells the log when the endpoint begins or ceases to rest."""
        now = trio.current_time()
        was_well = self.breaker.state(now) is State.CLOSED
        self.breaker.conclude(attempt, outcome, now)
        self.reached += outcome is Outcome.REACHED
        self.failed += outcome is Outcome.FAILED
        is_well = self.breaker.state(now) is State.CLOSED
        address = self.endpoint.address
        if was_well and not is_well:
            rest = self.breaker.rest(now)
            report(events.AgentEndpointSuspended(address, rest, reason))
        elif is_well and not was_well:
            report(events.AgentEndpointRecovered(address))


class Endpoints:
    """`dial` opens a leg to one of them; it raises `AgentUnreachable` and sets no time limit."""

    def __init__(self, endpoints: Sequence[Endpoint], dial: Dial) -> None:
        self.endpoints = tuple(endpoints)
        self._dial = dial
        self._known = [_Known(endpoint) for endpoint in endpoints]

    def states(self) -> tuple[EndpointState, ...]:
        now = trio.current_time()
        return tuple(known.state(now) for known in self._known)

    @property
    def admit(self) -> bool:
        """Whether anybody would be dialled now; else all are resting."""
        now = trio.current_time()
        return any(known.breaker.admits(now) for known in self._known)

    @contextlib.asynccontextmanager
    async def open(self, within: float = AGENT_TIMEOUT) -> AsyncIterator[AgentLeg]:
        """A leg to the first endpoint that answers.

        Whoever opens it gives up after `within` seconds: these are shared out. The last endpoint is
        set no limit here, so that it is whoever gives up who says why.

        Raises:
            AgentRejected, AgentUnreachable: what the last of them had to say.
        """
        by = trio.current_time() + within
        for position, known in enumerate(self._known):
            now = trio.current_time()
            attempt = known.breaker.attempt(now)
            if attempt is None:
                continue
            others = self._admitting_after(position)
            share = max(0.0, by - now) / (others + 1)
            try:
                async with self._try(
                    known, attempt, min(PATIENCE, share) if others else inf
                ) as leg:
                    yield leg
                    return
            except AgentUnreachable as exc:
                if not self._admitting_after(position):
                    raise
                report(events.AgentEndpointFailed(known.endpoint.address, str(exc)))
        raise AgentUnreachable(
            "every agent endpoint is resting after failures: "
            + ", ".join(known.endpoint.address for known in self._known)
        )

    def _admitting_after(self, position: int) -> int:
        """How many there are behind that one to be tried."""
        now = trio.current_time()
        return sum(known.breaker.admits(now) for known in self._known[position + 1 :])

    @contextlib.asynccontextmanager
    async def _try(self, known: _Known, attempt: Attempt, limit: float) -> AsyncIterator[AgentLeg]:
        began = trio.current_time()
        is_open = False
        outcome, reason = Outcome.UNKNOWN, ""
        try:
            # Left open for as long as the leg is: a scope cannot be closed before one inside it.
            with _patience(began + limit) as patience:
                async with self._dial(known.endpoint) as leg:
                    if patience is not None:
                        patience.deadline = inf
                        # It may have passed in the moment in which the leg opened.
                        await trio.lowlevel.checkpoint_if_cancelled()
                    is_open = True
                    known.conclude(attempt, Outcome.REACHED, "")
                    yield leg
            if patience is not None and patience.cancelled_caught:
                raise AgentUnreachable(
                    f"{known.endpoint.address}: no websocket handshake within {limit:.3g} s"
                )
        except AgentUnreachable as exc:
            outcome, reason = _outcome(exc, is_last=limit == inf), str(exc)
            raise
        finally:
            if not is_open:
                if outcome is Outcome.UNKNOWN and trio.current_time() - began >= PATIENCE:
                    # Cancelled, be it by a hang-up: it had its time.
                    outcome = Outcome.FAILED
                    reason = f"no websocket handshake within {PATIENCE:g} s"
                known.conclude(attempt, outcome, reason)


def _patience(until: float) -> contextlib.AbstractContextManager[trio.CancelScope | None]:
    """Where there is no other endpoint to try, nobody needs a limit."""
    return contextlib.nullcontext() if until == inf else trio.CancelScope(deadline=until)


def _outcome(exc: AgentUnreachable, *, is_last: bool) -> Outcome:
    if isinstance(exc, NoCredential):
        return Outcome.UNKNOWN  # it was not dialled
    if isinstance(exc, AgentRejected) and exc.status < 500:
        is_next_tried = exc.status == TOO_MANY and not is_last
        return Outcome.FAILED if is_next_tried else Outcome.REACHED
    return Outcome.FAILED

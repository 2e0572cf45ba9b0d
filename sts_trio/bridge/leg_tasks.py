"""The two tasks of a leg, from its dial to its close frame: one listens, the other speaks.

They know one leg and what they are handed: who hears, what takes their exceptions, and with which
code to close. What a call is, `run` knows.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol

import msgspec
import trio

from sts_trio.bridge.outbox import Outbox
from sts_trio.call.info import CallInfo
from sts_trio.errors import AgentRejected, AgentUnreachable
from sts_trio.legs import Idle
from sts_trio.legs.contract import OpenAgentLeg, OpenLeg
from sts_trio.logic.acts import AgentReached, DialFailed, Heard
from sts_trio.wire import deepgram, twilio

# Seconds of audio. Twilio holds ten minutes and then drops; there is no use in holding more.
CALLER_OUTBOX = 600.0
# An agent that takes nothing for a while gets all of it when it goes on. Speech that is older than
# this is an answer to a question nobody remembers.
AGENT_OUTBOX = 10.0
# Both sockets are promised to be closed within 2 s; this leaves the rest for closing them hard.
HANG_UP_GRACE = 1.5

Hear = Callable[[Sequence[Heard]], None]
# A context manager in which an exception is a bug: it is reported, ends the call, and stops there.
Boundary = Callable[[], AbstractContextManager[None]]


class Agents(Protocol):
    """The way to agents."""

    async def choose(self, info: CallInfo, /) -> str:
        """The name of the agent that is to answer."""
        ...

    def open(
        self, agent: str, info: CallInfo, within: float, /
    ) -> AbstractAsyncContextManager[OpenAgentLeg]:
        """A leg to that agent. Raises `AgentUnreachable` when there is none to be had; whoever
        opens it gives up after `within` seconds."""
        ...


class Ear:
    """Where one leg's messages go, until it is closed: another leg has that one's place, or none.

    Each turn comes by, and a closure would be a handful of objects of the call's own, which a core
    has to fetch for it (`sts_trio.net.ticker`).
    """

    __slots__ = ("_hear",)

    def __init__(self, hear: Hear) -> None:
        self._hear = hear

    def hear(self, batch: Sequence[Heard]) -> None:
        self._hear(batch)

    def close(self) -> None:
        """What is still heard is nobody's."""
        self._hear = _hear_nothing

    @property
    def is_open(self) -> bool:
        return self._hear is not _hear_nothing


def _hear_nothing(batch: Sequence[Heard]) -> None:
    """The ear is closed."""


class AgentSession:
    """One agent leg, from the dial to its goodbye. What it says is told to `hear`."""

    __slots__ = ("code", "ear", "is_open", "outbox", "scope")

    def __init__(self, hear: Hear) -> None:
        self.ear = Ear(hear)
        self.outbox = Outbox[deepgram.ToAgent](AGENT_OUTBOX, _agent_audio)
        self.scope = trio.CancelScope()
        self.is_open = False
        self.code: int | None = None  # to close with, if the call goes on without it

    def drop(self, code: int) -> bytes:
        """The call goes on without it; returns the caller's audio that it was not sent."""
        self.code = code
        self.ear.close()
        unsent = self.outbox.flush()
        self.close()
        return b"".join(each.data for each in unsent if isinstance(each, deepgram.Audio))

    def close(self) -> None:
        """Nothing more is sent but the goodbye. A leg that is only dialled has none to send."""
        self.outbox.close()
        if self.is_open:
            self.scope.deadline = trio.current_time() + HANG_UP_GRACE
        else:
            self.scope.cancel()


def caller_outbox() -> Outbox[twilio.ToCaller]:
    return Outbox(CALLER_OUTBOX, _caller_audio)


def pass_on(
    parked: Outbox[twilio.ToCaller], outbox: Outbox[twilio.ToCaller], stream_sid: str
) -> None:
    """What is parked was for a stream that is no more: it goes to this one."""
    for message in parked.flush():
        outbox.put(msgspec.structs.replace(message, stream_sid=stream_sid))


def _caller_audio(message: twilio.ToCaller) -> int:
    return len(message.media.payload) if isinstance(message, twilio.PlayMedia) else 0


def _agent_audio(message: deepgram.ToAgent) -> int:
    return len(message.data) if isinstance(message, deepgram.Audio) else 0


async def run_agent(
    agents: Agents,
    session: AgentSession,
    name: str | None,
    info: CallInfo,
    within: Callable[[], float],
    *,
    idle: Idle,
    boundary: Boundary,
    code: Callable[[], int],
) -> None:
    """Dials the agent (one that is to be chosen, without a `name`) and converses with it.

    The session's ear is told of the open leg, of what it says, of its end, or of the dial that
    failed. The dial may take `within()` seconds, asked when the choice has been made.
    """
    hear, failed = session.ear.hear, None
    try:
        name = name or await agents.choose(info)
        async with agents.open(name, info, within()) as leg:
            # From here on there is a socket, and so a goodbye: no longer just cancelled.
            session.is_open = True
            hear([AgentReached(name, leg.is_prepared)])
            await converse(leg, session.outbox, hear=hear, idle=idle, boundary=boundary, code=code)
    except AgentRejected as exc:
        failed = DialFailed(str(exc), exc.status)
    except AgentUnreachable as exc:
        failed = DialFailed(str(exc))
    if failed is not None:
        hear([failed])


async def converse(
    leg: OpenLeg[Any],
    outbox: Outbox[Any],
    *,
    hear: Hear,
    idle: Idle,
    boundary: Boundary,
    code: Callable[[], int],
    over: Callable[[], None] = lambda: None,
) -> None:
    """Listens and speaks on an open leg until it has ended, and our goodbye is said: `code()` is
    what the leg is closed with. `over` is told that nothing more is heard."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_speak, leg, outbox, boundary, code)
        with boundary():
            await leg.listen(hear, idle)
        over()


async def _speak(
    leg: OpenLeg[Any],
    outbox: Outbox[Any],
    boundary: Boundary,
    code: Callable[[], int],
) -> None:
    outbox.write_through(leg.try_send)
    with boundary():
        async for message in outbox:
            await leg.send(message)
    await leg.aclose(code())

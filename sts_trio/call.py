"""One phone call: the only nurseries and deadlines, and the acts of the dialogue performed.

Theory of operation
-------------------
A call is one nursery. In it run the timer and the two legs, each the only owner of its socket, and
each with a listener and a speaker. The legs are siblings, so that a caller's socket that is stuck
keeps nothing of the agent's alive.

Listeners and timer call `hear`, which is synchronous: between two checkpoints nothing else runs, so
there is no lock, and no task in the middle. Acts never wait either: messages go into an outbox, one
for each leg, and its speaker sends them.

Hanging up is a goodbye with a deadline. Both outboxes are closed; each speaker sends what is left,
then a close frame with the ending's code for its leg. Whatever the peers do, `HANG_UP_GRACE` later
the nursery's cancel scope ends every task, and a leg that is cancelled drops its socket. Dialling
has no goodbye to say and is abandoned at once.

A bug is an exception in a listener, a speaker or the timer. It ends this call alone: logged with
its traceback, 1011 to both sides.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar, assert_never

import msgspec
import structlog
import trio

from sts_trio.chronicle import Tell, happening
from sts_trio.errors import AgentRejected, AgentUnreachable, Cause, Ending, Leg
from sts_trio.logic.dialogue import (
    AgentReached,
    Dial,
    DialFailed,
    Dialogue,
    FlushCaller,
    HangUp,
    Heard,
    Log,
    OutboxFull,
    ShutDown,
    TellAgent,
    TellCaller,
    Tick,
    Transcript,
)
from sts_trio.outbox import Outbox
from sts_trio.wire import deepgram, twilio

# Seconds of audio. Twilio holds ten minutes and then drops; there is no use in holding more.
CALLER_OUTBOX = 600.0
# Caller speech older than this is an answer to a question nobody remembers.
AGENT_OUTBOX = 2.0
# Both sockets are promised to be closed within 2 s; this leaves the rest for closing them hard.
HANG_UP_GRACE = 1.5

M_contra = TypeVar("M_contra", contravariant=True)


class OpenLeg(Protocol[M_contra]):
    """A leg, see `sts_trio.legs`."""

    @property
    def is_polled(self) -> bool: ...
    async def listen(
        self, hear: Callable[[Sequence[Any]], None], idle: Callable[[float], None], /
    ) -> None: ...
    def try_send(self, message: M_contra, /) -> bool: ...
    async def send(self, message: M_contra, /) -> None: ...
    async def aclose(self, code: int, /) -> None: ...


OpenCaller = Callable[[], AbstractAsyncContextManager[OpenLeg[twilio.ToCaller]]]
OpenAgent = Callable[[], AbstractAsyncContextManager[OpenLeg[deepgram.ToAgent]]]


def _caller_audio(message: twilio.ToCaller) -> int:
    return len(message.media.payload) if isinstance(message, twilio.PlayMedia) else 0


def _agent_audio(message: deepgram.ToAgent) -> int:
    return len(message.data) if isinstance(message, deepgram.Audio) else 0


class Call:
    """A call from its caller's websocket to its end. Run it once.

    `open_agent` raises `AgentUnreachable` when there is no agent to be had.
    """

    def __init__(
        self,
        dialogue: Dialogue,
        open_caller: OpenCaller,
        open_agent: OpenAgent,
        *,
        log_transcripts: bool = False,
        tell: Tell = lambda entry: None,
    ) -> None:
        self.dialogue = dialogue
        self.ending: Ending | None = None
        self._clock = trio.lowlevel.current_clock()
        self.began = trio.current_time()
        self._open_caller = open_caller
        self._open_agent = open_agent
        self._log_transcripts = log_transcripts
        self._tell = tell
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
        self._to_caller = Outbox[twilio.ToCaller](CALLER_OUTBOX, _caller_audio)
        self._to_agent = Outbox[deepgram.ToAgent](AGENT_OUTBOX, _agent_audio)
        self._scope = trio.CancelScope()
        self._alarm = trio.CancelScope()
        self._dialling = trio.CancelScope()
        self._is_polled = False
        self._nursery: trio.Nursery

    async def run(self) -> Ending:
        """Runs the call to its end; nothing of it is left when this returns or raises.

        If cancelled, both sockets are closed without a goodbye, and the ending is `CUT_OFF`.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    self._nursery.start_soon(self._keep_time)
                    self._nursery.start_soon(self._run_caller)
        finally:
            self.ending = self.ending or Ending(Cause.CUT_OFF)
            ended = {
                "ending": self.ending.cause.label,
                "verdict": self.ending.verdict.value,
                "detail": self.ending.detail,
                "seconds": round(trio.current_time() - self.began, 3),
                **self._statistics(),
            }
            self._log.info("call.ended", **ended)
            self._report("call.ended", ended)
        return self.ending

    def shut_down(self) -> None:
        """Hangs up because the server goes away."""
        try:
            self._hear([ShutDown()])
        except Exception:
            self._crash()

    def _statistics(self) -> dict[str, Any]:
        """What there is to say of the call in numbers; zeros say nothing."""
        numbers = msgspec.structs.asdict(self.dialogue.statistics())
        return {name: value for name, value in numbers.items() if value}

    def _report(self, event: str, fields: dict[str, Any]) -> None:
        """For the chronicle, which is not the log: it has the words, and no levels."""
        seconds = trio.current_time() - self.began
        self._tell(happening(self.dialogue.call_sid, seconds, event, fields))

    # --- hearing and acting ---------------------------------------------------------------------

    def _hear(self, batch: Sequence[Heard]) -> None:
        if self.ending is not None:
            return
        for act in self.dialogue.hear(batch, self._clock.current_time()):
            if isinstance(act, TellAgent):
                self._put(Leg.AGENT, self._to_agent.put(act.message))
                continue
            match act:
                case TellCaller(message):
                    self._put(Leg.CALLER, self._to_caller.put(message))
                case FlushCaller():
                    self._to_caller.flush()
                case Log(level, event, fields):
                    self._report(event, fields)
                    if event == "call.started":
                        self._log = self._log.bind(
                            call_sid=self.dialogue.call_sid, stream_sid=self.dialogue.stream_sid
                        )
                        fields = {}
                    getattr(self._log, level)(event, **fields)
                case Transcript(role, text):
                    self._report("call.transcript", {"role": role, "text": text})
                    if self._log_transcripts:
                        self._log.debug("call.transcript", role=role, text=text)
                case Dial():
                    self._nursery.start_soon(self._run_agent)
                case HangUp(ending):
                    self._hang_up(ending)
                case _:
                    assert_never(act)
        # Setting a deadline costs more than comparing two; mostly it moves later, or not at all.
        due = self._due()
        if due < self._alarm.deadline:
            self._alarm.deadline = due

    def _idle(self, now: float) -> None:
        """A polled leg has nothing to tell."""
        if now >= self.dialogue.deadline:
            self._hear([Tick()])

    def _due(self) -> float:
        """When the timer has to wake up. A polled leg spares it the wake-ups for gaps."""
        return self.dialogue.rare_deadline if self._is_polled else self.dialogue.deadline

    def _put(self, leg: Leg, dropped: int) -> None:
        if dropped:
            self._hear([OutboxFull(leg, dropped)])

    def _hang_up(self, ending: Ending) -> None:
        self.ending = ending
        self._to_caller.close()
        self._to_agent.close()
        self._dialling.cancel()
        self._alarm.cancel()
        self._scope.deadline = trio.current_time() + HANG_UP_GRACE

    def _crash(self) -> None:
        """To be called while handling the exception that is the bug."""
        self._log.exception("call.crashed")
        self._report("call.crashed", {})
        if self.ending is None:
            self._hang_up(Ending(Cause.CRASHED))

    # --- the tasks of a call --------------------------------------------------------------------

    async def _keep_time(self) -> None:
        try:
            while self.ending is None:
                with trio.CancelScope(deadline=self._due()) as self._alarm:
                    await trio.sleep_forever()
                self._hear([Tick()])
        except Exception:
            self._crash()

    async def _run_caller(self) -> None:
        try:
            async with self._open_caller() as leg:
                self._is_polled = leg.is_polled
                await self._converse(Leg.CALLER, leg, self._to_caller)
        except* Exception:
            self._crash()

    async def _run_agent(self) -> None:
        try:
            await self._dial()
        except* Exception:
            self._crash()

    async def _dial(self) -> None:
        failed = None
        try:
            # The scope is for dialling alone: once there is a socket, it is closed with a goodbye.
            with self._dialling:
                async with self._open_agent() as leg:
                    self._dialling = trio.CancelScope()
                    self._hear([AgentReached()])
                    await self._converse(Leg.AGENT, leg, self._to_agent)
        except AgentRejected as exc:
            failed = DialFailed(str(exc), exc.status)
        except AgentUnreachable as exc:
            failed = DialFailed(str(exc))
        if failed is not None:
            self._hear([failed])

    async def _converse(self, which: Leg, leg: OpenLeg[Any], outbox: Outbox[Any]) -> None:
        """Listens and speaks on an open leg until it has ended, and our goodbye is said."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._speak, which, leg, outbox)
            try:
                await leg.listen(self._hear, self._idle)
            except Exception:
                self._crash()

    async def _speak(self, which: Leg, leg: OpenLeg[Any], outbox: Outbox[Any]) -> None:
        outbox.write_through(leg.try_send)
        try:
            async for message in outbox:
                await leg.send(message)
        except Exception:
            self._crash()
        ending = self.ending or Ending(Cause.CRASHED)
        await leg.aclose(ending.cause.close_code(which))

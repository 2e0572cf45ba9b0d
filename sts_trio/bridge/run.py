"""One phone call: the only nurseries and deadlines, and the acts of the dialogue performed.

Theory of operation
-------------------
A call is one nursery. In it run the timer, the two legs, each the only owner of its socket and each
with a listener and a speaker, and the functions that the agent has called. The legs are siblings,
so that a caller's socket that is stuck keeps nothing of the agent's alive. The agent's leg may be
dropped and another one opened while the call goes on: each is a `_Session`, and only the newest is
listened to.

Listeners and timer call `hear`, which is synchronous: between two checkpoints nothing else runs, so
there is no lock, and no task in the middle. Acts never wait either: messages go into an outbox, one
for each leg, and its speaker sends them.

Hanging up is a goodbye with a deadline. Both outboxes are closed; each speaker sends what is left,
then a close frame with the ending's code for its leg. Whatever the peers do, `HANG_UP_GRACE` later
the nursery's cancel scope ends every task, and a leg that is cancelled drops its socket. Dialling
has no goodbye to say and is abandoned at once.

A bug is an exception in a listener, a speaker or the timer. It ends this call alone: logged with
its traceback, 1011 to both sides.

The public methods are for the call's own code: the functions that its agent calls, and the app.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from math import inf
from typing import Any, Protocol, assert_never

import msgspec
import structlog
import trio

from sts_trio.audio.tones import tones
from sts_trio.bridge.outbox import Outbox
from sts_trio.call.info import CallInfo, streamed
from sts_trio.call.pending import Answers
from sts_trio.errors import (
    AgentRejected,
    AgentUnreachable,
    CallOver,
    Cause,
    Ending,
    Leg,
    NumberRefused,
)
from sts_trio.functions import Functions
from sts_trio.functions.runner import FunctionCalls
from sts_trio.legs.contract import OpenAgentLeg, OpenCaller, OpenLeg
from sts_trio.logic.acts import (
    AgentReached,
    Ask,
    CallFunctions,
    CancelFunctions,
    CancelRequest,
    Close,
    Collect,
    Collected,
    Dial,
    DialFailed,
    DropAgent,
    FlushCaller,
    HandOver,
    HangUp,
    Heard,
    Log,
    OutboxFull,
    PlayTones,
    Protect,
    RequestDone,
    SendToAgent,
    SendToCaller,
    ShutDown,
    Tick,
    Transcript,
    TurnHeard,
    WaitUntilHeard,
)
from sts_trio.logic.dialogue import Dialogue
from sts_trio.logic.playout import Playout
from sts_trio.observe.feed import Tell, call_event
from sts_trio.wire import deepgram, deepgram_settings, twilio

# Seconds of audio. Twilio holds ten minutes and then drops; there is no use in holding more.
CALLER_OUTBOX = 600.0
# Caller speech older than this is an answer to a question nobody remembers.
AGENT_OUTBOX = 2.0
# Both sockets are promised to be closed within 2 s; this leaves the rest for closing them hard.
HANG_UP_GRACE = 1.5
# How long protected words may take to be heard: the longest legal text, read slowly.
PROTECTED_WITHIN = 120.0
# What is to be done with the phone call before its stream is closed: a request or two to Twilio.
# The caller hears nothing meanwhile.
GOODBYE_WITHIN = 5.0
# Ends that the stream's end alone does not bring about where a TwiML Bin started it.
_DELIBERATE = (Cause.HUNG_UP, Cause.TRANSFERRED, Cause.SILENCE, Cause.TIME_UP)


# What is left to do for a call before its caller's socket is closed.
ReleasePhoneCall = Callable[[CallInfo, Ending], Awaitable[None]]


class Lines(Protocol):
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


def _caller_audio(message: twilio.ToCaller) -> int:
    return len(message.media.payload) if isinstance(message, twilio.PlayMedia) else 0


def _agent_audio(message: deepgram.ToAgent) -> int:
    return len(message.data) if isinstance(message, deepgram.Audio) else 0


class _Session:
    """One agent leg, from the dial to its goodbye."""

    __slots__ = ("code", "is_open", "outbox", "scope")

    def __init__(self) -> None:
        self.outbox = Outbox[deepgram.ToAgent](AGENT_OUTBOX, _agent_audio)
        self.scope = trio.CancelScope()
        self.is_open = False
        self.code: int | None = None  # to close with, if the call goes on without it

    def close(self) -> None:
        """No more is to be said but the goodbye; while it is only dialled, there is none."""
        self.outbox.close()
        if self.is_open:
            self.scope.deadline = trio.current_time() + HANG_UP_GRACE
        else:
            self.scope.cancel()


class Call:
    """A call from its caller's websocket to its end. Run it once.

    What the public methods ask for raises `CallOver` once the call has ended.
    """

    __slots__ = (
        "_agents",
        "_alarm",
        "_alarm_at",
        "_answers",
        "_clock",
        "_function_calls",
        "_functions",
        "_is_polled",
        "_lines",
        "_log",
        "_log_transcripts",
        "_may_transfer",
        "_nursery",
        "_open_caller",
        "_release_phone_call",
        "_scope",
        "_session",
        "_tell",
        "_to_caller",
        "began",
        "dialogue",
        "ending",
    )

    def __init__(
        self,
        dialogue: Dialogue,
        open_caller: OpenCaller,
        lines: Lines,
        *,
        functions: Functions | None = None,
        agents: Collection[str] = (),
        may_transfer: Callable[[str], bool] = lambda number: False,
        release_phone_call: ReleasePhoneCall | None = None,
        log_transcripts: bool = False,
        tell: Tell = lambda entry: None,
    ) -> None:
        self.dialogue = dialogue
        self.ending: Ending | None = None
        self._clock = trio.lowlevel.current_clock()
        self.began = trio.current_time()
        self._open_caller = open_caller
        self._lines = lines
        self._functions = functions or Functions()
        self._agents = agents
        self._may_transfer = may_transfer
        self._release_phone_call = release_phone_call
        self._log_transcripts = log_transcripts
        self._tell = tell
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
        self._to_caller = Outbox[twilio.ToCaller](CALLER_OUTBOX, _caller_audio)
        self._session = _Session()
        self._function_calls: FunctionCalls | None = None
        self._answers = Answers()
        self._scope = trio.CancelScope()
        self._alarm = trio.CancelScope()
        self._alarm_at = inf  # its deadline
        self._is_polled = False
        self._nursery: trio.Nursery

    async def run(self) -> Ending:
        """Runs the call to its end; nothing of it is left when this returns or raises.

        If cancelled, both sockets are closed without a goodbye, and the ending is `CUT_OFF`.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    self._function_calls = FunctionCalls(
                        self._functions,
                        self._agents,
                        self,
                        self._nursery,
                        self._tell_dialogue,
                        tell=self._report,
                    )
                    self._nursery.start_soon(self._keep_time)
                    self._nursery.start_soon(self._run_caller)
        finally:
            self.ending = self.ending or Ending(Cause.CUT_OFF)
            self._answers.close()
            self._function_calls = None  # it has the call, and the two would outlive each other
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
        self._tell_dialogue(ShutDown())

    # --- for the call's own code ----------------------------------------------------------------

    @property
    def info(self) -> CallInfo:
        """Who is calling whom; nothing of it is known before the stream has begun."""
        return streamed(self.dialogue.start)

    @property
    def agent(self) -> str:
        """The configured agent that the caller talks with, "" before there is one."""
        return self.dialogue.agent

    @property
    def playout(self) -> Playout:
        """What the caller has heard of the agent so far, and what not. Only to be read."""
        return self.dialogue.playout

    async def say(self, text: str) -> None:
        """Has the agent say this, after what it is saying; returns when it begins to.

        Raises:
            AgentRefused: the caller is speaking, so the agent keeps quiet.
            AgentTimedOut: it did not begin within 10 s.
        """
        await self._ask(deepgram.InjectAgentMessage(text, "queue"))

    async def inject(self, text: str) -> None:
        """Has the agent take this as said by the caller; returns when it has.

        Raises:
            AgentRefused: the legacy dialect has no words for it.
            AgentTimedOut: it did not within 10 s.
        """
        await self._ask(deepgram.InjectUserMessage(text))

    async def update_prompt(self, text: str) -> None:
        """Adds to the agent's prompt; to replace it, `update_think`. Raises as `inject` does."""
        await self._ask(deepgram.UpdatePrompt(text))

    async def update_think(self, think: dict[str, Any]) -> None:
        """Replaces the agent's whole `think` block: what is left out of it is gone, functions
        included. Raises as `inject` does, and `msgspec.ValidationError` for what is none."""
        block = msgspec.convert(think, deepgram_settings.Think)
        await self._ask(deepgram.UpdateThink(block))

    async def update_speak(self, speak: dict[str, Any]) -> None:
        """Replaces the agent's `speak` block, from its next words on. Raises as `update_think`."""
        block = msgspec.convert(speak, deepgram_settings.Speak)
        await self._ask(deepgram.UpdateSpeak(block))

    @contextlib.asynccontextmanager
    async def protected(self) -> AsyncIterator[None]:
        """What is said inside will be heard to the end: the caller cannot cut it off.

        The agent hears silence instead of the caller meanwhile, as it would fall silent itself.
        Leaving waits until everything has been heard.

        Raises:
            AgentTimedOut: it was not, within `PROTECTED_WITHIN` seconds.
            AgentRefused: the agent was lost in the middle.
        """
        self._hear_own(Protect())
        try:
            yield
            await self._get(lambda number: WaitUntilHeard(number, PROTECTED_WITHIN))
        finally:
            if self.ending is None:
                self._tell_dialogue(Protect(is_over=True))

    async def hang_up(self) -> None:
        """Ends the call once the agent's goodbye has been heard, or after 15 s. Does not wait."""
        self._hear_own(Close(Ending(Cause.HUNG_UP)))
        await trio.lowlevel.checkpoint()

    async def transfer(self, number: str) -> None:
        """As `hang_up`; then the caller is connected to that phone number (E.164).

        Raises:
            NumberRefused: it is not among `STS_TRANSFER_NUMBERS`.
            CallOver: the call is ending already.
        """
        if not self._may_transfer(number):
            self._log.warning("transfer.refused", number=number[:32])
            raise NumberRefused(f"{number} is not among the numbers that may be transferred to")
        if self.dialogue.is_closing:
            raise CallOver("the call is ending already")
        self._hear_own(Close(Ending(Cause.TRANSFERRED, number)))
        await trio.lowlevel.checkpoint()

    async def hand_over(self, agent: str) -> None:
        """Another configured agent goes on, knowing what was said so far. Does not wait.

        Raises:
            ValueError: there is no such agent.
        """
        if agent not in self._agents:
            raise ValueError(f"expected one of {', '.join(self._agents)}, got {agent!r}")
        self._hear_own(HandOver(agent))
        await trio.lowlevel.checkpoint()

    async def send_dtmf(self, digits: str) -> None:
        """Plays the keys' tones to the caller's side. Does not wait.

        Raises:
            ValueError: something in `digits` is no key.
        """
        self._hear_own(PlayTones(tones(digits)))
        await trio.lowlevel.checkpoint()

    async def collect_digits(
        self, most: int = 32, *, finish: str = "#", within: float = 20.0, between: float = 5.0
    ) -> str:
        """Waits for what the caller keys in: `most` keys, or those before one of `finish`.

        All of them may take `within` seconds, each after the first `between`; then what there is,
        which may be nothing, is returned.
        """
        answer = await self._get(lambda number: Collect(number, most, finish, within, between))
        assert isinstance(answer, Collected)
        return answer.digits

    async def _ask(self, message: deepgram.TextToAgent) -> None:
        await self._get(lambda number: Ask(number, message))

    async def _get(self, question: Callable[[int], Heard]) -> RequestDone | Collected:
        return await self._answers.get(
            lambda number: self._tell_dialogue(question(number)),
            lambda number: self._tell_dialogue(CancelRequest(number)),
        )

    def _hear_own(self, message: Heard) -> None:
        if self.ending is not None:
            raise CallOver("the call has ended")
        self._tell_dialogue(message)

    def _tell_dialogue(self, message: Heard) -> None:
        """For whoever is not of the call's own tasks: a bug ends the call, not them."""
        try:
            self._hear([message])
        except Exception:
            self._crash()

    # --- reports --------------------------------------------------------------------------------

    def _statistics(self) -> dict[str, Any]:
        """What there is to say of the call in numbers; zeros say nothing."""
        numbers = msgspec.structs.asdict(self.dialogue.statistics())
        return {name: value for name, value in numbers.items() if value}

    def _report(self, event: str, fields: dict[str, Any]) -> None:
        """For the event_feed, which is not the log: it has the words, and no levels."""
        seconds = self._clock.current_time() - self.began
        self._tell(call_event(self.dialogue.call_sid, seconds, event, fields))

    def _report_log(self, log: Log) -> None:
        self._report(log.event, log.fields)
        fields = log.fields
        if log.event == "call.started":
            self._log = self._log.bind(
                call_sid=self.dialogue.call_sid, stream_sid=self.dialogue.stream_sid
            )
            fields = {}
        getattr(self._log, log.level)(log.event, **fields)

    def _report_words(self, event: str, fields: dict[str, Any]) -> None:
        self._report(event, fields)
        if self._log_transcripts:
            self._log.debug(event, **fields)

    # --- hearing and acting ---------------------------------------------------------------------

    def _hear(self, batch: Sequence[Heard]) -> None:
        if self.ending is not None:
            return
        for act in self.dialogue.hear(batch, self._clock.current_time()):
            # The acts of nearly every beat; class patterns are slow.
            if isinstance(act, SendToAgent):
                if dropped := self._session.outbox.put(act.message):
                    self._hear([OutboxFull(Leg.AGENT, dropped)])
                continue
            if isinstance(act, SendToCaller):
                if dropped := self._to_caller.put(act.message):
                    self._hear([OutboxFull(Leg.CALLER, dropped)])
                continue
            match act:
                case FlushCaller():
                    self._to_caller.flush()
                case Log():
                    self._report_log(act)
                case Transcript(role, text):
                    self._report_words("call.transcript", {"role": role, "text": text})
                case TurnHeard():
                    self._report_words("call.heard", msgspec.structs.asdict(act))
                case Dial(agent):
                    self._session = _Session()
                    self._nursery.start_soon(self._run_agent, self._session, agent)
                case DropAgent(code):
                    self._drop_agent(code)
                case CallFunctions(functions):
                    assert self._function_calls is not None
                    for function in functions:
                        self._function_calls.start(function)
                case CancelFunctions(ids):
                    assert self._function_calls is not None
                    self._function_calls.cancel(ids)
                case RequestDone() | Collected():
                    self._answers.give(act)
                case HangUp(ending):
                    self._hang_up(ending)
                case _:
                    assert_never(act)
        # Setting a deadline costs more than comparing two; mostly it moves later, or not at all.
        due = self._due()
        if due < self._alarm_at:
            self._alarm_at = self._alarm.deadline = due

    def _idle(self, now: float) -> None:
        """A polled leg has nothing to tell."""
        if now >= self.dialogue.deadline:
            self._hear([Tick()])

    def _due(self) -> float:
        """When the timer has to wake up. A polled leg spares it the wake-ups for gaps."""
        return self.dialogue.rare_deadline if self._is_polled else self.dialogue.deadline

    def _drop_agent(self, code: int) -> None:
        session, self._session = self._session, _Session()
        session.code = code
        session.outbox.flush()
        session.close()

    def _hang_up(self, ending: Ending) -> None:
        self.ending = ending
        self._to_caller.close()
        self._session.close()
        self._alarm.cancel()
        within = GOODBYE_WITHIN if ending.cause in _DELIBERATE else 0.0
        self._scope.deadline = trio.current_time() + within + HANG_UP_GRACE
        if self._function_calls is not None:  # the call may never have been run
            self._function_calls.cancel_all()
        self._answers.close()

    async def _release_caller(self, ending: Ending) -> None:
        try:
            if self._release_phone_call is not None and ending.cause in _DELIBERATE:
                with trio.move_on_after(GOODBYE_WITHIN) as patience:
                    await self._release_phone_call(self.info, ending)
                if patience.cancelled_caught:
                    reason = f"it took longer than {GOODBYE_WITHIN:g} s, and may be done yet"
                    self._log.error("call.not_released", reason=reason)
        finally:
            # What that did not need is not to be waited for the caller's close frame.
            latest = trio.current_time() + HANG_UP_GRACE
            self._scope.deadline = min(self._scope.deadline, latest)

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
                self._alarm_at = self._due()
                with trio.CancelScope(deadline=self._alarm_at) as self._alarm:
                    await trio.sleep_forever()
                self._hear([Tick()])
        except Exception:
            self._crash()

    async def _run_caller(self) -> None:
        try:
            async with self._open_caller() as leg:
                self._is_polled = leg.is_polled
                await self._converse(Leg.CALLER, leg, self._to_caller, self._hear)
        except* Exception:
            self._crash()

    async def _run_agent(self, session: _Session, agent: str | None) -> None:
        try:
            with session.scope:
                await self._dial(session, agent)
        except* Exception:
            self._crash()

    async def _dial(self, session: _Session, agent: str | None) -> None:
        def hear(batch: Sequence[Heard]) -> None:
            if session is self._session:
                self._hear(batch)

        failed = None
        try:
            name = agent or await self._lines.choose(self.info)
            within = self.dialogue.time_to_dial(trio.current_time())
            async with self._lines.open(name, self.info, within) as leg:
                # From here on there is a socket, and so a goodbye: no longer just cancelled.
                session.is_open = True
                hear([AgentReached(name, leg.is_prepared)])
                await self._converse(Leg.AGENT, leg, session.outbox, hear, session)
        except AgentRejected as exc:
            failed = DialFailed(str(exc), exc.status)
        except AgentUnreachable as exc:
            failed = DialFailed(str(exc))
        if failed is not None:
            hear([failed])

    async def _converse(
        self,
        which: Leg,
        leg: OpenLeg[Any],
        outbox: Outbox[Any],
        hear: Callable[[Sequence[Heard]], None],
        session: _Session | None = None,
    ) -> None:
        """Listens and speaks on an open leg until it has ended, and our goodbye is said."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._speak, which, leg, outbox, session)
            try:
                await leg.listen(hear, self._idle)
            except Exception:
                self._crash()

    async def _speak(
        self, which: Leg, leg: OpenLeg[Any], outbox: Outbox[Any], session: _Session | None
    ) -> None:
        outbox.write_through(leg.try_send)
        try:
            async for message in outbox:
                await leg.send(message)
            if which is Leg.CALLER and self.ending is not None:
                await self._release_caller(self.ending)
        except Exception:
            self._crash()
        if session is not None and session.code is not None:
            await leg.aclose(session.code)
            return
        ending = self.ending or Ending(Cause.CRASHED)
        await leg.aclose(ending.cause.close_code(which))

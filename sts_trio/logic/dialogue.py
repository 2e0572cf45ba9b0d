"""One call's state machine: what is heard goes in, acts come out.

Pure: no sockets, no clock, no tasks.

Theory of operation
-------------------
`hear(batch, now)` takes what the legs heard, in order, and returns the acts to perform, in order.
Time is an input; `deadline` is an output: when it passes, `Tick` is to be heard. Nothing here
waits, and nothing here fails: what a peer does wrong is counted, logged once, and if it makes the
call meaningless, ends it.

A call goes through its phases:

    AWAITING_START ── start ──► DIALLING ── socket open ──► AWAITING_WELCOME ── Welcome ──►
    AWAITING_APPLIED ── SettingsApplied ──► TALKING

      TALKING ── the agent is lost, or another is to go on ──► DIALLING
      any of them ── no agent any more, but something to be heard ──► PARTING
      any of them ── HangUp ──► HUNG_UP

The agent's protocol asks for this order: nothing before `Welcome`, one `Settings`, no audio before
`SettingsApplied`. What the phases share is kept by parts with one task each.
"""

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any, assert_never

import msgspec

from sts_trio.errors import Cause, Ending, How, Leg, LegEnded
from sts_trio.logic.acts import (
    Act,
    AgentReached,
    Ask,
    CallFunctions,
    CancelFunctions,
    CancelRequest,
    Close,
    Collect,
    Control,
    Dial,
    DialFailed,
    DropAgent,
    FlushCaller,
    FunctionDone,
    FunctionsRunAway,
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
from sts_trio.logic.agent_audio import AgentAudio
from sts_trio.logic.audio import seconds
from sts_trio.logic.caller_audio import CallerAudio
from sts_trio.logic.closing import Goodbye
from sts_trio.logic.function_calls import PendingFunctionCalls, called
from sts_trio.logic.history import History
from sts_trio.logic.keypad import KEYS, Keypad
from sts_trio.logic.limits import Limits, Step
from sts_trio.logic.output import MAX_REASON_CHARS, Violations
from sts_trio.logic.playout import Echo, Playout
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.reconnect import STEP_TIMEOUT, Reconnect
from sts_trio.logic.requests import Requests
from sts_trio.logic.states import (
    AGENT_TIMEOUT,
    LIMITS,
    START_TIMEOUT,
    Phase,
    cause_of_end,
    cause_of_failed_dial,
)
from sts_trio.wire import deepgram, twilio
from sts_trio.wire.oddity import Malformed, TooBig, Unknown

# After `start`, frames come every 20 ms unless the phone is muted from the first moment on.
FIRST_FRAME_TIMEOUT = 30.0
# Last words that are never reported to have been heard, by a peer that echoes no marks.
LAST_WORDS_GRACE = 2.0
# Deepgram ends a session after 2 h, and warns five minutes before. From the warning on, the next
# silence is used to go on in a fresh one; at the latest a minute before the end.
RENEW_WITHIN = 240.0
RENEWAL_DUE = "MAXIMUM_SESSION_LENGTH_APPROACHING"
# To an agent that lost its thread with its connection.
GO_ON = "Please go on."
# By an agent of the old dialect, which cannot be told what the caller had said.
SAY_AGAIN = "I am sorry, could you say that again?"
# To the agent, as if the caller had said it.
KEYED_IN = "I have keyed in: {}"
# To the agent, of a function that was not torn when its session, or its turn, was lost.
LATE = "The function {name}, called earlier in this conversation, has been done: {content}"
# Noise begins a turn as speech does, and may never end it. Nobody talks longer without a word that
# is understood.
MAX_TURN_SECONDS = 60.0


class SettingsWanted(msgspec.Struct, frozen=True):
    """For whom the agent's `Settings` are to be made.

    `history` goes into `agent.context.messages`; without `greets`, no greeting is to be said.
    """

    start: twilio.Start
    agent: str
    history: list[dict[str, Any]] = []
    greets: bool = True


Settings = Callable[[SettingsWanted], deepgram.Settings]


def _says_all(message: deepgram.ToAgent) -> bool:
    return True


class Statistics(msgspec.Struct, frozen=True):
    """A call in numbers. Audio in seconds."""

    caller_audio: float
    caller_audio_dropped: float
    caller_audio_muted: float
    caller_audio_repeated: float
    agent_audio: float
    heard: float
    cut: float
    barge_ins: int
    functions: int
    reconnects: int
    longest_gap: float
    odd: dict[str, int]


class Dialogue:
    """The state of one call.

    `settings` makes the agent's `Settings` once the caller is known. `can_say` tells whether the
    agent's dialect has words for a message.
    """

    __slots__ = (
        "_acts",
        "_agent_audio",
        "_asked",
        "_awaits",
        "_can_say",
        "_echo",
        "_first_frame_deadline",
        "_greets",
        "_has_dropped_agent",
        "_has_session",
        "_has_talked",
        "_is_prepared",
        "_keypad",
        "_leaving",
        "_listening",
        "_memory",
        "_now",
        "_oddities",
        "_owed",
        "_parting",
        "_patience",
        "_phase_deadline",
        "_policy",
        "_protections",
        "_rare_deadline",
        "_recovery",
        "_renewal_deadline",
        "_requests",
        "_settings",
        "_speaking",
        "_start",
        "_user_speaks_until",
        "agent",
        "call_sid",
        "phase",
        "stream_sid",
    )

    def __init__(
        self,
        settings: Settings,
        *,
        forward: float = 0.02,
        now: float = 0.0,
        policy: CallPolicy | None = None,
        can_say: Callable[[deepgram.ToAgent], bool] = _says_all,
    ) -> None:
        self.phase = Phase.AWAITING_START
        self.stream_sid = ""
        self.call_sid = ""
        self.agent = ""
        self._settings = settings
        self._policy = policy or CallPolicy()
        self._can_say = can_say
        self._start: twilio.Start | None = None
        self._now = now
        self._acts: list[Act] = []
        self._listening = CallerAudio(forward)
        self._speaking = AgentAudio()
        self._memory = History(self._tell_turn)
        self._requests = Requests()
        self._keypad = Keypad()
        self._patience = Limits(self._policy)
        self._recovery = Reconnect()
        self._leaving: Goodbye | None = None
        self._parting: Ending | None = None
        self._phase_deadline = now + START_TIMEOUT
        self._first_frame_deadline = inf
        self._renewal_deadline = inf
        self._awaits: dict[int, float] = {}  # {number: until when}
        self._rare_deadline = self._phase_deadline
        self._protections = 0
        self._has_session = False  # with an agent, be it only dialled
        self._has_talked = False
        self._has_dropped_agent = False
        self._is_prepared = False
        self._greets = True  # the next session is to begin with the agent's greeting
        self._owed: str | None = None  # see `History.unanswered`; for the next session
        self._echo: str | None = None  # what we say in the caller's name will be told back to us
        self._user_speaks_until = -inf
        self._asked = PendingFunctionCalls()
        self._agent_audio = 0
        self._oddities = Violations()

    @property
    def deadline(self) -> float:
        """When `Tick` is to be heard, unless something else moves it first. `inf`: never."""
        return min(self.rare_deadline, self._listening.gap_deadline)

    @property
    def rare_deadline(self) -> float:
        """The same, for who is asked many times a second: it leaves out the one deadline that
        every media frame moves."""
        batch = self._listening.batch_deadline
        return batch if batch < self._rare_deadline else self._rare_deadline

    @property
    def playout(self) -> Playout:
        """What the caller has heard of the agent, and what not."""
        return self._speaking.playout

    @property
    def is_closing(self) -> bool:
        """Whether the call is only waiting for its last words to be heard."""
        return self._leaving is not None or self.phase is Phase.PARTING

    def time_to_dial(self, now: float) -> float:
        """How long a dial may still take; a call that no longer waits for one has no limit."""
        return min(AGENT_TIMEOUT, max(0.0, self._phase_deadline - now))

    @property
    def start(self) -> twilio.StreamStart | None:
        """What Twilio told about the call; `None` before it did."""
        return None if self._start is None else self._start.start

    def statistics(self) -> Statistics:
        listening, speaking = self._listening, self._speaking
        return Statistics(
            caller_audio=_rounded(listening.heard),
            caller_audio_dropped=_rounded(listening.dropped),
            caller_audio_muted=_rounded(listening.muted),
            caller_audio_repeated=_rounded(listening.repeated),
            agent_audio=_rounded(self._agent_audio),
            heard=_rounded(speaking.playout.heard),
            cut=_rounded(speaking.playout.cut),
            barge_ins=speaking.barge_ins,
            functions=self._asked.count,
            reconnects=self._recovery.count,
            longest_gap=round(self._recovery.longest, 3),
            odd=dict(self._oddities.counts),
        )

    def hear(self, batch: Sequence[Heard], now: float) -> list[Act]:
        """What to do about what was heard, in order. Nothing follows a `HangUp`."""
        is_seldom = self._first_frame_deadline != inf
        if self.phase is Phase.TALKING and not is_seldom and (speech := self._speech(batch)):
            # Nearly all there is to hear; it takes the short way.
            audio = self._listening.pass_on(speech, now)
            return [SendToAgent(deepgram.Audio(audio))] if audio else []
        self._now = now
        self._acts = []
        self._has_dropped_agent = False
        is_seldom = self._hear_each(batch) or is_seldom
        if audio := self._listening.due(now):
            self._tell_agent(deepgram.Audio(audio))
        if is_seldom:
            self._settle()
        acts, self._acts = self._acts, []
        return acts

    def _hear_each(self, batch: Sequence[Heard]) -> bool:
        """Returns whether there was anything that moves a deadline, which audio does not."""
        is_seldom = False
        for message in batch:
            if isinstance(message, twilio.Media):
                self._hear_media(message)
            elif self.phase is Phase.HUNG_UP or self._has_dropped_agent:
                break  # what follows in a batch is of the same leg
            elif isinstance(message, deepgram.Audio):
                is_seldom = is_seldom or self._leaving is not None
                self._hear_agent_audio(message)
            else:
                is_seldom = True
                self._hear(message)
        return is_seldom

    def _settle(self) -> None:
        """What follows from all that was heard."""
        if self._awaits and self._speaking.is_heard and self.phase is not Phase.HUNG_UP:
            self._acts += [RequestDone(number) for number in self._awaits]
            self._awaits.clear()
        if self._leaving is not None and self._leaving.is_over(self._now, self._is_heard):
            self._hang_up(self._leaving.ending)
        elif self._parting is not None and not self.playout.unheard:
            self._hang_up(self._parting)
        elif self._renewal_deadline != inf and self._is_quiet:
            self._renew()
        if self.phase is Phase.HUNG_UP:
            self._rare_deadline = inf
            return
        self._rare_deadline = min(
            self._phase_deadline,
            self._first_frame_deadline,
            self._renewal_deadline,
            self._requests.deadline,
            self._keypad.deadline,
            self._patience_deadline,
            self._recovery.deadline,
            min(self._awaits.values(), default=inf),
        )

    @property
    def _patience_deadline(self) -> float:
        if self._leaving is not None:
            return self._leaving.deadline(self._now)
        return self._patience.deadline if self.phase is Phase.TALKING else inf

    @property
    def _is_heard(self) -> bool:
        return self._speaking.is_heard and not self._asked

    @property
    def _is_quiet(self) -> bool:
        """Whether nobody would miss the agent for a moment."""
        return (
            self._is_heard
            and self._now >= self._user_speaks_until
            and self.phase is Phase.TALKING
            and self._leaving is None
            and self._memory.unanswered is None
        )

    def _hear(self, message: Control) -> None:
        match message:
            case (
                twilio.Connected() | twilio.Start() | twilio.Dtmf() | twilio.Mark() | twilio.Stop()
            ):
                self._hear_caller(message)
            case Tick():
                self._hear_tick()
            case LegEnded():
                self._hear_leg_ended(message)
            case AgentReached():
                self._hear_reached(message)
            case DialFailed():
                self._hear_dial_failed(message)
            case Unknown():
                self._note_odd(message.leg, f"unknown message {message.tag!r}")
            case Malformed():
                self._note_odd(message.leg, message.reason)
            case TooBig():
                self._hear_too_big(message)
            case OutboxFull():
                if message.leg is Leg.AGENT:
                    self._listening.drop(message.dropped)
                self._note_odd(message.leg, "outbox full: audio dropped")
            case ShutDown():
                self._end(Cause.SHUTDOWN)
            case FunctionDone():
                self._hear_function_done(message)
            case FunctionsRunAway():
                self._lose_agent(Cause.AGENT_RAN_AWAY, "function calls", is_final=True)
            case (
                Ask() | Close() | HandOver() | PlayTones() | Protect() | WaitUntilHeard()
                | Collect() | CancelRequest()
            ):  # fmt: skip
                self._hear_own(message)
            case _:
                self._hear_agent(message)

    # --- the caller -----------------------------------------------------------------------------

    def _speech(self, batch: Sequence[Heard]) -> bytes:
        """The caller's audio in a batch that is nothing else, else `b""`."""
        stream_sid = self.stream_sid
        pieces = []
        for message in batch:
            if type(message) is not twilio.Media or message.stream_sid != stream_sid:
                return b""
            media = message.media
            if media.track != "inbound":
                return b""
            pieces.append(media.payload)
        return b"".join(pieces)

    def _hear_media(self, message: twilio.Media) -> None:
        audio, track = message.media.payload, message.media.track
        is_ours = message.stream_sid in (self.stream_sid, "")
        if self.phase is Phase.TALKING and is_ours and track == "inbound":
            self._listening.hear(audio, self._now)
            self._first_frame_deadline = inf
        elif self.phase is Phase.HUNG_UP:
            return
        elif self.phase is Phase.AWAITING_START:
            self._note_odd(Leg.CALLER, "media before start")
        elif not is_ours:
            self._note_odd(Leg.CALLER, "media of another stream")
        else:
            self._first_frame_deadline = inf
            if track != "inbound":
                self._note_odd(Leg.CALLER, f"media of track {track!r}")
                return
            self._listening.hear(audio, self._now)
            if self._listening.keep() and self.phase is not Phase.PARTING:
                self._note_odd(Leg.CALLER, "audio dropped: the agent is not ready")

    def _hear_caller(
        self,
        message: twilio.Connected | twilio.Start | twilio.Dtmf | twilio.Mark | twilio.Stop,
    ) -> None:
        if isinstance(message, twilio.Connected):
            return
        if isinstance(message, twilio.Start):
            self._hear_start(message)
            return
        if self.phase is Phase.AWAITING_START:
            # There is but one stream on a socket; its `start` may have been unreadable.
            if isinstance(message, twilio.Stop):
                self._end(Cause.STOP)
            else:
                self._note_odd(Leg.CALLER, f"{type(message).__name__.lower()} before start")
            return
        if message.stream_sid not in (self.stream_sid, ""):
            self._note_odd(Leg.CALLER, f"{type(message).__name__.lower()} of another stream")
            return
        self._first_frame_deadline = inf
        match message:
            case twilio.Stop():
                if self.phase is Phase.TALKING:
                    self._forward()
                self._end(Cause.STOP)
            case twilio.Mark():
                self._hear_mark(message.mark.name)
            case twilio.Dtmf():
                self._hear_key(message.dtmf.digit)
            case _:
                assert_never(message)

    def _hear_start(self, message: twilio.Start) -> None:
        if self._start is not None:
            self._note_odd(Leg.CALLER, "a second start")
            return
        start = message.start
        media = start.media_format
        if (media.encoding, media.sample_rate, media.channels) != ("audio/x-mulaw", 8000, 1):
            self._end(
                Cause.CALLER_REFUSED,
                f"audio format {media.encoding} {media.sample_rate} Hz x {media.channels}",
            )
            return
        self._start = message
        self.stream_sid = self._speaking.stream_sid = start.stream_sid
        self.call_sid = start.call_sid
        self._first_frame_deadline = self._now + FIRST_FRAME_TIMEOUT
        self._log("info", "call.started", call_sid=self.call_sid, stream_sid=self.stream_sid)
        self._enter(Phase.DIALLING)
        self._dial(None)

    def _hear_key(self, digit: str) -> None:
        self._log("debug", "caller.dtmf")
        self._patience.hear_caller(self._now)
        if len(digit) == 1 and digit in KEYS:
            self._acts += self._keypad.press(digit, self._now)

    def _hear_mark(self, name: str) -> None:
        echo = self.playout.echo(name)
        if echo is Echo.HEARD:
            self._memory.hear_mark(self.playout.position, self.playout.sent)
            after = self._speaking.silent_after(name, self._now)
            if after is not None:
                self._log("debug", "call.silenced", after=round(after, 3))
        elif echo is Echo.NEVER_SENT:
            self._note_odd(Leg.CALLER, "a mark we never sent")

    def _forward(self) -> None:
        """Everything gathered goes to the agent."""
        if audio := self._listening.take():
            self._tell_agent(deepgram.Audio(audio))

    # --- the agent's session --------------------------------------------------------------------

    def _dial(self, agent: str | None) -> None:
        self._has_session = True
        self._recovery.dial_deadline = inf
        self._acts.append(Dial(agent))

    def _hear_reached(self, reached: AgentReached) -> None:
        self.agent = reached.agent
        self._is_prepared = reached.is_prepared
        self._enter(Phase.AWAITING_WELCOME)

    def _hear_welcome(self, request_id: str) -> None:
        if self.phase is not Phase.AWAITING_WELCOME or self._start is None:
            self._note_odd(Leg.AGENT, "a second Welcome")
            return
        self._log("debug", "agent.welcomed", request_id=request_id)
        self._enter(Phase.AWAITING_APPLIED)
        if self._is_prepared:
            return  # it was told before the call began
        if self._greets and self._owed:
            # Whoever introduces itself does not begin with an answer, but is to know the question.
            self._memory.hear_user(self._owed)
            self._owed = ""
        settings = self._settings(
            SettingsWanted(self._start, self.agent, self._memory.messages(), self._greets)
        )
        if self._greets and _greets(settings):
            self._owed = None
        self._tell_agent(settings)

    def _hear_settings_applied(self) -> None:
        if self.phase is not Phase.AWAITING_APPLIED:
            self._note_odd(Leg.AGENT, "SettingsApplied out of turn")
            return
        self._log("debug", "agent.ready")
        self._enter(Phase.TALKING)
        self._patience.open_session(self._now)
        if self._recovery.is_on:
            gap, is_loss = self._recovery.succeed(self._now)
            event = "agent.reconnected" if is_loss else "agent.took_over"
            self._log("info", event, agent=self.agent, gap=round(gap, 3))
        if self._owed is not None:
            self._ask_anew(self._owed)
            self._owed = None
        self._requests.open_session(self._now)
        self._send_requests()
        if audio := self._listening.open_session(self._now):
            self._tell_agent(deepgram.Audio(audio))

    def _ask_anew(self, owed: str) -> None:
        """The agent owes an answer which the last connection took with it."""
        message = deepgram.InjectUserMessage(owed or GO_ON)
        if self._can_say(message):
            # Remembered at once: this session may be lost before it has told it back to us.
            self._echo = message.content
            self._memory.hear_user(message.content)
            self._requests.ask(None, message, self._now, is_first=True)
        else:
            if owed:
                self._memory.hear_user(owed)
            self._inject(deepgram.InjectAgentMessage(SAY_AGAIN))

    def _lose_agent(
        self, cause: Cause, detail: str = "", *, is_final: bool = False, code: int = 1000
    ) -> None:
        """The session is over, or is to be. Another one is dialled if that makes sense."""
        if self._parting is not None:
            return
        if self._leaving is not None:
            self._part(self._leaving.ending, b"", code)
        elif self._policy.reconnects and not is_final and self._recovery.redial(self._now):
            self._log("warning", "agent.lost", ending=cause.label, detail=detail[:MAX_REASON_CHARS])
            dial_at = self._recovery.dial_deadline
            self._begin_gap(code)
            if dial_at > self._now:
                self._phase_deadline = dial_at + STEP_TIMEOUT
            else:
                self._dial(self.agent or None)
        elif self._policy.apology and self._start is not None:
            self._part(Ending(cause, detail[:MAX_REASON_CHARS]), self._policy.apology, code)
        else:
            self._end(cause, detail)

    def _begin_gap(self, code: int = 1000) -> None:
        """For a moment there is no agent. The next session gets what was said so far."""
        self._drop_agent(code)
        self._recovery.begin_gap(self._now, self._speaking.plays_until)
        self._enter(Phase.DIALLING)

    def _hand_over(self, agent: str) -> None:
        """Another agent goes on, in a session of its own."""
        if self.phase is Phase.AWAITING_START or self.is_closing:
            return
        self._log("info", "agent.handed_over", agent=self.agent, to=agent)
        self._begin_gap()
        self._acts += self._requests.forget_updates()
        self._greets = True
        self.agent = agent
        self._dial(agent)

    def _renew(self) -> None:
        """A fresh session, before Deepgram ends this one."""
        self._log("info", "agent.renewed", agent=self.agent)
        self._begin_gap()
        self._dial(self.agent)

    def _drop_agent(self, code: int = 1000) -> None:
        self._interrupt()
        if self._owed is None:
            self._owed = self._memory.unanswered
            if self._owed:
                self._memory.forget_last()  # it is asked anew
        self._tell_caller(*self._speaking.finish(self._now))
        self._memory.finish(self.playout.sent)
        self._listening.close_session()
        self._requests.close_session(self._now)
        self._renewal_deadline = inf
        self._user_speaks_until = -inf
        self._echo = None
        if self._has_session:
            self._has_session = False
            self._has_dropped_agent = True
            self._acts.append(DropAgent(code))

    def _interrupt(self) -> None:
        """What is under way will not come to its end in this session."""
        for function in self._asked.interrupted():
            self._memory.call_function(function)
        self._cancel_functions(self._asked.ids)
        if self._speaking.is_amid_utterance:
            self._acts += [RequestDone(number, "the agent was lost") for number in self._awaits]
            self._awaits.clear()

    def _part(self, ending: Ending, words: bytes, code: int = 1000) -> None:
        """No agent any more: the caller hears what there is, and our own last words."""
        self._drop_agent(code)
        self._leaving = None
        self._recovery.end()
        self._enter(Phase.PARTING)
        self._parting = msgspec.structs.replace(ending, apologised=bool(words))
        self._play_clip(words)
        self._phase_deadline = max(self._now, self._speaking.plays_until) + LAST_WORDS_GRACE

    def _play_clip(self, clip: bytes) -> None:
        self._tell_caller(*self._speaking.insert(clip, self._now))

    # --- the agent ------------------------------------------------------------------------------

    def _hear_agent_audio(self, message: deepgram.Audio) -> None:
        if not message.data:
            self._note_odd(Leg.AGENT, "empty audio")
            return
        if self.phase is not Phase.TALKING:
            # Against its own rules, but it is audio: the caller may hear it.
            self._note_odd(Leg.AGENT, "audio before SettingsApplied")
        self._agent_audio += len(message.data)
        speaking = self._speaking
        if speaking.is_stale(self._now):
            return
        self._greets = False
        self._memory.hear_audio(speaking.playout.sent)
        self._tell_caller(*speaking.say(message.data, self._now))
        if self._leaving is not None:
            self._leaving.hear_words(self._speaking.plays_until)

    def _hear_agent(self, message: deepgram.TextFromAgent) -> None:
        if self._requests.are_pending:
            if self._requests.is_begun_by(message):
                self._speaking.next_turn()  # words of ours are none of those that were cut
            self._acts += self._requests.hear(message)
        match message:
            case deepgram.UserStartedSpeaking():
                self._hear_user_speaks()
            case deepgram.AgentAudioDone():
                self._finish_utterance()
            case deepgram.ConversationText(role, text):
                self._hear_text(role, text)
            case deepgram.EndOfTurn():
                self._user_speaks_until = -inf
                self._speaking.next_turn()
            case deepgram.AgentThinking() | deepgram.AgentStartedSpeaking():
                self._speaking.next_turn()
            case deepgram.FunctionCallRequest(functions):
                self._speaking.next_turn()
                self._call_functions(functions)
            case deepgram.FunctionCallCancelled(functions):
                self._cancel_functions(function.id for function in functions)
                self._log("debug", "agent.said", kind="FunctionCallCancelled")
            case deepgram.FunctionCallResponse():
                self._hear_their_function(message)
            case deepgram.Welcome(request_id):
                self._hear_welcome(request_id)
            case deepgram.SettingsApplied():
                self._hear_settings_applied()
            case deepgram.AgentError(code, description):
                # Settings that were refused once will be again.
                self._lose_agent(
                    Cause.AGENT_ERROR, f"{code}: {description}", is_final=not self._has_talked
                )
            case deepgram.AgentWarning(code, description):
                self._hear_warning(code, description)
            case (
                deepgram.History()
                | deepgram.LatencyReport()
                | deepgram.PromptUpdated()
                | deepgram.SpeakUpdated()
                | deepgram.ThinkUpdated()
                | deepgram.ThinkLiveUpdated()
                | deepgram.ListenUpdated()
                | deepgram.InjectionRefused()
                | deepgram.FrustrationDetected()
                | deepgram.CustomFromThinkProvider()
            ):
                self._log("debug", "agent.said", kind=type(message).__name__)
            case _:
                assert_never(message)
        self._send_requests()

    def _hear_warning(self, code: str, description: str) -> None:
        self._note_once("agent.warned", Leg.AGENT, f"{code}: {description}")
        if code == RENEWAL_DUE and self._policy.reconnects and self._leaving is None:
            self._renewal_deadline = self._now + RENEW_WITHIN

    def _hear_user_speaks(self) -> None:
        self._user_speaks_until = self._now + MAX_TURN_SECONDS
        self._patience.hear_caller(self._now)
        if self._speaking.is_protected:
            self._log("debug", "caller.speaks")
            return
        position, sent = self.playout.position, self.playout.sent
        cut = self._clear()
        self._speaking.barge_ins += cut > 0
        if cut:
            self._log("debug", "call.barge_in", cut=seconds(cut))
        else:
            self._log("debug", "caller.speaks")
        self._memory.cut(position, sent)

    def _clear(self) -> int:
        """Nothing that was said is to be heard any more; returns how many bytes are cut."""
        cut, messages = self._speaking.cut(self._now)
        self._acts.append(FlushCaller())
        self._tell_caller(*messages)
        return cut

    def _hear_text(self, role: str, text: str) -> None:
        is_stale = role != "user" and self._speaking.is_stale(self._now)
        if role == "user":
            self._speaking.next_turn()
            if text == self._echo:
                self._echo = None
                return  # the caller said it long ago
            self._greets = False
            self._user_speaks_until = -inf
            self._listening.end_turn()
            self._patience.hear_caller(self._now)
            self._memory.hear_user(text)
        elif not is_stale:
            self._greets = False
            self._speaking.is_amid_utterance = True
            self._memory.hear_agent(text, self.playout.sent)
        self._acts.append(Transcript(role, text))
        if is_stale:  # of a turn that was cut, on its way when it was
            self._tell_turn(TurnHeard(text, "", 0.0, 0.0))

    def _finish_utterance(self) -> None:
        self._tell_caller(*self._speaking.finish(self._now))
        self._memory.finish(self.playout.sent)
        if self._leaving is not None and not self._requests.has_words_to_say:
            self._leaving.is_said = True

    # --- functions ------------------------------------------------------------------------------

    def _call_functions(self, functions: tuple[deepgram.FunctionToCall, ...]) -> None:
        """Those meant for us are to be run: the agent is mute until it has an answer to each."""
        if self.phase is not Phase.TALKING:
            self._note_odd(Leg.AGENT, "called a function before SettingsApplied")
            return
        ours, again = self._asked.ask(functions)
        for _ in again:
            self._note_odd(Leg.AGENT, "called a function twice by one id")
        if ours:
            self._acts.append(CallFunctions(tuple(ours)))

    def _cancel_functions(self, ids: Iterable[str]) -> None:
        if known := self._asked.cancel(ids):
            self._acts.append(CancelFunctions(known))

    def _hear_function_done(self, done: FunctionDone) -> None:
        asked = done.asked
        # The id of one that nobody waits for may be in use again, by an agent of another session.
        is_awaited = not done.is_void and self._asked.answer(asked.id)
        if is_awaited or done.is_void:
            # An agent to come is to know of it, even if the one that asked no longer wants to.
            self._memory.call_function(called(asked, done.content))
        if done.is_void:
            self._tell_late(asked.name, done.content)
        if not is_awaited:
            return
        self._patience.hear_agent(self._now)
        if done.hand_over is not None and self._leaving is None:
            self._hand_over(done.hand_over)
            return
        self._tell_agent(deepgram.FunctionResult(asked.id, asked.name, done.content))
        if self._leaving is not None:
            self._leaving.wait_for_words(self._now)

    def _tell_late(self, name: str, content: str) -> None:
        """What was done is not to be done twice: the agent is told of it without being asked."""
        message = deepgram.UpdatePrompt(LATE.format(name=name, content=content))
        if self.phase is Phase.TALKING and self._leaving is None and self._can_say(message):
            self._requests.ask(None, message, self._now)
            self._send_requests()

    def _hear_their_function(self, done: deepgram.FunctionCallResponse) -> None:
        """Deepgram ran a function itself."""
        if (function := self._asked.hear_theirs(done)) is not None:
            self._memory.call_function(function)
        self._log("debug", "agent.said", kind=type(done).__name__)

    # --- what the call's own code asks for ------------------------------------------------------

    def _hear_own(
        self,
        wanted: Ask
        | Close
        | HandOver
        | PlayTones
        | Protect
        | WaitUntilHeard
        | Collect
        | CancelRequest,
    ) -> None:
        match wanted:
            case Ask(number, message):
                if self._can_say(message):
                    self._acts += self._requests.ask(number, message, self._now)
                    self._send_requests()
                else:
                    reason = f"this dialect has no words for {type(message).__name__}"
                    self._acts.append(RequestDone(number, reason))
            case Close(ending):
                self._leave(ending)
            case HandOver(agent):
                self._hand_over(agent)
            case PlayTones(audio):
                self._play_clip(audio)
            case Protect(is_over):
                self._protections += -1 if is_over else 1
                self._protect()
            case WaitUntilHeard(number, within):
                self._awaits[number] = self._now + within
            case Collect():
                self._acts += self._keypad.collect(wanted, self._now)
            case CancelRequest(number):
                self._requests.cancel(number)
                self._keypad.cancel(number)
                self._awaits.pop(number, None)
            case _:
                assert_never(wanted)

    def _leave(self, ending: Ending) -> None:
        if self.is_closing:
            return
        if self.phase is Phase.TALKING:
            self._leaving = Goodbye.begin(ending, self._now)
            self._renewal_deadline = inf
            self._protect()
        else:
            self._part(ending, b"")

    def _protect(self) -> None:
        """The caller is not cut off by speaking up, nor is the agent, which so must not hear it."""
        protects = self._protections > 0 or self._leaving is not None
        self._speaking.is_protected = self._listening.is_muted = protects

    def _inject(
        self,
        message: deepgram.InjectUserMessage | deepgram.InjectAgentMessage,
        *,
        is_kept: bool = False,
    ) -> None:
        """Of our own accord: nobody waits for the answer."""
        if self._can_say(message):
            self._requests.ask(None, message, self._now, is_kept=is_kept)

    def _send_requests(self) -> None:
        if not self._requests.are_pending:
            return
        messages, answers = self._requests.send()
        for message in messages:
            self._tell_agent(message)
        self._acts += answers

    # --- endings, time, oddities ----------------------------------------------------------------

    def _hear_leg_ended(self, ended: LegEnded) -> None:
        detail = " ".join(str(part) for part in (ended.code, ended.reason) if part)
        if ended.leg is Leg.CALLER:
            self._end(cause_of_end(ended), detail)
        elif ended.how is How.CLOSED and ended.code == 1000 and self.phase is Phase.TALKING:
            self._finish_with_agent(detail)
        else:
            self._lose_agent(cause_of_end(ended), detail)

    def _finish_with_agent(self, detail: str) -> None:
        """The agent ends the session in good order; once its words are heard, that is the end of
        the call."""
        ending = Ending(Cause.AGENT_FINISHED, detail[:MAX_REASON_CHARS])
        if self._leaving is not None:
            ending = self._leaving.ending
        if self._speaking.is_heard:
            self._hang_up(ending)
        else:
            self._part(ending, b"")

    def _hear_too_big(self, message: TooBig) -> None:
        detail = f"a message of {message.size} bytes"
        if message.leg is Leg.CALLER:
            self._end(Cause.CALLER_TOO_BIG, detail)
        else:
            self._lose_agent(Cause.AGENT_TOO_BIG, detail, code=Cause.AGENT_TOO_BIG.agent_code)

    def _hear_dial_failed(self, failed: DialFailed) -> None:
        self._has_session = False
        cause = cause_of_failed_dial(failed.status)
        # At a call's begin, whoever dials has tried all there is.
        is_final = cause is Cause.AGENT_DENIED or not self._has_talked
        self._lose_agent(cause, failed.reason, is_final=is_final)

    def _hear_tick(self) -> None:
        """All that is due, be it several things at once."""
        if self._now >= self._phase_deadline:
            self._hear_phase_over()
        elif self._now >= self._first_frame_deadline:
            self._end(Cause.CALLER_NO_MEDIA, f"after {FIRST_FRAME_TIMEOUT:g} s")
        if self.phase is Phase.HUNG_UP:
            return
        if self._now >= self._listening.batch_deadline:
            self._forward()
        if self._now >= self._listening.gap_deadline:
            self._forward()
            self._tell_agent(deepgram.Audio(self._listening.fill_gap(self._now)))
        self._hear_rare_tick()

    def _hear_phase_over(self) -> None:
        if self._parting is not None:
            self._hang_up(self._parting)
            return
        cause = LIMITS[self.phase][1]
        limit = self._limit(self.phase)
        # The first time it takes too long, a second try would take as long again.
        self._lose_agent(cause, f"after {limit:g} s", is_final=not self._has_talked)

    def _hear_rare_tick(self) -> None:
        now = self._now
        if now >= self._recovery.dial_deadline:
            self._dial(self.agent or None)
        if now >= self._recovery.bridge_deadline:
            self._play_clip(self._policy.one_moment)
            self._recovery.hear_filler(max(now, self._speaking.plays_until))
        self._acts += self._requests.tick(now)
        collected, keys = self._keypad.tick(now)
        self._acts += collected
        if keys and self._leaving is None:
            self._inject(deepgram.InjectUserMessage(KEYED_IN.format(" ".join(keys))), is_kept=True)
        self._lose_patience()
        late = [number for number, deadline in self._awaits.items() if deadline <= now]
        for number in late:
            del self._awaits[number]
            self._acts.append(RequestDone(number, "not heard in time", timed_out=True))
        if now >= self._renewal_deadline:
            self._renew()
        self._send_requests()

    def _lose_patience(self) -> None:
        if self.phase is not Phase.TALKING:
            return
        self._patience.hear_agent(self._speaking.plays_until)
        self._patience.hear_agent(
            self._now if self._asked else min(self._now, self._user_speaks_until)
        )
        while self._leaving is None and (step := self._patience.due(self._now)) is not None:
            self._do(step)

    def _do(self, step: Step) -> None:
        policy = self._policy
        match step:
            case Step.ASK:
                self._inject(deepgram.InjectAgentMessage(policy.asks))
            case Step.HANG_UP:
                self._inject(deepgram.InjectAgentMessage(policy.farewell, "queue"))
                self._leave(Ending(Cause.SILENCE))
            case Step.WARN:
                self._inject(deepgram.InjectAgentMessage(policy.warning, "queue"))
            case Step.END:
                if not self._speaking.is_heard and not self._speaking.is_protected:
                    # Else the goodbye would wait behind all that Twilio still has.
                    self._memory.cut(self.playout.position, self.playout.sent)
                    self._clear()
                    self._speaking.next_turn()
                self._inject(deepgram.InjectAgentMessage(policy.time_is_up, "interrupt"))
                self._leave(Ending(Cause.TIME_UP))
            case _:
                assert_never(step)

    def _limit(self, phase: Phase) -> float:
        limit = LIMITS[phase][0]
        return min(limit, STEP_TIMEOUT) if self._recovery.is_on else limit

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._phase_deadline = self._now + self._limit(phase) if phase in LIMITS else inf
        self._has_talked = self._has_talked or phase is Phase.TALKING

    def _end(self, cause: Cause, detail: str = "") -> None:
        self._hang_up(Ending(cause, detail[:MAX_REASON_CHARS]))

    def _hang_up(self, ending: Ending) -> None:
        self._memory.cut(self.playout.position, self.playout.sent)
        self._cancel_functions(self._asked.ids)
        self._enter(Phase.HUNG_UP)
        self._listening.close_session()
        self._first_frame_deadline = inf
        self._leaving = self._parting = None
        self._acts.append(HangUp(ending))

    def _tell_turn(self, turn: TurnHeard) -> None:
        self._acts.append(turn)

    def _note_odd(self, leg: Leg, reason: str) -> None:
        """Counts what a peer did wrong, and logs it the first time in this call."""
        self._note_once(f"{leg.value}.odd", leg, reason)

    def _note_once(self, event: str, leg: Leg, reason: str) -> None:
        told = self._oddities.note(leg, reason)
        if told is not None:
            self._log("warning", event, reason=told)

    def _tell_caller(self, *messages: twilio.ToCaller) -> None:
        self._acts.extend(map(SendToCaller, messages))

    def _tell_agent(self, message: deepgram.ToAgent) -> None:
        self._acts.append(SendToAgent(message))

    def _log(self, level: str, event: str, **fields: Any) -> None:
        self._acts.append(Log(level, event, fields))


def _greets(settings: deepgram.Settings) -> bool:
    """Whether an agent with these settings speaks first. Of a stored one it cannot be told."""
    return isinstance(settings.agent, str) or bool(settings.agent.get("greeting"))


def _rounded(length: int) -> float:
    return round(seconds(length), 3)

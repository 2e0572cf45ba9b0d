"""One call's state machine: what is heard goes in, acts come out.

Pure: no sockets, no clock, no tasks.

Theory of operation
-------------------
`hear(batch, now)` takes what the legs heard, in order, and returns the acts to perform, in order.
Time is an input; `deadline` is an output: when it passes, `Tick` is to be heard. Nothing here
waits, and nothing here fails: what a peer does wrong is counted, logged once, and if it makes the
call meaningless, ends it.

A call goes through its phases in one direction:

    AWAITING_START ── start ──► DIALLING ── socket open ──► AWAITING_WELCOME ── Welcome ──►
    AWAITING_APPLIED ── SettingsApplied ──► TALKING          any of them ── HangUp ──► HUNG_UP

The agent's protocol asks for this order: nothing before `Welcome`, one `Settings`, no audio before
`SettingsApplied`. Caller audio that comes earlier waits, bounded, and then goes at once.

While talking, caller audio is batched toward the agent and agent audio is cut into whole frames
toward the caller. Whether the caller is listening to the agent is not a phase: `playout` knows.

Barge-in: on `UserStartedSpeaking` our own outbox is flushed, `clear` empties Twilio's buffer, and
agent audio that still belongs to the cut utterance is dropped until a sign of the next one.

Gaps in the caller's frames are no hang-up (Twilio may send none while a phone is muted). The agent
is then sent silence, paced as speech would be, so that it neither times out nor waits for the end
of a turn; its `KeepAlive` is reported not to be enough (deepgram-js-sdk, issue 419).
"""

import collections
import enum
from collections.abc import Callable, Iterable
from math import inf
from typing import Any, assert_never

import msgspec

from sts_trio.errors import Cause, Ending, How, Leg, LegEnded
from sts_trio.logic.audio import SILENCE, Batch, Frames, length, seconds
from sts_trio.logic.playout import Echo, Playout
from sts_trio.wire import deepgram, twilio
from sts_trio.wire.oddity import Malformed, TooBig, Unknown

# Twilio sends `connected` and `start` at once; ten seconds is a stranger, not a slow network.
START_TIMEOUT = 10.0
# After `start`, frames come every 20 ms unless the phone is muted from the first moment on.
FIRST_FRAME_TIMEOUT = 30.0
# Each step of the agent's session: socket, `Welcome`, `SettingsApplied`. The slowest takes 0.2 s.
AGENT_TIMEOUT = 5.0
# Caller audio kept until the agent listens. A backlog of 2 s is known to be taken well.
WAITING_ROOM = 2.0
# A gap in the caller's frames longer than jitter: from here on the agent hears silence instead.
GAP = 1.0
GAP_STEP = 0.2
# Agent audio of a cut utterance is already under way when we hear of the barge-in. A few frames are
# usual; a sign of the next turn ends the wait earlier.
STALE_AUDIO = 2.0
# The largest media message in public samples is a second; also what one `clear` can overtake.
MOST_PER_MEDIA = length(1.0)
# Reasons told apart per call, and letters kept of a peer's words: it can make up as many as it
# likes.
MOST_REASONS = 50
MOST_WORDS = 200

Settings = Callable[[twilio.Start], deepgram.Settings]


class AgentReached(msgspec.Struct, frozen=True):
    """The agent's websocket is open."""


class DialFailed(msgspec.Struct, frozen=True):
    """There is no websocket to the agent; `status` if it answered with one."""

    reason: str
    status: int | None = None


class OutboxFull(msgspec.Struct, frozen=True):
    """`dropped` bytes of the oldest audio toward `leg` had to go."""

    leg: Leg
    dropped: int


class Tick(msgspec.Struct, frozen=True):
    """`deadline` has passed."""


class ShutDown(msgspec.Struct, frozen=True):
    """The server is going away."""


_Seldom = (
    twilio.Connected
    | twilio.Start
    | twilio.Dtmf
    | twilio.Mark
    | twilio.Stop
    | deepgram.FromAgent
    | Unknown
    | Malformed
    | TooBig
    | LegEnded
    | AgentReached
    | DialFailed
    | OutboxFull
    | Tick
    | ShutDown
)
Heard = twilio.Media | _Seldom


class TellCaller(msgspec.Struct, frozen=True, gc=False):
    message: twilio.ToCaller


class TellAgent(msgspec.Struct, frozen=True, gc=False):
    message: deepgram.ToAgent


class FlushCaller(msgspec.Struct, frozen=True):
    """Everything waiting toward the caller is void."""


class Dial(msgspec.Struct, frozen=True):
    """Open the agent leg."""


class HangUp(msgspec.Struct, frozen=True):
    """Say goodbye on both legs. The last act."""

    ending: Ending


class Log(msgspec.Struct, frozen=True):
    level: str
    event: str
    fields: dict[str, Any]


class Transcript(msgspec.Struct, frozen=True):
    """A sentence, as the agent reports it: `role` is user or assistant."""

    role: str
    text: str


Act = TellCaller | TellAgent | FlushCaller | Dial | HangUp | Log | Transcript


class Phase(enum.Enum):
    AWAITING_START = enum.auto()
    DIALLING = enum.auto()
    AWAITING_WELCOME = enum.auto()
    AWAITING_APPLIED = enum.auto()
    TALKING = enum.auto()
    HUNG_UP = enum.auto()


# {phase: (how long it may last, the cause if it lasts longer)}
_LIMITS = {
    Phase.AWAITING_START: (START_TIMEOUT, Cause.CALLER_NO_START),
    Phase.DIALLING: (AGENT_TIMEOUT, Cause.AGENT_NO_HANDSHAKE),
    Phase.AWAITING_WELCOME: (AGENT_TIMEOUT, Cause.AGENT_NO_WELCOME),
    Phase.AWAITING_APPLIED: (AGENT_TIMEOUT, Cause.AGENT_NO_SETTINGS_APPLIED),
}

_CALLER_ENDS = {
    How.CLOSED: Cause.CALLER_CLOSED,
    How.LOST: Cause.CALLER_LOST,
    How.SILENT: Cause.CALLER_SILENT,
    How.STALLED: Cause.CALLER_STALLED,
}
_AGENT_ENDS = {
    How.CLOSED: Cause.AGENT_CLOSED,
    How.LOST: Cause.AGENT_LOST,
    How.SILENT: Cause.AGENT_SILENT,
    How.STALLED: Cause.AGENT_SILENT,
}
# Key, funds, rights, path: the operator's to set right.
_DENIED = {401, 402, 403, 404}


class Statistics(msgspec.Struct, frozen=True):
    """A call in numbers. Audio in seconds."""

    caller_audio: float
    caller_audio_dropped: float
    agent_audio: float
    heard: float
    cut: float
    barge_ins: int
    odd: dict[str, int]


class Dialogue:
    """The state of one call. `settings` makes the agent's `Settings` once the caller is known."""

    def __init__(self, settings: Settings, *, forward: float = 0.02, now: float = 0.0) -> None:
        self.phase = Phase.AWAITING_START
        self.stream_sid = ""
        self.call_sid = ""
        self.playout = Playout()
        self._settings = settings
        self._start: twilio.Start | None = None
        self._now = now
        self._acts: list[Act] = []
        self._batch = Batch(forward)
        self._frames = Frames()
        self._stale_until = -inf
        self._phase_deadline = now + START_TIMEOUT
        self._first_frame_deadline = inf
        self._gap_deadline = inf
        self._batch_deadline = inf
        self._batch_delay = forward
        self._caller_audio = 0
        self._dropped = 0
        self._agent_audio = 0
        self._barge_ins = 0
        self._odd: collections.Counter[str] = collections.Counter()

    @property
    def deadline(self) -> float:
        """When `Tick` is to be heard, unless something else moves it first. `inf`: never."""
        return min(self.rare_deadline, self._gap_deadline)

    @property
    def rare_deadline(self) -> float:
        """The same, for who is asked many times a second: it leaves out the one deadline that
        every media frame moves."""
        return min(self._phase_deadline, self._first_frame_deadline, self._batch_deadline)

    def statistics(self) -> Statistics:
        return Statistics(
            caller_audio=round(seconds(self._caller_audio), 3),
            caller_audio_dropped=round(seconds(self._dropped), 3),
            agent_audio=round(seconds(self._agent_audio), 3),
            heard=round(seconds(self.playout.heard), 3),
            cut=round(seconds(self.playout.cut), 3),
            barge_ins=self._barge_ins,
            odd=dict(self._odd),
        )

    def hear(self, batch: Iterable[Heard], now: float) -> list[Act]:
        """What to do about what was heard, in order. Nothing follows a `HangUp`."""
        self._now = now
        acts = self._acts = []
        for message in batch:
            # Nearly all there is to hear is the caller's audio; it takes the short way.
            if isinstance(message, twilio.Media):
                self._hear_media(message)
            elif self.phase is Phase.HUNG_UP:
                break
            else:
                self._hear(message)
        if self._batch and self.phase is Phase.TALKING:
            if self._batch.is_enough:
                self._forward()
            elif self._batch_deadline == inf:
                self._batch_deadline = now + 2 * self._batch_delay
        return acts

    def _hear(self, message: _Seldom) -> None:
        match message:
            case deepgram.Audio():
                self._hear_agent_audio(message)
            case (
                twilio.Connected() | twilio.Start() | twilio.Dtmf() | twilio.Mark() | twilio.Stop()
            ):
                self._hear_caller(message)
            case Tick():
                self._hear_tick()
            case LegEnded():
                self._hear_leg_ended(message)
            case AgentReached():
                self._enter(Phase.AWAITING_WELCOME)
            case DialFailed():
                self._hear_dial_failed(message)
            case Unknown():
                self._note_odd(message.leg, f"unknown message {message.tag!r}")
            case Malformed():
                self._note_odd(message.leg, message.reason)
            case TooBig():
                cause = Cause.CALLER_TOO_BIG if message.leg is Leg.CALLER else Cause.AGENT_TOO_BIG
                self._hang_up(cause, f"a message of {message.size} bytes")
            case OutboxFull():
                self._dropped += message.dropped if message.leg is Leg.AGENT else 0
                self._note_odd(message.leg, "outbox full: audio dropped")
            case ShutDown():
                self._hang_up(Cause.SHUTDOWN)
            case _:
                self._hear_agent(message)

    # --- the caller -----------------------------------------------------------------------------

    def _hear_media(self, message: twilio.Media) -> None:
        audio, track = message.media.payload, message.media.track
        is_ours = message.stream_sid in (self.stream_sid, "")
        if self.phase is Phase.TALKING and is_ours and track == "inbound":
            self._batch.add(audio)
            self._caller_audio += len(audio)
            self._gap_deadline = self._now + GAP
            self._first_frame_deadline = inf
        elif self.phase is Phase.HUNG_UP:
            return
        elif self.phase is Phase.AWAITING_START:
            self._note_odd(Leg.CALLER, "media before start")
        elif not is_ours:
            self._note_odd(Leg.CALLER, "media of another stream")
        elif track != "inbound":
            self._first_frame_deadline = inf
            self._note_odd(Leg.CALLER, f"media of track {track!r}")
        else:
            self._first_frame_deadline = inf
            self._batch.add(audio)
            self._caller_audio += len(audio)
            self._drop(self._batch.keep_newest(WAITING_ROOM))

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
                self._hang_up(Cause.STOP)
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
                self._hang_up(Cause.STOP)
            case twilio.Mark():
                if self.playout.echo(message.mark.name) is Echo.NEVER_SENT:
                    self._note_odd(Leg.CALLER, "a mark we never sent")
            case twilio.Dtmf():
                self._log("debug", "caller.dtmf")
            case _:
                assert_never(message)

    def _hear_start(self, message: twilio.Start) -> None:
        if self._start is not None:
            self._note_odd(Leg.CALLER, "a second start")
            return
        start = message.start
        media = start.media_format
        if (media.encoding, media.sample_rate, media.channels) != ("audio/x-mulaw", 8000, 1):
            self._hang_up(
                Cause.CALLER_REFUSED,
                f"audio format {media.encoding} {media.sample_rate} Hz x {media.channels}",
            )
            return
        self._start = message
        self.stream_sid = start.stream_sid
        self.call_sid = start.call_sid
        self._first_frame_deadline = self._now + FIRST_FRAME_TIMEOUT
        self._log("info", "call.started", call_sid=self.call_sid, stream_sid=self.stream_sid)
        self._enter(Phase.DIALLING)
        self._acts.append(Dial())

    def _forward(self) -> None:
        """Everything gathered goes to the agent."""
        self._batch_deadline = inf
        if audio := self._batch.take():
            self._tell_agent(deepgram.Audio(audio))

    # --- the agent ------------------------------------------------------------------------------

    def _hear_agent_audio(self, message: deepgram.Audio) -> None:
        if not message.data:
            self._note_odd(Leg.AGENT, "empty audio")
            return
        if self.phase is not Phase.TALKING:
            # Against its own rules, but it is audio: the caller may hear it.
            self._note_odd(Leg.AGENT, "audio before SettingsApplied")
        self._agent_audio += len(message.data)
        if self._now < self._stale_until:
            return
        self._play(self._frames.cut(message.data))

    def _play(self, audio: bytes) -> None:
        for start in range(0, len(audio), MOST_PER_MEDIA):
            piece = audio[start : start + MOST_PER_MEDIA]
            self._tell_caller(twilio.PlayMedia(self.stream_sid, twilio.Outbound(piece)))
            self.playout.play(len(piece))
            if self.playout.wants_mark:
                self._mark()

    def _mark(self) -> None:
        name = twilio.MarkName(self.playout.mark())
        self._tell_caller(twilio.PlayMark(self.stream_sid, name))

    def _hear_agent(self, message: deepgram.TextFromAgent) -> None:
        match message:
            case deepgram.UserStartedSpeaking():
                self._barge_in()
            case deepgram.AgentAudioDone():
                self._finish_utterance()
            case deepgram.ConversationText(role, text):
                if role == "user":
                    self._next_turn()
                self._acts.append(Transcript(role, text))
            case deepgram.EndOfTurn() | deepgram.AgentThinking() | deepgram.AgentStartedSpeaking():
                self._next_turn()
            case deepgram.FunctionCallRequest(functions):
                self._next_turn()
                self._refuse_functions(functions)
            case deepgram.Welcome(request_id):
                self._hear_welcome(request_id)
            case deepgram.SettingsApplied():
                self._hear_settings_applied()
            case deepgram.AgentError(code, description):
                self._hang_up(Cause.AGENT_ERROR, f"{code}: {description}")
            case deepgram.AgentWarning(code, description):
                self._note_once("agent.warned", Leg.AGENT, f"{code}: {description}")
            case (
                deepgram.History()
                | deepgram.LatencyReport()
                | deepgram.FunctionCallResponse()
                | deepgram.FunctionCallCancelled()
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

    def _hear_welcome(self, request_id: str) -> None:
        if self.phase is not Phase.AWAITING_WELCOME or self._start is None:
            self._note_odd(Leg.AGENT, "a second Welcome")
            return
        self._log("debug", "agent.welcomed", request_id=request_id)
        self._enter(Phase.AWAITING_APPLIED)
        self._tell_agent(self._settings(self._start))

    def _hear_settings_applied(self) -> None:
        if self.phase is not Phase.AWAITING_APPLIED:
            self._note_odd(Leg.AGENT, "SettingsApplied out of turn")
            return
        self._log("debug", "agent.ready")
        self._enter(Phase.TALKING)
        self._gap_deadline = self._now + GAP
        self._forward()

    def _barge_in(self) -> None:
        self._stale_until = self._now + STALE_AUDIO
        self._frames.drop()
        cut = self.playout.clear()
        self._acts.append(FlushCaller())
        self._tell_caller(twilio.Clear(self.stream_sid))
        if cut:
            self._barge_ins += 1
            self._log("debug", "call.barge_in", cut=seconds(cut))
        else:
            self._log("debug", "caller.speaks")

    def _next_turn(self) -> None:
        """A sign that agent audio from here on belongs to a new utterance."""
        self._stale_until = -inf

    def _finish_utterance(self) -> None:
        self._next_turn()
        self._play(self._frames.finish())
        if not self.playout.is_marked:
            self._mark()

    def _refuse_functions(self, functions: tuple[deepgram.FunctionToCall, ...]) -> None:
        """Answers every call meant for us: the agent is mute until it has an answer."""
        for function in functions:
            if function.client_side:
                self._note_odd(Leg.AGENT, f"called function {function.name!r}")
                answer = '{"error": "there is no such function"}'
                self._tell_agent(deepgram.FunctionResult(function.id, function.name, answer))

    # --- endings, time, oddities ----------------------------------------------------------------

    def _hear_leg_ended(self, ended: LegEnded) -> None:
        detail = " ".join(str(part) for part in (ended.code, ended.reason) if part)
        if ended.leg is Leg.CALLER:
            self._hang_up(_CALLER_ENDS[ended.how], detail)
        elif ended.how is How.CLOSED and ended.code == 1000 and self.phase is Phase.TALKING:
            self._hang_up(Cause.AGENT_FINISHED, detail)
        else:
            self._hang_up(_AGENT_ENDS[ended.how], detail)

    def _hear_dial_failed(self, failed: DialFailed) -> None:
        if failed.status is None:
            self._hang_up(Cause.AGENT_UNREACHABLE, failed.reason)
        elif failed.status in _DENIED:
            self._hang_up(Cause.AGENT_DENIED, failed.reason)
        else:
            self._hang_up(Cause.AGENT_REJECTED, failed.reason)

    def _hear_tick(self) -> None:
        if self._now >= self._phase_deadline:
            limit, cause = _LIMITS[self.phase]
            self._hang_up(cause, f"after {limit:g} s")
        elif self._now >= self._first_frame_deadline:
            self._hang_up(Cause.CALLER_NO_MEDIA, f"after {FIRST_FRAME_TIMEOUT:g} s")
        else:
            if self._now >= self._batch_deadline:
                self._forward()
            if self._now >= self._gap_deadline:
                self._forward()
                self._fill_gap()

    def _fill_gap(self) -> None:
        """Silence for the time that has passed, be the tick late; of a stall, for a second."""
        late = min(self._now - self._gap_deadline, GAP - GAP_STEP)
        steps = 1 + int(late / GAP_STEP)
        self._tell_agent(deepgram.Audio(SILENCE * length(steps * GAP_STEP)))
        self._gap_deadline = self._now - late + steps * GAP_STEP

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        limit = _LIMITS.get(phase)
        self._phase_deadline = self._now + limit[0] if limit else inf

    def _hang_up(self, cause: Cause, detail: str = "") -> None:
        self._enter(Phase.HUNG_UP)
        self._first_frame_deadline = self._gap_deadline = self._batch_deadline = inf
        self._acts.append(HangUp(Ending(cause, detail[:MOST_WORDS])))

    def _drop(self, count: int) -> None:
        if count:
            self._dropped += count
            self._note_odd(Leg.CALLER, "audio dropped: the agent is not ready")

    def _note_odd(self, leg: Leg, reason: str) -> None:
        """Counts what a peer did wrong, and logs it the first time in this call."""
        self._note_once(f"{leg.value}.odd", leg, reason)

    def _note_once(self, event: str, leg: Leg, reason: str) -> None:
        reason = reason[:MOST_WORDS]
        key = f"{leg.value}: {reason}"
        if key not in self._odd and len(self._odd) >= MOST_REASONS:
            key, reason = f"{leg.value}: (more)", "(more)"
        self._odd[key] += 1
        if self._odd[key] == 1:
            self._log("warning", event, reason=reason)

    def _tell_caller(self, message: twilio.ToCaller) -> None:
        self._acts.append(TellCaller(message))

    def _tell_agent(self, message: deepgram.ToAgent) -> None:
        self._acts.append(TellAgent(message))

    def _log(self, level: str, event: str, **fields: Any) -> None:
        self._acts.append(Log(level, event, fields))

"""One session of the offline agent: Deepgram's side of the protocol. Pure.

Messages and the time come in, messages go out; `deadline` tells when `wake` wants to be called.
A session is as strict as Deepgram about order and content, so that a bridge which works here is not
refused there: a mistake is answered by `Error`, and an `Error` is followed by the end.

Theory of operation
-------------------
The ears tell when the caller begins and ceases to speak; the speaker hands out speech at its pace.
Speech that begins silences the speaker and voids a function call in flight, even if everything had
been sent already. Speech that ceases ends the turn, and the mind answers.

Words are recognised and answers are rendered elsewhere, by a pool, where there is one: both are
jobs, run between an act (`Listen`, `Speak`) and a message (`Heard`, `Spoken`). A pause sends the
audio off early, so that the words are there when the turn is over; who goes on speaking has it sent
again, with the rest. Without ears no word is recognised, no transcript pretends that one was, and
without a voice of the pool's it is the base install's.
Source: developers.deepgram.com/docs/voice-agent (message flow, errors), read 2026-11-22.
"""

import enum
import itertools
import math
from typing import Any, assert_never

import msgspec

from sts_trio.offline.hearing.endpointing import (
    BY_LOUDNESS,
    MAX,
    Began,
    Ceased,
    Ears,
    News,
    Paused,
    Resumed,
    Sense,
)
from sts_trio.offline.protocol.functions import Functions
from sts_trio.offline.protocol.jobs import Heard, Job, Listen, Outcome, Spoken
from sts_trio.offline.protocol.script import CallFunction, Line, Mind, Silence
from sts_trio.offline.protocol.speaker import Speaker, told
from sts_trio.wire import deepgram, deepgram_settings

# Deepgram's limit is not published; about 15 s without audio are reported.
CLIENT_TIMEOUT = 15.0
# A muted handset may send no frames at all; speech that breaks off so has ceased.
STALLED_AUDIO = 1.0
# A close frame without a status, as Deepgram was seen to send after an `Error`.
NO_STATUS = 1005

NO_FORMAT = (
    "the offline agent hears and speaks mulaw at 8000 Hz without a container only: "
    "ask for it in audio.input and audio.output"
)


class Unparsable(msgspec.Struct, frozen=True):
    """The client sent something that is not a message of the protocol."""

    reason: str


class HangUp(msgspec.Struct, frozen=True):
    """The websocket is to be closed with this code."""

    code: int


Act = deepgram.TextFromAgent | deepgram.Audio | HangUp | Job
Message = deepgram.ToAgent | Unparsable | Outcome


class Phase(enum.Enum):
    """Where the handshake stands."""

    AWAITING_SETTINGS = enum.auto()
    APPLIED = enum.auto()
    OVER = enum.auto()


class Session:
    """`open` it, then tell it what is heard and wake it when it asks to be; do what it returns."""

    def __init__(
        self,
        mind: Mind,
        *,
        sense: Sense = BY_LOUDNESS,
        has_ears: bool = False,
        has_voice: bool = False,
        request_id: str = "",
    ) -> None:
        self._mind = mind
        self._has_ears = has_ears
        self._request_id = request_id
        self._phase = Phase.AWAITING_SETTINGS
        self._ears = Ears(sense)
        self._next_ticket = itertools.count(1).__next__
        self._speaker = Speaker(self._next_ticket, has_voice=has_voice)
        self._functions = Functions(request_id)
        self._acts: list[Act] = []
        self._turn = _Turn()
        self._flux = False
        self._last_sign = 0.0  # when the client was last heard of
        self._last_audio = math.inf

    @property
    def deadline(self) -> float:
        """When to call `wake`, unless something is heard before."""
        if self._phase is Phase.OVER:
            return math.inf
        stalled = self._last_audio + STALLED_AUDIO if self._ears.speaking else math.inf
        return min(self._speaker.deadline, self._last_sign + CLIENT_TIMEOUT, stalled)

    def open(self, now: float) -> list[Act]:
        """The websocket is open."""
        self._last_sign = now
        return [deepgram.Welcome(self._request_id)]

    def hear(self, message: Message, now: float) -> list[Act]:
        """The client said this, or a job is done. Nothing comes of it once it is over."""
        match self._phase:
            case Phase.AWAITING_SETTINGS:
                self._begin(message, now)
            case Phase.APPLIED:
                self._converse(message, now)
            case Phase.OVER:
                pass
            case _:
                assert_never(self._phase)
        return self._take_acts(now)

    def wake(self, now: float) -> list[Act]:
        """Time has passed. Waking early does no harm."""
        if self._phase is not Phase.OVER:
            if now >= self._last_sign + CLIENT_TIMEOUT:
                self._fail(
                    "CLIENT_MESSAGE_TIMEOUT",
                    f"no audio and no KeepAlive for {CLIENT_TIMEOUT:.0f} seconds",
                )
            elif now >= self._last_audio + STALLED_AUDIO:
                self._end_turn(self._ears.end_turn(), now)
        return self._take_acts(now)

    def _take_acts(self, now: float) -> list[Act]:
        acts, self._acts = self._acts, []
        if self._phase is not Phase.OVER:
            acts += self._speaker.utter(now)
        return acts

    def _fail(self, code: str, description: str) -> None:
        self._acts += [deepgram.AgentError(code, description), HangUp(NO_STATUS)]
        self._phase = Phase.OVER

    # --- before the settings --------------------------------------------------------------------

    def _begin(self, message: Message, now: float) -> None:
        if isinstance(message, Unparsable):
            self._fail("UNPARSABLE_CLIENT_MESSAGE", message.reason)
        elif not isinstance(message, deepgram_settings.Settings):
            self._fail(
                "NON_SETTINGS_MESSAGE_BEFORE_SETTINGS",
                f"{_name(message)} came before Settings",
            )
        elif not _is_phone_audio(message.audio):
            self._fail("INVALID_SETTINGS", NO_FORMAT)
        elif isinstance(message.agent, str):
            self._fail(
                "AGENT_ID_NOT_SUPPORTED", "the offline agent knows no stored agents: write it out"
            )
        else:
            self._apply(message, deepgram_settings.check_agent(message.agent), now)

    def _apply(
        self, settings: deepgram_settings.Settings, agent: deepgram_settings.Agent, now: float
    ) -> None:
        self._phase = Phase.APPLIED
        self._last_sign = now
        self._speaker.with_history = deepgram_settings.read_flags(settings).history
        self._listen_with(agent.listen)
        self._functions.configure(agent.think)
        self._acts.append(deepgram.SettingsApplied())
        self._remember(agent.context)
        if agent.greeting:
            self._acts += self._speaker.say(agent.greeting, now)

    def _remember(self, context: deepgram_settings.Context | None) -> None:
        """What was said and done in an earlier session, which this one goes on with."""
        for item in context.messages if context is not None else ():
            match item:
                case {"role": "user", "content": str(said)}:
                    self._mind.recall_caller(said, self._functions.ours)
                case {"role": "assistant", "content": str(said)}:
                    self._mind.recall_agent(said)
                case {"function_calls": [*calls]}:
                    for call in calls:
                        self._recall_function(call)

    def _recall_function(self, call: Any) -> None:
        match call:
            case {"name": str(name), "response": str(result)}:
                self._mind.recall_function(name, result)

    def _listen_with(self, listen: deepgram_settings.Listen | None) -> None:
        self._flux = listen is not None and listen.provider.version == "v2"

    # --- the conversation -----------------------------------------------------------------------

    def _converse(self, message: Message, now: float) -> None:
        match message:
            case deepgram.Audio(data):
                self._last_sign = self._last_audio = now
                for news in self._ears.listen(data):
                    if self._phase is Phase.APPLIED:
                        self._notice(news, now)
            case deepgram.KeepAlive():
                self._last_sign = now
            case Heard():
                self._take_words(message, now)
            case Spoken():
                self._acts += self._speaker.hear(message, now)
            case Unparsable(reason):
                self._fail("UNPARSABLE_CLIENT_MESSAGE", reason)
            case deepgram_settings.Settings():
                self._fail("SETTINGS_ALREADY_APPLIED", "Settings may be sent once only")
            case deepgram.InjectUserMessage(content):
                self._user_said(content, now)
            case deepgram.InjectAgentMessage():
                self._inject(message, now)
            case deepgram.FunctionResult():
                self._go_on(self._functions.finish(message), now)
            case deepgram.ForceEndTurn() if self._flux:
                self._end_turn(self._ears.end_turn(), now)
            case deepgram.ForceEndTurn():
                self._warn("FORCE_END_TURN_UNSUPPORTED", "only a Flux listener can end a turn")
            case deepgram.UpdatePrompt():
                self._acts.append(deepgram.PromptUpdated())
            case deepgram.UpdateSpeak():
                self._acts.append(deepgram.SpeakUpdated())
            case deepgram.UpdateListen(listen):
                self._listen_with(msgspec.convert(listen, deepgram_settings.Listen))
                self._acts.append(deepgram.ListenUpdated())
            case deepgram.UpdateThink(think):
                blocks = deepgram_settings.Think | list[deepgram_settings.Think]
                self._functions.configure(msgspec.convert(think, blocks))
                self._acts.append(deepgram.ThinkUpdated())
            case deepgram.UpdateThinkLive():
                self._acts.append(deepgram.ThinkLiveUpdated())
            case deepgram.CustomToThinkProvider():
                pass  # for a model of the client's own, which nobody is here
            case _:
                assert_never(message)

    def _notice(self, news: News, now: float) -> None:
        match news:
            case Began():
                self._acts.append(deepgram.UserStartedSpeaking())
                self._acts += self._speaker.hush()
                cancelled = self._functions.cancel()
                if cancelled is not None:
                    self._acts.append(cancelled)
                self._turn.go_on()
            case Paused(audio):
                self._send_off(audio)
            case Resumed():
                self._turn.void()
            case Ceased():
                self._end_turn(news, now)
            case _:
                assert_never(news)

    # --- the caller's turn ----------------------------------------------------------------------

    def _end_turn(self, ceased: Ceased | None, now: float) -> None:
        if ceased is None:
            return
        if not self._has_ears:
            self._user_said(f"(speech, {ceased.duration:.1f} s)", now)
            return
        if self._turn.ticket is None:
            self._send_off(ceased.audio)
        self._turn.is_over = True
        self._conclude(now)

    def _send_off(self, audio: bytes) -> None:
        ticket = self._next_ticket()
        self._acts.append(Listen(ticket, self._turn.send_off(audio, ticket)))

    def _take_words(self, heard: Heard, now: float) -> None:
        if heard.ticket == self._turn.ticket:
            self._turn.heard = heard
            self._conclude(now)

    def _conclude(self, now: float) -> None:
        """Once the turn is over and its words are known: the answer."""
        heard = self._turn.heard
        if heard is None or not self._turn.is_over:
            return
        self._turn = _Turn()
        if heard.fault is not None:
            self._warn("LISTEN_FAILED", f"the caller was not understood: {heard.fault}")
        self._user_said(heard.words, now)

    def _user_said(self, content: str, now: float) -> None:
        """No words: there was speech, but none were made out."""
        if content:
            self._acts += told("user", content, with_history=self._speaker.with_history)
        line = self._mind.reply(content, self._functions.ours)
        if not isinstance(line, Silence):
            self._acts.append(deepgram.AgentThinking(self._mind.thought))
        self._answer(line, now)

    # --- the agent's ----------------------------------------------------------------------------

    def _answer(self, line: Line, now: float) -> None:
        """A function the client does not run is passed over."""
        while isinstance(line, CallFunction):
            function = self._functions.get(line.name)
            if function is None:
                self._fail(
                    "NON_EXISTENT_FUNCTION_CALLED", f"{line.name} is not in agent.think.functions"
                )
                return
            if function.endpoint is None:
                self._acts.append(self._functions.call(line))
                return
            self._warn("FUNCTION_CALL_FAILED", f"{line.name}: the offline agent calls no endpoint")
            line = self._mind.go_on("")
        if not isinstance(line, Silence):
            self._acts += self._speaker.say(line, now)

    def _warn(self, code: str, description: str) -> None:
        self._acts.append(deepgram.AgentWarning(code, description))

    def _inject(self, message: deepgram.InjectAgentMessage, now: float) -> None:
        behaviour = message.behavior
        if message.message is None and not message.is_dynamic:
            self._fail("UNPARSABLE_CLIENT_MESSAGE", "InjectAgentMessage needs a message")
        elif behaviour not in ("default", "queue", "interrupt"):
            self._fail("UNPARSABLE_CLIENT_MESSAGE", f"{behaviour!r} is no behavior")
        elif behaviour != "interrupt" and self._ears.speaking:
            self._refuse("INJECT_AGENT_MESSAGE_DURING_USER_SPEECH", "the user is speaking")
        elif behaviour == "default" and self._speaker.is_speaking:
            self._refuse("INJECT_AGENT_MESSAGE_DURING_AGENT_SPEECH", "the agent is speaking")
        else:
            if behaviour == "interrupt":
                self._acts += self._speaker.hush()
            if message.message is None:
                self._answer(self._mind.speak_up(), now)
            else:
                self._acts += self._speaker.say(message.message, now)

    def _refuse(self, code: str, reason: str) -> None:
        self._acts.append(deepgram.InjectionRefused(f"not spoken: {reason}"))
        self._warn(code, reason)

    def _go_on(self, called: deepgram.CalledFunction | None, now: float) -> None:
        if called is None:
            return
        if self._speaker.with_history:
            self._acts.append(deepgram.History(function_calls=(called,)))
        self._answer(self._mind.go_on(called.response), now)


class _Turn:
    """What the caller said since the last answer, on its way to being words."""

    def __init__(self) -> None:
        self.is_over = False
        self.ticket: int | None = None  # of the job that has all of it
        self.heard: Heard | None = None  # what came of that
        self._before = b""  # audio from before the caller went on after all
        self._sent = b""

    def send_off(self, audio: bytes, ticket: int) -> bytes:
        """All audio that makes the turn."""
        self.ticket, self.heard = ticket, None
        self._sent = (self._before + audio)[-MAX:]
        return self._sent

    def void(self) -> None:
        """There is more to come: the words, if there are any already, are not all."""
        self.ticket = self.heard = None

    def go_on(self) -> None:
        """The caller speaks again, before there was an answer if the turn is over."""
        self._before = self._sent if self.is_over else b""
        self.is_over = False
        self.void()


def _is_phone_audio(audio: deepgram_settings.AudioSettings) -> bool:
    return (
        audio.input is not None
        and audio.output is not None
        and all(
            (side.encoding, side.sample_rate, side.container or "none") == ("mulaw", 8000, "none")
            for side in (audio.input, audio.output)
        )
    )


def _name(message: deepgram.ToAgent | Outcome) -> str:
    return "audio" if isinstance(message, deepgram.Audio) else type(message).__name__

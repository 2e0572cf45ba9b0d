"""The dialogue under any interleaving of what it may hear, with time moving on between.

What our own side says keeps to the rules (`AgentReached` or `DialFailed` only after `Dial`, and
nothing of the agent before it was reached). Peers say anything at any time.
"""

from math import inf
from typing import Any

import strategies
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from rig_dialogue import hold_deadlines
from rig_peers import CALL_SID, SETTINGS, STREAM_SID
from strategies import examples

from sts_trio.audio.frames import length
from sts_trio.errors import How, Leg, LegEnded
from sts_trio.logic.acts import (
    Act,
    AgentReached,
    Dial,
    DialFailed,
    DropAgent,
    FlushCaller,
    HangUp,
    Heard,
    OperatorHangsUp,
    OutboxFull,
    SendToAgent,
    SendToCaller,
    ShutDown,
    StreamBegan,
    Tick,
)
from sts_trio.logic.agent_audio import MAX_MEDIA_BYTES
from sts_trio.logic.caller_audio import WAITING_ROOM
from sts_trio.logic.dialogue import Dialogue, SettingsWanted
from sts_trio.logic.keypad import is_key
from sts_trio.logic.output import MAX_REASONS
from sts_trio.observe import events
from sts_trio.wire import deepgram, deepgram_settings, twilio
from sts_trio.wire.anomalies import Malformed, TooBig, Unknown

OTHER = "MZ00000000000000000000000000000009"
AHEAD = 0.000_001

legs = st.sampled_from(Leg)
sizes = st.sampled_from([0, 1, 159, 160, 161, 800, 4096, 9000, 20_000])
sids = st.sampled_from([STREAM_SID, STREAM_SID, STREAM_SID, "", OTHER])
durations = st.floats(0, 3)

START = twilio.Start(twilio.StreamStart(STREAM_SID, CALL_SID))
REFUSED_START = twilio.Start(
    twilio.StreamStart(STREAM_SID, CALL_SID, media_format=twilio.MediaFormat(sample_rate=16000))
)

oddities = st.builds(Unknown, legs, st.text(max_size=3)) | st.builds(
    Malformed, legs, st.text(max_size=3)
)
agent_texts = st.lists(strategies.structs(deepgram.TextFromAgent), min_size=1, max_size=3)


class AnyConversation(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        # What the call has come to, as far as can be told from outside.
        self.is_started = self.is_dialled = self.is_reached = False
        self.is_welcomed = self.is_set = self.is_talking = self.is_over = False
        # The caller's audio: never 0xFF, so that filler is told apart.
        self.spoken = 0
        self.accepted = self.dropped = 0
        self.waiting = bytearray()  # accepted, not dropped, and not yet with the agent
        self.waiting_since = 0.0
        self.filler = 0
        self.talking_since = 0.0
        # The agent's.
        self.agent_spoken = bytearray()
        self.played_to = 0
        self.clears = 0
        self.marks: list[str] = []
        self.violations: set[tuple[str, Any]] = set()  # logged

    @initialize(
        forward=st.sampled_from([0.02, 0.1, 0.4]),
        steps=st.integers(0, 4),
        patience=st.integers(0, 40),
    )
    def begin(self, forward: float, steps: int, patience: int) -> None:
        self.forward = forward
        self.patience = patience
        self.dialogue = Dialogue(self._settings, forward=forward, now=self.now)
        if steps >= 1:
            self.hear(START)
        if steps >= 2:
            self.the_agent_is_reached()
        if steps >= 3:
            self.hear(deepgram.Welcome("request"))
        if steps >= 4:
            self.hear(deepgram.SettingsApplied())

    def _settings(self, wanted: SettingsWanted) -> deepgram_settings.Settings:
        assert self.is_started
        return SETTINGS

    # --- what the caller says -------------------------------------------------------------------

    @rule(several=st.lists(sizes, min_size=1, max_size=5))
    def the_caller_speaks(self, several: list[int]) -> None:
        self.hear(*(self._media(size) for size in several))

    @rule(size=sizes, sid=sids, track=st.sampled_from(["inbound", "outbound"]))
    def some_media_comes(self, size: int, sid: str, track: str) -> None:
        self.hear(self._media(size, sid, track))

    def _media(self, size: int, sid: str = STREAM_SID, track: str = "inbound") -> twilio.Media:
        payload = bytes((self.spoken + place) % 255 for place in range(size))
        self.spoken += size
        return twilio.Media(twilio.Inbound(payload, track=track), stream_sid=sid)

    @rule()
    def a_start_comes(self) -> None:
        self.hear(twilio.Connected(), START)

    @rule(name=st.text(max_size=5), sid=sids)
    def a_strange_mark_comes(self, name: str, sid: str) -> None:
        self.hear(twilio.Mark(twilio.MarkName(name), stream_sid=sid))

    @rule(data=st.data())
    @precondition(lambda self: self.marks)
    def a_mark_is_echoed(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.marks))
        self.hear(twilio.Mark(twilio.MarkName(name), stream_sid=STREAM_SID))

    @rule(sid=sids, digit=st.text(max_size=2))
    def a_key_is_pressed(self, sid: str, digit: str) -> None:
        self.hear(twilio.Dtmf(twilio.Digit(digit), stream_sid=sid))

    @rule(oddity=oddities)
    def something_odd_comes(self, oddity: Unknown | Malformed) -> None:
        self.hear(oddity)

    @rule()
    @precondition(lambda self: self.is_started)
    def another_stream_stops(self) -> None:
        self.hear(twilio.Stop(stream_sid=OTHER))

    # --- what the agent says --------------------------------------------------------------------

    @rule()
    @precondition(lambda self: self.is_dialled and not self.is_reached)
    def the_agent_is_reached(self) -> None:
        self.is_reached = True
        self.hear(AgentReached())

    @rule()
    @precondition(lambda self: self.is_reached)
    def the_agent_goes_a_step_further(self) -> None:
        self.hear(deepgram.SettingsApplied() if self.is_welcomed else deepgram.Welcome("request"))

    @rule(several=st.lists(sizes, min_size=1, max_size=3))
    @precondition(lambda self: self.is_reached)
    def the_agent_speaks(self, several: list[int]) -> None:
        for size in several:
            begin = len(self.agent_spoken)
            audio = bytes((begin + place) % 255 for place in range(size))
            if not self.is_over:
                self.agent_spoken += audio
            self.hear(deepgram.Audio(audio))

    @rule(messages=agent_texts)
    @precondition(lambda self: self.is_reached)
    def the_agent_says_anything(self, messages: list[deepgram.TextFromAgent]) -> None:
        self.hear(*messages)

    @rule(
        message=st.sampled_from(
            [deepgram.UserStartedSpeaking(), deepgram.AgentAudioDone(), deepgram.EndOfTurn()]
        )
    )
    @precondition(lambda self: self.is_reached)
    def turns_change(self, message: deepgram.TextFromAgent) -> None:
        self.hear(message)

    # --- what we say ourselves ------------------------------------------------------------------

    @rule(leg=legs, count=st.integers(1, 10_000))
    def an_outbox_is_full(self, leg: Leg, count: int) -> None:
        self.hear(OutboxFull(leg, count))

    @rule()
    def a_tick_comes_early(self) -> None:
        before = self.dialogue.deadline
        if self.now < before:
            assert self.hear(Tick()) == []
            assert self.dialogue.deadline == before

    @rule(duration=durations)
    def time_passes(self, duration: float) -> None:
        end = self.now + duration
        while self.dialogue.deadline <= end:
            self.now = max(self.now, self.dialogue.deadline)
            self._tick()
        self.now = end

    @rule(delay=durations)
    @precondition(lambda self: not self.is_over)
    def a_tick_comes_late(self, delay: float) -> None:
        self.now = max(self.now, self.dialogue.deadline) + delay
        self._tick()

    def _tick(self) -> None:
        self.hear(Tick())
        assert self.dialogue.deadline > self.now, "the timer would not rest"

    # --- what ends the call ---------------------------------------------------------------------

    @rule(data=st.data())
    @precondition(lambda self: self.patience <= 0)
    def the_end_comes(self, data: st.DataObject) -> None:
        ends: list[st.SearchStrategy[Any]] = [
            st.just(twilio.Stop(stream_sid=STREAM_SID)),
            st.sampled_from([ShutDown(), OperatorHangsUp()]),
            st.builds(TooBig, st.just(Leg.CALLER), sizes),
            st.builds(LegEnded, st.just(Leg.CALLER), st.sampled_from(How)),
        ]
        if not self.is_started:
            ends.append(st.just(REFUSED_START))
        if self.is_dialled and not self.is_reached:
            statuses = st.none() | st.integers(100, 599)
            ends.append(st.builds(DialFailed, st.text(max_size=5), statuses))
        if self.is_reached:
            codes = st.none() | st.just(1000) | st.integers(1000, 4999)
            ends += [
                st.builds(TooBig, st.just(Leg.AGENT), sizes),
                st.builds(LegEnded, st.just(Leg.AGENT), st.sampled_from(How), codes),
            ]
        message = data.draw(st.one_of(ends))
        was_talking = self.is_talking and not self.is_over
        self.hear(self._media(1), message, self._media(1))
        while not self.is_over:
            # An agent that went in good order is heard out.
            assert isinstance(message, LegEnded)
            assert (message.leg, message.how, message.code) == (Leg.AGENT, How.CLOSED, 1000)
            self.now = self.dialogue.deadline
            self._tick()
        if was_talking and isinstance(message, twilio.Stop):
            assert not self.waiting, "the caller's last words are lost"

    # --- the model ------------------------------------------------------------------------------

    def hear(self, *messages: Heard) -> list[Act]:
        self.patience -= 1
        was_over, was_talking = self.is_over, self.is_talking
        may_end = False
        for message in messages:
            self._expect(message)
            if _is_fatal(message):
                may_end = self.is_over = True
        self.is_over = was_over
        acts = self.dialogue.hear(messages, self.now)
        if was_over:
            assert acts == []
            return acts
        for act in acts:
            assert not self.is_over, "an act after hanging up"
            self._perform(act)
        assert self.is_over <= may_end
        if self.is_talking and not was_talking and not self.is_over:
            assert not self.waiting, "the waiting room was not emptied"
            assert sum(_is_audio(act) for act in acts) <= 1
        if self.is_talking and not self.is_over:
            assert len(self.waiting) < length(self.forward)
        return acts

    def _expect(self, message: Heard) -> None:
        if self.is_over:
            return
        match message:
            case twilio.Start() if not _is_fatal(message):
                self.is_started = True
            case twilio.Media(media, stream_sid):
                if (
                    self.is_started
                    and media.track == "inbound"
                    and stream_sid in (STREAM_SID, "")
                    and media.payload
                ):
                    self._accept(media.payload)
            case deepgram.Welcome() if self.is_reached:
                self.is_welcomed = True
            case deepgram.SettingsApplied() if self.is_welcomed and not self.is_talking:
                self.is_talking = True
                self.talking_since = self.now
            case deepgram.UserStartedSpeaking():
                self.clears += 1
            case twilio.Dtmf(twilio.Digit(digit), stream_sid):
                # It cuts what is being said, as a word does.
                is_ours = self.is_started and stream_sid in (STREAM_SID, "")
                self.clears += is_ours and is_key(digit)
            case OutboxFull(Leg.AGENT, dropped):
                self.dropped += dropped

    def _accept(self, audio: bytes) -> None:
        if not self.waiting:
            self.waiting_since = self.now
        self.accepted += len(audio)
        self.waiting += audio
        if not self.is_talking:
            excess = max(0, len(self.waiting) - length(WAITING_ROOM))
            del self.waiting[:excess]
            self.dropped += excess

    def _perform(self, act: Act) -> None:
        match act:
            case SendToCaller(message):
                assert self.is_started
                assert message.stream_sid == STREAM_SID
                self._tell_caller(message)
            case SendToAgent(deepgram_settings.Settings() as sent):
                assert self.is_welcomed
                assert sent is SETTINGS
                assert not self.is_set, "settings were sent twice"
                self.is_set = True
            case SendToAgent(deepgram.Audio(data)):
                assert self.is_talking
                self._tell_agent(data)
            case SendToAgent(message):
                # A result, or keys that the caller pressed.
                assert isinstance(message, deepgram.FunctionResult | deepgram.InjectUserMessage)
                assert self.is_reached
            case Dial():
                assert self.is_started
                assert not self.is_dialled
                self.is_dialled = True
            case DropAgent():
                self.is_talking = self.is_reached = False
            case HangUp():
                self.is_over = True
            case (
                events.CallerProtocolError(reason)
                | events.AgentProtocolError(reason)
                | events.AgentWarned(reason)
            ):
                assert (act.NAME, reason) not in self.violations, "told twice"
                self.violations.add((act.NAME, reason))
            case events.OfCall() | FlushCaller() | StreamBegan():
                pass

    def _tell_caller(self, message: twilio.ToCaller) -> None:
        if isinstance(message, twilio.PlayMark):
            self.marks.append(message.mark.name)
        if not isinstance(message, twilio.PlayMedia):
            return
        audio = message.media.payload
        assert 0 < len(audio) <= MAX_MEDIA_BYTES
        assert len(audio) % 160 == 0
        said = audio.rstrip(b"\xff")
        begin = self.agent_spoken.find(said, self.played_to)
        assert begin >= 0, "not what the agent said next"
        if not self.clears:
            assert begin == self.played_to, "a part of what the agent said is missing"
        self.played_to = begin + len(said)

    def _tell_agent(self, data: bytes) -> None:
        said = data.replace(b"\xff", b"")
        self.filler += len(data) - len(said)
        assert self.filler <= length(self.now - self.talking_since) + 1
        assert self.waiting.startswith(said), "out of order, lost, or sent twice"
        del self.waiting[: len(said)]

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def no_part_waits_beyond_its_deadline(self) -> None:
        if not self.is_over:
            hold_deadlines(self.dialogue)

    @invariant()
    def the_timer_is_set_until_the_call_is_over(self) -> None:
        assert (self.dialogue.deadline == inf) == self.is_over
        if not self.is_over:
            assert self.dialogue.deadline > self.now - AHEAD

    @invariant()
    def the_callers_words_wait_no_longer_than_two_batches(self) -> None:
        if self.waiting and self.is_talking and not self.is_over:
            assert self.dialogue.deadline <= self.waiting_since + 2 * self.forward + AHEAD

    @invariant()
    def all_the_agent_said_is_played_but_for_a_part_of_a_frame(self) -> None:
        if not self.clears and not self.is_over:
            assert len(self.agent_spoken) - self.played_to < 160

    @invariant()
    def the_numbers_add_up(self) -> None:
        numbers = self.dialogue.statistics()
        assert numbers.caller_audio == round(self.accepted / 8000, 3)
        assert numbers.caller_audio_dropped == round(self.dropped / 8000, 3)
        assert numbers.agent_audio == round(len(self.agent_spoken) / 8000, 3)
        # The caller may speak over nothing.
        assert numbers.barge_ins <= self.clears
        assert (numbers.barge_ins > 0) == (numbers.cut > 0)
        assert {reason.partition(": ")[2] for reason in numbers.violations} == {
            reason for _, reason in self.violations
        }
        assert len(numbers.violations) <= MAX_REASONS + len(Leg)

    @invariant()
    def the_ledger_balances(self) -> None:
        playout = self.dialogue.playout
        assert playout.sent == playout.heard + playout.cut + playout.unheard
        assert playout.unheard >= 0


def _is_fatal(message: Heard) -> bool:
    """Whether it may end a call; a stop of another stream does not."""
    match message:
        case twilio.Stop(stream_sid=sid):
            return sid != OTHER
        case twilio.Start(start):
            return start.media_format != twilio.MediaFormat()
        case Tick() | ShutDown() | OperatorHangsUp() | LegEnded() | TooBig() | DialFailed():
            return True
        case deepgram.AgentError():
            return True
        case _:
            return False


def _is_audio(act: Act) -> bool:
    return isinstance(act, SendToAgent) and isinstance(act.message, deepgram.Audio)


AnyConversation.TestCase.settings = settings(max_examples=examples(1.5), stateful_step_count=40)
TestAnyConversation = AnyConversation.TestCase

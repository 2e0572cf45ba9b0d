"""The dialogue under any interleaving, with policy that reconnect, apologise, ask and end.

As in `test_dialogue_machine.py`, our own side keeps to the rules: a session is dialled before it is
reached, nothing is heard of one that was dropped, functions end once. Peers say anything.
"""

import enum
import re
from math import inf
from typing import Any

import msgspec
import strategies
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from rig_dialogue import hold_deadlines
from rig_peers import START, STOP, STREAM_SID

from sts_trio.audio.frames import length
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
    Collected,
    Dial,
    DialFailed,
    DropAgent,
    FunctionDone,
    FunctionsRunAway,
    HandOver,
    HangUp,
    Heard,
    OperatorHangsUp,
    PlayTones,
    Protect,
    RequestDone,
    SendToAgent,
    SendToCaller,
    ShutDown,
    Tick,
    Unsent,
    WaitUntilHeard,
    WindUp,
)
from sts_trio.logic.caller_audio import WAITING_ROOM
from sts_trio.logic.dialogue import Dialogue, SettingsWanted
from sts_trio.logic.hearing_out import LONGEST_WORDS
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.requests import ANSWER_TIMEOUT, HEARD_GRACE
from sts_trio.observe import events
from sts_trio.wire import deepgram, deepgram_settings, twilio
from sts_trio.wire.anomalies import TooBig

AHEAD = 0.000_001
MAX_WAITING = length(WAITING_ROOM)

policy = st.builds(
    CallPolicy,
    reconnects=st.sampled_from([True, True, False]),
    one_moment=st.sampled_from([b"", b"!" * 160]),
    apology=st.sampled_from([b"", b"?" * 320]),
    resumes=st.booleans(),
    answer_within=st.sampled_from([inf, 0.5, 2.0]),
    ask_after=st.sampled_from([inf, 0.5, 3.0]),
    hang_up_after=st.sampled_from([inf, 1.0, 4.0]),
    longest=st.sampled_from([inf, inf, 10.0]),
    warn_before=st.sampled_from([2.0, 60.0]),
)
# Multiples of a millisecond, so that the numbers in the statistics are exact.
sizes = st.sampled_from([8, 160, 800, 4096, 20_000])
durations = st.floats(0, 6)
words = st.sampled_from(["One two three.", "Yes.", "", "Please go on.", "Are you still there?"])
texts = st.builds(deepgram.ConversationText, st.sampled_from(["user", "assistant"]), words)
signs = st.sampled_from(
    [
        deepgram.UserStartedSpeaking(),
        deepgram.AgentAudioDone(),
        deepgram.EndOfTurn(),
        deepgram.PromptUpdated(),
        deepgram.SpeakUpdated(),
        deepgram.InjectionRefused("busy"),
        deepgram.AgentWarning("MAXIMUM_SESSION_LENGTH_APPROACHING"),
    ]
)
anything = strategies.structs(deepgram.TextFromAgent)
questions = st.sampled_from(
    [
        deepgram.UpdatePrompt("more"),
        deepgram.UpdateSpeak({"provider": {"type": "deepgram"}}),
        deepgram.InjectAgentMessage("One two three.", "queue"),
        deepgram.InjectUserMessage("Yes."),
        deepgram.ForceEndTurn(),
    ]
)


class Stage(enum.Enum):
    """How far a session has come."""

    DIALLED = enum.auto()
    REACHED = enum.auto()
    WELCOMED = enum.auto()
    TALKING = enum.auto()


class Session:
    def __init__(self, agent: str | None) -> None:
        self.agent = agent
        self.stage = Stage.DIALLED
        self.has_settings = False
        self.has_audio = False


class AnyPolicy(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.is_over = False
        self.session: Session | None = None
        self.spoken = 0
        # Bytes of the caller's, never 0xFF but where muted.
        self.accepted = self.dropped = self.repeated = self.muted = 0
        self.waiting = bytearray()
        self.given = bytearray()
        self.pending: dict[int, float] = {}  # {number of a question: when there must be an answer}
        self.collecting: dict[int, float] = {}
        self.cancelled_request: int | None = None
        self.numbers = 0
        self.running: dict[str, deepgram.FunctionToCall] = {}
        self.cancelled: dict[str, deepgram.FunctionToCall] = {}
        self.protections = 0
        self.marks: list[str] = []
        self.plays_until = self.played_until = 0.0  # the latter whatever was cut of it
        self.listening: set[int] = set()
        self.hand_over_by = inf

    @initialize(
        forward=st.sampled_from([0.02, 0.1, 0.4]),
        policy=policy,
        can_say=st.sampled_from([True, True, False]),
        patience=st.integers(0, 40),
        greeting=st.sampled_from(["Hello.", None]),
    )
    def begin(
        self,
        forward: float,
        policy: CallPolicy,
        can_say: bool,
        patience: int,
        greeting: str | None,
    ) -> None:
        self.patience = patience
        self.policy = policy
        self.is_punctual = True
        self.settings = deepgram_settings.phone_settings({"greeting": greeting} if greeting else {})
        self.dialogue = Dialogue(
            self._settings,
            forward=forward,
            now=self.now,
            policy=policy,
            can_say=lambda message: can_say or not isinstance(message, deepgram.InjectUserMessage),
        )
        self.hear(START)
        self.hear(self._media(160))

    def _settings(self, wanted: SettingsWanted) -> deepgram_settings.Settings:
        _check_for_models(wanted.history)
        history = {"context": {"messages": msgspec.to_builtins(wanted.history)}}
        deepgram_settings.check_agent(msgspec.json.decode(msgspec.json.encode(history)))
        return self.settings

    # --- the caller -----------------------------------------------------------------------------

    @rule(size=sizes)
    def the_caller_speaks(self, size: int) -> None:
        self.hear(self._media(size))

    def _media(self, size: int) -> twilio.Media:
        payload = bytes((self.spoken + place) % 251 for place in range(size))
        self.spoken += size
        return twilio.Media(twilio.Inbound(payload), stream_sid=STREAM_SID)

    @rule(keys=st.text("0123456789*#", min_size=1, max_size=4))
    def keys_are_pressed(self, keys: str) -> None:
        for key in keys:
            self.hear(twilio.Dtmf(twilio.Digit(key), stream_sid=STREAM_SID))

    @rule(data=st.data())
    @precondition(lambda self: self.marks)
    def a_mark_is_echoed(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.marks))
        self.hear(twilio.Mark(twilio.MarkName(name), stream_sid=STREAM_SID))

    @rule()
    @precondition(lambda self: self.marks)
    def everything_is_heard(self) -> None:
        self.hear(twilio.Mark(twilio.MarkName(self.marks[-1]), stream_sid=STREAM_SID))

    # --- the agent ------------------------------------------------------------------------------

    @rule()
    @precondition(lambda self: self.session is not None)
    def the_agent_goes_a_step_further(self) -> None:
        assert self.session is not None
        match self.session.stage:
            case Stage.DIALLED:
                self.session.stage = Stage.REACHED
                self.hear(AgentReached(self.session.agent or "default"))
            case Stage.REACHED:
                self.hear(deepgram.Welcome("r"))
            case Stage.WELCOMED | Stage.TALKING:
                self.hear(deepgram.SettingsApplied())

    @rule()
    @precondition(lambda self: self.session is not None)
    def the_agent_gets_to_talk(self) -> None:
        for _ in Stage:
            if self.session is not None and self.session.stage is not Stage.TALKING:
                self.the_agent_goes_a_step_further()

    @rule(size=sizes)
    @precondition(lambda self: self._is_reached)
    def the_agent_speaks(self, size: int) -> None:
        self.hear(deepgram.Audio(b"\x11" * size))

    @rule(messages=st.lists(texts | signs, min_size=1, max_size=3))
    @precondition(lambda self: self._is_reached)
    def the_agent_says_something(self, messages: list[deepgram.TextFromAgent]) -> None:
        for message in messages:
            if self._is_reached:
                self.hear(message)

    @rule(message=anything)
    @precondition(lambda self: self._is_reached)
    def the_agent_says_anything(self, message: deepgram.TextFromAgent) -> None:
        self.hear(message)

    @rule(ours=st.integers(0, 2), theirs=st.integers(0, 1))
    @precondition(lambda self: self._is_reached)
    def the_agent_calls_functions(self, ours: int, theirs: int) -> None:
        self.numbers += 10
        self.hear(
            deepgram.FunctionCallRequest(
                tuple(
                    deepgram.FunctionToCall(
                        f"f{self.numbers + place}", "f", client_side=place < ours
                    )
                    for place in range(ours + theirs)
                )
            )
        )

    @rule(data=st.data())
    @precondition(lambda self: self.running and self._is_reached)
    def the_agent_cancels_a_function(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.running)))
        self.hear(deepgram.FunctionCallCancelled((deepgram.CancelledFunction(id),)))
        assert id not in self.running

    @rule(
        how=st.sampled_from(How),
        code=st.sampled_from([None, 1000, 1011]),
        unsent=st.sampled_from([0, 160, 24_000, 80_000]),
    )
    @precondition(lambda self: self._is_reached and self.patience <= 20)
    def the_agent_is_lost(self, how: How, code: int | None, unsent: int) -> None:
        lost = self.session
        acts = self.hear(LegEnded(Leg.AGENT, how, code))
        if unsent and any(isinstance(act, DropAgent) for act in acts):
            self.hear(Unsent(bytes(self.given[-unsent:])))
        assert self.is_over or self.session is not lost

    @rule()
    @precondition(lambda self: self._is_reached)
    def the_agent_sends_too_much(self) -> None:
        self.hear(TooBig(Leg.AGENT, 9))

    @rule(status=st.sampled_from([None, 401, 503]))
    @precondition(lambda self: self.session is not None and self.session.stage is Stage.DIALLED)
    def the_dial_fails(self, status: int | None) -> None:
        self.session = None
        self.hear(DialFailed("why", status))

    @property
    def _is_reached(self) -> bool:
        return self.session is not None and self.session.stage is not Stage.DIALLED

    # --- functions ------------------------------------------------------------------------------

    @rule(data=st.data(), to=st.sampled_from([None, None, "sales"]))
    @precondition(lambda self: self.running)
    def a_function_is_done(self, data: st.DataObject, to: str | None) -> None:
        asked = self.running.pop(data.draw(st.sampled_from(sorted(self.running))))
        if to is not None and not self.dialogue.is_closing:
            self._expect_hand_over()
        acts = self.hear(FunctionDone(asked, "{}", to))
        answers = [act for act in acts if _is_result(act, asked.id)]
        is_over = any(isinstance(act, DropAgent | HangUp) for act in acts)
        assert answers or is_over or self.hand_over_by < inf
        assert len(answers) <= 1

    @rule(data=st.data())
    @precondition(lambda self: self.cancelled)
    def a_function_is_done_though_it_was_cancelled(self, data: st.DataObject) -> None:
        asked = self.cancelled.pop(data.draw(st.sampled_from(sorted(self.cancelled))))
        if asked.id not in self.running:
            acts = self.hear(FunctionDone(asked, "{}", is_void=True))
            assert not any(_is_result(act, asked.id) for act in acts)

    @rule()
    @precondition(lambda self: self.patience <= 0)
    def the_agent_runs_away(self) -> None:
        self.hear(FunctionsRunAway())

    # --- the call's own code --------------------------------------------------------------------

    @rule(message=questions)
    def something_is_asked(self, message: deepgram.TextToAgent) -> None:
        self.numbers += 1
        self._pend(self.pending, ANSWER_TIMEOUT)
        self.hear(Ask(self.numbers, message))

    @rule(within=durations)
    def somebody_waits_until_all_is_heard(self, within: float) -> None:
        self.numbers += 1
        self._pend(self.pending, within)
        self.listening.add(self.numbers)
        self.hear(WaitUntilHeard(self.numbers, within))

    @rule(most=st.integers(1, 4), within=durations, between=durations)
    def digits_are_collected(self, most: int, within: float, between: float) -> None:
        self.numbers += 1
        self._pend(self.collecting, within)
        self.hear(Collect(self.numbers, most, "#", within, between))

    def _pend(self, where: dict[int, float], within: float) -> None:
        if not self.is_over:
            where[self.numbers] = self.now + within

    @rule(data=st.data())
    @precondition(lambda self: self.pending or self.collecting)
    def somebody_waits_no_longer(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted({*self.pending, *self.collecting})))
        self.pending.pop(number, None)
        self.collecting.pop(number, None)
        self.cancelled_request = number
        self.hear(CancelRequest(number))

    @rule(agent=st.sampled_from(["sales", "service"]))
    def another_agent_is_to_go_on(self, agent: str) -> None:
        if self.session is not None and not self.dialogue.is_closing:
            self._expect_hand_over()
        self.hear(HandOver(agent))

    def _expect_hand_over(self) -> None:
        """Within the time in which what is said now may make progress."""
        self.hand_over_by = self.now + LONGEST_WORDS

    @rule()
    def tones_are_played(self) -> None:
        self.hear(PlayTones(b"\x07" * 320))

    @rule()
    def words_are_protected(self) -> None:
        self.protections += 1
        self.hear(Protect())

    @rule()
    @precondition(lambda self: self.protections)
    def words_are_protected_no_longer(self) -> None:
        self.protections -= 1
        self.hear(Protect(is_over=True))

    @rule(cause=st.sampled_from([Cause.HUNG_UP, Cause.TRANSFERRED]))
    @precondition(lambda self: self.patience <= 0)
    def the_call_is_left(self, cause: Cause) -> None:
        self.hear(Close(Ending(cause)))

    @rule()
    @precondition(lambda self: self.patience <= 0)
    def the_server_winds_up(self) -> None:
        self.hear(WindUp())

    @rule(
        end=st.sampled_from([STOP, ShutDown(), OperatorHangsUp(), LegEnded(Leg.CALLER, How.LOST)])
    )
    @precondition(lambda self: self.patience <= -10)
    def the_end_comes(self, end: Heard) -> None:
        self.hear(end)
        assert self.is_over

    # --- time -----------------------------------------------------------------------------------

    @rule(duration=durations)
    def time_passes(self, duration: float) -> None:
        end = self.now + duration
        while self.dialogue.deadline <= end:
            self.now = max(self.now, self.dialogue.deadline)
            self._tick()
        self.now = end
        overdue = {
            number
            for number, by in self.pending.items()
            if by < self.now - AHEAD
            # Who waits until all is heard does so while there is something to be heard.
            and (number not in self.listening or self.played_until < self.now - HEARD_GRACE - AHEAD)
        }
        assert not overdue, "who asked waits for ever"
        overdue = {number for number, by in self.collecting.items() if by < self.now - AHEAD}
        assert not overdue, "who collects waits for ever"

    @rule(delay=durations)
    @precondition(lambda self: not self.is_over)
    def a_tick_comes_late(self, delay: float) -> None:
        self.now = max(self.now, self.dialogue.deadline) + delay
        self.is_punctual = False
        self._tick()

    def _tick(self) -> None:
        self.hear(Tick())
        assert self.dialogue.deadline > self.now, "the timer would not rest"

    # --- the model ------------------------------------------------------------------------------

    def hear(self, message: Heard) -> list[Act]:
        self.patience -= 1
        self._expect(message)
        acts = self.dialogue.hear([message], self.now)
        if self.is_over:
            assert acts == []
            return acts
        self._account(message)
        has_dropped = False
        for act in acts:
            assert not self.is_over, "an act after hanging up"
            has_dropped = has_dropped or isinstance(act, DropAgent)
            assert not (has_dropped and isinstance(act, SendToAgent))
            self._perform(act)
        return acts

    def _expect(self, message: Heard) -> None:
        if self.session is None or self.is_over:
            return
        stage = self.session.stage
        if isinstance(message, deepgram.Welcome) and stage is Stage.REACHED:
            self.session.stage = Stage.WELCOMED
        if isinstance(message, deepgram.SettingsApplied) and stage is Stage.WELCOMED:
            self.session.stage = Stage.TALKING

    def _account(self, message: Heard) -> None:
        """The caller's audio, whether or not the agent is to hear it."""
        if not isinstance(message, twilio.Media):
            return
        audio = message.media.payload
        self.accepted += len(audio)
        muted = round(self.dialogue.statistics().caller_audio_muted * 8000)
        if muted > self.muted:
            self.muted += len(audio)
            audio = b"\xff" * len(audio)
        self.waiting += audio
        if self.session is None or self.session.stage is not Stage.TALKING:
            excess = max(0, len(self.waiting) - MAX_WAITING)
            del self.waiting[:excess]
            self.dropped += excess

    def _perform(self, act: Act) -> None:
        match act:
            case Dial(agent):
                assert self.session is None, "two sessions"
                self.session = Session(agent)
            case DropAgent():
                assert self.session is not None
                self.session = None
                self.hand_over_by = inf
                assert not self.running, "the next session would get an answer of the last one's"
            case HangUp():
                assert not self.running
                self.hand_over_by = inf
                self.is_over = True
                # Whoever still waits is told so by the call.
                self.pending.clear()
                self.collecting.clear()
            case SendToAgent(message):
                assert self.session is not None
                self._tell_agent(self.session, message)
            case SendToCaller(twilio.PlayMark(_, twilio.MarkName(name))):
                self.marks.append(name)
            case SendToCaller(twilio.PlayMedia(_, twilio.Outbound(payload))):
                assert len(payload) % 160 == 0
                self.plays_until = max(self.plays_until, self.now) + len(payload) / 8000
                self.played_until = max(self.played_until, self.plays_until)
            case SendToCaller(twilio.Clear()):
                self.plays_until = min(self.plays_until, self.now)
            case CallFunctions(functions):
                assert self.session is not None
                for function in functions:
                    assert function.id not in self.running
                    self.running[function.id] = function
            case CancelFunctions(ids):
                for id in ids:
                    self.cancelled[id] = self.running.pop(id)
            case RequestDone(number):
                del self.pending[number]
            case Collected(number):
                # Who waits no longer is told what was keyed in, as it is not to be kept.
                if number != self.cancelled_request:
                    del self.collecting[number]
            case events.CallHeard(said, heard, said_seconds, heard_seconds):
                heard_words = heard.split()
                assert said.split()[: len(heard_words)] == heard_words
                assert 0 <= heard_seconds <= said_seconds

    def _tell_agent(self, session: Session, message: deepgram.ToAgent) -> None:
        if isinstance(message, deepgram_settings.Settings):
            assert session.stage is Stage.WELCOMED
            assert not session.has_settings, "settings were sent twice"
            session.has_settings = True
            return
        assert session.stage is Stage.TALKING
        if not isinstance(message, deepgram.Audio):
            return
        data = message.data
        if not session.has_audio and data.endswith(self.waiting) and data.strip(b"\xff"):
            again = data[: len(data) - len(self.waiting)]
            assert len(data) <= max(MAX_WAITING, len(self.waiting))
            assert self.given.endswith(again), "not what the last agent was given"
            self.repeated += len(again)
            self.given += self.waiting
            self.waiting.clear()
        elif data == self.waiting:
            self.given += data
            self.waiting.clear()
        else:
            again = data[: len(data) - len(self.waiting)]
            assert data.endswith(self.waiting)
            assert not again.strip(b"\xff"), "out of order, lost, or sent twice"
            self.waiting.clear()
        session.has_audio = True

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def no_part_waits_beyond_its_deadline(self) -> None:
        if not self.is_over:
            hold_deadlines(self.dialogue)

    @invariant()
    def the_timer_is_set_until_the_call_is_over(self) -> None:
        assert (self.dialogue.deadline == inf) == self.is_over

    @invariant()
    def nobody_is_waited_for_for_ever_who_is_to_leave(self) -> None:
        if self.is_punctual:
            assert self.now <= self.hand_over_by + AHEAD

    @invariant()
    def the_callers_audio_is_sent_waits_or_is_dropped(self) -> None:
        numbers = self.dialogue.statistics()
        assert numbers.caller_audio == self.accepted / 8000
        assert numbers.caller_audio_dropped == self.dropped / 8000
        assert numbers.caller_audio_muted == self.muted / 8000

    @invariant()
    def the_ledger_balances(self) -> None:
        playout = self.dialogue.playout
        assert playout.sent == playout.heard + playout.cut + playout.unheard
        assert playout.unheard >= 0

    @invariant()
    def nobody_has_waited_longer_than_the_policy_says(self) -> None:
        # A tick that comes late is not the dialogue's, nor is a word without a clip heard.
        if self.is_punctual and self.policy.one_moment:
            within = self.policy.answer_within + AHEAD
            assert self.dialogue.statistics().longest_silence <= within

    @invariant()
    def somebody_is_dialled_or_the_call_is_about_to_end(self) -> None:
        if self.session is None and not self.is_over:
            # A second until the next dial, or what is to be heard and its grace.
            assert self.dialogue.deadline <= max(self.now, self.plays_until) + 3.5 + AHEAD


def _check_for_models(history: list[dict[str, Any]]) -> None:
    """What each of the providers takes."""
    functions = [each for item in history for each in item.get("function_calls", ())]
    assert all(item["content"].strip() for item in history if "role" in item)
    assert all(isinstance(msgspec.json.decode(each["arguments"]), dict) for each in functions)
    assert all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", each["name"]) for each in functions)
    ids = [each["id"] for each in functions]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[a-zA-Z0-9_-]{1,40}", id) for id in ids)


def _is_result(act: Act, id: str) -> bool:
    return (
        isinstance(act, SendToAgent)
        and isinstance(act.message, deepgram.FunctionResult)
        and act.message.id == id
    )


AnyPolicy.TestCase.settings = settings(stateful_step_count=50)
TestAnyPolicy = AnyPolicy.TestCase


def test_nobody_is_asked_for_by_a_late_tick_that_hangs_up() -> None:
    """A greeting that is owed, and "Are you still there?", are due at the same time."""
    call = AnyPolicy()
    policy = CallPolicy(
        reconnects=False,
        one_moment=b"",
        apology=b"",
        resumes=False,
        answer_within=0.5,
        ask_after=0.5,
        hang_up_after=inf,
        longest=inf,
        warn_before=2.0,
    )
    call.begin(forward=0.02, policy=policy, can_say=True, patience=0, greeting="Hello.")
    call.the_agent_gets_to_talk()
    call.a_tick_comes_late(delay=1.0)
    assert call.is_over

"""Goodbyes that are heard, words that are protected, silence on the line, the longest call."""

from typing import Any

import msgspec
import pytest
from rig_dialogue import APOLOGY, LOST, RECONNECTS, echo, mark, play, quiet, reach, say, talking
from rig_peers import STOP, STREAM_SID, media
from telephone import CLIP, Telephone, silent

from sts_trio.errors import Cause, Ending, How, Leg, LegEnded
from sts_trio.logic.acts import (
    Act,
    CallFunctions,
    CancelFunctions,
    Close,
    DropAgent,
    FlushCaller,
    FunctionDone,
    HangUp,
    Heard,
    Protect,
    RequestDone,
    SendToAgent,
    SendToCaller,
    WaitUntilHeard,
)
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.states import Phase
from sts_trio.logic.turns import MAX_TURN_SECONDS
from sts_trio.wire import deepgram, twilio
from sts_trio.wire.deepgram import (
    AgentAudioDone,
    Audio,
    ConversationText,
    FunctionCallRequest,
    FunctionResult,
    FunctionToCall,
    InjectAgentMessage,
    UserStartedSpeaking,
)

HUNG_UP = Ending(Cause.HUNG_UP)
GOODBYE = ConversationText("assistant", "Goodbye.")
FUNCTION = FunctionToCall("fc_1", "hang_up", "{}")
TOLD = SendToAgent(FunctionResult("fc_1", "hang_up", "{}"))


def endings(acts: list[tuple[float, Act]]) -> list[tuple[float, Act]]:
    return [(at, act) for at, act in acts if isinstance(act, HangUp)]


def told(acts: list[tuple[float, Act]]) -> list[tuple[float, Act]]:
    return [(at, act) for at, act in acts if isinstance(act, SendToAgent)]


# --- a goodbye ------------------------------------------------------------------------------------


def test_the_call_ends_when_the_goodbye_has_been_heard() -> None:
    bridge = talking()
    assert bridge.hear(Close(HUNG_UP)) == []
    bridge.wait_until(0.5)
    bridge.hear(GOODBYE, Audio(b"\x01" * 4000), Audio(b"\x01" * 100), AgentAudioDone())
    bridge.wait_until(1)
    assert not any(isinstance(act, HangUp) for act in bridge.hear(echo("e0-1")))
    bridge.wait_until(1.2)
    assert bridge.hear(echo("e0-2"))[-1] == HangUp(HUNG_UP)


def test_a_goodbye_that_is_being_said_already_is_heard_to_its_end() -> None:
    bridge = talking()
    bridge.hear(GOODBYE, Audio(b"\x01" * 4000), Close(HUNG_UP), AgentAudioDone())
    assert HangUp(HUNG_UP) in bridge.hear(echo("e0-1"))


def test_the_goodbye_is_what_comes_after_the_functions_answer() -> None:
    bridge = talking()
    bridge.hear(ConversationText("assistant", "One moment."), Audio(b"\x01" * 160))
    assert bridge.hear(FunctionCallRequest((FUNCTION,))) == [CallFunctions((FUNCTION,))]
    bridge.hear(Close(HUNG_UP), AgentAudioDone(), echo("e0-1"))
    assert bridge.hear(FunctionDone(FUNCTION, "{}")) == [TOLD]
    bridge.wait_until(2)
    bridge.hear(GOODBYE, Audio(b"\x01" * 160), AgentAudioDone())
    assert HangUp(HUNG_UP) in bridge.hear(echo("e0-2"))


def test_an_agent_without_a_goodbye_has_four_seconds_for_one() -> None:
    bridge = talking()
    bridge.wait_until(1)
    bridge.hear(Close(HUNG_UP))
    assert endings(bridge.watch(20)) == [(5, HangUp(HUNG_UP))]


def test_four_seconds_count_from_the_functions_answer() -> None:
    bridge = talking()
    bridge.hear(FunctionCallRequest((FUNCTION,)), Close(HUNG_UP))
    # It is waited for, for as long as anything may last.
    assert endings(bridge.watch(8)) == []
    bridge.hear(FunctionDone(FUNCTION, "{}"))
    assert endings(bridge.watch(20)) == [(12, HangUp(HUNG_UP))]


def test_four_seconds_count_from_the_end_of_what_is_said_without_an_end() -> None:
    bridge = talking()
    bridge.hear(Close(HUNG_UP), GOODBYE)
    bridge.wait_until(1)
    bridge.hear(Audio(b"\x01" * 8000), echo("e0-1"))
    assert endings(bridge.watch(20)) == [(15, HangUp(HUNG_UP))]


def test_a_goodbye_is_heard_out_however_long_it_is() -> None:
    bridge = talking()
    bridge.wait_until(1)
    bridge.hear(Close(HUNG_UP), GOODBYE, Audio(b"\x01" * 400_000), AgentAudioDone())
    # By a phone that echoes no marks: 50 s, and two of grace.
    assert endings(bridge.watch(60)) == [(53, HangUp(HUNG_UP))]


@pytest.mark.parametrize("cause", [Cause.HUNG_UP, Cause.TRANSFERRED])
def test_what_is_still_to_be_heard_when_the_call_is_left_is_no_part_of_the_limit(
    cause: Cause,
) -> None:
    bridge = talking()
    bridge.hear(ConversationText("assistant", "In short:"), Audio(b"\x01" * 96_000))
    bridge.hear(FunctionCallRequest((FUNCTION,)), Close(Ending(cause)))
    bridge.hear(FunctionDone(FUNCTION, "{}"), AgentAudioDone())
    bridge.wait_until(1)
    bridge.hear(GOODBYE, Audio(b"\x01" * 40_000), AgentAudioDone())
    assert endings(bridge.watch(17)) == []
    assert HangUp(Ending(cause)) in bridge.hear(echo("e0-17"))


def test_protected_words_are_waited_for_as_long_as_they_last() -> None:
    bridge = talking()
    bridge.hear(ConversationText("assistant", "Legal words."), WaitUntilHeard(1, 5))
    bridge.hear(Audio(b"\x01" * 80_000), AgentAudioDone())
    assert [at for at, act in bridge.watch(20) if isinstance(act, RequestDone)] == [12]


def test_a_function_that_never_ends_does_not_keep_the_call() -> None:
    bridge = talking()
    bridge.hear(FunctionCallRequest((FUNCTION,)), Close(HUNG_UP))
    acts = bridge.watch(60)
    assert acts == [(15, CancelFunctions(("fc_1",))), (15, HangUp(HUNG_UP))]


def test_nothing_cuts_a_goodbye_off() -> None:
    bridge = talking()
    bridge.hear(Close(HUNG_UP), GOODBYE, Audio(b"\x01" * 4000))
    acts = quiet(bridge.hear(UserStartedSpeaking(), media(b"\x01" * 160)))
    assert not any(isinstance(act, FlushCaller) for act in acts)
    assert bridge.hear(Audio(b"\x02" * 160)) == [play(b"\x02" * 160)]
    assert bridge.dialogue.statistics().caller_audio_muted == 0.02
    bridge.hear(AgentAudioDone())
    assert HangUp(HUNG_UP) in bridge.hear(echo("e0-2"))


def test_keys_pressed_during_a_goodbye_do_not_put_it_off() -> None:
    bridge = talking()
    bridge.hear(twilio.Dtmf(twilio.Digit("1"), stream_sid=STREAM_SID), Close(HUNG_UP))
    assert told(bridge.watch(20)) == []


def test_who_leaves_first_says_why() -> None:
    bridge = talking()
    bridge.hear(Close(Ending(Cause.TRANSFERRED, "+15005550006")), Close(HUNG_UP))
    ending = Ending(Cause.TRANSFERRED, "+15005550006")
    assert endings(bridge.watch(20)) == [(4, HangUp(ending))]


@pytest.mark.parametrize("phase", [Phase.AWAITING_START, Phase.DIALLING, Phase.AWAITING_APPLIED])
def test_who_leaves_before_there_was_a_conversation_leaves_at_once(phase: Phase) -> None:
    acts = reach(phase).hear(Close(HUNG_UP))
    assert acts[-1] == HangUp(HUNG_UP)


def test_who_leaves_during_a_gap_leaves_when_all_has_been_heard() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(GOODBYE, Audio(b"\x01" * 8000), LOST)
    assert bridge.hear(Close(HUNG_UP)) == [DropAgent()]
    assert bridge.hear(Close(Ending(Cause.TIME_UP))) == []
    assert bridge.hear(echo("e0-1"))[-1] == HangUp(HUNG_UP)


@pytest.mark.parametrize("ended", [LOST, LegEnded(Leg.AGENT, How.CLOSED, 1000)])
def test_a_goodbye_is_heard_out_though_its_agent_is_gone(ended: Heard) -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(Close(HUNG_UP), GOODBYE, Audio(b"\x01" * 4000))
    acts = bridge.hear(ended)
    assert DropAgent() in acts
    assert not any(isinstance(act, HangUp) for act in acts)
    # By a phone that echoes no marks: half a second of it, and two of grace.
    assert endings(bridge.watch(9)) == [(2.5, HangUp(HUNG_UP))]


def test_an_agent_that_is_gone_before_its_goodbye_leaves_nothing_to_wait_for() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(Close(HUNG_UP))
    assert bridge.hear(LOST) == [DropAgent(), HangUp(HUNG_UP)]
    bridge = talking(RECONNECTS)
    bridge.hear(Close(HUNG_UP))
    assert bridge.hear(LegEnded(Leg.AGENT, How.CLOSED, 1000)) == [HangUp(HUNG_UP)]


def test_a_caller_who_goes_first_ends_the_call() -> None:
    bridge = talking()
    bridge.hear(Close(HUNG_UP))
    assert bridge.hear(STOP) == [HangUp(Ending(Cause.STOP))]


def test_a_session_is_not_renewed_amid_a_goodbye() -> None:
    warning = deepgram.AgentWarning("MAXIMUM_SESSION_LENGTH_APPROACHING")
    bridge = talking(RECONNECTS)
    bridge.hear(ConversationText("user", "Goodbye."), warning)
    bridge.wait_until(230)
    bridge.hear(Close(HUNG_UP), GOODBYE, Audio(b"\x01" * 160), warning)
    acts = bridge.watch(260)
    assert acts[-1] == (245, HangUp(HUNG_UP))
    assert not any(isinstance(act, DropAgent) for _, act in acts)


# --- protected words ------------------------------------------------------------------------------


def test_protected_words_are_not_cut_and_the_agent_hears_silence() -> None:
    bridge = talking()
    bridge.hear(Protect(), ConversationText("assistant", "Legal words."), Audio(b"\x01" * 4000))
    assert bridge.hear(media(b"\x55" * 160)) == [say(b"\xff" * 160)]
    assert quiet(bridge.hear(UserStartedSpeaking())) == []
    bridge.hear(Protect(is_over=True))
    assert bridge.hear(media(b"\x55" * 160)) == [say(b"\x55" * 160)]
    assert FlushCaller() in bridge.hear(UserStartedSpeaking())
    assert bridge.dialogue.statistics().caller_audio_muted == 0.02


def test_protections_may_overlap() -> None:
    bridge = talking()
    bridge.hear(Protect(), Protect(), Protect(is_over=True))
    assert quiet(bridge.hear(UserStartedSpeaking())) == []
    bridge.hear(Protect(is_over=True))
    assert FlushCaller() in bridge.hear(UserStartedSpeaking())


def test_the_end_of_a_protection_does_not_bare_a_goodbye() -> None:
    bridge = talking()
    bridge.hear(Protect(), Close(HUNG_UP), Protect(is_over=True))
    assert quiet(bridge.hear(UserStartedSpeaking())) == []


def test_protected_words_are_played_in_the_gap_of_a_lost_agent_too() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(Protect(), ConversationText("assistant", "Legal."), Audio(b"\x01" * 4000))
    bridge.hear(AgentAudioDone(), LOST, media(b"\x55" * 160))
    assert bridge.connect() == []  # it hears silence
    assert quiet(bridge.hear(UserStartedSpeaking())) == []


def test_who_waits_is_told_when_all_has_been_heard() -> None:
    bridge = talking()
    bridge.hear(ConversationText("assistant", "Legal words."), WaitUntilHeard(1, 60))
    assert bridge.hear(Audio(b"\x01" * 160)) == [play(b"\x01" * 160)]
    assert bridge.hear(AgentAudioDone()) == [mark("e0-1")]
    assert bridge.hear(echo("e0-1"))[-1] == RequestDone(1)
    assert bridge.hear(WaitUntilHeard(2, 60)) == [RequestDone(2)]


def test_nobody_is_told_anything_once_the_call_has_ended() -> None:
    bridge = talking()
    bridge.hear(Audio(b"\x01" * 160), AgentAudioDone(), WaitUntilHeard(1, 60))
    assert bridge.hear(echo("e0-1"), STOP) == [HangUp(Ending(Cause.STOP))]


def test_words_that_were_heard_at_last_are_told_before_the_end() -> None:
    bridge = talking()
    bridge.hear(
        GOODBYE, Audio(b"\x01" * 160), WaitUntilHeard(1, 60), Close(HUNG_UP), AgentAudioDone()
    )
    assert bridge.hear(echo("e0-1"))[1:] == [RequestDone(1), HangUp(HUNG_UP)]


def test_who_waits_is_told_that_it_was_not_heard_in_time() -> None:
    bridge = talking()
    bridge.hear(Audio(b"\x01" * 160), WaitUntilHeard(1, 5), WaitUntilHeard(2, 60))
    assert [(at, act) for at, act in bridge.watch(9) if isinstance(act, RequestDone)] == [
        (5, RequestDone(1, "not heard in time", timed_out=True))
    ]


# --- silence --------------------------------------------------------------------------------------

PATIENT = CallPolicy(ask_after=30.0, hang_up_after=20.0)
ASKS = SendToAgent(InjectAgentMessage("Are you still there?", "queue"))
FAREWELL = SendToAgent(
    InjectAgentMessage(
        "I cannot hear you any more, so I will hang up now. Goodbye.", behavior="queue"
    )
)


def test_a_silent_caller_is_asked_then_told_goodbye_then_left() -> None:
    bridge = talking(PATIENT)
    assert told(bridge.watch(30)) == [(30, ASKS)]
    bridge.hear(ConversationText("assistant", "Are you still there?"), Audio(b"\x01" * 8000))
    bridge.hear(AgentAudioDone(), echo("e0-1"))
    # Twenty seconds from the end of the question.
    assert told(bridge.watch(51)) == [(51, FAREWELL)]
    said = "I cannot hear you any more, so I will hang up now."
    bridge.hear(ConversationText("assistant", said), Audio(b"\x01" * 8000), AgentAudioDone())
    assert HangUp(Ending(Cause.SILENCE)) in bridge.hear(echo("e0-2"))


def test_a_farewell_that_is_never_said_is_waited_for_four_seconds() -> None:
    bridge = talking(PATIENT)
    bridge.watch(30)
    bridge.hear(ConversationText("assistant", "Are you still there?"), Audio(b"\x01" * 8000))
    bridge.hear(AgentAudioDone(), echo("e0-1"))
    assert endings(bridge.watch(100)) == [(55, HangUp(Ending(Cause.SILENCE)))]


def test_a_caller_who_was_asked_nothing_is_not_left_but_asked_again() -> None:
    bridge = talking(PATIENT)
    bridge.hear(media())
    acts = bridge.watch(65)
    assert told(acts) == [(30, ASKS), (40, ASKS), (50, ASKS), (60, ASKS)]
    assert endings(acts) == []
    bridge.hear(ConversationText("assistant", "Are you still there?"), Audio(b"\x01" * 8000))
    assert told(bridge.watch(86)) == [(86, FAREWELL)]


@pytest.mark.parametrize(
    "refusals",
    [
        [deepgram.InjectionRefused("busy")],
        [deepgram.AgentWarning("INJECT_AGENT_MESSAGE_DURING_USER_SPEECH", "")],
        [
            deepgram.AgentWarning("INJECT_AGENT_MESSAGE_DURING_USER_SPEECH", ""),
            deepgram.InjectionRefused("busy"),
        ],
    ],
)
def test_that_the_caller_is_speaking_is_a_sign_of_life(refusals: list[Heard]) -> None:
    bridge = talking(PATIENT)
    bridge.watch(30)
    bridge.hear(*refusals)
    assert told(bridge.watch(59)) == []
    assert told(bridge.watch(60)) == [(60, ASKS)]


def test_while_the_caller_is_speaking_the_agent_owes_no_question() -> None:
    phone = Telephone(silent)
    phone.wait(1)
    phone.hear(media())
    phone.wait(5)
    phone.hear(deepgram.InjectionRefused("busy"))
    phone.wait(4.5)
    assert phone.heard(CLIP) == []
    assert phone.ending is None


def test_an_agent_that_never_asks_is_at_fault_and_not_the_caller() -> None:
    phone = Telephone(silent)
    phone.wait(1)
    phone.hear(media())
    phone.wait(60)
    assert phone.ending == Ending(Cause.AGENT_MUTE, "owes a question", apologised=True)


def test_a_farewell_that_is_refused_is_said_when_somebody_has_finished() -> None:
    bridge = talking(PATIENT)
    bridge.watch(30)
    bridge.hear(ConversationText("assistant", "Are you still there?"), Audio(b"\x01" * 8000))
    bridge.hear(AgentAudioDone(), echo("e0-1"))
    assert told(bridge.watch(51)) == [(51, FAREWELL)]
    assert told([(0, act) for act in bridge.hear(deepgram.InjectionRefused("busy"))]) == []
    assert FAREWELL in bridge.hear(deepgram.EndOfTurn("eot_threshold"))


@pytest.mark.parametrize(
    "sign",
    [ConversationText("user", "Yes."), twilio.Dtmf(twilio.Digit("x"), stream_sid=STREAM_SID)],
)
def test_a_sign_of_the_caller_begins_the_silence_anew(sign: Heard) -> None:
    bridge = talking(PATIENT)
    bridge.watch(40)
    bridge.hear(sign)
    assert told(bridge.watch(75)) == [(70, ASKS)]


def test_a_caller_who_speaks_is_not_silent() -> None:
    bridge = talking(PATIENT)
    bridge.wait_until(20)
    bridge.hear(UserStartedSpeaking())
    bridge.wait_until(55)
    bridge.hear(ConversationText("user", "That was long."))
    assert told(bridge.watch(90)) == [(85, ASKS)]


def test_noise_is_taken_for_speech_for_a_minute_at_most() -> None:
    bridge = talking(PATIENT)
    bridge.hear(UserStartedSpeaking())
    assert told(bridge.watch(99)) == [(MAX_TURN_SECONDS + 30, ASKS)]


def test_a_function_that_runs_is_no_silence() -> None:
    bridge = talking(PATIENT)
    bridge.hear(FunctionCallRequest((FUNCTION,)))
    bridge.wait_until(65)
    bridge.hear(FunctionDone(FUNCTION, "{}"))
    assert told(bridge.watch(100)) == [(95, ASKS)]


def test_a_long_speech_of_the_agents_is_no_silence() -> None:
    bridge = talking(PATIENT)
    bridge.hear(Audio(b"\x01" * 8000 * 50), AgentAudioDone())
    assert told(bridge.watch(85)) == [(80, ASKS)]


def test_a_speech_that_was_cut_off_is_not_waited_for() -> None:
    bridge = talking(PATIENT)
    bridge.hear(Audio(b"\x01" * 8000 * 100), AgentAudioDone())
    bridge.wait_until(35)
    bridge.hear(UserStartedSpeaking(), ConversationText("user", "Stop."))
    assert told(bridge.watch(70)) == [(65, ASKS)]


# --- the longest call -----------------------------------------------------------------------------

SHORT = CallPolicy(longest=100.0, warn_before=20.0)
WARNS = SendToAgent(InjectAgentMessage("We have about one minute left.", "queue"))
TIME_IS_UP = SendToAgent(
    InjectAgentMessage(
        "Our time is up, so I have to end the call here. Goodbye.", behavior="interrupt"
    )
)


def test_the_longest_call_is_warned_of_and_ended() -> None:
    bridge = talking(SHORT)
    assert told(bridge.watch(99)) == [(80, WARNS)]
    assert told(bridge.watch(100)) == [(100, TIME_IS_UP)]
    assert endings(bridge.watch(200)) == [(104, HangUp(Ending(Cause.TIME_UP)))]


def test_the_goodbye_does_not_wait_behind_what_it_interrupts() -> None:
    bridge = talking(SHORT)
    bridge.wait_until(99)
    bridge.hear(ConversationText("assistant", "And then"), Audio(b"\x01" * 80_000))
    acts = [act for at, act in bridge.watch(100.5) if at == 100]
    assert acts[1:4] == [FlushCaller(), SendToCaller(twilio.Clear(STREAM_SID)), mark("e1-11")]
    assert acts[-1] == TIME_IS_UP
    # The end of what was interrupted is not the goodbye's.
    bridge.hear(AgentAudioDone())
    assert not any(isinstance(act, HangUp) for act in bridge.hear(deepgram.AgentThinking()))
    said = ConversationText("assistant", "Our time is up, so I have to end the call here.")
    bridge.hear(said)
    acts = bridge.hear(Audio(b"\x02" * 160), AgentAudioDone())
    assert acts == [play(b"\x02" * 160), mark("e1-12")]
    assert HangUp(Ending(Cause.TIME_UP)) in bridge.hear(echo("e1-12"))
    assert bridge.dialogue.statistics().barge_ins == 0


def test_protected_words_are_not_interrupted_by_the_end() -> None:
    bridge = talking(SHORT)
    bridge.wait_until(99)
    bridge.hear(Protect(), ConversationText("assistant", "Legal"), Audio(b"\x01" * 80_000))
    assert FlushCaller() not in [act for _, act in bridge.watch(100.5)]


def test_the_longest_call_counts_across_sessions() -> None:
    bridge = talking(msgspec.structs.replace(SHORT, reconnects=True, apology=APOLOGY))
    bridge.wait_until(79)
    bridge.hear(LOST)
    bridge.connect()
    assert told(bridge.watch(100)) == [(80, WARNS), (100, TIME_IS_UP)]


def test_silence_and_the_end_may_fall_together() -> None:
    policy: dict[str, Any] = {"ask_after": 80.0, "hang_up_after": 20.0}
    bridge = talking(msgspec.structs.replace(SHORT, **policy))
    assert told(bridge.watch(81)) == [(80, WARNS)]
    bridge.hear(ConversationText("assistant", "We have about one minute left."))
    bridge.hear(Audio(b"\x01" * 160), AgentAudioDone())
    assert told(bridge.watch(90)) == []
    assert told(bridge.watch(100)) == [(100, TIME_IS_UP)]

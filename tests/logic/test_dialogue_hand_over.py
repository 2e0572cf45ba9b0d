"""What an agent says before another one goes on is heard first."""

import pytest
from rig_dialogue import LOST, RECONNECTS, Bridge, echo, played, quiet, talking
from telephone import speaks

from sts_trio.errors import Cause, Ending, How, Leg, LegEnded
from sts_trio.logic.acts import (
    Act,
    Ask,
    CallFunctions,
    CancelFunctions,
    Close,
    Dial,
    DropAgent,
    FunctionDone,
    HandOver,
    HangUp,
    Heard,
    SendToAgent,
)
from sts_trio.logic.handing_over import MAX_WAIT, VOICE_WITHIN
from sts_trio.wire.deepgram import (
    AgentAudioDone,
    AgentError,
    Audio,
    ConversationText,
    FunctionCallRequest,
    FunctionResult,
    FunctionToCall,
    InjectAgentMessage,
    UserStartedSpeaking,
)

TO_SALES = FunctionToCall("fc_1", "to_sales")
PRICE = FunctionToCall("fc_2", "get_price")
ASKED = ConversationText("user", "Sales, please.")
WORDS = speaks("I am putting you through.")[0][1]
# Two seconds of each.
VOICE = Audio(b"\x01" * 16_000)
MORE = Audio(b"\x02" * 16_000)
DONE = FunctionDone(TO_SALES, '{"handed_over_to":"sales"}', hand_over="sales")
CALL = FunctionCallRequest((TO_SALES,))
TAKES_OVER: list[Act] = [DropAgent(), Dial("sales")]


def asked(*heard: Heard) -> Bridge:
    bridge = talking(RECONNECTS)
    bridge.hear(ASKED)
    for each in heard:
        bridge.hear(each)
    assert bridge.dialogue.agent == "default"
    return bridge


def taken_over_at(bridge: Bridge, until: float = 30.0) -> float:
    return next(at for at, act in bridge.wait_until(until) if act == Dial("sales"))


def test_words_that_play_are_heard_to_their_end_and_then_the_other_agent_goes_on() -> None:
    bridge = asked(WORDS, VOICE, CALL, DONE, AgentAudioDone())
    assert bridge.watch(1.9) == []
    bridge.wait_until(2)
    assert quiet(bridge.hear(echo("e0-2")))[-2:] == TAKES_OVER


def test_words_whose_voice_is_still_to_come_are_heard() -> None:
    bridge = asked(WORDS, CALL, DONE)
    bridge.wait_until(0.5)
    assert played(bridge.hear(VOICE)) == VOICE.data
    bridge.wait_until(1)
    assert played(bridge.hear(MORE, AgentAudioDone())) == MORE.data
    bridge.wait_until(4)
    assert quiet(bridge.hear(echo("e0-4")))[-2:] == TAKES_OVER


def test_words_that_are_told_behind_the_call_are_heard() -> None:
    bridge = asked(CALL, DONE)
    bridge.wait_until(0.5)
    bridge.hear(WORDS, VOICE, AgentAudioDone())
    bridge.wait_until(2.5)
    assert quiet(bridge.hear(echo("e0-2")))[-2:] == TAKES_OVER


def test_an_agent_that_says_nothing_is_waited_for_no_longer_than_a_voice_takes() -> None:
    assert taken_over_at(asked(CALL, DONE)) == VOICE_WITHIN


def test_a_function_that_took_longer_than_a_voice_is_not_waited_behind() -> None:
    bridge = asked(CALL)
    bridge.wait_until(VOICE_WITHIN)
    assert quiet(bridge.hear(DONE)) == TAKES_OVER


def test_words_without_a_voice_are_waited_for_for_four_seconds() -> None:
    assert taken_over_at(asked(WORDS, CALL, DONE)) == MAX_WAIT


def test_a_phone_that_echoes_no_marks_does_not_hold_the_caller_up() -> None:
    assert taken_over_at(asked(WORDS, VOICE, AgentAudioDone(), CALL, DONE)) == 4
    assert taken_over_at(asked(CALL, DONE, WORDS, VOICE)) == 4


def test_an_agent_that_never_stops_talking_leaves_all_the_same() -> None:
    bridge = asked(WORDS, CALL, DONE)
    dials = []
    for second in range(200):
        bridge.hear(VOICE)
        dials += [at for at, act in bridge.wait_until(second + 1.0) if act == Dial("sales")]
        if dials:
            break
    assert dials == [120]


def test_the_agent_that_leaves_gets_no_results_and_the_other_knows_them() -> None:
    bridge = asked(WORDS, VOICE, FunctionCallRequest((TO_SALES, PRICE)), DONE)
    assert quiet(bridge.hear(FunctionDone(PRICE, "7"))) == []
    bridge.hear(AgentAudioDone(), echo("e0-2"))
    bridge.connect("sales")
    assert [told for _, told in bridge.history] == [
        "Sales, please.",
        "I am putting you through.",
        DONE.content,
        "7",
    ]
    assert bridge.asked_for[-1].greets


def test_a_function_that_still_runs_when_the_words_are_heard_is_cancelled() -> None:
    bridge = asked(WORDS, VOICE, FunctionCallRequest((TO_SALES, PRICE)), DONE, AgentAudioDone())
    acts = quiet(bridge.hear(echo("e0-2")))
    assert CancelFunctions((PRICE.id,)) in acts
    assert Dial("sales") in acts


def test_who_interrupts_the_words_is_put_through_at_once() -> None:
    bridge = asked(WORDS, VOICE, CALL, DONE)
    bridge.wait_until(1)
    assert quiet(bridge.hear(UserStartedSpeaking()))[-2:] == TAKES_OVER


@pytest.mark.parametrize(
    "end",
    [LOST, LegEnded(Leg.AGENT, How.CLOSED, 1000), AgentError("FAILED_TO_SPEAK", "why")],
)
def test_an_agent_that_is_lost_as_it_leaves_is_no_loss(end: Heard) -> None:
    bridge = asked(WORDS, VOICE, CALL, DONE)
    acts = quiet(bridge.hear(end))
    assert acts[-1] == Dial("sales")
    assert bridge.dialogue.statistics().reconnects == 0


def test_a_call_that_is_to_end_meanwhile_ends() -> None:
    bridge = asked(WORDS, VOICE, CALL, DONE)
    bridge.hear(Close(Ending(Cause.HUNG_UP)), AgentAudioDone())
    acts = quiet(bridge.hear(echo("e0-2")))
    assert acts[-1] == HangUp(Ending(Cause.HUNG_UP))


def test_the_last_of_two_that_are_to_go_on_does() -> None:
    bridge = asked(WORDS, VOICE, CALL, DONE, AgentAudioDone())
    bridge.hear(HandOver("service"))
    assert Dial("service") in bridge.hear(echo("e0-2"))


def test_the_calls_own_code_hands_over_behind_what_is_said() -> None:
    bridge = asked(WORDS, VOICE)
    assert bridge.hear(HandOver("sales")) == []
    assert Dial("sales") in bridge.hear(AgentAudioDone(), echo("e0-2"))
    assert quiet(asked().hear(HandOver("sales"))) == TAKES_OVER


def test_words_of_ours_that_the_agent_is_still_to_say_are_heard() -> None:
    say = InjectAgentMessage("I am putting you through.", "queue")
    bridge = asked(WORDS, VOICE)
    assert bridge.hear(Ask(1, say), HandOver("sales")) == [SendToAgent(say)]
    bridge.hear(AgentAudioDone(), echo("e0-2"))
    bridge.hear(WORDS, MORE, AgentAudioDone())
    assert bridge.dialogue.agent == "default"
    assert Dial("sales") in bridge.hear(echo("e0-4"))


def test_a_leaving_agent_may_call_no_end_of_functions() -> None:
    bridge = asked(WORDS, VOICE, CALL, DONE)
    assert bridge.hear(FunctionCallRequest((PRICE,))) == [CallFunctions((PRICE,))]
    assert bridge.hear(FunctionDone(PRICE, "7")) == []
    assert not any(
        isinstance(act, SendToAgent) and isinstance(act.message, FunctionResult)
        for _, act in bridge.wait_until(30)
    )

"""Functions, and other agents: what the agent calls, what becomes of it, who goes on."""

from typing import Any

import msgspec
import pytest
from rig_dialogue import (
    APOLOGY,
    LOST,
    RECONNECTS,
    Bridge,
    echo,
    mark,
    play,
    quiet,
    reach,
    talking,
    violation,
)
from rig_peers import STOP, media
from steps import at_most

from sts_trio.errors import Cause, Ending
from sts_trio.logic.acts import (
    Act,
    Ask,
    CallFunctions,
    CancelFunctions,
    Close,
    Dial,
    DialFailed,
    DropAgent,
    FunctionDone,
    HandOver,
    HangUp,
    RequestDone,
    SendToAgent,
    WaitUntilHeard,
)
from sts_trio.logic.function_calls import MAX_AT_ONCE, MAX_THEIRS
from sts_trio.logic.handing_over import VOICE_WITHIN
from sts_trio.logic.history import INTERRUPTED
from sts_trio.logic.requests import GO_ON, LATE
from sts_trio.logic.states import Phase
from sts_trio.observe import events
from sts_trio.wire import deepgram, deepgram_settings
from sts_trio.wire.deepgram import (
    AgentAudioDone,
    Audio,
    ConversationText,
    FunctionCallRequest,
    FunctionResult,
    FunctionToCall,
    InjectUserMessage,
)

ORDER = FunctionToCall("fc_1", "get_order", '{"id": "42"}')
PRICE = FunctionToCall("fc_2", "get_price", "{}")
LOOKUP = FunctionToCall("fc_3", "lookup", "{}", client_side=False)
QUESTION = ConversationText("user", "Where is my order?")
ASKED_TO_GO_ON = SendToAgent(InjectUserMessage(GO_ON))


def result(function: FunctionToCall, content: str) -> SendToAgent:
    return SendToAgent(FunctionResult(function.id, function.name, content))


def cancelled(*functions: FunctionToCall) -> deepgram.FunctionCallCancelled:
    return deepgram.FunctionCallCancelled(
        tuple(deepgram.CancelledFunction(each.id, each.name) for each in functions)
    )


# --- asked, done, cancelled -----------------------------------------------------------------------


def test_both_functions_of_a_batch_are_answered_in_the_order_they_are_done() -> None:
    bridge = talking()
    assert bridge.hear(FunctionCallRequest((ORDER, LOOKUP, PRICE))) == [
        CallFunctions((ORDER, PRICE))
    ]
    assert bridge.hear(FunctionDone(PRICE, "7")) == [result(PRICE, "7")]
    assert bridge.hear(FunctionDone(ORDER, "1")) == [result(ORDER, "1")]
    assert bridge.dialogue.statistics().functions == 3


def test_an_id_that_is_under_way_is_not_called_again() -> None:
    bridge = talking()
    bridge.hear(FunctionCallRequest((ORDER,)))
    assert bridge.hear(FunctionCallRequest((ORDER,))) == [
        violation("agent: called a function twice by one id")
    ]
    bridge.hear(FunctionDone(ORDER, "1"))
    assert bridge.hear(FunctionCallRequest((ORDER,))) == [CallFunctions((ORDER,))]


def test_what_the_agent_cancels_is_cancelled_and_a_late_result_is_not_told() -> None:
    bridge = talking()
    bridge.hear(FunctionCallRequest((ORDER, PRICE)))
    assert quiet(bridge.hear(cancelled(ORDER, LOOKUP))) == [CancelFunctions(("fc_1",))]
    assert quiet(bridge.hear(cancelled(ORDER))) == []
    assert bridge.hear(FunctionDone(ORDER, "1")) == []
    assert bridge.hear(FunctionDone(PRICE, "7")) == [result(PRICE, "7")]


TOLD_LATE = SendToAgent(deepgram.UpdatePrompt(LATE.format(name=ORDER.name, content='"charged"')))


def test_a_late_result_is_told_to_no_agent_that_cannot_be_told_or_is_leaving() -> None:
    bridge = talking(RECONNECTS, can_say=lambda message: False)
    bridge.hear(FunctionCallRequest((ORDER,)), cancelled(ORDER))
    assert bridge.hear(FunctionDone(ORDER, '"charged"', is_void=True)) == []
    bridge = talking(RECONNECTS)
    bridge.hear(FunctionCallRequest((ORDER,)), cancelled(ORDER))
    bridge.hear(Close(Ending(Cause.HUNG_UP)))
    assert bridge.hear(FunctionDone(ORDER, '"charged"', is_void=True)) == []


def test_what_was_cancelled_and_done_all_the_same_is_known_to_the_next_agent() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(FunctionCallRequest((ORDER, PRICE)), cancelled(ORDER, PRICE))
    assert bridge.hear(FunctionDone(ORDER, '"charged"', is_void=True)) == [TOLD_LATE]
    bridge.hear(deepgram.PromptUpdated())
    bridge.hear(ConversationText("assistant", "Done."), Audio(bytes(160)), AgentAudioDone())
    bridge.hear(LOST)
    bridge.connect()
    assert bridge.history == [("get_order", '"charged"'), ("assistant", "Done.")]


def functions(count: int, *, ours: bool = True, since: int = 0) -> FunctionCallRequest:
    asked = (
        FunctionToCall(f"id {number}", "look_up", client_side=ours)
        for number in range(since, since + count)
    )
    return FunctionCallRequest(tuple(asked))


@pytest.mark.parametrize(
    "heard",
    [
        [functions(MAX_AT_ONCE + 1)],
        [functions(50_000)],
        [functions(50_000, ours=False)],
        [functions(MAX_AT_ONCE), functions(1, since=MAX_AT_ONCE)],
        [functions(10, since=10 * number) for number in range(1000)],
    ],
)
def test_an_agent_that_asks_for_too_many_functions_at_once_has_run_away(
    heard: list[FunctionCallRequest],
) -> None:
    """None of them is looked at: they may be as many as fit into a message."""
    with at_most(1000 * MAX_AT_ONCE):
        talking(RECONNECTS).hear(*heard)
    bridge = talking(RECONNECTS)
    acts = bridge.hear(*heard)
    called = [len(act.functions) for act in acts if isinstance(act, CallFunctions)]
    assert sum(called) == (MAX_AT_ONCE if len(heard) > 1 else 0)
    assert quiet(acts)[-3:] == [DropAgent(), play(APOLOGY), mark("e0-1")]
    [(_, hang_up)] = [(at, act) for at, act in bridge.watch(10) if isinstance(act, HangUp)]
    detail = "over 100 function calls at once"
    assert hang_up == HangUp(Ending(Cause.AGENT_RAN_AWAY, detail, apologised=True))


def test_as_many_functions_as_may_be_are_called_and_room_comes_with_the_answers() -> None:
    bridge = talking()
    [call] = bridge.hear(functions(MAX_AT_ONCE))
    assert isinstance(call, CallFunctions)
    assert len(call.functions) == MAX_AT_ONCE
    bridge.hear(FunctionDone(call.functions[0], "1"))
    assert quiet(bridge.hear(functions(1, since=MAX_AT_ONCE))) == [
        CallFunctions(functions(1, since=MAX_AT_ONCE).functions)
    ]
    assert bridge.dialogue.phase is Phase.TALKING


def test_functions_before_the_settings_are_applied_are_odd() -> None:
    bridge = reach(Phase.AWAITING_APPLIED)
    reason = "agent: called a function before SettingsApplied"
    assert bridge.hear(FunctionCallRequest((ORDER,))) == [violation(reason)]


def test_functions_that_run_are_cancelled_by_the_end_of_the_call() -> None:
    bridge = talking()
    bridge.hear(FunctionCallRequest((ORDER, PRICE)))
    assert bridge.hear(STOP) == [
        CancelFunctions(("fc_1", "fc_2")),
        HangUp(Ending(Cause.STOP)),
    ]


def test_what_deepgram_runs_itself_is_remembered() -> None:
    bridge = talking(RECONNECTS)
    again = msgspec.structs.replace(LOOKUP, id="fc_4")
    bridge.hear(QUESTION, FunctionCallRequest((LOOKUP, again)))
    bridge.hear(deepgram.FunctionCallResponse("other", "0", "fc_9"))
    bridge.hear(deepgram.FunctionCallResponse("lookup", "1", "fc_3"))
    bridge.hear(deepgram.FunctionCallResponse("lookup", "2"))
    bridge.hear(ConversationText("assistant", "Here."), Audio(bytes(160)), AgentAudioDone())
    bridge.hear(LOST)
    bridge.connect()
    assert bridge.history == [
        ("user", QUESTION.content),
        ("lookup", "1"),
        ("lookup", "2"),
        ("assistant", "Here."),
    ]
    called = bridge.asked_for[-1].history[1]["function_calls"][0]
    assert not called["client_side"]


def test_of_what_deepgram_runs_itself_fifty_are_waited_for_at_once() -> None:
    bridge = talking(RECONNECTS)
    for number in range(MAX_THEIRS + 1):
        one = FunctionToCall(f"fc_{number}", "lookup", client_side=False)
        bridge.hear(FunctionCallRequest((one,)))
        if number < MAX_THEIRS:
            bridge.hear(cancelled(one))
    bridge.hear(deepgram.FunctionCallResponse("lookup", "late", f"fc_{MAX_THEIRS}"))
    bridge.hear(
        FunctionCallRequest(
            tuple(FunctionToCall(f"x_{n}", "lookup", client_side=False) for n in range(60))
        ),
        LOST,
    )
    bridge.connect()
    assert bridge.history == [("lookup", "late")] + [("lookup", INTERRUPTED)] * MAX_THEIRS


def test_a_thought_signature_is_kept_for_the_model_that_wants_it_back() -> None:
    bridge = talking(RECONNECTS)
    signed = msgspec.structs.replace(ORDER, thought_signature="signed")
    bridge.hear(FunctionCallRequest((signed,)), FunctionDone(signed, "1"), LOST)
    bridge.connect()
    [item] = bridge.asked_for[-1].history
    assert item["function_calls"][0]["thought_signature"] == "signed"


# --- the agent is lost ----------------------------------------------------------------------------


def test_a_result_that_was_told_is_gone_on_with() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION, FunctionCallRequest((ORDER,)), FunctionDone(ORDER, "1"), LOST)
    assert bridge.connect() == [ASKED_TO_GO_ON]
    assert bridge.history == [("user", QUESTION.content), ("get_order", "1")]


@pytest.mark.parametrize("filler", [[], [ConversationText("assistant", "Let me check.")]])
def test_a_function_under_way_is_not_asked_for_anew_in_ignorance(
    filler: list[ConversationText],
) -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION, *filler, AgentAudioDone(), FunctionCallRequest((ORDER,)))
    assert quiet(bridge.hear(LOST)) == [
        CancelFunctions(("fc_1",)),
        DropAgent(),
        Dial("default"),
    ]
    assert bridge.connect() == [ASKED_TO_GO_ON]
    assert bridge.history[0] == ("user", QUESTION.content)
    assert bridge.history[-1] == ("get_order", INTERRUPTED)


def test_what_was_not_to_be_torn_is_told_to_the_fresh_session() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION, FunctionCallRequest((ORDER,)), LOST)
    assert bridge.hear(FunctionDone(ORDER, '"charged"', is_void=True)) == []
    assert bridge.connect() == [ASKED_TO_GO_ON]
    assert bridge.history == [("user", QUESTION.content), ("get_order", '"charged"')]


def test_a_result_for_a_session_that_is_gone_is_told_to_the_next() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(FunctionCallRequest((ORDER,)), LOST)
    bridge.connect()
    assert bridge.hear(FunctionDone(ORDER, '"charged"', is_void=True)) == [TOLD_LATE]
    bridge.hear(LOST)
    bridge.connect()
    assert bridge.history == [("get_order", '"charged"')]


def test_an_id_that_a_fresh_session_uses_again_is_not_answered_by_the_last_ones_result() -> None:
    """Models number their calls as they like, and what is not to be torn outlives its session."""
    bridge = talking(RECONNECTS)
    bridge.hear(FunctionCallRequest((ORDER,)), LOST)
    bridge.connect()
    again = FunctionToCall(ORDER.id, "get_price", "{}")
    assert bridge.hear(FunctionCallRequest((again,))) == [CallFunctions((again,))]
    assert bridge.hear(FunctionDone(ORDER, '"charged"', is_void=True)) == [TOLD_LATE]
    assert bridge.hear(FunctionDone(again, "7")) == [result(again, "7")]


# --- another agent goes on ------------------------------------------------------------------------


def handed_over(bridge: Bridge) -> list[Act]:
    bridge.hear(ConversationText("assistant", "Hello."), Audio(bytes(160)), AgentAudioDone())
    bridge.hear(echo("e0-1"), ConversationText("user", "Sales, please."))
    bridge.hear(FunctionCallRequest((ORDER,)))
    bridge.wait_until(bridge.now + VOICE_WITHIN)
    return bridge.hear(FunctionDone(ORDER, '{"handed_over_to":"sales"}', hand_over="sales"))


def test_another_agent_goes_on_with_the_conversation_and_greets() -> None:
    bridge = talking()
    assert handed_over(bridge) == [
        events.AgentHandedOver("default", "sales"),
        DropAgent(),
        Dial("sales"),
    ]
    assert bridge.dialogue.agent == "sales"
    assert bridge.connect("sales") == []
    wanted = bridge.asked_for[-1]
    assert (wanted.agent, wanted.greets) == ("sales", True)
    assert bridge.history == [
        ("assistant", "Hello."),
        ("user", "Sales, please."),
        ("get_order", '{"handed_over_to":"sales"}'),
    ]
    assert bridge.dialogue.statistics().reconnects == 0


def test_another_agent_without_a_greeting_is_asked_to_go_on() -> None:
    bridge = talking(settings=deepgram_settings.phone_settings({"think": {"provider": {}}}))
    handed_over(bridge)
    assert bridge.connect("sales") == [ASKED_TO_GO_ON]


def test_a_stored_agent_is_taken_to_greet() -> None:
    bridge = talking(settings=deepgram_settings.phone_settings("a stored agent's UUID"))
    handed_over(bridge)
    assert bridge.connect("sales") == []


@pytest.mark.parametrize(("agent", "told"), [({"greeting": "Sales!"}, []), ({}, [ASKED_TO_GO_ON])])
def test_what_the_caller_said_last_is_known_to_the_other_agent(
    agent: dict[str, Any], told: list[Act]
) -> None:
    bridge = talking(settings=deepgram_settings.phone_settings(agent))
    bridge.hear(QUESTION)
    assert quiet(bridge.hear(HandOver("sales"))) == [DropAgent(), Dial("sales")]
    assert bridge.connect("sales") == told
    assert bridge.history == [("user", QUESTION.content)]


def test_an_agent_that_is_lost_after_a_hand_over_is_the_one_that_is_dialled_again() -> None:
    bridge = talking(RECONNECTS)
    handed_over(bridge)
    bridge.connect("sales")
    bridge.hear(ConversationText("assistant", "Sales!"), Audio(bytes(160)), AgentAudioDone())
    assert Dial("sales") in bridge.hear(LOST)
    bridge.connect("sales")
    assert not bridge.asked_for[-1].greets


def test_a_hand_over_to_an_agent_that_cannot_be_reached_is_tried_again() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(HandOver("sales"))
    bridge.hear(DialFailed("no route"))
    assert [(at, act) for at, act in bridge.watch(2) if isinstance(act, Dial)] == [
        (1, Dial("sales"))
    ]


def test_a_hand_over_during_a_gap_dials_the_other_agent_alone() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(LOST)
    assert quiet(bridge.hear(HandOver("sales"))) == [DropAgent(), Dial("sales")]
    bridge.hear(DialFailed("no route"))
    assert quiet(bridge.hear(HandOver("service"))) == [Dial("service")]
    assert [act for _, act in bridge.watch(2.9) if isinstance(act, Dial)] == []
    bridge.connect("service")
    assert bridge.asked_for[-1].agent == "service"


@pytest.mark.parametrize("phase", [Phase.AWAITING_START, Phase.PARTING])
def test_a_hand_over_without_a_conversation_is_nothing(phase: Phase) -> None:
    bridge = talking(RECONNECTS) if phase is Phase.PARTING else reach(phase)
    if phase is Phase.PARTING:
        bridge.hear(LOST, media())
        bridge.hear(DialFailed("x", 401))
    assert bridge.hear(HandOver("sales")) == []


def test_a_call_that_is_about_to_end_is_not_handed_over() -> None:
    bridge = talking()
    bridge.hear(FunctionCallRequest((ORDER,)), Close(Ending(Cause.HUNG_UP)))
    assert bridge.hear(HandOver("sales")) == []
    done = FunctionDone(ORDER, "{}", hand_over="sales")
    assert bridge.hear(done) == [result(ORDER, "{}")]


def test_updates_are_not_meant_for_another_agent() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(Ask(1, deepgram.UpdatePrompt("one")), deepgram.PromptUpdated())
    bridge.hear(Ask(2, deepgram.UpdatePrompt("two")))
    acts = bridge.hear(HandOver("sales"))
    assert RequestDone(2, "another agent goes on") in acts
    assert bridge.connect("sales") == []
    bridge.hear(LOST)
    assert bridge.connect("sales") == []


def test_words_that_had_to_be_heard_and_were_cut_by_a_loss_are_reported() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(
        ConversationText("assistant", "Legal words"), Audio(bytes(1600)), WaitUntilHeard(1, 60)
    )
    assert RequestDone(1, "the agent was lost") in bridge.hear(LOST)
    bridge.connect()
    assert not any(isinstance(act, RequestDone) for _, act in bridge.watch(70))

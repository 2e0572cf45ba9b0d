"""What the call's own code asks of the agent and of the caller: words, updates, keys, tones."""

import functools

import pytest
from rig_dialogue import LOST, RECONNECTS, mark, play, quiet, reach, talking
from rig_peers import STREAM_SID

from sts_trio.logic.acts import (
    Act,
    Ask,
    CancelRequest,
    Collect,
    Collected,
    PlayTones,
    RequestDone,
    SendToAgent,
)
from sts_trio.logic.states import Phase
from sts_trio.wire import twilio
from sts_trio.wire.deepgram import (
    AgentAudioDone,
    Audio,
    ConversationText,
    InjectAgentMessage,
    InjectionRefused,
    InjectUserMessage,
    PromptUpdated,
    SettingsApplied,
    UpdatePrompt,
    UserStartedSpeaking,
)
from sts_trio.wire.dialect import Dialect, can_say

SAY = InjectAgentMessage("One moment, please.", "queue")
MORE = UpdatePrompt("more")


def key(digit: str) -> twilio.Dtmf:
    return twilio.Dtmf(twilio.Digit(digit), stream_sid=STREAM_SID)


def keyed_in(keys: str) -> SendToAgent:
    return SendToAgent(InjectUserMessage(f"I have keyed in: {keys}"))


def told(acts: list[tuple[float, Act]]) -> list[tuple[float, Act]]:
    return [(at, act) for at, act in acts if isinstance(act, SendToAgent)]


# --- asked of the agent ---------------------------------------------------------------------------


def test_what_is_asked_is_told_at_once_and_answered_when_the_agent_begins_it() -> None:
    bridge = talking()
    assert bridge.hear(Ask(1, SAY)) == [SendToAgent(SAY)]
    assert bridge.hear(Ask(2, MORE)) == [SendToAgent(MORE)]
    assert quiet(bridge.hear(PromptUpdated())) == [RequestDone(2)]
    said = ConversationText("assistant", "One moment, please.")
    assert RequestDone(1) in bridge.hear(said)


def test_two_of_a_kind_go_one_after_the_other() -> None:
    bridge = talking()
    assert bridge.hear(Ask(1, MORE), Ask(2, MORE)) == [SendToAgent(MORE)]
    assert quiet(bridge.hear(PromptUpdated())) == [RequestDone(1), SendToAgent(MORE)]


def test_a_refusal_reaches_who_asked() -> None:
    bridge = talking()
    bridge.hear(Ask(1, SAY))
    acts = quiet(bridge.hear(InjectionRefused("A turn is in progress.")))
    assert acts == [RequestDone(1, "A turn is in progress.")]


def test_who_gets_no_answer_is_told_so_after_ten_seconds() -> None:
    bridge = talking()
    bridge.hear(Ask(1, MORE), Ask(2, MORE))
    bridge.wait_until(4)
    bridge.hear(Ask(3, MORE))
    assert bridge.watch(20) == [
        (10, RequestDone(2, "no answer", timed_out=True)),
        (10, RequestDone(1, "no answer", timed_out=True)),
        (10, SendToAgent(MORE)),
        (14, RequestDone(3, "no answer", timed_out=True)),
    ]


def test_who_no_longer_waits_is_not_answered() -> None:
    bridge = talking()
    bridge.hear(Ask(1, MORE))
    assert bridge.hear(CancelRequest(1)) == []
    assert quiet(bridge.hear(PromptUpdated())) == []


def test_words_that_may_interrupt_find_nobody_to_interrupt_while_there_is_no_agent() -> None:
    now = InjectAgentMessage("We close in a minute.", "interrupt")
    bridge = talking(RECONNECTS)
    bridge.hear(Audio(b"\x01" * 800), LOST)
    assert bridge.hear(Ask(1, now)) == []
    assert SendToAgent(now) in bridge.connect()


@pytest.mark.parametrize("phase", [Phase.AWAITING_START, Phase.DIALLING, Phase.AWAITING_APPLIED])
def test_what_is_asked_too_early_waits_for_the_agent(phase: Phase) -> None:
    bridge = reach(phase)
    assert bridge.hear(Ask(1, MORE)) == []
    if phase is Phase.AWAITING_APPLIED:
        assert quiet(bridge.hear(SettingsApplied())) == [SendToAgent(MORE)]


def test_words_of_ours_are_none_of_those_that_were_cut() -> None:
    bridge = talking()
    bridge.hear(Audio(b"\x01" * 800), UserStartedSpeaking(), Ask(1, SAY))
    assert bridge.hear(Audio(b"\x01" * 160)) == []
    bridge.hear(ConversationText("assistant", "One moment, please."))
    assert bridge.hear(Audio(b"\x02" * 160)) == [play(b"\x02" * 160)]


def test_what_the_dialect_has_no_words_for_is_refused() -> None:
    bridge = talking(can_say=functools.partial(can_say, Dialect.LEGACY))
    assert bridge.hear(Ask(1, InjectUserMessage("Hello."))) == [
        RequestDone(1, "this dialect has no words for InjectUserMessage")
    ]
    assert bridge.hear(Ask(2, MORE)) == [SendToAgent(MORE)]


# --- keys -----------------------------------------------------------------------------------------


def test_keys_are_told_to_the_agent_after_a_pause() -> None:
    bridge = talking()
    bridge.hear(key("4"), key("7"))
    bridge.wait_until(1)
    bridge.hear(key("#"))
    assert told(bridge.watch(5)) == [(2.5, keyed_in("4 7 #"))]


@pytest.mark.parametrize("digit", ["", "12", "x", "\u0661"])
def test_what_is_no_key_is_not_told(digit: str) -> None:
    bridge = talking()
    bridge.hear(key(digit))
    assert told(bridge.watch(5)) == []


def test_keys_that_are_collected_are_not_told_to_the_agent() -> None:
    bridge = talking()
    assert bridge.hear(Collect(1, 4, "#", 20, 5)) == []
    assert quiet(bridge.hear(key("4"), key("7"), key("#"))) == [Collected(1, "47")]
    assert told(bridge.watch(5)) == []


def test_digits_that_do_not_come_are_not_waited_for() -> None:
    bridge = talking()
    bridge.hear(Collect(1, 4, "#", 20, 5), key("4"))
    assert bridge.watch(30) == [(5, Collected(1, "4"))]


def test_keys_whose_collector_is_forgotten_go_to_the_agent() -> None:
    bridge = talking()
    bridge.hear(Collect(1, 4, "#", 20, 5), CancelRequest(1))
    bridge.hear(key("4"))
    assert told(bridge.watch(5)) == [(1.5, keyed_in("4"))]


@pytest.mark.parametrize("is_sent", [False, True])
def test_keys_outlive_the_loss_of_the_agent(is_sent: bool) -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(key("4"))
    if is_sent:
        bridge.wait_until(1.5)
    bridge.hear(LOST)
    acts = bridge.watch(1.6)
    assert keyed_in("4") not in [act for _, act in acts]
    assert bridge.connect() == [keyed_in("4")]


def test_keys_come_after_the_question_that_the_agent_owes_an_answer_to() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(ConversationText("user", "My number is:"), LOST)
    bridge.hear(key("4"))
    bridge.watch(1.6)
    assert bridge.connect() == [SendToAgent(InjectUserMessage("My number is:"))]
    assert keyed_in("4") in bridge.hear(ConversationText("user", "My number is:"))


def test_keys_are_nothing_to_an_agent_of_the_old_dialect() -> None:
    bridge = talking(can_say=functools.partial(can_say, Dialect.LEGACY))
    bridge.hear(key("4"))
    assert told(bridge.watch(5)) == []


# --- tones ----------------------------------------------------------------------------------------

TONES = b"\x07" * 320


def test_tones_are_played_whole_and_marked() -> None:
    assert talking().hear(PlayTones(TONES)) == [play(TONES), mark("e0-1")]


def test_tones_amid_an_utterance_leave_it_whole() -> None:
    bridge = talking()
    bridge.hear(ConversationText("assistant", "Hello."), Audio(b"\x01" * 200))
    assert bridge.hear(PlayTones(TONES)) == [play(TONES), mark("e0-1")]
    acts = bridge.hear(Audio(b"\x01" * 120), AgentAudioDone())
    assert acts == [play(b"\x01" * 160), mark("e0-2")]


def test_tones_after_a_barge_in_do_not_let_through_what_was_cut() -> None:
    bridge = talking()
    bridge.hear(Audio(b"\x01" * 800), UserStartedSpeaking(), PlayTones(TONES))
    assert bridge.hear(Audio(b"\x01" * 800)) == []

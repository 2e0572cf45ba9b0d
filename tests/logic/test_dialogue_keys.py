"""Keys are the caller's speech: they cut what plays, and belong to whoever collects next."""

import msgspec
import pytest
from rig_dialogue import LOST, RECONNECTS, Bridge, echo, mark, play, played, quiet, reach, talking
from rig_peers import STREAM_SID
from telephone import speaks

from sts_trio.errors import Cause, Ending
from sts_trio.logic.acts import (
    CancelRequest,
    Close,
    Collect,
    Collected,
    DialFailed,
    FlushCaller,
    FunctionDone,
    Protect,
    SendToAgent,
    SendToCaller,
)
from sts_trio.logic.agent_audio import STALE_AFTER_KEY
from sts_trio.logic.requests import GO_ON
from sts_trio.logic.states import Phase
from sts_trio.observe import events
from sts_trio.wire import twilio
from sts_trio.wire.deepgram import (
    AgentAudioDone,
    Audio,
    ConversationText,
    FunctionCallRequest,
    FunctionToCall,
    InjectUserMessage,
    UserStartedSpeaking,
)

WATCHED = msgspec.structs.replace(RECONNECTS, resumes=True, answer_within=5.0)
CLEAR = SendToCaller(twilio.Clear(STREAM_SID))
MENU = speaks("For sales press one. For service press two.")[0][1]
PIN = FunctionToCall("fc_1", "ask_for_pin")
KEYED_IN = "I have keyed in: {}"


def key(digit: str) -> twilio.Dtmf:
    return twilio.Dtmf(twilio.Digit(digit), stream_sid=STREAM_SID)


def menu(*, is_whole: bool) -> Bridge:
    """Twelve seconds of a menu, of which the first was heard; all or five of them have come."""
    bridge = talking(WATCHED)
    bridge.hear(MENU, Audio(b"\x01" * 8000 * (12 if is_whole else 5)))
    if is_whole:
        bridge.hear(AgentAudioDone())
    bridge.wait_until(1)
    bridge.hear(echo("e0-1"))
    return bridge


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_key_cuts_what_plays_at_once(is_whole: bool) -> None:
    bridge = menu(is_whole=is_whole)
    acts = bridge.hear(key("1"))
    assert acts[0] == events.CallerDtmf()
    assert acts[1:4] == [FlushCaller(), CLEAR, mark(f"e1-{13 if is_whole else 6}")]
    [heard] = [act for act in acts if isinstance(act, events.CallHeard)]
    assert heard.heard_seconds == 1
    assert bridge.dialogue.statistics().barge_ins == 1


def test_what_the_agent_still_says_of_it_is_not_heard_and_the_answer_is_at_once() -> None:
    bridge = menu(is_whole=False)
    bridge.hear(key("1"))
    for second in (2, 3, 4, 5):
        told = bridge.watch(second)
        assert played(act for _, act in told) == b""
        assert played(bridge.hear(Audio(b"\x01" * 8000))) == b""
    bridge.hear(ConversationText("user", KEYED_IN.format("1")))
    assert bridge.hear(Audio(b"\x02" * 160))[:1] == [play(b"\x02" * 160)]


def test_what_the_agent_says_behind_its_end_is_heard() -> None:
    bridge = menu(is_whole=False)
    bridge.hear(key("1"))
    assert played(bridge.hear(Audio(b"\x01" * 8000), AgentAudioDone())) == b""
    assert played(bridge.hear(Audio(b"\x02" * 160))) == b"\x02" * 160


def test_an_agent_that_never_says_that_it_is_done_is_heard_again_after_ten_seconds() -> None:
    bridge = menu(is_whole=False)
    bridge.hear(Collect(1, 4, "#", 60, 60), key("1"))
    bridge.wait_until(1 + STALE_AFTER_KEY)
    assert played(bridge.hear(Audio(b"\x02" * 160))) == b"\x02" * 160


def test_what_comes_behind_a_menu_that_was_complete_is_no_part_of_it() -> None:
    bridge = menu(is_whole=True)
    bridge.hear(key("1"))
    assert played(bridge.hear(Audio(b"\x02" * 160))) == b"\x02" * 160


def test_the_agent_is_told_the_keys_and_not_asked_to_go_on() -> None:
    bridge = menu(is_whole=False)
    bridge.hear(key("1"))
    assert bridge.dialogue.statistics().false_interruptions == 0
    texts = [
        (at, act.message)
        for at, act in bridge.watch(5)
        if isinstance(act, SendToAgent) and isinstance(act.message, InjectUserMessage)
    ]
    assert texts == [(2.5, InjectUserMessage(KEYED_IN.format("1")))]


def test_a_key_after_a_cough_is_what_the_caller_meant() -> None:
    bridge = menu(is_whole=True)
    bridge.hear(UserStartedSpeaking())
    bridge.wait_until(1.5)
    assert quiet(bridge.hear(Collect(1, 1, "", 20, 5), key("1"))) == [Collected(1, "1")]
    acts = bridge.watch(6)
    assert played(act for _, act in acts) == b""
    assert SendToAgent(InjectUserMessage(GO_ON)) not in [act for _, act in acts]


def test_where_nothing_plays_a_key_clears_nothing() -> None:
    bridge = talking(WATCHED)
    assert quiet(bridge.hear(key("1"))) == []


@pytest.mark.parametrize("digit", ["", "12", "x"])
def test_what_is_no_key_cuts_nothing(digit: str) -> None:
    assert quiet(menu(is_whole=True).hear(key(digit))) == []


def test_protected_words_are_not_cut_by_a_key_which_is_collected_all_the_same() -> None:
    bridge = menu(is_whole=True)
    bridge.hear(Protect(), Collect(1, 1, "", 20, 5))
    assert quiet(bridge.hear(key("1"))) == [Collected(1, "1")]


def test_last_words_are_not_cut_by_a_key() -> None:
    bridge = menu(is_whole=True)
    bridge.hear(Close(Ending(Cause.HUNG_UP)))
    assert quiet(bridge.hear(key("1"))) == []
    bridge = reach(Phase.DIALLING, policy=RECONNECTS)
    bridge.hear(DialFailed("no", 401))
    assert quiet(bridge.hear(key("1"))) == []


def test_several_keys_are_told_in_order_and_cut_once() -> None:
    bridge = menu(is_whole=False)
    acts = [act for digit in "12" for act in bridge.hear(key(digit))]
    assert acts.count(CLEAR) == 1
    assert SendToAgent(InjectUserMessage(KEYED_IN.format("1 2"))) in [
        act for _, act in bridge.watch(5)
    ]


def test_keys_typed_before_digits_are_collected_belong_to_who_collects() -> None:
    bridge = menu(is_whole=True)
    bridge.hear(key("1"), key("2"), FunctionCallRequest((PIN,)))
    bridge.wait_until(1.7)
    bridge.hear(Collect(1, 4, "#", 20, 5))
    assert quiet(bridge.hear(key("3"), key("4"))) == [Collected(1, "1234")]
    bridge.hear(FunctionDone(PIN, '"1234"'))
    assert not any(
        isinstance(act, SendToAgent) and isinstance(act.message, InjectUserMessage)
        for _, act in bridge.watch(4)
    )


def test_keys_typed_for_who_was_torn_are_told_to_the_next_agent() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(Collect(1, 4, "#", 20, 5), key("4"), key("7"))
    bridge.hear(LOST)
    bridge.hear(CancelRequest(1))
    bridge.wait_until(1.6)
    assert bridge.connect() == [SendToAgent(InjectUserMessage(KEYED_IN.format("4 7")))]


def test_a_word_of_ours_that_a_key_has_cut_is_none_that_was_heard() -> None:
    """Silence is counted from the key on, not from where the word would have ended."""
    bridge = talking(msgspec.structs.replace(WATCHED, one_moment=b"\x21" * 8000 * 4))
    bridge.hear(ConversationText("user", "Where is it?"))
    at = [at for at, act in bridge.watch(6) if played([act])]
    assert min(at) == 5
    bridge.hear(key("1"))
    assert min(at for at, act in bridge.watch(20) if played([act])) == 11
    assert bridge.dialogue.statistics().longest_silence == 5

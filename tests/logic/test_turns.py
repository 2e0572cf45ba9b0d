"""Who speaks and what of it is heard: the turns alone, from one session to the next."""

import tracemalloc
from math import inf

from sts_trio.logic.history import INTERRUPTED
from sts_trio.logic.states import Violation
from sts_trio.logic.turns import MAX_TURN_SECONDS, Cut, Played, Turns
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio

SID = "MZ1"
FUNCTION = deepgram.FunctionToCall("f1", "get_order")


def begun() -> Turns:
    turns = Turns()
    turns.agent_audio.stream_sid = SID
    return turns


def mark(name: str) -> twilio.PlayMark:
    return twilio.PlayMark(SID, twilio.MarkName(name))


def told_of(turns: Turns) -> list[str]:
    """What a fresh session is told that was said."""
    return [item["content"] for item in turns.carryover.brief(greets=turns.greets)]


def test_a_turn_is_told_once_its_last_mark_comes_back() -> None:
    turns = begun()
    assert turns.hear_agent("Hello.", 0.0) is None
    assert turns.agent_audio.is_amid_utterance
    [played] = turns.hear_audio(b"\x01" * 1600, 0.0)
    assert played == twilio.PlayMedia(SID, twilio.Outbound(b"\x01" * 1600))
    assert turns.agent_audio.plays_until == 0.2
    assert turns.finish_utterance(0.1) == [mark("e0-1")]
    assert not turns.agent_audio.is_heard
    assert turns.hear_mark("e0-1", 0.3) == Played(
        [events.CallHeard("Hello.", "Hello.", 0.2, 0.2)], None
    )
    assert turns.agent_audio.is_heard
    assert turns.agent_bytes == 1600
    assert turns.hear_mark("e0-9", 0.3) == Violation("a mark we never sent")


def test_of_what_was_heard_to_its_end_hardly_any_audio_is_kept() -> None:
    turns = Turns(resumes=True)
    turns.agent_audio.stream_sid = SID
    tracemalloc.start()
    try:
        for number in range(10):
            [_, last] = turns.hear_audio(bytes([number]) * 8000, 0.0)
        assert isinstance(last, twilio.PlayMark)
        before = tracemalloc.get_traced_memory()[0]
        turns.hear_mark(last.mark.name, 10.0)
        assert tracemalloc.get_traced_memory()[0] < before - 60_000
    finally:
        tracemalloc.stop()


def test_the_caller_cuts_what_is_being_said_and_what_of_it_is_still_under_way() -> None:
    turns = begun()
    turns.hear_agent("One two.", 0.0)
    turns.hear_audio(b"\x01" * 1600, 0.0)
    cut = turns.hear_user_speaks(0.1)
    assert cut == Cut(
        1600, True, [twilio.Clear(SID), mark("e1-1")], [events.CallHeard("One two.", "", 0.2, 0.0)]
    )
    assert turns.barge_ins == 1
    assert turns.user_speaks_until == 0.1 + MAX_TURN_SECONDS
    assert turns.hear_audio(b"\x01" * 1600, 0.2) == []
    assert turns.hear_agent("Three.", 0.2) == events.CallHeard("Three.", "", 0.0, 0.0)
    assert turns.hear_mark("e0-1", 0.2) is None, "an echo of what was cut"
    assert turns.hear_mark("e1-1", 0.3) == Played([], 0.3 - 0.1)
    turns.end_user_turn()
    assert turns.user_speaks_until == -inf
    assert turns.hear_audio(b"\x02" * 160, 0.4) != []


def test_uninterruptible_words_are_not_cut_by_the_caller_nor_by_us() -> None:
    turns = begun()
    turns.hear_audio(b"\x01" * 1600, 0.0)
    turns.agent_audio.is_protected = True
    assert turns.hear_user_speaks(0.1) is None
    assert turns.make_room(0.1) is None
    turns.agent_audio.is_protected = False
    cut = turns.make_room(0.1)
    assert cut is not None
    assert cut.size == 1600
    assert turns.barge_ins == 0
    assert turns.hear_audio(b"\x02" * 160, 0.1) != [], "what was made room for"


def test_there_is_room_where_nothing_is_to_be_heard() -> None:
    assert begun().make_room(0.0) is None


def test_nobody_would_miss_the_agent_once_all_is_said_heard_and_answered() -> None:
    turns = begun()
    assert turns.is_quiet(0.0)
    turns.hear_user("Where is it?")
    assert not turns.is_quiet(0.0), "an answer is due"
    turns.hear_agent("On its way.", 1.0)
    turns.hear_audio(b"\x01" * 160, 1.0)
    assert not turns.is_quiet(1.0)
    turns.finish_utterance(1.0)
    turns.hear_mark("e0-1", 1.0)
    assert turns.is_quiet(1.0)
    turns.hear_user_speaks(2.0)
    assert not turns.is_quiet(2.0)
    assert turns.is_quiet(2.0 + MAX_TURN_SECONDS)


def test_a_question_that_a_session_took_with_it_is_asked_anew_and_remembered_once() -> None:
    turns = begun()
    turns.hear_user("Where is it?")
    turns.close_session(0.0)
    assert turns.carryover.brief(greets=turns.greets) == []
    assert turns.carryover.take_unanswered() == "Where is it?"
    assert turns.carryover.take_unanswered() is None
    turns.carryover.ask_anew("Where is it?", "Where is it?")
    assert not turns.hear_user("Where is it?"), "told back to us"
    assert turns.hear_user("Where is it?"), "the caller's own"
    assert told_of(turns) == ["Where is it?"] * 2


def test_a_question_that_there_are_no_words_for_is_remembered_but_not_told_back() -> None:
    turns = begun()
    turns.carryover.ask_anew("Where is it?", None)
    turns.carryover.ask_anew("", None)
    assert told_of(turns) == ["Where is it?"]
    assert turns.hear_user("Where is it?")


def test_what_was_lost_amid_an_answer_cannot_be_asked_anew_but_is_gone_on_with() -> None:
    turns = begun()
    turns.hear_user("Where is it?")
    turns.hear_agent("It is", 0.0)
    turns.hear_audio(b"\x01" * 100, 0.0)
    assert turns.close_session(0.0) == [
        twilio.PlayMedia(SID, twilio.Outbound(b"\x01" * 100 + b"\xff" * 60)),
        mark("e0-1"),
    ]
    turns.close_session(0.0)
    assert turns.carryover.take_unanswered() == ""


def test_another_agent_introduces_itself_and_knows_the_question() -> None:
    turns = begun()
    assert turns.greets
    turns.hear_user("Where is it?")
    assert not turns.greets
    turns.close_session(0.0)
    turns.greets = True
    assert told_of(turns) == ["Where is it?"]
    assert turns.carryover.take_unanswered() == ""


def test_functions_are_part_of_what_is_told_with_and_without_their_result() -> None:
    turns = begun()
    turns.add_function(FUNCTION)
    [told] = turns.carryover.brief(greets=turns.greets)
    assert told["function_calls"][0]["response"] == INTERRUPTED
    turns.add_function(FUNCTION, "{}")
    [told] = turns.carryover.brief(greets=turns.greets)
    assert told["function_calls"][0]["response"] == "{}"


def test_our_own_audio_is_marked_and_at_the_end_nothing_more_is_heard() -> None:
    turns = begun()
    assert turns.play(b"\x07" * 160, 0.0) == [
        twilio.PlayMedia(SID, twilio.Outbound(b"\x07" * 160)),
        mark("e0-1"),
    ]
    turns.hear_agent("Hello.", 0.0)
    turns.hear_audio(b"\x01" * 1600, 0.0)
    assert turns.end() == [events.CallHeard("Hello.", "", 0.2, 0.0)]
    assert turns.end() == []

"""A question that was heard to its end, and a turn of the caller's after it."""

import pytest
from rig_dialogue import RECONNECTS, Bridge, echo, said_by_agent, talking

from sts_trio.logic.acts import Ask, Heard
from sts_trio.logic.asked import MAX_TURNS, turn_after
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.requests import KEYED_IN
from sts_trio.wire.deepgram import (
    AgentAudioDone,
    Audio,
    ConversationText,
    EndOfTurn,
    InjectUserMessage,
    UserStartedSpeaking,
)

QUESTION = "Shall I book the Otter for Tuesday?"
YES = ConversationText("user", "Yes, please.")
SECOND = b"\x20" * 8000


def spoken(text: str) -> ConversationText:
    return ConversationText(said_by_agent(text).role, text)


def asking(policy: CallPolicy = RECONNECTS) -> Bridge:
    """The agent has said it all, at once; it takes two seconds to hear it."""
    bridge = talking(policy)
    bridge.hear(spoken("Of course!"), spoken(QUESTION), Audio(SECOND * 2), AgentAudioDone())
    return bridge


def test_a_question_that_was_heard_is_answered_by_the_next_turn() -> None:
    bridge = asking()
    bridge.wait_until(2)
    bridge.hear(echo("e0-2"))
    assert bridge.dialogue.turn_after(QUESTION) is None
    bridge.hear(UserStartedSpeaking(), EndOfTurn())
    assert bridge.dialogue.turn_after(QUESTION) is None, "without a word"
    bridge.hear(YES)
    assert bridge.dialogue.turn_after(QUESTION) == 1
    assert bridge.dialogue.turn_after("shall i book, the otter for tuesday") == 1
    assert bridge.dialogue.turn_after("Shall I book the Heron for Tuesday?") is None


def test_a_question_that_was_said_and_not_heard_is_not_answered() -> None:
    bridge = asking()
    bridge.hear(echo("e0-1"), YES)
    assert bridge.dialogue.turn_after(QUESTION) is None
    bridge.hear(echo("e0-2"))
    assert bridge.dialogue.turn_after(QUESTION) is None, "the turn came before its end"
    bridge.hear(YES)
    assert bridge.dialogue.turn_after(QUESTION) == 2


def test_a_question_that_was_cut_before_its_end_is_not_answered() -> None:
    bridge = asking()
    bridge.hear(echo("e0-1"), UserStartedSpeaking(), YES)
    assert bridge.dialogue.turn_after(QUESTION) is None


def test_a_question_that_a_noise_has_cut_counts_when_it_was_played_on() -> None:
    policy = CallPolicy(resumes=True)
    bridge = talking(policy)
    bridge.hear(spoken(QUESTION), Audio(SECOND * 2), AgentAudioDone(), echo("e0-1"))
    bridge.hear(UserStartedSpeaking())
    bridge.wait_until(8)
    assert bridge.dialogue.statistics().false_interruptions == 1
    unheard = bridge.dialogue.playout.unheard
    assert unheard > 8000
    for number in range(1, 9):
        bridge.hear(echo(f"e1-{number}"))
    assert bridge.dialogue.playout.unheard == 0
    bridge.hear(YES)
    assert bridge.dialogue.turn_after(QUESTION) == 1


@pytest.mark.parametrize(
    ("asked", "told_back", "turn"),
    [
        (Ask(1, InjectUserMessage("Yes.")), ConversationText("user", "Yes."), None),
        (Ask(1, InjectUserMessage("No way.")), YES, 1),
        (None, ConversationText("user", " "), None),
        (None, ConversationText("user", KEYED_IN.format("1")), 1),
    ],
)
def test_it_is_the_caller_who_answers(
    asked: Heard | None, told_back: Heard, turn: int | None
) -> None:
    """And not code in their name; a key is as good as a word."""
    bridge = asking()
    bridge.hear(echo("e0-2"))
    if asked is not None:
        bridge.hear(asked)
    bridge.hear(told_back)
    assert bridge.dialogue.turn_after(QUESTION) == turn


def test_who_is_asked_again_has_to_answer_again() -> None:
    bridge = asking()
    bridge.hear(echo("e0-2"), YES)
    assert bridge.dialogue.turn_after(QUESTION) == 1
    bridge.hear(spoken("Well. " + QUESTION), Audio(SECOND), AgentAudioDone(), echo("e0-3"))
    assert bridge.dialogue.turn_after(QUESTION) is None
    bridge.hear(YES)
    assert bridge.dialogue.turn_after(QUESTION) == 2


def test_an_answer_holds_for_a_few_turns() -> None:
    heard = [(3, "Well."), (2, "Are you sure?"), (0, "Hello.")]
    assert turn_after("Sure?", heard, 2) is None
    assert turn_after("Sure?", heard, 3) == 3
    assert turn_after("Sure?", heard, 2 + MAX_TURNS) == 3
    assert turn_after("Sure?", heard, 3 + MAX_TURNS) is None
    assert turn_after("Nobody asked that.", heard, 3) is None


def test_words_are_whole_words_and_none_are_no_question() -> None:
    heard = [(0, "The book is on the shelf.")]
    assert turn_after("ok", heard, 1) is None
    assert turn_after("?!", heard, 1) is None
    assert turn_after("BOOK, is", heard, 1) == 1

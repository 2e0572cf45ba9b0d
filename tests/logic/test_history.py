"""What was said, what of it was heard, and what a fresh agent is told of it."""

import re
from typing import Any

import pytest

from sts_trio.logic.history import INTERRUPTED, MAX_ITEMS, MAX_PLAYING, History, completed_call
from sts_trio.logic.utterance import MAX_SAID_CHARS, MAX_TEXT_CHARS
from sts_trio.observe import events
from sts_trio.wire import deepgram

SECOND = 8000


class Past(History):
    """A memory, and what it told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[events.CallHeard] = []

    def hear_mark(self, position: int, sent: int) -> list[events.CallHeard]:
        self.told += (turns := super().hear_mark(position, sent))
        return turns

    def cut(self, position: int, sent: int) -> list[events.CallHeard]:
        self.told += (turns := super().cut(position, sent))
        return turns

    def says(self, text: str, begin: int, end: int) -> None:
        """A whole utterance of the agent's."""
        self.hear_agent(text, begin)
        self.hear_audio(begin)
        self.finish(end)


def called(response: str = "{}", id: str = "fc_1") -> deepgram.CalledFunction:
    return deepgram.CalledFunction(id, "get_order", True, "{}", response)


def user(text: str) -> dict[str, Any]:
    return {"type": "History", "role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"type": "History", "role": "assistant", "content": text}


# --- what was heard -------------------------------------------------------------------------------


def test_an_utterance_is_told_once_it_has_been_heard_to_its_end() -> None:
    past = Past()
    past.says("One two.", 0, SECOND)
    past.hear_mark(SECOND - 1, SECOND)
    assert past.told == []
    past.hear_mark(SECOND, SECOND)
    assert past.told == [events.CallHeard("One two.", "One two.", 1.0, 1.0)]
    past.hear_mark(SECOND, SECOND)
    past.cut(SECOND, SECOND)
    assert len(past.told) == 1


def test_an_utterance_is_not_told_while_more_of_it_may_come() -> None:
    past = Past()
    past.hear_agent("One two.", 0)
    past.hear_mark(SECOND, SECOND)
    assert past.told == []


def test_of_a_sentence_that_was_cut_its_share_of_the_audio_counts_as_heard() -> None:
    past = Past()
    past.hear_agent("one two three four five", 0)
    past.cut(SECOND, 2 * SECOND)
    assert past.told == [events.CallHeard("one two three four five", "one two", 2.0, 1.0)]


def test_of_several_sentences_those_before_the_cut_were_heard_whole() -> None:
    past = Past()
    past.hear_agent("One two.", 0)
    past.hear_agent("Three four.", SECOND)
    past.hear_agent("Five six.", 3 * SECOND)
    past.cut(2 * SECOND, 4 * SECOND)
    assert past.told == [
        events.CallHeard("One two. Three four. Five six.", "One two. Three", 4.0, 2.0)
    ]


def test_sentences_told_before_any_of_their_audio_share_it() -> None:
    past = Past()
    past.hear_agent("One.", 0)
    past.hear_agent("Two. Three. Four.", 0)
    past.cut(SECOND, 2 * SECOND)
    assert past.told == [events.CallHeard("One. Two. Three. Four.", "One. Two.", 2.0, 1.0)]


def test_words_whose_audio_never_came_were_not_heard() -> None:
    """The caller cuts the utterance before, when the next one's first sentence has just been
    told about."""
    past = Past()
    past.says("One two.", 0, 2 * SECOND)
    past.hear_agent("Three.", 2 * SECOND)
    past.cut(SECOND, 2 * SECOND)
    assert past.told == [
        events.CallHeard("One two.", "One", 2.0, 1.0),
        events.CallHeard("Three.", "", 0.0, 0.0),
    ]
    assert past.messages() == [assistant("One")]


def test_a_sentence_told_late_belongs_to_the_audio_before_it() -> None:
    past = Past()
    past.hear_audio(0)
    past.hear_agent("one two", SECOND)
    past.cut(SECOND, 2 * SECOND)
    assert past.told == [events.CallHeard("one two", "one", 2.0, 1.0)]


def test_audio_without_words_is_not_told_about() -> None:
    past = Past()
    past.hear_audio(0)
    past.finish(SECOND)
    past.hear_mark(SECOND, SECOND)
    assert past.told == []
    assert past.messages() == []


def test_several_utterances_are_settled_by_one_mark_in_order() -> None:
    past = Past()
    past.says("One.", 0, SECOND)
    past.says("Two.", SECOND, 2 * SECOND)
    past.says("Three.", 2 * SECOND, 3 * SECOND)
    past.hear_mark(2 * SECOND, 3 * SECOND)
    assert [turn.said for turn in past.told] == ["One.", "Two."]


def test_utterances_without_end_do_not_pile_up() -> None:
    past = Past()
    for number in range(MAX_PLAYING + 2):
        past.says(f"{number}.", number, number + 1)
    past.hear_mark(10**6, 10**6)
    assert [turn.said for turn in past.told[:2]] == ["2.", "3."]
    assert len(past.told) == MAX_PLAYING


# --- what the next agent is told ------------------------------------------------------------------


def test_the_past_is_told_in_order_and_in_deepgrams_words() -> None:
    past = Past()
    past.says("Hello.", 0, SECOND)
    past.hear_user("Where is it?")
    past.call_function(called('{"status": "shipped"}'))
    past.says("It has shipped.", SECOND, 2 * SECOND)
    function = {
        "id": "fc_1",
        "name": "get_order",
        "client_side": True,
        "arguments": "{}",
        "response": '{"status": "shipped"}',
    }
    assert past.messages() == [
        assistant("Hello."),
        user("Where is it?"),
        {"type": "History", "function_calls": (function,)},
        assistant("It has shipped."),
    ]


def test_of_what_was_cut_only_what_was_heard_is_told() -> None:
    past = Past()
    past.hear_agent("one two three four", 0)
    past.cut(SECOND, 2 * SECOND)
    past.hear_agent("not a word of this", 2 * SECOND)
    past.cut(2 * SECOND, 3 * SECOND)
    assert past.messages() == [assistant("one two")]


def test_no_more_than_two_hundred_items_are_told_the_newest() -> None:
    past = Past()
    for number in range(MAX_ITEMS + 1):
        past.hear_user(str(number))
    assert past.messages()[0] == user("1")
    assert len(past.messages()) == MAX_ITEMS


def test_long_texts_are_cut() -> None:
    past = Past()
    past.hear_user("x" * (MAX_TEXT_CHARS + 1))
    past.says("y" * (MAX_TEXT_CHARS + 1), 0, SECOND)
    assert [len(item["content"]) for item in past.messages()] == [MAX_TEXT_CHARS, MAX_TEXT_CHARS]


def test_an_utterance_that_never_ends_is_not_kept_without_end() -> None:
    past = Past()
    for number in range(100):
        past.hear_audio(number)
        past.hear_agent("x" * MAX_TEXT_CHARS, number)
    [item] = past.messages()
    assert MAX_SAID_CHARS <= len(item["content"]) < MAX_SAID_CHARS + MAX_TEXT_CHARS + 10


def test_a_result_takes_the_place_of_the_news_that_there_is_none() -> None:
    past = Past()
    past.call_function(called(INTERRUPTED))
    past.hear_user("Hello?")
    past.call_function(called('"charged"'))
    [function, text] = past.messages()
    assert function["function_calls"][0]["response"] == '"charged"'
    assert text == user("Hello?")


def test_an_id_that_a_model_uses_twice_stands_for_two_calls() -> None:
    past = Past()
    past.call_function(called("1"))
    past.call_function(called("2"))
    assert [item["function_calls"][0]["response"] for item in past.messages()] == ["1", "2"]


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u00a0"])
def test_blank_texts_are_not_told_and_others_without_space_around_them(blank: str) -> None:
    past = Past()
    past.hear_user("Where is it?\n")
    past.hear_user(blank)
    past.says(f" It has shipped.{blank}", 0, SECOND)
    past.says(blank, SECOND, 2 * SECOND)
    assert [item["content"] for item in past.messages()] == ["Where is it?", "It has shipped."]


def test_a_blank_text_is_no_question() -> None:
    past = Past()
    past.says("Hello.", 0, SECOND)
    past.hear_user(" ")
    assert past.unanswered is None


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("", "{}"),
        ("null", "{}"),
        ("[1]", "{}"),
        ('"{}"', "{}"),
        ('{"a": 1', "{}"),
        ('{"a": NaN}', "{}"),
        ("[" * 100_000, "{}"),
        (' {"a": {"b": [1]}}', ' {"a": {"b": [1]}}'),
    ],
)
def test_arguments_that_are_no_json_object_are_told_as_none(written: str, told: str) -> None:
    past = Past()
    past.call_function(completed_call(deepgram.FunctionToCall("fc_1", "get_order", written), "1"))
    [item] = past.messages()
    assert item["function_calls"][0]["arguments"] == told


def test_an_empty_result_is_told_as_nothing() -> None:
    past = Past()
    past.call_function(completed_call(deepgram.FunctionToCall("fc_1", "get_order"), " "))
    [item] = past.messages()
    assert item["function_calls"][0]["response"] == "null"


@pytest.mark.parametrize("name", ["", "get order", "functions.get_order", "x" * 65, "größe"])
def test_a_function_whose_name_no_model_takes_is_not_told(name: str) -> None:
    past = Past()
    past.call_function(completed_call(deepgram.FunctionToCall("fc_1", name), "1"))
    assert past.messages() == []


def test_ids_that_a_model_refuses_are_others_and_none_stands_twice() -> None:
    past = Past()
    ids = ["", "a b", "x" * 41, "call_0", "fc_1", "fc_1", "7"]
    for id in ids:
        past.call_function(called(id=id))
    told = [item["function_calls"][0]["id"] for item in past.messages()]
    assert told[4] == "fc_1"
    assert told[6] == "7"
    assert len(set(told)) == len(ids)
    assert all(re.fullmatch("[a-zA-Z0-9_-]{1,40}", id) for id in told)


# --- what is still to be answered -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "owed"),
    [
        ([], None),
        ([("says", "Hello.", 0, SECOND)], None),
        ([("says", "Hello.", 0, SECOND), ("hear_user", "Where is it?")], "Where is it?"),
        ([("hear_user", "Where is it?"), ("says", "Here.", 0, SECOND)], None),
        # Text alone is no answer: nobody has heard it.
        ([("hear_user", "Where is it?"), ("hear_agent", "He", 0)], "Where is it?"),
        ([("hear_user", "Where?"), ("hear_agent", "He", 0), ("finish", 0)], "Where?"),
        ([("hear_user", "Where?"), ("says", "He", 0, SECOND), ("hear_agent", "re", 9)], None),
        ([("hear_user", "Where is it?"), ("hear_audio", 0)], ""),
        ([("hear_user", "Where is it?"), ("call_function", called())], ""),
        ([("hear_user", "One."), ("hear_user", "Two.")], "Two."),
    ],
)
def test_an_answer_is_owed_to_what_was_said_or_done_last(
    steps: list[tuple[Any, ...]], owed: str | None
) -> None:
    past = Past()
    for method, *arguments in steps:
        getattr(past, method)(*arguments)
    assert past.unanswered == owed


def test_what_is_said_anew_is_forgotten_before() -> None:
    past = Past()
    past.hear_user("One.")
    past.hear_user("Two.")
    past.forget_last()
    assert past.messages() == [user("One.")]


def test_a_late_result_takes_the_place_of_what_was_told_meanwhile() -> None:
    past = Past()
    past.call_function(called("no result yet"))
    past.call_function(called("done"), is_late=True)
    assert [item["function_calls"][0]["response"] for item in past.messages()] == ["done"]


def test_what_is_played_on_without_words_has_not_the_words_of_an_earlier_cut() -> None:
    history = History()
    history.hear_agent("Yes.", 0)
    history.hear_audio(0)
    history.cut(0, 1600)
    history.hear_audio(1600)  # somebody laughs
    history.cut(1600, 3200)
    history.resume(3200)
    assert history.messages() == []

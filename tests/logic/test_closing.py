"""How a call comes to its end: the goodbye alone, then the closing in each of its states."""

from collections.abc import Callable
from math import inf

import pytest

from sts_trio.errors import Cause, Ending
from sts_trio.logic.closing import (
    MAX_GOODBYE_SECONDS,
    WORDS_WITHIN,
    Closing,
    ClosingNews,
    LastWords,
    Over,
    SayGoodbye,
)
from sts_trio.logic.hearing_out import LONGEST_WORDS, HearingOut
from sts_trio.logic.states import ClosingState


def begun() -> HearingOut:
    return HearingOut.begin(0.0, WORDS_WITHIN, MAX_GOODBYE_SECONDS)


def test_a_goodbye_ends_once_it_is_said_and_heard() -> None:
    goodbye = begun()
    goodbye.hear_words(1.0)
    assert not goodbye.is_over(1.0, is_heard=False)
    assert not goodbye.is_over(1.0, is_heard=True)
    goodbye.is_said = True
    assert not goodbye.is_over(1.0, is_heard=False)
    assert goodbye.is_over(1.0, is_heard=True)


def test_who_says_nothing_for_four_seconds_says_nothing() -> None:
    goodbye = begun()
    assert goodbye.deadline(0.0) == 4
    assert not goodbye.is_over(3.9, is_heard=True)
    assert goodbye.is_over(4.0, is_heard=True)


def test_words_put_it_off_until_four_seconds_after_their_end() -> None:
    goodbye = begun()
    goodbye.hear_words(2.5)
    goodbye.hear_words(2.0)
    assert goodbye.deadline(2.0) == 6.5
    assert goodbye.is_over(6.5, is_heard=True)


def test_what_was_said_before_the_functions_answer_is_no_goodbye() -> None:
    goodbye = begun()
    goodbye.is_said = True
    goodbye.wait_for_words(1.0)
    assert not goodbye.is_over(1.0, is_heard=True)
    assert goodbye.deadline(1.0) == 5


def test_after_fifteen_seconds_without_a_word_it_is_over() -> None:
    goodbye = begun()
    goodbye.wait_for_words(12.0)
    assert goodbye.deadline(12.0) == 15
    assert not goodbye.is_over(14.9, is_heard=False)
    assert goodbye.is_over(15.0, is_heard=False)


def test_nobody_is_cut_off_in_the_middle_of_what_they_hear() -> None:
    goodbye = begun()
    goodbye.hear_words(60.0)
    assert not goodbye.is_over(61.9, is_heard=False)
    assert goodbye.is_over(62.0, is_heard=False), "the marks of that phone do not come"


def test_a_goodbye_without_end_has_one() -> None:
    goodbye = begun()
    goodbye.hear_words(600.0)
    assert not goodbye.is_over(LONGEST_WORDS - 0.1, is_heard=False)
    assert goodbye.is_over(LONGEST_WORDS, is_heard=False)


def test_a_deadline_that_passed_in_vain_is_not_waited_for_again() -> None:
    goodbye = begun()
    assert not goodbye.is_over(4.0, is_heard=False)
    assert goodbye.deadline(4.0) == 15
    goodbye.is_said = True
    assert goodbye.deadline(0.0) == 15


# --- the closing of the call ------------------------------------------------------------------

N, G, W, V = ClosingState
HUNG_UP = Ending(Cause.HUNG_UP)
LOST = Ending(Cause.AGENT_LOST)
STOPPED = Ending(Cause.STOP)
APOLOGY = b"\x22" * 8000


def reach(state: ClosingState) -> Closing:
    closing = Closing()
    if state is G:
        assert closing.close(HUNG_UP, 0.0, is_live=True) == SayGoodbye()
    elif state is W:
        assert closing.close(HUNG_UP, 0.0, is_live=False) == LastWords(b"")
    elif state is V:
        assert closing.end(STOPPED, 0.0) == Over(STOPPED)
    assert closing.state is state
    return closing


Do = Callable[[Closing], ClosingNews | None]


def close(closing: Closing) -> ClosingNews | None:
    return closing.close(Ending(Cause.TIME_UP), 0.0, is_live=True)


def close_without_session(closing: Closing) -> ClosingNews | None:
    return closing.close(Ending(Cause.TIME_UP), 0.0, is_live=False)


def down(closing: Closing) -> ClosingNews | None:
    return closing.session_down(LOST, b"", 0.0)


def down_with_apology(closing: Closing) -> ClosingNews | None:
    return closing.session_down(LOST, APOLOGY, 0.0)


def finished(closing: Closing) -> ClosingNews | None:
    return closing.session_finished(Ending(Cause.AGENT_FINISHED), 0.0, is_heard=True)


def finished_unheard(closing: Closing) -> ClosingNews | None:
    return closing.session_finished(Ending(Cause.AGENT_FINISHED), 0.0, is_heard=False)


def end(closing: Closing) -> ClosingNews | None:
    return closing.end(STOPPED, 0.0)


@pytest.mark.parametrize(
    ("state", "do", "news", "next_state"),
    [
        (N, close, SayGoodbye(), G),
        (N, close_without_session, LastWords(b""), W),
        (N, down, Over(LOST), V),
        (N, down_with_apology, LastWords(APOLOGY), W),
        (N, finished, Over(Ending(Cause.AGENT_FINISHED)), V),
        (N, finished_unheard, LastWords(b""), W),
        (N, end, Over(STOPPED), V),
        (G, close, None, G),
        (G, close_without_session, None, G),
        (G, down, LastWords(b""), W),
        (G, down_with_apology, LastWords(b""), W),
        (G, finished, Over(HUNG_UP), V),
        (G, finished_unheard, LastWords(b""), W),
        (G, end, Over(STOPPED), V),
        (W, close, None, W),
        (W, close_without_session, None, W),
        (W, down, None, W),
        (W, down_with_apology, None, W),
        (W, finished, None, W),
        (W, finished_unheard, None, W),
        (W, end, Over(STOPPED), V),
        *((V, do, None, V) for do in (close, down, down_with_apology, finished, end)),
    ],
)
def test_what_brings_a_call_nearer_to_its_end(
    state: ClosingState, do: Do, news: ClosingNews | None, next_state: ClosingState
) -> None:
    closing = reach(state)
    assert do(closing) == news
    assert closing.state is next_state
    assert (closing.is_open, closing.is_over) == (next_state is N, next_state is V)


@pytest.mark.parametrize("state", [N, V])
def test_a_call_that_is_not_closing_has_nothing_to_settle(state: ClosingState) -> None:
    closing = reach(state)
    closing.hear_words(5.0)
    closing.hear_end_of_words()
    closing.wait_for_words(5.0)
    assert closing.deadline(0.0) == inf
    assert closing.settle(1e9, is_heard=True) is None


def test_a_goodbye_that_is_said_and_heard_ends_the_call_as_was_asked() -> None:
    closing = reach(G)
    assert closing.deadline(0.0) == 4
    closing.hear_words(3.0)
    assert closing.deadline(0.0) == 7
    assert closing.settle(3.0, is_heard=True) is None
    closing.hear_end_of_words()
    assert closing.settle(3.0, is_heard=False) is None
    closing.wait_for_words(3.5)
    assert closing.settle(3.5, is_heard=True) is None
    closing.hear_end_of_words()
    assert closing.settle(4.0, is_heard=True) == Over(HUNG_UP)


def test_last_words_have_until_two_seconds_after_their_end() -> None:
    closing = reach(W)
    assert closing.deadline(0.0) == 2
    closing.hear_words(1.5)
    assert closing.deadline(0.0) == 3.5
    assert closing.settle(3.4, is_heard=False) is None
    assert closing.settle(3.5, is_heard=False) == Over(HUNG_UP)


def test_last_words_that_were_heard_are_not_waited_for() -> None:
    closing = Closing()
    down_with_apology(closing)
    ending = Ending(Cause.AGENT_LOST, apologised=True)
    assert closing.settle(0.1, is_heard=True) == Over(ending)


def test_words_are_uninterruptible_for_as_many_as_asked_and_in_a_goodbye() -> None:
    closing = Closing()
    assert not closing.is_uninterruptible
    closing.protect(is_over=False)
    closing.protect(is_over=False)
    closing.protect(is_over=True)
    assert closing.is_uninterruptible
    closing.protect(is_over=True)
    assert not closing.is_uninterruptible
    assert reach(G).is_uninterruptible
    assert not reach(W).is_uninterruptible

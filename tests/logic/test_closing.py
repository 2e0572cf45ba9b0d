"""How a call comes to its end: the goodbye alone, then the closing in each of its states."""

from collections.abc import Callable
from math import inf

import pytest

from sts_trio.errors import Cause, Ending
from sts_trio.logic.acts import CallReleased
from sts_trio.logic.closing import (
    MAX_GOODBYE_SECONDS,
    WORDS_WITHIN,
    Closing,
    ClosingNews,
    GoOn,
    LastWords,
    LetAgentGo,
    Over,
    Release,
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

N, G, W, R, V = ClosingState
HUNG_UP = Ending(Cause.HUNG_UP)
LOST = Ending(Cause.AGENT_LOST)
STOPPED = Ending(Cause.STOP)
SHUTDOWN = Ending(Cause.SHUTDOWN)
TRANSFERRED = Ending(Cause.TRANSFERRED, "+15005550020")
APOLOGY = b"\x22" * 8000


def reach(state: ClosingState) -> Closing:
    closing = Closing()
    if state is G:
        assert closing.close(HUNG_UP, 0.0, is_live=True) == SayGoodbye()
    elif state is W:
        assert closing.close(HUNG_UP, 0.0, is_live=False) == LastWords(b"")
    elif state is R:
        closing = releasing(HUNG_UP)
    elif state is V:
        assert closing.end(STOPPED, 0.0) == Over(STOPPED)
    assert closing.state is state
    return closing


def releasing(ending: Ending) -> Closing:
    """Of a phone call that Twilio has to be asked to end."""
    closing = Closing()
    closing.needs_release = True
    assert closing.close(ending, 0.0, is_live=True) == SayGoodbye()
    closing.hear_end_of_words()
    assert closing.settle(0.0, is_heard=True) == Release(ending)
    assert closing.state is R
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


def shut_down(closing: Closing) -> ClosingNews | None:
    return closing.end(SHUTDOWN, 0.0)


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
        (R, close, None, R),
        (R, close_without_session, None, R),
        (R, down, LetAgentGo(), R),
        (R, down_with_apology, LetAgentGo(), R),
        (R, finished, LetAgentGo(), R),
        (R, finished_unheard, LetAgentGo(), R),
        (R, end, None, R),
        (R, shut_down, Over(SHUTDOWN), V),
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


@pytest.mark.parametrize("state", [N, R, V])
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
    assert reach(R).is_uninterruptible
    assert not reach(W).is_uninterruptible


# --- what comes of asking Twilio ----------------------------------------------------------------

DONE = CallReleased()
WAS_OVER = CallReleased(was_over=True)
FAILED = CallReleased("HTTP 401")
NOT_HUNG_UP = Ending(Cause.NOT_HUNG_UP, "HTTP 401")
NOT_TRANSFERRED = Ending(Cause.NOT_TRANSFERRED, "HTTP 401")


@pytest.mark.parametrize(
    ("planned", "result", "has_left", "ending"),
    [
        (HUNG_UP, DONE, False, HUNG_UP),
        (HUNG_UP, DONE, True, HUNG_UP),
        (HUNG_UP, WAS_OVER, False, HUNG_UP),
        (HUNG_UP, FAILED, False, NOT_HUNG_UP),
        (HUNG_UP, FAILED, True, HUNG_UP),
        (Ending(Cause.SILENCE), FAILED, False, NOT_HUNG_UP),
        (Ending(Cause.TIME_UP), FAILED, False, NOT_HUNG_UP),
        (TRANSFERRED, DONE, False, TRANSFERRED),
        # The stream of a call that is transferred is stopped by Twilio.
        (TRANSFERRED, DONE, True, TRANSFERRED),
        (TRANSFERRED, WAS_OVER, False, STOPPED),
        (TRANSFERRED, WAS_OVER, True, STOPPED),
        (TRANSFERRED, FAILED, True, STOPPED),
        (TRANSFERRED, FAILED, False, NOT_TRANSFERRED),
    ],
)
def test_what_comes_of_it_decides_the_ending(
    planned: Ending, result: CallReleased, has_left: bool, ending: Ending
) -> None:
    closing = releasing(planned)
    if has_left:
        end(closing)
        closing.end(Ending(Cause.CALLER_LOST), 0.0)
    assert closing.released(result, b"", 1.0, is_live=False) == Over(ending)
    assert closing.is_over
    assert closing.released(result, b"", 1.0, is_live=False) is None


def test_who_was_not_transferred_has_the_agent_still() -> None:
    closing = releasing(TRANSFERRED)
    assert closing.released(FAILED, APOLOGY, 1.0, is_live=True) == GoOn("+15005550020", "HTTP 401")
    assert closing.is_open
    assert not closing.is_uninterruptible
    assert closing.close(HUNG_UP, 2.0, is_live=True) == SayGoodbye()
    assert closing.deadline(2.0) == 6
    closing.hear_end_of_words()
    assert closing.settle(3.0, is_heard=True) == Release(HUNG_UP)


def test_who_was_not_transferred_and_has_no_agent_hears_an_apology() -> None:
    closing = releasing(TRANSFERRED)
    assert down(closing) == LetAgentGo()
    assert closing.released(FAILED, APOLOGY, 1.0, is_live=False) == LastWords(APOLOGY)
    ending = Ending(Cause.NOT_TRANSFERRED, "HTTP 401", apologised=True)
    assert closing.settle(3.0, is_heard=False) == Over(ending)


@pytest.mark.parametrize("state", [N, G, W, V])
def test_nothing_comes_of_what_was_not_asked(state: ClosingState) -> None:
    assert reach(state).released(DONE, b"", 1.0, is_live=True) is None


def test_last_words_come_before_it_too_and_what_is_no_end_of_ours_needs_it_not() -> None:
    closing = Closing()
    closing.needs_release = True
    assert closing.close(HUNG_UP, 0.0, is_live=False) == LastWords(b"")
    assert closing.settle(0.0, is_heard=True) == Release(HUNG_UP)
    assert closing.deadline(0.0) == inf
    closing = Closing()
    closing.needs_release = True
    assert finished(closing) == Over(Ending(Cause.AGENT_FINISHED))

"""When the goodbye is over."""

from sts_trio.errors import Cause, Ending
from sts_trio.logic.closing import Goodbye


def begun() -> Goodbye:
    return Goodbye.begin(Ending(Cause.HUNG_UP), 0.0)


def test_a_goodbye_ends_once_it_is_said_and_heard() -> None:
    leaving = begun()
    leaving.hear_words(1.0)
    assert not leaving.is_over(1.0, is_heard=False)
    assert not leaving.is_over(1.0, is_heard=True)
    leaving.is_said = True
    assert not leaving.is_over(1.0, is_heard=False)
    assert leaving.is_over(1.0, is_heard=True)


def test_who_says_nothing_for_four_seconds_says_nothing() -> None:
    leaving = begun()
    assert leaving.deadline(0.0) == 4
    assert not leaving.is_over(3.9, is_heard=True)
    assert leaving.is_over(4.0, is_heard=True)


def test_words_put_it_off_until_four_seconds_after_their_end() -> None:
    leaving = begun()
    leaving.hear_words(2.5)
    leaving.hear_words(2.0)
    assert leaving.deadline(2.0) == 6.5
    assert leaving.is_over(6.5, is_heard=True)


def test_what_was_said_before_the_functions_answer_is_no_goodbye() -> None:
    leaving = begun()
    leaving.is_said = True
    leaving.wait_for_words(1.0)
    assert not leaving.is_over(1.0, is_heard=True)
    assert leaving.deadline(1.0) == 5


def test_after_fifteen_seconds_it_is_over_whatever_is_heard() -> None:
    leaving = begun()
    leaving.hear_words(60.0)
    assert leaving.deadline(0.0) == 15
    assert not leaving.is_over(14.9, is_heard=False)
    assert leaving.is_over(15.0, is_heard=False)


def test_a_deadline_that_passed_in_vain_is_not_waited_for_again() -> None:
    leaving = begun()
    assert not leaving.is_over(4.0, is_heard=False)
    assert leaving.deadline(4.0) == 15
    leaving.is_said = True
    assert leaving.deadline(0.0) == 15

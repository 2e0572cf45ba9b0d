"""Two clocks over what the agent owes: the caller's silence, and the agent's own."""

from math import inf

import pytest

from sts_trio.logic.answer_watch import LONGEST_THOUGHT, AnswerWatch, Debt, Due, Mute


def owing(debt: Debt = Debt.ANSWER, within: float = 5.0) -> AnswerWatch:
    watch = AnswerWatch(within)
    assert watch.owe(debt, 0.0, 0.0)
    return watch


def test_who_is_owed_nothing_waits_for_nothing() -> None:
    watch = AnswerWatch(5.0)
    assert watch.deadline == inf
    assert watch.due(10_000.0) is None
    watch.hear_turn(is_over=False)
    assert not watch.is_listening


def test_without_a_limit_nothing_is_watched() -> None:
    watch = AnswerWatch(inf)
    assert not watch.owe(Debt.ANSWER, 0.0, 0.0)
    watch.run_function(1.0, 0.0, is_running=True)
    assert (watch.is_owing, watch.is_waiting, watch.deadline) == (False, False, inf)


def test_words_are_due_after_each_stretch_of_silence() -> None:
    watch = owing()
    assert watch.deadline == 5
    assert watch.due(4.9) is None
    assert watch.due(5.0) is Due.WORDS
    assert watch.mute(5.0) == Mute(Debt.ANSWER, 5.0)
    watch.hear_words(5.0, 6.0)
    assert watch.due(5.0) is None
    assert watch.deadline == 11
    assert watch.mute(11.0) is None, "told once of a debt"
    assert watch.longest == 5


def test_words_that_nobody_has_recorded_are_due_as_often() -> None:
    watch = owing()
    watch.hear_words(5.0, 0.0)
    assert watch.deadline == 10
    watch.hear_sound(7.0)
    assert watch.longest == 7


def test_a_mute_session_is_given_up_and_after_three_of_them_there_is_no_other() -> None:
    watch = owing()
    for start in (0.0, 20.0):
        watch.hear_words(start + 14.0, start + 14.0)
        assert watch.due(start + 15.0) is Due.FRESH_SESSION
        assert watch.owe(Debt.SESSION, start + 15.0, 0.0)
        assert watch.due(start + 18.0) is None, "there is no session to be given up"
        assert watch.owe(Debt.REPLY, start + 20.0, 0.0)
    assert watch.due(55.0) is Due.NO_SESSION


def test_who_has_been_heard_in_between_is_not_given_up_for_good() -> None:
    watch = owing()
    for _ in range(9):
        assert watch.due(15.0) is Due.FRESH_SESSION
        watch.hear_sound(15.0)
        watch.owe(Debt.ANSWER, 0.0, 0.0)


def test_a_sign_of_life_puts_the_fresh_session_off_but_not_the_words_and_not_for_ever() -> None:
    watch = owing()
    watch.hear_warning("SLOW_THINK_REQUEST", 4.0)
    assert watch.due(5.0) is Due.WORDS
    watch.hear_words(14.0, 14.0)
    assert watch.due(15.0) is None
    watch.hear_warning("PROMPT_TOO_LONG", 18.0)
    assert watch.due(18.9) is None
    assert watch.due(19.0) is Due.FRESH_SESSION
    for second in range(0, 60, 5):
        watch.hear_sign(float(second))
    watch.hear_words(59.0, 59.0)
    assert watch.due(LONGEST_THOUGHT - 0.1) is None
    assert watch.due(LONGEST_THOUGHT) is Due.FRESH_SESSION


def test_neither_another_question_nor_another_debt_sets_the_clocks_back() -> None:
    watch = owing()
    assert not watch.owe(Debt.ANSWER, 4.0, 0.0)
    assert not watch.owe(Debt.REPLY, 4.5, 0.0)
    assert watch.due(5.0) is Due.WORDS
    watch.hear_words(14.0, 14.0)
    assert watch.due(15.0) is Due.FRESH_SESSION


def test_what_came_of_a_function_is_owed_from_then_on() -> None:
    watch = owing()
    watch.run_function(1.0, 0.0, is_running=True)
    watch.run_function(2.0, 0.0, is_running=True)
    assert watch.due(5.0) is Due.WORDS, "the caller hears nothing all the same"
    watch.hear_words(19.0, 19.0)
    assert watch.due(20.0) is None
    assert watch.owe(Debt.RESULT, 20.0, 0.0)
    watch.run_function(20.0, 0.0, is_running=False)
    watch.hear_words(34.0, 34.0)
    assert watch.due(34.9) is None
    assert watch.due(35.0) is Due.FRESH_SESSION


def test_a_function_that_nobody_waited_for_is_no_debt_but_no_silence_either() -> None:
    watch = AnswerWatch(5.0)
    watch.run_function(1.0, 2.0, is_running=True)
    assert (watch.is_owing, watch.is_waiting, watch.deadline) == (False, True, 7)
    assert watch.due(7.0) is Due.WORDS
    assert watch.mute(7.0) is None
    watch.run_function(9.0, 2.0, is_running=False)
    assert not watch.is_waiting


def test_what_the_agent_was_saying_before_is_not_what_it_owes() -> None:
    watch = AnswerWatch(5.0)
    watch.owe(Debt.RESULT, 0.0, 0.0, is_amid=True)
    watch.hear_sound(1.0)
    assert watch.is_owing
    assert watch.deadline == 6
    watch.hear_next()
    watch.hear_sound(2.0)
    assert not watch.is_owing


def test_silence_begins_where_what_is_played_ends_and_where_it_is_cut() -> None:
    watch = AnswerWatch(5.0)
    watch.owe(Debt.ANSWER, 0.0, 3.0)
    assert watch.deadline == 8
    watch.hear_playing(1.0, 4.0)
    assert watch.deadline == 9
    watch.hear_cut(2.0)
    assert watch.deadline == 7
    watch.forgive(6.0)
    assert watch.longest == 4
    watch.hear_cut(7.0)
    assert watch.deadline == inf


def test_what_a_noise_has_cut_is_gone_on_with_once() -> None:
    watch = owing(Debt.REST)
    assert watch.deadline == 3
    assert watch.due(3.0) is Due.GO_ON
    assert watch.due(3.0) is None
    assert watch.owe(Debt.REPLY, 3.0, 0.0)
    assert watch.deadline == 5, "the caller has heard nothing since"


def test_words_after_a_cut_are_a_question_of_their_own() -> None:
    watch = owing(Debt.REST)
    watch.owe(Debt.ANSWER, 2.5, 0.0)
    assert watch.deadline == 7.5


def test_while_the_caller_is_to_be_heard_nothing_is_said_into_it() -> None:
    watch = owing()
    watch.hear_turn(is_over=False)
    assert watch.is_listening
    for step in range(200):
        watch.hear_voice(1.0 + step * 0.02, 0.02)
    assert watch.deadline == pytest.approx(9)
    watch.hear_turn(is_over=True)
    assert not watch.is_listening


def test_nothing_is_said_between_two_words_of_the_callers() -> None:
    watch = owing()
    watch.hear_turn(is_over=False)
    watch.hear_voice(4.9, 0.02)
    assert watch.deadline == pytest.approx(5.6)


def test_whoever_goes_on_speaking_after_a_cut_is_let_speak() -> None:
    watch = owing(Debt.REST)
    watch.hear_turn(is_over=False)
    watch.hear_voice(2.9, 0.02)
    assert watch.deadline == pytest.approx(5.9)


def test_a_noise_that_never_ends_is_no_speech() -> None:
    watch = owing()
    watch.hear_turn(is_over=False)
    for step in range(1000):
        watch.hear_voice(step * 0.02, 0.02)
    assert not watch.is_listening
    assert watch.due(20.1) is Due.WORDS


def test_at_the_calls_end_nothing_is_owed_any_more() -> None:
    watch = owing()
    watch.run_function(1.0, 0.0, is_running=True)
    watch.close(3.0)
    assert (watch.is_owing, watch.is_waiting, watch.deadline, watch.longest) == (
        False,
        False,
        inf,
        3,
    )


def test_who_has_been_answered_waits_for_nothing_more() -> None:
    watch = owing()
    watch.hear_sound(1.0)
    assert (watch.is_waiting, watch.deadline) == (False, inf)


def test_a_debt_that_is_no_answer_leaves_the_callers_turn_as_it_is() -> None:
    watch = owing()
    watch.hear_turn(is_over=False)
    watch.owe(Debt.REPLY, 1.0, 0.0)
    assert watch.is_listening
    watch.owe(Debt.ANSWER, 2.0, 0.0)
    assert not watch.is_listening, "the agent has heard the end of it"

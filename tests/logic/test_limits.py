"""When a silent line is asked after, and when it and the longest call end."""

from math import inf

from sts_trio.logic.limits import Limits, Step
from sts_trio.logic.policy import CallPolicy

POLICY = CallPolicy(ask_after=30.0, hang_up_after=20.0, longest=600.0, warn_before=60.0)


def begun(policy: CallPolicy = POLICY) -> Limits:
    limits = Limits(policy)
    limits.open_session(0.0)
    return limits


def test_before_the_two_sides_can_talk_nothing_is_due() -> None:
    limits = Limits(POLICY)
    limits.hear_caller(1.0)
    limits.hear_agent(2.0)
    assert limits.deadline == inf
    assert limits.due(10_000.0) is None


def test_by_default_nothing_is_ever_due() -> None:
    limits = begun(CallPolicy())
    assert limits.deadline == inf
    assert limits.due(10_000.0) is None


def test_silence_is_asked_after_and_then_left() -> None:
    limits = begun()
    assert limits.deadline == 30
    assert limits.due(29.9) is None
    assert limits.due(30.0) is Step.ASK
    assert limits.due(30.0) is None
    assert limits.is_asking
    limits.hear_question()
    assert limits.deadline == 50
    assert limits.due(50.0) is Step.HANG_UP
    assert limits.due(50.0) is None
    assert limits.deadline == 540  # the longest call


def test_the_time_to_leave_counts_from_the_end_of_the_question() -> None:
    limits = begun()
    assert limits.due(30.0) is Step.ASK
    limits.hear_question()
    limits.hear_agent(32.0)
    assert limits.due(51.9) is None
    assert limits.due(52.0) is Step.HANG_UP


def test_a_sign_of_the_caller_begins_it_anew() -> None:
    limits = begun()
    assert limits.due(30.0) is Step.ASK
    limits.hear_caller(40.0)
    assert limits.deadline == 70
    assert limits.due(70.0) is Step.ASK


def test_what_the_caller_cuts_off_is_not_waited_for() -> None:
    limits = begun()
    limits.hear_agent(25.0)
    limits.hear_caller(10.0)
    assert limits.deadline == 40


def test_the_agents_speech_is_no_silence_but_no_sign_of_the_caller_either() -> None:
    limits = begun()
    limits.hear_agent(25.0)
    limits.hear_agent(20.0)
    assert limits.deadline == 55
    assert limits.due(55.0) is Step.ASK
    limits.hear_question()
    limits.hear_agent(100.0)
    assert limits.due(120.0) is Step.HANG_UP


def test_a_fresh_session_begins_the_silence_anew_but_not_the_call() -> None:
    limits = begun()
    limits.open_session(25.0)
    assert limits.deadline == 55
    limits.hear_caller(535.0)
    assert limits.due(540.0) is Step.WARN
    limits.open_session(541.0)
    limits.hear_caller(595.0)
    assert limits.due(599.9) is None
    assert limits.due(600.0) is Step.END
    assert limits.deadline == inf
    assert limits.due(10_000.0) is None


def test_a_call_too_short_for_a_warning_has_none() -> None:
    limits = begun(CallPolicy(longest=60.0, warn_before=60.0))
    assert limits.deadline == 60
    assert limits.due(60.0) is Step.END


def test_of_several_steps_at_once_the_end_comes_first() -> None:
    limits = begun()
    assert limits.due(600.0) is Step.END
    assert limits.due(600.0) is None


def test_without_a_session_nothing_is_due_and_the_calls_own_time_runs_on() -> None:
    limits = begun()
    limits.close_session(10.0)
    assert limits.deadline == inf
    assert limits.due(40.0) is None
    limits.open_session(41.0)
    assert limits.deadline == 71
    assert limits.due(600.0) is Step.END


def test_who_was_not_to_be_heard_asking_asks_again_and_leaves_nobody() -> None:
    limits = begun()
    assert limits.due(30.0) is Step.ASK
    limits.hear_agent(33.0)
    assert limits.deadline == 40
    assert limits.due(39.9) is None
    assert limits.due(40.0) is Step.ASK
    assert limits.due(49.9) is None
    limits.hear_caller(45.0)
    assert not limits.is_asking
    assert limits.deadline == 75

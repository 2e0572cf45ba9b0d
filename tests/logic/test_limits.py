"""When a silent line is asked after, and when it and the longest call end."""

from math import inf

from sts_trio.logic.limits import Limits, Step
from sts_trio.logic.policy import CallPolicy

MANNERS = CallPolicy(ask_after=30.0, hang_up_after=20.0, longest=600.0, warn_before=60.0)


def begun(manners: CallPolicy = MANNERS) -> Limits:
    patience = Limits(manners)
    patience.open_session(0.0)
    return patience


def test_before_the_two_sides_can_talk_nothing_is_due() -> None:
    patience = Limits(MANNERS)
    patience.hear_caller(1.0)
    patience.hear_agent(2.0)
    assert patience.deadline == inf
    assert patience.due(10_000.0) is None


def test_by_default_nothing_is_ever_due() -> None:
    patience = begun(CallPolicy())
    assert patience.deadline == inf
    assert patience.due(10_000.0) is None


def test_silence_is_asked_after_and_then_left() -> None:
    patience = begun()
    assert patience.deadline == 30
    assert patience.due(29.9) is None
    assert patience.due(30.0) is Step.ASK
    assert patience.due(30.0) is None
    assert patience.deadline == 50
    assert patience.due(50.0) is Step.HANG_UP
    assert patience.due(50.0) is None
    assert patience.deadline == 540  # the longest call


def test_the_time_to_leave_counts_from_the_end_of_the_question() -> None:
    patience = begun()
    assert patience.due(30.0) is Step.ASK
    patience.hear_agent(32.0)
    assert patience.due(51.9) is None
    assert patience.due(52.0) is Step.HANG_UP


def test_a_sign_of_the_caller_begins_it_anew() -> None:
    patience = begun()
    assert patience.due(30.0) is Step.ASK
    patience.hear_caller(40.0)
    assert patience.deadline == 70
    assert patience.due(70.0) is Step.ASK


def test_what_the_caller_cuts_off_is_not_waited_for() -> None:
    patience = begun()
    patience.hear_agent(25.0)
    patience.hear_caller(10.0)
    assert patience.deadline == 40


def test_the_agents_speech_is_no_silence_but_no_sign_of_the_caller_either() -> None:
    patience = begun()
    patience.hear_agent(25.0)
    patience.hear_agent(20.0)
    assert patience.deadline == 55
    assert patience.due(55.0) is Step.ASK
    patience.hear_agent(100.0)
    assert patience.due(120.0) is Step.HANG_UP


def test_a_fresh_session_begins_the_silence_anew_but_not_the_call() -> None:
    patience = begun()
    patience.open_session(25.0)
    assert patience.deadline == 55
    patience.hear_caller(535.0)
    assert patience.due(540.0) is Step.WARN
    patience.open_session(541.0)
    patience.hear_caller(595.0)
    assert patience.due(599.9) is None
    assert patience.due(600.0) is Step.END
    assert patience.deadline == inf
    assert patience.due(10_000.0) is None


def test_a_call_too_short_for_a_warning_has_none() -> None:
    patience = begun(CallPolicy(longest=60.0, warn_before=60.0))
    assert patience.deadline == 60
    assert patience.due(60.0) is Step.END


def test_of_several_steps_at_once_the_end_comes_first() -> None:
    patience = begun()
    assert patience.due(600.0) is Step.END
    assert patience.due(600.0) is None


def test_without_a_session_nothing_is_due_and_the_calls_own_time_runs_on() -> None:
    patience = begun()
    patience.close_session(10.0)
    assert patience.deadline == inf
    assert patience.due(40.0) is None
    patience.open_session(41.0)
    assert patience.deadline == 71
    assert patience.due(600.0) is Step.END

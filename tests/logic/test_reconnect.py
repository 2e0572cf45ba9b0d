"""When a lost agent is dialled again."""

from math import inf

from sts_trio.logic.reconnect import Reconnect


def test_a_lost_agent_is_dialled_at_once_and_a_failed_dial_repeated_a_second_later() -> None:
    reconnect = Reconnect()
    assert not reconnect.is_on
    assert reconnect.redial(10.0)
    assert reconnect.dial_deadline == 10
    reconnect.begin_gap(10.0, 0.0)
    assert reconnect.is_on
    assert reconnect.redial(10.3)
    assert reconnect.dial_deadline == 11.3
    assert reconnect.count == 2


def test_there_are_at_most_two_redials_in_a_minute() -> None:
    reconnect = Reconnect()
    assert reconnect.redial(0.0)
    assert reconnect.redial(30.0)
    assert not reconnect.redial(59.9)
    assert reconnect.redial(60.0)
    assert not reconnect.redial(89.9)
    assert reconnect.redial(90.0)
    assert reconnect.count == 4


def test_when_it_is_given_up_nothing_is_due_any_more() -> None:
    reconnect = Reconnect()
    reconnect.redial(0.0)
    reconnect.begin_gap(0.0, 0.0)
    reconnect.redial(1.0)
    assert not reconnect.redial(3.0)
    assert not reconnect.is_on
    assert reconnect.deadline == inf


def test_the_caller_is_told_something_after_a_moment_of_silence_and_again() -> None:
    reconnect = Reconnect()
    reconnect.begin_gap(10.0, 0.0)
    assert reconnect.deadline == 10.7
    reconnect.hear_filler(11.2)
    assert reconnect.deadline == 14.2


def test_what_still_plays_is_no_silence() -> None:
    reconnect = Reconnect()
    reconnect.begin_gap(10.0, 12.0)
    assert reconnect.deadline == 12.7


def test_a_gap_lasts_from_the_first_loss_to_the_fresh_session() -> None:
    reconnect = Reconnect()
    assert reconnect.redial(10.0)
    reconnect.begin_gap(10.0, 0.0)
    reconnect.begin_gap(11.0, 0.0)
    assert reconnect.succeed(12.0) == (2.0, True)
    assert not reconnect.is_on
    assert reconnect.deadline == inf
    reconnect.begin_gap(20.0, 0.0)
    assert reconnect.succeed(23.0) == (3.0, False), "let go, not lost"
    assert reconnect.longest == 2.0

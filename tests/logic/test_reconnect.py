"""When a lost agent is dialled again."""

from math import inf

from sts_trio.logic.reconnect import Reconnect


def test_a_lost_agent_is_dialled_at_once_and_a_failed_dial_repeated_a_second_later() -> None:
    recovery = Reconnect()
    assert not recovery.is_on
    assert recovery.redial(10.0)
    assert recovery.dial_deadline == 10
    recovery.begin_gap(10.0, 0.0)
    assert recovery.is_on
    assert recovery.redial(10.3)
    assert recovery.dial_deadline == 11.3
    assert recovery.count == 2


def test_there_are_at_most_two_redials_in_a_minute() -> None:
    recovery = Reconnect()
    assert recovery.redial(0.0)
    assert recovery.redial(30.0)
    assert not recovery.redial(59.9)
    assert recovery.redial(60.0)
    assert not recovery.redial(89.9)
    assert recovery.redial(90.0)
    assert recovery.count == 4


def test_when_it_is_given_up_nothing_is_due_any_more() -> None:
    recovery = Reconnect()
    recovery.redial(0.0)
    recovery.begin_gap(0.0, 0.0)
    recovery.redial(1.0)
    assert not recovery.redial(3.0)
    assert not recovery.is_on
    assert recovery.deadline == inf


def test_the_caller_is_told_something_after_a_moment_of_silence_and_again() -> None:
    recovery = Reconnect()
    recovery.begin_gap(10.0, 0.0)
    assert recovery.deadline == 10.7
    recovery.hear_filler(11.2)
    assert recovery.deadline == 14.2


def test_what_still_plays_is_no_silence() -> None:
    recovery = Reconnect()
    recovery.begin_gap(10.0, 12.0)
    assert recovery.deadline == 12.7


def test_a_gap_lasts_from_the_first_loss_to_the_fresh_session() -> None:
    recovery = Reconnect()
    assert recovery.redial(10.0)
    recovery.begin_gap(10.0, 0.0)
    recovery.begin_gap(11.0, 0.0)
    assert recovery.succeed(12.0) == (2.0, True)
    assert not recovery.is_on
    assert recovery.deadline == inf
    recovery.begin_gap(20.0, 0.0)
    assert recovery.succeed(23.0) == (3.0, False), "let go, not lost"
    assert recovery.longest == 2.0

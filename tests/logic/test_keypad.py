"""Keys for those who collect digits, and for the agent."""

from math import inf

import pytest

from sts_trio.logic.acts import Collect, Collected
from sts_trio.logic.keypad import MAX_COLLECTORS, MAX_KEYS, PAUSE, Keypad


def wanted(number: int = 1, *, most: int = 4, finish: str = "#") -> Collect:
    return Collect(number, most, finish, within=10.0, between=3.0)


def pressed(keypad: Keypad, keys: str, now: float = 0.0) -> list[Collected]:
    return [collected for key in keys for collected in keypad.press(key, now)]


def test_digits_are_collected_until_there_are_enough() -> None:
    keypad = Keypad()
    assert keypad.collect(wanted(most=4), 0.0) == []
    assert pressed(keypad, "471") == []
    assert pressed(keypad, "1") == [Collected(1, "4711")]
    assert keypad.deadline == inf


def test_digits_are_collected_until_a_key_that_ends_them() -> None:
    keypad = Keypad()
    keypad.collect(wanted(finish="#*"), 0.0)
    assert pressed(keypad, "47*") == [Collected(1, "47")]
    keypad.collect(wanted(2), 0.0)
    assert pressed(keypad, "#") == [Collected(2, "")]


def test_without_a_key_that_ends_them_all_keys_are_digits() -> None:
    keypad = Keypad()
    keypad.collect(wanted(finish=""), 0.0)
    assert pressed(keypad, "*#0A") == [Collected(1, "*#0A")]


def test_who_presses_nothing_has_ten_seconds() -> None:
    keypad = Keypad()
    keypad.collect(wanted(), 5.0)
    assert keypad.deadline == 15
    assert keypad.tick(14.9) == ([], "")
    assert keypad.tick(15) == ([Collected(1, "")], "")
    assert keypad.deadline == inf


def test_between_two_keys_there_may_be_three_seconds_but_all_have_to_come_within_ten() -> None:
    keypad = Keypad()
    keypad.collect(wanted(), 0.0)
    keypad.press("1", 2.0)
    assert keypad.deadline == 5
    keypad.press("2", 4.5)
    assert keypad.deadline == 7.5
    keypad.press("3", 7.4)
    assert keypad.deadline == 10
    assert keypad.tick(10) == ([Collected(1, "123")], "")


def test_collectors_are_served_in_turn_and_each_key_goes_to_one() -> None:
    keypad = Keypad()
    keypad.collect(wanted(1, most=2), 0.0)
    keypad.collect(wanted(2, most=2), 0.0)
    assert pressed(keypad, "1234") == [Collected(1, "12"), Collected(2, "34")]
    assert keypad.tick(100) == ([], "")


def test_a_collector_whose_time_is_up_leaves_the_keys_to_the_next() -> None:
    keypad = Keypad()
    keypad.collect(wanted(1), 0.0)
    keypad.collect(wanted(2, most=1), 1.0)
    assert keypad.tick(10) == ([Collected(1, "")], "")
    assert pressed(keypad, "7", 10.5) == [Collected(2, "7")]


def test_who_is_forgotten_gets_no_keys() -> None:
    keypad = Keypad()
    keypad.collect(wanted(1), 0.0)
    keypad.collect(wanted(2, most=1), 0.0)
    keypad.cancel(1, 0.0)
    keypad.cancel(9, 0.0)
    assert pressed(keypad, "7") == [Collected(2, "7")]


def test_an_eleventh_collector_gets_nothing_at_once() -> None:
    keypad = Keypad()
    for number in range(MAX_COLLECTORS):
        assert keypad.collect(wanted(number), 0.0) == []
    assert keypad.collect(wanted(99), 0.0) == [Collected(99, "")]


def test_keys_that_nobody_collects_are_gathered_until_there_is_a_pause() -> None:
    keypad = Keypad()
    pressed(keypad, "12", 0.0)
    keypad.press("3", 1.0)
    assert keypad.deadline == 1.0 + PAUSE
    assert keypad.tick(2.4) == ([], "")
    assert keypad.tick(2.5) == ([], "123")
    assert keypad.tick(9.0) == ([], "")
    assert keypad.deadline == inf


def test_a_child_at_play_fills_no_memory() -> None:
    keypad = Keypad()
    pressed(keypad, "0" * 100 + "1")
    assert keypad.tick(PAUSE) == ([], "0" * (MAX_KEYS - 1) + "1")


def test_what_is_no_key_is_nothing() -> None:
    keypad = Keypad()
    for digit in ("", "12", "x"):
        assert keypad.press(digit, 0.0) == []
    assert keypad.deadline == inf


def test_keys_that_nobody_was_told_of_belong_to_who_collects_next() -> None:
    keypad = Keypad()
    pressed(keypad, "12", 0.0)
    assert keypad.collect(wanted(most=4), 0.7) == []
    assert keypad.tick(0.0 + PAUSE) == ([], "")
    assert pressed(keypad, "34", 1.0) == [Collected(1, "1234")]
    assert keypad.deadline == inf


def test_between_the_last_key_that_was_typed_ahead_and_the_next_there_may_be_three_seconds() -> (
    None
):
    keypad = Keypad()
    pressed(keypad, "12", 0.0)
    keypad.collect(wanted(most=4), 1.0)
    assert keypad.deadline == 4
    assert keypad.tick(4) == ([Collected(1, "12")], "")


@pytest.mark.parametrize(
    ("keys", "collected", "left"),
    [("1234", "1234", ""), ("12#34", "12", "34"), ("12345", "1234", "5"), ("#12", "", "12")],
)
def test_of_keys_that_were_typed_ahead_those_behind_the_end_are_the_next_ones(
    keys: str, collected: str, left: str
) -> None:
    keypad = Keypad()
    pressed(keypad, keys, 0.0)
    assert keypad.collect(wanted(most=4), 0.7) == [Collected(1, collected)]
    assert keypad.tick(0.7 + PAUSE) == ([], left)


def test_keys_that_the_agent_was_told_of_are_nobodys() -> None:
    keypad = Keypad()
    pressed(keypad, "12", 0.0)
    assert keypad.tick(PAUSE) == ([], "12")
    keypad.collect(wanted(), PAUSE)
    assert pressed(keypad, "34#", 2.0) == [Collected(1, "34")]


def test_what_was_keyed_in_for_who_is_gone_is_the_next_ones() -> None:
    keypad = Keypad()
    keypad.collect(wanted(1), 0.0)
    keypad.collect(wanted(2, most=2), 0.0)
    pressed(keypad, "123", 1.0)
    assert keypad.cancel(1, 1.5) == [Collected(2, "12")]
    assert keypad.tick(1.5 + PAUSE) == ([], "3")


def test_a_key_that_ends_what_is_complete_is_no_answer_to_what_comes_next() -> None:
    keypad = Keypad()
    keypad.collect(wanted(1, most=4), 0.0)
    keypad.collect(wanted(2, most=4), 0.0)
    assert pressed(keypad, "1234#", 1.0) == [Collected(1, "1234")]
    assert pressed(keypad, "#", 1.1) == [Collected(2, "")]
    keypad.collect(wanted(3, most=1), 2.0)
    assert pressed(keypad, "5", 2.0) == [Collected(3, "5")]
    keypad.collect(wanted(4), 2.1)
    assert pressed(keypad, "#", 2.0 + PAUSE) == [Collected(4, "")]

"""Keys that a function has collected are in nothing that is told."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sts_trio.observe import events
from sts_trio.observe.collected import LEAST, MASK, CollectedKeys

CARD = "4929123456781234"


def collected(*keys: str) -> CollectedKeys:
    made = CollectedKeys()
    for each in keys:
        made.add(each)
    return made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CARD, MASK),
        ("the card is 4929 1234 5678 1234, thanks", f"the card is {MASK}, thanks"),
        ("-".join(CARD), MASK),
        (", ".join(CARD) + ".", f"{MASK}."),
        ("it ends in 1234.", f"it ends in {MASK}."),
        ("4929 and 1234", f"{MASK} and {MASK}"),
        (f"order 88{CARD}99", f"order 88{MASK}99"),
        ("order 77 of 4929", f"order 77 of {MASK}"),
        ("7", MASK),
        ("at 7 o'clock", "at 7 o'clock"),
        ("code 123.", f"code {MASK}."),
        ("other 999", "other 999"),
        ("", ""),
    ],
)
def test_they_are_hidden_however_they_are_written(text: str, expected: str) -> None:
    assert collected(CARD, "7", "123").without(text) == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ('{"choice": "7", "age": 17}', f'{{"choice":"{MASK}","age":17}}'),
        ('{"choice":7,"at":[7,8]}', f'{{"choice":"{MASK}","at":["{MASK}",8]}}'),
        ('"7"', f'"{MASK}"'),
        ("7", f'"{MASK}"'),
        ('{"said": "at 7 o\'clock"}', '{"said": "at 7 o\'clock"}'),
        (f'{{"card": {CARD}, "ok": true, "sum": 1.5}}', f'{{"card":"{MASK}","ok":true,"sum":1.5}}'),
        (f'{{"{CARD}": null}}', f'{{"{MASK}":null}}'),
        (f"no JSON: {CARD}", f"no JSON: {MASK}"),
        ("[" * 5000 + CARD + "]" * 5000, "[" * 5000 + MASK + "]" * 5000),
        ("[" * 600 + CARD + "]" * 600, None),
    ],
)
def test_a_value_in_json_is_hidden_also_if_it_is_short(told: str, expected: str | None) -> None:
    finished = events.FunctionFinished("fc_1", "pay", "done", 0.1, result=told)
    hidden = collected(CARD, "7").hidden(finished)
    assert isinstance(hidden, events.FunctionFinished)
    assert CARD not in (hidden.result or "")
    if expected is not None:
        assert hidden == events.FunctionFinished("fc_1", "pay", "done", 0.1, result=expected)


def test_keys_that_were_taken_one_by_one_are_one_number() -> None:
    assert collected(*"493827").without("Is 4938 27 right?") == f"Is {MASK} right?"


def test_who_calls_whom_is_told_as_before() -> None:
    event = events.CallEnded("stop", "success", "1500", 2.0, from_="+15005550001", to="anonymous")
    hidden = collected("15005550001").hidden(event)
    assert (hidden, event.from_) == (
        events.CallEnded("stop", "success", MASK, 2.0, from_="+15005550001", to="anonymous"),
        "+15005550001",
    )


@pytest.mark.parametrize("value", [CARD, int(CARD)])
def test_what_is_noted_is_hidden_whatever_it_is(value: str | int) -> None:
    assert collected(CARD).hidden(events.CallNoted("card", value)) == events.CallNoted("card", MASK)
    told = events.CallNoted("happy", True)
    assert collected(CARD).hidden(told) == told


def test_what_is_counted_stays() -> None:
    event = events.CallEnded("stop", "success", "", 7.0, barge_ins=7)
    assert collected("7").hidden(event) == event


def test_nothing_is_hidden_where_nothing_was_collected() -> None:
    assert collected("", "").without("1234") == "1234"


@given(
    st.lists(st.text("0123456789*#", min_size=1, max_size=19), min_size=1, max_size=4),
    st.text(max_size=20),
    st.text(max_size=20),
    st.sampled_from(["", " ", ", ", "-"]),
)
@example(["1", "2", "3", "4"], "9 ", "", "")
def test_a_number_that_was_collected_is_in_no_text(
    keys: list[str], before: str, after: str, between: str
) -> None:
    told = collected(*keys).without(before + between.join("".join(keys)) + after)
    number = "".join(keys)
    if len(number) >= LEAST:
        assert not re.search(r"[\s,.-]{0,3}".join(map(re.escape, number)), told)


@given(st.text())
def test_whatever_the_text_it_has_an_answer(text: str) -> None:
    hidden = collected(CARD, "7").hidden(events.FunctionCalled("fc_1", "pay", text, False))
    assert isinstance(hidden, events.FunctionCalled)

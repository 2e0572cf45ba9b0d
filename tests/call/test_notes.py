"""What a call's own code notes of it."""

from typing import Any

import pytest

from sts_trio.call.notes import MAX_NAME, MAX_NOTES, MAX_VALUE, Notes
from sts_trio.observe.events import CallNoted, OfCall


@pytest.fixture
def told() -> list[OfCall]:
    return []


@pytest.fixture
def notes(told: list[OfCall]) -> Notes:
    return Notes(told.append)


def test_each_note_is_told(notes: Notes, told: list[OfCall]) -> None:
    notes.add({"order": 4711, "mood": "good", "paid": True, "price": 9.5})
    assert told == [
        CallNoted("order", 4711),
        CallNoted("mood", "good"),
        CallNoted("paid", True),
        CallNoted("price", 9.5),
    ]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"x" * (MAX_NAME + 1): 1}, "a name of 64 letters at most"),
        ({"text": "x" * (MAX_VALUE + 1)}, "text: expected 1000 letters at most, got 1001"),
        ({"items": ["x"]}, "items: expected text, a number or a bool, got list"),
        ({"nothing": None}, "got NoneType"),
        ({str(number): number for number in range(MAX_NOTES + 1)}, "100 notes of a call at most"),
    ],
)
def test_what_is_too_much_is_refused_and_nothing_of_it_told(
    notes: Notes, told: list[OfCall], values: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        notes.add({"good": 1, **values})
    assert told == []


def test_a_call_has_room_for_so_many_notes(notes: Notes, told: list[OfCall]) -> None:
    for number in range(MAX_NOTES):
        notes.add({"number": number})
    with pytest.raises(ValueError, match="at most"):
        notes.add({"number": 0})
    assert len(told) == MAX_NOTES

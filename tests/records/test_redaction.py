"""What must not be kept is not in what is kept."""

import json

import msgspec
import pytest
from call_stories import FROM, NOON, TO, Story

from sts_trio.records.redaction import Redaction
from sts_trio.records.rows import Kind, Row

KEY = "0123456789abcdef0123456789abcdef"


def test_a_number_is_a_hash_and_its_last_two_digits() -> None:
    redaction = Redaction(KEY)
    kept = redaction.number("+15005550142")
    assert kept.endswith("-42")
    assert len(kept) == 20
    assert redaction.number("+15005550142") == kept
    assert redaction.number(kept) == kept
    assert redaction.number("+15005550242") != kept
    assert Redaction(KEY[::-1]).number("+15005550142") != kept


@pytest.mark.parametrize("nobody", ["", "anonymous", "Restricted", "unknown"])
def test_who_calls_without_a_number_stays_nobody(nobody: str) -> None:
    assert Redaction(KEY).number(nobody) == nobody


@pytest.mark.parametrize("address", ["client:alice", "sip:bob@example.com"])
def test_an_address_without_digits_is_a_hash_alone(address: str) -> None:
    kept = Redaction(KEY).number(address)
    assert kept.startswith("#")
    assert "-" not in kept


def test_numbers_are_taken_out_wherever_they_stand() -> None:
    redaction = Redaction(KEY)
    story = Story().announce(parameters={"callback": FROM, FROM: "x"}).start()
    story.tell(Kind.FUNCTION_ASKED, arguments=json.dumps({"to": FROM}), list=[[FROM]])
    story.tell(Kind.ENDED, ending="transferred", detail=TO)
    kept = msgspec.json.encode([redaction.row(row) for row in story.rows]).decode()
    assert "5005550" not in kept
    assert redaction.number(FROM) in kept
    assert redaction.number(TO) in kept


def test_a_local_number_of_the_call_itself_is_taken_out_too() -> None:
    row = Row("CA1", 1, 0, NOON, Kind.ANNOUNCED, {"from": "5550001", "to": "sip:me@here"})
    body = Redaction(KEY).row(row).body
    assert "5550001" not in str(body)
    assert "me@here" not in str(body)


def test_what_is_no_number_stays() -> None:
    row = Row("CA1", 1, 0, NOON, Kind.USER, {"text": "I am 42, it costs +5 or 12345678 euros"})
    assert Redaction(KEY).row(row) == row

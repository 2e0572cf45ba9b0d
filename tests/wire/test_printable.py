"""What others say, made fit to be shown."""

import enum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.wire import printable as texts
from sts_trio.wire.printable import MAX_DEEP, MAX_SHOWN, one_line, printable

# What each is written as.
HOSTILE = {
    "an escape sequence": ("\x1b]0;pwned\x07\x1b[2J", r"\x1b]0;pwned\x07\x1b[2J"),
    "C1's own": ("\x9b31m", r"\x9b31m"),
    "C0": ("\x00\x08\x0b\x0c\x1f", r"\x00\x08\x0b\x0c\x1f"),
    "delete": ("\x7f", r"\x7f"),
    "line ends": ("a\r\nb\x85c", r"a\r\nb\x85c"),
    "line and paragraph separators": ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
    "directions": ("\u202eab\u202c\u2066\u2069\u200f", r"\u202eab\u202c\u2066\u2069\u200f"),
    "a lone surrogate": ("\ud800x\udcff", r"\ud800x\udcff"),
    "a byte-order mark": ("\ufeffx", r"\ufeffx"),
    "tags": ("\U000e0041", r"\U000e0041"),
}
HARMLESS = ["", "stop", "Grüße, 你好, مرحبا 😀", "a 'quote' and a \\ backslash", "[red]$x$[/red]"]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_can_be_read_stays_as_it_is(text: str) -> None:
    assert one_line(text) == text
    assert printable(text) == text
    assert repr(printable(text)) == repr(text)


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_letter_is_written_out_once(text: str, shown: str) -> None:
    assert one_line(text) == shown
    assert one_line(one_line(text)) == shown
    assert printable(text) == shown
    assert type(printable(text)) is str
    assert printable({"a": [text]}, written=str.swapcase) == {"a": [shown.swapcase()]}


@given(st.text(st.characters()))
def test_any_text_becomes_one_line_that_any_encoding_of_unicode_takes(text: str) -> None:
    shown = one_line(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    shown.encode()


class Colour(enum.Enum):
    RED = "\x1b[31m"


class Odd:
    def __repr__(self) -> str:
        return "\x1b[2J"


class Thing(msgspec.Struct):
    name: str


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (1.5, 1.5),
        ({"a\nb": "c\nd"}, {r"a\nb": r"c\nd"}),
        ([{"a": ["\x1b"]}], [{"a": [r"\x1b"]}]),
        (("\x1b", 1), (r"\x1b", 1)),
        ({"\x1b"}, [r"\x1b"]),
        ({1: "\x1b"}, {1: r"\x1b"}),
        (b"\x1b", b"\x1b"),
        (Colour.RED, Colour.RED),
        (Path("a\nb"), Path("a\nb")),
        (Thing("\x1b"), Thing("\x1b")),
        (Odd(), r"\x1b[2J"),
        (ValueError("\x1b"), r"\x1b"),
    ],
    ids=repr,
)
def test_what_is_no_text_is_looked_into(value: Any, shown: Any) -> None:
    told = printable(value)
    if isinstance(value, Exception):
        assert told is value  # its repr is fit to be shown
    else:
        assert told == shown
    assert repr(told).isprintable()


def test_long_texts_are_cut_and_deep_values_too() -> None:
    assert printable("x" * MAX_SHOWN) == "x" * MAX_SHOWN
    assert printable("x" * (MAX_SHOWN + 1)) == "x" * (MAX_SHOWN - 1) + "…"
    assert len(printable("\x1b" * 10**6)) == 4 * (MAX_SHOWN - 1) + 1
    assert len(printable(b"x" * 10**6)) == MAX_SHOWN
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    shown = printable(deep)
    for _ in range(MAX_DEEP):
        [shown] = shown
    assert shown == "..."


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("utf-8", "Grüße ✓"), ("latin-1", r"Grüße \u2713"), ("ascii", r"Gr\xfc\xdfe \u2713")],
)
def test_what_an_encoding_has_no_letters_for_is_written_out(encoding: str, written: str) -> None:
    assert texts.encodable("Grüße ✓", encoding) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (5, "5"),
        ("a 'b'", "\"a 'b'\""),
        ({"key": "secret"}, "a table"),
        (["secret"], "a list"),
        ("x" * 78, repr("x" * 78)),
        ("x" * 79, "'" + "x" * 78 + "…"),
    ],
)
def test_a_value_in_a_message_is_short_and_no_table_is_opened(value: Any, written: str) -> None:
    assert texts.quoted(value) == written

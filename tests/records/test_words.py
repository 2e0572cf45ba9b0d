"""Words as they are looked for."""

import pytest
from call_stories import Story
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.records.rows import Kind
from sts_trio.records.words import MAX_BYTES, MAX_LETTERS, Sought, said_in, sought, split


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("The last ONE, at 10:30!", ["the", "last", "one", "at", "10", "30"]),
        ("Don't “quote” me_or <b>", ["don", "t", "quote", "me", "or", "b"]),
        ("Über Straße, café, İstanbul", ["uber", "strasse", "cafe", "istanbul"]),
        ("Ελλάς", ["ελλασ"]),
        ("電車は10時", ["電", "車", "は", "10", "時"]),
        ("한국 Привет", [*split("한국"), "привет"]),
        ("", []),
        ("%_\\'\"--;", []),
        ("x" * 100, ["x" * MAX_LETTERS]),
    ],
)
def test_what_is_said_is_words_without_case_accents_and_signs(said: str, words: list[str]) -> None:
    assert split(said) == words


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("platform four", Sought(["platform", "four"], is_open=True)),
        ("platform four ", Sought(["platform", "four"], is_open=False)),
        ("at", Sought(["at"], is_open=False)),
        ("plat", Sought(["plat"], is_open=True)),
        ('"plat"', Sought(["plat"], is_open=False)),
        (" - ", None),
        ("", None),
    ],
)
def test_the_last_word_that_is_asked_for_may_be_the_beginning_of_one(
    asked: str, expected: Sought | None
) -> None:
    assert sought(asked) == expected


def test_words_are_found_one_behind_the_other() -> None:
    said = split("from platform four and arrives at noon")
    for asked, is_said in {
        "platform": True,
        "plat": True,
        "plat ": False,
        "platform fo": False,  # too short to be a beginning
        "four and arr": True,
        "platform and": False,
        "noon": True,
        "at noon tide": False,
        "from": True,
    }.items():
        one = sought(asked)
        assert one is not None
        assert one.is_in(said) is is_said, asked


@given(st.text(max_size=60), st.data())
def test_whatever_was_said_is_found_by_any_part_of_it(said: str, data: st.DataObject) -> None:
    words = split(said)
    for word in words:
        assert word.isalnum()
        assert len(word) <= MAX_LETTERS
    if words:
        first = data.draw(st.integers(0, len(words) - 1))
        last = data.draw(st.integers(first, len(words) - 1))
        assert Sought(words[first : last + 1], is_open=False).is_in(words)
        assert sought(said) is not None


def test_of_a_call_that_lasts_for_days_there_are_words_as_far_as_a_database_takes_them() -> None:
    story = Story()
    for number in range(20):
        story.tell(Kind.AGENT if number % 2 else Kind.USER, text=f"word{number} " * 5000)
    said = said_in(story.rows)
    assert sum(len(word) + 1 for word in said) <= MAX_BYTES
    assert "word3" in said

"""Whether words that are told back are those that were given."""

import pytest

from sts_trio.logic.spelling import is_retold


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("One.", "One. Two."),
        (" One.  Two.", "One. Two."),
        ("one two", "ONE, TWO!"),
        ("It’s open.", "It's open."),
        ("Your order costs forty euros today.", "Your order costs 40 € today."),
        ("anything", None),
    ],
)
def test_another_spelling_is_the_same_words(text: str, whole: str | None) -> None:
    assert is_retold(text, whole)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", "One."),
        ("...", "One."),
        ("", None),
        ("Two.", "One."),
        ("I can see that it is on its way to you.", "One moment, I look it up."),
    ],
)
def test_other_words_are_not(text: str, whole: str | None) -> None:
    assert not is_retold(text, whole)

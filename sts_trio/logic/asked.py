"""Whether the caller was asked something, has heard it to its end, and has had a turn after. Pure.

"Yes" is an answer to a question alone that was heard. What an agent says may be cut, or be heard
long after it was said, so it is the marks that tell. A question is known by its words, in whatever
case and punctuation.
"""

import re
from collections.abc import Iterable

# Turns of the caller's until an answer is no answer any more: they may ask back a few times.
MAX_TURNS = 10

_WORD = re.compile(r"\w+")


def turn_after(question: str, heard: Iterable[tuple[int, str]], turns: int) -> int | None:
    """The number of the caller's turn that followed when they were last asked that; `None`: they
    were not asked, or have not had a turn since.

    `heard` is what they heard between two turns of theirs, the newest first, with how many they had
    had by then; `turns` is how many they have had by now.
    """
    words = _words(question)
    if not words.strip():
        return None
    for before, text in heard:
        if before < turns - MAX_TURNS:
            break
        if words in _words(text):
            return before + 1 if before < turns else None
    return None


def _words(text: str) -> str:
    return f" {' '.join(_WORD.findall(text.casefold()))} "

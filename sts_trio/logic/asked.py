"""What the caller was asked, has heard to its end, and has had a turn after. Pure.

"Yes" is an answer to a question alone that was heard. What an agent says may be cut, or be heard
long after it was said, so it is the marks that tell. A question is known by its words, in whatever
case and punctuation.
"""

import collections
import re

# Of what the caller has heard between two turns of theirs: a question is a sentence.
MAX_LETTERS = 4000
# Turns of the caller's until an answer is no answer any more: they may ask back a few times.
MAX_TURNS = 10

_WORD = re.compile(r"\w+")


class Asked:
    __slots__ = ("_answered", "_count", "_heard")

    def __init__(self) -> None:
        self._count = 0  # turns of the caller's
        self._heard = ""  # since the last of them
        # number of the turn, what had been heard before it
        self._answered: collections.deque[tuple[int, str]] = collections.deque(maxlen=MAX_TURNS)

    def hear(self, words: str) -> None:
        """The caller has heard these words of the agent's."""
        self._heard = f"{self._heard} {words}"[-MAX_LETTERS:] if self._heard else words

    def answer(self) -> None:
        """The caller has had a turn."""
        self._count += 1
        self._answered.append((self._count, self._heard[-MAX_LETTERS:]))
        self._heard = ""

    def turn_after(self, question: str) -> int | None:
        """The number of the caller's turn that followed when they were last asked that; `None`:
        they were not asked, or there was none."""
        words = _words(question)
        if not words.strip() or words in _words(self._heard):
            return None
        for number, heard in reversed(self._answered):
            if words in _words(heard):
                return number
        return None


def _words(text: str) -> str:
    return f" {' '.join(_WORD.findall(text.casefold()))} "

"""What was said, word by word, as it is looked for. Pure.

Case, accents, and what stands between words do not matter, and neither does which database it is:
both are given words that are made here.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

import msgspec

from sts_trio.records.rows import Kind, Row, text

# Written without spaces: each sign of these is a word of its own. Kana, and the signs of Chinese.
_SIGNS = "\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_SIGNS}]|[^\W_{_SIGNS}]+")
# Longer ones are noise. Nobody says them.
MAX_LETTERS = 40
# Bytes of a call's words, eight hours of them: PostgreSQL takes a mebibyte.
MAX_BYTES = 400_000
# Of fewer letters there are so many words that to look for all takes a second.
SHORTEST_BEGINNING = 3


class Sought(msgspec.Struct, frozen=True):
    """These words, one behind the other. If it `is_open`, the last may be longer."""

    words: list[str]
    is_open: bool

    def is_in(self, said: Sequence[str]) -> bool:
        count = len(self.words)
        *before, last = self.words
        for start in range(len(said) - count + 1):
            word = said[start + count - 1]
            if (word.startswith(last) if self.is_open else word == last) and (
                list(said[start : start + count - 1]) == before
            ):
                return True
        return False


def sought(asked: str) -> Sought | None:
    """What is asked for: as somebody types, so that the last word may be the beginning of one. None
    if there is no word in it."""
    words = split(asked)
    if not words:
        return None
    is_whole = not _WORD.fullmatch(asked[-1:])  # behind it there is something else
    return Sought(words, is_open=not is_whole and len(words[-1]) >= SHORTEST_BEGINNING)


def said_in(rows: Iterable[Row]) -> list[str]:
    """The words of both sides, in the order of the rows."""
    said: list[str] = []
    size = 0
    for row in rows:
        if row.kind in (Kind.USER, Kind.AGENT):
            words = split(text(row, "text"))
            size += sum(len(word.encode()) + 1 for word in words)
            if size > MAX_BYTES:
                break
            said += words
    return said


def split(said: str) -> list[str]:
    said = said.casefold()
    if not said.isascii():
        apart = unicodedata.normalize("NFKD", said)
        said = "".join(letter for letter in apart if not unicodedata.combining(letter)).casefold()
    return [word[:MAX_LETTERS] for word in _WORD.findall(said)]

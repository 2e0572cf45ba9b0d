"""What the agent said in one go, and how much of it was heard. Pure.

Deepgram tells neither when a sentence's audio begins nor how long it lasts. A sentence is told
about when its audio is made, so it is taken to begin where the playout then ends; of a sentence
that was cut, as many words count as heard as the share of its audio.
"""

import itertools

from sts_trio.audio.frames import seconds
from sts_trio.observe.events import CallHeard

# A model's sentence is a few hundred letters. A peer may write a mebibyte.
MAX_TEXT_CHARS = 4000
# Of one utterance: three quarters of an hour of it. An agent may never say that it is done.
MAX_SAID_CHARS = 10 * MAX_TEXT_CHARS


class Utterance:
    """Positions are those of the playout, in bytes."""

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self.end: int | None = None  # until it is complete
        self.sentences: list[tuple[str, int]] = []  # text, where its audio begins
        self.heard: str | None = None  # until it is settled
        self.turns = 0  # that the caller had had by then
        self.has_sound = False  # else it is text that nobody has heard a word of
        self.silent = 0  # bytes between its begin and its end that are none of its sound
        self._letters = 0

    @property
    def said(self) -> str:
        return " ".join(text for text, _ in self.sentences)

    def add(self, text: str, at: int) -> None:
        if self._letters >= MAX_SAID_CHARS:
            return
        self._letters += len(text) + 1
        self.sentences.append((text, at if self.sentences else self.begin))

    def settle(self, position: int, sent: int) -> CallHeard:
        """The caller heard the audio before `position` and will hear no more of it."""
        end = sent if self.end is None else self.end
        # Those between which there was no audio share what comes.
        begins, texts = [], []
        for begin, sentences in itertools.groupby(self.sentences, lambda sentence: sentence[1]):
            begins.append(begin)
            texts.append(" ".join(text for text, _ in sentences))
        heard = [
            words_before(text, begin, until, position) if self.has_sound else ""
            for text, begin, until in zip(texts, begins, [*begins[1:], end], strict=True)
        ]
        self.end = end
        self.heard = " ".join(text for text in heard if text)
        return CallHeard(
            self.said,
            self.heard,
            round(seconds(end - self.begin), 3),
            round(seconds(max(0, min(position, end) - self.begin)), 3),
        )


def words_before(text: str, begin: float, end: float, position: float) -> str:
    """Of a text that is spoken from `begin` to `end`, what is said up to there."""
    if position >= end:
        return text
    if position <= begin:
        return ""
    words = text.split()
    share = (position - begin) / (end - begin)
    return " ".join(words[: int(len(words) * share)])

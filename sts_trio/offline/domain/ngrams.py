"""A trigram language model from sentences, in ARPA's format. Pure.

Witten-Bell smoothing, interpolated: after a history that was seen with many different words, more
is left for words that it was not seen with. Every word can follow every other, at a price, so that
a caller who puts things differently is still heard.
"""

import collections
import math
from collections.abc import Iterable, Iterator

START, END = "<s>", "</s>"
ORDER = 3

Gram = tuple[str, ...]


class Model:
    """
    Raises:
        ValueError: there is no sentence.
    """

    def __init__(self, sentences: Iterable[list[str]]) -> None:
        self._followers: dict[Gram, collections.Counter[str]] = collections.defaultdict(
            collections.Counter
        )
        for sentence in sentences:
            padded = [START, *sentence, END]
            for at in range(1, len(padded)):
                for order in range(min(at, ORDER - 1) + 1):
                    self._followers[tuple(padded[at - order : at])][padded[at]] += 1
        if not self._followers:
            raise ValueError("a language model needs a sentence to learn from")
        self._vocabulary = sorted(self._followers[()])

    def probability(self, word: str, history: Gram) -> float:
        """Of `word` after `history`, at most two words of it."""
        left = self._left(history)
        shorter = self.probability(word, history[1:]) if history else 1 / len(self._vocabulary)
        if left == 1.0:
            return shorter
        followers = self._followers[history]
        return (1 - left) * followers[word] / followers.total() + left * shorter

    def _left(self, history: Gram) -> float:
        """The share that a history leaves to words it was not seen with."""
        followers = self._followers.get(history)
        if followers is None:
            return 1.0
        return len(followers) / (len(followers) + followers.total())

    def arpa(self) -> Iterator[str]:
        """The lines of the file."""
        # {length: {words: probability}}, each gram that was seen
        seen: list[dict[Gram, float]] = [{} for _ in range(ORDER)]
        for history, followers in self._followers.items():
            for word in followers:
                gram = (*history, word)
                seen[len(history)][gram] = self.probability(word, history)
        seen[0][(START,)] = 0.0
        yield "\\data\\"
        for length, grams in enumerate(seen, 1):
            yield f"ngram {length}={len(grams)}"
        for length, grams in enumerate(seen, 1):
            yield ""
            yield f"\\{length}-grams:"
            for gram in sorted(grams):
                yield self._line(gram, grams[gram], is_longest=length == ORDER)
        yield ""
        yield "\\end\\"

    def _line(self, gram: Gram, probability: float, *, is_longest: bool) -> str:
        # A sentence's start is never predicted; -99 is ARPA's zero.
        line = f"{_log(probability)}\t{' '.join(gram)}"
        return (
            line
            if is_longest or gram not in self._followers
            else f"{line}\t{_log(self._left(gram))}"
        )


def _log(probability: float) -> str:
    return f"{math.log10(probability):.4f}" if probability else "-99.0000"

"""Whether words that were heard are like what people say here, or what ears make of anything. Pure.

Ears that know a few hundred words take all that is said for them: "turn on the kitchen lights" is
"the heron on make it ten". But they seldom make a sentence of it, and so the pairs of words tell:
of 30 sentences that had nothing to do with cars, in two voices, two in three have more than a
quarter of their pairs from nowhere; of 30 that had, none.
"""

import itertools
from collections.abc import Iterable, Sequence

from sts_trio.offline.domain.ngrams import END, START

MAX_STRANGE = 0.25


class Likeness:
    """Made of the lines of a language model in ARPA's format."""

    def __init__(self, arpa: Iterable[str]) -> None:
        self._pairs: set[tuple[str, ...]] = set()
        is_pair = False
        for line in arpa:
            if line.startswith("\\"):
                is_pair = line.startswith("\\2-grams")
            elif is_pair and line.strip():
                self._pairs.add(tuple(line.split("\t")[1].split()))

    def strangeness(self, words: Sequence[str]) -> float:
        """The share of pairs that the model was never shown, from 0.0 to 1.0."""
        padded = [START, *words, END]
        pairs = list(itertools.pairwise(padded))
        return sum(pair not in self._pairs for pair in pairs) / len(pairs)

    def is_likely(self, words: Sequence[str]) -> bool:
        return self.strangeness(words) <= MAX_STRANGE

"""What a caller may have meant by some words: cues and values, wherever they stand. Pure.

Not a parser: the ears turn what they do not know into words they do, so the order of words and the
words between tell little.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from sts_trio.offline.domain import Domain, Moves


class Meaning(msgspec.Struct, frozen=True):
    """`meant`: moves, answers and the form by name, the likeliest first. `values`: the last value
    heard of each slot."""

    meant: tuple[str, ...]
    values: Mapping[str, str]


class Understanding:
    def __init__(self, domain: Domain) -> None:
        # {name: its cues as words}, in the order that decides between equals
        self._cues: dict[str, list[list[str]]] = {
            name: [cue.split() for cue in cues] for name, cues in _cues(domain)
        }
        self._ways = {
            name: _longest_first(slot.values) for name, slot in domain.slots.items()
        }  # {slot: [(words, value)]}

    def understand(self, text: str) -> Meaning:
        words = re.findall(r"[a-z']+", text.lower().replace("’", "'"))
        lengths = {
            name: max((len(cue) for cue in cues if _contains(words, cue)), default=0)
            for name, cues in self._cues.items()
        }
        # Equals stay in the order of the file.
        meant = sorted(
            (name for name in lengths if lengths[name]), key=lengths.__getitem__, reverse=True
        )
        values = {
            slot: value
            for slot, ways in self._ways.items()
            if (value := _last_value(words, ways)) is not None
        }
        return Meaning(tuple(meant), values)


def _cues(domain: Domain) -> Iterator[tuple[str, Sequence[str]]]:
    for name in Moves.__struct_fields__:
        yield name, getattr(domain.moves, name).cues
    for answer in domain.answers:
        yield answer.name, answer.cues
    yield domain.form.name, domain.form.cues


def _longest_first(values: Mapping[str, Sequence[str]]) -> list[tuple[list[str], str]]:
    ways = [(way.split(), value) for value, ways in values.items() for way in ways]
    return sorted(ways, key=lambda each: -len(each[0]))


def _contains(words: list[str], wanted: list[str]) -> bool:
    return any(words[at : at + len(wanted)] == wanted for at in range(len(words)))


def _last_value(words: list[str], ways: Sequence[tuple[list[str], str]]) -> str | None:
    """Of `half past nine` the longest way counts, of `monday, no, tuesday` the last."""
    found = None
    at = 0
    while at < len(words):
        for way, value in ways:
            if words[at : at + len(way)] == way:
                found = value
                at += len(way)
                break
        else:
            at += 1
    return found

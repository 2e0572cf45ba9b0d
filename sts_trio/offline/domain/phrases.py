"""Phrases as they are written in a domain's source: sentences with choices in them. Pure.

    [can you] tell me about (the|your) <model>

`(a|b)` is one of several, `[a]` may be left out, `<slot>` stands for one of a slot's values. It is
the syntax of JSGF's right-hand sides, so a phrase goes into a grammar as it is.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

_TOKEN = re.compile(r"\s*([()\[\]|]|<[a-z_]+>|[a-z']+)")


class Word(msgspec.Struct, frozen=True):
    text: str


class SlotName(msgspec.Struct, frozen=True):
    name: str


class Row(msgspec.Struct, frozen=True):
    """All of these, in order."""

    parts: tuple["Part", ...]


class Choice(msgspec.Struct, frozen=True):
    """One of these."""

    options: tuple[Row, ...]


Part: TypeAlias = Word | SlotName | Row | Choice
Slots = Mapping[str, Sequence[str]]  # {slot: ways to say its values}


def parse(phrase: str) -> Row:
    """
    Raises:
        ValueError: naming the phrase and what is wrong with it.
    """
    tokens = []
    at = 0
    while at < len(phrase.rstrip()):
        token = _TOKEN.match(phrase, at)
        if token is None:
            raise ValueError(f"{phrase!r}: {phrase[at:].strip()[0]!r} cannot be said")
        tokens.append(token[1])
        at = token.end()
    tokens.reverse()
    parsed = _choice(phrase, tokens)
    if tokens:
        raise ValueError(f"{phrase!r}: {tokens[-1]} closes nothing")
    return parsed.options[0] if len(parsed.options) == 1 else Row((parsed,))


def _choice(phrase: str, tokens: list[str]) -> Choice:
    """Takes tokens from the end of the list up to what closes the choice."""
    options: list[Row] = []
    parts: list[Part] = []
    while tokens and tokens[-1] not in ")]":
        token = tokens.pop()
        if token == "|":
            options.append(Row(tuple(parts)))
            parts = []
        elif token in "([":
            inner = _choice(phrase, tokens)
            if not tokens or tokens.pop() != {"(": ")", "[": "]"}[token]:
                raise ValueError(f"{phrase!r}: {token} is not closed")
            parts.append(Choice((*inner.options, Row(()))) if token == "[" else inner)
        elif token.startswith("<"):
            parts.append(SlotName(token[1:-1]))
        else:
            parts.append(Word(token))
    return Choice((*options, Row(tuple(parts))))


def say(part: Part, slots: Slots, chance: random.Random) -> list[str]:
    """The words of one way to say it."""
    match part:
        case Word(text):
            return [text]
        case SlotName(name):
            return chance.choice(slots[name]).split()
        case Choice(options):
            return say(chance.choice(options), slots, chance)
        case Row(parts):
            return [word for each in parts for word in say(each, slots, chance)]


def words(part: Part) -> Iterator[str]:
    """Every word in it, those of slots aside; some more than once."""
    match part:
        case Word(text):
            yield text
        case SlotName():
            pass
        case Choice(children) | Row(children):
            for child in children:
                yield from words(child)


def slot_names(part: Part) -> Iterator[str]:
    match part:
        case SlotName(name):
            yield name
        case Choice(children) | Row(children):
            for child in children:
                yield from slot_names(child)
        case Word():
            pass

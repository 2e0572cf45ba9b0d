"""Texts of others, made fit to be shown: in a log, on a terminal, in a picture. Pure.

A text may hold more than letters: escape sequences that paint a terminal or set its title, C1
controls that begin one with a single character, marks that turn the direction of what follows, line
ends that forge a line of their own, half of a surrogate pair that no encoding takes. `one_line`
writes all of them out, as Python would. Whatever a peer, a caller, a model or a file says passes
it before it is shown.
"""

import functools
from collections.abc import Callable
from typing import Any

# Letters of one text in a log. Nobody reads more of a line, and a peer may write a mebibyte.
MAX_SHOWN = 4000
# What is logged is a value, or a table of some; deeper there is nothing of ours.
MAX_DEEP = 8


def one_line(text: str) -> str:
    """`text`, with the line ends and the like that may be in it written out."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def encodable(text: str, encoding: str) -> str:
    """`text`, with what that encoding has no letters for written out."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


def printable(value: Any, *, written: Callable[[str], str] = str, deep: int = 0) -> Any:
    """A value for a log: each text in it, key or item, becomes one line of bounded length.

    `written` is given what had to be changed, and its result is taken.
    """
    if isinstance(value, str):
        return _shown(value, written)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict | list | tuple | set | frozenset) and deep == MAX_DEEP:
        return "..."
    inner = functools.partial(printable, written=written, deep=deep + 1)
    if isinstance(value, dict):
        return {
            _shown(key, written) if isinstance(key, str) else key: inner(each)
            for key, each in value.items()
        }
    if isinstance(value, list | set | frozenset):
        return list(map(inner, value))
    if type(value) is tuple:
        return tuple(map(inner, value))
    shown = repr(value)
    return value if shown.isprintable() and len(shown) <= MAX_SHOWN else _shown(shown, written)


def _shown(text: str, written: Callable[[str], str]) -> str:
    cut = text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
    return cut if cut.isprintable() else written(one_line(cut))


def quoted(value: Any) -> str:
    """A value for a message: short, and never the inside of a table, where keys may be."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"

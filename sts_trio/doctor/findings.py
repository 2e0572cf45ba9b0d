"""What an examination finds: how something is, and if it is wrong, why, and what to do. Pure."""

import enum
import textwrap
from collections import Counter
from collections.abc import Sequence

import msgspec


class State(enum.Enum):
    FINE = "fine"
    ODD = "odd"  # it works, and is hardly meant so
    FAULT = "fault"
    UNKNOWN = "unknown"  # it could not be looked at, so nothing is said of it


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`subject` is what was looked at, `found` how it is. Of what is not fine, the likely cause and
    the cure. `seconds`: how long it took, where that says something."""

    subject: str
    state: State
    found: str
    cause: str = ""
    cure: str = ""
    seconds: float | None = None


def fine(subject: str, found: str, seconds: float | None = None) -> Finding:
    rounded = None if seconds is None else round(seconds, 3)
    return Finding(subject=subject, state=State.FINE, found=found, seconds=rounded)


def odd(subject: str, found: str, cause: str, cure: str) -> Finding:
    return Finding(subject=subject, state=State.ODD, found=found, cause=cause, cure=cure)


def fault(subject: str, found: str, cause: str, cure: str) -> Finding:
    return Finding(subject=subject, state=State.FAULT, found=found, cause=cause, cure=cure)


def unknown(subject: str, found: str, cause: str, cure: str = "") -> Finding:
    return Finding(subject=subject, state=State.UNKNOWN, found=found, cause=cause, cure=cure)


def in_words(findings: Sequence[Finding], width: int | None = None) -> list[str]:
    """A line each, and below it cause and cure; at last, how many are wrong. For a terminal of that
    `width`, words that would not fit go on below."""
    lines = []
    for each in findings:
        took = "" if each.seconds is None else f" ({_shown(each.seconds)})"
        head = f"{each.state.value:8}{each.subject:14}"
        lines += _folded(head, f"{each.found}{took}", width)
        for name in ("cause", "cure"):
            if said := getattr(each, name):
                lines += _folded(f"{'':{len(head)}}{name + ':':7}", said, width)
    counts = Counter(each.state for each in findings)
    of = ", ".join(
        f"{counts[state]} {state.value}"
        for state in (State.FAULT, State.ODD, State.UNKNOWN)
        if counts[state]
    )
    return [*lines, "", of or "all is fine"]


def _folded(head: str, text: str, width: int | None) -> list[str]:
    if width is None:
        return [head + text]
    indent = " " * len(head)
    # What is copied from here, an address or a path, stays whole.
    return textwrap.wrap(
        text,
        max(width, len(head) + 20),
        initial_indent=head,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _shown(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"

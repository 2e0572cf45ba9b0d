"""What an examination finds: how something is, and if it is wrong, why, and what to do. Pure."""

import enum
from collections.abc import Iterable

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


def in_words(findings: Iterable[Finding]) -> list[str]:
    """For a terminal: a line each, and below it cause and cure."""
    lines = []
    for each in findings:
        took = "" if each.seconds is None else f" ({each.seconds:.2f} s)"
        lines.append(f"{each.state.value:8}{each.subject:14}{each.found}{took}")
        for name in ("cause", "cure"):
            if said := getattr(each, name):
                lines.append(f"{'':22}{name}: {said}")
    return lines

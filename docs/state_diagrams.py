"""Draws the three state machines of a call into `docs/architecture.md`, from the code's own tables.

python docs/state_diagrams.py

Only what stands between the markers is replaced. A test fails while the page is not current.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sts_trio.logic.states import (
    CLOSING,
    ERRORS,
    RETRY,
    SESSION,
    SESSION_LIMITS,
    STREAM,
    STREAM_LIMITS,
    Limit,
    Retry,
)

PAGE = Path(__file__).parent / "architecture.md"
BEGIN = "<!-- states: drawn by docs/state_diagrams.py, do not edit -->"
END = "<!-- /states -->"

Table = Mapping[Any, Mapping[Any, Any]]

RETRIED = {
    Retry.ALWAYS: "always",
    Retry.BRIEFLY: "at a call's begin for 5 s; once a session of the call was live",
    Retry.ONCE_LIVE: "once a session of the call was live",
    Retry.NEVER: "never",
}


def diagram(table: Table, limits: Mapping[Any, Limit]) -> str:
    """One machine as a Mermaid state diagram; what leads from one state to another is one arrow."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for state in table:
        limit = limits.get(state)
        name = state.value if limit is None else f"{state.value} ({limit.seconds:g} s)"
        lines.append(f'    state "{name}" as {state.name}')
    lines.append(f"    [*] --> {next(iter(table)).name}")
    for state, row in table.items():
        arrows: dict[Any, list[str]] = {}
        for on, to in row.items():
            arrows.setdefault(to, []).append(on.value)
        lines += [f"    {state.name} --> {to.name}: {' / '.join(on)}" for to, on in arrows.items()]
        if not row:
            lines.append(f"    {state.name} --> [*]")
    return "\n".join([*lines, "```"])


def limits_of(limits: Mapping[Any, Limit]) -> str:
    lines = ["| state | at most | else |", "|---|---|---|"]
    for state, limit in limits.items():
        follows = "dialled again" if limit.cause is None else f"`{limit.cause.label}`"
        lines.append(f"| {state.value} | {limit.seconds:g} s | {follows} |")
    return "\n".join(lines)


def retries() -> str:
    lines = ["| the session is lost by | another one is tried |", "|---|---|"]
    lines += [f"| `{cause.label}` | {RETRIED[retry]} |" for cause, retry in RETRY.items()]
    lines += [f"| an `Error` `{code}` | {RETRIED[retry]} |" for code, retry in ERRORS.items()]
    return "\n".join(lines)


def drawn() -> str:
    """All that belongs between the markers."""
    return "\n\n".join(
        [
            "### Twilio's stream",
            diagram(STREAM, STREAM_LIMITS),
            limits_of(STREAM_LIMITS),
            "### The agent's session",
            diagram(SESSION, SESSION_LIMITS),
            limits_of(SESSION_LIMITS),
            "Whether a lost session is followed by another, if the policy reconnects:",
            retries(),
            "### The closing of the call",
            diagram(CLOSING, {}),
        ]
    )


def updated(page: str) -> str:
    """The page with its diagrams current. Raises `ValueError` without both markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name}: expected the markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{drawn()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))

"""Writes the tables of `docs/` that are the code's own: the variables, the endings, the events.

python docs/generate.py

Only what stands between the markers is replaced. A test fails while a page is not current.
"""

import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import trio
from prometheus_client.core import Metric

from sts_trio.config import load
from sts_trio.config.variables import SETTINGS
from sts_trio.errors import Cause
from sts_trio.observe.events import EVENTS, Event, Kind, OfCall
from sts_trio.server import Server
from sts_trio.web.metrics import registry_of

DOCS = Path(__file__).parent

# What happened, for who reads `ending` in a log line. A cause without a sentence is an error.
HAPPENED = {
    Cause.STOP: "The caller hung up.",
    Cause.AGENT_FINISHED: "The agent ended its session properly (1000).",
    Cause.HUNG_UP: "The agent or your code hung up; the caller has heard the goodbye.",
    Cause.OPERATOR_HUNG_UP: "The operator hung up, by the page or `POST /calls/SID/hang-up`.",
    Cause.TRANSFERRED: "The agent or your code transferred the caller, after the goodbye.",
    Cause.SILENCE: "Nobody spoke; the agent asked, and said goodbye.",
    Cause.TIME_UP: "The longest call was over; the agent warned, and said goodbye.",
    Cause.NOT_HUNG_UP: "The caller has heard the goodbye, but Twilio did not hang up: the call"
    " goes on with the TwiML Bin that streamed it.",
    Cause.NOT_TRANSFERRED: "Twilio did not transfer the caller, and the agent was gone.",
    Cause.CALLER_CLOSED: "The caller's socket was closed without `stop`.",
    Cause.CALLER_LOST: "The caller's socket was lost.",
    Cause.CALLER_SILENT: "The caller's socket answered no ping for 25 s.",
    Cause.CALLER_STALLED: "The caller's socket took nothing that we sent for 8 s.",
    Cause.CALLER_NO_START: "No `start` came within 10 s.",
    Cause.CALLER_NO_MEDIA: "No media frame came within 30 s of `start`.",
    Cause.CALLER_REFUSED: "The stream is not µ-law at 8 kHz, or not the one its path is for.",
    Cause.CALLER_TOO_BIG: "The caller's socket sent a message over 1 MiB.",
    Cause.AGENT_DENIED: "The agent answered the handshake with 401 to 404: key, funds, rights or"
    " path.",
    Cause.AGENT_REJECTED: "The agent answered the handshake with another HTTP status.",
    Cause.AGENT_UNREACHABLE: "There was no connection to the agent.",
    Cause.AGENT_NO_HANDSHAKE: "The agent did not finish the handshake in 5 s (3 s after a loss).",
    Cause.AGENT_NO_WELCOME: "The agent sent no `Welcome` in 5 s (3 s after a loss).",
    Cause.AGENT_NO_SETTINGS_APPLIED: "The agent sent no `SettingsApplied` in 5 s"
    " (3 s after a loss).",
    Cause.AGENT_ERROR: "The agent sent `Error`.",
    Cause.AGENT_CLOSED: "The agent closed with another code than 1000.",
    Cause.AGENT_LOST: "The agent's socket was lost.",
    Cause.AGENT_SILENT: "The agent answered no ping for 20 s.",
    Cause.AGENT_MUTE: "The agent owed the caller an answer and said nothing.",
    Cause.AGENT_RAN_AWAY: "The agent called functions without end.",
    Cause.AGENT_TOO_BIG: "The agent sent a message over 4 MiB.",
    Cause.MOVED: "Another process goes on with the call: the end of this one's part, not of the"
    " call.",
    Cause.CRASHED: "A bug of this package; the log has its traceback.",
    Cause.SHUTDOWN: "The server shut down.",
    Cause.CUT_OFF: "The server was cut off before it could say goodbye.",
}


def variables() -> str:
    lines = ["| variable | expected | default | meaning |", "|---|---|---|---|"]
    for setting in SETTINGS.values():
        default = f"`{setting.default}`" if setting.default else ""
        lines.append(
            f"| `{setting.variable}` | {setting.expected} | {default} | {setting.meaning} |"
        )
    return "\n".join(lines)


def endings() -> str:
    lines = [
        "| `ending` | what happened | verdict | caller's socket | agent's socket |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{cause.label}` | {HAPPENED[cause]} | {cause.verdict.value}"
        f" | {cause.caller_code} | {cause.agent_code} |"
        for cause in Cause
    ]
    return "\n".join(lines)


def events() -> str:
    of_calls = [event for event in EVENTS.values() if issubclass(event, OfCall)]
    others = [event for event in EVENTS.values() if not issubclass(event, OfCall)]
    return "\n\n".join(
        [
            "## In a call\n\nIn the log, and in the event feed.",
            *map(_event, of_calls),
            "## Of the process\n\nIn the log alone.",
            *map(_event, others),
        ]
    )


def _event(event: type[Event]) -> str:
    level = event.LEVEL.name.lower()
    if event.level is not Event.level:
        level = " ".join((event.level.__doc__ or "").split())
    lines = [f"### `{event.NAME}`", "", *_sentences(event), f"Level: {level}.", ""]
    hints = get_type_hints(event, include_extras=True)
    names = zip(event.__struct_encode_fields__, event.__struct_fields__, strict=True)
    rows = [f"| `{name}` | {' | '.join(_field(hints[own]))} |" for name, own in names]
    if rows:
        lines += ["| field | type | meaning |", "|---|---|---|", *rows]
    return "\n".join(lines).strip()


def _sentences(event: type[Event]) -> list[str]:
    paragraphs = (event.__doc__ or "").split("\n\n")
    return [line for each in paragraphs for line in (" ".join(each.split()), "")]


def _field(hint: Any) -> tuple[str, str]:
    """Its type, with the unit, and its meaning."""
    kind, meaning = "", ""
    while get_origin(hint) is Annotated:
        for beside in hint.__metadata__:
            if isinstance(beside, Kind):
                kind = beside.value
            else:
                meaning = beside
        hint = hint.__origin__
    if get_origin(hint) in (Union, types.UnionType):
        parts = [_field(part)[0] for part in get_args(hint) if part is not type(None)]
        optional = ["optional"] if type(None) in get_args(hint) else []
        return ", ".join([kind or " or ".join(parts), *optional]), meaning
    if kind:
        return kind, meaning
    return _TYPES.get(hint, hint.__name__ if isinstance(hint, type) else str(hint)), meaning


_TYPES: dict[Any, str] = {
    str: "text",
    int: "number",
    float: "number",
    bool: "true or false",
    list[str]: "list of texts",
    dict[str, int]: "object of numbers",
}


async def _families() -> list[Metric]:
    """Of a server that is configured by nothing."""
    return list(registry_of(Server(load({}, DOCS))).collect())


def figures() -> str:
    lines = ["| figure | kind | meaning |", "|---|---|---|"]
    for family in sorted(trio.run(_families), key=lambda family: family.name):
        name = family.name + ("_total" if family.type == "counter" else "")
        lines.append(f"| `{name}` | {family.type} | {family.documentation} |")
    return "\n".join(lines)


# {page: (the name of its marked place, what belongs there)}
PAGES: dict[str, tuple[str, Callable[[], str]]] = {
    "configuration.md": ("variables", variables),
    "endings.md": ("endings", endings),
    "events.md": ("events", events),
    "metrics.md": ("figures", figures),
}


def updated(page: str, name: str, text: str) -> str:
    """The page with its marked place current. Raises `ValueError` without both markers."""
    begin = f"<!-- {name}: written by docs/generate.py, do not edit -->"
    end = f"<!-- /{name} -->"
    before, has_begin, rest = page.partition(begin)
    _, has_end, after = rest.partition(end)
    if not has_begin or not has_end:
        raise ValueError(f"expected the markers {begin} and {end}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


if __name__ == "__main__":
    for page, (name, written) in PAGES.items():
        path = DOCS / page
        path.write_text(updated(path.read_text(), name, written()))

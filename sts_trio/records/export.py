"""Calls as files for other programs: CSV and JSON lines. Pure."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from sts_trio.records.record import CallRow, Record

# What a spreadsheet takes for the beginning of a formula, and with it for a program
# (https://owasp.org/www-community/attacks/CSV_Injection, read 2026-11-30).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def _of_summary(name: str) -> Callable[[CallRow], Any]:
    return lambda call: (call.summary or {}).get(name)


def _of_waits(name: str) -> Callable[[CallRow], Any]:
    return lambda call: ((call.summary or {}).get("waits") or {}).get(name)


def _of_cost(name: str) -> Callable[[CallRow], Any]:
    return lambda call: ((call.summary or {}).get("cost") or {}).get(name)


# {column: what it holds}. Times are UTC, durations seconds.
COLUMNS: dict[str, Callable[[CallRow], Any]] = {
    "call_sid": lambda call: call.call_sid,
    "created_at": lambda call: iso(call.created_at),
    "answered_at": lambda call: iso(call.answered_at),
    "ended_at": lambda call: iso(call.ended_at),
    "seconds": _of_summary("seconds"),
    "direction": lambda call: call.direction,
    "from": lambda call: call.from_,
    "to": lambda call: call.to,
    "agent": lambda call: call.agent,
    "state": lambda call: call.state,
    "ending": lambda call: call.ending,
    "verdict": lambda call: call.verdict,
    "detail": lambda call: call.detail,
    "hung_up_by": _of_summary("hung_up_by"),
    "apologised": lambda call: call.apologised,
    "moves": lambda call: call.moves,
    "caller_turns": _of_summary("caller_turns"),
    "agent_turns": _of_summary("agent_turns"),
    "cut_turns": _of_summary("cut_turns"),
    "wait_p50": _of_waits("p50"),
    "wait_p95": _of_waits("p95"),
    "wait_worst": _of_waits("worst"),
    "longest_silence": _of_summary("longest_silence"),
    "functions": _of_summary("functions"),
    "functions_failed": _of_summary("functions_failed"),
    "agent_losses": _of_summary("agent_losses"),
    "agent_seconds": _of_summary("agent_seconds"),
    "cost_agent": _of_cost("agent"),
    "cost_phone": _of_cost("phone"),
    "currency": _of_cost("currency"),
    "parameters": lambda call: msgspec.json.encode(call.parameters).decode(),
}


def csv_header() -> str:
    return _line(list(COLUMNS))


def csv_line(call: CallRow) -> str:
    """One line, with its end. No text in it is a formula to a spreadsheet; a phone number, which
    begins with a plus, is a number to it and stays as it is."""
    return _line([_cell(column(call)) for column in COLUMNS.values()])


def json_line(call: CallRow | Record) -> str:
    return msgspec.json.encode(call).decode() + "\n"


def iso(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, str):
        return str(value)
    is_number = value[:1] == "+" and value[1:].isascii() and value[1:].isdigit()
    return f"'{value}" if value.startswith(_FORMULA) and not is_number else value


def _line(cells: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()

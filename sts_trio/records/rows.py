"""What is put down of a call, row by row. Pure.

A row is known by `(call_sid, epoch, seq)`, whoever writes it and however often: writing it again
changes nothing. An epoch is one run of rows about one call by one process. It is the time in
microseconds at which the run began, or one more than an epoch that is known already: so nobody has
to be asked for it, least of all a database that may be away. A call that another process goes on
with has a greater one.
"""

import enum
import math
from typing import Any, TypeGuard

import msgspec


class Kind(enum.StrEnum):
    """What a row tells, and the names in its body. Those with a question mark may be missing.

    The words of a call are in `user`, `agent`, `heard`, and in what functions were given and gave.
    """

    # The call's own: these make and change its record as well.
    # direction, from, to, agent, parameters, source, process_id, caller_name?, forwarded_from?,
    # caller_parameters?, account?
    ANNOUNCED = "announced"
    # as `announced`, and stream_sid, how (first, moved, recovered, returned), gap_seconds?
    STARTED = "started"
    # ending, verdict, detail, apologised, agent?, statistics?
    ENDED = "ended"

    # text; until?: when the caller stopped speaking, seconds since 1970
    USER = "user"
    # text, position?: seconds of audio sent to the caller before it
    AGENT = "agent"
    # said, heard, said_seconds, heard_seconds; began?: when its first sound was heard, seconds
    # since 1970; waited?: by the caller, until then; reported?: {step: seconds}, as the agent tells
    # of its own latency
    HEARD = "heard"
    # id, name, arguments, shield
    FUNCTION_ASKED = "function_asked"
    # id, name, outcome, seconds, content?
    FUNCTION_ANSWERED = "function_answered"
    # id, name, arguments, content; how long it took is not known
    FUNCTION_RUN_BY_AGENT = "function_run_by_agent"
    # collected?: a function was collecting them. Which key it was is nowhere
    KEYS = "keys"
    # ending, detail
    AGENT_LOST = "agent_lost"
    # agent, request_id?, version?, gap?: seconds without an agent before
    AGENT_DIALLED = "agent_dialled"
    # agent, to
    HANDED_OVER = "handed_over"
    # from, to (processes), road (action, stream, lookout), is_crash; alone in an epoch of its own,
    # and `at` is by the database's clock: whoever claims a call writes it
    MOVED = "moved"
    # of, uri ("": there is no file), began_at, seconds, bytes, result; `of` is the epoch that was
    # recorded, as whoever completes what a dead process left has another
    RECORDED = "recorded"
    # what the call's own code notes, {name: value}, and other events, {"sts." and event: fields}
    NOTE = "note"


# How the names in a note begin that are not the call's own code's.
OURS = "sts."
# Without these there would be no record. They are the last to be lost.
ESSENTIAL = frozenset({Kind.ANNOUNCED, Kind.STARTED, Kind.ENDED})

# Letters of one text. A model's sentence is a few hundred; a peer may write a mebibyte.
MAX_TEXT = 16_000
# Bytes of a whole body. Only a peer that means ill, or a function's giant answer, comes near.
MAX_BODY = 64_000


class Row(msgspec.Struct, frozen=True):
    """`at` is seconds since 1970. `seq` counts from 0 within an epoch, and leaves nothing out: a
    number that is missing was lost."""

    call_sid: str
    epoch: int
    seq: int
    at: float
    kind: Kind
    body: dict[str, Any]


def text(row: Row, name: str) -> str:
    """Rows may have been written by another release, or by hand."""
    value = row.body.get(name, "")
    return value if isinstance(value, str) else str(value)


def number(row: Row, name: str) -> float | None:
    """None where it is none, or not finite."""
    value = row.body.get(name)
    return float(value) if is_number(value) else None


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is one that can be counted with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def storable(row: Row) -> Row:
    """The row as any database takes it: JSON within bounds, no NUL, no half of a surrogate pair."""
    try:
        body = msgspec.json.encode(row.body)
    except (TypeError, ValueError, OverflowError, RecursionError):
        # Also of Unicode that cannot be encoded, a `ValueError`.
        body = b""
    is_plain = body and len(body) <= MAX_BODY and b"\\u0000" not in body
    if is_plain and _is_text(row.call_sid):
        return row
    sid = _text(row.call_sid)
    cleaned = _clean(row.body, MAX_TEXT, 0)
    if len(msgspec.json.encode(cleaned)) > MAX_BODY:
        cleaned = _clean(cleaned, 1000, 0)
    if len(msgspec.json.encode(cleaned)) > MAX_BODY:
        cleaned = {"left_out": "it was too long"}
    return msgspec.structs.replace(row, call_sid=sid, body=cleaned)


# Deeper than any function's arguments; encoders give up at a thousand.
MAX_DEEP = 50
# What both databases and every reader of JSON take for a whole number.
_LARGEST = 2**53


def _is_text(text: str) -> bool:
    return "\0" not in text and text.isascii()


def _text(text: str, most: int = MAX_TEXT) -> str:
    clean = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    clean = clean.encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def _clean(value: Any, most: int, depth: int) -> Any:
    if isinstance(value, str):
        return _text(value, most)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) <= _LARGEST:
        return value
    if depth >= MAX_DEEP:
        return "…"
    if isinstance(value, dict):
        return {
            _text(str(name), most): _clean(each, most, depth + 1) for name, each in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(each, most, depth + 1) for each in value]
    try:
        return _text(str(value), most)
    except Exception as exc:  # an object of the user's own
        return f"cannot be written: {type(exc).__name__}"

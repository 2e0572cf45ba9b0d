"""What was said in a call, as text, as JSON and as WebVTT. Pure."""

from typing import Any

import msgspec

from sts_trio.records.record import Record
from sts_trio.records.turns import Turn

# A turn of which it is not known how long it was: a line is not to vanish before it is read.
SHORTEST = 2.0
_NAMES = {"caller": "Caller", "agent": "Agent"}


class Line(msgspec.Struct, frozen=True):
    """A turn. Times are seconds since the call was answered; where it is not known when it was
    heard, when it was told."""

    role: str  # caller, agent
    began: float
    until: float | None
    said: str
    heard: str | None  # by the caller, of what the agent said; None: not known
    waited: float | None  # by the caller, until this turn of the agent's


def lines(record: Record) -> list[Line]:
    start = answered_at(record)

    def since(at: float) -> float:
        return round(max(0.0, at - start), 3)

    return [
        Line(
            role=turn.role,
            began=since(turn.at if turn.began is None else turn.began),
            until=None if turn.until is None else since(turn.until),
            said=turn.said,
            heard=turn.heard,
            waited=turn.waited,
        )
        for turn in record.turns
    ]


def timed(record: Record) -> list[tuple[float, str]]:
    """A line each, with functions, losses and further streams among them, and what went unheard in
    brackets. Times are as in `Line`."""
    start = answered_at(record)
    told = [(turn.at if turn.began is None else turn.began, _said(turn)) for turn in record.turns]
    for function in record.functions:
        outcome = function.outcome or "not known"
        told.append((function.asked_at, f"[{function.name}: {outcome}]"))
    told += [(loss.at, f"[agent lost: {loss.ending}]") for loss in record.losses]
    for stream in record.streams[1:]:
        gap = "" if stream.gap_seconds is None else f", after {stream.gap_seconds:.1f} s"
        told.append((stream.started_at, f"[another stream: {stream.how}{gap}]"))
    return [(max(0.0, at - start), words) for at, words in sorted(told)]


def text(record: Record) -> str:
    """The same, each line with its time."""
    return "".join(f"{at:7.1f}  {words}\n" for at, words in timed(record))


def json(record: Record) -> bytes:
    call = record.call
    told: dict[str, Any] = {
        "version": record.version,
        "call_sid": call.call_sid,
        "from": call.from_,
        "to": call.to,
        "agent": call.agent,
        "answered_at": call.answered_at,
        "turns": lines(record),
    }
    return msgspec.json.encode(told)


def webvtt(record: Record) -> str:
    """Captions for a recording: what was heard of each turn, while it was.

    Source: w3.org/TR/webvtt1, sections 4.1 and 4.2, read 2026-11-30.
    """
    blocks = ["WEBVTT\n"]
    for line in sorted(lines(record), key=lambda line: line.began):
        words = _cue_text(line.said if line.heard is None else line.heard)
        if not words:
            continue
        until = max(line.until or 0.0, line.began + SHORTEST)
        span = f"{_timestamp(line.began)} --> {_timestamp(until)}"
        blocks.append(f"{span}\n<v {_NAMES[line.role]}>{words}\n")
    return "\n".join(blocks)


def answered_at(record: Record) -> float:
    """When a transcript's time begins; of a call that was not answered, when it came."""
    return record.call.answered_at or record.call.created_at


def _said(turn: Turn) -> str:
    said = _one_line(turn.said)
    if turn.role == "caller":
        return f"caller  {said}"
    if turn.heard is None:
        return f"agent   {said} [not known how much was heard]"
    heard = _one_line(turn.heard)
    cut = said.removeprefix(heard)
    waited = "" if turn.waited is None else f"  ({turn.waited:.2f} s)"
    return f"agent   {heard}{f' [not heard:{cut}]' if cut else ''}{waited}"


def _one_line(words: str) -> str:
    return " ".join(words.split())


def _cue_text(words: str) -> str:
    """A line break, `-->` or a tag in it would end the cue, or be one."""
    return _one_line(words).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _timestamp(seconds: float) -> str:
    whole = round(seconds * 1000)
    return (
        f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}"
        f":{whole // 1000 % 60:02}.{whole % 1000:03}"
    )

"""What a call's record is made of, computed from its rows. Pure.

The summary stands in the table `call`, and holds no word that was said; turns, functions and losses
are read from the rows again when somebody looks.
"""

import collections
import math
from collections.abc import Sequence
from typing import Any

import msgspec

from sts_trio.config.records import Prices
from sts_trio.observe import events
from sts_trio.records.rows import OURS, Kind, Row, is_number, number, text
from sts_trio.records.turns import Turn, Waits, longest_silence, turns, waits

# The shape of a record as others read it. Raise it when a field is added, or a new `ending`.
RECORD_VERSION = 1

# Who hung up, by the call's ending; with any other it was the server.
_HUNG_UP_BY = {
    "stop": "caller",
    "caller_closed": "caller",
    "caller_lost": "caller",
    "agent_finished": "agent",
    "hung_up": "agent",
    "transferred": "agent",
}
_WORDS = {
    Kind.USER: ("text",),
    Kind.AGENT: ("text",),
    Kind.HEARD: ("said", "heard"),
    Kind.FUNCTION_ASKED: ("arguments",),
    Kind.FUNCTION_ANSWERED: ("content",),
    Kind.FUNCTION_RUN_BY_AGENT: ("arguments", "content"),
}
# Exceptions, and what is told of arguments that do not fit, quote what was said.
_NOTED_WORDS = {
    OURS + events.FunctionFailed.NAME: ("reason",),
    OURS + events.FunctionRefused.NAME: ("reason",),
}
# Where a process was gone, its agent's session has no other end than the next stream.
_ENDS_OF_SESSIONS = (
    Kind.AGENT_DIALLED,
    Kind.AGENT_LOST,
    Kind.HANDED_OVER,
    Kind.STARTED,
    Kind.ENDED,
)
# The outcome of a function that the agent's side has run: of one that failed it tells no more.
DONE = "done"
# Statistics that begin like this are no sums.
_LONGEST = "longest_"


class CallRow(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """A row of the table `call`. Times are seconds since 1970."""

    call_sid: str
    direction: str
    from_: str
    to: str
    agent: str
    parameters: dict[str, Any]
    source: str
    created_at: float
    answered_at: float | None
    state: str
    process_id: str
    epoch: int
    moves: int
    ended_at: float | None
    ending: str | None
    verdict: str | None
    detail: str | None
    apologised: bool | None
    summary: dict[str, Any] | None
    schema_version: int
    redacted_at: float | None


class StreamRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table `stream`: one media stream of the call."""

    call_sid: str
    epoch: int
    stream_sid: str
    process_id: str
    how: str
    started_at: float
    ended_at: float | None
    ending: str | None
    gap_seconds: float | None


class RecordingRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table `recording`: of one media stream. `uri` is its place below the directory
    of recordings, "" if there is no file."""

    call_sid: str
    epoch: int
    uri: str
    began_at: float
    seconds: float
    bytes: int
    result: str  # ok, degraded (with gaps), failed
    deleted_at: float | None


class Cost(msgspec.Struct, frozen=True):
    agent: float
    phone: float
    currency: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A call in figures. Seconds; None where they cannot be known."""

    seconds: float | None  # from answer to end
    caller_turns: int
    agent_turns: int
    cut_turns: int  # that the caller did not hear to the end
    said_seconds: float
    heard_seconds: float
    waits: Waits | None
    longest_silence: float | None
    functions: int
    functions_failed: int
    agent_losses: int
    agent_seconds: float
    hung_up_by: str | None  # caller, agent, server
    cost: Cost | None
    lost_rows: int  # that were to be written, and never were
    statistics: dict[str, Any]  # what the call itself counted


class FunctionCall(msgspec.Struct, frozen=True, kw_only=True):
    """`outcome` is None where it never ended as far as is known: whether it was done is not."""

    id: str
    name: str
    arguments: Any
    is_shielded: bool
    asked_at: float
    outcome: str | None = None
    seconds: float | None = None
    content: Any = None
    is_agents: bool = False  # the agent's own side has run it


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    at: float
    ending: str
    detail: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One connection to an agent."""

    agent: str
    request_id: str
    version: str  # of the agent: a hash of its settings and functions
    began: float
    until: float | None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """All that is kept of one call."""

    version: int
    call: CallRow
    streams: list[StreamRow]
    sessions: list[Session]
    turns: list[Turn]
    functions: list[FunctionCall]
    losses: list[Loss]
    recordings: list[RecordingRow]
    notes: dict[str, Any]  # what the call's own code noted; the last one of a name
    events: list[Row]


def record(
    call: CallRow,
    streams: Sequence[StreamRow],
    rows: Sequence[Row],
    recordings: Sequence[RecordingRow] = (),
) -> Record:
    """The record of a call from what the tables have; `rows` in the order of (epoch, seq)."""
    notes: dict[str, Any] = {}
    for row in rows:
        if row.kind is Kind.NOTE:
            notes |= {name: value for name, value in row.body.items() if not name.startswith(OURS)}
    return Record(
        version=RECORD_VERSION,
        call=call,
        streams=list(streams),
        sessions=_sessions(rows, call.ended_at),
        turns=turns(rows),
        functions=_functions(rows),
        losses=[
            Loss(at=row.at, ending=text(row, "ending"), detail=text(row, "detail"))
            for row in rows
            if row.kind is Kind.AGENT_LOST
        ],
        recordings=list(recordings),
        notes=notes,
        events=list(rows),
    )


def summary(
    rows: Sequence[Row],
    *,
    answered_at: float | None,
    ended_at: float,
    ending: str,
    prices: Prices,
) -> Summary:
    """The figures of a call that has ended; `rows` in the order of (epoch, seq)."""
    said = turns(rows)
    agents = [turn for turn in said if turn.role == "agent"]
    functions = _functions(rows)
    heard_seconds = sum(
        number(row, "heard_seconds") or 0.0 for row in rows if row.kind is Kind.HEARD
    )
    seconds = None if answered_at is None else max(0.0, ended_at - answered_at)
    agent_seconds = sum(
        max(0.0, (session.until or ended_at) - session.began)
        for session in _sessions(rows, ended_at)
    )
    return Summary(
        seconds=_rounded(seconds),
        caller_turns=len(said) - len(agents),
        agent_turns=len(agents),
        cut_turns=sum(turn.unheard_seconds > 0 for turn in agents),
        said_seconds=round(heard_seconds + sum(turn.unheard_seconds for turn in agents), 3),
        heard_seconds=round(heard_seconds, 3),
        waits=waits([turn.waited for turn in agents if turn.waited is not None]),
        longest_silence=(
            None if answered_at is None else longest_silence(rows, answered_at, ended_at)
        ),
        functions=len(functions),
        functions_failed=sum(each.outcome in ("failed", "timed_out") for each in functions),
        agent_losses=sum(row.kind is Kind.AGENT_LOST for row in rows),
        agent_seconds=round(agent_seconds, 3),
        hung_up_by=None if ending == "lost" else _HUNG_UP_BY.get(ending, "server"),
        cost=cost(agent_seconds, seconds or 0.0, prices),
        lost_rows=lost_rows(rows),
        statistics=_statistics(rows),
    )


def cost(agent_seconds: float, phone_seconds: float, prices: Prices) -> Cost | None:
    """None without prices."""
    if not prices.agent_per_minute and not prices.phone_per_minute:
        return None
    return Cost(
        round(agent_seconds / 60 * prices.agent_per_minute, 6),
        round(math.ceil(phone_seconds / 60) * prices.phone_per_minute, 6),
        prices.currency,
    )


def lost_rows(rows: Sequence[Row]) -> int:
    """Numbers that are missing: of those behind the last row of an epoch nobody knows."""
    seen: collections.Counter[int] = collections.Counter()
    highest: dict[int, int] = {}
    for row in rows:
        seen[row.epoch] += 1
        highest[row.epoch] = max(highest.get(row.epoch, 0), row.seq)
    return sum(highest[epoch] + 1 - seen[epoch] for epoch in seen)


def without_words(row: Row) -> Row:
    """The row less what was said in it. What is counted and measured stays."""
    body = _without(row.body, _WORDS.get(row.kind, ()))
    if row.kind is Kind.NOTE:
        for event, names in _NOTED_WORDS.items():
            if isinstance(fields := body.get(event), dict):
                body = {**body, event: _without(fields, names)}
    return row if body == row.body else msgspec.structs.replace(row, body=body)


def _without(fields: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {**fields, **{name: "" for name in names if name in fields}}


def _statistics(rows: Sequence[Row]) -> dict[str, Any]:
    """What the call itself has counted, over all streams that it had."""
    counted: dict[str, Any] = {}
    for row in rows:
        told = row.body.get("statistics") if row.kind is Kind.ENDED else None
        if isinstance(told, dict):
            counted |= {name: _counted(name, counted.get(name), told[name]) for name in told}
    return counted


def _counted(name: str, before: Any, now: Any) -> Any:
    if isinstance(before, dict) and isinstance(now, dict):
        return before | {each: _counted(each, before.get(each), now[each]) for each in now}
    if not is_number(before) or not is_number(now):
        return now
    return max(before, now) if name.startswith(_LONGEST) else round(before + now, 3)


def _functions(rows: Sequence[Row]) -> list[FunctionCall]:
    calls: list[FunctionCall] = []
    for row in rows:
        if row.kind is Kind.FUNCTION_ASKED:
            calls.append(
                FunctionCall(
                    id=text(row, "id"),
                    name=text(row, "name"),
                    arguments=row.body.get("arguments"),
                    is_shielded=bool(row.body.get("shield")),
                    asked_at=row.at,
                )
            )
        elif row.kind is Kind.FUNCTION_ANSWERED:
            # An id may be used again, by the agent of another session.
            place = next(
                (
                    index
                    for index, each in reversed(list(enumerate(calls)))
                    if each.id == text(row, "id") and each.outcome is None
                ),
                None,
            )
            if place is not None:
                calls[place] = msgspec.structs.replace(
                    calls[place],
                    outcome=text(row, "outcome"),
                    seconds=number(row, "seconds"),
                    content=row.body.get("content"),
                )
        elif row.kind is Kind.FUNCTION_RUN_BY_AGENT:
            calls.append(
                FunctionCall(
                    id=text(row, "id"),
                    name=text(row, "name"),
                    arguments=row.body.get("arguments"),
                    is_shielded=False,
                    asked_at=row.at,
                    outcome=DONE,
                    content=row.body.get("content"),
                    is_agents=True,
                )
            )
    return calls


def _sessions(rows: Sequence[Row], ended_at: float | None) -> list[Session]:
    sessions: list[Session] = []
    is_open = False

    def close(at: float) -> None:
        if is_open:
            sessions[-1] = msgspec.structs.replace(sessions[-1], until=at)

    for row in rows:
        if row.kind in _ENDS_OF_SESSIONS:
            close(row.at)
            is_open = row.kind is Kind.AGENT_DIALLED
        if row.kind is Kind.AGENT_DIALLED:
            sessions.append(
                Session(
                    agent=text(row, "agent"),
                    request_id=text(row, "request_id"),
                    version=text(row, "version"),
                    began=row.at,
                    until=None,
                )
            )
    if ended_at is not None:
        close(ended_at)
    return sessions


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)

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
from sts_trio.records.rows import OURS, Kind, Row

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
}


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


class Waits(msgspec.Struct, frozen=True):
    """How long the caller waited for the agent: from the end of speech to the first sound, seconds.

    Of those turns only of which both are known.
    """

    count: int
    p50: float
    p95: float
    worst: float


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


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """`began` and `until` are when it was heard, as far as that is known; seconds since 1970."""

    role: str  # caller, agent
    at: float
    said: str
    heard: str | None  # None for the caller's
    began: float | None
    until: float | None
    waited: float | None  # by the caller, for this turn of the agent's
    reported: dict[str, float]  # {step: seconds}, as the agent tells of its own latency


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
            Loss(at=row.at, ending=_str(row, "ending"), detail=_str(row, "detail"))
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
    heard = [row for row in rows if row.kind is Kind.HEARD]
    seconds = None if answered_at is None else max(0.0, ended_at - answered_at)
    agent_seconds = sum(
        max(0.0, (session.until or ended_at) - session.began)
        for session in _sessions(rows, ended_at)
    )
    statistics = [row.body.get("statistics") for row in rows if row.kind is Kind.ENDED]
    return Summary(
        seconds=_rounded(seconds),
        caller_turns=len(said) - len(agents),
        agent_turns=len(agents),
        cut_turns=sum(_float(row, "heard_seconds") < _float(row, "said_seconds") for row in heard),
        said_seconds=round(sum(_float(row, "said_seconds") for row in heard), 3),
        heard_seconds=round(sum(_float(row, "heard_seconds") for row in heard), 3),
        waits=waits([turn.waited for turn in agents if turn.waited is not None]),
        longest_silence=(
            None if answered_at is None else _longest_silence(said, answered_at, ended_at)
        ),
        functions=len(functions),
        functions_failed=sum(each.outcome in ("failed", "timed_out") for each in functions),
        agent_losses=sum(row.kind is Kind.AGENT_LOST for row in rows),
        agent_seconds=round(agent_seconds, 3),
        hung_up_by=None if ending == "lost" else _HUNG_UP_BY.get(ending, "server"),
        cost=cost(agent_seconds, seconds or 0.0, prices),
        lost_rows=lost_rows(rows),
        statistics=next((each for each in reversed(statistics) if isinstance(each, dict)), {}),
    )


def waits(seconds: Sequence[float]) -> Waits | None:
    if not seconds:
        return None
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return round(ordered[math.ceil(share * len(ordered)) - 1], 3)

    return Waits(len(ordered), at(0.5), at(0.95), at(1.0))


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
    names = [name for name in _WORDS.get(row.kind, ()) if name in row.body]
    if not names:
        return row
    return msgspec.structs.replace(row, body={**row.body, **dict.fromkeys(names, "")})


def turns(rows: Sequence[Row]) -> list[Turn]:
    """Who said what, by the time at which it began to be heard.

    The agent's turns are those that are settled, and at the end the sentences of one that is not.
    """
    made: list[Turn] = []
    open_sentences: list[Row] = []
    for row in rows:
        if row.kind is Kind.USER:
            made.append(_caller_turn(row))
        elif row.kind is Kind.AGENT:
            open_sentences.append(row)
        elif row.kind is Kind.HEARD:
            open_sentences = _less(open_sentences, _str(row, "said"))
            made.append(_agent_turn(row))
    if open_sentences:
        said = " ".join(_str(row, "text") for row in open_sentences)
        made.append(
            Turn(
                role="agent",
                at=open_sentences[0].at,
                said=said,
                heard=None,
                began=None,
                until=None,
                waited=None,
                reported={},
            )
        )
    made.sort(key=lambda turn: turn.at if turn.began is None else turn.began)
    return _with_waits(made)


def _less(sentences: list[Row], said: str) -> list[Row]:
    """What is not told yet, once a turn is settled. A turn's sentences come before those of the
    next, so it is the first few, as far as their words go."""
    left = said
    for count, row in enumerate(sentences):
        text = _str(row, "text")
        if not left.startswith(text):
            return sentences[count:]
        left = left[len(text) :].lstrip(" ")
    return []


def _caller_turn(row: Row) -> Turn:
    return Turn(
        role="caller",
        at=row.at,
        said=_str(row, "text"),
        heard=None,
        began=_maybe(row, "began"),
        until=_maybe(row, "until"),
        waited=None,
        reported={},
    )


def _agent_turn(row: Row) -> Turn:
    heard_seconds = _float(row, "heard_seconds")
    began = _maybe(row, "began")
    if began is None and heard_seconds > 0:
        # A turn is settled when the last of it that was to be heard has been.
        began = row.at - heard_seconds
    reported = row.body.get("reported")
    return Turn(
        role="agent",
        at=row.at,
        said=_str(row, "said"),
        heard=_str(row, "heard"),
        began=began,
        until=row.at if began is not None else None,
        waited=None,
        reported=reported if isinstance(reported, dict) else {},
    )


def _with_waits(ordered: list[Turn]) -> list[Turn]:
    """Of each turn that answers the caller, how long that took. Not of one that only goes on."""
    answered = list[Turn]()
    asked: float | None = None
    for turn in ordered:
        if turn.role == "caller":
            asked = turn.until
        elif turn.began is not None:
            if asked is not None and turn.began >= asked:
                turn = msgspec.structs.replace(turn, waited=round(turn.began - asked, 3))
            asked = None
        answered.append(turn)
    return answered


def _longest_silence(said: Sequence[Turn], since: float, until: float) -> float:
    """Between answer and end, the longest time in which nobody was heard."""
    spoken = sorted(
        (
            turn.at if turn.began is None else turn.began,
            turn.at if turn.until is None else turn.until,
        )
        for turn in said
        if turn.role == "caller" or turn.began is not None
    )
    longest, quiet_since = 0.0, since
    for began, ended in [*spoken, (until, until)]:
        longest = max(longest, min(began, until) - quiet_since)
        quiet_since = max(quiet_since, ended)
    return round(max(0.0, longest), 3)


def _functions(rows: Sequence[Row]) -> list[FunctionCall]:
    calls: list[FunctionCall] = []
    for row in rows:
        if row.kind is Kind.FUNCTION_ASKED:
            calls.append(
                FunctionCall(
                    id=_str(row, "id"),
                    name=_str(row, "name"),
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
                    if each.id == _str(row, "id") and each.outcome is None
                ),
                None,
            )
            if place is not None:
                calls[place] = msgspec.structs.replace(
                    calls[place],
                    outcome=_str(row, "outcome"),
                    seconds=_maybe(row, "seconds"),
                    content=row.body.get("content"),
                )
    return calls


def _sessions(rows: Sequence[Row], ended_at: float | None) -> list[Session]:
    sessions: list[Session] = []
    is_open = False

    def close(at: float) -> None:
        if is_open:
            sessions[-1] = msgspec.structs.replace(sessions[-1], until=at)

    for row in rows:
        if row.kind in (Kind.AGENT_DIALLED, Kind.AGENT_LOST, Kind.HANDED_OVER, Kind.ENDED):
            close(row.at)
            is_open = row.kind is Kind.AGENT_DIALLED
        if row.kind is Kind.AGENT_DIALLED:
            sessions.append(
                Session(
                    agent=_str(row, "agent"),
                    request_id=_str(row, "request_id"),
                    version=_str(row, "version"),
                    began=row.at,
                    until=None,
                )
            )
    if ended_at is not None:
        close(ended_at)
    return sessions


def _str(row: Row, name: str) -> str:
    value = row.body.get(name, "")
    return value if isinstance(value, str) else str(value)


def _float(row: Row, name: str) -> float:
    return _maybe(row, name) or 0.0


def _maybe(row: Row, name: str) -> float | None:
    """Rows may have been written by another release, or by hand."""
    value = row.body.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)

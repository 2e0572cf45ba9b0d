"""Who said what in a call, what of it was heard and when, computed from its rows. Pure."""

import itertools
import math
from collections.abc import Iterator, Sequence

import msgspec

from sts_trio.observe.events import CallBargeIn, CallFalseInterruption
from sts_trio.records.rows import OURS, Kind, Row, number, text

_CUT = OURS + CallBargeIn.NAME
_PLAYED_ON = OURS + CallFalseInterruption.NAME


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """`began` and `until` are when it was heard, as far as that is known; seconds since 1970."""

    role: str  # caller, agent
    at: float
    said: str
    heard: str | None  # None for the caller's, and where it is not known
    began: float | None = None
    until: float | None = None
    waited: float | None = None  # by the caller, for this turn of the agent's
    unheard_seconds: float = 0.0  # of its audio
    reported: dict[str, float] = {}  # {step: seconds}, as the agent tells of its own latency


class Waits(msgspec.Struct, frozen=True):
    """How long the caller waited for the agent: from the end of speech to the first sound, seconds.

    Of those turns only of which both are known.
    """

    count: int
    p50: float
    p95: float
    worst: float


def turns(rows: Sequence[Row]) -> list[Turn]:
    """Who said what, by the time at which it began to be heard; `rows` in the order of (epoch,
    seq).

    The agent's turns are those that are settled, and the sentences of those that never were. What a
    noise had cut, and was played on, is one turn with what was heard before.
    """
    made = _Turns()
    for row in rows:
        made.hear(row)
    made.give_up(len(made.unsettled))
    ordered = sorted(made.turns, key=lambda turn: turn.at if turn.began is None else turn.began)
    return _with_waits(ordered)


class _Turns:
    """The turns so far, in the order of the rows."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.unsettled: list[Row] = []  # sentences of the agent's
        self._epoch: int | None = None
        self._left = 0  # of the unsettled, those of the process that had the call before
        self._settled: list[Turn] = []  # since the agent was cut off, or from the beginning
        self._cut: list[Turn] = []  # of these, what a noise has cut, and is played on
        self._rest: list[str] = []  # its words that are still to be heard

    def hear(self, row: Row) -> None:
        if row.epoch != self._epoch:
            # Another process has the call from here on. It settles what the last one began before
            # its agent says anything, or nobody does.
            self._left = len(self.unsettled)
            self._settled, self._cut, self._rest = [], [], []
            self._epoch = row.epoch
        match row.kind:
            case Kind.USER:
                self.turns.append(_caller_turn(row))
            case Kind.AGENT:
                self.give_up(self._left)
                self._left = 0
                self.unsettled.append(row)
            case Kind.HEARD:
                self._settle(row)
            case Kind.NOTE if _CUT in row.body:
                self._settled = []  # what is played on may be what is cut
            case Kind.NOTE if _PLAYED_ON in row.body:
                self._play_on()

    def give_up(self, count: int) -> None:
        """So many sentences will never be settled: how much of them was heard nobody knows."""
        sentences, self.unsettled = self.unsettled[:count], self.unsettled[count:]
        if sentences:
            said = " ".join(text(row, "text") for row in sentences)
            self.turns.append(Turn(role="agent", at=sentences[0].at, said=said, heard=None))

    def _settle(self, row: Row) -> None:
        turn = _agent_turn(row)
        if self._cut and turn.said.split()[: len(self._rest)] == self._rest:
            turn = self._join(turn)
        else:
            places = enumerate(self.unsettled)
            first = (place for place, each in places if turn.said.startswith(text(each, "text")))
            self.give_up(next(first, 0))
            self.unsettled = _less(self.unsettled, turn.said)
            self._left = min(self._left, len(self.unsettled))
            self.turns.append(turn)
        self._cut, self._rest = [], []
        self._settled.append(turn)

    def _play_on(self) -> None:
        """It was but a noise. What it has cut is heard after all: the turn that follows tells of
        it, if there are words in it."""
        settled = reversed(self._settled)
        self._cut = [*itertools.takewhile(_unheard, settled)][::-1]
        self._rest = [word for turn in self._cut for word in _unheard(turn)]
        if not self._cut and self._settled:
            last = self._settled.pop()
            self._settled.append(msgspec.structs.replace(last, unheard_seconds=0.0))
            self._put([last], self._settled[-1])

    def _join(self, resumed: Turn) -> Turn:
        """What was cut, with what was played on, and what the agent has added."""
        first = self._cut[0]
        heard = [turn.heard or "" for turn in (*self._cut, resumed)]
        added = resumed.said.split()[len(self._rest) :]
        whole = msgspec.structs.replace(
            first,
            said=" ".join([*(turn.said for turn in self._cut), *added]),
            heard=" ".join(filter(None, heard)),
            began=resumed.began if first.began is None else first.began,
            until=resumed.until or first.until,
            unheard_seconds=resumed.unheard_seconds,
        )
        self._put(self._cut, whole)
        return whole

    def _put(self, turns: list[Turn], other: Turn) -> None:
        """In the place of the first of these."""
        of_them = {id(turn) for turn in turns[1:]}
        self.turns = [
            other if turn is turns[0] else turn for turn in self.turns if id(turn) not in of_them
        ]


def _unheard(turn: Turn) -> list[str]:
    """The words of it."""
    return turn.said.split()[len((turn.heard or "").split()) :]


def spoken(rows: Sequence[Row]) -> Iterator[tuple[float, float]]:
    """When somebody was heard, in no order; seconds since 1970."""
    for row in rows:
        if row.kind is Kind.USER:
            turn = _caller_turn(row)
        elif row.kind is Kind.HEARD:
            turn = _agent_turn(row)
            if turn.began is None:
                continue
        else:
            continue
        began = turn.at if turn.began is None else turn.began
        yield began, turn.at if turn.until is None else turn.until


def longest_silence(rows: Sequence[Row], since: float, until: float) -> float:
    """Between answer and end, the longest time in which nobody was heard."""
    longest, quiet_since = 0.0, since
    for began, ended in [*sorted(spoken(rows)), (until, until)]:
        longest = max(longest, min(began, until) - quiet_since)
        quiet_since = max(quiet_since, ended)
    return round(max(0.0, longest), 3)


def waits(seconds: Sequence[float]) -> Waits | None:
    if not seconds:
        return None
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return round(ordered[math.ceil(share * len(ordered)) - 1], 3)

    return Waits(len(ordered), at(0.5), at(0.95), at(1.0))


def _less(sentences: list[Row], said: str) -> list[Row]:
    """What is not told yet, once a turn is settled. A turn's sentences come before those of the
    next, so it is the first few, as far as their words go."""
    left = said
    for count, row in enumerate(sentences):
        sentence = text(row, "text")
        if not left.startswith(sentence):
            return sentences[count:]
        left = left[len(sentence) :].lstrip(" ")
    return []


def _caller_turn(row: Row) -> Turn:
    return Turn(
        role="caller",
        at=row.at,
        said=text(row, "text"),
        heard=None,
        began=number(row, "began"),
        until=number(row, "until"),
    )


def _agent_turn(row: Row) -> Turn:
    heard_seconds = number(row, "heard_seconds") or 0.0
    began = number(row, "began")
    if began is None and heard_seconds > 0:
        # A turn is settled when the last of it that was to be heard has been.
        began = row.at - heard_seconds
    reported = row.body.get("reported")
    unheard = max(0.0, (number(row, "said_seconds") or 0.0) - heard_seconds)
    return Turn(
        role="agent",
        at=row.at,
        said=text(row, "said"),
        heard=text(row, "heard"),
        began=began,
        until=row.at if began is not None else None,
        waited=number(row, "waited"),
        unheard_seconds=round(unheard, 3),
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
            if asked is not None and turn.began >= asked and turn.waited is None:
                turn = msgspec.structs.replace(turn, waited=round(turn.began - asked, 3))
            asked = None
        answered.append(turn)
    return answered

"""What came of a simulated call. Pure.

All times are seconds since the stream began, on the caller's own phone.
"""

import enum
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from sts_trio.audio.frames import BYTES_PER_SECOND
from sts_trio.simulate.earpiece import Announced, Spans
from sts_trio.simulate.script import CallerScript, audible_part

if TYPE_CHECKING:
    from sts_trio.simulate.phone import Phone

# What Twilio logs about messages it does not take, once a stream each; a caller counts them all.
NOT_A_MESSAGE = 31951
BINARY = 31950
OVERFLOW = 31931

# Close codes: a goodbye, and a socket that was lost without one.
GOODBYE = 1000
LOST = 1006


class Result(enum.Enum):
    """What became of a call: its name, and the exit status it is worth."""

    PROPER = ("proper", 0)
    NO_CALL = ("no_call", 3)  # nobody there, or refused
    UNHEARD = ("unheard", 4)  # the agent was not heard
    BROKEN_OFF = ("broken_off", 5)  # the bridge ended it, and not properly

    def __init__(self, label: str, exit_status: int) -> None:
        self.label = label
        self.exit_status = exit_status


class Turn(msgspec.Struct, frozen=True):
    """Something the caller said, and what the agent made of it."""

    began: float
    ended: float
    wait: float | None  # until the agent was heard; None: not before the caller's next turn
    # If the agent was speaking when this began: for how much longer it did.
    talked_over: float | None
    text: str = ""  # what was said, if it is known


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that the caller knows of a call that is over."""

    seconds: float
    frames_sent: int
    agent_received: float  # seconds of audio that the bridge sent
    agent_heard: float  # ... of which were played; the rest was cleared, or cut off by the end
    first_agent_audio: float | None
    agent_spans: tuple[tuple[float, float], ...]  # when the agent was audible
    turns: tuple[Turn, ...]
    clears: int  # how often the bridge emptied the playout
    marks: int  # ... and asked to be told how far it was
    refused: dict[int, int]  # {Twilio's warning: how many messages}
    first_refusal: str
    out_of_time: bool  # the caller hung up because of the limit
    closed_by: str  # "caller" or "bridge"
    close_code: int | None  # None: our goodbye was not answered
    said: bytes  # the caller's track, µ-law
    heard: bytes  # the agent's, as the caller heard it
    call_sid: str = ""
    began: float = 0.0  # on Trio's clock
    hung_up_at: float | None = None  # when the caller did; None if the bridge was first
    vanished: bool = False  # the caller hung up without a goodbye
    clear_times: tuple[float, ...] = ()  # of the first, as the next
    mark_times: tuple[float, ...] = ()  # when marks went back to the bridge
    announced: tuple[Announced, ...] = ()  # what the carrier said of its own

    @property
    def result(self) -> Result:
        return self._judged[0]

    @property
    def fault(self) -> str | None:
        """Why this was no proper call, in a line; None if the agent was heard and all said
        goodbye."""
        return self._judged[1]

    @property
    def _judged(self) -> tuple[Result, str | None]:
        if self.close_code is None:
            return Result.BROKEN_OFF, "the bridge did not answer our goodbye"
        if self.close_code == LOST and self.out_of_time:
            return Result.BROKEN_OFF, "the bridge stopped reading"
        after = f"after {self.seconds:.1f} s"
        if self.close_code == LOST and not self.vanished:
            return Result.BROKEN_OFF, f"the connection was lost {after}"
        if self.close_code != GOODBYE and not self.vanished:
            return Result.BROKEN_OFF, f"the bridge closed with code {self.close_code} {after}"
        if not self.agent_spans:
            return Result.UNHEARD, f"nothing was heard: {_why_unheard(self)}"
        return Result.PROPER, None

    @property
    def waits(self) -> list[float]:
        return [turn.wait for turn in self.turns if turn.wait is not None]

    @property
    def talked_over(self) -> list[float]:
        return [turn.talked_over for turn in self.turns if turn.talked_over is not None]


def report(
    phone: "Phone",
    *,
    seconds: float,
    refused: Mapping[int, int],
    first_refusal: str,
    closed_by: str,
    close_code: int | None,
    call_sid: str,
) -> Report:
    """The report of a call that is over."""
    earpiece, said = phone.earpiece, bytes(phone.said)
    spans = tuple(earpiece.audible.spans)
    told = dict(refused)
    if earpiece.overflowed:
        told[OVERFLOW] = 1
    return Report(
        seconds=seconds,
        frames_sent=len(said) // 160,
        agent_received=earpiece.received / BYTES_PER_SECOND,
        agent_heard=earpiece.played / BYTES_PER_SECOND,
        first_agent_audio=spans[0][0] if spans else None,
        agent_spans=spans,
        turns=turns(phone.script, earpiece.audible),
        clears=earpiece.clears,
        marks=earpiece.marks,
        refused=told,
        first_refusal=first_refusal,
        out_of_time=phone.script.out_of_time,
        closed_by=closed_by,
        close_code=close_code,
        said=said,
        heard=bytes(earpiece.track),
        call_sid=call_sid,
        began=phone.began,
        hung_up_at=phone.hung_up_at,
        vanished=phone.vanished,
        clear_times=tuple(earpiece.cleared),
        mark_times=tuple(earpiece.reached),
        announced=tuple(phone.announced),
    )


def turns(script: CallerScript, agent: Spans) -> tuple[Turn, ...]:
    """The caller's turns, held against when the agent was heard."""
    told: list[Turn] = []
    until = math.inf
    for start, clip in reversed(script.spoken):
        first, last = audible_part(clip.audio)
        began, ended = start + first, start + last
        waits = (begin - ended for begin, _ in agent.spans if ended <= begin < until)
        overs = (end - began for begin, end in agent.spans if begin < began < end)
        told.append(Turn(began, ended, next(waits, None), next(overs, None), clip.text))
        until = began
    return tuple(reversed(told))


def _why_unheard(report: Report) -> str:
    if report.refused:
        warnings = ", ".join(map(str, report.refused))
        return f"Twilio would refuse ({warnings}): {report.first_refusal}"
    if report.agent_received:
        return f"{report.agent_received:.1f} s of audio came, all silent"
    return f"no audio came in {report.seconds:.1f} s"

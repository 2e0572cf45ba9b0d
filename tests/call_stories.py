"""Rows of calls, as a process writes them."""

from collections.abc import Iterator
from typing import Any

from sts_trio.config.records import Prices
from sts_trio.records.record import CallRow, Record, Summary, record, summary
from sts_trio.records.rows import Kind, Row

# Noon of 30 November 2026.
NOON = 1_796_040_000.0
FROM, TO = "+15005550001", "+15005550006"


def sid(number: int) -> str:
    return f"CA{number:032x}"


class Story:
    """The rows of one call: each `tell` is a second after the one before."""

    def __init__(self, call_sid: str = sid(1), *, at: float = NOON, epoch: int = 10) -> None:
        self.call_sid = call_sid
        self.epoch = epoch
        self.at = at
        self.rows: list[Row] = []

    def tell(self, kind: Kind, after: float = 1.0, **body: Any) -> Row:
        self.at += after
        seq = sum(row.epoch == self.epoch for row in self.rows)
        row = Row(self.call_sid, self.epoch, seq, self.at, kind, body)
        self.rows.append(row)
        return row

    def announce(self, caller: str = FROM, called: str = TO, **body: Any) -> "Story":
        told = {"direction": "inbound", "from": caller, "to": called, "agent": "default"}
        self.tell(Kind.ANNOUNCED, 0.0, **{**told, "source": "webhook", "process_id": "p1", **body})
        return self

    def start(self, **body: Any) -> "Story":
        told = {"stream_sid": "MZ1", "how": "first", "process_id": "p1"}
        self.tell(Kind.STARTED, **{**told, **body})
        return self

    def talk(self) -> "Story":
        self.tell(Kind.AGENT_DIALLED, 0.0, agent="default", request_id="r1", version="v1")
        self.tell(Kind.AGENT, text="Hello!")
        self.tell(Kind.HEARD, said="Hello!", heard="Hello!", said_seconds=0.5, heard_seconds=0.5)
        self.tell(Kind.USER, 3.0, text="What cars do you have?", until=self.at + 2.0)
        self.tell(Kind.AGENT, text="Three of them.")
        self.tell(
            Kind.HEARD,
            said="Three of them.",
            heard="Three of",
            said_seconds=1.0,
            heard_seconds=0.6,
            reported={"speech": 0.2},
        )
        return self

    def end(self, ending: str = "stop", verdict: str = "success", **body: Any) -> "Story":
        self.tell(Kind.ENDED, ending=ending, verdict=verdict, detail="", apologised=False, **body)
        return self


def kept(story: Story, *, answered: float | None = NOON) -> Record:
    """The record of it, as of a call that has ended."""
    call = CallRow(
        call_sid=story.call_sid,
        direction="inbound",
        from_=FROM,
        to=TO,
        agent="default",
        parameters={},
        source="webhook",
        created_at=NOON,
        answered_at=answered,
        state="ended",
        process_id="p1",
        epoch=10,
        moves=0,
        ended_at=story.at,
        ending="stop",
        verdict="success",
        detail="",
        apologised=False,
        summary=None,
        schema_version=1,
        redacted_at=None,
    )
    return record(call, [], story.rows)


def summed(story: Story, ending: str = "stop", prices: Prices | None = None) -> Summary:
    """Its figures, as of a call that has ended."""
    return summary(
        story.rows,
        answered_at=NOON,
        ended_at=story.at,
        ending=ending,
        prices=prices or Prices(),
    )


def whole(number: int = 1, *, at: float = NOON, epoch: int = 10, **info: Any) -> list[Row]:
    """A call from its announcement to its end."""
    return Story(sid(number), at=at, epoch=epoch).announce(**info).start().talk().end().rows


def many(count: int, *, every: float = 10.0, **info: Any) -> Iterator[list[Row]]:
    for number in range(count):
        yield whole(number, at=NOON + number * every, **info)

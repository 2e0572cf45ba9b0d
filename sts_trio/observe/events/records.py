"""What becomes of what is kept of calls, and told to others: rows, recordings, webhooks."""

from typing import Annotated

from sts_trio.observe.events.event import Event, Level, Seconds

# --- of the process: records ----------------------------------------------------------------------


class RecordsAway(Event, frozen=True):
    """At the start, the database cannot be reached: what is to be kept waits on disk."""

    NAME = "records.away"
    LEVEL = Level.WARNING
    database: str
    reason: str


class RecordsBehind(Event, frozen=True):
    """The database takes nothing for now: what is to be kept waits on disk."""

    NAME = "records.behind"
    LEVEL = Level.WARNING
    reason: str


class RecordsCaughtUp(Event, frozen=True):
    """What waited on disk is in the database."""

    NAME = "records.caught_up"
    LEVEL = Level.INFO
    seconds: Annotated[Seconds, "since the records fell behind"]


class RecordsCallsLost(Event, frozen=True):
    """A process has died with calls under way, which are marked so."""

    NAME = "records.calls_lost"
    LEVEL = Level.WARNING
    process: str
    calls: int


class ProcessNamesake(Event, frozen=True):
    """Two processes that share the database have one name: give each its own `STS_PROCESS_NAME`."""

    NAME = "process.namesake"
    LEVEL = Level.WARNING
    name: str
    other: Annotated[str, "the other's address"]


class RecordsExpired(Event, frozen=True):
    """Calls that were older than they are to be kept are deleted."""

    NAME = "records.expired"
    LEVEL = Level.INFO
    calls: int
    events: int


class RecordsNotTidied(Event, frozen=True):
    """What is too old could not be deleted; it is tried again."""

    NAME = "records.not_tidied"
    LEVEL = Level.WARNING
    reason: str


class RecordsWithoutIndex(Event, frozen=True):
    """Words are looked for call by call, which takes long: there is no index of them."""

    NAME = "records.without_index"
    LEVEL = Level.WARNING
    reason: str


class RecordsRefused(Event, frozen=True):
    """The database will never take this row, which is put aside."""

    NAME = "records.refused"
    LEVEL = Level.ERROR
    call_sid: str
    kind: str
    reason: Annotated[str, "the type of the error"]


class RecordsLost(Event, frozen=True):
    """The process ends, and these rows are written nowhere."""

    NAME = "records.lost"
    LEVEL = Level.ERROR
    rows: int


class RecordsCrashed(Event, frozen=True):
    """A bug of this package, in what keeps records. With its traceback."""

    NAME = "records.crashed"
    LEVEL = Level.ERROR
    lost: Annotated[int, "rows that it cost"]


# --- of the process: recordings -------------------------------------------------------------------


class RecordingsBehind(Event, frozen=True):
    """The disk does not take all that is recorded: from here on seconds are missing."""

    NAME = "recordings.behind"
    LEVEL = Level.WARNING
    reason: str


class RecordingsCaughtUp(Event, frozen=True):
    """The disk takes what is recorded again."""

    NAME = "recordings.caught_up"
    LEVEL = Level.INFO


class RecordingFinished(Event, frozen=True):
    """A call is over, and so is its recording."""

    NAME = "recording.finished"
    LEVEL = Level.DEBUG
    call_sid: str
    result: Annotated[str, "ok; degraded: with gaps; failed: there is none"]
    duration: Annotated[Seconds, "of what it plays"]

    @property
    def level(self) -> Level:
        """debug; warning where it is not ok"""
        return Level.DEBUG if self.result == "ok" else Level.WARNING


class RecordingsLeft(Event, frozen=True):
    """The process ends, and these recordings are not complete: the next start sees to them."""

    NAME = "recordings.left"
    LEVEL = Level.ERROR
    recordings: int


# --- of the process: flights ----------------------------------------------------------------------


class FlightKept(Event, frozen=True):
    """What the dialogue of a call heard is kept: `sts-trio replay CALL_SID` shows it again."""

    NAME = "flight.kept"
    LEVEL = Level.INFO
    call_sid: str
    file: Annotated[str, "below `STS_FLIGHTS`"]
    bytes: int
    stopped: Annotated[str | None, "why the flight ends before the call did"] = None


class FlightNotKept(Event, frozen=True):
    """The flight of a call was to be kept, and could not be written."""

    NAME = "flight.not_kept"
    LEVEL = Level.WARNING
    call_sid: str
    reason: str


# --- of the process: webhooks ---------------------------------------------------------------------


class WebhookDelivered(Event, frozen=True):
    """The receiver has been told of the end of a call."""

    NAME = "webhook.delivered"
    LEVEL = Level.DEBUG
    call_sid: str
    attempts: int


class WebhookFailed(Event, frozen=True):
    """The receiver has not taken it; it is told again."""

    NAME = "webhook.failed"
    LEVEL = Level.WARNING
    call_sid: str
    webhook_id: str
    reason: str
    attempts: Annotated[int, "so far"]
    retry_in: Seconds


class WebhookDead(Event, frozen=True):
    """The receiver has not taken it, and is told no more: `sts-trio calls deliveries` has it."""

    NAME = "webhook.dead"
    LEVEL = Level.ERROR
    call_sid: str
    webhook_id: str
    reason: str
    attempts: int


class WebhookCrashed(Event, frozen=True):
    """A bug of this package, in what tells of ended calls. With its traceback."""

    NAME = "webhook.crashed"
    LEVEL = Level.ERROR


class HookFailed(Event, frozen=True):
    """`on_call_ended` has raised, or was not done in time. If it raised, with its traceback."""

    NAME = "hook.failed"
    LEVEL = Level.WARNING
    call_sid: str
    reason: str


class HookSkipped(Event, frozen=True):
    """`on_call_ended` is not called for that call: too many wait, or its record cannot be read."""

    NAME = "hook.skipped"
    LEVEL = Level.WARNING
    call_sid: str
    reason: str

"""What functions that the agent calls do."""

from typing import Annotated

from sts_trio.observe.events.event import Json, Level, OfCall, Seconds


class FunctionCalled(OfCall, frozen=True):
    """The agent called a function, which begins to run."""

    NAME = "function.called"
    LEVEL = Level.DEBUG
    id: Annotated[str, "of this call of it"]
    name: str
    arguments: Annotated[Json, "as the model wrote them"]
    shield: Annotated[bool, "it is not torn when nobody waits for it any more"]
    thought_signature: Annotated[str | None, "which the model has to be told with it"] = None


class FunctionFinished(OfCall, frozen=True):
    """A function has come to its end."""

    NAME = "function.finished"
    LEVEL = Level.DEBUG
    id: str
    name: str
    outcome: Annotated[
        str,
        "`done`, `failed`, `timed_out`, `cancelled`, `late`: after its time was up, or"
        " `unconfirmed`: the caller has to be asked first",
    ]
    seconds: Annotated[Seconds, "since it was called"]
    result: Annotated[Json | None, "what the agent is told, if it is told anything"] = None
    shield: bool | None = None
    unawaited: Annotated[bool | None, "the agent no longer wanted its result"] = None

    @property
    def level(self) -> Level:
        """debug; warning where it timed out, info where the agent did not wait for it"""
        if self.unawaited:
            return Level.INFO
        return Level.WARNING if self.outcome == "timed_out" else Level.DEBUG


class FunctionRefused(OfCall, frozen=True):
    """The agent called a function that is not run."""

    NAME = "function.refused"
    LEVEL = Level.WARNING
    id: str
    name: str
    reason: str


class FunctionFailed(OfCall, frozen=True):
    """A function raised."""

    NAME = "function.failed"
    LEVEL = Level.WARNING
    id: str
    name: str
    reason: Annotated[str, "the exception's type and text"]
    crashed: Annotated[bool, "by an exception that is none of those meant for the agent"]
    hint: Annotated[str | None, "what to do about it, where that is known"] = None

    @property
    def level(self) -> Level:
        """warning; error where it crashed, in the log with its traceback"""
        return Level.ERROR if self.crashed else Level.WARNING


class FunctionFillerNotSaid(OfCall, frozen=True):
    """What was to be said while a function runs could not be."""

    NAME = "function.filler_not_said"
    LEVEL = Level.WARNING
    id: str
    name: str
    reason: str


class FunctionRunByAgent(OfCall, frozen=True):
    """The agent's own side has run a function, by its `endpoint`."""

    NAME = "function.run_by_agent"
    LEVEL = Level.DEBUG
    id: str
    name: str
    arguments: Json
    result: Json

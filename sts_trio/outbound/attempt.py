"""One call that is to be placed, or was: what was asked for, and what came of it. Pure, but for who
waits."""

import datetime
import secrets
from typing import Any

import msgspec
import trio

from sts_trio.errors import StsTrioError, TwilioFailed
from sts_trio.outbound.requests import DialRequest
from sts_trio.outbound.twilio_rest import Placed


class Attempt:
    """One call that is to be placed, or was, and who waits for the outcome."""

    def __init__(
        self,
        request: DialRequest,
        key: str | None,
        digest: bytes,
        day: datetime.date,
        asked_at: float,
    ) -> None:
        self.request = request
        self.token = secrets.token_urlsafe(16)  # by which Twilio's requests name it
        self.day_of_all: int | None = None  # of the budget of all processes, if it was taken there
        self.key = key
        self.digest = digest
        self.day = day  # whose budget it was taken from
        self.asked_at = asked_at
        self.waiting = 0
        self.done = trio.Event()
        self.outcome: Placed | StsTrioError = StsTrioError("not done yet")

    @property
    def told(self) -> DialRequest:
        """What other processes have to know of it."""
        return msgspec.structs.replace(self.request, to="")

    @property
    def is_uncertain(self) -> bool:
        """Whether there may be a call of which nobody has heard."""
        return isinstance(self.outcome, TwilioFailed) and self.outcome.is_uncertain

    def result(self) -> Placed:
        """Once it is `done`.

        Raises:
            DialRefused, TwilioFailed: what came of it instead.
        """
        if isinstance(self.outcome, Placed):
            return self.outcome
        # The same exception for whoever asks: else each would leave its traceback in there, for as
        # long as the key is remembered.
        raise self.outcome.with_traceback(None)


def told(outcome: Placed | StsTrioError) -> dict[str, Any]:
    """For other processes; `read_outcome` reads it."""
    if isinstance(outcome, Placed):
        return {"call_sid": outcome.call_sid, "status": outcome.status}
    return {"uncertain": outcome.message if isinstance(outcome, TwilioFailed) else str(outcome)}


def read_outcome(told: dict[str, Any]) -> Placed | TwilioFailed:
    if "uncertain" in told:
        return TwilioFailed(str(told["uncertain"]), is_uncertain=True)
    return Placed(str(told.get("call_sid", "")), str(told.get("status", "")))

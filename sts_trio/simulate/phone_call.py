"""What came of a phone call through a carrier. Pure.

All times are seconds since the call was answered, on the caller's own phone: what was before is
negative.
"""

import os

import msgspec

from sts_trio.audio import wav
from sts_trio.simulate.connect import NotConnected
from sts_trio.simulate.report import Report


class Requested(msgspec.Struct, frozen=True):
    """A request that was made of the bridge."""

    at: float
    url: str
    fields: dict[str, str]
    fault: str | None = None  # why there was no answer


class Streamed(msgspec.Struct, frozen=True):
    """A stream that the call had, or would have had."""

    sid: str
    url: str
    began: float
    ended: float
    # "bridge": it closed it. "lost": without a close frame. "refused": it never began. "carrier":
    # the call was over, or went elsewhere.
    ended_by: str
    close_code: int | None


class Connected(msgspec.Struct, frozen=True):
    """Somebody else whom the call was connected to, or was to be."""

    number: str  # of a queue its name
    status: str  # Twilio's `DialCallStatus`, or `QueueResult`
    began: float
    seconds: float  # that both talked
    caller_id: str
    heard: bytes  # what they heard of the caller, µ-law


class Problem(msgspec.Struct, frozen=True):
    """As Twilio's debugger has it; `code` is 0 for what this carrier does not know."""

    at: float
    code: int
    reason: str
    status: int | None = None  # HTTP's


class PhoneCall(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a phone call that is over."""

    call_sid: str
    status: str  # Twilio's: completed, busy, no-answer
    ended_by: str  # "caller", or "bridge": its TwiML had come to its end, or it asked for that
    report: Report  # what the caller said and heard, of all of the call
    requests: tuple[Requested, ...]
    streams: tuple[Streamed, ...]
    connected: tuple[Connected, ...]
    problems: tuple[Problem, ...]

    @property
    def fault(self) -> str | None:
        """Why this was no proper call, in a line; None if nothing was wrong with it."""
        if self.problems:
            return self.problems[0].reason
        if not any(each.ended_by != "refused" for each in self.streams):
            return f"the webhook has no call streamed; the call ended as {self.status}"
        return self.report.fault

    def check(self) -> None:
        """Raises:
        NotConnected: no stream ever came about.
        """
        if any(each.ended_by != "refused" for each in self.streams):
            return
        status = self.problems[0].status if self.problems else None
        raise NotConnected(self.fault or "", status)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a WAV: on the left what the caller said, on the right what they heard.

        Raises:
            OSError: the file cannot be written.
        """
        wav.write(path, self.report.said, self.report.heard)

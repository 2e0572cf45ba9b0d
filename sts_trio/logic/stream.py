"""Twilio's stream, from its socket's first message to its end. Pure.

Owns the state of the stream (`states.STREAM`) and the names that it goes by. Twilio says `start`
once, then media every 20 ms, and marks and keys as they come; all of it names the stream.
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import assert_never

import msgspec

from sts_trio.errors import Cause
from sts_trio.logic.acts import Heard
from sts_trio.logic.states import STREAM, STREAM_LIMITS, StreamInput, StreamState, Violation
from sts_trio.wire import twilio

_FORMAT = ("audio/x-mulaw", 8000, 1)
_INPUTS: dict[type[twilio.Message], StreamInput] = {
    twilio.Start: StreamInput.START,
    twilio.Media: StreamInput.MEDIA,
    twilio.Mark: StreamInput.MARK,
    twilio.Dtmf: StreamInput.DTMF,
    twilio.Stop: StreamInput.STOP,
}


class Started(msgspec.Struct, frozen=True):
    """Who is calling is known (`start`), and Twilio can be told something."""


MAX_TRACK_CHARS = 64  # of a name that a peer makes up


class Speech(msgspec.Struct, frozen=True):
    """The caller's audio, in µ-law."""

    audio: bytes


class MarkEchoed(msgspec.Struct, frozen=True):
    name: str


class KeyPressed(msgspec.Struct, frozen=True):
    digit: str


class Back(msgspec.Struct, frozen=True):
    """The stream that was cut is here again, by another name, after `gap` seconds."""

    gap: float


class Cut(msgspec.Struct, frozen=True):
    """The stream is cut, and may be back in a moment."""


class StreamEnded(msgspec.Struct, frozen=True):
    """The caller is gone, or is to be let go of; why, and what else there is to say of it."""

    cause: Cause
    detail: str = ""


StreamNews = Started | Back | Speech | MarkEchoed | KeyPressed | StreamEnded | Violation


class Stream:
    """`is_expected` tells, by its SID, whether a call may be streamed here; `may_come_back`,
    whether we are asked what comes next if its stream is cut: each once, of a start that comes."""

    __slots__ = (
        "_cut_at",
        "_cut_by",
        "_is_expected",
        "_is_over",
        "_may_be_back",
        "_may_come_back",
        "call_sid",
        "deadline",
        "is_flowing",
        "start",
        "state",
        "stream_sid",
    )

    def __init__(
        self,
        now: float,
        is_expected: Callable[[str], bool],
        may_come_back: Callable[[twilio.StreamStart], bool],
    ) -> None:
        self._is_expected = is_expected
        self._may_come_back = may_come_back
        self._may_be_back = False
        self._cut_by: StreamEnded | None = None  # if it is not back in time
        self._cut_at = -inf
        self.start: twilio.Start | None = None
        self.call_sid = ""
        self.stream_sid = ""
        self._enter(StreamState.AWAITING_START, now)

    @property
    def may_come_back(self) -> bool:
        """Whether its end, if nobody says that the call is over, need not be the end."""
        return self._may_be_back

    def hear_call_over(self) -> None:
        """The phone call is over, and what is left of its stream is the last."""
        self._may_be_back = False

    @property
    def is_away(self) -> bool:
        return self.state is StreamState.AWAY

    def speech(self, batch: Sequence[Heard]) -> list[bytes]:
        """The caller's audio that a batch begins with, as it came. Asked of every batch."""
        stream_sid = self.stream_sid
        pieces: list[bytes] = []
        for message in batch:
            if type(message) is not twilio.Media or message.stream_sid != stream_sid:
                break
            media = message.media
            if media.track != "inbound":
                break
            pieces.append(media.payload)
        return pieces

    def hear(self, message: twilio.Message, now: float) -> StreamNews | None:
        if isinstance(message, twilio.Connected):
            return None
        to = STREAM[self.state].get(_INPUTS[type(message)])
        if isinstance(message, twilio.Start):
            return Violation("a second start") if to is None else self._begin(message, now)
        if to is None:
            when = "before start" if self.start is None else "after stop"
            return Violation(f"{_name_of(message)} {when}")
        if self.start is not None and message.stream_sid not in (self.stream_sid, ""):
            return Violation(f"{_name_of(message)} of another stream")
        if to is not self.state:  # it flows for nearly all of the call, and has no limit then
            self._enter(to, now)
        match message:
            case twilio.Media(media):
                if media.track != "inbound":
                    return Violation(f"media of track {media.track[:MAX_TRACK_CHARS]!r}")
                return Speech(media.payload)
            case twilio.Mark(mark):
                return MarkEchoed(mark.name)
            case twilio.Dtmf(dtmf):
                return KeyPressed(dtmf.digit)
            case twilio.Stop():
                return StreamEnded(Cause.STOP)
            case _:
                assert_never(message)

    def _begin(self, message: twilio.Start, now: float) -> StreamNews:
        start = message.start
        if not self._is_expected(start.call_sid):
            # Nor does this take the name of that call, whose ending is remembered by it.
            return self._refuse("its stream token was given to another call", now)
        media = start.media_format
        if (media.encoding, media.sample_rate, media.channels) != _FORMAT:
            return self._refuse(
                f"audio format {media.encoding} {media.sample_rate} Hz x {media.channels}", now
            )
        if self.state is StreamState.AWAY:
            return self._come_back(message, now)
        self.start = message
        self.stream_sid = start.stream_sid
        self.call_sid = start.call_sid
        # Asked here, and once: who wants to know is in no hearing, and asks 20 times a second.
        self._may_be_back = self._may_come_back(start)
        self._enter(STREAM[self.state][StreamInput.START], now)
        return Started()

    def _come_back(self, message: twilio.Start, now: float) -> StreamNews:
        assert self.start is not None
        if message.start.call_sid != self.call_sid:
            return Violation("the start of another call's stream")
        # What the first one brought along is still what is known of the call.
        start = msgspec.structs.replace(
            message.start, custom_parameters=self.start.start.custom_parameters
        )
        self.start = msgspec.structs.replace(message, start=start)
        self.stream_sid = start.stream_sid
        self._enter(STREAM[self.state][StreamInput.START], now)
        return Back(now - self._cut_at)

    def _refuse(self, detail: str, now: float) -> StreamEnded:
        self._enter(STREAM[self.state][StreamInput.REFUSED_START], now)
        return StreamEnded(Cause.CALLER_REFUSED, detail)

    def cut(self, cause: Cause, detail: str, now: float) -> Cut | StreamEnded:
        """Its socket is gone, and nobody has said that the call is over."""
        to = STREAM[self.state].get(StreamInput.LEG_CUT)
        if to is None or not self.may_come_back:
            return self.end(cause, detail, now)
        self._cut_by, self._cut_at = StreamEnded(cause, detail), now
        self._enter(to, now)
        return Cut()

    def end(self, cause: Cause, detail: str, now: float) -> StreamEnded:
        """Its socket has come to an end, or is given up."""
        to = STREAM[self.state].get(StreamInput.LEG_ENDED)
        if to is not None:
            self._enter(to, now)
        return StreamEnded(cause, detail)

    def tick(self, now: float) -> StreamEnded | None:
        """Whether something that Twilio owes has not come in time."""
        if now < self.deadline:
            return None
        limit = STREAM_LIMITS[self.state]
        assert limit.cause is not None
        is_away = self.is_away
        self._enter(STREAM[self.state][StreamInput.TIMEOUT], now)
        if is_away and self._cut_by is not None:
            return self._cut_by
        return StreamEnded(limit.cause, f"after {limit.seconds:g} s")

    def _enter(self, state: StreamState, now: float) -> None:
        self.state = state
        self.is_flowing = state is StreamState.FLOWING
        limit = STREAM_LIMITS.get(state)
        self.deadline = inf if limit is None else now + limit.seconds


def _name_of(message: twilio.Message) -> str:
    return type(message).__name__.lower()

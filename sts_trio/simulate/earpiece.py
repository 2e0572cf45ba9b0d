"""What a caller hears: Twilio's playout buffer, drained in real time. Pure.

Time comes in as seconds since the call began. Everything sent is buffered and played in order;
a mark comes back when all audio before it was played, at once if there is none; `clear` empties the
buffer, and the marks in it come back as well. Nothing is played twice and an empty buffer is
silence.
Source: Twilio, "Media Streams: WebSocket messages", read 2026-11-22.
"""

import collections

import msgspec

from sts_trio.audio.frames import FRAME, SILENCE, length, seconds
from sts_trio.audio.g711 import decibels, level

# Twilio's capacity; what is more is dropped with warning 31931.
CAPACITY = length(600.0)
# Marks that wait to be echoed, and times that are kept: a bridge may send them without end.
MAX_MARKS = 100_000

# A word on a phone line is louder, its noise is not.
AUDIBLE = decibels(-45)
# Silence shorter than this is a pause within what somebody says.
PAUSE = 0.5


class Announced(msgspec.Struct, frozen=True):
    """The carrier's own words, in seconds since the call began."""

    began: float
    ended: float
    words: str


class Spans:
    """When somebody was audible in a track that grows, in seconds from its beginning."""

    def __init__(self) -> None:
        self.spans: list[tuple[float, float]] = []  # (from, to), in order, apart by a pause
        self._length = 0
        self._rest = b""

    @property
    def last(self) -> float:
        """The end of what was audible so far; 0.0 if nothing was."""
        return self.spans[-1][1] if self.spans else 0.0

    def add(self, audio: bytes) -> None:
        """The track goes on with this."""
        audio = self._rest + audio
        for at in range(0, len(audio) - FRAME + 1, FRAME):
            if level(audio[at : at + FRAME]) >= AUDIBLE:
                self._extend(seconds(self._length), seconds(self._length + FRAME))
            self._length += FRAME
        self._rest = audio[len(audio) - len(audio) % FRAME :]

    def _extend(self, begin: float, end: float) -> None:
        if self.spans and begin - self.last < PAUSE:
            begin = self.spans.pop()[0]
        self.spans.append((begin, end))


class Earpiece:
    """Tell it what comes and what time it is; what is to be echoed comes back in order."""

    def __init__(self) -> None:
        self.track = bytearray()  # all that was heard, from the beginning of the call
        self.audible = Spans()  # the agent, or whoever else is talked with
        self.is_announcement = False  # what is played now: the carrier's own words
        self.received = 0  # bytes of µ-law, as all that follow
        self.played = 0
        self.overflowed = 0
        self.clears = 0
        self.cleared: list[float] = []  # when, of the first
        self.marks = 0
        self.reached: list[float] = []  # when marks went back, of the first
        self._buffer = bytearray()
        self._accepted = 0
        self._gone = 0  # played or cleared
        self._marks: collections.deque[tuple[str, int]] = collections.deque()  # name, `_accepted`

    def advance(self, now: float) -> list[str]:
        """Plays up to now; returns the marks that were reached."""
        wanted = length(now) - len(self.track)
        if wanted > 0:
            playing = bytes(self._buffer[:wanted])
            del self._buffer[: len(playing)]
            self.played += 0 if self.is_announcement else len(playing)
            self._gone += len(playing)
            playing = playing.ljust(wanted, SILENCE)
            self.track += playing
            self.audible.add(SILENCE * wanted if self.is_announcement else playing)
        return self._reached(now)

    def play(self, audio: bytes, now: float) -> list[str]:
        """Audio has come, to be played behind what is buffered."""
        reached = self.advance(now)
        self.received += 0 if self.is_announcement else len(audio)
        room = CAPACITY - len(self._buffer)
        self.overflowed += max(0, len(audio) - room)
        self._buffer += audio[:room]
        self._accepted += len(audio[:room])
        return reached

    def mark(self, name: str, now: float) -> list[str]:
        reached = self.advance(now)
        self.marks += 1
        if len(self._marks) < MAX_MARKS:
            self._marks.append((name, self._accepted))
        return reached + self._reached(now)

    def clear(self, now: float) -> list[str]:
        reached = self.advance(now)
        self.clears += 1
        if len(self.cleared) < MAX_MARKS:
            self.cleared.append(now)
        self._gone = self._accepted
        self._buffer.clear()
        return reached + self._reached(now)

    def drop(self, now: float, *, audio: bool = True) -> list[str]:
        """Whoever played is gone: nothing of theirs is told any more, nor heard unless the `audio`
        is to be played out. Returns the marks that had not been reached."""
        self.advance(now)
        pending = [name for name, _ in self._marks]
        self._marks.clear()
        if audio:
            self._gone = self._accepted
            self._buffer.clear()
        return pending

    def _reached(self, now: float) -> list[str]:
        reached = []
        while self._marks and self._marks[0][1] <= self._gone:
            reached.append(self._marks.popleft()[0])
            if len(self.reached) < MAX_MARKS:
                self.reached.append(now)
        return reached

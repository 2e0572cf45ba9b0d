"""When the caller begins and ceases to speak. Pure, but for what a sense may keep to itself.

Time is the audio's own: bytes, not a clock, so audio that arrives late or in bursts is judged the
same. What a frame is, speech or not, a `Sense` tells; `BY_LOUDNESS` needs nothing, and its
thresholds are fixed: a phone line's noise lies near -58 dBFS and speech near -22, and a caller in
a loud street is beyond what it can tell.
"""

from collections.abc import Callable

import msgspec

from sts_trio.audio.frames import FRAME, length, seconds
from sts_trio.audio.g711 import decibels, level

# A little apart, so that a voice that falls does not end the turn at once.
BEGIN_LEVEL = decibels(-36)
STAY_LEVEL = decibels(-42)

# Of the audio before speech was noticed, this much goes with it: a soft first sound is not yet
# speech to any sense.
BEFORE = length(0.3)
# A turn that lasts longer is a radio, or a sense that is stuck: it is taken to be over.
MAX = length(20.0)


class Sense(msgspec.Struct, frozen=True, kw_only=True):
    """How speech is told from the rest.

    `hears(frame, speaking)` judges 20 ms. The numbers are of frames: of speech that begin a turn,
    of silence that end it, and of silence after which it might be over; without the last one, no
    audio is kept.
    """

    hears: Callable[[bytes, bool], bool]
    begin: int
    end: int
    pause: int | None = None


def _is_loud(frame: bytes, speaking: bool) -> bool:
    return level(frame) >= (STAY_LEVEL if speaking else BEGIN_LEVEL)


# A click is shorter than 60 ms; a pause within a sentence is shorter than 500 ms, mostly.
BY_LOUDNESS = Sense(hears=_is_loud, begin=3, end=25)


class Began(msgspec.Struct, frozen=True):
    """The caller speaks, since as many frames as the sense takes to notice."""


class Paused(msgspec.Struct, frozen=True):
    """The turn might be over; this is its audio, as µ-law."""

    audio: bytes


class Resumed(msgspec.Struct, frozen=True):
    """It was not."""


class Ceased(msgspec.Struct, frozen=True):
    """The turn is over after `duration` seconds of speech. `audio` is all of it, if it is kept; it
    is that of the last `Paused` if there was no `Resumed` since."""

    duration: float
    audio: bytes = b""


News = Began | Paused | Resumed | Ceased


class Ears:
    def __init__(self, sense: Sense = BY_LOUDNESS) -> None:
        self.speaking = False
        self._sense = sense
        self._rest = b""
        self._frames = 0  # of this turn, or of speech that may become one
        self._quiet = 0  # frames since the last that was speech
        self._paused: bytes | None = None
        self._kept = bytearray()  # this turn's audio, or what may be the beginning of one

    def listen(self, audio: bytes) -> list[News]:
        """What these bytes tell; bytes short of a 20 ms frame wait for the next ones."""
        audio = self._rest + audio
        whole = len(audio) - len(audio) % FRAME
        self._rest = audio[whole:]
        told: list[News] = []
        for at in range(0, whole, FRAME):
            frame = audio[at : at + FRAME]
            if self._sense.pause is not None:
                self._keep(frame)
            news = self._judge(self._sense.hears(frame, self.speaking))
            if news is not None:
                told.append(news)
        return told

    def end_turn(self) -> Ceased | None:
        """Takes the caller's turn to be over now; None if there is none."""
        if not self.speaking:
            return None
        duration = seconds((self._frames - self._quiet) * FRAME)
        ceased = Ceased(duration, bytes(self._kept) if self._paused is None else self._paused)
        self.speaking = False
        self._frames = self._quiet = 0
        self._paused = None
        self._kept.clear()
        return ceased

    def _keep(self, frame: bytes) -> None:
        self._kept += frame
        if not self.speaking:
            del self._kept[: -(BEFORE + self._sense.begin * FRAME)]

    def _judge(self, is_speech: bool) -> News | None:
        if not self.speaking:
            self._frames = self._frames + 1 if is_speech else 0
            if self._frames < self._sense.begin:
                return None
            self.speaking = True
            return Began()
        self._frames += 1
        self._quiet = 0 if is_speech else self._quiet + 1
        if self._quiet >= self._sense.end or self._frames * FRAME >= MAX:
            return self.end_turn()
        if self._quiet == self._sense.pause:
            self._paused = bytes(self._kept)
            return Paused(self._paused)
        if is_speech and self._paused is not None:
            self._paused = None
            return Resumed()
        return None

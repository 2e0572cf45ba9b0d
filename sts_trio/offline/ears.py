"""When the caller begins and ceases to speak, by loudness alone. Pure.

No words are recognised. The thresholds are fixed: a phone line's noise lies near -58 dBFS and
speech near -22, and a caller in a loud street is beyond what this can tell. Time is the audio's
own: bytes, not a clock, so audio that arrives late or in bursts is judged the same.
"""

import msgspec

from sts_trio.logic.audio import FRAME, seconds
from sts_trio.logic.g711 import decibels, level

# A little apart, so that a voice that falls does not end the turn at once.
BEGIN_LEVEL = decibels(-36)
STAY_LEVEL = decibels(-42)
# A click is shorter than 60 ms; a pause within a sentence is shorter than 500 ms, mostly.
BEGIN_FRAMES = 3
END_FRAMES = 25


class Began(msgspec.Struct, frozen=True):
    """The caller speaks, since `BEGIN_FRAMES` ago."""


class Ceased(msgspec.Struct, frozen=True):
    """The caller has been silent for `END_FRAMES` after `duration` seconds of speech."""

    duration: float


class Ears:
    def __init__(self) -> None:
        self.speaking = False
        self._rest = b""
        self._frames = 0  # of this stretch of speech, or of loud frames that may become one
        self._quiet = 0  # frames since the last that was loud enough

    def listen(self, audio: bytes) -> list[Began | Ceased]:
        """What these bytes tell; bytes short of a 20 ms frame wait for the next ones."""
        audio = self._rest + audio
        whole = len(audio) - len(audio) % FRAME
        self._rest = audio[whole:]
        told: list[Began | Ceased] = []
        for at in range(0, whole, FRAME):
            news = self._judge(level(audio[at : at + FRAME]))
            if news is not None:
                told.append(news)
        return told

    def end_turn(self) -> Ceased | None:
        """Takes the caller's turn to be over now; None if there is none."""
        if not self.speaking:
            return None
        ceased = Ceased(seconds((self._frames - self._quiet) * FRAME))
        self.speaking = False
        self._frames = self._quiet = 0
        return ceased

    def _judge(self, loudness: float) -> Began | Ceased | None:
        if not self.speaking:
            self._frames = self._frames + 1 if loudness >= BEGIN_LEVEL else 0
            if self._frames < BEGIN_FRAMES:
                return None
            self.speaking = True
            return Began()
        self._frames += 1
        self._quiet = 0 if loudness >= STAY_LEVEL else self._quiet + 1
        return self.end_turn() if self._quiet >= END_FRAMES else None

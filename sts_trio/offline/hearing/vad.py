"""A sense for speech that a loud street does not fool: WebRTC's voice activity detector."""

import itertools

import webrtcvad

from sts_trio.audio import g711
from sts_trio.audio.frames import BYTES_PER_SECOND
from sts_trio.offline.hearing.endpointing import Sense

# The least trusting of four: with the others, noise was taken for speech or speech never ended.
MODE = 3
BEGIN = 4  # frames: 80 ms, so that a barge-in is noticed within 150
END = 25  # 500 ms; callers pause for longer than 300
# It takes the first noise it ever hears for speech: so many frames are heard for the adapting only.
SETTLE = 10
# Words are looked for this early, so that they are known when the turn is over.
PAUSE = 12


def sense() -> Sense:
    """A new one for each call: it adapts to the line."""
    detector = webrtcvad.Vad(MODE)
    frames = itertools.count()

    def hears(frame: bytes, speaking: bool) -> bool:
        is_speech = bool(detector.is_speech(g711.decode(frame), BYTES_PER_SECOND))
        return next(frames) >= SETTLE and is_speech

    return Sense(hears=hears, begin=BEGIN, end=END, pause=PAUSE)

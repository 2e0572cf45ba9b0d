"""What the agent says, handed out at the service's pace. Pure: time comes in as a float.

Deepgram sends speech about two and a half times faster than it is spoken, beginning at once, in
pieces of no particular length. So seconds of it lie at the other end when the caller barges in,
and a bridge that does not drop them is found out.
"""

import collections
import math
from collections.abc import Iterable

from sts_trio.audio.frames import seconds
from sts_trio.wire.deepgram import Audio, TextFromAgent

SPEED = 2.5  # seconds of speech sent in a second
PIECE = 960  # bytes of µ-law in one message: six media frames

Said = TextFromAgent | Audio


def pieces(audio: bytes) -> list[Audio]:
    """The audio as the messages that carry it."""
    return [Audio(audio[at : at + PIECE]) for at in range(0, len(audio), PIECE)]


class Mouth:
    def __init__(self) -> None:
        self._waiting: collections.deque[Said] = collections.deque()
        self._due = math.inf  # when the next piece of audio may leave

    @property
    def speaking(self) -> bool:
        """Whether something is left to be sent; what was sent may still be playing."""
        return bool(self._waiting)

    @property
    def deadline(self) -> float:
        """When `utter` has something; infinite when there is nothing to say."""
        return self._due if self._waiting else math.inf

    def say(self, messages: Iterable[Said], now: float) -> None:
        """Queues messages behind what is still to be said. `utter` has the first of them now."""
        if not self._waiting:
            self._due = now
        self._waiting.extend(messages)

    def utter(self, now: float) -> list[Said]:
        """What is due by now. Texts go with the audio before them and wait for nothing."""
        due = []
        while self._waiting:
            if isinstance(self._waiting[0], Audio):
                if self._due > now:
                    break
                self._due += seconds(len(self._waiting[0].data)) / SPEED
            due.append(self._waiting.popleft())
        return due

    def hush(self) -> bool:
        """Drops all that is left to be said; whether there was anything."""
        cut = bool(self._waiting)
        self._waiting.clear()
        return cut

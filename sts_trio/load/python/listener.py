"""A caller of an agent that is not the generator's own: says a clip now and then, and hears what
comes. Pure.

Nothing can be known of what such an agent should say. So it is told whether there was anything to
be heard, whether that was their own voice, and whether it was more than can be played.
"""

from collections.abc import Callable

from sts_trio.audio.frames import FRAME, SILENCE, length, seconds
from sts_trio.simulate.earpiece import Spans

_QUIET = SILENCE * FRAME
# After a clip the agent has so long for its answer, and to speak it.
LISTENS = 8.0
# Deepgram sends faster than it speaks, an answer at a time: none is longer than this.
MOST_AHEAD = 60.0
# Who hears nothing for so long, of a greeting or of an answer, has no agent.
MUTE_AFTER = 15.0
# An echo is 20 ms of what was said, to the byte, that are no silence: of so many values.
VARIED = 8


class Listener:
    """`clip` is µ-law. Give it every frame's time, and all audio that comes. `answered` is told the
    seconds from the end of a clip to the first word after it."""

    def __init__(self, clip: bytes, answered: Callable[[float], None]) -> None:
        self._clip = clip
        self._answered = answered
        self._began: float | None = None
        self._now = 0.0
        self._at = -length(LISTENS)  # of the clip; before it: how much of the pause is left
        self._said_at: float | None = None
        self._received = 0
        self._spans = Spans()
        self._rest = b""
        self._is_echo = False
        self._is_flood = False

    @property
    def audible(self) -> float:
        return sum(end - begin for begin, end in self._spans.spans)

    @property
    def faults(self) -> list[str]:
        """What is wrong with it: mute, echoed, flooded."""
        age = 0.0 if self._began is None else self._now - self._began
        found = []
        if age >= MUTE_AFTER and not self._spans.spans:
            found.append("mute")
        if self._is_echo:
            found.append("echoed")
        if self._is_flood:
            found.append("flooded")
        return found

    def say(self, now: float) -> bytes:
        """The next 20 ms."""
        if self._began is None:
            self._began = now
        self._now = now
        at, self._at = self._at, self._at + FRAME
        if at < 0 or not self._clip:
            return _QUIET
        frame = self._clip[at : at + FRAME]
        if self._at >= len(self._clip):
            self._at, self._said_at = -length(LISTENS), now
        return frame.ljust(FRAME, SILENCE)

    def hear(self, audio: bytes, now: float) -> None:
        before = len(self._spans.spans), self._spans.last
        self._spans.add(audio)
        self._received += len(audio)
        began = now if self._began is None else self._began
        self._is_flood |= seconds(self._received) > now - began + MOST_AHEAD
        self._is_echo |= self._knows(audio)
        if self._said_at is not None and (len(self._spans.spans), self._spans.last) != before:
            self._answered(now - self._said_at)
            self._said_at = None

    def _knows(self, audio: bytes) -> bool:
        """Whether a part of it is the clip's."""
        audio = self._rest + audio
        whole = len(audio) - len(audio) % FRAME
        self._rest = audio[whole:]
        parts = (audio[at : at + FRAME] for at in range(0, whole, FRAME))
        return any(len(set(part)) > VARIED and part in self._clip for part in parts)

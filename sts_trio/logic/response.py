"""How long the caller waits for an answer, as they hear it. Pure.

From where their speech ended to where the agent's first sound began, both as places in the stream
that comes from the phone: a mark comes back in that same stream once the audio before it has been
played, so the way to the phone and back is in the figure, and how late we read the two is not. The
recording of a call knows places in the same way, and so tells the same.

Not every turn has one. It is not known when the speech ended where that is longer ago than is kept;
who speaks up again before the answer has begun waits anew; and what was being said while the caller
spoke, and went on, is no answer.
"""

from collections.abc import Iterable

from sts_trio.audio.frames import FRAME, seconds
from sts_trio.logic.perception import PERCEPTION, Perception

# A phone that is muted sends nothing, and its stream stands still. Where the clock is that far
# ahead of it, the clock tells. Less is jitter.
HOLE = 1.0


class ResponseTime:
    """Places are in bytes of µ-law: those of the caller's stream count from its begin, those of the
    playout are `Playout`'s."""

    __slots__ = ("_ended_at", "_ended_before", "_perception", "_sounds_from")

    def __init__(self, perception: Perception = PERCEPTION) -> None:
        self._perception = perception
        self._ended_at: int | None = None  # where the speech ended, if an answer is waited for
        self._ended_before = 0.0  # how far the clock was ahead of the stream then
        self._sounds_from: int | None = None  # where in the playout the answer begins to be heard

    @property
    def is_waiting(self) -> bool:
        """Whether the agent's first sound is still to come."""
        return self._ended_at is not None and self._sounds_from is None

    def hear_words(self, ended_at: int | None, place: int, now: float) -> None:
        """The caller's words are understood. Of more than one sentence the last that was to be
        heard counts; of one that ended nobody knows when (`None`), what is known already."""
        if ended_at is not None and self._sounds_from is None:
            self._ended_at = ended_at
            self._ended_before = now - seconds(place)

    def hear_audio(self, frames: Iterable[bytes], sent: int) -> None:
        """The agent's audio for the phone, whole frames, of which the last byte is `sent` in the
        playout. To be told while it `is_waiting`."""
        audio = b"".join(frames)
        for at in range(0, len(audio), FRAME):
            if self._perception.is_audible(audio[at : at + FRAME]):
                self._sounds_from = sent - len(audio) + at
                return

    def hear_mark(self, position: int, place: int, now: float) -> float | None:
        """The playout has come to that position. Returns the seconds of silence before the answer,
        once, if it has begun."""
        if self._ended_at is None or self._sounds_from is None or position <= self._sounds_from:
            return None
        silence = seconds(place - self._ended_at - (position - self._sounds_from))
        hole = now - seconds(place) - self._ended_before
        self.drop()
        return max(0.0, silence + (hole if hole > HOLE else 0.0))

    def drop(self) -> None:
        """The caller speaks up, or what was to be heard is cut."""
        self._ended_at = self._sounds_from = None

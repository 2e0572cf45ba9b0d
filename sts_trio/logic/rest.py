"""What the caller has not heard of an utterance, kept in case that only a noise has cut it. Pure.

A cough is the beginning of a turn to an agent, and cuts its sentence. Marks tell what was heard, so
the rest can be played on when no words follow: a little before the last mark that was heard, as
nobody takes up a sentence in the middle of a syllable.
"""

from math import inf

from sts_trio.audio.frames import Frames, length

LEAD_IN = length(0.3)
# Of an utterance: agents send some ten seconds ahead of what is played.
MAX_REST = length(60.0)
# Words of the caller's would have come by then. Deepgram tells them at the end of a turn, so
# whoever is to be heard speaking is waited for: for a pause, and no longer than a caller bears
# silence.
RESUME_AFTER = 1.2
RESUME_PAUSE = 0.6
RESUME_AT_LATEST = 4.0
# Nobody talks into a noise that comes again and again.
MAX_RESUMES = 5


class Hold:
    """When what was cut is to be played on."""

    __slots__ = ("_at_latest", "_in_a_row", "count", "until")

    def __init__(self) -> None:
        self.until = inf  # `inf`: nothing is held
        self.count = 0  # how often it was but a noise
        self._at_latest = inf
        self._in_a_row = 0

    @property
    def is_on(self) -> bool:
        return self.until < inf

    def begin(self, now: float) -> bool:
        """Something was cut; `False`: that is not held any more."""
        if self._in_a_row >= MAX_RESUMES:
            return False
        self._at_latest = min(self._at_latest, now + RESUME_AT_LATEST)
        self.until = min(now + RESUME_AFTER, self._at_latest)
        return True

    def hear_voice(self, now: float) -> None:
        """The caller is to be heard."""
        self.until = min(max(self.until, now + RESUME_PAUSE), self._at_latest)

    def hear_words(self) -> None:
        """The caller has said something."""
        self._in_a_row = 0

    def resume(self) -> None:
        self.count += 1
        self._in_a_row += 1
        self.drop()

    def drop(self) -> None:
        """Something else has begun."""
        self.until = self._at_latest = inf


class Rest:
    """Positions are those of the playout, in bytes. `is_whole`: the agent has said all of it."""

    __slots__ = ("_frames", "_pieces", "_size", "held", "is_whole")

    def __init__(self) -> None:
        self.is_whole = True
        self._pieces: list[tuple[int, bytes]] = []  # end, audio
        self._size = 0
        self.held: list[bytes] = []  # of what was cut; there is one as long as this is not empty
        self._frames = Frames()

    def __bool__(self) -> bool:
        return bool(self.held)

    def keep(self, audio: bytes, end: int) -> None:
        """Whole frames were sent, up to `end`."""
        while self._size > MAX_REST:
            self._size -= len(self._pieces.pop(0)[1])
        self._pieces.append((end, audio))
        self._size += len(audio)

    def forget_heard(self, position: int) -> None:
        """What is before `position` is behind the caller."""
        heard, until = 0, position - LEAD_IN
        for end, audio in self._pieces:
            if end > until:
                break
            self._size -= len(audio)
            heard += 1
        del self._pieces[:heard]

    def cut(self, position: int, *, is_whole: bool) -> None:
        """The caller heard no more than what is before `position`."""
        start = position - LEAD_IN
        unheard = [(end, audio) for end, audio in self._pieces if end > position]
        if unheard:
            self.drop()
            self.held = [
                audio[max(0, start - end + len(audio)) :]
                for end, audio in self._pieces
                if end > start
            ]
            self.is_whole = is_whole
        self._pieces.clear()
        self._size = 0

    def add(self, audio: bytes) -> None:
        """More of what was cut, in the agent's own pieces."""
        if self.held and sum(map(len, self.held)) < MAX_REST:
            self.held.append(self._frames.cut(audio))

    def take(self) -> bytes:
        """Whole frames: what was cut, once."""
        audio = b"".join(self.held)
        self.drop()
        return audio

    def drop(self) -> None:
        """Something else has begun."""
        self.held = []
        self._frames.drop()

"""What the caller has not heard of an utterance, kept in case that only a noise has cut it. Pure.

A cough is the beginning of a turn to an agent, and cuts its sentence. Marks tell what was heard, so
the rest can be played on when no words follow: a little before the last mark that was heard, as
nobody takes up a sentence in the middle of a syllable.
"""

import collections

from sts_trio.audio.frames import Frames, length

LEAD_IN = length(0.3)
# Of an utterance: agents send some ten seconds ahead of what is played.
MAX_REST = length(60.0)


class Rest:
    """Positions are those of the playout, in bytes. `is_whole`: the agent has said all of it."""

    __slots__ = ("_frames", "_pieces", "_rest", "_size", "is_whole")

    def __init__(self) -> None:
        self.is_whole = True
        self._pieces: collections.deque[tuple[int, bytes]] = collections.deque()  # end, audio
        self._size = 0
        self._rest: list[bytes] = []  # of what was cut; there is one as long as this is not empty
        self._frames = Frames()

    def __bool__(self) -> bool:
        return bool(self._rest)

    def keep(self, audio: bytes, end: int, position: int) -> None:
        """Whole frames were sent, up to `end`; what is before `position` is behind the caller."""
        pieces = self._pieces
        while pieces and (pieces[0][0] <= position - LEAD_IN or self._size > MAX_REST):
            self._size -= len(pieces.popleft()[1])
        pieces.append((end, audio))
        self._size += len(audio)

    def cut(self, position: int, *, is_whole: bool) -> None:
        """The caller heard no more than what is before `position`."""
        start = position - LEAD_IN
        unheard = [(end, audio) for end, audio in self._pieces if end > position]
        if unheard:
            self.drop()
            self._rest = [
                audio[max(0, start - end + len(audio)) :]
                for end, audio in self._pieces
                if end > start
            ]
            self.is_whole = is_whole
        self._pieces.clear()
        self._size = 0

    def add(self, audio: bytes) -> None:
        """More of what was cut, in the agent's own pieces."""
        if self._rest and sum(map(len, self._rest)) < MAX_REST:
            self._rest.append(self._frames.cut(audio))

    def take(self) -> bytes:
        """Whole frames: what was cut, once."""
        audio = b"".join(self._rest)
        self.drop()
        return audio

    def drop(self) -> None:
        """Something else has begun."""
        self._rest = []
        self._frames.drop()

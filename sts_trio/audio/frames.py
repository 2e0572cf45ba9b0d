"""Audio on the phone side: µ-law, 8 kHz, mono, so 8 bytes a millisecond. Pure.

Durations are float seconds everywhere but on the wire; this is the one place they become bytes.
"""

BYTES_PER_SECOND = 8000
FRAME = 160  # bytes of one media frame: 20 ms
SILENCE = b"\xff"  # µ-law's positive zero
SILENT = b"\xff\x7f"  # and the negative one: who is sent only these hears nothing


def seconds(length: int) -> float:
    """How long `length` bytes of µ-law last."""
    return length / BYTES_PER_SECOND


def length(duration: float) -> int:
    """Bytes of µ-law that last `duration` seconds."""
    return round(duration * BYTES_PER_SECOND)


class Batch:
    """Audio that is gathered, `size` bytes by now. Every byte put in comes out once, in order."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes] = []  # mostly one or two; a deque takes 760 bytes for none

    def add(self, audio: bytes) -> None:
        self._pieces.append(audio)
        self.size += len(audio)

    def keep_newest(self, most: int) -> int:
        """Drops the oldest audio beyond `most` bytes; returns how many that were."""
        if self.size <= most:
            return 0
        excess = left = self.size - most
        self.size = most
        gone = 0
        for piece in self._pieces:
            if len(piece) > left:
                break
            left -= len(piece)
            gone += 1
        del self._pieces[:gone]
        if left:
            self._pieces[0] = self._pieces[0][left:]
        return excess

    def take(self) -> bytes:
        """All that was gathered; the batch is empty afterwards."""
        audio = b"".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        return audio


class Frames:
    """The agent's audio on its way to the caller, cut into whole 20 ms frames.

    Deepgram sends chunks of any length; frames that are not whole have been heard as clicks. What
    is left of a chunk waits for the next one, and is padded with silence only when an utterance
    ends.
    """

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = b""

    def cut(self, audio: bytes) -> bytes:
        """The whole frames there are by now; may be empty."""
        if self._left:
            audio = self._left + audio
        whole = len(audio) - len(audio) % FRAME
        self._left = audio[whole:]
        return audio[:whole]

    def finish(self) -> bytes:
        """The last frame of an utterance, padded; empty when nothing is left."""
        if not self._left:
            return b""
        last = self._left.ljust(FRAME, SILENCE)
        self._left = b""
        return last

    def drop(self) -> None:
        """Forgets what is left: the utterance was cut off."""
        self._left = b""

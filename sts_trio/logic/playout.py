"""What the caller has, and has not yet, heard of the agent's audio. Pure.

Twilio buffers what we send and plays it in real time. Its only feedback is marks: a mark comes back
when all audio sent before it has been played. `clear` empties the buffer and sends every pending
mark back as well, though nobody heard their audio, and nothing in the echo tells the two apart. So
each `clear` begins a new epoch, the epoch is part of the mark's name, and an echo of an older epoch
means nothing.
Source: Twilio, "Media Streams: WebSocket messages", mark and clear, read 2026-11-22.
"""

import enum
import re

from sts_trio.audio.frames import length

# How exactly we know what was heard: half a sentence's word or two. A mark costs two messages.
MARK_EVERY = length(0.5)
# Twilio buffers ten minutes; there is nothing beyond to be marked.
MAX_PENDING_MARKS = 1200
# The ends of utterances are marked beside: as many again. Of more, the oldest are not waited for:
# who echoes one that is newer has played them, too.
MAX_KEPT_MARKS = 2 * MAX_PENDING_MARKS
# Bounded, as a peer may write any name, and `int` takes no more than 4300 digits.
_NAME = re.compile(r"e(0|[1-9][0-9]{0,8})-([1-9][0-9]{0,8})")


class Echo(enum.Enum):
    """What an echoed mark tells."""

    HEARD = enum.auto()
    CLEARED = enum.auto()
    NEVER_SENT = enum.auto()


class Playout:
    """A ledger in bytes of µ-law: `sent` = `heard` + `cut` + `unheard`, always."""

    __slots__ = ("_count", "_epoch", "_marked", "_pending", "cut", "heard", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.heard = 0
        self.cut = 0
        self._epoch = 0
        self._count = 0
        self._marked = 0  # `sent` at the newest mark
        # `sent` at each mark that has not come back: the newest is number `_count`, the others
        # have the numbers before it.
        self._pending: list[int] = []

    @property
    def unheard(self) -> int:
        """Bytes that Twilio may still be holding."""
        return self.sent - self.heard - self.cut

    @property
    def position(self) -> int:
        """How much of what was sent is behind us, heard or cut."""
        return self.heard + self.cut

    @property
    def has_marks(self) -> bool:
        """Whether there ever was one to be echoed."""
        return self._count > 0

    @property
    def is_marked(self) -> bool:
        """Whether the last mark stands at the very end of what was sent."""
        return self._marked == self.sent

    def play(self, count: int) -> bool:
        """`count` bytes were sent; returns whether a mark should follow."""
        self.sent += count
        return self.sent - self._marked >= MARK_EVERY and len(self._pending) < MAX_PENDING_MARKS

    def mark(self) -> str:
        """The name of a mark to send now, behind all audio sent so far."""
        self._count += 1
        self._marked = self.sent
        self._pending.append(self.sent - self.cut)
        if len(self._pending) > MAX_KEPT_MARKS:
            del self._pending[0]
        return f"e{self._epoch}-{self._count}"

    def echo(self, name: str) -> Echo:
        """A mark came back."""
        match = _NAME.fullmatch(name)
        if match is None:
            return Echo.NEVER_SENT
        epoch, number = int(match[1]), int(match[2])
        if epoch > self._epoch or number > self._count:
            return Echo.NEVER_SENT
        before = self._count - len(self._pending)  # the number of the last that came back
        if epoch < self._epoch or number <= before:
            return Echo.CLEARED
        # Echoes come in order; one that was skipped is behind us as well.
        self.heard = self._pending[number - before - 1]
        del self._pending[: number - before]
        return Echo.HEARD

    def clear(self) -> int:
        """The buffer is emptied; returns how many bytes nobody will hear.

        What was played since the last echo counts as cut: at most `MARK_EVERY` too much.
        """
        unheard = self.unheard
        self.cut += unheard
        self._epoch += 1
        self._marked = self.sent
        self._pending.clear()
        return unheard

"""The way toward a leg, with its size in seconds of audio.

Putting never waits, so that a task can act at once on what it hears. When the leg is slower
than what is put, the oldest audio goes: late speech is worth less than speech in time. Whatever
waits, a message costs the same few steps: a flood slows nobody down.

A message put while nothing waits, and while the speaker waits for one, is written through: tried on
the leg at once, without waking the speaker. Order is kept, as nothing overtakes what waits.
"""

import collections
from collections.abc import Callable
from typing import Generic, TypeVar

import trio

from sts_trio.audio.frames import length, seconds

M = TypeVar("M")

# Messages without audio are small and few; this many waiting means that nobody reads.
MAX_MESSAGES = 65536


class _Place(Generic[M]):
    """A message that waits; None: it was dropped. The places of those go when they are the first,
    or too many."""

    __slots__ = ("message", "weight")

    def __init__(self, message: M, weight: int) -> None:
        self.message: M | None = message
        self.weight = weight


class _Backlog(Generic[M]):
    """What waits for a leg. There is none while the leg keeps up, as nearly always: two deques take
    1.5 KB."""

    __slots__ = ("_audio", "_capacity", "_dropped", "_waiting", "weight")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity  # bytes of µ-law
        self._waiting: collections.deque[_Place[M]] = collections.deque()
        self._audio: collections.deque[_Place[M]] = collections.deque()  # of these, not dropped
        self.weight = 0  # of all that waits, in bytes of µ-law
        self._dropped = 0  # places of dropped messages

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, message: M, weight: int) -> int:
        """Returns how many bytes of older audio had to go to make room."""
        place = _Place(message, weight)
        dropped = self._make_room(weight)
        self._waiting.append(place)
        if weight:
            self.weight += weight
            self._audio.append(place)
        return dropped

    def take(self) -> M:
        """The first message. While anything waits there is one: the newest is never dropped."""
        message = self._take_first()
        while message is None:
            message = self._take_first()
        return message

    def messages(self) -> list[M]:
        """All, in order."""
        return [place.message for place in self._waiting if place.message is not None]

    def _make_room(self, weight: int) -> int:
        """Drops the oldest audio until `weight` bytes fit; all else keeps its place."""
        before = self.weight
        while self._audio and self.weight + weight > self._capacity:
            oldest = self._audio.popleft()
            oldest.message = None
            self.weight -= oldest.weight
            self._dropped += 1
        if len(self._waiting) - self._dropped >= MAX_MESSAGES:
            # A quarter of whatever is oldest: who reads so little misses the more of it.
            while len(self._waiting) - self._dropped > MAX_MESSAGES * 3 // 4:
                self._take_first()
        elif self._dropped > len(self._waiting) // 2:
            # Half of them are passed over, once for as many that were dropped.
            kept = (place for place in self._waiting if place.message is not None)
            self._waiting, self._dropped = collections.deque(kept), 0
        return before - self.weight

    def _take_first(self) -> M | None:
        place = self._waiting.popleft()
        if place.message is None:
            self._dropped -= 1
        elif place.weight:
            self._audio.popleft()  # the first audio there is
            self.weight -= place.weight
        return place.message


class Outbox(Generic[M]):
    """`weigh` tells how many bytes of µ-law are in a message; 0 marks one that must not be lost.

    One speaker at a time takes messages from it.
    """

    __slots__ = (
        "_backlog",
        "_capacity",
        "_handed_over",
        "_is_closed",
        "_lot",
        "_speaker_waits",
        "_try_send",
        "_weigh",
    )

    def __init__(self, capacity: float, weigh: Callable[[M], int]) -> None:
        self._capacity = length(capacity)
        self._weigh = weigh
        self._backlog: _Backlog[M] | None = None
        self._handed_over: M | None = None  # what the speaker will find when it has its turn
        self._lot = trio.lowlevel.ParkingLot()
        self._is_closed = False
        self._speaker_waits = False
        self._try_send: Callable[[M], bool] | None = None

    @property
    def seconds(self) -> float:
        """How much audio waits for the speaker."""
        return 0.0 if self._backlog is None else seconds(self._backlog.weight)

    def write_through(self, try_send: Callable[[M], bool] | None) -> None:
        """How to send at once: returns whether it did. `None`: there is no way."""
        self._try_send = try_send

    def put(self, message: M) -> int:
        """Sends the message at once, or leaves it for the speaker.

        Returns how many bytes of older audio had to go to make room. After `close`, the message
        is dropped.
        """
        is_awaited = self._speaker_waits and self._handed_over is None
        if is_awaited and self._try_send is not None and self._try_send(message):
            return 0
        if self._is_closed:
            return 0
        if is_awaited:
            self._handed_over = message
            self._lot.unpark()
            return 0
        if self._backlog is None:
            self._backlog = _Backlog(self._capacity)
        return self._backlog.put(message, self._weigh(message))

    def flush(self) -> list[M]:
        """Drops all that waits; returns it, in order."""
        backlog, self._backlog = self._backlog, None
        return [] if backlog is None else backlog.messages()

    def close(self) -> None:
        """No more is to come. What waits is still to be taken, then iteration ends."""
        self._is_closed = True
        self._try_send = None
        self._lot.unpark()

    def __aiter__(self) -> "Outbox[M]":
        """Each message in turn, until the outbox is closed and empty."""
        return self

    async def __anext__(self) -> M:
        """Cancelled, it takes nothing along."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._backlog is not None:
            message = self._backlog.take()
            if not self._backlog:
                self._backlog = None
            await trio.lowlevel.cancel_shielded_checkpoint()
            return message
        if not self._is_closed:
            self._speaker_waits = True
            try:
                await self._lot.park()
            finally:
                self._speaker_waits = False
        handed_over, self._handed_over = self._handed_over, None
        if handed_over is None:
            raise StopAsyncIteration
        return handed_over

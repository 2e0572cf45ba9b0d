"""A memory channel toward a leg, with its size in seconds of audio.

Putting never waits, so that whoever hears something can act on it at once. When the leg is slower
than what is put, the oldest audio goes: late speech is worth less than speech in time.

A message put while nothing waits, and while the speaker waits for one, is written through: tried on
the leg at once, without waking the speaker. Order is kept, as nothing overtakes what waits.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import trio

from sts_trio.audio.frames import length

M = TypeVar("M")

# Messages without audio are small and few; this many waiting means that nobody reads.
MAX_MESSAGES = 65536


class Outbox(Generic[M]):
    """`weigh` tells how many bytes of µ-law are in a message; 0 marks one that must not be lost."""

    __slots__ = (
        "_capacity",
        "_inlet",
        "_is_closed",
        "_outlet",
        "_queued",
        "_speaker_waits",
        "_try_send",
        "_waiting",
        "_weigh",
    )

    def __init__(self, capacity: float, weigh: Callable[[M], int]) -> None:
        self._inlet, self._outlet = trio.open_memory_channel[M](MAX_MESSAGES)
        self._capacity = length(capacity)
        self._weigh = weigh
        self._waiting = 0  # bytes of µ-law
        self._queued = 0  # messages, the one on its way to the speaker included
        self._is_closed = False
        self._speaker_waits = False
        self._try_send: Callable[[M], bool] | None = None

    def write_through(self, try_send: Callable[[M], bool] | None) -> None:
        """How to send at once: returns whether it did. `None`: there is no way."""
        self._try_send = try_send

    def put(self, message: M) -> int:
        """Sends the message at once, or leaves it for the speaker.

        Returns how many bytes of older audio had to go to make room. After `close`, the message
        is dropped.
        """
        if (
            self._speaker_waits
            and not self._queued
            and self._try_send is not None
            and self._try_send(message)
        ):
            return 0
        if self._is_closed:
            return 0
        dropped = 0
        weight = self._weigh(message)
        if self._waiting + weight > self._capacity or self._is_crowded():
            dropped = self._make_room(weight)
        self._inlet.send_nowait(message)
        self._waiting += weight
        self._queued += 1
        return dropped

    def flush(self) -> None:
        """Drops all that waits."""
        self._drain()

    def close(self) -> None:
        """No more is to come. What waits is still to be taken, then iteration ends."""
        self._is_closed = True
        self._try_send = None
        self._inlet.close()

    def __aiter__(self) -> "Outbox[M]":
        """Each message in turn, until the outbox is closed and empty."""
        return self

    async def __anext__(self) -> M:
        self._speaker_waits = True
        try:
            message = await self._outlet.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        finally:
            self._speaker_waits = False
        self._waiting -= self._weigh(message)
        self._queued -= 1
        return message

    def _is_crowded(self) -> bool:
        return self._queued >= MAX_MESSAGES

    def _make_room(self, weight: int) -> int:
        """Drops the oldest audio until `weight` bytes fit; all else keeps its place."""
        waiting = self._drain()
        total = sum(map(self._weigh, waiting))
        # When they are too many, a quarter goes at once: each time costs a pass over all of them.
        most = len(waiting) if len(waiting) < MAX_MESSAGES else MAX_MESSAGES * 3 // 4
        dropped = 0
        kept: list[M] = []
        for position, message in enumerate(waiting):
            size = self._weigh(message)
            crowded = len(kept) + len(waiting) - position > most
            if crowded or (size and total - dropped + weight > self._capacity):
                dropped += size
            else:
                kept.append(message)
        for message in kept:
            self._inlet.send_nowait(message)
        self._waiting += total - dropped
        self._queued += len(kept)
        return dropped

    def _drain(self) -> list[M]:
        drained = []
        while True:
            try:
                drained.append(self._outlet.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                self._queued -= len(drained)
                self._waiting -= sum(map(self._weigh, drained))
                return drained

"""A memory channel toward a leg, with its size in seconds of audio.

Putting never waits, so that whoever hears something can act on it at once. When the leg is slower
than what is put, the oldest audio goes: late speech is worth less than speech in time.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import trio

from sts_trio.logic.audio import length

M = TypeVar("M")

# Messages without audio are small and few; this many waiting means that nobody reads.
MOST_MESSAGES = 65536


class Outbox(Generic[M]):
    """`weigh` tells how many bytes of µ-law are in a message; 0 marks one that must not be lost."""

    def __init__(self, capacity: float, weigh: Callable[[M], int]) -> None:
        self._inlet, self._outlet = trio.open_memory_channel[M](MOST_MESSAGES)
        self._capacity = length(capacity)
        self._weigh = weigh
        self._waiting = 0  # bytes of µ-law

    def put(self, message: M) -> int:
        """Leaves the message for the speaker, or with it already if it was waiting for one.

        Returns how many bytes of older audio had to go to make room. After `close`, the message
        is dropped.
        """
        dropped = 0
        weight = self._weigh(message)
        try:
            if self._waiting + weight > self._capacity or self._is_crowded():
                dropped = self._make_room(weight)
            self._inlet.send_nowait(message)
        except trio.ClosedResourceError:
            return 0
        self._waiting += weight
        return dropped

    def flush(self) -> None:
        """Drops all that waits."""
        self._drain()

    def close(self) -> None:
        """No more is to come. What waits is still to be taken, then iteration ends."""
        self._inlet.close()

    def __aiter__(self) -> "Outbox[M]":
        """Each message in turn, until the outbox is closed and empty."""
        return self

    async def __anext__(self) -> M:
        try:
            message = await self._outlet.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        self._waiting -= self._weigh(message)
        return message

    def _is_crowded(self) -> bool:
        return self._outlet.statistics().current_buffer_used >= MOST_MESSAGES

    def _make_room(self, weight: int) -> int:
        """Drops the oldest audio until `weight` bytes fit; all else keeps its place."""
        waiting = self._drain()
        total = sum(map(self._weigh, waiting))
        dropped = 0
        kept: list[M] = []
        for position, message in enumerate(waiting):
            size = self._weigh(message)
            crowded = len(kept) + len(waiting) - position >= MOST_MESSAGES
            if crowded or (size and total - dropped + weight > self._capacity):
                dropped += size
            else:
                kept.append(message)
        for message in kept:
            self._inlet.send_nowait(message)
        self._waiting = total - dropped
        return dropped

    def _drain(self) -> list[M]:
        drained = []
        while True:
            try:
                drained.append(self._outlet.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                self._waiting = 0
                return drained

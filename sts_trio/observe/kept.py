"""What was told of one live call, for who asks for it later: the feed keeps the newest of all."""

import collections
from collections.abc import Iterator

import msgspec

from sts_trio.observe.feed import CallEvent, EventFeed

# Bytes of JSON. A conversation makes some 1.5 KiB in ten seconds, so these are a quarter of an hour
# of it, and 500 calls that last longer hold 64 MiB.
MOST = 128 * 1024


class KeptEvent(msgspec.Struct, frozen=True):
    """`number` is that of the feed; `told` is the entry, as JSON."""

    number: int
    told: msgspec.Raw


class KeptEvents:
    """The newest events of one call, as many as `most` bytes hold. Tells each to the feed, too."""

    def __init__(self, event_feed: EventFeed, most: int = MOST) -> None:
        self._event_feed = event_feed
        self._most = most
        self._events: collections.deque[KeptEvent] = collections.deque()
        self._bytes = 0
        self._newest_dropped = 0

    def tell(self, entry: CallEvent) -> None:
        self._event_feed.tell(entry)
        kept = KeptEvent(self._event_feed.count, msgspec.Raw(entry.json))
        self._events.append(kept)
        self._bytes += len(kept.told)
        while self._bytes > self._most:
            dropped = self._events.popleft()
            self._bytes -= len(dropped.told)
            self._newest_dropped = dropped.number

    def beyond(self, number: int) -> tuple[bool, Iterator[KeptEvent]]:
        """Whether all events behind that one are kept, and those that are."""
        is_whole = self._newest_dropped <= number
        return is_whole, (event for event in self._events if event.number > number)

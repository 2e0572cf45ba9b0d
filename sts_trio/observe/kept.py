"""What was told of one live call, for who asks for it later: the feed keeps the newest of all."""

import msgspec

from sts_trio.observe.events import letters
from sts_trio.observe.feed import CallEvent, EventFeed

# Bytes. A conversation makes an event a second or so, and these are a good quarter of an hour of
# it; 500 calls that last longer hold 128 MiB.
MOST = 256 * 1024
# What an event takes, beside the letters of its texts.
BARE = 200


class KeptEvent(msgspec.Struct, frozen=True):
    """`number` is that of the feed; `told` is the entry, as JSON."""

    number: int
    told: msgspec.Raw


class KeptEvents:
    """The newest events of one call, about as many as `most` bytes hold. Tells each to the feed,
    too. Calls wait for that, and few are asked for: what is kept is made JSON by who asks."""

    __slots__ = ("_bytes", "_entries", "_event_feed", "_most", "_newest_dropped", "_numbers")

    def __init__(self, event_feed: EventFeed, most: int = MOST) -> None:
        self._event_feed = event_feed
        self._most = most
        # Lists, of which the first are deleted: a deque takes as much as the events of a minute.
        self._entries: list[CallEvent] = []
        self._numbers: list[int] = []  # of each, the feed's
        self._bytes = 0
        self._newest_dropped = 0

    def tell(self, entry: CallEvent) -> None:
        self._event_feed.tell(entry)
        self._entries.append(entry)
        self._numbers.append(self._event_feed.count)
        self._bytes += _size(entry)
        while self._bytes > self._most:
            self._bytes -= _size(self._entries.pop(0))
            self._newest_dropped = self._numbers.pop(0)

    def beyond(self, number: int) -> tuple[bool, list[KeptEvent]]:
        """Whether all events behind that one are kept, and those that are."""
        is_whole = self._newest_dropped <= number
        kept = zip(self._numbers, self._entries, strict=True)
        return is_whole, [
            KeptEvent(each, msgspec.Raw(entry.json)) for each, entry in kept if each > number
        ]


def _size(entry: CallEvent) -> int:
    return BARE + letters(entry.event)

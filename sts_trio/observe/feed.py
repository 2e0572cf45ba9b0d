"""What happens in the calls, as it happens: one source for the page, a terminal and records.

The calls tell, anybody may follow. Telling is synchronous and takes the same short time whoever
follows; what was told last is kept once for all. A follower is no more than a place in it, so one
that is slow costs nothing: it is told how much it has missed, and goes on from the oldest that is
left.
"""

import collections
import contextlib
import functools
from collections.abc import Callable, Iterator

import msgspec
import trio

from sts_trio.observe.events import OfCall, bounded

# A conversation makes about one entry a second: of 500 calls these are the last 4 s, time enough
# for a browser that comes back, and of one call the last half hour.
KEPT = 2000
FROM_THE_OLDEST = -1  # that is kept
MAX_SID = 64  # Twilio's have 34 letters; a peer may write what it likes


class CallEvent(msgspec.Struct, frozen=True, dict=True):
    """An event, the call it happened in, and when."""

    call_sid: str  # "" before the call's `start`
    at: float  # seconds since the call began
    event: OfCall

    @functools.cached_property
    def json(self) -> bytes:
        """As JSON, the event by its name and its fields. Made once for all who follow."""
        entry = {
            "call_sid": self.call_sid,
            "at": self.at,
            "event": self.event.NAME,
            "fields": self.event.fields(),
        }
        return msgspec.json.encode(entry)


Tell = Callable[[CallEvent], None]


def call_event(call_sid: str, at: float, event: OfCall) -> CallEvent:
    """A `CallEvent` of bounded size."""
    return CallEvent(call_sid[:MAX_SID], round(at, 3), bounded(event))


class Subscription:
    """A place in the event_feed. Made by `EventFeed.follow`."""

    def __init__(self, event_feed: "EventFeed", after: int) -> None:
        self._event_feed = event_feed
        self._after = after

    async def receive(self) -> tuple[int, list[tuple[int, CallEvent]]]:
        """What came since the last time, numbered, and how many before it are missed.

        Waits until there is something. Cancelled, nothing is lost.
        """
        await self._event_feed.wait_beyond(self._after)
        first, entries = self._event_feed.entries_beyond(self._after)
        missed = first - self._after - 1
        self._after += missed + len(entries)
        return missed, list(enumerate(entries, first))


class EventFeed:
    """Entries are numbered from 1. Followers may come and go at any time."""

    def __init__(self, kept: int = KEPT) -> None:
        self._entries: collections.deque[CallEvent] = collections.deque(maxlen=kept)
        self._count = 0
        self._more = trio.Event()
        self._followers = 0
        self._listeners: tuple[Tell, ...] = ()

    @property
    def count(self) -> int:
        """The number of the newest entry."""
        return self._count

    @property
    def followers(self) -> int:
        return self._followers

    def listen(self, listener: Tell) -> None:
        """Has each entry told to `listener` at once, whatever became of those who follow. It has to
        be quick: calls wait for it."""
        self._listeners += (listener,)

    def tell(self, entry: CallEvent) -> None:
        self._entries.append(entry)
        self._count += 1
        for listen in self._listeners:
            listen(entry)
        if self._followers:
            self._more.set()
            self._more = trio.Event()

    @contextlib.contextmanager
    def follow(self, after: int | None = None) -> Iterator[Subscription]:
        """Follows from now on, or from behind an entry whose number is known from before.

        A number that is yet to come is of another event_feed: its successors are unknown, so all
        there is counts as new, and nothing as missed. So it is with `FROM_THE_OLDEST`.
        """
        if after is None:
            after = self._count
        elif not 0 <= after <= self._count:
            after = self._count - len(self._entries)
        self._followers += 1
        try:
            yield Subscription(self, after)
        finally:
            self._followers -= 1

    async def wait_beyond(self, number: int) -> None:
        """Until there is an entry behind that one."""
        await trio.lowlevel.checkpoint()
        while self._count <= number:
            await self._more.wait()

    def entries_beyond(self, number: int) -> tuple[int, list[CallEvent]]:
        """The entries behind that one, as far as they are kept, and the number of the first."""
        oldest = self._count - len(self._entries) + 1
        first = max(oldest, number + 1)
        return first, [self._entries[index] for index in range(first - oldest, len(self._entries))]

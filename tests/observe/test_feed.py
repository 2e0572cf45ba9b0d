"""What happens in the calls, told to whoever follows: in order, bounded, at nobody's expense."""

import math

import pytest
import trio
import trio.testing

from sts_trio.observe import events
from sts_trio.observe.events import MAX_TEXT
from sts_trio.observe.feed import MAX_SID, CallEvent, EventFeed, Subscription, call_event


def entry(number: int) -> CallEvent:
    return call_event("CA1", number, events.CallTranscript("user", str(number)))


def told(event_feed: EventFeed, *numbers: int) -> None:
    for number in numbers:
        event_feed.tell(entry(number))


async def read(follower: Subscription) -> tuple[int, list[int]]:
    missed, entries = await follower.receive()
    assert [number for number, _ in entries] == [round(each.at) for _, each in entries]
    return missed, [number for number, _ in entries]


async def test_a_follower_gets_what_comes_from_now_on() -> None:
    event_feed = EventFeed()
    told(event_feed, 1, 2)
    with event_feed.follow() as follower:
        told(event_feed, 3, 4)
        assert await read(follower) == (0, [3, 4])
        told(event_feed, 5)
        assert await read(follower) == (0, [5])


async def test_a_follower_waits_until_there_is_something(
    autojump_clock: trio.testing.MockClock,
) -> None:
    event_feed = EventFeed()
    got: list[tuple[float, list[int]]] = []

    async def follow() -> None:
        with event_feed.follow() as follower:
            for _ in range(2):
                _, numbers = await read(follower)
                got.append((trio.current_time(), numbers))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await trio.sleep(5)
        told(event_feed, 1)
        await trio.sleep(5)
        told(event_feed, 2, 3)
    assert got == [(5, [1]), (10, [2, 3])]


async def test_who_comes_back_goes_on_where_it_was() -> None:
    event_feed = EventFeed()
    told(event_feed, 1, 2, 3)
    with event_feed.follow(after=1) as follower:
        assert await read(follower) == (0, [2, 3])
    with event_feed.follow(after=0) as follower:
        assert await read(follower) == (0, [1, 2, 3])


@pytest.mark.parametrize("after", [4, 10**9, -1])
async def test_a_place_in_another_chronicle_is_the_beginning_of_this_one(after: int) -> None:
    event_feed = EventFeed(kept=2)
    told(event_feed, 1, 2, 3)
    with event_feed.follow(after=after) as follower:
        assert await read(follower) == (0, [2, 3])


async def test_a_slow_follower_loses_the_oldest_and_is_told_how_many() -> None:
    event_feed = EventFeed(kept=3)
    with event_feed.follow() as slow, event_feed.follow() as quick:
        told(event_feed, 1, 2)
        assert await read(quick) == (0, [1, 2])
        told(event_feed, 3, 4, 5)
        assert await read(quick) == (0, [3, 4, 5])
        assert await read(slow) == (2, [3, 4, 5])
        told(event_feed, 6)
        assert await read(slow) == (0, [6])


async def test_a_follower_that_never_reads_keeps_nothing_alive_and_nobody_waiting() -> None:
    event_feed = EventFeed(kept=10)
    with event_feed.follow():
        told(event_feed, *range(1, 10_001))
        first, kept = event_feed.entries_beyond(0)
        assert (first, len(kept)) == (9_991, 10)


async def test_nothing_is_lost_by_a_cancelled_read() -> None:
    event_feed = EventFeed()
    with event_feed.follow() as follower:
        with trio.CancelScope() as scope:
            scope.cancel()
            await follower.receive()
        told(event_feed, 1)
        assert await read(follower) == (0, [1])


async def test_followers_are_counted_while_they_follow() -> None:
    event_feed = EventFeed()
    with event_feed.follow(), event_feed.follow():
        assert event_feed.followers == 2
    assert event_feed.followers == 0
    with pytest.raises(ZeroDivisionError), event_feed.follow():
        raise ZeroDivisionError
    assert event_feed.followers == 0


def test_what_a_peer_wrote_is_kept_short() -> None:
    long = "x" * 1_000_000
    made = call_event(long, math.pi, events.CallTranscript("user", long))
    assert made.event == events.CallTranscript("user", "x" * (MAX_TEXT - 1) + "…")
    assert len(made.call_sid) == MAX_SID
    assert made.at == 3.142

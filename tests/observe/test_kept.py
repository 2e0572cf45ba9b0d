"""What is kept of one call's events."""

import json
import tracemalloc

import pytest

from sts_trio.observe import events
from sts_trio.observe.feed import EventFeed, call_event
from sts_trio.observe.kept import KeptEvents


def texts(kept: KeptEvents, after: int = 0) -> tuple[bool, list[str]]:
    is_whole, found = kept.beyond(after)
    return is_whole, [json.loads(bytes(event.told))["fields"]["text"] for event in found]


def tell(kept: KeptEvents, text: str) -> None:
    kept.tell(call_event("CA1", 1.5, events.CallTranscript("user", text)))


def test_what_was_told_is_kept_and_told_to_the_feed() -> None:
    feed = EventFeed()
    kept = KeptEvents(feed)
    tell(kept, "one")
    tell(kept, "two")
    assert feed.count == 2
    assert texts(kept) == (True, ["one", "two"])


def test_events_have_the_feeds_numbers() -> None:
    feed = EventFeed()
    first, second = KeptEvents(feed), KeptEvents(feed)
    tell(first, "one")
    tell(second, "two")
    tell(first, "three")
    assert [event.number for event in first.beyond(0)[1]] == [1, 3]
    assert texts(first, after=1) == (True, ["three"])
    assert texts(first, after=2) == (True, ["three"])
    assert texts(first, after=3) == (True, [])


def test_of_a_long_call_the_newest_is_kept_and_no_more_than_there_may_be() -> None:
    feed = EventFeed()
    kept = KeptEvents(feed, most=3000)
    for number in range(100):
        tell(kept, f"{number:050}")
    is_whole, found = kept.beyond(0)
    assert not is_whole
    assert 5 < len(found) <= 12
    assert [event.number for event in found] == list(range(101 - len(found), 101))


@pytest.mark.parametrize("text", ["", "x" * 50, "x" * 1900], ids=len)
def test_what_is_kept_takes_about_as_much_memory_as_it_may(text: str) -> None:
    kept = KeptEvents(EventFeed(kept=1), most=100_000)
    tracemalloc.start()
    for number in range(2000):
        tell(kept, f"{text}{number}")
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 50_000 < taken < 150_000


def test_who_has_what_is_gone_already_misses_nothing() -> None:
    kept = KeptEvents(EventFeed(), most=3000)
    for number in range(100):
        tell(kept, str(number))
    oldest = kept.beyond(0)[1][0].number
    assert kept.beyond(oldest - 2)[0] is False
    assert kept.beyond(oldest - 1)[0] is True


def test_an_event_that_is_larger_than_all_may_be_is_not_kept() -> None:
    kept = KeptEvents(EventFeed(), most=1000)
    tell(kept, "x" * 1000)
    assert texts(kept) == (False, [])


def test_nothing_is_made_json_before_it_is_asked_for() -> None:
    kept = KeptEvents(EventFeed())
    entry = call_event("CA1", 1.5, events.CallTranscript("user", "one"))
    kept.tell(entry)
    assert "json" not in vars(entry)
    assert [bytes(each.told) for each in kept.beyond(0)[1]] == [entry.json]

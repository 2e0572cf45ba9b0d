"""The outbox in the database: each is claimed by one, and none is forgotten."""

import pytest
from call_stories import NOON, many, sid

from sts_trio.records.database import Database
from sts_trio.records.deliveries import CLAIMED_FOR, DEAD, DELIVERED, WAITING, Deliveries
from sts_trio.records.store import Store


@pytest.fixture
def deliveries(database: Database) -> Deliveries:
    """Three calls have ended, ten seconds apart."""
    store = Store(database, tells_endings=True)
    for rows in many(3):
        store.write(rows)
    return Deliveries(database)


LATER = NOON + 1000


def test_what_is_due_is_claimed_the_oldest_first(deliveries: Deliveries) -> None:
    assert deliveries.claim(NOON, 10) == []
    assert [each.call_sid for each in deliveries.claim(LATER, 2)] == [sid(0), sid(1)]
    assert [each.call_sid for each in deliveries.claim(LATER, 2)] == [sid(2)]
    assert deliveries.claim(LATER, 2) == []


def test_a_claim_of_one_that_died_is_void_after_a_while(deliveries: Deliveries) -> None:
    deliveries.claim(LATER, 10)
    assert deliveries.claim(LATER + CLAIMED_FOR - 1, 10) == []
    assert len(deliveries.claim(LATER + CLAIMED_FOR, 10)) == 3


def test_what_is_delivered_is_not_sent_again_and_its_words_are_gone(
    deliveries: Deliveries,
) -> None:
    [first, *_] = deliveries.claim(LATER, 10)
    deliveries.settle_delivered(first.webhook_id)
    assert len(deliveries.claim(LATER + CLAIMED_FOR, 10)) == 2
    [told] = deliveries.all([DELIVERED])
    assert (told.webhook_id, told.attempts, told.body) == (first.webhook_id, 1, "")


def test_what_failed_is_due_again_when_it_is_said_byte_for_byte_the_same(
    deliveries: Deliveries,
) -> None:
    [first] = deliveries.claim(LATER, 1)
    deliveries.settle_failed(first.webhook_id, LATER + 300)
    assert first.webhook_id not in {each.webhook_id for each in deliveries.claim(LATER + 299, 10)}
    [again] = [
        each for each in deliveries.claim(LATER + 300, 10) if each.webhook_id == first.webhook_id
    ]
    assert again.body == first.body
    assert again.attempts == 1


def test_the_dead_are_shown_and_can_be_sent_again(deliveries: Deliveries) -> None:
    first, second, _ = deliveries.claim(LATER, 10)
    for each in (first, second):
        deliveries.settle_failed(each.webhook_id, None)
    assert {each.call_sid for each in deliveries.all([DEAD])} == {sid(0), sid(1)}
    assert deliveries.claim(LATER * 2, 10)[0].call_sid == sid(2)
    assert deliveries.send_again(LATER, webhook_id="msg_unknown") == 0
    assert deliveries.send_again(LATER, webhook_id=first.webhook_id) == 1
    [again] = deliveries.claim(LATER, 10)
    assert (again.call_sid, again.attempts) == (sid(0), 0)
    assert deliveries.send_again(LATER) == 1
    assert [each.call_sid for each in deliveries.claim(LATER, 10)] == [sid(1)]


def test_one_that_is_not_dead_is_not_sent_again(deliveries: Deliveries) -> None:
    [first, *_] = deliveries.claim(LATER, 10)
    assert deliveries.send_again(LATER, webhook_id=first.webhook_id) == 0
    assert len(deliveries.all([WAITING, DELIVERED, DEAD])) == 3
    assert len(deliveries.all([WAITING], most=2)) == 2


def test_who_is_forgotten_is_not_told_of(database: Database, deliveries: Deliveries) -> None:
    Store(database).forget(call_sid=sid(0))
    assert {each.call_sid for each in deliveries.claim(LATER, 10)} == {sid(1), sid(2)}

"""Which calls nobody has, and when they are given up. On both databases."""

import pytest
import sqlalchemy as sa
from call_stories import Story, sid
from rig_processes import process

from sts_trio.records import schema
from sts_trio.records.movable import CLAIMED_FOR, CallState, Left
from sts_trio.records.store import Store


def live(store: Store, number: int, process_id: str = "p1") -> Story:
    story = Story(sid(number)).announce(process_id=process_id).start(process_id=process_id)
    store.write(story.rows)
    return story


def seen(store: Store, number: int = 1) -> CallState:
    found = store.look(sid(number))
    assert found is not None
    return found


def claim(store: Store, by: str = "p2", number: int = 1) -> int:
    claimed = store.claim(seen(store, number), by, is_crash=True, road="stream")
    assert claimed is not None
    return claimed.epoch


def run_out(store: Store) -> None:
    with store.database.writing() as connection:
        until = schema.call.c.claimed_until - CLAIMED_FOR
        connection.execute(sa.update(schema.call).values(claimed_until=until))


def test_a_dead_processs_calls_are_left_until_somebody_has_claimed_them(store: Store) -> None:
    live(store, 1)
    live(store, 2, "alive")
    store.write(live(store, 3).end().rows)
    store.write(Story(sid(4)).announce().rows)
    assert store.left([]) == []
    assert store.left(["p1"]) == [Left(sid(1), 10, "live")]
    claim(store)
    assert store.left(["p1"]) == []
    run_out(store)
    assert store.left(["p1"]) == [Left(sid(1), 11, "moving")]


def test_what_was_let_go_of_is_left_whoever_lives(store: Store) -> None:
    store.write(live(store, 1).end("moved", "success").rows)
    store.beat(process("p1"))
    assert store.left([]) == [Left(sid(1), 10, "moving")]


def test_who_has_claimed_a_call_may_give_it_up(store: Store) -> None:
    live(store, 1)
    assert not store.give_up(sid(1), 10, "p2")
    epoch = claim(store)
    assert not store.give_up(sid(1), epoch, "p3")
    assert not store.give_up(sid(1), epoch)  # for all others it is claimed
    assert not store.give_up(sid(1), epoch - 1, "p2")
    assert store.give_up(sid(1), epoch, "p2")
    record = store.record(sid(1))
    assert record is not None
    assert (record.call.state, record.call.ending, record.call.verdict) == ("lost", "lost", "ours")
    # When it was still heard of, and not when it was claimed.
    assert record.call.ended_at == live(store, 5).rows[-1].at
    assert not store.give_up(sid(1), epoch, "p2")


def test_what_nobody_picked_up_is_given_up_by_whoever_looks(store: Store) -> None:
    story = live(store, 1).end("moved", "success")
    store.write(story.rows)
    assert store.give_up(sid(1), 10)
    assert seen(store).state == "lost"


def test_one_whose_stream_came_after_all_is_not_given_up(store: Store) -> None:
    live(store, 1)
    epoch = claim(store)
    store.write(Story(epoch=epoch + 1).start(process_id="p2", how="recovered").rows)
    assert not store.give_up(sid(1), epoch, "p2")
    assert seen(store).state == "live"


@pytest.mark.parametrize("state", ["live", "moving"])
def test_one_that_was_given_up_can_still_be_taken(store: Store, state: str) -> None:
    story = live(store, 1)
    store.write(story.end("moved", "success").rows)
    store.give_up(sid(1), 10)
    assert claim(store) == 11

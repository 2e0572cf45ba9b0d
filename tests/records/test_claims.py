"""Who goes on with a call: one alone, by the database's clock, and no zombie. On both databases."""

import threading
import time
from typing import Any

import pytest
import sqlalchemy as sa
from call_stories import Story, sid
from limits import HANG
from rig_processes import ME, process, silence

from sts_trio.records import schema
from sts_trio.records.movable import CLAIMED_FOR, CallState, Claim, HowEnded
from sts_trio.records.process_state import ALIVE_WITHIN
from sts_trio.records.rows import Kind
from sts_trio.records.store import Store


def live(store: Store, epoch: int = 10) -> Story:
    """A call that process p1 has."""
    story = Story(epoch=epoch).announce(account="AC1").start().talk()
    store.write(story.rows)
    store.beat(ME)
    return story


def seen(store: Store) -> CallState:
    found = store.look(sid(1))
    assert found is not None
    return found


def take(store: Store, by: str = "p2", *, is_crash: bool = True) -> Claim | None:
    return store.claim(seen(store), by, is_crash=is_crash, road="action")


def change(store: Store, **values: Any) -> None:
    with store.database.writing() as connection:
        connection.execute(sa.update(schema.call).values(**values))


def test_what_is_known_of_a_call_is_who_has_it_and_how_that_one_is(store: Store) -> None:
    live(store)
    found = seen(store)
    assert (found.state, found.process_id, found.epoch) == ("live", "p1", 10)
    assert (found.account_sid, found.claimed_by, found.moves, found.ended) == (
        "AC1",
        None,
        (),
        None,
    )
    assert found.owner is not None
    assert (found.owner.name, found.owner.address) == (ME.name, ME.address)
    assert found.owner.is_alive
    assert not found.owner.is_gone
    silence(store.database, "p1", ALIVE_WITHIN)
    assert not (seen(store).owner or found.owner).is_alive
    store.note_gone("p1")
    assert (seen(store).owner or found.owner).is_gone
    store.leave("p1")
    assert seen(store).owner is None


def test_of_a_call_that_nobody_knows_nothing_is_known(store: Store) -> None:
    assert store.look(sid(1)) is None
    assert store.look("\0") is None


def test_how_a_call_ended_is_known_to_everybody(store: Store) -> None:
    story = live(store).end("transferred")
    store.write(story.rows)
    found = seen(store)
    assert (found.state, found.ended) == ("ended", HowEnded("transferred", "", apologised=False))


def test_a_call_is_claimed_once(store: Store) -> None:
    live(store)
    before = seen(store)
    assert store.claim(before, "p2", is_crash=True, road="action") is not None
    assert store.claim(before, "p3", is_crash=True, road="stream") is None
    found = seen(store)
    assert (found.state, found.claimed_by, found.owner_id) == ("moving", "p2", "p2")
    assert [move.is_crash for move in found.moves] == [True]
    assert 0.0 <= found.moves[0].age < HANG


def test_who_looks_while_it_is_claimed_sees_it_before_or_after(store: Store) -> None:
    """Else its row is that of a call which nobody has, and its moves are those of a crash: that
    would be two, and nobody goes on with such a call."""
    live(store)
    before = seen(store)
    is_claimed = False

    @sa.event.listens_for(store.database.engine, "after_cursor_execute")
    def executed(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        nonlocal is_claimed
        if "claimed_until" in statement and not is_claimed:
            is_claimed = True
            assert store.claim(before, "p2", is_crash=True, road="action")

    found = seen(store)
    assert is_claimed
    assert (found.state, found.moves) == ("live", ())
    found = seen(store)
    assert (found.state, len(found.moves)) == ("moving", 1)


def test_of_many_at_once_one_has_it(store: Store) -> None:
    live(store)
    before = seen(store)
    taken: list[Claim | None] = []

    def take_it(by: str) -> None:
        taken.append(store.claim(before, by, is_crash=True, road="action"))

    threads = [threading.Thread(target=take_it, args=(f"p{each}",)) for each in range(2, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 4
    assert sum(claim is not None for claim in taken) == 1
    assert len(seen(store).moves) == 1


def test_who_has_claimed_it_may_do_so_again_and_that_is_no_other_move(store: Store) -> None:
    """Twilio asks a second time where an answer was lost."""
    live(store)
    first = take(store)
    again = take(store)
    assert first is not None
    assert again is not None
    assert again.epoch == first.epoch
    assert len(seen(store).moves) == 1


def test_who_claims_again_and_again_has_the_call_no_longer(store: Store) -> None:
    """Its stream finds no way there: the next claim is another move, of which there are few."""
    live(store)
    take(store)
    change(store, claimed_until=schema.call.c.claimed_until - CLAIMED_FOR + 2.0)
    take(store)
    change(store, claimed_until=schema.call.c.claimed_until - 2.0)
    assert seen(store).claimed_by is None
    take(store, is_crash=False)
    assert len(seen(store).moves) == 2


def test_who_saw_a_claim_by_one_that_died_takes_it_over(store: Store) -> None:
    live(store)
    take(store, "p2")
    claim = take(store, "p3")
    assert claim is not None
    assert seen(store).claimed_by == "p3"
    assert len(seen(store).moves) == 2


def test_a_claim_is_over_when_its_time_is(store: Store) -> None:
    live(store)
    take(store)
    change(store, claimed_until=schema.call.c.claimed_until - CLAIMED_FOR)
    assert seen(store).claimed_by is None


@pytest.mark.parametrize("skew", [-10 * HANG, 10 * HANG])
def test_claims_are_by_the_databases_clock(
    store: Store, skew: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever this machine takes the time to be."""
    live(store)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + skew)
    assert take(store) is not None
    assert seen(store).claimed_by == "p2"
    assert 0.0 <= seen(store).moves[0].age < HANG


def test_the_stream_that_comes_of_a_claim_has_the_call(store: Store) -> None:
    story = live(store)
    claim = take(store)
    assert claim is not None
    moved = Story(epoch=claim.epoch + 1).start(process_id="p2", how="recovered", gap_seconds=0.5)
    store.write(moved.rows)
    found = seen(store)
    assert (found.state, found.process_id, found.claimed_by) == ("live", "p2", None)
    store.write(story.end("crashed", "ours").rows)  # a zombie's last word
    assert seen(store).state == "live"
    store.write(moved.end().rows)
    record = store.record(sid(1))
    assert record is not None
    assert (record.call.state, record.call.ending, record.call.moves) == ("ended", "stop", 1)
    assert [stream.how for stream in record.streams] == ["first", "recovered"]


def test_a_zombie_ends_no_call_that_is_claimed(store: Store) -> None:
    """It woke up, and found its sockets gone."""
    story = live(store)
    take(store)
    store.write(story.end("caller_lost", "caller").rows)
    found = seen(store)
    assert (found.state, found.claimed_by, found.ended) == ("moving", "p2", None)


def test_a_zombie_that_starts_late_takes_nothing_back(store: Store) -> None:
    """Two processes say that a call is theirs: it is of the one with the greater epoch."""
    live(store)
    claim = take(store)
    assert claim is not None
    store.write(Story(epoch=claim.epoch + 1).start(process_id="p2", how="recovered").rows)
    store.write(Story(epoch=claim.epoch).start(process_id="p1", how="first").rows)
    assert seen(store).process_id == "p2"


def test_an_epoch_of_a_clock_that_is_a_minute_ahead_is_succeeded(store: Store) -> None:
    ahead = int((time.time() + 60.0) * 1e6)
    live(store, ahead)
    claim = take(store)
    assert claim is not None
    assert claim.epoch == ahead + 1


def test_a_call_that_its_process_lets_go_of_is_moving_and_not_over(store: Store) -> None:
    story = live(store)
    store.write(story.end("moved", "success").rows)
    found = seen(store)
    assert (found.state, found.ended) == ("moving", None)
    record = store.record(sid(1))
    assert record is not None
    assert (record.call.ended_at, record.streams[0].ending) == (None, "moved")
    assert take(store, is_crash=False) is not None


def test_a_call_that_was_given_up_for_lost_is_taken_all_the_same(store: Store) -> None:
    live(store)
    store.mark_lost("p1")
    assert seen(store).state == "lost"
    assert take(store) is not None
    record = store.record(sid(1))
    assert record is not None
    assert (record.call.state, record.call.ended_at, record.call.ending) == ("moving", None, None)


def test_nobody_marks_a_call_lost_that_is_claimed(store: Store) -> None:
    live(store)
    take(store)
    store.mark_lost("p1")
    assert seen(store).state == "moving"


def test_when_the_stream_was_lost_is_known_to_a_second(store: Store) -> None:
    began = time.time()
    live(store)
    store.beat(process("p1"))
    claim = take(store)
    assert claim is not None
    assert began - 2.0 < claim.lost_at <= time.time() + 0.1


def test_of_one_that_was_silent_for_long_it_was_lost_then(store: Store) -> None:
    began = time.time()
    live(store)
    silence(store.database, "p1", 10.0)
    claim = take(store)
    assert claim is not None
    assert began - 1.5 < claim.lost_at + 9.0 < time.time() + 1.5


def test_a_move_is_in_the_record(store: Store) -> None:
    live(store)
    take(store)
    [move] = [row for row in store.rows(sid(1)) if row.kind is Kind.MOVED]
    assert move.body == {"from": "p1", "to": "p2", "road": "action", "is_crash": True}

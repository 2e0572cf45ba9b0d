"""The calls that are under way in any process: the same on both databases."""

import msgspec
import pytest
import sqlalchemy as sa
from call_stories import FROM, TO, Story, sid, whole
from rig_processes import process, silence

from sts_trio.records import processes, schema
from sts_trio.records.fleet_calls import live_calls
from sts_trio.records.rows import Kind
from sts_trio.records.store import Store


@pytest.fixture
def fleet(store: Store) -> Store:
    """Two processes, each with a call; what is over, or was only announced, is in none."""
    for number, (process_id, name) in enumerate((("p1", "s-1"), ("p2", "s-2")), 1):
        store.beat(process(process_id, name=name, address=f"10.0.0.{number}:5000"))
        story = Story(sid(number)).announce(process_id=process_id).start(process_id=process_id)
        store.write(story.rows)
    store.write(whole(3))
    store.write(Story(sid(4)).announce().rows)
    return store


def test_the_live_calls_of_all_processes_say_where_they_are(fleet: Store) -> None:
    with fleet.database.writing() as connection:
        now = processes.clock(connection)
        connection.execute(sa.update(schema.call).values(answered_at=now - 60))
    [one, other] = fleet.live_calls()
    assert (one.call_sid, one.from_, one.to, one.agent) == (sid(1), FROM, TO, "default")
    assert (one.process, one.address, one.is_alive) == ("s-1", "10.0.0.1:5000", True)
    assert 60 <= one.seconds < 70
    assert (other.call_sid, other.process, other.phase) == (sid(2), "s-2", "live")
    assert msgspec.to_builtins(one)["from"] == FROM


def test_who_answers_a_call_by_a_bin_is_told_while_it_is_live(store: Store) -> None:
    story = Story(sid(1)).start(**{"from": FROM, "to": TO, "agent": "", "source": "bin"})
    store.write(story.rows)
    [call] = store.live_calls()
    assert call.agent == ""
    store.write([story.tell(Kind.AGENT_DIALLED, agent="sales", request_id="r1")])
    [call] = store.live_calls()
    assert call.agent == "sales"
    story.tell(Kind.HANDED_OVER, agent="sales", to="support")
    store.write([story.tell(Kind.AGENT_DIALLED, agent="support", request_id="r2")])
    [call] = store.live_calls()
    assert call.agent == "sales"  # the one of the call, as with those by the webhook


def test_a_process_asks_for_those_of_the_others_or_for_one(fleet: Store) -> None:
    with fleet.database.reading() as connection:

        def found(**wanted: str) -> list[str]:
            return [call.call_sid for call in live_calls(connection, **wanted)]

        assert found(but="p1") == [sid(2)]
        assert found(but="p1", call_sid=sid(2)) == [sid(2)]
        assert found(but="p2", call_sid=sid(2)) == []
        assert found(call_sid=sid(3)) == []
        assert found(call_sid="\0") == []


def test_of_a_process_that_is_gone_it_is_said(fleet: Store) -> None:
    silence(fleet.database, "p1", 5)
    fleet.leave("p2")
    [one, other] = fleet.live_calls()
    assert (one.process, one.is_alive) == ("s-1", False)
    assert (other.process, other.address, other.is_alive) == ("", "", False)


def test_a_clock_that_is_ahead_makes_no_call_of_less_than_no_time(fleet: Store) -> None:
    with fleet.database.writing() as connection:
        now = processes.clock(connection)
        connection.execute(sa.update(schema.call).values(answered_at=now + 60))
    assert {call.seconds for call in fleet.live_calls()} == {0.0}

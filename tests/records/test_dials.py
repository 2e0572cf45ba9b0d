"""Calls that are to be placed, once, by whichever process was asked: the same on both databases."""

from typing import Any

import pytest
import sqlalchemy as sa
from rig_processes import process, silence

from sts_trio.records import dials, schema
from sts_trio.records.dials import Asked
from sts_trio.records.store import Store

REQUEST = '{"to":"","agent":"sales","message":"Hello \\u0000."}'


@pytest.fixture
def desk(store: Store) -> Store:
    store.beat(process("p1"))
    return store


def ask(store: Store, token: str, **told: Any) -> Asked:
    default = {"key": "k", "digest": "d", "request": REQUEST, "process_id": "p1", "per_day": 9}
    with store.database.writing() as connection:
        return dials.ask(connection, token=token, **{**default, **told})


def look(store: Store, token: str) -> Asked:
    with store.database.reading() as connection:
        return dials.look(connection, token)


def settle(store: Store, token: str, outcome: dict[str, Any]) -> None:
    with store.database.writing() as connection:
        dials.settle(connection, token, "CA1", outcome)


def test_a_key_is_one_call_whoever_asks(desk: Store) -> None:
    first = ask(desk, "t1")
    assert first == Asked(token="t1", is_new=True, day=first.day)
    assert ask(desk, "t2") == Asked(token="t1")
    assert ask(desk, "t3", digest="other").is_other_request
    settle(desk, "t1", {"call_sid": "CA1"})
    assert ask(desk, "t4").outcome == {"call_sid": "CA1"}
    assert look(desk, "t1").outcome == {"call_sid": "CA1"}
    assert ask(desk, "t5", key="another").is_new


def test_without_a_key_each_is_a_call_of_its_own(desk: Store) -> None:
    assert ask(desk, "t1", key=None).is_new
    assert ask(desk, "t2", key=None).is_new


def test_what_was_surely_not_placed_costs_nothing_and_may_be_asked_again(desk: Store) -> None:
    day = ask(desk, "t1", per_day=1).day
    assert (ask(desk, "t2", key="k2", per_day=1).used_up_for or 0) > 0
    for _ in range(2):  # it gives back once
        with desk.database.writing() as connection:
            dials.give_up(connection, "t1", day)
    assert look(desk, "t1").may_be_asked
    assert ask(desk, "t3", per_day=1).is_new
    assert ask(desk, "t4", key="k2", per_day=1).used_up_for is not None


def test_what_the_budget_has_no_call_for_leaves_its_key_free(desk: Store) -> None:
    assert ask(desk, "t1", per_day=0).used_up_for is not None
    assert ask(desk, "t2").is_new


def test_of_a_process_that_is_gone_it_is_not_known_what_came_of_it(desk: Store) -> None:
    ask(desk, "t1")
    assert not look(desk, "t1").is_gone
    silence(desk.database, "p1", 5)
    assert ask(desk, "t2").is_gone
    settle(desk, "t1", {"call_sid": "CA1"})
    assert not look(desk, "t1").is_gone
    ask(desk, "t3", key="k3", process_id="never-heard-of")
    assert look(desk, "t3").is_gone


def test_a_key_is_forgotten_after_a_day(desk: Store) -> None:
    ask(desk, "t1")
    with desk.database.writing() as connection:
        connection.execute(
            sa.update(schema.dial).values(asked_at=schema.dial.c.asked_at - dials.KEY_LIFETIME - 1)
        )
    assert ask(desk, "t2").is_new
    with desk.database.writing() as connection:
        connection.execute(
            sa.update(schema.dial).values(asked_at=schema.dial.c.asked_at - dials.KEY_LIFETIME - 1)
        )
    desk.forget_used()
    assert look(desk, "t2").may_be_asked


def request_of(store: Store, token: str) -> str | None:
    with store.database.reading() as connection:
        return dials.request_of(connection, token)


def test_what_is_to_be_done_is_known_by_the_token_until_the_call_is_over(desk: Store) -> None:
    ask(desk, "t1")
    assert request_of(desk, "t1") == REQUEST
    assert request_of(desk, "t2") is None
    assert request_of(desk, "\0") is None
    assert request_of(desk, "\ud800") is None
    with desk.database.writing() as connection:
        dials.end(connection, "t1")
    assert request_of(desk, "t1") is None
    assert not ask(desk, "t2").is_new

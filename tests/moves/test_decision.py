"""What becomes of a call whose stream is over, by all that may be known of it."""

import itertools

import msgspec
import pytest

from sts_trio.moves.decision import (
    ENDING_WITHIN,
    LAST_EPOCH,
    MOST,
    SILENT_FOR,
    WINDOW,
    Answer,
    Apologise,
    AskAddress,
    AskAgain,
    Decision,
    Ended,
    Move,
    Returned,
    decide,
)
from sts_trio.records.movable import CallState, Moved, Owner

ME = "me"
ALIVE = Owner("other", "s2", "10.0.0.2:5000", is_alive=True)
LATE = msgspec.structs.replace(ALIVE, is_alive=False)
GONE = msgspec.structs.replace(ALIVE, is_gone=True)
LIVE = CallState(call_sid="CA1", state="live", process_id="other", epoch=7, owner=ALIVE)
CRASH, PLANNED = Move(is_crash=True), Move(is_crash=False)


def changed(**fields: object) -> CallState:
    return msgspec.structs.replace(LIVE, **fields)


@pytest.mark.parametrize(
    ("case", "call", "answer", "waited", "decision"),
    [
        ("kill -9: its port refuses", LIVE, Answer.REFUSED, 0.0, CRASH),
        ("and its successor is there already", LIVE, Answer.OTHER, 0.0, CRASH),
        ("killed long ago", changed(owner=LATE), Answer.REFUSED, 0.0, CRASH),
        ("its row was cleaned up", changed(owner=None), None, 0.0, CRASH),
        ("known dead by its spool", changed(owner=GONE), None, 0.0, CRASH),
        ("hangs: not asked yet", LIVE, None, 0.0, AskAddress(ALIVE)),
        ("hangs: heartbeat fresh", LIVE, Answer.SILENT, 0.0, AskAgain()),
        ("hangs: heartbeat late", changed(owner=LATE), Answer.SILENT, 1.0, CRASH),
        ("node vanished", changed(owner=LATE), Answer.SILENT, 0.0, CRASH),
        ("hangs, and its heart beats", LIVE, Answer.SILENT, SILENT_FOR, CRASH),
        ("proxy reloaded", LIVE, Answer.SAME, 0.0, AskAgain()),
        ("proxy reloaded, no ending", LIVE, Answer.SAME, ENDING_WITHIN, Returned(ALIVE)),
        ("its database is away", changed(owner=LATE), Answer.SAME, 0.0, AskAgain()),
        ("its database is away", changed(owner=LATE), Answer.SAME, 0.6, Returned(LATE)),
        ("drained", changed(state="moving"), None, 0.0, PLANNED),
        ("drained, and gone", changed(state="moving", owner=None), None, 0.0, PLANNED),
        ("marked lost meanwhile", changed(state="lost", owner=None), None, 0.0, CRASH),
        ("ended", changed(state="ended"), None, 0.0, Ended(None)),
        ("ended, its process dead", changed(state="ended", owner=None), None, 0.0, Ended(None)),
        ("no stream came about", changed(state="announced"), Answer.SAME, 0.0, PLANNED),
        ("announced by a dead one", changed(state="announced"), Answer.REFUSED, 0.0, CRASH),
        ("mine, and not here", changed(process_id=ME), None, 0.0, PLANNED),
    ],
)
def test_each_failure_has_its_decision(
    case: str, call: CallState, answer: Answer | None, waited: float, decision: Decision
) -> None:
    assert decide(call, ME, answer=answer, waited=waited) == decision, case


def test_of_two_roads_at_once_the_second_leads_to_who_has_claimed_it() -> None:
    claimed = changed(state="moving", claimed_by="other")
    assert decide(claimed, ME) == AskAddress(ALIVE)
    assert decide(claimed, ME, answer=Answer.SAME) == Returned(ALIVE)


def test_who_has_claimed_it_may_be_asked_twice() -> None:
    assert decide(changed(state="moving", claimed_by=ME), ME) == PLANNED


def test_who_has_claimed_it_and_died_is_taken_it_from() -> None:
    claimed = changed(state="live", process_id="first", claimed_by="other")
    assert decide(claimed, ME, answer=Answer.REFUSED) == CRASH
    assert decide(msgspec.structs.replace(claimed, owner=None), ME) == CRASH


def test_nobody_goes_on_with_a_call_of_which_nothing_is_known() -> None:
    assert decide(None, ME) == AskAgain()
    assert isinstance(decide(None, ME, waited=ENDING_WITHIN), Apologise)


def test_nobody_goes_on_with_another_accounts_call() -> None:
    moving = changed(state="moving", account_sid="AC1")
    assert isinstance(decide(moving, ME, account_sid="AC2"), Apologise)
    assert decide(moving, ME, account_sid="AC1") == PLANNED
    assert decide(changed(state="moving"), ME, account_sid="AC1") == PLANNED
    assert isinstance(decide(changed(state="ended", account_sid="AC1"), ME), Ended)


@pytest.mark.parametrize("epoch", [-1, LAST_EPOCH, 2**63 - 1])
def test_an_epoch_that_leaves_no_room_for_another_is_not_gone_on_with(epoch: int) -> None:
    assert isinstance(decide(changed(state="moving", epoch=epoch), ME), Apologise)


def test_an_epoch_of_a_clock_that_is_ahead_is_gone_on_with() -> None:
    assert decide(changed(state="moving", epoch=LAST_EPOCH - 1), ME) == PLANNED


def test_a_call_that_was_in_two_processes_that_died_is_not_given_to_a_third() -> None:
    once = changed(moves=(Moved(WINDOW - 1, is_crash=True),))
    assert isinstance(decide(once, ME, answer=Answer.REFUSED), Apologise)
    assert decide(msgspec.structs.replace(once, state="moving"), ME) == PLANNED
    assert decide(msgspec.structs.replace(once, owner=ALIVE), ME, answer=Answer.SAME, waited=1.0)
    long_ago = changed(moves=(Moved(WINDOW, is_crash=True),))
    assert decide(long_ago, ME, answer=Answer.REFUSED) == CRASH
    planned = changed(moves=(Moved(1.0, is_crash=False),))
    assert decide(planned, ME, answer=Answer.REFUSED) == CRASH


def test_three_moves_a_minute_are_enough() -> None:
    moves = (Moved(50.0, False), Moved(20.0, False), Moved(1.0, False))
    assert isinstance(decide(changed(state="moving", moves=moves), ME), Apologise)
    assert decide(changed(state="moving", moves=(Moved(61.0, False), *moves[1:])), ME) == PLANNED


def test_ten_moves_of_a_call_are_enough() -> None:
    moves = tuple(Moved(100.0 * number, False) for number in range(1, MOST + 1))
    assert isinstance(decide(changed(state="moving", moves=moves), ME), Apologise)
    assert decide(changed(state="moving", moves=moves[1:]), ME) == PLANNED


def test_whatever_is_known_it_is_decided_within_seconds() -> None:
    """Nobody waits for ever: the longest wait, and the address asked, decides it."""
    states = ("announced", "live", "moving", "ended", "lost")
    for state, owner, claimed_by, answer in itertools.product(
        states, (None, ALIVE, LATE, GONE), (None, ME, "other"), Answer
    ):
        call = changed(state=state, owner=owner, claimed_by=claimed_by)
        decision = decide(call, ME, answer=answer, waited=SILENT_FOR)
        assert not isinstance(decision, AskAgain | AskAddress)

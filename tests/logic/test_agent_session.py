"""The agent's session alone: its steps, its losses, what follows them, and when."""

from math import inf

import pytest

from sts_trio.errors import Cause
from sts_trio.logic.acts import AgentReached, Dial
from sts_trio.logic.session import (
    RENEW_WITHIN,
    RENEWAL_DUE,
    Down,
    Live,
    NeedsSettings,
    Redialling,
    Session,
    TookTooLong,
    speaks_first,
)
from sts_trio.logic.states import RETRY, Retry, SessionInput, SessionState, Violation
from sts_trio.wire import deepgram_settings

N, D, W, A, L, B = SessionState


def reach(state: SessionState, *, reconnects: bool = True) -> Session:
    """A call's first session, at 0 s; for `BACKOFF`, its second, lost twice."""
    session = Session(reconnects=reconnects)
    if state is not N:
        session.begin(0.0)
        assert session.dial() == Dial(None)
    if state in (W, A, L, B):
        session.hear_reached(AgentReached("sales"), 0.0)
    if state in (A, L, B):
        assert session.hear_welcome("r1", 0.0) == NeedsSettings(is_prewarmed=False)
    if state in (L, B):
        assert session.hear_settings_applied(0.0) == Live()
    if state is B:
        assert session.fail(RETRY[Cause.AGENT_LOST], 0.0, 0.0) == Redialling()
        assert session.fail(RETRY[Cause.AGENT_LOST], 0.0, 0.0) == Redialling()
    assert session.state is state
    return session


@pytest.mark.parametrize("state", [N, D, W, A, L, B])
def test_each_step_is_allowed_in_one_state_only(state: SessionState) -> None:
    welcomed = reach(state)
    news = welcomed.hear_welcome("r2", 0.0)
    assert isinstance(news, NeedsSettings) == (state is W)
    assert welcomed.state is (A if state is W else state)
    assert (news == Violation("a second Welcome")) == (state is not W)
    assert welcomed.request_id == {N: "", D: "", W: "r2"}.get(state, "r1")

    applied = reach(state)
    assert isinstance(applied.hear_settings_applied(0.0), Live) == (state is A)
    assert applied.state is (L if state is A else state)

    session = reach(state)
    assert session.may_speak == session.is_live == (state is L)
    assert session.allows(SessionInput.FUNCTION_CALLS) == (state is L)
    assert session.finish(0.0) == (state is L)


def test_a_report_of_ours_that_contradicts_the_table_is_a_bug() -> None:
    with pytest.raises(KeyError):
        reach(W).hear_reached(AgentReached(), 0.0)


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        (D, Cause.AGENT_NO_HANDSHAKE),
        (W, Cause.AGENT_NO_WELCOME),
        (A, Cause.AGENT_NO_SETTINGS_APPLIED),
    ],
)
def test_a_step_may_take_five_seconds(state: SessionState, cause: Cause) -> None:
    session = reach(state)
    assert session.time_to_dial(1.0) == 4
    assert session.tick(4.9) is None
    assert session.tick(5.0) == TookTooLong(cause, "after 5 s")


def test_in_a_gap_a_step_may_take_three() -> None:
    session = reach(L)
    assert session.deadline == inf
    assert session.time_to_dial(1.0) == 5
    assert session.fail(RETRY[Cause.AGENT_LOST], 10.0, 0.0) == Redialling()
    assert session.tick(12.9) is None
    assert session.tick(13.0) == TookTooLong(Cause.AGENT_NO_HANDSHAKE, "after 3 s")


@pytest.mark.parametrize("cause", RETRY)
@pytest.mark.parametrize("state", [D, W, A, L])
def test_whether_another_one_is_dialled_depends_on_the_cause_alone(
    state: SessionState, cause: Cause
) -> None:
    session = reach(state)
    retry = RETRY[cause]
    tried = {
        Retry.ALWAYS: True,
        Retry.BRIEFLY: True,
        Retry.ONCE_LIVE: state is L,
        Retry.NEVER: False,
    }[retry]
    news = session.fail(RETRY[cause], 0.0, 0.0)
    assert isinstance(news, Redialling if tried else Down)
    is_later = retry is Retry.BRIEFLY and state is not L
    assert session.state is ((B if is_later else D) if tried else N)


@pytest.mark.parametrize("cause", RETRY)
def test_who_does_not_reconnect_never_does(cause: Cause) -> None:
    session = reach(L, reconnects=False)
    assert session.fail(RETRY[cause], 0.0, 0.0) == Down()
    session.hear_warning(RENEWAL_DUE, 0.0)
    assert session.renewal_deadline == inf


def test_the_next_leg_is_dialled_once_and_after_the_last_was_dropped() -> None:
    session = reach(L)
    session.fail(RETRY[Cause.AGENT_LOST], 0.0, 0.0)
    assert session.dial() is None
    assert session.close_session(0.0) is True
    assert session.dial() == Dial("sales")
    assert session.dial() is None


def test_a_dial_that_failed_left_no_leg_and_is_repeated_a_second_later() -> None:
    session = reach(L)
    session.fail(RETRY[Cause.AGENT_LOST], 0.0, 0.0)
    session.close_session(0.0)
    session.dial()
    session.dial_failed()
    assert session.fail(RETRY[Cause.AGENT_UNREACHABLE], 0.2, 0.0) == Redialling()
    assert session.close_session(0.2) is False
    assert session.state is B
    assert session.dial() is None
    assert session.tick(1.1) is None
    assert session.dial() is None
    assert session.tick(1.2) is None
    assert session.state is D
    assert session.dial() == Dial("sales")


def test_nothing_is_lost_where_there_is_nothing() -> None:
    session = reach(N)
    assert session.fail(RETRY[Cause.AGENT_RAN_AWAY], 0.0, 0.0) is None
    assert session.replace("sales", 0.0, 0.0) is False
    session.close(0.0)
    assert session.state is N


def test_what_can_be_lost_while_backing_off_is_lost_for_good() -> None:
    session = reach(B)
    assert session.fail(RETRY[Cause.AGENT_RAN_AWAY], 0.0, 0.0) == Down()
    assert session.fail(RETRY[Cause.AGENT_LOST], 0.0, 0.0) is None


@pytest.mark.parametrize("state", [D, W, A, L, B])
def test_it_is_replaced_from_any_state_but_not_once_it_is_the_last(state: SessionState) -> None:
    session = reach(state)
    assert session.replace("service", 1.0, 0.0)
    assert (session.state, session.agent) == (D, "service")
    last = reach(state)
    last.hear_warning(RENEWAL_DUE, 0.0)
    last.be_the_last()
    assert last.renewal_deadline == inf
    last.hear_warning(RENEWAL_DUE, 0.0)
    assert last.renewal_deadline == inf
    assert not last.replace("service", 1.0, 0.0)
    assert last.fail(RETRY[Cause.AGENT_LOST], 1.0, 0.0) == Down()


def test_the_gap_is_told_once_it_is_over() -> None:
    session = reach(L)
    session.fail(RETRY[Cause.AGENT_LOST], 10.0, 12.0)
    assert not session.reconnect.is_filler_due(12.6)
    assert session.deadline == 12.7
    assert session.reconnect.is_filler_due(12.7)
    session.reconnect.hear_filler(13.0)
    assert not session.reconnect.is_filler_due(15.9)
    session.close_session(10.0)
    session.hear_reached(AgentReached("sales", is_prepared=True), 10.5)
    assert session.hear_welcome("r1", 10.6) == NeedsSettings(is_prewarmed=True)
    assert session.hear_settings_applied(11.5) == Live(1.5, was_lost=True)
    assert (session.reconnect.count, session.reconnect.longest) == (1, 1.5)


def test_the_warning_of_its_end_has_it_renewed() -> None:
    session = reach(L)
    session.hear_warning("SLOW_THINK_REQUEST", 0.0)
    assert session.renewal_deadline == inf
    session.hear_warning(RENEWAL_DUE, 0.0)
    assert session.deadline == session.renewal_deadline == RENEW_WITHIN
    session.close_session(0.0)
    assert session.deadline == inf


@pytest.mark.parametrize(
    ("agent", "speaks"), [("a stored agent", True), ({"greeting": "Hi"}, True), ({}, False)]
)
def test_who_speaks_first(agent: str | dict[str, str], speaks: bool) -> None:
    assert speaks_first(deepgram_settings.phone_settings(agent)) is speaks

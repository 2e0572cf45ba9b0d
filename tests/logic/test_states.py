"""The three tables: complete, free of dead ends, and what they say of causes."""

import enum
from collections.abc import Mapping
from typing import Any

import pytest

from sts_trio.errors import Cause, Leg
from sts_trio.logic.states import (
    CLOSING,
    RETRY,
    SESSION,
    SESSION_LIMITS,
    STREAM,
    STREAM_LIMITS,
    ClosingInput,
    ClosingState,
    Limit,
    Phase,
    SessionInput,
    SessionState,
    StreamInput,
    StreamState,
    phase_of,
)

Table = Mapping[Any, Mapping[Any, Any]]
MACHINES: list[tuple[Table, type[enum.Enum], type[enum.Enum]]] = [
    (STREAM, StreamState, StreamInput),
    (SESSION, SessionState, SessionInput),
    (CLOSING, ClosingState, ClosingInput),
]
machines = pytest.mark.parametrize(("table", "states", "inputs"), MACHINES)


@machines
def test_each_state_has_a_row_and_each_input_is_allowed_somewhere(
    table: Table, states: type[enum.Enum], inputs: type[enum.Enum]
) -> None:
    assert set(table) == set(states)
    assert {on for row in table.values() for on in row} == set(inputs)


@machines
def test_each_state_can_be_reached_from_the_first(
    table: Table, states: type[enum.Enum], inputs: type[enum.Enum]
) -> None:
    reached = {next(iter(states))}
    for _ in states:
        reached |= {to for state in reached for to in table[state].values()}
    assert reached == set(states)


def test_who_is_at_the_end_hears_nothing_any_more() -> None:
    assert STREAM[StreamState.ENDED] == {}
    assert CLOSING[ClosingState.OVER] == {}
    assert all(
        StreamInput.STOP in row for state, row in STREAM.items() if state is not StreamState.ENDED
    )
    assert all(
        row[ClosingInput.END] is ClosingState.OVER
        for state, row in CLOSING.items()
        if state is not ClosingState.OVER
    )


@pytest.mark.parametrize(
    ("table", "limits", "on"),
    [
        (STREAM, STREAM_LIMITS, {StreamInput.TIMEOUT}),
        (SESSION, SESSION_LIMITS, {SessionInput.LOST, SessionInput.WAITED}),
    ],
)
def test_a_state_that_may_last_too_long_says_what_follows(
    table: Table, limits: Mapping[Any, Limit], on: set[Any]
) -> None:
    for state, limit in limits.items():
        assert on & set(table[state])
        assert limit.seconds > 0
    assert {state for state, row in table.items() if StreamInput.TIMEOUT in row} <= set(limits)


def test_every_end_of_an_agents_session_says_whether_another_one_is_tried() -> None:
    ends = {cause for cause in Cause if cause.name.startswith("AGENT_")}
    assert set(RETRY) == ends - {Cause.AGENT_FINISHED}
    assert all(cause.close_code(Leg.CALLER) == 1011 for cause in RETRY)


@pytest.mark.parametrize(
    ("session", "closing", "phase"),
    [
        (SessionState.NONE, ClosingState.NO, Phase.AWAITING_START),
        (SessionState.BACKOFF, ClosingState.NO, Phase.DIALLING),
        (SessionState.LIVE, ClosingState.NO, Phase.TALKING),
        (SessionState.LIVE, ClosingState.GOODBYE, Phase.TALKING),
        (SessionState.NONE, ClosingState.LAST_WORDS, Phase.PARTING),
        (SessionState.LIVE, ClosingState.OVER, Phase.HUNG_UP),
    ],
)
def test_a_call_is_in_one_phase_whatever_its_machines_do(
    session: SessionState, closing: ClosingState, phase: Phase
) -> None:
    assert phase_of(session, closing) is phase

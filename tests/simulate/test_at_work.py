"""Whether an agent is at work, by what is told of its call."""

import pytest

from sts_trio.observe.events import (
    CallEnded,
    CallTranscript,
    FunctionCalled,
    FunctionFinished,
)
from sts_trio.simulate.at_work import AtWork


def test_an_agent_is_at_work_until_it_has_said_what_came_of_it() -> None:
    it = AtWork()
    assert not it.is_busy(0.0)
    it.hear(1.0, FunctionCalled("a", "f", "{}", False))
    it.hear(1.0, FunctionCalled("b", "f", "{}", False))
    it.hear(3.0, CallTranscript("agent", "Let me look."))
    it.hear(4.0, FunctionFinished("a", "f", "done", 1.0))
    it.hear(4.1, CallTranscript("agent", "Nearly."))
    assert it.is_busy(90.0)
    it.hear(5.0, FunctionFinished("b", "f", "failed", 1.0))
    it.hear(5.0, CallTranscript("user", "And?"))
    assert it.is_busy(12.9)
    assert not it.is_busy(13.0)
    it.hear(6.0, CallTranscript("agent", "Here it is."))
    assert not it.is_busy(6.0)


@pytest.mark.parametrize("outcome", ["cancelled", "late"])
def test_an_agent_says_nothing_of_what_it_took_back(outcome: str) -> None:
    it = AtWork()
    it.hear(1.0, FunctionCalled("a", "f", "{}", False))
    it.hear(2.0, FunctionFinished("a", "f", outcome, 1.0))
    assert not it.is_busy(2.0)


def test_nobody_is_at_work_in_a_call_that_is_over() -> None:
    it = AtWork()
    it.hear(1.0, FunctionFinished("a", "f", "done", 1.0))
    it.hear(1.0, FunctionCalled("b", "f", "{}", False))
    it.hear(2.0, CallEnded("stop", "success", "", 2.0))
    assert not it.is_busy(2.0)

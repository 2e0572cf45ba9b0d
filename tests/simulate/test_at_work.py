"""Whether an agent is at work, by what is told of its call."""

import pytest

from sts_trio.observe.events import (
    AgentHandedOver,
    AgentLost,
    AgentReconnected,
    AgentRenewed,
    AgentTookOver,
    AgentUnresponsive,
    CallEnded,
    CallTranscript,
    FunctionCalled,
    FunctionFinished,
    OfCall,
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


def test_who_is_asked_to_wait_waits_until_the_agent_is_heard() -> None:
    it = AtWork()
    it.hear(5.0, AgentUnresponsive("an answer", 5.0))
    it.hear(6.0, CallTranscript("user", "Hello?"))
    assert it.is_busy(90.0)
    it.hear(90.0, CallTranscript("agent", "Here I am."))
    assert not it.is_busy(90.0)


@pytest.mark.parametrize(
    ("gone", "back"),
    [
        (AgentLost("agent_lost", ""), AgentReconnected("default", 2.0)),
        (AgentRenewed("default"), AgentTookOver("default", 0.1)),
        (AgentHandedOver("default", "sales"), AgentTookOver("sales", 0.1)),
    ],
)
def test_what_is_heard_without_an_agent_is_none_of_its_answers(gone: OfCall, back: OfCall) -> None:
    it = AtWork()
    it.hear(1.0, gone)
    assert it.is_busy(90.0)
    it.hear(90.0, back)
    assert not it.is_busy(90.0)


@pytest.mark.parametrize(
    "busy",
    [
        AgentUnresponsive("an answer", 5.0),
        AgentLost("agent_lost", ""),
        FunctionFinished("a", "f", "done", 1.0),
    ],
)
def test_nobody_is_waited_for_when_the_call_is_over(busy: OfCall) -> None:
    it = AtWork()
    it.hear(1.0, busy)
    assert it.is_busy(1.0)
    it.hear(2.0, CallEnded("stop", "success", "", 2.0))
    assert not it.is_busy(2.0)


def test_nobody_is_at_work_in_a_call_that_is_over() -> None:
    it = AtWork()
    it.hear(1.0, FunctionFinished("a", "f", "done", 1.0))
    it.hear(1.0, FunctionCalled("b", "f", "{}", False))
    it.hear(2.0, CallEnded("stop", "success", "", 2.0))
    assert not it.is_busy(2.0)

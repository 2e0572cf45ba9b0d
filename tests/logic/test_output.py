"""What a hearing comes to, and the violations it counts."""

from sts_trio.errors import Leg
from sts_trio.logic.acts import FlushCaller, SendToAgent, SendToCaller
from sts_trio.logic.output import MAX_REASON_CHARS, MAX_REASONS, Output
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio


def test_acts_come_out_once_and_in_order() -> None:
    out = Output(0.0)
    out.to_agent(deepgram.KeepAlive())
    out.to_caller([twilio.Clear("MZ1")])
    out.extend([FlushCaller()])
    out.add(events.AgentReady())
    assert out.drain() == [
        SendToAgent(deepgram.KeepAlive()),
        SendToCaller(twilio.Clear("MZ1")),
        FlushCaller(),
        events.AgentReady(),
    ]
    assert out.drain() == []


def test_a_violation_is_counted_each_time_and_logged_the_first() -> None:
    out = Output(0.0)
    out.violation(Leg.CALLER, "a second start")
    out.violation(Leg.CALLER, "a second start")
    out.violation(Leg.AGENT, "a second start")
    assert out.drain() == [
        events.CallerProtocolError("a second start"),
        events.AgentProtocolError("a second start"),
    ]
    assert out.violations == {"caller: a second start": 2, "agent: a second start": 1}


def test_a_peer_cannot_make_up_reasons_without_end() -> None:
    out = Output(0.0)
    for number in range(MAX_REASONS + 5):
        out.violation(Leg.AGENT, f"{number} " + "x" * 1000)
    assert len(out.violations) == MAX_REASONS + 1
    assert out.violations["agent: (more)"] == 5
    assert len(out.drain()) == MAX_REASONS + 1
    assert max(map(len, out.violations)) == len("agent: ") + MAX_REASON_CHARS

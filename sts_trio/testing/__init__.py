"""A caller and an agent for your own tests: whole calls, without a phone, a key or a network.

The caller speaks Twilio's Media Streams protocol and the agent Deepgram's Voice Agent protocol, on
real sockets of the loopback; between them runs the bridge as in production. For example, with
pytest-trio:

    from sts_trio.testing import (
        CallFunction,
        Result,
        WaitForQuiet,
        call,
        inventory,
        leftovers,
        running,
        scripted_agent,
    )


    async def test_a_caller_can_interrupt(fast_clock: object) -> None:
        async with scripted_agent("We are open from nine to six, every day but Sunday.") as agent:
            async with running(agent=agent) as server:
                report = await call(
                    server.url, ["When are you open?", "And today?"], barge_in_after=1.0
                )
        assert report.result is Result.PROPER, report.fault
        assert max(report.waits) < 1.5
        assert max(report.talked_over) < 0.5


    async def test_a_caller_is_released_when_the_agent_dies(fast_clock: object) -> None:
        async with scripted_agent() as agent:
            async with running({"STS_RECONNECT": "0"}, agent=agent) as server:
                before = inventory()
                report = await call(
                    server.url,
                    [WaitForQuiet(silence=3.0)],
                    watch=lambda moment: agent.drop() if moment.seconds > 2 else None,
                )
                assert report.closed_by == "bridge"
                assert report.seconds < 10  # with an apology, which takes five
                left = await leftovers(before)
        assert left.is_empty, left

Your own project is run by its file, `running("sts-trio.toml")`, whatever else is configured;
functions that it does not name are given as `functions`. A scripted agent calls them when told to;
what happened is told by events, which are the classes of `sts_trio.observe.events`:

    from sts_trio.observe.events import FunctionFinished


    async def test_a_caller_is_told_what_a_function_found(fast_clock: object) -> None:
        def look_up(order: int) -> str:
            return f"order {order} is on its way"

        asks = CallFunction("look_up", {"order": 7})
        async with scripted_agent(asks, "It is on its way.") as agent:
            async with running(agent=agent, functions=[look_up]) as server:
                report = await call(server.url, ["Where is my order?"])
                happened = await server.happened_in(report)
        (finished,) = [each.event for each in happened if isinstance(each.event, FunctionFinished)]
        assert finished.result == '"order 7 is on its way"'

There are more examples in `examples/dealership`, also with an agent that has ears.

The clock of these examples is a fixture. This line in `conftest.py` has it for all tests:

    from sts_trio.testing import fast_clock as fast_clock

With it they take no longer than their work does, and what they tell of time is the same on any
machine. While a thread works, or the offline agent recognises words, `running` has the clock wait.
What your functions wait for beyond Trio otherwise, another process or another machine, it cannot
see. Without it calls take as long as calls take. Nothing else here needs pytest; `trio.run` will
do, with `clock=trio.testing.MockClock(autojump_threshold=0)`.
"""

from typing import TYPE_CHECKING, Any

from sts_trio.observe.feed import CallEvent
from sts_trio.offline.protocol.faults import Faults
from sts_trio.offline.protocol.script import CallFunction, Silence
from sts_trio.simulate.connect import NotConnected
from sts_trio.simulate.party import Party
from sts_trio.simulate.phone import Moment
from sts_trio.simulate.phone_call import PhoneCall
from sts_trio.simulate.placement import Callee
from sts_trio.simulate.report import Report, Result, Turn
from sts_trio.simulate.script import HangUp, Keys, Speak, Step, WaitForQuiet, WaitForSpeech
from sts_trio.simulate.unknowns import Unknowns, readings
from sts_trio.testing.agent import Agent, offline_agent, scripted_agent
from sts_trio.testing.caller import Said, call
from sts_trio.testing.carrier import Account, carrier
from sts_trio.testing.flights import replay_flight
from sts_trio.testing.leftovers import Inventory, inventory, leftovers
from sts_trio.testing.running import running
from sts_trio.testing.server import Server

if TYPE_CHECKING:
    from sts_trio.testing.fixtures import fast_clock as fast_clock

__all__ = [
    "Account",
    "Agent",
    "CallEvent",
    "CallFunction",
    "Callee",
    "Faults",
    "HangUp",
    "Inventory",
    "Keys",
    "Moment",
    "NotConnected",
    "Party",
    "PhoneCall",
    "Report",
    "Result",
    "Said",
    "Server",
    "Silence",
    "Speak",
    "Step",
    "Turn",
    "Unknowns",
    "WaitForQuiet",
    "WaitForSpeech",
    "call",
    "carrier",
    "inventory",
    "leftovers",
    "offline_agent",
    "readings",
    "replay_flight",
    "running",
    "scripted_agent",
]


def __getattr__(name: str) -> Any:
    """The fixture is had when it is asked for, as nothing else here needs pytest."""
    if name == "fast_clock":
        from sts_trio.testing.fixtures import fast_clock

        return fast_clock
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

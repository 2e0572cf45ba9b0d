"""Whole calls that the bridge places, through the simulated carrier's REST API."""

from collections.abc import Sequence

import pytest
import trio

from sts_trio.observe import events
from sts_trio.outbound.requests import OnMachine
from sts_trio.testing import (
    Account,
    Callee,
    PhoneCall,
    Server,
    Step,
    WaitForQuiet,
    carrier,
    running,
    scripted_agent,
)
from sts_trio.testing import fast_clock as fast_clock

NUMBER = "+15005550006"
VARIABLES = {"STS_CALLER_ID": "+15005550010", "STS_DIAL_PREFIXES": "+1"}
LISTENS: Sequence[Step] = [WaitForQuiet(), WaitForQuiet(3.0)]


async def over(account: Account) -> PhoneCall:
    """The call that was placed, once it is over."""
    with trio.fail_after(120.0):
        while not account.placed:  # noqa: ASYNC110
            await trio.sleep(1.0)
    (call,) = account.placed
    return call


async def ask(server: Server, on_machine: OnMachine = OnMachine.HANG_UP, message: str = "") -> str:
    dialler = server.app.server.dialler
    placed = await dialler.place(NUMBER, on_machine=on_machine, message=message or None)
    return placed.call_sid


async def test_who_is_called_hears_the_agent(fast_clock: object) -> None:
    async with (
        carrier(callees={NUMBER: Callee(steps=LISTENS)}) as account,
        scripted_agent() as agent,
        running(VARIABLES, agent=agent, carrier=account) as server,
    ):
        sid = await ask(server)
        call = await over(account)
        _, entries = server.app.live_calls.event_feed.entries_beyond(0)
    assert (call.call_sid, call.status, call.ended_by) == (sid, "completed", "caller")
    assert len(call.report.heard) > 8000
    told = [each.event for each in entries]
    assert [each.status for each in told if isinstance(each, events.CallStatus)] == [
        "initiated",
        "ringing",
        "in-progress",
        "completed",
    ]
    assert [each.by for each in told if isinstance(each, events.CallAnsweredBy)] == ["human"]


@pytest.mark.parametrize(
    ("on_machine", "message"),
    [(OnMachine.HANG_UP, ""), (OnMachine.LEAVE_MESSAGE, "Please call us back.")],
)
async def test_a_machine_that_answers_is_hung_up_on_or_left_a_message(
    on_machine: OnMachine, message: str, fast_clock: object
) -> None:
    machine = Callee(
        steps=[WaitForQuiet(60.0, 60.0)], answered_by="machine_end_beep", known_after=3.0
    )
    async with (
        carrier(callees={NUMBER: machine}) as account,
        scripted_agent() as agent,
        running(VARIABLES, agent=agent, carrier=account) as server,
    ):
        await ask(server, on_machine, message)
        call = await over(account)
    assert (call.status, call.ended_by) == ("completed", "bridge")
    (stream,) = call.streams
    assert stream.ended_by == "carrier"
    assert (call.report.seconds > stream.ended + 0.5) == bool(message)

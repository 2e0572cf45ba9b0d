"""A call cancelled at each of its awaits in turn: nothing of it is left."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from rig_cancel import CancelAtStep
from rig_dialogue import RECONNECTS
from rig_peers import START, STOP, FakeAgent, FakeTwilio, make_call, media

from sts_trio.functions import Functions, function
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio

Story = Callable[[FakeTwilio, Sequence[FakeAgent]], Awaitable[None]]


async def talk(phone: FakeTwilio, agents: Sequence[FakeAgent]) -> None:
    """What happens to the call from outside: a short talk with a barge-in, then `stop`."""
    phone.tell(twilio.Connected(), START, media())
    await agents[0].ready.wait()
    await agents[0].say(deepgram.Audio(b"\x11" * 5000), deepgram.UserStartedSpeaking())
    await trio.testing.wait_all_tasks_blocked()
    phone.tell(media(), STOP)


async def loss(phone: FakeTwilio, agents: Sequence[FakeAgent]) -> None:
    """Functions run when the agent is lost; the next one calls them too, then `stop`."""
    phone.tell(twilio.Connected(), START, media())
    for agent in agents:
        await agent.ready.wait()
        await agent.say(
            deepgram.ConversationText("user", "Do it."),
            deepgram.FunctionCallRequest(
                (
                    deepgram.FunctionToCall("fc_1", "quick", "{}"),
                    deepgram.FunctionToCall("fc_2", "slow", "{}"),
                )
            ),
        )
        await trio.sleep(0.5)
        phone.tell(media())
        if agent is agents[0]:
            await agent.drop()
    await trio.testing.wait_all_tasks_blocked()
    phone.tell(STOP)


@function
async def quick() -> str:
    """Quick."""
    await trio.sleep(0.1)
    return "done"


@function
async def slow() -> str:
    """Slow."""
    await trio.sleep(60)
    return "done"


STORIES: dict[str, tuple[Story, int, dict[str, Any]]] = {
    # {name: what happens, how many agents it takes, what the call is given}
    "a talk": (talk, 1, {}),
    "a loss": (loss, 2, {"policy": RECONNECTS, "functions": Functions([quick, slow])}),
}


async def cancelled_at(step: int, name: str) -> int:
    """Runs the story with the call cancelled at that step; returns the number of steps seen."""
    story, count, options = STORIES[name]
    phone, agents = FakeTwilio(), [FakeAgent() for _ in range(count)]
    before = trio.lowlevel.current_statistics().tasks_living
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as world:
            call = make_call(world, phone, *agents, **options)
            with trio.CancelScope() as scope:
                instrument = CancelAtStep(scope, step)
                trio.lowlevel.add_instrument(instrument)
                try:
                    async with trio.open_nursery() as tasks:
                        tasks.start_soon(story, phone, agents)
                        await call.run()
                        tasks.cancel_scope.cancel()
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            with trio.fail_after(10):
                # The agent's end is no task of the call's; it must find its socket closed.
                for agent in agents:
                    if agent.dialled.is_set():
                        await agent.over.wait()
            world.cancel_scope.cancel()
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert [line["event"] for line in logs].count(events.CallEnded.NAME) == 1
    assert events.CallCrashed.NAME not in [line["event"] for line in logs]
    return instrument.seen


@pytest.mark.parametrize("name", STORIES)
async def test_a_call_cancelled_at_any_await_leaves_nothing(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    steps = await cancelled_at(-1, name)
    assert steps > 50
    for step in range(steps):
        await cancelled_at(step, name)

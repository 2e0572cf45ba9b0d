"""A call cancelled at each of its awaits in turn: nothing of it is left."""

import structlog
import trio
import trio.testing
from fakes import START, STOP, FakeAgent, FakeTwilio, make_call, media

from sts_trio.wire import deepgram, twilio


class CancelAtStep(trio.abc.Instrument):
    """Cancels the scope just before the given step of any task; counts the steps it saw."""

    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self._scope = scope
        self._step = step
        self.seen = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.seen == self._step:
            self._scope.cancel()
        self.seen += 1


async def story(phone: FakeTwilio, agent: FakeAgent) -> None:
    """What happens to the call from outside: a short talk with a barge-in, then `stop`."""
    phone.tell(twilio.Connected(), START, media())
    await agent.ready.wait()
    await agent.say(deepgram.Audio(b"\x11" * 5000), deepgram.UserStartedSpeaking())
    await trio.testing.wait_all_tasks_blocked()
    phone.tell(media(), STOP)


async def cancelled_at(step: int) -> int:
    """Runs the story with the call cancelled at that step; returns the number of steps seen."""
    phone, agent = FakeTwilio(), FakeAgent()
    before = trio.lowlevel.current_statistics().tasks_living
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as world:
            call = make_call(world, phone, agent)
            with trio.CancelScope() as scope:
                instrument = CancelAtStep(scope, step)
                trio.lowlevel.add_instrument(instrument)
                try:
                    async with trio.open_nursery() as tasks:
                        tasks.start_soon(story, phone, agent)
                        await call.run()
                        tasks.cancel_scope.cancel()
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            with trio.fail_after(10):
                # The agent's end is no task of the call's; it must find its socket closed.
                if agent.dialled.is_set():
                    await agent.over.wait()
            world.cancel_scope.cancel()
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert [line["event"] for line in logs].count("call.ended") == 1
    assert "call.crashed" not in [line["event"] for line in logs]
    return instrument.seen


async def test_a_call_cancelled_at_any_await_leaves_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    steps = await cancelled_at(-1)
    assert steps > 50
    for step in range(steps):
        await cancelled_at(step)

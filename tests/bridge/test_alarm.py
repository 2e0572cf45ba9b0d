"""Who tells a call the time: its timer, or the turns of a leg that is polled."""

from collections import Counter

import pytest
import trio
import trio.testing
from rig_bin import talking_from_a_bin
from rig_peers import (
    FakeAgent,
    FakeTwilio,
    Phone,
    SocketTwilio,
    media,
    settle,
    talking,
)

from sts_trio.bridge.alarm import Alarm
from sts_trio.bridge.run import Bridge
from sts_trio.call.info import CallInfo
from sts_trio.errors import Ending
from sts_trio.logic.acts import CallReleased
from sts_trio.logic.policy import CallPolicy
from sts_trio.net.ticker import SHORTEST_PERIOD
from sts_trio.wire import deepgram

Clock = trio.testing.MockClock

ONE_MOMENT = b"\x11" * 1600


class Steps(trio.abc.Instrument):
    """Counts those of the timer, which is the call's own task."""

    def __init__(self, call: Bridge) -> None:
        self.count = 0
        self._task = call.task

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is self._task


async def talk_for(seconds: int, phone: Phone, agent: FakeAgent) -> None:
    """Each second the caller has words, and the agent an answer."""
    for _ in range(seconds):
        phone.tell(*[media()] * 10)
        await agent.say(deepgram.ConversationText("user", "And then?"))
        await trio.sleep(0.5)
        await agent.say(deepgram.Audio(b"\x10" * 160), deepgram.AgentAudioDone())
        await trio.sleep(0.5)


@pytest.mark.parametrize("is_polled", [True, False])
async def test_a_polled_leg_spares_the_timer_its_wake_ups(
    is_polled: bool, autojump_clock: Clock
) -> None:
    """In each turn an answer is due, and comes: the deadline moves to and fro."""
    phone: Phone = SocketTwilio() if is_polled else FakeTwilio()
    agent = FakeAgent()
    async with talking(phone, agent, policy=CallPolicy(answer_within=2.0)) as call:
        steps = Steps(call)
        await talk_for(15, phone, agent)  # what the timer was set to before is over
        trio.lowlevel.add_instrument(steps)
        await talk_for(20, phone, agent)
        trio.lowlevel.remove_instrument(steps)
        assert call.ending is None
    assert (steps.count == 0) is is_polled


@pytest.mark.parametrize("has_frames", [True, False])
async def test_what_is_due_comes_with_a_turn_of_a_polled_leg(
    has_frames: bool, autojump_clock: Clock
) -> None:
    phone, agent = SocketTwilio(), FakeAgent()
    policy = CallPolicy(answer_within=2.0, one_moment=ONE_MOMENT)
    async with talking(phone, agent, policy=policy):
        await agent.say(deepgram.Audio(b"\x10" * 160), deepgram.AgentAudioDone())
        await settle(phone)
        phone.played.clear()
        await agent.say(deepgram.ConversationText("user", "Hello?"))
        began = trio.current_time()
        while not phone.audio:
            if has_frames:
                phone.tell(media())
            await trio.sleep(0.01)
        assert trio.current_time() - began == pytest.approx(2.0, abs=3 * SHORTEST_PERIOD)
        assert phone.audio == ONE_MOMENT


async def test_the_timer_takes_over_where_a_polled_leg_is_over(autojump_clock: Clock) -> None:
    """The caller is gone while Twilio is asked to transfer the call, and code waits for keys."""
    phone, agent, keys = SocketTwilio(), FakeAgent(), Counter[str]()

    async def release_phone_call(info: CallInfo, ending: Ending) -> CallReleased:
        await trio.sleep(4.0)
        return CallReleased()

    async def collect(call: Bridge) -> None:
        began = trio.current_time()
        digits = await call.call.collect_digits(within=1.0)
        keys[digits] += 1
        assert trio.current_time() - began == pytest.approx(1.0)

    async with (
        trio.open_nursery() as tasks,
        talking_from_a_bin(phone, agent, release_phone_call) as call,
    ):
        await call.call.transfer("+15005550009")
        await agent.say(deepgram.AgentAudioDone())
        await settle(phone)
        phone.lose()
        await settle(phone)
        assert call.ending is None
        tasks.start_soon(collect, call)
    assert keys == {"": 1}


async def test_an_alarm_rings_at_the_earliest_it_was_set_to(autojump_clock: Clock) -> None:
    alarm = Alarm()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(alarm.wait, 5.0)
        await trio.testing.wait_all_tasks_blocked()
        for at in (3.0, 4.0, 2.0, 6.0):
            alarm.set(at)
    assert trio.current_time() == 2.0


async def test_an_alarm_that_is_stopped_rings_at_once(autojump_clock: Clock) -> None:
    alarm = Alarm()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(alarm.wait, 5.0)
        await trio.testing.wait_all_tasks_blocked()
        alarm.stop()
    assert trio.current_time() == 0.0

"""A call has more than one stream: the first was cut, or another process had the call before."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from limits import HANG
from rig_peers import (
    CALL_SID,
    SETTINGS,
    START,
    STOP,
    FakeAgent,
    FakeTwilio,
    SocketTwilio,
    make_call,
    media,
    settle,
)

from sts_trio.bridge.live_calls import LiveCalls
from sts_trio.bridge.run import Bridge
from sts_trio.call.info import CallInfo
from sts_trio.errors import Cause, Ending
from sts_trio.legs.caller_adopted import AdoptedLeg
from sts_trio.logic.acts import CallerGone, MoveAway, Recalled, ShutDown
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.states import BACK_WITHIN
from sts_trio.observe import events
from sts_trio.observe.feed import CallEvent
from sts_trio.wire import deepgram, twilio
from sts_trio.wire.deepgram import AgentAudioDone, Audio, ConversationText

KEEPS = CallPolicy(reconnects=True, resumes=True)
WORD = b"\x31" * 1600
NEW = "MZ00000000000000000000000000000009"
AGAIN = msgspec.structs.replace(
    START, start=msgspec.structs.replace(START.start, stream_sid=NEW), stream_sid=NEW
)
Phone = FakeTwilio | SocketTwilio
Clock = trio.testing.MockClock


@asynccontextmanager
async def a_call(
    first: Phone, agent: FakeAgent, told: list[Any] | None = None, **options: Any
) -> AsyncIterator[tuple[Bridge, trio.Nursery]]:
    """One whose stream may come back, talking; it is over when the block is left."""
    async with trio.open_nursery() as tasks:
        call = make_call(
            tasks, first, agent, policy=KEEPS, may_come_back=True,
            tell=(lambda entry: told.append(entry)) if told is not None else (lambda entry: None),
            **options,
        )  # fmt: skip
        tasks.start_soon(call.run)
        first.tell(twilio.Connected(), START, media())
        await agent.ready.wait()
        await settle(first)
        yield call, tasks


@pytest.mark.parametrize("kind", [FakeTwilio, SocketTwilio])
async def test_a_stream_that_is_cut_comes_back_to_the_same_agent(
    kind: type[Phone], autojump_clock: Clock
) -> None:
    first, second, agent = kind(), kind(), FakeAgent()
    told: list[CallEvent] = []
    async with a_call(first, agent, told) as (call, tasks):
        assert not call.awaits_stream
        first.lose()
        await settle(first)
        assert call.awaits_stream
        await agent.say(ConversationText("agent", "Hello."), Audio(WORD), AgentAudioDone())
        await settle(first)
        assert first.audio == b""
        tasks.start_soon(call.come_back, second.open)
        second.tell(twilio.Connected(), AGAIN)
        await settle(second)
        assert second.audio == WORD
        assert {each.stream_sid for each in second.played} == {NEW}
        assert not call.awaits_stream
        assert agent.closed is None
        second.tell(msgspec.structs.replace(STOP, stream_sid=NEW))
    assert call.ending == Ending(Cause.STOP)
    assert len([each for each in agent.got if not isinstance(each, Audio)]) == 1
    [moved] = [each.event for each in told if isinstance(each.event, events.CallMoved)]
    assert moved.how == "returned"


@pytest.mark.parametrize("kind", [FakeTwilio, SocketTwilio])
async def test_what_nobody_comes_back_to_is_gone_in_seconds(
    kind: type[Phone], autojump_clock: Clock
) -> None:
    phone, agent = kind(), FakeAgent()
    async with a_call(phone, agent) as (call, _):
        phone.lose()
        lost_at = trio.current_time()
    assert trio.current_time() - lost_at <= BACK_WITHIN + 2.0
    assert call.ending == Ending(Cause.CALLER_LOST)
    assert agent.closed is not None


@asynccontextmanager
async def never_open() -> AsyncIterator[AdoptedLeg]:
    await trio.sleep_forever()
    yield


@pytest.mark.parametrize("kind", [FakeTwilio, SocketTwilio])
@pytest.mark.parametrize("is_open", [True, False])
async def test_of_two_that_come_back_at_once_the_later_has_the_call(
    kind: type[Phone], is_open: bool, autojump_clock: Clock
) -> None:
    """Twilio was told twice to have it streamed, and of neither anything is heard yet."""
    first, second, third, agent = kind(), FakeTwilio(), kind(), FakeAgent()
    is_let_go = trio.Event()

    async def come_first() -> None:
        await call.come_back(second.open if is_open else never_open)
        is_let_go.set()

    async with a_call(first, agent) as (call, tasks):
        first.lose()
        await settle(first)
        await agent.say(ConversationText("agent", "Hello."), Audio(WORD), AgentAudioDone())
        tasks.start_soon(come_first)
        await settle(second)
        assert call.awaits_stream
        tasks.start_soon(call.come_back, third.open)
        await settle(third)
        assert is_let_go.is_set()
        third.tell(twilio.Connected(), AGAIN)
        await settle(third)
        assert third.audio == WORD
        await agent.say(ConversationText("agent", "Hello."), Audio(WORD), AgentAudioDone())
        await settle(third)
        assert third.audio == 2 * WORD
        assert second.audio == b""
        third.tell(msgspec.structs.replace(STOP, stream_sid=NEW))
    assert call.ending == Ending(Cause.STOP)


async def test_a_socket_that_is_open_as_another_takes_its_place_does_not_tell_the_time(
    autojump_clock: Clock,
) -> None:
    """It has no turns any more; the other is not open yet, and never will be."""
    first, second, agent = FakeTwilio(), SocketTwilio(), FakeAgent()
    is_let_in = trio.Event()

    @asynccontextmanager
    async def open_late() -> AsyncIterator[AdoptedLeg]:
        await is_let_in.wait()
        async with second.open() as leg:
            yield leg

    async with a_call(first, agent) as (call, tasks):
        first.lose()
        lost_at = trio.current_time()
        await settle(first)
        tasks.start_soon(call.come_back, open_late)
        await settle(first)
        with trio.fail_after(HANG):
            is_let_in.set()  # it goes on when this task waits, which is behind the other's coming
            await call.come_back(never_open)
    assert trio.current_time() - lost_at <= BACK_WITHIN + 2.0
    assert call.ending == Ending(Cause.CALLER_LOST)


async def test_a_stream_that_is_there_before_the_old_one_is_missed_takes_its_place(
    autojump_clock: Clock,
) -> None:
    first, second, agent = FakeTwilio(), FakeTwilio(), FakeAgent()
    async with a_call(first, agent) as (call, tasks):
        assert call.may_come_back
        call.expect_back()
        assert call.awaits_stream
        tasks.start_soon(call.come_back, second.open)
        second.tell(twilio.Connected(), AGAIN)
        await settle(second)
        await agent.say(Audio(WORD))
        await settle(second)
        assert second.audio == WORD
        second.tell(msgspec.structs.replace(STOP, stream_sid=NEW))


async def test_a_call_that_is_over_takes_nobody_back(autojump_clock: Clock) -> None:
    first, second, agent = FakeTwilio(), FakeTwilio(), FakeAgent()
    async with a_call(first, agent) as (call, _):
        first.tell(STOP)
    assert not call.may_come_back
    await call.come_back(second.open)
    assert not second.accepted.is_set()


async def test_who_has_hung_up_meanwhile_is_not_waited_for(autojump_clock: Clock) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    async with a_call(phone, agent) as (call, _):
        phone.lose()
        await settle(phone)
        began = trio.current_time()
        call.tell(CallerGone())
    assert trio.current_time() - began < 2.0
    assert call.ending == Ending(Cause.CALLER_LOST)


async def test_the_call_that_waits_for_a_stream_is_found_by_its_sid(autojump_clock: Clock) -> None:
    phone, agent, live_calls = FakeTwilio(), FakeAgent(), LiveCalls(10)
    async with a_call(phone, agent) as (call, _):
        with live_calls.admit(call):
            assert live_calls.awaiting(lambda sid: True) is None
            phone.lose()
            await settle(phone)
            assert live_calls.awaiting(lambda sid: sid == CALL_SID) is call
            assert live_calls.awaiting(lambda sid: False) is None
        call.tell(ShutDown())


async def test_what_was_in_another_process_is_recalled_before_the_agent_is_dialled(
    autojump_clock: Clock,
) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    wanted: list[Any] = []

    async def recall(call: CallInfo) -> Recalled:
        await trio.sleep(0.3)
        assert not agent.dialled.is_set()
        said = events.CallTranscript("user", "The word is heron.")
        return Recalled(told=(said,), greets=False)

    def settings(asked: Any) -> Any:
        wanted.append(asked)
        return SETTINGS

    async with trio.open_nursery() as tasks:
        call = make_call(tasks, phone, agent, recall=recall, settings=settings)
        tasks.start_soon(call.run)
        phone.tell(twilio.Connected(), START)
        await agent.ready.wait()
        await settle(phone)
        phone.tell(STOP)
    assert not wanted[0].greets
    [asked] = [each for each in agent.got if isinstance(each, deepgram.InjectUserMessage)]
    assert asked.content == "The word is heron."


# --- away from here -------------------------------------------------------------------------------


async def test_a_call_that_is_moved_is_known_before_its_legs_are_closed(
    autojump_clock: Clock,
) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    told: list[CallEvent] = []
    seen: list[Any] = []

    async def make_known() -> None:
        await trio.sleep(0.1)
        seen.append((told[-1].event, phone.goodbye, agent.closed))

    async with a_call(phone, agent, told, make_known=make_known) as (call, _):
        assert call.may_come_back
        call.tell(MoveAway())
    assert call.ending == Ending(Cause.MOVED)
    [(event, *closed)] = seen
    assert isinstance(event, events.CallEnded)
    assert (event.ending, closed) == ("moved", [None, None])
    assert phone.goodbye is not None
    assert (phone.goodbye[1], (agent.closed or (0, 0))[1]) == (1001, 1000)
    assert sum(isinstance(each.event, events.CallEnded) for each in told) == 1


async def be_live(call: Bridge, live_calls: LiveCalls) -> None:
    with live_calls.admit(call):
        while call.ending is None:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_calls_are_moved_between_two_turns_and_after_a_while_in_any_case(
    autojump_clock: Clock,
) -> None:
    phone, agent, live_calls = FakeTwilio(), FakeAgent(), LiveCalls(10)
    async with a_call(phone, agent) as (call, tasks):
        assert call.is_at_rest
        await agent.say(ConversationText("agent", "Hello."), Audio(WORD))
        await settle(phone)
        assert not call.is_at_rest
        tasks.start_soon(be_live, call, live_calls)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await live_calls.move_away(3.0, lambda: True)
        assert 3.0 <= trio.current_time() - began < 3.2
    assert call.ending == Ending(Cause.MOVED)


async def test_a_call_at_rest_is_moved_at_once_if_somebody_would_go_on_with_it(
    autojump_clock: Clock,
) -> None:
    phone, agent, live_calls = FakeTwilio(), FakeAgent(), LiveCalls(10)
    async with a_call(phone, agent) as (call, tasks):
        tasks.start_soon(be_live, call, live_calls)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await live_calls.move_away(2.0, lambda: False)
        assert call.ending is None
        assert trio.current_time() - began >= 2.0
        await live_calls.move_away(2.0, lambda: True)
        assert trio.current_time() - began < 2.3
    assert call.ending == Ending(Cause.MOVED)


@pytest.mark.parametrize("may_come_back", [True, False])
async def test_of_a_server_that_is_gone_in_seconds_those_calls_go_on_that_can(
    may_come_back: bool, autojump_clock: Clock
) -> None:
    phone, agent, live_calls = FakeTwilio(), FakeAgent(), LiveCalls(10)
    async with trio.open_nursery() as tasks:
        call = make_call(tasks, phone, agent, may_come_back=may_come_back)
        tasks.start_soon(call.run)
        phone.tell(twilio.Connected(), START, media())
        await agent.ready.wait()
        await settle(phone)
        with live_calls.admit(call):
            await live_calls.move_away(0.0, lambda: not may_come_back)
            assert call.ending is None
            live_calls.shut_down(moves=True)
    assert call.ending == Ending(Cause.MOVED if may_come_back else Cause.SHUTDOWN)


@pytest.mark.parametrize("kind", [FakeTwilio, SocketTwilio])
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("number", range(4))
async def test_a_loss_that_is_noticed_as_the_next_stream_comes_costs_nothing(
    kind: type[Phone], is_first: bool, number: int, autojump_clock: Clock
) -> None:
    """In whichever order the tasks run, which is another one each time."""
    first, second, agent = kind(), kind(), FakeAgent()
    async with a_call(first, agent) as (call, tasks):
        call.expect_back()
        if is_first:
            first.lose()
        tasks.start_soon(call.come_back, second.open)
        if not is_first:
            first.lose()
        second.tell(twilio.Connected(), AGAIN)
        await settle(second)
        await agent.say(Audio(WORD))
        await settle(second)
        assert second.audio == WORD
        second.tell(msgspec.structs.replace(STOP, stream_sid=NEW))

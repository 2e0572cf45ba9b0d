"""The live calls of a process: admission, endings, drain and shutdown."""

from collections.abc import Callable

import pytest
import structlog
import trio
import trio.testing
from rig_peers import CALL_SID, START, STOP, FakeAgent, FakeTwilio, Lines, make_call, media

from sts_trio.bridge.live_calls import REMEMBERED_ENDINGS, LiveCalls
from sts_trio.bridge.run import Bridge
from sts_trio.errors import Cause, Ending, Verdict
from sts_trio.logic.dialogue import Dialogue
from sts_trio.observe import events
from sts_trio.wire import twilio


def idle_call(call_sid: str = CALL_SID) -> Bridge:
    """A call that nobody runs."""
    nobody: Dialogue = Dialogue(lambda start: pytest.fail("no agent is asked for"))
    nobody._stream.call_sid = call_sid
    return Bridge(
        nobody,
        lambda: pytest.fail("no caller is asked for"),
        Lines(lambda: pytest.fail("no agent is asked for")),
    )


async def test_calls_are_counted_while_they_are_live() -> None:
    live_calls = LiveCalls(2)
    assert (live_calls.live, live_calls.takes_calls) == (0, True)
    first, second = idle_call(), idle_call()
    with live_calls.admit(first):
        assert (live_calls.live, live_calls.takes_calls) == (1, True)
        with live_calls.admit(second):
            assert (live_calls.live, live_calls.takes_calls) == (2, False)
            assert set(live_calls.calls) == {first, second}
            assert live_calls.status == "full"
        assert (live_calls.live, live_calls.takes_calls) == (1, True)
        assert live_calls.calls == (first,)
        assert live_calls.status == "ready"
    assert live_calls.live == 0


async def test_a_call_that_fails_is_live_no_more() -> None:
    live_calls = LiveCalls(1)
    with pytest.raises(ZeroDivisionError), live_calls.admit(idle_call()):
        raise ZeroDivisionError
    assert (live_calls.live, live_calls.takes_calls) == (0, True)


async def test_an_ending_is_remembered_by_its_call() -> None:
    live_calls = LiveCalls(1)
    call = idle_call()
    with live_calls.admit(call):
        assert live_calls.ending_of(CALL_SID) is None
        call.ending = Ending(Cause.AGENT_LOST)
    assert live_calls.ending_of(CALL_SID) == Ending(Cause.AGENT_LOST)
    assert live_calls.ending_of("CA of somebody else") is None


async def test_an_ending_is_known_while_the_call_is_still_saying_goodbye(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """To Twilio, too, a transfer is asked for when its own socket is closed, and no later."""
    live_calls = LiveCalls(2)
    phone, agent = FakeTwilio(), FakeAgent(answers_close=False)
    async with trio.open_nursery() as tasks:
        call = make_call(tasks, phone, agent, on_hang_up=live_calls.remember)
        tasks.start_soon(admitted, live_calls, call)
        phone.tell(twilio.Connected(), START, media())
        await agent.ready.wait()
        phone.tell(STOP)
        await trio.sleep(0.1)
        assert phone.goodbye == (0, 1000)
        assert live_calls.live == 1
        assert live_calls.ending_of(CALL_SID) == Ending(Cause.STOP)
        assert live_calls.ending_of("CA of somebody else") is None


async def test_a_call_is_found_by_its_sid_while_it_is_live(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Both of them, the oldest first, where Twilio streams it twice."""
    live_calls = LiveCalls(3)
    with live_calls.admit(first := idle_call()), live_calls.admit(idle_call("CA9")):
        await trio.sleep(1)
        with live_calls.admit(second := idle_call()):
            assert list(live_calls.find(CALL_SID)) == [first, second]
        assert list(live_calls.find(CALL_SID)) == [first]
        assert list(live_calls.find("CA8")) == []
    assert list(live_calls.find(CALL_SID)) == []


async def test_a_call_that_has_no_sid_yet_is_found_by_none() -> None:
    live_calls = LiveCalls(1)
    with live_calls.admit(idle_call(call_sid="")):
        assert list(live_calls.find("")) == []


async def test_a_call_that_did_not_end_is_not_remembered() -> None:
    live_calls = LiveCalls(1)
    with live_calls.admit(idle_call()):
        pass
    assert live_calls.ending_of(CALL_SID) is None


async def test_a_call_that_never_started_is_not_remembered_for_all_without_a_name() -> None:
    live_calls = LiveCalls(1)
    call = idle_call(call_sid="")
    with live_calls.admit(call):
        call.ending = Ending(Cause.AGENT_LOST)
    assert live_calls.ending_of("") is None


async def test_the_oldest_endings_are_forgotten() -> None:
    live_calls = LiveCalls(1)
    for number in range(REMEMBERED_ENDINGS + 5):
        live_calls.remember(f"CA{number}", Ending(Cause.STOP))
    assert live_calls.ending_of("CA4") is None
    assert live_calls.ending_of("CA5") is not None
    assert live_calls.ending_of(f"CA{REMEMBERED_ENDINGS + 4}") is not None


async def test_a_call_that_was_streamed_twice_is_remembered_by_its_second_ending() -> None:
    live_calls = LiveCalls(1)
    live_calls.remember("CA0", Ending(Cause.STOP))
    for number in range(1, REMEMBERED_ENDINGS):
        live_calls.remember(f"CA{number}", Ending(Cause.STOP))
    live_calls.remember("CA0", Ending(Cause.AGENT_LOST))
    live_calls.remember("CA one more", Ending(Cause.STOP))
    assert live_calls.ending_of("CA0") == Ending(Cause.AGENT_LOST)
    assert live_calls.ending_of("CA1") is None


async def test_draining_takes_no_more_calls_and_leaves_those_there_are() -> None:
    live_calls = LiveCalls(2)
    call = idle_call()
    with live_calls.admit(call):
        assert not live_calls.is_draining
        live_calls.drain()
        assert live_calls.is_draining
        assert live_calls.status == "draining"
        assert not live_calls.takes_calls
        assert call.ending is None


@pytest.mark.parametrize("end", [LiveCalls.wind_up, LiveCalls.shut_down])
async def test_who_was_let_in_before_it_drains_has_room_until_the_end(
    end: Callable[[LiveCalls], None],
) -> None:
    live_calls = LiveCalls(1)
    live_calls.drain()
    assert live_calls.has_room
    with live_calls.admit(idle_call()):
        assert not live_calls.has_room
    end(live_calls)
    assert not live_calls.has_room


async def test_an_heir_is_told_how_calls_have_ended_and_how_others_do() -> None:
    live_calls = LiveCalls(1)
    live_calls.remember("CA1", Ending(Cause.STOP))
    told: list[tuple[str, Ending]] = []
    assert not live_calls.has_heir
    live_calls.drain(lambda call_sid, ending: told.append((call_sid, ending)))
    live_calls.drain()
    assert live_calls.has_heir
    call = idle_call()
    with live_calls.admit(call):
        call.ending = Ending(Cause.TRANSFERRED, "+15005550020")
        live_calls.remember(CALL_SID, call.ending)
    assert told == [
        ("CA1", Ending(Cause.STOP)),
        (CALL_SID, Ending(Cause.TRANSFERRED, "+15005550020")),
    ]


class Predecessor:
    """A process that tells how its calls have ended, until it `goes`."""

    def __init__(self) -> None:
        self.tell: Callable[[str, Ending], None]
        self.goes = trio.Event()

    async def tells(self, remember: Callable[[str, Ending], None]) -> None:
        self.tell = remember
        await self.goes.wait()


async def test_who_follows_a_process_waits_a_moment_for_how_a_call_ended_there(
    autojump_clock: trio.testing.MockClock,
) -> None:
    live_calls, predecessor = LiveCalls(1), Predecessor()
    told: dict[str, tuple[float, Ending | None]] = {}

    async def ask(call_sid: str) -> None:
        ending = await live_calls.ending_told(call_sid)
        told[call_sid] = trio.current_time() - began, ending

    async with trio.open_nursery() as nursery:
        nursery.start_soon(live_calls.follow, predecessor.tells)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        for call_sid in ("CA known", "CA told", "CA unknown"):
            nursery.start_soon(ask, call_sid)
        predecessor.tell("CA known", Ending(Cause.STOP))
        await trio.sleep(0.5)
        predecessor.tell("CA told", Ending(Cause.SHUTDOWN))
        await trio.sleep(1)
        nursery.start_soon(ask, "CA asked late")
        await trio.sleep(0.25)
        predecessor.goes.set()
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await ask("CA asked later")
    assert told == {
        "CA known": (0.0, Ending(Cause.STOP)),
        "CA told": (0.5, Ending(Cause.SHUTDOWN)),
        "CA unknown": (1.0, None),
        "CA asked late": (1.75, None),
        "CA asked later": (0.0, None),
    }


async def test_emptiness_is_waited_for_until_the_last_call_is_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    live_calls = LiveCalls(2)
    emptied_at: list[float] = []

    async def hold(duration: float) -> None:
        with live_calls.admit(idle_call()):
            await trio.sleep(duration)

    async def wait() -> None:
        await live_calls.empty()
        emptied_at.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert emptied_at == [0]
        for duration in (1, 2):
            nursery.start_soon(hold, duration)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wait)
        nursery.start_soon(wait)
    assert emptied_at == [0, 2, 2]


async def test_a_call_that_comes_as_the_last_one_goes_is_waited_for_as_well(
    autojump_clock: trio.testing.MockClock,
) -> None:
    live_calls = LiveCalls(2)

    async def hold_one_after_the_other() -> None:
        for _ in range(2):
            with live_calls.admit(idle_call()):
                await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold_one_after_the_other)
        await trio.testing.wait_all_tasks_blocked()
        await live_calls.empty()
        assert trio.current_time() == 2


async def test_shutting_down_says_goodbye_on_every_socket(
    autojump_clock: trio.testing.MockClock,
) -> None:
    live_calls = LiveCalls(3)
    phones = [FakeTwilio() for _ in range(3)]
    agents = [FakeAgent() for _ in range(3)]
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as tasks:

            async def run(phone: FakeTwilio, agent: FakeAgent) -> None:
                call = make_call(tasks, phone, agent)
                with live_calls.admit(call):
                    await call.run()

            for phone, agent in zip(phones, agents, strict=True):
                phone.tell(twilio.Connected(), START, media())
                tasks.start_soon(run, phone, agent)
            for agent in agents:
                await agent.ready.wait()
            await trio.sleep(0.5)
            # One is on its way out by itself.
            phones[0].tell(STOP)
            await trio.testing.wait_all_tasks_blocked()
            live_calls.shut_down()
            assert live_calls.is_draining
            await live_calls.empty()
            assert trio.current_time() == 0.5
    assert [phone.goodbye for phone in phones] == [(0.5, 1000), (0.5, 1001), (0.5, 1001)]
    assert [agent.closed for agent in agents] == [(0.5, 1000), (0.5, 1001), (0.5, 1001)]
    endings = [line["ending"] for line in logs if line["event"] == events.CallEnded.NAME]
    assert sorted(endings) == ["shutdown", "shutdown", "stop"]
    ending = live_calls.ending_of(CALL_SID)
    assert ending is not None
    assert ending.verdict in (Verdict.OURS, Verdict.SUCCESS)


async def test_winding_up_ends_every_call_by_its_goodbye(
    autojump_clock: trio.testing.MockClock,
) -> None:
    live_calls = LiveCalls(2)
    phones = [FakeTwilio(), FakeTwilio()]
    agents = [FakeAgent(), FakeAgent()]
    async with trio.open_nursery() as tasks:
        for phone, agent in zip(phones, agents, strict=True):
            phone.tell(twilio.Connected(), START, media())
            tasks.start_soon(admitted, live_calls, make_call(tasks, phone, agent))
        for agent in agents:
            await agent.ready.wait()
        live_calls.wind_up()
        assert not live_calls.takes_calls
        await live_calls.empty()
    # Neither says a word of it, and is not waited for.
    assert [phone.goodbye for phone in phones] == [(4.0, 1001)] * 2
    assert [agent.closed for agent in agents] == [(4.0, 1001)] * 2
    assert live_calls.ending_of(CALL_SID) == Ending(Cause.SHUTDOWN, apologised=True)


async def admitted(live_calls: LiveCalls, call: Bridge) -> None:
    with live_calls.admit(call):
        await call.run()


async def test_a_call_admitted_but_not_yet_running_is_shut_down_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    live_calls = LiveCalls(1)
    phone, agent = FakeTwilio(), FakeAgent()
    async with trio.open_nursery() as tasks:
        call = make_call(tasks, phone, agent)
        with live_calls.admit(call):
            live_calls.shut_down()
            assert await call.run() == Ending(Cause.SHUTDOWN)
    assert phone.goodbye == (0, 1001)
    assert not agent.dialled.is_set()

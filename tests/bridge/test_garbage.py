"""A call leaves nothing for the garbage collector: reference counting frees all of it, at once.

The stories are those of other files, told with the collector off. A cycle fails the test that finds
it, by its way round, such as `Call._function_calls -> FunctionCalls._call ->`.
"""

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import test_call_api
import test_cancellations
import test_connections
import test_endings
import test_release
import trio
import trio.testing
from rig_peers import (
    START,
    FakeAgent,
    FakeTwilio,
    Phone,
    SocketTwilio,
    broken,
    make_call,
    media,
    talking,
    tap,
)
from rig_server import Phone as RealPhone
from rig_server import World, talk, world
from rig_streams import certified
from rig_webhook import announce, hang_up, start

from sts_trio import FunctionFailed, function
from sts_trio.agents.prewarm import PrewarmedLeg, PrewarmedSession
from sts_trio.bridge.outbox import Outbox
from sts_trio.bridge.run import Bridge
from sts_trio.call.api import Call
from sts_trio.errors import Ending
from sts_trio.functions import Functions
from sts_trio.functions.runner import FunctionCalls
from sts_trio.legs.agent import AgentLeg
from sts_trio.legs.caller_adopted import AdoptedLeg
from sts_trio.legs.caller_asgi import CallerLeg
from sts_trio.logic.acts import ShutDown
from sts_trio.logic.dialogue import Dialogue
from sts_trio.net.hypercorn_guard import Connection
from sts_trio.testing import inventory
from sts_trio.wire import deepgram, twilio

BENCH = Path(__file__).parent.parents[1] / "bench"
sys.path.insert(0, str(BENCH))

import cycles  # noqa: E402

# What they run is covered by those whose stories they are.
pytestmark = pytest.mark.no_cover

Clock = trio.testing.MockClock
KINDS = [FakeTwilio, SocketTwilio]

# What is to be gone as soon as the call is, without any collector.
OURS: tuple[type, ...] = (
    *(Bridge, Dialogue, FunctionCalls, Outbox, PrewarmedSession),
    *(AdoptedLeg, CallerLeg, AgentLeg, PrewarmedLeg, Connection),
)
# Whose cycles are none of the call's: those of the peers that stand at its two ends here.
PEERS = ("rig_peers", "rig_server", "test_", "trio.testing")
# Werkzeug finds a request's route by a function that calls itself: 8 objects a request. msgspec
# looks a type up by another, once.
KNOWN = {"werkzeug.routing.matcher", "msgspec._utils"}


@contextlib.contextmanager
def leaving_no_garbage() -> Iterator[None]:
    with cycles.uncollected() as garbage:
        yield
        alive = [type(each).__name__ for each in gc.get_objects() if isinstance(each, OURS)]
    # What hangs on a cycle that was told before is told with it, or is a peer's with it.
    found = [
        str(cycle)
        for cycle in cycles.find(garbage)
        if cycle.objects
        and not cycle.homes <= KNOWN
        and not any(home.startswith(PEERS) for home in cycle.homes)
    ]
    assert not found, "\n".join(found)
    assert not alive, f"no cycle has them, but something does: {alive}"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Lines that were kept would keep their exceptions, and those their frames."""

    def drop(*_: object) -> Any:
        raise structlog.DropEvent

    structlog.reset_defaults()
    structlog.configure(processors=[drop])
    yield
    structlog.reset_defaults()


# --- every ending, on the virtual clock -----------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", test_endings.ENDS)
async def test_a_call_that_ends_so_in_whatever_phase_leaves_no_garbage(
    name: str, kind: type[Phone], autojump_clock: Clock
) -> None:
    with leaving_no_garbage():
        for phase in test_endings.ENDS[name].phases:
            await test_endings.test_both_sockets_close_together(name, phase, kind, autojump_clock)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gap", test_endings.GAPS)
async def test_a_call_that_lost_its_agent_before_its_end_leaves_no_garbage(
    gap: str, kind: type[Phone], autojump_clock: Clock
) -> None:
    end = test_endings.test_both_sockets_close_together_when_an_agent_was_lost_before
    with leaving_no_garbage():
        for name in test_endings.OUTRIGHT:
            await end(name, gap, kind, autojump_clock)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", test_endings.LOSSES)
async def test_a_lost_agent_leaves_no_garbage_replaced_or_not(
    name: str, kind: type[Phone], autojump_clock: Clock
) -> None:
    apologise = (
        test_endings.test_after_any_loss_the_caller_hears_the_apology_and_then_the_sockets_close
    )
    with leaving_no_garbage():
        await test_endings.test_after_any_loss_another_agent_goes_on(name, kind, autojump_clock)
        await apologise(name, "speaking", kind, autojump_clock)


async def test_a_call_cancelled_at_any_await_leaves_no_garbage(autojump_clock: Clock) -> None:
    for name in test_cancellations.STORIES:
        await test_cancellations.cancelled_at(-1, name)
        with leaving_no_garbage():
            steps = await test_cancellations.cancelled_at(-1, name)
            for step in range(0, steps, 3):  # all of them take long, and neighbours are alike
                await test_cancellations.cancelled_at(step, name)


REFUSALS = [401, 429, 503]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_without_an_agent_leaves_no_garbage(
    kind: type[Phone], autojump_clock: Clock
) -> None:
    with leaving_no_garbage():
        for status in REFUSALS:
            await call_ends_by_itself(kind(), FakeAgent(refuse=status))
        for door in ("handshake", "welcome", "applied"):
            await call_ends_by_itself(kind(), FakeAgent(door))


async def call_ends_by_itself(phone: Phone, agent: FakeAgent) -> None:
    phone.tell(twilio.Connected(), START, media())
    async with trio.open_nursery() as tasks:
        await make_call(tasks, phone, agent).run()


# --- what the call's own code does ----------------------------------------------------------------


@function
async def slow(call: Call) -> str:
    """Never ends by itself."""
    await call.collect_digits()
    return ""


@function(shield=True, timeout=3)
async def charge() -> str:
    """Is not to be torn."""
    await trio.sleep_forever()
    return ""


@function
async def fails(call: Call) -> str:
    """Fails, and has the call in its frames."""
    raise ZeroDivisionError(call.agent)


@function
def fails_in_a_thread(call: Call) -> str:
    """The same in a thread."""
    raise FunctionFailed(f"{call.agent} cannot do that")


@function(timeout=0.5)
async def late(call: Call) -> str:
    """Takes longer than it may."""
    await trio.sleep_forever()
    return call.agent


FUNCTIONS: list[Callable[..., Any]] = [slow, charge, fails, late]


def request(*functions: Callable[..., Any]) -> deepgram.FunctionCallRequest:
    names = [each.__name__ for each in functions]
    return deepgram.FunctionCallRequest(
        tuple(deepgram.FunctionToCall(f"fc_{name}", name, "{}") for name in names)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["stop", "shutdown", "a lost agent"])
async def test_functions_that_run_at_the_end_or_failed_before_leave_no_garbage(
    end: str, kind: type[Phone], autojump_clock: Clock
) -> None:
    asked = request(*FUNCTIONS)
    with leaving_no_garbage():
        agent = FakeAgent()
        async with talking(kind(), agent, functions=Functions(FUNCTIONS)) as call:
            await agent.say(asked, asked)
            await trio.sleep(1)
            if end == "shutdown":
                call.tell(ShutDown())
            elif end == "a lost agent":
                await agent.drop()
        del agent, call


@pytest.mark.parametrize("kind", KINDS)
async def test_a_function_that_failed_in_a_thread_leaves_no_garbage(
    kind: type[Phone], autojump_clock: Clock
) -> None:
    with leaving_no_garbage():
        agent = FakeAgent()
        async with talking(kind(), agent, functions=Functions([fails_in_a_thread])):
            await agent.say(request(fails_in_a_thread))
            while not any(isinstance(message, deepgram.FunctionResult) for message in agent.got):
                await trio.lowlevel.checkpoint()  # the thread is real, and so no time may jump
        del agent


METHODS = [
    test_call_api.test_who_is_cancelled_while_it_waits_leaves_nothing_behind,
    test_call_api.test_a_transfer_ends_the_call_with_the_number,
    test_call_api.test_another_agent_goes_on,
    test_call_api.test_a_function_that_is_not_to_be_torn_outlives_the_sockets,
    test_call_api.test_a_function_hands_the_call_over,
    test_call_api.test_a_function_that_hangs_up_has_the_goodbye_heard,
    test_release.test_releasing_takes_no_longer_than_it_may,
    test_release.test_a_bug_in_releasing_is_logged_and_closes_both_sockets,
]


@pytest.mark.parametrize("story", METHODS, ids=lambda story: story.__name__)
async def test_what_is_asked_of_a_call_leaves_no_garbage(story: Any, autojump_clock: Clock) -> None:
    with leaving_no_garbage():
        await story(autojump_clock)


# --- lines dialled ahead --------------------------------------------------------------------------

LINES = [
    test_connections.test_a_call_that_comes_while_the_line_is_being_dialled_gets_that_one,
    test_connections.test_a_line_that_nobody_takes_is_closed_with_1000_after_twenty_seconds,
    test_connections.test_a_line_that_is_taken_lives_as_long_as_the_call,
    test_connections.test_of_a_goodbye_the_agent_sees_the_close_frame_and_nothing_is_left,
    test_connections.test_a_call_that_is_cancelled_leaves_nothing_when_it_is_over,
    test_connections.test_a_call_that_is_cancelled_while_it_waits_takes_the_line_with_it,
    test_connections.test_an_agent_that_is_lost_after_it_was_taken_is_heard_of_behind_its_last_word,
    test_connections.test_when_the_app_goes_away_the_call_hears_that_its_agent_is_lost,
    test_connections.test_lines_that_wait_are_closed_with_1000_when_the_app_stops,
    test_connections.test_an_agent_that_answers_no_goodbye_holds_nothing_up,
    test_connections.test_a_line_whose_time_is_up_as_it_is_taken_is_not_handed_over,
    test_connections.test_a_line_does_not_live_longer_for_being_announced_again,
]
# These need no clock.
PROMPT_LINES = [
    test_connections.test_a_line_to_another_agent_than_is_wanted_is_closed,
    test_connections.test_a_line_whose_dial_fails_says_so_and_the_call_dials_afresh,
    test_connections.test_a_leg_that_breaks_before_anybody_hears_it_is_a_bug_of_the_line,
]


@pytest.mark.parametrize("story", LINES, ids=lambda story: story.__name__)
async def test_a_line_dialled_ahead_leaves_no_garbage(story: Any, autojump_clock: Clock) -> None:
    with leaving_no_garbage():
        await story(autojump_clock)


@pytest.mark.parametrize("story", PROMPT_LINES, ids=lambda story: story.__name__)
async def test_a_line_that_is_spoilt_at_once_leaves_no_garbage(story: Any) -> None:
    with leaving_no_garbage():
        await story()


async def test_a_dial_whose_endpoints_fail_one_after_the_other_leaves_no_garbage() -> None:
    with leaving_no_garbage():
        for agent in (None, FakeAgent(refuse=503)):
            await test_connections.test_within_one_dial_the_next_is_tried_when_one_fails(agent)


# --- through Hypercorn and Quart, on real sockets -------------------------------------------------


async def stop(here: World, phone: RealPhone) -> None:
    await hang_up(here, phone)


async def vanish(here: World, phone: RealPhone) -> None:
    await phone.reset()


async def say_goodbye(here: World, phone: RealPhone) -> None:
    await phone.socket.aclose()


async def lose_agent(here: World, phone: RealPhone) -> None:
    await here.agent.drop()
    await phone.play_until_closed()


async def agent_finishes(here: World, phone: RealPhone) -> None:
    here.agent.close(1000)
    await phone.play_until_closed()


async def server_goes(here: World, phone: RealPhone) -> None:
    here.app.live_calls.shut_down()
    await phone.play_until_closed()


async def crash(here: World, phone: RealPhone) -> None:
    [call] = here.app.live_calls.calls
    tap(call, broken)
    await phone.play_until_closed()


async def violate(here: World, phone: RealPhone) -> None:
    await phone.tcp.send_all(b"\xff\xff no frame")
    await here.app.live_calls.empty()


ENDS = [stop, vanish, say_goodbye, lose_agent, agent_finishes, server_goes, crash, violate]


@pytest.mark.parametrize("lane", ["0", "1", "0, TLS", "1, TLS"])
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_a_served_call_leaves_no_garbage(tmp_path: Path, end: Any, lane: str) -> None:
    fast_lane, _, tls = lane.partition(", ")
    certificate, trust = certified(tmp_path) if tls else (None, None)
    async with world(tmp_path, certificate=certificate, STS_FAST_LANE=fast_lane) as here:
        with leaving_no_garbage():
            async with here.phone(tls=trust) as phone:
                await talk(here, phone)
                await end(here, phone)
            del phone
            await here.agent.over.wait()
            await until_idle()


@pytest.mark.parametrize("lane", ["0", "1"])
async def test_a_call_whose_agent_was_dialled_ahead_leaves_no_garbage(
    tmp_path: Path, lane: str
) -> None:
    async with world(tmp_path, STS_FAST_LANE=lane) as here:
        with leaving_no_garbage():
            answer = await announce(here)
            await here.agent.ready.wait()
            async with here.phone(path=answer.path) as phone:
                await phone.tell(twilio.Connected(), start(answer.parameters), media())
                await here.agent.say(deepgram.Audio(b"\x11" * 1600))
                await phone.play_until(lambda audio: audio == b"\x11" * 1600)
                assert here.app.server.agent_connections.state.handed_over == 1
                await hang_up(here, phone)
            del phone, answer
            await here.agent.over.wait()
            await until_idle()


async def until_idle() -> None:
    """Until no connection is served, by the app or by the agent."""
    # Real sockets: there is no event to wait for.
    while "trio._highlevel_serve_listeners._run_handler" in inventory().tasks:  # noqa: ASYNC110
        await trio.sleep(0.002)


HEAD = b"Host: 127.0.0.1\r\nConnection: close\r\n"
REQUESTS = {
    "webhook": b"GET /twiml?CallSid=CA1 HTTP/1.1\r\n" + HEAD + b"\r\n",
    "unknown path": b"GET /nowhere HTTP/1.1\r\n" + HEAD + b"\r\n",
    "wrong method": b"DELETE /healthz HTTP/1.1\r\n" + HEAD + b"\r\n",
    "refused": b"GET /twiml HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n",
    "body too big": b"POST /twiml HTTP/1.1\r\n" + HEAD + b"Content-Length: 99999\r\n\r\n",
    "dial refused": b"POST /calls HTTP/1.1\r\n" + HEAD + b"Content-Length: 2\r\n\r\n{}",
    "websocket refused": (
        b"GET /twilio HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ),
    "frame before the accept": (
        b"GET /twilio HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        b"\x81\x80\x00\x00\x00\x00"
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_leaves_no_garbage(tmp_path: Path, name: str) -> None:
    async with world(tmp_path, STS_DIAL_AHEAD="0") as here:
        await ask(here, REQUESTS["webhook"])  # Quart makes some things with its first request
        await until_idle()
        with leaving_no_garbage():
            await ask(here, REQUESTS[name])
            await until_idle()
            here.logs.clear()  # an exception in it has frames


async def ask(here: World, request: bytes) -> None:
    async with await trio.open_tcp_stream(*here.address) as stream:
        await stream.send_all(request)
        with contextlib.suppress(trio.BrokenResourceError):
            async for _ in stream:
                pass


# --- that a cycle is found ------------------------------------------------------------------------


async def test_a_new_cycle_fails_a_story_and_is_told_by_its_way_round(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Clock
) -> None:
    ran = Bridge.run

    async def run(call: Bridge) -> Ending:
        call._pending.call = call  # type: ignore[attr-defined]
        return await ran(call)

    monkeypatch.setattr(Bridge, "run", run)
    with (
        pytest.raises(AssertionError, match=r"Bridge\._pending -> Pending\.call ->"),
        leaving_no_garbage(),
    ):
        await call_ends_by_itself(FakeTwilio(), FakeAgent(refuse=401))


class Link:
    """Something that can have another."""

    next: Any


def ring(length: int) -> Link:
    links = [Link() for _ in range(length)]
    for link, following in zip(links, links[1:] + links[:1], strict=True):
        link.next = following
    return links[0]


def test_cycles_are_told_by_their_shortest_way_with_all_that_hangs_on_them() -> None:
    with cycles.uncollected() as garbage:
        first = ring(3)
        first.other = ring(2)  # type: ignore[attr-defined]
        first.other.deep = [[]]  # type: ignore[attr-defined]
        del first
    found = cycles.find(garbage)
    assert [each.path for each in found] == [
        "Link.next -> Link.next -> Link.next ->",
        "Link.next -> Link.next ->",
    ]
    assert {home for each in found for home in each.homes} == {__name__}
    # The first has the other, which has the lists, and each its dictionary.
    assert [each.objects for each in found] == [len(garbage), 0]


def test_an_exception_that_is_kept_by_its_own_frame_is_found() -> None:
    def fail() -> None:
        try:
            raise ValueError("kept")
        except ValueError as exc:
            kept = exc
            assert kept

    with cycles.uncollected() as garbage:
        fail()
    [found] = cycles.find(garbage)
    assert "ValueError -> traceback of" in found.path
    assert "fail.kept ->" in found.path


def test_what_reference_counting_frees_is_no_garbage_and_what_is_held_is_none() -> None:
    with cycles.uncollected() as garbage:
        kept = ring(2)
        links = [Link()]
        del links
    assert cycles.find(garbage) == []
    assert kept.next.next is kept


def test_the_collector_is_as_it_was_afterwards() -> None:
    assert gc.isenabled()
    debug, was_frozen = gc.get_debug(), gc.get_freeze_count() > 0
    with contextlib.suppress(ZeroDivisionError), cycles.uncollected():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()
    assert gc.get_debug() == debug
    assert (gc.get_freeze_count() > 0) == was_frozen
    assert gc.garbage == []

"""The demonstration on the virtual clock: simulated caller, small bridge, offline agent."""

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
import trio_websocket

from sts_trio.offline import server as offline
from sts_trio.simulate import demo
from sts_trio.simulate.caller import NotConnected, call_over
from sts_trio.simulate.demo import Scenario
from sts_trio.simulate.phone import Moment
from sts_trio.simulate.report import Report, Turn, fault
from sts_trio.wire import deepgram, twilio

SETTINGS = deepgram.phone_settings({"greeting": "Hello! How can I help you today?"})
SCENARIOS = {scenario.name: scenario for scenario in demo.scenarios()}


class Relay:
    """The smallest bridge there is. `clears` can be turned off, to be a bad one."""

    def __init__(self, *, clears: bool = True, delay: float = 0.0) -> None:
        self.clears = clears
        self.delay = delay

    async def serve(self, caller_stream: trio.abc.Stream) -> None:
        near, far = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(offline.serve_stream, far)
            request = await trio_websocket.wrap_server_stream(nursery, caller_stream)
            caller = await request.accept()
            agent = await trio_websocket.wrap_client_stream(
                nursery,
                near,  # type: ignore[arg-type]
                "agent.test",
                "/v1/agent/converse",
            )
            with contextlib.suppress(trio_websocket.ConnectionClosed):
                await self._relay(caller, agent)
            nursery.cancel_scope.cancel()

    async def _relay(
        self,
        caller: trio_websocket.WebSocketConnection,
        agent: trio_websocket.WebSocketConnection,
    ) -> None:
        async with trio.open_nursery() as nursery:
            sid = ""
            await agent.send_message(deepgram.encode(SETTINGS))

            async def from_agent() -> None:
                while True:
                    message = deepgram.decode(await agent.get_message())
                    if isinstance(message, deepgram.Audio):
                        await trio.sleep(self.delay)
                        await say(twilio.PlayMedia(sid, twilio.Outbound(message.data)))
                    elif isinstance(message, deepgram.UserStartedSpeaking) and self.clears:
                        await say(twilio.Clear(sid))

            async def say(message: twilio.ToCaller) -> None:
                await caller.send_message(twilio.encode(message).decode())

            while True:
                heard = twilio.decode(await caller.get_message())
                if isinstance(heard, twilio.Start):
                    sid = heard.start.stream_sid
                    nursery.start_soon(from_agent)
                elif isinstance(heard, twilio.Media):
                    await agent.send_message(heard.media.payload)
                elif isinstance(heard, twilio.Stop):
                    with contextlib.suppress(trio_websocket.ConnectionClosed):
                        await caller.get_message()
                    nursery.cancel_scope.cancel()


async def play(scenario: Scenario, relay: Relay) -> Report:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay.serve, theirs)
        return await call_over(ours, scenario.steps, limit=demo.LIMIT)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_every_call_goes_as_it_should_through_a_good_bridge(
    name: str, autojump_clock: Any
) -> None:
    scenario = SCENARIOS[name]
    report = await play(scenario, Relay())
    assert scenario.judge(report) is None


async def test_the_figures_of_a_conversation_are_those_of_the_offline_agent(
    autojump_clock: Any,
) -> None:
    report = await play(SCENARIOS["two turns"], Relay())
    assert report.waits == [pytest.approx(0.5, abs=0.1)] * 2
    assert report.first_agent_audio == pytest.approx(0.0, abs=0.05)
    assert len(report.agent_spans) == 3


async def test_a_bridge_that_forgets_to_clear_is_found_out(autojump_clock: Any) -> None:
    scenario = SCENARIOS["barge-in"]
    report = await play(scenario, Relay(clears=False))
    assert "went on speaking" in str(scenario.judge(report))


async def test_a_slow_bridge_is_found_out(autojump_clock: Any) -> None:
    scenario = SCENARIOS["two turns"]
    report = await play(scenario, Relay(delay=2.5))
    assert "the greeting came after" in str(scenario.judge(report))


# --- verdicts -------------------------------------------------------------------------------------

GOOD = Report(
    seconds=20.0,
    frames_sent=1000,
    agent_received=8.0,
    agent_heard=8.0,
    first_agent_audio=0.1,
    agent_spans=((0.1, 2.0), (5.5, 8.0)),
    turns=(Turn(3.0, 5.0, wait=0.5, talked_over=None), Turn(9.0, 10.0, wait=0.6, talked_over=0.1)),
    clears=1,
    marks=3,
    refused={},
    first_refusal="",
    out_of_time=False,
    closed_by="caller",
    close_code=1000,
    said=b"",
    heard=b"",
)


def but(**changes: Any) -> Report:
    return msgspec.structs.replace(GOOD, **changes)


ONE_TURN = GOOD.turns[:1]
SLOW = (ONE_TURN[0], Turn(9.0, 10.0, wait=4.0, talked_over=0.1))
UNANSWERED = (ONE_TURN[0], Turn(9.0, 10.0, wait=None, talked_over=None))
STUBBORN = (ONE_TURN[0], Turn(9.0, 10.0, wait=0.5, talked_over=0.9))


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (GOOD, None),
        (but(closed_by="bridge"), None),
        (but(closed_by="bridge", close_code=1011), "the bridge closed with code 1011 after 20.0 s"),
        (but(closed_by="bridge", close_code=1006), "the connection was lost after 20.0 s"),
        (but(out_of_time=True), None),
        (but(out_of_time=True, close_code=1006), "the bridge stopped reading"),
        (but(close_code=None), "the bridge did not answer our goodbye"),
        (but(agent_spans=(), agent_received=0.0), "nothing was heard: no audio came in 20.0 s"),
        (but(agent_spans=()), "nothing was heard: 8.0 s of audio came, all silent"),
        (
            but(agent_spans=(), refused={31951: 4}, first_refusal="no streamSid"),
            "nothing was heard: Twilio would refuse (31951): no streamSid",
        ),
    ],
)
def test_a_call_is_proper_or_the_reason_is_told(report: Report, reason: str | None) -> None:
    assert fault(report) == reason


@pytest.mark.parametrize(
    ("judge", "report", "reason"),
    [
        (demo.two_turns, GOOD, None),
        (demo.barge_in, GOOD, None),
        (demo.hang_up, but(turns=ONE_TURN), None),
        (demo.two_turns, but(close_code=None), "goodbye"),
        (demo.two_turns, but(refused={31951: 1}, first_refusal="no streamSid"), "no streamSid"),
        (demo.two_turns, but(turns=ONE_TURN), "1 times and not 2"),
        (demo.two_turns, but(first_agent_audio=2.5), "greeting came after 2.5 s"),
        (demo.two_turns, but(turns=UNANSWERED), "answered 1 times and not 2"),
        (demo.two_turns, but(turns=SLOW), "4.0 s after"),
        (demo.barge_in, but(turns=UNANSWERED), "was not speaking"),
        (demo.barge_in, but(turns=STUBBORN), "0.90 s after the barge-in"),
        (demo.barge_in, but(clears=0), "no clear"),
        (demo.barge_in, but(turns=ONE_TURN), "1 times and not 2"),
        (demo.hang_up, but(turns=ONE_TURN, closed_by="bridge"), "hung up before the caller"),
    ],
)
def test_what_is_not_as_it_should_be_is_named(
    judge: Callable[[Report], str | None], report: Report, reason: str | None
) -> None:
    told = judge(report)
    assert told is None if reason is None else reason in str(told)


# --- against a server -----------------------------------------------------------------------------


async def nobodys_port() -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listener.socket.getsockname()[1]
    await listener.aclose()
    return port


async def test_calls_that_cannot_be_placed_are_outcomes_too() -> None:
    moments: list[tuple[str, Moment]] = []
    outcomes = await demo.run(
        f"http://127.0.0.1:{await nobodys_port()}", lambda *told: moments.append(told)
    )
    assert [outcome.name for outcome in outcomes] == list(SCENARIOS)
    assert all(outcome.report is None and "refused" in str(outcome.fault) for outcome in outcomes)
    assert moments == []


async def test_a_server_that_does_not_tell_its_health_is_an_error() -> None:
    with pytest.raises(NotConnected, match="healthz does not answer"):
        await demo.calls_left(f"http://127.0.0.1:{await nobodys_port()}")


async def serve_health(
    answers: list[int], *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        body = b'{"status":"ok","live":%d}' % answers.pop(0)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await stream.aclose()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
    await trio.serve_listeners(handle, listeners)


async def test_calls_that_are_about_to_end_are_waited_for() -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            base = await nursery.start(serve_health, [2, 1, 0, 7])
            assert await demo.calls_left(base) == 0
            nursery.cancel_scope.cancel()


async def test_calls_that_stay_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "GONE_WITHIN", 0.2)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            base = await nursery.start(serve_health, [3, 3, 3, 0])
            assert await demo.calls_left(base) == 3
            nursery.cancel_scope.cancel()

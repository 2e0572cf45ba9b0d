"""The demonstration: on the virtual clock through a small bridge, and through the real server."""

import contextlib
import socket
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
import trio_websocket
from limits import HANG
from rig_demo import GOOD

from sts_trio.demo import clips, scenarios
from sts_trio.demo import run as demo
from sts_trio.demo.scenarios import Evidence, Judge, Scenario
from sts_trio.errors import Cause, Ending
from sts_trio.offline.protocol import server as offline
from sts_trio.simulate.caller import call_over
from sts_trio.simulate.phone import Moment
from sts_trio.simulate.report import Report, Result, Turn
from sts_trio.simulate.script import GREETING_PATIENCE, HangUp, WaitForQuiet, WaitForSpeech
from sts_trio.simulate.transcript import AGENT, CALLER, Line, Sentence
from sts_trio.testing import Agent, Server, running, scripted_agent
from sts_trio.wire import deepgram, deepgram_settings, twilio

SETTINGS = deepgram_settings.phone_settings({"greeting": "Hello! How can I help you today?"})
STOPPED = Ending(Cause.STOP)
LOST = Ending(Cause.AGENT_LOST, apologised=True)
SCENARIOS = {each.name: each for each in [*scenarios.scenarios(), scenarios.moved()]}


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


def judge(name: str, report: Report, ending: Ending | None = STOPPED, **changes: Any) -> str | None:
    evidence = Evidence(report, ending, (), has_ears=False)
    return SCENARIOS[name].judge(msgspec.structs.replace(evidence, **changes))


def slow(report: Report, closed_after: float | None = 0.01, **changes: Any) -> list[str]:
    evidence = Evidence(report, STOPPED, (), has_ears=False)
    return scenarios.slowness(msgspec.structs.replace(evidence, **changes), closed_after)


ASKED = Scenario(
    "asked",
    "A question is answered.",
    (WaitForQuiet(GREETING_PATIENCE), clips.speak("mary-cars"), WaitForQuiet(), HangUp()),
    lambda evidence: None,
)


@pytest.mark.parametrize("name", ["booking", "hang-up"])
async def test_a_call_goes_as_it_should_through_a_good_bridge(
    name: str, autojump_clock: Any
) -> None:
    report = await play(SCENARIOS[name], Relay())
    assert judge(name, report) is None
    assert slow(report) == []


async def test_the_figures_of_a_conversation_are_those_of_the_offline_agent(
    autojump_clock: Any,
) -> None:
    report = await play(ASKED, Relay())
    assert report.waits == [pytest.approx(0.5, abs=0.1)]
    assert report.first_agent_audio == pytest.approx(0.1, abs=0.1)
    assert len(report.agent_spans) == 2


async def test_a_caller_who_breaks_off_hangs_up_in_the_middle_of_a_word(
    autojump_clock: Any,
) -> None:
    report = await play(SCENARIOS["hang-up"], Relay())
    assert report.hung_up_at is not None
    assert report.hung_up_at == pytest.approx(report.turns[-1].ended, abs=0.05)
    assert report.turns[-1].text.endswith("\N{EM DASH}")


async def test_a_bridge_that_forgets_to_clear_is_found_out(autojump_clock: Any) -> None:
    report = await play(SCENARIOS["booking"], Relay(clears=False))
    assert "no clear" in str(judge("booking", report))
    assert "went on speaking" in slow(report)[0]


async def test_a_slow_bridge_is_found_out(autojump_clock: Any) -> None:
    report = await play(SCENARIOS["booking"], Relay(delay=2.5))
    assert "the greeting came after" in slow(report)[0]


async def test_a_bridge_that_leaves_a_caller_in_silence_is_found_out(autojump_clock: Any) -> None:
    report = await play(SCENARIOS["dead-agent"], Relay())
    assert "left in silence" in str(judge("dead-agent", report, LOST, died_at=0.6))


# --- verdicts -------------------------------------------------------------------------------------


def but(**changes: Any) -> Report:
    return msgspec.structs.replace(GOOD, **changes)


@pytest.mark.parametrize(
    ("report", "result", "reason"),
    [
        (GOOD, Result.PROPER, None),
        (but(closed_by="bridge"), Result.PROPER, None),
        (but(vanished=True, close_code=1006), Result.PROPER, None),
        (
            but(closed_by="bridge", close_code=1011),
            Result.BROKEN_OFF,
            "the bridge closed with code 1011 after 20.0 s",
        ),
        (
            but(closed_by="bridge", close_code=1006),
            Result.BROKEN_OFF,
            "the connection was lost after 20.0 s",
        ),
        (but(out_of_time=True), Result.PROPER, None),
        (but(out_of_time=True, close_code=1006), Result.BROKEN_OFF, "the bridge stopped reading"),
        (but(close_code=None), Result.BROKEN_OFF, "the bridge did not answer our goodbye"),
        (
            but(agent_spans=(), agent_received=0.0),
            Result.UNHEARD,
            "nothing was heard: no audio came in 20.0 s",
        ),
        (
            but(agent_spans=()),
            Result.UNHEARD,
            "nothing was heard: 8.0 s of audio came, all silent",
        ),
        (
            but(agent_spans=(), refused={31951: 4}, first_refusal="no streamSid"),
            Result.UNHEARD,
            "nothing was heard: Twilio would refuse (31951): no streamSid",
        ),
    ],
)
def test_a_call_is_proper_or_the_reason_is_told(
    report: Report, result: Result, reason: str | None
) -> None:
    assert (report.result, report.fault) == (result, reason)


PLAIN = Turn(3.0, 5.0, wait=0.5, talked_over=None)
BARGED = Turn(9.0, 10.0, wait=0.6, talked_over=0.1)
FIVE = (PLAIN, BARGED, PLAIN, PLAIN, PLAIN)


def booked(*turns: Turn) -> Report:
    return but(turns=turns or FIVE)


def answered(wait: float | None) -> Turn:
    return msgspec.structs.replace(PLAIN, wait=wait)


def barged(talked_over: float | None) -> Report:
    turn = msgspec.structs.replace(BARGED, talked_over=talked_over)
    return booked(PLAIN, turn, *FIVE[2:])


HUNG_UP = but(turns=(answered(None),))
RELEASED = but(turns=(), closed_by="bridge", close_code=1011)
RESUMED = but(agent_spans=((0.1, 2.0), (5.5, 7.0), (7.7, 12.0), (15.0, 17.0)), turns=(PLAIN, PLAIN))
GONE = {"died_at": 6.0}
BACK = {"died_at": 6.0, "back_at": 8.5}
PLACE = (
    Sentence(5.4, "assistant", "We are here."),
    Sentence(7.7, "assistant", "One moment, please."),
    Sentence(8.6, "assistant", "We are here."),
)
ASTRAY = (*PLACE[:2], Sentence(8.6, "assistant", "Hello! How can I help you?"))
SILENT = msgspec.structs.replace(RESUMED, agent_spans=((0.1, 2.0), (5.5, 7.0), (9.0, 12.0)))
CAR = (Sentence(9.0, "assistant", "It is booked: on Tuesday at ten. See you, Mary."),)


@pytest.mark.parametrize(
    ("name", "report", "changes", "reason"),
    [
        ("booking", booked(), {}, None),
        ("booking", booked(), {"has_ears": True, "sentences": CAR}, None),
        ("booking", booked(), {"has_ears": True}, "nothing was booked for Mary"),
        ("booking", but(turns=FIVE, close_code=None), {}, "goodbye"),
        ("booking", but(turns=FIVE, closed_by="bridge"), {}, "hung up before the caller"),
        ("booking", booked(), {"ending": None}, "does not think that it went well"),
        ("booking", booked(), {"ending": LOST}, "does not think that it went well: agent_lost"),
        (
            "booking",
            but(turns=FIVE, refused={31951: 1}, first_refusal="no streamSid"),
            {},
            "no streamSid",
        ),
        ("booking", booked(PLAIN), {}, "1 times and not 5"),
        ("booking", but(turns=FIVE, first_agent_audio=None), {}, "no greeting"),
        ("booking", booked(*FIVE[:4], answered(None)), {}, "answered 4 times and not 5"),
        ("booking", barged(None), {}, "was not speaking"),
        ("booking", but(turns=FIVE, clears=0), {}, "no clear"),
        ("hang-up", HUNG_UP, {}, None),
        ("hang-up", but(turns=HUNG_UP.turns, closed_by="bridge"), {}, "before the caller"),
        ("hang-up", but(turns=FIVE[:2]), {}, "2 times and not 1"),
        ("reconnect", RESUMED, BACK, None),
        ("reconnect", RESUMED, BACK | {"sentences": PLACE, "has_ears": True}, None),
        ("reconnect", RESUMED, BACK | {"sentences": ASTRAY, "has_ears": True}, "did not go on"),
        ("reconnect", RESUMED, BACK | {"ending": LOST}, "does not think that it went well"),
        ("reconnect", RESUMED, GONE, "no other agent came"),
        ("reconnect", RESUMED, {}, "said too little to die"),
        ("reconnect", SILENT, BACK, "heard nothing for 2.0 s"),
        ("reconnect", but(turns=FIVE), BACK, "5 times and not 2"),
        (
            "reconnect",
            msgspec.structs.replace(RESUMED, turns=(PLAIN, answered(None))),
            BACK,
            "answered 1 times and not 2",
        ),
        ("moved", RESUMED, BACK | {"sentences": PLACE, "has_ears": True}, None),
        ("moved", RESUMED, BACK | {"sentences": ASTRAY, "has_ears": True}, "did not go on"),
        ("moved", RESUMED, BACK | {"ending": LOST}, "does not think that it went well"),
        ("moved", RESUMED, GONE, "no other process went on"),
        ("moved", RESUMED, {}, "said too little to be killed"),
        ("moved", but(turns=FIVE), BACK, "5 times and not 2"),
        (
            "moved",
            msgspec.structs.replace(RESUMED, turns=(PLAIN, answered(None))),
            BACK,
            "answered 1 times and not 2",
        ),
        ("dead-agent", RELEASED, {"ending": LOST, "died_at": 6.0}, None),
        (
            "dead-agent",
            RELEASED,
            {"ending": Ending(Cause.AGENT_LOST), "died_at": 6.0},
            "released without a word",
        ),
        ("dead-agent", RELEASED, {"ending": LOST}, "said too little to die"),
        ("dead-agent", RELEASED, {"died_at": 6.0}, "put down to the agent: stop, success"),
        ("dead-agent", RELEASED, {"ending": None, "died_at": 6.0}, "to the agent: nothing"),
        ("dead-agent", but(turns=()), {"ending": LOST, "died_at": 6.0}, "left in silence"),
        ("dead-agent", GOOD, {"ending": LOST, "died_at": 6.0}, "2 times and not 0"),
    ],
)
def test_what_is_not_as_it_should_be_is_named(
    name: str, report: Report, changes: dict[str, Any], reason: str | None
) -> None:
    told = judge(name, report, **changes)
    assert told is None if reason is None else reason in str(told)


@pytest.mark.parametrize(
    ("report", "changes", "notes"),
    [
        (booked(), {}, []),
        (but(turns=(), first_agent_audio=None), {"closed_after": None}, []),
        (but(first_agent_audio=2.5), {}, ["the greeting came after 2.5 s"]),
        (
            booked(*FIVE[:4], answered(4.0)),
            {},
            ["an answer came 4.0 s after the caller had spoken"],
        ),
        (barged(0.9), {}, ["the agent went on speaking for 0.90 s after the barge-in"]),
        (
            msgspec.structs.replace(RELEASED, agent_spans=((0.1, 7.0), (9.0, 14.0))),
            {"died_at": 6.0},
            ["the caller heard nothing for 2.0 s when the agent had died"],
        ),
        (booked(), {"closed_after": 2.5}, ["its sockets were closed after 2.5 s only"]),
    ],
)
def test_what_took_too_long_is_named_and_no_fault(
    report: Report, changes: dict[str, Any], notes: list[str]
) -> None:
    assert slow(report, **changes) == notes


def test_answers_that_are_slow_on_the_whole_are_named() -> None:
    assert scenarios.slow_on_the_whole([]) is None
    assert scenarios.slow_on_the_whole([0.5, 0.6, 1.4]) is None
    assert scenarios.slow_on_the_whole([0.5, 0.95, 1.0]) == (
        "half of the answers took longer than 0.95 s"
    )


# --- through the server ---------------------------------------------------------------------------


class Audience:
    def __init__(self) -> None:
        self.moments: list[Moment] = []
        self.lines: list[Line] = []

    def watch(self, moment: Moment) -> None:
        self.moments.append(moment)

    def tell(self, line: Line) -> None:
        self.lines.append(line)


def short(judge: Judge = lambda evidence: None) -> Scenario:
    return Scenario("short", "A word is heard.", (WaitForSpeech(0.2), HangUp()), judge)


async def perform(scenario: Scenario, audience: Audience | None = None) -> demo.Outcome:
    audience = audience or Audience()
    with trio.fail_after(HANG):
        async with scripted_agent() as agent, running(demo.VARIABLES, agent=agent) as server:
            return await demo.play(scenario, server, agent, audience)


async def test_a_call_goes_on_after_its_agents_death(autojump_clock: Any) -> None:
    audience = Audience()
    outcome = await perform(SCENARIOS["reconnect"], audience)
    assert outcome.faults == ()
    assert outcome.left.is_empty
    assert outcome.silence is not None
    assert 0.5 < outcome.silence < scenarios.SILENCE_WITHIN
    assert outcome.absence is not None
    since, until = outcome.absence
    assert until - since == pytest.approx(scenarios.AWAY, abs=0.1)
    happened = [what for _, what in outcome.events]
    assert happened == ["the agent dies", "there is one again", "the caller hangs up"]
    whos = [line.who for line in audience.lines]
    assert whos == [AGENT, CALLER, AGENT, AGENT, "", CALLER, AGENT]
    words = [line.text for line in audience.lines]
    assert words[3] == "One moment, please."
    assert [line.waited is not None for line in audience.lines if line.who == AGENT] == [
        False,
        True,
        False,
        True,
    ]
    assert outcome.lines[3].text.startswith("One moment, please. ")


async def test_the_agents_death_releases_the_caller_and_leaves_nothing(autojump_clock: Any) -> None:
    audience = Audience()
    outcome = await perform(SCENARIOS["dead-agent"], audience)
    assert outcome.faults == ()
    assert outcome.left.is_empty
    assert outcome.closed_after is not None
    assert outcome.closed_after < scenarios.CLOSED_WITHIN
    assert outcome.report is not None
    assert (outcome.report.closed_by, outcome.report.close_code) == ("bridge", 1011)
    assert [what for _, what in outcome.events] == ["the agent dies", "the bridge hangs up (1011)"]
    assert outcome.silence == 0.0
    words = " ".join(line.text for line in audience.lines)
    assert words.startswith("Hello! How can I help you today? I am sorry, something went wrong")
    assert " ".join(line.text for line in outcome.lines) == words
    assert len(audience.moments) > 100


async def test_a_call_that_the_caller_ends_is_timed_from_there(autojump_clock: Any) -> None:
    outcome = await perform(short())
    assert outcome.faults == ()
    assert outcome.closed_after is not None
    assert 0 < outcome.closed_after < scenarios.CLOSED_WITHIN
    assert [what for _, what in outcome.events] == ["the caller hangs up"]


async def test_a_judges_reason_is_a_fault(autojump_clock: Any) -> None:
    outcome = await perform(short(lambda evidence: "not nice"))
    assert outcome.faults == ("not nice",)


async def test_a_socket_that_is_left_is_a_fault(autojump_clock: Any) -> None:
    with contextlib.ExitStack() as stack:

        class Leaky(Audience):
            def watch(self, moment: Moment) -> None:
                if not self.moments:
                    stack.enter_context(socket.socket())
                super().watch(moment)

        outcome = await perform(short(), Leaky())
    assert outcome.faults == ("something is left of it: no task; sockets: 1",)


async def test_a_crash_in_the_server_is_a_fault(
    autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*what: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sts_trio.server.open_agent", broken)
    outcome = await perform(short())
    assert outcome.faults == ("the server logged call.crashed: its log has the traceback",)
    assert [what for _, what in outcome.events] == ["the bridge hangs up (1011)"]


async def test_an_agent_that_keeps_its_socket_is_a_fault(autojump_clock: Any) -> None:
    class Clingy(Agent):
        """Says of itself that it has a session, after all of them are over."""

        @property
        def live(self) -> int:
            return 1

    async with scripted_agent() as agent, running(demo.VARIABLES, agent=agent) as server:
        agent.__class__ = Clingy
        with trio.fail_after(HANG):
            outcome = await demo.play(short(), server, agent, Audience())
    assert outcome.faults == ("the agent's socket was not closed",)
    assert outcome.closed_after is None


async def test_a_call_that_cannot_be_placed_is_an_outcome_too() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    async with scripted_agent() as agent, running(demo.VARIABLES, agent=agent) as server:
        nowhere = Server(server.base, f"ws://127.0.0.1:{port}/twilio", server.app)
        outcome = await demo.play(short(), nowhere, agent, Audience())
    assert outcome.report is None
    assert outcome.left.is_empty
    (fault,) = outcome.faults
    assert fault.startswith("no call: ")
    assert "refused" in fault

"""The way to the agent: endpoints in order, lines dialled ahead, and what is left of them.

Endpoints are memory streams with a `FakeAgent` at the other end, each behind a name.
"""

import contextlib
import contextvars
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from rig_cancel import CancelAtStep
from rig_peers import SETTINGS, FakeAgent, names

from sts_trio.agents import prewarm as prepared
from sts_trio.agents.allowance import BURST, MAX_SID
from sts_trio.agents.breaker import FAILURES, FIRST_REST, State
from sts_trio.agents.choice import AgentChoice
from sts_trio.agents.connections import AWAITED, AgentConnections
from sts_trio.agents.endpoints import PATIENCE, AgentLeg, Endpoint, Endpoints
from sts_trio.agents.prewarm import UNUSED
from sts_trio.agents.routing import Routing
from sts_trio.agents.sessions import AgentSessions
from sts_trio.audio.frames import SILENCE, length
from sts_trio.call.info import CallInfo
from sts_trio.errors import AgentRejected, AgentUnreachable, How, Leg, LegEnded
from sts_trio.legs.handshake import converse
from sts_trio.logic.states import AGENT_TIMEOUT
from sts_trio.observe import events
from sts_trio.wire import deepgram, deepgram_settings
from sts_trio.wire.deepgram import AgentError, Audio, ConversationText, SettingsApplied, Welcome

CALL = CallInfo(call_sid="CA1", to="+15005550006")
RESTED = "every agent endpoint is resting after failures: "


class Provider:
    """The agent at one endpoint; `agents` serve one dial each, the last of them all further ones.

    `None` is nobody there: the connection is refused. `dials` has the time of each.
    """

    def __init__(self, *agents: FakeAgent | None) -> None:
        self.agents = list(agents)
        self.dials: list[float] = []

    @contextlib.asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncIterator[AgentLeg]:
        self.dials.append(trio.current_time())
        agent = self.agents.pop(0) if len(self.agents) > 1 else self.agents[0]
        if agent is None:
            await trio.lowlevel.checkpoint()
            raise AgentUnreachable("refused")
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(agent.serve, theirs)
        async with converse(ours, "agent.test", "/", [], agent.language) as leg:
            yield leg


class World:
    """Lines to these providers, each at the endpoint of its name."""

    def __init__(self, nursery: trio.Nursery, providers: dict[str, Provider]) -> None:
        self.nursery = nursery
        self.providers = providers
        self.logs: list[Any] = []
        self.live = 0
        self.settings = deepgram_settings.phone_settings({"greeting": "Hello, early."})
        self.lines = AgentConnections(
            [Endpoint(f"wss://{name}/agent?key=secret") for name in providers],
            self.dial,
            Routing({"default": {}, "sales": {}}, {}),
            lambda agent, info: self.settings,
            max_calls=10,
            live=lambda: self.live,
        )

    def dial(self, endpoint: Endpoint) -> AbstractAsyncContextManager[AgentLeg]:
        name = endpoint.address.removesuffix("/agent")
        return self.providers[name].open(self.nursery)

    @property
    def states(self) -> dict[str, State]:
        return {each.address: each.state for each in self.lines.state.endpoints}

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.logs]

    async def open(self, info: CallInfo = CALL, limit: float = AGENT_TIMEOUT) -> str:
        """Dials as a call does; returns what came of it."""
        try:
            with trio.move_on_after(limit):
                async with self.lines.open("default", info):
                    return "open"
        except AgentUnreachable as exc:
            return str(exc)
        return "given up"

    def ahead(self, info: CallInfo = CALL) -> CallInfo:
        token = self.lines.dial_ahead("default", info)
        return CallInfo(call_sid=info.call_sid, line=token)


@contextlib.asynccontextmanager
async def world(**providers: Provider) -> AsyncIterator[World]:
    """The lines' own tasks run, and are seen to be gone at the end."""
    before = trio.lowlevel.current_statistics().tasks_living
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            here = World(nursery, providers)
            here.logs = logs
            await nursery.start(here.lines.run)
            yield here
            nursery.cancel_scope.cancel()
    assert trio.lowlevel.current_statistics().tasks_living == before


def silent() -> FakeAgent:
    """Takes the connection, and answers no handshake."""
    return FakeAgent("handshake")


# --- endpoints ----------------------------------------------------------------------------------


async def test_the_first_endpoint_that_answers_is_had() -> None:
    async with world(a=Provider(FakeAgent()), b=Provider(FakeAgent())) as here:
        assert await here.open() == "open"
        assert len(here.providers["a"].dials) == 1
        assert here.providers["b"].dials == []
        assert here.logs == []


@pytest.mark.parametrize("agent", [None, FakeAgent(refuse=503), FakeAgent(refuse=401)])
async def test_within_one_dial_the_next_is_tried_when_one_fails(agent: FakeAgent | None) -> None:
    async with world(a=Provider(agent), b=Provider(FakeAgent())) as here:
        assert await here.open() == "open"
        assert here.events == [events.AgentEndpointFailed.NAME]
        assert "secret" not in str(here.logs)


async def test_when_all_fail_the_last_one_says_why() -> None:
    async with world(a=Provider(None), b=Provider(FakeAgent(refuse=402))) as here:
        with pytest.raises(AgentRejected) as caught:
            async with here.lines.open("default", CALL):
                pytest.fail("there is a leg")
        assert caught.value.status == 402


@pytest.mark.parametrize(
    ("count", "dials"),
    [(2, [0, PATIENCE]), (3, [0, AGENT_TIMEOUT / 3, 2 * AGENT_TIMEOUT / 3])],
)
async def test_the_time_of_a_dial_is_shared_so_that_the_last_still_has_a_chance(
    count: int, dials: list[float], autojump_clock: trio.testing.MockClock
) -> None:
    providers = {f"p{number}": Provider(silent()) for number in range(count)}
    providers[f"p{count - 1}"] = Provider(FakeAgent())
    async with world(**providers) as here:
        assert await here.open() == "open"
        assert [provider.dials for provider in providers.values()] == [
            [pytest.approx(time)] for time in dials
        ]


async def test_one_that_rests_takes_no_share_of_the_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with world(a=Provider(None), b=Provider(silent())) as here:
        for _ in range(FAILURES):
            await here.open(limit=0.1)
        began = trio.current_time()
        assert await here.open() == "given up"
        assert trio.current_time() == began + AGENT_TIMEOUT


async def test_the_last_one_is_waited_for_as_long_as_the_call_waits(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It is the call's own deadline that ends it, which has a cause of its own for that."""
    async with world(a=Provider(silent())) as here:
        assert await here.open() == "given up"
        assert trio.current_time() == AGENT_TIMEOUT


async def test_an_endpoint_that_fails_in_a_row_rests_and_is_not_dialled_by_every_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    dead = Provider(None)
    async with world(a=dead, b=Provider(FakeAgent())) as here:
        for _ in range(FAILURES + 5):
            assert await here.open() == "open"
        assert len(dead.dials) == FAILURES
        assert here.states == {"a/agent": State.OPEN, "b/agent": State.CLOSED}
        assert here.events.count(events.AgentEndpointSuspended.NAME) == 1
        a, b = here.lines.state.endpoints
        assert (a.failures, a.failed, a.reached, a.rest) == (FAILURES, FAILURES, 0, FIRST_REST)
        assert (b.failures, b.failed, b.reached, b.rest) == (0, 0, FAILURES + 5, 0)


async def test_when_all_rest_a_call_is_told_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with world(a=Provider(None), b=Provider(FakeAgent(refuse=503))) as here:
        for _ in range(FAILURES):
            await here.open()
        assert await here.open() == f"{RESTED}a/agent, b/agent"
        assert trio.current_time() == 0
        assert here.ahead().line == ""


async def test_after_its_rest_one_call_tries_it_and_the_log_says_that_it_is_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    held = FakeAgent("handshake")
    async with world(a=Provider(*[None] * FAILURES, held, FakeAgent())) as here:
        for _ in range(FAILURES):
            await here.open()
        await trio.sleep(FIRST_REST)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.open)
            await held.dialled.wait()
            assert await here.open() == f"{RESTED}a/agent"
            held.doors["handshake"].set()
        assert here.states == {"a/agent": State.CLOSED}
        assert here.events.count(events.AgentEndpointRecovered.NAME) == 1
        assert await here.open() == "open"


@pytest.mark.parametrize(
    ("agent", "state"),
    [
        (FakeAgent(refuse=401), State.CLOSED),
        (FakeAgent(refuse=404), State.CLOSED),
        (FakeAgent(refuse=429), State.CLOSED),
        (FakeAgent(refuse=500), State.OPEN),
        (None, State.OPEN),
    ],
)
async def test_what_is_the_operators_to_mend_makes_no_endpoint_rest(
    agent: FakeAgent | None, state: State, autojump_clock: trio.testing.MockClock
) -> None:
    """Nor does an account that has no session left, unless there is another one."""
    async with world(a=Provider(agent)) as here:
        for _ in range(FAILURES):
            assert await here.open() != "open"
        assert here.states == {"a/agent": state}


async def test_an_account_without_a_session_left_is_passed_over_for_another(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with world(a=Provider(FakeAgent(refuse=429)), b=Provider(FakeAgent())) as here:
        for _ in range(FAILURES):
            assert await here.open() == "open"
        assert here.states == {"a/agent": State.OPEN, "b/agent": State.CLOSED}


@pytest.mark.parametrize(("limit", "state"), [(PATIENCE, State.OPEN), (1.9, State.CLOSED)])
async def test_a_handshake_that_a_call_gave_up_on_counts_if_it_had_its_time(
    limit: float, state: State, autojump_clock: trio.testing.MockClock
) -> None:
    """A caller who hangs up after half a second says nothing about the agent."""
    async with world(a=Provider(silent())) as here:
        for _ in range(FAILURES):
            assert await here.open(limit=limit) == "given up"
        assert here.states == {"a/agent": state}


async def test_a_leg_that_opens_as_its_time_is_up_is_closed_and_the_next_one_had(
    autojump_clock: trio.testing.MockClock,
) -> None:
    closed = []

    @contextlib.asynccontextmanager
    async def dial(endpoint: Endpoint) -> AsyncIterator[Any]:
        if endpoint.url == "wss://late":
            with trio.CancelScope(shield=True):
                await trio.sleep(PATIENCE)
        try:
            yield endpoint.url
        finally:
            closed.append(endpoint.url)

    endpoints = Endpoints([Endpoint("wss://late"), Endpoint("wss://next")], dial)
    async with endpoints.open() as leg:
        assert leg == "wss://next"  # type: ignore[comparison-overlap]
        assert closed == ["wss://late"]
        await trio.sleep(60)
    assert [state.failed for state in endpoints.states()] == [1, 0]


def test_an_endpoint_does_not_show_its_key() -> None:
    assert "s3cret" not in repr(Endpoint("wss://a.example/v1?token=s3cret", "s3cret"))


# --- a line dialled ahead -----------------------------------------------------------------------


def said(agent: FakeAgent) -> list[str]:
    """What the agent was told, with what repeats told once."""
    told = names(agent.got)
    return [name for name, before in zip(told, [None, *told], strict=False) if name != before]


class Heard:
    """Takes the leg and listens, as a call does, until told to leave."""

    def __init__(self, here: World, info: CallInfo) -> None:
        self.here = here
        self.info = info
        self.batches: list[Sequence[Any]] = []
        self.leg: Any = None
        self.opened = trio.Event()
        self.listened = trio.Event()
        self.leaving = trio.Event()
        self.scope = trio.CancelScope()

    async def run(self) -> None:
        with self.scope:
            async with self.here.lines.open("default", self.info) as self.leg:
                self.opened.set()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen)
                    await self.leaving.wait()
                    nursery.cancel_scope.cancel()

    async def _listen(self) -> None:
        await self.leg.listen(self.batches.append, lambda now: None)
        self.listened.set()

    @property
    def messages(self) -> list[Any]:
        return [message for batch in self.batches for message in batch]


@contextlib.asynccontextmanager
async def taking(here: World, info: CallInfo) -> AsyncIterator[Heard]:
    call = Heard(here, info)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run)
        await call.opened.wait()
        yield call
        call.leaving.set()


async def greet(agent: FakeAgent) -> None:
    await agent.ready.wait()
    await agent.say(ConversationText("assistant", "Hello."), Audio(b"\x11" * 960))


GREETED = [
    Welcome("request"),
    SettingsApplied(),
    ConversationText("assistant", "Hello."),
    Audio(b"\x11" * 960),
]


async def test_the_agent_has_greeted_before_the_call_comes_and_the_call_hears_all_of_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent = FakeAgent()
    async with world(a=Provider(agent)) as here:
        info = here.ahead()
        await greet(agent)
        await trio.sleep(3)
        async with taking(here, info) as call:
            assert call.leg.is_prepared
            await trio.testing.wait_all_tasks_blocked()
            assert call.messages == GREETED
            await agent.say(Audio(b"2"))
            await trio.testing.wait_all_tasks_blocked()
            assert call.messages == [*GREETED, Audio(b"2")]
        assert len(here.providers["a"].dials) == 1
        assert here.lines.state.waiting == 0
        assert (here.lines.state.dialled_ahead, here.lines.state.handed_over) == (1, 1)


async def test_much_that_was_said_before_is_heard_a_part_at_a_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """And others have their turn in between, be it a second call that is waiting."""
    agent = FakeAgent()
    said = [Audio(bytes([number % 250])) for number in range(5 * prepared.AT_ONCE)]
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with world(a=Provider(agent)) as here:
        info = here.ahead()
        await agent.ready.wait()
        await agent.say(*said)
        await trio.sleep(3)
        here.nursery.start_soon(take_turns)
        heard: list[tuple[int, Any]] = []  # after how many turns of the other's
        async with here.lines.open("default", info) as leg:
            with trio.CancelScope() as scope:

                def hear(batch: Sequence[Any]) -> None:
                    assert len(batch) <= prepared.AT_ONCE
                    heard.extend((turns, message) for message in batch)
                    if len(heard) == len(said) + 2:
                        scope.cancel()

                await leg.listen(hear, lambda now: None)
        assert [message for _, message in heard] == [Welcome("request"), SettingsApplied(), *said]
        # Six parts; Trio may begin one turn with the call, and the next with the other.
        assert len({turn for turn, _ in heard}) >= 3


who_hears: contextvars.ContextVar[str] = contextvars.ContextVar("who_hears", default="nobody")


async def test_what_hears_has_the_context_of_the_call_and_not_of_who_dialled_ahead(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent, names = FakeAgent(), []
    who_hears.set("the app")
    async with world(a=Provider(agent)) as here:
        who_hears.set("a webhook")
        info = here.ahead()
        await greet(agent)
        who_hears.set("a call")
        async with here.lines.open("default", info) as leg, trio.open_nursery() as nursery:
            assert leg.is_prepared
            nursery.start_soon(
                leg.listen, lambda batch: names.append(who_hears.get()), lambda now: None
            )
            await trio.testing.wait_all_tasks_blocked()
            await agent.say(Audio(b"1"))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert names == ["a call", "a call"]


async def test_nothing_is_said_to_the_agent_before_its_turn_and_silence_until_the_call_comes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent = FakeAgent("welcome", "applied")
    async with world(a=Provider(agent)) as here:
        info = here.ahead()
        await trio.sleep(1)
        assert agent.got == []
        agent.doors["welcome"].set()
        await trio.sleep(1)
        assert agent.got == [here.settings]
        agent.doors["applied"].set()
        await trio.sleep(2.1)
        silence = agent.audio
        assert silence == SILENCE * length(2.5)
        assert said(agent) == ["Settings", "Audio"]
        async with taking(here, info) as call:
            await trio.sleep(3)
            assert agent.audio == silence
            await call.leg.send(Audio(b"caller"))
            await trio.testing.wait_all_tasks_blocked()
            assert agent.audio == silence + b"caller"


async def test_settings_are_not_sent_twice_whoever_wants_to(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent = FakeAgent()
    async with world(a=Provider(agent)) as here:
        async with taking(here, here.ahead()) as call:
            await call.leg.send(SETTINGS)
            await call.leg.send(deepgram.KeepAlive())
            await trio.testing.wait_all_tasks_blocked()
        assert said(agent) == ["Settings", "KeepAlive"]


async def test_a_call_that_comes_while_the_line_is_being_dialled_gets_that_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent = FakeAgent("handshake")
    async with world(a=Provider(agent)) as here:
        info = here.ahead()
        async with trio.open_nursery() as nursery:
            call = Heard(here, info)
            nursery.start_soon(call.run)
            await trio.sleep(1)
            assert not call.opened.is_set()
            agent.doors["handshake"].set()
            await call.opened.wait()
            assert call.leg.is_prepared
            call.leaving.set()
        assert here.providers["a"].dials == [0]


@pytest.mark.parametrize("door", ["handshake", "welcome", "applied"])
async def test_a_line_that_gets_stuck_is_waited_for_no_longer_than_an_endpoint(
    door: str, autojump_clock: trio.testing.MockClock
) -> None:
    stuck = FakeAgent(door)
    async with world(a=Provider(stuck, FakeAgent())) as here:
        info = here.ahead()
        await trio.sleep(1)
        async with taking(here, info) as call:
            assert trio.current_time() == 1 + PATIENCE
            assert not call.leg.is_prepared
            await trio.sleep(prepared.GOODBYE + 0.1)
            assert stuck.gone_at is not None


@pytest.mark.parametrize("door", ["handshake", "welcome", "applied"])
async def test_a_line_that_gets_stuck_is_given_up(
    door: str, autojump_clock: trio.testing.MockClock
) -> None:
    agent = FakeAgent(door)
    async with world(a=Provider(agent)) as here:
        here.ahead()
        await trio.sleep(AGENT_TIMEOUT + prepared.GOODBYE)
        assert here.lines.state.waiting == 0
        assert agent.gone_at is not None
        assert here.events.count(events.AgentPrewarmDiscarded.NAME) == 1


async def test_a_line_that_nobody_takes_is_closed_with_1000_after_twenty_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent = FakeAgent()
    before = trio.lowlevel.current_statistics().tasks_living
    async with world(a=Provider(agent, FakeAgent())) as here:
        info = here.ahead()
        await trio.sleep(UNUSED + 1)
        assert agent.closed == (UNUSED, 1000)
        assert here.lines.state.waiting == 0
        assert here.logs[-1]["reason"] == "nobody wanted it for 20 s"
        assert len(agent.audio) == length(20)
        async with taking(here, info) as call:
            assert not call.leg.is_prepared
    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_a_line_that_is_taken_lives_as_long_as_the_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent = FakeAgent()
    async with world(a=Provider(agent)) as here, taking(here, here.ahead()) as call:
        await trio.sleep(3600)
        assert agent.closed is None
        assert names(call.messages) == ["Welcome", "SettingsApplied"]


async def _close(agent: FakeAgent) -> None:
    agent.close(1000)


async def _fail(agent: FakeAgent) -> None:
    await agent.say(AgentError("FAILED_TO_THINK", "no model"))


async def _orate(agent: FakeAgent) -> None:
    await agent.say(*[Audio(bytes(8000))] * 31)


async def _babble(agent: FakeAgent) -> None:
    await agent.say(*[Audio(b"x")] * (prepared.MAX_MESSAGES + 1))


async def _recite(agent: FakeAgent) -> None:
    for _ in range(3):
        await agent.say(ConversationText("assistant", "x" * (prepared.MAX_TEXT // 3)))


async def _drop(agent: FakeAgent) -> None:
    await agent.drop()


@pytest.mark.parametrize("spoil", [_close, _drop, _fail, _orate, _babble, _recite])
async def test_a_line_that_went_wrong_is_closed_and_the_call_dials_afresh(
    spoil: Callable[[FakeAgent], Any], autojump_clock: trio.testing.MockClock
) -> None:
    agent, second = FakeAgent(), FakeAgent()
    async with world(a=Provider(agent, second)) as here:
        info = here.ahead()
        await agent.ready.wait()
        await spoil(agent)
        await trio.sleep(1)
        assert agent.gone_at is not None
        assert here.lines.state.waiting == 0
        assert here.events == [events.AgentPrewarmDiscarded.NAME]
        async with taking(here, info) as call:
            assert not call.leg.is_prepared
            await trio.testing.wait_all_tasks_blocked()
            assert names(call.messages) == ["Welcome"]
            assert second.got == []


async def test_a_line_whose_dial_fails_says_so_and_the_call_dials_afresh() -> None:
    async with world(a=Provider(None, FakeAgent())) as here:
        info = here.ahead()
        await trio.testing.wait_all_tasks_blocked()
        assert here.logs[-1]["reason"] == "cannot be dialled: refused"
        async with taking(here, info) as call:
            assert not call.leg.is_prepared


async def test_a_bug_in_a_line_is_logged_and_harms_nobody_else(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent, other = FakeAgent(), FakeAgent()
    async with world(a=Provider(agent, other, FakeAgent())) as here:
        here.settings = object()  # type: ignore[assignment]
        info = here.ahead()
        here.settings = SETTINGS
        well = here.ahead(CallInfo(call_sid="CA2"))
        await trio.testing.wait_all_tasks_blocked()
        crashed = [line for line in here.logs if line["event"] == events.AgentPrewarmCrashed.NAME]
        assert [line["call_sid"] for line in crashed] == ["CA1"]
        for each, is_prepared in ((info, False), (well, True)):
            async with taking(here, each) as call:
                assert call.leg.is_prepared is is_prepared


async def test_a_bug_in_what_the_call_hears_with_comes_out_of_its_listening_and_a_goodbye_is_said(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent = FakeAgent()
    heard: list[Any] = []

    def hear(batch: Sequence[Any]) -> None:
        heard.extend(batch)
        if Audio(b"bug") in batch:
            raise ZeroDivisionError("a bug in the dialogue")

    async with world(a=Provider(agent)) as here:
        async with here.lines.open("default", here.ahead()) as leg:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_it_fails, leg, hear)
                await trio.testing.wait_all_tasks_blocked()
                await agent.say(Audio(b"bug"), Audio(b"more"))
            await leg.aclose(1011)
        assert heard[-1] == Audio(b"bug")
        assert agent.closed == (0, 1011)
        assert here.logs == []


async def _until_it_fails(leg: AgentLeg, hear: Callable[[Sequence[Any]], None]) -> None:
    with pytest.raises(ZeroDivisionError):
        await leg.listen(hear, lambda now: None)


async def test_a_leg_that_breaks_before_anybody_hears_it_is_a_bug_of_the_line() -> None:
    class Broken:
        async def listen(self, hear: Any, idle: Any) -> None:
            raise ZeroDivisionError("a bug in the leg")

    @contextlib.asynccontextmanager
    async def open_leg() -> AsyncIterator[Any]:
        yield Broken()

    line = prepared.PrewarmedSession("CA1", open_leg, SETTINGS)
    with structlog.testing.capture_logs() as logs:
        await line.run()
    assert [each["event"] for each in logs] == [
        events.AgentPrewarmCrashed.NAME,
        events.AgentPrewarmDiscarded.NAME,
    ]
    async with line.claimed() as leg:
        assert leg is None


# --- who may take it ----------------------------------------------------------------------------


async def test_a_token_is_good_once(autojump_clock: trio.testing.MockClock) -> None:
    async with world(a=Provider(FakeAgent(), FakeAgent(), FakeAgent())) as here:
        info = here.ahead()
        async with taking(here, info) as call, taking(here, info) as again:
            assert (call.leg.is_prepared, again.leg.is_prepared) == (True, False)
        async with taking(here, info) as later:
            assert not later.leg.is_prepared


@pytest.mark.parametrize("token", ["", "guessed", "é\ud800"])
async def test_a_guess_gets_a_leg_of_its_own_and_spends_nothing(token: str) -> None:
    async with world(a=Provider(FakeAgent(), FakeAgent())) as here:
        info = here.ahead()
        async with taking(here, CallInfo(call_sid="CA1", line=token)) as stranger:
            assert not stranger.leg.is_prepared
        async with taking(here, info) as call:
            assert call.leg.is_prepared


async def test_a_token_is_good_for_its_call_only() -> None:
    async with world(a=Provider(FakeAgent(), FakeAgent(), FakeAgent())) as here:
        info, other = here.ahead(), here.ahead(CallInfo(call_sid="CA2"))
        assert len({info.line, other.line}) == 2
        assert min(len(info.line), len(other.line)) >= 43
        for sid, line in (("CA2", info.line), ("CA3", info.line)):
            async with taking(here, CallInfo(call_sid=sid, line=line)) as thief:
                assert not thief.leg.is_prepared
        assert here.lines.state.waiting == 2


async def test_a_line_to_another_agent_than_is_wanted_is_closed() -> None:
    agent = FakeAgent()
    async with world(a=Provider(agent, FakeAgent())) as here:
        info = here.ahead()
        await agent.ready.wait()
        async with here.lines.open("sales", info) as leg:
            assert not leg.is_prepared
            await agent.over.wait()
        assert agent.closed is not None
        assert agent.closed[1] == 1000


async def test_a_line_that_does_not_know_what_was_said_is_none_for_a_call_that_goes_on() -> None:
    """It waits here from when the call rang, and another process has had the call since."""
    early, late = FakeAgent(), FakeAgent()
    async with world(a=Provider(early, late)) as here:
        first = here.ahead()
        await early.ready.wait()
        past = deepgram_settings.phone_settings({"greeting": "Where were we?"})
        tokens = {here.lines.dial_ahead("default", CALL, past) for _ in range(2)}
        assert first.line not in tokens
        [token] = tokens
        await early.over.wait()
        await late.ready.wait()
        async with here.lines.open("default", CallInfo(call_sid=CALL.call_sid, line=token)) as leg:
            assert leg.is_prepared
        assert late.got[0] == past
        assert here.lines.state.dialled_ahead == 2


async def test_no_more_lines_wait_than_calls_may_come() -> None:
    async with world(a=Provider(*[FakeAgent() for _ in range(4)])) as here:
        here.live = 8
        infos = [here.ahead(CallInfo(call_sid=f"CA{n}")) for n in range(4)]
        assert [bool(info.line) for info in infos] == [True, True, False, False]
        async with taking(here, infos[0]):
            assert here.ahead(CallInfo(call_sid="CA9")).line


async def test_a_call_without_a_name_has_no_line_and_neither_has_one_before_the_start() -> None:
    async with world(a=Provider(FakeAgent())) as here:
        assert here.ahead(CallInfo()).line == ""
        idle = World(here.nursery, here.providers)
        assert idle.ahead().line == ""
        assert here.providers["a"].dials == []


# --- announced again ----------------------------------------------------------------------------


class Sessions(Provider):
    """Agents without number, each as slow as may be to answer a goodbye. Counts who is there."""

    def __init__(self) -> None:
        super().__init__()
        self.agents = []
        self.most = 0

    @property
    def open_now(self) -> int:
        return sum(agent is not None and agent.gone_at is None for agent in self.agents)

    @contextlib.asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncIterator[AgentLeg]:
        self.dials.append(trio.current_time())
        agent = FakeAgent(answers_close=False)
        self.agents.append(agent)
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(agent.serve, theirs)
        self.most = max(self.most, self.open_now)
        async with converse(ours, "agent.test", "/", [], agent.language) as leg:
            yield leg

    async def lose_last(self) -> None:
        await trio.testing.wait_all_tasks_blocked()
        agent = self.agents[-1]
        assert agent is not None
        await agent.ready.wait()
        await agent.drop()
        await trio.testing.wait_all_tasks_blocked()


RINGING, LIVE, ENDED = "ringing", "live", "ended"


@pytest.mark.parametrize(
    ("state", "announced", "lost", "dials", "has_line"),
    [
        # The first webhook, the one that Twilio repeats, and those of somebody who has caught it.
        (RINGING, 1, False, 1, True),
        (RINGING, 2, False, 1, True),
        (RINGING, 20, False, 1, True),
        # Each time the agent is lost before the next.
        (RINGING, 2, True, 2, True),
        (RINGING, 20, True, 2, False),
        (LIVE, 1, False, 0, False),
        (LIVE, 2, False, 0, False),
        (LIVE, 20, False, 0, False),
        (ENDED, 1, False, 0, False),
        (ENDED, 2, False, 0, False),
        (ENDED, 20, False, 0, False),
    ],
)
async def test_who_is_dialled_ahead_for_when_a_call_is_announced(
    state: str,
    announced: int,
    lost: bool,
    dials: int,
    has_line: bool,
    autojump_clock: trio.testing.MockClock,
) -> None:
    sessions = Sessions()
    async with world(a=sessions) as here, contextlib.AsyncExitStack() as call:
        if state is not RINGING:
            await call.enter_async_context(here.lines.open("default", CALL))
            if state is ENDED:
                await call.aclose()
        before = len(sessions.dials)
        for _ in range(announced):
            info = here.ahead()
            if lost and info.line:
                await sessions.lose_last()
            await trio.sleep(0.5)
        assert len(sessions.dials) - before == dials
        assert bool(info.line) is has_line
        assert here.lines.state.dialled_ahead == dials


async def test_a_call_that_is_announced_again_keeps_its_line(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Also while it is dialled, and whichever of the answers Twilio goes by."""
    agent = FakeAgent("handshake")
    async with world(a=Provider(agent)) as here:
        first = here.ahead()
        again = here.ahead()
        agent.doors["handshake"].set()
        await greet(agent)
        replayed = [here.ahead() for _ in range(100)]
        assert {info.line for info in (again, *replayed)} == {first.line}
        async with taking(here, first) as call:
            assert call.leg.is_prepared
            await trio.testing.wait_all_tasks_blocked()
            assert call.messages == GREETED
        assert here.providers["a"].dials == [0]


async def test_a_line_does_not_live_longer_for_being_announced_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sessions = Sessions()
    async with world(a=sessions) as here:
        for _ in range(300):
            here.ahead()
            await trio.sleep(0.7)
        assert sessions.dials == [0, pytest.approx(UNUSED, abs=0.7)]
        assert sessions.open_now == 0


async def test_a_line_counts_until_its_goodbye_is_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sessions = Sessions()
    async with world(a=sessions) as here:
        here.live = 9
        first = here.ahead(CallInfo(call_sid="CA1"))
        await trio.sleep(UNUSED + 0.1)
        assert here.lines.state.waiting == 1
        assert sessions.open_now == 1
        assert not here.ahead(CallInfo(call_sid="CA2")).line
        await trio.sleep(prepared.GOODBYE)
        assert sessions.open_now == 0
        assert here.ahead(CallInfo(call_sid="CA2")).line
        assert first.line
        [refused] = [line for line in here.logs if line["event"] == events.AgentNotPrewarmed.NAME]
        assert refused["reason"] == "there is no room for another line"


async def test_a_line_that_its_call_found_stuck_counts_until_it_is_gone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stuck = FakeAgent("applied", answers_close=False)
    async with world(a=Provider(stuck, FakeAgent(), FakeAgent())) as here:
        info = here.ahead()
        here.live = 9
        async with taking(here, info) as call:
            assert not call.leg.is_prepared
            assert not here.ahead(CallInfo(call_sid="CA2")).line
            await trio.sleep(prepared.GOODBYE + 0.1)
            assert stuck.gone_at is not None
            assert here.ahead(CallInfo(call_sid="CA2")).line


async def test_a_line_that_is_handed_over_counts_as_its_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sessions = Sessions()
    async with world(a=sessions) as here:
        info = here.ahead()
        here.live = 9
        async with taking(here, info):
            assert here.ahead(CallInfo(call_sid="CA2")).line


async def test_a_call_that_has_to_dial_takes_the_place_of_the_line_that_waits_longest(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sessions = Sessions()
    async with world(a=sessions) as here:
        infos = []
        for n in range(10):
            infos.append(here.ahead(CallInfo(call_sid=f"CA{n}")))
            await trio.sleep(0.5)
        assert sessions.open_now == 10
        here.live = 1
        async with taking(here, CallInfo(call_sid="CA of a bin")) as stranger:
            assert not stranger.leg.is_prepared
            here.live = 2
            async with taking(here, infos[1]) as call:
                assert call.leg.is_prepared
            async with taking(here, infos[0]) as late:
                assert not late.leg.is_prepared
        spoilt = [line for line in here.logs if line["event"] == events.AgentPrewarmDiscarded.NAME]
        assert [(line["call_sid"], line["reason"]) for line in spoilt] == [
            ("CA0", "its place was needed for a call"),
        ]


async def test_calls_that_come_all_at_once_to_a_full_server_lose_no_line_to_each_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """They are live from the handshake on, and have a leg only when their stream starts."""
    stuck, agents = FakeAgent("applied"), [FakeAgent() for _ in range(10)]
    async with world(a=Provider(stuck, *agents)) as here:
        infos = []
        for n in range(10):
            infos.append(here.ahead(CallInfo(call_sid=f"CA{n}")))
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(1)
        here.live = 10
        async with taking(here, infos[0]) as unlucky, contextlib.AsyncExitStack() as others:
            assert not unlucky.leg.is_prepared
            for info in infos[1:]:
                call = await others.enter_async_context(taking(here, info))
                assert call.leg.is_prepared


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_comes_there_are_never_more_sessions_than_calls_there_may_be(
    seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Webhooks, repeated and replayed, streams with and without a line, and ends, in any order; a
    call is let in while there are fewer than ten."""
    chance = random.Random(seed)
    agents = [FakeAgent() for _ in range(250)]
    tokens: dict[str, str] = {}
    calls: list[Heard] = []
    most = 0
    async with world(a=Provider(*agents)) as here, trio.open_nursery() as nursery:
        for step in range(200):
            what = chance.choice([*["webhook"] * 5, *["stream"] * 2, "stranger", "end", "wait"])
            # One of the last few; or, of webhooks, a new one.
            known = [*tokens][-6:]
            call_sid = chance.choice([*known, *[f"CA{step}"] * len(known or "1")])
            if what == "webhook":
                tokens[call_sid] = here.ahead(CallInfo(call_sid=call_sid)).line
            elif what in ("stream", "stranger") and here.live < 10:
                token = tokens.get(call_sid, "") if what == "stream" else "guessed"
                call = Heard(here, CallInfo(call_sid=call_sid, line=token))
                calls.append(call)
                here.live += 1
                nursery.start_soon(call.run)
                await call.opened.wait()
            elif what == "end" and calls:
                calls.pop(chance.randrange(len(calls))).leaving.set()
                here.live -= 1
            elif what == "wait":
                await trio.sleep(chance.uniform(0, 30))
            await trio.testing.wait_all_tasks_blocked()
            there = sum(agent.dialled.is_set() and agent.gone_at is None for agent in agents)
            assert there <= 10
            most = max(most, there)
        for call in calls:
            call.leaving.set()
    assert most == 10
    assert here.lines.state.handed_over > 0


async def test_a_burst_of_calls_waits_for_no_rate(autojump_clock: trio.testing.MockClock) -> None:
    """Who gets no line dials when the stream starts."""
    sessions = Sessions()
    async with world(a=sessions) as here, contextlib.AsyncExitStack() as calls:
        here.lines._max_calls = 10_000
        infos = [here.ahead(CallInfo(call_sid=f"CA{n}")) for n in range(BURST + 20)]
        await trio.testing.wait_all_tasks_blocked()
        assert sum(bool(info.line) for info in infos) == BURST
        for info in infos:
            leg = await calls.enter_async_context(here.lines.open("default", info))
            assert leg.is_prepared is bool(info.line)
        assert trio.current_time() == 0
        refused = [line for line in here.logs if line["event"] == events.AgentNotPrewarmed.NAME]
        assert {line["reason"] for line in refused} == {"over 10 a second"}


async def test_the_agent_of_a_call_is_chosen_once_however_often_it_is_announced(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Also when that takes its time, and the first who asked has gone."""
    asked: list[str] = []
    waiting = 0

    async def choose_agent(info: CallInfo) -> str:
        nonlocal waiting
        asked.append(info.call_sid)
        waiting += 1
        await trio.sleep(1)
        return "sales"

    async with world(a=Provider(FakeAgent())) as here:
        here.lines._routing = Routing({"default": {}, "sales": {}}, {}, choose_agent)
        names: list[str] = []

        async def announce(call_sid: str, patience: float = 10.0) -> None:
            with trio.move_on_after(patience):
                names.append(await here.lines.choose(CallInfo(call_sid=call_sid)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(announce, "CA1", 0.5)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(50):
                nursery.start_soon(announce, "CA1")
            nursery.start_soon(announce, "CA2")
        assert sorted(asked) == ["CA1", "CA1", "CA2"]  # the first of CA1 was given up
        await announce("CA1")
        assert names == ["sales"] * 52
        assert len(asked) == 3
        # A stream that a TwiML Bin has started is no announcement: it may be the second one.
        streamed = CallInfo(call_sid="CA1", stream_sid="MZ1")
        assert [await here.lines.choose(streamed) for _ in range(2)] == ["sales"] * 2
        assert await here.lines.choose(CallInfo()) == "sales"
        assert len(asked) == 6


async def test_how_many_choices_are_remembered_has_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sts_trio.agents.connections.REMEMBERED", 5)
    async with world(a=Provider(FakeAgent())) as here:
        for n in range(20):
            await here.lines.choose(CallInfo(call_sid=f"CA{n}" + "x" * 1000))
        assert len(here.lines._chosen) == 5
        assert max(map(len, here.lines._chosen)) == MAX_SID
        assert here.lines._choosing == {}


async def found(here: World, call: CallInfo, asked: list[str]) -> str:
    """What the agent of a call is told of who calls, once it is announced or has come."""

    async def choose_agent(info: CallInfo) -> AgentChoice:
        asked.append(info.call_sid)
        return AgentChoice(variables={"caller_name": "Ann"})

    here.lines._routing = Routing({"default": {}}, {}, choose_agent)
    await here.lines.choose(call)
    return str(here.lines.choice(call.call_sid).variables.get("caller_name"))


async def test_what_was_found_out_of_a_caller_is_not_kept_beyond_the_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asked: list[str] = []
    async with world(a=Provider(FakeAgent())) as here:
        streamed = CallInfo(call_sid="CA1", stream_sid="MZ1", agent="default", is_tailored=True)
        for call in (CallInfo(call_sid="CA1"), CallInfo(call_sid="CA1"), streamed):
            assert await found(here, call, asked) == "Ann"
        assert asked == ["CA1"]
        await trio.sleep(2 * AWAITED)  # a long call
        await found(here, CallInfo(call_sid="CA2"), asked)
        assert here.lines.choice("CA1").is_tailored
        here.lines.forget("CA1")
        assert here.lines.choice("CA1") == AgentChoice()
        # One that goes on in another stream is asked about anew.
        assert await found(here, CallInfo(call_sid="CA1"), asked) == "Ann"
        here.lines.forget("CA1")
        assert await found(here, streamed, asked) == "Ann"
        assert asked == ["CA1", "CA2", "CA1", "CA1"]


async def test_of_a_call_that_does_not_come_nothing_is_kept(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(a=Provider(FakeAgent())) as here:
        await found(here, CallInfo(call_sid="CA1"), [])
        await trio.sleep(AWAITED)
        await found(here, CallInfo(call_sid="CA2"), [])
        assert list(here.lines._found) == ["CA2"]
        monkeypatch.setattr("sts_trio.agents.connections.REMEMBERED", 3)
        for n in range(9):
            await found(here, CallInfo(call_sid=f"CB{n}"), [])
        assert list(here.lines._found) == list(here.lines._awaited) == ["CB6", "CB7", "CB8"]


# --- ends ---------------------------------------------------------------------------------------


async def test_of_a_goodbye_the_agent_sees_the_close_frame_and_nothing_is_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent = FakeAgent()
    async with world(a=Provider(agent)) as here:
        await trio.testing.wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        async with taking(here, here.ahead()) as call:
            await call.leg.aclose(1001)
            await call.listened.wait()
            assert agent.closed == (0, 1001)
            assert call.messages[-1] == LegEnded(Leg.AGENT, How.CLOSED, 1001)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before


async def test_a_call_that_is_cancelled_leaves_nothing_when_it_is_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent = FakeAgent()
    async with world(a=Provider(agent)) as here:
        await trio.testing.wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        async with taking(here, here.ahead()) as call:
            call.scope.cancel()
            await agent.over.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before
        assert trio.current_time() == 0


async def test_a_call_that_is_cancelled_while_it_waits_takes_the_line_with_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent = FakeAgent("welcome")
    async with world(a=Provider(agent)) as here:
        info = here.ahead()
        assert await here.open(info, limit=1) == "given up"
        await agent.over.wait()
        assert trio.current_time() == 1


async def test_an_agent_that_is_lost_after_it_was_taken_is_heard_of_behind_its_last_word(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Also when that happens between taking and listening."""
    agent = FakeAgent()
    async with world(a=Provider(agent)) as here:
        info = here.ahead()
        async with here.lines.open("default", info) as leg:
            await greet(agent)
            await agent.drop()
            await trio.sleep(1)
            heard: list[Any] = []
            await leg.listen(heard.extend, lambda now: None)
            assert heard == [*GREETED, LegEnded(Leg.AGENT, How.LOST)]


async def test_when_the_app_goes_away_the_call_hears_that_its_agent_is_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent = FakeAgent()
    async with trio.open_nursery() as outside:
        here = World(outside, {"a": Provider(agent)})
        app = trio.CancelScope()

        async def run_app(task_status: trio.TaskStatus[None]) -> None:
            with app:
                await here.lines.run(task_status)

        await outside.start(run_app)
        info = here.ahead()
        async with taking(here, info) as call:
            app.cancel()
            await call.listened.wait()
            assert call.messages[-1] == LegEnded(Leg.AGENT, How.LOST)
            await call.leg.send(Audio(b"nobody hears"))
            assert not call.leg.try_send(Audio(b"nobody hears"))
        assert here.ahead().line == ""
        outside.cancel_scope.cancel()


async def test_lines_that_wait_are_closed_with_1000_when_the_app_stops(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent, taken = FakeAgent(), FakeAgent()
    async with world(a=Provider(taken, agent)) as here:
        info = here.ahead()
        async with taking(here, info):
            here.ahead(CallInfo(call_sid="CA2"))
            await agent.ready.wait()
            await here.lines.aclose()
            assert agent.closed == (0, 1000)
            assert taken.closed is None
            assert here.lines.state.waiting == 0


async def test_an_agent_that_answers_no_goodbye_holds_nothing_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent = FakeAgent(answers_close=False)
    async with world(a=Provider(agent)) as here:
        here.ahead()
        await agent.ready.wait()
        await here.lines.aclose()
        assert trio.current_time() <= prepared.GOODBYE
        await trio.testing.wait_all_tasks_blocked()
        assert agent.gone_at is not None


async def test_a_line_whose_time_is_up_as_it_is_taken_is_not_handed_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    agent = FakeAgent()
    async with world(a=Provider(agent, FakeAgent())) as here:
        info = here.ahead()
        await agent.ready.wait()
        await trio.sleep(UNUSED)
        async with taking(here, info) as call:
            await trio.sleep(1)
            assert not call.leg.is_prepared
            assert not call.listened.is_set()


# --- cancelled anywhere -------------------------------------------------------------------------


async def story(here: World) -> None:
    info = here.ahead()
    await trio.sleep(0.7)
    async with here.lines.open("default", info) as leg, trio.open_nursery() as nursery:
        nursery.start_soon(leg.listen, lambda batch: None, lambda now: None)
        await leg.send(Audio(b"x"))
        await trio.sleep(0.1)
        await leg.aclose(1000)


async def cancelled_at(step: int, whose: str) -> int:
    """Tells the story with the call, or the app, cancelled at that step of any task."""
    with structlog.testing.capture_logs() as logs:
        seen = await _cancelled_at(step, whose)
    assert events.AgentPrewarmCrashed.NAME not in [line["event"] for line in logs]
    return seen


async def _cancelled_at(step: int, whose: str) -> int:
    agents = [FakeAgent(), FakeAgent()]
    before = trio.lowlevel.current_statistics().tasks_living
    async with trio.open_nursery() as outside:
        here = World(outside, {"a": Provider(*agents)})
        app, call = trio.CancelScope(), trio.CancelScope()

        async def run_app(task_status: trio.TaskStatus[None]) -> None:
            with app:
                await here.lines.run(task_status)

        await outside.start(run_app)
        instrument = CancelAtStep(app if whose == "app" else call, step)
        trio.lowlevel.add_instrument(instrument)
        try:
            with call:
                await story(here)
        finally:
            trio.lowlevel.remove_instrument(instrument)
        if whose == "call":
            # A call that never took its line leaves that to the app.
            await here.lines.aclose()
            await trio.testing.wait_all_tasks_blocked()
        app.cancel()
        with trio.fail_after(5):
            for agent in agents:
                if agent.dialled.is_set():
                    await agent.over.wait()
        outside.cancel_scope.cancel()
    assert trio.lowlevel.current_statistics().tasks_living == before
    return instrument.seen


@pytest.mark.parametrize("whose", ["call", "app"])
async def test_cancelled_at_any_await_a_line_leaves_nothing(
    whose: str, autojump_clock: trio.testing.MockClock
) -> None:
    steps = await cancelled_at(-1, whose)
    assert steps > 30
    for step in range(steps):
        await cancelled_at(step, whose)


# --- so many sessions at once ---------------------------------------------------------------------


async def test_a_call_waits_for_a_session_and_a_line_ahead_does_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with world(only=Provider(FakeAgent(), FakeAgent())) as here:
        here.lines._sessions = AgentSessions(1, lambda: None)
        async with here.lines.open("default", CallInfo(call_sid="CA9")):
            ahead = here.ahead()
            await trio.sleep(1)
            assert here.lines.state.waiting == 0
            began = trio.current_time()
            told = await here.open(ahead)
            assert "all 1 sessions with agents are taken" in told
            # Who gives up says why, before whoever waits for it does.
            assert 4 < trio.current_time() - began < AGENT_TIMEOUT
        assert await here.open() == "open"
        assert here.lines._sessions.open == 0
    assert events.AgentPrewarmDiscarded.NAME in here.events

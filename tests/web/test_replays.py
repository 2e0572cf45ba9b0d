"""What somebody gets by a webhook, or a handshake, that they have caught and send again.

The signature of either holds no time, so all of it is properly signed. The calls are real ones too:
they must not notice.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from limits import HANG
from rig_app import TOKEN as SECRET
from rig_app import body_of, post, sign
from rig_hypercorn import hypercorn
from rig_peers import CALL_SID, START, FakeAgent, media
from rig_server import PROMISE, Answer, World, answer_in, knock, world
from rig_webhook import CALL, GREETING, announce, hang_up, ringing, start

from sts_trio.agents.endpoints import AgentLeg, Endpoint
from sts_trio.config import load
from sts_trio.errors import Cause, Ending
from sts_trio.legs.handshake import converse
from sts_trio.observe import events
from sts_trio.testing import running
from sts_trio.web.app import App, create_app
from sts_trio.wire import deepgram, twilio, webhook

PUBLIC = "https://bridge.example.com"
SIGNED = {"TWILIO_AUTH_TOKEN": SECRET, "STS_PUBLIC_URL": PUBLIC}
OTHER_SID = "CA00000000000000000000000000000009"
Clock = trio.testing.MockClock


# --- the voice webhook ----------------------------------------------------------------------------


class Sessions:
    """Agents behind an app that answer no goodbye, so that each lasts as long as it can."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.dialled = self.open_now = self.most = 0
        self._nursery = nursery

    @contextlib.asynccontextmanager
    async def dial(self, endpoint: Endpoint) -> AsyncIterator[AgentLeg]:
        agent = FakeAgent(answers_close=False)
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(agent.serve, theirs)
        self.dialled += 1
        self.open_now += 1
        self.most = max(self.most, self.open_now)
        try:
            async with converse(ours, "agent.test", "/", [], agent.language) as leg:
                yield leg
        finally:
            self.open_now -= 1


@contextlib.asynccontextmanager
async def announced(directory: Path, **environ: str) -> AsyncIterator[tuple[App, Sessions]]:
    """An app that is only asked, with its way to agents."""
    app = create_app(load({"DEEPGRAM_API_KEY": "key"} | environ, directory))
    async with trio.open_nursery() as nursery:
        sessions = Sessions(nursery)
        app.server.agent_connections._dial = sessions.dial
        app.server.agent_connections.endpoints = [Endpoint("wss://agent.test/agent")]
        await nursery.start(app.server.agent_connections.run)
        yield app, sessions
        nursery.cancel_scope.cancel()


async def test_a_caught_webhook_has_one_session_dialled_however_often_it_is_sent(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with announced(tmp_path, STS_MAX_CALLS="5") as (app, sessions):
        lines = set()
        for _ in range(189):
            answer = answer_in(await body_of(await post(app, "/twiml", CALL)))
            lines.add(answer.parameters["line"])
            await trio.sleep(5 / 189)
        assert (sessions.dialled, sessions.most, len(lines)) == (1, 1, 1)
        # As long as one likes: the second is the last.
        for _ in range(120):
            await post(app, "/twiml", CALL)
            await trio.sleep(1)
        assert (sessions.dialled, sessions.most, sessions.open_now) == (2, 2, 0)


async def test_a_collection_of_them_opens_no_more_than_calls_may_be_at_once(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with announced(tmp_path, STS_MAX_CALLS="5") as (app, sessions):
        for n in range(120):
            await post(app, "/twiml", CALL | {"CallSid": f"CA{n}"})
            await trio.sleep(0.5)
        assert sessions.most == 5
        # Each of the five places is taken for 20 s, and for the goodbye.
        assert sessions.dialled == 15


async def test_whoever_repeats_it_gets_another_way_in_and_both_are_good(tmp_path: Path) -> None:
    ahead, second = FakeAgent(), FakeAgent()
    async with ringing(tmp_path, ahead, second) as (here, agents):
        first, repeated = await announce(here), await announce(here)
        assert first.token != repeated.token
        assert first.parameters == repeated.parameters
        for answer, agent in ((repeated, ahead), (first, second)):
            async with here.phone(path=answer.path) as phone:
                await phone.tell(twilio.Connected(), start(answer.parameters))
                await agent.ready.wait()
                await hang_up(here, phone)
        assert agents.dials == 2


async def test_an_answer_with_a_token_in_it_is_nobodys_to_keep(tmp_path: Path) -> None:
    """Twilio keeps what a GET was answered with, as HTTP's headers allow."""
    app = create_app(load({}, tmp_path))
    for path in ("/twiml", "/twiml/after"):
        assert (await post(app, path, CALL)).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("lane", ["0", "1"])
async def test_a_ringing_caller_keeps_the_agent_that_has_greeted(tmp_path: Path, lane: str) -> None:
    agent = FakeAgent()
    async with ringing(tmp_path, agent, STS_FAST_LANE=lane) as (here, agents):
        answer = await announce(here)
        await agent.ready.wait()
        await agent.say(deepgram.Audio(GREETING))
        for _ in range(20):
            await announce(here)
        async with here.phone(path=answer.path) as phone:
            await phone.tell(twilio.Connected(), start(answer.parameters))
            await phone.play_until(lambda audio: audio == GREETING)
            for _ in range(20):
                assert "line" not in (await announce(here)).parameters
            await hang_up(here, phone)
        for _ in range(20):
            assert "line" not in (await announce(here)).parameters
        assert agents.dials == 1
        assert here.app.server.agent_connections.state.dialled_ahead == 1
        assert here.endings == ["stop"]


async def test_a_call_of_a_bin_is_not_dialled_ahead_for_either(tmp_path: Path) -> None:
    async with ringing(tmp_path, FakeAgent()) as (here, agents), here.phone() as phone:
        await phone.tell(twilio.Connected(), START)
        await here.agent.ready.wait()
        assert "line" not in (await announce(here)).parameters
        await hang_up(here, phone)
        assert "line" not in (await announce(here)).parameters
        assert agents.dials == 1


@pytest.mark.parametrize(
    "ending",
    [None, Ending(Cause.STOP), Ending(Cause.AGENT_LOST), Ending(Cause.TRANSFERRED, "+15005550020")],
)
async def test_what_comes_after_the_stream_is_told_again_and_nothing_else_is_done(
    tmp_path: Path, ending: Ending | None, autojump_clock: Clock
) -> None:
    """Twilio has to get the same answer if it asks again."""
    environ = {"STS_TRANSFER_NUMBERS": "+15005550020", "STS_MAX_CALLS": "5"}
    async with announced(tmp_path, **environ) as (app, sessions):
        if ending is not None:
            app.live_calls.remember(CALL_SID, ending)
        asked = CALL | {"CallStatus": "in-progress"}
        answers = [await body_of(await post(app, "/twiml/after", asked)) for _ in range(20)]
        assert len(set(answers)) == 1
        assert app.live_calls.ending_of(CALL_SID) == ending
        assert app.live_calls.event_feed.count == 0
        assert sessions.dialled == 0


# --- the handshake --------------------------------------------------------------------------------


async def signed_answer(here: World) -> tuple[Answer, str]:
    """What Twilio gets, and its signature for the stream."""
    headers = {"x-twilio-signature": sign(f"{PUBLIC}/twiml", CALL)}
    answer = answer_in(await body_of(await post(here.app, "/twiml", CALL, headers)))
    assert answer.url == f"wss://bridge.example.com{answer.path}"
    return answer, webhook.sign(SECRET, answer.url)


@pytest.mark.parametrize("lane", ["0", "1"])
async def test_a_stream_of_our_webhook_is_let_in_once_and_by_twilio_only(
    tmp_path: Path, lane: str
) -> None:
    agent = FakeAgent()
    async with ringing(tmp_path, agent, STS_FAST_LANE=lane, **SIGNED) as (here, _):
        answer, signature = await signed_answer(here)
        other, other_signature = await signed_answer(here)
        # Who has seen the path alone neither gets in, nor spends the token.
        for wrong in (None, "bm90IGl0", webhook.sign(SECRET, f"{PUBLIC}/twilio"), other_signature):
            assert await here.knock(answer.path, wrong) == 403
        async with here.phone(path=answer.path, signature=signature) as phone:
            await phone.tell(twilio.Connected(), start(answer.parameters))
            await agent.ready.wait()
            # Twilio's own signature, caught.
            assert await here.knock(answer.path, signature) == 403
            await hang_up(here, phone)
        assert await here.knock(answer.path, signature) == 403
        refused = [
            line["reason"] for line in here.logs if line["event"] == events.RequestRefused.NAME
        ]
        assert [reason.partition(":")[0] for reason in refused] == [
            "not signed",
            *["wrong signature for wss"] * 3,
            *["no stream token, or one that is spent or too old"] * 2,
        ]
        assert other.token != answer.token


@pytest.mark.parametrize("lane", ["0", "1"])
@pytest.mark.parametrize("call_sid", [OTHER_SID, "", CALL_SID.lower()])
async def test_a_stream_that_starts_with_another_call_is_refused(
    tmp_path: Path, lane: str, call_sid: str
) -> None:
    agent = FakeAgent()
    async with ringing(tmp_path, agent, STS_FAST_LANE=lane) as (here, agents):
        answer = await announce(here)
        here.app.live_calls.remember(call_sid, Ending(Cause.AGENT_LOST))
        began = msgspec.structs.replace(start(answer.parameters).start, call_sid=call_sid)
        async with here.phone(path=answer.path) as phone:
            await phone.tell(twilio.Connected(), msgspec.structs.replace(START, start=began))
            assert await phone.play_until_closed() == 1008
            assert await here.until_over() < PROMISE
        assert here.endings == ["caller_refused"]
        [ended] = [line for line in here.logs if line["event"] == events.CallEnded.NAME]
        assert ended["detail"] == "its stream token was given to another call"
        # That call's own ending, if it is one, stays what it was; its caller's line is still there.
        kept = Ending(Cause.AGENT_LOST) if call_sid else None
        assert here.app.live_calls.ending_of(call_sid) == kept
        assert agents.dials == 1
        assert agent.closed is None


async def test_a_softphone_may_name_its_call_as_it_likes(tmp_path: Path) -> None:
    agent = FakeAgent()
    async with world(tmp_path, agent) as here:
        token = here.app.stream_tokens.mint()
        async with here.phone(path=f"/twilio/{token}") as phone:
            await phone.tell(twilio.Connected(), START)
            await agent.ready.wait()
            await hang_up(here, phone)


async def test_a_token_that_is_too_old_is_refused(tmp_path: Path) -> None:
    async with ringing(tmp_path, FakeAgent()) as (here, _):
        tokens = here.app.stream_tokens
        answer = await announce(here)
        now = tokens._clock() + tokens.call_lifetime
        tokens._clock = lambda: now
        assert await here.knock(answer.path) == 403


async def test_a_process_lets_in_what_another_one_has_answered(tmp_path: Path) -> None:
    """Behind a balancer, webhook and stream may come to different ones."""
    elsewhere = create_app(load({"DEEPGRAM_API_KEY": "key"}, tmp_path))
    agent = FakeAgent()
    async with world(tmp_path, agent) as here:
        answer = answer_in(await body_of(await post(elsewhere, "/twiml", CALL)))
        async with here.phone(path=answer.path) as phone:
            await phone.tell(twilio.Connected(), start(answer.parameters))
            await agent.ready.wait()
            await hang_up(here, phone)


# --- in a fleet -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["0", "1"])
async def test_a_stream_that_is_meant_for_one_process_is_let_in_by_any(
    tmp_path: Path, lane: str
) -> None:
    """The path names who has dialled ahead. That one is gone, and the proxy takes another."""
    agent = FakeAgent()
    environ = SIGNED | {"DEEPGRAM_API_KEY": "key", "STS_PROCESS_NAME": "s-1"}
    elsewhere = create_app(load(environ, tmp_path))
    fleet: dict[str, Any] = {**SIGNED, "STS_FAST_LANE": lane, "STS_PROCESS_NAME": "s-2"}
    async with world(tmp_path, agent, **fleet) as here:
        signature = {"x-twilio-signature": webhook.sign(SECRET, f"{PUBLIC}/twiml", CALL)}
        answer = answer_in(await body_of(await post(elsewhere, "/twiml", CALL, signature)))
        assert answer.url == f"wss://bridge.example.com/twilio/at/s-1/{answer.token}"
        signed = webhook.sign(SECRET, answer.url)
        # The name is signed like all of the path.
        renamed = answer.path.replace("s-1", "s-2")
        assert await here.knock(renamed, signed) == 403
        assert await here.knock(answer.path) == 403
        async with here.phone(path=answer.path, signature=signed) as phone:
            await phone.tell(twilio.Connected(), start(answer.parameters))
            await agent.ready.wait()
            await hang_up(here, phone)
        assert await here.knock(answer.path, signed) == 403


async def test_a_bin_may_name_a_process_too(tmp_path: Path) -> None:
    agent = FakeAgent()
    async with world(tmp_path, agent) as here, here.phone(path="/twilio/at/s-1") as phone:
        await phone.tell(twilio.Connected(), START)
        await agent.ready.wait()
        await hang_up(here, phone)


# --- without TwiML Bins ---------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["0", "1"])
@pytest.mark.parametrize("signed", [False, True])
async def test_where_no_bin_is_used_the_bare_path_is_closed(
    tmp_path: Path, lane: str, signed: bool
) -> None:
    agent = FakeAgent()
    environ = {"STS_BINS": "0", "STS_FAST_LANE": lane} | (SIGNED if signed else {})
    async with ringing(tmp_path, agent, **environ) as (here, agents):
        caught = webhook.sign(SECRET, "wss://bridge.example.com/twilio") if signed else None
        for _ in range(3):
            assert await here.knock("/twilio", caught) == 403
        assert [line["event"] for line in here.logs] == [events.RequestRefused.NAME] * 3
        assert "STS_BINS=0" in here.logs[0]["reason"]
        assert agents.dials == 0
        if signed:
            answer, signature = await signed_answer(here)
        else:
            answer, signature = await announce(here), ""
        async with here.phone(path=answer.path, signature=signature) as phone:
            await phone.tell(twilio.Connected(), start(answer.parameters), media())
            await agent.ready.wait()
            await agent.say(deepgram.Audio(GREETING))
            await phone.play_until(lambda audio: audio == GREETING)
            await hang_up(here, phone)


@pytest.mark.parametrize(("bins", "status"), [("1", 101), ("0", 403)])
async def test_serve_opens_the_bare_path_to_bins_unless_told_otherwise(
    bins: str, status: int
) -> None:
    async with running({"STS_BINS": bins}) as server:
        address = "127.0.0.1", int(server.base.rpartition(":")[2])
        assert await knock(address, "/twilio") == status
        softphones = server.app.stream_tokens.mint()
        assert await knock(address, f"/twilio/{softphones}") == 101
        await server.app.live_calls.empty()


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({}, 101),
        ({"STS_BINS": "0"}, 403),
        ({"STS_BINS": "0", "STS_FAST_LANE": "0"}, 403),
    ],
    ids=str,
)
async def test_so_does_the_plain_command(environ: dict[str, str], status: int) -> None:
    with trio.fail_after(HANG):
        async with hypercorn("--workers", "0", environ=environ) as (_, port):
            assert await knock(("127.0.0.1", port), "/twilio") == status
            assert await knock(("127.0.0.1", port), "/twilio/guessed") == 403

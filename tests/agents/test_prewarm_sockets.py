"""Dialling ahead, on real sockets: the agent is there before the stream is.

Each story ends with a look for what is left: no socket, no task.
"""

import functools
from pathlib import Path
from typing import Any

import pytest
import trio
from limits import HANG
from rig_app import body_of, post
from rig_peers import CALL_SID, START, STOP, FakeAgent, media, names
from rig_server import PROMISE, Answer, World
from rig_webhook import CALL, GREETING, announce, hang_up, ringing, start

from sts_trio.call.info import CallInfo
from sts_trio.config import load
from sts_trio.errors import ConfigError
from sts_trio.server import LONGEST_NOTICE
from sts_trio.testing import running, scripted_agent
from sts_trio.web.app import create_app
from sts_trio.wire import deepgram, deepgram_settings, twilio


@pytest.mark.parametrize("lane", ["0", "1"])
async def test_the_greeting_is_there_before_the_stream_begins(tmp_path: Path, lane: str) -> None:
    agent = FakeAgent()
    async with ringing(tmp_path, agent, STS_FAST_LANE=lane) as (here, agents):
        answer = await announce(here)
        await agent.ready.wait()
        await agent.say(deepgram.Audio(GREETING))
        async with here.phone(path=answer.path) as phone:
            # Dialled once, long since; and the agent says nothing more, so what is heard is that.
            assert agents.dials == 1
            await phone.tell(twilio.Connected(), start(answer.parameters))
            await phone.play_until(lambda audio: audio == GREETING)
            assert agents.dials == 1
            await phone.tell(*[media(bytes([n]) * 160) for n in range(1, 50)])
            await hang_up(here, phone)
        await agent.over.wait()
        assert names(agent.got).count("Settings") == 1
        assert agent.speech == b"".join(bytes([n]) * 160 for n in range(1, 50))
        assert agent.closed is not None
        assert agent.closed[1] == 1000
        assert here.endings == ["stop"]


async def test_the_offline_agent_has_greeted_before_the_stream_begins() -> None:
    async with scripted_agent() as agent, running(agent=agent) as server:
        answer = await announce(server)
        with trio.fail_after(HANG):
            while not server.app.server.agent_connections.state.waiting or not agent.sessions:  # noqa: ASYNC110
                await trio.sleep(0.01)
            port = int(server.base.rpartition(":")[2])
            async with World(server.app, FakeAgent(), ("127.0.0.1", port)).phone(
                path=answer.path
            ) as phone:
                await phone.tell(twilio.Connected(), start(answer.parameters))
                await phone.play_until(lambda audio: len(audio) > 1600)
                assert agent.sessions == 1
                assert server.app.server.agent_connections.state.handed_over == 1
                await phone.tell(STOP)
                assert await phone.play_until_closed() == 1000
            await agent.empty()


@pytest.mark.parametrize("how", ["close frame", "reset"])
async def test_a_caller_who_goes_takes_the_line_along(tmp_path: Path, how: str) -> None:
    agent = FakeAgent()
    async with ringing(tmp_path, agent) as (here, _):
        answer = await announce(here)
        async with here.phone(path=answer.path) as phone:
            await phone.tell(twilio.Connected(), start(answer.parameters), media())
            await agent.ready.wait()
            await agent.say(deepgram.Audio(GREETING))
            await phone.play_until(lambda audio: audio == GREETING)
            await (phone.socket.aclose() if how == "close frame" else phone.reset())
            # A stream that was cut may come back; then Twilio tells that there is nobody.
            await post(here.app, "/twiml/after", {**CALL, "CallStatus": "completed"})
            assert await here.until_over() < PROMISE
        await agent.over.wait()
        assert agent.closed is not None
        assert agent.closed[1] == 1000


async def test_an_agent_that_dies_while_it_rings_is_dialled_again(tmp_path: Path) -> None:
    dead, second = FakeAgent(), FakeAgent()
    async with ringing(tmp_path, dead, second) as (here, agents):
        answer = await announce(here)
        await dead.ready.wait()
        await dead.drop()
        await dead.over.wait()
        async with here.phone(path=answer.path) as phone:
            await phone.tell(twilio.Connected(), start(answer.parameters))
            await second.ready.wait()
            await second.say(deepgram.Audio(GREETING))
            await phone.play_until(lambda audio: audio == GREETING)
            await hang_up(here, phone)
        assert agents.dials == 2


async def test_an_agent_that_dies_in_the_call_ends_it_as_ever(tmp_path: Path) -> None:
    agent = FakeAgent()
    async with ringing(tmp_path, agent, STS_RECONNECT="0") as (here, _):
        answer = await announce(here)
        async with here.phone(path=answer.path) as phone:
            await phone.tell(twilio.Connected(), start(answer.parameters))
            await agent.ready.wait()
            await agent.say(deepgram.Audio(GREETING))
            await phone.play_until(lambda audio: audio == GREETING)
            await agent.drop()
            assert await phone.play_until_closed() == 1011
            await here.until_over()
        assert here.endings == ["agent_lost"]


async def test_a_stream_without_the_token_has_an_agent_of_its_own(tmp_path: Path) -> None:
    ahead, second = FakeAgent(), FakeAgent()
    async with ringing(tmp_path, ahead, second) as (here, agents):
        answer = await announce(here)
        await ahead.ready.wait()
        async with here.phone(path=answer.path) as phone:
            await phone.tell(twilio.Connected(), start(answer.parameters | {"line": "guessed"}))
            await second.ready.wait()
            await hang_up(here, phone)
        assert agents.dials == 2
        assert ahead.closed is None
    # The server has gone, and has taken its leave.
    assert ahead.closed is not None
    assert ahead.closed[1] == 1000


@pytest.mark.parametrize(
    "environ",
    [
        {"STS_DIAL_AHEAD": "0"},
        {"STS_SAY_NOTICE": "x" * (LONGEST_NOTICE + 1)},
    ],
    ids=str,
)
async def test_where_it_is_no_use_nobody_is_dialled_ahead(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    agent = FakeAgent()
    async with ringing(tmp_path, agent, **environ) as (here, agents):
        answer = await announce(here)
        assert "line" not in answer.parameters
        async with here.phone(path=answer.path) as phone:
            assert agents.dials == 0
            await phone.tell(twilio.Connected(), start(answer.parameters))
            await agent.ready.wait()
            await hang_up(here, phone)


async def test_a_call_that_is_over_or_refused_has_nobody_dialled(tmp_path: Path) -> None:
    async with ringing(tmp_path, FakeAgent(), STS_MAX_CALLS="1") as (here, agents):
        assert "line" not in (await announce(here, CallStatus="completed")).parameters
        here.app.live_calls.drain()
        assert "<Reject" in await body_of(await post(here.app, "/twiml", CALL))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert agents.dials == 0


async def test_a_call_that_was_answered_before_the_server_drains_is_let_in(tmp_path: Path) -> None:
    agent = FakeAgent()
    async with ringing(tmp_path, agent) as (here, _):
        answer = await announce(here)
        here.app.live_calls.drain()
        async with here.phone(path=answer.path) as phone:
            await phone.tell(twilio.Connected(), start(answer.parameters))
            await agent.ready.wait()
            await hang_up(here, phone)


async def test_a_short_notice_is_said_while_the_agent_is_dialled(tmp_path: Path) -> None:
    agent = FakeAgent()
    async with ringing(tmp_path, agent, STS_SAY_NOTICE="This call is recorded.") as (here, _):
        assert "line" in (await announce(here)).parameters
        await agent.ready.wait()


# --- who answers --------------------------------------------------------------------------------

SHOP = """
[agents.default]
greeting = "Hello."
[agents.sales]
greeting = "Sales."
[agents.repairs]
greeting = "Repairs."
[numbers]
"+15005550006" = "repairs"
"""


def greeting(agent: FakeAgent) -> str:
    [settings] = [each for each in agent.got if isinstance(each, deepgram_settings.Settings)]
    assert isinstance(settings.agent, dict)
    return str(settings.agent["greeting"])


@pytest.mark.parametrize("ahead", ["0", "1"])
@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, "Repairs."), ({"To": "+15005550009"}, "Hello."), ({"To": "x" * 600}, "Hello.")],
    ids=["its number's", "the default", "a name too long for a parameter"],
)
async def test_the_webhook_decides_who_answers(
    tmp_path: Path, ahead: str, fields: dict[str, str], expected: str
) -> None:
    (tmp_path / "sts-trio.toml").write_text(SHOP)
    agent = FakeAgent()
    async with ringing(tmp_path, agent, STS_DIAL_AHEAD=ahead) as (here, _):
        answer = await announce(here, **fields)
        async with here.phone(path=answer.path) as phone:
            await phone.tell(twilio.Connected(), start(answer.parameters))
            await agent.ready.wait()
            assert greeting(agent) == expected
            await hang_up(here, phone)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "Hello."),
        ({"agent": "sales"}, "Sales."),
        ({"agent": "nobody"}, "Hello."),
        ({"to": "+15005550006"}, "Repairs."),
        ({"to": "+15005550006", "agent": "sales"}, "Sales."),
    ],
)
async def test_a_bin_may_say_who_answers(
    tmp_path: Path, parameters: dict[str, str], expected: str
) -> None:
    (tmp_path / "sts-trio.toml").write_text(SHOP)
    agent = FakeAgent()
    async with ringing(tmp_path, agent) as (here, _), here.phone() as phone:
        await phone.tell(twilio.Connected(), start(parameters))
        await agent.ready.wait()
        assert greeting(agent) == expected
        await hang_up(here, phone)


async def test_the_users_function_is_asked_once_a_call_wherever_that_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sts-trio.toml").write_text(SHOP)
    asked: list[CallInfo] = []

    async def choose_agent(call: CallInfo) -> str:
        asked.append(call)
        return "sales"

    monkeypatch.setattr(
        "rig_server.create_app", functools.partial(create_app, choose_agent=choose_agent)
    )
    by_webhook, by_bin = FakeAgent(), FakeAgent()
    async with ringing(tmp_path, by_webhook, by_bin) as (here, _):
        answer = await announce(here)
        by_bins = Answer("/twilio", {"from": "+15005550001"})
        for agent, how in ((by_webhook, answer), (by_bin, by_bins)):
            async with here.phone(path=how.path) as phone:
                await phone.tell(twilio.Connected(), start(how.parameters))
                await agent.ready.wait()
                assert greeting(agent) == "Sales."
                await hang_up(here, phone)
    assert [(call.call_sid, call.stream_sid, call.from_) for call in asked] == [
        (CALL_SID, "", "+15005550001"),
        (CALL_SID, START.stream_sid, "+15005550001"),
    ]


def test_a_function_that_cannot_be_asked_is_refused_at_start_up(tmp_path: Path) -> None:
    config = load({"STS_AGENT": "offline", "STS_CHOOSE_AGENT": "os:getcwd"}, tmp_path)
    with pytest.raises(ConfigError, match=r"^STS_CHOOSE_AGENT: expected an async function"):
        create_app(config)
    wrong: Any = len
    with pytest.raises(ConfigError, match=r"^choose_agent: expected an async function"):
        create_app(load({"STS_AGENT": "offline"}, tmp_path), choose_agent=wrong)

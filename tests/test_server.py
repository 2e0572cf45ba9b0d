"""The process: what it runs, that it ends, and how a call comes to it."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.testing
from rig_peers import CALL_SID, START, STOP, FakeAgent, FakeTwilio, dial, settle

from sts_trio.agents.choice import AgentChoice
from sts_trio.call.info import CallInfo, parameters
from sts_trio.config import load, local_key
from sts_trio.errors import Cause
from sts_trio.net.bound import Bound
from sts_trio.observe import events
from sts_trio.server import LONGEST_NOTICE, Server
from sts_trio.wire import deepgram_settings, twilio

BOUND = Bound("127.0.0.1", 5017, is_secure=False)
CALL = CallInfo(call_sid=CALL_SID)


@asynccontextmanager
async def a_process(
    directory: Path, monkeypatch: pytest.MonkeyPatch, **environ: str
) -> AsyncIterator[Server]:
    """One that runs, with an agent for each time that it dials. It is stopped afterwards."""
    server = Server(load({"DEEPGRAM_API_KEY": "key"} | environ, directory))
    async with trio.open_nursery() as agents, trio.open_nursery() as nursery:
        monkeypatch.setattr("sts_trio.server.open_agent", lambda *_: dial(agents, FakeAgent())())
        await nursery.start(server.run, [BOUND])
        yield server
        await server.stop()
        assert not nursery.child_tasks
        agents.cancel_scope.cancel()


def test_it_knows_no_http() -> None:
    code = "import sts_trio.server, sys; print(*{'quart', 'quart_trio'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_a_process_that_keeps_nothing_does_not_import_sqlalchemy() -> None:
    """A quarter of what a start takes."""
    code = "import sts_trio.web.app, sys; print(*{'sqlalchemy', 'alembic'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


async def test_what_it_has_opened_is_closed_when_stop_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = (BOUND.host, BOUND.port)
    server = Server(load({"DEEPGRAM_API_KEY": "key"}, tmp_path))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run, [BOUND])
        assert local_key.find(address) == server.key
        await server.stop()
        assert local_key.find(address) is None


async def test_where_it_listens_is_told_unless_somebody_else_does(tmp_path: Path) -> None:
    async def told(*, key_is_told: bool, bounds: list[Bound]) -> list[Any]:
        server = Server(load({"DEEPGRAM_API_KEY": "key"}, tmp_path))
        server.key_is_told = key_is_told
        with structlog.testing.capture_logs() as logs:
            async with trio.open_nursery() as nursery:
                await nursery.start(server.run, bounds)
                await server.stop()
        page = local_key.page_url("", server.key or "")
        return [
            each["url"].removesuffix(page)
            for each in logs
            if each["event"] == events.PageAddress.NAME
        ]

    assert await told(key_is_told=False, bounds=[BOUND]) == ["http://127.0.0.1:5017"]
    assert await told(key_is_told=False, bounds=[]) == ["http://WHERE-IT-LISTENS"]
    assert await told(key_is_told=True, bounds=[BOUND]) == []


async def test_everyone_is_hung_up_on_when_the_process_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    phones = [FakeTwilio(), FakeTwilio()]
    async with a_process(tmp_path, monkeypatch) as server:
        terminated = trio.Event()
        async with trio.open_nursery() as nursery:
            for phone in phones:
                server.shut_down_after(terminated.wait)
                nursery.start_soon(server.run_call, phone.open)
            for phone in phones:
                phone.tell(twilio.Connected(), START)
            await settle(phones[0])
            assert server.live_calls.live == 2
            terminated.set()
    assert [phone.goodbye and phone.goodbye[1] for phone in phones] == [1001, 1001]
    assert server.live_calls.live == 0
    ending = server.live_calls.ending_of(CALL_SID)
    assert ending is not None
    assert ending.cause is Cause.SHUTDOWN


@pytest.mark.parametrize(
    ("notice", "is_over", "dialled"),
    [
        ("", False, True),
        ("x" * LONGEST_NOTICE, False, True),
        ("x" * (LONGEST_NOTICE + 1), False, False),
        ("", True, False),
    ],
)
async def test_the_agent_of_an_announced_call_is_dialled_if_its_stream_comes_soon(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
    notice: str,
    is_over: bool,
    dialled: bool,
) -> None:
    environ = {"STS_SAY_NOTICE": notice} if notice else {}
    async with a_process(tmp_path, monkeypatch, **environ) as server:
        call = await server.announce(CALL, is_over=is_over)
        assert call.agent == "default"
        assert bool(call.line) == dialled
        assert server.agent_connections.state.dialled_ahead == dialled


def test_a_refused_call_is_logged_with_what_is_known_of_it(tmp_path: Path) -> None:
    server = Server(load({"DEEPGRAM_API_KEY": "key"}, tmp_path))
    with structlog.testing.capture_logs() as logs:
        server.refuse(CALL)
        server.refuse()
    assert [each["event"] for each in logs] == [events.CallRefused.NAME] * 2
    assert [each.get("call_sid") for each in logs] == [CALL_SID, None]


def test_a_server_that_drains_is_not_ready(tmp_path: Path) -> None:
    server = Server(load({"DEEPGRAM_API_KEY": "key"}, tmp_path))
    assert (server.live_calls.status, server.live_calls.live) == ("ready", 0)
    server.shut_down()
    assert (server.live_calls.status, server.live_calls.live) == ("draining", 0)


# --- who calls ------------------------------------------------------------------------------------

KNOWN = """
agents.default.greeting = "Hello {caller_name}!"
agents.default.variables.caller_name = "there"
"""


async def greetings(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_announced: bool,
    is_lost: bool = False,
    **found: Any,
) -> list[str]:
    """What the sessions of a call are told to greet with. One that is not announced here was
    announced to another process, which found out more than the name as well."""
    (directory / "sts-trio.toml").write_text(KNOWN)

    async def choose_agent(call: CallInfo) -> AgentChoice:
        return AgentChoice(**found)

    phone = FakeTwilio()
    agents = [FakeAgent(), FakeAgent()]
    waiting = iter(agents)
    config = load({"DEEPGRAM_API_KEY": "key", "STS_RECONNECT": "1"}, directory)
    server = Server(config, choose_agent=choose_agent)
    async with trio.open_nursery() as legs, trio.open_nursery() as nursery:
        monkeypatch.setattr("sts_trio.server.open_agent", lambda *_: dial(legs, next(waiting))())
        await nursery.start(server.run, [BOUND])
        call = msgspec.structs.replace(CALL, agent="default", is_tailored=True)
        if is_announced:
            call = await server.announce(CALL, is_over=False)
        given = msgspec.structs.replace(START.start, custom_parameters=parameters(call))
        async with trio.open_nursery() as tasks:
            tasks.start_soon(server.run_call, phone.open)
            phone.tell(twilio.Connected(), msgspec.structs.replace(START, start=given))
            await trio.sleep(0.2)
            if is_lost:
                await agents[0].drop()
                await trio.sleep(0.2)
            assert server.agent_connections.choice(CALL_SID).is_tailored is bool(found)
            phone.tell(STOP)
        assert server.agent_connections.choice(CALL_SID) == AgentChoice(), "it is kept"
        await server.stop()
        legs.cancel_scope.cancel()
    told = [message for agent in agents for message in agent.got]
    settings = [each.agent for each in told if isinstance(each, deepgram_settings.Settings)]
    return [each.get("greeting", "") for each in settings if isinstance(each, dict)]


@pytest.mark.parametrize("is_announced", [True, False])
@pytest.mark.parametrize(
    ("found", "greeting"),
    [
        ({}, "Hello there!"),
        ({"variables": {"caller_name": "Ann"}}, "Hello Ann!"),
        ({"greeting": "Welcome back!"}, "Welcome back!"),
        ({"settings": {"greeting": "Hola!"}}, "Hola!"),
    ],
)
async def test_the_agent_is_told_what_was_found_out_of_who_calls(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
    is_announced: bool,
    found: dict[str, Any],
    greeting: str,
) -> None:
    """Whether it was dialled while the phone rang, or in another process than was asked."""
    told = await greetings(tmp_path, monkeypatch, is_announced=is_announced, **found)
    assert told == [greeting]


async def test_a_session_that_takes_over_is_told_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Lost before its first word, so the next one greets."""
    found = {"variables": {"caller_name": "Ann"}}
    told = await greetings(tmp_path, monkeypatch, is_announced=True, is_lost=True, **found)
    assert told == ["Hello Ann!"] * 2

"""`sts-trio doctor`: each fault is found, with its cause and a cure, and nothing is guessed."""

import contextlib
import email.utils
import functools
import json
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import h11
import msgspec
import pytest
import trio
from rig_commands import run
from rig_peers import FakeAgent
from rig_server import world

from sts_trio.config import Config, load
from sts_trio.doctor import machine, network
from sts_trio.doctor.check_up import _in_thread, check_up
from sts_trio.doctor.findings import Finding, State, fault, fine, in_words, unknown
from sts_trio.outbound.twilio_rest import TwilioRest
from sts_trio.records.database import Database
from sts_trio.records.schema import VERSION, schema_version
from sts_trio.server import Server
from sts_trio.wire import deepgram

WITHIN = 60.0
TOKEN = "t" * 32
ACCOUNT = "AC" + "0" * 32
# {path: (status, body)}; the last of a path is what is answered from then on
Answers = dict[str, tuple[int, Any]]


def states(findings: list[Finding]) -> list[State]:
    return [each.state for each in findings]


def only(findings: list[Finding]) -> Finding:
    [found] = findings
    assert found.state is State.FINE or (
        found.cause and (found.cure or found.state is State.UNKNOWN)
    )
    return found


@contextlib.asynccontextmanager
async def answering(answers: Answers, **headers: str) -> AsyncIterator[str]:
    """An HTTP server on this machine; what it has no answer to is 404."""

    async def serve(stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        path = ""
        async with stream:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(bytes(await stream.receive_some(65536)))
                elif isinstance(event, h11.Request):
                    path = event.target.decode().partition("?")[0]
                elif isinstance(event, h11.EndOfMessage):
                    status, body = answers.get(path, (404, {}))
                    data = msgspec.json.encode(body)
                    told = {"Content-Length": str(len(data)), "Connection": "close", **headers}
                    answer = h11.Response(status_code=status, headers=list(told.items()))
                    for part in (answer, h11.Data(data=data), h11.EndOfMessage()):
                        await stream.send_all(connection.send(part) or b"")
                    return
                elif not isinstance(event, h11.Data):
                    return

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


def test_findings_are_a_line_each_with_cause_and_cure_below() -> None:
    lines = in_words([fine("disk", "there is room", 0.5), unknown("clock", "not known", "alone")])
    assert lines == [
        "fine    disk          there is room (500 ms)",
        "unknown clock         not known",
        "                      cause: alone",
        "",
        "1 unknown",
    ]
    assert in_words([fine("agent", "reached", 1.25)])[-1] == "all is fine"


def test_on_a_terminal_words_go_on_below_and_an_address_stays_whole() -> None:
    address = "https://" + "a" * 60
    found = fault("disk", f"it is full at {address}", "of words and of more words", "make room")
    assert in_words([found], 50) == [
        "fault   disk          it is full at",
        f"                      {address}",
        "                      cause: of words and of more",
        "                             words",
        "                      cure:  make room",
        "",
        "1 fault",
    ]
    assert in_words([found], 5) == in_words([found], 42), "there is no room for anything"


# --- the machine ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("hypercorn", "0.17.3"),
        ("hypercorn", "1.0.0"),
        ("quart", "0.23.0"),
        ("trio-websocket", "0.13"),
    ],
)
def test_a_version_that_is_known_to_be_bad_is_told(package: str, version: str) -> None:
    good = {"hypercorn": "0.18.1", "quart": "0.22.5", "trio-websocket": "0.12.2"}
    assert states(list(machine.versions(good.__getitem__))) == [State.FINE]
    found = only(list(machine.versions((good | {package: version}).__getitem__)))
    assert (found.state, found.found) == (State.FAULT, f"{package} {version}")
    assert "pip install" in found.cure


def configured(tmp_path: Path, **environ: str) -> Config:
    return load({"STS_AGENT": "offline"} | environ, tmp_path)


def kept_in(tmp_path: Path, name: str) -> Config:
    return configured(tmp_path, STS_DATABASE_URL=f"sqlite:///{tmp_path / name}")


def make_database(path: Path) -> Database:
    database = Database(f"sqlite:///{path}")
    database.open()
    database.close()
    return database


def test_a_database_is_looked_at_without_a_change(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    config = kept_in(tmp_path, "calls.db")
    assert "will be made" in only(list(machine.database(config))).found
    assert not path.exists()
    make_database(path)
    before = path.read_bytes(), sorted(each.name for each in tmp_path.iterdir())
    found = only(list(machine.database(config)))
    assert found.state is State.FINE
    assert f"schema {VERSION}" in found.found
    assert (path.read_bytes(), sorted(each.name for each in tmp_path.iterdir())) == before


@pytest.mark.parametrize(
    ("statement", "cause"),
    [
        ("CREATE TABLE invoices (id INTEGER)", "another program's"),
        (f"UPDATE {schema_version.name} SET version = 99, oldest = 98", "newer sts-trio"),
    ],
)
def test_a_database_that_is_not_fit_for_us_is_a_fault(
    tmp_path: Path, statement: str, cause: str
) -> None:
    path = tmp_path / "calls.db"
    if "UPDATE" in statement:
        make_database(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()
    found = only(list(machine.database(kept_in(tmp_path, "calls.db"))))
    assert found.state is State.FAULT
    assert cause in found.cause


def test_a_file_that_is_no_database_is_not_taken_for_one_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "calls.db").write_text("Dear diary, " * 100)
    found = only(list(machine.database(kept_in(tmp_path, "calls.db"))))
    assert (found.state, found.found) == (State.FAULT, "it is not fit for us")
    assert "not a database" in found.cause


def test_a_database_server_that_is_away_is_a_fault_and_waited_for(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    url = "postgresql+psycopg://nobody@127.0.0.1:1/calls"
    found = only(list(machine.database(configured(tmp_path, STS_DATABASE_URL=url))))
    assert (found.state, found.found) == (State.FAULT, "it does not answer")
    assert "rows wait on disk" in found.cure


def test_an_older_schema_is_brought_up_to_date_by_the_next_start(tmp_path: Path) -> None:
    make_database(tmp_path / "calls.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "calls.db")) as connection:
        connection.execute(f"UPDATE {schema_version.name} SET version = version - 1")
        connection.commit()
    found = only(list(machine.database(kept_in(tmp_path, "calls.db"))))
    assert found.state is State.FINE
    assert f"brings it to {VERSION}" in found.found


@pytest.mark.parametrize("url", ["sqlite:///", "mysql://x/y"])
def test_a_url_of_no_database_is_no_traceback(tmp_path: Path, url: str) -> None:
    config = kept_in(tmp_path, "calls.db")
    records = msgspec.structs.replace(config.records, database_url=url)
    found = only(list(machine.database(msgspec.structs.replace(config, records=records))))
    assert found.state is State.FAULT


@pytest.mark.parametrize(
    ("free", "state"), [(2**40, State.FINE), (2**30, State.ODD), (2**20, State.FAULT)]
)
def test_a_disk_that_runs_full_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: State
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    found = only(list(machine.disk(kept_in(tmp_path, "calls.db"))))
    assert found.state is state


def test_a_file_where_a_directory_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("")
    config = configured(
        tmp_path,
        STS_DATABASE_URL=f"sqlite:///{tmp_path / 'calls.db'}",
        STS_SPOOL=str(tmp_path / "spool" / "below"),
        STS_RECORD="1",
        STS_RECORDINGS=str(tmp_path / "recordings"),
    )
    spool, recordings = machine.disk(config)
    assert (spool.state, spool.found) == (State.FAULT, f"{tmp_path / 'spool'} is no directory")
    assert "STS_SPOOL" in spool.cure
    assert "GiB are free" in recordings.found


def test_a_port_that_another_program_has_is_a_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        found = only(list(machine.port("127.0.0.1", number)))
        assert (found.state, found.cause) == (State.FAULT, "by another program")
    assert "is free" in only(list(machine.port("127.0.0.1", number))).found
    nowhere = only(list(machine.port("192.0.2.1", 5000)))
    assert nowhere.state is State.FAULT


# --- agents ---------------------------------------------------------------------------------------


async def look_at_agents(
    tmp_path: Path, serve: Callable[[trio.SocketStream], Any], **environ: str
) -> list[Finding]:
    with trio.fail_after(WITHIN):
        async with trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/v1/agent/converse"
            server = Server(
                load({"DEEPGRAM_API_KEY": "k", "DEEPGRAM_URL": url} | environ, tmp_path)
            )
            endpoints = server.agent_connections.endpoints
            agents = network.agents(server.config, endpoints, None)
            connected, *found = [each async for each in agents]
            nursery.cancel_scope.cancel()
    assert (connected.state, "takes connections" in connected.found) == (State.FINE, True)
    return found


async def test_each_step_to_an_agent_is_told_with_its_time(tmp_path: Path) -> None:
    reached, applied = await look_at_agents(tmp_path, FakeAgent().serve)
    assert states([reached, applied]) == [State.FINE, State.FINE]
    assert "the key is accepted" in reached.found
    assert applied.found == "default: its settings are applied"
    assert reached.seconds is not None
    assert applied.seconds is not None


async def test_a_key_that_is_refused_is_told_apart_from_nobody_there(tmp_path: Path) -> None:
    found = only(await look_at_agents(tmp_path, FakeAgent(refuse=401).serve))
    assert (found.state, "401" in found.found) == (State.FAULT, True)
    assert "DEEPGRAM_API_KEY" in found.cure

    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.aclose()

    found = only(await look_at_agents(tmp_path, hang_up))
    assert (found.state, "no websocket" in found.found) == (State.FAULT, True)


async def test_settings_that_are_refused_are_told_in_the_agents_words(tmp_path: Path) -> None:
    agent = FakeAgent("applied")

    async def serve(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.serve, stream)
            while not agent.got:  # noqa: ASYNC110
                await trio.sleep(0.01)
            await agent.say(
                deepgram.AgentError(code="INVALID_SETTINGS", description="no such voice")
            )

    reached, refused = await look_at_agents(tmp_path, serve)
    assert reached.state is State.FINE
    assert refused.state is State.FAULT
    assert "INVALID_SETTINGS" in refused.cause
    assert "[agents.default]" in refused.cure


async def test_the_offline_agent_is_told_as_what_it_is(tmp_path: Path) -> None:
    config = configured(tmp_path, STS_OFFLINE_MODE="scripted")
    found = [each async for each in network.agents(config, [], None)]
    assert "scripted" in only(found).found


# --- the public URL -------------------------------------------------------------------------------


async def look_from_outside(config: Config) -> list[Finding]:
    """What is found behind the way there, which is no way of the internet's."""
    found = [each async for each in network.public_address(config)]
    if found[0].found == "127.0.0.1":
        assert found.pop(0).state is State.ODD
    return [each for each in found if "takes connections" not in each.found]


async def test_a_server_is_found_by_its_public_url_and_lets_twilio_in(tmp_path: Path) -> None:
    async with world(tmp_path, TWILIO_AUTH_TOKEN=TOKEN) as here:
        url = f"http://127.0.0.1:{here.address[1]}"
        config = configured(tmp_path, STS_PUBLIC_URL=url, TWILIO_AUTH_TOKEN=TOKEN)
        found = await look_from_outside(config)
        assert states(found) == [State.FINE] * 3, in_words(found)
        other = configured(tmp_path, STS_PUBLIC_URL=url, TWILIO_AUTH_TOKEN="o" * 32)
        leads, signed, upgraded = await look_from_outside(other)
        assert states([leads, signed, upgraded]) == [State.FINE, State.FAULT, State.FAULT]
        assert "another TWILIO_AUTH_TOKEN" in signed.cause
        closed = msgspec.structs.replace(config, bins=False)
        assert states(await look_from_outside(closed))[-1] is State.UNKNOWN
        look = functools.partial(machine.port, *here.address)
        port = only(await trio.to_thread.run_sync(lambda: list(look())))
        assert "a server of ours listens" in port.found
        await here.until_over()


async def test_a_proxy_that_drops_the_upgrade_is_a_fault(tmp_path: Path) -> None:
    answers: Answers = {"/healthz": (200, {"live": 0}), "/twiml/status": (200, {})}
    async with answering(answers) as url:
        config = configured(tmp_path, STS_PUBLIC_URL=url, TWILIO_AUTH_TOKEN=TOKEN)
        leads, signed, upgraded = await look_from_outside(config)
        assert states([leads, signed, upgraded]) == [State.FINE, State.FINE, State.FAULT]
        assert "Upgrade" in upgraded.cause


async def test_an_address_that_leads_elsewhere_or_nowhere_is_a_fault(tmp_path: Path) -> None:
    async with answering({"/": (200, {})}) as url:
        config = configured(tmp_path, STS_PUBLIC_URL=url, TWILIO_AUTH_TOKEN=TOKEN)
        found = only(await look_from_outside(config))
        assert (found.state, "HTTP 404" in found.found) == (State.FAULT, True)
    found = only(await look_from_outside(config))
    assert (found.state, "cannot be reached" in found.found) == (State.FAULT, True)


async def test_without_a_public_url_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    assert only(await look_from_outside(configured(tmp_path))).state is State.FINE
    phones = configured(tmp_path, TWILIO_AUTH_TOKEN=TOKEN)
    assert only(await look_from_outside(phones)).state is State.ODD


# --- the clock, and Twilio ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead", "state"), [(0.0, State.FINE), (-20.0, State.ODD), (3600.0, State.FAULT)]
)
async def test_a_clock_that_is_wrong_is_told(ahead: float, state: State) -> None:
    date = email.utils.formatdate(time.time() - ahead, usegmt=True)
    async with answering({}, Date=date) as url:
        assert (await network.clock(["http://127.0.0.1:1", url])).state is state


async def test_without_somebody_who_tells_the_time_nothing_is_said_of_the_clock() -> None:
    async with answering({}) as url:
        assert (await network.clock([url])).state is State.UNKNOWN


def twilio_with(url: str, status: str = "active") -> Answers:
    base = f"/2010-04-01/Accounts/{ACCOUNT}"
    number = {"phone_number": "+15005550006", "voice_url": url, "sid": "PN1"}
    listed = {"incoming_phone_numbers": [number] if url != "none" else [], "uri": "", "page": 0}
    return {
        f"{base}.json": (200, {"sid": ACCOUNT, "status": status, "type": "Full"}),
        f"{base}/IncomingPhoneNumbers.json": (200, listed),
    }


async def look_at_twilio(tmp_path: Path, answers: Answers) -> list[Finding]:
    async with answering(answers) as api:
        config = configured(
            tmp_path, STS_PUBLIC_URL="https://voice.example", TWILIO_AUTH_TOKEN=TOKEN
        )
        rest = TwilioRest(ACCOUNT, TOKEN, api=api, jitter=lambda: 0.0)
        return [each async for each in network.twilio(config, rest)]


@pytest.mark.parametrize(
    ("url", "state"),
    [
        ("https://voice.example/twiml", State.FINE),
        ("https://voice.example/twiml/#rc=2", State.FINE),
        ("https://old.example/twiml", State.ODD),
        ("", State.ODD),
        ("none", State.ODD),
    ],
)
async def test_where_numbers_lead_is_told(tmp_path: Path, url: str, state: State) -> None:
    account, number = await look_at_twilio(tmp_path, twilio_with(url))
    assert (account.state, number.state) == (State.FINE, state)


async def test_an_account_that_is_suspended_or_denied_is_a_fault(tmp_path: Path) -> None:
    account, _ = await look_at_twilio(tmp_path, twilio_with("", "suspended"))
    assert (account.state, "suspended" in account.found) == (State.FAULT, True)
    denied: Answers = {f"/2010-04-01/Accounts/{ACCOUNT}.json": (401, {"code": 20003})}
    found = only(await look_at_twilio(tmp_path, denied))
    assert (found.state, "of one account" in found.cure) == (State.FAULT, True)


# --- all of it ------------------------------------------------------------------------------------


async def test_what_never_answers_is_given_up_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sts_trio.doctor.check_up.LONGEST", 0.1)
    over = threading.Event()

    def look(*_: object) -> Iterator[Finding]:
        over.wait(WITHIN)
        yield fine("database", "there")

    try:
        found = only(await _in_thread("database", look))
        assert (found.state, found.subject) == (State.UNKNOWN, "database")
    finally:
        over.set()


async def test_a_configuration_that_is_wrong_is_the_one_fault_and_the_rest_is_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sts-trio.toml").write_text("max_calls = 'many'")
    _, configuration, *rest = await check_up(None, "127.0.0.1", 0)
    assert configuration.state is State.FAULT
    assert "max_calls" in configuration.cause
    assert set(states(rest)) == {State.UNKNOWN}
    assert len(rest) == 7


def test_the_command_prints_all_and_fails_where_there_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"STS_AGENT": "offline", "STS_OFFLINE_MODE": "scripted"}.items():
        monkeypatch.setenv(name, value)
    told = run("doctor", "--port", "0")
    assert told.exit_code == 0, told.output
    for subject in ("versions", "configuration", "database", "disk", "port", "agent", "clock"):
        assert f" {subject} " in told.output
    monkeypatch.setenv("STS_PUBLIC_URL", "http://127.0.0.1:1")
    told = run("doctor", "--port", "0", "--json")
    assert told.exit_code == 1
    findings = [json.loads(line) for line in told.stdout.splitlines()]
    [wrong] = [each for each in findings if each["state"] == "fault"]
    assert wrong["subject"] == "public URL"
    assert wrong["cause"]
    assert wrong["cure"]

"""The commands: what they print, and with what status they end."""

import base64
import errno
import hmac
import http.server
import itertools
import json
import os
import re
import socket
import struct
import sys
import threading
import wave
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from click.testing import CliRunner
from limits import HANG
from rig_commands import NUMBER, a_wav, failure, run

from sts_trio import __version__, cli, config
from sts_trio.audio import wav
from sts_trio.commands import dial as dialling
from sts_trio.commands.call_options import signer
from sts_trio.config import local_key
from sts_trio.demo import moved
from sts_trio.demo import run as demo
from sts_trio.demo.scenarios import Scenario, scenarios
from sts_trio.demo.scenarios import moved as moved_call
from sts_trio.observe import events
from sts_trio.observe.feed import call_event
from sts_trio.offline import mode as modes
from sts_trio.offline.protocol import server as offline
from sts_trio.offline.protocol.script import CallFunction, Script, Silence
from sts_trio.simulate import caller, follow, picture
from sts_trio.simulate.connect import NotConnected
from sts_trio.simulate.follow import NotTold
from sts_trio.simulate.media_stream import Sids
from sts_trio.simulate.phone import Moment
from sts_trio.simulate.report import Report, Turn
from sts_trio.simulate.screen import Screen
from sts_trio.simulate.script import HangUp, Keys, Speak, WaitForSpeech
from sts_trio.simulate.transcript import AGENT, CALLER, Line
from sts_trio.simulate.webhook import NUMBERS, Numbers, Sign
from sts_trio.testing import Agent, Inventory, Server, Step, running, scripted_agent
from sts_trio.testing import call as call_bridge
from sts_trio.web.app import App

REPORT = Report(
    seconds=13.7,
    frames_sent=687,
    agent_received=9.5,
    agent_heard=9.4,
    first_agent_audio=0.02,
    agent_spans=((0.02, 2.1), (6.1, 12.7)),
    turns=(Turn(3.6, 5.6, wait=0.5, talked_over=0.24),),
    clears=1,
    marks=17,
    refused={31951: 2},
    first_refusal="no streamSid",
    out_of_time=True,
    closed_by="caller",
    close_code=1000,
    said=b"\xff" * 80,
    heard=b"\x00" * 160,
    call_sid="CA0001",
)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


# --- the group ------------------------------------------------------------------------------------


def test_help_names_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert re.findall(r"^  (\w+)  ", result.stdout, re.MULTILINE) == [
        "agent",
        "call",
        "calls",
        "check",
        "demo",
        "dial",
        "doctor",
        "load",
        "replay",
        "serve",
        "tasks",
    ]


@pytest.mark.parametrize("group", [(), ("calls",)])
def test_what_help_says_of_a_command_is_a_whole_sentence_on_a_terminal_of_80_columns(
    group: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, _, commands = run(*group, "--help").stdout.partition("Commands:\n")
    lines = commands.splitlines()
    assert len(lines) >= 9
    assert [line for line in lines if "..." in line or not line.endswith((".", "…"))] == []


@pytest.mark.parametrize("command", ["agent", "call", "calls", "demo", "dial", "doctor", "serve"])
def test_every_command_explains_itself(command: str) -> None:
    assert run(command, "-h").exit_code == 0


def test_the_version_is_told() -> None:
    assert run("--version").stdout.endswith(f" {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("bogus",), "No such command 'bogus'"),
        (("serve", "--port", "99999"), "99999 is not in the range"),
        (("serve", "--keep-alive", "0"), "0.0 is not in the range"),
        (("serve", "--config", "gone.toml"), "File 'gone.toml' does not exist"),
        (("serve", "--certfile", "gone.pem"), "File 'gone.pem' does not exist"),
        (("agent", "--mode", "shouting"), "'shouting' is not one of"),
        (("call", "--seconds", "0"), "0 is not in the range"),
        (("call", "gone.wav"), "gone.wav: no such file"),
    ],
)
def test_what_is_asked_for_wrongly_is_told_in_one_line(
    arguments: tuple[str, ...], reason: str
) -> None:
    assert reason in failure(*arguments, code=2)


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(*args: Any, **kwargs: Any) -> None:
        async with trio.open_nursery():
            raise KeyboardInterrupt

    monkeypatch.setattr(offline, "serve", interrupted)
    result = run("agent")
    assert result.exit_code == 130
    assert result.stderr == ""


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(offline, "serve", broken)
    result = CliRunner().invoke(cli.main, ["agent"])
    assert isinstance(result.exception, ExceptionGroup)


# --- serve ----------------------------------------------------------------------------------------


def test_a_mistake_in_the_configuration_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STS_MAX_CALLS", "many")
    assert failure("serve", code=2) == (
        "Error: STS_MAX_CALLS: expected a whole number from 1 to 100000, got 'many'"
    )


def test_a_file_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("colour = 'red'\n")
    assert "other.toml: colour: unknown key" in failure("serve", "--config", "other.toml", code=2)


def test_a_port_that_is_taken_is_told(taken_port: int) -> None:
    told = failure("serve", "--port", str(taken_port), code=2)
    assert f"cannot listen on 127.0.0.1:{taken_port}" in told


@pytest.mark.parametrize(
    ("environ", "options", "port"),
    [
        ({}, (), 5000),
        ({"PORT": "8080"}, (), 8080),
        ({"PORT": "8080"}, ("--port", "0"), 0),
        ({"PORT": ""}, (), 5000),
    ],
)
def test_a_platform_names_the_port_unless_the_operator_does(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], options: tuple[str, ...], port: int
) -> None:
    import sts_trio.web.serve

    async def serve(
        *_: Any, port: int, task_status: trio.TaskStatus[str], **options: object
    ) -> None:
        listened.append(port)
        task_status.started("http://somewhere")

    listened: list[int] = []
    monkeypatch.delenv("PORT", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sts_trio.web.serve, "serve", serve)
    assert run("serve", *options).exit_code == 0
    assert listened == [port]


def test_a_port_of_the_platforms_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "tcp://10.0.0.1:5000")
    assert failure("serve", code=2) == (
        "Error: PORT: expected a whole number from 0 to 65535, got 'tcp://10.0.0.1:5000'"
    )


@pytest.mark.parametrize(
    ("environ", "port"),
    [({}, 5000), ({"PORT": "1"}, 1), ({"PORT": "0"}, 5000), ({"PORT": " "}, 5000)],
)
def test_a_server_of_this_environment_is_looked_for_where_it_listens(
    bridge: "Bridge", monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], port: int
) -> None:
    monkeypatch.delenv("PORT", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STS_ADMIN_TOKEN", "operators-own")
    assert run("call", "--say", "Hello.").exit_code == 0
    assert bridge.url == f"ws://127.0.0.1:{port}/twilio"
    asked: list[tuple[object, ...]] = []

    def refuse(address: tuple[str, int], *_: object, **options: object) -> None:
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)
    for command in (("tasks",), ("dial", "+15005550010")):
        assert f"http://127.0.0.1:{port}" in failure(*command, code=1)
    assert asked == [("127.0.0.1", port)] * 2


def test_a_port_that_is_none_is_told_by_who_looks_for_a_server_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORT", "any")
    for command in (("call",), ("tasks",), ("dial", "+15005550010")):
        told = failure(*command, code=2)
        assert told == "Error: PORT: expected a whole number from 0 to 65535, got 'any'"


def test_a_certificate_without_its_key_is_told_whoever_has_the_port(
    tmp_path: Path, taken_port: int
) -> None:
    (tmp_path / "cert.pem").write_text("")
    arguments = ("--certfile", "cert.pem", "--port", str(taken_port))
    assert "--keyfile" in failure("serve", *arguments, code=2)


def test_serve_tells_where_it_listens_and_what_to_do_next(monkeypatch: pytest.MonkeyPatch) -> None:
    import sts_trio.web.serve

    async def serve(
        settings: config.Config,
        *,
        app: App,
        task_status: trio.TaskStatus[str],
        **options: Any,
    ) -> None:
        assert options == {
            "host": "::1",
            "port": 8443,
            "certfile": None,
            "keyfile": None,
            "keep_alive": 620.0,
            "take_over": False,
            "descriptors": range(3, 3),
        }
        assert app.server.key_is_told
        app.server.key = "of-this-run"
        task_status.started("http://[::1]:8443")

    monkeypatch.setattr(sts_trio.web.serve, "serve", serve)
    monkeypatch.setattr(modes, "missing", lambda: None)
    command = ("serve", "--host", "::1", "--port", "8443", "--keep-alive", "620")
    result = run(*command)
    assert result.exit_code == 0
    monkeypatch.setattr(modes, "missing", lambda: "it takes pocketsphinx")
    scripted = run(*command).stdout
    assert "the offline one (scripted)" in scripted
    assert "says its lines in turn: it takes pocketsphinx\n" in scripted
    assert result.stdout == (
        "Listening on http://[::1]:8443\n"
        "Agent: the offline one (ears). Set DEEPGRAM_API_KEY for a real one.\n"
        "Calls are not kept: STS_DATABASE_URL says so.\n"
        "\n"
        "Without a phone:  http://[::1]:8443/?key=of-this-run in a browser, or\n"
        "  sts-trio call FILE.wav --url ws://[::1]:8443/twilio\n"
        "With Twilio:      your number's webhook is https://YOUR-HOST/twiml,\n"
        "  or a TwiML Bin with\n"
        '  <Response><Connect><Stream url="wss://YOUR-HOST/twilio"/></Connect></Response>\n'
        "  YOUR-HOST leads here, for instance by a tunnel to http://[::1]:8443\n"
        "  Set TWILIO_AUTH_TOKEN before anything leads here. Without it only who has the key\n"
        "  above is let in: a proxy that adds no header, and whatever forwards TCP (ssh -R,\n"
        "  socat, ngrok tcp), look like this machine, so the key is all that keeps others out.\n"
    )


def test_a_server_that_is_set_up_is_not_told_what_it_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environ = {
        "DEEPGRAM_API_KEY": "secret-key",
        "TWILIO_AUTH_TOKEN": "secret-token",
        "STS_PUBLIC_URL": "https://phone.example.com/a",
    }
    settings = config.load(environ, tmp_path)

    async def serve(*_: Any, task_status: trio.TaskStatus[str], **__: Any) -> None:
        task_status.started("https://127.0.0.1:5000")

    import sts_trio.web.serve

    monkeypatch.setattr(sts_trio.web.serve, "serve", serve)
    monkeypatch.setattr(config, "from_environment", lambda file: settings)
    told = run("serve").stdout
    assert "Agent: Deepgram at wss://agent.deepgram.com/v1/agent/converse\n" in told
    assert "https://phone.example.com/a/twiml" in told
    assert '<Stream url="wss://phone.example.com/a/twilio"/>' in told
    assert "/ in a browser, once STS_ADMIN_TOKEN is set, or\n" in told
    assert "--url wss://127.0.0.1:5000/twilio --signed\n" in told
    assert "YOUR-HOST" not in told
    assert "secret" not in told
    assert "key=" not in told
    assert "look like this machine" not in told
    assert "TWILIO_AUTH_TOKEN" not in told


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        (
            {"STS_AGENT": "offline", "DEEPGRAM_API_KEY": "key"},
            "Agent: the offline one (ears). STS_AGENT says so.",
        ),
        (
            {"STS_AGENT": "offline", "TWILIO_AUTH_TOKEN": "t", "STS_ADMIN_TOKEN": "a"},
            "http://127.0.0.1:5000/ in a browser, with STS_ADMIN_TOKEN as the password, or\n"
            "  sts-trio call FILE.wav --url ws://127.0.0.1:5000/twilio --signed\n",
        ),
        (
            {"STS_AGENT": "offline", "TWILIO_AUTH_TOKEN": "t", "STS_BINS": "0"},
            "  sts-trio call FILE.wav --url http://127.0.0.1:5000/twiml --signed\n"
            "With Twilio:      your number's webhook is https://YOUR-HOST/twiml\n"
            "  YOUR-HOST leads here",
        ),
        (
            {"STS_AGENT": "offline", "STS_ALLOW_UNSIGNED": "1"},
            "  Whoever gets here is answered: STS_ALLOW_UNSIGNED is set.\n",
        ),
        (
            {"STS_AGENT": "offline", "STS_DATABASE_URL": "sqlite:////var/calls.db"},
            "Calls are kept in /var/calls.db for 30 days.\n"
            "Flights of calls that end by a fault are kept in /var/calls.flights, for sts-trio"
            " replay.\n\n",
        ),
        (
            {
                "STS_AGENT": "offline",
                "STS_DATABASE_URL": "sqlite:////var/calls.db",
                "STS_FLIGHT": "0",
            },
            "Calls are kept in /var/calls.db for 30 days.\n\n",
        ),
        (
            {
                "STS_AGENT": "offline",
                "STS_DATABASE_URL": "none",
                "STS_FLIGHT": "all",
                "STS_FLIGHTS": "/var/flights",
            },
            "Calls are not kept: STS_DATABASE_URL says so.\n"
            "Flights of all calls are kept in /var/flights, for sts-trio replay.\n",
        ),
        (
            {
                "STS_AGENT": "offline",
                "STS_DATABASE_URL": "postgresql+psycopg://me:secret@db.example.com/calls",
                "STS_KEEP_DAYS": "0",
                "STS_RECORD": "1",
                "STS_RECORDINGS": "/var/recordings",
            },
            "Calls are kept in postgresql+psycopg://me:***@db.example.com/calls for ever.\n"
            "Both sides are recorded into /var/recordings.\n",
        ),
        (
            {
                "STS_AGENT": "offline",
                "STS_DATABASE_URL": "sqlite:////var/calls.db",
                "STS_KEEP_WORDS": "0",
                "STS_KEEP_DAYS": "0.5",
            },
            "Calls are kept without their words in /var/calls.db for 0.5 days.\n",
        ),
        (
            {"STS_AGENT": "offline"},
            "Listening on http://127.0.0.1:5000, and all other addresses of this machine\n",
        ),
    ],
)
def test_what_serve_tells_to_do_can_be_done(
    environ: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sts_trio.web.serve

    async def serve(*_: Any, task_status: trio.TaskStatus[str], **__: Any) -> None:
        task_status.started("http://127.0.0.1:5000")

    settings = config.load(environ, tmp_path)
    monkeypatch.setattr(sts_trio.web.serve, "serve", serve)
    monkeypatch.setattr(modes, "missing", lambda: None)
    monkeypatch.setattr(config, "from_environment", lambda file: settings)
    assert told in run("serve", "--host", "0.0.0.0").stdout


# --- agent ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "missing", "mode", "told"),
    [
        ((), None, "ears", ""),
        (("--mode", "scripted"), None, "scripted", ""),
        ((), "it takes pocketsphinx", "scripted", "Scripted: it takes pocketsphinx\n"),
    ],
)
def test_the_agent_tells_where_it_is_reached(
    arguments: tuple[str, ...],
    missing: str | None,
    mode: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def serve(
        host: str,
        port: int,
        *,
        mode: modes.Mode,
        script: Script | None,
        task_status: trio.TaskStatus[int],
    ) -> None:
        assert (host, port, script) == ("127.0.0.1", 0, None)
        served.append(mode.value)
        task_status.started(40404)

    served: list[str] = []
    monkeypatch.setattr(modes, "missing", lambda: missing)
    monkeypatch.setattr(offline, "serve", serve)
    result = run("agent", "--port", "0", *arguments)
    assert served == [mode]
    assert result.stderr == told
    assert f"({mode}) listens on ws://127.0.0.1:40404/v1/agent/converse\n" in result.stdout
    assert "DEEPGRAM_URL=ws://127.0.0.1:40404/v1/agent/converse sts-trio serve" in result.stdout


@pytest.mark.parametrize("missing", [None, "it takes pocketsphinx"])
def test_the_agent_says_the_lines_of_a_file(
    missing: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In words, where there is a voice for them."""

    async def serve(*args: Any, task_status: trio.TaskStatus[int], **options: Any) -> None:
        served.append((options["mode"].value, options["script"].lines))
        task_status.started(40404)

    served: list[tuple[str, Any]] = []
    monkeypatch.setattr(modes, "missing", lambda: missing)
    monkeypatch.setattr(offline, "serve", serve)
    (tmp_path / "my.script").write_text('Hello.\n@call look_up {"order": 7}\n@silence\n')
    result = run("agent", "--script", "my.script")
    lines = ("Hello.", CallFunction("look_up", {"order": 7}), Silence())
    assert served == [("ears" if missing is None else "scripted", lines)]
    assert "(my.script) listens on" in result.stdout
    assert result.stderr == ("" if missing is None else f"A voice without words: {missing}\n")


def test_a_file_that_is_no_script_is_told_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "my.script").write_text("Hello.\n@wait 3\n")
    told = failure("agent", "--mode", "scripted", "--script", "my.script", code=2)
    assert told.startswith("Error: my.script, line 2: expected @call NAME")
    told = failure("agent", "--mode", "scripted", "--script", "nowhere", code=2)
    assert told == "Error: nowhere: cannot be read: No such file or directory"


def test_ears_that_are_asked_for_and_missing_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modes, "missing", lambda: "it takes pocketsphinx")
    told = failure("agent", "--mode", "ears", code=2)
    assert told == "Error: --mode ears: it takes pocketsphinx"


def test_a_name_that_none_can_be_is_told() -> None:
    told = failure("agent", "--mode", "scripted", "--host", "a..b", code=2)
    assert told.startswith("Error: cannot listen on a..b:")
    assert "no call: a..b:80: " in failure("call", "--url", "ws://a..b/twilio", code=3)


def test_an_address_that_the_agent_cannot_have_is_told(taken_port: int) -> None:
    told = failure("agent", "--mode", "scripted", "--port", str(taken_port), code=2)
    assert told.startswith(f"Error: cannot listen on 127.0.0.1:{taken_port} (")
    assert "another --host or --port" in told


# --- check ----------------------------------------------------------------------------------------

PROJECT = """
functions = ["shop"]

[agents]
stored = "00000000-0000-4000-8000-000000000000"

[agents.default]
greeting = "Hello!"
listen.provider = { type = "deepgram", model = "nova-3" }
think.provider = { type = "open_ai", model = "gpt-4o-mini" }
think.endpoint = { url = "https://llm.example", headers = { authorization = "bearer s3cret" } }
think.prompt = "You sell cars."

[agents.sales]
greeting = "Hello {caller_name}!"
variables = { caller_name = "there", amount = 0 }
think.provider = { type = "google", model = "gemini-2.5-flash" }

[numbers]
"+15005550006" = "sales"
"""
FUNCTIONS = '''
from datetime import date
from sts_trio import function

@function
async def book(car: str, day: date) -> str:
    """Book a test drive.

    Args:
        car: Which one.
    """
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "sts-trio.toml").write_text(PROJECT)
    (tmp_path / "shop.py").write_text(FUNCTIONS)
    yield tmp_path
    sys.modules.pop("shop", None)


def test_check_prints_who_answers_and_what_the_models_are_told(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPGRAM_API_KEY", "s3cret-key")
    result = run("check")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:11] == [
        "Configuration: sts-trio.toml",
        "Answers: Deepgram at wss://agent.deepgram.com/v1/agent/converse",
        "Agents:",
        "  stored: stored as 00000000-0000-4000-8000-000000000000; functions: book",
        "  default: listen deepgram nova-3; think open_ai gpt-4o-mini; functions: book",
        "  sales: think google gemini-2.5-flash; functions: book; variables: caller_name, amount",
        "Numbers:",
        "  +15005550006: sales",
        "  all others: default",
        "Functions, as the models are told of them:",
        "for default:",
    ]
    schema = re.compile(r"^for (.*):\n(\{\n(?:.*\n)*?\})$", re.MULTILINE)
    told = {names: json.loads(text) for names, text in schema.findall(result.stdout)}
    assert told["default"]["description"] == "Book a test drive."
    assert told["default"]["parameters"]["properties"] == {
        "car": {"type": "string", "description": "Which one."},
        "day": {"type": "string", "format": "date"},
    }
    day = told["sales"]["parameters"]["properties"]["day"]
    assert day == {"type": "string", "description": "format: date"}
    assert "s3cret" not in result.output
    assert "Warning: agents.stored: a stored agent cannot be told of functions" in result.stdout


def test_check_tells_a_mistake_in_one_line(project: Path) -> None:
    (project / "shop.py").write_text("1 / 0\n")
    told = failure("check", code=2)
    assert told.endswith(f"ZeroDivisionError: division by zero ({project / 'shop.py'}, line 1)")
    (project / "other.toml").write_text("max_call = 7\n")
    assert "did you mean max_calls?" in failure("check", "--config", "other.toml", code=2)


def test_check_tells_what_a_database_lacks_and_opens_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STS_DATABASE_URL", "sqlite:///calls.db")
    assert run("check").exit_code == 0
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("STS_DATABASE_URL", "postgresql://ann:secret@127.0.0.1:1/calls")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert failure("check", code=2).endswith("takes psycopg: pip install 'sts-trio[postgres]'")


def test_check_needs_no_file() -> None:
    result = run("check")
    assert result.exit_code == 0
    assert result.stdout.startswith("Configuration: no file, the environment alone\n")
    assert "Functions: none" in result.stdout


# --- call -----------------------------------------------------------------------------------------


class Bridge:
    """Stands in for a call: notes what was asked for, and gives a report or an error."""

    def __init__(self, result: Report | NotConnected) -> None:
        self.result = result
        self.url = ""
        self.steps: list[Any] = []
        self.limit = 0.0
        self.sign: Sign | None = None
        self.parameters: dict[str, str] = {}
        self.numbers = NUMBERS
        self.tells: list[tuple[float, str, dict[str, Any]]] = []  # of the call, if anything
        self.key: str | None = None
        self.notice = ""  # what the carrier says first, for 2.3 s

    async def follow(
        self,
        url: str,
        call_sid: str,
        hear: Callable[..., None],
        *,
        key: str,
        last: str,
        has_begun: Callable[[], None],
    ) -> None:
        self.key = key
        if not self.tells:
            raise NotTold("the bridge tells of no events")
        has_begun()
        for event in self.tells:
            hear(*event)

    async def place_call(
        self,
        url: str,
        steps: list[Any],
        *,
        limit: float,
        sign: Sign | None,
        watch: Callable[[Moment], None],
        parameters: dict[str, str],
        is_busy: Callable[[float], bool],
        sids: Sids,
        numbers: Numbers,
    ) -> Report:
        self.url, self.steps, self.limit, self.sign = url, steps, limit, sign
        self.parameters, self.numbers = parameters, numbers
        if self.notice:
            watch(Moment(2.3, False, False, announced=self.notice))
        await trio.testing.wait_all_tasks_blocked()
        watch(Moment(0.02, False, True, stretches=1))
        watch(Moment(3.6, True, True, saying="one.wav", stretches=1))
        watch(Moment(6.1, False, True, stretches=2, wait=0.5))
        if isinstance(self.result, NotConnected):
            raise self.result
        return self.result

    @property
    def said(self) -> list[str]:
        return [step.text for step in self.steps if isinstance(step, Speak)]


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> Bridge:
    bridge = Bridge(REPORT)
    monkeypatch.setattr(caller, "place_call", bridge.place_call)
    monkeypatch.setattr(follow, "follow", bridge.follow)
    return bridge


def test_a_call_says_its_wavs_and_reports(bridge: Bridge, tmp_path: Path) -> None:
    clips = [a_wav(tmp_path / name) for name in ("one.wav", "two.wav")]
    result = run("call", *clips, "--url", "ws://bridge.test/twilio", "--out", "a/b/rec.wav")
    assert result.exit_code == 0
    assert bridge.url == "ws://bridge.test/twilio"
    assert bridge.said == ["one.wav", "two.wav"]
    assert bridge.steps[-1] == HangUp()
    assert bridge.limit == 120.0
    assert bridge.sign is None
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines == [
        "0.0 s agent (speaks)",
        "3.6 s caller barges in one.wav",
        "6.1 s agent after 0.50 s (speaks)",
        "length 13.7 s, hung up by the caller",
        "sent 687 frames of 20 ms",
        "agent 9.4 s heard of 9.5 s received",
        "first heard 0.02 s",
        "answered after 0.50 s",
        "silent after barge-in 0.24 s",
        "marks, clears 17, 1",
        "Twilio warning 31951 2 messages; the first: no streamSid",
        "limit reached: the caller hung up",
        "The agent's words are not known: no `sts-trio serve` is known there; give its ?key= or"
        " STS_ADMIN_TOKEN if it is one",
        "Recording: a/b/rec.wav, transcript: a/b/rec.txt",
    ]


def test_texts_are_said_after_the_wavs(bridge: Bridge, tmp_path: Path) -> None:
    result = run("call", "--say", "Hello.", a_wav(tmp_path / "one.wav"), "--say", "Goodbye.")
    assert result.exit_code == 0
    assert bridge.said == ["one.wav", "Hello.", "Goodbye."]
    assert all(step.audio for step in bridge.steps if isinstance(step, Speak))


def test_a_voice_without_words_is_told(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modes, "missing", lambda: "pip install -e '.[demo]'")
    result = run("call", "--say", "This was not said before.")
    assert result.exit_code == 0
    assert result.stderr == (
        "the voice of the base install says no words (pip install -e '.[demo]')\n"
    )
    assert bridge.said == ["This was not said before."]


def test_a_voice_that_does_not_work_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("libespeak-ng.so: cannot open shared object file")

    monkeypatch.setattr(modes, "missing", lambda: None)
    monkeypatch.setattr("sts_trio.simulate.spoken._speech", broken)
    told = failure("call", "--say", "Nobody has said this yet.", code=1)
    assert told == (
        "Error: the voice does not work: libespeak-ng.so: cannot open shared object file"
    )


def test_a_text_without_a_word_is_told() -> None:
    assert "there is nothing in it to be said" in failure("call", "--say", " ", code=2)


def test_a_caller_may_barge_in(bridge: Bridge, tmp_path: Path) -> None:
    clips = [a_wav(tmp_path / name) for name in ("one.wav", "two.wav")]
    assert run("call", *clips, "--barge-in-after", "1.5").exit_code == 0
    waits = [step.duration for step in bridge.steps if isinstance(step, WaitForSpeech)]
    assert waits == [1.5, 1.5]


def test_the_recording_has_the_caller_on_the_left_and_the_agent_on_the_right(
    bridge: Bridge, tmp_path: Path
) -> None:
    assert run("call", "--out", "here").exit_code == 0
    recording, words = sorted((tmp_path / "here").iterdir(), key=lambda path: path.suffix)[::-1]
    assert words == recording.with_suffix(".txt")
    assert re.fullmatch(r"call-\d{8}-\d{6}\.wav", recording.name)
    with wave.open(str(recording)) as file:
        assert (file.getnchannels(), file.getnframes()) == (2, 160)
        assert struct.unpack("<hh", file.readframes(1)) == (0, -32124)


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        (
            {"closed_by": "bridge", "close_code": 1011},
            5,
            "the bridge closed with code 1011 after 13.7 s",
        ),
        (
            {"agent_spans": (), "refused": {}},
            4,
            "nothing was heard: 9.5 s of audio came, all silent",
        ),
    ],
)
def test_a_call_that_was_not_proper_fails_with_the_reason_and_keeps_its_recording(
    changes: dict[str, Any], status: int, told: str, bridge: Bridge, tmp_path: Path
) -> None:
    bridge.result = msgspec.structs.replace(REPORT, **changes)
    assert failure("call", "--out", "rec.wav", code=status) == f"Error: {told}"
    assert (tmp_path / "rec.wav").exists()


def test_machines_get_one_object_of_json(bridge: Bridge) -> None:
    result = run("call", "--json", "--out", "rec.wav")
    assert result.exit_code == 0
    facts = msgspec.json.decode(result.stdout)
    assert (facts["result"], facts["fault"], facts["recording"]) == ("proper", None, "rec.wav")
    assert facts["turns"] == [
        {"began": 3.6, "ended": 5.6, "wait": 0.5, "talked_over": 0.24, "text": ""}
    ]
    assert facts["call_sid"] == "CA0001"
    assert facts["refused"] == {"31951": 2}
    assert not {"said", "heard", "began"} & facts.keys()


def test_machines_are_told_of_a_failure_in_json_and_by_the_status(bridge: Bridge) -> None:
    bridge.result = NotConnected("HTTP 503", 503)
    result = run("call", "--json")
    assert result.exit_code == 3
    assert msgspec.json.decode(result.stdout) == {
        "result": "no_call",
        "fault": "no call: HTTP 503 (all lines are busy, or it is shutting down)",
        "status": 503,
    }
    assert result.stderr.startswith("Error: no call: HTTP 503")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1:5000/twilio",
        "http://127.0.0.1:99999/twiml",
        "https:///twiml",
        "127.0.0.1:5000",
        "ws://127.0.0.1:99999/twilio",
        "ws://127.0.0.1:1/ä",
        "ws://127.0.0.1:1/a b",
    ],
)
def test_what_is_no_address_is_asked_for_wrongly(url: str) -> None:
    assert f"--url {url}: not a " in failure("call", "--say", "Hello.", "--url", url, code=2)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (NotConnected("HTTP 403: Refused.", 403), "give --signed and the TWILIO_AUTH_TOKEN"),
        (NotConnected("HTTP 403: Refused.", 403), "With STS_BINS=0 only its webhook"),
        (NotConnected("HTTP 404", 404), "sts-trio's websocket is /twilio"),
        (NotConnected("HTTP 400", 400), "sts-trio's websocket is /twilio"),
        (NotConnected("HTTP 503", 503), "all lines are busy"),
        (NotConnected("HTTP 500", 500), "HTTP 500"),
        (NotConnected("no answer to the handshake"), "no answer"),
    ],
)
def test_a_refusal_says_what_to_do(bridge: Bridge, error: NotConnected, hint: str) -> None:
    bridge.result = error
    told = failure("call", code=3)
    assert told.startswith(f"Error: no call: {error}")
    assert hint in told


def test_a_port_where_nobody_listens_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    told = failure("call", "--url", f"ws://127.0.0.1:{port}/twilio", code=3)
    assert "is `sts-trio serve` running?" in told


def test_a_name_that_is_no_text_is_told_all_the_same(bridge: Bridge, tmp_path: Path) -> None:
    """A file may have any bytes for a name."""
    name = os.fsdecode(b"rec-\xff.wav")
    assert r"Recording: rec-\udcff.wav" in run("call", "--out", name).stdout
    assert (tmp_path / name).exists()
    facts = msgspec.json.decode(run("call", "--json", "--out", name).stdout)
    assert facts["recording"] == r"rec-\udcff.wav"
    assert r"x-\udcff.wav: no such file" in failure("call", os.fsdecode(b"x-\xff.wav"), code=2)


def test_a_place_that_cannot_be_written_is_told_before_anybody_is_called(
    bridge: Bridge, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert "file: expected a directory, got a file" in failure(
        "call", "--out", "file/rec.wav", code=2
    )
    assert bridge.url == ""


@pytest.mark.parametrize("name", ["rec.wav", "rec.txt"])
def test_a_file_that_cannot_be_written_is_told_before_anybody_is_called(
    name: str, bridge: Bridge, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    assert f"{name}: cannot be written" in failure("call", "--out", "rec.wav", code=2)
    assert bridge.url == ""


def test_a_file_of_another_kind_is_no_place_for_a_recording(bridge: Bridge, tmp_path: Path) -> None:
    told = failure("call", "--out", "rec.mp3", code=2)
    assert told == "Error: --out rec.mp3: expected a directory, or a file ending in .wav"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.b").mkdir()
    assert run("call", "--out", "a.b").exit_code == 0


def test_where_there_is_no_call_no_file_is_left(bridge: Bridge, tmp_path: Path) -> None:
    bridge.result = NotConnected("gone")
    assert run("call", "--out", "rec.wav").exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_a_recording_that_cannot_be_written_after_all_is_told(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*what: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(wav, "write", full)
    told = failure("call", "--out", "rec.wav", code=1)
    assert told == "Error: rec.wav: cannot be written: No space left on device"


def test_what_is_said_and_pressed_comes_in_the_order_in_which_it_was_given(
    bridge: Bridge, tmp_path: Path
) -> None:
    one = a_wav(tmp_path / "one.wav")
    run("call", "--keys", "1#", "--say", "Hi.", one, "--keys", "2d", "--say", "Bye.")
    acts = [each for each in bridge.steps if isinstance(each, Speak | Keys)]
    assert [each.text if isinstance(each, Speak) else each.keys for each in acts] == [
        "one.wav",
        "1#",
        "Hi.",
        "2D",
        "Bye.",
    ]


def test_what_is_no_key_is_told(bridge: Bridge) -> None:
    told = failure("call", "--keys", "1 2", code=2)
    assert told == "Error: --keys: expected keys of a phone, 0123456789*#ABCD, got '1 2'"


def test_a_websocket_is_told_who_calls_whom_as_a_bin_tells_it(bridge: Bridge) -> None:
    options = ("--from", "sip:a@b.example", "--to", "+15005550001", "--agent", "sales")
    run("call", *options, "--parameter", "order=7=8", "--parameter", "empty=")
    assert bridge.parameters == {
        "order": "7=8",
        "empty": "",
        "from": "sip:a@b.example",
        "to": "+15005550001",
        "agent": "sales",
    }
    run("call")
    assert bridge.parameters == {}


def test_a_webhook_is_told_who_calls_whom_and_decides_who_answers(bridge: Bridge) -> None:
    url = ("--url", "http://127.0.0.1:1/twiml")
    run("call", *url, "--from", "anonymous", "--to", "+15005550001", "--parameter", "a=b")
    assert bridge.numbers == Numbers("anonymous", "+15005550001")
    assert bridge.parameters == {"a": "b"}
    run("call", *url)
    assert bridge.numbers == NUMBERS
    assert "--agent: a webhook decides" in failure("call", *url, "--agent", "sales", code=2)


@pytest.mark.parametrize("given", ["order", "=7"])
def test_a_parameter_without_a_name_is_told(given: str, bridge: Bridge) -> None:
    told = failure("call", "--parameter", given, code=2)
    assert told == f"Error: --parameter {given!r}: expected NAME=VALUE"


def test_words_are_found_by_the_callers_time_which_a_notice_comes_before(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    happened = [
        (0.0, events.CallStarted("CA1", "MZ1", direction="inbound")),
        (0.1, events.CallTranscript("agent", "Hello!")),
        (3.9, events.CallTranscript("agent", "We have three.")),
    ]
    bridge.tells = [(at, event.NAME, event.fields()) for at, event in happened]
    bridge.notice = "This call is recorded."
    monkeypatch.setattr(local_key, "find", lambda address: "the-key")
    result = run("call", "--out", "rec.wav")
    assert "Twilio                This call is recorded." in result.stdout
    first, *_, last = (tmp_path / "rec.txt").read_text().splitlines()
    assert first.endswith("agent   Hello!")
    assert last.endswith("agent   We have three.")


def test_the_words_of_both_are_told_and_written_beside_the_recording(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    happened = [
        (0.0, events.CallTranscript("agent", "Hello!")),
        (5.0, events.CallTranscript("user", "what cars")),
        (5.2, events.CallTranscript("agent", "We have three. \x1b[2J")),
        (7.0, events.CallHeard("We have three.", "We have", 2.0, 1.0)),
    ]
    bridge.tells = [(at, event.NAME, event.fields()) for at, event in happened]
    bridge.tells += [(7.0, events.CallTranscript.NAME, {"role": 7}), (8.0, "of.tomorrow", {})]
    monkeypatch.setattr(local_key, "find", lambda address: "the-key")
    result = run("call", "--out", "rec.wav")
    assert bridge.key == "the-key"
    assert "not known" not in result.stdout
    assert "Hello!" in result.stdout
    assert "\x1b" not in result.stdout
    written = (tmp_path / "rec.txt").read_text()
    assert "agent   Hello!" in written
    facts = msgspec.json.decode(run("call", "--json", "--out", "rec.wav").stdout)
    assert facts["words"] == "rec.txt"
    assert any(line.get("text") == "Hello!" for line in facts["transcript"])


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("ws://127.0.0.1:1/twilio", "0123456789-admin-token"),
        ("http://localhost:1/twiml", "0123456789-admin-token"),
        ("wss://phone.example/twilio", "0123456789-admin-token"),
        ("wss://phone.example/twilio?key=of-the-run", "of-the-run"),
        # Nobody else's server is told the operator's token, nor that there is one.
        ("ws://phone.example/twilio", None),
        ("wss://other.example/twilio", None),
        ("ws://10.0.0.1/twilio", None),
        ("wss://127.0.0.1.other.example/twilio", None),
    ],
)
def test_only_a_server_of_the_operators_is_asked_for_the_words(
    url: str, key: str | None, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STS_ADMIN_TOKEN", "0123456789-admin-token")
    monkeypatch.setenv("STS_PUBLIC_URL", "https://phone.example")
    run("call", "--url", url)
    assert bridge.key == key


def test_a_configuration_that_is_wrong_is_no_reason_not_to_call(
    bridge: Bridge, tmp_path: Path
) -> None:
    (tmp_path / "sts-trio.toml").write_text("colour = 'red'\n")
    assert run("call").exit_code == 0
    assert bridge.key is None


async def test_a_running_server_tells_the_words(tmp_path: Path) -> None:
    """Through the page's own route, with the key of its run."""
    async with scripted_agent("It is on its way.") as agent, running(agent=agent) as server:
        arguments = ("call", "--say", "Where is it?", "--url", server.url, "--out", "rec.wav")
        result = await trio.to_thread.run_sync(run, *arguments)
    assert result.exit_code == 0, result.output
    written = (tmp_path / "rec.txt").read_text().splitlines()
    agent_lines = [line for line in written if " agent " in line]
    assert agent_lines[0].endswith("Hello! How can I help you today?")
    assert agent_lines[1].endswith("It is on its way.")
    assert any("caller  Where is it?" in line for line in written)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.wav", b"", "empty.wav: the file is empty"),
        ("text.wav", b"hello", "text.wav: not a WAV file"),
        ("gone.wav", None, "gone.wav: no such file"),
    ],
)
def test_a_file_that_cannot_be_said_is_told_in_one_line(
    name: str, content: bytes | None, told: str, bridge: Bridge, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert told in failure("call", a_wav(tmp_path / "good.wav"), name, code=2)
    assert bridge.url == ""


# --- signed calls ---------------------------------------------------------------------------------

BRIEFLY: list[Step] = [WaitForSpeech(0.1), HangUp()]


async def test_a_signed_call_is_let_in_by_the_bridge_and_an_unsigned_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "secret-token,older-token")
    variables = {"TWILIO_AUTH_TOKEN": "secret-token", "STS_LOG_LEVEL": "error"}
    with trio.fail_after(HANG):
        async with scripted_agent() as agent, running(variables, agent=agent) as server:
            for url in (server.url, server.webhook):
                report = await call_bridge(url, BRIEFLY, sign=signer())
                assert report.fault is None
                with pytest.raises(NotConnected, match="HTTP 403"):
                    await call_bridge(url, BRIEFLY)


async def test_a_local_bridge_with_a_public_url_is_signed_for_by_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "secret-token")
    monkeypatch.setenv("STS_PUBLIC_URL", "https://phone.example.com/a")
    variables = {
        "TWILIO_AUTH_TOKEN": "secret-token",
        "STS_PUBLIC_URL": "https://phone.example.com/a",
        "STS_LOG_LEVEL": "error",
    }
    with trio.fail_after(HANG):
        async with scripted_agent() as agent, running(variables, agent=agent) as server:
            report = await call_bridge(server.url, BRIEFLY, sign=signer())
            # So is the webhook, which has the call streamed to there.
            sign, signed = signer(), []

            def note(url: str, form: Mapping[str, str]) -> Mapping[str, str]:
                signed.append(url)
                if url.startswith("wss://"):
                    raise NotConnected("nobody is there")
                return sign(url, form)

            with pytest.raises(NotConnected, match="nobody is there"):
                await call_bridge(server.webhook, BRIEFLY, sign=note)
            assert signed[1].startswith("wss://phone.example.com/a/twilio/")
    assert report.fault is None
    # Anybody else's bridge has its own address.
    assert sign("wss://bridge.test/twilio", {}) != sign("wss://127.0.0.1/twilio", {})


async def test_a_stream_is_signed_for_as_wss_also_where_the_public_url_is_http(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    public = {"TWILIO_AUTH_TOKEN": "secret-token", "STS_PUBLIC_URL": "http://127.0.0.1:5000"}
    for name, value in public.items():
        monkeypatch.setenv(name, value)
    variables = {**public, "STS_LOG_LEVEL": "error"}
    with trio.fail_after(HANG):
        async with scripted_agent() as agent, running(variables, agent=agent) as server:
            report = await call_bridge(server.url, BRIEFLY, sign=signer())
    assert report.fault is None


def test_the_signature_goes_with_the_call(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "secret-token")
    assert run("call", "--signed", "--url", "wss://bridge.test/twilio").exit_code == 0
    # For a handshake there is no form: what is signed is the URL.
    digest = hmac.digest(b"secret-token", b"wss://bridge.test/twilio", "sha1")
    assert bridge.sign is not None
    signed = bridge.sign("wss://bridge.test/twilio", {})
    assert signed == {"X-Twilio-Signature": base64.b64encode(digest).decode()}
    digest = hmac.digest(b"secret-token", b"https://bridge.test/twiml?x=1CallSidCA1To+1", "sha1")
    signed = bridge.sign("https://bridge.test/twiml?x=1", {"To": "+1", "CallSid": "CA1"})
    assert signed == {"X-Twilio-Signature": base64.b64encode(digest).decode()}


def test_to_sign_takes_a_token(bridge: Bridge) -> None:
    assert "TWILIO_AUTH_TOKEN is not set" in failure("call", "--signed", code=2)
    assert bridge.url == ""


# --- demo -----------------------------------------------------------------------------------------

BOOKING, HANG_UP, RECONNECT, DEAD_AGENT = scenarios()
MOVED = moved_call()
LINES = (Line(0.1, 2.0, AGENT, "Hello!"), Line(3.6, 5.6, CALLER, "Hi.", silenced=0.24))
NOTHING = Inventory({}, 0)


def outcome(scenario: Scenario, **changes: Any) -> demo.Outcome:
    events = ((13.7, "the end"),)
    good = demo.Outcome(scenario, REPORT, LINES, events, 0.0125, None, None, NOTHING, ())
    return msgspec.structs.replace(good, **changes)


def demonstrate(monkeypatch: pytest.MonkeyPatch, *outcomes: demo.Outcome) -> None:
    """The server and the agent are real; the calls, which take a minute, have these outcomes."""
    waiting = list(outcomes)

    async def play(
        scenario: Scenario, server: Server, agent: Agent, audience: Screen
    ) -> demo.Outcome:
        assert waiting[0].scenario.name == scenario.name
        assert [each.url for each in server.app.server.agent_connections.endpoints] == [agent.url]
        for line in LINES:
            audience.tell(line)
        return waiting.pop(0)

    async def play_moved(scenario: Scenario, agent: Agent, audience: Screen) -> demo.Outcome:
        assert (waiting, scenario.name) == ([], MOVED.name)
        for line in LINES:
            audience.tell(line)
        return outcome(MOVED, silence=1.1, absence=(5.0, 6.0))

    monkeypatch.setattr(demo, "play", play)
    monkeypatch.setattr(moved, "play", play_moved)


def test_a_demonstration_tells_who_spoke_when_and_writes_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A key and a file that are there for something else change nothing.
    monkeypatch.setenv("DEEPGRAM_API_KEY", "secret-key")
    (tmp_path / "sts-trio.toml").write_text("colour = 'red'\n")
    lost = outcome(RECONNECT, silence=0.74, absence=(5.0, 7.5))
    gone = outcome(DEAD_AGENT, silence=0.0, absence=(5.0, 13.7))
    demonstrate(monkeypatch, outcome(BOOKING), outcome(HANG_UP), lost, gone)
    result = run("demo", "--out", "recordings")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "recordings").iterdir()) == [
        f"{stem}.{kind}"
        for stem in ("1-booking", "2-hang-up", "3-reconnect", "4-dead-agent", "5-moved")
        for kind in ("jsonl", "png", "wav")
    ]
    lines = (tmp_path / "recordings" / "1-booking.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=Line) for line in lines] == list(LINES)
    assert result.stdout.count("barges in") == 5
    assert re.search(r"booking +1 +0\.50 s +0\.24 s +- +12 ms +0, 0 +ok", result.stdout)
    assert re.search(r"reconnect .* 0\.74 s +12 ms", result.stdout)
    assert re.search(r"dead-agent .* < 0\.5 s +12 ms", result.stdout)
    assert re.search(r"moved .* 1\.10 s +12 ms", result.stdout)
    for way in ("http://127.0.0.1:5000/", "DEEPGRAM_API_KEY", "TWILIO_AUTH_TOKEN", "/twiml"):
        assert way in result.stdout


def test_a_demonstration_that_went_wrong_says_what_and_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = outcome(BOOKING, faults=("the bridge sent no clear", "something is left of it"))
    lost = outcome(HANG_UP, report=None, faults=("no call: HTTP 503",), closed_after=None)
    left = outcome(DEAD_AGENT, left=Inventory({"task": 2}, None))
    demonstrate(monkeypatch, broken, lost, outcome(RECONNECT), left)
    result = run("demo")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: booking: the bridge sent no clear; booking: something is left of it; "
        "hang-up: no call: HTTP 503\n"
    )
    assert re.search(r"hang-up +- +- +- +- +- +0, 0 +failed", result.stdout)
    assert re.search(r"dead-agent .* 2, \? +ok", result.stdout)


def test_no_line_of_a_demonstration_in_a_pipe_ends_with_spaces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = ("what went wrong is told in more words than a line of the terminal has",)
    broken = outcome(BOOKING, faults=long, slowness=long)
    demonstrate(monkeypatch, broken, *map(outcome, (HANG_UP, RECONNECT, DEAD_AGENT)))
    monkeypatch.setenv("COLUMNS", "40")
    lines = run("demo").stdout.splitlines()
    assert "Slow" in "".join(lines)
    assert [line for line in lines if line != line.rstrip()] == []


def test_nothing_that_is_said_in_a_demonstration_gets_out_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On the terminal, in the pictures or in the transcripts, whoever says it."""
    evil = "\x1b]0;pwned\x07\x9b2J\u202e[red]$\\frac{[/red]$\n\ud800"
    shown = r"\x1b]0;pwned\x07\x9b2J\u202e[red]$\frac{[/red]$\n\ud800"
    lines = (Line(0.1, 2.0, AGENT, evil, understood=evil, heard=evil),)
    broken = outcome(BOOKING, faults=(evil,), lines=lines, events=((1.0, evil),))
    demonstrate(monkeypatch, broken, *map(outcome, (HANG_UP, RECONNECT, DEAD_AGENT)))
    monkeypatch.setenv("COLUMNS", "200")
    result = run("demo")
    assert result.exit_code == 1
    assert f"  {shown}\n" in result.stdout
    assert result.stderr == f"Error: booking: {shown}\n"
    assert all(line.isprintable() for line in result.stdout.splitlines())
    transcript = (tmp_path / "sts-trio-demo" / "1-booking.jsonl").read_text()
    [line] = [msgspec.json.decode(each, type=Line) for each in transcript.splitlines()]
    assert (line.text, line.understood, line.heard) == (shown, shown, shown)
    assert (tmp_path / "sts-trio-demo" / "1-booking.png").exists()


@pytest.mark.parametrize(
    ("load", "excuse"), [(0.5, ""), (8.0, " (this machine is busy: load 8.0, 2 cores)")]
)
def test_what_took_too_long_in_a_demonstration_is_a_note_and_no_failure(
    load: float, excuse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = tuple(Turn(at, at + 1, wait=1.2, talked_over=None) for at in (3.0, 6.0))
    notes = ("an answer came 1.6 s after the caller had spoken",)
    report = msgspec.structs.replace(REPORT, turns=turns)
    slow = outcome(BOOKING, report=report, slowness=notes)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 1.0, 1.0), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(picture, "draw", lambda *what: None)
    dead = outcome(DEAD_AGENT, report=slow.report)
    demonstrate(monkeypatch, slow, outcome(HANG_UP), outcome(RECONNECT), dead)
    result = run("demo")
    assert result.exit_code == 0
    assert re.search(r"booking .* slow *\n", result.stdout)
    assert (
        f"Slow{excuse}:\n"
        "  booking: an answer came 1.6 s after the caller had spoken\n"
        "  half of the answers took longer than 1.20 s\n"
    ) in result.stdout
    assert "All as it should be" in result.stdout


def test_without_matplotlib_a_demonstration_says_what_is_missing_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    demonstrate(monkeypatch, *map(outcome, scenarios()))
    result = run("demo")
    assert result.exit_code == 0
    assert result.stdout.count("pip install -e '.[demo]'") == 1
    assert not list((tmp_path / "sts-trio-demo").glob("*.png"))
    assert len(list((tmp_path / "sts-trio-demo").iterdir())) == 10


def test_without_ears_a_demonstration_says_what_is_missing_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(modes, "missing", lambda: "it takes pocketsphinx")
    monkeypatch.setattr(picture, "draw", lambda *what: None)
    demonstrate(monkeypatch, *map(outcome, scenarios()))
    result = run("demo")
    assert result.exit_code == 0
    assert "recognises no words and says its lines in turn: it takes pocketsphinx" in result.stdout


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be made" in failure("demo", "--out", "file/recordings", code=2)


def test_a_file_that_cannot_be_written_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "out" / "1-booking.jsonl").mkdir(parents=True)
    demonstrate(monkeypatch, *map(outcome, scenarios()))
    assert "1-booking.jsonl: cannot be written" in failure("demo", "--out", "out", code=1)


# --- dial -----------------------------------------------------------------------------------------

STARTED = events.CallStarted("CA1", "MZ1")


class Exchange:
    """What `dial` sees of a server: one answer to its request, and the events of the call."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []  # (path, order, headers)
        self.status = 201
        self.answer: Any = {"call_sid": "CA1", "status": "queued"}
        self.events_status = 200
        self.events: list[bytes] = []
        self.drops = False
        self.url = ""

    def happen(self, event: events.OfCall) -> None:
        self.events.append(b"id: e-1\ndata: %s\n\n" % call_event("CA1", 0.0, event).json)

    def say(self, role: str, text: str) -> None:
        self.happen(events.CallTranscript(role, text))


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> Iterator[Exchange]:
    exchange = Exchange()
    # A server that another test has killed may have left a key for the same port.
    monkeypatch.setattr("sts_trio.config.local_key.directories", list)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            exchange.asked.append((self.path, msgspec.json.decode(body), dict(self.headers)))
            if not exchange.drops:
                is_text = isinstance(exchange.answer, str)
                body = exchange.answer.encode() if is_text else msgspec.json.encode(exchange.answer)
                self.reply(exchange.status, body)

        def do_GET(self) -> None:
            exchange.asked.append((self.path, {}, dict(self.headers)))
            self.reply(exchange.events_status, b"retry: 2000\n\n" + b"".join(exchange.events))

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Nothing to the terminal."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        exchange.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield exchange
        server.shutdown()
        thread.join()


def test_dial_asks_for_a_call_as_the_operator(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STS_ADMIN_TOKEN", "s3cret")
    options = ["--agent", "sales", "--parameter", "name=Ann", "--parameter", "x=1=2"]
    options += ["--on-machine", "leave-message", "--message", "Call back.", "--no-follow"]
    result = run("dial", NUMBER, *options, "--url", f"{exchange.url}/prefix/")
    assert (result.exit_code, result.stdout) == (0, "Call CA1\n")
    [(path, order, headers)] = exchange.asked
    assert path == "/prefix/calls"
    assert order == {
        "to": NUMBER,
        "agent": "sales",
        "parameters": {"name": "Ann", "x": "1=2"},
        "on_machine": "leave_message",
        "message": "Call back.",
    }
    assert headers["Authorization"] == "Bearer s3cret"
    assert headers["Content-Type"] == "application/json"
    assert len(headers["Idempotency-Key"]) >= 20


def test_dial_tells_what_is_said_until_the_call_ends(exchange: Exchange) -> None:
    exchange.happen(events.CallStatus("initiated"))
    exchange.happen(events.CallStatus("ringing"))
    exchange.happen(STARTED)
    exchange.happen(events.CallStatus("in-progress"))
    exchange.say("assistant", "Hello!")
    exchange.happen(events.CallAnsweredBy("machine_end_beep"))
    exchange.events.append(b":\n\nevent: missed\ndata: 7\n\n")
    exchange.say("user", "Yes?\x1b[31m")
    exchange.happen(events.CallStatus("completed"))  # Twilio may be the quicker one
    exchange.happen(events.CallEnded(ending="stop", verdict="success", seconds=12.5, detail=""))
    exchange.say("user", "after the end")
    result = run("dial", NUMBER, "--url", exchange.url)
    assert result.stdout.splitlines() == [
        "Call CA1",
        "Dialling ...",
        "Ringing ...",
        "Answered.",
        "agent: Hello!",
        "Answered by: machine end beep",
        "... 7 events were missed ...",
        f"{NUMBER}: Yes?\\x1b[31m",
        "Over.",
        "Ended after 12.5 s: stop",
    ]
    assert result.exit_code == 0
    assert "Authorization" not in exchange.asked[1][2]


def test_what_the_terminal_has_no_letters_for_is_written_out(exchange: Exchange) -> None:
    exchange.say("assistant", "Grüße, 你好")
    exchange.happen(events.CallEnded("你", "ours", "", 1.0))
    result = CliRunner(charset="latin-1").invoke(cli.main, ["dial", NUMBER, "--url", exchange.url])
    assert result.exit_code == 1
    assert "agent: Grüße, \\u4f60\\u597d" in result.stdout
    assert result.stderr == "Error: the call ended: \\u4f60\n"


def test_dial_fails_where_the_agent_or_the_server_did(exchange: Exchange) -> None:
    exchange.happen(STARTED)
    exchange.happen(
        events.CallEnded(ending="agent_lost", verdict="agent", seconds=2, detail="code 1006")
    )
    result = run("dial", NUMBER, "--url", exchange.url)
    assert "Ended after 2 s: agent_lost (code 1006)" in result.stdout
    assert (result.exit_code, result.stderr) == (1, "Error: the call ended: agent_lost\n")


@pytest.mark.parametrize("status", ["busy", "no-answer", "failed", "canceled", "completed"])
def test_dial_fails_where_nobody_was_talked_with(exchange: Exchange, status: str) -> None:
    exchange.happen(events.CallStatus(status))
    exchange.say("user", "not read any more")
    told = failure("dial", NUMBER, "--url", exchange.url, code=1)
    assert told == "Error: there was no conversation"


def test_dial_follows_no_call_that_nothing_is_heard_of(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes = itertools.count(0.0, 60.0)
    monkeypatch.setattr(dialling, "monotonic", lambda: next(minutes))
    exchange.happen(events.CallStatus("ringing"))
    exchange.events += [b":\n\n"] * 4
    told = failure("dial", NUMBER, "--url", exchange.url, code=1)
    assert told.startswith("Error: nothing is heard of the call: does STS_PUBLIC_URL lead to")
    exchange.events.clear()
    exchange.happen(STARTED)
    exchange.events += [b":\n\n"] * 9
    exchange.happen(events.CallEnded("stop", "success", "", 500.0))
    assert run("dial", NUMBER, "--url", exchange.url).exit_code == 0


@pytest.mark.parametrize(
    ("status", "told"), [(200, "went away before the call ended"), (503, "HTTP 503")]
)
def test_dial_tells_when_there_is_nothing_to_follow(
    exchange: Exchange, status: int, told: str
) -> None:
    exchange.events_status = status
    assert told in failure("dial", NUMBER, "--url", exchange.url, code=1)


@pytest.mark.parametrize(
    ("status", "answer", "told", "code"),
    [
        (400, {"error": "to: expected\na number", "why": "invalid"}, r"to: expected\na number", 2),
        (403, {"error": "set STS_DIAL_PREFIXES", "why": "prefix"}, "set STS_DIAL_PREFIXES", 2),
        (409, {"error": "another request"}, "another request", 2),
        (429, {"error": "today's 100 calls are used up"}, "today's 100 calls are used up", 1),
        (502, {"error": "Twilio: HTTP 400, 21211: No."}, "Twilio: HTTP 400, 21211: No.", 1),
    ],
)
def test_dial_tells_why_there_is_no_call(
    exchange: Exchange, status: int, answer: Any, told: str, code: int
) -> None:
    exchange.status, exchange.answer = status, answer
    assert failure("dial", NUMBER, "--url", exchange.url, code=code) == f"Error: {told}"


@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [(404, "<!DOCTYPE HTML>\n<html>\n", 2), (201, "[]", 1)],
)
def test_dial_tells_that_a_server_is_none_of_ours(
    exchange: Exchange, status: int, answer: str, code: int
) -> None:
    exchange.status, exchange.answer = status, answer
    told = failure("dial", NUMBER, "--url", exchange.url, code=code)
    assert told == f"Error: HTTP {status} from {exchange.url}: is that a `sts-trio serve`?"


@pytest.mark.parametrize("status", [500, 502, 504])
def test_dial_tells_that_a_call_may_have_been_placed_though_it_cannot_be_known(
    exchange: Exchange, status: int
) -> None:
    """Whoever just asks again has somebody rung twice."""
    exchange.status, exchange.answer = status, "<html>Gateway timeout</html>"
    told = failure("dial", NUMBER, "--url", exchange.url, code=1)
    key = exchange.asked[0][2]["Idempotency-Key"]
    assert told.startswith(f"Error: HTTP {status} from {exchange.url}. The call may have been")
    assert told.endswith(f"--idempotency-key {key}")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/ä", "http://127.0.0.1:1/a b", "http://ä:1"])
def test_dial_takes_no_address_that_could_not_be_written(url: str) -> None:
    assert f"--url {url}: expected a URL" in failure("dial", NUMBER, "--url", url, code=2)


def test_dial_tells_of_a_name_that_none_can_be() -> None:
    assert "cannot be reached" in failure("dial", NUMBER, "--url", "http://a..b:1", code=1)


def test_dial_takes_no_key_that_the_server_would_not() -> None:
    for key in ("ключ", "a b", "x" * 256):
        told = failure("dial", NUMBER, "--idempotency-key", key, code=2)
        expected = "Error: --idempotency-key: expected 1 to 255 visible ASCII characters, got "
        assert told.startswith(f"{expected}'{key[:70]}")


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("s3cret", "the server's STS_ADMIN_TOKEN is another than the one here"),
        ("", "give the STS_ADMIN_TOKEN that the server has; it may have none yet"),
    ],
)
def test_dial_tells_a_missing_token_from_a_wrong_one(
    exchange: Exchange, token: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STS_ADMIN_TOKEN", token)
    exchange.status, exchange.answer = 401, "Refused: this is for the machine\n"
    assert failure("dial", NUMBER, "--url", exchange.url, code=2) == f"Error: HTTP 401: {told}"


def test_dial_tells_how_to_ask_again_without_calling_twice(exchange: Exchange) -> None:
    exchange.status, exchange.answer = 502, {"error": "Twilio: no answer", "uncertain": True}
    told = failure("dial", NUMBER, "--url", exchange.url, "--idempotency-key", "mine", code=1)
    assert told.startswith("Error: Twilio: no answer. The call may have been placed.")
    assert told.endswith("--idempotency-key mine")
    exchange.drops = True
    told = failure("dial", NUMBER, "--url", exchange.url, code=1)
    key = exchange.asked[1][2]["Idempotency-Key"]
    assert told.endswith(f"--idempotency-key {key}")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_dial_tells_that_nobody_is_there(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    told = failure("dial", NUMBER, "--url", f"{scheme}://127.0.0.1:{port}", code=1)
    assert "cannot be reached: Connection refused: is `sts-trio serve` running?" in told


def test_the_admin_token_is_sent_to_nobody_in_plain(exchange: Exchange) -> None:
    told = failure("dial", NUMBER, "--url", exchange.url.replace("http", "https"), code=1)
    assert "cannot be reached" in told
    assert exchange.asked == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--url", "ftp://a"], "expected a URL like http://127.0.0.1:5000"),
        (["--url", "http://a:port"], "expected a URL like http://127.0.0.1:5000"),
        (["--url", "http://[a"], "expected a URL like http://127.0.0.1:5000"),
        (["--url", "http://bridge.example.com"], "the admin token would cross the network"),
        (["--parameter", "name"], "expected NAME=VALUE"),
        (["--parameter", "=value"], "expected NAME=VALUE"),
        (["--on-machine", "shout"], "'shout' is not one of"),
    ],
)
def test_what_dial_is_asked_for_wrongly_is_told(
    options: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STS_ADMIN_TOKEN", "s3cret")
    line = failure("dial", NUMBER, *options, code=2)
    assert told in line
    assert "s3cret" not in line


@pytest.mark.parametrize("number", ["foo", "15005550010", "+0", "+1 500 555 0010", "sip:ann@x"])
def test_a_number_that_is_none_is_not_dialled(exchange: Exchange, number: str) -> None:
    told = failure("dial", number, "--url", exchange.url, code=2)
    assert told == f"Error: expected a number like +15005550006, got '{number}'"
    assert exchange.asked == []


def test_ctrl_c_leaves_the_call_alone_and_says_so(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sts_trio.commands import dial

    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dial, "_follow", interrupted)
    result = run("dial", NUMBER, "--url", exchange.url)
    assert (result.exit_code, result.stdout) == (130, "Call CA1\n")
    assert "the call goes on" in result.stderr

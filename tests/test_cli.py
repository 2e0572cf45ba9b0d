"""The commands: what they print, and with what status they end."""

import logging
import os
import re
import socket
import struct
import wave
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
from click.testing import CliRunner, Result

from sts_trio import __version__, cli, config
from sts_trio.offline import server as offline
from sts_trio.simulate import caller, demo
from sts_trio.simulate.caller import NotConnected
from sts_trio.simulate.manners import HangUp, Speak
from sts_trio.simulate.phone import Moment
from sts_trio.simulate.report import Report, Turn

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
)


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No variable of the developer's, no file in the working directory, no log set up by us."""
    for variable in os.environ:
        if variable.startswith(("DEEPGRAM_", "STS_", "TWILIO_", "FORCE_COLOR")):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    # Ours would write to the stderr of a runner that is gone.
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.main, arguments)
    # Anything but these is a traceback at the operator's terminal.
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def failure(*arguments: str, code: int) -> str:
    """The one line that a command fails with."""
    result = run(*arguments)
    assert result.exit_code == code
    *usage, line = result.stderr.strip().splitlines()
    assert all(each.startswith(("Usage:", "Try ")) or not each for each in usage)
    assert line.startswith("Error: ")
    return line


def a_wav(path: Path, seconds: float = 0.1) -> str:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack("<h", 9000) * int(8000 * seconds))
    return str(path)


# --- the group ------------------------------------------------------------------------------------


def test_help_names_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert re.findall(r"^  (\w+)  ", result.stdout, re.MULTILINE) == [
        "agent",
        "call",
        "demo",
        "serve",
    ]


@pytest.mark.parametrize("command", ["agent", "call", "demo", "serve"])
def test_every_command_explains_itself(command: str) -> None:
    assert run(command, "-h").exit_code == 0


def test_the_version_is_told() -> None:
    assert run("--version").stdout.endswith(f" {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("bogus",), "No such command 'bogus'"),
        (("serve", "--port", "99999"), "99999 is not in the range"),
        (("serve", "--config", "gone.toml"), "File 'gone.toml' does not exist"),
        (("serve", "--certfile", "gone.pem"), "File 'gone.pem' does not exist"),
        (("agent", "--mode", "ears"), "'ears' is not 'scripted'"),
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


def test_a_certificate_without_its_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("")
    assert "--keyfile" in failure("serve", "--certfile", "cert.pem", code=2)


def test_serve_tells_where_it_listens_and_what_to_do_next(monkeypatch: pytest.MonkeyPatch) -> None:
    import sts_trio.serve

    async def serve(
        settings: config.Config,
        *,
        task_status: trio.TaskStatus[str],
        **options: Any,
    ) -> None:
        assert options == {"host": "::1", "port": 8443, "certfile": None, "keyfile": None}
        task_status.started("http://[::1]:8443")

    monkeypatch.setattr(sts_trio.serve, "serve", serve)
    result = run("serve", "--host", "::1", "--port", "8443")
    assert result.exit_code == 0
    assert result.stdout == (
        "Listening on http://[::1]:8443\n"
        "Agent: the offline one, scripted. Set DEEPGRAM_API_KEY for a real one.\n"
        "\n"
        "Without a phone:  sts-trio call FILE.wav --url ws://[::1]:8443/twilio\n"
        "With Twilio:      your number's webhook is https://YOUR-HOST/twiml,"
        " or a TwiML Bin with\n"
        '  <Response><Connect><Stream url="wss://YOUR-HOST/twilio"/></Connect></Response>\n'
        "  YOUR-HOST leads here, for instance by a tunnel to http://[::1]:8443\n"
        "  Set TWILIO_AUTH_TOKEN, or only callers on this machine are let in.\n"
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

    import sts_trio.serve

    monkeypatch.setattr(sts_trio.serve, "serve", serve)
    monkeypatch.setattr(config, "from_environment", lambda file: settings)
    told = run("serve").stdout
    assert "Agent: Deepgram at wss://agent.deepgram.com/v1/agent/converse\n" in told
    assert "https://phone.example.com/a/twiml" in told
    assert '<Stream url="wss://phone.example.com/a/twilio"/>' in told
    assert "--url wss://127.0.0.1:5000/twilio" in told
    assert "YOUR-HOST" not in told
    assert "secret" not in told
    assert "TWILIO_AUTH_TOKEN" not in told


# --- agent ----------------------------------------------------------------------------------------


def test_the_agent_tells_where_it_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(host: str, port: int, *, task_status: trio.TaskStatus[int]) -> None:
        assert (host, port) == ("127.0.0.1", 0)
        task_status.started(40404)

    monkeypatch.setattr(offline, "serve", serve)
    told = run("agent", "--port", "0").stdout
    assert "ws://127.0.0.1:40404/v1/agent/converse\n" in told
    assert "DEEPGRAM_URL=ws://127.0.0.1:40404/v1/agent/converse sts-trio serve" in told


def test_an_address_that_the_agent_cannot_have_is_told(taken_port: int) -> None:
    told = failure("agent", "--port", str(taken_port), code=2)
    assert told.startswith(f"Error: cannot listen on 127.0.0.1:{taken_port} (")
    assert "another --host or --port" in told


# --- call -----------------------------------------------------------------------------------------


class Bridge:
    """Stands in for a call: notes what was asked for, and gives a report or an error."""

    def __init__(self, result: Report | NotConnected) -> None:
        self.result = result
        self.url = ""
        self.steps: list[Any] = []
        self.limit = 0.0

    async def place_call(
        self, url: str, steps: list[Any], *, limit: float, watch: Callable[[Moment], None]
    ) -> Report:
        self.url, self.steps, self.limit = url, steps, limit
        watch(Moment(0.02, False, True))
        if isinstance(self.result, NotConnected):
            raise self.result
        return self.result


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> Bridge:
    bridge = Bridge(REPORT)
    monkeypatch.setattr(caller, "place_call", bridge.place_call)
    return bridge


def test_a_call_says_its_wavs_and_reports(bridge: Bridge, tmp_path: Path) -> None:
    clips = [a_wav(tmp_path / name) for name in ("one.wav", "two.wav")]
    result = run("call", *clips, "--url", "ws://bridge.test/twilio", "--out", "a/b/rec.wav")
    assert result.exit_code == 0
    assert bridge.url == "ws://bridge.test/twilio"
    assert sum(isinstance(step, Speak) for step in bridge.steps) == 2
    assert bridge.steps[-1] == HangUp()
    assert bridge.limit == 120.0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines == [
        "0.0 to 2.1 s agent",
        "3.6 to 5.6 s caller barges in; the agent is silent 0.24 s later",
        "6.1 to 12.7 s agent answers after 0.50 s",
        "length 13.7 s, hung up by the caller",
        "sent 687 frames of 20 ms",
        "agent 9.4 s heard of 9.5 s received",
        "first heard 0.02 s",
        "answered after 0.50 s",
        "silent after barge-in 0.24 s",
        "marks, clears 17, 1",
        "Twilio warning 31951 2 messages; the first: no streamSid",
        "limit reached: the caller hung up",
        "Recording: a/b/rec.wav",
    ]


def test_the_recording_has_the_caller_on_the_left_and_the_agent_on_the_right(
    bridge: Bridge, tmp_path: Path
) -> None:
    assert run("call", "--out", "here").exit_code == 0
    (recording,) = (tmp_path / "here").iterdir()
    assert re.fullmatch(r"call-\d{8}-\d{6}\.wav", recording.name)
    with wave.open(str(recording)) as file:
        assert (file.getnchannels(), file.getnframes()) == (2, 160)
        assert struct.unpack("<hh", file.readframes(1)) == (0, -32124)


def test_a_call_that_was_not_proper_fails_with_the_reason_and_keeps_its_recording(
    bridge: Bridge, tmp_path: Path
) -> None:
    bridge.result = msgspec.structs.replace(REPORT, closed_by="bridge", close_code=1011)
    told = failure("call", "--out", "rec.wav", code=1)
    assert told == "Error: the bridge closed with code 1011 after 13.7 s"
    assert (tmp_path / "rec.wav").exists()


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (NotConnected("HTTP 403: Refused.", 403), "STS_ALLOW_UNSIGNED=1"),
        (NotConnected("HTTP 404", 404), "sts-trio's is /twilio"),
        (NotConnected("HTTP 503", 503), "all lines are busy"),
        (NotConnected("HTTP 500", 500), "HTTP 500"),
        (NotConnected("no answer to the handshake"), "no answer"),
    ],
)
def test_a_refusal_says_what_to_do(bridge: Bridge, error: NotConnected, hint: str) -> None:
    bridge.result = error
    told = failure("call", code=1)
    assert told.startswith(f"Error: no call: {error}")
    assert hint in told


def test_a_port_where_nobody_listens_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    told = failure("call", "--url", f"ws://127.0.0.1:{port}/twilio", code=1)
    assert "is `sts-trio serve` running?" in told


def test_a_place_that_cannot_be_written_is_told_before_anybody_is_called(
    bridge: Bridge, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert "file: cannot be made" in failure("call", "--out", "file/rec.wav", code=2)
    assert bridge.url == ""


def test_a_recording_that_cannot_be_written_is_told(bridge: Bridge, tmp_path: Path) -> None:
    (tmp_path / "rec.wav").mkdir()
    assert "rec.wav: cannot be written" in failure("call", "--out", "rec.wav", code=1)


# --- demo -----------------------------------------------------------------------------------------


def demonstrate(
    monkeypatch: pytest.MonkeyPatch, outcomes: list[demo.Outcome], left: int = 0
) -> None:
    """The server is real; the calls, which take half a minute, have these outcomes."""

    async def run(base: str, watch: Callable[[str, Moment], None]) -> list[demo.Outcome]:
        watch("barge-in", Moment(0.02, True, False))
        return outcomes

    async def calls_left(base: str, ask: Callable[[str], Awaitable[int]] = demo.calls_left) -> int:
        return await ask(base) or left

    monkeypatch.setattr(demo, "run", run)
    monkeypatch.setattr(demo, "calls_left", calls_left)


OUTCOMES = [
    demo.Outcome("two turns", REPORT, None),
    demo.Outcome("barge-in", REPORT, None),
    demo.Outcome("hang-up", REPORT, None),
]


def test_a_demonstration_tells_who_spoke_when_and_writes_recordings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A key and a file that are there for something else change nothing.
    monkeypatch.setenv("DEEPGRAM_API_KEY", "secret-key")
    (tmp_path / "sts-trio.toml").write_text("colour = 'red'\n")
    demonstrate(monkeypatch, OUTCOMES)
    result = run("demo", "--out", "recordings")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "recordings").iterdir()) == [
        "barge-in.wav",
        "hang-up.wav",
        "two-turns.wav",
    ]
    assert "synthetic callers" in result.stdout
    assert result.stdout.count("answers after 0.50 s") == 3
    assert result.stdout.count("as it should ") == 4
    assert "sts-trio serve" in result.stdout


def test_a_demonstration_that_went_wrong_says_what_and_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = demo.Outcome("barge-in", REPORT, "the bridge sent no clear")
    lost = demo.Outcome("hang-up", None, "HTTP 503")
    demonstrate(monkeypatch, [OUTCOMES[0], broken, lost])
    assert failure("demo", code=1) == (
        "Error: barge-in: the bridge sent no clear; hang-up: HTTP 503"
    )


def test_calls_that_are_left_on_the_server_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    demonstrate(monkeypatch, OUTCOMES, left=2)
    assert "2 calls were left on the server" in failure("demo", code=1)


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be made" in failure("demo", "--out", "file/recordings", code=2)

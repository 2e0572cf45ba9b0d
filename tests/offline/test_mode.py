"""With and without the extra: what the offline agent is, and what is said about it."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing
import trio_websocket
from click.testing import CliRunner
from limits import HANG

from sts_trio import cli, config
from sts_trio.agents.endpoints import Endpoint
from sts_trio.errors import ConfigError
from sts_trio.observe import events
from sts_trio.offline.mode import NEEDED, Mode, choose, missing
from sts_trio.offline.protocol import server
from sts_trio.offline.workers import pool as workers
from sts_trio.offline.workers.pool import WorkerFailed, WorkerPool
from sts_trio.web.app import create_app
from sts_trio.wire import deepgram, deepgram_settings
from sts_trio.wire.deepgram import Audio

V1 = "/v1/agent/converse"
SPEECH = Path(__file__).parent.parent / "data" / "speech"
GREETING = "Hello! How can I help you today?"
ABSENT = "it takes pocketsphinx to recognise words: pip install -e '.[demo]'"


@pytest.fixture
def without_pocketsphinx(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pocketsphinx" else find(name)
    )


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


# --- which it is ----------------------------------------------------------------------------------


def test_with_the_extra_it_has_ears_unless_it_is_to_be_scripted() -> None:
    assert missing() is None
    assert choose(None) == choose(Mode.EARS) == (Mode.EARS, None)
    assert choose(Mode.SCRIPTED) == (Mode.SCRIPTED, None)


@pytest.mark.usefixtures("without_pocketsphinx")
def test_without_a_part_of_it_it_is_scripted_and_says_what_to_install() -> None:
    assert choose(None) == choose(Mode.EARS) == (Mode.SCRIPTED, ABSENT)
    assert choose(Mode.SCRIPTED) == (Mode.SCRIPTED, None)


@pytest.mark.usefixtures("without_the_extra")
def test_all_that_is_missing_is_named() -> None:
    reason = missing()
    assert reason is not None
    assert all(package in reason for package in NEEDED.values())


# --- in the app -----------------------------------------------------------------------------------


async def app_says(monkeypatch: pytest.MonkeyPatch, **environ: str) -> tuple[Any, list[Any]]:
    """The mode that the app's own agent is started in, and the log of that."""
    modes: list[Any] = []

    async def serve(host: str, port: int, *, mode: Mode, task_status: Any) -> None:
        modes.append(mode)
        task_status.started(9)
        await trio.sleep_forever()

    monkeypatch.setattr(server, "serve", serve)
    app = create_app(config.load({"STS_AGENT": "offline", **environ}, Path("/nonexistent")))
    with structlog.testing.capture_logs() as logs, trio.fail_after(HANG):
        async with app.test_app():
            assert app.server.agent_connections.endpoints == (Endpoint(f"ws://127.0.0.1:9{V1}"),)
    return modes, [line for line in logs if line["event"].startswith("offline_agent")]


async def test_the_app_has_ears_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await app_says(monkeypatch) == ([Mode.EARS], [])
    assert await app_says(monkeypatch, STS_OFFLINE_MODE="scripted") == ([Mode.SCRIPTED], [])


@pytest.mark.usefixtures("without_pocketsphinx")
async def test_the_app_says_why_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    modes, logs = await app_says(monkeypatch)
    assert modes == [Mode.SCRIPTED]
    assert logs == [
        {"event": events.OfflineAgentScripted.NAME, "log_level": "warning", "reason": ABSENT}
    ]


@pytest.mark.usefixtures("without_pocketsphinx")
async def test_ears_that_are_configured_and_cannot_be_had_are_a_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigError) as caught:
        await app_says(monkeypatch, STS_OFFLINE_MODE="ears")
    assert str(caught.value) == f"STS_OFFLINE_MODE: ears cannot be had: {ABSENT}"
    another = {"STS_OFFLINE_MODE": "ears", "DEEPGRAM_API_KEY": "key"}
    create_app(config.load(another, Path("/nonexistent")))


def test_the_base_install_imports_none_of_it() -> None:
    code = f"""
import sys
sys.modules.update(dict.fromkeys({list(NEEDED)}))
import trio
from sts_trio import app, cli
from sts_trio.offline.protocol import server
async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, "127.0.0.1", 0)
        nursery.cancel_scope.cancel()
trio.run(main)
"""
    # The app reads the environment; nothing that is configured here is to matter.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STS_")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environ | {"STS_AGENT": "offline"})


# --- on the command line --------------------------------------------------------------------------


def agent(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    """`sts-trio agent`, and the mode it serves in."""
    modes: list[Mode] = []

    async def serve(host: str, port: int, *, mode: Mode, script: Any, task_status: Any) -> None:
        modes.append(mode)
        task_status.started(9001)

    monkeypatch.setattr(server, "serve", serve)
    return CliRunner().invoke(cli.main, ["agent", *arguments]), modes


@pytest.mark.parametrize(
    ("arguments", "mode"),
    [((), Mode.EARS), (("--mode", "ears"), Mode.EARS), (("--mode", "scripted"), Mode.SCRIPTED)],
)
def test_the_command_says_what_it_is(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], mode: Mode
) -> None:
    result, modes = agent(monkeypatch, *arguments)
    assert result.exit_code == 0, result.output
    assert modes == [mode]
    assert f"The offline agent ({mode.value}) listens on ws://127.0.0.1:9001{V1}" in result.output


@pytest.mark.usefixtures("without_pocketsphinx")
def test_the_command_falls_back_unless_it_was_asked_for_ears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result, modes = agent(monkeypatch)
    assert result.exit_code == 0
    assert modes == [Mode.SCRIPTED]
    assert f"Scripted: {ABSENT}\n" in result.stderr
    result, modes = agent(monkeypatch, "--mode", "ears")
    assert result.exit_code == 2
    assert modes == []
    assert result.stderr == f"Error: --mode ears: {ABSENT}\n"


# --- a server with a pool -------------------------------------------------------------------------


class Pretender(WorkerPool):
    """Hears and says what it is told to, or fails, without a process."""

    def __init__(self, heard: str | None = None, *, speaks: bool = True) -> None:
        super().__init__((), 1, 1.0)
        self.heard = heard
        self.speaks = speaks

    async def hear(self, ulaw: bytes) -> str:
        await trio.sleep(0.2)
        if self.heard is None:
            raise WorkerFailed("no reply within 3 seconds")
        return self.heard

    async def say(self, text: str) -> bytes:
        await trio.sleep(0.1)
        if not self.speaks:
            raise WorkerFailed("no voice")
        return b"\x55" * 800


async def conversation(pool: WorkerPool, *audio: bytes) -> list[Any]:
    """What a client hears that says this, in real time, and then listens for a while."""
    ours, theirs = trio.testing.memory_stream_pair()
    heard: list[Any] = []

    async def listen(socket: trio_websocket.WebSocketConnection) -> None:
        while True:
            heard.append(deepgram.decode(await socket.get_message()))

    async with trio.open_nursery() as servers:
        servers.start_soon(lambda: server.serve_stream(theirs, pool=pool))
        async with trio.open_nursery() as nursery:
            socket = await trio_websocket.wrap_client_stream(
                nursery,
                ours,  # type: ignore[arg-type]
                "agent.test",
                V1,
            )
            nursery.start_soon(listen, socket)
            settings = deepgram_settings.phone_settings({"greeting": GREETING})
            await socket.send_message(deepgram.encode(settings))
            await trio.sleep(2.0)
            for each in audio:
                for at in range(0, len(each), 160):
                    await socket.send_message(each[at : at + 160])
                    await trio.sleep(0.02)
            await trio.sleep(3.0)
            nursery.cancel_scope.cancel()
        await ours.aclose()
    return heard


CLIP = (SPEECH / "rms-02.ulaw").read_bytes()
QUIET = b"\xff" * 4000


def said(heard: list[Any], role: str) -> list[str]:
    return [
        each.content
        for each in heard
        if isinstance(each, deepgram.ConversationText) and each.role == role
    ]


async def test_words_are_recognised_and_answered(autojump_clock: Any) -> None:
    heard = await conversation(Pretender("which cars do you have"), QUIET, CLIP, QUIET * 2)
    assert said(heard, "user") == ["which cars do you have"]
    assert said(heard, "assistant")[2] == "We have three models."
    assert not [each for each in heard if isinstance(each, deepgram.AgentWarning)]


async def test_ears_that_fail_are_warned_of_and_the_call_goes_on(autojump_clock: Any) -> None:
    with structlog.testing.capture_logs() as logs:
        heard = await conversation(Pretender(), QUIET, CLIP, QUIET * 2)
    (warning,) = (each for each in heard if isinstance(each, deepgram.AgentWarning))
    assert warning.code == "LISTEN_FAILED"
    assert "I am sorry, I did not understand that." in said(heard, "assistant")
    assert heard[-1] == deepgram.AgentAudioDone()
    assert logs == [
        {
            "event": events.OfflineAgentWorkerFailed.NAME,
            "log_level": "warning",
            "reason": "no reply within 3 seconds",
        }
    ]


async def test_a_voice_that_fails_is_warned_of_and_an_apology_is_heard(
    autojump_clock: Any,
) -> None:
    heard = await conversation(Pretender("hello", speaks=False))
    warnings = [each.code for each in heard if isinstance(each, deepgram.AgentWarning)]
    assert warnings == ["SPEAK_FAILED"]
    assert sum(len(each.data) for each in heard if isinstance(each, Audio)) > 16_000


async def test_a_client_that_hangs_up_while_it_is_being_understood_leaves_nothing() -> None:
    """With real processes, which go on to serve the next one."""
    with trio.fail_after(HANG):
        async with workers.open_pool(limit=HANG) as pool:
            for _ in range(2):
                with trio.move_on_after(0.2):
                    await pool.hear(CLIP * 8)
            assert await pool.hear(CLIP) == "what cars do you have"

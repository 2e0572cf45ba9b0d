"""A command that is told to end, by a signal, while it has something open."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from limits import HANG
from rig_hypercorn import PLAIN, children, free_port, running, until_it_answers

STOPS = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
PYTHON = (sys.executable, "-m", "sts_trio")


class Silent:
    """Somebody who listens, and says nothing."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def is_asked(self) -> None:
        """Waits until somebody asks, and keeps them waiting."""
        asked = b""
        while not asked:
            connection = self._stack.enter_context(self._listener.accept()[0])
            asked = connection.recv(1)


@pytest.fixture
def bridge() -> Iterator[Silent]:
    with contextlib.ExitStack() as stack:
        yield Silent(stack)


async def told(
    signum: int, arguments: tuple[str, ...], ready: Callable[[], object], **environment: str
) -> tuple[int, str]:
    """What becomes of the command when it is told so, once it is `ready`: how it ended, and what
    it said on stderr."""
    with trio.fail_after(HANG):
        process = await trio.lowlevel.open_process(
            [*PYTHON, *arguments],
            env={**PLAIN, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert process.stderr is not None
        try:
            await trio.to_thread.run_sync(ready, abandon_on_cancel=True)
            process.send_signal(signum)
            said = b"".join([bytes(data) async for data in process.stderr])
            return await process.wait(), said.decode()
        finally:
            process.kill()


def ended(signum: int) -> int:
    """By Ctrl+C with the status that shells have for it; else it dies of the signal."""
    return 130 if signum == signal.SIGINT else -signum


@pytest.mark.parametrize("signum", STOPS)
async def test_what_runs_in_trio_leaves_no_file(
    bridge: Silent, tmp_path: Path, signum: int
) -> None:
    wav = tmp_path / "said.wav"
    wav.write_bytes(SILENCE)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    arguments = (
        "load",
        f"ws://{bridge.address}/twilio",
        "--agent",
        "bridge",
        "--budget",
        "9",
        "--calls",
        "1",
    )
    output = ("--say", str(wav), "--out", str(tmp_path / "out"))
    returned, said = await told(
        signum, (*arguments, *output), bridge.is_asked, TMPDIR=str(temporary)
    )
    assert (returned, said) == (ended(signum), "")
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("signum", STOPS)
async def test_what_runs_without_trio_says_what_it_has_to_say(bridge: Silent, signum: int) -> None:
    arguments = ("dial", "+15005550010", "--url", f"http://{bridge.address}")
    returned, said = await told(signum, arguments, bridge.is_asked)
    assert (returned, said) == (
        ended(signum),
        "What was asked for is not taken back: the call goes on.\n",
    )


async def test_in_the_background_of_a_script_it_ends_too() -> None:
    """There SIGINT is ignored, so that nothing can be made of it."""
    port = free_port()
    agent = f"{sys.executable} -m sts_trio agent --mode scripted --port {port}"
    with trio.fail_after(HANG):
        async with running(["sh", "-c", f"{agent} & wait $!; exit $?"]) as shell:
            await until_it_answers(port)
            [background] = children(shell.pid)
            os.kill(background, signal.SIGTERM)
            assert await shell.wait() == 128 + signal.SIGTERM


SILENCE = (
    b"RIFF\x34\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00"
    b"\x80\x3e\x00\x00\x02\x00\x10\x00data\x10\x00\x00\x00" + bytes(16)
)

"""Where a bridge under load spends its time: py-spy's samples, added up by layer.

A sample belongs to the innermost frame that is of a layer we know. Frames of C are recorded as
well, so that what the kernel does for a socket is told apart from the code that asks for it.
"""

import collections
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import click
from results import Layer

# The first that matches a frame wins. Frames are "function (file:line)".
LAYERS = (
    ("kernel: waiting for sockets", ("epoll_wait (libc", "epoll_pwait (libc", "epoll_ctl (libc")),
    (
        "kernel: reading and writing sockets",
        ("write (libc", "writev (libc", "read (libc", "send (libc", "sendmsg (libc", "recv (libc"),
    ),
    ("TLS", ("libssl", "libcrypto", "_ssl.cpython")),
    ("decoding and encoding (sts_trio/wire)", ("sts_trio/wire/twilio", "sts_trio/wire/deepgram")),
    ("websocket frames of our own", ("sts_trio/wire/frames",)),
    ("dialogue (sts_trio/logic)", ("sts_trio/logic/",)),
    ("legs (sts_trio/legs)", ("sts_trio/legs/",)),
    ("ticker, poller, cork", ("sts_trio/net/",)),
    ("call and outboxes", ("sts_trio/bridge/", "sts_trio/call/", "sts_trio/")),
    ("websocket frames (wsproto)", ("wsproto/",)),
    ("trio-websocket", ("trio_websocket/",)),
    ("Hypercorn", ("hypercorn/", "h11/")),
    ("Quart", ("quart/", "quart_trio/", "werkzeug/")),
    ("sockets (Trio, Python)", ("trio/_socket", "trio/_highlevel", "trio/_ssl", "socket.py")),
    ("epoll and its bookkeeping (trio)", ("trio/_core/_io_epoll", "trio/_core/_generated_io")),
    ("memory channels (trio)", ("trio/_channel",)),
    ("tasks and timers (trio)", ("trio/", "outcome/")),
    ("websockets", ("websockets/",)),
    ("json and base64", ("json/", "base64.py", "_json.cpython")),
    ("selectors (asyncio)", ("selectors.py",)),
    ("tasks and transports (asyncio)", ("asyncio/", "uvloop", "_asyncio.cpython")),
    ("the ancestor's own code", ("ancestor.py",)),
)
# A thread that waits for a lock or a queue is taken for busy where only C is on its stack.
IDLE = ("PyThread_acquire_lock_timed", "_queue_SimpleQueue_get")
RATE = 250  # samples a second: enough for shares to 1 % in ten seconds
PATIENCE = 30.0


def record(pid: int, seconds: float) -> dict[str, int]:
    """{stack, outermost frame first, semicolons between: samples}, while the bridge is busy.

    Raises:
        click.ClickException: there is no py-spy, or it is not let in.
    """
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if spy is None:
        raise click.ClickException("py-spy: not found: install it for --profile")
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "stacks"
        command = [spy, "record", "--format", "raw", "--rate", str(RATE), "--native"]
        command += ["--duration", str(round(seconds)), "--pid", str(pid), "--output", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + PATIENCE)
        if done.returncode:
            raise click.ClickException(f"py-spy: {done.stderr.strip().splitlines()[-1]}")
        return read_stacks(out.read_text().splitlines())


def read_stacks(lines: Iterable[str]) -> dict[str, int]:
    stacks: collections.Counter[str] = collections.Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        stacks[stack] += int(count)
    return dict(stacks)


def by_layer(stacks: dict[str, int]) -> list[Layer]:
    """The shares of the layers, largest first."""
    counts: collections.Counter[str] = collections.Counter()
    for stack, count in stacks.items():
        if any(mark in stack for mark in IDLE):
            continue
        counts[_layer_of(stack)] += count
    total = counts.total()
    return [Layer(name, count / total) for name, count in counts.most_common()]


def _layer_of(stack: str) -> str:
    for frame in reversed(stack.split(";")):
        for name, marks in LAYERS:
            if any(mark in frame for mark in marks):
                return name
    return "other"

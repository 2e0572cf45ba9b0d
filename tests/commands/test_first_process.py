"""A command as the first process of a container."""

import os
import signal
import sys

import trio
from limits import HANG
from rig_hypercorn import children, free_port, in_a_container, running, until_it_answers


async def test_it_can_be_ended_like_any_other_process() -> None:
    """The kernel does nothing to PID 1 for a signal that it has no handler for."""
    port = free_port()
    command = [sys.executable, "-m", "sts_trio", "agent", "--mode", "scripted", "--port", str(port)]
    inside = in_a_container()
    with trio.fail_after(HANG):
        async with running([*inside, *command]) as process:
            await until_it_answers(port)
            [first] = children(process.pid)
            os.kill(first, signal.SIGTERM)
            assert await process.wait() == 128 + signal.SIGTERM

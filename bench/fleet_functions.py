"""What agents of the fleet may call. What was begun, and what was done, is a line in a file."""

import os
import signal

import trio

from sts_trio import Call, function

# Who has a number noted that begins so kills the process that does it.
POISON = "9"


def _note(call: Call, code: str, number: str, what: str) -> None:
    line = f"{call.info.call_sid} {code} {number} {what}\n".encode()
    notes = os.open(os.environ["FLEET_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(notes, line)
    os.close(notes)


@function
async def note(call: Call, code: str, number: str) -> str:
    """Notes that number."""
    _note(call, code, number, "begun")
    if number.startswith(POISON):
        os.kill(os.getpid(), signal.SIGKILL)
    await trio.sleep(1.0)
    _note(call, code, number, "done")
    return "noted"

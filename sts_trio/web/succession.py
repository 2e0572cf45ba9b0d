"""One process takes an address over from another, and nobody who connects is refused meanwhile.

Theory of operation
-------------------
Who listens (`bequeath`) listens on a Unix socket, too, in a directory that only this user can
enter, by a name that tells the address. Who finds the address taken (`inherit`) asks there for the
listening socket itself, and is given a descriptor of it: then the two processes have one socket,
with one queue of connections. The heir starts up, accepts, and says so. Only then the other one
accepts no more. An heir that dies before has changed nothing.

The connection between the two stays. What comes next for a call of the old process (`/twiml/after`)
is asked of the heir, so it is told there how each has ended, as soon as that is known.

A process that drains gives it to anyone who asks. One that takes calls gives it to who wants to
take over, and drains from then on.
"""

import array
import contextlib
import math
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
import trio

from sts_trio.bridge.live_calls import Remember
from sts_trio.config.private_directory import Address, directories, file_name, opened
from sts_trio.errors import Cause, Ending

# From the heir: what it asks for, and that it accepts now.
_IF_YOU_DRAIN = b"?"
_IN_ANY_CASE = b"!"
_LISTENING = b"."
# To the heir: the descriptor comes along, or not.
_GIVEN = b"+"
_KEPT = b"-"

# The other side answers at once, or it hangs.
ANSWER_WITHIN = 5.0
# For an heir that loads models, or opens a database.
START_UP_WITHIN = 120.0


class _Ended(msgspec.Struct, array_like=True):
    call_sid: str
    cause: str
    detail: str
    apologised: bool


_decode = msgspec.json.Decoder(_Ended).decode
_CAUSES = {cause.label: cause for cause in Cause}


class Inheritance(NamedTuple):
    """`confirm` when connections are accepted; closing `predecessor` before is a renunciation."""

    listener: socket.socket
    predecessor: trio.socket.SocketType

    async def confirm(self) -> None:
        """The predecessor accepts no more from here on, if it is still there."""
        with contextlib.suppress(OSError):
            await self.predecessor.send(_LISTENING)

    async def hear_endings(self, remember: Remember) -> None:
        """Passes on how calls of the predecessor have ended, until it is gone."""
        rest = b""
        with contextlib.suppress(OSError):
            while data := await self.predecessor.recv(65536):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    # Another version may tell, or have causes, that this one does not know.
                    with contextlib.suppress(msgspec.DecodeError, KeyError):
                        ended = _decode(line)
                        cause = _CAUSES[ended.cause]
                        remember(ended.call_sid, Ending(cause, ended.detail, ended.apologised))


class Heir:
    """Who has the address now."""

    def __init__(self, connection: trio.socket.SocketType) -> None:
        self._stream = trio.SocketStream(connection)
        # As many as there have been calls of late, and still are.
        self._to_tell, self._told = trio.open_memory_channel[bytes](math.inf)

    def tell(self, call_sid: str, ending: Ending) -> None:
        """That the call has ended so. Never waits."""
        ended = _Ended(call_sid, ending.cause.label, ending.detail, ending.apologised)
        self._to_tell.send_nowait(msgspec.json.encode(ended) + b"\n")

    async def run(self) -> None:
        """Tells it, as long as it is there."""
        async with self._stream:
            with contextlib.suppress(trio.BrokenResourceError):
                async for line in self._told:
                    await self._stream.send_all(line)


class Occupied(Exception):
    """A process of this user listens there, takes calls, and was not to be asked to stop."""


async def inherit(address: Address, *, takes_over: bool) -> Inheritance | None:
    """The listening socket of the process at `address`. None: nobody there gives it away.

    Raises:
        Occupied: it would, to who `takes_over`.
    """
    for directory in directories():
        asked = trio.socket.socket(socket.AF_UNIX)
        try:
            with opened(directory), trio.fail_after(ANSWER_WITHIN):
                await asked.connect(str(directory / _name(address)))
                await asked.send(_IN_ANY_CASE if takes_over else _IF_YOU_DRAIN)
                answer, listener = await _receive(asked)
        except (OSError, trio.TooSlowError):
            asked.close()
            continue
        if listener is not None and answer == _GIVEN:
            return Inheritance(listener, asked)
        asked.close()
        if answer == _KEPT:
            raise Occupied
    return None


async def bequeath(
    listener: socket.socket,
    *,
    is_draining: Callable[[], bool],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> Heir:
    """Gives the socket to who asks for it, from `task_status.started()` on. Returns when there is
    an heir that accepts, and nothing is accepted here any more."""
    with _asked_at(listener.getsockname()[:2]) as asked:
        task_status.started()
        if asked is None:
            await trio.sleep_forever()
        while True:
            heir, _ = await asked.accept()
            has_it = False
            with contextlib.ExitStack() as stack:
                stack.enter_context(heir)
                with contextlib.suppress(OSError), trio.move_on_after(START_UP_WITHIN):
                    has_it = await _give(listener, heir, is_draining=is_draining())
                if has_it:
                    stack.pop_all()
                    # Hypercorn cannot stop to accept and go on otherwise. From here on it waits for
                    # connections where nobody connects: the heir is asked in this one's place.
                    os.dup2(asked.fileno(), listener.fileno(), inheritable=False)
                    return Heir(heir)


async def _give(
    listener: socket.socket, heir: trio.socket.SocketType, *, is_draining: bool
) -> bool:
    """Whether it has the socket, and accepts."""
    wish = b""
    with trio.move_on_after(ANSWER_WITHIN):
        wish = await heir.recv(1)
    if wish != _IN_ANY_CASE and not (wish == _IF_YOU_DRAIN and is_draining):
        await heir.send(_KEPT)
        return False
    descriptor = array.array("i", [listener.fileno()])
    await heir.sendmsg([_GIVEN], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor.tobytes())])
    return await heir.recv(1) == _LISTENING


async def _receive(asked: trio.socket.SocketType) -> tuple[bytes, socket.socket | None]:
    """The answer, and what has come along."""
    descriptors = array.array("i")
    answer, along, _, _ = await asked.recvmsg(1, socket.CMSG_SPACE(descriptors.itemsize))
    for level, kind, data in along:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return answer, socket.socket(fileno=descriptors[0]) if descriptors else None


@contextlib.contextmanager
def _asked_at(address: Address) -> Iterator[trio.socket.SocketType | None]:
    """The Unix socket to be asked at; None if there is no place for one."""
    for directory in directories():
        asked = socket.socket(socket.AF_UNIX)
        name = _name(address)
        new = f"{name}.{secrets.token_hex(4)}"
        with asked, contextlib.ExitStack() as stack:
            try:
                folder = stack.enter_context(opened(directory, make=True))
                # Of a path that is too long there is an OSError, too.
                asked.bind(str(directory / new))
                ours = os.stat(new, dir_fd=folder).st_ino
                asked.listen()
                os.replace(new, name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                continue
            asked.setblocking(False)
            try:
                yield trio.socket.from_stdlib_socket(asked)
            finally:
                with contextlib.suppress(OSError):
                    if os.stat(name, dir_fd=folder).st_ino == ours:  # and not the heir's
                        os.unlink(name, dir_fd=folder)
            return
    yield None


def _name(address: Address) -> str:
    return f"{file_name(address)}.sock"

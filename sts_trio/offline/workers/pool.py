"""The processes that recognise and speak for the offline agent's sessions: `open_pool` them.

Nobody waits longer than `LIMIT` for a reply, the wait for a process that is free included. A
process that takes longer, or dies, is replaced when the next one is needed. A session that gives up
waiting leaves its process at work: the reply is thrown away by who asks that process next.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec
import trio

from sts_trio.errors import StsTrioError
from sts_trio.offline.workers.worker import (
    LENGTH,
    Failed,
    Hear,
    Reply,
    Request,
    Say,
    Sound,
    Words,
    pack,
    unpack_reply,
)

# A machine that is busy with something else takes seconds for what takes a tenth, and a process
# that is replaced for it takes longer still. Meanwhile the call says "One moment, please.".
LIMIT = 10.0
# A killed process is gone at once, unless the system is in trouble: then nobody waits for it.
GONE = 2.0
# Each takes 40 MB. A turn of 3 s is decoded in 0.2, so that one core serves a dozen callers.
MAX = min(4, os.cpu_count() or 1)
COMMAND = (sys.executable, "-P", "-m", "sts_trio.offline.workers.worker")


_AT_WORK = trio.lowlevel.RunVar("at_work", 0)


class WorkerFailed(StsTrioError):
    """There was no reply, or one that says what went wrong."""


def at_work() -> int:
    """How many wait for a process: for a clock that jumps when nobody works."""
    return _AT_WORK.get()


@contextlib.contextmanager
def _waiting() -> Iterator[None]:
    _AT_WORK.set(_AT_WORK.get() + 1)
    try:
        yield
    finally:
        _AT_WORK.set(_AT_WORK.get() - 1)


@contextlib.asynccontextmanager
async def open_pool(
    command: Sequence[str] = COMMAND, *, most: int = MAX, limit: float = LIMIT
) -> AsyncIterator["WorkerPool"]:
    """A pool, for as long as the block; its processes are gone when it is left.

    Raises:
        OSError: not one process can be started.
    """
    pool = WorkerPool(command, most, limit)
    try:
        await pool.warm_up()
        yield pool
    finally:
        with trio.move_on_after(GONE, shield=True):
            await pool.dismiss()


class WorkerPool:
    def __init__(self, command: Sequence[str], most: int, limit: float) -> None:
        self._command = command
        self._limit = limit
        self._places = trio.Semaphore(most)
        self._idle: list[_Worker] = []  # the last is the one that is the least behind
        self._tickets = 0

    async def warm_up(self) -> None:
        """Starts one process; it is ready for its first request in about half a second."""
        self._idle.append(await self._start())

    async def hear(self, ulaw: bytes) -> str:
        """The words of a stretch of speech; empty when none were made out.

        Raises:
            WorkerFailed: it cannot be told.
        """
        reply = await self._ask(Hear(self._ticket(), ulaw))
        if isinstance(reply, Words):
            return reply.text
        raise WorkerFailed(_why(reply))

    async def say(self, text: str) -> bytes:
        """The text as µ-law.

        Raises:
            WorkerFailed: it cannot be said.
        """
        reply = await self._ask(Say(self._ticket(), text))
        if isinstance(reply, Sound):
            return reply.ulaw
        raise WorkerFailed(_why(reply))

    async def dismiss(self) -> None:
        """Ends the processes. Nobody may be waiting for them any more."""
        for worker in self._idle:
            worker.kill()
        while self._idle:
            await self._idle.pop().end()

    def _ticket(self) -> int:
        self._tickets += 1
        return self._tickets

    async def _ask(self, request: Request) -> Reply:
        with _waiting(), trio.move_on_after(self._limit) as patience:
            async with self._places:
                return await self._ask_one(request, patience.deadline)
        raise WorkerFailed(f"no reply within {self._limit:g} seconds")

    async def _ask_one(self, request: Request, deadline: float) -> Reply:
        """Cancelled at the deadline, or because the session is over."""
        try:
            worker = self._idle.pop() if self._idle else await self._start()
        except OSError as exc:
            raise WorkerFailed(f"no process can be started: {exc}") from exc
        try:
            return await worker.ask(request)
        except (trio.BrokenResourceError, trio.ClosedResourceError, msgspec.MsgspecError) as exc:
            worker.is_usable = False
            raise WorkerFailed(f"the process died, or spoke nonsense ({exc!r})") from exc
        finally:
            # Who is at work longer than anybody waits is stuck.
            if trio.current_time() >= deadline:
                worker.is_usable = False
            if worker.is_usable:
                self._idle.insert(0 if worker.is_behind else len(self._idle), worker)
            else:
                worker.kill()
                with trio.move_on_after(GONE, shield=True):
                    await worker.end()

    async def _start(self) -> "_Worker":
        process = await trio.lowlevel.open_process(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return _Worker(process)


class _Worker:
    """One process. Asked by one task at a time."""

    def __init__(self, process: trio.Process) -> None:
        self.is_usable = True
        self._process = process
        self._asked = 0  # the ticket last asked with
        self._answered = 0
        self._received = bytearray()

    @property
    def is_behind(self) -> bool:
        """It is still at work for somebody who does not wait any more."""
        return self._answered != self._asked

    async def ask(self, request: Request) -> Reply:
        """
        Raises:
            trio.BrokenResourceError: the process is gone.
            msgspec.MsgspecError: it speaks nonsense.
        """
        assert self._process.stdin is not None
        self._asked = request.ticket
        # Half a request would be the end of it.
        self.is_usable = False
        await self._process.stdin.send_all(pack(request))
        self.is_usable = True
        while True:
            reply = await self._receive()
            self._answered = reply.ticket
            if reply.ticket == request.ticket:
                return reply

    async def _receive(self) -> Reply:
        (length,) = LENGTH.unpack(await self._peek(LENGTH.size))
        data = await self._peek(LENGTH.size + length)
        del self._received[: len(data)]
        return unpack_reply(data[LENGTH.size :])

    async def _peek(self, count: int) -> bytes:
        """The first bytes received, which stay: being cancelled loses nothing."""
        assert self._process.stdout is not None
        while len(self._received) < count:
            data = await self._process.stdout.receive_some()
            if not data:
                raise trio.BrokenResourceError("the output ended")
            self._received += data
        return bytes(self._received[:count])

    def kill(self) -> None:
        self._process.kill()

    async def end(self) -> None:
        """Returns when it is gone, which takes the kernel a moment once it is killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.kill()
        with _waiting():
            await self._process.stdin.aclose()
            await self._process.stdout.aclose()
            await self._process.wait()


def _why(reply: Reply) -> str:
    return reply.reason if isinstance(reply, Failed) else f"it answered by {type(reply).__name__}"

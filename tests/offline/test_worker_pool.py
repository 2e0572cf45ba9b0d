"""The processes that recognise and speak: asked, stuck, dead, and gone when nobody needs them."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing
from limits import HANG

from sts_trio.offline.workers import pool as workers
from sts_trio.offline.workers import worker
from sts_trio.offline.workers.pool import WorkerFailed, WorkerPool
from sts_trio.offline.workers.worker import Failed, Hear, Reply, Request, Say, Sound, Words, pack

SPEECH = Path(__file__).parent.parent / "data" / "speech"


# --- one process, from the inside -----------------------------------------------------------------


class Recogniser:
    def words(self, ulaw: bytes) -> str:
        if not ulaw:
            raise RuntimeError("no model")
        return f"{len(ulaw)} bytes"


class Speech:
    def say(self, text: str) -> bytes:
        return text.encode()


def worked(*requests: Request, rest: bytes = b"") -> list[Reply]:
    replies = io.BytesIO()
    data = b"".join(map(pack, requests)) + rest
    worker.work(Recogniser(), Speech(), io.BytesIO(data), replies)
    data = replies.getvalue()
    told = []
    while data:
        (length,) = worker.LENGTH.unpack(data[:4])
        told.append(worker.unpack_reply(data[4 : 4 + length]))
        data = data[4 + length :]
    return told


def test_each_request_is_answered_under_its_ticket() -> None:
    assert worked(Hear(1, b"abc"), Say(2, "Hello."), Hear(3, b"")) == [
        Words(1, "3 bytes"),
        Sound(2, b"Hello."),
        Failed(3, "RuntimeError: no model"),
    ]


@pytest.mark.parametrize("rest", [b"", b"\0\0"])
def test_the_end_of_the_requests_is_the_end_of_the_work(rest: bytes) -> None:
    assert worked(Say(1, "a"), rest=rest) == [Sound(1, b"a")]


def test_a_process_does_not_outlive_its_server() -> None:
    process = subprocess.run(workers.COMMAND, input=pack(Say(7, "Hello.")), capture_output=True)
    assert process.returncode == 0
    assert process.stderr == b""
    reply = worker.unpack_reply(process.stdout[4:])
    assert isinstance(reply, Sound)
    assert reply.ticket == 7
    assert len(reply.ulaw) > 2000


# --- a pool ---------------------------------------------------------------------------------------

STUCK = 60.0  # seconds: more than any limit of these tests

# A process that does as it is told: by the text, or by the audio.
STAND_IN = f"""
import os, sys, time
from sts_trio.offline.workers import worker
class Both:
    def say(self, text):
        if text == "stuck": time.sleep({STUCK})
        if text == "slow": time.sleep(0.3)
        if text == "die": os._exit(3)
        if text == "pid": return str(os.getpid()).encode()
        if text == "nonsense":
            os.write(1, worker.LENGTH.pack(2) + bytes(2))
            time.sleep({STUCK})
        if text == "fail": raise ValueError("cannot say that")
        return text.encode()
    def words(self, ulaw):
        if ulaw == b"fail": raise ValueError("cannot hear that")
        return ulaw.decode()
worker.work(Both(), Both(), sys.stdin.buffer, sys.stdout.buffer)
"""
COMMAND = (sys.executable, "-c", STAND_IN)


@contextlib.asynccontextmanager
async def a_pool(*, most: int = 1, limit: float = HANG) -> AsyncIterator[WorkerPool]:
    with trio.fail_after(HANG):
        async with workers.open_pool(COMMAND, most=most, limit=limit) as pool:
            yield pool


async def test_a_crew_hears_and_speaks() -> None:
    with trio.fail_after(HANG):
        async with workers.open_pool() as pool:
            assert len(await pool.say("Which day would suit you?")) > 6000
            clip = (SPEECH / "rms-02.ulaw").read_bytes()
            assert await pool.hear(clip) == "what cars do you have"


async def test_one_process_serves_one_after_the_other_and_is_kept() -> None:
    async with a_pool() as pool:
        first = await pool.say("pid")
        assert await pool.say("pid") == first
        assert await pool.hear(b"yes") == "yes"


async def test_a_second_process_is_started_for_who_would_have_to_wait_and_no_third() -> None:
    async with a_pool(most=2) as pool:
        await pool.say("warm")
        said: list[bytes] = []

        async def say(text: str) -> None:
            said.append(await pool.say(text))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say, "slow")
            nursery.start_soon(say, "pid")
            nursery.start_soon(say, "pid")
        assert sorted(said)[-1] == b"slow"
        pids = set(said) - {b"slow"}
        assert len(pids) in (1, 2)
        assert len({await pool.say("pid") for _ in range(3)} | pids) <= 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("fail", "ValueError: cannot say that"),
        ("die", "the process died"),
        ("nonsense", "the process died, or spoke nonsense"),
    ],
)
async def test_a_request_that_fails_is_told_and_the_next_one_is_served(
    text: str, reason: str
) -> None:
    async with a_pool() as pool:
        with pytest.raises(WorkerFailed) as caught:
            await pool.say(text)
        assert str(caught.value).startswith(reason)
        assert await pool.say("on we go") == b"on we go"
        with pytest.raises(WorkerFailed, match="cannot hear that"):
            await pool.hear(b"fail")


async def test_who_is_stuck_is_given_up_at_the_limit_and_replaced() -> None:
    async with a_pool(limit=0.5) as pool:
        with contextlib.suppress(WorkerFailed):
            await pool.say("warm")
        began = trio.current_time()
        with pytest.raises(WorkerFailed, match=r"no reply within 0\.5 seconds"):
            await pool.say("stuck")
        assert trio.current_time() - began < STUCK
    async with a_pool() as pool:
        before = await pool.say("pid")
        os.kill(int(before), signal.SIGKILL)
        with pytest.raises(WorkerFailed, match="died"):
            await pool.say("anything")
        assert await pool.say("pid") != before


async def test_who_waits_for_a_place_waits_no_longer_than_the_limit() -> None:
    async with a_pool(limit=0.5) as pool, trio.open_nursery() as nursery:

        async def say(text: str) -> None:
            with pytest.raises(WorkerFailed):
                await pool.say(text)

        began = trio.current_time()
        nursery.start_soon(say, "stuck")
        nursery.start_soon(say, "stuck")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(WorkerFailed):
            await pool.say("hello")
        assert trio.current_time() - began < STUCK


async def test_a_reply_that_nobody_waits_for_is_not_taken_for_the_next_ones() -> None:
    async with a_pool() as pool:
        pid = await pool.say("pid")
        with trio.move_on_after(0.1):
            await pool.say("slow")
        assert await pool.hear(b"mine") == "mine"
        assert await pool.say("pid") == pid


async def test_a_reply_of_the_wrong_kind_is_a_failure() -> None:
    class Confused(WorkerPool):
        async def _ask(self, request: Request) -> Reply:
            return Words(request.ticket, "?") if isinstance(request, Say) else Sound(1, b"?")

    confused = Confused(COMMAND, 1, 1.0)
    with pytest.raises(WorkerFailed, match="it answered by Words"):
        await confused.say("Hello.")
    with pytest.raises(WorkerFailed, match="it answered by Sound"):
        await confused.hear(b"")


async def test_when_the_block_is_left_the_processes_are_gone() -> None:
    async with a_pool() as pool:
        pid = int(await pool.say("pid"))
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_crew_that_cannot_be_hired_says_so() -> None:
    with pytest.raises(OSError, match="No such file"):
        async with workers.open_pool(("/nonexistent/python",)):
            pass


async def test_a_process_that_can_no_longer_be_started_is_a_failure_of_the_request() -> None:
    async with a_pool() as pool:
        with contextlib.suppress(WorkerFailed):
            await pool.say("die")
        pool._command = ("/nonexistent/python",)
        with pytest.raises(WorkerFailed, match="no process can be started"):
            await pool.say("Hello.")

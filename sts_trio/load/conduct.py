"""One run: a generator in a process of its own, told where to place its calls.

The generator, in C or in Python, reads a place a line, and writes what it measures.
"""

import re
import subprocess
from collections.abc import Callable
from functools import partial

import msgspec
import trio

from sts_trio.errors import StsTrioError
from sts_trio.load import criterion
from sts_trio.load import plan as plan_of
from sts_trio.load.figures import Progress, Run, read_line
from sts_trio.load.places import NOWHERE, Place, Places, Refused
from sts_trio.load.plan import Agent, Plan

# Of what a generator has to say of itself.
MAX_SAID = 4096
MAX_LINE = 65536

# What generators write behind their name when a call is refused, and why.
REFUSES = ": the bridge refuses: "
CURES = {
    "401": "; it wants signed requests: --signed, with its TWILIO_AUTH_TOKEN",
    "403": "; it wants signed requests: --signed, with its TWILIO_AUTH_TOKEN",
    "404": "; the path is another one: sts_trio has its websocket at /twilio",
}

Tell = Callable[[Progress], None]


class NoRun(StsTrioError):
    """There is nothing to be measured, and why."""


async def measure(
    plan: Plan, generator: tuple[str, ...], places: Places, tell: Tell, *, is_known: bool
) -> Run:
    """`generator` is the command that runs it. What it has done by then ends with this. A bridge
    that `is_known` to take calls may refuse them for a while, as it has its hands full.

    Raises:
        NoRun: the generator could not be run, or did not come to its end, or whoever is there takes
            no call at all.
        NotOurs: the webhook leads to another machine.
    """
    try:
        first = await places.find()
    except Refused as exc:
        raise NoRun(f"no call is answered: {exc}") from exc
    command = [*generator, *_options(plan, first)]
    with trio.move_on_after(plan.length):
        async with trio.open_nursery() as nursery:
            open_process = partial(
                trio.run_process,
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=False,
                deliver_cancel=_kill,
            )
            try:
                process: trio.Process = await nursery.start(open_process)
            except OSError as exc:
                raise NoRun(f"{command[0]}: {exc.strerror}") from exc
            conductor = _Conductor(plan, places, first, tell, is_known=is_known)
            run = await conductor.conduct(process)
            nursery.cancel_scope.cancel()
        return run
    raise NoRun(f"the run did not end within {plan.length:.0f} s")


async def _kill(process: trio.Process) -> None:
    process.kill()


def _options(plan: Plan, first: Place) -> list[str]:
    conversation, endings = plan.conversation, plan.endings
    options = {
        "--calls": plan.calls,
        "--seconds": plan.seconds,
        "--warm-up": plan_of.WARM_UP,
        "--late": plan_of.LATE,
        "--farewell": plan.farewell,
        "--turn": conversation.turn,
        "--speech": conversation.speech,
        "--barge-in": conversation.barge_in,
        "--endings": f"{endings.stop},{endings.cut},{endings.agent}",
        "--host": first.stream.address,
        "--port": first.stream.port,
        "--agent-port": plan.agent_port,
        "--most-cpu": criterion.MOST_CPU,
        "--most-lag": criterion.MOST_LAG / 1000,
    }
    words = [str(word) for pair in options.items() for word in pair]
    words += ["--places", "--progress"]
    words += ["--secure"] if first.stream.is_secure else []
    words += ["--bridges-agent"] if plan.agent is Agent.BRIDGE else []
    words += ["--caller-says", plan.speech] if plan.speech is not None else []
    for pid in plan.pids:
        words += ["--pid", str(pid)]
    return words


class _Conductor:
    def __init__(
        self, plan: Plan, places: Places, first: Place, tell: Tell, *, is_known: bool
    ) -> None:
        self._plan = plan
        self._places = places
        self._first = first
        self._tell = tell
        self._is_known = is_known
        self._said = bytearray()
        self._is_open = trio.Event()  # the window
        self._is_refused = False  # by a bridge that is not known to take any call
        self._lines, self._outbox = trio.open_memory_channel[bytes](max(plan.calls, 1))

    async def conduct(self, process: trio.Process) -> Run:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        run: Run | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep, process.stderr)
            async with trio.open_nursery() as feeding:
                feeding.start_soon(self._write, process.stdin)
                feeding.start_soon(self._ramp)
                run = await self._read(process.stdout)
                feeding.cancel_scope.cancel()
            if self._is_refused:
                process.kill()
            # All that it says is known when it is over.
            await process.wait()
        said = self._said.decode(errors="replace").strip().splitlines()
        if self._is_refused:
            webhooks = next(iter(self._places.refusals), "")
            reason = said[0].partition(REFUSES)[2] if said else webhooks
            raise NoRun(f"{self._first.stream.url}: no call is taken: {refusal(reason)}")
        if run is None:
            raise NoRun(said[-1] if said else f"the generator exited with {process.returncode}")
        if run.refused and said:
            self._places.refusals.setdefault(said[0], run.refused)
        return run

    async def _ramp(self) -> None:
        """A place after the other at its time, however long a webhook takes to name it."""
        plan = self._plan
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            await self._lines.send(self._first.line())
            for index in range(1, plan.calls):
                await trio.sleep_until(began + index / plan.ramp)
                nursery.start_soon(self._place)
            if plan.churn:
                await self._is_open.wait()
                began = trio.current_time()
                for index in range(int(plan.churn * plan.seconds)):
                    await trio.sleep_until(began + index / plan.churn)
                    nursery.start_soon(self._place)

    async def _place(self) -> None:
        try:
            place = await self._places.find()
        except Refused:
            line = NOWHERE
        else:
            is_same = place.stream.address == self._first.stream.address
            if not is_same or place.stream.port != self._first.stream.port:
                raise NoRun(
                    f"the webhook streams to {place.stream.url} now, and to"
                    f" {self._first.stream.url} before: one address can be tested at a time"
                )
            line = place.line()
        await self._lines.send(line)

    async def _write(self, stdin: trio.abc.SendStream) -> None:
        try:
            async for line in self._outbox:
                await stdin.send_all(line)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # it has come to its end, and says why

    async def _keep(self, stderr: trio.abc.ReceiveStream) -> None:
        async for data in stderr:
            self._said = (self._said + data)[-MAX_SAID:]

    async def _read(self, stdout: trio.abc.ReceiveStream) -> Run | None:
        rest = b""
        async for data in stdout:
            *lines, rest = (rest + bytes(data)).split(b"\n")
            for line in lines:
                told = _read(line)
                if isinstance(told, Run):
                    return told
                if told.is_open:
                    self._is_open.set()
                self._tell(told)
                # While one of them still waits for its answer, it may be that of a slow bridge.
                if 0 < told.placed == told.refused and not self._is_known:
                    self._is_refused = True
                    return None
            if len(rest) > MAX_LINE:
                raise NoRun("the generator writes a line without an end")
        return None


def refusal(reason: str) -> str:
    """What a generator was answered, and what to do about it."""
    status = re.search(r"HTTP/1\.\d (\d{3})", reason)
    cure = CURES.get(status[1] if status else "", "")
    return f"{reason or 'it was told nothing'}{cure}"


def _read(line: bytes) -> Run | Progress:
    try:
        return read_line(line)
    except msgspec.MsgspecError as exc:
        raise NoRun(f"the generator writes what none does: {line[:100]!r} ({exc})") from exc

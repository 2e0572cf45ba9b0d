"""The fifth call: the process that has it is killed in mid-sentence, and another one goes on.

Two servers listen on one socket and have a database in common, as processes of a fleet stand behind
one address. The call comes by a carrier that follows TwiML, signs what it asks, and asks again when
nobody answers. What was said is read in the call's record.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import trio

from sts_trio.demo.run import LIMIT, Audience, Outcome
from sts_trio.demo.scenarios import DIE_AFTER, LEFT_AFTER, Evidence, Scenario, slowness
from sts_trio.errors import Cause, Ending
from sts_trio.offline.mode import Mode
from sts_trio.records.database import Database
from sts_trio.records.record import Record
from sts_trio.records.store import Store
from sts_trio.simulate.phone import Moment
from sts_trio.simulate.phone_call import PhoneCall
from sts_trio.simulate.transcript import Sentence, lines
from sts_trio.testing.agent import Agent
from sts_trio.testing.carrier import Account, carrier
from sts_trio.testing.leftovers import inventory, leftovers

NAMES = ("first", "second")
_OURS = ("STS_", "DEEPGRAM_", "TWILIO_", "PORT")
LOOK_EVERY = 0.05
# A process of Python takes a second to start, and on a busy machine ten.
STARTED_WITHIN = 60.0


async def play(scenario: Scenario, agent: Agent, audience: Audience) -> Outcome:
    """Starts both processes, places the call, and judges it once nothing of it is left."""
    before = inventory()
    with tempfile.TemporaryDirectory(prefix="sts-trio-demo-") as directory:
        async with carrier() as account, _fleet(Path(directory), agent, account) as fleet:
            stage = _Stage(scenario, fleet, audience)
            call = await account.call(
                f"{fleet.base}/twiml", scenario.steps, limit=LIMIT, watch=stage.watch
            )
            with trio.move_on_after(LEFT_AFTER):
                await agent.empty()
            record = await fleet.record_of(call.call_sid)
    left = await leftovers(before, within=LEFT_AFTER)
    faults = [] if left.is_empty else [f"something is left of it: {left}"]
    if agent.live:
        faults.append("the agent's socket was not closed")
    if record is None:
        faults.append("the call has no ending in the database")
    evidence = _evidence(call, record, stage.died, agent.mode is Mode.EARS)
    if (fault := scenario.judge(evidence)) is not None:
        faults.insert(0, fault)
    closed_after = _closed_after(call, agent)
    died_at, back_at = evidence.died_at, evidence.back_at
    happened = [(died_at, "the process dies"), (back_at, "another one goes on")]
    if call.report.hung_up_at is not None:
        happened.append((call.report.hung_up_at, "the caller hangs up"))
    told = lines(call.report, evidence.sentences)
    for line in told:
        audience.tell(line)
    return Outcome(
        scenario,
        call.report,
        tuple(told),
        tuple((at, what) for at, what in happened if at is not None),
        closed_after,
        evidence.silence,
        None if died_at is None else (died_at, back_at or call.report.seconds),
        left,
        tuple(faults),
        tuple(slowness(evidence, closed_after)),
    )


class _Stage:
    """Kills the process that has the call, in the midst of what its agent says."""

    def __init__(self, scenario: Scenario, fleet: "_Fleet", audience: Audience) -> None:
        self.died: float | None = None  # seconds since the call began
        self._scenario = scenario
        self._fleet = fleet
        self._audience = audience
        self._began: float | None = None  # the stretch of speech in which it dies

    def watch(self, moment: Moment) -> None:
        self._audience.watch(moment)
        if moment.stretches < self._scenario.dies_in:
            return
        if self._began is None:
            self._began = moment.seconds
        elif self.died is None and moment.seconds >= self._began + DIE_AFTER:
            self.died = moment.seconds
            self._fleet.kill_owner()


def _evidence(
    call: PhoneCall, record: Record | None, died_at: float | None, has_ears: bool
) -> Evidence:
    if record is None:
        return Evidence(call.report, None, (), has_ears, died_at)
    # The record has the time of day.
    began = time.time() - (trio.current_time() - call.report.began)
    sentences = [
        Sentence(
            (turn.at if turn.began is None else turn.began) - began,
            "user" if turn.role == "caller" else "assistant",
            turn.said,
        )
        for turn in record.turns
        if has_ears or turn.role != "caller"
    ]
    streams = sorted(each.started_at for each in record.streams)
    back_at = streams[1] - began if len(streams) > 1 else None
    ending = Ending(Cause.labelled(record.call.ending))
    return Evidence(call.report, ending, tuple(sentences), has_ears, died_at, back_at)


def _closed_after(call: PhoneCall, agent: Agent) -> float | None:
    if call.report.hung_up_at is None or agent.last_gone is None or agent.live:
        return None
    return agent.last_gone - (call.report.began + call.report.hung_up_at)


class _Fleet:
    """`base` is the address of all processes."""

    def __init__(self, base: str, store: Store) -> None:
        self.base = base
        self.processes: dict[str, trio.Process] = {}
        self._store = store

    def kill_owner(self) -> None:
        """Kills the process that has the call, as `kill -9` does."""
        for call in self._store.live_calls():
            self.processes[call.process].kill()

    async def wait_for_all(self) -> None:
        """Until each has told of itself in the database."""
        with trio.fail_after(STARTED_WITHIN):
            while {each.process.name for each in self._store.processes()} < {*NAMES}:  # noqa: ASYNC110
                await trio.sleep(LOOK_EVERY)

    async def record_of(self, call_sid: str) -> Record | None:
        """Of the call, once it has ended; None if it has not."""
        with trio.move_on_after(LEFT_AFTER):
            while True:
                record = self._store.record(call_sid)
                if record is not None and record.call.state == "ended":
                    return record
                await trio.sleep(LOOK_EVERY)
        return None


@contextlib.asynccontextmanager
async def _fleet(directory: Path, agent: Agent, account: Account) -> AsyncIterator[_Fleet]:
    """All processes are gone when the block is left."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        database = Database(f"sqlite:///{directory / 'calls.db'}")
        database.open()
        fleet = _Fleet(base, Store(database))
        variables = {
            # Nothing that is configured here is to change the demonstration.
            **{name: each for name, each in os.environ.items() if not name.startswith(_OURS)},
            **account.variables,
            "STS_AGENT": "deepgram",
            "DEEPGRAM_API_KEY": "any",
            "DEEPGRAM_URL": agent.url,
            "STS_DATABASE_URL": f"sqlite:///{directory / 'calls.db'}",
            "STS_SPOOL": str(directory / "spool"),
            "STS_PUBLIC_URL": base,
            "STS_LOG_LEVEL": "error",
        }
        bind = ["--worker-class", "trio", "--workers", "0", "--bind", f"fd://{listener.fileno()}"]
        start = partial(
            trio.run_process,
            [sys.executable, "-m", "hypercorn", "sts_trio.app:app", *bind],
            check=False,
            cwd=directory,
            pass_fds=[listener.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        async with trio.open_nursery() as nursery:
            for name in NAMES:
                env = {**variables, "STS_PROCESS_NAME": name}
                fleet.processes[name] = await nursery.start(partial(start, env=env))
            try:
                await fleet.wait_for_all()
                yield fleet
            finally:
                database.close()
                nursery.cancel_scope.cancel()

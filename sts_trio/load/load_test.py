"""A load test: one run, or as many as it takes to find the most calls that a bridge does well."""

import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import msgspec
import trio

import sts_trio
from sts_trio.errors import ConfigError, first_of
from sts_trio.load import conduct, criterion, machine
from sts_trio.load.figures import Progress, Run
from sts_trio.load.places import Places
from sts_trio.load.plan import Agent, Plan
from sts_trio.load.report import Capacity, Report, Tried
from sts_trio.load.target import find
from sts_trio.load.watched import NotThere, Possessions, left_behind, look
from sts_trio.simulate.connect import connect
from sts_trio.simulate.webhook import Sign

# A run whose generator was too slow is done again this often; then the machine is too busy.
TRIES = 3
# In a search a failure has to be one twice.
FAILURES = 2
# A server may have something to tidy up.
LEFT_WITHIN = 5.0
LOOK_EVERY = 0.5

Generator = tuple[Literal["C", "Python"], tuple[str, ...]]  # and the command that runs it


class LoadTest:
    """`say` is told a line when a run is over, `progress` what goes on in one, each second."""

    def __init__(
        self,
        plan: Plan,
        generator: Generator,
        *,
        gathers: float,
        budget: float | None,
        say: Callable[[str], None],
        progress: Callable[[Progress], None],
    ) -> None:
        self._plan = plan
        self._kind, self._command = generator
        self._gathers = gathers
        self._budget = budget
        self._say = say
        self._progress = progress
        self._spent = 0.0
        self._tried: list[Tried] = []

    async def run(
        self,
        url: str,
        sign: Sign | None,
        parameters: Mapping[str, str],
        *,
        is_ours: bool,
        most: int | None,
    ) -> Report:
        """Places the plan's calls once, or looks for the most that the bridge does well, up to
        `most`.

        Raises:
            NotAUrl, NotConnected, NotOurs: see `target.find`.
            ConfigError: something else listens where the agent would.
            NotThere: the bridge's process cannot be looked at before.
            NoRun: there is nothing to be measured, from the first run on. It may be in a group.
        """
        target = await find(url, is_ours=is_ours)
        if not target.is_webhook:
            # Whoever is not there is told of before a generator is started.
            await trio.aclose_forcefully(await connect(target.address, target.port, False))
        if self._plan.agent is Agent.OWN:
            _check_free(self._plan.agent_port)
            agent = f"ws://127.0.0.1:{self._plan.agent_port}/v1/agent/converse"
            self._say(f"The agent of this test is at {agent}: the bridge has to be pointed there.")
        places = Places(target, sign, parameters, is_ours=is_ours)
        pids = self._plan.pids
        before = look(pids) if pids else None
        capacity = None
        if most is None:
            await self._try(places, self._plan.calls, failures=1)
        else:
            capacity = await self._search(places, most)
        after = None if before is None else await self._look_again(before)
        return Report(
            tool=sts_trio.__version__,
            made=machine.describe(),
            generator=self._kind,
            criterion={
                "audio_ok_percent": criterion.LEAST_OK,
                "words_p99_ms": self._gathers + criterion.MAX_UP_P99,
                "barge_in_p99_ms": criterion.MAX_CLEAR_P99,
                "failed_share": criterion.MOST_FAILED,
            },
            plan=self._plan,
            tried=self._tried,
            capacity=capacity,
            refusals=places.refusals,
            before=before,
            after=after,
            left_behind=[] if before is None or after is None else left_behind(before, after),
        )

    async def _search(self, places: Places, most: int) -> Capacity:
        search = criterion.searching(self._plan.calls, most)
        number = next(search)
        end: int | None = None  # the least with which it did not do well, or could not be tried
        is_bridges_end = False
        while True:
            broken_off: ExceptionGroup[conduct.NoRun] | None = None
            try:
                tried = await self._try(places, number, failures=FAILURES)
            except* conduct.NoRun as group:
                broken_off = group
            if broken_off is not None:
                if not self._tried:
                    raise broken_off
                # The bridge may have died of it. What was found before stands.
                self._say(f"{number} calls: the search ends: {first_of(broken_off)}")
                well = [each.calls for each in self._tried if each.verdict == "well"]
                return Capacity(max(well, default=0), is_least=True)
            is_well = tried is not None and tried.verdict == "well"
            if not is_well and (end is None or number < end):
                end = number
                is_bridges_end = tried is not None and tried.verdict == "not well"
            try:
                number = search.send(is_well)
            except StopIteration as found:
                return Capacity(int(found.value), is_least=not is_bridges_end)

    async def _try(self, places: Places, calls: int, *, failures: int) -> Tried | None:
        """None: the budget is spent."""
        plan = msgspec.structs.replace(self._plan, calls=calls)
        tried: Tried | None = None
        voids = bad = 0
        while voids < TRIES and bad < failures:
            if self._budget is not None and self._spent + plan.call_minutes > self._budget:
                self._say(
                    f"{calls} calls: not tried{'' if tried is None else ' again'}: it may take more"
                    f" than is left of the budget of {self._budget:g} minutes"
                )
                break
            if plan.agent is Agent.BRIDGE:
                self._spent += plan.call_minutes
            run = await conduct.measure(
                plan, self._command, places, self._progress, is_known=bool(self._tried)
            )
            tried = judge(calls, run, self._gathers)
            self._tried.append(tried)
            self._say(f"{calls} calls: {'; '.join([tried.verdict, *tried.reasons])}")
            if tried.verdict == "well":
                break
            voids += tried.verdict == "void"
            bad += tried.verdict == "not well"
        return tried

    async def _look_again(self, before: Possessions) -> Possessions | None:
        """What is left when nothing more is let go; None: a process is gone."""
        pids = self._plan.pids
        try:
            after = look(pids)
            for _ in range(round(LEFT_WITHIN / LOOK_EVERY)):
                if not left_behind(before, after):
                    break
                await trio.sleep(LOOK_EVERY)
                after = look(pids)
        except NotThere as exc:
            self._say(f"The bridge is not as it was: {exc}")
            return None
        return after


def judge(calls: int, run: Run, gathers: float) -> Tried:
    make = partial(Tried, calls=calls, run=run)
    # Where nobody ever answered, or not any more, that was not for want of our speed.
    was_answered = run.live or run.setup_ms is not None
    if was_answered and not run.died and (reason := criterion.why_void(run)) is not None:
        return make(verdict="void", reasons=[reason])
    reasons = criterion.shortcomings(run, gathers)
    return make(verdict="not well" if reasons else "well", reasons=reasons)


def _check_free(port: int) -> None:
    """A generator would find out, too, once the bridge was told to be pointed there."""
    with socket.socket() as probe:
        # As the generators do: connections of a run before may still linger.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise ConfigError(
                f"cannot listen on 127.0.0.1:{port} ({exc.strerror}): give another --agent-port"
            ) from None

"""The demonstration: simulated calls in a row, through the server, to the offline agent.

All of it but the fifth call (`moved`) runs in this process, so that what is left of a call can be
counted and not only asked.
"""

from typing import Protocol

import msgspec
import trio

from sts_trio.audio import clips
from sts_trio.demo.scenarios import (
    AWAY,
    DIE_AFTER,
    LEFT_AFTER,
    Evidence,
    Fate,
    Scenario,
    slowness,
)
from sts_trio.logic.reconnect import MAX_REDIALS
from sts_trio.observe.events import AgentReconnected, CallCrashed, CallHeard, CallTranscript
from sts_trio.observe.feed import CallEvent, Subscription
from sts_trio.offline.mode import Mode
from sts_trio.offline.protocol.faults import Faults
from sts_trio.simulate.caller import place_call
from sts_trio.simulate.connect import NotConnected
from sts_trio.simulate.phone import Moment
from sts_trio.simulate.report import Report
from sts_trio.simulate.transcript import Line, Narrator, Sentence, lines
from sts_trio.testing.agent import Agent
from sts_trio.testing.leftovers import Inventory, inventory, leftovers
from sts_trio.testing.server import Server

LIMIT = 60.0
# For the server: that an agent is lost is told by the demonstration, at its place.
VARIABLES = {"STS_LOG_LEVEL": "error"}


class Outcome(msgspec.Struct, frozen=True):
    """What came of a call. There is no report if there was no call."""

    scenario: Scenario
    report: Report | None
    lines: tuple[Line, ...]
    events: tuple[tuple[float, str], ...]  # what else is to be shown of it, and when
    closed_after: float | None  # seconds from the cause until both sockets were
    silence: float | None  # see `Evidence`
    absence: tuple[float, float] | None  # from when to when there was no agent
    left: Inventory  # of tasks and sockets, after all was over
    faults: tuple[str, ...]
    slowness: tuple[str, ...] = ()  # what took too long, which may be the machine's fault


class Audience(Protocol):
    """Who follows a call while it runs."""

    def watch(self, moment: Moment) -> None: ...
    def tell(self, line: Line) -> None: ...


async def play(scenario: Scenario, server: Server, agent: Agent, audience: Audience) -> Outcome:
    """Places one call, waits until nothing of it is left, and judges it."""
    before = inventory()
    stage = _Stage(scenario, server, agent, audience)
    try:
        await stage.run()
    except NotConnected as exc:
        left = await leftovers(before, within=LEFT_AFTER)
        return Outcome(scenario, None, (), (), None, None, None, left, (f"no call: {exc}",))
    left = await leftovers(before, within=LEFT_AFTER)
    return stage.outcome(left)


class _Stage:
    """One call and all that is to be known of it."""

    def __init__(
        self,
        scenario: Scenario,
        server: Server,
        agent: Agent,
        audience: Audience,
    ) -> None:
        self._has_ears = agent.mode is Mode.EARS
        self._scenario = scenario
        self._server = server
        self._agent = agent
        self._audience = audience
        self._narrator = Narrator(audience.tell, knows_words=True)
        self._sentences: list[Sentence] = []
        self._taken = 0  # the number of the last entry of the event_feed that was seen to
        self._sessions = agent.sessions
        self._crashes = 0
        self._faults = agent.faults
        self._stretches = 0
        self._fatal_began: float | None = None  # the stretch of speech that the agent dies in
        self._died: float | None = None  # on Trio's clock
        self._back_at: float | None = None
        self._has_apologised = False
        self._caller_closed = 0.0  # likewise
        self._report: Report

    async def run(self) -> None:
        """Raises `NotConnected` if there was no call."""
        try:
            await self._run()
        finally:
            self._agent.faults = self._faults

    async def _run(self) -> None:
        refused = None
        live_calls = self._server.app.live_calls
        self._taken = live_calls.event_feed.count
        with live_calls.event_feed.follow() as follower:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow, follower)
                try:
                    self._report = await place_call(
                        self._server.url,
                        self._scenario.steps,
                        limit=LIMIT,
                        headers=self._server.headers,
                        watch=self._watch,
                    )
                except NotConnected as exc:
                    refused = exc
                self._caller_closed = trio.current_time()
                with trio.move_on_after(LEFT_AFTER):
                    await self._agent.empty()
                    await live_calls.empty()
                while self._taken < live_calls.event_feed.count:
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        if refused is not None:
            raise refused

    async def _follow(self, follower: Subscription) -> None:
        while True:
            _, told = await follower.receive()
            for number, each in told:
                self._taken = number
                self._take(each)

    def _take(self, call_event: CallEvent) -> None:
        match call_event.event:
            # Without ears, what it says to have heard is no recognised speech.
            case CallTranscript(role, text) if self._has_ears or role != "user":
                sentence = Sentence(call_event.at, role, text)
                self._sentences.append(sentence)
                self._narrator.hear(sentence)
            case CallHeard(said, heard):
                self._narrator.end_turn(call_event.at, said, heard)
            case AgentReconnected():
                self._back_at = call_event.at
            case CallCrashed():
                self._crashes += 1

    def _watch(self, moment: Moment) -> None:
        if self._died is not None and self._back_at is None:
            self._hear_bridge(moment)
        self._stretches = moment.stretches
        self._narrator.watch(moment)
        self._audience.watch(moment)
        if self._scenario.fate is None or moment.stretches < self._scenario.dies_in:
            return
        if self._fatal_began is None:
            self._fatal_began = moment.seconds
        elif self._died is None and moment.seconds >= self._fatal_began + DIE_AFTER:
            self._die(self._scenario.fate)

    def _die(self, fate: Fate) -> None:
        self._died = trio.current_time()
        if fate is Fate.GONE:
            self._agent.faults = Faults(refuse_status=503)
        self._agent.drop(away=AWAY if fate is Fate.RETURNS else 0.0)

    def _hear_bridge(self, moment: Moment) -> None:
        """What is heard while there is no agent are words of the bridge's own, which tells nobody:
        an apology when all dialling came to nothing, else that it takes a moment."""
        if self._agent.sessions - self._sessions > MAX_REDIALS:
            if not self._has_apologised:
                self._has_apologised = True
                self._say(moment, clips.words("apology"))
        elif moment.stretches > self._stretches:
            self._say(moment, clips.words("one-moment"))

    def _say(self, moment: Moment, words: str) -> None:
        sentence = Sentence(moment.seconds, "assistant", words)
        self._sentences.append(sentence)
        self._narrator.hear(sentence)

    def outcome(self, left: Inventory) -> Outcome:
        report = self._report
        died_at = None if self._died is None else self._died - report.began
        ending = self._server.app.live_calls.ending_of(report.call_sid)
        evidence = Evidence(
            report, ending, tuple(self._sentences), self._has_ears, died_at, self._back_at
        )
        closed_after = self._closed_after()
        faults = [self._scenario.judge(evidence)]
        if closed_after is None:
            faults.append("the agent's socket was not closed")
        if not left.is_empty:
            faults.append(f"something is left of it: {left}")
        if self._crashes:
            faults.append("the server logged call.crashed: its log has the traceback")
        return Outcome(
            self._scenario,
            report,
            tuple(lines(report, self._sentences)),
            tuple(self._events(died_at)),
            closed_after,
            evidence.silence,
            None if died_at is None else (died_at, self._back_at or report.seconds),
            left,
            tuple(fault for fault in faults if fault is not None),
            tuple(slowness(evidence, closed_after)),
        )

    def _closed_after(self) -> float | None:
        """From the caller's hang-up, or the last word that was heard, until both sockets were
        closed."""
        report, agent_closed = self._report, self._caller_closed
        if self._agent.live:
            return None
        if self._agent.sessions > self._sessions and self._agent.last_gone is not None:
            agent_closed = self._agent.last_gone
        cause = min(agent_closed, self._caller_closed)
        if report.hung_up_at is not None:
            cause = report.began + report.hung_up_at
        elif report.agent_spans:
            cause = report.began + report.agent_spans[-1][1]
        return max(agent_closed, self._caller_closed) - cause

    def _events(self, died_at: float | None) -> list[tuple[float, str]]:
        report = self._report
        events = []
        if died_at is not None:
            events.append((died_at, "the agent dies"))
        if self._back_at is not None:
            events.append((self._back_at, "there is one again"))
        if report.hung_up_at is not None:
            events.append((report.hung_up_at, "the caller hangs up"))
        else:
            events.append((report.seconds, f"the bridge hangs up ({report.close_code})"))
        return events

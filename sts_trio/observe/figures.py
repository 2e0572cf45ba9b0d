"""What happens, counted, for Prometheus.

Fed from the event feed, so it costs something for each turn and each function of a call, and
nothing for a media frame. Names and units are Prometheus's own habit: seconds, `_total`. No label
holds anything that a caller or an agent makes up: there are as many series as there are endings,
outcomes and functions of yours, and no more. What can be read when somebody asks is not counted
here, see `sts_trio.web.metrics`.
"""

from collections.abc import Callable, Collection
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from sts_trio.errors import OUTBOX_FULL, Cause, Leg, Verdict
from sts_trio.observe import events
from sts_trio.observe.feed import CallEvent

# A function that is none of yours: the agent has made its name up, or runs it itself.
OTHER = "other"
# What became of an agent's loss: the caller had another one, the call ended by it, or the caller
# was gone before.
RECOVERED, CALL_ENDED, CALLER_LEFT = "recovered", "call_ended", "caller_left"
RECORDINGS = ("ok", "degraded", "failed")
REFUSED = ("full", "draining")
# How a call came to this process, as `call.moved` has it.
MOVES = ("moved", "recovered", "returned")

# Seconds. A pause of more than one is felt, and of more than five nobody waits for.
_ANSWERS = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5, 7.5, 10, 15)
_CUTS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1, 2)
_DIALS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2, 3, 5)
_CALLS = (5, 15, 30, 60, 120, 180, 300, 600, 900, 1800, 3600)
_GAPS = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10)
_FUNCTIONS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Figures:
    """Of one process, since it began. `functions` are the names of those that agents may call."""

    def __init__(self, functions: Collection[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self._functions = frozenset(functions)
        # SIDs of live calls whose agent is lost.
        self._without_agent: set[str] = set()
        self._calls = self._counter(
            "calls", "Calls that have ended, by ending and verdict.", "ending", "verdict"
        )
        for cause in Cause:
            self._calls.labels(cause.label, cause.verdict.value)
        self._refused = self._counter("calls_refused", "Calls not taken, by reason.", "reason")
        self._crashes = self._counter("calls_crashed", "Calls that a bug of ours has met.")
        self._duration = self._histogram("call_duration", "How long calls lasted.", _CALLS)
        self._response = self._histogram(
            "turn_response",
            "Silence from the end of the caller's speech to the answer's first sound, as heard.",
            _ANSWERS,
        )
        self._silenced = self._histogram(
            "barge_in", "From the caller speaking up to silence on their phone.", _CUTS
        )
        self._barge_ins = self._counter("barge_ins", "Times a caller cut the agent off.")
        self._false_interruptions = self._counter(
            "false_interruptions", "Times it was but a noise that did."
        )
        self._unresponsive = self._counter(
            "agent_unresponsive", "Times a caller waited too long, and was asked for a moment."
        )
        self._dials = self._histogram("agent_dial", "Until the agent took the websocket.", _DIALS)
        self._losses = self._counter(
            "agent_losses", "Times an agent was lost, by what came of it.", "result"
        )
        for result in (RECOVERED, CALL_ENDED, CALLER_LEFT):
            self._losses.labels(result)
        self._function = self._histogram(
            "function",
            "How long functions ran, by function and result.",
            _FUNCTIONS,
            "function",
            "result",
        )
        self._functions_refused = self._counter(
            "functions_refused", "Function calls that were not run."
        )
        self._violations = self._counter(
            "protocol_violations",
            "What the peer of a leg did that its protocol does not allow.",
            "leg",
        )
        self._drops = self._counter(
            "outbox_drops", "Times audio was dropped as its leg was too slow.", "leg"
        )
        for leg in Leg:
            self._violations.labels(leg.value)
            self._drops.labels(leg.value)
        self._unheard = self._counter(
            "caller_audio_dropped_seconds", "Of the callers' speech, what no agent got."
        )
        self._moves = self._counter("moves", "Calls that go on here, by how they came.", "how")
        for how in MOVES:
            self._moves.labels(how)
        self._gap = self._histogram("move_gap", "Without a stream, at a move.", _GAPS)
        self._recordings = self._counter(
            "recordings", "Recordings that are complete, by result.", "result"
        )
        for result in RECORDINGS:
            self._recordings.labels(result)
        for reason in REFUSED:
            self._refused.labels(reason)
        self._listeners: dict[type[events.OfCall], Callable[[str, Any], None]] = {
            events.AgentAnswerHeard: lambda sid, event: self._response.observe(event.after),
            events.AgentLost: lambda sid, event: self._without_agent.add(sid),
            events.AgentReconnected: lambda sid, event: self._end_loss(sid, RECOVERED),
            events.AgentUnresponsive: lambda sid, event: self._unresponsive.inc(),
            events.CallBargeIn: lambda sid, event: self._barge_ins.inc(),
            events.CallCrashed: lambda sid, event: self._crashes.inc(),
            events.CallEnded: self._hear_ended,
            events.CallFalseInterruption: lambda sid, event: self._false_interruptions.inc(),
            events.CallMoved: self._hear_moved,
            events.CallSilenced: lambda sid, event: self._silenced.observe(event.after),
            events.FunctionFinished: self._hear_function,
            events.FunctionRefused: lambda sid, event: self._functions_refused.inc(),
        }

    def hear(self, entry: CallEvent) -> None:
        """What happens in a call; most of it is not counted."""
        if (listener := self._listeners.get(type(entry.event))) is not None:
            listener(entry.call_sid, entry.event)

    def dialled(self, seconds: float) -> None:
        """An agent has taken the websocket."""
        self._dials.observe(seconds)

    def refused(self, reason: str) -> None:
        """A call was not taken: the server is `full`, or `draining`."""
        self._refused.labels(reason).inc()

    def recorded(self, result: str) -> None:
        """A recording is complete: `ok`, `degraded` or `failed`."""
        self._recordings.labels(result).inc()

    # --- of a call ------------------------------------------------------------------------------

    def _hear_ended(self, call_sid: str, event: events.CallEnded) -> None:
        self._calls.labels(event.ending, event.verdict).inc()
        self._duration.observe(event.seconds)
        self._unheard.inc(event.caller_audio_dropped or 0.0)
        for what, times in (event.violations or {}).items():
            leg, _, reason = what.partition(": ")
            (self._drops if reason == OUTBOX_FULL else self._violations).labels(leg).inc(times)
        if event.verdict == Verdict.AGENT.value:
            self._without_agent.add(call_sid)
            self._end_loss(call_sid, CALL_ENDED)
        else:
            self._end_loss(call_sid, CALLER_LEFT)

    def _hear_moved(self, call_sid: str, event: events.CallMoved) -> None:
        self._moves.labels(event.how).inc()
        if event.gap is not None:
            self._gap.observe(event.gap)

    def _end_loss(self, call_sid: str, result: str) -> None:
        """One that was dialled for again and again is one loss."""
        if call_sid in self._without_agent:
            self._without_agent.discard(call_sid)
            self._losses.labels(result).inc()

    def _hear_function(self, call_sid: str, event: events.FunctionFinished) -> None:
        name = event.name if event.name in self._functions else OTHER
        self._function.labels(name, event.outcome).observe(event.seconds)

    # --- Prometheus's ---------------------------------------------------------------------------

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"sts_{name}", meaning, labels, registry=self.registry)

    def _histogram(
        self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"sts_{name}_seconds", meaning, labels, buckets=buckets, registry=self.registry
        )

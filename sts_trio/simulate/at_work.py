"""Whether the agent is at work, by what is told of its call: a simulated caller who knows takes
neither "Let me look that up" for the answer nor the bridge's own "One moment, please". Pure.
"""

from math import inf

from sts_trio.observe.events import (
    AgentHandedOver,
    AgentLost,
    AgentReconnected,
    AgentRenewed,
    AgentTookOver,
    AgentUnresponsive,
    CallEnded,
    CallTranscript,
    Event,
    FunctionCalled,
    FunctionFinished,
)
from sts_trio.simulate.script import ANSWER_PATIENCE

# What a function came to that the agent says something about.
_TOLD = ("done", "failed", "timed_out", "unconfirmed")


class AtWork:
    """Tell it each event of one call, in order; then ask."""

    def __init__(self) -> None:
        self._running: set[str] = set()  # ids of functions
        self._is_there = True
        # What follows a function's result, or what the bridge asks the caller to wait for.
        self._owes_until = 0.0

    def hear(self, at: float, event: Event) -> None:
        """`at`: seconds since the call began."""
        match event:
            case FunctionCalled(id=id):
                self._running.add(id)
            case FunctionFinished(id=id, outcome=outcome):
                self._running.discard(id)
                if outcome in _TOLD:
                    self._owes_until = at + ANSWER_PATIENCE
            case AgentUnresponsive():
                # Until it is heard or the call is over: the bridge gives no agent up before.
                self._owes_until = inf
            case AgentLost() | AgentHandedOver() | AgentRenewed():
                self._is_there = False
            case AgentReconnected() | AgentTookOver():
                self._is_there = True
            case CallTranscript(role=role) if role != "user" and not self._running:
                self._owes_until = 0.0
            case CallEnded():
                self._running.clear()
                self._is_there = True
                self._owes_until = 0.0

    def is_busy(self, now: float) -> bool:
        return bool(self._running) or not self._is_there or now < self._owes_until

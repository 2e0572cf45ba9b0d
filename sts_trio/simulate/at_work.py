"""Whether the agent is at work, by what is told of its call: a simulated caller who knows does not
take "Let me look that up" for the answer. Pure.
"""

from sts_trio.observe.events import (
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
        self._owes_until = 0.0  # the answer that follows a function's result

    def hear(self, at: float, event: Event) -> None:
        """`at`: seconds since the call began."""
        match event:
            case FunctionCalled(id=id):
                self._running.add(id)
            case FunctionFinished(id=id, outcome=outcome):
                self._running.discard(id)
                if outcome in _TOLD:
                    self._owes_until = at + ANSWER_PATIENCE
            case CallTranscript(role=role) if role != "user" and not self._running:
                self._owes_until = 0.0
            case CallEnded():
                self._running.clear()
                self._owes_until = 0.0

    def is_busy(self, now: float) -> bool:
        return bool(self._running) or now < self._owes_until

"""Whether the agent is at work, as the bridge tells it: a caller who knows does not take "Let me
look that up" for the answer. Pure.
"""

from typing import Any

from sts_trio.simulate.script import ANSWER_PATIENCE

# What a function came to that the agent says something about.
_TOLD = ("done", "failed", "timed_out")


class AtWork:
    """Tell it each event of one call, in order; then ask."""

    def __init__(self) -> None:
        self._running: set[Any] = set()  # ids of functions
        self._owes_until = 0.0  # the answer that follows a function's result

    def hear(self, at: float, event: str, fields: dict[str, Any]) -> None:
        """`at`: seconds since the call began."""
        match event:
            case "function.called":
                self._running.add(fields.get("id"))
            case "function.finished":
                self._running.discard(fields.get("id"))
                if fields.get("outcome") in _TOLD:
                    self._owes_until = at + ANSWER_PATIENCE
            case "call.transcript" if fields.get("role") != "user" and not self._running:
                self._owes_until = 0.0
            case "call.ended":
                self._running.clear()
                self._owes_until = 0.0

    def is_busy(self, now: float) -> bool:
        return bool(self._running) or now < self._owes_until

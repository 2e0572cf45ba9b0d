"""Silence on the line, and the longest call: when to speak up, and when to go. Pure.

It is silent while neither side speaks and no function runs. Nobody is hung
up on who has not been asked before, to be heard. Whether the caller can still hear something is
estimated by the clock, as a peer that echoes no marks must not keep a dead line open.
"""

import enum
from math import inf

from sts_trio.logic.policy import CallPolicy

# The agent has not asked when it was told to: somebody was speaking, or it took no notice.
ASK_AGAIN_AFTER = 10.0


class Step(enum.Enum):
    """What is due."""

    ASK = enum.auto()  # whether somebody is there
    HANG_UP = enum.auto()  # nobody is
    WARN = enum.auto()  # the time is nearly up
    END = enum.auto()  # it is up


class Limits:
    """While a session is open, `deadline` tells when to ask for what is `due`."""

    __slots__ = (
        "_ask_again_at",
        "_ends",
        "_has_asked",
        "_has_warned",
        "_is_open",
        "_policy",
        "_quiet_since",
        "is_asking",
    )

    def __init__(self, policy: CallPolicy) -> None:
        self._policy = policy
        self._is_open = False
        self._quiet_since = inf
        self._has_asked = False
        self.is_asking = False  # but nothing of it has been heard yet
        self._ask_again_at = inf
        self._ends = inf
        self._has_warned = False

    @property
    def deadline(self) -> float:
        if not self._is_open:
            return inf
        warned = 0.0 if self._has_warned else self._policy.warn_before
        return min(self._silence_deadline, self._ends - warned)

    @property
    def _silence_deadline(self) -> float:
        if self.is_asking:
            return max(self._quiet_since, self._ask_again_at)
        wait = self._policy.hang_up_after if self._has_asked else self._policy.ask_after
        return self._quiet_since + wait

    def open_session(self, now: float) -> None:
        """The two sides can talk. The first time, the call's own time begins."""
        self._is_open = True
        self._quiet_since = now
        if self._ends == inf:
            self._ends = now + self._policy.longest
            self._has_warned = self._policy.warn_before >= self._policy.longest

    def recall(self, began: float) -> None:
        """The call's own time began then, in another process."""
        self._ends = began + self._policy.longest
        self._has_warned = self._policy.warn_before >= self._policy.longest

    def close_session(self, now: float) -> None:
        """They cannot, or the call is ending: nothing is due."""
        self._is_open = False

    def hear_caller(self, now: float) -> None:
        """A sign of life. What of the agent's it cut off is no longer waited for."""
        self._has_asked = self.is_asking = False
        if self._quiet_since < inf:
            self._quiet_since = now

    def hear_agent(self, until: float) -> None:
        """Something is to be heard until then, or is worked on until about then."""
        if self._quiet_since < inf:
            self._quiet_since = max(self._quiet_since, until)

    def hear_question(self) -> None:
        """The agent is to be heard while it `is_asking`: the caller has been asked."""
        self.is_asking = False

    def due(self, now: float) -> Step | None:
        """The next step whose time has come, once."""
        if not self._is_open:
            return None
        if now >= self._ends:
            self._ends = self._quiet_since = inf
            return Step.END
        if not self._has_warned and now >= self._ends - self._policy.warn_before:
            self._has_warned = True
            return Step.WARN
        if now < self._silence_deadline:
            return None
        if self._has_asked and not self.is_asking:
            self._quiet_since = inf
            return Step.HANG_UP
        self._has_asked = self.is_asking = True
        self._quiet_since = now
        self._ask_again_at = now + ASK_AGAIN_AFTER
        return Step.ASK

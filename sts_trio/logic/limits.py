"""Silence on the line, and the longest call: when to speak up, and when to go. Pure.

It is silent while neither side speaks and no function runs. Whether the caller can still hear
something is estimated by the clock, as a peer that echoes no marks must not keep a dead line open.
"""

import enum
from math import inf

from sts_trio.logic.policy import CallPolicy


class Step(enum.Enum):
    """What is due."""

    ASK = enum.auto()  # whether somebody is there
    HANG_UP = enum.auto()  # nobody is
    WARN = enum.auto()  # the time is nearly up
    END = enum.auto()  # it is up


class Limits:
    """While a session is open, `deadline` tells when to ask for what is `due`."""

    __slots__ = ("_ends", "_has_asked", "_has_warned", "_is_open", "_policy", "_quiet_since")

    def __init__(self, policy: CallPolicy) -> None:
        self._policy = policy
        self._is_open = False
        self._quiet_since = inf
        self._has_asked = False
        self._ends = inf
        self._has_warned = False

    @property
    def deadline(self) -> float:
        if not self._is_open:
            return inf
        wait = self._policy.hang_up_after if self._has_asked else self._policy.ask_after
        warned = 0.0 if self._has_warned else self._policy.warn_before
        return min(self._quiet_since + wait, self._ends - warned)

    def open_session(self, now: float) -> None:
        """The two sides can talk. The first time, the call's own time begins."""
        self._is_open = True
        self._quiet_since = now
        if self._ends == inf:
            self._ends = now + self._policy.longest
            self._has_warned = self._policy.warn_before >= self._policy.longest

    def close_session(self, now: float) -> None:
        """They cannot, or the call is ending: nothing is due."""
        self._is_open = False

    def hear_caller(self, now: float) -> None:
        """A sign of life. What of the agent's it cut off is no longer waited for."""
        self._has_asked = False
        if self._quiet_since < inf:
            self._quiet_since = now

    def hear_agent(self, until: float) -> None:
        """Something is to be heard until then, or is worked on until about then."""
        if self._quiet_since < inf:
            self._quiet_since = max(self._quiet_since, until)

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
        if self._has_asked and now >= self._quiet_since + self._policy.hang_up_after:
            self._quiet_since = inf
            return Step.HANG_UP
        if not self._has_asked and now >= self._quiet_since + self._policy.ask_after:
            self._has_asked = True
            self._quiet_since = now
            return Step.ASK
        return None

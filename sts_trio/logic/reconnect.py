"""When a lost agent is dialled again, and what a caller without one hears meanwhile. Pure.

The first dial is at once. One that comes to nothing is repeated a second later: a provider that
restarts needs a moment. More than `MAX_REDIALS` in `WINDOW` are no accident any more.
"""

from math import inf

from sts_trio.logic.states import RETRY_AFTER

MAX_REDIALS = 2
WINDOW = 60.0
# Each step toward a fresh session: socket, `Welcome`, `SettingsApplied`; the slowest takes 0.2 s.
# Shorter than at a call's begin, where the phone has only just been picked up.
STEP_TIMEOUT = 3.0
# A fresh session takes 0.3 s. A caller who waits longer than this hears that something is being
# done, and again as long as it lasts.
FILLER_AFTER = 0.7
FILLER_EVERY = 3.0
# Nobody has said anything yet: who has only just been put through is used to that much of silence.
FIRST_FILLER_AFTER = 2.0


class Reconnect:
    """A part of `session`."""

    __slots__ = (
        "_is_loss",
        "_lost_at",
        "_redials",
        "count",
        "dial_deadline",
        "filler_deadline",
        "longest",
    )

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0  # seconds without an agent
        self.filler_deadline = inf
        self.dial_deadline = inf
        self._lost_at: float | None = None
        self._is_loss = False
        self._redials: list[float] = []

    @property
    def deadline(self) -> float:
        return min(self.filler_deadline, self.dial_deadline)

    @property
    def is_on(self) -> bool:
        """Whether the call is without an agent that it once had."""
        return self._lost_at is not None

    def redial(self, now: float, *, is_lighter: bool = False) -> bool:
        """The agent is lost, or a redial came to nothing. Whether to dial (again): then
        `dial_deadline` tells when. One that `is_lighter` by what may have been the fault is none
        of those that are numbered."""
        while self._redials and self._redials[0] <= now - WINDOW:
            self._redials.pop(0)
        if len(self._redials) >= MAX_REDIALS and not is_lighter:
            self.end()
            return False
        self.dial_deadline = now + RETRY_AFTER if self.is_on else now
        if not is_lighter:
            self._redials.append(self.dial_deadline)
        self._is_loss = True
        self.count += 1
        return True

    def begin(self, now: float) -> None:
        """The caller is there, and an agent is not yet."""
        if not self.is_on:
            self.filler_deadline = now + FIRST_FILLER_AFTER

    def begin_gap(self, now: float, plays_until: float) -> None:
        """From now on there is no agent. The caller has something to hear until `plays_until`."""
        if self._lost_at is None:
            self._lost_at = now
            self.filler_deadline = max(now, plays_until) + FILLER_AFTER

    def is_filler_due(self, now: float) -> bool:
        """Whether a caller without an agent is to hear something."""
        return now >= self.filler_deadline

    def hear_filler(self, until: float) -> None:
        """The caller is told something, which takes until then."""
        if self.filler_deadline < inf:
            self.filler_deadline = until + FILLER_EVERY

    def succeed(self, now: float) -> tuple[float, bool]:
        """There is an agent again; returns for how long there was none, and whether that one was
        lost or, else, let go."""
        gap = now - self._lost_at if self._lost_at is not None else 0.0
        is_loss = self._is_loss
        if is_loss:
            self.longest = max(self.longest, gap)
        self.end()
        return gap, is_loss

    def end(self) -> None:
        self._lost_at = None
        self._is_loss = False
        self.filler_deadline = self.dial_deadline = inf

"""Which agent is to go on, once the caller has heard what this one is saying. Pure.

"I am putting you through" is said in the turn in which the function is called that does. Mostly it
is told about before the call, but its voice comes behind. The function's result is not told to the
agent that leaves, so it has nothing else to say.
"""

from math import inf

from sts_trio.logic.hearing_out import HearingOut

# From the function call to the voice of what was said with it: 0.3 to 0.6 s.
VOICE_WITHIN = 0.7
# An agent that leaves, and has more to say, but makes no progress.
MAX_WAIT = 4.0


class HandingOver:
    """`agent` is the one that is to go on, `None` if this one is to stay."""

    __slots__ = ("_asked_at", "_hearing_out", "agent")

    def __init__(self) -> None:
        self.agent: str | None = None
        self._hearing_out: HearingOut | None = None
        self._asked_at = -inf  # when the agent called a function

    def hear_function_calls(self, now: float) -> None:
        """What the agent says with them may be still to come."""
        self._asked_at = now

    def begin(self, agent: str, now: float, plays_until: float, *, is_said: bool) -> None:
        """That agent is to go on. `is_said`: this one has just said something, to its end."""
        self.agent = agent
        within = max(0.0, self._asked_at + VOICE_WITHIN - now)
        self._hearing_out = HearingOut.begin(now, within, MAX_WAIT)
        if plays_until > now:
            self.hear_words(plays_until)
        self._hearing_out.is_said = is_said

    def drop(self) -> None:
        self.agent = self._hearing_out = None

    def hear_words(self, until: float) -> None:
        """Something is to be heard until then. Only while an agent is to go on."""
        assert self._hearing_out is not None
        self._hearing_out.hear_words(until)

    def hear_end_of_words(self) -> None:
        """The agent has said what it had to say, or was cut."""
        if self._hearing_out is not None:
            self._hearing_out.is_said = True

    def deadline(self, now: float) -> float:
        return inf if self._hearing_out is None else self._hearing_out.deadline(now)

    def is_due(self, now: float, *, is_heard: bool) -> bool:
        """`is_heard`: the caller has heard all there is."""
        return self._hearing_out is not None and self._hearing_out.is_over(now, is_heard)

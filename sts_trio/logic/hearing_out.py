"""An agent that is to go is heard out: a moment to begin, then its words, to the end. Pure.

Twilio's marks tell what was heard of them. A deadline holds whatever is said.
"""

import msgspec

# Words that are never reported to have been heard, by a peer that echoes no marks.
LAST_WORDS_GRACE = 2.0
# And words that never come to their end.
LONGEST_WORDS = 120.0


class HearingOut(msgspec.Struct):
    """`is_said`: the agent has said what it had to say."""

    limit: float
    latest: float
    words_deadline: float
    words_within: float
    is_said: bool = False

    @classmethod
    def begin(cls, now: float, words_within: float, no_progress: float) -> "HearingOut":
        """The first word may take `words_within` seconds, and so may each further one; without any
        it is over after `no_progress` seconds."""
        return cls(now + no_progress, now + LONGEST_WORDS, now + words_within, words_within)

    def deadline(self, now: float) -> float:
        """When `is_over` is to be asked again, unless something is heard before."""
        if self.is_said or self.words_deadline <= now:
            return self.limit
        return min(self.limit, self.words_deadline)

    def wait_for_words(self, now: float) -> None:
        """The model has just been given something to answer: what it said before was not it."""
        self.is_said = False
        self.words_deadline = now + self.words_within

    def hear_words(self, until: float) -> None:
        """There is something to be heard until then, which nobody is to be cut off from."""
        self.words_deadline = max(self.words_deadline, until + self.words_within)
        self.limit = min(self.latest, max(self.limit, until + LAST_WORDS_GRACE))

    def is_over(self, now: float, is_heard: bool) -> bool:
        """Whether the agent is to go now. `is_heard`: the caller has heard all there is."""
        if now >= self.limit:
            return True
        return is_heard and (self.is_said or now >= self.words_deadline)

"""A call that is to end once its goodbye has been heard. Pure.

Whoever asks for the end, the model mostly says goodbye only afterwards, once it has the function's
answer. So there is a moment for it to begin, then its words are heard out, by Twilio's mark; and a
deadline, whatever is said.
"""

import msgspec

from sts_trio.errors import Ending

# From the function's answer to the first word of the goodbye: a model, then its voice.
WORDS_WITHIN = 4.0
# The longest goodbye, and a peer that echoes no marks.
MAX_GOODBYE_SECONDS = 15.0


class Goodbye(msgspec.Struct):
    ending: Ending
    limit: float
    words_deadline: float
    is_said: bool = False

    @classmethod
    def begin(cls, ending: Ending, now: float) -> "Goodbye":
        return cls(ending, now + MAX_GOODBYE_SECONDS, now + WORDS_WITHIN)

    def deadline(self, now: float) -> float:
        """When `is_over` is to be asked again, unless something is heard before."""
        if self.is_said or self.words_deadline <= now:
            return self.limit
        return min(self.limit, self.words_deadline)

    def wait_for_words(self, now: float) -> None:
        """The model has just been given something to answer: what it said before was no goodbye."""
        self.is_said = False
        self.words_deadline = now + WORDS_WITHIN

    def hear_words(self, until: float) -> None:
        """The agent speaks; its audio lasts until then."""
        self.words_deadline = max(self.words_deadline, until + WORDS_WITHIN)

    def is_over(self, now: float, is_heard: bool) -> bool:
        """Whether to hang up now. `is_heard`: the caller has heard all there is."""
        if now >= self.limit:
            return True
        return is_heard and (self.is_said or now >= self.words_deadline)

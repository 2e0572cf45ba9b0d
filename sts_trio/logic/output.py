"""What the peers of a call did wrong: counted, and told about once each. Pure."""

import collections

from sts_trio.errors import Leg

# Reasons told apart per call, and letters kept of a peer's words: it can make up as many as it
# likes.
MAX_REASONS = 50
MAX_REASON_CHARS = 200


class Violations:
    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()  # {"leg: reason": how often}

    def note(self, leg: Leg, reason: str) -> str | None:
        """Counts it; the first time, returns what is to be said of it."""
        reason = reason[:MAX_REASON_CHARS]
        key = f"{leg.value}: {reason}"
        if key not in self.counts and len(self.counts) >= MAX_REASONS:
            key, reason = f"{leg.value}: (more)", "(more)"
        self.counts[key] += 1
        return reason if self.counts[key] == 1 else None

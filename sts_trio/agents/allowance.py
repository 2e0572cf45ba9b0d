"""How much may be dialled ahead: for one call, and for all of them. Pure: time is an input.

The signature of a webhook holds no time, so one that was caught is good for ever: a
client that has it may announce its call again as often as it likes. What that costs is bounded
here. No caller is refused by it: a call without a line ahead dials when its stream starts, and only
loses a head start.
"""

import collections
import contextlib
from collections.abc import Iterator
from math import inf

# Twilio asks once more when it could not connect, and the line dialled before may have died since.
DIALS_PER_CALL = 2
# 500 calls at once, the default of STS_MAX_CALLS, begin at 8 a second if each lasts a minute.
DIALS_PER_SECOND = 10.0
# A crowd that calls at the same moment, as after an advertisement: ten seconds' worth of the above.
BURST = 100
# Calls that are kept in mind, 2 MB of them: on a full server those of the last 20 minutes.
REMEMBERED = 10_000
# A call SID of Twilio's has 34 characters. In a stream's `start` a stranger may write a megabyte.
MAX_SID = 64


class TokenBucket:
    """Full at first, it holds `burst` tokens, and gets `rate` a second."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled_at = inf  # not before the first token is taken

    def take(self, now: float) -> bool:
        """Takes one, if there is one."""
        since = max(0.0, now - self._filled_at)
        self._tokens = min(self._burst, self._tokens + since * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Allowance:
    """Who may be dialled ahead for, and who was."""

    def __init__(self) -> None:
        self._bucket = TokenBucket(DIALS_PER_SECOND, BURST)
        # {call SID: lines dialled ahead for it, as many as there may be once it has begun}
        self._dials: collections.OrderedDict[str, int] = collections.OrderedDict()
        self._live: collections.Counter[str] = collections.Counter()  # {call SID: its open legs}

    def take(self, call_sid: str, now: float) -> str | None:
        """Leave to dial ahead for this call, once; or why there is none."""
        sid = call_sid[:MAX_SID]
        dials = self._dials.get(sid, 0)
        if sid in self._live or dials >= DIALS_PER_CALL:
            return f"it has begun already, or was dialled for {DIALS_PER_CALL} times"
        if not self._bucket.take(now):
            return f"over {DIALS_PER_SECOND:g} a second"
        self._remember(sid, dials + 1)
        return None

    @contextlib.contextmanager
    def live(self, call_sid: str) -> Iterator[None]:
        """The call is here while inside, and was here from then on: there is nothing ahead."""
        sid = call_sid[:MAX_SID]
        self._live[sid] += 1
        try:
            yield
        finally:
            self._live[sid] -= 1
            if not self._live[sid]:
                del self._live[sid]
            self._remember(sid, DIALS_PER_CALL)

    def _remember(self, sid: str, dials: int) -> None:
        self._dials[sid] = dials
        self._dials.move_to_end(sid)
        if len(self._dials) > REMEMBERED:
            self._dials.popitem(last=False)

"""Tokens that let one websocket in, once: for a softphone or simulator that Twilio cannot sign for.

They travel in the path, `/twilio/<token>`: a browser can set no header on a websocket, and Twilio's
own client takes queries away. Paths end up in logs, which is why a token is spent by its first use
and old after a minute.
"""

import collections
import hashlib
import secrets
from collections.abc import Callable

# From the answer that brings the token to the handshake that spends it.
LIFETIME = 60.0
# As many calls as may be about to begin; the oldest give way.
MOST = 1000


class StreamTokens:
    """Those that are minted and not yet spent. Only their hashes are kept."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._expiries: collections.OrderedDict[bytes, float] = collections.OrderedDict()

    def mint(self) -> str:
        self._forget_the_old()
        while len(self._expiries) >= MOST:
            self._expiries.popitem(last=False)
        token = secrets.token_urlsafe(32)
        self._expiries[_hash(token)] = self._clock() + LIFETIME
        return token

    def spend(self, token: str) -> bool:
        """Whether this was a token of ours, unspent and fresh; it is spent now.

        What is looked up is a hash, so that the time it takes tells nothing about the tokens: who
        guesses cannot choose what the hash of a guess has in common with that of a token.
        """
        self._forget_the_old()
        return self._expiries.pop(_hash(token), None) is not None

    def _forget_the_old(self) -> None:
        now = self._clock()
        while self._expiries and next(iter(self._expiries.values())) <= now:
            self._expiries.popitem(last=False)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()

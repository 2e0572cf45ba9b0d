"""Tokens that let one media stream in, once.

They travel in the path, `/twilio/TOKEN`: a browser can set no header on a websocket, and Twilio's
own client takes queries away. There are two kinds.

* A call's: each answer to the voice webhook names a new one as its `<Stream url>`, and Twilio signs
  that URL. A signature without it would be the same for every call, and good for ever. The token is
  bound to the call: its stream has to start with the SID that the webhook had.
* A softphone's, which Twilio cannot sign for. Its path is all that it has, and paths end up in
  logs, so it is old after a minute.

A token is signed by us, and says itself how long it is good and for which call, so that nothing has
to be kept until it is spent. A webhook may be answered any number of times, and none of the tokens
pushes another out. A call's is good in every process that has a secret in common with the one that
gave it, as its stream may come to any of them; a softphone's only where it was given, as nothing
else is asked of who has it, and a secret may be a weak one. That a token is spent is known here to
the process in which it was; `media` asks the database for the others.

Twilio opens one websocket for each `<Stream>` that it comes to, and documents no second attempt: a
stream that was refused or lost has the call's TwiML go on (error 31920, 31903). Whoever presents a
token again is therefore not taken for Twilio, though it has the signature.
"""

import base64
import collections
import hashlib
import hmac
import math
import secrets
from collections.abc import Callable, Sequence

import msgspec

# A softphone connects at once.
LIFETIME = 60.0
# Twilio connects within seconds of our answer, once it has said the notice. The rest is for a
# carrier that is slow to connect who picked up, and for clocks of processes that differ.
CALL_LIFETIME = 120.0
# It speaks some 15 letters a second; a slow voice at half of that.
LETTERS_PER_SECOND = 7.5
# Spent ones are kept for as long as they would be good. So many are ten times the calls that a
# process can take in that time (40 a second), and 9 MB: nobody else is let in then.
MAX_SPENT = 50_000

# Bytes of a token: multiples of three, which are what base64 has one spelling for.
_EXPIRY = 6
_NONCE = 12
_CALL = 15
_MAC = 15
_SOFTPHONE_SIZE = _EXPIRY + _NONCE
_CALL_SIZE = _SOFTPHONE_SIZE + _CALL


class StreamToken(msgspec.Struct, frozen=True):
    """What a token says, and that we have said it."""

    nonce: bytes
    expires: int  # milliseconds of the clock
    call: bytes = b""  # a hash of the call's SID; b"": a softphone's

    @property
    def is_softphone(self) -> bool:
        return not self.call

    def is_for(self, call_sid: str) -> bool:
        """Whether a stream that starts with this SID may come by it. A softphone makes up its own,
        and a webhook that named no call has bound its token to none."""
        return self.call in (b"", _hash(""), _hash(call_sid))


class StreamTokens:
    """`clock` tells the time of day in seconds.

    `shared` are secrets of the server, the one in force first; without any, the tokens of calls,
    too, are good in this process only. `notice` is what Twilio says before it connects.
    """

    def __init__(
        self, clock: Callable[[], float], shared: Sequence[str] = (), *, notice: str = ""
    ) -> None:
        self.call_lifetime = CALL_LIFETIME + len(notice) / LETTERS_PER_SECOND
        self._clock = clock
        own = secrets.token_bytes(32)
        # {size of what a token says: keys that it may be signed with, the first is ours to use}
        self._keys = {
            _SOFTPHONE_SIZE: [own],
            _CALL_SIZE: [_key(secret.encode()) for secret in shared] or [own],
        }
        # {nonce: when its token has expired}
        self._spent: collections.OrderedDict[bytes, int] = collections.OrderedDict()

    def mint(self, call_sid: str | None = None) -> str:
        """A token for the stream of this call; without one, for a softphone."""
        lifetime = LIFETIME if call_sid is None else self.call_lifetime
        expiry = math.ceil((self._clock() + lifetime) * 1000)
        content = expiry.to_bytes(_EXPIRY, "big") + secrets.token_bytes(_NONCE)
        if call_sid is not None:
            content += _hash(call_sid)
        mac = _mac(self._keys[len(content)][0], content)
        return base64.urlsafe_b64encode(content + mac).decode()

    def read(self, token: str) -> StreamToken | None:
        """What it says, if it is a token of ours, fresh and unspent."""
        try:
            data = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except ValueError:
            return None
        content, mac = data[:-_MAC], data[-_MAC:]
        is_ours = False
        for key in self._keys.get(len(content), ()):
            is_ours |= hmac.compare_digest(_mac(key, content), mac)
        if not is_ours:
            return None
        nonce, call = content[_EXPIRY:_SOFTPHONE_SIZE], content[_SOFTPHONE_SIZE:]
        expires = int.from_bytes(content[:_EXPIRY], "big")
        if self._clock() * 1000 >= expires or nonce in self._spent:
            return None
        return StreamToken(nonce, expires, call)

    def spend(self, token: StreamToken) -> bool:
        """Whether it was unspent until now, and may let its stream in."""
        now = self._clock() * 1000
        # One that expires late keeps others behind it for a while.
        while self._spent and next(iter(self._spent.values())) <= now:
            self._spent.popitem(last=False)
        if token.nonce in self._spent or len(self._spent) >= MAX_SPENT:
            return False
        self._spent[token.nonce] = token.expires
        return True


def _key(secret: bytes) -> bytes:
    """Of a secret that signs other things as well: what is signed with this is signed by us."""
    return hmac.digest(secret, b"sts_trio stream token", hashlib.sha256)


def _mac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, hashlib.sha256)[:_MAC]


def _hash(call_sid: str) -> bytes:
    return hashlib.sha256(call_sid.encode(errors="replace")).digest()[:_CALL]

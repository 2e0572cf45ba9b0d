"""What came over a connection and never became a request: told in the log, with its likely cause.

No view sees these, so nobody else would say a word, and to whoever set up the proxy in front all of
them look the same. A port that is open to the world gets some of each every minute, from scanners;
so each kind is told at once, and then once in a while, with how many there were meanwhile.
"""

import re
from math import inf

import trio

from sts_trio.observe import events
from sts_trio.observe.report import report

# Seconds between two lines of one kind.
SELDOM = 60.0
# Kinds that OpenSSL has names for; each is a line.
MAX_KINDS = 50

HTTP2 = "HTTP/2, which is not spoken here: have the proxy speak HTTP/1.1 to this server"
EARLY_FRAMES = "frames came with a websocket's handshake, before it was answered"
NOT_HTTP = "what came is no HTTP/1.1"
TLS = "TLS on a port without it: have the proxy or tunnel speak http to it, or give it --certfile"
PROXY_PROTOCOL = "the PROXY protocol, which is not spoken here: HAProxy sends it with `send-proxy`"
NO_HANDSHAKE = (
    "a websocket's handshake that is none: have the proxy pass on Upgrade, Connection and all"
    " Sec-WebSocket-… headers, by HTTP/1.1"
)
NO_TLS = "http on a port with TLS: have the proxy speak https to it"
DISTRUST = "the peer does not trust our certificate: Twilio takes none that is self-signed"

_BEGINNINGS = (
    (b"\x16\x03", TLS),
    (b"PROXY ", PROXY_PROTOCOL),
    (b"\r\n\r\n\x00\r\nQUIT\n", PROXY_PROTOCOL),
)
_JUST_WENT = ("", "UNEXPECTED_EOF_WHILE_READING")
_DISTRUST = re.compile("ALERT_(UNKNOWN_CA|.*CERTIFICATE.*)")


class Unread:
    """Of one run of Trio."""

    def __init__(self) -> None:
        self._next_line: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    @staticmethod
    def of_this_run() -> "Unread":
        try:
            return _unread.get()
        except LookupError:
            unread = Unread()
            _unread.set(unread)
            return unread

    def tell(self, client: str, reason: str) -> None:
        """`reason` is one of a few."""
        now = trio.current_time()
        if reason not in self._next_line and len(self._next_line) >= MAX_KINDS:
            return
        if now < self._next_line.get(reason, -inf):
            self._untold[reason] = self._untold.get(reason, 0) + 1
            return
        self._next_line[reason] = now + SELDOM
        more = self._untold.pop(reason, None)
        report(events.ConnectionNotUnderstood(client, reason, more))


def not_http(beginning: bytes) -> str:
    """What it is instead."""
    return next((kind for start, kind in _BEGINNINGS if beginning.startswith(start)), NOT_HTTP)


def no_tls(reason: str) -> str | None:
    """Why a TLS handshake failed; `reason` is OpenSSL's, "" if the peer just went."""
    if reason == "HTTP_REQUEST":
        return NO_TLS
    if _DISTRUST.search(reason):
        return DISTRUST
    return f"TLS handshake failed: {reason}" if reason not in _JUST_WENT else None


_unread: trio.lowlevel.RunVar[Unread] = trio.lowlevel.RunVar("unread")

"""What is said in a websocket handshake of ours, and the answer to it, as far as it came. Pure.

A refusal need not end: its body may be cut off, without a length, or endless.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import h11

# Of an answer, a refusal's body among it: what is more is not read. A page for browsers is less.
MAX_ANSWER = 65536
# Letters of a refusal that are told: HTTP bodies may be long, a reason is for people.
MAX_REASON = 300

# A key, or the scheme of a credential and that.
CREDENTIAL = "(?:(?:Token|Bearer) )?[!-~]+"

BLANK_LINE = re.compile(rb"\n\r?\n")  # what h11 takes for the end of a head
_REFUSAL = re.compile(rb"HTTP/1\.[01] ([2-9][0-9][0-9])[ \r\n]")
_SWITCHING = re.compile(rb"HTTP/1\.1 101[ \r\n]")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t\r]*")
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class Accepted(NamedTuple):
    rest: bytes  # came behind it already


class Refused(NamedTuple):
    status: int
    body: bytes


class Garbled(NamedTuple):
    """No answer to a websocket's handshake."""

    fault: str


def authorization(credential: str) -> str:
    """The header for a key of Deepgram's, or for a credential whose scheme is said."""
    return credential if " " in credential else f"Token {credential}"


def target(path: str, query: str) -> str:
    """What is asked for of a host."""
    return f"{path or '/'}?{query}" if query else path or "/"


def refusal(answer: bytes | bytearray) -> tuple[int, bytes] | None:
    """Status and body so far of an answer that is final and no websocket; None: it is not one."""
    status, blank = _REFUSAL.match(answer), BLANK_LINE.search(answer)
    if status is None or blank is None:
        return None
    return int(status[1]), bytes(answer[blank.end() :])


def reason(body: bytes) -> str:
    """The first words of a refusal."""
    # The cut may go through a letter.
    return body[: 4 * MAX_REASON].decode("utf-8", "replace").strip()[:MAX_REASON]


def request(
    host: str, target: str, headers: Sequence[tuple[bytes, bytes]], nonce: bytes
) -> tuple[bytes, bytes]:
    """The handshake, and the key in it, which is made of 16 random bytes."""
    key = base64.b64encode(nonce)
    lines = [
        b"GET %s HTTP/1.1" % target.encode("ascii"),
        b"Host: %s" % host.encode("idna"),
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: %s" % key,
        b"Sec-WebSocket-Version: 13",
        *(b"%s: %s" % header for header in headers),
    ]
    return b"\r\n".join([*lines, b"", b""]), key


def token(key: bytes) -> bytes:
    """What a server makes of a key (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _MAGIC).digest())


class Answer:
    """The answer to the handshake with that key, as it comes."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._head = bytearray()
        self._refusal: _Refusal | None = None

    def feed(self, data: bytes) -> Accepted | Refused | Garbled | None:
        """What it is, once that can be told; `b""` is its end, and then it can."""
        if self._refusal is not None:
            return self._refusal.feed(data)
        before = len(self._head)
        self._head += data
        blank = BLANK_LINE.search(self._head, max(0, before - 2))
        if blank is None:
            if data and len(self._head) < MAX_ANSWER:
                return None
            return Garbled("a head without end" if data else "")
        if not _SWITCHING.match(self._head):
            self._refusal = _Refusal()
            return self._refusal.feed(bytes(self._head))
        lines = bytes(self._head[: blank.start()]).split(b"\n")
        fault = _fault(lines[1:], self._key)
        return Garbled(fault) if fault else Accepted(bytes(self._head[blank.end() :]))


def _fault(lines: list[bytes], key: bytes) -> str:
    """What is wrong with these headers, if anything (RFC 6455, section 4.1)."""
    headers: dict[bytes, bytes] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            return "a line that is no header"
        name, value = header[1].lower(), header[2]
        headers[name] = headers[name] + b", " + value if name in headers else value
    options = [each.strip() for each in headers.get(b"connection", b"").lower().split(b",")]
    if headers.get(b"upgrade", b"").lower() != b"websocket" or b"upgrade" not in options:
        return "no upgrade to a websocket"
    if headers.get(b"sec-websocket-accept") != token(key):
        return "the token is not that of our key"
    if b"sec-websocket-extensions" in headers or b"sec-websocket-protocol" in headers:
        return "an extension or a protocol that we did not ask for"
    return ""


class _Refusal:
    """An answer that is no websocket, as far as it is read."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT)
        self._http.send(h11.Request(method="GET", target="/", headers=[("Host", "")]))
        self._http.send(h11.EndOfMessage())
        self._room = MAX_ANSWER
        self._status: int | None = None
        self._body = b""

    def feed(self, data: bytes) -> Refused | Garbled | None:
        self._room -= len(data)
        fault = ""
        try:
            self._http.receive_data(data)
            is_over = self._take_events() or not data or self._room <= 0
        except h11.RemoteProtocolError as exc:
            is_over, fault = True, str(exc)
        if not is_over:
            return None
        return Garbled(fault) if self._status is None else Refused(self._status, self._body)

    def _take_events(self) -> bool:
        """Whether the last has come."""
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Response):
                self._status = event.status_code
            elif isinstance(event, h11.Data):
                self._body += bytes(event.data)
            else:
                return event is not h11.NEED_DATA

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


def token(key: bytes) -> bytes:
    """What a server makes of a key (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _MAGIC).digest())


class Handshake:
    """One of ours: what is `said`, and what the answer is.

    The key in it is made of `nonce`, 16 random bytes.

    Raises:
        ValueError: one of these is nothing that HTTP has.
    """

    def __init__(
        self, host: str, target: str, headers: Sequence[tuple[bytes, bytes]], nonce: bytes
    ) -> None:
        self._key = base64.b64encode(nonce)
        self._http = h11.Connection(h11.CLIENT)
        try:
            request = h11.Request(
                method="GET",
                target=target,
                headers=[
                    (b"Host", host.encode("idna")),
                    (b"Upgrade", b"websocket"),
                    (b"Connection", b"Upgrade"),
                    (b"Sec-WebSocket-Key", self._key),
                    (b"Sec-WebSocket-Version", b"13"),
                    *headers,
                ],
            )
        except h11.LocalProtocolError as exc:
            raise ValueError(str(exc)) from exc
        self.said = self._http.send(request)
        self._http.send(h11.EndOfMessage())
        self._room = MAX_ANSWER
        self._status: int | None = None
        self._body = b""

    def feed(self, data: bytes) -> Accepted | Refused | Garbled | None:
        """What the answer is, once that can be told; `b""` is its end, and then it can."""
        self._room -= len(data)
        try:
            self._http.receive_data(data)
            told = self._understand()
        except h11.RemoteProtocolError as exc:
            told = Garbled(str(exc))
        if told is None and (not data or self._room <= 0):
            told = Garbled("an answer without end")
        if isinstance(told, Garbled) and self._status is not None:
            return Refused(self._status, self._body)  # as far as it came
        return told

    def _understand(self) -> Accepted | Refused | Garbled | None:
        while (event := self._http.next_event()) is not h11.NEED_DATA:
            match event:
                case h11.InformationalResponse(status_code=101):
                    fault = self._fault(event)
                    rest, _ = self._http.trailing_data
                    return Garbled(fault) if fault else Accepted(rest)
                case h11.Response(status_code=status):
                    self._status = status
                case h11.Data(data=data):
                    self._body += bytes(data)
                case h11.EndOfMessage():
                    assert self._status is not None
                    return Refused(self._status, self._body)
        return None

    def _fault(self, answer: h11.InformationalResponse) -> str:
        """What is wrong with it, if anything (RFC 6455, section 4.1)."""
        headers: dict[bytes, bytes] = {}
        for name, value in answer.headers:
            headers[name] = headers[name] + b", " + value if name in headers else value
        options = [each.strip() for each in headers.get(b"connection", b"").lower().split(b",")]
        if headers.get(b"upgrade", b"").lower() != b"websocket" or b"upgrade" not in options:
            return "no upgrade to a websocket"
        if headers.get(b"sec-websocket-accept") != token(self._key):
            return "the token is not that of our key"
        if b"sec-websocket-extensions" in headers or b"sec-websocket-protocol" in headers:
            return "an extension or a protocol that we did not ask for"
        return ""

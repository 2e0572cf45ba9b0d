"""What is said in a websocket handshake of ours, and the answer to it, as far as it came. Pure.

A refusal need not end: its body may be cut off, without a length, or endless.
"""

import base64
import functools
import hashlib
import re
from collections.abc import Iterable, Sequence
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
# What nearly all say who accept, in one piece. h11 would find the same in it, in a fortieth of a
# call's set-up, and is asked of all else.
_ACCEPTANCE = re.compile(
    rb"HTTP/1\.1 101(?: [ -~]*)?\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*\r\n)*)\r\n"
)
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})  # h11 looks at what these say
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
        before, behind = _request(host, target, tuple(headers))
        self.said = before + self._key + behind
        self._http: h11.Connection | None = None  # of an answer that is not the usual one
        self._room = MAX_ANSWER
        self._status: int | None = None
        self._body = b""

    def feed(self, data: bytes) -> Accepted | Refused | Garbled | None:
        """What the answer is, once that can be told; `b""` is its end, and then it can."""
        self._room -= len(data)
        if self._http is None:
            if (usual := _ACCEPTANCE.match(data)) is not None:
                headers = _headers(usual[1])
                if _FRAMING.isdisjoint(name for name, _ in headers):
                    return self._judged(headers, data[usual.end() :])
            self._http = _asker()
        try:
            self._http.receive_data(data)
            told = self._understand(self._http)
        except h11.RemoteProtocolError as exc:
            told = Garbled(str(exc))
        if told is None and (not data or self._room <= 0):
            told = Garbled("an answer without end")
        if isinstance(told, Garbled) and self._status is not None:
            return Refused(self._status, self._body)  # as far as it came
        return told

    def _understand(self, http: h11.Connection) -> Accepted | Refused | Garbled | None:
        while (event := http.next_event()) is not h11.NEED_DATA:
            match event:
                case h11.InformationalResponse(status_code=101):
                    rest, _ = http.trailing_data
                    return self._judged(event.headers, rest)
                case h11.Response(status_code=status):
                    self._status = status
                case h11.Data(data=data):
                    self._body += bytes(data)
                case h11.EndOfMessage():
                    assert self._status is not None
                    return Refused(self._status, self._body)
        return None

    def _judged(self, headers: Iterable[tuple[bytes, bytes]], rest: bytes) -> Accepted | Garbled:
        fault = self._fault(headers)
        return Garbled(fault) if fault else Accepted(rest)

    def _fault(self, said: Iterable[tuple[bytes, bytes]]) -> str:
        """What is wrong with an acceptance, if anything (RFC 6455, section 4.1)."""
        headers: dict[bytes, bytes] = {}
        for name, value in said:
            headers[name] = headers[name] + b", " + value if name in headers else value
        options = [each.strip() for each in headers.get(b"connection", b"").lower().split(b",")]
        if headers.get(b"upgrade", b"").lower() != b"websocket" or b"upgrade" not in options:
            return "no upgrade to a websocket"
        if headers.get(b"sec-websocket-accept") != token(self._key):
            return "the token is not that of our key"
        if b"sec-websocket-extensions" in headers or b"sec-websocket-protocol" in headers:
            return "an extension or a protocol that we did not ask for"
        return ""


# For each of the agent's addresses, with a credential that may be another one some day.
@functools.lru_cache(maxsize=8)
def _request(
    host: str, target: str, headers: tuple[tuple[bytes, bytes], ...]
) -> tuple[bytes, bytes]:
    """What is said before the key, and behind it. Raises `ValueError`."""
    name = b"Sec-WebSocket-Key"
    try:
        request = h11.Request(
            method="GET",
            target=target,
            headers=[
                (b"Host", host.encode("idna")),
                (b"Upgrade", b"websocket"),
                (b"Connection", b"Upgrade"),
                (name, b""),
                (b"Sec-WebSocket-Version", b"13"),
                *headers,
            ],
        )
    except h11.LocalProtocolError as exc:
        raise ValueError(str(exc)) from exc
    before, line, behind = h11.Connection(h11.CLIENT).send(request).partition(b"\r\n%b: " % name)
    return before + line, behind


def _headers(lines: bytes) -> list[tuple[bytes, bytes]]:
    parts = (line.partition(b":") for line in lines.split(b"\r\n")[:-1])
    return [(name.lower(), value.strip()) for name, _, value in parts]


def _asker() -> h11.Connection:
    """Waits for the answer to any request for a websocket."""
    http = h11.Connection(h11.CLIENT)
    headers = [(b"Host", b"x"), (b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]
    http.send(h11.Request(method="GET", target="/", headers=headers))
    http.send(h11.EndOfMessage())
    return http

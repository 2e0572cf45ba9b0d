"""Where ended calls are told: one POST to the operator's URL, and to nobody else.

The URL is the operator's own, but its name is not: whoever has a say in the DNS could lead us to
what only this machine may reach. So a name is looked up once, each address that it has is checked,
and the connection goes to one of these. An address of a private network is one only where the
operator has said so, and one of this machine only where the URL names this machine. Cloud metadata
and the like, on link-local addresses, is none ever. Redirects are not followed, and no proxy is
taken from the environment.
"""

import ipaddress
import re
import ssl
import urllib.parse
from collections.abc import Mapping

import h11
import msgspec
import trio

from sts_trio.errors import StsTrioError
from sts_trio.net.tls import trusted

# Standard Webhooks: between 15 and 30 s. A receiver that has more to do answers first.
WITHIN = 20.0
# Of an answer nothing but its status matters.
MAX_ANSWER = 16 * 1024
RECEIVE = 4096

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Those that have an IPv4 address in them, to which a gateway may forward.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class NotDelivered(StsTrioError):
    """There was no answer; why, in a few words."""


class BadUrl(StsTrioError):
    """Nothing is told there; why, in a few words."""


class Answer(msgspec.Struct, frozen=True):
    status: int
    retry_after: float | None = None  # seconds, if the receiver asks for it


class Receiver:
    """`allows_private`: addresses of private networks are meant, and plain http to them.

    Raises:
        BadUrl: it is none that ended calls are told to.
    """

    def __init__(
        self, url: str, *, allows_private: bool = False, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        parts, port = _parsed(url)
        self._host = parts.hostname or ""
        self._port = port
        self._is_secure = parts.scheme == "https"
        self._target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        default = 443 if self._is_secure else 80
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self._authority = shown if port == default else f"{shown}:{port}"
        self._is_here = _is_this_machine(self._host)
        self._allows_private = allows_private
        # Built here, and not amid calls.
        self._ssl_context = (ssl_context or trusted()) if self._is_secure else None
        if not (self._is_secure or self._is_here or allows_private):
            raise BadUrl("expected https, or http to this machine")
        if (literal := _literal(self._host)) is not None:
            self._check(literal)

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Raises `NotDelivered`: it may have come there all the same."""
        try:
            with trio.fail_after(WITHIN):
                return await self._post(body, headers)
        except trio.TooSlowError:
            raise NotDelivered(f"no answer within {WITHIN:g} s") from None
        except BadUrl as exc:
            raise NotDelivered(str(exc)) from None
        except h11.RemoteProtocolError:
            raise NotDelivered("no HTTP is spoken there") from None
        except trio.BrokenResourceError as exc:
            cause = exc.__cause__
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise NotDelivered(f"its certificate is not good: {cause.verify_message}") from None
            raise NotDelivered("the connection broke") from None
        except (OSError, UnicodeError) as exc:  # a name that none can be
            raise NotDelivered(getattr(exc, "strerror", None) or type(exc).__name__) from None

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        stream: trio.abc.Stream = await self._connect()
        try:
            if self._ssl_context is not None:
                stream = trio.SSLStream(
                    stream,
                    self._ssl_context,
                    server_hostname=self._host,
                    https_compatible=True,
                )
            return await _exchange(stream, self._authority, self._target, body, headers)
        finally:
            await trio.aclose_forcefully(stream)

    async def _connect(self) -> trio.SocketStream:
        """To one of its addresses, all of which are fit."""
        found = await trio.socket.getaddrinfo(
            self._host, self._port, type=trio.socket.SOCK_STREAM, proto=trio.socket.IPPROTO_TCP
        )
        for *_, address in found:
            self._check(ipaddress.ip_address(str(address[0]).partition("%")[0]))
        failed: OSError | None = None
        for family, kind, proto, _, address in found:
            sock = trio.socket.socket(family, kind, proto)
            try:
                await sock.connect(address)
                return trio.SocketStream(sock)
            except OSError as exc:
                failed = exc
                sock.close()
            except BaseException:
                sock.close()
                raise
        raise failed or OSError(0, "it has no address")

    def _check(self, address: Address) -> None:
        """Raises `BadUrl`: it leads where it may not."""
        for each in (address, *_embedded(address)):
            reason = self._objection(each)
            if reason is not None:
                raise BadUrl(f"{self._host} leads to {address}, {reason}")

    def _objection(self, address: Address) -> str | None:
        if address.is_loopback:
            is_meant = self._is_here or self._allows_private
            return None if is_meant else "which is this machine"
        if self._is_here:
            return "which is not this machine"
        if address.is_multicast or address.is_link_local or address.is_unspecified:
            return "which is nobody's"
        if address.is_global:
            return None if self._is_secure else "which takes https"
        if address.is_reserved:
            return "which is nobody's"
        if self._allows_private:  # also what is shared by a provider's customers (RFC 6598)
            return None
        return "which is of a private network: STS_WEBHOOK_PRIVATE=1 allows that"


def _parsed(url: str) -> tuple[urllib.parse.SplitResult, int]:
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise BadUrl("not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadUrl("expected a URL like https://example.com/calls")
    if not re.fullmatch("[!-~]+", url):
        raise BadUrl("expected visible ASCII characters alone")
    if "@" in parts.netloc or parts.fragment:
        raise BadUrl("expected neither a user nor a fragment in it")
    return parts, port


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_this_machine(host: str) -> bool:
    literal = _literal(host)
    return host.lower() == "localhost" or (literal is not None and literal.is_loopback)


def _embedded(address: Address) -> list[Address]:
    """The IPv4 addresses that such an IPv6 address stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[Address | None] = [address.ipv4_mapped, address.sixtofour]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return [each for each in found if each is not None]


async def _exchange(
    stream: trio.abc.Stream,
    authority: str,
    target: str,
    body: bytes,
    headers: Mapping[str, str],
) -> Answer:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER)
    request = h11.Request(
        method="POST",
        target=target,
        headers=[
            ("Host", authority),
            ("User-Agent", "sts-trio"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            *headers.items(),
        ],
    )
    outgoing = (request, h11.Data(data=body), h11.EndOfMessage())
    await stream.send_all(b"".join(http.send(event) or b"" for event in outgoing))
    taken = 0
    while True:
        event = http.next_event()
        if isinstance(event, h11.Response):
            return Answer(event.status_code, _retry_after(event))
        if event is h11.NEED_DATA:
            data = bytes(await stream.receive_some(RECEIVE))
            taken += len(data)
            if taken > MAX_ANSWER:
                raise NotDelivered("an answer without end")
            http.receive_data(data)


def _retry_after(response: h11.Response) -> float | None:
    for name, value in response.headers:
        if name == b"retry-after" and re.fullmatch(rb"[0-9]{1,6}", value):
            return float(value)
    return None

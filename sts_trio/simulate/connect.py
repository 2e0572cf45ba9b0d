"""The way to a bridge for a simulated caller: an address, and a connected stream."""

import os
import re
import socket
import ssl
import urllib.parse

import trio

from sts_trio.config import local_key
from sts_trio.errors import StsTrioError

CONNECT_TIMEOUT = 5.0

# Twilio's errors: no answer, nobody there, no TLS, a handshake that is none, a URL that is none.
UNANSWERED, REFUSED, NO_TLS, NOT_101 = 31901, 31902, 31910, 31920
BAD_SCHEME, BAD_URL = 31922, 31923

# Schemes, the secure one last.
HTTP = ("http", "https")
WEBSOCKET = ("ws", "wss")

Connected = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class NotConnected(StsTrioError):
    """There was no call: nobody there, or the handshake was refused, by `status` if it was HTTP.

    `code` is what Twilio's debugger has for it, when it happens to a stream.
    """

    def __init__(self, reason: str, status: int | None = None, code: int = REFUSED) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code


class NotAUrl(NotConnected):
    """Nothing can be called by what was given."""

    def __init__(self, reason: str, code: int = BAD_URL) -> None:
        super().__init__(reason, code=code)


def parts_of(url: str, schemes: tuple[str, str]) -> tuple[urllib.parse.SplitResult, int]:
    """A URL's parts and its port."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or (443 if parts.scheme == schemes[1] else 80)
    except ValueError as exc:
        raise NotAUrl(f"{url}: not a URL: {exc}") from None
    if parts.scheme not in schemes or not parts.hostname or not re.fullmatch("[!-~]+", url):
        raise NotAUrl(
            f"{url}: not a URL to call; it looks like ws://127.0.0.1:5000/twilio, or"
            " http://127.0.0.1:5000/twiml for the webhook",
            BAD_SCHEME if parts.scheme and parts.scheme not in schemes else BAD_URL,
        )
    return parts, port


def host_of(parts: urllib.parse.SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def target_of(parts: urllib.parse.SplitResult) -> str:
    return urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))


def key_for(stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> dict[str, str]:
    """What lets this user in at a server of their own that is on this machine."""
    tcp = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    key = local_key.of_peer(tcp.socket)
    return {} if key is None else {"Authorization": f"Bearer {key}"}


async def connect(
    host: str, port: int, is_secure: bool, timeout: float | None = None
) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    timeout = CONNECT_TIMEOUT if timeout is None else timeout
    try:
        with trio.fail_after(timeout):
            if not is_secure:
                return await trio.open_tcp_stream(host, port)
            stream = await trio.open_ssl_over_tcp_stream(
                host, port, ssl_context=ssl.create_default_context(), https_compatible=True
            )
            try:
                await stream.do_handshake()
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
            return stream
    except trio.TooSlowError:
        said = f"{host}:{port} did not answer in {timeout:g} s"
        raise NotConnected(said, code=UNANSWERED) from None
    except trio.BrokenResourceError as exc:
        said = f"{host}:{port}: no TLS: {exc.__cause__ or exc}"
        raise NotConnected(said, code=NO_TLS) from exc
    except (OSError, UnicodeError) as exc:  # a name that none can be
        raise NotConnected(f"{host}:{port}: {reason(exc)}") from exc


def reason(exc: BaseException) -> str:
    """The system's own words, which Trio wraps once for all addresses and once for each."""
    while exc.__cause__ is not None:
        exc = exc.__cause__
        if isinstance(exc, BaseExceptionGroup):
            exc = exc.exceptions[0]
    if isinstance(exc, OSError) and exc.errno is not None:
        is_name = isinstance(exc, socket.gaierror)  # which has numbers of its own
        return (exc.strerror or str(exc)) if is_name else os.strerror(exc.errno)
    return str(exc)

"""One simulated phone call to any bridge's websocket, made as Twilio makes it.

`place_call` dials a URL, that of a media websocket or of a voice webhook; `call_over` calls over
any Trio stream. What the caller does is told by steps, see `manners`, and what came of it by a
`Report`.
"""

import os
import re
import socket
import ssl
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import h11
import trio
import trio_websocket
from wsproto.utilities import ProtocolError

from sts_trio.config import local_key
from sts_trio.errors import StsTrioError
from sts_trio.simulate import webhook
from sts_trio.simulate.phone import Phone, Sids, Watch
from sts_trio.simulate.report import Report
from sts_trio.simulate.script import IsBusy, Manners, Step, never
from sts_trio.wire import handshake
from sts_trio.wire.printable import shown

CONNECT_TIMEOUT = 5.0
HANDSHAKE_TIMEOUT = 5.0
# A bridge may send a whole answer at once.
MAX_BYTES = 2**24

# The headers that a request for this URL, with this form if it is a webhook's, is signed with.
Sign = Callable[[str, Mapping[str, str]], Mapping[str, str]]

# Schemes, the secure one last.
_HTTP = ("http", "https")
_WEBSOCKET = ("ws", "wss")

HEADERS = {"User-Agent": "Twilio.TmeWs/1.0", "Accept-Encoding": "gzip"}


class NotConnected(StsTrioError):
    """There was no call: nobody there, or the handshake was refused, by `status` if it was HTTP."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class NotAUrl(NotConnected):
    """Nothing can be called by what was given."""


async def place_call(
    url: str,
    steps: Sequence[Step],
    *,
    limit: float = 120.0,
    parameters: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    sign: Sign | None = None,
    watch: Watch | None = None,
    is_busy: IsBusy | None = None,
    sids: Sids | None = None,
    numbers: webhook.Numbers = webhook.NUMBERS,
) -> Report:
    """Calls the websocket at `url`, takes the steps, hangs up, and reports.

    Where `url` is that of a voice webhook (http or https), it is asked first, as Twilio asks it,
    and the websocket is the one that its TwiML names.

    Whatever happens once the call is connected is told by the report. `limit` is the most seconds
    it may last; `parameters` are TwiML's `<Parameter>`s, beside those that a webhook gives;
    `headers` go with every request, and those that `sign` makes for it; `watch` is told 50 times a
    second. `is_busy` is asked whether the agent is at work at that second of the call, so that what
    it said is no answer yet. `numbers` are told to a webhook.

    Raises:
        NotConnected: there was no call.
    """
    sids = sids or Sids()
    given = dict(parameters or {})
    if url.startswith(("http://", "https://")):
        streamed = await _ask_webhook(url, sids, numbers, headers or {}, sign)
        url, given = streamed.url, streamed.parameters | given
    parts, port = _parts(url, _WEBSOCKET)
    signed = {} if sign is None else sign(url, {})
    stream = await _connect(parts.hostname or "", port, parts.scheme == "wss")
    return await call_over(
        stream,
        steps,
        host=_host(parts),
        path=_target(parts),
        limit=limit,
        parameters=given,
        headers={**_key_for(stream), **(headers or {}), **signed},
        watch=watch,
        is_busy=is_busy,
        sids=sids,
    )


async def _ask_webhook(
    url: str,
    sids: Sids,
    numbers: webhook.Numbers,
    headers: Mapping[str, str],
    sign: Sign | None,
) -> webhook.Streamed:
    parts, port = _parts(url, _HTTP)
    form = webhook.form(sids.call, sids.account, numbers)
    signed = {} if sign is None else sign(url, form)
    stream = await _connect(parts.hostname or "", port, parts.scheme == "https")
    try:
        streamed = await webhook.ask(
            stream, _host(parts), _target(parts), form, {**_key_for(stream), **headers, **signed}
        )
        _parts(streamed.url, _WEBSOCKET)
    except webhook.NotStreamed as exc:
        raise NotConnected(str(exc), exc.status) from exc
    except NotAUrl as exc:
        # Not what was asked for, but what the webhook has answered.
        told = shown(streamed.url)
        raise NotConnected(f"the webhook has the call streamed to {told}") from exc
    finally:
        await trio.aclose_forcefully(stream)
    return streamed


def _parts(url: str, schemes: tuple[str, str]) -> tuple[urllib.parse.SplitResult, int]:
    """A URL's parts and its port."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or (443 if parts.scheme == schemes[1] else 80)
    except ValueError as exc:
        raise NotAUrl(f"{url}: not a URL: {exc}") from None
    if parts.scheme not in schemes or not parts.hostname or not re.fullmatch("[!-~]+", url):
        raise NotAUrl(
            f"{url}: not a URL to call; it looks like ws://127.0.0.1:5000/twilio, or"
            " http://127.0.0.1:5000/twiml for the webhook"
        )
    return parts, port


def _host(parts: urllib.parse.SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _target(parts: urllib.parse.SplitResult) -> str:
    return urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))


def _key_for(stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> dict[str, str]:
    """What lets this user in at a server of their own that is on this machine."""
    tcp = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    key = local_key.of_peer(tcp.socket)
    return {} if key is None else {"Authorization": f"Bearer {key}"}


async def _connect(
    host: str, port: int, is_secure: bool
) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
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
        raise NotConnected(f"{host}:{port} did not answer in {CONNECT_TIMEOUT:.0f} s") from None
    except trio.BrokenResourceError as exc:
        raise NotConnected(f"{host}:{port}: no TLS: {exc.__cause__ or exc}") from exc
    except (OSError, UnicodeError) as exc:  # a name that none can be
        raise NotConnected(f"{host}:{port}: {_reason(exc)}") from exc


def _reason(exc: BaseException) -> str:
    """The system's own words, which Trio wraps once for all addresses and once for each."""
    while exc.__cause__ is not None:
        exc = exc.__cause__
        if isinstance(exc, BaseExceptionGroup):
            exc = exc.exceptions[0]
    if isinstance(exc, OSError) and exc.errno is not None:
        is_name = isinstance(exc, socket.gaierror)  # which has numbers of its own
        return (exc.strerror or str(exc)) if is_name else os.strerror(exc.errno)
    return str(exc)


async def call_over(
    stream: trio.abc.Stream,
    steps: Sequence[Step],
    *,
    host: str = "localhost",
    path: str = "/twilio",
    limit: float = 120.0,
    parameters: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    watch: Watch | None = None,
    is_busy: IsBusy | None = None,
    sids: Sids | None = None,
) -> Report:
    """`place_call` over a stream that is connected already. Closes it."""
    result = None
    door: Any = _Door(stream)  # any stream will do
    try:
        async with trio.open_nursery() as nursery:
            reader = _Reader(nursery)
            with trio.move_on_after(HANDSHAKE_TIMEOUT) as reader.opening:
                websocket = await trio_websocket.wrap_client_stream(
                    reader,  # type: ignore[arg-type] # of a nursery it uses `start_soon` alone
                    door,
                    host,
                    path,
                    extra_headers=[
                        (name.encode(), value.encode())
                        for name, value in {**HEADERS, **(headers or {})}.items()
                    ],
                    message_queue_size=16,
                    max_message_size=MAX_BYTES,
                    receive_buffer_size=65536,
                )
            if not reader.opening.cancelled_caught:
                door.is_open = True
                manners = Manners(steps, limit, is_busy or never)
                result = await Phone(
                    websocket, stream, manners, dict(parameters or {}), watch, sids
                ).run()
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)
    if result is None:
        raise _why_not(reader, door)
    return result


def _why_not(reader: "_Reader", door: "_Door") -> NotConnected:
    if reader.fault:
        return NotConnected(f"no websocket is spoken there: {reader.fault}")
    refusal = reader.refusal or handshake.refusal(door.answer)
    if refusal is not None:
        status, body = refusal
        return NotConnected(f"HTTP {status}{_told(body)}", status)
    if reader.is_over:
        return NotConnected("the connection was closed during the handshake")
    return NotConnected("no answer to the handshake")


class _Door:
    """The stream to a bridge, as long as the handshake is not done: no more is read than may be."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.answer = bytearray()
        self.is_open = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self.is_open and len(self.answer) >= handshake.MAX_ANSWER:
            return b""
        data = bytes(await self._stream.receive_some(max_bytes))
        if not self.is_open:
            self.answer += data
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Reader:
    """Stands in for the nursery that trio-websocket starts its reader task in.

    The exceptions of that task stop here, and a handshake that it gave up is given up.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.opening = trio.CancelScope()
        self.fault = ""
        self.is_over = False
        self.refusal: tuple[int, bytes] | None = None  # status and body

    def start_soon(self, reader: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, reader)

    async def _run(self, reader: Callable[[], Awaitable[None]]) -> None:
        try:
            await reader()
            self.is_over = True
        except trio_websocket.ConnectionRejected as exc:
            self.refusal = exc.status_code, exc.body or b""
        except (ProtocolError, h11.ProtocolError) as exc:
            self.fault = str(_first_fault(exc))
        finally:
            self.opening.cancel()


def _first_fault(exc: BaseException) -> BaseException:
    """To a garbled handshake trio-websocket answers as only a server may, which h11 forbids; what
    was wrong with the handshake is what that happened under."""
    fault, below = exc, exc.__context__
    while below is not None:
        if isinstance(below, ProtocolError | h11.ProtocolError):
            fault = below
        below = below.__context__
    return fault


def _told(body: bytes) -> str:
    """What a refusal says, in a line; pages for browsers are left out."""
    text = " ".join(handshake.reason(body).split())
    return "" if not text or text.startswith("<") else f": {text}"

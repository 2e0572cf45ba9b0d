"""One simulated phone call to any bridge's websocket, made as Twilio makes it.

`place_call` dials a URL, that of a media websocket or of a voice webhook; `call_over` calls over
any Trio stream. What the caller does is told by steps, see `script`, and what came of it by a
`Report`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import h11
import trio
import trio_websocket
from wsproto.utilities import ProtocolError

from sts_trio.simulate import webhook
from sts_trio.simulate.connect import (
    HTTP,
    WEBSOCKET,
    NotAUrl,
    NotConnected,
    connect,
    host_of,
    key_for,
    parts_of,
    target_of,
)
from sts_trio.simulate.phone import Phone, Sids, Watch
from sts_trio.simulate.report import Report
from sts_trio.simulate.script import CallerScript, IsBusy, Step, never
from sts_trio.wire import handshake
from sts_trio.wire.printable import quoted

HANDSHAKE_TIMEOUT = 5.0
# A bridge may send a whole answer at once.
MAX_BYTES = 2**24

# The headers that a request for this URL, with this form if it is a webhook's, is signed with.
Sign = Callable[[str, Mapping[str, str]], Mapping[str, str]]

HEADERS = {"User-Agent": "Twilio.TmeWs/1.0", "Accept-Encoding": "gzip"}


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
    parts, port = parts_of(url, WEBSOCKET)
    signed = {} if sign is None else sign(url, {})
    stream = await connect(parts.hostname or "", port, parts.scheme == "wss")
    return await call_over(
        stream,
        steps,
        host=host_of(parts),
        path=target_of(parts),
        limit=limit,
        parameters=given,
        headers={**key_for(stream), **(headers or {}), **signed},
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
    parts, port = parts_of(url, HTTP)
    form = webhook.form(sids.call, sids.account, numbers)
    signed = {} if sign is None else sign(url, form)
    stream = await connect(parts.hostname or "", port, parts.scheme == "https")
    try:
        streamed = await webhook.ask(
            stream, host_of(parts), target_of(parts), form, {**key_for(stream), **headers, **signed}
        )
        parts_of(streamed.url, WEBSOCKET)
    except webhook.NotStreamed as exc:
        raise NotConnected(str(exc), exc.status) from exc
    except NotAUrl as exc:
        # Not what was asked for, but what the webhook has answered.
        told = quoted(streamed.url)
        raise NotConnected(f"the webhook has the call streamed to {told}") from exc
    finally:
        await trio.aclose_forcefully(stream)
    return streamed


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
                script = CallerScript(steps, limit, is_busy or never)
                result = await Phone(
                    websocket, stream, script, dict(parameters or {}), watch, sids
                ).run()
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)
    if result is None:
        raise _refusal(reader, door)
    return result


def _refusal(reader: "_Reader", door: "_Door") -> NotConnected:
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

"""The handshake of a media stream, as Twilio shakes hands, and the websocket it leads to."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import h11
import trio
import trio_websocket
from wsproto.utilities import ProtocolError

from sts_trio.simulate.connect import NOT_101, UNANSWERED, NotConnected
from sts_trio.wire import handshake

HANDSHAKE_TIMEOUT = 5.0
# A bridge may send a whole answer at once.
MAX_BYTES = 2**24

HEADERS = {"User-Agent": "Twilio.TmeWs/1.0", "Accept-Encoding": "gzip"}


@contextlib.asynccontextmanager
async def websocket(
    stream: trio.abc.Stream,
    *,
    host: str,
    path: str,
    headers: Mapping[str, str],
    timeout: float = 0.0,
) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    """A websocket over a connected stream, which is closed when the block is left.

    Raises:
        NotConnected: the handshake was refused, or was none, or took longer than `timeout`, else
            `HANDSHAKE_TIMEOUT`.
    """
    door: Any = _Door(stream)  # any stream will do
    is_open = False
    try:
        async with trio.open_nursery() as nursery:
            reader = _Reader(nursery)
            with trio.move_on_after(timeout or HANDSHAKE_TIMEOUT) as reader.opening:
                socket = await trio_websocket.wrap_client_stream(
                    reader,  # type: ignore[arg-type] # of a nursery it uses `start_soon` alone
                    door,
                    host,
                    path,
                    extra_headers=[
                        (name.encode(), value.encode())
                        for name, value in {**HEADERS, **headers}.items()
                    ],
                    message_queue_size=16,
                    max_message_size=MAX_BYTES,
                    receive_buffer_size=65536,
                )
                is_open = True
            if is_open:
                door.is_open = True
                yield socket
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)
    if not is_open:
        raise _refusal(reader, door)


def _refusal(reader: "_Reader", door: "_Door") -> NotConnected:
    if reader.fault:
        return NotConnected(f"no websocket is spoken there: {reader.fault}", code=NOT_101)
    refusal = reader.refusal or handshake.refusal(door.answer)
    if refusal is not None:
        status, body = refusal
        return NotConnected(f"HTTP {status}{_told(body)}", status, NOT_101)
    if reader.is_over:
        return NotConnected("the connection was closed during the handshake", code=NOT_101)
    return NotConnected("no answer to the handshake", code=UNANSWERED)


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

"""The caller's socket as typed messages, the portable way: ASGI's `receive` and `send`.

Hypercorn shields its writes and gives them no time limit, and acts on no missing pong. So a watch
looks at the connection beneath (`hypercorn_guard`), and drops it when the caller has been silent
for too long, reads no more, or when the call is over and a write is still stuck.

Hypercorn reads what comes on its socket, but may be told when: see `open_caller`. What it has read
in one go is then heard in one go, and goes to the agent in one message.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol

import trio
from hypercorn.protocol.ws_stream import WSStream
from wsproto.connection import ConnectionState

from sts_trio.errors import How, Leg, LegEnded
from sts_trio.legs import Idle, ignore
from sts_trio.net.side_tasks import side_tasks
from sts_trio.net.ticker import Ticker
from sts_trio.wire import twilio
from sts_trio.wire.anomalies import Malformed, TooBig

# Twilio's messages are 400 bytes, and other bridges allow 64 KiB; a minute of audio may pass.
MAX_PER_MESSAGE = 1024 * 1024
# Hypercorn pings every 10 s: no byte for this long, and three pongs are missing.
SILENT_AFTER = 25.0
# One write may wait this long for the caller to read.
STALLED_AFTER = 8.0
WATCH_EVERY = 1.0
# A turn costs four times as much as on the fast way: so few at once, that nobody waits for the
# last of them for more than 2 ms; and CPU counts for more than delay at half as many calls.
TURNS_AT_ONCE = 8
WEIGHT = 2

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Hear = Callable[[Sequence[twilio.FromCaller | TooBig | LegEnded]], None]


class Connection(Protocol):
    """The accepted TCP connection beneath, see `hypercorn_guard`."""

    pace: Callable[[], Awaitable[None]] | None

    @property
    def last_heard(self) -> float:
        """When any byte last came from the peer, in Trio's time."""
        ...

    def abort(self) -> None:
        """Drops the connection at once; a write that waits on it ends."""
        ...


class CallerLeg:
    """An accepted Media Stream. See `sts_trio.legs` for the contract."""

    is_polled = False

    def __init__(
        self,
        receive: Receive,
        send: Send,
        connection: Connection | None,
        reading: "_Reading | None" = None,
    ) -> None:
        self._receive = receive
        self._send = send
        self._connection = connection
        self._reading = reading
        self._how: How | None = None  # known before ASGI tells us
        self._sending_since: float | None = None
        self._said_goodbye = False

    async def listen(self, hear: Hear, idle: Idle = ignore) -> None:
        is_over = False
        while not is_over:
            events = [await self._receive()]
            if self._reading is not None:
                await self._reading.until_done()
                events += _waiting_in(self._receive)
            heard: list[twilio.FromCaller | TooBig | LegEnded] = []
            for event in events:
                # There may be more behind it, and a second one.
                is_over = event["type"] == "websocket.disconnect"
                if is_over:
                    heard.append(LegEnded(Leg.CALLER, self._how or self._how_it_closed()))
                    break
                heard.append(self._decode(event))
            hear(heard)

    def try_send(self, message: twilio.ToCaller) -> bool:
        """Never: ASGI knows only `await`."""
        return False

    async def send(self, message: twilio.ToCaller) -> None:
        text = twilio.encode(message).decode()
        await self._give({"type": "websocket.send", "bytes": None, "text": text})

    async def aclose(self, code: int) -> None:
        """Sends the close frame; the listener hears when the caller's has come."""
        self._said_goodbye = True
        await self._give({"type": "websocket.close", "code": code, "reason": ""})

    async def _give(self, event: Any) -> None:
        self._sending_since = trio.current_time()
        # Hypercorn may be closing the socket of a caller who is gone, without taking turns with us.
        with contextlib.suppress(trio.BusyResourceError):
            await self._send(event)
        self._sending_since = None

    async def watch(self) -> None:
        """Looks after the connection beneath, until cancelled."""
        connection = self._connection
        if connection is None:
            return
        try:
            while self._how is None:
                await trio.sleep(WATCH_EVERY)
                self._how = self._what_is_wrong(connection, trio.current_time())
            connection.abort()
        finally:
            # Cancellation does not reach a write that Hypercorn shields.
            if self._sending_since is not None:
                connection.abort()

    def _what_is_wrong(self, connection: Connection, now: float) -> How | None:
        if self._sending_since is not None and now - self._sending_since > STALLED_AFTER:
            return How.STALLED
        if now - connection.last_heard > SILENT_AFTER:
            return How.SILENT
        # Over its own size limit Hypercorn closes with 1009, reads on, and tells nobody.
        if self._websocket_state() is ConnectionState.LOCAL_CLOSING and not self._said_goodbye:
            return How.CLOSED
        return None

    def _decode(self, event: Any) -> twilio.FromCaller | TooBig:
        text: str | None = event.get("text")
        if text is None:
            return Malformed(Leg.CALLER, "binary frame")
        if len(text) > MAX_PER_MESSAGE:
            return TooBig(Leg.CALLER, len(text))
        return twilio.decode(text)

    def _how_it_closed(self) -> How:
        """A close frame or not: ASGI does not say, Hypercorn's websocket knows."""
        if not isinstance(getattr(self._send, "__self__", None), WSStream):
            return How.CLOSED
        # None: the caller was gone before the accept, and there was no websocket yet.
        was_open = self._websocket_state() in (None, ConnectionState.OPEN)
        return How.LOST if was_open else How.CLOSED

    def _websocket_state(self) -> ConnectionState | None:
        stream = getattr(self._send, "__self__", None)
        connection = getattr(stream, "connection", None) if isinstance(stream, WSStream) else None
        return connection.state if connection is not None else None


async def accept(send: Send) -> None:
    """Accepts the websocket, and no compression, which browsers offer and Hypercorn would agree to.

    64 KiB inflate to 64 MiB: before the size of a message is looked at, and while all calls wait.
    """
    stream = getattr(send, "__self__", None)
    if type(stream) is WSStream:
        stream.handshake.extensions = None
    await send({"type": "websocket.accept", "subprotocol": None, "headers": []})


@contextlib.asynccontextmanager
async def open_caller(
    receive: Receive,
    send: Send,
    connection: Connection | None,
    ticker: Ticker | None = None,
) -> AsyncIterator[CallerLeg]:
    """Accepts the websocket. Without a `connection` nothing watches over it.

    With a `ticker` as well, Hypercorn reads the socket once a tick, and finds something there.
    Left to itself it would wait for each packet, which is a third of what this way costs.
    """
    await accept(send)
    async with side_tasks() as nursery:
        with _paced(connection, ticker) as reading:
            leg = CallerLeg(receive, send, connection, reading)
            nursery.start_soon(leg.watch)
            yield leg


@contextlib.contextmanager
def _paced(connection: Connection | None, ticker: Ticker | None) -> Iterator["_Reading | None"]:
    if connection is None or ticker is None:
        yield None
        return
    reading = _Reading()
    try:
        with ticker.registered(reading.turn):
            connection.pace = reading.begin
            yield reading
    finally:
        connection.pace = None
        reading.turn(trio.current_time())


class _Reading:
    """Hypercorn's reading of the socket: once a tick, it hands over one message after the other."""

    def __init__(self) -> None:
        self._reader = trio.lowlevel.ParkingLot()
        self._listener = trio.lowlevel.ParkingLot()
        self._is_done = True
        self._is_late = False  # a tick has come in the midst of it

    async def begin(self) -> None:
        """For the reader, before each read."""
        self._is_done, self._is_late = True, False
        self._listener.unpark_all()
        await self._reader.park()
        self._is_done = False

    def turn(self, now: float) -> None:
        self._is_late = not self._is_done
        self._reader.unpark_all()
        self._listener.unpark_all()

    async def until_done(self) -> None:
        """Returns when all of it has been handed over, or at the next tick: there is room for ten
        messages, and where there are more the reader waits for its listener."""
        if not self._is_done and not self._is_late:
            await self._listener.park()


def _waiting_in(receive: Receive) -> list[Any]:
    """What there is already, where ASGI's `receive` is a memory channel's."""
    channel = getattr(receive, "__self__", None)
    events: list[Any] = []
    if isinstance(channel, trio.MemoryReceiveChannel):
        with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):
            while True:
                events.append(channel.receive_nowait())
    return events

"""A Twilio and an agent to stand at the two ends of a call, on memory instead of sockets.

`FakeTwilio` is what an ASGI handler sees of Twilio behind Hypercorn. `FakeAgent` is a real
trio-websocket server on a memory stream, with doors that a test opens one by one, so that a call
can be held in any phase.
"""

import contextlib
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing
import trio_websocket
import wsproto.events
from hypercorn.protocol.ws_stream import WSStream
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection, ConnectionState
from wsproto.utilities import LocalProtocolError

from sts_trio.audio.frames import SILENCE
from sts_trio.bridge.run import Bridge
from sts_trio.call.info import CallInfo, streamed
from sts_trio.legs.agent import AgentLeg
from sts_trio.legs.caller_adopted import AdoptedLeg
from sts_trio.legs.caller_asgi import CallerLeg, open_caller
from sts_trio.legs.handshake import converse
from sts_trio.logic.dialogue import Dialogue, Settings
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.states import AGENT_TIMEOUT
from sts_trio.net import wsproto_cycle
from sts_trio.net.side_tasks import side_tasks
from sts_trio.net.ticker import Ticker
from sts_trio.wire import deepgram, deepgram_settings, twilio
from sts_trio.wire.dialect import Dialect, language

STREAM_SID = "MZ00000000000000000000000000000003"
CALL_SID = "CA00000000000000000000000000000002"
ACCOUNT_SID = "AC00000000000000000000000000000001"

START = twilio.Start(
    twilio.StreamStart(stream_sid=STREAM_SID, call_sid=CALL_SID, account_sid=ACCOUNT_SID),
    stream_sid=STREAM_SID,
    sequence_number=1,
)
STOP = twilio.Stop(twilio.StreamStop(CALL_SID, ACCOUNT_SID), stream_sid=STREAM_SID)
SETTINGS = deepgram_settings.phone_settings({"greeting": "Hello."})


def media(payload: bytes = b"\x55" * 160) -> twilio.Media:
    return twilio.Media(twilio.Inbound(payload), stream_sid=STREAM_SID)


class FakeTwilio(WSStream):
    """Twilio's end, and Hypercorn's behaviour in between. Also the connection beneath.

    `goodbye` is (time, close code) once the bridge has closed, `gone_at` when the socket was gone.
    """

    def __init__(self, *, answers_close: bool = True, reads: bool = True) -> None:
        self.connection: Any = SimpleNamespace(state=ConnectionState.OPEN)
        self.answers_close = answers_close
        self.reads = reads
        self.answers_pings = True
        self.pace: Callable[[], Awaitable[None]] | None = None
        self.played: list[twilio.ToCaller] = []
        self.goodbye: tuple[float, int] | None = None
        self.gone_at: float | None = None
        self.accepted = trio.Event()
        self._aborted = trio.Event()
        self._silent_since = math.inf
        self._inlet, self._outlet = trio.open_memory_channel[dict[str, Any]](math.inf)

    def open(self) -> contextlib.AbstractAsyncContextManager[CallerLeg]:
        return open_caller(self.receive, self.app_send, self)

    # What the handler is given.

    async def receive(self) -> dict[str, Any]:
        return await self._outlet.receive()

    async def app_send(self, message: Any) -> None:
        if self.gone_at is not None:
            return  # as Hypercorn: at once, without a checkpoint
        if message["type"] == "websocket.accept":
            self.accepted.set()
        elif message["type"] == "websocket.send":
            await self._wait_until_read()
            self.played.append(twilio.decode_as_twilio(message["text"]))
        elif message["type"] == "websocket.close":
            await self._wait_until_read()
            self.goodbye = (trio.current_time(), message["code"])
            self.connection.state = ConnectionState.LOCAL_CLOSING
            if self.answers_close:
                self._disconnect(ConnectionState.CLOSED)

    @property
    def last_heard(self) -> float:
        return min(trio.current_time(), self._silent_since)

    def abort(self) -> None:
        self._aborted.set()
        self._disconnect(self.connection.state)

    # What Twilio does.

    def tell(self, *messages: twilio.Message) -> None:
        for message in messages:
            self.tell_text(twilio.encode_as_twilio(message))

    def tell_text(self, text: str) -> None:
        self._put({"type": "websocket.receive", "bytes": None, "text": text})

    def tell_bytes(self, data: bytes) -> None:
        self._put({"type": "websocket.receive", "bytes": data, "text": None})

    def close(self) -> None:
        """A close frame, answered by Hypercorn."""
        self._disconnect(ConnectionState.CLOSED)

    def lose(self) -> None:
        """FIN or RST."""
        self._disconnect(ConnectionState.OPEN)

    def vanish(self) -> None:
        """No byte from now on, not even pongs."""
        self._silent_since = trio.current_time()

    @property
    def audio(self) -> bytes:
        return b"".join(m.media.payload for m in self.played if isinstance(m, twilio.PlayMedia))

    def _put(self, event: dict[str, Any]) -> None:
        self._inlet.send_nowait(event)

    def _disconnect(self, state: ConnectionState) -> None:
        if self.gone_at is None:
            self.connection.state = state
            self.gone_at = trio.current_time()
            self._put({"type": "websocket.disconnect", "code": 1006})

    async def _wait_until_read(self) -> None:
        if not self.reads:
            with trio.CancelScope(shield=True):
                await self._aborted.wait()
        await trio.lowlevel.checkpoint()


class FakeAgent:
    """The agent's end. A door that is shut holds the session there; all are open by default.

    `got` is what it was told, `closed` (time, close code) when the websocket was over; 1006 means
    that no close frame came. `gone_at` is when the socket beneath was gone.
    """

    def __init__(
        self,
        *shut: str,
        refuse: int | None = None,
        dialect: Dialect = Dialect.V1,
        answers_close: bool = True,
    ) -> None:
        self.doors = {name: trio.Event() for name in ("handshake", "welcome", "applied")}
        for name in self.doors.keys() - set(shut):
            self.doors[name].set()
        self.refuse = refuse
        self.answers_close = answers_close
        self.language = language(dialect)
        self.got: list[deepgram.ToAgent] = []
        self.closed: tuple[float, int] | None = None
        self.gone_at: float | None = None
        self.dialled = trio.Event()
        self.over = trio.Event()
        self.ready = trio.Event()
        self.socket: trio_websocket.WebSocketConnection | None = None
        self.is_mute = False
        self.stream: trio.abc.Stream
        self._nursery: trio.Nursery

    @property
    def audio(self) -> bytes:
        return b"".join(m.data for m in self.got if isinstance(m, deepgram.Audio))

    @property
    def speech(self) -> bytes:
        """The audio without the silence that fills gaps: on the real clock there may be some."""
        return self.audio.replace(SILENCE, b"")

    async def say(self, *messages: deepgram.TextFromAgent | deepgram.Audio) -> None:
        for message in messages:
            await self.say_raw(self.language.encode_as_agent(message))

    async def say_raw(self, frame: str | bytes) -> None:
        assert self.socket is not None
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            await self.socket.send_message(frame)

    def close(self, code: int) -> None:
        """Sends a close frame."""
        assert self.socket is not None
        self._nursery.start_soon(self.socket.aclose, code)

    async def drop(self) -> None:
        """The socket is gone, without a close frame."""
        await trio.aclose_forcefully(self.stream)

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.dialled.set()
        try:
            async with trio.open_nursery() as self._nursery:
                nursery = self._nursery
                observed = _Observed(stream, self, nursery.cancel_scope)
                await self._serve(nursery, observed)
                nursery.cancel_scope.cancel()
        except* LocalProtocolError:
            # trio-websocket answers a ping that comes after its own close frame, which is no more
            # allowed: https://github.com/python-trio/trio-websocket/issues/184.
            if not self.is_closing:
                raise
        finally:
            self.note_gone()
            self.over.set()
            await trio.aclose_forcefully(stream)

    async def _serve(self, nursery: trio.Nursery, stream: trio.abc.Stream) -> None:
        request = await trio_websocket.wrap_server_stream(
            nursery,
            stream,
            max_message_size=2**24,
        )
        if self.refuse is not None:
            await request.reject(self.refuse)
            return
        await self.doors["handshake"].wait()
        try:
            self.socket = await request.accept()
        except trio.Cancelled:
            # It would look like one of ours that was left.
            wsproto_cycle.break_cycle(request._connection._wsproto.connection)
            raise
        try:
            await self.doors["welcome"].wait()
            await self.say(deepgram.Welcome("request"))
            self.got.append(self.language.decode_as_agent(await self.socket.get_message()))
            await self.doors["applied"].wait()
            await self.say(deepgram.SettingsApplied())
            self.ready.set()
            while True:
                data = await self.socket.get_message()
                self.got.append(self.language.decode_as_agent(data))
        except trio_websocket.ConnectionClosed as exc:
            code = exc.reason.code if exc.reason else 1006
            self.closed = (trio.current_time(), code)
            if not self.answers_close:
                await trio.sleep_forever()

    @property
    def is_closing(self) -> bool:
        """A close frame has come."""
        return self.socket is not None and self.socket.closed is not None

    def note_gone(self) -> None:
        if self.gone_at is None:
            self.gone_at = trio.current_time()
        if self.closed is None:
            reason = self.socket.closed if self.socket else None
            self.closed = (trio.current_time(), reason.code if reason else 1006)


class _Observed(trio.abc.Stream):
    """The agent's stream: tells when the other end is gone, and can go mute."""

    def __init__(self, inner: trio.abc.Stream, agent: FakeAgent, scope: trio.CancelScope) -> None:
        self._inner = inner
        self._agent = agent
        self._scope = scope

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            data = await self._inner.receive_some(max_bytes)
            while data and self._agent.is_mute:
                data = await self._inner.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if not data:
            self._end()
        return bytes(data)

    def _end(self) -> None:
        self._agent.note_gone()
        self._scope.cancel()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._agent.is_closing and not self._agent.answers_close:
            return
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        # The server's side closes as soon as it has answered a close frame.
        if self._agent.answers_close:
            self._end()
            await self._inner.aclose()


class _Tapped:
    def __init__(self, dialogue: Dialogue, hear: Callable[..., Any]) -> None:
        self._dialogue = dialogue
        self.hear = hear

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialogue, name)


def tap(call: Bridge, hear: Callable[..., Any]) -> None:
    """Has the call's dialogue hear by `hear` from now on."""
    call.dialogue = _Tapped(call.dialogue, hear)  # type: ignore[assignment]


def broken(*_: object) -> Any:
    raise ZeroDivisionError("a bug")


class SocketTwilio:
    """Twilio's end of a socket that an `AdoptedLeg` has at the other. Looks like `FakeTwilio`.

    It reads at once. While it does not, or the bridge does not, it looks again every `STEP`.
    """

    STEP = 0.005

    def __init__(self, *, answers_close: bool = True, reads: bool = True) -> None:
        self.answers_close = answers_close
        self.reads = reads
        self.played: list[twilio.ToCaller] = []
        self.goodbye: tuple[float, int] | None = None
        self.gone_at: float | None = None
        self.accepted = trio.Event()
        self._answers_pings = True
        self._waiting = trio.CancelScope()
        self._wire = WSConnection(ConnectionType.CLIENT)
        self._wire.connection = Connection(ConnectionType.CLIENT)
        self._out = bytearray()
        self._text = ""
        self._socket, self._bridge = socket.socketpair()
        for end in (self._socket, self._bridge):
            end.setblocking(False)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[AdoptedLeg]:
        ticker = Ticker()
        async with side_tasks() as nursery:
            nursery.start_soon(ticker.run)
            nursery.start_soon(self._run)
            self.accepted.set()
            try:
                yield AdoptedLeg(self._bridge, ticker)
            finally:
                self._bridge.close()
                self._read()
                self._end()

    def tell(self, *messages: twilio.Message) -> None:
        for message in messages:
            self.tell_text(twilio.encode_as_twilio(message))

    def tell_text(self, text: str) -> None:
        self._write(wsproto.events.TextMessage(data=text))

    def tell_bytes(self, data: bytes) -> None:
        self._write(wsproto.events.BytesMessage(data=data))

    def close(self) -> None:
        self._write(wsproto.events.CloseConnection(code=1000))

    def lose(self) -> None:
        self._end()

    def vanish(self) -> None:
        self._answers_pings = False

    @property
    def audio(self) -> bytes:
        return b"".join(m.media.payload for m in self.played if isinstance(m, twilio.PlayMedia))

    async def _run(self) -> None:
        while self.gone_at is None:
            self._flush()
            with self._waiting:
                if self.reads and not self._out:
                    with contextlib.suppress(trio.ClosedResourceError):
                        await trio.lowlevel.wait_readable(self._socket)
                else:
                    await trio.sleep(self.STEP)
            self._waiting = trio.CancelScope()
            if self.reads:
                self._read()

    def _write(self, event: wsproto.events.Event) -> None:
        if self.gone_at is None and self._wire.state is not ConnectionState.CLOSED:
            with contextlib.suppress(LocalProtocolError):  # nothing follows a close frame
                self._out += self._wire.send(event)
            self._flush()
            if self._out:
                self._waiting.cancel()

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self._out:
                del self._out[: self._socket.send(self._out)]

    def _read(self) -> None:
        while self.gone_at is None:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return
            except ConnectionResetError:  # the bridge had not read all of ours
                data = b""
            if not data:
                self._end()
                return
            self._wire.receive_data(data)
            for event in self._wire.events():
                self._hear(event)

    def _hear(self, event: wsproto.events.Event) -> None:
        match event:
            case wsproto.events.TextMessage(data=data, message_finished=whole):
                self._text += data
                if whole:
                    self.played.append(twilio.decode_as_twilio(self._text))
                    self._text = ""
            case wsproto.events.Ping() if self._answers_pings:
                self._write(event.response())
            case wsproto.events.CloseConnection(code=code):
                self.goodbye = (trio.current_time(), code)
                if self.answers_close and self._wire.state is ConnectionState.REMOTE_CLOSING:
                    self._write(event.response())
            case _:
                assert isinstance(event, wsproto.events.Ping)

    def _end(self) -> None:
        if self.gone_at is None:
            self.gone_at = trio.current_time()
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            wsproto_cycle.break_cycle(self._wire.connection)


Phone = FakeTwilio | SocketTwilio
Opener = Callable[[], contextlib.AbstractAsyncContextManager[AgentLeg]]


def dial(nursery: trio.Nursery, agent: FakeAgent) -> Opener:
    """An opener of agent legs that ends at `agent`."""

    @contextlib.asynccontextmanager
    async def open_leg() -> AsyncIterator[AgentLeg]:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(agent.serve, theirs)
        async with converse(ours, "agent.test", "/v1/agent/converse", [], agent.language) as leg:
            yield leg

    return open_leg


class Lines:
    """Agents that answer in turn, the last one for ever. `opened` has the names asked for."""

    def __init__(self, *openers: Callable[[], Any]) -> None:
        self._openers = openers
        self.opened: list[str] = []

    async def choose(self, info: CallInfo) -> str:
        return "default"

    def open(self, agent: str, info: CallInfo, within: float) -> Any:
        assert within <= AGENT_TIMEOUT
        opener = self._openers[min(len(self.opened), len(self._openers) - 1)]
        self.opened.append(agent)
        return opener()


def make_call(
    nursery: trio.Nursery,
    phone: Phone,
    *agents: FakeAgent,
    forward: float = 0.02,
    policy: CallPolicy | None = None,
    settings: Settings = lambda wanted: SETTINGS,
    may_come_back: bool = False,
    **options: Any,
) -> Bridge:
    """A call whose agent is the first of these; if it is lost, the next."""
    releases = "release_phone_call" in options
    dialogue = Dialogue(
        settings,
        forward=forward,
        now=trio.current_time(),
        policy=policy,
        needs_release=lambda start: releases and streamed(start).is_from_bin,
        may_come_back=lambda start: may_come_back,
        was_elsewhere=lambda start: "recall" in options,
    )
    return Bridge(
        dialogue, phone.open, Lines(*(dial(nursery, agent) for agent in agents)), **options
    )


async def settle(phone: Phone) -> None:
    """Until what was sent has been heard; an adopted socket is heard in ticks."""
    await trio.testing.wait_all_tasks_blocked()
    if isinstance(phone, SocketTwilio):
        await trio.sleep(0.05)
        await trio.testing.wait_all_tasks_blocked()


@contextlib.asynccontextmanager
async def talking(phone: Phone, *agents: FakeAgent, **options: Any) -> AsyncIterator[Bridge]:
    """A call, already talking while inside; afterwards stopped by the caller, and over."""
    async with trio.open_nursery() as tasks:
        call = make_call(tasks, phone, *agents, **options)
        tasks.start_soon(call.run)
        phone.tell(twilio.Connected(), START)
        await agents[0].ready.wait()
        await settle(phone)
        yield call
        phone.tell(STOP)


def structs(*types: Any) -> Any:
    """A predicate for messages of these types, to read lists with."""
    return lambda message: isinstance(message, types)


def names(messages: list[Any]) -> list[str]:
    return [type(message).__name__ for message in messages]

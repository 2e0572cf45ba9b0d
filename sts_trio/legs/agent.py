"""The agent's socket as typed messages; the only place that dials with trio-websocket.

trio-websocket shakes hands. It is in life-support maintenance, and nothing of it shows outside this
module; a queue and two tasks of it would stand between the socket and who hears, and cost four
times what a message costs without. So once the websocket is open, the socket is ours, and frames
(`wire/frames.py`), pings and closing with it.

Whoever reads hears: the process's poller for all sockets at once, where it is out and the stream
can be read without waiting, and otherwise a task of the leg's own.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Sequence
from typing import Any, assert_never

import trio

from sts_trio.errors import How, Leg, LegEnded
from sts_trio.legs import Idle, ignore
from sts_trio.net.poller import Poller
from sts_trio.net.streams import TcpStream, TlsStream
from sts_trio.wire import deepgram, frames
from sts_trio.wire.anomalies import TooBig
from sts_trio.wire.dialect import Language

# A dead peer is found within 20 s: a ping every 10 s, and its pong before the next.
PING_EVERY = 10.0
# Audio of six minutes in one message is served; Deepgram's own are 4 KiB.
MAX_PER_MESSAGE = 4 * 1024 * 1024
# What an agent may say while nobody listens: two minutes of audio, and nobody is that late.
MAX_EARLY = 1024 * 1024

# The reading of one look: one agent that floods costs the others little.
RECEIVE = 16384

Heard = deepgram.FromAgent | TooBig | LegEnded
Hear = Callable[[Sequence[Heard]], None]

_NO_CODE = 1005  # RFC 6455, section 7.1.5: a close frame held none


class AgentLeg:
    """An open session with the agent. See `sts_trio.legs` for the contract.

    What the agent says while nobody listens is kept, and heard first by who does then: a leg may
    be handed over from one listener to another.
    """

    __slots__ = (
        "_bug",
        "_context",
        "_decode",
        "_early",
        "_early_size",
        "_encode",
        "_forget",
        "_hear",
        "_heard_all",
        "_is_closing",
        "_is_ponged",
        "_nursery",
        "_over",
        "_owed",
        "_reader",
        "_sending",
        "_stream",
        "_try_write",
    )

    is_polled = False
    is_prepared = False

    def __init__(self, stream: trio.abc.Stream, language: Language, nursery: trio.Nursery) -> None:
        self._stream = stream
        self._decode = language.decode
        self._encode = language.encode
        self._nursery = nursery
        self._reader = frames.FrameReader(MAX_PER_MESSAGE, of_server=True)
        self._hear: Hear | None = None
        self._early: list[Heard] = []
        self._early_size = 0
        self._is_ponged = True
        self._is_closing = False  # nothing more is to be sent
        # {opcode: control frame that could not be written at once}
        self._owed: dict[int, bytes] = {}
        self._sending = trio.Lock()
        self._over = trio.Event()
        self._heard_all = trio.Event()
        self._bug: Exception | None = None
        # What `hear` starts is to inherit this call's context, not the poller's.
        self._context = contextvars.copy_context()
        self._forget: Callable[[], None] = _nothing
        # Other streams (memory streams in tests) know only `await`.
        self._try_write: Callable[[bytes], bool] = getattr(stream, "try_send", _never)

    async def listen(self, hear: Hear, idle: Idle = ignore) -> None:
        early, self._early = self._early, []
        self._early_size = 0
        self._hear = hear
        try:
            if early:
                hear(early)
            await self._heard_all.wait()
            if self._bug is not None:
                raise self._bug
        except trio.Cancelled:
            self._hear = None
            raise
        finally:
            # Who hears has this leg, and so has the traceback of a bug.
            if self._hear is hear:
                self._hear = _hear_no_more
            self._bug = None

    def try_send(self, message: deepgram.ToAgent) -> bool:
        """Audio alone: what the socket does not take of it goes with the next, which comes soon.
        Behind a text nothing may follow: none before the settings are applied.

        Order is kept: the stream takes nothing while somebody sends.
        """
        if type(message) is not deepgram.Audio or self._is_closing:
            return False
        return self._try_write(frames.masked_binary(message.data))

    async def send(self, message: deepgram.ToAgent) -> None:
        await self._send(self._frame(message))

    async def aclose(self, code: int) -> None:
        """Sends the close frame and waits for the agent's."""
        await self._pay()
        await self._send(frames.masked(frames.close(code)), is_last=True)
        await self._over.wait()

    # --- reading --------------------------------------------------------------------------------

    def read_with(self, poller: Poller | None) -> None:
        """Begins to read: by the poller where that can be, else in a task of its own."""
        stream = self._stream
        if poller is None or not poller.is_out or not isinstance(stream, TcpStream | TlsStream):
            self._nursery.start_soon(self._read_on)
            return
        fileno = stream.fileno()
        self._forget = functools.partial(poller.forget, fileno)
        poller.watch(fileno, self._look)
        self._look()  # TLS may have in itself what its socket has no more

    def forget(self) -> None:
        """Has the poller look elsewhere: before the socket is closed."""
        self._forget()

    def take(self, data: bytes) -> None:
        """Hears what was read; `b""` is the end of it. Never raises."""
        if self._over.is_set():
            return
        # An agent may go on talking until it has read our goodbye.
        was_closing = self._is_closing
        heard = self._understand(data) if data else [LegEnded(Leg.AGENT, How.LOST)]
        if self._hear is None:
            self._early_size += len(data)
            if self._early_size > MAX_EARLY:
                heard = [LegEnded(Leg.AGENT, How.LOST, reason="talks, and nobody listens")]
        if heard and isinstance(heard[-1], LegEnded):
            self._end(heard[-1:] if was_closing else heard)
        elif heard and not was_closing:
            self._give(heard)

    def _look(self) -> None:
        stream: Any = self._stream  # one that can be read without waiting, see `read_with`
        try:
            data = stream.read(RECEIVE)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if data is not None:
            self.take(data)
            if stream.is_at_end:
                self.take(b"")

    async def _read_on(self) -> None:
        while not self._over.is_set():
            try:
                data = await self._stream.receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            self.take(bytes(data))

    def _understand(self, data: bytes) -> list[Heard]:
        heard: list[Heard] = []
        for frame in self._reader.feed(data):
            if isinstance(frame, frames.Binary):
                heard.append(self._decode(frame.data))
            elif isinstance(frame, bytes):
                heard.append(self._decode(frame.decode()))
            else:
                self._hear_seldom(frame, heard)
        return heard

    def _hear_seldom(
        self,
        frame: frames.Ping | frames.Pong | frames.Close | frames.Violation,
        heard: list[Heard],
    ) -> None:
        match frame:
            case frames.Ping(payload):
                if not self._is_closing:
                    self._tell(frames.pong(payload))
            case frames.Pong():
                self._is_ponged = True
            case frames.Close(code, reason):
                self._close(code)
                code = _NO_CODE if code is None else code
                heard.append(LegEnded(Leg.AGENT, How.CLOSED, code, reason))
            case frames.Violation(code, reason, size):
                self._close(code, reason)
                if code == frames.TOO_BIG:
                    heard.append(TooBig(Leg.AGENT, size))
                heard.append(LegEnded(Leg.AGENT, How.CLOSED, code, reason))
            case _:
                assert_never(frame)

    def _give(self, heard: Sequence[Heard]) -> None:
        if self._hear is None:
            self._early += heard
            return
        try:
            self._context.run(self._hear, heard)
        except Exception as exc:
            self._bug = exc
            self._hear = _hear_no_more
            self._heard_all.set()

    def _end(self, heard: Sequence[Heard]) -> None:
        """The last of it is heard."""
        self._forget()
        self._is_closing = True
        self._over.set()
        self._give(heard)
        self._heard_all.set()

    # --- writing --------------------------------------------------------------------------------

    def _frame(self, message: deepgram.ToAgent) -> bytes:
        encoded = self._encode(message)
        if isinstance(encoded, bytes):
            return frames.masked_binary(encoded)
        return frames.masked_text(encoded.encode())

    async def _send(self, frame: bytes, *, is_last: bool = False) -> None:
        """Does nothing once the leg is down: whoever reads hears of it."""
        async with self._sending:
            if not self._is_closing:
                self._is_closing = is_last
                await self._write(frame)

    async def _write(self, frame: bytes) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._stream.send_all(frame)

    def _tell(self, control_frame: bytes) -> None:
        """At once, or as soon as what is being sent is through."""
        frame = frames.masked(control_frame)
        if self._owed or not self._try_write(frame):
            if not self._owed:
                self._nursery.start_soon(self._pay)
            # Of several pongs the last will do (RFC 6455, section 5.5.3).
            self._owed[control_frame[0]] = frame

    async def _pay(self) -> None:
        async with self._sending:
            owed = b"".join(self._owed.values())
            self._owed.clear()
            if owed:
                await self._write(owed)

    def _close(self, code: int | None, reason: str = "") -> None:
        """A close frame, the answer to theirs or to what they did: once, and nothing after it."""
        if not self._is_closing:
            self._is_closing = True
            self._tell(frames.close(code, reason))

    async def ping_until_silent(self) -> None:
        """Returns when a ping goes unanswered; the leg then ends."""
        while True:
            await trio.sleep(PING_EVERY)
            if self._over.is_set():
                return
            if not self._is_ponged:
                break
            self._is_ponged = False
            if not self._is_closing:
                self._tell(frames.ping())
        self._end([LegEnded(Leg.AGENT, How.SILENT)])
        await trio.aclose_forcefully(self._stream)


def _hear_no_more(batch: Sequence[object]) -> None:
    """What comes when the leg has ended, or its listener has failed."""


def _nothing() -> None:
    """There is no poller that looks."""


def _never(data: bytes) -> bool:
    return False

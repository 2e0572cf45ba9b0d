"""The caller's socket the fast way: Hypercorn's accepted socket, read in ticks and written at once.

Hypercorn reads the websocket's handshake; from then on the socket is ours, and with it what
Hypercorn did for it: the answer, frames (`wire/frames/`), pings, the size limit, the close. Every
tick of the ticker reads what has come, in one go, with no task to wake. Writing tries the socket
first; what it does not take is kept, one message at the most, and tried again on the next tick.

Adoption reaches into Hypercorn: the socket is taken out of its stream, which looks closed from then
on; with TLS, so are its keys (`net/tls_socket.py`). So it is done only where everything is exactly
as expected, by `can_adopt`; anywhere else the portable leg does the same work.
"""

import contextlib
import contextvars
from collections.abc import Callable, Sequence
from typing import Protocol, assert_never

import trio

from sts_trio.errors import How, Leg, LegEnded
from sts_trio.legs import Idle, ignore
from sts_trio.legs import caller_asgi as portable
from sts_trio.net.ticker import Ticker
from sts_trio.wire import frames, twilio
from sts_trio.wire.anomalies import Malformed, TooBig

# Thirty ticks of audio; more is read on the next tick.
RECEIVE = 65536
PING_EVERY = 10.0
MAX_DISCARDED = 16 * 1024 * 1024  # a tick
# Pongs that a caller does not read may wait here; one who lets more pile up is not listening.
MAX_PENDING = 65536
# What waits for the cork may all become pending, and a message may be of a second.
MAX_HELD = MAX_PENDING // 2

Heard = twilio.FromCaller | TooBig | LegEnded
Hear = Callable[[Sequence[Heard]], None]


class Socket(Protocol):
    """Does not block: a socket, or TLS on one. What `send` does not take is sent next."""

    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: bytes, /) -> int: ...


class AdoptedLeg:
    """A Media Stream on a non-blocking socket. See `sts_trio.legs` for the contract.

    The caller of this class closes the socket.
    """

    __slots__ = (
        "_bug",
        "_context",
        "_cork",
        "_hear",
        "_held",
        "_idle",
        "_is_broken",
        "_is_closing",
        "_is_deaf",
        "_is_over",
        "_last_heard",
        "_next_check",
        "_next_ping",
        "_over",
        "_pending",
        "_pending_since",
        "_reader",
        "_socket",
        "_ticker",
        "_written",
    )

    is_polled = True

    def __init__(self, sock: Socket, ticker: Ticker) -> None:
        self._socket = sock
        self._ticker = ticker
        self._cork = ticker.cork
        # Bytes: they are looked at for each message, and of `b""` there is one for all calls.
        self._held = b""  # by the cork
        self._reader = frames.FrameReader(portable.MAX_PER_MESSAGE)
        self._context: contextvars.Context
        self._hear: Hear
        self._idle: Idle
        self._is_over = False
        self._over = trio.Event()
        self._bug: Exception | None = None
        now = trio.current_time()
        self._last_heard = now
        self._next_ping = now + PING_EVERY
        self._next_check = 0.0
        self._pending = b""
        self._pending_since = 0.0
        self._written = trio.Event()
        self._is_broken = False
        self._is_closing = False
        self._is_deaf = False  # nothing that comes can be understood any more

    @property
    def is_stuck(self) -> bool:
        """Whether something could not be written, so that there is no proper end to be had."""
        return self._is_broken or bool(self._pending)

    def answer(self, handshake: bytes) -> None:
        """Accepts the websocket: before anything else is said."""
        self._write_now(handshake)

    async def listen(self, hear: Hear, idle: Idle = ignore) -> None:
        self._hear = hear
        self._idle = idle
        # What `hear` starts is to inherit this call's context, not the ticker's.
        self._context = contextvars.copy_context()
        try:
            with self._ticker.registered(self._turn):
                await self._over.wait()
            if self._bug is not None:
                raise self._bug
        finally:
            # Who hears has this leg, and so has the traceback of a bug.
            del self._hear, self._idle
            self._bug = None

    def try_send(self, message: twilio.ToCaller) -> bool:
        if self._pending or self._is_closing or self._is_over or len(self._held) > MAX_HELD:
            return False
        self._write(frames.text(twilio.encode(message)))
        return True

    async def send(self, message: twilio.ToCaller) -> None:
        await trio.lowlevel.checkpoint()
        while self._pending:
            await self._written.wait()
        if not self._is_closing and not self._is_over:
            self._write(frames.text(twilio.encode(message)))

    async def aclose(self, code: int) -> None:
        """Sends the close frame; the listener hears when the caller's has come."""
        await trio.lowlevel.checkpoint()
        self._close(code)
        # Once the leg is over, no tick comes to write what is left.
        while self._pending and not self._is_over:
            await self._written.wait()

    # --- one tick -------------------------------------------------------------------------------

    def _turn(self, now: float) -> None:
        """Nothing may get out of here: it would end the tick of everyone."""
        if self._is_over:
            return
        try:
            heard = self._read(now)
            if now >= self._next_check:
                self._look_after(now, heard)
            if not heard:
                self._context.run(self._idle, now)
                return
            if type(heard[-1]) is LegEnded:
                self._end()
            self._context.run(self._hear, heard)
        except Exception as exc:
            self._bug = exc
            self._end()

    def _end(self) -> None:
        self._is_over = True
        self._over.set()
        if self._pending:
            self._break()

    def _read(self, now: float) -> list[Heard]:
        try:
            data = self._socket.recv(RECEIVE)
        except BlockingIOError:
            return []
        except OSError as exc:
            return [LegEnded(Leg.CALLER, How.LOST, reason=exc.strerror or "")]
        if not data:
            return [LegEnded(Leg.CALLER, How.LOST)]
        if self._is_deaf:
            self._discard()
            return []
        self._last_heard = now
        return self._decode(data)

    def _discard(self) -> None:
        """Makes room for the caller to read our close frame, should it only be writing."""
        with contextlib.suppress(OSError):
            for _ in range(MAX_DISCARDED // RECEIVE):
                if not self._socket.recv(RECEIVE):
                    return

    def _decode(self, data: bytes) -> list[Heard]:
        whole = self._reader.feed(data)
        if self._reader.is_all_text:
            return twilio.decode_all(whole)  # type: ignore[arg-type,return-value]
        heard: list[Heard] = []
        ping: frames.Ping | None = None
        for frame in whole:
            if isinstance(frame, bytes):
                heard.append(twilio.decode(frame))
            elif isinstance(frame, frames.Ping):
                ping = frame
            else:
                self._hear_seldom(frame, heard)
        if ping is not None and not self._is_closing:
            # One answer to many (RFC 6455, section 5.5.3): thousands fit into one read.
            self._write(frames.pong(ping.payload))
        return heard

    def _hear_seldom(
        self,
        frame: frames.Pong | frames.Binary | frames.Close | frames.TooLong | frames.Violation,
        heard: list[Heard],
    ) -> None:
        match frame:
            case frames.Pong() | frames.TooLong():  # no caller's text is passed over
                pass
            case frames.Binary():
                heard.append(Malformed(Leg.CALLER, "binary frame"))
            case frames.Close(code, reason):
                self._close(code)
                heard.append(LegEnded(Leg.CALLER, How.CLOSED, code, reason))
            case frames.Violation(frames.TOO_BIG, _, size):
                # The call says goodbye with 1009; the caller's answer cannot be read any more.
                self._is_deaf = True
                heard.append(TooBig(Leg.CALLER, size))
            case frames.Violation(code, reason):
                self._is_deaf = True
                self._close(code, reason)
                heard.append(LegEnded(Leg.CALLER, How.LOST, reason=reason))
            case _:
                assert_never(frame)

    def _close(self, code: int | None, reason: str = "") -> None:
        """A close frame, ours or the answer to theirs: once, and nothing after it."""
        if not self._is_closing:
            self._is_closing = True
            self._write(frames.close(code, reason))

    def _look_after(self, now: float, heard: list[Heard]) -> None:
        """Writes what waits; sees whether the caller is still there.

        Every tick while something waits, else when a ping or the caller may be due.
        """
        if self._pending:
            self._write_now(b"")
        if not _has_ended(heard):
            heard += self._what_is_wrong(now)
        if not self._pending:
            self._next_check = min(self._next_ping, self._last_heard + portable.SILENT_AFTER)

    def _what_is_wrong(self, now: float) -> list[Heard]:
        if self._pending and (
            now - self._pending_since > portable.STALLED_AFTER or len(self._pending) > MAX_PENDING
        ):
            return [LegEnded(Leg.CALLER, How.STALLED)]
        if now - self._last_heard > portable.SILENT_AFTER:
            return [LegEnded(Leg.CALLER, How.SILENT)]
        if now >= self._next_ping and not self._is_closing:
            self._next_ping = now + PING_EVERY
            self._write(frames.ping(b""))
        return []

    # --- writing --------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        """Writes, once the cork is drawn, what the socket then takes; the rest is pending."""
        if self._pending or not self._cork.is_in:
            self._write_now(data)
            return
        if not self._held:
            self._cork.hold(self._release)
        self._held += data

    def _release(self) -> None:
        held, self._held = self._held, b""
        self._write_now(held)

    def _write_now(self, data: bytes) -> None:
        """What was pending already goes first."""
        if self._is_broken:
            return
        data = self._pending + data
        try:
            count = self._socket.send(data)
        except BlockingIOError:
            count = 0
        except OSError:
            self._break()  # reading finds out as well, and tells
            return
        if count == len(data):
            if self._pending:
                self._pending = b""
                self._let_writers_go_on()
            return
        if count or not self._pending:
            self._pending_since = trio.current_time()
        if not self._pending:
            self._next_check = 0.0
        self._pending = data[count:]

    def _break(self) -> None:
        """Nothing can be written any more: the socket is gone, or it is in the midst of a frame."""
        self._is_broken = True
        self._pending = b""
        self._let_writers_go_on()

    def _let_writers_go_on(self) -> None:
        self._written.set()
        self._written = trio.Event()


def _has_ended(heard: list[Heard]) -> bool:
    return bool(heard) and isinstance(heard[-1], LegEnded)

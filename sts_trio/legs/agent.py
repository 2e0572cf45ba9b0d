"""The agent's socket as typed messages.

No library for websockets has the socket: a queue and two tasks would stand between it and who
hears, and cost four times what a message costs without. So frames (`wire/frames/`), pings and
closing are ours, once hands are shaken (`handshake.py`).

The task that reads the socket also hears its messages: that of the process's poller, where it runs
and the stream can be read without waiting, and otherwise one of the leg's own. An agent that floods
is heard a piece at a time, with everyone's turn in between, and no more than so much a second: what
else it sends waits at its own end.
"""

import contextvars
import functools
from collections.abc import Callable, Sequence
from typing import Any, assert_never

import trio

from sts_trio.errors import How, Leg, LegEnded
from sts_trio.legs import Idle, ignore
from sts_trio.legs.agent_sender import Sender
from sts_trio.net.poller import ROUND, Poller
from sts_trio.net.streams import TcpStream, TlsStream
from sts_trio.wire import deepgram, frames
from sts_trio.wire.anomalies import Malformed, TooBig
from sts_trio.wire.dialect import Language

# A dead peer is found within 20 s: a ping every 10 s, and its pong before the next.
PING_EVERY = ROUND
# Audio of six minutes in one message is served; Deepgram's own are 4 KiB.
MAX_PER_MESSAGE = 4 * 1024 * 1024
# Of a text, which is read in one go: 3 ms for the worst there is, a list of small objects.
# Deepgram's own are of some KiB, and an answer to a function is cut at 16. What is longer is passed
# over.
MAX_TEXT = 64 * 1024
# A longer message of audio than 8 s is told in parts, as they come.
MAX_AUDIO = 65536
# What is heard of an agent in one go, until others had their turn: bytes as they came, which may be
# a message for each two of them, and so many messages. Of the dearest there are, the caller's
# barge-ins, it takes 3 ms.
AT_ONCE = 8192
MAX_MESSAGES = 256
# What is heard of an agent in a second on the average, and at once when it has been quiet: bytes,
# and a frame counts as half a KiB. That is 4,000 frames, or four minutes of audio: more than any
# agent sends, and some hundredths of a core.
RATE = 2 * 1024 * 1024
BURST = 2 * RATE
FRAME = 512
# What an agent may say while nobody listens: 8 s of audio, and nobody is that late.
MAX_EARLY = 65536

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
        "_caught_up",
        "_context",
        "_credit",
        "_credited_at",
        "_decode",
        "_early",
        "_forget",
        "_hear",
        "_heard_all",
        "_is_at_end",
        "_is_behind",
        "_is_over",
        "_is_ponged",
        "_leave",
        "_nursery",
        "_over",
        "_read_to",
        "_reader",
        "_sender",
        "_stream",
        "_unheard",
        "_unread",
        "_watch",
        "send",
        "try_send",
    )

    is_polled = False
    is_prepared = False

    def __init__(self, stream: trio.abc.Stream, language: Language, nursery: trio.Nursery) -> None:
        self._stream = stream
        self._decode = language.decode
        self._nursery = nursery
        self._sender = Sender(stream, language, nursery)
        self.send, self.try_send = self._sender.send, self._sender.try_send
        self._reader = frames.FrameReader(
            MAX_PER_MESSAGE, of_server=True, most_whole=MAX_AUDIO, most_text=MAX_TEXT
        )
        self._hear: Hear | None = None
        self._credit = float(BURST)  # see `RATE`
        self._credited_at = trio.current_time()
        self._early = 0  # bytes that came while nobody listened
        self._unread = b""  # what came; empty, once all of it is understood
        self._read_to = 0  # as far as it is
        self._unheard: list[Heard] = []
        self._is_at_end = False  # nothing comes behind that
        self._is_behind = False  # it has more than may be heard at once, or sent too much
        self._caught_up: trio.Event  # when it was
        self._is_ponged = True
        self._is_over = False  # nothing more is read
        self._over = trio.Event()  # when it is
        self._heard_all = trio.Event()
        self._bug: Exception | None = None
        # What `hear` starts is to inherit this call's context, not the poller's.
        self._context = contextvars.copy_context()
        self._watch: Callable[[], None] = _nothing
        self._forget: Callable[[], None] = _nothing
        self._leave: Callable[[], None] = _nothing

    async def listen(self, hear: Hear, idle: Idle = ignore) -> None:
        self._early = 0
        self._hear = hear
        try:
            self._go_on()
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

    async def aclose(self, code: int) -> None:
        """Sends the close frame and waits for the agent's."""
        await self._sender.say_goodbye(code)
        await self._over.wait()

    # --- reading --------------------------------------------------------------------------------

    def read_with(self, poller: Poller | None) -> None:
        """Begins to read and to ping: by the poller where that can be, else in tasks of its own."""
        stream = self._stream
        if poller is None or not poller.is_running or not isinstance(stream, TcpStream | TlsStream):
            self._nursery.start_soon(self._read_on)
            self._nursery.start_soon(self._ping_on)
            return
        poller.rounds.join(self._ping)
        self._leave = functools.partial(poller.rounds.leave, self._ping)
        fileno = stream.fileno()
        self._watch = functools.partial(poller.register, fileno, self._look)
        self._forget = functools.partial(poller.unregister, fileno)
        self._watch()
        self._look()  # TLS may have in itself what its socket has no more

    def forget(self) -> None:
        """Has the poller look elsewhere: before the socket is closed."""
        self._forget()
        self._leave()
        self._watch = self._leave = _nothing  # they have this leg, which has them

    def take(self, data: bytes) -> None:
        """Hears what was read, now or in a moment; `b""` is the end of it. Never raises."""
        if self._is_over:
            return
        if not data or len(data) > AT_ONCE or self._hear is None or self._unheard or self._unread:
            self._unread = self._unread[self._read_to :] + data
            self._read_to = 0
            self._is_at_end = not data
            self._go_on()
            return
        # Nearly all there is to hear; it takes the short way.
        heard = self._understand(data)
        if heard and (type(heard[-1]) is LegEnded or len(heard) > MAX_MESSAGES):
            self._keep(heard)
            self._hear_some()
        elif heard and not self._sender.has_said_goodbye:
            self._give(heard)
        if self._unheard or self._credit < 0:
            self._fall_behind()

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
        while not self._is_over:
            try:
                data = await self._stream.receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            self.take(bytes(data))
            if self._is_behind:
                await self._caught_up.wait()

    # --- hearing --------------------------------------------------------------------------------

    @property
    def _has_more(self) -> bool:
        """Whether more is to be heard of what came."""
        return bool(self._unread or (self._unheard and self._hear is not None))

    def _go_on(self) -> None:
        self._hear_some()
        if self._has_more or self._credit < 0:
            self._fall_behind()

    def _fall_behind(self) -> None:
        """No more is read until what came is heard, and may have come."""
        if not self._is_behind:
            self._is_behind = True
            self._caught_up = trio.Event()
            self._forget()
            self._nursery.start_soon(self._catch_up)

    async def _catch_up(self) -> None:
        while self._has_more or self._credit < 0:
            await trio.sleep(self._rest())
            self._hear_some()
        self._is_behind = False
        self._caught_up.set()
        if not self._is_over:
            self._watch()

    def _rest(self) -> float:
        """How long until the agent may be heard again, in seconds."""
        if self._credit < 0:
            now = trio.current_time()
            self._credit = min(self._credit + (now - self._credited_at) * RATE, BURST)
            self._credited_at = now
        return max(0.0, -self._credit / RATE)

    def _hear_some(self) -> None:
        """Understands a piece of what came, and gives it to the listener."""
        if (self._unread or self._is_at_end) and (self._hear is None or not self._unheard):
            self._understand_some()
        if self._hear is None:
            return
        if self._sender.has_said_goodbye:
            # An agent may go on talking until it has read it.
            self._unheard = [each for each in self._unheard if isinstance(each, LegEnded)]
        if self._unheard:
            heard = self._unheard[:MAX_MESSAGES]
            del self._unheard[:MAX_MESSAGES]
            self._give(heard)

    def _understand_some(self) -> None:
        if self._is_over:
            return
        piece = self._unread[self._read_to : self._read_to + AT_ONCE]
        self._read_to += len(piece)
        if self._read_to == len(self._unread):
            self._unread, self._read_to = b"", 0
        heard = self._understand(piece)
        if self._hear is None:
            self._early += len(piece)
            if self._early > MAX_EARLY:
                heard = [LegEnded(Leg.AGENT, How.LOST, reason="talks, and nobody listens")]
        if self._is_at_end and not self._unread and not _has_ended(heard):
            heard.append(LegEnded(Leg.AGENT, How.LOST))
        self._keep(heard)

    def _keep(self, heard: list[Heard]) -> None:
        """To be told in turn."""
        if _has_ended(heard):
            self._stop_reading()
        self._unheard += heard

    def _understand(self, data: bytes) -> list[Heard]:
        heard: list[Heard] = []
        ping: frames.Ping | None = None
        for frame in self._reader.feed(data):
            if isinstance(frame, frames.Binary):
                heard.append(self._decode(frame.data))
            elif isinstance(frame, bytes):
                heard.append(self._decode(frame.decode()))
            elif isinstance(frame, frames.Ping):
                ping = frame
            else:
                self._hear_seldom(frame, heard)
        self._credit -= len(data) + FRAME * self._reader.frames
        if ping is not None:
            # One answer to many (RFC 6455, section 5.5.3): thousands fit into one read.
            self._sender.pong(ping.payload)
        return heard

    def _hear_seldom(
        self,
        frame: frames.Pong | frames.Close | frames.TooLong | frames.Violation,
        heard: list[Heard],
    ) -> None:
        match frame:
            case frames.Pong():
                self._is_ponged = True
            case frames.TooLong():
                heard.append(Malformed(Leg.AGENT, f"a text of over {MAX_TEXT} bytes"))
            case frames.Close(code, reason):
                self._sender.answer_goodbye(code)
                code = _NO_CODE if code is None else code
                heard.append(LegEnded(Leg.AGENT, How.CLOSED, code, reason))
            case frames.Violation(code, reason, size):
                self._sender.answer_goodbye(code, reason)
                if code == frames.TOO_BIG:
                    heard.append(TooBig(Leg.AGENT, size))
                heard.append(LegEnded(Leg.AGENT, How.CLOSED, code, reason))
            case _:
                assert_never(frame)

    def _give(self, heard: Sequence[Heard]) -> None:
        try:
            self._context.run(self._hear, heard)  # type: ignore[arg-type] # somebody listens
        except Exception as exc:
            self._bug = exc
            self._hear = _hear_no_more
            self._heard_all.set()
        if type(heard[-1]) is LegEnded:
            self._heard_all.set()

    def _stop_reading(self) -> None:
        """The end is known, though it may be still to be heard."""
        self._forget()
        self._unread, self._read_to = b"", 0
        self._sender.is_closing = self._is_over = True
        self._over.set()

    # --- pings ----------------------------------------------------------------------------------

    async def _ping_on(self) -> None:
        while not self._is_over:
            await trio.sleep(PING_EVERY)
            self._ping()

    def _ping(self) -> None:
        """Once in `PING_EVERY`. The leg ends where the last one went unanswered."""
        if self._is_over:
            return
        if self._is_ponged:
            self._is_ponged = False
            self._sender.ping()
            return
        self._stop_reading()
        self._unheard.append(LegEnded(Leg.AGENT, How.SILENT))
        self._go_on()
        self._nursery.start_soon(trio.aclose_forcefully, self._stream)  # ends a write that is stuck


def _has_ended(heard: Sequence[Heard]) -> bool:
    return bool(heard) and isinstance(heard[-1], LegEnded)


def _hear_no_more(batch: Sequence[object]) -> None:
    """What comes when the leg has ended, or its listener has failed."""


def _nothing() -> None:
    """There is no poller that looks."""

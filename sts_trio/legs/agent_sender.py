"""The writing side of the agent's websocket: messages, control frames, and the goodbye, in order.

One that writes does so alone (`_alone`), so that no frame comes into another. Behind a close frame
nothing is written any more.
"""

import contextlib
from typing import Any

import trio

from sts_trio.wire import deepgram, frames
from sts_trio.wire.dialect import Language


class Sender:
    """Owns nothing: the leg closes the stream. `nursery` is the leg's."""

    __slots__ = (
        "_alone",
        "_encode",
        "_is_quick",
        "_nursery",
        "_owed",
        "_stream",
        "has_said_goodbye",
        "is_closing",
    )

    def __init__(self, stream: trio.abc.Stream, language: Language, nursery: trio.Nursery) -> None:
        self.is_closing = False  # nothing more is to be sent
        self.has_said_goodbye = False  # so nothing but the end is to be heard
        self._stream: Any = stream
        self._encode = language.encode
        self._nursery = nursery
        # {opcode: control frame that could not be written at once}
        self._owed: dict[int, bytes] = {}
        self._alone = trio.Lock()
        # Other streams (memory streams in tests) know only `await`.
        self._is_quick = hasattr(stream, "try_send")

    def try_send(self, message: deepgram.ToAgent) -> bool:
        """Audio alone: what the socket does not take of it goes with the next, which comes soon.
        Behind a text nothing may follow: none before the settings are applied.

        Order is kept: the stream takes nothing while somebody sends.
        """
        if type(message) is not deepgram.Audio or self.is_closing or not self._is_quick:
            return False
        sent: bool = self._stream.try_send(frames.masked_binary(message.data))
        return sent

    async def send(self, message: deepgram.ToAgent) -> None:
        """Does nothing once the leg is down: its reader hears of that."""
        encoded = self._encode(message)
        if isinstance(encoded, bytes):
            frame = frames.masked_binary(encoded)
        else:
            frame = frames.masked_text(encoded.encode())
        async with self._alone:
            if not self.is_closing:
                await self._write(frame)

    async def say_goodbye(self, code: int) -> None:
        """Sends a close frame of ours, behind all that is on its way."""
        async with self._alone:
            last = self._taken_owed()  # an answer to their goodbye may be among it
            if not self.is_closing:
                self.is_closing = self.has_said_goodbye = True
                last += frames.masked(frames.close(code))
            if last:
                await self._write(last)

    def answer_goodbye(self, code: int | None, reason: str = "") -> None:
        """A close frame, the answer to theirs or to what they did: once, and nothing after it."""
        if not self.is_closing:
            self.is_closing = True
            self._tell(frames.close(code, reason))

    def ping(self) -> None:
        if not self.is_closing:
            self._tell(frames.ping())

    def pong(self, payload: bytes) -> None:
        if not self.is_closing:
            self._tell(frames.pong(payload))

    def _tell(self, control_frame: bytes) -> None:
        """At once, or as soon as what is being sent is through."""
        frame = frames.masked(control_frame)
        if self._owed or not (self._is_quick and self._stream.try_send(frame)):
            if not self._owed:
                self._nursery.start_soon(self._pay)
            # Of several pongs the last will do (RFC 6455, section 5.5.3).
            self._owed[control_frame[0]] = frame

    async def _pay(self) -> None:
        async with self._alone:
            if owed := self._taken_owed():
                await self._write(owed)

    def _taken_owed(self) -> bytes:
        owed = b"".join(self._owed.values())
        self._owed.clear()
        return owed

    async def _write(self, frame: bytes) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._stream.send_all(frame)

"""A websocket that never keeps its owner waiting: what cannot be sent yet is kept."""

import socket
import struct
from collections.abc import Callable, Iterable
from typing import Protocol, assert_never

import trio

from sts_trio.wire import frames

MOST_PER_MESSAGE = 1 << 20
MOST_PER_HEAD = 16384
RECEIVE = 65536
# A peer that takes nothing of this much is gone.
MOST_KEPT = 1 << 22
LAST_WORDS = 1.0

Message = bytes | frames.Binary


class Side(Protocol):
    """What an owner does about its link."""

    def heard(self, messages: Iterable[Message]) -> None: ...

    def lost(self) -> None:
        """The link is no more."""


class Link:
    """Run `speak` and `listen` in tasks; they end with the link. After `goodbye` or `drop` what is
    said is passed over."""

    def __init__(self, stream: trio.abc.Stream, *, is_client: bool) -> None:
        self.strange = 0
        self._stream = stream
        self._is_client = is_client
        self._reader = frames.FrameReader(MOST_PER_MESSAGE, of_server=is_client)
        self._outbox = bytearray()
        self._has_more = trio.Event()
        self._is_silent = False
        self._is_gone = False
        self._is_over = False  # there is nothing more to be heard

    def say_text(self, text: bytes) -> None:
        self._say(frames.masked_text(text) if self._is_client else frames.text(text))

    def say_audio(self, audio: bytes) -> None:
        self._say(frames.masked_binary(audio) if self._is_client else frames.binary(audio))

    def goodbye(self) -> None:
        self._control(frames.close(1000))
        self._is_silent = True

    def cut(self) -> None:
        """As a process that dies: with a reset."""
        tcp = (
            self._stream.transport_stream
            if isinstance(self._stream, trio.SSLStream)
            else self._stream
        )
        if isinstance(tcp, trio.SocketStream):
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.drop()

    def drop(self) -> None:
        """Without a goodbye."""
        self._is_silent = self._is_gone = True
        self._has_more.set()

    def _control(self, frame: bytes) -> None:
        self._say(frames.masked(frame) if self._is_client else frame)

    def _say(self, frame: bytes) -> None:
        if self._is_silent:
            return
        self._outbox += frame
        self._has_more.set()
        if len(self._outbox) > MOST_KEPT:
            self.drop()

    async def run(self, side: Side, rest: bytes = b"") -> None:
        """Until the link is lost, or its close frames are exchanged. `rest` has come already."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._speak, nursery.cancel_scope.cancel)
                await self._listen(side, rest)
                nursery.cancel_scope.deadline = trio.current_time() + LAST_WORDS
                self._is_over = True
                self._has_more.set()
        finally:
            self._is_silent = True
            await trio.aclose_forcefully(self._stream)
            side.lost()

    async def _speak(self, give_up: Callable[[], None]) -> None:
        while not self._is_gone:
            await self._has_more.wait()
            self._has_more = trio.Event()
            data, self._outbox = bytes(self._outbox), bytearray()
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                break
            if self._is_over and not self._outbox:
                break
        give_up()

    async def _listen(self, side: Side, data: bytes) -> None:
        while True:
            if data and not self._take(self._reader.feed(data), side):
                return
            try:
                data = bytes(await self._stream.receive_some(RECEIVE))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return

    def _take(self, heard: list[frames.Frame], side: Side) -> bool:
        messages: list[Message] = []
        is_open = True
        for each in heard:
            match each:
                case bytes() | frames.Binary():
                    messages.append(each)
                case frames.Ping(data):
                    self._control(frames.pong(data))
                case frames.Pong():
                    pass
                case frames.Close():
                    self.goodbye()
                    is_open = False
                case frames.TooLong() | frames.Violation():
                    self.strange += 1
                    is_open = False
                case _:
                    assert_never(each)
        side.heard(messages)
        return is_open

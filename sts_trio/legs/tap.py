"""Takes whole messages out of an agent's bytes before trio-websocket's machinery sees them.

trio-websocket parses with wsproto, queues, and wakes a task, for every message: four fifths of what
an agent's message costs. It takes the protocol state from outside, though, and ours is a wsproto
connection that looks first: unfragmented text and binary frames are handed on at once, in the task
that read them. Handshake, pings, pongs and closing go the usual way.

Order is kept: a frame that is not of the usual kind ends the short cut for good, and whatever
follows takes the long way behind it.
"""

import re
from collections.abc import Callable, Generator

from wsproto import ConnectionType, WSConnection
from wsproto.events import Event

_TEXT, _BINARY = 0x81, 0x82  # FIN and opcode
_MESSAGES = {_TEXT, _BINARY}
_USUAL = _MESSAGES | {0x89, 0x8A}  # ... and ping and pong; behind a close nothing is heard
_MASKED = 0x80
_BLANK_LINE = re.compile(rb"\n\r?\n")  # what h11 takes for the end of a handshake

Message = str | bytes | UnicodeError


class Tap(WSConnection):
    """A client's wsproto connection; `deliver` is called with each message that is tapped.

    A text that is not UTF-8 is delivered as the error.
    """

    def __init__(self, most_per_message: int, deliver: Callable[[Message], None]) -> None:
        super().__init__(ConnectionType.CLIENT)
        self._most = most_per_message
        self._deliver = deliver
        self._rest = bytearray()  # of a frame that has not all come
        self._wanted = 2  # how long the rest has to be before it is worth a look
        self._is_transparent = False
        self._has_events = True

    def events(self) -> Generator[Event, None, None]:
        # Asked for after every read; wsproto takes long to find that there are none.
        if self._has_events:
            self._has_events = self._is_transparent
            yield from super().events()

    def receive_data(self, data: bytes | None) -> None:
        if self._is_transparent or data is None:
            self._has_events = True
            super().receive_data(data)
        elif self.connection is None:
            self._shake_hands(data)
        else:
            self._rest += data
            if len(self._rest) >= self._wanted:
                rest = bytes(self._rest)
                self._rest = bytearray(rest[self._take(rest) :])
                if self._is_transparent:
                    self._has_events = True
                    super().receive_data(bytes(self._rest))

    def _shake_hands(self, data: bytes) -> None:
        """Keeps wsproto from reading on into the first frames: they may come with the 101."""
        self._has_events = True
        seen = bytes(self._rest) + data
        blank = _BLANK_LINE.search(seen)
        cut = blank.end() - len(self._rest) if blank else len(data)
        self._rest = bytearray(seen[-2:])  # the blank line may be cut in two
        super().receive_data(data[:cut])
        if blank is None:
            return
        self._rest.clear()
        self._is_transparent = self.connection is None  # a refusal: what follows is its body
        if cut < len(data):
            self.receive_data(data[cut:])

    def _take(self, data: bytes) -> int:
        """Handles the whole frames in `data`; returns where the first that is not begins."""
        at, end = 0, len(data)
        self._wanted = 2
        while end - at >= 2:
            first, length = data[at], data[at + 1]
            begin = at + 2
            is_usual = first in _USUAL
            if length == 126 or length == 127:
                size, least = (2, 126) if length == 126 else (8, 0x10000)
                begin += size
                if begin > end and first in _MESSAGES:
                    self._wanted = begin - at
                    break
                length = int.from_bytes(data[at + 2 : begin])
                is_usual = length >= least and first in _MESSAGES
            elif length & _MASKED:
                is_usual = False
            if not is_usual or length > self._most:
                self._is_transparent = True
                break
            if begin + length > end:
                self._wanted = begin + length - at
                break
            payload = data[begin : begin + length]
            if first == _BINARY:
                self._deliver(payload)
            elif first == _TEXT:
                self._deliver_text(payload)
            else:
                self._has_events = True
                super().receive_data(data[at : begin + length])
            at = begin + length
        return at

    def _deliver_text(self, payload: bytes) -> None:
        try:
            text = payload.decode()
        except UnicodeDecodeError as exc:
            self._deliver(exc)
        else:
            self._deliver(text)

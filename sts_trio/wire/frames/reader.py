"""From bytes to messages, however they are cut. Sections are RFC 6455's. Pure."""

import codecs
import functools
import struct
from collections.abc import Callable, Iterator
from typing import Any

from sts_trio.wire.frames.kinds import (
    BINARY,
    CLOSE,
    CONTINUATION,
    CONTROL,
    FIN,
    MASKED,
    MAX_IN_CONTROL_FRAME,
    NOT_UTF8,
    OPCODE,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    USUAL_HEADER,
    Binary,
    Close,
    Frame,
    Ping,
    Pong,
    TooLong,
    Violation,
    is_code,
)
from sts_trio.wire.mask import xor

_CONTROL = {FIN | CLOSE, FIN | PING, FIN | PONG}
_BETWEEN_MESSAGES = frozenset({TEXT, BINARY, FIN | TEXT, FIN | BINARY} | _CONTROL)
_WITHIN_A_MESSAGE = frozenset({CONTINUATION, FIN | CONTINUATION} | _CONTROL)

# The frame nearly every frame is, see `_read_usual`.
_USUAL_HEAD = (FIN | TEXT) << 8 | MASKED | 126
_SHORT_HEADS = (FIN | TEXT) << 8 | MASKED  # and up to `_USUAL_HEAD`
_unpack_usual = USUAL_HEADER.unpack_from
_USUAL_MOST = 1024  # Twilio's media messages are about 390 bytes
_ALIKE_FROM = 1024  # bytes; of two frames it is not worth a look


class FrameReader:
    """Turns what a peer sends, however it is cut, into whole messages and control frames.

    The peer is a client, whose frames are masked, unless `of_server`. Of a server's, a binary
    message that is longer than `most_whole` is told in parts, as they come, and a longer text than
    `most_text` is passed over.

    Between feeds it keeps at most a message, of `most_per_message` bytes unless one of these is
    less, and one control frame. What a feed returns is bounded by what it was fed, but a frame may
    be of 6 bytes, or of 2 of a server's: do not feed megabytes.
    """

    __slots__ = (
        "_is_fresh",
        "_is_last",
        "_is_of_client",
        "_left",
        "_mask_bit",
        "_may_come",
        "_message",
        "_most",
        "_most_kept",
        "_most_text",
        "_most_usual",
        "_most_whole",
        "_needed",
        "_over",
        "_read_usual",
        "_rest",
        "_size",
        "_utf8",
        "frames",
        "is_all_text",
    )

    def __init__(
        self,
        most_per_message: int,
        *,
        of_server: bool = False,
        most_whole: int | None = None,
        most_text: int | None = None,
    ) -> None:
        self._most = most_per_message
        self._most_whole = most_per_message if most_whole is None else most_whole
        self._most_text = most_per_message if most_text is None else most_text
        self._most_kept = min(self._most_whole, self._most_text)  # whatever it is
        self._most_usual = self._most_kept if of_server else min(self._most_kept, _USUAL_MOST)
        self._is_of_client = not of_server
        self._mask_bit = 0 if of_server else MASKED
        self._read_usual = _read_usual_of_server if of_server else _read_usual
        # Whether what was heard last is whole texts and nothing else.
        self.is_all_text = True
        self.frames = 0  # how many were read last, fragments among them
        self._over = False
        self._is_fresh = True  # between two messages, and nothing is over
        self._rest = bytearray()  # of a frame that has not all come
        self._needed = 0  # how long `_rest` must be before reading on is of use; 0: there is none
        # The fragments of a message so far.
        self._may_come = _BETWEEN_MESSAGES
        self._message = bytearray()
        self._size = 0  # of all of them, whether they are kept or not
        self._utf8: codecs.IncrementalDecoder | None = None  # None: a binary message
        # Of a frame that is not kept: what is still to come, and whether it is its message's last.
        self._left = 0
        self._is_last = False

    def feed(self, data: bytes) -> list[Frame]:
        """What has become whole with `data`, in order. Nothing follows a close or a violation."""
        heard: list[Frame] = []
        if not self._is_fresh:
            self._go_on(data, heard)
            return heard
        # Nearly all there is to read; it takes the short way.
        at = self._read_usual(data, heard, self._most_usual)
        self.frames = len(heard)
        if at == len(data):
            self.is_all_text = self._is_of_client
        else:
            self._read_others(data, at, heard)
        return heard

    def _go_on(self, data: bytes, heard: list[Frame]) -> None:
        """The same in the midst of a frame or a message, or behind the end."""
        self.frames = 0
        if self._over:
            return
        if self._needed:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest, self._needed = bytearray(), 0
        at = 0
        if self._left:
            self.is_all_text = False
            data = data[self._read_part(data[: self._left], heard) :]
            if not data:
                return
        if self._may_come is _BETWEEN_MESSAGES:
            before = len(heard)
            at = self._read_usual(data, heard, self._most_usual)
            self.frames = len(heard) - before
            if at == len(data):
                self.is_all_text = self._is_of_client
                self._is_fresh = True
                return
        self._read_others(data, at, heard)

    def _read_others(self, data: bytes, at: int, heard: list[Frame]) -> None:
        """Frames that need some thought begin at `at`."""
        self.is_all_text = False
        try:
            at = self._read(data, at, heard)
        except _Broken as broken:
            self._over = True
            heard.append(broken.violation)
        except UnicodeDecodeError as exc:
            self._over = True
            heard.append(Violation(NOT_UTF8, f"text that is not UTF-8: {exc.reason}"))
        if self._over:
            self._message = bytearray()
        else:
            self._rest += data[at:]
        is_amid = self._needed or self._may_come is not _BETWEEN_MESSAGES
        self._is_fresh = not (self._over or is_amid)

    def _read(self, data: bytes, at: int, heard: list[Frame]) -> int:
        """Reads whole frames from `at` on, and returns where the first that is not begins."""
        end = len(data)
        while end - at >= 2:
            # Taken away where it should be, added where it should not: no length is left then.
            first, length = data[at], data[at + 1] ^ self._mask_bit
            if first not in self._may_come:
                raise _Broken(PROTOCOL_ERROR, _fault_of(first))
            if length & MASKED:
                whose = "client without" if self._mask_bit else "server with"
                raise _Broken(PROTOCOL_ERROR, f"frame of a {whose} a mask")
            is_control = first & CONTROL
            mask_at = at + 2
            if length > MAX_IN_CONTROL_FRAME:
                if is_control:
                    raise _Broken(PROTOCOL_ERROR, "control frame over 125 bytes")
                mask_at += 2 if length == 126 else 8
                if mask_at > end:
                    self._needed = mask_at - at
                    return at
                length = _extended_length(data[at + 2 : mask_at])
            size = self._size + length
            if size > self._most and not is_control:
                reason = f"message of {size} bytes, the limit is {self._most}"
                raise _Broken(TOO_BIG, reason, size)
            payload_at = mask_at + 4 if self._mask_bit else mask_at
            if size > self._most_kept and not is_control and size > self._most_of(first):
                at = payload_at + self._begin_part(
                    first, length, data[payload_at : payload_at + length], heard
                )
                continue
            stop = payload_at + length
            if stop > end:
                self._needed = stop - at
                return at
            payload = data[payload_at:stop]
            if self._mask_bit:
                payload = xor(payload, data[mask_at:payload_at])
            at = stop
            self.frames += 1
            if is_control:
                heard.append(_control_frame(first, payload))
                if first == FIN | CLOSE:
                    self._over = True
                    return at
            else:
                self._add_fragment(first, payload, heard)
        self._needed = 2 if at < end else 0
        return at

    def _add_fragment(self, first: int, payload: bytes, heard: list[Frame]) -> None:
        """An unfragmented message is one whose first fragment is its last."""
        if first == FIN | BINARY:
            heard.append(Binary(payload))
            return
        if first == FIN | TEXT:
            payload.decode()
            heard.append(payload)
            return
        if first & OPCODE == TEXT:
            self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._message += payload
        self._size += len(payload)
        if self._utf8 is not None:
            self._utf8.decode(payload, final=bool(first & FIN))
        if not first & FIN:
            self._may_come = _WITHIN_A_MESSAGE
            return
        message = bytes(self._message)
        heard.append(Binary(message) if self._utf8 is None else message)
        self._end_message()

    def _end_message(self) -> None:
        self._may_come, self._message, self._utf8 = _BETWEEN_MESSAGES, bytearray(), None
        self._size = 0

    # --- what is not kept: a server's, so there is no mask ------------------------------------

    def _most_of(self, first: int) -> int:
        """How long the message may be that this is a frame of, to be told whole."""
        opcode = first & OPCODE
        is_text = opcode == TEXT or (opcode == CONTINUATION and self._utf8 is not None)
        return self._most_text if is_text else self._most_whole

    def _begin_part(self, first: int, length: int, part: bytes, heard: list[Frame]) -> int:
        """A frame of so many bytes begins, with this `part`; returns how long that is."""
        if first & OPCODE == TEXT:
            self._utf8 = codecs.getincrementaldecoder("utf-8")()
        if self._message and self._utf8 is None:
            heard.append(Binary(bytes(self._message)))
        self._message = bytearray()
        self._size += length
        self._may_come = _WITHIN_A_MESSAGE
        self._left, self._is_last = length, bool(first & FIN)
        self.frames += 1
        return self._read_part(part, heard)

    def _read_part(self, part: bytes, heard: list[Frame]) -> int:
        if part and self._utf8 is None:
            heard.append(Binary(part))
        self._left -= len(part)
        if self._is_last and not self._left:
            if self._utf8 is not None:
                heard.append(TooLong(self._size))
            self._end_message()
        return len(part)


def _read_usual(data: bytes, heard: list[Frame], most: int) -> int:
    """Reads the frames `data` begins with that need no thought, and returns where others begin.

    Nearly all of a call are these: whole, unfragmented ASCII texts of up to 1024 bytes. `_read`
    would read them as well, at more than twice the cost.
    """
    end = len(data)
    at = _read_alike(data, heard, most) if end > _ALIKE_FROM else 0
    last = end - 8
    while at <= last:
        head, length, mask = _unpack_usual(data, at)
        begin = at + 8
        if head != _USUAL_HEAD:
            # A mark's echo is shorter: its length is in the second byte, and the mask follows.
            if not _SHORT_HEADS <= head < _USUAL_HEAD:
                break
            length, mask, begin = head & 0x7F, data[at + 2 : at + 6], at + 6
        elif length < 126:
            break
        stop = begin + length
        if stop > end or length > most:
            break
        payload = xor(data[begin:stop], mask)
        if not payload.isascii():
            break
        heard.append(payload)
        at = stop
    return at


def _read_alike(data: bytes, heard: list[Frame], most: int) -> int:
    """The same where all frames are of one length, as those of a tick mostly are: by a fifth
    cheaper."""
    head, length, _ = _unpack_usual(data)
    size: int = 8 + length
    if head != _USUAL_HEAD or not 126 <= length <= most or len(data) % size:
        return 0
    begin, before = data[:4], len(heard)
    for each, mask, masked in _frames_of(length)(data):
        if each != begin:
            break
        payload = xor(masked, mask)
        if not payload.isascii():
            break
        heard.append(payload)
    return size * (len(heard) - before)


@functools.cache  # of up to `_USUAL_MOST` bytes
def _frames_of(length: int) -> Callable[[bytes], Iterator[tuple[Any, ...]]]:
    return struct.Struct(f">4s4s{length}s").iter_unpack


def _read_usual_of_server(data: bytes, heard: list[Frame], most: int) -> int:
    """The same for what an agent sends: whole binary messages, and whole ASCII texts."""
    at, end = 0, len(data)
    while end - at >= 2:
        first, length = data[at], data[at + 1]
        payload_at = at + 2
        if length == 126:
            payload_at += 2
            length = int.from_bytes(data[at + 2 : payload_at])
            if length < 126:  # not all there, or longer than it should be
                break
        elif length > 126:
            break
        stop = payload_at + length
        if stop > end or length > most:
            break
        payload = data[payload_at:stop]
        if first == FIN | BINARY:
            heard.append(Binary(payload))
        elif first == FIN | TEXT and payload.isascii():
            heard.append(payload)
        else:
            break
        at = stop
    return at


class _Broken(Exception):
    def __init__(self, code: int, reason: str, size: int = 0) -> None:
        super().__init__(reason)
        self.violation = Violation(code, reason, size)


def _fault_of(first: int) -> str:
    opcode = first & OPCODE
    if first & 0x70:
        return "reserved bit set, but no extension was agreed on"
    if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
        return f"reserved opcode {opcode}"
    if opcode & CONTROL:
        return "fragmented control frame"
    if opcode == CONTINUATION:
        return "continuation of no message"
    return "new message inside a fragmented one"


def _extended_length(written: bytes) -> int:
    # Section 5.2: "the minimal number of bytes MUST be used", "the most significant bit MUST be 0".
    length = int.from_bytes(written)
    if length <= (MAX_IN_CONTROL_FRAME if len(written) == 2 else 0xFFFF):
        raise _Broken(PROTOCOL_ERROR, f"length {length} written in {len(written)} bytes")
    if length >> 63:
        raise _Broken(PROTOCOL_ERROR, "length over 63 bits")
    return length


def _control_frame(first: int, payload: bytes) -> Ping | Pong | Close:
    if first == FIN | PING:
        return Ping(payload)
    if first == FIN | PONG:
        return Pong(payload)
    if not payload:
        return Close(None, "")
    if len(payload) == 1:
        raise _Broken(PROTOCOL_ERROR, "close frame with half a code")
    code = int.from_bytes(payload[:2])
    if not is_code(code):
        raise _Broken(PROTOCOL_ERROR, f"close code {code} that nobody may send")
    return Close(code, payload[2:].decode())

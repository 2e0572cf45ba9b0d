"""WebSocket frames: RFC 6455, both sides of a socket we own, no extensions.

We are the server of the caller's socket, and the client of the agent's.

Pure: bytes in, messages out. `FrameReader.feed` is total: any bytes become what they say, and bytes
that break the protocol end the reading with one `Violation`, which has the code to close with.

A frame is judged as soon as it can be. Its first two bytes settle reserved bits, opcodes, masks,
fragmented control frames and the order of fragments: every first byte that may come next is in one
of two sets. Its length settles what is too big, before any of it is kept. Its payload is judged
when all of it has come: 1007 comes with the last byte of a frame (Autobahn's "non-strict", 6.4.3
and 6.4.4), though not with the last fragment of a message.

wsproto agrees, but for this, and is the oracle in the tests:

* It notices some bad headers later, with the extended length or the payload, and bad UTF-8 sooner,
  with the first wrong byte. No stream is judged differently once the frame is whole.
* It refuses close code 1014 (bad gateway), which IANA registered after the RFC, like 1012 and 1013.
* It leaves the size limit to its caller.

Sections in the comments are RFC 6455's.
"""

import codecs
import itertools
import os
import struct
from collections.abc import Callable, Iterator

import msgspec

from sts_trio.wire.mask import xor

FIN = 0x80
MASKED = 0x80
OPCODE = 0x0F
CONTROL = 0x8  # the bit that opcodes of control frames have
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

PROTOCOL_ERROR = 1002
NOT_UTF8 = 1007
TOO_BIG = 1009

MAX_IN_CONTROL_FRAME = 125

_CONTROL = {FIN | CLOSE, FIN | PING, FIN | PONG}
_BETWEEN_MESSAGES = frozenset({TEXT, BINARY, FIN | TEXT, FIN | BINARY} | _CONTROL)
_WITHIN_A_MESSAGE = frozenset({CONTINUATION, FIN | CONTINUATION} | _CONTROL)

# Section 7.4.1; 1004 to 1006 and 1015 are reserved, for what no frame may say.
_REGISTERED_CODES = frozenset({*range(1000, 1004), *range(1007, 1015)})

_LENGTH_16 = struct.Struct(">BBH")
_LENGTH_64 = struct.Struct(">BBQ")

# The frame nearly every frame is, see `_read_usual`: two bytes, the length in two more, the mask.
_USUAL_HEADER = struct.Struct(">HH4s")
_USUAL_HEAD = (FIN | TEXT) << 8 | MASKED | 126
_SHORT_HEADS = (FIN | TEXT) << 8 | MASKED  # and up to `_USUAL_HEAD`
_USUAL_AUDIO = (FIN | BINARY) << 8 | MASKED | 126
_unpack_usual = _USUAL_HEADER.unpack_from
_USUAL_MOST = 1024  # Twilio's media messages are about 390 bytes


class Binary(msgspec.Struct, frozen=True):
    """A whole binary message."""

    data: bytes


class Ping(msgspec.Struct, frozen=True):
    """To be answered by `pong(payload)`; of several pings the last will do (section 5.5.3)."""

    payload: bytes


class Pong(msgspec.Struct, frozen=True):
    payload: bytes


class Close(msgspec.Struct, frozen=True):
    """The peer's close frame: the last thing read. Answer with `close(code)`, unless it answers."""

    code: int | None  # None: it held none
    reason: str


class TooLong(msgspec.Struct, frozen=True):
    """A text message that was passed over unread, of so many bytes. It was not looked at whether it
    is UTF-8."""

    size: int


class Violation(msgspec.Struct, frozen=True):
    """The peer broke the protocol: the last thing read. Send `close(code, reason)` and hang up."""

    code: int
    reason: str
    size: int = 0  # of a message that is too big, as far as it was announced


# A whole text message, checked to be UTF-8, is plain `bytes`: it is what nearly every frame is, and
# what a JSON decoder wants.
Frame = bytes | Binary | Ping | Pong | Close | TooLong | Violation


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
        "_is_last",
        "_left",
        "_mask_bit",
        "_may_come",
        "_message",
        "_most",
        "_most_kept",
        "_most_text",
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
        self._mask_bit = 0 if of_server else MASKED
        self._read_usual = _read_usual_of_server if of_server else _read_usual
        # Whether what was heard last is whole texts and nothing else.
        self.is_all_text = True
        self.frames = 0  # how many were read last, fragments among them
        self._over = False
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
        self.frames = 0
        if self._over:
            return []
        if self._needed:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
            self._rest, self._needed = bytearray(), 0
        heard: list[Frame] = []
        at = 0
        if self._left:
            self.is_all_text = False
            data = data[self._read_part(data[: self._left], heard) :]
            if not data:
                return heard
        if self._may_come is _BETWEEN_MESSAGES:
            before = len(heard)
            at = self._read_usual(data, heard, self._most_kept)
            self.frames = len(heard) - before
            if at == len(data):
                self.is_all_text = self._mask_bit != 0
                return heard
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
        return heard

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
    at, end = 0, len(data)
    most = min(most, _USUAL_MOST)
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
    if not _is_code(code):
        raise _Broken(PROTOCOL_ERROR, f"close code {code} that nobody may send")
    return Close(code, payload[2:].decode())


def _is_code(code: int) -> bool:
    """Section 7.4.2: 1000 to 2999 are registered, 3000 to 4999 free for libraries and programs."""
    return code in _REGISTERED_CODES or 3000 <= code <= 4999


# What a server sends: never masked, and never fragmented, as we know all of it at once.
def text(payload: bytes) -> bytes:
    """The frame of a text message. `payload` is UTF-8 already."""
    return _frame(TEXT, payload)


def binary(payload: bytes) -> bytes:
    return _frame(BINARY, payload)


def ping(payload: bytes = b"") -> bytes:
    """Raises: ValueError: over 125 bytes."""
    return _small_frame(PING, payload)


def pong(payload: bytes = b"") -> bytes:
    """Raises: ValueError: over 125 bytes, which no ping can ask for."""
    return _small_frame(PONG, payload)


def close(code: int | None = None, reason: str = "") -> bytes:
    """The close frame, `reason` cut to the 123 bytes it may have. Without a code it has none.

    Raises:
        ValueError: `code` is one that only stands for what was not sent, or that nobody gave out.
    """
    if code is None:
        return _small_frame(CLOSE, b"")
    if not _is_code(code):
        raise ValueError(
            f"close code {code} may not be sent; use 1000 to 1003, 1007 to 1014, 3000+"
        )
    words = reason.encode("utf-8", "replace")[: MAX_IN_CONTROL_FRAME - 2]
    # The cut may have gone through a character.
    return _small_frame(CLOSE, code.to_bytes(2) + words.decode("utf-8", "ignore").encode())


def _small_frame(opcode: int, payload: bytes) -> bytes:
    if len(payload) > MAX_IN_CONTROL_FRAME:
        raise ValueError(f"a control frame holds up to 125 bytes, not {len(payload)}")
    return _frame(opcode, payload)


def _frame(opcode: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes((FIN | opcode, length)) + payload
    if length < 0x10000:
        return _LENGTH_16.pack(FIN | opcode, 126, length) + payload
    return _LENGTH_64.pack(FIN | opcode, 127, length) + payload


# What a client sends, to the agent: every frame with a mask of its own (section 5.3: "derived from
# a strong source").
def masked_binary(payload: bytes) -> bytes:
    length = len(payload)
    mask = _fresh_mask()
    if 126 <= length < 0x10000:  # nearly all there is: a tick's audio
        return _USUAL_HEADER.pack(_USUAL_AUDIO, length, mask) + xor(payload, mask)
    return _masked(FIN | BINARY, payload, mask)


def masked_text(payload: bytes) -> bytes:
    """`payload` is UTF-8 already."""
    return _masked(FIN | TEXT, payload, _fresh_mask())


def masked(control_frame: bytes) -> bytes:
    """The same `close`, `ping` or `pong` as a client sends it."""
    return _masked(control_frame[0], control_frame[2:], _fresh_mask())


def _masked(first: int, payload: bytes, mask: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        head = bytes((first, MASKED | length))
    elif length < 0x10000:
        head = _LENGTH_16.pack(first, MASKED | 126, length)
    else:
        head = _LENGTH_64.pack(first, MASKED | 127, length)
    return head + mask + xor(payload, mask)


def _masks() -> Iterator[tuple[bytes, ...]]:
    """Asking the system for four random bytes costs as much as asking for a thousand."""
    many = struct.Struct("4s" * 1024)
    while True:
        yield many.unpack(os.urandom(many.size))


_fresh_mask: Callable[[], bytes] = itertools.chain.from_iterable(_masks()).__next__

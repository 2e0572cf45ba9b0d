"""From messages to frames, ours as a server and ours as a client. Sections are RFC 6455's. Pure."""

import itertools
import os
import struct
from collections.abc import Callable, Iterator

from sts_trio.wire.frames.kinds import (
    BINARY,
    CLOSE,
    FIN,
    MASKED,
    MAX_IN_CONTROL_FRAME,
    PING,
    PONG,
    TEXT,
    USUAL_HEADER,
    is_code,
)
from sts_trio.wire.mask import xor

_LENGTH_16 = struct.Struct(">BBH")
_LENGTH_64 = struct.Struct(">BBQ")

_USUAL_AUDIO = (FIN | BINARY) << 8 | MASKED | 126


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
    if not is_code(code):
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
        return USUAL_HEADER.pack(_USUAL_AUDIO, length, mask) + xor(payload, mask)
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

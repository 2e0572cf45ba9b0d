"""WebSocket frames, byte by byte, as a client sends them."""

import itertools
import operator
import struct

from sts_trio.wire.frames import (
    CLOSE,
    CONTINUATION,
)

MASK = b"\x37\xfa\x21\x3d"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    length: bytes | None = None,
) -> bytes:
    """A client's frame, or what a bad client takes for one. `length` is written as it is."""
    if length is None:
        if len(payload) < 126:
            length = bytes([len(payload)])
        elif len(payload) < 65536:
            length = struct.pack(">BH", 126, len(payload))
        else:
            length = struct.pack(">BQ", 127, len(payload))
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if mask is None:
        return head + length + payload
    masked = bytes(map(operator.xor, payload, itertools.cycle(mask)))
    return head + bytes([length[0] | 0x80]) + length[1:] + mask + masked


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack(">H", code) + reason)


def fragmented(opcode: int, *fragments: bytes) -> list[bytes]:
    last = len(fragments) - 1
    return [
        frame(CONTINUATION if n else opcode, fragment, fin=n == last)
        for n, fragment in enumerate(fragments)
    ]


def bare(masked: bytes) -> bytes:
    """A client's frame as a server sends it."""
    at = 2 + {126: 2, 127: 8}.get(masked[1] & 0x7F, 0)
    payload = bytes(map(operator.xor, masked[at + 4 :], itertools.cycle(masked[at : at + 4])))
    return masked[:1] + bytes([masked[1] & 0x7F]) + masked[2:at] + payload

"""What frames are made of, and what is read of them. Sections are RFC 6455's. Pure."""

import struct

import msgspec

FIN = 0x80
MASKED = 0x80
OPCODE = 0x0F
CONTROL = 0x8  # the bit that opcodes of control frames have
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

PROTOCOL_ERROR = 1002
NOT_UTF8 = 1007
TOO_BIG = 1009

MAX_IN_CONTROL_FRAME = 125

# Section 7.4.1; 1004 to 1006 and 1015 are reserved, for what no frame may say.
_REGISTERED_CODES = frozenset({*range(1000, 1004), *range(1007, 1015)})

# The head that nearly every frame has: two bytes, the length in two more, the mask.
USUAL_HEADER = struct.Struct(">HH4s")


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


def is_code(code: int) -> bool:
    """Section 7.4.2: 1000 to 2999 are registered, 3000 to 4999 free for libraries and programs."""
    return code in _REGISTERED_CODES or 3000 <= code <= 4999

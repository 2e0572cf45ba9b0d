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

from sts_trio.wire.frames.kinds import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    TOO_BIG,
    Binary,
    Close,
    Frame,
    Ping,
    Pong,
    TooLong,
    Violation,
)
from sts_trio.wire.frames.reader import FrameReader
from sts_trio.wire.frames.writer import (
    binary,
    close,
    masked,
    masked_binary,
    masked_text,
    ping,
    pong,
    text,
)

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "FIN",
    "PING",
    "PONG",
    "TEXT",
    "TOO_BIG",
    "Binary",
    "Close",
    "Frame",
    "FrameReader",
    "Ping",
    "Pong",
    "TooLong",
    "Violation",
    "binary",
    "close",
    "masked",
    "masked_binary",
    "masked_text",
    "ping",
    "pong",
    "text",
]

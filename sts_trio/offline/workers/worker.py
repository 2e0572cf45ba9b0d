"""A process that recognises and speaks, one request at a time, for `pool.py`.

    python -m sts_trio.offline.workers.worker

Both hold the interpreter's lock for up to some hundred milliseconds: in the server's own process,
thread or not, every call under way would stutter. And a crash in either's C code ends this process
and no other.

Requests come on standard input, replies go to standard output, each as its length in four bytes and
a MessagePack array. The end of the input is the end of the process, so none outlives its server.
"""

import os
import signal
import struct
import sys
from typing import BinaryIO, Protocol

import msgspec

LENGTH = struct.Struct(">I")


class Hear(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What was said? Answered by `Words`."""

    ticket: int
    ulaw: bytes


class Say(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Speak this. Answered by `Sound`."""

    ticket: int
    text: str


class Words(msgspec.Struct, frozen=True, tag=True, array_like=True):
    ticket: int
    text: str


class Sound(msgspec.Struct, frozen=True, tag=True, array_like=True):
    ticket: int
    ulaw: bytes


class Failed(msgspec.Struct, frozen=True, tag=True, array_like=True):
    ticket: int
    reason: str


Request = Hear | Say
Reply = Words | Sound | Failed

_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


class Recognises(Protocol):
    def words(self, ulaw: bytes) -> str: ...


class Speaks(Protocol):
    def say(self, text: str) -> bytes: ...


def pack(message: Request | Reply) -> bytes:
    data = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(data)) + data


def unpack_reply(data: bytes) -> Reply:
    """
    Raises:
        msgspec.MsgspecError: it is none.
    """
    return _replies.decode(data)


def work(recogniser: Recognises, speech: Speaks, requests: BinaryIO, replies: BinaryIO) -> None:
    """Until there are no more requests."""
    while len(head := requests.read(LENGTH.size)) == LENGTH.size:
        request = _requests.decode(requests.read(*LENGTH.unpack(head)))
        replies.write(pack(_answer(recogniser, speech, request)))
        replies.flush()


def _answer(recogniser: Recognises, speech: Speaks, request: Request) -> Reply:
    try:
        match request:
            case Hear(ticket, ulaw):
                return Words(ticket, recogniser.words(ulaw))
            case Say(ticket, text):
                return Sound(ticket, speech.say(text))
    except Exception as exc:  # the boundary: whatever these libraries raise is told, not fatal
        return Failed(request.ticket, f"{type(exc).__name__}: {exc}")


def main() -> None:
    # Ctrl+C reaches every process of the terminal; the server says when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The libraries may print; that must not get among the replies.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    from sts_trio.offline.hearing.recogniser import Recogniser
    from sts_trio.offline.speech.espeak import Speech

    try:
        work(Recogniser(), Speech(), sys.stdin.buffer, replies)
    except BrokenPipeError:
        # The server is gone. What is left to be flushed has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), replies.fileno())


if __name__ == "__main__":
    main()

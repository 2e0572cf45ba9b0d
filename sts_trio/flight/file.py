"""A flight as a file: written, and read again, whoever had it in between. Pure.

    sts_trio flight 1\\n    what it is, and the version of the format
    4 bytes                length of what follows the digest, big-endian
    16 bytes               BLAKE2b of that
    ...                    a `Flight` in MessagePack, packed by zlib

The digest finds out what was changed by accident or by hand. It is no signature.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from sts_trio.errors import StsTrioError

FORMAT = 1
SUFFIX = ".flight"
_NAME = b"sts_trio flight "
_DIGEST = 16
# What a lot begins with that is not packed: no first byte of zlib's.
_ARRAY = 0xDD
# Unpacked. A flight is bounded when it is recorded; a file may say anything.
MAX_SIZE = 256 * 1024 * 1024


class BadFlight(StsTrioError):
    """It is no flight that can be read here; in one line, why."""


class Step(msgspec.Struct, array_like=True, frozen=True):
    """One hearing. `passed`: the caller's audio since the last step that was just passed on: how
    many bytes, the deadline that the last of it set, and how many bytes were kept of all that was
    forwarded; where some of it still waited, how much, and until when. `answers`: see `recorder`.
    `acts`: see `compact`; `None`: the hearing raised."""

    now: float
    passed: list[float] | None
    heard: list[Any]
    answers: str
    acts: list[Any] | None


class Flight(msgspec.Struct, frozen=True, kw_only=True):
    """`masked` tells what is not in it as it was; `stopped` why it ends before its call did."""

    program: str  # the version that recorded it
    call_sid: str
    began_at: float  # seconds since 1970
    began: float  # the same on the clock of the steps
    forward: float
    policy: dict[str, Any]  # clips by their length
    agents: dict[str, str] = {}  # {agent: its version}
    ending: str = ""
    verdict: str = ""
    detail: str = ""
    masked: list[str] = []
    sensitive: list[str] = []  # functions of which nothing is kept
    stopped: str | None = None
    steps: list[Step] = []

    @property
    def seconds(self) -> float:
        """From the call's begin to the last step."""
        return self.steps[-1].now - self.began if self.steps else 0.0


_decoder = msgspec.msgpack.Decoder(Flight)
_steps_decoder = msgspec.msgpack.Decoder(list[Step])


def pack(flight: Flight) -> bytes:
    body = zlib.compress(msgspec.msgpack.encode(flight), 9)
    digest = hashlib.blake2b(body, digest_size=_DIGEST).digest()
    return b"%s%d\n%s%s%s" % (_NAME, FORMAT, len(body).to_bytes(4, "big"), digest, body)


def unpack(data: bytes) -> Flight:
    """Raises `BadFlight`."""
    head = data[:64].partition(b"\n")[0]
    version = head.removeprefix(_NAME)
    if not head.startswith(_NAME) or not version.isdigit():
        raise BadFlight("no flight of sts_trio")
    if int(version) != FORMAT:
        raise BadFlight(
            f"a flight of format {version.decode()}, and this version reads {FORMAT}: replay it"
            " with the version of sts_trio that has recorded it"
        )
    begin = len(head) + 1
    size = int.from_bytes(data[begin : begin + 4], "big")
    digest, body = data[begin + 4 : begin + 4 + _DIGEST], data[begin + 4 + _DIGEST :]
    if len(body) < size or len(digest) < _DIGEST:
        raise BadFlight(f"cut short: expected {begin + 4 + _DIGEST + size} bytes, got {len(data)}")
    if len(body) > size or hashlib.blake2b(body, digest_size=_DIGEST).digest() != digest:
        raise BadFlight("changed since it was recorded: its digest is another")
    try:
        return _decoder.decode(_unpacked(body))
    except (zlib.error, msgspec.MsgspecError, RecursionError) as exc:
        raise BadFlight(f"not as this version writes it: {exc}") from None


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(body, MAX_SIZE)
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise BadFlight(f"more than {MAX_SIZE} bytes")
    return data


# --- of a recorder --------------------------------------------------------------------------------


def pack_lot(lot: bytes) -> bytes:
    return zlib.compress(lot, 1)


def steps_of(lots: Iterable[bytes]) -> Iterator[Step]:
    """Of lots that are packed, and of others."""
    for lot in lots:
        yield from _steps_decoder.decode(lot if lot[0] == _ARRAY else zlib.decompress(lot))

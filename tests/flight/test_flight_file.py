"""A flight as a file: what is not as it was written is told in one line."""

import hashlib
import zlib

import msgspec
import pytest

from sts_trio.flight import file
from sts_trio.flight.file import BadFlight, Flight, Step, pack, unpack

FLIGHT = Flight(
    program="0.1.0",
    call_sid="CA1",
    began_at=1.0,
    began=100.0,
    forward=0.02,
    policy={"reconnects": True},
    steps=[Step(100.5, [320, 101.25], [["Tick", {}], -160], "aA", [160, "e0-1"])],
)


def refusal(data: bytes) -> str:
    with pytest.raises(BadFlight) as raised:
        unpack(data)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def made(body: bytes) -> bytes:
    digest = hashlib.blake2b(body, digest_size=16).digest()
    return b"sts_trio flight 1\n" + len(body).to_bytes(4, "big") + digest + body


def test_what_was_packed_is_unpacked() -> None:
    assert unpack(pack(FLIGHT)) == FLIGHT
    assert FLIGHT.seconds == 0.5
    assert msgspec.structs.replace(FLIGHT, steps=[]).seconds == 0.0


def test_a_flight_that_is_cut_anywhere_is_told_to_be_no_whole_one() -> None:
    data = pack(FLIGHT)
    for size in range(len(data)):
        assert refusal(data[:size]).startswith(("cut short", "no flight"))


def test_a_flight_of_which_any_byte_was_changed_is_refused() -> None:
    data = pack(FLIGHT)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        assert refusal(bytes(changed))
    assert refusal(data + b"more").startswith("changed since")


def test_something_else_is_told_to_be_no_flight() -> None:
    for data in (b"", b"RIFF....WAVE", b"sts_trio flight x\n", b"sts_trio flight \n"):
        assert refusal(data) == "no flight of sts_trio"


def test_a_flight_of_another_format_tells_which() -> None:
    later = pack(FLIGHT).replace(b"flight 1\n", b"flight 27\n", 1)
    assert refusal(later) == (
        "a flight of format 27, and this version reads 1: replay it with the version of sts_trio"
        " that has recorded it"
    )


@pytest.mark.parametrize("body", [b"no zlib", zlib.compress(b"\xc1"), zlib.compress(b"\x80")])
def test_what_is_in_it_is_checked_though_its_digest_is_right(body: bytes) -> None:
    assert refusal(made(body)).startswith("not as this version writes it: ")


def test_a_flight_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "MAX_SIZE", 1000)
    assert refusal(made(zlib.compress(bytes(2000)))) == "more than 1000 bytes"

"""The frame codec against wsproto as the oracle, and against Autobahn's cases.

In what is heard, a violation is written as its close code.
"""

import array
import itertools
import struct
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rig_frames import MASK, bare, closing, fragmented, frame
from strategies import examples
from wsproto import ConnectionType
from wsproto.connection import Connection, ConnectionState
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.events import Ping as PingEvent
from wsproto.events import Pong as PongEvent

from sts_trio.wire import frames
from sts_trio.wire.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Binary,
    Close,
    FrameReader,
    Ping,
    Pong,
    Violation,
)

MAX = 1 << 16
HELLO = b"Hello, world!"

Heard = bytes | Binary | Ping | Pong | Close | int


def ends_in_codes(heard: Iterable[frames.Frame]) -> list[Any]:
    return [item.code if isinstance(item, Violation) else item for item in heard]


def hear(parts: Iterable[bytes], most: int = MAX, *, of_server: bool = False) -> list[Heard]:
    reader = FrameReader(most, of_server=of_server)
    return ends_in_codes(item for part in parts for item in reader.feed(part))


def one_by_one(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


def cut(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(stream)]
    return [stream[start:stop] for start, stop in itertools.pairwise(edges)]


class Oracle:
    """wsproto's server, or client, hearing in our words."""

    def __init__(self, side: ConnectionType = ConnectionType.SERVER) -> None:
        self._connection = Connection(side)
        self._text = ""
        self._data = b""

    def feed(self, data: bytes) -> Iterator[Heard]:
        self._connection.receive_data(data)
        for event in self._connection.events():
            match event:
                case TextMessage():
                    self._text += event.data
                    if event.message_finished:
                        yield self._text.encode()
                        self._text = ""
                case BytesMessage():
                    self._data += event.data
                    if event.message_finished:
                        yield Binary(self._data)
                        self._data = b""
                case PingEvent():
                    yield Ping(bytes(event.payload))
                case PongEvent():
                    yield Pong(bytes(event.payload))
                case CloseConnection():
                    if self._connection.state is ConnectionState.REMOTE_CLOSING:
                        code = None if event.code == 1005 else int(event.code)
                        yield Close(code, event.reason or "")
                    else:
                        yield int(event.code)


def assert_agrees_with_wsproto(parts: Sequence[bytes], *, of_server: bool = False) -> None:
    reader = FrameReader(MAX, of_server=of_server)
    oracle = Oracle(ConnectionType.CLIENT if of_server else ConnectionType.SERVER)
    ours = ends_in_codes(item for part in parts for item in reader.feed(part))
    theirs = [item for part in parts for item in oracle.feed(part)]
    if ours and ours[-1] == 1009:  # wsproto has no limit
        assert theirs[: len(ours) - 1] == ours[:-1]
        return
    # They may notice the same fault at different bytes. The one that waits gets what it waits for:
    # the end of the frame, or of the header and a byte more.
    if len(ours) < len(theirs):
        ours += ends_in_codes(reader.feed(bytes(MAX + 14)))
    elif len(theirs) < len(ours):
        theirs += oracle.feed(bytes(15))
    assert without_1014(ours) == theirs


def without_1014(heard: list[Heard]) -> list[Heard]:
    """wsproto does not know this close code."""
    return [1002 if isinstance(item, Close) and item.code == 1014 else item for item in heard]


# --- wsproto's opinion --------------------------------------------------------------------------

# How long an example takes, to make or to run, says more about the machine than about us.
patiently = settings(max_examples=examples(2))

masks = st.binary(min_size=4, max_size=4)
texts = st.one_of(
    st.text(max_size=40),
    # The lengths at which the header changes, and at which we read differently.
    st.sampled_from([125, 126, 127, 1023, 1024, 1025]).map("a".__mul__),
    st.integers(100, 1100).map("123é".__mul__),
).map(str.encode)
controls = st.builds(
    frame, st.sampled_from([PING, PONG]), st.binary(max_size=125), mask=masks
) | st.just(frame(PING))
closes = st.builds(closing, st.sampled_from([1000, 1001, 3000, 4999])) | st.just(frame(CLOSE))


@st.composite
def messages(draw: st.DrawFn) -> list[bytes]:
    """The frames of a legal message: maybe in fragments, maybe with control frames between."""
    opcode = draw(st.sampled_from([TEXT, TEXT, BINARY]))
    payload = draw(texts if opcode == TEXT else texts | st.binary(max_size=300))
    cuts = draw(st.lists(st.integers(0, len(payload)), max_size=4))
    fragments = fragmented(opcode, *cut(payload, cuts))
    between = draw(st.lists(controls, max_size=2))
    where = draw(st.integers(0, len(fragments)))
    return fragments[:where] + between + fragments[where:]


conversations = st.lists(messages(), max_size=5).map(itertools.chain.from_iterable).map(list)

close_codes = (st.integers(0, 65535) | st.integers(995, 1020)).filter(lambda code: code != 1014)
odd_lengths = st.sampled_from(
    [struct.pack(">BH", 126, 125), struct.pack(">BQ", 127, 65535), struct.pack(">BQ", 127, 1 << 63)]
)
any_frames = st.builds(
    frame,
    st.integers(0, 15) | st.sampled_from([TEXT, PING]),
    st.binary(max_size=140) | texts,
    fin=st.booleans(),
    rsv=st.integers(0, 7) | st.just(0),
    mask=masks | st.none(),
) | st.one_of(
    st.builds(frame, st.sampled_from([TEXT, BINARY, PING, CLOSE]), length=odd_lengths),
    st.builds(closing, close_codes, st.binary(max_size=130)),
    st.builds(frame, st.just(TEXT), st.binary(max_size=20) | st.binary(min_size=126, max_size=200)),
    st.builds(frame, st.just(CLOSE), st.binary(max_size=1)),
)


@st.composite
def in_pieces(draw: st.DrawFn, streams: st.SearchStrategy[bytes]) -> list[bytes]:
    stream = draw(streams)
    if len(stream) < 2000 and draw(st.booleans()):
        return one_by_one(stream)
    return cut(stream, draw(st.lists(st.integers(0, len(stream)), max_size=8)))


@patiently
@given(in_pieces(conversations.map(b"".join)), closes)
def test_a_legal_conversation_is_heard_as_wsproto_hears_it(parts: list[bytes], end: bytes) -> None:
    oracle = Oracle()
    theirs = [item for part in [*parts, end] for item in oracle.feed(part)]
    assert hear([*parts, end], most=1 << 20) == theirs
    assert isinstance(theirs[-1], Close)


@patiently
@given(conversations, any_frames, conversations, st.data())
def test_any_frame_at_any_place_is_judged_as_wsproto_judges_it(
    before: list[bytes], odd: bytes, after: list[bytes], data: st.DataObject
) -> None:
    where = data.draw(st.integers(0, len(before)), "where")
    stream = b"".join([*before[:where], odd, *before[where:], *after])
    parts = data.draw(in_pieces(st.just(stream)), "parts")
    oracle = Oracle()
    theirs = [item for part in parts for item in oracle.feed(part)]
    assert without_1014(hear(parts, most=1 << 24)) == theirs


@patiently
@given(st.lists(st.binary(max_size=200), max_size=6))
@example([b"\x81\xfe\x00\x80" + MASK, b"\xff" * 10])  # wrong text, and wsproto sees it first
@example([b"\xc1\xfe"])  # a reserved bit, and we see it first
@example([closing(1014)])
@example([b"\x82\xff" + bytes([0, 0, 0, 1]) * 2])  # 4 GiB to come
def test_any_bytes_are_judged_as_wsproto_judges_them(parts: list[bytes]) -> None:
    assert_agrees_with_wsproto(parts)


@patiently
@given(conversations.map(b"".join), st.data())
def test_a_damaged_conversation_is_judged_as_wsproto_judges_it(
    stream: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(stream)
    for _ in range(data.draw(st.integers(1, 3), "wounds")):
        # Near the start mostly, where the headers are.
        at = data.draw(st.integers(0, min(len(damaged), 12)) | st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    assert_agrees_with_wsproto(data.draw(in_pieces(st.just(bytes(damaged))), "parts"))


# --- what a server sends ------------------------------------------------------------------------


def as_client(parts: Iterable[bytes]) -> list[Heard]:
    oracle = Oracle(ConnectionType.CLIENT)
    return [item for part in parts for item in oracle.feed(part)]


@patiently
@given(conversations, closes, st.data())
def test_a_legal_conversation_of_a_server_is_heard_as_wsproto_hears_it(
    conversation: list[bytes], end: bytes, data: st.DataObject
) -> None:
    stream = b"".join(map(bare, [*conversation, end]))
    parts = data.draw(in_pieces(st.just(stream)), "parts")
    theirs = as_client(parts)
    assert hear(parts, most=1 << 20, of_server=True) == theirs
    assert isinstance(theirs[-1], Close)


any_bare_frames = st.builds(
    frame,
    st.integers(0, 15) | st.sampled_from([TEXT, PING]),
    st.binary(max_size=140) | texts,
    fin=st.booleans(),
    rsv=st.integers(0, 7) | st.just(0),
    mask=st.none() | st.none() | masks,
) | st.one_of(
    st.builds(
        frame,
        st.sampled_from([TEXT, BINARY, PING, CLOSE]),
        length=odd_lengths,
        mask=st.none(),
    ),
    st.builds(closing, close_codes, st.binary(max_size=130)).map(bare),
    st.builds(
        frame,
        st.just(TEXT),
        st.binary(max_size=20) | st.binary(min_size=126, max_size=200),
        mask=st.none(),
    ),
    st.builds(frame, st.just(CLOSE), st.binary(max_size=1), mask=st.none()),
)


@patiently
@given(conversations, any_bare_frames, conversations, st.data())
def test_any_frame_of_a_server_at_any_place_is_judged_as_wsproto_judges_it(
    before: list[bytes], odd: bytes, after: list[bytes], data: st.DataObject
) -> None:
    where = data.draw(st.integers(0, len(before)), "where")
    good = [bare(each) for each in [*before, *after]]
    stream = b"".join([*good[:where], odd, *good[where:]])
    assert_agrees_with_wsproto(data.draw(in_pieces(st.just(stream)), "parts"), of_server=True)


@patiently
@given(st.lists(st.binary(max_size=200), max_size=6))
def test_any_bytes_of_a_server_are_judged_as_wsproto_judges_them(parts: list[bytes]) -> None:
    assert_agrees_with_wsproto(parts, of_server=True)


@pytest.mark.parametrize(
    "header", [b"\x81\x80", b"\x82\xfe", b"\x82\xff", b"\x89\x85", b"\x01\x81"]
)
def test_a_server_that_masks_is_refused_by_the_second_byte(header: bytes) -> None:
    reader = FrameReader(MAX, of_server=True)
    assert reader.feed(header[:1]) == []
    assert reader.feed(header[1:]) == [Violation(1002, "frame of a server with a mask")]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("most", [0, 10, 125, 126, 390, 65535, 65536])
def test_a_message_of_a_server_may_be_as_long_as_the_limit(most: int, opcode: int) -> None:
    fits = frame(opcode, b"x" * most, mask=None)
    over = frame(opcode, b"x" * (most + 1), mask=None)
    fitting: Heard = b"x" * most if opcode == TEXT else Binary(b"x" * most)
    assert hear([fits + fits + over + fits], most, of_server=True) == [fitting, fitting, 1009]
    assert hear([fits, over[: len(over) - most - 1]], most, of_server=True) == [fitting, 1009]


# --- However it is cut --------------------------------------------------------------------------

EVERYTHING = [
    frame(TEXT, b"x" * 390),
    frame(TEXT, b"y" * 127),
    frame(PING, b"p" * 125),
    frame(TEXT, "ärger".encode() * 30),
    *fragmented(TEXT, b"frag\xc3", b"\xa4ment", b""),
    frame(BINARY, bytes(range(256))),
    frame(TEXT),
    *fragmented(BINARY, b"a", b"", b"b" * 130),
    frame(PONG),
    frame(TEXT, b"z" * 126),
    closing(1000, b"done"),
    frame(TEXT, b"too late"),
]
HEARD: list[Heard] = [
    b"x" * 390,
    b"y" * 127,
    Ping(b"p" * 125),
    "ärger".encode() * 30,
    "fragäment".encode(),
    Binary(bytes(range(256))),
    b"",
    Binary(b"a" + b"b" * 130),
    Pong(b""),
    b"z" * 126,
    Close(1000, "done"),
]


def test_a_stream_may_be_cut_in_two_anywhere() -> None:
    stream = b"".join(EVERYTHING)
    for at in range(len(stream) + 1):
        assert hear([stream[:at], stream[at:]]) == HEARD, at


def test_a_servers_stream_may_be_cut_in_two_anywhere() -> None:
    stream = b"".join(map(bare, EVERYTHING))
    for at in range(len(stream) + 1):
        assert hear([stream[:at], stream[at:]], of_server=True) == HEARD, at
    assert hear(one_by_one(stream), of_server=True) == HEARD


def test_a_stream_may_come_byte_by_byte_or_frame_by_frame() -> None:
    assert hear(one_by_one(b"".join(EVERYTHING))) == HEARD
    assert hear(EVERYTHING) == HEARD


SIZE = 390
ALIKE = [frame(TEXT, bytes([65 + number]) * SIZE) for number in range(5)]


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize(
    "other",
    [
        frame(TEXT, b"z" * SIZE, mask=b"\x01\x02\x03\x04"),
        frame(TEXT, ("é" * (SIZE // 2)).encode()),
        frame(TEXT, b"\xff" * SIZE),
        frame(BINARY, b"z" * SIZE),
        frame(TEXT, b"z" * SIZE, fin=False),
        frame(TEXT, b"z" * SIZE, rsv=4),
        frame(TEXT, b"z" * (SIZE + 1)),
        frame(TEXT, b"z" * 30),
        frame(CLOSE, b"\x03\xe8" + b"z" * 100),
        bare(frame(TEXT, b"z" * (SIZE + 4))),
    ],
)
def test_one_frame_amid_some_that_are_alike_is_read_as_it_is_by_itself(
    other: bytes, place: int
) -> None:
    stream = [*ALIKE[:place], other, *ALIKE[place:]]
    assert hear([b"".join(stream)]) == hear(one_by_one(b"".join(stream)))


def test_frames_that_are_alike_are_held_to_the_limit_as_others_are() -> None:
    assert hear([b"".join(ALIKE)], SIZE) == [bytes([65 + number]) * SIZE for number in range(5)]
    assert hear([b"".join(ALIKE)], SIZE - 1) == [1009]


def test_a_message_is_heard_with_its_last_byte() -> None:
    reader = FrameReader(MAX)
    stream = frame(TEXT, b"x" * 390)
    heard = [reader.feed(byte) for byte in one_by_one(stream)]
    assert heard == [[]] * (len(stream) - 1) + [[b"x" * 390]]


@pytest.mark.parametrize("length", [65535, 65536])
def test_a_long_message_may_be_cut_in_its_header(length: int) -> None:
    stream = frame(TEXT, b"x" * length)
    for at in (*range(16), len(stream) - 1):
        assert hear([stream[:at], stream[at:]]) == [b"x" * length], at


def test_every_length_is_unmasked() -> None:
    alphabet = bytes(range(32, 127)) * 12
    for length in range(1100):
        payload = alphabet[:length]
        mask = struct.pack(">I", length * 2654435761 % 2**32)
        stream = frame(TEXT, payload, mask=mask) + frame(BINARY, payload, mask=mask)
        assert hear([stream]) == [payload, Binary(payload)], length


# --- Autobahn's cases ---------------------------------------------------------------------------
# Numbers, payloads and verdicts of crossbario/autobahn-testsuite, read 2026-11-22. The big ones
# (9.*) are made small. Those that only cut another's bytes differently are not listed: here, every
# case is cut in many ways.

VALID = bytes.fromhex("cebae1bdb9cf83cebcceb5")
SPOILT = VALID + bytes.fromhex("eda080") + b"edited"
TOO_HIGH = bytes.fromhex("f4908080")
MIXED = "Hello-µ@ßöäüàá-UTF-8!!".encode()
LENGTHS = [0, 125, 126, 127, 128, 65535, 65536]

AUTOBAHN: dict[str, tuple[list[bytes], list[Heard]]] = {
    **{f"1.1.{n}": ([frame(TEXT, b"*" * k)], [b"*" * k]) for n, k in enumerate(LENGTHS, 1)},
    **{
        f"1.2.{n}": ([frame(BINARY, b"\xfe" * k)], [Binary(b"\xfe" * k)])
        for n, k in enumerate(LENGTHS, 1)
    },
    "2.1": ([frame(PING)], [Ping(b"")]),
    "2.2": ([frame(PING, HELLO)], [Ping(HELLO)]),
    "2.3": (
        [frame(PING, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")],
        [Ping(b"\0\xff\xfe\xfd\xfc\xfb\0\xff")],
    ),
    "2.4": ([frame(PING, b"\xfe" * 125)], [Ping(b"\xfe" * 125)]),
    "2.5": ([frame(PING, b"\xfe" * 126)], [1002]),
    "2.7": ([frame(PONG), closing(1000)], [Pong(b""), Close(1000, "")]),
    "2.8": ([frame(PONG, HELLO), closing(1000)], [Pong(HELLO), Close(1000, "")]),
    "2.9": ([frame(PONG, HELLO), frame(PING, b"p")], [Pong(HELLO), Ping(b"p")]),
    "2.10": ([frame(PING, b"%d" % n) for n in range(10)], [Ping(b"%d" % n) for n in range(10)]),
    "3.1": ([frame(TEXT, HELLO, rsv=1)], [1002]),
    **{
        f"3.{n}": ([frame(TEXT, HELLO), frame(TEXT, HELLO, rsv=n), frame(PING)], [HELLO, 1002])
        for n in (2, 3, 4)
    },
    "3.5": ([frame(BINARY, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", rsv=5)], [1002]),
    "3.6": ([frame(PING, HELLO, rsv=6)], [1002]),
    "3.7": ([frame(CLOSE, rsv=7)], [1002]),
    **{
        f"4.{group}.{n}": ([frame(opcode, HELLO if n == 2 else b"")], [1002])
        for group, first in ((1, 3), (2, 11))
        for n, opcode in enumerate(range(first, first + 2), 1)
    },
    **{
        f"4.{group}.{n}": (
            [frame(TEXT, HELLO), frame(opcode, b"" if n == 3 else HELLO), frame(PING)],
            [HELLO, 1002],
        )
        for group, first in ((1, 5), (2, 13))
        for n, opcode in enumerate(range(first, first + 3), 3)
    },
    "5.1": (fragmented(PING, b"fragment1", b"fragment2"), [1002]),
    "5.2": (fragmented(PONG, b"fragment1", b"fragment2"), [1002]),
    "5.3": (fragmented(TEXT, b"fragment1", b"fragment2"), [b"fragment1fragment2"]),
    "5.6": (
        [frame(TEXT, b"1", fin=False), frame(PING, b"ping payload"), frame(CONTINUATION, b"2")],
        [Ping(b"ping payload"), b"12"],
    ),
    "5.9": ([frame(CONTINUATION, b"of nothing"), frame(TEXT, HELLO)], [1002]),
    "5.12": ([frame(CONTINUATION, b"of nothing", fin=False), frame(TEXT, HELLO)], [1002]),
    "5.15": (
        [*fragmented(TEXT, b"1", b"2"), frame(CONTINUATION, b"3", fin=False), frame(TEXT, b"4")],
        [b"12", 1002],
    ),
    "5.16": ([frame(CONTINUATION, b"1", fin=False), *fragmented(TEXT, b"2", b"3")] * 2, [1002]),
    "5.17": ([frame(CONTINUATION, b"1"), *fragmented(TEXT, b"2", b"3")] * 2, [1002]),
    "5.18": ([frame(TEXT, b"fragment1", fin=False), frame(TEXT, b"fragment2")], [1002]),
    "5.19": (
        [
            frame(TEXT, b"1", fin=False),
            frame(CONTINUATION, b"2", fin=False),
            frame(PING, b"pongme 1!"),
            frame(CONTINUATION, b"3", fin=False),
            frame(CONTINUATION, b"4", fin=False),
            frame(PING, b"pongme 2!"),
            frame(CONTINUATION, b"5"),
        ],
        [Ping(b"pongme 1!"), Ping(b"pongme 2!"), b"12345"],
    ),
    "6.1.1": ([frame(TEXT)], [b""]),
    "6.1.2": (fragmented(TEXT, b"", b"", b""), [b""]),
    "6.1.3": (fragmented(TEXT, b"", b"middle", b""), [b"middle"]),
    "6.2.1": ([frame(TEXT, MIXED)], [MIXED]),
    "6.2.2": (fragmented(TEXT, MIXED[:14], MIXED[14:]), [MIXED]),
    "6.2.3": (fragmented(TEXT, *one_by_one(MIXED)), [MIXED]),
    "6.2.4": (fragmented(TEXT, *one_by_one(VALID)), [VALID]),
    "6.3.1": ([frame(TEXT, SPOILT)], [1007]),
    "6.3.2": (fragmented(TEXT, *one_by_one(SPOILT)), [1007]),
    # Of these two only what makes the text invalid is sent: it must not wait for the last fragment.
    "6.4.1": (fragmented(TEXT, VALID, TOO_HIGH, b"edited")[:2], [1007]),
    "6.4.2": (fragmented(TEXT, VALID + TOO_HIGH[:1], TOO_HIGH[1:2], b"\x80edited")[:2], [1007]),
    "6.4.3": ([frame(TEXT, VALID + TOO_HIGH + b"edited")], [1007]),
    "7.1.1": ([frame(TEXT, HELLO), closing(1000)], [HELLO, Close(1000, "")]),
    "7.1.2": ([closing(1000), frame(CLOSE)], [Close(1000, "")]),
    "7.1.3": ([closing(1000), frame(PING)], [Close(1000, "")]),
    "7.1.4": ([closing(1000), frame(TEXT, HELLO)], [Close(1000, "")]),
    "7.1.5": (
        [frame(TEXT, b"1", fin=False), closing(1000), frame(CONTINUATION, b"2")],
        [Close(1000, "")],
    ),
    "7.1.6": (
        [frame(TEXT, b"BAsd7&jh23" * 300), frame(TEXT, HELLO), closing(1000), frame(PING)],
        [b"BAsd7&jh23" * 300, HELLO, Close(1000, "")],
    ),
    "7.3.1": ([frame(CLOSE)], [Close(None, "")]),
    "7.3.2": ([frame(CLOSE, b"a")], [1002]),
    "7.3.3": ([closing(1000)], [Close(1000, "")]),
    "7.3.4": ([closing(1000, b"Hello World!")], [Close(1000, "Hello World!")]),
    "7.3.5": ([closing(1000, b"*" * 123)], [Close(1000, "*" * 123)]),
    "7.3.6": ([closing(1000, b"*" * 124)], [1002]),
    "7.5.1": ([closing(1000, SPOILT)], [1007]),
    **{
        f"7.7.{n}": ([closing(code)], [Close(code, "")])
        for n, code in enumerate(
            [*range(1000, 1004), *range(1007, 1012), 3000, 3999, 4000, 4999], 1
        )
    },
    **{
        f"7.9.{n}": ([closing(code)], [1002])
        for n, code in enumerate([0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999], 1)
    },
    "7.13.1": ([closing(5000)], [1002]),
    "7.13.2": ([closing(65535)], [1002]),
    "9.3.1": (fragmented(TEXT, *[b"*" * 64] * 40), [b"*" * 2560]),
    "9.4.1": (fragmented(BINARY, *[b"\xfe" * 64] * 40), [Binary(b"\xfe" * 2560)]),
}


@pytest.mark.parametrize("case", AUTOBAHN)
def test_autobahn_is_content(case: str) -> None:
    sent, expected = AUTOBAHN[case]
    stream = b"".join(sent)
    assert hear(sent) == expected
    assert hear([stream]) == expected
    assert hear(map(bare, sent), of_server=True) == expected
    assert_agrees_with_wsproto(sent)
    assert hear(stream[at : at + 997] for at in range(0, len(stream), 997)) == expected
    if len(stream) < 5000:
        assert hear(one_by_one(stream)) == expected
        for at in range(1, len(stream), 1 + len(stream) // 200):
            assert hear([stream[:at], stream[at:]]) == expected


# {case: (verdict, text)}
UTF8 = {
    case: (verdict, bytes.fromhex(text))
    for case, verdict, text in (
        line.split()
        for line in (Path(__file__).parent.parent / "data" / "autobahn-utf8.txt")
        .read_text()
        .splitlines()
        if not line.startswith("#")
    )
}


@pytest.mark.parametrize("case", UTF8)
def test_autobahn_is_content_with_what_is_taken_for_utf8(case: str) -> None:
    verdict, text = UTF8[case]
    # Behind as much ASCII, it is as long as a media message, which is read on another path.
    for payload in (text, b"." * 150 + text):
        expected: list[Heard] = [payload] if verdict == "valid" else [1007]
        assert hear([frame(TEXT, payload)]) == expected
        assert hear(fragmented(TEXT, *one_by_one(payload))) == expected


def test_bad_text_in_one_frame_is_refused_with_the_last_byte_of_the_frame() -> None:
    """Where wsproto refuses it with the first wrong byte (Autobahn 6.4.3 and 6.4.4)."""
    stream = frame(TEXT, VALID + TOO_HIGH + b"edited")
    assert hear([stream[:-1]]) == []
    assert hear([stream]) == [1007]
    assert list(Oracle().feed(stream[:-1])) == [1007]


# --- Violations ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"\x91\x80", "reserved bit set, but no extension was agreed on"),
        (b"\xa1\xff", "reserved bit set, but no extension was agreed on"),
        (b"\xc1\xfe", "reserved bit set, but no extension was agreed on"),
        (b"\x83\x80", "reserved opcode 3"),
        (b"\x8f\x80", "reserved opcode 15"),
        (b"\x09\x80", "fragmented control frame"),
        (b"\x08\x80", "fragmented control frame"),
        (b"\x80\xff", "continuation of no message"),
        (b"\x00\x80", "continuation of no message"),
        (b"\x81\x05", "frame of a client without a mask"),
        (b"\x81\x7e", "frame of a client without a mask"),
        (b"\x89\xfe", "control frame over 125 bytes"),
        (b"\x88\xff", "control frame over 125 bytes"),
    ],
)
def test_a_bad_header_is_refused_by_its_second_byte(header: bytes, reason: str) -> None:
    reader = FrameReader(MAX)
    assert reader.feed(header[:1]) == []
    assert reader.feed(header[1:]) == [Violation(1002, reason)]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("fin", [True, False])
def test_a_new_message_inside_a_fragmented_one_is_refused(opcode: int, fin: bool) -> None:
    reader = FrameReader(MAX)
    assert reader.feed(frame(TEXT, b"frag", fin=False)) == []
    refused = [Violation(1002, "new message inside a fragmented one")]
    assert reader.feed(frame(opcode, b"x" * 200, fin=fin)) == refused


@pytest.mark.parametrize(
    ("length", "reason"),
    [
        (struct.pack(">BH", 126, 0), "length 0 written in 2 bytes"),
        (struct.pack(">BH", 126, 125), "length 125 written in 2 bytes"),
        (struct.pack(">BQ", 127, 125), "length 125 written in 8 bytes"),
        (struct.pack(">BQ", 127, 65535), "length 65535 written in 8 bytes"),
        (struct.pack(">BQ", 127, 1 << 63), "length over 63 bits"),
    ],
)
def test_a_length_is_written_as_short_as_can_be_and_in_63_bits(length: bytes, reason: str) -> None:
    announced = frame(TEXT, length=length)
    refused: list[frames.Frame] = [Violation(1002, reason)]
    assert FrameReader(1 << 62).feed(announced) == refused
    assert FrameReader(1 << 62).feed(frame(TEXT, b"x" * 125, length=length)) == refused
    # Neither the payload nor the mask need have come.
    reader = FrameReader(1 << 62)
    heard = [reader.feed(byte) for byte in one_by_one(announced[:-4])]
    assert heard == [[]] * (len(announced) - 5) + [refused]


@pytest.mark.parametrize("code", [1012, 1013, 1014])
def test_close_codes_that_were_registered_later_are_accepted(code: int) -> None:
    assert hear([closing(code)]) == [Close(code, "")]


@pytest.mark.parametrize("code", [1015, 1016, 2999, 5000])
def test_close_codes_that_nobody_may_send_are_refused(code: int) -> None:
    refused = [Violation(1002, f"close code {code} that nobody may send")]
    assert FrameReader(MAX).feed(closing(code)) == refused


@pytest.mark.parametrize(
    "end", [closing(1000), frame(TEXT, b"\xff"), frame(TEXT, mask=None), frame(TEXT, b"x" * 101)]
)
def test_nothing_is_heard_after_the_end(end: bytes) -> None:
    reader = FrameReader(100)
    before, last = reader.feed(frame(TEXT, HELLO) + end + frame(TEXT, HELLO))
    assert before == HELLO
    assert isinstance(last, Close | Violation)
    assert reader.feed(frame(TEXT, HELLO)) == []
    assert reader.feed(b"") == []


def test_what_violates_is_told_to_the_peer_in_a_close_frame() -> None:
    """Every reason fits: even the longest, which holds two long numbers."""
    violation = FrameReader((1 << 62) - 1).feed(
        frame(TEXT, length=struct.pack(">BQ", 127, 1 << 62))
    )
    assert violation == [
        Violation(1009, f"message of {1 << 62} bytes, the limit is {(1 << 62) - 1}", 1 << 62)
    ]
    assert isinstance(violation[0], Violation)
    assert violation[0].reason.encode() in frames.close(violation[0].code, violation[0].reason)


# --- Limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, 10, 125, 126, 390, 1024, 1025, 65535, 65536])
def test_a_message_may_be_as_long_as_the_limit(most: int) -> None:
    payload = b"x" * most
    assert hear([frame(TEXT, payload)], most) == [payload]
    assert hear([frame(BINARY, payload)], most) == [Binary(payload)]
    assert hear(fragmented(TEXT, payload, b""), most) == [payload]


@pytest.mark.parametrize("most", [0, 10, 125, 126, 390, 1024, 1025, 65535, 65536])
def test_a_longer_message_is_refused_when_it_is_announced(most: int) -> None:
    reason = f"message of {most + 1} bytes, the limit is {most}"
    refused = [Violation(1009, reason, most + 1)]
    stream = frame(TEXT, b"x" * (most + 1))
    header = stream[: len(stream) - most - 1 - 4]
    assert FrameReader(most).feed(stream) == refused
    reader = FrameReader(most)
    heard = [reader.feed(byte) for byte in one_by_one(header)]
    assert heard == [[]] * (len(header) - 1) + [refused]
    reader = FrameReader(most)
    assert reader.feed(frame(TEXT, b"x" * most, fin=False)) == []
    assert reader.feed(frame(CONTINUATION, b"x")[:2]) == refused


def test_the_limit_is_for_each_message_and_not_for_control_frames() -> None:
    sent = [*fragmented(TEXT, b"12345", b"67890"), frame(PING, b"x" * 125)]
    heard = [b"1234567890", Ping(b"x" * 125)]
    assert hear(sent * 3, most=10) == heard * 3
    within = [frame(TEXT, b"1" * 10, fin=False), frame(PING, b"x" * 125), frame(CONTINUATION)]
    assert hear(within, most=10) == [Ping(b"x" * 125), b"1" * 10]


def kept_after_each(parts: Sequence[bytes]) -> list[int]:
    reader = FrameReader(MAX)
    reader.feed(frame(TEXT, b"warm"))
    kept = array.array("q", bytes(8 * len(parts)))  # takes no memory while we look
    tracemalloc.start()
    try:
        for n, part in enumerate(parts):
            reader.feed(part)
            kept[n] = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return kept.tolist()


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param(frame(TEXT, fin=False), frame(0, fin=False) * 10, id="empty fragments"),
        pytest.param(frame(TEXT, fin=False), frame(0, b"x", fin=False) * 10, id="small fragments"),
        pytest.param(frame(TEXT, b"x" * 65000, fin=False), frame(PING), id="pings between"),
        pytest.param(
            frame(TEXT, b"x" * MAX, fin=False), b"\x8a\xfd" + MASK, id="a pong that stays"
        ),
        pytest.param(frame(TEXT, b"x" * MAX)[:8], b"x" * 32, id="a message that never ends"),
        pytest.param(b"\x82\xff" + struct.pack(">Q", 1 << 40), b"x" * 999, id="a huge message"),
    ],
)
def test_what_is_kept_is_bounded_whatever_comes(first: bytes, then: bytes) -> None:
    # A bytearray reserves an eighth more than it holds.
    assert max(kept_after_each([first, *[then] * 2000])) < MAX * 9 / 8 + 16_000


# --- what a server sends that is too long to be kept --------------------------------------------


def in_part(parts: Iterable[bytes], most_whole: int, most_text: int) -> list[frames.Frame]:
    reader = FrameReader(1 << 20, of_server=True, most_whole=most_whole, most_text=most_text)
    return [item for part in parts for item in reader.feed(part)]


@patiently
@given(conversations, closes, st.integers(0, 300), st.integers(0, 300), st.data())
def test_long_audio_is_told_in_parts_and_long_texts_are_passed_over_and_all_else_is_as_ever(
    conversation: list[bytes], end: bytes, most_whole: int, most_text: int, data: st.DataObject
) -> None:
    parts = data.draw(in_pieces(st.just(b"".join(map(bare, [*conversation, end])))), "parts")
    whole = in_part(parts, 1 << 20, 1 << 20)
    told = in_part(parts, most_whole, most_text)
    passed_over = [
        frames.TooLong(len(item)) if isinstance(item, bytes) and len(item) > most_text else item
        for item in whole
        if not isinstance(item, Binary)
    ]
    assert [item for item in told if not isinstance(item, Binary)] == passed_over
    audio = [item.data for item in whole if isinstance(item, Binary)]
    heard = [item.data for item in told if isinstance(item, Binary)]
    assert b"".join(heard) == b"".join(audio)
    if all(len(each) <= most_whole for each in audio):
        assert heard == audio


@pytest.mark.parametrize("size", [1, 7, 999])
@pytest.mark.parametrize("cuts", [[], [100], [1, 2, 50, 500], [400, 400, 401], [1000]], ids=str)
def test_of_long_audio_each_part_is_told_as_it_comes(cuts: list[int], size: int) -> None:
    """But for as much as a message may have that is told whole, if it comes in fragments."""
    audio = bytes(n % 251 for n in range(1000))
    stream = b"".join(map(bare, fragmented(BINARY, *cut(audio, cuts))))
    reader = FrameReader(1 << 20, of_server=True, most_whole=300)
    told = b""
    for at in range(0, len(stream), size):
        for item in reader.feed(stream[at : at + size]):
            assert isinstance(item, Binary)
            assert 0 < len(item.data) <= 300 + size
            told += item.data
        came = min(at + size, len(stream)) - 4 * len(cuts) - 4  # less the heads of the frames
        assert len(told) >= came - 300
    assert told == audio
    assert reader.feed(bare(frame(TEXT, HELLO))) == [HELLO]


def test_of_a_text_that_is_passed_over_nothing_is_kept() -> None:
    text = bare(frame(TEXT, b"x" * 60_000, fin=False)) + bare(frame(CONTINUATION, b"y" * 60_000))
    reader = FrameReader(1 << 20, of_server=True, most_whole=1 << 20, most_text=70_000)
    reader.feed(text[:60_000])
    tracemalloc.start()
    try:
        told = [
            item
            for at in range(60_000, len(text), 999)
            for item in reader.feed(text[at : at + 999])
        ]
        assert tracemalloc.get_traced_memory()[0] < 16_000
    finally:
        tracemalloc.stop()
    assert told == [frames.TooLong(120_000)]


def test_control_frames_between_what_is_not_kept_are_heard() -> None:
    audio = fragmented(BINARY, b"a" * 400, b"b" * 400)
    texts = fragmented(TEXT, b"c" * 400, b"d" * 400)
    ping = frame(PING, b"ping")
    stream = [audio[0], ping, audio[1], texts[0], ping, texts[1], frame(TEXT, HELLO)]
    assert in_part(map(bare, stream), 300, 300) == [
        Binary(b"a" * 400),
        Ping(b"ping"),
        Binary(b"b" * 400),
        Ping(b"ping"),
        frames.TooLong(800),
        HELLO,
    ]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_what_is_not_kept_may_be_no_longer_either(opcode: int) -> None:
    first, last = map(bare, fragmented(opcode, b"x" * 900, b"y" * 200))
    reader = FrameReader(1000, of_server=True, most_whole=300, most_text=300)
    reader.feed(first)
    assert reader.feed(last) == [Violation(1009, "message of 1100 bytes, the limit is 1000", 1100)]
    reader = FrameReader(1000, of_server=True, most_whole=300, most_text=300)
    told = [*reader.feed(first), *reader.feed(bare(frame(opcode, b"new")))]
    assert isinstance(told[-1], Violation)


@pytest.mark.parametrize("end", [closing(1000), frame(TEXT), frame(CONTINUATION, b"\xff")])
def test_nothing_is_kept_after_the_end(end: bytes) -> None:
    before, *after = kept_after_each(
        [frame(TEXT, b"x" * 60000, fin=False), end, *[b"x" * 999] * 100]
    )
    assert before > 60_000
    assert max(after) < 16_000


# --- What we send -------------------------------------------------------------------------------


def client_hears(data: bytes) -> list[object]:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(data)
    return list(client.events())


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536])
def test_a_client_reads_our_messages(length: int) -> None:
    assert client_hears(frames.text(b"x" * length)) == [TextMessage("x" * length)]
    assert client_hears(frames.binary(b"\xff" * length)) == [BytesMessage(b"\xff" * length)]


def test_a_client_reads_our_control_frames() -> None:
    sent = frames.ping() + frames.ping(b"1") + frames.pong(b"x" * 125) + frames.pong()
    assert client_hears(sent) == [
        PingEvent(b""),
        PingEvent(b"1"),
        PongEvent(b"x" * 125),
        PongEvent(b""),
    ]


@pytest.mark.parametrize("build", [frames.ping, frames.pong])
def test_a_control_frame_over_125_bytes_is_not_built(build: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ValueError, match="a control frame holds up to 125 bytes, not 126"):
        build(b"x" * 126)


def test_a_client_reads_our_close_frames() -> None:
    assert client_hears(frames.close()) == [CloseConnection(code=1005, reason="")]
    assert client_hears(frames.close(None, "nobody reads")) == [CloseConnection(1005, "")]
    assert client_hears(frames.close(1000)) == [CloseConnection(1000, "")]
    assert client_hears(frames.close(1011, "é")) == [CloseConnection(1011, "é")]


def test_a_reason_is_cut_between_characters() -> None:
    assert client_hears(frames.close(1000, "é" * 100)) == [CloseConnection(1000, "é" * 61)]
    assert client_hears(frames.close(1000, "x" * 200)) == [CloseConnection(1000, "x" * 123)]
    assert client_hears(frames.close(1000, "\ud800")) == [CloseConnection(1000, "?")]


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 70000])
def test_a_close_code_that_may_not_be_sent_is_not(code: int) -> None:
    with pytest.raises(ValueError, match=f"close code {code} may not be sent"):
        frames.close(code)


@patiently
@given(st.sampled_from([1000, 1002, 1014, 3000, 4999]), st.text(max_size=130))
def test_a_close_frame_may_be_echoed(code: int, reason: str) -> None:
    ours = frames.close(code, reason)
    [heard] = FrameReader(MAX).feed(frame(CLOSE, ours[2:]))
    assert isinstance(heard, Close)
    assert frames.close(heard.code, heard.reason) == ours


@pytest.mark.parametrize("length", [0, 1, 3, 125, 126, 127, 65535, 65536])
def test_a_server_reads_our_audio(length: int) -> None:
    payload = bytes(range(256)) * 256
    sent = frames.masked_binary(payload[:length]) + frames.masked_binary(b"next")
    assert list(Oracle().feed(sent)) == [Binary(payload[:length]), Binary(b"next")]


def test_a_server_reads_our_texts_and_control_frames() -> None:
    sent = [
        frames.masked_text("µ".encode()),
        frames.masked_text(b"x" * 500),
        frames.masked(frames.ping(b"1")),
        frames.masked(frames.pong(b"x" * 125)),
        frames.masked(frames.close(1000, "bye")),
    ]
    assert list(Oracle().feed(b"".join(sent))) == [
        "µ".encode(),
        b"x" * 500,
        Ping(b"1"),
        Pong(b"x" * 125),
        Close(1000, "bye"),
    ]


def test_every_frame_of_ours_has_a_mask_of_its_own() -> None:
    """More frames than masks are asked of the system at once."""
    masked = [frames.masked_binary(bytes(4)) for _ in range(1100)]
    assert {each[:2] for each in masked} == {b"\x82\x84"}
    # Of so many masks two are the same once in seven thousand runs.
    assert len({each[2:6] for each in masked}) >= 1099

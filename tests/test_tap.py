"""The tap against plain wsproto: the same machinery of trio-websocket, with and without it.

A `Run` is all there is to be seen from outside: the messages in order, how the websocket ended, and
what the client sent.
"""

import itertools
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import h11
import pytest
import strategies  # noqa: F401  its profile: no deadline for one example
import trio
import trio_websocket
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Pong, Request
from wsproto.utilities import ProtocolError, generate_accept_token

from sts_trio.legs.tap import Message, Tap

MOST = 4096  # bytes in a message
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
LIMIT = 10.0  # seconds; no run takes more than a few hundredths of one


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes = b"",
    head: bytes | None = None,
) -> bytes:
    """A server's frame, or what a bad server takes for one. `head` is the length as written."""
    if head is None:
        if len(payload) < 126:
            head = bytes([len(payload)])
        elif len(payload) < 0x10000:
            head = struct.pack(">BH", 126, len(payload))
        else:
            head = struct.pack(">BQ", 127, len(payload))
    if mask:
        head = bytes([head[0] | 0x80]) + head[1:] + mask
    return bytes([fin << 7 | rsv << 4 | opcode]) + head + payload


def fragmented(opcode: int, *fragments: bytes) -> list[bytes]:
    last = len(fragments) - 1
    return [
        frame(opcode if n == 0 else CONTINUATION, fragment, fin=n == last)
        for n, fragment in enumerate(fragments)
    ]


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2) + reason)


def cut(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(at for at in cuts if 0 < at < len(stream))})
    return [stream[a:b] for a, b in itertools.pairwise(places)]


class Run(NamedTuple):
    messages: list[Message]
    end: str
    sent: list[object]


# --- the machinery ------------------------------------------------------------------------------

# As long as the real one that takes its place, so that cuts stay where they are.
TOKEN = b"{token}".ljust(28, b".")
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + TOKEN + b"\r\n\r\n"
)


class Server(trio.abc.Stream):
    """The client's stream: gives out the chunks it was made of, then EOF; keeps what is sent."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._stream = b"".join(chunks)
        self._sizes = [len(chunk) for chunk in chunks]
        self.sent = b""
        self._is_closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.sent += data
        for line in bytes(data).split(b"\r\n"):
            name, _, value = line.partition(b": ")
            if name.lower() == b"sec-websocket-key":
                token = generate_accept_token(value)
                self._stream = self._stream.replace(TOKEN, token)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._is_closed:
            raise trio.ClosedResourceError
        if not self._sizes:
            return b""
        size = self._sizes.pop(0)
        chunk, self._stream = self._stream[:size], self._stream[size:]
        return chunk

    async def aclose(self) -> None:
        self._is_closed = True
        await trio.lowlevel.checkpoint()

    def events(self) -> list[object]:
        """What was sent after the handshake, as a server understands it."""
        _, _, rest = self.sent.partition(b"\r\n\r\n")
        wire = Connection(ConnectionType.SERVER)
        wire.receive_data(rest)
        return list(wire.events())


async def _run(wire: WSConnection, tapped: list[Message], chunks: Sequence[bytes]) -> Run:
    server = Server(chunks)
    socket = trio_websocket.WebSocketConnection(
        server, wire, host="agent.test", path="/", max_message_size=MOST, message_queue_size=1000
    )
    end = ""
    with trio.fail_after(LIMIT):
        try:
            await socket._reader_task()
        except trio_websocket.ConnectionRejected as exc:
            end = f"rejected {exc.status_code} {exc.headers!r} {exc.body!r}"
        except (ProtocolError, h11.ProtocolError) as exc:
            end = f"{type(exc).__name__} {exc}"
        messages = tapped
        try:
            while True:
                messages.append(await socket.get_message())
        except trio_websocket.ConnectionClosed as exc:
            end = end or f"closed {exc.reason}"
    sent = [] if end.startswith("rejected") else server.events()
    return Run(messages, end, sent)


def through_the_tap(chunks: Sequence[bytes]) -> Run:
    tapped: list[Message] = []
    return trio.run(_run, Tap(MOST, tapped.append), tapped, chunks)


def through_wsproto(chunks: Sequence[bytes]) -> Run:
    return trio.run(_run, WSConnection(ConnectionType.CLIENT), [], chunks)


def assert_agrees(chunks: Sequence[bytes]) -> Run:
    run = through_the_tap(chunks)
    assert run == through_wsproto(chunks)
    return run


def with_handshake(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The handshake, and the stream right behind it; cuts count from its first byte."""
    return cut(SWITCHING + stream, (len(SWITCHING) + at for at in cuts))


# --- legal conversations ------------------------------------------------------------------------

lengths = st.one_of(st.integers(0, 8), st.sampled_from([124, 125, 126, 127, 128, 300]))
binaries = lengths.map(lambda length: bytes(n % 251 for n in range(length)))
texts = st.one_of(st.text(max_size=12), st.sampled_from(["", "x" * 125, "µ" * 63, "é" * 200]))
small = st.binary(max_size=125)


def split(payload: bytes) -> st.SearchStrategy[list[bytes]]:
    places = st.lists(st.integers(0, len(payload)), min_size=1, max_size=3)
    return places.map(
        lambda cuts: [
            payload[a:b]
            for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), len(payload)], strict=True)
        ]
    )


control = st.one_of(
    small.map(lambda payload: frame(PING, payload)), small.map(lambda payload: frame(PONG, payload))
)
usual = st.one_of(
    texts.map(lambda text: frame(TEXT, text.encode())),
    binaries.map(lambda payload: frame(BINARY, payload)),
    control,
)


@st.composite
def in_fragments(draw: st.DrawFn) -> bytes:
    """A fragmented message, with control frames between its fragments."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    payload = draw(texts).encode() if opcode == TEXT else draw(binaries)
    parts = fragmented(opcode, *draw(split(payload)))
    return b"".join(part + b"".join(draw(st.lists(control, max_size=1))) for part in parts)


ends = st.sampled_from(
    [b"", frame(CLOSE), closing(1000), closing(1011, "µ-law".encode()), closing(4000, b"x" * 123)]
)
conversations = st.tuples(
    st.lists(usual, max_size=6),
    st.lists(in_fragments() | usual, max_size=3),
    ends,
    st.lists(usual, max_size=2),  # nothing of it may be heard after a close frame
).map(lambda parts: b"".join([*parts[0], *parts[1], parts[2], *parts[3]]))
cuts = st.lists(st.integers(-len(SWITCHING), 1200), max_size=8)


@given(conversations, cuts)
@example(frame(TEXT, b"before") + closing(1000) + frame(TEXT, b"after"), [])
@example(frame(CLOSE) + frame(BINARY, b"after") * 2, [2, 4])
@settings(max_examples=200)
def test_a_legal_conversation_is_heard_as_wsproto_hears_it(
    stream: bytes, places: list[int]
) -> None:
    assert_agrees(with_handshake(stream, places))


CONVERSATION = b"".join(
    [
        frame(TEXT, b'{"type":"Welcome"}'),
        frame(BINARY, bytes(range(200))),
        frame(PING, b"are you there"),
        frame(TEXT, "µ".encode()),
        frame(BINARY, b""),
        *fragmented(TEXT, b"in \xc2", b"\xb5 pieces"),
        frame(BINARY, b"z" * 130),
        frame(PONG),
        closing(1000, b"bye"),
    ]
)
MESSAGES = ['{"type":"Welcome"}', bytes(range(200)), "µ", b"", "in µ pieces", b"z" * 130]


def test_a_stream_may_be_cut_in_two_anywhere_and_the_handshake_as_well() -> None:
    whole = through_wsproto([SWITCHING, CONVERSATION])
    assert whole.messages == MESSAGES
    assert whole.sent[0] == Pong(payload=b"are you there")
    stream = SWITCHING + CONVERSATION
    for at in range(len(stream)):
        assert through_the_tap(cut(stream, [at])) == whole


def test_a_stream_may_come_byte_by_byte() -> None:
    stream = SWITCHING + CONVERSATION
    assert assert_agrees(cut(stream, range(len(stream)))).messages == MESSAGES


def test_first_frames_may_come_with_the_handshake_and_are_tapped() -> None:
    tapped: list[Message] = []
    chunks = [SWITCHING + frame(TEXT, b"Welcome") + frame(BINARY, b"\x01")]
    trio.run(_run, Tap(MOST, tapped.append), [], chunks)
    assert tapped == ["Welcome", b"\x01"]


def test_after_the_first_fragment_everything_goes_the_long_way() -> None:
    tapped: list[Message] = []
    frames = [frame(TEXT, b"1"), *fragmented(TEXT, b"2", b"3"), frame(TEXT, b"4")]
    run = trio.run(_run, Tap(MOST, tapped.append), [], [SWITCHING, *frames])
    assert tapped == ["1"]
    assert run.messages == ["23", "4"]


def test_a_text_that_is_not_utf8_is_delivered_as_the_error_and_the_next_is_heard() -> None:
    """Here wsproto would end the connection: see `Tap`."""
    stream = frame(TEXT, b"\xff") + frame(TEXT, b"next")
    bad, good = through_the_tap(with_handshake(stream, [])).messages
    assert isinstance(bad, UnicodeDecodeError)
    assert good == "next"


# --- what no server may send --------------------------------------------------------------------

ILLEGAL = {
    "masked": frame(TEXT, b"\x01\x01", mask=b"abcd"),
    "masked, long": frame(BINARY, b"\x01" * 200, mask=b"abcd"),
    "masked, empty": frame(BINARY, b"", mask=b"abcd"),
    "reserved bit 1": frame(TEXT, b"x", rsv=4),
    "reserved bit 2": frame(BINARY, b"x", rsv=2),
    "reserved bit 3": frame(PING, b"x", rsv=1),
    "reserved opcode": frame(0x3, b"x"),
    "reserved control opcode": frame(0xB, b"x"),
    "continuation of nothing": frame(CONTINUATION, b"x"),
    "message in a message": frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"),
    "fragmented ping": frame(PING, b"x", fin=False),
    "ping of 126": frame(PING, b"x" * 126),
    "pong of 70000": frame(PONG, b"x" * 70000),
    "close of 126": frame(CLOSE, b"\x03\xe8" + b"x" * 124),
    "close with half a code": frame(CLOSE, b"\x03"),
    "close with a code nobody may send": closing(1006),
    "close with bad text": closing(1000, b"\xff"),
    "short length in two bytes": frame(TEXT, b"x", head=struct.pack(">BH", 126, 1)),
    "short length in eight bytes": frame(TEXT, b"x", head=struct.pack(">BQ", 127, 1)),
    "middling length in eight bytes": frame(BINARY, b"x" * 200, head=struct.pack(">BQ", 127, 200)),
    "length with the top bit": frame(BINARY, b"x", head=struct.pack(">BQ", 127, 1 << 63)),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_an_illegal_frame_gets_the_verdict_of_wsproto_wherever_it_is_cut(name: str) -> None:
    before, after = frame(TEXT, b"before"), frame(TEXT, b"after")
    bad = ILLEGAL[name]
    run = assert_agrees([SWITCHING, before + bad + after])
    assert run.messages[:1] == ["before"]
    assert "after" not in run.messages
    for at in range(min(len(bad), 16)):
        assert_agrees([SWITCHING, before + bad[:at]])
        assert_agrees([SWITCHING, before + bad[:at], bad[at:] + after])
        assert_agrees([SWITCHING, before + bad[:at], bad[at:], after])


@pytest.mark.parametrize("name", ["ping of 126", "pong of 70000", "short length in two bytes"])
def test_an_illegal_header_is_judged_without_waiting_for_its_payload(name: str) -> None:
    header = ILLEGAL[name][:4]
    assert "1002" in assert_agrees([SWITCHING, header]).end


any_frame = st.builds(
    frame,
    st.integers(0, 15),
    st.one_of(binaries, texts.map(str.encode)),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 1, 4]),
    mask=st.sampled_from([b"", b"", b"", b"abcd"]),
    head=st.one_of(st.none(), st.none(), st.binary(min_size=1, max_size=9)),
)


@given(st.lists(usual, max_size=3), st.lists(any_frame, max_size=4), cuts)
@settings(max_examples=200)
def test_any_frame_at_any_place_is_judged_as_wsproto_judges_it(
    before: list[bytes], frames: list[bytes], places: list[int]
) -> None:
    chunks = with_handshake(b"".join([*before, *frames]), places)
    run = through_the_tap(chunks)
    oracle = through_wsproto(chunks)
    if run != oracle:
        # What differs, is what becomes of bad text: see above. wsproto notices it sooner, too.
        assert "1007" in oracle.end
        heard = len(oracle.messages)
        assert run.messages[:heard] == oracle.messages
        assert all(isinstance(message, UnicodeError) for message in run.messages[heard:][:1])


# --- sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("more", [0, 1, 100_000])
def test_a_message_may_be_as_long_as_the_limit_and_no_longer(opcode: int, more: int) -> None:
    stream = frame(opcode, b"x" * (MOST + more)) + frame(TEXT, b"after")
    run = assert_agrees(with_handshake(stream, range(0, len(stream), 1000)))
    if more:
        assert run.messages == []
        [said] = run.sent
        assert isinstance(said, CloseConnection)
        assert said.code == 1009
    else:
        assert [len(message) for message in run.messages if not isinstance(message, Exception)] == [
            MOST,
            5,
        ]


def test_a_message_over_the_limit_is_not_kept_until_it_has_come() -> None:
    """Nine bytes of header are enough to know; what follows goes to trio-websocket as it comes."""
    tap = Tap(MOST, lambda message: pytest.fail("tapped"))
    accepted(tap)
    tap.receive_data(frame(BINARY, head=struct.pack(">BQ", 127, 1 << 40)))
    for _ in range(3):
        tap.receive_data(b"x" * 1000)
        [event] = tap.events()
        assert isinstance(event, BytesMessage)
        assert len(event.data) == 1000


def accepted(tap: Tap) -> None:
    """Brings a tap behind its handshake."""
    request = tap.send(Request(host="agent.test", target="/"))
    [key] = [
        line.partition(b": ")[2]
        for line in request.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key")
    ]
    tap.receive_data(SWITCHING.replace(TOKEN, generate_accept_token(key)))
    [event] = tap.events()
    assert isinstance(event, AcceptConnection)


class Counting(Tap):
    """Counts the bytes that are looked at, which are copied for it."""

    looked_at = 0

    def _take(self, data: bytes) -> int:
        self.looked_at += len(data)
        return super()._take(data)


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_long_message_in_small_pieces_is_looked_at_twice_and_not_each_time(piece: int) -> None:
    length = 3_000_000 if piece == 1000 else 200_000
    heard: list[Message] = []
    tap = Counting(4 * 1024 * 1024, heard.append)
    accepted(tap)
    stream = frame(BINARY, bytes(length)) + frame(TEXT, b"next")
    for at in range(0, len(stream), piece):
        tap.receive_data(stream[at : at + piece])
    assert heard == [bytes(length), "next"]
    assert tap.looked_at < len(stream) + 10_000


def test_many_messages_in_one_segment_are_looked_at_once() -> None:
    heard: list[Message] = []
    tap = Counting(MOST, heard.append)
    accepted(tap)
    stream = frame(TEXT, b"x" * 20) * 3000
    tap.receive_data(stream)
    assert len(heard) == 3000
    assert tap.looked_at == len(stream)


# --- the handshake ------------------------------------------------------------------------------

REFUSALS = {
    "without a body": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
    "with a body": b"HTTP/1.1 402 Payment Required\r\nContent-Length: 11\r\n\r\npay\r\n\r\nmore",
    "in chunks": (
        b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"4\r\nbusy\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n"
    ),
    "with a body of blank lines": b"HTTP/1.1 404 No\r\nContent-Length: 6\r\n\r\n\n\n\n\n\n\n",
    "with a body to the end": b"HTTP/1.1 500 Oh\r\nConnection: close\r\n\r\nsorry",
    "with an interim answer": b"HTTP/1.1 103 Hints\r\n\r\n" + SWITCHING + frame(TEXT, b"hi"),
    "with a redirect": b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
    "with another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "with blank lines": b"\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n",
    "with a wrong token": SWITCHING.replace(TOKEN, b"x" * 28) + frame(TEXT, b"hi"),
    "with half an answer": SWITCHING[:40],
    "with nothing": b"",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_the_refusal_that_wsproto_reads_wherever_it_is_cut(name: str) -> None:
    refusal = REFUSALS[name]
    whole = assert_agrees([refusal] if refusal else [])
    assert whole.messages == []
    assert whole.sent == []
    for at in range(1, len(refusal)):
        assert_agrees([refusal[:at], refusal[at:]])
    assert_agrees([refusal[at : at + 1] for at in range(len(refusal))])


def test_a_refusals_body_is_known() -> None:
    assert through_the_tap([REFUSALS["with a body"]]).end.startswith("rejected 402")
    assert through_the_tap([REFUSALS["with a body"]]).end.endswith(r"b'pay\r\n\r\nmore'")


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_the_handshake_may_end_its_lines_as_h11_allows(line_end: bytes) -> None:
    handshake = SWITCHING.replace(b"\r\n", line_end)
    stream = handshake + frame(TEXT, b"one\r\n\r\n") + frame(TEXT, b"two")
    for at in range(len(stream)):
        assert assert_agrees(cut(stream, [at])).messages == ["one\r\n\r\n", "two"]


def test_a_handshake_without_end_is_given_up_by_h11() -> None:
    endless = SWITCHING[:-4] + b"\r\nX: " + b"x" * 200_000
    run = assert_agrees(cut(endless, range(0, len(endless), 5000)))
    assert run.messages == []
    assert "Error" in run.end

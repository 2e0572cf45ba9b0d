"""TLS spoken without waiting: what goes over it, however the socket cuts it, and how it ends."""

import contextlib
import gc
import itertools
import socket
import ssl
import weakref
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
import trio
from hypothesis import given
from rig_adopted import in_agreement
from rig_streams import TRUSTED

from sts_trio.net.tls_socket import (
    MAX_UNSENT,
    RECORD,
    TlsSocket,
    TlsState,
    break_cycle,
    is_known,
    tls_state,
)


class Narrow:
    """A non-blocking socket in memory, whose peer is the test."""

    def __init__(self, *, room: int = 1 << 30) -> None:
        self.room = room  # for what is written, until the peer reads
        self.written = b""
        self.to_come: list[bytes] = []  # by a read each; b"" is the end
        self.broken: OSError | None = None

    def recv(self, size: int) -> bytes:
        if not self.to_come:
            raise BlockingIOError
        return self.to_come.pop(0)

    def send(self, data: bytes) -> int:
        if self.broken is not None:
            raise self.broken
        if not self.room:
            raise BlockingIOError
        count = min(len(data), self.room)
        self.written += data[:count]
        self.room -= count
        return count


class Line:
    """A `TlsSocket` on such a socket, and TLS at its peer's end."""

    def __init__(self, *, room: int = 1 << 30) -> None:
        self.peer, self.state = in_agreement()
        self.socket = Narrow(room=room)
        self.ours = TlsSocket(self.socket, self.state)  # type: ignore[arg-type]

    def encrypted(self, *messages: bytes) -> bytes:
        """Each in a record of its own."""
        for message in messages:
            self.peer.tls.write(message)
        return self.peer.outgoing.read()

    def heard(self) -> bytes:
        """By the peer, of what was written."""
        self.peer.incoming.write(self.socket.written)
        self.socket.written = b""
        heard = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while piece := self.peer.tls.read(RECORD):
                heard += piece
        return heard


@pytest.fixture
def line() -> Line:
    return Line()


def received(ours: TlsSocket) -> list[bytes]:
    """What is read until there is nothing, for now or for good (b"" then)."""
    pieces: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while not pieces or pieces[-1]:
            pieces.append(ours.recv(65536))
    return pieces


# --- reading ------------------------------------------------------------------------------------


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(edge % (len(data) + 1) for edge in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


@given(
    messages=st.lists(st.binary(min_size=1, max_size=40) | st.just(bytes(40_000)), max_size=6),
    at=st.lists(st.integers(0, 1 << 20), max_size=20),
    handed_over=st.integers(0, 1 << 20),
)
def test_however_records_are_cut_the_same_bytes_are_read(
    messages: list[bytes], at: list[int], handed_over: int
) -> None:
    """Part of them was read by somebody else already, who has not asked TLS for them."""
    line = Line()
    encrypted = line.encrypted(*messages)
    first = handed_over % (len(encrypted) + 1)
    line.state.incoming.write(encrypted[:first])
    line.socket.to_come = cut(encrypted[first:], at)
    read = []
    for _ in range(len(line.socket.to_come) + 1):  # as often as ticks come
        with contextlib.suppress(BlockingIOError):
            read.append(line.ours.recv(65536))
    assert all(read)
    assert b"".join(read) == b"".join(messages)


def test_all_records_of_a_read_are_heard_together(line: Line) -> None:
    line.socket.to_come = [line.encrypted(b"one", b"two", b"three")]
    assert line.ours.recv(65536) == b"onetwothree"


def test_half_a_record_is_nothing_yet(line: Line) -> None:
    encrypted = line.encrypted(b"whole")
    line.socket.to_come = [encrypted[:-1]]
    with pytest.raises(BlockingIOError):
        line.ours.recv(65536)
    line.socket.to_come = [encrypted[-1:]]
    assert line.ours.recv(65536) == b"whole"


def test_what_was_decrypted_before_is_read_though_nothing_comes(line: Line) -> None:
    line.state.incoming.write(line.encrypted(b"hello"))
    assert line.state.tls.read(2) == b"he"
    assert line.ours.recv(65536) == b"llo"
    with pytest.raises(BlockingIOError):
        line.ours.recv(65536)


# --- ends ---------------------------------------------------------------------------------------


def test_the_peers_goodbye_is_the_end_though_its_socket_is_open(line: Line) -> None:
    with pytest.raises(ssl.SSLWantReadError):
        line.peer.tls.unwrap()
    line.socket.to_come = [line.encrypted() + b"what comes behind is no TLS"]
    assert received(line.ours) == [b""]
    assert line.ours.recv(65536) == b""


@pytest.mark.parametrize("ending", ["goodbye", "cut off", "cut off in a record", "both"])
def test_what_was_said_before_the_end_is_read_before_it(line: Line, ending: str) -> None:
    encrypted = line.encrypted(b"last words")
    if ending == "cut off in a record":
        encrypted += line.encrypted(b"lost")[:-1]
    if ending in ("goodbye", "both"):
        with pytest.raises(ssl.SSLWantReadError):
            line.peer.tls.unwrap()
        encrypted += line.encrypted()
    line.socket.to_come = [encrypted] + [b""] * (ending != "goodbye")
    assert received(line.ours) == [b"last words", b""]


def test_the_end_is_the_end_where_it_came_before_this_began(line: Line) -> None:
    """And what came before that is read first."""
    line.state.incoming.write(line.encrypted(b"last words"))
    line.state.incoming.write_eof()
    line.socket.to_come = [b""] * 2
    assert received(line.ours) == [b"last words", b""]


def test_an_end_that_tls_was_told_of_before_is_one(line: Line) -> None:
    line.state.incoming.write_eof()
    assert received(line.ours) == [b""]


def test_to_a_peer_that_says_no_more_something_can_be_said(line: Line) -> None:
    line.socket.to_come = [b""]
    assert line.ours.recv(65536) == b""
    assert line.ours.send(b"goodbye") == 7
    assert line.heard() == b"goodbye"


def test_what_is_no_tls_is_a_fault_that_has_a_name_and_behind_what_was_said_before(
    line: Line,
) -> None:
    line.socket.to_come = [line.encrypted(b"fine") + bytes(40)]
    assert line.ours.recv(65536) == b"fine"
    for _ in range(2):
        with pytest.raises(OSError, match=r"RECORD|VERSION") as caught:
            line.ours.recv(65536)
        assert not isinstance(caught.value, BlockingIOError)
    # The peer is told, too.
    with pytest.raises(ssl.SSLError, match="ALERT"):
        line.heard()


def test_a_socket_that_is_lost_is_heard_of_as_such(line: Line) -> None:
    one, other = socket.socketpair()
    with one, other:
        ours = TlsSocket(one, line.state)
        one.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            ours.recv(65536)


# --- writing ------------------------------------------------------------------------------------


def say(line: Line, data: bytes, rooms: Iterator[int]) -> None:
    """As a leg does: what was not taken is the beginning of what is sent next."""
    while data:
        count = line.ours.send(data)
        assert 0 <= count <= len(data)
        data = data[count:]
        line.socket.room += next(rooms)


@given(
    messages=st.lists(st.binary(min_size=1, max_size=60) | st.just(bytes(40_000)), max_size=6),
    rooms=st.lists(st.integers(0, 30_000), min_size=1),
)
def test_however_little_the_socket_takes_all_of_it_arrives_in_order(
    messages: list[bytes], rooms: list[int]
) -> None:
    line = Line(room=0)
    turn = 0

    def some_room() -> Iterator[int]:
        nonlocal turn
        while True:
            turn += 1
            yield rooms[turn % len(rooms)] + turn % 2  # never nothing for ever

    room = some_room()
    for message in messages:
        say(line, message, room)
    assert line.heard() == b"".join(messages)


def test_what_is_not_taken_may_grow_before_it_is_sent_again() -> None:
    line = Line(room=10)
    taken = line.ours.send(b"first")
    assert taken < 5
    line.socket.room = 1000
    rest = b"first"[taken:] + b"second"
    assert line.ours.send(rest) == len(rest)
    assert line.heard() == b"firstsecond"


def test_behind_a_record_that_is_not_through_nothing_is_encrypted() -> None:
    line = Line(room=10)
    taken = line.ours.send(bytes(10 * RECORD))
    assert taken == 10
    assert len(line.ours._unsent) < RECORD + 100
    assert line.ours.send(bytes(10 * RECORD - taken)) == 0
    assert len(line.ours._unsent) < RECORD + 100


def test_a_broken_socket_is_told_to_who_writes(line: Line) -> None:
    line.socket.broken = BrokenPipeError()
    with pytest.raises(BrokenPipeError):
        line.ours.send(b"x")


class Stubborn:
    """TLS that is in the midst of something else."""

    def __init__(self, state: TlsState, exc: ssl.SSLError) -> None:
        self._tls = state.tls
        self.exc: ssl.SSLError | None = exc
        self.answer: Any = None

    def write(self, data: bytes) -> int:
        if self.exc is not None:
            raise self.exc
        return self._tls.write(data)

    def read(self, size: int) -> bytes:
        if self.answer is not None:
            self.answer()
        return self._tls.read(size)

    def pending(self) -> int:
        return self._tls.pending()


def stubborn(line: Line, exc: ssl.SSLError) -> Stubborn:
    tls: Any = Stubborn(line.state, exc)
    line.ours = TlsSocket(line.socket, line.state._replace(tls=tls))  # type: ignore[arg-type]
    return tls  # type: ignore[no-any-return]


def test_while_keys_are_agreed_on_nothing_is_taken(line: Line) -> None:
    tls = stubborn(line, ssl.SSLWantReadError())
    assert line.ours.send(b"later") == 0
    tls.exc = None
    assert line.ours.send(b"later") == 5
    assert line.heard() == b"later"


def test_where_tls_can_write_no_more_who_reads_hears_of_it_too(line: Line) -> None:
    stubborn(line, ssl.SSLError(1, "broken"))
    with pytest.raises(ssl.SSLError):
        line.ours.send(b"x")
    with pytest.raises(OSError, match="broken"):
        line.ours.recv(65536)


# --- what TLS says itself -----------------------------------------------------------------------


def test_what_tls_answers_when_it_is_read_goes_before_what_is_sent(line: Line) -> None:
    """As to a change of keys: the peer could not read what comes behind."""
    tls = stubborn(line, ssl.SSLError())
    tls.exc = None
    tls.answer = lambda: line.state.tls.write(b"answer, ")
    line.socket.room = 3
    line.socket.to_come = [line.encrypted(b"new keys, please")]
    assert line.ours.recv(65536) == b"new keys, please"
    tls.answer = None
    assert line.ours.send(b"message") == 0
    line.socket.room = 1000
    assert line.ours.send(b"message") == 7
    assert line.heard() == b"answer, message"


def test_an_answer_that_finds_the_socket_broken_leaves_what_was_read(line: Line) -> None:
    tls = stubborn(line, ssl.SSLError())
    tls.answer = lambda: line.state.tls.write(b"answer")
    line.socket.broken = BrokenPipeError()
    line.socket.to_come = [line.encrypted(b"hello")]
    assert line.ours.recv(65536) == b"hello"


def test_who_makes_tls_answer_and_does_not_read_is_over() -> None:
    line = Line(room=0)
    tls = stubborn(line, ssl.SSLError())
    tls.answer = lambda: line.state.tls.write(bytes(1000))
    for _ in range(MAX_UNSENT // 1000 + 1):
        line.socket.to_come = [line.encrypted(b"x")]
        with contextlib.suppress(OSError):
            line.ours.recv(65536)
    assert len(line.ours._unsent) < MAX_UNSENT + 2000
    with pytest.raises(OSError, match="not read"):
        line.ours.recv(65536)


def test_the_goodbye_of_tls_is_said_once_all_else_is(line: Line) -> None:
    assert line.ours.send(b"the end") == 7
    line.ours.say_goodbye()
    line.peer.incoming.write(line.socket.written)
    assert line.peer.tls.read(100) == b"the end"
    assert line.peer.tls.read(100) == b""  # `SSL_ERROR_ZERO_RETURN`


def test_the_goodbye_is_answered_where_theirs_has_come(line: Line) -> None:
    with pytest.raises(ssl.SSLWantReadError):
        line.peer.tls.unwrap()
    line.socket.to_come = [line.encrypted()]
    assert line.ours.recv(65536) == b""
    line.ours.say_goodbye()
    line.peer.incoming.write(line.socket.written)
    line.peer.tls.unwrap()


def test_there_is_no_goodbye_behind_half_a_record() -> None:
    line = Line(room=10)
    line.ours.send(b"the end")
    line.socket.room = 1000
    line.ours.say_goodbye()
    assert len(line.socket.written) == 10


def test_a_goodbye_that_cannot_be_said_is_left(line: Line) -> None:
    line.socket.broken = BrokenPipeError()
    line.ours.say_goodbye()
    line = Line(room=0)
    line.ours.say_goodbye()
    assert line.socket.written == b""


# --- what it is made of -------------------------------------------------------------------------


async def test_only_of_a_tls_stream_as_it_is_known_there_are_parts() -> None:
    def a_stream(**options: Any) -> trio.SSLStream[Any]:
        tcp = trio.SocketStream(trio.socket.socket())
        return trio.SSLStream(tcp, TRUSTED.server, server_side=True, **options)

    with_goodbye = a_stream(https_compatible=False)
    known, other, without = (a_stream(https_compatible=True) for _ in range(3))
    other._outgoing = object()  # type: ignore[assignment]
    del without._ssl_object
    on_tls = trio.SSLStream(
        a_stream(https_compatible=True), TRUSTED.server, server_side=True, https_compatible=True
    )
    streams = [known, with_goodbye, other, without, on_tls]
    try:
        state = tls_state(known)
        assert state is not None
        assert state.tls.server_side
        known._delayed_outgoing = b"tickets"
        assert [state.held, (tls_state(known) or state).held] == [b"", b"tickets"]
        assert tls_state(known.transport_stream) is None
        assert [tls_state(stream) for stream in streams[1:]] == [None] * 4
        assert tls_state(None) is None
    finally:
        for stream in streams:
            while isinstance(stream, trio.SSLStream):
                stream = stream.transport_stream
            stream.socket.close()


async def test_a_stream_that_is_over_is_freed_without_the_collector() -> None:
    tcp = trio.SocketStream(trio.socket.socket())
    stream = trio.SSLStream(tcp, TRUSTED.server, server_side=True)
    freed = weakref.ref(stream)
    gc.disable()
    try:
        break_cycle(tcp)  # there is none
        break_cycle(stream)
        del stream
        assert freed() is None
    finally:
        gc.enable()
        tcp.socket.close()


async def test_the_streams_of_this_trio_are_made_as_they_are_known() -> None:
    assert is_known()

"""The agent's streams on real sockets, over loopback: TCP, and TLS against trio's own server side.

The real clock, but nothing sleeps: every story waits for bytes, and has a limit.
"""

import contextlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme
from rig_peers import START, STOP, FakeAgent, media
from rig_server import talk, world
from rig_streams import (
    TRUSTED,
    Authority,
    Pair,
    authority,
    connected,
    fill,
    read,
    read_all,
    reset,
    secured,
)

from sts_trio.agents.endpoints import Endpoint
from sts_trio.net.streams import LOST_AFTER, TcpStream, TlsStream, open_tcp
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio


def pattern(length: int) -> bytes:
    """Bytes in which a piece that is lost, doubled or moved is seen."""
    return b"".join(n.to_bytes(4) for n in range(length // 4 + 1))[:length]


# --- connecting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_an_address_is_connected_to_without_looking_it_up(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            pytest.skip(f"this machine has no {address}")
        listener.listen()
        monkeypatch.delattr(trio, "open_tcp_stream")
        async with await open_tcp(address, listener.getsockname()[1]) as stream:
            peer, name = listener.accept()
            with peer:
                assert stream.socket.getsockname() == name


async def test_a_name_may_have_several_addresses_of_which_one_is_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with await open_tcp("localhost", listener.getsockname()[1]) as stream:
            assert stream.socket.getpeername() == listener.getsockname()


async def test_no_socket_is_left_of_an_address_where_nobody_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[trio.socket.SocketType] = []
    make = trio.socket.socket

    def note(family: int) -> trio.socket.SocketType:
        made.append(make(family))
        return made[-1]

    monkeypatch.setattr(trio.socket, "socket", note)
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await open_tcp("127.0.0.1", unheard.getsockname()[1])
    assert [each.fileno() for each in made] == [-1]


# --- plain --------------------------------------------------------------------------------------


async def test_bytes_go_both_ways() -> None:
    async with connected() as pair:
        assert pair.ours.try_send(b"tried, ")
        await pair.ours.send_all(bytearray(b"sent, "))
        await pair.ours.send_all(memoryview(b"done"))
        assert await read(pair.theirs, 17) == b"tried, sent, done"
        await pair.theirs.send_all(b"answer")
        assert await pair.ours.receive_some() == b"answer"


async def test_no_more_is_received_than_asked_for() -> None:
    async with connected() as pair:
        await pair.theirs.send_all(b"answer")
        assert await pair.ours.receive_some(4) == b"answ"
        assert await pair.ours.receive_some(4) == b"er"


async def test_the_end_of_the_peers_bytes_is_no_bytes() -> None:
    async with connected() as pair:
        await pair.theirs.send_all(b"last")
        await pair.theirs.send_eof()
        assert await read_all(pair.ours) == b"last"
        assert await pair.ours.receive_some() == b""


class Thief(trio.abc.Instrument):
    """Reads what a socket has just before the task that waited for it runs."""

    def __init__(self, fileno: int) -> None:
        self._fileno = fileno
        self.stolen = b""

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if not self.stolen:
            with contextlib.suppress(BlockingIOError):
                self.stolen = os.read(self._fileno, 100)


async def test_a_wake_up_for_nothing_is_slept_over() -> None:
    async with connected() as pair, trio.open_nursery() as nursery:
        got: list[bytes] = []

        async def receive() -> None:
            got.append(await pair.ours.receive_some())

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        thief = Thief(pair.ours.fileno())
        trio.lowlevel.add_instrument(thief)
        await pair.theirs.send_all(b"stolen")
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(thief)
        assert thief.stolen == b"stolen"
        assert got == []
        await pair.theirs.send_all(b"kept")
    assert got == [b"kept"]


def option(stream: TcpStream, level: int, name: int) -> int:
    with socket.fromfd(stream.fileno(), socket.AF_INET, socket.SOCK_STREAM) as same:
        return same.getsockopt(level, name)


def kernel_gives_up_after(pair: Pair) -> int:
    return option(pair.ours, socket.IPPROTO_TCP, TCP_USER_TIMEOUT)


TCP_USER_TIMEOUT = 18  # Linux's; elsewhere there is none


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux knows it")
async def test_the_kernel_gives_up_on_a_peer_that_acknowledges_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with connected() as pair:
        assert option(pair.ours, socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert kernel_gives_up_after(pair) == LOST_AFTER * 1000
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT")
    async with connected() as pair:
        assert option(pair.ours, socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert kernel_gives_up_after(pair) == 0


async def clear(stream: TcpStream) -> None:
    """Waits until the peer has read enough."""
    while not stream.is_clear():
        await stream.wait_send_all_might_not_block()


async def test_a_full_socket_takes_whole_pieces_or_nothing() -> None:
    """What is refused leaves no trace; the piece that went in half is finished before all else."""
    async with connected(small=True) as pair, trio.open_nursery() as nursery:
        sent = fill(pair.ours, pattern(50_000))
        assert not pair.ours.is_clear()
        assert not pair.ours.try_send(b"refused")

        async def go_on() -> None:
            for number in range(20):
                await clear(pair.ours)
                assert pair.ours.try_send(bytes([number]) * 30_000)
            await clear(pair.ours)

        nursery.start_soon(go_on)
        expected = sent + b"".join(bytes([number]) * 30_000 for number in range(20))
        assert await read(pair.theirs, len(expected)) == expected


async def test_leftovers_go_before_what_is_sent_next() -> None:
    async with connected(small=True) as pair, trio.open_nursery() as nursery:
        sent = fill(pair.ours, pattern(50_000))
        nursery.start_soon(pair.ours.send_all, b"behind it all")
        assert await read(pair.theirs, len(sent) + 13) == sent + b"behind it all"


async def test_nothing_is_tried_while_something_is_being_sent() -> None:
    async with connected(small=True) as pair, trio.open_nursery() as nursery:
        sent = pattern(2_000_000)
        nursery.start_soon(pair.ours.send_all, sent)
        await trio.testing.wait_all_tasks_blocked()
        assert not pair.ours.is_clear()
        assert not pair.ours.try_send(b"between")
        assert await read(pair.theirs, len(sent)) == sent
        await trio.testing.wait_all_tasks_blocked()
        assert pair.ours.try_send(b"after")
        assert await read(pair.theirs, 5) == b"after"


async def test_leftovers_are_one_piece_at_the_most() -> None:
    async with connected(small=True) as pair:
        fill(pair.ours, bytes(100))
        for _ in range(1000):
            pair.ours.try_send(bytes(100))  # now and then the kernel finds room for one more
            assert len(pair.ours._pending) <= 100


async def test_sending_might_not_block_once_the_peer_has_read() -> None:
    async with connected(small=True) as pair, trio.open_nursery() as nursery:
        fill(pair.ours, bytes(100_000))
        waited = trio.Event()

        async def wait() -> None:
            await pair.ours.wait_send_all_might_not_block()
            waited.set()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not waited.is_set()
        # Beside it: the last piece may be read before the kernel has told of room.
        nursery.start_soon(read, pair.theirs, 10**9)
        await waited.wait()
        nursery.cancel_scope.cancel()


SENDING_INTO_NOTHING = 8_000_000  # more than the kernel takes


async def test_a_peer_that_resets_breaks_who_receives() -> None:
    async with connected() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(_expect, trio.BrokenResourceError, pair.ours.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        await reset(pair.theirs)


async def test_a_peer_that_resets_breaks_who_sends_and_what_comes_after() -> None:
    async with connected() as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                _expect, trio.BrokenResourceError, _send, pair.ours, SENDING_INTO_NOTHING
            )
            await trio.testing.wait_all_tasks_blocked()
            await reset(pair.theirs)
        assert not pair.ours.try_send(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await pair.ours.send_all(b"x")


async def _send(stream: TcpStream | TlsStream, length: int) -> None:
    await stream.send_all(bytes(length))


async def _expect(
    kind: type[Exception], act: Callable[..., Awaitable[object]], *args: object
) -> None:
    with pytest.raises(kind):
        await act(*args)


async def test_a_peer_that_is_reset_with_leftovers_is_found_out_by_the_next_send() -> None:
    async with connected(small=True) as pair:
        fill(pair.ours, pattern(100_000))
        await reset(pair.theirs)
        await pair.ours.wait_send_all_might_not_block()
        assert not pair.ours.is_clear()
        assert not pair.ours.try_send(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await pair.ours.send_all(b"x")


async def test_closing_wakes_whoever_waits() -> None:
    async with connected() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(_expect, trio.ClosedResourceError, pair.ours.receive_some)
        nursery.start_soon(
            _expect, trio.ClosedResourceError, _send, pair.ours, SENDING_INTO_NOTHING
        )
        await trio.testing.wait_all_tasks_blocked()
        await pair.ours.aclose()


async def test_a_stream_that_was_closed_before_it_is_taken_over_tells_so_when_it_is_read() -> None:
    async with connected() as pair:
        await trio.aclose_forcefully(pair.theirs)
        taken = TcpStream(pair.theirs)
        with pytest.raises(trio.BrokenResourceError):
            taken.read()
        await taken.aclose()


async def test_a_closed_stream_says_so_and_may_be_closed_again() -> None:
    async with connected() as pair:
        await pair.ours.aclose()
        await pair.ours.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await pair.ours.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await pair.ours.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await pair.ours.wait_send_all_might_not_block()
        assert not pair.ours.try_send(b"x")


async def test_a_stream_is_closed_even_if_closing_is_cancelled() -> None:
    async with connected() as pair:
        with trio.CancelScope() as scope:
            scope.cancel()
            await pair.ours.aclose()
        with pytest.raises(trio.ClosedResourceError):
            pair.ours.fileno()
        assert await pair.theirs.receive_some() == b""


async def test_what_is_cancelled_before_it_began_leaves_the_stream_whole() -> None:
    async with connected() as pair:
        with trio.CancelScope() as scope:
            scope.cancel()
            await pair.ours.send_all(b"never")
        with trio.CancelScope() as scope:
            scope.cancel()
            await pair.ours.receive_some()
        assert pair.ours.try_send(b"then")
        assert await read(pair.theirs, 4) == b"then"
        await pair.theirs.send_all(b"and")
        assert await pair.ours.receive_some() == b"and"


# --- TLS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_bytes_go_both_ways_in_tls(version: ssl.TLSVersion) -> None:
    trust = authority()
    trust.server.minimum_version = trust.server.maximum_version = version
    async with secured(trust=trust) as pair:
        assert pair.ours.try_send(b"tried, ")
        await pair.ours.send_all(b"sent")
        assert await read(pair.theirs, 11) == b"tried, sent"
        await pair.theirs.send_all(b"answer")
        assert await pair.ours.receive_some() == b"answer"
        await pair.theirs.send_all(b"again")
        assert await pair.ours.receive_some(2) == b"ag"
        assert await pair.ours.receive_some(9) == b"ain"


async def test_much_goes_both_ways_at_once_in_tls() -> None:
    much = pattern(3_000_000)
    async with secured() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.ours.send_all, much)
        nursery.start_soon(pair.theirs.send_all, much)
        got: dict[str, bytes] = {}

        async def receive(name: str, stream: trio.abc.ReceiveStream) -> None:
            got[name] = await read(stream, len(much))

        nursery.start_soon(receive, "ours", pair.ours)
        nursery.start_soon(receive, "theirs", pair.theirs)
    assert got == {"ours": much, "theirs": much}


@pytest.mark.parametrize("steps", range(6))
async def test_a_send_that_is_cancelled_anywhere_leaves_the_tls_stream_whole(steps: int) -> None:
    async with secured() as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.ours.send_all, b"first")
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert pair.ours.try_send(b", second")
        got = b""
        while not got.endswith(b", second"):
            got += await pair.theirs.receive_some()
        assert got in (b", second", b"first, second")


async def test_sending_nothing_in_tls_sends_nothing() -> None:
    async with secured() as pair:
        await pair.ours.send_all(b"")
        await pair.ours.send_all(b"something")
        assert await pair.theirs.receive_some() == b"something"


async def test_tries_and_sends_keep_their_order_in_tls() -> None:
    async def send(piece: bytes, is_sent: trio.Event) -> None:
        await pair.ours.send_all(piece)
        is_sent.set()

    async with secured(small=True) as pair, trio.open_nursery() as nursery:
        sent = b""
        got = b""
        for number in range(300):
            piece = bytes([number % 251]) * (1000 + number)
            if not pair.ours.try_send(piece):
                is_sent = trio.Event()
                nursery.start_soon(send, piece, is_sent)
                await trio.testing.wait_all_tasks_blocked()
                # The kernel may have found room for it by now.
                assert is_sent.is_set() or not pair.ours.try_send(b"between")
            sent += piece
            if number % 3 == 0:
                got += await pair.theirs.receive_some(65536)
        got += await read(pair.theirs, len(sent) - len(got))
        assert got == sent


async def test_a_reader_in_tls_is_not_kept_by_a_sender_that_waits() -> None:
    """Else two peers that both write before they read would wait for each other for ever."""
    async with secured(small=True) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(_send, pair.ours, 2_000_000)
        nursery.start_soon(_send, pair.ours, 1_000_000)
        await trio.testing.wait_all_tasks_blocked()
        await pair.theirs.send_all(b"read this first")
        assert await read(pair.ours, 15) == b"read this first"
        assert await read(pair.theirs, 3_000_000) == bytes(3_000_000)


def asking() -> Authority:
    """A server that may ask for a certificate once the handshake is over, and who has one."""
    ca = trustme.CA()
    trust = authority()
    trust.client.post_handshake_auth = trust.server.post_handshake_auth = True
    ca.issue_cert("caller.example").configure_cert(trust.client)
    ca.configure_trust(trust.server)
    trust.server.verify_mode = ssl.CERT_REQUIRED
    return trust


async def test_what_reading_has_to_answer_is_answered() -> None:
    """As to a change of keys (RFC 8446, section 4.6.3). Python cannot ask for one, so a certificate
    is asked for, after the handshake: its answer takes the same way.
    """
    async with secured(trust=asking()) as pair, trio.open_nursery() as nursery:
        await pair.theirs.send_all(b"hello")
        assert await pair.ours.receive_some() == b"hello"
        assert not pair.theirs.getpeercert()
        pair.theirs._ssl_object.verify_client_post_handshake()
        await pair.theirs.send_all(b"who are you")
        assert await pair.ours.receive_some() == b"who are you"
        nursery.start_soon(pair.ours.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        assert pair.ours.try_send(b"see there")
        assert await pair.theirs.receive_some() == b"see there"
        assert pair.theirs.getpeercert()
        nursery.cancel_scope.cancel()


async def test_what_reading_has_to_answer_goes_along_with_what_is_just_being_sent() -> None:
    async with secured(small=True, trust=asking()) as pair, trio.open_nursery() as nursery:
        await pair.theirs.send_all(b"hello")
        assert await pair.ours.receive_some() == b"hello"
        nursery.start_soon(_send, pair.ours, 2_000_000)
        await trio.testing.wait_all_tasks_blocked()
        pair.theirs._ssl_object.verify_client_post_handshake()
        await pair.theirs.send_all(b"who are you")
        assert await pair.ours.receive_some() == b"who are you"
        nursery.start_soon(pair.ours.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        await read(pair.theirs, 2_000_000)
        assert not pair.theirs.getpeercert()
        nursery.start_soon(pair.theirs.receive_some)
        while not pair.theirs.getpeercert():
            await trio.testing.wait_all_tasks_blocked(0.001)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("ragged", [False, True])
async def test_the_end_in_tls_is_no_bytes_with_and_without_a_goodbye(ragged: bool) -> None:
    async with secured(ragged=ragged) as pair:
        await pair.theirs.send_all(b"last")
        async with trio.open_nursery() as nursery:
            if ragged:
                nursery.start_soon(pair.tcp.theirs.aclose)
            else:
                # A server of trio's waits for our goodbye, and there is none.
                nursery.start_soon(_close_politely, pair.theirs)
            assert await read_all(pair.ours) == b"last"
            assert await pair.ours.receive_some() == b""
            nursery.cancel_scope.cancel()


async def _close_politely(stream: trio.SSLStream[trio.SocketStream]) -> None:
    await stream.aclose()


async def test_a_reset_breaks_tls_as_well() -> None:
    async with secured() as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect, trio.BrokenResourceError, pair.ours.receive_some)
            await trio.testing.wait_all_tasks_blocked()
            await reset(pair.tcp.theirs)
        assert not pair.ours.try_send(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await pair.ours.send_all(b"x")


async def test_closing_tls_wakes_whoever_waits() -> None:
    async with secured() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(_expect, trio.ClosedResourceError, pair.ours.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        await pair.ours.aclose()
        with pytest.raises(trio.ClosedResourceError):
            pair.tcp.ours.fileno()


async def test_bytes_that_are_not_tls_break_the_stream() -> None:
    async with secured() as pair:
        await pair.tcp.theirs.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20)
        with pytest.raises(trio.BrokenResourceError):
            await pair.ours.receive_some()
        assert not pair.ours.try_send(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await pair.ours.send_all(b"x")


async def test_a_record_that_was_tampered_with_breaks_the_stream() -> None:
    async with secured() as pair:
        await pair.tcp.theirs.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(trio.BrokenResourceError, match=r"(?i)mac|decrypt"):
            await pair.ours.receive_some()


async def handshake(trust: ssl.SSLContext, answer: Callable[[Pair], Awaitable[object]]) -> str:
    """Why there is no TLS with this peer."""
    async with connected() as tcp, trio.open_nursery() as nursery:
        nursery.start_soon(answer, tcp)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await TlsStream(tcp.ours, trust, "localhost").do_handshake()
        nursery.cancel_scope.cancel()
    return str(caught.value)


def serve_tls(context: ssl.SSLContext) -> Callable[[Pair], Awaitable[None]]:
    async def answer(tcp: Pair) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await _greet(trio.SSLStream(tcp.theirs, context, server_side=True))

    return answer


async def _greet(server: trio.SSLStream[trio.SocketStream]) -> None:
    """The server's side of a handshake, and of what a client says of it afterwards."""
    await server.do_handshake()
    await server.receive_some()


async def test_an_untrusted_certificate_is_said_to_be_one() -> None:
    stranger = ssl.create_default_context()
    assert "certificate verify failed" in await handshake(stranger, serve_tls(TRUSTED.server))


async def test_a_certificate_for_another_host_is_said_to_be_one() -> None:
    other = authority("agent.example")
    said = await handshake(other.client, serve_tls(other.server))
    assert "Hostname mismatch" in said
    assert "localhost" in said


async def test_a_peer_that_speaks_no_tls_is_no_crash() -> None:
    async def answer(tcp: Pair) -> None:
        await tcp.theirs.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    assert await handshake(TRUSTED.client, answer)


async def test_a_peer_that_closes_in_the_handshake_is_no_crash() -> None:
    async def answer(tcp: Pair) -> None:
        await tcp.theirs.receive_some(1)
        await tcp.theirs.aclose()

    assert await handshake(TRUSTED.client, answer)


async def test_a_handshake_that_fails_tells_the_peer_why() -> None:
    stranger = ssl.create_default_context()
    told: list[str] = []

    async def answer(tcp: Pair) -> None:
        server = trio.SSLStream(tcp.theirs, TRUSTED.server, server_side=True)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await _greet(server)
        told.append(str(caught.value.__cause__))

    async with connected() as tcp, trio.open_nursery() as nursery:
        nursery.start_soon(answer, tcp)
        with pytest.raises(trio.BrokenResourceError):
            await TlsStream(tcp.ours, stranger, "localhost").do_handshake()
    assert "unknown ca" in told[0].lower()


async def test_nothing_stays_in_the_buffers_of_tls() -> None:
    async with secured() as pair:
        for _ in range(50):
            assert pair.ours.try_send(bytes(1000))
            assert await read(pair.theirs, 1000)
            await pair.theirs.send_all(bytes(3000))
            assert await read(pair.ours, 3000)
            await pair.ours.send_all(bytes(20_000))
            assert await read(pair.theirs, 20_000)
            assert pair.ours._incoming.pending == pair.ours._outgoing.pending == 0


async def test_a_full_socket_keeps_one_piece_and_no_more_in_tls() -> None:
    async with secured(small=True) as pair:
        sent = fill(pair.ours, bytes(1000))
        for _ in range(1000):
            if pair.ours.try_send(bytes(1000)):  # see above
                sent += bytes(1000)
            assert pair.ours._outgoing.pending == 0
            assert len(pair.tcp.ours._pending) < 1100
        assert await read(pair.theirs, len(sent) - 1000)


async def test_one_context_serves_many_streams() -> None:
    async with secured() as one, secured() as other:
        for number, pair in enumerate([one, other]):
            assert pair.ours.try_send(bytes([number]))
            assert await read(pair.theirs, 1) == bytes([number])


async def test_sending_in_tls_might_not_block_when_the_socket_does_not() -> None:
    async with secured() as pair:
        await pair.ours.wait_send_all_might_not_block()


# --- a whole call -------------------------------------------------------------------------------


def over_tls(agent: FakeAgent) -> Callable[[trio.SocketStream], Awaitable[None]]:
    async def serve(tcp: trio.SocketStream) -> None:
        await agent.serve(trio.SSLStream(tcp, TRUSTED.server, server_side=True))

    return serve


@pytest.mark.parametrize("lane", ["0", "1"])
async def test_a_call_whose_agent_is_behind_tls(
    tmp_path: Path, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = FakeAgent()
    minute = pattern(60 * 8000)
    monkeypatch.setattr("sts_trio.legs.handshake.trusted", lambda: TRUSTED.client)
    async with world(tmp_path, agent, serve_agent=over_tls(agent), STS_FAST_LANE=lane) as here:
        [endpoint] = here.app.server.agent_connections.endpoints
        url = endpoint.url.replace("ws://127.0.0.1", "wss://localhost")
        here.app.server.agent_connections.endpoints = [Endpoint(url)]
        async with here.phone() as phone:
            await talk(here, phone)
            for at in range(0, len(minute), 4096):
                await agent.say(deepgram.Audio(minute[at : at + 4096]))
            await phone.play_until(lambda audio: audio.endswith(minute[-100:]))
            assert phone.audio == b"\x11" * 1600 + minute
            said = [bytes([n]) * 160 for n in range(50)]
            await phone.tell(*map(media, said), STOP)
            assert await phone.play_until_closed() == 1000
            await here.until_over()
        assert agent.speech == b"\x21" * 160 + b"".join(said)
        assert agent.closed is not None
        assert agent.closed[1] == 1000
        assert here.endings == ["stop"]


async def test_a_call_whose_agent_cannot_be_trusted_says_so(tmp_path: Path) -> None:
    agent = FakeAgent()

    async def serve(tcp: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, BaseExceptionGroup):
            await over_tls(agent)(tcp)

    async with world(tmp_path, agent, serve_agent=serve) as here:
        [endpoint] = here.app.server.agent_connections.endpoints
        url = endpoint.url.replace("ws://127.0.0.1", "wss://localhost")
        here.app.server.agent_connections.endpoints = [Endpoint(url)]
        async with here.phone() as phone:
            await phone.tell(twilio.Connected(), START)
            assert await phone.play_until_closed() == 1011
            await here.until_over()
        [ended] = [line for line in here.logs if line["event"] == events.CallEnded.NAME]
        assert ended["ending"] == "agent_unreachable"
        assert "localhost" in ended["detail"]
        assert "certificate verify failed" in ended["detail"]


# --- reading without waiting --------------------------------------------------------------------


async def read_within(stream: TcpStream | TlsStream) -> bytes:
    while (data := stream.read()) is None:  # noqa: ASYNC110
        await trio.sleep(0.001)
    return data


async def test_reading_without_waiting_tells_nothing_yet_from_the_end() -> None:
    async with connected() as pair:
        assert pair.ours.read() is None
        await pair.theirs.send_all(b"words")
        assert await read_within(pair.ours) == b"words"
        assert pair.ours.read() is None
        await pair.theirs.send_eof()
        assert await read_within(pair.ours) == b""


@pytest.mark.parametrize("ragged", [True, False])
async def test_reading_tls_without_waiting_tells_nothing_yet_from_the_end(ragged: bool) -> None:
    async with secured(ragged=ragged) as pair, trio.open_nursery() as nursery:
        assert await read_within_tls(pair.ours, 0) == b""
        async with trio.open_nursery() as sending:
            sending.start_soon(pair.theirs.send_all, pattern(50_000))
            assert await read_within_tls(pair.ours, 50_000) == pattern(50_000)
        assert not pair.ours.is_at_end
        await pair.theirs.send_all(b"last")
        if ragged:
            await pair.tcp.theirs.aclose()
        else:
            # A server of trio's waits for our goodbye, and there is none.
            nursery.start_soon(_close_politely, pair.theirs)
        assert await read_within_tls(pair.ours, 4) == b"last"
        if not pair.ours.is_at_end:
            assert await read_within(pair.ours) == b""
        assert pair.ours.is_at_end
        nursery.cancel_scope.cancel()


async def read_within_tls(stream: TlsStream, length: int) -> bytes:
    data = stream.read() or b""  # the peer's tickets, it may be
    while len(data) < length:
        data += await read_within(stream)
    return data


async def test_reading_bytes_that_are_not_tls_without_waiting_breaks_the_stream() -> None:
    async with secured() as pair:
        await pair.tcp.theirs.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20)
        with pytest.raises(trio.BrokenResourceError):
            await read_within(pair.ours)

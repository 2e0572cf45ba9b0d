"""Streams under the agent's websocket that can send without waiting: plain TCP, and TLS on it.

Trio's own streams only know `await`: a send is a task switch even if the socket would have taken
it at once. These try first. They also wait first where Trio's try: between two messages of an
agent there is nothing to be read, and trying costs as much as reading.
"""

import ipaddress
import socket
import ssl

import trio

from sts_trio.net.cork import Cork

# A peer that vanished acknowledges nothing: after this long the kernel gives the connection up.
LOST_AFTER = 20.0
RECEIVE = 65536
RECORD = 16384  # of TLS, at the most


async def open_tcp(host: str, port: int) -> trio.SocketStream:
    """A connection to a host, or to an address, which needs no race between several.

    Raises `OSError`.
    """
    try:
        is_ipv6 = ipaddress.ip_address(host).version == 6
    except ValueError:
        return await trio.open_tcp_stream(host, port)
    sock = trio.socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET)
    try:
        await sock.connect((host, port))
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


def taken_out_of(stream: trio.SocketStream) -> socket.socket:
    """The socket itself, without Trio's wrapper: the stream is closed, for who waits for it too.

    Of a stream that was closed before, a socket that is not connected: reading it tells.
    """
    theirs = stream.socket
    kind = theirs.family, theirs.type, theirs.proto
    if theirs.fileno() == -1:
        ours = socket.socket(*kind)
    else:
        trio.lowlevel.notify_closing(theirs)
        ours = socket.socket(*kind, fileno=theirs.detach())
    ours.setblocking(False)
    return ours


class TcpStream(trio.abc.Stream):
    """Takes a connected socket over. While `cork` is in, `try_send` waits for it to be drawn."""

    __slots__ = ("_cork", "_is_held", "_is_sending", "_pending", "_socket")

    is_at_end = False  # whether `read` has seen the end behind what it gave: never, see there

    def __init__(self, tcp: trio.SocketStream, cork: Cork | None = None) -> None:
        self._socket = taken_out_of(tcp)
        self._cork = cork or Cork()
        self._is_held = False  # all that is pending, by the cork
        self._pending = b""
        self._is_sending = False
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            timeout = round(LOST_AFTER * 1000)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout)

    def is_clear(self) -> bool:
        """Whether nothing is waiting to be sent; what is, is tried once more."""
        if self._is_held:
            return True
        if self._pending and not self._is_sending:
            try:
                self._pending = self._write(self._pending)
            except OSError:
                return False  # the task that waits for the socket hears of it
        return not self._is_sending and not self._pending

    def try_send(self, data: bytes) -> bool:
        """Sends all of `data` or nothing, and tells which.

        What the socket does not take at once is kept, and goes before anything else.
        """
        if (self._pending or self._is_sending) and not self.is_clear():
            return False
        if self._cork.is_in:
            if not self._is_held:
                self._is_held = True
                self._cork.hold(self._release)
            self._pending += data
            return True
        try:
            self._pending = self._write(data)
        except OSError:
            return False
        return True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """If cancelled, what is left is still pending: nobody sees half a message. What the socket
        takes at once gives nobody else a turn."""
        await trio.lowlevel.checkpoint_if_cancelled()
        await self.send_taken(bytes(data))

    async def send_taken(self, data: bytes) -> None:
        """`send_all` of what cannot be given back: it is pending before any cancellation."""
        self._is_sending = True
        self._pending += data
        try:
            while rest := self._write(self._pending):
                self._pending = rest
                await trio.lowlevel.wait_writable(self._socket)
            self._pending = b""
        except OSError as exc:
            raise self._error(exc) from exc
        finally:
            self._is_sending = False

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.wait_writable(self.fileno())

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self.fileno())
            data = self.read(max_bytes or RECEIVE)
            if data is not None:
                return data

    def read(self, max_bytes: int = RECEIVE) -> bytes | None:
        """What has come, `b""` at the end of it; `None`: nothing yet.

        Raises as `receive_some`.
        """
        try:
            return self._socket.recv(max_bytes)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise self._error(exc) from exc

    def close(self) -> None:
        """`aclose` without the checkpoint."""
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def fileno(self) -> int:
        """Raises `trio.ClosedResourceError`."""
        fileno = self._socket.fileno()
        if fileno == -1:
            raise trio.ClosedResourceError("this stream is closed")
        return fileno

    def _release(self) -> None:
        self._is_held = False
        self.is_clear()

    def _write(self, data: bytes) -> bytes:
        """Writes what the socket takes now; returns the rest."""
        try:
            count = self._socket.send(data)
        except BlockingIOError:
            return data
        return data[count:]

    def _error(self, exc: OSError) -> Exception:
        if self._socket.fileno() == -1:
            return trio.ClosedResourceError("this stream is closed")
        return trio.BrokenResourceError(exc.strerror or "connection lost")


class TlsStream(trio.abc.Stream):
    """TLS, as a client, on a `TcpStream`. Owns it.

    There is no closing of TLS itself: a websocket has said goodbye before.
    """

    __slots__ = ("_incoming", "_outgoing", "_sending", "_tcp", "_tls", "is_at_end")

    def __init__(self, tcp: TcpStream, context: ssl.SSLContext, host: str) -> None:
        self._tcp = tcp
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._sending = trio.Lock()
        self.is_at_end = False

    async def do_handshake(self) -> None:
        """Raises `trio.BrokenResourceError` when there is no trusted TLS to be had."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except ssl.SSLError as exc:
                await self._flush()
                raise trio.BrokenResourceError(str(exc)) from exc
            else:
                await self._flush()
                return

    def try_send(self, data: bytes) -> bool:
        """As `TcpStream.try_send`."""
        if self._sending.locked() or not self._tcp.is_clear():
            return False
        try:
            self._tls.write(data)
        except ssl.SSLError:
            return False  # the task that reads hears of it
        return self._tcp.try_send(self._outgoing.read())

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if data:
            try:
                self._tls.write(data)
            except ssl.SSLError as exc:
                raise trio.BrokenResourceError(str(exc)) from exc
        await self._flush()

    async def wait_send_all_might_not_block(self) -> None:
        await self._tcp.wait_send_all_might_not_block()

    def read(self, max_bytes: int = RECEIVE) -> bytes | None:
        """As `TcpStream.read`; all that has come is read, so that nothing waits unseen in here."""
        data = self._tcp.read(max_bytes)
        if data:
            self._incoming.write(data)
        elif data is not None:
            self._incoming.write_eof()
        pieces = []
        try:
            while piece := self._tls.read(RECORD):
                pieces.append(piece)
                # Asking for what is not there would be answered by an exception.
                if data and not self._incoming.pending and not self._tls.pending():
                    return b"".join(pieces)
        except ssl.SSLWantReadError:
            # An answer that reading made, to a change of keys, goes before the next that is sent.
            return b"".join(pieces) or None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            pass
        except ssl.SSLError as exc:
            raise trio.BrokenResourceError(str(exc)) from exc
        # The socket itself may tell of no end: the peer may wait for a goodbye of ours.
        self.is_at_end = True
        return b"".join(pieces)

    def fileno(self) -> int:
        return self._tcp.fileno()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            try:
                return self._tls.read(max_bytes or RECEIVE)
            except ssl.SSLWantReadError:
                # Reading may have made an answer, to a change of keys. Where a sender is at work,
                # it takes that along: waiting for it could mean that neither side reads.
                if self._outgoing.pending and not self._sending.locked():
                    await self._flush()
                if not await self._feed():
                    return b""
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as exc:
                raise trio.BrokenResourceError(str(exc)) from exc

    def close(self) -> None:
        """As `TcpStream.close`."""
        self._tcp.close()

    async def aclose(self) -> None:
        await self._tcp.aclose()

    async def _feed(self) -> bool:
        """Takes in what comes next; `False` when there is no more."""
        data = await self._tcp.receive_some()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return bool(data)

    async def _flush(self) -> None:
        async with self._sending:
            while self._outgoing.pending:
                # A record that was lost here would break all that come after it.
                await self._tcp.send_taken(self._outgoing.read())

"""Pairs of sockets, plain and with TLS, and what goes over them."""

import contextlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import trio
import trio.testing
import trustme
from limits import HANG

from sts_trio.net.cork import Cork
from sts_trio.net.poller import Poller
from sts_trio.net.streams import TcpStream, TlsStream


class Reader:
    """One end of a pair, read by a poller; the test has the other."""

    def __init__(self, poller: Poller, *, most: int = 65536) -> None:
        self.peer, self._socket = socket.socketpair()
        self._socket.setblocking(False)
        self.fileno = self._socket.fileno()
        self._poller = poller
        self._most = most
        self.reads: list[bytes] = []
        poller.register(self.fileno, self.read)

    def read(self) -> None:
        self.reads.append(os.read(self.fileno, self._most))

    def close(self) -> None:
        self._poller.unregister(self.fileno)
        self.peer.close()
        self._socket.close()


class Pair(NamedTuple):
    ours: TcpStream
    theirs: trio.SocketStream


@contextlib.asynccontextmanager
async def connected(*, small: bool = False, cork: Cork | None = None) -> AsyncIterator[Pair]:
    """Both ends of a TCP connection; `small`: it holds a few kilobytes on its way."""
    with trio.fail_after(HANG):
        with trio.socket.socket() as listener:
            if small:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await listener.bind(("127.0.0.1", 0))
            listener.listen()
            client = trio.socket.socket()
            if small:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            await client.connect(listener.getsockname())
            server, _ = await listener.accept()
        ours, theirs = TcpStream(trio.SocketStream(client), cork), trio.SocketStream(server)
        try:
            yield Pair(ours, theirs)
        finally:
            await trio.aclose_forcefully(ours)
            await trio.aclose_forcefully(theirs)


async def read(stream: trio.abc.ReceiveStream, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = await stream.receive_some(65536)
        assert part, f"the end after {len(data)} of {length} bytes"
        data += part
    return data


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    while part := await stream.receive_some(65536):
        data += part
    return data


def fill(ours: TcpStream | TlsStream, piece: bytes) -> bytes:
    """Sends without waiting until no more is taken; returns what was.

    A little later the kernel may find room for some more, so a piece that is to stay refused is
    much longer than that.
    """
    taken = b""
    while ours.try_send(piece):
        taken += piece
    return taken


async def reset(stream: trio.SocketStream) -> None:
    """Closes with an RST."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream)


class Authority(NamedTuple):
    server: ssl.SSLContext
    client: ssl.SSLContext


def authority(host: str = "localhost") -> Authority:
    ca = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(host).configure_cert(server)
    client = ssl.create_default_context()
    ca.configure_trust(client)
    return Authority(server, client)


TRUSTED = authority()


def certified(directory: Path) -> tuple[tuple[str, str], ssl.SSLContext]:
    """A certificate and its key, in files, and what trusts it."""
    ca = trustme.CA()
    certificate = ca.issue_cert("localhost")
    files = (str(directory / "cert.pem"), str(directory / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(files[0])
    certificate.private_key_pem.write_to_path(files[1])
    client = ssl.create_default_context()
    ca.configure_trust(client)
    return files, client


class TlsPair(NamedTuple):
    ours: TlsStream
    theirs: trio.SSLStream[trio.SocketStream]
    tcp: Pair


@contextlib.asynccontextmanager
async def secured(
    *, small: bool = False, trust: Authority = TRUSTED, ragged: bool = True
) -> AsyncIterator[TlsPair]:
    """Both ends of TLS on TCP. `ragged`: the peer closes without a close_notify."""
    async with connected(small=small) as tcp:
        ours = TlsStream(tcp.ours, trust.client, "localhost")
        theirs = trio.SSLStream(tcp.theirs, trust.server, server_side=True, https_compatible=ragged)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.do_handshake)
            await theirs.do_handshake()
        yield TlsPair(ours, theirs, tcp)

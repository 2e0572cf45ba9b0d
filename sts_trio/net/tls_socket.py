"""TLS as a server that can be spoken without waiting: a plain socket's `recv` and `send`.

Trio's TLS stream knows only `await`. Once hands are shaken, what it is made of is taken out of it:
an SSL object between two buffers. The stream is not to be used any more.
"""

import contextlib
import errno
import socket
import ssl
from typing import Any, NamedTuple

import trio

RECORD = 16384  # of TLS, at the most (RFC 8446, section 5.1)
# What TLS itself has to answer, to changes of keys. Who lets more pile up does not read it.
MAX_UNSENT = 65536


class TlsState(NamedTuple):
    """The parts of a TLS stream of Trio's: keys, and what came, or is to go, and is encrypted."""

    tls: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    # What goes before anything else: Trio holds TLS 1.3's tickets back until something is said.
    held: bytes = b""


def tls_state(stream: Any) -> TlsState | None:
    """None where this is not a TLS stream on a socket, its parts are not where they are known to
    be, or closing it would say something more."""
    if type(stream) is not trio.SSLStream or type(stream.transport_stream) is not trio.SocketStream:
        return None
    names = ("_ssl_object", "_incoming", "_outgoing")
    parts = [getattr(stream, name, None) for name in names]
    if tuple(map(type, parts)) != (ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO):
        return None
    held = getattr(stream, "_delayed_outgoing", False)
    if getattr(stream, "_https_compatible", None) is not True or held is False:
        return None
    return TlsState(*parts)._replace(held=held or b"")  # type: ignore[arg-type]


def is_known() -> bool:
    """Whether Trio's TLS streams are made as `tls_state` knows them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with trio.socket.socket() as sock:
        stream = trio.SSLStream(
            trio.SocketStream(sock), context, server_side=True, https_compatible=True
        )
        return tls_state(stream) is not None


def break_cycle(stream: Any) -> None:
    """Of a TLS stream that is over. It has its handshake, a method of its own: only the garbage
    collector would free it and, with it, TLS's buffers. Where that has changed, nothing breaks."""
    once: Any = getattr(stream, "_handshook", None)
    if hasattr(once, "_afn"):
        once._afn = None


class TlsSocket:
    """Reads and writes a non-blocking socket, which is somebody else's to close.

    Both raise as those of a socket, `ssl.SSLError` being an `OSError`.
    """

    __slots__ = (
        "_encrypted",
        "_fault",
        "_has_more",
        "_incoming",
        "_is_over",
        "_outgoing",
        "_socket",
        "_tls",
        "_unsent",
    )

    def __init__(self, sock: socket.socket, state: TlsState) -> None:
        self._socket = sock
        self._tls, self._incoming, self._outgoing, self._unsent = state
        self._has_more = True  # what came before this may be in there
        # What is unsent is encrypted.
        self._encrypted = 0  # so many bytes of what is sent next are in there already
        self._is_over = False  # nothing more is to be read
        self._fault = ""  # and why, if not for its proper end

    def recv(self, size: int, /) -> bytes:
        """All of what `size` bytes of the socket's make, and what was left of those before: nothing
        waits in here unseen. `b""` is the end, with TLS's own goodbye or without: a websocket has
        one itself."""
        if self._is_over:
            return self._end()
        try:
            data = self._socket.recv(size)
        except BlockingIOError:
            if not self._has_more:
                raise
        else:
            if data:
                self._incoming.write(data)
            else:  # TLS is not told: behind such an end it would write nothing more
                self._is_over = True
        self._has_more = False
        pieces = self._decrypt()
        if self._outgoing.pending:
            self._answer()
        if pieces:
            return b"".join(pieces)
        if self._is_over:
            return self._end()
        raise BlockingIOError(errno.EAGAIN, "half a record")

    def send(self, data: bytes, /) -> int:
        """How many bytes of it were taken. The rest has to be sent next: it may be encrypted."""
        taken = 0
        while True:
            if self._unsent:
                sent = self._flush()
                if self._unsent:
                    # Less than all of the record, so that the rest of it is asked for.
                    done = max(0, min(sent, self._encrypted - 1))
                    self._encrypted -= done
                    return taken + done
            taken += self._encrypted
            self._encrypted = 0
            if taken == len(data):
                return taken
            try:
                self._encrypted = self._tls.write(data[taken : taken + RECORD])
            except ssl.SSLWantReadError:  # the keys are being agreed on anew
                return taken
            except ssl.SSLError as exc:
                self._fail(exc)
                raise
            self._unsent += self._outgoing.read()

    def say_goodbye(self) -> None:
        """TLS's own (RFC 8446, section 6.1), if the socket takes it at once."""
        with contextlib.suppress(OSError):  # the peer may be gone, or its TLS broken
            if not self._unsent:
                with contextlib.suppress(ssl.SSLWantReadError):  # theirs is not waited for
                    self._tls.unwrap()
                self._unsent = self._outgoing.read()
                self._flush()

    def _decrypt(self) -> list[bytes]:
        pieces = []
        try:
            while piece := self._tls.read(RECORD):
                pieces.append(piece)
                # Asking for what is not there would be answered by an exception.
                if not self._incoming.pending and not self._tls.pending():
                    return pieces
            self._is_over = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._is_over = True
        except ssl.SSLError as exc:
            self._fail(exc)
        return pieces

    def _end(self) -> bytes:
        if self._fault:
            raise OSError(errno.EPROTO, self._fault)
        return b""

    def _fail(self, exc: ssl.SSLError) -> None:
        """Who reads hears of it. The exception is not kept: it has this frame."""
        self._is_over = True
        self._fault = getattr(exc, "reason", None) or str(exc)

    def _answer(self) -> None:
        """Says what reading has made TLS say: before anything that is sent next."""
        self._unsent += self._outgoing.read()
        if len(self._unsent) > MAX_UNSENT:
            self._is_over, self._fault = True, "answers of TLS are not read"
        with contextlib.suppress(OSError):  # reading tells as well
            self._flush()

    def _flush(self) -> int:
        """Writes what the socket takes now; returns how much that was."""
        try:
            count = self._socket.send(self._unsent)
        except BlockingIOError:
            return 0
        self._unsent = self._unsent[count:]
        return count

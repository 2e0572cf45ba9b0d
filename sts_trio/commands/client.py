"""Asking a server that may be none of ours, or a hostile one: bounded in bytes and in time.

http.client bounds lines and the number of headers, and follows no redirect. What it leaves open is
how long a body, or a line in it, may be, and how long all may take: its time limit is that of one
`recv`, which a server that sends a byte now and then never reaches.
"""

import http.client
import io
import socket
from collections.abc import Iterator
from math import inf
from time import monotonic
from typing import Any

# An answer of ours has some hundred bytes, a proxy's page of an error some thousands.
MAX_BODY = 65536
# A line of an event stream. Ours has a sentence of 2,000 letters at the most, and numbers.
MAX_LINE = 262_144


class TooMuch(http.client.HTTPException):
    """More came than is read."""


class Asked:
    """A request that was sent, and its answer. Use it in a `with`, which closes the connection.

    All may raise `OSError`, a `TimeoutError` among them, and `http.client.HTTPException`.
    """

    def __init__(
        self, connection: http.client.HTTPConnection, timeout: float, *request: Any
    ) -> None:
        """`connection` is connected; `timeout` is for the answer's head, as long as it is."""
        self._socket = _Timed(connection.sock)
        self._socket.by = monotonic() + timeout
        connection.sock = self._socket
        self._connection = connection
        connection.request(*request)
        self._response = connection.getresponse()

    def __enter__(self) -> "Asked":
        return self

    def __exit__(self, *exc_info: object) -> None:
        # Where the connection ends with the answer, http.client has let go of it already.
        self._response.close()
        self._connection.close()

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def content_type(self) -> str:
        """Without its parameters; "" where it is not told."""
        return (self._response.getheader("Content-Type") or "").partition(";")[0].strip().lower()

    def text(self) -> str:
        """All of the body, in the time that was set for the head.

        Raises:
            TooMuch: it is longer than any that is meant for us.
        """
        body = self._response.read(MAX_BODY + 1)
        if len(body) > MAX_BODY:
            raise TooMuch(f"an answer of over {MAX_BODY} bytes")
        return body.decode(errors="replace")

    def lines(self, timeout: float, longest: float) -> Iterator[bytes]:
        """Each line of the body, which may take so long, and all of them together.

        Raises:
            TooMuch: one is longer than any that is meant for us.
        """
        over = monotonic() + longest
        while True:
            self._socket.by = min(monotonic() + timeout, over)
            line = self._response.readline(MAX_LINE + 1)
            if len(line) > MAX_LINE:
                raise TooMuch(f"a line of over {MAX_LINE} bytes")
            if not line:
                return
            yield line


class _Timed:
    """Stands in for the socket of an HTTP connection: what is read of it comes by a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.by = inf

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self, self._socket.makefile("rb", buffering=0)))

    def wait(self) -> None:
        """Gives the next `recv` the time that is left."""
        left = self.by - monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left)


class _Reader(io.RawIOBase):
    def __init__(self, timed: _Timed, raw: Any) -> None:
        self._timed = timed
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._timed.wait()
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()

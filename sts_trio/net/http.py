"""HTTP/1.1 over a stream that is connected: one request, or whatever a peer asks.

For what this machine asks of servers beside its calls, and for simulated ones. Either peer may be a
hostile one: what is read is bounded.
"""

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

import h11
import msgspec
import trio

# Header fields and the like, of which a hostile peer may send without end.
MAX_HEAD = 16 * 1024
RECEIVE = 16 * 1024


class TooLong(Exception):
    """More came than is read."""


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")


class Request(msgspec.Struct, frozen=True):
    method: str
    path: str  # without its query
    query: str
    headers: dict[str, str]  # names in lower case
    body: bytes


async def ask(
    stream: trio.abc.Stream,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes = b"",
    *,
    longest: int,
) -> Answer:
    """One request over a connected stream. Leaves the stream open.

    Raises:
        TooLong: the answer's body is longer than `longest`.
        trio.BrokenResourceError, h11.RemoteProtocolError: there is none, or it is no HTTP.
    """
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    length = {"Content-Length": str(len(body))} if body else {}
    given = {**headers, **length, "Connection": "close"}
    events = [h11.Request(method=method, target=target, headers=list(given.items()))]
    sent = b"".join(http.send(event) or b"" for event in events)
    sent += (http.send(h11.Data(data=body)) or b"") if body else b""
    await stream.send_all(sent + (http.send(h11.EndOfMessage()) or b""))
    response = await _next(http, stream)
    while isinstance(response, h11.InformationalResponse):
        response = await _next(http, stream)
    assert isinstance(response, h11.Response)
    return Answer(response.status_code, _named(response), await _body(http, stream, longest))


Respond = Callable[[Request], Awaitable[Answer | None]]


async def answer(stream: trio.abc.Stream, respond: Respond, *, longest: int) -> None:
    """Serves one connection: request after request, until it is closed. Where `respond` has None to
    say, the connection is closed instead."""
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    try:
        while True:
            head = await _next(http, stream)
            if not isinstance(head, h11.Request):
                return
            target = urlsplit(head.target.decode("ascii", "replace"))
            body = await _body(http, stream, longest)
            method = head.method.decode()
            told = await respond(Request(method, target.path, target.query, _named(head), body))
            if told is None:
                return
            headers = {**told.headers, "content-length": str(len(told.body))}
            response = h11.Response(status_code=told.status, headers=list(headers.items()))
            events = (response, h11.Data(data=told.body), h11.EndOfMessage())
            await stream.send_all(b"".join(http.send(event) or b"" for event in events))
            if http.our_state is not h11.DONE:
                return
            http.start_next_cycle()
    except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError, TooLong):
        return
    finally:
        await trio.aclose_forcefully(stream)


async def _next(http: h11.Connection, stream: trio.abc.Stream) -> object:
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(bytes(await stream.receive_some(RECEIVE)))
    return event


async def _body(http: h11.Connection, stream: trio.abc.Stream, longest: int) -> bytes:
    body = bytearray()
    while isinstance(event := await _next(http, stream), h11.Data):
        body += event.data
        if len(body) > longest:
            raise TooLong
    return bytes(body)


def _named(head: h11.Request | h11.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head.headers}

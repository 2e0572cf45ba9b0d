"""What a server of ours tells of a call while it lasts: `/calls/CALL_SID/events`, read in Trio.

The server may be none of ours, or a hostile one: what is read of it is bounded, and a call goes on
whatever comes of this.
"""

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

import h11
import msgspec
import trio

from sts_trio.simulate.connect import (
    HTTP,
    WEBSOCKET,
    NotConnected,
    connect,
    host_of,
    parts_of,
)

ANSWER_TIMEOUT = 5.0  # for the head of the answer
MAX_HEAD = 16 * 1024
# A line of ours has a sentence of 2,000 letters at the most, and numbers.
MAX_LINE = 256 * 1024
RECEIVE = 16 * 1024

Hear = Callable[[float, str, dict[str, Any]], None]


class NotTold(Exception):
    """The server tells nothing of the call; why."""


class Event(msgspec.Struct):
    """As the server writes it."""

    call_sid: str
    at: float
    event: str
    fields: dict[str, Any]


_event = msgspec.json.Decoder(Event)


async def follow(
    url: str,
    call_sid: str,
    hear: Hear,
    *,
    key: str,
    last: str,
    has_begun: Callable[[], None] = lambda: None,
) -> None:
    """Calls `hear` with what happens in the call, until the server has told the event `last`.

    `url` is what the caller calls, `key` is what lets an operator in: the server's admin token, or
    the key of its run. `has_begun` is called once the server is going to tell.

    Raises:
        NotTold: it tells nothing, or no more.
    """
    schemes = HTTP if url.startswith("http") else WEBSOCKET
    try:
        parts, port = parts_of(url, schemes)
        stream = await connect(parts.hostname or "", port, parts.scheme == schemes[1])
    except NotConnected as exc:
        raise NotTold(str(exc)) from None
    headers = {"Authorization": f"Bearer {key}"}
    # Beside the websocket or the webhook, which may be below a path of a proxy's.
    target = f"{parts.path.rpartition('/')[0]}/calls/{call_sid}/events"

    def take(line: bytes) -> bool:
        told = _read(line)
        if told is not None:
            hear(told.at, told.event, told.fields)
        return told is not None and told.event == last

    try:
        await _ask(stream, host_of(parts), target, headers, has_begun, take)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise NotTold("the connection broke") from None
    except h11.RemoteProtocolError as exc:
        raise NotTold(f"no HTTP is spoken there: {exc}") from None
    finally:
        await trio.aclose_forcefully(stream)


async def _ask(
    stream: trio.abc.Stream,
    host: str,
    target: str,
    headers: Mapping[str, str],
    has_begun: Callable[[], None],
    take: Callable[[bytes], bool],
) -> None:
    """Gives each line of the answer to `take`, until that says that it was the last."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    request = h11.Request(method="GET", target=target, headers=[("Host", host), *headers.items()])
    rest = b""
    with trio.move_on_after(ANSWER_TIMEOUT) as patience:
        await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(bytes(await stream.receive_some(RECEIVE)))
            elif isinstance(event, h11.Response):
                _check(event)
                patience.deadline = inf
                has_begun()
            elif isinstance(event, h11.Data):
                *lines, rest = (rest + bytes(event.data)).split(b"\n")
                if any(map(take, lines)):
                    return
                if len(rest) > MAX_LINE:
                    raise NotTold(f"a line of over {MAX_LINE} bytes")
            else:
                raise NotTold("it ended before the call did")
    raise NotTold("no answer")


def _check(response: h11.Response) -> None:
    kind = dict(response.headers).get(b"content-type", b"").partition(b";")[0].strip().lower()
    if response.status_code in (401, 403):
        raise NotTold(f"HTTP {response.status_code}: the server's key or admin token is another")
    if response.status_code != 200 or kind != b"text/event-stream":
        raise NotTold("the bridge tells of no events: it is no `sts-trio serve`, or an old one")


def _read(line: bytes) -> Event | None:
    """The event in a line; None for what is none, which a server may send."""
    field, _, value = line.partition(b": ")
    if field != b"data":
        return None
    try:
        return _event.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None

"""What a server tells of a call, read from one that may be none of ours."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from sts_trio.simulate import follow as module
from sts_trio.simulate.connect import NotConnected
from sts_trio.simulate.follow import MAX_LINE, NotTold, follow

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"
HELLO = b'id: 1-1\ndata: {"call_sid":"CA1","at":0.5,"event":"a.b","fields":{"text":"Hi."}}\n\n'
ENDED = b'data: {"call_sid":"CA1","at":9,"event":"the.end","fields":{}}\n\n'

Serve = Callable[[trio.StapledStream[Any, Any]], Awaitable[None]]


class Reading:
    """`follow` against a server that says these pieces, and then closes, if it is to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *said: bytes, closes: bool = True) -> None:
        self.said = said
        self.closes = closes
        self.asked = b""
        self.heard: list[tuple[float, str, dict[str, Any]]] = []
        self.has_begun = False
        self.connected: list[tuple[str, int, bool]] = []
        monkeypatch.setattr(module, "connect", self._connect)

    async def _connect(self, host: str, port: int, is_secure: bool) -> Any:
        self.connected.append((host, port, is_secure))
        ours, self._theirs = trio.testing.memory_stream_pair()
        return ours

    async def run(self, url: str = "ws://127.0.0.1:5000/twilio") -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve)
            try:
                await follow(
                    url,
                    "CA1",
                    lambda *event: self.heard.append(event),
                    key="the-key",
                    last="the.end",
                    has_begun=lambda: setattr(self, "has_begun", True),
                )
            finally:
                nursery.cancel_scope.cancel()

    async def _serve(self) -> None:
        await trio.testing.wait_all_tasks_blocked()
        self.asked = bytes(await self._theirs.receive_some())
        for piece in self.said:
            await self._theirs.send_all(piece)
        if self.closes:
            await self._theirs.aclose()


async def why_not(reading: Reading) -> str:
    with pytest.raises(ExceptionGroup) as caught:
        await reading.run()
    (told,) = caught.value.exceptions
    assert isinstance(told, NotTold)
    return str(told)


async def test_events_are_told_until_the_call_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    chunked = HEAD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    text = b": alive\n\nretry: 2000\n" + HELLO + b"event: missed\ndata: 5\n\n" + ENDED
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(text[n : n + 7]), text[n : n + 7]) for n in range(0, len(text), 7)
    )
    for said in ((HEAD, text), (chunked, chunks), tuple(bytes([each]) for each in HEAD + text)):
        reading = Reading(monkeypatch, *said, closes=False)
        await reading.run()
        assert reading.heard == [(0.5, "a.b", {"text": "Hi."}), (9.0, "the.end", {})]
        assert reading.has_begun


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("ws://127.0.0.1:5000/twilio", ("127.0.0.1", 5000, False), b"/calls/CA1/events"),
        ("wss://a.example/twilio?key=x", ("a.example", 443, True), b"/calls/CA1/events"),
        ("https://a.example/sts/twiml", ("a.example", 443, True), b"/sts/calls/CA1/events"),
        ("http://a.example:81", ("a.example", 81, False), b"/calls/CA1/events"),
    ],
)
async def test_the_server_is_asked_beside_what_is_called(
    url: str, host: tuple[str, int, bool], target: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Reading(monkeypatch, HEAD + ENDED)
    await reading.run(url)
    assert reading.connected == [host]
    assert reading.asked.startswith(b"GET " + target + b" HTTP/1.1\r\n")
    assert b"Authorization: Bearer the-key\r\n" in reading.asked


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"", "no HTTP is spoken there"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no HTTP is spoken there"),
        (b"HTTP/1.1 403 No\r\n\r\n", "HTTP 403: the server's key or admin token is another"),
        (b"HTTP/1.1 401 No\r\n\r\n", "HTTP 401: the server's key"),
        (b"HTTP/1.1 404 No\r\n\r\n", "it is no `sts-trio serve`"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>", "it is no `sts-trio serve`"),
        (b"HTTP/1.1 302 No\r\nLocation: /\r\n\r\n", "it is no `sts-trio serve`"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10_000, "no HTTP is spoken there"),
        (HEAD + HELLO, "it ended before the call did"),
        (HEAD + b"x" * (MAX_LINE + 1), "a line of over"),
        (HEAD + b"data: " + b"[" * 100_000 + b"\n", "it ended before the call did"),
        (HEAD + b'data: {"event":7}\ndata: \xff\xfe\ndata\n\0\n', "it ended before the call did"),
    ],
)
async def test_a_server_that_tells_nothing_is_told_with_the_reason(
    said: bytes, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told in await why_not(Reading(monkeypatch, said))


async def test_a_server_that_does_not_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    assert await why_not(Reading(monkeypatch, closes=False)) == "no answer"
    assert trio.current_time() == pytest.approx(5.0)


async def test_a_server_may_be_silent_for_as_long_as_a_call_lasts(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    reading = Reading(monkeypatch, HEAD, closes=False)
    with trio.move_on_after(3600) as scope:
        await reading.run()
    assert scope.cancelled_caught


async def test_where_nobody_listens_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*where: Any) -> Any:
        raise NotConnected("Connection refused")

    reading = Reading(monkeypatch)
    monkeypatch.setattr(module, "connect", refused)
    with pytest.raises(ExceptionGroup) as caught:
        await reading.run()
    assert isinstance(caught.value.exceptions[0], NotTold)

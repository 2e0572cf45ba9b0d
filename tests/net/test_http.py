"""HTTP/1.1 over memory streams."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h11
import pytest
import trio
import trio.testing

from sts_trio.net import http
from sts_trio.net.http import MAX_HEAD, Answer, Request, TooLong

Stream = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


async def asked(
    *answer: bytes, method: str = "GET", body: bytes = b"", longest: int = 100
) -> tuple[bytes, Answer]:
    """What is sent, and what is understood of that answer."""
    ours, theirs = trio.testing.memory_stream_pair()
    for piece in answer:
        await theirs.send_all(piece)
    await theirs.send_eof()
    told = await http.ask(ours, method, "/x?y=1", {"Host": "a"}, body, longest=longest)
    await ours.send_eof()
    return b"".join([bytes(data) async for data in theirs]), told


async def test_a_request_has_a_length_only_if_it_has_a_body() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 2\r\n\r\nhi"
    sent, told = await asked(answer)
    assert sent == b"GET /x?y=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert told == Answer(200, {"content-type": "text/xml", "content-length": "2"}, b"hi")
    assert told.content_type == "text/xml"
    sent, _ = await asked(answer, method="POST", body=b"a=b")
    assert sent.startswith(b"POST /x?y=1 HTTP/1.1\r\n")
    assert sent.endswith(b"Content-Length: 3\r\nConnection: close\r\n\r\na=b")


async def test_an_answer_may_come_in_pieces_and_behind_others() -> None:
    pieces = (
        b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 100 Go on\r\n\r\n",
        b"HTTP/1.1 404 No\r\n\r\n",
        b"?",
    )
    _, told = await asked(*pieces)
    assert told == Answer(404, {}, b"?")
    assert told.content_type == ""


async def test_an_answer_is_read_as_far_as_it_may_be_long() -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\n" + bytes(100)
    assert len((await asked(answer))[1].body) == 100
    with pytest.raises(TooLong):
        await asked(answer, b"x")


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * MAX_HEAD]
)
async def test_what_is_no_answer_is_told(answer: bytes) -> None:
    with pytest.raises(h11.RemoteProtocolError):
        await asked(answer)


@asynccontextmanager
async def a_server() -> AsyncIterator[Stream]:
    """Says what it was asked, and nothing of `/silent`."""

    async def respond(request: Request) -> Answer | None:
        if request.path == "/silent":
            return None
        said = f"{request.method} {request.path} {request.query} {request.headers['host']} "
        return Answer(200, {"x": "y"}, said.encode() + request.body)

    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: http.answer(theirs, respond, longest=10))
        yield ours
        with trio.fail_after(5):
            assert await ours.receive_some() == b""  # it ends, and closes


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (b"GET /a?b HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n", b"GET /a b c "),
        (b"POST / HTTP/1.0\r\nHost: c\r\nContent-Length: 2\r\n\r\nhi", b"POST /  c hi"),
    ],
)
async def test_a_server_answers_and_closes_as_it_is_asked_to(request_: bytes, said: bytes) -> None:
    async with a_server() as stream:
        await stream.send_all(request_)
        told = bytes(await stream.receive_some())
        assert told.startswith(b"HTTP/1.1 200 ")
        assert told.endswith(b"\r\n\r\n" + said)


async def test_a_server_goes_on_until_its_client_is_gone() -> None:
    async with a_server() as stream:
        for _ in range(3):
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: c\r\n\r\n")
            assert bytes(await stream.receive_some()).endswith(b"GET /  c ")
        await stream.send_eof()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /silent HTTP/1.1\r\nHost: c\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 11\r\n\r\nhello world",
    ],
)
async def test_a_server_closes_where_there_is_nothing_to_be_said(request_: bytes) -> None:
    async with a_server() as stream:
        await stream.send_all(request_)

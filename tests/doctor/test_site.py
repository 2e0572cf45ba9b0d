"""The site by itself: who asks it for what is none of Twilio's."""

import pytest
import trio
import trio.testing

from sts_trio.doctor import site as sites
from sts_trio.doctor.site import Site
from sts_trio.wire.webhook import sign

TOKEN, BASE = "s3cret", "https://example.com"


async def answer(request: bytes, *, at_once: bool = True) -> bytes:
    """Of a site with one webhook. `at_once`: no more will come."""
    here = Site(BASE, [TOKEN])
    here.replies["/doctor/begin"] = ["<Response/>"]
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, here.serve, listeners)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(request)
            if at_once:
                await stream.send_eof()
            told = b""
            try:
                while data := await stream.receive_some():
                    told += data
            except trio.BrokenResourceError:
                pass
        nursery.cancel_scope.cancel()
    return told


def post(path: str, signature: str = "", fields: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(fields)}\r\n"
    return f"{head}X-Twilio-Signature: {signature}\r\n\r\n{fields}".encode()


async def test_a_signed_request_is_answered_and_no_other_one() -> None:
    signature = sign(TOKEN, f"{BASE}/doctor/begin", {"CallSid": "CA1"})
    assert (await answer(post("/doctor/begin", signature, "CallSid=CA1"))).endswith(b"<Response/>")
    for other in (
        post("/doctor/begin", signature, "CallSid=CA2"),
        post("/doctor/action", signature, "CallSid=CA1"),
        post("/doctor/begin"),
    ):
        assert (await answer(other)).startswith(b"HTTP/1.1 403 ")


async def test_a_path_that_nobody_has_is_none() -> None:
    signature = sign(TOKEN, f"{BASE}/doctor/x", {"CallSid": "CA1"})
    assert (await answer(post("/doctor/x", signature, "CallSid=CA1"))).startswith(b"HTTP/1.1 404 ")


async def test_a_stream_that_is_not_signed_is_refused() -> None:
    told = await answer(b"GET /doctor/media HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"\x16\x03\x01\x02\x00",
        b"GET",
        b"\x00" * (sites.MAX_HEAD + 2),
        b"POST / HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nshort",
    ],
)
async def test_what_is_no_request_has_no_answer(request_: bytes) -> None:
    assert await answer(request_) == b""


async def test_who_drips_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "REQUEST_TIMEOUT", 0.1)
    assert await answer(b"POST / HTTP/1.1\r\n", at_once=False) == b""

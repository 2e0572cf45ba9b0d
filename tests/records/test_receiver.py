"""Where ended calls are told, and where they are not: no name leads us where it should not."""

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from sts_trio.records.receiver import (
    MAX_ANSWER,
    WITHIN,
    Answer,
    BadUrl,
    NotDelivered,
    Receiver,
)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/calls",
        "https://example.com:8443/calls?to=crm",
        "https://[2606:4700::1111]/",
        "https://93.184.216.34/",
        "http://127.0.0.1:8000/",
        "http://[::1]:8000/",
        "http://localhost/calls",
        "https://localhost/calls",
    ],
)
def test_ended_calls_are_told_to_the_world_by_https_and_to_this_machine(url: str) -> None:
    Receiver(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com/",
        "https://",
        "https://example.com:99999/",
        "https://[::1/",
        "https://user:secret@example.com/",
        "https://example.com/#here",
        "https://exämple.com/",
        "https://example.com/a b",
        "http://example.com/",
        "http://93.184.216.34/",
        # of a private network, or nobody's
        "https://10.0.0.7/",
        "https://192.168.1.1/",
        "https://[fd00::1]/",
        "https://100.64.0.7/",
        "https://169.254.169.254/latest/meta-data",
        "https://0.0.0.0/",
        "https://[::]/",
        "https://[ff02::1]/",
        "https://[fe80::1]/",
        # IPv4 in another dress
        "https://[::ffff:10.0.0.7]/",
        "https://[::ffff:169.254.169.254]/",
        "https://[64:ff9b::10.0.0.7]/",
        "https://[2002:a00:7::]/",
    ],
)
def test_they_are_not_told_anywhere_else(url: str) -> None:
    with pytest.raises(BadUrl):
        Receiver(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.7/",
        "http://10.0.0.7:8080/",
        "http://crm:8080/",
        "http://[fd00::1]/",
        "http://100.64.0.7/",
    ],
)
def test_a_private_network_is_meant_where_the_operator_says_so(url: str) -> None:
    Receiver(url, allows_private=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/",
        "https://0.0.0.0/",
        "https://240.0.0.1/",
        "http://93.184.216.34/",
        "http://[ff02::1]/",
    ],
)
def test_even_then_some_addresses_are_not(url: str) -> None:
    with pytest.raises(BadUrl):
        Receiver(url, allows_private=True)


class Names(trio.abc.HostnameResolver):
    """What a name server says."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        await trio.lowlevel.checkpoint()
        self.asked.append(host if isinstance(host, str) else host.decode())
        return [
            (
                socket.AF_INET6 if ":" in ip else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (ip, port),
            )
            for ip in self.addresses
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("10.0.0.7",),
        ("169.254.169.254",),
        ("93.184.216.34", "127.0.0.1"),  # one of them is enough
        ("::ffff:127.0.0.1",),
    ],
)
async def test_a_name_that_leads_inside_is_not_followed(addresses: Sequence[str]) -> None:
    trio.socket.set_custom_hostname_resolver(Names(*addresses))
    with pytest.raises(NotDelivered, match=r"^example\.com leads to .*, which is "):
        await Receiver("https://example.com/").post(b"{}", {})


async def test_a_name_of_this_machine_does_not_lead_away() -> None:
    trio.socket.set_custom_hostname_resolver(Names("93.184.216.34"))
    with pytest.raises(NotDelivered, match="which is not this machine"):
        await Receiver("http://localhost/").post(b"{}", {})


async def test_a_private_name_by_plain_http_does_not_lead_into_the_world() -> None:
    trio.socket.set_custom_hostname_resolver(Names("93.184.216.34"))
    with pytest.raises(NotDelivered, match="which takes https"):
        await Receiver("http://crm/", allows_private=True).post(b"{}", {})


# --- over real sockets --------------------------------------------------------------------------


class Server:
    """Takes one request a connection, and answers with given bytes."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[bytes] = []


@contextlib.asynccontextmanager
async def serving(
    answer: bytes,
    *,
    tls: ssl.SSLContext | None = None,
    is_mute: bool = False,
    is_rash: bool = False,
) -> AsyncIterator[Server]:
    """`is_mute`: it never answers; `is_rash`: it does before it is asked."""
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server = Server(listener.socket.getsockname()[1])

        async def handle(stream: trio.abc.Stream) -> None:
            if tls is not None:
                stream = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
            with contextlib.suppress(trio.BrokenResourceError):
                if is_rash:
                    await stream.send_all(answer)
                request = b""
                while not request.endswith(b"}"):
                    data = await stream.receive_some(4096)
                    if not data:
                        return
                    request += bytes(data)
                server.requests.append(request)
                if is_mute:
                    await trio.sleep_forever()
                await stream.send_all(answer)
                await stream.aclose()

        nursery.start_soon(trio.serve_listeners, handle, [listener])
        yield server
        nursery.cancel_scope.cancel()


OK = b"HTTP/1.1 204 No Content\r\n\r\n"


async def test_what_is_told_comes_there() -> None:
    async with serving(OK) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.port}/calls?to=crm")
        answer = await receiver.post(b'{"a": 1}', {"webhook-id": "msg_1"})
    assert answer == Answer(204)
    [request] = server.requests
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /calls?to=crm HTTP/1.1"
    told = dict(line.split(": ", 1) for line in lines[1:])
    assert told["Host"] == f"127.0.0.1:{server.port}"
    assert told["Content-Type"] == "application/json"
    assert told["Content-Length"] == "8"
    assert told["webhook-id"] == "msg_1"
    assert body == b'{"a": 1}'


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    async with serving(OK) as inside:
        to = f"Location: http://127.0.0.1:{inside.port}/\r\n\r\n"
        async with serving(b"HTTP/1.1 302 Found\r\n" + to.encode()) as server:
            receiver = Receiver(f"http://127.0.0.1:{server.port}/")
            assert await receiver.post(b"{}", {}) == Answer(302)
        assert inside.requests == []


@pytest.mark.parametrize(
    ("value", "expected"), [("120", 120.0), ("soon", None), ("-1", None), ("9999999", None)]
)
async def test_the_patience_that_it_asks_for_is_heard(value: str, expected: float | None) -> None:
    head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 Too Many Requests\r\n"
    async with serving(head + f"Retry-After: {value}\r\n\r\n".encode()) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.port}/")
        assert await receiver.post(b"{}", {}) == Answer(429, expected)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "no HTTP is spoken there"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no HTTP is spoken there"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * MAX_ANSWER, "no HTTP|without end"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2000, "an answer without end"),
    ],
)
async def test_whatever_is_no_answer_is_told_so(answer: bytes, reason: str) -> None:
    async with serving(answer) as server:
        with pytest.raises(NotDelivered, match=reason):
            await Receiver(f"http://127.0.0.1:{server.port}/").post(b"{}", {})


async def test_nobody_there_is_told_so() -> None:
    async with serving(OK) as server:
        pass
    with pytest.raises(NotDelivered, match="Connection refused"):
        await Receiver(f"http://127.0.0.1:{server.port}/").post(b"{}", {})


async def test_a_receiver_that_does_not_answer_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving(OK, is_mute=True) as server:
        with pytest.raises(NotDelivered, match="no answer within 20 s"):
            await Receiver(f"http://127.0.0.1:{server.port}/").post(b"{}", {})
    assert trio.current_time() == pytest.approx(WITHIN)


async def test_a_name_that_nobody_has_is_told_so() -> None:
    trio.socket.set_custom_hostname_resolver(Names())
    with pytest.raises(NotDelivered, match="it has no address"):
        await Receiver("https://example.com/").post(b"{}", {})


async def test_over_tls_the_certificate_is_looked_at() -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    trusted = ssl.create_default_context()
    ours.configure_trust(trusted)
    for authority, is_good in ((ours, True), (theirs, False)):
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(tls)
        async with serving(OK, tls=tls) as server:
            url = f"https://localhost:{server.port}/"
            trio.socket.set_custom_hostname_resolver(Names("127.0.0.1"))
            receiver = Receiver(url, ssl_context=trusted)
            if is_good:
                assert await receiver.post(b"{}", {}) == Answer(204)
            else:
                with pytest.raises(NotDelivered, match="its certificate is not good: "):
                    await receiver.post(b"{}", {})


async def test_what_speaks_no_tls_is_told_so() -> None:
    async with serving(b"220 mail.example.com\r\n", is_rash=True) as server:
        with pytest.raises(NotDelivered, match="the connection broke"):
            await Receiver(f"https://127.0.0.1:{server.port}/").post(b"{}", {})

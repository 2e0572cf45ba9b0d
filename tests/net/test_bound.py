"""Where Hypercorn says that it serves."""

import socket
from typing import Any

import hypercorn.config
import pytest
from hypercorn.trio.lifespan import Lifespan

from sts_trio.net.bound import Bound, bound_of


def told(bind: list[str], **options: Any) -> list[Bound]:
    """By the lifespan of a Hypercorn that is bound so."""
    config = hypercorn.config.Config.from_mapping({"bind": bind, **options})
    app: Any = None
    return bound_of(Lifespan(app, config, {}).asgi_receive)


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("localhost:5000", "http://127.0.0.1:5000"),
        (":5000", "http://127.0.0.1:5000"),
        ("0.0.0.0:5000", "http://127.0.0.1:5000"),
        ("192.0.2.7:5000", "http://192.0.2.7:5000"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("[::]:5000", "http://[::1]:5000"),
    ],
)
def test_an_address_is_read_as_hypercorn_does(bind: str, url: str) -> None:
    assert [bound.url for bound in told([bind])] == [url]


def test_every_address_is_told_and_which_of_them_are_secure() -> None:
    assert told(
        ["127.0.0.1:5000", "127.0.0.1:5001"], certfile="c", keyfile="k", insecure_bind=["[::1]:80"]
    ) == [
        Bound("127.0.0.1", 5000, True),
        Bound("127.0.0.1", 5001, True),
        Bound("::1", 80, False),
    ]
    assert told(["127.0.0.1:5000"], insecure_bind=["127.0.0.1:80"]) == [
        Bound("127.0.0.1", 5000, False)
    ]


def test_a_socket_that_is_handed_over_is_asked_and_left_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert told([f"fd://{listener.fileno()}"]) == [Bound("127.0.0.1", port, False)]
        assert listener.getsockname()[1] == port


@pytest.mark.parametrize(
    "bind",
    ["unix:/run/x", "127.0.0.1:0", "no.such.invalid:5000", "127.0.0.1:x", "fd://9999", "fd://x"],
)
def test_what_cannot_be_known_is_left_out(bind: str) -> None:
    assert told([bind]) == []


async def receive() -> None: ...


@pytest.mark.parametrize("other", [receive, [].append, None])
def test_nothing_is_known_of_another_server(other: Any) -> None:
    assert bound_of(other) == []

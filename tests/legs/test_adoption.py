"""The adopted leg in the hands of Hypercorn."""

import contextlib
import os
import socket
import ssl
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import structlog
import trio
import trio.testing
from hypercorn.events import Closed, RawData
from hypercorn.protocol.ws_stream import WSStream
from limits import HANG
from rig_adopted import split, told
from rig_frames import closing
from rig_peers import START, STOP, media
from rig_server import World, talk, world
from rig_streams import certified

from sts_trio.bridge import run as call
from sts_trio.legs import adoption
from sts_trio.legs.adoption import can_adopt
from sts_trio.legs.caller_adopted import AdoptedLeg
from sts_trio.net.hypercorn_guard import Connection
from sts_trio.net.hypercorn_guard.http import Http
from sts_trio.net.hypercorn_guard.law import Step
from sts_trio.web import media as media_routes
from sts_trio.wire import deepgram
from sts_trio.wire.frames import CLOSE, TEXT
from sts_trio.wire.twilio import Connected

HELLO = Connected()


class Asked(list[bool]):
    """What `can_adopt` said, of each websocket that came; and what it was asked, of the last."""

    send: Any = None
    connection: Any = None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    asked = Asked()

    def ask(send: Any, connection: Any) -> bool:
        asked.append(can_adopt(send, connection))
        asked.send, asked.connection = send, connection
        return asked[-1]

    monkeypatch.setattr(media_routes, "can_adopt", ask)
    return asked


async def a_short_call(here: World, **how: Any) -> None:
    async with here.phone(**how) as phone:
        await talk(here, phone)
        await phone.tell(STOP)
        assert await phone.play_until_closed() == 1000
        await here.until_over()
        assert here.endings[-1] == "stop"


async def test_a_socket_is_adopted_where_all_is_as_expected(tmp_path: Path, asked: Asked) -> None:
    async with world(tmp_path) as here:
        await a_short_call(here)
    assert asked == [True]


async def test_the_fast_lane_may_be_turned_off(tmp_path: Path, asked: Asked) -> None:
    async with world(tmp_path, STS_FAST_LANE="0") as here:
        await a_short_call(here)
    assert asked == []


class Site(NamedTuple):
    """How a server is reached: plainly, or by TLS of its own."""

    certificate: tuple[str, str] | None  # and its key, in files
    trust: ssl.SSLContext | None


@pytest.fixture(params=["plain", "TLS"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    return Site(*certified(tmp_path)) if request.param == "TLS" else Site(None, None)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_socket_under_tls_is_adopted(
    tmp_path: Path,
    asked: Asked,
    version: ssl.TLSVersion,
) -> None:
    files, trust = certified(tmp_path)
    trust.maximum_version = version
    async with world(tmp_path, certificate=files) as here:
        await a_short_call(here, tls=trust)
    assert asked == [True]


async def test_tls_whose_parts_are_not_known_is_not_adopted(
    tmp_path: Path,
    asked: Asked,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files, trust = certified(tmp_path)
    monkeypatch.setattr(adoption, "tls_state", lambda stream: None)
    async with world(tmp_path, certificate=files) as here:
        await a_short_call(here, tls=trust)
    assert asked == [False]


def _as_far_as_it_came(data: bytes) -> list[tuple[int, bytes]]:
    try:
        return split(data)
    except (AssertionError, IndexError):
        return []


async def test_what_is_not_exactly_hypercorns_own_is_not_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: dict[str, bool] = {}

    class OtherStream(WSStream):
        pass

    class OtherConnection(Connection):
        pass

    class OtherHttp(Http):
        pass

    def like(one: Any, kind: type[Any], **parts: Any) -> Any:
        other = object.__new__(kind)
        other.__dict__ |= one.__dict__ | parts
        return other

    def ask(send: Any, connection: Any) -> bool:
        def on(kind: type[Connection] = Connection, **parts: Any) -> Any:
            return like(connection, kind, **parts)

        other_send = object.__new__(OtherStream).app_send
        other_http = like(connection.protocol, OtherHttp)
        busy = like(connection.protocol, Http, stream=None)

        said["itself"] = can_adopt(send, connection)
        said["a copy"] = can_adopt(send, on())
        said["no connection known"] = can_adopt(send, None)
        said["another server's send"] = can_adopt(_send, connection)
        said["another stream"] = can_adopt(other_send, connection)
        said["another connection"] = can_adopt(send, on(OtherConnection))
        said["another http"] = can_adopt(send, on(protocol=other_http))
        said["not its turn"] = can_adopt(send, on(protocol=busy))
        said["no http"] = can_adopt(send, on(protocol=None))
        said["no plain socket"] = can_adopt(send, on(stream=None))
        monkeypatch.setattr(adoption, "os", SimpleNamespace(name="nt"))
        said["Windows"] = can_adopt(send, connection)
        monkeypatch.setattr(adoption, "os", os)
        return False

    monkeypatch.setattr(media_routes, "can_adopt", ask)
    async with world(tmp_path) as here:
        await a_short_call(here)
    assert {name for name, yes in said.items() if yes} == {"itself", "a copy"}
    assert len(said) == 11


async def _send(message: Any) -> None:
    """Some other server's."""


async def handshake(
    here: World, site: Site, *headers: str, is_strict: bool = False
) -> trio.abc.Stream:
    """`is_strict`: a TLS connection that ends without TLS's own goodbye is broken."""
    tcp: trio.abc.Stream = await trio.open_tcp_stream(*here.address)
    if site.trust is not None:
        tcp = trio.SSLStream(
            tcp, site.trust, server_hostname="localhost", https_compatible=not is_strict
        )
    lines = [
        "GET /twilio HTTP/1.1",
        f"Host: 127.0.0.1:{here.address[1]}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: 26ypYvsqzHJLGvnF2OKhXQ==",
        *headers,
    ]
    await tcp.send_all("\r\n".join([*lines, "", ""]).encode())
    return tcp


async def answer(tcp: trio.abc.Stream) -> tuple[bytes, bytes]:
    """The answer to a handshake, and what came behind it."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await tcp.receive_some()
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


async def until_closed(tcp: trio.abc.Stream, rest: bytes) -> list[tuple[int, bytes]]:
    """The frames that come until our end has to answer the goodbye."""
    while not any(opcode == CLOSE for opcode, _ in _as_far_as_it_came(rest)):
        part = await tcp.receive_some()
        assert part
        rest += part
    return split(rest)


async def test_no_compression_is_agreed_on_though_it_is_offered(
    tmp_path: Path, site: Site, asked: Asked
) -> None:
    """As browsers do; our frames are plain."""
    async with world(tmp_path, certificate=site.certificate) as here:
        tcp = await handshake(here, site, "Sec-WebSocket-Extensions: permessage-deflate")
        head, rest = await answer(tcp)
        assert head.startswith(b"HTTP/1.1 101")
        assert b"extensions" not in head.lower()
        await tcp.send_all(told(HELLO, START, STOP))
        assert (CLOSE, (1000).to_bytes(2)) in await until_closed(tcp, rest)
        await tcp.send_all(closing(1000))
        await here.until_over()
        await tcp.aclose()
    assert asked == [True]


async def test_no_frame_is_lost_that_comes_with_the_accept(tmp_path: Path, site: Site) -> None:
    """The caller sends as soon as it is answered, and not by whole frames."""
    async with world(tmp_path, certificate=site.certificate) as here:
        tcp = await handshake(here, site)
        _, rest = await answer(tcp)
        stream = told(HELLO, START, *[media(bytes([n]) * 160) for n in range(50)])
        await tcp.send_all(stream[:1000])
        await tcp.send_all(stream[1000:])
        await here.agent.ready.wait()
        await tcp.send_all(told(STOP))
        await until_closed(tcp, rest)
        await tcp.send_all(closing(1000))
        await here.until_over()
        await tcp.aclose()
        assert here.agent.speech == b"".join(bytes([n]) * 160 for n in range(50))
        assert here.endings == ["stop"]


async def test_who_sends_too_early_is_not_taken_for_a_reader_that_has_stopped() -> None:
    """Behind half a record of TLS that came before the accept, another half is still to be read."""
    connection: Any = SimpleNamespace(at=Step.BODY, wake=lambda: None)
    diverted = adoption._Diverted()
    has_stopped = trio.Event()

    async def stop_reading() -> None:
        await diverted.stop_reading(connection)
        has_stopped.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_reading)
        await diverted.handle(RawData(b"early"))
        await trio.testing.wait_all_tasks_blocked()
        assert not has_stopped.is_set()
        await diverted.handle(Closed())
        await has_stopped.wait()


async def test_of_a_connection_that_has_ended_no_reader_is_waited_for() -> None:
    connection: Any = SimpleNamespace(at=Step.END)  # nobody is there to be woken
    with trio.fail_after(HANG):
        await adoption._Diverted().stop_reading(connection)


async def test_nothing_is_left_of_a_call_that_cannot_be_accepted(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller is quiet, and Hypercorn's reader waits for more."""

    def fail(this: AdoptedLeg, handshake: bytes) -> None:
        raise RuntimeError("no accept")

    monkeypatch.setattr(AdoptedLeg, "answer", fail)
    async with world(tmp_path, certificate=site.certificate) as here:
        tcp = await handshake(here, site)
        with trio.fail_after(HANG):
            assert await tcp.receive_some() == b""
        await here.until_over()
        await tcp.aclose()


async def test_a_caller_who_is_gone_before_the_handshake_leaves_nothing(
    tmp_path: Path, site: Site, asked: Asked
) -> None:
    async with world(tmp_path, certificate=site.certificate) as here:
        for _ in range(3):
            tcp = await handshake(here, site)
            beneath: Any = getattr(tcp, "transport_stream", tcp)
            beneath.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await trio.aclose_forcefully(beneath)
        await a_short_call(here, tls=site.trust)
        with structlog.testing.capture_logs() as logs:
            await here.until_over()
        assert not [line for line in [*here.logs, *logs] if "crashed" in line["event"]]


async def test_hypercorn_says_nothing_more_on_an_adopted_socket(tmp_path: Path, site: Site) -> None:
    """No ping of its own, and no second close frame: every byte is one of ours. TLS says its own
    goodbye behind them."""
    async with world(tmp_path, certificate=site.certificate) as here:
        tcp = await handshake(here, site, is_strict=True)
        _, rest = await answer(tcp)
        await tcp.send_all(told(HELLO, START, STOP))
        heard = await until_closed(tcp, rest)
        assert [opcode for opcode, _ in heard if opcode != TEXT] == [CLOSE]
        await tcp.send_all(closing(1000))
        assert await tcp.receive_some() == b""
        await here.until_over()
        await tcp.aclose()


@pytest.mark.parametrize(("lane", "are_hypercorns"), [("0", True), ("1", False)])
async def test_who_pings_a_caller_is_hypercorn_or_the_leg_itself(
    tmp_path: Path, lane: str, are_hypercorns: bool
) -> None:
    async with world(tmp_path, STS_FAST_LANE=lane) as here, here.phone() as phone:
        await talk(here, phone)
        names = [task.name for task in await here.app.server.tasks()]
        assert any("_send_pings" in name for name in names) == are_hypercorns
        await phone.tell(STOP)
        await here.until_over()


@pytest.mark.parametrize("how", ["never says anything", "is quiet", "talks on"])
@pytest.mark.parametrize("lane", ["0", "1"])
async def test_a_caller_who_neither_answers_the_goodbye_nor_goes_is_dropped(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch, lane: str, how: str
) -> None:
    monkeypatch.setattr(call, "HANG_UP_GRACE", 0.1)
    async with world(tmp_path, certificate=site.certificate, STS_FAST_LANE=lane) as here:
        tcp = await handshake(here, site)
        _, rest = await answer(tcp)
        if how == "never says anything":
            here.app.live_calls.shut_down()
        else:
            await tcp.send_all(told(HELLO, START, STOP))
        await until_closed(tcp, rest)
        await here.until_over()
        with trio.fail_after(HANG):
            if how == "talks on":
                with pytest.raises(trio.BrokenResourceError):  # an RST, as nobody reads on
                    await _talk_on(tcp)
            else:
                # A slow machine cuts off what Hypercorn still writes: an RST then.
                allowed = [trio.BrokenResourceError] if lane == "0" else []
                with contextlib.suppress(*allowed):
                    assert await tcp.receive_some() == b""
        await tcp.aclose()


async def _talk_on(tcp: trio.abc.Stream) -> None:
    while True:
        await tcp.send_all(told(media()) * 1000)


async def test_a_caller_in_the_midst_of_a_frame_gets_no_proper_end(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He did not read, so there was no goodbye: what is left is dropped, with an RST."""
    monkeypatch.setattr(call, "HANG_UP_GRACE", 0.1)
    async with world(tmp_path, certificate=site.certificate) as here:
        tcp = await handshake(here, site)
        await answer(tcp)
        await tcp.send_all(told(HELLO, START))
        await here.agent.ready.wait()
        for _ in range(200):
            await here.agent.say(deepgram.Audio(bytes(40_000)))
        here.app.live_calls.shut_down()
        await here.until_over()
        with pytest.raises(trio.BrokenResourceError):
            await _read_to_the_end(tcp)
        await tcp.aclose()


async def _read_to_the_end(tcp: trio.abc.Stream) -> None:
    while await tcp.receive_some():
        pass

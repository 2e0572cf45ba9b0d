"""A handful of the endings again, on real sockets: Hypercorn, Quart, TCP, and TLS.

The same promise, on the real clock: both sockets closed within 2 s, no socket and no task left.
"""

import contextlib
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket
from hypercorn.config import Config as HypercornConfig
from rig_peers import START, STOP, FakeAgent, broken, media, tap
from rig_server import LANE, PROMISE, World, talk, world
from rig_streams import certified

from sts_trio.legs import caller_asgi as caller_leg
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio


@pytest.fixture(params=["fast", "portable"], autouse=True)
def lane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every story is told on both kinds of caller leg."""
    monkeypatch.setitem(LANE, "STS_FAST_LANE", str(int(request.param == "fast")))
    return str(request.param)


async def test_audio_goes_both_ways_and_stop_closes_both_sockets(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.phone() as phone:
        await talk(here, phone)
        await phone.tell(*[media(bytes([n]) * 160) for n in range(50)], STOP)
        code = await phone.play_until_closed()
        assert await here.until_over() < PROMISE
        assert code == 1000
        assert here.agent.closed is not None
        assert here.agent.closed[1] == 1000
        assert here.agent.speech.startswith(
            b"\x21" * 160 + b"".join(bytes([n]) * 160 for n in range(50))
        )
        assert here.endings == ["stop"]


async def test_no_compression_is_agreed_on_and_a_compression_bomb_ends_its_call_uninflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 KiB would be 62 MB before anybody looks at the size of the message."""
    inflated: list[int] = []
    decompressobj = zlib.decompressobj

    def inflating(*arguments: Any) -> object:
        inflated.append(1)
        return decompressobj(*arguments)

    monkeypatch.setattr(zlib, "decompressobj", inflating)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(squeeze.compress(b" " * 1_000_000) for _ in range(62))
    bomb += squeeze.flush(zlib.Z_SYNC_FLUSH)[:-4]
    assert len(bomb) < 65536
    async with world(tmp_path) as here:
        tcp = await trio.open_tcp_stream(*here.address)
        lines = [
            "GET /twilio HTTP/1.1",
            f"Host: 127.0.0.1:{here.address[1]}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: 26ypYvqszHJLGvnF2OKhXQ==",
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        ]
        await tcp.send_all("\r\n".join([*lines, "", ""]).encode())
        head = bytes(await tcp.receive_some())
        assert head.startswith(b"HTTP/1.1 101")
        assert b"extensions" not in head.lower()
        # Final, compressed, text; masked by zeros.
        await tcp.send_all(b"\xc1\xff" + len(bomb).to_bytes(8, "big") + bytes(4) + bomb)
        with contextlib.suppress(trio.BrokenResourceError):
            while await tcp.receive_some():
                pass
        await tcp.aclose()
        await here.until_over()
        assert here.endings == ["caller_lost"]
    assert inflated == []


@pytest.mark.parametrize("how", ["close frame", "FIN", "RST"])
async def test_a_caller_who_goes_without_stop_is_noticed_at_once(tmp_path: Path, how: str) -> None:
    async with world(tmp_path) as here, here.phone() as phone:
        await talk(here, phone)
        if how == "close frame":
            await phone.socket.aclose(1000)
        elif how == "FIN":
            await phone.tcp.aclose()
        else:
            await phone.reset()
        assert await here.until_over() < PROMISE
        await here.agent.over.wait()
        assert here.agent.closed is not None
        assert here.agent.closed[1] == 1000
        assert here.endings == ["caller_closed" if how == "close frame" else "caller_lost"]


async def test_a_hang_up_while_the_agent_is_dialled_abandons_the_dialling(tmp_path: Path) -> None:
    agent = FakeAgent("handshake")
    async with world(tmp_path, agent) as here, here.phone() as phone:
        await phone.tell(twilio.Connected(), START)
        await agent.dialled.wait()
        await phone.tell(STOP)
        assert await phone.play_until_closed() == 1000
        assert await here.until_over() < PROMISE
        await agent.over.wait()


async def test_a_caller_who_stops_reading_is_dropped_and_the_agent_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller_leg, "STALLED_AFTER", 0.3)
    monkeypatch.setattr(caller_leg, "WATCH_EVERY", 0.05)
    async with world(tmp_path) as here, here.phone(receive_buffer=4096) as phone:
        await talk(here, phone)
        # trio-websocket reads until its queue is full, and then no more.
        for _ in range(120):
            await here.agent.say(deepgram.Audio(b"\x11" * 40_000))
            await here.agent.say(*[deepgram.AgentAudioDone()] * 10)
        await here.until_over()
        await here.agent.over.wait()
        assert here.endings == ["caller_stalled"]
        assert here.agent.closed is not None
        assert here.agent.closed[1] == 1000


async def test_a_minute_of_audio_at_once_arrives_whole_and_in_order(tmp_path: Path) -> None:
    minute = bytes(position * 7 % 251 for position in range(60 * 8000))
    async with world(tmp_path) as here, here.phone() as phone:
        await phone.tell(twilio.Connected(), START, media())
        await here.agent.ready.wait()
        for start in range(0, len(minute), 4096):
            await here.agent.say(deepgram.Audio(minute[start : start + 4096]))
        await phone.play_until(lambda audio: len(audio) == len(minute))
        assert phone.audio == minute
        await phone.tell(STOP)
        await phone.play_until_closed()
        await here.until_over()


async def test_a_message_over_a_mebibyte_is_closed_with_1009(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.phone() as phone:
        await talk(here, phone)
        # The goodbye may come before all of it has been said.
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            await phone.socket.send_message("x" * (1024 * 1024 + 1))
        assert await phone.play_until_closed() == 1009
        await here.until_over()
        assert here.endings == ["caller_too_big"]


async def test_a_message_over_hypercorns_own_limit_ends_the_call_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Less than ours. By default it is 16 MiB, which a busy machine takes its time for.
    monkeypatch.setattr(HypercornConfig, "websocket_max_message_size", 512 * 1024)
    async with world(tmp_path) as here, here.phone() as phone:
        await talk(here, phone)
        # The goodbye may come before all of it has been said.
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            await phone.socket.send_message("x" * (1024 * 1024 + 1))
        assert await phone.play_until_closed() == 1009
        await here.until_over()


@pytest.mark.parametrize("how", ["close 1000", "close 1011", "FIN", "RST"])
async def test_an_agent_that_goes_takes_the_caller_along(tmp_path: Path, how: str) -> None:
    async with world(tmp_path) as here, here.phone() as phone:
        await talk(here, phone)
        assert isinstance(here.agent.stream, trio.SocketStream)
        if how.startswith("close"):
            here.agent.close(int(how.split()[1]))
        elif how == "FIN":
            await here.agent.stream.send_eof()
        else:
            linger = struct.pack("ii", 1, 0)
            here.agent.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await here.agent.drop()
        code = await phone.play_until_closed()
        assert await here.until_over() < PROMISE
        assert code == (1000 if how == "close 1000" else 1011)


@pytest.mark.parametrize(
    ("answer", "ending"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "agent_denied"),
        (b"HTTP/1.1 402 Payment Required\r\ncontent-length: 3\r\n\r\npay", "agent_denied"),
        (b"HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n", "agent_rejected"),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", "agent_rejected"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "agent_unreachable"),
        (b"", "agent_unreachable"),
    ],
)
async def test_an_agent_that_answers_with_no_websocket_ends_the_call_at_once(
    tmp_path: Path, answer: bytes, ending: str
) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        await stream.aclose()

    async with world(tmp_path, serve_agent=serve) as here, here.phone() as phone:
        await phone.tell(twilio.Connected(), START)
        assert await phone.play_until_closed() == 1011
        assert await here.until_over() < PROMISE
        assert here.endings == [ending]


async def test_an_agent_that_does_not_listen_ends_the_call_at_once(tmp_path: Path) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{unheard.getsockname()[1]}/v1/agent/converse"
        async with world(tmp_path, DEEPGRAM_URL=url) as here, here.phone() as phone:
            await phone.tell(twilio.Connected(), START)
            assert await phone.play_until_closed() == 1011
            assert await here.until_over() < PROMISE
            assert here.endings == ["agent_unreachable"]


async def test_a_shutdown_says_going_away_to_both(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.phone() as phone:
        await talk(here, phone)
        here.shut_down.set()
        assert await phone.play_until_closed() == 1001
        assert await here.until_over() < PROMISE
        assert here.endings == ["shutdown"]
        assert here.agent.closed is not None
        assert here.agent.closed[1] == 1001


async def test_a_bug_ends_its_own_call_and_no_other(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.phone() as phone:
        await talk(here, phone)
        [call] = here.app.live_calls._calls
        tap(call, broken)
        other = FakeAgent()
        here.agent = other
        await phone.tell(media())
        assert await phone.play_until_closed() == 1011
        await here.until_over()
        assert [line["event"] for line in here.logs].count(events.CallCrashed.NAME) == 1
        assert here.endings == ["crashed"]


async def test_an_unsigned_handshake_is_refused_before_the_upgrade(tmp_path: Path) -> None:
    async with world(tmp_path, TWILIO_AUTH_TOKEN="12345") as here:
        status = await handshake_status(here, "/twilio")
        assert status == 403
        assert await handshake_status(here, "/other") == 404
        here.app.live_calls.drain()


async def test_a_full_server_refuses_the_handshake(tmp_path: Path) -> None:
    async with world(tmp_path, STS_MAX_CALLS="1") as here, here.phone() as phone:
        await talk(here, phone)
        assert await handshake_status(here, "/twilio") == 503
        await phone.tell(STOP)
        await phone.play_until_closed()
        await here.until_over()


async def test_a_burst_of_handshakes_fills_the_server_and_no_more(tmp_path: Path) -> None:
    async with world(tmp_path, STS_MAX_CALLS="2") as here:
        statuses: list[int] = []
        all_answered = trio.Event()

        async def shake_hands() -> None:
            async with await trio.open_tcp_stream(*here.address) as stream:
                statuses.append(await ask_for_websocket(here, stream, "/twilio"))
                if len(statuses) == 10:
                    all_answered.set()
                await all_answered.wait()

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(shake_hands)
        assert sorted(statuses) == [101] * 2 + [503] * 8
        await here.until_over()


async def handshake_status(here: World, path: str) -> int:
    async with await trio.open_tcp_stream(*here.address) as stream:
        return await ask_for_websocket(here, stream, path)


async def ask_for_websocket(here: World, stream: trio.SocketStream, path: str) -> int:
    """The status of the answer."""
    await stream.send_all(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{here.address[1]}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: 26ypYvsqzHJLGvnF2OKhXQ==\r\n\r\n".encode()
    )
    return int((await stream.receive_some()).split()[1])


@pytest.mark.parametrize("pieces", [1, 2], ids=["in one segment", "right behind it"])
@pytest.mark.parametrize(
    "ahead", [b"\x81\x82\x00\x00\x00\x00hi", b"\x81", b"GET / HTTP/1.1\r\n\r\n"]
)
async def test_frames_ahead_of_the_handshakes_answer_are_their_senders_fault(
    tmp_path: Path, pieces: int, ahead: bytes
) -> None:
    """One line, and not of ours: no traceback, no verdict against this server."""
    async with world(tmp_path) as here:
        handshake = "\r\n".join(
            [
                "GET /twilio HTTP/1.1",
                "Host: x",
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                "",
                "",
            ]
        ).encode()
        async with await trio.open_tcp_stream(*here.address) as stream:
            if pieces == 1:
                await stream.send_all(handshake + ahead)
                with contextlib.suppress(trio.BrokenResourceError):
                    async for _ in stream:
                        pass
            else:
                await stream.send_all(handshake)
                await stream.send_all(ahead)
        await here.until_over()
    told = [(line["event"], line["log_level"]) for line in here.logs]
    verdicts = [line.get("verdict") for line in here.logs]
    if pieces == 1:
        assert told == [(events.ConnectionNotUnderstood.NAME, "warning")]
    else:
        # It may have been accepted by then.
        assert (events.CallCrashed.NAME, "error") not in told
        assert "ours" not in verdicts
        assert all(level != "error" for _, level in told)


async def test_a_call_over_tls_without_a_proxy(tmp_path: Path) -> None:
    files, trusting = certified(tmp_path)
    async with (
        world(tmp_path, certificate=files) as here,
        here.phone(tls=trusting) as phone,
    ):
        await talk(here, phone)
        await phone.tell(STOP)
        assert await phone.play_until_closed() == 1000
        assert await here.until_over() < PROMISE
        assert here.endings == ["stop"]


async def test_no_compression_is_offered_to_the_agent(tmp_path: Path) -> None:
    requests: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        requests.append(await stream.receive_some())
        await stream.aclose()

    async with world(tmp_path, serve_agent=serve) as here, here.phone() as phone:
        await phone.tell(twilio.Connected(), START)
        await phone.play_until_closed()
        await here.until_over()
    assert b"sec-websocket-extensions" not in requests[0].lower()
    assert b"authorization: Token key" in requests[0].replace(b"Authorization", b"authorization")

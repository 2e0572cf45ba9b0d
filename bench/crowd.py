"""Callers and agents that cost little, so that a thousand calls can stand on a busy machine.

    python bench/crowd.py PORT AGENT_PORT

They do what keeps a call alive and no more: a frame every few seconds, and no voice. What they do
they are told by lines on stdin, and answer each, when it is done, with how many calls came through:

    stand COUNT RATE            calls that stay, so many a second
    pass COUNT RATE SECONDS     calls that come by the webhook, stay so long and go: by `stop`, by a
                                lost socket, or by the agent's goodbye

At the end of stdin all are gone.
"""

import base64
import collections
import hashlib
import itertools
import re
import socket
import struct
import sys
import urllib.parse
from collections.abc import Awaitable, Callable
from functools import partial
from math import inf
from typing import Any

import trio

from sts_trio.wire import frames, twilio

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
# A caller who sends nothing for 25 s is taken for dead.
FRAME_EVERY = 8.0
# What the agent is told is read so seldom, as it is silence.
READ_EVERY = 0.5
MOST = 1 << 20
# For calls that were placed and are not through yet.
PATIENCE = 30.0

STREAM_SID = "MZ00000000000000000000000000000003"
WELCOME = frames.text(b'{"type":"Welcome","request_id":"crowd"}')
APPLIED = frames.text(b'{"type":"SettingsApplied"}')
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for no time


class Crowd:
    def __init__(self, port: int, agent_port: int) -> None:
        self._port = port
        self._agent_port = agent_port
        self._numbers = itertools.count()
        self._through = 0
        # {why calls did not come through: how many}
        self._lost: collections.Counter[str] = collections.Counter()
        # How long each third agent stays before it says goodbye.
        self._patience = inf

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            answer = partial(_heeding_no_loss, self._answer)
            serve = partial(trio.serve_tcp, answer, self._agent_port, host="127.0.0.1")
            await nursery.start(serve)
            print(0, flush=True)
            async for line in trio.wrap_file(sys.stdin):
                self._through = 0
                self._lost.clear()
                what, count, rate, *seconds = line.split()
                if what == "stand":
                    await self._stand(int(count), float(rate), nursery)
                else:
                    await self._pass(int(count), float(rate), float(seconds[0]))
                for reason, lost in self._lost.items():
                    print(f"{lost} calls did not come through: {reason}", file=sys.stderr)
                print(self._through, flush=True)
            nursery.cancel_scope.cancel()

    async def _stand(self, count: int, rate: float, nursery: trio.Nursery) -> None:
        self._patience = inf
        began = trio.current_time()
        for number in range(count):
            nursery.start_soon(self._call, "", inf)
            await trio.sleep_until(began + (number + 1) / rate)
        with trio.move_on_after(PATIENCE):
            while self._through + self._lost.total() < count:  # noqa: ASYNC110
                await trio.sleep(READ_EVERY)
            return
        waiting = count - self._through - self._lost.total()
        self._lost[f"no answer within {PATIENCE:g} s: server or callers had no CPU"] = waiting

    async def _pass(self, count: int, rate: float, seconds: float) -> None:
        self._patience = seconds
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(self._call, f"CA{next(self._numbers):032x}", seconds)
                await trio.sleep_until(began + (number + 1) / rate)

    # --- callers --------------------------------------------------------------------------------

    async def _call(self, call_sid: str, seconds: float) -> None:
        """With its webhook, if it has a CallSid."""
        began = trio.current_time()
        try:
            parameters = await self._announce(call_sid) if call_sid else {}
            stream = await self._connect()
        except (OSError, trio.BrokenResourceError) as exc:
            after = round(trio.current_time() - began)
            self._lost[f"after {after} s: {exc!r}, caused by {exc.__cause__!r}"] += 1
            return
        self._through += 1
        start = twilio.StreamStart(STREAM_SID, call_sid, custom_parameters=parameters)
        await _heeding_no_loss(partial(self._talk, start, seconds), stream)

    async def _announce(self, call_sid: str) -> dict[str, str]:
        query = urllib.parse.urlencode({"CallSid": call_sid})
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
            head = f"GET /twiml?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            await stream.send_all(head.encode())
            answer = b"".join([bytes(data) async for data in stream])
        if b"<Stream " not in answer:
            raise trio.BrokenResourceError(f"no stream in {answer!r}")
        return dict(re.findall(r'<Parameter name="(\w+)" value="([^"]*)"', answer.decode()))

    async def _connect(self) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        await stream.send_all(
            b"GET /twilio HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        head = await _read_head(stream)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise trio.BrokenResourceError(f"refused: {head!r}")
        return stream

    async def _talk(
        self, start: twilio.StreamStart, seconds: float, stream: trio.SocketStream
    ) -> None:
        is_lost = next(self._numbers) % 2 == 0
        async with stream:
            await _tell(stream, twilio.Start(start, stream_sid=STREAM_SID))
            with trio.move_on_after(seconds):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_speak, stream)
                    await _listen(stream)
                    nursery.cancel_scope.cancel()
                return
            if is_lost:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                return
            await _tell(stream, twilio.Stop(twilio.StreamStop(), stream_sid=STREAM_SID))
            await _listen(stream)

    # --- agents ---------------------------------------------------------------------------------

    async def _answer(self, stream: trio.SocketStream) -> None:
        patience = self._patience if next(self._numbers) % 3 == 0 else inf
        head = await _read_head(stream)
        [key] = re.findall(rb"(?i)sec-websocket-key: *(\S+)", head)
        accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        await stream.send_all(WELCOME)
        with trio.move_on_after(patience):
            await _take(stream)
            return
        await stream.send_all(frames.close(1000))
        await _take(stream)


async def _heeding_no_loss(serve: Callable[[Any], Awaitable[None]], what: Any) -> None:
    """The bridge may drop whom it likes; what that means is told by how many came through. Who
    answers its goodbye may be about to speak."""
    try:
        await serve(what)
    except* (trio.BrokenResourceError, trio.BusyResourceError):
        pass


async def _read_head(stream: trio.SocketStream) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some()
        if not data:
            raise trio.BrokenResourceError(f"no handshake: {head!r}")
        head += data
    return head


async def _tell(stream: trio.SocketStream, message: twilio.Message) -> None:
    await stream.send_all(frames.masked_text(twilio.encode_as_twilio(message).encode()))


async def _speak(stream: trio.SocketStream) -> None:
    while True:
        await _tell(stream, twilio.Media(twilio.Inbound(bytes(160)), stream_sid=STREAM_SID))
        await trio.sleep(FRAME_EVERY)


async def _listen(stream: trio.SocketStream) -> None:
    """Until the bridge has said goodbye, which is answered. Pings are not: frames do as well."""
    reader = frames.FrameReader(MOST, of_server=True)
    while data := await stream.receive_some():
        for frame in reader.feed(bytes(data)):
            if isinstance(frame, frames.Close):
                await stream.send_all(frames.masked(frames.close(frame.code)))
                return


async def _take(stream: trio.SocketStream) -> None:
    """The same for an agent: the settings first, and then it reads seldom."""
    reader = frames.FrameReader(MOST)
    while data := await stream.receive_some():
        for frame in reader.feed(bytes(data)):
            if isinstance(frame, frames.Ping):
                await stream.send_all(frames.pong(frame.payload))
            elif isinstance(frame, frames.Close):
                await stream.send_all(frames.close(frame.code))
                return
            elif isinstance(frame, bytes):  # the only text that it is told
                await stream.send_all(APPLIED)
        await trio.sleep(READ_EVERY)


if __name__ == "__main__":
    trio.run(Crowd(*map(int, sys.argv[1:])).run)

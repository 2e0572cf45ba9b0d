"""The outer limit: a relay on picows and uvloop, the fastest websockets that Python has.

Parser, framing and event loop are Cython and C, there is no task and no queue per message, and the
only Python is two callbacks. It is no product: nothing is bounded, checked, logged or awaited, and
a fragment or a stalled peer is more than it can take. What it shows is how much is left to win.

    PORT=5000 DEEPGRAM_URL=ws://127.0.0.1:5001/v1/agent/converse FORWARD_MS=60 python peer_picows.py
"""

import asyncio
import os
import ssl

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

URL = os.environ["DEEPGRAM_URL"]
PORT = int(os.environ.get("PORT", "5000"))
ENOUGH = int(os.environ.get("FORWARD_MS", "60")) * 8  # bytes of µ-law
TLS = ssl.create_default_context() if URL.startswith("wss:") else None
SERVER_TLS = None
if "CERTIFICATE" in os.environ:
    SERVER_TLS = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    SERVER_TLS.load_cert_chain(os.environ["CERTIFICATE"])
SETTINGS = (
    b'{"type":"Settings","audio":{"input":{"encoding":"mulaw","sample_rate":8000},'
    b'"output":{"encoding":"mulaw","sample_rate":8000,"container":"none"}},"agent":{}}'
)


class Body(msgspec.Struct):
    """What `start` and `media` hold, as far as it is needed."""

    stream_sid: str = msgspec.field(name="streamSid", default="")
    payload: bytes = b""


class Heard(msgspec.Struct):
    event: str
    start: Body | None = None
    media: Body | None = None


class FromAgent(msgspec.Struct):
    type: str


class Payload(msgspec.Struct):
    payload: bytes


class Media(msgspec.Struct, tag_field="event", tag="media"):
    media: Payload
    stream_sid: str = msgspec.field(name="streamSid")


class Clear(msgspec.Struct, tag_field="event", tag="clear"):
    stream_sid: str = msgspec.field(name="streamSid")


hear_caller = msgspec.json.Decoder(Heard).decode
hear_agent = msgspec.json.Decoder(FromAgent).decode
encode = msgspec.json.Encoder().encode


class Caller(WSListener):
    """Twilio's side of a call, and with it the call."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.agent: WSTransport | None = None
        self.stream_sid = ""
        self.gathered = bytearray()
        self.dialling = asyncio.get_running_loop().create_task(self.dial())

    async def dial(self) -> None:
        headers = {"Authorization": "Token x"}
        await ws_connect(lambda: Agent(self), URL, ssl_context=TLS, extra_headers=headers)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            self.hear(hear_caller(frame.get_payload_as_memoryview()))
        elif frame.msg_type is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def hear(self, message: Heard) -> None:
        if message.media is not None:
            self.gathered += message.media.payload
            if len(self.gathered) >= ENOUGH and self.agent is not None:
                self.agent.send(WSMsgType.BINARY, self.gathered)
                self.gathered.clear()
        elif message.start is not None:
            self.stream_sid = message.start.stream_sid

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self.agent is not None:
            if self.gathered:
                self.agent.send(WSMsgType.BINARY, self.gathered)
            self.agent.send_close()
            self.agent.disconnect()


class Agent(WSListener):
    """Deepgram's side of a call."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, SETTINGS)
        self.caller.agent = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        caller = self.caller
        if frame.msg_type is WSMsgType.BINARY:
            media = Media(Payload(frame.get_payload_as_bytes()), caller.stream_sid)
            caller.transport.send(WSMsgType.TEXT, encode(media))
        elif frame.msg_type is WSMsgType.TEXT:
            if hear_agent(frame.get_payload_as_memoryview()).type == "UserStartedSpeaking":
                caller.transport.send(WSMsgType.TEXT, encode(Clear(caller.stream_sid)))
        elif frame.msg_type is WSMsgType.CLOSE:
            transport.disconnect()


async def main() -> None:
    server = await ws_create_server(
        lambda request: Caller(), "127.0.0.1", PORT, ssl=SERVER_TLS, backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())

"""The ancestor: the asyncio script that sts_trio descends from, written anew to be measured.

Three tasks and two unbounded queues a call, twenty media frames gathered before any of them is
forwarded, no ending but the caller's, and an exception of any kind ends the caller's audio and
nothing else. All of that is its behaviour, as published in `deepgram-devs/sts-twilio`, and is kept:
this file is never improved and never weakened, so that what is measured against it stays the same.

Changed only: Deepgram's URL and the port come from the environment, nothing is printed (which is
in its favour), `Settings` is in today's wording, and the names are those of today's `websockets`.

    PORT=5000 DEEPGRAM_URL=ws://127.0.0.1:5001/v1/agent/converse python ancestor.py [--uvloop]
"""

import asyncio
import base64
import json
import os
import ssl
import sys

import websockets

SETTINGS = {
    "type": "Settings",
    "audio": {
        "input": {"encoding": "mulaw", "sample_rate": 8000},
        "output": {"encoding": "mulaw", "sample_rate": 8000, "container": "none"},
    },
    "agent": {
        "listen": {"provider": {"type": "deepgram", "model": "nova-3"}},
        "think": {
            "provider": {"type": "open_ai", "model": "gpt-4o-mini"},
            "prompt": "You are a helpful car seller.",
        },
        "speak": {"provider": {"type": "deepgram", "model": "aura-2-thalia-en"}},
    },
}


def sts_connect():
    return websockets.connect(
        os.environ["DEEPGRAM_URL"], additional_headers={"Authorization": "Token x"}
    )


async def twilio_handler(twilio_ws):
    audio_queue = asyncio.Queue()
    streamsid_queue = asyncio.Queue()

    async with sts_connect() as sts_ws:
        await sts_ws.send(json.dumps(SETTINGS))

        async def sts_sender(sts_ws):
            while True:
                chunk = await audio_queue.get()
                await sts_ws.send(chunk)

        async def sts_receiver(sts_ws):
            # Nothing can be said to the caller before the stream has a name.
            streamsid = await streamsid_queue.get()
            async for message in sts_ws:
                if type(message) is str:
                    if json.loads(message)["type"] == "UserStartedSpeaking":
                        clear = {"event": "clear", "streamSid": streamsid}
                        await twilio_ws.send(json.dumps(clear))
                    continue
                media = {
                    "event": "media",
                    "streamSid": streamsid,
                    "media": {"payload": base64.b64encode(message).decode("ascii")},
                }
                await twilio_ws.send(json.dumps(media))

        async def twilio_receiver(twilio_ws):
            buffer_size = 20 * 160
            inbuffer = bytearray(b"")
            async for message in twilio_ws:
                try:
                    data = json.loads(message)
                    if data["event"] == "start":
                        streamsid_queue.put_nowait(data["start"]["streamSid"])
                    if data["event"] == "connected":
                        continue
                    if data["event"] == "media":
                        media = data["media"]
                        chunk = base64.b64decode(media["payload"])
                        if media["track"] == "inbound":
                            inbuffer.extend(chunk)
                    if data["event"] == "stop":
                        break
                    while len(inbuffer) >= buffer_size:
                        audio_queue.put_nowait(inbuffer[:buffer_size])
                        inbuffer = inbuffer[buffer_size:]
                except:  # noqa: E722  # the ancestor's own
                    break

        await asyncio.wait(
            [
                asyncio.ensure_future(sts_sender(sts_ws)),
                asyncio.ensure_future(sts_receiver(sts_ws)),
                asyncio.ensure_future(twilio_receiver(twilio_ws)),
            ]
        )
        await twilio_ws.close()


async def router(websocket):
    if websocket.request.path == "/twilio":
        await twilio_handler(websocket)


async def main():
    tls = None
    if "CERTIFICATE" in os.environ:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(os.environ["CERTIFICATE"])
    port = int(os.environ.get("PORT", "5000"))
    async with websockets.serve(router, "localhost", port, ssl=tls):
        await asyncio.Future()


if __name__ == "__main__":
    if "--uvloop" in sys.argv[1:]:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())

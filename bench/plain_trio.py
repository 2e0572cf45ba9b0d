"""The same stack with nothing of ours: what its parts cost when they are put together as their
manuals have it.

Hypercorn's Trio worker, its websocket by ASGI, trio-websocket for the agent's, and a nursery with
two tasks a call. Nothing is bounded, no side is told why the other has ended, and no silence is
noticed. A set-up that costs more than here would be of our making.

    PORT=5000 DEEPGRAM_URL=ws://127.0.0.1:5001/v1/agent/converse python plain_trio.py
"""

import base64
import json
import os
from functools import partial

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket_url

URL = os.environ["DEEPGRAM_URL"]
SETTINGS = json.dumps(
    {
        "type": "Settings",
        "audio": {
            "input": {"encoding": "mulaw", "sample_rate": 8000},
            "output": {"encoding": "mulaw", "sample_rate": 8000, "container": "none"},
        },
        "agent": {},
    }
)


async def app(scope, receive, send):
    await receive()
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "websocket.accept"})
    try:
        async with open_websocket_url(URL, extra_headers=[("Authorization", "Token x")]) as agent:
            await agent.send_message(SETTINGS)
            stream = {"streamSid": ""}
            async with trio.open_nursery() as nursery:
                nursery.start_soon(from_agent, agent, send, stream, nursery.cancel_scope)
                await from_caller(receive, agent, stream)
                nursery.cancel_scope.cancel()
    except* (ConnectionClosed, HandshakeError):
        pass
    await send({"type": "websocket.close"})


async def from_caller(receive, agent, stream):
    while (event := await receive())["type"] == "websocket.receive":
        data = json.loads(event["text"])
        if data["event"] == "start":
            stream["streamSid"] = data["streamSid"]
        elif data["event"] == "media":
            await agent.send_message(base64.b64decode(data["media"]["payload"]))
        elif data["event"] == "stop":
            return


async def from_agent(agent, send, stream, call):
    try:
        while True:
            message = await agent.get_message()
            if isinstance(message, bytes):
                payload = base64.b64encode(message).decode("ascii")
                event = {"event": "media", **stream, "media": {"payload": payload}}
            elif json.loads(message)["type"] == "UserStartedSpeaking":
                event = {"event": "clear", **stream}
            else:
                continue
            await send({"type": "websocket.send", "text": json.dumps(event)})
    except ConnectionClosed:
        call.cancel()


config = Config()
config.bind = [f"127.0.0.1:{os.environ.get('PORT', '5000')}"]
if "CERTIFICATE" in os.environ:
    config.certfile = config.keyfile = os.environ["CERTIFICATE"]

if __name__ == "__main__":
    trio.run(partial(serve, app, config))

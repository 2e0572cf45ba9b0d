"""A served app that Twilio's webhook announces calls to, and the agents that it dials."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import trio
from rig_app import body_of, post
from rig_peers import CALL_SID, START, STOP, FakeAgent
from rig_server import PROMISE, Answer, Phone, World, answer_in, world

from sts_trio.wire import twilio

CALL = {
    "CallSid": CALL_SID,
    "From": "+15005550001",
    "To": "+15005550006",
    "CallStatus": "ringing",
    "Direction": "inbound",
}
GREETING = b"\x11" * 1600


class Agents:
    """Serves one agent after the other."""

    def __init__(self, *agents: FakeAgent) -> None:
        self.agents = agents
        self.dials = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        self.dials += 1
        await self.agents[self.dials - 1].serve(stream)


@contextlib.asynccontextmanager
async def ringing(
    tmp_path: Path, *agents: FakeAgent, **environ: Any
) -> AsyncIterator[tuple[World, Agents]]:
    row = Agents(*agents)
    async with world(tmp_path, agents[0], serve_agent=row.serve, **environ) as here:
        yield here, row


async def announce(here: Any, **changes: str) -> Answer:
    """Twilio's webhook, and what it is answered with."""
    return answer_in(await body_of(await post(here.app, "/twiml", CALL | changes)))


def start(parameters: dict[str, str]) -> twilio.Start:
    stream = msgspec.structs.replace(START.start, custom_parameters=parameters)
    return msgspec.structs.replace(START, start=stream)


async def hang_up(here: World, phone: Phone) -> None:
    await phone.tell(STOP)
    assert await phone.play_until_closed() == 1000
    assert await here.until_over() < PROMISE

"""A call that Twilio streams by somebody else's TwiML: it is ended, or transferred, by asking."""

import contextlib
from collections.abc import AsyncIterator

import trio
from rig_peers import CALL_SID, STREAM_SID, FakeAgent, Phone, make_call, media, settle

from sts_trio.bridge.release import ReleasePhoneCall
from sts_trio.bridge.run import Bridge
from sts_trio.wire import twilio

BIN = twilio.Start(
    twilio.StreamStart(STREAM_SID, CALL_SID, custom_parameters={"from": "+15005550001"}),
    stream_sid=STREAM_SID,
)


@contextlib.asynccontextmanager
async def talking_from_a_bin(
    phone: Phone, agent: FakeAgent, release_phone_call: ReleasePhoneCall
) -> AsyncIterator[Bridge]:
    """A call in which both sides talk; nothing of it is left behind the block, which ends it."""
    async with trio.open_nursery() as tasks:
        call = make_call(
            tasks,
            phone,
            agent,
            release_phone_call=release_phone_call,
            may_transfer=lambda number: True,
        )
        tasks.start_soon(call.run)
        phone.tell(BIN, media())
        await agent.ready.wait()
        await settle(phone)
        yield call

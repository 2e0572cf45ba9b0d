"""A phone call that our webhook did not answer is ended, or transferred, by asking Twilio."""

from collections.abc import Awaitable, Callable

import trio

from sts_trio.call.info import CallInfo
from sts_trio.errors import Ending
from sts_trio.logic.acts import CallReleased

# A request or two to Twilio. The caller hears nothing meanwhile.
RELEASE_WITHIN = 5.0

# Has Twilio end the phone call, or transfer it, as the ending says.
ReleasePhoneCall = Callable[[CallInfo, Ending], Awaitable[CallReleased]]


async def released(
    release_phone_call: ReleasePhoneCall, call: CallInfo, ending: Ending
) -> CallReleased:
    """What came of it, in time or not."""
    late = f"Twilio: no answer within {RELEASE_WITHIN:g} s; it may be done yet"
    came = CallReleased(late)
    with trio.move_on_after(RELEASE_WITHIN):
        came = await release_phone_call(call, ending)
    return came

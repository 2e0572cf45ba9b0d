"""What is owed to the caller when a call's stream is over. Pure.

It depends on whether somebody is on the line, and on what they have been told; never on who was to
blame, nor on which process is asked. "In progress" means that somebody is there: who has not heard
a goodbye is in the middle of a call, whether a proxy has cut its socket, the process is gone that
had it, or its stream was never let in.
"""

import enum

from sts_trio.errors import Cause, Ending
from sts_trio.wire.webhook import VoiceRequest

# The agent has said goodbye, and the caller has heard it.
_SAID_GOODBYE = frozenset(
    {Cause.HUNG_UP, Cause.NOT_HUNG_UP, Cause.AGENT_FINISHED, Cause.SILENCE, Cause.TIME_UP}
)
_TAKEN = ("completed", "answered")


class Owed(enum.Enum):
    NOTHING = "nothing"  # nobody is there, or everything has been said
    TRANSFER = "the transfer"  # that the call has ended with
    REGRET = "regret"  # that nobody took the call at the other number
    CALL = "the call"  # that was broken off


def owed(voice: VoiceRequest, ending: Ending | None) -> Owed:
    """`ending` is how the call ended here, None if nothing is known of that."""
    if voice.is_over:
        return Owed.NOTHING
    if voice.dial_call_status:
        # Whoever was talked with has said goodbye.
        return Owed.NOTHING if voice.dial_call_status in _TAKEN else Owed.REGRET
    if ending is None:
        return Owed.CALL
    if ending.cause is Cause.TRANSFERRED:
        return Owed.TRANSFER
    if ending.apologised or ending.cause in _SAID_GOODBYE:
        return Owed.NOTHING
    return Owed.CALL

"""The phases of a call, how long each may last, and what it means when a leg ends. Pure."""

import enum

from sts_trio.errors import Cause, How, Leg, LegEnded

# Twilio sends `connected` and `start` at once; ten seconds is a stranger, not a slow network.
START_TIMEOUT = 10.0
# Each step of the agent's session: socket, `Welcome`, `SettingsApplied`. The slowest takes 0.2 s.
AGENT_TIMEOUT = 5.0


class Phase(enum.Enum):
    AWAITING_START = enum.auto()
    DIALLING = enum.auto()
    AWAITING_WELCOME = enum.auto()
    AWAITING_APPLIED = enum.auto()
    TALKING = enum.auto()
    PARTING = enum.auto()
    HUNG_UP = enum.auto()


# {phase: (how long it may last, the cause if it lasts longer)}
LIMITS = {
    Phase.AWAITING_START: (START_TIMEOUT, Cause.CALLER_NO_START),
    Phase.DIALLING: (AGENT_TIMEOUT, Cause.AGENT_NO_HANDSHAKE),
    Phase.AWAITING_WELCOME: (AGENT_TIMEOUT, Cause.AGENT_NO_WELCOME),
    Phase.AWAITING_APPLIED: (AGENT_TIMEOUT, Cause.AGENT_NO_SETTINGS_APPLIED),
}

_ENDS = {
    (Leg.CALLER, How.CLOSED): Cause.CALLER_CLOSED,
    (Leg.CALLER, How.LOST): Cause.CALLER_LOST,
    (Leg.CALLER, How.SILENT): Cause.CALLER_SILENT,
    (Leg.CALLER, How.STALLED): Cause.CALLER_STALLED,
    (Leg.AGENT, How.CLOSED): Cause.AGENT_CLOSED,
    (Leg.AGENT, How.LOST): Cause.AGENT_LOST,
    (Leg.AGENT, How.SILENT): Cause.AGENT_SILENT,
    (Leg.AGENT, How.STALLED): Cause.AGENT_SILENT,
}
# Key, funds, rights, path: the operator's to set right.
_DENIED = {401, 402, 403, 404}


def cause_of_end(ended: LegEnded) -> Cause:
    """Why the call ends, if it ends by this."""
    return _ENDS[ended.leg, ended.how]


def cause_of_failed_dial(status: int | None) -> Cause:
    """The same for an agent that answered with that HTTP status, or (`None`) not at all."""
    if status is None:
        return Cause.AGENT_UNREACHABLE
    return Cause.AGENT_DENIED if status in _DENIED else Cause.AGENT_REJECTED

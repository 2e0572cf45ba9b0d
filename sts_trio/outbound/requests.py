"""What may be asked for when a call is to be placed: a request, checked field by field."""

import enum
import re
from collections.abc import Mapping, Sequence

import msgspec

from sts_trio.call.info import is_ours
from sts_trio.config import Config
from sts_trio.errors import DialRefused
from sts_trio.wire import webhook
from sts_trio.wire.addresses import NUMBER
from sts_trio.wire.printable import quoted

# Of our own making, so bounded.
MAX_PARAMETERS = 20
MAX_MESSAGE = 3000  # Twilio's limit for the stricter voices (warning 13521)

_A_NUMBER = "a number like +15005550006"


class OnMachine(enum.Enum):
    """What to do when a machine answers."""

    HANG_UP = "hang_up"
    LEAVE_MESSAGE = "leave_message"  # after the beep


class DialRequest(msgspec.Struct, frozen=True):
    """A call that was asked for, checked."""

    to: str
    agent: str
    parameters: dict[str, str]
    on_machine: OnMachine
    message: str


def checked(
    config: Config,
    to: str,
    agent: str | None,
    parameters: Mapping[str, str] | None,
    on_machine: OnMachine,
    message: str | None,
    *,
    missing: Sequence[str],
) -> DialRequest:
    """The request, if this configuration allows it. `missing`: variables that are not set, and
    without which nothing can be placed.

    Raises:
        DialRefused: it does not; each field at fault is named.
    """
    faults = {
        "to": None if re.fullmatch(NUMBER, to) else f"expected {_A_NUMBER}, got {quoted(to)}",
        "agent": _agent_fault(config, agent),
        "parameters": _parameters_fault(parameters or {}),
        "message": _message_fault(on_machine, message),
    }
    fields = {name: fault for name, fault in faults.items() if fault is not None}
    if fields:
        told = "; ".join(f"{name}: {fault}" for name, fault in fields.items())
        raise DialRefused("invalid", 400, told, fields=fields)
    if missing:
        if not config.dial_prefixes:
            missing = [*missing, "STS_DIAL_PREFIXES"]
        raise DialRefused("not_configured", 503, f"no call can be placed: set {', '.join(missing)}")
    if not config.dial_prefixes:
        raise DialRefused(
            "prefix",
            403,
            "nothing may be dialled: set STS_DIAL_PREFIXES to the beginnings of the numbers"
            " that may, such as +1",
        )
    if not config.may_dial(to):
        raise DialRefused(
            "prefix",
            403,
            f"{to} may not be dialled: no prefix in {config.where('STS_DIAL_PREFIXES')} allows it",
        )
    # Of an outbound call, `From` is the number of ours that [numbers] may know.
    name = agent or config.agent_for(config.caller_id or "")
    return DialRequest(to, name, dict(parameters or {}), on_machine, message or "")


def _agent_fault(config: Config, agent: str | None) -> str | None:
    if agent is None or agent in config.agents:
        return None
    return f"expected one of {', '.join(config.agents)}, got {quoted(agent)}"


def _parameters_fault(parameters: Mapping[str, str]) -> str | None:
    if len(parameters) > MAX_PARAMETERS:
        return f"expected at most {MAX_PARAMETERS}, got {len(parameters)}"
    for name, value in parameters.items():
        if not name or len(name) + len(value) >= webhook.PARAMETER_LIMIT:
            return (
                f"expected a name, and with the value fewer than {webhook.PARAMETER_LIMIT}"
                f" characters, got {quoted(name)} with {len(value)}"
            )
        if is_ours(name):
            return f"{name} is a name of ours: give it another"
    return None


def _message_fault(on_machine: OnMachine, message: str | None) -> str | None:
    if on_machine is OnMachine.HANG_UP:
        return None if not message else "expected only together with on_machine leave_message"
    if not message:
        return "expected what to say after the beep"
    # What XML has to escape grows.
    fits = len(webhook.leave_message(message)) <= webhook.REST_TWIML_LIMIT
    if len(message) > MAX_MESSAGE or not fits:
        return f"expected at most {MAX_MESSAGE} characters, fewer with many of & < >"
    return None

"""A phone call talks with a speech-to-speech voice agent, on Trio."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "AgentChoice",
    "AgentRefused",
    "AgentTimedOut",
    "Call",
    "CallInfo",
    "CallOver",
    "Cause",
    "Ending",
    "FunctionFailed",
    "HandOver",
    "NumberRefused",
    "create_app",
    "function",
    "hand_over",
]

# {what users' code needs: its home}, imported when asked for: `sts-trio --help` needs none of it.
_HOMES = {
    "AgentChoice": "sts_trio.agents.choice",
    "AgentRefused": "sts_trio.errors",
    "AgentTimedOut": "sts_trio.errors",
    "Call": "sts_trio.call.api",
    "CallInfo": "sts_trio.call.info",
    "CallOver": "sts_trio.errors",
    "Cause": "sts_trio.errors",
    "Ending": "sts_trio.errors",
    "FunctionFailed": "sts_trio.errors",
    "HandOver": "sts_trio.functions.decorator",
    "NumberRefused": "sts_trio.errors",
    "create_app": "sts_trio.web.app",
    "function": "sts_trio.functions.decorator",
    "hand_over": "sts_trio.functions.decorator",
}

if TYPE_CHECKING:
    from sts_trio.agents.choice import AgentChoice
    from sts_trio.call.api import Call
    from sts_trio.call.info import CallInfo
    from sts_trio.errors import (
        AgentRefused,
        AgentTimedOut,
        CallOver,
        Cause,
        Ending,
        FunctionFailed,
        NumberRefused,
    )
    from sts_trio.functions.decorator import HandOver, function, hand_over
    from sts_trio.web.app import create_app
else:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)

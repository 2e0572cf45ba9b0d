"""A phone call talks with a speech-to-speech voice agent, on Trio."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Call", "FunctionFailed", "function", "hand_over"]

# {what users' functions need: its home}, imported when asked for: `sts-trio --help` needs none.
_HOMES = {
    "Call": "sts_trio.call.api",
    "FunctionFailed": "sts_trio.errors",
    "function": "sts_trio.functions.decorator",
    "hand_over": "sts_trio.functions.decorator",
}

if TYPE_CHECKING:
    from sts_trio.call.api import Call
    from sts_trio.errors import FunctionFailed
    from sts_trio.functions.decorator import function, hand_over
else:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)

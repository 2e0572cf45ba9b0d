"""Breaks the reference cycle that wsproto leaves behind each websocket.

Its parser is a generator, which has the protocol, which has it. Only the garbage collector would
find those seven objects, and it stops every call while it looks (`bridge/collector.py`).

This touches wsproto's insides. Where they have changed, the cycle stays, and nothing breaks.
"""

from wsproto.connection import Connection


def break_cycle(websocket: Connection | None) -> None:
    """Of a websocket that is over: it can parse nothing any more. None is one that never was."""
    protocol = getattr(websocket, "_proto", None)
    if protocol is not None and hasattr(protocol, "_parse_more"):
        del protocol._parse_more

"""Whom a caller of the simulated carrier may be connected to."""

import msgspec


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whom a call may be connected to: by `<Dial>`, or out of a queue."""

    answers_after: float = 2.0  # seconds; `math.inf`: nobody is there
    is_busy: bool = False
    says: bytes = b""  # µ-law, when they answer
    talks: float = 5.0  # seconds until they hang up, unless the caller does

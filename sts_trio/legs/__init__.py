"""The two sides of a call, each one socket spoken to in typed messages.

A leg is opened by an async context manager that owns its socket for its whole life, and offers

* `listen(hear, idle)`: hands on what comes, in batches of one message or more, until the leg is
  over; the very last message is `LegEnded`. What `hear` raises comes out of `listen`.
* `try_send(message)`: sends at once, if that can be done whole and without waiting.
* `send(message)`: sends in order, waiting as long as it takes; does nothing once the leg is down.
* `is_polled`: whether the leg is looked at many times a second, and `idle` called with the time
  whenever there was nothing. Then who listens needs no timer of their own until `listen` is over.
* `is_prepared` (the agent's only): `Settings` were sent already, and are not to be sent again. What
  the agent said since, from `Welcome` on, is heard first.
* `aclose(code)`: the goodbye, a close frame with that code.

Leaving the context, by goodbye or by cancellation, closes the socket.
"""

from collections.abc import Callable

Idle = Callable[[float], None]


def ignore(now: float) -> None:
    """The default `idle` callback: does nothing."""

"""The two sides of a call, each one socket spoken to in typed messages.

A leg is opened by an async context manager that owns its socket for its whole life, and offers

* `receive()`: the next batch of messages, one or more; the last batch ends with `LegEnded`,
* `send(message)`: one message, in order; nothing happens once the leg is down,
* `aclose(code)`: the goodbye, a close frame with that code.

Leaving the context, by goodbye or by cancellation, closes the socket.
"""

"""Keeps one connection's trouble from becoming the server's: what Hypercorn 0.18 lacks on Trio.

`install()` puts `tcp.Connection` in the place of Hypercorn's `TCPServer`, the handler of one
accepted connection, so that, whichever way Hypercorn is started:

- A connection that makes no progress, or whose peer is gone, is over within a named time, whatever
  its tasks wait for. `law.py` has the times.
- An exception ends the connection it arose in, and nothing else. Upstream it ends the server and
  every call on it (Hypercorn issues #225, #177, #203 and #329).
- HTTP/1.1 is spoken, one request after the other, and nothing else (`http.py`): no pipelining, no
  HTTP/2. TLS offers no other.
- There is a cap on connections that are no calls, and a reserve of descriptors for those that are
  (`strangers.py`, `descriptors.py`).
- Connections are kept for longer than proxies keep them, unless the operator has chosen a time.
- Dead peers are found: pings are turned on, unless the operator has chosen an interval, so that a
  live peer always has something to say, and the kernel gives up on a peer that acknowledges
  nothing.
- A handler may know its connection, see `connection`, and set the pace at which it is read.

This reaches into Hypercorn's insides, hence the check of its version.
"""

import importlib.metadata
import logging
import ssl
from collections.abc import Callable
from functools import wraps
from typing import Any

import hypercorn.trio.run
from hypercorn.config import Config

from sts_trio.net.hypercorn_guard.descriptors import raise_limit
from sts_trio.net.hypercorn_guard.strangers import NoTracebacks, Strangers
from sts_trio.net.hypercorn_guard.tcp import Connection, connection, reset_on_close
from sts_trio.observe import events
from sts_trio.observe.report import report

__all__ = [
    "KEEP_ALIVE",
    "PING_INTERVAL",
    "Connection",
    "connection",
    "install",
    "raise_limit",
    "reset_on_close",
    "retire",
]

# Well inside the times after which proxies forget an idle connection (60 s and up), and often
# enough that two lost pongs tell a dead peer within half a minute.
PING_INTERVAL = 10.0
# How long a connection is kept for its next request. Who keeps it open has to be the one that
# closes it, else a request meets the close, and a proxy answers Twilio with 502: nginx, HAProxy and
# AWS keep theirs for 60 s, cloudflared, ngrok and whatever else is Go's for 90 s, Caddy for 120 s.
# (Google's keep theirs for 600 s.)
KEEP_ALIVE = 130.0
# Of Hypercorn's settings, where the operator has not chosen otherwise.
_SETTINGS = {
    "websocket_ping_interval": PING_INTERVAL,
    "keep_alive_timeout": KEEP_ALIVE,
    # Browsers and proxies open another, at the price of a round trip in a hundred.
    "keep_alive_max_requests": 100,
    "ssl_handshake_timeout": 10.0,  # two round trips; Twilio gives a webhook 15 s in all
}

_Create = Callable[[Config], ssl.SSLContext | None]

_no_tracebacks = NoTracebacks()


def install() -> None:
    """Guard every connection this process accepts from now on. May be called again.

    Does nothing, and says so, under a Hypercorn whose insides this module does not know.
    """
    version = importlib.metadata.version("hypercorn")
    if version.split(".")[:2] != ["0", "18"]:
        report(
            events.GuardNotInstalled(
                hypercorn=version,
                expected="0.18",
                unprotected="one malformed connection may end the server and every call on it,"
                " connections of peers who are gone may stay for ever and block shutdown,"
                " and dead peers go unnoticed",
            )
        )
        return
    run: Any = hypercorn.trio.run
    if run.TCPServer is Connection:
        return
    run.TCPServer = Connection
    for name, value in _SETTINGS.items():
        setattr(Config, name, value)
    setattr(Config, "create_ssl_context", _without_h2(Config.create_ssl_context))  # noqa: B010
    # To the same logger twice would be once.
    logging.getLogger("trio.serve_listeners").addFilter(_no_tracebacks)


def retire() -> None:
    """From now on another process accepts what this one would have. Connections that are kept end,
    the others with their next answer."""
    Strangers.of_this_run().retire()


def _without_h2(create: _Create) -> _Create:
    @wraps(create)
    def create_ssl_context(config: Config) -> ssl.SSLContext | None:
        config.alpn_protocols = ["http/1.1"]
        return create(config)

    return create_ssl_context

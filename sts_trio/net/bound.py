"""Where this server can be reached, as its server, Hypercorn, knows when it starts the app up."""

import contextlib
import socket
from typing import Any, NamedTuple

import hypercorn.config


class Bound(NamedTuple):
    host: str  # an address, as digits
    port: int
    is_secure: bool

    @property
    def url(self) -> str:
        return url_of(self.host, self.port, is_secure=self.is_secure)


def url_of(host: str, port: int, *, is_secure: bool) -> str:
    """Where a client on this machine reaches the server that was told to listen on `host`."""
    # Who listens everywhere is reached on the loopback.
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    scheme = "https" if is_secure else "http"
    return f"{scheme}://[{name}]:{port}" if ":" in name else f"{scheme}://{name}:{port}"


def bound_of(receive: Any) -> list[Bound]:
    """What Hypercorn is bound to; `receive` is the callable of its lifespan.

    Nothing is known under another server, behind an ASGI middleware, and of a port that the kernel
    is yet to choose. What is no TCP is left out.
    """
    config = getattr(getattr(receive, "__self__", None), "config", None)
    if not isinstance(config, hypercorn.config.Config):
        return []
    binds = [(each, config.ssl_enabled) for each in config.bind]
    if config.ssl_enabled:
        binds += [(each, False) for each in config.insecure_bind]
    found = []
    for bind, is_secure in binds:
        with contextlib.suppress(OSError, ValueError):
            host, port = _address(bind)
            if port:
                found.append(Bound(host, port, is_secure))
    return found


def _address(bind: str) -> tuple[str, int]:
    """As Hypercorn reads it (`hypercorn.config.Config._create_sockets`).

    Raises:
        OSError, ValueError: it is of another kind, or nothing that can be bound to.
    """
    if bind.startswith("unix:"):
        raise ValueError("no TCP")
    if bind.startswith("fd://"):
        with socket.socket(fileno=socket.dup(int(bind.removeprefix("fd://")))) as listener:
            name = listener.getsockname()
        return str(name[0]), int(name[1])
    host, port = bind.replace("[", "").replace("]", ""), "8000"
    if ":" in host:
        host, port = host.rsplit(":", 1)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    [*_, name], *_ = socket.getaddrinfo(
        host or None, int(port), family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return str(name[0]), int(name[1])

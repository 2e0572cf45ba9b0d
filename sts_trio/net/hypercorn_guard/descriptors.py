"""How many files and sockets this process may hold."""

import contextlib
import sys
from math import inf

import structlog

if sys.platform != "win32":
    import resource

# Kept free of connections: for the agents that calls dial (a dial may race two addresses), for name
# look-ups in threads, and for files.
RESERVE = 32
# What there is beside calls: RESERVE, the process's own (20), and a hundred or two of webhooks,
# pages and proxies' pools.
BESIDE_CALLS = 200
# macOS calls its hard limit unlimited, and takes no more than this.
_MAX_ON_MACOS = 10_240

_logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def limit() -> float:
    """Inf where there is none to be known, as on Windows."""
    if sys.platform == "win32":
        return inf
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return inf if soft == resource.RLIM_INFINITY else soft


def are_scarce(newest: int) -> bool:
    """Judged by the number of a descriptor that has just been opened: all below it are in use."""
    return newest >= limit() - RESERVE


def raise_limit(calls: int) -> None:
    """To all that the system allows this process. Warns if so many calls, with two sockets each,
    do not fit."""
    if sys.platform != "win32":
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for soft in (hard, _MAX_ON_MACOS):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                break
    needed = 2 * calls + BESIDE_CALLS
    if limit() < needed:
        _logger.warning(
            "descriptors.too_few",
            limit=limit(),
            needed=needed,
            calls=calls,
            what_to_do="raise the hard limit (ulimit -Hn; LimitNOFILE= of a systemd unit),"
            " or lower STS_MAX_CALLS",
        )

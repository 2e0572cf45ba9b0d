"""How many files and sockets this process may hold."""

import contextlib
from math import inf

from sts_trio.observe import events
from sts_trio.observe.report import report

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Kept free of connections: for the agents that calls dial (a dial may race two addresses), for name
# look-ups in threads, and for files.
RESERVE = 32
# What there is beside calls: RESERVE, the process's own (20), and a hundred or two of webhooks,
# pages and proxies' pools.
BESIDE_CALLS = 200
# macOS calls its hard limit unlimited, and takes no more than this.
_MAX_ON_MACOS = 10_240


Limits = tuple[int, int]  # what is allowed, and what it may be raised to


def limits() -> Limits | None:
    """None where there are none to be known."""
    return None if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)


def set_limits(wanted: Limits | None) -> None:
    """Raises ValueError or OSError where the system does not allow that."""
    if wanted is not None and resource is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, wanted)


def limit() -> float:
    known = limits()
    return inf if known is None or known[0] < 0 else known[0]


def are_scarce(newest: int) -> bool:
    """Judged by the number of a descriptor that has just been opened: all below it are in use."""
    return newest >= limit() - RESERVE


def raise_limit(calls: int, each: int = 2) -> None:
    """To all that the system allows this process. Warns if so many calls, with so many descriptors
    each, do not fit."""
    if (known := limits()) is not None:
        hard = known[1]
        for soft in (hard, _MAX_ON_MACOS):
            with contextlib.suppress(ValueError, OSError):
                set_limits((soft, hard))
                break
    needed = each * calls + BESIDE_CALLS
    if limit() < needed:
        report(
            events.DescriptorsTooFew(
                limit=limit(),
                needed=needed,
                calls=calls,
                what_to_do="raise the hard limit (ulimit -Hn; LimitNOFILE= of a systemd unit),"
                " or lower STS_MAX_CALLS",
            )
        )

"""Which bridge is to be tested, and whether it is on this machine."""

import ipaddress
import socket
from urllib.parse import SplitResult

import msgspec
import trio

from sts_trio.errors import StsTrioError
from sts_trio.simulate.connect import (
    HTTP,
    WEBSOCKET,
    NotConnected,
    host_of,
    parts_of,
    target_of,
)


class NotOurs(StsTrioError):
    """The address is not this machine's, and nobody has said that it is theirs."""


class Target(msgspec.Struct, frozen=True):
    """A URL that was resolved once: it is dialled at the address that was looked at."""

    url: str
    address: str  # in digits
    port: int
    is_secure: bool
    is_webhook: bool
    name: str  # of the host
    host: str  # as a request names it
    path: str  # with the query


async def find(url: str, *, is_ours: bool) -> Target:
    """Where a bridge's websocket is, or its webhook. `is_ours`: the operator says so, whatever the
    address.

    Raises:
        NotAUrl: nothing can be called by it.
        NotConnected: there is no such host.
        NotOurs: one of its addresses is not this machine's.
    """
    is_webhook = url.startswith(HTTP)
    parts, port = parts_of(url, HTTP if is_webhook else WEBSOCKET)
    addresses = await _addresses(parts, port)
    foreign = [each for each in addresses if not is_of_this_machine(each)]
    if foreign and not is_ours:
        raise NotOurs(
            f"{url}: it leads to {foreign[0]}, which is not this machine: a load test of what is"
            " not yours is an attack. If it is yours, say so by --yes-i-own-it"
        )
    return Target(
        url=url,
        address=addresses[0],
        port=port,
        is_secure=parts.scheme in ("https", "wss"),
        is_webhook=is_webhook,
        name=parts.hostname or "",
        host=host_of(parts),
        path=target_of(parts),
    )


async def _addresses(parts: SplitResult, port: int) -> list[str]:
    """All that the name stands for, those of IPv4 first: a bridge listens there in any case."""
    try:
        found = await trio.socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise NotConnected(f"{parts.hostname}: {reason}") from None
    found.sort(key=lambda each: each[0] != socket.AF_INET)
    return [str(each[4][0]) for each in found]


def is_of_this_machine(address: str) -> bool:
    """Whether nobody else can be reached by it: on this machine it can be bound to."""
    digits = address.partition("%")[0]
    if ipaddress.ip_address(digits).is_loopback:
        return True
    family = socket.AF_INET6 if ":" in digits else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as bound:
            bound.bind((address, 0))
    except OSError:
        return False
    return True

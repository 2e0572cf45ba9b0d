"""What this process is called, and how it is, for others that share the database."""

import importlib.metadata
import re
import socket
from collections.abc import Sequence
from typing import Protocol

from sts_trio.net.bound import Bound
from sts_trio.records.process_state import Process


class _Live(Protocol):
    """What is needed here of the live calls."""

    @property
    def live(self) -> int: ...

    @property
    def status(self) -> str: ...


class Identity:
    """`named` is what the operator calls it, if they do; it takes `capacity` calls at most."""

    def __init__(self, named: str | None, capacity: int) -> None:
        self.is_named = named is not None
        self._named = named
        self._capacity = capacity
        self._bounds: Sequence[Bound] = ()
        self.version = _version()

    def listens_at(self, bounds: Sequence[Bound]) -> None:
        self._bounds = bounds

    @property
    def name(self) -> str:
        """That, or the host's name and the port."""
        if self._named is not None:
            return self._named
        port = f"-{self._bounds[0].port}" if self._bounds else ""
        return f"{re.sub('[^a-zA-Z0-9-]', '-', socket.gethostname())[:57]}{port}"

    def told(self, process_id: str, calls: _Live) -> Process:
        return Process(
            process_id=process_id,
            name=self.name,
            address=self._address,
            version=self.version,
            state=calls.status,
            live=calls.live,
            capacity=self._capacity,
        )

    @property
    def _address(self) -> str:
        if not self._bounds:
            return ""
        host, port, _ = self._bounds[0]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _version() -> str:
    """As it was installed; "" from a source tree that was not."""
    try:
        return importlib.metadata.version("sts-trio")
    except importlib.metadata.PackageNotFoundError:
        return ""

"""What any leg offers, as protocols. The promises behind them are in `sts_trio.legs`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from sts_trio.wire import deepgram, twilio

M_contra = TypeVar("M_contra", contravariant=True)


class OpenLeg(Protocol[M_contra]):
    """A leg, see `sts_trio.legs`."""

    @property
    def is_polled(self) -> bool: ...
    async def listen(
        self, hear: Callable[[Sequence[Any]], None], idle: Callable[[float], None], /
    ) -> None: ...
    def try_send(self, message: M_contra, /) -> bool: ...
    async def send(self, message: M_contra, /) -> None: ...
    async def aclose(self, code: int, /) -> None: ...


class OpenAgentLeg(OpenLeg[deepgram.ToAgent], Protocol):
    @property
    def is_prepared(self) -> bool:
        """Whether the agent has had its `Settings` already."""
        ...


OpenCaller = Callable[[], AbstractAsyncContextManager[OpenLeg[twilio.ToCaller]]]

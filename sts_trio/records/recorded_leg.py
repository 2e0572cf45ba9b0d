"""The caller's leg of a call that is recorded."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from sts_trio.legs.contract import OpenCaller, OpenLeg
from sts_trio.records.recorder import Recording
from sts_trio.wire import twilio


class RecordedLeg:
    """See `sts_trio.legs` for the contract."""

    __slots__ = ("_leg", "_recording")

    def __init__(self, leg: OpenLeg[twilio.ToCaller], recording: Recording) -> None:
        self._leg = leg
        self._recording = recording

    @property
    def is_polled(self) -> bool:
        return self._leg.is_polled

    async def listen(
        self, hear: Callable[[Sequence[Any]], None], idle: Callable[[float], None], /
    ) -> None:
        recording = self._recording

        def hear_and_record(batch: Sequence[Any]) -> None:
            recording.hear(batch)
            hear(batch)

        await self._leg.listen(hear_and_record, idle)

    def try_send(self, message: twilio.ToCaller, /) -> bool:
        if not self._leg.try_send(message):
            return False
        self._recording.sent(message)
        return True

    async def send(self, message: twilio.ToCaller, /) -> None:
        # Before: its echo may be heard before this goes on.
        self._recording.sent(message)
        await self._leg.send(message)

    async def aclose(self, code: int, /) -> None:
        await self._leg.aclose(code)


class _Opened:
    def __init__(self, open_caller: OpenCaller, recording: Recording) -> None:
        self._opening = open_caller()
        self._recording = recording

    async def __aenter__(self) -> RecordedLeg:
        return RecordedLeg(await self._opening.__aenter__(), self._recording)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._opening.__aexit__(kind, raised, traceback)


def recorded(open_caller: OpenCaller, recording: Recording) -> OpenCaller:
    """The same leg, of which all is recorded."""

    def opened() -> AbstractAsyncContextManager[OpenLeg[twilio.ToCaller]]:
        return _Opened(open_caller, recording)

    return opened

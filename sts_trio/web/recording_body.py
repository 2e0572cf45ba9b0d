"""A recording as the body of a response: read in a thread, and in parts for players that jump."""

import functools
from types import TracebackType

import trio
from quart.wrappers.response import ResponseBody
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from sts_trio.net.threads import run_in_thread
from sts_trio.records.joined_recording import JoinedRecording

# Four seconds of both sides.
CHUNK = 64 * 1024


class RecordingBody(ResponseBody):
    """`begin` and `end` are what is asked for, as Quart wants to know it."""

    def __init__(self, recording: JoinedRecording) -> None:
        self._recording = recording
        self._limiter = trio.CapacityLimiter(1)
        self.begin = self._at = 0
        self.end = recording.size

    async def __aenter__(self) -> "RecordingBody":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is open between two reads."""

    def __aiter__(self) -> "RecordingBody":
        return self

    async def __anext__(self) -> bytes:
        most = min(CHUNK, self.end - self._at)
        if most <= 0:
            raise StopAsyncIteration
        read = functools.partial(self._recording.read, self._at, most)
        data = await run_in_thread(read, self._limiter)
        self._at += len(data)
        return data

    async def convert_to_sequence(self) -> bytes:
        return b"".join([data async for data in self])

    async def make_conditional(
        self, begin: int, end: int | None, max_partial_size: int | None = None
    ) -> int:
        size = self._recording.size
        self.begin = self._at = begin
        self.end = size if end is None else min(size, end)
        if not 0 <= begin < self.end:
            raise RequestedRangeNotSatisfiable
        return size

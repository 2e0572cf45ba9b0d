"""What is kept of this process's calls: their records, and their recordings, if they are wanted.

Knows what is to be told of a call, and to whom. `Server` opens it, and tells it when a call comes,
starts and ends; what happens in a call is heard in the event feed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import trio

from sts_trio.call.info import CallInfo
from sts_trio.config.records import Records
from sts_trio.net.threads import run_in_thread
from sts_trio.observe.feed import EventFeed
from sts_trio.records.ending_hook import Hook
from sts_trio.records.process_state import Process
from sts_trio.records.recorder import Recorded, Recorder, Recording
from sts_trio.records.recordings import prepare
from sts_trio.wire.addresses import OUTBOUND

if TYPE_CHECKING:
    from sts_trio.records.opening import OpenRecords

# The caller hears nothing meanwhile.
KNOWN_WITHIN = 0.5


class KeptCalls:
    """`records` and `recorder` are None until they are opened, and where nothing is to be kept.
    `versions` tells {agent: its version}; `hooks` are called with what is kept of an ended call;
    `process`, given this process's id, tells how it is; `on_recorded` is told the result of each
    recording."""

    def __init__(
        self,
        settings: Records,
        versions: Callable[[], Mapping[str, str]],
        hooks: Sequence[Hook],
        process: Callable[[str], Process],
        *,
        on_recorded: Callable[[str], None] = lambda result: None,
    ) -> None:
        self.records: OpenRecords | None = None
        self.recorder: Recorder | None = None
        self._settings = settings
        self._versions = versions
        self._hooks = hooks
        self._process = process
        self._on_recorded = on_recorded

    # --- from start to stop ---------------------------------------------------------------------

    async def open(self) -> None:
        """Opens the database of past calls, unless it is open or nothing is to be kept, and the
        directory of recordings, if calls are recorded.

        Raises:
            ConfigError: one of them cannot be used.
        """
        settings = self._settings
        if settings.are_recorded and self.recorder is None:
            prepare(settings.recordings)
            self.recorder = Recorder(
                settings.recordings, self._recorded, keep_days=settings.keep_days
            )
        if self.records is not None or settings.database_url is None:
            return
        # SQLAlchemy takes a third of a second to import, which is not for those who keep nothing.
        from sts_trio.records.opening import open_records

        versions = self._versions()
        self.records = await run_in_thread(
            lambda: open_records(
                settings,
                self._process,
                versions,
                others=self._end_of_recordings,
                hooks=self._hooks,
            ),
            trio.CapacityLimiter(1),
        )

    async def start(self, nursery: trio.Nursery, feed: EventFeed) -> None:
        """Runs in the nursery what was opened, and listens."""
        if self.recorder is not None:
            await nursery.start(self.recorder.run)
        if self.records is not None:
            if self.records.hook is not None:
                await nursery.start(self.records.hook.run)
            await nursery.start(self.records.writer.run)
            if self.records.courier is not None:
                await nursery.start(self.records.courier.run)
            feed.listen(self.records.call_log.hear)

    async def finish(self, within: float) -> None:
        """All calls are over: what comes of recordings is put down, and hooks are called; each of
        the two for so many seconds at most."""
        if self.recorder is not None:
            await self.recorder.flush(within)
        with trio.move_on_after(within):
            await self._call_last_hooks()

    async def flush(self, within: float) -> None:
        """The process dies: what is known is put down, for so many seconds at most, twice."""
        if self.recorder is not None:
            await self.recorder.flush(within)
        if self.records is not None:
            await self.records.writer.flush(within, is_last=True)

    async def _call_last_hooks(self) -> None:
        """Until the ends of all calls are in the database, and the hooks have been called."""
        if self.records is None or self.records.hook is None:
            return
        # What is done in a thread sets no event.
        while (figures := self.records.writer.figures).waiting + figures.spooled:  # noqa: ASYNC110
            await trio.sleep(0.02)
        await self.records.hook.empty()

    async def _end_of_recordings(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.recorder is not None:
            await self.recorder.ended.wait()

    # --- a call ---------------------------------------------------------------------------------

    def announced(self, call: CallInfo) -> None:
        if self.records is not None:
            self.records.call_log.announce(call, _source(call))

    def refused(self, call: CallInfo, why: str) -> None:
        """`why` is the state of a process that takes no more calls."""
        if self.records is not None:
            self.records.call_log.refuse(call, _source(call), why)

    def recording(self) -> Recording | None:
        """For a call that begins now; None: none is made."""
        return None if self.recorder is None else self.recorder.record()

    def started(self, call: CallInfo, recording: Recording | None) -> None:
        epoch, before = 0, call.elsewhere
        if self.records is not None and before is None:
            epoch = self.records.call_log.start(call)
        elif self.records is not None and before is not None:
            gap = before.gap(time.time())
            epoch = self.records.call_log.start(
                call, how=before.how, gap=gap, known_epoch=before.epoch
            )
        is_back = before is not None and before.how == "returned"
        if recording is not None and not is_back:
            recording.identify(call.call_sid, epoch or int(time.time() * 1e6))

    async def make_safe(self) -> None:
        """What was told so far outlives the process, or soon will: nobody waits long for it."""
        if self.records is not None:
            await self.records.writer.flush()

    async def make_known(self) -> None:
        """What was told so far is in the database, if that takes it within a moment: another
        process is to go on with a call. This one is about to end."""
        if self.records is not None:
            await self.records.writer.flush(KNOWN_WITHIN, is_last=True)

    def _recorded(self, what: Recorded) -> None:
        self._on_recorded(what.result)
        if self.records is not None and what.call_sid:
            self.records.call_log.recorded(what)


def _source(call: CallInfo) -> str:
    return "outbound" if call.direction == OUTBOUND else "webhook"

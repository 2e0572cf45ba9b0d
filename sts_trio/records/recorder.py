"""Recordings of calls, from the loop to the disk.

Each call has a `Recording`, which is told what its caller's leg hears and sends; `RecordedLeg` does
that. It gives out a second of both sides at a time, and one task for all calls of the process has a
thread write what there is. The loop appends to a deque, and nothing else.

When a disk is slow or full, calls go on and seconds of their recordings are lost: what waits in
memory is bounded. What comes after a gap stands where it belongs, and the recording is `degraded`.
"""

import collections
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import trio

from sts_trio.net.threads import Worker
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.records.daily_files import DAY, delete_old
from sts_trio.records.recording_file import SUFFIX, Finished, RecordingFile, repair
from sts_trio.records.recordings import named, path_of
from sts_trio.records.tracks import Piece, Tracks
from sts_trio.wire import twilio

# A call gives out a second at a time, so more often would find less.
EVERY = 0.5
# Bytes of audio in memory, on their way to the disk: 400 calls for 5 s.
MAX_WAITING = 32 * 1024 * 1024
# At the end of the process. What has not been completed then is, at the next start.
END_WITHIN = 5.0
TIDY_EVERY = 3600.0
TOO_SLOW = "the disk is too slow"


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one recording. `uri` is its place below the directory of recordings, `None` if
    there is no file. The result is `ok`, `degraded` (there are gaps) or `failed`."""

    call_sid: str
    epoch: int
    uri: str | None
    began_at: float  # seconds since 1970
    seconds: float
    size: int
    result: str


class _Tape:
    """One recording, as the thread has it."""

    __slots__ = ("began_at", "call_sid", "epoch", "file", "lost", "owed", "path")

    def __init__(self, call_sid: str, epoch: int, began_at: float, path: Path) -> None:
        self.call_sid = call_sid
        self.epoch = epoch
        self.began_at = began_at
        self.path = path
        self.file: RecordingFile | None = None
        self.owed = 0  # samples of silence to be written before anything else
        self.lost = 0  # samples, in all

    def write(self, piece: Piece) -> None:
        """Raises `OSError`: it is not written."""
        try:
            if self.file is None:
                self.file = RecordingFile(self.path)
            self.file.append(self.owed, piece.left, piece.right)
        except OSError:
            self.lose(len(piece.left))
            raise
        self.owed = 0

    def lose(self, samples: int) -> None:
        self.owed += samples
        self.lost += samples

    def finish(self) -> Finished | None:
        """Raises `OSError`: it is left to the next start."""
        return None if self.file is None else self.file.finish()


class Recording:
    """Of one call, for its tasks. Nothing happens before its stream has begun; `identify` it before
    it has lasted a second."""

    __slots__ = (
        "_began_at",
        "_dropped",
        "_has_begun",
        "_pauses",
        "_recorder",
        "_stream_sid",
        "_tape",
        "_tracks",
    )

    def __init__(self, recorder: "Recorder") -> None:
        self._recorder = recorder
        self._tracks: Tracks | None = None
        self._has_begun = False
        self._stream_sid = ""
        self._tape: _Tape | None = None
        self._began_at = 0.0
        self._dropped = 0  # samples for which there was no room
        self._pauses = 0

    def identify(self, call_sid: str, epoch: int) -> None:
        self._tape = self._recorder.tape(call_sid, epoch, self._began_at)

    def pause(self) -> None:
        """From now on there is silence in it, until it was resumed as often as it was paused."""
        self._pauses += 1
        if self._tracks is not None:
            self._tracks.pause()

    def resume(self) -> None:
        self._pauses = max(0, self._pauses - 1)
        if self._tracks is not None and not self._pauses:
            self._tracks.resume(trio.current_time())

    def hear(self, batch: Sequence[Any]) -> None:
        """What the caller's leg hears, whatever it is."""
        now = trio.current_time()
        for message in batch:
            kind = type(message)
            if kind is twilio.Start:
                self._begin(message, now)
            elif self._tracks is None:
                continue
            elif kind is twilio.Media:
                is_ours = message.stream_sid in (self._stream_sid, "")
                if is_ours and message.media.track == "inbound":
                    self._tracks.hear(message.media.payload, message.media.timestamp, now)
            elif kind is twilio.Mark:
                self._tracks.echo(message.mark.name, now)
        if self._tracks is not None and (piece := self._tracks.advance(now)) is not None:
            self._put(piece)

    def sent(self, message: twilio.ToCaller) -> None:
        """It was sent to the phone, or is about to be."""
        tracks = self._tracks
        if tracks is None:
            return
        if isinstance(message, twilio.PlayMedia):
            tracks.say(message.media.payload, trio.current_time())
        elif isinstance(message, twilio.PlayMark):
            tracks.mark(message.mark.name)
        else:
            tracks.clear(trio.current_time())

    def end(self) -> None:
        """The call is over."""
        tracks, self._tracks = self._tracks, None
        if tracks is not None and (piece := tracks.end(trio.current_time())) is not None:
            self._put(piece)
        if self._tape is not None:
            self._recorder.put_end(self._tape, self._dropped)

    def _begin(self, start: twilio.Start, now: float) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        self._stream_sid = start.start.stream_sid
        self._began_at = self._recorder.wall()
        self._tracks = Tracks(now)
        if self._pauses:
            self._tracks.pause()

    def _put(self, piece: Piece) -> None:
        if self._tape is None:
            return  # a stream that was refused is nobody's call
        if self._recorder.put(self._tape, self._dropped, piece):
            self._dropped = 0
        else:
            self._dropped += len(piece.left)


class _Item(msgspec.Struct, frozen=True, gc=False):
    """Goes to the thread; without a piece it is the end."""

    tape: _Tape
    dropped: int  # samples before it
    piece: Piece | None

    @property
    def size(self) -> int:
        return 0 if self.piece is None else len(self.piece.left) + len(self.piece.right or b"")


class Recorder:
    """Of one process. `done` is told of each recording, on the loop, when its call is over. What is
    older than `keep_days` is deleted, whatever a database knows of it; 0: never."""

    def __init__(
        self,
        root: Path,
        done: Callable[[Recorded], None],
        *,
        keep_days: float = 0.0,
        wall: Callable[[], float] = time.time,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.wall = wall
        self.ended = trio.Event()  # `run`, and with it all that `done` is told
        self._root = root
        self._done = done
        self._keep_days = keep_days
        self._max_waiting = max_waiting
        self._waiting: collections.deque[_Item] = collections.deque()
        # Bytes that ever came into the deque (the loop's), and that were written (the thread's).
        self._put_size = self._written_size = 0
        self._worker = Worker(self._tell_recorded)
        self._is_behind = False
        self._has_dropped = False
        self._hurry = trio.Event()
        # What the thread tells the loop.
        self._recorded: collections.deque[Recorded] = collections.deque()
        self._fault: OSError | None = None

    def record(self) -> Recording:
        """For a call that is about to begin."""
        return Recording(self)

    def tape(self, call_sid: str, epoch: int, began_at: float) -> _Tape:
        path = path_of(self._root, call_sid, epoch, began_at)
        return _Tape(call_sid, epoch, began_at, path)

    def put(self, tape: _Tape, dropped: int, piece: Piece) -> bool:
        """Whether there is room for it, behind so many samples that were dropped."""
        item = _Item(tape, dropped, piece)
        if self._put_size - self._written_size + item.size > self._max_waiting:
            self._has_dropped = True
            return False
        self._put_size += item.size
        self._waiting.append(item)
        return True

    def put_end(self, tape: _Tape, dropped: int) -> None:
        self._waiting.append(_Item(tape, dropped, None))

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Writes until it is cancelled, and then the rest, for `END_WITHIN` seconds at most. First
        of all it completes what processes that are dead left."""
        task_status.started()
        tidy_at = trio.current_time()
        try:
            await self._worker.run(self._repair)
            while True:
                if self._keep_days and trio.current_time() >= tidy_at:
                    tidy_at = trio.current_time() + TIDY_EVERY
                    await self._worker.run(self._tidy)
                with trio.move_on_after(EVERY):
                    await self._hurry.wait()
                await trio.lowlevel.checkpoint()
                self._hurry = trio.Event()
                await self._write()
        finally:
            with trio.CancelScope(shield=True, relative_deadline=END_WITHIN) as scope:
                await self._worker.settle()
                await self._write()
            self.ended.set()
            if scope.cancelled_caught:
                report(events.RecordingsLeft(len({item.tape.path for item in self._waiting})))

    async def flush(self, within: float) -> None:
        """Waits until all that was put is written, no longer than that."""
        with trio.move_on_after(within):
            await trio.lowlevel.checkpoint()
            while self._waiting or self._worker.is_busy:
                self._hurry.set()
                await self._worker.until_done()

    # --- the thread -----------------------------------------------------------------------------

    async def _write(self) -> None:
        if self._waiting:
            await self._worker.run(self._write_all)
            self._tell_news(self._fault is not None or self._has_dropped)
            self._has_dropped = False

    def _tell_recorded(self) -> None:
        while self._recorded:
            recorded = self._recorded.popleft()
            report(
                events.RecordingFinished(
                    recorded.call_sid, recorded.result, round(recorded.seconds, 3)
                )
            )
            self._done(recorded)

    def _tell_news(self, is_behind: bool) -> None:
        """Once, however many recordings it costs seconds."""
        if is_behind == self._is_behind:
            return
        self._is_behind = is_behind
        if is_behind:
            fault = self._fault
            reason = TOO_SLOW if fault is None else fault.strerror or type(fault).__name__
            report(events.RecordingsBehind(reason))
        else:
            report(events.RecordingsCaughtUp())

    def _write_all(self) -> None:
        self._fault = None
        for _ in range(len(self._waiting)):
            item = self._waiting.popleft()
            tape = item.tape
            if item.dropped:
                tape.lose(item.dropped)
            try:
                if item.piece is not None:
                    tape.write(item.piece)
                else:
                    self._finish(tape)
            except OSError as exc:
                self._fault = exc
            self._written_size += item.size

    def _finish(self, tape: _Tape) -> None:
        if tape.file is None and not tape.lost:
            return  # nothing was to be heard, and nothing is to be told
        finished = None
        try:
            finished = tape.finish()
        finally:
            result = "failed" if finished is None else "degraded" if tape.lost else "ok"
            self._recorded.append(
                self._told(tape.call_sid, tape.epoch, tape.began_at, finished, result)
            )

    def _told(
        self,
        call_sid: str,
        epoch: int,
        began_at: float,
        finished: Finished | None,
        result: str,
    ) -> Recorded:
        return Recorded(
            call_sid=call_sid,
            epoch=epoch,
            uri=None if finished is None else finished.path.relative_to(self._root).as_posix(),
            began_at=began_at,
            seconds=0.0 if finished is None else finished.seconds,
            size=0 if finished is None else finished.size,
            result=result,
        )

    def _tidy(self) -> None:
        delete_old(self._root, SUFFIX, self.wall() - self._keep_days * DAY)

    def _repair(self) -> None:
        for finished in repair(self._root):
            if (of := named(finished.path)) is not None:
                began_at = finished.path.stat().st_mtime - finished.seconds
                self._recorded.append(self._told(*of, began_at, finished, "degraded"))

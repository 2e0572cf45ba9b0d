"""The flights of a process: of each call one is recorded, and of some it is kept.

Which, is decided when a call has ended: mostly those that ended by a fault. A thread masks what is
not to be kept, and writes: first a `.part`, which is renamed, so that a flight is whole or not
there. When the disk does not take it, it is lost and told. While calls go on the same thread packs
what is recorded of them, once a second: whatever one call has said, no other waits for it.
"""

import collections
import contextlib
import functools
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Unpack

import msgspec
import trio

from sts_trio.config.records import KeptFlights, Records
from sts_trio.errors import Ending, Verdict
from sts_trio.flight.file import SUFFIX, Flight, pack, pack_lot, steps_of
from sts_trio.flight.masking import masked
from sts_trio.flight.recorder import Allowance, FlightRecorder, Given
from sts_trio.flight.replay import written_policy
from sts_trio.logic.session import Settings
from sts_trio.net.threads import Worker
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.records.daily_files import DAY, day_of, delete_old, name_of

PART = ".part"
# At the end of the process.
END_WITHIN = 5.0
TIDY_EVERY = 3600.0
# Seconds that lots wait, to be packed together, unless there are that many. 1,000 calls make some
# 30 a second.
PACK_AFTER = 1.0
MANY_LOTS = 64
PROCESS_ENDS = "the process ends"


class _Ended(msgspec.Struct, frozen=True):
    """A flight without its steps, which are still in lots."""

    flight: Flight
    lots: list[bytes]
    size: int


class Flights:
    """`program` is our version; `agents` tells theirs, by name; `sensitive` are functions of which
    nothing is kept."""

    def __init__(
        self,
        settings: Records,
        *,
        program: str = "",
        agents: Callable[[], Mapping[str, str]] = dict,
        sensitive: Iterable[str] = (),
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._program = program
        self._agents = functools.cache(agents)
        self._sensitive = sorted(sensitive)
        self._wall = wall
        self._allowance = Allowance()
        self._waiting: collections.deque[_Ended] = collections.deque()
        self._unpacked: collections.deque[tuple[FlightRecorder, int]] = collections.deque()
        self._pack_at = inf
        self._worker = Worker(self._tell)
        self._is_over = False
        self._more = trio.Event()
        # What the thread tells the loop: what became of a flight, of that size; and of a lot.
        self._told: collections.deque[tuple[events.Event, int]] = collections.deque()
        self._packed: collections.deque[tuple[FlightRecorder, int, bytes]] = collections.deque()

    def record(self, settings: Settings, **given: Unpack[Given]) -> FlightRecorder | None:
        """A call begins; the arguments are those of its `Dialogue`. `end` it. `None`: none is."""
        if self._settings.kept_flights is KeptFlights.NONE:
            return None
        return FlightRecorder(settings, self._allowance, self._wall(), self._put, **given)

    def _put(self, recorder: FlightRecorder, number: int) -> None:
        self._unpacked.append((recorder, number))
        if len(self._unpacked) in (1, MANY_LOTS):
            is_first = len(self._unpacked) == 1
            self._pack_at = trio.current_time() + (PACK_AFTER if is_first else 0.0)
            self._more.set()

    def end(self, recorder: FlightRecorder, ending: Ending) -> None:
        """The call is over. Nothing can be asked of the recorder any more."""
        call_sid = recorder.dialogue.call_sid
        is_fault = ending.verdict in (Verdict.AGENT, Verdict.OURS)
        is_kept = is_fault or self._settings.kept_flights is KeptFlights.ALL
        if is_kept:
            recorder.finish()
        if is_kept and recorder.lots:
            flight = Flight(
                program=self._program,
                call_sid=call_sid,
                began_at=recorder.began_at,
                began=recorder.given["now"],
                forward=recorder.given["forward"],
                policy=written_policy(recorder.given["policy"]),
                ending=ending.cause.label,
                verdict=ending.verdict.value,
                detail=ending.detail,
                sensitive=self._sensitive,
                stopped=recorder.stopped,
            )
            ended = _Ended(flight, recorder.lots, recorder.size)
            if self._is_over:
                report(_not_kept(ended, PROCESS_ENDS))
            else:
                self._waiting.append(ended)
                self._more.set()
        recorder.forget(is_kept=is_kept)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Writes what is to be kept until it is cancelled, and then the rest, for `END_WITHIN`
        seconds at most."""
        task_status.started()
        tidy_at = trio.current_time()
        try:
            while True:
                if trio.current_time() >= tidy_at:
                    tidy_at = trio.current_time() + TIDY_EVERY
                    if self._settings.flights.is_dir():
                        await self._worker.run(self._tidy)
                with trio.move_on_at(min(tidy_at, self._pack_at)):
                    await self._more.wait()
                self._more = trio.Event()
                if trio.current_time() >= self._pack_at:
                    self._pack_at = inf
                    await self._worker.run(self._pack_all)
                await self._write()
        finally:
            with trio.CancelScope(shield=True, relative_deadline=END_WITHIN):
                await self._worker.settle()
                await self._write()
            self._is_over = True
            while self._waiting:
                report(_not_kept(self._waiting.popleft(), PROCESS_ENDS))

    async def flush(self, within: float) -> None:
        """Waits until all that was put is written, no longer than that."""
        with trio.move_on_after(within):
            await trio.lowlevel.checkpoint()
            while self._waiting or self._worker.is_busy:
                await self._worker.until_done()

    async def _write(self) -> None:
        if self._waiting:
            await self._worker.run(self._write_all)

    def _tell(self) -> None:
        while self._packed:
            recorder, number, lot = self._packed.popleft()
            recorder.replace(number, lot)
        while self._told:
            event, size = self._told.popleft()
            self._allowance.give_back(size)
            report(event)

    # --- the thread -----------------------------------------------------------------------------

    def _pack_all(self) -> None:
        while self._unpacked:
            recorder, number = self._unpacked.popleft()
            lots = recorder.lots  # of a call that is over it has none
            if number < len(lots):
                self._packed.append((recorder, number, pack_lot(lots[number])))

    def _write_all(self) -> None:
        while self._waiting:
            ended = self._waiting.popleft()
            try:
                event = self._written(ended)
            except OSError as exc:
                event = _not_kept(ended, exc.strerror or type(exc).__name__)
            self._told.append((event, ended.size))

    def _written(self, ended: _Ended) -> events.Event:
        settings = self._settings
        flight = masked(
            msgspec.structs.replace(
                ended.flight, agents=dict(self._agents()), steps=list(steps_of(ended.lots))
            ),
            keeps_words=settings.keep_words,
            keeps_numbers=settings.redact_key is None,
        )
        data = pack(flight)
        path = path_of(settings.flights, flight.call_sid, flight.began_at)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_suffix(PART)
        try:
            with open(part, "wb", opener=_for_us_alone) as file:
                file.write(data)
            part.rename(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        name = path.relative_to(settings.flights).as_posix()
        return events.FlightKept(flight.call_sid, name, len(data), flight.stopped)

    def _tidy(self) -> None:
        now, keep_days = self._wall(), self._settings.keep_days
        for path in self._settings.flights.glob(f"*/*{PART}"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < now - TIDY_EVERY:
                    path.unlink()  # of a process that was killed
        if keep_days:
            delete_old(self._settings.flights, SUFFIX, now - keep_days * DAY)


def _not_kept(ended: _Ended, reason: str) -> events.Event:
    return events.FlightNotKept(ended.flight.call_sid, reason)


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


# --- where they are -------------------------------------------------------------------------------


def path_of(root: Path, call_sid: str, began_at: float) -> Path:
    return day_of(root, began_at) / f"{name_of(call_sid)}-{int(began_at * 1e6)}{SUFFIX}"


def flights_of(root: Path, call_sid: str) -> list[Path]:
    """Of that call, the oldest first: of one that was streamed more than once there are several."""
    found = root.glob(f"*/{name_of(call_sid)}-*{SUFFIX}")
    # The name of another call may begin with the name of this.
    pattern = re.compile(rf"{re.escape(name_of(call_sid))}-[0-9]+")
    return sorted(path for path in found if pattern.fullmatch(path.stem))


def remove(root: Path, call_sids: Sequence[str]) -> None:
    """Deletes the flights of these calls, for good. Raises `OSError`."""
    for call_sid in call_sids:
        for path in flights_of(root, call_sid):
            path.unlink(missing_ok=True)

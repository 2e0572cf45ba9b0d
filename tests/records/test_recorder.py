"""Recordings from the loop to the disk: no call waits for them, and no gap moves what follows."""

import contextlib
import datetime
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from call_stories import NOON, sid
from rig_recordings import files, left_by_the_dead, sides

from sts_trio.audio.frames import FRAME, SILENCE
from sts_trio.observe import events
from sts_trio.records import recorder as recorders
from sts_trio.records.daily_files import old_files
from sts_trio.records.recorded_leg import RecordedLeg, recorded
from sts_trio.records.recorder import TOO_SLOW, Recorded, Recorder, Recording
from sts_trio.records.recording_file import HEADER_SIZE, SUFFIX, RecordingFile
from sts_trio.records.recordings import find, remove
from sts_trio.wire import twilio

# Only so that a hang is noticed.
WITHIN = 60.0
STREAM = "MZ1"
DAY = "2026-11-30"


@pytest.fixture(autouse=True)
def _logging_as_it_is_by_default() -> Iterator[None]:
    """Whatever a test before has set up, and its loggers keep."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def start(call_sid: str = sid(1)) -> twilio.Start:
    return twilio.Start(twilio.StreamStart(STREAM, call_sid), STREAM)


def speech(seconds: float, value: int = 0x11) -> list[twilio.Media]:
    count = round(seconds * 8000 / FRAME)
    return [twilio.Media(twilio.Inbound(bytes([value]) * FRAME), STREAM) for _ in range(count)]


def play(audio: bytes) -> twilio.PlayMedia:
    return twilio.PlayMedia(STREAM, twilio.Outbound(audio))


def echo(name: str) -> twilio.Mark:
    return twilio.Mark(twilio.MarkName(name), STREAM)


class Rig:
    def __init__(self, root: Path, **options: Any) -> None:
        self.root = root
        self.done: list[Recorded] = []
        self.recorder = Recorder(root, self.done.append, wall=lambda: NOON, **options)

    def begin(self, number: int = 1, epoch: int = 10) -> Recording:
        recording = self.recorder.record()
        recording.hear([start(sid(number))])
        recording.identify(sid(number), epoch)
        return recording

    def path(self, number: int = 1, epoch: int = 10) -> Path:
        return self.root / DAY / f"{sid(number)}-{epoch}.wav"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with trio.fail_after(WITHIN):
            async with trio.open_nursery() as nursery:
                await nursery.start(self.recorder.run)
                yield
                await self.recorder.flush(WITHIN)
                nursery.cancel_scope.cancel()


def hear(recording: Recording, messages: Sequence[Any]) -> None:
    """In beats of 100 ms."""
    for at in range(0, len(messages), 5):
        recording.hear(messages[at : at + 5])


async def test_a_call_is_recorded_from_its_start_to_its_end(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running():
        recording = rig.begin()
        hear(recording, speech(3.0))
        recording.end()
    assert rig.done == [
        Recorded(
            call_sid=sid(1),
            epoch=10,
            uri=f"{DAY}/{sid(1)}-10.wav",
            began_at=NOON,
            seconds=3.0,
            size=HEADER_SIZE + 48000,
            result="ok",
        )
    ]
    assert sides(rig.path()) == (b"\x11" * 24000, SILENCE * 24000)


async def test_what_is_sent_stands_where_its_mark_came_back(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running():
        recording = rig.begin()
        hear(recording, speech(1.0))
        recording.sent(play(b"\x22" * 4000))
        recording.sent(twilio.PlayMark(STREAM, twilio.MarkName("e0-1")))
        hear(recording, [*speech(1.0), echo("e0-1"), *speech(1.0)])
        recording.sent(play(b"\x23" * 4000))
        recording.sent(twilio.Clear(STREAM))
        recording.end()
    _, right = sides(rig.path())
    assert right == SILENCE * 12000 + b"\x22" * 4000 + SILENCE * 8000


async def test_what_is_none_of_the_stream_is_not_recorded(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    recording = rig.recorder.record()
    other = twilio.Media(twilio.Inbound(b"\x77" * FRAME), "MZ2")
    ours = twilio.Media(twilio.Inbound(b"\x77" * FRAME, track="outbound"), STREAM)
    recording.sent(play(b"\x77" * FRAME))
    async with rig.running():
        hear(recording, [twilio.Connected(), *speech(1.0, 0x77), start(), start(), other, ours])
        recording.identify(sid(1), 10)
        hear(recording, speech(2.0))
        recording.end()
        recording.end()
    assert sides(rig.path()) == (b"\x11" * 16000, SILENCE * 16000)


async def test_a_stream_that_is_nobodys_call_is_not_recorded(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running():
        recording = rig.recorder.record()
        recording.end()
        recording = rig.recorder.record()
        recording.hear([start()])
        hear(recording, speech(3.0))
        recording.end()
        rig.begin().end()
    assert rig.done == []
    assert files(tmp_path) == []


async def test_a_pause_lasts_until_everybody_has_resumed(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running():
        recording = rig.begin()
        hear(recording, speech(1.0))
        recording.pause()
        recording.pause()
        hear(recording, speech(1.0, 0x77))
        recording.resume()
        hear(recording, speech(1.0, 0x77))
        recording.resume()
        recording.resume()
        hear(recording, speech(1.0))
        recording.end()
    left, _ = sides(rig.path())
    assert left == b"\x11" * 8000 + SILENCE * 16000 + b"\x11" * 8000


async def test_a_call_that_is_paused_before_it_begins_begins_in_silence(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running():
        recording = rig.recorder.record()
        recording.pause()
        recording.hear([start()])
        recording.identify(sid(1), 10)
        hear(recording, speech(2.0, 0x77))
        recording.end()
    assert sides(rig.path())[0] == SILENCE * 16000


@pytest.mark.parametrize(
    "call_sid", ["", "../../etc/passwd", "a/b", "CA 1", "x" * 65, "\0", "\ud800", "CA1\n"]
)
async def test_a_name_that_a_peer_made_up_is_no_path(tmp_path: Path, call_sid: str) -> None:
    rig = Rig(tmp_path / "recordings")
    async with rig.running():
        recording = rig.recorder.record()
        recording.hear([start()])
        recording.identify(call_sid, 10)
        hear(recording, speech(1.0))
        recording.end()
    [file] = files(tmp_path)
    assert file.parent == tmp_path / "recordings" / DAY
    assert file.name.startswith("call-")
    assert rig.done[0].call_sid == call_sid


async def test_when_the_process_ends_what_waits_is_written(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.recorder.run)
        recording = rig.begin()
        hear(recording, speech(30.0))
        recording.end()
        nursery.cancel_scope.cancel()
    assert [each.result for each in rig.done] == ["ok"]
    assert len(sides(rig.path())[0]) == 240_000


async def test_a_start_completes_what_dead_processes_left(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    file = RecordingFile(rig.path(7, 99))
    file.append(0, b"\x11" * 16000, None)
    left_by_the_dead(file)
    unnamed = RecordingFile(tmp_path / DAY / "whatever.wav")
    unnamed.append(0, b"\x11" * 16000, None)
    left_by_the_dead(unnamed)
    async with rig.running():
        pass
    [told] = rig.done
    assert (told.call_sid, told.epoch, told.result) == (sid(7), 99, "degraded")
    assert (told.seconds, told.uri) == (2.0, f"{DAY}/{sid(7)}-99.wav")
    assert (tmp_path / DAY / "whatever.wav").exists()


# --- disks that are slow, full, or not there ----------------------------------------------------


async def test_a_disk_that_takes_nothing_is_told_of_once_and_the_call_goes_on(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path / "file" / "recordings")
    (tmp_path / "file").touch()
    with structlog.testing.capture_logs() as logs:
        async with rig.running():
            recordings = [rig.begin(number) for number in (1, 2)]
            for _ in range(3):
                for recording in recordings:
                    hear(recording, speech(2.0))
                await rig.recorder.flush(WITHIN)
            for recording in recordings:
                recording.end()
    assert [each.result for each in rig.done] == ["failed", "failed"]
    assert [each.uri for each in rig.done] == [None, None]
    behind = [log for log in logs if log["event"] == events.RecordingsBehind.NAME]
    assert [log["reason"] for log in behind] == ["Not a directory"]
    finished = [log for log in logs if log["event"] == events.RecordingFinished.NAME]
    assert [log["log_level"] for log in finished] == ["warning", "warning"]


async def test_what_a_disk_did_not_take_leaves_silence_of_its_length(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "recordings")
    (tmp_path / "recordings").touch()
    with structlog.testing.capture_logs() as logs:
        async with rig.running():
            recording = rig.begin()
            hear(recording, speech(2.0, 0x77))
            await rig.recorder.flush(WITHIN)
            (tmp_path / "recordings").unlink()
            hear(recording, speech(2.0))
            recording.end()
    assert [each.result for each in rig.done] == ["degraded"]
    assert sides(rig.path())[0] == SILENCE * 16000 + b"\x11" * 16000
    names = [log["event"] for log in logs]
    assert names.count(events.RecordingsBehind.NAME) == 1
    assert names.count(events.RecordingsCaughtUp.NAME) == 1


async def test_when_a_disk_is_too_slow_seconds_are_lost_and_no_memory(tmp_path: Path) -> None:
    rig = Rig(tmp_path, max_waiting=16000)  # two seconds of the caller alone
    recording = rig.begin()
    hear(recording, speech(10.0, 0x77))  # nobody writes yet
    with structlog.testing.capture_logs() as logs:
        async with rig.running():
            await rig.recorder.flush(WITHIN)
            hear(recording, speech(1.0))
            await rig.recorder.flush(WITHIN)
            recording.end()
    left, _ = sides(rig.path())
    assert left == b"\x77" * 16000 + SILENCE * 64000 + b"\x11" * 8000
    assert [each.result for each in rig.done] == ["degraded"]
    assert [log["reason"] for log in logs if log["event"] == events.RecordingsBehind.NAME] == [
        TOO_SLOW
    ]


async def test_what_is_lost_at_the_end_makes_it_degraded_too(tmp_path: Path) -> None:
    rig = Rig(tmp_path, max_waiting=16000)
    recording = rig.begin()
    hear(recording, speech(3.0))
    recording.end()
    async with rig.running():
        pass
    assert [(each.result, each.seconds) for each in rig.done] == [("degraded", 2.0)]


async def test_a_file_that_cannot_be_given_its_name_waits_for_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path)

    def rename(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    async with rig.running():
        recording = rig.begin()
        hear(recording, speech(1.0))
        monkeypatch.setattr(Path, "rename", rename)
        recording.end()
    assert [each.result for each in rig.done] == ["failed"]
    monkeypatch.undo()
    again = Rig(tmp_path)
    async with again.running():
        pass
    assert [each.result for each in again.done] == ["degraded"]


class StuckFile(RecordingFile):
    """On a disk that hangs until it is let go."""

    go_on = threading.Event()

    def append(self, silence: int, left: bytes, right: bytes | None) -> None:
        assert self.go_on.wait(WITHIN)
        super().append(silence, left, right)


async def test_a_disk_that_hangs_keeps_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither calls, nor the end of the process; what it had is written when it goes on."""
    monkeypatch.setattr(recorders, "RecordingFile", StuckFile)
    monkeypatch.setattr(recorders, "END_WITHIN", 0.05)
    StuckFile.go_on.clear()
    rig = Rig(tmp_path)
    recording = rig.begin()
    hear(recording, speech(1.0))
    with structlog.testing.capture_logs() as logs, trio.fail_after(WITHIN):
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.recorder.run)
            await rig.recorder.flush(0.05)
            hear(recording, speech(1.0))
            recording.end()
            nursery.cancel_scope.cancel()
    StuckFile.go_on.set()
    assert [log["recordings"] for log in logs if log["event"] == events.RecordingsLeft.NAME] == [1]
    assert (tmp_path / DAY / f"{sid(1)}-10.wav.part").exists()


# --- the leg ------------------------------------------------------------------------------------


class Leg:
    """A caller's leg that plays back a script."""

    is_polled = True

    def __init__(self, batches: Sequence[Sequence[Any]] = (), *, takes: bool = True) -> None:
        self.batches = batches
        self.takes = takes
        self.sent: list[twilio.ToCaller] = []
        self.closed: list[int] = []

    async def listen(
        self, hear: Callable[[Sequence[Any]], None], idle: Callable[[float], None], /
    ) -> None:
        for batch in self.batches:
            await trio.lowlevel.checkpoint()
            hear(batch)
        idle(math.inf)

    def try_send(self, message: twilio.ToCaller, /) -> bool:
        if self.takes:
            self.sent.append(message)
        return self.takes

    async def send(self, message: twilio.ToCaller, /) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(message)

    async def aclose(self, code: int, /) -> None:
        await trio.lowlevel.checkpoint()
        self.closed.append(code)


async def test_a_recorded_leg_is_the_leg_that_it_was(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    batches: list[list[Any]] = [[start()], [*speech(0.1)], [echo("e0-1")]]
    leg = Leg(batches)
    is_open = []

    @contextlib.asynccontextmanager
    async def open_caller() -> AsyncIterator[Leg]:
        is_open.append(True)
        yield leg
        is_open.append(False)

    heard: list[Any] = []
    idles: list[float] = []
    async with recorded(open_caller, rig.recorder.record())() as opened:
        assert isinstance(opened, RecordedLeg)
        assert opened.is_polled
        await opened.listen(heard.append, idles.append)
        assert opened.try_send(play(b"\x22" * FRAME))
        await opened.send(twilio.Clear(STREAM))
        await opened.aclose(1000)
    assert heard == batches
    assert idles == [math.inf]
    assert leg.sent == [play(b"\x22" * FRAME), twilio.Clear(STREAM)]
    assert leg.closed == [1000]
    assert is_open == [True, False]


async def test_what_the_leg_did_not_take_is_not_recorded(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running():
        recording = rig.begin()
        hear(recording, speech(1.0))
        leg = RecordedLeg(Leg(takes=False), recording)
        assert not leg.try_send(play(b"\x22" * FRAME))
        hear(recording, speech(5.0))
        recording.end()
    assert sides(rig.path())[1] == SILENCE * 48000


# --- old ones -----------------------------------------------------------------------------------


def test_old_recordings_are_those_of_days_that_are_over(tmp_path: Path) -> None:
    for name in (
        "2026-11-28/a.wav",
        "2026-11-29/b.wav",
        "2026-11-30/c.wav",
        "2026-11-28/d.wav.part",
        "2026-11-28/e.txt",
        "other/f.wav",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    before = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC).timestamp()
    assert sorted(path.name for path in old_files(tmp_path, SUFFIX, before)) == ["a.wav", "b.wav"]


async def test_recordings_are_kept_as_long_as_calls_are_and_no_longer(tmp_path: Path) -> None:
    """Also those that no database knows of."""
    for day in ("2026-10-01", "2026-11-29"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "a.wav").touch()
    (tmp_path / "2026-10-01" / "b.wav").touch()
    rig = Rig(tmp_path, keep_days=30.0)
    async with rig.running():
        recording = rig.begin()
        hear(recording, speech(1.0))
        recording.end()
    assert sorted(path.parent.name for path in files(tmp_path)) == ["2026-11-29", DAY]
    assert not (tmp_path / "2026-10-01").exists()


@pytest.mark.parametrize(
    "uri", ["", "..", "../a.wav", "/etc/passwd", "/tmp/a.wav", "b.txt", "c.wav"]
)
def test_a_uri_leads_to_a_recording_and_nowhere_else(tmp_path: Path, uri: str) -> None:
    root = tmp_path / "recordings"
    (root / "day").mkdir(parents=True)
    for name in ("day/a.wav", "b.txt", "../a.wav"):
        (root / name).touch()
    assert find(root, uri) is None
    remove(root, uri)
    assert find(root, "day/a.wav") == root / "day" / "a.wav"
    remove(root, "day/a.wav")
    assert sorted(path.name for path in files(tmp_path)) == ["a.wav", "b.txt"]

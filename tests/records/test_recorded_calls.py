"""Whole calls, recorded: against what their callers heard, and without what is not to be kept."""

from pathlib import Path

import pytest
import structlog
import trio
import trio.testing
from rig_app import make_app
from rig_recordings import files, sides

from sts_trio import Call, function
from sts_trio.audio.frames import FRAME, SILENCE, length, seconds
from sts_trio.errors import ConfigError
from sts_trio.observe import events
from sts_trio.offline.protocol.script import CallFunction
from sts_trio.records import recorder
from sts_trio.records.database import Database
from sts_trio.records.record import Record
from sts_trio.records.recording_file import HEADER_SIZE
from sts_trio.records.search import Wanted
from sts_trio.records.store import Store
from sts_trio.simulate.earpiece import Spans
from sts_trio.simulate.script import HangUp, Keys, Speak, WaitForQuiet
from sts_trio.testing import call, running, scripted_agent
from sts_trio.web.app import App

# Of speech, in the middle of what was said: long enough to be found in one place only.
PROBE = length(0.25)
CARD = "4111111111111111"


pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture(autouse=True)
def _nothing_is_written_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a thread works the clock is the real one, and the phone late on a busy machine."""
    monkeypatch.setattr(recorder, "EVERY", 3600.0)


def recording(root: Path) -> tuple[bytes, bytes]:
    [file] = files(root)
    return sides(file)


def apart(track: bytes, heard: bytes) -> list[float]:
    """By how many seconds each stretch of speech stands elsewhere in one than in the other."""
    spans = Spans()
    spans.add(heard)
    found = []
    for begin, end in spans.spans:
        at = length((begin + end) / 2) - PROBE // 2
        if length(end - begin) < PROBE:
            continue
        probe = heard[at : at + PROBE]
        near = max(0, at - length(0.5))
        place = track.find(probe, near, at + PROBE + length(0.5))
        assert place >= 0, f"what was heard at {begin:.1f} s is not recorded"
        found.append(seconds(abs(place - at)))
    return found


def record_in(database: Path) -> Record:
    opened = Database(f"sqlite:///{database}")
    opened.open()
    store = Store(opened)
    [kept] = store.calls(Wanted()).calls
    record = store.record(kept.call_sid)
    opened.close()
    assert record is not None
    return record


async def test_a_recording_is_what_the_caller_said_and_heard_to_20_ms(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """The caller's own recording of the same call beside it, with answers that are cut off."""
    variables = {"STS_RECORD": "1", "STS_RECORDINGS": str(tmp_path)}
    async with running(variables) as server:
        report = await call(
            server.url,
            ["What cars do you have?", "Can I book a test drive?", "Goodbye."],
            barge_in_after=1.2,
        )
        await server.ending_of(report)
    assert report.clears
    left, right = recording(tmp_path)
    assert left == report.said[: len(left)]
    assert seconds(len(report.said) - len(left)) < 0.1
    stretches = apart(right, report.heard)
    assert len(stretches) >= 3
    assert max(stretches) <= 0.02
    # What was cut is not in it: as much is heard in the one as in the other.
    loud = len(right) - right.count(SILENCE)
    assert loud == pytest.approx(len(report.heard) - report.heard.count(SILENCE), abs=5 * FRAME)


async def test_a_call_that_is_recorded_has_its_recording_in_its_record(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    database = tmp_path / "calls.db"
    variables = {"STS_RECORD": "1", "STS_DATABASE_URL": f"sqlite:///{database}"}
    async with running(variables) as server:
        report = await call(server.url, ["Goodbye."])
        await server.ending_of(report)
    record = record_in(database)
    [kept] = record.recordings
    assert (kept.call_sid, kept.result) == (report.call_sid, "ok")
    path = tmp_path / "calls.recordings" / kept.uri
    assert path.stat().st_size == kept.bytes
    assert kept.seconds == (kept.bytes - HEADER_SIZE) / 16000 > 1.0
    assert record.call.answered_at == pytest.approx(kept.began_at, abs=5.0)


async def test_a_call_is_not_recorded_unless_it_is_asked_for(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with running({"STS_RECORDINGS": str(tmp_path)}) as server:
        await call(server.url, ["Goodbye."])
    assert files(tmp_path) == []


async def test_the_calls_own_code_may_pause_the_recording(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async def pause_for_a_second(app: App) -> None:
        while not app.live_calls.live:  # noqa: ASYNC110 # nothing tells when a call is there
            await trio.sleep(0.02)
        [bridge] = app.live_calls.calls
        await trio.sleep(4.0)
        bridge.call.pause_recording()
        await trio.sleep(1.0)
        bridge.call.resume_recording()

    variables = {"STS_RECORD": "1", "STS_RECORDINGS": str(tmp_path)}
    async with (
        scripted_agent("Fine.") as agent,
        running(variables, agent=agent) as server,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(pause_for_a_second, server.app)
        report = await call(server.url, [Speak(b"\x11\x91" * length(4.0)), HangUp()])
        names = [each.event.NAME for each in await server.happened_in(report)]
    left, _ = recording(tmp_path)
    unlike = sum(one != other for one, other in zip(left, report.said, strict=False))
    assert unlike == pytest.approx(length(1.0), abs=length(0.1))
    assert names.count(events.CallRecordingPaused.NAME) == 1
    assert names.count(events.CallRecordingResumed.NAME) == 1


async def test_keys_that_a_function_collects_are_kept_nowhere(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Neither in the database, nor in any file, nor in the log."""
    took: list[str] = []

    @function(timeout=60.0, sensitive=True)
    async def take_card(call: Call) -> dict[str, str]:
        """Take the card's number."""
        digits = await call.collect_digits(16, within=30.0)
        took.append(digits)
        return {"number": digits}

    variables = {
        "STS_RECORD": "1",
        "STS_DATABASE_URL": f"sqlite:///{tmp_path / 'calls.db'}",
        "STS_LOG_LEVEL": "debug",
        "STS_LOG_TRANSCRIPTS": "1",
    }
    said = " ".join(CARD)
    with structlog.testing.capture_logs() as logs:
        async with (
            scripted_agent(CallFunction("take_card"), f"You keyed in {said}.") as agent,
            running(variables, agent=agent, functions=take_card) as server,
        ):
            asks, waits = Speak(b"\x11\x91" * 8000), Speak(SILENCE * length(4.0))
            report = await call(
                server.url,
                [WaitForQuiet(), asks, waits, Keys(CARD), WaitForQuiet(), HangUp()],
            )
            happened = await server.happened_in(report)
    assert took == [CARD]
    kept = b"".join(file.read_bytes() for file in files(tmp_path))
    for text in (CARD, said):
        assert text.encode() not in kept
        assert text not in repr([log for log in logs if "transcript" not in log["event"]])
    assert CARD not in repr(happened)
    assert [
        each.event.arguments for each in happened if isinstance(each.event, events.FunctionCalled)
    ]
    paused = [each.at for each in happened if isinstance(each.event, events.CallRecordingPaused)]
    resumed = [each.at for each in happened if isinstance(each.event, events.CallRecordingResumed)]
    left, right = recording(tmp_path / "calls.recordings")
    silent = slice(length(paused[0] + 0.2), length(resumed[0] - 0.2))
    assert left[silent].strip(SILENCE) == right[silent].strip(SILENCE) == b""


async def test_a_directory_that_cannot_be_written_to_is_one_line_at_the_start(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    heard = str(tmp_path / "file" / "heard")
    app = make_app(tmp_path, STS_AGENT="offline", STS_RECORD="1", STS_RECORDINGS=heard)
    with pytest.raises(ConfigError, match=r"^STS_RECORDINGS: .* cannot be written to: "):
        await app.server.open_records()

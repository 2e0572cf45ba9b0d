"""`sts-trio replay`: what it shows, compares and writes, and what it refuses in one line."""

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import trio
from click.testing import Result
from rig_commands import failure, run
from rig_dialogue import LOST, STEPS
from rig_flight import Recorded
from rig_peers import SETTINGS, media

from sts_trio.flight.file import Flight, pack, unpack
from sts_trio.flight.keeper import path_of
from sts_trio.logic.acts import Tick
from sts_trio.logic.policy import CallPolicy
from sts_trio.observe import events
from sts_trio.testing import call, replay_flight, running, scripted_agent
from sts_trio.testing import fast_clock as fast_clock
from sts_trio.wire import deepgram


def flight() -> Flight:
    recorded = Recorded()
    policy = CallPolicy(reconnects=True, one_moment=b"\x10" * 1600)
    dialogue = recorded(lambda wanted: SETTINGS, policy=policy)
    for step in STEPS.values():
        dialogue.hear([step], 0.5)
    for frame in range(50):
        dialogue.hear([media(b"\xff" * 160)], 1.0 + frame / 50)
    dialogue.hear([deepgram.ConversationText("user", "Where is\x1b[31m my order?")], 2.1)
    for chunk in range(8):
        dialogue.hear([deepgram.Audio(b"\x10" * 2000)], 2.2 + chunk / 10)
    dialogue.hear([LOST], 3.0)
    dialogue.hear([Tick()], dialogue.deadline)
    return msgspec.structs.replace(
        recorded.flight,
        program="0.1.0",
        ending="agent_lost",
        verdict="agent",
        agents={"default": "0123456789ab"},
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "CA1.flight"
    path.write_bytes(pack(flight()))
    return path


def shown(*arguments: str) -> list[str]:
    result: Result = run("replay", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_a_call_is_shown_step_by_step(file: Path) -> None:
    lines = shown(str(file))
    assert lines[1:4] == [
        "ended     agent_lost (agent)",
        "recorded  by sts_trio 0.1.0",
        "agent     default, version 0123456789ab",
    ]
    assert "  stream  awaiting start -> started" in lines
    assert "  session awaiting SettingsApplied -> live" in lines
    assert any(line.endswith("sound: caller 980 ms") for line in lines)
    assert any("sound: agent 2.00 s, marks sent e0-1 to" in line for line in lines)
    assert any("woken by session" in line for line in lines)
    assert any(line.startswith("  waits   gap until ") for line in lines)
    assert lines[-1].endswith(" steps, all as they were.")
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize(("until", "steps"), [("3", 3), ("0.5", 4), ("2.15s", 6), ("0", 0)])
def test_it_ends_where_it_is_told_to(until: str, steps: int, file: Path) -> None:
    assert shown(str(file), "--until", until)[-1] == f"{steps} steps, all as they were."


def test_what_differs_is_shown_with_what_was(file: Path) -> None:
    good = flight()
    steps = [*good.steps]
    steps[3] = msgspec.structs.replace(steps[3], acts=[[events.AgentReady.NAME, {}], ["Dial", {}]])
    file.write_bytes(pack(msgspec.structs.replace(good, steps=steps)))
    result = run("replay", str(file), "--diff")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert "  heard   SettingsApplied" in lines
    assert "  same    tells agent.ready" in lines
    assert "  was     Dial" in lines
    assert not any("Where is" in line for line in lines)
    assert f"1 of {len(steps)} steps differ, from step 4 on, at 0.500 s" in result.stderr
    assert run("replay", str(file)).exit_code == 1


def test_a_flight_as_it_was_has_no_differences(file: Path) -> None:
    assert not any(line.startswith("  was") for line in shown(str(file), "--diff"))


def test_a_bug_is_shown(tmp_path: Path) -> None:
    good = flight()
    welcome = next(step for step in good.steps if step.heard[0][0] == "Welcome")
    steps = good.steps[: good.steps.index(welcome)]
    steps.append(msgspec.structs.replace(welcome, acts=None, answers="!"))
    path = tmp_path / "bug.flight"
    path.write_bytes(pack(msgspec.structs.replace(good, steps=steps)))
    assert any(line.startswith("  does    raises SettingsRaised") for line in shown(str(path)))


def test_a_test_is_written_that_passes_and_can_fail(file: Path, tmp_path: Path) -> None:
    written = tmp_path / "test_order.py"
    shown(str(file), "--test", str(written))
    beside = tmp_path / "test_order.flight"
    assert beside.read_bytes() == file.read_bytes()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(written)]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    good = flight()
    steps = [*good.steps[:-1], msgspec.structs.replace(good.steps[-1], acts=[])]
    beside.write_bytes(pack(msgspec.structs.replace(good, steps=steps)))
    with pytest.raises(AssertionError, match="1 steps differ"):
        replay_flight(beside)


def test_what_is_wrong_is_told_in_one_line(file: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "call.wav"
    foreign.write_bytes(b"RIFF")
    assert failure("replay", str(foreign), code=1).endswith("no flight of sts_trio")
    file.write_bytes(file.read_bytes()[:-1])
    assert "cut short" in failure("replay", str(file), code=1)
    assert "neither a file" in failure("replay", "CA404", code=1)
    file.write_bytes(pack(flight()))
    assert "--until" in failure("replay", str(file), "--until", "soon", code=2)
    assert "--test" in failure("replay", str(file), "--test", str(tmp_path / "x.txt"), code=2)
    nowhere = str(tmp_path / "nowhere" / "test_x.py")
    assert "cannot be written" in failure("replay", str(file), "--test", nowhere, code=1)


async def test_a_call_that_was_served_is_found_by_its_sid_and_goes_as_it_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast_clock: object
) -> None:
    root = tmp_path / "flights"
    variables = {"STS_FLIGHT": "all", "STS_FLIGHTS": str(root)}
    async with (
        scripted_agent("We are open from nine to six, every day but Sunday.") as agent,
        running(variables, agent=agent) as server,
    ):
        report = await call(server.url, ["When are you open?", "And today?"], barge_in_after=1.0)
        for _ in range(500):
            if [*root.rglob("*.flight")]:
                break
            await trio.to_thread.run_sync(time.sleep, 0.02)  # a thread writes it
    monkeypatch.setenv("STS_FLIGHTS", str(root))
    lines = shown(report.call_sid)
    assert lines[-1].endswith(" steps, all as they were.")
    assert any(events.CallBargeIn.NAME in line for line in lines)
    [kept] = root.rglob("*.flight")
    told = unpack(kept.read_bytes())
    assert told.verdict == "success"
    other = path_of(root, report.call_sid, told.began_at - 3600)
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_bytes(b"")
    assert "earlier stream" in run("replay", report.call_sid).stderr

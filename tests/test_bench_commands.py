"""The parts of the benchmarks that run others: a rolling restart, and `sts-trio load`."""

import os
import stat
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio.testing
from rig_load import RUN

from sts_trio.load import load_test, machine
from sts_trio.load.plan import Plan
from sts_trio.load.report import Report
from sts_trio.net.http import Answer

BENCH = Path(__file__).parents[1] / "bench"
sys.path.insert(0, str(BENCH))

import load_command  # noqa: E402
import roll  # noqa: E402
from generator import NoRun  # noqa: E402
from servers import Bridge  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="benchmarks run on Linux")

REPORT = Report(
    tool="0",
    made=machine.describe(),
    generator="C",
    criterion={},
    plan=Plan(calls=100, ramp=50, seconds=10),
    tried=[load_test.judge(100, RUN, 0)],
)


def load(directory: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> Report:
    """A search in which `command`, of the shell, stands in for `sts-trio load`."""
    (directory / "report").write_bytes(msgspec.json.encode(REPORT))
    python = directory / "python"
    python.write_text(f"#!/bin/sh\n{command}\n")
    python.chmod(stat.S_IRWXU)
    monkeypatch.setattr(sys, "executable", str(python))
    bridge = Bridge(os.getpid(), 5001, 5002, 0)
    core = min(os.sched_getaffinity(0))
    return load_command.run(bridge, directory, core, {"--seconds": 2})


def test_a_load_test_is_told_its_bridge_and_its_report_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = f'echo "$@" > {tmp_path}/told; cp {tmp_path}/report {tmp_path}/load.json'
    assert load(tmp_path, monkeypatch, command) == REPORT
    assert (tmp_path / "told").read_text().split() == [
        *("-m", "sts_trio", "load", "ws://127.0.0.1:5001/twilio", "--find-capacity"),
        *("--seconds", "2", "--agent-port", "5002", "--pid", str(os.getpid())),
        *("--generator", "c", "--out", f"{tmp_path}/load"),
    ]


@pytest.mark.parametrize(
    ("command", "patience", "reason"),
    [
        ("echo Error: nobody is there; exit 1", 60.0, "nobody is there"),
        ("exec sleep 600", 0.1, "did not end within"),
    ],
)
def test_a_load_test_that_finds_nothing_tells_why(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    patience: float,
    reason: str,
) -> None:
    monkeypatch.setattr(load_command, "PATIENCE", patience)
    with pytest.raises(NoRun, match=reason):
        load(tmp_path, monkeypatch, command)


class Webhook:
    """Answers in turn, and notes what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._answers = list(answers)

    async def ask(self, url: str, fields: Any) -> Answer:
        self.asked.append((url, fields["CallStatus"]))
        return Answer(200, {}, self._answers.pop(0).encode())


STREAM = (
    '<Response><Connect><Stream url="ws://a/twilio"><Parameter name="n" value="v"/></Stream>'
    "</Connect></Response>"
)


async def a_call(monkeypatch: pytest.MonkeyPatch, *answers: str, streams: int) -> Any:
    """A phone, and its webhook, after so many streams; each lasts for a second and its number."""
    phones, phone, webhook = roll.Phones("http://a"), roll.Phone(7), Webhook(*answers)
    monkeypatch.setattr(phones, "_webhooks", webhook)

    async def stream(phone: Any, url: str, parameters: dict[str, str]) -> float:
        assert (url, parameters) == ("ws://a/twilio", {"n": "v"})
        phone.streams += 1
        if phone.gaps:
            phone.gaps[-1] += trio.current_time()
        await trio.sleep(phone.streams)
        if phone.streams == streams:
            phones.hang_up.set()
        lost = trio.current_time()
        await trio.sleep(0.5)
        return lost

    monkeypatch.setattr(phones, "_stream", stream)
    await phones.call(phone)
    return phone, webhook


async def test_a_phone_goes_where_its_call_goes_and_tells_its_gaps(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    phone, webhook = await a_call(monkeypatch, STREAM, STREAM, STREAM, streams=3)
    assert (phone.is_over, phone.gaps, phone.problem) == (True, [0.5, 0.5], "")
    first, *others = webhook.asked
    assert first == (f"http://a/twiml{roll.POLICY}", "ringing")
    assert others == [(f"http://a/twiml/after{roll.POLICY}", "in-progress")] * 2


async def test_a_phone_whose_call_is_broken_off_tells_by_what(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    phone, _ = await a_call(monkeypatch, STREAM, "<Response><Hangup/></Response>", streams=9)
    assert not phone.is_over
    assert phone.problem == "no stream: <Response><Hangup/></Response>"


def test_what_calls_heard_of_the_restart_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    phones = roll.Phones("http://a")
    phones.all = [
        roll.Phone(0, is_over=True, gaps=[0.5]),
        roll.Phone(1, is_over=True, gaps=[1.5, -9.0]),  # the last one is still without a stream
        roll.Phone(2, problem="no stream"),
    ]
    roll.tell(phones, {"a-1": 3.21})
    told = capsys.readouterr()
    assert "2 of 3 calls lasted until their caller hung up" in told.out
    assert "moves: 2," in told.out
    assert "most 1.50 s" in told.out
    assert "a-1: 3.2 s from SIGTERM until it took calls again" in told.out
    assert told.err == "  1 times: no stream\n"

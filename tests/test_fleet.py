"""What measures a fleet: that its agent remembers what it should, and that it counts what it says.

The faults themselves are tried by `nox -s fleet`.
"""

import functools
import io
import math
from pathlib import Path
from typing import Any

import fleet_calls
import fleet_picture
import herd
import keeper
import msgspec
import pytest
import trio
from fleet_calls import Told

from sts_trio.audio.frames import SILENCE, length
from sts_trio.audio.tones import tones
from sts_trio.offline.protocol.script import CallFunction
from sts_trio.simulate.phone import Phone
from sts_trio.simulate.phone_call import PhoneCall, Streamed
from sts_trio.simulate.report import report as made_report
from sts_trio.simulate.script import CallerScript
from sts_trio.testing import call, running
from sts_trio.testing import fast_clock as fast_clock


def mind() -> keeper.Keeper:
    return keeper.Keeper(keeper.Log(io.StringIO(), "s"))


@pytest.mark.parametrize("said", ["A1234", "0000", "123A456B789C*0#D", ""])
def test_tones_are_heard_as_the_keys_that_they_are(said: str) -> None:
    assert keeper.keys(quiet(0.33) + tones(said) + quiet(0.33)) == said


def test_speech_is_no_key() -> None:
    from sts_trio.offline.speech import voice

    assert keeper.keys(voice.say("We have three cars in that range.")) == ""


def test_a_word_is_known_by_who_has_heard_it_and_by_who_was_told() -> None:
    first, second = mind(), mind()
    assert first.reply("A1234") == keeper.TALK
    assert first.reply("C") == "*1234"
    assert second.reply("C") == "**"
    second.recall_caller("A1234")
    assert second.reply("C") == "*1234"


def test_a_function_is_called_where_there_is_one() -> None:
    one = mind()
    one.recall_caller("A1234")
    assert one.reply("B7", {"note"}) == CallFunction("note", {"code": "1234", "number": "7"})
    assert one.reply("B7") == keeper.TALK


async def test_a_caller_is_remembered_by_the_agent_of_one_call(
    fast_clock: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLEET_NOTES", str(tmp_path / "notes"))
    log = io.StringIO()
    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_tcp, functools.partial(keeper.serve, log), 0)
        listeners = await nursery.start(functools.partial(serve, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        agent = f"ws://127.0.0.1:{port}/v1/agent/converse"
        async with running(agent=agent, functions="fleet_functions:note") as server:
            report = await call(server.url, fleet_calls.steps(1234, talks=1)[:-2])
        nursery.cancel_scope.cancel()
    assert "*1234" in keeper.keys(report.heard)
    told = [msgspec.json.decode(line, type=Told) for line in log.getvalue().splitlines()]
    assert [each.words for each in told if each.what == "user"] == ["A1234", "D0", "B1", "C"]
    assert [each.words for each in told if each.what == "function"] == ['"noted"']
    assert (told[0].what, told[-1].what) == ("begun", "ended")


def phone_call(heard: bytes, *streams: tuple[float, float]) -> PhoneCall:
    phone = Phone(CallerScript([], math.inf), None)
    phone.earpiece.play(heard, 0.0)
    phone.earpiece.advance(len(heard) / 8000)
    told = made_report(
        phone, seconds=9.0, refused={}, first_refusal="", closed_by="caller", close_code=None,
        call_sid="CA1",
    )  # fmt: skip
    return PhoneCall(
        call_sid="CA1",
        status="completed",
        ended_by="caller",
        report=told,
        requests=(),
        streams=tuple(Streamed("MZ", "ws://", *each, "lost", None) for each in streams),
        connected=(),
        problems=(),
    )


def quiet(seconds: float) -> bytes:
    return SILENCE * length(seconds)


def test_a_gap_is_from_the_cut_word_to_the_next_one() -> None:
    heard = tones("7" * 10) + quiet(1.4) + tones("*1234")
    [(at, gap)] = fleet_calls.outcome(1234, phone_call(heard, (0.0, 1.9), (2.5, 9.0))).moves
    assert at == 1.9
    assert gap == pytest.approx(1.5, abs=0.05)  # 1.9 s to 3.4 s


def test_who_had_just_said_all_was_not_cut() -> None:
    said = tones(keeper.TALK)
    heard = said + quiet(2.0) + tones("*1234")
    end = len(said) / 8000
    one = fleet_calls.outcome(1234, phone_call(heard, (0.0, end), (end + 0.4, 9.0)))
    assert [gap for _, gap in one.moves] == [pytest.approx(0.4)]


def test_a_gap_between_two_turns_is_the_time_without_a_line() -> None:
    heard = tones("7" * 10) + quiet(2.0) + tones("*1234")
    [(at, gap)] = fleet_calls.outcome(1234, phone_call(heard, (0.0, 2.6), (3.0, 9.0))).moves
    assert at == 2.6
    assert gap == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("said", "is_remembered"), [("*1234", True), ("*12", False), ("**", False)]
)
def test_remembered_is_what_the_caller_has_heard(said: str, is_remembered: bool) -> None:
    one = fleet_calls.outcome(1234, phone_call(tones(said), (0.0, 9.0)))
    assert one.is_remembered is is_remembered


def test_the_gap_is_drawn(tmp_path: Path) -> None:
    heard = tones("7" * 10) + quiet(1.4) + tones("*1234")
    one = fleet_calls.outcome(1234, phone_call(heard, (0.0, 1.9), (2.5, 9.0)))
    target = tmp_path / "gaps.svg"
    fleet_picture.draw(target, [("kill", one), ("hang", one)])
    assert "<svg" in target.read_text()


def lines(*told: tuple[str, float, str, str]) -> list[Told]:
    return [Told(*each) for each in told]


def record(*said: str) -> dict[str, Any]:
    return {"events": [{"kind": "user", "body": {"text": each}} for each in said]}


def test_a_word_that_no_record_has_is_missing() -> None:
    one = fleet_calls.outcome(1234, phone_call(b"", (0.0, 9.0)))
    told = lines(("s", 1.0, "begun", ""), ("s", 2.0, "user", "A1234"), ("s", 3.0, "user", "C"))
    told += lines(("s", 2.5, "user", "Please go on."))  # not the caller
    fleet_calls.complete(one, told, record("A1234"), [])
    assert (one.missing, one.sessions, one.twice) == (["C"], 1, 0)


def test_sessions_and_functions_are_counted_by_what_was_told() -> None:
    one = fleet_calls.outcome(1234, phone_call(b"", (0.0, 9.0)))
    told = lines(
        ("lost", 1.0, "begun", ""),
        ("lost", 2.0, "ended", ""),
        ("left", 1.0, "begun", ""),
        ("heir", 3.0, "begun", ""),
        ("heir", 4.0, "user", "C"),
        ("heir", 5.0, "ended", ""),
    )
    notes = ["CA1 1234 1 begun", "CA1 1234 1 done", "CA1 1234 1 begun", "CA1 1234 2 begun"]
    fleet_calls.complete(one, told, record("C"), notes)
    assert (one.sessions, one.twice, one.missing) == (2, 1, [])


def test_the_log_of_the_agent_is_told_by_code_word(tmp_path: Path) -> None:
    log = tmp_path / "agent"
    told = lines(("s", 1.0, "begun", ""), ("s", 2.0, "recalled", "A1234"), ("t", 1.0, "begun", ""))
    log.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in told))
    assert fleet_calls.told_by_agent(log) == {"1234": told[:2], "": told[2:]}


def test_percentiles_are_values_that_were_measured() -> None:
    assert fleet_calls.percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert fleet_calls.percentile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert fleet_calls.percentile([], 0.5) == 0.0


def test_a_herd_is_counted_by_what_its_agents_were_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "agent"
    told = lines(
        ("s", 1.0, "begun", ""), ("s", 1.5, "recalled", "A0000"),
        ("t", 3.5, "begun", ""), ("t", 4.0, "user", "A0001"),
    )  # fmt: skip
    log.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in told))
    assert herd.dials(log) == [0.0, 2.5]
    assert herd.told_their_word(log, 2) == 1
    callers = [herd.Waiting(0, 0.5, 0.6, 0.7), herd.Waiting(1, problem="no answer")]
    herd.tell(callers, log)
    shown = capsys.readouterr()
    assert "2 callers, 1 with an agent that was told their word" in shown.out
    assert "TwiML: 1, after p50 0.50 s" in shown.out
    assert shown.err == "  1 times: no answer\n"

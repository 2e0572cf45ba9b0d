"""`sts-trio doctor --twilio`, on the simulated carrier."""

import socket
from pathlib import Path

import pytest
import trio
from limits import HANG
from rig_at_the_phone import NUMBER, OURS, AtThePhone
from rig_commands import failure

from sts_trio import config
from sts_trio.commands import doctor
from sts_trio.doctor import experiments
from sts_trio.doctor.experiments import Answer
from sts_trio.errors import ConfigError
from sts_trio.outbound.twilio_rest import TwilioRest
from sts_trio.simulate.carrier import Carrier
from sts_trio.simulate.rest import Rest
from sts_trio.simulate.unknowns import readings
from sts_trio.testing import fast_clock as fast_clock
from sts_trio.testing.clock import jumping_only_when_nothing_works

TOKEN = "s3cret-of-an-account"
VARIABLES = {
    "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
    "TWILIO_AUTH_TOKEN": TOKEN,
    "STS_PUBLIC_URL": "http://127.0.0.1:5000",
    "STS_CALLER_ID": OURS,
    "STS_DIAL_PREFIXES": "+1",
}


@pytest.fixture
def nothing_listens() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


async def test_all_calls_are_placed_and_make_the_carrier_that_it_is(
    fast_clock: object,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    nothing_listens: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(experiments, "PATIENCE", 15.0)
    reading = readings()["all others"]
    carrier = Carrier(VARIABLES["TWILIO_ACCOUNT_SID"], token=TOKEN, unknowns=reading)
    rest = Rest(carrier)
    url = f"http://127.0.0.1:{nothing_listens}"
    settings = config.load({**VARIABLES, "STS_AGENT": "offline", "STS_PUBLIC_URL": url}, tmp_path)
    with jumping_only_when_nothing_works(), trio.fail_after(HANG * 100):
        async with trio.open_nursery() as nursery:
            await nursery.start(rest.serve)
            account = TwilioRest(carrier.account_sid, TOKEN, api=rest.url)
            answers = await doctor.examine(
                settings, account, AtThePhone(carrier), NUMBER, "127.0.0.1", nothing_listens
            )
            nursery.cancel_scope.cancel()
    lines = doctor.table(answers)
    told = capsys.readouterr().out
    assert [f"Call {number}:" in told for number in range(1, 9)] == [True] * 8
    assert len(carrier.placed) == 8
    assert any(line.startswith("handshake_timeout ") and "10.0" in line for line in lines)
    made = experiments.unknowns(answers)
    assert (made.action_on_reset, made.redirect_overlaps) == (False, True)
    assert lines[-1].startswith("Unknowns(action_on_reset=False")


async def test_who_listens_there_already_is_told_of(tmp_path: Path) -> None:
    settings = config.load({**VARIABLES, "STS_AGENT": "offline"}, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.RaisesGroup(pytest.RaisesExc(ConfigError, match="cannot listen on")):
            await doctor.examine(
                settings, TwilioRest.of(settings), AtThePhone(Carrier()), NUMBER, "127.0.0.1", port
            )


def test_what_no_call_has_told_is_said_so() -> None:
    answers = [Answer("action_delay", None, "the call did not tell"), Answer("gap", 0.71, "heard")]
    assert doctor.table(answers)[1:3] == [
        "action_delay  not known  the call did not tell",
        "gap           0.71 s     heard",
    ]


@pytest.mark.parametrize(
    ("given", "arguments", "reason"),
    [
        ({}, ("--twilio",), "set TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN, STS_PUBLIC_URL"),
        (VARIABLES, ("--twilio",), "Give --to"),
        (VARIABLES, ("--twilio", "--to", "+4915"), "no prefix in STS_DIAL_PREFIXES allows it"),
    ],
)
def test_what_is_missing_is_named(
    given: dict[str, str],
    arguments: tuple[str, ...],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert reason in failure("doctor", *arguments, code=2)


def test_whom_to_call_is_for_twilio_alone() -> None:
    assert failure("doctor", "--to", "+15005550001", code=2) == "Error: --to: is for --twilio"

"""Calls that were recorded go as they went. `record.py` records them anew."""

from pathlib import Path

import pytest

from sts_trio.flight.file import unpack
from sts_trio.observe import events
from sts_trio.testing import replay_flight

FLIGHTS = sorted(Path(__file__).parent.glob("*.flight"))


@pytest.mark.parametrize("flight", FLIGHTS, ids=lambda path: path.stem)
def test_a_call_goes_as_it_went(flight: Path) -> None:
    replay_flight(flight)


def test_the_calls_are_of_many_kinds() -> None:
    flights = [unpack(path.read_bytes()) for path in FLIGHTS]
    acts = {
        act[0]
        for each in flights
        for step in each.steps
        for act in step.acts or ()
        if isinstance(act, list)
    }
    assert len(FLIGHTS) >= 11
    assert {each.verdict for each in flights} >= {"success", "agent", "caller"}
    assert {
        events.CallBargeIn.NAME,
        "CallFunctions",
        "Collected",
        events.AgentHandedOver.NAME,
        events.AgentReconnected.NAME,
        events.CallAskedAnew.NAME,
        "HangUp",
    } <= acts
    assert any(each.masked == ["words", "digits"] for each in flights)

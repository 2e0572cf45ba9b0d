"""Whatever a dialogue hears, its replay does the same: with the words, and without any. As many
calls as one likes: `bench/replays.py`."""

import random
from typing import Any

import pytest
import replays
import test_dialogue_machine
import test_dialogue_machine_policy
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from rig_flight import Recorded

from sts_trio.flight.file import pack, unpack
from sts_trio.flight.masking import masked
from sts_trio.flight.replay import differences

MACHINES = [
    (test_dialogue_machine, test_dialogue_machine.AnyConversation),
    (test_dialogue_machine_policy, test_dialogue_machine_policy.AnyPolicy),
]


@pytest.mark.parametrize(("module", "machine"), MACHINES)
def test_a_random_call_is_replayed_to_the_same_acts(
    module: Any, machine: type[RuleBasedStateMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = Recorded()
    monkeypatch.setattr(module, "Dialogue", recorded)

    class Replayed(machine):  # type: ignore[valid-type, misc]
        def teardown(self) -> None:
            if recorded.recorder is None:
                return
            flight = recorded.flight
            assert recorded.recorder.stopped is None
            assert differences(unpack(pack(flight))) == []
            bare = masked(flight, keeps_words=False, keeps_numbers=False)
            assert differences(unpack(pack(bare))) == []
            recorded.recorder = None

    run_state_machine_as_test(Replayed, settings=settings(max_examples=15, stateful_step_count=50))


@pytest.mark.parametrize("seed", range(5))
def test_calls_in_which_anything_is_said_are_replayed_to_the_same_acts(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(20):
        replays.check(replays.RandomCall(chance).flight)

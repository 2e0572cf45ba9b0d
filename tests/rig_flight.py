"""Dialogues of which a flight is recorded, for tests that replay them."""

from collections.abc import Callable
from typing import Any

from sts_trio.flight.file import Flight, steps_of
from sts_trio.flight.recorder import Allowance, FlightRecorder
from sts_trio.flight.replay import written_policy
from sts_trio.logic.dialogue import Dialogue, any_call, no_call
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.requests import says_all


class Recorded:
    """Makes dialogues in the place of `Dialogue`; `flight` is that of the newest."""

    def __init__(self) -> None:
        self.recorder: FlightRecorder | None = None
        self._about: dict[str, Any] = {}

    def __call__(self, settings: Callable[..., Any], **given: Any) -> Dialogue:
        defaults: dict[str, Any] = {
            "is_expected": any_call,
            "forward": 0.02,
            "now": 0.0,
            "can_say": says_all,
            "needs_release": no_call,
        }
        options = defaults | given
        options["policy"] = options.get("policy") or CallPolicy()
        self._about = {
            "began": options["now"],
            "forward": options["forward"],
            "policy": written_policy(options["policy"]),
        }
        self.recorder = FlightRecorder(settings, Allowance(), 0.0, **options)
        return self.recorder.dialogue

    @property
    def flight(self) -> Flight:
        assert self.recorder is not None
        self.recorder.finish()
        steps = list(steps_of(self.recorder.lots))
        return Flight(program="", call_sid="CA", began_at=0.0, steps=steps, **self._about)

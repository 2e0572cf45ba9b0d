"""The examination of Twilio, tried on the simulated carrier: whatever that is made to do, is found
out."""

import functools
import math
from typing import Any

import pytest
import trio
from rig_at_the_phone import NUMBER, OURS, AtThePhone

from sts_trio.doctor import experiments
from sts_trio.doctor.experiments import EXPERIMENTS, Answer, Examiner, Experiment
from sts_trio.doctor.site import Site
from sts_trio.outbound.twilio_rest import TwilioRest
from sts_trio.simulate.carrier import Carrier
from sts_trio.simulate.rest import Rest
from sts_trio.simulate.unknowns import Unknowns, readings
from sts_trio.testing import fast_clock as fast_clock
from sts_trio.testing.clock import jumping_only_when_nothing_works

TOKEN = "s3cret"


async def examined(unknowns: Unknowns, experiment: Experiment, token: str = TOKEN) -> list[Answer]:
    carrier = Carrier(token=TOKEN, unknowns=unknowns)
    rest = Rest(carrier)
    with jumping_only_when_nothing_works():
        async with trio.open_nursery() as nursery:
            await nursery.start(rest.serve)
            site = Site("", [token])
            serve = functools.partial(trio.serve_tcp, site.serve, 0, host="127.0.0.1")
            listeners = await nursery.start(serve)
            site.base = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            account = TwilioRest(carrier.account_sid, TOKEN, api=rest.url)
            phone = AtThePhone(carrier)
            examiner = Examiner(site, account, phone, to=NUMBER, from_=OURS)
            answers = await experiments.examine(examiner, experiment)
            nursery.cancel_scope.cancel()
    return answers


def asked(name: str) -> list[Experiment]:
    """The experiments that tell what a reading has other than by default."""
    return [
        experiment
        for experiment, fields in EXPERIMENTS.items()
        if name in fields or name in ("likeliest", "all others")
    ]


def test_each_unknown_is_asked_for_once() -> None:
    fields = [field for told in EXPERIMENTS.values() for field in told]
    assert sorted(fields) == sorted([*Unknowns.__struct_fields__, experiments.GAP])


@pytest.mark.parametrize(
    ("name", "experiment"), [(name, each) for name in readings() for each in asked(name)]
)
async def test_what_a_carrier_does_is_found_out(
    name: str, experiment: Experiment, fast_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "PATIENCE", 15.0)
    carrier = readings()[name]
    for answer in await examined(carrier, experiment):
        field = "action_delay" if answer.field == experiments.GAP else answer.field
        expected = getattr(carrier, field)
        if answer.field == experiments.GAP and not carrier.action_on_reset:
            expected = 0.0  # nothing is delayed that is not asked
        assert answer.value == about(expected), answer


def about(value: Any) -> Any:
    """A time is told as it was measured."""
    is_time = isinstance(value, float) and value < math.inf
    return pytest.approx(value, abs=0.15) if is_time else value


def test_the_answers_make_a_carrier() -> None:
    answers = [Answer("action_delay", 0.7, ""), Answer("action_on_reset", None, "")]
    assert experiments.unknowns(answers) == Unknowns(action_delay=0.7)


async def test_what_the_account_has_not_signed_is_nothing(fast_clock: object) -> None:
    for answer in await examined(Unknowns(), experiments.closed, token="another"):
        assert answer.value is None
        assert answer.how == "the call did not tell"

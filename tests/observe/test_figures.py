"""What happens in calls, counted."""

import math

import pytest

from sts_trio.errors import Cause
from sts_trio.observe import events
from sts_trio.observe.feed import EventFeed, call_event
from sts_trio.observe.figures import CALL_ENDED, CALLER_LEFT, RECOVERED, Figures


def value(figures: Figures, name: str, **labels: str) -> float | None:
    return figures.registry.get_sample_value(f"sts_{name}", labels)


def told(*told: events.OfCall, functions: tuple[str, ...] = (), call_sid: str = "CA1") -> Figures:
    figures = Figures(functions)
    event_feed = EventFeed()
    event_feed.listen(figures.hear)
    for event in told:
        event_feed.tell(call_event(call_sid, 1.0, event))
    return figures


def ended(cause: Cause, **more: object) -> events.CallEnded:
    return events.CallEnded(cause.label, cause.verdict.value, "", 12.0, **more)  # type: ignore[arg-type]


def test_each_call_ends_once_by_its_ending_and_verdict() -> None:
    figures = told(ended(Cause.STOP), ended(Cause.STOP), ended(Cause.CRASHED))
    assert value(figures, "calls_total", ending="stop", verdict="success") == 2
    assert value(figures, "calls_total", ending="crashed", verdict="ours") == 1
    assert value(figures, "call_duration_seconds_count") == 3
    assert value(figures, "call_duration_seconds_sum") == 36


def test_every_ending_is_there_before_it_happens_as_a_rate_needs_a_zero() -> None:
    figures = Figures()
    for cause in Cause:
        labels = {"ending": cause.label, "verdict": cause.verdict.value}
        assert value(figures, "calls_total", **labels) == 0


def test_what_a_turn_takes_is_counted_in_seconds() -> None:
    figures = told(
        events.AgentAnswerHeard(1.2),
        events.CallBargeIn(0.5),
        events.CallSilenced(0.12),
        events.CallFalseInterruption(1.0, True),
        events.AgentUnresponsive("an answer", 5.0),
        events.AgentReady(),
    )
    assert value(figures, "turn_response_seconds_sum") == 1.2
    assert value(figures, "turn_response_seconds_bucket", le="1.25") == 1
    assert value(figures, "turn_response_seconds_bucket", le="1.0") == 0
    assert value(figures, "barge_in_seconds_sum") == 0.12
    assert value(figures, "barge_ins_total") == 1
    assert value(figures, "false_interruptions_total") == 1
    assert value(figures, "agent_unresponsive_total") == 1


def losses(figures: Figures) -> list[float | None]:
    results = (RECOVERED, CALL_ENDED, CALLER_LEFT)
    return [value(figures, "agent_losses_total", result=result) for result in results]


LOST = events.AgentLost("agent_lost", "")


@pytest.mark.parametrize(
    ("happened", "counted"),
    [
        ([LOST, events.AgentReconnected("default", 1.0), ended(Cause.STOP)], [1, 0, 0]),
        ([LOST, LOST, LOST, events.AgentReconnected("default", 1.0)], [1, 0, 0]),
        ([LOST, LOST, ended(Cause.AGENT_REJECTED)], [0, 1, 0]),
        ([ended(Cause.AGENT_LOST)], [0, 1, 0]),
        ([LOST, ended(Cause.STOP)], [0, 0, 1]),
        ([ended(Cause.STOP)], [0, 0, 0]),
        ([LOST, ended(Cause.STOP), ended(Cause.STOP)], [0, 0, 1]),
    ],
)
def test_a_loss_counts_once_by_what_came_of_it(
    happened: list[events.OfCall], counted: list[float]
) -> None:
    figures = told(*happened)
    assert losses(figures) == counted
    assert not figures._without_agent or happened[-1] is LOST


def test_a_function_that_is_none_of_yours_makes_no_series_of_its_own() -> None:
    def finished(name: str) -> events.FunctionFinished:
        return events.FunctionFinished("1", name, "done", 0.3)

    figures = told(
        finished("book"),
        *[finished(f"made_up_{number}") for number in range(100)],
        events.FunctionRefused("1", "made_up", "no such function"),
        functions=("book",),
    )
    assert value(figures, "function_seconds_count", function="book", result="done") == 1
    assert value(figures, "function_seconds_count", function="other", result="done") == 100
    assert value(figures, "functions_refused_total") == 1
    [family] = [each for each in figures.registry.collect() if each.name == "sts_function_seconds"]
    assert {sample.labels["function"] for sample in family.samples} == {"book", "other"}


def test_what_was_dropped_and_violated_is_counted_at_the_calls_end() -> None:
    violations = {"caller: outbox full: audio dropped": 3, "agent: empty audio": 2, "agent: x": 1}
    figures = told(ended(Cause.STOP, violations=violations, caller_audio_dropped=0.4))
    assert value(figures, "outbox_drops_total", leg="caller") == 3
    assert value(figures, "outbox_drops_total", leg="agent") == 0
    assert value(figures, "protocol_violations_total", leg="agent") == 3
    assert value(figures, "caller_audio_dropped_seconds_total") == 0.4


def test_calls_that_came_from_another_process_are_counted_by_how_and_with_their_gap() -> None:
    figures = told(events.CallMoved("recovered", 1.2), events.CallMoved("returned", None))
    assert value(figures, "moves_total", how="recovered") == 1
    assert value(figures, "moves_total", how="returned") == 1
    assert value(figures, "moves_total", how="moved") == 0
    assert value(figures, "move_gap_seconds_sum") == 1.2
    assert value(figures, "move_gap_seconds_count") == 1


def test_what_the_process_tells_is_counted() -> None:
    figures = Figures()
    figures.dialled(0.2)
    figures.refused("full")
    figures.recorded("degraded")
    assert value(figures, "agent_dial_seconds_sum") == 0.2
    assert value(figures, "calls_refused_total", reason="full") == 1
    assert value(figures, "recordings_total", result="degraded") == 1
    assert value(told(events.CallCrashed()), "calls_crashed_total") == 1


def test_names_are_of_one_prefix_and_in_base_units() -> None:
    for family in Figures().registry.collect():
        assert family.name.startswith("sts_")
        assert family.documentation.endswith(".")
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
            bounds = [float(each.labels["le"]) for each in family.samples if "le" in each.labels]
            assert bounds == [] or (sorted(bounds) == bounds and bounds[-1] == math.inf)

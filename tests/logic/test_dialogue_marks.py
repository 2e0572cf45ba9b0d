"""A phone whose marks never come back: what Twilio does with `<Start><Stream>`."""

from rig_dialogue import echo, talking, violation

from sts_trio.logic.agent_audio import MARKS_WITHIN
from sts_trio.logic.due import NO_MARKS
from sts_trio.wire.deepgram import AgentAudioDone, Audio

WARNING = violation(f"caller: {NO_MARKS}")
SECOND = b"\x01" * 8000


def test_a_phone_that_echoes_no_mark_is_told_of_once() -> None:
    bridge = talking()
    bridge.wait_until(1)
    bridge.hear(Audio(SECOND), AgentAudioDone())
    acts = [(at, act) for at, act in bridge.wait_until(60) if act == WARNING]
    assert acts == [(2 + MARKS_WITHIN, WARNING)]
    bridge.hear(Audio(SECOND), AgentAudioDone())
    assert WARNING not in [act for _, act in bridge.wait_until(120)]
    assert bridge.violations == {f"caller: {NO_MARKS}": 1}


def test_one_echo_is_enough() -> None:
    bridge = talking()
    bridge.hear(Audio(SECOND), AgentAudioDone())
    bridge.wait_until(MARKS_WITHIN)
    bridge.hear(echo("e0-1"))
    bridge.wait_until(60)
    bridge.hear(Audio(SECOND), AgentAudioDone())
    bridge.wait_until(120)
    assert bridge.violations == {}


def test_a_mark_that_was_never_sent_is_no_echo() -> None:
    bridge = talking()
    bridge.hear(Audio(SECOND), AgentAudioDone(), echo("e0-9"))
    bridge.wait_until(60)
    assert bridge.violations == {f"caller: {NO_MARKS}": 1, "caller: a mark we never sent": 1}


def test_where_no_mark_was_due_yet_none_is_missed() -> None:
    """An agent that says half a word, and is silent."""
    bridge = talking()
    bridge.hear(Audio(SECOND[:160]))
    bridge.wait_until(60)
    assert bridge.violations == {}
    bridge.hear(AgentAudioDone())
    bridge.wait_until(120)
    assert bridge.violations == {f"caller: {NO_MARKS}": 1}

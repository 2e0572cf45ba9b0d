"""Who witnesses a dialogue is shown what it decides on, and decides by content in its place."""

from collections.abc import Sequence

import pytest
from rig_dialogue import STEPS, Bridge, talking
from rig_peers import SETTINGS, START, media

from sts_trio.logic.acts import Act, AgentReached, Heard, Tick
from sts_trio.logic.dialogue import Dialogue, SettingsWanted
from sts_trio.logic.perception import Perception
from sts_trio.logic.states import ClosingState, SessionState, StreamState
from sts_trio.observe import events
from sts_trio.wire import deepgram, deepgram_settings

VOICE = b"\x10\x90" * 80


class Shown:
    def __init__(self) -> None:
        self.heard: list[tuple[float, list[Heard]]] = []
        self.acts: list[list[Act]] = []

    def hear(self, batch: Sequence[Heard], now: float) -> None:
        self.heard.append((now, [*batch]))

    def see(self, acts: Sequence[Act]) -> None:
        self.acts.append([*acts])


def test_all_is_shown_but_the_audio_that_is_just_passed_on() -> None:
    shown = Shown()
    dialogue = Dialogue(lambda wanted: SETTINGS, witness=shown)
    acts = [dialogue.hear([step], 1.0) for step in STEPS.values()]
    acts.append(dialogue.hear([media(b"\xff" * 160)], 2.0))  # the stream begins to flow
    acts.append(dialogue.hear([deepgram.UserStartedSpeaking()], 3.0))
    passed_on = dialogue.hear([media(b"\xff" * 160)], 4.0)
    assert len(passed_on) == 1
    acts.append(dialogue.hear([Tick()], 5.0))
    assert shown.acts == acts
    assert [now for now, _ in shown.heard] == [1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 5.0]
    assert shown.heard[-1] == (5.0, [Tick()])


def test_what_a_bug_was_heard_with_is_shown() -> None:
    def broken(wanted: SettingsWanted) -> deepgram_settings.Settings:
        raise RuntimeError("a bug")

    shown = Shown()
    dialogue = Dialogue(broken, witness=shown)
    dialogue.hear([START], 0.0)
    dialogue.hear([AgentReached()], 0.0)
    with pytest.raises(RuntimeError, match="a bug"):
        dialogue.hear([deepgram.Welcome()], 0.0)
    assert shown.heard[-1] == (0.0, [deepgram.Welcome()])
    assert len(shown.acts) == 2


def test_whether_the_caller_was_to_be_heard_is_for_perception_to_say() -> None:
    class Deaf(Perception):
        def is_audible(self, audio: bytes) -> bool:
            return False

    told: list[float | None] = []
    for perception in (Perception(), Deaf()):
        dialogue = Dialogue(lambda wanted: SETTINGS, perception=perception)
        for step in STEPS.values():
            dialogue.hear([step], 0.0)
        dialogue.hear([media(VOICE)], 1.0)
        acts = dialogue.hear([deepgram.ConversationText("user", "Yes.")], 1.1)
        told += [act.until for act in acts if isinstance(act, events.CallTranscript)]
    assert told == [1.0, None]


def test_the_deadline_is_the_nearest_of_those_that_are_shown() -> None:
    bridge = Bridge()
    for step in STEPS.values():
        bridge.hear(step)
        assert bridge.dialogue.deadline == min(bridge.dialogue.deadlines.values())


def test_the_states_of_the_three_machines_are_shown() -> None:
    dialogue = talking().dialogue
    assert dialogue.states == (StreamState.FLOWING, SessionState.LIVE, ClosingState.NO)

    audio = dialogue.caller_audio
    assert (audio.waiting, audio.given, audio.keeps) == (0, 160, 16000)

"""A cough no longer ends the agent's sentence: what it has cut is played on."""

from math import inf

import msgspec
import pytest
from rig_dialogue import RECONNECTS, Bridge, echo, played, quiet, talking
from rig_peers import STREAM_SID, media
from telephone import WORD, Telephone, silent

from sts_trio.errors import Cause, Ending, How, Leg, LegEnded
from sts_trio.logic.acts import (
    Act,
    Close,
    FlushCaller,
    HangUp,
    Heard,
    Protect,
    RequestDone,
    SendToAgent,
    SendToCaller,
    WaitUntilHeard,
)
from sts_trio.logic.rest import LEAD_IN, MAX_RESUMES
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio
from sts_trio.wire.deepgram import (
    AgentAudioDone,
    Audio,
    ConversationText,
    FunctionCallRequest,
    FunctionToCall,
    InjectUserMessage,
    UserStartedSpeaking,
)

RESUMES = msgspec.structs.replace(RECONNECTS, resumes=True)
NOISE = UserStartedSpeaking()
SENTENCE = ConversationText("assistant", "one two three four five six seven eight nine ten")
VOICE = b"\x20\xa0" * 80
# A second of each.
AUDIO = b"".join(bytes([number]) * 8000 for number in (1, 2, 3, 4))


def speaking(*, is_whole: bool = True, resumes: bool = True) -> Bridge:
    """A sentence of four seconds, of which one was heard, at 1 s."""
    bridge = talking(RESUMES if resumes else RECONNECTS)
    bridge.hear(SENTENCE, Audio(AUDIO))
    if is_whole:
        bridge.hear(AgentAudioDone())
    bridge.wait_until(1)
    bridge.hear(echo("e0-1"))
    return bridge


def resumed(acts: list[tuple[float, Act]]) -> list[float]:
    return [at for at, act in acts if isinstance(act, events.CallFalseInterruption)]


def last_mark(acts: list[tuple[float, Act]]) -> twilio.Mark:
    """The echo that tells that all of it was heard."""
    names = [
        act.message.mark.name
        for _, act in acts
        if isinstance(act, SendToCaller) and isinstance(act.message, twilio.PlayMark)
    ]
    return echo(names[-1])


def heard_of(acts: list[tuple[float, Act]]) -> bytes:
    return played(act for _, act in acts)


def test_what_a_noise_has_cut_is_played_on_from_the_last_mark_with_a_little_before() -> None:
    bridge = speaking()
    assert FlushCaller() in bridge.hear(NOISE)
    assert heard_of(bridge.wait_until(2.19)) == b""
    acts = bridge.wait_until(2.2)
    assert resumed(acts) == [2.2]
    assert heard_of(acts) == AUDIO[8000 - LEAD_IN :]
    assert bridge.dialogue.statistics().false_interruptions == 1


def test_without_the_operators_wish_it_is_dropped() -> None:
    bridge = speaking(resumes=False)
    bridge.hear(NOISE)
    assert heard_of(bridge.wait_until(9)) == b""


@pytest.mark.parametrize(
    "begun",
    [
        ConversationText("user", "Wait."),
        deepgram.EndOfTurn(),
        deepgram.AgentThinking("hm"),
        deepgram.AgentStartedSpeaking(),
        FunctionCallRequest((FunctionToCall("f", "look"),)),
        Close(Ending(Cause.HUNG_UP)),
    ],
)
def test_with_words_or_anything_else_that_begins_it_is_dropped(begun: Heard) -> None:
    bridge = speaking()
    bridge.hear(NOISE, begun)
    assert resumed(bridge.wait_until(9)) == []


@pytest.mark.parametrize("what", [ConversationText("assistant", "Yes?"), Audio(b"\x07" * 160)])
def test_it_is_dropped_when_the_agent_says_something_else(what: Heard) -> None:
    bridge = speaking()
    bridge.hear(NOISE, AgentAudioDone(), what)
    assert resumed(bridge.wait_until(9)) == []


def test_what_the_agent_still_sends_of_it_is_played_on_too() -> None:
    bridge = speaking(is_whole=False)
    bridge.hear(NOISE, ConversationText("assistant", "eleven"), Audio(b"\x05" * 8000))
    acts = bridge.wait_until(2.2)
    assert heard_of(acts) == AUDIO[8000 - LEAD_IN :] + b"\x05" * 8000
    acts = [(0.0, act) for act in bridge.hear(Audio(b"\x06" * 160), AgentAudioDone())]
    assert heard_of(acts) == b"\x06" * 160
    turns = [act for act in bridge.hear(last_mark(acts)) if isinstance(act, events.CallHeard)]
    assert [turn.heard for turn in turns] == ["three four five six seven eight nine ten eleven"]


def test_the_words_are_told_as_they_were_heard() -> None:
    bridge = speaking()
    cut = [act for act in bridge.hear(NOISE) if isinstance(act, events.CallHeard)]
    assert [turn.heard for turn in cut] == ["one two"]
    acts = bridge.wait_until(6)
    on = [act for act in bridge.hear(last_mark(acts)) if isinstance(act, events.CallHeard)]
    assert [(turn.said, turn.heard) for turn in on] == [
        ("three four five six seven eight nine ten",) * 2
    ]


def test_whoever_goes_on_speaking_is_let_speak() -> None:
    bridge = speaking()
    bridge.hear(NOISE)
    for step in range(100):
        bridge.hear(media(VOICE))
        assert resumed(bridge.wait_until(1 + step * 0.02)) == []
    assert resumed(bridge.wait_until(3.5)) == []
    assert resumed(bridge.wait_until(3.6)) == [pytest.approx(3.56)]


def test_a_noise_that_does_not_end_is_no_speech() -> None:
    bridge = speaking()
    bridge.hear(NOISE)
    acts = []
    for step in range(250):
        bridge.hear(media(VOICE))
        acts += bridge.wait_until(1 + step * 0.02)
    assert resumed(acts) == [5]


def test_a_second_noise_puts_it_off_but_not_for_ever() -> None:
    bridge = speaking()
    acts = []
    for step in range(8):
        bridge.hear(NOISE)
        acts += bridge.wait_until(1 + step)
    assert resumed(acts)[0] == 5


def test_words_that_come_late_cut_what_is_played_on() -> None:
    bridge = speaking()
    bridge.hear(NOISE)
    bridge.wait_until(3)
    acts = bridge.hear(ConversationText("user", "Wait, wait."))
    assert SendToCaller(twilio.Clear(STREAM_SID)) in acts
    assert resumed(bridge.wait_until(9)) == []
    assert played(bridge.hear(Audio(b"\x09" * 160))) == b"\x09" * 160


def test_words_after_it_was_heard_cut_nothing() -> None:
    bridge = speaking()
    bridge.hear(NOISE)
    bridge.hear(last_mark(bridge.wait_until(6)))
    assert FlushCaller() not in bridge.hear(ConversationText("user", "Wait, wait."))


def test_a_noise_that_comes_again_and_again_is_not_talked_into_for_ever() -> None:
    bridge = talking(RESUMES)
    bridge.hear(SENTENCE, Audio(AUDIO * 9), AgentAudioDone())
    for _ in range(MAX_RESUMES + 3):
        bridge.hear(NOISE)
        bridge.wait_until(bridge.now + 1.5)
    assert bridge.dialogue.statistics().false_interruptions == MAX_RESUMES
    assert RequestDone(1) in bridge.hear(WaitUntilHeard(1, 5)), "what is dropped is not waited for"


def test_protected_words_are_not_cut_by_words_that_come_late() -> None:
    bridge = speaking()
    bridge.hear(NOISE)
    bridge.wait_until(3)
    bridge.hear(Protect())
    assert FlushCaller() not in bridge.hear(ConversationText("user", "Wait, wait."))


def test_while_there_is_a_rest_not_all_has_been_heard() -> None:
    bridge = speaking()
    bridge.hear(NOISE)
    assert RequestDone(1) not in bridge.hear(WaitUntilHeard(1, 60))
    assert RequestDone(1) in bridge.hear(last_mark(bridge.wait_until(6)))


def test_an_agent_that_stopped_in_the_middle_is_asked_to_go_on_after_the_rest() -> None:
    phone = Telephone(silent)
    phone.wait(1)
    phone.hear(SENTENCE, Audio(b"\x31" * 24_000))
    phone.wait(1)
    phone.hear(NOISE, AgentAudioDone())
    phone.wait(6)
    assert InjectUserMessage("Please go on.") not in phone.told
    phone.wait(0.5)
    # 1.2 s, two seconds and a little of the rest, three seconds.
    assert InjectUserMessage("Please go on.") in phone.told
    assert phone.heard(WORD) == [0.36, 1.0, 3.2]


def test_after_a_whole_sentence_nobody_is_asked_to_go_on() -> None:
    phone = Telephone(silent)
    phone.wait(1)
    phone.hear(SENTENCE, Audio(b"\x31" * 24_000), AgentAudioDone())
    phone.wait(1)
    phone.hear(NOISE)
    phone.wait(9)
    assert not any(isinstance(told, InjectUserMessage) for told in phone.told)
    assert not quiet(act for act in phone.bridge.hear() if isinstance(act, SendToAgent))


def test_audio_without_words_is_played_on_too() -> None:
    bridge = talking(RESUMES)
    bridge.hear(Audio(AUDIO), AgentAudioDone(), NOISE)
    assert heard_of(bridge.wait_until(1.2)) == AUDIO


@pytest.mark.parametrize("within", [5.0, inf])
def test_a_noise_in_its_goodbye_makes_no_loss_of_an_agent_that_has_finished(within: float) -> None:
    """It closes when all is said. Nobody is to make up the rest but what is there of it."""
    bridge = talking(msgspec.structs.replace(RESUMES, answer_within=within))
    bridge.hear(SENTENCE, Audio(AUDIO), AgentAudioDone())
    bridge.wait_until(1)
    bridge.hear(echo("e0-1"), NOISE)
    acts = [(1.0, act) for act in bridge.hear(LegEnded(Leg.AGENT, How.CLOSED, 1000))]
    assert heard_of(acts) == AUDIO[8000 - LEAD_IN :]
    assert HangUp(Ending(Cause.AGENT_FINISHED, "1000")) in bridge.hear(last_mark(acts))


def test_in_the_midst_of_a_sentence_no_agent_has_finished() -> None:
    bridge = talking(msgspec.structs.replace(RESUMES, answer_within=5.0))
    bridge.hear(SENTENCE, Audio(AUDIO), NOISE)
    lost = bridge.hear(LegEnded(Leg.AGENT, How.CLOSED, 1000))
    assert events.AgentLost in map(type, lost)

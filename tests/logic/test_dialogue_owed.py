"""What the agent owes: whatever began it and whatever the agent does, nobody meets silence."""

from collections.abc import Callable
from math import inf

import msgspec
import pytest
from rig_peers import media
from telephone import APOLOGY, CLIP, CLOSED, LOST, OURS, POLICY, WORD, Telephone, silent, speaks

from sts_trio.errors import Cause, Ending
from sts_trio.logic.acts import Ask, Close, HandOver, Heard
from sts_trio.observe import events
from sts_trio.wire import deepgram, deepgram_settings, twilio
from sts_trio.wire.deepgram import (
    AgentAudioDone,
    AgentError,
    AgentThinking,
    AgentWarning,
    Audio,
    ConversationText,
    FunctionCallRequest,
    FunctionToCall,
    InjectUserMessage,
    UserStartedSpeaking,
)

WITHIN = 5.0
AHEAD = 0.05
QUESTION = ConversationText("user", "Where is my order?")
LONG = b"\x51" * 80_000

FUNCTION = FunctionCallRequest((FunctionToCall("f", "look", "{}"),))


def slow() -> list[tuple[float, Heard]]:
    return [(5.0 * n, AgentWarning("SLOW_THINK_REQUEST", "")) for n in range(1, 60)]


def thinks() -> list[tuple[float, Heard]]:
    return [(2.0 * n, AgentThinking("hm")) for n in range(1, 150)]


def writes() -> list[tuple[float, Heard]]:
    return [(0.1, ConversationText("assistant", "Yes.")), (0.2, AgentAudioDone())]


def hums() -> list[tuple[float, Heard]]:
    return [(0.1, Audio(b"\xff" * 160)), (0.2, AgentAudioDone())]


BEHAVIOURS: dict[str, Callable[[], list[tuple[float, Heard]]]] = {
    "nothing": silent,
    "only warnings": slow,
    "only thinking": thinks,
    "text without audio": writes,
    "audio of silence": hums,
    "audio at once": speaks,
    "an error": lambda: [(0.1, AgentError("FAILED_TO_THINK", "")), (0.15, LOST)],
    "a late error": lambda: [(4.0, AgentError("FAILED_TO_THINK", "")), (4.05, LOST)],
    "a loss": lambda: [(0.1, LOST)],
    "a close": lambda: [(0.1, CLOSED)],
}


LOSSES = {Cause.AGENT_MUTE, Cause.AGENT_ERROR, Cause.AGENT_LOST, Cause.AGENT_CLOSED}
# They die of questions, and of nothing else.
FAILING = {"an error", "a late error"}
ANSWERING = {"audio at once", *FAILING}


def _turn(phone: Telephone) -> None:
    phone.hear(QUESTION)
    phone.act()


def _cut(phone: Telephone) -> None:
    phone.hear(ConversationText("assistant", "Well,"), Audio(LONG))
    phone.wait(2)
    phone.hear(UserStartedSpeaking())


def _cut_while_owed(phone: Telephone) -> None:
    phone.hear(QUESTION)
    phone.wait(3)
    phone.hear(UserStartedSpeaking())


def _again_and_again(phone: Telephone) -> None:
    for _ in range(4):
        phone.hear(ConversationText("user", "Hello?"))
        phone.act()
        phone.wait(4)


def _noise_after_noise(phone: Telephone) -> None:
    phone.hear(QUESTION)
    for _ in range(12):
        phone.wait(2)
        phone.hear(UserStartedSpeaking())


def _ask(phone: Telephone) -> None:
    phone.hear(Ask(1, InjectUserMessage("And then?")))


def _keys(phone: Telephone) -> None:
    phone.hear(twilio.Dtmf(twilio.Digit("4"), stream_sid="MZ00000000000000000000000000000003"))
    phone.wait(1.6)  # told after a pause, and nothing is owed before


def _redial(phone: Telephone) -> None:
    phone.hear(QUESTION, LOST)


def _hand_over(phone: Telephone) -> None:
    phone.greeting = phone.answer
    phone.hear(HandOver("sales"))


def _function(phone: Telephone) -> None:
    phone.hear(FUNCTION)
    phone.wait(phone.function_takes)


BEGINS: dict[str, Callable[[Telephone], None]] = {
    "a caller's turn": _turn,
    "a turn, again and again": _again_and_again,
    "a noise while an answer is owed": _cut_while_owed,
    "noise after noise": _noise_after_noise,
    "a cut without words": _cut,
    "a greeting": lambda phone: None,
    "a function's answer": _function,
    "an injected question": _ask,
    "keys": _keys,
    "a hand-over": _hand_over,
    "a redial": _redial,
}


def play(begin: str, behaviour: str, *, runs: bool) -> tuple[Telephone, float]:
    """A call in which that is owed; since when."""
    answer = BEHAVIOURS[behaviour]
    is_greeting = begin == "a greeting"
    phone = Telephone(
        answer,
        greeting=answer if is_greeting else speaks,
        function_takes=12.0 if runs else 0.3,
        says_ours=behaviour in ANSWERING,
    )
    if is_greeting:
        since = 0.0
        phone.wait(0.3)
    else:
        phone.wait(1)
        since = phone.now + (1.5 if begin == "keys" else 0)
        BEGINS[begin](phone)
    if runs and phone.bridge.dialogue.phase.name == "TALKING":
        phone.hear(FUNCTION)
    phone.wait(200)  # three times a minute of signs of life
    return phone, since


def silence(phone: Telephone, since: float, behaviour: str) -> float:
    """Until there is an answer, if there is one: then nobody owes anything."""
    until = {"audio at once": WORD, "an error": OURS, "a late error": OURS}.get(behaviour, b"")
    return phone.longest_silence(since, until)


def table() -> list[tuple[str, str, float, float]]:
    """What began it, what the agent does, the longest silence without and with a function."""
    return [
        (
            begin,
            behaviour,
            silence(*play(begin, behaviour, runs=False), behaviour),
            silence(*play(begin, behaviour, runs=True), behaviour),
        )
        for begin in BEGINS
        for behaviour in BEHAVIOURS
    ]


@pytest.mark.parametrize("runs", [False, True], ids=["nothing runs", "a function runs"])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("begin", BEGINS)
def test_nobody_meets_silence_while_something_is_owed(
    begin: str, behaviour: str, runs: bool
) -> None:
    phone, since = play(begin, behaviour, runs=runs)
    assert silence(phone, since, behaviour) <= WITHIN + AHEAD
    assert phone.bridge.dialogue.statistics().longest_silence <= WITHIN + AHEAD
    assert phone.ending is not None
    if behaviour in FAILING and begin in ("a greeting", "a hand-over", "a turn, again and again"):
        # It dies of its own greeting, or of a question that comes again.
        assert phone.ending.cause in {Cause.SILENCE, Cause.AGENT_ERROR}
    elif behaviour in ANSWERING:
        assert phone.ending.cause is Cause.SILENCE, "it was the caller who said nothing more"
    else:
        assert phone.ending.cause in LOSSES
        assert phone.ending.apologised


# --- what else is seen and heard ------------------------------------------------------------------


def test_a_mute_agent_second_by_second() -> None:
    phone = Telephone(silent)
    phone.wait(1)
    phone.hear(QUESTION)
    phone.wait(100)
    # Five seconds of silence, a clip of one, whatever happens meanwhile.
    assert phone.heard(CLIP) == [6, 12, 18, 24, 30, 36, 42]
    assert phone.heard(APOLOGY) == [46.52]
    assert phone.ending == Ending(
        Cause.AGENT_MUTE, "owes a request to say it again", apologised=True
    )
    assert 6 in [at for at, told in phone.events if isinstance(told, events.AgentUnresponsive)]
    assert [at for at, told in phone.events if isinstance(told, events.AgentLost)] == [16, 31.26]
    assert phone.bridge.dialogue.statistics().reconnects == 2
    assert phone.bridge.dialogue.statistics().longest_silence == 5


def test_a_model_that_is_mute_is_the_end_though_its_voice_says_words_of_ours() -> None:
    """Else a caller who says it again, as they are asked to, is asked for ever."""
    phone = Telephone(silent, says_ours=True)
    phone.wait(1)
    phone.hear(QUESTION)
    for _ in range(20):
        asked = len(phone.heard(OURS))
        while phone.ending is None and len(phone.heard(OURS)) == asked:
            phone.wait(0.5)
        phone.wait(3)
        phone.hear(QUESTION)
    assert phone.ending == Ending(Cause.AGENT_MUTE, "owes an answer", apologised=True)
    assert (len(phone.heard(OURS)), len(phone.heard(APOLOGY))) == (1, 1)
    assert phone.bridge.dialogue.statistics().longest_silence <= WITHIN + AHEAD


def test_the_question_is_asked_anew_of_the_fresh_session() -> None:
    phone = Telephone(silent)
    phone.wait(1)
    phone.hear(QUESTION)
    phone.answer = speaks
    phone.wait(20)
    assert InjectUserMessage(QUESTION.content) in phone.told
    assert phone.heard(WORD)[-1] == 16.36
    assert not phone.bridge.dialogue.statistics().violations


def test_what_is_owed_is_told_to_the_log_once() -> None:
    phone = Telephone(silent)
    phone.wait(1)
    phone.hear(QUESTION, QUESTION)
    due = [told.what for _, told in phone.events if isinstance(told, events.AgentResponseDue)]
    assert due == ["a session", "a greeting", "an answer"]


@pytest.mark.parametrize("text", ["", "  "])
def test_to_no_words_nothing_is_owed(text: str) -> None:
    phone = Telephone(silent)
    phone.wait(1)
    phone.hear(ConversationText("user", text))
    phone.wait(4.8)
    assert phone.heard(CLIP) == []
    assert not phone.bridge.dialogue._parts.watch.is_owing


def test_a_stored_agent_may_have_no_greeting() -> None:
    settings = deepgram_settings.phone_settings("c0ffee00-0000-4000-8000-000000000000")
    policy = msgspec.structs.replace(POLICY, ask_after=inf)
    phone = Telephone(silent, greeting=silent, settings=settings, policy=policy)
    phone.hear(media())
    phone.wait(60)
    assert (phone.heard(CLIP), phone.ending) == ([], None)


def test_without_reconnecting_a_mute_agent_is_the_end() -> None:
    policy = msgspec.structs.replace(POLICY, reconnects=False)
    phone = Telephone(silent, policy=policy)
    phone.wait(1)
    phone.hear(QUESTION)
    phone.wait(30)
    assert phone.heard(APOLOGY) == [16]
    assert phone.ending == Ending(Cause.AGENT_MUTE, "owes an answer", apologised=True)


def test_nobody_is_talked_over_who_goes_on_speaking_after_a_cut() -> None:
    phone = Telephone(silent)
    phone.wait(1)
    _cut(phone)
    for _ in range(50 * 8):
        phone.hear(media(b"\x20\xa0" * 80))
        phone.wait(0.02)
    assert (phone.heard(CLIP), phone.told[1:]) == ([], [])
    phone.hear(QUESTION)
    phone.wait(4.9)
    assert phone.heard(CLIP) == []
    phone.wait(0.2)
    assert phone.heard(CLIP) == [16]


def test_an_idle_agent_that_sends_silence_is_silent_all_the_same() -> None:
    policy = msgspec.structs.replace(POLICY, ask_after=8.0)
    phone = Telephone(silent, policy=policy)
    phone.wait(1)
    for _ in range(50 * 9):
        phone.hear(Audio(b"\xff" * 160))
        phone.wait(0.02)
    assert deepgram.InjectAgentMessage(policy.asks, "queue") in phone.told


def test_a_goodbye_is_not_interrupted_by_what_was_owed() -> None:
    phone = Telephone(silent)
    phone.wait(1)
    phone.hear(QUESTION, Close(Ending(Cause.HUNG_UP)))
    phone.wait(10)
    assert (phone.heard(CLIP), phone.ended_at) == ([], 5)


if __name__ == "__main__":
    print("| what is owed | the agent does | silence | while a function runs |\n|---|---|---|---|")
    for first, second, without, with_function in table():
        print(f"| {first} | {second} | {without:.1f} s | {with_function:.1f} s |")

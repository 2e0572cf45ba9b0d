"""What is not to be kept of a call is not in its flight, which replays all the same."""

from typing import Any

import msgspec
import pytest
from rig_dialogue import LOST, STEPS, said_by_agent
from rig_flight import Recorded
from rig_peers import SETTINGS, STREAM_SID, media

from sts_trio.flight.file import Flight
from sts_trio.flight.masking import masked
from sts_trio.flight.replay import differences
from sts_trio.logic.acts import AgentReached, Ask, Collect, FunctionDone, Tick
from sts_trio.logic.policy import CallPolicy
from sts_trio.wire import deepgram, twilio

NUMBER = "+14155550123"
CARD = "4111111111111111"
SECRET = "hunter2secret"
WORDS = ["Wombat", "platypus", "kangaroo", "echidna", "bandicoot", "quokka", "numbat"]
START = twilio.Start(
    twilio.StreamStart(
        STREAM_SID,
        "CA1",
        custom_parameters={"from": NUMBER, "to": "client:me", "line": "open-sesame"},
    )
)

AGENT = said_by_agent("It is the agent.").role


def key(digit: str) -> twilio.Dtmf:
    return twilio.Dtmf(twilio.Digit(digit), stream_sid=STREAM_SID)


def flight(*, keys: str = "") -> Flight:
    """Of a call with words of all kinds in it."""
    recorded = Recorded()
    policy = CallPolicy(reconnects=True, resumes=True)
    dialogue = recorded(lambda wanted: SETTINGS, policy=policy)
    for step in (START, *[*STEPS.values()][1:], media(b"\xff" * 160)):
        dialogue.hear([step], 0.5)
    take_card = deepgram.FunctionToCall("f1", "take_card", f'{{"why": "{SECRET}"}}')
    look_up = deepgram.FunctionToCall("f2", "look_up", '{"what": "kangaroo"}')
    heard: list[Any] = [
        deepgram.ConversationText(AGENT, "Wombat. It is thereabouts."),
        deepgram.Audio(b"\x10" * 1600),
        deepgram.AgentAudioDone(),
        deepgram.ConversationText("user", f"My platypus is at {NUMBER}."),
        deepgram.AgentThinking("kangaroo"),
        Ask(1, deepgram.InjectAgentMessage("An echidna is here.")),
        deepgram.ConversationText(AGENT, "An echidna is here."),
        Ask(2, deepgram.InjectUserMessage("bandicoot")),
        deepgram.ConversationText("user", "Something that is much longer."),
        Ask(3, deepgram.UpdateThink({"prompt": "quokka", "provider": {"type": "open_ai"}})),
        deepgram.FunctionCallRequest((take_card, look_up)),
        Collect(4, 16, "#", 60.0, 60.0),
        *map(key, keys),
        FunctionDone(take_card, f'{{"card": "{SECRET}"}}'),
        FunctionDone(look_up, '"kangaroo"'),
        deepgram.ConversationText(AGENT, f"So it is {keys or 'known'}."),
        Ask(5, deepgram.InjectAgentMessage("An echidna is here.", behavior="queue")),
        deepgram.InjectionRefused("A numbat speaks."),
        Tick(),
    ]
    for number, message in enumerate(heard):
        dialogue.hear([message], 1.0 + number / 10)
    dialogue.hear([LOST], 20.0)
    for again in (AgentReached(), deepgram.Welcome(), deepgram.SettingsApplied()):
        dialogue.hear([again], 20.5)
    return msgspec.structs.replace(recorded.flight, sensitive=["take_card"], detail=f"to {NUMBER}")


def text(flight: Flight) -> str:
    return msgspec.json.encode(flight).decode()


def kept(flight: Flight, *, words: bool = True, numbers: bool = True) -> str:
    """As it is kept; it replays to the same acts."""
    bare = masked(flight, keeps_words=words, keeps_numbers=numbers)
    assert differences(bare) == []
    return text(bare)


def test_all_is_there_before_it_is_masked() -> None:
    assert all(word in text(flight(keys=CARD)) for word in [*WORDS, NUMBER, SECRET])


def test_words_are_kept_if_they_may_be() -> None:
    assert all(word in kept(flight()) for word in [*WORDS, NUMBER])


@pytest.mark.parametrize("numbers", [True, False])
def test_no_word_is_in_a_flight_without_words(numbers: bool) -> None:
    written = kept(flight(keys=CARD), words=False, numbers=numbers)
    assert not [word for word in [*WORDS, SECRET, CARD, "longer", "thereabouts"] if word in written]


def test_no_phone_number_is_in_a_flight_without_numbers() -> None:
    written = kept(flight(), numbers=False)
    assert NUMBER not in written
    assert NUMBER.strip("+")[-7:] not in written
    assert "platypus" in written


def test_keys_are_in_no_flight_wherever_they_come_back() -> None:
    written = kept(flight(keys=CARD))
    assert CARD not in written
    assert CARD[:4] not in written
    assert "platypus" in written


@pytest.mark.parametrize("finish", ["#", "*#", "0", "12", ""])
def test_a_key_that_ends_a_number_still_ends_it(finish: str) -> None:
    recorded = Recorded()
    dialogue = recorded(lambda wanted: SETTINGS)
    for step in STEPS.values():
        dialogue.hear([step], 0.5)
    dialogue.hear([Collect(1, 5, finish, 60.0, 60.0)], 1.0)
    for number, digit in enumerate("3401#2*99D8"):
        dialogue.hear([key(digit)], 2.0 + number)
        dialogue.hear([Tick()], 2.9 + number)
    bare = masked(recorded.flight, keeps_words=True, keeps_numbers=True)
    assert differences(bare) == []
    assert "99" not in "".join(
        each[1]["dtmf"]["digit"] for step in bare.steps for each in step.heard if each[0] == "Dtmf"
    )


def test_what_a_sensitive_function_is_given_and_gives_is_in_no_flight() -> None:
    written = kept(flight())
    assert SECRET not in written
    assert "take_card" in written
    assert "kangaroo" in written


def test_a_line_that_was_dialled_ahead_is_in_no_flight() -> None:
    assert "open-sesame" not in kept(flight())


def test_a_flight_is_masked_once_and_for_all() -> None:
    bare = masked(flight(keys=CARD), keeps_words=False, keeps_numbers=False)
    assert masked(bare, keeps_words=False, keeps_numbers=False) == bare


@pytest.mark.parametrize("arguments", ['{"a": "\\ud83d\\ude00 12"}', '{"a": 0.5}', "[1]", "no"])
def test_arguments_stay_an_object_or_none(arguments: str) -> None:
    recorded = Recorded()
    dialogue = recorded(lambda wanted: SETTINGS, policy=CallPolicy(reconnects=True))
    for step in [*STEPS.values(), key("1")]:
        dialogue.hear([step], 0.5)
    function = deepgram.FunctionToCall("f1", "look_up", arguments)
    dialogue.hear([deepgram.FunctionCallRequest((function,))], 1.0)
    dialogue.hear([FunctionDone(function, "1")], 1.1)
    dialogue.hear([LOST], 2.0)
    for again in (AgentReached(), deepgram.Welcome()):
        dialogue.hear([again], 2.5)
    for words in (True, False):
        kept(recorded.flight, words=words)

"""An agent that sends without end: each message costs its few steps, whatever came before it.

What a message costs in proportion to its own length is for the leg to bound (`test_agent_leg.py`),
what waits in an outbox for `test_outbox.py`, and functions for `test_function_calls.py`.
"""

from collections.abc import Callable

import pytest
from rig_dialogue import RECONNECTS, Bridge, echo, talking
from steps import at_most

from sts_trio.audio.frames import FRAME
from sts_trio.errors import Leg
from sts_trio.logic.acts import Ask, Heard, SendToCaller
from sts_trio.logic.agent_audio import MAX_AHEAD_SECONDS, AgentAudio
from sts_trio.logic.history import INTERRUPTED, MAX_LETTERS, TOO_LONG, History
from sts_trio.logic.output import MAX_REASONS
from sts_trio.logic.playout import MAX_KEPT_MARKS, Echo, Playout
from sts_trio.logic.requests import MAX_WAITING
from sts_trio.logic.utterance import MAX_SAID_CHARS, MAX_TEXT_CHARS
from sts_trio.wire import deepgram, twilio
from sts_trio.wire.anomalies import Malformed, Unknown
from sts_trio.wire.deepgram import (
    AgentAudioDone,
    Audio,
    CancelledFunction,
    ConversationText,
    FunctionCallCancelled,
    FunctionCallRequest,
    FunctionCallResponse,
    FunctionToCall,
    UserStartedSpeaking,
)

MANY = 1_000
# Some hundreds of instructions: a turn that is cut short and begun anew takes most.
MAX_STEPS = 1_000

PIECE = Audio(b"\x11" * 20)
LETTER = ConversationText("assistant", "a")
THEIRS = FunctionToCall("t", "look_up", client_side=False)

# {flood: the k-th of it}
FLOODS: dict[str, Callable[[int], list[Heard]]] = {
    "small audio": lambda k: [PIECE],
    "small audio, each an utterance": lambda k: [PIECE, AgentAudioDone()],
    "empty audio": lambda k: [Audio(b"")],
    "sentences": lambda k: [LETTER],
    "the caller's sentences": lambda k: [ConversationText("user", "a")],
    "sentences and audio, cut short": lambda k: [LETTER, PIECE, UserStartedSpeaking(), LETTER],
    "sentences, each an utterance": lambda k: [LETTER, AgentAudioDone()],
    "barge-ins": lambda k: [UserStartedSpeaking()],
    "turns": lambda k: [deepgram.AgentStartedSpeaking(), deepgram.AgentThinking(), PIECE],
    "done": lambda k: [AgentAudioDone()],
    "handshakes": lambda k: [deepgram.Welcome(), deepgram.SettingsApplied()],
    "warnings": lambda k: [deepgram.AgentWarning(f"code {k}", "text")],
    "unknown kinds": lambda k: [Unknown(Leg.AGENT, f"kind {k}")],
    "long unknown kinds": lambda k: [Unknown(Leg.AGENT, f"{k}" + "\x1b" * 100_000)],
    "malformed": lambda k: [Malformed(Leg.AGENT, f"reason {k}")],
    "acknowledgements": lambda k: [deepgram.ThinkUpdated(), deepgram.SpeakUpdated()],
    "refusals": lambda k: [deepgram.InjectionRefused("no")],
    "a function by one id": lambda k: [FunctionCallRequest((FunctionToCall("f", "look_up"),))],
    "functions of their own": lambda k: [
        FunctionCallRequest((FunctionToCall(f"t{k}", "look_up", client_side=False),)),
    ],
    "functions of their own, done": lambda k: [
        FunctionCallRequest((THEIRS,)),
        FunctionCallResponse("look_up", "{}", "t"),
    ],
    "results of nothing": lambda k: [FunctionCallResponse("nothing", "{}", f"t{k}")],
    "cancellations": lambda k: [FunctionCallCancelled((CancelledFunction(f"c{k}"),))],
    "functions, cancelled": lambda k: [
        FunctionCallRequest((FunctionToCall(f"f{k}", "look_up"),)),
        FunctionCallCancelled((CancelledFunction(f"f{k}"),)),
    ],
    "echoes of a mark": lambda k: [echo("e0-1")],
    "echoes of all marks": lambda k: [echo(f"e0-{k}")],
    "echoes of none": lambda k: [echo(f"e7-{k}")],
}


def as_it_is() -> Bridge:
    return talking(RECONNECTS)


def with_requests() -> Bridge:
    """As many as may wait, of two kinds that no flood acknowledges."""
    bridge = talking(RECONNECTS)
    for number in range(MAX_WAITING):
        text = f"{number}" * 100
        bridge.hear(
            Ask(
                number,
                deepgram.UpdatePrompt(text) if number % 2 else deepgram.InjectUserMessage(text),
            )
        )
    return bridge


def with_a_past() -> Bridge:
    """History and playout are full: of utterances, functions, marks that were never echoed."""
    bridge = talking(RECONNECTS)
    for number in range(MAX_KEPT_MARKS):
        bridge.hear(LETTER, Audio(bytes(FRAME)), AgentAudioDone())
        if number % 100 == 0:
            bridge.hear(FunctionCallRequest((THEIRS,)), FunctionCallResponse("look_up", "{}", "t"))
    return bridge


@pytest.mark.no_cover  # its steps are counted by the same means
@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("begin", [as_it_is, with_requests, with_a_past])
def test_no_message_costs_more_for_what_came_before(name: str, begin: Callable[[], Bridge]) -> None:
    bridge = begin()
    heard: list[Heard] = [message for k in range(MANY) for message in FLOODS[name](k)]
    with at_most(MAX_STEPS * len(heard)) as steps:
        for at in range(0, len(heard), 100):  # so many are heard in one go
            bridge.hear(*heard[at : at + 100])
    assert steps.count > 10 * MANY
    assert len(bridge.violations) <= MAX_REASONS + 2


# --- what may wait -------------------------------------------------------------------------------


def test_an_agent_can_be_ten_minutes_ahead_and_no_more() -> None:
    """What is more is cut before it is made into messages, and told as odd once."""
    bridge = talking(RECONNECTS)
    most = 8000 * int(MAX_AHEAD_SECONDS)
    audio = Audio(b"\x11" * 3_000_000)
    acts = bridge.hear(audio, audio)
    payloads = [
        act.message.media.payload
        for act in acts
        if isinstance(act, SendToCaller) and isinstance(act.message, twilio.PlayMedia)
    ]
    assert sum(map(len, payloads)) == most
    with at_most(10_000) as steps:
        acts = bridge.hear(*[audio] * 20)
    assert steps.count > 1000
    assert not [act for act in acts if isinstance(act, SendToCaller)]
    assert bridge.violations == {"agent: audio dropped: 600 s wait to be heard": 21}
    # As it is played, there is room for as much again.
    bridge.now = 10.0
    acts = bridge.hear(audio)
    assert bridge.dialogue.playout.sent == most + 80_000


def test_small_pieces_are_no_way_around_it() -> None:
    """Each is padded to a frame, which is eight times as much."""
    bridge = talking(RECONNECTS)
    for _ in range(40_000):
        bridge.hear(PIECE, AgentAudioDone())
    assert bridge.dialogue.playout.sent == 8000 * MAX_AHEAD_SECONDS
    assert bridge.dialogue.playout.unheard == 8000 * MAX_AHEAD_SECONDS


def test_words_of_our_own_are_heard_though_the_agent_is_far_ahead() -> None:
    speaking = AgentAudio()
    speaking.say(bytes(8000 * 700), 0.0)
    assert speaking.dropped == 8000 * 100
    sent = speaking.playout.sent
    speaking.insert(bytes(8000), 0.0)
    assert speaking.playout.sent == sent + 8000
    # And further behind than it may be, it does not lose more than it says.
    speaking.say(bytes(1600), 0.0)
    assert speaking.dropped == 8000 * 100 + 1600


def test_what_is_dropped_is_whole_frames_and_the_rest_of_one_waits() -> None:
    speaking = AgentAudio()
    speaking.say(bytes(8000 * 600 - 80), 0.0)
    speaking.say(bytes(1000), 0.0)
    assert speaking.playout.sent == 8000 * 600
    assert speaking.dropped == 960 - 160
    speaking.finish(0.0)
    assert (speaking.playout.sent, speaking.dropped) == (8000 * 600, 960)


def test_marks_that_are_never_echoed_are_not_kept_without_end() -> None:
    """Who echoes a newer one has played those that are not waited for any more."""
    playout = Playout()
    names = []
    for _ in range(MAX_KEPT_MARKS + 10):
        playout.play(FRAME)
        names.append(playout.mark())
    assert playout.echo(names[9]) is Echo.CLEARED
    assert playout.heard == 0
    assert playout.echo(names[10]) is Echo.HEARD
    assert playout.heard == 11 * FRAME
    assert playout.echo(names[-1]) is Echo.HEARD
    assert playout.unheard == 0


def test_the_past_that_a_fresh_agent_is_told_is_of_bounded_length() -> None:
    """The newest of it, however long each of the agent's utterances was."""
    memory = History()
    for number in range(200):
        memory.hear_audio(0)
        for _ in range(MAX_SAID_CHARS // MAX_TEXT_CHARS):
            memory.hear_agent(f"{number} " + "x" * MAX_TEXT_CHARS, 0)
        memory.finish(0)
    told = [item["content"] for item in memory.messages()]
    assert MAX_LETTERS - 2 * MAX_SAID_CHARS < sum(map(len, told)) <= MAX_LETTERS
    assert told[-1].startswith("199 ")
    assert told[0].startswith(f"{200 - len(told)} ")


def called(**changes: str) -> deepgram.CalledFunction:
    fields = {"id": "f", "name": "look_up", "arguments": "{}", "response": "1", **changes}
    return deepgram.CalledFunction(client_side=True, **fields)


@pytest.mark.parametrize("field", ["arguments", "response", "thought_signature"])
def test_a_function_that_is_too_long_to_be_told_again_is_told_to_have_been_called(
    field: str,
) -> None:
    memory = History()
    memory.call_function(called(**{field: "x" * MAX_SAID_CHARS}))
    [item] = memory.messages()
    [function] = item["function_calls"]
    assert (function["name"], function["arguments"]) == ("look_up", "{}")
    assert function["response"] == TOO_LONG
    assert "thought_signature" not in function


def test_a_function_whose_name_is_as_long_as_a_speech_is_not_remembered() -> None:
    memory = History()
    memory.call_function(called(name="x" * MAX_TEXT_CHARS))
    assert memory.messages() == []


def test_of_a_function_whose_id_is_as_long_as_a_speech_the_id_is_not_remembered() -> None:
    memory = History()
    memory.call_function(called(id="x" * MAX_TEXT_CHARS))
    [item] = memory.messages()
    [function] = item["function_calls"]
    assert function["id"] == "call_0"


def test_results_are_looked_for_among_those_alone_that_lack_one() -> None:
    memory = History()
    for number in range(MANY):
        memory.call_function(called(id=f"f{number}", response=INTERRUPTED))
    with at_most(300 * MANY) as steps:
        for number in range(MANY):
            memory.call_function(called(id=f"g{number}"))
        for number in range(MANY - 200):  # forgotten long ago
            memory.call_function(called(id=f"f{number}"))
    assert steps.count > 20 * MANY

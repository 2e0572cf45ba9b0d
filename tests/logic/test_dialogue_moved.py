"""A call that another process has begun goes on here; or it is to go on elsewhere."""

import pytest
from rig_dialogue import (
    LOST,
    ONE_MOMENT,
    RECONNECTS,
    STEPS,
    Bridge,
    echo,
    marks_in,
    play,
    quiet,
    talking,
)
from rig_peers import START, STOP, media
from rig_told_call import AGENT, SCRIPT, happen
from rig_told_call import STEPS as HAPPENINGS

from sts_trio.errors import Cause, Ending
from sts_trio.logic.acts import (
    Act,
    AgentReached,
    Ask,
    CallFunctions,
    Collect,
    Dial,
    HandOver,
    HangUp,
    MoveAway,
    Recalled,
    SendToAgent,
    ShutDown,
    WindUp,
)
from sts_trio.logic.history import INTERRUPTED, History
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.requests import GO_ON
from sts_trio.logic.turns import brief
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio
from sts_trio.wire.deepgram import (
    AgentAudioDone,
    Audio,
    ConversationText,
    InjectUserMessage,
    SettingsApplied,
    UserStartedSpeaking,
    Welcome,
)

HELLO = events.CallTranscript(AGENT, "Hello there.", position=0.0)
HEARD = events.CallHeard("Hello there.", "Hello there.", 1.0, 1.0)
ASKED = events.CallTranscript("user", "What does it cost?")
CONNECTED = (AgentReached("sales"), Welcome("request"), SettingsApplied())
WORD = b"\x31" * 1600


def moved(policy: CallPolicy = RECONNECTS) -> Bridge:
    """A bridge whose call has begun elsewhere, and whose stream begins here at 0 s."""
    bridge = Bridge(policy=policy, was_elsewhere=True)
    assert not any(isinstance(act, Dial) for act in bridge.hear(START, media()))
    return bridge


def past(*told: events.OfCall, **fields: object) -> Recalled:
    return Recalled(told=told, greets=False, **({"agent": "sales"} | fields))  # type: ignore[arg-type]


def went_on(recalled: Recalled) -> tuple[Bridge, list[Act]]:
    """With what the agent was told once it was there."""
    bridge = moved()
    bridge.hear(recalled)
    bridge.hear(*CONNECTED[:-1])
    return bridge, quiet(bridge.hear(CONNECTED[-1]))


def test_the_agent_that_talked_with_the_caller_is_dialled_as_soon_as_it_is_known() -> None:
    bridge = moved()
    assert Dial("sales") in bridge.hear(past(HELLO, HEARD))
    assert Dial(None) in moved().hear(Recalled())


def test_the_agent_is_told_what_was_said_and_does_not_greet() -> None:
    bridge, told = went_on(past(HELLO, HEARD))
    assert bridge.history == [(AGENT, "Hello there.")]
    assert not bridge.asked_for[-1].greets
    assert not any(
        isinstance(act, SendToAgent) and not isinstance(act.message, Audio) for act in told
    )


def test_a_question_that_was_not_answered_is_asked_anew_once() -> None:
    bridge, told = went_on(past(HELLO, HEARD, ASKED))
    assert bridge.history == [(AGENT, "Hello there.")]
    assert SendToAgent(InjectUserMessage("What does it cost?")) in told
    retold = bridge.hear(ConversationText("user", "What does it cost?"))
    assert not any(isinstance(act, events.CallTranscript) for act in retold)


def test_an_agent_that_was_cut_is_told_what_was_heard_and_goes_on() -> None:
    settled = (events.CallHeard("Hello there.", "Hello", 1.0, 0.5),)
    bridge = moved()
    move = events.CallMoved("recovered", 0.4)
    acts = bridge.hear(past(HELLO, settled=settled, is_cut=True, move=move))
    assert settled[0] in acts
    assert move in acts
    bridge.hear(*CONNECTED[:-1])
    assert SendToAgent(InjectUserMessage(GO_ON)) in bridge.hear(CONNECTED[-1])
    assert bridge.history == [(AGENT, "Hello")]


def test_what_the_caller_asked_goes_before_what_was_cut() -> None:
    bridge = moved()
    settled = (events.CallHeard("Hello there.", "Hello", 1.0, 0.5),)
    bridge.hear(past(HELLO, ASKED, settled=settled, is_cut=True))
    bridge.hear(*CONNECTED[:-1])
    assert SendToAgent(InjectUserMessage("What does it cost?")) in bridge.hear(CONNECTED[-1])


def test_a_function_without_a_result_is_told_as_one_of_which_nobody_knows() -> None:
    called = events.FunctionCalled("f1", "pay", "{}", shield=True)
    bridge, told = went_on(past(ASKED, called))
    assert bridge.history[-1] == ("pay", INTERRUPTED)
    assert SendToAgent(InjectUserMessage(GO_ON)) in told
    assert not any(isinstance(act, CallFunctions) for act in told)


def test_an_agent_of_whom_nothing_was_heard_greets() -> None:
    bridge = moved()
    bridge.hear(Recalled(agent="sales"))
    bridge.hear(*CONNECTED)
    assert bridge.asked_for[-1].greets


def test_who_waits_for_an_agent_hears_one_moment_please() -> None:
    """Also if it takes long to find out what was before."""
    bridge = moved()
    heard = [(at, act) for at, act in bridge.watch(0.8) if act == play(ONE_MOMENT)]
    assert [at for at, _ in heard] == [0.7]
    bridge = moved()
    bridge.hear(past(HELLO, HEARD))
    assert (0.7, play(ONE_MOMENT)) in bridge.watch(0.8)


def test_an_agent_that_is_there_in_time_is_no_gap() -> None:
    bridge, _ = went_on(past(HELLO, HEARD))
    assert not [act for _, act in bridge.watch(5.0) if act == play(ONE_MOMENT)]


def test_an_agent_that_cannot_be_had_is_dialled_again_as_in_mid_call() -> None:
    bridge, _ = went_on(past(HELLO, HEARD))
    assert Dial("sales") in bridge.hear(LOST)


def test_what_the_caller_says_meanwhile_is_not_lost() -> None:
    bridge = moved()
    bridge.hear(media(b"\x12" * 160))
    bridge.hear(past(HELLO, HEARD))
    bridge.hear(*CONNECTED[:-1])
    told = bridge.hear(CONNECTED[-1])
    audio = b"".join(
        a.message.data for a in told if isinstance(a, SendToAgent) and isinstance(a.message, Audio)
    )
    assert b"\x12" * 160 in audio


def test_what_is_recalled_is_heard_once_and_only_by_who_waits_for_it() -> None:
    bridge = moved()
    bridge.hear(past(HELLO, HEARD))
    assert bridge.hear(past(ASKED)) == []
    assert talking(RECONNECTS).hear(past(ASKED)) == []
    assert Bridge().hear(past(ASKED)) == []


@pytest.mark.parametrize("end", [STOP, ShutDown(), WindUp(), MoveAway()])
def test_a_call_that_ends_meanwhile_goes_on_with_nothing(end: twilio.Stop | ShutDown) -> None:
    bridge = moved()
    bridge.hear(end)
    assert not any(isinstance(act, Dial) for act in bridge.hear(past(ASKED)))


def test_the_longest_call_is_the_longest_however_often_it_is_moved() -> None:
    policy = CallPolicy(reconnects=True, longest=100.0, warn_before=10.0)
    bridge = moved(policy)
    bridge.hear(past(HELLO, HEARD, lasted=60.0))
    bridge.hear(*CONNECTED)
    warned = [at for at, act in bridge.wait_until(39.0) if _is_told(act, policy.warning)]
    assert warned == [30.0]


def _is_told(act: Act, words: str) -> bool:
    return act == SendToAgent(deepgram.InjectAgentMessage(words, "queue"))


# --- away -----------------------------------------------------------------------------------------


def test_a_call_that_is_to_go_on_elsewhere_is_let_go_of_with_what_was_heard() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(ConversationText(AGENT, "One two three four."), Audio(WORD * 4))
    acts = bridge.hear(MoveAway())
    assert events.CallHeard("One two three four.", "", 0.8, 0.0) in acts
    assert acts[-1] == HangUp(Ending(Cause.MOVED))
    assert bridge.hear(media()) == []


def test_both_sides_are_told_that_it_is_no_fault() -> None:
    assert (Cause.MOVED.caller_code, Cause.MOVED.agent_code) == (1001, 1000)


def rests(bridge: Bridge) -> bool:
    return bridge.dialogue.is_at_rest(bridge.now)


def test_between_two_turns_a_call_is_at_rest() -> None:
    bridge = talking(RECONNECTS)
    assert rests(bridge)
    bridge.hear(ConversationText(AGENT, "Hello."), Audio(WORD))
    assert not rests(bridge)
    acts = bridge.hear(AgentAudioDone())
    assert not rests(bridge)
    bridge.hear(*(echo(name) for name in marks_in(acts)))
    assert rests(bridge)
    bridge.hear(UserStartedSpeaking())
    assert not rests(bridge)
    bridge.hear(ConversationText("user", "What does it cost?"))
    assert not rests(bridge)


def test_a_call_without_an_agent_is_not_at_rest() -> None:
    bridge = Bridge(policy=RECONNECTS)
    for step in STEPS.values():
        assert not rests(bridge)
        bridge.hear(step)
    assert rests(bridge)


@pytest.mark.parametrize(
    "busy",
    [
        deepgram.FunctionCallRequest((deepgram.FunctionToCall("f1", "pay", "{}"),)),
        Collect(1, 4, "#", 20.0, 5.0),
        Ask(1, deepgram.UpdatePrompt("Be brief.")),
        WindUp(),
    ],
)
def test_a_call_with_something_under_way_is_not_at_rest(busy: Collect | Ask | WindUp) -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(busy)
    assert not rests(bridge)


def test_a_call_that_is_handed_over_is_not_at_rest() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(ConversationText(AGENT, "Wait."), Audio(WORD), HandOver("sales"))
    bridge.hear(AgentAudioDone())
    assert not rests(bridge)


# --- wherever it is cut ---------------------------------------------------------------------------

# A call with all that may be under way: a sentence, a question, a function, a lost agent.
STORY = [
    *SCRIPT,
    (HAPPENINGS[8], "done"),
    *((step, "What does it cost?") for step in HAPPENINGS),
    *SCRIPT[1:],
]


def recalled_at(count: int) -> Recalled:
    """As of a process that was lost behind so many events, all that was said being heard."""
    told = happen(STORY).told[:count]
    spoken = [each for each in told if isinstance(each, events.CallTranscript)]
    return Recalled(told=tuple(told), agent="sales", greets=not spoken)


@pytest.mark.parametrize("count", range(len(happen(STORY).told) + 1))
def test_wherever_a_call_is_cut_nothing_is_asked_or_called_twice(count: int) -> None:
    past = recalled_at(count)
    bridge, acts = went_on(past)
    wanted = bridge.asked_for[-1]
    history = History.restored(past.told)
    question, messages = history.unanswered, history.messages()
    asked = [
        act.message.content
        for act in acts
        if isinstance(act, SendToAgent) and isinstance(act.message, InjectUserMessage)
    ]
    assert len(asked) <= 1
    if question and not past.greets:
        assert asked == [question]
        assert messages[-1]["content"] == question
        messages.pop()
    assert wanted.history == messages == brief(past)
    assert not any(isinstance(act, CallFunctions) for act in acts)
    retold = bridge.hear(*(ConversationText("user", each) for each in asked))
    assert not any(isinstance(act, events.CallTranscript) for act in retold)

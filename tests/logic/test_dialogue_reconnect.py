"""The agent is lost, the call goes on: dialled again, bridged, told what was said, given up."""

import functools

import msgspec
import pytest
from rig_dialogue import (
    APOLOGY,
    CONNECTED,
    LOST,
    ONE_MOMENT,
    RECONNECTS,
    STEPS,
    Bridge,
    echo,
    mark,
    play,
    quiet,
    reach,
    said_by_agent,
    say,
    talking,
)
from rig_peers import STOP, STREAM_SID, media

from sts_trio.errors import Cause, Ending, How, Leg, LegEnded
from sts_trio.logic.acts import (
    Act,
    AgentReached,
    Ask,
    Dial,
    DialFailed,
    DropAgent,
    FlushCaller,
    FunctionsRunAway,
    HangUp,
    Heard,
    RequestDone,
    SendToAgent,
    SendToCaller,
    ShutDown,
    Unsent,
)
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.requests import GO_ON
from sts_trio.logic.states import ERRORS, Phase, Retry
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio
from sts_trio.wire.anomalies import TooBig
from sts_trio.wire.deepgram import (
    AgentAudioDone,
    Audio,
    ConversationText,
    InjectAgentMessage,
    InjectUserMessage,
    SettingsApplied,
    UserStartedSpeaking,
    Welcome,
)
from sts_trio.wire.dialect import Dialect, can_say

WAYS: dict[str, tuple[Heard, Cause, int]] = {
    # {how: what is heard, why it would have ended the call, the code to close with}
    "lost": (LOST, Cause.AGENT_LOST, 1000),
    "silent": (LegEnded(Leg.AGENT, How.SILENT), Cause.AGENT_SILENT, 1000),
    "stalled": (LegEnded(Leg.AGENT, How.STALLED), Cause.AGENT_SILENT, 1000),
    "closed": (LegEnded(Leg.AGENT, How.CLOSED, 1011), Cause.AGENT_CLOSED, 1000),
    "closed without a code": (LegEnded(Leg.AGENT, How.CLOSED, 1005), Cause.AGENT_CLOSED, 1000),
    "an error": (deepgram.AgentError("SERVER_GOING_AWAY"), Cause.AGENT_ERROR, 1000),
    "too big a message": (TooBig(Leg.AGENT, 9), Cause.AGENT_TOO_BIG, 1009),
}
QUESTION = ConversationText("user", "Where is my order?")
ASKED_ANEW = SendToAgent(InjectUserMessage("Where is my order?"))
ASKED_TO_GO_ON = SendToAgent(InjectUserMessage(GO_ON))


def dials(acts: list[tuple[float, Act]]) -> list[tuple[float, Act]]:
    return [(at, act) for at, act in acts if isinstance(act, Dial | DropAgent | HangUp)]


# --- dialled again ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("phase", CONNECTED)
def test_a_lost_agent_is_dialled_again_at_once(phase: Phase, way: str) -> None:
    heard, cause, code = WAYS[way]
    bridge = reach(phase, policy=RECONNECTS)
    bridge.hear(media())
    acts = bridge.hear(heard)
    assert quiet(acts) == [DropAgent(code), Dial("default")]
    lost = next(act for act in acts if isinstance(act, events.OfCall))
    assert isinstance(lost, events.AgentLost)
    assert lost.ending == cause.label
    bridge.wait_until(0.3)
    bridge.connect()
    assert bridge.dialogue.phase is Phase.TALKING
    numbers = bridge.dialogue.statistics()
    assert (numbers.reconnects, numbers.longest_gap) == (1, 0.3)


def test_the_fresh_session_gets_the_history_and_no_greeting() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(ConversationText("assistant", "Hello."), Audio(bytes(1600)), AgentAudioDone())
    bridge.hear(ConversationText("user", "Hi."))
    bridge.hear(ConversationText("assistant", "What is it?"), Audio(bytes(1600)), AgentAudioDone())
    bridge.hear(LOST)
    assert bridge.connect() == []
    assert bridge.history == [
        ("assistant", "Hello."),
        ("user", "Hi."),
        ("assistant", "What is it?"),
    ]
    assert [wanted.greets for wanted in bridge.asked_for] == [True, False]


def test_an_agent_that_is_lost_before_its_first_word_greets_all_the_same() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(LOST)
    assert bridge.connect() == []
    assert [wanted.greets for wanted in bridge.asked_for] == [True, True]


def test_a_caller_who_spoke_first_is_answered_and_not_greeted() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION, LOST)
    assert bridge.connect() == [ASKED_ANEW]
    assert not bridge.asked_for[-1].greets


def test_what_the_last_agent_still_says_is_not_heard() -> None:
    bridge = talking(RECONNECTS)
    acts = bridge.hear(LOST, Audio(bytes(800)), ConversationText("assistant", "Hello?"))
    assert [type(act) for act in quiet(acts)] == [DropAgent, Dial]


def test_an_utterance_that_is_lost_in_the_middle_is_played_as_far_as_it_came() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(ConversationText("assistant", "Hello."), Audio(b"\x01" * 200))
    acts = quiet(bridge.hear(LOST))
    assert acts[:2] == [play(b"\x01" * 40 + b"\xff" * 120), mark("e0-1")]


# --- what the caller is owed ----------------------------------------------------------------------


def test_what_the_agent_has_not_answered_is_asked_anew_and_told_once() -> None:
    bridge = talking(RECONNECTS)
    assert events.CallTranscript("user", QUESTION.content) in bridge.hear(QUESTION)
    bridge.hear(LOST)
    assert bridge.connect() == [ASKED_ANEW]
    assert bridge.history == []
    assert bridge.hear(QUESTION) == []
    # Said once more by the caller, it is news.
    assert bridge.hear(QUESTION) == [events.CallTranscript("user", QUESTION.content)]


def test_an_answer_that_was_cut_in_the_middle_is_gone_on_with() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION, ConversationText("assistant", "It has"), Audio(bytes(1600)))
    bridge.hear(LOST)
    assert bridge.connect() == [ASKED_TO_GO_ON]
    assert bridge.history == [("user", QUESTION.content), ("assistant", "It has")]


def test_an_answer_that_was_given_is_not_asked_for_again() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION, ConversationText("assistant", "Here."), Audio(bytes(160)))
    bridge.hear(AgentAudioDone(), LOST)
    assert bridge.connect() == []


def test_what_was_cut_off_by_the_caller_is_not_gone_on_with() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION, ConversationText("assistant", "It has"), Audio(bytes(1600)))
    bridge.hear(UserStartedSpeaking(), LOST)
    assert bridge.connect() == []
    assert bridge.history == [("user", QUESTION.content)]


@pytest.mark.parametrize("is_repeated", [False, True])
def test_a_question_outlives_a_second_loss(is_repeated: bool) -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION, LOST)
    bridge.connect()
    if is_repeated:
        bridge.hear(QUESTION)
    bridge.hear(LOST)
    assert bridge.connect() == [ASKED_ANEW]
    assert bridge.history == []


@pytest.mark.parametrize("step", [AgentReached(), Welcome("r")])
def test_a_question_outlives_a_session_that_never_began(step: Heard) -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION, LOST)
    bridge.hear(AgentReached())
    if isinstance(step, Welcome):
        bridge.hear(step)
    bridge.hear(LOST)
    bridge.wait_until(1)
    assert bridge.connect() == [ASKED_ANEW]


def test_a_question_that_is_told_back_in_another_spelling_is_not_told_twice() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION, LOST)
    bridge.connect()
    assert bridge.hear(ConversationText("user", "where is my order")) == []


def test_the_request_to_go_on_is_not_taken_for_the_callers_words() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(ConversationText("assistant", "It has"), Audio(bytes(1600)), LOST)
    bridge.connect()
    assert bridge.hear(ConversationText("user", GO_ON)) == []


def test_an_agent_of_the_old_dialect_asks_the_caller_to_say_it_again() -> None:
    bridge = talking(RECONNECTS, can_say=functools.partial(can_say, Dialect.LEGACY))
    bridge.hear(QUESTION, LOST)
    assert bridge.connect() == [SendToAgent(InjectAgentMessage(RECONNECTS.say_again))]
    bridge.hear(LOST)
    assert bridge.connect() == [SendToAgent(InjectAgentMessage(RECONNECTS.say_again))]


def test_an_agent_of_the_old_dialect_that_was_cut_has_the_caller_begin_again() -> None:
    bridge = talking(RECONNECTS, can_say=functools.partial(can_say, Dialect.LEGACY))
    bridge.hear(ConversationText("assistant", "It has"), Audio(bytes(1600)), LOST)
    assert bridge.connect() == [SendToAgent(InjectAgentMessage(RECONNECTS.say_again))]


# --- the gap --------------------------------------------------------------------------------------


def test_after_700_milliseconds_the_caller_hears_that_something_is_done_and_again() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(LOST, AgentReached())
    assert bridge.watch(0.69) == []
    assert bridge.watch(2.9) == [(0.7, play(ONE_MOMENT)), (0.7, mark("e0-1"))]
    bridge.hear(AgentReached(), Welcome("r"))
    # Half a second of it, then three of silence.
    assert bridge.watch(4.5) == [(4.2, play(ONE_MOMENT)), (4.2, mark("e0-2"))]
    bridge.hear(SettingsApplied())
    assert bridge.watch(20) == []


def test_what_is_still_to_be_heard_is_no_silence() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(ConversationText("assistant", "Hello."), Audio(bytes(16_000)), LOST)
    bridge.hear(AgentReached())
    assert bridge.watch(2.9) == [(2.7, play(ONE_MOMENT)), (2.7, mark("e0-3"))]


def test_without_a_clip_the_caller_hears_nothing() -> None:
    bridge = talking(msgspec.structs.replace(RECONNECTS, one_moment=b""))
    bridge.hear(LOST, AgentReached())
    assert bridge.watch(2.9) == []


def test_all_that_is_said_in_the_gap_is_kept() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION)  # what came before was understood
    bridge.hear(LOST)
    said = [bytes([number]) * 1600 for number in range(1, 100)]
    bridge.hear(*map(media, said))
    assert bridge.connect() == [ASKED_ANEW, say(b"".join(said))]
    numbers = bridge.dialogue.statistics()
    assert (numbers.caller_audio_dropped, numbers.caller_audio_repeated) == (0, 0)
    assert numbers.caller_audio_waited == 19.8


def test_all_that_is_said_before_the_agent_is_there_is_kept() -> None:
    """However long each step takes: socket, `Welcome`, `SettingsApplied`."""
    bridge = reach(Phase.DIALLING)
    said: list[bytes] = []
    steps: list[Heard] = [AgentReached(), Welcome("request"), SettingsApplied()]
    for step in steps:
        for _ in range(49):
            said.append(bytes([len(said) + 1]) * 800)
            bridge.wait_until(bridge.now + 0.1)
            bridge.hear(media(said[-1]))
        acts = quiet(bridge.hear(step))
    assert acts[-1] == say(b"".join(said))
    assert bridge.dialogue.statistics().caller_audio_waited == 14.7


@pytest.mark.parametrize(("heard", "given"), [([], 2), ([UserStartedSpeaking()], 6)])
def test_of_a_turn_that_the_agent_knew_of_all_words_are_given_again(
    heard: list[Heard], given: int
) -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION, *heard)
    said = [bytes([number]) * 8000 for number in range(1, 7)]
    for second in said:
        bridge.hear(media(second))
    bridge.hear(LOST)
    assert bridge.connect()[-1] == say(b"".join(said[-given:]))


def test_what_a_lost_agent_had_not_taken_is_given_to_the_next() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION)
    said = [bytes([number]) * 8000 for number in range(1, 7)]
    for second in said:
        bridge.hear(media(second))
    bridge.hear(LOST)
    assert bridge.hear(Unsent(b"".join(said[-4:]))) == []
    bridge.hear(media(b"\x07" * 160))
    assert bridge.connect()[-1] == say(b"".join(said[-4:]) + b"\x07" * 160)
    bridge.hear(ConversationText("user", "One two."), LOST)
    assert bridge.hear(Unsent(b"")) == []
    assert all(
        not (isinstance(act, SendToAgent) and isinstance(act.message, Audio))
        for act in bridge.connect()
    )


def test_words_half_said_are_given_again() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION)
    bridge.hear(media(b"\x01" * 160), media(b"\x02" * 160))
    bridge.hear(LOST, media(b"\x03" * 160))
    assert bridge.connect()[-1] == say(b"\x01" * 160 + b"\x02" * 160 + b"\x03" * 160)
    assert bridge.dialogue.statistics().caller_audio_repeated == 0.04


def test_that_an_agent_repeats_our_words_does_not_mean_that_it_has_heard_the_callers() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION, LOST)
    bridge.connect()
    bridge.hear(media(b"\x01" * 160))
    bridge.hear(QUESTION)
    bridge.hear(LOST)
    assert bridge.connect()[-1] == say(b"\x01" * 160)


def test_silence_that_comes_due_in_the_gap_waits_for_the_agent() -> None:
    policy = msgspec.structs.replace(RECONNECTS, ask_after=2.0, longest=4.0, warn_before=1.0)
    bridge = talking(policy)
    bridge.wait_until(1.5)
    bridge.hear(LOST)
    bridge.wait_until(4.4)
    bridge.hear(AgentReached())
    bridge.wait_until(5)
    bridge.hear(Welcome("request"))
    assert quiet(bridge.hear(SettingsApplied())) == []
    [(at, told)] = [(a, t) for a, t in bridge.watch(5) if isinstance(t, SendToAgent)]
    assert (at, told) == (5, SendToAgent(InjectAgentMessage(policy.time_is_up, "interrupt")))


# --- given up -------------------------------------------------------------------------------------


def test_a_redial_that_fails_is_repeated_a_second_later_and_then_given_up() -> None:
    bridge = talking(RECONNECTS)
    bridge.wait_until(10)
    bridge.hear(LOST)
    bridge.wait_until(10.2)
    assert quiet(bridge.hear(DialFailed("no route"))) == []
    assert bridge.watch(12) == [
        (10.7, play(ONE_MOMENT)),
        (10.7, mark("e0-1")),
        (11.2, Dial("default")),
    ]
    assert quiet(bridge.hear(DialFailed("no route", 503))) == [play(APOLOGY), mark("e0-2")]
    assert bridge.dialogue.phase is Phase.PARTING
    bridge.wait_until(12.5)
    assert bridge.hear(echo("e0-2")) == [
        HangUp(Ending(Cause.AGENT_REJECTED, "no route", apologised=True))
    ]


def test_an_apology_that_is_never_heard_ends_with_its_grace() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(Audio(b"\x01" * 8000))
    bridge.wait_until(0.5)
    bridge.hear(LOST)
    bridge.hear(DialFailed("x", 401))
    # What was left of the agent's words, a second of apology, two of grace.
    ending = Ending(Cause.AGENT_DENIED, "x", apologised=True)
    assert bridge.watch(20) == [(4.0, HangUp(ending))]


@pytest.mark.parametrize(
    ("phase", "cause"),
    [
        (Phase.DIALLING, Cause.AGENT_NO_HANDSHAKE),
        (Phase.AWAITING_WELCOME, Cause.AGENT_NO_WELCOME),
        (Phase.AWAITING_APPLIED, Cause.AGENT_NO_SETTINGS_APPLIED),
    ],
)
def test_each_step_of_a_redial_may_take_three_seconds(phase: Phase, cause: Cause) -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(LOST)
    steps: list[Heard] = [AgentReached(), Welcome("r")]
    for step in steps[: CONNECTED.index(phase) + 1 if phase in CONNECTED else 0]:
        bridge.hear(step)
    assert dials(bridge.watch(3.9)) == [(3, DropAgent())]
    assert dials(bridge.watch(4)) == [(4, Dial("default"))]
    assert dials(bridge.watch(20)) == [
        (7, DropAgent()),
        (10, HangUp(Ending(Cause.AGENT_NO_HANDSHAKE, "after 3 s", apologised=True))),
    ]


def test_an_agent_lost_three_times_in_a_minute_is_given_up() -> None:
    bridge = talking(RECONNECTS)
    for second in (0, 20):
        bridge.wait_until(second)
        assert Dial("default") in bridge.hear(LOST)
        bridge.connect()
    bridge.wait_until(59.9)
    assert quiet(bridge.hear(LOST)) == [DropAgent(), play(APOLOGY), mark("e0-1")]


def test_an_agent_lost_seldom_is_dialled_for_ever() -> None:
    bridge = talking(RECONNECTS)
    for second in range(0, 300, 30):
        bridge.wait_until(second)
        assert Dial("default") in bridge.hear(LOST)
        bridge.connect()
    assert bridge.dialogue.statistics().reconnects == 10


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_refused_key_is_not_tried_again(status: int) -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(LOST)
    assert quiet(bridge.hear(DialFailed("HTTP", status))) == [play(APOLOGY), mark("e0-1")]


@pytest.mark.parametrize("status", [None, 408, 425, 429, 500, 503])
def test_the_first_dial_is_repeated_for_as_long_as_a_caller_waits(status: int | None) -> None:
    bridge = reach(Phase.DIALLING, policy=RECONNECTS)
    for second in (1, 2, 3):
        assert quiet(bridge.hear(DialFailed("HTTP", status))) == []
        assert (second, Dial()) in bridge.watch(second)
    bridge.wait_until(4)
    assert quiet(bridge.hear(DialFailed("HTTP", status))) == [play(APOLOGY), mark("e0-2")]
    assert bridge.dialogue.statistics().reconnects == 0


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 410, 426])
def test_a_first_dial_that_would_be_answered_the_same_again_is_not_repeated(status: int) -> None:
    bridge = reach(Phase.DIALLING, policy=RECONNECTS)
    assert quiet(bridge.hear(DialFailed("HTTP", status))) == [play(APOLOGY), mark("e0-1")]


@pytest.mark.parametrize("code", [*ERRORS, "SOMETHING_NEW"])
@pytest.mark.parametrize("phase", [Phase.AWAITING_WELCOME, Phase.AWAITING_APPLIED])
def test_the_first_settings_are_sent_again_where_that_may_help(phase: Phase, code: str) -> None:
    bridge = reach(phase, policy=RECONNECTS)
    acts = quiet(bridge.hear(deepgram.AgentError(code)))
    match ERRORS.get(code, Retry.ONCE_LIVE):
        case Retry.ALWAYS:
            assert acts == [DropAgent(), Dial("default")]
        case Retry.BRIEFLY:
            assert acts == [DropAgent()]
            assert bridge.watch(1) == [(1, Dial("default"))]
            assert bridge.connect() == []
        case _:
            assert acts == [DropAgent(), play(APOLOGY), mark("e0-1")]


@pytest.mark.parametrize(
    "owed",
    [
        [QUESTION],
        [QUESTION, ConversationText("assistant", "It has")],
        [QUESTION, deepgram.FunctionCallRequest((deepgram.FunctionToCall("f", "look"),))],
    ],
)
def test_a_close_in_good_order_while_an_answer_is_owed_is_a_loss(owed: list[Heard]) -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(*owed)
    acts = quiet(bridge.hear(LegEnded(Leg.AGENT, How.CLOSED, 1000)))
    assert acts[-2:] == [DropAgent(), Dial("default")]
    assert bridge.connect()[0] in (ASKED_ANEW, ASKED_TO_GO_ON)


def test_a_close_in_good_order_before_the_greeting_is_a_loss() -> None:
    bridge = talking(msgspec.structs.replace(RECONNECTS, answer_within=5.0))
    acts = quiet(bridge.hear(LegEnded(Leg.AGENT, How.CLOSED, 1000)))
    assert acts == [DropAgent(), Dial("default")]


def test_an_agent_that_ends_the_call_with_its_words_has_finished() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(ConversationText("user", "Bye."), ConversationText("assistant", "Goodbye."))
    bridge.hear(Audio(b"\x01" * 160))
    assert quiet(bridge.hear(LegEnded(Leg.AGENT, How.CLOSED, 1000)))[-1] == DropAgent()
    assert bridge.dialogue.phase is Phase.PARTING


GOODBYE = ConversationText(said_by_agent("Goodbye.").role, "Goodbye.")
SHORT, SHORTER = Audio(b"\x01" * 160), Audio(b"\x01" * 40)


@pytest.mark.parametrize(
    "policy", [RECONNECTS, msgspec.structs.replace(RECONNECTS, answer_within=5.0)]
)
@pytest.mark.parametrize(
    "said",
    [
        [GOODBYE, SHORT],
        [GOODBYE, SHORTER],
        [SHORT],
        [SHORTER, GOODBYE],
        [SHORT, AgentAudioDone(), GOODBYE],
    ],
)
def test_however_short_its_last_words_are_an_agent_that_said_them_has_finished(
    said: list[Heard], policy: CallPolicy
) -> None:
    """Its text may come behind its voice, or not at all."""
    bridge = talking(policy)
    bridge.hear(UserStartedSpeaking(), ConversationText("user", "Bye."), *said, AgentAudioDone())
    assert quiet(bridge.hear(LegEnded(Leg.AGENT, How.CLOSED, 1000)))[-1] == DropAgent()
    assert bridge.dialogue.phase is Phase.PARTING


def test_what_an_agent_was_saying_when_it_was_asked_is_no_answer() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(SHORT, QUESTION, SHORT, AgentAudioDone())
    acts = quiet(bridge.hear(LegEnded(Leg.AGENT, How.CLOSED, 1000)))
    assert acts[-2:] == [DropAgent(), Dial("default")]


def test_the_first_handshake_is_waited_for_once() -> None:
    bridge = reach(Phase.DIALLING, policy=RECONNECTS)
    bridge.wait_until(4.9)
    assert bridge.watch(6)[:2] == [(5, DropAgent()), (5, play(APOLOGY))]


def test_who_waits_for_their_first_agent_hears_one_moment_please() -> None:
    """Too many calls at once may wait for sessions, and an agent's host may be slow."""
    bridge = reach(Phase.DIALLING, policy=RECONNECTS)
    heard = [at for at, act in bridge.watch(4.9) if act == play(ONE_MOMENT)]
    assert heard == [2.0]


@pytest.mark.parametrize("phase", [Phase.AWAITING_WELCOME, Phase.AWAITING_APPLIED])
def test_no_step_toward_the_first_agent_is_waited_for_in_silence(phase: Phase) -> None:
    bridge = Bridge(policy=RECONNECTS)
    bridge.hear(STEPS[Phase.DIALLING], media())
    bridge.wait_until(1.0)
    for each in list(STEPS)[1 : list(STEPS).index(phase) + 1]:
        bridge.hear(STEPS[each])
    assert [at for at, act in bridge.watch(5.9) if act == play(ONE_MOMENT)] == [2.0, 5.5]


def test_whose_first_agent_is_there_hears_nothing_of_ours() -> None:
    bridge = reach(Phase.AWAITING_APPLIED, policy=RECONNECTS)
    bridge.wait_until(1.9)
    bridge.hear(STEPS[Phase.TALKING])
    assert play(ONE_MOMENT) not in [act for _, act in bridge.watch(9.0)]


def test_without_reconnecting_the_caller_hears_the_apology() -> None:
    bridge = talking(CallPolicy(apology=APOLOGY))
    assert bridge.hear(LOST) == [DropAgent(), play(APOLOGY), mark("e0-1")]
    ending = Ending(Cause.AGENT_LOST, apologised=True)
    assert bridge.hear(echo("e0-1")) == [HangUp(ending)]


def test_who_speaks_over_the_apology_is_nothing_odd() -> None:
    """Nobody is there to hear it."""
    bridge = talking(CallPolicy(apology=APOLOGY))
    bridge.hear(LOST)
    assert bridge.hear(*[media() for _ in range(1600)]) == []
    numbers = bridge.dialogue.statistics()
    assert numbers.caller_audio_dropped == 2.0
    assert numbers.violations == {}


def test_without_an_apology_the_call_ends_at_once() -> None:
    assert talking(CallPolicy(reconnects=False)).hear(LOST) == [HangUp(Ending(Cause.AGENT_LOST))]


def test_the_agents_orderly_goodbye_ends_the_call() -> None:
    acts = talking(RECONNECTS).hear(LegEnded(Leg.AGENT, How.CLOSED, 1000))
    assert acts == [HangUp(Ending(Cause.AGENT_FINISHED, "1000"))]


def test_the_agents_last_words_are_heard_though_it_has_gone() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(ConversationText("assistant", "Goodbye."), Audio(bytes(8000)), AgentAudioDone())
    assert bridge.hear(LegEnded(Leg.AGENT, How.CLOSED, 1000)) == [DropAgent()]
    bridge.wait_until(1)
    assert bridge.hear(echo("e0-1"))[-1] == HangUp(Ending(Cause.AGENT_FINISHED, "1000"))


@pytest.mark.parametrize("late", [LOST, FunctionsRunAway(), deepgram.AgentError("x")])
def test_while_the_caller_hears_the_apology_nothing_of_the_agents_counts(late: Heard) -> None:
    bridge = talking(CallPolicy(apology=APOLOGY))
    bridge.hear(LOST)
    assert quiet(bridge.hear(late)) == []
    assert bridge.dialogue.phase is Phase.PARTING


@pytest.mark.parametrize(
    ("heard", "cause"),
    [
        (STOP, Cause.STOP),
        (LegEnded(Leg.CALLER, How.LOST), Cause.CALLER_LOST),
        (ShutDown(), Cause.SHUTDOWN),
    ],
)
@pytest.mark.parametrize("phase", [Phase.PARTING, Phase.DIALLING])
def test_the_caller_may_go_while_there_is_no_agent(
    phase: Phase, heard: Heard, cause: Cause
) -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(LOST)
    if phase is Phase.PARTING:
        bridge.hear(DialFailed("x", 401))
    assert bridge.dialogue.phase is phase
    assert bridge.hear(heard) == [HangUp(Ending(cause))]


def test_an_agent_that_runs_away_is_not_dialled_again() -> None:
    bridge = talking(RECONNECTS)
    assert quiet(bridge.hear(FunctionsRunAway())) == [DropAgent(), play(APOLOGY), mark("e0-1")]
    ending = Ending(Cause.AGENT_RAN_AWAY, "function calls", apologised=True)
    assert bridge.hear(echo("e0-1")) == [HangUp(ending)]


def test_a_caller_cannot_barge_in_on_what_has_no_agent() -> None:
    """Who speaks into the bridge's words is heard by the next agent, which cuts then."""
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION, LOST)
    bridge.wait_until(0.7)
    bridge.hear(media(b"\x01" * 160))
    assert bridge.connect()[-1] == say(b"\x01" * 160)
    acts = bridge.hear(UserStartedSpeaking())
    assert acts[:2] == [FlushCaller(), SendToCaller(twilio.Clear(STREAM_SID))]


# --- the two hours --------------------------------------------------------------------------------

WARNING = deepgram.AgentWarning("MAXIMUM_SESSION_LENGTH_APPROACHING", "five minutes left")


def test_before_its_two_hours_are_over_a_silent_session_is_renewed_at_once() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(ConversationText("assistant", "Hello."), Audio(bytes(160)), AgentAudioDone())
    bridge.hear(echo("e0-1"))
    assert quiet(bridge.hear(WARNING)) == [DropAgent(), Dial("default")]
    assert bridge.connect() == []
    assert bridge.history == [("assistant", "Hello.")]
    assert not bridge.asked_for[-1].greets
    assert bridge.dialogue.statistics().reconnects == 0


def test_a_session_is_renewed_when_the_agent_has_been_heard() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(ConversationText("assistant", "Hello."), Audio(bytes(8000)), AgentAudioDone())
    assert quiet(bridge.hear(WARNING)) == []
    bridge.wait_until(1)
    acts = bridge.hear(echo("e0-1"))
    assert [type(act) for act in quiet(acts)][1:] == [DropAgent, Dial]


@pytest.mark.parametrize("amid", [QUESTION, Audio(bytes(160))])
def test_a_session_that_is_never_silent_is_renewed_after_four_minutes(amid: Heard) -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(amid, WARNING)
    acts = dials(bridge.watch(241))
    assert acts == [(240, DropAgent()), (240, Dial("default"))]


def test_noise_puts_a_renewal_off_for_a_minute_at_most() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(UserStartedSpeaking(), WARNING)
    assert quiet(bridge.hear(deepgram.AgentThinking())) == []
    bridge.wait_until(60)
    assert DropAgent() in bridge.hear(deepgram.AgentThinking())


def test_an_answer_is_not_taken_by_the_renewal() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(QUESTION, WARNING)
    bridge.hear(ConversationText("assistant", "Here."), Audio(bytes(160)), AgentAudioDone())
    assert bridge.dialogue.phase is Phase.TALKING
    acts = bridge.hear(echo("e0-1"))
    assert DropAgent() in acts


def test_an_agent_that_warns_in_each_session_is_not_dialled_again_and_again() -> None:
    bridge = talking(RECONNECTS)
    assert DropAgent() in bridge.hear(WARNING)
    bridge.connect()
    assert quiet(bridge.hear(WARNING)) == []
    bridge.wait_until(59)
    assert quiet(bridge.hear(WARNING)) == []
    bridge.wait_until(60)
    assert DropAgent() in bridge.hear(WARNING)


def test_who_does_not_reconnect_does_not_renew() -> None:
    bridge = talking(CallPolicy(apology=APOLOGY))
    bridge.hear(WARNING)
    assert bridge.watch(300) == []


def test_a_renewal_that_fails_is_a_loss() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(WARNING)
    bridge.wait_until(0.1)
    bridge.hear(DialFailed("no route"))
    assert dials(bridge.watch(2)) == [(1.1, Dial("default"))]


# --- what the agent had been told -----------------------------------------------------------------


def test_updates_are_told_again_to_a_fresh_session_before_anything_else() -> None:
    bridge = talking(RECONNECTS)
    more = deepgram.UpdatePrompt("The caller is verified.")
    voice = deepgram.UpdateSpeak({"provider": {"type": "deepgram", "model": "m"}})
    assert bridge.hear(Ask(1, more)) == [SendToAgent(more)]
    assert RequestDone(1) in bridge.hear(deepgram.PromptUpdated())
    bridge.hear(Ask(2, voice))
    bridge.hear(deepgram.SpeakUpdated(), QUESTION, LOST)
    assert bridge.connect() == [SendToAgent(more), SendToAgent(voice), ASKED_ANEW]
    assert quiet(bridge.hear(deepgram.PromptUpdated(), deepgram.SpeakUpdated())) == []


def test_what_was_asked_and_not_answered_is_asked_of_the_fresh_session() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(Ask(1, InjectAgentMessage("One moment.", "queue")))
    bridge.hear(LOST)
    bridge.hear(Ask(2, deepgram.UpdatePrompt("more")))
    assert bridge.connect() == [
        SendToAgent(InjectAgentMessage("One moment.", "queue")),
        SendToAgent(deepgram.UpdatePrompt("more")),
    ]


def test_settings_are_those_of_the_same_agent() -> None:
    bridge = Bridge(policy=RECONNECTS)
    for step in STEPS.values():
        bridge.hear(AgentReached("sales") if isinstance(step, AgentReached) else step)
    assert Dial("sales") in bridge.hear(LOST)
    bridge.connect("sales")
    assert [wanted.agent for wanted in bridge.asked_for] == ["sales", "sales"]

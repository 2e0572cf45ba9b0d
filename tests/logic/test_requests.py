"""What is asked of the agent: one of a kind at a time, and what it answers."""

from math import inf

import pytest

from sts_trio.logic.acts import RequestDone
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.requests import (
    ANSWER_TIMEOUT,
    GO_ON,
    KEYED_IN,
    MAX_UPDATES,
    MAX_WAITING,
    Requests,
)
from sts_trio.wire import deepgram, deepgram_settings
from sts_trio.wire.deepgram import (
    ConversationText,
    InjectAgentMessage,
    InjectionRefused,
    InjectUserMessage,
    PromptUpdated,
    SpeakUpdated,
    ThinkUpdated,
    UpdatePrompt,
    UpdateSpeak,
    UpdateThink,
)

SPEAK = UpdateSpeak({"provider": {"type": "deepgram", "model": "aura-2-apollo-en"}})
OTHER_SPEAK = UpdateSpeak({"provider": {"type": "deepgram", "model": "aura-2-zeus-en"}})
THINK = UpdateThink({"provider": {"type": "open_ai", "model": "gpt-4o-mini"}})
LISTEN = deepgram.UpdateListen({"provider": {"type": "deepgram"}})
LIVE = deepgram.UpdateThinkLive(deepgram_settings.ThinkLive({"type": "deepgram"}))
TIMED_OUT = "no answer"


def opened() -> Requests:
    requests = Requests()
    requests.open_session(0.0)
    return requests


def sent(requests: Requests) -> list[deepgram.TextToAgent]:
    messages, answers = requests.send()
    assert answers == []
    return messages


def ask(requests: Requests, number: int | None, message: deepgram.TextToAgent) -> None:
    assert requests.ask(number, message, 0.0) == []


@pytest.mark.parametrize(
    ("message", "acknowledgement"),
    [
        (UpdatePrompt("more"), PromptUpdated()),
        (THINK, ThinkUpdated()),
        (LIVE, deepgram.ThinkLiveUpdated()),
        (SPEAK, SpeakUpdated()),
        (LISTEN, deepgram.ListenUpdated()),
        (InjectUserMessage("Where is it?"), ConversationText("user", "Where is it?")),
        (InjectAgentMessage("One. Two."), ConversationText("assistant", "One.")),
        (InjectAgentMessage("One. Two."), ConversationText("assistant", " One.  Two.")),
        (
            InjectAgentMessage("It's 5 o'clock, Dr. B"),
            ConversationText("assistant", "It’s 5 O’clock"),
        ),
        (InjectAgentMessage("Ask Dr. Bell."), ConversationText("assistant", "Ask doctor Bell.")),
        (InjectAgentMessage(is_dynamic=True), ConversationText("assistant", "Whatever.")),
    ],
)
def test_each_kind_has_its_acknowledgement(
    message: deepgram.TextToAgent, acknowledgement: deepgram.TextFromAgent
) -> None:
    requests = opened()
    ask(requests, 7, message)
    assert sent(requests) == [message]
    assert requests.hear(deepgram.AgentThinking()) == []
    assert requests.hear(acknowledgement) == [RequestDone(7)]
    assert requests.hear(acknowledgement) == []
    assert requests.deadline == inf


@pytest.mark.parametrize(
    "other",
    [
        ConversationText("user", "One."),
        ConversationText("assistant", "Three."),
        ConversationText("assistant", "Three of them are one."),
        ConversationText("assistant", ""),
        ConversationText("assistant", " "),
        ConversationText("assistant", "One. Two." * 20),
        SpeakUpdated(),
    ],
)
def test_what_is_no_part_of_the_words_is_no_answer(other: deepgram.TextFromAgent) -> None:
    requests = opened()
    ask(requests, 7, InjectAgentMessage("One. Two."))
    requests.send()
    assert requests.hear(other) == []


def test_of_one_kind_one_is_under_way_and_the_others_wait() -> None:
    requests = opened()
    ask(requests, 1, UpdatePrompt("one"))
    ask(requests, 2, UpdatePrompt("two"))
    ask(requests, 3, SPEAK)
    assert sent(requests) == [UpdatePrompt("one"), SPEAK]
    assert sent(requests) == []
    assert requests.hear(PromptUpdated()) == [RequestDone(1)]
    assert sent(requests) == [UpdatePrompt("two")]
    assert requests.hear(SpeakUpdated()) == [RequestDone(3)]
    assert requests.hear(PromptUpdated()) == [RequestDone(2)]


def test_what_nobody_acknowledges_is_answered_once_it_is_sent() -> None:
    requests = Requests()
    ask(requests, 1, deepgram.ForceEndTurn())
    assert requests.send() == ([], [])
    requests.open_session(0.0)
    assert requests.send() == ([deepgram.ForceEndTurn()], [RequestDone(1)])


def test_a_refusal_tells_why() -> None:
    requests = opened()
    assert requests.hear(InjectionRefused("nobody asked")) == []
    ask(requests, 1, InjectAgentMessage("One."))
    requests.send()
    assert requests.hear(InjectionRefused("A turn is in progress.")) == [
        RequestDone(1, "A turn is in progress.")
    ]
    ask(requests, 2, InjectAgentMessage("One."))
    requests.send()
    assert requests.hear(InjectionRefused()) == [RequestDone(2, "refused")]


def test_whether_words_of_ours_are_still_to_be_said() -> None:
    requests = opened()
    assert not requests.has_words_to_say
    ask(requests, None, InjectAgentMessage("Goodbye."))
    assert requests.has_words_to_say
    requests.send()
    assert requests.has_words_to_say
    requests.hear(ConversationText("assistant", "Goodbye."))
    assert not requests.has_words_to_say


def test_who_waits_ten_seconds_waits_no_longer() -> None:
    requests = opened()
    ask(requests, 1, UpdatePrompt("one"))
    requests.send()
    requests.ask(2, UpdatePrompt("two"), 3.0)
    assert requests.deadline == ANSWER_TIMEOUT
    assert requests.tick(9.9) == []
    assert requests.tick(10.0) == [RequestDone(1, TIMED_OUT, timed_out=True)]
    assert sent(requests) == [UpdatePrompt("two")]
    assert requests.tick(13.0) == [RequestDone(2, TIMED_OUT, timed_out=True)]
    assert requests.deadline == inf


def test_who_waits_for_a_session_waits_ten_seconds_too() -> None:
    requests = Requests()
    ask(requests, 1, UpdatePrompt("one"))
    assert requests.tick(10.0) == [RequestDone(1, TIMED_OUT, timed_out=True)]


def test_a_hundred_and_first_is_refused_at_once() -> None:
    requests = Requests()
    for number in range(MAX_WAITING):
        ask(requests, number, UpdatePrompt("more"))
    assert requests.ask(100, UpdatePrompt("more"), 0.0) == [
        RequestDone(100, "too many requests at once")
    ]
    assert requests.ask(None, UpdatePrompt("more"), 0.0) == []


def test_who_is_forgotten_is_not_answered_but_keeps_its_place() -> None:
    requests = opened()
    for number in (1, 2, 3):
        ask(requests, number, UpdatePrompt(str(number)))
    requests.send()
    requests.cancel(1)
    requests.cancel(2)
    requests.cancel(99)
    assert sent(requests) == []
    assert requests.hear(PromptUpdated()) == []
    assert sent(requests) == [UpdatePrompt("3")]


# --- a session is lost ----------------------------------------------------------------------------


def test_what_a_lost_session_has_not_answered_is_asked_of_the_next_in_order() -> None:
    requests = opened()
    ask(requests, 1, UpdatePrompt("one"))
    ask(requests, 2, UpdatePrompt("two"))
    ask(requests, None, InjectAgentMessage("Are you still there?"))
    requests.send()
    requests.close_session(0.0)
    assert sent(requests) == []
    requests.open_session(0.0)
    assert sent(requests) == [UpdatePrompt("one")]
    assert requests.hear(PromptUpdated()) == [RequestDone(1)]
    assert sent(requests) == [UpdatePrompt("two")]


def test_what_was_keyed_in_is_kept_though_nobody_waits_for_it() -> None:
    requests = opened()
    requests.ask(None, InjectUserMessage("I have keyed in: 1"), 0.0, is_kept=True)
    requests.send()
    requests.close_session(0.0)
    requests.open_session(0.0)
    assert sent(requests) == [InjectUserMessage("I have keyed in: 1")]


def test_what_the_caller_said_first_is_told_first() -> None:
    requests = opened()
    ask(requests, 1, InjectUserMessage("Two."))
    requests.ask(None, InjectUserMessage("One."), 0.0, is_first=True)
    assert sent(requests) == [InjectUserMessage("One.")]


def taken(requests: Requests, *updates: UpdatePrompt | UpdateThink | UpdateSpeak) -> None:
    """The agent acknowledges these."""
    for number, update in enumerate(updates):
        ask(requests, number, update)
        requests.send()
        assert requests.hear(acknowledgement(update)) == [RequestDone(number)]


def acknowledgement(
    update: UpdatePrompt | UpdateThink | UpdateSpeak,
) -> PromptUpdated | ThinkUpdated | SpeakUpdated:
    match update:
        case UpdatePrompt():
            return PromptUpdated()
        case UpdateThink():
            return ThinkUpdated()
        case UpdateSpeak():
            return SpeakUpdated()


def told(requests: Requests) -> list[deepgram.TextToAgent]:
    """What a fresh session is told, which takes all of it."""
    requests.close_session(0.0)
    requests.open_session(0.0)
    messages = []
    while more := sent(requests):
        messages += more
        for message in more:
            if isinstance(message, UpdatePrompt | UpdateThink | UpdateSpeak):
                requests.hear(acknowledgement(message))
    return messages


def test_a_fresh_session_is_told_what_the_last_one_had_taken() -> None:
    requests = opened()
    taken(requests, UpdatePrompt("one"), SPEAK, UpdatePrompt("two"))
    first = told(requests)
    assert first == [UpdatePrompt("one"), SPEAK, UpdatePrompt("two")]
    assert told(requests) == first


def test_the_last_voice_counts() -> None:
    requests = opened()
    taken(requests, SPEAK, OTHER_SPEAK)
    assert told(requests) == [OTHER_SPEAK]


def test_a_new_think_block_replaces_the_prompts_before_it() -> None:
    requests = opened()
    taken(requests, UpdatePrompt("one"), THINK, UpdatePrompt("two"))
    assert told(requests) == [THINK, UpdatePrompt("two")]


def listen(**fields: object) -> deepgram.UpdateListen:
    return deepgram.UpdateListen({"provider": {"type": "deepgram", **fields}})


def test_of_a_listener_what_is_left_out_keeps_its_value() -> None:
    requests = opened()
    updates = [
        listen(model="flux-general-en", eot_threshold=0.8),
        listen(keyterms=["Otter"]),
        listen(eot_threshold=0.9),
        listen(keyterms=["Heron"]),
    ]
    for number, update in enumerate(updates):
        ask(requests, number, update)
        requests.send()
        assert requests.hear(deepgram.ListenUpdated()) == [RequestDone(number)]
    requests.close_session(0.0)
    requests.open_session(0.0)
    messages = []
    while more := sent(requests):
        messages += more
        requests.hear(deepgram.ListenUpdated())
    assert messages == [updates[0], updates[2], updates[3]]


def test_words_that_interrupt_go_before_all_others() -> None:
    requests = opened()
    ask(requests, 1, InjectAgentMessage("One.", "queue"))
    ask(requests, 2, InjectAgentMessage("Two.", "queue"))
    assert sent(requests) == [InjectAgentMessage("One.", "queue")]
    stop = InjectAgentMessage("Stop!", "interrupt")
    assert requests.ask(3, stop, 0.0) == [RequestDone(1, "other words were to be said at once")]
    assert sent(requests) == [stop]


def test_a_loss_amid_the_retelling_loses_no_update() -> None:
    requests = opened()
    taken(requests, THINK, UpdatePrompt("two"))
    requests.close_session(0.0)
    requests.open_session(0.0)
    assert sent(requests) == [THINK, UpdatePrompt("two")]
    assert requests.hear(ThinkUpdated()) == []
    assert told(requests) == [THINK, UpdatePrompt("two")]


def test_what_was_refused_or_never_answered_is_not_told_again() -> None:
    requests = opened()
    ask(requests, 1, SPEAK)
    requests.send()
    requests.tick(10.0)
    assert told(requests) == []


def test_updates_go_before_what_waits() -> None:
    requests = opened()
    taken(requests, UpdatePrompt("one"))
    ask(requests, 2, UpdatePrompt("two"))
    assert told(requests) == [UpdatePrompt("one"), UpdatePrompt("two")]


def test_another_agent_is_told_nothing_of_it_and_who_waits_is_told_so() -> None:
    requests = opened()
    taken(requests, UpdatePrompt("one"), SPEAK)
    ask(requests, 2, UpdatePrompt("two"))
    ask(requests, 3, UpdatePrompt("three"))
    ask(requests, 4, InjectAgentMessage("Hello."))
    requests.send()
    assert requests.forget_updates() == [
        RequestDone(2, "another agent goes on"),
        RequestDone(3, "another agent goes on"),
    ]
    assert told(requests) == [InjectAgentMessage("Hello.")]


def test_the_newest_fifty_updates_are_told() -> None:
    requests = opened()
    taken(requests, *(UpdatePrompt(str(number)) for number in range(MAX_UPDATES + 1)))
    assert told(requests) == [UpdatePrompt(str(n)) for n in range(1, MAX_UPDATES + 1)]


def test_the_same_prompt_twice_is_told_twice() -> None:
    requests = opened()
    taken(requests, UpdatePrompt("Be brief."), UpdatePrompt("Be brief."))
    assert told(requests) == [UpdatePrompt("Be brief.")] * 2


# --- what we ask of our own accord ----------------------------------------------------------------


def _no_user_messages(message: deepgram.ToAgent) -> bool:
    return not isinstance(message, InjectUserMessage | UpdatePrompt)


def test_a_question_is_asked_anew_before_all_else_and_after_the_updates() -> None:
    requests = opened()
    taken(requests, UpdatePrompt("one"))
    ask(requests, 1, InjectAgentMessage("Hello."))
    requests.close_session(0.0)
    assert requests.ask_anew("Where is it?", 0.0) == "Where is it?"
    requests.open_session(0.0)
    assert sent(requests) == [
        UpdatePrompt("one"),
        InjectUserMessage("Where is it?"),
        InjectAgentMessage("Hello."),
    ]


def test_an_agent_that_lost_its_thread_is_asked_to_go_on() -> None:
    requests = opened()
    assert requests.ask_anew("", 0.0) == GO_ON
    assert sent(requests) == [InjectUserMessage(GO_ON)]


def test_where_there_are_no_words_for_the_question_the_caller_is_asked() -> None:
    requests = Requests(_no_user_messages)
    requests.open_session(0.0)
    assert requests.ask_anew("Where is it?", 0.0) is None
    assert sent(requests) == [InjectAgentMessage(CallPolicy().say_again)]


def test_what_the_dialect_has_no_words_for_is_refused_who_asked_and_else_dropped() -> None:
    requests = Requests(_no_user_messages)
    reason = "this dialect has no words for UpdatePrompt"
    assert requests.ask(1, UpdatePrompt("more"), 0.0) == [RequestDone(1, reason)]
    requests.report_late_result("book", "{}", 0.0)
    requests.tell_keys("12#", 0.0)
    assert not requests.are_pending


def test_keys_survive_a_session_and_a_late_result_does_not() -> None:
    requests = opened()
    requests.tell_keys("12#", 0.0)
    requests.report_late_result("book", "{}", 0.0)
    requests.close_session(0.0)
    requests.open_session(0.0)
    assert sent(requests) == [InjectUserMessage(KEYED_IN.format("1 2 #"))]


def test_who_waits_for_all_to_be_heard_is_told_so_or_that_it_took_too_long() -> None:
    requests = Requests()
    requests.wait_until_heard(1, 5.0)
    requests.wait_until_heard(2, 6.0)
    requests.wait_until_heard(3, 7.0)
    assert requests.deadline == 5
    assert requests.tick(5.0) == [RequestDone(1, "not heard in time", timed_out=True)]
    requests.cancel(2)
    assert requests.deadline == 7
    assert requests.hear_all_is_heard() == [RequestDone(3)]
    assert requests.hear_all_is_heard() == []
    assert requests.deadline == inf


def test_who_waits_for_words_that_a_session_took_with_it_is_told() -> None:
    requests = opened()
    requests.wait_until_heard(1, 5.0)
    assert requests.close_session(0.0) == []
    assert requests.close_session(0.0, is_amid_utterance=True) == [
        RequestDone(1, "the agent was lost")
    ]
    assert requests.deadline == inf


USER, AGENT = (
    deepgram.AgentWarning(f"INJECT_AGENT_MESSAGE_DURING_{who}_SPEECH") for who in ("USER", "AGENT")
)


@pytest.mark.parametrize(
    ("told", "why"), [(USER, "the caller is speaking"), (AGENT, "the agent is speaking")]
)
def test_older_servers_refuse_by_a_warning_alone(told: deepgram.AgentWarning, why: str) -> None:
    requests = opened()
    ask(requests, 1, InjectAgentMessage("One."))
    ask(requests, 2, InjectAgentMessage("Two."))
    requests.send()
    assert requests.hear(told) == [RequestDone(1, why)]
    assert sent(requests) == [InjectAgentMessage("Two.")]
    assert requests.hear(told) == [RequestDone(2, why)]
    assert requests.hear(told) == []


@pytest.mark.parametrize("ways", [(USER, InjectionRefused("busy")), (InjectionRefused("b"), AGENT)])
def test_a_refusal_that_is_told_in_two_ways_is_one(
    ways: tuple[deepgram.TextFromAgent, ...],
) -> None:
    requests = opened()
    ask(requests, 1, InjectAgentMessage("One."))
    ask(requests, 2, InjectAgentMessage("Two."))
    requests.send()
    assert [each.number for each in requests.hear(ways[0])] == [1]
    requests.send()
    assert requests.hear(ways[1]) == []
    assert [each.number for each in requests.hear(ways[0])] == [2]


@pytest.mark.parametrize(
    "end", [deepgram.AgentAudioDone(), deepgram.EndOfTurn(), ConversationText("user", "Well.")]
)
def test_what_is_insisted_on_is_told_again_when_somebody_has_finished(
    end: deepgram.TextFromAgent,
) -> None:
    requests = opened()
    words = InjectAgentMessage("One minute left.", "queue")
    requests.ask(None, words, 0.0, is_insisted=True)
    assert sent(requests) == [words]
    assert requests.hear(InjectionRefused("busy")) == []
    assert sent(requests) == []
    requests.hear(end)
    assert sent(requests) == [words]
    requests.hear(InjectionRefused("busy"))
    assert requests.tick(ANSWER_TIMEOUT) == []
    assert not requests.are_pending, "it is not insisted on for ever"

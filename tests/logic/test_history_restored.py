"""A history that is restored from the events of a call is the history of that call, wherever the
call was cut."""

from hypothesis import given
from rig_told_call import AGENT, SCRIPT, Call, Step, happen, steps

from sts_trio.audio.frames import length
from sts_trio.logic.history import INTERRUPTED, History
from sts_trio.logic.requests import GO_ON
from sts_trio.observe import events


@given(steps)
def test_what_is_restored_is_what_was_known(several: list[Step]) -> None:
    """Whenever the call is cut: after each step."""
    call = Call()
    for step, text in several:
        step(call, text)
        call.check()


@given(steps)
def test_whatever_the_last_event_is_nothing_that_was_told_is_lost_or_doubled(
    several: list[Step],
) -> None:
    """Also where a call is cut between two events of a step."""
    call = Call()
    for step, text in several:
        if call.is_open:  # nobody goes on with what is being ended
            step(call, text)
    told = call.told if call.is_open else call.told[: call.count_before]
    for count in range(len(told) + 1):
        cut = told[:count]
        if any(isinstance(each, events.AgentContextReduced) for each in cut):
            break  # less is told, as it was not borne
        messages = History.restored(cut).messages()
        said = [each["content"] for each in messages if each.get("role") == "user"]
        transcripts = [each for each in cut if isinstance(each, events.CallTranscript)]
        texts = [each.text for each in transcripts if each.role == "user" and each.text.strip()]
        assert [text for text in said if text != GO_ON] == texts
        called = [each.id for each in cut if isinstance(each, events.FunctionCalled)]
        ids = [each["function_calls"][0]["id"] for each in messages if "function_calls" in each]
        assert sorted(ids) == sorted(called)


def test_a_function_that_was_under_way_is_told_as_one_of_which_nobody_knows() -> None:
    """Shielded or not: it is not called again, and its id and signature are what they were."""
    call = happen(SCRIPT)
    *_, last = History.restored(call.told).messages()
    (function,) = last["function_calls"]
    assert (function["id"], function["name"], function["response"]) == ("f1", "pay", INTERRUPTED)
    assert function["thought_signature"] == "a signature"
    assert "not known" in INTERRUPTED


def test_what_a_shielded_function_came_to_takes_the_place_of_that() -> None:
    call = happen([*SCRIPT, (Call.the_agent_is_lost, "")])
    *_, last = History.restored(call.told).messages()
    assert last["function_calls"][0]["response"] == "late"


def test_an_answer_that_was_owed_is_still_owed() -> None:
    call = happen(SCRIPT[:4])
    assert History.restored(call.told).unanswered == "I want to pay."


def test_what_was_being_said_can_be_cut_where_the_call_was() -> None:
    """As it is known by when the process was last alive."""
    told = [
        events.CallTranscript(AGENT, "One two three four.", position=0.0),
        events.CallTranscript(AGENT, "Five six.", position=2.0),
    ]
    history = History.restored(told)
    assert len(history.messages()) == 2
    history.cut(length(1.0), length(4.0))
    assert [each["content"] for each in history.messages()] == ["One two"]


def test_of_no_events_there_is_no_past() -> None:
    assert History.restored([]).messages() == []
    strange = [events.CallHeard("Never told.", "Never", 1.0, 0.5), events.CallSilenced(0.1)]
    assert History.restored(strange).messages() == []
    unknown = events.FunctionFinished("f9", "f", "done", 1.0, result="{}")
    assert History.restored([unknown]).messages() == []


def test_what_the_agents_side_has_run_is_known() -> None:
    ran = events.FunctionRunByAgent("f1", "look_up", "{}", '{"a":1}')
    (item,) = History.restored([ran]).messages()
    assert item["function_calls"][0]["response"] == '{"a":1}'


def test_what_the_agent_has_taken_back_was_not_called() -> None:
    told: list[events.OfCall] = [
        events.FunctionCalled("f1", "look_up", "{}", shield=False),
        events.FunctionFinished("f1", "look_up", "cancelled", 0.1),
    ]
    assert History.restored(told).messages() == []


def test_words_that_never_had_a_sound_were_not_said() -> None:
    told = [
        events.CallTranscript("user", "Hello?"),
        events.CallTranscript(AGENT, "Hello.", position=1.0),
        events.CallHeard("Hello.", "", 0.0, 0.0),
    ]
    history = History.restored(told)
    assert [each["role"] for each in history.messages()] == ["user"]
    assert history.unanswered == "Hello?"


def test_a_result_is_told_once() -> None:
    told: list[events.OfCall] = [
        events.FunctionCalled("f1", "look_up", "{}", shield=False),
        events.FunctionFinished("f1", "look_up", "done", 0.1, result='"a"'),
        events.FunctionFinished("f1", "look_up", "done", 0.1, result='"b"'),
    ]
    (item,) = History.restored(told).messages()
    assert item["function_calls"][0]["response"] == '"a"'


def test_what_a_noise_has_cut_is_said_when_it_is_played_on() -> None:
    told = [
        events.CallTranscript(AGENT, "One two.", position=0.0),
        events.CallTranscript(AGENT, " ", position=0.5),
        events.CallHeard("One two.", "One", 1.0, 0.5),
        events.CallTranscript(AGENT, "Three."),  # on its way when it was cut
        events.CallHeard("Three.", "", 0.0, 0.0),
    ]
    assert [each["content"] for each in History.restored(told).messages()] == ["One"]
    told.append(events.CallFalseInterruption(0.5, whole=True))
    assert [each["content"] for each in History.restored(told).messages()] == ["One", "two. Three."]
    told.append(events.CallHeard("two. Three.", "two. Three.", 0.5, 0.5))
    assert [each["content"] for each in History.restored(told).messages()] == ["One", "two. Three."]


def test_what_an_agent_could_not_bear_is_not_told_to_the_next() -> None:
    told: list[events.OfCall] = [
        *(events.CallTranscript("user", f"{number}") for number in range(20)),
        events.AgentContextReduced(past=True),
        events.AgentLost("agent_lost", ""),
        events.AgentWelcomed("default", "r"),
    ]
    history = History.restored(told)
    assert [each["content"] for each in history.messages()] == [str(n) for n in range(9, 20)]
    assert history.unanswered == "19"
    told.insert(-1, events.AgentContextReduced(question=True))
    told.insert(-1, events.AgentLost("agent_lost", ""))
    assert History.restored(told).messages()[-1]["content"] == "17"


def test_of_a_caller_who_is_to_say_it_again_nothing_is_kept_as_still_to_be_answered() -> None:
    """Neither the question that was given up nor those before it, where the past is left out."""
    told: list[events.OfCall] = [
        *(events.CallTranscript("user", text) for text in ("One?", "Two?", "Three?")),
        events.AgentContextReduced(past=True, question=True),
        events.AgentLost("agent_lost", ""),
    ]
    assert History.restored(told).messages() == []


def test_sentences_that_were_heard_in_one_go_become_one() -> None:
    told = [
        events.CallTranscript(AGENT, "One two.", position=0.0),
        events.CallTranscript(AGENT, "Three.", position=1.0),
        events.CallHeard("One two. Three.", "One two.", 1.5, 1.0),
        events.CallAskedAnew(GO_ON),
        events.CallAskedAnew(),  # a question of the caller's, which is known
    ]
    contents = [each["content"] for each in History.restored(told).messages()]
    assert contents == ["One two.", GO_ON]

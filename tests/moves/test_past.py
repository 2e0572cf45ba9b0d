"""What is known of a call by its rows is what was known by its process."""

from collections.abc import Iterable

import msgspec
from call_stories import NOON, sid
from hypothesis import given
from rig_told_call import AGENT, SCRIPT, Step, happen, steps

from sts_trio.call.info import CallInfo
from sts_trio.logic.acts import Recalled
from sts_trio.logic.history import History
from sts_trio.moves.past import recalled
from sts_trio.observe import events
from sts_trio.observe.feed import CallEvent
from sts_trio.records.call_log import CallLog
from sts_trio.records.rows import Kind, Row

INFO = CallInfo(call_sid=sid(1), stream_sid="MZ1", agent="default")


class Log(list[Row]):
    """The rows of a call, by the second."""

    def __init__(self, told: Iterable[events.OfCall] = ()) -> None:
        self.now = NOON
        self._call_log = CallLog(self, "p1", wall=lambda: self.now)
        self._call_log.start(INFO)
        self.hear(*told)

    put = put_at_once = list.append

    def hear(self, *told: events.OfCall) -> "Log":
        for event in told:
            self._call_log.hear(CallEvent(sid(1), self.now - NOON, event))
        self._call_log.gather()
        return self

    def go_on(self, how: str) -> None:
        self._call_log.start(INFO, how=how, known_epoch=self[-1].epoch)

    def recalled(self, after: float = 0.0) -> Recalled:
        return recalled(self, self.now + after)


def agent_says(text: str, position: float) -> events.CallTranscript:
    return events.CallTranscript(AGENT, text, position=position)


@given(steps)
def test_what_is_recalled_by_rows_is_what_is_restored_by_events(several: list[Step]) -> None:
    call = happen(several)
    told = recalled(Log(call.told), NOON + 60).told
    restored = History.restored(told)
    assert restored.messages() == History.restored(call.told).messages()
    assert restored.unanswered == History.restored(call.told).unanswered


@given(steps)
def test_nothing_is_left_to_be_settled_by_marks_that_never_come(several: list[Step]) -> None:
    past = recalled(Log(happen(several).told), NOON + 60)
    assert not History.restored((*past.told, *past.settled))._playing


def test_rows_are_as_the_database_gives_them_back() -> None:
    """Whole seconds are whole numbers there."""
    log = Log([agent_says("Hello.", 0.0), events.CallHeard("Hello.", "Hello.", 1.0, 1.0)])
    back = [
        msgspec.structs.replace(
            row,
            body=msgspec.json.decode(
                msgspec.json.encode(row.body).replace(b"0.0", b"0").replace(b"1.0", b"1")
            ),
        )
        for row in log
    ]
    assert recalled(back, NOON) == log.recalled()
    assert History.restored(log.recalled().told).messages()[0]["content"] == "Hello."


def test_of_a_sentence_that_was_being_said_as_much_was_heard_as_there_was_time_for() -> None:
    log = Log([agent_says("One two three four five six.", 0.0), agent_says("Seven eight.", 4.0)])
    heard = [turn.heard for turn in log.recalled(after=2.0).settled]
    assert heard == ["One two three", ""]
    heard = [turn.heard for turn in log.recalled(after=4.5).settled]
    assert heard == ["One two three four five six.", "Seven"]
    assert log.recalled(after=4.5).is_cut


def test_of_a_turn_whose_end_was_not_told_something_was_still_to_be_heard() -> None:
    """However slowly the agent speaks."""
    log = Log([agent_says("One two three four five six.", 0.0)])
    past = log.recalled(after=10.0)
    assert [turn.heard for turn in past.settled] == ["One two three four five"]
    assert past.is_cut
    log.hear(events.CallHeard("One two three four five six.", "One two three four", 4.0, 3.0))
    assert not log.recalled(after=10.0).is_cut


def test_what_was_settled_before_is_not_settled_again() -> None:
    log = Log([agent_says("One. ", 0.0), agent_says("Two.", 1.0), agent_says("Three four.", 2.0)])
    log.hear(events.CallHeard("One. Two.", "One. Two.", 2.0, 2.0))
    assert [turn.said for turn in log.recalled(after=60.0).settled] == ["Three four."]
    log.hear(events.CallTranscript(AGENT, "Late."), events.CallHeard("Late.", "", 0.0, 0.0))
    assert [turn.said for turn in log.recalled(after=60.0).settled] == ["Three four."]


def test_a_clock_that_runs_behind_has_nothing_heard_before_it_was_said() -> None:
    past = Log([events.CallTranscript("user", "Hi."), agent_says("Hello.", 0.0)]).recalled(-60.0)
    assert [turn.heard for turn in past.settled] == [""]
    assert past.lasted == 0.0


def test_an_agent_of_whom_nothing_was_heard_has_still_to_greet() -> None:
    log = Log()
    assert log.recalled().greets
    log.hear(events.AgentWelcomed("r", "default"), agent_says("Hello there, caller.", 0.0))
    past = log.recalled()
    assert past.greets
    assert not past.is_cut
    assert not log.recalled(after=1.0).greets
    assert not log.hear(events.CallTranscript("user", "Hi.")).recalled().greets


def test_who_talks_with_the_caller_is_who_was_last_to() -> None:
    log = Log()
    assert (log.recalled().agent, recalled([], NOON).agent) == ("default", "")
    log.hear(events.AgentWelcomed("r", "sales"), events.CallTranscript("user", "Hi."))
    assert log.recalled().agent == "sales"
    log.hear(events.AgentHandedOver("sales", "service"))
    past = log.recalled()
    assert (past.agent, past.greets) == ("service", True)


def test_what_was_moved_twice_is_known_from_the_beginning() -> None:
    hello = "Hello there, caller."
    log = Log([agent_says(hello, 0.0), events.CallHeard(hello, hello, 1.0, 1.0)])
    log.now += 10.0
    log.hear(events.CallTranscript("user", "Pay!"))
    log.hear(events.FunctionCalled("f1", "pay", "{}", shield=True))
    log.go_on("recovered")
    first = log.recalled()
    log.hear(*first.settled)
    log.hear(agent_says("Once more?", 0.0), events.CallHeard("Once more?", "Once more?", 1.0, 1.0))
    log.now += 10.0
    log.go_on("moved")
    told = History.restored(log.recalled().told).messages()
    assert [each.get("content") for each in told] == [
        "Hello there, caller.", "Pay!", None, "Once more?",
    ]  # fmt: skip
    assert log.recalled().lasted == 20.0
    assert log.recalled().moves == 0, "before this one: who died has let go of nothing"
    assert log.recalled(after=1.0).moves == 1


def test_a_stream_that_is_back_had_its_agent_all_the_time() -> None:
    log = Log([agent_says("One.", 0.0), events.CallTranscript("user", "Pay!")])
    log.hear(events.FunctionCalled("f1", "pay", "{}", shield=False))
    log.go_on("returned")
    log.hear(events.FunctionFinished("f1", "pay", "done", 1.0, result='"done"'))
    (*_, function) = History.restored(log.recalled().told).messages()
    assert function["function_calls"][0]["response"] == '"done"'


def test_rows_of_another_version_are_passed_over() -> None:
    log = Log([events.CallTranscript("user", "Hi."), events.CallNoted("a", 1)])
    strange = [
        Row(sid(1), log[-1].epoch, 90, NOON, Kind.USER, {"words": 1}),
        Row(sid(1), log[-1].epoch, 91, NOON, Kind.NOTE, {"sts.call.asked_anew": {"text": 7}}),
        Row(sid(1), log[-1].epoch, 92, NOON, Kind.NOTE, {"sts.unheard_of": {}}),
        Row(sid(1), log[-1].epoch, 93, NOON, Kind.MOVED, {}),
    ]
    assert recalled([*log, *strange], NOON) == log.recalled()


def test_a_function_of_a_script_is_known_by_rows() -> None:
    (*_, last) = History.restored(Log(happen(SCRIPT).told).recalled().told).messages()
    assert last["function_calls"][0]["id"] == "f1"

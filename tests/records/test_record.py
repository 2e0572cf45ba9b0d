"""What a record is made of, row by row."""

import math

import msgspec
import pytest
from call_stories import NOON, Story, kept, summed
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.config.records import Prices
from sts_trio.observe import events
from sts_trio.records.record import Cost, cost, lost_rows, summary, without_words
from sts_trio.records.rows import OURS, Kind, Row


def test_functions_are_told_with_what_became_of_them() -> None:
    story = Story().announce().start()
    story.tell(Kind.FUNCTION_ASKED, id="a", name="look_up", arguments={"n": 1}, shield=False)
    story.tell(Kind.FUNCTION_ANSWERED, id="a", outcome="done", seconds=0.5, content="red")
    story.tell(Kind.FUNCTION_ASKED, id="a", name="pay", arguments={}, shield=True)
    story.tell(Kind.FUNCTION_ANSWERED, id="x", outcome="failed")
    made = kept(story)
    assert [(each.name, each.outcome, each.is_shielded) for each in made.functions] == [
        ("look_up", "done", False),
        ("pay", None, True),
    ]
    assert (made.functions[0].arguments, made.functions[0].content) == ({"n": 1}, "red")
    story.tell(Kind.FUNCTION_ANSWERED, id="a", outcome="timed_out", seconds=10)
    figures = summed(story)
    assert (figures.functions, figures.functions_failed) == (2, 1)


def test_a_function_that_the_agents_side_has_run_is_among_them() -> None:
    story = Story().announce().start()
    told = {"id": "f1", "name": "look_up", "arguments": "{}", "content": "red"}
    story.tell(Kind.FUNCTION_RUN_BY_AGENT, 1.0, **told)
    (function,) = kept(story).functions
    assert (function.name, function.outcome, function.content) == ("look_up", "done", "red")
    assert function.is_agents
    assert summed(story).functions == 1


def test_what_the_call_has_counted_is_added_over_its_streams() -> None:
    story = Story()
    counted = {"heard": 2.25, "barge_ins": 1, "longest_gap": 3.0, "violations": {"caller: x": 1}}
    story.tell(Kind.ENDED, statistics={**counted, "request_id": "r1"})
    story.epoch += 1
    counted |= {"longest_gap": 1.0, "functions": 1, "violations": {"caller: x": 2, "agent: y": 1}}
    story.tell(Kind.ENDED, statistics={**counted, "request_id": "r2"})
    assert summed(story).statistics == {
        "heard": 4.5,
        "barge_ins": 2,
        "longest_gap": 3.0,
        "functions": 1,
        "violations": {"caller: x": 3, "agent: y": 1},
        "request_id": "r2",
    }


def test_losses_hand_overs_and_notes_are_told() -> None:
    story = Story()
    story.tell(Kind.AGENT_DIALLED, 0.0, agent="default", request_id="r1", version="v1")
    story.tell(Kind.AGENT_LOST, 10.0, ending="agent_lost", detail="FIN")
    story.tell(Kind.AGENT_DIALLED, 2.0, agent="default", request_id="r2", version="v1")
    story.tell(Kind.HANDED_OVER, 5.0, agent="default", to="sales")
    story.tell(Kind.AGENT_DIALLED, 0.5, agent="sales", request_id="r3")
    story.tell(Kind.NOTE, mood="good", order=7)
    story.tell(Kind.NOTE, mood="better")
    story.tell(Kind.ENDED, 10.0, ending="stop", statistics={"barge_ins": 2})
    made = kept(story)
    assert [loss.detail for loss in made.losses] == ["FIN"]
    assert made.notes == {"mood": "better", "order": 7}
    assert [(each.agent, each.request_id, each.until) for each in made.sessions] == [
        ("default", "r1", NOON + 10),
        ("default", "r2", NOON + 17),
        ("sales", "r3", NOON + 29.5),
    ]
    figures = summed(story)
    assert (figures.agent_losses, figures.agent_seconds) == (1, 10 + 5 + 12)
    assert figures.statistics == {"barge_ins": 2}


@pytest.mark.parametrize(
    ("ending", "who"),
    [
        ("stop", "caller"),
        ("hung_up", "agent"),
        ("time_up", "server"),
        ("crashed", "server"),
        ("lost", None),
    ],
)
def test_it_is_told_who_hung_up(ending: str, who: str | None) -> None:
    assert summed(Story().end(ending), ending).hung_up_by == who


def test_the_phone_is_paid_by_the_minute_and_the_agent_by_the_second() -> None:
    prices = Prices("EUR", agent_per_minute=0.06, phone_per_minute=0.01)
    assert cost(61.0, 61.0, prices) == Cost(0.061, 0.02, "EUR")
    assert cost(0.0, 0.0, prices) == Cost(0.0, 0.0, "EUR")
    assert cost(61.0, 61.0, Prices("EUR")) is None


def test_rows_that_are_missing_are_counted() -> None:
    first, second = Story(), Story(epoch=20)
    for story in (first, second):
        for _ in range(5):
            story.tell(Kind.NOTE)
    assert lost_rows([*first.rows, *second.rows]) == 0
    assert lost_rows([first.rows[4], *second.rows[3:]]) == 4 + 3
    assert lost_rows([]) == 0


@pytest.mark.parametrize("kind", list(Kind))
def test_without_its_words_a_row_is_counted_all_the_same(kind: Kind) -> None:
    body = {name: "secret" for name in ("text", "said", "heard", "arguments", "content")}
    row = Row("CA1", 1, 1, NOON, kind, {**body, "seconds": 1.0})
    bare = without_words(row)
    assert bare.body["seconds"] == 1.0
    assert (bare.call_sid, bare.seq, bare.kind) == ("CA1", 1, kind)
    if kind in (Kind.USER, Kind.AGENT):
        assert bare.body["text"] == ""
    if kind is Kind.HEARD:
        assert (bare.body["said"], bare.body["heard"]) == ("", "")
    assert without_words(bare) == bare


@pytest.mark.parametrize("event", [events.FunctionFailed.NAME, events.FunctionRefused.NAME])
def test_what_a_function_raised_is_a_word_of_the_call(event: str) -> None:
    body = {OURS + event: {"id": "f1", "name": "pay", "reason": "Xanthippe is no name"}}
    bare = without_words(Row("CA1", 1, 1, NOON, Kind.NOTE, body))
    assert bare.body == {OURS + event: {"id": "f1", "name": "pay", "reason": ""}}
    assert without_words(bare) is bare


TEXT = st.text("ab \0é", max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [
        "text",
        "said",
        "heard",
        "until",
        "began",
        "said_seconds",
        "heard_seconds",
        "reported",
        "id",
        "name",
        "outcome",
        "seconds",
        "content",
        "arguments",
        "shield",
        "ending",
        "statistics",
        "agent",
        "request_id",
        "version",
        "gap",
        "detail",
        OURS + events.CallBargeIn.NAME,
        OURS + events.CallFalseInterruption.NAME,
        OURS + events.FunctionFailed.NAME,
    ]
)
ROWS = st.lists(
    st.builds(
        Row,
        st.just("CA1"),
        st.integers(1, 3),
        st.integers(0, 20),
        st.floats(0, 2e9),
        st.sampled_from(list(Kind)),
        st.dictionaries(NAMES, JSON, max_size=8),
    ),
    max_size=12,
)


@given(rows=ROWS, ended_at=st.floats(0, 2e9), answered_at=st.none() | st.floats(0, 2e9))
def test_whatever_the_rows_hold_there_is_a_record_and_a_summary(
    rows: list[Row], ended_at: float, answered_at: float | None
) -> None:
    """Another release wrote them, or a peer had his words in them."""
    prices = Prices("EUR", agent_per_minute=1.0)
    figures = summary(
        rows, answered_at=answered_at, ended_at=ended_at, ending="stop", prices=prices
    )
    for name in ("longest_silence", "seconds", "agent_seconds", "said_seconds"):
        value = getattr(figures, name)
        assert value is None or math.isfinite(value)
    assert figures.longest_silence is None or figures.longest_silence >= 0
    assert figures.lost_rows >= 0 or len({(row.epoch, row.seq) for row in rows}) < len(rows)
    story = Story()
    story.rows = rows
    msgspec.json.encode(msgspec.to_builtins(kept(story)))


def test_what_a_dead_process_had_begun_is_settled_by_who_goes_on() -> None:
    """As far as that one can tell, before its own agent says anything."""
    story = Story().announce().start()
    story.tell(Kind.AGENT, text="One two.")
    story.tell(Kind.AGENT, text="Three.")
    story.epoch += 2
    story.start(how="recovered", process_id="p2")
    story.tell(Kind.HEARD, said="One two.", heard="One", said_seconds=1.0, heard_seconds=0.5)
    story.tell(Kind.AGENT, text="Where were we?")
    told = [(turn.said, turn.heard) for turn in kept(story).turns]
    assert sorted(told, key=str) == [
        ("One two.", "One"),
        ("Three.", None),
        ("Where were we?", None),
    ]

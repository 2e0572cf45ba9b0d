"""What a record is made of, row by row."""

import math

import msgspec
import pytest
from call_stories import NOON, Story, kept
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.config.records import Prices
from sts_trio.records.record import (
    Cost,
    Summary,
    Waits,
    cost,
    lost_rows,
    summary,
    turns,
    waits,
    without_words,
)
from sts_trio.records.rows import Kind, Row


def summed(story: Story, ending: str = "stop", prices: Prices | None = None) -> Summary:
    return summary(
        story.rows,
        answered_at=NOON,
        ended_at=story.at,
        ending=ending,
        prices=prices or Prices(),
    )


def test_a_wait_is_from_the_end_of_speech_to_the_first_sound() -> None:
    story = Story()
    story.tell(Kind.USER, 3.0, text="Hello?", until=NOON + 2.5)
    story.tell(
        Kind.HEARD,
        2.0,
        said="Hi.",
        heard="Hi.",
        said_seconds=1.0,
        heard_seconds=1.0,
        began=NOON + 3.3,
    )
    _, answer = turns(story.rows)
    assert (answer.began, answer.waited) == (NOON + 3.3, 0.8)
    assert summed(story).waits == Waits(1, 0.8, 0.8, 0.8)


def test_without_its_first_sound_a_turn_began_as_long_ago_as_it_was_heard() -> None:
    story = Story()
    story.tell(Kind.USER, 3.0, text="Hello?", until=NOON + 2.5)
    story.tell(Kind.HEARD, 2.0, said="Hi.", heard="Hi.", said_seconds=1.0, heard_seconds=1.0)
    assert turns(story.rows)[1].waited == 1.5


def test_where_the_end_of_speech_is_not_known_there_is_no_wait_to_tell() -> None:
    story = Story()
    story.tell(Kind.USER, 3.0, text="Hello?")
    story.tell(Kind.HEARD, 2.0, said="Hi.", heard="Hi.", said_seconds=1.0, heard_seconds=1.0)
    assert summed(story).waits is None


def test_only_the_first_turn_after_the_caller_is_waited_for() -> None:
    story = Story()
    story.tell(Kind.HEARD, 1.0, said="Hello!", heard="Hello!", said_seconds=0.5, heard_seconds=0.5)
    story.tell(Kind.USER, 2.0, text="Cars?", until=NOON + 2.5)
    story.tell(Kind.HEARD, 2.0, said="Yes.", heard="Yes.", said_seconds=1.0, heard_seconds=1.0)
    story.tell(Kind.HEARD, 9.0, said="Red.", heard="Red.", said_seconds=1.0, heard_seconds=1.0)
    assert [turn.waited for turn in turns(story.rows)] == [None, None, 1.5, None]


def test_a_turn_that_was_never_heard_was_not_waited_for() -> None:
    story = Story()
    story.tell(Kind.USER, 2.0, text="Cars?", until=NOON + 1.5)
    story.tell(Kind.HEARD, 0.0, said="Yes", heard="", said_seconds=0.0, heard_seconds=0.0)
    story.tell(Kind.HEARD, 2.0, said="No.", heard="No.", said_seconds=1.0, heard_seconds=1.0)
    assert [turn.waited for turn in turns(story.rows) if turn.role == "agent"] == [None, 1.5]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([1.0], Waits(1, 1.0, 1.0, 1.0)),
        ([2.0, 1.0], Waits(2, 1.0, 2.0, 2.0)),
        ([float(n) for n in range(1, 101)], Waits(100, 50.0, 95.0, 100.0)),
        ([], None),
    ],
)
def test_percentiles_are_waits_that_there_were(
    seconds: list[float], expected: Waits | None
) -> None:
    assert waits(seconds) == expected


def test_the_longest_silence_is_that_of_both() -> None:
    story = Story()
    story.tell(Kind.HEARD, 3.0, said="Hello!", heard="Hello!", said_seconds=2.0, heard_seconds=2.0)
    story.tell(Kind.USER, 6.0, text="A long story.", began=NOON + 4, until=NOON + 8)
    story.tell(Kind.HEARD, 5.0, said="I see.", heard="I see.", said_seconds=1.0, heard_seconds=1.0)
    story.tell(Kind.ENDED, 3.0, ending="stop")
    # Quiet from 8, when the caller stopped, to 13, when the agent began.
    assert summed(story).longest_silence == 5.0


def test_a_call_in_which_nobody_speaks_is_silent_throughout() -> None:
    story = Story()
    story.tell(Kind.ENDED, 30.0, ending="silence")
    assert summed(story, "silence").longest_silence == 30.0


def test_silence_before_the_hang_up_counts_too() -> None:
    story = Story()
    story.tell(Kind.HEARD, 3.0, said="Hello!", heard="Hello!", said_seconds=3.0, heard_seconds=3.0)
    story.tell(Kind.ENDED, 20.0, ending="silence")
    assert summed(story).longest_silence == 20.0


def test_a_turn_that_is_not_settled_is_among_the_turns_at_a_crash() -> None:
    story = Story().announce().start()
    story.tell(Kind.AGENT, text="Hello!")
    story.tell(Kind.HEARD, said="Hello!", heard="Hello!", said_seconds=1.0, heard_seconds=1.0)
    story.tell(Kind.AGENT, text="We have three.")
    story.tell(Kind.AGENT, text="The first is red.")
    assert [(turn.said, turn.heard) for turn in turns(story.rows)] == [
        ("Hello!", "Hello!"),
        ("We have three. The first is red.", None),
    ]


def test_sentences_of_the_next_turn_that_come_before_the_last_is_settled_are_kept() -> None:
    story = Story()
    story.tell(Kind.AGENT, text="One.")
    story.tell(Kind.AGENT, text="Two.")
    story.tell(Kind.HEARD, said="One.", heard="One.", said_seconds=1.0, heard_seconds=1.0)
    assert [turn.said for turn in turns(story.rows)] == ["One.", "Two."]


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

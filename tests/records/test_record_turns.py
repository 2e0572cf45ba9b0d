"""Who said what in a call, what of it was heard, and how long the caller waited."""

from collections.abc import Sequence

import msgspec
import pytest
from call_stories import NOON, Story, summed
from rig_dialogue import RECONNECTS, echo, talking

from sts_trio.call.info import CallInfo
from sts_trio.logic.acts import Act, SendToCaller
from sts_trio.observe import events
from sts_trio.observe.feed import call_event
from sts_trio.records.call_log import CallLog
from sts_trio.records.rows import OURS, Kind, Row
from sts_trio.records.turns import Waits, turns, waits
from sts_trio.wire import twilio
from sts_trio.wire.deepgram import AgentAudioDone, Audio, ConversationText, UserStartedSpeaking

BARGE_IN = {OURS + events.CallBargeIn.NAME: {"cut": 3.0}}
NOISE = {OURS + events.CallFalseInterruption.NAME: {"seconds": 3.2, "whole": True}}


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


def test_what_a_noise_has_cut_and_is_played_on_is_one_turn() -> None:
    story = Story()
    story.tell(Kind.AGENT, 0.0, text="One two three four.")
    story.tell(Kind.NOTE, 2.0, **BARGE_IN)
    cut = {"said": "One two three four.", "heard": "One two", "said_seconds": 4.0}
    story.tell(Kind.HEARD, 0.0, **cut, heard_seconds=1.0, reported={"total": 0.5})
    story.tell(Kind.NOTE, 1.0, **NOISE)
    rest = {"said": "three four.", "heard": "three four.", "said_seconds": 3.2}
    story.tell(Kind.HEARD, 3.2, **rest, heard_seconds=3.2)
    (turn,) = turns(story.rows)
    assert (turn.said, turn.heard) == ("One two three four.", "One two three four.")
    assert (turn.began, turn.until) == (NOON + 1, NOON + 6.2)
    assert turn.reported == {"total": 0.5}
    figures = summed(story)
    assert (figures.agent_turns, figures.cut_turns) == (1, 0)
    assert (figures.said_seconds, figures.heard_seconds) == (4.2, 4.2)
    # Nobody was heard while it was not known to be a noise.
    assert figures.longest_silence == 1.0


def test_what_was_played_on_may_be_cut_by_words() -> None:
    story = Story()
    story.tell(Kind.NOTE, 2.0, **BARGE_IN)
    for said, heard, began in (
        ("One two", "One two", 0),
        ("three four", "three", 0),
        ("five", "", 0),
    ):
        heard_seconds = float(len(heard.split()))
        told = {"said": said, "heard": heard, "said_seconds": float(len(said.split()))}
        story.tell(Kind.HEARD, began, **told, heard_seconds=heard_seconds)
    story.tell(Kind.NOTE, 1.0, **NOISE)
    told = {"said": "four five six", "heard": "four", "said_seconds": 3.0, "heard_seconds": 1.0}
    story.tell(Kind.NOTE, 1.0, **BARGE_IN)
    story.tell(Kind.HEARD, 0.0, **told)
    story.tell(Kind.USER, text="Wait.")
    assert [(turn.said, turn.heard) for turn in turns(story.rows)] == [
        ("One two", "One two"),
        ("three four five six", "three four"),
        ("Wait.", None),
    ]
    assert summed(story).cut_turns == 1


def test_what_was_played_on_without_a_word_in_it_is_heard() -> None:
    story = Story()
    story.tell(Kind.NOTE, 2.0, **BARGE_IN)
    told = {"said": "Yes.", "heard": "Yes.", "said_seconds": 1.0, "heard_seconds": 0.9}
    story.tell(Kind.HEARD, 0.0, **told)
    assert summed(story).cut_turns == 1
    story.tell(Kind.NOTE, 1.0, **NOISE)
    story.tell(Kind.HEARD, 3.0, said="And.", heard="And.", said_seconds=1.0, heard_seconds=1.0)
    assert [turn.said for turn in turns(story.rows)] == ["Yes.", "And."]
    assert summed(story).cut_turns == 0


def test_a_noise_that_was_played_over_has_nothing_to_do_with_what_is_said_later() -> None:
    story = Story()
    story.tell(Kind.NOTE, 1.0, **BARGE_IN)
    story.tell(Kind.HEARD, said="One two", heard="One", said_seconds=2.0, heard_seconds=1.0)
    story.tell(Kind.NOTE, 1.0, **NOISE)
    story.tell(Kind.HEARD, said="Six.", heard="Six.", said_seconds=1.0, heard_seconds=1.0)
    assert [turn.said for turn in turns(story.rows)] == ["One two", "Six."]


class Rows:
    """What is made of the acts of a dialogue, at its own time."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.now = 0.0
        self._log = CallLog(self, "p1", wall=lambda: NOON + self.now)
        self._log.start(CallInfo(call_sid="CA1"))

    def put(self, row: Row) -> None:
        self.rows.append(row)

    put_at_once = put

    def hear(self, at: float, acts: Sequence[Act]) -> None:
        self.now = at
        for act in acts:
            if isinstance(act, events.OfCall):
                self._log.hear(call_event("CA1", at, act))
        self._log.gather()


def test_a_call_with_a_cough_in_it_has_no_turn_that_was_cut() -> None:
    """The rows that the acts of a dialogue come to."""
    bridge = talking(msgspec.structs.replace(RECONNECTS, resumes=True))
    rows = Rows()
    sentence = ConversationText("agent", "one two three four")
    rows.hear(0.0, bridge.hear(sentence, Audio(b"\x21" * 32_000), AgentAudioDone()))
    bridge.wait_until(1)
    rows.hear(1.0, bridge.hear(echo("e0-1"), UserStartedSpeaking()))
    acts = bridge.wait_until(6)
    for at, act in acts:
        rows.hear(at, [act])
    marks = [
        act.message.mark.name
        for _, act in acts
        if isinstance(act, SendToCaller) and isinstance(act.message, twilio.PlayMark)
    ]
    rows.hear(6.0, bridge.hear(echo(marks[-1])))
    assert [row.body["said"] for row in rows.rows if row.kind is Kind.HEARD] == [
        "one two three four",
        "two three four",
    ]
    (turn,) = turns(rows.rows)
    assert (turn.said, turn.heard) == ("one two three four", "one two three four")
    assert turn.unheard_seconds == 0


def test_sentences_of_a_process_that_is_gone_are_not_waited_for() -> None:
    story = Story()
    story.tell(Kind.AGENT, text="The last one leaves at")
    story.epoch += 1
    story.tell(Kind.AGENT, text="At ten.")
    story.tell(Kind.HEARD, said="At ten.", heard="At ten.", said_seconds=1.0, heard_seconds=1.0)
    assert [(turn.said, turn.heard) for turn in turns(story.rows)] == [
        ("The last one leaves at", None),
        ("At ten.", "At ten."),
    ]


def test_a_sentence_whose_settling_was_lost_keeps_no_other_unsettled() -> None:
    story = Story()
    story.tell(Kind.AGENT, text="One.")
    story.tell(Kind.AGENT, text="Two.")
    story.tell(Kind.HEARD, said="Two.", heard="Two.", said_seconds=1.0, heard_seconds=1.0)
    assert [(turn.said, turn.heard) for turn in turns(story.rows)] == [
        ("One.", None),
        ("Two.", "Two."),
    ]

"""Who said what and when, and the demonstration's clips."""

from importlib.resources import files

import msgspec
import pytest
from rig_demo import GOOD

from sts_trio.audio import wav
from sts_trio.audio.frames import length
from sts_trio.demo.clips import broken_off, clips, speak
from sts_trio.simulate.earpiece import Announced
from sts_trio.simulate.phone import Moment
from sts_trio.simulate.report import Turn
from sts_trio.simulate.script import Speak, audible_part
from sts_trio.simulate.transcript import (
    AGENT,
    CALLER,
    CARRIER,
    Line,
    Narrator,
    Sentence,
    lines,
    text,
)

# --- afterwards -----------------------------------------------------------------------------------

REPORT = msgspec.structs.replace(
    GOOD,
    agent_spans=((0.1, 2.0), (5.5, 8.1), (10.5, 12.0)),
    turns=(
        Turn(3.0, 5.0, wait=0.5, talked_over=None, text="What cars?"),
        Turn(8.0, 10.0, wait=0.5, talked_over=0.1, text="A test drive."),
    ),
)


def test_a_transcript_has_everybodys_words_in_order() -> None:
    said = [
        Sentence(0.05, "assistant", "Hello!"),
        Sentence(0.06, "assistant", "How can I help?"),
        Sentence(5.3, "user", "what cars"),
        Sentence(5.31, "assistant", "We have three."),
        Sentence(10.3, "user", "a test"),
        Sentence(10.35, "user", "drive"),
        Sentence(10.4, "assistant", "When?"),
    ]
    assert lines(REPORT, said) == [
        Line(0.1, 2.0, AGENT, "Hello! How can I help?"),
        Line(3.0, 5.0, CALLER, "What cars?", understood="what cars"),
        Line(5.5, 8.1, AGENT, "We have three.", waited=0.5),
        Line(8.0, 10.0, CALLER, "A test drive.", silenced=0.1, understood="a test drive"),
        Line(10.5, 12.0, AGENT, "When?", waited=0.5),
    ]


def test_without_sentences_a_transcript_tells_who_spoke_when() -> None:
    told = lines(REPORT)
    assert [(line.at, line.who, line.text) for line in told] == [
        (0.1, AGENT, ""),
        (3.0, CALLER, "What cars?"),
        (5.5, AGENT, ""),
        (8.0, CALLER, "A test drive."),
        (10.5, AGENT, ""),
    ]
    assert msgspec.json.encode(told[0]) == b'{"at":0.1,"until":2.0,"who":"agent"}'


def test_what_the_carrier_says_of_its_own_is_not_the_agents() -> None:
    notice = Announced(0.0, 0.1, "This call is recorded.")
    told = lines(msgspec.structs.replace(REPORT, announced=(notice,)))
    assert told[:2] == [
        Line(0.0, 0.1, CARRIER, "This call is recorded."),
        Line(0.1, 2.0, AGENT),
    ]


# --- while it runs --------------------------------------------------------------------------------


class Audience:
    def __init__(self, *, knows_words: bool = True) -> None:
        self.told: list[Line] = []
        self.narrator = Narrator(self.told.append, knows_words=knows_words)

    def moments(self, begin: float, end: float, **changes: object) -> None:
        for n in range(round(begin * 50), round(end * 50)):
            moment = Moment(n / 50, False, False)
            self.narrator.watch(msgspec.structs.replace(moment, **changes))


def test_what_the_carrier_says_is_told_once_and_as_its_own() -> None:
    audience = Audience()
    audience.moments(0.1, 1.0, announced="This call is recorded.")
    audience.narrator.hear(Sentence(1.0, "agent", "Hello!"))
    audience.moments(1.0, 2.0, agent_speaks=True, stretches=1)
    audience.moments(2.0, 3.0, announced="Goodbye.", stretches=1)
    assert audience.told == [
        Line(0.1, 0.1, CARRIER, "This call is recorded."),
        Line(1.0, 1.0, AGENT, "Hello!"),
        Line(2.0, 2.0, CARRIER, "Goodbye."),
    ]


def test_each_line_is_told_as_it_begins_with_how_long_the_caller_waited() -> None:
    audience = Audience()
    audience.narrator.hear(Sentence(0.0, "assistant", "Hello!"))
    audience.moments(0.1, 1.0, agent_speaks=True, stretches=1)
    audience.moments(1.0, 2.0, stretches=1)
    audience.moments(2.0, 3.0, caller_speaks=True, saying="Cars?", stretches=1)
    audience.moments(3.0, 3.5, stretches=1)
    audience.narrator.hear(Sentence(3.4, "user", "cars"))
    audience.narrator.hear(Sentence(3.4, "assistant", "Three."))
    audience.moments(3.5, 4.0, agent_speaks=True, stretches=2, wait=0.5)
    assert audience.told == [
        Line(0.1, 0.1, AGENT, "Hello!"),
        Line(2.0, 2.0, CALLER, "Cars?"),
        Line(3.4, 3.4, CALLER, understood="cars"),
        Line(3.5, 3.5, AGENT, "Three.", waited=0.5),
    ]


def test_who_speaks_into_the_agents_sentence_barges_in() -> None:
    audience = Audience(knows_words=False)
    audience.moments(0.0, 1.0, agent_speaks=True, stretches=1)
    audience.moments(1.0, 2.0, agent_speaks=True, stretches=1, saying="Wait.")
    assert audience.told == [Line(0.0, 0.0, AGENT), Line(1.0, 1.0, CALLER, "Wait.", silenced=0.0)]


def test_words_that_come_after_the_voice_are_waited_for_and_further_ones_go_on_from_there() -> None:
    audience = Audience()
    audience.moments(0.0, 1.0, agent_speaks=True, stretches=1)
    assert audience.told == []
    audience.narrator.hear(Sentence(1.0, "agent", "Hello!"))
    audience.moments(1.0, 1.1, agent_speaks=True, stretches=1)
    audience.narrator.hear(Sentence(1.2, "assistant", "How can I help?"))
    audience.moments(1.2, 1.3, agent_speaks=True, stretches=1)
    assert audience.told == [Line(0.0, 0.0, AGENT, "Hello!"), Line(0.0, 0.0, "", "How can I help?")]


def test_words_that_never_come_are_waited_for_no_longer_than_they_could() -> None:
    """What the bridge says itself, "One moment, please", is told by nobody."""
    audience = Audience()
    audience.moments(0.0, 2.0, agent_speaks=True, stretches=1)
    assert audience.told == []
    audience.moments(2.0, 2.1, stretches=1)
    assert audience.told == [Line(0.0, 0.0, AGENT)]
    audience.narrator.hear(Sentence(3.0, "agent", "Three."))
    audience.moments(3.0, 3.1, agent_speaks=True, stretches=2)
    assert audience.told[1:] == [Line(3.0, 3.0, AGENT, "Three.")]


def test_a_transcript_is_written_a_line_for_each_stretch() -> None:
    told = [
        Line(0.1, 2.0, AGENT, "Hello!"),
        Line(12.0, 13.0, CALLER, "What cars?", understood="what cars"),
        Line(14.0, 15.0, AGENT),
    ]
    assert text(told) == (
        "    0.1 s  agent   Hello!\n"
        "   12.0 s  caller  What cars? (understood: what cars)\n"
        "   14.0 s  agent   (speaks)\n"
    )


def test_words_that_were_cut_off_before_they_were_heard_are_not_put_into_the_next_answer() -> None:
    audience = Audience()
    audience.narrator.hear(Sentence(0.0, "assistant", "Cut."))
    audience.moments(0.0, 1.0, caller_speaks=True, saying="Wait.")
    audience.narrator.hear(Sentence(1.5, "assistant", "Yes?"))
    audience.moments(1.5, 2.0, agent_speaks=True, stretches=1)
    assert [line.text for line in audience.told] == ["Wait.", "Yes?"]


def test_of_a_turn_that_was_cut_it_is_told_what_was_heard() -> None:
    audience = Audience()
    audience.narrator.end_turn(1.0, "All of it.", "All of it.")
    audience.narrator.end_turn(2.0, "None of it.", "")
    audience.narrator.end_turn(3.0, "Half of it.", "Half")
    assert audience.told == [Line(3.0, 3.0, AGENT, heard="Half")]


# --- clips ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", clips())
def test_every_clip_is_in_the_package_and_audible(name: str) -> None:
    clip = speak(name)
    first, last = audible_part(clip.audio)
    assert 0.5 < last - first < 4
    assert clip.text == clips()[name].text


def test_no_file_is_shipped_that_nobody_says() -> None:
    there = (files("sts_trio.demo") / "callers").iterdir()
    assert {each.name for each in there if each.name.endswith(".wav")} == {
        clip.file for clip in clips().values()
    }


def test_a_sentence_can_be_broken_off() -> None:
    whole = Speak(b"\x00" * length(2.0), "I would like to book")
    assert broken_off(whole, 1.0) == Speak(b"\x00" * length(1.0), "I would li\N{EM DASH}")


def test_mulaw_in_a_wav_file_is_read_back_as_it_was() -> None:
    for size in (1, 160, 161):
        audio = bytes(n % 256 for n in range(size))
        file = wav.ulaw_file(audio)
        assert wav.parse(file) == audio
        assert int.from_bytes(file[4:8], "little") == len(file) - 8

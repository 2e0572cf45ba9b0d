"""What was said in a call, as files."""

from typing import Any

import msgspec
import pytest
from call_stories import FROM, NOON, Story, kept, sid

from sts_trio.records import call_transcript
from sts_trio.records.record import StreamRow
from sts_trio.records.rows import Kind


def talked() -> Story:
    return Story().announce().start().talk()


def test_a_transcript_has_functions_losses_and_what_went_unheard() -> None:
    story = talked()
    story.tell(Kind.FUNCTION_ASKED, id="a", name="book", arguments="{}", shield=False)
    story.tell(Kind.AGENT_LOST, ending="agent_mute", detail="")
    story.tell(Kind.AGENT, text="And\nthen")
    assert call_transcript.text(kept(story, answered=NOON + 1)).splitlines() == [
        "    1.5  agent   Hello!",
        "    5.0  caller  What cars do you have?",
        "    6.4  agent   Three of [not heard: them.]  (2.40 s)",
        "    8.0  [book: not known]",
        "    9.0  [agent lost: agent_mute]",
        "   10.0  agent   And then [not known how much was heard]",
    ]


def test_a_call_that_another_process_went_on_with_is_one() -> None:
    story = talked()
    story.tell(Kind.ENDED, ending="moved")
    story.epoch += 2
    story.start(stream_sid="MZ2", how="moved")
    story.tell(Kind.AGENT_DIALLED, agent="default", request_id="r2")
    story.tell(Kind.USER, text="Are you there?")
    streams = [
        StreamRow(
            call_sid=story.call_sid,
            epoch=epoch,
            stream_sid="MZ",
            process_id="p1",
            how=how,
            started_at=at,
            ended_at=None,
            ending=None,
            gap_seconds=gap,
        )
        for epoch, how, at, gap in ((10, "first", NOON + 1, None), (12, "moved", NOON + 10, 0.5))
    ]
    told = msgspec.structs.replace(kept(story, answered=NOON + 1), streams=streams)
    assert call_transcript.text(told).splitlines()[-2:] == [
        "    9.0  [another stream: moved, after 0.5 s]",
        "   11.0  caller  Are you there?",
    ]
    first, second = told.sessions
    assert (first.until, second.began) == (NOON + 9, NOON + 11)


def test_captions_are_what_was_heard_while_it_was() -> None:
    assert call_transcript.webvtt(kept(talked(), answered=NOON + 1)) == (
        "WEBVTT\n\n"
        "00:00:01.500 --> 00:00:03.500\n<v Agent>Hello!\n\n"
        "00:00:05.000 --> 00:00:07.000\n<v Caller>What cars do you have?\n\n"
        "00:00:06.400 --> 00:00:08.400\n<v Agent>Three of\n"
    )


@pytest.mark.parametrize("role", [Kind.USER, Kind.AGENT])
def test_no_words_end_a_caption_or_become_a_tag(role: Kind) -> None:
    story = Story().announce().start()
    story.tell(role, 3599.5, text="\n\n1\n00:00:00.000 --> 00:09:00.000\n<b>&amp;\r\n\r\nNOTE x")
    cue = call_transcript.webvtt(kept(story, answered=NOON + 1)).removeprefix("WEBVTT\n\n")
    assert cue.startswith("00:59:59.500 --> 01:00:01.500\n<v ")
    assert cue.count("-->") == 1
    assert cue.count("\n") == 2
    assert "&lt;b&gt;&amp;amp;" in cue


def test_of_what_nobody_heard_there_is_no_caption() -> None:
    story = Story().announce().start()
    story.tell(Kind.AGENT, text="Hello!")
    story.tell(Kind.HEARD, said="Hello!", heard="", said_seconds=0.5, heard_seconds=0.0)
    assert call_transcript.webvtt(kept(story, answered=NOON + 1)) == "WEBVTT\n"


def test_the_turns_are_told_in_seconds_of_the_call() -> None:
    told: dict[str, Any] = msgspec.json.decode(
        call_transcript.json(kept(talked(), answered=NOON + 1))
    )
    assert (told["call_sid"], told["from"], told["version"]) == (sid(1), FROM, 1)
    assert told["turns"][-1] == {
        "role": "agent",
        "began": 6.4,
        "until": 7.0,
        "said": "Three of them.",
        "heard": "Three of",
        "waited": 2.4,
    }


def test_of_a_call_that_was_never_answered_time_begins_with_it() -> None:
    story = Story().announce().start()
    story.tell(Kind.USER, text="Hello?")
    assert call_transcript.text(kept(story, answered=None)) == "    2.0  caller  Hello?\n"

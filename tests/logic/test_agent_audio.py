"""The agent's audio on its way to the caller."""

from fakes import STREAM_SID

from sts_trio.logic.agent_audio import AgentAudio
from sts_trio.wire import twilio


def begun() -> AgentAudio:
    speaking = AgentAudio()
    speaking.stream_sid = STREAM_SID
    return speaking


def play(audio: bytes) -> twilio.PlayMedia:
    return twilio.PlayMedia(STREAM_SID, twilio.Outbound(audio))


def mark(name: str) -> twilio.PlayMark:
    return twilio.PlayMark(STREAM_SID, twilio.MarkName(name))


def test_whole_frames_are_played_and_the_end_padded_and_marked() -> None:
    speaking = begun()
    assert speaking.say(b"\x01" * 200, 0.0) == [play(b"\x01" * 160)]
    assert speaking.finish(0.0) == [play(b"\x01" * 40 + b"\xff" * 120), mark("e0-1")]
    assert speaking.finish(0.0) == []


def test_how_long_it_plays_is_told_by_the_clock_alone() -> None:
    speaking = begun()
    speaking.say(b"\x01" * 8000, 10.0)
    assert speaking.plays_until == 11
    speaking.say(b"\x01" * 4000, 10.1)
    assert speaking.plays_until == 11.5
    speaking.say(b"\x01" * 4000, 20.0)
    assert speaking.plays_until == 20.5
    speaking.cut(20.2)
    assert speaking.plays_until == 20.2


def test_it_is_heard_when_its_marks_came_back_and_no_more_is_under_way() -> None:
    speaking = begun()
    assert speaking.is_heard
    speaking.say(b"\x01" * 160, 0.0)
    assert not speaking.is_heard
    speaking.finish(0.0)
    assert not speaking.is_heard
    speaking.playout.echo("e0-1")
    assert speaking.is_heard


def test_a_barge_in_cuts_and_drops_what_still_comes() -> None:
    speaking = begun()
    speaking.say(b"\x01" * 200, 0.0)
    assert speaking.cut(1.0) == (160, [twilio.Clear(STREAM_SID), mark("e1-1")])
    assert speaking.is_heard
    assert speaking.say(b"\x02" * 160, 2.9) == []
    assert speaking.is_heard
    speaking.next_turn()
    assert speaking.say(b"\x03" * 160, 2.9) == [play(b"\x03" * 160)]


def test_the_mark_behind_a_clear_tells_once_when_it_was_silent() -> None:
    speaking = begun()
    assert speaking.cut(0.0) == (0, [twilio.Clear(STREAM_SID)])
    speaking.next_turn()
    speaking.say(b"\x01" * 160, 1.0)
    speaking.cut(1.0)
    assert speaking.silent_after("e0-1", 1.25) is None
    assert speaking.silent_after("e1-1", 1.25) is None
    assert speaking.silent_after("e2-1", 1.25) == 0.25
    assert speaking.silent_after("e2-1", 1.5) is None


def test_our_own_audio_amid_an_utterance_is_no_end_of_it() -> None:
    speaking = begun()
    speaking.say(b"\x01" * 200, 0.0)
    assert speaking.insert(b"\x07" * 160, 0.0) == [play(b"\x07" * 160), mark("e0-1")]
    assert speaking.say(b"\x01" * 120, 0.0) == [play(b"\x01" * 160)]
    speaking.playout.echo("e0-1")
    assert not speaking.is_heard


def test_our_own_audio_is_no_sign_that_a_cut_utterance_has_ended() -> None:
    speaking = begun()
    speaking.cut(0.0)
    speaking.insert(b"\x07" * 160, 0.1)
    assert speaking.say(b"\x01" * 160, 0.2) == []


def test_nothing_inserted_is_nothing_played() -> None:
    assert begun().insert(b"", 0.0) == []

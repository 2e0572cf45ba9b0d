"""The agent's audio on its way to the caller."""

import pytest
from rig_peers import STREAM_SID

from sts_trio.logic.agent_audio import AgentAudio
from sts_trio.wire import twilio


def begun() -> AgentAudio:
    agent_audio = AgentAudio()
    agent_audio.stream_sid = STREAM_SID
    return agent_audio


def play(audio: bytes) -> twilio.PlayMedia:
    return twilio.PlayMedia(STREAM_SID, twilio.Outbound(audio))


def mark(name: str) -> twilio.PlayMark:
    return twilio.PlayMark(STREAM_SID, twilio.MarkName(name))


def test_whole_frames_are_played_and_the_end_padded_and_marked() -> None:
    agent_audio = begun()
    assert agent_audio.say(b"\x01" * 200, 0.0) == [play(b"\x01" * 160)]
    assert agent_audio.finish(0.0) == [play(b"\x01" * 40 + b"\xff" * 120), mark("e0-1")]
    assert agent_audio.finish(0.0) == []


def test_how_long_it_plays_is_told_by_the_clock_alone() -> None:
    agent_audio = begun()
    agent_audio.say(b"\x01" * 8000, 10.0)
    assert agent_audio.plays_until == 11
    agent_audio.say(b"\x01" * 4000, 10.1)
    assert agent_audio.plays_until == 11.5
    agent_audio.say(b"\x01" * 4000, 20.0)
    assert agent_audio.plays_until == 20.5
    agent_audio.cut(20.2)
    assert agent_audio.plays_until == 20.2


def test_it_is_heard_when_its_marks_came_back_and_no_more_is_under_way() -> None:
    agent_audio = begun()
    assert agent_audio.is_heard
    agent_audio.say(b"\x01" * 160, 0.0)
    assert not agent_audio.is_heard
    agent_audio.finish(0.0)
    assert not agent_audio.is_heard
    agent_audio.playout.echo("e0-1")
    assert agent_audio.is_heard


def test_a_barge_in_cuts_and_drops_what_still_comes() -> None:
    agent_audio = begun()
    agent_audio.say(b"\x01" * 200, 0.0)
    assert agent_audio.cut(1.0) == (160, [twilio.Clear(STREAM_SID), mark("e1-1")])
    assert agent_audio.is_heard
    assert agent_audio.say(b"\x02" * 160, 2.9) == []
    assert agent_audio.is_heard
    agent_audio.next_turn()
    assert agent_audio.say(b"\x03" * 160, 2.9) == [play(b"\x03" * 160)]


def test_the_mark_behind_a_clear_tells_once_when_it_was_silent() -> None:
    agent_audio = begun()
    assert agent_audio.cut(0.0) == (0, [twilio.Clear(STREAM_SID)])
    agent_audio.next_turn()
    agent_audio.say(b"\x01" * 160, 1.0)
    agent_audio.cut(1.0)
    assert agent_audio.silent_after("e0-1", 1.25) is None
    assert agent_audio.silent_after("e1-1", 1.25) is None
    assert agent_audio.silent_after("e2-1", 1.25) == 0.25
    assert agent_audio.silent_after("e2-1", 1.5) is None


def test_our_own_audio_amid_an_utterance_is_no_end_of_it() -> None:
    agent_audio = begun()
    agent_audio.say(b"\x01" * 200, 0.0)
    assert agent_audio.insert(b"\x07" * 160, 0.0) == [play(b"\x07" * 160), mark("e0-1")]
    assert agent_audio.say(b"\x01" * 120, 0.0) == [play(b"\x01" * 160)]
    agent_audio.playout.echo("e0-1")
    assert not agent_audio.is_heard


def test_our_own_audio_is_no_sign_that_a_cut_utterance_has_ended() -> None:
    agent_audio = begun()
    agent_audio.say(b"\x01" * 160, 0.0)
    agent_audio.cut(0.0)
    agent_audio.insert(b"\x07" * 160, 0.1)
    assert agent_audio.say(b"\x01" * 160, 0.2) == []


def test_nothing_inserted_is_nothing_played() -> None:
    assert begun().insert(b"", 0.0) == []


@pytest.mark.parametrize("is_whole", [False, True])
def test_what_is_played_on_is_amid_the_agents_speech_unless_all_of_it_was_said(
    is_whole: bool,
) -> None:
    agent_audio = AgentAudio(keeps_rest=True)
    agent_audio.stream_sid = STREAM_SID
    agent_audio.say(b"\x01" * 1600, 0.0)
    if is_whole:
        agent_audio.finish(0.0)
    agent_audio.cut(0.1)
    assert not agent_audio.is_amid_utterance
    agent_audio.resume(0.5)
    assert agent_audio.is_amid_utterance is not is_whole

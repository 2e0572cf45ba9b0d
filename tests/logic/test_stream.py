"""Twilio's stream alone: every state with every message."""

from math import inf

import pytest

from sts_trio.errors import Cause
from sts_trio.logic.dialogue import any_call, no_call
from sts_trio.logic.states import STREAM_LIMITS, StreamState, Violation
from sts_trio.logic.stream import (
    Back,
    Cut,
    KeyPressed,
    MarkEchoed,
    Speech,
    Started,
    Stream,
    StreamEnded,
    StreamNews,
)
from sts_trio.wire import twilio

SID, OTHER = "MZ1", "MZ2"
START = twilio.Start(twilio.StreamStart(SID, "CA1"))
WIDEBAND = twilio.Start(
    twilio.StreamStart(SID, "CA1", media_format=twilio.MediaFormat(sample_rate=16000))
)
REFUSED = StreamEnded(Cause.CALLER_REFUSED, "audio format audio/x-mulaw 16000 Hz x 1")


def media(sid: str = SID, track: str = "inbound") -> twilio.Media:
    return twilio.Media(twilio.Inbound(b"\x01" * 160, track=track), stream_sid=sid)


MARK = twilio.Mark(twilio.MarkName("e0-1"), stream_sid=SID)
DTMF = twilio.Dtmf(twilio.Digit("5"), stream_sid=SID)
STOP = twilio.Stop(stream_sid=SID)


def reach(state: StreamState) -> Stream:
    stream = Stream(100.0, any_call, may_come_back=lambda start: True)
    if state is not StreamState.AWAITING_START:
        assert stream.hear(START, 100.0) == Started()
    if state is StreamState.FLOWING:
        stream.hear(media(), 100.0)
    if state is StreamState.AWAY:
        assert stream.cut(Cause.CALLER_LOST, "why", 100.0) == Cut()
    if state is StreamState.ENDED:
        stream.hear(STOP, 100.0)
    assert stream.state is state
    return stream


A, S, F, W, E = StreamState


@pytest.mark.parametrize(
    ("state", "message", "news", "next_state"),
    [
        (A, twilio.Connected(), None, A),
        (A, START, Started(), S),
        (
            A,
            WIDEBAND,
            StreamEnded(Cause.CALLER_REFUSED, "audio format audio/x-mulaw 16000 Hz x 1"),
            E,
        ),
        (A, media(), Violation("media before start"), A),
        (A, MARK, Violation("mark before start"), A),
        (A, DTMF, Violation("dtmf before start"), A),
        (A, twilio.Stop(stream_sid=OTHER), StreamEnded(Cause.STOP), E),
        (S, twilio.Connected(), None, S),
        (S, START, Violation("a second start"), S),
        (S, media(), Speech(b"\x01" * 160), F),
        (S, media(""), Speech(b"\x01" * 160), F),
        (S, media(OTHER), Violation("media of another stream"), S),
        (S, media(track="outbound"), Violation("media of track 'outbound'"), F),
        (S, MARK, MarkEchoed("e0-1"), F),
        (S, DTMF, KeyPressed("5"), F),
        (S, STOP, StreamEnded(Cause.STOP), E),
        (F, WIDEBAND, Violation("a second start"), F),
        (F, media(), Speech(b"\x01" * 160), F),
        (F, MARK, MarkEchoed("e0-1"), F),
        (F, DTMF, KeyPressed("5"), F),
        (F, twilio.Stop(stream_sid=OTHER), Violation("stop of another stream"), F),
        (F, STOP, StreamEnded(Cause.STOP), E),
        (W, START, Back(0.0), S),
        (W, WIDEBAND, REFUSED, E),
        (W, media(), Violation("media after stop"), W),
        (W, STOP, StreamEnded(Cause.STOP), E),
    ],
)
def test_what_each_message_comes_to_in_each_state(
    state: StreamState, message: twilio.Message, news: StreamNews | None, next_state: StreamState
) -> None:
    stream = reach(state)
    assert stream.hear(message, 100.0) == news
    assert stream.state is next_state
    assert stream.is_flowing == (next_state is F)


def test_who_calls_is_known_from_the_start_on() -> None:
    stream = Stream(0.0, any_call, no_call)
    assert (stream.call_sid, stream.stream_sid, stream.start) == ("", "", None)
    stream.hear(START, 0.0)
    assert (stream.call_sid, stream.stream_sid, stream.start) == ("CA1", SID, START)


@pytest.mark.parametrize(
    ("state", "cause", "detail"),
    [(A, Cause.CALLER_NO_START, "after 10 s"), (S, Cause.CALLER_NO_MEDIA, "after 30 s")],
)
def test_what_does_not_come_in_time_ends_it(state: StreamState, cause: Cause, detail: str) -> None:
    stream = reach(state)
    assert stream.deadline == 100 + STREAM_LIMITS[state].seconds
    assert stream.tick(stream.deadline - 0.1) is None
    assert stream.tick(stream.deadline) == StreamEnded(cause, detail)
    assert (stream.state, stream.deadline) == (E, inf)


def test_a_stream_that_flows_may_fall_silent_for_ever() -> None:
    stream = reach(F)
    assert stream.deadline == inf
    assert stream.tick(1e9) is None


def test_what_is_away_too_long_has_ended_as_it_was_cut() -> None:
    stream = reach(W)
    assert stream.deadline == 100 + STREAM_LIMITS[W].seconds
    assert stream.tick(stream.deadline) == StreamEnded(Cause.CALLER_LOST, "why")
    assert stream.state is E


def test_a_stream_that_was_refused_cannot_be_away() -> None:
    stream = reach(W)
    stream.hear(WIDEBAND, 100.0)
    assert stream.cut(Cause.CALLER_LOST, "", 100.0) == StreamEnded(Cause.CALLER_LOST, "")


@pytest.mark.parametrize("state", [A, S, F])
def test_its_sockets_end_is_its_own(state: StreamState) -> None:
    stream = reach(state)
    news = stream.end(Cause.CALLER_LOST, "why", 100.0)
    assert news == StreamEnded(Cause.CALLER_LOST, "why")
    assert stream.state is E


def test_only_speech_of_this_stream_takes_the_short_way() -> None:
    stream = reach(F)
    speech = b"\x01" * 160
    assert stream.speech([media(), media()]) == [speech, speech]
    assert stream.speech([]) == []
    assert stream.speech([media(), MARK, media()]) == [speech]
    assert stream.speech([media(OTHER)]) == []
    assert stream.speech([media(), media(track="outbound")]) == [speech]


def test_whether_it_may_come_back_is_asked_once_when_it_starts() -> None:
    """A call that drains is looked at many times a second, and not in a hearing."""
    asked: list[str] = []

    def may_come_back(start: twilio.StreamStart) -> bool:
        asked.append(start.call_sid)
        return True

    stream = Stream(100.0, any_call, may_come_back)
    assert not stream.may_come_back
    stream.hear(START, 100.0)
    assert asked == [START.start.call_sid]
    assert stream.may_come_back
    assert stream.cut(Cause.CALLER_LOST, "why", 101.0) == Cut()
    stream.hear(START, 102.0)
    assert stream.may_come_back
    stream.hear_call_over()
    assert not stream.may_come_back
    assert asked == [START.start.call_sid]

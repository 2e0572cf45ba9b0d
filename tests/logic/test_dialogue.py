"""The call's state machine, act by act and to the second."""

import base64
import json
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import pytest
import rig_peers as fakes
from rig_dialogue import (
    CONNECTED,
    DIALLED,
    PHASES,
    STEPS,
    Bridge,
    echo,
    mark,
    play,
    played,
    reach,
    said_by_agent,
    say,
    violation,
)
from rig_peers import ACCOUNT_SID, CALL_SID, SETTINGS, START, STOP, STREAM_SID, media

from sts_trio.audio import wav
from sts_trio.errors import Cause, Ending, How, Leg, LegEnded
from sts_trio.logic.acts import (
    Act,
    AgentReached,
    CallFunctions,
    Collect,
    Collected,
    Dial,
    DialFailed,
    FlushCaller,
    FunctionDone,
    HangUp,
    Heard,
    OperatorHangsUp,
    OutboxFull,
    PlayTones,
    SendToAgent,
    SendToCaller,
    ShutDown,
    StreamBegan,
    Tick,
)
from sts_trio.logic.dialogue import Dialogue, SettingsWanted
from sts_trio.logic.output import MAX_REASONS
from sts_trio.logic.states import Phase
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio
from sts_trio.wire.anomalies import Malformed, TooBig, Unknown
from sts_trio.wire.deepgram import (
    AgentAudioDone,
    Audio,
    ConversationText,
    FunctionCallRequest,
    FunctionToCall,
    SettingsApplied,
    UserStartedSpeaking,
    Welcome,
)

OTHER = "MZ00000000000000000000000000000009"


def started_in(encoding: str, sample_rate: int, channels: int) -> twilio.Start:
    media_format = twilio.MediaFormat(encoding, sample_rate, channels)
    return twilio.Start(twilio.StreamStart(STREAM_SID, CALL_SID, media_format=media_format))


# --- phases -----------------------------------------------------------------------------------


def test_a_call_goes_through_its_phases_in_order() -> None:
    bridge = Bridge()
    welcomed = events.AgentWelcomed("r", "default")
    story: list[tuple[Heard, list[Act], Phase]] = [
        (twilio.Connected(), [], Phase.AWAITING_START),
        (START, [StreamBegan(), Dial()], Phase.DIALLING),
        (AgentReached(), [], Phase.AWAITING_WELCOME),
        (Welcome("r"), [welcomed, SendToAgent(SETTINGS)], Phase.AWAITING_APPLIED),
        (SettingsApplied(), [events.AgentReady()], Phase.TALKING),
        (STOP, [HangUp(Ending(Cause.STOP))], Phase.HUNG_UP),
    ]
    for heard, acts, phase in story:
        assert bridge.hear(heard) == acts
        assert bridge.dialogue.phase is phase


def test_settings_are_made_once_for_the_caller_who_started() -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(Welcome("again"), START)
    assert bridge.asked_for == [SettingsWanted(START, "default")]


def test_an_agent_that_was_dialled_ahead_has_had_its_settings() -> None:
    bridge = reach(Phase.DIALLING)
    bridge.hear(AgentReached("sales", is_prepared=True))
    welcomed = events.AgentWelcomed("r", "sales")
    assert bridge.hear(Welcome("r")) == [welcomed]
    assert bridge.hear(SettingsApplied()) == [events.AgentReady()]
    assert bridge.dialogue.agent == "sales"


def test_a_start_tells_the_sids() -> None:
    bridge = reach(Phase.DIALLING)
    assert (bridge.dialogue.stream_sid, bridge.dialogue.call_sid) == (STREAM_SID, CALL_SID)


def test_what_comes_in_one_batch_is_heard_in_order() -> None:
    bridge = Bridge()
    acts = bridge.hear(twilio.Connected(), START, media(), STOP, media())
    assert [type(act) for act in acts] == [StreamBegan, Dial, HangUp]


@pytest.mark.parametrize(
    ("encoding", "sample_rate", "channels"),
    [("audio/l16", 8000, 1), ("audio/x-mulaw", 16000, 1), ("audio/x-mulaw", 8000, 2)],
)
def test_a_caller_in_another_audio_format_is_refused(
    encoding: str, sample_rate: int, channels: int
) -> None:
    detail = f"audio format {encoding} {sample_rate} Hz x {channels}"
    assert Bridge().hear(started_in(encoding, sample_rate, channels)) == [
        HangUp(Ending(Cause.CALLER_REFUSED, detail))
    ]


def test_a_stream_of_another_call_than_is_expected_is_refused_and_does_not_get_its_name() -> None:
    asked: list[str] = []

    def is_expected(call_sid: str) -> bool:
        asked.append(call_sid)
        return False

    dialogue = Dialogue(lambda wanted: SETTINGS, is_expected=is_expected)
    detail = "its stream token was given to another call"
    assert dialogue.hear([twilio.Connected(), START, media()], 0.0) == [
        HangUp(Ending(Cause.CALLER_REFUSED, detail))
    ]
    assert asked == [CALL_SID]
    assert (dialogue.call_sid, dialogue.start) == ("", None)


def test_a_stream_of_the_call_that_is_expected_is_a_call_like_any_other() -> None:
    dialogue = Dialogue(lambda wanted: SETTINGS, is_expected=lambda sid: sid == CALL_SID)
    assert [type(act) for act in dialogue.hear([START], 0.0)] == [StreamBegan, Dial]


# --- endings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stream_sid", [STREAM_SID, ""])
@pytest.mark.parametrize("phase", PHASES)
def test_stop_ends_the_call_in_every_phase(phase: Phase, stream_sid: str) -> None:
    """Even before `start`: that one may have come, and been no message we can read."""
    stop = msgspec.structs.replace(STOP, stream_sid=stream_sid)
    assert reach(phase).hear(stop) == [HangUp(Ending(Cause.STOP))]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(
    ("heard", "ending"),
    [
        (LegEnded(Leg.CALLER, How.CLOSED), Ending(Cause.CALLER_CLOSED)),
        (LegEnded(Leg.CALLER, How.CLOSED, 1001, "bye"), Ending(Cause.CALLER_CLOSED, "1001 bye")),
        (LegEnded(Leg.CALLER, How.LOST), Ending(Cause.CALLER_LOST)),
        (LegEnded(Leg.CALLER, How.SILENT), Ending(Cause.CALLER_SILENT)),
        (LegEnded(Leg.CALLER, How.STALLED), Ending(Cause.CALLER_STALLED)),
        (TooBig(Leg.CALLER, 9), Ending(Cause.CALLER_TOO_BIG, "a message of 9 bytes")),
        (ShutDown(), Ending(Cause.SHUTDOWN)),
        (OperatorHangsUp(), Ending(Cause.OPERATOR_HUNG_UP)),
    ],
)
def test_the_caller_and_the_server_may_end_the_call_in_every_phase(
    phase: Phase, heard: Heard, ending: Ending
) -> None:
    assert reach(phase).hear(heard) == [HangUp(ending)]


@pytest.mark.parametrize("phase", CONNECTED)
@pytest.mark.parametrize(
    ("heard", "ending"),
    [
        (LegEnded(Leg.AGENT, How.CLOSED), Ending(Cause.AGENT_CLOSED)),
        (LegEnded(Leg.AGENT, How.CLOSED, 4000, "why"), Ending(Cause.AGENT_CLOSED, "4000 why")),
        (LegEnded(Leg.AGENT, How.CLOSED, 1005), Ending(Cause.AGENT_CLOSED, "1005")),
        (LegEnded(Leg.AGENT, How.LOST), Ending(Cause.AGENT_LOST)),
        (LegEnded(Leg.AGENT, How.LOST, 1000), Ending(Cause.AGENT_LOST, "1000")),
        (LegEnded(Leg.AGENT, How.SILENT), Ending(Cause.AGENT_SILENT)),
        (LegEnded(Leg.AGENT, How.STALLED), Ending(Cause.AGENT_SILENT)),
        (TooBig(Leg.AGENT, 9), Ending(Cause.AGENT_TOO_BIG, "a message of 9 bytes")),
        (deepgram.AgentError("CODE", "words"), Ending(Cause.AGENT_ERROR, "CODE: words")),
    ],
)
def test_the_agent_may_end_the_call_as_soon_as_it_is_reached(
    phase: Phase, heard: Heard, ending: Ending
) -> None:
    assert reach(phase).hear(heard) == [HangUp(ending)]


@pytest.mark.parametrize(
    ("phase", "cause"),
    [
        (Phase.AWAITING_WELCOME, Cause.AGENT_CLOSED),
        (Phase.AWAITING_APPLIED, Cause.AGENT_CLOSED),
        (Phase.TALKING, Cause.AGENT_FINISHED),
    ],
)
def test_an_agent_that_closes_normally_has_finished_if_it_ever_talked(
    phase: Phase, cause: Cause
) -> None:
    closed = LegEnded(Leg.AGENT, How.CLOSED, 1000)
    assert reach(phase).hear(closed) == [HangUp(Ending(cause, "1000"))]


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (None, Cause.AGENT_UNREACHABLE),
        (401, Cause.AGENT_DENIED),
        (402, Cause.AGENT_DENIED),
        (403, Cause.AGENT_DENIED),
        (404, Cause.AGENT_DENIED),
        (400, Cause.AGENT_REJECTED),
        (429, Cause.AGENT_REJECTED),
        (503, Cause.AGENT_REJECTED),
    ],
)
def test_who_is_to_blame_for_a_failed_dial_depends_on_the_status(
    status: int | None, cause: Cause
) -> None:
    failed = DialFailed("in its words", status)
    assert reach(Phase.DIALLING).hear(failed) == [HangUp(Ending(cause, "in its words"))]


@pytest.mark.parametrize("phase", PHASES)
def test_nothing_is_done_after_hanging_up(phase: Phase) -> None:
    bridge = reach(phase, forward=0.1)
    bridge.hear(media())
    acts = bridge.hear(ShutDown(), media(), Audio(bytes(800)), STOP)
    assert acts == [HangUp(Ending(Cause.SHUTDOWN))]
    assert bridge.dialogue.phase is Phase.HUNG_UP
    assert bridge.dialogue.deadline == inf
    numbers = bridge.dialogue.statistics()
    everything: list[Heard] = [
        START,
        STOP,
        media(bytes(100_000)),
        Audio(bytes(100_000)),
        UserStartedSpeaking(),
        AgentReached(),
        DialFailed("late"),
        Malformed(Leg.CALLER, "late"),
        LegEnded(Leg.CALLER, How.CLOSED),
        LegEnded(Leg.AGENT, How.CLOSED),
        OutboxFull(Leg.AGENT, 1),
        ShutDown(),
        OperatorHangsUp(),
        Tick(),
    ]
    assert bridge.hear(*everything) == []
    assert bridge.dialogue.deadline == inf
    assert bridge.dialogue.statistics() == numbers


# --- deadlines --------------------------------------------------------------------------------


def test_the_start_may_take_ten_seconds() -> None:
    bridge = Bridge(now=1000.0)
    bridge.hear(twilio.Connected())
    bridge.now = 1009.9
    assert bridge.hear(Tick(), media()) == [violation("caller: media before start")]
    assert bridge.dialogue.deadline == 1010
    assert bridge.wait_until(2000) == [(1010, HangUp(Ending(Cause.CALLER_NO_START, "after 10 s")))]


@pytest.mark.parametrize(
    ("phase", "cause"),
    [
        (Phase.DIALLING, Cause.AGENT_NO_HANDSHAKE),
        (Phase.AWAITING_WELCOME, Cause.AGENT_NO_WELCOME),
        (Phase.AWAITING_APPLIED, Cause.AGENT_NO_SETTINGS_APPLIED),
    ],
)
def test_each_step_of_the_agent_may_take_five_seconds_from_the_one_before(
    phase: Phase, cause: Cause
) -> None:
    bridge = Bridge()
    for step_phase, step in STEPS.items():
        bridge.now += 4.5
        bridge.hear(step, media())
        if step_phase is phase:
            break
    began = bridge.now
    bridge.now = began + 4.9
    assert bridge.hear(Tick(), media()) == []
    assert bridge.wait_until(60) == [(began + 5, HangUp(Ending(cause, "after 5 s")))]


def test_the_first_frame_may_take_thirty_seconds() -> None:
    bridge = reach(Phase.TALKING)
    bridge.wait_until(29.9)
    bridge.hear(Audio(bytes(800)), AgentAudioDone())
    assert bridge.wait_until(60)[-1] == (
        30,
        HangUp(Ending(Cause.CALLER_NO_MEDIA, "after 30 s")),
    )


@pytest.mark.parametrize(
    "sign",
    [
        media(),
        media(b""),
        twilio.Media(twilio.Inbound(b"\x55", track="outbound"), stream_sid=STREAM_SID),
        twilio.Dtmf(twilio.Digit("1"), stream_sid=STREAM_SID),
        echo("e0-1"),
    ],
)
@pytest.mark.parametrize("phase", DIALLED)
def test_any_sign_of_the_caller_will_do_for_the_first_frame(phase: Phase, sign: Heard) -> None:
    bridge = reach(phase)
    bridge.hear(sign)
    for step in list(STEPS.values())[DIALLED.index(phase) + 1 :]:
        bridge.hear(step)
    bridge.wait_until(100)
    assert bridge.dialogue.phase is Phase.TALKING


def test_a_message_of_another_stream_is_no_sign_of_the_caller() -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(
        twilio.Media(twilio.Inbound(b"\x55"), stream_sid=OTHER), echo("e0-1", stream_sid=OTHER)
    )
    assert bridge.wait_until(60)[-1][0] == 30


def test_an_early_tick_does_nothing() -> None:
    for phase in PHASES:
        bridge = reach(phase, forward=0.1)
        bridge.hear(media())
        deadline = bridge.dialogue.deadline
        bridge.now = deadline - 0.001
        assert bridge.hear(Tick()) == []
        assert bridge.dialogue.deadline == deadline


# --- silence in the caller's gaps ---------------------------------------------------------------


def silence(*times: float) -> list[tuple[float, Act]]:
    return [(time, say(b"\xff" * 1600)) for time in times]


def test_the_agent_hears_silence_from_a_second_into_a_gap_until_media_returns() -> None:
    bridge = reach(Phase.TALKING)
    bridge.wait_until(0.5)
    bridge.hear(media())
    assert bridge.wait_until(2.2) == silence(1.5, 1.7, 1.9, 2.1)
    assert bridge.hear(media(b"\x01" * 160)) == [say(b"\x01" * 160)]
    assert bridge.wait_until(3.3) == silence(3.2)
    # The filler is paced as speech would be: no more of it than time that passes.
    assert len(bridge.wait_until(13.3)) == 50
    assert bridge.dialogue.statistics().caller_audio == 0.04


def test_a_caller_who_sends_nothing_at_first_is_silent_from_a_second_on() -> None:
    bridge = reach(Phase.TALKING)
    assert bridge.wait_until(1.5) == silence(1.0, 1.2, 1.4)


def test_frames_without_audio_are_no_gap() -> None:
    bridge = reach(Phase.TALKING)
    for tenth in range(1, 51):
        assert bridge.wait_until(tenth / 10) == []
        assert bridge.hear(media(b"")) == []


@pytest.mark.parametrize("phase", PHASES[:-1])
def test_no_silence_is_sent_before_the_agent_listens(phase: Phase) -> None:
    bridge = reach(phase)
    bridge.hear(media())
    assert all(isinstance(act, HangUp) for _, act in bridge.wait_until(60))


def test_what_is_left_of_a_batch_goes_before_the_silence_even_if_the_tick_is_late() -> None:
    bridge = reach(Phase.TALKING, forward=0.4)
    bridge.hear(media(b"\x01" * 160))
    bridge.now = 7.0
    assert bridge.hear(Tick()) == [say(b"\x01" * 160), say(b"\xff" * 8000)]
    assert bridge.dialogue.deadline == pytest.approx(7.2)


@pytest.mark.parametrize(
    ("late", "steps", "due_in"), [(0.0, 1, 0.2), (0.1, 1, 0.1), (0.3, 2, 0.1), (60.0, 5, 0.2)]
)
def test_a_late_tick_makes_up_for_the_silence_it_owes(
    late: float, steps: int, due_in: float
) -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(media())
    bridge.now = bridge.dialogue.deadline + late
    assert bridge.hear(Tick()) == [say(b"\xff" * 1600 * steps)]
    assert bridge.dialogue.deadline - bridge.now == pytest.approx(due_in)


# --- forwarding -------------------------------------------------------------------------------


def test_at_20_milliseconds_each_frame_is_forwarded_at_once() -> None:
    bridge = reach(Phase.TALKING)
    for value in range(5):
        frame = bytes([value]) * 160
        assert bridge.hear(media(frame)) == [say(frame)]
        assert bridge.wait_until(bridge.now + 0.02) == []


def test_what_is_heard_at_once_is_forwarded_at_once() -> None:
    bridge = reach(Phase.TALKING)
    frames = [bytes([value]) * 160 for value in range(3)]
    assert bridge.hear(*map(media, frames)) == [say(b"".join(frames))]


def test_at_100_milliseconds_five_frames_are_forwarded_together() -> None:
    bridge = reach(Phase.TALKING, forward=0.1)
    for frames in ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9]):
        acts: list[Act] = []
        for value in frames:
            assert acts == []
            acts = bridge.hear(media(bytes([value]) * 160))
            bridge.wait_until(bridge.now + 0.02)
        assert acts == [say(b"".join(bytes([value]) * 160 for value in frames))]


def test_a_batch_that_is_never_full_goes_after_twice_its_time() -> None:
    bridge = reach(Phase.TALKING, forward=0.1)
    bridge.wait_until(0.5)
    assert bridge.hear(media(b"\x01" * 160)) == []
    assert bridge.wait_until(0.65) == []
    assert bridge.hear(media(b"\x02" * 160)) == []
    assert bridge.wait_until(1) == [(0.7, say(b"\x01" * 160 + b"\x02" * 160))]
    assert bridge.hear(media(b"\x03" * 160)) == []
    assert bridge.wait_until(1.5) == [(1.2, say(b"\x03" * 160))]


def test_a_batch_that_was_forwarded_leaves_no_deadline_behind() -> None:
    bridge = reach(Phase.TALKING, forward=0.1)
    bridge.hear(media(bytes(160)))
    assert bridge.dialogue.deadline == 0.2
    bridge.hear(media(bytes(800)))
    assert bridge.dialogue.deadline == 1


def test_the_last_of_the_callers_audio_is_forwarded_at_stop() -> None:
    bridge = reach(Phase.TALKING, forward=0.1)
    bridge.hear(media(b"\x01" * 160))
    assert bridge.hear(media(b"\x02" * 160), STOP, media()) == [
        say(b"\x01" * 160 + b"\x02" * 160),
        HangUp(Ending(Cause.STOP)),
    ]


def test_stop_before_the_agent_listens_forwards_nothing() -> None:
    bridge = reach(Phase.AWAITING_APPLIED)
    assert bridge.hear(media(), STOP) == [HangUp(Ending(Cause.STOP))]


# --- the waiting room ---------------------------------------------------------------------------


def test_audio_that_comes_before_the_agent_listens_waits_and_goes_at_once() -> None:
    bridge = Bridge()
    waiting = b""
    for value, step in enumerate(STEPS.values()):
        acts = bridge.hear(step)
        frame = bytes([value]) * 160
        if step == SettingsApplied():
            assert acts == [events.AgentReady(), say(waiting)]
            assert bridge.hear(media(frame)) == [say(frame)]
        else:
            assert bridge.hear(media(frame), media(frame)) == []
            waiting += 2 * frame
    assert len(waiting) == 6 * 160
    assert bridge.violations == {}


def test_what_waits_goes_at_once_even_if_it_is_less_than_a_batch() -> None:
    bridge = reach(Phase.AWAITING_APPLIED, forward=0.4)
    bridge.hear(media(b"\x01" * 160))
    assert bridge.hear(SettingsApplied()) == [
        events.AgentReady(),
        say(b"\x01" * 160),
    ]


def test_of_what_waits_the_newest_thirty_seconds_are_kept() -> None:
    bridge = reach(Phase.DIALLING)
    seconds = [bytes([value]) * 8000 for value in range(33)]
    logged = [act for second in seconds for act in bridge.hear(media(second))]
    reason = "caller: audio dropped: the agent is not ready"
    assert logged == [violation(reason)]
    assert bridge.violations == {reason: 3}
    numbers = bridge.dialogue.statistics()
    assert (numbers.caller_audio, numbers.caller_audio_dropped) == (33.0, 3.0)
    bridge.hear(AgentReached(), Welcome())
    assert bridge.hear(SettingsApplied())[1:] == [say(b"".join(seconds[3:]))]


def test_a_long_message_waits_as_its_last_thirty_seconds() -> None:
    bridge = reach(Phase.DIALLING)
    bridge.hear(media(b"\x01" * 16000), media(b"\x02" * 240_001), AgentReached(), Welcome())
    assert bridge.hear(SettingsApplied())[1:] == [say(b"\x02" * 240_000)]
    assert bridge.dialogue.statistics().caller_audio_dropped == 2.0


# --- the agent's audio --------------------------------------------------------------------------


def test_agent_audio_is_played_in_whole_frames_and_padded_when_it_is_done() -> None:
    bridge = reach(Phase.TALKING)
    assert bridge.hear(Audio(b"\x01" * 100)) == []
    assert bridge.hear(Audio(b"\x02" * 300)) == [play(b"\x01" * 100 + b"\x02" * 220)]
    assert bridge.hear(AgentAudioDone()) == [
        play(b"\x02" * 80 + b"\xff" * 80),
        mark("e0-1"),
    ]
    assert bridge.hear(Audio(b"\x03" * 160)) == [play(b"\x03" * 160)]


@pytest.mark.parametrize("cut", [None, 4, 10, 30, 57, 58, 59, 100])
def test_the_header_of_a_wav_file_is_not_played(cut: int | None) -> None:
    bridge = reach(Phase.TALKING)
    audio = bytes(range(1, 161)) * 3
    for _ in range(2):  # each utterance may have one
        file = wav.ulaw_file(audio)
        pieces = [file] if cut is None else [file[:cut], file[cut:]]
        acts = [act for piece in pieces for act in bridge.hear(Audio(piece))]
        acts += bridge.hear(AgentAudioDone())
        assert played(acts) == audio
    assert bridge.dialogue.statistics().agent_audio == 0.12


def test_a_header_that_never_ends_costs_no_more_than_its_utterance() -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(Audio(b"RIFFxxxxWAVE"), AgentAudioDone())
    assert bridge.hear(Audio(b"\x03" * 160)) == [play(b"\x03" * 160)]


def test_long_agent_audio_is_played_in_pieces_of_a_second_each_with_a_mark() -> None:
    bridge = reach(Phase.TALKING)
    audio = bytes(position % 251 for position in range(3 * 8000 + 320 + 7))
    assert bridge.hear(Audio(audio)) == [
        play(audio[:8000]),
        mark("e0-1"),
        play(audio[8000:16000]),
        mark("e0-2"),
        play(audio[16000:24000]),
        mark("e0-3"),
        play(audio[24000:24320]),
    ]


def test_a_mark_is_sent_each_half_second_and_at_the_end() -> None:
    bridge = reach(Phase.TALKING)
    tenth = Audio(b"\x01" * 800)
    marks = [
        (number, act)
        for number in range(1, 13)
        for act in bridge.hear(tenth)
        if act != play(tenth.data)
    ]
    assert marks == [(5, mark("e0-1")), (10, mark("e0-2"))]
    assert bridge.hear(AgentAudioDone()) == [mark("e0-3")]


def test_nothing_is_marked_twice() -> None:
    bridge = reach(Phase.TALKING)
    assert bridge.hear(AgentAudioDone()) == []
    assert bridge.hear(Audio(bytes(4000)))[-1] == mark("e0-1")
    assert bridge.hear(AgentAudioDone()) == []
    assert bridge.hear(AgentAudioDone()) == []


def test_echoed_marks_tell_what_was_heard() -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(Audio(bytes(4000)), Audio(bytes(800)), AgentAudioDone())
    assert bridge.hear(echo("e0-1")) == []
    assert bridge.dialogue.statistics().heard == 0.5
    assert bridge.hear(echo("e0-2"), echo("e0-2")) == []
    assert bridge.dialogue.statistics().heard == 0.6


def test_the_agents_words_are_reported_and_no_sign_that_it_is_done() -> None:
    bridge = reach(Phase.TALKING)
    assert bridge.hear(
        ConversationText("assistant", "Hello."), ConversationText("user", "Hi.")
    ) == [said_by_agent("Hello."), events.CallTranscript("user", "Hi.")]


# --- barge-in -----------------------------------------------------------------------------------


def cut(seconds: float) -> events.CallBargeIn:
    return events.CallBargeIn(seconds)


CLEAR = SendToCaller(twilio.Clear(STREAM_SID))


def test_a_barge_in_flushes_then_clears() -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(Audio(bytes(8000)), Audio(bytes(400)), echo("e0-1"))
    assert bridge.hear(UserStartedSpeaking()) == [FlushCaller(), CLEAR, mark("e1-2"), cut(0.04)]
    bridge.wait_until(0.15)
    assert bridge.hear(echo("e1-2")) == [events.CallSilenced(0.15)]
    numbers = bridge.dialogue.statistics()
    assert (numbers.heard, numbers.cut, numbers.barge_ins) == (1.0, 0.04, 1)


def test_marks_that_a_clear_sends_back_were_not_heard() -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(Audio(bytes(8000)), AgentAudioDone(), UserStartedSpeaking())
    assert bridge.hear(echo("e0-1")) == []
    bridge.hear(AgentAudioDone(), Audio(bytes(160)), AgentAudioDone(), echo("e1-3"))
    numbers = bridge.dialogue.statistics()
    assert (numbers.heard, numbers.cut, numbers.violations) == (0.02, 1.0, {})


def test_speaking_over_nothing_is_cleared_all_the_same_but_is_no_barge_in() -> None:
    bridge = reach(Phase.TALKING)
    spoke = events.CallerStartedSpeaking()
    assert bridge.hear(UserStartedSpeaking()) == [FlushCaller(), CLEAR, spoke]
    assert bridge.dialogue.statistics().barge_ins == 0


def test_what_is_left_of_a_cut_utterance_is_not_in_the_next() -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(Audio(b"\x01" * 239), UserStartedSpeaking(), ConversationText("user", "Wait."))
    assert bridge.hear(Audio(b"\x02" * 160)) == [play(b"\x02" * 160)]


def test_the_caller_is_forwarded_during_a_barge_in() -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(Audio(bytes(8000)), UserStartedSpeaking())
    assert bridge.hear(media(b"\x01" * 160)) == [say(b"\x01" * 160)]


FUNCTION = FunctionToCall("fc_1", "get_order", "{}")


@pytest.mark.parametrize(
    "sign",
    [
        ConversationText("user", "Where is my order?"),
        deepgram.EndOfTurn("manual"),
        deepgram.AgentThinking("The caller asks."),
        deepgram.AgentStartedSpeaking(1.2, 0.3, 0.8),
        FunctionCallRequest((FUNCTION,)),
        AgentAudioDone(),
    ],
)
def test_stale_audio_is_dropped_until_a_sign_of_the_next_turn(sign: Heard) -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(Audio(b"\x01" * 8000), UserStartedSpeaking())
    assert bridge.hear(Audio(b"\x02" * 330), Audio(b"\x02" * 330)) == []
    assert played(bridge.hear(sign)) == b""
    assert bridge.hear(Audio(b"\x03" * 160)) == [play(b"\x03" * 160)]
    numbers = bridge.dialogue.statistics()
    assert (numbers.agent_audio, numbers.cut) == (1.103, 1.0)


@pytest.mark.parametrize(
    "no_sign",
    [
        ConversationText("assistant", "As I said."),
        deepgram.History("assistant", "As I said."),
        deepgram.LatencyReport(tts_latency=0.1),
        deepgram.AgentWarning("SLOW_THINK_REQUEST", "five seconds"),
        deepgram.FunctionCallCancelled(()),
        deepgram.PromptUpdated(),
        Unknown(Leg.AGENT, "SomethingNew"),
        media(),
    ],
)
def test_nothing_else_is_a_sign_of_the_next_turn(no_sign: Heard) -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(Audio(bytes(800)), UserStartedSpeaking(), no_sign)
    assert bridge.hear(Audio(bytes(800))) == []


def test_a_sentence_of_the_turn_that_was_cut_was_not_heard() -> None:
    """It was on its way, and its audio is dropped; whoever follows the words is to know."""
    bridge = reach(Phase.TALKING)
    bridge.hear(Audio(bytes(800)), UserStartedSpeaking())
    assert bridge.hear(ConversationText("assistant", "And then")) == [
        said_by_agent("And then", None),
        events.CallHeard("And then", "", 0.0, 0.0),
    ]


def test_stale_audio_is_dropped_for_two_seconds_at_most() -> None:
    bridge = reach(Phase.TALKING)
    bridge.wait_until(5)
    bridge.hear(Audio(bytes(800)), UserStartedSpeaking())
    bridge.wait_until(6.99)
    assert bridge.hear(Audio(bytes(800))) == []
    bridge.wait_until(7)
    assert bridge.hear(Audio(bytes(800))) == [play(bytes(800))]


def test_a_second_barge_in_drops_stale_audio_anew() -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(Audio(bytes(800)), UserStartedSpeaking())
    bridge.wait_until(1.5)
    bridge.hear(UserStartedSpeaking())
    bridge.wait_until(3.4)
    assert bridge.hear(Audio(bytes(800))) == []
    bridge.wait_until(3.5)
    assert bridge.hear(Audio(bytes(800))) == [play(bytes(800))]


def test_a_sentence_says_where_it_is_in_the_call() -> None:
    bridge = Bridge(now=100.0)
    bridge.hear(*STEPS.values())
    bridge.hear(Audio(b"\x11" * 4000))
    said = ConversationText(said_by_agent("Hello.").role, "Hello.")
    assert bridge.hear(said) == [said_by_agent("Hello.", 0.5)]
    bridge.now = 103.0
    bridge.hear(media(b"\x00\x80" * 80))
    bridge.now = 103.5
    bridge.hear(media(b"\xff" * 160))
    assert bridge.hear(ConversationText("user", "Hi.")) == [
        events.CallTranscript("user", "Hi.", until=3.48)
    ]


def test_where_nothing_was_cut_nothing_is_late() -> None:
    """A cough before the greeting, say."""
    bridge = reach(Phase.TALKING)
    bridge.hear(UserStartedSpeaking())
    assert bridge.hear(ConversationText("assistant", "Hello.")) == [
        said_by_agent("Hello."),
    ]
    assert bridge.hear(Audio(bytes(800))) == [play(bytes(800))]


def test_after_an_utterance_that_was_heard_to_its_end_nothing_is_late() -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(Audio(bytes(800)), AgentAudioDone(), echo("e0-1"), UserStartedSpeaking())
    assert bridge.hear(Audio(bytes(800))) == [play(bytes(800))]


def test_that_words_of_ours_were_cut_makes_none_of_the_agents_late() -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(PlayTones(bytes(1600)), UserStartedSpeaking())
    assert bridge.hear(Audio(bytes(800))) == [play(bytes(800))]


def test_what_is_said_after_a_functions_answer_is_not_late() -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(FunctionCallRequest((FUNCTION,)), Audio(bytes(800)), UserStartedSpeaking())
    assert bridge.hear(Audio(bytes(800))) == []
    bridge.hear(FunctionDone(FUNCTION, "{}"))
    assert bridge.hear(Audio(bytes(800))) == [play(bytes(800))]


# --- functions ----------------------------------------------------------------------------------


def test_functions_meant_for_us_are_run_and_each_answered() -> None:
    bridge = reach(Phase.TALKING)
    theirs = FunctionToCall("fc_2", "lookup", "{}", client_side=False)
    again = FunctionToCall("fc_3", "get_order", "not JSON")
    assert bridge.hear(FunctionCallRequest((FUNCTION, theirs, again))) == [
        CallFunctions((FUNCTION, again))
    ]
    answer = '{"error": "no JSON"}'
    assert bridge.hear(FunctionDone(again, answer)) == [
        SendToAgent(deepgram.FunctionResult("fc_3", "get_order", answer))
    ]
    assert bridge.hear(FunctionDone(FUNCTION, "{}")) == [
        SendToAgent(deepgram.FunctionResult("fc_1", "get_order", "{}"))
    ]
    assert bridge.dialogue.statistics().functions == 3


# --- every message of the agent -----------------------------------------------------------------

FROM_AGENT: list[deepgram.TextFromAgent] = [
    Welcome("request"),
    SettingsApplied(),
    ConversationText("user", "Hello."),
    UserStartedSpeaking(),
    deepgram.EndOfTurn("manual"),
    deepgram.AgentThinking("..."),
    deepgram.History("user", "Hello."),
    deepgram.LatencyReport(tts_latency=0.1),
    FunctionCallRequest((FUNCTION,)),
    deepgram.FunctionCallResponse("lookup", "{}", "fc_2"),
    deepgram.FunctionCallCancelled((deepgram.CancelledFunction("fc_1"),)),
    deepgram.AgentStartedSpeaking(1.2, 0.3, 0.8),
    AgentAudioDone(),
    deepgram.PromptUpdated(),
    deepgram.SpeakUpdated(),
    deepgram.ThinkUpdated(),
    deepgram.ThinkLiveUpdated(),
    deepgram.ListenUpdated(),
    deepgram.InjectionRefused("A turn is in progress."),
    deepgram.FrustrationDetected(1, True),
    deepgram.AgentWarning("SLOW_THINK_REQUEST", "five seconds"),
    deepgram.AgentError("FAILED_TO_THINK", "no provider left"),
    deepgram.CustomFromThinkProvider({"any": "thing"}),
]


def test_no_kind_of_message_is_forgotten_here() -> None:
    assert [type(message) for message in FROM_AGENT] == list(deepgram.TextFromAgent.__args__)


@pytest.mark.parametrize("phase", CONNECTED)
@pytest.mark.parametrize("message", FROM_AGENT, ids=lambda message: type(message).__name__)
def test_the_agent_may_say_anything_at_any_time(
    phase: Phase, message: deepgram.TextFromAgent
) -> None:
    bridge = reach(phase)
    acts = bridge.hear(message)
    if isinstance(message, deepgram.AgentError):
        assert acts == [HangUp(Ending(Cause.AGENT_ERROR, "FAILED_TO_THINK: no provider left"))]
        return
    assert not any(isinstance(act, HangUp) for act in acts)
    assert DIALLED.index(bridge.dialogue.phase) in (
        DIALLED.index(phase),
        DIALLED.index(phase) + (message == STEPS.get(bridge.dialogue.phase)),
    )


@pytest.mark.parametrize(
    "message",
    [
        deepgram.History("user", "Hello."),
        deepgram.FunctionCallResponse("lookup", "{}", "fc_2"),
        deepgram.FunctionCallCancelled(()),
        deepgram.PromptUpdated(),
        deepgram.SpeakUpdated(),
        deepgram.ThinkUpdated(),
        deepgram.ThinkLiveUpdated(),
        deepgram.ListenUpdated(),
        deepgram.InjectionRefused("A turn is in progress."),
        deepgram.FrustrationDetected(1, True),
        deepgram.CustomFromThinkProvider("{}"),
    ],
)
def test_what_needs_no_answer_is_logged_by_its_kind_alone(message: Heard) -> None:
    assert reach(Phase.TALKING).hear(message) == [events.AgentMessage(type(message).__name__)]


def test_what_the_agent_tells_of_its_latency_is_told() -> None:
    report = deepgram.LatencyReport(stt_latency=0.2, tts_latency=0.1)
    assert reach(Phase.TALKING).hear(report) == [events.AgentLatency(stt=0.2, tts=0.1)]


def test_a_warning_of_the_agent_is_logged_and_the_call_goes_on() -> None:
    bridge = reach(Phase.TALKING)
    assert bridge.hear(deepgram.AgentWarning("CODE", "words")) == [
        events.AgentWarned("CODE: words")
    ]
    assert bridge.hear(deepgram.AgentWarning("CODE", "words")) == []
    assert bridge.violations == {"agent: CODE: words": 2}


def test_a_key_press_is_told_of() -> None:
    digit = twilio.Dtmf(twilio.Digit("7"), stream_sid=STREAM_SID)
    assert reach(Phase.TALKING).hear(digit) == [events.CallerDtmf()]


def test_of_keys_that_a_function_collects_nobody_else_is_told_which_they_are() -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(Collect(1, most=2, finish="#", within=20.0, between=5.0))
    for key, collected in [("4", []), ("2", [Collected(1, "42")])]:
        acts = bridge.hear(twilio.Dtmf(twilio.Digit(key), stream_sid=STREAM_SID))
        assert acts == [events.CallerDtmf(collected=True), *collected]
    assert bridge.hear(twilio.Dtmf(twilio.Digit("1"), stream_sid=STREAM_SID)) == [
        events.CallerDtmf()
    ]


def test_a_function_that_the_agent_ran_itself_is_told_with_its_result() -> None:
    bridge = reach(Phase.TALKING)
    theirs = FunctionToCall("fc_2", "lookup", '{"x":1}', client_side=False)
    bridge.hear(FunctionCallRequest((theirs,)))
    assert bridge.hear(deepgram.FunctionCallResponse("lookup", "{}", "fc_2")) == [
        events.FunctionRunByAgent("fc_2", "lookup", '{"x":1}', "{}")
    ]


# --- what is odd --------------------------------------------------------------------------------

ODD: list[tuple[Heard, str]] = [
    (START, "caller: a second start"),
    (started_in("audio/l16", 16000, 2), "caller: a second start"),
    (
        twilio.Media(twilio.Inbound(b"\x01" * 160), stream_sid=OTHER),
        "caller: media of another stream",
    ),
    (
        twilio.Media(twilio.Inbound(b"\x01" * 160, track="outbound"), stream_sid=STREAM_SID),
        "caller: media of track 'outbound'",
    ),
    (twilio.Dtmf(twilio.Digit("1"), stream_sid=OTHER), "caller: dtmf of another stream"),
    (echo("e0-1", stream_sid=OTHER), "caller: mark of another stream"),
    (
        twilio.Stop(twilio.StreamStop(CALL_SID, ACCOUNT_SID), stream_sid=OTHER),
        "caller: stop of another stream",
    ),
    (echo("e0-1"), "caller: a mark we never sent"),
    (Unknown(Leg.CALLER, "something-new"), "caller: unknown message 'something-new'"),
    (Malformed(Leg.CALLER, "not JSON"), "caller: not JSON"),
    (Malformed(Leg.CALLER, "binary frame"), "caller: binary frame"),
    (OutboxFull(Leg.CALLER, 160), "caller: outbox full: audio dropped"),
    (Unknown(Leg.AGENT, "SomethingNew"), "agent: unknown message 'SomethingNew'"),
    (Malformed(Leg.AGENT, "no type"), "agent: no type"),
    (Audio(b""), "agent: empty audio"),
    (Welcome("r"), "agent: a second Welcome"),
    (SettingsApplied(), "agent: SettingsApplied out of turn"),
    (OutboxFull(Leg.AGENT, 160), "agent: outbox full: audio dropped"),
]


@pytest.mark.parametrize(("message", "reason"), ODD)
def test_what_is_odd_is_counted_and_logged_once_and_the_call_goes_on(
    message: Heard, reason: str
) -> None:
    bridge = reach(Phase.TALKING)
    assert bridge.hear(message) == [violation(reason)]
    assert bridge.hear(message, message) == []
    assert bridge.violations == {reason: 3}
    assert bridge.dialogue.phase is Phase.TALKING
    assert (bridge.dialogue.stream_sid, bridge.dialogue.call_sid) == (STREAM_SID, CALL_SID)
    assert bridge.hear(media(b"\x01" * 160)) == [say(b"\x01" * 160)]
    assert bridge.hear(Audio(b"\x02" * 160)) == [play(b"\x02" * 160)]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (media(), "caller: media before start"),
        (twilio.Dtmf(twilio.Digit("1"), stream_sid=STREAM_SID), "caller: dtmf before start"),
        (echo("e0-1"), "caller: mark before start"),
        (Malformed(Leg.CALLER, "not JSON"), "caller: not JSON"),
        (Unknown(Leg.CALLER, "something-new"), "caller: unknown message 'something-new'"),
    ],
)
def test_a_call_can_still_start_after_what_is_odd_before_it(message: Heard, reason: str) -> None:
    bridge = Bridge()
    assert bridge.hear(message, message) == [violation(reason)]
    assert bridge.violations == {reason: 2}
    assert bridge.hear(START)[-1] == Dial()
    assert bridge.dialogue.statistics().caller_audio == 0


@pytest.mark.parametrize("phase", CONNECTED[:-1])
def test_audio_before_settings_applied_is_odd_and_played_all_the_same(phase: Phase) -> None:
    bridge = reach(phase)
    reason = "agent: audio before SettingsApplied"
    assert bridge.hear(Audio(b"\x01" * 160)) == [violation(reason), play(b"\x01" * 160)]
    assert bridge.hear(Audio(b"\x01" * 160)) == [play(b"\x01" * 160)]
    assert bridge.violations == {reason: 2}


@pytest.mark.parametrize("phase", DIALLED[:2])
def test_settings_applied_before_there_were_settings_is_out_of_turn(phase: Phase) -> None:
    bridge = reach(phase)
    assert bridge.hear(SettingsApplied()) == [violation("agent: SettingsApplied out of turn")]
    assert bridge.dialogue.phase is phase


def test_messages_without_a_stream_are_taken_for_ours() -> None:
    """Clones leave it out; there is but one stream on a socket."""
    bridge = reach(Phase.TALKING)
    assert bridge.hear(twilio.Media(twilio.Inbound(b"\x01" * 160))) == [say(b"\x01" * 160)]
    assert bridge.hear(twilio.Dtmf(twilio.Digit("1"))) == [events.CallerDtmf()]
    assert bridge.hear(twilio.Stop()) == [HangUp(Ending(Cause.STOP))]


def test_at_most_fifty_reasons_are_told_apart() -> None:
    bridge = reach(Phase.TALKING)
    acts = bridge.hear(*(Unknown(Leg.AGENT, f"Kind{number}") for number in range(70)))
    assert [act for act in acts if isinstance(act, events.OfCall)] == [
        *(violation(f"agent: unknown message 'Kind{number}'") for number in range(MAX_REASONS)),
        violation("agent: (more)"),
    ]
    assert bridge.hear(Unknown(Leg.AGENT, "Kind0"), Malformed(Leg.CALLER, "not JSON")) == [
        violation("caller: (more)")
    ]
    assert len(bridge.violations) == MAX_REASONS + 2
    assert bridge.violations["agent: unknown message 'Kind0'"] == 2
    assert bridge.violations["agent: (more)"] == 20
    assert bridge.violations["caller: (more)"] == 1


def test_reasons_are_cut_to_a_readable_length() -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(Unknown(Leg.CALLER, "x" * 10_000), Unknown(Leg.CALLER, "x" * 10_001))
    assert [(len(reason), count) for reason, count in bridge.violations.items()] == [(208, 2)]


# --- numbers ------------------------------------------------------------------------------------


def test_audio_dropped_on_its_way_to_the_agent_is_counted_as_the_callers() -> None:
    bridge = reach(Phase.TALKING)
    bridge.hear(OutboxFull(Leg.AGENT, 1600), OutboxFull(Leg.CALLER, 8000))
    assert bridge.dialogue.statistics().caller_audio_dropped == 0.2


def test_a_call_nobody_spoke_in_is_all_zeros() -> None:
    numbers = msgspec.to_builtins(reach(Phase.TALKING).dialogue.statistics())
    assert not any(numbers.values())


# --- transcripts --------------------------------------------------------------------------------

TRANSCRIPTS = sorted((Path(fakes.__file__).parent / "transcripts").glob("*.jsonl"))


class Replay:
    """Feeds what a transcript's peers sent; `lines` is the transcript that comes of it."""

    def __init__(self) -> None:
        self.bridge = Bridge()
        self.lines: list[dict[str, Any]] = []

    def feed(self, line: dict[str, Any]) -> None:
        for time, act in self.bridge.wait_until(line["at"]):
            self._note(time, [act])
        self.lines.append(line)
        self._hear(_decoded(line))

    def numbers(self) -> None:
        numbers = msgspec.to_builtins(self.bridge.dialogue.statistics())
        self.lines.append({"at": self.bridge.now, "direction": "numbers", "message": numbers})

    def _hear(self, heard: Heard) -> None:
        acts = self.bridge.hear(heard)
        self._note(self.bridge.now, acts)
        if Dial() in acts:
            self._hear(AgentReached())

    def _note(self, time: float, acts: Sequence[Act]) -> None:
        for act in acts:
            match act:
                case SendToCaller(message):
                    said = {"direction": "to-twilio", "message": json.loads(twilio.encode(message))}
                case SendToAgent(Audio(data)):
                    said = {"direction": "to-agent", "audio": base64.b64encode(data).decode()}
                case SendToAgent(message):
                    encoded = json.loads(deepgram.encode(message))
                    said = {"direction": "to-agent", "message": encoded}
                case events.OfCall(level=events.Level.WARNING):
                    told = {"event": act.NAME} | act.fields()
                    said = {"direction": "log", "message": told}
                case HangUp(ending):
                    said = {"direction": "ending", "message": {"cause": ending.cause.label}}
                case _:
                    continue
            self.lines.append({"at": time} | said)


def _decoded(line: dict[str, Any]) -> Heard:
    if "audio" in line:
        return deepgram.decode(base64.b64decode(line["audio"]))
    text = line["text"] if "text" in line else json.dumps(line["message"])
    return twilio.decode(text) if line["direction"] == "from-twilio" else deepgram.decode(text)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_comes_out_as_it_was(path: Path) -> None:
    """Lines are what peers sent and the bridge answered: `at` in seconds, `direction`, and either
    a JSON `message`, a `text` that is none, or `audio` in base64."""
    expected = [json.loads(line) for line in path.read_text().splitlines()]
    replay = Replay()
    for line in expected:
        if line["direction"] in ("from-twilio", "from-agent"):
            replay.feed(line)
    replay.numbers()
    assert replay.lines == expected


def test_there_are_transcripts() -> None:
    assert [path.stem for path in TRANSCRIPTS] == ["barge_in", "violations"]

"""The caller's audio on its way to the agent: in order, counted, kept while there is no agent."""

from math import inf

import pytest
import strategies  # noqa: F401  its profile: no deadline for one example
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.logic.caller_audio import CallerAudio

SECOND = 8000
LOUD = b"\x00\x80" * 80  # 20 ms
QUIET = b"\xff" * 160


def test_audio_is_forwarded_once_there_is_enough() -> None:
    caller_audio = CallerAudio(0.1)
    assert caller_audio.open_session(0.0) == b""
    caller_audio.hear(b"\x01" * 480, 0.0)
    assert caller_audio.due(0.0) == b""
    assert caller_audio.batch_deadline == 0.2
    caller_audio.hear(b"\x02" * 480, 0.05)
    assert caller_audio.due(0.05) == b"\x01" * 480 + b"\x02" * 480
    assert caller_audio.batch_deadline == inf
    assert caller_audio.due(0.05) == b""
    assert caller_audio.heard == 960


def test_there_is_enough_from_its_length_on() -> None:
    caller_audio = CallerAudio(0.1)
    caller_audio.open_session(0.0)
    caller_audio.hear(bytes(799), 0.0)
    assert caller_audio.due(0.0) == b""
    caller_audio.hear(bytes(1), 0.0)
    assert caller_audio.due(0.0) == bytes(800)
    caller_audio.hear(bytes(1800), 0.0)
    assert caller_audio.due(0.0) == bytes(1800)
    assert caller_audio.due(0.0) == b""


def test_the_deadline_of_a_batch_is_that_of_its_first_frame() -> None:
    caller_audio = CallerAudio(0.1)
    caller_audio.open_session(0.0)
    for now in (0.0, 0.02):
        caller_audio.hear(b"\x01" * 160, now)
        caller_audio.due(now)
    assert caller_audio.batch_deadline == 0.2


def test_thirty_seconds_wait_for_an_agent() -> None:
    caller_audio = CallerAudio(0.02)
    caller_audio.hear(b"\x01" * SECOND, 0.0)
    assert caller_audio.keep() == 0
    caller_audio.hear(b"\x02" * 30 * SECOND, 0.0)
    assert caller_audio.due(0.0) == b""
    assert caller_audio.keep() == SECOND
    assert caller_audio.dropped == SECOND
    assert caller_audio.open_session(1.0) == b"\x02" * 30 * SECOND
    assert (caller_audio.waited, caller_audio.repeated) == (30 * SECOND, 0)


def test_the_next_agent_gets_again_what_the_last_one_may_have_missed() -> None:
    caller_audio = CallerAudio(0.02)
    caller_audio.open_session(0.0)
    caller_audio.hear(b"\x01" * 800, 0.0)
    caller_audio.due(0.0)
    caller_audio.close_session(0.0)
    caller_audio.hear(b"\x02" * 160, 0.1)
    assert caller_audio.open_session(0.2) == b"\x01" * 800 + b"\x02" * 160
    assert caller_audio.repeated == 800


def test_what_was_missed_twice_is_given_a_third_time() -> None:
    caller_audio = CallerAudio(0.02)
    caller_audio.open_session(0.0)
    caller_audio.hear(b"\x01" * 800, 0.0)
    caller_audio.due(0.0)
    for _ in range(2):
        caller_audio.close_session(0.0)
        assert caller_audio.open_session(0.2) == b"\x01" * 800
    assert caller_audio.repeated == 1600


def test_what_was_understood_is_not_given_again() -> None:
    caller_audio = CallerAudio(0.02)
    caller_audio.open_session(0.0)
    caller_audio.hear(b"\x01" * 800, 0.0)
    caller_audio.due(0.0)
    caller_audio.end_turn(0.0)
    caller_audio.close_session(0.0)
    assert caller_audio.open_session(0.2) == b""


def test_two_seconds_are_given_again_before_all_that_waited() -> None:
    caller_audio = CallerAudio(0.02)
    caller_audio.open_session(0.0)
    for number in range(1, 8):
        caller_audio.hear(bytes([number]) * SECOND, 0.0)
        caller_audio.due(0.0)
    caller_audio.close_session(0.0)
    caller_audio.hear(b"\x08" * 1600, 0.0)
    again = caller_audio.open_session(0.0)
    assert again == b"\x06" * SECOND + b"\x07" * SECOND + b"\x08" * 1600
    caller_audio.close_session(0.0)
    caller_audio.hear(b"\x09" * 29 * SECOND, 0.0)
    assert caller_audio.open_session(0.0) == (
        b"\x07" * 6400 + b"\x08" * 1600 + b"\x09" * 29 * SECOND
    )
    assert caller_audio.repeated == 24_000
    assert caller_audio.waited == 1600 + 29 * SECOND


def test_of_a_turn_ten_seconds_are_given_again_until_it_is_understood() -> None:
    caller_audio = CallerAudio(0.02)
    caller_audio.open_session(0.0)
    caller_audio.begin_turn()
    for number in range(1, 13):
        caller_audio.pass_on(bytes([number]) * SECOND, 0.0)
    caller_audio.close_session(0.0)
    assert caller_audio.open_session(0.0) == b"".join(
        bytes([number]) * SECOND for number in range(3, 13)
    )
    caller_audio.end_turn(0.0)
    for number in range(1, 13):
        caller_audio.pass_on(bytes([number]) * SECOND, 0.0)
    caller_audio.close_session(0.0)
    assert caller_audio.open_session(0.0) == b"\x0b" * SECOND + b"\x0c" * SECOND


def test_a_muted_caller_is_silence_to_the_agent_and_counted() -> None:
    caller_audio = CallerAudio(0.02)
    caller_audio.open_session(0.0)
    caller_audio.is_muted = True
    caller_audio.hear(b"\x01" * 160, 0.0)
    assert caller_audio.due(0.0) == b"\xff" * 160
    assert (caller_audio.heard, caller_audio.muted, caller_audio.dropped) == (160, 160, 0)


def test_nothing_is_due_and_no_time_set_while_there_is_no_agent() -> None:
    caller_audio = CallerAudio(0.1)
    caller_audio.open_session(0.0)
    caller_audio.hear(b"\x01" * 160, 0.0)
    caller_audio.due(0.0)
    caller_audio.close_session(0.0)
    assert (caller_audio.batch_deadline, caller_audio.gap_deadline) == (inf, inf)
    caller_audio.hear(b"\x01" * 1600, 0.1)
    assert caller_audio.due(0.1) == b""
    assert (caller_audio.batch_deadline, caller_audio.gap_deadline) == (inf, inf)


@pytest.mark.parametrize("late", [0.0, 0.2, 0.4, 0.6, 0.8, 3.0])
@pytest.mark.parametrize("begin", [0.0, 0.1, 100.0, 1e6 / 3])
def test_a_gap_is_filled_up_to_now_so_that_the_timer_can_rest(begin: float, late: float) -> None:
    caller_audio = CallerAudio(0.02)
    caller_audio.open_session(begin)
    now = caller_audio.gap_deadline + late
    silence = caller_audio.fill_gap(now)
    assert caller_audio.gap_deadline > now
    assert len(silence) == 1600 * (1 + round(min(late, 0.8) / 0.2))


@given(
    st.sampled_from([0.02, 0.1]),
    st.lists(
        st.sampled_from(["open", "close", "mute", "unmute", "end turn"])
        | st.integers(1, 2000).map(bytes),
        max_size=40,
    ),
)
def test_passing_on_is_hearing_and_asking_what_is_due(
    forward: float, steps: list[str | bytes]
) -> None:
    one, other = CallerAudio(forward), CallerAudio(forward)
    for number, step in enumerate(steps):
        now = number * 0.02
        match step:
            case "open":
                assert one.open_session(now) == other.open_session(now)
            case "close":
                one.close_session(0.0)
                other.close_session(0.0)
            case "mute" | "unmute":
                one.is_muted = other.is_muted = step == "mute"
            case "end turn":
                one.end_turn(now)
                other.end_turn(now)
            case bytes():
                passed_on = one.pass_on(step, now)
                other.hear(step, now)
                assert passed_on == other.due(now)
        for name in ("heard", "dropped", "muted", "repeated", "gap_deadline", "batch_deadline"):
            assert getattr(one, name) == getattr(other, name)


def test_a_tick_forwards_a_batch_that_has_waited_and_fills_a_gap() -> None:
    caller_audio = CallerAudio(0.1)
    caller_audio.open_session(0.0)
    caller_audio.hear(b"\x01" * 160, 0.0)
    assert caller_audio.due(0.0) == b""
    assert caller_audio.tick(0.1) == []
    assert caller_audio.tick(0.2) == [b"\x01" * 160]
    assert caller_audio.tick(1.0) == [b"\xff" * 1600]
    caller_audio.hear(b"\x02" * 160, 1.1)
    assert caller_audio.tick(2.1) == [b"\x02" * 160, b"\xff" * 1600]


# --- when the caller stopped speaking -------------------------------------------------------------


def heard(*frames: bytes) -> CallerAudio:
    """An agent is there, and the frames come in every 20 ms, the first at 0."""
    caller_audio = CallerAudio(0.02)
    caller_audio.open_session(0.0)
    for number, frame in enumerate(frames):
        caller_audio.pass_on(frame, number * 0.02)
    return caller_audio


def test_speech_ended_with_the_last_frame_that_can_be_heard() -> None:
    caller_audio = heard(*[LOUD] * 10, *[QUIET] * 40)  # the last at 0.98
    assert caller_audio.end_turn(1.0) == pytest.approx(0.18)
    assert caller_audio.end_turn(1.0) is None  # nothing was said since


def test_of_speech_that_is_longer_ago_than_what_is_kept_it_is_not_known() -> None:
    assert heard(LOUD, *[QUIET] * 150).end_turn(3.02) is None
    assert heard(*[QUIET] * 10).end_turn(0.2) is None
    assert CallerAudio(0.02).end_turn(0.0) is None


def test_in_a_gap_it_is_not_known_when_speech_ended() -> None:
    caller_audio = heard(LOUD)
    assert caller_audio.tick(1.0)
    assert caller_audio.end_turn(1.1) is None

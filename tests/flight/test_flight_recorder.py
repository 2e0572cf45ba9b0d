"""What is written down of a call, what of it is asked again, and where that ends."""

import gc
import weakref
from typing import Any

import msgspec
import pytest
from rig_dialogue import LOST, STEPS, said_by_agent
from rig_flight import Recorded
from rig_peers import SETTINGS, START, STREAM_SID, media

from sts_trio.audio.wav import behind_header
from sts_trio.errors import Cause, Ending, Leg
from sts_trio.flight import recorder as module
from sts_trio.flight.file import BadFlight, pack_lot, steps_of
from sts_trio.flight.replay import differences, replay
from sts_trio.logic.acts import (
    AgentReached,
    Ask,
    Close,
    Collect,
    OutboxFull,
    PlayTones,
    Recalled,
    Tick,
)
from sts_trio.logic.dialogue import Dialogue, SettingsWanted, any_call, no_call
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.requests import says_all
from sts_trio.observe import events
from sts_trio.wire import deepgram, deepgram_settings, twilio

AGENT = said_by_agent("It is the agent.").role
VOICE = b"\x10\x90" * 80


def talking(recorded: Recorded, **given: Any) -> Dialogue:
    dialogue = recorded(lambda wanted: SETTINGS, **given)
    for step in STEPS.values():
        dialogue.hear([step], 0.5)
    dialogue.hear([media(VOICE)], 0.5)
    return dialogue


def test_nothing_is_written_for_audio_that_is_just_passed_on() -> None:
    recorded = Recorded()
    dialogue = talking(recorded)
    for frame in range(100):
        dialogue.hear([media(VOICE)], 1.0 + frame / 50)
    dialogue.hear([deepgram.ConversationText("user", "Yes.")], 3.1)
    flight = recorded.flight
    assert len(flight.steps) == len(STEPS) + 2
    assert flight.steps[-1].passed == [16000, 1.0 + 99 / 50 + 1.0, 16160]
    assert differences(flight) == []


@pytest.mark.parametrize("forward", [0.02, 0.05, 0.1, 0.4])
def test_what_waits_to_be_forwarded_waits_in_the_replay(forward: float) -> None:
    recorded = Recorded()
    dialogue = talking(recorded, forward=forward, now=0.1)
    now = 0.6
    for count in range(1, 40):
        for _ in range(count % 7):
            now += 0.0213
            dialogue.hear([media(VOICE)], now)
        now += 0.003
        heard = Tick() if now >= dialogue.deadline else deepgram.Audio(b"\x10" * 800)
        dialogue.hear([heard], now)
        replayed = list(replay(recorded.flight))
        shown = {name: at + 0.1 for name, at in replayed[-1].deadlines.items()}
        expected = {name: at for name, at in dialogue.deadlines.items() if at < float("inf")}
        assert shown == pytest.approx(expected, abs=1e-9)
    assert differences(recorded.flight) == []


@pytest.mark.parametrize("pieces", [1, 2, 7])
@pytest.mark.parametrize("count", [110, 115, 240, 700])
def test_what_a_lost_agent_may_have_missed_is_as_long_in_the_replay(
    pieces: int, count: int
) -> None:
    recorded = Recorded()
    dialogue = talking(recorded, policy=CallPolicy(reconnects=True))
    for frame in range(count):
        dialogue.hear([media(VOICE)] * pieces, 1.0 + frame / 50)
    now = 1.0 + count / 50
    dialogue.hear([deepgram.UserStartedSpeaking()], now)
    for frame in range(60):
        dialogue.hear([media(VOICE)] * pieces, now + frame / 50)
    dialogue.hear([LOST], now + 2.0)
    for again in (AgentReached(), deepgram.Welcome(), deepgram.SettingsApplied()):
        dialogue.hear([again], now + 2.1)
    assert dialogue.statistics().caller_audio_repeated
    assert differences(recorded.flight) == []


def test_when_the_caller_was_last_heard_is_told_again_without_the_sound() -> None:
    recorded = Recorded()
    dialogue = talking(recorded)
    for frame in range(50):
        dialogue.hear([media(VOICE if frame < 30 else b"\xff" * 160)], 1.0 + frame / 50)
    acts = dialogue.hear([deepgram.ConversationText("user", "Yes.")], 2.0)
    assert any(getattr(act, "until", None) == pytest.approx(1.58) for act in acts)
    assert differences(recorded.flight) == []


def test_a_bug_is_raised_again() -> None:
    def broken(wanted: SettingsWanted) -> deepgram_settings.Settings:
        raise RuntimeError("a bug")

    recorded = Recorded()
    dialogue = recorded(broken)
    dialogue.hear([START], 0.0)
    dialogue.hear([AgentReached()], 0.1)
    with pytest.raises(RuntimeError):
        dialogue.hear([deepgram.Welcome()], 0.2)
    *_, last = replay(recorded.flight)
    assert last.acts is None
    assert last.was is None
    assert last.raised == "SettingsRaised: the settings could not be made"
    assert last.is_same


@pytest.mark.parametrize("pieces", [1, 3, 44, 1000])
def test_the_header_of_a_wav_file_is_kept_so_that_it_is_left_out_again(pieces: int) -> None:
    header = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + bytes(16) + b"data\xff\xff\xff\xff"
    assert behind_header(header + b"x") == b"x"
    audio = header + b"\x10" * 5000
    recorded = Recorded()
    dialogue = talking(recorded)
    first, rest = audio[:4], audio[4:]
    size = max(1, len(rest) // pieces)
    chunks = [first, *(rest[at : at + size] for at in range(0, len(rest), size))]
    for number, chunk in enumerate(chunks):
        dialogue.hear([deepgram.Audio(chunk)], 1.0 + number / 100)
    dialogue.hear([deepgram.AgentAudioDone()], 60.0)
    assert differences(recorded.flight) == []


def test_a_stream_that_only_begins_like_a_wav_file_is_not_kept_as_it_is() -> None:
    recorded = Recorded()
    dialogue = talking(recorded)
    dialogue.hear([deepgram.Audio(b"RIFF\0\0\0\0WAVE" + b"\x80" * 100_000)], 1.0)
    flight = recorded.flight
    assert differences(flight) == []
    assert len(msgspec.msgpack.encode(flight)) < 8000


def test_what_is_heard_is_replayed_whatever_it_is() -> None:
    recorded = Recorded()
    dialogue = talking(recorded)
    dialogue.hear(
        [
            twilio.Media(twilio.Inbound(VOICE, "outbound"), STREAM_SID),
            twilio.Media(twilio.Inbound(VOICE), "MZ-another"),
            deepgram.Audio(b""),
            deepgram.Audio(b"\xff" * 400),
            PlayTones(b"\x20" * 320),
            OutboxFull(Leg.AGENT, 160),
            Collect(1, 3, "#", 5.0, 2.0),
            twilio.Dtmf(twilio.Digit("1"), stream_sid=STREAM_SID),
            Ask(2, deepgram.InjectAgentMessage("One two three.")),
            Ask(3, deepgram.UpdateThink({"provider": {"type": "open_ai"}})),
            Close(Ending(Cause.TRANSFERRED, "+15005550006")),
        ],
        1.0,
    )
    flight = recorded.flight
    assert flight.steps[-1].acts
    assert differences(flight) == []


def test_what_cannot_be_written_down_ends_the_flight_and_not_the_call() -> None:
    recorded = Recorded()
    dialogue = talking(recorded)
    dialogue.hear([Ask(1, deepgram.UpdateThink({"provider": object()}))], 1.0)
    assert dialogue.hear([deepgram.Audio(b"\x10" * 800)], 2.0)
    assert recorded.recorder is not None
    assert "cannot be written down" in (recorded.recorder.stopped or "")
    assert len(recorded.flight.steps) == len(STEPS) + 1
    assert differences(recorded.flight) == []


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**400])
def test_numbers_of_an_agents_own_that_are_too_large_are_written_as_far_as_they_can_be(
    number: int,
) -> None:
    recorded = Recorded()
    dialogue = talking(recorded)
    before = len(recorded.flight.steps)
    dialogue.hear([deepgram.CustomFromThinkProvider({"": {"many": [number]}})], 1.0)
    dialogue.hear([Ask(1, deepgram.UpdateThink({"provider": {"seed": number}}))], 1.5)
    dialogue.hear([deepgram.Audio(b"\x10" * 800)], 2.0)
    assert recorded.recorder is not None
    assert recorded.recorder.stopped is None
    assert len(recorded.flight.steps) == before + 3
    assert differences(recorded.flight) == []


def test_a_flight_of_a_call_that_was_elsewhere_ends_where_that_is_known() -> None:
    """What was said there is in the database, with what is to be forgotten of it."""
    recorded = Recorded()
    dialogue = recorded(lambda wanted: SETTINGS, was_elsewhere=any_call)
    dialogue.hear([START], 0.5)
    assert dialogue.hear([Tick(), Recalled(agent="default")], 0.6)
    assert recorded.recorder is not None
    assert recorded.recorder.stopped == "what was before is another process's"
    assert len(recorded.flight.steps) == 1


@pytest.mark.parametrize(
    ("bound", "why"),
    [("MAX_STEP", "a step takes more"), ("MAX_CALL", "a call takes"), ("MAX_ALL", "of all calls")],
)
def test_a_flight_is_bounded(bound: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOT", 500)
    monkeypatch.setattr(module, bound, 2000)
    monkeypatch.setattr(module.Allowance.__init__, "__defaults__", (module.MAX_ALL,))
    recorded = Recorded()
    dialogue = talking(recorded)
    for number in range(200):
        text = "".join(chr(33 + (number * each) % 90) for each in range(1 + number * 20))
        dialogue.hear([deepgram.ConversationText(AGENT, text)], 1.0 + number)
    recorder = recorded.recorder
    assert recorder is not None
    assert why in (recorder.stopped or "")
    assert recorder.size <= 2000 or bound == "MAX_STEP"
    flight = recorded.flight
    assert len(flight.steps) > len(STEPS)
    assert differences(flight) == []


def test_a_message_of_another_version_is_told_with_its_step() -> None:
    recorded = Recorded()
    talking(recorded)
    flight = recorded.flight
    for heard in (["Sung", {}], ["Welcome", {"request_id": 5}], [], ["Close", ["no", "", False]]):
        steps = [*flight.steps, msgspec.structs.replace(flight.steps[-1], heard=[heard])]
        odd = msgspec.structs.replace(flight, steps=steps)
        with pytest.raises(BadFlight, match=f"step {len(steps)} is not of this version"):
            list(replay(odd))


def test_a_policy_of_another_version_is_told() -> None:
    recorded = Recorded()
    talking(recorded)
    odd = msgspec.structs.replace(recorded.flight, policy={"longest": "ever"})
    with pytest.raises(BadFlight, match="policy"):
        list(replay(odd))


def test_what_another_release_does_is_told_with_what_was_done() -> None:
    recorded = Recorded()
    dialogue = talking(recorded)
    dialogue.hear([deepgram.ConversationText("user", "Yes.")], 1.0)
    flight = recorded.flight
    last = flight.steps[-1]
    other = msgspec.structs.replace(last, acts=[["FlushCaller", {}]])
    [differing] = differences(msgspec.structs.replace(flight, steps=[*flight.steps[:-1], other]))
    assert differing.number == len(flight.steps)
    assert differing.was == [["FlushCaller", {}]]
    assert differing.acts == last.acts


def test_nothing_is_left_to_the_garbage_collector() -> None:
    class Marked(module.FlightRecorder):
        """Can be told when it is gone."""

    gc.collect()
    gc.disable()
    try:
        recorder = Marked(
            lambda wanted: SETTINGS,
            module.Allowance(),
            0.0,
            is_expected=any_call,
            forward=0.02,
            now=0.0,
            policy=CallPolicy(),
            can_say=says_all,
            needs_release=no_call,
        )
        is_there = weakref.ref(recorder)
        recorder.dialogue.hear([START], 0.5)
        recorder.finish()
        recorder.forget()
        del recorder
        assert is_there() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("then", "is_same"),
    [
        ({"role": "user", "text": "Yes.", "until": 0.5}, True),  # `position` is None
        ({"role": "user", "text": "Yes."}, False),  # `until` is not
        ({"role": "user", "until": 0.5}, False),  # `text` has no default
    ],
)
def test_a_field_that_was_added_is_no_difference_while_it_has_its_default(
    then: dict[str, Any], is_same: bool
) -> None:
    recorded = Recorded()
    dialogue = talking(recorded)
    dialogue.hear([deepgram.ConversationText("user", "Yes.")], 1.0)
    flight = recorded.flight
    older = msgspec.structs.replace(flight.steps[-1], acts=[[events.CallTranscript.NAME, then]])
    found = differences(msgspec.structs.replace(flight, steps=[*flight.steps[:-1], older]))
    assert (not found) == is_same


def test_what_lots_take_is_given_back_once_whenever_they_are_packed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOT", 500)
    allowance = module.Allowance(100_000)
    lots: list[int] = []
    recorder = module.FlightRecorder(
        lambda wanted: SETTINGS,
        allowance,
        0.0,
        lambda recorder, number: lots.append(number),
        is_expected=any_call,
        forward=0.02,
        now=0.0,
        policy=CallPolicy(),
        can_say=says_all,
        needs_release=no_call,
    )
    for step in STEPS.values():
        recorder.dialogue.hear([step], 0.5)
    while len(lots) < 3:
        recorder.dialogue.hear([deepgram.ConversationText(AGENT, "One, two, three.")], 1.0)
    assert lots == [0, 1, 2]
    packed = [pack_lot(lot) for lot in recorder.lots]
    recorder.replace(1, packed[1])
    assert recorder.size == sum(map(len, recorder.lots))
    assert list(steps_of(recorder.lots))
    recorder.forget()
    recorder.replace(2, packed[2])  # too late
    assert allowance.take(100_000)
    assert not allowance.take(1)

"""The caller's stream is cut while all is well: it is waited for, and the agent notices nothing."""

import msgspec
import pytest
from rig_dialogue import RECONNECTS, STEPS, Bridge, echo, marks_in, quiet
from rig_peers import START, STOP, STREAM_SID, media
from rig_told_call import AGENT

from sts_trio.errors import Cause, Ending, How, Leg, LegEnded
from sts_trio.logic.acts import (
    Act,
    CallerGone,
    Dial,
    DropAgent,
    DropCaller,
    FlushCaller,
    HangUp,
    MoveAway,
    SendToAgent,
    SendToCaller,
    ShutDown,
    StreamBack,
)
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.requests import GO_ON
from sts_trio.logic.states import BACK_WITHIN
from sts_trio.observe import events
from sts_trio.wire import twilio
from sts_trio.wire.deepgram import AgentAudioDone, Audio, ConversationText, InjectUserMessage

CUT = LegEnded(Leg.CALLER, How.LOST)
WORD = b"\x31" * 1600
KEEPS = CallPolicy(reconnects=True, resumes=True)
NEW = "MZnew"
AGAIN = msgspec.structs.replace(
    START,
    start=msgspec.structs.replace(START.start, stream_sid=NEW, custom_parameters={}),
    stream_sid=NEW,
)


def talking(policy: CallPolicy = KEEPS, *, may_come_back: bool = True) -> Bridge:
    bridge = Bridge(policy=policy, may_come_back=may_come_back)
    bridge.hear(*STEPS.values())
    bridge.hear(media(b"\xff" * 160))
    return bridge


def ended(acts: list[Act]) -> Ending | None:
    return next((act.ending for act in acts if isinstance(act, HangUp)), None)


def test_a_stream_that_is_cut_is_waited_for_and_the_agent_stays() -> None:
    bridge = talking()
    acts = bridge.hear(CUT)
    assert DropCaller() in acts
    assert not any(isinstance(act, DropAgent | HangUp) for act in acts)
    assert bridge.dialogue.is_away
    bridge.wait_until(1.0)
    acts = bridge.hear(AGAIN)
    assert StreamBack(NEW, 1.0) in acts
    assert not any(isinstance(act, Dial) for act in acts)
    assert bridge.dialogue.stream_sid == NEW
    assert not bridge.dialogue.is_away


def test_what_is_said_goes_by_the_new_stream() -> None:
    bridge = talking()
    bridge.hear(CUT)
    bridge.hear(AGAIN)
    acts = bridge.hear(Audio(WORD))
    assert SendToCaller(twilio.PlayMedia(NEW, twilio.Outbound(WORD))) in acts
    acts = bridge.hear(twilio.Media(twilio.Inbound(b"\x22" * 160), stream_sid=NEW))
    assert SendToAgent(Audio(b"\x22" * 160)) in acts


def test_what_was_not_heard_is_played_again() -> None:
    bridge = talking()
    bridge.hear(ConversationText(AGENT, "One two three."), Audio(WORD * 2))
    acts = bridge.hear(CUT)
    assert FlushCaller() in acts
    bridge.hear(Audio(WORD))
    acts = bridge.hear(AGAIN)
    assert audio_in(acts) == WORD * 3
    acts += bridge.hear(AgentAudioDone())
    heard = bridge.hear(*(echo(name, NEW) for name in marks_in(acts)))
    assert any(isinstance(act, events.CallHeard) for act in heard)


def test_an_agent_that_speaks_on_for_long_is_heard_whole() -> None:
    bridge = talking()
    bridge.hear(ConversationText(AGENT, "One two three."), Audio(WORD))
    bridge.hear(CUT)
    bridge.wait_until(3.0)
    bridge.hear(Audio(WORD))
    assert audio_in(bridge.hear(AGAIN)) == WORD * 2


def audio_in(acts: list[Act]) -> bytes:
    sent = [act.message for act in acts if isinstance(act, SendToCaller)]
    return b"".join(each.media.payload for each in sent if isinstance(each, twilio.PlayMedia))


def test_without_a_rest_the_agent_is_asked_to_go_on() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(ConversationText(AGENT, "One two three."), Audio(WORD * 2))
    bridge.hear(CUT)
    assert SendToAgent(InjectUserMessage(GO_ON)) in bridge.hear(AGAIN)


def test_what_the_agent_says_once_the_stream_is_back_is_heard() -> None:
    for policy in (KEEPS, RECONNECTS):
        bridge = talking(policy)
        bridge.hear(Audio(WORD), AgentAudioDone())
        bridge.hear(CUT)
        bridge.hear(AGAIN)
        assert audio_in(bridge.hear(Audio(WORD))) == WORD


def test_what_the_agent_begins_meanwhile_waits_for_the_stream() -> None:
    bridge = talking(RECONNECTS)
    bridge.hear(Audio(WORD), AgentAudioDone())
    bridge.hear(CUT)
    assert audio_in(bridge.hear(Audio(WORD))) == WORD


def test_an_agent_that_was_silent_is_not_asked_to_go_on() -> None:
    for policy in (KEEPS, RECONNECTS):
        bridge = talking(policy)
        bridge.hear(CUT)
        assert quiet(bridge.hear(AGAIN)) == [StreamBack(NEW, 0.0)]


def test_who_has_begun_something_else_meanwhile_is_not_asked_to_go_on() -> None:
    bridge = talking()
    bridge.hear(ConversationText(AGENT, "One."), Audio(WORD))
    bridge.hear(CUT)
    bridge.hear(ConversationText("user", "Hm?"), ConversationText(AGENT, "Two."), Audio(WORD))
    assert quiet(bridge.hear(AGAIN)) == [StreamBack(NEW, 0.0)]


@pytest.mark.parametrize(
    ("how", "cause"), [(How.LOST, Cause.CALLER_LOST), (How.CLOSED, Cause.CALLER_CLOSED)]
)
def test_who_does_not_come_back_has_hung_up(how: How, cause: Cause) -> None:
    bridge = talking()
    bridge.hear(LegEnded(Leg.CALLER, how))
    acts = bridge.wait_until(BACK_WITHIN)
    assert [(at, act) for at, act in acts if isinstance(act, HangUp)] == [
        (BACK_WITHIN, HangUp(Ending(cause)))
    ]


def test_a_phone_call_that_is_over_is_not_waited_for() -> None:
    bridge = talking()
    bridge.hear(CUT)
    assert ended(bridge.hear(CallerGone())) == Ending(Cause.CALLER_LOST)


def test_a_stream_that_is_cut_behind_the_end_of_the_phone_call_is_not_waited_for() -> None:
    bridge = talking()
    assert bridge.hear(CallerGone()) == []
    assert ended(bridge.hear(CUT)) == Ending(Cause.CALLER_LOST)


@pytest.mark.parametrize(
    ("end", "cause"), [(ShutDown(), Cause.SHUTDOWN), (MoveAway(), Cause.MOVED)]
)
def test_it_ends_as_any_call_meanwhile(end: ShutDown | MoveAway, cause: Cause) -> None:
    bridge = talking()
    bridge.hear(CUT)
    assert ended(bridge.hear(end)) == Ending(cause)


def test_a_second_end_of_the_leg_is_the_end() -> None:
    bridge = talking()
    bridge.hear(CUT)
    assert ended(bridge.hear(CUT)) == Ending(Cause.CALLER_LOST)


@pytest.mark.parametrize("how", [How.STALLED])
def test_a_caller_who_takes_nothing_is_not_waited_for(how: How) -> None:
    assert ended(talking().hear(LegEnded(Leg.CALLER, how))) == Ending(Cause.CALLER_STALLED)


def test_where_nobody_asks_us_what_comes_next_the_end_is_at_once() -> None:
    bridge = talking(may_come_back=False)
    assert not bridge.dialogue.may_come_back
    assert ended(bridge.hear(CUT)) == Ending(Cause.CALLER_LOST)


def test_who_hangs_up_is_not_waited_for() -> None:
    assert ended(talking().hear(STOP)) == Ending(Cause.STOP)


def test_before_the_start_nobody_is_waited_for() -> None:
    bridge = Bridge(policy=KEEPS, may_come_back=True)
    assert ended(bridge.hear(CUT)) == Ending(Cause.CALLER_LOST)


def test_another_calls_stream_does_not_take_its_place() -> None:
    bridge = talking()
    bridge.hear(CUT)
    start = msgspec.structs.replace(AGAIN.start, call_sid="CA9")
    bridge.hear(msgspec.structs.replace(AGAIN, start=start))
    assert bridge.dialogue.is_away
    assert "caller: the start of another call's stream" in bridge.violations


def test_of_the_call_is_known_what_its_first_stream_brought_along() -> None:
    bridge = Bridge(policy=KEEPS, may_come_back=True)
    told = msgspec.structs.replace(START.start, custom_parameters={"to": "+15005550006"})
    bridge.hear(msgspec.structs.replace(START, start=told))
    bridge.hear(CUT)
    bridge.hear(AGAIN)
    assert bridge.dialogue.start is not None
    assert bridge.dialogue.start.custom_parameters == {"to": "+15005550006"}
    assert (bridge.dialogue.stream_sid, STREAM_SID != NEW) == (NEW, True)


def test_a_call_that_is_away_is_not_at_rest() -> None:
    bridge = talking()
    bridge.hear(CUT)
    assert not bridge.dialogue.is_at_rest(0.0)

"""A phone call that Twilio has to be asked to end, or to transfer: what comes of it, and then."""

import pytest
from rig_dialogue import APOLOGY, LOST, RECONNECTS, Bridge, echo, play, played, quiet, talking
from rig_peers import STOP, media
from telephone import CLIP, POLICY, speaks

from sts_trio.errors import Cause, Ending, How, Leg, LegEnded
from sts_trio.logic.acts import (
    Act,
    CallReleased,
    Close,
    Dial,
    DropAgent,
    HangUp,
    Heard,
    ReleaseCall,
    SendToAgent,
    ShutDown,
)
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.requests import NOT_TRANSFERRED
from sts_trio.logic.states import Phase
from sts_trio.observe import events
from sts_trio.wire.deepgram import (
    AgentAudioDone,
    Audio,
    ConversationText,
    InjectAgentMessage,
    InjectionRefused,
    PromptUpdated,
    UpdatePrompt,
    UserStartedSpeaking,
)

NUMBER = "+15005550020"
TRANSFERRED = Ending(Cause.TRANSFERRED, NUMBER)
HUNG_UP = Ending(Cause.HUNG_UP)
FAILED = CallReleased("Twilio: HTTP 404, 20404: not found")
SORRY = CallPolicy().not_transferred
CALLER_LOST = LegEnded(Leg.CALLER, How.LOST)
CLOSED = LegEnded(Leg.AGENT, How.CLOSED, 1000)


def leaving(ending: Ending = TRANSFERRED, policy: CallPolicy = RECONNECTS) -> Bridge:
    """The goodbye has been heard, and Twilio is being asked."""
    bridge = talking(policy, needs_release=True)
    bridge.hear(Close(ending), said("Goodbye."), Audio(b"\x01" * 4000))
    bridge.hear(AgentAudioDone())
    bridge.wait_until(0.5)
    asked = [act for act in bridge.hear(echo("e0-1")) if not isinstance(act, events.CallHeard)]
    drops = [] if ending is TRANSFERRED else [DropAgent()]
    assert asked == [*drops, ReleaseCall(ending)]
    assert bridge.dialogue.phase is Phase.PARTING
    assert bridge.dialogue.is_closing
    return bridge


def said(text: str) -> Heard:
    """The agent's words."""
    return speaks(text)[0][1]


def hang_ups(acts: list[Act]) -> list[Ending]:
    return [act.ending for act in acts if isinstance(act, HangUp)]


@pytest.mark.parametrize("ending", [TRANSFERRED, HUNG_UP, Ending(Cause.SILENCE)])
def test_the_call_is_hung_up_when_it_is_done(ending: Ending) -> None:
    bridge = leaving(ending)
    assert bridge.watch(4) == []
    assert hang_ups(bridge.hear(CallReleased())) == [ending]


@pytest.mark.parametrize("gone", [[STOP], [STOP, CALLER_LOST], [CALLER_LOST]])
def test_a_stream_that_ends_meanwhile_is_what_a_transfer_begins_with(gone: list[Heard]) -> None:
    bridge = leaving()
    assert hang_ups(bridge.hear(*gone)) == []
    assert hang_ups(bridge.hear(CallReleased())) == [TRANSFERRED]
    assert bridge.violations == {}


@pytest.mark.parametrize("result", [FAILED, CallReleased(was_over=True)])
def test_who_hung_up_before_they_were_transferred_was_not(result: CallReleased) -> None:
    bridge = leaving()
    bridge.hear(STOP, media())
    assert hang_ups(bridge.hear(result)) == [Ending(Cause.STOP)]
    assert bridge.violations == {"caller: media after stop": 1}


def test_a_server_that_goes_away_does_not_wait_for_it() -> None:
    assert hang_ups(leaving().hear(ShutDown())) == [Ending(Cause.SHUTDOWN)]


def test_what_was_not_hung_up_is_told_as_such() -> None:
    ending = Ending(Cause.NOT_HUNG_UP, FAILED.failure)
    assert hang_ups(leaving(HUNG_UP).hear(FAILED)) == [ending]
    assert ending.verdict.value == "ours"


# --- who was not transferred --------------------------------------------------------------------


def test_who_was_not_transferred_is_told_so_by_the_agent_and_the_call_goes_on() -> None:
    bridge = leaving()
    assert quiet(bridge.hear(UserStartedSpeaking(), media(b"\x01" * 160))) == []
    acts = bridge.hear(FAILED)
    assert acts == [
        events.CallNotTransferred(FAILED.failure, NUMBER),
        SendToAgent(UpdatePrompt(NOT_TRANSFERRED.format(number=NUMBER))),
        SendToAgent(InjectAgentMessage(SORRY, "queue")),
    ]
    assert bridge.dialogue.phase is Phase.TALKING
    assert not bridge.dialogue.is_closing
    # Both sides are heard again.
    assert bridge.hear(media(b"\x02" * 160)) == [SendToAgent(Audio(b"\x02" * 160))]
    bridge.hear(PromptUpdated(), said(SORRY))
    assert play(b"\x03" * 160) in bridge.hear(Audio(b"\x03" * 160))
    # And the agent, if it is lost, is followed by another.
    assert any(isinstance(act, Dial) for act in bridge.hear(LOST))
    assert hang_ups(bridge.hear(STOP)) == [Ending(Cause.STOP)]


def test_they_may_be_transferred_again() -> None:
    bridge = leaving()
    bridge.hear(FAILED)
    bridge.hear(Close(TRANSFERRED), AgentAudioDone())
    assert ReleaseCall(TRANSFERRED) in [act for _, act in bridge.watch(9)]
    assert hang_ups(bridge.hear(CallReleased())) == [TRANSFERRED]


def test_an_agent_that_does_not_tell_them_is_mute() -> None:
    """As ever when something is owed: a word after five seconds."""
    bridge = leaving(policy=POLICY)
    bridge.wait_until(3)
    bridge.hear(FAILED)
    words = [at for at, act in bridge.watch(9) if played([act]) == CLIP]
    assert words == [8]


def test_they_are_told_later_if_they_are_speaking() -> None:
    bridge = leaving()
    bridge.hear(FAILED)
    assert quiet(bridge.hear(InjectionRefused("The user is speaking"))) == []
    told = bridge.hear(ConversationText("user", "Hello?"))
    assert SendToAgent(InjectAgentMessage(SORRY, "queue")) in told


@pytest.mark.parametrize("gone", [LOST, CLOSED])
def test_without_an_agent_they_hear_an_apology(gone: Heard) -> None:
    bridge = leaving()
    assert quiet(bridge.hear(gone)) == [DropAgent()]
    assert played(bridge.hear(FAILED)) == APOLOGY
    ending = Ending(Cause.NOT_TRANSFERRED, FAILED.failure, apologised=True)
    assert hang_ups([act for _, act in bridge.watch(9)]) == [ending]


def test_without_an_apology_either_the_call_is_over() -> None:
    bridge = leaving(policy=CallPolicy())
    bridge.hear(LOST)
    assert hang_ups(bridge.hear(FAILED)) == [Ending(Cause.NOT_TRANSFERRED, FAILED.failure)]


def test_a_goodbye_whose_agent_is_gone_asks_twilio_as_well() -> None:
    bridge = talking(RECONNECTS, needs_release=True)
    bridge.hear(Close(TRANSFERRED), said("Bye."), Audio(b"\x01" * 160))
    assert DropAgent() in bridge.hear(LOST)
    assert bridge.hear(echo("e0-1"))[-1] == ReleaseCall(TRANSFERRED)
    assert hang_ups(bridge.hear(CallReleased())) == [TRANSFERRED]


def test_a_result_that_nobody_waits_for_is_not_minded() -> None:
    assert talking(RECONNECTS).hear(FAILED) == []

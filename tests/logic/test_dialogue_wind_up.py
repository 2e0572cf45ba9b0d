"""The server is to go while somebody is talking with its agent: they are told."""

from typing import Any

import msgspec
import pytest
from rig_dialogue import PHASES, echo, played, reach, talking
from rig_peers import STOP
from telephone import (
    APOLOGY,
    CLIP,
    CLOSED,
    LOST,
    OURS,
    POLICY,
    WORD,
    Telephone,
    silent,
    speaks,
)

from sts_trio.errors import Cause, Ending
from sts_trio.logic.acts import (
    CallReleased,
    Close,
    HangUp,
    Heard,
    Protect,
    ReleaseCall,
    WindUp,
)
from sts_trio.logic.states import Phase
from sts_trio.wire.deepgram import AgentAudioDone, Audio, InjectAgentMessage

TOLD = Ending(Cause.SHUTDOWN, apologised=True)
UNTOLD = Ending(Cause.SHUTDOWN)
TIME_IS_UP = InjectAgentMessage(POLICY.time_is_up, "interrupt")


def said(text: str) -> Heard:
    """The agent's words."""
    return speaks(text)[0][1]


def phone_of(**options: Any) -> Telephone:
    phone = Telephone(silent, **options)
    phone.wait(2.0)  # the greeting is over
    return phone


def test_the_agent_says_that_the_time_is_up_and_the_call_ends_when_that_is_heard() -> None:
    phone = phone_of(says_ours=True)
    phone.hear(WindUp())
    phone.wait(20)
    [began] = phone.heard(OURS)
    assert 2.0 < began < 2.5
    assert phone.ending == TOLD
    assert began < phone.ended_at < began + 0.5


def test_it_is_said_at_once_whatever_the_agent_was_saying() -> None:
    phone = phone_of(says_ours=True)
    phone.hear(said("We have"), Audio(WORD * 100), WindUp())
    phone.wait(20)
    assert phone.told[-1] == TIME_IS_UP
    assert phone.heard(WORD)[-1] < phone.heard(OURS)[0] < 2.5
    assert phone.ending == TOLD


def test_what_is_protected_is_heard_first() -> None:
    phone = phone_of(says_ours=True)
    phone.hear(Protect(), said("Your code is"), Audio(WORD * 20), WindUp())
    phone.wait(0.1)
    assert phone.told[-1] == msgspec.structs.replace(TIME_IS_UP, behavior="queue")


def test_an_agent_that_does_not_say_it_is_not_waited_for() -> None:
    phone = phone_of()
    phone.hear(WindUp())
    phone.wait(4.1)
    assert phone.ending == TOLD


@pytest.mark.parametrize("gone", [LOST, CLOSED])
def test_without_an_agent_the_caller_hears_the_apology(gone: Heard) -> None:
    phone = Telephone(silent)
    phone.bridge.hear(gone)
    phone.hear(WindUp())
    phone.wait(5)
    assert len(phone.heard(APOLOGY)) == 1
    assert phone.ending == TOLD


@pytest.mark.parametrize("phase", PHASES)
def test_it_ends_the_call_in_every_phase(phase: Phase) -> None:
    bridge = reach(phase, policy=POLICY)
    acts = [*bridge.hear(WindUp()), *(act for _, act in bridge.watch(10))]
    [hang_up] = [act for act in acts if isinstance(act, HangUp)]
    is_somebody_there = phase is not Phase.AWAITING_START
    assert hang_up == HangUp(TOLD if is_somebody_there else UNTOLD)
    is_apology = is_somebody_there and phase is not Phase.TALKING
    assert played(acts).endswith(APOLOGY) == is_apology


def test_an_agent_whose_dialect_has_no_words_for_it_leaves_it_to_the_apology() -> None:
    bridge = talking(POLICY, can_say=lambda message: not isinstance(message, InjectAgentMessage))
    assert played(bridge.hear(WindUp())) == APOLOGY
    assert [act for _, act in bridge.watch(5) if isinstance(act, HangUp)] == [HangUp(TOLD)]


def test_without_an_apology_either_the_call_is_over() -> None:
    bridge = reach(Phase.DIALLING)
    assert bridge.hear(WindUp()) == [HangUp(UNTOLD)]


def test_who_is_being_said_goodbye_to_is_told_nothing_else() -> None:
    phone = phone_of(says_ours=True)
    phone.hear(Close(Ending(Cause.HUNG_UP)), WindUp())
    for after, heard in speaks("Goodbye."):
        phone.later(after, heard)
    phone.wait(10)
    assert TIME_IS_UP not in phone.told
    assert phone.ending == Ending(Cause.HUNG_UP)


def test_it_is_told_once() -> None:
    phone = phone_of(says_ours=True)
    phone.hear(WindUp(), WindUp())
    phone.wait(10)
    assert phone.told.count(TIME_IS_UP) == 1


def test_an_agent_that_is_lost_over_it_has_not_told_it() -> None:
    """Twilio asks what next, and is answered with an apology then."""
    phone = phone_of()
    phone.hear(WindUp(), LOST)
    phone.wait(5)
    assert phone.ending == UNTOLD
    assert phone.heard(CLIP) == []


@pytest.mark.parametrize("failure", ["", "Twilio: HTTP 401"])
def test_a_phone_call_that_would_outlive_its_stream_is_ended(failure: str) -> None:
    bridge = talking(POLICY, needs_release=True)
    bridge.hear(WindUp(), said(POLICY.time_is_up), Audio(b"\x01" * 800))
    bridge.hear(AgentAudioDone())
    bridge.wait_until(0.2)
    assert ReleaseCall(TOLD) in bridge.hear(echo("e0-1"))
    ending = Ending(Cause.NOT_HUNG_UP, failure) if failure else TOLD
    assert HangUp(ending) in bridge.hear(CallReleased(failure))


def test_a_caller_who_hangs_up_meanwhile_has_hung_up() -> None:
    bridge = talking(POLICY)
    bridge.hear(WindUp())
    assert HangUp(Ending(Cause.STOP)) in bridge.hear(STOP)

"""What the agent's voice brings is due in time, in a call whose caller is to be heard all along.

Of such a call nobody asks for the deadline of a gap: only what the dialogue names otherwise is
looked at, each time that the caller's leg has its turn.
"""

from rig_dialogue import Bridge, echo, talking, violation
from rig_peers import media
from telephone import speaks

from sts_trio.logic.acts import Act, SendToAgent, Tick
from sts_trio.logic.agent_audio import MARKS_WITHIN
from sts_trio.logic.due import NO_MARKS
from sts_trio.logic.policy import CallPolicy
from sts_trio.wire.deepgram import AgentAudioDone, Audio, ConversationText, InjectAgentMessage

FRAME_SECONDS = 0.02
SECOND = b"\x01" * 8000


def turns(bridge: Bridge, until: float) -> list[tuple[float, Act]]:
    """The caller's leg has its turns until then, and each time a frame has come."""
    acts = []
    while bridge.now < until:
        bridge.now = round(bridge.now + FRAME_SECONDS, 3)
        acts += [(bridge.now, act) for act in bridge.hear(media())]
        if bridge.now >= bridge.dialogue.rare_deadline:
            acts += [(bridge.now, act) for act in bridge.hear(Tick())]
    return acts


def injected(acts: list[tuple[float, Act]]) -> list[float]:
    return [
        at
        for at, act in acts
        if isinstance(act, SendToAgent) and isinstance(act.message, InjectAgentMessage)
    ]


def test_a_caller_who_was_asked_is_left_as_soon_as_the_policy_says() -> None:
    bridge = talking(CallPolicy(ask_after=5.0, hang_up_after=2.0))
    bridge.hear(Audio(SECOND), AgentAudioDone(), echo("e0-1"))
    [asked] = injected(turns(bridge, 7))
    for _, said in speaks("Are you still there?", SECOND)[:2]:  # and not that it is done
        bridge.hear(said)
    [farewell] = injected(turns(bridge, 12))
    assert asked == 6.0
    assert farewell <= 7 + 1 + 2 + 2 * FRAME_SECONDS


def test_a_phone_without_marks_is_told_of_before_the_agent_is_done() -> None:
    bridge = talking()
    bridge.hear(media())
    bridge.hear(Audio(12 * SECOND))
    acts = turns(bridge, 30)
    [told] = [at for at, act in acts if act == violation(f"caller: {NO_MARKS}")]
    assert told - 12 - MARKS_WITHIN <= 2 * FRAME_SECONDS


def test_while_the_agent_ends_what_it_was_saying_nobody_waits_for_its_answer() -> None:
    bridge = talking(CallPolicy(answer_within=5.0, one_moment=SECOND))
    bridge.hear(*[said for _, said in speaks("Well,", 10 * SECOND)[:2]])
    bridge.hear(ConversationText("user", "And?"))
    turns(bridge, 1)
    bridge.hear(Audio(SECOND))
    assert bridge.dialogue.deadlines["answer"] >= 11 + 5

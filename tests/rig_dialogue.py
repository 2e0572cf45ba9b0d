"""A dialogue on its own, act by act and to the second: for tests of the pure machine."""

from collections.abc import Callable, Iterable
from typing import Any

from rig_peers import SETTINGS, START, STREAM_SID, media

from sts_trio.errors import How, Leg, LegEnded
from sts_trio.logic.acts import (
    Act,
    AgentReached,
    Heard,
    SendToAgent,
    SendToCaller,
    StreamBegan,
    Tick,
)
from sts_trio.logic.dialogue import Dialogue, SettingsWanted
from sts_trio.logic.history import History
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.states import Phase
from sts_trio.observe import events
from sts_trio.wire import deepgram, deepgram_settings, twilio
from sts_trio.wire.deepgram import Audio, SettingsApplied, Welcome

# {phase: what leads into it from the one before}
STEPS: dict[Phase, Heard] = {
    Phase.DIALLING: START,
    Phase.AWAITING_WELCOME: AgentReached(),
    Phase.AWAITING_APPLIED: Welcome("request"),
    Phase.TALKING: SettingsApplied(),
}
PHASES = [Phase.AWAITING_START, *STEPS]
DIALLED = list(STEPS)
CONNECTED = DIALLED[1:]


ONE_MOMENT = b"\x21" * 4000
APOLOGY = b"\x22" * 8000
# Half a second and a second long.
RECONNECTS = CallPolicy(reconnects=True, one_moment=ONE_MOMENT, apology=APOLOGY)

LOST = LegEnded(Leg.AGENT, How.LOST)


def _says_all(message: deepgram.ToAgent) -> bool:
    return True


class Bridge:
    """A dialogue and its clock. `heard` happens now, and time passes in `wait_until`."""

    def __init__(
        self,
        *,
        forward: float = 0.02,
        now: float = 0.0,
        policy: CallPolicy | None = None,
        settings: deepgram_settings.Settings = SETTINGS,
        can_say: Callable[[deepgram.ToAgent], bool] = _says_all,
        needs_release: bool = False,
        was_elsewhere: bool = False,
        may_come_back: bool = False,
    ) -> None:
        self.asked_for: list[SettingsWanted] = []
        self.now = now
        self.settings = settings
        self.dialogue = Dialogue(
            self._settings,
            forward=forward,
            now=now,
            policy=policy,
            can_say=can_say,
            needs_release=lambda start: needs_release,
            was_elsewhere=lambda start: was_elsewhere,
            may_come_back=lambda start: may_come_back,
        )

    def _settings(self, wanted: SettingsWanted) -> deepgram_settings.Settings:
        self.asked_for.append(wanted)
        return self.settings

    def hear(self, *heard: Heard) -> list[Act]:
        return self.dialogue.hear(heard, self.now)

    def wait_until(self, time: float) -> list[tuple[float, Act]]:
        """Hears a tick at each deadline on the way; returns what was done, and when."""
        acts: list[tuple[float, Act]] = []
        while self.dialogue.deadline <= time:
            self.now = max(self.now, self.dialogue.deadline)
            acts += [(round(self.now, 6), act) for act in self.hear(Tick())]
            assert self.dialogue.deadline > self.now, "it would tick for ever"
        self.now = time
        return acts

    def watch(self, time: float) -> list[tuple[float, Act]]:
        """As `wait_until`, without logs and without the silence that fills the caller's gaps."""
        return [(at, act) for at, act in self.wait_until(time) if not _is_filler(act)]

    def connect(self, agent: str = "default") -> list[Act]:
        """The agent is reached and takes its settings; returns what it is told then, and more."""
        self.hear(AgentReached(agent), Welcome("request"))
        return quiet(self.hear(SettingsApplied()))

    @property
    def history(self) -> list[tuple[str, str]]:
        """What the newest session was told of the past: who said what, or what came of what."""
        told = []
        for item in self.asked_for[-1].history:
            if "role" in item:
                told.append((item["role"], item["content"]))
            else:
                told += [(each["name"], each["response"]) for each in item["function_calls"]]
        return told

    @property
    def violations(self) -> dict[str, int]:
        return self.dialogue.statistics().violations


def reach(phase: Phase, *, forward: float = 0.02, policy: CallPolicy | None = None) -> Bridge:
    """A bridge whose call has just come into that phase, at 0 s."""
    bridge = Bridge(forward=forward, policy=policy)
    for step in STEPS.values():
        if bridge.dialogue.phase is phase:
            break
        bridge.hear(step)
    assert bridge.dialogue.phase is phase
    return bridge


def talking(policy: CallPolicy | None = None, **options: Any) -> Bridge:
    """A bridge whose two sides can talk, at 0 s; the caller's first frame was silent."""
    bridge = Bridge(policy=policy, **options)
    bridge.hear(*STEPS.values())
    bridge.hear(media(b"\xff" * 160))
    return bridge


def hold_deadlines(dialogue: Dialogue) -> None:
    """No part of it waits beyond what it tells its alarm."""
    rare = dict(dialogue.deadlines)
    gap = rare.pop("gap")  # while the caller is to be heard it never comes
    assert dialogue.rare_deadline <= min(rare.values()), rare
    assert dialogue.deadline <= gap


def quiet(acts: Iterable[Act]) -> list[Act]:
    return [act for act in acts if not _is_filler(act)]


def _is_filler(act: Act) -> bool:
    if isinstance(act, SendToAgent) and isinstance(act.message, Audio):
        return not act.message.data.strip(b"\xff")
    is_words = isinstance(act, events.CallTranscript | events.CallHeard)
    return isinstance(act, StreamBegan) or (isinstance(act, events.OfCall) and not is_words)


def play(audio: bytes) -> SendToCaller:
    return SendToCaller(twilio.PlayMedia(STREAM_SID, twilio.Outbound(audio)))


def mark(name: str) -> SendToCaller:
    return SendToCaller(twilio.PlayMark(STREAM_SID, twilio.MarkName(name)))


def echo(name: str, stream_sid: str = STREAM_SID) -> twilio.Mark:
    return twilio.Mark(twilio.MarkName(name), stream_sid=stream_sid)


def marks_in(acts: list[Act]) -> list[str]:
    sent = [act.message for act in acts if isinstance(act, SendToCaller)]
    return [each.mark.name for each in sent if isinstance(each, twilio.PlayMark)]


def say(audio: bytes) -> SendToAgent:
    return SendToAgent(Audio(audio))


def said_by_agent(text: str, position: float | None = 0.0) -> events.CallTranscript:
    """The sentence, with the role that Deepgram has for the agent's."""
    past = History()
    past.hear_agent(text, 0)
    [told] = past.messages()
    return events.CallTranscript(told["role"], text, position=position)


def violation(reason: str) -> events.OfCall:
    leg, _, rest = reason.partition(": ")
    is_caller = leg == Leg.CALLER.value
    return events.CallerProtocolError(rest) if is_caller else events.AgentProtocolError(rest)


def played(acts: Iterable[Act]) -> bytes:
    return b"".join(
        act.message.media.payload
        for act in acts
        if isinstance(act, SendToCaller) and isinstance(act.message, twilio.PlayMedia)
    )

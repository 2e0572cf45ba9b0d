"""The one place where acts, events and violations are written. Pure."""

from collections.abc import Callable, Iterable

import msgspec

from sts_trio.errors import Leg
from sts_trio.logic.acts import Act, SendToAgent, SendToCaller
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio

# Reasons told apart per call, and letters kept of a peer's words: it can make up as many as it
# likes.
MAX_REASONS = 50
MAX_REASON_CHARS = 200


class Statistics(msgspec.Struct, frozen=True):
    """A call in numbers. Audio in seconds."""

    caller_audio: float
    caller_audio_dropped: float
    caller_audio_muted: float
    caller_audio_repeated: float
    caller_audio_waited: float
    agent_audio: float
    heard: float
    cut: float
    barge_ins: int
    false_interruptions: int
    functions: int
    reconnects: int
    longest_gap: float
    longest_silence: float
    violations: dict[str, int]


class Output:
    """`now` is when the hearing takes place; `drain` ends it. `began`: when the call did."""

    __slots__ = ("_acts", "_violations", "began", "now")

    def __init__(self, now: float) -> None:
        self.began = self.now = now
        self._acts: list[Act] = []
        self._violations = Violations()

    @property
    def violations(self) -> dict[str, int]:
        """{"leg: reason": how often}."""
        return dict(self._violations.counts)

    def drain(self) -> list[Act]:
        acts, self._acts = self._acts, []
        return acts

    def add(self, act: Act) -> None:
        self._acts.append(act)

    def extend(self, acts: Iterable[Act]) -> None:
        self._acts.extend(acts)

    def to_caller(self, messages: Iterable[twilio.ToCaller]) -> None:
        self._acts.extend(map(SendToCaller, messages))

    def to_agent(self, message: deepgram.ToAgent) -> None:
        self._acts.append(SendToAgent(message))

    def violation(self, leg: Leg, reason: str) -> None:
        """Counts what a peer did wrong, and tells of it the first time in this call."""
        is_caller = leg is Leg.CALLER
        told = events.CallerProtocolError if is_caller else events.AgentProtocolError
        self.add_once(told, leg, reason)

    def add_once(self, event: Callable[[str], events.OfCall], leg: Leg, reason: str) -> None:
        if (told := self._violations.note(leg, reason)) is not None:
            self._acts.append(event(told))


class Violations:
    """What the peers of a call did wrong: counted, and told about once each."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}  # {"leg: reason": how often}

    def note(self, leg: Leg, reason: str) -> str | None:
        """Counts it; the first time, returns what is to be said of it."""
        reason = reason[:MAX_REASON_CHARS]
        key = f"{leg.value}: {reason}"
        if key not in self.counts and len(self.counts) >= MAX_REASONS:
            key, reason = f"{leg.value}: (more)", "(more)"
        count = self.counts[key] = self.counts.get(key, 0) + 1
        return reason if count == 1 else None

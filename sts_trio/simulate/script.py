"""How a simulated caller behaves: when to speak, when to wait, when to hang up. Pure.

A behaviour is a list of steps, taken in order, one frame of 20 ms at a time. A caller knows nothing
but what is heard: an agent is done when it has been silent for a while.
"""

from collections.abc import Callable, Sequence

import msgspec

from sts_trio.audio.frames import FRAME, SILENCE, seconds
from sts_trio.simulate.earpiece import Spans

QUIET = SILENCE * FRAME

KEYS = "0123456789*#ABCD"
# Who types a number that they know.
KEY_EVERY = 0.3
# An agent that is silent for this long has finished what it said.
FINISHED = 1.0
# How long a caller waits for a word: for a greeting, then for an answer, which takes a model.
GREETING_PATIENCE = 3.0
ANSWER_PATIENCE = 8.0


class WaitForQuiet(msgspec.Struct, frozen=True):
    """Until the agent has spoken and finished, or has said nothing for `patience` seconds."""

    patience: float = ANSWER_PATIENCE
    silence: float = FINISHED


class WaitForSpeech(msgspec.Struct, frozen=True):
    """Until the agent has been speaking for `duration`, to barge in.

    Or until it has finished before that, or has said nothing for `patience` seconds.
    """

    duration: float
    patience: float = ANSWER_PATIENCE


class Speak(msgspec.Struct, frozen=True):
    """Says this, even while the agent speaks. `text` is for transcripts."""

    audio: bytes
    text: str = ""


class Keys(msgspec.Struct, frozen=True):
    """Presses these keys, one each `every` seconds.

    Raises:
        ValueError: one of them is no key of a phone.
    """

    keys: str
    every: float = KEY_EVERY

    def __post_init__(self) -> None:
        if not self.keys or not set(self.keys) <= set(KEYS):
            raise ValueError(f"expected keys of a phone, {KEYS}, got {self.keys!r}")


class HangUp(msgspec.Struct, frozen=True):
    """Ends the call: properly, or as a phone that is out of reach."""

    abruptly: bool = False


Said = Speak | Keys
Step = WaitForQuiet | WaitForSpeech | Said | HangUp


def polite(clips: Sequence[Said]) -> list[Step]:
    """Hears the greeting out, says each clip and hears its answer out, then hangs up."""
    steps: list[Step] = [WaitForQuiet(GREETING_PATIENCE)]
    for clip in clips:
        steps += [clip, WaitForQuiet()]
    return [*steps, HangUp()]


def impatient(clips: Sequence[Said], after: float) -> list[Step]:
    """Says each clip when the agent has been speaking for `after` seconds; hears the last answer
    out, then hangs up."""
    steps: list[Step] = []
    for clip in clips:
        patience = ANSWER_PATIENCE if steps else GREETING_PATIENCE
        steps += [WaitForSpeech(after, patience), clip]
    return [*steps, WaitForQuiet(ANSWER_PATIENCE if steps else GREETING_PATIENCE), HangUp()]


IsBusy = Callable[[float], bool]  # at that second of the call


def never(now: float) -> bool:
    return False


class CallerScript:
    """Steps being taken. After the last of them, or at the limit, the caller hangs up.

    `is_busy` tells that the agent is at work, as far as that is known: what is heard then, "Let me
    look that up", is not the answer, and nobody takes the silence after it for the end.
    """

    def __init__(self, steps: Sequence[Step], limit: float, is_busy: IsBusy = never) -> None:
        self._steps = [*steps, HangUp()]
        self._is_busy = is_busy
        self._pressed: list[str] = []
        self.limit = limit
        self._since = 0.0  # when the present step began
        self._said = 0  # bytes of its clip, or keys
        self.spoken: list[tuple[float, Speak]] = []  # (when it began, what), as begun
        self.out_of_time = False

    @property
    def saying(self) -> str:
        """The words of what is being said, or which keys are being pressed, if it is known."""
        match self._steps[0]:
            case Speak(text=text) if self._said:
                return text
            case Keys(keys=keys) if self._said:
                return f"(keys {keys})"
        return ""

    def take_keys(self) -> str:
        """Those that were pressed since the last time."""
        keys = "".join(self._pressed)
        self._pressed.clear()
        return keys

    def frame(self, now: float, agent: Spans) -> bytes | HangUp:
        """What the caller says in the 20 ms that begin now: a frame, or goodbye."""
        if now >= self.limit:
            self.out_of_time = True
            return HangUp()
        while True:
            step = self._steps[0]
            if isinstance(step, HangUp):
                return step
            if isinstance(step, Speak):
                if self._said < len(step.audio):
                    return self._say(step, now)
            elif isinstance(step, Keys):
                if not self._has_pressed(step, now):
                    return QUIET
            elif not self._is_over(step, now, agent):
                return QUIET
            del self._steps[0]
            self._since, self._said = now, 0

    def _say(self, clip: Speak, now: float) -> bytes:
        if not self._said:
            self.spoken.append((now, clip))
        frame = clip.audio[self._said : self._said + FRAME]
        self._said += FRAME
        return frame.ljust(FRAME, SILENCE)

    def _has_pressed(self, step: Keys, now: float) -> bool:
        """Presses what is due; whether that was all of them, and time for what comes next."""
        due = now - self._since >= self._said * step.every
        if due and self._said < len(step.keys):
            self._pressed.append(step.keys[self._said])
            self._said += 1
            return False
        return due

    def _is_over(self, step: WaitForQuiet | WaitForSpeech, now: float, agent: Spans) -> bool:
        if isinstance(step, WaitForQuiet) and self._is_busy(now):
            self._since = now
            return False
        if now - max(agent.last, self._since) >= step.patience:
            return True
        if agent.last <= self._since:
            return False
        if isinstance(step, WaitForQuiet):
            return now - agent.last >= step.silence
        if now - agent.last >= FINISHED:
            return True
        began = max(agent.spans[-1][0], self._since)
        return agent.last - began >= step.duration


def audible_part(clip: bytes) -> tuple[float, float]:
    """From when to when a clip is audible; all of it if nothing is."""
    heard = Spans()
    heard.add(clip)
    if not heard.spans:
        return 0.0, seconds(len(clip))
    return heard.spans[0][0], heard.last

"""A flight again: the same dialogue hears the same, when it did, and is answered as it was. Pure.

The same version does the same. Another may do something else: then each step tells both, what was
done and what is done now. From the first that differs on, what is heard is what was said to another
dialogue, so there it shows where they part and not what the call would have become.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from math import inf
from typing import Any

import msgspec

from sts_trio.audio.frames import SILENCE
from sts_trio.flight import compact
from sts_trio.flight.compact import NotOfThisVersion
from sts_trio.flight.file import BadFlight, Flight, Step
from sts_trio.flight.masking import Masking
from sts_trio.flight.recorder import (
    AUDIBLE,
    ELSEWHERE,
    EXPECTED,
    GREETS,
    RAISED,
    RELEASED,
    RETOLD,
    RETURNING,
    SAME,
    SAYABLE,
)
from sts_trio.logic.acts import Act, Tick
from sts_trio.logic.caller_audio import GAP
from sts_trio.logic.dialogue import Dialogue, SettingsWanted
from sts_trio.logic.perception import Perception
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.states import ClosingState, SessionState, StreamState
from sts_trio.wire import deepgram, deepgram_settings, twilio

_CLIPS = ("one_moment", "apology")
States = tuple[StreamState, SessionState, ClosingState]


class SettingsRaised(Exception):
    """So they did in the call."""


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """One step. Times are seconds since the call's begin.

    `passed`: bytes of the caller's that were just passed on before it. `woke_by`: whose deadline
    had come, if it was the clock. `was` is what was done, `acts` what is; `None`: it raised, and
    `raised` is what. `deadlines`: {who waits: until when}, of those that do.
    """

    number: int
    at: float
    passed: int
    heard: list[Any]
    woke_by: list[str]
    acts: list[Any] | None
    was: list[Any] | None
    raised: str | None
    before: States
    after: States
    deadlines: dict[str, float]

    @property
    def is_same(self) -> bool:
        return self.acts == self.was


class _Answers(Perception):
    """Those that were given. Where another version asks what was not asked, it is answered by what
    there is: no sound, and the words, unless they are masked."""

    __slots__ = ("_left", "_speaks_first", "is_masked", "wanted")

    def __init__(self, *, is_masked: bool) -> None:
        self.is_masked = is_masked
        self.wanted: SettingsWanted | None = None
        self._left = ""
        self._speaks_first = True

    def begin(self, answers: str) -> None:
        self._left = answers
        self.wanted = None

    def _next(self, question: str, otherwise: bool) -> bool:
        places = [self._left.find(each) for each in (question, question.upper())]
        found = [place for place in places if place >= 0]
        if not found:
            return otherwise
        place = min(found)
        answer = self._left[place].isupper()
        self._left = self._left[:place] + self._left[place + 1 :]
        return answer

    def settings(self, wanted: SettingsWanted) -> deepgram_settings.Settings:
        self.wanted = wanted
        if RAISED in self._left:
            raise SettingsRaised("the settings could not be made")
        self._speaks_first = self._next(GREETS, self._speaks_first)
        agent = {"greeting": "Hello."} if self._speaks_first else {}
        return deepgram_settings.Settings(deepgram_settings.AudioSettings(), agent)

    def is_expected(self, call_sid: str) -> bool:
        return self._next(EXPECTED, True)

    def can_say(self, message: deepgram.ToAgent) -> bool:
        return self._next(SAYABLE, True)

    def needs_release(self, start: twilio.StreamStart) -> bool:
        return self._next(RELEASED, False)

    def was_elsewhere(self, start: twilio.StreamStart) -> bool:
        return self._next(ELSEWHERE, False)

    def may_come_back(self, start: twilio.StreamStart) -> bool:
        return self._next(RETURNING, False)

    def is_audible(self, audio: bytes) -> bool:
        return self._next(AUDIBLE, False)

    def is_retold(self, text: str, whole: str | None) -> bool:
        by_words = super().is_retold(text, whole)
        return self._next(RETOLD, by_words) if self.is_masked else by_words

    def is_same(self, text: str, other: str | None) -> bool:
        by_words = super().is_same(text, other)
        return self._next(SAME, by_words) if self.is_masked else by_words


def replay(flight: Flight) -> Iterator[Replayed]:
    """Step by step. Ends where the call ended, or where a step raises.

    Raises:
        BadFlight: there is something in it that this version does not know.
    """
    return _Replay(flight).run()


def differences(flight: Flight) -> list[Replayed]:
    """The steps in which something else is done now. Raises `BadFlight`."""
    return [step for step in replay(flight) if not step.is_same]


class _Replay:
    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._answers = _Answers(is_masked=bool(flight.masked))
        self._masking = Masking(flight.masked, flight.sensitive)
        self.dialogue = Dialogue(
            self._answers.settings,
            is_expected=self._answers.is_expected,
            forward=flight.forward,
            now=flight.began,
            policy=_policy(flight.policy),
            can_say=self._answers.can_say,
            needs_release=self._answers.needs_release,
            was_elsewhere=self._answers.was_elsewhere,
            may_come_back=self._answers.may_come_back,
            perception=self._answers,
        )

    def run(self) -> Iterator[Replayed]:
        for number, step in enumerate(self._flight.steps, 1):
            try:
                replayed = self._take(number, step)
            except NotOfThisVersion as exc:
                raise BadFlight(f"step {number} is not of this version: {exc}") from None
            yield replayed
            if replayed.acts is None:
                return

    def _take(self, number: int, step: Step) -> Replayed:
        dialogue, began = self.dialogue, self._flight.began
        if step.passed is not None:
            self._pass_on(step.passed)
        batch = [compact.read_heard(each, dialogue.stream_sid) for each in step.heard]
        before = dialogue.states
        is_tick = any(isinstance(message, Tick) for message in batch)
        due = [name for name, at in dialogue.deadlines.items() if at <= step.now]
        self._answers.begin(step.answers)
        raised, acts = None, None
        try:
            acts = dialogue.hear(batch, step.now)
        except Exception as exc:  # a bug, which is what a replay is for
            raised = f"{type(exc).__name__}: {exc}"
        return Replayed(
            number=number,
            at=step.now - began,
            passed=0 if step.passed is None else int(step.passed[0]),
            heard=step.heard,
            woke_by=due if is_tick else [],
            acts=None if acts is None else self._written(acts, step.acts or []),
            was=step.acts,
            raised=raised,
            before=before,
            after=dialogue.states,
            deadlines={name: at - began for name, at in dialogue.deadlines.items() if at < inf},
        )

    def _written(self, acts: Sequence[Act], then: list[Any]) -> list[Any]:
        plain = compact.plain(compact.done(acts, self._answers.wanted))
        now = self._masking.values(plain)
        pairs = itertools.zip_longest(now, then[: len(now)])
        return [compact.as_then(act, was) for act, was in pairs]

    def _pass_on(self, passed: list[float]) -> None:
        """So much audio of the caller's, so that the ledger is as it was.

        How many pieces it came in is not known, and decides nothing but this: what is kept of what
        was forwarded is cut to a length whenever it is too long, so behind the last cut it is as
        long as what came since. Where some still waits to be forwarded, the first byte of that sets
        another deadline than the last.
        """
        size, last, given = int(passed[0]), passed[1] - GAP, int(passed[2])
        waiting, until = (int(passed[3]), passed[4]) if len(passed) > 3 else (0, inf)
        audio = self.dialogue.caller_audio
        waited = audio.waiting
        if waited and waiting == waited + size:
            self._speak(size, last)
            return
        since_cut = 0
        if given < audio.given + waited + size - waiting:
            since_cut = max(0, given - audio.keeps)
        self._speak(size - waiting - since_cut, last)
        self._speak(since_cut, last)
        if waiting:
            self._speak(1, _before(until, 2 * self._flight.forward))
            self._speak(waiting - 1, last)

    def _speak(self, size: int, now: float) -> None:
        if size > 0:
            self.dialogue.hear([compact.caller_speech(size, self.dialogue.stream_sid)], now)


def _before(deadline: float, delay: float) -> float:
    """The time to which a deadline was set, to the last bit."""
    time = deadline - delay
    for each in (time, math.nextafter(time, -inf), math.nextafter(time, inf)):
        if each + delay == deadline:
            return each
    return time


def _policy(written: dict[str, Any]) -> CallPolicy:
    try:
        given = msgspec.convert(
            {name: value for name, value in written.items() if name not in _CLIPS}, CallPolicy
        )
        clips = {name: SILENCE * int(written.get(name, 0)) for name in _CLIPS}
    except (msgspec.ValidationError, ValueError, TypeError) as exc:
        raise BadFlight(f"its policy is not of this version: {exc}") from None
    return msgspec.structs.replace(given, **clips)


def written_policy(policy: CallPolicy) -> dict[str, Any]:
    """For a flight."""
    written = msgspec.structs.asdict(policy)
    return {**written, **{name: len(written[name]) for name in _CLIPS}}

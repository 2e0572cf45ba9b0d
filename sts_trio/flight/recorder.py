"""What the dialogue of one call hears, and when, written down while it goes on.

Theory of operation
-------------------
A dialogue is pure: from what it hears, when, and what it is answered when it asks, all else
follows. So this is all that is written down, step by step, with the acts that came of each step, to
compare a replay with. A step is a hearing: its time, what was heard, the answers, the acts.

Nothing is written for the audio of a caller that is just passed on, which is nearly all there is to
hear: it moves nothing but the ledger of `caller_audio`. At the next step the ledger tells how much
there was, and when the last of it came. So the recorder costs nothing where a call is busy.

What is written is appended to a buffer. A full one is a lot, which waits as it is until it is
packed: elsewhere, as that takes longer than a step may. What there is of lots is bounded, for each
call and for the process. A flight that would outgrow that ends there: what follows could not be
replayed without what is before, so it is the begin that is kept.
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, NotRequired, TypedDict, Unpack

import msgspec

from sts_trio.flight import compact
from sts_trio.logic.acts import Act, Heard
from sts_trio.logic.dialogue import Dialogue, SettingsWanted, no_call
from sts_trio.logic.perception import Perception
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.session import Settings, speaks_first
from sts_trio.wire import deepgram, deepgram_settings, twilio

# Bytes of a lot: of a conversation half a minute, or one.
LOT = 8 * 1024
# Bytes of a call's lots: an hour of talk and more, once they are packed.
MAX_CALL = 2 * 1024 * 1024
# Of all calls of a process.
MAX_ALL = 64 * 1024 * 1024
# Bytes of one step. Who sends more in one go floods us.
MAX_STEP = 256 * 1024

# The questions that a dialogue asks, by a letter each: a large one stands for yes.
GREETS = "g"  # does the agent speak first, by these settings?
EXPECTED = "e"  # may that call be streamed here?
SAYABLE = "s"  # has the dialect words for it?
RELEASED = "r"  # has Twilio to be asked to end that phone call?
ELSEWHERE = "m"  # was that call in another process before?
RETURNING = "b"  # may a stream of that call that is cut come back?
AUDIBLE = "a"
RETOLD = "t"
SAME = "q"
RAISED = "!"  # instead of an answer

# An array of MessagePack's, the length of which is written when it is known.
_HEAD = b"\xdd\0\0\0\0"

_encoder = msgspec.msgpack.Encoder()


class Given(TypedDict):
    """What a dialogue is made with, beside its settings."""

    is_expected: Callable[[str], bool]
    forward: float
    now: float
    policy: CallPolicy
    can_say: Callable[[deepgram.ToAgent], bool]
    needs_release: Callable[[twilio.StreamStart], bool]
    was_elsewhere: NotRequired[Callable[[twilio.StreamStart], bool]]
    may_come_back: NotRequired[Callable[[twilio.StreamStart], bool]]


class Allowance:
    """The bytes that flights may take of a process's memory, together."""

    def __init__(self, most: int = MAX_ALL) -> None:
        self._left = most

    def take(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        self._left += size


class FlightRecorder(Perception):
    """Of one call, which is led by `dialogue`. The arguments are those of `Dialogue`. `put` is told
    of each lot that may be packed: what comes of it is for `replace`."""

    __slots__ = (
        "_allowance",
        "_answers",
        "_batch",
        "_buffer",
        "_count",
        "_heard",
        "_now",
        "_passed",
        "_put",
        "_settings",
        "_wanted",
        "_writer",
        "began_at",
        "dialogue",
        "given",
        "lots",
        "size",
        "stopped",
    )

    def __init__(
        self,
        settings: Settings,
        allowance: Allowance,
        began_at: float,
        put: "Callable[[FlightRecorder, int], None]" = lambda recorder, number: None,
        **given: Unpack[Given],
    ) -> None:
        self.began_at = began_at  # seconds since 1970
        self.given = given
        self.lots: list[bytes] = []  # packed, or not yet
        self.size = 0  # of these
        self._put = put
        self.stopped: str | None = None  # why nothing more is written
        self._allowance = allowance
        self._settings = settings
        self._writer = compact.Writer()
        self._buffer = bytearray(_HEAD)
        self._count = 0  # of the steps in it
        self._heard = 0  # of the caller's audio, up to the last step
        # Of the step that is under way:
        self._now = 0.0
        self._passed: Any = None
        self._batch: list[Any] | None = None
        self._answers = ""
        self._wanted: SettingsWanted | None = None
        self.dialogue = Dialogue(
            self._make_settings,
            is_expected=self._expects,
            forward=given["forward"],
            now=given["now"],
            policy=given["policy"],
            can_say=self._says,
            needs_release=self._releases,
            was_elsewhere=self._was_elsewhere,
            may_come_back=self._may_come_back,
            perception=self,
            witness=self,
        )

    # --- what the dialogue asks -----------------------------------------------------------------

    def _make_settings(self, wanted: SettingsWanted) -> deepgram_settings.Settings:
        self._wanted = wanted
        self._answers += RAISED
        settings = self._settings(wanted)
        self._answers = self._answers[:-1]
        self._note(GREETS, speaks_first(settings))
        return settings

    def _expects(self, call_sid: str) -> bool:
        return self._note(EXPECTED, self.given["is_expected"](call_sid))

    def _says(self, message: deepgram.ToAgent) -> bool:
        return self._note(SAYABLE, self.given["can_say"](message))

    def _releases(self, start: twilio.StreamStart) -> bool:
        return self._note(RELEASED, self.given["needs_release"](start))

    def _was_elsewhere(self, start: twilio.StreamStart) -> bool:
        return self._note(ELSEWHERE, self.given.get("was_elsewhere", no_call)(start))

    def _may_come_back(self, start: twilio.StreamStart) -> bool:
        return self._note(RETURNING, self.given.get("may_come_back", no_call)(start))

    def is_audible(self, audio: bytes) -> bool:
        return self._note(AUDIBLE, super().is_audible(audio))

    def is_retold(self, text: str, whole: str | None) -> bool:
        return self._note(RETOLD, super().is_retold(text, whole))

    def is_same(self, text: str, other: str | None) -> bool:
        return self._note(SAME, super().is_same(text, other))

    def _note(self, question: str, answer: bool) -> bool:
        self._answers += question.upper() if answer else question
        return answer

    # --- what it hears and does -----------------------------------------------------------------

    def hear(self, batch: Sequence[Heard], now: float) -> None:
        if self.stopped is not None:
            return
        self._batch = self._writer.heard(batch, self.dialogue.stream_sid)
        if self._batch is None:
            # What was said in another process is in the database, with what is to be forgotten.
            self._stop("what was before is another process's")
            return
        caller_audio = self.dialogue.caller_audio
        self._passed = None
        if passed := caller_audio.heard - self._heard:
            self._passed = [passed, caller_audio.gap_deadline, caller_audio.given]
            if caller_audio.batch_deadline < inf:
                self._passed += [caller_audio.waiting, caller_audio.batch_deadline]
        self._now = now

    def see(self, acts: Sequence[Act]) -> None:
        if self.stopped is None:
            self._write(compact.done(acts, self._wanted))
            self._heard = self.dialogue.caller_audio.heard
        self._answers = ""
        self._wanted = None

    def _write(self, acts: list[Any] | None) -> None:
        buffer, before = self._buffer, len(self._buffer)
        step = (self._now, self._passed, self._batch, self._answers, acts)
        self._batch = None
        try:
            try:
                _encoder.encode_into(step, buffer, -1)
            except OverflowError:
                del buffer[before:]
                _encoder.encode_into(compact.narrowed(step), buffer, -1)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as exc:
            # What the call's own code has told the agent may be no JSON.
            del buffer[before:]
            self._stop(f"a step cannot be written down: {exc}")
            return
        if len(buffer) - before > MAX_STEP:
            del buffer[before:]
            self._stop(f"a step takes more than {MAX_STEP} bytes")
            return
        self._count += 1
        if len(buffer) > LOT and self._end_lot():
            self._put(self, len(self.lots) - 1)

    def _end_lot(self) -> bool:
        """Whether there is another one."""
        if not self._count:
            return False
        lot, self._buffer = self._buffer, bytearray(_HEAD)
        lot[1 : len(_HEAD)], self._count = self._count.to_bytes(4, "big"), 0
        if self.size + len(lot) > MAX_CALL:
            self._stop(f"the flight of a call takes {MAX_CALL} bytes at most")
            return False
        if not self._allowance.take(len(lot)):
            self._stop("the flights of all calls take more memory than they may")
            return False
        self.lots.append(bytes(lot))
        self.size += len(lot)
        return True

    def replace(self, number: int, packed: bytes) -> None:
        """That lot is packed. Whoever has the lots of a call that is over has them as they were."""
        if self.lots:
            less = len(self.lots[number]) - len(packed)
            self.lots[number] = packed
            self.size -= less
            self._allowance.give_back(less)

    def _stop(self, why: str) -> None:
        self.stopped = why

    # --- the end --------------------------------------------------------------------------------

    def finish(self) -> None:
        """The call is over. A hearing that raised is the last step, without acts."""
        if self._batch is not None and self.stopped is None:
            self._write(None)
        self._end_lot()

    def forget(self, *, is_kept: bool = False) -> None:
        """The call is over. What is kept of it is somebody else's to give back."""
        if not is_kept:
            self._allowance.give_back(self.size)
        self.lots, self.size = [], 0
        self._buffer.clear()
        self._stop("the call is over")
        del self.dialogue  # it has us, and the two would outlive each other

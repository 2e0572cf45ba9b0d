"""How a call comes to its end. Pure.

Owns the ending from the moment there is one, and the state of the closing (`states.CLOSING`): first
the agent's goodbye is heard out, in a session that is live; without a session, what Twilio still
has to play, and our own last words. Never asks another part: what it needs to know is told to it,
what follows is returned.

A phone call that our webhook did not answer ends, and is transferred, only if Twilio is asked for
it (`needs_release`), which may fail. So the ending that was planned stands once that is done; until
then the call can go on.

A model mostly says goodbye after the function that ends the call, once it has that function's
answer. How it is heard out then: `hearing_out`.
"""

from math import inf

import msgspec

from sts_trio.errors import Cause, Ending
from sts_trio.logic.acts import CallReleased
from sts_trio.logic.hearing_out import LAST_WORDS_GRACE, HearingOut
from sts_trio.logic.states import CLOSING, ClosingInput, ClosingState

# From the function's answer to the first word of the goodbye: a model, then its voice.
WORDS_WITHIN = 4.0
# A goodbye that makes no progress.
MAX_GOODBYE_SECONDS = 15.0
# Ends of the phone call, not only of its stream.
_DELIBERATE = frozenset(
    {
        Cause.HUNG_UP,
        Cause.OPERATOR_HUNG_UP,
        Cause.TRANSFERRED,
        Cause.SILENCE,
        Cause.TIME_UP,
    }
)


class SayGoodbye(msgspec.Struct, frozen=True):
    """The agent has the last word: it is not to be cut, nor replaced."""


class LastWords(msgspec.Struct, frozen=True):
    """No agent any more. `clip` is to be played, behind what the caller has not heard yet."""

    clip: bytes


class Release(msgspec.Struct, frozen=True):
    """All is said: Twilio is to be asked for it. Then `released`."""

    ending: Ending

    @property
    def needs_agent(self) -> bool:
        """Whether there is something for the agent to say if it is not done."""
        return self.ending.cause is Cause.TRANSFERRED


class LetAgentGo(msgspec.Struct, frozen=True):
    """It is gone, while Twilio is being asked."""


class GoOn(msgspec.Struct, frozen=True):
    """The caller could not be transferred to `number`, and still has the agent."""

    number: str
    reason: str


class Over(msgspec.Struct, frozen=True):
    """Hang up."""

    ending: Ending


ClosingNews = SayGoodbye | LastWords | Release | LetAgentGo | GoOn | Over


class Closing:
    __slots__ = (
        "_ending",
        "_goodbye",
        "_last_words_deadline",
        "_left",
        "_protections",
        "is_open",
        "is_over",
        "needs_release",
        "state",
    )

    def __init__(self) -> None:
        self._enter(ClosingState.NO)
        self.needs_release = False  # whether Twilio has to be asked to end the phone call
        self._ending: Ending | None = None  # that is planned
        self._left: Ending | None = None  # the caller's, while Twilio was being asked
        self._goodbye: HearingOut | None = None
        self._last_words_deadline = inf
        self._protections = 0

    @property
    def is_goodbye(self) -> bool:
        """Whether the agent is being heard out."""
        return self._goodbye is not None

    @property
    def is_uninterruptible(self) -> bool:
        """Whether what the agent says is to be heard to the end, whatever the caller does."""
        is_leaving = self._goodbye is not None or self.state is ClosingState.RELEASING
        return self._protections > 0 or is_leaving

    def protect(self, *, is_over: bool) -> None:
        """From now on, or (`is_over`) no longer, for as many times as it was asked for."""
        self._protections += -1 if is_over else 1

    def deadline(self, now: float) -> float:
        """When to `settle` again, unless something is heard before."""
        if self._goodbye is not None:
            return self._goodbye.deadline(now)
        return self._last_words_deadline

    def _enter(self, state: ClosingState) -> None:
        self.state = state
        # Both are asked of nearly every message.
        self.is_open = state is ClosingState.NO  # the call goes on as ever
        self.is_over = state is ClosingState.OVER

    # --- what brings a call to its end ----------------------------------------------------------

    def close(self, ending: Ending, now: float, *, is_live: bool) -> ClosingNews | None:
        """The agent, the call's own code or a limit ends the call."""
        on = ClosingInput.CLOSE if is_live else ClosingInput.CLOSE_WITHOUT_SESSION
        return self._go(on, ending, now)

    def session_down(self, ending: Ending, apology: bytes, now: float) -> ClosingNews | None:
        """There is no agent any more, and there will be none."""
        on = ClosingInput.DOWN
        if apology and ClosingInput.DOWN_APOLOGY in CLOSING[self.state]:
            on = ClosingInput.DOWN_APOLOGY
        return self._go(on, ending, now, apology)

    def session_finished(self, ending: Ending, now: float, *, is_heard: bool) -> ClosingNews | None:
        """The agent has ended its session in good order. `is_heard`: the caller has heard it."""
        on = ClosingInput.FINISHED if is_heard else ClosingInput.FINISHED_UNHEARD
        return self._go(on, ending, now)

    def end(self, ending: Ending, now: float) -> ClosingNews | None:
        """There is nobody left to hear anything, no time, or an operator: whatever was planned."""
        if self.state is ClosingState.RELEASING and ending.cause is not Cause.SHUTDOWN:
            self._left = self._left or ending
            return self._go(ClosingInput.LEFT, ending, now)
        self._ending = None
        return self._go(ClosingInput.END, ending, now)

    # --- what comes of asking Twilio ------------------------------------------------------------

    def released(
        self, released: CallReleased, apology: bytes, now: float, *, is_live: bool
    ) -> ClosingNews | None:
        """It is done, or could not be. `is_live`: the agent is there."""
        planned = self._ending
        if self.state is not ClosingState.RELEASING or planned is None:
            return None
        on, ending = ClosingInput.RELEASED, planned
        if planned.cause is not Cause.TRANSFERRED:
            if released.failure and self._left is None:
                ending = Ending(Cause.NOT_HUNG_UP, released.failure)
        elif released.failure or released.was_over:
            ending = self._left or Ending(Cause.STOP)
            if released.failure and self._left is None:
                ending = Ending(Cause.NOT_TRANSFERRED, released.failure)
                on = ClosingInput.APOLOGISE if apology else on
                on = ClosingInput.GO_ON if is_live else on
        self._ending = None
        if on is ClosingInput.GO_ON:
            self._enter(CLOSING[self.state][on])
            return GoOn(planned.detail, released.failure)
        return self._go(on, ending, now, apology)

    # --- what is heard of the last words --------------------------------------------------------

    def wait_for_words(self, now: float) -> None:
        """The agent has just been given something to answer."""
        if self._goodbye is not None:
            self._goodbye.wait_for_words(now)

    def hear_words(self, until: float) -> None:
        """Something is to be heard until then."""
        if self._goodbye is not None:
            self._goodbye.hear_words(until)
        elif self.state is ClosingState.LAST_WORDS:
            deadline = until + LAST_WORDS_GRACE
            self._last_words_deadline = max(self._last_words_deadline, deadline)

    def hear_end_of_words(self) -> None:
        """The agent has said what it had to say."""
        if self._goodbye is not None:
            self._goodbye.is_said = True

    def settle(self, now: float, *, is_heard: bool) -> ClosingNews | None:
        """After all that was heard. `is_heard`: the caller has heard all there is."""
        on = ClosingInput.HEARD if is_heard else ClosingInput.TIMEOUT
        if on not in CLOSING[self.state]:
            return None
        if self._goodbye is not None:
            is_over = self._goodbye.is_over(now, is_heard)
        else:
            is_over = is_heard or now >= self._last_words_deadline
        assert self._ending is not None
        return self._go(on, self._ending, now) if is_over else None

    def _go(
        self, on: ClosingInput, ending: Ending, now: float, apology: bytes = b""
    ) -> ClosingNews | None:
        to = CLOSING[self.state].get(on)
        if to is None:
            return None
        # The first ending stands: a session that is lost while it says goodbye is no fault.
        ending = self._ending or ending
        if to is ClosingState.RELEASING:
            return None if on is ClosingInput.LEFT else LetAgentGo()
        release = CLOSING[self.state].get(ClosingInput.RELEASE)
        # Of a server that goes away the caller has been told, or there is no time for anything.
        is_told = ending.cause is Cause.SHUTDOWN and on is not ClosingInput.END
        is_deliberate = is_told or ending.cause in _DELIBERATE
        if to is ClosingState.OVER and self.needs_release and is_deliberate:
            to = release or to
        self._enter(to)
        self._goodbye = None
        self._last_words_deadline = inf
        if to is ClosingState.OVER:
            return Over(ending)
        if to is ClosingState.RELEASING:
            self._ending = ending
            return Release(ending)
        if to is ClosingState.GOODBYE:
            self._ending = ending
            self._goodbye = HearingOut.begin(now, WORDS_WITHIN, MAX_GOODBYE_SECONDS)
            return SayGoodbye()
        apologises = on in (ClosingInput.DOWN_APOLOGY, ClosingInput.APOLOGISE)
        clip = apology if apologises else b""
        self._ending = msgspec.structs.replace(ending, apologised=bool(clip))
        self._last_words_deadline = now + LAST_WORDS_GRACE
        return LastWords(clip)

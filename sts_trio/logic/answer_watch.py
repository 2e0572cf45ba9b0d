"""What the agent owes the caller, and for how long the caller has heard nothing meanwhile. Pure.

An agent may be connected and mute: its model hangs, its voice fails, it waits for something that
will not come. While it owes something, two clocks run.

The caller's runs while nothing is to be heard, whoever is at fault. Each time it has come to
`within` seconds, a word is due. Only sound sets it back: neither another question of the caller's
nor a sign of life of the agent's does. While the caller is to be heard speaking, it stands still.

The agent's runs while the next move is the agent's, so not while a function of ours runs. When it
has come to `PATIENCE` times `within`, the session is given up. A sign of life sets it back, up to
`LONGEST_THOUGHT`. After `MAX_MUTE` sessions in a row that were given up there is no other: to say
words of ours takes a voice and no model, so an agent that does is not in that row the less.
"""

import enum
from math import inf

import msgspec

# A fresh session is a last resort: what the agent has thought of so far is lost with the old one.
PATIENCE = 3
# Reasoning models take half a minute at times, and Deepgram warns every five seconds of it.
LONGEST_THOUGHT = 60.0
# As many times as a lost agent is dialled again within a minute.
MAX_MUTE = 2
# What a noise has cut off is to go on; the caller's words would have come by then.
GO_ON_AFTER = 3.0
# Between two words of somebody who is speaking.
PAUSE = 0.7
# Warnings of an agent that is late, or tries the next of its providers.
# Source: developers.deepgram.com/docs/voice-agent-errors-warnings, read 2026-11-22.
SIGNS_OF_LIFE = frozenset(
    {
        "SLOW_THINK_REQUEST",
        "SLOW_SPEAK_REQUEST",
        "THINK_REQUEST_FAILED",
        "SPEAK_REQUEST_FAILED",
    }
)


class Debt(enum.Enum):
    """What is owed."""

    SESSION = "a session"  # there is none, or it is not live yet
    GREETING = "a greeting"
    ANSWER = "an answer"  # to words of the caller's
    REPLY = "a reply"  # to what was said in the caller's name
    SAY_AGAIN = "a request to say it again"  # in words of ours
    QUESTION = "a question"  # of ours, to a caller who is silent
    RESULT = "the result of a function"
    REST = "the rest of what a noise has cut"


# What the agent has not begun to owe before: its clock begins with these.
_FRESH = {Debt.SESSION, Debt.REST}


class Due(enum.Enum):
    """What is to be done for a caller who hears nothing."""

    GO_ON = enum.auto()  # ask the agent to go on with what was cut
    WORDS = enum.auto()  # let the caller hear something
    FRESH_SESSION = enum.auto()  # this one is mute: give it up
    NO_SESSION = enum.auto()  # the same, and there were enough of them


class Mute(msgspec.Struct, frozen=True):
    """News, the first time a word is due for a debt."""

    debt: Debt
    seconds: float


class AnswerWatch:
    """`within`: seconds that a caller may hear nothing; `inf`: nothing is watched."""

    __slots__ = (
        "_agent_since",
        "_has_told",
        "_is_amid",
        "_is_busy",
        "_mute_sessions",
        "_owed_since",
        "_sign_at",
        "_silent_since",
        "_told_at",
        "_voice_left",
        "_wants_rest",
        "_within",
        "debt",
        "is_listening",
        "is_overdue",
        "longest",
    )

    def __init__(self, within: float) -> None:
        self.debt: Debt | None = None
        self.is_listening = False  # wants to know whether the caller is to be heard
        self.is_overdue = False  # there is no session, and the last one owed something
        self.longest = 0.0  # seconds of silence while something was owed
        self._within = within
        self._silent_since = inf  # the caller's clock; `inf`: nobody waits for anything
        self._told_at = -inf  # when the newest word of ours ended, be there a clip for it or not
        self._agent_since = inf  # the agent's clock
        self._owed_since = inf
        self._sign_at = -inf
        self._is_busy = False  # a function of ours runs
        self._is_amid = False  # what the agent says belongs to what it said before the debt
        self._wants_rest = False  # nobody has asked the agent to go on yet
        self._has_told = False  # of this debt
        self._mute_sessions = 0  # in a row
        self._voice_left = 0.0  # seconds that the caller may still speak

    @property
    def is_owing(self) -> bool:
        return self.debt is not None

    @property
    def is_waiting(self) -> bool:
        """Whether the caller waits to hear something, owed or worked on."""
        return self._silent_since < inf

    @property
    def deadline(self) -> float:
        if self._silent_since == inf:
            return inf
        return min(self._words_at, self._rest_at, self._give_up_at)

    @property
    def _words_at(self) -> float:
        return max(self._silent_since, self._told_at) + self._within

    @property
    def _rest_at(self) -> float:
        is_wanted = self._wants_rest and self.debt is Debt.REST and not self._is_busy
        return self._agent_since + GO_ON_AFTER if is_wanted else inf

    @property
    def _give_up_at(self) -> float:
        if self.debt in (None, Debt.SESSION) or self._is_busy:
            return inf
        patience = PATIENCE * self._within
        latest = self._owed_since + max(patience, LONGEST_THOUGHT)
        return min(max(self._agent_since, self._sign_at) + patience, latest)

    # --- what is owed ---------------------------------------------------------------------------

    def owe(self, debt: Debt, now: float, plays_until: float, *, is_amid: bool = False) -> bool:
        """From now on the agent owes this; returns whether that is news.

        The caller has something to hear until `plays_until`. `is_amid`: the agent is saying
        something, which is not it.
        """
        if self._within == inf:
            return False
        before, since = self.debt, max(now, plays_until)
        if self._silent_since == inf or (before is Debt.REST and debt is Debt.ANSWER):
            self._silent_since = since
        if before is None or before in _FRESH or debt is Debt.RESULT:
            self._agent_since = self._owed_since = since
            self._sign_at = -inf
        if before is not None and before not in _FRESH and debt in (Debt.REPLY, Debt.SAY_AGAIN):
            return False
        if debt is Debt.ANSWER:
            self.is_listening = False
        if debt is not Debt.SESSION:
            self.is_overdue = False
        elif before not in (None, Debt.SESSION):
            self.is_overdue = True
        self.debt = debt
        self._is_amid = is_amid
        self._wants_rest = debt is Debt.REST
        return debt is not before

    def forgive(self, now: float) -> None:
        """Nothing is owed after all."""
        self._note_silence(now)
        self.debt = None
        self._has_told = self.is_listening = self.is_overdue = False
        self._silent_since = now if self._is_busy else inf

    def close(self, now: float) -> None:
        """The call is ending: nothing is owed any more."""
        self._is_busy = False
        self.forgive(now)
        self._within = inf

    def reopen(self, within: float) -> None:
        """It goes on after all."""
        self._within = within

    def run_function(self, now: float, plays_until: float, *, is_running: bool) -> None:
        """Whether a function of ours runs: the caller waits as well, but not for the agent."""
        if is_running is self._is_busy or self._within == inf:
            return
        self._is_busy = is_running
        since = max(now, plays_until)
        if self.debt is not None:
            self._agent_since = since
        elif is_running:
            self._silent_since = since
        else:
            self.forgive(now)

    # --- what is heard --------------------------------------------------------------------------

    def hear_sound(self, now: float) -> None:
        """The agent is to be heard: that is it, unless it belongs to what came before."""
        self._note_silence(now)
        self._silent_since = now
        if self._is_amid:
            return
        if self.debt is not Debt.SAY_AGAIN:
            self._mute_sessions = 0
        self.forgive(now)

    def hear_next(self) -> None:
        """What the agent says from here on is no longer what it was saying when it owed this."""
        self._is_amid = False

    def hear_sign(self, now: float) -> None:
        """The agent is at work on it."""
        self._sign_at = now

    def hear_warning(self, code: str, now: float) -> None:
        if code in SIGNS_OF_LIFE:
            self.hear_sign(now)

    def hear_playing(self, now: float, plays_until: float) -> None:
        """The caller has something to hear until then, of whomever."""
        if self._silent_since < plays_until:
            self._note_silence(now)
            self._silent_since = plays_until

    def hear_cut(self, now: float) -> None:
        """They have nothing to hear any more, words of ours neither."""
        self._told_at = min(self._told_at, now)
        if self._silent_since < inf:
            self._silent_since = min(self._silent_since, now)

    def hear_rest(self, now: float, plays_until: float, *, is_whole: bool) -> None:
        """What was cut is played on until then; if it `is_whole`, nothing more is owed."""
        self.hear_playing(now, plays_until)
        if self.debt is Debt.REST:
            self._agent_since = self._owed_since = plays_until
            if is_whole:
                self.forgive(now)

    def hear_turn(self, *, is_over: bool) -> None:
        """The caller begins to speak, or it was but a noise; or (`is_over`) no longer does."""
        self.is_listening = not is_over and self.is_waiting
        self._voice_left = PATIENCE * self._within

    def hear_voice(self, now: float, seconds: float) -> None:
        """The caller is to be heard, for so long. A noise that never ends counts for a while."""
        self._voice_left -= seconds
        if self._voice_left < 0:
            self.is_listening = False
            return
        if self.debt is Debt.REST:
            self._silent_since = self._agent_since = now
            return
        # Who asks "hello?" again and again is waiting still.
        pause_ends = now + PAUSE
        self._silent_since = max(self._silent_since + seconds, pause_ends - self._within)
        self._agent_since += seconds

    def hear_words(self, now: float, plays_until: float) -> None:
        """A word of ours is played, until then."""
        self.hear_playing(now, plays_until)
        self._told_at = max(now, plays_until)

    # --- time -----------------------------------------------------------------------------------

    def mute(self, now: float) -> Mute | None:
        """To be asked when words are due."""
        if self.debt is None or self._has_told:
            return None
        self._has_told = True
        return Mute(self.debt, now - self._silent_since)

    def due(self, now: float) -> Due | None:
        """The next thing whose time has come, once; words until `hear_words`."""
        if now >= self._give_up_at:
            self._mute_sessions += 1
            is_last = self._mute_sessions > MAX_MUTE
            return Due.NO_SESSION if is_last else Due.FRESH_SESSION
        if now >= self._rest_at:
            self._wants_rest = False
            return Due.GO_ON
        return Due.WORDS if now >= self._words_at else None

    def _note_silence(self, now: float) -> None:
        self.longest = max(self.longest, now - self._silent_since)

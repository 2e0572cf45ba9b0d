"""Who speaks, what of it is heard, and what was said: the turns of the conversation. Pure.

Owns what the agent says to the caller (`agent_audio`, with its `playout`), the conversation so far
(`history`), and what must not be lost when a session is: a question that the agent had not answered
is asked anew of the next one, and a greeting that was not begun is still to be said.
"""

from math import inf
from typing import Any

import msgspec

from sts_trio.audio.frames import SILENT
from sts_trio.logic.acts import TurnHeard
from sts_trio.logic.agent_audio import AgentAudio
from sts_trio.logic.history import History, completed_call
from sts_trio.logic.playout import Echo, Playout
from sts_trio.logic.spelling import is_retold
from sts_trio.logic.states import Violation
from sts_trio.wire import deepgram, twilio

# Noise begins a turn as speech does, and may never end it. Nobody talks longer without a word that
# is understood.
MAX_TURN_SECONDS = 60.0
# A noise has cut what was being said, and words of the caller's would have come by now. Deepgram
# tells them at the end of a turn, so whoever is to be heard speaking is waited for: for a pause,
# and no longer than a caller bears silence.
RESUME_AFTER = 1.2
RESUME_PAUSE = 0.6
RESUME_AT_LATEST = 4.0
# Nobody talks into a noise that comes again and again.
MAX_RESUMES = 5
# How many sessions a question may be asked of that die of an error. The first may have been chance.
MAX_DEATHS = 2


class Cut(msgspec.Struct, frozen=True):
    """`size` bytes that Twilio had are not to be heard any more. `messages` are for Twilio, and
    what is on its way there has to be flushed before. `is_amid`: something was being said."""

    size: int
    is_amid: bool
    messages: list[twilio.ToCaller]
    turns: list[TurnHeard]


class Played(msgspec.Struct, frozen=True):
    """A mark came back: `turns` have been heard to their end. `silent_after`: how many seconds it
    took until a cut was silence, if it is this mark that tells."""

    turns: list[TurnHeard]
    silent_after: float | None


class Resumed(msgspec.Struct, frozen=True):
    """What was cut is played on: `seconds` of it; `is_whole`: there is no more to come."""

    seconds: float
    is_whole: bool
    messages: list[twilio.ToCaller]


class Turns:
    __slots__ = (
        "_agent_audio",
        "_deaths",
        "_echo",
        "_has_past",
        "_history",
        "_is_proven",
        "_is_resumed",
        "_resume_by",
        "_resumes",
        "_suspect",
        "_to_shed",
        "_unanswered",
        "agent_bytes",
        "barge_ins",
        "greets",
        "is_given_up",
        "resume_at",
        "resumed",
        "sounds_until",
        "user_speaks_until",
    )

    def __init__(self, *, resumes: bool = False) -> None:
        self.agent_bytes = 0  # all the agent's audio that came
        self.barge_ins = 0  # by the caller, those that cut something
        self.greets = True  # the next session is to begin with the agent's greeting
        self.resumed = 0  # utterances that a noise had cut
        self.resume_at = inf  # what was cut is to be played on then
        self._resume_by = inf  # at the latest
        self._resumes = 0  # in a row
        self._is_resumed = False  # and it is being played
        self._agent_audio = AgentAudio(keeps_rest=resumes)
        self._history = History()
        # As `plays_until`, but there is more to be heard than an agent's silence.
        self.sounds_until = -inf
        self.user_speaks_until = -inf  # at the latest
        self._unanswered: str | None = None  # see `History.unanswered`; for the next session
        self._suspect: str | None = None  # a question after which a session died
        self._deaths = 0  # and how many did in a row
        # So many that it is not asked anew: the caller is to say it in other words.
        self.is_given_up = False
        self._has_past = False  # the session was told of one
        self._is_proven = False  # and was heard since
        self._to_shed = 0  # how often the past is to become less
        self._echo: str | None = None  # what we say in the caller's name is told back to us

    @property
    def playout(self) -> Playout:
        """What the caller has heard of the agent, and what not."""
        return self._agent_audio.playout

    @property
    def plays_until(self) -> float:
        """Until when the caller has something to hear, by the clock alone."""
        return self._agent_audio.plays_until

    @property
    def dropped_bytes(self) -> int:
        """Of the agent's audio, what was too far ahead of the caller."""
        return self._agent_audio.dropped

    @property
    def is_amid_utterance(self) -> bool:
        return self._agent_audio.is_amid_utterance

    @property
    def is_heard(self) -> bool:
        """Whether the caller has heard everything, and no utterance is under way."""
        return self._agent_audio.is_heard

    def is_quiet(self, now: float) -> bool:
        """Whether nobody speaks, and no answer is due."""
        return self.is_heard and now >= self.user_speaks_until and self._history.unanswered is None

    def begin(self, stream_sid: str) -> None:
        """The caller can be told something."""
        self._agent_audio.stream_sid = stream_sid

    # --- the agent's turn -----------------------------------------------------------------------

    def hear_audio(self, audio: bytes, now: float) -> list[twilio.ToCaller]:
        """The agent's."""
        agent_audio = self._agent_audio
        self.agent_bytes += len(audio)
        if agent_audio.is_stale(now):
            if agent_audio.rest:
                agent_audio.rest.add(audio)
            return []
        if agent_audio.rest:
            self.drop_rest()  # it says something else
        silent = 0 if audio.strip(SILENT) else len(audio)
        self._history.hear_audio(agent_audio.playout.sent, silent)
        messages = agent_audio.say(audio, now)
        if not silent:
            self.sounds_until = agent_audio.plays_until
            self.greets = False
            if not self._is_proven:
                self._is_proven, self._suspect, self.is_given_up = True, None, False
        return messages

    def hear_agent(self, text: str, now: float) -> TurnHeard | None:
        """A sentence of the agent's. If it is of a turn that was cut, on its way when it was, it is
        told at once that nobody hears it."""
        if self._agent_audio.is_stale(now):
            if self._agent_audio.rest:
                self._history.hear_unheard(text)
            return TurnHeard(text, "", 0.0, 0.0)
        self.drop_rest()
        self._agent_audio.is_amid_utterance = True
        self._history.hear_agent(text, self.playout.sent)
        return None

    def next_turn(self) -> None:
        """A sign that what the agent says from here on belongs to a new turn."""
        self._agent_audio.next_turn()
        self.drop_rest()

    def finish_utterance(self, now: float) -> list[twilio.ToCaller]:
        messages = self._agent_audio.finish(now)
        self._history.finish(self.playout.sent)
        return messages

    def play(self, clip: bytes, now: float) -> list[twilio.ToCaller]:
        """Our own audio, whole frames."""
        self._history.insert(len(clip))
        messages = self._agent_audio.insert(clip, now)
        if clip:
            self.sounds_until = self._agent_audio.plays_until
        return messages

    def hear_mark(self, name: str, now: float) -> Played | Violation | None:
        match self.playout.echo(name):
            case Echo.HEARD:
                turns = self._history.hear_mark(self.playout.position, self.playout.sent)
                return Played(turns, self._agent_audio.silent_after(name, now))
            case Echo.NEVER_SENT:
                return Violation("a mark we never sent")
        return None

    # --- the caller's turn ----------------------------------------------------------------------

    def hear_user_speaks(self, now: float) -> Cut | None:
        """The caller speaks up, and cuts what is being said, unless that is uninterruptible."""
        self.user_speaks_until = now + MAX_TURN_SECONDS
        if self._agent_audio.is_protected:
            return None
        cut = self._cut(now)
        self.barge_ins += cut.size > 0
        if self._agent_audio.rest and self._resumes < MAX_RESUMES:
            self._resume_by = min(self._resume_by, now + RESUME_AT_LATEST)
            self.resume_at = min(now + RESUME_AFTER, self._resume_by)
        else:
            self.drop_rest()
        return cut

    # --- what a noise has cut -------------------------------------------------------------------

    @property
    def is_holding(self) -> bool:
        """Whether there is a rest that may be played on, so whoever speaks now is of interest."""
        return self.resume_at < inf

    def hear_voice(self, now: float) -> None:
        """The caller is to be heard."""
        self.resume_at = min(max(self.resume_at, now + RESUME_PAUSE), self._resume_by)

    def resume(self, now: float) -> Resumed:
        """It was but a noise: what it has cut is played on."""
        assert self._agent_audio.rest is not None
        is_whole = self._agent_audio.rest.is_whole
        self._history.resume(self.playout.sent)
        duration, messages = self._agent_audio.resume(now)
        if is_whole:
            self._history.finish(self.playout.sent)
        self.sounds_until = self._agent_audio.plays_until
        self.resume_at = self._resume_by = inf
        self.resumed += 1
        self._resumes += 1
        self._is_resumed = True
        return Resumed(duration, is_whole, messages)

    def drop_rest(self) -> None:
        """Something else has begun."""
        self.resume_at = self._resume_by = inf
        if self._agent_audio.rest:
            self._agent_audio.rest.drop()

    def hear_words_after_all(self, now: float) -> Cut | None:
        """The noise was the beginning of words, and what is played on is not to be heard."""
        if not self._is_resumed or self._agent_audio.is_protected or not self.playout.unheard:
            return None
        cut = self._cut(now)
        self.drop_rest()
        return cut

    def hear_user(self, text: str) -> bool:
        """A sentence of the caller's; `False`: we had said it in their name, long ago."""
        self.next_turn()
        self._resumes = 0
        self._is_resumed = False
        if self._echo is not None and is_retold(text, self._echo):
            self._echo = None
            return False
        self.greets = self.is_given_up = False
        self.user_speaks_until = -inf
        self._history.hear_user(text)
        return True

    def end_user_turn(self) -> None:
        self.user_speaks_until = -inf
        self.next_turn()

    def be_uninterruptible(self, on: bool) -> None:
        self._agent_audio.is_protected = on

    def make_room(self, now: float) -> Cut | None:
        """What comes next is not to wait behind what Twilio has, unless that must be heard."""
        if self._agent_audio.is_heard or self._agent_audio.is_protected:
            return None
        cut = self._cut(now)
        self.next_turn()
        return cut

    def _cut(self, now: float) -> Cut:
        self._is_resumed = False
        position, sent = self.playout.position, self.playout.sent
        is_amid = self.is_amid_utterance
        size, messages = self._agent_audio.cut(now)
        self.sounds_until = min(self.sounds_until, now)
        return Cut(size, is_amid or size > 0, messages, self._history.cut(position, sent))

    def end(self) -> list[TurnHeard]:
        """Nobody hears anything any more."""
        return self._history.cut(self.playout.position, self.playout.sent)

    # --- from one session to the next -----------------------------------------------------------

    def add_function(
        self,
        function: deepgram.FunctionToCall,
        response: str | None = None,
        *,
        is_late: bool = False,
    ) -> None:
        """A function was called; without a response, none is known."""
        self._history.call_function(completed_call(function, response), is_late=is_late)

    def brief(self) -> list[dict[str, Any]]:
        """What a fresh session is told of the conversation: `agent.context.messages`."""
        if self.greets and self._unanswered:
            # An agent that introduces itself does not begin with an answer, but has to know the
            # question.
            self._history.hear_user(self._unanswered)
            self._unanswered = ""
        for _ in range(self._to_shed):
            self._history.shed()
        self._to_shed = 0
        messages = self._history.messages()
        self._has_past = bool(messages)
        return messages

    @property
    def owes_answer(self) -> bool:
        """Whether the caller has asked something to which nothing has been heard."""
        return self._history.unanswered is not None and not self._history.is_heard_speaking

    def blame(self, *, is_live: bool) -> bool:
        """The session died of something that it was told; returns whether the next one will be
        told less. `is_live`: it had been told what was not answered."""
        is_less = self._has_past and not self._is_proven
        self._to_shed += is_less
        question = self._history.unanswered
        if is_live and question is not None:
            self._deaths = self._deaths + 1 if question == self._suspect else 1
            self._suspect = question
            if self._deaths >= MAX_DEATHS:
                self.is_given_up = is_less = True
        return is_less

    def take_unanswered(self) -> str | None:
        """The question that the last session took with it; `""`: it cannot be asked anew, but the
        agent is to go on; `None`: it is not the agent's turn. Taken once, it is not asked again."""
        unanswered, self._unanswered = self._unanswered, None
        return unanswered

    def ask_anew(self, question: str, asked: str | None) -> None:
        """It is being `asked` in the caller's name; `None`: there are no words for that. Remembered
        at once: the session may be lost before it has told it back to us."""
        self._echo = asked
        if text := asked or question:
            self._history.hear_user(text)
            if self._suspect is not None:
                self._suspect = text

    def close_session(self, now: float) -> list[twilio.ToCaller]:
        """What the agent was saying is over. After `add_function` of what it interrupted."""
        if self._unanswered is None:
            self._unanswered = self._history.unanswered
            self._history.finish(self.playout.sent)
            if self._unanswered:
                self._history.forget_last()  # it is asked anew
        if self.is_given_up:
            self._unanswered = self._suspect = None
        self._is_proven = self._has_past = False
        self.user_speaks_until = -inf
        self._echo = None
        self.drop_rest()
        return self.finish_utterance(now)

"""Who speaks, what of it is heard, and what was said: the turns of the conversation. Pure.

Owns what the agent says to the caller (`agent_audio`, with its `playout`), the conversation so far
(`history`), and what must not be lost when a session is (`carryover`); a greeting that was not
begun is still to be said. What was cut is held for a moment, as it may be but a noise that did.
"""

import sys
from math import inf
from typing import Any

import msgspec

from sts_trio.audio import wav
from sts_trio.audio.frames import SILENT
from sts_trio.logic.acts import Recalled
from sts_trio.logic.agent_audio import STALE_AFTER_KEY, STALE_AUDIO, AgentAudio
from sts_trio.logic.asked import turn_after
from sts_trio.logic.carryover import Carryover
from sts_trio.logic.history import History, completed_call
from sts_trio.logic.perception import PERCEPTION, Perception
from sts_trio.logic.playout import Echo
from sts_trio.logic.rest import Hold
from sts_trio.logic.states import BACK_WITHIN, Violation
from sts_trio.observe.events import CallHeard
from sts_trio.wire import deepgram, twilio

# Noise begins a turn as speech does, and may never end it. Nobody talks longer without a word that
# is understood.
MAX_TURN_SECONDS = 60.0


class Cut(msgspec.Struct, frozen=True):
    """`size` bytes that Twilio had are not to be heard any more. `messages` are for Twilio, and
    what is on its way there has to be flushed before. `is_amid`: something was being said."""

    size: int
    is_amid: bool
    messages: list[twilio.ToCaller]
    turns: list[CallHeard]


class Played(msgspec.Struct, frozen=True):
    """A mark came back: `turns` have been heard to their end. `silent_after`: how many seconds it
    took until a cut was silence, if it is this mark that tells."""

    turns: list[CallHeard]
    silent_after: float | None


class Resumed(msgspec.Struct, frozen=True):
    """What was cut is played on: `seconds` of it; `is_whole`: there is no more to come."""

    seconds: float
    is_whole: bool
    messages: list[twilio.ToCaller]


class Turns:
    __slots__ = (
        "_header",
        "_history",
        "_is_resumed",
        "_may_have_header",
        "agent_audio",
        "agent_bytes",
        "barge_ins",
        "carryover",
        "greets",
        "has_dropped",
        "hold",
        "sounds_until",
        "user_speaks_until",
    )

    def __init__(self, *, resumes: bool = False, perception: Perception = PERCEPTION) -> None:
        self.agent_bytes = 0  # all the agent's audio that came
        self.has_dropped = False  # of what came last, what was too far ahead of the caller
        self.barge_ins = 0  # by the caller, those that cut something
        self.greets = True  # the next session is to begin with the agent's greeting
        self.hold = Hold()
        self._is_resumed = False  # what a noise had cut is being played
        self.agent_audio = AgentAudio(keeps_rest=resumes)
        self._may_have_header = True  # what comes next of the agent's audio: it begins
        self._header = b""  # of a WAV file, as far as it came
        self._history = History()
        self.carryover = Carryover(self._history, perception)
        # As `plays_until`, but there is more to be heard than an agent's silence.
        self.sounds_until = -inf
        self.user_speaks_until = -inf  # at the latest

    def is_quiet(self, now: float) -> bool:
        """Whether nobody speaks, and no answer is due."""
        is_silent = self.agent_audio.is_heard and now >= self.user_speaks_until
        return is_silent and self._history.unanswered is None

    def recall(self, past: Recalled) -> None:
        """The conversation began in another process."""
        self._history = History.restored((*past.told, *past.settled))
        # Nothing is left, unless rows were lost: no mark of this stream is to settle it.
        self._history.hear_mark(sys.maxsize, sys.maxsize)
        self.carryover.recall(self._history, is_cut=past.is_cut)
        self.greets = past.greets

    # --- the agent's turn -----------------------------------------------------------------------

    def hear_audio(self, audio: bytes, now: float) -> list[twilio.ToCaller]:
        """The agent's."""
        if self._may_have_header:
            if self._header or audio[:4] == b"RIFF":
                audio = self._behind_header(audio)
                if not audio:
                    return []
            else:
                self._may_have_header = False
        agent_audio = self.agent_audio
        self.agent_bytes += len(audio)
        if agent_audio.is_stale(now):
            if agent_audio.rest:
                agent_audio.rest.add(audio)
            return []
        if (rest := agent_audio.rest) is not None and rest.held:
            self.drop_rest()  # it says something else
        dropped = agent_audio.dropped
        silent = 0 if audio.strip(SILENT) else len(audio)
        self._history.hear_audio(agent_audio.playout.sent, silent)
        messages = agent_audio.say(audio, now)
        self.has_dropped = agent_audio.dropped > dropped
        if not silent:
            self.sounds_until = agent_audio.plays_until
            self.greets = False
            if not self.carryover.is_proven:
                self.carryover.prove()
        return messages

    def _behind_header(self, audio: bytes) -> bytes:
        """Without the header of a WAV file, which nobody asked for and some servers send."""
        audio = self._header + audio
        behind = wav.behind_header(audio)
        self._may_have_header = behind is None
        self._header = audio if behind is None else b""
        return behind or b""

    def hear_agent(self, text: str, now: float) -> CallHeard | None:
        """A sentence of the agent's. If it is of a turn that was cut, on its way when it was, it is
        told at once that nobody hears it."""
        agent_audio = self.agent_audio
        if agent_audio.is_stale(now):
            if agent_audio.rest:
                self._history.hear_unheard(text)
            return CallHeard(text, "", 0.0, 0.0)
        self.drop_rest()
        self._may_have_header = True  # each sentence may be made by itself
        agent_audio.is_amid_utterance = True
        self._history.hear_agent(text, agent_audio.playout.sent)
        return None

    def next_turn(self) -> None:
        """A sign that what the agent says from here on belongs to a new turn."""
        self.agent_audio.next_turn()
        self.drop_rest()

    def finish_utterance(self, now: float) -> list[twilio.ToCaller]:
        self._may_have_header, self._header = True, b""
        messages = self.agent_audio.finish(now)
        self._history.finish(self.agent_audio.playout.sent)
        return messages

    def play(self, clip: bytes, now: float) -> list[twilio.ToCaller]:
        """Our own audio, whole frames."""
        self._history.insert(len(clip))
        messages = self.agent_audio.insert(clip, now)
        if clip:
            self.sounds_until = self.agent_audio.plays_until
        return messages

    def hear_mark(self, name: str, now: float) -> Played | Violation | None:
        agent_audio = self.agent_audio
        playout = agent_audio.playout
        echo = playout.echo(name)
        if echo is not Echo.NEVER_SENT:
            agent_audio.mark_deadline = inf
        match echo:
            case Echo.HEARD:
                turns = self._history.hear_mark(playout.position, playout.sent)
                agent_audio.forget_heard()
                return Played(turns, agent_audio.silent_after(name, now))
            case Echo.NEVER_SENT:
                return Violation("a mark we never sent")
        return None

    # --- the caller's turn ----------------------------------------------------------------------

    def hear_user_speaks(self, now: float) -> Cut | None:
        """The caller speaks up, and cuts what is being said, unless that is uninterruptible."""
        self.user_speaks_until = now + MAX_TURN_SECONDS
        if self.agent_audio.is_protected:
            return None
        cut = self._cut(now)
        self.barge_ins += cut.size > 0
        if not self.agent_audio.rest or not self.hold.begin(now):
            self.drop_rest()
        return cut

    def hear_key(self, now: float) -> Cut | None:
        """The caller presses a key, and cuts what is being said, unless that is uninterruptible."""
        if self.agent_audio.is_protected:
            return None
        self.drop_rest()
        if self.agent_audio.is_heard:
            return None
        cut = self._cut(now, STALE_AFTER_KEY if self.agent_audio.is_amid_utterance else 0.0)
        self.barge_ins += cut.size > 0
        self.drop_rest()  # it was no noise
        return cut

    # --- what a noise has cut -------------------------------------------------------------------

    def resume(self, now: float) -> Resumed:
        """It was but a noise: what it has cut is played on."""
        agent_audio = self.agent_audio
        assert agent_audio.rest is not None
        is_whole = agent_audio.rest.is_whole
        self._history.resume(agent_audio.playout.sent)
        duration, messages = agent_audio.resume(now)
        if is_whole:
            self._history.finish(agent_audio.playout.sent)
        self.sounds_until = agent_audio.plays_until
        self.hold.resume()
        self._is_resumed = True
        return Resumed(duration, is_whole, messages)

    def lose_stream(self, now: float) -> Cut:
        """Twilio plays nothing any more. What was not heard is kept for when the stream is back."""
        is_amid = self.agent_audio.is_amid_utterance
        cut = self._cut(now, BACK_WITHIN)
        self.hold.drop()
        if not is_amid:
            self.agent_audio.next_turn()  # what comes belongs to nothing that was cut
        return cut

    def drop_rest(self) -> None:
        """Something else has begun."""
        self.hold.drop()
        if self.agent_audio.rest:
            self.agent_audio.rest.drop()

    def hear_words_after_all(self, now: float) -> Cut | None:
        """The noise was the beginning of words, and what is played on is not to be heard."""
        is_cut = self._is_resumed and not self.agent_audio.is_protected
        if not is_cut or not self.agent_audio.playout.unheard:
            return None
        cut = self._cut(now)
        self.drop_rest()
        return cut

    def hear_user(self, text: str) -> bool:
        """A sentence of the caller's; `False`: we had said it in their name, long ago."""
        self.next_turn()
        self.hold.hear_words()
        self._is_resumed = False
        if not self.carryover.hear_user(text):
            return False
        self.greets = False
        self.user_speaks_until = -inf
        return True

    def count_turn(self) -> None:
        """It was the caller's own."""
        self._history.turns += 1

    def turn_after(self, question: str) -> int | None:
        """The number of the caller's turn that came after they had last heard that question to its
        end; `None`: there is none."""
        return turn_after(question, self._history.heard(), self._history.turns)

    def end_user_turn(self) -> None:
        self.user_speaks_until = -inf
        self.next_turn()

    def make_room(self, now: float) -> Cut | None:
        """What comes next is not to wait behind what Twilio has, unless that must be heard."""
        if self.agent_audio.is_heard or self.agent_audio.is_protected:
            return None
        cut = self._cut(now)
        self.next_turn()
        return cut

    def _cut(self, now: float, late: float = STALE_AUDIO) -> Cut:
        self._is_resumed = False
        self._may_have_header = True
        agent_audio = self.agent_audio
        position, sent = agent_audio.playout.position, agent_audio.playout.sent
        is_amid = agent_audio.is_amid_utterance
        size, messages = agent_audio.cut(now, late)
        self.sounds_until = min(self.sounds_until, now)
        return Cut(size, is_amid or size > 0, messages, self._history.cut(position, sent))

    def end(self) -> list[CallHeard]:
        """Nobody hears anything any more."""
        playout = self.agent_audio.playout
        return self._history.cut(playout.position, playout.sent)

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

    def close_session(self, now: float) -> list[twilio.ToCaller]:
        """What the agent was saying is over. After `add_function` of what it interrupted."""
        self.carryover.close_session(self.agent_audio.playout.sent)
        self.user_speaks_until = -inf
        self.drop_rest()
        return self.finish_utterance(now)


def brief(past: Recalled) -> list[dict[str, Any]]:
    """What the first session of a call is told that another process had; as its dialogue will."""
    turns = Turns()
    turns.recall(past)
    return turns.carryover.brief(greets=past.greets)

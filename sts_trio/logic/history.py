"""The conversation so far: what was said, what of it was heard, which functions were called. Pure.

It is there for an agent that has to go on with a conversation which another connection began
(`messages`, Deepgram's `agent.context.messages`), and for the transcript: of each of the agent's
utterances, the words that were said and the words that the caller heard.

What a model tolerates in a live turn it refuses in a history, and so in each session from then on.
So what is told is fit for all of them: no blank text, the arguments of a function a JSON object,
its name and its id of the letters that all take, no id twice.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeGuard

import msgspec

from sts_trio.audio.frames import FRAME, length
from sts_trio.logic.utterance import MAX_SAID_CHARS, MAX_TEXT_CHARS, Utterance
from sts_trio.observe import events
from sts_trio.observe.events import CallHeard
from sts_trio.wire import deepgram

# What an agent is told of the past: an hour of talk is some 300 items. How long a context may be is
# documented nowhere; models take this much with ease.
MAX_ITEMS = 200
# All together, told to a fresh agent: a talk of an hour is some 60,000 letters.
MAX_LETTERS = 200_000
# What came of a function whose agent was lost before there was a result: it must not be thought not
# to have been called.
INTERRUPTED = '{"error":"the connection was lost; whether it was done is not known"}'
# In the place of a result that is longer than all that the agent may say in one go, or that was
# asked for by as long arguments.
TOO_LONG = '{"error":"it was called, but that is too long to be told again"}'
# What of it is told to an agent that could not bear more.
FEW_ITEMS = 10
# Utterances that wait for their marks: Twilio holds ten minutes of audio.
MAX_PLAYING = 200
# OpenAI's rule, the narrowest of the providers'.
_NAME = re.compile("[a-zA-Z0-9_-]{1,64}")
# Anthropic's letters, and OpenAI's 40 of them.
_ID = re.compile("[a-zA-Z0-9_-]{1,40}")

_arguments = msgspec.json.Decoder(dict[str, msgspec.Raw])


_Item = deepgram.TextItem | deepgram.CalledFunction | Utterance


class History:
    """Returns each utterance of the agent's once it is known what of it was heard."""

    __slots__ = (
        "_amid",
        "_interrupted",
        "_is_answered",
        "_items",
        "_playing",
        "_speaking",
        "_unheard",
        "turns",
    )

    def __init__(self) -> None:
        self._items: list[_Item] = []
        # The ids of functions whose result is not known, and of more: those who look are few.
        self._interrupted: set[str] = set()
        self._playing: list[Utterance] = []
        self._speaking: Utterance | None = None
        self._amid: Utterance | None = None  # what the last that is not the agent's came amid
        self._is_answered = False  # that, by what had a sound and no words
        self.turns = 0  # of the caller's own
        self._unheard = ""  # the words of what was cut that nobody has heard

    @classmethod
    def restored(cls, told: Iterable[events.OfCall]) -> "History":
        """The conversation of a call by what was told of it, up to a point at which its process was
        lost: what an agent that goes on with it has to know.

        Of what was being said it is not known how much was heard: it counts as said, each sentence
        where it was told, until `cut` tells. What the caller has said meanwhile has still to be
        answered. A function that had no result was called, and whether it was done is not known:
        nothing is ever called again.

        Texts are as long as events keep them. Not known by events: calls of functions that were
        refused; those of functions that the agent's own side runs, before it has told their result;
        words of an agent's that never had a sound, until their turn is over; and an answer whose
        words the agent does not tell.
        """
        replay = _Replay(cls())
        for event in told:
            replay.hear(event)
        replay.lose_agent()
        replay.brief()
        return replay.history

    @property
    def unanswered(self) -> str | None:
        """What the caller said, or a function answered, that the agent has not replied to.

        `""` where that cannot be asked anew: a function was called for it, or a reply has begun.
        """
        if self.is_heard_speaking:
            return ""
        if self._is_answered:
            return None
        said = (item for item in reversed(self._items) if item is not self._speaking)
        last = next(said, None)
        if isinstance(last, deepgram.TextItem):
            return last.content
        return "" if isinstance(last, deepgram.CalledFunction) else None

    @property
    def is_heard_speaking(self) -> bool:
        """Whether the agent is in the middle of what can be heard."""
        return self._speaking is not None and self._speaking.has_sound

    def hear_user(self, text: str) -> None:
        if text := text[:MAX_TEXT_CHARS].strip():
            self._add(deepgram.TextItem("user", text))

    def _add(self, item: _Item) -> None:
        self._items.append(item)
        if not isinstance(item, Utterance):
            self._amid, self._is_answered = self._speaking, False
        if len(self._items) > MAX_ITEMS:
            del self._items[0]

    def hear_agent(self, text: str, at: int) -> None:
        """A sentence, told about when `at` bytes had been sent to the caller."""
        if not (text := text[:MAX_TEXT_CHARS].strip()):
            return
        speaking = self._begin(at)
        if not speaking.sentences:
            self._add(speaking)
        speaking.add(text, at)

    def hear_audio(self, at: int, silent: int = 0) -> None:
        """Audio of the agent's comes, and is to be sent from there on; `silent` bytes, if there is
        nothing to be heard in it."""
        speaking = self._speaking or self._begin(at)
        if silent:
            speaking.silent += silent
        else:
            speaking.has_sound = True

    def insert(self, size: int) -> None:
        """What comes now is ours."""
        if self._speaking is not None:
            self._speaking.silent += size

    def _begin(self, at: int) -> Utterance:
        if self._speaking is None:
            self._speaking = Utterance(at)
            self._playing.append(self._speaking)
            if len(self._playing) > MAX_PLAYING:
                self._playing.pop(0)
        return self._speaking

    def finish(self, at: int) -> None:
        """The utterance is complete: its audio ends there. Without sound it was none."""
        speaking, self._speaking = self._speaking, None
        if speaking is None:
            return
        speaking.end = at
        if at - speaking.begin > speaking.silent + FRAME:
            speaking.has_sound = True
        if speaking.has_sound and speaking is not self._amid and not speaking.sentences:
            self._is_answered = True
        if not speaking.has_sound and speaking in self._items:
            self._items.remove(speaking)

    def hear_mark(self, position: int, sent: int) -> list[CallHeard]:
        """The caller has heard the audio before `position`."""
        turns: list[CallHeard] = []
        while self._playing:
            first = self._playing[0]
            if first.end is None or first.end > position:
                break
            self._settle(self._playing.pop(0), position, sent, turns)
        return turns

    def cut(self, position: int, sent: int) -> list[CallHeard]:
        """Nothing behind `position` will be heard of what was `sent`."""
        self.finish(sent)
        turns: list[CallHeard] = []
        is_amid = bool(self._playing)
        while self._playing:
            self._settle(self._playing.pop(0), position, sent, turns)
        if is_amid:
            unheard = [turn.said.split()[len(turn.heard.split()) :] for turn in turns]
            self._unheard = " ".join(word for words in unheard for word in words)
        return turns

    def hear_unheard(self, text: str) -> None:
        """A sentence more of what was cut."""
        self._unheard = f"{self._unheard} {text}".strip()[:MAX_SAID_CHARS]

    def resume(self, at: int) -> None:
        """What was cut is played on from there."""
        self.hear_audio(at)
        if self._unheard:
            self.hear_agent(self._unheard, at)
            self._unheard = ""

    def settle(self, told: CallHeard) -> None:
        """As `hear_mark` and `cut` have told of a turn, of which each sentence was taken to be one:
        they become what was heard of them."""
        for count in range(1, len(self._playing) + 1):
            if " ".join(each.said for each in self._playing[:count]) == told.said:
                break
        else:
            return  # of what is not known
        first, *others = self._playing[:count]
        del self._playing[:count]
        first.heard = told.heard
        if not told.said_seconds:
            others.append(first)  # it had no sound, and was none
        self._items = [item for item in self._items if item not in others]

    def _settle(
        self, utterance: Utterance, position: int, sent: int, turns: list[CallHeard]
    ) -> None:
        utterance.turns = self.turns
        if utterance.sentences:  # else there are no words to tell about
            turns.append(utterance.settle(position, sent))

    def heard(self) -> Iterator[tuple[int, str]]:
        """What the caller heard between two turns of theirs, the newest first, with how many they
        had had by then."""
        utterances = [item for item in reversed(self._items) if isinstance(item, Utterance)]
        settled = (item for item in utterances if item.heard)
        for turns, items in itertools.groupby(settled, lambda item: item.turns):
            yield turns, " ".join(item.heard or "" for item in reversed([*items]))

    def call_function(self, called: deepgram.CalledFunction, *, is_late: bool = False) -> None:
        """A function was called. A result takes the place of the news that there was none, and one
        that `is_late` the place of what the agent was told meanwhile."""
        if not _NAME.fullmatch(called.name) or len(called.id) > MAX_TEXT_CHARS:
            return  # no function has such a name
        if _letters(called) > MAX_SAID_CHARS:
            called = msgspec.structs.replace(
                called, arguments="{}", response=TOO_LONG, thought_signature=None
            )
        if is_late or called.id in self._interrupted:
            for place in reversed(range(len(self._items))):
                item = self._items[place]
                if not isinstance(item, deepgram.CalledFunction) or item.id != called.id:
                    continue
                if _is_interrupted(item) or (is_late and item.arguments == called.arguments):
                    self._items[place] = called
                    return
            self._interrupted.discard(called.id)
        if called.response == INTERRUPTED:
            self._interrupted.add(called.id)
        self._add(called)
        if len(self._interrupted) > MAX_ITEMS:
            self._interrupted = {item.id for item in self._items if _is_interrupted(item)}

    def shed(self) -> None:
        """An agent could not bear it: from now on only the last few sentences are told, and if it
        was these, nothing."""
        said = [item for item in self._items if not isinstance(item, deepgram.CalledFunction)]
        few = said[-FEW_ITEMS:]
        if len(few) == len(self._items):
            few.clear()
        self._items = [*few]

    def forget_last(self) -> None:
        """The last thing said is to be said anew. After `finish`."""
        self._items.pop()

    def messages(self) -> list[dict[str, Any]]:
        """For `agent.context.messages`: the newest. Of what was cut, only what was heard."""
        told: list[deepgram.TextItem | deepgram.CalledFunction] = []
        letters = 0
        for item in reversed(self._items):
            if isinstance(item, Utterance):
                text = item.said if item.heard is None else item.heard
                if not text:
                    continue
                item = deepgram.TextItem("assistant", text)
            letters += _letters(item)
            if letters > MAX_LETTERS:
                break
            told.append(item)
        ids: set[str] = set()
        messages: list[dict[str, Any]] = []
        for item in reversed(told):
            if isinstance(item, deepgram.CalledFunction):
                item = msgspec.structs.replace(item, id=_fit_id(item.id, ids))
                ids.add(item.id)
                messages.append(msgspec.to_builtins(deepgram.FunctionItem((item,))))
            else:
                messages.append(msgspec.to_builtins(item))
        return messages


class _Replay:
    """A history that is made by what was told, event by event."""

    def __init__(self, history: History) -> None:
        self.history = history
        self._asked: dict[str, deepgram.FunctionToCall] = {}
        self._pending: dict[str, deepgram.FunctionToCall] = {}
        self._at = 0  # where the last sentence began
        self._unheard = ""  # the words of what was cut
        self._is_stale = False  # the last sentence was of a turn that had been cut
        self._to_shed = 0
        self._gives_up = False  # what the caller said last: they are to say it in other words

    def hear(self, event: events.OfCall) -> None:
        history = self.history
        match event:
            case events.CallTranscript(role="user", text=text):
                history.finish(self._at)
                history.hear_user(text)
                self._gives_up = self._gives_up and not text.strip()
            case events.CallTranscript(text=text, position=None):
                self._is_stale = True
                self._unheard = f"{self._unheard} {text}".strip()
            case events.CallTranscript(text=text, position=float() as position):
                self._unheard = ""
                self._speak(text, length(position))
            case CallHeard() if self._is_stale:
                self._is_stale = False  # told with its sentence, which nobody has heard
            case CallHeard(said, heard):
                history.settle(event)
                rest = said.split()[len(heard.split()) :]
                self._unheard = " ".join([*([self._unheard] if not heard else []), *rest]).strip()
            case events.CallFalseInterruption():
                words, self._unheard = self._unheard, ""
                self._speak(words, self._at)
            case events.CallAskedAnew(text=str(text)):
                history.hear_user(text)
            case events.AgentContextReduced(past=past, question=question):
                self._to_shed += past
                self._gives_up = self._gives_up or question
            case events.AgentLost() | events.AgentHandedOver() | events.AgentRenewed():
                self.lose_agent()
            case events.AgentWelcomed():
                self.brief()
            case events.FunctionCalled():
                self._call_function(event)
            case events.FunctionFinished():
                self._finish_function(event)
            case events.FunctionRunByAgent(id, name, arguments, result):
                theirs = deepgram.FunctionToCall(id, name, arguments, client_side=False)
                history.call_function(completed_call(theirs, result))

    def lose_agent(self) -> None:
        """What it waited for does not come to an end in its session."""
        for function in self._pending.values():
            self.history.call_function(completed_call(function))
        self._pending.clear()
        question = self.history.unanswered
        self.history.finish(self._at)
        if question and self._gives_up:
            self.history.forget_last()

    def brief(self) -> None:
        """The next agent is told: less, if that was not borne, but what is still to be answered."""
        is_kept = bool(self._to_shed) and not self._gives_up
        question = self.history.unanswered if is_kept else None
        if question:
            self.history.forget_last()
        for _ in range(self._to_shed):
            self.history.shed()
        if question:
            self.history.hear_user(question)
        self._to_shed = 0

    def _speak(self, text: str, at: int) -> None:
        """A sentence with its sound. Each is one of its own, until it is told what was heard."""
        if not text.strip():
            return
        self._at, self._gives_up = at, False
        self.history.finish(at)
        self.history.hear_agent(text, at)
        self.history.hear_audio(at)

    def _call_function(self, called: events.FunctionCalled) -> None:
        function = deepgram.FunctionToCall(
            called.id, called.name, called.arguments, thought_signature=called.thought_signature
        )
        self._asked[called.id] = self._pending[called.id] = function

    def _finish_function(self, finished: events.FunctionFinished) -> None:
        is_awaited = self._pending.pop(finished.id, None) is not None
        function = self._asked.get(finished.id)
        if function is None or finished.outcome == "cancelled":
            return
        if is_awaited or finished.unawaited:
            done = completed_call(function, finished.result or "")
            self.history.call_function(done, is_late=bool(finished.unawaited))


def completed_call(
    function: deepgram.FunctionToCall, response: str | None = None
) -> deepgram.CalledFunction:
    """The function with its response; without one, it is not known what came of it."""
    signature = function.thought_signature
    return deepgram.CalledFunction(
        function.id,
        function.name,
        function.client_side,
        _fit_arguments(function.arguments),
        INTERRUPTED if response is None else response.strip() or "null",
        signature if isinstance(signature, str) else None,
    )


def _fit_arguments(text: str) -> str:
    return text if is_object(text) else "{}"


def is_object(text: str) -> bool:
    """Whether a function's arguments are what they have to be: an object, in JSON."""
    try:
        _arguments.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return True


def _fit_id(id: str, taken: set[str]) -> str:
    if _ID.fullmatch(id) and id not in taken:
        return id
    numbers = itertools.count(len(taken))
    return next(each for number in numbers if (each := f"call_{number}") not in taken)


def _letters(item: deepgram.TextItem | deepgram.CalledFunction) -> int:
    if isinstance(item, deepgram.TextItem):
        return len(item.content)
    return sum(map(len, (item.name, item.arguments, item.response, item.thought_signature or "")))


def _is_interrupted(item: _Item) -> TypeGuard[deepgram.CalledFunction]:
    return isinstance(item, deepgram.CalledFunction) and item.response == INTERRUPTED

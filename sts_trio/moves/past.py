"""What was before, from the rows of a call: for the process that goes on with it. Pure.

Of what the agent was saying when its process died, nobody knows how much was heard: no row is
written for each mark. A sentence is told about when it is made, and its place in the playout is
known, so it can be told when it began to be heard. How long it takes is known if there is one
behind it, and else taken from its length. It is good to about a second. But the end of a turn is
told as soon as its mark comes back: so of one that was not, something was still to be heard.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from sts_trio.logic.acts import Recalled
from sts_trio.logic.utterance import words_before
from sts_trio.observe import events
from sts_trio.records.rows import OURS, Kind, Row

# Letters that a voice speaks in a second.
LETTERS_PER_SECOND = 15.0
# The whole of the last sentence, by what was heard of it: a word at least is missing.
STILL_TO_COME = 1.1
# What takes no time has no sound, and was not said.
SHORTEST = 0.02

_EVENTS: Mapping[Kind, type[events.OfCall]] = {
    Kind.USER: events.CallTranscript,
    Kind.AGENT: events.CallTranscript,
    Kind.HEARD: events.CallHeard,
    Kind.FUNCTION_ASKED: events.FunctionCalled,
    Kind.FUNCTION_ANSWERED: events.FunctionFinished,
    Kind.AGENT_LOST: events.AgentLost,
    Kind.AGENT_DIALLED: events.AgentWelcomed,
    Kind.FUNCTION_RUN_BY_AGENT: events.FunctionRunByAgent,
    Kind.HANDED_OVER: events.AgentHandedOver,
}
# Of a note of ours: what changes what is known of the conversation.
_NOTED: Mapping[str, type[events.OfCall]] = {
    each.NAME: each
    for each in (
        events.AgentContextReduced,
        events.AgentRenewed,
        events.CallAskedAnew,
        events.CallFalseInterruption,
    )
}
# As rows differ from the events that they are of.
_RENAMED = {"content": "result"}
_MOVED = events.AgentLost("moved", "")
# How streams begin that have another session of the agent's than the one before.
_ANEW = ("moved", "recovered")


def recalled(rows: Sequence[Row], lost_at: float) -> Recalled:
    """What is to be known by who goes on. `rows` are all that there are, in order; its last process
    was lost at `lost_at` (seconds since 1970)."""
    told: list[events.OfCall] = []
    speech = _Speech()
    greets = is_first = True
    began: float | None = None
    moves = 0
    agent = ""
    for row in rows:
        if row.kind is Kind.STARTED:
            if row.body.get("how") in _ANEW:
                told += [*speech.settle(row.at), _MOVED]
                speech = _Speech()
            began = row.at if began is None else began
            moves += row.body.get("how") == "moved" and row.at < lost_at
            agent = str(row.body.get("agent") or agent)
        event = _event(row)
        match event:
            case None:
                continue
            case events.CallTranscript(role="user"):
                greets = is_first = False
            case events.CallTranscript(position=float()):
                greets = False
            case events.CallHeard(heard=heard):
                is_first = is_first and not heard
            case events.AgentHandedOver(to=agent):
                greets = True
            case events.AgentWelcomed(agent=agent):
                pass
        speech.hear(event, row.at)
        told.append(event)
    settled = tuple(speech.settle(lost_at))
    # Of the only words that were said, none was heard.
    greets = greets or (is_first and not any(each.heard for each in settled))
    return Recalled(
        told=tuple(told),
        settled=settled,
        agent=agent,
        greets=greets,
        is_cut=not greets and any(each.heard != each.said for each in settled),
        lasted=0.0 if began is None else max(0.0, lost_at - began),
        moves=moves,
    )


class _Sentence(msgspec.Struct, frozen=True):
    """Of the agent's, not settled yet. `position` is where it begins in the playout, seconds."""

    text: str
    position: float
    at: float
    duration: float  # as its length tells


class _Speech:
    """What the agent has said of which nobody has told yet what was heard, as a `History` takes
    it."""

    def __init__(self) -> None:
        self._sentences: list[_Sentence] = []
        self._unheard = ""  # words of what was cut, which are said again if it was but a noise
        self._is_stale = False  # the last sentence was of a turn that had been cut

    def hear(self, event: events.OfCall, at: float) -> None:
        match event:
            case events.CallTranscript(role="user"):
                pass
            case events.CallTranscript(text=text, position=None):
                self._is_stale = True
                self._unheard = f"{self._unheard} {text}".strip()
            case events.CallTranscript(text=text, position=float() as position):
                self._unheard = ""
                self._say(text, position, at, len(text) / LETTERS_PER_SECOND)
            case events.CallHeard() if self._is_stale:
                self._is_stale = False
            case events.CallHeard(said, heard):
                self._settle(said)
                rest = said.split()[len(heard.split()) :]
                self._unheard = " ".join([*([self._unheard] if not heard else []), *rest]).strip()
            case events.CallFalseInterruption(seconds):
                self._say(self._unheard, math.inf, at, seconds)
                self._unheard = ""

    def _say(self, text: str, position: float, at: float, duration: float) -> None:
        if text.strip():
            self._sentences.append(_Sentence(text.strip(), position, at, duration))

    def _settle(self, said: str) -> None:
        """The sentences of a turn are the first ones."""
        left = said
        while self._sentences and left.startswith(text := self._sentences[0].text):
            self._sentences.pop(0)
            left = left[len(text) :].lstrip(" ")

    def settle(self, lost_at: float) -> Iterator[events.CallHeard]:
        """What was heard of each until then."""
        begins = 0.0
        for sentence, behind in itertools.zip_longest(self._sentences, self._sentences[1:]):
            duration = max(sentence.duration, SHORTEST)
            if behind is not None and sentence.position < behind.position < math.inf:
                duration = behind.position - sentence.position
            begins = max(begins, sentence.at)
            if behind is None:
                duration = max(duration, STILL_TO_COME * (lost_at - begins))
            share = min(1.0, max(0.0, (lost_at - begins) / duration))
            heard = words_before(sentence.text, 0.0, duration, lost_at - begins)
            yield events.CallHeard(
                sentence.text, heard, round(duration, 3), round(share * duration, 3)
            )
            begins += duration


def _event(row: Row) -> events.OfCall | None:
    """What the row was made of; None: nothing that concerns the conversation, or that this version
    does not understand."""
    body, kind = row.body, _EVENTS.get(row.kind)
    if row.kind is Kind.NOTE:
        for name, fields in body.items():
            if (kind := _NOTED.get(name.removeprefix(OURS))) is not None and name.startswith(OURS):
                body = fields
                break
    if kind is None:
        return None
    fields = {_RENAMED.get(name, name): value for name, value in body.items()}
    if kind is events.CallTranscript:
        fields["role"] = "user" if row.kind is Kind.USER else "agent"
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError:
        return None

"""What the call's own code asks of the agent, until the agent has answered. Pure.

Deepgram's acknowledgements carry no id, and two of a kind that are sent in quick succession have
been seen to get one answer. So there is one under way of each kind, and the others of that kind
wait for it. An update that was taken is remembered, as a fresh session knows nothing of it
(`open_session`). What outlives a session is decided here, and only here.
Source: developers.deepgram.com/docs/voice-agent (update and inject messages), read 2026-11-22.
"""

from collections.abc import Callable
from math import inf

import msgspec

from sts_trio.logic.acts import RequestDone
from sts_trio.logic.perception import PERCEPTION, Perception
from sts_trio.logic.policy import CallPolicy
from sts_trio.wire import deepgram

# Acknowledgements took 0.2 to 0.3 s, and up to 18 s in one busy session. The function that asks
# has a caller waiting, so it is told earlier.
ANSWER_TIMEOUT = 10.0
# By a phone that is late with its marks.
HEARD_GRACE = 2.0
# Asked for by one call at once; more is a loop gone wild.
MAX_WAITING = 100
# Told again to a fresh session; prompts are appended, so there may be any number.
MAX_UPDATES = 50
# How many sessions may be told something that die of an error before they have answered. The first
# may have been chance.
MAX_DEATHS = 2

_ACKNOWLEDGED_BY: dict[type[deepgram.TextToAgent], type[deepgram.TextFromAgent]] = {
    deepgram.UpdatePrompt: deepgram.PromptUpdated,
    deepgram.UpdateThink: deepgram.ThinkUpdated,
    deepgram.UpdateThinkLive: deepgram.ThinkLiveUpdated,
    deepgram.UpdateSpeak: deepgram.SpeakUpdated,
    deepgram.UpdateListen: deepgram.ListenUpdated,
}
# Words that are not said now, because somebody else is speaking. Some servers say so by
# `InjectionRefused`, older ones by a warning, and some by both.
REFUSED_FOR_CALLER = "INJECT_AGENT_MESSAGE_DURING_USER_SPEECH"
REFUSALS = {
    REFUSED_FOR_CALLER: "the caller is speaking",
    "INJECT_AGENT_MESSAGE_DURING_AGENT_SPEECH": "the agent is speaking",
}
_UPDATES = tuple(_ACKNOWLEDGED_BY)
# Somebody has finished speaking, or the agent begins the next sentence.
_ENDS_OF_SPEECH = (deepgram.AgentAudioDone, deepgram.EndOfTurn, deepgram.ConversationText)
# Two that are spoken: told apart by the words, and answered by them.
_SPOKEN = (deepgram.InjectAgentMessage, deepgram.InjectUserMessage)

# To an agent that lost its thread with its connection.
GO_ON = "Please go on."
# To the agent, as if the caller had said it.
KEYED_IN = "I have keyed in: {}"
# To the agent, of a function that was not torn when its session, or its turn, was lost.
LATE = "The function {name}, called earlier in this conversation, has been done: {content}"

# To an agent that had been told that the caller is connected.
NOT_TRANSFERRED = (
    "The caller could not be connected with {number}, is told so, and goes on talking with you."
)

_Kind = type[deepgram.TextToAgent]


class _Request(msgspec.Struct, eq=False):
    number: int | None  # None: nobody waits for the answer
    message: deepgram.TextToAgent
    deadline: float
    is_insisted: bool = False  # said later, if it is refused
    is_resting: bool = False  # until whoever was speaking has finished
    is_kept: bool = False  # for the next session, though nobody waits for the answer
    is_restored: bool = False  # an update that the last session had taken
    deaths: int = 0  # of sessions that were told it, in a row
    told_at: int | None = None  # how much the agent had said by then; `None`: not in this session

    def is_answered_by(self, message: deepgram.TextFromAgent, by: Perception) -> bool:
        if isinstance(self.message, deepgram.InjectAgentMessage):
            return (
                isinstance(message, deepgram.ConversationText)
                and message.role == "assistant"
                and by.is_retold(message.content, self.message.message)
            )
        if isinstance(self.message, deepgram.InjectUserMessage):
            return (
                isinstance(message, deepgram.ConversationText)
                and message.role == "user"
                and by.is_retold(message.content, self.message.content)
            )
        return isinstance(message, _ACKNOWLEDGED_BY[type(self.message)])


def says_all(message: deepgram.ToAgent) -> bool:
    """Of a dialect that has words for everything."""
    return True


def interrupts(message: deepgram.TextToAgent) -> bool:
    """Whether these are words that replace what the agent is saying."""
    return isinstance(message, deepgram.InjectAgentMessage) and message.behavior == "interrupt"


class Requests:
    """`can_say` tells whether the agent's dialect has words for a message. `say_again` are ours for
    a question that is lost.

    Methods return what is to be done: answers to those who asked, and messages for the agent.
    """

    __slots__ = (
        "_has_resting",
        "_heard_by",
        "_is_open",
        "_perception",
        "_refused",
        "_say_again",
        "_sent",
        "_updates",
        "_waiting",
        "_warned",
        "can_say",
        "may_send",
    )

    def __init__(
        self,
        can_say: Callable[[deepgram.ToAgent], bool] = says_all,
        say_again: str = CallPolicy().say_again,
        perception: Perception = PERCEPTION,
    ) -> None:
        self.can_say = can_say
        self._say_again = say_again
        self._perception = perception
        self._heard_by: dict[int, float] = {}  # {who waits for all to be heard: until when}
        self._is_open = False
        self._refused = self._warned = 0  # refusals told by each way in this session
        self._waiting: list[_Request] = []  # a deque takes 760 bytes when it is empty
        self._sent: dict[_Kind, _Request] = {}
        # Whether something waits that may go, or did when it was last looked at.
        self.may_send = False
        self._has_resting = False
        self._updates: list[_Request] = []

    @property
    def are_pending(self) -> bool:
        """Whether there are any that the agent has not answered yet."""
        return bool(self._sent or self._waiting)

    @property
    def are_heard_out(self) -> bool:
        """Whether somebody waits for all to be heard."""
        return bool(self._heard_by)

    @property
    def deadline(self) -> float:
        if not (self._waiting or self._sent or self._heard_by):
            return inf
        due = [request.deadline for request in (*self._waiting, *self._sent.values())]
        return min((*due, *self._heard_by.values()))

    @property
    def has_words_to_say(self) -> bool:
        """Whether the agent is to say something of ours that it has not begun."""
        return any(
            isinstance(request.message, deepgram.InjectAgentMessage)
            for request in (*self._waiting, *self._sent.values())
        )

    def ask(
        self,
        number: int | None,
        message: deepgram.TextToAgent,
        now: float,
        *,
        is_kept: bool = False,
        is_first: bool = False,
        is_insisted: bool = False,
    ) -> list[RequestDone]:
        """Queues it; `send` tells what may go now. Without a number nobody waits for the answer.

        Of those that nobody waits for, a session that is lost takes all but the `is_kept` with it,
        and a refusal all but the `is_insisted`: these are told again when somebody has finished.
        """
        deadline = now + ANSWER_TIMEOUT
        request = _Request(number, message, deadline, is_insisted=is_insisted, is_kept=is_kept)
        if not self.can_say(message):
            reason = f"this dialect has no words for {type(message).__name__}"
            return _answers([request], reason)
        if len(self._waiting) >= MAX_WAITING:
            return _answers([request], "too many requests at once")
        answers: list[RequestDone] = []
        if interrupts(message):
            unsaid = self._sent.pop(deepgram.InjectAgentMessage, None)
            answers = _answers([unsaid] if unsaid else [], "other words were to be said at once")
            is_first = True
        if is_first:
            self._waiting.insert(0, request)
        else:
            self._waiting.append(request)
        self.may_send = True
        return answers

    def ask_anew(self, question: str, now: float) -> str | None:
        """The agent owes an answer which the last connection took with it; `""`: to what, cannot be
        told. Returns what is asked in the caller's name, `None` if the dialect has no words for it.
        """
        message = deepgram.InjectUserMessage(question or GO_ON)
        if not self.can_say(message):
            self.have_said_again(now)
            return None
        self.ask(None, message, now, is_first=True)
        return message.content

    def have_said_again(self, now: float) -> None:
        """The caller is asked to say it once more."""
        self.ask(None, deepgram.InjectAgentMessage(self._say_again), now, is_insisted=True)

    def tell_keys(self, keys: str, now: float) -> None:
        """What the caller keyed in, as if they had said it."""
        message = deepgram.InjectUserMessage(KEYED_IN.format(" ".join(keys)))
        self.ask(None, message, now, is_kept=True)

    def report_late_result(self, name: str, content: str, now: float) -> None:
        """What was done is not to be done twice: the agent is told of it without being asked."""
        self.ask(None, deepgram.UpdatePrompt(LATE.format(name=name, content=content)), now)

    def report_not_transferred(self, number: str, words: str, now: float) -> None:
        """The caller is still there: the agent is to know it, and to say these words."""
        self.ask(None, deepgram.UpdatePrompt(NOT_TRANSFERRED.format(number=number)), now)
        self.ask(None, deepgram.InjectAgentMessage(words, "queue"), now, is_insisted=True)

    def wait_until_heard(self, number: int, until: float) -> None:
        self._heard_by[number] = until

    def hear_all_is_heard(self) -> list[RequestDone]:
        """The caller has heard all there is."""
        done = [RequestDone(number) for number in self._heard_by]
        self._heard_by.clear()
        return done

    def open_session(self, now: float) -> None:
        """There is a session. It is told the updates that the last one of the same agent took, then
        what waits."""
        self._is_open = self.may_send = True
        for place in reversed(range(len(self._updates))):
            request = self._updates[place]
            # Many prompts go one after the other.
            request.deadline = now + (place + 1) * ANSWER_TIMEOUT
            request.number, request.is_restored = None, True
            self._waiting.insert(0, request)
            self.may_send = True

    def close_session(self, now: float, *, is_amid_utterance: bool = False) -> list[RequestDone]:
        """The session is gone, in the middle of what it said or not. What it has not answered is
        asked again of the next, unless nobody waits for it."""
        self._is_open = False
        self._refused = self._warned = 0
        open_ones = (*self._sent.values(), *self._waiting)
        self._waiting = [each for each in open_ones if each.number is not None or each.is_kept]
        self._sent.clear()
        for request in self._updates:
            request.told_at = None
        if not is_amid_utterance:
            return []
        lost = [RequestDone(number, "the agent was lost") for number in self._heard_by]
        self._heard_by.clear()
        return lost

    def blame(self, said: int) -> tuple[list[RequestDone], bool]:
        """The session died of something that it was told. That may be what it has not answered, or
        else what it has taken but not `said` anything after. Returns answers for what is not told
        to yet another session, and whether there is anything of the kind."""
        for request in self._updates:
            if request.told_at is not None and request.told_at < said:
                request.deaths = 0
        unproven = [each for each in self._updates if each.told_at == said]
        suspects = [*self._sent.values()] or unproven
        for request in suspects:
            request.deaths += 1
        condemned = [each for each in suspects if each.deaths >= MAX_DEATHS]
        self._updates = [each for each in self._updates if each not in condemned]
        self._sent = {kind: each for kind, each in self._sent.items() if each not in condemned}
        return _answers(condemned, "the agent failed at it"), bool(condemned)

    def forget_updates(self) -> list[RequestDone]:
        """Another agent goes on, with settings of its own: they are not meant for that one."""
        self._updates.clear()
        open_ones = (*self._sent.values(), *self._waiting)
        unwanted = [request for request in open_ones if isinstance(request.message, _UPDATES)]
        self._sent = {kind: r for kind, r in self._sent.items() if kind not in _UPDATES}
        self._waiting = [r for r in self._waiting if not isinstance(r.message, _UPDATES)]
        self.may_send = True
        return _answers(unwanted, "another agent goes on")

    def send(self, said: int = 0) -> tuple[list[deepgram.TextToAgent], list[RequestDone]]:
        """What goes to the agent now, and answers for requests that nobody acknowledges.

        What a session may have died of goes alone, so that it alone is to blame if the next one
        does. `said`: how much the agent has said by now, in whatever unit.
        """
        messages: list[deepgram.TextToAgent] = []
        answers: list[RequestDone] = []
        if not self._is_open or not self.may_send:
            return messages, answers
        self.may_send = False
        kept: list[_Request] = []
        for request in self._waiting:
            kind = type(request.message)
            is_alone = request.deaths > 0 or any(each.deaths for each in self._sent.values())
            if request.is_resting or kind in self._sent or (self._sent and is_alone):
                kept.append(request)
                continue
            request.told_at = said
            messages.append(request.message)
            if isinstance(request.message, _UPDATES + _SPOKEN):
                self._sent[kind] = request
            else:
                answers += _answers([request])
        self._waiting = kept
        return messages, answers

    def is_begun_by(self, message: deepgram.TextFromAgent) -> bool:
        """Whether this is the agent beginning to say what it was asked to."""
        request = self._sent.get(deepgram.InjectAgentMessage)
        return request is not None and request.is_answered_by(message, self._perception)

    def is_put_by_code(self, message: deepgram.TextFromAgent) -> bool:
        """Whether this is said by the caller in name alone, and by neither word nor key."""
        request = self._sent.get(deepgram.InjectUserMessage)
        if request is None or request.is_kept:
            return False
        return request.is_answered_by(message, self._perception)

    def hear(self, message: deepgram.TextFromAgent) -> list[RequestDone]:
        """The agent says this; it may be an answer."""
        if isinstance(message, deepgram.InjectionRefused):
            self._refused += 1
            is_news = self._refused > self._warned
            return self._refuse(message.message or "refused") if is_news else []
        if isinstance(message, deepgram.AgentWarning) and message.code in REFUSALS:
            self._warned += 1
            is_news = self._warned > self._refused
            return self._refuse(REFUSALS[message.code]) if is_news else []
        if self._has_resting and isinstance(message, _ENDS_OF_SPEECH):
            self._has_resting, self.may_send = False, True
            for request in self._waiting:
                request.is_resting = False
        for kind, request in self._sent.items():
            if request.is_answered_by(message, self._perception):
                del self._sent[kind]
                self.may_send = True
                if not request.is_restored:
                    self._remember(request)
                return _answers([request])
        return []

    def _refuse(self, reason: str) -> list[RequestDone]:
        refused = self._sent.pop(deepgram.InjectAgentMessage, None)
        if refused is None:
            return []
        self.may_send = True
        if refused.is_insisted:
            refused.is_resting = self._has_resting = True
            self._waiting.insert(0, refused)
        return _answers([refused], reason)

    def tick(self, now: float, plays_until: float = -inf) -> list[RequestDone]:
        """Those that have waited long enough. Who waits until all is heard does so for as long as
        there is something to be heard."""
        late = [request for request in self._waiting if request.deadline <= now]
        self._waiting = [r for r in self._waiting if r.deadline > now]
        for kind, request in list(self._sent.items()):
            if request.deadline <= now:
                late.append(request)
                del self._sent[kind]
                self.may_send = True
        if now < (latest := plays_until + HEARD_GRACE):
            self._heard_by = {n: max(by, latest) for n, by in self._heard_by.items()}
        unheard = [number for number, deadline in self._heard_by.items() if deadline <= now]
        for number in unheard:
            del self._heard_by[number]
        return [
            *_answers(late, "no answer", timed_out=True),
            *(RequestDone(number, "not heard in time", timed_out=True) for number in unheard),
        ]

    def cancel(self, number: int) -> None:
        """Nobody waits for this any more. If it was sent, its acknowledgement is still to come."""
        self._waiting = [r for r in self._waiting if r.number != number]
        for request in self._sent.values():
            if request.number == number:
                request.number = None
        self._heard_by.pop(number, None)

    def _remember(self, request: _Request) -> None:
        message = request.message
        if not isinstance(message, _UPDATES):
            return
        kept = [each for each in self._updates if not _is_replaced(each.message, message)]
        self._updates = [*kept, request][-MAX_UPDATES:]


def _is_replaced(before: deepgram.TextToAgent, update: deepgram.TextToAgent) -> bool:
    """Whether nothing is left of an update that was taken before this one."""
    match update, before:
        case deepgram.UpdateListen(new), deepgram.UpdateListen(old):
            # What is left out keeps its value.
            return set(new["provider"]) >= set(old["provider"])
        case deepgram.UpdatePrompt(), _:
            return False  # it is appended
        case deepgram.UpdateThink(), deepgram.UpdatePrompt():
            return True  # with whatever was appended to the one before
        case _:
            return type(update) is type(before)


def _answers(
    requests: list[_Request], refusal: str | None = None, *, timed_out: bool = False
) -> list[RequestDone]:
    return [
        RequestDone(request.number, refusal, timed_out)
        for request in requests
        if request.number is not None
    ]

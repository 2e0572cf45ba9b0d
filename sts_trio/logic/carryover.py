"""What one session of the agent's leaves to the next: the past, and what is still owed. Pure.

A question that a session has not answered is asked anew of the next one. But what a session has
died of, by an error, is not given to one after another: a question is asked once more, then the
caller is to say it in other words; a past that is not borne becomes less, and then nothing. A
session is proven, and with it what it was told, as soon as it is heard.
"""

from typing import Any, NamedTuple

from sts_trio.logic.history import History
from sts_trio.logic.perception import PERCEPTION, Perception

# How many sessions a question may be asked of that die of an error. The first may have been chance.
MAX_DEATHS = 2


class Blamed(NamedTuple):
    """What the next session is not told."""

    past: bool  # all but the last of what was said
    question: bool  # the caller's last


class Carryover:
    __slots__ = (
        "_deaths",
        "_echo",
        "_has_past",
        "_history",
        "_perception",
        "_suspect",
        "_to_shed",
        "_unanswered",
        "is_given_up",
        "is_proven",
    )

    def __init__(self, history: History, perception: Perception = PERCEPTION) -> None:
        self._history = history
        self._perception = perception
        self._unanswered: str | None = None  # see `History.unanswered`; for the next session
        self._suspect: str | None = None  # a question after which a session died
        self._deaths = 0  # and how many did in a row
        # So many that it is not asked anew: the caller is to say it in other words.
        self.is_given_up = False
        self.is_proven = False  # the session has been heard
        self._has_past = False  # it was told of one
        self._to_shed = 0  # how often the past is to become less
        self._echo: str | None = None  # what we say in the caller's name is told back to us

    @property
    def owes_answer(self) -> bool:
        """Whether the caller has asked something to which nothing has been heard."""
        return self._history.unanswered is not None and not self._history.is_heard_speaking

    def prove(self) -> None:
        """The agent is heard in this session."""
        self.is_proven, self._suspect, self.is_given_up = True, None, False

    def hear_user(self, text: str) -> bool:
        """A sentence of the caller's; `False`: we had said it in their name, long ago."""
        if self._echo is not None and self._perception.is_retold(text, self._echo):
            self._echo = None
            return False
        if text.strip():
            self.is_given_up = False
        self._history.hear_user(text)
        return True

    def blame(self, *, is_live: bool) -> Blamed:
        """The session died of something that it was told; returns what the next one will not be
        told of it. `is_live`: it had been told what was not answered."""
        past = self._has_past and not self.is_proven
        self._to_shed += past
        gives_up = False
        question = self._history.unanswered
        if is_live and question is not None:
            is_suspect = self._perception.is_same(question, self._suspect)
            self._deaths = self._deaths + 1 if is_suspect else 1
            self._suspect = question
            if self._deaths >= MAX_DEATHS:
                self.is_given_up = gives_up = True
        return Blamed(past, gives_up)

    def close_session(self, sent: int) -> None:
        """The agent says no more; of what it said, so much was sent to the caller."""
        if self._unanswered is None:
            self._unanswered = self._history.unanswered
            self._history.finish(sent)
            if self._unanswered:
                self._history.forget_last()  # it is asked anew
        if self.is_given_up:
            self._unanswered = self._suspect = None
        self.is_proven = self._has_past = False
        self._echo = None

    def recall(self, history: History, *, is_cut: bool) -> None:
        """The sessions before were another process's. `is_cut`: the last was saying something."""
        self._history = history
        self.close_session(0)
        if is_cut and self._unanswered is None:
            self._unanswered = ""

    def brief(self, *, greets: bool) -> list[dict[str, Any]]:
        """What a fresh session is told of the conversation: `agent.context.messages`."""
        if greets and self._unanswered:
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

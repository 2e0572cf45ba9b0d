"""The functions that an agent has asked for and has no answer to yet. Pure.

Some are ours to run; others Deepgram runs itself (`endpoint`), and only tells about. Which of them
were called, and with what result, an agent that takes over has to know.
"""

from collections.abc import Iterable

from sts_trio.logic.history import INTERRUPTED
from sts_trio.wire import deepgram

# A model may ask for as many as it likes, and Deepgram may never tell what became of them.
MAX_THEIRS = 50


class PendingFunctionCalls:
    def __init__(self) -> None:
        self.count = 0
        self._ours: dict[str, deepgram.FunctionToCall] = {}  # {id: function}
        self._theirs: dict[str, deepgram.FunctionToCall] = {}

    def __bool__(self) -> bool:
        """Whether the agent waits for one of ours."""
        return bool(self._ours)

    @property
    def ids(self) -> tuple[str, ...]:
        """Of those that are ours."""
        return tuple(self._ours)

    def ask(
        self, functions: Iterable[deepgram.FunctionToCall]
    ) -> tuple[list[deepgram.FunctionToCall], list[deepgram.FunctionToCall]]:
        """Which of these are to be run, and which were asked for a second time by one id."""
        ours, again = [], []
        for function in functions:
            self.count += 1
            if not function.client_side:
                if len(self._theirs) < MAX_THEIRS:
                    self._theirs[function.id] = function
            elif function.id in self._ours:
                again.append(function)
            else:
                self._ours[function.id] = function
                ours.append(function)
        return ours, again

    def answer(self, id: str) -> bool:
        """One of ours is done; whether the agent still waits for it."""
        return self._ours.pop(id, None) is not None

    def cancel(self, ids: Iterable[str]) -> tuple[str, ...]:
        """The agent wants these no more; returns which of them are ours and under way."""
        ids = tuple(ids)
        for id in ids:
            self._theirs.pop(id, None)
        return tuple(id for id in ids if self._ours.pop(id, None) is not None)

    def hear_theirs(self, done: deepgram.FunctionCallResponse) -> deepgram.CalledFunction | None:
        """Deepgram has run one itself."""
        for asked in self._theirs.values():
            # It need not tell the id.
            if done.id == asked.id or (done.id is None and done.name == asked.name):
                del self._theirs[asked.id]
                return called(asked, done.content)
        return None

    def interrupted(self) -> list[deepgram.CalledFunction]:
        """All that will not come to its end in this session, as what is known of it."""
        waiting = (*self._ours.values(), *self._theirs.values())
        self._theirs.clear()
        return [called(asked, INTERRUPTED) for asked in waiting]


def called(asked: deepgram.FunctionToCall, response: str) -> deepgram.CalledFunction:
    """For the history: the function with its response."""
    signature = asked.thought_signature
    return deepgram.CalledFunction(
        asked.id,
        asked.name,
        asked.client_side,
        asked.arguments,
        response,
        signature if isinstance(signature, str) else None,
    )

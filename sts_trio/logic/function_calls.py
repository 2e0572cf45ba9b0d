"""The functions that an agent has asked for and has no answer to yet. Pure.

Some are ours to run; others Deepgram runs itself (`endpoint`), and only tells about. Which of them
were called, and with what result, an agent that takes over has to know.
"""

from collections.abc import Iterable, Sequence

import msgspec

from sts_trio.wire import deepgram

# A model may ask for as many as it likes, and Deepgram may never tell what became of them.
MAX_THEIRS = 50
# In one message, or of ours unanswered. A call has a budget of 20 in half a minute, and ends with
# the fiftieth that was refused: who asks for more at once is not answered any more.
MAX_AT_ONCE = 100


class Interrupted(msgspec.Struct, frozen=True):
    """What will not come to its end in this session: `functions`, of which `ids` are ours."""

    functions: tuple[deepgram.FunctionToCall, ...]
    ids: tuple[str, ...]


class PendingFunctionCalls:
    __slots__ = ("_ours", "_theirs", "count")

    def __init__(self) -> None:
        self.count = 0
        self._ours: dict[str, deepgram.FunctionToCall] = {}  # {id: function}
        self._theirs: dict[str, deepgram.FunctionToCall] = {}

    @property
    def are_awaited(self) -> bool:
        """Whether the agent waits for one of ours."""
        return bool(self._ours)

    def has_room(self, functions: Sequence[deepgram.FunctionToCall]) -> bool:
        """Whether so many may be asked for."""
        return len(functions) + len(self._ours) <= MAX_AT_ONCE

    def request(
        self, functions: Iterable[deepgram.FunctionToCall]
    ) -> tuple[tuple[deepgram.FunctionToCall, ...], int]:
        """Which of these are to be run, and how many have an id that is in use."""
        ours, duplicates = [], 0
        for function in functions:
            self.count += 1
            if not function.client_side:
                if len(self._theirs) < MAX_THEIRS:
                    self._theirs[function.id] = function
            elif function.id in self._ours:
                duplicates += 1
            else:
                self._ours[function.id] = function
                ours.append(function)
        return tuple(ours), duplicates

    def complete(self, id: str) -> bool:
        """One of ours is done; whether the agent still waits for it."""
        return self._ours.pop(id, None) is not None

    def cancel(self, ids: Iterable[str]) -> tuple[str, ...]:
        """The agent wants these no more; returns which of them are ours and under way."""
        ids = tuple(ids)
        for id in ids:
            self._theirs.pop(id, None)
        return tuple(id for id in ids if self._ours.pop(id, None) is not None)

    def complete_theirs(
        self, done: deepgram.FunctionCallResponse
    ) -> deepgram.FunctionToCall | None:
        """Deepgram has run one itself; which."""
        for function in self._theirs.values():
            # It need not tell the id.
            if done.id == function.id or (done.id is None and done.name == function.name):
                return self._theirs.pop(function.id)
        return None

    def close_session(self, now: float) -> Interrupted:
        """The session that asked is gone, and its ids with it."""
        interrupted = Interrupted((*self._ours.values(), *self._theirs.values()), tuple(self._ours))
        self._ours.clear()
        self._theirs.clear()
        return interrupted

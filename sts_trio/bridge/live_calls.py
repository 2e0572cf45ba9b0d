"""The live calls of this process: admit, count, remember how they ended, shut down.

What happens in them is told to its event_feed.

It owns no task: each call runs in the task of its websocket.
"""

import collections
import contextlib
from collections.abc import Awaitable, Callable, Iterator

import trio

from sts_trio.bridge.run import Bridge
from sts_trio.errors import Ending
from sts_trio.logic.acts import MoveAway, ShutDown, WindUp
from sts_trio.observe.feed import EventFeed
from sts_trio.observe.kept import KeptEvents

# Endings are asked for by `/twiml/after`, a second or two after the call's stream ended.
REMEMBERED_ENDINGS = 1000
# Where another process had this one's address, it tells how its calls have ended: before the phone
# knows, but over a socket of its own, which Twilio's question may overtake.
TOLD_WITHIN = 1.0

# Those who go on with them dial as many agents, and their balancer is asked as often: 20 a second.
MOVE_EVERY = 0.05

# Told the SID of a call, and how it ended.
Remember = Callable[[str, Ending], None]


class LiveCalls:
    def __init__(self, max_calls: int) -> None:
        self.event_feed = EventFeed()
        self._max_calls = max_calls
        self._calls: dict[Bridge, KeptEvents] = {}
        self._endings: collections.OrderedDict[str, Ending] = collections.OrderedDict()
        self._is_draining = False
        self._is_winding_up = False
        self._heir: Remember | None = None
        self._has_predecessor = False
        self._remembered = trio.Event()
        self._emptied = trio.Event()

    @property
    def live(self) -> int:
        """Calls under way."""
        return len(self._calls)

    @property
    def calls(self) -> tuple[Bridge, ...]:
        """The calls under way, in no order."""
        return tuple(self._calls)

    @property
    def is_draining(self) -> bool:
        return self._is_draining

    @property
    def has_heir(self) -> bool:
        """Whether somebody else is there in this process's place."""
        return self._heir is not None

    @property
    def takes_calls(self) -> bool:
        """Whether there is room for one more."""
        return not self._is_draining and self.has_room

    @property
    def has_room(self) -> bool:
        """The same for a call that was let in before: its phone has been told to come."""
        return not self._is_winding_up and len(self._calls) < self._max_calls

    @property
    def status(self) -> str:
        """For people and their tools: ready, full or draining."""
        return "draining" if self._is_draining else "ready" if self.takes_calls else "full"

    def find(self, call_sid: str) -> dict[Bridge, KeptEvents]:
        """The calls under way of that SID, the oldest first: one, unless Twilio streams it more
        than once."""
        found = [call for call in self._calls if call_sid and call.dialogue.call_sid == call_sid]
        return {call: self._calls[call] for call in sorted(found, key=lambda call: call.began)}

    def awaiting(self, is_for: Callable[[str], bool]) -> Bridge | None:
        """The call that waits for its stream, of that SID."""
        waiting = (call for call in self._calls if call.awaits_stream)
        return next((call for call in waiting if is_for(call.dialogue.call_sid)), None)

    @contextlib.contextmanager
    def admit(self, call: Bridge, events: KeptEvents | None = None) -> Iterator[None]:
        """Counts the call as live while inside, and remembers its ending. `events` are what was
        told of it so far."""
        self._calls[call] = events or KeptEvents(self.event_feed)
        try:
            yield
        finally:
            del self._calls[call]
            if call.ending is not None:
                self.remember(call.dialogue.call_sid, call.ending)
            if not self._calls:
                self._emptied.set()
                self._emptied = trio.Event()

    def remember(self, call_sid: str, ending: Ending) -> None:
        """May be told again."""
        if not call_sid or self._endings.get(call_sid) == ending:
            return
        self._endings[call_sid] = ending
        if self._heir is not None:
            self._heir(call_sid, ending)
        # A call may be streamed more than once.
        self._endings.move_to_end(call_sid)
        while len(self._endings) > REMEMBERED_ENDINGS:
            self._endings.popitem(last=False)
        self._tell_who_waits()

    def _tell_who_waits(self) -> None:
        self._remembered.set()
        self._remembered = trio.Event()

    def ending_of(self, call_sid: str) -> Ending | None:
        """How that call ended, if it was one of the last here."""
        return self._endings.get(call_sid)

    async def follow(self, predecessor: Callable[[Remember], Awaitable[None]]) -> None:
        """Remembers what the process tells that had this one's address, until it is gone."""
        self._has_predecessor = True
        try:
            await predecessor(self.remember)
        finally:
            self._has_predecessor = False
            self._tell_who_waits()

    async def ending_told(self, call_sid: str) -> Ending | None:
        """The same as `ending_of`; if this process follows another, that one has a moment to tell
        how the call ended there."""
        with trio.move_on_after(TOLD_WITHIN):
            while self._has_predecessor and call_sid not in self._endings:
                await self._remembered.wait()
        return self.ending_of(call_sid)

    def drain(self, heir: Remember | None = None) -> None:
        """No more calls from now on; those under way go on. There may be an `heir`, who takes what
        comes to this process's address: it is told how calls have ended, and how others do."""
        self._is_draining = True
        if heir is not None:
            self._heir = heir
            for call_sid, ending in self._endings.items():
                heir(call_sid, ending)

    async def empty(self) -> None:
        """Waits until there is no call."""
        while self._calls:
            await self._emptied.wait()

    async def move_away(self, within: float, is_possible: Callable[[], bool]) -> None:
        """Lets go of the calls, so that other processes go on with them, while that `is_possible`:
        each between two turns, and after so many seconds the rest. Returns when there is none, or
        none that can be moved."""
        latest = trio.current_time() + within
        while self._calls:
            if is_possible():
                is_late = trio.current_time() >= latest
                movable = [call for call in self._calls if call.may_come_back]
                ready = (call for call in movable if is_late or call.is_at_rest)
                if (call := next(ready, None)) is not None:
                    call.tell(MoveAway())
                elif is_late and not movable:
                    return
            elif trio.current_time() >= latest:
                return
            await trio.sleep(MOVE_EVERY)

    def wind_up(self) -> None:
        """Drains, and has everyone told that the time is up: each call ends with its goodbye."""
        self.drain()
        self._is_winding_up = True
        for call in list(self._calls):
            call.tell(WindUp())

    def shut_down(self, *, moves: bool = False) -> None:
        """Drains, and hangs up on everyone: both sockets of each call close with 1001. If it
        `moves`, those go on in other processes that can."""
        self.drain()
        self._is_winding_up = True
        for call in list(self._calls):
            if moves and call.may_come_back:
                call.tell(MoveAway())
            else:
                call.tell(ShutDown())

"""Has Twilio ask `/twiml/after` about calls that have lost their process, where it did not ask by
itself.

Twilio asks when a stream is over, as far as is known: its documents do not say so of a connection
that was lost. So what becomes of a stream is told to us, too (`hear`). Who is told gives that
question time to come, looks whether the call is still nobody's, claims it, and has it asked about
by the REST API. That ends whatever stream the call has: so it is never done to a call that somebody
has claimed, and while it is under way, the other question is not answered (`until_asked`).
"""

from collections.abc import Callable

import trio

from sts_trio.errors import TwilioFailed
from sts_trio.moves.mover import Mover, Taken
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.outbound.twilio_rest import TwilioRest
from sts_trio.records.movable import CLAIMED_FOR

# Twilio asks within a second or two, if it does.
GRACE = 3.0
# Questions that Twilio is had to ask. Each has an agent dialled.
PER_SECOND = 20
# Nobody else has Twilio ask meanwhile: that would end the stream which comes of it.
ASK_WITHIN = CLAIMED_FOR - 1.0
# Of streams that are over, each waits for its time of grace. More are not listened to.
MAX_HEARD = 1000
# After Twilio has turned a question away, as there were too many.
REST = 5.0


class Lookout:
    """`rest` is the API of the account, `may_take` tells whether there is room for a call. Run it
    once."""

    def __init__(
        self, mover: Mover, rest: Callable[[], TwilioRest], may_take: Callable[[], bool]
    ) -> None:
        self._mover = mover
        self._rest = rest
        self._may_take = may_take
        self._heard = 0
        self._asking: dict[str, trio.Event] = {}  # {call SID: set when Twilio has answered}
        self._turns = trio.Lock()
        self._rests_until = 0.0
        self._nursery: trio.Nursery

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def hear(self, call_sid: str, account_sid: str, url: str) -> None:
        """A stream of that call is over. `url` is what Twilio would have to ask."""
        if not self._rest().missing and self._heard < MAX_HEARD:
            self._heard += 1
            self._nursery.start_soon(self._look_after, call_sid, account_sid, url)

    async def until_asked(self, call_sid: str) -> None:
        """Twilio is not being told to ask about that call. If it is, the question that it has asked
        before is about to be of no consequence."""
        await trio.lowlevel.checkpoint()
        if (is_done := self._asking.get(call_sid)) is not None:
            await is_done.wait()

    async def _look_after(self, call_sid: str, account_sid: str, url: str) -> None:
        try:
            await trio.sleep(GRACE)
            await self._rescue(call_sid, account_sid, "stream", url)
        finally:
            self._heard -= 1

    async def _rescue(self, call_sid: str, account_sid: str, road: str, url: str) -> None:
        """A boundary, too: above this there are only the server and all of its calls."""
        if not self._may_take():
            return
        try:
            taken = await self._mover.rescue(call_sid, account_sid, road, self._turn)
            if taken is not None:
                await self._have_asked(taken, url)
        except Exception as exc:
            report(events.CallNotRescued(call_sid, f"a bug of ours: {exc!r}"), exc_info=True)

    async def _turn(self) -> None:
        async with self._turns:
            await trio.sleep(max(1 / PER_SECOND, self._rests_until - trio.current_time()))

    async def _have_asked(self, taken: Taken, url: str) -> None:
        call_sid = taken.call_sid
        is_done = self._asking[call_sid] = trio.Event()
        reason = f"no answer within {ASK_WITHIN:g} s"
        try:
            with trio.move_on_after(ASK_WITHIN):
                is_on_line = await self._rest().have_asked(call_sid, url, taken.account_sid)
                reason = "" if is_on_line else "Twilio says that the call is over"
        except TwilioFailed as exc:
            reason = str(exc)
            if exc.status == 429:
                self._rests_until = trio.current_time() + REST
        finally:
            del self._asking[call_sid]
            is_done.set()
        if reason:
            report(events.CallNotRescued(call_sid, reason))

"""Has Twilio ask `/twiml/after` about calls that have lost their process, where it did not ask by
itself.

Twilio asks when a stream is over, as far as is known: its documents do not say so of a connection
that was lost. So what becomes of a stream is told to us, too (`hear`); and where a peer vanishes
without a word, the database tells (`left`). Who is told gives that question time to come, looks
whether the call is still nobody's, claims it, and has it asked about by the REST API. That ends
whatever stream the call has: so it is never done to a call that somebody has claimed, and while it
is under way, the other question is not answered (`until_asked`).
"""

from collections.abc import Callable, Sequence
from math import inf

import trio

from sts_trio.errors import TwilioFailed
from sts_trio.moves.mover import Mover, Taken
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.outbound.transfer import AFTER_PATH
from sts_trio.outbound.twilio_rest import TwilioRest
from sts_trio.records.movable import CLAIMED_FOR, Left

# Twilio is to ask again where there is no answer: a process that dies resets whoever it accepted,
# and one that is started anew takes seconds. Five times within 15 s, a second for a connection.
# Source: twilio.com/docs/usage/webhooks/webhooks-connection-overrides, read 2026-11-30.
AGAIN = "#rc=5&rp=all&ct=1000"
# In the query of what Twilio asks because we had it to.
ASKED_FOR = "rescued"
# Twilio asks within a second or two, if it does.
GRACE = 3.0
# Questions that Twilio is had to ask. Each has an agent dialled.
PER_SECOND = 20
# Nobody else has Twilio ask meanwhile: that would end the stream which comes of it.
ASK_WITHIN = CLAIMED_FOR - 1.0
# Of streams that are over, each waits for its time of grace. More are not listened to.
MAX_HEARD = 1000
# Of those that the database tells of, as many at a time.
LOT = PER_SECOND
LOOK_EVERY = 1.0
# One that was looked after and is still left: behind all that were not.
AGAIN_AFTER = 5.0
# Twilio's: there is no such call. So it is over, or not ours to be had.
NOT_FOUND = 20404
# After Twilio has turned a question away, as there were too many.
REST = 5.0


class Lookout:
    """`left` are the calls that nobody has had for a while; `rest` is the API of the account, and
    `may_take` tells whether there is room for a call. `base` is this server's address for Twilio;
    None: only who is told of a stream knows it. Run it once."""

    def __init__(
        self,
        mover: Mover,
        rest: Callable[[], TwilioRest],
        *,
        left: Callable[[], Sequence[Left]],
        may_take: Callable[[], bool],
        base: str | None,
    ) -> None:
        self._mover = mover
        self._rest = rest
        self._left = left
        self._may_take = may_take
        self._base = base
        self._heard = 0
        self._asking: dict[str, trio.Event] = {}  # {call SID: set when Twilio has answered}
        self._turns = trio.Lock()
        self._rests_until = 0.0
        self._nursery: trio.Nursery

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            if self._base is None:
                await trio.sleep_forever()
            else:
                await self._watch(after_url(self._base))

    async def _watch(self, url: str) -> None:
        tried: dict[Left, float] = {}
        looked_at = trio.current_time()
        while True:
            await trio.sleep_until(looked_at + LOOK_EVERY)
            now = looked_at = trio.current_time()
            left = [] if self._rest().missing else self._left()
            tried = {each: tried.get(each, -inf) for each in left}
            due = [each for each in left if now - tried[each] >= AGAIN_AFTER]
            async with trio.open_nursery() as nursery:
                for each in sorted(due, key=tried.__getitem__)[:LOT]:
                    tried[each] = now
                    nursery.start_soon(self._rescue, each.call_sid, "", "lookout", url)

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
        is_over = False
        try:
            with trio.move_on_after(ASK_WITHIN):
                is_over = not await self._rest().have_asked(call_sid, url, taken.account_sid)
                reason = "Twilio says that the call is over" if is_over else ""
        except TwilioFailed as exc:
            reason = str(exc)
            is_over = exc.code == NOT_FOUND
            if exc.status == 429:
                self._rests_until = trio.current_time() + REST
        finally:
            del self._asking[call_sid]
            is_done.set()
        if reason:
            report(events.CallNotRescued(call_sid, reason))
        if is_over:
            await self._mover.give_up(taken)


def after_url(base: str) -> str:
    """What Twilio is had to ask, where it did not by itself."""
    return f"{base}{AFTER_PATH}?{ASKED_FOR}=1{AGAIN}"

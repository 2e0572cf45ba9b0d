"""What one call of a simulated carrier asks of a bridge's webhooks, and what goes wrong in it."""

from functools import partial
from urllib.parse import urljoin

import msgspec
import trio

from sts_trio.net.http import Answer
from sts_trio.simulate import twiml
from sts_trio.simulate.phone_call import Problem, Requested
from sts_trio.simulate.webhook import NotAnswered, Webhooks


class Url(msgspec.Struct, frozen=True):
    """TwiML that is to be asked for, with these fields beside those of any request."""

    url: str
    method: str = "POST"
    fields: dict[str, str] = {}


class Text(msgspec.Struct, frozen=True):
    """TwiML as it is."""

    document: str


Source = Url | Text


class Action:
    """The action of the verb that is being followed. It is asked for when the verb ends, also if
    that is because the caller hangs up."""

    def __init__(self) -> None:
        self.pending: Url | None = None

    def expect(self, url: str, method: str, base: str) -> None:
        """A verb begins, which has this action; "": none."""
        self.pending = Url(urljoin(base, url), method) if url else None

    def add(self, **fields: str) -> None:
        """It is told this, too."""
        if self.pending is not None:
            self.pending = msgspec.structs.replace(self.pending, fields=fields)

    def take(self) -> Url | None:
        """The verb has ended by itself: this is to be asked for now."""
        pending, self.pending = self.pending, None
        return pending


class CallRequests:
    """`nursery` is for those that nobody waits for: it is to be set, and outlives the call."""

    def __init__(self, webhooks: Webhooks) -> None:
        self.nursery: trio.Nursery
        self.made: list[Requested] = []  # their times are Trio's, as those below
        self.problems: list[Problem] = []
        self._webhooks = webhooks

    async def ask(
        self, url: str, fields: dict[str, str], method: str, *, longest: int = twiml.MAX_TWIML
    ) -> Answer:
        """Raises `NotAnswered`."""
        at = trio.current_time()
        try:
            answer = await self._webhooks.ask(url, fields, method, longest=longest)
        except NotAnswered as exc:
            self.made.append(Requested(at, url, fields, str(exc)))
            raise
        self.made.append(Requested(at, url, fields))
        return answer

    async def tell(
        self, url: str, fields: dict[str, str], method: str = "POST", *, after: float = 0.0
    ) -> None:
        """Nobody follows what is answered."""
        await trio.sleep(after)
        try:
            await self.ask(url, fields, method)
        except NotAnswered as exc:
            self.report(exc)

    def tell_soon(
        self, url: str, fields: dict[str, str], method: str = "POST", *, after: float = 0.0
    ) -> None:
        """In `after` seconds."""
        self.nursery.start_soon(partial(self.tell, url, fields, method, after=after))

    def report(self, exc: NotAnswered | twiml.NotTwiml) -> None:
        status = exc.status if isinstance(exc, NotAnswered) else None
        self.problem(exc.code, str(exc), status)

    def problem(self, code: int, reason: str, status: int | None = None) -> None:
        self.problems.append(Problem(trio.current_time(), code, reason, status))

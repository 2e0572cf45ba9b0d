"""A bridge that is running, as a test sees it; and those of this process."""

import contextlib
from collections.abc import Iterator

import msgspec

from sts_trio.errors import Ending
from sts_trio.observe.feed import CallEvent
from sts_trio.outbound.progress import TWIML_PATH
from sts_trio.simulate.report import Report
from sts_trio.web.app import App


class Server(msgspec.Struct, frozen=True):
    """A bridge that is running. `app.live_calls` knows its live calls."""

    base: str  # http://127.0.0.1:PORT
    url: str  # of the media socket: what Twilio, or `call`, is given
    app: App

    @property
    def webhook(self) -> str:
        """Of the voice webhook: what a number of Twilio's, or `call`, is given."""
        return self.base + TWIML_PATH

    @property
    def headers(self) -> dict[str, str]:
        """What lets a client of your own in, on every route. `call` needs none of it."""
        key = self.app.server.key
        return {} if key is None else {"Authorization": f"Bearer {key}"}

    async def ending_of(self, report: Report) -> Ending | None:
        """How the call ended as the bridge has it; waits until the bridge has no call any more."""
        await self.app.live_calls.empty()
        return self.app.live_calls.ending_of(report.call_sid)

    async def happened_in(self, report: Report) -> list[CallEvent]:
        """All that happened in the call, as far as the bridge has not forgotten it (it keeps the
        last 2000 entries of all calls); waits until the bridge has no call any more.

        The events are those of `sts_trio.observe.events`: `CallTranscript` tells what was said,
        `CallHeard` what the caller heard of it, `FunctionFinished` which function was run, and what
        the agent was told of it.
        """
        await self.app.live_calls.empty()
        _, entries = self.app.live_calls.event_feed.entries_beyond(0)
        return [each for each in entries if each.call_sid == report.call_sid]


# By host and port: a simulated caller asks what one of them is at.
_running: dict[str, Server] = {}


@contextlib.contextmanager
def known(server: Server) -> Iterator[None]:
    """`server_at` finds it meanwhile."""
    origin = _origin(server.base)
    _running[origin] = server
    try:
        yield
    finally:
        del _running[origin]


def server_at(url: str) -> Server | None:
    """The one that is running there, if it is of this process."""
    return _running.get(_origin(url))


def _origin(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]

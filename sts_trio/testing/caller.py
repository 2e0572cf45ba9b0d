"""A caller who says what a test wants said."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sts_trio.audio import wav
from sts_trio.observe.feed import EventFeed
from sts_trio.simulate.at_work import AtWork
from sts_trio.simulate.caller import place_call
from sts_trio.simulate.media_stream import Sids
from sts_trio.simulate.phone import Watch
from sts_trio.simulate.report import Report
from sts_trio.simulate.script import (
    HangUp,
    IsBusy,
    Keys,
    Speak,
    Step,
    WaitForQuiet,
    WaitForSpeech,
    impatient,
    polite,
)
from sts_trio.simulate.spoken import spoken
from sts_trio.simulate.webhook import NUMBERS, Numbers, Sign
from sts_trio.testing.server import server_at

Said = str | Path | bytes | Speak | Keys


async def call(
    url: str,
    says: Said | Sequence[Said | WaitForQuiet | WaitForSpeech | HangUp] = (),
    *,
    barge_in_after: float | None = None,
    limit: float = 120.0,
    parameters: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    sign: Sign | None = None,
    watch: Watch | None = None,
    from_: str = NUMBERS.from_,
    to: str = NUMBERS.to,
) -> Report:
    """Calls the bridge at `url` as Twilio would, says each thing in turn, and hangs up.

    The URL is that of its websocket (`Server.url`), or of its webhook (`Server.webhook`), whose
    TwiML then names the websocket.

    A `str` is said by the offline voice, a `Path` is a WAV file of any kind, `bytes` are µ-law at
    8 kHz, and `Keys` are pressed. The caller hears the greeting and each answer out before going
    on; or, with `barge_in_after`, goes on when the agent has been speaking for so many seconds.
    While a server of `running` runs a function, what its agent says is no answer yet.

    With a `WaitForQuiet`, `WaitForSpeech` or `HangUp` among them, the caller does exactly what
    `says` tells, and nothing between.

    `from_` and `to` are what a webhook is told of who calls whom.

    What came of it is told by the report, whatever it was; `parameters`, `headers`, `sign`, `limit`
    and `watch` are as in `sts_trio.simulate.caller.place_call`.

    Raises:
        NotConnected: there was no call: nobody there, or the handshake was refused.
        NotAWav: one of the files cannot be read; nobody is called then.
    """
    sids = Sids()
    return await place_call(
        url,
        steps_of(says, barge_in_after),
        limit=limit,
        parameters=parameters,
        headers=headers,
        sign=sign,
        watch=watch,
        is_busy=at_work_in(url, sids.call),
        sids=sids,
        numbers=Numbers(from_, to),
    )


def steps_of(
    says: Said | Sequence[Said | WaitForQuiet | WaitForSpeech | HangUp],
    barge_in_after: float | None,
) -> list[Step]:
    """What the caller does to say all this."""
    if isinstance(says, str | Path | bytes | Speak | Keys):
        says = [says]
    steps = [step(each) for each in says]
    clips = [each for each in steps if isinstance(each, Speak | Keys)]
    if len(clips) == len(steps):
        return polite(clips) if barge_in_after is None else impatient(clips, barge_in_after)
    if barge_in_after is not None:
        raise ValueError("who tells every step tells when to barge in: leave barge_in_after out")
    return steps


def at_work_in(url: str, call_sid: str) -> IsBusy | None:
    """Whether the agent of that call is at work, if the bridge there is one of `running`."""
    server = server_at(url)
    return None if server is None else _Follower(server.app.live_calls.event_feed, call_sid)


class _Follower:
    """Tells what the agent of a call is at, by what happens in it."""

    def __init__(self, event_feed: EventFeed, call_sid: str) -> None:
        self._event_feed = event_feed
        self._call_sid = call_sid
        self._seen = event_feed.count
        self._at_work = AtWork()

    def __call__(self, now: float) -> bool:
        first, entries = self._event_feed.entries_beyond(self._seen)
        self._seen = first + len(entries) - 1
        for each in entries:
            if each.call_sid == self._call_sid:
                self._at_work.hear(each.at, each.event)
        return self._at_work.is_busy(now)


def step(said: Said | Step) -> Step:
    """What the caller does to say this."""
    if isinstance(said, str):
        return spoken(said)
    if isinstance(said, bytes):
        return Speak(said)
    if isinstance(said, Path):
        return Speak(wav.read(said), said.name)
    return said

"""A caller who says what a test wants said."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sts_trio.audio import wav
from sts_trio.simulate.caller import Sign, place_call
from sts_trio.simulate.phone import Watch
from sts_trio.simulate.report import Report
from sts_trio.simulate.script import (
    HangUp,
    Speak,
    Step,
    WaitForQuiet,
    WaitForSpeech,
    impatient,
    polite,
)
from sts_trio.simulate.spoken import spoken

Said = str | Path | bytes | Speak


async def call(
    url: str,
    says: Sequence[Said | WaitForQuiet | WaitForSpeech | HangUp] = (),
    *,
    barge_in_after: float | None = None,
    limit: float = 120.0,
    parameters: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    sign: Sign | None = None,
    watch: Watch | None = None,
) -> Report:
    """Calls the bridge at `url` as Twilio would, says each thing in turn, and hangs up.

    The URL is that of its websocket (`Server.url`), or of its webhook (`Server.webhook`), whose
    TwiML then names the websocket.

    A `str` is said by the offline voice, a `Path` is a WAV file of any kind, `bytes` are µ-law at
    8 kHz. The caller hears the greeting and each answer out before going on; or, with
    `barge_in_after`, goes on when the agent has been speaking for so many seconds.

    With a `WaitForQuiet`, `WaitForSpeech` or `HangUp` among them, the caller does exactly what
    `says` tells, and nothing between.

    What came of it is told by the report, whatever it was; `parameters`, `headers`, `sign`, `limit`
    and `watch` are as in `sts_trio.simulate.caller.place_call`.

    Raises:
        NotConnected: there was no call: nobody there, or the handshake was refused.
        NotAWav: one of the files cannot be read; nobody is called then.
    """
    steps = [step(each) for each in says]
    clips = [each for each in steps if isinstance(each, Speak)]
    if len(clips) == len(steps):
        steps = polite(clips) if barge_in_after is None else impatient(clips, barge_in_after)
    elif barge_in_after is not None:
        raise ValueError("who tells every step tells when to barge in: leave barge_in_after out")
    return await place_call(
        url, steps, limit=limit, parameters=parameters, headers=headers, sign=sign, watch=watch
    )


def step(said: Said | Step) -> Step:
    """What the caller does to say this."""
    if isinstance(said, str):
        return spoken(said)
    if isinstance(said, bytes):
        return Speak(said)
    if isinstance(said, Path):
        return Speak(wav.read(said), said.name)
    return said

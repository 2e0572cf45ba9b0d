"""`sts-trio call`: a simulated caller for any bridge that speaks Twilio's protocol."""

import errno
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import click

from sts_trio.commands.common import Misuse, fail, make_directory, run, save, say
from sts_trio.errors import ConfigError
from sts_trio.wire.printable import printable

if TYPE_CHECKING:
    from sts_trio.simulate.caller import NotConnected, Sign
    from sts_trio.simulate.report import Report
    from sts_trio.simulate.script import Speak, Step

NO_WEBSOCKET = (
    "nothing at this path takes calls: sts-trio's websocket is /twilio, and its webhook /twiml"
)
# What a bridge may mean by refusing a handshake, and what to do about it.
HINTS = {
    400: NO_WEBSOCKET,
    401: "the bridge wants a credential",
    403: "it serves Twilio only: give --signed and the TWILIO_AUTH_TOKEN that it has. If it has "
    "none, call it as the user who runs it, on its own machine, or with the ?key= that it told. "
    "With STS_BINS=0 only its webhook can be called, --url http://HOST/twiml. Its log says more",
    404: NO_WEBSOCKET,
    503: "all lines are busy, or it is shutting down",
}


@click.command()
@click.argument("wavs", nargs=-1, metavar="[WAV]...", type=click.Path())
@click.option("--say", "texts", multiple=True, metavar="TEXT", help="Say this, after the WAVs.")
@click.option(
    "--url",
    default="ws://127.0.0.1:5000/twilio",
    show_default=True,
    help="The bridge to call: its websocket, or its webhook, http://HOST/twiml.",
)
@click.option(
    "--barge-in-after",
    metavar="SECONDS",
    type=click.FloatRange(0.1, 60),
    help="Interrupt the agent when it has been speaking for so long.",
)
@click.option("--signed", is_flag=True, help="Sign as Twilio does, with TWILIO_AUTH_TOKEN.")
@click.option(
    "--out",
    default=".",
    type=click.Path(),
    help="Where the recording goes: a directory, or a file ending in .wav. [default: here]",
)
@click.option(
    "--seconds",
    default=120.0,
    show_default=True,
    type=click.FloatRange(1, 3600),
    help="Hang up after so many.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as one JSON object.")
def call(
    wavs: tuple[str, ...],
    texts: tuple[str, ...],
    url: str,
    barge_in_after: float | None,
    signed: bool,
    out: str,
    seconds: float,
    as_json: bool,
) -> None:
    """Call a bridge as Twilio would, say each WAV in turn, and record both sides.

    Hears the greeting out, says a WAV, hears the answer out, and so on, then hangs up. A WAV may
    have any rate, width and number of channels. The recording has the caller on the left and the
    agent, as heard, on the right.

    By a webhook the call goes where its TwiML says.
    --signed takes the token from the environment or sts-trio.toml. A bridge on this machine that
    has an STS_PUBLIC_URL is signed for by that. A `sts-trio serve` of yours on this machine that
    has no token is given the key of its run; elsewhere, add ?key=KEY to the --url.

    \b
    Exit status:
      0  the agent was heard, and all said goodbye
      2  asked for wrongly: a WAV that is none, a URL that is none, a wrong option
      3  no call: nobody there, or refused
      4  the agent was not heard
      5  the bridge broke the call off, or closed it with an error
    """
    from sts_trio.audio import wav
    from sts_trio.simulate.caller import NotAUrl, NotConnected
    from sts_trio.simulate.script import impatient, polite
    from sts_trio.simulate.spoken import without_words

    clips = [*map(_readable, wavs), *map(_spoken, texts)]
    if texts and (reason := without_words()):
        say(reason, err=True)
    steps = polite(clips) if barge_in_after is None else impatient(clips, barge_in_after)
    sign = signer() if signed else None
    target = _recording(out)
    try:
        report = run(_call, url, steps, seconds, sign, as_json)
    except NotAUrl as exc:
        raise Misuse(f"--url {exc}") from exc
    except NotConnected as exc:
        _refused(exc, as_json)
    save(wav.write, target, report.said, report.heard)
    if as_json:
        _print_json(_facts(report, target))
    else:
        _tell(report, target)
    if report.fault is not None:
        fail(report.fault, report.result.exit_status)


async def _call(
    url: str, steps: "Sequence[Step]", limit: float, sign: "Sign | None", is_quiet: bool
) -> "Report":
    from rich.console import Console

    from sts_trio.simulate.caller import place_call
    from sts_trio.simulate.phone import Moment
    from sts_trio.simulate.screen import Screen
    from sts_trio.simulate.transcript import Narrator

    with Screen(Console(quiet=is_quiet)) as screen:
        narrator = Narrator(screen.tell, knows_words=False)

        def watch(moment: Moment) -> None:
            narrator.watch(moment)
            screen.watch(moment)

        return await place_call(url, steps, limit=limit, sign=sign, watch=watch)


# --- what is asked for ----------------------------------------------------------------------------


def _readable(path: str) -> "Speak":
    from sts_trio.audio import wav
    from sts_trio.simulate.script import Speak

    try:
        return Speak(wav.read(path), Path(path).name)
    except wav.NotAWav as exc:
        raise Misuse(str(exc)) from exc


def _spoken(text: str) -> "Speak":
    from sts_trio.simulate.spoken import spoken

    clip = spoken(text)
    if not clip.audio:
        raise Misuse(f"--say {text!r}: there is nothing in it to be said")
    return clip


def signer() -> "Sign":
    """What makes the header that Twilio would send."""
    from sts_trio import config
    from sts_trio.wire import webhook

    # Who only calls needs no agent.
    settings = config.from_environment(STS_AGENT="offline")
    if not settings.twilio_auth_tokens:
        raise ConfigError("--signed: TWILIO_AUTH_TOKEN is not set: give the token the bridge has")

    def sign(url: str, form: Mapping[str, str]) -> dict[str, str]:
        parts = urlsplit(url)
        # Twilio asks a webhook by http as well, but streams by wss alone.
        is_stream = parts.scheme in ("ws", "wss")
        base = f"https://{parts.netloc}" if is_stream else f"{parts.scheme}://{parts.netloc}"
        if settings.public_url is not None and parts.hostname in ("127.0.0.1", "::1", "localhost"):
            base = settings.public_url
        written = base + parts.path + (f"?{parts.query}" if parts.query else "")
        if is_stream:
            written = webhook.media_url(base, parts.path)
        signature = webhook.sign(settings.twilio_auth_tokens[0], written, form)
        return {webhook.SIGNATURE_HEADER: signature}

    return sign


def _recording(out: str) -> Path:
    """The file to record to; its directory exists then."""
    path = Path(out)
    if path.suffix.lower() != ".wav":
        path /= time.strftime("call-%Y%m%d-%H%M%S.wav")
    make_directory(path.parent)
    return path


# --- what came of it ------------------------------------------------------------------------------


def _refused(error: "NotConnected", as_json: bool) -> NoReturn:
    from sts_trio.simulate.report import Result

    hint = HINTS.get(error.status or 0)
    if os.strerror(errno.ECONNREFUSED) in str(error):
        hint = "nobody listens there: is `sts-trio serve` running?"
    reason = f"no call: {error}" + (f" ({hint})" if hint else "")
    if as_json:
        _print_json({"result": Result.NO_CALL.label, "fault": reason, "status": error.status})
    fail(reason, Result.NO_CALL.exit_status)


def _tell(report: "Report", target: Path) -> None:
    from rich.console import Console

    from sts_trio.simulate import screen

    console = Console()
    console.print(screen.summary(report, console.encoding))
    say(f"Recording: {target}")


def _facts(report: "Report", target: Path) -> dict[str, Any]:
    """The report for machines: all but the audio, which is in the recording."""
    import msgspec

    facts: dict[str, Any] = {"result": report.result.label, "fault": report.fault}
    facts["recording"] = str(target)
    for name, value in msgspec.to_builtins(report, str_keys=True).items():
        if name not in ("said", "heard", "began"):
            facts[name] = _rounded(value)
    return facts


def _rounded(value: Any) -> Any:
    """Seconds to the millisecond: what is beyond is the float's."""
    match value:
        case float():
            return round(value, 3)
        case list() | tuple():
            return [_rounded(each) for each in value]
        case dict():
            return {name: _rounded(each) for name, each in value.items()}
    return value


def _print_json(facts: dict[str, Any]) -> None:
    import msgspec

    # Lines of its own; what is in it has none.
    click.echo(msgspec.json.format(msgspec.json.encode(printable(facts))).decode())

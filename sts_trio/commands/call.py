"""`sts-trio call`: a simulated caller for any bridge that speaks Twilio's protocol."""

import errno
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qs, urlsplit

import click
from click.core import ParameterSource

from sts_trio.commands.common import (
    Misuse,
    check_writable,
    fail,
    make_directory,
    pairs,
    run,
    save,
    say,
)
from sts_trio.errors import ConfigError
from sts_trio.wire.printable import printable

if TYPE_CHECKING:
    from sts_trio.simulate.connect import NotConnected
    from sts_trio.simulate.phone_call import PhoneCall
    from sts_trio.simulate.report import Report
    from sts_trio.simulate.script import Keys, Said, Speak, Step
    from sts_trio.simulate.transcript import Line
    from sts_trio.simulate.webhook import Numbers, Sign

ORDER = "sts_trio.call.order"
LOCAL = ("127.0.0.1", "::1", "localhost")
# For what the bridge tells of the end, when the call is over.
LAST_WORDS = 2.0

WHY_NOT = "no `sts-trio serve` is known there; give its ?key= or STS_ADMIN_TOKEN if it is one"

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


class _InOrder(click.Command):
    """Keeps the order in which options were given, as the caller says and presses things in it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta[ORDER] = [each.name for each in order]
        return super().parse_args(ctx, args)


@click.command(cls=_InOrder)
@click.argument("wavs", nargs=-1, metavar="[WAV]...", type=click.Path())
@click.option("--say", "texts", multiple=True, metavar="TEXT", help="Say this, after the WAVs.")
@click.option(
    "--keys", multiple=True, metavar="KEYS", help="Press these, in order with what is said."
)
@click.option(
    "--url",
    default="ws://127.0.0.1:5000/twilio",
    show_default=True,
    help="The bridge to call: its websocket, or its webhook, http://HOST/twiml.",
)
@click.option(
    "--through",
    metavar="URL",
    help="Call the number whose webhook this is, through a carrier that follows all of its TwiML:"
    " transfers, and what comes after the stream.",
)
@click.option(
    "--answers",
    multiple=True,
    metavar="NUMBER",
    help="With --through: somebody answers there, if the call is transferred.",
)
@click.option("--from", "from_", metavar="NUMBER", help="Who calls.")
@click.option("--to", metavar="NUMBER", help="Who is called, which may decide who answers.")
@click.option("--agent", metavar="NAME", help="Who is to answer.")
@click.option(
    "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Of the TwiML's stream."
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
@click.pass_context
def call(
    ctx: click.Context,
    wavs: tuple[str, ...],
    texts: tuple[str, ...],
    keys: tuple[str, ...],
    url: str,
    through: str | None,
    answers: tuple[str, ...],
    from_: str | None,
    to: str | None,
    agent: str | None,
    parameters: tuple[str, ...],
    barge_in_after: float | None,
    signed: bool,
    out: str,
    seconds: float,
    as_json: bool,
) -> None:
    """Call a bridge as Twilio would, say each WAV in turn, and record both sides.

    Hears the greeting out, says a WAV, hears the answer out, and so on, then hangs up. A WAV may
    have any rate, width and number of channels. The recording has the caller on the left and the
    agent, as heard, on the right; a transcript is written beside it.

    By a webhook the call goes where its TwiML says, and the webhook decides who answers. --through
    a webhook also tells each request, stream and transfer of the call.
    --signed takes the token from the environment or sts-trio.toml. A bridge on this machine that
    has an STS_PUBLIC_URL is signed for by that. A `sts-trio serve` of yours on this machine that
    has no token is given the key of its run; elsewhere, add ?key=KEY to the --url.

    A `sts-trio serve` tells the words of both sides to who has its key. Where it has
    STS_ADMIN_TOKEN, so must this command, and the server has to be on this machine or at
    STS_PUBLIC_URL.

    \b
    Exit status:
      0  the agent was heard, and all said goodbye
      2  asked for wrongly: a WAV that is none, a URL that is none, a wrong option
      3  no call: nobody there, or refused
      4  the agent was not heard
      5  the bridge broke the call off, or closed it with an error
    """
    from sts_trio.audio import wav
    from sts_trio.simulate import transcript
    from sts_trio.simulate.connect import NotAUrl, NotConnected
    from sts_trio.simulate.script import impatient, polite
    from sts_trio.simulate.spoken import without_words
    from sts_trio.simulate.webhook import NUMBERS, Numbers

    if through is not None:
        if ctx.get_parameter_source("url") is not ParameterSource.DEFAULT:
            raise Misuse("--through: it is the URL that is called: leave --url out")
        if not through.startswith(("http://", "https://")):
            raise Misuse(f"--through {through}: expected a webhook, http://HOST/twiml")
        url = through
    elif answers:
        raise Misuse("--answers: somebody is only dialled --through a webhook")
    clips = [*map(_readable, wavs), *_in_order(ctx.meta[ORDER], texts, keys)]
    if texts and (reason := without_words()):
        say(reason, err=True)
    steps = polite(clips) if barge_in_after is None else impatient(clips, barge_in_after)
    sign = signer() if signed else None
    numbers = Numbers(from_ or NUMBERS.from_, to or NUMBERS.to)
    given_parameters = _parameters(url, from_, to, agent, parameters)
    target = _recording(out)
    words = target.with_suffix(".txt")
    for path in (target, words):
        check_writable(path)
    told = _Told(url)
    try:
        report = run(
            _call,
            url,
            steps,
            seconds,
            sign,
            numbers,
            given_parameters,
            told,
            as_json,
            None if through is None else answers,
        )
    except NotAUrl as exc:
        raise Misuse(f"--{'url' if through is None else 'through'} {exc}") from exc
    except NotConnected as exc:
        _refused(exc, as_json)
    lines = transcript.lines(report, told.sentences)
    save(wav.write, target, report.said, report.heard)
    save(_write_text, words, transcript.text(lines))
    if as_json:
        road = {} if told.phone_call is None else {"phone_call": _road(told.phone_call)}
        facts = {**_facts(report, target), "words": str(words), "transcript": _plain(lines)}
        _print_json({**facts, **road})
    else:
        _tell(report, target, words, told.why_not)
        if told.phone_call is not None:
            _tell_road(told.phone_call)
    if report.fault is not None:
        fail(report.fault, report.result.exit_status)


class _Told:
    """What the bridge tells of the call, if it does; else `why_not`."""

    def __init__(self, url: str) -> None:
        from sts_trio.simulate.at_work import AtWork
        from sts_trio.simulate.transcript import Sentence

        self.sentences: list[Sentence] = []
        self.phone_call: PhoneCall | None = None  # of a call through a carrier
        self.at_work = AtWork()
        self.key = _key(url)
        self.why_not = "" if self.key else WHY_NOT


async def _call(
    url: str,
    steps: "Sequence[Step]",
    limit: float,
    sign: "Sign | None",
    numbers: "Numbers",
    parameters: dict[str, str],
    told: _Told,
    is_quiet: bool,
    answers: Sequence[str] | None,
) -> "Report":
    import msgspec
    import trio
    from rich.console import Console

    from sts_trio.observe import events
    from sts_trio.simulate.call_parties import Party
    from sts_trio.simulate.caller import place_call
    from sts_trio.simulate.carrier import Carrier
    from sts_trio.simulate.follow import NotTold, follow
    from sts_trio.simulate.media_stream import Sids
    from sts_trio.simulate.phone import Moment
    from sts_trio.simulate.screen import Screen
    from sts_trio.simulate.transcript import Narrator, Sentence

    sids = Sids()
    is_over = trio.Event()
    with Screen(Console(quiet=is_quiet)) as screen:
        narrator = Narrator(screen.tell, knows_words=False)

        def watch(moment: Moment) -> None:
            narrator.watch(moment)
            screen.watch(moment)

        def hear(at: float, name: str, fields: dict[str, Any]) -> None:
            try:
                event = events.read(name, fields)
            except msgspec.ValidationError:
                return  # of another version, or of a server that is none of ours
            if event is not None:
                told.at_work.hear(at, event)
            match event:
                case events.CallTranscript(role=role, text=text):
                    told.sentences.append(Sentence(at, role, text))
                    narrator.hear(told.sentences[-1])
                case events.CallHeard(said=said, heard=heard):
                    narrator.end_turn(at, said, heard)

        def has_begun() -> None:
            narrator.knows_words = True

        async def listen(key: str) -> None:
            try:
                await follow(
                    url, sids.call, hear, key=key, last=events.CallEnded.NAME, has_begun=has_begun
                )
            except NotTold as exc:
                told.why_not = str(exc)
                narrator.knows_words = False
            is_over.set()

        async with trio.open_nursery() as nursery:
            if told.key is None:
                is_over.set()
            else:
                nursery.start_soon(listen, told.key)
            if answers is not None:
                parties = dict.fromkeys(answers, Party())
                carrier = Carrier(sids.account, sign=sign, parameters=parameters, parties=parties)
                told.phone_call = await carrier.place(
                    url,
                    steps,
                    limit=limit,
                    watch=watch,
                    is_busy=told.at_work.is_busy,
                    sids=sids,
                    numbers=numbers,
                )
                told.phone_call.check()
                report = told.phone_call.report
            else:
                report = await place_call(
                    url,
                    steps,
                    limit=limit,
                    sign=sign,
                    watch=watch,
                    parameters=parameters,
                    is_busy=told.at_work.is_busy,
                    sids=sids,
                    numbers=numbers,
                )
            with trio.move_on_after(LAST_WORDS):
                await is_over.wait()
            nursery.cancel_scope.cancel()
        return report


# --- what is asked for ----------------------------------------------------------------------------


def _parameters(
    url: str, from_: str | None, to: str | None, agent: str | None, given: Sequence[str]
) -> dict[str, str]:
    """Those of the stream, among them what a TwiML Bin would say of the call."""
    from sts_trio.call.info import FROM, NAMED, TO

    found = pairs("--parameter", given)
    if url.startswith("http"):
        if agent is not None:
            raise Misuse(
                "--agent: a webhook decides who answers: call the websocket, as a TwiML Bin does,"
                " or give the agent's number by --to"
            )
        return found
    named = {FROM: from_, TO: to, NAMED: agent}
    return found | {name: value for name, value in named.items() if value is not None}


def _key(url: str) -> str | None:
    """What lets this user in as the operator of the server that is called, if it is theirs: the key
    in its URL or of its run, or the admin token. That goes to a server on this machine, or to the
    one at STS_PUBLIC_URL; nobody else's is asked anything."""
    from sts_trio import config
    from sts_trio.config import local_key

    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme in ("https", "wss") else 80)
        # Who only calls needs no agent.
        settings = config.from_environment(STS_AGENT="offline")
    except (ConfigError, ValueError):
        return None  # of a URL that is none; or it is told by the command that takes it
    if key := parse_qs(parts.query).get("key"):
        return key[0]
    ours = urlsplit(settings.public_url or "")
    is_ours = parts.scheme in ("https", "wss") and parts.hostname == ours.hostname
    if settings.admin_token and (is_ours or parts.hostname in LOCAL):
        return settings.admin_token
    if parts.hostname not in LOCAL:
        return None
    hosts = ("127.0.0.1", "::1") if parts.hostname == "localhost" else (parts.hostname,)
    found = (local_key.find((host, port)) for host in hosts)
    return next((key for key in found if key), None)


def _in_order(order: Sequence[str], texts: Sequence[str], keys: Sequence[str]) -> Iterator["Said"]:
    """`order` has the names of the options, as they were given."""
    left = {"texts": iter(texts), "keys": iter(keys)}
    for name in order:
        if name == "texts":
            yield _spoken(next(left[name]))
        elif name == "keys":
            yield _pressed(next(left[name]))


def _pressed(keys: str) -> "Keys":
    from sts_trio.simulate.script import Keys

    try:
        return Keys(keys.upper())
    except ValueError as exc:
        raise Misuse(f"--keys: {exc}") from exc


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
        if settings.public_url is not None and parts.hostname in LOCAL:
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
        if path.suffix and not path.exists():
            raise Misuse(f"--out {out}: expected a directory, or a file ending in .wav")
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


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _plain(lines: "Sequence[Line]") -> Any:
    import msgspec

    return msgspec.to_builtins(lines)


def _tell(report: "Report", target: Path, words: Path, why_not: str) -> None:
    from rich.console import Console

    from sts_trio.simulate import screen

    console = Console()
    console.print(screen.summary(report, console.encoding))
    if why_not:
        say(f"The agent's words are not known: {why_not}")
    say(f"Recording: {target}, transcript: {words}")


def _tell_road(call: "PhoneCall") -> None:
    """Each step of a phone call, in order, a line each."""
    for at, line in sorted(_steps(call)):
        say(f"{at:7.1f} s  {line}")
    say(f"The call is {call.status}, ended by the {call.ended_by}.")


def _steps(call: "PhoneCall") -> Iterator[tuple[float, str]]:
    for asked in call.requests:
        yield asked.at, f"request  {asked.url}" + (f": {asked.fault}" if asked.fault else "")
    for each in call.streams:
        until = f"until {each.ended:.1f} s, by the {each.ended_by}"
        yield each.began, f"stream   {each.url} {until}"
    for other in call.connected:
        yield other.began, f"dialled  {other.number}: {other.status}, {other.seconds:.1f} s"
    for problem in call.problems:
        yield problem.at, f"error    {problem.code}: {problem.reason}"


def _road(call: "PhoneCall") -> dict[str, Any]:
    """The same for machines, without the report, which stands beside it."""
    import msgspec

    told = msgspec.to_builtins(call)
    del told["report"]
    for each in told["connected"]:
        del each["heard"]
    return {name: _rounded(value) for name, value in told.items()}


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

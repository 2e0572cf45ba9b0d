"""`sts-trio call`: a simulated caller for any bridge that speaks Twilio's protocol."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from sts_trio.commands.call_options import (
    in_order,
    operator_key,
    readable,
    recording_file,
    signer,
    stream_parameters,
)
from sts_trio.commands.call_outcome import fail_refused, print_outcome, tell_outcome, write_text
from sts_trio.commands.common import (
    Command,
    Misuse,
    check_writable,
    fail,
    own_server,
    run,
    save,
    say,
)

if TYPE_CHECKING:
    from sts_trio.simulate.phone_call import PhoneCall
    from sts_trio.simulate.report import Report
    from sts_trio.simulate.script import Step
    from sts_trio.simulate.webhook import Numbers, Sign

ORDER = "sts_trio.call.order"
# For what the bridge tells of the end, when the call is over.
LAST_WORDS = 2.0
# Who answers sooner than this is not waited for.
UNANSWERED_FOR = 2.0

WHY_NOT = "no `sts-trio serve` is known there; give its ?key= or STS_ADMIN_TOKEN if it is one"


class _InOrder(Command):
    """Keeps the order in which options were given, as the caller says and presses things in it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta[ORDER] = [each.name for each in order]
        return super().parse_args(ctx, args)


@click.command(cls=_InOrder, short_help="Call a bridge as Twilio would, and record both sides.")
@click.argument("wavs", nargs=-1, metavar="[WAV]...", type=click.Path())
@click.option("--say", "texts", multiple=True, metavar="TEXT", help="Say this, after the WAVs.")
@click.option(
    "--keys", multiple=True, metavar="KEYS", help="Press these, in order with what is said."
)
@click.option(
    "--url",
    default=own_server("ws://{}/twilio"),
    help="The bridge to call: its websocket, or its webhook, http://HOST/twiml. "
    "[default: ws://127.0.0.1:PORT/twilio, with 5000 where PORT is not set]",
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
    clips = [*map(readable, wavs), *in_order(ctx.meta[ORDER], texts, keys)]
    if barge_in_after is not None and not clips:
        raise Misuse("--barge-in-after: expected what to say then: a WAV, --say or --keys")
    if texts and (reason := without_words()):
        say(reason, err=True)
    steps = polite(clips) if barge_in_after is None else impatient(clips, barge_in_after)
    sign = signer() if signed else None
    numbers = Numbers(from_ or NUMBERS.from_, to or NUMBERS.to)
    given_parameters = stream_parameters(url, from_, to, agent, parameters)
    target = recording_file(out)
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
        fail_refused(exc, as_json)
    lines = transcript.lines(report, told.sentences)
    save(wav.write, target, report.said, report.heard)
    save(write_text, words, transcript.text(lines))
    if as_json:
        print_outcome(report, told.phone_call, lines, target, words)
    else:
        tell_outcome(report, told.phone_call, target, words, told.why_not)
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
        self.is_answered = False
        self.now = 0.0  # on the caller's phone
        # The bridge counts from its stream, before which the caller may have heard a notice.
        self.ahead = 0.0
        self.key = operator_key(url)
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
    from sts_trio.simulate.caller import place_call
    from sts_trio.simulate.carrier import Carrier
    from sts_trio.simulate.connect import CONNECT_TIMEOUT
    from sts_trio.simulate.follow import NotTold, follow
    from sts_trio.simulate.media_stream import Sids
    from sts_trio.simulate.party import Party
    from sts_trio.simulate.phone import Moment
    from sts_trio.simulate.screen import Screen
    from sts_trio.simulate.transcript import Narrator, Sentence
    from sts_trio.simulate.webhook import ANSWER_TIMEOUT

    sids = Sids()
    is_over = trio.Event()
    with Screen(Console(quiet=is_quiet)) as screen:
        narrator = Narrator(screen.tell, knows_words=False)

        async def tell_who_does_not_answer() -> None:
            await trio.sleep(UNANSWERED_FOR)
            if not told.is_answered:
                most = ANSWER_TIMEOUT if url.startswith("http") else CONNECT_TIMEOUT
                say(f"{url} has not answered yet; it has {most:g} s.", err=True)

        def watch(moment: Moment) -> None:
            told.is_answered = True
            told.now = moment.seconds
            narrator.watch(moment)
            screen.watch(moment)

        def hear(at: float, name: str, fields: dict[str, Any]) -> None:
            try:
                event = events.read(name, fields)
            except msgspec.ValidationError:
                return  # of another version, or of a server that is none of ours
            if isinstance(event, events.CallStarted):
                told.ahead = max(0.0, told.now - at)
            at += told.ahead
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
            nursery.start_soon(tell_who_does_not_answer)
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

"""`sts-trio load`: a load test of any bridge that speaks Twilio's protocol."""

import functools
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from sts_trio.commands.call_options import readable, signer
from sts_trio.commands.call_outcome import write_text
from sts_trio.commands.common import Command, Misuse, check_writable, fail, pairs, run, save, say

if TYPE_CHECKING:
    from sts_trio.load.figures import Progress
    from sts_trio.load.load_test import Generator
    from sts_trio.load.plan import Endings, Plan
    from sts_trio.load.report import Report

CLIP = "mary-cars"  # what callers say to an agent of the bridge's
OF_OWN_AGENT = ("turn", "speech", "barge_in", "agent_port", "gathers")
VOID = 3  # nothing is known: the generator was the bottleneck


def _endings(context: click.Context, parameter: click.Parameter, value: str) -> "Endings":
    import msgspec

    from sts_trio.load.plan import Endings

    if not re.fullmatch(r"[0-9.]+(:[0-9.]+){2}", value):
        raise click.BadParameter(f"expected three weights, such as 8:1:1, got {value!r}")
    try:
        weights = msgspec.convert(value.split(":"), tuple[float, float, float], strict=False)
    except msgspec.ValidationError:
        raise click.BadParameter(f"expected three weights, such as 8:1:1, got {value!r}") from None
    if not sum(weights):
        raise click.BadParameter(f"expected a weight of more than 0 among them, got {value!r}")
    return Endings(*weights)


def _print_schema(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    from sts_trio.load.report import schema

    if value:
        click.echo(schema().decode())
        context.exit()


@click.command(cls=Command)
@click.argument("url")
@click.option("--calls", default=50, show_default=True, type=click.IntRange(1, 100_000))
@click.option(
    "--ramp", default=50.0, show_default=True, type=click.FloatRange(0.1), help="Calls a second."
)
@click.option(
    "--seconds",
    default=30.0,
    show_default=True,
    type=click.FloatRange(1, 86_400),
    help="How long to measure, once all calls are there.",
)
@click.option(
    "--churn",
    default=0.0,
    type=click.FloatRange(0),
    help="Calls that end, and others that come, a second.",
)
@click.option(
    "--endings",
    default="8:1:1",
    show_default=True,
    callback=_endings,
    help="How calls end, in weights: the caller hangs up, their socket is cut, the agent ends.",
)
@click.option(
    "--turn",
    default=4.0,
    show_default=True,
    type=click.FloatRange(0.5, 600),
    help="The agent speaks once in so many seconds, ...",
)
@click.option(
    "--speech",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.1, 60),
    help="... for so many, at most three quarters of that.",
)
@click.option(
    "--barge-in",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="The share of it that the caller cuts short.",
)
@click.option("--signed", is_flag=True, help="Sign as Twilio does, with TWILIO_AUTH_TOKEN.")
@click.option(
    "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Of every stream."
)
@click.option(
    "--agent",
    type=click.Choice(["own", "bridge"]),
    default="own",
    show_default=True,
    help="own: the bridge was pointed to the agent that this command runs. bridge: it has its own.",
)
@click.option(
    "--agent-port",
    default=9002,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Where the agent of this command listens, on 127.0.0.1.",
)
@click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    metavar="MINUTES",
    help="With --agent bridge: the most minutes of calls that may be spent. It may cost money.",
)
@click.option(
    "--say",
    "wav",
    type=click.Path(),
    metavar="WAV",
    help="With --agent bridge: what callers say, again and again.",
)
@click.option("--find-capacity", is_flag=True, help="Bisect: the most calls that it does well.")
@click.option(
    "--most", default=2000, show_default=True, type=click.IntRange(1), help="Where that ends."
)
@click.option(
    "--gathers",
    default=100.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="MS",
    help="How much of the caller's audio the bridge gathers before it forwards any.",
)
@click.option(
    "--pid", "pids", multiple=True, type=click.IntRange(1), help="A process of the bridge's."
)
@click.option(
    "--generator",
    type=click.Choice(["c", "python"]),
    help="[default: c, where it can be compiled]",
)
@click.option(
    "--out",
    default="sts-trio-load",
    show_default=True,
    type=click.Path(),
    help="What is written: this with .json, and with .svg.",
)
@click.option(
    "--yes-i-own-it", "is_ours", is_flag=True, help="For a bridge that is not on this machine."
)
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON Schema of what is written, and no more.",
)
def load(
    url: str,
    wav: str | None,
    signed: bool,
    parameters: Sequence[str],
    is_ours: bool,
    out: str,
    generator: str | None,
    **asked: Any,
) -> None:
    """Place many calls at a bridge, and tell how it did.

    URL is the bridge's websocket, as of a TwiML Bin, or its webhook, http://HOST/twiml. Point the
    bridge's agent at ws://127.0.0.1:9002/v1/agent/converse, which this command runs (DEEPGRAM_URL,
    for `sts-trio serve`). Exits with 0 if the bridge did well, 1 if not, 3 if this machine was too
    slow to tell.
    """
    from sts_trio.load.load_test import LoadTest
    from sts_trio.load.target import NotOurs
    from sts_trio.simulate.connect import NotAUrl, NotConnected

    _refuse_what_is_without_meaning(asked)
    targets = [Path(f"{out}{suffix}") for suffix in (".json", ".svg")]
    screen = _Screen()
    with tempfile.NamedTemporaryFile() as clip:
        plan = _plan(asked, wav, clip)
        for path in targets:
            check_writable(path)
        test = LoadTest(
            plan,
            _generator(generator, plan),
            gathers=asked["gathers"],
            budget=asked["budget"],
            say=screen.say,
            progress=screen.tell,
        )
        place = functools.partial(
            test.run,
            url,
            signer() if signed else None,
            pairs("--parameter", parameters),
            is_ours=is_ours,
            most=asked["most"] if asked["find_capacity"] else None,
        )
        try:
            report = run(place)
        except (NotAUrl, NotOurs) as exc:
            raise Misuse(str(exc)) from exc
        except NotConnected as exc:
            fail(f"{url}: {exc}")
    _tell(report, targets)


def _refuse_what_is_without_meaning(asked: dict[str, Any]) -> None:
    from sts_trio.load.plan import LONGEST_SPEECH

    source = click.get_current_context().get_parameter_source
    given = {name for name in asked if source(name) is not ParameterSource.DEFAULT}
    if "most" in given and not asked["find_capacity"]:
        raise Misuse("--most: is for --find-capacity")
    if asked["agent"] == "bridge" and (own := [name for name in OF_OWN_AGENT if name in given]):
        options = ", ".join("--" + name.replace("_", "-") for name in own)
        raise Misuse(f"{options}: not with --agent bridge, whose agent speaks when it likes")
    longest = LONGEST_SPEECH * asked["turn"]
    if asked["agent"] == "own" and asked["speech"] > longest:
        raise Misuse(
            f"--speech {asked['speech']:g}: expected at most {longest:g}, three quarters of --turn:"
            " what is longer is cut short by the next turn"
        )


def _plan(asked: dict[str, Any], wav: str | None, clip: IO[bytes]) -> "Plan":
    """`clip` takes what callers say."""
    from sts_trio.demo.clips import speak
    from sts_trio.load.plan import Agent, Conversation, Plan

    agent, budget = Agent(asked["agent"]), asked["budget"]
    if agent is Agent.OWN and (wav is not None or budget is not None):
        option = "--say" if wav is not None else "--budget"
        raise Misuse(f"{option}: only with --agent bridge: the agent of this command costs nothing")
    speech = None
    if agent is Agent.BRIDGE:
        clip.write((speak(CLIP) if wav is None else readable(wav)).audio)
        clip.flush()
        speech = clip.name
    plan = Plan(
        calls=asked["calls"],
        ramp=asked["ramp"],
        seconds=asked["seconds"],
        churn=asked["churn"],
        endings=asked["endings"],
        conversation=Conversation(asked["turn"], asked["speech"], asked["barge_in"]),
        agent=agent,
        agent_port=asked["agent_port"],
        pids=tuple(asked["pids"]),
        speech=speech,
    )
    if agent is Agent.BRIDGE and (budget is None or plan.call_minutes > budget):
        has = "no --budget" if budget is None else f"more than --budget {budget:g}"
        raise Misuse(
            f"--agent bridge: the bridge's agent may cost money, and this takes up to"
            f" {plan.call_minutes:.1f} minutes of calls, {has}: state so many, or ask for fewer"
            " --calls or --seconds"
        )
    return plan


def _generator(wanted: str | None, plan: "Plan") -> "Generator":
    from sts_trio import config
    from sts_trio.load import compiled
    from sts_trio.load.plan import Agent

    compiled.allow_many_sockets()
    if wanted is None and plan.agent is Agent.BRIDGE:
        wanted = "python"  # the one that can
    if wanted == "c" and plan.agent is Agent.BRIDGE:
        raise Misuse("--generator c: it has an agent of its own; with --agent bridge take python")
    if wanted != "python":
        try:
            return "C", (str(compiled.cached(config.cache_directory())),)
        except compiled.NotCompiled as exc:
            if wanted == "c":
                raise
            say(f"In Python, which is good for some fifty calls: {exc}", err=True)
    return "Python", (sys.executable, "-m", "sts_trio.load.python")


class _Screen:
    """What goes on, in one line that is written again and again, if somebody watches."""

    def say(self, line: str) -> None:
        self._clear()
        say(line, err=True)

    def tell(self, progress: "Progress") -> None:
        if sys.stderr.isatty():
            self._clear()
            phase = "measuring" if progress.is_open else "waiting"
            line = (
                f"{phase}: {progress.placed} calls placed, {progress.through} through,"
                f" {progress.refused} refused, {progress.cut_off} cut off"
            )
            # What goes on in another line is not cleared with this one.
            width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            click.echo(line[: width - 1], err=True, nl=False)

    def _clear(self) -> None:
        if sys.stderr.isatty():
            click.echo("\r\x1b[K", err=True, nl=False)


def _tell(report: "Report", targets: Sequence[Path]) -> None:
    from rich.console import Console

    from sts_trio.load import report as told
    from sts_trio.load.pictures import draw
    from sts_trio.simulate.screen import show

    if not report.tried:
        fail("nothing was tried: the budget is too small for a run")
    json, svg = targets
    save(write_text, json, told.encode(report).decode())
    save(write_text, svg, draw(report))
    console = Console()
    # A file or a pipe is as wide as it needs to be.
    show(console if console.is_terminal else Console(width=100), told.table(report))
    say("")
    for sentence in told.sentences(report):
        say(sentence)
    say(f"All of it is in {json}, a picture in {svg}.")
    if report.capacity is not None and report.capacity.calls:
        return
    if report.last.verdict == "void":
        raise SystemExit(VOID)
    if report.last.verdict != "well":
        raise SystemExit(1)

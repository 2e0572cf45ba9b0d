"""The `sts-trio` command.

Whatever an operator can cause is told in one line on stderr and an exit status: 2 for what was
asked for or configured wrongly, 1 for what went wrong, 130 for Ctrl+C. A traceback is our bug.
The libraries are imported by the command that needs them, so that `--help` is quick.
"""

import errno
import functools
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from sts_trio import __version__
from sts_trio.errors import ConfigError, StsTrioError

if TYPE_CHECKING:
    from sts_trio.config import Config
    from sts_trio.simulate.report import Report

T = TypeVar("T")

INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it

# What a bridge may mean by refusing a handshake, and what to do about it.
HINTS = {
    401: "the bridge wants a credential",
    403: "it serves Twilio only: unset TWILIO_AUTH_TOKEN there and call it from the same machine, "
    "or set STS_ALLOW_UNSIGNED=1 there; its log says more",
    404: "there is no websocket at this path: sts-trio's is /twilio",
    503: "all lines are busy, or it is shutting down",
}

PORT = click.IntRange(0, 65535)
FILE = click.Path(exists=True, dir_okay=False)


class _Misuse(click.ClickException):
    """Told like any other failure, with the status for what was asked for wrongly."""

    exit_code = 2


class _Commands(click.Group):
    """Every error that is not a bug reaches the operator as one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as exc:
            raise _Misuse(str(exc)) from exc
        except StsTrioError as exc:
            raise click.ClickException(str(exc)) from exc


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """A phone call talks with a speech-to-speech voice agent.

    Start with `sts-trio demo`: it needs no key and no phone.
    """


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, type=PORT, help="0: any that is free.")
@click.option("--config", "file", type=FILE, help="Instead of ./sts-trio.toml.")
@click.option("--certfile", type=FILE, help="TLS certificate, PEM.")
@click.option("--keyfile", type=FILE, help="Its key, PEM.")
def serve(
    host: str, port: int, file: str | None, certfile: str | None, keyfile: str | None
) -> None:
    """Answer calls: Twilio's webhook at /twiml, its media at /twilio.

    Configured by the environment and sts-trio.toml. SIGTERM lets the calls under way finish;
    Ctrl+C ends them.
    """
    from sts_trio import config

    _run(_serve, config.from_environment(file), host, port, certfile, keyfile)


async def _serve(
    config: "Config", host: str, port: int, certfile: str | None, keyfile: str | None
) -> None:
    import trio

    from sts_trio.serve import serve

    async with trio.open_nursery() as nursery:
        start = functools.partial(
            serve, config, host=host, port=port, certfile=certfile, keyfile=keyfile
        )
        click.echo(_welcome(config, await nursery.start(start)))


def _welcome(config: "Config", base: str) -> str:
    """Where it listens, who answers, and what to do next."""
    from sts_trio.config import AgentKind

    public = config.public_url or "https://YOUR-HOST"
    media = "wss" + public.removeprefix("https").removeprefix("http") + "/twilio"
    local = "ws" + base.removeprefix("http") + "/twilio"
    deepgram = config.agent is AgentKind.DEEPGRAM
    lines = [
        f"Listening on {base}",
        f"Agent: Deepgram at {config.deepgram_url}"
        if deepgram
        else "Agent: the offline one, scripted. Set DEEPGRAM_API_KEY for a real one.",
        "",
        f"Without a phone:  sts-trio call FILE.wav --url {local}",
        f"With Twilio:      your number's webhook is {public}/twiml, or a TwiML Bin with",
        f'  <Response><Connect><Stream url="{media}"/></Connect></Response>',
    ]
    if config.public_url is None:
        lines.append(f"  YOUR-HOST leads here, for instance by a tunnel to {base}")
    if not config.twilio_auth_tokens and not config.allow_unsigned:
        lines.append("  Set TWILIO_AUTH_TOKEN, or only callers on this machine are let in.")
    return "\n".join(lines)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9001, show_default=True, type=PORT, help="0: any that is free.")
@click.option(
    "--mode",
    type=click.Choice(["scripted"]),
    default="scripted",
    show_default=True,
    help="scripted: hears when you speak but not what, and says its lines in turn.",
)
def agent(host: str, port: int, mode: str) -> None:
    """Run the offline agent: a server of Deepgram's Voice Agent protocol, without a key."""
    _run(_agent, host, port)


async def _agent(host: str, port: int) -> None:
    import trio

    from sts_trio.offline import server

    async with trio.open_nursery() as nursery:
        try:
            port = await nursery.start(server.serve, host, port)
        except OSError as exc:
            raise ConfigError(
                f"cannot listen on {host}:{port} ({exc.strerror or exc}): "
                "give another --host or --port"
            ) from None
        name = f"[{host}]" if ":" in host else host
        v1, legacy = server.PATHS
        click.echo(
            f"The offline agent listens on ws://{name}:{port}{v1}\n"
            f"(the legacy dialect on {legacy}). Any key will do:\n"
            f"  DEEPGRAM_API_KEY=any DEEPGRAM_URL=ws://{name}:{port}{v1} sts-trio serve"
        )


@main.command()
@click.argument("wavs", nargs=-1, metavar="[WAV]...", type=click.Path())
@click.option(
    "--url", default="ws://127.0.0.1:5000/twilio", show_default=True, help="The bridge to call."
)
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
def call(wavs: tuple[str, ...], url: str, out: str, seconds: float) -> None:
    """Call a bridge as Twilio would, and say each WAV in turn.

    Hears the greeting out, says a WAV, hears the answer out, and so on, then hangs up. The
    recording has the caller on the left and the agent, as heard, on the right.
    """
    from sts_trio import wav
    from sts_trio.simulate.manners import polite

    clips = [_readable(path) for path in wavs]
    target = _recording(out)
    report = _run(_call, url, polite(clips), seconds)
    _save(wav.write, target, report)
    _tell_call(report, target)


async def _call(url: str, steps: Any, seconds: float) -> "Report":
    from rich.console import Console

    from sts_trio.simulate.caller import NotConnected, place_call
    from sts_trio.simulate.screen import Screen

    with Screen(Console(), [url]) as screen:
        try:
            return await place_call(
                url, steps, limit=seconds, watch=functools.partial(screen.watch, url)
            )
        except NotConnected as exc:
            hint = HINTS.get(exc.status or 0)
            if os.strerror(errno.ECONNREFUSED) in str(exc):
                hint = "nobody listens there: is `sts-trio serve` running?"
            raise StsTrioError(f"no call: {exc}" + (f" ({hint})" if hint else "")) from None


def _tell_call(report: "Report", target: Path) -> None:
    from rich.console import Console

    from sts_trio.simulate import screen
    from sts_trio.simulate.report import fault

    console = Console()
    console.print(screen.who_spoke_when(report))
    console.print(screen.summary(report))
    click.echo(f"Recording: {target}")
    problem = fault(report)
    if problem is not None:
        _fail(problem)


@main.command()
@click.option(
    "--out",
    default="sts-trio-demo",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Directory for the recordings.",
)
def demo(out: str) -> None:
    """See it work, without a key or a phone: about half a minute.

    Serves on a free port with the offline agent, and places three simulated calls at once: a
    conversation, a barge-in, and a caller who hangs up in the middle of a sentence.
    """
    from rich.console import Console

    from sts_trio import wav
    from sts_trio.simulate import screen

    directory = Path(out)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise _Misuse(f"{out}: cannot be made: {exc.strerror}") from exc
    click.echo("Three synthetic callers ring up the offline agent. Nobody's words are recognised.")
    outcomes, left = _run(_demo)
    console = Console()
    for outcome in outcomes:
        console.print(f"\n[bold]{outcome.name}[/bold]")
        if outcome.report is not None:
            console.print(screen.who_spoke_when(outcome.report))
            target = directory / f"{outcome.name.replace(' ', '-')}.wav"
            _save(wav.write, target, outcome.report)
            click.echo(f"  {target}")
    console.print(screen.outcomes_table(outcomes))
    faults = [f"{each.name}: {each.fault}" for each in outcomes if each.fault is not None]
    if left:
        faults.append(f"{left} calls were left on the server after all had hung up")
    if faults:
        _fail("; ".join(faults))
    click.echo(
        "All as it should be, and nothing is left of the calls on the server. Next:\n"
        "  sts-trio serve               the server itself; set DEEPGRAM_API_KEY for a real agent\n"
        "  sts-trio call YOUR-VOICE.wav speak with it, from another terminal"
    )


async def _demo() -> Any:
    import tempfile

    import trio
    from rich.console import Console

    from sts_trio import config
    from sts_trio.serve import serve
    from sts_trio.simulate import demo
    from sts_trio.simulate.screen import Screen

    # Nothing that is configured here is to change the demonstration: not the environment, and no
    # sts-trio.toml.
    with tempfile.TemporaryDirectory() as nowhere:
        environ = {"STS_AGENT": "offline", "STS_LOG_LEVEL": "warning"}
        settings = config.load(environ, Path(nowhere))
    async with trio.open_nursery() as nursery:
        base = await nursery.start(functools.partial(serve, settings, port=0, take_signals=False))
        names = [scenario.name for scenario in demo.scenarios()]
        with Screen(Console(), names) as screen:
            outcomes = await demo.run(base, screen.watch)
        left = await demo.calls_left(base)
        nursery.cancel_scope.cancel()
    return outcomes, left


# --- what the commands share ----------------------------------------------------------------------


def _run(function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Runs it in Trio. An error of ours, or Ctrl+C, comes out of the groups it was in."""
    import trio

    cause: BaseException
    try:
        return trio.run(function, *args)
    except* (StsTrioError, KeyboardInterrupt) as group:
        cause = _first(group)
    if isinstance(cause, KeyboardInterrupt):
        raise SystemExit(INTERRUPTED)
    raise cause


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _fail(reason: str) -> NoReturn:
    raise click.ClickException(reason)


def _readable(path: str) -> bytes:
    from sts_trio import wav

    try:
        return wav.read(path)
    except wav.NotAWav as exc:
        raise _Misuse(str(exc)) from exc


def _recording(out: str) -> Path:
    """The file to record to; its directory exists then."""
    path = Path(out)
    if path.suffix.lower() != ".wav":
        path /= time.strftime("call-%Y%m%d-%H%M%S.wav")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise _Misuse(f"{path.parent}: cannot be made: {exc.strerror}") from exc
    return path


def _save(write: Callable[[Path, bytes, bytes], None], target: Path, report: "Report") -> None:
    try:
        write(target, report.said, report.heard)
    except OSError as exc:
        _fail(f"{target}: cannot be written: {exc.strerror}")

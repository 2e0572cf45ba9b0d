"""`sts-trio doctor`: looks at what the bridge depends on, and tells what it finds."""

import functools
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from sts_trio.commands.common import FILE, Command, Misuse, run, say
from sts_trio.errors import ConfigError

if TYPE_CHECKING:
    from sts_trio.config import Config
    from sts_trio.doctor.experiments import Answer, Operator
    from sts_trio.outbound.twilio_rest import TwilioRest

NEEDED = {
    "TWILIO_ACCOUNT_SID": "twilio_account_sid",
    "TWILIO_AUTH_TOKEN": "twilio_auth_tokens",
    "STS_PUBLIC_URL": "public_url",
    "STS_CALLER_ID": "caller_id",
}


@click.command(cls=Command)
@click.option("--twilio", is_flag=True, help="Ask Twilio itself what its documents do not tell.")
@click.option("--to", metavar="+NUMBER", help="Whom to call: you, or a second number of yours.")
@click.option("--config", "file", type=FILE, help="Instead of ./sts-trio.toml.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="[default: PORT, else 5000]")
@click.option("--yes", is_flag=True, help="Do not ask before calls are placed, which cost money.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON, a line each.")
def doctor(
    twilio: bool,
    to: str | None,
    file: str | None,
    host: str,
    port: int | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Look at what the bridge depends on.

    That is the configuration, versions, the database, the disk, the port, the clock, each agent's
    address with its key and settings, the public URL with a request signed as Twilio signs and a
    stream's handshake, and Twilio's account and numbers. Nothing is changed, and nobody called.
    Each fault is told with its likely cause and a cure; what could not be looked at is told too.
    The exit status is 1 if there is a fault, and 0 if not.

    With --twilio it places phone calls, listens where STS_PUBLIC_URL leads in the place of a
    bridge, and misbehaves there: a stream's connection is reset, a handshake has no answer. What
    Twilio does then is printed as a table, in the fields of `sts_trio.testing.Unknowns`: with them
    the simulated carrier behaves as Twilio did. See docs/real-number.md.
    """
    from sts_trio import config
    from sts_trio.outbound.twilio_rest import TwilioRest

    if not twilio:
        for option, is_given in (("--to", to is not None), ("--yes", yes)):
            if is_given:
                raise Misuse(f"{option}: is for --twilio")
        _look(file, host, port, as_json=as_json)
        return
    settings = config.from_environment(file, STS_AGENT="offline")
    if missing := [name for name, field in NEEDED.items() if not getattr(settings, field)]:
        raise Misuse(f"doctor --twilio: set {', '.join(missing)}")
    if to is None:
        raise Misuse("doctor --twilio: whom to call? Give --to +NUMBER")
    if not settings.may_dial(to):
        where = settings.where("STS_DIAL_PREFIXES")
        raise Misuse(f"--to {to}: no prefix in {where} allows it")
    if not yes:
        click.confirm(f"Eight calls to {to} will be placed, which cost money. Go on?", abort=True)
    port = settings.port if port is None else port
    answers = run(examine, settings, TwilioRest.of(settings), AtTheTerminal(), to, host, port)
    for line in table(answers):
        say(line)
    if all(answer.value is None for answer in answers):
        raise Misuse(f"nothing came by {settings.public_url}: does it lead to {host}:{port}?")


def _look(file: str | None, host: str, port: int | None, *, as_json: bool) -> None:
    from sts_trio.doctor.check_up import check_up
    from sts_trio.doctor.findings import State, in_words

    findings = run(check_up, file, host, port)
    if as_json:
        for finding in findings:
            say(msgspec.json.encode(finding).decode())
    else:
        # Piped, a line stays one: whoever looks for words in it finds them.
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in in_words(findings, width):
            say(line)
    if any(finding.state is State.FAULT for finding in findings):
        raise SystemExit(1)


async def examine(
    settings: "Config", rest: "TwilioRest", operator: "Operator", to: str, host: str, port: int
) -> "list[Answer]":
    """The answers of all calls, one after the other."""
    import trio

    from sts_trio.doctor import experiments
    from sts_trio.doctor.site import Site

    site = Site(settings.public_url or "", settings.twilio_auth_tokens)
    examiner = experiments.Examiner(site, rest, operator, to=to, from_=settings.caller_id or "")
    answers: list[Answer] = []
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(functools.partial(trio.serve_tcp, site.serve, port, host=host))
        except OSError as exc:
            raise ConfigError(f"cannot listen on {host}:{port}: {exc}") from exc
        for number, experiment in enumerate(experiments.EXPERIMENTS, 1):
            say(f"Call {number}: {(experiment.__doc__ or '').strip()}")
            answers += await experiments.examine(examiner, experiment)
        nursery.cancel_scope.cancel()
    return answers


def table(answers: "list[Answer]") -> list[str]:
    """A line for each, and what they make of the simulated carrier."""
    from sts_trio.doctor import experiments

    told = [(each.field, _shown(each.value), each.how) for each in answers]
    widths = [max(len(row[column]) for row in told) for column in (0, 1)]
    lines = [f"{name:{widths[0]}}  {value:{widths[1]}}  {how}" for name, value, how in told]
    return ["", *lines, "", f"{experiments.unknowns(answers)}"]


def _shown(value: Any) -> str:
    if value is None:
        return "not known"
    return f"{value:.2f} s" if isinstance(value, float) else str(value)


class AtTheTerminal:
    """Who is called, and reads here what to do."""

    async def is_to_stay(self) -> None:
        say("  Answer it, and stay on the line.")

    async def is_to_hang_up(self) -> None:
        say("  Not this time: answer it, and hang up after five seconds.")

    async def has_heard_all(self, seconds: float) -> bool | None:
        import trio

        if not sys.stdin.isatty():
            return None
        question = f"  Did you hear tones for {seconds:g} seconds, and not for one or two?"
        return await trio.to_thread.run_sync(click.confirm, question, abandon_on_cancel=True)

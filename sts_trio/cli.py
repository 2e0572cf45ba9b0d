"""The `sts-trio` command.

Whatever an operator can cause is told in one line on stderr and an exit status: 2 for what was
asked for or configured wrongly, 1 for what went wrong, 130 for Ctrl+C; of any other signal that
ends it, a command dies once what it has open is closed. A traceback is our bug.
The libraries are imported by the command that needs them, so that `--help` is quick.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sts_trio import __version__
from sts_trio.commands.call import call
from sts_trio.commands.calls import calls
from sts_trio.commands.check import check
from sts_trio.commands.common import FILE, Group, Misuse, run, say
from sts_trio.commands.demo import demo
from sts_trio.commands.dial import dial
from sts_trio.commands.doctor import doctor
from sts_trio.commands.load import load
from sts_trio.commands.replay import replay
from sts_trio.commands.tasks import tasks
from sts_trio.errors import ConfigError

if TYPE_CHECKING:
    from sts_trio.config import Config
    from sts_trio.config.records import Records
    from sts_trio.offline.mode import Mode
    from sts_trio.offline.protocol.script import Script
    from sts_trio.server import Server

PORT = click.IntRange(0, 65535)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """A phone call talks with a speech-to-speech voice agent.

    Start with `sts-trio demo`: it needs no key and no phone.
    """


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=PORT, help="0: any that is free. [default: PORT, else 5000]")
@click.option("--config", "file", type=FILE, help="Instead of ./sts-trio.toml.")
@click.option(
    "--keep-alive",
    type=click.FloatRange(1, 3600),
    metavar="SECONDS",
    help="How long a connection is kept for its next request: longer than your proxy keeps it. "
    "[default: 130]",
)
@click.option(
    "--take-over",
    is_flag=True,
    help="Where another `sts-trio serve` of yours listens: accept in its place. It lets its calls "
    "finish.",
)
@click.option("--certfile", type=FILE, help="TLS certificate, PEM.")
@click.option("--keyfile", type=FILE, help="Its key, PEM.")
@click.option(
    "--print-deploy",
    is_flag=True,
    help="Do not serve: print what systemd and HAProxy take to run processes on all cores of this "
    "machine, from --port on. [default: 5001]",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    help="With --print-deploy: a directory for these files.",
)
def serve(
    host: str,
    port: int | None,
    file: str | None,
    keep_alive: float | None,
    take_over: bool,
    certfile: str | None,
    keyfile: str | None,
    print_deploy: bool,
    out: str | None,
) -> None:
    """Answer calls: Twilio's webhook at /twiml, its media at /twilio.

    Configured by the environment and sts-trio.toml. SIGTERM lets the calls under way finish;
    Ctrl+C ends them. Where systemd listens for it (LISTEN_FDS), --host and --port are of no
    account.
    """
    from sts_trio import config
    from sts_trio.commands.deployment import print_deployment
    from sts_trio.config.activation import take_descriptors

    settings = config.from_environment(file)
    if print_deploy:
        given = {"--keep-alive": keep_alive, "--certfile": certfile, "--keyfile": keyfile}
        given["--take-over"] = take_over or None
        if others := [option for option, value in given.items() if value is not None]:
            raise Misuse(f"{', '.join(others)}: not with --print-deploy, which does not serve")
        print_deployment(settings, port, None if out is None else Path(out))
        return
    if out is not None:
        raise Misuse("--out: is for --print-deploy")
    options: dict[str, Any] = {"host": host, "certfile": certfile, "keyfile": keyfile}
    options["descriptors"] = take_descriptors()
    options |= {"port": settings.port if port is None else port, "take_over": take_over}
    if keep_alive is not None:
        options["keep_alive"] = keep_alive
    run(_serve, settings, options)


async def _serve(config: "Config", options: dict[str, Any]) -> None:
    import trio

    from sts_trio.web.app import create_app
    from sts_trio.web.serve import serve

    app = create_app(config)
    app.server.key_is_told = True
    async with trio.open_nursery() as nursery:
        start = functools.partial(serve, config, app=app, **options)
        base = await nursery.start(start)
        fleet = await _fleet(app.server)
        click.echo(_welcome(config, options["host"], base, app.server.key, fleet))


async def _fleet(server: "Server") -> list[str]:
    """Whether other processes share the database, and what this one is called there."""
    others = None if server.shared is None else await server.shared.others()
    if not others:
        return []
    names = sorted(
        f"{each.process.name} ({each.process.address or 'an unknown address'})" for each in others
    )
    return [f"This is {server.name}. It shares the database with {', '.join(names)}."]


def _welcome(
    config: "Config", host: str, base: str, key: str | None, fleet: Sequence[str] = ()
) -> str:
    """Where it listens, who answers, and what to do next."""
    public = config.public_url or "https://YOUR-HOST"
    media = "wss" + public.removeprefix("https").removeprefix("http") + "/twilio"
    others = ", and all other addresses of this machine" if host in ("", "0.0.0.0", "::") else ""
    lines = [
        f"Listening on {base}{others}",
        *_who_answers(config),
        *_what_is_kept(config.records),
        *_which_flights(config.records),
        *fleet,
        "",
        *_without_a_phone(config, base, key),
        f"With Twilio:      your number's webhook is {public}/twiml{',' if config.bins else ''}",
    ]
    if config.bins:
        lines += [
            "  or a TwiML Bin with",
            f'  <Response><Connect><Stream url="{media}"/></Connect></Response>',
        ]
    if config.public_url is None:
        lines.append(f"  YOUR-HOST leads here, for instance by a tunnel to {base}")
    if config.allow_unsigned:
        lines.append("  Whoever gets here is answered: STS_ALLOW_UNSIGNED is set.")
    elif not config.twilio_auth_tokens:
        lines += [
            "  Set TWILIO_AUTH_TOKEN before anything leads here. Without it only who has the key",
            "  above is let in: a proxy that adds no header, and whatever forwards TCP (ssh -R,",
            "  socat, ngrok tcp), look like this machine, so the key is all that keeps others out.",
        ]
    return "\n".join(lines)


def _who_answers(config: "Config") -> list[str]:
    from sts_trio.config import AgentKind
    from sts_trio.offline.mode import choose

    if config.agent is AgentKind.DEEPGRAM:
        return [f"Agent: Deepgram at {', '.join(config.deepgram_urls)}"]
    mode, without_ears = choose(config.offline_mode)
    way_out = (
        "STS_AGENT says so." if config.deepgram_api_keys else "Set DEEPGRAM_API_KEY for a real one."
    )
    lines = [f"Agent: the offline one ({mode.value}). {way_out}"]
    if without_ears is not None:
        lines.append(f"  It says its lines in turn: {without_ears}")
    return lines


def _what_is_kept(records: "Records") -> list[str]:
    """Whoever tries this has to know that what is said stays somewhere."""
    if records.database_url is None:
        return ["Calls are not kept: STS_DATABASE_URL says so."]
    import sqlalchemy

    url = sqlalchemy.make_url(records.database_url)
    where = url.database if url.get_backend_name() == "sqlite" else url.render_as_string()
    how_long = f"for {records.keep_days:g} days" if records.keep_days else "for ever"
    words = "" if records.keep_words else " without their words"
    lines = [f"Calls are kept{words} in {where} {how_long}."]
    if records.are_recorded:
        lines.append(f"Both sides are recorded into {records.recordings}.")
    return lines


def _which_flights(records: "Records") -> list[str]:
    from sts_trio.config.records import KeptFlights

    if records.kept_flights is KeptFlights.NONE:
        return []
    is_all = records.kept_flights is KeptFlights.ALL
    which = "all calls" if is_all else "calls that end by a fault"
    return [f"Flights of {which} are kept in {records.flights}, for sts-trio replay."]


def _without_a_phone(config: "Config", base: str, key: str | None) -> list[str]:
    """A server for phones does not trust its own machine."""
    from sts_trio.config.local_key import page_url

    local = "ws" + base.removeprefix("http") + "/twilio" if config.bins else f"{base}/twiml"
    call = f"sts-trio call FILE.wav --url {local}"
    if config.twilio_auth_tokens and not config.allow_unsigned:
        call += " --signed"
    if key is not None:
        page = f"{page_url(base, key)} in a browser, or"
    elif config.admin_token:
        page = f"{base}/ in a browser, with STS_ADMIN_TOKEN as the password, or"
    else:
        page = f"{base}/ in a browser, once STS_ADMIN_TOKEN is set, or"
    return [f"Without a phone:  {page}", f"  {call}"]


@main.command(short_help="Run the offline agent, which needs no key.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9001, show_default=True, type=PORT, help="0: any that is free.")
@click.option(
    "--mode",
    type=click.Choice(["ears", "scripted"]),
    help="ears: recognises the few hundred words of a car seller, and answers them. scripted: "
    "hears when you speak but not what, and says its lines in turn. [default: ears, where the "
    "demo extra is installed]",
)
@click.option(
    "--script",
    type=click.Path(),
    metavar="FILE",
    help='What it says, a line a turn; `@call NAME {"argument": 1}` calls a function, `@silence` '
    "says nothing, and # begins a comment.",
)
def agent(host: str, port: int, mode: str | None, script: str | None) -> None:
    """Run the offline agent: a server of Deepgram's Voice Agent protocol, without a key.

    With --script it says your own lines, in words where the demo extra is installed.
    """
    from sts_trio.config import LogFormat, LogLevel
    from sts_trio.observe import logs as log
    from sts_trio.offline.mode import Mode, choose
    from sts_trio.offline.protocol import script_file

    log.set_up(LogFormat.CONSOLE, LogLevel.INFO)
    chosen, reason = choose(None if mode is None else Mode(mode))
    if reason is not None:
        if mode is not None:
            raise ConfigError(f"--mode ears: {reason}")
        told = "Scripted" if script is None else "A voice without words"
        say(f"{told}: {reason}", err=True)
    lines = None if script is None else script_file.read(Path(script))
    run(_agent, host, port, chosen, lines, chosen.value if script is None else script)


async def _agent(host: str, port: int, mode: "Mode", script: "Script | None", what: str) -> None:
    import trio

    from sts_trio.offline.protocol import server

    async with trio.open_nursery() as nursery:
        serve = functools.partial(server.serve, host, port, mode=mode, script=script)
        try:
            port = await nursery.start(serve)
        except (OSError, UnicodeError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise ConfigError(
                f"cannot listen on {host}:{port} ({reason}): give another --host or --port"
            ) from None
        name = f"[{host}]" if ":" in host else host
        v1, legacy = server.PATHS
        say(f"The offline agent ({what}) listens on ws://{name}:{port}{v1}")
        click.echo(
            f"(the legacy dialect on {legacy}). Any key will do:\n"
            f"  DEEPGRAM_API_KEY=any DEEPGRAM_URL=ws://{name}:{port}{v1} sts-trio serve"
        )


main.add_command(call)
main.add_command(calls)
main.add_command(check)
main.add_command(demo)
main.add_command(dial)
main.add_command(load)
main.add_command(tasks)
main.add_command(doctor)
main.add_command(replay)

"""`sts-trio check`: all that `serve` would find wrong, and what the models would be told."""

import json
from typing import TYPE_CHECKING, Any

import click

from sts_trio.commands.common import FILE, Command, say

if TYPE_CHECKING:
    from sts_trio.config import Config
    from sts_trio.functions import Functions


@click.command(cls=Command, short_help="Check the configuration and the functions.")
@click.option("--config", "file", type=FILE, help="Instead of ./sts-trio.toml.")
def check(file: str | None) -> None:
    """Check the configuration and the functions, and print what comes of them.

    Reads what `sts-trio serve` reads, and imports your functions, but listens nowhere and dials
    nobody. Prints who answers which number, and the schema of each function as the model is told
    it. A mistake is one line and exit status 2, as with serve; what is odd but not wrong is a
    warning, and status 0.
    """
    from sts_trio import config
    from sts_trio.server import Server

    server = Server(config.from_environment(file))
    settings = server.config
    if settings.records.database_url is not None:
        from sts_trio.records.opening import make_store

        make_store(settings.records, settings.records.database_url)
    say(f"Configuration: {settings.file or 'no file, the environment alone'}")
    for line in [*_agents(settings, server.functions), *_numbers(settings)]:
        say(line)
    for line in _schemas(settings, server.functions):
        click.echo(line)
    for warning in settings.warnings:
        say(f"Warning: {warning}")


def _agents(settings: "Config", functions: "Functions") -> list[str]:
    from sts_trio.config import AgentKind

    where = ", ".join(settings.deepgram_urls)
    who = f"Deepgram at {where}" if settings.agent is AgentKind.DEEPGRAM else "the offline agent"
    lines = [f"Answers: {who}", "Agents:"]
    for name, agent in settings.agents.items():
        known = [each["name"] for each in functions.definitions(name)]
        line = f"  {name}: {_described(agent)}; functions: {', '.join(known) or 'none'}"
        if variables := ", ".join(settings.variables[name]):
            line += f"; variables: {variables}"
        lines.append(line)
    return lines


def _described(agent: Any) -> str:
    """Who listens, thinks and speaks: neither prompts nor keys."""
    if isinstance(agent, str):
        return f"stored as {agent}"
    parts = []
    for part in ("listen", "think", "speak"):
        block = agent.get(part)
        providers = [
            _provider(each) for each in (block if isinstance(block, list) else [block]) if each
        ]
        if providers:
            parts.append(f"{part} {', else '.join(providers)}")
    return "; ".join(parts) or "all as Deepgram has it"


def _provider(block: dict[str, Any]) -> str:
    provider = block.get("provider") or {}
    named = [str(provider[key]) for key in ("type", "model", "model_id") if provider.get(key)]
    return " ".join(named) or "of Deepgram's choice"


def _numbers(settings: "Config") -> list[str]:
    others = "all others: default" if settings.numbers else "all: default"
    chooser = settings.choose_agent
    first = [] if chooser is None else [f"  first {chooser} is asked"]
    told = [f"  {number}: {name}" for number, name in settings.numbers.items()]
    return ["Numbers:", *first, *told, f"  {others}"]


def _schemas(settings: "Config", functions: "Functions") -> list[str]:
    """Each function as it is told; twice where two models are told of it in different words."""
    told: dict[str, list[str]] = {}  # {JSON: the agents that are told this}
    for name, agent in settings.agents.items():
        ours = {each["name"] for each in functions.definitions(name)}
        blocks = agent.get("think") if isinstance(agent, dict) else None
        for block in blocks if isinstance(blocks, list) else [blocks or {}]:
            for each in block.get("functions") or []:
                if each["name"] in ours:
                    text = json.dumps(each, indent=2, ensure_ascii=True)
                    told.setdefault(text, [])
                    if name not in told[text]:
                        told[text].append(name)
    lines = ["Functions, as the models are told of them:"] if told else ["Functions: none"]
    for text, names in told.items():
        lines += [f"for {', '.join(names)}:", text]
    return lines

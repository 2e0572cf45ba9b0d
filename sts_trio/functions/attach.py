"""What the configured agents are told of the functions they may call. At start-up alone."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from sts_trio.config import Config
from sts_trio.config.agents import AgentSettings
from sts_trio.config.raw import config_error
from sts_trio.functions.foreign import REMEDY, foreign_to
from sts_trio.functions.modules import make_importable
from sts_trio.functions.registry import Functions, load
from sts_trio.wire.printable import one_line

# "Invalid 'tools[1].function.description': string too long. Expected a string with maximum length
# 1024": getsentry/sentry-mcp issue 106 and many more, read 2026-11-30.
OPENAI_LETTERS = 1024


def attached(
    config: Config, functions: Iterable[Callable[..., Any] | str]
) -> tuple[Config, Functions]:
    """All functions, configured and given ones, and the configuration with its agents told.

    Modules are also looked for beside the configuration file and in the working directory.

    Raises:
        ConfigError: one of them is not fit for an agent.
    """
    given = list(functions)
    if config.functions or any(isinstance(each, str) for each in given):
        beside = [config.file.parent] if config.file is not None else []
        make_importable([Path(), *beside])
    where = config.where("STS_FUNCTIONS")
    configured = [run for spec in config.functions for run in load(spec, where)]
    registry = Functions([*configured, *given])
    agents, odd = equip(config.agents, registry)
    warnings = (*config.warnings, *map(one_line, odd))
    return msgspec.structs.replace(config, agents=agents, warnings=warnings), registry


def equip(
    agents: dict[str, AgentSettings], functions: Functions
) -> tuple[dict[str, AgentSettings], list[str]]:
    """The agents, each with the functions that it may call, and warnings.

    Raises:
        ConfigError: a function is for an agent that is not there, or cannot be told to one.
    """
    for function in functions:
        for name in function.options.agents or ():
            if name not in agents:
                raise config_error(
                    f"functions: {function.name} is for the agent {name}, which is not configured;"
                    f" configured are {', '.join(agents)}"
                )
    warnings = [
        f"functions: {each.name} has no docstring: the model has to guess what it is for"
        for each in functions
        if not each.description
    ]
    warnings += [
        f"functions: {each.name}: its docstring describes {', '.join(each.described_in_vain)}, but"
        f" what it takes is {', '.join(each.parameters.names) or 'nothing'}"
        for each in functions
        if each.described_in_vain
    ]
    warnings += [
        f"functions: {each.name} is async, so it runs on Trio, where {library} fails: {REMEDY}"
        for each in functions
        if (library := foreign_to(each.run)) is not None
    ]
    attached: dict[str, AgentSettings] = {}
    for name, agent in agents.items():
        definitions = functions.definitions(name)
        if isinstance(agent, dict):
            attached[name] = with_functions(agent, definitions, f"agents.{name}")
            warnings += _unanswered(attached[name], functions, name)
            warnings += _too_long(attached[name], name)
            continue
        # Not a mistake: its own block may well define them, and then they are answered here.
        attached[name] = agent
        if definitions:
            names = ", ".join(each["name"] for each in definitions)
            warnings.append(
                f"agents.{name}: a stored agent cannot be told of functions; it may call"
                f" those of {names} that are defined where it is stored"
            )
    return attached, warnings


def with_functions(
    agent: dict[str, Any], definitions: list[dict[str, Any]], where: str = "agent"
) -> dict[str, Any]:
    """The agent with these after its own functions, in each of its fallbacks; `agent` stays as it
    was.

    Raises:
        ConfigError: a name is taken, or there is no `think` to put them in.
    """
    if not definitions:
        return agent
    think = agent.get("think")
    if not think:
        raise config_error(
            f"{where}: expected a think block, to tell the agent of its functions, got none"
        )
    if isinstance(think, list):
        return {**agent, "think": [_extended(each, definitions, where) for each in think]}
    return {**agent, "think": _extended(think, definitions, where)}


def _extended(
    think: dict[str, Any], definitions: list[dict[str, Any]], where: str
) -> dict[str, Any]:
    own = think.get("functions") or []
    for name in {each["name"] for each in own} & {each["name"] for each in definitions}:
        raise config_error(
            f"{where}.think.functions: {name} is a function of this server too;"
            " take it out here, or give one of them another name"
        )
    if _provider(think) == "google":
        definitions = [
            {**each, "parameters": _for_google(each["parameters"])} for each in definitions
        ]
    return {**think, "functions": [*own, *definitions]}


def _provider(think: Any) -> Any:
    provider = think.get("provider") if isinstance(think, dict) else None
    return provider.get("type") if isinstance(provider, dict) else None


def _for_google(schema: Any) -> Any:
    """The schema without formats that Google's models refuse, and a session with them: "only 'enum'
    and 'date-time' are supported for STRING type". They are told by the description instead.
    Source: google-gemini/gemini-cli issue 3178, read 2026-11-30."""
    if isinstance(schema, list):
        return [_for_google(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: _for_google(each) for name, each in schema.items()}
    if schema.get("type") == "string" and schema.get("format") not in (None, "enum", "date-time"):
        words = f"format: {kept.pop('format')}"
        kept["description"] = f"{kept['description']} ({words})" if "description" in kept else words
    return kept


def _too_long(agent: AgentSettings, name: str) -> list[str]:
    """Descriptions that the model's provider refuses, and with them every turn of a call."""
    blocks = agent.get("think") if isinstance(agent, dict) else None
    long = dict.fromkeys(
        (each["name"], len(each.get("description") or ""))
        for think in (blocks if isinstance(blocks, list) else [blocks or {}])
        if _provider(think) == "open_ai"
        for each in think.get("functions") or []
        if len(each.get("description") or "") > OPENAI_LETTERS
    )
    return [
        f"agents.{name}: the description of the function {function} has {letters} letters, and"
        f" OpenAI refuses more than {OPENAI_LETTERS}: shorten its docstring"
        for function, letters in long
    ]


def _unanswered(agent: AgentSettings, functions: Functions, name: str) -> list[str]:
    """Functions that the operator wrote down and nobody will run."""
    blocks = agent.get("think") if isinstance(agent, dict) else None
    defined = [
        each
        for think in (blocks if isinstance(blocks, list) else [blocks or {}])
        for each in think.get("functions") or []
    ]
    unanswered = dict.fromkeys(
        each["name"]
        for each in defined
        if not each.get("endpoint") and functions.find(each["name"], name) is None
    )
    return [
        f"agents.{name}.think.functions: {each} has no endpoint, and this server has no function"
        " of that name: the agent is told so when it calls it"
        for each in unanswered
    ]

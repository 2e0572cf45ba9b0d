"""The agents an operator configured, and the numbers they answer.

An agent is Deepgram's own `agent` object, passed through, so that every field works on the day it
is published: what we know of it is checked, what we do not know is kept, with a warning. What
stands beside `agent` in Deepgram's `Settings` is written in tables named `settings`.
"""

import difflib
import math
import re
from typing import Any

import msgspec

from sts_trio.config import templates
from sts_trio.config.raw import RawConfig, config_error, written_key
from sts_trio.errors import ConfigError
from sts_trio.wire import addresses, legacy
from sts_trio.wire.deepgram_rules import oddities
from sts_trio.wire.deepgram_settings import (
    FIELD_NAMES,
    Session,
    phone_settings,
    read_agent,
    read_session,
)
from sts_trio.wire.dialect import Dialect
from sts_trio.wire.printable import quoted

AgentSettings = dict[str, Any] | str  # Deepgram's `agent` object, or a stored agent's UUID

_UUID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

# Who answers when nobody was configured.
CAR_SELLER: dict[str, Any] = {
    "greeting": "Hello! How can I help you today?",
    "listen": {"provider": {"type": "deepgram", "model": "nova-3"}},
    "think": {
        "provider": {"type": "open_ai", "model": "gpt-4o-mini"},
        "prompt": "You are a helpful car seller.",
    },
    "speak": {"provider": {"type": "deepgram", "model": "aura-2-thalia-en"}},
}


class Agents(msgspec.Struct, frozen=True):
    """By name: the agents, what stands beside each in its `Settings`, and the defaults of its
    variables."""

    settings: dict[str, AgentSettings]
    sessions: dict[str, dict[str, Any]]
    variables: dict[str, dict[str, str]]


def read_agents(given: RawConfig, dialect: Dialect, warnings: list[str]) -> Agents:
    for_all = _read_session(given.in_file("settings"), given.section("settings"), dialect, warnings)
    agents: dict[str, AgentSettings] = {}
    sessions: dict[str, dict[str, Any]] = {}
    variables: dict[str, dict[str, str]] = {}
    for name, written in (given.section("agents") or {"default": CAR_SELLER}).items():
        where = given.in_file("agents", name)
        agent, session, defaults = written, for_all, {}
        if isinstance(written, dict):
            agent = {key: written[key] for key in written if key not in ("settings", "variables")}
            defaults = _read_variables(f"{where}.variables", written.get("variables", {}))
            _refuse_misplaced(where, name, agent)
            its_own = written.get("settings", {})
            session = {**for_all, **_read_session(f"{where}.settings", its_own, dialect, warnings)}
            warnings.extend(_check_agent(where, agent, session, dialect))
            _refuse_unknown_variables(where, agent, defaults)
        else:
            _check_stored(where, written)
        if dialect is Dialect.LEGACY:
            try:
                legacy.encode(phone_settings(agent, session))
            except legacy.Untranslatable as exc:
                raise config_error(f"{where}: {exc}") from exc
        agents[name], sessions[name], variables[name] = agent, session, defaults
    if "default" not in agents:
        raise config_error(
            f"{given.in_file('agents')}: expected one named default, for calls"
            f" to numbers that [numbers] does not know, got {', '.join(map(quoted, agents))}"
        )
    return Agents(agents, sessions, variables)


def _read_variables(where: str, written: Any) -> dict[str, str]:
    if not isinstance(written, dict):
        raise config_error(f"{where}: expected a table, got {quoted(written)}")
    for name, default in written.items():
        if not templates.NAME.fullmatch(name):
            raise config_error(
                f"{where}: expected names of letters, digits and _, got {quoted(name)}"
            )
        if isinstance(default, bool) or not isinstance(default, str | int | float):
            raise config_error(f"{where}.{name}: expected text or a number, got {quoted(default)}")
    return {name: str(default) for name, default in written.items()}


def _refuse_unknown_variables(where: str, agent: dict[str, Any], defaults: dict[str, str]) -> None:
    """Else a caller is the first to hear them read out."""
    for path, name in templates.fields(agent):
        if name not in defaults:
            raise config_error(
                f"{where}.{path}: {{{name}}} is no variable: give it a default in"
                f" {where.rpartition(': ')[2]}.variables, or write {{{{{name}}}}} for a name in"
                " braces"
            )


def _refuse_misplaced(where: str, name: str, agent: dict[str, Any]) -> None:
    """What Deepgram refuses, with every call, and is easily written in the wrong place."""
    if "functions" in agent:
        # TOML takes a line below a table's head for the table's own.
        raise config_error(
            f"{where}.functions: an agent's own go into think.functions;"
            " yours, which this server is to run, above the first [table]"
        )
    for key in Session.__struct_fields__:
        if key in agent:
            raise config_error(
                f"{where}.{key}: stands beside Deepgram's agent, not in it: write it below"
                f" [agents.{written_key(name)}.settings], or for all agents below [settings]"
            )
    if "agent" in agent:
        raise config_error(
            f"{where}.agent: write what is in it straight below [agents.{written_key(name)}]"
        )
    if "audio" in agent:
        raise config_error(f"{where}.audio: a phone's is µ-law at 8 kHz; leave it out")


def _read_session(
    where: str, session: Any, dialect: Dialect, warnings: list[str]
) -> dict[str, Any]:
    if not isinstance(session, dict):
        raise config_error(f"{where}: expected a table, got {quoted(session)}")
    for key in ("type", "audio", "agent"):
        if key in session:
            raise config_error(
                f"{where}.{key}: it is written by this server; an agent goes below [agents.NAME]"
            )
    try:
        _, unknown = read_session(session)
    except msgspec.ValidationError as exc:
        raise _mistake(where, exc) from None
    warnings += _warn_of_unknown(where, unknown, dialect)
    _refuse_not_finite(where, session)
    return session


def _check_agent(
    where: str, agent: dict[str, Any], session: dict[str, Any], dialect: Dialect
) -> list[str]:
    """Warnings about an agent that will do."""
    try:
        _, unknown = read_agent(agent)
    except msgspec.ValidationError as exc:
        raise _mistake(where, exc) from None
    _refuse_not_finite(where, agent)
    odd = [] if dialect is Dialect.LEGACY else oddities(agent, session)
    return [
        *_warn_of_unknown(where, unknown, dialect),
        *(f"{where}.{path}: {reason}" for path, reason in odd),
    ]


def _mistake(where: str, error: msgspec.ValidationError) -> ConfigError:
    # "Expected `str`, got `int` - at `$.think.prompt`"
    reason, _, path = str(error).partition(" - at `$")
    return config_error(f"{where}{path.rstrip('`')}: {reason[0].lower()}{reason[1:]}")


def _warn_of_unknown(where: str, unknown: list[str], dialect: Dialect) -> list[str]:
    fate = "left out" if dialect is Dialect.LEGACY else "sent all the same"
    warnings = []
    for path in unknown:
        close = difflib.get_close_matches(path.rpartition(".")[2], FIELD_NAMES, n=1, cutoff=0.8)
        hint = f"; did you mean {close[0]}?" if close else ""
        warnings.append(f"{where}.{path}: not in Deepgram's published schema; {fate}{hint}")
    return warnings


def _refuse_not_finite(where: str, value: Any) -> None:
    if (path := _not_finite(value)) is not None:
        raise config_error(f"{where}{path}: expected a number that JSON can write, not nan or inf")


def _not_finite(value: Any) -> str | None:
    """The path of a number in `value` that JSON has no way to write."""
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    children: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        children = [(f".{key}", child) for key, child in value.items()]
    elif isinstance(value, list):
        children = [(f"[{number}]", child) for number, child in enumerate(value)]
    for step, child in children:
        path = _not_finite(child)
        if path is not None:
            return step + path
    return None


def _check_stored(where: str, agent: Any) -> None:
    if not isinstance(agent, str) or not _UUID.fullmatch(agent):
        raise config_error(
            f"{where}: expected a table, or the UUID of a stored agent, got {quoted(agent)}"
        )


def read_numbers(given: RawConfig, agents: dict[str, AgentSettings]) -> dict[str, str]:
    numbers: dict[str, str] = {}
    for address, name in given.section("numbers").items():
        where = given.in_file("numbers", address)
        if not addresses.is_address(address):
            raise config_error(
                f'{where}: expected a number like "+15005550006", or an address like'
                ' "sip:sales@example.com" or "client:sales"'
                f", got {quoted(address)}"
            )
        key = addresses.canonical(address)
        if key in numbers:
            raise config_error(f"{where}: {key} is there already, written in another way")
        if not isinstance(name, str) or name not in agents:
            raise config_error(
                f"{where}: expected the name of an agent ({', '.join(agents)}), got {quoted(name)}"
            )
        numbers[key] = name
    return numbers

"""The agents an operator configured, and the numbers they answer.

An agent is Deepgram's own `agent` object, passed through, so that every field works on the day it
is published: what we know of it is checked, what we do not know is kept, with a warning.
"""

import math
import re
from typing import Any

import msgspec

from sts_trio.config.variables import RawConfig, config_error
from sts_trio.wire import addresses, legacy
from sts_trio.wire.deepgram_settings import phone_settings, read_agent
from sts_trio.wire.dialect import Dialect
from sts_trio.wire.printable import shown

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


def read_agents(
    given: RawConfig, dialect: Dialect, warnings: list[str]
) -> dict[str, AgentSettings]:
    agents = given.section("agents")
    if not agents:
        return {"default": CAR_SELLER}
    for name, agent in agents.items():
        where = given.in_file(f"agents.{name}")
        if isinstance(agent, dict):
            if "functions" in agent:
                # TOML takes a line below a table's head for the table's own.
                raise config_error(
                    f"{where}.functions: an agent's own go into think.functions;"
                    " yours, which this server is to run, above the first [table]"
                )
            warnings.extend(_check_agent(where, agent, dialect))
        else:
            _check_stored(where, agent)
        if dialect is Dialect.LEGACY:
            try:
                legacy.encode(phone_settings(agent))
            except legacy.Untranslatable as exc:
                raise config_error(f"{where}: {exc}") from exc
    if "default" not in agents:
        raise config_error(
            f"{given.in_file('agents')}: expected one named default, for calls"
            f" to numbers that [numbers] does not know, got {', '.join(agents)}"
        )
    return agents


def _check_agent(where: str, agent: dict[str, Any], dialect: Dialect) -> list[str]:
    """Warnings about an agent that will do."""
    try:
        _, unknown = read_agent(agent)
    except msgspec.ValidationError as exc:
        # "Expected `str`, got `int` - at `$.think.prompt`"
        reason, _, path = str(exc).partition(" - at `$")
        raise config_error(f"{where}{path.rstrip('`')}: {reason[0].lower()}{reason[1:]}") from None
    odd = _not_finite(agent)
    if odd is not None:
        raise config_error(f"{where}{odd}: expected a number that JSON can write, not nan or inf")
    fate = "left out" if dialect is Dialect.LEGACY else "sent all the same"
    return [f"{where}.{path}: not in Deepgram's published schema; {fate}" for path in unknown]


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
            f"{where}: expected a table, or the UUID of a stored agent, got {shown(agent)}"
        )


def read_numbers(given: RawConfig, agents: dict[str, AgentSettings]) -> dict[str, str]:
    numbers: dict[str, str] = {}
    for address, name in given.section("numbers").items():
        where = given.in_file(f"numbers.{address}")
        if not addresses.is_address(address):
            raise config_error(
                f'{where}: expected a number like "+15005550006", or an address like'
                ' "sip:sales@example.com" or "client:sales"'
            )
        key = addresses.canonical(address)
        if key in numbers:
            raise config_error(f"{where}: {key} is there already, written in another way")
        if not isinstance(name, str) or name not in agents:
            raise config_error(
                f"{where}: expected the name of an agent ({', '.join(agents)}), got {shown(name)}"
            )
        numbers[key] = name
    return numbers

"""Which version of an agent a call was answered by: what is configured, and the functions' code."""

import hashlib
import inspect
from collections.abc import Iterable
from typing import Any

import msgspec

from sts_trio.config import Config
from sts_trio.functions.registry import Function

# Twelve hexadecimal digits: who changes an agent every minute for a year has one chance in two
# thousand that two versions look the same.
BYTES = 6


def versions(config: Config, functions: Iterable[Function]) -> dict[str, str]:
    """{agent: its version}, of all that are configured."""
    functions = list(functions)
    return {
        name: version_of(
            settings,
            config.sessions[name],
            [each for each in functions if each.may_be_called_by(name)],
        )
        for name, settings in config.agents.items()
    }


def version_of(settings: Any, session: Any, functions: Iterable[Function]) -> str:
    """The same as long as nothing of it is changed, in whichever process.

    `settings` and `session` are what the agent is told, its functions included; `functions` are
    those that it may call here. Of a function its own source counts, not what that calls.
    """
    told = msgspec.json.encode([settings, session], order="deterministic")
    digest = hashlib.blake2b(told, digest_size=BYTES)
    for function in sorted(functions, key=lambda each: each.name):
        digest.update(f"\0{function.name}\0{_source(function)}".encode())
    return digest.hexdigest()


def _source(function: Function) -> str:
    try:
        return inspect.getsource(function.run)
    except (OSError, TypeError):
        return ""  # typed into a prompt, or compiled

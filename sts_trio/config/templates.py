"""Variables in what an agent is told and says: `{caller_name}` in a prompt or a greeting. Pure.

A variable is a name in braces, and nothing else is: prompts have JSON in them. `{{name}}` stands
for a name in braces. Values are data: what looks like a variable in one stays as it is.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

NAME = re.compile("[A-Za-z_][A-Za-z0-9_]{0,63}")
_FIELD = re.compile(rf"\{{\{{({NAME.pattern})\}}\}}|\{{({NAME.pattern})\}}")


def filled(agent: dict[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """Deepgram's `agent` object with the values of its variables; the one given stays as it was."""
    agent = dict(agent)
    if isinstance(greeting := agent.get("greeting"), str):
        agent["greeting"] = _filled(greeting, values)
    think = agent.get("think")
    if isinstance(think, list):
        agent["think"] = [_with_prompt(block, values) for block in think]
    elif isinstance(think, dict):
        agent["think"] = _with_prompt(think, values)
    return agent


def fields(agent: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(path, variable) of each that is used in the `agent` object."""
    think = agent.get("think")
    blocks = {"think": think}
    if isinstance(think, list):
        blocks = {f"think[{number}]": block for number, block in enumerate(think)}
    texts = {f"{path}.prompt": block.get("prompt") for path, block in blocks.items() if block}
    for path, text in {"greeting": agent.get("greeting"), **texts}.items():
        for match in _FIELD.finditer(text or ""):
            if match[2]:
                yield path, match[2]


def _with_prompt(block: dict[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    prompt = block.get("prompt")
    return {**block, "prompt": _filled(prompt, values)} if isinstance(prompt, str) else block


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _FIELD.sub(lambda found: values[found[2]] if found[2] else f"{{{found[1]}}}", text)

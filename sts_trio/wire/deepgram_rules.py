"""What Deepgram refuses of `Settings` that its schema allows, or takes otherwise than it was meant.

Told at start-up, as else a caller is the first to meet it. Warnings, as rules of a provider change.
Source: developers.deepgram.com/docs/configure-voice-agent and the pages of its models, and
deepgram-sdk 7.17; read 2026-11-22. Pure.
"""

from collections.abc import Iterator, Mapping
from typing import Any

# (path, what is wrong with it and what is right)
Odd = tuple[str, str]

LONGEST_PROMPT = 25_000  # letters, for a model that Deepgram manages
MOST_TEMPERATURE = {"open_ai": 2, "google": 2, "anthropic": 1}
# Providers whose models Deepgram does not manage.
THINK_NEEDS_ENDPOINT = {"groq", "aws_bedrock"}
SPEAK_NEEDS_ENDPOINT = {"eleven_labs", "open_ai", "aws_polly"}
SPEAK_NEEDS = {
    "deepgram": ("model",),
    "eleven_labs": ("model_id",),
    "cartesia": ("model_id", "voice"),
    "open_ai": ("model", "voice"),
    "aws_polly": ("voice", "language", "engine"),
}
# {field of a flux listener: least, most}
TURN_LIMITS = {
    "eot_threshold": (0.5, 1.0),
    "eager_eot_threshold": (0.3, 0.9),
    "eot_timeout_ms": (500, 60_000),
}
EOT_THRESHOLD = 0.7  # if none is set
FILLERS = ("initial_agent_filler", "agent_filler_max_count", "agent_filler_interval_ms")


def oddities(agent: dict[str, Any], session: dict[str, Any]) -> Iterator[Odd]:
    """Of an `agent` that is fit for the schema, and what stands beside it."""
    listener = (agent.get("listen") or {}).get("provider") or {}
    yield from _listener(listener, "listen.provider")
    if "language" in agent and _is_flux(listener):
        yield "language", "a flux model takes none, and Deepgram ends the session: leave it out"
    for path, block in _blocks(agent, "think"):
        yield from _think(block, path, has_live="think_live" in agent)
        if session.get("mip_opt_out") and block["provider"].get("model") == "think-fast":
            yield (f"{path}.provider.model", "think-fast cannot be had together with mip_opt_out")
    for path, block in _blocks(agent, "speak"):
        yield from _speak(block, path)
    for number, item in enumerate((agent.get("context") or {}).get("messages") or []):
        if not _is_of_history(item):
            yield (
                f"context.messages[{number}]",
                'expected type = "History", with a role and a content that is not blank, or with'
                " function_calls",
            )


def _blocks(agent: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    value = agent.get(name)
    if isinstance(value, list):
        yield from ((f"{name}[{number}]", block) for number, block in enumerate(value))
    elif value:
        yield name, value


def _is_flux(provider: Mapping[str, Any]) -> bool:
    return str(provider.get("model") or "").startswith("flux-")


def _kind(provider: Mapping[str, Any]) -> str:
    kind = provider.get("type")
    return kind if isinstance(kind, str) else ""


def _listener(provider: dict[str, Any], path: str) -> Iterator[Odd]:
    model, version = provider.get("model"), provider.get("version")
    is_v2 = _is_flux(provider) or version == "v2"
    if _is_flux(provider) and version != "v2":
        yield f"{path}.version", f'expected "v2", without which {model} is taken for no model'
    elif is_v2 and not _is_flux(provider):
        yield f"{path}.model", 'expected a flux model, like flux-general-en, for version = "v2"'
    if not is_v2:
        for field in (*TURN_LIMITS, "language_hints"):
            if field in provider:
                yield f"{path}.{field}", "only flux models have it"
        return
    for field in ("language", "smart_format"):
        if field in provider:
            yield f"{path}.{field}", "flux models do not have it"
    if "language_hints" in provider and model != "flux-general-multi":
        yield f"{path}.language_hints", "only flux-general-multi has it"
    for field, (least, most) in TURN_LIMITS.items():
        yield from _range(provider, path, field, least, most)
    eager, usual = provider.get("eager_eot_threshold"), provider.get("eot_threshold")
    if eager is not None and eager > (EOT_THRESHOLD if usual is None else usual):
        yield (
            f"{path}.eager_eot_threshold",
            f"expected no more than eot_threshold ({EOT_THRESHOLD if usual is None else usual:g}),"
            f" got {eager:g}",
        )


def _think(block: dict[str, Any], path: str, *, has_live: bool) -> Iterator[Odd]:
    provider, endpoint = block["provider"], block.get("endpoint")
    kind = _kind(provider)
    for field in ("type", "model"):
        if not provider.get(field):
            yield f"{path}.provider.{field}", "missing"
    if kind in THINK_NEEDS_ENDPOINT and not endpoint:
        yield f"{path}.endpoint", f"missing: {kind} has no model that Deepgram manages"
    if kind in MOST_TEMPERATURE:
        yield from _range(provider, f"{path}.provider", "temperature", 0, MOST_TEMPERATURE[kind])
    if not endpoint:
        length = len(block.get("prompt") or "")
        if length > LONGEST_PROMPT:
            yield f"{path}.prompt", f"expected at most {LONGEST_PROMPT} letters, got {length}"
        if "context_length" in block:
            yield f"{path}.context_length", "only with an endpoint of your own"
    for number, function in enumerate(block.get("functions") or []):
        for field in FILLERS:
            if function.get(field) and not has_live:
                yield f"{path}.functions[{number}].{field}", "only with think_live"


def _speak(block: dict[str, Any], path: str) -> Iterator[Odd]:
    provider = block["provider"]
    kind = _kind(provider)
    if not kind:
        yield f"{path}.provider.type", "missing"
    for field in SPEAK_NEEDS.get(kind, ()):
        if not provider.get(field):
            yield f"{path}.provider.{field}", "missing"
    if kind in SPEAK_NEEDS_ENDPOINT and not block.get("endpoint"):
        yield f"{path}.endpoint", f"missing: {kind} is reached by an endpoint of your own"
    if kind != "deepgram":
        return
    is_flux, path = _is_flux(provider), f"{path}.provider"
    if is_flux and provider.get("version") != "v2":
        yield f"{path}.version", 'expected "v2" for a flux voice'
    elif provider.get("version") == "v2" and not is_flux:
        yield f"{path}.model", 'expected a flux voice, like flux-kit-en, for version = "v2"'
    yield from _range(provider, path, "speed", 0.5 if is_flux else 0.7, 1.5)
    if "language" in provider:
        yield f"{path}.language", "the model's name says it: leave it out"
    if "expressivity" in provider and not is_flux:
        yield f"{path}.expressivity", "only flux voices have it"
    else:
        yield from _range(provider, path, "expressivity", -2, 2)


def _range(
    provider: dict[str, Any], path: str, field: str, least: float, most: float
) -> Iterator[Odd]:
    value = provider.get(field)
    if value is None:
        return
    if not isinstance(value, int | float) or not least <= value <= most:
        yield f"{path}.{field}", f"expected a number from {least:g} to {most:g}, got {value!r}"


def _is_of_history(item: dict[str, Any]) -> bool:
    content = item.get("content")
    is_text = (
        isinstance(item.get("role"), str) and isinstance(content, str) and bool(content.strip())
    )
    return item.get("type") == "History" and (is_text or bool(item.get("function_calls")))

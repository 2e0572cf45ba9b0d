"""Deepgram's `Settings`: the published schema of an agent, and how ours are made. Pure."""

from typing import Any

import msgspec

from sts_trio.wire.schema import prune


class Endpoint(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    url: str
    method: str | None = None
    headers: dict[str, str] = {}


class Function(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A function the model may call. Without an `endpoint` it is ours to run."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}  # JSON Schema of one object
    endpoint: Endpoint | None = None
    defer_until_eot: bool = False
    initial_agent_filler: bool = False
    agent_filler_max_count: int | None = None
    agent_filler_interval_ms: int | None = None


class DeepgramListener(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Speech to text. No endpointing or sensitivity can be set; an attempt ends the session."""

    type: str
    model: str | None = None
    version: str | None = None
    language: str | None = None
    language_hints: list[str] | None = None
    keyterms: list[str] | None = None
    smart_format: bool | None = None
    eot_threshold: float | None = None
    eager_eot_threshold: float | None = None
    eot_timeout_ms: int | None = None


class Listen(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    provider: DeepgramListener


class Think(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    provider: dict[str, Any]  # `type` and `model`, and what that provider knows
    endpoint: Endpoint | None = None
    prompt: str | None = None
    context_length: int | str | None = None  # characters, or "max"
    functions: list[Function] | None = None


class ThinkLive(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    provider: dict[str, Any]


class Speak(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    provider: dict[str, Any]  # `type`, and what that provider knows
    endpoint: Endpoint | None = None


class Context(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    messages: list[dict[str, Any]] = []  # `TextItem` and `FunctionItem`, as stored


class Agent(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Deepgram's `agent` object, as far as it is published. Ours are checked against it."""

    language: str | None = None
    greeting: str | None = None
    context: Context | None = None
    listen: Listen | None = None
    think: Think | list[Think] | None = None
    think_live: ThinkLive | None = None
    speak: Speak | list[Speak] | None = None


# All names that are published, to find out what a misspelt one was meant to be.
FIELD_NAMES = sorted(
    {
        name
        for block in (Agent, Context, Listen, DeepgramListener, Think, ThinkLive, Speak, Function)
        for name in block.__struct_fields__
    }
)


class AudioFormat(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    encoding: str
    sample_rate: int | None = None
    bitrate: int | None = None
    container: str | None = None


class AudioSettings(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    input: AudioFormat | None = None
    output: AudioFormat | None = None


class Flags(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    history: bool = True


class Session(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What stands beside `agent` in `Settings`, as far as it is published and ours to choose."""

    tags: list[str] = []
    experimental: bool = False
    mip_opt_out: bool = False
    flags: Flags | None = None


class Settings(
    msgspec.Struct,
    frozen=True,
    tag_field="type",
    tag="Settings",
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """Sent once, after `Welcome`. `agent` is an `Agent` as plain data, or a stored agent's UUID;
    `flags` are `Flags` as plain data. On the wire the fields of `more` stand beside the others."""

    audio: AudioSettings
    agent: dict[str, Any] | str
    tags: list[str] = []
    experimental: bool = False
    mip_opt_out: bool = False
    flags: dict[str, Any] | None = None
    more: dict[str, Any] = {}


def plain(settings: Settings) -> dict[str, Any]:
    """As they are written."""
    written: dict[str, Any] = msgspec.to_builtins(settings)
    more: dict[str, Any] = written.pop("more", {})
    return written | more


def check_settings(settings: Settings) -> None:
    """Holds what they have as plain data against the published schema.

    Raises:
        msgspec.ValidationError: naming the field at fault.
    """
    if settings.more:
        raise msgspec.ValidationError("Object contains unknown field `more`")
    if isinstance(settings.agent, dict):
        check_agent(settings.agent)
    read_flags(settings)


def read_flags(settings: Settings) -> Flags:
    return msgspec.convert(settings.flags or {}, Flags)


def check_agent(agent: dict[str, Any]) -> Agent:
    """Holds an `agent` object against the published schema.

    Raises:
        msgspec.ValidationError: naming the field at fault.
    """
    return msgspec.convert(agent, Agent)


def read_session(session: dict[str, Any]) -> tuple[Session, list[str]]:
    """As `read_agent`, of what stands beside `agent`."""
    known, unknown = prune(session, Session)
    return msgspec.convert(known, Session), unknown


def check_block(block: Any, kind: Any) -> Any:
    """Holds a block as plain data against what is published of that kind; fields that are newer
    are kept.

    Raises:
        msgspec.ValidationError: naming a field that is known and of a wrong type.
    """
    known, _ = prune(block, kind)
    return msgspec.convert(known, kind)


def read_agent(agent: dict[str, Any]) -> tuple[Agent, list[str]]:
    """An `agent` object as far as the published schema goes, and the paths of what goes beyond.

    Raises:
        msgspec.ValidationError: naming a field that is known and of a wrong type.
    """
    known, unknown = prune(agent, Agent)
    return check_agent(known), unknown


def resumed(
    agent: dict[str, Any] | str, history: list[dict[str, Any]], *, greets: bool
) -> dict[str, Any] | str:
    """The `agent` object for going on with a conversation: what was said before comes after what
    its own context holds, and unless it `greets`, it does not speak first.

    Functions that were called are no news for an agent that has none: its model would refuse them.
    A stored agent is used as it is stored, so it can be told neither.
    """
    if isinstance(agent, str) or (greets and not history):
        return agent
    if not _has_functions(agent):
        history = [item for item in history if "function_calls" not in item]
    agent = {key: value for key, value in agent.items() if greets or key != "greeting"}
    context = agent.get("context") or {}
    messages = [*(context.get("messages") or []), *history]
    return {**agent, "context": {**context, "messages": messages}} if messages else agent


def _has_functions(agent: dict[str, Any]) -> bool:
    """Whether the agent may call functions, whichever of its fallbacks thinks."""
    think = agent.get("think")
    blocks = think if isinstance(think, list) else [think]
    return bool(blocks) and all(block and block.get("functions") for block in blocks)


def phone_settings(agent: dict[str, Any] | str, session: dict[str, Any] | None = None) -> Settings:
    """`Settings` for a phone call: µ-law, 8 kHz, no container, both ways, for this `agent`;
    `session` is what stands beside it, a `Session` as plain data and newer fields."""
    session = session or {}
    known = {name: value for name, value in session.items() if name in Session.__struct_fields__}
    return Settings(
        audio=AudioSettings(
            input=AudioFormat(encoding="mulaw", sample_rate=8000),
            output=AudioFormat(encoding="mulaw", sample_rate=8000, container="none"),
        ),
        agent=agent,
        more={name: value for name, value in session.items() if name not in known},
        **known,
    )

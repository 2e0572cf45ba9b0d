"""Deepgram's Voice Agent language, version 1, both ways.

The bridge decodes what the agent sends and encodes what it takes; `decode_as_agent` and
`encode_as_agent` are the other side of the same wire, for an agent of our own.

JSON travels in text frames, audio in binary ones; `Audio` is a message like any other. Messages to
the agent are read strictly, as Deepgram reads them: an unknown field ends its session. Messages
from it are read leniently: fields and kinds are added without notice.
Source: deepgram-sdk 7.17 models and developers.deepgram.com/docs/voice-agent, read 2026-11-22.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from sts_trio.errors import Leg
from sts_trio.wire.anomalies import Malformed, Unknown
from sts_trio.wire.deepgram_settings import (
    Listen,
    Settings,
    Speak,
    Think,
    ThinkLive,
    check_settings,
    plain,
)
from sts_trio.wire.salvage import JsonText, salvaged
from sts_trio.wire.schema import Counter

M = TypeVar("M")


class Audio(msgspec.Struct, frozen=True, gc=False):
    """A binary frame: raw bytes in the format that `Settings` declared, no framing, any length."""

    data: bytes


class TextItem(msgspec.Struct, frozen=True, tag_field="type", tag="History"):
    """What somebody said."""

    role: str
    content: str


class CalledFunction(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    name: str
    client_side: bool
    arguments: str  # JSON, as the model wrote it
    response: str
    thought_signature: str | None = None


class FunctionItem(msgspec.Struct, frozen=True, tag_field="type", tag="History"):
    """Functions that were called, with their results."""

    function_calls: tuple[CalledFunction, ...]


Blocks = dict[str, Any] | list[dict[str, Any]]

# --- To the agent -------------------------------------------------------------------------------


class UpdateListen(
    msgspec.Struct, frozen=True, tag_field="type", tag=True, forbid_unknown_fields=True
):
    """What is left out keeps its value. `listen` is a `Listen` as plain data."""

    listen: dict[str, Any]


class UpdateThink(
    msgspec.Struct, frozen=True, tag_field="type", tag=True, forbid_unknown_fields=True
):
    """Replaces the whole block: what is left out is gone. `think` is a `Think` as plain data, or a
    list of them, each for when the one before fails."""

    think: Blocks


class UpdateThinkLive(
    msgspec.Struct,
    frozen=True,
    tag_field="type",
    tag="UpdateThink_Live",
    forbid_unknown_fields=True,
):
    think_live: ThinkLive


class UpdateSpeak(
    msgspec.Struct, frozen=True, tag_field="type", tag=True, forbid_unknown_fields=True
):
    """`speak` is a `Speak` as plain data, or a list of them, as in `UpdateThink`."""

    speak: Blocks


class UpdatePrompt(
    msgspec.Struct, frozen=True, tag_field="type", tag=True, forbid_unknown_fields=True
):
    """Appends to the prompt, by most accounts; `UpdateThink` replaces it."""

    prompt: str


class InjectUserMessage(
    msgspec.Struct, frozen=True, tag_field="type", tag=True, forbid_unknown_fields=True
):
    """Text as if the caller had said it. The field is `content`; `message` is unparsable."""

    content: str


class InjectAgentMessage(
    msgspec.Struct,
    frozen=True,
    tag_field="type",
    tag=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """Makes the agent speak. The field is `message`; with `content` nothing is spoken."""

    message: str | None = None
    behavior: str = "default"  # default | queue | interrupt
    is_dynamic: bool = False


class FunctionResult(
    msgspec.Struct,
    frozen=True,
    tag_field="type",
    tag="FunctionCallResponse",
    forbid_unknown_fields=True,
):
    """The answer to one client-side call; `content` is always a string, by custom JSON."""

    id: str
    name: str
    content: str


class ForceEndTurn(
    msgspec.Struct, frozen=True, tag_field="type", tag=True, forbid_unknown_fields=True
):
    """Ends the caller's turn now (Flux listeners only)."""


class KeepAlive(
    msgspec.Struct, frozen=True, tag_field="type", tag=True, forbid_unknown_fields=True
):
    """Holds an idle session while no audio is sent."""


class CustomToThinkProvider(
    msgspec.Struct,
    frozen=True,
    tag_field="type",
    tag="__customToThinkProvider",
    forbid_unknown_fields=True,
):
    content: Any


# --- From the agent -----------------------------------------------------------------------------


class Welcome(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    request_id: str = ""  # the key for support and usage look-ups


class SettingsApplied(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    """Audio may flow."""


class ConversationText(msgspec.Struct, frozen=True, tag_field="type", tag=True, omit_defaults=True):
    """One sentence: the caller's when the turn is confirmed, the agent's as it is spoken."""

    role: str
    content: str
    conversational_behavior: str = "default"
    languages_hinted: list[str] | None = None
    languages: list[str] | None = None


class UserStartedSpeaking(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    """The barge-in signal."""


class EndOfTurn(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    """In no schema; seen live just before the caller's `ConversationText`."""

    trigger: str = ""


class AgentThinking(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    content: str = ""


class History(msgspec.Struct, frozen=True, tag_field="type", tag=True, omit_defaults=True):
    """An item for `Context.messages`: either a text or function calls."""

    role: str | None = None
    content: str | None = None
    function_calls: tuple[CalledFunction, ...] | None = None


class LatencyReport(msgspec.Struct, frozen=True, tag_field="type", tag=True, omit_defaults=True):
    """Seconds; in practice one field a message, several messages a turn."""

    stt_latency: float | None = None
    ttt_token_latency: float | None = None
    ttt_text_latency: float | None = None
    ttt_tool_latency: float | None = None
    ttt_thinking_latency: float | None = None
    tts_latency: float | None = None
    total_latency: float | None = None


class FunctionToCall(msgspec.Struct, frozen=True):
    """The answer goes by `id`, whatever the others are."""

    id: str
    name: str = ""
    arguments: JsonText = ""  # written by a model: may be empty or invalid
    client_side: bool = True
    thought_signature: str | msgspec.UnsetType | None = msgspec.UNSET


class FunctionCallRequest(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    functions: tuple[FunctionToCall, ...]


class FunctionCallResponse(
    msgspec.Struct, frozen=True, tag_field="type", tag=True, omit_defaults=True
):
    """News of a function that Deepgram ran itself, through its `endpoint`."""

    name: str
    content: JsonText
    id: str | None = None


class CancelledFunction(msgspec.Struct, frozen=True):
    id: str
    name: str = ""


class FunctionCallCancelled(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    """The caller went on speaking: these calls are void, a late answer is dropped."""

    functions: tuple[CancelledFunction, ...]


class AgentStartedSpeaking(
    msgspec.Struct, frozen=True, tag_field="type", tag=True, omit_defaults=True
):
    """Only with `experimental`; nothing may depend on it."""

    total_latency: float | None = None
    tts_latency: float | None = None
    ttt_latency: float | None = None


class AgentAudioDone(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    """The last audio of this utterance was sent, not played."""


class PromptUpdated(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    pass


class SpeakUpdated(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    pass


class ThinkUpdated(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    pass


class ThinkLiveUpdated(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    pass


class ListenUpdated(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    pass


class InjectionRefused(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    message: str = ""


class FrustrationDetected(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    count: Counter = 0
    escalated: bool = False


class AgentWarning(msgspec.Struct, frozen=True, tag_field="type", tag="Warning"):
    code: str = ""
    description: str = ""


class AgentError(msgspec.Struct, frozen=True, tag_field="type", tag="Error"):
    """Fatal, whatever the code: the session ends, the socket closes soon after."""

    code: str = ""
    description: str = ""


class CustomFromThinkProvider(
    msgspec.Struct, frozen=True, tag_field="type", tag="__customFromThinkProvider"
):
    content: Any = None


TextToAgent = (
    Settings
    | UpdateListen
    | UpdateThink
    | UpdateThinkLive
    | UpdateSpeak
    | UpdatePrompt
    | InjectUserMessage
    | InjectAgentMessage
    | FunctionResult
    | ForceEndTurn
    | KeepAlive
    | CustomToThinkProvider
)
TextFromAgent = (
    Welcome
    | SettingsApplied
    | ConversationText
    | UserStartedSpeaking
    | EndOfTurn
    | AgentThinking
    | History
    | LatencyReport
    | FunctionCallRequest
    | FunctionCallResponse
    | FunctionCallCancelled
    | AgentStartedSpeaking
    | AgentAudioDone
    | PromptUpdated
    | SpeakUpdated
    | ThinkUpdated
    | ThinkLiveUpdated
    | ListenUpdated
    | InjectionRefused
    | FrustrationDetected
    | AgentWarning
    | AgentError
    | CustomFromThinkProvider
)
ToAgent = TextToAgent | Audio
FromAgent = TextFromAgent | Audio | Unknown | Malformed


class Tag(msgspec.Struct, frozen=True):
    type: str


_decoder: msgspec.json.Decoder[TextFromAgent] = msgspec.json.Decoder(TextFromAgent, strict=False)
_agent_decoder: msgspec.json.Decoder[TextToAgent] = msgspec.json.Decoder(TextToAgent)
_tag_decoder = msgspec.json.Decoder(Tag)
_encoder = msgspec.json.Encoder()

_KNOWN = {str(message.__struct_config__.tag): message for message in TextFromAgent.__args__}


def decode(data: str | bytes) -> FromAgent:
    """One frame from the agent, text or binary. Total: never raises, whatever the bytes."""
    if isinstance(data, bytes):
        return Audio(data)
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        return odd(data, _KNOWN, exc)


def odd(data: str, known: Mapping[str, type[M]], error: Exception) -> Unknown | Malformed | M:
    """What a text frame is that did not decode: a kind not in `known`, broken, or what there is to
    be used of it."""
    try:
        tag = _tag_decoder.decode(data).type
    except msgspec.ValidationError:
        return Malformed(Leg.AGENT, "no type")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return Malformed(Leg.AGENT, "not JSON" if data else "empty message")
    if tag not in known:
        return Unknown(Leg.AGENT, tag)
    message: M | None = salvaged(data, known[tag])
    return Malformed(Leg.AGENT, f"{tag}: {error}") if message is None else message


def encode(message: ToAgent) -> str | bytes:
    """The frame for one message: `bytes` for audio, `str` for all else."""
    if isinstance(message, Audio):
        return message.data
    return _encoder.encode(plain(message) if isinstance(message, Settings) else message).decode()


def decode_as_agent(data: str | bytes) -> ToAgent:
    """One frame of ours, read as strictly as Deepgram reads it.

    Raises:
        msgspec.MsgspecError: where Deepgram would answer `UNPARSABLE_CLIENT_MESSAGE` and close.
    """
    if isinstance(data, bytes):
        return Audio(data)
    message = _agent_decoder.decode(data)
    match message:
        case Settings():
            check_settings(message)
        case UpdateThink(think):
            msgspec.convert(think, Think | list[Think])
        case UpdateSpeak(speak):
            msgspec.convert(speak, Speak | list[Speak])
        case UpdateListen(listen):
            msgspec.convert(listen, Listen)
    return message


def encode_as_agent(message: TextFromAgent | Audio) -> str | bytes:
    if isinstance(message, Audio):
        return message.data
    return _encoder.encode(message).decode()

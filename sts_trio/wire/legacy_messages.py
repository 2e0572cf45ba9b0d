"""The messages of the Voice Agent language of before version 1. What is the same in both is taken
from `deepgram.py`; how one is said in the other is in `legacy.py`, with the sources.
"""

from typing import Any

import msgspec

from sts_trio.wire import deepgram as v1

# --- To the agent: strict, as "client message matched no expected format" is fatal there ----------


class Block(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A part of a message to the agent."""


class Sent(Block, frozen=True, tag_field="type", tag=True):
    """A message to the agent, named as its class."""


class Header(Block, frozen=True):
    key: str
    value: str


class Input(Block, frozen=True):
    encoding: str = "linear16"
    sample_rate: int | None = None


class Output(Block, frozen=True):
    encoding: str = "linear16"
    sample_rate: int | None = None
    bitrate: int | None = None
    container: str | None = None
    buffer_size: int | None = None  # gone since; we never send it


class AudioSettings(Block, frozen=True):
    input: Input | None = None
    output: Output | None = None


class Listen(Block, frozen=True):
    model: str | None = None
    keyterms: list[str] | None = None


class Provider(Block, frozen=True):
    type: str
    url: str | None = None  # of a "custom" one, as all that follows
    key: str | None = None
    headers: list[Header] = []
    fallback_to_groq: bool | None = None


class Function(Block, frozen=True):
    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    url: str | None = None
    method: str | None = None
    headers: list[Header] = []


class Think(Block, frozen=True):
    provider: Provider | str  # a plain string until September 2024
    model: str | None = None
    instructions: str | None = None
    functions: list[Function] = []


class Speak(Block, frozen=True):
    model: str | None = None
    provider: str | None = None
    voice_id: str | None = None
    temp: float | None = None
    rep_penalty: float | None = None


class Agent(Block, frozen=True):
    listen: Listen | None = None
    think: Think | None = None
    speak: Speak | None = None


class Text(Block, frozen=True):
    role: str
    content: str


class Context(Block, frozen=True):
    messages: list[Text] = []
    replay: bool = False  # the last message, if it is the agent's, is spoken on connect


class SettingsConfiguration(Sent, frozen=True):
    audio: AudioSettings
    agent: Agent
    context: Context | None = None


class UpdateInstructions(Sent, frozen=True):
    instructions: str


class UpdateSpeak(Sent, frozen=True):
    model: str


class InjectAgentMessage(Sent, frozen=True):
    message: str


class FunctionCallResponse(Sent, frozen=True):
    function_call_id: str
    output: str


# --- From the agent: what differs from version 1 ----------------------------------------------


class Welcome(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    session_id: str = ""


class InstructionsUpdated(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    pass


class FunctionCallRequest(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    """One function a message; only client-side ones are heard of."""

    function_call_id: str
    function_name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")  # JSON, kept as it was written


class Error(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    message: str = ""


SameToAgent = v1.KeepAlive
SameFromAgent = (
    v1.SettingsApplied
    | v1.ConversationText
    | v1.UserStartedSpeaking
    | v1.AgentThinking
    | v1.AgentStartedSpeaking
    | v1.AgentAudioDone
    | v1.SpeakUpdated
    | v1.InjectionRefused
)
LegacyToAgent = (
    SettingsConfiguration
    | UpdateInstructions
    | UpdateSpeak
    | InjectAgentMessage
    | FunctionCallResponse
    | SameToAgent
)
LegacyFromAgent = Welcome | InstructionsUpdated | FunctionCallRequest | Error | SameFromAgent

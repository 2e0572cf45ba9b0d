"""The Voice Agent language of before version 1, translated at the edge, both ways.

Takes and gives the messages of `deepgram.py`, so nothing above knows which dialect a call speaks.
What the old dialect has no words for raises `Untranslatable`, unless leaving it out only costs
comfort: tags, history flags, temperature, fillers, earlier function calls and the like are dropped.

The greeting has no field of its own there: it is the last message of the `context`, replayed. A
think or speak list stands for fallbacks, which are not known either: its first entry is meant.
Source: developers.deepgram.com, legacy pages of May 2025 and the V1 migration guide; deepgram-sdk
3.10 dataclasses; read 2026-11-22.
"""

from typing import Any

import msgspec

from sts_trio.errors import StsTrioError
from sts_trio.wire import deepgram as v1
from sts_trio.wire import deepgram_settings
from sts_trio.wire.anomalies import Malformed, Unknown
from sts_trio.wire.legacy_messages import (
    Agent,
    AudioSettings,
    Context,
    Error,
    Function,
    FunctionCallRequest,
    FunctionCallResponse,
    Header,
    InjectAgentMessage,
    InstructionsUpdated,
    LegacyFromAgent,
    LegacyToAgent,
    Listen,
    Provider,
    SettingsConfiguration,
    Speak,
    Text,
    Think,
    UpdateInstructions,
    UpdateSpeak,
    Welcome,
)


class Untranslatable(StsTrioError):
    """The legacy dialect has no words for a message of ours, or of a part that matters in it."""


_decoder: msgspec.json.Decoder[LegacyFromAgent] = msgspec.json.Decoder(
    LegacyFromAgent, strict=False
)
_agent_decoder: msgspec.json.Decoder[LegacyToAgent] = msgspec.json.Decoder(LegacyToAgent)
_encoder = msgspec.json.Encoder()

# Not `FunctionCalling`, `EndOfThought`, `CloseConnection`: notes that are safe to ignore.
_KNOWN = {str(message.__struct_config__.tag): message for message in LegacyFromAgent.__args__}


def decode(data: str | bytes) -> v1.FromAgent:
    """One frame from the agent, text or binary. Total: never raises, whatever the bytes."""
    if isinstance(data, bytes):
        return v1.Audio(data)
    message: LegacyFromAgent | Unknown | Malformed
    try:
        message = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        message = v1.odd(data, _KNOWN, exc)
    match message:
        case Welcome():
            return v1.Welcome(request_id=message.session_id)
        case InstructionsUpdated():
            return v1.PromptUpdated()
        case FunctionCallRequest():
            function = v1.FunctionToCall(
                id=message.function_call_id,
                name=message.function_name,
                arguments=bytes(message.input).decode(),
            )
            return v1.FunctionCallRequest(functions=(function,))
        case Error():
            return v1.AgentError(code="", description=message.message)
        case _:
            return message


def encode(message: v1.ToAgent) -> str | bytes:
    """The frame for one message: `bytes` for audio, `str` for all else.

    Raises:
        Untranslatable: the dialect cannot say this.
    """
    if isinstance(message, v1.Audio):
        return message.data
    return _encoder.encode(_to_legacy(message)).decode()


def _to_legacy(message: v1.TextToAgent) -> LegacyToAgent:
    match message:
        case deepgram_settings.Settings():
            return _configuration(message)
        case v1.UpdatePrompt():
            return UpdateInstructions(message.prompt)
        case v1.UpdateSpeak():
            speak = _speak(_read_speak(_first(message.speak)))
            if speak is None or speak.model is None:
                raise Untranslatable("UpdateSpeak: the legacy dialect changes Deepgram voices only")
            return UpdateSpeak(speak.model)
        case v1.InjectAgentMessage() if message.message is not None:
            # The behaviour is lost: spoken between turns, or refused.
            return InjectAgentMessage(message.message)
        case v1.FunctionResult():
            return FunctionCallResponse(function_call_id=message.id, output=message.content)
        case v1.KeepAlive():
            return message
        case _:
            raise _untranslatable(message)


def _read_speak(block: dict[str, Any] | None) -> deepgram_settings.Speak | None:
    if block is None:
        return None
    try:
        speak: deepgram_settings.Speak = deepgram_settings.check_block(
            block, deepgram_settings.Speak
        )
    except msgspec.ValidationError as exc:
        raise Untranslatable(f"not a speak block: {exc}") from exc
    return speak


def _untranslatable(message: msgspec.Struct) -> Untranslatable:
    return Untranslatable(f"the legacy dialect has no {message.__struct_config__.tag}")


def _first(blocks: Any) -> Any:
    """The preferred of a list of fallbacks; a block that is no list is its own."""
    if isinstance(blocks, list):
        return blocks[0] if blocks else None
    return blocks


def _configuration(settings: deepgram_settings.Settings) -> SettingsConfiguration:
    if isinstance(settings.agent, str):
        raise Untranslatable("the legacy dialect has no stored agents: write the agent out")
    if settings.mip_opt_out:
        # Not a comfort: silence here would give away what the operator keeps to himself.
        raise Untranslatable("the legacy dialect cannot opt out of model improvement")
    try:
        agent, _ = deepgram_settings.read_agent(settings.agent)
    except msgspec.ValidationError as exc:
        raise Untranslatable(f"not an agent: {exc}") from exc
    listener = agent.listen.provider if agent.listen else None
    return SettingsConfiguration(
        audio=msgspec.convert(settings.audio, AudioSettings, from_attributes=True),
        agent=Agent(
            listen=Listen(listener.model, listener.keyterms) if listener else None,
            think=_think(_first(agent.think)),
            speak=_speak(_first(agent.speak)),
        ),
        context=_context(agent),
    )


def _context(agent: deepgram_settings.Agent) -> Context | None:
    messages = [
        Text(item["role"], item["content"])
        for item in (agent.context.messages if agent.context else [])
        if isinstance(item.get("role"), str) and isinstance(item.get("content"), str)
    ]
    if agent.greeting:
        return Context([*messages, Text("assistant", agent.greeting)], replay=True)
    return Context(messages) if messages else None


def _think(think: deepgram_settings.Think | None) -> Think | None:
    if think is None:
        return None
    kind, model = think.provider.get("type"), think.provider.get("model")
    if not isinstance(kind, str) or not isinstance(model, str | None):
        raise Untranslatable("think.provider: the legacy dialect needs a type and a model")
    provider = Provider(kind)
    if think.endpoint:
        # The server there answers as OpenAI would. Version 1 says `open_ai`, this "custom".
        provider = Provider("custom", think.endpoint.url, headers=_headers(think.endpoint))
    return Think(provider, model, think.prompt, [_function(each) for each in think.functions or []])


def _function(function: deepgram_settings.Function) -> Function:
    translated = Function(function.name, function.description, function.parameters)
    endpoint = function.endpoint
    if endpoint is None:
        return translated
    return msgspec.structs.replace(
        translated, url=endpoint.url, method=endpoint.method, headers=_headers(endpoint)
    )


def _headers(endpoint: deepgram_settings.Endpoint) -> list[Header]:
    return [Header(key, value) for key, value in endpoint.headers.items()]


def _speak(speak: deepgram_settings.Speak | None) -> Speak | None:
    if speak is None:
        return None
    match speak.provider:
        case {"type": "deepgram", "model": str(model)}:
            return Speak(model=model)
        case {"type": str(kind), "voice_id": str(voice)}:
            return Speak(provider=kind, voice_id=voice)
        case {"type": str(kind), "voice": {"id": str(voice)}}:
            return Speak(provider=kind, voice_id=voice)
        case _:
            raise Untranslatable(
                "speak.provider: the legacy dialect needs a type,"
                " and a model (deepgram) or a voice_id (others)"
            )


# --- The other side of the wire -------------------------------------------------------------------


def decode_as_agent(data: str | bytes) -> v1.ToAgent:
    """One frame of ours, read as strictly as the old server read it.

    Raises:
        msgspec.MsgspecError: where it would answer `Error` and close.
    """
    if isinstance(data, bytes):
        return v1.Audio(data)
    message = _agent_decoder.decode(data)
    match message:
        case SettingsConfiguration():
            return _settings(message)
        case UpdateInstructions():
            return v1.UpdatePrompt(message.instructions)
        case UpdateSpeak():
            return v1.UpdateSpeak({"provider": {"type": "deepgram", "model": message.model}})
        case InjectAgentMessage():
            return v1.InjectAgentMessage(message.message)
        case FunctionCallResponse():
            # The name is not on this wire; the id is all that counts.
            return v1.FunctionResult(id=message.function_call_id, name="", content=message.output)
        case _:
            return message


def _settings(configuration: SettingsConfiguration) -> deepgram_settings.Settings:
    legacy = configuration.agent
    context = configuration.context or Context()
    texts, greeting = context.messages, None
    if context.replay and texts and texts[-1].role == "assistant":
        texts, greeting = texts[:-1], texts[-1].content
    items = [msgspec.to_builtins(v1.TextItem(text.role, text.content)) for text in texts]
    agent = deepgram_settings.Agent(
        greeting=greeting,
        context=deepgram_settings.Context(items) if items else None,
        listen=deepgram_settings.Listen(_v1_listener(legacy.listen)) if legacy.listen else None,
        think=_v1_think(legacy.think) if legacy.think else None,
        speak=deepgram_settings.Speak(_v1_speaker(legacy.speak)) if legacy.speak else None,
    )
    return deepgram_settings.Settings(
        audio=msgspec.convert(
            configuration.audio, deepgram_settings.AudioSettings, from_attributes=True
        ),
        agent=msgspec.to_builtins(agent),
    )


def _v1_listener(listen: Listen) -> deepgram_settings.DeepgramListener:
    return deepgram_settings.DeepgramListener("deepgram", listen.model, keyterms=listen.keyterms)


def _v1_speaker(speak: Speak) -> dict[str, Any]:
    if speak.provider is not None:
        return {"type": speak.provider, "voice_id": speak.voice_id}
    model = "aura-asteria-en" if speak.model is None else speak.model
    return {"type": "deepgram", "model": model}


def _v1_think(think: Think) -> deepgram_settings.Think:
    provider = Provider(think.provider) if isinstance(think.provider, str) else think.provider
    named: dict[str, Any] = {"type": provider.type}
    if think.model is not None:
        named["model"] = think.model
    endpoint = None
    if provider.type == "custom" and provider.url is not None:
        named["type"] = "open_ai"
        headers = _by_key(provider.headers)
        if provider.key is not None:
            headers["authorization"] = f"Bearer {provider.key}"
        endpoint = deepgram_settings.Endpoint(provider.url, headers=headers)
    functions = [_v1_function(function) for function in think.functions]
    return deepgram_settings.Think(named, endpoint, think.instructions, functions=functions or None)


def _v1_function(function: Function) -> deepgram_settings.Function:
    endpoint = None
    if function.url is not None:
        endpoint = deepgram_settings.Endpoint(
            function.url, function.method, _by_key(function.headers)
        )
    return deepgram_settings.Function(
        function.name, function.description, function.parameters, endpoint
    )


def _by_key(headers: list[Header]) -> dict[str, str]:
    return {header.key: header.value for header in headers}


def encode_as_agent(message: v1.TextFromAgent | v1.Audio) -> str | bytes:
    """The frame as the old server wrote it.

    Raises:
        Untranslatable: it never sent such a message, or not with this in it.
    """
    if isinstance(message, v1.Audio):
        return message.data
    return _encoder.encode(_from_v1(message)).decode()


def _from_v1(message: v1.TextFromAgent) -> LegacyFromAgent:
    match message:
        case v1.Welcome():
            return Welcome(message.request_id)
        case v1.PromptUpdated():
            return InstructionsUpdated()
        case v1.AgentError():
            return Error(message.description or message.code)
        case v1.ConversationText():
            return v1.ConversationText(message.role, message.content)
        case v1.FunctionCallRequest(functions=(function,)) if function.client_side:
            arguments = function.arguments or "{}"
            try:
                msgspec.json.decode(arguments)
            except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
                raise Untranslatable(f"FunctionCallRequest: arguments are not JSON: {exc}") from exc
            return FunctionCallRequest(function.id, function.name, msgspec.Raw(arguments.encode()))
        case (
            v1.SettingsApplied()
            | v1.UserStartedSpeaking()
            | v1.AgentThinking()
            | v1.AgentStartedSpeaking()
            | v1.AgentAudioDone()
            | v1.SpeakUpdated()
            | v1.InjectionRefused()
        ):
            return message
        case _:
            raise _untranslatable(message)

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_text, damaged, structs

from sts_trio.errors import Leg
from sts_trio.wire import deepgram as v1
from sts_trio.wire import deepgram_settings, legacy
from sts_trio.wire.anomalies import Malformed, Unknown
from sts_trio.wire.dialect import Dialect, language

DATA = Path(__file__).parent.parent / "data" / "deepgram"
TO_AGENT = json.loads((DATA / "legacy-client.json").read_text())
FROM_AGENT = json.loads((DATA / "legacy-server.json").read_text())
V1_TO_AGENT = json.loads((DATA / "v1-client.json").read_text())
V1_FROM_AGENT = json.loads((DATA / "v1-server.json").read_text())

OPEN_AI = {"provider": {"type": "open_ai", "model": "gpt-4o-mini"}}


def kind(message: dict[str, Any]) -> str:
    return str(message["type"])


def written(message: v1.ToAgent) -> Any:
    return json.loads(legacy.encode(message))


def configuration(**agent: Any) -> Any:
    return written(deepgram_settings.phone_settings(agent))


def settings(**agent: Any) -> v1.ToAgent:
    """What the other side makes of a legacy configuration with this `agent`."""
    return legacy.decode_as_agent(
        json.dumps({"type": "SettingsConfiguration", "audio": {}, "agent": agent})
    )


def test_the_dialect_chooses_the_language() -> None:
    text = '{"type":"Welcome","session_id":"s","request_id":"r"}'
    assert language(Dialect.V1).decode(text) == v1.Welcome("r")
    assert language(Dialect.LEGACY).decode(text) == v1.Welcome("s")


# --- From the agent -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"type": "Welcome", "session_id": "s"}, v1.Welcome("s")),
        ({"type": "SettingsApplied"}, v1.SettingsApplied()),
        ({"type": "InstructionsUpdated"}, v1.PromptUpdated()),
        ({"type": "SpeakUpdated"}, v1.SpeakUpdated()),
        ({"type": "UserStartedSpeaking"}, v1.UserStartedSpeaking()),
        (
            {"type": "ConversationText", "role": "user", "content": "Hi"},
            v1.ConversationText("user", "Hi"),
        ),
        (
            {
                "type": "FunctionCallRequest",
                "function_name": "lookup",
                "function_call_id": "abc",
                "input": {"model": "sedan"},
            },
            v1.FunctionCallRequest((v1.FunctionToCall("abc", "lookup", '{"model": "sedan"}'),)),
        ),
        (
            {"type": "FunctionCallRequest", "function_name": "now", "function_call_id": "abc"},
            v1.FunctionCallRequest((v1.FunctionToCall("abc", "now", "{}"),)),
        ),
        (
            {"type": "FunctionCallRequest", "function_name": None, "function_call_id": 7},
            v1.FunctionCallRequest((v1.FunctionToCall("7", "", "{}"),)),
        ),
        (
            {"type": "AgentStartedSpeaking", "total_latency": None, "tts_latency": 0.3},
            v1.AgentStartedSpeaking(total_latency=None, tts_latency=0.3),
        ),
        ({"type": "AgentAudioDone"}, v1.AgentAudioDone()),
        ({"type": "InjectionRefused", "message": "Not now."}, v1.InjectionRefused("Not now.")),
        ({"type": "Error", "message": "Odd."}, v1.AgentError(code="", description="Odd.")),
        # Safe to ignore.
        ({"type": "FunctionCalling"}, Unknown(Leg.AGENT, "FunctionCalling")),
        ({"type": "EndOfThought"}, Unknown(Leg.AGENT, "EndOfThought")),
        ({"type": "CloseConnection"}, Unknown(Leg.AGENT, "CloseConnection")),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_what_the_agent_says_is_read_as_version_1(
    raw: dict[str, Any], expected: v1.FromAgent
) -> None:
    assert legacy.decode(json.dumps(raw)) == expected


@pytest.mark.parametrize("raw", FROM_AGENT, ids=kind)
def test_an_example_of_the_agent_is_read_and_written_back(raw: dict[str, Any]) -> None:
    message = legacy.decode(json.dumps(raw))
    if isinstance(message, Unknown):
        assert raw["type"] == "FunctionCalling"
        return
    assert not isinstance(message, Malformed)
    lost = {"total_latency": None} if raw["type"] == "AgentStartedSpeaking" else {}
    assert lost | json.loads(legacy.encode_as_agent(message)) == raw


def test_a_binary_frame_is_audio() -> None:
    assert legacy.decode(b"\xff") == v1.Audio(b"\xff")
    assert legacy.encode_as_agent(v1.Audio(b"\xff")) == b"\xff"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty message"),
        ("{}", "no type"),
        ("\ud800", "not JSON"),
        ('{"type":"FunctionCallRequest","function_name":"f"}', "FunctionCallRequest: Object miss"),
    ],
)
def test_what_is_no_message_is_malformed_and_says_why(text: str, reason: str) -> None:
    message = legacy.decode(text)
    assert isinstance(message, Malformed)
    assert message.reason.startswith(reason)


@given(any_text | st.binary())
def test_decode_is_total_for_anything(data: str | bytes) -> None:
    assert isinstance(legacy.decode(data), v1.FromAgent)


@given(damaged([*FROM_AGENT, *V1_FROM_AGENT]))
def test_decode_is_total_for_damaged_messages(text: str) -> None:
    assert isinstance(legacy.decode(text), v1.FromAgent)


# --- To the agent -------------------------------------------------------------------------------


def test_settings_become_a_settings_configuration() -> None:
    assert written(v1.decode_as_agent(json.dumps(V1_TO_AGENT[0]))) == {
        "type": "SettingsConfiguration",
        "audio": {
            "input": {"encoding": "mulaw", "sample_rate": 8000},
            "output": {"encoding": "mulaw", "sample_rate": 8000, "container": "none"},
        },
        "agent": {
            "listen": {"model": "flux-general-en", "keyterms": ["Acme"]},
            "think": {
                "provider": {"type": "open_ai"},
                "model": "gpt-4o-mini",
                "instructions": "You are a brief phone assistant.",
                "functions": [
                    {
                        "name": "get_order",
                        "description": "Order status.",
                        "parameters": {
                            "type": "object",
                            "properties": {"id": {"type": "string"}},
                            "required": ["id"],
                        },
                    },
                    {
                        "name": "end_call",
                        "description": "Hang up.",
                        "parameters": {"type": "object", "properties": {}},
                    },
                    {
                        "name": "lookup",
                        "description": "Run by Deepgram.",
                        "parameters": {"type": "object", "properties": {}},
                        "url": "https://example.invalid/lookup",
                        "method": "post",
                        "headers": [{"key": "authorization", "value": "Bearer x"}],
                    },
                ],
            },
            "speak": {"model": "aura-2-thalia-en"},
        },
        # The function calls among the messages have no words here; the greeting comes last.
        "context": {
            "messages": [
                {"role": "user", "content": "Where is my order?"},
                {"role": "assistant", "content": "It has shipped."},
                {"role": "assistant", "content": "Hello, how can I help?"},
            ],
            "replay": True,
        },
    }


def test_an_agent_may_leave_everything_to_deepgram() -> None:
    assert written(
        deepgram_settings.Settings(audio=deepgram_settings.AudioSettings(), agent={})
    ) == {
        "type": "SettingsConfiguration",
        "audio": {},
        "agent": {},
    }


def test_of_several_providers_the_first_is_meant() -> None:
    agent = written(v1.decode_as_agent(json.dumps(V1_TO_AGENT[2])))["agent"]
    assert agent["think"] == {"provider": {"type": "open_ai"}, "model": "gpt-4o-mini"}
    assert agent["speak"] == {"model": "flux-kit-en"}
    assert configuration(think=[], speak=[])["agent"] == {}


def test_earlier_words_are_not_replayed_without_a_greeting() -> None:
    said = {"type": "History", "role": "assistant", "content": "It has shipped."}
    assert configuration(context={"messages": [said]})["context"] == {
        "messages": [{"role": "assistant", "content": "It has shipped."}]
    }


def test_a_model_of_ones_own_is_a_custom_provider() -> None:
    think = OPEN_AI | {"endpoint": {"url": "https://example.invalid", "headers": {"k": "v"}}}
    assert configuration(think=think)["agent"]["think"] == {
        "provider": {
            "type": "custom",
            "url": "https://example.invalid",
            "headers": [{"key": "k", "value": "v"}],
        },
        "model": "gpt-4o-mini",
    }


@pytest.mark.parametrize(
    "provider",
    [
        {"type": "cartesia", "model_id": "sonic-2", "voice": {"mode": "id", "id": "v7"}},
        {"type": "cartesia", "voice_id": "v7"},
    ],
)
def test_a_foreign_voice_goes_by_its_id(provider: dict[str, Any]) -> None:
    assert configuration(speak={"provider": provider})["agent"]["speak"] == {
        "provider": "cartesia",
        "voice_id": "v7",
    }


def test_fields_that_no_schema_knows_are_left_out() -> None:
    assert configuration(mood="good", think=OPEN_AI | {"x": 1})["agent"] == {
        "think": {"provider": {"type": "open_ai"}, "model": "gpt-4o-mini"}
    }


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (v1.UpdatePrompt("Short."), {"type": "UpdateInstructions", "instructions": "Short."}),
        (
            v1.UpdateSpeak([{"provider": {"type": "deepgram", "model": "aura-orion-en"}}]),
            {"type": "UpdateSpeak", "model": "aura-orion-en"},
        ),
        (
            v1.InjectAgentMessage("Hello?", behavior="queue"),
            {"type": "InjectAgentMessage", "message": "Hello?"},
        ),
        (
            v1.FunctionResult("abc", "lookup", "{}"),
            {"type": "FunctionCallResponse", "function_call_id": "abc", "output": "{}"},
        ),
        (v1.KeepAlive(), {"type": "KeepAlive"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_words_is_said(message: v1.ToAgent, expected: dict[str, Any]) -> None:
    assert written(message) == expected


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (v1.InjectUserMessage("Hi"), "the legacy dialect has no InjectUserMessage"),
        (v1.InjectAgentMessage(is_dynamic=True), "the legacy dialect has no InjectAgentMessage"),
        (v1.ForceEndTurn(), "the legacy dialect has no ForceEndTurn"),
        (v1.UpdateThink({"provider": {}}), "the legacy dialect has no UpdateThink"),
        (
            v1.UpdateListen({"provider": {"type": "deepgram"}}),
            "the legacy dialect has no UpdateListen",
        ),
        (
            v1.UpdateSpeak({"provider": {"type": "cartesia", "voice_id": "v7"}}),
            "UpdateSpeak: the legacy dialect changes Deepgram voices only",
        ),
        (v1.UpdateSpeak([]), "UpdateSpeak: the legacy dialect changes Deepgram voices only"),
        (v1.UpdateSpeak({}), "not a speak block: Object missing required field `provider`"),
        (
            deepgram_settings.phone_settings("00000000-0000-4000-8000-000000000000"),
            "the legacy dialect has no stored agents: write the agent out",
        ),
        (
            deepgram_settings.Settings(
                audio=deepgram_settings.AudioSettings(), agent={}, mip_opt_out=True
            ),
            "the legacy dialect cannot opt out of model improvement",
        ),
        (
            deepgram_settings.phone_settings({"greeting": 5}),
            "not an agent: Expected `str | null`, got `int` - at `$.greeting`",
        ),
        (
            deepgram_settings.phone_settings({"think": {"provider": {"model": "gpt-4o-mini"}}}),
            "think.provider: the legacy dialect needs a type and a model",
        ),
        (
            deepgram_settings.phone_settings(
                {"think": {"provider": {"type": "open_ai", "model": 4}}}
            ),
            "think.provider: the legacy dialect needs a type and a model",
        ),
        (
            deepgram_settings.phone_settings(
                {"speak": {"provider": {"type": "eleven_labs", "model_id": "m"}}}
            ),
            "speak.provider: the legacy dialect needs a type,"
            " and a model (deepgram) or a voice_id (others)",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_words_is_untranslatable(message: v1.ToAgent, reason: str) -> None:
    with pytest.raises(legacy.Untranslatable) as caught:
        legacy.encode(message)
    assert str(caught.value) == reason


def test_audio_goes_out_as_it_is() -> None:
    assert legacy.encode(v1.Audio(b"\xff")) == b"\xff"
    assert legacy.decode_as_agent(b"\xff") == v1.Audio(b"\xff")


# --- The other side of the wire -----------------------------------------------------------------


@pytest.mark.parametrize("raw", TO_AGENT, ids=kind)
def test_a_message_to_the_agent_is_read_and_written_back(raw: dict[str, Any]) -> None:
    message = legacy.decode_as_agent(json.dumps(raw))
    raw = json.loads(json.dumps(raw))
    if "audio" in raw:
        del raw["audio"]["output"]["buffer_size"]  # read, never written
    assert written(message) == raw


def test_a_legacy_configuration_is_read_as_settings() -> None:
    message = legacy.decode_as_agent(json.dumps(TO_AGENT[0]))
    assert isinstance(message, deepgram_settings.Settings)
    parameters = {"type": "object", "properties": {}}
    assert message == deepgram_settings.phone_settings(
        {
            "greeting": "Hello, how can I help?",
            "listen": {"provider": {"type": "deepgram", "model": "nova-2"}},
            "think": {
                "provider": {"type": "anthropic", "model": "claude-3-haiku-20240307"},
                "prompt": "You are a helpful car seller.",
                "functions": [
                    {"name": "lookup", "description": "Find a car.", "parameters": parameters},
                    {
                        "name": "book",
                        "description": "Run by Deepgram.",
                        "parameters": parameters,
                        "endpoint": {
                            "url": "https://example.invalid/book",
                            "method": "post",
                            "headers": {"authorization": "Bearer x"},
                        },
                    },
                ],
            },
            "speak": {"provider": {"type": "deepgram", "model": "aura-asteria-en"}},
        }
    )
    assert isinstance(message.agent, dict)
    deepgram_settings.check_agent(message.agent)


def test_only_a_last_word_of_the_assistant_is_a_greeting() -> None:
    texts = [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Hello"}]
    for messages, replay, greeting in (
        (texts, True, None),
        (texts[:1], False, None),
        (texts[:1], True, "Hi"),
        ([], True, None),
    ):
        message = legacy.decode_as_agent(
            json.dumps(
                {
                    "type": "SettingsConfiguration",
                    "audio": {},
                    "agent": {},
                    "context": {"messages": messages, "replay": replay},
                }
            )
        )
        assert isinstance(message, deepgram_settings.Settings)
        assert isinstance(message.agent, dict)
        assert message.agent.get("greeting") == greeting
        items = message.agent.get("context", {"messages": []})["messages"]
        assert len(items) == len(messages) - (greeting is not None)
        assert all(item["type"] == "History" for item in items)


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ({}, {}),
        ({"think": {"provider": "open_ai"}}, {"think": {"provider": {"type": "open_ai"}}}),
        (
            {"think": {"provider": {"type": "custom", "url": "u", "key": "k"}, "model": "m"}},
            {
                "think": {
                    "provider": {"type": "open_ai", "model": "m"},
                    "endpoint": {"url": "u", "headers": {"authorization": "Bearer k"}},
                }
            },
        ),
        (
            {"think": {"provider": {"type": "custom", "url": "u"}}},
            {"think": {"provider": {"type": "open_ai"}, "endpoint": {"url": "u"}}},
        ),
        (
            {"think": {"provider": {"type": "custom"}}},
            {"think": {"provider": {"type": "custom"}}},
        ),
        (
            {"speak": {"provider": "cartesia", "voice_id": "v7"}},
            {"speak": {"provider": {"type": "cartesia", "voice_id": "v7"}}},
        ),
        (
            {"speak": {}},
            {"speak": {"provider": {"type": "deepgram", "model": "aura-asteria-en"}}},
        ),
    ],
    ids=json.dumps,
)
def test_old_ways_to_write_an_agent_are_read(
    agent: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert settings(**agent) == deepgram_settings.Settings(
        audio=deepgram_settings.AudioSettings(), agent=expected
    )


@pytest.mark.parametrize(
    "raw",
    [
        {"type": "Settings", "audio": {}, "agent": {}},
        {"type": "InjectAgentMessage", "message": "Hi", "behavior": "queue"},
        {"type": "SettingsConfiguration", "audio": {}, "agent": {"greeting": "Hi"}},
        {"type": "KeepAlive", "x": 1},
    ],
    ids=kind,
)
def test_what_matches_no_expected_format_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        legacy.decode_as_agent(json.dumps(raw))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (v1.Welcome("s"), {"type": "Welcome", "session_id": "s"}),
        (v1.PromptUpdated(), {"type": "InstructionsUpdated"}),
        (v1.AgentError("C", "Words."), {"type": "Error", "message": "Words."}),
        (v1.AgentError("C"), {"type": "Error", "message": "C"}),
        (
            v1.ConversationText("user", "Hola", "filler", ["es"], ["es"]),
            {"type": "ConversationText", "role": "user", "content": "Hola"},
        ),
        (
            v1.FunctionCallRequest((v1.FunctionToCall("abc", "now"),)),
            {
                "type": "FunctionCallRequest",
                "function_name": "now",
                "function_call_id": "abc",
                "input": {},
            },
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_agent_of_ours_writes_the_old_shapes(
    message: v1.TextFromAgent, expected: dict[str, Any]
) -> None:
    assert json.loads(legacy.encode_as_agent(message)) == expected


@pytest.mark.parametrize(
    "message",
    [
        v1.AgentWarning("SLOW_THINK_REQUEST"),
        v1.LatencyReport(),
        v1.History("user", "Hi"),
        v1.ThinkUpdated(),
        v1.FunctionCallRequest(()),
        v1.FunctionCallRequest((v1.FunctionToCall("1", "f"), v1.FunctionToCall("2", "g"))),
        v1.FunctionCallRequest((v1.FunctionToCall("1", "f", client_side=False),)),
        v1.FunctionCallRequest((v1.FunctionToCall("1", "f", "{not JSON"),)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_the_old_server_never_sent_is_untranslatable(message: v1.TextFromAgent) -> None:
    with pytest.raises(legacy.Untranslatable, match=r"^the legacy dialect|^FunctionCallRequest"):
        legacy.encode_as_agent(message)


# --- Both ways ----------------------------------------------------------------------------------


@given(structs(v1.TextFromAgent))
def test_whatever_an_agent_can_say_is_heard(message: v1.TextFromAgent) -> None:
    try:
        frame = legacy.encode_as_agent(message)
    except legacy.Untranslatable:
        return
    heard = legacy.decode(frame)
    assert type(heard) is type(message)
    # What was lost on the way is lost for good: saying it again changes nothing.
    assert isinstance(heard, v1.TextFromAgent)
    assert legacy.encode_as_agent(heard) == frame


providers = st.builds(
    lambda kind, model, voice: {"type": kind, "model": model, "voice_id": voice},
    st.sampled_from(["deepgram", "open_ai", "cartesia"]),
    st.text(max_size=9),
    st.text(max_size=9),
)
agents = st.builds(
    deepgram_settings.Agent,
    greeting=st.none() | st.text(max_size=9),
    context=st.none() | structs(deepgram_settings.Context),
    listen=st.none() | structs(deepgram_settings.Listen),
    think=st.none()
    | st.builds(
        deepgram_settings.Think, providers, structs(deepgram_settings.Endpoint) | st.none()
    ),
    speak=st.none() | st.builds(deepgram_settings.Speak, providers),
)
to_agent = st.one_of(
    st.builds(
        deepgram_settings.Settings,
        structs(deepgram_settings.AudioSettings),
        agents.map(msgspec.to_builtins),
    ),
    *(structs(each) for each in v1.TextToAgent.__args__ if each is not deepgram_settings.Settings),
)


@given(to_agent)
def test_whatever_we_can_say_is_understood(message: v1.TextToAgent) -> None:
    try:
        frame = legacy.encode(message)
    except legacy.Untranslatable:
        return
    understood = legacy.decode_as_agent(frame)
    assert type(understood) is type(message)
    assert legacy.encode(understood) == frame
    if isinstance(understood, deepgram_settings.Settings) and isinstance(understood.agent, dict):
        deepgram_settings.check_agent(understood.agent)

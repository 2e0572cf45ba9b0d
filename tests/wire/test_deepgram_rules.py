"""What Deepgram refuses though its schema allows it is told with what is right."""

from typing import Any

import pytest

from sts_trio.wire.deepgram_rules import LONGEST_PROMPT, oddities

GPT = {"type": "open_ai", "model": "gpt-4o-mini"}
AURA = {"type": "deepgram", "model": "aura-2-thalia-en"}
FLUX = {"type": "deepgram", "model": "flux-general-en", "version": "v2"}
NOVA = {"type": "deepgram", "model": "nova-3"}
SAID = {"type": "History", "role": "user", "content": "Hi."}
CALLED = {"type": "History", "function_calls": [{"id": "1"}]}


def odd(agent: dict[str, Any], **session: Any) -> list[str]:
    return [f"{path}: {reason}" for path, reason in oddities(agent, session)]


@pytest.mark.parametrize(
    "agent",
    [
        {},
        {"greeting": "Hi.", "language": "de", "listen": None, "think": None, "speak": None},
        {"listen": {"provider": NOVA | {"language": "de", "smart_format": True}}},
        {"listen": {"provider": {"type": "deepgram"}}},
        {"listen": {"provider": FLUX | {"eot_threshold": 0.5, "eager_eot_threshold": 0.5}}},
        {"listen": {"provider": FLUX | {"eot_threshold": 1, "eot_timeout_ms": 60_000}}},
        {"listen": {"provider": FLUX | {"model": "flux-general-multi", "language_hints": ["de"]}}},
        {"think": {"provider": GPT | {"temperature": 2}, "prompt": "x" * LONGEST_PROMPT}},
        {"think": {"provider": GPT, "endpoint": {"url": "u"}, "context_length": "max"}},
        {
            "think": {"provider": GPT, "functions": [{"name": "f", "initial_agent_filler": True}]},
            "think_live": {"provider": {}},
        },
        {"think": {"provider": GPT, "functions": [{"name": "f", "agent_filler_max_count": None}]}},
        {"think": [{"provider": GPT}, {"provider": {"type": "nvidia", "model": "nemotron"}}]},
        {"speak": {"provider": AURA | {"speed": 0.7}}},
        {"speak": {"provider": {"type": "deepgram", "model": "flux-kit-en", "version": "v2"}}},
        {"speak": {"provider": {"type": "cartesia", "model_id": "sonic-2", "voice": {"id": "v"}}}},
        {"speak": {"provider": {"type": "of-tomorrow"}}},
        {"context": {"messages": [SAID, CALLED]}},
        {"context": {}},
    ],
)
def test_what_works_is_not_odd(agent: dict[str, Any]) -> None:
    assert odd(agent, tags=["phone"]) == []


@pytest.mark.parametrize(
    ("provider", "told"),
    [
        (
            {"type": "deepgram", "model": "flux-general-en"},
            'listen.provider.version: expected "v2", without which flux-general-en is taken for'
            " no model",
        ),
        (
            {"type": "deepgram", "model": "flux-general-en", "version": "v1"},
            'listen.provider.version: expected "v2", without which flux-general-en is taken for'
            " no model",
        ),
        (
            NOVA | {"version": "v2"},
            "listen.provider.model: expected a flux model, like flux-general-en, for"
            ' version = "v2"',
        ),
        (NOVA | {"eot_threshold": 0.7}, "listen.provider.eot_threshold: only flux models have it"),
        (
            NOVA | {"language_hints": ["de"]},
            "listen.provider.language_hints: only flux models have it",
        ),
        (FLUX | {"language": "en"}, "listen.provider.language: flux models do not have it"),
        (FLUX | {"smart_format": True}, "listen.provider.smart_format: flux models do not have it"),
        (
            FLUX | {"language_hints": ["de"]},
            "listen.provider.language_hints: only flux-general-multi has it",
        ),
        (
            FLUX | {"eot_threshold": 0.4},
            "listen.provider.eot_threshold: expected a number from 0.5 to 1, got 0.4",
        ),
        (
            FLUX | {"eot_timeout_ms": 499},
            "listen.provider.eot_timeout_ms: expected a number from 500 to 60000, got 499",
        ),
        (
            FLUX | {"eager_eot_threshold": 0.8},
            "listen.provider.eager_eot_threshold: expected no more than eot_threshold (0.7),"
            " got 0.8",
        ),
        (
            FLUX | {"eot_threshold": 0.5, "eager_eot_threshold": 0.6},
            "listen.provider.eager_eot_threshold: expected no more than eot_threshold (0.5),"
            " got 0.6",
        ),
    ],
)
def test_how_a_listener_cannot_listen(provider: dict[str, Any], told: str) -> None:
    assert odd({"listen": {"provider": provider}}) == [told]


def test_a_language_beside_a_flux_model_ends_the_session() -> None:
    [told] = odd({"language": "en", "listen": {"provider": FLUX}})
    assert told.startswith("language: a flux model takes none")


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ({"provider": {"type": "open_ai"}}, "think.provider.model: missing"),
        ({"provider": {"model": "gpt-4o"}}, "think.provider.type: missing"),
        (
            {"provider": {"type": "anthropic", "model": "m", "temperature": 1.5}},
            "think.provider.temperature: expected a number from 0 to 1, got 1.5",
        ),
        (
            {"provider": GPT | {"temperature": "hot"}},
            "think.provider.temperature: expected a number from 0 to 2, got 'hot'",
        ),
        (
            {"provider": {"type": "groq", "model": "m"}},
            "think.endpoint: missing: groq has no model that Deepgram manages",
        ),
        (
            {"provider": GPT, "prompt": "x" * 25_001},
            "think.prompt: expected at most 25000 letters, got 25001",
        ),
        (
            {"provider": GPT, "context_length": 5000},
            "think.context_length: only with an endpoint of your own",
        ),
        (
            {"provider": GPT, "functions": [{"name": "f", "agent_filler_interval_ms": 1000}]},
            "think.functions[0].agent_filler_interval_ms: only with think_live",
        ),
    ],
)
def test_how_a_model_cannot_think(block: dict[str, Any], told: str) -> None:
    assert odd({"think": block}) == [told]
    assert odd({"think": [{"provider": GPT}, block]}) == [told.replace("think", "think[1]", 1)]


def test_a_kind_that_is_no_text_is_missing() -> None:
    assert odd({"speak": {"provider": {"type": ["deepgram"]}}}) == ["speak.provider.type: missing"]


def test_a_model_that_learns_from_calls_cannot_be_had_without() -> None:
    agent = {"think": {"provider": {"type": "deepgram", "model": "think-fast"}}}
    assert odd(agent, mip_opt_out=True) == [
        "think.provider.model: think-fast cannot be had together with mip_opt_out"
    ]
    assert odd(agent, mip_opt_out=False) == []


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ({"provider": {"type": "deepgram"}}, "speak.provider.model: missing"),
        (
            {"provider": {"type": "deepgram", "model": "flux-kit-en"}},
            'speak.provider.version: expected "v2" for a flux voice',
        ),
        (
            {"provider": AURA | {"version": "v2"}},
            'speak.provider.model: expected a flux voice, like flux-kit-en, for version = "v2"',
        ),
        (
            {"provider": AURA | {"speed": 0.6}},
            "speak.provider.speed: expected a number from 0.7 to 1.5, got 0.6",
        ),
        (
            {"provider": AURA | {"language": "en"}},
            "speak.provider.language: the model's name says it: leave it out",
        ),
        (
            {"provider": AURA | {"expressivity": 1}},
            "speak.provider.expressivity: only flux voices have it",
        ),
        (
            {"provider": FLUX | {"model": "flux-kit-en", "expressivity": 3}},
            "speak.provider.expressivity: expected a number from -2 to 2, got 3",
        ),
        (
            {"provider": {"type": "eleven_labs", "model_id": "m"}},
            "speak.endpoint: missing: eleven_labs is reached by an endpoint of your own",
        ),
        (
            {"provider": {"type": "cartesia", "model_id": "m"}},
            "speak.provider.voice: missing",
        ),
    ],
)
def test_how_a_voice_cannot_speak(block: dict[str, Any], told: str) -> None:
    assert odd({"speak": block}) == [told]


@pytest.mark.parametrize(
    "item",
    [
        {"role": "user", "content": "Hi."},
        SAID | {"content": " "},
        SAID | {"role": None},
        SAID | {"content": ["Hi."]},
        {"type": "History", "function_calls": []},
    ],
)
def test_a_past_that_no_model_takes_is_told(item: dict[str, Any]) -> None:
    [told] = odd({"context": {"messages": [SAID, item]}})
    assert told.startswith('context.messages[1]: expected type = "History"')

"""What is chosen for a call beside the agent's name, and the `Settings` that come of it."""

import json
from typing import Any

import pytest

from sts_trio.agents.choice import MAX_VALUE, AgentChoice, ConfiguredAgents
from sts_trio.wire.deepgram_settings import plain
from sts_trio.wire.dialect import Dialect

UUID = "0b3a5a52-1111-4111-8111-000000000000"
AGENTS: dict[str, Any] = {
    "default": {
        "greeting": "Hello {caller_name}!",
        "think": {
            "provider": {"type": "open_ai", "model": "gpt-4o-mini"},
            "prompt": "You talk with {caller_name}, who owes {amount}.",
            "functions": [{"name": "ping"}],
        },
        "speak": {"provider": {"type": "deepgram", "model": "aura-2-thalia-en"}},
    },
    "sales": {
        "think": [{"provider": {"type": "x"}, "prompt": "{caller_name}"}, {"provider": {}}],
    },
    "stored": UUID,
}
VARIABLES = {
    "default": {"caller_name": "there", "amount": "0"},
    "sales": {"caller_name": "a caller"},
    "stored": {},
}


def configured(dialect: Dialect = Dialect.V1) -> ConfiguredAgents:
    return ConfiguredAgents(AGENTS, {name: {"tags": [name]} for name in AGENTS}, VARIABLES, dialect)


def agent_of(name: str, choice: AgentChoice, **options: Any) -> Any:
    return configured().settings(name, choice, **options).agent


def test_what_is_not_known_has_its_default() -> None:
    before = json.dumps(AGENTS)
    agent = agent_of("default", AgentChoice())
    assert agent["greeting"] == "Hello there!"
    assert agent["think"]["prompt"] == "You talk with there, who owes 0."
    assert plain(configured().settings("default", AgentChoice()))["tags"] == ["default"]
    assert json.dumps(AGENTS) == before


def test_the_agent_knows_who_calls() -> None:
    choice, reasons = configured().fitted(
        "default", AgentChoice(variables={"caller_name": "Ann", "amount": 7.5})
    )
    assert reasons == []
    assert agent_of("default", choice)["greeting"] == "Hello Ann!"
    assert agent_of("default", choice)["think"]["prompt"] == "You talk with Ann, who owes 7.5."


def test_a_value_that_was_not_found_has_its_default() -> None:
    choice, reasons = configured().fitted("default", AgentChoice(variables={"caller_name": None}))
    assert reasons == []
    assert agent_of("default", choice)["greeting"] == "Hello there!"


def test_a_greeting_of_its_own_is_no_template() -> None:
    choice, _ = configured().fitted(
        "default", AgentChoice(variables={"caller_name": "Ann"}, greeting="Hi {caller_name}!")
    )
    assert agent_of("default", choice)["greeting"] == "Hi {caller_name}!"
    assert "greeting" not in agent_of("default", choice, greets=False, history=[{"role": "user"}])


def test_settings_go_over_the_agents_own_table_by_table() -> None:
    changes = {"language": "de", "think": {"prompt": "{x}"}, "speak": {"provider": {"model": "m"}}}
    choice, reasons = configured().fitted("default", AgentChoice(settings=changes))
    assert reasons == []
    agent = agent_of("default", choice)
    assert agent == {
        "language": "de",
        "greeting": "Hello there!",
        "think": {**AGENTS["default"]["think"], "prompt": "{x}"},
        "speak": {"provider": {"type": "deepgram", "model": "m"}},
    }


def test_settings_go_into_each_fallback_and_lists_are_replaced() -> None:
    choice, _ = configured().fitted("sales", AgentChoice(settings={"think": {"prompt": "p"}}))
    prompts = [block["prompt"] for block in agent_of("sales", choice)["think"]]
    assert prompts == ["p", "p"]
    block = {"provider": {"type": "y"}}
    choice, _ = configured().fitted("sales", AgentChoice(settings={"think": [block]}))
    assert agent_of("sales", choice)["think"] == [block]


def test_another_agent_that_goes_on_knows_the_variables_alone() -> None:
    choice, _ = configured().fitted(
        "default",
        AgentChoice(variables={"caller_name": "Ann"}, greeting="Hi!", settings={"language": "de"}),
    )
    assert agent_of("sales", choice) == {
        "think": [{"provider": {"type": "x"}, "prompt": "Ann"}, {"provider": {}}]
    }
    assert agent_of("stored", choice) == UUID


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        (AgentChoice(variables={"name": "Ann"}), "{name} is no variable of any agent"),
        (
            AgentChoice(variables={"caller_name": "x" * (MAX_VALUE + 1)}),
            f"{{caller_name}}: expected {MAX_VALUE} letters at most",
        ),
        (
            AgentChoice(settings={"think": {"prompt": 5}}),
            "ValidationError: Expected `str | null`, got `int` - at `$.think.prompt`",
        ),
        (AgentChoice(settings={"new": object()}), "TypeError: "),
        (AgentChoice(greeting="\ud800"), "UnicodeEncodeError: "),
    ],
)
def test_what_is_of_no_use_is_left_out_and_told(choice: AgentChoice, reason: str) -> None:
    fitted, [told] = configured().fitted("default", choice)
    assert told.startswith(reason)
    assert fitted == AgentChoice("default")


def test_of_what_is_half_of_use_the_half_is_used() -> None:
    choice = AgentChoice(variables={"caller_name": "A\ud800", "x": 1}, settings={"think": 5})
    fitted, reasons = configured().fitted("default", choice)
    assert fitted == AgentChoice("default", variables={"caller_name": "A?"})
    assert len(reasons) == 2


def test_a_stored_agent_is_used_as_it_is_stored() -> None:
    fitted, [reason] = configured().fitted("stored", AgentChoice(greeting="Hi!"))
    assert (fitted, reason[:14]) == (AgentChoice("stored"), "a stored agent")


def test_what_the_old_dialect_has_no_words_for_is_left_out() -> None:
    agents = ConfiguredAgents(
        {"default": {**AGENTS["default"], "listen": {"provider": {"type": "deepgram"}}}},
        {"default": {}},
        {"default": VARIABLES["default"]},
        Dialect.LEGACY,
    )
    fitted, reasons = agents.fitted("default", AgentChoice(greeting="Hi!"))
    assert (fitted.greeting, reasons) == ("Hi!", [])
    voice = {"speak": {"provider": {"type": "open_ai", "model": ["m"]}}}
    fitted, [reason] = agents.fitted("default", AgentChoice(settings=voice))
    assert (fitted, reason[:15]) == (AgentChoice("default"), "Untranslatable:")

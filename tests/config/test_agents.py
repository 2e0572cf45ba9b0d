from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import json_values

from sts_trio.config import Config, load
from sts_trio.config.agents import read_agents
from sts_trio.config.raw import RawConfig
from sts_trio.errors import ConfigError
from sts_trio.wire import deepgram, deepgram_settings, legacy
from sts_trio.wire.dialect import Dialect, language

UUID = "00000000-0000-4000-8000-000000000000"
FILE = "sts-trio.toml"


def configured(directory: Path, text: str, **environ: str) -> Config:
    (directory / FILE).write_text(text)
    return load({"STS_AGENT": "offline", **environ}, directory)


def config_error(directory: Path, text: str, **environ: str) -> str:
    """The complaint about a file, less the file's own name."""
    with pytest.raises(ConfigError) as caught:
        configured(directory, text, **environ)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(f"{directory / FILE}: ")
    return message.removeprefix(f"{directory / FILE}: ")


def test_with_no_agent_configured_a_car_seller_answers(tmp_path: Path) -> None:
    config = configured(tmp_path, "")
    assert config.agents == {
        "default": {
            "greeting": "Hello! How can I help you today?",
            "listen": {"provider": {"type": "deepgram", "model": "nova-3"}},
            "think": {
                "provider": {"type": "open_ai", "model": "gpt-4o-mini"},
                "prompt": "You are a helpful car seller.",
            },
            "speak": {"provider": {"type": "deepgram", "model": "aura-2-thalia-en"}},
        }
    }
    agent = config.agents["default"]
    assert isinstance(agent, dict)
    deepgram_settings.check_agent(agent)
    for speak in (deepgram.encode, legacy.encode):
        assert "car seller" in str(speak(deepgram_settings.phone_settings(agent)))


def test_an_agent_is_passed_through_as_it_was_written(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        f"""
        [agents]
        stored = "{UUID}"
        [agents.default]
        greeting = "Hello!"
        [[agents.default.think]]
        prompt = "Be brief."
        provider = {{ type = "open_ai", model = "gpt-4o-mini", temperature = 0.7 }}
        """,
    )
    assert config.agents == {
        "stored": UUID,
        "default": {
            "greeting": "Hello!",
            "think": [
                {
                    "prompt": "Be brief.",
                    "provider": {"type": "open_ai", "model": "gpt-4o-mini", "temperature": 0.7},
                }
            ],
        },
    }
    assert config.warnings == ()


def test_what_no_schema_knows_is_kept_and_mentioned(tmp_path: Path) -> None:
    text = """
        [agents.default]
        mood = "good"
        [agents.default.listen.provider]
        type = "deepgram"
        "odd\\nname" = 1
        """
    config = configured(tmp_path, text)
    assert config.agents["default"] == {
        "mood": "good",
        "listen": {"provider": {"type": "deepgram", "odd\nname": 1}},
    }
    where = f"{tmp_path / FILE}: agents.default"
    assert config.warnings == (
        f"{where}.mood: not in Deepgram's published schema; sent all the same",
        rf"{where}.listen.provider.odd\nname: not in Deepgram's published schema;"
        " sent all the same",
    )
    old = configured(tmp_path, text, STS_DIALECT="legacy")
    assert [warning.rpartition("; ")[2] for warning in old.warnings] == ["left out", "left out"]


def test_what_stands_beside_an_agent_is_for_all_or_for_one(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        """
        [settings]
        mip_opt_out = true
        tags = ["phone"]
        region = "eu"
        [agents.default]
        greeting = "Hello!"
        [agents.sales]
        settings = { tags = ["sales"], flags = { history = false, colour = "red" } }
        [agents.stored]
        settings = {}
        """,
    )
    assert config.agents == {"default": {"greeting": "Hello!"}, "sales": {}, "stored": {}}
    for_all = {"mip_opt_out": True, "tags": ["phone"], "region": "eu"}
    assert config.sessions == {
        "default": for_all,
        "sales": for_all | {"tags": ["sales"], "flags": {"history": False, "colour": "red"}},
        "stored": for_all,
    }
    published = "not in Deepgram's published schema; sent all the same"
    assert config.warnings == (
        f"{tmp_path / FILE}: settings.region: {published}",
        f"{tmp_path / FILE}: agents.sales.settings.flags.colour: {published}",
    )


def test_without_agents_what_stands_beside_them_is_for_the_one_there_is(tmp_path: Path) -> None:
    config = configured(tmp_path, "[settings]\nmip_opt_out = true")
    assert config.sessions == {"default": {"mip_opt_out": True}}
    assert configured(tmp_path, "").sessions == {"default": {}}


def test_variables_have_defaults_that_agents_are_not_told_of(tmp_path: Path) -> None:
    text = """
        [agents.default]
        greeting = "Hello {caller_name}! {{caller_name}}"
        variables = { caller_name = "there", amount = 0, unused = 1.5 }
        think.provider = { type = "open_ai", model = "gpt-4o-mini" }
        think.prompt = 'They owe {amount}. Answer as {"a": 1}.'
        """
    config = configured(tmp_path, text)
    assert config.variables == {"default": {"caller_name": "there", "amount": "0", "unused": "1.5"}}
    assert "variables" not in config.agents["default"]
    assert config.warnings == ()
    assert configured(tmp_path, "").variables == {"default": {}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[agents.default]\ngreeting = 'Hi {name}!'",
            "agents.default.greeting: {name} is no variable: give it a default in"
            " agents.default.variables, or write {{name}} for a name in braces",
        ),
        (
            "[agents.default]\n[[agents.a.think]]\nprompt = 'x'\nprovider = {}\n"
            "[[agents.a.think]]\nprompt = '{x}{y}'\nprovider = {}\n[agents.a.variables]\nx = 1",
            "agents.a.think[1].prompt: {y} is no variable: give it a default in"
            " agents.a.variables, or write {{y}} for a name in braces",
        ),
        (
            "[agents.default.variables]\na-b = 'x'",
            "agents.default.variables: expected names of letters, digits and _, got 'a-b'",
        ),
        (
            "[agents.default.variables]\na = true",
            "agents.default.variables.a: expected text or a number, got True",
        ),
        ("[agents.default]\nvariables = 5", "agents.default.variables: expected a table, got 5"),
    ],
)
def test_a_mistake_in_variables_is_found_at_the_start(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert config_error(tmp_path, text) == expected


BESIDE = "stands beside Deepgram's agent, not in it: write it below"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[agents.default]\nmip_opt_out = true",
            f"agents.default.mip_opt_out: {BESIDE} [agents.default.settings], or for all agents"
            " below [settings]",
        ),
        (
            "[agents.default]\n[agents.sales.flags]\nhistory = true",
            f"agents.sales.flags: {BESIDE} [agents.sales.settings], or for all agents below"
            " [settings]",
        ),
        (
            "tags = ['phone']",
            "tags: write it below [settings], for all agents, or for one below"
            " [agents.NAME.settings]",
        ),
        (
            "[agents.default.agent]\ngreeting = 'Hi.'",
            "agents.default.agent: write what is in it straight below [agents.default]",
        ),
        (
            "[agents.default.audio]",
            "agents.default.audio: a phone's is µ-law at 8 kHz; leave it out",
        ),
        (
            "[settings.agent]",
            "settings.agent: it is written by this server; an agent goes below [agents.NAME]",
        ),
        ("[settings]\ntags = 'phone'", "settings.tags: expected `array`, got `str`"),
        (
            "[agents.default.settings.flags]\nhistory = 1",
            "agents.default.settings.flags.history: expected `bool`, got `int`",
        ),
        (
            "[agents.default]\nsettings = 5",
            "agents.default.settings: expected a table, got 5",
        ),
        ("[settings]\nnew = nan", "settings.new: expected a number that JSON can write"),
        ("[settings]\nmax_calls = 5", "settings.max_calls: write max_calls above the first"),
    ],
)
def test_what_stands_in_the_wrong_place_is_told_where_it_goes(
    text: str, expected: str, tmp_path: Path
) -> None:
    assert config_error(tmp_path, text).startswith(expected)


def test_the_old_dialect_cannot_opt_out(tmp_path: Path) -> None:
    text = "[settings]\nmip_opt_out = true\n[agents.default]"
    assert config_error(tmp_path, text, STS_DIALECT="legacy") == (
        "agents.default: the legacy dialect cannot opt out of model improvement"
    )


def test_what_cannot_work_is_told_at_start_up_with_what_is_right(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        """
        [agents.default.listen.provider]
        type = "deepgram"
        model = "flux-general-en"
        eot_threshold = 2
        language_hint = ["de"]
        """,
    )
    where = f"{tmp_path / FILE}: agents.default.listen.provider"
    assert config.warnings == (
        f"{where}.language_hint: not in Deepgram's published schema; sent all the same;"
        " did you mean language_hints?",
        f'{where}.version: expected "v2", without which flux-general-en is taken for no model',
        f"{where}.eot_threshold: expected a number from 0.5 to 1, got 2",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[agents.default.think]\nprompt = 5\nprovider = {}",
            "agents.default.think.prompt: expected `str | null`, got `int`",
        ),
        (
            "[[agents.x.think]]\nprovider = {}\nfunctions = [{ name = 'f', endpoint = 'u' }]",
            "agents.x.think[0].functions[0].endpoint: expected `object | null`, got `str`",
        ),
        (
            "[agents.default.think]\nprompt = 'No provider.'",
            "agents.default.think: object missing required field `provider`",
        ),
        (
            "[agents.default]\nthink = 'hard'",
            "agents.default.think: expected `object | array | null`, got `str`",
        ),
        (
            "[agents.default.speak]\nprovider = { speed = [1.0, nan] }",
            "agents.default.speak.provider.speed[1]:"
            " expected a number that JSON can write, not nan or inf",
        ),
        (
            "[agents]\ndefault = 'me'",
            "agents.default: expected a table, or the UUID of a stored agent, got 'me'",
        ),
        (
            f"[agents]\ndefault = ['{UUID}']",
            "agents.default: expected a table, or the UUID of a stored agent, got a list",
        ),
        (
            "[agents.default]\ngreeting = 'Hello.'\nfunctions = ['mine.py:book']",
            "agents.default.functions: an agent's own go into think.functions;"
            " yours, which this server is to run, above the first [table]",
        ),
        (
            "[agents.sales]\n[agents.support]",
            "agents: expected one named default, for calls"
            " to numbers that [numbers] does not know, got 'sales', 'support'",
        ),
    ],
)
def test_a_mistaken_agent_is_named_with_the_field(text: str, expected: str, tmp_path: Path) -> None:
    assert config_error(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"[agents]\ndefault = '{UUID}'",
            "agents.default: the legacy dialect has no stored agents: write the agent out",
        ),
        (
            "[agents.default.speak]\nprovider = { type = 'eleven_labs', model_id = 'm' }",
            "agents.default: speak.provider: the legacy dialect needs a type,"
            " and a model (deepgram) or a voice_id (others)",
        ),
    ],
)
def test_an_agent_that_the_dialect_cannot_say_is_found_at_once(
    text: str, expected: str, tmp_path: Path
) -> None:
    assert config_error(tmp_path, text, STS_DIALECT="legacy") == expected
    configured(tmp_path, text)


def test_a_number_may_have_an_agent(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        """
        [agents.default]
        [agents.sales]
        [numbers]
        "+17343718307" = "sales"
        """,
    )
    assert config.numbers == {"+17343718307": "sales"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "'+17343718307' = 'sales'",
            "numbers.\"+17343718307\": expected the name of an agent (default), got 'sales'",
        ),
        (
            "'+17343718307' = 5",
            'numbers."+17343718307": expected the name of an agent (default), got 5',
        ),
        (
            "'734 371 8307' = 'default'",
            'numbers."734 371 8307": expected a number like "+15005550006"',
        ),
        (
            "'+17343718307' = 'default'\n'whatsapp:+17343718307' = 'default'",
            'numbers."whatsapp:+17343718307": +17343718307 is there already, written in another',
        ),
        ("'client:' = 'default'", 'numbers."client:": expected a number like "+15005550006", or'),
        ("'+0123' = 'default'", 'numbers."+0123": expected a number like "+15005550006"'),
        ("'+\u0661\u0662' = 'default'", 'numbers."+\u0661\u0662": expected a number like'),
    ],
)
def test_a_mistaken_number_is_named(text: str, expected: str, tmp_path: Path) -> None:
    assert config_error(tmp_path, f"[numbers]\n{text}").startswith(expected)


agents = st.dictionaries(
    st.sampled_from(["default", "sales", "a\nb"]),
    st.dictionaries(
        st.sampled_from(["greeting", "context", "listen", "think", "speak", "mood"]),
        json_values | st.dictionaries(st.sampled_from(["provider", "prompt"]), json_values),
    )
    | json_values,
)


def outcome(section: dict[str, Any], dialect: Dialect) -> dict[str, Any] | ConfigError:
    try:
        return read_agents(RawConfig({}, Path(FILE), {"agents": section}), dialect, []).settings
    except ConfigError as exc:
        return exc


@given(agents, st.sampled_from(Dialect))
def test_any_agents_are_ready_to_be_sent_or_a_mistake_of_one_line(
    section: dict[str, Any], dialect: Dialect
) -> None:
    found = outcome(section, dialect)
    if isinstance(found, ConfigError):
        assert str(found).isprintable()
        return
    assert "default" in found
    for agent in found.values():
        assert language(dialect).encode(deepgram_settings.phone_settings(agent))

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import any_text

from sts_trio.audio.clips import clip
from sts_trio.config import AgentKind, Config, LogFormat, LogLevel, from_environment, load
from sts_trio.config.records import KeptFlights, Prices, Records, Webhook
from sts_trio.config.setting import TracesOf
from sts_trio.config.variables import SETTINGS
from sts_trio.errors import ConfigError
from sts_trio.logic.policy import CallPolicy
from sts_trio.offline.mode import Mode
from sts_trio.wire.dialect import Dialect

SID = "AC00000000000000000000000000000001"
NOWHERE = Path("/nonexistent")  # a directory without a file
TOKEN = "0123456789abcdef0123456789abcdef"
SIGNED = {"TWILIO_AUTH_TOKEN": TOKEN, "STS_PUBLIC_URL": "https://bridge.example.com"}


def config_error(call: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        call()
    return str(caught.value)


def in_environment(**environ: str) -> str:
    return config_error(lambda: load(environ, NOWHERE))


def write(directory: Path, text: str) -> Path:
    path = directory / "sts-trio.toml"
    path.write_text(text)
    return path


def in_file(directory: Path, text: str, **environ: str) -> str:
    """The complaint about a file, less the file's own name."""
    path = write(directory, text)
    message = config_error(lambda: load(environ, directory))
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


# --- What is decided ----------------------------------------------------------------------------


def test_nothing_set_is_a_demonstration_on_this_machine() -> None:
    config = load({}, NOWHERE)
    assert config.agent is AgentKind.OFFLINE
    assert config.deepgram_urls == ("wss://agent.deepgram.com/v1/agent/converse",)
    assert config.dialect is Dialect.V1
    assert config.twilio_auth_tokens == ()
    assert config.public_url is None
    assert (config.allow_unsigned, config.fast_lane) == (False, True)
    assert config.policy.reconnects
    assert (config.bins, config.dial_ahead, config.choose_agent) == (True, True, None)
    assert (config.max_calls, config.forward, config.drain) == (500, 0.02, 30)
    assert (config.log_format, config.log_level) == (LogFormat.CONSOLE, LogLevel.INFO)
    assert config.file is None
    assert config.warnings == (
        "DEEPGRAM_API_KEY: not set, so the offline agent answers;"
        " STS_AGENT=offline says that this is meant",
    )


EVERYTHING = {
    "DEEPGRAM_API_KEY": "dg-key, other",
    "DEEPGRAM_URL": "wss://agent.example:8443/v1/agent/converse?x=1, ws://localhost:9001,",
    "STS_CREDENTIAL": "shop.phone:credential",
    "STS_DIALECT": "legacy",
    "STS_AGENT": "Deepgram",
    "STS_OFFLINE_MODE": "Scripted",
    "STS_INSECURE_AGENT": "0",
    "TWILIO_AUTH_TOKEN": "new-token-of-twilio-s, old-token-of-twilio-s,new-token-of-twilio-s,",
    "TWILIO_ACCOUNT_SID": SID,
    "STS_CALLER_ID": "+15005550006",
    "STS_DIAL_PREFIXES": "+1, +4420,+1",
    "STS_DIAL_PER_DAY": "0",
    "STS_DIALS_PER_SECOND": "0.5",
    "STS_TRANSFER_NUMBERS": "+15005550020 , +442071838750,",
    "STS_PUBLIC_URL": "https://bridge.example.com/pre/",
    "STS_ALLOW_UNSIGNED": "false",
    "STS_BINS": "0",
    "STS_RECONNECT": "0",
    "STS_DIAL_AHEAD": "0",
    "STS_CHOOSE_AGENT": "shop.phone:choose_agent",
    "STS_MAX_CALLS": "12",
    "STS_AGENT_SESSIONS": "15",
    "STS_FORWARD_MS": "100",
    "STS_FUNCTIONS": "my_functions, sts_trio.call_control:hang_up,my_functions,",
    "STS_FAST_LANE": "0",
    "STS_ADMIN_TOKEN": "admin-token-of-our-own",
    "STS_SAY_NOTICE": " This call is recorded. ",
    "STS_LOG": "JSON",
    "STS_LOG_LEVEL": "Debug",
    "STS_LOG_TRANSCRIPTS": "True",
    "STS_TRACES": "Words",
    "STS_DRAIN_SECONDS": "7.5",
    "STS_RESTARTS": "1",
    "PORT": "8080",
    "STS_ANSWER_WITHIN_SECONDS": "2.5",
    "STS_ASK_AFTER_SECONDS": "10",
    "STS_HANG_UP_AFTER_SECONDS": "0",
    "STS_LONGEST_CALL_SECONDS": "600",
    "STS_DATABASE_URL": "postgresql+psycopg://sts:hidden@db.example/calls",
    "STS_SPOOL": "/var/spool/sts-trio",
    "STS_PROCESS_NAME": "phone-1",
    "STS_KEEP_DAYS": "7",
    "STS_KEEP_WORDS": "0",
    "STS_REDACT": "1",
    "STS_REDACT_KEY": "0123456789abcdef0123456789abcdef",
    "STS_RECORD": "0",
    "STS_RECORDINGS": "/var/lib/recordings",
    "STS_FLIGHT": "all",
    "STS_FLIGHTS": "/var/lib/flights",
    "STS_WEBHOOK_URL": "https://crm.example/calls",
    "STS_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "STS_WEBHOOK_PRIVATE": "1",
}
EVERYTHING_DECIDED: dict[str, Any] = {
    "file": None,
    "deepgram_api_keys": ("dg-key", "other"),
    "deepgram_urls": (
        "wss://agent.example:8443/v1/agent/converse?x=1",
        "ws://localhost:9001/agent",
    ),
    "credential": "shop.phone:credential",
    "dialect": Dialect.LEGACY,
    "agent": AgentKind.DEEPGRAM,
    "offline_mode": Mode.SCRIPTED,
    "twilio_auth_tokens": ("new-token-of-twilio-s", "old-token-of-twilio-s"),
    "twilio_account_sid": SID,
    "caller_id": "+15005550006",
    "dial_prefixes": ("+1", "+4420"),
    "dial_per_day": 0,
    "dials_per_second": 0.5,
    "transfer_numbers": ("+15005550020", "+442071838750"),
    "public_url": "https://bridge.example.com/pre",
    "allow_unsigned": False,
    "bins": False,
    "dial_ahead": False,
    "choose_agent": "shop.phone:choose_agent",
    "max_calls": 12,
    "agent_sessions": 15,
    "forward": 0.1,
    "functions": ("my_functions", "sts_trio.call_control:hang_up"),
    "fast_lane": False,
    "admin_token": "admin-token-of-our-own",
    "notice": "This call is recorded.",
    "log_format": LogFormat.JSON,
    "log_level": LogLevel.DEBUG,
    "log_transcripts": True,
    "traces": TracesOf.WORDS,
    "drain": 7.5,
    "port": 8080,
    "numbers": {},
    "warnings": (),
    "policy": CallPolicy(
        resumes=True,
        one_moment=clip("one-moment"),
        apology=clip("apology"),
        answer_within=2.5,
        ask_after=10,
        longest=600,
    ),
    "records": Records(
        database_url="postgresql+psycopg://sts:hidden@db.example/calls",
        spool=Path("/var/spool/sts-trio"),
        process_name="phone-1",
        keep_days=7.0,
        keep_words=False,
        redact_key="0123456789abcdef0123456789abcdef",
        prices=Prices(),
        are_recorded=False,
        recordings=Path("/var/lib/recordings"),
        kept_flights=KeptFlights.ALL,
        flights=Path("/var/lib/flights"),
        webhook=Webhook(
            url="https://crm.example/calls",
            secrets=("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",),
            allows_private=True,
        ),
    ),
}


def test_everything_can_be_set_in_the_environment() -> None:
    assert set(EVERYTHING) == set(SETTINGS)
    config = load(EVERYTHING, NOWHERE)
    assert {name: getattr(config, name) for name in EVERYTHING_DECIDED} == EVERYTHING_DECIDED


def test_everything_can_be_set_in_the_file_with_types_of_its_own(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        f"""
        deepgram_api_key = ["dg-key", "other"]
        deepgram_url = ["wss://agent.example:8443/v1/agent/converse?x=1", "ws://localhost:9001"]
        credential = "shop.phone:credential"
        dialect = "legacy"
        agent = "deepgram"
        offline_mode = "scripted"
        insecure_agent = false
        twilio_auth_token = ["new-token-of-twilio-s", "old-token-of-twilio-s"]
        twilio_account_sid = "{SID}"
        caller_id = "+15005550006"
        dial_prefixes = ["+1", "+4420"]
        dial_per_day = 0
        dials_per_second = 0.5
        transfer_numbers = ["+15005550020", "+442071838750"]
        public_url = "https://bridge.example.com/pre/"
        allow_unsigned = false
        bins = false
        reconnect = false
        dial_ahead = false
        choose_agent = "shop.phone:choose_agent"
        max_calls = 12
        agent_sessions = 15
        forward_ms = 100
        functions = ["my_functions", "sts_trio.call_control:hang_up"]
        fast_lane = false
        admin_token = "admin-token-of-our-own"
        say_notice = "This call is recorded."
        log = "json"
        log_level = "debug"
        log_transcripts = true
        traces = "words"
        drain_seconds = 7.5
        port = 8080
        answer_within_seconds = 2.5
        ask_after_seconds = 10
        hang_up_after_seconds = 0
        longest_call_seconds = 600
        database_url = "postgresql+psycopg://sts:hidden@db.example/calls"
        spool = "/var/spool/sts-trio"
        process_name = "phone-1"
        keep_days = 7
        keep_words = false
        redact = true
        redact_key = "0123456789abcdef0123456789abcdef"
        record = false
        recordings = "/var/lib/recordings"
        flight = "all"
        flights = "/var/lib/flights"
        webhook_url = "https://crm.example/calls"
        webhook_secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        webhook_private = true
        """,
    )
    config = load({}, tmp_path)
    expected = EVERYTHING_DECIDED | {"file": path}
    assert {name: getattr(config, name) for name in expected} == expected


def test_the_environment_wins_unless_it_is_blank(tmp_path: Path) -> None:
    write(tmp_path, "max_calls = 3\nlog = 'json'\nsay_notice = ' '\n")
    config = load({"STS_MAX_CALLS": "4", "STS_LOG": "  "}, tmp_path)
    assert (config.max_calls, config.log_format, config.notice) == (4, LogFormat.JSON, None)


def test_a_file_may_be_named_and_then_is_the_only_one(tmp_path: Path) -> None:
    write(tmp_path, "max_calls = 3")
    (tmp_path / "other.toml").write_text("log = 'json'")
    config = load({"STS_CONFIG": "other.toml"}, tmp_path)
    assert (config.max_calls, config.log_format) == (500, LogFormat.JSON)
    assert config.file == tmp_path / "other.toml"


def test_a_file_saved_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "sts-trio.toml").write_bytes(b"\xef\xbb\xbfmax_calls = 3")
    assert load({}, tmp_path).max_calls == 3


def test_the_process_has_one_environment_and_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in (*SETTINGS, "STS_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "max_calls = 3")
    (tmp_path / "named.toml").write_text("max_calls = 4")
    monkeypatch.setenv("STS_LOG", "json")
    assert from_environment().max_calls == 3
    named = from_environment("named.toml")
    assert (named.max_calls, named.log_format) == (4, LogFormat.JSON)
    assert "STS_CONFIG" not in os.environ


# --- Who answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "kind", "warned"),
    [
        ({}, AgentKind.OFFLINE, True),
        ({"STS_AGENT": "offline"}, AgentKind.OFFLINE, False),
        ({"STS_AGENT": "offline", **SIGNED}, AgentKind.OFFLINE, False),
        ({"STS_AGENT": "offline", "DEEPGRAM_API_KEY": "k"}, AgentKind.OFFLINE, False),
        ({"DEEPGRAM_API_KEY": "k"}, AgentKind.DEEPGRAM, False),
        ({"DEEPGRAM_API_KEY": "k", **SIGNED}, AgentKind.DEEPGRAM, False),
        ({"DEEPGRAM_API_KEY": "k", "STS_AGENT": "deepgram"}, AgentKind.DEEPGRAM, False),
    ],
)
def test_who_answers_depends_on_the_key(
    environ: dict[str, str], kind: AgentKind, warned: bool
) -> None:
    config = load(environ, NOWHERE)
    assert config.agent is kind
    assert bool(config.warnings) is warned


def test_no_stranger_is_answered_by_a_demonstration_by_mistake() -> None:
    assert in_environment(TWILIO_AUTH_TOKEN="t") == (
        "DEEPGRAM_API_KEY: not set, but TWILIO_AUTH_TOKEN is: set the key,"
        " or STS_AGENT=offline to have callers answered by the offline agent"
    )


def test_deepgram_needs_a_key(tmp_path: Path) -> None:
    needs = "deepgram needs a key: set DEEPGRAM_API_KEY"
    assert in_environment(STS_AGENT="deepgram") == f"STS_AGENT: {needs}"
    assert in_file(tmp_path, "agent = 'deepgram'") == f"agent: {needs}"


def test_the_old_dialect_has_an_address_of_its_own() -> None:
    config = load({"STS_DIALECT": "legacy"}, NOWHERE)
    assert config.deepgram_urls == ("wss://agent.deepgram.com/agent",)


@pytest.mark.parametrize(
    "url", ["ws://localhost:9001", "ws://127.0.0.1/x", "ws://127.9.9.9", "ws://[::1]:9001/a"]
)
def test_an_agent_on_this_machine_needs_no_encryption(url: str) -> None:
    [dialled] = load({"DEEPGRAM_URL": url}, NOWHERE).deepgram_urls
    assert dialled.startswith(url)


@pytest.mark.parametrize(
    ("url", "dialled"),
    [
        ("wss://agent.example", "wss://agent.example/v1/agent/converse"),
        ("wss://agent.example/", "wss://agent.example/v1/agent/converse"),
        ("wss://agent.example:8443?a=1&b", "wss://agent.example:8443/v1/agent/converse?a=1&b"),
        ("wss://agent.example/?a=1", "wss://agent.example/v1/agent/converse?a=1"),
        ("wss://agent.example/other?a=1", "wss://agent.example/other?a=1"),
        ("wss://agent.example/v1/agent/converse/", "wss://agent.example/v1/agent/converse/"),
        ("ws://[::1]:9001", "ws://[::1]:9001/v1/agent/converse"),
    ],
)
def test_an_address_without_a_path_is_dialled_at_deepgrams(url: str, dialled: str) -> None:
    assert load({"DEEPGRAM_URL": url}, NOWHERE).deepgram_urls == (dialled,)
    old = load({"DEEPGRAM_URL": url, "STS_DIALECT": "legacy"}, NOWHERE).deepgram_urls
    assert old == (dialled.replace("/v1/agent/converse", "/agent"),) or old == (url,)


@pytest.mark.parametrize("key", ["Bearer eyJ.a.b", "Token k", "k, Bearer eyJ.a.b"])
def test_a_credential_may_say_its_scheme(key: str) -> None:
    urls = "wss://a.example" if "," not in key else "wss://a.example,wss://b.example"
    config = load({"DEEPGRAM_API_KEY": key, "DEEPGRAM_URL": urls}, NOWHERE)
    assert config.deepgram_api_keys == tuple(key.split(", "))
    assert "eyJ" not in repr(config)


def test_a_credential_of_your_own_is_as_good_as_a_key() -> None:
    config = load({"STS_CREDENTIAL": "shop:credential", "TWILIO_AUTH_TOKEN": "t" * 32}, NOWHERE)
    assert (config.agent, config.credential) == (AgentKind.DEEPGRAM, "shop:credential")
    assert in_environment(STS_CREDENTIAL="shop").startswith(
        "STS_CREDENTIAL: expected module:function"
    )


@pytest.mark.parametrize("url", ["ws://agent.example/", "ws://10.0.0.1:8080", "ws://localhost.x"])
def test_an_agent_elsewhere_needs_encryption_or_consent(url: str) -> None:
    assert in_environment(DEEPGRAM_URL=url) == (
        "DEEPGRAM_URL: the key and the call would cross the network unencrypted:"
        f" expected wss://, or STS_INSECURE_AGENT=1, got {url!r}"
    )
    [dialled] = load({"DEEPGRAM_URL": url, "STS_INSECURE_AGENT": "1"}, NOWHERE).deepgram_urls
    assert dialled.startswith(url)


def test_addresses_share_a_key_or_have_one_each() -> None:
    urls = {"DEEPGRAM_URL": "wss://a.example, wss://a.example"}
    assert load({**urls, "DEEPGRAM_API_KEY": "k"}, NOWHERE).deepgram_api_keys == ("k",)
    assert load({**urls, "DEEPGRAM_API_KEY": "k,l"}, NOWHERE).deepgram_api_keys == ("k", "l")
    assert in_environment(**urls, DEEPGRAM_API_KEY="k,l,m") == (
        "DEEPGRAM_API_KEY: expected one key, or one for each address in DEEPGRAM_URL, which has 2,"
        " got 3"
    )
    assert in_environment(DEEPGRAM_API_KEY="k,l").endswith("which has 1, got 2")


def test_of_several_addresses_the_one_at_fault_is_named() -> None:
    assert in_environment(DEEPGRAM_URL="wss://a.example,ws://b.example").endswith(
        "got 'ws://b.example'"
    )


def test_serving_the_unsigned_with_a_token_at_hand_is_odd() -> None:
    environ = {"DEEPGRAM_API_KEY": "k", "TWILIO_AUTH_TOKEN": TOKEN, "STS_ALLOW_UNSIGNED": "1"}
    assert load(environ, NOWHERE).warnings == (
        "STS_ALLOW_UNSIGNED lets anyone in, signed by Twilio or not",
    )


def test_a_token_without_a_public_url_gets_a_warning() -> None:
    """Twilio signs for all servers of an account, and a vendor's may hand on what it got."""
    environ = {"STS_AGENT": "offline", "TWILIO_AUTH_TOKEN": TOKEN}
    [warning] = load(environ, NOWHERE).warnings
    assert warning.startswith("STS_PUBLIC_URL: not set, so what Twilio has signed for another")
    assert load(environ | SIGNED, NOWHERE).warnings == ()


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "is not: whoever comes by it is refused, Twilio as well"),
        (
            {"STS_ALLOW_UNSIGNED": "1"},
            "is not: whoever comes by it is served, as STS_ALLOW_UNSIGNED says",
        ),
    ],
)
def test_a_public_url_without_a_token_gets_a_warning(environ: dict[str, str], says: str) -> None:
    environ = {"STS_AGENT": "offline", "STS_PUBLIC_URL": "https://a.example"} | environ
    [warning] = load(environ, NOWHERE).warnings
    assert warning == f"STS_PUBLIC_URL: set, but TWILIO_AUTH_TOKEN {says}"


@pytest.mark.parametrize(
    ("environ", "warned"),
    [
        ({"TWILIO_AUTH_TOKEN": "t"}, "TWILIO_AUTH_TOKEN"),
        ({"TWILIO_AUTH_TOKEN": f"{TOKEN},{'t' * 19}"}, "TWILIO_AUTH_TOKEN"),
        ({"STS_ADMIN_TOKEN": "x"}, "STS_ADMIN_TOKEN"),
        ({"STS_ADMIN_TOKEN": "x" * 19}, "STS_ADMIN_TOKEN"),
        ({"STS_ADMIN_TOKEN": "x" * 20}, None),
    ],
)
def test_a_short_secret_gets_a_warning_that_does_not_tell_it(
    environ: dict[str, str], warned: str | None
) -> None:
    warnings = load({"STS_AGENT": "offline"} | SIGNED | environ, NOWHERE).warnings
    expected = f"{warned}: shorter than 20 characters, so it may be guessed"
    assert [each.partition(": Twilio's")[0] for each in warnings] == [expected] * bool(warned)


def test_a_short_secret_in_the_file_is_told_where_it_is(tmp_path: Path) -> None:
    path = write(tmp_path, "admin_token = 'x'")
    [warning] = load({"STS_AGENT": "offline"}, tmp_path).warnings
    assert warning.startswith(f"{path}: admin_token: shorter than 20 characters")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example", "https://a.example"),
        ("https://a.example/", "https://a.example"),
        ("https://a.example//", "https://a.example"),
        ("http://localhost:5000/pre/", "http://localhost:5000/pre"),
        ("https://a.example/?", "https://a.example"),
    ],
)
def test_the_public_url_ends_without_a_slash(url: str, expected: str) -> None:
    assert load({"STS_PUBLIC_URL": url}, NOWHERE).public_url == expected


def test_a_public_url_that_twilio_cannot_stream_to_gets_a_warning() -> None:
    environ = {"STS_AGENT": "offline", "STS_PUBLIC_URL": "http://a.example"}
    environ |= {"TWILIO_AUTH_TOKEN": TOKEN}
    assert load(environ, NOWHERE).warnings == (
        "STS_PUBLIC_URL: Twilio streams to wss:// only, which takes https://, got"
        " 'http://a.example'",
    )
    assert load(environ | {"STS_PUBLIC_URL": "http://[::1]:5000"}, NOWHERE).warnings == ()


def test_nobody_is_dialled_or_transferred_to_unless_listed() -> None:
    config = load({}, NOWHERE)
    assert (config.dial_prefixes, config.transfer_numbers) == ((), ())
    assert (config.dial_per_day, config.dials_per_second) == (100, 1)
    assert not config.may_dial("+15005550010")
    assert not config.may_transfer("+15005550010")


def test_what_is_listed_may_be_dialled_by_its_beginning_and_transferred_to_as_a_whole() -> None:
    environ = {"STS_DIAL_PREFIXES": "+1500,+44", "STS_TRANSFER_NUMBERS": "+15005550020"}
    config = load(environ, NOWHERE)
    assert config.may_dial("+15005550010")
    assert not config.may_dial("+15015550010")
    assert config.may_transfer("+15005550020")
    assert not config.may_transfer("+150055500200")


# --- Mistakes -----------------------------------------------------------------------------------

NUMBERS = "numbers like +15005550006, several with commas"
VISIBLE = "visible ASCII characters without spaces"
PREFIXES = "beginnings of numbers, like +1 or +4420, several with commas"
WEBSOCKET = "a websocket URL like wss://agent.deepgram.com/v1/agent/converse"
PUBLIC = "a URL like https://example.com, without a query"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("STS_MAX_CALLS", "many", "a whole number from 1 to 100000, got 'many'"),
        ("STS_MAX_CALLS", "0", "a whole number from 1 to 100000, got '0'"),
        ("STS_MAX_CALLS", "1.5", "a whole number from 1 to 100000, got '1.5'"),
        ("STS_MAX_CALLS", "9" * 99, f"a whole number from 1 to 100000, got '{'9' * 78}…"),
        ("STS_FORWARD_MS", "19", "milliseconds from 20 to 400, got '19'"),
        ("STS_FORWARD_MS", "401", "milliseconds from 20 to 400, got '401'"),
        ("STS_FORWARD_MS", "nan", "milliseconds from 20 to 400, got 'nan'"),
        ("PORT", "65536", "a whole number from 0 to 65535, got '65536'"),
        ("STS_DRAIN_SECONDS", "-1", "seconds from 0 to 86400, got '-1'"),
        ("STS_DRAIN_SECONDS", "inf", "seconds from 0 to 86400, got 'inf'"),
        ("STS_RECONNECT", "maybe", "1 or 0, got 'maybe'"),
        ("STS_DIAL_AHEAD", "2", "1 or 0, got '2'"),
        ("STS_CHOOSE_AGENT", "choose", "module:function, got 'choose'"),
        ("STS_CHOOSE_AGENT", "a b:c", "module:function, got 'a b:c'"),
        ("STS_CHOOSE_AGENT", "a.:c", "module:function, got 'a.:c'"),
        ("STS_DIALECT", "v2", "v1 or legacy, got 'v2'"),
        ("STS_AGENT", "openai", "deepgram or offline, got 'openai'"),
        ("STS_LOG", "xml", "console or json, got 'xml'"),
        ("STS_LOG_LEVEL", "loud\nly", r"debug, info, warning or error, got 'loud\nly'"),
        ("STS_SAY_NOTICE", "x" * 3001, f"a sentence of at most 3000 characters, got '{'x' * 78}…"),
        ("TWILIO_ACCOUNT_SID", "AC1", "AC and 32 hexadecimal digits, got 'AC1'"),
        ("STS_CALLER_ID", "5005550006", "a number like +15005550006, got '5005550006'"),
        ("STS_DIAL_PREFIXES", "1", f"{PREFIXES}, got '1'"),
        ("STS_DIAL_PREFIXES", "+", f"{PREFIXES}, got '+'"),
        ("STS_DIAL_PREFIXES", ",", f"{PREFIXES}, got ','"),
        ("STS_DIAL_PER_DAY", "-1", "a whole number from 0 to 10000, got '-1'"),
        ("STS_DIAL_PER_DAY", "10001", "a whole number from 0 to 10000, got '10001'"),
        ("STS_DIALS_PER_SECOND", "0", "a number from 0.1 to 30, got '0'"),
        ("STS_DIALS_PER_SECOND", "nan", "a number from 0.1 to 30, got 'nan'"),
        ("STS_TRANSFER_NUMBERS", "+1, 911", f"{NUMBERS}, got '+1, 911'"),
        ("STS_TRANSFER_NUMBERS", "sip:a@b", f"{NUMBERS}, got 'sip:a@b'"),
        ("DEEPGRAM_URL", "https://a.example", f"{WEBSOCKET}, got 'https://a.example'"),
        ("DEEPGRAM_URL", "agent.example", f"{WEBSOCKET}, got 'agent.example'"),
        ("DEEPGRAM_URL", " , ", f"{WEBSOCKET}, got ','"),
        ("DEEPGRAM_URL", "wss://", f"{WEBSOCKET}, got 'wss://'"),
        ("DEEPGRAM_URL", "wss://a:port", f"{WEBSOCKET}, got 'wss://a:port'"),
        ("DEEPGRAM_URL", "wss://[a", f"{WEBSOCKET}, got 'wss://[a'"),
        ("DEEPGRAM_URL", "wss://a/ b", f"{WEBSOCKET}, got 'wss://a/ b'"),
        ("DEEPGRAM_URL", "wss://a/\nb", rf"{WEBSOCKET}, got 'wss://a/\nb'"),
        ("DEEPGRAM_URL", "wss://a/#b", f"{WEBSOCKET}, got 'wss://a/#b'"),
        ("STS_PUBLIC_URL", "a.example", f"{PUBLIC}, got 'a.example'"),
        ("STS_PUBLIC_URL", "wss://a.example", f"{PUBLIC}, got 'wss://a.example'"),
        ("STS_PUBLIC_URL", "https://a.example?b", f"{PUBLIC}, got 'https://a.example?b'"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(
    variable: str, value: str, expected: str
) -> None:
    assert in_environment(**{variable: value}) == f"{variable}: expected {expected}"


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (
            "DEEPGRAM_API_KEY",
            "visible ASCII characters without spaces, several with commas; a token as Bearer TOKEN",
        ),
        ("STS_ADMIN_TOKEN", "visible ASCII characters without spaces"),
        ("TWILIO_AUTH_TOKEN", "visible ASCII characters without spaces, several with commas"),
    ],
)
def test_a_mistaken_secret_stays_one(variable: str, expected: str) -> None:
    """Its length may be told: it tells what was cut off."""
    for value in ("se cret", "se\ncret", "secrét"):
        told = in_environment(**{variable: value})
        assert told == f"{variable}: expected {expected}, got {len(value)} characters"
    assert in_environment(TWILIO_AUTH_TOKEN=" , ").startswith("TWILIO_AUTH_TOKEN: expected")


@pytest.mark.parametrize("variable", ["DEEPGRAM_URL", "STS_PUBLIC_URL"])
def test_a_password_in_a_url_is_refused_and_not_shown(variable: str) -> None:
    message = in_environment(**{variable: "https://ann:secret@a.example"})
    assert message == f"{variable}: expected a URL without a user name"
    for port in ("port", "99999"):
        told = in_environment(**{variable: f"https://ann:secret@a.example:{port}/x"})
        assert told == message


def test_a_misspelt_variable_is_mentioned() -> None:
    others = {"STS_PARTNERS": "x", "TWILIO_API_KEY": "SK1", "DEEPGRAM_PROJECT": "p", "PATH": "/bin"}
    ours = {"STS_AGENT": "offline", "STS_MAXCALLS": "5", "DEEPGRAM_KEY": "x", "TWILIO_TOKEN": "x"}
    assert load(ours | others, NOWHERE).warnings == (
        "STS_MAXCALLS is no setting of ours; did you mean STS_MAX_CALLS?",
        "DEEPGRAM_KEY is no setting of ours; did you mean DEEPGRAM_API_KEY?",
        "TWILIO_TOKEN is no setting of ours; did you mean TWILIO_AUTH_TOKEN?",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_call = 5", "max_call: unknown key; did you mean max_calls?"),
        ('"a\\nb" = 5', r'"a\nb": unknown key; known are deepgram_api_key, deepgram_url,'),
        ("admin_token = 5", f"admin_token: expected {VISIBLE}, got no text"),
        (
            "twilio_auth_token = ['a', 'b c']",
            f"twilio_auth_token: expected {VISIBLE}, several with commas, got 1, 3 characters",
        ),
        (
            "twilio_auth_token = [5]",
            f"twilio_auth_token: expected {VISIBLE}, several with commas, got no text",
        ),
        ("functions = ['']", "functions: expected modules with functions, like my_functions or"),
        ("dial_prefixes = ['+1', 5]", f"dial_prefixes: expected {PREFIXES}, got a list of '+1', 5"),
        ("log = []", "log: expected console or json, got an empty list"),
        ("max_calls = 'many'", "max_calls: expected a whole number from 1 to 100000, got 'many'"),
        ("max_calls = true", "max_calls: expected a whole number from 1 to 100000, got True"),
        ("reconnect = 5", "reconnect: expected 1 or 0, got 5"),
        ("log = ['json']", "log: expected console or json, got a list of 'json'"),
        ("[agent.default]", "agent: expected deepgram or offline, got a table"),
        ("twilio_auth_token = ['s e']", "twilio_auth_token: expected visible ASCII"),
        ("twilio_auth_token = [5]", "twilio_auth_token: expected visible ASCII"),
        ("numbers = 5", "numbers: expected a table, got 5"),
        ("agents = 'me'", "agents: expected a table, got 'me'"),
        ("max_calls", "not TOML: Expected '=' after a key"),
        ("a = 1\na = 2\n", "not TOML: Cannot overwrite a value (at line 2, column 6)"),
        ("a = " + "[" * 5000, "not TOML: nested too deeply"),
        ("max_calls = " + "9" * 5000, "not TOML: "),
    ],
    ids=lambda text: text[:30],
)
def test_a_mistake_in_the_file_is_named_with_its_key(
    text: str, expected: str, tmp_path: Path
) -> None:
    message = in_file(tmp_path, text)
    assert message.startswith(expected)
    assert message.isprintable()


def test_a_file_that_is_no_text_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "sts-trio.toml").write_bytes(b"\xff")
    assert "expected UTF-8 text" in config_error(lambda: load({}, tmp_path))


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    message = config_error(lambda: load({"STS_CONFIG": "gone.toml"}, tmp_path))
    assert message == f"STS_CONFIG: there is no file {tmp_path / 'gone.toml'}"


def test_a_file_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "sts-trio.toml").mkdir()
    message = config_error(lambda: load({}, tmp_path))
    assert message == f"{tmp_path / 'sts-trio.toml'}: cannot be read: Is a directory"
    message = config_error(lambda: load({"STS_CONFIG": "a\0b"}, tmp_path))
    assert message == f"{tmp_path}/a\\x00b: cannot be read: embedded null byte"


# --- Secrets ------------------------------------------------------------------------------------


def test_a_configuration_can_be_shown_without_its_secrets(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        [agents.default.think]
        provider = { type = "open_ai", model = "m" }
        endpoint = { url = "https://llm.example", headers = { authorization = "Bearer s3cret" } }
        """,
    )
    environ = {
        "DEEPGRAM_API_KEY": "s3cret",
        "TWILIO_AUTH_TOKEN": "s3cret",
        "STS_ADMIN_TOKEN": "s3cret",
    }
    config = load(environ, tmp_path)
    for text in (repr(config), str(config), repr(config.__rich_repr__())):
        assert "s3cret" not in text
        assert "hidden" in text
        assert "'default'" in text
    assert "deepgram_api_keys=None" in repr(load({}, NOWHERE))


# --- Anything -----------------------------------------------------------------------------------


def outcome(environ: dict[str, str], directory: Path) -> Config | ConfigError:
    try:
        return load(environ, directory)
    except ConfigError as exc:
        return exc


variables = st.sampled_from([*SETTINGS, "STS_CONFIG", "STS_MAXCALLS"])
likely = st.sampled_from(
    [*EVERYTHING.values(), "ws://a", "https://a/?b", "wss://a:b@c", "1", "0", "500", "400.0", ""]
)


@given(st.dictionaries(variables | any_text, likely | any_text))
@example({"STS_CONFIG": "\ud800"})
@example({"STS_CONFIG": "x" * 5000})
@example({"DEEPGRAM_URL": "wss://\u2100.example"})
def test_any_environment_is_a_configuration_or_one_line(environ: dict[str, str]) -> None:
    found = outcome(environ, NOWHERE)
    lines = found.warnings if isinstance(found, Config) else [str(found)]
    assert all(line.isprintable() for line in lines)


def test_where_a_setting_was_written_is_known(tmp_path: Path) -> None:
    (tmp_path / "sts-trio.toml").write_text("max_calls = 7\nadmin_token = 'a'\n")
    config = load({"STS_AGENT": "offline", "STS_ADMIN_TOKEN": "0123456789" * 2}, tmp_path)
    assert config.where("STS_MAX_CALLS") == f"{tmp_path / 'sts-trio.toml'}: max_calls"
    assert config.where("STS_ADMIN_TOKEN") == "STS_ADMIN_TOKEN"
    assert config.where("STS_FUNCTIONS") == "STS_FUNCTIONS"


@pytest.mark.parametrize("variable", sorted(SETTINGS))
def test_a_mistake_in_the_file_is_told_by_the_file(variable: str, tmp_path: Path) -> None:
    """And not by the variable, which nobody has set."""
    key = SETTINGS[variable].key
    (tmp_path / "sts-trio.toml").write_text(f"{key} = {{}}\n")
    with pytest.raises(ConfigError) as caught:
        load({}, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'sts-trio.toml'}: {key}: ")
    assert variable not in str(caught.value)


def test_what_the_file_lacks_is_not_blamed_on_the_variable_that_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "sts-trio.toml"
    file.write_text(f"twilio_auth_token = '{'0' * 32}'\n")
    with pytest.raises(ConfigError, match=rf"not set, but {file}: twilio_auth_token is"):
        load({}, tmp_path)
    file.write_text("deepgram_url = ['wss://a.example/x', 'wss://b.example/x']\n")
    with pytest.raises(ConfigError, match=rf"one for each address in {file}: deepgram_url"):
        load({"DEEPGRAM_API_KEY": "a,b,c"}, tmp_path)

"""What the operator decided: a frozen `Config`, read once from the environment and `sts-trio.toml`.

The environment wins. Every mistake is a `ConfigError` of one line: where, what was expected, and
what was found there unless it is a secret.

The only module that looks at the environment.
"""

import ipaddress
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from sts_trio.config.agents import AgentSettings, read_agents, read_numbers
from sts_trio.config.policy import read_policy
from sts_trio.config.raw import RawConfig, config_error, read_file
from sts_trio.config.records import Records, read_records
from sts_trio.config.setting import PREFIX, AgentKind, LogFormat, LogLevel, TracesOf
from sts_trio.config.variables import SETTINGS, URLS
from sts_trio.logic.policy import CallPolicy
from sts_trio.offline.mode import Mode
from sts_trio.wire import addresses
from sts_trio.wire.addresses import NUMBER
from sts_trio.wire.dialect import Dialect
from sts_trio.wire.handshake import CREDENTIAL
from sts_trio.wire.printable import one_line, quoted

__all__ = [
    "AgentKind",
    "AgentSettings",
    "Config",
    "LogFormat",
    "LogLevel",
    "from_environment",
    "load",
    "own_port",
    "runtime_directories",
    "wants_colours",
]

# A call costs 1 to 2 ms of CPU a second and 0.1 MB: 500 keep one core busy to a half or more, and
# the rest is for the bursts. More callers want another process, not a bigger number.
MAX_CALLS = 500
DEFAULT_PORT = 5000
# Of a secret that can be guessed: 20 random hexadecimal digits are 80 bits.
SHORT = 20


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything decided before the first call. Durations are seconds."""

    file: Path | None  # where the part that is not from the environment was read
    deepgram_api_keys: tuple[str, ...]  # none, one for all, or one for each URL
    deepgram_urls: tuple[str, ...]  # to be dialled in this order
    credential: str | None  # module:function
    dialect: Dialect
    agent: AgentKind
    offline_mode: Mode | None  # None: ears if they are installed
    twilio_auth_tokens: tuple[str, ...]
    twilio_account_sid: str | None
    caller_id: str | None  # the number that our own calls come from
    dial_prefixes: tuple[str, ...]  # what may be dialled begins with one of these
    dial_per_day: int
    dials_per_second: float
    transfer_numbers: tuple[str, ...]  # where a caller may be transferred to
    public_url: str | None  # no slash at its end
    allow_unsigned: bool
    bins: bool  # whether streams are let in that TwiML of somebody else's has started
    dial_ahead: bool
    choose_agent: str | None  # module:function
    max_calls: int
    agent_sessions: int | None  # at once, in all processes; None: as many as are wanted
    forward: float
    fast_lane: bool
    admin_token: str | None
    agents: dict[str, AgentSettings]  # {name: agent}, "default" always among them
    sessions: dict[str, dict[str, Any]]  # {name: what stands beside that agent in `Settings`}
    variables: dict[str, dict[str, str]]  # {name: {variable of that agent's: default}}
    numbers: dict[str, str]  # {address of ours: name of an agent}, see `agent_for`
    functions: tuple[str, ...]  # "package.module" or "package.module:name"
    notice: str | None
    policy: CallPolicy
    records: Records
    log_format: LogFormat
    log_level: LogLevel
    log_transcripts: bool
    traces: TracesOf
    drain: float
    restarts: bool  # a supervisor starts the server again when it has ended
    port: int
    warnings: tuple[str, ...]  # what is odd but not wrong, to be logged at start-up
    places: dict[str, str]  # {variable: where it was written: itself, or the file and its key}

    def where(self, variable: str) -> str:
        """The place to look at: the variable, or, if it was written there, the file and its key."""
        return self.places[variable]

    def agent_for(self, address: str) -> str:
        """The name of the agent that answers a call to that address of ours."""
        return addresses.look_up(self.numbers, address, "default")

    def may_dial(self, number: str) -> bool:
        """Whether we may call that number of our own accord."""
        return number.startswith(self.dial_prefixes)

    def may_transfer(self, number: str) -> bool:
        """Whether a caller may be transferred to that number."""
        return number in self.transfer_numbers

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The fields for people to see: no secret, and no agent, as agents hold keys too."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__ if name != "places"}
        for name in ("deepgram_api_keys", "twilio_auth_tokens", "admin_token"):
            shown[name] = "hidden" if shown[name] else None
        return list((shown | {"agents": list(self.agents)}).items())

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


def from_environment(file: str | None = None, **variables: str) -> Config:
    """The configuration of this process; `file` goes before `STS_CONFIG`, `variables` before all.

    Raises:
        ConfigError: something is wrong; exit 2 with its one line.
    """
    named = {} if file is None else {"STS_CONFIG": file}
    return load({**os.environ, **named, **variables}, Path())


def wants_colours() -> bool:
    """Of a terminal: by NO_COLOR (no-color.org) its user wants none, and a dumb one shows none."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def load(environ: Mapping[str, str], directory: Path) -> Config:
    """The configuration that `environ` and the file in `directory` make together.

    Raises:
        ConfigError: something is wrong.
    """
    file, table = read_file(environ.get("STS_CONFIG", "").strip(), directory)
    given = RawConfig(environ, file, table)
    warnings = given.misspelt_variables()
    given.refuse_unknown_keys()

    keys = tuple(_secrets(given, "DEEPGRAM_API_KEY", CREDENTIAL))
    tokens = tuple(dict.fromkeys(_secrets(given, "TWILIO_AUTH_TOKEN")))
    dialect = given("STS_DIALECT", Dialect.V1)
    agents = read_agents(given, dialect, warnings)
    allow_unsigned = given("STS_ALLOW_UNSIGNED", False)
    public_url = _public_url(given, warnings)
    _warn_of_open_doors(given, warnings, tokens, public_url, allow_unsigned)
    admin_token: str | None = given("STS_ADMIN_TOKEN")
    _warn_of_short_secrets(given, warnings, tokens, admin_token)
    return Config(
        file=file,
        deepgram_api_keys=keys,
        deepgram_urls=_deepgram_urls(given, dialect, keys),
        credential=given("STS_CREDENTIAL"),
        dialect=dialect,
        agent=_agent_kind(given, bool(keys), tokens, warnings),
        offline_mode=given("STS_OFFLINE_MODE"),
        twilio_auth_tokens=tokens,
        twilio_account_sid=given("TWILIO_ACCOUNT_SID"),
        caller_id=given("STS_CALLER_ID"),
        dial_prefixes=_distinct(given, "STS_DIAL_PREFIXES", PREFIX),
        dial_per_day=given("STS_DIAL_PER_DAY", 100),
        dials_per_second=given("STS_DIALS_PER_SECOND", 1.0),
        transfer_numbers=_distinct(given, "STS_TRANSFER_NUMBERS", NUMBER),
        public_url=public_url,
        allow_unsigned=allow_unsigned,
        bins=given("STS_BINS", True),
        dial_ahead=given("STS_DIAL_AHEAD", True),
        choose_agent=given("STS_CHOOSE_AGENT"),
        max_calls=given("STS_MAX_CALLS", MAX_CALLS),
        agent_sessions=given("STS_AGENT_SESSIONS"),
        forward=given("STS_FORWARD_MS", 20.0) / 1000,
        fast_lane=given("STS_FAST_LANE", True),
        admin_token=admin_token,
        agents=agents.settings,
        sessions=agents.sessions,
        variables=agents.variables,
        numbers=read_numbers(given, agents.settings),
        functions=_functions(given),
        notice=given("STS_SAY_NOTICE"),
        policy=read_policy(given),
        records=read_records(given),
        log_format=given("STS_LOG", LogFormat.CONSOLE),
        log_level=given("STS_LOG_LEVEL", LogLevel.INFO),
        log_transcripts=given("STS_LOG_TRANSCRIPTS", False),
        traces=given("STS_TRACES", TracesOf.NONE),
        drain=given("STS_DRAIN_SECONDS", 30.0),
        restarts=given("STS_RESTARTS", False),
        port=given("PORT", DEFAULT_PORT),
        warnings=tuple(one_line(warning) for warning in warnings),
        places={variable: given.where(variable) for variable in SETTINGS},
    )


def own_port() -> int:
    """Where a server that was started in this environment listens, as far as this tells. A server
    at any port that is free (0) is looked for at the default one.

    Raises:
        ConfigError: `PORT` is no port.
    """
    return int(RawConfig(os.environ, None, {})("PORT", 0)) or DEFAULT_PORT


def runtime_directories() -> list[Path]:
    """Where files of a running process may go, the best first. The last is everybody's.

    The user's own that is gone with their last session, if there is one (XDG Base Directory
    Specification); else in their home, where it need not be there yet.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    state = os.environ.get("XDG_STATE_HOME", "") or os.path.expanduser("~/.local/state")
    own = [runtime] if os.path.isabs(runtime) and os.path.isdir(runtime) else []
    own += [state] if os.path.isabs(state) else []
    return [*map(Path, own), Path(tempfile.gettempdir())]


def cache_directory() -> Path:
    """Where a user's files go that can be made again (XDG Base Directory Specification)."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):
        cache = os.path.expanduser("~/.cache")
    return Path(cache, "sts-trio")


def _distinct(given: RawConfig, variable: str, pattern: str) -> tuple[str, ...]:
    """The same, each of them once and like the pattern."""
    several = given.several(variable)
    if not all(re.fullmatch(pattern, each) for each in several):
        raise given.config_error(variable, ", ".join(several))
    return tuple(dict.fromkeys(several))


def _secrets(given: RawConfig, variable: str, pattern: str = "[!-~]+") -> list[str]:
    secrets = given.several(variable)
    if not all(re.fullmatch(pattern, secret) for secret in secrets):
        raise given.config_error(variable, secrets)
    return secrets


def _warn_of_open_doors(
    given: RawConfig,
    warnings: list[str],
    tokens: tuple[str, ...],
    public_url: str | None,
    allow_unsigned: bool,
) -> None:
    if tokens and allow_unsigned:
        warnings.append(
            f"{given.where('STS_ALLOW_UNSIGNED')} lets anyone in, signed by Twilio or not"
        )
    elif tokens and public_url is None:
        warnings.append(
            "STS_PUBLIC_URL: not set, so what Twilio has signed for another server of the same"
            " account is taken here, too, if it is handed on: set it to what Twilio calls this one"
        )
    elif not tokens and public_url is not None:
        whoever = (
            f"whoever comes by it is served, as {given.where('STS_ALLOW_UNSIGNED')} says"
            if allow_unsigned
            else "whoever comes by it is refused, Twilio as well"
        )
        warnings.append(
            f"{given.where('STS_PUBLIC_URL')}: set, but TWILIO_AUTH_TOKEN is not: {whoever}"
        )


def _warn_of_short_secrets(
    given: RawConfig, warnings: list[str], tokens: tuple[str, ...], admin_token: str | None
) -> None:
    for variable, secrets in (
        ("TWILIO_AUTH_TOKEN", tokens),
        ("STS_ADMIN_TOKEN", [admin_token] if admin_token else []),
    ):
        if any(len(secret) < SHORT for secret in secrets):
            warnings.append(
                f"{given.where(variable)}: shorter than {SHORT} characters, so it may be guessed"
                + (": Twilio's have 32" if variable == "TWILIO_AUTH_TOKEN" else "")
            )


def _functions(given: RawConfig) -> tuple[str, ...]:
    specs = tuple(dict.fromkeys(given.several("STS_FUNCTIONS")))
    for spec in specs:
        module, colon, name = spec.partition(":")
        names = [*module.split("."), *([name] if colon else [])]
        if module.endswith(".py") or not all(each.isidentifier() for each in names):
            raise given.config_error("STS_FUNCTIONS", spec)
    return specs


def _agent_kind(
    given: RawConfig, has_key: bool, tokens: tuple[str, ...], warnings: list[str]
) -> AgentKind:
    kind: AgentKind | None = given("STS_AGENT")
    has_key = has_key or given("STS_CREDENTIAL") is not None
    if kind is AgentKind.DEEPGRAM and not has_key:
        raise config_error(
            f"{given.where('STS_AGENT')}: deepgram needs a key: set DEEPGRAM_API_KEY"
        )
    if kind is not None:
        return kind
    if has_key:
        return AgentKind.DEEPGRAM
    if tokens:
        # No stranger is to be answered by a demonstration by mistake.
        raise config_error(
            f"DEEPGRAM_API_KEY: not set, but {given.where('TWILIO_AUTH_TOKEN')} is: set the key,"
            " or STS_AGENT=offline to have callers answered by the offline agent"
        )
    warnings.append(
        "DEEPGRAM_API_KEY: not set, so the offline agent answers;"
        " STS_AGENT=offline says that this is meant"
    )
    return AgentKind.OFFLINE


def _deepgram_urls(given: RawConfig, dialect: Dialect, keys: tuple[str, ...]) -> tuple[str, ...]:
    is_trusted = given("STS_INSECURE_AGENT", False)
    urls = tuple(
        _deepgram_url(given, url, dialect, is_trusted) for url in given.several("DEEPGRAM_URL")
    )
    urls = urls or (URLS[dialect],)
    if len(keys) > 1 and len(keys) != len(urls):
        raise config_error(
            f"{given.where('DEEPGRAM_API_KEY')}: expected one key, or one for each address in"
            f" {given.where('DEEPGRAM_URL')}, which has {len(urls)}, got {len(keys)}"
        )
    return urls


def _deepgram_url(given: RawConfig, url: str, dialect: Dialect, is_trusted: bool) -> str:
    parts = _url(given, "DEEPGRAM_URL", url, ("ws", "wss"))
    if parts.scheme == "ws" and not (is_trusted or _is_loopback(parts.hostname or "")):
        raise config_error(
            f"{given.where('DEEPGRAM_URL')}: the key and the call would cross the network"
            f" unencrypted: expected wss://, or STS_INSECURE_AGENT=1, got {quoted(url)}"
        )
    if parts.path in ("", "/"):
        # There is no agent at the bare host: it answers 404.
        return parts._replace(path=urlsplit(URLS[dialect]).path).geturl()
    return url


def _public_url(given: RawConfig, warnings: list[str]) -> str | None:
    url: str | None = given("STS_PUBLIC_URL")
    if url is None:
        return None
    parts = _url(given, "STS_PUBLIC_URL", url, ("http", "https"))
    if parts.query:
        raise given.config_error("STS_PUBLIC_URL", url)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        warnings.append(
            f"{given.where('STS_PUBLIC_URL')}: Twilio streams to wss:// only, which takes https://,"
            f" got {quoted(url)}"
        )
    return url.rstrip("/?")


def _url(given: RawConfig, variable: str, url: str, schemes: tuple[str, ...]) -> SplitResult:
    if "@" in url.partition("://")[2].partition("/")[0]:
        # Not shown: what stands before the @ may be a password.
        raise config_error(f"{given.where(variable)}: expected a URL without a user name")
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is none
    except ValueError:
        raise given.config_error(variable, url) from None
    # The parser drops line ends and tabs without a word.
    clean = url.isprintable() and " " not in url and "#" not in url
    if not clean or not parts.hostname or not url.startswith(tuple(f"{s}://" for s in schemes)):
        raise given.config_error(variable, url)
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

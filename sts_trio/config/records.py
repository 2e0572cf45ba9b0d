"""What is to be kept of calls, as the operator wrote it."""

import base64
import enum
import re
from pathlib import Path
from typing import Annotated, Any

import msgspec

from sts_trio.config.raw import RawConfig, config_error

FILE = "sts-trio.db"
SPOOL = "sts-trio.spool"
RECORDINGS = "sts-trio.recordings"
FLIGHTS = "sts-trio.flights"
NOTHING = "none"
# Calls are kept unless the operator says otherwise: a file takes nobody to set it up.
DEFAULT_URL = f"sqlite:///{FILE}"
KEEP_DAYS = 30.0

Price = Annotated[float, msgspec.Meta(ge=0, le=1000)]


class KeptFlights(enum.Enum):
    """Of which calls a flight is kept."""

    NONE = "0"
    FAULTS = "faults"  # of the agent's, or of ours
    ALL = "all"


class Prices(msgspec.Struct, frozen=True):
    """The table `[prices]`. In any currency; there is none until it is named."""

    currency: Annotated[str, msgspec.Meta(max_length=8)] = ""
    agent_per_minute: Price = 0.0  # of the agent's session, to the second
    phone_per_minute: Price = 0.0  # of the phone call: a minute that has begun counts as one


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """Where ended calls are told. Of several secrets each makes a signature."""

    url: str
    secrets: tuple[str, ...]
    allows_private: bool  # addresses of private networks


class Records(msgspec.Struct, frozen=True, kw_only=True):
    """`database_url` is None where nothing is to be kept; it may hold a password."""

    database_url: str | None
    spool: Path  # a directory, for what the database does not take now
    process_name: str | None
    keep_days: float  # 0: for ever
    keep_words: bool
    redact_key: str | None  # None: numbers are kept as they are
    prices: Prices
    are_recorded: bool  # both sides of each call, as audio
    recordings: Path  # a directory, for these
    kept_flights: KeptFlights
    flights: Path  # a directory, for these
    webhook: Webhook | None

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The fields for people to see, less the secrets."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        for name in ("database_url", "redact_key", "webhook"):
            shown[name] = "hidden" if shown[name] else None
        return list(shown.items())

    def __repr__(self) -> str:
        return f"Records({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


def read_records(given: RawConfig) -> Records:
    """Raises `ConfigError`: something in it is wrong."""
    url = _database_url(given)
    key: str | None = given("STS_REDACT_KEY")
    redacts = given("STS_REDACT", False)
    if redacts and key is None:
        raise config_error(
            f"{given.where('STS_REDACT')}: takes a key that stays the same, else no caller is known"
            " again: set STS_REDACT_KEY to 32 or more random characters"
        )
    keeps_words = given("STS_KEEP_WORDS", True)
    are_recorded = given("STS_RECORD", False)
    if are_recorded and not keeps_words:
        raise config_error(
            f"{given.where('STS_RECORD')}: a recording has the words that STS_KEEP_WORDS=0 deletes:"
            " set one of them, not both"
        )
    return Records(
        database_url=url,
        spool=_place(given, "STS_SPOOL", url, SPOOL),
        process_name=given("STS_PROCESS_NAME"),
        keep_days=given("STS_KEEP_DAYS", KEEP_DAYS),
        keep_words=keeps_words,
        redact_key=key if redacts else None,
        prices=given.read_table("prices", Prices),
        are_recorded=are_recorded,
        recordings=_place(given, "STS_RECORDINGS", url, RECORDINGS),
        kept_flights=_kept_flights(given, url),
        flights=_place(given, "STS_FLIGHTS", url, FLIGHTS),
        webhook=_webhook(given, url),
    )


def _place(given: RawConfig, name: str, url: str | None, default: str) -> Path:
    """A directory; where it is not named, one beside the database's file, with its name."""
    named: str | None = given(name)
    if named is not None:
        return given.beside_file(named)
    if url is not None and (file := _path(url)) is not None:
        return Path(file).with_suffix(Path(default).suffix)
    return given.beside_file(default)


def _kept_flights(given: RawConfig, url: str | None) -> KeptFlights:
    default = KeptFlights.NONE if url is None else KeptFlights.FAULTS
    value = given("STS_FLIGHT", default.value)
    try:
        return KeptFlights(str(value).lower())
    except ValueError:
        raise given.config_error("STS_FLIGHT", value) from None


def _webhook(given: RawConfig, database_url: str | None) -> Webhook | None:
    url: str | None = given("STS_WEBHOOK_URL")
    secrets = given.several("STS_WEBHOOK_SECRET")
    allows_private = given("STS_WEBHOOK_PRIVATE", False)
    if not all(map(_is_secret, secrets)):
        raise given.config_error("STS_WEBHOOK_SECRET", secrets)
    if url is None:
        return None
    where = given.where("STS_WEBHOOK_URL")
    if not secrets:
        raise config_error(
            f"{where}: takes a key to sign with: set STS_WEBHOOK_SECRET to whsec_ and the Base64 of"
            " 24 to 64 random bytes (openssl rand -base64 32)"
        )
    if database_url is None:
        raise config_error(
            f"{where}: takes a database, where what was not delivered waits: set STS_DATABASE_URL"
        )
    return Webhook(url=url, secrets=tuple(secrets), allows_private=allows_private)


def _is_secret(text: str) -> bool:
    """Standard Webhooks, "Signature scheme": 24 to 64 bytes, in Base64, behind a prefix."""
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        return False
    return text.startswith("whsec_") and 24 <= len(key) <= 64


def _database_url(given: RawConfig) -> str | None:
    url = given("STS_DATABASE_URL", DEFAULT_URL)
    if url.lower() == NOTHING:
        return None
    if (path := _path(url)) is not None:
        return f"sqlite:///{given.beside_file(path)}"
    if not re.match(r"(sqlite|postgresql)(\+\w+)?://", url):
        raise given.config_error("STS_DATABASE_URL", url)
    return str(url)


def _path(url: str) -> str | None:
    """The file of an SQLite URL; its query, which nobody needs, is left to be refused."""
    found = re.fullmatch(r"sqlite(?:\+pysqlite)?:///([^?]+)", url)
    return None if found is None or found[1] == ":memory:" else found[1]

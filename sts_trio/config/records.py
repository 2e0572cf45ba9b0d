"""What is to be kept of calls, as the operator wrote it."""

import re
from pathlib import Path
from typing import Annotated, Any

import msgspec

from sts_trio.config.raw import RawConfig, config_error

FILE = "sts-trio.db"
SPOOL = "sts-trio.spool"
NOTHING = "none"
# Calls are kept unless the operator says otherwise: a file takes nobody to set it up.
DEFAULT_URL = f"sqlite:///{FILE}"
KEEP_DAYS = 30.0

Price = Annotated[float, msgspec.Meta(ge=0, le=1000)]


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[prices]`. In any currency; there is none until it is named."""

    currency: Annotated[str, msgspec.Meta(max_length=8)] = ""
    agent_per_minute: Price = 0.0  # of the agent's session, to the second
    phone_per_minute: Price = 0.0  # of the phone call: a minute that has begun counts as one


class Records(msgspec.Struct, frozen=True, kw_only=True):
    """`database_url` is None where nothing is to be kept; it may hold a password."""

    database_url: str | None
    spool: Path  # a directory, for what the database does not take now
    process_name: str | None
    keep_days: float  # 0: for ever
    keep_words: bool
    redact_key: str | None  # None: numbers are kept as they are
    prices: Prices

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The fields for people to see, less the secrets."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        for name in ("database_url", "redact_key"):
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
    spool: str | None = given("STS_SPOOL")
    if spool is not None:
        place = given.beside_file(spool)
    elif url is not None and (file := _path(url)) is not None:
        place = Path(file).with_name(f"{Path(file).stem}.spool")
    else:
        place = given.beside_file(SPOOL)
    return Records(
        database_url=url,
        spool=place,
        process_name=given("STS_PROCESS_NAME"),
        keep_days=given("STS_KEEP_DAYS", KEEP_DAYS),
        keep_words=given("STS_KEEP_WORDS", True),
        redact_key=key if redacts else None,
        prices=_prices(given),
    )


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


def _prices(given: RawConfig) -> Prices:
    try:
        return msgspec.convert(given.section("prices"), Prices)
    except msgspec.ValidationError as exc:
        raise config_error(f"{given.in_file('prices')}: {exc}") from None

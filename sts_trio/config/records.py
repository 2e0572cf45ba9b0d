"""What is to be kept of calls."""

from pathlib import Path
from typing import Annotated, Any

import msgspec

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

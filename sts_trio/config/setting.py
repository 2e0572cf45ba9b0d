"""What one variable is: its name, its type, and its words for people; and the types there are."""

import enum
from typing import Annotated, Any, NamedTuple

import msgspec


class AgentKind(enum.Enum):
    """Who answers: Deepgram, or the offline agent in this process."""

    DEEPGRAM = "deepgram"
    OFFLINE = "offline"


class TracesOf(enum.Enum):
    """What is in the traces of calls; with `WORDS`, what is said as well."""

    NONE = "none"
    CALLS = "calls"
    WORDS = "words"


class LogFormat(enum.Enum):
    CONSOLE = "console"
    JSON = "json"


class LogLevel(enum.Enum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Setting(NamedTuple):
    """One variable, and the key of the file that mirrors it."""

    variable: str
    type: Any
    expected: str
    meaning: str  # for docs/configuration.md
    default: str = ""  # as it would be written; "": not set
    secret: bool = False

    @property
    def key(self) -> str:
        return self.variable.lower().removeprefix("sts_")


Secret = Annotated[str, msgspec.Meta(pattern=r"^[!-~]+\Z")]  # fit for a header
FUNCTION = Annotated[str, msgspec.Meta(pattern=r"^\w+(\.\w+)*:\w+\Z")]
VISIBLE = "visible ASCII characters without spaces"
PREFIX = r"\+[1-9][0-9]{0,14}"
SWITCH = "1 or 0"
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86400)]
SECONDS = "seconds from 0 to 86400"

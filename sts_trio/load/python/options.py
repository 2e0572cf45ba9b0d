"""The command line of the generator in Python: what `sts_trio.load.conduct` says to either."""

from collections.abc import Sequence

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """As `generator/main.c` has them. Durations are seconds."""

    calls: int
    seconds: float
    host: str
    port: int
    agent_port: int
    warm_up: float = 2.0
    late: float = 1.0
    turn: float = 4.0
    speech: float = 2.0
    barge_in: float = 0.0
    endings: str = "1,0,0"
    farewell: float = 0.0
    pid: list[int] = []
    most_cpu: float = 0.7
    most_lag: float = 0.02
    secure: bool = False
    places: bool = False
    progress: bool = False
    bridges_agent: bool = False  # there is none of the generator's own
    caller_says: str = ""  # a file of µ-law, that is said to the bridge's agent

    @property
    def weights(self) -> list[float]:
        """Of the caller's hanging up, of a lost socket, and of the agent's end."""
        return [float(weight) for weight in self.endings.split(",")]


_FLAGS = {"secure", "places", "progress", "bridges-agent"}


def read(words: Sequence[str]) -> Options:
    """Raises:
    msgspec.ValidationError: an option is not known, or not as expected.
    ValueError: it has no value.
    """
    given: dict[str, object] = {"pid": []}
    rest = iter(words)
    for word in rest:
        name = word.removeprefix("--")
        value = True if name in _FLAGS else next(rest, None)
        if value is None:
            raise ValueError(f"{word}: its value is missing")
        if name == "pid":
            given["pid"] = [*msgspec.convert(given["pid"], list[str]), value]
        else:
            given[name] = value
    return msgspec.convert(given, Options, strict=False)

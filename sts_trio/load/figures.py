"""What a run of the load generator has measured, as it prints it. Times are ms, as their names say.

`generator/main.c` writes these names, and so does `python/meters.py`.
"""

import msgspec


class Delays(msgspec.Struct, frozen=True):
    """Percentiles are to within 0.4 %, or a microsecond."""

    count: int
    p50: float
    p90: float
    p99: float
    p999: float
    max: float


class Audio(msgspec.Struct, frozen=True):
    """One direction, in blocks of 20 ms. `ok`: per cent of what was sent."""

    sent: int
    arrived: int
    ok: float
    lost: int
    disordered: int
    corrupt: int
    foreign: int
    filler: int

    @property
    def faults(self) -> int:
        """Blocks that came, but not as they were sent."""
        return self.disordered + self.corrupt + self.foreign


class Clears(msgspec.Struct, frozen=True):
    asked: int
    answered: int
    unasked: int


class Pings(msgspec.Struct, frozen=True):
    sent: int
    answered: int


class Heard(msgspec.Struct, frozen=True):
    """What callers heard of an agent that is not the generator's own: nothing of it can be checked
    but that there was something, that it was not too much, and that it was not their own voice."""

    seconds: float  # of audible audio, of all calls
    mute: int  # calls that heard nothing
    echoed: int  # calls that heard themselves
    flooded: int  # calls that were sent more than can be played
    answer_ms: Delays | None  # from the end of what a caller says to the first word after it


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The line that the generator prints at the end."""

    calls: int
    seconds: float
    live: int
    churned: int
    cpu_ms_per_call_second: float
    utilisation: float
    kb_per_call: float
    rss_mb: float
    up: Audio
    down: Audio
    up_ms: Delays | None
    down_ms: Delays | None
    clear_ms: Delays | None
    setup_ms: Delays | None
    reach_ms: Delays | None
    gone_ms: Delays | None
    released_ms: Delays | None = None  # from the agent's end of a session to the caller's
    clears: Clears
    pings: Pings
    marks: int
    refused: int
    cut_off: int
    strange: int
    left_open: int
    kept: int = 0  # callers who were not let go when their agent had ended the session
    placed: int = 0
    failed: int = 0  # calls that were refused, cut off, led to no agent, or hardly heard
    died: list[int] = []  # processes of the bridge: what it costs is not known then, and 0 here
    heard: Heard | None = None  # of an agent that is not the generator's own
    own_utilisation: float
    own_lag_ms: float
    own_lag: Delays | None = None  # of each thing that was due
    void: str | None


class Progress(msgspec.Struct, frozen=True):
    """The line that the generator prints each second, if asked to."""

    placed: int
    through: int
    is_open: bool  # the window
    refused: int
    cut_off: int
    up: int  # blocks that have arrived in the window
    down: int
    own_lag_ms: float


class Made(msgspec.Struct, frozen=True):
    """When, and on what. Never where: no names of hosts or paths."""

    date: str
    cpu: str
    cores: int
    kernel: str
    python: str
    versions: dict[str, str]  # {package: version}


_decode_run = msgspec.json.Decoder(Run).decode
_decode_line = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_progress = msgspec.json.Decoder(Progress).decode


def read_run(line: str | bytes) -> Run:
    """The generator's line."""
    return _decode_run(line)


def read_line(line: bytes) -> Run | Progress:
    """Either line.

    Raises:
        msgspec.MsgspecError: it is neither.
    """
    return _decode_progress(line) if "through" in _decode_line(line) else _decode_run(line)

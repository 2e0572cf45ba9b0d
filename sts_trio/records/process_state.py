"""A process of those that share the database, as it tells of itself. Pure."""

import msgspec

from sts_trio.records.movable import Owner

# A process tells of itself once a second. A database that is busy, or locked, takes another two.
ALIVE_WITHIN = 4.0
# Somebody else may go on with what a dead process had: Twilio asks for a call again for 15 s.
LOST_AFTER = 30.0
READY = "ready"
DRAINING = "draining"
# A state that others write: its process is known to be dead.
GONE = "gone"


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """What a process tells of itself."""

    process_id: str  # anew at each start
    name: str
    address: str  # host:port, for others that share the database; "": it is not known
    version: str
    state: str  # ready, full, draining
    live: int
    capacity: int


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A process as the database knows it. `age` is how long ago it last told of itself, which was
    at `heartbeat_at`."""

    process: Process
    started_at: float
    heartbeat_at: float
    age: float

    @property
    def is_alive(self) -> bool:
        """As far as heartbeats tell. One that cannot reach the database may live all the same: look
        whether its address answers before you take what it has."""
        return self.age < ALIVE_WITHIN and self.process.state != GONE


def owner_of(seen: Seen) -> Owner:
    """The same, as who has a call."""
    process = seen.process
    return Owner(
        process.process_id,
        process.name,
        process.address,
        seen.is_alive,
        is_gone=process.state == GONE,
        age=seen.age,
    )

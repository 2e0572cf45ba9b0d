"""What the database knows of a call whose stream is over, for who may have to go on with it.

Pure.
"""

import msgspec

# Twilio has asked, connected and started its stream by then, or it will not.
CLAIMED_FOR = 8.0


class Moved(msgspec.Struct, frozen=True):
    """A move of the call that was, so many seconds ago. `is_crash`: its process had died."""

    age: float
    is_crash: bool


class Owner(msgspec.Struct, frozen=True):
    """A process, as it tells of itself. `is_alive`: it has of late; `is_gone`: it is known dead.
    `age` is how long ago it last told of itself."""

    process_id: str
    name: str
    address: str
    is_alive: bool
    is_gone: bool = False
    age: float = 0.0


class HowEnded(msgspec.Struct, frozen=True):
    """As the fields of an `Ending`, the cause by its label."""

    label: str
    detail: str
    apologised: bool


class CallState(msgspec.Struct, frozen=True, kw_only=True):
    """A call, as the database knows it. `account_sid` is "" where that is not known.

    `claimed_by` is whoever has taken it, and has not its stream yet, within the time for that.
    `owner` is the row of the process that claimed it, or else has it; None: there is no such row.
    """

    call_sid: str
    state: str  # announced, live, moving, ended, lost
    process_id: str
    epoch: int
    account_sid: str = ""
    claimed_by: str | None = None
    moves: tuple[Moved, ...] = ()
    owner: Owner | None = None
    ended: HowEnded | None = None

    @property
    def owner_id(self) -> str:
        return self.claimed_by or self.process_id


class Claim(msgspec.Struct, frozen=True):
    """A call is ours to go on with. Any row of its streams so far is older than `epoch`. It has no
    stream since `lost_at`, seconds since 1970, as far as the database can tell."""

    epoch: int
    lost_at: float


class Left(msgspec.Struct, frozen=True):
    """`state` is `live` if its process is dead, `moving` if it has let go of the call. With the
    next claim its epoch is another."""

    call_sid: str
    epoch: int
    state: str

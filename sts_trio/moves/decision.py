"""What becomes of a call whose stream is over though its caller is on the line. Pure.

Any process of a fleet may be asked. All that it knows is the call's row in the database, how the
process that has the call tells of itself there, and what that process's address answers. Ages and
claims are measured by the database's clock, as those of two machines may be a minute apart.

A stream may be cut while all is well with its process: a proxy was reloaded, or took it for idle.
Then that process has kept the agent's side, and the stream is led back to it (`Returned`). Else
whoever is asked takes the call (`Move`): the agent goes on with the history that the database has.

A heartbeat that is late is no proof of a death, as it may be the database that was away: so the
address is asked, too. Nor is one that is fresh a proof of life: it may be three seconds old. An
address that refuses, or at which another process is by now, is a proof.

A call that ends two processes in a minute is likely to be what ended them, and is not given to a
third.
"""

import enum
from typing import assert_never

import msgspec

from sts_trio.records.movable import CallState, HowEnded, Owner

# Three moves are a rolling restart that meets a call again and again. More is a loop.
MOST_IN_A_WINDOW = 3
WINDOW = 60.0
MOST = 10
# A process writes what has happened a moment later, so also that a call has ended.
ENDING_WITHIN = 0.5
# A process whose loop hangs answers no request, and tells nothing of itself. Heartbeats are late
# after 4 s; Twilio waits for 15 s.
SILENT_FOR = 6.0
# Epochs are microseconds since 1970. A greater one than this leaves no room for those to come.
LAST_EPOCH = 2**62


class Answer(enum.Enum):
    """Of the address of the process that has a call."""

    SAME = "the same process"
    OTHER = "another process"  # or another server
    REFUSED = "refused"
    SILENT = "silent"  # none within a moment, or there is no way to it


class Ended(msgspec.Struct, frozen=True):
    """It is known how: there is nothing to go on with."""

    how: HowEnded | None


class Move(msgspec.Struct, frozen=True):
    """Whoever is asked goes on with it, once it has claimed it."""

    is_crash: bool


class Returned(msgspec.Struct, frozen=True):
    """The stream goes back to the process that has the call, or is about to."""

    to: Owner


class AskAddress(msgspec.Struct, frozen=True):
    """What the process's address answers decides."""

    of: Owner


class AskAgain(msgspec.Struct, frozen=True):
    """Whether it is over will be known in a moment."""


class Apologise(msgspec.Struct, frozen=True):
    """Nobody goes on with it."""

    reason: str


Decision = Ended | Move | Returned | AskAddress | AskAgain | Apologise


def decide(
    call: CallState | None,
    me: str,
    *,
    account_sid: str = "",
    answer: Answer | None = None,
    waited: float = 0.0,
) -> Decision:
    """`me` is asked, for that account, and has waited so long for it to be decided.

    `answer` is that of the owner's address, if it was asked. To be asked only by who neither has
    the call nor knows how it ended.
    """
    if call is None:
        if waited < ENDING_WITHIN:
            return AskAgain()
        return Apologise("nothing is known of the call")
    if account_sid and call.account_sid not in ("", account_sid):
        return Apologise("the call is another account's")
    if call.state == "ended":
        return Ended(call.ended)
    if not 0 <= call.epoch < LAST_EPOCH:
        return Apologise(f"its epoch is {call.epoch}")
    if call.claimed_by is None and call.state in ("moving", "lost"):
        return _move(call, is_crash=call.state == "lost")
    if call.owner_id == me:
        # It had no stream yet, or one that was refused.
        return _move(call, is_crash=False)
    return _of_another(call, answer, waited)


def _of_another(call: CallState, answer: Answer | None, waited: float) -> Decision:
    owner = call.owner
    if owner is None or owner.is_gone:
        return _move(call, is_crash=True)
    match answer:
        case None:
            return AskAddress(owner)
        case Answer.REFUSED | Answer.OTHER:
            return _move(call, is_crash=True)
        case Answer.SILENT:
            if owner.is_alive and waited < SILENT_FOR:
                return AskAgain()
            return _move(call, is_crash=True)
        case Answer.SAME:
            if call.claimed_by is not None:
                return Returned(owner)
            if call.state == "announced":
                return _move(call, is_crash=False)  # its stream has found no way there
            return Returned(owner) if waited >= ENDING_WITHIN else AskAgain()
        case never:
            assert_never(never)


def _move(call: CallState, *, is_crash: bool) -> Move | Apologise:
    lately = [each for each in call.moves if each.age < WINDOW]
    if is_crash and any(each.is_crash for each in lately):
        return Apologise("it was in two processes that have died within a minute")
    if len(lately) >= MOST_IN_A_WINDOW:
        return Apologise(f"it was moved {len(lately)} times within a minute")
    if len(call.moves) >= MOST:
        return Apologise(f"it was moved {len(call.moves)} times")
    return Move(is_crash)

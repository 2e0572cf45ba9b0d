"""What a peer may send that is not a message we know."""

import msgspec

from sts_trio.errors import Leg


class Unknown(msgspec.Struct, frozen=True):
    """A well-formed message of a kind we do not know. Peers grow; this is never fatal."""

    leg: Leg
    tag: str


class Malformed(msgspec.Struct, frozen=True):
    """Something that is not a message of the peer's language, and why."""

    leg: Leg
    reason: str


class TooBig(msgspec.Struct, frozen=True):
    """A message over the leg's size limit. It cannot be read, so the call cannot go on."""

    leg: Leg
    size: int

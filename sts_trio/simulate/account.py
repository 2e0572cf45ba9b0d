"""An account of the simulated carrier, as far as its calls know of it."""

from collections.abc import Mapping

import msgspec

from sts_trio.simulate.party import Party
from sts_trio.simulate.unknowns import Unknowns
from sts_trio.simulate.webhook import Sign, Webhooks


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """`parties` are those who can be dialled, by number, and `queues` those who take a caller out
    of a queue, by its name."""

    webhooks: Webhooks
    sign: Sign | None
    headers: Mapping[str, str]  # of every request
    parameters: dict[str, str]  # of every stream
    parties: dict[str, Party]
    queues: dict[str, Party]
    unknowns: Unknowns

"""Who is called while a carrier is examined, as the simulated one has them."""

from sts_trio.simulate.carrier import Carrier
from sts_trio.simulate.placement import Callee
from sts_trio.simulate.script import WaitForQuiet

NUMBER, OURS = "+15005550006", "+15005550010"


class AtThePhone:
    """Who is called, as the simulated carrier has them."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier

    async def is_to_stay(self) -> None:
        stays = Callee(steps=[WaitForQuiet(300.0, 300.0)], limit=300.0)
        self._carrier.callees[NUMBER] = stays

    async def is_to_hang_up(self) -> None:
        self._carrier.callees[NUMBER] = Callee(limit=4.0, steps=[WaitForQuiet(300.0, 300.0)])

    async def has_heard_all(self, seconds: float) -> bool | None:
        (call,) = self._carrier.calls.values()
        spans = call._phone.earpiece.audible.spans
        return sum(end - begin for begin, end in spans) > 0.8 * seconds

"""Calls that another process had, and that go on here: from the claim to what an agent is told."""

import time
from collections.abc import Callable, Sequence

import msgspec

from sts_trio.agents.choice import ConfiguredAgents
from sts_trio.agents.connections import AgentConnections
from sts_trio.call.info import CallInfo, Elsewhere, is_from_bin
from sts_trio.logic.acts import Recalled
from sts_trio.logic.turns import brief
from sts_trio.moves.lookout import Lookout
from sts_trio.moves.mover import Mover, Taken
from sts_trio.observe import events
from sts_trio.records.movable import Owner
from sts_trio.records.process_state import READY, Seen, owner_of
from sts_trio.wire.twilio import StreamStart


class MovedCalls:
    """`others` are the processes that share the database, as it told last."""

    def __init__(
        self,
        mover: Mover,
        lookout: Lookout,
        agents: ConfiguredAgents,
        connections: AgentConnections,
        others: Callable[[], Sequence[Seen]],
    ) -> None:
        self.mover = mover
        self.lookout = lookout
        self._others = others
        self._agents = agents
        self._connections = connections

    def with_most_room(self, but: str = "") -> Owner | None:
        """The process, `but` that one, to which calls are led where there is no room for them."""
        ready = [
            each
            for each in self._others()
            if each.is_alive and each.process.state == READY and each.process.process_id != but
        ]
        seen = min(ready, key=lambda each: each.process.live / each.process.capacity, default=None)
        return None if seen is None else owner_of(seen)

    async def go_on(self, call: CallInfo, taken: Taken) -> CallInfo:
        """The call with what its stream is to bring along, which is about to come here. The agent
        is dialled meanwhile, with what was said so far."""
        past = taken.past
        name = await self._connections.choose(call)
        if past.agent not in self._agents:
            past = msgspec.structs.replace(past, agent=name)
        choice = self._connections.choice(call.call_sid)
        call = msgspec.structs.replace(
            call,
            agent=past.agent,
            is_tailored=choice.is_tailored,
            elsewhere=Elsewhere(taken.how, taken.claim.epoch, taken.lost_at),
        )
        settings = self._agents.settings(past.agent, choice, brief(past), greets=past.greets)
        line = self._connections.dial_ahead(past.agent, call, settings)
        self.mover.expect(call.call_sid, past)
        return msgspec.structs.replace(call, line=line)

    async def recall(self, call: CallInfo) -> Recalled:
        """What was before, of a call whose stream is here."""
        before = call.elsewhere
        assert before is not None
        gap = before.gap(time.time())
        past = await self.mover.recall(call.call_sid, before.lost_at)
        if past.agent not in self._agents:
            past = msgspec.structs.replace(past, agent=call.agent)
        move = events.CallMoved(before.how, gap, round(past.lasted, 3) or None, past.moves or None)
        return msgspec.structs.replace(past, move=move)


def may_come_back(start: StreamStart) -> bool:
    """Twilio asks us what comes next where our own answer had the call streamed."""
    return bool(start.call_sid) and not is_from_bin(start)

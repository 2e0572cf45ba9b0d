"""The portable leg and Hypercorn's reader: what was read in one go is heard in one go."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import trio
import trio.testing
from hypercorn.protocol.ws_stream import WSStream

from sts_trio.errors import How, Leg, LegEnded
from sts_trio.legs.caller_asgi import WATCH_EVERY, CallerLeg, open_caller
from sts_trio.net.ticker import SHORTEST_PERIOD, Ticker
from sts_trio.wire import twilio
from sts_trio.wire.twilio import Mark, MarkName

TICK = SHORTEST_PERIOD
ROOM = 10  # messages that Hypercorn has read, and that were not taken yet
GONE = {"type": "websocket.disconnect", "code": 1006}


def marks(*numbers: int) -> list[Mark]:
    return [Mark(MarkName(str(number)), stream_sid="MZ1") for number in numbers]


def told(*numbers: int) -> list[dict[str, Any]]:
    texts = map(twilio.encode_as_twilio, marks(*numbers))
    return [{"type": "websocket.receive", "bytes": None, "text": text} for text in texts]


class Reader:
    """Hypercorn's, as far as a leg has to do with it."""

    def __init__(self) -> None:
        self.pace: Any = None
        self.last_heard = 0.0
        self.inlet, self.outlet = trio.open_memory_channel[dict[str, Any]](ROOM)
        self._reads: list[list[dict[str, Any]]] = []
        self.read_at: list[float] = []

    def say(self, *events: dict[str, Any]) -> None:
        """To be read in one go."""
        self._reads.append(list(events))

    async def run(self) -> None:
        while True:
            await self.pace()
            if self._reads:
                self.read_at.append(trio.current_time())
                for event in self._reads.pop(0):
                    await self.inlet.send(event)

    async def send(self, event: Any) -> None:
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        raise AssertionError("nothing is wrong")


class Listener:
    def __init__(self, leg: CallerLeg) -> None:
        self._leg = leg
        self.batches: list[tuple[float, list[Any]]] = []

    async def run(self) -> None:
        await self._leg.listen(self._hear)

    def _hear(self, batch: Sequence[Any]) -> None:
        self.batches.append((trio.current_time(), list(batch)))

    @property
    def heard(self) -> list[Any]:
        return [message for _, batch in self.batches for message in batch]


@contextlib.asynccontextmanager
async def listening(receive: Any = None) -> AsyncIterator[tuple[Reader, Listener]]:
    reader, ticker = Reader(), Ticker()
    receive = receive or reader.outlet.receive
    async with open_caller(receive, reader.send, reader, ticker) as leg:
        listener = Listener(leg)
        async with trio.open_nursery() as nursery:
            for task in (ticker.run, listener.run, reader.run):
                nursery.start_soon(task)
            yield reader, listener
            nursery.cancel_scope.cancel()


async def test_what_was_read_in_one_go_is_heard_in_one_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with listening() as (reader, listener):
        reader.say(*told(1, 2, 3, 4, 5))
        reader.say(*told(6))
        await trio.sleep(2.5 * TICK)
        assert [batch for _, batch in listener.batches] == [marks(1, 2, 3, 4, 5), marks(6)]
        assert [at for at, _ in listener.batches] == reader.read_at


async def test_more_than_there_is_room_for_is_all_heard_within_a_beat_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Hypercorn's reader waits for its listener, and that for the reader: a tick ends it."""
    async with listening() as (reader, listener):
        reader.say(*told(*range(100)))
        await trio.sleep(2.5 * TICK)
        assert listener.heard == marks(*range(100))
        reader.say(*told(100, 101))
        await trio.sleep(2 * TICK)
        assert listener.batches[-1][1] == marks(100, 101)


async def test_the_end_is_heard_behind_what_came_with_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with listening() as (reader, listener):
        reader.say(*told(1, 2), GONE)
        await trio.sleep(2.5 * TICK)
        assert listener.heard == [*marks(1, 2), LegEnded(Leg.CALLER, How.CLOSED)]


@pytest.mark.parametrize("behind", [[GONE], told(3), [*told(3), GONE]])
async def test_nothing_behind_the_end_is_heard(
    behind: list[dict[str, Any]], autojump_clock: trio.testing.MockClock
) -> None:
    """Hypercorn may say it twice, and more of what was read in one piece may follow."""
    async with listening() as (reader, listener):
        reader.say(*told(1, 2), GONE, *behind)
        await trio.sleep(4.5 * TICK)
        assert listener.heard == [*marks(1, 2), LegEnded(Leg.CALLER, How.CLOSED)]


async def test_the_end_alone_is_heard_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """No reading follows it that anybody could wait for."""
    async with listening() as (reader, listener):
        await trio.sleep(1.5 * TICK)
        await reader.inlet.send(GONE)
        await trio.testing.wait_all_tasks_blocked()
        assert [(at, len(batch)) for at, batch in listener.batches] == [(1.5 * TICK, 1)]


async def test_another_servers_messages_are_heard_one_by_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """ASGI knows no more than `receive`."""
    outlets: list[trio.MemoryReceiveChannel[dict[str, Any]]] = []

    async def receive() -> dict[str, Any]:
        return await outlets[0].receive()

    async with listening(receive) as (reader, listener):
        outlets.append(reader.outlet)
        reader.say(*told(1, 2, 3))
        await trio.sleep(2.5 * TICK)
        assert [batch for _, batch in listener.batches] == [marks(1), marks(2), marks(3)]


class Unaccepted(WSStream):
    """Hypercorn's stream of a caller who was gone before it was accepted: it has no websocket."""

    def __init__(self) -> None:
        self.closed = True

    async def app_send(self, message: Any) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_caller_who_is_gone_before_the_accept_is_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inlet, outlet = trio.open_memory_channel[dict[str, Any]](ROOM)
    await inlet.send(GONE)
    async with open_caller(outlet.receive, Unaccepted().app_send, Reader()) as leg:
        listener = Listener(leg)
        await listener.run()
        await trio.sleep(3 * WATCH_EVERY)  # who looks after it finds nothing wrong
    assert listener.heard == [LegEnded(Leg.CALLER, How.LOST)]

"""The agent's leg against a websocket server that does what a test tells it, frame by frame."""

import collections
import contextlib
import contextvars
import itertools
import math
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio
import trio.testing
import wsproto.events
from limits import HANG
from rig_agent_leg import LANGUAGE, Peer, accept, said
from rig_frames import bare
from rig_frames import fragmented as masked_fragments
from rig_streams import TRUSTED, authority, connected, reset, secured

from sts_trio.errors import AgentRejected, AgentUnreachable, How, Leg, LegEnded
from sts_trio.legs import agent as module
from sts_trio.legs.agent import (
    AT_ONCE,
    MAX_AUDIO,
    MAX_EARLY,
    MAX_MESSAGES,
    MAX_PER_MESSAGE,
    MAX_TEXT,
    RECEIVE,
    AgentLeg,
)
from sts_trio.legs.agent_sender import Sender
from sts_trio.legs.handshake import converse, open_agent
from sts_trio.net.poller import Poller
from sts_trio.net.rounds import Rounds
from sts_trio.wire import deepgram, frames
from sts_trio.wire.anomalies import Malformed, TooBig
from sts_trio.wire.deepgram import AgentAudioDone, Audio, KeepAlive, UpdatePrompt, Welcome
from sts_trio.wire.frames import BINARY, CLOSE, TEXT
from sts_trio.wire.handshake import MAX_ANSWER


def fragmented(opcode: int, *fragments: bytes) -> list[bytes]:
    return [bare(fragment) for fragment in masked_fragments(opcode, *fragments)]


Heard = list[Any]


def into(heard: Heard) -> Callable[[Sequence[Any]], None]:
    """A `hear` that keeps what it hears; every batch has something in it."""

    def hear(batch: Sequence[Any]) -> None:
        assert batch
        heard.extend(batch)

    return hear


@contextlib.asynccontextmanager
async def conversing(
    ours: trio.abc.Stream, peer: Peer
) -> AsyncIterator[tuple[AgentLeg, trio.Nursery]]:
    """A leg whose other end is `peer`, and a nursery for what a test wants to run beside."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.run)
        async with converse(ours, "agent.test", "/v1/agent", [(b"x-a", b"b")], LANGUAGE) as leg:
            yield leg, nursery
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def opened(*behind: bytes, **options: bool) -> AsyncIterator[tuple[AgentLeg, Peer]]:
    """A leg and its peer on memory, for the virtual clock."""
    ours, theirs = trio.testing.memory_stream_pair()
    peer = Peer(theirs, *behind, **options)
    async with conversing(ours, peer) as (leg, _):
        yield leg, peer


# --- hearing ------------------------------------------------------------------------------------


async def test_what_comes_before_anyone_listens_is_heard_first_and_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """With the handshake, and after it; and in fragments."""
    async with opened(said(Welcome("r"), Audio(b"1"))) as (leg, peer):
        await peer.say(said(Audio(b"2")), *fragmented(BINARY, b"3", b"3"), said(Audio(b"4")))
        await trio.sleep(1)
        heard: Heard = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leg.listen, into(heard))
            await trio.testing.wait_all_tasks_blocked()
            await peer.say(said(Audio(b"5")), frames.close(1000, "bye"))
        assert heard == [
            Welcome("r"),
            Audio(b"1"),
            Audio(b"2"),
            Audio(b"33"),
            Audio(b"4"),
            Audio(b"5"),
            LegEnded(Leg.AGENT, How.CLOSED, 1000, "bye"),
        ]


async def test_a_message_is_heard_in_the_task_that_read_it() -> None:
    """In no other: a wake-up is what hearing costs."""
    async with opened() as (leg, peer), trio.open_nursery() as nursery:
        listener: list[trio.lowlevel.Task] = []
        hearers: list[trio.lowlevel.Task] = []

        async def listen() -> None:
            listener.append(trio.lowlevel.current_task())
            await leg.listen(lambda batch: hearers.append(trio.lowlevel.current_task()))

        nursery.start_soon(listen)
        await trio.testing.wait_all_tasks_blocked()
        await peer.say(said(Audio(b"x")))
        await trio.testing.wait_all_tasks_blocked()
        assert len(hearers) == 1
        assert hearers != listener
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("way", ["early", "late", "in fragments"])
async def test_a_bug_in_hear_comes_out_of_listen_and_nothing_more_is_heard(
    way: str, autojump_clock: trio.testing.MockClock
) -> None:
    words = (
        fragmented(TEXT, b"x", b"y") if way == "in fragments" else [said(Audio(b"1"), Audio(b"2"))]
    )
    heard: Heard = []

    def hear(batch: Sequence[Any]) -> None:
        heard.append(batch)
        raise ZeroDivisionError("a bug in the dialogue")

    async with opened() as (leg, peer), trio.open_nursery() as nursery:
        if way == "early":
            await peer.say(*words)
            await trio.testing.wait_all_tasks_blocked()
        else:
            nursery.start_soon(_say_later, peer, *words)
        with pytest.raises(ZeroDivisionError):
            await leg.listen(hear)
        await peer.say(said(Audio(b"3")))
        await trio.testing.wait_all_tasks_blocked()
        assert len(heard) == 1
        await leg.aclose(1011)
    assert peer.closed_with == 1011


async def _say_later(peer: Peer, *data: bytes) -> None:
    await trio.testing.wait_all_tasks_blocked()
    await peer.say(*data)


@pytest.mark.parametrize(
    ("violation", "code", "reason"),
    [
        (frames.text(b"\xff"), 1007, "text that is not UTF-8: invalid start byte"),
        (b"\x81\x81\0\0\0\0x", 1002, "frame of a server with a mask"),
        (b"\xc1\x01x", 1002, "reserved bit set, but no extension was agreed on"),
    ],
)
async def test_what_breaks_the_protocol_ends_the_leg_with_its_code_behind_what_was_said_before(
    violation: bytes, code: int, reason: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with opened() as (leg, peer):
        heard: Heard = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leg.listen, into(heard))
            await peer.say(said(AgentAudioDone()), violation, said(AgentAudioDone()))
        assert heard == [AgentAudioDone(), LegEnded(Leg.AGENT, How.CLOSED, code, reason)]
        await trio.testing.wait_all_tasks_blocked()
        assert peer.closed_with == code


async def test_a_leg_may_be_handed_over_and_nothing_that_is_said_meanwhile_is_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as (leg, peer):
        first: Heard = []
        second: Heard = []
        await peer.say(said(Audio(b"1")))
        with trio.move_on_after(1):
            await leg.listen(into(first))
        await peer.say(said(Audio(b"2")))
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leg.listen, into(second))
            await trio.testing.wait_all_tasks_blocked()
            await peer.say(said(Audio(b"3")), frames.close(1000))
        assert first == [Audio(b"1")]
        assert second == [Audio(b"2"), Audio(b"3"), LegEnded(Leg.AGENT, How.CLOSED, 1000)]


async def test_an_agent_that_talks_on_and_on_while_nobody_listens_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as (leg, peer):
        for _ in range(MAX_EARLY // 4000 + 2):
            await peer.say(said(Audio(bytes(4000))))
            await trio.testing.wait_all_tasks_blocked()
        heard: Heard = []
        await leg.listen(into(heard))
        assert heard[-1] == LegEnded(Leg.AGENT, How.LOST, reason="talks, and nobody listens")
        assert sum(len(audio.data) for audio in heard[:-1]) <= MAX_EARLY


who_hears: contextvars.ContextVar[str] = contextvars.ContextVar("who_hears", default="nobody")


@pytest.mark.parametrize("is_polled", [True, False], ids=["poller", "no poller"])
async def test_what_hears_has_the_context_of_who_opened_the_leg(is_polled: bool) -> None:
    """Tasks that it starts are to log with the ids of their call."""
    poller = Poller()
    async with connected() as pair, trio.open_nursery() as nursery:
        if is_polled:
            nursery.start_soon(poller.run)
            await trio.testing.wait_all_tasks_blocked()
        peer = Peer(pair.theirs)
        nursery.start_soon(peer.run)
        names: list[str] = []
        who_hears.set("a call")
        async with converse(pair.ours, "agent.test", "/", [], LANGUAGE, poller) as leg:
            nursery.start_soon(leg.listen, lambda batch: names.append(who_hears.get()))
            await peer.say(said(Audio(b"1")))
            while not names:  # noqa: ASYNC110
                await trio.sleep(0.001)
        assert names == ["a call"]
        nursery.cancel_scope.cancel()


async def test_of_an_agent_that_floods_a_look_reads_no_more_than_its_share() -> None:
    poller = Poller()
    async with connected() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        await trio.testing.wait_all_tasks_blocked()
        peer = Peer(pair.theirs)
        nursery.start_soon(peer.run)
        sizes: list[int] = []

        def hear(batch: Sequence[Any]) -> None:
            sizes.append(sum(2 + len(message.data) for message in batch))

        async with converse(pair.ours, "agent.test", "/", [], LANGUAGE, poller) as leg:
            nursery.start_soon(leg.listen, hear)
            flood = frames.binary(b"x" * 100) * 5000
            await peer.say(flood)
            while sum(sizes) < len(flood):  # noqa: ASYNC110
                await trio.sleep(0.001)
        assert max(sizes) <= RECEIVE + 102
        nursery.cancel_scope.cancel()


async def test_one_leg_with_a_bug_does_not_keep_the_poller_from_the_others() -> None:
    poller = Poller()
    async with connected() as one, connected() as other, trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        await trio.testing.wait_all_tasks_blocked()
        bad, good = Peer(one.theirs), Peer(other.theirs)
        nursery.start_soon(bad.run)
        nursery.start_soon(good.run)
        heard: Heard = []
        bugs: list[Exception] = []

        def broken(batch: Sequence[Any]) -> None:
            raise ZeroDivisionError("a bug in the dialogue")

        async def listen(leg: AgentLeg) -> None:
            try:
                await leg.listen(broken)
            except ZeroDivisionError as exc:
                bugs.append(exc)

        async with (
            converse(one.ours, "agent.test", "/", [], LANGUAGE, poller) as bad_leg,
            converse(other.ours, "agent.test", "/", [], LANGUAGE, poller) as good_leg,
        ):
            nursery.start_soon(listen, bad_leg)
            nursery.start_soon(good_leg.listen, into(heard))
            for number in range(20):
                await bad.say(said(Audio(b"x")))
                await good.say(said(Audio(b"%d" % number)))
            while len(heard) < 20:  # noqa: ASYNC110
                await trio.sleep(0.001)
            await bad_leg.aclose(1011)
        assert heard == [Audio(b"%d" % number) for number in range(20)]
        assert len(bugs) == 1
        assert bad.closed_with == 1011
        nursery.cancel_scope.cancel()


# --- ends ---------------------------------------------------------------------------------------


async def ending(peer: Peer, leg: AgentLeg, act: Callable[[], Awaitable[object]]) -> Heard:
    heard: Heard = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leg.listen, into(heard))
        await trio.testing.wait_all_tasks_blocked()
        await act()
    return heard


@pytest.mark.parametrize(
    ("last", "heard"),
    [
        (frames.close(1000), [LegEnded(Leg.AGENT, How.CLOSED, 1000)]),
        (frames.close(4001, "later"), [LegEnded(Leg.AGENT, How.CLOSED, 4001, "later")]),
        (frames.close(), [LegEnded(Leg.AGENT, How.CLOSED, 1005)]),
        (frames.close(1009, "you!"), [LegEnded(Leg.AGENT, How.CLOSED, 1009, "you!")]),
    ],
)
async def test_a_close_frame_is_the_last_thing_heard(
    last: bytes, heard: Heard, autojump_clock: trio.testing.MockClock
) -> None:
    async with opened() as (leg, peer):
        assert await ending(peer, leg, lambda: peer.say(last, said(Audio(b"after")))) == heard
        await trio.sleep(1)
        assert len(heard) == 1


async def test_a_socket_that_ends_without_a_close_frame_is_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as (leg, peer):
        heard = await ending(peer, leg, peer.stream.aclose)
        assert heard == [LegEnded(Leg.AGENT, How.LOST)]


async def test_whoever_listens_behind_the_end_hears_nothing_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as (leg, peer):
        assert await ending(peer, leg, peer.stream.aclose) == [LegEnded(Leg.AGENT, How.LOST)]
        heard: Heard = []
        await leg.listen(into(heard))
        assert heard == []


@pytest.mark.parametrize("is_polled", [True, False], ids=["poller", "no poller"])
async def test_a_reset_is_a_loss_as_well(is_polled: bool) -> None:
    poller = Poller()
    async with connected() as pair, trio.open_nursery() as nursery:
        if is_polled:
            nursery.start_soon(poller.run)
            await trio.testing.wait_all_tasks_blocked()
        peer = Peer(pair.theirs)
        nursery.start_soon(peer.run)
        async with converse(pair.ours, "agent.test", "/", [], LANGUAGE, poller) as leg:
            heard = await ending(peer, leg, lambda: reset(pair.theirs))
            assert heard == [LegEnded(Leg.AGENT, How.LOST)]
        nursery.cancel_scope.cancel()


async def test_a_message_over_the_limit_is_told_and_ends_the_leg(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as (leg, peer):
        big = frames.binary(bytes(MAX_PER_MESSAGE + 1))
        heard = await ending(peer, leg, lambda: peer.say(big))
        assert heard[0] == TooBig(Leg.AGENT, MAX_PER_MESSAGE + 1)
        assert isinstance(heard[1], LegEnded)
        assert len(heard) == 2
        await leg.aclose(1009)
    assert peer.closed_with == 1009


async def test_after_the_goodbye_nothing_is_heard(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """However long the agent goes on talking before it answers."""
    async with opened(answers_close=False) as (leg, peer):
        heard: Heard = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leg.listen, into(heard))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(leg.aclose, 1000)
            await trio.testing.wait_all_tasks_blocked()
            await peer.say(said(Audio(b"still talking")))
            await trio.testing.wait_all_tasks_blocked()
            await peer.say(frames.close(1000))
        assert [type(message) for message in heard] == [LegEnded]


# --- an agent that floods -----------------------------------------------------------------------


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much an agent sends in a second, it is heard."""
    monkeypatch.setattr(module, "BURST", math.inf)


class Neighbour:
    """Somebody else on the same core; how often it had its turn."""

    def __init__(self) -> None:
        self.turns = 0

    async def run(self) -> None:
        while True:
            self.turns += 1
            await trio.lowlevel.checkpoint()

    async def after(self, turns: int) -> None:
        """Waits for so many more."""
        wanted = self.turns + turns
        while self.turns < wanted:
            await trio.lowlevel.checkpoint()


class Listener:
    """Keeps what it heard, and after how many turns of its neighbour's it did."""

    def __init__(self, neighbour: Neighbour) -> None:
        self.neighbour = neighbour
        self.messages: Heard = []
        self.batches: list[tuple[int, Heard]] = []

    def hear(self, batch: Sequence[Any]) -> None:
        assert len(batch) <= MAX_MESSAGES
        audio = [len(message.data) for message in batch if isinstance(message, Audio)]
        assert sum(audio[:-1]) < MAX_AUDIO
        assert max(audio, default=0) <= MAX_AUDIO
        self.messages += batch
        self.batches.append((self.neighbour.turns, list(batch)))

    @property
    def most_in_a_turn(self) -> int:
        """Messages heard while the neighbour waited for its turn."""
        between = collections.Counter[int]()
        for turn, batch in self.batches:
            between[turn] += len(batch)
        return max(between.values())


FLOODABLE = ["memory", "socket", "poller", "poller, TLS"]


@contextlib.asynccontextmanager
async def _on_memory() -> AsyncIterator[Any]:
    yield trio.testing.memory_stream_pair()


@contextlib.asynccontextmanager
async def floodable(kind: str) -> AsyncIterator[tuple[AgentLeg, Peer, Listener]]:
    """A leg that is read by the poller, or by a task of its own."""
    pairs: dict[str, Callable[[], contextlib.AbstractAsyncContextManager[Any]]] = {
        "memory": _on_memory,
        "paced": _on_memory,  # without a neighbour, so that time can pass
        "poller, TLS": secured,
    }
    async with pairs.get(kind, connected)() as pair, trio.open_nursery() as nursery:
        ours, theirs, *_ = pair
        poller = None
        if kind.startswith("poller"):
            poller = Poller()
            nursery.start_soon(poller.run)
            await trio.testing.wait_all_tasks_blocked()
        peer = Peer(theirs)
        nursery.start_soon(peer.run)
        neighbour = Neighbour()
        async with converse(ours, "localhost", "/", [], LANGUAGE, poller) as leg:
            if kind != "paced":
                nursery.start_soon(neighbour.run)
            yield leg, peer, Listener(neighbour)
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("kind", FLOODABLE)
async def test_a_flood_is_heard_whole_and_in_order_with_everyones_turn_in_between(
    kind: str,
) -> None:
    said_ = [Audio(bytes([number % 250]) * (number % 3)) for number in range(50_000)]
    async with floodable(kind) as (leg, peer, listener), trio.open_nursery() as nursery:
        nursery.start_soon(peer.say, said(*said_), frames.close(1000))
        await leg.listen(listener.hear)
        assert listener.messages == [*said_, LegEnded(Leg.AGENT, How.CLOSED, 1000)]
        # Trio shuffles: the leg may have some turns before the neighbour has one.
        assert listener.most_in_a_turn <= 4 * MAX_MESSAGES


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("kind", FLOODABLE)
async def test_a_message_of_much_audio_is_heard_a_part_at_a_time(kind: str) -> None:
    audio = random.Random(1).randbytes(MAX_PER_MESSAGE)
    async with floodable(kind) as (leg, peer, listener), trio.open_nursery() as nursery:
        nursery.start_soon(peer.say, said(Audio(audio), AgentAudioDone()), frames.close(1000))
        await leg.listen(listener.hear)
        *parts, done, ended = listener.messages
        assert b"".join(part.data for part in parts) == audio
        assert done == AgentAudioDone()
        assert ended == LegEnded(Leg.AGENT, How.CLOSED, 1000)
        assert listener.most_in_a_turn <= 6


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("kind", FLOODABLE)
async def test_what_came_before_a_loss_is_heard_before_it(kind: str) -> None:
    said_ = [AgentAudioDone()] * 3 * MAX_MESSAGES
    async with floodable(kind) as (leg, peer, listener), trio.open_nursery() as nursery:
        nursery.start_soon(leg.listen, listener.hear)
        await peer.say(said(*said_))
        await peer.stream.aclose()
    assert listener.messages == [*said_, LegEnded(Leg.AGENT, How.LOST)]


async def test_in_the_midst_of_a_flood_one_listener_may_follow_another() -> None:
    said_ = [Audio(bytes([number])) for number in range(200)] * 10
    async with floodable("memory") as (leg, peer, first), trio.open_nursery() as nursery:
        second = Listener(first.neighbour)
        with trio.CancelScope() as scope:

            def hear_one(batch: Sequence[Any]) -> None:
                first.hear(batch)
                scope.cancel()

            nursery.start_soon(peer.say, said(*said_), frames.close(1000))
            await leg.listen(hear_one)
        assert len(first.batches) < 3
        await first.neighbour.after(100)
        await leg.listen(second.hear)
        assert [*first.messages, *second.messages[:-1]] == said_


@pytest.mark.usefixtures("unhurried")
async def test_while_a_flood_is_heard_no_more_of_it_is_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What the agent goes on sending waits at its own end, and in no memory of ours."""
    ours, theirs = trio.testing.memory_stream_pair()
    peer = Peer(theirs)
    heard = 0
    reads: list[int] = []  # what had been heard by then
    receive_some = ours.receive_some

    async def receive(max_bytes: int | None = None) -> bytes:
        reads.append(heard)
        return bytes(await receive_some(RECEIVE))

    def hear(batch: Sequence[Any]) -> None:
        nonlocal heard
        heard += len(batch)

    ours.receive_some = receive  # type: ignore[method-assign]
    async with conversing(ours, peer) as (leg, nursery):
        reads.clear()
        nursery.start_soon(peer.say, said(Audio(b"")) * 40_000, frames.close(1000))
        await leg.listen(hear)
    in_one_read = RECEIVE // 2
    assert [after - before for before, after in itertools.pairwise(reads[:-1])] == [in_one_read] * 3


@pytest.mark.usefixtures("unhurried")
async def test_of_a_flood_nothing_is_heard_once_we_have_said_goodbye() -> None:
    """Not even what has been understood already."""
    async with floodable("memory") as (leg, peer, listener), trio.open_nursery() as nursery:
        nursery.start_soon(leg.listen, listener.hear)
        nursery.start_soon(peer.say, said(Audio(b"")) * 40_000)
        while not listener.messages:
            await trio.lowlevel.checkpoint()
        await leg.aclose(1000)
        late = len(listener.messages)
        assert late < 40_000
        assert isinstance(listener.messages[-1], LegEnded)
        await listener.neighbour.after(1000)
        assert len(listener.messages) == late


@pytest.mark.usefixtures("unhurried")
async def test_a_flood_that_comes_before_anyone_listens_is_heard_a_part_at_a_time() -> None:
    many = MAX_EARLY // 4
    async with floodable("memory") as (leg, peer, listener):
        await peer.say(said(Audio(b"x")) * many, frames.close(1000))
        await listener.neighbour.after(1000)
        await leg.listen(listener.hear)
        assert len(listener.messages) == many + 1
        assert listener.most_in_a_turn <= 4 * MAX_MESSAGES


async def test_a_ping_unanswered_in_the_midst_of_a_flood_is_told_behind_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened(answers_pings=False) as (leg, peer), trio.open_nursery() as nursery:
        heard: Heard = []

        async def listen() -> None:
            with trio.move_on_after(2 * module.PING_EVERY):
                await leg.listen(into(heard))  # both end at that moment

        await trio.sleep(2 * module.PING_EVERY - 1)
        nursery.start_soon(peer.say, said(Audio(b"x")) * 1000)
        await trio.sleep(2)
        await leg.listen(into(heard))
    assert heard == [*[Audio(b"x")] * 1000, LegEnded(Leg.AGENT, How.SILENT)]


PACED = {
    "empty audio": frames.binary(b""),
    "audio": frames.binary(bytes(160)),
    "texts": said(AgentAudioDone()),
    "pings": frames.ping(),
    "pongs": frames.pong(),
    "texts of a megabyte": frames.text(b" " * 2**20),
    "audio of a megabyte": frames.binary(bytes(2**20)),
}


@pytest.mark.parametrize("name", PACED)
async def test_of_a_flood_no_more_is_heard_in_a_second_than_may_be(
    name: str, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the average, once the first of it has been; what else was sent waits at the agent's."""
    message = PACED[name]
    cost = len(message) + module.FRAME
    seconds = 20
    enough = (module.BURST + 2 * seconds * module.RATE) // cost
    taken = 0
    understand = AgentLeg._understand

    def count(leg: AgentLeg, data: bytes) -> Any:
        nonlocal taken
        taken += len(data)
        return understand(leg, data)

    monkeypatch.setattr(AgentLeg, "_understand", count)
    async with floodable("paced") as (leg, peer, _), trio.open_nursery() as nursery:
        nursery.start_soon(leg.listen, into([]))
        nursery.start_soon(peer.say, message * enough)
        await trio.sleep(seconds)
        heard = taken / len(message) * cost
        # A piece is heard whole, and may be of a frame for each two bytes.
        piece = AT_ONCE + AT_ONCE // 2 * module.FRAME
        assert abs(heard - module.BURST - seconds * module.RATE) <= piece
        nursery.cancel_scope.cancel()


async def test_who_has_flooded_is_heard_as_ever_a_little_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with floodable("paced") as (leg, peer, _), trio.open_nursery() as nursery:
        heard: Heard = []
        nursery.start_soon(leg.listen, into(heard))
        await peer.say(said(Audio(b"x")) * 10_000)
        await trio.sleep(10)
        assert len(heard) == 10_000
        for number in range(100):  # at its usual pace
            await peer.say(said(Audio(bytes(160))))
            await trio.testing.wait_all_tasks_blocked()
            assert len(heard) == 10_000 + number + 1
            await trio.sleep(0.02)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["poller", "poller, TLS"])
async def test_the_poller_does_not_look_at_who_has_to_wait(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would look again and again, and never sleep; and afterwards it looks as ever."""
    looks = collections.Counter[bool]()
    look = AgentLeg._look

    def count(leg: AgentLeg) -> None:
        looks[leg._is_behind] += 1
        look(leg)

    monkeypatch.setattr(AgentLeg, "_look", count)
    many = module.BURST // module.FRAME + 500
    async with floodable(kind) as (leg, peer, listener), trio.open_nursery() as nursery:
        nursery.start_soon(leg.listen, listener.hear)
        await peer.say(said(Audio(b"x")) * many)
        while len(listener.messages) < many:
            await trio.lowlevel.checkpoint()
        await peer.say(said(Audio(b"y")))
        while len(listener.messages) == many:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert looks[True] == 0
    assert looks[False] > 2


@pytest.mark.parametrize("length", [MAX_TEXT, MAX_TEXT + 1, MAX_PER_MESSAGE])
async def test_a_text_that_is_too_long_is_passed_over_unread(
    length: int, autojump_clock: trio.testing.MockClock
) -> None:
    text = b'{"type":"AgentThinking","content":"%s"}'
    text %= b"x" * (length - len(text) + 2)
    assert len(text) == length
    async with opened() as (leg, peer):
        heard: Heard = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leg.listen, into(heard))
            await peer.say(frames.text(text), said(Audio(b"1")), frames.close(1000))
    if length <= MAX_TEXT:
        assert isinstance(heard[0], deepgram.AgentThinking)
    else:
        assert heard[0] == Malformed(Leg.AGENT, f"a text of over {MAX_TEXT} bytes")
    assert heard[1:] == [Audio(b"1"), LegEnded(Leg.AGENT, How.CLOSED, 1000)]


async def test_many_pings_in_one_piece_have_one_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as (leg, peer), trio.open_nursery() as nursery:
        nursery.start_soon(leg.listen, into([]))
        pings = b"".join(frames.ping(b"%d" % number) for number in range(1000))
        assert len(pings) < AT_ONCE
        await peer.say(pings)
        await trio.testing.wait_all_tasks_blocked()
        assert [event.payload for event in peer.got] == [b"999"]
        await peer.say(frames.ping(b"again"))
        await trio.testing.wait_all_tasks_blocked()
        assert len(peer.got) == 2
        nursery.cancel_scope.cancel()


# --- pings --------------------------------------------------------------------------------------


async def test_a_peer_that_answers_no_ping_is_found_silent_within_thirty_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened(answers_pings=False) as (leg, peer):
        heard: Heard = []
        await leg.listen(into(heard))
        assert heard == [LegEnded(Leg.AGENT, How.SILENT)]
        assert trio.current_time() == 2 * module.PING_EVERY <= 30
        await peer.gone.wait()


async def test_a_peer_that_answers_pings_is_not_silent_however_long_it_says_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as (leg, peer):
        heard: Heard = []
        with trio.move_on_after(600):
            await leg.listen(into(heard))
        assert heard == []
        assert len(peer.got) == 59  # the sixtieth is just being sent
        assert all(isinstance(event, wsproto.events.Ping) for event in peer.got)


@pytest.mark.parametrize("answers", [True, False], ids=["answers", "answers none"])
async def test_the_poller_has_all_its_legs_pinged(answers: bool) -> None:
    poller = Poller()
    poller.rounds = Rounds(0.02)
    async with connected() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        await trio.testing.wait_all_tasks_blocked()
        peer = Peer(pair.theirs, answers_pings=answers)
        nursery.start_soon(peer.run)
        heard: Heard = []
        async with converse(pair.ours, "agent.test", "/", [], LANGUAGE, poller) as leg:
            if answers:
                nursery.start_soon(leg.listen, into(heard))
                while len(peer.got) < 5:  # noqa: ASYNC110
                    await trio.sleep(0.001)
                assert heard == []
            else:
                await leg.listen(into(heard))
                assert heard == [LegEnded(Leg.AGENT, How.SILENT)]
        pinged = len(peer.got)
        await trio.sleep(0.1)
        assert len(peer.got) == pinged
        nursery.cancel_scope.cancel()


async def test_pings_are_answered(autojump_clock: trio.testing.MockClock) -> None:
    async with opened() as (leg, peer), trio.open_nursery() as nursery:
        nursery.start_soon(leg.listen, into([]))
        await peer.say(frames.ping(b"there?"))
        await trio.testing.wait_all_tasks_blocked()
        assert peer.got == [wsproto.events.Pong(payload=b"there?")]
        nursery.cancel_scope.cancel()


async def test_a_ping_that_cannot_be_sent_any_more_is_nobodys_fault(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as (leg, peer):
        heard = await ending(peer, leg, lambda: peer.say(frames.close(1000)))
        await trio.sleep(3 * module.PING_EVERY)
        assert len(heard) == 1


async def test_behind_our_goodbye_no_ping_is_sent(autojump_clock: trio.testing.MockClock) -> None:
    async with opened(answers_close=False) as (leg, peer), trio.open_nursery() as nursery:
        nursery.start_soon(leg.listen, into([]))
        await trio.sleep(module.PING_EVERY - 1)
        with trio.move_on_after(2):
            await leg.aclose(1000)
        assert [type(event) for event in peer.got] == [wsproto.events.CloseConnection]
        nursery.cancel_scope.cancel()


async def test_behind_our_goodbye_no_ping_is_answered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened(answers_close=False) as (leg, peer), trio.open_nursery() as nursery:
        nursery.start_soon(leg.listen, into([]))
        with trio.move_on_after(1):
            await leg.aclose(1000)
        await peer.say(frames.ping(b"there?"))
        await trio.testing.wait_all_tasks_blocked()
        assert [type(event) for event in peer.got] == [wsproto.events.CloseConnection]
        nursery.cancel_scope.cancel()


async def test_a_peer_that_reads_nothing_is_found_silent_as_its_ping_is_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PING_EVERY", 0.05)
    async with connected(small=True) as pair:
        peer = Peer(pair.theirs, reads=False)
        async with conversing(pair.ours, peer) as (leg, nursery):
            heard: Heard = []
            while leg.try_send(Audio(bytes(3000))):
                pass
            nursery.start_soon(leg.send, Audio(bytes(3000)))
            await leg.listen(into(heard))
            assert heard == [LegEnded(Leg.AGENT, How.SILENT)]


class Full(trio.abc.Stream):
    """A stream that takes nothing while it `is_full`."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._takes = trio.Event()
        self._takes.set()

    def fill(self) -> None:
        self._takes = trio.Event()

    def drain(self) -> None:
        self._takes.set()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._takes.wait()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._takes.wait()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


@pytest.mark.parametrize("ours_is_first", [True, False])
async def test_pings_of_both_sides_that_cross_on_a_full_socket_are_both_answered(
    ours_is_first: bool, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    peer, full = Peer(theirs), Full(ours)
    async with conversing(full, peer) as (leg, nursery):
        nursery.start_soon(leg.listen, into([]))
        await trio.sleep(module.PING_EVERY - 1)
        full.fill()
        nursery.start_soon(leg.send, Audio(b"x"))
        await trio.sleep(2 if ours_is_first else 0)
        for payload in b"1", b"2":  # of several the last may do
            await peer.say(frames.ping(payload))
        await trio.sleep(2)
        full.drain()
        await trio.testing.wait_all_tasks_blocked()
        expected = [wsproto.events.Ping(payload=b""), wsproto.events.Pong(payload=b"2")]
        assert peer.got == [b"x", *(expected if ours_is_first else reversed(expected))]
        await leg.aclose(1000)
        await peer.gone.wait()
        assert len(peer.got) == 4


async def test_a_pong_that_waits_goes_before_our_goodbye(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    peer, full = Peer(theirs), Full(ours)
    async with conversing(full, peer) as (leg, nursery):
        nursery.start_soon(leg.listen, into([]))
        full.fill()
        await peer.say(frames.ping(b"1"))
        nursery.start_soon(leg.aclose, 1000)
        await trio.testing.wait_all_tasks_blocked()
        full.drain()
        await peer.gone.wait()
        assert [type(event) for event in peer.got] == [
            wsproto.events.Pong,
            wsproto.events.CloseConnection,
        ]


class Turnstile:
    """A stream that takes what is sent when it is let through."""

    def __init__(self) -> None:
        self.took: list[int] = []  # opcodes
        self._waiting = trio.lowlevel.ParkingLot()

    async def send_all(self, data: bytes) -> None:
        await self._waiting.park()
        self.took.append(data[0] & 0xF)

    async def let_through(self) -> None:
        self._waiting.unpark()
        await trio.testing.wait_all_tasks_blocked()


async def test_nothing_is_written_behind_a_goodbye_that_had_to_wait_for_its_turn() -> None:
    """Not even the ping that falls due while it waits."""
    stream: Any = Turnstile()
    async with trio.open_nursery() as nursery:
        sender = Sender(stream, LANGUAGE, nursery)
        nursery.start_soon(sender.send, Audio(b"is being sent"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(sender.say_goodbye, 1000)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(sender.send, Audio(b"comes too late"))
        await trio.testing.wait_all_tasks_blocked()
        await stream.let_through()
        sender.ping()
        for _ in range(4):
            await stream.let_through()
    assert stream.took == [BINARY, CLOSE]


# --- telling ------------------------------------------------------------------------------------


async def test_what_is_written_through_keeps_its_place_among_what_is_sent() -> None:
    """With a socket that is mostly full, pings of both sides in between, and a goodbye at last."""
    draw = random.Random(4)
    async with connected(small=True) as pair:
        peer = Peer(pair.theirs)
        told: list[deepgram.ToAgent] = []
        through = waited = 0
        async with conversing(pair.ours, peer) as (leg, nursery):
            nursery.start_soon(leg.listen, into([]))
            for number in range(400):
                length = draw.choice([0, 1, 160, 400, 3000, 9000])
                message: deepgram.ToAgent = Audio(bytes([number % 251]) * length)
                if number % 9 == 0:
                    message = UpdatePrompt(str(number))
                if number % 40 == 0:
                    await peer.say(frames.ping(b"%d" % number))
                if number % 7 == 0:
                    leg._sender.ping()
                told.append(message)
                if leg.try_send(message):
                    through += 1
                else:
                    waited += 1
                    await leg.send(message)
            await leg.aclose(1000)
            await peer.gone.wait()
        assert peer.messages == told
        assert peer.closed_with == 1000
        assert any(isinstance(event, wsproto.events.Ping) for event in peer.got)
        assert any(isinstance(event, wsproto.events.Pong) for event in peer.got)
        assert through > 100
        assert waited > 50


async def test_audio_is_written_through_and_texts_are_not() -> None:
    async with connected() as pair:
        peer = Peer(pair.theirs)
        async with conversing(pair.ours, peer) as (leg, nursery):
            nursery.start_soon(leg.listen, into([]))
            assert leg.try_send(Audio(b"x"))
            assert not leg.try_send(UpdatePrompt("µ" * 200))
            assert not leg.try_send(KeepAlive())
            assert leg.try_send(Audio(b"y"))
            await leg.aclose(1000)
            await peer.gone.wait()
        assert peer.messages == [Audio(b"x"), Audio(b"y")]


async def test_a_text_that_the_socket_does_not_take_whole_arrives_though_nothing_follows() -> None:
    """Between the settings and their being applied there is nothing to push the rest out."""
    async with connected(small=True) as pair:
        peer = Peer(pair.theirs)
        message = UpdatePrompt("x" * 1_000_000)
        async with conversing(pair.ours, peer) as (leg, nursery):
            nursery.start_soon(leg.listen, into([]))
            if not leg.try_send(message):
                await leg.send(message)
            while not peer.messages:  # noqa: ASYNC110
                await trio.sleep(0.001)
        assert peer.messages == [message]


async def test_a_stream_that_only_waits_is_not_written_through(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as (leg, peer):
        assert not leg.try_send(Audio(b"x"))
        await leg.send(Audio(b"x"))
        await trio.testing.wait_all_tasks_blocked()
        assert peer.messages == [Audio(b"x")]


@pytest.mark.parametrize("who", ["we", "they", "socket"])
async def test_nothing_is_told_after_the_end(who: str) -> None:
    async with connected() as pair:
        peer = Peer(pair.theirs, answers_close=False)
        async with conversing(pair.ours, peer) as (leg, nursery):
            async with trio.open_nursery() as listening:
                listening.start_soon(leg.listen, into([]))
                await trio.testing.wait_all_tasks_blocked()
                if who == "we":
                    nursery.start_soon(leg.aclose, 1000)
                    await trio.testing.wait_all_tasks_blocked()
                    listening.cancel_scope.cancel()  # the agent does not answer
                elif who == "they":
                    await peer.say(frames.close(1000))
                else:
                    await reset(pair.theirs)
            assert not leg.try_send(Audio(b"x"))
            await leg.send(Audio(b"x"))
            await leg.send(KeepAlive())
            nursery.cancel_scope.cancel()
        assert peer.messages == []


async def test_the_goodbye_goes_behind_what_the_socket_did_not_take_at_once() -> None:
    async with connected(small=True) as pair:
        peer = Peer(pair.theirs, reads=False)
        told: list[deepgram.ToAgent] = []
        async with conversing(pair.ours, peer) as (leg, nursery):
            nursery.start_soon(leg.listen, into([]))
            while leg.try_send(Audio(bytes([len(told) % 251]) * 3000)):
                told.append(Audio(bytes([len(told) % 251]) * 3000))
            peer.reading.set()
            await leg.aclose(1000)
            await peer.gone.wait()
        assert peer.messages == told
        assert peer.closed_with == 1000


# --- the handshake ------------------------------------------------------------------------------


async def test_the_handshake_asks_for_the_path_with_our_headers_and_no_compression(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as (_, peer):
        assert peer.request.target == "/v1/agent"
        assert peer.request.host == "agent.test"
        assert (b"x-a", b"b") in peer.request.extra_headers
        assert peer.request.extensions == []


async def dialled(answer: Callable[[trio.abc.Stream], Awaitable[object]]) -> AgentUnreachable:
    """Why there is no leg with an agent that answers like this."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer, theirs)
        with pytest.raises(AgentUnreachable) as caught:
            async with converse(ours, "agent.test", "/", [], LANGUAGE):
                pytest.fail("there is a leg")
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()
    return caught.value


def answering(*answer: bytes) -> Callable[[trio.abc.Stream], Awaitable[None]]:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        for part in answer:
            await stream.send_all(part)
        await stream.aclose()

    return serve


async def _go_at_once(stream: trio.abc.Stream) -> None:
    await trio.aclose_forcefully(stream)


@pytest.mark.parametrize(
    "answer",
    [
        _go_at_once,
        answering(),
        answering(b"HTTP/1.1 101 Switching Protocols\r\nUpgr"),
        answering(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        answering(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        answering(b"\x16\x03\x01\x02\x00\x01" * 100),
    ],
    ids=["gone", "nothing", "half", "another protocol", "no headers", "TLS"],
)
async def test_what_is_no_handshake_is_an_agent_that_cannot_be_reached(
    answer: Callable[[trio.abc.Stream], Awaitable[object]],
    autojump_clock: trio.testing.MockClock,
) -> None:
    error = await dialled(answer)
    assert not isinstance(error, AgentRejected)
    assert str(error).startswith("agent.test: no websocket handshake")


async def test_a_refusal_has_its_status_and_the_first_of_its_words(
    autojump_clock: trio.testing.MockClock,
) -> None:
    body = b"no funds \xff " + b"x" * 1000
    head = b"HTTP/1.1 402 Payment Required\r\ncontent-length: %d\r\n\r\n" % len(body)
    error = await dialled(answering(head, body[:5], body[5:]))
    assert isinstance(error, AgentRejected)
    assert error.status == 402
    assert str(error).startswith("HTTP 402: no funds \N{REPLACEMENT CHARACTER} xxx")
    assert len(str(error)) < 400


async def test_a_refusal_without_a_body_has_its_status(
    autojump_clock: trio.testing.MockClock,
) -> None:
    error = await dialled(answering(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n"))
    assert str(error) == "HTTP 401"


@pytest.mark.parametrize("length", [b"content-length: 1000000000\r\n", b""])
@pytest.mark.parametrize("size", [100, 8192, 1_000_000])
async def test_of_a_refusal_without_end_no_more_is_read_than_may_be(
    length: bytes, size: int
) -> None:
    """However it is cut, and whether it tells its length or not."""
    sent = 0

    async def serve(stream: trio.abc.Stream) -> None:
        nonlocal sent
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 403 Forbidden\r\n" + length + b"\r\n")
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"x" * size)
                sent += size

    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs)
        with pytest.raises(AgentRejected) as caught:
            async with converse(ours, "agent.test", "/", [], LANGUAGE):
                pytest.fail("there is a leg")
    assert str(caught.value) == "HTTP 403: " + "x" * 300
    assert sent < MAX_ANSWER + 2 * size


@pytest.mark.parametrize("body", [b"", b"no funds", b"no funds \xe2\x82"])
async def test_a_refusal_whose_end_is_that_of_the_connection_has_its_status(
    body: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    error = await dialled(answering(b"HTTP/1.0 402 Payment Required\r\n\r\n" + body))
    assert isinstance(error, AgentRejected)
    assert error.status == 402
    assert str(error).startswith("HTTP 402: no funds" if body else "HTTP 402")


async def test_a_refusal_whose_connection_is_reset_has_its_status() -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 100\r\n\r\nno fu")
        await trio.testing.wait_all_tasks_blocked(0.01)  # what is unread goes with a reset
        await reset(stream)

    async with connected() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(refuse, pair.theirs)
        with pytest.raises(AgentRejected, match="HTTP 403: no fu"):
            async with converse(pair.ours, "agent.test", "/", [], LANGUAGE):
                pytest.fail("there is a leg")


async def test_a_handshake_that_never_comes_is_waited_for_until_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The call sets the limit."""
    ours, theirs = trio.testing.memory_stream_pair()
    with trio.move_on_after(1000) as scope:
        async with converse(ours, "agent.test", "/", [], LANGUAGE):
            pytest.fail("there is a leg")
    assert scope.cancelled_caught
    assert await theirs.receive_some()  # the request
    assert await theirs.receive_some() == b""


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
async def test_the_handshake_may_be_cut_anywhere_and_the_first_words_with_it(
    line_end: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    """A message that looks like the end of a handshake is none."""
    words = said(Audio(b"one\r\n\r\n"), Audio(b"two")) + frames.close(1000)

    async def heard(pieces: Callable[[bytes], list[bytes]]) -> Heard:
        ours, theirs = trio.testing.memory_stream_pair()

        async def serve() -> None:
            for piece in pieces(accept(bytes(await theirs.receive_some()), line_end) + words):
                await theirs.send_all(piece)
                await trio.testing.wait_all_tasks_blocked()

        heard: Heard = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            async with converse(ours, "agent.test", "/", [], LANGUAGE) as leg:
                await leg.listen(into(heard))
            nursery.cancel_scope.cancel()
        return heard

    expected = [
        Audio(b"one\r\n\r\n"),
        Audio(b"two"),
        LegEnded(Leg.AGENT, How.CLOSED, 1000),
    ]
    assert await heard(lambda stream: [stream]) == expected
    assert await heard(lambda stream: [stream[at : at + 1] for at in range(len(stream))]) == (
        expected
    )
    for at in range(1, 160):
        assert await heard(lambda stream, at=at: [stream[:at], stream[at:]]) == expected  # type: ignore[misc]


@pytest.mark.parametrize(
    "answer",
    [
        answering(b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 101 Switching\r\n\r\n"),
        answering(b"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: wrong\r\n\r\n", b"\x81\x00"),
        answering(b"HTTP/1.1 101 Switching\r\n" + b"X: x\r\n" * 40_000),
    ],
    ids=["an interim answer", "a wrong token", "without end"],
)
async def test_a_handshake_that_is_not_ours_is_refused(
    answer: Callable[[trio.abc.Stream], Awaitable[object]],
    autojump_clock: trio.testing.MockClock,
) -> None:
    error = await dialled(answer)
    assert str(error).startswith("agent.test: no websocket handshake")


async def test_what_cannot_be_asked_for_is_not(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    with pytest.raises(AgentUnreachable, match=r"agent\.test: no websocket handshake .*target"):
        async with converse(ours, "agent.test", "/two words", [], LANGUAGE):
            pytest.fail("there is a leg")
    assert await theirs.receive_some() == b""


# --- dialling -----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def served(tls: bool = False) -> AsyncIterator[tuple[str, list[Peer]]]:
    """An agent's address, and the peer of each connection."""
    peers: list[Peer] = []

    async def serve(tcp: trio.SocketStream) -> None:
        stream = trio.SSLStream(tcp, TRUSTED.server, server_side=True) if tls else tcp
        peers.append(Peer(stream))
        await peers[-1].run()

    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            yield f"localhost:{listener.socket.getsockname()[1]}", peers
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_dialling_asks_for_the_path_of_the_url_with_the_key(scheme: str) -> None:
    async with served(tls=scheme == "wss") as (address, peers):
        url = f"{scheme}://{address}"
        async with open_agent(url + "/v1/x", "secret", LANGUAGE, ssl_context=TRUSTED.client) as leg:
            assert leg.try_send(Audio(b"tried"))
            await leg.send(Audio(b"sent"))
            await leg.aclose(1000)
        async with open_agent(url, None, LANGUAGE, ssl_context=TRUSTED.client) as leg:
            await leg.aclose(1000)
        async with open_agent(
            url + "?a=1&b", "Bearer t", LANGUAGE, ssl_context=TRUSTED.client
        ) as leg:
            await leg.aclose(1000)
    with_key, without, with_query = (peer.request for peer in peers)
    assert with_key.target == "/v1/x"
    assert with_key.host == address
    assert dict(with_key.extra_headers)[b"authorization"] == b"Token secret"
    assert without.target == "/"
    assert b"authorization" not in dict(without.extra_headers)
    assert with_query.target == "/?a=1&b"
    assert dict(with_query.extra_headers)[b"authorization"] == b"Bearer t"
    assert peers[0].messages == [Audio(b"tried"), Audio(b"sent")]
    assert [peer.closed_with for peer in peers] == [1000, 1000, 1000]


async def test_an_agent_that_cannot_be_trusted_is_named_with_the_reason() -> None:
    async with served(tls=True) as (address, peers):
        with pytest.raises(AgentUnreachable, match=f"{address}: .*certificate verify failed"):
            async with open_agent(
                f"wss://{address}/", None, LANGUAGE, ssl_context=authority().client
            ):
                pytest.fail("there is a leg")
        assert not peers[0].got


async def test_an_address_where_nobody_listens_is_named() -> None:
    with trio.fail_after(HANG), socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        tls: Any = None
        with pytest.raises(AgentUnreachable, match=rf"cannot connect to 127\.0\.0\.1:{port}"):
            async with open_agent(f"ws://127.0.0.1:{port}/", None, LANGUAGE, ssl_context=tls):
                pytest.fail("there is a leg")


@pytest.mark.parametrize(("scheme", "port"), [("ws", 80), ("wss", 443)])
async def test_a_url_without_a_port_means_the_schemes_own(
    scheme: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(host: str, port: int) -> None:
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(trio, "open_tcp_stream", refuse)
    tls: Any = None
    with pytest.raises(AgentUnreachable, match=f"cannot connect to agent.test:{port}: refused"):
        async with open_agent(f"{scheme}://agent.test/", None, LANGUAGE, ssl_context=tls):
            pytest.fail("there is a leg")

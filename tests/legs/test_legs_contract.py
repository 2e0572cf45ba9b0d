"""What `sts_trio.legs` promises, held against every leg: real ones, and the fakes of other tests.

A `Rig` is a leg and its peer. Messages are numbers here; each rig has its own words for them.
"""

import contextlib
import functools
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import hypercorn.trio
import pytest
import trio
import trio.testing
import wsproto.events
from hypercorn.config import Config
from limits import HANG
from rig_adopted import mark, play
from rig_agent_leg import LANGUAGE, Peer, said
from rig_cancel import CancelAtStep
from rig_peers import SETTINGS, FakeTwilio, SocketTwilio
from rig_streams import TRUSTED, connected
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState

from sts_trio.agents.prewarm import PrewarmedSession
from sts_trio.errors import How, Leg, LegEnded
from sts_trio.legs.adoption import can_adopt, open_adopted
from sts_trio.legs.caller_asgi import MAX_PER_MESSAGE, WATCH_EVERY, open_caller
from sts_trio.legs.handshake import converse
from sts_trio.net import hypercorn_guard
from sts_trio.net.poller import Poller
from sts_trio.net.streams import TlsStream
from sts_trio.net.ticker import Ticker
from sts_trio.testing.clock import CUSHION
from sts_trio.wire import frames, twilio
from sts_trio.wire.anomalies import Malformed, TooBig
from sts_trio.wire.deepgram import Audio, SettingsApplied, Welcome
from sts_trio.wire.deepgram_settings import Settings

Opener = Callable[[], contextlib.AbstractAsyncContextManager[Any]]


class Rig(ABC):
    """A leg, opened in a task of its own, and its peer.

    `leave` and `cancel` make that task leave the leg's context, and wait until it has.
    """

    which: Leg
    leg: Any

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.idle: list[float] = []
        self.opened = trio.Event()
        self.listened = trio.Event()
        self._leaving = trio.Event()
        self._left = trio.Event()
        self._scope = trio.CancelScope()

    async def own(self, opener: Opener) -> None:
        with self._scope:
            async with opener() as self.leg:
                self.opened.set()
                await self._leaving.wait()
        self._left.set()

    async def leave(self) -> None:
        self._leaving.set()
        await self._left.wait()

    async def cancel(self) -> None:
        self._scope.cancel()
        await self._left.wait()

    def hear(self, batch: Sequence[Any]) -> None:
        assert batch
        self.heard.extend(batch)

    async def listen(self) -> None:
        await self.leg.listen(self.hear, self.idle.append)
        self.listened.set()

    async def say(self, number: int) -> bool:
        """Whether it could be said at once."""
        at_once: bool = self.leg.try_send(self.ours(number))
        if not at_once:
            await self.leg.send(self.ours(number))
        return at_once

    @property
    def ended(self) -> list[LegEnded]:
        return [message for message in self.heard if isinstance(message, LegEnded)]

    @abstractmethod
    def theirs(self, number: int) -> Any:
        """A message of the peer's, as it is heard."""

    @abstractmethod
    def ours(self, number: int) -> Any: ...

    @property
    @abstractmethod
    def got(self) -> list[Any]:
        """Of our messages, what the peer has got."""

    @property
    @abstractmethod
    def goodbye(self) -> int | None:
        """The code of the close frame that the peer has got."""

    @property
    @abstractmethod
    def is_gone(self) -> bool:
        """Whether the peer has seen the end of the socket."""

    @abstractmethod
    async def tell(self, *numbers: int) -> None:
        """The peer sends messages."""

    @abstractmethod
    async def close(self) -> None:
        """The peer sends a close frame, 1000."""

    @abstractmethod
    async def lose(self) -> None:
        """The peer's end of the socket is closed without one."""


async def until(condition: Callable[[], object]) -> None:
    """Of peers, nothing tells that something has come; the same for the virtual clock and real."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.002)


# --- the caller's, on fakes ---------------------------------------------------------------------


class CallerRig(Rig):
    which = Leg.CALLER

    def theirs(self, number: int) -> twilio.Mark:
        return mark(number)

    def ours(self, number: int) -> twilio.PlayMedia:
        return play(number)


class FakeRig(CallerRig):
    def __init__(self, phone: FakeTwilio | SocketTwilio) -> None:
        super().__init__()
        self.phone = phone

    @property
    def got(self) -> list[twilio.ToCaller]:
        return self.phone.played

    @property
    def goodbye(self) -> int | None:
        return self.phone.goodbye[1] if self.phone.goodbye else None

    @property
    def is_gone(self) -> bool:
        return self.phone.gone_at is not None

    async def tell(self, *numbers: int) -> None:
        self.phone.tell(*map(mark, numbers))

    async def close(self) -> None:
        self.phone.close()

    async def lose(self) -> None:
        self.phone.lose()


@contextlib.asynccontextmanager
async def on_a_fake(kind: type[FakeTwilio] | type[SocketTwilio]) -> AsyncIterator[Rig]:
    rig = FakeRig(kind())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.own, rig.phone.open)
        yield rig
        nursery.cancel_scope.cancel()


# --- the caller's, on Hypercorn -----------------------------------------------------------------


class WiredRig(CallerRig):
    """A caller on a connection to Hypercorn. It answers what a websocket client has to."""

    def __init__(self, *, is_fast: bool, trust: ssl.SSLContext | None) -> None:
        super().__init__()
        self.ticker = Ticker()
        self._is_fast = is_fast
        self._trust = trust
        self._wire = WSConnection(ConnectionType.CLIENT)
        self._tcp: trio.SocketStream
        self._stream: trio.abc.Stream
        self._got: list[twilio.ToCaller] = []
        self._goodbye: int | None = None
        self._is_gone = False
        self._sending = trio.Lock()

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        event = await receive()
        if scope["type"] == "lifespan":
            while event["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
                event = await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        connection = hypercorn_guard.connection.get()
        assert connection is not None
        assert can_adopt(send, connection)
        if self._is_fast:
            await self.own(functools.partial(open_adopted, send, connection, self.ticker))
        else:
            await self.own(functools.partial(open_caller, receive, send, connection, self.ticker))

    async def dial(self, port: int) -> None:
        self._tcp = self._stream = await trio.open_tcp_stream("127.0.0.1", port)
        if self._trust is not None:
            self._stream = trio.SSLStream(self._tcp, self._trust, server_hostname="localhost")
        async with self._tcp:
            await self._send(wsproto.events.Request(host="127.0.0.1", target="/"))
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while data := await self._stream.receive_some():
                    self._wire.receive_data(bytes(data))
                    for event in self._wire.events():
                        await self._take(event)
            self._is_gone = True

    async def _take(self, event: wsproto.events.Event) -> None:
        match event:
            case wsproto.events.TextMessage(data=data):
                assert event.message_finished
                self._got.append(twilio.decode_as_twilio(data))
            case wsproto.events.Ping():
                if self._wire.state is ConnectionState.OPEN:
                    await self._send(event.response())
            case wsproto.events.CloseConnection(code=code):
                self._goodbye = code
                if self._wire.state is ConnectionState.REMOTE_CLOSING:
                    await self._send(event.response())
            case _:
                assert isinstance(event, wsproto.events.AcceptConnection)

    async def _send(self, *events: wsproto.events.Event) -> None:
        data = b"".join(map(self._wire.send, events))
        async with self._sending:
            await self._stream.send_all(data)

    @property
    def got(self) -> list[twilio.ToCaller]:
        return self._got

    @property
    def goodbye(self) -> int | None:
        return self._goodbye

    @property
    def is_gone(self) -> bool:
        return self._is_gone

    async def tell(self, *numbers: int) -> None:
        messages = [twilio.encode_as_twilio(mark(number)) for number in numbers]
        await self._send(*map(wsproto.events.TextMessage, messages))

    async def close(self) -> None:
        await self._send(wsproto.events.CloseConnection(1000))

    async def lose(self) -> None:
        await self._tcp.aclose()


class TlsConfig(Config):
    ssl_enabled = True

    def create_ssl_context(self) -> ssl.SSLContext:
        return TRUSTED.server


@contextlib.asynccontextmanager
async def on_hypercorn(*, is_fast: bool, is_tls: bool = False) -> AsyncIterator[Rig]:
    hypercorn_guard.install()
    rig = WiredRig(is_fast=is_fast, trust=TRUSTED.client if is_tls else None)
    config = TlsConfig() if is_tls else Config()
    config.bind = ["127.0.0.1:0"]
    shut_down = trio.Event()

    async def serve(task_status: trio.TaskStatus[list[str]]) -> None:
        await hypercorn.trio.serve(
            rig.app,
            config,
            shutdown_trigger=shut_down.wait,
            task_status=task_status,
        )

    async with trio.open_nursery() as background:
        background.start_soon(rig.ticker.run)
        async with trio.open_nursery() as nursery:
            [bound] = await nursery.start(serve)
            nursery.start_soon(rig.dial, int(bound.rpartition(":")[2]))
            await rig.opened.wait()
            yield rig
            rig._leaving.set()
            shut_down.set()
        background.cancel_scope.cancel()


# --- the agent's --------------------------------------------------------------------------------


class AgentRig(Rig):
    which = Leg.AGENT

    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self.peer = peer

    def theirs(self, number: int) -> Audio:
        return Audio(b"their %d" % number)

    def ours(self, number: int) -> Audio:
        return Audio(b"our %d" % number)

    @property
    def got(self) -> list[Any]:
        return self.peer.messages

    @property
    def goodbye(self) -> int | None:
        return self.peer.closed_with

    @property
    def is_gone(self) -> bool:
        return self.peer.gone.is_set()

    async def tell(self, *numbers: int) -> None:
        await self.peer.say(said(*map(self.theirs, numbers)))

    async def close(self) -> None:
        await self.peer.say(frames.close(1000))

    async def lose(self) -> None:
        await trio.aclose_forcefully(self.peer.stream)


@contextlib.asynccontextmanager
async def an_agent(
    ours: trio.abc.Stream, theirs: trio.abc.Stream, poller: Poller | None = None
) -> AsyncIterator[Rig]:
    rig = AgentRig(Peer(theirs))
    async with trio.open_nursery() as nursery:
        if poller is not None:
            nursery.start_soon(poller.run)
        nursery.start_soon(rig.peer.run)
        nursery.start_soon(
            rig.own, functools.partial(converse, ours, "agent.test", "/", [], LANGUAGE, poller)
        )
        yield rig
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def an_agent_on_memory() -> AsyncIterator[Rig]:
    async with an_agent(*trio.testing.memory_stream_pair()) as rig:
        yield rig


@contextlib.asynccontextmanager
async def an_agent_on_tcp(
    tls: ssl.SSLContext | None = None, *, is_looked_out_for: bool = False
) -> AsyncIterator[Rig]:
    poller = Poller() if is_looked_out_for else None
    async with connected() as pair:
        if tls is None:
            async with an_agent(pair.ours, pair.theirs, poller) as rig:
                yield rig
        else:
            theirs = trio.SSLStream(pair.theirs, TRUSTED.server, server_side=True)
            async with an_agent(TlsStream(pair.ours, tls, "localhost"), theirs, poller) as rig:
                yield rig


class PreparedRig(AgentRig):
    """The leg of a line that was dialled ahead. How it came about is left out of what is told."""

    def hear(self, batch: Sequence[Any]) -> None:
        assert batch
        self.heard.extend(m for m in batch if not isinstance(m, Welcome | SettingsApplied))

    @property
    def got(self) -> list[Any]:
        return [m for m in self.peer.messages if not isinstance(m, Settings)]

    async def apply(self) -> None:
        await until(lambda: self.peer.got)
        await self.peer.say(said(SettingsApplied()))


@contextlib.asynccontextmanager
async def an_agent_ahead(ours: trio.abc.Stream, theirs: trio.abc.Stream) -> AsyncIterator[Rig]:
    rig = PreparedRig(Peer(theirs, said(Welcome("r"))))
    line = PrewarmedSession(
        "CA1", functools.partial(converse, ours, "agent.test", "/", [], LANGUAGE), SETTINGS
    )
    async with trio.open_nursery() as nursery:
        for task in (rig.peer.run, rig.apply, line.run):
            nursery.start_soon(task)
        nursery.start_soon(rig.own, line.claimed)
        yield rig
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def an_agent_ahead_on_memory() -> AsyncIterator[Rig]:
    async with an_agent_ahead(*trio.testing.memory_stream_pair()) as rig:
        yield rig


@contextlib.asynccontextmanager
async def an_agent_ahead_on_tcp() -> AsyncIterator[Rig]:
    async with connected() as pair, an_agent_ahead(pair.ours, pair.theirs) as rig:
        yield rig


RIGS: dict[str, Callable[[], contextlib.AbstractAsyncContextManager[Rig]]] = {
    "portable, fake": functools.partial(on_a_fake, FakeTwilio),
    "adopted, fake": functools.partial(on_a_fake, SocketTwilio),
    "portable": functools.partial(on_hypercorn, is_fast=False),
    "adopted": functools.partial(on_hypercorn, is_fast=True),
    "portable, TLS": functools.partial(on_hypercorn, is_fast=False, is_tls=True),
    "adopted, TLS": functools.partial(on_hypercorn, is_fast=True, is_tls=True),
    "agent, memory": an_agent_on_memory,
    "agent, TCP": an_agent_on_tcp,
    "agent, TLS": functools.partial(an_agent_on_tcp, TRUSTED.client),
    "agent, ahead, memory": an_agent_ahead_on_memory,
    "agent, ahead, TCP": an_agent_ahead_on_tcp,
    "agent, poller": functools.partial(an_agent_on_tcp, is_looked_out_for=True),
    "agent, poller, TLS": functools.partial(
        an_agent_on_tcp, TRUSTED.client, is_looked_out_for=True
    ),
}
# Beneath the fake of the portable leg there is no socket: closing it is Hypercorn's.
WITH_A_SOCKET = [name for name in RIGS if name != "portable, fake"]


@contextlib.asynccontextmanager
async def opened(name: str) -> AsyncIterator[tuple[Rig, trio.Nursery]]:
    """A rig, and a nursery for its listener and whatever else waits."""
    with trio.fail_after(HANG):
        async with RIGS[name]() as rig, trio.open_nursery() as nursery:
            await rig.opened.wait()
            yield rig, nursery
            nursery.cancel_scope.cancel()


# --- hearing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RIGS)
async def test_messages_are_heard_in_order_and_the_end_last_and_once(name: str) -> None:
    async with opened(name) as (rig, nursery):
        await rig.tell(0, 1, 2)  # before anyone listens
        nursery.start_soon(rig.listen)
        for number in range(3, 60, 3):
            await rig.tell(number, number + 1, number + 2)
        await rig.close()
        await rig.listened.wait()
        assert rig.heard[:-1] == [rig.theirs(number) for number in range(60)]
        [ended] = rig.ended
        assert rig.heard[-1] is ended
        assert (ended.leg, ended.how) == (rig.which, How.CLOSED)


@pytest.mark.parametrize("name", RIGS)
async def test_a_socket_that_is_lost_is_heard_of_as_such_behind_the_last_message(
    name: str,
) -> None:
    async with opened(name) as (rig, nursery):
        nursery.start_soon(rig.listen)
        await rig.tell(1)
        await rig.lose()
        await rig.listened.wait()
        first, ended = rig.heard
        assert first == rig.theirs(1)
        assert (ended.leg, ended.how) == (rig.which, How.LOST)


@pytest.mark.parametrize("name", RIGS)
async def test_a_bug_in_hear_comes_out_of_listen_and_a_goodbye_can_be_said(name: str) -> None:
    async with opened(name) as (rig, nursery):
        heard = []

        def broken(batch: Sequence[Any]) -> None:
            heard.append(batch)
            raise ZeroDivisionError("a bug in the dialogue")

        await rig.tell(1, 2)
        with pytest.raises(ZeroDivisionError):
            await rig.leg.listen(broken)
        await rig.tell(3)
        nursery.start_soon(rig.leg.aclose, 1011)
        await until(lambda: rig.goodbye)
        assert rig.goodbye == 1011
        assert len(heard) == 1


@pytest.mark.parametrize("kind", [FakeTwilio, SocketTwilio])
async def test_of_a_caller_a_binary_message_is_malformed_and_a_long_one_too_big(
    kind: type[FakeTwilio] | type[SocketTwilio],
) -> None:
    phone = kind()
    heard: list[Any] = []
    with trio.fail_after(HANG):
        async with phone.open() as leg, trio.open_nursery() as nursery:
            nursery.start_soon(leg.listen, heard.extend)
            phone.tell_bytes(b"x")
            phone.tell(mark(1))
            phone.tell_text("x" * (MAX_PER_MESSAGE + 1))
            await until(lambda: len(heard) == 3)
            nursery.cancel_scope.cancel()
    assert heard == [
        Malformed(Leg.CALLER, "binary frame"),
        mark(1),
        TooBig(Leg.CALLER, MAX_PER_MESSAGE + 1),
    ]


@pytest.mark.parametrize("name", RIGS)
async def test_only_a_polled_leg_has_idle_moments(name: str) -> None:
    async with opened(name) as (rig, nursery):
        nursery.start_soon(rig.listen)
        await rig.tell(1)
        await until(lambda: rig.heard)
        if rig.leg.is_polled:
            await until(lambda: len(rig.idle) > 2)
        assert bool(rig.idle) == rig.leg.is_polled == ("adopted" in name)
        assert rig.idle == sorted(rig.idle)


# --- telling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RIGS)
async def test_what_is_tried_and_what_is_sent_arrives_once_and_in_order(name: str) -> None:
    async with opened(name) as (rig, nursery):
        nursery.start_soon(rig.listen)
        for number in range(200):
            if number % 3:
                await rig.say(number)
            else:
                await rig.leg.send(rig.ours(number))
        await until(lambda: len(rig.got) == 200)
        assert rig.got == [rig.ours(number) for number in range(200)]


AWAITS = ("portable, fake", "portable", "portable, TLS", "agent, memory", "agent, ahead, memory")
WRITES_AT_ONCE = set(RIGS) - set(AWAITS)


@pytest.mark.parametrize("name", RIGS)
async def test_what_could_be_tried_needs_no_sending(name: str) -> None:
    async with opened(name) as (rig, nursery):
        nursery.start_soon(rig.listen)
        at_once = rig.leg.try_send(rig.ours(1))
        assert at_once == (name in WRITES_AT_ONCE)
        await rig.leg.send(rig.ours(2))
        await until(lambda: rig.ours(2) in rig.got)
        assert rig.got == [rig.ours(1)] * at_once + [rig.ours(2)]


# --- the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011])
@pytest.mark.parametrize("name", RIGS)
async def test_a_goodbye_has_its_code_comes_last_and_ends_the_leg(name: str, code: int) -> None:
    async with opened(name) as (rig, nursery):
        nursery.start_soon(rig.listen)
        await rig.say(1)
        nursery.start_soon(rig.leg.aclose, code)
        await rig.listened.wait()
        await until(lambda: rig.goodbye)
        assert not rig.leg.try_send(rig.ours(2))
        await rig.leg.send(rig.ours(3))
        assert rig.goodbye == code
        assert rig.got == [rig.ours(1)]
        assert [ended.how for ended in rig.ended] == [How.CLOSED]
        assert rig.heard == rig.ended


@pytest.mark.parametrize("how", ["close frame", "lost"])
@pytest.mark.parametrize("name", RIGS)
async def test_after_the_end_telling_does_nothing_and_waits_for_nobody(name: str, how: str) -> None:
    async with opened(name) as (rig, nursery):
        nursery.start_soon(rig.listen)
        await (rig.close() if how == "close frame" else rig.lose())
        await rig.listened.wait()
        assert not rig.leg.try_send(rig.ours(1))
        with trio.fail_after(HANG):
            for number in range(100):
                await rig.leg.send(rig.ours(number))
            await rig.leg.aclose(1000)
        assert rig.got == []
        assert len(rig.heard) == 1


@pytest.mark.parametrize("how", ["left", "cancelled", "said goodbye"])
@pytest.mark.parametrize("name", WITH_A_SOCKET)
async def test_whoever_leaves_the_leg_closes_its_socket(name: str, how: str) -> None:
    async with opened(name) as (rig, nursery):
        nursery.start_soon(_in_vain, rig.listen)
        await rig.say(1)
        await until(lambda: rig.got)
        if how == "said goodbye":
            nursery.start_soon(rig.leg.aclose, 1000)
            await until(lambda: rig.goodbye)
        await (rig.cancel() if how == "cancelled" else rig.leave())
        await until(lambda: rig.is_gone)


async def _in_vain(act: Callable[[], Awaitable[object]]) -> None:
    """Who still listens when the socket goes may hear of it or not: the call has left by then."""
    with contextlib.suppress(trio.ClosedResourceError):
        await act()


# --- what only the portable leg has to know -----------------------------------------------------


async def test_a_websocket_that_hypercorn_closes_by_itself_ends_the_leg(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As it does over its own size limit, and tells nobody."""
    phone = FakeTwilio()
    heard: list[Any] = []
    async with phone.open() as leg, trio.open_nursery() as nursery:
        nursery.start_soon(leg.listen, heard.extend)
        await trio.sleep(5 * WATCH_EVERY)
        assert heard == []
        phone.connection.state = ConnectionState.LOCAL_CLOSING
    assert heard == [LegEnded(Leg.CALLER, How.CLOSED)]
    assert trio.current_time() <= 6 * WATCH_EVERY


async def test_without_a_connection_that_is_known_a_leg_does_all_but_watch(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Under another server than Hypercorn, or a version whose insides are not known."""
    phone = FakeTwilio()
    heard: list[Any] = []
    async with open_caller(phone.receive, phone.app_send, None) as leg:
        phone.vanish()
        phone.tell(mark(1))
        await leg.send(play(1))
        await leg.aclose(1000)
        await trio.sleep(3600)
        await leg.listen(heard.extend)
    assert heard == [mark(1), LegEnded(Leg.CALLER, How.CLOSED)]
    assert phone.played == [play(1)]


async def test_hypercorn_reads_a_callers_socket_once_a_beat_while_there_is_a_leg(
    autojump_clock: trio.testing.MockClock,
) -> None:
    autojump_clock.autojump_threshold = CUSHION
    async with opened("portable") as (rig, nursery):
        assert isinstance(rig, WiredRig)
        heard_at: set[float] = set()

        def hear(batch: Sequence[Any]) -> None:
            rig.heard.extend(batch)
            heard_at.add(trio.current_time())

        nursery.start_soon(rig.leg.listen, hear)
        for number in range(60):
            await rig.tell(number)
            await trio.sleep(0.001)
        await until(lambda: len(rig.heard) == 60)
        # Sixty messages told one by one are heard in a few ticks, many at a time.
        assert rig.heard == [rig.theirs(number) for number in range(60)]
        assert len(heard_at) < 10
        await rig.leave()
        await until(lambda: rig.is_gone)


# --- cancelled anywhere -------------------------------------------------------------------------


async def story(rig: Rig) -> None:
    """All that a leg can do, with somebody who listens."""
    await rig.opened.wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.listen)
        await rig.tell(1, 2)
        await until(lambda: len(rig.heard) == 2)
        for number in range(3):
            await rig.say(number)
        await rig.leg.send(rig.ours(3))
        await until(lambda: len(rig.got) == 4)
        await rig.leg.aclose(1000)
    await rig.leave()


async def cancelled_at(step: int, name: str) -> int:
    """Tells the story with everything of the leg cancelled at that step of any task."""
    before = trio.lowlevel.current_statistics().tasks_living
    async with RIGS[name]() as rig:
        with trio.CancelScope() as scope:
            instrument = CancelAtStep(scope, step)
            trio.lowlevel.add_instrument(instrument)
            try:
                await story(rig)
            finally:
                trio.lowlevel.remove_instrument(instrument)
        if scope.cancelled_caught:
            await rig.cancel()
        if name in WITH_A_SOCKET and rig.opened.is_set():
            with trio.fail_after(HANG):
                await until(lambda: rig.is_gone)
    assert trio.lowlevel.current_statistics().tasks_living == before
    return instrument.seen


@pytest.mark.parametrize(
    "name", ["portable, fake", "adopted, fake", "agent, memory", "agent, ahead, memory"]
)
async def test_a_leg_cancelled_at_any_await_leaves_nothing(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    steps = await cancelled_at(-1, name)
    assert steps > 10
    for step in range(steps):
        await cancelled_at(step, name)

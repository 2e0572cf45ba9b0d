"""A call is moved whichever way Twilio does what nobody knows of it: a call for each of them."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import hypercorn.trio
import pytest
import trio
from hypercorn.config import Config as HypercornConfig
from limits import HANG
from rig_after import store
from rig_moves import LEAVES_SILENCE, Balancer, Talk, until

from sts_trio.config import load
from sts_trio.legs import caller_asgi
from sts_trio.logic import states, stream
from sts_trio.moves import lookout, mover
from sts_trio.moves.decision import Answer
from sts_trio.outbound.twilio_rest import TwilioRest
from sts_trio.records import claims
from sts_trio.records.movable import Left, Owner
from sts_trio.records.record import Record
from sts_trio.simulate.phone_call import PhoneCall
from sts_trio.simulate.script import WaitForQuiet
from sts_trio.simulate.unknowns import readings
from sts_trio.testing.carrier import TOKEN, carrier
from sts_trio.web.app import App, create_app

STAYS = [WaitForQuiet(patience=HANG, silence=HANG)]
READINGS = readings()
WORDS = "The word is heron."


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture(autouse=True)
def nobody_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many calls at once are slow on a busy machine. What is given up, or done again, when it
    takes long is told in other tests."""
    lost = states.STREAM_LIMITS[states.StreamState.AWAY].cause
    limits = {**states.STREAM_LIMITS, states.StreamState.AWAY: states.Limit(HANG, lost)}
    monkeypatch.setattr(stream, "STREAM_LIMITS", limits)
    monkeypatch.setattr(claims, "CLAIMED_FOR", HANG)
    monkeypatch.setattr(lookout, "ASK_WITHIN", HANG)
    monkeypatch.setattr(lookout, "AGAIN_AFTER", HANG)
    monkeypatch.setattr(mover, "ASK_WITHIN", HANG)
    # A process that only looks dead would see to its calls itself.
    monkeypatch.setattr(caller_asgi, "SILENT_AFTER", 2 * HANG)


class Accounts(TwilioRest):
    """The REST APIs of all carriers, each asked for its own calls."""

    def __init__(self) -> None:
        super().__init__("AC" + "0" * 32, TOKEN)
        self.apis: dict[str, TwilioRest] = {}  # {account SID: its API}

    async def have_asked(self, call_sid: str, url: str, account_sid: str = "") -> bool:
        return await self.apis[account_sid].have_asked(call_sid, url, account_sid)


class Site:
    """Two servers on one database, a balancer before them, and a call of each reading."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.balancer = Balancer([])
        self.base = ""
        self.apps: list[App] = []
        self.ports: list[int] = []
        self.agents: list[Talk] = []
        self.accounts = Accounts()
        self.calls: dict[str, PhoneCall] = {}  # {reading: what came of it}

    async def serve_agent(self, stream: trio.SocketStream) -> None:
        talk = Talk()
        self.agents.append(talk)
        await talk.serve(stream)

    async def serve(
        self,
        app: App,
        ends: trio.Event,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        config = HypercornConfig()
        config.bind = ["127.0.0.1:0"]
        async with trio.open_nursery() as nursery:
            [bound] = await nursery.start(
                lambda task_status: hypercorn.trio.serve(
                    app, config, shutdown_trigger=ends.wait, task_status=task_status
                )
            )
            app.server.twilio = self.accounts
            self.apps.append(app)
            self.ports.append(int(bound.rpartition(":")[2]))
            task_status.started()

    async def call(self, name: str) -> None:
        async with carrier(unknowns=READINGS[name]) as account:
            sid, token = account.variables.values()
            self.accounts.apis[sid] = TwilioRest(sid, token, api=account.rest.url)
            self.calls[name] = await account.call(f"{self.base}/twiml", STAYS, limit=HANG)

    def records(self) -> list[Record]:
        with store(self.url) as kept:
            live = kept.live_calls()
            found = [kept.record(each.call_sid) for each in live]
        return [each for each in found if each is not None]

    def are_talking(self) -> bool:
        """Whether each call has its agent, and the database knows that it was heard."""
        records = self.records()
        heard = [turn.heard for each in records for turn in each.turns]
        return heard == [WORDS] * len(READINGS)

    def have_moved(self) -> bool:
        records = self.records()
        return len(records) == len(READINGS) and all(len(each.streams) == 2 for each in records)


@contextlib.asynccontextmanager
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    this = Site(f"sqlite:///{tmp_path / 'calls.db'}")
    ends = trio.Event()
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            [agents] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            [balancer] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, this.serve_agent, [agents])
            nursery.start_soon(trio.serve_listeners, this.balancer.serve, [balancer])
            this.base = f"http://127.0.0.1:{balancer.socket.getsockname()[1]}"
            async with trio.open_nursery() as servers:
                for number in range(2):
                    config = load(
                        {
                            "STS_AGENT": "deepgram",
                            "DEEPGRAM_API_KEY": "any",
                            "DEEPGRAM_URL": f"ws://127.0.0.1:{agents.socket.getsockname()[1]}/",
                            "STS_PUBLIC_URL": this.base,
                            "TWILIO_AUTH_TOKEN": TOKEN,
                            "STS_DATABASE_URL": this.url,
                            "STS_SPOOL": str(tmp_path / f"spool{number}"),
                            "STS_PROCESS_NAME": f"s{number}",
                            "STS_FLIGHT": "0",
                            **LEAVES_SILENCE,
                        },
                        tmp_path,
                    )
                    await servers.start(this.serve, create_app(config), ends)
                this.balancer.ports = list(this.ports)
                yield this
                ends.set()
            nursery.cancel_scope.cancel()


async def vanish(here: Site) -> None:
    """Nothing is heard of it any more, nor reset: only the database tells of its calls."""
    moved_calls = here.apps[1].server.moved_calls
    assert moved_calls is not None
    moved_calls.lookout._left = lambda: [
        Left(each.call.call_sid, each.call.epoch, "live")
        for each in here.records()
        if len(each.streams) == 1
    ]
    await die(here)
    here.balancer.hold()


async def die(here: Site) -> None:
    """As far as the other one can tell."""

    async def refused(owner: Owner) -> Answer:
        await trio.lowlevel.checkpoint()
        return Answer.REFUSED

    moved_calls = here.apps[1].server.moved_calls
    assert moved_calls is not None
    moved_calls.mover._ask = refused
    here.balancer.ports = here.ports[1:]
    await trio.lowlevel.checkpoint()


async def kill(here: Site) -> None:
    await die(here)
    here.balancer.cut()


async def drain(here: Site) -> None:
    first = here.apps[0]
    await until(first.server.has_successor)
    here.balancer.ports = here.ports[1:]
    first.live_calls.drain()
    await first.move_calls(0.0)


async def cut(here: Site) -> None:
    """By a proxy: both processes are well."""
    await trio.lowlevel.checkpoint()
    here.balancer.cut()


async def until_seen(condition: Callable[[], bool]) -> None:
    """By the database, which nobody on the loop is to wait for: all of them are on it."""
    while not await trio.to_thread.run_sync(condition):  # noqa: ASYNC110
        await trio.sleep(0.05)


@pytest.mark.parametrize(
    ("how", "happen"),
    [("recovered", kill), ("recovered", vanish), ("moved", drain), ("returned", cut)],
)
async def test_a_call_goes_on_whatever_twilio_does(
    how: str, happen: Callable[[Site], Awaitable[None]], tmp_path: Path
) -> None:
    async with site(tmp_path) as here, trio.open_nursery() as nursery:
        for name in READINGS:
            nursery.start_soon(here.call, name)
        await until(lambda: len(here.agents) == len(READINGS))
        for talk in here.agents:
            await talk.ready.wait()
            await talk.speak(WORDS)
        await until_seen(here.are_talking)
        await happen(here)
        await until_seen(here.have_moved)
        assert here.calls == {}
        assert {record.streams[1].how for record in here.records()} == {how}
        newest = here.agents[-len(READINGS) :]
        sessions = 1 if how == "returned" else 2
        assert len(here.agents) == sessions * len(READINGS)
        for talk in newest:
            await talk.ready.wait()
            assert talk.told == ([] if how == "returned" else [WORDS])
            talk.close(1000)
    assert here.calls.keys() == READINGS.keys()
    for name, call in here.calls.items():
        assert (name, len(call.streams), call.ended_by) == (name, 2, "bridge")

"""A herd: the node that had all calls is gone, and Twilio asks about each of them at once.

    python bench/herd.py [--calls 300] [--sessions N]

More calls than a desk can carry with their voices. So their rows are written as the process has
written them that is dead now, and their phones send a frame a second. What a herd is about is real:
two processes behind HAProxy, a PostgreSQL, three hundred requests, claims, dials and streams within
a moment, and an agent that knows each caller's word only if it was told. Everything runs on this
machine, on the loopback, for a minute at most, and is gone afterwards.
"""

import argparse
import collections
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import trio
import trio_websocket
from fleet_calls import code_of, percentile, told_by_agent
from fleet_rig import LOCAL, ROOT, TOKEN, Fleet
from keeper import CODE, TALK

from sts_trio.audio.frames import SILENCE, length
from sts_trio.records.database import Database
from sts_trio.records.process_state import Process
from sts_trio.records.rows import Kind
from sts_trio.records.store import Store
from sts_trio.simulate.carrier import signer
from sts_trio.simulate.connect import WEBSOCKET, NotConnected, host_of, parts_of, target_of
from sts_trio.simulate.webhook import NotAnswered, Webhooks
from sts_trio.simulate.websocket import websocket
from sts_trio.wire import twilio

sys.path.insert(0, str(ROOT / "tests"))

import rig_postgresql
from call_stories import Story, sid

NAMES = ("a-1", "a-2")
DEAD = Process(
    process_id="dead",
    name="a-0",
    address="127.0.0.1:1",  # refuses
    version="0",
    state="ready",
    live=0,
    capacity=500,
)
# All of it, so that a herd that is not served is told of.
PATIENCE = 60.0
FRAME_EVERY = 1.0
RETRY_PAUSE = 0.5  # as of the simulated carrier
SIGN = signer(TOKEN)


class Waiting(msgspec.Struct):
    """A caller whose process is dead. Seconds from when Twilio noticed; None: it never came."""

    number: int
    answered: float | None = None  # TwiML
    streamed: float | None = None
    heard: float | None = None  # the agent
    problem: str = ""


def leave_behind(url: str, calls: int) -> None:
    """The calls of a process that has died, each with its word, to which an answer is owed."""
    database = Database(url)
    database.open()
    with contextlib.closing(database):
        store = Store(database)
        store.beat(DEAD)
        for number in range(calls):
            story = Story(sid(number), at=time.time() - 10)
            story.announce(account="AC1", process_id=DEAD.process_id)
            story.start(process_id=DEAD.process_id)
            story.tell(Kind.USER, text=CODE + code_of(number))
            story.tell(Kind.AGENT, text=TALK)
            story.tell(Kind.HEARD, said=TALK, heard=TALK, said_seconds=2.5, heard_seconds=2.5)
            story.tell(Kind.USER, text="D1")
            store.write(story.rows)


class Herd:
    def __init__(self, base: str) -> None:
        self.began = trio.current_time()
        self.webhooks = Webhooks(SIGN, pause=RETRY_PAUSE)
        self.after = f"{base}/twiml/after#rc=5&rp=all&ct=1000"

    async def run(self, calls: int) -> list[Waiting]:
        callers = [Waiting(number) for number in range(calls)]
        self.began = trio.current_time()
        with trio.move_on_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for caller in callers:
                    nursery.start_soon(self._be_asked_about, caller)
        return callers

    def _now(self) -> float:
        return trio.current_time() - self.began

    async def _be_asked_about(self, caller: Waiting) -> None:
        fields = {"CallSid": sid(caller.number), "AccountSid": "AC1", "CallStatus": "in-progress"}
        try:
            answer = await self.webhooks.ask(self.after, fields)
        except NotAnswered as exc:
            caller.problem = str(exc)
            return
        caller.answered = self._now()
        found = next(ElementTree.fromstring(answer.body).iter("Stream"), None)
        if found is None:
            caller.problem = answer.body.decode()
            return
        parameters = {each.attrib["name"]: each.attrib["value"] for each in found}
        try:
            await self._stream(caller, found.attrib["url"], parameters)
        except* (NotConnected, OSError, trio_websocket.ConnectionClosed) as group:
            caller.problem = f"the stream was lost: {group.exceptions[0]!r}"

    async def _stream(self, caller: Waiting, url: str, parameters: dict[str, str]) -> None:
        parts, port = parts_of(url, WEBSOCKET)
        stream = await trio.open_tcp_stream(parts.hostname or "", port)
        host, path = host_of(parts), target_of(parts)
        async with websocket(stream, host=host, path=path, headers=SIGN(url, {})) as socket:
            name, of = f"MZ{caller.number:032x}", sid(caller.number)
            start = twilio.StreamStart(name, of, "AC1", custom_parameters=parameters)
            frame = twilio.Media(twilio.Inbound(SILENCE * length(0.02)), stream_sid=name)
            for message in (twilio.Connected(), twilio.Start(start, stream_sid=name), frame):
                await socket.send_message(twilio.encode_as_twilio(message))
            caller.streamed = self._now()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, caller, socket, nursery.cancel_scope)
                while True:
                    await trio.sleep(FRAME_EVERY)
                    await socket.send_message(twilio.encode_as_twilio(frame))
            await socket.send_message(twilio.encode_as_twilio(twilio.Stop(stream_sid=name)))

    async def _hear(
        self,
        caller: Waiting,
        socket: trio_websocket.WebSocketConnection,
        scope: trio.CancelScope,
    ) -> None:
        """Until the agent is there."""
        while caller.heard is None:
            if isinstance(twilio.decode_as_twilio(await socket.get_message()), twilio.PlayMedia):
                caller.heard = self._now()
        scope.cancel()


def dials(log: Path) -> list[float]:
    """When the agent was dialled: seconds since the first time."""
    told = [each for lines in told_by_agent(log).values() for each in lines]
    times = sorted(each.at for each in told if each.what == "begun")
    return [at - times[0] for at in times]


def told_their_word(log: Path, calls: int) -> int:
    """Calls whose agent was told what their caller had said to another one."""
    known = told_by_agent(log)
    return sum(
        any(each.what == "recalled" for each in known.get(code_of(number), ()))
        for number in range(calls)
    )


async def main(calls: int, sessions: int | None, keep: Path | None) -> None:
    binaries = rig_postgresql.binaries()
    if binaries is None:
        sys.exit("PostgreSQL is missing: install Debian's package postgresql")
    with tempfile.TemporaryDirectory(prefix="sts-trio-herd-") as place:
        directory = Path(keep or place)
        with rig_postgresql.running(binaries) as cluster:
            url = cluster.create()
            limit = {} if sessions is None else {"STS_AGENT_SESSIONS": str(sessions)}
            fleet = Fleet(directory, NAMES, url, limit)
            fleet.api = f"http://{LOCAL}:1"  # nobody asks there
            async with trio.open_nursery() as nursery:
                try:
                    await fleet.open(nursery)
                    await trio.to_thread.run_sync(leave_behind, url, calls)
                    callers = await Herd(fleet.base).run(calls)
                    await trio.sleep(1.0)
                finally:
                    nursery.cancel_scope.cancel()
                    fleet.close()
        tell(callers, fleet.agent_log)


def tell(callers: list[Waiting], log: Path) -> None:
    times = {
        "TwiML": [each.answered for each in callers],
        "a stream": [each.streamed for each in callers],
        "the agent, heard": [each.heard for each in callers],
    }
    told = told_their_word(log, len(callers))
    print(f"{len(callers)} callers, {told} with an agent that was told their word")
    for name, all_of_it in times.items():
        came = [each for each in all_of_it if each is not None]
        p50, p99 = percentile(came, 0.5), percentile(came, 0.99)
        print(f"  {name}: {len(came)}, after p50 {p50:.2f} s, p99 {p99:.2f} s")
    dialled = dials(log)
    most = max(collections.Counter(int(at) for at in dialled).values(), default=0)
    last = dialled[-1] if dialled else 0.0
    print(f"  dials: {len(dialled)} within {last:.1f} s, at most {most} in a second")
    for problem, count in collections.Counter(each.problem for each in callers).items():
        if problem:
            print(f"  {count} times: {problem}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--sessions", type=int, help="STS_AGENT_SESSIONS")
    parser.add_argument("--keep", type=Path, help="a directory for what all of them say")
    given = parser.parse_args()
    trio.run(main, given.calls, given.sessions, given.keep)

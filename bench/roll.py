"""A rolling restart under live calls: what each of them hears of it.

    python bench/roll.py [--calls 300] [--processes 2]

More calls than a desk can carry with their voices, so phones send a frame a second and nobody
talks. The rest is real: processes behind HAProxy, a PostgreSQL, an agent that greets, marks that
come back, a drain that moves each call between two turns, and Twilio's question what comes next.
Each process is told to stop once, and the next one when it takes calls again. Everything runs on
this machine, on the loopback, for some minutes at most, and is gone afterwards.
"""

import argparse
import collections
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGTERM
from xml.etree import ElementTree

import msgspec
import trio
import trio_websocket
from fleet_calls import percentile
from fleet_rig import LOCAL, ROOT, Fleet
from herd import FRAME_EVERY, RETRY_PAUSE, SIGN

from sts_trio.audio.frames import SILENCE, length
from sts_trio.simulate.connect import WEBSOCKET, NotConnected, host_of, parts_of, target_of
from sts_trio.simulate.webhook import NotAnswered, Webhooks, form
from sts_trio.simulate.websocket import websocket
from sts_trio.wire import twilio

sys.path.insert(0, str(ROOT / "tests"))

import rig_postgresql
from call_stories import sid

RATE = 20.0  # calls that begin in a second
DRAIN = "30"  # STS_DRAIN_SECONDS
# Of the whole, so that what hangs is told of.
PATIENCE = 400.0
GREETED_WITHIN = 60.0
# As docs/deploying.md has it.
POLICY = "#rc=5&rp=all&ct=1000"
ACCOUNT = "AC1"


class Phone(msgspec.Struct):
    """A call. Seconds on Trio's clock."""

    number: int
    is_greeted: bool = False  # the agent was heard
    is_over: bool = False  # by its caller
    streams: int = 0
    gaps: list[float] = []  # without a stream
    problem: str = ""


class Phones:
    def __init__(self, base: str) -> None:
        self.all: list[Phone] = []
        self.hang_up = trio.Event()
        self._webhooks = Webhooks(SIGN, pause=RETRY_PAUSE)
        self._base = base

    async def call(self, phone: Phone) -> None:
        """Until `hang_up`, however often its stream is led elsewhere."""
        self.all.append(phone)
        try:
            place = await self._ask(phone, "/twiml", "ringing")
            while True:
                lost = await self._stream(phone, *place)
                if self.hang_up.is_set():
                    phone.is_over = True
                    return
                phone.gaps.append(-lost)  # the rest of it is known when the next one is there
                place = await self._ask(phone, "/twiml/after", "in-progress")
        except NotAnswered as exc:
            phone.problem = str(exc)
        except _NoStream as exc:
            phone.problem = f"no stream: {exc}"

    async def _ask(self, phone: Phone, path: str, status: str) -> tuple[str, dict[str, str]]:
        fields = form(sid(phone.number), ACCOUNT, status=status)
        answer = await self._webhooks.ask(f"{self._base}{path}{POLICY}", fields)
        found = next(ElementTree.fromstring(answer.body).iter("Stream"), None)
        if found is None:
            raise _NoStream(answer.body.decode())
        parameters = {each.attrib["name"]: each.attrib["value"] for each in found}
        return found.attrib["url"], parameters

    async def _stream(self, phone: Phone, url: str, parameters: dict[str, str]) -> float:
        """Returns when it ended."""
        ended = trio.current_time()  # if there is none
        try:
            async with _open(url) as socket:
                name, of = f"MZ{phone.number:028x}{phone.streams:04x}", sid(phone.number)
                start = twilio.StreamStart(name, of, ACCOUNT, custom_parameters=parameters)
                for message in (twilio.Connected(), twilio.Start(start, stream_sid=name)):
                    await socket.send_message(twilio.encode_as_twilio(message))
                phone.streams += 1
                if phone.gaps and phone.gaps[-1] < 0:
                    phone.gaps[-1] += trio.current_time()
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(_hear, phone, socket, name)
                        nursery.start_soon(_speak, socket, name)
                        await self.hang_up.wait()
                        nursery.cancel_scope.cancel()
                finally:
                    ended = trio.current_time()
                await socket.send_message(twilio.encode_as_twilio(twilio.Stop(stream_sid=name)))
        except* (
            NotConnected,
            OSError,
            trio_websocket.ConnectionClosed,
            trio_websocket.HandshakeError,
        ):
            pass  # its process ends, and Twilio asks what comes next
        return ended


class _NoStream(Exception):
    """TwiML leads to none: the call is over, or about to be."""


@contextlib.asynccontextmanager
async def _open(url: str) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    parts, port = parts_of(url, WEBSOCKET)
    stream = await trio.open_tcp_stream(parts.hostname or "", port)
    headers = SIGN(url, {})
    async with websocket(stream, host=host_of(parts), path=target_of(parts), headers=headers) as it:
        yield it


async def _speak(socket: trio_websocket.WebSocketConnection, name: str) -> None:
    frame = twilio.Media(twilio.Inbound(SILENCE * length(0.02)), stream_sid=name)
    while True:
        await socket.send_message(twilio.encode_as_twilio(frame))
        await trio.sleep(FRAME_EVERY)


async def _hear(phone: Phone, socket: trio_websocket.WebSocketConnection, name: str) -> None:
    while True:
        match twilio.decode_as_twilio(await socket.get_message()):
            case twilio.PlayMedia():
                phone.is_greeted = True
            case twilio.PlayMark(mark=mark):
                heard = twilio.Mark(mark, stream_sid=name)
                await socket.send_message(twilio.encode_as_twilio(heard))


async def roll(fleet: Fleet) -> dict[str, float]:
    """{process: seconds from its SIGTERM until it takes calls again}"""
    took = {}
    for name, process in fleet.processes.items():
        began = trio.current_time()
        process.signal(SIGTERM)
        await process.gone()
        await fleet.ready(name)
        took[name] = trio.current_time() - began
    return took


async def main(calls: int, processes: int, keep: Path | None) -> None:
    binaries = rig_postgresql.binaries()
    if binaries is None:
        sys.exit("PostgreSQL is missing: install Debian's package postgresql")
    names = [f"a-{number}" for number in range(1, processes + 1)]
    with tempfile.TemporaryDirectory(prefix="sts-trio-roll-") as place:
        directory = Path(keep or place)
        with rig_postgresql.running(binaries) as cluster:
            variables = {"STS_DRAIN_SECONDS": DRAIN}
            fleet = Fleet(directory, names, cluster.create(), variables)
            fleet.api = f"http://{LOCAL}:1"  # nobody asks there
            async with trio.open_nursery() as nursery:
                try:
                    await fleet.open(nursery)
                    with trio.fail_after(PATIENCE):
                        phones, took = await _measure(fleet, calls)
                finally:
                    nursery.cancel_scope.cancel()
                    fleet.close()
    tell(phones, took)


async def _measure(fleet: Fleet, calls: int) -> tuple[Phones, dict[str, float]]:
    phones = Phones(fleet.base)
    async with trio.open_nursery() as nursery:
        for number in range(calls):
            nursery.start_soon(phones.call, Phone(number))
            await trio.sleep(1 / RATE)
        with trio.move_on_after(GREETED_WITHIN):
            while not all(each.is_greeted for each in phones.all):  # noqa: ASYNC110
                await trio.sleep(0.2)
        greeted = sum(each.is_greeted for each in phones.all)
        print(f"{calls} callers, {greeted} greeted; load {os.getloadavg()[0]:.0f}")
        took = await roll(fleet)
        print(f"over; load {os.getloadavg()[0]:.0f}")
        phones.hang_up.set()
    return phones, took


def tell(phones: Phones, took: dict[str, float]) -> None:
    calls = phones.all
    gaps = [gap for each in calls for gap in each.gaps if gap >= 0]
    stayed = sum(each.is_over for each in calls)
    print(f"{stayed} of {len(calls)} calls lasted until their caller hung up")
    p50, p99, most = percentile(gaps, 0.5), percentile(gaps, 0.99), max(gaps, default=0.0)
    print(
        f"  moves: {len(gaps)}, without a line p50 {p50:.2f} s, p99 {p99:.2f} s, most {most:.2f} s"
    )
    for name, seconds in took.items():
        print(f"  {name}: {seconds:.1f} s from SIGTERM until it took calls again")
    for problem, count in collections.Counter(each.problem for each in calls).items():
        if problem:
            print(f"  {count} times: {problem}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="a directory for what all of them say")
    given = parser.parse_args()
    trio.run(main, given.calls, given.processes, given.keep)

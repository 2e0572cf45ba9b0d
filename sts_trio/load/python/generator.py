"""The generator's run: the calls are placed as lines say; some time passes (warm-up); then, in the
window, everything is measured; then what was sent in it may still arrive; then everybody ends their
call, and what stays open is counted (farewell).
"""

import base64
import random
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import h11
import trio

from sts_trio.load.figures import Heard, Progress, Run
from sts_trio.load.python import blocks
from sts_trio.load.python.agent import Session
from sts_trio.load.python.alarms import Alarms
from sts_trio.load.python.blocks import Way
from sts_trio.load.python.caller import Caller, Past
from sts_trio.load.python.link import Link
from sts_trio.load.python.meters import Meters
from sts_trio.load.python.options import Options
from sts_trio.simulate.connect import NotConnected

# A session that is open so long after its caller's goodbye is left behind.
LEFT_OPEN = 2.0
HANDSHAKE = 10.0
# Whose call is over for so long is counted, and forgotten: a long run would have no end of them.
REMEMBERED = 10.0
MOST_ANSWER = 16384


# Connects to the bridge of that name.
Dial = Callable[[str], Awaitable[trio.abc.Stream]]


class Generator:
    """`dial` connects to the bridge. Tell `hear_place` where calls are placed, and have sockets of
    the agent's answered by `agent.answer`, both while `run` runs."""

    def __init__(self, options: Options, dial: Dial) -> None:
        self.options = options
        self._dial = dial
        self._nursery: trio.Nursery
        self.meters = Meters(options)
        self.alarms = Alarms(self.meters.note_lag)
        self.sessions: set[Session] = set()
        said = Path(options.caller_says)
        self.speech = said.read_bytes() if options.caller_says else b""
        self._callers: dict[int, Caller] = {}  # {serial: who is not forgotten}
        self._past = Past()
        self._placed = 0
        self._lines: list[Caller] = []  # who is on each
        self._oldest = 0
        self._is_placed = trio.Event()

    def caller(self, serial: int) -> Caller | None:
        return self._callers.get(serial)

    def make_block(self, way: Way, caller: Caller, number: int) -> bytes:
        now = trio.current_time()
        if self.meters.in_window(now):
            self.meters.counts[way].sent += 1
            caller.sent[way] += 1
        return blocks.make(way, caller.serial, number, now)

    def note_arrival(self, way: Way, serial: int, number: int, sent: float, now: float) -> None:
        """An agent that comes after another may be told again what the other has heard."""
        caller = self.caller(serial)
        if caller is None or number < caller.known[way]:
            return
        caller.known[way] = number + 1
        if self.meters.in_window(sent):
            counts = self.meters.counts[way]
            counts.arrived += 1
            counts.delays.add(now - sent)
            caller.arrived[way] += 1

    # --- a run --------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> Run:
        options, meters = self.options, self.meters
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self.alarms.run)
            task_status.started()
            await self._is_placed.wait()
            await trio.sleep(options.warm_up)
            meters.open(sum(each.is_through for each in self._lines))
            await trio.sleep(options.seconds)
            meters.close()
            await trio.sleep(options.late)
            for caller in self._callers.values():
                self._past.count(caller)
            failed = self._past.failed
            heard = self._past.heard(meters.answers) if options.bridges_agent else None
            for each in self._lines:
                self._end(each)
            await trio.sleep(options.farewell)
            run = self._told(failed, heard)
            self._nursery.cancel_scope.cancel()
        return run

    def _told(self, failed: int, heard: Heard | None) -> Run:
        left_open = sum(each.is_left_open(LEFT_OPEN) for each in self.sessions)
        return self.meters.run(placed=self._placed, failed=failed, left_open=left_open, heard=heard)

    def progress(self) -> Progress:
        through = sum(each.is_through for each in self._lines)
        return self.meters.progress(self._placed, through)

    def _end(self, caller: Caller) -> None:
        """In one of the ways of the plan, by their weights."""
        if caller.hung_up is not None or caller.is_ending:
            return
        stop, cut, left = self.options.weights
        (way,) = random.choices("scl", (stop, cut, left))
        if way == "l" and caller.session is not None:
            caller.is_ending = True
            caller.session.leave()
        elif way == "c":
            caller.cut()
        else:
            caller.hang_up()

    # --- calls --------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether all calls were placed."""
        return self._is_placed.is_set()

    def hear_place(self, line: str) -> None:
        """A line as `places.Place.line` writes it, or "!" of a call that the webhook refused."""
        if len(self._lines) < self.options.calls:
            self._lines.append(self._place(line))
            if len(self._lines) == self.options.calls:
                self._is_placed.set()
        elif self.meters.is_open:
            replaced = self._lines[self._oldest]
            self._end(replaced)
            forget = partial(self._forget, replaced)
            self.alarms.add(trio.current_time() + REMEMBERED, forget)
            self._lines[self._oldest] = self._place(line)
            self._oldest = (self._oldest + 1) % self.options.calls
            self.meters.churned += 1

    def _place(self, line: str) -> Caller:
        call_sid, host, path, parameters, *headers = (line if line != "!" else "\t\t\t").split("\t")
        caller = Caller(self, self._placed, call_sid, parameters)
        self._callers[self._placed] = caller
        self._placed += 1
        if line == "!":
            caller.refuse()
        else:
            self._nursery.start_soon(self._carry, caller, host, path, headers)
        return caller

    def _forget(self, caller: Caller, due: float) -> float | None:
        if caller.hung_up is None:  # its agent has not said all yet
            return due + REMEMBERED
        self._past.count(self._callers.pop(caller.serial))
        return None

    async def _carry(self, caller: Caller, host: str, path: str, headers: list[str]) -> None:
        stream = None
        try:
            with trio.fail_after(HANDSHAKE):
                stream = await self._dial(host)
                rest = await _shake_hands(stream, host, path, headers)
        except (NotConnected, trio.TooSlowError, trio.BrokenResourceError, _NoWebsocket) as exc:
            if not self.meters.refused:
                is_slow = isinstance(exc, trio.TooSlowError)
                reason = f"no answer within {HANDSHAKE:g} s" if is_slow else exc or exc.__cause__
                print(f"generator: the bridge refuses: {reason}", file=sys.stderr)
            caller.refuse()
            if stream is not None:
                await trio.aclose_forcefully(stream)
            return
        link = Link(stream, is_client=True)
        caller.begin(link)
        await link.run(caller, rest)


class _NoWebsocket(Exception):
    """The answer to the handshake."""


async def _shake_hands(stream: trio.abc.Stream, host: str, path: str, headers: list[str]) -> bytes:
    """What has come behind the answer.

    Raises:
        _NoWebsocket: it is a refusal, or nothing that can be read.
    """
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_ANSWER)
    given = [each.partition(": ")[::2] for each in headers if each]
    request = h11.Request(
        method="GET",
        target=path,
        headers=[
            ("Host", host),
            ("User-Agent", "Twilio.TmeWs/1.0"),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", base64.b64encode(random.randbytes(16)).decode()),
            *given,
        ],
    )
    try:
        sent = (http.send(event) or b"" for event in (request, h11.EndOfMessage()))
        await stream.send_all(b"".join(sent))
        while (answer := http.next_event()) is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(MOST_ANSWER)))
    except (h11.RemoteProtocolError, trio.BrokenResourceError) as exc:
        raise _NoWebsocket(f"no HTTP: {exc}") from exc
    if not isinstance(answer, h11.InformationalResponse) or answer.status_code != 101:
        raise _NoWebsocket(f"HTTP/1.1 {getattr(answer, 'status_code', 'without an answer')}")
    return bytes(http.trailing_data[0])

"""What a conversation costs in Python, counted and not timed: the same on a busy machine.

python bench/talk.py [--calls 3] [--turns 4] [--bare | --flights] [--uncounted]

The calls of `turns.py` have the load generator's conversation: every four seconds a turn of the
agent's, five frames of the caller's a tick, and each mark echoed in the next. Time is a clock of
its own. Behind the calls are the event feed and the figures, unless they are `--bare`; with
`--flights` they are recorded, too. Counted are the bytecodes of what is done between two reads of
the far ends, by function.

`--uncounted` is for `valgrind --tool=callgrind`: what a run with more turns takes beyond a shorter
one are the instructions of so many call-seconds, those of the rig among them. So it is with the
memory that a core has to fetch anew in each turn, which costs more than the instructions: with
`--tool=cachegrind --cache-sim=yes --D1=262144,16,64` and 40 calls, no call finds its own in there.
"""

import collections
import gc
import re
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import FrameType
from typing import Any

import click
import structlog.testing
import trio
import trio.testing
import turns

from sts_trio.bridge.run import Bridge
from sts_trio.flight.recorder import Allowance, FlightRecorder
from sts_trio.logic.dialogue import Dialogue, any_call, no_call
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.requests import says_all
from sts_trio.observe.feed import EventFeed
from sts_trio.observe.figures import Figures
from sts_trio.observe.kept import KeptEvents
from sts_trio.wire import deepgram, deepgram_settings, frames

TICK = 0.1
TICKS = 40  # of a turn
FIVE = frames.masked_text(turns.FRAME.encode()) * 5
# What the agent says, and in which tick of its turn: two seconds of audio, in pieces.
CLIP = b"\xaa" * 1600
PIECES = (2000, 1600, 3200, 960, 2400, 2080, 1920, 1840)
AGENT: dict[int, tuple[deepgram.TextFromAgent | deepgram.Audio, ...]] = {
    0: (deepgram.UserStartedSpeaking(),),
    8: (deepgram.ConversationText("user", "When does the last train to the coast leave?"),),
    9: (deepgram.ConversationText("agent", "The last one leaves at ten past eleven."),),
    10: tuple(deepgram.Audio(bytes(range(1, 161)) * (size // 160)) for size in PIECES),
    11: (deepgram.AgentAudioDone(),),
}
MARK = re.compile(rb'"mark":\{"name":"([^"]+)"\}')
# As the server has it, where nothing is configured.
POLICY = CallPolicy(
    reconnects=True,
    resumes=True,
    one_moment=CLIP,
    apology=CLIP,
    answer_within=5.0,
    ask_after=30.0,
    hang_up_after=30.0,
    longest=7200.0,
)


class Counter:
    """{function: bytecodes}, while `on`."""

    def __init__(self, *, is_counting: bool) -> None:
        self.found: collections.Counter[str] = collections.Counter()
        self._is_counting = is_counting

    @contextmanager
    def on(self) -> Iterator[None]:
        sys.settrace(self._trace if self._is_counting else None)
        try:
            yield
        finally:
            sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        code = frame.f_code
        name = f"{'/'.join(code.co_filename.rsplit('/', 2)[1:])} {code.co_qualname}"

        def count(frame: FrameType, event: str, argument: Any) -> Any:
            self.found[name] += event == "opcode"
            return count

        return count


class Talk(turns.Rig):
    def __init__(self, *, is_bare: bool, has_flights: bool) -> None:
        super().__init__()
        self._is_bare, self._has_flights = is_bare, has_flights
        self._feed, self._allowance = EventFeed(), Allowance()
        self._feed.listen(Figures().hear)

    def make_call(self, settings: deepgram_settings.Settings) -> Bridge:
        dialogue: Dialogue
        now = trio.current_time()
        if self._has_flights:
            dialogue = FlightRecorder(
                lambda wanted: settings,
                self._allowance,
                0.0,
                is_expected=any_call,
                forward=0.02,
                now=now,
                policy=POLICY,
                can_say=says_all,
                needs_release=no_call,
            ).dialogue
        else:
            dialogue = Dialogue(lambda wanted: settings, now=now, policy=POLICY)
        if self._is_bare:
            return Bridge(dialogue, self._open_caller, self)
        return Bridge(dialogue, self._open_caller, self, tell=KeptEvents(self._feed).tell)

    async def take_turn(self, clock: trio.testing.MockClock, counter: Counter) -> None:
        echoes = [b""] * len(self.callers)
        for tick in range(TICKS):
            for message in AGENT.get(tick, ()):
                self.say(self.agents, turns._of_agent(message))
                with counter.on():
                    self.poller.poll()
            for caller, echo in zip(self.callers, echoes, strict=True):
                caller.sendall(FIVE + echo)
            clock.jump(TICK)
            with counter.on():
                self.ticker.strike()
            await trio.lowlevel.checkpoint()
            echoes = [_echoes(_read(caller)) for caller in self.callers]
            self.hear(self.agents)
        for caller, echo in zip(self.callers, echoes, strict=True):
            caller.sendall(echo)


def _read(caller: Any) -> bytes:
    try:
        data: bytes = caller.recv(turns.MAX)
    except BlockingIOError:  # nothing was said
        return b""
    return data


def _echoes(said: bytes) -> bytes:
    message = b'{"event":"mark","sequenceNumber":"7","streamSid":"%s","mark":{"name":"%s"}}'
    sid = turns.STREAM_SID.encode()
    return b"".join(frames.masked_text(message % (sid, name)) for name in MARK.findall(said))


async def _talk(
    calls: int, count: int, talk: Talk, counter: Counter, clock: trio.testing.MockClock
) -> None:
    with closing(talk):
        async with trio.open_nursery() as nursery:
            await talk.place_calls(calls, nursery)
            await talk.take_turn(clock, Counter(is_counting=False))  # caches fill
            gc.collect()
            gc.disable()
            for _ in range(count):
                await talk.take_turn(clock, counter)
            gc.enable()
            nursery.cancel_scope.cancel()


@click.command(help=__doc__)
@click.option("--calls", type=click.IntRange(1), default=3, show_default=True)
@click.option("--turns", "count", type=click.IntRange(1), default=4, show_default=True)
@click.option("--bare", is_flag=True, help="Nothing behind the calls.")
@click.option("--flights", is_flag=True, help="What they hear is recorded.")
@click.option("--uncounted", is_flag=True, help="For a tool that counts by itself.")
@click.option("--top", default=40, show_default=True, help="So many functions are told.")
def main(calls: int, count: int, bare: bool, flights: bool, uncounted: bool, top: int) -> None:
    clock = trio.testing.MockClock()
    counter = Counter(is_counting=not uncounted)
    with structlog.testing.capture_logs():  # each call has a line to tell, and none is asked for
        talk = Talk(is_bare=bare, has_flights=flights)
        trio.run(_talk, calls, count, talk, counter, clock, clock=clock)
    seconds = calls * count * TICKS * TICK
    print(f"{counter.found.total() / seconds:10.1f} bytecodes a call-second")
    for name, found in counter.found.most_common(top):
        print(f"{found / seconds:10.1f} {name}")


if __name__ == "__main__":
    main()

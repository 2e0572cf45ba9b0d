"""A simulated person with a phone, for as long as a call lasts.

Every 20 ms, on an absolute schedule, the phone plays what is due, asks the caller's script for a
frame, and gives it to whatever the call is connected to just then: a media stream, or somebody who
was dialled. When that is nothing, what is said is said to nobody, and what is heard is silence.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import trio

from sts_trio.audio.frames import FRAME, seconds
from sts_trio.simulate.earpiece import Announced, Earpiece, Spans
from sts_trio.simulate.script import QUIET, CallerScript, HangUp

FRAME_SECONDS = seconds(FRAME)
# How long a bridge that has stopped reading can hold up a call beyond its limit.
STUCK = 1.0
# "loop=0": until the call is over, which Twilio takes to be a thousand times.
ENDLESS = 1000
# An agent is taken to be speaking through the gaps between words.
JUST_NOW = 0.3


class Moment(msgspec.Struct, frozen=True):
    """How a call stands, for those who watch it."""

    seconds: float
    caller_speaks: bool
    agent_speaks: bool
    saying: str = ""  # the caller's words, if they are known
    stretches: int = 0  # how often the agent has begun to speak
    # How long the caller had waited when it began to; None if it was not after the caller's words.
    wait: float | None = None
    announced: str = ""  # what the carrier itself says just now


Watch = Callable[[Moment], None]


class Line(Protocol):
    """What a phone is connected to."""

    async def carry(self, frame: bytes, keys: str, reached: list[str]) -> None:
        """20 ms of what the caller says, the keys that were pressed in them, and the marks that
        were reached in what is played."""
        ...


class Phone:
    """`script` is what who has it does. `begin` it once, then let them `talk`, once."""

    def __init__(self, script: CallerScript, watch: Watch | None) -> None:
        self.script = script
        self.earpiece = Earpiece()
        self.said = bytearray()
        self.line: Line | None = None
        self.announced: list[Announced] = []
        self.began = 0.0
        self.hung_up_at: float | None = None
        self.vanished = False
        self._watch = watch
        self._announces = ""
        self._own = Spans()

    @property
    def now(self) -> float:
        """Seconds since the call began."""
        return trio.current_time() - self.began

    def begin(self) -> None:
        self.began = trio.current_time()

    async def play(self, audio: bytes, loop: int = 1) -> None:
        """They hear this, µ-law, to its end: so often, or `loop=0` until it is cancelled."""
        for _ in range(loop or ENDLESS):
            self.earpiece.play(audio, self.now)
            try:
                await trio.sleep(seconds(len(audio)))
            except trio.Cancelled:
                self.earpiece.drop(self.now)
                raise

    async def announce(self, audio: bytes, words: str, loop: int = 1) -> None:
        """`play` what the carrier says of its own, when nobody else talks with the caller."""
        self.earpiece.advance(self.now)
        began, self._announces, self.earpiece.is_announcement = self.now, words, True
        try:
            await self.play(audio, loop)
        finally:
            self.earpiece.advance(self.now)
            self._announces, self.earpiece.is_announcement = "", False
            self.announced.append(Announced(began, self.now, words))

    async def talk(self, opening: Callable[[], Awaitable[None]] | None = None) -> HangUp:
        """Until the caller wants to hang up, or is held up by a bridge that does not read.

        `opening` comes before the first word.
        """
        goodbye = HangUp(abruptly=True)
        with trio.move_on_after(self.script.limit + STUCK) as limit:
            if opening is not None:
                await opening()
            goodbye = await self._speak()
        if limit.cancelled_caught:
            self.script.out_of_time = True
        self.hung_up_at = self.now
        self.vanished = goodbye.abruptly and not self.script.out_of_time
        return goodbye

    async def _speak(self) -> HangUp:
        while True:
            begins = seconds(len(self.said))
            frame = self.script.frame(begins, self.earpiece.audible)
            if isinstance(frame, HangUp):
                return frame
            # A frame is 20 ms of what was said: it can only leave when they have passed.
            await trio.sleep_until(self.began + begins + FRAME_SECONDS)
            self.said += frame
            keys, reached = self.script.take_keys(), self.earpiece.advance(self.now)
            if self.line is not None:
                await self.line.carry(frame, keys, reached)
            if self._watch is not None:
                self._own.add(frame)
                self._watch(self._moment(frame))

    def _moment(self, frame: bytes) -> Moment:
        agent, own, saying = self.earpiece.audible, self._own, self.script.saying
        began = agent.spans[-1][0] if agent.spans else 0.0
        # Who spoke before, since the caller did, has answered already.
        answered = len(agent.spans) > 1 and agent.spans[-2][0] >= own.last
        return Moment(
            self.now,
            frame != QUIET,
            bool(agent.spans) and self.now - agent.last < JUST_NOW,
            saying=saying,
            stretches=len(agent.spans),
            wait=began - own.last if own.spans and began >= own.last and not answered else None,
            announced=self._announces,
        )

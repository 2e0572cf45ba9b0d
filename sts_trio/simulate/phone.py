"""The phone of a simulated caller: Twilio's messages at Twilio's pace, on a connected websocket.

One task listens to the bridge: what it sends is read as strictly and played as Twilio does, see
`earpiece`. Another is the phone itself: every 20 ms, on an absolute schedule, it plays what is due,
asks the caller's script for a frame, and sends it.
"""

import collections
import contextlib
import uuid
from collections.abc import Callable
from typing import assert_never

import msgspec
import trio
import trio_websocket

from sts_trio.audio.frames import FRAME, seconds
from sts_trio.simulate.earpiece import Earpiece, Spans
from sts_trio.simulate.report import BINARY, NOT_A_MESSAGE, Report, report
from sts_trio.simulate.script import QUIET, CallerScript, HangUp
from sts_trio.wire import twilio

FRAME_SECONDS = seconds(FRAME)
GOODBYE_TIMEOUT = 2.0  # for the answer to our close frame
# How long a bridge that has stopped reading can hold up a call beyond its limit.
STUCK = 1.0
# Letters of why a message is refused, which may quote the bridge.
MAX_REASON = 300
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


Watch = Callable[[Moment], None]


class Sids(msgspec.Struct, frozen=True):
    """Whose call it is, and which."""

    account: str = msgspec.field(default_factory=lambda: f"AC{uuid.uuid4().hex}")
    call: str = msgspec.field(default_factory=lambda: f"CA{uuid.uuid4().hex}")


class Phone:
    """A call whose handshake is done. Run it once."""

    def __init__(
        self,
        socket: trio_websocket.WebSocketConnection,
        stream: trio.abc.Stream,
        script: CallerScript,
        parameters: dict[str, str],
        watch: Watch | None,
        sids: Sids | None = None,
    ) -> None:
        self._socket = socket
        self._stream = stream
        self._script = script
        self._parameters = parameters
        self._watch = watch
        self._earpiece = Earpiece()
        self._said = bytearray()
        self._own = Spans()
        self._stream_sid = f"MZ{uuid.uuid4().hex}"
        sids = sids or Sids()
        self._call_sid = sids.call
        self._account_sid = sids.account
        self._sequence = 0
        self._began = 0.0
        self._refused: collections.Counter[int] = collections.Counter()
        self._first_refusal = ""
        self._closed_by = ""
        self._hung_up_at: float | None = None
        self._vanished = False
        self._is_unanswered = False
        self._hung_up = trio.Event()

    @property
    def _now(self) -> float:
        return trio.current_time() - self._began

    async def run(self) -> Report:
        """Returns when the websocket is closed, by either side."""
        self._began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._phone)
            await self._listen()
            if self._closed_by:
                await self._hung_up.wait()
            else:
                self._closed_by = "bridge"
            nursery.cancel_scope.cancel()
        closed = self._socket.closed
        return report(
            bytes(self._said),
            self._earpiece,
            self._script,
            seconds=self._now,
            refused=dict(self._refused),
            first_refusal=self._first_refusal,
            closed_by=self._closed_by,
            close_code=closed.code if closed and not self._is_unanswered else None,
            call_sid=self._call_sid,
            began=self._began,
            hung_up_at=self._hung_up_at,
            vanished=self._vanished,
        )

    # --- the phone ------------------------------------------------------------------------------

    async def _phone(self) -> None:
        """Until the caller hangs up, or the bridge has."""
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            goodbye = await self._converse()
            self._closed_by = "caller"
            self._hung_up_at = self._now
            if goodbye.abruptly:
                self._vanished = not self._script.out_of_time
                await trio.aclose_forcefully(self._stream)
            else:
                await self._say_goodbye()
        self._hung_up.set()

    async def _converse(self) -> HangUp:
        """Until the caller wants to hang up, or is held up by a bridge that does not read."""
        with trio.move_on_after(self._script.limit + STUCK):
            await self._send(twilio.Connected())
            await self._send(self._start())
            return await self._speak()
        self._script.out_of_time = True
        return HangUp(abruptly=True)

    async def _speak(self) -> HangUp:
        while True:
            begins = seconds(len(self._said))
            frame = self._script.frame(begins, self._earpiece.audible)
            if isinstance(frame, HangUp):
                return frame
            # A frame is 20 ms of what was said: it can only leave when they have passed.
            await trio.sleep_until(self._began + begins + FRAME_SECONDS)
            self._said += frame
            await self._send(self._media(frame))
            for key in self._script.take_keys():
                await self._send(self._dtmf(key))
            await self._echo(self._earpiece.advance(self._now))
            if self._watch is not None:
                self._own.add(frame)
                self._watch(self._moment(frame))

    def _moment(self, frame: bytes) -> Moment:
        agent, own, saying = self._earpiece.audible, self._own, self._script.saying
        began = agent.spans[-1][0] if agent.spans else 0.0
        # Who spoke before, since the caller did, has answered already.
        answered = len(agent.spans) > 1 and agent.spans[-2][0] >= own.last
        return Moment(
            self._now,
            frame != QUIET,
            bool(agent.spans) and self._now - agent.last < JUST_NOW,
            saying=saying,
            stretches=len(agent.spans),
            wait=began - own.last if own.spans and began >= own.last and not answered else None,
        )

    async def _say_goodbye(self) -> None:
        stop = twilio.Stop(
            twilio.StreamStop(self._call_sid, self._account_sid),
            stream_sid=self._stream_sid,
            sequence_number=self._next_number(),
        )
        with trio.move_on_after(GOODBYE_TIMEOUT) as scope:
            await self._send(stop)
            await self._socket.aclose()
        self._is_unanswered = scope.cancelled_caught

    def _start(self) -> twilio.Start:
        return twilio.Start(
            twilio.StreamStart(
                stream_sid=self._stream_sid,
                call_sid=self._call_sid,
                account_sid=self._account_sid,
                custom_parameters=self._parameters,
            ),
            stream_sid=self._stream_sid,
            sequence_number=self._next_number(),
        )

    def _media(self, frame: bytes) -> twilio.Media:
        return twilio.Media(
            twilio.Inbound(
                frame, chunk=len(self._said) // FRAME, timestamp=round(self._now * 1000)
            ),
            stream_sid=self._stream_sid,
            sequence_number=self._next_number(),
        )

    def _dtmf(self, key: str) -> twilio.Dtmf:
        return twilio.Dtmf(
            twilio.Digit(key),
            stream_sid=self._stream_sid,
            sequence_number=self._next_number(),
        )

    async def _echo(self, names: list[str]) -> None:
        for name in names:
            await self._send(
                twilio.Mark(
                    twilio.MarkName(name),
                    stream_sid=self._stream_sid,
                    sequence_number=self._next_number(),
                )
            )

    def _next_number(self) -> int:
        """Numbers are given just before sending: there is no checkpoint between the two."""
        self._sequence += 1
        return self._sequence

    async def _send(self, message: twilio.Message) -> None:
        await self._socket.send_message(twilio.encode_as_twilio(message))

    # --- the listener ---------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Until the websocket is closed, by whom ever."""
        while True:
            try:
                data = await self._socket.get_message()
            except trio_websocket.ConnectionClosed:
                return
            # The answer to a goodbye comes as a closed socket to the one and to the other.
            with contextlib.suppress(trio_websocket.ConnectionClosed):
                await self._echo(self._take(data))

    def _take(self, data: str | bytes) -> list[str]:
        """Does what the bridge asks for; returns the marks to be echoed."""
        if isinstance(data, bytes):
            return self._refuse(BINARY, "a binary message")
        try:
            message = twilio.decode_as_twilio(data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
            return self._refuse(NOT_A_MESSAGE, f"{exc}: {data[:100]}")
        if message.stream_sid != self._stream_sid:
            return self._refuse(NOT_A_MESSAGE, f"not our streamSid: {message.stream_sid}")
        match message:
            case twilio.PlayMedia():
                return self._earpiece.play(message.media.payload, self._now)
            case twilio.PlayMark():
                return self._earpiece.mark(message.mark.name, self._now)
            case twilio.Clear():
                return self._earpiece.clear(self._now)
            case _:
                assert_never(message)

    def _refuse(self, warning: int, reason: str) -> list[str]:
        self._refused[warning] += 1
        self._first_refusal = self._first_refusal or reason[:MAX_REASON]
        return []

"""One media stream of a call: Twilio's end of a connected websocket, with Twilio's messages.

What the bridge sends is read as strictly, and played as Twilio plays it, see `earpiece`.
"""

import collections
import contextlib
import uuid
from collections.abc import Sequence
from typing import assert_never

import msgspec
import trio
import trio_websocket

from sts_trio.simulate.phone import Phone
from sts_trio.simulate.report import BINARY, NOT_A_MESSAGE
from sts_trio.wire import twilio

GOODBYE_TIMEOUT = 2.0  # for the answer to our close frame
# Letters of why a message is refused, which may quote the bridge.
MAX_REASON = 300


class Sids(msgspec.Struct, frozen=True):
    """Whose call it is, and which."""

    account: str = msgspec.field(default_factory=lambda: f"AC{uuid.uuid4().hex}")
    call: str = msgspec.field(default_factory=lambda: f"CA{uuid.uuid4().hex}")


class MediaStream:
    """A stream whose handshake is done, for a phone. `begin` it once and `listen` once."""

    def __init__(
        self,
        socket: trio_websocket.WebSocketConnection,
        stream: trio.abc.Stream,
        phone: Phone,
        parameters: dict[str, str],
        sids: Sids,
    ) -> None:
        self.sid = f"MZ{uuid.uuid4().hex}"
        self.refused: collections.Counter[int] = collections.Counter()
        self.first_refusal = ""
        self._socket = socket
        self._stream = stream
        self._phone = phone
        self._parameters = parameters
        self._sids = sids
        self._began = 0.0
        self._sequence = 0
        self._chunk = 0
        self._has_begun = False
        self._is_unanswered = False
        self._sending = trio.CancelScope()

    @property
    def close_code(self) -> int | None:
        """With which code it was closed; None while it is open, or if our goodbye had no answer."""
        closed = self._socket.closed
        return int(closed.code) if closed and not self._is_unanswered else None

    async def begin(self) -> None:
        """The phone speaks by this stream from now on."""
        self._began = trio.current_time()
        self._phone.line = self
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            await self._send(twilio.Connected())
            await self._send(self._start())
        self._has_begun = True

    async def listen(self) -> None:
        """Until the websocket is closed, by whom ever."""
        while True:
            try:
                data = await self._socket.get_message()
            except trio_websocket.ConnectionClosed:
                return
            # The answer to a goodbye comes as a closed socket to the one and to the other.
            with contextlib.suppress(trio_websocket.ConnectionClosed):
                await self._echo(self._take(data))

    async def carry(self, frame: bytes, keys: str, reached: list[str]) -> None:
        """What the phone has to send, if `start` was. Waits for a bridge that does not read, until
        the end."""
        if not self._has_begun:
            return
        self._chunk += 1
        with (
            trio.CancelScope() as self._sending,
            contextlib.suppress(trio_websocket.ConnectionClosed),
        ):
            await self._send(self._media(frame))
            for key in keys:
                await self._send(self._dtmf(key))
            await self._echo(reached)

    async def end(self, unreached: Sequence[str] = ()) -> None:
        """The marks that were not reached, `stop`, and a close frame; no longer than
        `GOODBYE_TIMEOUT`."""
        self._release()
        with (
            contextlib.suppress(trio_websocket.ConnectionClosed),
            trio.move_on_after(GOODBYE_TIMEOUT) as scope,
        ):
            await self._echo(unreached)
            await self._send(self._stop())
            await self._socket.aclose()
        self._is_unanswered = scope.cancelled_caught

    async def abort(self) -> None:
        """The connection is gone, without a goodbye."""
        self._release()
        await trio.aclose_forcefully(self._stream)

    def _release(self) -> None:
        """The phone is connected to nothing, and held up by nothing."""
        if self._phone.line is self:
            self._phone.line = None
        self._sending.cancel()

    async def is_there(self) -> bool:
        """Whether the bridge answers a ping. Cancel it to give up."""
        try:
            await self._socket.ping()
        except trio_websocket.ConnectionClosed:
            return False
        return True

    def _start(self) -> twilio.Start:
        return twilio.Start(
            twilio.StreamStart(
                stream_sid=self.sid,
                call_sid=self._sids.call,
                account_sid=self._sids.account,
                custom_parameters=self._parameters,
            ),
            stream_sid=self.sid,
            sequence_number=self._next_number(),
        )

    def _media(self, frame: bytes) -> twilio.Media:
        return twilio.Media(
            twilio.Inbound(
                frame,
                chunk=self._chunk,
                timestamp=round((trio.current_time() - self._began) * 1000),
            ),
            stream_sid=self.sid,
            sequence_number=self._next_number(),
        )

    def _dtmf(self, key: str) -> twilio.Dtmf:
        return twilio.Dtmf(
            twilio.Digit(key),
            stream_sid=self.sid,
            sequence_number=self._next_number(),
        )

    def _stop(self) -> twilio.Stop:
        return twilio.Stop(
            twilio.StreamStop(self._sids.call, self._sids.account),
            stream_sid=self.sid,
            sequence_number=self._next_number(),
        )

    async def _echo(self, names: Sequence[str]) -> None:
        for name in names:
            await self._send(
                twilio.Mark(
                    twilio.MarkName(name),
                    stream_sid=self.sid,
                    sequence_number=self._next_number(),
                )
            )

    def _next_number(self) -> int:
        """Numbers are given just before sending: there is no checkpoint between the two."""
        self._sequence += 1
        return self._sequence

    async def _send(self, message: twilio.Message) -> None:
        await self._socket.send_message(twilio.encode_as_twilio(message))

    def _take(self, data: str | bytes) -> list[str]:
        """Does what the bridge asks for; returns the marks to be echoed."""
        if isinstance(data, bytes):
            return self._refuse(BINARY, "a binary message")
        try:
            message = twilio.decode_as_twilio(data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
            return self._refuse(NOT_A_MESSAGE, f"{exc}: {data[:100]}")
        if message.stream_sid != self.sid:
            return self._refuse(NOT_A_MESSAGE, f"not our streamSid: {message.stream_sid}")
        if self._phone.line is not self:
            return []  # the call is elsewhere
        match message:
            case twilio.PlayMedia():
                return self._phone.earpiece.play(message.media.payload, self._phone.now)
            case twilio.PlayMark():
                return self._phone.earpiece.mark(message.mark.name, self._phone.now)
            case twilio.Clear():
                return self._phone.earpiece.clear(self._phone.now)
            case _:
                assert_never(message)

    def _refuse(self, warning: int, reason: str) -> list[str]:
        self.refused[warning] += 1
        self.first_refusal = self.first_refusal or reason[:MAX_REASON]
        return []

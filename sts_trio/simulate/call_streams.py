"""The media streams of one call of a simulated carrier: each is opened, carried, and ended by
either side, as `Unknowns` has it.
"""

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import trio
import trio_websocket

from sts_trio.simulate.account import Account
from sts_trio.simulate.call_requests import CallRequests, Url
from sts_trio.simulate.connect import (
    WEBSOCKET,
    NotAUrl,
    NotConnected,
    connect,
    host_of,
    key_for,
    parts_of,
    target_of,
)
from sts_trio.simulate.media_stream import GOODBYE_TIMEOUT, MediaStream, Sids
from sts_trio.simulate.phone import Phone
from sts_trio.simulate.phone_call import Streamed
from sts_trio.simulate.report import LOST
from sts_trio.simulate.twiml import Stream
from sts_trio.simulate.websocket import websocket
from sts_trio.wire.printable import quoted

# Twilio's error: a stream's connection was lost.
BROKEN = 31903

# A connection that is kept open, and what to set when it need not be any more.
_Held = tuple[trio_websocket.WebSocketConnection, trio.abc.Stream, trio.Event]


class CallStreams:
    """`carried` are those that are over; `url` is that of the newest. With a caller who has
    `vanished` no stream is told."""

    def __init__(self, account: Account, phone: Phone, sids: Sids, requests: CallRequests) -> None:
        self.vanished = False
        self.url = ""
        self.carried: list[Streamed] = []  # their times are Trio's
        self.refused: dict[int, int] = {}  # {Twilio's warning: how often}
        self.first_refusal = ""
        self._account = account
        self._unknowns = account.unknowns
        self._phone = phone
        self._sids = sids
        self._requests = requests

    async def carry(
        self, stream: Stream, url: str, callback: Url, on_opened: Callable[[], Awaitable[None]]
    ) -> str:
        """Who ended it; see `Streamed`. `on_opened` is called once it is open, or will not be."""
        opened = trio.current_time()
        ended_by = "refused"
        self.url = url
        try:
            socket, connection, is_done = await self._requests.nursery.start(self._hold_open, url)
            try:
                await on_opened()
                media = MediaStream(
                    socket,
                    connection,
                    self._phone,
                    stream.parameters | self._account.parameters,
                    self._sids,
                )
                ended_by = await self._media(media, url, stream.name, callback)
            finally:
                is_done.set()
        except NotConnected as exc:
            await on_opened()
            reason = str(exc)
            if isinstance(exc, NotAUrl):  # not what was asked for, but what the webhook answers
                reason = f"the webhook has the call streamed to {quoted(url)}"
            self._requests.problem(exc.code, reason, exc.status)
            now = trio.current_time()
            self.carried.append(Streamed("", url, opened, now, "refused", None))
            self._tell(callback, "", stream.name, "stream-error", reason)
        return ended_by

    async def _hold_open(self, url: str, *, task_status: trio.TaskStatus[_Held]) -> None:
        """A stream's connection, until that is done: it outlives the program, for a goodbye."""
        parts, port = parts_of(url, WEBSOCKET)
        signed = {} if self._account.sign is None else self._account.sign(url, {})
        stream = await connect(parts.hostname or "", port, parts.scheme == "wss")
        async with websocket(
            stream,
            host=host_of(parts),
            path=target_of(parts),
            headers={**key_for(stream), **self._account.headers, **signed},
            timeout=self._unknowns.handshake_timeout,
        ) as socket:
            is_done = trio.Event()
            task_status.started((socket, stream, is_done))
            await is_done.wait()

    async def _media(self, media: MediaStream, url: str, name: str, callback: Url) -> str:
        began = trio.current_time()
        ended_by = "carrier"
        phone = self._phone
        try:
            self._tell(callback, media.sid, name, "stream-started")
            await media.begin()
            async with trio.open_nursery() as nursery:
                if self._unknowns.notices_silence_after < math.inf:
                    nursery.start_soon(self._look_after, media)
                await media.listen()
                nursery.cancel_scope.cancel()
            ended_by = "lost" if media.close_code in (LOST, None) else "bridge"
        finally:
            plays_out = ended_by == "bridge" and self._unknowns.plays_out_after_close
            if ended_by == "carrier":
                # The call is over, or goes elsewhere. `end` has its own limit; this is behind it.
                with trio.move_on_after(2 * GOODBYE_TIMEOUT, shield=True):
                    if self.vanished:
                        await media.abort()
                    else:
                        pending = phone.earpiece.drop(phone.now)
                        await media.end(pending if self._unknowns.echoes_marks_at_stop else ())
            phone.earpiece.drop(phone.now, audio=not plays_out)
            ended = trio.current_time()
            self.carried.append(Streamed(media.sid, url, began, ended, ended_by, media.close_code))
            for warning, count in media.refused.items():
                self.refused[warning] = self.refused.get(warning, 0) + count
            self.first_refusal = self.first_refusal or media.first_refusal
            if ended_by == "lost":
                reason = "the stream's connection was lost without a close frame"
                self._requests.problem(BROKEN, reason)
                self._tell(callback, media.sid, name, "stream-error", "connection lost")
            else:
                self._tell(callback, media.sid, name, "stream-stopped")
        return ended_by

    async def _look_after(self, media: MediaStream) -> None:
        """Gives a connection up that shows no sign of life."""
        patience = self._unknowns.notices_silence_after
        while True:
            with trio.move_on_after(patience) as waiting:
                await media.is_there()
            if waiting.cancelled_caught:
                await media.abort()
                return
            await trio.sleep(patience / 2)

    def _tell(self, callback: Url, sid: str, name: str, event: str, error: str = "") -> None:
        if not callback.url:
            return
        fields = {
            "AccountSid": self._sids.account,
            "CallSid": self._sids.call,
            "StreamSid": sid,
            "StreamName": name or sid,
            "StreamEvent": event,
            "Timestamp": datetime.now(UTC).isoformat(),
            **({"StreamError": error} if error else {}),
        }
        delay = self._unknowns.status_callback_delay
        self._requests.tell_soon(callback.url, fields, callback.method, after=delay)

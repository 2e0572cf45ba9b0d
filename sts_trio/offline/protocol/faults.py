"""What can go wrong with an agent, on purpose, so that others can be tested against it.

Seconds count from the moment the websocket is open. `FaultySession` is a session that misbehaves
within the protocol; `FaultyStream` is a transport that does.
"""

import math

import msgspec
import trio

from sts_trio.offline.protocol.session import NO_STATUS, Act, HangUp, Message, Session
from sts_trio.offline.speech import voice
from sts_trio.offline.speech.pacing import pieces
from sts_trio.wire import deepgram

_NEVER = math.inf


class Garbage(msgspec.Struct, frozen=True):
    """A text frame that goes out as it is."""

    text: str


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """No fault by default."""

    refuse_status: int | None = None  # the handshake is answered by this HTTP status
    hang_in_handshake: bool = False  # ... or by nothing at all
    no_welcome: bool = False
    no_settings_applied: bool = False
    garbage: tuple[str, ...] = ()  # text frames sent right after SettingsApplied
    flood: float = 0.0  # seconds of speech sent at once, right after SettingsApplied
    error_after: float = _NEVER  # `Error`, then a close frame
    error_code: str = "INTERNAL_SERVER_ERROR"
    close_after: float = _NEVER  # a close frame without a reason, with `close_code`
    close_code: int = 1000
    drop_after: float = _NEVER  # the transport is gone without a close frame
    mute_after: float = _NEVER  # nothing leaves any more, no pong either; all is still read
    stop_reading_after: float = _NEVER  # nothing is read any more; sending goes on


class FaultySession:
    """A `Session` in all it offers, and its faults."""

    def __init__(self, session: Session, faults: Faults) -> None:
        self._session = session
        self._faults = faults
        self._ends_at = _NEVER

    @property
    def deadline(self) -> float:
        return min(self._session.deadline, self._ends_at)

    def open(self, now: float) -> list[Act | Garbage]:
        self._ends_at = now + min(self._faults.error_after, self._faults.close_after)
        acts = self._session.open(now)
        return [] if self._faults.no_welcome else [*acts]

    def hear(self, message: Message, now: float) -> list[Act | Garbage]:
        if self._faults.no_settings_applied:
            return []
        acts: list[Act | Garbage] = []
        for act in self._session.hear(message, now):
            acts.append(act)
            if isinstance(act, deepgram.SettingsApplied):
                acts += map(Garbage, self._faults.garbage)
                acts += pieces(_speech(self._faults.flood))
        return acts

    def wake(self, now: float) -> list[Act | Garbage]:
        if now < self._ends_at:
            return [*self._session.wake(now)]
        self._ends_at = _NEVER
        if self._faults.close_after < self._faults.error_after:
            return [HangUp(self._faults.close_code)]
        error = deepgram.AgentError(self._faults.error_code, "a fault made on purpose")
        return [error, HangUp(NO_STATUS)]


def _speech(duration: float) -> bytes:
    sentence = voice.say("This is far more than anybody wants to hear at once.")
    wanted = round(duration * 8000)
    return (sentence * (wanted // len(sentence) + 1))[:wanted]


class FaultyStream(trio.abc.Stream):
    """A transport that goes bad at given times of Trio's clock; `begin` starts counting."""

    def __init__(self, stream: trio.abc.Stream, faults: Faults) -> None:
        self._stream = stream
        self._faults = faults
        self._began = _NEVER

    def begin(self) -> None:
        self._began = trio.current_time()

    def _is_past(self, delay: float) -> bool:
        return trio.current_time() >= self._began + delay

    async def run(self) -> None:
        """Drops the transport when it is time to. To be run beside the session, once begun."""
        await trio.sleep_until(self._began + self._faults.drop_after)
        await trio.aclose_forcefully(self._stream)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._faults.hang_in_handshake or self._is_past(self._faults.mute_after):
            await trio.lowlevel.checkpoint()
        else:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        # A read that began in time is let finish; what it got is the last that is read.
        if self._is_past(self._faults.stop_reading_after):
            await trio.sleep_forever()
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()

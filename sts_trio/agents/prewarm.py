"""An agent leg that is dialled, and made ready to talk, before there is a call to hand it to.

Theory of operation
-------------------
A Trio nursery cannot be given away, so neither can a leg: it lives and dies in the task that opened
it. That task, `PrewarmedSession.run`, belongs to the app and lives on when a call claims the
session. From then on the call owns its lifetime: leaving `claimed()`, also by cancellation, cancels
the task, and waits until it is gone and the socket with it. So a call's end leaves as little as if
it had dialled.

The other way round, when the task ends first (the app goes away), the call hears that the leg is
lost.

The task listens all the time. Until a call claims the session, what is heard is kept, in order;
then it is handed on as it comes, in the task that heard it. The session is ready when the agent has
applied its `Settings`. From then until it is claimed the agent hears silence: it gives up on a
client that sends no audio, and `KeepAlive` is reported not to be enough (deepgram-js-sdk, issue
419). Nothing but `Settings` is sent before `SettingsApplied`; the protocol forbids it.

A session that fails in whatever way, or that no call uses, is discarded: it says goodbye and is
never handed over. A call that wanted it dials afresh, as if there had been none.
"""

import contextlib
import contextvars
import enum
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from math import inf
from typing import Any

import msgspec
import trio

from sts_trio.agents.endpoints import PATIENCE, AgentLeg
from sts_trio.audio.frames import SILENCE, length
from sts_trio.errors import AgentUnreachable, How, Leg, LegEnded
from sts_trio.legs import Idle, ignore
from sts_trio.logic.states import AGENT_TIMEOUT
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.wire import deepgram, deepgram_settings

# Twilio opens the stream within a second of the answer to its webhook. Later than this, the caller
# has hung up, or the stream went to another process.
UNUSED = 20.0
# Half a second at a time is well within what any agent waits for audio, and few wake-ups.
SILENCE_EVERY = 0.5
# A greeting, at the agent's pace. Who speaks for longer before anyone is there is out of order.
MAX_AUDIO = 30.0
# The same in messages, of 20 ms of audio at the least, and some texts beside.
MAX_MESSAGES = 2000
# Bytes of these texts: what a greeting says, and settings told back, are a few KiB.
MAX_TEXT = 65536
# The call hears so many at once, so that others have their turn in between.
AT_ONCE = 256
# For the agent's answer to our close frame.
GOODBYE = 1.5
# For the task to close its socket, which waits for nobody.
GONE = 1.0

Hear = Callable[[Sequence[Any]], None]


class State(enum.Enum):
    PREPARING = enum.auto()
    READY = enum.auto()
    HANDED_OVER = enum.auto()
    DISCARDED = enum.auto()


class PrewarmedSession:
    """One such leg. `run` it in a nursery that outlives the call; the call enters `claimed`.

    `open_leg` dials; `settings` is what the agent is prepared with.
    """

    def __init__(
        self,
        call_sid: str,
        open_leg: Callable[[], AbstractAsyncContextManager[AgentLeg]],
        settings: deepgram_settings.Settings,
    ) -> None:
        self.state = State.PREPARING
        self.gone = trio.Event()
        self._call_sid = call_sid
        self._open_leg = open_leg
        self._settings = settings
        self._unused_at = trio.current_time() + UNUSED
        self._leg: AgentLeg
        self._is_open = False
        self._kept: list[Any] = []
        self._audio = 0  # bytes of it among what is kept
        self._text = 0  # ... and of all else
        self._hear: Hear = self._keep
        self._idle: Idle = ignore
        self._bug: Exception | None = None  # of the call, in what it hears with
        self._has_ended = False  # and that was heard
        # Of the task. The deadline is for dialling.
        self._scope = trio.CancelScope(deadline=trio.current_time() + AGENT_TIMEOUT)
        # Of all it does before the goodbye. The deadline is that of the step it is at.
        self._patience = trio.CancelScope()
        self._goodbye = trio.CancelScope()  # of the call
        self._is_taken = trio.Event()
        self._is_welcome = trio.Event()
        self._is_applied = trio.Event()
        self._is_decided = trio.Event()  # ready or discarded
        self._is_over = trio.Event()  # nothing more is to be heard

    # --- the app's side -------------------------------------------------------------------------

    @property
    def is_good(self) -> bool:
        """Whether a call may still have it."""
        return self.state in (State.PREPARING, State.READY)

    async def run(self) -> None:
        """From dialling to goodbye. Whatever happens to the session, nothing is raised."""
        try:
            with self._scope:
                async with self._open_leg() as leg:
                    self._scope.deadline = inf
                    # It may have passed in the moment in which the leg opened.
                    await trio.lowlevel.checkpoint_if_cancelled()
                    self._is_open = True
                    await self._hold(leg)
        except* AgentUnreachable as group:
            self.discard(f"cannot be dialled: {group.exceptions[0]}")
        except* Exception:
            report(events.AgentPrewarmCrashed(self._call_sid), exc_info=True)
        finally:
            self.discard("cut off")
            self._hear = _hear_no_more  # not what it was, a method of this session
            self._is_over.set()
            self._goodbye.cancel()
            self.gone.set()

    def discard(self, reason: str) -> None:
        """Gives the session up; with a goodbye, if there is anyone to say it to. One that was
        handed over is let be."""
        if self.state in (State.HANDED_OVER, State.DISCARDED):
            return
        self.state = State.DISCARDED
        self._kept.clear()
        self._hear = _hear_no_more
        (self._patience if self._is_open else self._scope).cancel()
        self._is_decided.set()
        report(events.AgentPrewarmDiscarded(self._call_sid, reason))

    async def _hold(self, leg: AgentLeg) -> None:
        self._leg = leg
        self._patience.deadline = trio.current_time() + AGENT_TIMEOUT
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            with self._patience:
                await self._prepare()
            if self.state is State.PREPARING:
                self.discard(f"not ready within {AGENT_TIMEOUT:g} s")
            else:
                self.discard(f"nobody wanted it for {UNUSED:g} s")
            with trio.move_on_after(GOODBYE):
                await leg.aclose(1000)
            nursery.cancel_scope.cancel()

    async def _listen(self) -> None:
        try:
            # Not bound methods of now: who hears will be somebody else.
            await self._leg.listen(lambda batch: self._hear(batch), lambda now: self._idle(now))
            self._has_ended = True
        except Exception as exc:
            if self.state is not State.HANDED_OVER:
                raise
            self._bug = exc
        finally:
            self._is_over.set()

    async def _prepare(self) -> None:
        """Sends all that is sent before somebody takes the line. Ends by cancellation only."""
        await self._is_welcome.wait()
        await self._leg.send(self._settings)
        await self._is_applied.wait()
        while not self._is_taken.is_set():
            await self._leg.send(deepgram.Audio(SILENCE * length(SILENCE_EVERY)))
            with trio.move_on_after(SILENCE_EVERY):
                await self._is_taken.wait()
        await trio.sleep_forever()

    def _keep(self, batch: Sequence[Any]) -> None:
        self._kept.extend(batch)
        for message in batch:
            if not isinstance(message, deepgram.Audio):
                self._text += len(msgspec.json.encode(message))
            match message:
                case deepgram.Audio(data):
                    self._audio += len(data)
                case deepgram.Welcome():
                    self._is_welcome.set()
                case deepgram.SettingsApplied() if self.state is State.PREPARING:
                    self.state = State.READY
                    self._patience.deadline = self._unused_at
                    self._is_applied.set()
                    self._is_decided.set()
                case deepgram.AgentError(code, description):
                    self.discard(f"{code}: {description}")
                case LegEnded(_, how):
                    self.discard(f"the agent's connection: {how.value}")
        if (
            self._audio > length(MAX_AUDIO)
            or self._text > MAX_TEXT
            or len(self._kept) > MAX_MESSAGES
        ):
            self.discard(
                f"over {MAX_AUDIO:g} s of audio, {MAX_TEXT} bytes of text or {MAX_MESSAGES}"
                " messages before a call"
            )

    # --- the call's side ------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def claimed(self) -> AsyncIterator["PrewarmedLeg | None"]:
        """The leg, as soon as it is ready; None if it is not to be had, within `PATIENCE`.

        When this is left, by whatever way, nothing is left of the leg.
        """
        self._is_taken.set()
        try:
            with trio.move_on_after(PATIENCE):
                await self._is_decided.wait()
            if self.state is State.PREPARING:
                self.discard(f"not ready {PATIENCE:g} s after it was wanted")
            yield self._hand_over()
        finally:
            if self.state is not State.DISCARDED:
                self._scope.cancel()
                with trio.move_on_after(GONE, shield=True):
                    await self.gone.wait()

    def _hand_over(self) -> "PrewarmedLeg | None":
        self._patience.deadline = inf
        # It may have passed in this very moment.
        if self.state is not State.READY or self._patience.cancel_called:
            return None
        self.state = State.HANDED_OVER
        return PrewarmedLeg(self, self._leg)

    async def listen(self, hear: Hear, idle: Idle) -> None:
        try:
            hear(self._next_kept())
            while self._kept:  # of these, and of what comes meanwhile
                await trio.lowlevel.checkpoint()
                hear(self._next_kept())
            # What `hear` starts is to inherit the call's context, not that of who dialled.
            context = contextvars.copy_context()
            self._hear = lambda batch: context.run(hear, batch)
            self._idle = idle
            await self._is_over.wait()
            if self._bug is not None:
                raise self._bug
        finally:
            self._hear, self._idle = _hear_no_more, ignore
            self._bug = None  # its traceback has this session
        if not self._has_ended:
            hear([LegEnded(Leg.AGENT, How.LOST)])

    def _next_kept(self) -> list[Any]:
        kept, self._kept = self._kept[:AT_ONCE], self._kept[AT_ONCE:]
        return kept

    async def aclose(self, code: int) -> None:
        """The goodbye of the call; nobody would answer it once the task is gone."""
        with trio.CancelScope() as self._goodbye:
            if not self.gone.is_set():
                await self._leg.aclose(code)


class PrewarmedLeg:
    """The leg of a session, for the call that claimed it. See `sts_trio.legs` for the contract."""

    is_prepared = True

    def __init__(self, line: PrewarmedSession, leg: AgentLeg) -> None:
        self.is_polled = leg.is_polled
        self.try_send = leg.try_send
        self.aclose = line.aclose
        self._send = leg.send
        self._line = line

    async def listen(self, hear: Hear, idle: Idle = ignore) -> None:
        await self._line.listen(hear, idle)

    async def send(self, message: deepgram.ToAgent) -> None:
        """Sends it, but no second `Settings`: to the agent, these are the end of the session."""
        if not isinstance(message, deepgram_settings.Settings):
            await self._send(message)


def _hear_no_more(batch: Sequence[Any]) -> None:
    """What comes when nobody listens any more."""

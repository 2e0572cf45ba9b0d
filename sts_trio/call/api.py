"""What a call's own code is given of it: the functions that its agent calls, and the app.

A face: it has neither task nor socket. What is asked of it goes to the dialogue, which is told in
the same moment, and answers through `Pending`.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any, Protocol

import msgspec
import trio

from sts_trio.audio.frames import seconds
from sts_trio.audio.tones import tones
from sts_trio.call.info import CallInfo, streamed
from sts_trio.call.notes import Notes, Value
from sts_trio.call.pending import Pending
from sts_trio.errors import CallOver, Cause, Ending, NumberRefused
from sts_trio.logic.acts import (
    Ask,
    CancelRequest,
    Close,
    Collect,
    Collected,
    HandOver,
    Heard,
    PlayTones,
    Protect,
    RequestDone,
    WaitUntilHeard,
)
from sts_trio.logic.playout import Playout
from sts_trio.observe import events
from sts_trio.wire import deepgram, deepgram_settings, twilio

# How long protected words may take to be heard: the longest legal text, read slowly.
PROTECTED_WITHIN = 120.0

Blocks = dict[str, Any] | list[dict[str, Any]]


class PlayoutStats(msgspec.Struct, frozen=True):
    """What became of the agent's audio, in seconds."""

    heard_seconds: float  # the caller has heard it
    unheard_seconds: float  # the caller is still to hear it
    cut_seconds: float  # the caller will never hear it


class CallView(Protocol):
    """What the face reads of `sts_trio.logic.dialogue.Dialogue`."""

    @property
    def start(self) -> twilio.StreamStart | None: ...
    @property
    def agent(self) -> str: ...
    @property
    def playout(self) -> Playout: ...
    @property
    def is_closing(self) -> bool: ...


class Recording(Protocol):
    """What is needed here of `sts_trio.records.recorder.Recording`."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Call:
    """A live call. What its methods ask for raises `CallOver` once the call has ended."""

    __slots__ = (
        "_agents",
        "_may_transfer",
        "_notes",
        "_pending",
        "_recording",
        "_report",
        "_tell",
        "_view",
    )

    def __init__(
        self,
        view: CallView,
        tell: Callable[[Heard], None],
        pending: Pending,
        report: Callable[[events.OfCall], None],
        notes: Notes,
        *,
        agents: Collection[str] = (),
        may_transfer: Callable[[str], bool] = lambda number: False,
        recording: Recording | None = None,
    ) -> None:
        self._recording = recording
        self._view = view
        self._tell = tell
        self._pending = pending
        self._report = report
        self._notes = notes
        self._agents = agents
        self._may_transfer = may_transfer

    @property
    def info(self) -> CallInfo:
        """Who is calling whom; nothing of it is known before the stream has begun."""
        return streamed(self._view.start)

    @property
    def agent(self) -> str:
        """The configured agent that the caller talks with, "" before there is one."""
        return self._view.agent

    @property
    def playout(self) -> PlayoutStats:
        """What the caller has heard of the agent so far, and what not, as it is now."""
        ledger = self._view.playout
        return PlayoutStats(seconds(ledger.heard), seconds(ledger.unheard), seconds(ledger.cut))

    def note(self, **values: Value) -> None:
        """Notes something of the call for whoever looks at it later: an order's number, a mood.

        Each is told as an event, `call.noted`.

        Raises:
            ValueError: more than a hundred of one call, a name of over 64 letters or a text of over
                1000, or a value that is no text, number or bool.
        """
        if self._pending.is_over:
            raise CallOver("the call has ended")
        self._notes.add(values)

    def pause_recording(self) -> None:
        """From now on the call's recording is silent on both sides, until `resume_recording` was
        called as often as this. Of a call that is not recorded, or over, nothing comes of it."""
        if self._recording is not None:
            self._recording.pause()
            self._report(events.CallRecordingPaused())

    def resume_recording(self) -> None:
        """Undoes one `pause_recording`."""
        if self._recording is not None:
            self._recording.resume()
            self._report(events.CallRecordingResumed())

    async def say(self, text: str, *, interrupt: bool = False) -> None:
        """Has the agent say this, after what it is saying; returns when it begins to.

        `interrupt`: instead of what it is saying, unless that is protected.

        Raises:
            AgentRefused: the caller is speaking, so the agent keeps quiet; or it has been
                interrupted by other words of yours.
            AgentTimedOut: it did not begin within 10 s.
        """
        await self._ask(deepgram.InjectAgentMessage(text, "interrupt" if interrupt else "queue"))

    async def inject(self, text: str) -> None:
        """Has the agent take this as said by the caller; returns when it has.

        Raises:
            AgentRefused: the legacy dialect has no words for it.
            AgentTimedOut: it did not within 10 s.
        """
        await self._ask(deepgram.InjectUserMessage(text))

    async def update_prompt(self, text: str) -> None:
        """Adds to the agent's prompt; to replace it, `update_think`. Raises as `inject` does."""
        await self._ask(deepgram.UpdatePrompt(text))

    async def update_think(self, think: Blocks) -> None:
        """Replaces the agent's whole `think` block: what is left out of it is gone, functions
        included. A list has one for when those before it fail. Fields that are newer than this
        package are kept.

        Raises as `inject` does, and `msgspec.ValidationError` for what is none.
        """
        deepgram_settings.check_block(
            think, deepgram_settings.Think | list[deepgram_settings.Think]
        )
        await self._ask(deepgram.UpdateThink(msgspec.to_builtins(think)))

    async def update_speak(self, speak: Blocks) -> None:
        """Replaces the agent's `speak` block, from its next words on. As `update_think`."""
        deepgram_settings.check_block(
            speak, deepgram_settings.Speak | list[deepgram_settings.Speak]
        )
        await self._ask(deepgram.UpdateSpeak(msgspec.to_builtins(speak)))

    async def update_listen(self, listen: dict[str, Any]) -> None:
        """Changes how the agent hears: what is left out keeps its value, but `language_hints`. The
        rest is as with `update_think`; there are no lists."""
        deepgram_settings.check_block(listen, deepgram_settings.Listen)
        await self._ask(deepgram.UpdateListen(msgspec.to_builtins(listen)))

    async def force_end_turn(self) -> None:
        """Has the agent take the caller's turn for over now. Only Flux listeners do. Returns when
        it has been told.

        Raises:
            AgentRefused: the legacy dialect has no words for it.
            AgentTimedOut: there was no agent to be told for 10 s.
        """
        await self._ask(deepgram.ForceEndTurn())

    @contextlib.asynccontextmanager
    async def protected(self) -> AsyncIterator[None]:
        """What is said inside will be heard to the end: the caller cannot cut it off.

        The agent hears silence instead of the caller meanwhile, as it would fall silent itself.
        Leaving waits until everything has been heard.

        Raises:
            AgentTimedOut: it was not, within `PROTECTED_WITHIN` seconds.
            AgentRefused: the agent was lost in the middle.
        """
        self._order(Protect())
        try:
            yield
            await self._get(lambda number: WaitUntilHeard(number, PROTECTED_WITHIN))
        finally:
            if not self._pending.is_over:
                self._tell(Protect(is_over=True))

    async def hang_up(self) -> None:
        """Ends the call once the agent's goodbye has been heard, or after 15 s. Does not wait."""
        self._order(Close(Ending(Cause.HUNG_UP)))
        await trio.lowlevel.checkpoint()

    async def transfer(self, number: str) -> None:
        """As `hang_up`; then the caller is connected to that phone number (E.164).

        Raises:
            NumberRefused: it is not among `STS_TRANSFER_NUMBERS`.
            CallOver: the call is ending already.
        """
        if not self._may_transfer(number):
            self._report(events.TransferRefused(number[:32]))
            raise NumberRefused(f"{number} is not among the numbers that may be transferred to")
        if self._view.is_closing:
            raise CallOver("the call is ending already")
        self._order(Close(Ending(Cause.TRANSFERRED, number)))
        await trio.lowlevel.checkpoint()

    async def hand_over(self, agent: str) -> None:
        """Another configured agent goes on, knowing what was said so far, once the caller has heard
        what this one is saying. Does not wait.

        Raises:
            ValueError: there is no such agent.
        """
        if agent not in self._agents:
            raise ValueError(f"expected one of {', '.join(self._agents)}, got {agent!r}")
        self._order(HandOver(agent))
        await trio.lowlevel.checkpoint()

    async def send_dtmf(self, digits: str) -> None:
        """Plays the keys' tones to the caller's side. Does not wait.

        Raises:
            ValueError: something in `digits` is no key.
        """
        self._order(PlayTones(tones(digits)))
        await trio.lowlevel.checkpoint()

    async def collect_digits(
        self, most: int = 32, *, finish: str = "#", within: float = 20.0, between: float = 5.0
    ) -> str:
        """Waits for what the caller keys in: `most` keys, or those before one of `finish`.

        All of them may take `within` seconds, each after the first `between`; then what there is,
        which may be nothing, is returned.
        """
        answer = await self._get(lambda number: Collect(number, most, finish, within, between))
        assert isinstance(answer, Collected)
        return answer.digits

    async def _ask(self, message: deepgram.TextToAgent) -> None:
        await self._get(lambda number: Ask(number, message))

    async def _get(self, question: Callable[[int], Heard]) -> RequestDone | Collected:
        return await self._pending.request(
            lambda number: self._tell(question(number)),
            lambda number: self._tell(CancelRequest(number)),
        )

    def _order(self, message: Heard) -> None:
        if self._pending.is_over:
            raise CallOver("the call has ended")
        self._tell(message)

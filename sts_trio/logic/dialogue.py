"""One call's state machine: what is heard goes in, acts come out.

Pure: no sockets, no clock, no tasks.

Theory of operation
-------------------
`hear(batch, now)` takes what the legs heard, in order, and returns the acts to perform, in order.
Time is an input; `deadline` is an output: when it passes, `Tick` is to be heard. Nothing here
waits, and nothing here fails: what a peer does wrong is counted, logged once, and if it makes the
call meaningless, ends it.

A call is three small machines side by side, the tables of which are in `states`: Twilio's `stream`,
the agent's `session`, and the `closing` of the call. Beside them stand parts that keep count of one
thing each: `turns` (who speaks, what was said and heard), `function_calls`, `requests` (what was
asked of the agent), `answer_watch` (what the agent owes), `limits` (silence, the longest
call), `caller_audio` and `keypad`. None knows another. `routes` tells each message to the part that
owns it, `parts` has what concerns several. Each part names its own deadline; the nearest one is the
call's.
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol

from sts_trio.audio.frames import seconds
from sts_trio.logic import endings
from sts_trio.logic.acts import Act, Heard, SendToAgent
from sts_trio.logic.caller_audio import CallerAudio
from sts_trio.logic.due import deadlines, rare_deadline
from sts_trio.logic.output import Statistics
from sts_trio.logic.parts import Parts
from sts_trio.logic.perception import PERCEPTION, Perception
from sts_trio.logic.playout import Playout
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.requests import says_all
from sts_trio.logic.routes import HANDLERS
from sts_trio.logic.session import Settings, SettingsWanted
from sts_trio.logic.states import ClosingState, Phase, SessionState, StreamState, phase_of
from sts_trio.wire import deepgram, twilio

__all__ = ["Dialogue", "Settings", "SettingsWanted", "Statistics"]

# The caller's audio moves no deadline but those of a batch and of a gap, which `caller_audio` keeps
# by itself.
_MOVES_NO_DEADLINE: frozenset[type[Heard]] = frozenset({twilio.Media})
# Nor does the agent's, or a mark, while nobody waits for what the caller hears.
_NOR_DOES_PLAYOUT: frozenset[type[Heard]] = frozenset({twilio.Media, deepgram.Audio, twilio.Mark})


def any_call(call_sid: str) -> bool:
    return True


def no_call(start: twilio.StreamStart) -> bool:
    return False


class Witness(Protocol):
    """Is shown what a dialogue hears and does, but for the audio of a caller that it just passes
    on: that moves nothing but `Dialogue.caller_audio`."""

    def hear(self, batch: Sequence[Heard], now: float, /) -> None:
        """Before it is heard."""
        ...

    def see(self, acts: Sequence[Act], /) -> None:
        """What came of it. Not after a hearing that raised: that was a bug."""
        ...


class Dialogue:
    """The state of one call.

    `settings` makes the agent's `Settings` once the caller is known. `is_expected` tells, by its
    SID, whether a call may be streamed here. `can_say` tells whether the agent's dialect has words
    for a message, `needs_release` whether Twilio has to be asked to end that phone call, as the end
    of its stream does not. `perception` is what it decides by content. There may be a `witness`.
    Of a call that `was_elsewhere`, in another process, `Recalled` is to be heard before there is an
    agent. A stream that is cut `may_come_back` where Twilio asks us what comes next.
    """

    __slots__ = (
        "_is_plain",
        "_moves_nothing",
        "_parts",
        "_rare_deadline",
        "_stream",
        "_witness",
        "caller_audio",
    )

    def __init__(
        self,
        settings: Settings,
        *,
        is_expected: Callable[[str], bool] = any_call,
        forward: float = 0.02,
        now: float = 0.0,
        policy: CallPolicy | None = None,
        can_say: Callable[[deepgram.ToAgent], bool] = says_all,
        needs_release: Callable[[twilio.StreamStart], bool] = no_call,
        perception: Perception = PERCEPTION,
        witness: Witness | None = None,
        was_elsewhere: Callable[[twilio.StreamStart], bool] = no_call,
        may_come_back: Callable[[twilio.StreamStart], bool] = no_call,
    ) -> None:
        self._parts = Parts(
            settings,
            policy or CallPolicy(),
            is_expected,
            can_say,
            needs_release,
            perception,
            was_elsewhere,
            may_come_back,
            forward,
            now,
        )
        self._witness = witness
        # Asked for every media frame.
        self._stream = self._parts.stream
        self.caller_audio: CallerAudio = self._parts.caller_audio
        self._is_plain = False  # the two sides talk, and nothing else is under way
        self._moves_nothing = _MOVES_NO_DEADLINE  # while it is plain
        self._rare_deadline = inf
        self._rest()

    def hear(self, batch: Sequence[Heard], now: float) -> list[Act]:
        """What to do about what was heard, in order. Nothing follows a `HangUp`."""
        pieces = self._stream.speech(batch) if self._is_plain else []
        if pieces and len(pieces) == len(batch) and (speech := b"".join(pieces)):
            # Nearly all there is to hear; it takes the short way.
            audio = self.caller_audio.pass_on(speech, now)
            return [SendToAgent(deepgram.Audio(audio))] if audio else []
        if (witness := self._witness) is None:
            return self._hear(batch, now, pieces)
        witness.hear(batch, now)
        acts = self._hear(batch, now, pieces)
        witness.see(acts)
        return acts

    def _hear(self, batch: Sequence[Heard], now: float, pieces: list[bytes]) -> list[Act]:
        """`pieces` are the caller's audio that the batch begins with, as far as that is plain."""
        parts = self._parts
        if parts.closing.is_over:
            return []
        parts.out.now = now
        parts.is_deaf = False
        needs_settling, moves_nothing = not self._is_plain, self._moves_nothing
        if pieces:
            self.caller_audio.hear(b"".join(pieces), now)
            batch = batch[len(pieces) :]
        for message in batch:
            kind = type(message)
            if parts.is_deaf and (kind is not twilio.Media or parts.closing.is_over):
                break
            if kind not in moves_nothing:
                needs_settling = True
            HANDLERS[kind](parts, message)
        if audio := self.caller_audio.due(now):
            parts.out.to_agent(deepgram.Audio(audio))
        if needs_settling:
            if not parts.closing.is_over:
                endings.settle(parts)
            self._rest()
        return parts.out.drain()

    def _rest(self) -> None:
        """When to be woken, whether the short way is open, and what would change neither."""
        parts = self._parts
        session, closing = parts.session, parts.closing
        is_talking = closing.is_open and session.is_live and self._stream.is_flowing
        self._is_plain = is_talking and not parts.is_listening
        self._moves_nothing = _MOVES_NO_DEADLINE if parts.hears_out else _NOR_DOES_PLAYOUT
        self._rare_deadline = inf if closing.is_over else rare_deadline(parts)

    @property
    def deadline(self) -> float:
        """When `Tick` is to be heard, unless something else moves it first. `inf`: never."""
        return min(self.rare_deadline, self.caller_audio.gap_deadline)

    @property
    def rare_deadline(self) -> float:
        """The same without the one deadline that every media frame moves: cheap enough to be asked
        many times a second."""
        batch = self.caller_audio.batch_deadline
        return batch if batch < self._rare_deadline else self._rare_deadline

    # --- what can be seen of the call -----------------------------------------------------------

    @property
    def states(self) -> tuple[StreamState, SessionState, ClosingState]:
        """Of the three machines."""
        return self._parts.stream.state, self._parts.session.state, self._parts.closing.state

    @property
    def deadlines(self) -> dict[str, float]:
        """{who waits for something: until when}. For people to see: `deadline` is the nearest."""
        return deadlines(self._parts)

    @property
    def phase(self) -> Phase:
        return phase_of(self._parts.session.state, self._parts.closing.state)

    @property
    def is_closing(self) -> bool:
        """Whether the call is only waiting for its last words to be heard."""
        return not (self._parts.closing.is_open or self._parts.closing.is_over)

    @property
    def start(self) -> twilio.StreamStart | None:
        """What Twilio told about the call; `None` before it did."""
        start = self._stream.start
        return None if start is None else start.start

    @property
    def call_sid(self) -> str:
        return self._stream.call_sid

    @property
    def stream_sid(self) -> str:
        return self._stream.stream_sid

    @property
    def agent(self) -> str:
        """The configured agent that the caller talks with, "" before there is one."""
        return self._parts.session.agent

    @property
    def request_id(self) -> str:
        """The agent's own name for its newest session, "" before there is one."""
        return self._parts.session.request_id

    @property
    def playout(self) -> Playout:
        """What the caller has heard of the agent, and what not."""
        return self._parts.turns.agent_audio.playout

    def turn_after(self, question: str) -> int | None:
        """The number of the caller's turn that came after they had last heard that question to its
        end; `None`: there is none."""
        return self._parts.turns.turn_after(question)

    @property
    def may_come_back(self) -> bool:
        """Whether a stream that ends now would be waited for."""
        return self._parts.closing.is_open and self._parts.stream.may_come_back

    @property
    def is_away(self) -> bool:
        """Whether the stream is cut, and may be back in a moment."""
        return self._parts.stream.is_away

    def is_at_rest(self, now: float) -> bool:
        """Whether nothing is under way that would be torn if another process went on from here: the
        two sides are between two turns, no function runs, and no keys are collected."""
        parts = self._parts
        is_busy = (
            parts.function_calls.are_awaited
            or parts.keypad.is_collecting
            or parts.requests.are_pending
            or parts.handing_over.agent is not None
        )
        is_talking = parts.closing.is_open and parts.session.is_live and not parts.stream.is_away
        return is_talking and not is_busy and parts.turns.is_quiet(now)

    def time_to_dial(self, now: float) -> float:
        """How long a dial may still take; a call that no longer waits for one has no limit."""
        return self._parts.session.time_to_dial(now)

    def statistics(self) -> Statistics:
        parts, caller_audio = self._parts, self.caller_audio
        turns, session = parts.turns, parts.session
        return Statistics(
            caller_audio=_rounded(caller_audio.heard),
            caller_audio_dropped=_rounded(caller_audio.dropped),
            caller_audio_muted=_rounded(caller_audio.muted),
            caller_audio_repeated=_rounded(caller_audio.repeated),
            caller_audio_waited=_rounded(caller_audio.waited),
            agent_audio=_rounded(turns.agent_bytes),
            heard=_rounded(turns.agent_audio.playout.heard),
            cut=_rounded(turns.agent_audio.playout.cut),
            barge_ins=turns.barge_ins,
            false_interruptions=turns.hold.count,
            functions=parts.function_calls.count,
            reconnects=session.reconnect.count,
            longest_gap=round(session.reconnect.longest, 3),
            longest_silence=round(parts.watch.longest, 3),
            violations=parts.out.violations,
        )


def _rounded(length: int) -> float:
    return round(seconds(length), 3)

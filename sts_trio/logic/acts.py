"""What a dialogue hears, beside the peers' own messages, and what it does. Pure: values only."""

import msgspec

from sts_trio.errors import Ending, Leg, LegEnded
from sts_trio.observe.events import CallHeard, CallMoved, OfCall
from sts_trio.wire import deepgram, twilio
from sts_trio.wire.anomalies import Malformed, TooBig, Unknown

# --- heard: what our own side reports -----------------------------------------------------------


class AgentReached(msgspec.Struct, frozen=True):
    """The agent's websocket is open. `agent` is the configured agent that was chosen for the call.

    `is_prepared`: it was dialled ahead, and has had its `Settings` already.
    """

    agent: str = "default"
    is_prepared: bool = False


class DialFailed(msgspec.Struct, frozen=True):
    """There is no websocket to the agent; `status` if it answered with one."""

    reason: str
    status: int | None = None


class OutboxFull(msgspec.Struct, frozen=True):
    """`dropped` bytes of the oldest audio toward `leg` had to go."""

    leg: Leg
    dropped: int


class Unsent(msgspec.Struct, frozen=True):
    """Audio of the caller's that the agent was given and never got, as it is gone."""

    audio: bytes


class Tick(msgspec.Struct, frozen=True):
    """`deadline` has passed."""


class WindUp(msgspec.Struct, frozen=True):
    """The server is to go soon: let a goodbye be heard, then end the call."""


class ShutDown(msgspec.Struct, frozen=True):
    """The server is going away."""


class MoveAway(msgspec.Struct, frozen=True):
    """Another process is to go on with the call: let go of both its sides."""


class CallerGone(msgspec.Struct, frozen=True):
    """The phone call is over: a stream that was cut will not be back."""


class Recalled(msgspec.Struct, frozen=True, kw_only=True):
    """What was before this process had the call: what happened in it (`told`), who the caller
    talked with (`agent`, "" if nobody was chosen yet), for how many seconds (`lasted`), and how
    often a process had let go of it before (`moves`).

    `greets`: the agent has still to introduce itself. `is_cut`: it was in the middle of saying
    something. `settled` is what of it the caller has heard, as far as can be known. `move` is to
    be told.
    """

    told: tuple[OfCall, ...] = ()
    settled: tuple[CallHeard, ...] = ()
    agent: str = ""
    greets: bool = True
    is_cut: bool = False
    lasted: float = 0.0
    moves: int = 0
    move: CallMoved | None = None


class CallReleased(msgspec.Struct, frozen=True):
    """What came of a `ReleaseCall`: it is done, unless there was a `failure`.

    `was_over`: there was no phone call any more that it could have been done with.
    """

    failure: str = ""
    was_over: bool = False


class OperatorHangsUp(msgspec.Struct, frozen=True):
    """The operator wants the call to be over, now."""


class FunctionDone(msgspec.Struct, frozen=True):
    """A function has come to its end. `content` is JSON; with `hand_over`, that agent goes on.

    `is_void`: nobody waits for it any more, but it was not to be torn, and has been done.
    """

    asked: deepgram.FunctionToCall
    content: str
    hand_over: str | None = None
    is_void: bool = False


class FunctionsRunAway(msgspec.Struct, frozen=True):
    """The agent goes on calling functions long after it was refused any more."""


# --- heard: what the call's own code asks for ---------------------------------------------------


class Ask(msgspec.Struct, frozen=True):
    """Tell the agent something, and let me know what it says to it (`RequestDone`)."""

    number: int
    message: deepgram.TextToAgent


class Close(msgspec.Struct, frozen=True):
    """Let the goodbye be heard, then end the call."""

    ending: Ending


class HandOver(msgspec.Struct, frozen=True):
    """Let another configured agent go on."""

    agent: str


class PlayTones(msgspec.Struct, frozen=True):
    """Play our own audio to the caller, whole frames of µ-law."""

    audio: bytes


class Protect(msgspec.Struct, frozen=True):
    """From now on, or (`is_over`) no longer, what is said is to be heard to the end."""

    is_over: bool = False


class WaitUntilHeard(msgspec.Struct, frozen=True):
    """Let me know when the caller has heard all there is (`RequestDone`), or after `within` s."""

    number: int
    within: float


class Collect(msgspec.Struct, frozen=True):
    """Gather what the caller keys in, and let me know (`Collected`).

    Seconds: all keys may take `within`, each after the first `between`.
    """

    number: int
    most: int
    finish: str
    within: float
    between: float


class CancelRequest(msgspec.Struct, frozen=True):
    """The task that asked for `number` no longer waits."""

    number: int


# Everything but audio. After each of these the deadlines are computed afresh.
Control = (
    twilio.Connected
    | twilio.Start
    | twilio.Dtmf
    | twilio.Mark
    | twilio.Stop
    | deepgram.TextFromAgent
    | Unknown
    | Malformed
    | TooBig
    | LegEnded
    | AgentReached
    | DialFailed
    | OutboxFull
    | Unsent
    | Tick
    | WindUp
    | ShutDown
    | MoveAway
    | CallerGone
    | Recalled
    | CallReleased
    | OperatorHangsUp
    | FunctionDone
    | FunctionsRunAway
    | Ask
    | Close
    | HandOver
    | PlayTones
    | Protect
    | WaitUntilHeard
    | Collect
    | CancelRequest
)
Heard = twilio.Media | deepgram.Audio | Control

# --- acts ---------------------------------------------------------------------------------------


class SendToCaller(msgspec.Struct, frozen=True, gc=False):
    message: twilio.ToCaller


class SendToAgent(msgspec.Struct, frozen=True, gc=False):
    message: deepgram.ToAgent


class StreamBegan(msgspec.Struct, frozen=True):
    """It is known now who is calling whom. `was_elsewhere`: let me know what was before
    (`Recalled`)."""

    was_elsewhere: bool = False


class StreamBack(msgspec.Struct, frozen=True):
    """The caller is here again, after `gap` seconds. What waits toward them goes by the stream of
    that name."""

    stream_sid: str
    gap: float


class DropCaller(msgspec.Struct, frozen=True):
    """The caller's leg is gone. The call goes on; it may get another one."""


class FlushCaller(msgspec.Struct, frozen=True):
    """Everything waiting toward the caller is void."""


class Dial(msgspec.Struct, frozen=True):
    """Open a leg to `agent`; `None`: to the agent that is chosen for the call."""

    agent: str | None = None


class DropAgent(msgspec.Struct, frozen=True):
    """Say goodbye to this agent leg, and listen to it no more. The call goes on."""

    code: int = 1000


class ReleaseCall(msgspec.Struct, frozen=True):
    """Have Twilio end the phone call, or transfer it, as `ending` says, and let me know what came
    of it (`CallReleased`)."""

    ending: Ending


class HangUp(msgspec.Struct, frozen=True):
    """Say goodbye on both legs. The last act."""

    ending: Ending


class CallFunctions(msgspec.Struct, frozen=True):
    functions: tuple[deepgram.FunctionToCall, ...]


class CancelFunctions(msgspec.Struct, frozen=True):
    """What these would answer is void."""

    ids: tuple[str, ...]


class RequestDone(msgspec.Struct, frozen=True):
    """What became of an `Ask` or a `WaitUntilHeard`; `refusal` says why it came to nothing."""

    number: int
    refusal: str | None = None
    timed_out: bool = False


class Collected(msgspec.Struct, frozen=True):
    number: int
    digits: str


Act = (
    SendToCaller
    | SendToAgent
    | StreamBegan
    | StreamBack
    | DropCaller
    | FlushCaller
    | Dial
    | DropAgent
    | ReleaseCall
    | HangUp
    | CallFunctions
    | CancelFunctions
    | RequestDone
    | Collected
    | OfCall  # is to be told
)

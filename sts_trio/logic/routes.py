"""Which part of a call is told of which message first, and what follows of its news. Pure.

`HANDLERS` has a function for each message that may be heard: of the caller's and of our own here,
of the agent's in `agent_messages`, of the clock's in `due`. It tells the part that owns the
message, and passes the part's news on; what concerns more than two parts is left to `parts`
and `endings`.
"""

from typing import Any, assert_never

import msgspec

from sts_trio.audio.frames import seconds
from sts_trio.errors import OUTBOX_FULL, Cause, How, Leg, LegEnded
from sts_trio.logic import agent_messages, endings
from sts_trio.logic.acts import (
    AgentReached,
    Ask,
    CallerGone,
    CallReleased,
    CancelRequest,
    Close,
    Collect,
    Collected,
    DialFailed,
    FunctionDone,
    FunctionsRunAway,
    HandOver,
    Heard,
    MoveAway,
    OperatorHangsUp,
    OutboxFull,
    PlayTones,
    Protect,
    Recalled,
    ShutDown,
    StreamBegan,
    Tick,
    Unsent,
    WaitUntilHeard,
    WindUp,
)
from sts_trio.logic.agent_messages import Handler
from sts_trio.logic.answer_watch import Debt
from sts_trio.logic.due import hear_tick
from sts_trio.logic.keypad import is_key
from sts_trio.logic.output import MAX_REASON_CHARS
from sts_trio.logic.parts import Parts
from sts_trio.logic.requests import interrupts
from sts_trio.logic.states import (
    REFUSING_CLOSES,
    SessionInput,
    Violation,
    cause_of_end,
    cause_of_failed_dial,
    retry_of_failed_dial,
)
from sts_trio.logic.stream import (
    Back,
    Cut,
    KeyPressed,
    MarkEchoed,
    Speech,
    Started,
    StreamEnded,
)
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio
from sts_trio.wire.anomalies import Malformed, TooBig, Unknown

OwnWish = Ask | Close | HandOver | PlayTones | Protect | WaitUntilHeard | Collect | CancelRequest
Anomaly = Unknown | Malformed | OutboxFull
End = (
    LegEnded
    | TooBig
    | WindUp
    | ShutDown
    | MoveAway
    | CallerGone
    | OperatorHangsUp
    | FunctionsRunAway
)


def hear_caller(parts: Parts, message: twilio.Message) -> None:
    now = parts.out.now
    match parts.stream.hear(message, now):
        case Speech(audio):
            parts.caller_audio.hear(audio, now)
            if parts.is_listening and parts.perception.is_audible(audio):
                _hear_voice(parts, seconds(len(audio)))
            is_waiting = not parts.caller_audio.is_open
            if is_waiting and parts.caller_audio.keep() and parts.closing.is_open:
                parts.out.violation(Leg.CALLER, "audio dropped: the agent is not ready")
        case MarkEchoed(name):
            _hear_mark(parts, name)
        case KeyPressed(digit):
            parts.out.add(events.CallerDtmf(parts.keypad.is_collecting or None))
            parts.limits.hear_caller(now)
            if is_key(digit) and parts.closing.is_open:
                _speak_by_key(parts)
            parts.out.extend(parts.keypad.press(digit, now))
        case Started():
            assert parts.stream.start is not None
            was_elsewhere = parts.was_elsewhere(parts.stream.start.start)
            parts.out.add(StreamBegan(was_elsewhere))
            parts.closing.needs_release = parts.needs_release(parts.stream.start.start)
            parts.turns.agent_audio.stream_sid = parts.stream.stream_sid
            parts.owe(Debt.SESSION)
            if was_elsewhere:
                parts.session.reconnect.begin_gap(now, now)  # until it is known who goes on
            else:
                parts.session.begin(now)
                parts.dial()
        case Back(gap):
            parts.come_back(gap)
        case StreamEnded(cause, detail):
            if parts.session.is_live and (audio := parts.caller_audio.take()):
                parts.out.to_agent(deepgram.Audio(audio))
            endings.end(parts, cause, detail)
        case Violation(reason):
            parts.out.violation(Leg.CALLER, reason)
        case None:
            pass
        case never:
            assert_never(never)


def _speak_by_key(parts: Parts) -> None:
    """A key is as good as a word, and no noise."""
    if (cut := parts.turns.hear_key(parts.out.now)) is not None:
        parts.cut(cut, is_noise=False)
    if parts.watch.debt is Debt.REST:
        parts.watch.forgive(parts.out.now)


def _hear_voice(parts: Parts, duration: float) -> None:
    """The caller is to be heard, in the middle of something."""
    if parts.watch.is_listening:
        parts.watch.hear_voice(parts.out.now, duration)
    if parts.turns.hold.is_on:
        parts.turns.hold.hear_voice(parts.out.now)


def _hear_mark(parts: Parts, name: str) -> None:
    played = parts.turns.hear_mark(name, parts.out.now)
    if isinstance(played, Violation):
        parts.out.violation(Leg.CALLER, played.reason)
    elif played is not None:
        place = parts.caller_audio.heard
        position = parts.turns.agent_audio.playout.position
        if (waited := parts.response.hear_mark(position, place, parts.out.now)) is not None:
            parts.out.add(events.AgentAnswerHeard(round(waited, 3)))
        parts.out.extend(played.turns)
        if (after := played.silent_after) is not None:
            parts.out.add(events.CallSilenced(round(after, 3)))


def hear_function_done(parts: Parts, done: FunctionDone) -> None:
    function, now = done.asked, parts.out.now
    # The id of one that nobody waits for may be in use again, by an agent of another session.
    is_awaited = not done.is_void and parts.function_calls.complete(function.id)
    if is_awaited or done.is_void:
        # An agent to come is to know of it, even if the one that asked no longer wants to.
        parts.turns.add_function(function, done.content, is_late=done.is_void)
    if done.is_void and parts.session.is_live and parts.closing.is_open:
        parts.requests.report_late_result(function.name, done.content, now)
        parts.send_requests()
    if not is_awaited:
        return
    parts.limits.hear_agent(now)
    if done.hand_over is not None and parts.closing.is_open:
        endings.hand_over(parts, done.hand_over)
    if parts.handing_over.agent is not None:
        return  # who leaves has nothing more to answer
    parts.turns.next_turn()  # what it says from here on has been thought of with this
    parts.out.to_agent(deepgram.FunctionResult(function.id, function.name, done.content))
    if parts.closing.is_open:
        parts.owe(Debt.RESULT)
    parts.closing.wait_for_words(now)


def hear_dial(parts: Parts, message: AgentReached | DialFailed) -> None:
    if isinstance(message, AgentReached):
        parts.session.hear_reached(message, parts.out.now)
    else:
        parts.session.dial_failed()
        cause, retry = cause_of_failed_dial(message.status), retry_of_failed_dial(message.status)
        endings.lose_agent(parts, cause, message.reason, retry=retry)


def hear_own(parts: Parts, wish: OwnWish) -> None:
    """What the call's own code asks for."""
    now = parts.out.now
    match wish:
        case Ask(number, message):
            if interrupts(message):
                message = _interrupt(parts, message)
            parts.out.extend(parts.requests.ask(number, message, now))
            parts.send_requests()
        case Close(ending):
            endings.close(parts, ending)
        case HandOver(agent):
            endings.hand_over(parts, agent)
        case PlayTones(audio):
            parts.out.to_caller(parts.turns.play(audio, now))
        case Protect(is_over):
            parts.closing.protect(is_over=is_over)
            parts.protect()
        case WaitUntilHeard(number, within):
            parts.requests.wait_until_heard(number, now + within)
        case Collect():
            parts.out.extend(parts.keypad.collect(wish, now))
        case CancelRequest(number):
            parts.requests.cancel(number)
            if digits := parts.keypad.keyed_in(number):
                # Nobody waits for them any more, but they are not to be kept either.
                parts.out.add(Collected(number, digits))
            parts.out.extend(parts.keypad.cancel(number, now))
        case _:
            assert_never(wish)


def _interrupt(parts: Parts, message: deepgram.TextToAgent) -> deepgram.TextToAgent:
    """Makes room for these words, or has them come behind those that are to be heard."""
    if parts.closing.is_uninterruptible:
        return msgspec.structs.replace(message, behavior="queue")
    if parts.session.is_live:
        parts.make_room()
    return message


def hear_anomaly(parts: Parts, anomaly: Anomaly) -> None:
    match anomaly:
        case Unknown(leg, tag):
            parts.out.violation(leg, f"unknown message {tag[:MAX_REASON_CHARS]!r}")
        case Malformed(leg, reason):
            parts.out.violation(leg, reason)
        case OutboxFull(leg, dropped):
            if leg is Leg.AGENT:
                parts.caller_audio.drop(dropped)
            parts.out.violation(leg, OUTBOX_FULL)
        case _:
            assert_never(anomaly)


def hear_released(parts: Parts, released: CallReleased) -> None:
    endings.release(parts, released)


def hear_recalled(parts: Parts, past: Recalled) -> None:
    is_awaited = parts.stream.start is not None and parts.session.allows(SessionInput.DIAL)
    if is_awaited and parts.closing.is_open:
        parts.recall(past)


def hear_unsent(parts: Parts, unsent: Unsent) -> None:
    parts.caller_audio.take_back(unsent.audio)


def hear_end(parts: Parts, end: End) -> None:
    match end:
        case LegEnded():
            _hear_leg_ended(parts, end)
        case TooBig(leg, size) if leg is Leg.CALLER:
            endings.end(parts, Cause.CALLER_TOO_BIG, f"a message of {size} bytes")
        case TooBig(_, size):
            endings.lose_agent(parts, Cause.AGENT_TOO_BIG, f"a message of {size} bytes")
        case WindUp():
            endings.wind_up(parts)
        case ShutDown():
            endings.end(parts, Cause.SHUTDOWN)
        case MoveAway():
            endings.end(parts, Cause.MOVED)
        case CallerGone():
            # Twilio may tell it before its socket is seen to be gone.
            parts.stream.hear_call_over()
            if parts.stream.is_away:
                endings.end(parts, Cause.CALLER_LOST)
        case OperatorHangsUp():
            endings.end(parts, Cause.OPERATOR_HUNG_UP)
        case FunctionsRunAway():
            endings.lose_agent(parts, Cause.AGENT_RAN_AWAY, "function calls")
        case _:
            assert_never(end)


def _hear_leg_ended(parts: Parts, ended: LegEnded) -> None:
    detail = " ".join(str(part) for part in (ended.code, ended.reason) if part)
    if ended.leg is Leg.CALLER:
        is_cut = parts.closing.is_open and ended.how is not How.STALLED
        leave = parts.stream.cut if is_cut else parts.stream.end
        news = leave(cause_of_end(ended), detail, parts.out.now)
        if isinstance(news, Cut):
            parts.part()
        else:
            endings.end(parts, news.cause, news.detail)
    elif not (ended.how is How.CLOSED and ended.code == 1000 and endings.finish(parts, detail)):
        is_refusal = ended.how is How.CLOSED and ended.code in REFUSING_CLOSES
        endings.lose_agent(parts, cause_of_end(ended), detail, is_refusal=is_refusal)


def _handlers() -> dict[type[Heard], Handler]:
    """{what may be heard: who hears it}. Of every call the same."""
    families: list[tuple[Any, Handler]] = [
        (twilio.Message, hear_caller),
        (OwnWish, hear_own),
        (Anomaly, hear_anomaly),
        (End, hear_end),
        (AgentReached | DialFailed, hear_dial),
    ]
    handlers: dict[type[Heard], Handler] = {
        **agent_messages.HANDLERS,
        FunctionDone: hear_function_done,
        CallReleased: hear_released,
        Recalled: hear_recalled,
        Unsent: hear_unsent,
        Tick: hear_tick,
    }
    for family, handler in families:
        handlers.update(dict.fromkeys(family.__args__, handler))
    return handlers


HANDLERS = _handlers()

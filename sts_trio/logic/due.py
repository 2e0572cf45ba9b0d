"""What time brings: when a call is to be woken, and what is due then. Pure.

A part that waits for something has a deadline, and a step in `hear_tick`. Both stand here, as
neither is of use without the other.
"""

from typing import assert_never

from sts_trio.errors import Cause, Ending, Leg
from sts_trio.logic import endings
from sts_trio.logic.acts import Tick
from sts_trio.logic.answer_watch import Debt, Due
from sts_trio.logic.limits import Step
from sts_trio.logic.parts import Parts
from sts_trio.observe import events
from sts_trio.wire import deepgram

NO_MARKS = (
    "no mark comes back: nothing is heard of the agent by <Start><Stream>, it has to be <Connect>"
)


def deadlines(parts: Parts) -> dict[str, float]:
    """{who waits for something: until when}; the nearest is the call's. For people to see."""
    now = parts.out.now
    return {
        "stream": parts.stream.deadline,
        "session": parts.session.deadline,
        "closing": parts.closing.deadline(now),
        "requests": parts.requests.deadline,
        "keypad": parts.keypad.deadline,
        "limits": parts.limits.deadline,
        "answer": parts.watch.deadline,
        "hand-over": parts.handing_over.deadline(now),
        "noise": parts.turns.hold.until,
        "marks": parts.turns.agent_audio.marks_due,
        "batch": parts.caller_audio.batch_deadline,
        "gap": parts.caller_audio.gap_deadline,
    }


def rare_deadline(parts: Parts) -> float:
    """When the next of the parts is to be asked, but for `caller_audio`, whose deadlines each media
    frame moves."""
    return min(
        parts.stream.deadline,
        parts.session.deadline,
        parts.closing.deadline(parts.out.now),
        parts.requests.deadline,
        parts.keypad.deadline,
        parts.limits.deadline,
        parts.watch.deadline,
        parts.handing_over.deadline(parts.out.now),
        parts.turns.hold.until,
        parts.turns.agent_audio.marks_due,
    )


def hear_tick(parts: Parts, tick: Tick) -> None:
    """Everything whose deadline has passed; several may be due at once."""
    now = parts.out.now
    if (late := parts.session.tick(now)) is not None:
        endings.lose_agent(parts, late.cause, late.detail)
    elif (ended := parts.stream.tick(now)) is not None:
        endings.end(parts, ended.cause, ended.detail)
    if parts.closing.is_over:
        return
    parts.dial()
    for audio in parts.caller_audio.tick(now):
        parts.out.to_agent(deepgram.Audio(audio))
    if parts.turns.hold.until <= now:
        parts.resume()
    if parts.turns.agent_audio.is_without_marks(now):
        parts.out.violation(Leg.CALLER, NO_MARKS)
    if parts.session.reconnect.is_filler_due(now):
        _say_one_moment(parts)
    while not parts.closing.is_over and (due := parts.watch.due(now)) is not None:
        _make_good(parts, due)
    if parts.closing.is_over:
        return
    parts.out.extend(parts.requests.tick(now, parts.turns.agent_audio.plays_until))
    collected, keys = parts.keypad.tick(now)
    parts.out.extend(collected)
    if keys and parts.closing.is_open:
        parts.requests.tell_keys(keys, now)
    is_busy = parts.function_calls.are_awaited or parts.watch.is_owing
    busy_until = now if is_busy else min(now, parts.turns.user_speaks_until)
    parts.limits.hear_agent(max(busy_until, parts.turns.sounds_until))
    while (step := parts.limits.due(now)) is not None:
        _take(parts, step)
    parts.send_requests()


def _say_one_moment(parts: Parts) -> None:
    now = parts.out.now
    parts.out.to_caller(parts.turns.play(parts.policy.one_moment, now))
    until = max(now, parts.turns.sounds_until)
    parts.watch.hear_words(now, until)
    parts.session.reconnect.hear_filler(until)


def _make_good(parts: Parts, due: Due) -> None:
    """For a caller who is owed something, and hears nothing."""
    match due:
        case Due.GO_ON:
            parts.go_on()
        case Due.WORDS:
            if (mute := parts.watch.mute(parts.out.now)) is not None:
                seconds_mute = round(mute.seconds, 3)
                parts.out.add(events.AgentUnresponsive(mute.debt.value, seconds_mute))
            _say_one_moment(parts)
        case Due.FRESH_SESSION | Due.NO_SESSION:
            debt = parts.watch.debt
            assert debt is not None
            if due is Due.NO_SESSION:
                parts.session.be_the_last()
            endings.lose_agent(parts, Cause.AGENT_MUTE, f"owes {debt.value}", is_refusal=True)
        case _:
            assert_never(due)


def _take(parts: Parts, step: Step) -> None:
    now, policy = parts.out.now, parts.policy
    match step:
        case Step.ASK:
            words = deepgram.InjectAgentMessage(policy.asks, "queue")
            parts.requests.ask(None, words, now)
            parts.owe(Debt.QUESTION)
        case Step.HANG_UP:
            words = deepgram.InjectAgentMessage(policy.farewell, "queue")
            parts.requests.ask(None, words, now, is_insisted=True)
            endings.close(parts, Ending(Cause.SILENCE))
        case Step.WARN:
            words = deepgram.InjectAgentMessage(policy.warning, "queue")
            parts.requests.ask(None, words, now, is_insisted=True)
        case Step.END:
            endings.take_leave(parts, Ending(Cause.TIME_UP))
        case _:
            assert_never(step)

"""How a session of the agent's ends, and how the call does. Pure.

Each of these concerns several parts: the agent is lost, replaced or done; the call is closed,
released or over. What is to follow `session` and `closing` tell; here it does.
"""

from math import inf
from typing import assert_never

import msgspec

from sts_trio.errors import Cause, Ending
from sts_trio.logic.acts import CallReleased, CancelFunctions, HangUp, ReleaseCall
from sts_trio.logic.answer_watch import Debt
from sts_trio.logic.closing import (
    ClosingNews,
    GoOn,
    LastWords,
    LetAgentGo,
    Over,
    Release,
    SayGoodbye,
)
from sts_trio.logic.output import MAX_REASON_CHARS
from sts_trio.logic.parts import Parts
from sts_trio.logic.session import Down, Redialling
from sts_trio.logic.states import RETRY, Retry
from sts_trio.observe import events
from sts_trio.wire import deepgram


def lose_agent(
    parts: Parts,
    cause: Cause,
    detail: str = "",
    *,
    retry: Retry | None = None,
    is_refusal: bool = False,
) -> None:
    """The session is over, or is to be. `is_refusal`: it may be for something it was told,
    which is then not told to session after session. `retry`: if the cause does not tell."""
    if parts.handing_over.agent is not None:
        _hand_over(parts, parts.handing_over.agent)  # this one was leaving anyway
        return
    detail = detail[:MAX_REASON_CHARS]
    is_lighter = is_refusal and _blame(parts)
    lost = parts.session.fail(
        RETRY[cause] if retry is None else retry,
        parts.out.now,
        parts.turns.agent_audio.plays_until,
        is_lighter=is_lighter,
    )
    match lost:
        case Redialling():
            parts.out.add(events.AgentLost(cause.label, detail))
            parts.close_session(cause.agent_code)
            parts.dial()
        case Down():
            apology = parts.policy.apology
            news = parts.closing.session_down(Ending(cause, detail), apology, parts.out.now)
            _follow(parts, news, cause.agent_code)
        case None:
            pass
        case never:
            assert_never(never)


def _blame(parts: Parts) -> bool:
    """Whether the next session will be told less than this one, which died of it."""
    answers, is_less = parts.requests.blame(parts.turns.agent_bytes)
    parts.out.extend(answers)
    carryover = parts.turns.carryover
    blamed = carryover.blame(is_live=parts.session.is_live)
    if is_less or blamed.past or blamed.question:
        parts.out.add(events.AgentContextReduced(blamed.past, blamed.question))
    return is_less or blamed.past or blamed.question


def finish(parts: Parts, detail: str) -> bool:
    """The agent ends its session in good order, and so the call; `False`: too early for that,
    or it owes an answer, so the session is lost."""
    now = parts.out.now
    if parts.turns.hold.is_on and parts.turns.agent_audio.has_whole_rest:
        parts.resume()  # nobody else owes it
    is_owing = parts.watch.is_owing or parts.turns.carryover.owes_answer
    is_owing = is_owing or parts.handing_over.agent is not None
    if parts.closing.is_open and (is_owing or parts.function_calls.are_awaited):
        return False
    if not parts.session.finish(now):
        return False
    ending = Ending(Cause.AGENT_FINISHED, detail[:MAX_REASON_CHARS])
    is_heard = parts.turns.agent_audio.is_heard
    _follow(parts, parts.closing.session_finished(ending, now, is_heard=is_heard))
    return True


def hand_over(parts: Parts, agent: str) -> None:
    """Another agent is to go on, when the caller has heard what this one is saying."""
    turns = parts.turns
    if not parts.session.is_live or not parts.closing.is_open:
        _hand_over(parts, agent)
        return
    is_said = not turns.agent_audio.is_amid_utterance and not turns.agent_audio.is_heard
    parts.handing_over.begin(agent, parts.out.now, turns.agent_audio.plays_until, is_said=is_said)


def _hand_over(parts: Parts, agent: str) -> None:
    """In a session of its own."""
    before = parts.session.agent
    if _replace(parts, agent, events.AgentHandedOver(before, agent)):
        parts.out.extend(parts.requests.forget_updates())
        parts.turns.greets = True  # it introduces itself
        parts.dial()


def _renew(parts: Parts) -> None:
    """A fresh session, before Deepgram ends this one."""
    agent = parts.session.agent
    _replace(parts, agent, events.AgentRenewed(agent))
    parts.dial()


def _replace(parts: Parts, successor: str, event: events.OfCall) -> bool:
    if not parts.session.replace(successor, parts.out.now, parts.turns.agent_audio.plays_until):
        return False
    parts.out.add(event)
    parts.close_session()
    return True


def settle(parts: Parts) -> None:
    """What follows from all that was heard."""
    now = parts.out.now
    is_running = parts.function_calls.are_awaited
    if is_running or parts.watch.is_waiting:
        sounds_until = parts.turns.sounds_until
        parts.watch.run_function(now, sounds_until, is_running=is_running)
        parts.watch.hear_playing(now, sounds_until)
    is_heard = parts.turns.agent_audio.is_heard
    if is_heard:
        parts.out.extend(parts.requests.hear_all_is_heard())
    is_heard = is_heard and not is_running
    if (news := parts.closing.settle(now, is_heard=is_heard)) is not None:
        _follow(parts, news)
    elif parts.handing_over.agent is not None:
        is_heard = parts.turns.agent_audio.is_heard and not parts.requests.has_words_to_say
        if parts.handing_over.is_due(now, is_heard=is_heard):
            _hand_over(parts, parts.handing_over.agent)
    elif (deadline := parts.session.renewal_deadline) != inf:
        is_quiet = is_heard and parts.session.is_live and parts.turns.is_quiet(now)
        if is_quiet or now >= deadline:
            _renew(parts)


def close(parts: Parts, ending: Ending) -> None:
    """The call is to end once the goodbye has been heard."""
    is_live = parts.session.is_live
    _follow(parts, parts.closing.close(ending, parts.out.now, is_live=is_live))


def take_leave(parts: Parts, ending: Ending) -> None:
    """The agent says that the time is up, whatever it was saying, and the call ends."""
    # Else the goodbye would wait behind all that Twilio still has.
    parts.make_room()
    parts.requests.ask(None, _time_is_up(parts), parts.out.now)
    close(parts, ending)
    parts.send_requests()


def wind_up(parts: Parts) -> None:
    """The server is to go. The caller is told, by whomever there is."""
    ending = Ending(Cause.SHUTDOWN)
    if parts.stream.start is None:
        _follow(parts, parts.closing.end(ending, parts.out.now))
    elif not parts.closing.is_open:
        pass  # they are being said goodbye to already
    elif parts.session.is_live and parts.requests.can_say(_time_is_up(parts)):
        take_leave(parts, msgspec.structs.replace(ending, apologised=True))
    else:
        news = parts.closing.session_down(ending, parts.policy.apology, parts.out.now)
        _follow(parts, news, ending.cause.agent_code)


def _time_is_up(parts: Parts) -> deepgram.InjectAgentMessage:
    way = "queue" if parts.closing.is_uninterruptible else "interrupt"
    return deepgram.InjectAgentMessage(parts.policy.time_is_up, way)


def end(parts: Parts, cause: Cause, detail: str = "") -> None:
    """The call is over, whatever there still was to say."""
    ending = Ending(cause, detail[:MAX_REASON_CHARS])
    _follow(parts, parts.closing.end(ending, parts.out.now))


def release(parts: Parts, released: CallReleased) -> None:
    """What came of asking Twilio to end the phone call, or to transfer it."""
    is_live, apology = parts.session.is_live, parts.policy.apology
    _follow(parts, parts.closing.released(released, apology, parts.out.now, is_live=is_live))


def _stay(parts: Parts, news: GoOn) -> None:
    """As if the agent had never left."""
    now = parts.out.now
    parts.session.go_on()
    parts.limits.open_session(now)
    parts.watch.reopen(parts.policy.answer_within)
    parts.protect()
    parts.requests.report_not_transferred(news.number, parts.policy.not_transferred, now)
    parts.owe(Debt.QUESTION)
    parts.send_requests()


def _let_agent_go(parts: Parts, code: int) -> None:
    parts.session.close(parts.out.now)
    parts.close_session(code)


def _follow(parts: Parts, news: ClosingNews | None, code: int = 1000) -> None:
    """What the closing of the call asks for. `code` closes the agent's leg."""
    now = parts.out.now
    if news is not None:
        parts.watch.close(now)
    match news:
        case SayGoodbye():
            parts.turns.drop_rest()
            parts.handing_over.drop()
            parts.session.be_the_last()
            parts.limits.close_session(now)
            parts.closing.hear_words(parts.turns.agent_audio.plays_until)
            parts.protect()
        case LastWords(clip):
            _let_agent_go(parts, code)
            parts.out.to_caller(parts.turns.play(clip, now))
            parts.closing.hear_words(parts.turns.agent_audio.plays_until)
        case Release(ending):
            if not news.needs_agent:
                _let_agent_go(parts, code)
            parts.out.add(ReleaseCall(ending))
        case LetAgentGo():
            _let_agent_go(parts, code)
        case GoOn(number, reason):
            parts.out.add(events.CallNotTransferred(reason, number))
            _stay(parts, news)
        case Over(ending):
            parts.out.extend(parts.turns.end())
            if ids := parts.function_calls.close_session(now).ids:
                parts.out.add(CancelFunctions(ids))
            parts.caller_audio.close_session(now)
            parts.out.add(HangUp(ending))
            parts.is_deaf = True
        case None:
            pass
        case never:
            assert_never(never)

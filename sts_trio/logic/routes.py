"""Which part of a call is told of which message first, and what follows of its news. Pure.

`HANDLERS` has a function for each message that may be heard. It tells the part that owns it, and
passes the part's news on; what concerns more than two parts is left to `parts`.
"""

from collections.abc import Callable
from typing import Any, assert_never

from sts_trio.audio.frames import SILENT, seconds
from sts_trio.audio.g711 import is_audible
from sts_trio.errors import Cause, Ending, How, Leg, LegEnded
from sts_trio.logic.acts import (
    AgentReached,
    Ask,
    CallFunctions,
    CancelFunctions,
    CancelRequest,
    Close,
    Collect,
    DialFailed,
    FlushCaller,
    FunctionDone,
    FunctionsRunAway,
    HandOver,
    Heard,
    OutboxFull,
    PlayTones,
    Protect,
    ShutDown,
    Tick,
    Transcript,
    WaitUntilHeard,
)
from sts_trio.logic.agent_audio import MAX_AHEAD_SECONDS
from sts_trio.logic.answer_watch import Debt, Due
from sts_trio.logic.function_calls import MAX_AT_ONCE
from sts_trio.logic.limits import Step
from sts_trio.logic.output import MAX_REASON_CHARS
from sts_trio.logic.parts import Parts
from sts_trio.logic.requests import REFUSED_FOR_CALLER
from sts_trio.logic.session import (
    SettingsWanted,
    speaks_first,
)
from sts_trio.logic.states import (
    ERRORS,
    REFUSING_CLOSES,
    Retry,
    SessionInput,
    Violation,
    cause_of_end,
    cause_of_failed_dial,
    retry_of_failed_dial,
)
from sts_trio.logic.stream import (
    KeyPressed,
    MarkEchoed,
    Speech,
    Started,
    StreamEnded,
)
from sts_trio.logic.turns import Cut
from sts_trio.wire import deepgram, twilio
from sts_trio.wire.anomalies import Malformed, TooBig, Unknown

OwnWish = Ask | Close | HandOver | PlayTones | Protect | WaitUntilHeard | Collect | CancelRequest
Anomaly = Unknown | Malformed | OutboxFull
End = LegEnded | TooBig | ShutDown | FunctionsRunAway


def hear_caller(parts: Parts, message: twilio.Message) -> None:
    now = parts.out.now
    match parts.stream.hear(message, now):
        case Speech(audio):
            parts.caller_audio.hear(audio, now)
            if parts.is_listening and is_audible(audio):
                _hear_voice(parts, seconds(len(audio)))
            is_waiting = not parts.caller_audio.is_open
            if is_waiting and parts.caller_audio.keep() and parts.closing.is_open:
                parts.out.violation(Leg.CALLER, "audio dropped: the agent is not ready")
        case MarkEchoed(name):
            _hear_mark(parts, name)
        case KeyPressed(digit):
            parts.out.log("debug", "caller.dtmf")
            parts.limits.hear_caller(now)
            parts.out.extend(parts.keypad.press(digit, now))
        case Started():
            ids = {"call_sid": parts.stream.call_sid, "stream_sid": parts.stream.stream_sid}
            parts.out.log("info", "call.started", **ids)
            parts.turns.begin(parts.stream.stream_sid)
            parts.session.begin(now)
            parts.owe(Debt.SESSION)
            parts.dial()
        case StreamEnded(cause, detail):
            if parts.session.is_live and (audio := parts.caller_audio.take()):
                parts.out.to_agent(deepgram.Audio(audio))
            parts.end(cause, detail)
        case Violation(reason):
            parts.out.violation(Leg.CALLER, reason)
        case None:
            pass
        case never:
            assert_never(never)


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
        parts.out.extend(played.turns)
        if (after := played.silent_after) is not None:
            parts.out.log("debug", "call.silenced", after=round(after, 3))


def hear_audio(parts: Parts, message: deepgram.Audio) -> None:
    """The agent's; one of the two messages that come many times a second."""
    out = parts.out
    if not message.data:
        out.violation(Leg.AGENT, "empty audio")
        return
    if not parts.session.may_speak:
        # Against its own rules, but it is audio: the caller may hear it.
        out.violation(Leg.AGENT, "audio before SettingsApplied")
    dropped = parts.turns.dropped_bytes
    messages = parts.turns.hear_audio(message.data, out.now)
    out.to_caller(messages)
    if parts.turns.dropped_bytes > dropped:
        out.violation(Leg.AGENT, f"audio dropped: {MAX_AHEAD_SECONDS:g} s wait to be heard")
    is_waited_for = parts.watch.is_waiting or parts.limits.is_asking
    if is_waited_for and messages and message.data.strip(SILENT):
        parts.watch.hear_sound(out.now)
        parts.limits.hear_question()
    if not parts.closing.is_open:
        parts.closing.hear_words(parts.turns.plays_until)


def hear_agent(parts: Parts, message: deepgram.TextFromAgent) -> None:
    if parts.requests.are_pending:
        if parts.requests.is_begun_by(message):
            parts.turns.next_turn()  # words of ours are none of those that were cut
        parts.out.extend(parts.requests.hear(message))
    match message:
        case deepgram.UserStartedSpeaking():
            parts.limits.hear_caller(parts.out.now)
            _cut(parts, parts.turns.hear_user_speaks(parts.out.now))
            parts.watch.hear_turn(is_over=False)
        case deepgram.AgentAudioDone():
            parts.out.to_caller(parts.turns.finish_utterance(parts.out.now))
            parts.watch.hear_next()
            if not parts.closing.is_open and not parts.requests.has_words_to_say:
                parts.closing.hear_end_of_words()
        case deepgram.ConversationText(role, text):
            _hear_text(parts, role, text)
        case deepgram.EndOfTurn():
            _hear_words_after_all(parts)
            parts.turns.end_user_turn()
            parts.watch.hear_turn(is_over=True)
        case deepgram.AgentThinking() | deepgram.AgentStartedSpeaking():
            parts.turns.next_turn()
            parts.watch.hear_next()
            parts.watch.hear_sign(parts.out.now)
        case (
            deepgram.FunctionCallRequest()
            | deepgram.FunctionCallCancelled()
            | deepgram.FunctionCallResponse()
        ):
            _hear_function_call(parts, message)
        case deepgram.Welcome(request_id):
            _hear_welcome(parts, request_id)
        case deepgram.SettingsApplied():
            _hear_settings_applied(parts)
        case deepgram.AgentError(code, description):
            retry = ERRORS.get(code, Retry.ONCE_LIVE)
            is_refusal = retry is not Retry.ALWAYS
            said = f"{code}: {description}"
            parts.lose_agent(Cause.AGENT_ERROR, said, retry=retry, is_refusal=is_refusal)
        case deepgram.AgentWarning(code, description):
            parts.out.log_once("agent.warned", Leg.AGENT, f"{code}: {description}")
            parts.session.hear_warning(code, parts.out.now)
            parts.watch.hear_warning(code, parts.out.now)
            if code == REFUSED_FOR_CALLER:
                _hear_refusal(parts)
        case deepgram.InjectionRefused():
            parts.out.log("debug", "agent.said", kind="InjectionRefused")
            _hear_refusal(parts)  # words that are queued are refused for no other reason
        case (
            deepgram.History()
            | deepgram.LatencyReport()
            | deepgram.PromptUpdated()
            | deepgram.SpeakUpdated()
            | deepgram.ThinkUpdated()
            | deepgram.ThinkLiveUpdated()
            | deepgram.ListenUpdated()
            | deepgram.FrustrationDetected()
            | deepgram.CustomFromThinkProvider()
        ):
            parts.out.log("debug", "agent.said", kind=type(message).__name__)
        case _:
            assert_never(message)
    parts.send_requests()


def _hear_refusal(parts: Parts) -> None:
    """Words are not said because the caller is speaking, which is a sign of life."""
    if parts.limits.is_asking:
        parts.limits.hear_caller(parts.out.now)
        if parts.watch.debt is Debt.QUESTION:
            parts.watch.forgive(parts.out.now)


def _hear_text(parts: Parts, role: str, text: str) -> None:
    unheard = None
    if role != "user":
        unheard = parts.turns.hear_agent(text, parts.out.now)
        if unheard is None:
            parts.watch.hear_next()
    elif _hear_user(parts, text):
        parts.caller_audio.end_turn()
        parts.limits.hear_caller(parts.out.now)
        if parts.session.is_live and parts.closing.is_open and text.strip():
            parts.owe(Debt.ANSWER)
    else:
        return
    parts.out.add(Transcript(role, text))
    if unheard is not None:
        parts.out.add(unheard)


def _hear_user(parts: Parts, text: str) -> bool:
    if text.strip():
        _hear_words_after_all(parts)
    return parts.turns.hear_user(text)


def _hear_words_after_all(parts: Parts) -> None:
    if (cut := parts.turns.hear_words_after_all(parts.out.now)) is not None:
        _cut(parts, cut)


def _cut(parts: Parts, cut: Cut | None) -> None:
    """What was being said is not to be heard any more."""
    if cut is not None:
        parts.out.add(FlushCaller())
        parts.out.to_caller(cut.messages)
    if cut is not None and cut.size:
        parts.out.log("debug", "call.barge_in", cut=seconds(cut.size))
    else:
        parts.out.log("debug", "caller.speaks")
    if cut is not None:
        parts.out.extend(cut.turns)
        parts.watch.hear_cut(parts.out.now)
        is_owed = cut.is_amid and parts.session.is_live and parts.closing.is_open
        if is_owed and not parts.watch.is_owing:
            parts.owe(Debt.REST)


def _hear_function_call(
    parts: Parts,
    message: deepgram.FunctionCallRequest
    | deepgram.FunctionCallCancelled
    | deepgram.FunctionCallResponse,
) -> None:
    match message:
        case deepgram.FunctionCallRequest(functions):
            parts.turns.next_turn()
            parts.watch.hear_sign(parts.out.now)
            if not parts.session.allows(SessionInput.FUNCTION_CALLS):
                parts.out.violation(Leg.AGENT, "called a function before SettingsApplied")
                return
            if not parts.function_calls.has_room(functions):
                detail = f"over {MAX_AT_ONCE} function calls at once"
                parts.lose_agent(Cause.AGENT_RAN_AWAY, detail)
                return
            # The agent is mute until it has an answer to each of ours.
            ours, duplicates = parts.function_calls.request(functions)
            for _ in range(duplicates):
                parts.out.violation(Leg.AGENT, "called a function twice by one id")
            if ours:
                parts.out.add(CallFunctions(ours))
        case deepgram.FunctionCallCancelled(cancelled):
            if ids := parts.function_calls.cancel(each.id for each in cancelled):
                parts.out.add(CancelFunctions(ids))
            parts.out.log("debug", "agent.said", kind="FunctionCallCancelled")
        case deepgram.FunctionCallResponse():
            if (function := parts.function_calls.complete_theirs(message)) is not None:
                parts.turns.add_function(function, message.content)
            parts.out.log("debug", "agent.said", kind="FunctionCallResponse")
        case _:
            assert_never(message)


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
        parts.hand_over(done.hand_over)
        return
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
        parts.lose_agent(cause, message.reason, retry=retry)


def _hear_welcome(parts: Parts, request_id: str) -> None:
    news = parts.session.hear_welcome(parts.out.now)
    if isinstance(news, Violation):
        parts.out.violation(Leg.AGENT, news.reason)
        return
    parts.out.log("debug", "agent.welcomed", request_id=request_id)
    assert parts.stream.start is not None
    turns = parts.turns
    history = turns.carryover.brief(greets=turns.greets)
    settings = parts.settings(
        SettingsWanted(parts.stream.start, parts.session.agent, history, turns.greets)
    )
    is_asked = False
    if is_first := turns.greets and speaks_first(settings):
        is_asked = turns.carryover.take_unanswered() is not None  # what it says first is the answer
    # A stored agent may have a greeting or not.
    parts.session.owes_greeting = is_first and (is_asked or not isinstance(settings.agent, str))
    if not news.is_prewarmed:
        parts.out.to_agent(settings)


def _hear_settings_applied(parts: Parts) -> None:
    news = parts.session.hear_settings_applied(parts.out.now)
    if isinstance(news, Violation):
        parts.out.violation(Leg.AGENT, news.reason)
        return
    parts.out.log("debug", "agent.ready")
    if news.gap is not None:
        event = "agent.reconnected" if news.was_lost else "agent.took_over"
        parts.out.log("info", event, agent=parts.session.agent, gap=round(news.gap, 3))
    parts.open_session()


def hear_own(parts: Parts, wish: OwnWish) -> None:
    """What the call's own code asks for."""
    now = parts.out.now
    match wish:
        case Ask(number, message):
            parts.out.extend(parts.requests.ask(number, message, now))
            parts.send_requests()
        case Close(ending):
            parts.close(ending)
        case HandOver(agent):
            parts.hand_over(agent)
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
            parts.keypad.cancel(number)
        case _:
            assert_never(wish)


def hear_anomaly(parts: Parts, anomaly: Anomaly) -> None:
    match anomaly:
        case Unknown(leg, tag):
            parts.out.violation(leg, f"unknown message {tag[:MAX_REASON_CHARS]!r}")
        case Malformed(leg, reason):
            parts.out.violation(leg, reason)
        case OutboxFull(leg, dropped):
            if leg is Leg.AGENT:
                parts.caller_audio.drop(dropped)
            parts.out.violation(leg, "outbox full: audio dropped")
        case _:
            assert_never(anomaly)


def hear_tick(parts: Parts, tick: Tick) -> None:
    """Everything whose deadline has passed; several may be due at once."""
    now = parts.out.now
    if (late := parts.session.tick(now)) is not None:
        parts.lose_agent(late.cause, late.detail)
    elif (ended := parts.stream.tick(now)) is not None:
        parts.end(ended.cause, ended.detail)
    if parts.closing.is_over:
        return
    parts.dial()
    for audio in parts.caller_audio.tick(now):
        parts.out.to_agent(deepgram.Audio(audio))
    if parts.turns.hold.until <= now:
        parts.resume()
    if parts.session.is_filler_due(now):
        _say_one_moment(parts)
    while not parts.closing.is_over and (due := parts.watch.due(now)) is not None:
        _make_good(parts, due)
    parts.out.extend(parts.requests.tick(now, parts.turns.plays_until))
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
    parts.session.hear_filler(until)


def _make_good(parts: Parts, due: Due) -> None:
    """For a caller who is owed something, and hears nothing."""
    match due:
        case Due.GO_ON:
            parts.go_on()
        case Due.WORDS:
            if (mute := parts.watch.mute(parts.out.now)) is not None:
                seconds_mute = round(mute.seconds, 3)
                parts.out.log("warning", "agent.mute", owes=mute.debt.value, seconds=seconds_mute)
            _say_one_moment(parts)
        case Due.FRESH_SESSION | Due.NO_SESSION:
            debt = parts.watch.debt
            assert debt is not None
            if due is Due.NO_SESSION:
                parts.session.be_the_last()
            parts.lose_agent(Cause.AGENT_MUTE, f"owes {debt.value}", is_refusal=True)
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
            parts.close(Ending(Cause.SILENCE))
        case Step.WARN:
            words = deepgram.InjectAgentMessage(policy.warning, "queue")
            parts.requests.ask(None, words, now, is_insisted=True)
        case Step.END:
            # Else the goodbye would wait behind all that Twilio still has.
            if (cut := parts.turns.make_room(now)) is not None:
                parts.out.extend(cut.turns)
                parts.out.add(FlushCaller())
                parts.out.to_caller(cut.messages)
            words = deepgram.InjectAgentMessage(policy.time_is_up, "interrupt")
            parts.requests.ask(None, words, now)
            parts.close(Ending(Cause.TIME_UP))
        case _:
            assert_never(step)


def hear_end(parts: Parts, end: End) -> None:
    match end:
        case LegEnded():
            _hear_leg_ended(parts, end)
        case TooBig(leg, size) if leg is Leg.CALLER:
            parts.end(Cause.CALLER_TOO_BIG, f"a message of {size} bytes")
        case TooBig(_, size):
            parts.lose_agent(Cause.AGENT_TOO_BIG, f"a message of {size} bytes")
        case ShutDown():
            parts.end(Cause.SHUTDOWN)
        case FunctionsRunAway():
            parts.lose_agent(Cause.AGENT_RAN_AWAY, "function calls")
        case _:
            assert_never(end)


def _hear_leg_ended(parts: Parts, ended: LegEnded) -> None:
    detail = " ".join(str(part) for part in (ended.code, ended.reason) if part)
    if ended.leg is Leg.CALLER:
        news = parts.stream.end(cause_of_end(ended), detail, parts.out.now)
        parts.end(news.cause, news.detail)
    elif not (ended.how is How.CLOSED and ended.code == 1000 and parts.finish(detail)):
        is_refusal = ended.how is How.CLOSED and ended.code in REFUSING_CLOSES
        parts.lose_agent(cause_of_end(ended), detail, is_refusal=is_refusal)


_Handler = Callable[[Parts, Any], None]


def _handlers() -> dict[type[Heard], _Handler]:
    """{what may be heard: who hears it}. Of every call the same."""
    families: list[tuple[Any, _Handler]] = [
        (twilio.Message, hear_caller),
        (deepgram.TextFromAgent, hear_agent),
        (OwnWish, hear_own),
        (Anomaly, hear_anomaly),
        (End, hear_end),
        (AgentReached | DialFailed, hear_dial),
    ]
    handlers: dict[type[Heard], _Handler] = {
        deepgram.Audio: hear_audio,
        FunctionDone: hear_function_done,
        Tick: hear_tick,
    }
    for family, handler in families:
        handlers.update(dict.fromkeys(family.__args__, handler))
    return handlers


HANDLERS = _handlers()

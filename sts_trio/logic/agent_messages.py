"""What the agent says, and what follows of it. Pure.

`HANDLERS` has a function for each of its messages. What was asked of the agent may be answered by
any text, so `requests` hears each of them before its function does, and sends what may go then.
"""

from collections.abc import Callable
from typing import Any

from sts_trio.audio.frames import SILENT, seconds
from sts_trio.errors import Cause, Leg
from sts_trio.logic import endings
from sts_trio.logic.acts import CallFunctions, CancelFunctions, Heard
from sts_trio.logic.agent_audio import MAX_AHEAD_SECONDS
from sts_trio.logic.answer_watch import Debt
from sts_trio.logic.function_calls import MAX_AT_ONCE
from sts_trio.logic.parts import Parts
from sts_trio.logic.requests import REFUSED_FOR_CALLER
from sts_trio.logic.session import SettingsWanted, speaks_first
from sts_trio.logic.states import ERRORS, Retry, SessionInput, Violation
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio

Handler = Callable[[Parts, Any], None]


def hear_audio(parts: Parts, message: deepgram.Audio) -> None:
    """One of the two messages that come many times a second."""
    out = parts.out
    if not message.data:
        out.violation(Leg.AGENT, "empty audio")
        return
    if not parts.session.may_speak:
        # Against its own rules, but it is audio: the caller may hear it.
        out.violation(Leg.AGENT, "audio before SettingsApplied")
    messages = parts.turns.hear_audio(message.data, out.now)
    out.to_caller(messages)
    if parts.response.is_waiting and messages:
        frames = [each.media.payload for each in messages if isinstance(each, twilio.PlayMedia)]
        parts.response.hear_audio(frames, parts.turns.agent_audio.playout.sent)
    if parts.turns.has_dropped:
        out.violation(Leg.AGENT, f"audio dropped: {MAX_AHEAD_SECONDS:g} s wait to be heard")
    is_waited_for = parts.watch.is_waiting or parts.limits.is_asking
    if is_waited_for and messages and message.data.strip(SILENT):
        _hear_sound(parts)
    if not parts.closing.is_open:
        parts.closing.hear_words(parts.turns.agent_audio.plays_until)
    elif parts.handing_over.agent is not None:
        parts.handing_over.hear_words(parts.turns.agent_audio.plays_until)


def _hear_sound(parts: Parts) -> None:
    parts.watch.hear_sound(parts.out.now)
    parts.limits.hear_question()


# --- who speaks, and what is said -----------------------------------------------------------------


def _hear_user_speaks(parts: Parts, message: deepgram.UserStartedSpeaking) -> None:
    parts.limits.hear_caller(parts.out.now)
    parts.cut(parts.turns.hear_user_speaks(parts.out.now))
    parts.caller_audio.begin_turn()
    parts.response.drop()
    parts.watch.hear_turn(is_over=False)


def _hear_audio_done(parts: Parts, message: deepgram.AgentAudioDone) -> None:
    messages = parts.turns.finish_utterance(parts.out.now)
    parts.out.to_caller(messages)
    if parts.watch.is_waiting or parts.limits.is_asking:
        last = (each.media.payload for each in messages if isinstance(each, twilio.PlayMedia))
        if any(frame.strip(SILENT) for frame in last):  # all that there was fits into one
            _hear_sound(parts)
    parts.watch.hear_next()
    # Asked for only where it matters: what waits is looked through.
    is_ending = parts.closing.is_goodbye or parts.handing_over.agent is not None
    if is_ending and not parts.requests.has_words_to_say:
        parts.closing.hear_end_of_words()
        parts.handing_over.hear_end_of_words()


def _hear_text(parts: Parts, message: deepgram.ConversationText) -> None:
    role, text = message.role, message.content
    unheard = until = position = None
    if role != "user":
        position = round(seconds(parts.turns.agent_audio.playout.sent), 3)
        unheard = parts.turns.hear_agent(text, parts.out.now)
        if unheard is None:
            parts.watch.hear_next()
        else:
            position = None
    else:
        has_words = bool(text.strip())
        if has_words:
            _hear_words_after_all(parts)
        if not parts.turns.hear_user(text):
            return
        if (ended_at := parts.caller_audio.end_turn(parts.out.now)) is not None:
            until = round(ended_at - parts.out.began, 3)
        if not parts.is_put_by_code and not parts.turns.agent_audio.playout.unheard:
            caller_audio = parts.caller_audio
            parts.response.hear_words(caller_audio.spoken, caller_audio.heard, parts.out.now)
        parts.limits.hear_caller(parts.out.now)
        if has_words:
            if not parts.is_put_by_code:
                parts.turns.count_turn()
            if parts.session.is_live and parts.closing.is_open:
                parts.owe(Debt.ANSWER)
    parts.out.add(events.CallTranscript(role, text, until, position))
    if unheard is not None:
        parts.out.add(unheard)


def _hear_end_of_turn(parts: Parts, message: deepgram.EndOfTurn) -> None:
    _hear_words_after_all(parts)
    parts.turns.end_user_turn()
    parts.watch.hear_turn(is_over=True)


def _hear_words_after_all(parts: Parts) -> None:
    if (cut := parts.turns.hear_words_after_all(parts.out.now)) is not None:
        parts.cut(cut)


def _hear_work(
    parts: Parts, message: deepgram.AgentThinking | deepgram.AgentStartedSpeaking
) -> None:
    parts.turns.next_turn()
    parts.watch.hear_next()
    parts.watch.hear_sign(parts.out.now)


# --- functions ------------------------------------------------------------------------------------


def _hear_function_calls(parts: Parts, message: deepgram.FunctionCallRequest) -> None:
    parts.turns.next_turn()
    parts.watch.hear_sign(parts.out.now)
    parts.handing_over.hear_function_calls(parts.out.now)
    if not parts.session.allows(SessionInput.FUNCTION_CALLS):
        parts.out.violation(Leg.AGENT, "called a function before SettingsApplied")
        return
    if not parts.function_calls.has_room(message.functions):
        endings.lose_agent(
            parts, Cause.AGENT_RAN_AWAY, f"over {MAX_AT_ONCE} function calls at once"
        )
        return
    # The agent is mute until it has an answer to each of ours.
    ours, duplicates = parts.function_calls.request(message.functions)
    for _ in range(duplicates):
        parts.out.violation(Leg.AGENT, "called a function twice by one id")
    if ours:
        parts.out.add(CallFunctions(ours))


def _hear_functions_cancelled(parts: Parts, message: deepgram.FunctionCallCancelled) -> None:
    if ids := parts.function_calls.cancel(each.id for each in message.functions):
        parts.out.add(CancelFunctions(ids))
    _hear_news(parts, message)


def _hear_function_response(parts: Parts, message: deepgram.FunctionCallResponse) -> None:
    if (function := parts.function_calls.complete_theirs(message)) is not None:
        parts.turns.add_function(function, message.content)
        parts.out.add(
            events.FunctionRunByAgent(
                function.id, function.name, function.arguments, message.content
            )
        )
    else:
        _hear_news(parts, message)


# --- its session ----------------------------------------------------------------------------------


def _hear_welcome(parts: Parts, message: deepgram.Welcome) -> None:
    news = parts.session.hear_welcome(message.request_id, parts.out.now)
    if isinstance(news, Violation):
        parts.out.violation(Leg.AGENT, news.reason)
        return
    parts.out.add(events.AgentWelcomed(message.request_id, parts.session.agent))
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


def _hear_settings_applied(parts: Parts, message: deepgram.SettingsApplied) -> None:
    news = parts.session.hear_settings_applied(parts.out.now)
    if isinstance(news, Violation):
        parts.out.violation(Leg.AGENT, news.reason)
        return
    parts.out.add(events.AgentReady())
    if news.gap is not None:
        back = events.AgentReconnected if news.was_lost else events.AgentTookOver
        parts.out.add(back(parts.session.agent, round(news.gap, 3)))
    parts.open_session()


def _hear_error(parts: Parts, message: deepgram.AgentError) -> None:
    retry = ERRORS.get(message.code, Retry.ONCE_LIVE)
    is_refusal = retry is not Retry.ALWAYS
    said = f"{message.code}: {message.description}"
    endings.lose_agent(parts, Cause.AGENT_ERROR, said, retry=retry, is_refusal=is_refusal)


def _hear_warning(parts: Parts, message: deepgram.AgentWarning) -> None:
    code = message.code
    parts.out.add_once(events.AgentWarned, Leg.AGENT, f"{code}: {message.description}")
    parts.session.hear_warning(code, parts.out.now)
    parts.watch.hear_warning(code, parts.out.now)
    if code == REFUSED_FOR_CALLER:
        _hear_refusal(parts)


def _hear_injection_refused(parts: Parts, message: deepgram.InjectionRefused) -> None:
    _hear_news(parts, message)
    _hear_refusal(parts)  # words that are queued are refused for no other reason


def _hear_refusal(parts: Parts) -> None:
    """Words are not said because the caller is speaking, which is a sign of life."""
    if parts.limits.is_asking:
        parts.limits.hear_caller(parts.out.now)
        if parts.watch.debt is Debt.QUESTION:
            parts.watch.forgive(parts.out.now)


def _hear_news(parts: Parts, message: deepgram.TextFromAgent) -> None:
    parts.out.add(events.AgentMessage(type(message).__name__))


def _hear_latency(parts: Parts, message: deepgram.LatencyReport) -> None:
    parts.out.add(
        events.AgentLatency(
            stt=message.stt_latency,
            ttt_token=message.ttt_token_latency,
            ttt_text=message.ttt_text_latency,
            ttt_tool=message.ttt_tool_latency,
            ttt_thinking=message.ttt_thinking_latency,
            tts=message.tts_latency,
            total=message.total_latency,
        )
    )


_TEXTS: dict[type[deepgram.TextFromAgent], Handler] = {
    deepgram.UserStartedSpeaking: _hear_user_speaks,
    deepgram.AgentAudioDone: _hear_audio_done,
    deepgram.ConversationText: _hear_text,
    deepgram.EndOfTurn: _hear_end_of_turn,
    deepgram.AgentThinking: _hear_work,
    deepgram.AgentStartedSpeaking: _hear_work,
    deepgram.FunctionCallRequest: _hear_function_calls,
    deepgram.FunctionCallCancelled: _hear_functions_cancelled,
    deepgram.FunctionCallResponse: _hear_function_response,
    deepgram.Welcome: _hear_welcome,
    deepgram.SettingsApplied: _hear_settings_applied,
    deepgram.AgentError: _hear_error,
    deepgram.AgentWarning: _hear_warning,
    deepgram.InjectionRefused: _hear_injection_refused,
    deepgram.History: _hear_news,
    deepgram.LatencyReport: _hear_latency,
    deepgram.PromptUpdated: _hear_news,
    deepgram.SpeakUpdated: _hear_news,
    deepgram.ThinkUpdated: _hear_news,
    deepgram.ThinkLiveUpdated: _hear_news,
    deepgram.ListenUpdated: _hear_news,
    deepgram.FrustrationDetected: _hear_news,
    deepgram.CustomFromThinkProvider: _hear_news,
}


def _with_requests(handler: Handler) -> Handler:
    def hear(parts: Parts, message: deepgram.TextFromAgent) -> None:
        if parts.requests.are_pending:
            if parts.requests.is_begun_by(message):
                parts.turns.next_turn()  # words of ours are none of those that were cut
            parts.is_put_by_code = parts.requests.is_put_by_code(message)
            parts.out.extend(parts.requests.hear(message))
            handler(parts, message)
            parts.is_put_by_code = False
        else:
            handler(parts, message)
        if parts.requests.may_send:
            parts.send_requests()

    return hear


# {what the agent may say: who hears it}. Of every call the same.
HANDLERS: dict[type[Heard], Handler] = {
    deepgram.Audio: hear_audio,
    **{kind: _with_requests(handler) for kind, handler in _TEXTS.items()},
}

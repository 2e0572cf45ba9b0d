"""Who is told what of a call: each message to the part that owns it, and each part's news onward.

The parts are siblings: `stream`, `session`, `closing`, `turns`, `function_calls`, `requests`,
`limits`, `caller_audio`, `keypad`. None knows another. A part is told things and returns news, and
what follows of the news for the others stands here, and only here. Two moments concern them nearly
all: a session begins (`_open_session`) and is gone (`_close_session`).
"""

from collections.abc import Callable
from typing import Any, assert_never

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
    DropAgent,
    FlushCaller,
    FunctionDone,
    FunctionsRunAway,
    HandOver,
    HangUp,
    Heard,
    OutboxFull,
    PlayTones,
    Protect,
    ShutDown,
    Tick,
    Transcript,
    WaitUntilHeard,
)
from sts_trio.logic.audio import seconds
from sts_trio.logic.caller_audio import CallerAudio
from sts_trio.logic.closing import Closing, ClosingNews, LastWords, Over, SayGoodbye
from sts_trio.logic.function_calls import PendingFunctionCalls
from sts_trio.logic.keypad import Keypad
from sts_trio.logic.limits import Limits, Step
from sts_trio.logic.output import MAX_REASON_CHARS, Output
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.requests import Requests
from sts_trio.logic.session import (
    Down,
    Redialling,
    Session,
    Settings,
    SettingsWanted,
    speaks_first,
)
from sts_trio.logic.states import SessionInput, Violation, cause_of_end, cause_of_failed_dial
from sts_trio.logic.stream import (
    KeyPressed,
    MarkEchoed,
    Speech,
    Started,
    Stream,
    StreamEnded,
)
from sts_trio.logic.turns import Cut, Turns
from sts_trio.wire import deepgram, twilio
from sts_trio.wire.oddity import Malformed, TooBig, Unknown

OwnWish = Ask | Close | HandOver | PlayTones | Protect | WaitUntilHeard | Collect | CancelRequest
Anomaly = Unknown | Malformed | OutboxFull
End = LegEnded | TooBig | ShutDown | FunctionsRunAway


class Router:
    """The parts of a call. `is_deaf`: a leg was dropped in this hearing, so what follows of it in
    the same batch is void."""

    __slots__ = (
        "_policy",
        "_settings",
        "caller_audio",
        "closing",
        "function_calls",
        "is_deaf",
        "keypad",
        "limits",
        "out",
        "requests",
        "session",
        "stream",
        "turns",
    )

    def __init__(
        self,
        settings: Settings,
        policy: CallPolicy,
        can_say: Callable[[deepgram.ToAgent], bool],
        forward: float,
        now: float,
    ) -> None:
        self._settings = settings
        self._policy = policy
        self.is_deaf = False
        self.out = Output(now)
        self.stream = Stream(now)
        self.session = Session(reconnects=policy.reconnects)
        self.closing = Closing()
        self.turns = Turns()
        self.function_calls = PendingFunctionCalls()
        self.requests = Requests(can_say)
        self.limits = Limits(policy)
        self.caller_audio = CallerAudio(forward)
        self.keypad = Keypad()

    # --- the caller -----------------------------------------------------------------------------

    def hear_caller(self, message: twilio.Message) -> None:
        now = self.out.now
        match self.stream.hear(message, now):
            case Speech(audio):
                self.caller_audio.hear(audio, now)
                is_waiting = not self.caller_audio.is_open
                if is_waiting and self.caller_audio.keep() and self.closing.is_open:
                    self.out.violation(Leg.CALLER, "audio dropped: the agent is not ready")
            case MarkEchoed(name):
                self._hear_mark(name)
            case KeyPressed(digit):
                self.out.log("debug", "caller.dtmf")
                self.limits.hear_caller(now)
                self.out.extend(self.keypad.press(digit, now))
            case Started():
                ids = {"call_sid": self.stream.call_sid, "stream_sid": self.stream.stream_sid}
                self.out.log("info", "call.started", **ids)
                self.turns.begin(self.stream.stream_sid)
                self.session.begin(now)
                self._dial()
            case StreamEnded(cause, detail):
                if self.session.is_live and (audio := self.caller_audio.take()):
                    self.out.to_agent(deepgram.Audio(audio))
                self._end(cause, detail)
            case Violation(reason):
                self.out.violation(Leg.CALLER, reason)
            case None:
                pass
            case never:
                assert_never(never)

    def _hear_mark(self, name: str) -> None:
        played = self.turns.hear_mark(name, self.out.now)
        if isinstance(played, Violation):
            self.out.violation(Leg.CALLER, played.reason)
        elif played is not None:
            self.out.extend(played.turns)
            if (after := played.silent_after) is not None:
                self.out.log("debug", "call.silenced", after=round(after, 3))

    # --- the agent ------------------------------------------------------------------------------

    def hear_audio(self, message: deepgram.Audio) -> None:
        """The agent's; one of the two messages that come many times a second."""
        out = self.out
        if not message.data:
            out.violation(Leg.AGENT, "empty audio")
            return
        if not self.session.may_speak:
            # Against its own rules, but it is audio: the caller may hear it.
            out.violation(Leg.AGENT, "audio before SettingsApplied")
        out.to_caller(self.turns.hear_audio(message.data, out.now))
        if not self.closing.is_open:
            self.closing.hear_words(self.turns.plays_until)

    def hear_agent(self, message: deepgram.TextFromAgent) -> None:
        if self.requests.are_pending:
            if self.requests.is_begun_by(message):
                self.turns.next_turn()  # words of ours are none of those that were cut
            self.out.extend(self.requests.hear(message))
        match message:
            case deepgram.UserStartedSpeaking():
                self.limits.hear_caller(self.out.now)
                self._cut(self.turns.hear_user_speaks(self.out.now))
            case deepgram.AgentAudioDone():
                self.out.to_caller(self.turns.finish_utterance(self.out.now))
                if not self.requests.has_words_to_say:
                    self.closing.hear_end_of_words()
            case deepgram.ConversationText(role, text):
                self._hear_text(role, text)
            case deepgram.EndOfTurn():
                self.turns.end_user_turn()
            case deepgram.AgentThinking() | deepgram.AgentStartedSpeaking():
                self.turns.next_turn()
            case (
                deepgram.FunctionCallRequest()
                | deepgram.FunctionCallCancelled()
                | deepgram.FunctionCallResponse()
            ):
                self._hear_function_call(message)
            case deepgram.Welcome(request_id):
                self._hear_welcome(request_id)
            case deepgram.SettingsApplied():
                self._hear_settings_applied()
            case deepgram.AgentError(code, description):
                self._lose_agent(Cause.AGENT_ERROR, f"{code}: {description}")
            case deepgram.AgentWarning(code, description):
                self.out.log_once("agent.warned", Leg.AGENT, f"{code}: {description}")
                self.session.hear_warning(code, self.out.now)
            case (
                deepgram.History()
                | deepgram.LatencyReport()
                | deepgram.PromptUpdated()
                | deepgram.SpeakUpdated()
                | deepgram.ThinkUpdated()
                | deepgram.ThinkLiveUpdated()
                | deepgram.ListenUpdated()
                | deepgram.InjectionRefused()
                | deepgram.FrustrationDetected()
                | deepgram.CustomFromThinkProvider()
            ):
                self.out.log("debug", "agent.said", kind=type(message).__name__)
            case _:
                assert_never(message)
        self._send_requests()

    def _hear_text(self, role: str, text: str) -> None:
        unheard = None
        if role != "user":
            unheard = self.turns.hear_agent(text, self.out.now)
        elif self.turns.hear_user(text):
            self.caller_audio.end_turn()
            self.limits.hear_caller(self.out.now)
        else:
            return
        self.out.add(Transcript(role, text))
        if unheard is not None:
            self.out.add(unheard)

    def _cut(self, cut: Cut | None) -> None:
        """What was being said is not to be heard any more."""
        if cut is not None:
            self.out.add(FlushCaller())
            self.out.to_caller(cut.messages)
        if cut is not None and cut.size:
            self.out.log("debug", "call.barge_in", cut=seconds(cut.size))
        else:
            self.out.log("debug", "caller.speaks")
        if cut is not None:
            self.out.extend(cut.turns)

    # --- functions ------------------------------------------------------------------------------

    def _hear_function_call(
        self,
        message: deepgram.FunctionCallRequest
        | deepgram.FunctionCallCancelled
        | deepgram.FunctionCallResponse,
    ) -> None:
        match message:
            case deepgram.FunctionCallRequest(functions):
                self.turns.next_turn()
                if not self.session.allows(SessionInput.FUNCTION_CALLS):
                    self.out.violation(Leg.AGENT, "called a function before SettingsApplied")
                    return
                # The agent is mute until it has an answer to each of ours.
                ours, duplicates = self.function_calls.request(functions)
                for _ in range(duplicates):
                    self.out.violation(Leg.AGENT, "called a function twice by one id")
                if ours:
                    self.out.add(CallFunctions(ours))
            case deepgram.FunctionCallCancelled(cancelled):
                if ids := self.function_calls.cancel(each.id for each in cancelled):
                    self.out.add(CancelFunctions(ids))
                self.out.log("debug", "agent.said", kind="FunctionCallCancelled")
            case deepgram.FunctionCallResponse():
                if (function := self.function_calls.complete_theirs(message)) is not None:
                    self.turns.add_function(function, message.content)
                self.out.log("debug", "agent.said", kind="FunctionCallResponse")
            case _:
                assert_never(message)

    def hear_function_done(self, done: FunctionDone) -> None:
        function, now = done.asked, self.out.now
        # The id of one that nobody waits for may be in use again, by an agent of another session.
        is_awaited = not done.is_void and self.function_calls.complete(function.id)
        if is_awaited or done.is_void:
            # An agent to come is to know of it, even if the one that asked no longer wants to.
            self.turns.add_function(function, done.content)
        if done.is_void and self.session.is_live and self.closing.is_open:
            self.requests.report_late_result(function.name, done.content, now)
            self._send_requests()
        if not is_awaited:
            return
        self.limits.hear_agent(now)
        if done.hand_over is not None and self.closing.is_open:
            self._hand_over(done.hand_over)
            return
        self.out.to_agent(deepgram.FunctionResult(function.id, function.name, done.content))
        self.closing.wait_for_words(now)

    # --- the agent's session --------------------------------------------------------------------

    def hear_dial(self, message: AgentReached | DialFailed) -> None:
        if isinstance(message, AgentReached):
            self.session.hear_reached(message, self.out.now)
        else:
            self.session.dial_failed()
            self._lose_agent(cause_of_failed_dial(message.status), message.reason)

    def _dial(self) -> None:
        if (dial := self.session.dial()) is not None:
            self.out.add(dial)

    def _hear_welcome(self, request_id: str) -> None:
        news = self.session.hear_welcome(self.out.now)
        if isinstance(news, Violation):
            self.out.violation(Leg.AGENT, news.reason)
            return
        self.out.log("debug", "agent.welcomed", request_id=request_id)
        if news.is_prewarmed:
            return
        assert self.stream.start is not None
        turns = self.turns
        history = turns.brief()
        settings = self._settings(
            SettingsWanted(self.stream.start, self.session.agent, history, turns.greets)
        )
        if turns.greets and speaks_first(settings):
            turns.expect_greeting()
        self.out.to_agent(settings)

    def _hear_settings_applied(self) -> None:
        news = self.session.hear_settings_applied(self.out.now)
        if isinstance(news, Violation):
            self.out.violation(Leg.AGENT, news.reason)
            return
        self.out.log("debug", "agent.ready")
        if news.gap is not None:
            event = "agent.reconnected" if news.was_lost else "agent.took_over"
            self.out.log("info", event, agent=self.session.agent, gap=round(news.gap, 3))
        self._open_session()

    def _open_session(self) -> None:
        """The two sides can talk: every part that lives for one session begins."""
        now = self.out.now
        self.limits.open_session(now)
        if (question := self.turns.take_unanswered()) is not None:
            self.turns.ask_anew(question, self.requests.ask_anew(question, now))
        self.requests.open_session(now)
        self._send_requests()
        if audio := self.caller_audio.open_session(now):
            self.out.to_agent(deepgram.Audio(audio))

    def _close_session(self, code: int = 1000) -> None:
        """What is under way will not come to its end in this session: every part lets go of it."""
        now = self.out.now
        interrupted = self.function_calls.close_session(now)
        for function in interrupted.functions:
            self.turns.add_function(function)
        if interrupted.ids:
            self.out.add(CancelFunctions(interrupted.ids))
        is_amid_utterance = self.turns.is_amid_utterance
        self.out.extend(self.requests.close_session(now, is_amid_utterance=is_amid_utterance))
        self.out.to_caller(self.turns.close_session(now))
        self.caller_audio.close_session(now)
        self.limits.close_session(now)
        if self.session.close_session(now):
            self.out.add(DropAgent(code))
            self.is_deaf = True

    def _lose_agent(self, cause: Cause, detail: str = "") -> None:
        """The session is over, or is to be."""
        detail = detail[:MAX_REASON_CHARS]
        match self.session.fail(cause, self.out.now, self.turns.plays_until):
            case Redialling():
                self.out.log("warning", "agent.lost", ending=cause.label, detail=detail)
                self._close_session(cause.agent_code)
                self._dial()
            case Down():
                apology = self._policy.apology
                news = self.closing.session_down(Ending(cause, detail), apology, self.out.now)
                self._follow(news, cause.agent_code)
            case None:
                pass
            case never:
                assert_never(never)

    def _hand_over(self, agent: str) -> None:
        """Another agent goes on, in a session of its own."""
        before = self.session.agent
        if self.session.replace(agent, self.out.now, self.turns.plays_until):
            self.out.log("info", "agent.handed_over", agent=before, to=agent)
            self._close_session()
            self.out.extend(self.requests.forget_updates())
            self.turns.greet_anew()
            self._dial()

    def _renew(self) -> None:
        """A fresh session, before Deepgram ends this one."""
        agent = self.session.agent
        if self.session.replace(agent, self.out.now, self.turns.plays_until):
            self.out.log("info", "agent.renewed", agent=agent)
            self._close_session()
            self._dial()

    def _send_requests(self) -> None:
        if self.requests.are_pending:
            messages, answers = self.requests.send()
            for message in messages:
                self.out.to_agent(message)
            self.out.extend(answers)

    # --- our own side ---------------------------------------------------------------------------

    def hear_own(self, wish: OwnWish) -> None:
        """What the call's own code asks for."""
        now = self.out.now
        match wish:
            case Ask(number, message):
                self.out.extend(self.requests.ask(number, message, now))
                self._send_requests()
            case Close(ending):
                self._close(ending)
            case HandOver(agent):
                self._hand_over(agent)
            case PlayTones(audio):
                self.out.to_caller(self.turns.play(audio, now))
            case Protect(is_over):
                self.closing.protect(is_over=is_over)
                self._protect()
            case WaitUntilHeard(number, within):
                self.requests.wait_until_heard(number, now + within)
            case Collect():
                self.out.extend(self.keypad.collect(wish, now))
            case CancelRequest(number):
                self.requests.cancel(number)
                self.keypad.cancel(number)
            case _:
                assert_never(wish)

    def hear_anomaly(self, anomaly: Anomaly) -> None:
        match anomaly:
            case Unknown(leg, tag):
                self.out.violation(leg, f"unknown message {tag!r}")
            case Malformed(leg, reason):
                self.out.violation(leg, reason)
            case OutboxFull(leg, dropped):
                if leg is Leg.AGENT:
                    self.caller_audio.drop(dropped)
                self.out.violation(leg, "outbox full: audio dropped")
            case _:
                assert_never(anomaly)

    # --- time -----------------------------------------------------------------------------------

    def hear_tick(self, tick: Tick) -> None:
        """Everything whose deadline has passed; several may be due at once."""
        now = self.out.now
        if (late := self.session.tick(now)) is not None:
            self._lose_agent(late.cause, late.detail)
        elif (ended := self.stream.tick(now)) is not None:
            self._end(ended.cause, ended.detail)
        if self.closing.is_over:
            return
        self._dial()
        for audio in self.caller_audio.tick(now):
            self.out.to_agent(deepgram.Audio(audio))
        if self.session.is_filler_due(now):
            self.out.to_caller(self.turns.play(self._policy.one_moment, now))
            self.session.hear_filler(max(now, self.turns.plays_until))
        self.out.extend(self.requests.tick(now))
        collected, keys = self.keypad.tick(now)
        self.out.extend(collected)
        if keys and self.closing.is_open:
            self.requests.tell_keys(keys, now)
        is_busy = self.function_calls.are_awaited
        busy_until = now if is_busy else min(now, self.turns.user_speaks_until)
        self.limits.hear_agent(max(busy_until, self.turns.plays_until))
        while (step := self.limits.due(now)) is not None:
            self._take(step)
        self._send_requests()

    def _take(self, step: Step) -> None:
        now, policy = self.out.now, self._policy
        match step:
            case Step.ASK:
                self.requests.ask(None, deepgram.InjectAgentMessage(policy.asks), now)
            case Step.HANG_UP:
                words = deepgram.InjectAgentMessage(policy.farewell, "queue")
                self.requests.ask(None, words, now)
                self._close(Ending(Cause.SILENCE))
            case Step.WARN:
                words = deepgram.InjectAgentMessage(policy.warning, "queue")
                self.requests.ask(None, words, now)
            case Step.END:
                # Else the goodbye would wait behind all that Twilio still has.
                if (cut := self.turns.make_room(now)) is not None:
                    self.out.extend(cut.turns)
                    self.out.add(FlushCaller())
                    self.out.to_caller(cut.messages)
                words = deepgram.InjectAgentMessage(policy.time_is_up, "interrupt")
                self.requests.ask(None, words, now)
                self._close(Ending(Cause.TIME_UP))
            case _:
                assert_never(step)

    def settle(self) -> None:
        """What follows from all that was heard."""
        now = self.out.now
        is_heard = self.turns.is_heard
        if is_heard:
            self.out.extend(self.requests.hear_all_is_heard())
        is_heard = is_heard and not self.function_calls.are_awaited
        if (news := self.closing.settle(now, is_heard=is_heard)) is not None:
            self._follow(news)
        elif self.session.wants_renewal:
            is_quiet = is_heard and self.session.is_live and self.turns.is_quiet(now)
            if is_quiet or self.session.must_renew(now):
                self._renew()

    # --- the call's end -------------------------------------------------------------------------

    def hear_end(self, end: End) -> None:
        match end:
            case LegEnded():
                self._hear_leg_ended(end)
            case TooBig(leg, size) if leg is Leg.CALLER:
                self._end(Cause.CALLER_TOO_BIG, f"a message of {size} bytes")
            case TooBig(_, size):
                self._lose_agent(Cause.AGENT_TOO_BIG, f"a message of {size} bytes")
            case ShutDown():
                self._end(Cause.SHUTDOWN)
            case FunctionsRunAway():
                self._lose_agent(Cause.AGENT_RAN_AWAY, "function calls")
            case _:
                assert_never(end)

    def _hear_leg_ended(self, ended: LegEnded) -> None:
        now = self.out.now
        detail = " ".join(str(part) for part in (ended.code, ended.reason) if part)
        detail = detail[:MAX_REASON_CHARS]
        if ended.leg is Leg.CALLER:
            self._end(cause_of_end(ended), detail)
        elif ended.how is How.CLOSED and ended.code == 1000 and self.session.finish(now):
            ending = Ending(Cause.AGENT_FINISHED, detail)
            is_heard = self.turns.is_heard
            self._follow(self.closing.session_finished(ending, now, is_heard=is_heard))
        else:
            self._lose_agent(cause_of_end(ended), detail)

    def _close(self, ending: Ending) -> None:
        """The call is to end once the goodbye has been heard."""
        is_live = self.session.is_live
        self._follow(self.closing.close(ending, self.out.now, is_live=is_live))

    def _end(self, cause: Cause, detail: str = "") -> None:
        """The call is over, whatever there still was to say."""
        ending = Ending(cause, detail[:MAX_REASON_CHARS])
        self._follow(self.closing.end(ending, self.out.now))

    def _protect(self) -> None:
        """The caller is not cut off by speaking up, nor is the agent, which so must not hear it."""
        on = self.closing.is_uninterruptible
        self.turns.be_uninterruptible(on)
        self.caller_audio.is_muted = on

    def _follow(self, news: ClosingNews | None, code: int = 1000) -> None:
        """What the closing of the call asks for. `code` closes the agent's leg."""
        now = self.out.now
        match news:
            case SayGoodbye():
                self.session.be_the_last()
                self.limits.close_session(now)
                self._protect()
            case LastWords(clip):
                self.session.close(now)
                self._close_session(code)
                self.out.to_caller(self.turns.play(clip, now))
                self.closing.hear_words(self.turns.plays_until)
            case Over(ending):
                self.out.extend(self.turns.end())
                if ids := self.function_calls.close_session(now).ids:
                    self.out.add(CancelFunctions(ids))
                self.caller_audio.close_session(now)
                self.out.add(HangUp(ending))
                self.is_deaf = True
            case None:
                pass
            case never:
                assert_never(never)


_Handler = Callable[[Router, Any], None]


def _handlers() -> dict[type[Heard], _Handler]:
    """{what may be heard: who hears it}. Of every call the same."""
    families: list[tuple[Any, _Handler]] = [
        (twilio.Message, Router.hear_caller),
        (deepgram.TextFromAgent, Router.hear_agent),
        (OwnWish, Router.hear_own),
        (Anomaly, Router.hear_anomaly),
        (End, Router.hear_end),
        (AgentReached | DialFailed, Router.hear_dial),
    ]
    handlers: dict[type[Heard], _Handler] = {
        deepgram.Audio: Router.hear_audio,
        FunctionDone: Router.hear_function_done,
        Tick: Router.hear_tick,
    }
    for family, handler in families:
        handlers.update(dict.fromkeys(family.__args__, handler))
    return handlers


HANDLERS = _handlers()

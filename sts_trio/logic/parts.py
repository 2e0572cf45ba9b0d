"""The parts of a call, and what concerns several of them at once. Pure.

The parts are siblings: `stream`, `session`, `closing`, `turns`, `function_calls`, `requests`,
`answer_watch`, `response`, `limits`, `handing_over`, `caller_audio`, `keypad`. None knows another.
A part is told things and returns news; which part hears a message first stands in `routes`. Here
stand the moments of a call that goes on: a session begins (`open_session`) and is gone
(`close_session`), the agent is cut off, the stream is and comes back. Those that end a session, or
the call, stand in `endings`.
"""

from collections.abc import Callable
from math import inf

from sts_trio.audio.frames import seconds
from sts_trio.logic.acts import (
    CancelFunctions,
    DropAgent,
    DropCaller,
    FlushCaller,
    Recalled,
    StreamBack,
)
from sts_trio.logic.answer_watch import AnswerWatch, Debt
from sts_trio.logic.caller_audio import CallerAudio
from sts_trio.logic.closing import Closing
from sts_trio.logic.function_calls import PendingFunctionCalls
from sts_trio.logic.handing_over import HandingOver
from sts_trio.logic.keypad import Keypad
from sts_trio.logic.limits import Limits
from sts_trio.logic.output import Output
from sts_trio.logic.perception import Perception
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.requests import Requests
from sts_trio.logic.response import ResponseTime
from sts_trio.logic.session import Session, Settings
from sts_trio.logic.stream import Stream
from sts_trio.logic.turns import Cut, Turns
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio


class Parts:
    """Of one call. `is_deaf`: a leg was dropped in this hearing, so what follows of it in the same
    batch is void. `is_put_by_code`: what is heard as the caller's is code's own."""

    __slots__ = (
        "caller_audio",
        "closing",
        "function_calls",
        "handing_over",
        "is_cut_amid",
        "is_deaf",
        "is_put_by_code",
        "keypad",
        "limits",
        "needs_release",
        "out",
        "perception",
        "policy",
        "requests",
        "response",
        "session",
        "settings",
        "stream",
        "turns",
        "was_elsewhere",
        "watch",
    )

    def __init__(
        self,
        settings: Settings,
        policy: CallPolicy,
        is_expected: Callable[[str], bool],
        can_say: Callable[[deepgram.ToAgent], bool],
        needs_release: Callable[[twilio.StreamStart], bool],
        perception: Perception,
        was_elsewhere: Callable[[twilio.StreamStart], bool],
        may_come_back: Callable[[twilio.StreamStart], bool],
        forward: float,
        now: float,
    ) -> None:
        self.settings = settings
        self.needs_release = needs_release
        self.perception = perception
        self.was_elsewhere = was_elsewhere
        self.policy = policy
        self.is_deaf = False
        self.is_cut_amid = False  # when its stream was cut the agent was saying something
        self.is_put_by_code = False
        self.out = Output(now)
        self.stream = Stream(now, is_expected, may_come_back)
        self.session = Session(reconnects=policy.reconnects)
        self.closing = Closing()
        self.turns = Turns(resumes=policy.resumes, perception=perception)
        self.function_calls = PendingFunctionCalls()
        self.handing_over = HandingOver()
        self.requests = Requests(can_say, policy.say_again, perception)
        self.watch = AnswerWatch(policy.answer_within)
        self.response = ResponseTime(perception)
        self.limits = Limits(policy)
        self.caller_audio = CallerAudio(forward, perception)
        self.keypad = Keypad()

    def dial(self) -> None:
        if (dial := self.session.dial()) is not None:
            self.out.add(dial)

    @property
    def is_listening(self) -> bool:
        """Whether it matters if the caller is to be heard."""
        return self.watch.is_listening or self.turns.hold.is_on

    @property
    def hears_out(self) -> bool:
        """Whether something is to follow of what the caller hears, or once all of it is heard."""
        return (
            self.watch.is_waiting
            or self.limits.is_asking
            or self.turns.agent_audio.awaits_first_mark
            or self.function_calls.are_awaited
            or self.requests.are_heard_out
            or self.handing_over.agent is not None
            or self.session.renewal_deadline != inf
        )

    def resume(self) -> None:
        """It was but a noise that has cut what the agent said."""
        now = self.out.now
        resumed = self.turns.resume(now)
        duration = round(resumed.seconds, 3)
        self.out.add(events.CallFalseInterruption(duration, resumed.is_whole))
        self.out.to_caller(resumed.messages)
        self.watch.hear_rest(now, self.turns.sounds_until, is_whole=resumed.is_whole)

    def cut(self, cut: Cut | None, *, is_noise: bool = True) -> None:
        """What was being said is not to be heard any more. `is_noise`: for all we know as yet."""
        if cut is not None:
            self.out.add(FlushCaller())
            self.out.to_caller(cut.messages)
        if cut is not None and cut.size:
            self.out.add(events.CallBargeIn(seconds(cut.size)))
        else:
            self.out.add(events.CallerStartedSpeaking())
        if cut is not None:
            self._hear_cut(cut)
            is_owed = cut.is_amid and self.session.is_live and self.closing.is_open
            if is_noise and is_owed and not self.watch.is_owing:
                self.owe(Debt.REST)

    def _hear_cut(self, cut: Cut) -> None:
        """No part waits any more for what was to be heard."""
        self.out.extend(cut.turns)
        self.response.drop()
        self.watch.hear_cut(self.out.now)
        self.handing_over.hear_end_of_words()

    def make_room(self) -> None:
        """What comes next is not to wait behind what Twilio has, unless that must be heard."""
        if (cut := self.turns.make_room(self.out.now)) is not None:
            self.response.drop()
            self.out.extend(cut.turns)
            self.out.add(FlushCaller())
            self.out.to_caller(cut.messages)

    def owe(self, debt: Debt) -> None:
        """From now on the agent owes this to the caller."""
        turns = self.turns
        is_news = self.watch.owe(
            debt, self.out.now, turns.sounds_until, is_amid=turns.agent_audio.is_amid_utterance
        )
        if is_news:
            self.out.add(events.AgentResponseDue(debt.value))

    def recall(self, past: Recalled) -> None:
        """What another process began goes on here."""
        now = self.out.now
        self.turns.recall(past)
        if past.move is not None:
            self.out.add(past.move)
        self.out.extend(past.settled)
        if past.lasted:
            self.limits.recall(now - past.lasted)
        self.session.recall(past.agent, now)
        self.dial()

    def part(self) -> None:
        """The caller's stream is cut. The agent goes on, and what it says waits for the stream to
        be back; of what Twilio had, the rest is kept as if a noise had cut it."""
        cut = self.turns.lose_stream(self.out.now)
        self.out.add(FlushCaller())
        self.out.add(DropCaller())
        self._hear_cut(cut)
        self.is_cut_amid = cut.is_amid

    def come_back(self, gap: float) -> None:
        """The stream is back, by another name, after so many seconds."""
        self.turns.agent_audio.stream_sid = self.stream.stream_sid
        self.out.add(StreamBack(self.stream.stream_sid, round(gap, 3)))
        is_owed = self.is_cut_amid and self.closing.is_open and self.turns.agent_audio.is_heard
        if self.turns.agent_audio.rest:  # there is something to be played on
            self.out.to_caller(self.turns.resume(self.out.now).messages)
        else:
            self.turns.next_turn()  # from here on all that the agent says is heard
            if is_owed and self.session.is_live:
                self.go_on()

    def open_session(self) -> None:
        """The two sides can talk: every part that lives for one session begins."""
        now = self.out.now
        self.limits.open_session(now)
        if self.session.owes_greeting and self.turns.greets:
            self.owe(Debt.GREETING)
        if self.turns.carryover.is_given_up:
            self.requests.have_said_again(now)
            self.owe(Debt.SAY_AGAIN)
        elif (question := self.turns.carryover.take_unanswered()) is not None:
            self._ask_anew(question)
        self.requests.open_session(now)
        self.send_requests()
        if self.watch.is_overdue:
            self.go_on()
        elif self.watch.debt is Debt.SESSION:
            self.watch.forgive(now)
        if audio := self.caller_audio.open_session(now):
            self.out.to_agent(deepgram.Audio(audio))

    def _ask_anew(self, question: str) -> None:
        asked = self.requests.ask_anew(question, self.out.now)
        self.turns.carryover.ask_anew(question, asked)
        if question or asked:
            self.out.add(events.CallAskedAnew(None if question else asked))
        self.owe(Debt.SAY_AGAIN if asked is None else Debt.REPLY)

    def go_on(self) -> None:
        """The agent was cut by what were no words."""
        self._ask_anew("")
        self.send_requests()

    def close_session(self, code: int = 1000) -> None:
        """What is under way will not come to its end in this session: every part lets go of it."""
        now = self.out.now
        interrupted = self.function_calls.close_session(now)
        for function in interrupted.functions:
            self.turns.add_function(function)
        if interrupted.ids:
            self.out.add(CancelFunctions(interrupted.ids))
        is_amid_utterance = self.turns.agent_audio.is_amid_utterance
        self.out.extend(self.requests.close_session(now, is_amid_utterance=is_amid_utterance))
        self.out.to_caller(self.turns.close_session(now))
        self.caller_audio.close_session(now)
        self.limits.close_session(now)
        self.handing_over.drop()
        self.owe(Debt.SESSION)
        if self.session.close_session(now):
            self.out.add(DropAgent(code))
            self.is_deaf = True

    def send_requests(self) -> None:
        messages, answers = self.requests.send(self.turns.agent_bytes)
        for message in messages:
            self.out.to_agent(message)
            if isinstance(message, deepgram.InjectUserMessage) and self.closing.is_open:
                self.owe(Debt.REPLY)
        self.out.extend(answers)

    def protect(self) -> None:
        """The caller is not cut off by speaking up, nor is the agent, which so must not hear it."""
        on = self.closing.is_uninterruptible
        self.turns.agent_audio.is_protected = on
        self.caller_audio.is_muted = on

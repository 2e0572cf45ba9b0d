"""A whole call in simulated time: a phone that plays and echoes marks, and agents that follow a
script. Says what the caller heard, and for how long nothing."""

import heapq
import itertools
from collections.abc import Callable
from math import inf

from rig_dialogue import Bridge
from rig_peers import START, STREAM_SID

from sts_trio.errors import Ending, How, Leg, LegEnded
from sts_trio.logic.acts import (
    Act,
    AgentReached,
    CallFunctions,
    CancelFunctions,
    Dial,
    DropAgent,
    FunctionDone,
    HangUp,
    Heard,
    SendToAgent,
    SendToCaller,
    Tick,
)
from sts_trio.logic.policy import CallPolicy
from sts_trio.observe import events
from sts_trio.wire import deepgram, deepgram_settings, twilio
from sts_trio.wire.deepgram import AgentAudioDone, Audio, ConversationText, SettingsApplied, Welcome

CLOSED = LegEnded(Leg.AGENT, How.CLOSED, 1000)
LOST = LegEnded(Leg.AGENT, How.LOST)
WORD = b"\x31" * 1600
OURS = b"\x41" * 1600
CLIP = b"\x21" * 8000
APOLOGY = b"\x22" * 8000
POLICY = CallPolicy(
    reconnects=True,
    resumes=True,
    one_moment=CLIP,
    apology=APOLOGY,
    answer_within=5.0,
    ask_after=5.0,
    hang_up_after=4.0,
)

# What an agent does when something is expected of it: {seconds later: what it says}.
Answer = Callable[[], list[tuple[float, Heard]]]


def silent() -> list[tuple[float, Heard]]:
    return []


def speaks(text: str = "Yes.", audio: bytes = WORD) -> list[tuple[float, Heard]]:
    return [
        (0.1, ConversationText("assistant", text)),
        (0.1, Audio(audio)),
        (0.2, AgentAudioDone()),
    ]


class Telephone:
    """`answer` says what the agent does whenever it is told something that wants an answer; of the
    first session's greeting, `greeting`. A function takes `function_takes` seconds. `says_ours`: it
    speaks what it is given to speak."""

    def __init__(
        self,
        answer: Answer,
        *,
        greeting: Answer = speaks,
        policy: CallPolicy = POLICY,
        function_takes: float = inf,
        says_ours: bool = False,
        settings: deepgram_settings.Settings | None = None,
    ) -> None:
        self.bridge = Bridge(
            policy=policy,
            settings=settings or deepgram_settings.phone_settings({"greeting": "Hello."}),
        )
        self.answer = answer
        self.greeting: Answer | None = greeting
        self.function_takes = function_takes
        self.function_says = "{}"
        self.says_ours = says_ours
        self.told: list[deepgram.ToAgent] = []
        self.events: list[tuple[float, events.OfCall]] = []
        self.ending: Ending | None = None
        self.ended_at = inf
        self.sounds: list[tuple[float, float, bytes]] = []  # from, until, of which byte
        self.session = 0
        self._sequence = itertools.count()
        self._due: list[tuple[float, int, int | None, Heard]] = []
        self._plays_until = 0.0
        self._marks: list[str] = []
        self._do([*self.bridge.hear(START)])

    @property
    def now(self) -> float:
        return self.bridge.now

    def later(self, seconds: float, heard: Heard, *, of_session: bool = True) -> None:
        """What is of a session is heard only while that session is the one."""
        session = self.session if of_session else None
        heapq.heappush(self._due, (self.now + seconds, next(self._sequence), session, heard))

    def hear(self, *heard: Heard) -> None:
        self._do(self.bridge.hear(*heard))

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.ending is None:
            at = min(self.bridge.dialogue.deadline, self._due[0][0] if self._due else inf)
            if at > end:
                break
            self.bridge.now = max(self.now, at)
            if self._due and self._due[0][0] <= self.now:
                _, _, session, heard = heapq.heappop(self._due)
                if session in (None, self.session):
                    self._do(self.bridge.hear(heard))
            else:
                self._do(self.bridge.hear(Tick()))
                assert self.bridge.dialogue.deadline > self.now, "it would tick for ever"
        self.bridge.now = end

    def longest_silence(self, since: float, until: bytes = b"") -> float:
        """From then on, until that audio is heard; else to the end of the call or to now."""
        longest, heard_until = 0.0, since
        for begin, end, byte in self.sounds:
            if end > since:
                longest = max(longest, begin - heard_until)
                heard_until = max(heard_until, end)
                if byte == until[:1]:
                    return longest
        return max(longest, min(self.now, self.ended_at) - heard_until)

    def heard(self, audio: bytes) -> list[float]:
        """When each stretch of it began."""
        starts: list[float] = []
        previous = -inf
        for begin, end, byte in self.sounds:
            if byte == audio[:1]:
                if begin > previous + 0.001:
                    starts.append(round(begin, 3))
                previous = end
        return starts

    # --- what the bridge does -------------------------------------------------------------------

    def _do(self, acts: list[Act]) -> None:
        for act in acts:
            match act:
                case Dial():
                    self.session += 1
                    self.later(0.05, AgentReached())
                    self.later(0.06, Welcome("r"))
                case DropAgent():
                    self.session += 1
                case SendToAgent(message):
                    if not isinstance(message, Audio):
                        self.told.append(message)
                    self._tell_agent(message)
                case SendToCaller(message):
                    self._tell_phone(message)
                case CallFunctions(functions):
                    for function in functions:
                        done = FunctionDone(function, self.function_says)
                        self.later(self.function_takes, done)
                case HangUp(ending):
                    self.ending, self.ended_at = ending, self.now
                case events.OfCall():
                    self.events.append((round(self.now, 3), act))
                case CancelFunctions() | _:
                    pass

    def _tell_agent(self, message: deepgram.ToAgent) -> None:
        if isinstance(message, deepgram_settings.Settings):
            self.later(0.2, SettingsApplied())
            wanted = self.bridge.asked_for[-1]
            if wanted.greets and self.greeting is not None:
                for after, heard in self.greeting():
                    self.later(0.2 + after, heard)
        elif isinstance(message, deepgram.InjectUserMessage):
            self.later(0.01, ConversationText("user", message.content))
            self.act()
        elif isinstance(message, deepgram.InjectAgentMessage) and self.says_ours:
            for after, heard in speaks(message.message or "", OURS):
                self.later(after, heard)
        elif isinstance(message, deepgram.FunctionResult):
            self.act()

    def act(self) -> None:
        """The agent has something to answer."""
        for after, heard in self.answer():
            self.later(after, heard)

    def _tell_phone(self, message: twilio.ToCaller) -> None:
        match message:
            case twilio.PlayMedia(_, twilio.Outbound(payload)):
                begin = max(self.now, self._plays_until)
                self._plays_until = begin + len(payload) / 8000
                if said := payload.strip(b"\xff"):
                    self.sounds.append((begin, begin + len(payload) / 8000, said[:1]))
            case twilio.PlayMark(_, twilio.MarkName(name)):
                self._marks.append(name)
                echoed = twilio.Mark(twilio.MarkName(name), stream_sid=STREAM_SID)
                self.later(max(0.0, self._plays_until - self.now), echoed, of_session=False)
            case twilio.Clear():
                self._plays_until = min(self._plays_until, self.now)
                self.sounds = [
                    (begin, min(end, self.now), byte)
                    for begin, end, byte in self.sounds
                    if begin < self.now
                ]

"""Random calls, each recorded and replayed: whether all acts are the same, and how fast that is.

    python bench/replays.py                       # 10,000 calls
    python bench/replays.py --calls 500 --seed 7

In each of them the peers say anything at any time, and our own side keeps to the rules: an agent is
reached only when it was dialled, and nothing is heard of one that was dropped. Each is replayed as
it was, and without its words and numbers.
"""

import argparse
import random
import sys
import time
from math import inf

from sts_trio.errors import Cause, Ending, How, Leg, LegEnded
from sts_trio.flight.file import Flight, pack, steps_of, unpack
from sts_trio.flight.masking import masked
from sts_trio.flight.recorder import Allowance, FlightRecorder, Given
from sts_trio.flight.replay import differences, written_policy
from sts_trio.logic import acts as logic
from sts_trio.logic.acts import Act, Heard
from sts_trio.logic.dialogue import SettingsWanted, any_call
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.states import Phase
from sts_trio.wire import deepgram, deepgram_settings, twilio
from sts_trio.wire.anomalies import Malformed, Unknown

STREAM_SID = "MZ00000000000000000000000000000003"
STEPS = 80  # of a call, at most
SENTENCES = [
    "One two three.",
    "Yes.",
    "",
    " ",
    "Please go on.",
    "Are you still there?",
    "Dr. No 12",
]
# Loud to both sides, and silent.
VOICE, SILENCE = b"\x10\x90" * 80, b"\xff" * 160


class RandomCall:
    """`flight` is what was recorded of it."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._now = chance.uniform(0, 1e6)
        self._is_dialled = self._is_reached = self._is_over = False
        self._running: list[deepgram.FunctionToCall] = []
        self._marks: list[str] = []
        self._number = 0
        self._given: Given = {
            "is_expected": any_call,
            "forward": chance.choice([0.02, 0.02, 0.1, 0.4]),
            "now": self._now,
            "policy": self._policy(),
            "can_say": lambda message: chance.random() < 0.9,
            "needs_release": lambda start: chance.random() < 0.2,
        }
        self._recorder = FlightRecorder(self._settings, Allowance(), 0.0, **self._given)
        self._dialogue = self._recorder.dialogue
        for _ in range(chance.randrange(1, STEPS)):
            if not self._is_over:
                self._step()
        self._recorder.finish()

    @property
    def flight(self) -> Flight:
        return Flight(
            program="",
            call_sid="CA1",
            began_at=0.0,
            began=self._given["now"],
            forward=self._given["forward"],
            policy=written_policy(self._given["policy"]),
            stopped=self._recorder.stopped,
            steps=list(steps_of(self._recorder.lots)),
        )

    def _policy(self) -> CallPolicy:
        pick = self._chance.choice
        return CallPolicy(
            reconnects=pick([True, True, False]),
            one_moment=pick([b"", b"!" * 160]),
            apology=pick([b"", b"?" * 320]),
            resumes=pick([True, False]),
            answer_within=pick([inf, 0.5, 2.0]),
            ask_after=pick([inf, 0.5, 3.0]),
            hang_up_after=pick([inf, 1.0, 4.0]),
            longest=pick([inf, inf, 10.0]),
            warn_before=pick([2.0, 60.0]),
        )

    def _settings(self, wanted: SettingsWanted) -> deepgram_settings.Settings:
        greeting = {"greeting": "Hello."} if self._chance.random() < 0.7 else {}
        return deepgram_settings.Settings(deepgram_settings.AudioSettings(), greeting)

    def _step(self) -> None:
        """Time passes, to a deadline or not, and something is heard."""
        chance, deadline = self._chance, self._dialogue.deadline
        self._now += chance.choice([0.0, 0.001, 0.02, 0.02, 0.02, 0.1, 0.3, 2.0]) * chance.random()
        if chance.random() < 0.1 and deadline < inf:
            self._now = max(self._now, deadline)
        if self._now >= deadline:
            self._hear(logic.Tick())
        elif chance.random() < 0.4:
            for _ in range(chance.randrange(1, 20)):
                self._now += 0.02
                self._hear(
                    twilio.Media(twilio.Inbound(chance.choice([VOICE, SILENCE])), STREAM_SID)
                )
        else:
            self._hear(*(self._anything() for _ in range(chance.choice([1, 1, 2]))))

    def _anything(self) -> Heard:
        chance = self._chance
        if self._dialogue.start is None:
            begin: list[Heard] = [_START, _START, twilio.Connected(), Unknown(Leg.CALLER, "odd")]
            return chance.choice(begin)
        if self._dialogue.phase in _NEXT and self._is_reached and chance.random() < 0.8:
            return _NEXT[self._dialogue.phase]
        if self._is_dialled and not self._is_reached and chance.random() < 0.8:
            reached = chance.random() < 0.9
            self._is_dialled = self._is_reached = reached
            return logic.AgentReached() if reached else logic.DialFailed("why", 503)
        kinds = [self._of_caller, self._of_code, *([self._of_agent] * 4 * self._is_reached)]
        return chance.choice(kinds)()

    def _of_caller(self) -> Heard:
        chance = self._chance
        if self._marks and chance.random() < 0.7:
            return twilio.Mark(twilio.MarkName(self._marks.pop(0)), stream_sid=STREAM_SID)
        anything: list[Heard] = [
            twilio.Dtmf(twilio.Digit(chance.choice("0123456789*#")), stream_sid=STREAM_SID),
            twilio.Media(twilio.Inbound(VOICE, "outbound"), STREAM_SID),
            Malformed(Leg.CALLER, "odd"),
        ]
        return chance.choice(anything)

    def _of_code(self) -> Heard:
        chance = self._chance
        self._number += 1
        if self._running and chance.random() < 0.5:
            hand_over = chance.choice([None, None, None, "sales"])
            return logic.FunctionDone(self._running.pop(), '{"a": 1}', hand_over)
        words = chance.choice(SENTENCES)
        anything: list[Heard] = [
            logic.Ask(self._number, deepgram.InjectAgentMessage(words, "queue")),
            logic.Ask(self._number, deepgram.InjectUserMessage(words)),
            logic.Ask(self._number, deepgram.UpdatePrompt(words)),
            logic.Collect(self._number, 3, chance.choice(["#", "", "0"]), 3.0, 1.0),
            logic.WaitUntilHeard(self._number, 2.0),
            logic.PlayTones(VOICE),
            logic.Protect(is_over=False),
            logic.Protect(is_over=True),
            logic.Tick(),
        ]
        if chance.random() < 0.05:
            anything = [logic.Close(Ending(Cause.HUNG_UP)), logic.WindUp()]
        return chance.choice(anything)

    def _of_agent(self) -> Heard:
        chance = self._chance
        if chance.random() < 0.05:
            return LegEnded(Leg.AGENT, chance.choice([*How]), chance.choice([None, 1000, 1011]))
        id = f"f{self._number}"
        function = deepgram.FunctionToCall(id, "look_up", chance.choice(["{}", '{"n": 12}', "no"]))
        anything: list[Heard] = [
            deepgram.Welcome("request"),
            deepgram.SettingsApplied(),
            deepgram.SettingsApplied(),
            deepgram.ConversationText("user", chance.choice(SENTENCES)),
            deepgram.ConversationText("agent", chance.choice(SENTENCES)),
            deepgram.Audio(VOICE * chance.randrange(1, 30)),
            deepgram.Audio(b"\x10" * chance.randrange(5000)),
            deepgram.Audio(SILENCE * 10),
            deepgram.UserStartedSpeaking(),
            deepgram.EndOfTurn(),
            deepgram.AgentThinking("hm"),
            deepgram.AgentAudioDone(),
            deepgram.PromptUpdated(),
            deepgram.FunctionCallRequest((function,)),
            deepgram.AgentWarning("MAXIMUM_SESSION_LENGTH_APPROACHING"),
            deepgram.AgentError("FAILED_TO_THINK", "odd"),
        ]
        return chance.choice(anything)

    def _hear(self, *batch: Heard) -> None:
        for act in self._dialogue.hear(batch, self._now):
            self._perform(act)

    def _perform(self, act: Act) -> None:
        match act:
            case logic.Dial():
                self._is_dialled, self._is_reached = True, False
            case logic.DropAgent():
                self._is_dialled = self._is_reached = False
            case logic.CallFunctions(functions):
                self._running += functions
            case logic.CancelFunctions(ids):
                self._running = [each for each in self._running if each.id not in ids]
            case logic.SendToCaller(twilio.PlayMark(_, name)):
                self._marks.append(name.name)
            case logic.HangUp():
                self._is_over = True


_NEXT: dict[Phase, Heard] = {
    Phase.AWAITING_WELCOME: deepgram.Welcome("request"),
    Phase.AWAITING_APPLIED: deepgram.SettingsApplied(),
}
_START = twilio.Start(
    twilio.StreamStart(STREAM_SID, "CA1", custom_parameters={"from": "+14155550123"})
)


def check(flight: Flight) -> tuple[int, float]:
    """How many steps it has, and how long the replay took. Raises `AssertionError`."""
    flight = unpack(pack(flight))
    began = time.perf_counter()
    assert differences(flight) == []
    took = time.perf_counter() - began
    bare = masked(flight, keeps_words=False, keeps_numbers=False)
    assert differences(unpack(pack(bare))) == []
    return len(flight.steps), took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    steps, took = 0, 0.0
    for number in range(given.calls):
        seed = given.seed * 1_000_000 + number
        try:
            more, seconds = check(RandomCall(random.Random(seed)).flight)
        except AssertionError:
            sys.exit(f"the call of seed {seed} is replayed to other acts")
        steps, took = steps + more, took + seconds
    print(f"{given.calls} random calls, {steps} steps: replayed to the same acts, also masked")
    print(f"{given.calls / took:.0f} calls a second, {steps / took:.0f} steps a second")


if __name__ == "__main__":
    main()

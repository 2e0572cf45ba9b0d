"""The five calls of the demonstration, and what has to come of each. Pure.

Judged is the conversation: who said what, and how it ended. How long all of it took is told beside
that, as it is the machine's as well: `slowness`.
"""

import enum
import itertools
import math
import statistics
from collections.abc import Callable, Sequence

import msgspec

from sts_trio.demo.clips import broken_off, speak
from sts_trio.errors import Ending, Verdict
from sts_trio.simulate.report import Report
from sts_trio.simulate.script import (
    GREETING_PATIENCE,
    HangUp,
    Step,
    WaitForQuiet,
    WaitForSpeech,
)
from sts_trio.simulate.transcript import Sentence

# What a caller would not complain about, in seconds; longer is worth a note. The offline agent
# takes half a second of silence for the end of a turn, and then decodes it; the rest is the
# bridge's and this machine's.
GREETED_WITHIN = 2.0
ANSWERED_WITHIN = 1.5
ANSWERED_MOSTLY_WITHIN = 0.9
# To notice speech takes 60 to 150 ms; the rest is two frames each way.
SILENT_WITHIN = 0.5
# The bridge's promise: both sockets are gone within 2 s of the cause, whatever it was.
CLOSED_WITHIN = 2.0
# What is there so long after a call is left for good; only a machine that hardly runs needs it.
LEFT_AFTER = 20.0

# Nobody is left alone: after 0.7 s without a word the bridge says one. The rest is what a pause may
# last between words, and this machine's.
SILENCE_WITHIN = 1.2

# When a barge-in comes, a hang-up, and the agent's death: into somebody's sentence.
BARGE_IN_AFTER = 2.0
BREAK_OFF_AFTER = 1.4
DIE_AFTER = 0.6
# How long a dead agent that is dialled again keeps the bridge waiting: long enough to be noticed.
# The bridge gives it 3 s.
AWAY = 2.0

SURVIVED = "the agent said too little to die in the middle of it"


class Fate(enum.Enum):
    """What becomes of an agent that dies in the middle of a sentence."""

    RETURNS = "returns"  # `AWAY` seconds later
    GONE = "gone"  # nobody else answers


class Evidence(msgspec.Struct, frozen=True):
    """What is known of a call that is over."""

    report: Report
    ending: Ending | None  # as the server has it; None if it does not know the call
    sentences: tuple[Sentence, ...]
    has_ears: bool  # the agent recognises words
    # When the agent did, and when there was one again, in seconds since the call began.
    died_at: float | None = None
    back_at: float | None = None

    @property
    def silence(self) -> float | None:
        """The longest that the caller heard nothing for, from the agent's death until it was heard
        again, or until the end; None if it did not die. A pause between words is none."""
        if self.died_at is None:
            return None
        spans = self.report.agent_spans
        back = math.inf if self.back_at is None else self.back_at
        longest = 0.0
        for (_, fell_silent), (spoke, until) in itertools.pairwise(spans):
            if spoke > self.died_at:
                longest = max(longest, spoke - fell_silent)
            if until > back:
                break
        return longest


Judge = Callable[[Evidence], str | None]


class Scenario(msgspec.Struct, frozen=True):
    """One call: its name, what happens, what the caller does, and what is wrong with it, if so."""

    name: str
    story: str
    steps: tuple[Step, ...]
    judge: Judge
    fate: Fate | None = None  # of the agent
    dies_in: int = 1  # which of its stretches of speech


def scenarios() -> list[Scenario]:
    greeting, answer = WaitForQuiet(GREETING_PATIENCE), WaitForQuiet()
    return [
        Scenario(
            "booking",
            "Mary books a test drive, and interrupts.",
            (
                greeting,
                speak("mary-cars"),
                WaitForSpeech(BARGE_IN_AFTER),
                speak("mary-test-drive"),
                answer,
                speak("mary-name"),
                answer,
                speak("mary-yes"),
                answer,
                speak("mary-goodbye"),
                answer,
            ),
            booking,
        ),
        Scenario(
            "hang-up",
            "Peter hangs up in the middle of a sentence.",
            (greeting, broken_off(speak("peter-test-drive"), BREAK_OFF_AFTER), HangUp()),
            hang_up,
        ),
        Scenario(
            "reconnect",
            "The agent dies in mid-sentence. The next one takes its time.",
            (
                greeting,
                speak("james-place"),
                # Somebody who was cut off waits for the rest.
                WaitForQuiet(silence=2.0),
                speak("james-goodbye"),
                answer,
            ),
            reconnect,
            Fate.RETURNS,
            # The greeting is the first, its answer the second.
            dies_in=2,
        ),
        Scenario(
            "dead-agent",
            "The agent dies while it greets, and is gone for good.",
            # A caller who is not released is left to wait for so long.
            (WaitForQuiet(silence=5.0),),
            dead_agent,
            Fate.GONE,
        ),
    ]


def moved() -> Scenario:
    """The one that takes several processes."""
    return Scenario(
        "moved",
        "The process that has the call is killed in mid-sentence. Another one goes on.",
        (
            WaitForQuiet(GREETING_PATIENCE),
            speak("james-place"),
            WaitForQuiet(silence=4.0),
            speak("james-goodbye"),
            WaitForQuiet(),
        ),
        went_on,
        dies_in=2,
    )


def booking(evidence: Evidence) -> str | None:
    report = evidence.report
    if problem := report.fault or _basics(evidence, turns=5) or _hung_up(evidence):
        return problem
    if report.turns[1].talked_over is None:
        return "the agent was not speaking when the caller barged in"
    if not report.clears:
        return "the bridge sent no clear"
    if problem := _unanswered(report, answers=5):
        return problem
    said = [sentence.text for sentence in evidence.sentences if sentence.role == "assistant"]
    booked = any("booked" in text and "Tuesday at ten" in text and "Mary" in text for text in said)
    if evidence.has_ears and not booked:
        return f"nothing was booked for Mary on Tuesday at ten: the agent ended with {said[-1:]}"
    return None


def hang_up(evidence: Evidence) -> str | None:
    return evidence.report.fault or _basics(evidence, turns=1) or _hung_up(evidence)


def reconnect(evidence: Evidence) -> str | None:
    """The call has to go on, and the caller is not to be left in silence."""
    report, back_at = evidence.report, evidence.back_at
    if problem := report.fault or _basics(evidence, turns=2):
        return problem
    if evidence.died_at is None:
        return SURVIVED
    if back_at is None:
        return "no other agent came"
    if not any(evidence.died_at < began < back_at for began, _ in report.agent_spans):
        return f"the caller heard nothing for {evidence.silence:.1f} s when the agent had died"
    if problem := _hung_up(evidence) or _unanswered(report, answers=2):
        return problem
    return _astray(evidence, back_at)


def went_on(evidence: Evidence) -> str | None:
    """The call is no shorter for its process, and the new agent knows what it is about."""
    report, back_at = evidence.report, evidence.back_at
    if problem := report.fault or _basics(evidence, turns=2):
        return problem
    if evidence.died_at is None:
        return SURVIVED.replace("to die", "to be killed")
    if back_at is None:
        return "no other process went on with the call"
    if problem := _hung_up(evidence) or _unanswered(report, answers=2):
        return problem
    return _astray(evidence, back_at)


def dead_agent(evidence: Evidence) -> str | None:
    """The bridge has to notice, to tell the caller, and to release them."""
    report, ending = evidence.report, evidence.ending
    if problem := _basics(evidence, turns=0):
        return problem
    if evidence.died_at is None:
        return SURVIVED
    if report.closed_by != "bridge":
        return "the caller was left in silence, and had to hang up"
    if report.close_code is None or ending is None or ending.verdict is not Verdict.AGENT:
        told = "nothing" if ending is None else f"{ending.cause.label}, {ending.verdict.value}"
        return f"the ending is not put down to the agent: {told}, close code {report.close_code}"
    if not ending.apologised:
        return "the caller was released without a word"
    return None


def _basics(evidence: Evidence, *, turns: int) -> str | None:
    report = evidence.report
    if report.refused:
        return f"Twilio would refuse a message: {report.first_refusal}"
    if len(report.turns) != turns:
        return f"the caller came to speak {len(report.turns)} times and not {turns}"
    return None if report.first_agent_audio is not None else "there was no greeting"


def _hung_up(evidence: Evidence) -> str | None:
    """The caller did, and the server knows."""
    ending = evidence.ending
    if evidence.report.closed_by != "caller":
        return "the bridge hung up before the caller"
    if ending is None or ending.verdict is not Verdict.SUCCESS:
        return f"the server does not think that it went well: {ending and ending.cause.label}"
    return None


def _astray(evidence: Evidence, back_at: float) -> str | None:
    """The agent that went on is to know what about."""
    agent = [sentence for sentence in evidence.sentences if sentence.role == "assistant"]
    before = {sentence.text for sentence in agent if sentence.at < back_at}
    after = [sentence.text for sentence in agent if sentence.at >= back_at]
    if evidence.has_ears and after[:1] and after[0] not in before:
        return f"the agent did not go on with what it was saying, but with {after[0]!r}"
    return None


def _unanswered(report: Report, *, answers: int) -> str | None:
    if len(report.waits) != answers:
        return f"the agent answered {len(report.waits)} times and not {answers}"
    return None


def slowness(evidence: Evidence, closed_after: float | None) -> list[str]:
    """What took longer than a caller would like, and for how long.

    `closed_after` is how long after the cause both sockets were closed; None if they were not.
    """
    report = evidence.report
    silenced = max((turn.talked_over or 0.0 for turn in report.turns), default=0.0)
    slow = [
        (report.first_agent_audio, GREETED_WITHIN, "the greeting came after {:.1f} s"),
        (
            max(report.waits, default=0.0),
            ANSWERED_WITHIN,
            "an answer came {:.1f} s after the caller had spoken",
        ),
        (silenced, SILENT_WITHIN, "the agent went on speaking for {:.2f} s after the barge-in"),
        (
            evidence.silence,
            SILENCE_WITHIN,
            "the caller heard nothing for {:.1f} s when the agent had died",
        ),
        (closed_after, CLOSED_WITHIN, "its sockets were closed after {:.1f} s only"),
    ]
    return [words.format(took) for took, limit, words in slow if took is not None and took > limit]


def slow_on_the_whole(waits: Sequence[float]) -> str | None:
    """Over all calls."""
    if waits and (median := statistics.median(waits)) > ANSWERED_MOSTLY_WITHIN:
        return f"half of the answers took longer than {median:.2f} s"
    return None

"""The three calls of the demonstration, and what has to come of each. Pure."""

import statistics
from collections.abc import Callable, Sequence

import msgspec

from sts_trio.errors import Ending, Verdict
from sts_trio.simulate.clips import broken_off, speak
from sts_trio.simulate.manners import (
    GREETING_PATIENCE,
    HangUp,
    Step,
    WaitForQuiet,
    WaitForSpeech,
)
from sts_trio.simulate.report import Report
from sts_trio.simulate.transcript import Sentence

# What a caller would not complain about, in seconds. The offline agent takes half a second of
# silence for the end of a turn, and then decodes it; the rest is the bridge's and this machine's.
GREETED_WITHIN = 2.0
ANSWERED_WITHIN = 1.5
ANSWERED_MOSTLY_WITHIN = 0.9
# To notice speech takes 60 to 150 ms; the rest is two frames each way.
SILENT_WITHIN = 0.5
# The bridge's promise: both sockets are gone within 2 s of the cause, whatever it was.
CLOSED_WITHIN = 2.0

# When a barge-in comes, a hang-up, and the agent's death: into somebody's sentence.
BARGE_IN_AFTER = 2.0
BREAK_OFF_AFTER = 1.4
DIE_AFTER = 1.5


class Evidence(msgspec.Struct, frozen=True):
    """What is known of a call that is over."""

    report: Report
    ending: Ending | None  # as the server has it; None if it does not know the call
    sentences: tuple[Sentence, ...]
    has_ears: bool  # the agent recognises words
    died_at: float | None = None  # when the agent did, in seconds since the call began


Judge = Callable[[Evidence], str | None]


class Scenario(msgspec.Struct, frozen=True):
    """One call: its name, what happens, what the caller does, and what is wrong with it, if so."""

    name: str
    story: str
    steps: tuple[Step, ...]
    judge: Judge
    agent_dies: bool = False


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
            (
                greeting,
                speak("peter-price"),
                answer,
                broken_off(speak("peter-test-drive"), BREAK_OFF_AFTER),
                HangUp(),
            ),
            hang_up,
        ),
        Scenario(
            "dead-agent",
            "James is being answered when the agent dies.",
            # A caller who is not released is left to wait for so long.
            (greeting, speak("james-hours"), WaitForQuiet(silence=5.0)),
            dead_agent,
            agent_dies=True,
        ),
    ]


def booking(evidence: Evidence) -> str | None:
    report = evidence.report
    if problem := report.fault or _basics(evidence, turns=5) or _hung_up(evidence):
        return problem
    silenced = report.turns[1].talked_over
    if silenced is None:
        return "the agent was not speaking when the caller barged in"
    if silenced > SILENT_WITHIN:
        return f"the agent went on speaking for {silenced:.2f} s after the barge-in"
    if not report.clears:
        return "the bridge sent no clear"
    if problem := _overdue(report, answers=5):
        return problem
    said = [sentence.text for sentence in evidence.sentences if sentence.role == "assistant"]
    booked = any("booked" in text and "Tuesday at ten" in text and "Mary" in text for text in said)
    if evidence.has_ears and not booked:
        return f"nothing was booked for Mary on Tuesday at ten: the agent ended with {said[-1:]}"
    return None


def hang_up(evidence: Evidence) -> str | None:
    report = evidence.report
    return (
        report.fault
        or _basics(evidence, turns=2)
        or _hung_up(evidence)
        or _overdue(report, answers=1)
    )


def dead_agent(evidence: Evidence) -> str | None:
    """The bridge has to notice, and to release the caller."""
    report, ending, died_at = evidence.report, evidence.ending, evidence.died_at
    if problem := _basics(evidence, turns=1) or _overdue(report, answers=1):
        return problem
    if died_at is None:
        return "the agent said too little to die in the middle of it"
    if report.closed_by != "bridge":
        return "the caller was left in silence, and had to hang up"
    if report.close_code is None or ending is None or ending.verdict is not Verdict.AGENT:
        told = "nothing" if ending is None else f"{ending.cause.label}, {ending.verdict.value}"
        return f"the ending is not put down to the agent: {told}, close code {report.close_code}"
    return None


def _basics(evidence: Evidence, *, turns: int) -> str | None:
    report = evidence.report
    if report.refused:
        return f"Twilio would refuse a message: {report.first_refusal}"
    if len(report.turns) != turns:
        return f"the caller came to speak {len(report.turns)} times and not {turns}"
    first = report.first_agent_audio
    if first is None or first > GREETED_WITHIN:
        return f"the greeting came after {first:.1f} s" if first else "there was no greeting"
    return None


def _hung_up(evidence: Evidence) -> str | None:
    """The caller did, and the server knows."""
    ending = evidence.ending
    if evidence.report.closed_by != "caller":
        return "the bridge hung up before the caller"
    if ending is None or ending.verdict is not Verdict.SUCCESS:
        return f"the server does not think that it went well: {ending and ending.cause.label}"
    return None


def _overdue(report: Report, *, answers: int) -> str | None:
    if len(report.waits) != answers:
        return f"the agent answered {len(report.waits)} times and not {answers}"
    slowest = max(report.waits)
    if slowest > ANSWERED_WITHIN:
        return f"an answer came {slowest:.1f} s after the caller had spoken"
    return None


def slow_on_the_whole(waits: Sequence[float]) -> str | None:
    """Over all calls."""
    if waits and (median := statistics.median(waits)) > ANSWERED_MOSTLY_WITHIN:
        return f"half of the answers took longer than {median:.2f} s"
    return None

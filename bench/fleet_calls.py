"""What callers of the fleet do, and what came of it: whether they were remembered, first of all."""

import collections
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from fleet_functions import POISON
from keeper import ANSWER, ASK, CODE, DO, TALK, UNKNOWN, keys

from sts_trio.audio.frames import length
from sts_trio.audio.tones import tones
from sts_trio.simulate.earpiece import Spans
from sts_trio.simulate.phone_call import PhoneCall
from sts_trio.simulate.script import Speak, Step, WaitForQuiet

GREETING = "DDDD"  # see `fleet_rig.CONFIG`
# An agent that was audible so short a time before was cut in the midst of what it said.
JUST_NOW = 0.3


def code_of(number: int) -> str:
    """Another word for each caller, which no talk has in it."""
    return f"{number:04d}"


def steps(number: int, talks: int) -> list[Step]:
    """A caller's code word, talk with a function called in its midst, and what the word was."""
    says = [CODE + code_of(number), *(f"D{turn % 10}" for turn in range(talks))]
    says.insert(2 + talks // 2, f"{DO}1")
    taken: list[Step] = [WaitForQuiet(3.0)]
    # Asked twice: the first answer may be cut.
    for said in [*says, ASK, ASK]:
        taken += [Speak(tones(said), said), WaitForQuiet()]
    return taken


def poison() -> list[Step]:
    """A caller whose every second word kills the process that has the call."""
    code = CODE + POISON * 4
    taken: list[Step] = [WaitForQuiet(3.0)]
    for said in [code, f"{DO}{POISON}1", f"{DO}{POISON}2", ASK]:
        taken += [Speak(tones(said), said), WaitForQuiet()]
    return taken


class Outcome(msgspec.Struct):
    """Of one call."""

    number: int
    call: PhoneCall
    is_remembered: bool
    moves: list[tuple[float, float]]  # (when its stream ended, seconds until it was heard again)
    sessions: int = 0  # that it had when it was asked for the word
    twice: int = 0  # functions
    missing: list[str] = []  # words that the agent heard, and that are in no record

    @property
    def is_ended(self) -> bool:
        """By anybody but the caller."""
        return self.call.ended_by != "caller"


def outcome(number: int, call: PhoneCall) -> Outcome:
    heard = call.report.heard
    streams = [each for each in call.streams if each.ended_by != "refused"]
    audible = Spans()
    audible.add(heard)
    moves = []
    for before, after in itertools.pairwise(streams):
        # Silence is that of a caller who waits, else only the line was away.
        again = after.began
        last = next((span for span in reversed(audible.spans) if span[0] <= before.ended), None)
        if last is not None and last[1] > before.ended - JUST_NOW:
            said = keys(heard[length(last[0]) : length(before.ended)])
            if said not in (TALK, GREETING, UNKNOWN, ANSWER + code_of(number)):
                again = next((begin for begin, _ in spans(heard, before.ended)), after.began)
        moves.append((before.ended, again - before.ended))
    return Outcome(
        number=number,
        call=call,
        is_remembered=ANSWER + code_of(number) in keys(heard),
        moves=moves,
    )


def spans(track: bytes, since: float) -> Iterable[tuple[float, float]]:
    """When something was to be heard from then on: (from, to)."""
    since = max(0.0, since)
    rest = Spans()
    rest.add(track[length(since) :])
    return [(begin + since, end + since) for begin, end in rest.spans]


class Told(msgspec.Struct):
    """A line of the agent's log."""

    session: str
    at: float
    what: str
    words: str


def told_by_agent(log: Path) -> dict[str, list[Told]]:
    """{code word: all that sessions tell that knew of it}"""
    sessions: dict[str, list[Told]] = collections.defaultdict(list)
    for line in log.read_text().splitlines() if log.exists() else ():
        told = msgspec.json.decode(line, type=Told)
        sessions[told.session].append(told)
    calls: dict[str, list[Told]] = collections.defaultdict(list)
    for lines in sessions.values():
        code = next((each.words[1:] for each in lines if each.words.startswith(CODE)), "")
        calls[code] += lines
    return calls


def complete(
    outcome: Outcome, told: list[Told], record: Mapping[str, Any], notes: Iterable[str]
) -> None:
    """With what the agent, the database and the function know of the call."""
    asked = max((each.at for each in told if each.words == ASK), default=0.0)
    begun = {each.session for each in told if each.what == "begun" and each.at <= asked}
    ended = {each.session for each in told if each.what == "ended" and each.at <= asked}
    outcome.sessions = len(begun - ended)
    kept = collections.Counter(_words(record))
    # What is no keys was said by the bridge in the caller's name.
    heard = (each.words for each in told if each.what == "user")
    said = collections.Counter(words for words in heard if re.fullmatch("[0-9A-D*#]+", words))
    outcome.missing = list((said - kept).elements())
    runs = collections.Counter(each for each in notes if each.endswith(" begun"))
    outcome.twice = sum(count - 1 for count in runs.values())


def _words(record: Mapping[str, Any]) -> list[str]:
    """All that the caller has said, by the one record of the call."""
    return [each["body"]["text"] for each in record["events"] if each["kind"] == "user"]


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0

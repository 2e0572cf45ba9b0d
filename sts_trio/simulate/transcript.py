"""Who said what and when in a simulated call: afterwards, and while it runs. Pure.

The caller's words are those of the clips. When the agent speaks is heard on the caller's own phone;
its words, and what it took the caller to have said, come from the server, if that tells.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from sts_trio.simulate.phone import Moment
from sts_trio.simulate.report import Report

CALLER, AGENT = "caller", "agent"
# Its own words: `<Say>`, and what it says of an application that fails.
CARRIER = "Twilio"
# Between an agent's sentence and its being heard, at most; shorter than any turn.
HEAD_START = 1.0


class Sentence(msgspec.Struct, frozen=True):
    """As the agent reports it: `role` is user for what it heard, and another for what it said."""

    at: float
    role: str
    text: str


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One stretch of speech. Times are seconds since the call began."""

    at: float
    until: float
    who: str  # CALLER, AGENT or CARRIER; "" if the last speaker goes on
    text: str = ""
    waited: float | None = None  # the caller, for this answer
    silenced: float | None = None  # by this barge-in: how long the agent went on
    understood: str | None = None  # what the agent took the caller to have said
    heard: str | None = None  # what the caller heard of the agent's turn, where that was cut


def lines(report: Report, sentences: Sequence[Sentence] = ()) -> list[Line]:
    """The transcript of a call that is over, in order."""
    told = []
    understood = _shared_out(
        [s for s in sentences if s.role == "user"], [turn.began for turn in report.turns]
    )
    for turn, text in zip(report.turns, understood, strict=True):
        line = Line(turn.began, turn.ended, CALLER, turn.text, None, turn.talked_over, text or None)
        told.append(line)
    answers = {turn.ended + turn.wait: turn.wait for turn in report.turns if turn.wait is not None}
    # The agent tells a sentence before it speaks it.
    begins = [begin for begin, _ in report.agent_spans]
    said = _shared_out(
        [s for s in sentences if s.role != "user"], [begin - HEAD_START for begin in begins]
    )
    for (began, ended), text in zip(report.agent_spans, said, strict=True):
        waited = next((wait for at, wait in answers.items() if abs(at - began) < 0.001), None)
        told.append(Line(began, ended, AGENT, text, waited=waited))
    told += (Line(each.began, each.ended, CARRIER, each.words) for each in report.announced)
    return sorted(map(_rounded, told), key=lambda line: line.at)


def _rounded(line: Line) -> Line:
    """To the millisecond: what is beyond is the float's."""
    return msgspec.structs.replace(
        line,
        **{
            name: round(value, 3)
            for name, value in msgspec.structs.asdict(line).items()
            if isinstance(value, float)
        },
    )


def _shared_out(sentences: Sequence[Sentence], begins: Sequence[float]) -> Iterator[str]:
    """For each stretch of speech, the sentences since it began and until the next did."""
    for index, begin in enumerate(begins):
        since = begin if index else -1.0
        until = begins[index + 1] if index + 1 < len(begins) else float("inf")
        yield " ".join(s.text for s in sentences if since <= s.at < until)


class Narrator:
    """Tells a call's lines while it runs, each as it begins: who, from when, what, how long waited.

    With `knows_words` the agent's lines wait for the words, which `hear` is to be told: no longer
    than it speaks, as what the bridge itself says is told by nobody.
    """

    def __init__(self, tell: Callable[[Line], None], *, knows_words: bool) -> None:
        self._tell = tell
        self.knows_words = knows_words
        self._saying = ""
        self._announced = ""
        self._stretches = 0
        self._words: list[str] = []  # of the agent, not told yet
        self._begun: Moment | None = None  # the agent speaks since then, and has not been told

    def watch(self, moment: Moment) -> None:
        if moment.saying != self._saying:
            self._saying = moment.saying
            if moment.saying:
                self._words.clear()  # what was not heard by now was cut off
                silenced = 0.0 if moment.agent_speaks else None
                at = moment.seconds
                self._tell(Line(at, at, CALLER, moment.saying, silenced=silenced))
        if moment.announced != self._announced:
            self._announced = moment.announced
            if moment.announced:
                self._tell(Line(moment.seconds, moment.seconds, CARRIER, moment.announced))
        if moment.stretches > self._stretches:
            self._stretches = moment.stretches
            self._begun = moment
        self._tell_agent(moment)

    def hear(self, sentence: Sentence) -> None:
        if sentence.role != "user":
            self._words.append(sentence.text)
        else:
            self._tell(Line(sentence.at, sentence.at, CALLER, understood=sentence.text))

    def end_turn(self, at: float, said: str, heard: str) -> None:
        """What the caller heard of the agent's turn, which is told if that was cut."""
        if heard and heard != said:
            self._tell(Line(at, at, AGENT, heard=heard))

    def _tell_agent(self, moment: Moment) -> None:
        """A sentence at a time: the first when the agent is heard, the others as they come."""
        begun, self._begun = self._begun, None
        if begun is not None and not self._words and self._may_come(begun, moment):
            self._begun = begun  # until there are words
        elif begun is not None:
            text = self._words.pop(0) if self._words else ""
            self._tell(Line(begun.seconds, begun.seconds, AGENT, text, waited=begun.wait))
        elif moment.agent_speaks:
            for text in self._words:
                self._tell(Line(0.0, 0.0, "", text))
            self._words.clear()

    def _may_come(self, begun: Moment, moment: Moment) -> bool:
        late = moment.seconds >= begun.seconds + HEAD_START
        return self.knows_words and (moment.agent_speaks or not late)


def text(told: Sequence[Line]) -> str:
    """The transcript as a text file has it."""
    rows = []
    for line in told:
        words = line.text or "(speaks)"
        if line.understood is not None and line.understood != line.text:
            words += f" (understood: {line.understood})"
        rows.append(f"{line.at:7.1f} s  {line.who:<6}  {words}\n")
    return "".join(rows)

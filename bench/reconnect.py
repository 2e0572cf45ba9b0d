"""Measures the gap that callers hear when their agent dies and another one goes on.

    python bench/reconnect.py

Writes its section of `RESULTS.md`. Bridge, agent and callers are one process, on loopback: the
scripted offline agent, and simulated phones. In each round all agents die at one moment, so all
calls are without one at once. What is measured is what the phones played, to the byte: the agent's
voice is always the same, so it is known where in it the first word of the fresh agent is.
"""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import click
import report
import results
import trio
from results import Reconnect, Reconnects
from rich.console import Console
from servers import HERE

from sts_trio.audio.frames import BYTES_PER_SECOND, SILENCE, length
from sts_trio.load import machine
from sts_trio.offline.speech import voice
from sts_trio.simulate.report import Report
from sts_trio.simulate.script import HangUp, Step, WaitForQuiet, WaitForSpeech, audible_part
from sts_trio.simulate.spoken import PITCH
from sts_trio.testing import Agent, Server, Speak, call, running, scripted_agent

# No greeting: the caller speaks at once. Other than that, an agent like any.
PROJECT = """
[agents.default.think]
prompt = "You are a helpful car seller."
provider = { type = "open_ai", model = "gpt-4o-mini" }
"""
QUESTION = Speak(voice.say("When do you open?", PITCH))
ANSWER = "We are open from nine to six on weekdays, and from ten to four on Saturday."
REST = "As I was saying, from nine to six."
# Long enough to be no other place in a voice.
FIRST_WORD = length(0.2)
ASKED = audible_part(QUESTION.audio)[1]  # how long it takes
# The answer begins half a second after the question. Seconds after its last word:
AMID_ANSWER = 1.5
BEFORE_ANSWER = 0.25
# A caller who has heard nothing for so long has lost the line.
PATIENCE = 5.0


class Unheard(Exception):
    """A call in which the fresh agent was not heard."""


@contextlib.contextmanager
def _project() -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(PROJECT)
        file.flush()
        yield file.name


@contextlib.asynccontextmanager
async def bridge() -> AsyncIterator[tuple[Server, Agent]]:
    with _project() as file:
        variables = {"STS_CONFIG": file, "STS_LOG_LEVEL": "error"}
        async with scripted_agent(ANSWER, REST) as agent, running(variables, agent=agent) as server:
            yield server, agent


async def measure(calls: int, rounds: int) -> list[Reconnect]:
    """Both situations, each in so many rounds."""
    async with bridge() as (server, agent):
        amid, before = [], []
        to_the_end: list[Step] = [QUESTION, WaitForQuiet(PATIENCE), HangUp()]
        to_a_word: list[Step] = [QUESTION, WaitForSpeech(0.5, PATIENCE), HangUp()]
        for _ in range(rounds):
            amid += await _round(server, agent, calls, to_the_end, AMID_ANSWER)
            before += await _round(server, agent, calls, to_a_word, BEFORE_ANSWER)
    return [
        gather("in the middle of its answer", amid, ANSWER, REST),
        gather("before its answer", before, "", ANSWER),
    ]


async def _round(
    server: Server, agent: Agent, calls: int, steps: list[Step], die_after: float
) -> list[tuple[Report, float]]:
    """Calls at once, and when in each of them its agent died."""
    reports: list[Report] = []

    async def place() -> None:
        reports.append(await call(server.url, steps))

    async with trio.open_nursery() as nursery:
        for _ in range(calls):
            nursery.start_soon(place)
        await trio.sleep(ASKED + die_after)
        agent.drop()
        died = trio.current_time()
    return [(each, died - each.began) for each in reports]


def gather(died: str, calls: list[tuple[Report, float]], last: str, fresh: str) -> Reconnect:
    """Of calls in which an agent died that was saying `last`, and another one said `fresh`.

    Raises:
        Unheard: in one of them it did not.
    """
    gaps = [gap(each.heard, at, last, fresh) for each, at in calls]
    waits = [turn.wait for each, _ in calls for turn in each.turns if turn.wait is not None]
    return Reconnect(
        died,
        gaps_ms=[round(1000 * until_word, 3) for until_word, _ in gaps],
        silences_ms=[round(1000 * silence, 3) for _, silence in gaps],
        waits_ms=[round(1000 * wait, 3) for wait in waits],
    )


def gap(heard: bytes, died: float, last: str, fresh: str) -> tuple[float, float]:
    """From the agent's death to the fresh one's first word, and how much of it was silence, in
    seconds. `heard` is what the phone played.

    Raises:
        Unheard: there is no such word.
    """
    death = length(died)
    word, _ = _find(heard, fresh, death)
    silent_from = death
    if last:
        began, audio = _find(heard, last, 0)
        silent_from = max(death, began + _shared(heard[began:], audio))
    return (word - death) / BYTES_PER_SECOND, max(0, word - silent_from) / BYTES_PER_SECOND


def _shared(heard: bytes, audio: bytes) -> int:
    """How much of the audio was heard: what came to be sent of it."""
    pairs = enumerate(zip(heard, audio, strict=False))
    return next((at for at, (one, other) in pairs if one != other), len(audio))


def _find(heard: bytes, text: str, since: int) -> tuple[int, bytes]:
    """Where the agent's voice begins to say this, and its audio from there on."""
    audio = voice.say(text).lstrip(SILENCE)
    at = heard.find(audio[:FIRST_WORD], since)
    if at < 0:
        raise Unheard(f"in one of the calls this was not heard: {text}")
    return at, audio


@click.command(help=__doc__)
@click.option("--calls", type=click.IntRange(1), default=8, show_default=True, help="At once.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=HERE,
    help="The directory for what is written: bench/ unless told.",
)
def main(calls: int, rounds: int, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    try:
        measured = trio.run(measure, calls, rounds)
    except Unheard as exc:
        raise click.ClickException(str(exc)) from exc
    kept = results.load(out / "results.json")
    kept.reconnects = Reconnects(machine.describe(), calls, measured)
    results.save(kept, out / "results.json")
    (out / "RESULTS.md").write_text(report.write(kept))
    console = Console(highlight=False, soft_wrap=True)
    for each in measured:
        console.print(
            f"dies {each.died}: first word after {report.spread_of(each.gaps_ms)} ms,"
            f" silence {report.spread_of(each.silences_ms)} ms (p50 / p99 / most)"
        )


if __name__ == "__main__":
    main()

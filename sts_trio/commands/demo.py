"""`sts-trio demo`: see it work, without a key or a phone."""

import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sts_trio.commands.common import Command, fail, make_directory, run, save, say
from sts_trio.simulate.earpiece import PAUSE
from sts_trio.wire.printable import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sts_trio.demo.run import Outcome
    from sts_trio.demo.scenarios import Scenario

FILES = ("wav", "jsonl", "png")  # recording, transcript, picture

NEXT = """\
Next:
  a page     sts-trio serve, then open the address that it tells, and speak:
             http://127.0.0.1:5000/?key=..., another key at each start
  a caller   from another terminal: sts-trio call YOUR-VOICE.wav,
             or sts-trio call --say "When are you open?"
  a key      DEEPGRAM_API_KEY=... sts-trio serve: Deepgram's agent answers
  a number   TWILIO_AUTH_TOKEN=... as well, and the webhook of a Twilio number
             set to https://YOUR-HOST/twiml; `sts-trio serve` says more"""


@click.command(cls=Command)
@click.option(
    "--out",
    default="sts-trio-demo",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Directory for the recordings, transcripts and pictures.",
)
def demo(out: str) -> None:
    """See it work, without a key or a phone: two minutes.

    Serves on a free port with the offline agent, and places five simulated calls in a row: a
    booking with an interruption; a caller who hangs up in mid-sentence; an agent that dies in
    mid-sentence, and the call goes on; one that is gone for good; a call whose process is killed,
    and another process goes on with it. Of each it writes a recording
    (caller left, agent right), a transcript and a picture.

    Ends with status 1 and the reason if anything was not as it should be. What took longer than a
    caller would like is a note: it may be that this machine is busy.
    """
    from rich.console import Console
    from rich.text import Text

    from sts_trio.simulate.screen import show, words

    directory = Path(out)
    make_directory(directory)
    console = Console()
    outcomes = run(_demo, console)
    click.echo()
    for number, outcome in enumerate(outcomes, 1):
        _save(directory, number, outcome)
    show(console, _table(outcomes))
    if slow := _slow(outcomes):
        show(console, Text("Slow" + _how_busy() + ":", "yellow"))
        for note in slow:
            show(console, words(f"  {note}", "yellow", console.encoding))
        click.echo()
    faults = [f"{each.scenario.name}: {fault}" for each in outcomes for fault in each.faults]
    if faults:
        fail("; ".join(faults))
    click.echo("All as it should be, and nothing is left of the calls.\n")
    click.echo(NEXT)


async def _demo(console: "Console") -> "list[Outcome]":
    from sts_trio.demo import moved
    from sts_trio.demo import run as demo
    from sts_trio.demo.scenarios import moved as moved_call
    from sts_trio.demo.scenarios import scenarios
    from sts_trio.simulate.screen import Screen
    from sts_trio.testing import offline_agent, running

    outcomes: list[Outcome] = []
    async with offline_agent() as agent:
        if agent.reason is not None:
            say(f"The agent recognises no words and says its lines in turn: {agent.reason}")
        # Nothing that is configured here is to change the demonstration: not the environment, and
        # no sts-trio.toml.
        async with running(demo.VARIABLES, agent=agent) as server:
            for scenario in scenarios():
                _announce(console, len(outcomes) + 1, scenario)
                with Screen(console) as screen:
                    outcomes.append(await demo.play(scenario, server, agent, screen))
                _tell_faults(console, outcomes[-1])
        scenario = moved_call()
        _announce(console, len(outcomes) + 1, scenario)
        with Screen(console) as screen:
            outcomes.append(await moved.play(scenario, agent, screen))
        _tell_faults(console, outcomes[-1])
    return outcomes


def _announce(console: "Console", number: int, scenario: "Scenario") -> None:
    from rich.text import Text

    from sts_trio.simulate.screen import show

    title = (f"\nCall {number}, {scenario.name}.", "bold")
    show(console, Text.assemble(title, " ", scenario.story))


def _tell_faults(console: "Console", outcome: "Outcome") -> None:
    from sts_trio.simulate.screen import show, words

    for fault in outcome.faults:
        show(console, words(f"  {fault}", "red", console.encoding))


def _slow(outcomes: "Sequence[Outcome]") -> list[str]:
    from sts_trio.demo.scenarios import slow_on_the_whole

    slow = [f"{each.scenario.name}: {note}" for each in outcomes for note in each.slowness]
    on_the_whole = slow_on_the_whole(_waits(outcomes))
    return slow if on_the_whole is None else [*slow, on_the_whole]


def _how_busy() -> str:
    """If this machine had more to do than it can, that: it recognises and speaks, too."""
    if not hasattr(os, "getloadavg"):
        return ""
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    return f" (this machine is busy: load {load:.1f}, {processors} cores)" * (load > processors)


def _waits(outcomes: "Sequence[Outcome]") -> list[float]:
    return [wait for each in outcomes if each.report for wait in each.report.waits]


def _table(outcomes: "Sequence[Outcome]") -> "Table":
    """A line for each call."""
    from rich import box
    from rich.table import Table

    from sts_trio.simulate.screen import seconds

    table = Table(
        "call",
        "turns",
        "answered in\n(at most)",
        "barge-in\nsilenced",
        "no agent:\nsilence",
        "closed\nafter",
        "tasks,\nsockets",
        "",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for each in outcomes:
        report = each.report
        closed = each.closed_after
        sockets = "?" if each.left.sockets is None else str(each.left.sockets)
        table.add_row(
            each.scenario.name,
            str(len(report.turns)) if report else "-",
            _spread(report.waits if report else []),
            seconds(report.talked_over if report else []),
            _silence(each.silence),
            "-" if closed is None else f"{closed * 1000:.0f} ms",
            f"{sum(each.left.tasks.values())}, {sockets}",
            _verdict(each),
        )
    return table


def _verdict(outcome: "Outcome") -> "Text":
    from rich.text import Text

    if outcome.faults:
        return Text("failed", "bold red")
    return Text("slow", "yellow") if outcome.slowness else Text("ok", "green")


def _silence(longest: float | None) -> str:
    """What is shorter than a pause between words is none that a caller would notice."""
    if longest is None:
        return "-"
    return f"{longest:.2f} s" if longest else f"< {PAUSE:g} s"


def _spread(waits: Sequence[float]) -> str:
    if not waits:
        return "-"
    if len(waits) == 1:
        return f"{waits[0]:.2f} s"
    return f"{statistics.median(waits):.2f} s ({max(waits):.2f})"


# --- files ----------------------------------------------------------------------------------------


def _save(directory: Path, number: int, outcome: "Outcome") -> None:
    """Writes what there is of a call, and tells the names of the files."""
    from sts_trio.audio import wav
    from sts_trio.simulate import picture

    report = outcome.report
    if report is None:
        return
    stem = f"{number}-{outcome.scenario.name}"
    recording, transcript, drawing = (directory / f"{stem}.{kind}" for kind in FILES)
    save(wav.write, recording, report.said, report.heard)
    save(_write_transcript, transcript, outcome)
    written = [recording, transcript]
    title = f"Call {number}, {outcome.scenario.name}: {outcome.scenario.story}"
    try:
        save(picture.draw, drawing, title, report, outcome.lines, outcome.events, outcome.absence)
        written.append(drawing)
    except picture.NoMatplotlib as exc:
        if number == 1:
            say(str(exc))
    kinds = ", ".join(path.suffix for path in written[1:])
    say(f"Call {number}: {recording}, {kinds}")


def _write_transcript(target: Path, outcome: "Outcome") -> None:
    """A line of JSON for each stretch of speech."""
    import msgspec

    lines = (printable(msgspec.to_builtins(line)) for line in outcome.lines)
    target.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))

"""What a terminal shows of a call while it runs."""

import io

import msgspec
import pytest
from rich.console import Console
from rich.table import Table
from rig_demo import GOOD

from sts_trio.simulate.phone import Moment
from sts_trio.simulate.screen import Screen, Timeline, show, summary
from sts_trio.simulate.transcript import AGENT, CALLER, Line


def console(*, encoding: str = "utf-8", terminal: bool = False, width: int = 60) -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return Console(file=file, width=width, force_terminal=terminal, color_system=None)


def written(to: Console) -> str:
    assert isinstance(to.file, io.TextIOWrapper)
    to.file.flush()
    buffer = to.file.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(to.encoding)


def moments(timeline: Timeline, seconds: float) -> None:
    """The caller speaks in the first second of every three, the agent in the last."""
    for n in range(1, round(seconds * 50)):
        time = n * 0.02
        timeline.add(Moment(time, time % 3 < 1, time % 3 >= 2))


@pytest.mark.parametrize(("encoding", "loud", "quiet"), [("utf-8", "█", "·"), ("ascii", "#", ".")])
def test_a_timeline_shows_who_spoke_in_each_quarter_of_a_second(
    encoding: str, loud: str, quiet: str
) -> None:
    timeline = Timeline()
    moments(timeline, 3.0)
    assert timeline.render(console(encoding=encoding)).plain == (
        f"     3.0 s\n  caller {loud * 4}{quiet * 8}\n  agent  {quiet * 8}{loud * 4}\n"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_line_in_a_file_or_a_pipe_ends_with_spaces(encoding: str) -> None:
    to = console(encoding=encoding)
    screen = Screen(to)
    screen.tell(Line(1.0, 1.5, AGENT, "Hello there, how may I help you today? " * 3))
    screen.tell(Line(2.0, 2.5, CALLER, ""))
    show(to, summary(GOOD, encoding))
    lines = written(to).splitlines()
    assert len(lines) > 10
    assert [line for line in lines if line != line.rstrip()] == []


FIGURES = [("booking", "0.64 s (0.70)", "ok"), ("dead-agent", "-", "failed")]


def figures() -> Table:
    table = Table("call", "answered in\n(at most)", "")
    for row in FIGURES:
        table.add_row(*row)
    return table


def test_a_table_that_fits_the_terminal_has_a_line_for_each_row() -> None:
    to = console(terminal=True, width=60)
    show(to, figures())
    assert [line.split()[1] for line in written(to).splitlines() if " s " in line] == ["booking"]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_figure_of_a_table_is_cut_off_by_a_narrow_terminal(is_terminal: bool) -> None:
    to = console(terminal=is_terminal, width=38)
    show(to, figures())
    assert [line.rstrip() for line in written(to).splitlines()] == [
        "call                   booking",
        "answered in (at most)  0.64 s (0.70)",
        "                       ok",
        "",
        "call                   dead-agent",
        "answered in (at most)  -",
        "                       failed",
        "",
    ]


def test_a_long_call_shows_its_newest_part() -> None:
    timeline = Timeline()
    moments(timeline, 60.0)
    name, caller, agent = timeline.render(console(width=50)).plain.splitlines()
    assert name == "    60.0 s"
    assert len(caller) == len(agent) == 9 + 20
    assert agent.endswith("████")


def test_a_word_too_short_for_a_cell_is_shown_all_the_same() -> None:
    timeline = Timeline()
    timeline.add(Moment(0.02, True, False))
    timeline.add(Moment(0.04, False, False))
    assert "caller █\n" in timeline.render(console()).plain


def test_a_terminal_shows_the_lines_above_a_timeline_and_is_left_clean() -> None:
    terminal = console(terminal=True)
    with Screen(terminal) as screen:
        screen.watch(Moment(0.02, True, False))
        screen.tell(Line(0.3, 0.3, AGENT, "Hello!"))
        screen.watch(Moment(0.30, False, True))
    shown = written(terminal)
    assert "0.3 s  agent                 Hello!" in shown
    assert "  caller █" in shown
    assert shown.rstrip().endswith("\x1b[2K")


def test_where_there_is_no_terminal_there_are_only_lines() -> None:
    file = console(width=70)
    with Screen(file) as screen:
        screen.watch(Moment(0.02, True, False))
        screen.tell(Line(1.0, 1.0, CALLER, "Hello? Is there anybody who can hear what I say?"))
        screen.tell(Line(1.5, 1.5, CALLER, understood="hello"))
        screen.tell(Line(2.0, 2.0, AGENT, "Yes.", waited=0.75))
        screen.tell(Line(2.5, 2.5, CALLER, "Good.", silenced=0.0))
        screen.tell(Line(2.6, 2.6, AGENT, heard="Ye"))
        screen.tell(Line(3.0, 3.0, AGENT))
        screen.tell(Line(0.0, 0.0, "", "Bye."))
    assert [line.rstrip() for line in written(file).splitlines()] == [
        "  1.0 s  caller                Hello? Is there anybody who can hear",
        "                               what I say?",
        "                               understood: hello",
        "  2.0 s  agent   after 0.75 s  Yes.",
        "  2.5 s  caller  barges in     Good.",
        "                               heard: Ye …",
        "  3.0 s  agent                 (speaks)",
        "                               Bye.",
    ]


# --- what others say ----------------------------------------------------------------------------

EVIL = "\x1b]0;pwned\x07\x9b2J\u202e[red]:smile:[/red][link=http://x]y[/link]\n\u2028\ud800"
SHOWN = r"\x1b]0;pwned\x07\x9b2J\u202e[red]:smile:[/red][link=http://x]y[/link]\n\u2028\ud800"


@pytest.mark.parametrize(
    "line",
    [
        Line(1.0, 2.0, AGENT, EVIL),
        Line(1.0, 2.0, CALLER, EVIL),
        Line(1.0, 2.0, "", EVIL),
        Line(1.0, 2.0, CALLER, understood=EVIL),
        Line(1.0, 2.0, AGENT, heard=EVIL),
    ],
)
def test_nobodys_words_paint_the_terminal_or_mark_themselves_up(line: Line) -> None:
    to = console(width=200)
    with Screen(to) as screen:
        screen.tell(line)
    assert SHOWN in written(to)
    assert all(each.isprintable() for each in written(to).splitlines() if SHOWN in each)


def test_neither_do_those_of_a_report() -> None:
    report = msgspec.structs.replace(GOOD, refused={31951: 2}, first_refusal=EVIL)
    to = console(width=250)
    to.print(summary(report, to.encoding))
    assert f"2 messages; the first: {SHOWN}" in written(to)


def test_words_in_letters_that_the_terminal_has_not_are_written_out() -> None:
    to = console(encoding="latin-1")
    with Screen(to) as screen:
        screen.tell(Line(1.0, 2.0, AGENT, "Grüße, 你好"))
    assert r"Grüße, \u4f60\u597d" in written(to)

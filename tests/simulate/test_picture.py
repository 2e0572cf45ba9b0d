"""The picture of a call."""

import struct
import sys
from pathlib import Path

import msgspec
import pytest
from matplotlib.text import Text
from rig_demo import GOOD

from sts_trio.audio.frames import length
from sts_trio.simulate import picture
from sts_trio.simulate.transcript import AGENT, CALLER, Line

LINES = [
    Line(0.1, 2.0, AGENT, "Hello!"),
    Line(3.0, 5.0, CALLER, "What cars do you have? " * 20),
    Line(5.5, 8.1, AGENT, "We have three.", waited=0.5),
    Line(8.0, 10.0, CALLER, "A test drive.", silenced=0.1),
]
REPORT = msgspec.structs.replace(
    GOOD, said=b"\x10" * length(20.0), heard=b"\x20" * length(15.0), mark_times=(1.0, 2.0)
)


def size(file: Path) -> tuple[int, int]:
    """Width and height of a PNG, in pixels."""
    data = file.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_a_call_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "call.png"
    picture.draw(file, "Call 1", REPORT, LINES, [(19.9, "the caller hangs up")])
    width, height = size(file)
    assert (width, height) == (990, 594)


@pytest.mark.parametrize(("seconds", "width"), [(0.0, 990), (30.0, 1353), (3600.0, 1760)])
def test_a_longer_call_is_wider_within_bounds(seconds: float, width: int, tmp_path: Path) -> None:
    report = msgspec.structs.replace(GOOD, seconds=seconds)
    picture.draw(tmp_path / "call.png", "Call 1", report, [])
    assert size(tmp_path / "call.png")[0] == width


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(picture.NoMatplotlib, match=r"pip install -e '.\[demo\]'"):
        picture.draw(tmp_path / "call.png", "Call 1", REPORT, LINES)
    assert not (tmp_path / "call.png").exists()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        picture.draw(tmp_path, "Call 1", REPORT, LINES)


@pytest.mark.parametrize(
    "words",
    [
        "It costs $5, or $10.",
        r"$\frac{1}{$",  # no formula either
        r"$\sqrt$ \undefined",
        "\x1b[2J\x9b\u202e\x00\ud800\n\u2028",
        "\N{GRINNING FACE} 你好 \U0010ffff",
        "x" * 100_000,
        "%s {0} {} \\",
    ],
)
def test_words_are_no_formulas_and_in_whatever_letters(words: str, tmp_path: Path) -> None:
    """Drawing them neither fails nor says anything on the terminal."""
    lines = [Line(0.1, 2.0, AGENT, words), Line(3.0, 5.0, CALLER, words)]
    picture.draw(tmp_path / "call.png", words[:200], REPORT, lines, [(1.0, words[:200])])
    assert size(tmp_path / "call.png")[0] == 990


def test_a_price_is_drawn_as_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two dollars it would be a formula: in italics, and without spaces."""
    drawn: list[tuple[str, bool]] = []

    def note(self: Text, *args: object) -> None:
        drawn.append((self.get_text(), self.get_parse_math()))

    monkeypatch.setattr(Text, "draw", note)
    lines = [Line(0.1, 2.0, AGENT, "From $5 to $10.")]
    picture.draw(tmp_path / "call.png", "From $5 to $10", REPORT, lines, [(1.0, "$a$")])
    dollars = [(text, parses) for text, parses in drawn if "$" in text]
    assert {parses for _, parses in dollars} == {False}
    assert len({text for text, _ in dollars}) == 3

"""The diagrams in `docs/architecture.md` are those of the code."""

import runpy
from pathlib import Path

import pytest

import sts_trio

DOCS = Path(sts_trio.__file__).parents[1] / "docs"
SCRIPT = runpy.run_path(str(DOCS / "state_diagrams.py"))


def test_the_pages_diagrams_are_current() -> None:
    page = (DOCS / "architecture.md").read_text()
    assert page == SCRIPT["updated"](page), "run: python docs/state_diagrams.py"


def test_every_state_and_transition_is_drawn() -> None:
    lines = [line.strip() for line in SCRIPT["drawn"]().splitlines()]
    for table in (SCRIPT["STREAM"], SCRIPT["SESSION"], SCRIPT["CLOSING"]):
        for state, row in table.items():
            for on, to in row.items():
                begin = f"{state.name} --> {to.name}: "
                [arrow] = [line for line in lines if line.startswith(begin)]
                assert on.value in arrow.removeprefix(begin).split(" / ")


def test_a_page_without_its_markers_is_not_overwritten() -> None:
    with pytest.raises(ValueError, match="expected the markers"):
        SCRIPT["updated"]("# Architecture\n")

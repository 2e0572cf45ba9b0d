"""What holds for every test of a command."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from rig_databases import migrated_file

__all__ = ["migrated_file"]


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No variable of the developer's, no file in the working directory, no log set up by us."""
    for variable in os.environ:
        if variable.startswith(("DEEPGRAM_", "STS_", "TWILIO_", "FORCE_COLOR")):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    # Ours would write to the stderr of a runner that is gone.
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()

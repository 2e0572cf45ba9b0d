"""The page in a real browser: Chromium without a window, with a WAV for a microphone.

These tests take real time and a browser, so they run only when asked for: `nox -s browser`, or
`pytest -m browser tests/browser`.
"""

import shutil
import wave
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from browser.rig import Server, silence

from sts_trio.audio.g711 import decode

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: needs Chromium and Playwright, and real time")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    is_asked_for = "browser" in config.getoption("markexpr", "")
    return None if is_asked_for or collection_path.suffix != ".py" else True


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    with ExitStack() as stack:

        def start(**environ: str) -> Server:
            server = Server(tmp_path / "server.log", **environ)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
def browser_path() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (path := shutil.which(name)) is not None:
            return path
    raise AssertionError("there is no Chromium: install Debian's package chromium")


@pytest.fixture
def launch(browser_path: str) -> Iterator[Callable[..., Any]]:
    """Starts a browser with a fresh profile, and these flags beside the usual ones."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:

        def start(*flags: str) -> Any:
            return playwright.chromium.launch(executable_path=browser_path, args=[*FLAGS, *flags])

        yield start


@pytest.fixture
def microphone(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Flags for a microphone that hears these pieces of µ-law once, and silence after them; or
    again and again, for who has to wait until one of them was understood."""

    def make(*pieces: bytes, again: bool = False) -> tuple[str, str]:
        path = tmp_path / "microphone.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(decode(b"".join(pieces) + silence(1)))
        return (
            "--use-fake-ui-for-media-stream",
            f"--use-file-for-fake-audio-capture={path}{'' if again else '%noloop'}",
        )

    return make

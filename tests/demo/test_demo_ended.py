"""A demonstration that is told to end while other processes have its call."""

import os
import signal
from typing import Any

import pytest
import trio

from sts_trio.demo import moved


async def test_its_processes_are_gone_before_it_dies_of_the_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[Any] = []

    async def with_processes(*what: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await trio.sleep_forever()
        finally:
            happened.append("gone")

    monkeypatch.setattr(moved, "_play", with_processes)
    monkeypatch.setattr(moved, "die_of", happened.append)
    with pytest.raises(AssertionError):  # it is not survived
        await moved.play(*[None] * 3)  # type: ignore[arg-type]
    assert happened == ["gone", signal.SIGTERM]

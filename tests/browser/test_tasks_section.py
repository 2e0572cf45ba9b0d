"""What the tasks of a call wait for, on the page."""

from collections.abc import Callable
from typing import Any

import pytest
from browser.rig import Server, eventually, silence
from browser.test_conversation import talk
from browser.test_softphone import opened

pytestmark = pytest.mark.browser


def test_the_tasks_of_the_call_that_is_shown_are_told_while_they_are_looked_at(
    serve: Callable[..., Server],
    launch: Callable[..., Any],
    microphone: Callable[..., tuple[str, str]],
) -> None:
    server = serve()
    with opened(launch(*microphone(silence(1))), server.url) as page:
        page.page.click("#tasks-section summary")
        eventually(lambda: page.shows("#tasks-whose", "Of the server"), "the server's tasks")
        talk(page)
        eventually(lambda: page.shows("#tasks-whose", "Of this call"), "the call's tasks")
        eventually(lambda: page.shows("#tasks", "Bridge._run_caller"), "its caller's leg")
        eventually(lambda: page.shows("#tasks", "sleep_forever for"), "what a task waits for")
        page.page.click("#tasks-section summary")
        page.page.click("#hang-up")
        assert page.complaints == []

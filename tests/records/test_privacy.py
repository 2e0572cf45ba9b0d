"""What must not be kept is nowhere: not in the log, the database, the spool, or a figure."""

import contextlib
import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from sts_trio import Call, function
from sts_trio.observe import events
from sts_trio.testing import (
    CallFunction,
    Keys,
    Said,
    Step,
    WaitForQuiet,
    WaitForSpeech,
    call,
    running,
    scripted_agent,
)
from sts_trio.testing import fast_clock as fast_clock

CARD = "4929123456781234"
NUMBER = "+14155550188"
SECRETS = {
    "DEEPGRAM_API_KEY": "deepgrams-own-0123456789abcdef",
    "STS_ADMIN_TOKEN": "operators-own-0123456789abcdef",
    "STS_REDACT_KEY": "redactions-own-0123456789abcdef-",
}


@function
async def pay(call: Call) -> dict[str, str]:
    """Take the card's number."""
    digits = await call.collect_digits(16)
    call.note(card=digits, last=int(digits[-4:]))
    return {"paid_with": digits}


@function
async def fail(call: Call) -> str:
    """Fail with the number in the exception."""
    raise RuntimeError(f"refused: {CARD}")


STEPS: list[Said | Step] = [
    WaitForQuiet(),
    "I pay.",
    WaitForSpeech(0.1, patience=2.0),
    Keys(CARD[:9]),
    Keys(CARD[9:]),
    WaitForQuiet(),
    "Once more.",
    WaitForQuiet(),
]


class Pages:
    """All that a server leaves behind."""

    def __init__(self, directory: Path, log: io.StringIO, told: list[bytes]) -> None:
        self.files = {
            str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()
        }
        self.files["log"] = log.getvalue().encode()
        self.files["feed"] = b"".join(told)

    def with_(self, text: str) -> list[str]:
        """In whichever case: the index of words has a case of its own. A few digits are to stand
        alone: by chance they are in a time or in a call's name."""
        forms = [re.escape(form.encode()) for form in (text, " ".join(text), ", ".join(text))]
        alone = rb"(?<![0-9a-f.])(?:%s)(?![0-9a-f])" if len(text) < 6 else rb"%s"
        sought = re.compile(alone % b"|".join(forms), re.IGNORECASE)
        return [name for name, content in self.files.items() if sought.search(content)]


@contextlib.contextmanager
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    yield log
    structlog.reset_defaults()
    logging.getLogger().handlers = []


async def a_call(directory: Path, **variables: str) -> list[bytes]:
    """In which a card's number is keyed in, and comes back in all ways. Returns the feed."""
    script: list[Any] = [
        CallFunction("pay"),
        f"You paid with {' '.join(CARD)}, that is {CARD}.",
        CallFunction("fail"),
        "Goodbye, Xanthippe.",
    ]
    environ = {
        "STS_DATABASE_URL": f"sqlite:///{directory / 'calls.db'}",
        "STS_LOG_LEVEL": "debug",
        "STS_LOG_TRANSCRIPTS": "1",
        **SECRETS,
        **variables,
    }
    with trio.fail_after(300):
        async with (
            scripted_agent(*script) as agent,
            running(environ, agent=agent, functions=[pay, fail]) as server,
        ):
            report = await call(server.webhook, STEPS, from_=NUMBER, to="+15005550006")
            happened = await server.happened_in(report)
            kinds = {type(each.event) for each in happened}
            assert {events.FunctionFailed, events.CallNoted, events.FunctionFinished} <= kinds
            return [each.json for each in happened]


@pytest.mark.parametrize("log_format", ["console", "json"])
async def test_keys_that_a_function_collects_are_kept_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast_clock: Any, log_format: str
) -> None:
    with logged(monkeypatch) as log:
        told = await a_call(tmp_path, STS_LOG=log_format)
    left = Pages(tmp_path, log, told)
    # They would be found.
    assert left.with_("Xanthippe") == [str(tmp_path / "calls.db"), "log", "feed"]
    for text in (CARD, CARD[:9], CARD[-4:], CARD[4:9]):
        assert left.with_(text) == [], text
    assert "refused: •••" in log.getvalue() or "refused: \\u2022" in log.getvalue()
    for name, secret in SECRETS.items():
        assert left.with_(secret) == [], name


async def test_numbers_and_words_that_are_not_kept_are_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast_clock: Any
) -> None:
    """The log has its own switches."""
    with logged(monkeypatch) as log:
        told = await a_call(tmp_path, STS_REDACT="1", STS_KEEP_WORDS="0")
    left = Pages(tmp_path, log, told)
    for text in (NUMBER, NUMBER[1:], "Xanthippe", "paid_with"):
        assert not set(left.with_(text)) - {"log", "feed"}, text
    for text in (CARD, CARD[:9], CARD[-4:]):
        assert left.with_(text) == [], text

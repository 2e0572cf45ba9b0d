"""What an agent is told of a function that it called: always JSON, never without end. Pure."""

import inspect
from typing import Any

import msgspec

from sts_trio.errors import FunctionFailed
from sts_trio.functions.decorator import HandOver

# A model reads all of it before it speaks: 16 KiB are some 4000 tokens, and a second of silence.
# Cut short it would be no JSON any more, or worse, a list that seems complete.
MAX_PER_RESULT = 16 * 1024
# Letters of an error. An exception's text may hold anything.
MAX_WORDS = 1000


class NotJson(Exception):
    """A function returned what JSON has no words for."""


class Answer(msgspec.Struct, frozen=True):
    content: str  # JSON
    hand_over: str | None = None  # the agent that is to go on


def result(value: Any) -> Answer:
    """What a function returned, for the agent.

    Raises:
        NotJson: it cannot be written as JSON.
        FunctionFailed: it is too long.
    """
    if isinstance(value, HandOver):
        return Answer(_encode({"handed_over_to": value.agent}), value.agent)
    if inspect.iscoroutine(value):
        value.close()
        raise NotJson("a coroutine, from a function that is not async itself: make it async")
    try:
        content = _encode(value)
    except Exception as exc:
        raise NotJson(words_of(exc)) from exc
    size = len(content.encode())
    if size > MAX_PER_RESULT:
        raise FunctionFailed(
            f"the result is too long, {size} bytes of at most {MAX_PER_RESULT}: ask for less"
        )
    return Answer(content)


def error(reason: str) -> Answer:
    """By custom of Deepgram's samples; its protocol has no word for failures."""
    return Answer(_encode({"error": reason}))


def words_of(exc: BaseException) -> str:
    """Its text, whatever it is: some exceptions have none, some cannot say it."""
    try:
        text = str(exc)
    except Exception:
        text = ""
    text = text if len(text) <= MAX_WORDS else f"{text[: MAX_WORDS - 1]}…"
    return text.encode(errors="replace").decode()


def _encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()

"""What a scripted agent answers, whatever it is told. Pure."""

from collections.abc import Container
from typing import Any, Protocol

import msgspec


class CallFunction(msgspec.Struct, frozen=True):
    """Instead of answering, asks the client to run a function; what follows comes after its
    result."""

    name: str
    arguments: dict[str, Any] = {}


class Silence(msgspec.Struct, frozen=True):
    """Instead of answering, says nothing in this turn, as an agent does that has gone mute."""


Line = str | CallFunction | Silence


class Mind(Protocol):
    """Who knows what to say next, in one session."""

    @property
    def thought(self) -> str:
        """How it comes by its answers, for `AgentThinking`."""
        ...

    def reply(self, words: str, functions: Container[str]) -> Line:
        """To what the caller said; `functions` can be called. No words: something was said, but
        was not made out."""
        ...

    def go_on(self, result: str) -> Line:
        """After a function, which returned this."""
        ...

    def speak_up(self) -> Line:
        """Nobody said anything, and the client wants to hear something."""
        ...

    def recall_caller(self, words: str, functions: Container[str]) -> None:
        """In an earlier session the caller said this; nothing is to be answered any more."""
        ...

    def recall_agent(self, words: str) -> None:
        """An agent said this: this one or another, all of it or until it was cut off."""
        ...

    def recall_function(self, name: str, result: str) -> None:
        """A function was called, and returned this."""
        ...


class Script(msgspec.Struct, frozen=True):
    """An agent's lines, one a turn, from the first again after the last. The greeting is not one
    of them: it comes with the client's `Settings`.
    """

    lines: tuple[Line, ...]

    def __post_init__(self) -> None:
        if all(isinstance(line, CallFunction) for line in self.lines):
            raise ValueError("a script needs at least one line to say")

    def line(self, turn: int) -> Line:
        return self.lines[turn % len(self.lines)]


class Prompter:
    """The mind of a scripted agent."""

    thought = "The next line of the script is due."

    def __init__(self, script: Script) -> None:
        self._script = script
        self._turn = 0
        self._is_due = False  # what follows a function that was called in an earlier session

    def reply(self, words: str, functions: Container[str]) -> Line:
        return self._next()

    def go_on(self, result: str) -> Line:
        return self._next()

    def speak_up(self) -> Line:
        return self._next()

    def recall_caller(self, words: str, functions: Container[str]) -> None:
        self._turn += 1

    def recall_agent(self, words: str) -> None:
        self._turn += self._is_due
        self._is_due = False

    def recall_function(self, name: str, result: str) -> None:
        self._is_due = True

    def _next(self) -> Line:
        line = self._script.line(self._turn)
        self._turn += 1
        return line


CAR_SELLER = Script(
    (
        "We have three cars in that range. There is a small red one, four years old, "
        "with thirty thousand miles on it.",
        "Good choice. It has just been serviced, and the price includes new tyres.",
        "You could come by for a test drive tomorrow at ten. Would that suit you?",
        "Then I will put it aside for you. Is there anything else I can help you with?",
    )
)

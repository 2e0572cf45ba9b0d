"""What a scripted agent answers, whatever it is told. Pure."""

from typing import Any

import msgspec


class CallFunction(msgspec.Struct, frozen=True):
    """Instead of answering, asks the client to run a function; the next line follows its result."""

    name: str
    arguments: dict[str, Any] = {}


class Script(msgspec.Struct, frozen=True):
    """An agent's lines, one a turn, from the first again after the last. The greeting is not one
    of them: it comes with the client's `Settings`.
    """

    lines: tuple[str | CallFunction, ...]

    def __post_init__(self) -> None:
        if not any(isinstance(line, str) for line in self.lines):
            raise ValueError("a script needs at least one line to say")

    def line(self, turn: int) -> str | CallFunction:
        return self.lines[turn % len(self.lines)]


CAR_SELLER = Script(
    (
        "We have three cars in that range. There is a small red one, four years old, "
        "with thirty thousand miles on it.",
        "Good choice. It has just been serviced, and the price includes new tyres.",
        "You could come by for a test drive tomorrow at ten. Would that suit you?",
        "Then I will put it aside for you. Is there anything else I can help you with?",
    )
)

"""What a call's own code notes of it. Pure."""

from collections.abc import Callable

from sts_trio.observe.events import CallNoted, OfCall

Value = str | int | float | bool

# For one call: more than anybody reads, and nothing that would be felt.
MAX_NOTES = 100
MAX_NAME = 64  # letters
MAX_VALUE = 1000  # letters


class Notes:
    """Bounded in count and size, as what is noted may come from a caller or a model."""

    __slots__ = ("_count", "_report")

    def __init__(self, report: Callable[[OfCall], None]) -> None:
        self._report = report
        self._count = 0

    def add(self, values: dict[str, Value]) -> None:
        """All of them, or none.

        Raises:
            ValueError: one of them is too long or no such value, or there are too many.
        """
        for name, value in values.items():
            if len(name) > MAX_NAME:
                raise ValueError(
                    f"{name[:MAX_NAME]}…: expected a name of {MAX_NAME} letters at most"
                )
            if not isinstance(value, Value):
                raise ValueError(
                    f"{name}: expected text, a number or a bool, got {type(value).__name__}"
                )
            if isinstance(value, str) and len(value) > MAX_VALUE:
                raise ValueError(f"{name}: expected {MAX_VALUE} letters at most, got {len(value)}")
        if self._count + len(values) > MAX_NOTES:
            raise ValueError(f"expected {MAX_NOTES} notes of a call at most")
        self._count += len(values)
        for name, value in values.items():
            self._report(CallNoted(name, value))

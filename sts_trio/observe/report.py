"""The way of an event into the log: the only place that writes log lines of ours."""

from typing import Any

import structlog

from sts_trio.observe.events import Event


def report(
    event: Event,
    *,
    exc_info: BaseException | bool = False,
    with_words: bool = False,
    **more: str,
) -> None:
    """Writes the line of `event`, and of an exception the traceback: `True` is the one that is
    being handled. The event's words are written too, if they are asked for. `more` are fields
    beside its own."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    if not logger.is_enabled_for(event.level):
        return  # as most of what happens in calls, and its fields cost more than all the rest
    fields: dict[str, Any] = {**more, **event.log_fields(with_words=with_words)}
    if exc_info:
        fields["exc_info"] = exc_info
    logger.log(event.level, event.NAME, **fields)

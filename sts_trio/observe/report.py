"""The way of an event into the log: the only place that writes log lines of ours."""

import functools
from collections.abc import Callable
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
    if not _is_enabled(structlog.get_config()["wrapper_class"])(event.level):
        return  # as most of what happens in calls, and a logger and its fields cost much more
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    fields: dict[str, Any] = {**more, **event.log_fields(with_words=with_words)}
    if exc_info:
        fields["exc_info"] = exc_info
    logger.log(event.level, event.NAME, **fields)


@functools.lru_cache(1)
def _is_enabled(wrapper: type[Any]) -> Callable[[int], bool]:
    """Whether the log as it is configured takes lines of a level."""
    is_enabled: Callable[[int], bool] = wrapper(None, [], {}).is_enabled_for
    return is_enabled

"""Log lines: one look for ours and for those of the libraries under us, on stderr.

Ours come from `structlog.get_logger()`, and carry whatever `structlog.contextvars` bound in the
task they are written in, such as `call_sid`. The libraries' come through `logging`.
"""

import logging
import sys

import structlog
from structlog.typing import Processor

from sts_trio.config import Config, LogFormat

# Hypercorn gives these two a handler of their own when its configuration is first used, which may
# be before or after us. Filters it leaves alone.
_HYPERCORN = ("hypercorn.error", "hypercorn.access")


def configure(config: Config) -> None:
    """Sets up structlog and `logging`. Calling it again replaces what the last call set up."""
    level = getattr(logging, config.log_level.name)
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    after = _renderers(config.log_format)
    structlog.configure(
        processors=[*before, *after],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        # Loggers of modules must follow when the log is set up anew.
        cache_logger_on_first_use=False,
    )

    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *after],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # Libraries say at DEBUG what we must not: trio-websocket its frames, Twilio's client whom it
    # calls. Hypercorn's INFO is wanted: it says where it listens.
    root.setLevel(logging.WARNING)
    logging.getLogger("hypercorn").setLevel(logging.INFO)
    for name in _HYPERCORN:
        logging.getLogger(name).filters = [_Detour(handler)]
    for name in logging.root.manager.loggerDict:
        if name.partition(".")[0] in ("quart", "sts_trio"):
            # Quart gives an app's logger a handler when it is used before there is one here.
            logging.getLogger(name).handlers = []


class _Detour(logging.Filter):
    """Takes every record to our handler, and lets none through to the logger's own."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= self._handler.level:
            self._handler.handle(record)
        return False


def _renderers(log_format: LogFormat) -> list[Processor]:
    if log_format is LogFormat.JSON:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Plain tracebacks: the pretty ones print local variables, keys and prompts among them.
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]

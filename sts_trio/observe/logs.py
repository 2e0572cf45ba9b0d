"""Log lines: one look for ours and for those of the libraries under us, on stderr.

Ours come from `structlog.get_logger()`, and carry whatever `structlog.contextvars` bound in the
task they are written in, such as `call_sid`. The libraries' come through `logging`.

Whatever is in them comes out as one line that paints no terminal, see `printable`; of a traceback,
each message is one.
"""

import contextlib
import logging
import sys
import traceback
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from sts_trio.config import Config, LogFormat, LogLevel, wants_colours
from sts_trio.wire.printable import one_line, printable

# Hypercorn gives these two a handler of their own when its configuration is first used, which may
# be before or after us. Filters it leaves alone.
_HYPERCORN = ("hypercorn.error", "hypercorn.access")
# What structlog writes below the line, and takes to be a traceback. No field of ours is named so.
_LINES_OF_THEIR_OWN = ("exception", "stack")


def configure(config: Config) -> None:
    """Sets up structlog and `logging`. Calling it again replaces what the last call set up."""
    set_up(config.log_format, config.log_level)


def set_up(log_format: LogFormat, log_level: LogLevel) -> None:
    """`configure`, for who has no configuration."""
    level = getattr(logging, log_level.name)
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    after = _renderers(log_format)
    structlog.configure(
        processors=[*before, *after],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _Spare(sys.stderr))),
        # Loggers of modules must follow when the log is set up anew.
        cache_logger_on_first_use=False,
    )

    handler = logging.StreamHandler(_Spare(sys.stderr))
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


class _Spare:
    """Writes for whoever still reads. A terminal may be closed, a pipe's reader gone, a disk full:
    a line that nobody can be told is lost, and the call that has told it goes on."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._file.flush()


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
    renderer: Processor = structlog.processors.JSONRenderer()
    if log_format is not LogFormat.JSON:
        # Plain tracebacks: the pretty ones print local variables, keys and prompts among them.
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty() and wants_colours(),
            exception_formatter=structlog.dev.plain_traceback,
        )
    return [_make_printable, structlog.processors.ExceptionRenderer(_traceback), renderer]


class _WrittenOut(str):
    """In the quotes of the console's, it is not written out once more."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{self}'"


def _make_printable(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """For all but the exception, which the next in line makes a text of."""
    exc_info = event.pop("exc_info", None)
    shown: EventDict = printable(event, written=_WrittenOut)
    for name in _LINES_OF_THEIR_OWN:
        if name in shown:
            shown[f"{name}_"] = shown.pop(name)
    return shown if exc_info is None else {**shown, "exc_info": exc_info}


def written(exc_info: BaseException | bool) -> str:
    """The traceback of an exception as it would stand in the log; `True` is the one that is being
    handled."""
    exc = sys.exc_info()[1] if exc_info is True else exc_info
    return _traceback((type(exc), exc, exc.__traceback__)) if isinstance(exc, BaseException) else ""


def _traceback(exc_info: ExcInfo) -> str:
    error = traceback.TracebackException(*exc_info)
    errors = [error]
    while errors:
        each = errors.pop()
        _flatten(each)
        related = (each.__cause__, each.__context__, *(each.exceptions or ()))
        errors += [other for other in related if other is not None]
    return "\n".join(map(one_line, "".join(error.format()).rstrip("\n").split("\n")))


def _flatten(error: traceback.TracebackException) -> None:
    """A message that begins a line of its own could look like one of the log's."""
    # The message, and of a syntax error what is wrong, in which file, and the line that is.
    for name in ("_str", "msg", "filename", "text"):
        if isinstance(text := getattr(error, name, None), str):
            setattr(error, name, one_line(text.rstrip("\n")))
    if isinstance(notes := getattr(error, "__notes__", None), list):
        error.__notes__ = [one_line(note) if isinstance(note, str) else note for note in notes]

"""Traces of calls as they are configured: what is redacted in records is in traces too."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sts_trio.config import Config
from sts_trio.config.setting import TracesOf
from sts_trio.errors import ConfigError
from sts_trio.records.redaction import Redaction

if TYPE_CHECKING:
    from sts_trio.observe.otel import Tracing


def tracing(config: Config, functions: Sequence[str]) -> "Tracing | None":
    """`None`: none are wanted. `functions` are the names of those that agents may call.

    Raises:
        ConfigError: they are wanted, and OpenTelemetry's packages are not installed.
    """
    if config.traces is TracesOf.NONE:
        return None
    try:
        from sts_trio.observe.otel import Tracing
    except ImportError as exc:
        raise ConfigError(
            f"{config.where('STS_TRACES')}: {exc.name} is not installed: pip install"
            " 'sts-trio[otel]'"
        ) from None
    key = config.records.redact_key
    hidden = None if key is None else Redaction(key)
    return Tracing(
        functions=functions,
        with_words=config.traces is TracesOf.WORDS,
        conversation_id=str if hidden is None else hidden.identifier,
        clean=str if hidden is None else hidden.text,
    )

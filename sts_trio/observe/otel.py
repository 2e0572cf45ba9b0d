"""OpenTelemetry's own machinery: where traces go. It is imported only where they are wanted.

Spans wait in a bounded queue of its own, and a thread of its own sends them: a collector that is
slow or gone costs spans, and no call. Where they go, and as what service, is told by its own
variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME` …). A provider that code has set up
for the whole process is used instead.
"""

from collections.abc import Callable, Collection

import trio
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from sts_trio.net.threads import run_in_thread
from sts_trio.observe.traces import Traces

SERVICE = "sts-trio"


class Tracing:
    """Traces of this process's calls, and where they go; for its arguments see `Traces`."""

    def __init__(
        self,
        *,
        functions: Collection[str] = (),
        with_words: bool = False,
        conversation_id: Callable[[str], str] = str,
        clean: Callable[[str], str] = str,
    ) -> None:
        self._provider = provider()
        self.traces = Traces(
            self._provider,
            functions=functions,
            with_words=with_words,
            conversation_id=conversation_id,
            clean=clean,
        )

    async def aclose(self, within: float) -> None:
        """Sends what is left, for so many seconds at most; then the rest is lost."""
        with trio.move_on_after(within):
            await run_in_thread(lambda: shut_down(self._provider), trio.CapacityLimiter(1))


def provider() -> trace.TracerProvider:
    """The process's own, if it has one; else a new one, which is to be `shut_down`."""
    given = trace.get_tracer_provider()
    if not isinstance(given, trace.ProxyTracerProvider):
        return given
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
    # Not at the interpreter's exit, where nothing bounds it.
    made = TracerProvider(resource=resource, shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made


def shut_down(made: trace.TracerProvider) -> None:
    """Sends what is left. Blocks, for as long as the collector takes. What the process had before
    goes on."""
    if made is not trace.get_tracer_provider() and isinstance(made, TracerProvider):
        made.shutdown()

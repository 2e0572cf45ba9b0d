"""A collector of traces on loopback, for tests: it keeps what it is sent."""

from collections.abc import Sequence

import h11
import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """What speaks OTLP over HTTP, as far as it goes."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.url = ""

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        task_status.started()
        await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        body = b""
        async with stream:
            while (event := connection.next_event()) is not h11.PAUSED:
                if event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some(65536))
                elif isinstance(event, h11.Request):
                    assert event.target == b"/v1/traces"
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    self.requests.append(ExportTraceServiceRequest.FromString(body))
                    answer = h11.Response(status_code=200, headers=[("Content-Length", "0")])
                    for part in (answer, h11.EndOfMessage()):
                        await stream.send_all(connection.send(part) or b"")
                    return
                else:
                    return

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for of_service in request.resource_spans
            for scope in of_service.scope_spans
            for span in scope.spans
        ]

    def names(self) -> dict[str, Sequence[str]]:
        """{service: the names of its spans}"""
        found: dict[str, list[str]] = {}
        for request in self.requests:
            for of_service in request.resource_spans:
                [service] = [
                    each.value.string_value
                    for each in of_service.resource.attributes
                    if each.key == "service.name"
                ]
                for scope in of_service.scope_spans:
                    found.setdefault(service, []).extend(span.name for span in scope.spans)
        return {service: sorted(names) for service, names in found.items()}

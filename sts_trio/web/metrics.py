"""`/metrics`: figures of this process, for Prometheus. For who may see calls.

What is counted as it happens is in `observe.figures`. The rest is read from the server when it is
asked for. Beside ours stands what `prometheus_client` has in its own registry: processor, memory
and descriptors of the process, and whatever your functions count there.

The answer is made in one piece, and small: a scraper that does not read holds a connection, which
the law of connections ends, and nothing else.
"""

import itertools
from collections.abc import Iterable, Iterator

import prometheus_client
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from quart import Response, request

from sts_trio import __version__
from sts_trio.agents.breaker import State
from sts_trio.errors import Leg
from sts_trio.net.ticker import LAGS
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.server import Server
from sts_trio.web.authentication import Authenticator
from sts_trio.web.responses import GET, UNKEPT, Rules

METRICS_PATH = "/metrics"


class Metrics:
    def __init__(self, server: Server, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._registry = registry_of(server)
        self._registry.register(_OfProcess())

    @property
    def rules(self) -> Rules:
        return [(METRICS_PATH, self.metrics, GET)]

    async def metrics(self) -> Response:
        if refusal := await self._authenticator.operator():
            return refusal
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(
            encode(self._registry),
            content_type=content_type,
            headers={**UNKEPT},
        )


def registry_of(server: Server) -> CollectorRegistry:
    """All that is ours; to be asked for once."""
    registry = server.figures.registry
    registry.register(_OfServer(server))
    return registry


class _OfProcess(Collector):
    def describe(self) -> Iterable[Metric]:
        return []  # else all of it would be collected when it is registered

    def collect(self) -> Iterator[Metric]:
        try:
            yield from prometheus_client.REGISTRY.collect()
        except Exception as exc:  # whatever code of yours raises: ours are told all the same
            report(events.MetricsIncomplete(f"{type(exc).__name__}: {exc}"), exc_info=True)


class _OfServer(Collector):
    def __init__(self, server: Server) -> None:
        self._server = server

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield _gauge("build_info", "Always 1.", 1.0, version=__version__)
        yield from self._calls()
        yield from self._loop()
        yield from self._agents()
        yield from self._outboxes()
        yield from self._records()

    def _calls(self) -> Iterator[Metric]:
        live_calls = self._server.live_calls
        yield _gauge("calls_live", "Calls under way.", live_calls.live)
        yield _gauge("calls_capacity", "Calls there may be.", self._server.config.max_calls)
        yield _gauge("draining", "1: no more calls are taken.", live_calls.is_draining)
        dialler = self._server.dialler
        used = GaugeMetricFamily(
            "sts_quota_used",
            "Of what is allowed today, what this process has used.",
            labels=["quota"],
        )
        used.add_metric(["dials"], dialler.placed_today)
        most = GaugeMetricFamily("sts_quota_limit", "What is allowed a day.", labels=["quota"])
        most.add_metric(["dials"], self._server.config.dial_per_day)
        yield from (used, most)

    def _loop(self) -> Iterator[Metric]:
        tickers = [self._server.ticker, self._server.portable_ticker]
        late = sum(each.stats.late for each in tickers)
        yield CounterMetricFamily(
            "sts_beat_late", "Ticks, in which callers are read, that came late.", late
        )
        lag = HistogramMetricFamily(
            "sts_loop_lag_seconds", "How late ticks were, while there are calls."
        )
        counts = [sum(each) for each in zip(*(each.lags for each in tickers), strict=True)]
        bounds = [*map(str, LAGS), "+Inf"]
        buckets = list(zip(bounds, itertools.accumulate(counts), strict=True))
        lag.add_metric([], buckets, sum(each.lag for each in tickers))
        yield lag

    def _agents(self) -> Iterator[Metric]:
        lines = self._server.agent_connections.state
        yield _gauge("agent_lines_waiting", "Sessions dialled ahead that wait.", lines.waiting)
        yield CounterMetricFamily(
            "sts_agent_lines_dialled", "Sessions dialled ahead of a call.", lines.dialled_ahead
        )
        yield CounterMetricFamily(
            "sts_agent_lines_used", "Of these, what calls made use of.", lines.handed_over
        )
        dials = CounterMetricFamily(
            "sts_agent_dials", "Dials, by the address.", labels=["endpoint", "result"]
        )
        up = GaugeMetricFamily(
            "sts_agent_endpoint_up", "0: it rests after failures.", labels=["endpoint"]
        )
        for endpoint in lines.endpoints:
            dials.add_metric([endpoint.address, "reached"], endpoint.reached)
            dials.add_metric([endpoint.address, "failed"], endpoint.failed)
            up.add_metric([endpoint.address], float(endpoint.state is State.CLOSED))
        yield from (dials, up)

    def _outboxes(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily(
            "sts_outbox_seconds", "Audio that waits for legs that are slow.", labels=["leg"]
        )
        waiting = [call.waiting for call in self._server.live_calls.calls]
        for leg in Leg:
            depth.add_metric([leg.value], sum(each[leg] for each in waiting))
        yield depth

    def _records(self) -> Iterator[Metric]:
        """Without a sample where nothing is kept."""
        rows = CounterMetricFamily("sts_record_rows", "Rows of records.", labels=["result"])
        lag = GaugeMetricFamily(
            "sts_record_lag_seconds", "Since the oldest row that is not in the database."
        )
        waiting = GaugeMetricFamily("sts_record_waiting_rows", "Rows in memory.")
        spooled = GaugeMetricFamily("sts_record_spool_rows", "Rows on disk, for the database.")
        size = GaugeMetricFamily("sts_record_spool_bytes", "The same, in bytes.")
        deliveries = CounterMetricFamily(
            "sts_deliveries", "Attempts to tell the receiver of a call's end.", labels=["result"]
        )
        if (records := self._server.records) is not None:
            figures = records.writer.figures
            rows.add_metric(["written"], figures.written)
            rows.add_metric(["refused"], figures.refused)
            rows.add_metric(["lost"], figures.lost)
            lag.add_metric([], figures.lag)
            waiting.add_metric([], figures.waiting)
            spooled.add_metric([], figures.spooled)
            size.add_metric([], figures.spooled_bytes)
            if records.courier is not None:
                for result, times in records.courier.results.items():
                    deliveries.add_metric([result], times)
        yield from (rows, lag, waiting, spooled, size, deliveries)


def _gauge(name: str, meaning: str, value: float, **labels: str) -> Metric:
    family = GaugeMetricFamily(f"sts_{name}", meaning, labels=list(labels))
    family.add_metric(list(labels.values()), float(value))
    return family

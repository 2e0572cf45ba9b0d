"""How the process is, for whoever watches over it. No secret is asked for.

`/healthz`   whether it lives
`/readyz`    whether calls are taken at its address: 503 if it is full, or draining without an heir
`/lbz`       the same for load balancers, by 404: new calls are to go elsewhere, and those which are
             here stay. No answer: the process is dead, and its calls may be cut
"""

from typing import Any

from quart import Response

from sts_trio.server import Server
from sts_trio.web.responses import GET, Rules, text


class Health:
    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def rules(self) -> Rules:
        return [
            ("/healthz", self.health, GET),
            ("/readyz", self.readiness, GET),
            ("/lbz", self.balance, GET),
        ]

    async def health(self) -> dict[str, Any]:
        """Figures of a process that lives."""
        server = self._server
        tickers = [server.ticker.stats, server.portable_ticker.stats]
        return {
            "status": "ok",
            # By which others that share the database know that it is us who live here.
            "process": "" if server.records is None else server.records.process_id,
            "live": server.live_calls.live,
            # Of a process that has more to do than it can, this is the first to grow.
            "late_ticks": sum(each.late for each in tickers),
            "latest_tick": round(max(each.worst for each in tickers), 3),
        }

    async def readiness(self) -> tuple[dict[str, Any], int]:
        live_calls, records = self._server.live_calls, self._server.records
        figures: dict[str, Any] = {"status": live_calls.status, "live": live_calls.live}
        if records is not None:
            kept = records.writer.figures
            # Anybody may ask, so not the reason, which has addresses in it.
            figures["records"] = {
                "status": kept.status,
                "lag": kept.lag,
                "waiting": kept.waiting + kept.spooled,
                "lost": kept.lost,
            }
        return figures, 200 if self._takes_calls else 503

    async def balance(self) -> Response:
        if self._takes_calls:
            return text("ready", 200)
        return text(self._server.live_calls.status, 404)

    @property
    def _takes_calls(self) -> bool:
        live_calls = self._server.live_calls
        return live_calls.takes_calls or live_calls.has_heir

"""How the process is, for whoever watches over it. No secret is asked for.

`/healthz`   whether it lives
`/readyz`    whether calls are taken at its address: 503 if it is full, or draining without an heir
"""

from typing import Any

from sts_trio.server import Server
from sts_trio.web.responses import GET, Rules


class Health:
    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def rules(self) -> Rules:
        return [("/healthz", self.health, GET), ("/readyz", self.readiness, GET)]

    async def health(self) -> dict[str, Any]:
        return self._server.health()

    async def readiness(self) -> tuple[dict[str, Any], int]:
        live_calls = self._server.live_calls
        is_ready = live_calls.takes_calls or live_calls.has_heir
        return self._server.readiness(), 200 if is_ready else 503

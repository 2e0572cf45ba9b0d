"""`sts-trio serve` as one process of a fleet: as it is, but for where Twilio's REST API is.

python bench/fleet_server.py HOST PORT http://127.0.0.1:REST
"""

import re
import sys

import trio

from sts_trio import config
from sts_trio.web.app import create_app
from sts_trio.web.serve import serve


async def main(host: str, port: int, api: str) -> None:
    settings = config.from_environment()
    app = create_app(settings)
    app.server.twilio.api = api
    await serve(settings, host=host, port=port, app=app)


if __name__ == "__main__":
    api = sys.argv[3]
    if not re.fullmatch(r"http://127\.0\.0\.1:\d+", api):
        sys.exit(f"{api}: not on this machine")
    trio.run(main, sys.argv[1], int(sys.argv[2]), api)

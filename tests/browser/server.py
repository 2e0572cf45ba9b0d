"""The server of a browser's test, in a process of its own: configured by the environment alone.

Prints the address of its page, with the key if there is one.
"""

import functools
import os
import tempfile
from pathlib import Path
from unittest import mock

import trio

from sts_trio import config
from sts_trio.config.local_key import page_url
from sts_trio.offline.workers import pool
from sts_trio.web.app import create_app
from sts_trio.web.serve import serve

# Seconds until the agent's ears are given up: on a machine that is busy with other tests they take
# longer than any caller would wait.
EARS_LIMIT = 60.0


async def main() -> None:
    with tempfile.TemporaryDirectory() as nowhere:
        settings = config.load(os.environ, Path(nowhere))
    app = create_app(settings)
    port = int(os.environ.get("PORT", "0"))
    patient = functools.partial(pool.open_pool, limit=EARS_LIMIT)
    with mock.patch.object(pool, "open_pool", patient):
        async with trio.open_nursery() as nursery:
            base = await nursery.start(functools.partial(serve, settings, port=port, app=app))
            print(base if app.server.key is None else page_url(base, app.server.key), flush=True)


if __name__ == "__main__":
    trio.run(main)

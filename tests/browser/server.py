"""The server of a browser's test, in a process of its own: configured by the environment alone.

Prints where it listens.
"""

import functools
import os
import tempfile
from pathlib import Path

import trio

from sts_trio import config
from sts_trio.web.serve import serve


async def main() -> None:
    with tempfile.TemporaryDirectory() as nowhere:
        settings = config.load(os.environ, Path(nowhere))
    async with trio.open_nursery() as nursery:
        print(await nursery.start(functools.partial(serve, settings, port=0)), flush=True)


if __name__ == "__main__":
    trio.run(main)

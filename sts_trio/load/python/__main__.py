"""python -m sts_trio.load.python OPTIONS: exits as the generator in C does, with 1 if the run is
void, and with 2 if there was none."""

import gc
import ssl
import sys
from functools import partial
from urllib.parse import urlsplit

import msgspec
import trio

from sts_trio.errors import StsTrioError, first_of
from sts_trio.load.figures import Run
from sts_trio.load.python import agent
from sts_trio.load.python.generator import Generator
from sts_trio.load.python.options import Options, read
from sts_trio.simulate.connect import connect


class Mistaken(StsTrioError):
    """What was told on standard input is not enough."""


def main() -> int:
    reason = ""
    try:
        options = read(sys.argv[1:])
        # What is let go of is let go of without it, and its runs would be our lateness.
        gc.disable()
        run = trio.run(_run, options)
    except* (msgspec.ValidationError, ValueError, OSError, StsTrioError) as group:
        reason = str(first_of(group))
    if reason:
        print(f"generator: {reason}", file=sys.stderr)
        return 2
    _write(run)
    return 0 if run.void is None else 1


async def _run(options: Options) -> Run:
    tls = ssl.create_default_context() if options.secure else None

    async def dial(host: str) -> trio.abc.Stream:
        stream = await connect(options.host, options.port, False)
        if tls is None:
            return stream
        name = urlsplit(f"//{host}").hostname or host
        return trio.SSLStream(stream, tls, server_hostname=name, https_compatible=True)

    generator = Generator(options, dial)
    async with trio.open_nursery() as nursery:
        if not options.bridges_agent:
            answer = partial(agent.answer, generator)
            serve = partial(trio.serve_tcp, answer, options.agent_port, host="127.0.0.1")
            await nursery.start(serve)
        if options.progress:
            nursery.start_soon(_tell_progress, generator)
        nursery.start_soon(_read_places, generator)
        run = await generator.run()
        nursery.cancel_scope.cancel()
    return run


async def _tell_progress(generator: Generator) -> None:
    while True:
        await trio.sleep(1)
        _write(generator.progress())


def _write(told: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


async def _read_places(generator: Generator) -> None:
    rest = b""
    async with trio.lowlevel.FdStream(0) as stdin:
        async for data in stdin:
            *lines, rest = (rest + bytes(data)).split(b"\n")
            for line in lines:
                generator.hear_place(line.decode())
    if not generator.is_full:
        raise Mistaken("standard input has ended before all calls were placed")


if __name__ == "__main__":
    sys.exit(main())

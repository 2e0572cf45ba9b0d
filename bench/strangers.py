"""Measures what a stranger costs, for each thing that can be done to a connection (`attacks.py`).

    python bench/strangers.py                         # the table: some ten minutes
    python bench/strangers.py --only h2,slow-body     # some of it
    python bench/strangers.py --tls                   # all of it inside TLS
    python bench/strangers.py --floods                # a signed call in the midst of each

The table has bytes kept and descriptors for one connection, the seconds until the server has ended
it, and how long the server takes to stop on SIGTERM with twenty of them there. A flood is 1,200 of
them against a server with `ulimit -n 1024`, each coming back five seconds after it was ended; told
what five calls meanwhile waited for their TwiML, and for the first audio of their agent. Everything
is on loopback, and nothing outlives the run.

`--package DIR` measures another checkout, `--hypercorn` the plain command instead of `serve`.
"""

import base64
import contextlib
import hmac
import json
import os
import resource
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode
from xml.etree import ElementTree

import click
import trio
import trio_websocket
from attacks import ADMIN_TOKEN, GET, KINDS, POST, Kind, Peer, open_peer
from servers import HERE, free_ports

AUTH_TOKEN = "0123456789abcdef0123456789abcdef"
HOST = "phone.example.com"
ENVIRONMENT = {
    "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
    "STS_ADMIN_TOKEN": ADMIN_TOKEN,
    "STS_PUBLIC_URL": f"https://{HOST}",
    "STS_AGENT": "offline",
    "STS_OFFLINE_MODE": "scripted",
    "STS_LOG_LEVEL": "info",
    "STS_MAX_CALLS": "100",
    "STS_DRAIN_SECONDS": "1",
}
START_WITHIN = 30.0
STOP_WITHIN = 20.0
DESCRIPTORS = 1024  # in a flood
CALLS = 5
CALL_WITHIN = 20.0
GATHER = 4.0  # seconds that a flood has to come up to its height
SAMPLE = 0.02
AT_ONCE = 0.3  # seconds: whatever is over sooner may not have begun
STRANGERS = 1200  # in a flood
PAUSE = 5.0  # before one of them, whose connection was ended, comes back


# --- the server -----------------------------------------------------------------------------------


class Options(NamedTuple):
    package: str
    hypercorn: bool
    tls: bool


class Server(NamedTuple):
    process: "subprocess.Popen[bytes]"
    port: int
    tls: ssl.SSLContext | None

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self) -> int:
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    async def stop(self) -> float | None:
        """SIGTERM; how long it took, None when it had to be killed."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        while self.process.poll() is None:
            if time.monotonic() - began > STOP_WITHIN:
                self.process.kill()
                self.process.wait()
                return None
            await trio.sleep(SAMPLE)
        return time.monotonic() - began

    async def ask(self, request: bytes) -> bytes:
        """The whole answer."""
        peer = await open_peer(self.port, KINDS["nothing"], self.tls)
        async with peer.stream:
            await peer.send(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            answer = b""
            while data := await peer.answer():
                answer += data
            return answer


@contextlib.contextmanager
def _certificate() -> Iterator[tuple[str, str]]:
    with tempfile.TemporaryDirectory() as directory:
        cert, key = f"{directory}/cert.pem", f"{directory}/key.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        command += ["-subj", "/CN=localhost"]
        command += ["-addext", "subjectAltName=DNS:localhost", "-out", cert, "-keyout", key]
        subprocess.run(command, check=True, capture_output=True)
        yield cert, key


@contextlib.asynccontextmanager
async def serving(options: Options, descriptors: int | None = None) -> AsyncIterator[Server]:
    with _started(options, descriptors) as server:
        await _until_it_answers(server)
        yield server


@contextlib.contextmanager
def _started(options: Options, descriptors: int | None) -> Iterator[Server]:
    port, _ = free_ports()
    command = [sys.executable, "-m"]
    if options.hypercorn:
        command += ["hypercorn", "sts_trio.app:app", "--worker-class", "trio", "--workers", "0"]
        command += ["--bind", f"127.0.0.1:{port}"]
    else:
        command += ["sts_trio", "serve", "--port", str(port)]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("STS_", "DEEPG"))
    }
    environment |= ENVIRONMENT | {"PYTHONPATH": options.package}

    def limit() -> None:
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    with contextlib.ExitStack() as stack:
        tls = None
        if options.tls:
            cert, key = stack.enter_context(_certificate())
            command += ["--certfile", cert, "--keyfile", key]
            tls = ssl.create_default_context(cafile=cert)
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=stack.enter_context(tempfile.TemporaryDirectory()),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=limit,
        )
        try:
            yield Server(process, port, tls)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


async def _until_it_answers(server: Server) -> None:
    with trio.fail_after(START_WITHIN):
        while True:
            try:
                await server.ask(GET)
                break
            except (OSError, trio.BrokenResourceError):
                await trio.sleep(0.05)
    # What is made once is not to be taken for what a stranger costs.
    for request in (GET, POST + b"Content-Length: 3\r\n\r\na=1"):
        for _ in range(20):
            with contextlib.suppress(trio.BrokenResourceError):
                await server.ask(request)
    await trio.sleep(0.3)


# --- the table ------------------------------------------------------------------------------------


class Cost(NamedTuple):
    kibibytes: float
    descriptors: float
    seconds: float | None
    to_stop: float | None


async def cost(kind: Kind, options: Options, number: int, patience: float) -> Cost:
    async with serving(options) as server:
        descriptors, memory = server.descriptors(), server.memory()
        most_descriptors, most_memory = descriptors, memory
        seconds: float | None = None
        async with trio.open_nursery() as nursery:
            for _ in range(number):
                await _let_loose(server, kind, nursery)
            began = time.monotonic()
            while (passed := time.monotonic() - began) < patience:
                now = server.descriptors()
                most_descriptors = max(most_descriptors, now)
                most_memory = max(most_memory, server.memory())
                if now <= descriptors and passed > AT_ONCE:
                    seconds = passed
                    break
                await trio.sleep(SAMPLE)
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                await _let_loose(server, kind, nursery)
            await trio.sleep(1.0)
            to_stop = await server.stop()
            nursery.cancel_scope.cancel()
    return Cost(
        (most_memory - memory) / number / 1024,
        (most_descriptors - descriptors) / number,
        seconds,
        to_stop,
    )


async def _let_loose(server: Server, kind: Kind, nursery: trio.Nursery) -> None:
    with contextlib.suppress(OSError, trio.BrokenResourceError):
        peer = await open_peer(server.port, kind, server.tls)
        nursery.start_soon(_hold, peer, kind)


async def _hold(peer: Peer, kind: Kind) -> None:
    try:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await kind.attack(peer)
        await trio.sleep_forever()
    finally:
        await trio.aclose_forcefully(peer.stream)


# --- floods ---------------------------------------------------------------------------------------


class Waited(NamedTuple):
    twiml: float
    audio: float


async def flood(name: str | None, options: Options) -> list[Waited | None]:
    """What calls waited in the midst of it; None where a call did not come about."""
    async with serving(options, DESCRIPTORS) as server:
        with _flooded(name, server):
            if name is not None:
                await trio.sleep(GATHER)
            waited = []
            for number in range(CALLS):
                waited.append(await _call(server, number))
                await trio.sleep(0.5)
            return waited


@contextlib.contextmanager
def _flooded(name: str | None, server: Server) -> Iterator[None]:
    """By another process, and not a greedy one: the caller is not to wait for the strangers."""
    if name is None:
        yield
        return
    who = f"{name}:{server.port}:{int(server.tls is not None)}"
    command = [sys.executable, __file__, "--flooding", who]
    flooder = subprocess.Popen(command, preexec_fn=partial(os.nice, 5))
    try:
        yield
    finally:
        flooder.kill()
        flooder.wait()


async def _come_again(name: str, port: int, tls: bool) -> None:
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    kind = KINDS[name]

    async def stranger() -> None:
        while True:
            with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                peer = await open_peer(port, kind, context)
                try:
                    await kind.attack(peer)
                    while await peer.answer():
                        pass
                finally:
                    await trio.aclose_forcefully(peer.stream)
            await trio.sleep(PAUSE)

    async with trio.open_nursery() as nursery:
        for _ in range(STRANGERS):
            nursery.start_soon(stranger)
            await trio.sleep(0.001)


def _signature(url: str, fields: dict[str, str]) -> str:
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.digest(AUTH_TOKEN.encode(), text.encode(), "sha1")).decode()


_FAILURES = (
    OSError,
    ValueError,  # no TwiML, or none with a stream
    ElementTree.ParseError,
    trio.BrokenResourceError,
    trio_websocket.ConnectionClosed,
    trio_websocket.HandshakeError,
)


async def _call(server: Server, number: int) -> Waited | None:
    with contextlib.suppress(*_FAILURES):
        with trio.move_on_after(CALL_WITHIN):
            return await _call_that_waits(server, f"CA{number:032x}")
    return None


async def _call_that_waits(server: Server, call_sid: str) -> Waited:
    began = time.monotonic()
    fields = {
        "CallSid": call_sid,
        "AccountSid": "AC" + "0" * 32,
        "From": "+15005550001",
        "To": "+15005550006",
        "CallStatus": "ringing",
        "Direction": "inbound",
    }
    body = urlencode(fields).encode()
    request = (
        POST
        + (
            f"X-Twilio-Signature: {_signature(f'https://{HOST}/twiml', fields)}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
    )
    answer = await server.ask(request + body)
    twiml = time.monotonic() - began
    document = ElementTree.fromstring(answer.partition(b"\r\n\r\n")[2])
    stream = document.find(".//Stream")
    if stream is None:
        raise ValueError("no stream")
    url = stream.attrib["url"]
    parameters = {each.attrib["name"]: each.attrib["value"] for each in stream}
    peer = await open_peer(server.port, KINDS["nothing"], server.tls)
    stream_of_call: Any = peer.stream
    async with trio.open_nursery() as nursery, stream_of_call:
        socket = await trio_websocket.wrap_client_stream(
            nursery,
            stream_of_call,
            HOST,
            url.partition(HOST)[2],
            extra_headers=[(b"X-Twilio-Signature", _signature(url, {}).encode())],
        )
        for message in _beginning(call_sid, parameters):
            await socket.send_message(json.dumps(message))
        while '"media"' not in str(await socket.get_message()):
            pass
        audio = time.monotonic() - began
        nursery.cancel_scope.cancel()
    return Waited(twiml, audio)


def _beginning(call_sid: str, parameters: dict[str, str]) -> Iterator[dict[str, object]]:
    sid = "MZ" + call_sid[2:]
    yield {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    yield {
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": sid,
        "start": {
            "streamSid": sid,
            "accountSid": "AC" + "0" * 32,
            "callSid": call_sid,
            "tracks": ["inbound"],
            "customParameters": parameters,
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        },
    }
    silence = base64.b64encode(b"\xff" * 160).decode()
    yield {
        "event": "media",
        "sequenceNumber": "2",
        "streamSid": sid,
        "media": {"track": "inbound", "chunk": "1", "timestamp": "20", "payload": silence},
    }


# --- the command ----------------------------------------------------------------------------------


def _table(costs: dict[str, Cost], patience: float) -> Iterator[str]:
    yield "| what the stranger does | KiB | descriptors | until it is ended | SIGTERM to exit |"
    yield "|---|---|---|---|---|"
    for name, each in costs.items():
        seconds = f"**not in {patience:g} s**" if each.seconds is None else f"{each.seconds:.1f} s"
        if each.seconds is not None and each.seconds < 2 * AT_ONCE:
            seconds = "at once"
        to_stop = "**SIGKILL**" if each.to_stop is None else f"{each.to_stop:.1f} s"
        yield (
            f"| {KINDS[name].what} | {each.kibibytes:.0f} | {each.descriptors:.1f}"
            f" | {seconds} | {to_stop} |"
        )


def _row(what: str, waited: list[Waited | None]) -> str:
    done = [each for each in waited if each is not None]
    if not done:
        return f"| {what} | **0 of {CALLS}** | | |"
    twiml = statistics.median(each.twiml for each in done)
    audio = statistics.median(each.audio for each in done)
    worst = max(each.audio for each in done)
    came = f"{len(done)} of {CALLS}"
    came = came if len(done) == CALLS else f"**{came}**"
    times = f"{twiml * 1e3:.0f} ms | {audio * 1e3:.0f} ms, worst {worst * 1e3:.0f} |"
    return f"| {what} | {came} | {times}"


@click.command()
@click.option("--only", default="", help="Names of kinds, with commas; --list tells them.")
@click.option("--list", "is_list", is_flag=True, help="The kinds there are.")
@click.option("--tls", is_flag=True)
@click.option("--floods", is_flag=True, help="A signed call in the midst of each.")
@click.option("--number", default=100, help="Connections of a kind.", show_default=True)
@click.option("--patience", default=90.0, help="Seconds to wait for an end.", show_default=True)
@click.option("--package", default=str(HERE.parent), help="Where the server's package is.")
@click.option("--hypercorn", is_flag=True, help="The plain command instead of `serve`.")
@click.option("--flooding", default="", hidden=True)
def main(
    only: str,
    is_list: bool,
    tls: bool,
    floods: bool,
    number: int,
    patience: float,
    package: str,
    hypercorn: bool,
    flooding: str,
) -> None:
    if flooding:
        name, port, is_tls = flooding.split(":")
        trio.run(_come_again, name, int(port), is_tls == "1")
        return
    names = [name for name in only.split(",") if name] or [
        name for name, kind in KINDS.items() if tls or not kind.is_raw
    ]
    if unknown := [name for name in names if name not in KINDS]:
        raise click.BadParameter(f"no such kind: {', '.join(unknown)}; --list tells them")
    if is_list:
        for name in names:
            click.echo(f"{name:20}{KINDS[name].what}")
        return
    options = Options(package, hypercorn, tls)
    if floods:
        click.echo("| flood | calls | TwiML | first audio |\n|---|---|---|---|")
        for each in (None, *names):
            what = "none" if each is None else KINDS[each].what
            click.echo(_row(what, trio.run(flood, each, options)))
        return
    costs: dict[str, Cost] = {}
    for name in names:
        costs[name] = trio.run(cost, KINDS[name], options, number, patience)
        click.echo(f"{name}: {costs[name]}", err=True)
    click.echo("\n".join(_table(costs, patience)))


if __name__ == "__main__":
    main()

"""A server as its operator starts it, few descriptors, strangers: what is left, and who gets in.

Real processes and sockets. What takes its time, and is told by a clock, is in `test_law.py`.
"""

import contextlib
import itertools
import os
import re
import resource
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import IO

import pytest
import trio
import trustme
from limits import HANG
from rig_hypercorn import PLAIN, hear_the_greeting, phone_at, until_it_answers

BENCH = Path(__file__).parent.parents[1] / "bench"
sys.path.insert(0, str(BENCH))

from attacks import GET, KINDS, open_peer  # noqa: E402
from servers import free_ports  # noqa: E402

from sts_trio.observe import events  # noqa: E402

pytestmark = [
    pytest.mark.skipif(
        not Path("/proc/self/fd").exists(),
        reason="there is no list of a process's descriptors here",
    ),
    # The server is another process.
    pytest.mark.no_cover,
]

FEW = 128  # descriptors
# What each of these does to a connection is over at once, on both sides.
QUICK = [
    *("refused-websocket", "bad-websocket", "early-frames", "upgrade", "connect", "unread-body"),
    *("pipelined-2-reset", "pipelined-20-gone", "pipelined-20-half", "pipelined-body"),
    *("pipelined-2000", "h2", "h2-shut-window", "h2-100-streams", "events-gone"),
]
# SIGTERM to exit: who has a request under way has 3 s, and is reset 2 s later.
STOPPED_WITHIN = 3.0 + 2.0


class Server:
    def __init__(
        self, process: trio.Process, port: int, errors: IO[bytes], tls: ssl.SSLContext | None
    ) -> None:
        self.process = process
        self.port = port
        self.tls = tls
        self.come = 0  # those that have tried to come, of whom some were let in
        self._errors = errors

    def said(self) -> str:
        return os.pread(self._errors.fileno(), 10_000_000, 0).decode()

    def sockets(self) -> int:
        folder = Path(f"/proc/{self.process.pid}/fd")
        with contextlib.suppress(FileNotFoundError):
            return sum("socket:" in _target(each) for each in folder.iterdir())
        return 0

    async def sockets_of_its_own(self) -> int:
        """Once who saw it listen is gone."""
        fewest = self.sockets()
        for _ in range(10):
            await trio.sleep(0.05)
            fewest = min(fewest, self.sockets())
        return fewest

    async def health(self) -> bytes:
        peer = await open_peer(self.port, KINDS["nothing"], self.tls)
        async with peer.stream:
            await peer.send(GET.replace(b"phone.example.com", b"localhost"))
            return await peer.answer()

    async def suffer_all(self) -> None:
        """Each of `QUICK`, five times, all at once, and each to its end."""
        async with trio.open_nursery() as nursery:
            for name in QUICK * 5:
                nursery.start_soon(self.suffer, name)

    async def suffer(self, name: str) -> None:
        with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            try:
                peer = await open_peer(self.port, KINDS[name], self.tls)
            finally:
                self.come += 1
            try:
                await KINDS[name].attack(peer)
                while await peer.answer():
                    pass
            finally:
                await trio.aclose_forcefully(peer.stream)

    async def stop(self) -> float:
        began = trio.current_time()
        self.process.send_signal(signal.SIGTERM)
        await self.process.wait()
        return trio.current_time() - began


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, str, str]:
    authority, directory = trustme.CA(), tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    issued.private_key_pem.write_to_path(directory / "key.pem")
    return authority, str(directory / "cert.pem"), str(directory / "key.pem")


# `serve` is given a port by the kernel, so that no other process takes it meanwhile. Hypercorn's
# own command tells the app no such port, and with it no key for callers on this machine.
COMMANDS = {
    "serve": ("sts_trio", "serve", "--port", "0"),
    "hypercorn": (
        *("hypercorn", "sts_trio.app:app", "--worker-class", "trio"),
        *("--bind", "127.0.0.1:{port}"),
    ),
}
LISTENS = re.compile(r"Running on https?://127\.0\.0\.1:(\d+) ")


@contextlib.asynccontextmanager
async def serving(
    how: str,
    files: tuple[trustme.CA, str, str] | None = None,
    soft: int = FEW,
    hard: int = FEW,
) -> AsyncIterator[Server]:
    port, _ = free_ports()
    command = [sys.executable, "-m", *(each.format(port=port) for each in COMMANDS[how])]
    tls = None
    if how == "hypercorn":
        command += ["--workers", "0"]  # in the process that we see
    if files is not None:
        authority, cert, key = files
        command += ["--certfile", cert, "--keyfile", key]
        tls = ssl.create_default_context()
        authority.configure_trust(tls)
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryDirectory() as directory:
        async with trio.open_nursery() as nursery:
            process = await nursery.start(
                partial(
                    trio.run_process,
                    command,
                    env=PLAIN | {"STS_AGENT": "offline", "STS_OFFLINE_MODE": "scripted"},
                    cwd=directory,
                    check=False,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    preexec_fn=partial(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard)),
                )
            )
            server = Server(process, 0, errors, tls)
            await until(lambda: LISTENS.search(server.said()) is not None)
            [server.port] = map(int, LISTENS.findall(server.said()))
            await until_it_answers(server.port)
            yield server
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", COMMANDS)
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
async def test_nothing_is_left_of_strangers_and_calls_get_in_among_them(
    how: str, is_tls: bool, files: tuple[trustme.CA, str, str]
) -> None:
    with trio.fail_after(2 * HANG):
        async with serving(how, files if is_tls else None) as server:
            await server.health()
            quiet = await server.sockets_of_its_own()
            await server.suffer_all()
            assert (await server.health()).startswith(b"HTTP/1.1 200 ")
            await until(lambda: server.sockets() <= quiet)
            assert "Traceback" not in server.said()

            # More of them than there are descriptors.
            before = server.come
            async with trio.open_nursery() as nursery:
                for name in itertools.islice(itertools.cycle(["nothing", "slow-head"]), 2 * FEW):
                    nursery.start_soon(server.suffer, name)
                # While they come, a stranger of ours is as old as any of theirs, and goes like one.
                await until(lambda: server.come == before + 2 * FEW)
                # They have come as far as the kernel; a busy machine lets them in later.
                await until(lambda: events.ConnectionsEvicted.NAME in server.said())
                assert (await server.health()).startswith(b"HTTP/1.1 200 ")
                async with phone_at(server.port, server.tls) as phone:
                    await hear_the_greeting(phone)
                nursery.cancel_scope.cancel()
            said = server.said()
            assert said.count(events.ConnectionsEvicted.NAME) == 1
            assert said.count(events.DescriptorsTooFew.NAME) == 1
            assert "Traceback" not in said

            await server.suffer_all()
            assert await server.stop() < STOPPED_WITHIN


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - it is about another process
        await trio.sleep(0.05)


@pytest.mark.parametrize("how", COMMANDS)
async def test_the_limit_of_descriptors_is_raised(how: str) -> None:
    with trio.fail_after(HANG):
        async with serving(how, soft=64, hard=2000) as server:
            # It listens before the app has started, and it answers only then.
            await server.health()
            assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (2000, 2000)
            assert events.DescriptorsTooFew.NAME not in server.said()


@pytest.mark.parametrize("how", COMMANDS)
async def test_tls_offers_no_http_2(how: str, files: tuple[trustme.CA, str, str]) -> None:
    with trio.fail_after(HANG):
        async with serving(how, files) as server:
            assert server.tls is not None
            server.tls.set_alpn_protocols(["h2", "http/1.1"])
            tcp = await trio.open_tcp_stream("127.0.0.1", server.port)
            stream = trio.SSLStream(tcp, server.tls, server_hostname="localhost")
            await stream.do_handshake()
            assert stream.selected_alpn_protocol() == "http/1.1"
            await trio.aclose_forcefully(stream)
            server.tls.set_alpn_protocols(["h2"])
            tcp = await trio.open_tcp_stream("127.0.0.1", server.port)
            stream = trio.SSLStream(tcp, server.tls, server_hostname="localhost")
            await stream.do_handshake()
            assert stream.selected_alpn_protocol() is None
            await trio.aclose_forcefully(stream)

"""The app on Hypercorn in this process, with our settings, and a shutdown that callers survive.

Told to stop, Hypercorn cuts every websocket off after its graceful timeout. So the signals are
taken here, and Hypercorn hears of them last:

1. The first SIGTERM, or SIGHUP: no new calls (`/readyz` is 503, the webhook declines), those under
   way go on for up to `config.drain` seconds. Ctrl+C (SIGINT) is someone at a terminal who wants
   the prompt back: for it, that time is none.
2. Who is still talking then is told that the time is up, which has `LEAVE_TAKING` seconds. After
   Ctrl+C nobody is.
3. Who is still there is hung up on with 1001, and has `GOODBYE` seconds to be gone.
4. Hypercorn stops: no new connections, `GRACE` seconds for those that are in use.

Every further SIGTERM or SIGINT ends the step that is being waited for. A further SIGHUP does not: a
terminal that is closed sends two, and systemd may send one behind its SIGTERM.
"""

import contextlib
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import hypercorn.config
import hypercorn.trio
import trio
from hypercorn.utils import LifespanFailureError

from sts_trio.config import Config
from sts_trio.errors import ConfigError
from sts_trio.net import hypercorn_guard
from sts_trio.net.bound import url_of
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.server import GOODBYE, STOPS
from sts_trio.web.app import create_app

# A moment for the agent to begin (4 s, `logic.closing`), and a sentence.
LEAVE_TAKING = 10.0
# Nothing but short requests is left by then.
GRACE = 3.0


class LiveCalls(Protocol):
    """What a shutdown needs of `sts_trio.bridge.live_calls.LiveCalls`."""

    @property
    def live(self) -> int: ...
    def drain(self) -> None: ...
    async def empty(self) -> None: ...
    def wind_up(self) -> None: ...
    def shut_down(self) -> None: ...


class App(Protocol):
    """An ASGI application with calls."""

    startup_fault: ConfigError | None

    @property
    def live_calls(self) -> LiveCalls: ...
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


async def serve(
    config: Config,
    *,
    host: str = "127.0.0.1",
    port: int = 5000,
    keep_alive: float = hypercorn_guard.KEEP_ALIVE,
    certfile: str | Path | None = None,
    keyfile: str | Path | None = None,
    app: App | None = None,
    take_signals: bool = True,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves `app`, else our own, until a signal has shut it down.

    Port 0 is a free one; `task_status.started` gets the URL at which this machine reaches it.
    Signals are taken in the main thread only, and by one server of a process: whoever runs this
    beside other things says `take_signals=False`. When cancelled it ends at once, with all calls.

    Raises:
        ConfigError: the address cannot be had, or the certificate or the database cannot be used.
    """
    with contextlib.ExitStack() as stack:
        settings = _Settings(certfile, keyfile)
        settings.keep_alive_timeout = keep_alive
        settings.listen(stack.enter_context(_listen(host, port)))
        hypercorn_guard.install()
        if app is None:
            app = create_app(config)
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            if take_signals and threading.current_thread() is threading.main_thread():
                signals = stack.enter_context(trio.open_signal_receiver(*_signals()))
                shutdown = _Shutdown(signals, app.live_calls, config.drain, stop)
                nursery.start_soon(shutdown.run, nursery.cancel_scope)

            async def run(task_status: trio.TaskStatus[list[str]]) -> None:
                try:
                    await hypercorn.trio.serve(
                        app,
                        settings,
                        shutdown_trigger=stop.wait,
                        mode="asgi",
                        task_status=task_status,
                    )
                except* LifespanFailureError:
                    if app.startup_fault is None:
                        raise
                if app.startup_fault is not None:
                    raise app.startup_fault
                nursery.cancel_scope.cancel()

            await nursery.start(run)
            task_status.started(settings.url(host))
    report(events.ServerStopped())


def _signals() -> list[signal.Signals]:
    """SIGHUP is one of them unless it is ignored, as by `nohup`."""
    wanted = [*STOPS, signal.SIGINT]
    return [each for each in wanted if signal.getsignal(each) is not signal.SIG_IGN]


class _Shutdown:
    """From the first signal to Hypercorn's end."""

    def __init__(
        self,
        signals: AsyncIterator[int],
        live_calls: LiveCalls,
        drain: float,
        stop: trio.Event,
    ) -> None:
        self._signals = signals
        self._live_calls = live_calls
        self._drain = drain
        self._stop = stop
        self._waiting = trio.CancelScope()

    async def run(self, server: trio.CancelScope) -> None:
        """Needs to be cancelled when the server is gone: it reads signals till then."""
        first = signal.Signals(await anext(self._signals))
        drain = 0.0 if first is signal.SIGINT else self._drain
        report(events.ServerDraining(self._live_calls.live, first.name, drain))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hurry)
            self._live_calls.drain()
            await self._until_empty(drain)
            if first is not signal.SIGINT:
                self._live_calls.wind_up()
                await self._until_empty(LEAVE_TAKING)
            self._live_calls.shut_down()
            await self._until_empty(GOODBYE)
            self._waiting = server
            self._stop.set()

    async def _until_empty(self, seconds: float) -> None:
        with trio.move_on_after(seconds) as self._waiting:
            await self._live_calls.empty()

    async def _hurry(self) -> None:
        async for signum in self._signals:
            if signum in (signal.SIGTERM, signal.SIGINT):
                self._waiting.cancel()


class _Settings(hypercorn.config.Config):
    """Hypercorn's configuration, around a socket that is to listen already.

    Raises:
        ConfigError: the certificate cannot be used.
    """

    backlog = 1024  # a fleet's load balancer may bring a burst of calls
    errorlog = logging.getLogger("hypercorn.error")  # `log.configure` leads it into our log
    graceful_timeout = GRACE
    keyfile_password = ""  # never ask at the terminal

    listener: socket.socket

    def __init__(self, certfile: str | Path | None, keyfile: str | Path | None) -> None:
        self.certfile = None if certfile is None else os.fspath(certfile)
        self.keyfile = None if keyfile is None else os.fspath(keyfile)
        if (certfile is None) != (keyfile is None):
            raise ConfigError(
                f"{certfile or keyfile}: TLS takes a certificate and its key:"
                " give both --certfile and --keyfile"
            )
        try:
            for file in (certfile, keyfile):
                if file is not None:
                    Path(file).read_bytes()
            self.create_ssl_context()
        except ssl.SSLError as exc:
            raise ConfigError(
                f"{certfile}, {keyfile}: expected a certificate and its key without a password,"
                f" both PEM ({exc.reason or exc})"
            ) from None
        except OSError as exc:
            raise ConfigError(f"{exc.filename}: cannot be read ({exc.strerror})") from None

    def listen(self, listener: socket.socket) -> None:
        """Serves what is accepted there; `bind` tells the app where that is."""
        self.listener = listener
        address, port = listener.getsockname()[:2]
        self.bind = [f"[{address}]:{port}" if ":" in address else f"{address}:{port}"]

    def create_sockets(self) -> hypercorn.config.Sockets:
        ours = [self.listener]
        return hypercorn.config.Sockets(
            secure_sockets=ours if self.ssl_enabled else [],
            insecure_sockets=[] if self.ssl_enabled else ours,
            quic_sockets=[],
        )

    def url(self, host: str) -> str:
        return url_of(host, self.listener.getsockname()[1], is_secure=self.ssl_enabled)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if os.name == "posix":  # elsewhere this would share the port with who has it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == "::":  # everywhere, whatever the system's default
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(_Settings.backlog)
    except (OSError, OverflowError, UnicodeError) as exc:
        listener.close()
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigError(
            f"cannot listen on {host}:{port} ({reason}): give another --host or --port"
        ) from None
    listener.setblocking(False)
    return listener

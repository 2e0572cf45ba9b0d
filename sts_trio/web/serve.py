"""The app on Hypercorn in this process, with our settings, and a shutdown that callers survive.

Told to stop, Hypercorn cuts every websocket off after its graceful timeout. So the signals are
taken here, and Hypercorn hears of them last:

1. The first SIGTERM, or SIGHUP, or another process that takes over (`succession`): no new calls
   (`/readyz` is 503, the webhook declines), those under way go on for up to `config.drain` seconds.
   If another process is ready to go on with them, each is moved there between two turns meanwhile.
   Ctrl+C (SIGINT) is someone at a terminal who wants the prompt back: for it, that time is none.
2. Who is still talking then is told that the time is up, which has `LEAVE_TAKING` seconds. After
   Ctrl+C nobody is.
3. Who is still there is hung up on with 1001, and has `GOODBYE` seconds to be gone.
4. Hypercorn stops: no new connections, `GRACE` seconds for those that are in use.

Every further SIGTERM or SIGINT ends the step that is being waited for. A further SIGHUP does not: a
terminal that is closed sends two, and systemd may send one behind its SIGTERM.
"""

import contextlib
import errno
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import hypercorn.config
import hypercorn.trio
import trio

from sts_trio.bridge.live_calls import Remember
from sts_trio.config import Config
from sts_trio.errors import ConfigError
from sts_trio.net import hypercorn_guard
from sts_trio.net.bound import url_of
from sts_trio.net.signals import STOPS
from sts_trio.net.tls_socket import is_known
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.server import GOODBYE
from sts_trio.web.app import create_app
from sts_trio.web.succession import Inheritance, Occupied, bequeath, inherit

# A moment for the agent to begin (4 s, `logic.closing`), and a sentence.
LEAVE_TAKING = 10.0
# Nothing but short requests is left by then.
GRACE = 3.0


class LiveCalls(Protocol):
    """What a shutdown needs of `sts_trio.bridge.live_calls.LiveCalls`."""

    @property
    def live(self) -> int: ...
    @property
    def is_draining(self) -> bool: ...
    def drain(self, heir: Remember | None = None) -> None: ...
    async def follow(self, predecessor: Callable[[Remember], Awaitable[None]]) -> None: ...
    async def empty(self) -> None: ...
    def wind_up(self) -> None: ...
    def shut_down(self) -> None: ...


class App(Protocol):
    """An ASGI application with calls."""

    @property
    def live_calls(self) -> LiveCalls: ...
    async def move_calls(self, within: float) -> None: ...
    async def open_records(self) -> None: ...
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
    take_over: bool = False,
    descriptors: Sequence[int] = (),
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves `app`, else our own, until a signal has shut it down.

    Port 0 is a free one; `task_status.started` gets the URL at which this machine reaches it.
    Signals are taken in the main thread only, and by one server of a process: whoever runs this
    beside other things says `take_signals=False`. When cancelled it ends at once, with all calls.

    Where a process of this user listens already, its socket is taken over if it drains, or if
    `take_over` says so, and it drains then. `descriptors` are of what a supervisor listens on for
    this process (`config.activation`): that is served then, wherever it is.

    Raises:
        ConfigError: the address cannot be had, or the certificate or the database cannot be used.
    """
    with contextlib.ExitStack() as stack:
        settings = _Settings(certfile, keyfile)
        settings.keep_alive_timeout = keep_alive
        if descriptors:
            listener, inheritance = _passed(descriptors), None
            host, port = listener.getsockname()[:2]
        else:
            listener, inheritance = await _listen(host, port, takes_over=take_over)
        settings.listen(stack.enter_context(listener))
        if inheritance is not None:
            stack.enter_context(inheritance.predecessor)
        hypercorn_guard.install()
        if settings.ssl_enabled and config.fast_lane and not is_known():
            report(events.FastLaneClosed(trio.__version__))
        if app is None:
            app = create_app(config)
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            shutdown = None
            if take_signals and threading.current_thread() is threading.main_thread():
                signals = stack.enter_context(trio.open_signal_receiver(*_signals()))
                shutdown = _Shutdown(signals, app, config.drain, stop)
                nursery.start_soon(shutdown.run, nursery.cancel_scope)

            async def run(task_status: trio.TaskStatus[list[str]]) -> None:
                # Before Hypercorn, which says that it runs while the app says that it cannot.
                await app.open_records()
                await hypercorn.trio.serve(
                    app,
                    settings,
                    shutdown_trigger=stop.wait,
                    mode="asgi",
                    task_status=task_status,
                )
                nursery.cancel_scope.cancel()

            await nursery.start(run)
            if shutdown is not None and port:
                await nursery.start(_leave_to_heir, listener, app.live_calls, shutdown)
            if inheritance is not None:
                await inheritance.confirm()
                nursery.start_soon(app.live_calls.follow, inheritance.hear_endings)
            task_status.started(settings.url(host))
    report(events.ServerStopped())


def _signals() -> list[signal.Signals]:
    """SIGHUP is one of them unless it is ignored, as by `nohup`."""
    wanted = [*STOPS, signal.SIGINT]
    return [each for each in wanted if signal.getsignal(each) is not signal.SIG_IGN]


async def _leave_to_heir(
    listener: socket.socket,
    live_calls: LiveCalls,
    shutdown: "_Shutdown",
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """Another process may have the address, once this one drains, or if it takes over."""
    heir = await bequeath(
        listener, is_draining=lambda: live_calls.is_draining, task_status=task_status
    )
    live_calls.drain(heir.tell)
    hypercorn_guard.retire()
    report(events.ServerRelieved(live_calls.live))
    shutdown.begin("take-over")
    await heir.run()


class _Shutdown:
    """From the first signal, or an heir, to Hypercorn's end."""

    def __init__(
        self,
        signals: AsyncIterator[int],
        app: App,
        drain: float,
        stop: trio.Event,
    ) -> None:
        self._signals = signals
        self._app = app
        self._live_calls = app.live_calls
        self._drain = drain
        self._stop = stop
        self._begun = trio.Event()
        self._reason = ""
        self._waiting = trio.CancelScope()

    def begin(self, reason: str) -> None:
        """`reason` is a signal, or what else it is for. Does nothing after the first time."""
        if not self._begun.is_set():
            self._reason = reason
            self._begun.set()

    async def run(self, server: trio.CancelScope) -> None:
        """Needs to be cancelled when the server is gone: it reads signals till then."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear_signals)
            await self._begun.wait()
            is_hurried = self._reason == signal.SIGINT.name
            drain = 0.0 if is_hurried else self._drain
            report(events.ServerDraining(self._live_calls.live, self._reason, drain))
            self._live_calls.drain()
            if not is_hurried:
                await self._drain_calls(drain)
                self._live_calls.wind_up()
                await self._until_empty(LEAVE_TAKING)
            self._live_calls.shut_down()
            await self._until_empty(GOODBYE)
            self._waiting = server
            self._stop.set()

    async def _drain_calls(self, seconds: float) -> None:
        """Until there are none: because they have ended, or others go on with them. The time is for
        those that nobody goes on with."""
        with trio.CancelScope() as self._waiting:
            async with trio.open_nursery() as nursery:

                async def move() -> None:
                    await self._app.move_calls(seconds)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(move)
                await self._live_calls.empty()
                nursery.cancel_scope.cancel()

    async def _until_empty(self, seconds: float) -> None:
        with trio.move_on_after(seconds) as self._waiting:
            await self._live_calls.empty()

    async def _hear_signals(self) -> None:
        async for signum in self._signals:
            if not self._begun.is_set():
                self.begin(signal.Signals(signum).name)
            elif signum in (signal.SIGTERM, signal.SIGINT):
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


async def _listen(
    host: str, port: int, *, takes_over: bool
) -> tuple[socket.socket, Inheritance | None]:
    try:
        return _bound(host, port), None
    except (OSError, OverflowError, UnicodeError) as exc:
        hint = "give another --host or --port"
        if getattr(exc, "errno", None) == errno.EADDRINUSE:
            try:
                inheritance = await inherit(_address(host, port), takes_over=takes_over)
            except Occupied:
                hint = f"a server of yours takes calls there: --take-over has it drain; or {hint}"
            else:
                if inheritance is not None:
                    return inheritance.listener, inheritance
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigError(f"cannot listen on {host}:{port} ({reason}): {hint}") from None


def _passed(descriptors: Sequence[int]) -> socket.socket:
    """The one socket that a supervisor listens on for this process.

    Raises:
        ConfigError: it is not one, or not of TCP.
    """
    wanted = "expected one TCP socket that listens: give the unit one ListenStream=HOST:PORT"
    if len(descriptors) != 1:
        raise ConfigError(f"LISTEN_FDS is {len(descriptors)}: {wanted}")
    try:
        listener = socket.socket(fileno=descriptors[0])
    except OSError as exc:
        raise ConfigError(f"LISTEN_FDS: {wanted} ({exc.strerror})") from None
    is_tcp = listener.family in (socket.AF_INET, socket.AF_INET6)
    if not is_tcp or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.close()
        raise ConfigError(f"LISTEN_FDS: {wanted}")
    os.set_inheritable(listener.fileno(), False)
    listener.setblocking(False)
    return listener


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _address(host: str, port: int) -> tuple[str, int]:
    """In digits, as a socket that is bound there tells it."""
    found = socket.getaddrinfo(
        host or None, port, _family(host), socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    address, number = found[0][4][:2]
    return str(address), int(number)


def _bound(host: str, port: int) -> socket.socket:
    listener = socket.socket(_family(host))
    try:
        if os.name == "posix":  # elsewhere this would share the port with who has it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == "::":  # everywhere, whatever the system's default
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(_Settings.backlog)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener

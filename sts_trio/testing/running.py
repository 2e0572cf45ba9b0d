"""The bridge itself, on a free port of this machine, for as long as a block."""

import contextlib
import functools
import gc
import logging
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from sts_trio import config
from sts_trio.config import AgentKind, Config
from sts_trio.net.hypercorn_guard import descriptors
from sts_trio.testing.agent import Agent
from sts_trio.testing.background import running_beside
from sts_trio.testing.carrier import Account
from sts_trio.testing.clock import jumping_only_when_nothing_works
from sts_trio.testing.server import Server, known
from sts_trio.web.app import App, create_app
from sts_trio.web.serve import serve

Given = Callable[..., Any] | str  # a function, or a specification of it


@contextlib.asynccontextmanager
async def running(
    app: App | Config | Mapping[str, str] | str | os.PathLike[str] | None = None,
    *,
    agent: Agent | str | None = None,
    functions: Given | Iterable[Given] = (),
    carrier: Account | None = None,
) -> AsyncIterator[Server]:
    """The bridge, served by Hypercorn, as in production but for the port, which is a free one.

    Give it the path of your `sts-trio.toml`, or the variables to make a configuration from
    (`STS_CONFIG` names a file there, too), or a configuration, or your own app. Nothing else is
    read: no environment, and no file that is not named. Nothing is kept of the calls, unless
    `STS_DATABASE_URL` is among the variables. `functions` are what agents may call beside those
    that are configured, or the one that they may. `agent`, from `scripted_agent` or `offline_agent`
    or a URL, is who answers; without one, who the configuration says, and without that the offline
    agent.

    When the block is left the server and its calls are gone, and the logging is as it was before.

    Raises:
        ConfigError: the variables make no configuration, or a function is not fit for an agent.
        ValueError: an app was given, and an agent, functions or a carrier: the app has its own.
        TypeError: what was given is none of these.
    """
    if isinstance(functions, str) or callable(functions):
        functions = [functions]
    if isinstance(app, App) and (agent is not None or functions or carrier is not None):
        raise ValueError(
            "an app comes with its agent and its functions, and with its account: give them with a"
            " configuration only"
        )
    port = 0
    with _leaving_no_trace(), jumping_only_when_nothing_works():
        if not isinstance(app, App):
            settings = _settings(app, agent, carrier)
            if carrier is not None and settings.public_url is None:
                # The carrier is to come back from calls that it has been asked for.
                port = _free_port()
                url = f"http://127.0.0.1:{port}"
                settings = msgspec.structs.replace(settings, public_url=url)
            app = create_app(settings, functions)
            if carrier is not None:
                app.server.twilio.api = carrier.rest.url
        start = functools.partial(serve, app.server.config, port=port, app=app, take_signals=False)
        async with running_beside(start) as base:
            server = Server(base, "ws" + base.removeprefix("http") + "/twilio", app)
            with known(server):
                yield server


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def _settings(given: Any, agent: Agent | str | None, carrier: Account | None) -> Config:
    if isinstance(given, str | os.PathLike):
        given = {"STS_CONFIG": os.fspath(given)}
    if not isinstance(given, Config | Mapping | None):
        raise TypeError(
            "expected the path of a configuration, or variables, a configuration or an app, got"
            f" {given!r}"
        )
    settings = given if isinstance(given, Config) else _load(given or {})
    if carrier is not None:
        settings = msgspec.structs.replace(
            settings,
            twilio_account_sid=carrier.variables["TWILIO_ACCOUNT_SID"],
            twilio_auth_tokens=(carrier.variables["TWILIO_AUTH_TOKEN"],),
        )
    return settings if agent is None else _dialling(settings, agent)


def _load(given: Mapping[str, str]) -> Config:
    with tempfile.TemporaryDirectory() as nowhere:
        variables = {
            "STS_AGENT": "offline",
            "STS_LOG_LEVEL": "warning",
            "STS_DATABASE_URL": "none",
            **given,
        }
        if file := variables.get("STS_CONFIG"):
            variables["STS_CONFIG"] = str(Path(file).resolve())
        return config.load(variables, Path(nowhere))


def _dialling(settings: Config, agent: Agent | str) -> Config:
    url = agent if isinstance(agent, str) else agent.url
    return msgspec.structs.replace(
        settings,
        agent=AgentKind.DEEPGRAM,
        deepgram_urls=(url,),
        deepgram_api_keys=settings.deepgram_api_keys[:1] or ("any",),
    )


@contextlib.contextmanager
def _leaving_no_trace() -> Iterator[None]:
    """An app sets up the process it runs in: here, that is somebody else's."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    was_configured, configuration = structlog.is_configured(), structlog.get_config()
    thresholds, was_frozen = gc.get_threshold(), gc.get_freeze_count() > 0
    files = descriptors.limits()
    try:
        yield
    finally:
        root.handlers, root.level = handlers, level
        if was_configured:
            structlog.configure(**configuration)
        else:
            structlog.reset_defaults()
        gc.set_threshold(*thresholds)
        if not was_frozen:  # else what others want frozen would be thawed with what is ours
            gc.unfreeze()
        descriptors.set_limits(files)

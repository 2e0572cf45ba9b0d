"""The offline agent as this process's own: whether it can be had, and its start."""

import functools

import trio

from sts_trio.agents.endpoints import Endpoint
from sts_trio.config import AgentKind, Config
from sts_trio.errors import ConfigError
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.offline.mode import Mode, choose, missing
from sts_trio.wire.dialect import Dialect


def check_offline_agent(config: Config) -> None:
    """
    Raises:
        ConfigError: it is to answer with ears, which cannot be had.
    """
    wants_ears = config.agent is AgentKind.OFFLINE and config.offline_mode is Mode.EARS
    if wants_ears and (reason := missing()) is not None:
        raise ConfigError(f"{config.where('STS_OFFLINE_MODE')}: ears cannot be had: {reason}")


async def start_offline_agent(nursery: trio.Nursery, config: Config) -> Endpoint:
    """Runs it in the nursery. Returns where it answers."""
    # It brings trio-websocket along, which a server with another agent does not need.
    from sts_trio.offline.protocol import server

    mode, reason = choose(config.offline_mode)
    if reason is not None:
        report(events.OfflineAgentScripted(reason))
    serve = functools.partial(server.serve, mode=mode)
    port = await nursery.start(serve, "127.0.0.1", 0)
    path = "/agent" if config.dialect is Dialect.LEGACY else "/v1/agent/converse"
    return Endpoint(f"ws://127.0.0.1:{port}{path}")

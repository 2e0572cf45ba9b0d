"""All that is looked at, in order: what is wrong first is often why the rest is."""

from collections.abc import Callable, Iterator

import trio

from sts_trio.agents.credentials import configured_credential
from sts_trio.config import from_environment
from sts_trio.doctor import machine, network
from sts_trio.doctor.findings import Finding, fault, unknown
from sts_trio.errors import ConfigError
from sts_trio.net.threads import run_in_thread
from sts_trio.outbound.twilio_rest import TwilioRest
from sts_trio.server import Server

# Seconds. More than a database is given to say that it is there, and twice.
LONGEST = 15.0
# What takes a configuration to be looked at.
_REST = ("database", "disk", "port", "agent", "public URL", "Twilio", "clock")


async def check_up(
    file: str | None, host: str, port: int | None, rest: TwilioRest | None = None
) -> list[Finding]:
    """`rest` is for tests."""
    found = list(machine.versions())
    try:
        config = from_environment(file)
        server = Server(config)
    except ConfigError as exc:
        found.append(fault("configuration", "it is wrong", str(exc), "mend that"))
        found += [unknown(each, "not looked at", "the configuration is wrong") for each in _REST]
        return found
    config = server.config
    found += machine.configuration(config, len(server.functions))
    found += await _in_thread("database", lambda: machine.database(config))
    found += machine.disk(config)
    number = config.port if port is None else port
    found += await _in_thread("port", lambda: machine.port(host, number))
    credential = configured_credential(config, None)
    endpoints = server.agent_connections.endpoints
    agents = network.agents(config, endpoints, credential)
    found += [each async for each in agents]
    found += [each async for each in network.public_address(config)]
    rest = rest or TwilioRest.of(config)
    found += [each async for each in network.twilio(config, rest)]
    found.append(await network.clock(network.clocks_of(config, rest)))
    return found


async def _in_thread(subject: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """It waits in the system."""
    with trio.move_on_after(LONGEST):
        return await run_in_thread(lambda: list(look()), trio.CapacityLimiter(1))
    return [unknown(subject, "not known", f"no answer within {LONGEST:g} s")]

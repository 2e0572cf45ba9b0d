"""What an agent is shown at a dial: the configured key, or what the user's own function says.

Temporary tokens live for 30 s, so the function is asked at each dial. What it answers is a secret,
and told to nobody else.
"""

import re
from collections.abc import Awaitable, Callable

import trio

from sts_trio.agents import user_functions
from sts_trio.agents.endpoints import Endpoint
from sts_trio.config import AgentKind, Config
from sts_trio.errors import NoCredential
from sts_trio.functions import foreign
from sts_trio.net.raised import OnlyExceptions, original
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.wire.handshake import CREDENTIAL

# A token is got by one request; a caller waits, and the handshake is still to come.
ANSWER_WITHIN = 1.5

AskCredential = Callable[[str], Awaitable[str]]


async def credential_for(endpoint: Endpoint, ask: AskCredential | None) -> str | None:
    """A key, or a scheme and a credential; None: the agent wants none.

    Raises:
        NoCredential: the user's function failed, took too long, or said something that is none.
    """
    if ask is None:
        return endpoint.key
    answer: object = None
    reason = f"it took longer than {ANSWER_WITHIN:g} s"
    try:
        with trio.move_on_after(ANSWER_WITHIN), OnlyExceptions():
            answer = await ask(endpoint.url)
            reason = 'expected a key, or "Bearer" and a token, of visible ASCII characters'
    except Exception as exc:
        hint = foreign.hint(exc, is_async=True)
        failed = events.AgentNoCredential(endpoint.address, "it failed", hint)
        report(failed, exc_info=True)
        kind = type(original(exc)).__name__
        raise NoCredential(f"{endpoint.address}: credential failed: {kind}") from exc
    if isinstance(answer, str) and re.fullmatch(CREDENTIAL, answer):
        return answer
    report(events.AgentNoCredential(endpoint.address, reason))
    raise NoCredential(f"{endpoint.address}: credential: {reason}")


def configured_credential(config: Config, given: AskCredential | None) -> AskCredential | None:
    """What is `given` in code goes before what is configured. The offline agent of this process
    wants none.

    Raises:
        ConfigError: it is not one that can be asked.
    """
    if given is not None:
        check_credential(given, "credential")
    elif config.credential is not None:
        given = load_credential(config.credential, config.where("STS_CREDENTIAL"))
    return given if config.agent is AgentKind.DEEPGRAM else None


def load_credential(path: str, where: str) -> AskCredential:
    """
    Raises:
        ConfigError: there is no such function, or it is not one that can be asked.
    """
    function: AskCredential = user_functions.load(path, where)
    return check_credential(function, where)


def check_credential(function: AskCredential, where: str) -> AskCredential:
    """
    Raises:
        ConfigError: it is not an async function that takes an address.
    """
    expected = "async def credential(address: str) -> str"
    user_functions.check(function, where, expected, "", "the address that is dialled")
    return function

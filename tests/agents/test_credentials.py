"""What an agent is shown at a dial: a key, or what the user's own function says."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from sts_trio.agents.breaker import FAILURES, State
from sts_trio.agents.credentials import (
    ANSWER_WITHIN,
    check_credential,
    credential_for,
    load_credential,
)
from sts_trio.agents.endpoints import Endpoint, Endpoints
from sts_trio.errors import ConfigError, NoCredential
from sts_trio.observe import events
from sts_trio.wire import handshake

ENDPOINT = Endpoint("wss://agent.example/v1?secret=q", "key")
EXPECTED = 'expected a key, or "Bearer" and a token, of visible ASCII characters'


async def test_without_a_function_it_is_the_key() -> None:
    assert await credential_for(ENDPOINT, None) == "key"
    assert await credential_for(Endpoint("wss://agent.example"), None) is None


async def test_the_function_is_asked_at_each_dial_and_told_the_address() -> None:
    asked: list[str] = []

    async def credential(address: str) -> str:
        asked.append(address)
        return f"Bearer token-{len(asked)}"

    assert await credential_for(ENDPOINT, credential) == "Bearer token-1"
    assert await credential_for(ENDPOINT, credential) == "Bearer token-2"
    assert asked == [ENDPOINT.url] * 2


@pytest.mark.parametrize(
    "answer", [None, 5, "", "Bearer", "Bearer ", "Basic s3cret", "s3cret\r\nx: y", "s3crét"]
)
async def test_what_is_no_credential_is_told_and_not_shown(answer: Any) -> None:
    async def credential(address: str) -> Any:
        return answer

    with structlog.testing.capture_logs() as logs:
        if answer == "Bearer":  # it might be a key
            assert await credential_for(ENDPOINT, credential) == "Bearer"
            return
        with pytest.raises(NoCredential, match=r"agent\.example/v1: credential: expected a key"):
            await credential_for(ENDPOINT, credential)
    [line] = logs
    assert (line["event"], line["reason"]) == (events.AgentNoCredential.NAME, EXPECTED)
    assert "s3cr" not in str(line)
    assert "secret" not in str(line)


async def test_one_that_fails_fails_the_dial_and_is_told_with_its_traceback() -> None:
    async def credential(address: str) -> str:
        raise OSError("token server is down")

    with (
        structlog.testing.capture_logs() as logs,
        pytest.raises(NoCredential, match="credential failed: OSError"),
    ):
        await credential_for(ENDPOINT, credential)
    [line] = logs
    assert line["exc_info"] is True


class Panic(BaseException):
    """As libraries in Rust have it."""


@pytest.mark.parametrize("raised", [SystemExit(3), Panic("no")])
async def test_not_even_an_exit_or_a_panic_does_more(raised: BaseException) -> None:
    async def credential(address: str) -> str:
        raise raised

    failed = f"credential failed: {type(raised).__name__}$"
    with structlog.testing.capture_logs() as logs, pytest.raises(NoCredential, match=failed):
        await credential_for(ENDPOINT, credential)
    assert logs[0]["exc_info"] is True


async def test_one_that_takes_too_long_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def credential(address: str) -> str:
        await trio.sleep(60)
        return "late"

    with structlog.testing.capture_logs() as logs, pytest.raises(NoCredential):
        await credential_for(ENDPOINT, credential)
    assert trio.current_time() == ANSWER_WITHIN
    assert logs[0]["reason"] == f"it took longer than {ANSWER_WITHIN:g} s"


async def test_an_endpoint_does_not_rest_for_want_of_a_credential() -> None:
    @contextlib.asynccontextmanager
    async def dial(endpoint: Endpoint) -> AsyncIterator[Any]:
        await trio.lowlevel.checkpoint()
        raise NoCredential("none")
        yield

    endpoints = Endpoints([ENDPOINT], dial)
    for _ in range(2 * FAILURES):
        with pytest.raises(NoCredential):
            async with endpoints.open():
                pass
    assert [state.state for state in endpoints.states()] == [State.CLOSED]


@pytest.mark.parametrize(
    ("credential", "header"),
    [("k", "Token k"), ("Token k", "Token k"), ("Bearer eyJ.a.b", "Bearer eyJ.a.b")],
)
def test_a_key_has_a_scheme_and_a_credential_says_its_own(credential: str, header: str) -> None:
    assert handshake.authorization(credential) == header


@pytest.mark.parametrize(
    ("path", "query", "target"),
    [("", "", "/"), ("", "a=1", "/?a=1"), ("/v1", "a=1&b", "/v1?a=1&b"), ("/v1", "", "/v1")],
)
def test_a_query_is_sent_along(path: str, query: str, target: str) -> None:
    assert handshake.target(path, query) == target


def test_a_function_that_cannot_be_asked_is_refused_at_start_up() -> None:
    def plain(address: str) -> str:
        return "key"

    async def none_wanted() -> str:
        return "key"

    with pytest.raises(ConfigError, match="here: expected an async function, async def credential"):
        check_credential(plain, "here")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="one argument, the address that is dialled"):
        check_credential(none_wanted, "here")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="here: no_such_module cannot be imported"):
        load_credential("no_such_module:credential", "here")

"""asyncio in a function of the user's: seen at start-up, or told plainly in the call."""

import asyncio
import contextlib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from sts_trio import function
from sts_trio.agents.routing import Routing
from sts_trio.call.info import CallInfo
from sts_trio.config import load
from sts_trio.functions import Functions
from sts_trio.functions.attach import attached
from sts_trio.functions.foreign import foreign_to, hint
from sts_trio.functions.runner import FunctionCalls
from sts_trio.observe import events
from sts_trio.wire.deepgram import FunctionToCall

LOCK = asyncio.Lock()
# As if it were installed.
aiohttp = types.ModuleType("aiohttp")


class Session:
    """As if it were aiohttp's."""

    __module__ = "aiohttp.client"


session = Session()


async def sleeps() -> None:
    await asyncio.sleep(0.1)


async def waits_for_a_lock() -> None:
    await LOCK.acquire()
    await LOCK.acquire()


async def has_a_queue() -> None:
    await asyncio.Queue[int]().get()


async def gathers() -> None:
    await asyncio.gather(asyncio.sleep(0))


async def has_a_limit() -> None:
    async with asyncio.timeout(1):
        await trio.lowlevel.checkpoint()


async def asks_for_the_loop() -> None:
    asyncio.get_running_loop()


async def wraps_what_happened() -> None:
    try:
        await asyncio.sleep(0.1)
    except RuntimeError as exc:
        raise ConnectionError("no connection") from exc


async def loses_what_happened() -> None:
    try:
        await asyncio.sleep(0.1)
    finally:
        raise ConnectionError("no connection")


FAIL = [
    sleeps,
    waits_for_a_lock,
    has_a_queue,
    gathers,
    has_a_limit,
    asks_for_the_loop,
    wraps_what_happened,
    loses_what_happened,
]


async def uses_a_library() -> None:
    aiohttp.ClientSession()


async def uses_what_a_library_made() -> None:
    session.get("/")  # type: ignore[attr-defined]


async def imports_a_library() -> None:
    import asyncpg  # type: ignore[import-not-found,unused-ignore] # noqa: F401


async def imports_a_part_of_a_library() -> None:
    from redis.asyncio import Redis  # type: ignore[import-not-found,unused-ignore] # noqa: F401


async def asks_another() -> None:
    await sleeps()


async def asks_in_a_function_of_its_own() -> None:
    async def deeper() -> None:
        await sleeps()

    await deeper()


async def asks_itself() -> None:
    await asks_itself()


async def catches() -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await trio.lowlevel.checkpoint()


async def catches_by_name() -> None:
    from concurrent import futures

    raise futures.CancelledError


def plain() -> None:
    """Wait."""
    asyncio.run(sleeps())


@pytest.mark.parametrize(
    ("run", "library"),
    [
        *((each, "asyncio") for each in FAIL),
        (uses_a_library, "aiohttp"),
        (uses_what_a_library_made, "aiohttp"),
        (imports_a_library, "asyncpg"),
        (imports_a_part_of_a_library, "redis.asyncio"),
        (asks_another, "asyncio"),
        (asks_in_a_function_of_its_own, "asyncio"),
        (asks_itself, None),
        (catches, None),
        (catches_by_name, None),
        (plain, None),
    ],
)
def test_what_needs_asyncio_is_seen_in_the_code(
    run: Callable[..., Any], library: str | None
) -> None:
    assert foreign_to(run) == library


def test_what_a_function_has_from_around_it_is_seen() -> None:
    inner = Session()

    async def run() -> None:
        inner.get("/")  # type: ignore[attr-defined]

    assert foreign_to(run) == "aiohttp"


def test_an_async_function_that_needs_asyncio_gets_a_warning_at_start_up(tmp_path: Path) -> None:
    @function
    async def price() -> None:
        """Tell the price."""
        await asyncio.sleep(0)

    config, _ = attached(load({"STS_AGENT": "offline"}, tmp_path), [price, plain])
    assert config.warnings == (
        "functions: price is async, so it runs on Trio, where asyncio fails: make it a plain def"
        " that calls asyncio.run(…), or take a library that runs on Trio, such as httpx",
    )


async def outcome(run: Callable[..., Any]) -> dict[str, Any]:
    """What the operator is told of a function that has failed."""

    class Host:
        agent = "default"

        async def say(self, text: str, /) -> None: ...
        def pause_recording(self) -> None: ...
        def resume_recording(self) -> None: ...

    told: list[events.OfCall] = []

    def report(event: events.OfCall, /, *, exc_info: BaseException | bool = False) -> None:
        told.append(event)

    done = trio.Event()
    async with trio.open_nursery() as nursery:
        calls = FunctionCalls(
            Functions([run]),
            ["default"],
            Host(),
            nursery,
            lambda _: done.set(),
            report,
        )
        with capture_logs():
            calls.start(FunctionToCall("f1", run.__name__, "{}"))
            await done.wait()
    (failed,) = [each for each in told if isinstance(each, events.FunctionFailed)]
    return failed.fields()


# From Python 3.12 on asyncio warns of the loop that it makes where there is none.
@pytest.mark.filterwarnings("ignore:There is no current event loop:DeprecationWarning")
@pytest.mark.parametrize("run", FAIL)
async def test_in_a_call_the_operator_is_told_plainly_what_to_do(run: Callable[..., Any]) -> None:
    failed = await outcome(run)
    assert failed["hint"] == (
        "an async function runs on Trio, and this needs asyncio: make it a plain def that calls"
        " asyncio.run(…), or take a library that runs on Trio, such as httpx"
    )


async def test_a_plain_function_without_a_loop_is_told_how_to_start_one() -> None:
    def run() -> None:
        asyncio.get_running_loop()

    assert (await outcome(run))["hint"].endswith("start one by asyncio.run(…)")


async def fails_of_itself() -> None:
    raise RuntimeError("no stock")


async def has_nothing() -> None:
    None.get  # type: ignore[attr-defined] # noqa: B018


async def is_of_another_type() -> None:
    raise TypeError("expected a car")


def is_refused() -> None:
    async def refused() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(1)

    asyncio.run(refused())


@pytest.mark.parametrize("run", [fails_of_itself, has_nothing, is_of_another_type, is_refused])
async def test_what_fails_for_another_reason_gets_no_hint(run: Callable[..., Any]) -> None:
    assert "hint" not in await outcome(run)


async def test_who_chooses_the_agent_is_told_too() -> None:
    async def choose_agent(call: CallInfo) -> str:
        await asyncio.sleep(0)
        return "sales"

    with capture_logs() as lines:
        choice = await Routing(["default", "sales"], {}, choose_agent).choose(CallInfo())
        assert choice.agent == "default"
    (line,) = lines
    assert "this needs asyncio" in line["hint"]


def test_a_loop_that_was_closed_is_another_matter() -> None:
    assert hint(RuntimeError("Event loop is closed"), is_async=False) is None

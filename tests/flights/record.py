"""Records the flights of this directory anew: `python tests/flights/record.py [NAME ...]`.

After a change of the dialogue that is meant to change what calls do, and after `sts-trio replay
--diff` has shown that it changes nothing else. The calls of the demonstration take a good minute.
"""

import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from sts_trio.call.api import Call
from sts_trio.call_control import collect_digits
from sts_trio.demo import run as demo
from sts_trio.demo.scenarios import Scenario, scenarios
from sts_trio.functions.decorator import HandOver, function, hand_over
from sts_trio.simulate.phone import Moment
from sts_trio.simulate.transcript import Line
from sts_trio.testing import (
    Agent,
    CallFunction,
    HangUp,
    Keys,
    Server,
    WaitForQuiet,
    call,
    offline_agent,
    running,
    scripted_agent,
)

HERE = Path(__file__).parent
SAYS = "We are open from nine to six, every day but Sunday."
CONFIG = """
[agents.default]
greeting = "Hello!"
think.provider = { type = "open_ai", model = "gpt-4o-mini" }
[agents.sales]
greeting = "This is sales."
think.provider = { type = "open_ai", model = "gpt-4o-mini" }
"""


class Nobody:
    """Follows a call of the demonstration."""

    def watch(self, moment: Moment) -> None:
        pass

    def tell(self, line: Line) -> None:
        pass


@function
def look_up(order: int) -> str:
    """Look an order up."""
    return f"order {order} is on its way"


@function
def to_sales(call: Call) -> HandOver:
    """Put the caller through."""
    return hand_over("sales")


async def a_demo(scenario: Scenario, root: Path) -> None:
    async with offline_agent() as agent, flown(root, agent, demo.VARIABLES) as server:
        await demo.play(scenario, server, agent, Nobody())


async def an_interruption(root: Path) -> None:
    async with scripted_agent(SAYS) as agent, flown(root, agent) as server:
        await call(server.url, ["When are you open?", "And today?"], barge_in_after=1.0)


async def a_function(root: Path) -> None:
    asks = CallFunction("look_up", {"order": 7})
    async with (
        scripted_agent(asks, "It is on its way.") as agent,
        flown(root, agent, functions=[look_up]) as server,
    ):
        await call(server.url, ["Where is my order?"])


async def keys(root: Path) -> None:
    asks = CallFunction("collect_digits", {"most": 4})
    async with (
        scripted_agent(asks, "Thank you.") as agent,
        flown(root, agent, functions=[collect_digits]) as server,
    ):
        quiet = WaitForQuiet(silence=2.0)
        says: list[str | Keys | WaitForQuiet | HangUp]
        says = [WaitForQuiet(), "I have a number.", quiet, Keys("4711"), quiet, HangUp()]
        await call(server.url, says)


async def no_words(root: Path) -> None:
    async with (
        scripted_agent(SAYS) as agent,
        flown(root, agent, {"STS_KEEP_WORDS": "0"}) as server,
    ):
        await call(server.url, ["When are you open?", Keys("12"), "And today?"], barge_in_after=1.0)


async def a_hand_over(root: Path) -> None:
    config = root / "sts-trio.toml"
    config.write_text(CONFIG)
    async with (
        scripted_agent(CallFunction("to_sales", {}), "What would you like?") as agent,
        flown(root, agent, {"STS_CONFIG": str(config)}, [to_sales]) as server,
    ):
        await call(server.url, ["I would like to buy something.", "A car."])


async def silence(root: Path) -> None:
    limits = {"STS_ASK_AFTER_SECONDS": "3", "STS_HANG_UP_AFTER_SECONDS": "3"}
    async with scripted_agent(SAYS) as agent, flown(root, agent, limits) as server:
        await call(server.url, [WaitForQuiet(silence=30.0)])


async def a_loss(root: Path) -> None:
    def watch(moment: Moment) -> None:
        if 3 < moment.seconds < 3.1:
            agent.drop()

    async with scripted_agent(SAYS) as agent, flown(root, agent) as server:
        says: list[str | WaitForQuiet | HangUp]
        says = ["When are you open?", WaitForQuiet(), HangUp()]
        await call(server.url, says, watch=watch)


@asynccontextmanager
async def flown(
    root: Path,
    agent: Agent,
    variables: Mapping[str, str] | None = None,
    functions: Sequence[Callable[..., object]] = (),
) -> AsyncIterator[Server]:
    """A server that keeps the flight of the call that it is left after."""
    given = {"STS_FLIGHT": "all", "STS_FLIGHTS": str(root / "kept"), **(variables or {})}
    async with running(given, agent=agent, functions=functions) as server:
        yield server
        while not kept(root):  # noqa: ASYNC110
            await trio.sleep(0.05)


def kept(root: Path) -> list[Path]:
    return [*root.rglob("*.flight")]


STORIES: dict[str, Callable[[Path], Awaitable[None]]] = {
    **{f"demo-{each.name}": partial(a_demo, each) for each in scenarios()},
    "interruption": an_interruption,
    "function": a_function,
    "keys": keys,
    "no-words": no_words,
    "hand-over": a_hand_over,
    "silence": silence,
    "loss": a_loss,
}


async def record(name: str) -> None:
    root = Path(tempfile.mkdtemp())
    try:
        with trio.fail_after(180):
            await STORIES[name](root)
        [flight] = kept(root)
        shutil.copyfile(flight, HERE / f"{name}.flight")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    for name in sys.argv[1:] or STORIES:
        trio.run(record, name)
        print(f"{name}: {(HERE / f'{name}.flight').stat().st_size} bytes")

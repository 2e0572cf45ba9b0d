"""The built-in functions, on a fake of the call: what they ask of it, and what a model reads."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio

from sts_trio import call_control
from sts_trio.call.info import CallInfo
from sts_trio.errors import StsTrioError
from sts_trio.functions import Functions
from sts_trio.functions.runner import FunctionCalls
from sts_trio.observe import events
from sts_trio.wire import deepgram, deepgram_settings


class FakeCall:
    def __init__(self) -> None:
        self.info = CallInfo(call_sid="CA1")
        self.agent = "default"
        self.done: list[Any] = []

    async def say(self, text: str) -> None:
        raise NotImplementedError

    def pause_recording(self) -> None:
        self.done.append("paused")

    def resume_recording(self) -> None:
        self.done.append("resumed")

    async def hang_up(self) -> None:
        self.done.append("hung up")

    async def transfer(self, number: str) -> None:
        if number != "+15005550006":
            raise StsTrioError(f"{number} is not on the list of numbers to transfer to")
        self.done.append(number)

    async def send_dtmf(self, digits: str) -> None:
        self.done.append(digits)

    async def collect_digits(self, **how: Any) -> str:
        self.done.append(how)
        return "4711"


def _unheard(event: events.OfCall, /, *, exc_info: BaseException | bool = False) -> None:
    """What is told of a function is for others."""


async def run(name: str, **arguments: Any) -> tuple[list[Any], Any]:
    """What was done to the call, and what the agent is told."""
    call = FakeCall()
    told: list[Any] = []
    async with trio.open_nursery() as nursery:
        functions = Functions(["sts_trio.call_control"])
        calls = FunctionCalls(functions, ["default"], call, nursery, told.append, _unheard)
        calls.start(deepgram.FunctionToCall("f1", name, json.dumps(arguments)))
    [answer] = told
    return call.done, json.loads(answer.content)


async def test_the_agent_hangs_up() -> None:
    done, told = await run("hang_up")
    assert done == ["hung up"]
    assert told == {"status": "the call ends as soon as the caller has heard what you say"}


async def test_the_agent_transfers_the_caller() -> None:
    done, told = await run("transfer", number="+15005550006\n")
    assert done == ["+15005550006"]
    assert "as soon as" in told["status"]


async def test_a_number_off_the_list_is_told_to_the_agent() -> None:
    done, told = await run("transfer", number="+15005550009")
    assert done == []
    assert told == {"error": "+15005550009 is not on the list of numbers to transfer to"}


@pytest.mark.parametrize("number", ["15005550006", "+1 500 555", "911", "+0"])
async def test_what_is_no_number_never_reaches_the_call(number: str) -> None:
    done, told = await run("transfer", number=number)
    assert done == []
    assert told["error"].startswith("number: expected `str` matching regex")


async def test_the_agent_presses_keys() -> None:
    assert await run("send_dtmf", digits="12*#\n") == (["12*#"], {"status": "pressed"})


@pytest.mark.parametrize("digits", ["", "12a", "1" * 33, "1 2"])
async def test_what_is_no_key_never_reaches_the_call(digits: str) -> None:
    done, told = await run("send_dtmf", digits=digits)
    assert done == []
    assert told["error"].startswith("digits: ")


async def test_the_agent_gets_what_the_caller_types() -> None:
    done, told = await run("collect_digits", most=4)
    wanted = {"most": 4, "finish": "#", "within": 20.0, "between": 20.0}
    assert done == ["paused", wanted, "resumed"]  # it may be a card's number
    assert told == {"digits": "4711"}


async def test_the_agent_cannot_wait_longer_than_the_function_may_run() -> None:
    done, told = await run("collect_digits", most=33, within=61)
    assert done == ["paused", "resumed"]
    assert told == {"error": "most: expected `int` <= 32; within: expected `float` <= 60.0"}
    collect = Functions(["sts_trio.call_control:collect_digits"]).find("collect_digits", "x")
    assert collect is not None
    assert collect.options.timeout > call_control.LONGEST


def test_what_cannot_be_undone_waits_for_the_end_of_the_turn() -> None:
    deferred = {
        each.name: each.definition().get("defer_until_eot", False)
        for each in Functions(["sts_trio.call_control"])
    }
    assert deferred == {
        "hang_up": True,
        "transfer": True,
        "send_dtmf": True,
        "collect_digits": False,
    }


def test_a_model_reads_what_each_is_for() -> None:
    definitions = Functions(["sts_trio.call_control"]).definitions("default")
    agent = {"think": {"provider": {"type": "open_ai"}, "functions": definitions}}
    deepgram_settings.check_agent(agent)
    for each in definitions:
        assert len(each["description"]) > 50
        for parameter in each["parameters"]["properties"].values():
            assert parameter["description"]


def test_the_functions_stay_callable_by_other_functions() -> None:
    kept: Callable[..., Any] = call_control.hang_up
    assert kept.__name__ == "hang_up"

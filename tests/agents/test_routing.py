"""Who answers, and what travels from the webhook to the stream."""

import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.agents.choice import AgentChoice
from sts_trio.agents.routing import (
    CHOICE_WITHIN,
    ChooseAgent,
    Routing,
    check_chooser,
    load_chooser,
)
from sts_trio.call.info import CallInfo, announced, parameters, streamed
from sts_trio.errors import ConfigError
from sts_trio.observe import events
from sts_trio.wire import twilio, webhook

AGENTS = dict.fromkeys(["default", "sales", "repairs"])
NUMBERS = {
    "+15005550006": "repairs",
    "sip:sales@example.com": "sales",
    "client:sales": "sales",
}


async def chosen(info: CallInfo, function: Any = None) -> tuple[str, list[str]]:
    """The name, and the events that were logged."""
    with structlog.testing.capture_logs() as logs:
        choice = await Routing(AGENTS, NUMBERS, function).choose(info)
    return choice.agent, [line["event"] for line in logs]


def returning(name: Any) -> ChooseAgent:
    async def choose_agent(call: CallInfo) -> Any:
        assert call.call_sid == "CA1"
        await trio.lowlevel.checkpoint()
        return name

    return choose_agent


BIN = CallInfo(call_sid="CA1", to="+15005550006", parameters={"agent": "sales", "x": "y"})
NUMBER = CallInfo(call_sid="CA1", to="+15005550006")


# --- the rules ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "function", "name"),
    [
        (CallInfo(), None, "default"),
        (CallInfo(to="client:ann"), None, "default"),
        (CallInfo(to="sip:+15005550006@example.com;x=y"), None, "repairs"),
        (CallInfo(to="whatsapp:+15005550006"), None, "repairs"),
        (CallInfo(from_="+15005550006", to="+1", direction="outbound-api"), None, "repairs"),
        (CallInfo(from_="+1", to="+15005550006", direction="outbound-api"), None, "default"),
        (CallInfo(from_="+15005550006", to="+1"), None, "default"),
        (CallInfo(to="sip:Sales@Example.com:5060"), None, "default"),
        (CallInfo(to="sip:sales@Example.com:5060"), None, "sales"),
        (CallInfo(to="client:sales"), None, "sales"),
        (NUMBER, None, "repairs"),
        (BIN, None, "sales"),
        (BIN, returning("default"), "default"),
        (CallInfo(agent="repairs", parameters={"agent": "sales"}), returning("x"), "repairs"),
    ],
)
async def test_the_first_rule_that_has_a_name_decides(
    info: CallInfo, function: ChooseAgent | None, name: str
) -> None:
    """What our webhook decided goes before all: it asked everyone it could."""
    assert await chosen(info, function) == (name, [])


@pytest.mark.parametrize("name", ["nobody", None, 5, ["sales"], b"sales", "n" * 500])
async def test_a_choice_of_nobody_known_is_told_and_the_next_rule_decides(name: Any) -> None:
    assert await chosen(BIN, returning(name)) == ("sales", [events.AgentUnknown.NAME])
    assert await chosen(NUMBER, returning(name)) == ("repairs", [events.AgentUnknown.NAME])


async def test_a_choice_of_nothing_leaves_it_to_the_next_rule() -> None:
    assert await chosen(NUMBER, returning("")) == ("repairs", [])


async def test_a_choice_that_fails_is_told_with_its_traceback_and_the_next_rule_decides() -> None:
    async def broken(call: CallInfo) -> str:
        async with trio.open_nursery():
            raise KeyError(call.to)

    with structlog.testing.capture_logs() as logs:
        choice = await Routing(AGENTS, NUMBERS, broken).choose(NUMBER)
    assert choice == AgentChoice("repairs")
    assert [(line["event"], line["log_level"]) for line in logs] == [
        (events.AgentChoiceFailed.NAME, "error")
    ]
    assert logs[0]["exc_info"]


class Panic(BaseException):
    """As libraries in Rust have it."""


@pytest.mark.parametrize("raised", [SystemExit(3), Panic("no")])
async def test_not_even_an_exit_or_a_panic_ends_the_call(raised: BaseException) -> None:
    async def broken(call: CallInfo) -> str:
        raise raised

    assert await chosen(NUMBER, broken) == ("repairs", [events.AgentChoiceFailed.NAME])


async def test_a_choice_that_takes_too_long_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def slow(call: CallInfo) -> str:
        await trio.sleep_forever()
        return "sales"

    assert await chosen(NUMBER, slow) == ("repairs", [events.AgentChoiceFailed.NAME])
    assert trio.current_time() == CHOICE_WITHIN


async def test_a_call_that_is_over_while_choosing_is_no_failure_of_the_choice(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def slow(call: CallInfo) -> str:
        await trio.sleep_forever()
        return "sales"

    with structlog.testing.capture_logs() as logs, trio.move_on_after(1) as scope:
        await Routing(AGENTS, NUMBERS, slow).choose(NUMBER)
    assert scope.cancelled_caught
    assert logs == []


async def test_an_unknown_agent_in_a_parameter_is_told_and_the_default_answers() -> None:
    info = CallInfo(to="+15005550006", parameters={"agent": "nobody"})
    assert await chosen(info) == ("default", [events.AgentUnknown.NAME])


async def test_a_name_from_a_webhook_with_another_configuration_is_told_and_decided_anew() -> None:
    assert await chosen(CallInfo(agent="nobody")) == ("default", [events.AgentUnknown.NAME])


# --- more than a name ---------------------------------------------------------------------------

ANN: Any = {"variables": {"caller_name": "Ann"}}


@pytest.mark.parametrize(
    ("info", "choice", "expected"),
    [
        (NUMBER, AgentChoice("sales", **ANN), AgentChoice("sales", **ANN)),
        (NUMBER, AgentChoice(**ANN), AgentChoice("repairs", **ANN)),
        (BIN, AgentChoice(greeting="Hi!"), AgentChoice("sales", greeting="Hi!")),
        (CallInfo(call_sid="CA1", agent="repairs"), AgentChoice(**ANN), AgentChoice("repairs")),
    ],
)
async def test_what_was_found_out_goes_with_whoever_answers(
    info: CallInfo, choice: AgentChoice, expected: AgentChoice
) -> None:
    assert await Routing(AGENTS, NUMBERS, returning(choice)).choose(info) == expected


async def test_what_was_found_out_for_nobody_is_nothing() -> None:
    with structlog.testing.capture_logs() as logs:
        routing = Routing(AGENTS, NUMBERS, returning(AgentChoice("nobody", **ANN)))
        assert await routing.choose(NUMBER) == AgentChoice("repairs")
    assert [line["event"] for line in logs] == [events.AgentUnknown.NAME]


async def test_what_another_process_has_found_out_is_found_out_again() -> None:
    """It is not for Twilio to carry."""
    announced_ = CallInfo(call_sid="CA1", agent="sales", is_tailored=True)
    info = streamed(start(**parameters(announced_)))
    assert (info.is_tailored, info.parameters) == (True, {})
    for name in ("", "sales"):
        routing = Routing(AGENTS, NUMBERS, returning(AgentChoice(name, **ANN)))
        assert await routing.choose(info) == AgentChoice("sales", **ANN)
    routing = Routing(AGENTS, NUMBERS, returning(AgentChoice("repairs", **ANN)))
    assert await routing.choose(info) == AgentChoice("sales"), "who was announced answers"


@pytest.mark.parametrize(
    "choice",
    [
        AgentChoice("sales", variables={"caller_name": ["Ann"]}),  # type: ignore[dict-item]
        AgentChoice("sales", variables=None),  # type: ignore[arg-type]
        AgentChoice("sales", greeting=5),  # type: ignore[arg-type]
        AgentChoice("sales", settings=[]),  # type: ignore[arg-type]
    ],
)
async def test_a_choice_that_is_none_is_told_and_the_name_stands(choice: AgentChoice) -> None:
    with structlog.testing.capture_logs() as logs:
        routing = Routing(AGENTS, NUMBERS, returning(choice))
        assert await routing.choose(NUMBER) == AgentChoice("sales")
    assert [line["event"] for line in logs] == [events.AgentChoiceFailed.NAME]


async def test_what_does_not_fit_is_told_and_left_out() -> None:
    def fit(name: str, choice: AgentChoice) -> tuple[AgentChoice, list[str]]:
        return AgentChoice(name), ["too small"]

    with structlog.testing.capture_logs() as logs:
        routing = Routing(AGENTS, NUMBERS, returning(AgentChoice(**ANN)), fit)
        assert await routing.choose(NUMBER) == AgentChoice("repairs")
    assert [(line["event"], line["reason"]) for line in logs] == [
        (events.AgentChoiceFailed.NAME, "choose_agent: too small")
    ]


async def test_a_choice_that_takes_too_long_has_the_defaults(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def slow(call: CallInfo) -> AgentChoice:
        await trio.sleep(CHOICE_WITHIN + 1)
        return AgentChoice(**ANN)

    with structlog.testing.capture_logs():
        assert await Routing(AGENTS, NUMBERS, slow).choose(NUMBER) == AgentChoice("repairs")


# --- from the webhook to the stream -------------------------------------------------------------


def start(**given: str) -> twilio.StreamStart:
    return twilio.StreamStart(stream_sid="MZ1", call_sid="CA1", custom_parameters=given)


def test_what_the_webhook_tells_the_stream_is_what_the_stream_brings() -> None:
    voice = webhook.VoiceRequest(
        call_sid="CA1", from_="+15005550001", to="+15005550006", direction="outbound-api"
    )
    info = announced(voice)
    assert streamed(start(**parameters(info))) == CallInfo(
        call_sid="CA1",
        stream_sid="MZ1",
        from_="+15005550001",
        to="+15005550006",
        direction="outbound-api",
    )


def test_what_the_caller_gives_along_reaches_the_stream_and_is_kept_apart() -> None:
    voice = webhook.VoiceRequest(caller_name="ANN", forwarded_from="+15005550003")
    given = {"SipHeader_X-Account": "42", "agent": "sales", "to": "+1", "long": "x" * 500}
    announced_ = announced(voice, given)
    assert announced_.caller_parameters == given
    info = streamed(start(**parameters(announced_)))
    assert (info.caller_name, info.forwarded_from) == ("ANN", "+15005550003")
    assert info.caller_parameters == {"SipHeader_X-Account": "42", "agent": "sales", "to": "+1"}
    assert (info.parameters, info.agent, info.to) == ({}, "", "")


def test_what_is_not_known_is_not_told() -> None:
    assert parameters(announced(webhook.VoiceRequest(direction="inbound"))) == {"webhook": "1"}
    assert streamed(start()) == CallInfo(call_sid="CA1", stream_sid="MZ1", is_from_bin=True)


def test_the_operators_own_parameters_are_kept_apart_from_ours() -> None:
    info = streamed(start(to="+1", line="token", chosen_agent="sales", agent="a", shop="7"))
    assert info.parameters == {"agent": "a", "shop": "7"}
    assert (info.to, info.line, info.agent) == ("+1", "token", "sales")


@given(
    st.builds(CallInfo, from_=st.text(), to=st.text(max_size=600), agent=st.text(), line=st.text())
)
def test_whatever_a_caller_is_called_twilio_takes_the_parameters(info: CallInfo) -> None:
    assert webhook.connect_stream("wss://a/twilio", "https://a/after", parameters=parameters(info))


# --- the user's function ------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory to write `chooser.py` into, which nobody has put on Python's path."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "chooser.py"
    sys.modules.pop("chooser", None)


def test_the_function_is_found_in_the_working_directory(written: Path) -> None:
    written.write_text("async def choose(call):\n    return call.to\n")
    function = load_chooser("chooser:choose", "STS_CHOOSE_AGENT")
    assert trio.run(function, CallInfo(to="sales")) == "sales"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "chooser cannot be imported: ModuleNotFoundError: No module named 'chooser'"),
        ("1 / 0", "chooser cannot be imported: ZeroDivisionError: division by zero (/"),
        (
            "import os\nos.environ['NO_SUCH_']",
            "chooser cannot be imported: KeyError: 'NO_SUCH_' (/",
        ),
        ("raise SystemExit(3)", "chooser cannot be imported: SystemExit: 3 (/"),
        ("def chose(call): ...", "there is no choose in chooser (/"),
        ("choose = 5", "expected an async function, async def choose_agent(call: CallInfo)"),
        ("def choose(call): ...", "expected an async function"),
        ("async def choose(): ...", "expected a function of one argument, the call: too many"),
        ("async def choose(a, b): ...", "expected a function of one argument, the call: missing"),
    ],
)
def test_what_cannot_be_asked_is_named_with_the_reason(
    text: str | None, reason: str, written: Path
) -> None:
    if text is not None:
        written.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_chooser("chooser:choose", "STS_CHOOSE_AGENT")
    assert str(caught.value).startswith(f"STS_CHOOSE_AGENT: {reason}")


async def test_an_object_may_be_the_function_and_a_partial_too() -> None:
    class Chooser:
        async def __call__(self, call: CallInfo) -> str:
            return "sales"

    async def choose(name: str, call: CallInfo) -> str:
        return name

    for function in (Chooser(), functools.partial(choose, "sales")):
        assert await check_chooser(function, "choose_agent")(CallInfo()) == "sales"

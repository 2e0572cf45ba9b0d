"""Which of the configured agents answers a call.

The rules, in order: the user's own `choose_agent`, then `<Parameter name="agent">`, then the
number of ours, then the agent named `default`. A call that came by `/twiml` was decided there, and
its stream brings the name along; one that came by a TwiML Bin is decided when its stream starts.

What a stream brings along is believed: Twilio's handshake is signed, and what it carries was
written by this server, or by the operator into a Bin of theirs. A softphone, let in by a stream
token, writes it itself, and so chooses among the configured agents.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping

import msgspec
import trio

from sts_trio.agents import user_functions
from sts_trio.agents.choice import AgentChoice
from sts_trio.call.info import NAMED, CallInfo
from sts_trio.config import Config
from sts_trio.functions import foreign
from sts_trio.net.raised import OnlyExceptions
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.wire import addresses

DEFAULT = "default"
# A caller waits meanwhile, in silence or while it rings.
CHOICE_WITHIN = 2.0


# Letters kept of a name that is none.
_MAX_NAME = 100

ChooseAgent = Callable[[CallInfo], Awaitable[str | AgentChoice]]
# What was chosen for the agent of that name, as far as it can be had, and why not all of it.
Fit = Callable[[str, AgentChoice], tuple[AgentChoice, list[str]]]


def as_it_is(name: str, choice: AgentChoice) -> tuple[AgentChoice, list[str]]:
    return msgspec.structs.replace(choice, agent=name), []


class Routing:
    """`agents` are the names there are; `numbers` is {address of ours: name of an agent}. `fit`
    tells what of a choice an agent can have."""

    def __init__(
        self,
        agents: Collection[str],
        numbers: Mapping[str, str],
        choose_agent: ChooseAgent | None = None,
        fit: Fit = as_it_is,
    ) -> None:
        self._fit = fit
        self._agents = agents
        self._numbers = numbers
        self._choose_agent = choose_agent

    async def choose(self, info: CallInfo) -> AgentChoice:
        """Who answers this call, always one that there is, and how.

        Takes `CHOICE_WITHIN` at most, as far as the user's function lets itself be cancelled.
        """
        if self._knows(info, info.agent, "our webhook"):
            if self._choose_agent is None or not info.is_tailored:
                return AgentChoice(info.agent)
            # Another process was asked, and what it found out is not for Twilio to carry.
            choice = await self._ask(self._choose_agent, info)
            is_his = choice.agent in ("", info.agent)
            return self._fitted(info, info.agent, choice if is_his else AgentChoice())
        choice = AgentChoice()
        if self._choose_agent is not None:
            choice = await self._ask(self._choose_agent, info)
            if self._knows(info, choice.agent, "choose_agent"):
                return self._fitted(info, choice.agent, choice)
            if choice.agent != "":
                choice = AgentChoice()  # it was meant for somebody else
        return self._fitted(info, self._by_call(info), choice)

    def _fitted(self, info: CallInfo, name: str, choice: AgentChoice) -> AgentChoice:
        if not choice.is_tailored:
            return AgentChoice(name)
        fitted, reasons = self._fit(name, choice)
        for reason in reasons:
            report(events.AgentChoiceFailed(info.call_sid, f"choose_agent: {reason}"))
        return fitted

    def _by_call(self, info: CallInfo) -> str:
        named = info.parameters.get(NAMED, "")
        if named:
            return named if self._knows(info, named, "<Parameter>") else DEFAULT
        return addresses.look_up(self._numbers, info.parties.ours, DEFAULT)

    async def _ask(self, choose_agent: ChooseAgent, info: CallInfo) -> AgentChoice:
        """The boundary to the user's code: whatever goes wrong in it, the call is answered."""
        answer: object = ""
        try:
            with trio.move_on_after(CHOICE_WITHIN) as patience, OnlyExceptions():
                answer = await choose_agent(info)
            if patience.cancelled_caught:
                reason = f"choose_agent took longer than {CHOICE_WITHIN:g} s"
                report(events.AgentChoiceFailed(info.call_sid, reason))
        except Exception as exc:
            hint = foreign.hint(exc, is_async=True)
            failed = events.AgentChoiceFailed(info.call_sid, "choose_agent failed", hint)
            report(failed, exc_info=True)
        if not isinstance(answer, AgentChoice):
            return AgentChoice(answer)  # type: ignore[arg-type]  # it may be anything
        try:
            return msgspec.convert(msgspec.structs.asdict(answer), AgentChoice)
        except msgspec.ValidationError as exc:
            reason = f"choose_agent: an AgentChoice that is none: {exc}"
            report(events.AgentChoiceFailed(info.call_sid, reason))
            return AgentChoice(answer.agent)

    def _knows(self, info: CallInfo, name: object, source: str) -> bool:
        if isinstance(name, str) and name in self._agents:
            return True
        if name != "":
            report(events.AgentUnknown(info.call_sid, str(name)[:_MAX_NAME], source))
        return False


# --- the user's function ------------------------------------------------------------------------


def configured_chooser(config: Config, given: ChooseAgent | None) -> ChooseAgent | None:
    """What is `given` in code goes before what is configured.

    Raises:
        ConfigError: it is not one that can be asked.
    """
    if given is not None:
        check_chooser(given, "choose_agent")
        return given
    if config.choose_agent is not None:
        return load_chooser(config.choose_agent, config.where("STS_CHOOSE_AGENT"))
    return None


def load_chooser(path: str, where: str) -> ChooseAgent:
    """The function at `path`, "module:function"; `where` is what to name in a mistake.

    Raises:
        ConfigError: there is no such function, or it is not one that can be asked.
    """
    function: ChooseAgent = user_functions.load(path, where)
    return check_chooser(function, where)


def check_chooser(function: ChooseAgent, where: str) -> ChooseAgent:
    """
    Raises:
        ConfigError: it is not an async function that takes a call.
    """
    expected = "async def choose_agent(call: CallInfo) -> str, or an AgentChoice"
    user_functions.check(function, where, expected, CallInfo(), "the call")
    return function

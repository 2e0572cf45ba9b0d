"""Who answers a call, and how: what was chosen for it, and the `Settings` that come of that. Pure.

What a function of the user's answers may be wrong in every way, and a caller waits. So what is of
no use is left out and told, and the call is answered with the rest.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sts_trio.config.agents import AgentSettings
from sts_trio.config.templates import filled
from sts_trio.wire import deepgram_settings, legacy
from sts_trio.wire.dialect import Dialect

# Letters of a variable's value: what is known of an account. What is longer is a prompt.
MAX_VALUE = 2000


class AgentChoice(msgspec.Struct, frozen=True):
    """Who answers a call, and how: for `choose_agent` to return where a name alone would not do.

    `agent` is the name; "" leaves that to number and default. `variables` are for what stands in
    braces in prompts and greetings; one that is None or not given has its configured default.
    `greeting` takes the place of the configured one. `settings`, in Deepgram's words, go over the
    agent's own, table by table. Nothing that stands in these is a template.
    """

    agent: str = ""
    variables: dict[str, str | int | float | None] = {}
    greeting: str | None = None
    settings: dict[str, Any] = {}

    @property
    def is_tailored(self) -> bool:
        """Whether it is more than a name."""
        return bool(self.variables or self.settings) or self.greeting is not None


class ConfiguredAgents:
    """The agents by name, and by the same names what stands beside each in its `Settings`, and the
    defaults of its variables."""

    def __init__(
        self,
        agents: Mapping[str, AgentSettings],
        sessions: Mapping[str, dict[str, Any]],
        variables: Mapping[str, Mapping[str, str]],
        dialect: Dialect,
    ) -> None:
        self._agents = agents
        self._sessions = sessions
        self._variables = variables
        self._dialect = dialect

    def __contains__(self, name: str) -> bool:
        return name in self._agents

    def settings(
        self,
        name: str,
        choice: AgentChoice,
        history: Sequence[dict[str, Any]] = (),
        *,
        greets: bool = True,
    ) -> deepgram_settings.Settings:
        """Of an agent that talks in a call for which that was chosen: be it the one that was, or
        another, which knows the variables alone."""
        agent = deepgram_settings.resumed(self._agent(name, choice), [*history], greets=greets)
        return deepgram_settings.phone_settings(agent, self._sessions[name])

    def fitted(self, name: str, choice: AgentChoice) -> tuple[AgentChoice, list[str]]:
        """What was chosen for the agent of that name, as far as it can be had, and why not all."""
        known = {variable for each in self._variables.values() for variable in each}
        reasons = []
        variables: dict[str, str | int | float | None] = {}
        for variable, value in choice.variables.items():
            text = str(value).encode(errors="replace").decode()
            if variable not in known:
                reasons.append(f"{{{variable[:64]}}} is no variable of any agent")
            elif len(text) > MAX_VALUE:
                reasons.append(f"{{{variable}}}: expected {MAX_VALUE} letters at most")
            elif value is not None:
                variables[variable] = text
        fit = msgspec.structs.replace(choice, agent=name, variables=variables)
        if (fit.settings or fit.greeting is not None) and (reason := self._refusal(name, fit)):
            reasons.append(reason)
            fit = msgspec.structs.replace(fit, greeting=None, settings={})
        return fit, reasons

    def _agent(self, name: str, choice: AgentChoice) -> AgentSettings:
        agent = self._agents[name]
        if isinstance(agent, str):
            return agent
        defaults = self._variables[name]
        agent = filled(
            agent, {each: str(choice.variables.get(each, defaults[each])) for each in defaults}
        )
        if name == choice.agent:
            agent = _over(agent, choice.settings)
            if choice.greeting is not None:
                agent = {**agent, "greeting": choice.greeting}
        return agent

    def _refusal(self, name: str, choice: AgentChoice) -> str | None:
        """Why Deepgram would not take that agent with that greeting and those settings."""
        agent = self._agent(name, choice)
        if isinstance(agent, str):
            return (
                "a stored agent is used as it is stored, without a greeting or settings of a call"
            )
        try:
            deepgram_settings.read_agent(agent)
            msgspec.json.encode(agent)
            if self._dialect is Dialect.LEGACY:
                legacy.encode(self.settings(name, choice))
        except (
            msgspec.MsgspecError,
            TypeError,
            ValueError,
            RecursionError,
            legacy.Untranslatable,
        ) as exc:
            return f"{type(exc).__name__}: {exc}"
        return None


def _over(below: Any, above: Any) -> Any:
    """Tables go into one another, and into each of a list of fallbacks; all else is replaced."""
    if not isinstance(above, dict):
        return above
    if isinstance(below, list):
        return [_over(each, above) for each in below]
    if not isinstance(below, dict):
        return above
    return {**below, **{key: _over(below.get(key), value) for key, value in above.items()}}

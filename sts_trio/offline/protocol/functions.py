"""The functions a scripted agent may have its client run, and those that are being run. Pure."""

import msgspec

from sts_trio.offline.protocol.script import CallFunction
from sts_trio.wire import deepgram, deepgram_settings


class Functions:
    """`session` makes the ids of calls other ones than those of the session before."""

    def __init__(self, session: str = "") -> None:
        self._session = f"{session[:8]}_" if session else ""
        self._known: dict[str, deepgram_settings.Function] = {}  # {name: as configured}
        self._running: dict[str, deepgram.CalledFunction] = {}  # {id: without its response}
        self._count = 0

    def configure(
        self, think: deepgram_settings.Think | list[deepgram_settings.Think] | None
    ) -> None:
        """Replaces what is known by what this block, or the first of these, defines."""
        first = (think[0] if think else None) if isinstance(think, list) else think
        self._known = {each.name: each for each in (first and first.functions) or []}

    def get(self, name: str) -> deepgram_settings.Function | None:
        return self._known.get(name)

    @property
    def ours(self) -> set[str]:
        """The names of those that the client runs."""
        return {name for name, function in self._known.items() if function.endpoint is None}

    def call(self, line: CallFunction) -> deepgram.FunctionCallRequest:
        """The client is to run this; `finish` takes its answer.

        Of the arguments it gets those that it has parameters for, if it tells of any.
        """
        self._count += 1
        function = self._known.get(line.name)
        known = function.parameters.get("properties") if function is not None else None
        given = line.arguments
        if isinstance(known, dict):
            given = {name: value for name, value in given.items() if name in known}
        arguments = msgspec.json.encode(given).decode()
        call = deepgram.CalledFunction(
            id=f"call_{self._session}{self._count}",
            name=line.name,
            client_side=True,
            arguments=arguments,
            response="",
        )
        self._running[call.id] = call
        asked = deepgram.FunctionToCall(call.id, call.name, call.arguments)
        return deepgram.FunctionCallRequest((asked,))

    def finish(self, result: deepgram.FunctionResult) -> deepgram.CalledFunction | None:
        """The call with its response; None if it was cancelled meanwhile, or never made."""
        call = self._running.pop(result.id, None)
        return call and msgspec.structs.replace(call, response=result.content)

    def cancel(self) -> deepgram.FunctionCallCancelled | None:
        """Voids all that is running; None if nothing is."""
        cancelled = tuple(
            deepgram.CancelledFunction(call.id, call.name) for call in self._running.values()
        )
        self._running.clear()
        return deepgram.FunctionCallCancelled(cancelled) if cancelled else None

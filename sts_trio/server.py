"""The process: what it has and runs as long as it lives. Knows no HTTP.

Theory of operation
-------------------
`run` opens what lasts, in order, and closes it in the opposite order once `stop` has been called;
by then every call is over. A call comes by four methods, whoever brings it: `announce` when it is
known that it will come, or `refuse`; `run_call` from its socket to its end. What happens in a call
meanwhile goes to `live_calls.event_feed`.
"""

import contextlib
import functools
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import CodeType
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from sts_trio.agents.choice import ConfiguredAgents
from sts_trio.agents.connections import AgentConnections
from sts_trio.agents.credentials import AskCredential, configured_credential, credential_for
from sts_trio.agents.endpoints import AgentLeg, Endpoint, configured_endpoints
from sts_trio.agents.offline_agent import check_offline_agent, start_offline_agent
from sts_trio.agents.routing import ChooseAgent, Routing, configured_chooser
from sts_trio.agents.sessions import AgentSessions
from sts_trio.agents.versions import versions
from sts_trio.bridge.collector import Collector
from sts_trio.bridge.live_calls import LiveCalls
from sts_trio.bridge.run import Bridge
from sts_trio.call.info import CallInfo, is_from_bin, was_elsewhere
from sts_trio.config import AgentKind, Config, local_key
from sts_trio.errors import Cause, Ending
from sts_trio.flight.keeper import Flights
from sts_trio.flight.recorder import Given
from sts_trio.functions.attach import attached
from sts_trio.functions.registry import HOOK
from sts_trio.legs.caller_asgi import TURNS_AT_ONCE, WEIGHT
from sts_trio.legs.contract import OpenCaller
from sts_trio.legs.handshake import open_agent
from sts_trio.logic.dialogue import Dialogue, SettingsWanted, any_call, no_call
from sts_trio.moves.lookout import Lookout
from sts_trio.moves.moved_calls import MovedCalls, may_come_back
from sts_trio.moves.mover import Mover
from sts_trio.net import hypercorn_guard, tls
from sts_trio.net.bound import Bound
from sts_trio.net.poller import Poller
from sts_trio.net.signals import deadly_signals, die_of
from sts_trio.net.ticker import Ticker
from sts_trio.observe import events
from sts_trio.observe.figures import Figures
from sts_trio.observe.kept import KeptEvents
from sts_trio.observe.report import report
from sts_trio.observe.tasks import TaskState, TaskWatch
from sts_trio.observe.watch import LoopWatch, codes
from sts_trio.outbound.dialler import Dialler
from sts_trio.outbound.transfer import PhoneCalls
from sts_trio.outbound.twilio_rest import TwilioRest
from sts_trio.records.ending_hook import hooks_in
from sts_trio.records.identity import Identity
from sts_trio.records.kept_calls import KeptCalls
from sts_trio.records.recorded_leg import recorded
from sts_trio.records.spool import left_behind
from sts_trio.records.tracing import tracing
from sts_trio.wire import deepgram_settings
from sts_trio.wire.dialect import can_say, language
from sts_trio.wire.twilio import StreamStart

if TYPE_CHECKING:
    from sts_trio.records.opening import OpenRecords
    from sts_trio.records.shared import Shared

# What a call takes to hang up on both its peers, whatever they do.
GOODBYE = 2.0
# Twilio speaks about 15 letters a second, and the stream begins only then. A longer notice would
# outlast the agent that is dialled ahead.
LONGEST_NOTICE = 200


class Server:
    """`live_calls` knows the live calls, `key` lets this machine in. While it runs, `records` keeps
    what happens in calls, unless nothing is to be kept.

    Raises:
        ConfigError: a function is not fit for an agent, `choose_agent` or `credential` not for its
            task, or the offline agent cannot be had as configured.
    """

    def __init__(
        self,
        config: Config,
        functions: Iterable[Callable[..., Any] | str] = (),
        choose_agent: ChooseAgent | None = None,
        credential: AskCredential | None = None,
    ) -> None:
        check_offline_agent(config)
        choose_agent = configured_chooser(config, choose_agent)
        self._credential = configured_credential(config, credential)
        given = list(functions)
        self.config, self.functions = attached(config, given)
        named = [*config.functions, *(each for each in given if isinstance(each, str))]
        hooks = hooks_in(named, config.where("STS_FUNCTIONS"))
        self._has_hooks = bool(hooks)
        self._agents = ConfiguredAgents(
            self.config.agents, self.config.sessions, self.config.variables, self.config.dialect
        )
        # With Twilio's token this machine is trusted no more than any other.
        self.key = None if config.twilio_auth_tokens else local_key.mint()
        self.key_is_told = False  # the caller of `run` tells the operator the page's address itself
        self.live_calls = LiveCalls(config.max_calls)
        self.figures = Figures([function.name for function in self.functions])
        self.live_calls.event_feed.listen(self.figures.hear)
        self._tracing = tracing(self.config, [function.name for function in self.functions])
        if self._tracing is not None:
            self.live_calls.event_feed.listen(self._tracing.traces.hear)
        self.twilio = TwilioRest.of(config)
        self.phone_calls = PhoneCalls(config, lambda: self.twilio)
        self._identity = Identity(config.records.process_name, config.max_calls)
        agents = functools.partial(versions, self.config, self.functions)
        self._kept_calls = KeptCalls(
            config.records,
            agents,
            hooks,
            lambda process_id: self._identity.told(process_id, self.live_calls),
            on_recorded=self.figures.recorded,
        )
        self._flights = Flights(
            config.records,
            program=self._identity.version,
            agents=agents,
            sensitive=[each.name for each in self.functions if each.options.sensitive],
        )
        self.dialler = Dialler(
            config,
            self.twilio,
            self.live_calls,
            on_placed=self._kept_calls.announced,
            shared=lambda: self.shared,
        )
        self.watch = LoopWatch(self._users_code(choose_agent))
        self._task_watch = TaskWatch()
        self.collector = Collector()
        self.poller = Poller()
        self.ticker = Ticker(self.poller)
        self.portable_ticker = Ticker(turns_at_once=TURNS_AT_ONCE, weight=WEIGHT)
        self.agent_connections = AgentConnections(
            configured_endpoints(config),
            self._dial,
            Routing(config.agents, config.numbers, choose_agent, self._agents.fitted),
            self._first_settings,
            max_calls=config.max_calls,
            live=lambda: self.live_calls.live,
            sessions=AgentSessions(config.agent_sessions, lambda: self.shared),
        )
        self._moved_calls: MovedCalls | None = None
        self._key_files = contextlib.ExitStack()
        self._scope = trio.CancelScope()
        self._knows_its_end = trio.Event()
        self._terminated: Callable[[], Awaitable[object]]
        self._has_stopped = trio.Event()

    @property
    def records(self) -> "OpenRecords | None":
        """None until they are open, and where nothing is to be kept."""
        return self._kept_calls.records

    @property
    def shared(self) -> "Shared | None":
        """What other processes on the database know, and are asked about."""
        return None if self.records is None else self.records.shared

    @property
    def moved_calls(self) -> MovedCalls | None:
        """Goes on with other processes' calls, where there is a database to know them by."""
        records = self.records
        if self._moved_calls is None and records is not None:
            left = functools.partial(left_behind, self.config.records.spool)
            mover = Mover(records.store, records.process_id, left)
            lookout = Lookout(
                mover,
                lambda: self.twilio,
                left=lambda: records.writer.left,
                may_take=lambda: self.live_calls.takes_calls,
                base=self.config.public_url,
            )
            self._moved_calls = MovedCalls(
                mover, lookout, self._agents, self.agent_connections, lambda: records.writer.others
            )
        return self._moved_calls

    def has_successor(self) -> bool:
        """Whether somebody would go on with a call of this process's now."""
        moved_calls = self.moved_calls
        if moved_calls is None:
            return False
        is_there = moved_calls.with_most_room() is not None
        return is_there or self.config.restarts or self.live_calls.has_heir

    async def open_records(self) -> None:
        """What is kept of calls is opened before they come, unless it is open already.

        Raises:
            ConfigError: the database, or the directory of recordings, cannot be used.
        """
        await self._kept_calls.open()

    # --- the process ----------------------------------------------------------------------------

    async def run(
        self,
        bounds: Sequence[Bound] = (),
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Runs what lasts, until `stop`; `task_status.started()` once calls may come.

        `bounds` are the addresses it listens on, as far as they are known. Run it once.

        Raises:
            ConfigError: as `open_records`, unless that was called before.
        """
        self._identity.listens_at(bounds)
        if self._has_hooks and self.config.records.database_url is None:
            report(events.ConfigWarning(f"{HOOK} takes a database, and STS_DATABASE_URL is none"))
        for warning in self.config.warnings:
            report(events.ConfigWarning(warning))
        # Two sockets, and the file of the recording.
        each = 3 if self.config.records.are_recorded else 2
        hypercorn_guard.raise_limit(self.config.max_calls, each)
        if any(each.is_secure for each in self.agent_connections.endpoints):
            tls.trusted()  # it takes long to build, and later there are calls
        try:
            await self.open_records()
            with self._scope, self._key_files:
                async with trio.open_nursery() as nursery:
                    await self._start(nursery)
                    self.collector.start()
                    # Not before: until here nobody waits for the loop.
                    nursery.start_soon(self.watch.run)
                    if self.key is not None:
                        self._tell_key(self.key, bounds)
                    report(
                        events.ServerStarted(
                            agent=self.config.agent.value,
                            endpoints=[each.address for each in self.agent_connections.endpoints],
                            agents=list(self.config.agents),
                            functions=[function.name for function in self.functions],
                        )
                    )
                    task_status.started()
        finally:
            self._has_stopped.set()

    async def _start(self, nursery: trio.Nursery) -> None:
        """The tasks that last; an offline agent of our own too, if it answers."""
        await self._kept_calls.start(nursery, self.live_calls.event_feed)
        if self.moved_calls is not None:
            await nursery.start(self.moved_calls.lookout.run)
        # From the start: a task that came with the first call would be left of it.
        nursery.start_soon(self._shut_down_at_the_end)
        await nursery.start(self._flights.run)
        nursery.start_soon(self._task_watch.run)
        nursery.start_soon(self.ticker.run)
        nursery.start_soon(self.portable_ticker.run)
        nursery.start_soon(self.poller.run)
        nursery.start_soon(self.collector.run)
        await nursery.start(self.dialler.run)
        await nursery.start(self.phone_calls.run)
        if deadly := deadly_signals():
            nursery.start_soon(self._handle_signals, deadly)
        if self.config.agent is AgentKind.OFFLINE:
            self.agent_connections.endpoints = [await start_offline_agent(nursery, self.config)]
        await nursery.start(self.agent_connections.run)

    def _tell_key(self, key: str, bounds: Sequence[Bound]) -> None:
        """Tells the key to the operator who started the server, and to this user's commands."""
        addresses = [(bound.host, bound.port) for bound in bounds]
        self._key_files.enter_context(local_key.published(key, addresses))
        if not self.key_is_told:
            base = bounds[0].url if bounds else "http://WHERE-IT-LISTENS"
            report(events.PageAddress(local_key.page_url(base, key)))

    async def stop(self) -> None:
        """Ends what `run` runs, and returns when all of it is closed."""
        await self.phone_calls.settle()
        await self._kept_calls.finish(GOODBYE)
        await self._flights.flush(GOODBYE)
        await self.agent_connections.aclose()
        if self._tracing is not None:
            await self._tracing.aclose(GOODBYE)
        self._scope.cancel()
        await self._has_stopped.wait()

    def shut_down_after(self, terminated: Callable[[], Awaitable[object]]) -> None:
        """Hangs up on everyone when `terminated` returns. While it runs; of many, the first counts.

        Under plain `hypercorn` that is the only word of a shutdown, and seconds later it cuts. Each
        connection has it, and it is the same for all: one task waits for it, and not one a call.
        """
        if not self._knows_its_end.is_set():
            self._terminated = terminated
            self._knows_its_end.set()

    async def _shut_down_at_the_end(self) -> None:
        await self._knows_its_end.wait()
        await self._terminated()
        self.shut_down()

    def shut_down(self) -> None:
        """Takes no more calls, and hangs up on everyone: both sockets of each close with 1001. If
        somebody would go on with them, they are moved instead, all at once."""
        self.live_calls.shut_down(moves=self.has_successor())
        self.agent_connections.shut_down()

    async def _handle_signals(self, deadly: Sequence[signal.Signals]) -> None:
        """Hangs up on everyone before the process dies as it would have died."""
        with trio.open_signal_receiver(*deadly) as signals:
            first = signal.Signals(await anext(signals))
            report(events.ServerDraining(self.live_calls.live, first.name))
            self.shut_down()
            with trio.move_on_after(GOODBYE):
                await self.live_calls.empty()
        await self._kept_calls.flush(GOODBYE)
        await self._flights.flush(GOODBYE)
        self._key_files.close()
        die_of(first)

    async def tasks(self, top: trio.lowlevel.Task | None = None) -> list[TaskState]:
        """The tasks from the `top` one down, or all of the process; those of calls are told."""
        calls = self.live_calls.calls
        call_sids = {call.task: call.dialogue.call_sid for call in calls if call.task is not None}
        return await self._task_watch.look(top, call_sids)

    # --- a call ---------------------------------------------------------------------------------

    async def announce(self, call: CallInfo, *, is_over: bool) -> CallInfo:
        """A call whose stream is about to come: who answers it, and what its stream brings along.

        The agent is dialled while the phone still rings, unless the call `is_over` already.
        """
        name = await self.agent_connections.choose(call)
        is_tailored = self.agent_connections.choice(call.call_sid).is_tailored
        call = msgspec.structs.replace(call, agent=name, is_tailored=is_tailored)
        is_soon = len(self.config.notice or "") <= LONGEST_NOTICE
        if self.config.dial_ahead and is_soon and not is_over:
            line = self.agent_connections.dial_ahead(call.agent, call)
            call = msgspec.structs.replace(call, line=line)
        self._kept_calls.announced(call)
        return call

    def refuse(self, call: CallInfo | None = None) -> None:
        """A call for which there is no room. None: nothing is known of it."""
        call_sid = None if call is None else call.call_sid
        self.figures.refused("draining" if self.live_calls.is_draining else "full")
        report(events.CallRefused(self.live_calls.live, call_sid))
        if call is not None:
            self._kept_calls.refused(call, self.live_calls.status)

    async def run_call(
        self,
        open_caller: OpenCaller,
        *,
        is_expected: Callable[[str], bool] = any_call,
        is_phone: bool = True,
    ) -> None:
        """Runs one call to its end. It is live before the first checkpoint.

        `is_expected` is asked about the CallSid with which the stream starts. A softphone
        (`is_phone` is false) writes that itself: it is to end no phone call by it.
        """
        # Without Twilio's token there is no phone, but somebody on this machine who plays one.
        has_phones = bool(self.config.twilio_auth_tokens) or self.config.allow_unsigned
        self.collector.note_begin()
        kept = KeptEvents(self.live_calls.event_feed)
        recording = self._kept_calls.recording()
        given: Given = {
            "is_expected": is_expected,
            "forward": self.config.forward,
            "now": trio.current_time(),
            "policy": self.config.policy,
            "can_say": functools.partial(can_say, self.config.dialect),
            "needs_release": _is_from_bin if is_phone and has_phones else no_call,
            "was_elsewhere": was_elsewhere if is_phone and self.moved_calls else no_call,
            "may_come_back": may_come_back if is_phone and has_phones else no_call,
        }
        flight = self._flights.record(self._settings_for, **given)
        call = Bridge(
            Dialogue(self._settings_for, **given) if flight is None else flight.dialogue,
            open_caller,
            self.agent_connections,
            functions=self.functions,
            hands_over_to=self.config.agents,
            may_transfer=self.config.may_transfer,
            release_phone_call=self.phone_calls.release,
            log_transcripts=self.config.log_transcripts,
            tell=kept.tell,
            on_start=lambda info: self._kept_calls.started(info, recording),
            on_hang_up=self.live_calls.remember,
            make_safe=self._kept_calls.make_safe,
            make_known=self._kept_calls.make_known,
            recording=recording,
            wrap_leg=lambda leg: leg if recording is None else recorded(leg, recording),
            recall=None if self.moved_calls is None else self.moved_calls.recall,
        )
        # The boundary: quart-trio 0.12 drops the real error from a group that also holds
        # `Cancelled`, so no group of ours may reach it.
        try:
            with self.live_calls.admit(call, kept):
                await call.run()
        except* Exception:
            call.reports.report(events.CallCrashed(), exc_info=True)
        except* trio.Cancelled:
            pass  # raised anew, alone: in a group, Quart and Hypercorn leave it in cycles of theirs
        finally:
            if recording is not None:
                recording.end()
            if flight is not None:
                self._flights.end(flight, call.ending or Ending(Cause.CRASHED))
        self.agent_connections.forget(call.dialogue.call_sid)
        self.collector.note_end(self.live_calls.live, trio.current_time())
        await trio.lowlevel.checkpoint_if_cancelled()

    @property
    def name(self) -> str:
        """What this process is called where several share a database."""
        return self._identity.name

    @property
    def name_in_fleet(self) -> str | None:
        """The same, if this process is one of several, as its name says or the database knows."""
        others = () if self.records is None else self.records.writer.others
        is_one_of_several = self._identity.is_named or any(each.is_alive for each in others)
        return self.name if is_one_of_several else None

    def _users_code(self, choose_agent: ChooseAgent | None) -> dict[CodeType, str]:
        """What runs in the loop and is not ours, and how it is called."""
        named: dict[str, Callable[..., object]] = {
            function.name: function.run for function in self.functions
        }
        if choose_agent is not None:
            named["choose_agent"] = choose_agent
        if self._credential is not None:
            named["credential"] = self._credential
        return codes(named)

    # --- its agent ------------------------------------------------------------------------------

    def _settings_for(self, wanted: SettingsWanted) -> deepgram_settings.Settings:
        choice = self.agent_connections.choice(wanted.start.start.call_sid)
        return self._agents.settings(wanted.agent, choice, wanted.history, greets=wanted.greets)

    def _first_settings(self, agent: str, info: CallInfo) -> deepgram_settings.Settings:
        """The same, before the call has begun."""
        return self._agents.settings(agent, self.agent_connections.choice(info.call_sid))

    @contextlib.asynccontextmanager
    async def _dial(self, endpoint: Endpoint) -> AsyncIterator[AgentLeg]:
        credential = await credential_for(endpoint, self._credential)
        spoken = language(self.config.dialect)
        began = trio.current_time()
        async with open_agent(endpoint.url, credential, spoken, self.poller) as leg:
            self.figures.dialled(trio.current_time() - began)
            yield leg


def _is_from_bin(start: StreamStart) -> bool:
    """A call that our webhook answered comes back to it when its stream ends. Any other goes on
    with the TwiML that started the stream, unless the REST API is asked before."""
    return bool(start.call_sid) and is_from_bin(start)

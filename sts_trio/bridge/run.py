"""One phone call: the only nurseries and deadlines, and the acts of the dialogue performed.

Theory of operation
-------------------
A call is one nursery. Its own task is the timer. In it run the two legs, each the only owner of its
socket and each with a listener and a speaker, and the functions that the agent has called. The legs
are siblings, so that a caller's socket that is stuck keeps nothing of the agent's alive. The
agent's leg may be dropped and another one opened while the call goes on: each is an `AgentSession`,
and the call hears only the newest.

Listeners and timer call `_hear`, which is synchronous: between two checkpoints nothing else runs,
so there is no lock, and no task in the middle. Acts never wait either: messages go into an outbox,
one for each leg, and its speaker sends them.

Hanging up is a goodbye with a deadline. Both outboxes are closed; each speaker sends what is left,
then a close frame with the ending's code for its leg. Whatever the peers do, `HANG_UP_GRACE` later
the nursery's cancel scope ends every task, and a leg that is cancelled drops its socket. Dialling
has no goodbye to say and is abandoned at once.

A phone call that our webhook did not answer is released first: Twilio is asked to end or transfer
it while its stream is open, as behind that the next verb of somebody else's TwiML runs. What comes
of it is heard by the dialogue like anything else.

A bug is an exception in a listener, a speaker or the timer. It ends this call alone: logged with
its traceback, 1011 to both sides.
"""

import functools
from collections.abc import Awaitable, Callable, Collection, Sequence
from math import inf
from typing import assert_never

import trio

from sts_trio.bridge.alarm import Alarm
from sts_trio.bridge.boundary import Boundary
from sts_trio.bridge.leg_tasks import (
    HANG_UP_GRACE,
    Agents,
    AgentSession,
    Ear,
    caller_outbox,
    converse,
    pass_on,
    run_agent,
)
from sts_trio.bridge.outbox import Outbox
from sts_trio.bridge.release import ReleasePhoneCall, released
from sts_trio.bridge.reports import Reports
from sts_trio.call.api import Call, Recording
from sts_trio.call.info import CallInfo
from sts_trio.call.notes import Notes
from sts_trio.call.pending import Pending
from sts_trio.errors import Cause, Ending, How, Leg, LegEnded
from sts_trio.functions import Functions
from sts_trio.functions.runner import FunctionCalls, MakeSafe, nothing_to_keep
from sts_trio.legs.contract import OpenCaller
from sts_trio.logic.acts import (
    CallFunctions,
    CancelFunctions,
    Collected,
    Dial,
    DropAgent,
    DropCaller,
    FlushCaller,
    HangUp,
    Heard,
    OutboxFull,
    Recalled,
    ReleaseCall,
    RequestDone,
    SendToAgent,
    SendToCaller,
    StreamBack,
    StreamBegan,
    Tick,
    Unsent,
)
from sts_trio.logic.dialogue import Dialogue
from sts_trio.observe.events import CallCrashed, OfCall
from sts_trio.observe.feed import Tell
from sts_trio.wire import deepgram, twilio

# Finds out what was before, of a call that another process had.
Recall = Callable[[CallInfo], Awaitable[Recalled]]


class Bridge:
    """A call from its caller's websocket to its end. Run it once.

    `call` is what the call's own code is given of it; `reports` tells the log and the event feed
    what happens in it. `on_start` is told who is calling whom, before the first event that names
    the call. `make_safe` is for `FunctionCalls`. `recording` is what the call's own code may pause.
    `recall` is needed where the dialogue takes calls that were elsewhere; before another process
    goes on with this call, `make_known` has it find all that happened. `wrap_leg` is for each leg
    of the caller's: one whose stream is cut may be followed by another.
    """

    __slots__ = (
        "_agents",
        "_alarm",
        "_caller_ear",
        "_caller_scope",
        "_clock",
        "_function_calls",
        "_functions",
        "_hands_over_to",
        "_is_expected_back",
        "_is_polled",
        "_leg_outbox",
        "_make_known",
        "_make_safe",
        "_may_transfer",
        "_notes",
        "_nursery",
        "_on_hang_up",
        "_open_caller",
        "_pending",
        "_recall",
        "_recording",
        "_release_phone_call",
        "_session",
        "_to_caller",
        "_wrap_leg",
        "began",
        "dialogue",
        "ending",
        "reports",
    )

    def __init__(
        self,
        dialogue: Dialogue,
        open_caller: OpenCaller,
        agents: Agents,
        *,
        functions: Functions | None = None,
        hands_over_to: Collection[str] = (),
        may_transfer: Callable[[str], bool] = lambda number: False,
        release_phone_call: ReleasePhoneCall | None = None,
        log_transcripts: bool = False,
        tell: Tell = lambda entry: None,
        on_start: Callable[[CallInfo], None] = lambda call: None,
        on_hang_up: Callable[[str, Ending], None] = lambda call_sid, ending: None,
        make_safe: MakeSafe = nothing_to_keep,
        recording: Recording | None = None,
        recall: Recall | None = None,
        make_known: Callable[[], Awaitable[object]] = nothing_to_keep,
        wrap_leg: Callable[[OpenCaller], OpenCaller] = lambda open_caller: open_caller,
    ) -> None:
        self.dialogue = dialogue
        self.ending: Ending | None = None
        self._clock = trio.lowlevel.current_clock()
        self.began = trio.current_time()
        self._on_hang_up = on_hang_up
        self._open_caller = open_caller
        self._make_known = make_known
        self._wrap_leg = wrap_leg
        self._caller_ear, self._caller_scope = Ear(self._hear), trio.CancelScope()  # of the leg
        self._is_expected_back = False
        self._agents = agents
        self._functions = functions or Functions()
        self._hands_over_to = hands_over_to
        self._may_transfer = may_transfer
        self._make_safe = make_safe
        self._release_phone_call = release_phone_call
        self._recall = recall
        self.reports = Reports(dialogue, tell, on_start, log_transcripts=log_transcripts)
        self._notes = Notes(self.reports.report)
        # While the stream is away there is none to send from: what is put waits in one of its own.
        self._to_caller = self._leg_outbox = caller_outbox()
        self._session = AgentSession(self._hear)
        self._function_calls: FunctionCalls | None = None
        self._pending = Pending()
        self._recording = recording
        self._alarm = Alarm()
        self._is_polled = False
        self._nursery: trio.Nursery

    @property
    def call(self) -> Call:
        """The face of this call. Each is as good as any other: it keeps nothing of its own."""
        return Call(
            self.dialogue,
            self.tell,
            self._pending,
            self.reports.report,
            self._notes,
            agents=self._hands_over_to,
            may_transfer=self._may_transfer,
            recording=self._recording,
        )

    async def run(self) -> Ending:
        """Runs the call to its end; nothing of it is left when this returns or raises.

        If cancelled, both sockets are closed without a goodbye, and the ending is `CUT_OFF`.
        """
        try:
            async with trio.open_nursery() as self._nursery:
                place = self._caller_ear, self._caller_scope, self._leg_outbox
                self._nursery.start_soon(self._run_caller, self._open_caller, *place)
                await self._keep_time()
        finally:
            self.ending = self.ending or Ending(Cause.CUT_OFF)
            self._pending.close()
            # They have the call, and would outlive each other.
            self._function_calls = None
            self._caller_ear.close()
            self._session.ear.close()
            if self.ending.cause is not Cause.MOVED:
                self.reports.ended(self.ending)
        return self.ending

    @property
    def task(self) -> trio.lowlevel.Task | None:
        """The one that it runs in; None before it does."""
        nursery: trio.Nursery | None = getattr(self, "_nursery", None)
        return None if nursery is None else nursery.parent_task

    @property
    def waiting(self) -> dict[Leg, float]:
        """Seconds of audio that wait for a leg which is slow."""
        return {Leg.CALLER: self._to_caller.seconds, Leg.AGENT: self._session.outbox.seconds}

    @property
    def may_come_back(self) -> bool:
        """Whether a stream that Twilio says is over would be waited for."""
        return self.ending is None and self.dialogue.may_come_back

    @property
    def awaits_stream(self) -> bool:
        """Whether the next stream of this call is to be led here: by `come_back`."""
        return self.ending is None and (self.dialogue.is_away or self._is_expected_back)

    def expect_back(self) -> None:
        """Twilio has been told to have the call streamed again, whatever was noticed here of the
        stream's end."""
        self._is_expected_back = True

    async def come_back(self, open_caller: OpenCaller) -> None:
        """The caller is here again, on another socket. Returns when that is over."""
        self._is_expected_back = False
        if not self.dialogue.is_away:
            self.tell(LegEnded(Leg.CALLER, How.LOST))
        if self.ending is not None:
            await trio.lowlevel.checkpoint()
            return
        # Another may have come of which nothing is heard yet: this one takes its place.
        self._drop_caller(self._to_caller)
        self._alarm.set(self.dialogue.deadline)
        place = self._caller_ear, self._caller_scope, self._leg_outbox
        is_over = trio.Event()

        async def run() -> None:
            try:
                await self._run_caller(open_caller, *place)
            finally:
                is_over.set()

        self._nursery.start_soon(run)
        await is_over.wait()

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is under way in it that a move would tear."""
        return self.ending is None and self.dialogue.is_at_rest(self._clock.current_time())

    def tell(self, message: Heard) -> None:
        """For whoever is no task of the call's own: a bug of ours ends the call, not them."""
        with self._boundary():
            self._hear([message])

    # --- hearing and acting ---------------------------------------------------------------------

    def _hear(self, batch: Sequence[Heard]) -> None:
        if self.ending is not None:
            return
        now = self._clock.current_time()
        for act in self.dialogue.hear(batch, now):
            # The acts of nearly every tick; class patterns are slow.
            if isinstance(act, SendToAgent):
                if dropped := self._session.outbox.put(act.message):
                    self._hear([OutboxFull(Leg.AGENT, dropped)])
                continue
            if isinstance(act, SendToCaller):
                if dropped := self._to_caller.put(act.message):
                    self._hear([OutboxFull(Leg.CALLER, dropped)])
                continue
            match act:
                case DropCaller():
                    # What waited has been flushed, as all is that the caller will not hear.
                    self._drop_caller(caller_outbox())
                case StreamBack(stream_sid, gap):
                    parked, self._to_caller = self._to_caller, self._leg_outbox
                    pass_on(parked, self._to_caller, stream_sid)
                    self.reports.back(gap)
                case FlushCaller():
                    self._to_caller.flush()
                case OfCall():
                    self.reports.report(act)
                case StreamBegan(was_elsewhere):
                    self.reports.started()
                    if was_elsewhere:
                        assert self._recall is not None
                        self._nursery.start_soon(self._hear_from, self._recall)
                case Dial(agent):
                    self._session.ear.close()
                    self._session = AgentSession(self._hear)
                    self._nursery.start_soon(self._run_agent, self._session, agent)
                case DropAgent(code):
                    dropped_session, self._session = self._session, AgentSession(self._hear)
                    if audio := dropped_session.drop(code):
                        self._hear([Unsent(audio)])
                case CallFunctions(functions):
                    self._start(functions)
                case CancelFunctions(ids):
                    assert self._function_calls is not None
                    self._function_calls.cancel(ids)
                case RequestDone():
                    self._pending.resolve(act)
                case Collected():
                    self.reports.hide(act.digits)
                    self._pending.resolve(act)
                case ReleaseCall(ending):
                    assert self._release_phone_call is not None
                    ask = functools.partial(released, self._release_phone_call, ending=ending)
                    self._nursery.start_soon(self._hear_from, ask)
                case HangUp(ending):
                    self._hang_up(ending)
                case _:
                    assert_never(act)
        if not self._is_polled:
            self._alarm.set(self.dialogue.deadline)
        elif now >= self.dialogue.rare_deadline:
            self._hear([Tick()])

    def _idle(self, now: float) -> None:
        """A polled leg has nothing to tell."""
        if now >= self.dialogue.deadline:
            self._hear([Tick()])

    def _due(self) -> float:
        """When the timer has to wake up: a polled leg tells the time at each of its turns."""
        return inf if self._is_polled else self.dialogue.deadline

    def _start(self, functions: Sequence[deepgram.FunctionToCall]) -> None:
        if self._function_calls is None:  # many calls have none
            self._function_calls = FunctionCalls(
                self._functions,
                self._hands_over_to,
                self.call,
                self._nursery,
                self.tell,
                self.reports.report,
                self.dialogue.turn_after,
                self._make_safe,
            )
        for function in functions:
            self._function_calls.start(function)

    def _drop_caller(self, parked: Outbox[twilio.ToCaller]) -> None:
        """`parked` has what the next one is to be told."""
        self._caller_ear.close()
        self._caller_scope.cancel()
        self._caller_ear, self._caller_scope = Ear(self._hear), trio.CancelScope()  # of the next
        self._is_polled = False
        self._to_caller, self._leg_outbox = parked, caller_outbox()

    def _hang_up(self, ending: Ending) -> None:
        self.ending = ending
        # Twilio asks what comes next as soon as its socket is closed, the agent's may take longer.
        self._on_hang_up(self.dialogue.call_sid, ending)
        if ending.cause is Cause.MOVED:
            self.reports.ended(ending)
            self._nursery.start_soon(self._let_go)
        else:
            self._close_legs()
        self._alarm.stop()
        self._nursery.cancel_scope.deadline = trio.current_time() + HANG_UP_GRACE
        if self._function_calls is not None:
            self._function_calls.cancel_all()
        self._pending.close()

    def _close_legs(self) -> None:
        self._to_caller.close()
        self._leg_outbox.close()
        self._session.close()

    async def _let_go(self) -> None:
        """Who goes on is to find all that happened, and is asked as soon as the caller's socket is
        closed. The agent's is closed first: it has one session of a call at a time."""
        with self._boundary():
            await self._make_known()
            self._session.close()
            await trio.lowlevel.checkpoint()
            self._close_legs()

    def _crash(self) -> None:
        """To be called while handling the exception that is the bug."""
        self.reports.report(CallCrashed(), exc_info=True)
        if self.ending is None:
            self._hang_up(Ending(Cause.CRASHED))

    def _boundary(self) -> Boundary:
        """An exception that arises in here is a bug: it ends this call, and nothing else."""
        return Boundary(self._crash)

    # --- the tasks of a call --------------------------------------------------------------------

    async def _keep_time(self) -> None:
        with self._boundary():
            while self.ending is None:
                await self._alarm.wait(self._due())
                # It may have moved later since: then there is nothing to tell.
                if self._clock.current_time() >= self._due():
                    self._hear([Tick()])

    async def _hear_from(self, ask: Callable[[CallInfo], Awaitable[Heard]]) -> None:
        """What somebody knows of this call, once they have found it out."""
        with self._boundary():
            self._hear([await ask(self.reports.info)])

    async def _run_caller(
        self,
        open_caller: OpenCaller,
        ear: Ear,
        scope: trio.CancelScope,
        outbox: Outbox[twilio.ToCaller],
    ) -> None:
        def over() -> None:
            if ear.is_open:  # else it was dropped, and another has its place
                self._is_polled = False
                self._alarm.set(self.dialogue.deadline)

        with self._boundary(), scope:
            async with self._wrap_leg(open_caller)() as leg:
                # One that was dropped while it opened is not to tell the time: it has no turns.
                self._is_polled = leg.is_polled and ear.is_open
                await converse(
                    leg,
                    outbox,
                    hear=ear.hear,
                    idle=self._idle,
                    boundary=self._boundary,
                    code=lambda: _close_code(self.ending, Leg.CALLER),
                    over=over,
                )

    async def _run_agent(self, session: AgentSession, name: str | None) -> None:
        with self._boundary(), session.scope:
            await run_agent(
                self._agents,
                session,
                name,
                self.reports.info,
                lambda: self.dialogue.time_to_dial(trio.current_time()),
                idle=self._idle,
                boundary=self._boundary,
                code=lambda: session.code or _close_code(self.ending, Leg.AGENT),
            )


def _close_code(ending: Ending | None, leg: Leg) -> int:
    return (ending or Ending(Cause.CRASHED)).cause.close_code(leg)

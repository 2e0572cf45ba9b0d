"""The functions that run in one call.

Each is a task of the call's nursery, a plain one with a thread beside it, so nothing of the
conversation waits for it. Whatever a function does, it ends in an answer for the agent, which is
mute until it has one: its result, or `{"error": "…"}`. Nothing leaves here but cancellation.

There is no answer for what the agent has cancelled, nor after a hang-up. A function with
`shield=True` goes on all the same, in a shielded scope of the call's nursery, to its own end or
that of its time limit.

A thread cannot be torn. A plain function that is cancelled, or over its time, goes on in it, and
until it has ended it counts as one with a shield: it is not done twice at once, and the agent is
told late what came of it. Only a hang-up leaves it behind for good.
"""

import collections
from collections.abc import Awaitable, Callable, Collection, Iterable
from math import inf
from typing import Protocol, cast

import trio

from sts_trio.errors import FunctionFailed, StsTrioError, innermost
from sts_trio.functions import confirmation, foreign
from sts_trio.functions.registry import Function, Functions
from sts_trio.functions.results import Answer, NotJson, error, result, words_of
from sts_trio.logic.acts import FunctionDone, FunctionsRunAway
from sts_trio.net.raised import OnlyExceptions, original
from sts_trio.net.threads import run_in_thread
from sts_trio.observe import events
from sts_trio.wire import deepgram

# A conversation has a function call every few turns: a hundred make half an hour of it.
MAX_PER_CALL = 100
# And twenty in half a minute are what no caller has asked for. A model that loops makes more.
MAX_AT_ONCE = 20
AT_ONCE = 30.0
# Refusals after which a model has shown that it does not listen: it may make hundreds more.
RUNAWAY = 50
# The call ends by that. So many may have been asked for before it has; others get no answer, and no
# task of their own.
MAX_REFUSED = 2 * RUNAWAY
# Whatever a thread does that nobody can end: as long as the longest time limit of a function.
LONGEST_THREAD = 3600.0
# Threads of this process for plain functions, apart from those that Trio looks up hosts in. 500
# calls with a function every ten seconds, of a second each, take 50.
THREADS = 100
# Letters of a function's name that are told: a model can make up what it likes.
MAX_LETTERS = 64

FAILED = "the function failed"
# What is told, in JSON, instead of what a sensitive function is given and gives.
HIDDEN = '"•••"'

# Returns once what was told of the call outlives the process, or when that takes long.
MakeSafe = Callable[[], Awaitable[None]]
Done = Callable[[FunctionDone | FunctionsRunAway], None]

_threads: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("function threads")


async def nothing_to_keep() -> None:
    """A `MakeSafe` where nothing is kept."""


class Report(Protocol):
    """Tells the log and the event feed."""

    def __call__(
        self, event: events.OfCall, /, *, exc_info: BaseException | bool = False
    ) -> None: ...


class Host(Protocol):
    """What is needed here of the `Call` that functions are given."""

    @property
    def agent(self) -> str: ...
    async def say(self, text: str, /) -> None: ...
    def pause_recording(self) -> None: ...
    def resume_recording(self) -> None: ...


class Budget:
    """How many calls of functions one phone call may have. Pure.

    `refused` is how many it was not granted.
    """

    def __init__(self) -> None:
        self.refused = 0
        self._granted = 0
        self._lately: list[float] = []  # when each was granted

    def grant(self, now: float) -> bool:
        while self._lately and self._lately[0] <= now - AT_ONCE:
            self._lately.pop(0)
        if self._granted >= MAX_PER_CALL or len(self._lately) >= MAX_AT_ONCE:
            self.refused += 1
            return False
        self._granted += 1
        self._lately.append(now)
        return True


def nobody_was_asked(question: str) -> None:
    """For who keeps no account of it."""


class _Running:
    """One that was asked for and has not ended. `is_void`: nobody wants its result any more.

    Without a function it is only to be answered: `refused` says how many were, up to this one.
    """

    def __init__(
        self,
        asked: deepgram.FunctionToCall,
        function: Function | None,
        refused: int = 0,
        is_double: bool = False,
    ) -> None:
        self.asked = asked
        self.function = function
        self.refused = refused
        self.is_double = is_double
        self.is_shielded = function is not None and function.options.shield
        self.is_sensitive = function is not None and function.options.sensitive
        self.is_void = False
        self.is_agreed = True  # by the caller, as far as that is needed
        self.confirmed: tuple[str, int] | None = (
            None  # the question, and the turn it was answered in
        )
        self.began = trio.current_time()
        limit = inf if function is None else function.options.timeout
        self.scope = trio.CancelScope(deadline=self.began + limit, shield=self.is_shielded)
        # Of who waits for its thread, if it is a plain one.
        self.thread_scope = trio.CancelScope(
            deadline=self.began + LONGEST_THREAD, shield=self.is_shielded
        )
        self.has_begun = False  # in its thread
        self.is_left = False  # in it: nobody waits for the answer any more

    @property
    def ids(self) -> tuple[str, str]:
        """Its id and its name, for events."""
        return self.asked.id, self.asked.name[:MAX_LETTERS]


class FunctionCalls:
    """Runs what the agent asks for in `nursery`, and says of each, once, what came of it.

    `done` is never called from within `start`, and for what was cancelled only if that was not to
    be torn. It is told once when the agent goes on asking long after its budget is spent. `agents`
    are the names of all that a function may hand over to. `turn_after` tells which turn of the
    caller's came after they had last heard a question; None: there was none. `make_safe` is waited
    for before one with a shield is run: should the process die meanwhile, it is known that it may
    have been done.
    """

    def __init__(
        self,
        functions: Functions,
        agents: Collection[str],
        call: Host,
        nursery: trio.Nursery,
        done: Done,
        report: Report,
        turn_after: Callable[[str], int | None] = nobody_was_asked,
        make_safe: MakeSafe = nothing_to_keep,
    ) -> None:
        self._functions = functions
        self._agents = agents
        self._call = call
        self._nursery = nursery
        self._done = done
        self._report = report
        self._turn_after = turn_after
        # What the caller has agreed to, and is done: at most `MAX_PER_CALL`.
        self._confirmed: set[tuple[str, int]] = set()
        self._make_safe = make_safe
        self._budget = Budget()
        self._has_refused = False
        # At most `MAX_PER_CALL` and `MAX_REFUSED`, in all of a call.
        self._running: set[_Running] = set()
        # {name: how many of it go on though nobody waits for them}
        self._void: collections.Counter[str] = collections.Counter()
        self._left: set[_Running] = set()  # in their threads
        self._is_hung_up = False

    @property
    def running(self) -> int:
        """How many have not ended, shielded ones that nobody waits for any more among them. Of one
        that is left in its thread nothing but that runs."""
        return len(self._running)

    def start(self, asked: deepgram.FunctionToCall) -> None:
        """Begins to run it; never waits. To be called for what is ours to run (`client_side`)."""
        if self._budget.refused >= MAX_REFUSED:
            return
        if self._is_being_done(asked.name):
            self._budget.refused += 1
            running = _Running(asked, None, self._budget.refused, is_double=True)
        elif self._budget.grant(trio.current_time()):
            running = _Running(asked, self._functions.find(asked.name, self._call.agent))
        else:
            running = _Running(asked, None, self._budget.refused)
        self._running.add(running)
        # By this name it is seen among the tasks of the process. A model may make up any.
        name = f"function {running.asked.name[:MAX_LETTERS]}"
        self._nursery.start_soon(self._attend, running, name=name)

    def cancel(self, ids: Iterable[str]) -> None:
        """The agent does not want these any more: no answers, and those not shielded end."""
        unwanted = set(ids)
        for running in [each for each in self._running if each.asked.id in unwanted]:
            self._give_up(running)

    def cancel_all(self) -> None:
        """The same for all, and for good: to be called when the call is hung up."""
        self._is_hung_up = True
        for running in list(self._running):
            self._give_up(running)
            if not running.is_shielded:
                running.thread_scope.cancel()
        for running in list(self._left):
            running.thread_scope.cancel()

    def _give_up(self, running: _Running) -> None:
        if running.is_shielded and not running.is_void:
            self._void[running.asked.name] += 1
        running.is_void = True
        if not running.is_shielded:
            running.scope.cancel()

    # --- one function, in its task --------------------------------------------------------------

    async def _attend(self, running: _Running) -> None:
        """From beginning to answer. What is cancelled before it has begun does not begin."""
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            if not running.is_void:
                await self._answer(running)
            if running.refused == RUNAWAY:
                self._done(FunctionsRunAway())
        finally:
            self._running.discard(running)
            if running.is_void and running.is_shielded:
                self._void[running.asked.name] -= 1

    async def _answer(self, running: _Running) -> None:
        if running.is_double:
            answer = self._refuse_double(running)
        elif running.refused:
            answer = self._refuse(running)
        else:
            answer = await self._run(running)
        # A shielded one may come out into a call that has been cut off.
        await trio.lowlevel.checkpoint_if_cancelled()
        if not running.is_void or running.is_shielded:
            self._done(
                FunctionDone(running.asked, answer.content, answer.hand_over, running.is_void)
            )

    def _refuse(self, running: _Running) -> Answer:
        if not self._has_refused:
            self._has_refused = True
            self._report(events.FunctionRefused(*running.ids, "too many in this call"))
        return error("too many function calls")

    def _is_being_done(self, name: str) -> bool:
        """Whether one of that name goes on though nobody waits for it: it is not to be torn, and
        so not to be done twice by an agent that does not know of it."""
        return self._void[name] > 0

    def _refuse_double(self, running: _Running) -> Answer:
        self._report(events.FunctionRefused(*running.ids, "it is being done already"))
        return error("it is being done already; you will be told what came of it")

    async def _run(self, running: _Running) -> Answer:
        arguments = HIDDEN if running.is_sensitive else running.asked.arguments
        signature = running.asked.thought_signature
        # Of a part of one nobody could make anything.
        is_whole = isinstance(signature, str) and len(signature) <= events.MAX_TEXT
        self._report(
            events.FunctionCalled(
                *running.ids,
                arguments,
                running.is_shielded,
                str(signature) if is_whole else None,
            )
        )
        outcome, answer = "cancelled", Answer("")
        if running.is_sensitive:
            self._call.pause_recording()
        try:
            # Reading its arguments runs code of the user's too.
            with running.scope, OnlyExceptions():
                answer = await self._result_of(running)
                outcome = "done" if running.is_agreed else "unconfirmed"
            # A shielded scope is left by its deadline alone, any other by the agent's wish too.
            if outcome == "cancelled" and (running.is_shielded or not running.is_void):
                limit = running.scope.deadline - running.began
                outcome = "timed_out"
                known = "whether it was done is not known"
                if running.is_left:
                    known = "it goes on, and you will be told what came of it"
                answer = error(f"no result within {limit:g} s; {known}")
        except* Exception as group:
            outcome = "failed"
            answer = error(self._explain(running, group))
        finally:
            if running.is_sensitive:
                self._call.resume_recording()
            # What a hang-up cuts comes by with its `Cancelled`.
            self._finish(running, outcome, answer.content)
        return answer

    async def _result_of(self, running: _Running) -> Answer:
        function = running.function
        if function is None:
            raise FunctionFailed("there is no such function")
        arguments = function.parameters.read(running.asked.arguments)
        if (template := function.options.confirm) is not None:
            question = confirmation.question(template, function.run, arguments)
            if not self._is_agreed(running, question):
                running.is_agreed = False
                return error(confirmation.ask_first(question))
        if running.is_shielded:
            await self._make_safe()
        if function.parameters.call is not None:
            arguments[function.parameters.call] = self._call
        async with trio.open_nursery() as nursery:
            if (filler := function.options.filler) is not None:
                nursery.start_soon(self._fill, running, filler, function.options.filler_after)
            if function.is_async:
                answer = result(await function.run(**arguments))
            else:
                answer = await self._in_thread(running, lambda: result(function.run(**arguments)))
            nursery.cancel_scope.cancel()
        self._check_hand_over(answer.hand_over)
        return answer

    def _is_agreed(self, running: _Running, question: str) -> bool:
        """Who has agreed to something has agreed to it once."""
        turn = self._turn_after(question)
        if turn is None or (question, turn) in self._confirmed:
            return False
        running.confirmed = question, turn
        self._confirmed.add(running.confirmed)
        return True

    async def _in_thread(self, running: _Running, run: Callable[[], Answer]) -> Answer:
        """Waits for its result. Who waits may be torn from it; it goes on, and is told of late."""
        outcomes: list[Answer | BaseException] = []
        has_ended = trio.Event()
        self._nursery.start_soon(self._watch_thread, running, run, outcomes, has_ended)
        try:
            await has_ended.wait()
        finally:
            if not outcomes and running.has_begun and not self._is_hung_up:
                running.is_left = True
                self._left.add(running)
                self._void[running.asked.name] += 1
            elif not outcomes:
                # What has not begun does not begin; and when the call is over, nobody waits.
                running.thread_scope.cancel()
        if isinstance(outcomes[0], Answer):
            return outcomes[0]
        raise cast(BaseException, outcomes.pop())  # no frame of its traceback has it then

    async def _watch_thread(
        self,
        running: _Running,
        run: Callable[[], Answer],
        outcomes: list[Answer | BaseException],
        has_ended: trio.Event,
    ) -> None:
        def begin() -> Answer:
            running.has_begun = True
            with OnlyExceptions(in_thread=True):
                return run()

        try:
            with running.thread_scope:
                try:
                    outcomes.append(await run_in_thread(begin, _limiter()))
                except Exception as exc:
                    outcomes.append(exc)
        finally:
            if running in self._left:
                self._left.remove(running)
                self._void[running.asked.name] -= 1
        has_ended.set()
        if running.is_left and outcomes:
            self._tell_late(running, outcomes.pop())

    def _tell_late(self, running: _Running, outcome: Answer | BaseException) -> None:
        if isinstance(outcome, BaseException):
            outcome = error(self._explain(running, BaseExceptionGroup("", [outcome])))
        self._finish(running, "late", outcome.content)
        self._done(FunctionDone(running.asked, outcome.content, is_void=True))

    async def _fill(self, running: _Running, filler: str, after: float) -> None:
        """Says something to the caller if it takes long. Not worth a failure."""
        await trio.sleep(after)
        try:
            await self._call.say(filler)
        except Exception as exc:
            self._report(events.FunctionFillerNotSaid(*running.ids, words_of(exc)))

    def _check_hand_over(self, to: str | None) -> None:
        if to is None:
            return
        if to not in self._agents:
            known = ", ".join(self._agents)
            raise FunctionFailed(f"there is no agent {to} to hand over to; there are: {known}")
        if to == self._call.agent:
            raise FunctionFailed(f"{to} is already the one who talks with the caller")

    def _explain(self, running: _Running, group: BaseExceptionGroup[BaseException]) -> str:
        """Logs why it failed, and says what the agent is told of it."""
        cause = innermost(original(innermost(group)))
        text = words_of(cause)
        kind = type(cause).__name__
        reason = kind if running.is_sensitive else f"{kind}: {text}"
        if isinstance(cause, StsTrioError):
            # Meant to be told: arguments that do not fit, a number off the list, the user's own.
            self._report(events.FunctionFailed(*running.ids, reason, crashed=False))
            return text or FAILED
        hint = None
        if running.function is not None:
            hint = foreign.hint(cause, running.function.is_async)
        failed = events.FunctionFailed(*running.ids, reason, crashed=True, hint=hint)
        # A traceback has the exception's text, and so what it was about.
        self._report(failed, exc_info=False if running.is_sensitive else cause)
        if isinstance(cause, NotJson):
            return "its result cannot be told: it is not JSON"
        return FAILED

    def _finish(self, running: _Running, outcome: str, result: str) -> None:
        if outcome == "cancelled" and not running.is_left and running.confirmed is not None:
            # The agent has taken it back, as it had answered on a guess, and may call it again.
            self._confirmed.discard(running.confirmed)
        is_unawaited = (running.is_void and running.is_shielded) or outcome == "late"
        self._report(
            events.FunctionFinished(
                *running.ids,
                outcome,
                round(trio.current_time() - running.began, 3),
                result=(HIDDEN if result and running.is_sensitive else result) or None,
                shield=running.is_shielded,
                unawaited=is_unawaited or None,
            )
        )


def _limiter() -> trio.CapacityLimiter:
    """One for each run of Trio: what threads hold that outlived an earlier run is not counted."""
    try:
        return _threads.get()
    except LookupError:
        limiter = trio.CapacityLimiter(THREADS)
        _threads.set(limiter)
        return limiter

"""`on_call_ended` of the user's own module: called with the record of each call that has ended.

It is code of the user's, so it gets a time limit, and nobody waits for it: the call is over, and
its end is in the database. It is not called again if it fails; what must not be missed is told by
the webhook. An `async def` runs on the loop, a plain `def` in a thread, which nothing can tear: it
is left behind when its time is up.
"""

import collections
import contextlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import trio

from sts_trio.config.raw import config_error
from sts_trio.errors import ConfigError
from sts_trio.functions.modules import import_module
from sts_trio.functions.registry import HOOK
from sts_trio.functions.results import words_of
from sts_trio.net.raised import NoException, OnlyExceptions
from sts_trio.net.threads import run_in_thread
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.records.record import Record
from sts_trio.wire.printable import quoted

WITHIN = 30.0
AT_ONCE = 10
# A minute of a busy process. Whoever falls further behind will not catch up.
MAX_WAITING = 1000
TOO_MANY = "too many wait"
NO_RECORD = "its record cannot be read"

Hook = Callable[[Record], Any]


def hooks_in(specs: Iterable[str], where: str) -> list[Hook]:
    """The hooks of the modules with functions, each once. `where` is what to name in a mistake.

    Raises:
        ConfigError: one of them is none that can be called with a record.
    """
    found = []
    for name in dict.fromkeys(spec.partition(":")[0] for spec in specs):
        hook = getattr(import_module(name, where), HOOK, None)
        if hook is not None:
            found.append(checked(hook, f"{name}.{HOOK}"))
    return found


def checked(hook: Any, where: str) -> Hook:
    """Raises `ConfigError`: it is none that can be called with a record."""
    try:
        inspect.signature(hook).bind(object())
    except (TypeError, ValueError):
        raise _no_hook(hook, where) from None
    if not (inspect.isfunction(hook) or inspect.ismethod(hook)):
        raise _no_hook(hook, where)
    found: Hook = hook
    return found


def _no_hook(hook: Any, where: str) -> ConfigError:
    got = quoted(repr(hook))
    return config_error(f"{where}: expected a function of one argument, the record, got {got}")


class EndingHook:
    """`read` gives the record of a call, in a thread; None: it cannot be had."""

    def __init__(self, hooks: Sequence[Hook], read: Callable[[str], Record | None]) -> None:
        self._hooks = hooks
        self._read = read
        self._waiting: collections.deque[str] = collections.deque()
        self._more = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._count = 0  # of those that wait or are being called
        self._emptied = trio.Event()
        self._turns = trio.CapacityLimiter(AT_ONCE)
        self._readers = trio.CapacityLimiter(1)
        # Those that are left behind keep theirs: a hook that never ends takes no more than these.
        self._threads = trio.CapacityLimiter(AT_ONCE)

    def put(self, call_sid: str) -> None:
        """That call has ended, and its end is in the database."""
        if len(self._waiting) >= MAX_WAITING:
            report(events.HookSkipped(call_sid, TOO_MANY))
            return
        self._waiting.append(call_sid)
        self._count += 1
        self._more.set()

    def put_soon(self, call_sids: Sequence[str]) -> None:
        """The same of each of these, from another thread, while `run` runs."""
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                for call_sid in call_sids:
                    self._token.run_sync_soon(self.put, call_sid)

    async def empty(self) -> None:
        """Waits until none is called any more, nor waits to be."""
        await trio.lowlevel.checkpoint()
        while self._count:
            await self._emptied.wait()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until it is cancelled."""
        self._token = trio.lowlevel.current_trio_token()
        task_status.started()
        async with trio.open_nursery() as nursery:
            while True:
                await self._more.wait()
                self._more = trio.Event()
                while self._waiting:
                    turn = object()
                    await self._turns.acquire_on_behalf_of(turn)
                    nursery.start_soon(self._call, self._waiting.popleft(), turn)

    async def _call(self, call_sid: str, turn: object) -> None:
        try:
            try:
                record = await run_in_thread(lambda: self._read(call_sid), self._readers)
            except Exception:
                report(events.HookSkipped(call_sid, NO_RECORD), exc_info=True)
                return
            if record is None:
                report(events.HookSkipped(call_sid, NO_RECORD))
                return
            for hook in self._hooks:
                await self._run(hook, record)
        finally:
            self._turns.release_on_behalf_of(turn)
            self._count -= 1
            if not self._count:
                self._emptied.set()
                self._emptied = trio.Event()

    async def _run(self, hook: Hook, record: Record) -> None:
        call_sid = record.call.call_sid
        raised: BaseException | None = None
        with trio.move_on_after(WITHIN) as scope:
            try:
                if inspect.iscoroutinefunction(hook):
                    with OnlyExceptions():
                        await hook(record)
                else:
                    await run_in_thread(lambda: _call(hook, record), self._threads)
            except Exception as exc:
                raised = exc
        if raised is not None:
            reason = words_of(raised)
            if not isinstance(raised, NoException):
                reason = f"{type(raised).__name__}: {reason}"
            report(events.HookFailed(call_sid, reason), exc_info=raised)
        elif scope.cancelled_caught:
            report(events.HookFailed(call_sid, f"not done within {WITHIN:g} s"))


def _call(hook: Hook, record: Record) -> None:
    """In a thread."""
    with OnlyExceptions(in_thread=True):
        hook(record)

"""What is told of one call, to the log and to the event feed."""

import time
from collections.abc import Callable

import msgspec
import trio

from sts_trio.call.info import CallInfo, Elsewhere, streamed
from sts_trio.errors import Ending
from sts_trio.logic.dialogue import Dialogue
from sts_trio.observe import events, logs
from sts_trio.observe.collected import CollectedKeys
from sts_trio.observe.feed import Tell, call_event
from sts_trio.observe.report import report
from sts_trio.wire import twilio

# What was said, which is not for every log. A set: a union would be made anew for each event.
_SAID = frozenset({events.CallTranscript, events.CallHeard})


class Reports:
    """Tells the log and the event feed of one call. The feed has the words, the log only if
    `log_transcripts`. `on_start` is told who is calling whom. What is told has no key in it that
    was `collected`."""

    __slots__ = (
        "_began",
        "_clock",
        "_collected",
        "_dialogue",
        "_ids",
        "_info",
        "_log_transcripts",
        "_on_start",
        "_start",
        "_tell",
    )

    def __init__(
        self,
        dialogue: Dialogue,
        tell: Tell,
        on_start: Callable[[CallInfo], None],
        *,
        log_transcripts: bool,
    ) -> None:
        self._dialogue = dialogue
        self._tell = tell
        self._on_start = on_start
        self._log_transcripts = log_transcripts
        self._collected: CollectedKeys | None = None  # few calls have any
        self._start: twilio.StreamStart | None = None
        self._info = streamed(None)  # what that says
        self._ids: dict[str, str] = {}  # of the call, once it has any: each line has them
        self._clock = trio.lowlevel.current_clock()
        self._began = trio.current_time()

    @property
    def info(self) -> CallInfo:
        """The call as its stream tells of it. Made once for each stream."""
        start = self._dialogue.start
        if start is not self._start:
            self._start, self._info = start, streamed(start)
        return self._info

    def report(self, event: events.OfCall, *, exc_info: BaseException | bool = False) -> None:
        """Something has happened. `exc_info` is an exception, or `True` for the one being
        handled."""
        more = self._ids
        if self._collected is not None:
            event = self._collected.hidden(event)
            if exc_info:
                more = {**more, "exception": self._collected.without(logs.written(exc_info))}
                exc_info = False
        self._tell(call_event(self._dialogue.call_sid, self._seconds, event))
        if self._log_transcripts or type(event) not in _SAID:
            report(event, exc_info=exc_info, with_words=self._log_transcripts, **more)

    def hide(self, keys: str) -> None:
        """A function has collected these: from now on they are in nothing that is told."""
        if self._collected is None:
            self._collected = CollectedKeys()
        self._collected.add(keys)

    def started(self) -> None:
        """The stream has begun, so it is known who is calling whom."""
        info = self.info
        self._ids = {"call_sid": info.call_sid, "stream_sid": info.stream_sid}
        self._on_start(info)
        self.report(
            events.CallStarted(
                info.call_sid,
                info.stream_sid,
                from_=info.from_ or None,
                to=info.to or None,
                direction=info.direction,
                agent=info.agent or None,
                how=None if info.elsewhere is None else info.elsewhere.how,
            )
        )

    def back(self, gap: float) -> None:
        """The stream is here again, by another name, after so many seconds."""
        info = self.info
        self._ids["stream_sid"] = info.stream_sid
        before = Elsewhere("returned", 0, time.time() - gap)
        self._on_start(msgspec.structs.replace(info, elsewhere=before))
        self.report(events.CallMoved("returned", gap))

    def ended(self, ending: Ending) -> None:
        """How the call ended, and what there is to say of it in numbers; zeros say nothing."""
        info = self.info
        numbers = msgspec.structs.asdict(self._dialogue.statistics())
        self.report(
            events.CallEnded(
                ending.cause.label,
                ending.verdict.value,
                ending.detail,
                self._seconds,
                from_=info.from_ or None,
                to=info.to or None,
                direction=info.direction if info.call_sid else None,
                agent=self._dialogue.agent or info.agent or None,
                request_id=self._dialogue.request_id or None,
                apologised=ending.apologised or None,
                **{name: value or None for name, value in numbers.items()},
            )
        )

    @property
    def _seconds(self) -> float:
        return round(self._clock.current_time() - self._began, 3)

"""The log lines and the events of one call."""

from typing import Any

import msgspec
import structlog
import trio

from sts_trio.errors import Ending
from sts_trio.logic.acts import Log, Transcript, TurnHeard
from sts_trio.logic.dialogue import Dialogue
from sts_trio.observe.feed import Tell, call_event


class Reports:
    """Tells the log and the event feed of one call. The feed has the words, the log only if
    `log_transcripts`."""

    __slots__ = ("_began", "_clock", "_dialogue", "_log_transcripts", "_tell", "log")

    def __init__(self, dialogue: Dialogue, tell: Tell, *, log_transcripts: bool) -> None:
        self.log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
        self._dialogue = dialogue
        self._tell = tell
        self._log_transcripts = log_transcripts
        self._clock = trio.lowlevel.current_clock()
        self._began = trio.current_time()

    def publish(self, event: str, fields: dict[str, Any]) -> None:
        """Tells the feed alone."""
        seconds = self._clock.current_time() - self._began
        self._tell(call_event(self._dialogue.call_sid, seconds, event, fields))

    def logged(self, log: Log) -> None:
        """A line that the dialogue wants written."""
        self.publish(log.event, log.fields)
        fields = log.fields
        if log.event == "call.started":
            self.log = self.log.bind(
                call_sid=self._dialogue.call_sid, stream_sid=self._dialogue.stream_sid
            )
            fields = {}
        getattr(self.log, log.level)(log.event, **fields)

    def said(self, words: Transcript | TurnHeard) -> None:
        """A sentence of either side, or what the caller heard of one of the agent's."""
        event = "call.transcript" if isinstance(words, Transcript) else "call.heard"
        fields = msgspec.structs.asdict(words)
        self.publish(event, fields)
        if self._log_transcripts:
            self.log.debug(event, **fields)

    def crashed(self) -> None:
        """To be called while the exception that is the bug is being handled."""
        self.log.exception("call.crashed")
        self.publish("call.crashed", {})

    def ended(self, ending: Ending) -> None:
        """How the call ended, and what there is to say of it in numbers; zeros say nothing."""
        numbers = msgspec.structs.asdict(self._dialogue.statistics())
        fields = {
            "ending": ending.cause.label,
            "verdict": ending.verdict.value,
            "detail": ending.detail,
            "seconds": round(self._clock.current_time() - self._began, 3),
            **{name: value for name, value in numbers.items() if value},
        }
        self.log.info("call.ended", **fields)
        self.publish("call.ended", fields)

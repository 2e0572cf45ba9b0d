"""What the caller gets to hear of the agent: whole frames, marks, barge-in, stale audio. Pure.

Twilio plays what it has in its own time, so what was sent is not yet heard: `playout` knows, to the
mark. `plays_until` is an estimate by the clock alone, where a peer that echoes no marks would hold
everything up.

Barge-in: `clear` empties Twilio's buffer, and agent audio that still belongs to the cut utterance
is dropped until a sign of the next one. Where nothing of the agent's was cut, nothing can be late.
While `is_protected`, nothing is cut.
"""

from math import inf

from sts_trio.audio.frames import BYTES_PER_SECOND, FRAME, Frames, length, seconds
from sts_trio.logic.playout import Playout
from sts_trio.logic.rest import Rest
from sts_trio.wire import twilio

# Agent audio of a cut utterance is already under way when we hear of the barge-in. A few frames are
# usual; a sign of the next turn ends the wait earlier.
STALE_AUDIO = 2.0
# What a key has cut the agent goes on saying, as it does not know of it: until it is told, or done.
# Not for longer, as it may never say that it is.
STALE_AFTER_KEY = 10.0
# The largest media message in public samples is a second; also what one `clear` can overtake.
MAX_MEDIA_BYTES = length(1.0)
# How far the agent may be ahead of what is heard: Twilio holds ten minutes, and drops what is more.
MAX_AHEAD_SECONDS = 600.0
# Less than half of it both ways needs no exact look.
_FAR_SECONDS = MAX_AHEAD_SECONDS / 2
_FAR_BYTES = length(_FAR_SECONDS)
# Behind what it marks, the first mark comes back within a moment, on any phone.
MARKS_WITHIN = 5.0


class AgentAudio:
    """Methods return what is to be told to Twilio, in order. `stream_sid` has to be set first."""

    __slots__ = (
        "_cut_at",
        "_cut_mark",
        "_frames",
        "_said_to",
        "_stale_until",
        "dropped",
        "is_amid_utterance",
        "is_protected",
        "mark_deadline",
        "playout",
        "plays_until",
        "rest",
        "stream_sid",
    )

    def __init__(self, *, keeps_rest: bool = False) -> None:
        self.stream_sid = ""
        self.rest = Rest() if keeps_rest else None
        self.playout = Playout()
        self.plays_until = -inf
        self.is_protected = False
        self.is_amid_utterance = False
        self.mark_deadline: float | None = None  # of the first one; `inf`: not waited for any more
        self.dropped = 0  # bytes of the agent's that were too far ahead
        self._frames = Frames()
        self._said_to = 0  # where the agent's own audio ends in the playout
        self._stale_until = -inf
        self._cut_mark = ""  # the one behind the newest `clear`, until it is echoed
        self._cut_at = -inf

    @property
    def is_heard(self) -> bool:
        """Whether the caller has heard everything, and no utterance is under way."""
        return not (self.is_amid_utterance or self.playout.unheard or self.rest)

    @property
    def has_whole_rest(self) -> bool:
        """Whether what was cut had been said to its end, and is kept."""
        return bool(self.rest and self.rest.is_whole)

    def is_stale(self, now: float) -> bool:
        """Whether what the agent says now still belongs to what was cut."""
        return now < self._stale_until

    def say(self, audio: bytes, now: float) -> list[twilio.ToCaller]:
        """The agent's audio, any length."""
        if now < self._stale_until:
            return []
        self.is_amid_utterance = True
        return self._say(self._frames.cut(audio), now)

    def _say(self, frames: bytes, now: float) -> list[twilio.ToCaller]:
        if self.plays_until - now > _FAR_SECONDS or len(frames) > _FAR_BYTES:
            frames = self._within_reach(frames, now)
        messages = self.play(frames, now)
        if frames:
            sent = self._said_to = self.playout.sent
            if self.rest is not None:
                self.rest.keep(frames, sent)
        return messages

    def _within_reach(self, audio: bytes, now: float) -> bytes:
        """Of whole frames, those that Twilio has room for, once what it holds by now is played."""
        room = max(0, length(MAX_AHEAD_SECONDS - max(0.0, self.plays_until - now)))
        if len(audio) > room:
            room -= room % FRAME
            self.dropped += len(audio) - room
            audio = audio[:room]
        return audio

    def play(self, audio: bytes, now: float) -> list[twilio.ToCaller]:
        """Whole frames."""
        messages: list[twilio.ToCaller] = []
        for start in range(0, len(audio), MAX_MEDIA_BYTES):
            piece = audio[start : start + MAX_MEDIA_BYTES]
            messages.append(twilio.PlayMedia(self.stream_sid, twilio.Outbound(piece)))
            if self.playout.play(len(piece)):
                messages.append(self._mark())
        if audio:
            begins = now if self.plays_until < now else self.plays_until
            self.plays_until = begins + len(audio) / BYTES_PER_SECOND
            if self.mark_deadline is None:
                self.mark_deadline = self.plays_until + MARKS_WITHIN
        return messages

    def insert(self, audio: bytes, now: float) -> list[twilio.ToCaller]:
        """Our own audio, whole frames, amid whatever the agent says or has not finished."""
        return [*self.play(audio, now), *self._mark_the_end()]

    def finish(self, now: float) -> list[twilio.ToCaller]:
        """The utterance is complete: its last frame, padded, and a mark at its end."""
        self.next_turn()
        self.is_amid_utterance = False
        frames = self._frames.finish()
        messages = self._say(frames, now) if frames else []
        return [*messages, *self._mark_the_end()]

    def next_turn(self) -> None:
        """A sign that agent audio from here on belongs to a new utterance."""
        self._stale_until = -inf

    def cut(self, now: float, late: float = STALE_AUDIO) -> tuple[int, list[twilio.ToCaller]]:
        """Nothing that was sent is to be heard any more, nor what comes of it for `late` seconds;
        returns how many bytes are cut, and `clear`, before which what waits in our own outbox has
        to be flushed.

        If anything is cut, a mark comes behind: its echo tells when Twilio had emptied its buffer.
        """
        is_amid = self.is_amid_utterance
        is_cut = is_amid or self.playout.position < self._said_to
        if is_cut or self.is_stale(now):
            self._stale_until = max(self._stale_until, now + late)
        self._frames.drop()
        self.is_amid_utterance = False
        self.plays_until = min(self.plays_until, now)
        if self.rest is not None:
            self.rest.cut(self.playout.position, is_whole=not is_amid)
        cut = self.playout.clear()
        messages: list[twilio.ToCaller] = [twilio.Clear(self.stream_sid)]
        if cut:
            self._cut_at, self._cut_mark = now, self.playout.mark()
            mark = twilio.MarkName(self._cut_mark)
            messages.append(twilio.PlayMark(self.stream_sid, mark))
        return cut, messages

    def resume(self, now: float) -> tuple[float, list[twilio.ToCaller]]:
        """What was cut is played on after all; returns how many seconds of it there are. What the
        agent still says belongs to it, unless it has said all of it."""
        assert self.rest is not None
        self.next_turn()
        self.is_amid_utterance = not self.rest.is_whole
        frames = self.rest.take()
        messages = [*self._say(frames, now), *self._mark_the_end()]
        return seconds(len(frames)), messages

    @property
    def awaits_first_mark(self) -> bool:
        """Whether no mark has come back yet."""
        return self.mark_deadline != inf

    @property
    def marks_due(self) -> float:
        """When to ask whether the phone `is_without_marks`."""
        return inf if self.mark_deadline is None else self.mark_deadline

    def is_without_marks(self, now: float) -> bool:
        """Whether the phone turns out to be one that echoes no marks, once."""
        if self.mark_deadline is None or now < self.mark_deadline:
            return False
        self.mark_deadline = inf if self.playout.has_marks else now + MARKS_WITHIN
        return self.playout.has_marks

    def forget_heard(self) -> None:
        """A mark came back: what is behind the caller is not to be played on."""
        if self.rest is not None:
            self.rest.forget_heard(self.playout.position)

    def silent_after(self, mark: str, now: float) -> float | None:
        """How long a cut took to reach the caller, if it is this mark that tells."""
        if mark != self._cut_mark:
            return None
        self._cut_mark = ""
        return now - self._cut_at

    def _mark_the_end(self) -> list[twilio.ToCaller]:
        return [] if self.playout.is_marked else [self._mark()]

    def _mark(self) -> twilio.ToCaller:
        return twilio.PlayMark(self.stream_sid, twilio.MarkName(self.playout.mark()))

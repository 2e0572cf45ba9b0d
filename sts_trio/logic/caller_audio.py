"""What the agent gets to hear of the caller: batched, paced, kept while there is no agent. Pure.

Every byte the caller says comes out once and in order, but for what is dropped or muted, and that
is counted.

Gaps in the caller's frames are no hang-up (Twilio may send none while a phone is muted). The agent
is then given silence, paced as speech would be, so that it neither times out nor waits for the end
of a turn; its `KeepAlive` is reported not to be enough (deepgram-js-sdk, issue 419).

While it is not open, what the caller says waits for the agent, for as long as the call itself does.
A fresh agent also gets again what its predecessor was given of a turn that it had not understood
yet: words that are half said, and frames that were on their way when it was lost.
"""

from math import inf

from sts_trio.audio.frames import FRAME, SILENCE, Batch, length, seconds
from sts_trio.logic.perception import PERCEPTION, Perception

# A call gives up after 20 s without an agent, or goes on with less to tell it.
WAITING_ROOM = 30.0
# Of what an agent was given: it may have been deaf for that long before it was known to be lost.
REPEATED = 2.0
# And of a turn that it knew to have begun: a long sentence.
LONGEST_TURN = 10.0
# A gap in the caller's frames longer than jitter: from here on the agent hears silence instead.
GAP = 1.0
GAP_STEP = 0.2

_ROOM = length(WAITING_ROOM)
_REPEATED = length(REPEATED)
_LONGEST_TURN = length(LONGEST_TURN)
# Dropping what is too old costs as much for one frame as for a dozen.
_SURPLUS = length(0.25)


class CallerAudio:
    """`forward` is how many seconds of audio are worth a message to the agent."""

    __slots__ = (
        "_batch",
        "_delay",
        "_enough",
        "_given",
        "_keeps",
        "_perception",
        "batch_deadline",
        "dropped",
        "gap_deadline",
        "heard",
        "is_muted",
        "is_open",
        "muted",
        "repeated",
        "spoken",
        "waited",
    )

    def __init__(self, forward: float, perception: Perception = PERCEPTION) -> None:
        self._perception = perception
        self.heard = 0  # bytes of µ-law, all that came
        self.dropped = 0  # of these, what the agent never got
        self.muted = 0  # of these, what it got silence for
        self.repeated = 0  # bytes that were given to a second agent as well
        self.waited = 0  # bytes that there was no agent for when they came
        self.spoken: int | None = None  # of these `heard`, where the speech of the last turn ended
        self.is_open = False
        self.is_muted = False
        self.batch_deadline = inf
        self.gap_deadline = inf
        self._enough = length(forward)
        self._delay = forward
        self._batch = Batch()  # what waits to be forwarded
        self._given = Batch()  # the end of what the agent was given since the last turn
        self._keeps = _REPEATED  # bytes of it

    @property
    def waiting(self) -> int:
        """Bytes that are still to be forwarded."""
        return self._batch.size

    @property
    def given(self) -> int:
        """Bytes that are kept of what was forwarded."""
        return self._given.size

    @property
    def keeps(self) -> int:
        """How many of these are kept at least, once there are so many."""
        return self._keeps

    def hear(self, audio: bytes, now: float) -> None:
        """The caller's audio; `due` tells what is to be forwarded of it."""
        self.heard += len(audio)
        if self.is_muted:
            self.muted += len(audio)
            audio = SILENCE * len(audio)
        self._batch.add(audio)
        if self.is_open:
            self.gap_deadline = now + GAP

    def keep(self) -> int:
        """What waits for an agent stays, up to `WAITING_ROOM`; returns how many bytes had to go."""
        return self.drop(self._batch.keep_newest(_ROOM))

    def drop(self, count: int) -> int:
        self.dropped += count
        return count

    def due(self, now: float) -> bytes:
        """What is to be forwarded now, once there is enough; may be empty."""
        size = self._batch.size
        if not self.is_open or not size:
            return b""
        if size >= self._enough:
            return self.take()
        if self.batch_deadline == inf:
            self.batch_deadline = now + 2 * self._delay
        return b""

    def pass_on(self, audio: bytes, now: float) -> bytes:
        """`hear` and `due` in one; shorter, where the agent may have all of it as it comes."""
        if self._batch.size or self.is_muted or not self.is_open or len(audio) < self._enough:
            self.hear(audio, now)
            return self.due(now)
        self.heard += len(audio)
        self.gap_deadline = now + GAP
        self._give(audio)
        return audio

    def take(self) -> bytes:
        """All there is, enough or not; may be empty."""
        self.batch_deadline = inf
        audio = self._batch.take()
        self._give(audio)
        return audio

    def _give(self, audio: bytes) -> None:
        self._given.add(audio)
        if self._given.size > self._keeps + _SURPLUS:
            self._given.keep_newest(self._keeps)

    def open_session(self, now: float) -> bytes:
        """There is an agent: what waited for it, and before that what the last one may have missed.

        Together no more than `WAITING_ROOM`.
        """
        self.is_open = True
        self.gap_deadline = now + GAP
        self.waited += self._batch.size
        self._given.keep_newest(min(self._keeps, _ROOM - self._batch.size))
        again = self._given.take()
        self._given.add(again)  # it may be missed once more
        self.repeated += len(again)
        return again + self.take()

    def begin_turn(self) -> None:
        """The agent hears the caller speak: all of it belongs together."""
        self._keeps = _LONGEST_TURN

    def end_turn(self, now: float) -> float | None:
        """The agent has understood what it was given so far. Returns when the caller was last to be
        heard in it; None: that is longer ago than what is kept, or in a gap."""
        audio = self._given.take()
        self._keeps = _REPEATED
        self.spoken = None
        last = self.gap_deadline - GAP  # the newest of it, unless silence has filled a gap since
        if not self.is_open or last < now - (GAP - GAP_STEP):
            return None
        for end in range(len(audio), 0, -FRAME):
            if self._perception.is_audible(audio[max(0, end - FRAME) : end]):
                silent = self._batch.size + len(audio) - end
                self.spoken = self.heard - silent
                return min(last, now) - seconds(silent)
        return None

    def take_back(self, unsent: bytes) -> None:
        """That much at the end of what the last agent was given it never got."""
        if len(unsent) > self._keeps:
            self._keeps = len(unsent)
            self._given.take()
            self._given.add(unsent)

    def close_session(self, now: float) -> None:
        """There is no agent, for the time being or for good."""
        self.is_open = False
        self.gap_deadline = self.batch_deadline = inf

    def tick(self, now: float) -> list[bytes]:
        """What is to be forwarded though it is not enough, and silence if the caller sends none."""
        due = []
        is_gap = now >= self.gap_deadline
        if (is_gap or now >= self.batch_deadline) and (audio := self.take()):
            due.append(audio)
        if is_gap:
            due.append(self.fill_gap(now))
        return due

    def fill_gap(self, now: float) -> bytes:
        """Silence for the time that has passed, be the tick late; of a stall, for a second."""
        late = min(now - self.gap_deadline, GAP - GAP_STEP)
        steps = 1 + int(late / GAP_STEP + 1e-9)  # a step that is due is not left to the next tick
        self.gap_deadline = now - late + steps * GAP_STEP
        return SILENCE * length(steps * GAP_STEP)

"""Both sides of a call as its caller heard them, on one clock: the caller's own stream. Pure.

Left is what came from the phone, in the order in which it came. Right is what the phone played, and
when: a mark comes back in that same stream once the audio before it has been played, so the place
at which it comes back is where that audio ended, whatever the network takes on either way. Nothing
is known more exactly than to a frame of the stream, 20 ms.

Audio is placed from mark to mark. What was sent while the phone still had something to play follows
that without a gap; what came to an empty phone begins a new run, whose place is known from its
first mark. Behind a `clear` stands a mark, too: where that comes back, the audio before the `clear`
was cut, and what would have been heard later is left out.

A place is a number of samples since the stream began. What is final is given out by `advance`; what
waits for its mark is kept, which is what the phone still has to play.
"""

import collections

import msgspec

from sts_trio.audio.frames import BYTES_PER_SECOND, FRAME, SILENCE, length
from sts_trio.records.unplaced import Audio, Clear, Sent, Unplaced, audio_of, by_clears

# How much is given out at once.
STEP = length(1.0)
# A phone without marks, or one that has lost some: then the clock tells.
PATIENCE = length(2.0)
# A hole in the caller's stream that is longer was no jitter: the phone was muted, and sent nothing.
HOLE = length(1.0)
# Without a frame for so long, time is taken to have passed all the same. What comes late after all
# stands later than it was.
STALL = length(3.0)
# What the clock says of a place is this much wrong at times, so a gap that is shorter is none.
UNSURE = 3 * FRAME
# The mark came this much later than the audio should have ended: so there was a gap.
LATE = 2 * FRAME
# From here to the phone and back. Longer is no network, but a clock that was stopped.
LONGEST_WAY = length(2.0)


class Piece(msgspec.Struct, frozen=True):
    """Both sides from where the last piece ended, of the same length; None: silence."""

    left: bytes
    right: bytes | None


class Tracks:
    """`now` is in seconds, from whatever time on."""

    __slots__ = (
        "_first_timestamp",
        "_left",
        "_muted",
        "_placed",
        "_played_to",
        "_unplaced",
        "_unsure",
        "_way",
        "_zero",
        "position",
        "written",
    )

    def __init__(self, now: float) -> None:
        self.position = 0  # where the caller's audio has come to
        self.written = 0  # and what is given out
        self._zero = now * BYTES_PER_SECOND  # when place 0 was, by the quickest frame so far
        self._first_timestamp: int | None = None
        self._left = bytearray()  # from `written` to `position`
        self._unplaced = Unplaced()
        # {name: where it came back} of marks before a `clear`: played, or cleared?
        self._unsure: dict[str, int] = {}
        self._placed: collections.deque[tuple[int, bytes]] = collections.deque()
        self._played_to = 0  # where the audio that is placed ends
        self._way = 0  # to the phone and back
        self._muted: list[tuple[int, int | None]] = []  # from, to

    # --- what happens ---------------------------------------------------------------------------

    def hear(self, audio: bytes, timestamp: int, now: float) -> None:
        """The caller's audio; `timestamp` are Twilio's milliseconds since the stream began."""
        if self._first_timestamp is None:
            self._first_timestamp = timestamp
            self._zero = now * BYTES_PER_SECOND - len(audio)
        since = (timestamp - self._first_timestamp) * BYTES_PER_SECOND // 1000
        # Of the peer's word no more is taken than time has passed.
        hole = min(since, self._clock(now) - len(audio)) - self.position
        if hole > HOLE:
            self._left += SILENCE * hole
            self.position += hole
        self._left += audio
        self.position += len(audio)
        zero = now * BYTES_PER_SECOND - self.position
        if zero < self._zero:
            self._zero = zero

    def say(self, audio: bytes, now: float) -> None:
        """Audio goes to the phone."""
        self._unplaced.say(audio, self._clock(now))

    def mark(self, name: str) -> None:
        self._unplaced.mark(name)

    def clear(self, now: float) -> None:
        self._unplaced.clear(self._clock(now))

    def echo(self, name: str, now: float) -> None:
        """A mark comes back."""
        if not self._unplaced.has_mark(name):
            return
        here = self._here(now)
        if self._unplaced.may_be_cleared(name):
            self._unsure.setdefault(name, here)
            return
        # Those that came well before were played, the others the `clear` has sent back.
        for before, at in list(self._unsure.items()):
            if self._unplaced.has_mark(before) and at < here - 2 * FRAME:
                self._place_to(before, at)
        self._unsure.clear()
        self._place_to(name, here)

    def pause(self) -> None:
        """From here on there is silence on both sides."""
        if not self._muted or self._muted[-1][1] is not None:
            self._muted.append((self.position, None))

    def resume(self, now: float) -> None:
        """No longer: for what was said from now on, and is still on its way."""
        if self._muted and self._muted[-1][1] is None:
            self._muted[-1] = (self._muted[-1][0], self._clock(now) + self._way)

    # --- what comes of it -----------------------------------------------------------------------

    def advance(self, now: float) -> Piece | None:
        """What is final by now, if that is enough to be given out."""
        if self.position - self.written < STEP and self._clock(now) - self.position < STALL:
            return None
        stalled = self._clock(now) - STALL - self.position
        if stalled > 0:
            self._left += SILENCE * stalled
            self.position += stalled
        self._place_overdue(self._here(now))
        until = min(self.position, self._horizon())
        return self._give(until) if until - self.written >= STEP else None

    def end(self, now: float) -> Piece | None:
        """The rest, as the call is over."""
        here = self._here(now)
        for group in by_clears(self._unplaced.take_all()):
            clear = group[-1] if group else None
            at = clear.sent_at + self._way if isinstance(clear, Clear) else here
            self._place_cut(group, min(here, at))
        return self._give(self.position) if self.position > self.written else None

    def _clock(self, now: float) -> int:
        """The place that belongs to this moment: no frame has come sooner than by it."""
        return int(now * BYTES_PER_SECOND - self._zero)

    def _here(self, now: float) -> int:
        """Where something stands that comes in the caller's stream now. Between frames is exact;
        where there are none, only the clock tells."""
        clock = self._clock(now)
        return clock if clock - self.position > HOLE else self.position

    # --- placing --------------------------------------------------------------------------------

    @property
    def _free(self) -> int:
        """From here on the right side is not taken."""
        return max(self._played_to, self.written)

    @property
    def _may_run_on(self) -> bool:
        """Whether what comes next may follow without a gap: there is something before it, and no
        silence behind that is given out yet."""
        return bool(self._played_to) and self._played_to >= self.written

    def _place_to(self, name: str, here: int) -> None:
        """All that was sent before this mark, which came back here."""
        sent = self._unplaced.take_to(name)
        is_cut_here = bool(sent) and isinstance(sent[-1], Clear)
        *cut, played = by_clears(sent)
        for number, group in enumerate(cut):
            clear = group[-1]
            assert isinstance(clear, Clear)
            if number == len(cut) - 1 and is_cut_here:
                # It waits for nothing: so this is how far away the phone is.
                self._way = min(max(0, here - clear.sent_at), LONGEST_WAY)
            self._place_cut(group, min(here, clear.sent_at + self._way))
        self._place_played(audio_of(played), here)

    def _begins(self, audio: list[Audio]) -> list[int]:
        """Where each would begin by the clock."""
        begins = []
        at = self._free
        is_run_on = self._may_run_on
        for each in audio:
            by_clock = each.sent_at + self._way
            if by_clock - at > (UNSURE if is_run_on else 0):
                at = by_clock
            is_run_on = True
            begins.append(at)
            at += len(each.audio)
        return begins

    def _place_played(self, audio: list[Audio], here: int) -> None:
        """Audio of which the last has just been played."""
        if not audio:
            return
        begins = self._begins(audio)
        shift = here - (begins[-1] + len(audio[-1].audio))
        # The last run: what follows the last gap.
        first = len(audio) - 1
        while first and begins[first] == begins[first - 1] + len(audio[first - 1].audio):
            first -= 1
        before = self._free if not first else begins[first - 1] + len(audio[first - 1].audio)
        if begins[first] > before or not (first or self._may_run_on):
            begin = max(before, begins[first] + shift, audio[first].sent_at)
            self._way = min(max(0, begin - audio[first].sent_at), LONGEST_WAY)
            shift = begin - begins[first]
        elif shift > LATE:
            # The phone ran dry somewhere in it, most likely where it had to wait the longest.
            slack = [each.sent_at - at for each, at in zip(audio, begins, strict=True)]
            first = max(range(first, len(audio)), key=slack.__getitem__)
        else:
            shift = 0
        for number, each in enumerate(audio):
            self._place(each.audio, begins[number] + (shift if number >= first else 0))

    def _place_cut(self, sent: list[Sent], cut: int) -> None:
        """What was heard of it until it was cut there."""
        audio = audio_of(sent)
        for each, at in zip(audio, self._begins(audio), strict=True):
            if at >= cut:
                break
            self._place(each.audio[: cut - at], at)

    def _place(self, audio: bytes, at: int) -> None:
        self._placed.append((at, audio))
        self._played_to = at + len(audio)

    def _place_overdue(self, here: int) -> None:
        """Whatever should have come back long ago."""
        while (first := self._unplaced.first) is not None:
            if (clear := self._unplaced.first_clear) is not None:
                cut = clear.sent_at + self._way
                if here - cut < PATIENCE:
                    return
                group: list[Sent] = []
                while not isinstance(each := self._unplaced.take(), Clear):
                    group.append(each)
                self._place_cut(group, cut)
            elif isinstance(first, Audio):
                [begin] = self._begins([first])
                if here - (begin + len(first.audio)) < PATIENCE:
                    return
                self._unplaced.take()
                self._place(first.audio, begin)
            else:
                self._unplaced.take()

    # --- giving out -----------------------------------------------------------------------------

    def _horizon(self) -> int:
        """Before that nothing of the agent's can still come to stand."""
        sent = self._unplaced.first_audio
        if sent is None:
            return self.position
        by_clock = sent.sent_at + self._way
        is_run_on = self._may_run_on and by_clock - self._free <= UNSURE
        return self._free if is_run_on else max(self._free, sent.sent_at)

    def _give(self, until: int) -> Piece:
        size = until - self.written
        left = bytes(self._left[:size])
        del self._left[:size]
        right = self._right(until)
        piece = self._without_muted(left, right, until) if self._muted else Piece(left, right)
        self.written = until
        return piece

    def _right(self, until: int) -> bytes | None:
        pieces: list[bytes] = []
        at = self.written
        while self._placed and self._placed[0][0] < until:
            begin, audio = self._placed.popleft()
            if begin + len(audio) > until:
                self._placed.appendleft((until, audio[until - begin :]))
                audio = audio[: until - begin]
            pieces += (SILENCE * (begin - at), audio)
            at = begin + len(audio)
        if not pieces:
            return None
        return b"".join(pieces) + SILENCE * (until - at)

    def _without_muted(self, left: bytes, right: bytes | None, until: int) -> Piece:
        sides = [bytearray(side) for side in (left, right) if side is not None]
        for begin, end in self._muted:
            start = max(begin, self.written) - self.written
            stop = min(until, until if end is None else end) - self.written
            if start < stop:
                for side in sides:
                    side[start:stop] = SILENCE * (stop - start)
        self._muted = [each for each in self._muted if each[1] is None or each[1] > until]
        return Piece(bytes(sides[0]), None if right is None else bytes(sides[1]))

"""The silence before an answer, as it is told, is the silence in the recording.

Whole calls in simulated time: a phone that plays what comes and echoes marks, a way there and back
that jitters, an agent whose answers begin with breath and come in lumps. What the dialogue tells is
held against the stereo file, read back from disk, in which a detector of energy finds who spoke
when.
"""

import heapq
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from rig_dialogue import Bridge
from rig_peers import START, STREAM_SID
from rig_recordings import sides

from sts_trio.audio.frames import FRAME, seconds
from sts_trio.logic.acts import AgentReached, Heard, SendToCaller, Tick
from sts_trio.observe import events
from sts_trio.observe.feed import call_event
from sts_trio.observe.figures import Figures
from sts_trio.records.recording_file import RecordingFile
from sts_trio.records.tracks import Piece, Tracks
from sts_trio.simulate.earpiece import Earpiece, Spans
from sts_trio.wire import deepgram, twilio

TURNS = 15  # of a call, and there are four
WITHIN = 0.04
FRAME_SECONDS = 0.02


def noise(loud: int) -> bytes:
    """A second of µ-law as a voice swings, of a loudness from 0 (none) to 7."""
    steps = random.Random(loud).choices(range(16), k=8000)
    return bytes((0xFF if at & 4 else 0x7F) - (loud << 4 | step) for at, step in enumerate(steps))


HISS, VOICE = 0, 5
NOISES = {loud: noise(loud) for loud in (HISS, VOICE)}


class Line:
    """A call from phone to agent; `told` is what the dialogue tells of the answers."""

    def __init__(self, seed: int, *, up: float, down: float, jitter: float, beat: float) -> None:
        self.random = random.Random(seed)
        self.up, self.down, self.jitter, self.beat = up, down, jitter, beat
        self.now = 0.0
        self.told: list[float] = []
        self.figures = Figures()
        self.bridge = Bridge()
        self.tracks = Tracks(0.0)
        self.pieces: list[Piece] = []
        self.earpiece = Earpiece()
        self.speaks_until = self.pauses_from = self.pauses_until = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._inbox: list[twilio.Message] = []
        self._last_up = self._last_down = 0.0
        self.hear(START, AgentReached(), deepgram.Welcome("r"), deepgram.SettingsApplied())
        self.at(0.0, self._tick)
        self.at(beat, self._beat)

    def at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._numbers), do))

    def later(self, after: float, *heard: Heard) -> None:
        self.at(self.now + after, lambda: self.hear(*heard))

    def run(self, until: float) -> None:
        while self._due and self._due[0][0] <= until:
            self.now, _, do = heapq.heappop(self._due)
            do()
        self.now = until

    def hear(self, *heard: Heard) -> None:
        self.bridge.now = self.now
        for act in self.bridge.hear(*heard):
            if isinstance(act, SendToCaller):
                self._send(act.message)
            elif isinstance(act, events.AgentAnswerHeard):
                self.told.append(act.after)
                self.figures.hear(call_event("CA1", self.now, act))

    # --- the phone ------------------------------------------------------------------------------

    def noise(self, size: int, loud: int) -> bytes:
        """Some of it, never the same."""
        at = self.random.randrange(8000)
        return (NOISES[loud] * 4)[at : at + size]

    def _tick(self) -> None:
        self.at(self.now + FRAME_SECONDS, self._tick)
        pauses = self.pauses_from <= self.now < self.pauses_until
        loud = VOICE if self.now < self.speaks_until and not pauses else HISS
        media = twilio.Media(
            twilio.Inbound(self.noise(FRAME, loud), timestamp=round(self.now * 1000)), STREAM_SID
        )
        self._to_server(media)
        self._echo(self.earpiece.advance(self.now))

    def _echo(self, names: list[str]) -> None:
        for name in names:
            self._to_server(twilio.Mark(twilio.MarkName(name), STREAM_SID))

    def _to_server(self, message: twilio.Message) -> None:
        self._last_up = max(self._last_up, self.now + self.up + self.jitter * self.random.random())
        self.at(self._last_up, lambda: self._inbox.append(message))

    # --- the server -----------------------------------------------------------------------------

    def _beat(self) -> None:
        self.at(self.now + self.beat, self._beat)
        inbox, self._inbox = self._inbox, []
        for message in inbox:  # as `Recording` does
            if isinstance(message, twilio.Media):
                self.tracks.hear(message.media.payload, message.media.timestamp, self.now)
            elif isinstance(message, twilio.Mark):
                self.tracks.echo(message.mark.name, self.now)
        if inbox:
            if (piece := self.tracks.advance(self.now)) is not None:
                self.pieces.append(piece)
            self.hear(*inbox)
        if self.now >= self.bridge.dialogue.deadline:
            self.hear(Tick())

    def _send(self, message: twilio.ToCaller) -> None:
        way = self.down + self.jitter * self.random.random()
        self._last_down = max(self._last_down, self.now + way)
        play = self.earpiece
        match message:
            case twilio.PlayMedia(_, twilio.Outbound(audio)):
                self.tracks.say(audio, self.now)
                self.at(self._last_down, lambda: self._echo(play.play(audio, self.now)))
            case twilio.PlayMark(_, twilio.MarkName(name)):
                self.tracks.mark(name)
                self.at(self._last_down, lambda: self._echo(play.mark(name, self.now)))
            case twilio.Clear():
                self.tracks.clear(self.now)
                self.at(self._last_down, lambda: self._echo(play.clear(self.now)))

    # --- the conversation -----------------------------------------------------------------------

    def turn(self) -> None:
        """The caller says something, and hears the answer out."""
        chance = self.random.uniform
        spoken = chance(0.4, 1.5)
        self.speaks_until = self.now + spoken
        self.pauses_from = self.now + chance(0.2, 0.6) * spoken
        self.pauses_until = self.pauses_from + chance(0.0, 0.3)
        self.later(self.up + 0.15, deepgram.UserStartedSpeaking())
        understood = spoken + self.up + self.beat + chance(0.1, 1.2)
        self.later(understood, deepgram.ConversationText("user", "What is it?"))
        answered = understood + chance(0.05, 1.5)
        self.later(answered, deepgram.ConversationText("agent", "It is this."))
        breath = self.noise(round(chance(0, 0.3) * 8000), HISS)
        voice = self.noise(round(chance(0.7, 1.2) * 8000), VOICE)
        audio, at = breath + voice, answered
        while audio:
            size = round(chance(0.03, 0.4) * 8000)
            self.later(at, deepgram.Audio(audio[:size]))
            at += min(size, len(audio)) / 8000 / chance(1.2, 4.0)
            audio = audio[size:]
        self.later(at, deepgram.AgentAudioDone())
        self.run(self.now + answered + seconds(len(breath + voice)) + chance(0.8, 1.2))

    def recording(self, path: Path) -> tuple[bytes, bytes]:
        file = RecordingFile(path)
        if (last := self.tracks.end(self.now)) is not None:
            self.pieces.append(last)
        for piece in self.pieces:
            file.append(0, piece.left, piece.right)
        file.finish()
        return sides(path)


def spans_of(track: bytes) -> list[tuple[float, float]]:
    spans = Spans()
    spans.add(track)
    return spans.spans


@pytest.mark.parametrize(
    ("seed", "up", "down", "jitter", "beat"),
    [
        (1, 0.01, 0.01, 0.0, 0.02),
        (2, 0.08, 0.03, 0.0, 0.1),
        (3, 0.04, 0.12, 0.03, 0.02),
        (4, 0.06, 0.06, 0.03, 0.1),
    ],
    ids=["near", "busy", "far", "far and busy"],
)
def test_the_silence_that_is_told_is_the_silence_in_the_recording(
    tmp_path: Path, seed: int, up: float, down: float, jitter: float, beat: float
) -> None:
    line = Line(seed, up=up, down=down, jitter=jitter, beat=beat)
    line.run(1.0)
    for _ in range(TURNS):
        line.turn()
    caller, agent = map(spans_of, line.recording(tmp_path / "call.wav"))
    assert len(caller) == len(agent) == len(line.told) == TURNS
    recorded = [began - ended for (_, ended), (began, _) in zip(caller, agent, strict=True)]
    assert min(recorded) > 0.2
    assert max(recorded) > 2.0, "so the figures differ, and may not agree by chance"
    [figures] = [each for each in line.figures.registry.collect() if "response" in each.name]
    [total] = [each.value for each in figures.samples if each.name.endswith("_sum")]
    assert total == pytest.approx(sum(line.told)), "what a scraper is told"
    worst = max(abs(told - heard) for told, heard in zip(line.told, recorded, strict=True))
    assert worst <= WITHIN

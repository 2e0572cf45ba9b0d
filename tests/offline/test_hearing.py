"""What the ears make of speech: rendered clips of five voices, as a phone line carries them.

The clips and where they are from: data/speech/README.md.
"""

import itertools
import math
import random
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from sts_trio.audio import g711
from sts_trio.audio.clips import read
from sts_trio.audio.frames import FRAME, length, seconds
from sts_trio.offline.domain import ngrams
from sts_trio.offline.hearing import vad as voiced
from sts_trio.offline.hearing.confidence import Likeness
from sts_trio.offline.hearing.endpointing import Began, Ceased, Ears, News, Paused, Resumed
from sts_trio.offline.hearing.recogniser import RATE, Recogniser, double

SPEECH = Path(__file__).parent.parent / "data" / "speech"
CLIPS = read((SPEECH / "clips.toml").read_bytes())
MAX_ERRORS = 0.08  # of the words
QUIET_LINE, BAD_LINE = -58, -45  # dBFS of its noise; people speak at about -20
BEFORE, AFTER = 1.0, 0.8  # seconds of the line around what is said


# Five seconds of noise, which a line has from anywhere in it on, and again: to draw each sample
# anew took longer than to listen to it.
CHANCE = random.Random(7)
NOISE = [CHANCE.gauss(0, 1) for _ in range(length(5.0))]


def on_the_line(speech: bytes, noise: float, chance: random.Random) -> bytes:
    """The speech as it comes over a line with this much noise, in dBFS."""
    spread = 32768 * g711.decibels(noise)
    silence = b"\xff"
    audio = silence * length(BEFORE) + speech + silence * length(AFTER)
    begin = chance.randrange(len(NOISE))
    noises = itertools.islice(itertools.cycle(NOISE), begin, None)
    return g711.encode_samples(
        g711.SAMPLES[code] + spread * each for code, each in zip(audio, noises, strict=False)
    )


def listen(audio: bytes) -> list[tuple[float, News]]:
    """What fresh ears tell, and after how many seconds of audio."""
    ears = Ears(voiced.sense())
    return [
        (seconds(at + FRAME), news)
        for at in range(0, len(audio), FRAME)
        for news in ears.listen(audio[at : at + FRAME])
    ]


def errors(said: list[str], heard: list[str]) -> int:
    """The least number of words to be put in, taken out or changed."""
    row = list(range(len(heard) + 1))
    for number, word in enumerate(said, 1):
        diagonal, row[0] = row[0], number
        for at, other in enumerate(heard, 1):
            change = diagonal + (word != other)
            diagonal, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, change)
    return row[-1]


@pytest.mark.parametrize(
    ("said", "heard", "count"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "a c", 1),
        ("a b", "a x b y", 2),
        ("a", "b", 1),
        ("", "a", 1),
    ],
)
def test_errors_are_counted_by_the_word(said: str, heard: str, count: int) -> None:
    assert errors(said.split(), heard.split()) == count


def test_at_most_8_percent_of_the_words_are_misheard(tell: Callable[[str], None]) -> None:
    recogniser = Recogniser()
    chance = random.Random(8)
    counts = {clip.voice: [0, 0] for clip in CLIPS}  # {voice: [errors, words]}
    for clip in CLIPS:
        audio = on_the_line((SPEECH / f"{clip.file}.ulaw").read_bytes(), QUIET_LINE, chance)
        turns = [news.audio for _, news in listen(audio) if isinstance(news, Ceased)]
        said, heard = clip.text.split(), " ".join(map(recogniser.words, turns)).split()
        wrong = errors(said, heard)
        counts[clip.voice][0] += wrong
        counts[clip.voice][1] += len(said)
        if wrong:
            tell(f"{clip.voice}: {clip.text!r} was heard as {' '.join(heard)!r}")
    wrong, words = (sum(count[n] for count in counts.values()) for n in (0, 1))
    by_voice = ", ".join(f"{voice} {w}/{n}" for voice, (w, n) in counts.items())
    tell(f"word error rate {wrong / words:.1%} ({by_voice})")
    assert words > 120
    assert wrong / words <= MAX_ERRORS


@pytest.mark.parametrize("noise", [QUIET_LINE, BAD_LINE])
def test_every_sentence_is_one_turn_noticed_within_150_ms_and_over_after_half_a_second(
    noise: float,
) -> None:
    chance = random.Random(9)
    noticed, over = [], []
    for clip in CLIPS:
        speech = (SPEECH / f"{clip.file}.ulaw").read_bytes()
        told = listen(on_the_line(speech, noise, chance))
        turns = [news for _, news in told if isinstance(news, Began | Ceased)]
        assert [type(each) for each in turns] == [Began, Ceased], clip
        # Clips have 50 ms of silence before and after.
        noticed += [at - BEFORE - 0.05 for at, news in told if isinstance(news, Began)]
        end = BEFORE + seconds(len(speech)) - 0.05
        over += [at - end for at, news in told if isinstance(news, Ceased)]
    assert statistics.median(noticed) <= 0.15
    assert max(noticed) <= 0.3  # soft first sounds
    assert 0.35 < statistics.median(over) < 0.65


def test_noise_alone_is_nobody() -> None:
    chance = random.Random(10)
    for noise in (-70, QUIET_LINE, -50, BAD_LINE):
        assert listen(on_the_line(b"\xff" * length(4.0), noise, chance)) == [], noise


def test_a_pause_is_told_with_the_audio_and_taken_back_when_speech_goes_on() -> None:
    first = (SPEECH / "rms-02.ulaw").read_bytes()
    second = (SPEECH / "rms-07.ulaw").read_bytes()
    gap = b"\xff" * length(0.3)
    told = listen(on_the_line(first + gap + second, QUIET_LINE, random.Random(11)))
    assert [type(news) for _, news in told] == [Began, Paused, Resumed, Paused, Ceased]
    half, whole = (news.audio for _, news in told if isinstance(news, Paused))
    assert whole.startswith(half)
    assert len(half) < len(first) + length(0.8) < len(whole)
    last = told[-1][1]
    assert isinstance(last, Ceased)
    assert last.audio == whole
    recogniser = Recogniser()
    assert recogniser.words(half) == "what cars do you have"
    assert recogniser.words(whole) == "what cars do you have at half past ten"


@pytest.mark.parametrize("audio", [b"", b"\xff", b"\xff" * 8000, bytes(range(256)) * 8])
def test_what_holds_no_words_is_survived(audio: bytes) -> None:
    assert Recogniser().words(audio).replace(" ", "").isalpha() or not Recogniser().words(audio)


def test_the_same_audio_is_the_same_words_whoever_spoke_before() -> None:
    recogniser = Recogniser()
    clip = (SPEECH / "kal16-04.ulaw").read_bytes()
    alone = recogniser.words(clip)
    recogniser.words((SPEECH / "slt-01.ulaw").read_bytes())
    recogniser.words(b"\x00\x80" * 4000)
    assert recogniser.words(clip) == alone == "tell me more about the otter please"


# --- from 8 to 16 kHz -----------------------------------------------------------------------------


def tone(frequency: float, rate: int, count: int) -> list[float]:
    return [10_000 * math.sin(2 * math.pi * frequency * n / rate) for n in range(count)]


def amplitude(samples: list[float], frequency: float, rate: int) -> float:
    """Of one frequency in it, by correlation, away from the ends."""
    samples = samples[200:-200]
    turns = [2 * math.pi * frequency * n / rate for n in range(len(samples))]
    real = sum(each * math.cos(turn) for each, turn in zip(samples, turns, strict=True))
    imaginary = sum(each * math.sin(turn) for each, turn in zip(samples, turns, strict=True))
    return 2 * math.hypot(real, imaginary) / len(samples)


@pytest.mark.parametrize("frequency", [300, 1000, 2000, 3000])
def test_doubling_the_rate_keeps_a_phones_band_and_leaves_little_of_its_mirror(
    frequency: int,
) -> None:
    doubled = double(tone(frequency, 8000, 4400))
    assert len(doubled) == 2 * 4400
    kept = amplitude(doubled, frequency, RATE)
    mirrored = amplitude(doubled, 8000 - frequency, RATE)
    assert 20 * math.log10(kept / 10_000) == pytest.approx(0, abs=0.1)
    assert 20 * math.log10(mirrored / kept) < -44


def test_doubling_keeps_every_sample_in_its_place() -> None:
    samples = [float(n) for n in range(-50, 50)]
    assert double(samples)[0::2] == samples
    assert double([]) == []


# --- what is not about cars -----------------------------------------------------------------------


def test_pairs_of_words_tell_a_sentence_from_a_heap_of_words() -> None:
    likeness = Likeness(ngrams.Model([["a", "b", "c"], ["b", "a"]]).arpa())
    assert likeness.strangeness(["a", "b", "c"]) == 0.0
    assert likeness.strangeness(["b", "c"]) == 0.0
    assert likeness.strangeness(["a", "c", "b"]) == 3 / 4
    assert likeness.strangeness(["x"]) == 1.0
    assert not likeness.is_likely(["a", "c", "b"])
    assert not likeness.is_likely([])
    assert likeness.is_likely(["b", "a"])


def test_most_of_what_is_not_about_cars_is_not_understood(
    tell: Callable[[str], None],
) -> None:
    recogniser = Recogniser()
    directory = SPEECH / "elsewhere"
    others = read((directory / "clips.toml").read_bytes())
    heard = [recogniser.words((directory / f"{clip.file}.ulaw").read_bytes()) for clip in others]
    taken = [words for words in heard if words]
    tell(f"of {len(others)} sentences about other things, heard: {taken}")
    assert len(taken) <= len(others) / 2

"""A voice that needs nothing: not words, but the rhythm, pitch and colour of somebody talking.

Pure Python, deterministic, fast. Each letter becomes a sound: vowels ring three formants at every
pulse of the pitch, nasals hum, fricatives hiss, stops are a gap and a burst; pitch falls along a
sentence and rises before a question mark. Pulses are rendered once, kept as µ-law, and a text is
put together by joining them.
"""

import functools
import math
import random
import re
import unicodedata
from collections.abc import Iterator

import msgspec

from sts_trio.audio import g711
from sts_trio.audio.frames import BYTES_PER_SECOND, SILENCE, length

PITCH = 115.0  # hertz: an ordinary low voice
# Longer texts are cut: nobody listens to a demo for longer, and this bounds what is rendered.
MAX_LETTERS = 2000

# Seconds. Together about fifteen letters a second, spaces included.
_VOWEL, _SONORANT, _HISS, _STOP, _SPACE = 0.088, 0.054, 0.062, 0.052, 0.026
_COMMA, _FULL_STOP = 0.14, 0.28

# {vowel: frequencies of its formants in hertz}
_FORMANTS = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (300, 2250, 2900),
    "o": (520, 900, 2410),
    "u": (320, 870, 2240),
    "y": (390, 1990, 2550),
    "m": (270, 1000, 2200),
    "l": (360, 1300, 2700),
    "r": (460, 1250, 1650),
}
_FORMANT_LOUDNESS = (1.0, 0.5, 0.22)
_BANDWIDTHS = (70, 100, 140)  # hertz: how fast a formant dies away after a pulse

_SONORANTS = {"m": "m", "n": "m", "l": "l", "r": "r", "w": "u", "v": "u", "j": "i"}
_HISSES = "sfhzcx"
_DIGITS = {
    "0": "zero",
    "1": "one",
    "2": "two",
    "3": "three",
    "4": "four",
    "5": "five",
    "6": "six",
    "7": "seven",
    "8": "eight",
    "9": "nine",
}

_STEADY = 12  # steps of loudness within which pulses are kept
_LOUD = 13500  # of a pulse's first peak, 16 bit: about -20 dBFS over a sentence


class Sound(msgspec.Struct, frozen=True):
    """One letter, or a pause: what is heard for how long."""

    kind: str  # "pulse", "hiss" or "pause"
    colour: str
    duration: float
    loudness: float


@functools.lru_cache(maxsize=256)
def say(text: str, pitch: float = PITCH) -> bytes:
    """The text as µ-law; empty for a text without a letter. `pitch` in hertz makes it a person.

    The same text and pitch give the same bytes.
    """
    said = bytearray()
    for sentence in re.findall(r"[^.!?\n]+[.!?\n]*", text[:MAX_LETTERS]):
        said += _sentence(sentence, pitch)
    return bytes(said)


def _sentence(sentence: str, pitch: float) -> bytes:
    sounds = list(_sounds(sentence))
    if all(sound.kind == "pause" for sound in sounds):
        return b""
    total = sum(sound.duration for sound in sounds)
    asks = sentence.rstrip().endswith("?")
    said = bytearray()
    for sound in sounds:
        past = len(said) / BYTES_PER_SECOND / total
        melody = 1.12 - 0.27 * past + 0.03 * math.sin(19 * past)
        if asks and past > 0.75:
            melody += 1.6 * (past - 0.75)
        said += _render(sound, pitch * melody)
    return bytes(said)


def _sounds(sentence: str) -> Iterator[Sound]:
    # Letters without their accents; what is no Latin letter at all still takes its time.
    plain = unicodedata.normalize("NFKD", sentence).lower()
    spelt = "".join(f"{_DIGITS[sign]} " if sign in _DIGITS else sign for sign in plain)
    previous = ""
    for sign in spelt:
        if unicodedata.combining(sign):
            continue
        yield from _sound(sign, previous)
        previous = sign
    yield Sound("pause", "", _FULL_STOP, 0.0)


def _sound(sign: str, previous: str) -> Iterator[Sound]:
    if sign in _SONORANTS:
        yield Sound("pulse", _SONORANTS[sign], _SONORANT, 0.45)
    elif sign in _FORMANTS:
        # The second vowel of two is a glide, and an e at times hardly a sound.
        yield Sound("pulse", sign, _VOWEL if previous not in "aeiouy" else _SONORANT, 1.0)
    elif sign in _HISSES:
        yield Sound("hiss", sign, _HISS, 0.5 if sign in "fh" else 1.0)
    elif sign in ",;:":
        yield Sound("pause", "", _COMMA, 0.0)
    elif sign.isalpha() and sign.isascii():
        yield Sound("pause", "", _STOP / 2, 0.0)
        yield Sound("hiss", "t", _STOP / 2, 0.8)
    elif sign.isalnum():
        yield Sound("pulse", "aeiou"[ord(sign) % 5], _VOWEL, 1.0)
    else:
        yield Sound("pause", "", _SPACE, 0.0)


def _render(sound: Sound, pitch: float) -> bytes:
    if sound.kind == "pause":
        return SILENCE * length(sound.duration)
    if sound.kind == "hiss":
        return _hiss(sound.loudness, length(sound.duration))
    period = round(BYTES_PER_SECOND / pitch)
    pulses = max(1, round(length(sound.duration) / period))
    return b"".join(
        _pulse(sound.colour, period, round(_STEADY * sound.loudness * swell))
        for swell in _swells(pulses)
    )


def _swells(count: int) -> list[float]:
    """A letter's loudness over its pulses: up, and less far down."""
    return [0.6 + 0.4 * math.sin(math.pi * (n + 0.8) / (count + 1)) for n in range(count)]


@functools.lru_cache(maxsize=4096)
def _pulse(colour: str, period: int, loudness: int) -> bytes:
    """One period of the pitch: a pulse of breath that rings the mouth."""
    peak = _LOUD * loudness / _STEADY
    return g711.encode_samples(peak * sample for sample in _ringing(colour, period))


@functools.lru_cache(maxsize=512)
def _ringing(colour: str, period: int) -> list[float]:
    samples = [0.0] * period
    for frequency, width, share in zip(
        _FORMANTS[colour], _BANDWIDTHS, _FORMANT_LOUDNESS, strict=True
    ):
        turn = 2 * math.pi * frequency / BYTES_PER_SECOND
        decay = math.exp(-math.pi * width / BYTES_PER_SECOND)
        for n in range(period):
            samples[n] += share * decay**n * math.sin(turn * n)
    return samples


@functools.lru_cache(maxsize=64)
def _hiss(loudness: float, count: int) -> bytes:
    noise = random.Random(count)
    samples = [noise.uniform(-1, 1) for _ in range(count + 1)]
    # The difference of neighbours leaves the high half of the noise: that of a mouth.
    return g711.encode_samples(
        0.2 * _LOUD * loudness * math.sin(math.pi * n / count) * (samples[n + 1] - samples[n])
        for n in range(count)
    )

"""Keys as µ-law, listened to by Goertzel's filter."""

import cmath
import math

import pytest

from sts_trio.audio import g711
from sts_trio.audio.tones import tones

FREQUENCIES = (697, 770, 852, 941, 1209, 1336, 1477, 1633)
PAIRS = {
    "1": (697, 1209),
    "5": (770, 1336),
    "9": (852, 1477),
    "0": (941, 1336),
    "*": (941, 1209),
    "#": (941, 1477),
    "A": (697, 1633),
    "d": (941, 1633),
}


def strength(samples: list[int], hertz: int) -> float:
    turn = -2j * math.pi * hertz / 8000
    total = sum(sample * cmath.exp(turn * place) for place, sample in enumerate(samples))
    return abs(total) / len(samples) / 32768


@pytest.mark.parametrize(("key", "pair"), PAIRS.items())
def test_a_key_is_its_two_frequencies_for_a_tenth_of_a_second(
    key: str, pair: tuple[int, int]
) -> None:
    audio = tones(key)
    assert len(audio) == 1600
    assert audio[800:] == b"\xff" * 800
    samples = [g711.SAMPLES[byte] for byte in audio[:800]]
    loud = {hertz for hertz in FREQUENCIES if strength(samples, hertz) > 0.1}
    assert loud == set(pair)


def test_keys_come_one_after_the_other_with_pauses_between() -> None:
    assert tones("1w5") == tones("1") + b"\xff" * 4000 + tones("5")
    assert tones("") == b""
    assert len(tones("1w5")) % 160 == 0


@pytest.mark.parametrize("digits", ["x", "12 3", "1-2", "\u0661", "12A3G"])
def test_what_is_no_key_is_refused(digits: str) -> None:
    with pytest.raises(ValueError, match="expected keys 0 to 9"):
        tones(digits)

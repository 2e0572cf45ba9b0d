import math
import random
import struct
import sys
import warnings

import pytest

from sts_trio.audio import g711

ALL_CODES = bytes(range(256))


def pcm(*samples: int) -> bytes:
    return struct.pack(f"<{len(samples)}h", *samples)


def samples_of(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(data) // 2}h", data)


@pytest.mark.parametrize(
    ("sample", "code"),
    [
        (0, 0xFF),
        (3, 0xFF),
        (4, 0xFE),
        (-1, 0x7E),
        (-4, 0x7E),
        (-8, 0x7E),
        (-9, 0x7D),
        (124, 0xEF),
        (1000, 0xCE),
        (-1000, 0x4E),
        (32123, 0x80),
        (32124, 0x80),
        (32767, 0x80),
        (-32124, 0x00),
        (-32768, 0x00),
    ],
)
def test_known_samples_have_their_code(sample: int, code: int) -> None:
    assert g711.encode(pcm(sample)) == bytes([code])


@pytest.mark.parametrize(
    ("code", "sample"),
    [
        (0xFF, 0),
        (0x7F, 0),
        (0xFE, 8),
        (0x7E, -8),
        (0xEF, 132),
        (0x80, 32124),
        (0x00, -32124),
        (0x8F, 16764),
        (0x90, 15996),
    ],
)
def test_known_codes_have_their_sample(code: int, sample: int) -> None:
    assert g711.decode(bytes([code])) == pcm(sample)
    assert g711.SAMPLES[code] == sample


def test_every_code_survives_decoding_and_encoding_but_negative_zero_which_becomes_positive() -> (
    None
):
    expected = bytes(0xFF if code == 0x7F else code for code in range(256))
    assert g711.encode(g711.decode(ALL_CODES)) == expected


def test_a_louder_sample_never_decodes_to_a_quieter_one() -> None:
    heard = samples_of(g711.decode(g711.encode(pcm(*range(-32768, 32768)))))
    assert list(heard) == sorted(heard)
    assert len(set(heard)) == 255


def test_no_sample_moves_by_more_than_half_a_step() -> None:
    for sample in range(-32124, 32125, 7):
        (heard,) = samples_of(g711.decode(g711.encode(pcm(sample))))
        segment = (abs(sample >> 2) + 33).bit_length() - 6
        # Half a step, and the two bits that are cut off first.
        assert abs(heard - sample) <= (4 << segment) + 3


def test_silence_is_the_code_of_zero() -> None:
    assert g711.encode(pcm(0)) == bytes([g711.SILENCE])


def test_nothing_is_nothing() -> None:
    assert g711.encode(b"") == b""
    assert g711.decode(b"") == b""
    assert g711.level(b"") == 0.0


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(struct.error):
        g711.encode(b"\x00\x01\x02")


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="audioop left Python with 3.13")
def test_both_ways_agree_with_audioop() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import audioop

    everything = pcm(*range(-32768, 32768))
    assert g711.encode(everything) == audioop.lin2ulaw(everything, 2)
    assert g711.decode(ALL_CODES) == audioop.ulaw2lin(ALL_CODES, 2)
    noise = random.Random(1).randbytes(160)
    assert g711.level(noise) == pytest.approx(
        audioop.rms(audioop.ulaw2lin(noise, 2), 2) / 32768, abs=1 / 32768
    )


def test_the_level_of_silence_is_nothing_and_of_a_full_sine_three_decibels_below_full() -> None:
    assert g711.level(bytes([0xFF, 0x7F] * 80)) == 0.0
    sine = g711.encode(
        pcm(*(round(32000 * math.sin(2 * math.pi * 1000 * n / 8000)) for n in range(160)))
    )
    assert g711.level(sine) == pytest.approx(g711.decibels(-3.2), rel=0.02)


def test_numbers_are_rounded_and_clipped() -> None:
    assert g711.encode_samples([0.4, -0.4, 1000.4, 40000.0, -1e9]) == g711.encode(
        pcm(0, 0, 1000, 32767, -32768)
    )


def test_decibels_are_of_amplitude() -> None:
    assert g711.decibels(0) == 1.0
    assert g711.decibels(-20) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("amplitude", "is_heard"), [(0, False), (200, False), (400, True), (20_000, True)]
)
def test_speech_is_audible_and_the_hiss_of_a_line_is_not(amplitude: float, is_heard: bool) -> None:
    wave = [amplitude * math.sin(place / 3) for place in range(160)]
    assert g711.is_audible(g711.encode_samples(wave)) is is_heard


@pytest.mark.parametrize("constant", [b"\x00", b"\x80", b"\xff", b"\x7f", b"\x55"])
def test_what_does_not_swing_is_no_sound(constant: bytes) -> None:
    assert not g711.is_audible(constant * 160)


def test_nothing_is_not_audible() -> None:
    assert not g711.is_audible(b"")

import contextlib
import itertools
import math
import random
import struct
import time
import wave
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.audio import g711, wav

PCM, FLOAT, ULAW, EXTENSIBLE = 1, 3, 7, 0xFFFE
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def fmt(coding: int = PCM, channels: int = 1, rate: int = 8000, bits: int = 16) -> bytes:
    frame = channels * (bits // 8)
    body = struct.pack("<HHIIHH", coding, channels, rate, rate * frame, frame, bits)
    if coding == EXTENSIBLE:
        body += struct.pack("<HHI", 22, bits, 0) + struct.pack("<H", PCM) + GUID_TAIL
    return chunk(b"fmt ", body)


def file_of(samples: list[float], *, rate: int = 8000, bits: int = 16, channels: int = 1) -> bytes:
    """A WAV of samples between -1 and 1, the same in every channel."""
    body = bytearray()
    for sample in samples:
        if bits == 8:
            one = bytes([round(sample * 127) + 128])
        else:
            one = round(sample * (2 ** (bits - 1) - 1)).to_bytes(bits // 8, "little", signed=True)
        body += one * channels
    return riff(fmt(PCM, channels, rate, bits), chunk(b"data", bytes(body)))


def sine(hertz: float, rate: int, seconds: float = 0.5, loud: float = 0.5) -> list[float]:
    return [loud * math.sin(2 * math.pi * hertz * n / rate) for n in range(int(rate * seconds))]


def decibels_of(ulaw: bytes) -> float:
    return 20 * math.log10(max(1e-9, g711.level(ulaw[800:-800])))


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [6000, 8000, 11025, 16000, 22050, 44100, 48000])
def test_any_width_rate_and_number_of_channels_gives_the_same_sound(
    bits: int, channels: int, rate: int
) -> None:
    ulaw = wav.parse(file_of(sine(700, rate, 0.25), rate=rate, bits=bits, channels=channels))
    assert len(ulaw) == 2000
    expected = g711.encode(
        struct.pack("<2000h", *(round(32767 * sample) for sample in sine(700, 8000, 0.25)))
    )
    heard, meant = (struct.unpack("<2000h", g711.decode(side)) for side in (ulaw, expected))
    # A step of µ-law at this level is 1024; 8 bit is coarser than that when quiet.
    assert max(abs(a - b) for a, b in zip(heard[400:-400], meant[400:-400], strict=True)) <= 1024


def test_channels_are_mixed_to_their_mean() -> None:
    left_only = riff(fmt(channels=2), chunk(b"data", struct.pack("<hh", 16000, 0) * 100))
    assert wav.parse(left_only) == g711.encode(struct.pack("<h", 8000)) * 100


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_what_a_phone_carries_passes_and_what_it_cannot_carry_is_gone(rate: int) -> None:
    for hertz in (300, 1000, 3000, 3400):
        passed = decibels_of(wav.parse(file_of(sine(hertz, rate), rate=rate)))
        assert passed == pytest.approx(-9.0, abs=1.0)
    for hertz in (4200, 5000, 7000):
        assert decibels_of(wav.parse(file_of(sine(hertz, rate), rate=rate))) < -50


def test_an_odd_rate_is_read_as_well() -> None:
    ulaw = wav.parse(file_of(sine(700, 12347), rate=12347))
    assert len(ulaw) == 4000
    assert decibels_of(ulaw) == pytest.approx(-9.0, abs=0.2)


def test_ten_seconds_of_a_common_recording_are_read_in_about_a_second() -> None:
    noise = random.Random(2)
    samples = [noise.uniform(-0.5, 0.5) for _ in range(441_000)]
    before = time.process_time()
    assert len(wav.resample(samples, 44100)) == 80_000
    # 0.3 s when this was written; the limit allows for a slow machine.
    assert time.process_time() - before < 5


def test_an_extensible_header_is_read(tmp_path: Path) -> None:
    data = riff(fmt(EXTENSIBLE), chunk(b"data", b"\0\0" * 80))
    assert wav.parse(data) == b"\xff" * 80


def test_a_telephone_recorders_ulaw_is_taken_as_it_is() -> None:
    ulaw = bytes(range(256))
    data = riff(fmt(ULAW, bits=8), chunk(b"fact", b"\0" * 4), chunk(b"data", ulaw))
    assert wav.parse(data) == ulaw


def test_stereo_ulaw_is_mixed() -> None:
    loud = g711.encode(struct.pack("<h", 16000))
    data = riff(fmt(ULAW, channels=2, bits=8), chunk(b"data", (loud + b"\xff") * 50))
    (heard,) = set(struct.unpack("<50h", g711.decode(wav.parse(data))))
    assert heard == pytest.approx(8000, abs=260)


def test_chunks_that_nobody_needs_are_skipped_and_padding_is_respected() -> None:
    data = riff(chunk(b"LIST", b"odd"), fmt(), chunk(b"cue ", b""), chunk(b"data", b"\0\0" * 9))
    assert wav.parse(data) == b"\xff" * 9


def test_audio_of_unknown_length_is_read_to_the_end() -> None:
    data = riff(fmt()) + b"data" + b"\xff\xff\xff\xff" + b"\0\0" * 7
    assert wav.parse(data) == b"\xff" * 7


def test_clipping_is_not_wrapping() -> None:
    # A full-scale square wave overshoots when it is band-limited.
    square = [1.0 if n // 40 % 2 else -1.0 for n in range(8000)]
    ulaw = wav.parse(file_of(square, rate=16000))
    samples = struct.unpack(f"<{len(ulaw)}h", g711.decode(ulaw))
    jumps = [abs(b - a) for a, b in itertools.pairwise(samples)]
    assert sum(jump > 30000 for jump in jumps) <= 8000 // 40
    assert max(samples) == 32124


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "the file is empty"),
        (b"hello, this is a text", "not a WAV file"),
        (b"RIFF\0\0\0\0AVI LIST", "not a WAV file"),
        (b"RIFF", "not a WAV file"),
        (riff(), "no format or no audio"),
        (riff(fmt()), "no format or no audio"),
        (riff(chunk(b"fmt ", b"\1\0\1\0")) + chunk(b"data", b"\0\0"), "its format is cut short"),
        (riff(fmt(), chunk(b"data", b"")), "no audio in it"),
        (riff(fmt(), chunk(b"data", b"\0")), "no audio in it"),
        (riff(fmt(), chunk(b"data", b"\0" * 400))[:-100], "announces 400 bytes of audio and holds"),
        (riff(fmt(0x55), chunk(b"data", b"\0\0")), "MP3 audio is not read here"),
        (riff(fmt(FLOAT, bits=32), chunk(b"data", b"\0" * 4)), "floating point audio"),
        (riff(fmt(0x1234), chunk(b"data", b"\0\0")), "format 0x1234 audio"),
        (riff(fmt(bits=12), chunk(b"data", b"\0\0")), "12 bit audio"),
        (riff(fmt(rate=0), chunk(b"data", b"\0\0")), "1 channels at 0 Hz"),
        (riff(fmt(channels=0), chunk(b"data", b"\0\0")), "0 channels at 8000 Hz"),
    ],
)
def test_what_is_no_wav_is_told_in_one_line(data: bytes, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(data)
    with pytest.raises(wav.NotAWav) as caught:
        wav.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert fault in message
    assert "\n" not in message


def test_a_missing_file_and_a_directory_are_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(wav.NotAWav, match=r"gone\.wav: no such file"):
        wav.read(tmp_path / "gone.wav")
    with pytest.raises(wav.NotAWav, match="cannot be read"):
        wav.read(tmp_path)
    with pytest.raises(wav.NotAWav, match="cannot be read: embedded null byte"):
        wav.read("a\0b.wav")


def test_any_bytes_are_a_wav_or_a_clear_refusal() -> None:
    chance = random.Random(3)
    good = riff(fmt(), chunk(b"data", b"\1\2" * 40))
    for _ in range(500):
        broken = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            broken[chance.randrange(12, 44)] = chance.randrange(256)
        with contextlib.suppress(wav.NotAWav):
            assert wav.parse(bytes(broken))


def test_a_written_file_reads_back_the_same(tmp_path: Path) -> None:
    said = bytes(code for code in range(256) if code != 0x7F)  # negative zero becomes positive
    wav.write(tmp_path / "mono.wav", said)
    assert wav.read(tmp_path / "mono.wav") == said


def test_two_sides_are_left_and_right_and_the_shorter_is_padded(tmp_path: Path) -> None:
    left, right = bytes([0x80] * 100), bytes([0x00] * 60)
    wav.write(tmp_path / "stereo.wav", left, right)
    with wave.open(str(tmp_path / "stereo.wav")) as reader:
        assert (reader.getnchannels(), reader.getframerate(), reader.getsampwidth()) == (2, 8000, 2)
        samples = struct.unpack("<200h", reader.readframes(100))
    assert samples[0::2] == (32124,) * 100
    assert samples[1::2] == (-32124,) * 60 + (0,) * 40


@given(st.binary(min_size=1, max_size=300), st.integers(4, 400))
def test_behind_the_header_of_a_stream_is_its_audio_however_it_comes(
    audio: bytes, cut: int
) -> None:
    file = wav.ulaw_file(audio)
    behind = wav.behind_header(file[:cut])
    if behind is None:
        behind = wav.behind_header(file)
        assert behind is not None
    else:
        behind += file[cut:]
    assert behind == audio + b"\0" * (len(audio) % 2)  # chunks are of even length


def test_a_header_with_other_chunks_is_passed_over_and_one_without_end_is_none() -> None:
    header = riff(fmt(), chunk(b"LIST", b"abc"), chunk(b"data", b"\1\2"))
    assert wav.behind_header(header) == b"\1\2"
    assert wav.behind_header(b"RIFFxxxxWAVE") is None
    assert wav.behind_header(b"RIFFxxxxWAVE" + bytes(100)) is None
    endless = b"RIFFxxxxWAVE" + bytes(3_000_000)
    assert wav.behind_header(endless) == endless


def test_what_only_begins_like_a_header_is_audio() -> None:
    assert wav.behind_header(b"RIFFxxxxAVI " + b"\1" * 40) == b"RIFFxxxxAVI " + b"\1" * 40

"""WAV files in and out of µ-law, 8 kHz, mono.

Reads any PCM WAV whatever its rate, width and channels, and µ-law ones as telephone recorders
write them. A RIFF file is chunks of (name, length, bytes); `fmt ` says what `data` holds.
"""

import functools
import math
import operator
import os
import struct
import wave
from collections.abc import Callable, Sequence
from pathlib import Path

from sts_trio.audio import frames as audio
from sts_trio.audio import g711
from sts_trio.errors import StsTrioError

RATE = audio.BYTES_PER_SECOND
LOWEST_RATE, HIGHEST_RATE = 1000, 384_000

_PCM, _ULAW, _EXTENSIBLE = 0x0001, 0x0007, 0xFFFE
_FORMATS = {2: "ADPCM", 3: "floating point", 6: "A-law", 0x11: "ADPCM", 0x31: "GSM", 0x55: "MP3"}
# Bytes of a stream's header: one with all that the standard knows has some hundred.
MAX_HEADER = 4096
# Written by programs that stream a file and never learn its length.
_LENGTH_UNKNOWN = 0xFFFF_FFFF

# The low-pass filter of the resampler, a Kaiser-windowed sinc. Its flank from 3.3 to 4 kHz keeps
# all of a phone's band and lets nothing above 4 kHz back in louder than -50 dB, which is well
# below the noise of µ-law itself.
_ZERO_CROSSINGS = 16
_BETA = 4.55
_CUTOFF = 0.91  # of half the lower of the two rates
# Common rates need at most 320 filters (11025 Hz). An odd one would need thousands; it is served
# by the nearest of these, at most 1/512 of a sample early.
_MAX_FILTERS = 512


class NotAWav(StsTrioError):
    """A file that holds no audio we can read: one line naming the file, the fault and the cure."""


def read(path: str | os.PathLike[str]) -> bytes:
    """The file's audio as µ-law.

    Raises:
        NotAWav: it is missing, no WAV, cut short, empty, or compressed.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotAWav(f"{path}: no such file") from None
    except (OSError, ValueError) as exc:  # a ValueError: no file system has such a path
        reason = getattr(exc, "strerror", None) or exc
        raise NotAWav(f"{path}: cannot be read: {reason}") from exc
    try:
        return parse(data)
    except NotAWav as exc:
        raise NotAWav(f"{path}: {exc}") from None


def write(path: str | os.PathLike[str], left: bytes, right: bytes | None = None) -> None:
    """Writes µ-law as 16 bit PCM, 8 kHz: mono, or stereo with the shorter side padded by silence.

    Raises:
        OSError: the file cannot be written.
    """
    with open(path, "wb") as file, wave.open(file, "wb") as writer:
        writer.setframerate(RATE)
        writer.setsampwidth(2)
        writer.setnchannels(1 if right is None else 2)
        writer.writeframes(g711.decode(left) if right is None else _interleave(left, right))


def ulaw_file(audio: bytes) -> bytes:
    """A whole WAV file that holds µ-law as it is: half the size of PCM, nothing lost."""
    chunks = b"".join(
        name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
        for name, body in (
            (b"fmt ", struct.pack("<HHIIHHH", _ULAW, 1, RATE, RATE, 1, 8, 0)),
            (b"fact", struct.pack("<I", len(audio))),  # the standard wants it of all but PCM
            (b"data", audio),
        )
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def behind_header(data: bytes) -> bytes | None:
    """The audio in the first piece of a stream that may begin as a WAV file; None: the header goes
    on in the next piece."""
    if data[8:12] not in (b"WAVE", b"WAV", b"WA", b"W", b""):
        return data
    at = 12
    while at + 8 <= min(len(data), MAX_HEADER):
        (length,) = struct.unpack_from("<I", data, at + 4)
        if data[at : at + 4] == b"data":
            return data[at + 8 :]
        at += 8 + length + length % 2
    return None if len(data) < MAX_HEADER else data


def _interleave(left: bytes, right: bytes) -> bytes:
    samples = max(len(left), len(right))
    stereo = bytearray(4 * samples)
    for offset, side in ((0, left), (2, right)):
        pcm = g711.decode(side.ljust(samples, audio.SILENCE))
        stereo[offset::4], stereo[offset + 1 :: 4] = pcm[0::2], pcm[1::2]
    return bytes(stereo)


def parse(data: bytes) -> bytes:
    """The audio of a WAV file's bytes as µ-law.

    Raises:
        NotAWav: as `read`, without the file's name.
    """
    if not data:
        raise NotAWav("the file is empty")
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise NotAWav("not a WAV file (it does not begin with RIFF and WAVE)")
    chunks = _chunks(data)
    if b"fmt " not in chunks or b"data" not in chunks:
        raise NotAWav("not a complete WAV file: it has no format or no audio")
    coding, channels, rate, width = _format(chunks[b"fmt "])
    body = chunks[b"data"]
    frames = len(body) // (channels * width)
    if not frames:
        raise NotAWav("there is no audio in it")
    body = body[: frames * channels * width]
    if (coding, channels, rate) == (_ULAW, 1, RATE):
        return body
    if coding == _ULAW:
        body, width = g711.decode(body), 2
    return g711.encode_samples(resample(_mono(_samples(body, width), channels), rate))


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """{name: bytes}; chunks that nobody needs may be broken."""
    chunks: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(data) and b"data" not in chunks:
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        chunk = data[at + 8 : at + 8 + length]
        if len(chunk) < length and name == b"data" and length != _LENGTH_UNKNOWN:
            raise NotAWav(
                f"cut short: it announces {length} bytes of audio and holds {len(chunk)}; "
                "copy or record it again"
            )
        chunks.setdefault(name, chunk)
        at += 8 + length + length % 2  # chunks begin at even places
    return chunks


def _format(chunk: bytes) -> tuple[int, int, int, int]:
    """Coding, channels, rate and bytes a sample."""
    try:
        coding, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
        if coding == _EXTENSIBLE:
            # The coding proper is the beginning of a GUID.
            (coding,) = struct.unpack_from("<H", chunk, 24)
    except struct.error:
        raise NotAWav("not a complete WAV file: its format is cut short") from None
    if coding not in (_PCM, _ULAW) or bits not in ((8, 16, 24, 32) if coding == _PCM else (8,)):
        name = _FORMATS.get(coding, f"format {coding:#06x}") if coding != _PCM else f"{bits} bit"
        raise NotAWav(
            f"{name} audio is not read here; convert it to PCM: "
            "ffmpeg -i IN.wav -ar 8000 -ac 1 -c:a pcm_s16le OUT.wav"
        )
    if not channels or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise NotAWav(f"it claims {channels} channels at {rate} Hz, which cannot be")
    return coding, channels, rate, bits // 8


def _samples(body: bytes, width: int) -> Sequence[float]:
    """Samples on the scale of 16 bit, of all channels in turn."""
    if width == 1:  # the one width that is unsigned
        return [(sample - 128) * 256 for sample in body]
    if width == 2:
        return struct.unpack(f"<{len(body) // 2}h", body)
    if width == 3:
        wide = bytearray(len(body) // 3 * 4)
        wide[1::4], wide[2::4], wide[3::4] = body[0::3], body[1::3], body[2::3]
        body = bytes(wide)
    return [sample / 65536 for sample in struct.unpack(f"<{len(body) // 4}i", body)]


def _mono(samples: Sequence[float], channels: int) -> Sequence[float]:
    if channels == 1:
        return samples
    sides = [samples[channel::channels] for channel in range(channels)]
    return [sum(frame) / channels for frame in zip(*sides, strict=True)]


def resample(
    samples: Sequence[float], rate: int, zero_crossings: int = _ZERO_CROSSINGS
) -> Sequence[float]:
    """The same sound at 8 kHz, band-limited to what that rate can carry; the fewer
    `zero_crossings` of its filter, the faster and the wider its flank."""
    if rate == RATE:
        return samples
    # Output n lies at input n * rate / RATE: a whole number of samples and one of `phases` parts.
    common = math.gcd(rate, RATE)
    phases, stride = RATE // common, rate // common
    filters = min(phases, _MAX_FILTERS)
    half = math.ceil(zero_crossings * max(1.0, rate / RATE))
    around = [0.0] * half
    padded = [*around, *samples, *around]
    weights = _filters(filters, half, min(1.0, RATE / rate))
    resampled = []
    for at in range(0, len(samples) * phases, stride):
        whole, phase = divmod(at, phases)
        window = padded[whole + 1 : whole + 2 * half + 1]
        resampled.append(sum(map(operator.mul, window, weights(phase * filters // phases))))
    return resampled


# Who speaks does so at one rate, and a caller's files have few.
@functools.lru_cache(maxsize=4)
def _filters(count: int, half: int, narrowing: float) -> Callable[[int], list[float]]:
    """The filter of a part of a sample, of which there are so many. Each is made once."""

    @functools.cache
    def weights(part: int) -> list[float]:
        return _weights(part / count, half, narrowing)

    return weights


def _weights(fraction: float, half: int, narrowing: float) -> list[float]:
    """The filter's value at each of the 2 * `half` samples around a point between the middle two.

    `narrowing` is the lower rate over the input's rate.
    """
    cutoff = _CUTOFF * narrowing
    taps = []
    for tap in range(2 * half):
        distance = tap - (half - 1) - fraction
        window = _bessel(_BETA * math.sqrt(max(0.0, 1 - (distance / half) ** 2)))
        taps.append(window * _sinc(cutoff * distance))
    # Every phase passes a constant unchanged; else the phases would buzz.
    total = sum(taps)
    return [tap / total for tap in taps]


def _sinc(x: float) -> float:
    return math.sin(math.pi * x) / (math.pi * x) if x else 1.0


def _bessel(x: float) -> float:
    """Modified Bessel function of the first kind, order zero, by its series."""
    total = term = 1.0
    n = 1
    while term > 1e-9 * total:
        term *= (x / (2 * n)) ** 2
        total += term
        n += 1
    return total

"""Words from a stretch of speech: pocketsphinx with the domain's own language model.

Knows a few hundred words and takes everything for them; what makes no sense then is dropped. A
stretch is decoded whole, by a fresh decoder: streamed speech was heard ten times worse, and so
nothing of one caller is left when the next one speaks. Decoding takes a twentieth of the speech's
time and keeps the interpreter's lock all the while, so it belongs in a process of its own
(`worker.py`).
"""

import itertools
import random
import struct
from collections.abc import Sequence
from pathlib import Path

import pocketsphinx

from sts_trio.audio import g711
from sts_trio.offline.domain import SOURCE
from sts_trio.offline.hearing.confidence import Likeness

RATE = 16_000  # what the acoustic model was trained on
# The model was trained on wideband speech in rooms, with some quiet around it. Where a line is
# wholly silent between words, as a simulated one is and many a browser's, it mishears twice as many
# (of a synthetic caller's 42 %, with noise 22 %): so there is some beneath, always the same.
_AROUND = [0.0] * 800  # at 8 kHz
_FLOOR = 32768 * g711.decibels(-58)
_chance = random.Random(1)
_NOISE = [_chance.gauss(0, _FLOOR) for _ in range(8000)]

# Half of a half-band filter: the weights of the samples 1, 3, ... halves away from a point in the
# middle of two. A windowed sinc (six pairs, Kaiser, beta 4), flat within 0.1 dB to 3 kHz; the image
# of that band is 44 dB weaker. Above, where a phone carries little, it falls off: 0.3 dB and
# 28 dB at 3.3 kHz.
_WEIGHTS = (0.6316, -0.1910, 0.0936, -0.0483, 0.0231, -0.0090)


def double(samples: Sequence[float]) -> list[float]:
    """The same sound at twice the rate: the samples, and one in the middle of each two."""
    count, reach = len(samples), len(_WEIGHTS)
    padded = [*[0.0] * reach, *samples, *[0.0] * reach]
    between = [0.0] * count
    for distance, weight in enumerate(_WEIGHTS):
        before = padded[reach - distance : reach - distance + count]
        after = padded[reach + 1 + distance : reach + 1 + distance + count]
        between = [
            sum_ + weight * (one + other)
            for sum_, one, other in zip(between, before, after, strict=True)
        ]
    doubled = [0.0] * (2 * count)
    doubled[0::2], doubled[1::2] = samples, between
    return doubled


class Recogniser:
    """
    Raises:
        OSError: the language model is missing.
    """

    def __init__(self, source: Path = SOURCE) -> None:
        model = source.with_suffix(".lm")
        self._likeness = Likeness(model.read_text("utf-8").splitlines())
        self._config = pocketsphinx.Config(
            hmm=pocketsphinx.get_model_path("en-us/en-us"),
            lm=str(model),
            dict=str(source.with_suffix(".dict")),
            samprate=float(RATE),
            loglevel="FATAL",
        )

    def words(self, ulaw: bytes) -> str:
        """What was said, in lower case; empty when nothing was made out, or nothing likely."""
        heard = [*_AROUND, *(g711.SAMPLES[code] for code in ulaw), *_AROUND]
        noisy = [sum_ + noise for sum_, noise in zip(heard, itertools.cycle(_NOISE), strict=False)]
        samples = double(noisy)
        pcm = struct.pack(
            f"<{len(samples)}h", *(max(-32768, min(32767, round(each))) for each in samples)
        )
        decoder = pocketsphinx.Decoder(self._config)
        decoder.start_utt()
        decoder.process_raw(pcm, no_search=False, full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        words = [] if found is None else str(found.hypstr).split()
        return " ".join(words) if self._likeness.is_likely(words) else ""

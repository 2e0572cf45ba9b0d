"""Any text as speech: espeak-ng, through the library that the `espeakng-loader` wheel carries.

Synthesis takes a few milliseconds
for a sentence; bringing it to 8 kHz in pure Python takes some tens, holding the interpreter's lock,
so it belongs in a process of its own (`worker.py`).
"""

import array
import ctypes
import functools
import threading

import espeakng_loader

from sts_trio.audio.wav import resample
from sts_trio.offline.speech.loudness import even_out

VOICE = "en-us"
WORDS_PER_MINUTE = 165
# Half the taps of a file's conversion, for half the time: flat to 2.9 kHz, and what is left above
# 4.4 kHz is 50 dB weaker.
ZERO_CROSSINGS = 8
# Longer texts are cut: nobody listens to a demo for longer, and this bounds what is rendered.
MAX_LETTERS = 2000

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: the callback gets the samples
_DO_NOT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: without its data it would end the process
_RATE = 1  # espeakRATE
_UTF8 = 1  # espeakCHARS_UTF8
_BY_CHARACTER = 1  # POS_CHARACTER

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


# The library is one for the process, and knows one callback.
_turn = threading.Lock()


@functools.cache
def _open() -> tuple[ctypes.CDLL, int]:
    """The library, ready to speak, and its samples a second."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = espeakng_loader.get_data_path().encode()
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DO_NOT_EXIT)
    if rate <= 0:
        raise RuntimeError(f"espeak-ng does not start ({rate})")
    return library, rate


class Speech:
    """The voice. Any thread may use it; one at a time is served.

    Raises:
        OSError: the library cannot be loaded.
        RuntimeError: it does not start, or has no such voice.
    """

    def __init__(self, voice: str = VOICE, words_per_minute: int = WORDS_PER_MINUTE) -> None:
        self._voice, self._words_per_minute = voice, words_per_minute
        with _turn:
            self._library, self._rate = _open()
            self._choose()

    def say(self, text: str) -> bytes:
        """The text as µ-law; empty for a text with nothing to say.

        Raises:
            RuntimeError: the library failed.
        """
        # Text ends at a null character in C.
        data = text[:MAX_LETTERS].replace("\0", " ").encode("utf-8", "replace")
        samples = array.array("h")

        def take(some: "ctypes._Pointer[ctypes.c_short]", count: int, events: object) -> int:
            if some and count > 0:
                samples.frombytes(ctypes.string_at(some, 2 * count))
            return 0

        callback = _Callback(take)
        with _turn:
            self._choose()
            self._library.espeak_SetSynthCallback(callback)
            failed = self._library.espeak_Synth(
                data, len(data) + 1, 0, _BY_CHARACTER, 0, _UTF8, None, None
            )
        if failed:
            raise RuntimeError(f"espeak-ng failed ({failed})")
        return even_out(resample(samples, self._rate, ZERO_CROSSINGS))

    def _choose(self) -> None:
        if self._library.espeak_SetVoiceByName(self._voice.encode()):
            raise RuntimeError(f"espeak-ng has no voice {self._voice}")
        self._library.espeak_SetParameter(_RATE, self._words_per_minute, 0)

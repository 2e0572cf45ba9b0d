"""The mask of a websocket's client, RFC 6455 section 5.3: XOR with four bytes, over and over.

In Python it is most of what reading a frame costs. The `websockets` library has it in C, at a tenth
of the time; where its C part could not be built, Python does.
"""

from collections.abc import Callable

# {words: the number that, multiplied with a mask of 32 bits, repeats it that often}; for the
# lengths that nearly all frames have
_REPEAT = tuple(int.from_bytes(b"\0\0\0\1" * words) for words in range(257))


def xor_in_python(payload: bytes, mask: bytes) -> bytes:
    length = len(payload)
    words = (length + 3) >> 2
    if words < len(_REPEAT):
        key = int.from_bytes(mask) * _REPEAT[words] >> 8 * (-length % 4)
    else:
        key = int.from_bytes((mask * words)[:length])
    return (int.from_bytes(payload) ^ key).to_bytes(length)


xor: Callable[[bytes, bytes], bytes]
try:
    from websockets.speedups import apply_mask as xor
except ImportError:
    xor = xor_in_python

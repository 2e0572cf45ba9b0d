import runpy
import sys
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from sts_trio.wire import mask

# One per implementation there may be, in an order that every worker of pytest-xdist finds.
IMPLEMENTATIONS = tuple(dict.fromkeys((mask.xor, mask.xor_in_python)))


@pytest.mark.parametrize("xor", IMPLEMENTATIONS)
@given(payload=st.binary(max_size=3000), key=st.binary(min_size=4, max_size=4))
@example(payload=b"", key=b"abcd")
@example(payload=b"\0" * 1028, key=b"\0\0\0\1")
@example(payload=b"\0" * 1029, key=b"\x80\0\0\0")
def test_each_byte_is_masked_by_its_own_of_the_four(
    xor: object, payload: bytes, key: bytes
) -> None:
    assert callable(xor)
    masked = xor(payload, key)
    assert masked == bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    assert xor(masked, key) == payload


@pytest.mark.parametrize("xor", IMPLEMENTATIONS)
@pytest.mark.parametrize("words", [1, 2, 256, 257, 300])
def test_a_masked_frame_is_that_of_the_rfc(
    xor: Callable[[bytes, bytes], bytes], words: int
) -> None:
    """RFC 6455, section 5.7; and longer ones, with a last word that is not whole."""
    key = bytes.fromhex("37fa213d")
    assert xor(b"Hello", key) == bytes.fromhex("7f9f4d5158")
    assert xor(bytes(4 * words - 1), key) == (key * words)[:-1]


def test_without_the_c_part_python_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    names = runpy.run_path(mask.__file__)
    assert names["xor"] is names["xor_in_python"]

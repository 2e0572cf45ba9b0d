"""What can be told of a refused handshake that did not come to its end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.wire.handshake import MAX_REASON, reason, refusal

HEAD = b"HTTP/1.1 403 Forbidden\r\nX: y\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (HEAD, (403, b"")),
        (HEAD + b"no", (403, b"no")),
        (HEAD + b"\r\n\r\nno", (403, b"\r\n\r\nno")),
        (b"HTTP/1.0 401\n\nno", (401, b"no")),
        (b"HTTP/1.1 999 x\r\n\r\n", (999, b"")),
        (b"", None),
        (HEAD[:-2], None),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", None),
        (b"HTTP/1.1 103 Hints\r\n\r\n" + HEAD, None),
        (b"HTTP/2 403\r\n\r\n", None),
        (b"HTTP/1.1 4030\r\n\r\n", None),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", None),
    ],
)
def test_a_final_answer_has_its_status_and_as_much_of_its_body_as_came(
    answer: bytes, told: tuple[int, bytes] | None
) -> None:
    assert refusal(answer) == told
    assert refusal(bytearray(answer)) == told


@given(st.binary())
def test_any_answer_is_one_or_none(answer: bytes) -> None:
    assert refusal(answer) is None or answer.startswith(b"HTTP/1.")
    assert refusal(HEAD + answer) == (403, answer)


@given(st.binary(max_size=3000))
def test_any_body_has_a_reason_of_bounded_length(body: bytes) -> None:
    assert len(reason(body)) <= MAX_REASON


def test_a_reason_is_its_first_words() -> None:
    assert reason(b"  no funds \n") == "no funds"
    assert reason("é".encode() * 1000) == "é" * MAX_REASON
    assert reason(b"\xff") == "\N{REPLACEMENT CHARACTER}"

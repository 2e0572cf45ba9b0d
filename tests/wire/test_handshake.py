"""A handshake, and what can be told of the answer to it, whether that came to its end or not."""

import base64
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.wire.handshake import (
    MAX_ANSWER,
    MAX_REASON,
    Accepted,
    Garbled,
    Handshake,
    Refused,
    reason,
    refusal,
    token,
)

HEAD = b"HTTP/1.1 403 Forbidden\r\nX: y\r\n\r\n"
# RFC 6455, section 1.3
KEY, TOKEN = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_a_key_has_the_token_of_the_standards_example() -> None:
    assert token(KEY) == TOKEN


def ours() -> Handshake:
    """One with the key of the standard's example."""
    return Handshake("agent.test:81", "/v1?a=b", [(b"x-a", b"Token x")], base64.b64decode(KEY))


def test_a_handshake_says_what_is_asked_for_and_with_which_key() -> None:
    line, *headers = ours().said.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert line == b"GET /v1?a=b HTTP/1.1"
    assert set(headers) == {
        b"Host: agent.test:81",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: " + KEY,
        b"Sec-WebSocket-Version: 13",
        b"x-a: Token x",
    }


@pytest.mark.parametrize(
    ("host", "target", "value"),
    [
        ("a", "/a b", b"x"),
        ("a", "/\N{SNOWMAN}", b"x"),
        ("a", "/", b"x\r\ny: z"),
        (f"{'a' * 70}.test", "/", b"x"),
    ],
)
def test_what_cannot_be_asked_for_is_not(host: str, target: str, value: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Handshake(host, target, [(b"x", value)], bytes(16))


def switching(*headers: bytes, token: bytes = TOKEN) -> bytes:
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + token,
    ]
    return b"\r\n".join([*lines, *headers, b"", b""])


def pieces(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(edge % len(data) for edge in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


@given(st.lists(st.integers(0, 1000), max_size=5), st.binary(max_size=20))
def test_an_answer_is_understood_however_it_is_cut(at: list[int], behind: bytes) -> None:
    answer, rest = ours(), b""
    told = None
    for piece in pieces(switching() + behind, at):
        if told is None:
            told = answer.feed(piece)
        else:
            rest += piece
    assert isinstance(told, Accepted)
    assert told.rest + rest == behind


@pytest.mark.parametrize(
    "answer",
    [
        switching().replace(b"\r\n", b"\n"),
        switching().replace(b"websocket", b" WebSocket \t"),
        switching().replace(b"Connection: Upgrade", b"CONNECTION:keep-alive , upgrade"),
        switching(b"Connection: keep-alive", b"Empty:", b"Date: Mon, 30 Nov 2026 14:00:00 GMT"),
        b"HTTP/1.1 103 Hints\r\n\r\n" + switching(),
        switching().replace(b" Switching Protocols", b""),
        switching(b"Content-Length: 5"),
    ],
)
def test_an_answer_may_be_written_in_many_ways(answer: bytes) -> None:
    assert ours().feed(answer) == Accepted(b"")


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"HTTP/1.1 101\r\n\r\n", "no upgrade"),
        (switching().replace(b"websocket", b"h2c"), "no upgrade"),
        (switching().replace(b"Connection: Upgrade", b"Connection: close"), "no upgrade"),
        (switching(token=b"wrong"), "token"),
        (switching(b"Sec-WebSocket-Accept: " + TOKEN), "token"),
        (switching(b"Sec-WebSocket-Extensions: permessage-deflate"), "did not ask for"),
        (switching(b"Sec-WebSocket-Protocol: chat"), "did not ask for"),
        (switching(b"no colon"), "header"),
        (switching(b"Space : x"), "header"),
        (switching(b"Content-Length: 5", b"Content-Length: 6"), "Content-Length"),
        (b"HTTP/1.1 103 Hints\r\n\r\n" + switching(token=b"wrong"), "token"),
        (b"HTTP/1.1 103 Hints\r\n\r\n" * 5000, "without end"),
        (b"HTTP/1.1 1012 x\r\n\r\n", "status line"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "status line"),
        (b"x" * MAX_ANSWER, "too long"),
    ],
)
def test_what_is_no_answer_to_our_handshake_is_told_apart(answer: bytes, fault: str) -> None:
    told = ours().feed(answer)
    assert isinstance(told, Garbled)
    assert fault in told.fault


@given(
    st.lists(
        st.sampled_from(
            [
                b"Date: Mon, 30 Nov 2026 14:00:00 GMT",
                b"Connection: keep-alive",
                b"Content-Length: 5",
                b"Content-Length: 6",
                b"Content-Length: none",
                b"Transfer-Encoding: chunked",
                b"X-Words:  a\tb \t",
                b"X-Latin: \xe9",
                b"X Space: x",
                b" folded",
                b"X-Nul: \0",
                b"X-Bare: a\rb",
                b": none",
            ]
        ),
        max_size=4,
    ),
    st.binary(max_size=5),
)
def test_an_answer_in_one_piece_is_understood_as_one_in_two(
    headers: list[bytes], behind: bytes
) -> None:
    """The former takes a short way, if it is as usual."""
    answer = switching(*headers) + behind
    in_two = ours()
    assert in_two.feed(answer[:5]) is None
    assert ours().feed(answer) == in_two.feed(answer[5:])


def test_each_handshake_has_its_own_key() -> None:
    one, other = (Handshake("a", "/", [], bytes([number] * 16)) for number in range(2))
    assert one.said != other.said
    assert all(
        b"\r\nSec-WebSocket-Key: " + each._key + b"\r\n" in each.said for each in (one, other)
    )


REFUSALS = {
    "with its length": b"HTTP/1.1 402 No\r\nContent-Length: 8\r\n\r\nno funds",
    "in chunks": b"HTTP/1.1 402 No\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nno \r\n5\r\nfunds\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSALS)
@given(at=st.lists(st.integers(0, 1000), max_size=5))
def test_a_refusal_is_whole_with_its_last_byte(name: str, at: list[int]) -> None:
    answer = ours()
    *some, last = pieces(REFUSALS[name], at)
    assert [answer.feed(piece) for piece in some] == [None] * len(some)
    assert answer.feed(last) == Refused(402, b"no funds")


def test_a_refusal_without_a_length_ends_with_the_connection() -> None:
    answer = ours()
    assert answer.feed(HEAD + b"no") is None
    assert answer.feed(b"") == Refused(403, b"no")


def test_a_refusal_that_is_cut_off_or_breaks_is_one_with_what_came_of_it() -> None:
    cut = ours()
    assert cut.feed(REFUSALS["with its length"][:-2]) is None
    assert cut.feed(b"") == Refused(402, b"no fun")
    broken = ours()
    assert broken.feed(REFUSALS["in chunks"][:-5] + b"what?\r\n") == Refused(402, b"no funds")


def test_of_a_refusal_without_end_no_more_is_read_than_may_be() -> None:
    answer = ours()
    assert answer.feed(HEAD) is None
    told = answer.feed(b"x" * MAX_ANSWER)
    assert told == Refused(403, b"x" * MAX_ANSWER)


@given(st.binary(), st.sampled_from([b"", HEAD, switching()[:-2], switching()[:60]]))
def test_whatever_comes_can_be_told_by_its_end(data: bytes, before: bytes) -> None:
    answer = ours()
    told = answer.feed(before + data) if before + data else None
    assert told or answer.feed(b"")


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

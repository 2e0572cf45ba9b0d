"""Our commands with servers that answer whatever they like: no traceback, one line, bounded.

The servers are real sockets, each in a thread that says its piece for as long as somebody reads.
"""

import contextlib
import json
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from rig_commands import NUMBER, a_wav, failure, run
from wsproto.utilities import generate_accept_token

from sts_trio.commands import client, operator
from sts_trio.commands import dial as dialling
from sts_trio.config import local_key
from sts_trio.observe import events
from sts_trio.simulate import connect, websocket
from sts_trio.wire import frames
from sts_trio.wire.handshake import MAX_ANSWER
from sts_trio.wire.printable import MAX_SHOWN

LIMIT = 20.0  # only catches what hangs
ENDLESS = 2**31
MEGABYTE = b"x" * 2**20
EVIL = "\x1b]0;pwned\x07\x9b2J\u202e\x7f\n\u2028forged\ud800"

PAINTS = EVIL.encode("utf-8", "replace").decode()

Say = Callable[[bytes], None]
Answer = Callable[[Say], None]


class Server:
    """One answer after the other, the last of them again and again. `sent` counts bytes."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.sent = 0
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._open: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for each in (*self._open, self._listener):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                with contextlib.suppress(OSError), connection:
                    self.requests.append(_request(connection))

                    def say(data: bytes, connection: socket.socket = connection) -> None:
                        connection.sendall(data)
                        self.sent += len(data)

                    answer(say)


def _request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    length = re.search(rb"(?i)content-length: (\d+)", data)
    body = len(data.partition(b"\r\n\r\n")[2])
    while length and body < int(length[1]):
        body += len(connection.recv(65536))
    return data


def saying(*parts: bytes) -> Answer:
    return lambda say: say(b"".join(parts))


def without_end(part: bytes, *before: bytes) -> Answer:
    def answer(say: Say) -> None:
        for each in before:
            say(each)
        while True:
            say(part)

    return answer


def dripping(part: bytes, *before: bytes) -> Answer:
    def answer(say: Say) -> None:
        for each in before:
            say(each)
        while True:
            say(part)
            time.sleep(0.01)

    return answer


def http(status: str, body: bytes, *headers: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close", "", ""])
    return head.encode() + body


def as_json(value: object, status: str = "201 Created") -> Answer:
    return saying(http(status, json.dumps(value).encode()))


def chunked(*chunks: bytes) -> bytes:
    return http("200 OK", b"".join(chunks), "Transfer-Encoding: chunked")


PLACED = as_json({"call_sid": "CA1"})
EVENTS = http("200 OK", b"", "Content-Type: text/event-stream")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "ANSWER_TIMEOUT", 1.0)
    monkeypatch.setattr(dialling, "SILENCE_TIMEOUT", 1.0)
    monkeypatch.setattr(operator, "CONNECT_TIMEOUT", 1.0)
    monkeypatch.setattr(websocket, "HANDSHAKE_TIMEOUT", 1.0)
    monkeypatch.setattr(connect, "CONNECT_TIMEOUT", 1.0)
    # Of a server that was killed, and had the port before.
    monkeypatch.setattr(local_key, "find", lambda address: None)


# --- dial: the call is placed ---------------------------------------------------------------------

DRIP = dripping(b"x", http("201 Created", b"", "Content-Length: 100000"))
ANSWERS: dict[str, tuple[Answer, str]] = {
    "nothing": (saying(), "no answer"),
    "no HTTP": (saying(b"SSH-2.0-OpenSSH_9.2\r\n"), "no answer"),
    "no status": (saying(b"HTTP/1.1 banana\r\n\r\n"), "no answer"),
    "half a status": (dripping(b"H"), "no answer (timed out)"),
    "interim answers without end": (without_end(b"HTTP/1.1 100 Go on\r\n\r\n"), "no answer"),
    "headers without end": (without_end(b"X: y\r\n" * 100, b"HTTP/1.1 200 OK\r\n"), "no answer"),
    "a header without end": (without_end(MEGABYTE, b"HTTP/1.1 200 OK\r\nX: "), "no answer"),
    "a header that drips": (dripping(b"x", b"HTTP/1.1 200 OK\r\nX: "), "no answer (timed out)"),
    "a body that drips": (DRIP, "no answer (timed out)"),
    "a body without end": (without_end(MEGABYTE, http("201 Created", b"")), "over 65536 bytes"),
    "a gigabyte": (
        without_end(MEGABYTE, http("201 Created", b"", "Content-Length: 1000000000")),
        "over 65536 bytes",
    ),
    "chunks without end": (without_end(b"10000\r\n" + b"x" * 65536 + b"\r\n", chunked()), "over"),
    "a chunk without end": (without_end(MEGABYTE, chunked(b"7fffffffffffffff\r\n")), "over"),
    "chunks that are none": (saying(chunked(b"banana\r\nx\r\n")), "no answer"),
    "a chunk's size without end": (without_end(b"0" * 65536, chunked()), "no answer"),
    "trailers without end": (without_end(b"X: y\r\n", chunked(b"0\r\n")), "no answer"),
    "no body": (saying(http("201 Created", b"")), "is that a `sts-trio serve`?"),
    "a list": (as_json([1]), "is that a `sts-trio serve`?"),
    "a number": (as_json(1), "is that a `sts-trio serve`?"),
    "no JSON": (saying(http("201 Created", b"{call_sid: CA1}")), "is that a `sts-trio serve`?"),
    "no call": (as_json({}), "is that a `sts-trio serve`?"),
    "a call that is none": (as_json({"call_sid": None}), "is that a `sts-trio serve`?"),
    "a call of another kind": (as_json({"call_sid": ["CA1"]}), "is that a `sts-trio serve`?"),
    "a call that is a path": (as_json({"call_sid": "../../events"}), "is that a `sts-trio serve`?"),
    "a call that paints": (as_json({"call_sid": "CA\x1b[2J"}), "is that a `sts-trio serve`?"),
    "an error that is none": (as_json({"error": {}}, "400 No"), "is that a `sts-trio serve`?"),
    "an error that paints": (as_json({"error": EVIL}, "400 No"), r"\x1b]0;pwned\x07\x9b2J\u202e"),
    "a long error": (as_json({"error": "x" * 60_000}, "429 No"), "x…"),
    "200,000 brackets": (saying(http("201 Created", b"[" * 60_000)), "is that a `sts-trio serve`?"),
    "a number of many digits": (
        saying(http("201 Created", b'{"call_sid":' + b"9" * 60_000 + b"}")),
        "is that a `sts-trio serve`?",
    ),
    "not UTF-8": (saying(http("201 Created", b"\xff\xfe")), "is that a `sts-trio serve`?"),
    "another place": (
        saying(http("307 Temporary Redirect", b"", "Location: http://127.0.0.1:1/")),
        "HTTP 307 from",
    ),
    "squeezed": (
        saying(http("201 Created", zlib.compress(b" " * 10**6), "Content-Encoding: deflate")),
        "is that a `sts-trio serve`?",
    ),
    "a status that is none": (saying(http("999 Odd", b"{}")), "HTTP 999 from"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_whatever_answers_dial_is_told_in_one_line(name: str) -> None:
    answer, told = ANSWERS[name]
    with Server(answer) as server:
        result = run("dial", NUMBER, "--url", server.url)
        assert server.sent < 64 * 2**20
    assert result.exit_code in (1, 2)
    assert result.stdout == ""
    assert_fit_to_be_shown(result.stderr, lines=1)
    assert result.stderr.startswith("Error: ")
    assert told in result.stderr
    # What it may have done is not known where it did not say that it did nothing.
    is_uncertain = "no answer" in told or "over" in told or "HTTP 999" in told
    assert ("--idempotency-key" in result.stderr) == is_uncertain


def test_dial_goes_nowhere_else_whatever_it_is_told() -> None:
    with Server(PLACED) as other:
        moved = http("302 Found", b"", f"Location: {other.url}/calls")
        with Server(saying(moved)) as server:
            assert "HTTP 302" in failure("dial", NUMBER, "--url", server.url, code=1)
        assert other.requests == []


# --- dial: the call is followed -------------------------------------------------------------------


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def call_event(name: str, **fields: object) -> bytes:
    return event({"event": name, "fields": fields})


GONE = "went away before the call ended"
NO_EVENT = "what it tells is no event of a call"
STREAMS: dict[str, tuple[Answer, str]] = {
    "nothing": (saying(), "cannot be followed any more"),
    "another status": (saying(http("302 Found", b"", "Location: /")), "HTTP 302"),
    "a page": (saying(http("200 OK", b"<html>", "Content-Type: text/html")), "text/html is no"),
    "a type that paints": (
        saying(http("200 OK", b"", "Content-Type: \x1b[2J\x9b")),
        r"\x1b[2j",
    ),
    "an empty object": (saying(EVENTS, event({})), NO_EVENT),
    "no JSON": (saying(EVENTS, b"data: {x}\n\n"), NO_EVENT),
    "a list": (saying(EVENTS, event([])), NO_EVENT),
    "null": (saying(EVENTS, event(None)), NO_EVENT),
    "no fields": (saying(EVENTS, event({"event": events.CallEnded.NAME})), NO_EVENT),
    "null for fields": (
        saying(EVENTS, event({"event": events.CallEnded.NAME, "fields": None})),
        NO_EVENT,
    ),
    "a list for fields": (
        saying(EVENTS, event({"event": events.CallEnded.NAME, "fields": []})),
        NO_EVENT,
    ),
    "a number for a name": (saying(EVENTS, event({"event": 1, "fields": {}})), NO_EVENT),
    "200,000 brackets": (saying(EVENTS, b"data: " + b"[" * 200_000 + b"\n\n"), NO_EVENT),
    "many digits": (saying(EVENTS, b"data: " + b"9" * 100_000 + b"\n\n"), NO_EVENT),
    "not UTF-8": (saying(EVENTS, b"data: \xff\xfe\n\n"), NO_EVENT),
    "a line without end": (without_end(MEGABYTE, EVENTS, b"data: "), "a line of over"),
    "a line that drips": (dripping(b"x", EVENTS, b"data: "), "timed out"),
    "a head that drips": (dripping(b"x", b"HTTP/1.1 200 OK\r\nX: "), "timed out"),
    "headers without end": (without_end(b"X: y\r\n" * 100, b"HTTP/1.1 200 OK\r\n"), "cannot be"),
    "chunks that are none": (saying(chunked(b"banana\r\n")), GONE),
    "a chunk without end": (without_end(MEGABYTE, chunked(b"7fffffffffffffff\r\n")), "over"),
    "half a chunk": (saying(chunked(b"ff\r\ndata: ")), "cannot be followed any more"),
    "names without end": (without_end(b"event: x\n", EVENTS), "went away"),
    "what nobody knows": (saying(EVENTS, b"a: b\nretry: x\nid\n\n\0\n:\n"), GONE),
    "an end of other fields": (
        saying(
            EVENTS, call_event(events.CallEnded.NAME, verdict=["ours"], ending={}, seconds=[EVIL])
        ),
        NO_EVENT,
    ),
    "a status of other fields": (
        saying(EVENTS, call_event(events.CallStatus.NAME, status=["busy"])),
        NO_EVENT,
    ),
    "an end that paints": (
        saying(
            EVENTS,
            call_event(
                events.CallEnded.NAME, verdict="ours", ending=EVIL, detail=EVIL, seconds=1.0
            ),
        ),
        r"the call ended: \x1b]0;pwned\x07\x9b2J\u202e\x7f\n\u2028forged\ud800",
    ),
    "everything paints": (
        saying(
            EVENTS,
            call_event(events.CallStatus.NAME, status=EVIL),
            call_event(events.CallAnsweredBy.NAME, by=EVIL),
            call_event(events.CallTranscript.NAME, role=EVIL, text=EVIL),
            call_event(events.CallTranscript.NAME, role="agent", text=EVIL),
            b"event: missed\ndata: " + PAINTS.encode() + b"\n\n",
            call_event(EVIL),
        ),
        GONE,
    ),
    "a sentence as long as may be": (
        saying(EVENTS, call_event(events.CallTranscript.NAME, role="user", text="x" * 200_000)),
        GONE,
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_whatever_is_told_of_a_call_is_shown_line_by_line(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialling, "LONGEST_CALL", 1.0)
    answer, told = STREAMS[name]
    if name == "names without end":
        told = "timed out"
    with Server(PLACED, answer) as server:
        result = run("dial", NUMBER, "--url", server.url)
        assert server.sent < 512 * 2**20
    assert result.exit_code == (1 if told else 0)
    assert_fit_to_be_shown(result.stdout)
    assert result.stdout.startswith("Call CA1\n")
    assert_fit_to_be_shown(result.stderr, lines=1 if told else 0)
    assert told in result.stderr


def test_no_call_is_followed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may say that it is there for as long as it likes."""
    monkeypatch.setattr(dialling, "LONGEST_CALL", 0.5)
    started = call_event(events.CallStarted.NAME, call_sid="CA1", stream_sid="MZ1")
    alive = dripping(b":\n\n", EVENTS, started)
    with Server(PLACED, alive) as server:
        told = failure("dial", NUMBER, "--url", server.url, code=1)
    assert "cannot be followed any more (timed out); the call may go on" in told


def test_what_is_asked_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what comes in time is read, though each of its bytes comes by itself."""
    body = http("201 Created", json.dumps({"call_sid": "CA1"}).encode())

    def one_by_one(say: Say) -> None:
        for at in range(len(body)):
            say(body[at : at + 1])
            time.sleep(0.001)

    with Server(one_by_one) as server:
        assert run("dial", NUMBER, "--no-follow", "--url", server.url).stdout == "Call CA1\n"
    assert client.MAX_BODY == 65536


def assert_fit_to_be_shown(text: str, *, lines: int | None = None) -> None:
    shown = text.removesuffix("\n").split("\n") if text else []
    assert all(line.isprintable() and len(line) < 10 * MAX_SHOWN for line in shown)
    assert not [line for line in shown if line.startswith("forged")]
    assert lines is None or len(shown) == lines


# --- call -----------------------------------------------------------------------------------------


def accepted(request: bytes) -> bytes:
    [key] = re.findall(rb"(?i)sec-websocket-key: ([^\r]+)", request)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + generate_accept_token(key) + b"\r\n\r\n"
    )


HANDSHAKES: dict[str, tuple[Answer, str]] = {
    "nothing": (saying(), "closed during the handshake"),
    "silence": (lambda say: time.sleep(1.2), "no answer to the handshake"),
    "no HTTP": (saying(b"SSH-2.0-OpenSSH_9.2\r\n"), "closed during the handshake"),
    "no status": (saying(b"HTTP/1.1 banana\r\n\r\n"), "no websocket is spoken there"),
    "no handshake": (saying(b"HTTP/1.1 101 Yes\r\n\r\n"), "no websocket is spoken there"),
    "a wrong token": (
        saying(
            b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: x\r\n\r\n"
        ),
        "no websocket is spoken there",
    ),
    "headers without end": (without_end(b"X: y\r\n", b"HTTP/1.1 101 Yes\r\n"), "no call: "),
    "a header without end": (without_end(MEGABYTE, b"HTTP/1.1 101 Yes\r\nX: "), "no call: "),
    "a head that drips": (dripping(b"x", b"HTTP/1.1 101 Yes\r\nX: "), "no answer"),
    "a refusal without end": (without_end(MEGABYTE, b"HTTP/1.1 403 No\r\n\r\n"), "HTTP 403: xxx"),
    "a refusal of a gigabyte": (
        without_end(MEGABYTE, b"HTTP/1.1 403 No\r\nContent-Length: 1000000000\r\n\r\n"),
        "HTTP 403: xxx",
    ),
    "a refusal that drips": (dripping(b"x", b"HTTP/1.1 403 No\r\n\r\n"), "HTTP 403: xxx"),
    "a refusal that paints": (
        saying(b"HTTP/1.1 403 No\r\n\r\n" + PAINTS.encode()),
        r"HTTP 403: \x1b]0;pwned\x07\x9b2J\u202e\x7f forged?",
    ),
    "a refusal in chunks that are none": (
        saying(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\nbanana\r\n"),
        "no call: ",
    ),
    "another place": (saying(b"HTTP/1.1 302 No\r\nLocation: /\r\n\r\n"), "HTTP 302"),
    "a fault that paints": (saying(b"HTTP/1.1 \x1b[2J\r\n\r\n"), "no call: "),
}


@pytest.mark.parametrize("name", HANDSHAKES)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_whatever_answers_a_call_is_told_in_one_line(
    name: str, as_json: bool, tmp_path: Path
) -> None:
    answer, told = HANDSHAKES[name]
    with Server(answer) as server:
        options = ["--json"] if as_json else []
        url = f"ws://127.0.0.1:{server.port}/twilio"
        result = run("call", a_wav(tmp_path / "a.wav"), "--url", url, *options)
        assert server.sent < MAX_ANSWER + 32 * 2**20
    assert result.exit_code == 3
    assert_fit_to_be_shown(result.stderr, lines=1)
    assert_fit_to_be_shown(result.stdout)
    assert told in result.stderr
    if as_json:
        assert json.loads(result.stdout)["result"] == "no_call"
    else:
        assert result.stdout == ""


def text(value: object) -> bytes:
    return frames.text(json.dumps(value).encode("utf-8"))


CONVERSATIONS: dict[str, Answer] = {
    "garbage": saying(b"\xff" * 1000),
    "a masked frame": saying(frames.masked_text(b"x")),
    "a text that is not UTF-8": saying(frames.text(b"\xff")),
    "a close frame of a byte": saying(b"\x88\x01x"),
    "a close code that is none": saying(b"\x88\x02\x00\x01"),
    "a close reason that paints": saying(frames.close(1000, PAINTS)),
    "a message that is too big": saying(b"\x82\x7f" + (2**40).to_bytes(8, "big")),
    "fragments without end": without_end(b"\x00\x01x" * 1000, b"\x01\x01x"),
    "pings without end": without_end(frames.ping() * 1000),
    "pongs without end": without_end(frames.pong(b"x") * 1000),
    "binary without end": without_end(frames.binary(b"x") * 1000),
    "texts without end": without_end(text(PAINTS) * 1000),
    "brackets": saying(frames.text(b"[" * 200_000)),
    "many digits": saying(frames.text(b'{"event":' + b"9" * 100_000 + b"}")),
    "what is no message": saying(
        text({"event": "media", "streamSid": "\x1b[2J", "media": {"payload": ""}}),
        text({"event": "[red]\x1b[2J[/red]"}),
        text({PAINTS: 1}),
    ),
    "gone": saying(b"\x81"),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_whatever_is_said_in_a_call_ends_in_a_report(name: str, tmp_path: Path) -> None:
    server: Server

    def answer(say: Say) -> None:
        say(accepted(server.requests[-1]))
        time.sleep(0.1)
        CONVERSATIONS[name](say)
        time.sleep(0.3)

    with Server(answer) as server:
        url = f"ws://127.0.0.1:{server.port}/twilio"
        clip = a_wav(tmp_path / "a.wav")
        result = run("call", clip, "--seconds", "1", "--out", str(tmp_path), "--url", url)
    assert result.exit_code in (4, 5)
    assert_fit_to_be_shown(result.stdout)
    assert_fit_to_be_shown(result.stderr, lines=1)
    assert list(tmp_path.glob("call-*.wav"))

"""A simulated call over a websocket, against a small bridge of the test's own."""

import contextlib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
import trio_websocket
from limits import HANG

from sts_trio.audio.frames import length
from sts_trio.simulate.caller import call_over, place_call
from sts_trio.simulate.connect import NotConnected
from sts_trio.simulate.phone import Moment
from sts_trio.simulate.report import Report
from sts_trio.simulate.script import HangUp, Speak, Step, WaitForQuiet, WaitForSpeech, polite
from sts_trio.wire import twilio

LOUD, SILENCE = b"\x00", b"\xff"


def loud(duration: float) -> bytes:
    return LOUD * length(duration)


class Bridge:
    """The other end of a call: what it heard, and its answers."""

    def __init__(
        self, socket: trio_websocket.WebSocketConnection, stream: trio.abc.Stream | None = None
    ) -> None:
        self.socket = socket
        self.stream = stream
        self.heard: list[tuple[float, twilio.FromCaller]] = []
        self.raw: list[str | bytes] = []
        self.stream_sid = ""

    async def hear(self) -> twilio.FromCaller:
        data = await self.socket.get_message()
        self.raw.append(data)
        message = twilio.decode(data)
        self.heard.append((trio.current_time(), message))
        if isinstance(message, twilio.Start):
            self.stream_sid = message.start.stream_sid
        return message

    async def hear_until(self, kind: type[Any]) -> Any:
        while not isinstance(message := await self.hear(), kind):
            pass
        return message

    async def hear_to_the_end(self) -> None:
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            while True:
                await self.hear()

    async def begin(self) -> None:
        await self.hear_until(twilio.Start)

    async def play(self, audio: bytes) -> None:
        await self.say(twilio.PlayMedia(self.stream_sid, twilio.Outbound(audio)))

    async def mark(self, name: str) -> None:
        await self.say(twilio.PlayMark(self.stream_sid, twilio.MarkName(name)))

    async def clear(self) -> None:
        await self.say(twilio.Clear(self.stream_sid))

    async def say(self, message: twilio.ToCaller) -> None:
        await self.socket.send_message(twilio.encode(message).decode())

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for _, message in self.heard if isinstance(message, kind)]


Behaviour = Callable[[Bridge], Awaitable[None]]


async def call(
    behave: Behaviour, steps: Sequence[Step] = (), **options: Any
) -> tuple[Report, Bridge]:
    """Calls a bridge that behaves so, on memory streams."""
    ours, theirs = trio.testing.memory_stream_pair()
    bridges = []

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(nursery, theirs)
            bridge = Bridge(await request.accept(), theirs)
            bridges.append(bridge)
            with contextlib.suppress(trio_websocket.ConnectionClosed):
                await behave(bridge)
            await bridge.hear_to_the_end()
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        report = await call_over(ours, steps, **options)
    return report, bridges[0]


async def listen(bridge: Bridge) -> None:
    """A bridge that says nothing."""
    await bridge.hear_to_the_end()


# --- what Twilio sends ----------------------------------------------------------------------------


async def test_the_handshake_is_twilios() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        options: dict[str, Any] = {
            "host": "bridge.test",
            "path": "/twilio",
            "headers": {"X-Twilio-Signature": "x="},
        }
        nursery.start_soon(lambda: call_over(ours, [], **options))
        request, *lines = bytes(await theirs.receive_some()).decode().split("\r\n")
        nursery.cancel_scope.cancel()
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    assert request == "GET /twilio HTTP/1.1"
    assert headers.pop("sec-websocket-key")
    assert headers == {
        "host": "bridge.test",
        "user-agent": "twilio.tmews/1.0",
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "x-twilio-signature": "x=",
        "accept-encoding": "gzip",
    }


async def test_a_call_is_connected_started_spoken_in_real_time_and_stopped(
    autojump_clock: Any,
) -> None:
    report, bridge = await call(listen, [Speak(loud(0.5))], parameters={"session": "s1"})
    kinds = [type(message) for message in bridge.of(object)]
    assert kinds == [twilio.Connected, twilio.Start] + [twilio.Media] * 25 + [twilio.Stop]
    times = [time for time, message in bridge.heard if isinstance(message, twilio.Media)]
    assert times == [pytest.approx(0.02 * n) for n in range(1, 26)]
    assert b"".join(media.media.payload for media in bridge.of(twilio.Media)) == loud(0.5)
    (start,) = bridge.of(twilio.Start)
    assert start.start.custom_parameters == {"session": "s1"}
    assert start.start.stream_sid == start.stream_sid
    assert [len(sid) for sid in (start.stream_sid, start.start.call_sid)] == [34, 34]
    assert report.frames_sent == 25
    assert report.said == loud(0.5)
    assert (report.closed_by, report.close_code) == ("caller", 1000)


async def test_messages_are_numbered_as_strings_without_a_gap(autojump_clock: Any) -> None:
    async def play(bridge: Bridge) -> None:
        await bridge.begin()
        await bridge.play(loud(0.1))
        await bridge.mark("one")
        await bridge.mark("two")

    _, bridge = await call(play, [Speak(loud(0.5))])
    raw = [msgspec.json.decode(data) for data in bridge.raw]
    assert "sequenceNumber" not in raw[0]
    assert [each["sequenceNumber"] for each in raw[1:]] == [str(n) for n in range(1, len(raw))]
    media = [each["media"] for each in raw if each["event"] == "media"]
    assert [each["chunk"] for each in media] == [str(n) for n in range(1, 26)]
    assert media[4]["timestamp"] == "100"
    assert {each["track"] for each in media} == {"inbound"}


async def test_between_clips_the_caller_is_silent_and_not_absent(autojump_clock: Any) -> None:
    report, bridge = await call(listen, [Speak(loud(0.2)), WaitForQuiet(2.0), Speak(loud(0.2))])
    assert report.said == loud(0.2) + SILENCE * length(2.0) + loud(0.2)
    assert report.seconds == pytest.approx(2.4)
    assert len(bridge.of(twilio.Media)) == 120


# --- what Twilio plays ----------------------------------------------------------------------------


async def test_marks_come_back_when_their_audio_was_played(autojump_clock: Any) -> None:
    async def play(bridge: Bridge) -> None:
        await bridge.begin()
        await bridge.mark("early")
        await bridge.play(loud(1.0))
        await bridge.mark("late")

    report, bridge = await call(play, [WaitForQuiet(5.0)])
    echoes = [
        (round(time, 3), message.mark.name)
        for time, message in bridge.heard
        if isinstance(message, twilio.Mark)
    ]
    assert echoes == [(0.0, "early"), (1.0, "late")]
    assert report.marks == 2
    assert report.heard[: length(1.0)] == loud(1.0)
    assert report.agent_spans == ((0.0, 1.0),)


async def test_clear_cuts_what_is_heard_and_sends_the_marks_back(autojump_clock: Any) -> None:
    async def play(bridge: Bridge) -> None:
        await bridge.begin()
        await bridge.play(loud(10.0))
        await bridge.mark("end")
        while trio.current_time() < 0.99:
            await bridge.hear()
        await bridge.clear()

    report, bridge = await call(play, [WaitForQuiet(5.0)])
    (echo,) = [time for time, message in bridge.heard if isinstance(message, twilio.Mark)]
    assert echo == pytest.approx(1.0)
    assert report.agent_received == 10.0
    assert report.agent_heard == pytest.approx(1.0)
    assert report.agent_spans == ((0.0, 1.0),)
    assert report.clears == 1


async def test_what_twilio_would_refuse_is_counted_and_not_played(autojump_clock: Any) -> None:
    async def blunder(bridge: Bridge) -> None:
        await bridge.begin()
        sid = bridge.stream_sid
        for text in (
            "",
            "not JSON",
            f'{{"event":"clearAudio","streamSid":"{sid}"}}',
            '{"event":"clear"}',
            '{"event":"clear","streamSid":"MZ00000000000000000000000000000009"}',
            f'{{"event":"media","streamSid":"{sid}","media":{{"payload":"AAAA"}},"extra":1}}',
            f'{{"event":"mark","streamSid":"{sid}"}}',
        ):
            await bridge.socket.send_message(text)
        await bridge.socket.send_message(loud(0.1))

    report, _ = await call(blunder, [WaitForQuiet(1.0)])
    assert report.refused == {31951: 7, 31950: 1}
    assert report.first_refusal
    assert report.agent_received == 0
    assert report.clears == 0


async def test_too_much_for_twilios_buffer_is_told(autojump_clock: Any) -> None:
    async def flood(bridge: Bridge) -> None:
        await bridge.begin()
        for _ in range(7):
            await bridge.play(loud(100.0))

    report, _ = await call(flood, [WaitForSpeech(1.0)])
    assert report.refused == {31931: 1}


# --- a conversation -------------------------------------------------------------------------------


async def converse(bridge: Bridge) -> None:
    """Greets, and answers 0.6 s after each clip of half a second."""
    await bridge.begin()
    await bridge.play(loud(1.0))
    while True:
        await _hear(bridge, LOUD)
        await bridge.clear()
        await _hear(bridge, SILENCE)
        until = trio.current_time() + 0.6
        while trio.current_time() < until - 0.001:
            await bridge.hear()
        await bridge.play(loud(2.0))


async def _hear(bridge: Bridge, byte: bytes) -> None:
    while not (await bridge.hear_until(twilio.Media)).media.payload.startswith(byte):
        pass


async def test_a_polite_call_reports_how_long_each_answer_took(autojump_clock: Any) -> None:
    report, _ = await call(converse, polite([Speak(loud(0.5)), Speak(loud(0.5))]))
    assert report.first_agent_audio == 0.0
    assert len(report.turns) == 2
    # A frame goes by until the first silence is sent, another may until the answer is played.
    assert report.waits == [pytest.approx(0.62, abs=0.021)] * 2
    assert report.talked_over == []
    assert report.clears == 2
    assert not report.out_of_time
    assert len(report.said) == pytest.approx(len(report.heard), abs=160)


async def test_a_barge_in_reports_how_long_the_agent_went_on(autojump_clock: Any) -> None:
    clip = Speak(loud(0.5))
    steps: list[Step] = [WaitForQuiet(), clip, WaitForSpeech(1.0), clip, WaitForQuiet()]
    report, _ = await call(converse, steps)
    assert report.talked_over == [pytest.approx(0.04, abs=0.021)]
    assert len(report.waits) == 2


async def test_a_caller_may_hang_up_in_the_middle_of_a_sentence(autojump_clock: Any) -> None:
    report, bridge = await call(converse, [WaitForSpeech(0.5), HangUp()])
    assert bridge.of(twilio.Stop)
    assert report.seconds == pytest.approx(0.5)
    assert bridge.socket.closed is not None
    assert bridge.socket.closed.code == 1000


async def test_a_caller_may_vanish(autojump_clock: Any) -> None:
    report, bridge = await call(converse, [WaitForSpeech(0.5), HangUp(abruptly=True)])
    assert not bridge.of(twilio.Stop)
    assert bridge.socket.closed is not None
    assert bridge.socket.closed.code == 1006
    assert report.closed_by == "caller"


async def test_the_limit_ends_a_call_in_which_the_agent_never_stops(autojump_clock: Any) -> None:
    async def ramble(bridge: Bridge) -> None:
        await bridge.begin()
        await bridge.play(loud(500.0))

    report, _ = await call(ramble, polite([Speak(loud(1.0))]), limit=20.0)
    assert report.out_of_time
    assert report.seconds == pytest.approx(20.0)
    assert report.close_code == 1000


async def test_those_who_watch_are_told_who_speaks(autojump_clock: Any) -> None:
    moments: list[Moment] = []
    await call(converse, polite([Speak(loud(0.5))]), watch=moments.append)
    assert moments[0].seconds == pytest.approx(0.02)
    who = {round(each.seconds, 2): (each.caller_speaks, each.agent_speaks) for each in moments}
    assert who[0.5] == (False, True)
    assert who[1.6] == (False, False)
    assert who[2.2] == (True, False)
    assert who[3.4] == (False, True)


# --- ends that are not ours -----------------------------------------------------------------------


async def test_a_bridge_that_hangs_up_is_reported_with_its_code(autojump_clock: Any) -> None:
    async def hang_up(bridge: Bridge) -> None:
        await bridge.begin()
        await bridge.play(loud(1.0))
        await trio.sleep(0.5)
        await bridge.socket.aclose(1011)

    report, _ = await call(hang_up, polite([Speak(loud(1.0))]))
    assert (report.closed_by, report.close_code) == ("bridge", 1011)
    assert report.seconds == pytest.approx(0.5)


async def test_a_bridge_that_is_lost_is_reported_as_1006(autojump_clock: Any) -> None:
    async def vanish(bridge: Bridge) -> None:
        await bridge.begin()
        assert bridge.stream is not None
        await trio.aclose_forcefully(bridge.stream)

    report, _ = await call(vanish, polite([Speak(loud(1.0))]))
    assert (report.closed_by, report.close_code) == ("bridge", 1006)


async def fails(behave: Callable[[trio.abc.Stream], Awaitable[None]]) -> NotConnected:
    """How a call to a peer fails that has the bare stream to itself."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(behave, theirs)
        with pytest.raises(NotConnected) as caught:
            await call_over(ours, [Speak(loud(0.1))], limit=5.0)
        nursery.cancel_scope.cancel()
    return caught.value


async def test_a_refused_handshake_tells_its_status_and_reason() -> None:
    async def refuse(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 17\r\n\r\nset STS_PUBLIC_URL"[:-1]
        )

    error = await fails(refuse)
    assert error.status == 403
    assert str(error) == "HTTP 403: set STS_PUBLIC_UR"


async def test_a_server_that_says_nothing_is_given_up(autojump_clock: Any) -> None:
    async def sleep(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    error = await fails(sleep)
    assert str(error) == "no answer to the handshake"
    assert trio.current_time() == 5.0


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"])
async def test_a_server_that_speaks_something_else_is_not_connected(answer: bytes) -> None:
    async def answer_so(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        if answer:
            await stream.send_all(answer)
        await stream.aclose()

    error = await fails(answer_so)
    assert error.status is None
    assert "closed during the handshake" in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 banana split\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    ],
)
async def test_an_answer_that_is_no_handshake_is_not_connected(answer: bytes) -> None:
    async def answer_so(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        await trio.sleep_forever()

    error = await fails(answer_so)
    assert str(error).startswith("no websocket is spoken there: ")
    assert "role=CLIENT" not in str(error)


async def accept_and_freeze(stream: trio.abc.Stream) -> None:
    async with trio.open_nursery() as nursery:
        request = await trio_websocket.wrap_server_stream(nursery, stream)
        await request.accept()
        nursery.cancel_scope.cancel()
    await trio.sleep_forever()


async def test_a_bridge_that_does_not_read_cannot_keep_the_call(autojump_clock: Any) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_and_freeze, theirs)
        report = await call_over(ours, polite([Speak(loud(1.0))]), limit=3.0)
        nursery.cancel_scope.cancel()
    assert report.out_of_time
    assert trio.current_time() == pytest.approx(4.0)


async def test_a_bridge_that_does_not_answer_the_goodbye_is_left(autojump_clock: Any) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_and_freeze, theirs)
        report = await call_over(ours, [Speak(loud(0.1))])
        nursery.cancel_scope.cancel()
    assert (report.closed_by, report.close_code) == ("caller", None)
    assert report.seconds == pytest.approx(2.1)


# --- real sockets ---------------------------------------------------------------------------------


async def serve_tcp(*, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        bridge = Bridge(await request.accept())
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            await bridge.begin()
            await bridge.play(loud(0.1))
        await bridge.hear_to_the_end()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_websocket.serve_websocket, handle, "127.0.0.1", 0, None)
        task_status.started(server.port)


async def test_a_url_is_called_over_tcp() -> None:
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(serve_tcp)
            report = await place_call(f"ws://127.0.0.1:{port}/twilio?a=b", [Speak(loud(0.2))])
            nursery.cancel_scope.cancel()
    assert report.agent_heard == pytest.approx(0.1)
    assert report.close_code == 1000


async def test_a_port_where_nobody_listens_is_a_clear_reason() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(NotConnected, match=rf"^127\.0\.0\.1:{port}: .*refused"):
        await place_call(f"ws://127.0.0.1:{port}/twilio", [])


async def test_tls_on_a_plain_port_is_a_clear_reason() -> None:
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(serve_tcp)
            with pytest.raises(NotConnected, match="no TLS") as caught:
                await place_call(f"wss://127.0.0.1:{port}/twilio", [])
            nursery.cancel_scope.cancel()
    assert isinstance(caught.value.__cause__, trio.BrokenResourceError)
    assert isinstance(caught.value.__cause__.__cause__, ssl.SSLError)


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1:5000/twilio", "ws://", "127.0.0.1:5000", "ws://[::1", "ws://h:99999/"]
)
async def test_what_is_no_url_to_call_is_a_clear_reason(url: str) -> None:
    with pytest.raises(NotConnected, match="not a URL"):
        await place_call(url, [])

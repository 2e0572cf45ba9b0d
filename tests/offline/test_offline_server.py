"""The offline agent behind a websocket: handshake, pace, goodbye, and faults made on purpose."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.testing
import trio_websocket
from limits import HANG

from sts_trio.audio.frames import seconds
from sts_trio.observe import events
from sts_trio.offline.protocol import server
from sts_trio.offline.protocol.faults import Faults
from sts_trio.offline.speech import voice
from sts_trio.wire import deepgram, deepgram_settings
from sts_trio.wire.deepgram import Audio
from sts_trio.wire.dialect import Dialect, Language, language

V1 = "/v1/agent/converse"
GREETING = "Hello! How can I help you today?"
SETTINGS = deepgram_settings.phone_settings({"greeting": GREETING})


class Client:
    """One client of the agent; keeps what it hears as (time, message)."""

    def __init__(self, socket: trio_websocket.WebSocketConnection, speech: Language) -> None:
        self.socket = socket
        self.speech = speech
        self.heard: list[tuple[float, Any]] = []
        self.closed_at = 0.0

    async def say(self, *messages: deepgram.ToAgent) -> None:
        for message in messages:
            await self.socket.send_message(self.speech.encode(message))

    async def listen(self) -> None:
        """Until the agent closes."""
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            while True:
                data = await self.socket.get_message()
                self.heard.append((trio.current_time(), self.speech.decode(data)))
        self.closed_at = trio.current_time()

    @property
    def messages(self) -> list[Any]:
        return [message for _, message in self.heard]

    @property
    def audio(self) -> bytes:
        return b"".join(each.data for each in self.messages if isinstance(each, Audio))

    @property
    def close_code(self) -> int:
        assert self.socket.closed is not None
        return self.socket.closed.code


@contextlib.asynccontextmanager
async def connected(
    path: str = V1,
    *,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    dialect: Dialect = Dialect.V1,
    faults: Faults = server.NO_FAULTS,
) -> AsyncIterator[Client]:
    """A client of a server on memory streams. The server has to end by itself."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as servers:
        servers.start_soon(lambda: server.serve_stream(theirs, faults=faults))
        async with trio.open_nursery() as nursery:
            socket = await trio_websocket.wrap_client_stream(
                nursery,
                ours,  # type: ignore[arg-type]
                "agent.test",
                path,
                extra_headers=list(headers),
            )
            yield Client(socket, language(dialect))
            await socket.aclose()
            nursery.cancel_scope.cancel()
        await ours.aclose()


async def refusal(path: str, *headers: tuple[bytes, bytes], faults: Faults) -> int:
    """The status that a handshake is refused with."""
    with pytest.RaisesGroup(trio_websocket.ConnectionRejected, flatten_subgroups=True) as caught:
        async with connected(path, headers=headers, faults=faults):
            pass
    rejection = caught.value.exceptions[0]
    while isinstance(rejection, BaseExceptionGroup):
        rejection = rejection.exceptions[0]
    assert isinstance(rejection, trio_websocket.ConnectionRejected)
    return rejection.status_code


# --- the handshake --------------------------------------------------------------------------------


async def test_a_client_is_welcomed_under_the_id_of_its_handshake() -> None:
    async with connected() as client:
        welcome = client.speech.decode(await client.socket.get_message())
        headers = dict(client.socket.handshake_headers)
    assert isinstance(welcome, deepgram.Welcome)
    assert headers[b"dg-request-id"] == welcome.request_id.encode()
    assert len(welcome.request_id) == 36


@pytest.mark.parametrize("value", [b"Token abc", b"token abc", b"Bearer eyJhbGciOi"])
async def test_any_key_opens(value: bytes) -> None:
    async with connected(headers=((b"Authorization", value),)) as client:
        assert "Welcome" in await client.socket.get_message()


@pytest.mark.parametrize("value", [b"Basic abc", b"abc", b"Token", b""])
async def test_another_kind_of_authorization_is_401(value: bytes) -> None:
    assert await refusal(V1, (b"Authorization", value), faults=server.NO_FAULTS) == 401


@pytest.mark.parametrize("path", ["/", "/v1/agent", "/v1/agent/converse/"])
async def test_another_path_is_404(path: str) -> None:
    assert await refusal(path, faults=server.NO_FAULTS) == 404


async def test_a_client_that_speaks_no_http_is_turned_away(autojump_clock: Any) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, theirs)
        await ours.send_all(b"Hello, is this the agent?\r\n\r\n")
        assert (await ours.receive_some(12)).startswith(b"HTTP/1.1 400")
    assert trio.current_time() <= server.HANDSHAKE_TIMEOUT


async def test_a_client_that_says_nothing_is_not_waited_for(autojump_clock: Any) -> None:
    _, theirs = trio.testing.memory_stream_pair()
    await server.serve_stream(theirs)
    assert trio.current_time() == server.HANDSHAKE_TIMEOUT


# --- a session ------------------------------------------------------------------------------------


async def test_the_greeting_comes_whole_and_two_and_a_half_times_faster_than_spoken(
    autojump_clock: Any,
) -> None:
    async with connected() as client:
        await client.say(SETTINGS)
        with trio.move_on_after(5):
            await client.listen()
    assert client.audio == voice.say(GREETING)
    times = [time for time, message in client.heard if isinstance(message, Audio)]
    assert times[0] == 0.0
    assert times[-1] - times[0] == pytest.approx(seconds(len(client.audio)) / 2.5, abs=0.05)
    assert client.messages[-1] == deepgram.AgentAudioDone()


async def test_the_old_dialect_is_spoken_on_the_old_path(autojump_clock: Any) -> None:
    async with connected("/agent", dialect=Dialect.LEGACY) as client:
        await client.say(SETTINGS)
        with trio.move_on_after(5):
            await client.listen()
        await client.say(deepgram.UpdatePrompt("Be brief."))
        await client.say(deepgram.KeepAlive())
        with trio.move_on_after(1):
            await client.listen()
    texts = [message for message in client.messages if not isinstance(message, Audio)]
    assert [type(text) for text in texts] == [
        deepgram.Welcome,
        deepgram.SettingsApplied,
        deepgram.ConversationText,
        deepgram.AgentAudioDone,
        deepgram.PromptUpdated,
    ]
    assert client.audio == voice.say(GREETING)


async def test_a_broken_message_is_answered_by_an_error_and_a_close_without_a_status(
    autojump_clock: Any,
) -> None:
    async with connected() as client:
        await client.socket.send_message('{"type":"Settings","audio":{},"agent":{},"extra":1}')
        await client.listen()
    failure = client.messages[-1]
    assert isinstance(failure, deepgram.AgentError)
    assert failure.code == "UNPARSABLE_CLIENT_MESSAGE"
    assert "extra" in failure.description
    assert client.close_code == 1005


async def test_an_idle_client_is_told_so(autojump_clock: Any) -> None:
    async with connected() as client:
        await client.say(SETTINGS)
        await client.listen()
        assert client.closed_at == 15.0
    assert client.messages[-1].code == "CLIENT_MESSAGE_TIMEOUT"


async def test_a_barge_in_stops_the_audio(autojump_clock: Any) -> None:
    async with connected() as client, trio.open_nursery() as nursery:
        await client.say(SETTINGS)
        nursery.start_soon(client.listen)
        await trio.sleep(0.5)
        await client.say(Audio(b"\x00" * 480))
        await trio.sleep(0.9)
        nursery.cancel_scope.cancel()
    at = client.messages.index(deepgram.UserStartedSpeaking())
    assert not [each for each in client.messages[at:] if isinstance(each, Audio)]
    assert seconds(len(client.audio)) == pytest.approx(0.5 * 2.5, abs=0.15)


async def test_a_client_that_hangs_up_while_the_agent_speaks_leaves_nothing(
    autojump_clock: Any,
) -> None:
    async with connected() as client:
        await client.say(SETTINGS)
        await trio.sleep(0.3)
    assert trio.current_time() == pytest.approx(0.3)


async def test_a_client_that_vanishes_leaves_nothing(autojump_clock: Any) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as servers:
        servers.start_soon(server.serve_stream, theirs)
        async with trio.open_nursery() as nursery:
            socket = await trio_websocket.wrap_client_stream(
                nursery,
                ours,  # type: ignore[arg-type]
                "agent.test",
                V1,
            )
            await socket.send_message(deepgram.encode(SETTINGS))
            await trio.sleep(0.3)
            nursery.cancel_scope.cancel()
        await ours.aclose()
    assert trio.current_time() == pytest.approx(0.3)


async def test_a_server_that_is_cancelled_closes_its_stream(autojump_clock: Any) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, theirs)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert await ours.receive_some() == b""


async def test_on_tcp_the_port_is_told_and_several_clients_are_served() -> None:
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(server.serve, "127.0.0.1", 0)
            for _ in range(2):
                async with trio_websocket.open_websocket_url(
                    f"ws://127.0.0.1:{port}{V1}"
                ) as socket:
                    assert "Welcome" in await socket.get_message()
                    await socket.send_message(deepgram.encode(SETTINGS))
                    assert "SettingsApplied" in await socket.get_message()
            nursery.cancel_scope.cancel()


async def test_a_bug_ends_one_session_and_not_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(stream: trio.abc.Stream, **options: Any) -> None:
        await stream.aclose()
        raise ZeroDivisionError

    monkeypatch.setattr(server, "serve_stream", broken)
    with trio.fail_after(HANG), structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            port = await nursery.start(server.serve, "127.0.0.1", 0)
            for _ in range(2):
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    assert await stream.receive_some() == b""
            nursery.cancel_scope.cancel()
    assert [line["event"] for line in logs] == [events.OfflineAgentCrashed.NAME] * 2


async def test_a_port_that_is_taken_is_an_oserror() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        with pytest.raises(OSError, match="in use"):
            await server.serve("127.0.0.1", listener.socket.getsockname()[1])


# --- faults ---------------------------------------------------------------------------------------


async def test_a_handshake_can_be_refused() -> None:
    assert await refusal(V1, faults=Faults(refuse_status=429)) == 429


async def test_a_handshake_can_be_left_unanswered(autojump_clock: Any) -> None:
    with trio.move_on_after(9) as scope:
        async with connected(faults=Faults(hang_in_handshake=True)):
            pass
    assert scope.cancelled_caught
    assert trio.current_time() == 9


async def test_garbage_goes_out_as_it_is(autojump_clock: Any) -> None:
    async with connected(faults=Faults(garbage=("{]", "[]"))) as client:
        await client.say(SETTINGS)
        texts = [await client.socket.get_message() for _ in range(4)]
    assert texts[2:] == ["{]", "[]"]


async def test_the_connection_can_be_closed_with_a_code(autojump_clock: Any) -> None:
    async with connected(faults=Faults(close_after=1.5, close_code=1001)) as client:
        await client.say(SETTINGS)
        await client.listen()
    assert client.closed_at == 1.5
    assert client.close_code == 1001


async def test_the_connection_can_be_dropped(autojump_clock: Any) -> None:
    async with connected(faults=Faults(drop_after=1.5)) as client:
        await client.say(SETTINGS)
        await client.listen()
    assert client.closed_at == 1.5
    assert client.close_code == 1006


async def test_an_agent_that_falls_mute_still_reads_and_answers_no_ping(
    autojump_clock: Any,
) -> None:
    async with connected(faults=Faults(mute_after=0.3)) as client:
        await client.say(SETTINGS)
        with trio.move_on_after(1):
            await client.listen()
        assert max(time for time, _ in client.heard) < 0.3
        for _ in range(500):
            await client.say(Audio(b"\xff" * 160))
        with trio.move_on_after(3) as scope:
            await client.socket.ping()
        assert scope.cancelled_caught


async def test_an_agent_that_stops_reading_goes_on_speaking(autojump_clock: Any) -> None:
    async with connected(faults=Faults(stop_reading_after=0.1)) as client:
        await client.say(SETTINGS)
        with trio.move_on_after(1):
            await client.listen()
        assert client.messages[-1] == deepgram.AgentAudioDone()
        await client.say(Audio(b"\x00" * 1600))  # the read that was under way
        await client.say(Audio(b"\x00" * 1600))
        with trio.move_on_after(3) as scope:
            await client.socket.ping()
        assert scope.cancelled_caught
        with trio.move_on_after(20):
            await client.listen()


def test_messages_of_the_protocol_are_decoded_strictly() -> None:
    """What the server leans on: the languages refuse what Deepgram refuses."""
    for speech in map(language, Dialect):
        with pytest.raises(msgspec.MsgspecError):
            speech.decode_as_agent('{"type":"Nonsense"}')

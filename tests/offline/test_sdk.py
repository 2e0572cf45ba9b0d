"""Deepgram's own client for Python, pointed at the offline agent, holds a conversation with it."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from deepgram import DeepgramClient
from deepgram.agent.v1 import types as sdk
from deepgram.environment import DeepgramClientEnvironment
from limits import HANG

from sts_trio.offline.mode import Mode
from sts_trio.offline.protocol import server
from sts_trio.offline.protocol.script import Script

# The client imports websockets' old names.
pytestmark = pytest.mark.filterwarnings(r"ignore:websockets\.:DeprecationWarning")

SPEECH = Path(__file__).parent.parent / "data" / "speech"
GREETING = "Hello! How can I help you today?"
SILENCE = b"\xff" * 160
AGENT: dict[str, Any] = {
    "language": "en",
    "greeting": GREETING,
    "listen": {"provider": {"type": "deepgram", "version": "v1", "model": "nova-3"}},
    "think": {
        "provider": {"type": "open_ai", "model": "gpt-4o-mini", "temperature": 0.5},
        "prompt": "You are a helpful car seller.",
        "functions": [
            {
                "name": "book_test_drive",
                "description": "Books a test drive.",
                "parameters": {
                    "type": "object",
                    "properties": {
                        name: {"type": "string"} for name in ("model", "day", "time", "name")
                    },
                },
            }
        ],
    },
    "speak": {"provider": {"type": "deepgram", "model": "aura-2-thalia-en"}},
}


def settings(**agent: Any) -> sdk.AgentV1Settings:
    return sdk.AgentV1Settings(
        type="Settings",
        audio={  # type: ignore[arg-type]
            "input": {"encoding": "mulaw", "sample_rate": 8000},
            "output": {"encoding": "mulaw", "sample_rate": 8000, "container": "none"},
        },
        agent=AGENT | agent,  # type: ignore[arg-type]
    )


class Talk:
    """One session of the client's; `heard` has every message, by its type."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.heard: list[Any] = []
        self.audio = b""

    def until(self, wanted: type[Any]) -> Any:
        """The next message of this type; those before it are heard, too."""
        while True:
            message = self.socket.recv()
            if isinstance(message, bytes):
                self.audio += message
                continue
            self.heard.append(message)
            if isinstance(message, wanted):
                return message

    def answer(self) -> str:
        """What the agent says, to its end."""
        before = len(self.heard)
        self.until(sdk.AgentV1AgentAudioDone)
        return " ".join(self.said("assistant", before))

    def said(self, role: str, since: int = 0) -> list[str]:
        return [
            message.content
            for message in self.heard[since:]
            if isinstance(message, sdk.AgentV1ConversationText) and message.role == role
        ]


@contextlib.contextmanager
def talk(port: int) -> Iterator[Talk]:
    url = f"127.0.0.1:{port}"
    environment = DeepgramClientEnvironment(
        base=f"http://{url}",
        production=f"ws://{url}",
        agent=f"ws://{url}",
        agent_rest=f"http://{url}",
    )
    client = DeepgramClient(api_key="any", environment=environment)
    with client.agent.v1.connect() as socket:
        yield Talk(socket)


async def hold(conversation: Callable[[int], None], **options: Any) -> None:
    """Runs it in a thread of its own, against a server on a free port."""
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(functools.partial(server.serve, "127.0.0.1", 0, **options))
            await trio.to_thread.run_sync(conversation, port, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()


async def test_a_test_drive_is_booked_by_voice_and_by_text_and_by_a_function_of_the_client() -> (
    None
):
    def conversation(port: int) -> None:
        with talk(port) as client:
            client.until(sdk.AgentV1Welcome)
            client.socket.send_settings(settings())
            client.until(sdk.AgentV1SettingsApplied)
            assert client.answer() == GREETING
            assert len(client.audio) > 8000

            # Half a second of the line first, then a clip, then silence till the turn is over.
            clip = (SPEECH / "rms-27.ulaw").read_bytes()
            client.socket.send_media(SILENCE * 25 + clip + SILENCE * 50)
            client.until(sdk.AgentV1UserStartedSpeaking)
            assert client.answer() == "And what is your name?"
            assert client.said("user") == ["book a test drive of the heron on monday at two"]

            client.socket.send_inject_user_message(
                sdk.AgentV1InjectUserMessage(type="InjectUserMessage", content="My name is Emma.")
            )
            assert client.answer() == (
                "So that is a test drive of the Heron, on Monday at two, for Emma. Is that right?"
            )
            client.socket.send_inject_user_message(
                sdk.AgentV1InjectUserMessage(type="InjectUserMessage", content="Yes.")
            )
            (call,) = client.until(sdk.AgentV1FunctionCallRequest).functions
            assert (call.name, call.client_side) == ("book_test_drive", True)
            assert json.loads(call.arguments) == {
                "model": "Heron",
                "day": "Monday",
                "time": "14:00",
                "name": "Emma",
            }
            client.socket.send_function_call_response(
                sdk.AgentV1SendFunctionCallResponse(
                    type="FunctionCallResponse", id=call.id, name=call.name, content='{"ok": true}'
                )
            )
            assert client.answer().startswith("It is booked for Emma, on Monday at two.")
            history = [each for each in client.heard if each.type == "History"]
            assert [each.content for each in history[:2]] == [
                "Hello!",
                "How can I help you today?",
            ]
            assert any(hasattr(each, "function_calls") for each in history)

    await hold(conversation, mode=Mode.EARS)


async def test_everything_the_client_can_send_is_understood() -> None:
    def conversation(port: int) -> None:
        with talk(port) as client:
            client.socket.send_settings(settings(greeting=None))
            client.until(sdk.AgentV1SettingsApplied)
            client.socket.send_keep_alive()
            client.socket.send_update_prompt(
                sdk.AgentV1UpdatePrompt(type="UpdatePrompt", prompt="Be brief.")
            )
            client.until(sdk.AgentV1PromptUpdated)
            client.socket.send_update_speak(
                sdk.AgentV1UpdateSpeak(type="UpdateSpeak", speak=AGENT["speak"])
            )
            client.until(sdk.AgentV1SpeakUpdated)
            client.socket.send_update_think(
                sdk.AgentV1UpdateThink(type="UpdateThink", think=AGENT["think"])
            )
            client.until(sdk.AgentV1ThinkUpdated)
            client.socket.send_update_listen(
                sdk.AgentV1UpdateListen(type="UpdateListen", listen=AGENT["listen"])
            )
            client.until(sdk.AgentV1ListenUpdated)
            client.socket.send_force_end_turn()
            assert client.until(sdk.AgentV1Warning).code == "FORCE_END_TURN_UNSUPPORTED"
            client.socket.send_inject_agent_message(
                sdk.AgentV1InjectAgentMessage(type="InjectAgentMessage", message="One moment.")
            )
            client.socket.send_inject_agent_message(
                sdk.AgentV1InjectAgentMessage(type="InjectAgentMessage", message="And another.")
            )
            assert "agent is speaking" in client.until(sdk.AgentV1InjectionRefused).message
            assert client.answer() == ""
            assert client.said("assistant") == ["One moment."]
            client.socket.send_inject_user_message(
                sdk.AgentV1InjectUserMessage(type="InjectUserMessage", content="Hello?")
            )
            assert client.until(sdk.AgentV1AgentThinking).content
            assert client.answer() == "A line."

    await hold(conversation, script=Script(("A line.",)))


@pytest.mark.parametrize("mode", Mode)
async def test_a_mistake_is_told_and_then_the_connection_is_closed(mode: Mode) -> None:
    from websockets.exceptions import ConnectionClosed

    def conversation(port: int) -> None:
        with talk(port) as client:
            client.socket.send_settings(settings(greeting=None))
            client.until(sdk.AgentV1SettingsApplied)
            client.socket.send_settings(settings(greeting=None))
            assert client.until(sdk.AgentV1Error).code == "SETTINGS_ALREADY_APPLIED"
            with pytest.raises(ConnectionClosed):
                client.until(sdk.AgentV1Welcome)

    await hold(conversation, mode=mode)

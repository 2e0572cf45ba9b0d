import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_text, damaged, structs

from sts_trio.errors import Leg
from sts_trio.logic.function_calls import MAX_AT_ONCE
from sts_trio.wire import deepgram as v1
from sts_trio.wire import deepgram_settings
from sts_trio.wire.anomalies import Malformed, Unknown

DATA = Path(__file__).parent.parent / "data" / "deepgram"
TO_AGENT = json.loads((DATA / "v1-client.json").read_text())
FROM_AGENT = json.loads((DATA / "v1-server.json").read_text())

THINK = {"provider": {"type": "open_ai", "model": "gpt-4o-mini"}}


def kind(message: dict[str, Any]) -> str:
    return str(message["type"])


# --- From the agent -----------------------------------------------------------------------------


@pytest.mark.parametrize("raw", FROM_AGENT, ids=kind)
def test_a_message_of_the_agent_is_read_whole(raw: dict[str, Any]) -> None:
    message = v1.decode(json.dumps(raw))
    assert not isinstance(message, v1.Audio | Unknown | Malformed)
    # Defaults may come on top of what was sent; nothing is lost.
    assert json.loads(v1.encode_as_agent(message)) | raw == json.loads(v1.encode_as_agent(message))


def test_every_kind_of_message_is_among_the_examples() -> None:
    examples = {type(v1.decode(json.dumps(raw))) for raw in FROM_AGENT}
    assert examples == set(v1.TextFromAgent.__args__)


def test_a_function_call_says_what_to_run() -> None:
    (raw,) = [raw for raw in FROM_AGENT if len(raw.get("functions", ())) == 2]
    assert v1.decode(json.dumps(raw)) == v1.FunctionCallRequest(
        functions=(
            v1.FunctionToCall("fc_2", "lookup", "{}", client_side=False, thought_signature="sig"),
            v1.FunctionToCall("fc_3", "end_call", "{}", client_side=True),
        )
    )


def test_an_error_has_a_code_and_words() -> None:
    text = '{"type":"Error","code":"SERVER_GOING_AWAY","description":"Bye."}'
    assert v1.decode(text) == v1.AgentError("SERVER_GOING_AWAY", "Bye.")


def test_a_binary_frame_is_audio_whatever_it_holds() -> None:
    assert v1.decode(b'{"type":"Welcome"}') == v1.Audio(b'{"type":"Welcome"}')
    assert v1.decode(b"") == v1.Audio(b"")
    assert v1.encode_as_agent(v1.Audio(b"\xff")) == b"\xff"


def test_new_fields_are_ignored() -> None:
    text = '{"type":"Welcome","request_id":"r","region":"eu"}'
    assert v1.decode(text) == v1.Welcome("r")


def test_new_kinds_are_unknown() -> None:
    assert v1.decode('{"type":"FlowMeter","rate":1}') == Unknown(Leg.AGENT, "FlowMeter")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty message"),
        ("Welcome", "not JSON"),
        ("\ud800", "not JSON"),
        ("[" * 100_000, "no type"),
        ("[]", "no type"),
        ("{}", "no type"),
        ('{"type": 5}', "no type"),
        (
            '{"type":"ConversationText","role":"user"}',
            "ConversationText: Object missing required field `content`",
        ),
        (
            '{"type":"ConversationText","role":"user","content":["Hi."]}',
            "ConversationText: Expected `str`, got `array` - at `$.content`",
        ),
    ],
)
def test_what_is_no_message_is_malformed_and_says_why(text: str, reason: str) -> None:
    assert v1.decode(text) == Malformed(Leg.AGENT, reason)


# --- what can be used of a message ----------------------------------------------------------------

FINE = {"id": "fc_1", "name": "get_order", "arguments": "{}", "client_side": True}


@pytest.mark.parametrize(
    ("entry", "function"),
    [
        ({"arguments": None}, v1.FunctionToCall("fc_1", "get_order")),
        ({"arguments": {"id": 42}}, v1.FunctionToCall("fc_1", "get_order", '{"id":42}')),
        ({"arguments": [1]}, v1.FunctionToCall("fc_1", "get_order", "[1]")),
        ({"arguments": 5}, v1.FunctionToCall("fc_1", "get_order", "5")),
        ({"id": 7}, v1.FunctionToCall("7", "get_order", "{}")),
        ({"id": 7.5}, v1.FunctionToCall("7.5", "get_order", "{}")),
        ({"name": None}, v1.FunctionToCall("fc_1", "", "{}")),
        ({"name": 7}, v1.FunctionToCall("fc_1", "7", "{}")),
        ({"client_side": None}, v1.FunctionToCall("fc_1", "get_order", "{}")),
        ({"client_side": "false"}, v1.FunctionToCall("fc_1", "get_order", "{}", False)),
        ({"thought_signature": 7}, v1.FunctionToCall("fc_1", "get_order", "{}")),
    ],
)
def test_a_function_call_with_an_odd_field_is_one_all_the_same(
    entry: dict[str, Any], function: v1.FunctionToCall
) -> None:
    other = FINE | {"id": "fc_2"}
    text = json.dumps({"type": "FunctionCallRequest", "functions": [FINE | entry, other]})
    assert v1.decode(text) == v1.FunctionCallRequest(
        (function, v1.FunctionToCall("fc_2", "get_order", "{}"))
    )


@pytest.mark.parametrize("entry", [None, 5, "fc_3", [], {}, {"name": "f"}, {"id": None}])
def test_an_entry_without_an_id_costs_only_itself(entry: Any) -> None:
    text = json.dumps({"type": "FunctionCallRequest", "functions": [entry, FINE, entry]})
    assert v1.decode(text) == v1.FunctionCallRequest(
        (v1.FunctionToCall("fc_1", "get_order", "{}"),)
    )
    text = json.dumps({"type": "FunctionCallCancelled", "functions": [entry, FINE, entry]})
    assert v1.decode(text) == v1.FunctionCallCancelled((v1.CancelledFunction("fc_1", "get_order"),))
    text = json.dumps({"type": "FunctionCallRequest", "functions": [entry]})
    assert isinstance(v1.decode(text), Malformed)


def test_one_function_that_is_not_in_a_list_is_called() -> None:
    text = json.dumps({"type": "FunctionCallRequest", "functions": FINE})
    assert v1.decode(text) == v1.FunctionCallRequest(
        (v1.FunctionToCall("fc_1", "get_order", "{}"),)
    )


def test_odd_entries_without_end_are_not_all_read() -> None:
    text = json.dumps({"type": "FunctionCallRequest", "functions": [{"id": 7}] * 20_000})
    message = v1.decode(text)
    assert isinstance(message, v1.FunctionCallRequest)
    assert MAX_AT_ONCE < len(message.functions) < 2 * MAX_AT_ONCE


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"type": "Welcome", "request_id": None}, v1.Welcome()),
        ({"type": "Error", "code": 1011, "description": None}, v1.AgentError("1011")),
        (
            {"type": "Error", "code": "C", "description": {"why": 1}},
            v1.AgentError("C"),
        ),
        ({"type": "Warning", "code": None, "description": "d"}, v1.AgentWarning("", "d")),
        (
            {"type": "ConversationText", "role": "user", "content": "Hi.", "languages": "en"},
            v1.ConversationText("user", "Hi."),
        ),
        (
            {"type": "ConversationText", "role": "user", "content": 4711},
            v1.ConversationText("user", "4711"),
        ),
        ({"type": "LatencyReport", "tts_latency": "soon"}, v1.LatencyReport()),
        (
            {"type": "FunctionCallResponse", "name": "f", "content": {"ok": True}, "id": 7},
            v1.FunctionCallResponse("f", '{"ok":true}', id=None),
        ),
    ],
)
def test_a_field_that_is_of_no_use_costs_that_field(
    raw: dict[str, Any], message: v1.TextFromAgent
) -> None:
    assert v1.decode(json.dumps(raw)) == message


@given(any_text | st.binary())
def test_decode_is_total_for_anything(data: str | bytes) -> None:
    assert isinstance(v1.decode(data), v1.FromAgent)


@given(damaged(FROM_AGENT))
def test_decode_is_total_for_damaged_messages(text: str) -> None:
    assert isinstance(v1.decode(text), v1.FromAgent)


@given(structs(v1.TextFromAgent) | st.builds(v1.Audio, st.binary()))
def test_what_an_agent_writes_we_read(message: v1.TextFromAgent | v1.Audio) -> None:
    assert v1.decode(v1.encode_as_agent(message)) == message


# --- To the agent -------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", TO_AGENT, ids=kind)
def test_a_message_to_the_agent_is_read_and_written_back(raw: dict[str, Any]) -> None:
    message = v1.decode_as_agent(json.dumps(raw))
    defaults = {"experimental": False, "mip_opt_out": False}
    assert defaults | json.loads(v1.encode(message)) == defaults | raw


def test_every_kind_of_message_to_the_agent_is_among_the_examples() -> None:
    examples = {type(v1.decode_as_agent(json.dumps(raw))) for raw in TO_AGENT}
    assert examples == set(v1.TextToAgent.__args__)


def test_audio_goes_out_as_it_is() -> None:
    assert v1.encode(v1.Audio(b"\xff\x00")) == b"\xff\x00"
    assert v1.decode_as_agent(b"\xff\x00") == v1.Audio(b"\xff\x00")


@pytest.mark.parametrize(
    "raw",
    [
        {"type": "KeepAlive", "now": True},
        {"type": "InjectUserMessage", "message": "Hi"},
        {"type": "InjectAgentMessage", "content": "Hi"},
        {"type": "FunctionCallResponse", "id": "1", "name": "f", "content": {"ok": True}},
        {"type": "UpdateThink", "think": {"prompt": "No provider."}},
        {"type": "UpdateThink", "think": [THINK, {"prompt": "No provider."}]},
        {"type": "UpdateSpeak", "speak": {"provider": {}, "colour": "red"}},
        {"type": "UpdateListen", "listen": {"provider": {"type": "deepgram", "endpointing": 300}}},
        {"type": "Settings", "audio": {}, "agent": {}, "flags": {"colour": "red"}},
        {"type": "Settings", "audio": {}, "agent": {}, "more": {"colour": "red"}},
        {"type": "Settings", "audio": {}, "agent": {}, "colour": "red"},
        {"type": "Settings", "audio": {}},
        {"type": "Settings", "audio": {}, "agent": {"colour": "red"}},
        {"type": "Settings", "audio": {}, "agent": {"greeting": 5}},
        {
            "type": "Settings",
            "audio": {},
            "agent": {"listen": {"provider": {"type": "deepgram", "endpointing": 300}}},
        },
        {
            "type": "Settings",
            "audio": {},
            "agent": {"think": THINK | {"functions": [{"name": "f", "client_side": True}]}},
        },
        {"type": "Welcome"},
    ],
    ids=lambda raw: json.dumps(raw)[:60],
)
def test_what_deepgram_cannot_parse_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        v1.decode_as_agent(json.dumps(raw))


settings = st.builds(
    deepgram_settings.Settings,
    audio=structs(deepgram_settings.AudioSettings),
    agent=st.text(max_size=36) | structs(deepgram_settings.Agent).map(msgspec.to_builtins),
    tags=st.lists(st.text(max_size=10), max_size=2),
    experimental=st.booleans(),
    mip_opt_out=st.booleans(),
    flags=st.none() | structs(deepgram_settings.Flags).map(msgspec.to_builtins),
)


def blocks(kind: Any) -> st.SearchStrategy[Any]:
    one = structs(kind).map(msgspec.to_builtins)
    return one | st.lists(one, max_size=2)


# What is plain data must be of the published kind all the same.
plain = [
    settings,
    st.builds(v1.UpdateThink, blocks(deepgram_settings.Think)),
    st.builds(v1.UpdateSpeak, blocks(deepgram_settings.Speak)),
    st.builds(v1.UpdateListen, structs(deepgram_settings.Listen).map(msgspec.to_builtins)),
]
others = set(v1.TextToAgent.__args__) - {
    deepgram_settings.Settings,
    v1.UpdateThink,
    v1.UpdateSpeak,
    v1.UpdateListen,
}
to_agent = st.one_of(*plain, *map(structs, others), st.builds(v1.Audio, st.binary()))


@given(to_agent)
def test_what_we_write_an_agent_reads(message: v1.ToAgent) -> None:
    assert v1.decode_as_agent(v1.encode(message)) == message


# --- The agent object ---------------------------------------------------------------------------


def test_the_settings_of_a_phone_call_are_mulaw_without_a_container() -> None:
    assert json.loads(
        v1.encode(deepgram_settings.phone_settings({"greeting": "Hi"}, {"tags": ["phone"]}))
    ) == {
        "type": "Settings",
        "audio": {
            "input": {"encoding": "mulaw", "sample_rate": 8000},
            "output": {"encoding": "mulaw", "sample_rate": 8000, "container": "none"},
        },
        "agent": {"greeting": "Hi"},
        "tags": ["phone"],
    }


def test_what_stands_beside_the_agent_is_sent_beside_it_new_fields_too() -> None:
    session = {"mip_opt_out": True, "flags": {"history": False, "new": 1}, "region": "eu"}
    sent = json.loads(v1.encode(deepgram_settings.phone_settings({"greeting": "Hi"}, session)))
    assert sent["agent"] == {"greeting": "Hi"}
    assert {name: sent[name] for name in session} == session
    assert "more" not in sent


def test_an_agent_is_read_as_far_as_it_is_known() -> None:
    agent, unknown = deepgram_settings.read_agent(
        {
            "greeting": "Hi",
            "mood": "good",
            "think": [THINK, THINK | {"functions": [{"name": "f", "colour": "red"}]}],
        }
    )
    assert unknown == ["mood", "think[1].functions[0].colour"]
    assert agent == deepgram_settings.Agent(
        greeting="Hi",
        think=[
            deepgram_settings.Think(THINK["provider"]),
            deepgram_settings.Think(THINK["provider"], functions=[deepgram_settings.Function("f")]),
        ],
    )


def test_an_agent_with_a_wrong_value_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"Expected .* at `\$\.think\.prompt`"):
        deepgram_settings.read_agent({"mood": 5, "think": THINK | {"prompt": 5}})


# --- going on with a conversation -----------------------------------------------------------------

AGENT = {"greeting": "Hello.", "think": {"prompt": "Sell cars."}}
SAID = [{"type": "History", "role": "user", "content": "A red one."}]


def test_an_agent_that_begins_is_left_as_it_is() -> None:
    assert deepgram_settings.resumed(AGENT, [], greets=True) is AGENT
    assert deepgram_settings.resumed("uuid", SAID, greets=False) == "uuid"


def test_an_agent_that_goes_on_knows_what_was_said_and_does_not_greet() -> None:
    assert deepgram_settings.resumed(AGENT, SAID, greets=False) == {
        "think": {"prompt": "Sell cars."},
        "context": {"messages": SAID},
    }
    assert AGENT["greeting"] == "Hello."


def test_an_agent_that_takes_over_knows_and_greets() -> None:
    taken = deepgram_settings.resumed(AGENT, SAID, greets=True)
    assert taken == {**AGENT, "context": {"messages": SAID}}


def test_an_agents_own_context_comes_first() -> None:
    own = {"type": "History", "role": "assistant", "content": "Welcome back."}
    agent = {"context": {"messages": [own], "more": 1}}
    assert deepgram_settings.resumed(agent, SAID, greets=False) == {
        "context": {"messages": [own, *SAID], "more": 1}
    }


FUNCTION = {"name": "get_order", "parameters": {"type": "object", "properties": {}}}
CALLED = {"type": "History", "function_calls": ({"id": "1", "name": "get_order"},)}


@pytest.mark.parametrize(
    ("think", "is_told"),
    [
        ({"functions": [FUNCTION]}, True),
        ([{"functions": [FUNCTION]}, {"functions": [FUNCTION]}], True),
        ([{"functions": [FUNCTION]}, {}], False),
        ({"functions": []}, False),
        ({"functions": None}, False),
        ({}, False),
        ([], False),
        (None, False),
    ],
)
def test_functions_that_were_called_are_told_to_an_agent_that_has_functions(
    think: Any, is_told: bool
) -> None:
    agent = {} if think is None else {"think": think}
    told = deepgram_settings.resumed(agent, [*SAID, CALLED], greets=False)
    assert isinstance(told, dict)
    assert told["context"]["messages"] == ([*SAID, CALLED] if is_told else SAID)


def test_nothing_said_makes_no_context() -> None:
    assert deepgram_settings.resumed({"greeting": "Hello."}, [], greets=False) == {}

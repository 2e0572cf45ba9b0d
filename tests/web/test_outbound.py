"""Calls asked for over HTTP, and what Twilio tells of them; transfers; and one whole story."""

import base64
import hashlib
import hmac
import json
import os
import urllib.request
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
import structlog
import trio
import trio.testing
from click.testing import CliRunner
from limits import HANG
from quart.wrappers import Response
from rig_rest import ACCOUNT, CALL, REFUSED, TOKEN, UNCERTAIN, Asked, FakeAccount, serving
from rig_server import answer_in

from sts_trio import cli
from sts_trio.call.info import CallInfo, announced
from sts_trio.config import load
from sts_trio.errors import Cause, DialRefused, Ending, TwilioFailed
from sts_trio.observe import events
from sts_trio.outbound.dialler import Dialler
from sts_trio.outbound.transfer import transfer_twiml
from sts_trio.server import Server
from sts_trio.simulate import media_stream
from sts_trio.simulate.report import Result
from sts_trio.testing import HangUp, WaitForSpeech, call, running, scripted_agent
from sts_trio.web.app import MAX_PER_WEBHOOK, App
from sts_trio.wire import webhook

BASE = "https://bridge.example.com"
ADMIN = "operators-own"
TO = "+15005550010"
ENVIRON = {
    "STS_AGENT": "offline",
    "TWILIO_ACCOUNT_SID": ACCOUNT,
    "TWILIO_AUTH_TOKEN": TOKEN,
    "STS_ADMIN_TOKEN": ADMIN,
    "STS_CALLER_ID": "+15005550006",
    "STS_PUBLIC_URL": BASE,
    "STS_DIAL_PREFIXES": "+1500",
    "STS_TRANSFER_NUMBERS": "+15005550020",
}
AGENTS = """
[agents.default.think]
provider = { type = "open_ai", model = "default" }
[agents.sales]
greeting = "Hello Ann, this is the sales department."
[agents.sales.think]
provider = { type = "open_ai", model = "sales" }
"""
BEARER = {"authorization": f"Bearer {ADMIN}"}
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
Clock = trio.testing.MockClock
DEEP = b'{"to": ' + b"[" * 10_000


def signed(url: str, fields: dict[str, str]) -> dict[str, str]:
    text = url + "".join(name + fields[name] for name in sorted(fields))
    digest = hmac.new(TOKEN.encode(), text.encode(), hashlib.sha1).digest()
    return {"x-twilio-signature": base64.b64encode(digest).decode()}


class Office:
    """An app whose account is a fake, and who asks it things."""

    def __init__(self, app: App, account: FakeAccount) -> None:
        self.app = app
        self.account = account

    async def request(
        self, path: str, data: bytes | str, headers: dict[str, str], client: str = "192.0.2.7"
    ) -> Response:
        response = await self.app.test_client().post(
            path, data=data, headers=headers, scope_base={"client": (client, 5)}
        )
        assert isinstance(response, Response)
        return response

    async def place(self, order: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and answer of POST /calls, as the operator."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = json.dumps({"to": TO} if order is None else order)
        response = await self.request("/calls", body, BEARER | JSON | named)
        return response.status_code, await response.get_json()

    async def tell(self, path: str, **fields: str) -> str:
        """What Twilio gets for a webhook that it has signed."""
        headers = FORM | signed(BASE + path, fields)
        response = await self.request(path, urlencode(fields), headers)
        assert response.status_code in (200, 204)
        return str(await response.get_data(as_text=True))


@asynccontextmanager
async def an_office(directory: Path, **environ: str) -> AsyncIterator[Office]:
    (directory / "sts-trio.toml").write_text(AGENTS)
    server = Server(load(ENVIRON | environ, directory))
    account = FakeAccount()
    server.dialler = Dialler(server.config, account, server.live_calls)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.dialler.run)
        yield Office(App(server), account)
        nursery.cancel_scope.cancel()


# --- POST /calls ----------------------------------------------------------------------------------


async def test_a_call_is_placed_and_its_sid_told(tmp_path: Path, autojump_clock: Clock) -> None:
    async with an_office(tmp_path) as office:
        order = {
            "to": TO,
            "agent": "sales",
            "parameters": {"name": "Ann"},
            "on_machine": "leave_message",
            "message": "Bye.",
        }
        status, answer = await office.place(order)
        assert (status, answer) == (201, {"call_sid": FakeAccount.sid(1), "status": "queued"})
        assert office.account.created[0][1]["to"] == TO


async def test_what_is_null_is_not_given(tmp_path: Path, autojump_clock: Clock) -> None:
    async with an_office(tmp_path) as office:
        nothing = dict.fromkeys(["agent", "parameters", "on_machine", "message"])
        assert (await office.place({"to": TO, **nothing}))[0] == 201


@pytest.mark.parametrize(
    ("client", "headers", "environ", "status"),
    [
        ("192.0.2.7", {}, {}, 401),
        ("127.0.0.1", {}, {}, 401),
        ("127.0.0.1", {}, {"STS_ALLOW_UNSIGNED": "1"}, 401),
        ("127.0.0.1", {}, {"STS_ADMIN_TOKEN": ""}, 403),
        ("127.0.0.1", {"authorization": "Bearer wrong"}, {}, 401),
        ("192.0.2.7", BEARER | {"origin": "https://evil.example"}, {}, 403),
        ("192.0.2.7", BEARER | {"origin": "null"}, {}, 403),
    ],
)
async def test_only_the_operator_places_calls(
    tmp_path: Path,
    client: str,
    headers: dict[str, str],
    environ: dict[str, str],
    status: int,
    autojump_clock: Clock,
) -> None:
    async with an_office(tmp_path, **environ) as office:
        body = json.dumps({"to": TO})
        response = await office.request("/calls", body, JSON | headers, client)
        assert response.status_code == status
        assert office.account.created == []


@pytest.mark.parametrize("origin", [{}, {"origin": BASE}])
@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
async def test_what_a_foreign_page_could_have_a_browser_send_places_no_call(
    tmp_path: Path, kind: str, origin: dict[str, str], autojump_clock: Clock
) -> None:
    """A form can be sent by any page, with the operator's password; JSON has to be asked for."""
    password = base64.b64encode(f"x:{ADMIN}".encode()).decode()
    async with an_office(tmp_path) as office:
        headers = {"authorization": f"Basic {password}"} | origin
        body = json.dumps({"to": TO})
        typed = headers | ({"content-type": kind} if kind else {})
        with structlog.testing.capture_logs() as logs:
            response = await office.request("/calls", body, typed)
        assert response.status_code == 415
        assert [line["event"] for line in logs] == [events.DialRefused.NAME]
        assert office.account.created == []
        charset = {"content-type": "application/json; charset=utf-8"}
        assert (await office.request("/calls", body, headers | charset)).status_code == 201


async def test_no_page_is_told_that_it_may_ask(tmp_path: Path, autojump_clock: Clock) -> None:
    async with an_office(tmp_path) as office:
        response = await office.app.test_client().options(
            "/calls", headers={"origin": "https://evil.example"}
        )
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("order", "fields"),
    [
        ({}, {"to": "expected a number like +15005550006, got nothing"}),
        ({"to": 15}, {"to": "expected a number like +15005550006, got 15"}),
        ({"to": "15"}, {"to": "expected a number like +15005550006, got '15'"}),
        (
            {"to": TO, "agent": 1, "parameters": [], "on_machine": "wait", "message": {}},
            {
                "agent": "expected the name of an agent, got 1",
                "parameters": "expected an object of strings, got a list",
                "on_machine": "expected hang_up or leave_message, got 'wait'",
                "message": "expected a text, got a table",
            },
        ),
        ({"to": TO, "parameters": {"a": 1}}, {"parameters": "expected an object of strings"}),
        ({"to": TO, "agent": "nobody"}, {"agent": "expected one of default, sales, got 'nobody'"}),
        ({"to": TO, "form": "x"}, {"form": "unknown field; known are to, agent"}),
    ],
)
async def test_what_is_wrong_with_a_request_is_told_field_by_field(
    tmp_path: Path, order: Any, fields: dict[str, str], autojump_clock: Clock
) -> None:
    async with an_office(tmp_path) as office:
        with structlog.testing.capture_logs() as logs:
            status, answer = await office.place(order)
        assert (status, answer["why"]) == (400, "invalid")
        assert list(answer["fields"]) == list(fields)
        for name, reason in fields.items():
            assert answer["fields"][name].startswith(reason)
            assert f"{name}: {reason}" in answer["error"]
        assert [line["event"] for line in logs] == [events.DialRefused.NAME]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'"x"', b'{"to": "\\ud800"}', b'{"to": "\xff"}', DEEP]
)
async def test_what_is_no_object_is_told(
    tmp_path: Path, body: bytes, autojump_clock: Clock
) -> None:
    async with an_office(tmp_path) as office:
        response = await office.request("/calls", body, BEARER | JSON)
        assert response.status_code == 400
        assert "expected a JSON object" in (await response.get_json())["fields"]["body"]


NINES = b"9" * 60_000
PARAMETERS = b'{"to": "+15005550010", "parameters": %s}'
# All under 64 KiB, which is the most that is read.
BOMBS = {
    "deep list": b'{"to": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "deep as the decoder lets": b'{"x": ' + b"[" * 900 + b"]" * 900 + b"}",
    "deep objects": PARAMETERS % (b'{"a":' * 9_000 + b"1" + b"}" * 9_000),
    "endless list": b'{"to": ' + b"[" * 60_000,
    "long whole number": b'{"to": %s}' % NINES,
    "long whole number that nobody asked for": b'{"x": %s}' % NINES,
    "number over 64 bits": b'{"to": 99999999999999999999}',
    "long fraction": b'{"to": 0.%s}' % NINES,
    "huge exponent": b'{"to": 1e999}',
    "huge exponent within": PARAMETERS % b'{"a": -1e99999}',
    "not a number": b'{"to": NaN}',
    "infinity": b'{"to": -Infinity}',
    "many names": b"{" + b",".join(b'"%x":0' % n for n in range(7_000)) + b"}",
    "many parameters": PARAMETERS % (b"{" + b",".join(b'"%x":1' % n for n in range(6_000)) + b"}"),
    "long name": b'{"' + b"k" * 60_000 + b'": 1}',
    "long names": b'{"' + b'": 1, "'.join(b"%d" % n * 6_000 for n in range(9)) + b'": 1}',
    "long parameter": PARAMETERS % b'{"a": "%s"}' % (b"x" * 60_000),
    "long agent": b'{"to": "+15005550010", "agent": "%s"}' % (b"x" * 60_000),
    "name twice": b'{"to": "+15005550010", "to": "+15005550011"}',
    "name twice, written otherwise": b'{"to": "+15005550010", "\\u0074o": "+15005550011"}',
    "parameter twice": PARAMETERS % b'{"a": "1", "b": "", "a": "2"}',
    "one name often": b"{" + b'"to":1,' * 9_000 + b'"to":1}',
    "lone surrogate": b'{"to": "\\ud800"}',
    "lone surrogate in a name": b'{"\\udfff": 1}',
    "lone surrogate in a parameter": PARAMETERS % b'{"a": "\\ud800"}',
    "surrogate in UTF-8": b'{"to": "\xed\xa0\x80"}',
    "control characters": b'{"\\u001b]0;x\\u0007": "\\u001b[2J"}',
    "zero": b'{"to": "\\u0000"}',
    "UTF-16": '{"to": "+15005550010"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"to": "+15005550010"}',
    "two objects": b'{"to": "+15005550010"} {"to": "+15005550010"}',
    "wrong types": b'{"to": {}, "agent": [], "parameters": 1, "on_machine": 1.5, "message": true}',
}


@pytest.mark.parametrize("name", BOMBS)
async def test_whatever_json_is_given_is_refused_in_few_words(
    tmp_path: Path, name: str, autojump_clock: Clock
) -> None:
    assert len(BOMBS[name]) < MAX_PER_WEBHOOK
    async with an_office(tmp_path) as office:
        with structlog.testing.capture_logs() as logs:
            response = await office.request("/calls", BOMBS[name], BEARER | JSON)
        body = await response.get_data()
        answer = json.loads(body)
        assert (response.status_code, answer["why"]) == (400, "invalid")
        assert answer["fields"]
        assert len(body) < 4000
        assert office.account.created == []
        [line] = logs
        assert (line["event"], line["log_level"]) == (events.DialRefused.NAME, "warning")
        assert len(line["reason"]) < 2000
        assert line["reason"].isprintable()


@pytest.mark.parametrize(
    "body", [b'{"to": "%s"}' % (b"x" * MAX_PER_WEBHOOK), b"[" * (MAX_PER_WEBHOOK + 1)]
)
async def test_more_json_than_can_be_meant_is_not_read(
    tmp_path: Path, body: bytes, autojump_clock: Clock
) -> None:
    async with an_office(tmp_path) as office:
        assert (await office.request("/calls", body, BEARER | JSON)).status_code == 413


async def test_each_refusal_has_its_status(tmp_path: Path, autojump_clock: Clock) -> None:
    async with an_office(tmp_path, STS_DIAL_PER_DAY="1") as office:
        assert (await office.place({"to": "+4420"}))[0] == 403
        first = await office.place(idempotency_key="k")
        assert await office.place(idempotency_key="k") == first
        assert (await office.place({"to": "+15005550011"}, idempotency_key="k"))[0] == 409
        response = await office.request("/calls", json.dumps({"to": TO}), BEARER | JSON)
        assert response.status_code == 429
        assert 0 < int(response.headers["retry-after"]) <= 24 * 3600
        assert (await response.get_json())["why"] == "budget"
        office.app.live_calls.drain()
        assert (await office.place())[0] == 503


async def test_what_is_not_configured_is_told(tmp_path: Path, autojump_clock: Clock) -> None:
    async with an_office(tmp_path, STS_CALLER_ID="") as office:
        status, answer = await office.place()
        assert (status, answer["error"]) == (503, "no call can be placed: set STS_CALLER_ID")


@pytest.mark.parametrize(
    ("failure", "twilio", "uncertain"),
    [
        (REFUSED, {"status": 400, "code": 21211, "message": "not a valid number"}, False),
        (UNCERTAIN, {"status": 0, "code": None, "message": "no answer"}, True),
    ],
)
async def test_twilios_refusal_is_told_in_its_own_words(
    tmp_path: Path,
    failure: TwilioFailed,
    twilio: dict[str, Any],
    uncertain: bool,
    autojump_clock: Clock,
) -> None:
    async with an_office(tmp_path) as office:
        office.account.failures.append(failure)
        status, answer = await office.place()
        assert (status, answer["twilio"], answer["uncertain"]) == (502, twilio, uncertain)
        assert answer["error"] == str(failure)


# --- Twilio asks and tells ------------------------------------------------------------------------


async def test_twilio_is_told_who_talks_even_before_it_has_told_the_sid(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with an_office(tmp_path) as office, trio.open_nursery() as nursery:
        office.account.open = trio.Event()
        order = {"to": TO, "agent": "sales", "parameters": {"name": "Ann & Bob"}}
        nursery.start_soon(office.place, order)
        await trio.testing.wait_all_tasks_blocked()
        path = office.account.created[0][1]["url"].removeprefix(BASE)
        twiml = await office.tell(
            path, CallSid=CALL, To=TO, Direction="outbound-api", CallStatus="in-progress"
        )
        answer = answer_in(twiml)
        assert answer.parameters == {
            "webhook": "1",
            "to": TO,
            "name": "Ann & Bob",
            "direction": "outbound-api",
            "chosen_agent": "sales",
        }
        assert answer.url.startswith("wss://bridge.example.com/twilio/")
        office.account.open.set()


async def test_a_call_to_us_says_that_it_came_by_our_webhook(tmp_path: Path) -> None:
    async with an_office(tmp_path) as office:
        twiml = await office.tell("/twiml", CallSid=CALL, To="+15005550006")
        assert answer_in(twiml).parameters == {
            "webhook": "1",
            "to": "+15005550006",
            "chosen_agent": "default",
        }


async def test_a_status_is_logged_and_the_last_one_frees_the_memory(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with an_office(tmp_path) as office:
        await office.place()
        path = office.account.created[0][1]["status_callback"].removeprefix(BASE)
        sid = FakeAccount.sid(1)
        with structlog.testing.capture_logs() as logs:
            assert await office.tell(path, CallSid=sid, CallStatus="ringing") == ""
            assert office.app.server.dialler.placed.request_of(sid) is not None
            await office.tell(path, CallSid=sid, CallStatus="no-answer", SipResponseCode="487")
        assert office.app.server.dialler.placed.request_of(sid) is None
        assert [line["event"] for line in logs] == [events.CallStatus.NAME] * 2
        assert logs[1]["sip_response_code"] == "487"


async def test_a_machine_is_left_the_message(tmp_path: Path, autojump_clock: Clock) -> None:
    async with an_office(tmp_path) as office:
        await office.place({"to": TO, "on_machine": "leave_message", "message": "Call back."})
        path = office.account.created[0][1]["amd_callback"].removeprefix(BASE)
        await office.tell(path, CallSid=FakeAccount.sid(1), AnsweredBy="machine_end_beep")
        await trio.testing.wait_all_tasks_blocked()
        [(sid, twiml)] = office.account.redirected
        assert (sid, "<Say>Call back.</Say>" in twiml) == (FakeAccount.sid(1), True)


@pytest.mark.parametrize("path", ["/twiml/status", "/twiml/amd"])
async def test_nobody_but_twilio_tells_of_calls(
    tmp_path: Path, path: str, autojump_clock: Clock
) -> None:
    async with an_office(tmp_path) as office:
        fields = {"CallSid": CALL, "CallStatus": "completed", "AnsweredBy": "fax"}
        for headers in ({}, BEARER, signed(f"{BASE}/twiml", fields)):
            response = await office.request(path, urlencode(fields), FORM | headers)
            assert response.status_code == 403
        await trio.testing.wait_all_tasks_blocked()
        assert office.account.hung_up == []
        assert office.app.live_calls.event_feed.count == 0


# --- transfers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("direction", "caller_id"),
    [("inbound", None), ("outbound-api", "+15005550006")],
)
async def test_a_transferred_caller_is_connected_by_the_next_twiml(
    tmp_path: Path, direction: str, caller_id: str | None
) -> None:
    async with an_office(tmp_path) as office:
        office.app.live_calls.remember(CALL, Ending(Cause.TRANSFERRED, "+15005550020"))
        asked = {"CallSid": CALL, "Direction": direction}
        twiml = await office.tell("/twiml/after", **asked, CallStatus="in-progress")
        assert twiml == webhook.dial("+15005550020", caller_id, f"{BASE}/twiml/after")
        gone = await office.tell("/twiml/after", **asked, CallStatus="completed")
        assert gone == webhook.hang_up()


@pytest.mark.parametrize(
    ("dial_status", "call_status", "twiml"),
    [
        ("completed", "in-progress", webhook.hang_up()),
        ("answered", "in-progress", webhook.hang_up()),
        ("no-answer", "in-progress", webhook.not_taken()),
        ("busy", "in-progress", webhook.not_taken()),
        ("no-answer", "completed", webhook.hang_up()),
    ],
)
async def test_after_a_transfer_the_caller_is_not_transferred_again(
    tmp_path: Path, dial_status: str, call_status: str, twiml: str
) -> None:
    async with an_office(tmp_path) as office:
        office.app.live_calls.remember(CALL, Ending(Cause.TRANSFERRED, "+15005550020"))
        fields = {"CallSid": CALL, "CallStatus": call_status, "DialCallStatus": dial_status}
        with structlog.testing.capture_logs() as logs:
            assert await office.tell("/twiml/after", **fields) == twiml
            assert await office.tell("/twiml/after", **fields) == twiml, "it may ask again"
    [line] = logs
    assert (line["event"], line["status"]) == (
        events.CallTransferEnded.NAME,
        dial_status,
    )
    [told] = office.app.live_calls.event_feed.entries_beyond(0)[1]
    assert told.event == events.CallTransferEnded(dial_status)


async def test_a_number_that_is_not_on_the_list_is_not_dialled(tmp_path: Path) -> None:
    async with an_office(tmp_path) as office:
        office.app.live_calls.remember(CALL, Ending(Cause.TRANSFERRED, "+19005550020"))
        with structlog.testing.capture_logs() as logs:
            twiml = await office.tell("/twiml/after", CallSid=CALL, CallStatus="in-progress")
        assert twiml == webhook.not_taken()
        assert [line["event"] for line in logs] == [events.CallNotTransferred.NAME]
        assert "STS_TRANSFER_NUMBERS" in logs[0]["reason"]


SIP = "sip:ann@example.com"
OURS, THEIRS = "+15005550006", "+15005550001"


@pytest.mark.parametrize(
    ("direction", "from_", "to", "configured", "shown"),
    [
        ("inbound", THEIRS, OURS, "+15005550007", None),
        ("", THEIRS, OURS, "", None),
        # A TwiML Bin need not say who calls.
        ("inbound", "", "", "+15005550007", None),
        # Twilio dials nobody for who has no number, unless it is given one.
        ("inbound", "client:ann", "", "+15005550007", "+15005550007"),
        ("inbound", SIP, SIP, "+15005550007", "+15005550007"),
        ("inbound", f"sip:{THEIRS}@example.com", OURS, "", OURS),
        ("inbound", f"whatsapp:{THEIRS}", f"whatsapp:{OURS}", "+15005550007", "+15005550007"),
        # And some providers take no call from who hides it.
        ("inbound", "anonymous", OURS, "", OURS),
        ("inbound", "+266696687", OURS, "+15005550007", "+15005550007"),
        ("inbound", "Restricted", SIP, "", None),
        ("outbound-api", OURS, THEIRS, "+15005550007", "+15005550007"),
        ("outbound-api", OURS, THEIRS, "", OURS),
        ("outbound-dial", OURS, THEIRS, "", OURS),
    ],
)
def test_the_called_one_sees_who_calls_or_a_number_of_ours(
    tmp_path: Path, direction: str, from_: str, to: str, configured: str, shown: str | None
) -> None:
    config = load(ENVIRON | {"STS_CALLER_ID": configured}, tmp_path)
    info = announced(webhook.VoiceRequest(CALL, direction=direction, from_=from_, to=to))
    twiml = transfer_twiml(config, "+15005550020", info, BASE)
    assert twiml == webhook.dial("+15005550020", shown, f"{BASE}/twiml/after")


@pytest.mark.parametrize("from_", ["client:ann", SIP, f"whatsapp:{THEIRS}"])
def test_who_has_no_number_is_not_transferred_without_one_of_ours(
    tmp_path: Path, from_: str
) -> None:
    config = load(ENVIRON | {"STS_CALLER_ID": ""}, tmp_path)
    with pytest.raises(DialRefused, match="set STS_CALLER_ID"):
        transfer_twiml(config, "+15005550020", CallInfo(from_=from_, to=SIP), BASE)


def test_a_number_off_the_list_is_dialled_for_nobody(tmp_path: Path) -> None:
    config = load(ENVIRON, tmp_path)
    with pytest.raises(DialRefused, match="STS_TRANSFER_NUMBERS"):
        transfer_twiml(config, "+19005550020", CallInfo(from_=THEIRS), BASE)
    assert transfer_twiml(config, "+15005550020", CallInfo(), None) == webhook.dial("+15005550020")


# --- one whole story ------------------------------------------------------------------------------


async def test_somebody_is_dialled_and_talks_with_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sts-trio dial`, the server, Twilio's API and its webhooks, and the called one: on sockets.

    Twilio is quick here: it rings, is answered and asks for TwiML before it has told the SID.
    """
    for variable in os.environ:
        if variable.startswith(("DEEPGRAM_", "STS_", "TWILIO_")):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("STS_ADMIN_TOKEN", ADMIN)
    # The simulated phone's SIDs are to be those that the API has told.
    same = SimpleNamespace(uuid4=lambda: uuid.UUID(CALL.removeprefix("CA")))
    monkeypatch.setattr(media_stream, "uuid", same)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sts-trio.toml").write_text(AGENTS)
    answered = trio.Event()
    trio_token = trio.lowlevel.current_trio_token()
    documents: list[str] = []
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def webhook_of(url: str, **fields: str) -> str:
        """As Twilio: signed for the public address, though it is the loopback that is asked."""
        request = urllib.request.Request(
            url.replace(BASE, server.base),
            urlencode(fields).encode(),
            signed(url, fields) | FORM,
        )
        with direct.open(request, timeout=HANG) as response:
            return str(response.read().decode())

    def pick_up(asked: Asked) -> None:
        form = {name: values[0] for name, values in asked.form.items()}
        said = {"CallSid": CALL, "To": form["To"], "Direction": "outbound-api"}
        webhook_of(form["StatusCallback"], **said, CallStatus="ringing")
        webhook_of(form["StatusCallback"], **said, CallStatus="in-progress")
        documents.append(webhook_of(form["Url"], **said, CallStatus="in-progress"))
        trio.from_thread.run_sync(answered.set, trio_token=trio_token)

    def dial(base: str) -> Any:
        return CliRunner().invoke(
            cli.main, ["dial", TO, "--agent", "sales", "--parameter", "name=Ann", "--url", base]
        )

    async with scripted_agent() as agent:
        with serving() as api:
            api.placed = pick_up
            environ = {"STS_CONFIG": str(tmp_path / "sts-trio.toml"), "STS_LOG_LEVEL": "error"}
            async with running(ENVIRON | environ, agent=agent) as server:
                server.app.server.twilio.api = api.url
                results: list[Any] = []
                with trio.fail_after(HANG):
                    async with trio.open_nursery() as nursery:

                        async def follow() -> None:
                            dialled = await trio.to_thread.run_sync(dial, server.base)
                            results.append(dialled)

                        nursery.start_soon(follow)
                        await answered.wait()
                        answer = answer_in(documents[0])
                        report = await call(
                            server.url.removesuffix("/twilio") + answer.path,
                            [WaitForSpeech(0.3), HangUp()],
                            parameters=answer.parameters,
                            headers={webhook.SIGNATURE_HEADER: webhook.sign(TOKEN, answer.url)},
                        )
    assert report.result is Result.PROPER, report.fault
    [result] = results
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"Call {CALL}"
    assert lines[1:-1] == [
        "Ringing ...",
        "Answered.",
        "agent: Hello Ann, this is the sales department.",
    ]
    assert lines[-1].startswith("Ended after ")
    assert lines[-1].endswith(" s: stop")

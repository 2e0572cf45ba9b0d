"""The voice webhooks, on Quart's test client: who is let in, and what TwiML they get."""

import contextlib
from pathlib import Path
from urllib.parse import urlencode

import pytest
import structlog
import trio
from rig_app import TOKEN, body_of, client_of, key, make_app, post, sign
from rig_peers import FakeAgent, FakeTwilio, make_call
from rig_server import answer_in
from werkzeug.datastructures import Headers

from sts_trio.call.info import CallInfo, streamed
from sts_trio.config import load
from sts_trio.errors import Cause, Ending
from sts_trio.observe import events
from sts_trio.web.app import create_app
from sts_trio.wire import webhook
from sts_trio.wire.twilio import StreamStart

SIGNED = {
    "TWILIO_AUTH_TOKEN": f"other,{TOKEN}",
    "STS_AGENT": "offline",
    "STS_PUBLIC_URL": "https://bridge.example.com",
}
CALL = {"CallSid": "CA1", "To": "+15005550006", "CallStatus": "ringing", "ToCity": ""}


async def test_the_voice_webhook_connects_the_call_to_the_media_socket(tmp_path: Path) -> None:
    response = await post(make_app(tmp_path), "/twiml", CALL)
    assert response.status_code == 200
    assert response.content_type == "text/xml"
    twiml = await body_of(response)
    token = answer_in(twiml).token
    assert twiml == (
        '<?xml version="1.0" encoding="UTF-8"?><Response>'
        '<Connect action="http://localhost/twiml/after" method="POST">'
        f'<Stream url="ws://localhost/twilio/{token}"><Parameter name="to" value="+15005550006" />'
        '<Parameter name="chosen_agent" value="default" /><Parameter name="webhook" value="1" />'
        '</Stream></Connect><Redirect method="POST">http://localhost/twiml/after</Redirect>'
        "</Response>"
    )


async def test_a_notice_is_said_first(tmp_path: Path) -> None:
    app = make_app(tmp_path, STS_SAY_NOTICE="Calls are recorded & kept.")
    assert "<Say>Calls are recorded &amp; kept.</Say><Connect" in await body_of(
        await post(app, "/twiml", CALL)
    )


async def test_the_webhook_may_be_a_get(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    response = await client_of(app).get(
        f"/twiml?{urlencode(CALL | {'key': app.server.key or ''})}",
        scope_base={"client": ("127.0.0.1", 5)},
    )
    assert 'value="+15005550006"' in await response.get_data(as_text=True)


async def test_a_signed_webhook_is_let_in_and_told_the_public_address(tmp_path: Path) -> None:
    app = make_app(tmp_path, **SIGNED)
    signature = sign("https://bridge.example.com/twiml", CALL)
    response = await post(app, "/twiml", CALL, {"x-twilio-signature": signature})
    assert response.status_code == 200
    url = answer_in(await body_of(response)).url
    assert url.startswith("wss://bridge.example.com/twilio/")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("x-forwarded-proto", "http")],
        [("x-forwarded-host", "internal.lan"), ("x-forwarded-proto", "https")],
        [("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")],
    ],
    ids=["a tunnel that says nothing", "one that lies", "an inner proxy", "two proxies"],
)
async def test_twilio_is_led_to_the_address_that_it_has_signed(
    tmp_path: Path, headers: list[tuple[str, str]]
) -> None:
    app = make_app(tmp_path, **{**SIGNED, "STS_PUBLIC_URL": ""})
    told = Headers(headers)
    told["host"] = "bot.example.com"
    told["x-twilio-signature"] = sign("https://bot.example.com/twiml", CALL)
    told["content-type"] = "application/x-www-form-urlencoded"
    response = await client_of(app).post("/twiml", data=urlencode(CALL), headers=told)
    body = await response.get_data(as_text=True)
    assert answer_in(body).url.startswith("wss://bot.example.com/twilio/")
    assert 'action="https://bot.example.com/twiml/after"' in body


@pytest.mark.parametrize("public_url", ["https://bridge.example.com", ""])
async def test_a_host_that_was_typed_in_capitals_is_signed_in_capitals(
    tmp_path: Path, public_url: str
) -> None:
    app = make_app(tmp_path, **{**SIGNED, "STS_PUBLIC_URL": public_url})
    for signed, host in (
        ("https://Bridge.Example.com", "Bridge.Example.com"),
        ("https://bridge.example.com", "Bridge.Example.com"),
    ):
        signature = sign(f"{signed}/twiml", CALL)
        response = await post(app, "/twiml", CALL, {"x-twilio-signature": signature, "host": host})
        assert response.status_code == 200
        url = answer_in(await body_of(response)).url
        assert url.startswith(f"{signed.replace('https', 'wss')}/twilio/")


async def test_a_forwarded_header_tells_the_address_that_twilio_has_signed(tmp_path: Path) -> None:
    app = make_app(tmp_path, **{**SIGNED, "STS_PUBLIC_URL": ""})
    headers = {
        "x-twilio-signature": sign("https://bot.example.com/twiml", CALL),
        "forwarded": 'for="[2001:db8::1]";host=bot.example.com;proto=https, for=10.0.0.1',
        "host": "10.0.0.2:5000",
    }
    body = await body_of(await post(app, "/twiml", CALL, headers))
    assert answer_in(body).url.startswith("wss://bot.example.com/twilio/")


@pytest.mark.parametrize(
    ("public_url", "strips"),
    [
        ("https://bridge.example.com", False),
        ("https://bridge.example.com/voice", False),
        ("https://bridge.example.com/voice", True),
        ("", False),
        ("", True),
    ],
)
async def test_a_prefix_is_part_of_all_addresses_that_twilio_is_given(
    tmp_path: Path, public_url: str, strips: bool
) -> None:
    """One that the server is mounted at, or one that a proxy takes off and tells of. What is
    configured is believed, and not what a header says."""
    app = make_app(tmp_path, **{**SIGNED, "STS_PUBLIC_URL": public_url})
    told = {"x-forwarded-prefix": "/voice"} if strips else {}
    response = await client_of(app).post(
        "/twiml" if strips else "/voice/twiml",
        data=urlencode(CALL),
        headers={
            "content-type": "application/x-www-form-urlencoded",
            "x-twilio-signature": sign("https://bridge.example.com/voice/twiml", CALL),
            "host": "bridge.example.com",
            **told,
        },
        scope_base={"root_path": "" if strips else "/voice"},
    )
    body = await response.get_data(as_text=True)
    assert answer_in(body).url.startswith("wss://bridge.example.com/voice/twilio/")
    assert 'action="https://bridge.example.com/voice/twiml/after"' in body


async def test_what_the_call_brings_along_is_there_when_its_agent_is_chosen_and_later(
    tmp_path: Path,
) -> None:
    seen: list[CallInfo] = []

    async def choose_agent(call: CallInfo) -> str:
        seen.append(call)
        return ""

    app = create_app(load({}, tmp_path), choose_agent=choose_agent)
    fields = {
        "From": "sip:ann@example.com",
        "SipHeader_X-Account": "42",
        "CallerName": "ANN",
        "ForwardedFrom": "+15005550003",
    }
    given = answer_in(await body_of(await post(app, "/twiml", CALL | fields))).parameters
    start = StreamStart("MZ1", "CA1", custom_parameters=given)
    for info in (*seen, streamed(start)):
        assert info.caller_parameters == {"SipHeader_X-Account": "42"}
        assert (info.caller_name, info.forwarded_from) == ("ANN", "+15005550003")
    assert len(seen) == 1


async def test_the_key_of_a_run_is_no_parameter_of_an_app(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    fields = CALL | {"From": "client:ann", "customer": "42", "key": app.server.key or ""}
    response = await client_of(app).get(
        f"/twiml?{urlencode(fields)}", scope_base={"client": ("127.0.0.1", 5)}
    )
    body = await response.get_data(as_text=True)
    assert answer_in(body).parameters["caller:customer"] == "42"
    assert (app.server.key or "no key") not in body


@pytest.mark.parametrize("headers", [{}, {"x-twilio-signature": "bm90IGl0"}])
async def test_an_unsigned_or_wrongly_signed_webhook_is_refused(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    app = make_app(tmp_path, **SIGNED)
    with structlog.testing.capture_logs() as logs:
        response = await post(app, "/twiml", CALL, headers)
    assert response.status_code == 403
    assert [line["event"] for line in logs] == [events.RequestRefused.NAME]
    assert TOKEN not in str(logs)


@pytest.mark.parametrize(
    ("client", "headers", "reason"),
    [
        ("192.0.2.7", {}, "192.0.2.7 is not on this machine"),
        ("", {}, "the client is not on this machine"),
        ("127.0.0.1", {"x-forwarded-for": "192.0.2.7"}, "forwarded by a proxy"),
        ("127.0.0.1", {"forwarded": "for=192.0.2.7"}, "forwarded by a proxy"),
        ("127.0.0.1", {"host": "rebound.example"}, "asked for as rebound.example"),
        ("127.0.0.1", {"origin": "https://evil.example"}, "asked for by a page of"),
        ("127.0.0.1", {"authorization": ""}, "no key"),
        ("127.0.0.1", {"authorization": "Bearer guessed"}, "wrong key"),
    ],
)
async def test_without_a_token_only_this_machine_is_let_in(
    tmp_path: Path, client: str, headers: dict[str, str], reason: str
) -> None:
    app = make_app(tmp_path)
    with structlog.testing.capture_logs() as logs:
        response = await client_of(app).post(
            "/twiml",
            headers=key(app) | headers,
            scope_base={"client": (client, 5) if client else None},
        )
    assert response.status_code == 403
    assert logs[0]["reason"].startswith(reason)
    assert "TWILIO_AUTH_TOKEN" in logs[0]["reason"]


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
async def test_every_loopback_address_is_this_machine(tmp_path: Path, client: str) -> None:
    app = make_app(tmp_path)
    response = await client_of(app).post(
        "/twiml", headers=key(app), scope_base={"client": (client, 5)}
    )
    assert response.status_code == 200


async def test_anyone_is_let_in_where_the_operator_says_so(tmp_path: Path) -> None:
    app = make_app(tmp_path, STS_ALLOW_UNSIGNED="1")
    response = await client_of(app).post("/twiml", scope_base={"client": ("192.0.2.7", 5)})
    assert response.status_code == 200


async def test_a_full_or_draining_server_says_busy(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    app.live_calls.drain()
    assert '<Reject reason="busy" />' in await body_of(await post(app, "/twiml", CALL))
    answered = CALL | {"CallStatus": "in-progress"}
    assert "<Say>" in await body_of(await post(app, "/twiml", answered))
    ready = await client_of(app).get("/readyz")
    assert (ready.status_code, (await ready.get_json())["status"]) == (503, "draining")


async def test_a_call_that_comes_to_one_who_has_an_heir_is_sent_to_the_heir(tmp_path: Path) -> None:
    """It has come on a connection from before. By another one it comes to the heir."""
    app = make_app(tmp_path, STS_PUBLIC_URL="https://phone.example.com/pre")
    app.live_calls.drain(lambda call_sid, ending: None)
    url = "https://phone.example.com/pre/twiml?token=AB%20C"
    answer = await body_of(await post(app, "/twiml?token=AB%20C", CALL))
    assert answer.endswith(f'<Response><Redirect method="POST">{url}</Redirect></Response>')
    ready = await client_of(app).get("/readyz")
    assert (ready.status_code, (await ready.get_json())["status"]) == (200, "draining")


@pytest.mark.parametrize(
    ("cause", "apologises"),
    [
        # Somebody said goodbye, and it was heard.
        (Cause.HUNG_UP, False),
        (Cause.AGENT_FINISHED, False),
        (Cause.SILENCE, False),
        (Cause.TIME_UP, False),
        # A proxy has cut the socket, by whatever code; or the caller went, and is gone anyway.
        (Cause.CALLER_CLOSED, True),
        (Cause.CALLER_LOST, True),
        (Cause.CALLER_SILENT, True),
        (Cause.CALLER_STALLED, True),
        (Cause.CALLER_NO_MEDIA, True),
        (Cause.CALLER_REFUSED, True),
        (Cause.STOP, True),
        (Cause.SHUTDOWN, True),
        (Cause.CUT_OFF, True),
        (Cause.AGENT_LOST, True),
        (Cause.AGENT_DENIED, True),
        (Cause.CRASHED, True),
        # By another process, which may be gone, or never: its stream was not let in.
        (None, True),
    ],
)
async def test_what_comes_after_the_stream_depends_on_how_it_ended(
    tmp_path: Path, cause: Cause | None, apologises: bool
) -> None:
    app = make_app(tmp_path)
    if cause is not None:
        app.live_calls.remember("CA1", Ending(cause))
    twiml = await body_of(await post(app, "/twiml/after", CALL | {"CallStatus": "in-progress"}))
    assert ("<Say>Sorry" in twiml) is apologises
    assert twiml.endswith("<Hangup /></Response>")
    over = await body_of(await post(app, "/twiml/after", CALL | {"CallStatus": "completed"}))
    assert "<Say>" not in over


async def test_a_call_that_is_broken_off_is_a_line_in_the_log(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    app.live_calls.remember("CA1", Ending(Cause.CALLER_LOST))
    with structlog.testing.capture_logs() as logs:
        await post(app, "/twiml/after", CALL | {"CallStatus": "in-progress"})
        await post(app, "/twiml/after", CALL | {"CallStatus": "completed"})
    lines = [(line["event"], line["ending"], line["words"]) for line in logs]
    assert lines == [(events.CallBrokenOff.NAME, "caller_lost", "apology")]


@pytest.mark.parametrize("is_full", [True, False], ids=["full", "draining"])
async def test_who_was_let_in_by_the_webhook_and_not_by_the_socket_hears_that_all_lines_are_busy(
    tmp_path: Path, is_full: bool
) -> None:
    """The stream got 503: by then the line was taken, or the server on its way out."""
    app = make_app(tmp_path, STS_MAX_CALLS="1")
    async with trio.open_nursery() as nursery, contextlib.AsyncExitStack() as stack:
        if is_full:
            somebody = make_call(nursery, FakeTwilio(), FakeAgent())
            stack.enter_context(app.live_calls.admit(somebody))
        else:
            app.live_calls.drain()
        twiml = await body_of(await post(app, "/twiml/after", CALL | {"CallStatus": "in-progress"}))
    assert twiml == webhook.busy(answered=True)

"""A simulated call by the webhook: what it asks as Twilio, and what it makes of any answer."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from limits import HANG
from rig_hypercorn import hypercorn
from rig_server import knock

from sts_trio.observe import events
from sts_trio.simulate import webhook
from sts_trio.simulate.caller import place_call
from sts_trio.simulate.connect import NotConnected
from sts_trio.simulate.report import Result
from sts_trio.simulate.script import HangUp, WaitForSpeech
from sts_trio.simulate.webhook import ANSWER_TIMEOUT, MAX_TWIML, NotStreamed, Streamed, read_twiml
from sts_trio.testing import call, running, scripted_agent
from sts_trio.wire.webhook import busy, connect_stream, hang_up, sign

BRIEFLY: list[WaitForSpeech | HangUp] = [WaitForSpeech(0.1), HangUp()]
SIDS = ("CA00000000000000000000000000000002", "AC00000000000000000000000000000001")
WSS = "wss://bridge.test/twilio/t0ken"
TWIML = connect_stream(WSS, "https://bridge.test/twiml/after", parameters={"to": "+1", "n": "<&>"})


# --- with a bridge of ours ------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["1", "0"])
@pytest.mark.parametrize("bins", ["1", "0"])
async def test_a_call_by_the_webhook_goes_where_the_twiml_says(lane: str, bins: str) -> None:
    variables = {"STS_FAST_LANE": lane, "STS_BINS": bins}
    async with scripted_agent() as agent, running(variables, agent=agent) as server:
        report = await call(server.webhook, BRIEFLY)
        assert report.result is Result.PROPER, report.fault
        ending = await server.ending_of(report)
        assert ending is not None
        assert ending.cause.label == "stop"
        # The agent was dialled while it rang.
        assert server.app.server.agent_connections.state.handed_over == agent.sessions == 1
        if bins == "0":
            with pytest.raises(NotConnected, match="HTTP 403"):
                await call(server.url, BRIEFLY)


async def test_the_number_that_is_called_decides_who_answers(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(
        '[agents.default]\ngreeting = "Hello."\n[agents.sales]\ngreeting = "Sales."\n'
        f'[numbers]\n"{webhook.NUMBERS.to}" = "sales"\n'
    )
    shop = tmp_path / "shop.toml"
    async with scripted_agent() as agent, running(shop, agent=agent) as server:
        report = await call(server.webhook, BRIEFLY)
        happened = await server.happened_in(report)
    words = [each.event.text for each in happened if isinstance(each.event, events.CallTranscript)]
    assert words == ["Sales."]


async def test_every_request_is_signed_for_what_it_is() -> None:
    asked: list[tuple[str, bool]] = []

    def sign_as_twilio(url: str, form: object) -> dict[str, str]:
        assert isinstance(form, dict)
        asked.append((url, bool(form)))
        return {"X-Twilio-Signature": sign("12345", url.replace("ws://", "wss://"), form)}

    variables = {"TWILIO_AUTH_TOKEN": "12345", "STS_LOG_LEVEL": "error"}
    async with scripted_agent() as agent, running(variables, agent=agent) as server:
        report = await call(server.webhook, BRIEFLY, sign=sign_as_twilio)
        assert report.result is Result.PROPER, report.fault
        with pytest.raises(NotConnected, match="HTTP 403") as caught:
            await call(server.webhook, BRIEFLY)
    assert caught.value.status == 403
    (first, has_form), (second, has_none) = asked
    assert (first, has_form, has_none) == (server.webhook, True, False)
    assert second.startswith(f"{server.url}/")


async def test_a_bridge_that_is_full_declines() -> None:
    async with running() as server:
        server.app.live_calls.drain()
        with pytest.raises(NotConnected, match="no call streamed, but answers Reject"):
            await call(server.webhook, BRIEFLY)


@pytest.mark.parametrize("lane", ["1", "0"])
async def test_under_the_plain_command_it_is_the_same(lane: str) -> None:
    environ = {"STS_BINS": "0", "STS_FAST_LANE": lane, "STS_OFFLINE_MODE": "scripted"}
    with trio.fail_after(HANG):
        async with hypercorn("--workers", "0", environ=environ) as (_, port):
            assert await knock(("127.0.0.1", port), "/twilio") == 403
            report = await place_call(f"http://127.0.0.1:{port}/twiml", BRIEFLY)
    assert report.result is Result.PROPER, report.fault


# --- any other ------------------------------------------------------------------------------------


async def asked(
    answer: Callable[[trio.abc.Stream], object] | bytes,
) -> tuple[Streamed | NotStreamed, bytes]:
    """What comes of an answer, and what was asked."""
    ours, theirs = trio.testing.memory_stream_pair()
    received = bytearray()

    async def serve() -> None:
        while b"\r\n\r\n" not in received or not received.endswith(b"15005550006"):
            received.extend(await theirs.receive_some(65536))
        if isinstance(answer, bytes):
            await theirs.send_all(answer)
            await theirs.aclose()
        else:
            await answer(theirs)  # type: ignore[misc]

    result: Streamed | NotStreamed
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            form = webhook.form(*SIDS)
            result = await webhook.ask(ours, "bridge.test", "/twiml?a=b", form, {"X-Own": "x"})
        except NotStreamed as exc:
            result = exc
        nursery.cancel_scope.cancel()
    return result, bytes(received)


def http(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


async def test_what_is_asked_is_what_twilio_asks() -> None:
    result, received = await asked(http(TWIML.encode()))
    assert result == Streamed(WSS, {"to": "+1", "n": "<&>"})
    head, _, body = received.decode().partition("\r\n\r\n")
    request, *headers = head.split("\r\n")
    assert request == "POST /twiml?a=b HTTP/1.1"
    named = dict(line.split(": ", 1) for line in headers)
    assert named["Host"] == "bridge.test"
    assert named["X-Own"] == "x"
    assert named["Content-Type"].startswith("application/x-www-form-urlencoded")
    assert {name: values[0] for name, values in parse_qs(body).items()} == {
        "CallSid": SIDS[0],
        "AccountSid": SIDS[1],
        "ApiVersion": "2010-04-01",
        "CallStatus": "ringing",
        "Direction": "inbound",
        "From": webhook.NUMBERS.from_,
        "To": webhook.NUMBERS.to,
    }


async def _drip(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        await trio.sleep(1)
        await stream.send_all(b"x")


async def _flood(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    while True:
        await stream.send_all(bytes(65536))


async def _pour_headers(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n")
    while True:
        await stream.send_all(b"X: " + b"x" * 8192 + b"\r\n")


async def _lose(stream: trio.abc.Stream) -> None:
    await stream.aclose()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (http(b"", "403 Forbidden"), "HTTP 403"),
        (http(b"", "301 Moved"), "HTTP 301"),
        (http(b""), "the webhook's answer is no TwiML: no element found"),
        (http(b"<Response"), "the webhook's answer is no TwiML"),
        (http(b'<?xml version="1.0" encoding="x-none"?><Response/>'), "is no TwiML: unknown enc"),
        (http(b"SSH-2.0"), "the webhook's answer is no TwiML"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP is spoken there"),
        (b"", "no HTTP is spoken there"),
        (http(b"x" * (MAX_TWIML + 1)), "the webhook's answer is longer than 65536 bytes"),
        (_drip, "no answer to the webhook in 15 s"),
        (_flood, "the webhook's answer is longer than 65536 bytes"),
        (_pour_headers, "no HTTP is spoken there"),
        (_lose, "no HTTP is spoken there"),
        (http(busy().encode()), "the webhook has no call streamed, but answers Reject"),
        (http(hang_up().encode()), "the webhook has no call streamed, but answers Hangup"),
        (http(b"<Response><Say>Hi.</Say></Response>"), "the webhook has no call streamed"),
        (http(b"<html><body/></html>"), "the webhook has no call streamed, but answers body"),
        (http("<r><x\u0085y/></r>".encode()), "the webhook"),
        (http(f"<r><{'x' * 1000}/></r>".encode()), "streamed, but answers something else"),
    ],
)
async def test_whatever_else_comes_is_told_in_a_line(
    answer: Callable[[trio.abc.Stream], object] | bytes,
    reason: str,
    autojump_clock: trio.testing.MockClock,
) -> None:
    result, _ = await asked(answer)
    assert isinstance(result, NotStreamed)
    assert reason in str(result)
    assert str(result).isprintable()
    assert len(str(result)) < 300
    assert trio.current_time() <= ANSWER_TIMEOUT


async def test_a_webhook_that_goes_away_is_told() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.aclose()
    with pytest.raises(NotStreamed, match="no answer to the webhook"):
        await webhook.ask(ours, "bridge.test", "/", webhook.form(*SIDS), {})


def test_what_is_said_before_the_stream_is_passed_over() -> None:
    twiml = connect_stream(WSS, "https://bridge.test/after", notice="This call is recorded.")
    assert read_twiml(twiml.encode()) == Streamed(WSS, {})
    paused = (
        b'<Response><Pause/><Play>x</Play><Connect><Stream url="wss://a/b"/></Connect></Response>'
    )
    assert read_twiml(paused) == Streamed("wss://a/b", {})
    # Never come to.
    late = b'<Response><Hangup/><Connect><Stream url="wss://a/b"/></Connect></Response>'
    with pytest.raises(NotStreamed):
        read_twiml(late)
    other = b"<Response><Connect><ConversationRelay/></Connect></Response>"
    with pytest.raises(NotStreamed, match="answers Connect"):
        read_twiml(other)


@given(st.binary() | st.text().map(str.encode))
def test_any_document_is_read_or_refused(document: bytes) -> None:
    with pytest.raises(NotStreamed):
        read_twiml(document)


def test_a_document_that_grows_without_end_is_refused() -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 100}">' for n in range(1, 20))
    bomb = f'<!DOCTYPE r [<!ENTITY e0 "xxxxxxxxxx">{entities}]><Response>&e19;</Response>'
    assert len(bomb) < MAX_TWIML
    with pytest.raises(NotStreamed, match="no TwiML"):
        read_twiml(bomb.encode())


@pytest.mark.parametrize(
    "url", ["", "/twilio", "https://bridge.test/", "wss://bridge.test:99999/", "wss://\x85[", "x\n"]
)
async def test_a_stream_that_leads_nowhere_is_the_webhooks_fault(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(*_: object) -> Streamed:
        return Streamed(url, {})

    monkeypatch.setattr(webhook, "ask", ask)
    async with running() as server:
        with pytest.raises(
            NotConnected, match=r"^the webhook has the call streamed to '"
        ) as caught:
            await place_call(server.webhook, BRIEFLY)
    assert type(caught.value) is NotConnected  # and not one who was asked for wrongly
    assert str(caught.value).isprintable()

"""A simulated call by the webhook: what it asks as Twilio, and what it makes of any answer."""

import contextlib
import functools
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from limits import HANG
from rig_hypercorn import hypercorn
from rig_server import knock
from rig_site import site

from sts_trio.net.http import Answer
from sts_trio.observe import events
from sts_trio.simulate import webhook
from sts_trio.simulate.caller import place_call
from sts_trio.simulate.carrier import signer
from sts_trio.simulate.connect import NotConnected
from sts_trio.simulate.report import Result
from sts_trio.simulate.script import HangUp, WaitForSpeech
from sts_trio.simulate.twiml import MAX_TWIML
from sts_trio.simulate.webhook import (
    ANSWER_TIMEOUT,
    NotAnswered,
    Overrides,
    Webhooks,
    overrides,
)
from sts_trio.testing import call, running, scripted_agent
from sts_trio.testing import fast_clock as fast_clock
from sts_trio.wire.webhook import sign

BRIEFLY: list[WaitForSpeech | HangUp] = [WaitForSpeech(0.1), HangUp()]
SIDS = ("CA00000000000000000000000000000002", "AC00000000000000000000000000000001")


# --- with a bridge of ours ------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["1", "0"])
@pytest.mark.parametrize("bins", ["1", "0"])
async def test_a_call_by_the_webhook_goes_where_the_twiml_says(
    lane: str, bins: str, fast_clock: trio.testing.MockClock
) -> None:
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


async def test_the_number_that_is_called_decides_who_answers(
    tmp_path: Path, fast_clock: trio.testing.MockClock
) -> None:
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


async def test_every_request_is_signed_for_what_it_is(
    fast_clock: trio.testing.MockClock,
) -> None:
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
    (first, has_form), (second, has_none), (third, _) = asked
    assert (first, has_form, has_none) == (server.webhook, True, False)
    assert second.startswith(f"{server.url}/")
    assert third == f"{server.webhook}/after"


async def test_a_bridge_that_is_full_declines() -> None:
    async with running() as server:
        server.app.live_calls.drain()
        with pytest.raises(NotConnected, match="no call streamed; the call ended as busy"):
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


def serving(answer: Callable[[trio.abc.Stream], Awaitable[None]] | bytes) -> Any:
    """A handler of connections that reads a request, and then does that."""

    async def serve(stream: trio.SocketStream) -> None:
        received = bytearray()
        while b"\r\n\r\n" not in received or not received.endswith(b"15005550006"):
            received.extend(await stream.receive_some(65536))
        with contextlib.suppress(trio.BrokenResourceError):
            if isinstance(answer, bytes):
                await stream.send_all(answer)
            else:
                await answer(stream)
        await trio.aclose_forcefully(stream)

    return serve


async def asked(
    answer: Callable[[trio.abc.Stream], Awaitable[None]] | bytes, fragment: str = ""
) -> Answer | NotAnswered:
    """What comes of an answer."""
    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_tcp, serving(answer), 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/twiml{fragment}"
        result: Answer | NotAnswered
        try:
            result = await Webhooks(None).ask(url, webhook.form(*SIDS))
        except NotAnswered as exc:
            result = exc
        nursery.cancel_scope.cancel()
    return result


def http(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


async def test_what_is_asked_is_what_twilio_asks() -> None:
    async with site() as here:
        here.reply("/twiml", "<Response/>")
        own = {"X-Own": "x"}
        await Webhooks(None, own).ask(f"{here.base}/twiml?a=b#rc=2", webhook.form(*SIDS))
    (hit,) = here.hits
    assert hit.headers["host"] == here.base.removeprefix("http://")
    assert hit.headers["x-own"] == "x"
    assert hit.headers["user-agent"] == "TwilioProxy/1.1"
    assert hit.headers["i-twilio-idempotency-token"]
    assert hit.headers["content-type"].startswith("application/x-www-form-urlencoded")
    assert hit.query == "a=b"
    assert hit.fields == {
        "CallSid": SIDS[0],
        "AccountSid": SIDS[1],
        "ApiVersion": "2010-04-01",
        "CallStatus": "ringing",
        "Direction": "inbound",
        "From": webhook.NUMBERS.from_,
        "To": webhook.NUMBERS.to,
    }


async def test_by_get_the_fields_are_in_the_query() -> None:
    async with site() as here:
        here.reply("/twiml", "<Response/>")
        await Webhooks(signer("12345")).ask(f"{here.base}/twiml?a=b", {"CallSid": "CA1"}, "GET")
    (hit,) = here.hits
    assert (hit.query, hit.fields) == ("a=b&CallSid=CA1", {})
    assert hit.headers["x-twilio-signature"] == sign("12345", f"{here.base}/twiml?a=b&CallSid=CA1")


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
    ("answer", "code", "reason"),
    [
        (http(b"", "403 Forbidden"), 11200, "HTTP 403"),
        (http(b"", "301 Moved"), 11200, "HTTP 301"),
        (b"SSH-2.0-OpenSSH\r\n", 11200, "no HTTP is spoken there"),
        (b"", 11200, "no HTTP is spoken there"),
        (http(b"x" * (MAX_TWIML + 1)), 11200, "the webhook's answer is longer than 65536 bytes"),
        (_drip, 11205, "no answer to the webhook in 15 s"),
        (_flood, 11200, "the webhook's answer is longer than 65536 bytes"),
        (_pour_headers, 11200, "no HTTP is spoken there"),
        (_lose, 11200, "no HTTP is spoken there"),
    ],
)
async def test_whatever_else_comes_is_told_in_a_line(
    answer: Callable[[trio.abc.Stream], Awaitable[None]] | bytes,
    code: int,
    reason: str,
    fast_clock: trio.testing.MockClock,
) -> None:
    result = await asked(answer)
    assert isinstance(result, NotAnswered)
    assert result.code == code
    assert reason in str(result)
    assert str(result).isprintable()
    assert len(str(result)) < 300
    assert trio.current_time() <= ANSWER_TIMEOUT


async def test_an_answer_that_leads_elsewhere_is_followed_ten_times_and_no_more() -> None:
    async with site() as here:
        here.reply("/a", found("/b"))
        here.reply("/b", "<Response/>")
        here.reply("/round", found("/round"))
        answer = await Webhooks(None).ask(f"{here.base}/a", webhook.form(*SIDS))
        assert answer.body == b"<Response/>"
        with pytest.raises(NotAnswered, match="more than 10 redirections") as caught:
            await Webhooks(None).ask(f"{here.base}/round", webhook.form(*SIDS))
    assert caught.value.code == 11215
    assert len(here.hits_of("/round")) == 11


def found(path: str) -> Answer:
    return Answer(302, {"location": path}, b"")


# --- repetition -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fragment", "replies", "attempts"),
    [
        ("", [500, 200], 1),
        ("#rc=3", [500, 200], 1),  # by default only where there was no connection
        ("#rc=3&rp=5xx", [500, 502, 200], 3),
        ("#rc=3&rp=4xx", [500], 1),
        ("#rc=3&rp=4xx,5xx", [404, 500, 200], 3),
        ("#rc=5&rp=all", [500], 6),
        ("#rc=0&rp=all", [500], 1),
    ],
)
async def test_the_fragment_says_when_a_request_is_repeated_and_how_often(
    fragment: str, replies: list[int], attempts: int, fast_clock: trio.testing.MockClock
) -> None:
    async with site() as here:
        here.reply("/twiml", *replies)
        with contextlib.suppress(NotAnswered):
            await Webhooks(None).ask(f"{here.base}/twiml{fragment}", webhook.form(*SIDS))
    assert len(here.hits) == attempts
    assert len({hit.headers["i-twilio-idempotency-token"] for hit in here.hits}) == 1


@pytest.mark.parametrize(
    ("fragment", "seconds", "reason"),
    [
        ("#rt=1000&rc=0", 1.0, "no answer to the webhook in 1 s"),
        ("#rt=1000&rp=rt&rc=2", 3.0, "no answer to the webhook in 1 s"),
        ("#rt=4000&rp=rt&rc=5", 15.0, "no answer to the webhook in 4 s"),
        ("#tt=2500", 2.5, "no answer to the webhook in 2.5 s"),
    ],
)
async def test_all_attempts_together_take_no_longer_than_they_may(
    fragment: str, seconds: float, reason: str, fast_clock: trio.testing.MockClock
) -> None:
    async def stall(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    result = await asked(stall, fragment)
    assert str(result) == reason
    assert trio.current_time() == pytest.approx(seconds, abs=0.1)


async def test_who_is_not_there_yet_is_asked_again(fast_clock: trio.testing.MockClock) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = taken.getsockname()
    url = "http://{}:{}/twiml".format(*address)

    async def arrive() -> None:
        await trio.sleep(1.2)
        await trio.serve_tcp(serving(http(b"<Response/>")), address[1], host=address[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(arrive)
        answer = await Webhooks(None, pause=0.5).ask(f"{url}#rc=5", webhook.form(*SIDS))
        nursery.cancel_scope.cancel()
    assert answer.status == 200
    with pytest.raises(NotAnswered, match="refused"):
        await Webhooks(None).ask(f"{url}#rc=0", webhook.form(*SIDS))


@pytest.mark.parametrize("fragment", ["rc=6", "rc=x", "ct=0", "rt=99999", "rp=6xx", "rc=-1"])
def test_what_a_fragment_may_not_ask_for_is_an_error(fragment: str) -> None:
    with pytest.raises(NotAnswered) as caught:
        overrides(fragment)
    assert caught.value.code == 11243


def test_a_fragment_that_says_nothing_of_it_changes_nothing() -> None:
    assert overrides("") == overrides("top") == overrides("e=dublin&sni=y") == Overrides()

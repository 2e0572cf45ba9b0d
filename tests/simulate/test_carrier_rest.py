"""Twilio's REST API as the simulated carrier has it, asked by the client that production has."""

import base64
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
from rig_site import Site, listen, site

from sts_trio.errors import TwilioFailed
from sts_trio.net import http
from sts_trio.outbound.twilio_rest import TwilioRest
from sts_trio.simulate.carrier import Carrier
from sts_trio.simulate.phone_call import PhoneCall
from sts_trio.simulate.placement import Callee
from sts_trio.simulate.rest import TOO_MANY, Refusal, Rest
from sts_trio.simulate.script import HangUp, Speak, WaitForQuiet
from sts_trio.testing import fast_clock as fast_clock
from sts_trio.wire import twilio

TOKEN = "s3cret"
HANG_UP = "<Response><Hangup/></Response>"
NOBODY = "CA" + "0" * 32


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[Site, Carrier, Rest]]:
    """A bridge whose calls are streamed to it, and the carrier that has them."""
    carrier = Carrier(token=TOKEN)
    rest = Rest(carrier)
    async with site() as here, trio.open_nursery() as nursery:
        await nursery.start(rest.serve)
        here.reply("/twiml", here.connect(action="/after"))
        here.reply("/after", HANG_UP)
        yield here, carrier, rest
        nursery.cancel_scope.cancel()


def client(carrier: Carrier, rest: Rest, token: str = TOKEN) -> TwilioRest:
    return TwilioRest(carrier.account_sid, token, api=rest.url, jitter=lambda: 0.0)


async def meanwhile(
    here: Site, carrier: Carrier, do: Callable[[str], Awaitable[None]]
) -> PhoneCall:
    """A call, in whose third second that is done; it is given the call's SID."""

    async def after_a_while() -> None:
        await trio.sleep(2.0)
        (sid,) = carrier.calls
        await do(sid)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(after_a_while)
        call = await carrier.place(f"{here.base}/twiml", [WaitForQuiet(60.0, 60.0)], limit=20.0)
    return call


async def test_a_call_is_hung_up_on(fast_clock: object) -> None:
    async with serving() as (here, carrier, rest):

        async def hang_up(sid: str) -> None:
            assert await client(carrier, rest).hang_up(sid)

        call = await meanwhile(here, carrier, hang_up)
        assert not await client(carrier, rest).hang_up(call.call_sid)  # 21220
    assert (call.status, call.ended_by) == ("completed", "bridge")
    assert here.streams[0].of(twilio.Stop)
    assert rest.asked[0] == (call.call_sid, {"Status": "completed"})


async def test_a_call_is_given_other_twiml_and_its_stream_ends(fast_clock: object) -> None:
    async with serving() as (here, carrier, rest):

        async def redirect(sid: str) -> None:
            assert await client(carrier, rest).redirect(sid, "<Response><Pause/></Response>")

        call = await meanwhile(here, carrier, redirect)
    assert here.streams[0].of(twilio.Stop)
    assert [each.path for each in here.hits] == ["/twiml"]
    assert call.report.seconds < 10.0


async def test_a_call_is_given_a_url_and_a_fallback(fast_clock: object) -> None:
    async with serving() as (here, carrier, rest):
        here.reply("/moved", 500)
        here.reply("/fallback", here.connect())
        here.behaviours[0] = listen

        async def move(sid: str) -> None:
            form = f"Url={here.base}/moved&FallbackUrl={here.base}/fallback"
            assert (await ask(rest, carrier, "POST", sid, form))[0] == 200

        call = await meanwhile(here, carrier, move)
    assert [each.path for each in here.hits] == ["/twiml", "/moved", "/fallback"]
    assert len(call.streams) == 2


async def ask(
    rest: Rest, carrier: Carrier, method: str, sid: str, form: str = "", account: str = ""
) -> tuple[int, bytes]:
    """Without the client, which asks for less."""
    key = base64.b64encode(f"{carrier.account_sid}:{TOKEN}".encode()).decode()
    host, _, port = rest.url.removeprefix("http://").partition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    of_call = f"/{sid}" if sid else ""
    path = f"/2010-04-01/Accounts/{account or carrier.account_sid}/Calls{of_call}.json"
    headers = {"Host": host, "Authorization": f"Basic {key}"}
    answer = await http.ask(stream, method, path, headers, form.encode(), longest=65536)
    await stream.aclose()
    return answer.status, answer.body


async def test_each_refusal_has_twilios_code(fast_clock: object) -> None:
    async with serving() as (here, carrier, rest):

        async def refuse(sid: str) -> None:
            with pytest.raises(TwilioFailed) as unknown:
                await client(carrier, rest).hang_up(NOBODY)
            assert (unknown.value.status, unknown.value.code) == (404, 20404)
            with pytest.raises(TwilioFailed) as denied:
                await client(carrier, rest, "another").hang_up(sid)
            assert denied.value.code == 20003
            told = await ask(rest, carrier, "POST", sid, "Twiml=" + "x" * 4001)
            assert told[0] == 400
            assert b"32018" in told[1]
            assert (await ask(rest, carrier, "POST", sid, "Status=canceled"))[0] == 200
            assert (await ask(rest, carrier, "POST", sid, "Colour=red"))[0] == 400
            assert (await ask(rest, carrier, "DELETE", sid))[0] == 405
            assert (await ask(rest, carrier, "GET", sid, account="AC1"))[0] == 404
            assert (await ask(rest, carrier, "GET", NOBODY))[0] == 404
            assert b"in-progress" in (await ask(rest, carrier, "GET", sid))[1]
            assert not here.streams[0].of(twilio.Stop)

        call = await meanwhile(here, carrier, refuse)
        assert b"completed" in (await ask(rest, carrier, "GET", call.call_sid))[1]


async def test_a_rush_is_turned_away_and_latency_is_waited_for(fast_clock: object) -> None:
    async with serving() as (here, carrier, rest):
        rest.refusals.extend([TOO_MANY, Refusal(503, 20503, "Service unavailable")])
        rest.latency = 3.0

        async def hang_up(sid: str) -> None:
            began = trio.current_time()
            assert await client(carrier, rest).hang_up(sid)
            # 429's Retry-After of a second, our own pause after 503, and three answers.
            assert trio.current_time() - began >= 3 * 3.0 + 1.0 + 1.0

        await meanwhile(here, carrier, hang_up)
    assert len(rest.asked) == 1


# --- calls that the bridge places -----------------------------------------------------------------

NUMBER = "+15005550006"
OURS = "+15005550010"
SPEAKS = Callee(steps=[Speak(b"\x00" * 8000), WaitForQuiet(3.0), HangUp()])


async def placed(
    here: Site, carrier: Carrier, rest: Rest, callee: Callee | None, within: float = 30.0
) -> PhoneCall:
    """What came of a call that the bridge has asked for as it does."""
    if callee is not None:
        carrier.callees[NUMBER] = callee
    for path in ("/status", "/amd"):
        here.reply(path, 204)
    created = await client(carrier, rest).create_call(
        to=NUMBER,
        from_=OURS,
        url=f"{here.base}/twiml",
        status_callback=f"{here.base}/status",
        amd_callback=f"{here.base}/amd",
    )
    assert created.status == "queued"
    await trio.sleep(within)
    (call,) = carrier.placed
    assert call.call_sid == created.call_sid
    return call


def told(here: Site) -> list[tuple[str, str, str]]:
    """What the bridge was told of a call, in order."""
    return [
        (each.fields["SequenceNumber"], each.fields["CallStatus"], each.fields["Direction"])
        for each in here.hits
        if each.path == "/status"
    ]


async def test_who_is_called_answers_and_talks(fast_clock: object) -> None:
    async with serving() as (here, carrier, rest):
        here.behaviours[0] = listen
        call = await placed(here, carrier, rest, SPEAKS)
        assert b"completed" in (await ask(rest, carrier, "GET", call.call_sid))[1]
    assert (call.status, call.ended_by) == ("completed", "caller")
    assert call.report.said.startswith(b"\x00" * 8000)
    assert [status for _, status, _ in told(here)] == [
        "initiated",
        "ringing",
        "in-progress",
        "completed",
    ]
    assert [int(number) for number, *_ in told(here)] == [0, 1, 2, 3]
    assert {direction for *_, direction in told(here)} == {"outbound-api"}
    asked = next(each.fields for each in here.hits if each.path == "/twiml")
    assert (asked["From"], asked["To"], asked["CallStatus"]) == (OURS, NUMBER, "in-progress")
    last = here.hits[-1].fields
    assert (last["SipResponseCode"], int(last["CallDuration"]) > 3) == ("200", True)


@pytest.mark.parametrize(
    ("callee", "status", "sip"),
    [
        (None, "failed", "404"),
        (Callee(is_busy=True), "busy", "486"),
        (Callee(answers_after=math.inf), "no-answer", "487"),
    ],
)
async def test_who_does_not_answer_is_told_of(
    callee: Callee | None, status: str, sip: str, fast_clock: object
) -> None:
    async with serving() as (here, carrier, rest):
        call = await placed(here, carrier, rest, callee, within=61.0)
        assert status.encode() in (await ask(rest, carrier, "GET", call.call_sid))[1]
    assert call.status == status
    assert not call.streams
    (last,) = [each.fields for each in here.hits if each.fields.get("SipResponseCode")]
    assert (last["CallStatus"], last["SipResponseCode"], last["CallDuration"]) == (status, sip, "0")


async def test_who_or_what_answered_is_told_when_it_is_known(fast_clock: object) -> None:
    async with serving() as (here, carrier, rest):
        machine = Callee(steps=[WaitForQuiet(9.0)], answered_by="machine_end_beep", known_after=4.0)
        here.behaviours[0] = listen
        await placed(here, carrier, rest, machine)
    (known,) = [each.fields for each in here.hits if each.path == "/amd"]
    assert (known["AnsweredBy"], known["MachineDetectionDuration"]) == ("machine_end_beep", "4000")


async def test_a_url_may_wait_until_it_is_known_who_answered(fast_clock: object) -> None:
    async with serving() as (here, carrier, rest):
        carrier.callees[NUMBER] = SPEAKS
        form = f"To={NUMBER}&From={OURS}&Url={here.base}/twiml&MachineDetection=Enable"
        assert (await place(rest, carrier, form))[0] == 201
        await trio.sleep(20.0)
    assert here.hits[0].fields["AnsweredBy"] == "human"


async def test_a_call_that_rings_is_called_off(fast_clock: object) -> None:
    async with serving() as (here, carrier, rest):
        carrier.callees[NUMBER] = Callee(answers_after=20.0)
        form = f"To={NUMBER}&From={OURS}&Twiml={HANG_UP}&StatusCallback={here.base}/status"
        assert (await place(rest, carrier, form))[0] == 201
        here.reply("/status", 204)
        await trio.sleep(1.0)
        (sid,) = carrier.calls
        assert (await ask(rest, carrier, "POST", sid, "Status=canceled"))[0] == 200
        await trio.sleep(1.0)
    (call,) = carrier.placed
    assert (call.status, call.report.said) == ("canceled", b"")
    # Nobody had asked for more than the end.
    assert [status for _, status, _ in told(here)] == ["canceled"]


async def place(rest: Rest, carrier: Carrier, form: str) -> tuple[int, bytes]:
    return await ask(rest, carrier, "POST", "", form.replace("+", "%2B"))


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ("From=+1&Url=http://a/", 21201),
        ("To=+1&Url=http://a/", 21213),
        ("To=+1&From=+1", 21205),
        ("To=+1&From=+1&Url=nowhere", 21205),
        ("To=+1&From=+1&Twiml=" + "x" * 4001, 32018),
        ("To=+1&From=+1&Url=http://a/&Timeout=601", 20001),
        ("To=+1&From=+1&Url=http://a/&Timeout=x", 20001),
        ("To=+1&From=+1&Url=http://a/&StatusCallbackEvent=sneezed", 0),
        ("To=+1&From=+1&Url=http://a/&SendDigits=1", 0),
    ],
)
async def test_a_call_that_cannot_be_placed_is_refused(
    form: str, code: int, fast_clock: object
) -> None:
    async with serving() as (_, carrier, rest):
        status, body = await place(rest, carrier, form)
        assert status == 400
        assert f'"code":{code},' in body.decode()
        assert (await ask(rest, carrier, "GET", ""))[0] == 405
    assert not carrier.placed

"""Twilio's REST API: what is asked, what is asked again, and what never is. On real HTTP."""

import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from limits import HANG
from rig_rest import ACCOUNT, CALL, DROP, STALL, TOKEN, Answer, FakeApi, refusal, serving

from sts_trio.config import load
from sts_trio.errors import TwilioFailed
from sts_trio.observe import events
from sts_trio.outbound import twilio_rest
from sts_trio.outbound.twilio_rest import Placed, TwilioRest

CREATE = {
    "to": "+15005550010",
    "from_": "+15005550006",
    "url": "https://bridge.example.com/twiml?outbound=t",
    "status_callback": "https://bridge.example.com/twiml/status?outbound=t",
    "amd_callback": "https://bridge.example.com/twiml/amd?outbound=t",
}
OTHER = "AC0000000000000000000000000000000a"
Ask = Callable[[TwilioRest], Awaitable[object]]


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with serving() as api:
        yield api


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


def account(api: FakeApi) -> TwilioRest:
    return TwilioRest(ACCOUNT, TOKEN, api=api.url, jitter=lambda: 0.0)


async def create(rest: TwilioRest) -> Placed:
    return await rest.create_call(**CREATE)


async def redirect(rest: TwilioRest) -> bool:
    return await rest.redirect(CALL, "<Response/>")


async def hang_up(rest: TwilioRest) -> bool:
    return await rest.hang_up(CALL)


async def failure(awaitable: Awaitable[object]) -> TwilioFailed:
    with pytest.raises(TwilioFailed) as caught:
        await awaitable
    assert TOKEN not in repr(caught.value)
    assert str(caught.value).isprintable()
    return caught.value


# --- what is asked --------------------------------------------------------------------------------


async def test_a_call_is_placed_with_everything_that_leads_back_to_us(api: FakeApi) -> None:
    assert await create(account(api)) == Placed(CALL, "queued")
    [asked] = api.asked
    assert (asked.path, asked.user, asked.password) == ("/Calls.json", ACCOUNT, TOKEN)
    assert asked.form == {
        "To": ["+15005550010"],
        "From": ["+15005550006"],
        "Url": ["https://bridge.example.com/twiml?outbound=t"],
        "Method": ["POST"],
        "StatusCallback": ["https://bridge.example.com/twiml/status?outbound=t"],
        "StatusCallbackMethod": ["POST"],
        "StatusCallbackEvent": ["initiated", "ringing", "answered", "completed"],
        "MachineDetection": ["DetectMessageEnd"],
        "AsyncAmd": ["true"],
        "AsyncAmdStatusCallback": ["https://bridge.example.com/twiml/amd?outbound=t"],
        "AsyncAmdStatusCallbackMethod": ["POST"],
    }


async def test_a_live_call_is_given_other_twiml(api: FakeApi) -> None:
    assert await redirect(account(api))
    assert [(each.path, each.form) for each in api.asked] == [
        (f"/Calls/{CALL}.json", {"Twiml": ["<Response/>"]})
    ]


async def test_a_live_call_is_asked_about(api: FakeApi) -> None:
    url = "https://bridge.example.com/twiml/after?rescued=1"
    assert await account(api).have_asked(CALL, url, OTHER)
    assert [(each.path, each.form) for each in api.asked] == [
        (f"{OTHER}/Calls/{CALL}.json", {"Url": [url], "Method": ["POST"]})
    ]


async def test_a_live_call_is_hung_up(api: FakeApi) -> None:
    await hang_up(account(api))
    assert [(each.path, each.form) for each in api.asked] == [
        (f"/Calls/{CALL}.json", {"Status": ["completed"]})
    ]


async def test_of_several_tokens_the_first_is_in_force(api: FakeApi) -> None:
    environ = {"TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_AUTH_TOKEN": f"{TOKEN},older"}
    config = load(environ | {"STS_AGENT": "offline"}, Path("/nonexistent"))
    rest = TwilioRest.of(config)
    rest.api = api.url
    await hang_up(rest)
    assert api.asked[0].password == TOKEN


async def test_few_threads_do_all_the_asking(api: FakeApi) -> None:
    together = threading.Barrier(twilio_rest.THREADS)
    in_flight: list[int] = []

    def meet(asked: object) -> None:
        in_flight.append(rest._limiter.borrowed_tokens)
        together.wait(HANG)

    api.placed = meet
    rest = account(api)
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            for _ in range(2 * twilio_rest.THREADS):
                nursery.start_soon(create, rest)
    assert max(in_flight) == twilio_rest.THREADS
    assert rest._limiter.borrowed_tokens == 0


# --- a call that is over --------------------------------------------------------------------------


async def test_a_call_that_is_over_is_told_as_such(api: FakeApi) -> None:
    for ask in (hang_up, redirect):
        assert await ask(account(api))
        api.answers.append(refusal(400, 21220))
        assert not await ask(account(api))
    assert len(api.asked) == 4


@pytest.mark.parametrize("ask", [hang_up, redirect])
async def test_a_call_that_is_not_found_is_another_accounts_and_may_go_on(
    api: FakeApi, ask: Ask
) -> None:
    api.answers.append(refusal(404, 20404, "Not found"))
    told = str(await failure(ask(account(api))))
    assert told == (
        f"Twilio: HTTP 404, 20404: Not found; {ACCOUNT} has no such call, it is of another account"
    )


# --- whose call it is -----------------------------------------------------------------------------


async def test_a_subaccounts_call_is_asked_for_under_that_account(api: FakeApi) -> None:
    assert await account(api).hang_up(CALL, OTHER)
    assert await account(api).redirect(CALL, "<Response/>", OTHER)
    assert await account(api).hang_up(CALL, ACCOUNT)
    [hung_up, redirected, ours] = api.asked
    assert (hung_up.path, hung_up.user) == (f"{OTHER}/Calls/{CALL}.json", ACCOUNT)
    assert redirected.path == hung_up.path
    assert ours.path == f"/Calls/{CALL}.json"


@pytest.mark.parametrize(("status", "code"), [(401, 20003), (403, 20005), (404, 20404)])
async def test_an_account_that_is_no_subaccount_is_named(
    api: FakeApi, status: int, code: int
) -> None:
    api.answers.append(refusal(status, code))
    told = str(await failure(account(api).hang_up(CALL, OTHER)))
    assert told.endswith(f"the call is of {OTHER}: is that a subaccount of TWILIO_ACCOUNT_SID?")


async def test_what_is_no_account_of_twilios_is_not_asked_for(api: FakeApi) -> None:
    for account_sid in ("AC1", f"{OTHER}/../x", f"{OTHER}\n", CALL):
        told = str(await failure(account(api).hang_up(CALL, account_sid)))
        assert "no account of Twilio's" in told
    assert api.asked == []


async def test_what_is_no_call_of_twilios_is_not_asked_for(api: FakeApi) -> None:
    for call_sid in ("", "CA1", f"{CALL}/../../x", f"{CALL}\n"):
        assert "no call of Twilio's" in str(await failure(account(api).hang_up(call_sid)))
    assert api.asked == []


async def test_twiml_that_twilio_would_refuse_is_refused_here(api: FakeApi) -> None:
    with pytest.raises(ValueError, match="4001 characters"):
        await account(api).redirect(CALL, "x" * 4001)
    assert api.asked == []


# --- asked again, or not --------------------------------------------------------------------------


@pytest.mark.parametrize("ask", [create, redirect, hang_up])
async def test_what_twilio_turned_away_is_asked_again_later_and_later(
    api: FakeApi, ask: Ask, autojump_clock: trio.testing.MockClock
) -> None:
    api.answers.extend([refusal(429, 20429)] * 3)
    with structlog.testing.capture_logs() as logs:
        await ask(account(api))
    assert trio.current_time() == 1 + 2 + 4
    assert len(api.asked) == 4
    assert [line["event"] for line in logs] == [events.TwilioRetried.NAME] * 3
    assert TOKEN not in str(logs)


async def test_there_is_an_end_to_asking_again(
    api: FakeApi, autojump_clock: trio.testing.MockClock
) -> None:
    api.answers.extend([refusal(429, 20429, "Too Many Requests")] * 9)
    failed = await failure(create(account(api)))
    assert str(failed) == "Twilio: HTTP 429, 20429: Too Many Requests"
    assert not failed.is_uncertain
    assert len(api.asked) == 4


async def test_twilio_says_when_to_come_back(
    api: FakeApi, autojump_clock: trio.testing.MockClock
) -> None:
    api.answers.append(refusal(429, 20429, retry_after="7"))
    api.answers.append(refusal(429, 20429, retry_after="Wed, 25 Nov 2026 21:00:00 GMT"))
    await create(account(api))
    assert trio.current_time() == 7 + 2


async def test_nobody_waits_for_an_hour(
    api: FakeApi, autojump_clock: trio.testing.MockClock
) -> None:
    api.answers.append(refusal(429, 20429, retry_after="3600"))
    failed = await failure(create(account(api)))
    assert failed.retry_after == 3600
    assert trio.current_time() == 0


async def test_waits_are_spread(api: FakeApi, autojump_clock: trio.testing.MockClock) -> None:
    api.answers.append(refusal(429, 20429))
    await hang_up(TwilioRest(ACCOUNT, TOKEN, api=api.url, jitter=lambda: 0.5))
    assert trio.current_time() == 1.5


@pytest.mark.parametrize("trouble", [refusal(500, 20500), Answer(503, "<html>"), DROP])
@pytest.mark.parametrize("ask", [redirect, hang_up])
async def test_what_does_no_harm_twice_is_asked_again(
    api: FakeApi, ask: Ask, trouble: Answer, autojump_clock: trio.testing.MockClock
) -> None:
    api.answers.append(trouble)
    await ask(account(api))
    assert (len(api.asked), trio.current_time()) == (2, 1)


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (refusal(500, 20500, "Internal"), "HTTP 500, 20500: Internal; it may have been done"),
        (Answer(502, "<html>"), "HTTP 502: no reason was given; it may have been done"),
        (DROP, "the connection broke"),
        (Answer(200, "<html>"), "no JSON; it may have been done"),
        (Answer(201, {"status": "queued"}), "without a call SID; the call may have been placed"),
        (Answer(201, {"sid": "CA1"}), "without a call SID; the call may have been placed"),
    ],
)
async def test_a_call_that_may_have_been_placed_is_not_asked_for_again(
    api: FakeApi, trouble: Answer, reason: str, autojump_clock: trio.testing.MockClock
) -> None:
    api.answers.append(trouble)
    failed = await failure(create(account(api)))
    assert reason in str(failed)
    assert "may have been" in str(failed)
    assert failed.is_uncertain
    assert (len(api.asked), trio.current_time()) == (1, 0)


async def test_a_create_without_an_answer_is_given_up_and_never_repeated(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twilio_rest, "READ_TIMEOUT", 0.1)
    api.answers.append(STALL)
    with trio.fail_after(HANG):
        failed = await failure(create(account(api)))
    assert str(failed) == "Twilio: no answer within 0.1 s; it may have been done all the same"
    assert (failed.status, failed.is_uncertain) == (0, True)
    assert len(api.asked) == 1


async def test_where_nobody_listens_nothing_was_done(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    rest = TwilioRest(ACCOUNT, TOKEN, api=f"http://127.0.0.1:{port}", jitter=lambda: 0.0)
    failed = await failure(create(rest))
    assert str(failed) == "Twilio: cannot be reached (Connection refused), so nothing was done"
    assert not failed.is_uncertain
    assert trio.current_time() == 0
    await failure(hang_up(rest))
    assert trio.current_time() == 7


@pytest.mark.parametrize("ask", [create, redirect, hang_up])
async def test_a_refusal_is_told_in_twilios_words_and_not_argued_with(
    api: FakeApi, ask: Ask
) -> None:
    api.answers.append(refusal(400, 21211, "The 'To' number is not valid."))
    failed = await failure(ask(account(api)))
    assert (failed.status, failed.code) == (400, 21211)
    assert failed.message == "The 'To' number is not valid."
    assert not failed.is_uncertain
    assert len(api.asked) == 1


async def test_newer_errors_have_a_title(api: FakeApi) -> None:
    api.answers.append(Answer(400, {"type": "x", "title": "Bad To", "status": 400, "code": 21201}))
    assert str(await failure(create(account(api)))) == "Twilio: HTTP 400, 21201: Bad To"


async def test_wrong_credentials_name_what_to_look_at(api: FakeApi) -> None:
    api.answers.append(refusal(401, 20003, "Authenticate"))
    told = str(await failure(create(account(api))))
    assert told.startswith("Twilio: HTTP 401, 20003: Authenticate; TWILIO_ACCOUNT_SID and")


async def test_a_redirection_is_not_followed_with_our_credentials(api: FakeApi) -> None:
    api.answers.append(Answer(307, "", {"Location": "http://127.0.0.1:1/"}))
    assert (await failure(create(account(api)))).status == 307
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((None, TOKEN), "set TWILIO_ACCOUNT_SID"),
        ((ACCOUNT, None), "set TWILIO_AUTH_TOKEN"),
        ((None, None), "set TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN"),
    ],
)
async def test_without_an_account_the_error_says_what_to_set(
    given: tuple[str | None, str | None], told: str
) -> None:
    for ask in (create, redirect, hang_up):
        assert str(await failure(ask(TwilioRest(*given)))).endswith(told)


async def test_while_twilio_is_silent_everything_else_goes_on(api: FakeApi) -> None:
    """And who has waited enough is let go at once, whatever the thread is doing."""
    api.answers.append(STALL)
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang_up, account(api))
            await trio.to_thread.run_sync(api.reached.wait)
            nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught


def test_a_bug_is_not_taken_for_twilios_fault() -> None:
    def broken(client: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        TwilioRest(ACCOUNT, TOKEN)._ask(broken)

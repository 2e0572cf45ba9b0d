"""One live call for its operator: what has happened in it, how it stands, and its end."""

import json
from pathlib import Path
from typing import Any

import pytest
from rig_app import key
from rig_peers import CALL_SID, STOP, STREAM_SID, FakeAgent
from rig_server import World, talk, world
from web.test_page import ELSEWHERE, HERE, ask, make_app

from sts_trio.errors import Cause
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio

ROUTES = [("GET", f"/calls/{CALL_SID}"), ("POST", f"/calls/{CALL_SID}/hang-up")]


async def asked(here: World, path: str, method: str = "GET") -> tuple[int, Any]:
    status, _, body = await ask(here.app, path, method)
    return status, json.loads(body) if status < 300 else body.decode()


# --- what there is to know ------------------------------------------------------------------------


async def test_a_call_is_shown_with_what_has_happened_in_it_so_far(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.phone() as phone:
        await talk(here, phone)
        await here.agent.say(deepgram.ConversationText("user", "Hello?"))
        # What is kept is what is told, so whoever has the event has it here, too.
        with here.app.live_calls.event_feed.follow(0) as follower:
            told: list[str] = []
            while events.CallTranscript.NAME not in told:
                told += [
                    json.loads(entry.json)["event"] for _, entry in (await follower.receive())[1]
                ]
        status, call = await asked(here, f"/calls/{CALL_SID}")
        assert status == 200
        assert (call["call_sid"], call["stream_sid"]) == (CALL_SID, STREAM_SID)
        assert (call["phase"], call["agent"], call["direction"]) == (
            "talking",
            "default",
            "inbound",
        )
        assert call["statistics"]["agent_audio"] == 0.2
        assert call["is_whole"] is True
        happened = [event["told"] for event in call["events"]]
        assert [event["event"] for event in happened] == told
        assert happened[-1]["fields"]["text"] == "Hello?"
        assert {event["call_sid"] for event in happened} == {CALL_SID}

        # Behind what is known, there is nothing.
        last = call["events"][-1]["number"]
        assert (await asked(here, f"/calls/{CALL_SID}?after={last}"))[1]["events"] == []
        one_less = (await asked(here, f"/calls/{CALL_SID}?after={last - 1}"))[1]["events"]
        assert [event["number"] for event in one_less] == [last]
        for odd in ("", "-1", "x", "1.5", "٣", "9" * 5000):
            again = (await asked(here, f"/calls/{CALL_SID}?after={odd}"))[1]["events"]
            assert len(again) == len(happened), odd
        await phone.tell(STOP)
        await here.until_over()
        assert (await asked(here, f"/calls/{CALL_SID}"))[0] == 404


async def test_who_calls_whom_is_listed(tmp_path: Path) -> None:
    who = {"from": "+15005550001", "to": "+15005550002", "direction": "outbound-api"}
    start = twilio.Start(
        twilio.StreamStart(STREAM_SID, CALL_SID, custom_parameters=who), stream_sid=STREAM_SID
    )
    async with world(tmp_path) as here, here.phone() as phone:
        await phone.tell(twilio.Connected(), start)
        await here.agent.ready.wait()
        [listed] = (await asked(here, "/calls"))[1]["calls"]
        shown = (await asked(here, f"/calls/{CALL_SID}"))[1]
        for call in (listed, shown):
            assert {name: call[name] for name in who} == who
        await phone.tell(STOP)
        await here.until_over()


async def test_nothing_is_kept_of_a_call_that_is_over(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        async with here.phone() as phone:
            await talk(here, phone)
            await phone.tell(STOP)
            await here.until_over()
        assert here.app.live_calls.find(CALL_SID) == {}


@pytest.mark.parametrize("sid", ["CA-other", "..", "%00", "a" * 3000, "%F0%9F%93%9E"])
async def test_a_call_that_is_not_live_is_not_found(tmp_path: Path, sid: str) -> None:
    async with world(tmp_path) as here:
        async with here.phone() as phone:
            await phone.tell(twilio.Connected())  # its own SID is "" as yet
            for method, path in (("GET", f"/calls/{sid}"), ("POST", f"/calls/{sid}/hang-up")):
                assert (await ask(here.app, path, method))[0] == 404, path
            assert here.app.live_calls.live == 1
        await here.until_over()


# --- its end --------------------------------------------------------------------------------------


async def test_the_operator_ends_a_call_at_once_and_nothing_is_left(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.phone() as phone:
        await talk(here, phone)
        status, told = await asked(here, f"/calls/{CALL_SID}/hang-up", "POST")
        assert (status, told) == (202, {"call_sid": CALL_SID})
        assert await phone.play_until_closed() == 1000
        await here.until_over()
        assert here.endings == ["operator_hung_up"]
        ending = here.app.live_calls.ending_of(CALL_SID)
        assert ending is not None
        assert ending.cause is Cause.OPERATOR_HUNG_UP
        # Once more, for who has pressed twice.
        assert (await asked(here, f"/calls/{CALL_SID}/hang-up", "POST"))[0] == 404


async def test_a_call_is_ended_by_no_get(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.phone() as phone:
        await talk(here, phone)
        assert (await asked(here, f"/calls/{CALL_SID}/hang-up"))[0] == 405
        assert here.app.live_calls.live == 1
        await phone.tell(STOP)
        await here.until_over()


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    ("client", "headers", "environ"),
    [
        (ELSEWHERE, {}, {}),
        (HERE, {"x-forwarded-for": "192.0.2.7"}, {}),
        (HERE, {"host": "rebound.example"}, {}),
        (HERE, {"origin": "https://evil.example"}, {}),
        (HERE, {"origin": "null"}, {}),
        (HERE, {"referer": "https://evil.example/page"}, {}),
        (HERE, {"sec-fetch-site": "cross-site"}, {}),
        (HERE, {"sec-fetch-site": "same-site"}, {}),
        (HERE, {"authorization": ""}, {}),
        (HERE, {"authorization": "Bearer guessed"}, {}),
        (HERE, {}, {"TWILIO_AUTH_TOKEN": "12345"}),
    ],
)
async def test_others_are_shown_no_call_and_end_none(
    tmp_path: Path,
    method: str,
    path: str,
    client: tuple[str, int],
    headers: dict[str, str],
    environ: dict[str, str],
) -> None:
    app = make_app(tmp_path, **environ)
    assert (await ask(app, path, method, client, key(app) | headers))[0] == 403


async def test_a_browser_that_knows_the_admin_token_ends_no_call_for_another_page(
    tmp_path: Path,
) -> None:
    headers = {"authorization": "Bearer operators-own", "host": "bridge.example.com"}
    async with world(tmp_path, STS_ADMIN_TOKEN="operators-own") as here, here.phone() as phone:
        await talk(here, phone)
        path = f"/calls/{CALL_SID}/hang-up"
        for odd in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
            status, _, _ = await ask(here.app, path, "POST", ELSEWHERE, headers | odd)
            assert (status, here.app.live_calls.live) == (403, 1)
        own = {"origin": "https://bridge.example.com", "sec-fetch-site": "same-origin"}
        assert (await ask(here.app, path, "POST", ELSEWHERE, headers | own))[0] == 202
        await here.until_over()


async def test_one_call_that_is_streamed_twice_is_ended_in_both(tmp_path: Path) -> None:
    first, second = FakeAgent(), FakeAgent()
    async with (
        world(tmp_path, first, second) as here,
        here.phone() as phone,
        here.phone() as again,
    ):
        other = "MZ" + "f" * 32
        for each, sid in ((phone, STREAM_SID), (again, other)):
            start = twilio.Start(twilio.StreamStart(sid, CALL_SID), stream_sid=sid)
            await each.tell(twilio.Connected(), start)
        await first.ready.wait()
        await second.ready.wait()
        assert (await asked(here, f"/calls/{CALL_SID}/hang-up", "POST"))[0] == 202
        await here.until_over()
        assert set(here.endings) == {"operator_hung_up"}

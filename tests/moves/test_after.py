"""`/twiml/after` of a call that another process has had, or whose stream was cut: by HTTP."""

from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
import trio
from rig_after import WORD, after, announced, dead, record, server, started, store
from rig_peers import CALL_SID, STOP, media
from rig_processes import ME
from rig_server import answer_in, talk

from sts_trio.errors import Cause, Ending
from sts_trio.observe import events
from sts_trio.records import schema
from sts_trio.records.movable import HowEnded
from sts_trio.records.rows import Kind
from sts_trio.web.voice import _ending
from sts_trio.wire import twilio
from sts_trio.wire.deepgram import AgentAudioDone, Audio


async def test_a_call_of_a_dead_process_is_led_here_with_its_agent_and_what_it_brought(
    url: str, tmp_path: Path
) -> None:
    dead(url, parameters={"order": "7"}, agent="default")
    async with server(url, tmp_path) as here:
        status, twiml = await after(here)
        answer = answer_in(twiml)
        assert status == 200
        assert answer.parameters["order"] == "7"
        assert answer.parameters["moved"].startswith("recovered 11 ")
        assert "/twiml/after#rc=5" in twiml


async def test_of_two_that_are_asked_at_once_both_lead_to_the_one_that_has_it(
    url: str, tmp_path: Path
) -> None:
    dead(url)
    async with server(url, tmp_path) as here:
        answers: list[tuple[int, str]] = []

        async def ask() -> None:
            answers.append(await after(here))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        assert [status for status, _ in answers] == [200, 200]
        assert all(answer_in(twiml) for _, twiml in answers)
    assert len([row for row in record(url).events if row.kind is Kind.MOVED]) == 1


async def test_another_accounts_call_is_not_gone_on_with(url: str, tmp_path: Path) -> None:
    dead(url)
    async with server(url, tmp_path) as here:
        _, twiml = await after(here, AccountSid="AC2")
    assert "<Say>" in twiml
    assert record(url).call.state == "live"


async def test_what_nobody_signed_claims_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    dead(url)
    async with server(url, tmp_path, TWILIO_AUTH_TOKEN="12345") as here:
        for signature in ({}, {"X-Twilio-Signature": "Zm9yZ2Vk"}):
            assert (await after(here, signature))[0] == 403
    assert record(url).call.state == "live"


@pytest.mark.parametrize(
    ("ending", "apologised", "verb"),
    [("hung_up", False, "<Hangup"), ("shutdown", True, "<Hangup"), ("crashed", False, "<Say>")],
)
async def test_what_ended_elsewhere_is_over_as_it_was(
    ending: str, apologised: bool, verb: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    story = dead(url)
    row = story.tell(Kind.ENDED, ending=ending, verdict="ours", apologised=apologised)
    with store(url) as kept:
        kept.write([row])
    async with server(url, tmp_path) as here:
        _, twiml = await after(here)
    assert f"<Response>{verb}" in twiml.replace("\n", "")


async def test_poison_is_given_to_nobody(url: str, tmp_path: Path) -> None:
    dead(url)
    with store(url) as kept:
        seen = kept.look(CALL_SID)
        assert seen is not None
        kept.claim(seen, "p2", is_crash=True, road="action")
        with kept.database.writing() as connection:
            connection.execute(sa.update(schema.call).values(claimed_until=0.0, state="live"))
    async with server(url, tmp_path) as here:
        _, twiml = await after(here)
        assert "<Say>" in twiml
        [line] = [each for each in here.logs if each["event"] == events.CallBrokenOff.NAME]
    assert "two processes" in line["reason"]


async def test_who_drains_has_twilio_ask_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    dead(url)
    async with server(url, tmp_path) as here:
        here.app.live_calls.drain()
        assert (await after(here))[0] == 503
    assert record(url).call.state == "live"


async def test_who_is_full_leads_a_call_to_the_process_with_the_most_room(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which goes on with it: it is claimed in its name, so that nobody else does meanwhile."""
    dead(url)
    rooms = {"a-2": ("ready", 4), "a-3": ("ready", 2), "a-4": ("full", 0), "a-5": ("draining", 0)}
    async with server(url, tmp_path) as here:
        monkeypatch.setattr(here.app.live_calls, "_max_calls", 0)
        _, twiml = await after(here)
        assert "<Stream" not in twiml  # the only other one has just died, whatever its row says
        with store(url) as kept:
            for name, (state, live) in rooms.items():
                told = {"name": name, "state": state, "live": live, "capacity": 5}
                kept.beat(msgspec.structs.replace(ME, process_id=name, **told))
        moved_calls = here.app.server.moved_calls
        assert moved_calls is not None
        while moved_calls.with_most_room(ME.process_id) is None:  # noqa: ASYNC110
            await trio.sleep(0.02)
        _, twiml = await after(here)
    assert "/twilio/at/a-3/" in twiml
    with store(url) as kept:
        seen = kept.look(CALL_SID)
    assert seen is not None
    assert (seen.state, seen.claimed_by) == ("moving", "a-3")


# --- a stream that was cut ------------------------------------------------------------------------


@pytest.mark.parametrize("database", ["sqlite", "none"])
async def test_a_stream_that_was_cut_is_led_back_to_the_same_agent(
    database: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}" if database == "sqlite" else "none"
    async with server(url, tmp_path) as here:
        first = await announced(here)
        async with here.phone(path=first.path) as phone:
            await phone.tell(twilio.Connected(), started(first.parameters), media())
            await here.agent.ready.wait()
            await here.agent.say(Audio(WORD), AgentAudioDone())
            await phone.play_until(lambda audio: audio == WORD)
            await phone.reset()
        _, twiml = await after(here)
        again = answer_in(twiml)
        async with here.phone(path=again.path) as phone:
            await phone.tell(twilio.Connected(), started(again.parameters, "MZnew"))
            await here.agent.say(Audio(WORD * 2))
            await phone.play_until(lambda audio: len(audio) >= len(WORD * 2))
            assert here.agent.closed is None
            await phone.tell(msgspec.structs.replace(STOP, stream_sid="MZnew"))
            assert await phone.play_until_closed() == 1000
        await here.until_over()
    assert here.endings == ["stop"]
    settings = [each for each in here.agent.got if type(each).__name__ == "Settings"]
    assert len(settings) == 1
    if url != "none":
        assert [stream.how for stream in record(url).streams] == ["first", "returned"]


async def test_a_caller_who_hung_up_meanwhile_is_not_waited_for(tmp_path: Path) -> None:
    async with server("none", tmp_path) as here:
        first = await announced(here)
        async with here.phone(path=first.path) as phone:
            await phone.tell(twilio.Connected(), started(first.parameters), media())
            await here.agent.ready.wait()
            await phone.reset()
        _, twiml = await after(here, CallStatus="completed")
        assert "<Stream" not in twiml
        await here.until_over()
    assert here.endings == ["caller_lost"]


async def test_a_bins_call_is_over_when_its_stream_is_cut(tmp_path: Path) -> None:
    async with server("none", tmp_path) as here:
        async with here.phone() as phone:
            await talk(here, phone)
            await phone.reset()
        await here.until_over()
    assert here.endings == ["caller_lost"]


def test_an_ending_of_a_newer_version_is_none_that_this_one_knows() -> None:
    assert _ending(HowEnded("vanished", "why", apologised=True)) == Ending(
        Cause.CUT_OFF, "why", apologised=True
    )

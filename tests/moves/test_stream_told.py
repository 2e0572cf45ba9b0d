"""`/twiml/stream`: what becomes of a call's stream is told, for when nobody is asked."""

from pathlib import Path

import msgspec
import pytest
import trio
import trio.lowlevel
from rig_after import ON, WORD, after, announced, dead, record, server, started, store
from rig_peers import CALL_SID, STOP, STREAM_SID, media
from rig_processes import ME
from rig_rest import ACCOUNT, TOKEN, FakeAccount
from rig_server import World, answer_in

from sts_trio.moves import lookout
from sts_trio.records.rows import Kind
from sts_trio.wire import twilio, webhook
from sts_trio.wire.deepgram import AgentAudioDone, Audio

TWILIO = {"TWILIO_AUTH_TOKEN": TOKEN, "TWILIO_ACCOUNT_SID": ACCOUNT}
STREAM_ERROR = {"StreamSid": STREAM_SID, "StreamEvent": "stream-error", "StreamError": "lost"}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "GRACE", 0.0)


async def told(here: World, *, path: str = "/twiml/stream", **fields: str) -> tuple[int, str]:
    """As Twilio signs it."""
    form = ON | STREAM_ERROR | fields
    url = f"http://127.0.0.1:{here.address[1]}{path}"
    signed = {"X-Twilio-Signature": webhook.sign(TOKEN, url, form)}
    return await after(here, signed, path=path, **(STREAM_ERROR | fields))


async def asked_for(here: World) -> FakeAccount:
    """The account, once it has been had to ask."""
    account = here.app.server.twilio
    assert isinstance(account, FakeAccount)
    while not account.sent:  # noqa: ASYNC110
        await trio.sleep(0.01)
    return account


async def until_looked_after(here: World) -> None:
    """Nothing is under way of what was told."""
    moved_calls = here.app.server.moved_calls
    assert moved_calls is not None
    while moved_calls.lookout._heard:  # noqa: ASYNC110
        await trio.sleep(0.01)


@pytest.mark.usefixtures("at_once")
async def test_a_stream_that_is_told_lost_has_its_call_asked_about_and_led_here(
    url: str, tmp_path: Path
) -> None:
    dead(url)
    async with server(url, tmp_path, **TWILIO) as here:
        here.app.server.twilio = FakeAccount()
        assert await told(here) == (204, "")
        account = await asked_for(here)
        [(call_sid, address)] = account.sent
        assert (call_sid, account.accounts) == (CALL_SID, ["AC1"])
        path = address.partition("#")[0].removeprefix(f"http://127.0.0.1:{here.address[1]}")
        assert path == "/twiml/after?rescued=1"
        assert (await told(here))[0] == 204  # once more, which changes nothing
        status, twiml = await told(here, path=path)
        assert status == 200
        assert answer_in(twiml).parameters["moved"].startswith("recovered 11 ")
        assert "/twiml/stream" in twiml
        await trio.lowlevel.checkpoint()
        assert len(account.sent) == 1
    moves = [row.body for row in record(url).events if row.kind is Kind.MOVED]
    assert [each["road"] for each in moves] == ["stream"]


@pytest.mark.usefixtures("at_once")
async def test_two_roads_at_once_have_one_claim(url: str, tmp_path: Path) -> None:
    dead(url)
    async with server(url, tmp_path, **TWILIO) as here:
        here.app.server.twilio = FakeAccount()
        answers: list[tuple[int, str]] = []

        async def ask(path: str) -> None:
            answers.append(await told(here, path=path))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "/twiml/stream")
            nursery.start_soon(ask, "/twiml/after")
        await until_looked_after(here)
        assert sorted(status for status, _ in answers) == [200, 204]
        [twiml] = [twiml for status, twiml in answers if status == 200]
        assert answer_in(twiml).parameters["moved"].split(" ")[:2] == ["recovered", "11"]
    assert len([row for row in record(url).events if row.kind is Kind.MOVED]) == 1


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("case", ["moved by after", "no credentials", "started", "unsigned"])
async def test_what_a_stream_tells_is_answered_and_mostly_nothing_more(
    case: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    dead(url)
    async with server(url, tmp_path, **TWILIO) as here:
        account = here.app.server.twilio = FakeAccount(
            ACCOUNT if case != "no credentials" else None
        )
        if case == "moved by after":
            assert (await told(here, path="/twiml/after"))[0] == 200
        event = "stream-started" if case == "started" else "stream-stopped"
        if case == "unsigned":
            assert (await after(here, path="/twiml/stream"))[0] == 403
        else:
            assert (await told(here, StreamEvent=event)) == (204, "")
        await until_looked_after(here)
        assert account.sent == []
    assert record(url).call.state == ("moving" if case == "moved by after" else "live")


# --- replayed -------------------------------------------------------------------------------------


async def lives(stream: trio.SocketStream) -> None:
    """The process that has the call, as its address answers."""
    await stream.receive_some()
    body = b'{"status": "ok", "process": "p1"}'
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await stream.aclose()


async def test_what_twilio_asked_before_moves_no_call_that_lives_elsewhere(
    url: str, tmp_path: Path
) -> None:
    """Its signature is good for ever. What is answered leads to where the call is."""
    dead(url)
    async with server(url, tmp_path, **TWILIO) as here, trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, lives, [listener])
        address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        with store(url) as kept:
            kept.beat(msgspec.structs.replace(ME, address=address))
        for _ in range(2):
            status, twiml = await told(here, path="/twiml/after")
            assert status == 200
            assert answer_in(twiml).path.startswith(f"/twilio/at/{ME.name}/")
        assert here.app.live_calls.live == 0
        assert here.agent.got == []
        nursery.cancel_scope.cancel()
    call = record(url).call
    assert (call.state, call.process_id, call.epoch, call.moves) == ("live", "p1", 10, 0)
    assert [row for row in record(url).events if row.kind is Kind.MOVED] == []


async def test_what_twilio_asked_before_disturbs_no_call_that_is_here(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    async with server(url, tmp_path) as here:
        first = await announced(here)
        async with here.phone(path=first.path) as phone:
            await phone.tell(twilio.Connected(), started(first.parameters), media())
            await here.agent.ready.wait()
            assert (await after(here))[0] == 200
            await here.agent.say(Audio(WORD), AgentAudioDone())
            await phone.play_until(lambda audio: audio == WORD)
            await phone.tell(STOP)
            assert await phone.play_until_closed() == 1000
        await here.until_over()
    assert here.endings == ["stop"]
    assert [stream.how for stream in record(url).streams] == ["first"]

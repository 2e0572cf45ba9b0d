"""What a server keeps of its calls, from the webhook's answer to the end, on both databases."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
import trio
from limits import HANG
from rig_peers import CALL_SID, STOP, STREAM_SID
from rig_postgresql import Cluster
from rig_server import PROMISE, Answer, World, answer_in, talk, world
from telephone import speaks

from sts_trio.records import schema
from sts_trio.records.database import Database
from sts_trio.records.process_state import LOST_AFTER
from sts_trio.records.record import CallRow, Record
from sts_trio.records.search import Wanted
from sts_trio.records.store import Store
from sts_trio.wire import deepgram, twilio

FROM, TO = "+15005550001", "+15005550006"
VOICE = {"CallSid": CALL_SID, "From": FROM, "To": TO, "Direction": "inbound"}


def keeping(url: str, tmp_path: Path) -> AbstractAsyncContextManager[World]:
    spool = str(tmp_path / "spool")
    return world(tmp_path, STS_DATABASE_URL=url, STS_SPOOL=spool)


async def asked(here: World, path: str, fields: dict[str, str] | None = None) -> tuple[int, str]:
    """What the server answers to a form, or to a GET."""

    def ask() -> tuple[int, str]:
        connection = http.client.HTTPConnection(*here.address, timeout=HANG)
        headers = {name.decode(): value.decode() for name, value in here.key}
        if fields is None:
            connection.request("GET", path, headers=headers)
        else:
            headers["content-type"] = "application/x-www-form-urlencoded"
            connection.request("POST", path, urlencode(fields), headers)
        response = connection.getresponse()
        told = response.status, response.read().decode()
        connection.close()
        return told

    return await trio.to_thread.run_sync(ask)


async def announced(here: World, **fields: str) -> Answer:
    status, twiml = await asked(here, "/twiml", VOICE | fields)
    assert status == 200
    return answer_in(twiml)


def started(answer: Answer) -> twilio.Start:
    return twilio.Start(
        twilio.StreamStart(
            stream_sid=STREAM_SID,
            call_sid=CALL_SID,
            account_sid="AC1",
            custom_parameters=answer.parameters,
        ),
        stream_sid=STREAM_SID,
    )


def kept(url: str, call_sid: str = CALL_SID) -> Record:
    database = Database(url)
    database.open()
    record = Store(database).record(call_sid)
    database.close()
    assert record is not None
    return record


def all_kept(url: str) -> list[CallRow]:
    database = Database(url)
    database.open()
    calls = Store(database).calls(Wanted()).calls
    database.close()
    return calls


async def test_a_call_is_kept_from_its_announcement_to_its_end(url: str, tmp_path: Path) -> None:
    async with keeping(url, tmp_path) as here:
        answer = await announced(here)
        async with here.phone(path=answer.path) as phone:
            await phone.tell(twilio.Connected(), started(answer))
            await here.agent.ready.wait()
            told = speaks("Three of them.", b"\x11" * 1600)
            await here.agent.say(
                deepgram.ConversationText("user", "What cars do you have?"),
                *(message for _, message in told),  # type: ignore[arg-type]
            )
            await phone.play_until(lambda audio: audio == b"\x11" * 1600)
            await phone.tell(STOP)
            assert await here.until_over() < PROMISE
    record = kept(url)
    call = record.call
    assert (call.from_, call.to, call.agent, call.source) == (FROM, TO, "default", "webhook")
    assert (call.state, call.ending, call.verdict) == ("ended", "stop", "success")
    assert call.answered_at is not None
    assert call.ended_at is not None
    assert call.created_at <= call.answered_at <= call.ended_at
    assert call.summary is not None
    assert call.summary["hung_up_by"] == "caller"
    assert ("caller", "What cars do you have?") in [(t.role, t.said) for t in record.turns]
    assert "Three of them." in [turn.said for turn in record.turns]
    assert [each.stream_sid for each in record.streams] == [STREAM_SID]
    [session] = record.sessions
    assert session.agent == "default"
    assert re.fullmatch("[0-9a-f]{12}", session.version)


async def test_a_call_that_is_announced_is_kept_before_its_stream_comes(
    url: str, tmp_path: Path
) -> None:
    async with keeping(url, tmp_path) as here:
        await announced(here)
    [call] = all_kept(url)
    assert (call.call_sid, call.state, call.from_) == (CALL_SID, "announced", FROM)


async def test_a_call_for_which_there_is_no_room_is_kept(url: str, tmp_path: Path) -> None:
    async with keeping(url, tmp_path) as here:
        here.app.live_calls.drain()
        status, twiml = await asked(here, "/twiml", VOICE)
        assert (status, "Reject" in twiml) == (200, True)
    [call] = all_kept(url)
    assert (call.state, call.ending, call.verdict, call.detail) == (
        "ended",
        "refused",
        "ours",
        "draining",
    )


@pytest.mark.parametrize("status", ["busy", "no-answer", "failed", "canceled"])
async def test_a_call_of_ours_that_nobody_took_is_kept(tmp_path: Path, status: str) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    async with keeping(url, tmp_path) as here:
        outbound = VOICE | {"Direction": "outbound-api", "CallStatus": status}
        assert (await asked(here, "/twiml/status", outbound))[0] == 204
    [call] = all_kept(url)
    assert (call.state, call.ending) == ("ended", status)


async def test_an_agent_that_cannot_be_had_is_in_the_record(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"

    async def refusing(stream: trio.SocketStream) -> None:
        await stream.aclose()

    spool = str(tmp_path / "spool")
    async with world(tmp_path, serve_agent=refusing, STS_DATABASE_URL=url, STS_SPOOL=spool) as here:
        answer = await announced(here)
        async with here.phone(path=answer.path) as phone:
            await phone.tell(twilio.Connected(), started(answer))
            await phone.play_until_closed()
            await here.until_over()
    record = kept(url)
    assert (record.call.state, record.call.verdict) == ("ended", "agent")
    assert (record.call.ending or "").startswith("agent_")


async def test_a_stream_that_a_bin_has_started_is_kept(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    async with keeping(url, tmp_path) as here, here.phone() as phone:
        await talk(here, phone)
        await phone.tell(STOP)
        await here.until_over()
    record = kept(url)
    assert (record.call.source, record.call.agent) == ("bin", "default")
    assert [each.agent for each in record.sessions] == ["default"]


async def test_ready_tells_how_the_records_are(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    async with keeping(url, tmp_path) as here:
        await announced(here)
        while True:
            status, body = await asked(here, "/readyz")
            told: dict[str, Any] = json.loads(body)["records"]
            if not told["waiting"]:
                break
    assert (status, told["status"], told["lost"]) == (200, "ok", 0)
    assert "calls.db" not in body


async def test_with_none_nothing_is_kept_and_nothing_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with keeping("none", tmp_path) as here:
        await announced(here)
        _, body = await asked(here, "/readyz")
        assert set(json.loads(body)) == {"status", "live"}
    assert os.listdir(tmp_path) == []


async def test_a_database_that_goes_away_hurts_no_call(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    url = own_cluster.create()
    async with keeping(url, tmp_path) as here:
        answer = await announced(here)
        async with here.phone(path=answer.path) as phone:
            await phone.tell(twilio.Connected(), started(answer))
            await here.agent.ready.wait()
            await trio.to_thread.run_sync(own_cluster.stop, "immediate")
            try:
                await here.agent.say(deepgram.Audio(b"\x11" * 1600))
                await phone.play_until(lambda audio: audio == b"\x11" * 1600)
                await phone.tell(STOP)
                assert await here.until_over() < PROMISE
                while True:
                    told = json.loads((await asked(here, "/readyz"))[1])["records"]
                    if told["status"] == "behind":
                        break
                assert told["waiting"] > 0
                assert str(own_cluster.directory) not in str(told)
            finally:
                await trio.to_thread.run_sync(own_cluster.start)
            while told["status"] != "ok":
                told = json.loads((await asked(here, "/readyz"))[1])["records"]
    assert kept(url).call.ending == "stop"


# --- a process of its own -----------------------------------------------------------------------


@contextmanager
def serving(directory: Path, **environ: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`sts-trio serve`, and where it listens. It is killed in the end, if it lives."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("STS_", "TWILIO_", "DEEPGR"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "sts_trio", "serve", "--port", "0"],
        cwd=directory,
        env={**kept, "STS_AGENT": "offline", "STS_OFFLINE_MODE": "scripted", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if "/?key=" in line:
                break
        found = re.search(r"(http://127\.0\.0\.1:\d+)/\?key=([\w-]+)", "".join(lines))
        yield process, "" if found is None else f"{found[1]} {found[2]}"
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def announce_to(where: str) -> None:
    base, key = where.split()
    request = urllib.request.Request(
        f"{base}/twiml", urlencode(VOICE).encode(), {"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(request, timeout=HANG) as response:
        assert response.status == 200


def long_ago(url: str) -> None:
    """Has who last told of itself have done so before those that others may go on with."""
    database = Database(url)
    database.open()
    with database.writing() as connection:
        before = schema.process.c.heartbeat_at - LOST_AFTER
        connection.execute(sa.update(schema.process).values(heartbeat_at=before))
    database.close()


def until_kept(file: Path, state: str) -> None:
    """The one call has that state. Another process does it: it should have the machine."""
    until = time.monotonic() + HANG
    while not file.exists() or [call.state for call in all_kept(f"sqlite:///{file}")] != [state]:
        assert time.monotonic() < until
        time.sleep(0.2)


def test_calls_of_a_server_that_was_killed_are_lost_at_the_next_start(tmp_path: Path) -> None:
    """By default: a file in the working directory, which nobody had to set up."""
    file = tmp_path / "sts-trio.db"
    url = f"sqlite:///{file}"
    with serving(tmp_path) as (process, where):
        announce_to(where)
        until_kept(file, "announced")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [call.state for call in all_kept(url)] == ["announced"]
    long_ago(url)
    with serving(tmp_path):
        until_kept(file, "lost")
    [call] = all_kept(url)
    assert (call.ending, call.verdict, call.from_) == ("lost", "ours", FROM)


def test_a_database_that_cannot_be_used_is_one_line_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "sts-trio.db").write_bytes(b"GIF89a" * 1000)
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("STS_", "TWILIO_"))}
    ran = subprocess.run(
        [sys.executable, "-m", "sts_trio", "serve", "--port", "0"],
        cwd=tmp_path,
        env={**environ, "STS_AGENT": "offline"},
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert ran.returncode == 2
    last = ran.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: STS_DATABASE_URL: sqlite:///sts-trio.db cannot be used: ")
    assert "Traceback" not in ran.stderr

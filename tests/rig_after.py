"""A server that is asked about a call that another process has had."""

import http.client
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import trio
from call_stories import Story
from limits import HANG
from rig_peers import CALL_SID, STREAM_SID
from rig_processes import ME
from rig_server import World, answer_in, world

from sts_trio.records.database import Database
from sts_trio.records.record import Record
from sts_trio.records.store import Store
from sts_trio.wire import twilio

WORD = b"\x11" * 1600

ON = {"CallSid": CALL_SID, "AccountSid": "AC1", "CallStatus": "in-progress", "From": "+15005550001"}


def server(url: str, tmp_path: Path, **environ: Any) -> AbstractAsyncContextManager[World]:
    spool = str(tmp_path / "spool")
    return world(tmp_path, STS_DATABASE_URL=url, STS_SPOOL=spool, **environ)


@contextmanager
def store(url: str) -> Iterator[Store]:
    database = Database(url)
    database.open()
    try:
        yield Store(database)
    finally:
        database.close()


def dead(url: str, **body: Any) -> Story:
    """A call of a process whose port refuses."""
    story = Story(CALL_SID).announce(account="AC1", **body).start().talk()
    with store(url) as kept:
        kept.write(story.rows)
        kept.beat(msgspec.structs.replace(ME, address="127.0.0.1:1"))
    return story


def record(url: str) -> Record:
    with store(url) as kept:
        found = kept.record(CALL_SID)
    assert found is not None
    return found


async def after(
    here: World,
    headers: dict[str, str] | None = None,
    path: str = "/twiml/after",
    **fields: str,
) -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        connection = http.client.HTTPConnection(*here.address, timeout=HANG)
        given = {name.decode(): value.decode() for name, value in here.key} | (headers or {})
        given["content-type"] = "application/x-www-form-urlencoded"
        connection.request("POST", path, urlencode(ON | fields), given)
        response = connection.getresponse()
        told = response.status, response.read().decode()
        connection.close()
        return told

    return await trio.to_thread.run_sync(ask)


def started(parameters: dict[str, str], stream_sid: str = STREAM_SID) -> twilio.Start:
    start = twilio.StreamStart(stream_sid, CALL_SID, "AC1", custom_parameters=parameters)
    return twilio.Start(start, stream_sid=stream_sid)


async def announced(here: World) -> Any:
    def ask() -> str:
        connection = http.client.HTTPConnection(*here.address, timeout=HANG)
        headers = {name.decode(): value.decode() for name, value in here.key}
        headers["content-type"] = "application/x-www-form-urlencoded"
        connection.request("POST", "/twiml", urlencode(ON | {"CallStatus": "ringing"}), headers)
        twiml = connection.getresponse().read().decode()
        connection.close()
        return twiml

    return answer_in(await trio.to_thread.run_sync(ask))

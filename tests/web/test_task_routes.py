"""`/tasks`, on the page and as `sts-trio tasks` prints it."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from rig_commands import failure, run
from rig_peers import CALL_SID, STOP
from rig_server import World, talk, world

from sts_trio.config import local_key

TOKEN = "x" * 32


async def get(here: World, path: str, token: str = TOKEN) -> tuple[int, list[Any]]:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}"]
    async with await trio.open_tcp_stream(*here.address) as stream:
        await stream.send_all("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        received = b""
        while piece := await stream.receive_some(65536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    return status, [json.loads(line) for line in body.splitlines()] if status == 200 else []


async def test_the_tasks_of_a_call_stand_below_its_own(tmp_path: Path) -> None:
    async with world(tmp_path, STS_ADMIN_TOKEN=TOKEN) as here, here.phone() as phone:
        await talk(here, phone)
        status, tasks = await get(here, f"/calls/{CALL_SID}/tasks")
        assert status == 200
        assert (tasks[0]["depth"], tasks[0]["call_sid"]) == (0, CALL_SID)
        below = {task["name"] for task in tasks[1:]}
        assert {"bridge.run.Bridge._run_caller", "bridge.run.Bridge._run_agent"} <= below
        assert all(task["depth"] > 0 for task in tasks[1:])
        _, everything = await get(here, "/tasks")
        [call] = [task for task in everything if task["call_sid"] == CALL_SID]
        assert call["depth"] > 0
        assert len(everything) > len(tasks)
        assert (await get(here, "/calls/CA-other/tasks"))[0] == 404
        assert (await get(here, "/tasks", "wrong"))[0] == 401
        await phone.tell(STOP)
        await here.until_over()


async def test_the_command_prints_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STS_ADMIN_TOKEN", TOKEN)
    async with world(tmp_path, STS_ADMIN_TOKEN=TOKEN) as here, here.phone() as phone:
        await talk(here, phone)
        url = f"http://127.0.0.1:{here.address[1]}"

        async def printed(*arguments: str) -> str:
            found = await trio.to_thread.run_sync(run, "tasks", "--url", url, *arguments)
            assert found.exit_code == 0, found.output
            return str(found.stdout)

        told = (await printed(CALL_SID)).splitlines()
        assert f"call {CALL_SID}" in told[0]
        assert "sleep_forever for over 0.5 s" in told[1]  # its own task is its timer
        assert "Alarm.wait (bridge/alarm.py:" in told[1]
        place = [line.strip() for line in told].index("bridge.run.Bridge._run_caller")
        assert told[place].startswith("  ")
        everything = [json.loads(line) for line in (await printed("--json")).splitlines()]
        assert everything[0]["depth"] == 0
        for name in ("CA-other", "a b/?"):
            other = await trio.to_thread.run_sync(
                partial(failure, "tasks", name, "--url", url, code=1)
            )
            assert "404" in other
        await phone.tell(STOP)
        await here.until_over()


def test_where_nobody_is_the_command_says_so() -> None:
    assert "nobody is there" in failure("tasks", "--url", "http://127.0.0.1:1", code=1)
    assert local_key.find(("127.0.0.1", 1)) is None

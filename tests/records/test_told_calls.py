"""Whole calls, and who is told of their ends: a receiver over HTTP, and the user's own code."""

import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import structlog
import trio
import trio.testing
from limits import HANG
from rig_app import make_app
from standardwebhooks import Webhook

from sts_trio.errors import ConfigError
from sts_trio.observe import events
from sts_trio.records.database import Database
from sts_trio.records.deliveries import DELIVERED, Deliveries
from sts_trio.testing import call, running, scripted_agent

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


pytestmark = pytest.mark.usefixtures("quiet")


class Receiver:
    """Over HTTP, on this machine. The first answers are as they are told, then it takes all."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.posts: list[tuple[dict[str, str], str]] = []
        self.url = ""
        self.taken = trio.Event()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/calls"
            nursery.start_soon(trio.serve_listeners, self._take, [listener])
            yield
            nursery.cancel_scope.cancel()

    async def _take(self, stream: trio.SocketStream) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += bytes(await stream.receive_some())
        head, _, body = received.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")[1:]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        while len(body) < int(headers["content-length"]):
            body += bytes(await stream.receive_some())
        status = self.statuses.pop(0) if self.statuses else 200
        await stream.send_all(b"HTTP/1.1 %d Whatever\r\n\r\n" % status)
        await stream.aclose()
        self.posts.append((headers, body.decode()))
        if status == 200:
            self.taken.set()


async def until(condition: Callable[[], bool]) -> None:
    # What happens in a thread sets no event.
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.01)


def settings(tmp_path: Path, **others: str) -> dict[str, str]:
    return {"STS_DATABASE_URL": f"sqlite:///{tmp_path / 'calls.db'}", **others}


async def test_a_receiver_is_told_of_a_call_that_has_ended(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """It takes it at the second attempt."""
    receiver = Receiver(503)
    async with receiver.serving():
        told = settings(tmp_path, STS_WEBHOOK_URL=receiver.url, STS_WEBHOOK_SECRET=SECRET)
        async with scripted_agent("Fine.") as agent, running(told, agent=agent) as server:
            report = await call(server.url, [b"\x11\x91" * 8000])
            with trio.fail_after(3600):
                await receiver.taken.wait()
    [(first, body), (second, again)] = receiver.posts
    assert body == again
    assert first["webhook-id"] == second["webhook-id"]
    Webhook(SECRET).verify(body, second)
    data = json.loads(body)["data"]
    assert data["call"]["call_sid"] == report.call_sid
    assert data["call"]["ending"] == "stop"
    assert "Fine." in [turn["said"] for turn in data["turns"]]


async def test_what_was_not_told_is_told_by_the_next_process(tmp_path: Path) -> None:
    receiver = Receiver()
    async with receiver.serving():
        url = receiver.url
    # Nobody is there.
    told = settings(tmp_path, STS_WEBHOOK_URL=url, STS_WEBHOOK_SECRET=SECRET)
    async with scripted_agent("Fine.") as agent, running(told, agent=agent) as server:
        await call(server.url, [b"\x11\x91" * 800])
        await server.app.live_calls.empty()
    database = Database(told["STS_DATABASE_URL"])
    database.open()
    deliveries = Deliveries(database)
    [waiting] = deliveries.all(["waiting"])
    deliveries.settle_failed(waiting.webhook_id, 0.0)  # it is due again
    async with receiver.serving():
        told["STS_WEBHOOK_URL"] = receiver.url
        async with running(told):
            with trio.fail_after(HANG):
                await receiver.taken.wait()
                await until(lambda: bool(deliveries.all([DELIVERED])))
    database.close()


async def test_a_url_that_leads_inside_is_one_line_at_the_start(tmp_path: Path) -> None:
    url = "https://169.254.169.254/latest?key=hidden"
    told = settings(tmp_path, STS_AGENT="offline", STS_WEBHOOK_URL=url, STS_WEBHOOK_SECRET=SECRET)
    app = make_app(tmp_path, **told)
    with pytest.raises(
        ConfigError, match=r"^STS_WEBHOOK_URL: 169\.254\.169\.254 leads to "
    ) as told_:
        await app.server.open_records()
    assert "hidden" not in str(told_.value)


MODULE = """
import trio
from sts_trio import function
from sts_trio.records.record import Record

ended = []

@function
def opening_hours() -> str:
    "When we are open."
    return "nine to five"

async def on_call_ended(record: Record) -> None:
    ended.append((record.call.call_sid, record.call.ending))
    raise ValueError("but this")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = "ended_calls_of_a_test"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


async def test_the_users_own_code_is_called_when_a_call_has_ended(
    tmp_path: Path, module: str
) -> None:
    told = settings(tmp_path, STS_FUNCTIONS=f"{module},{module}:opening_hours")
    async with scripted_agent("Fine.") as agent, running(told, agent=agent) as server:
        report = await call(server.url, [b"\x11\x91" * 800])
        await server.app.live_calls.empty()
        ended = sys.modules[module].ended
        with trio.fail_after(HANG):
            await until(lambda: bool(ended))
    assert ended == [(report.call_sid, "stop")]


def test_a_module_may_have_a_hook_and_no_functions(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text("def on_call_ended(record): ...\n")
    make_app(tmp_path, STS_AGENT="offline", STS_FUNCTIONS=module)


async def test_the_last_hooks_are_called_before_the_server_stops(
    tmp_path: Path, module: str
) -> None:
    app = make_app(tmp_path, STS_AGENT="offline", **settings(tmp_path, STS_FUNCTIONS=module))
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            await nursery.start(app.server.run)
            assert app.server.records is not None
            from sts_trio.call.info import CallInfo

            app.server.refuse(CallInfo(call_sid="CA1"))
            await app.server.stop()
    assert sys.modules[module].ended == [("CA1", "refused")]


def test_a_hook_that_cannot_be_called_is_one_line_at_the_start(tmp_path: Path, module: str) -> None:
    source = (tmp_path / f"{module}.py").read_text()
    (tmp_path / f"{module}.py").write_text(source.replace("(record: Record)", "()"))
    with pytest.raises(ConfigError, match="on_call_ended: expected a function of one argument"):
        make_app(tmp_path, STS_AGENT="offline", STS_FUNCTIONS=module)


async def test_a_hook_without_a_database_is_warned_of(tmp_path: Path, module: str) -> None:
    app = make_app(tmp_path, STS_AGENT="offline", STS_FUNCTIONS=module)
    with structlog.testing.capture_logs() as logs, trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            await nursery.start(app.server.run)
            await app.server.stop()
    warnings = [log["warning"] for log in logs if log["event"] == events.ConfigWarning.NAME]
    assert any(each.startswith("on_call_ended takes a database") for each in warnings)

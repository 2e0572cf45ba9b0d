"""The page's routes: what they tell, to whom, and that nobody's calls wait for who reads it."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import structlog
import trio
import trio.testing
from limits import HANG
from rig_app import ROUTES, key
from rig_peers import CALL_SID, START, STOP, FakeAgent, FakeTwilio, Lines, dial

from sts_trio.bridge.run import Bridge
from sts_trio.config import load
from sts_trio.errors import Cause
from sts_trio.logic.dialogue import Dialogue
from sts_trio.net import hypercorn_guard
from sts_trio.observe import events
from sts_trio.observe.feed import EventFeed, call_event
from sts_trio.offline.mode import Mode
from sts_trio.web import page as routes
from sts_trio.web.app import App, create_app
from sts_trio.web.files import Files
from sts_trio.wire import deepgram, deepgram_settings

TOKEN = "operators-own"
HERE = ("127.0.0.1", 5)
ELSEWHERE = ("192.0.2.7", 5)
BEARER = {"authorization": f"Bearer {TOKEN}"}


def basic(password: str, name: str = "anybody") -> dict[str, str]:
    credentials = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"authorization": f"Basic {credentials}"}


def make_app(tmp_path: Path, **environ: str) -> App:
    return create_app(load({"STS_AGENT": "offline"} | environ, tmp_path))


class Browser:
    """One request, spoken as ASGI. Quart's client waits for the end of streams, which have none."""

    def __init__(
        self,
        path: str,
        method: str,
        client: tuple[str, int],
        headers: dict[str, str],
        scheme: str,
    ) -> None:
        plain, _, query = path.partition("?")
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"spec_version": "2.1"},
            "http_version": "1.1",
            "method": method,
            "scheme": scheme,
            "path": unquote(plain),
            "raw_path": plain.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [
                (name.encode(), value.encode("latin-1"))
                for name, value in ({"host": "localhost"} | headers).items()
            ],
            "client": client,
            "server": ("localhost", 80),
            "extensions": {},
        }
        self.status = 0
        self.headers: dict[str, str] = {}
        self.leave = trio.Event()
        self._sent_request = False
        self._inlet, self._outlet = trio.open_memory_channel[bytes](0)

    async def receive(self) -> dict[str, Any]:
        if not self._sent_request:
            self._sent_request = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            await trio.lowlevel.checkpoint()  # as a socket has
        elif message["body"]:
            await self._inlet.send(message["body"])

    async def read(self) -> bytes:
        """The next chunk of the body."""
        return await self._outlet.receive()


@asynccontextmanager
async def browsing(
    app: App,
    path: str,
    method: str = "GET",
    client: tuple[str, int] = HERE,
    headers: dict[str, str] | None = None,
    scheme: str = "http",
) -> AsyncIterator[Browser]:
    """When the browser leaves, so does the request. Without headers of its own, it has the key."""
    browser = Browser(path, method, client, key(app) if headers is None else headers, scheme)
    over = trio.Event()

    async def run() -> None:
        await app(browser.scope, browser.receive, browser.send)
        over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield browser
        browser.leave.set()
        with trio.fail_after(HANG):
            await over.wait()


async def ask(
    app: App,
    path: str,
    method: str = "GET",
    client: tuple[str, int] = HERE,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and the first of the body, whether that ends or not."""
    async with browsing(app, path, method, client, headers) as browser:
        body = await browser.read()
    return browser.status, browser.headers, body


async def ask_json(app: App, path: str, method: str = "GET") -> Any:
    status, _, body = await ask(app, path, method)
    assert status == 200
    return json.loads(body)


# --- who is let in --------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_who_has_the_key_is_shown_everything_as_long_as_there_is_no_phone(
    tmp_path: Path, method: str, path: str
) -> None:
    status, headers, _ = await ask(make_app(tmp_path), path, method)
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("client", "headers", "environ"),
    [
        (ELSEWHERE, {}, {}),
        (ELSEWHERE, {}, {"STS_ALLOW_UNSIGNED": "1"}),
        (HERE, {"x-forwarded-for": "192.0.2.7"}, {}),
        (HERE, {"host": "rebound.example"}, {}),
        (HERE, {"origin": "https://evil.example"}, {}),
        (HERE, {"referer": "https://evil.example/page"}, {}),
        (HERE, {"sec-fetch-site": "cross-site"}, {}),
        (HERE, {"sec-fetch-site": "same-site"}, {}),
        (HERE, {"sec-fetch-site": "cross-site", "sec-fetch-dest": "image"}, {}),
        (HERE, {"authorization": ""}, {}),
        (HERE, {"authorization": ""}, {"STS_ALLOW_UNSIGNED": "1"}),
        (HERE, {"authorization": "Bearer guessed"}, {}),
        (HERE, {}, {"TWILIO_AUTH_TOKEN": "12345"}),
        (HERE, {}, {"TWILIO_AUTH_TOKEN": "12345", "STS_ALLOW_UNSIGNED": "1"}),
        (HERE, {"authorization": "Bearer "}, {"TWILIO_AUTH_TOKEN": "12345"}),
        (HERE, basic(""), {"TWILIO_AUTH_TOKEN": "12345"}),
    ],
)
async def test_others_are_refused_and_nothing_they_send_helps(
    tmp_path: Path, client: tuple[str, int], headers: dict[str, str], environ: dict[str, str]
) -> None:
    app = make_app(tmp_path, **environ)
    for method, path in ROUTES:
        with structlog.testing.capture_logs() as logs:
            status, answered, body = await ask(app, path, method, client, key(app) | headers)
        if path in ("/", "/past") and "referer" in headers:
            assert status == 200, path  # a link to the page, which has no effect
            continue
        assert status == 403, path
        assert "www-authenticate" not in answered, path
        assert b"STS_ADMIN_TOKEN" in body, path
        assert [line["event"] for line in logs] == [events.RequestRefused.NAME], path
        assert "STS_ADMIN_TOKEN" in logs[0]["reason"], path


@pytest.mark.parametrize(
    "path", [path for _, path in ROUTES] + ["/twiml", "/twiml/amd", "/healthz"]
)
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost"])
async def test_no_page_is_told_that_it_may_ask_from_elsewhere(
    tmp_path: Path, path: str, origin: str
) -> None:
    app = make_app(tmp_path)
    asked = {"origin": origin, "access-control-request-method": "POST", "host": "localhost"}
    client = app.test_client()
    for send in (client.options, client.get, client.post):
        response = await send(path, headers=asked, scope_base={"client": HERE})
        assert [name for name, _ in response.headers if "access-control" in name.lower()] == []


@pytest.mark.parametrize("environ", [{}, {"TWILIO_AUTH_TOKEN": "12345"}])
@pytest.mark.parametrize(
    "headers", [BEARER, {"authorization": f"bearer  {TOKEN}"}, basic(TOKEN), basic(TOKEN, "")]
)
async def test_the_admin_token_opens_it_from_everywhere(
    tmp_path: Path, headers: dict[str, str], environ: dict[str, str]
) -> None:
    app = make_app(tmp_path, STS_ADMIN_TOKEN=TOKEN, **environ)
    for method, path in ROUTES:
        assert (await ask(app, path, method, ELSEWHERE, headers))[0] == 200
        behind = headers | {"x-forwarded-for": "192.0.2.7", "host": "bridge.example.com"}
        assert (await ask(app, path, method, HERE, behind))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": TOKEN},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Digest {TOKEN}"},
        {"authorization": f"Bearer {TOKEN}\u00e4"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Basic \u00e4"},
        basic("wrong"),
        basic("", TOKEN),
    ],
)
async def test_a_wrong_admin_token_is_asked_for_again(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    app = make_app(tmp_path, STS_ADMIN_TOKEN=TOKEN, TWILIO_AUTH_TOKEN="12345")
    with structlog.testing.capture_logs() as logs:
        status, answered, _ = await ask(app, "/", headers=headers)
    assert status == 401
    assert answered["www-authenticate"].startswith("Basic realm=")
    assert TOKEN not in str(logs)
    assert ("wrong admin token" if headers else "no admin token") in logs[0]["reason"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://bridge.example.com", 200),
        ("http://10.0.0.7:5000", 200),
        ("https://10.0.0.7:5000", 200),
        ("https://bridge.example.com:5000", 403),
        ("https://evil.example", 403),
        ("https://bridge.example.com.evil.example", 403),
        ("null", 403),
        ("http://[", 403),
    ],
)
async def test_a_browser_that_knows_the_token_gives_it_to_no_other_page(
    tmp_path: Path, origin: str, status: int
) -> None:
    app = make_app(
        tmp_path, STS_ADMIN_TOKEN=TOKEN, STS_PUBLIC_URL="https://Bridge.example.com:443/prefix"
    )
    headers = basic(TOKEN) | {"origin": origin, "host": "10.0.0.7:5000"}
    assert (await ask(app, "/stream-token", "POST", ELSEWHERE, headers))[0] == status


# --- the key of the run ---------------------------------------------------------------------------


NAVIGATION = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        NAVIGATION | {"sec-fetch-site": "none"},
        NAVIGATION | {"sec-fetch-site": "same-origin"},
    ],
)
@pytest.mark.parametrize("page", [("/", "./"), ("/past", "past")])
async def test_the_key_in_the_address_becomes_a_cookie_and_leaves_the_address(
    tmp_path: Path, headers: dict[str, str], page: tuple[str, str]
) -> None:
    app = make_app(tmp_path)
    host = {"host": "127.0.0.1:5000"}
    path, address = page
    status, answered, body = await ask(app, f"{path}?key={app.server.key}", headers=headers | host)
    assert (status, answered["location"]) == (303, address)
    assert answered["cache-control"] == "no-store"
    assert answered["referrer-policy"] == "no-referrer"
    assert answered["set-cookie"] == (
        f"sts_trio_key_5000={app.server.key}; Path=/; HttpOnly; SameSite=Strict"
    )
    assert (app.server.key or "").encode() not in body
    cookie = host | {"cookie": answered["set-cookie"].partition(";")[0]}
    for method, path in ROUTES:
        assert (await ask(app, path, method, headers=cookie))[0] == 200
    # The same cookie at another port is of another server.
    other = cookie | {"host": "127.0.0.1:5001"}
    assert (await ask(app, "/state", headers=other))[0] == 403


async def test_a_link_of_another_page_with_the_key_leads_to_the_page(tmp_path: Path) -> None:
    """As of a terminal in a browser. A redirection would be followed without the cookie."""
    app = make_app(tmp_path)
    headers = NAVIGATION | {"sec-fetch-site": "cross-site", "referer": "https://ide.example/"}
    status, answered, _ = await ask(app, f"/?key={app.server.key}", headers=headers)
    assert (status, answered["refresh"]) == (200, "0; url=./")
    assert "SameSite=Strict" in answered["set-cookie"]
    assert "location" not in answered


async def test_a_wrong_key_in_the_address_is_refused_and_told_what_to_do(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    for path in (
        "/",
        "/?key=",
        "/?key=guessed",
        f"/?Key={app.server.key}",
        f"/?key={app.server.key}x",
    ):
        status, answered, body = await ask(app, path, headers={})
        assert status == 403
        assert "set-cookie" not in answered
        assert b"Open the address that it told at its start" in body


async def test_the_cookie_of_a_secure_page_stays_with_secure_pages(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with browsing(app, f"/?key={app.server.key}", headers={}, scheme="https") as browser:
        await browser.read()
    cookie = f"sts_trio_key_443={app.server.key}; Path=/; HttpOnly; SameSite=Strict; Secure"
    assert browser.headers["set-cookie"] == cookie


@pytest.mark.parametrize("environ", [{}, {"TWILIO_AUTH_TOKEN": "12345"}])
async def test_who_has_the_admin_token_is_not_given_the_key(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    app = make_app(tmp_path, STS_ADMIN_TOKEN=TOKEN, **environ)
    status, answered, _ = await ask(app, "/?key=old", client=ELSEWHERE, headers=BEARER)
    assert (status, answered["location"]) == (303, "./")
    assert "set-cookie" not in answered


# --- guesses --------------------------------------------------------------------------------------


WRONG = {
    "admin token": ("/calls", {"authorization": "Bearer guessed"}),
    "password": ("/calls", basic("guessed")),
    "key": ("/calls?key=guessed", {}),
    "cookie": ("/calls", {"cookie": "sts_trio_key_80=guessed"}),
    "key of a webhook": ("/twiml?key=guessed", {}),
}


@pytest.mark.parametrize("what", WRONG)
async def test_after_ten_wrong_secrets_each_further_one_waits_a_second(
    tmp_path: Path, what: str, autojump_clock: trio.testing.MockClock
) -> None:
    app = make_app(tmp_path, STS_ADMIN_TOKEN=TOKEN)
    path, headers = WRONG[what]
    for number in range(20):
        before = trio.current_time()
        client = HERE if number % 2 or "authorization" not in headers else ELSEWHERE
        assert (await ask(app, path, client=client, headers=headers))[0] in (401, 403)
        assert trio.current_time() - before == (number >= 10)
    before = trio.current_time()
    assert (await ask(app, "/calls"))[0] == 200
    assert (await ask(app, "/calls", client=ELSEWHERE, headers=BEARER))[0] == 200
    assert (await ask(app, "/calls", headers={}))[0] == 401  # no guess
    assert trio.current_time() == before


async def test_a_flood_of_guesses_delays_nobody_else_and_holds_ten_connections(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    app = make_app(tmp_path, STS_ADMIN_TOKEN=TOKEN, TWILIO_AUTH_TOKEN="12345")
    answers: list[tuple[float, int]] = []
    retry_after = set()

    async def guess() -> None:
        status, headers, _ = await ask(app, "/", client=ELSEWHERE, headers=basic("guessed"))
        answers.append((trio.current_time(), status))
        if status == 429:
            retry_after.add(headers["retry-after"])

    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(guess)
            await trio.testing.wait_all_tasks_blocked()
            assert (await ask(app, "/", client=ELSEWHERE, headers=BEARER))[0] == 200
            assert trio.current_time() == 0
    at_once = [status for time, status in answers if time == 0]
    assert (at_once.count(401), at_once.count(429)) == (10, 180)
    assert [answer for answer in answers if answer[0]] == [(n, 401) for n in range(1, 11)]
    assert retry_after == {"10"}
    assert len(logs) == 20
    assert [line.get("guesses") for line in logs] == list(range(1, 21))


async def test_a_guess_whose_client_is_gone_holds_nothing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    app = make_app(tmp_path)
    for _ in range(10):
        await ask(app, "/", headers={"authorization": "Bearer guessed"})
    for _ in range(50):
        async with browsing(app, "/", headers={"authorization": "Bearer guessed"}):
            pass
    assert trio.current_time() == 0


# --- the page -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "script"), [("/", "page.js"), ("/past", "past.js")])
async def test_the_pages_and_all_they_ask_for_are_there(
    tmp_path: Path, path: str, script: str
) -> None:
    app = make_app(tmp_path)
    _, headers, page = await ask(app, path)
    assert headers["content-type"] == "text/html; charset=utf-8"
    for name in ("page.css", script, "icon.svg"):
        assert f'"web/{name}"'.encode() in page
        assert (await ask(app, f"/web/{name}"))[0] == 200
    for name, kind in [("page.css", "text/css"), ("call.js", "text/javascript")]:
        status, headers, _ = await ask(app, f"/web/{name}")
        assert (status, headers["content-type"]) == (200, f"{kind}; charset=utf-8")
    assert (await ask(app, "/web/icon.svg"))[1]["content-type"] == "image/svg+xml"


async def test_what_else_lies_beside_the_files_is_no_harm_and_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "static").mkdir()
    for name in ("index.html", ".DS_Store", "notes", "page.js~"):
        (tmp_path / "static" / name).write_text("x")
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    served = Files()
    assert served.get("index.html") is not None
    assert served.get(".DS_Store") is None


@pytest.mark.parametrize("name", ["nothing", "..%2ffiles.py", "%2e%2e%2ffiles.py", "index.html/"])
async def test_there_is_no_way_to_another_file(tmp_path: Path, name: str) -> None:
    assert (await ask(make_app(tmp_path), f"/web/{name}"))[0] == 404


def test_nothing_in_the_page_comes_from_elsewhere() -> None:
    directory = Path(routes.__file__).parent / "static"
    for file in directory.iterdir():
        text = file.read_text(encoding="utf-8")
        for line in text.splitlines():
            known = "http://localhost:" in line or "http://www.w3.org/2000/svg" in line
            assert known or ("//" not in line.replace(" //", "").removeprefix("//")), line
        assert Files().get(file.name) is not None


def test_the_page_has_words_for_every_ending() -> None:
    words = (Path(routes.__file__).parent / "static" / "words.js").read_text(encoding="utf-8")
    assert [cause.label for cause in Cause if f"\n  {cause.label}: " not in words] == []


# --- state, calls, tokens -------------------------------------------------------------------------


async def test_the_state_tells_who_answers_and_what_is_odd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "it takes ears to recognise words"
    monkeypatch.setattr(routes, "choose", lambda wanted: (Mode.SCRIPTED, reason))
    app = create_app(load({"STS_MAX_CALLS": "2"}, tmp_path))
    state = await ask_json(app, "/state")
    configured, missing = state.pop("warnings")
    assert "the offline agent answers" in configured
    assert missing.endswith(reason)
    assert state.pop("version")
    assert state.pop("lines")["waiting"] == 0
    assert state.pop("ticker") == {"ticks": 0, "late": 0, "worst": 0.0}
    assert state == {"agent": "offline scripted", "status": "ready", "live": 0, "max_calls": 2}
    app.live_calls.drain()
    assert (await ask_json(app, "/state"))["status"] == "draining"


async def test_the_state_of_a_server_with_a_key_names_deepgram(tmp_path: Path) -> None:
    app = create_app(load({"DEEPGRAM_API_KEY": "key"}, tmp_path))
    state = await ask_json(app, "/state")
    assert (state["agent"], state["warnings"]) == ("deepgram", [])
    [endpoint] = state["lines"]["endpoints"]
    assert endpoint["address"] == "agent.deepgram.com/v1/agent/converse"
    assert endpoint["state"] == "closed"


async def test_live_calls_are_listed_the_oldest_first(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    app = make_app(tmp_path)
    empty = {"live": 0, "calls": [], "elsewhere": [], "process": app.server.name}
    assert await ask_json(app, "/calls") == empty
    first, second = make_call(app.live_calls.event_feed), make_call(app.live_calls.event_feed)
    first.dialogue._stream.call_sid = "CA1"
    await trio.sleep(2)
    third = make_call(app.live_calls.event_feed)
    third.dialogue._stream.call_sid = "CA3"
    live_calls = app.live_calls
    with live_calls.admit(third), live_calls.admit(first), live_calls.admit(second):
        await trio.sleep(3)
        listed = await ask_json(app, "/calls")
    assert listed["live"] == 3
    assert {call["call_sid"]: call["seconds"] for call in listed["calls"]} == {
        "CA1": 5,
        "": 5,
        "CA3": 3,
    }
    assert listed["calls"][2]["call_sid"] == "CA3"
    assert {call["phase"] for call in listed["calls"]} == {"awaiting_start"}
    assert listed["calls"][0]["statistics"]["barge_ins"] == 0


def make_call(event_feed: EventFeed) -> Bridge:
    return Bridge(
        Dialogue(lambda start: deepgram_settings.phone_settings({}), now=trio.current_time()),
        lambda: pytest.fail("no caller is asked for"),
        Lines(lambda: pytest.fail("no agent is asked for")),
        tell=event_feed.tell,
    )


async def test_a_stream_token_can_be_spent_where_it_says(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    minted = await ask_json(app, "/stream-token", "POST")
    assert minted["path"] == f"twilio/{minted['token']}"
    assert minted["expires"] == 60
    token = app.stream_tokens.read(minted["token"])
    assert token is not None
    assert token.is_softphone
    assert app.stream_tokens.spend(token)


async def test_a_stream_token_is_not_for_a_get(tmp_path: Path) -> None:
    assert (await ask(make_app(tmp_path), "/stream-token"))[0] == 405


async def test_no_token_is_minted_when_no_call_can_be_taken(tmp_path: Path) -> None:
    app = make_app(tmp_path, STS_MAX_CALLS="1")
    with app.live_calls.admit(make_call(app.live_calls.event_feed)):
        status, _, body = await ask(app, "/stream-token", "POST")
        assert (status, b"full" in body) == (503, True)
    app.live_calls.drain()
    status, _, body = await ask(app, "/stream-token", "POST")
    assert (status, b"draining" in body) == (503, True)


# --- events ---------------------------------------------------------------------------------------


class Stream:
    """An event stream that is being read."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    async def read(self) -> list[dict[str, str]]:
        """The events of the next chunk, each as its fields."""
        chunk = (await self._browser.read()).decode()
        assert chunk.endswith("\n\n")
        return [
            dict(line.split(": ", 1) for line in event.split("\n"))
            for event in chunk.split("\n\n")
            if event not in ("", ":")
        ]


@asynccontextmanager
async def following(
    app: App, path: str = "/events", last: str | None = None
) -> AsyncIterator[Stream]:
    headers = {} if last is None else {"last-event-id": last}
    async with browsing(app, path, headers=key(app) | headers) as browser:
        stream = Stream(browser)
        assert await stream.read() == [{"retry": "2000"}]
        assert browser.headers["content-type"] == "text/event-stream"
        yield stream


def tell(app: App, text: str, call_sid: str = "CA1") -> None:
    told = call_event(call_sid, 1.5, events.CallTranscript("user", text))
    app.live_calls.event_feed.tell(told)


async def test_what_happens_is_streamed_as_it_happens(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    app = make_app(tmp_path)
    tell(app, "before")
    async with following(app) as stream:
        tell(app, "line\nbreak")
        [event] = await stream.read()
        assert event["id"].endswith("-2")
        assert json.loads(event["data"]) == {
            "call_sid": "CA1",
            "at": 1.5,
            "event": events.CallTranscript.NAME,
            "fields": {"role": "user", "text": "line\nbreak"},
        }
        tell(app, "two")
        tell(app, "three")
        assert [json.loads(event["data"])["fields"]["text"] for event in await stream.read()] == [
            "two",
            "three",
        ]


async def test_a_silent_stream_is_kept_alive_for_hours(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    app = make_app(tmp_path)
    async with following(app) as stream:
        for _ in range(1000):
            assert await stream.read() == []
        assert trio.current_time() == 1000 * routes.KEEP_ALIVE
        tell(app, "still there")
        assert len(await stream.read()) == 1


async def test_one_calls_stream_begins_with_what_is_known_and_has_no_others(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    app = make_app(tmp_path)
    tell(app, "a")
    tell(app, "not this", call_sid="CA2")
    async with following(app, "/calls/CA1/events") as stream:
        assert [event["id"][-2:] for event in await stream.read()] == ["-1"]
        tell(app, "nor this", call_sid="CA2")
        assert await stream.read() == []
        tell(app, "b")
        assert [event["id"][-2:] for event in await stream.read()] == ["-4"]


async def test_a_browser_that_comes_back_misses_nothing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    app = make_app(tmp_path)
    async with following(app) as stream:
        tell(app, "a")
        [event] = await stream.read()
    tell(app, "b")
    tell(app, "c")
    async with following(app, last=event["id"]) as stream:
        assert [each["id"][-2:] for each in await stream.read()] == ["-2", "-3"]
    # Browsers send the header only when they come back by themselves.
    async with following(app, f"/events?after={event['id']}") as stream:
        assert [each["id"][-2:] for each in await stream.read()] == ["-2", "-3"]
    async with following(app, last=event["id"] + "0" * 5000) as stream:
        assert [each["id"][-2:] for each in await stream.read()] == ["-1", "-2", "-3"]


async def test_who_comes_first_has_missed_nothing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Though what is older than all that is kept is gone."""
    app = make_app(tmp_path)
    app.live_calls.event_feed = EventFeed(kept=2)
    for text in "abc":
        tell(app, text)
    async with following(app, "/calls/CA1/events") as stream:
        assert [each.get("id", "missed")[-2:] for each in await stream.read()] == ["-2", "-3"]


@pytest.mark.parametrize("last", ["0ther-1", "0ther-99", "junk", "-", "0ther-x"])
async def test_a_browser_that_knew_another_server_begins_anew(
    tmp_path: Path, last: str, autojump_clock: trio.testing.MockClock
) -> None:
    app = make_app(tmp_path)
    tell(app, "a")
    async with following(app, last=last) as stream:
        events = await stream.read()
        assert [each.get("id", "")[-2:] for each in events] == (["-1"] if last != "-" else [])


async def test_a_slow_browser_is_told_how_much_it_has_missed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    app = make_app(tmp_path)
    app.live_calls.event_feed = EventFeed(kept=3)
    async with following(app) as stream:
        for number in range(10):
            tell(app, str(number))
        missed, *rest = await stream.read()
        assert missed == {"event": "missed", "data": "7"}
        assert [event["id"].rpartition("-")[2] for event in rest] == ["8", "9", "10"]


async def test_a_follower_that_is_gone_leaves_nothing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    app = make_app(tmp_path)
    async with following(app):
        await trio.testing.wait_all_tasks_blocked()
        assert app.live_calls.event_feed.followers == 1
    assert app.live_calls.event_feed.followers == 0


async def test_there_are_only_so_many_followers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(routes, "MAX_FOLLOWERS", 1)
    app = make_app(tmp_path)
    async with following(app):
        await trio.testing.wait_all_tasks_blocked()
        assert (await ask(app, "/events"))[0] == 503


async def test_who_comes_in_a_crowd_is_counted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """All of them are let in before the first of them follows."""
    monkeypatch.setattr(routes, "MAX_FOLLOWERS", 3)
    app = make_app(tmp_path)
    served: list[int] = []
    sent_away: list[tuple[int, bytes]] = []

    async def come(leave: trio.Event) -> None:
        async with browsing(app, "/events") as browser:
            first = await browser.read()
            if first.startswith(b"retry: "):
                served.append(browser.status)
                await leave.wait()
            else:
                sent_away.append((browser.status, first))

    async with trio.open_nursery() as nursery:
        leave = trio.Event()
        for _ in range(20):
            nursery.start_soon(come, leave)
        await trio.sleep(0.5)
        assert app.live_calls.event_feed.followers == 3
        assert served == [200] * 3
        assert set(sent_away) == {(200, b": 100 are following the calls already.\n\n")}
        assert (await ask(app, "/events"))[0] == 503
        assert (await ask(app, "/calls"))[0] == 200
        leave.set()
    assert app.live_calls.event_feed.followers == 0
    async with following(app):
        pass


@pytest.mark.parametrize(("path", "told"), [("/events", 1000), ("/calls/CA2/events", 0)])
async def test_what_comes_in_quick_succession_is_told_in_one_piece(
    tmp_path: Path, path: str, told: int, autojump_clock: trio.testing.MockClock
) -> None:
    """To whom it is told at all: who follows one call is not woken more often for the others."""
    app = make_app(tmp_path)
    async with following(app, path) as stream:
        pieces = []

        async def read() -> None:
            while True:
                pieces.append((round(trio.current_time(), 3), len(await stream.read())))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            for number in range(1000):
                tell(app, str(number))
                await trio.sleep(0.001)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    assert pieces[0] == (began, min(told, 1))  # at once
    assert sum(count for _, count in pieces) == told
    assert len(pieces) == 11
    assert trio.current_time() - began == pytest.approx(2)


def test_what_many_are_told_is_written_once() -> None:
    entry = call_event("CA1", 1.5, events.CallHeard("x y", "x", 1.0, 0.5))
    assert entry.json is entry.json
    assert json.loads(entry.json) == {
        "call_sid": "CA1",
        "at": 1.5,
        "event": events.CallHeard.NAME,
        "fields": {"said": "x y", "heard": "x", "said_seconds": 1.0, "heard_seconds": 0.5},
    }


async def test_a_stream_ends_when_the_server_goes_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Connection:
        terminated = trio.Event()

    hypercorn_guard.connection.set(Connection())  # type: ignore[arg-type]
    with EventFeed().follow() as follower:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def go_away() -> None:
                await trio.sleep(3)
                Connection.terminated.set()

            assert await routes._receive(follower) is None
            assert trio.current_time() == 3


# --- what a call tells ----------------------------------------------------------------------------


async def test_a_call_tells_its_story_from_start_to_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    event_feed = EventFeed()
    phone, agent = FakeTwilio(), FakeAgent()
    async with trio.open_nursery() as nursery:
        call = Bridge(
            Dialogue(lambda start: deepgram_settings.phone_settings({"greeting": "Hi."})),
            phone.open,
            Lines(dial(nursery, agent)),
            tell=event_feed.tell,
        )

        @nursery.start_soon
        async def talk() -> None:
            phone.tell(START)
            await agent.ready.wait()
            await trio.sleep(1)
            await agent.say(
                deepgram.ConversationText("assistant", "Hi."), deepgram.Audio(b"\x11" * 8000)
            )
            await trio.sleep(0.5)
            await agent.say(deepgram.UserStartedSpeaking())
            await trio.sleep(0.5)
            await agent.say(deepgram.ConversationText("user", "Hello?"))
            await trio.sleep(1)
            phone.tell(STOP)

        await call.run()
        nursery.cancel_scope.cancel()
    _, entries = event_feed.entries_beyond(0)
    assert {entry.call_sid for entry in entries} == {CALL_SID}
    story = [(round(entry.at, 1), type(entry.event)) for entry in entries]
    assert [each for each in story if each[1] is not events.AgentWelcomed] == [
        (0, events.CallStarted),
        (0, events.AgentReady),
        (1, events.CallTranscript),
        (1.5, events.CallBargeIn),
        (1.5, events.CallHeard),
        (2, events.CallTranscript),
        (3, events.CallEnded),
    ]
    by_event = {type(entry.event): entry.event for entry in entries}
    assert by_event[events.CallTranscript] == events.CallTranscript("user", "Hello?")
    assert by_event[events.CallBargeIn] == events.CallBargeIn(1.0)
    ended = by_event[events.CallEnded]
    assert isinstance(ended, events.CallEnded)
    assert (ended.ending, ended.verdict, ended.barge_ins) == ("stop", "success", 1)

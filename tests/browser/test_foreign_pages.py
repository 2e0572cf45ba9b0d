"""Pages of others, in the browser that our page is open in: they see nothing and dial nobody.

Without Twilio's token and with an agent that costs money. The browser has the key's cookie, and
sends it along where the foreign page is of the same host at another port, which is the same site.
"""

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from browser.rig import PATIENCE, Server, eventually
from browser.test_softphone import Page, opened

pytestmark = pytest.mark.browser

Launch = Callable[..., Any]
Serve = Callable[..., Server]

RULES = "--host-resolver-rules=MAP evil.example 127.0.0.1"

# Resolves when every request has been answered, refused, or given up by the browser.
ATTACK = """async (base) => {
  const ends = [];
  const ending = (element, attach) => ends.push(new Promise((resolve) => {
    element.onload = element.onerror = resolve;
    setTimeout(resolve, 15000);
    attach();
  }));
  const image = (path) => {
    const it = new Image();
    ending(it, () => { it.src = base + path; });
  };
  const inserted = (tag, properties) => {
    const it = Object.assign(document.createElement(tag), properties);
    ending(it, () => document.body.append(it));
  };
  let forms = 0;
  const submitted = (path, enctype, fields) => {
    const name = `frame${forms++}`;
    const frame = Object.assign(document.createElement("iframe"), { name });
    document.body.append(frame);
    const form = Object.assign(document.createElement("form"), {
      action: base + path, method: "post", target: name, enctype,
    });
    for (const [key, value] of Object.entries(fields)) {
      form.append(Object.assign(document.createElement("input"), { name: key, value }));
    }
    document.body.append(form);
    ending(frame, () => form.submit());
  };
  const fetched = (path, options) => ends.push(
    fetch(base + path, { signal: AbortSignal.timeout(15000), ...options }).then(
      async (answer) => { if (answer.ok) leaks.push([path, await answer.text()]); },
      () => {},
    ),
  );
  const socket = (path) => ends.push(new Promise((resolve) => {
    const it = new WebSocket(base.replace("http", "ws") + path);
    it.onopen = () => { leaks.push([path, "opened"]); resolve(); };
    it.onclose = resolve;
  }));
  const leaks = [];
  for (let n = 0; n < 30; n += 1) image(`/twiml?CallSid=CA${n}`);
  for (const path of ["/twiml/status", "/twiml/amd", "/twiml/after"]) image(`${path}?CallSid=CA1`);
  for (const path of ["/events", "/calls/CA1/events", "/calls", "/state"]) {
    image(path);
    inserted("script", { src: base + path });
    inserted("iframe", { src: base + path });
    inserted("link", { rel: "stylesheet", href: base + path });
  }
  inserted("iframe", { src: base + "/" });
  inserted("iframe", { src: base + "/twiml?CallSid=CA2" });
  for (const path of ["/twiml", "/twiml/amd", "/stream-token", "/calls"]) {
    for (const enctype of ["application/x-www-form-urlencoded", "text/plain",
      "multipart/form-data"]) {
      submitted(path, enctype, { CallSid: "CA3", to: "+15005550010" });
    }
    for (const mode of ["no-cors", "cors"]) {
      for (const credentials of ["include", "omit"]) {
        fetched(path, { method: "POST", mode, credentials, body: "CallSid=CA4" });
        fetched(path + "?CallSid=CA5", { mode, credentials, referrerPolicy: "no-referrer" });
        fetched("/events", { mode, credentials });
      }
    }
    navigator.sendBeacon(base + path, new URLSearchParams({ CallSid: "CA6" }));
  }
  fetched("/calls", {
    method: "POST", credentials: "include",
    headers: { "Content-Type": "application/json" }, body: '{"to": "+15005550010"}',
  });
  new EventSource(base + "/events", { withCredentials: true }).onopen = () => leaks.push("events");
  for (const path of ["/twilio", "/twilio/", "/twilio/guessed", "/twilio?key="]) socket(path);
  await Promise.all(ends);
  return leaks;
}"""


class CountedAgent:
    """What is dialled in place of Deepgram's."""

    def __init__(self) -> None:
        self.dials = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/v1/agent/converse"

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.dials += 1
            connection.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def agent() -> Iterator[CountedAgent]:
    counted = CountedAgent()
    thread = threading.Thread(target=counted.run)
    thread.start()
    yield counted
    counted.close()
    thread.join()


class _Site(http.server.BaseHTTPRequestHandler):
    """Any path is a page; `/link?URL` has a link there."""

    def do_GET(self) -> None:
        target = self.path.partition("?")[2]
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(f'<body><a id="link" href="{target}">the phone</a></body>'.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """The port of a web server of somebody else's."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def side_by_side(browser: Any, *urls: str) -> Iterator[list[Page]]:
    """Pages in one browser, which share their cookies."""
    context = browser.new_context()
    with closing(context):
        pages = []
        for url in urls:
            page = Page(context.new_page())
            page.page.set_default_timeout(1000 * PATIENCE)
            page.page.goto(url)
            pages.append(page)
        yield pages


@pytest.mark.parametrize("site", ["evil.example", "localhost", "127.0.0.1"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_foreign_page_dials_nobody_and_sees_nothing(
    serve: Serve, launch: Launch, agent: CountedAgent, elsewhere: int, site: str, host: str
) -> None:
    server = serve(STS_AGENT="deepgram", DEEPGRAM_API_KEY="key", DEEPGRAM_URL=agent.url)
    base = f"http://{host}:{server.port}"
    ours = server.url.replace("127.0.0.1", host)
    answers: list[tuple[str, int]] = []
    with side_by_side(launch(RULES), ours, f"http://{site}:{elsewhere}/") as (page, foreign):
        eventually(lambda: "answers" in page.text("#server"), "our own page")
        foreign.page.context.on(
            "response",
            lambda response: (
                answers.append((response.url.removeprefix(base), response.status))
                if response.frame.page == foreign.page and response.url.startswith(base)
                else None
            ),
        )
        leaks = foreign.page.evaluate(ATTACK, base)
        assert leaks == []
        for path, times in {"/twiml": 30, "/events": 1, "/twilio": 1, "/stream-token": 1}.items():
            eventually(lambda: server.refusals(path) >= times, path)  # noqa: B023
        # A browser does not tell of all that it has sent.
        assert answers
        assert {status for _, status in answers} <= {403, 405}, answers
        assert agent.dials == 0
        state = server.ask("/state")
        assert (state["live"], state["lines"]["waiting"]) == (0, 0)
        # Our page goes on meanwhile; and whoever may dial is seen to.
        eventually(lambda: "answers" in page.text("#server"), "our own page, still")
        server.get("/twiml?CallSid=CA7")
        eventually(lambda: agent.dials == 1, "the one dial that was asked for")


def test_a_foreign_window_dials_nobody(
    serve: Serve, launch: Launch, agent: CountedAgent, elsewhere: int
) -> None:
    """A navigation is what a browser sends the most with."""
    server = serve(STS_AGENT="deepgram", DEEPGRAM_API_KEY="key", DEEPGRAM_URL=agent.url)
    base = f"http://127.0.0.1:{server.port}"
    for site in ("evil.example", "127.0.0.1"):
        with side_by_side(launch(RULES), server.url, f"http://{site}:{elsewhere}/") as (_, foreign):
            for path in ("/twiml?CallSid=CA1", "/events", "/calls", "/state"):
                foreign.page.goto(f"http://{site}:{elsewhere}/link?{base}{path}")
                with foreign.page.expect_navigation() as navigation:
                    foreign.page.click("#link")
                assert navigation.value.status == 403, path
    assert agent.dials == 0


# --- the page and its key -------------------------------------------------------------------------


def test_the_key_leaves_the_address_and_the_page_stays_open(serve: Serve, launch: Launch) -> None:
    server = serve()
    with opened(launch(), server.url) as page:
        assert page.page.url == f"http://127.0.0.1:{server.port}/"
        page.page.reload()
        eventually(lambda: "answers" in page.text("#server"), "the page again")
        assert page.page.evaluate("document.cookie") == ""
        assert page.page.evaluate("history.length") <= 2
        assert page.complaints == []


def test_a_link_of_another_site_with_the_key_opens_the_page(
    serve: Serve, launch: Launch, elsewhere: int
) -> None:
    """As of a terminal in a browser, where the address is clicked on."""
    server = serve()
    for site in ("evil.example", "127.0.0.1"):
        with side_by_side(launch(RULES), f"http://{site}:{elsewhere}/link?{server.url}") as [page]:
            page.page.click("#link")
            eventually(lambda: "answers" in page.text("#server"), "the page")
            assert page.page.url == f"http://127.0.0.1:{server.port}/"


def test_without_the_key_the_browser_is_told_where_it_is(serve: Serve, launch: Launch) -> None:
    server = serve()
    page = launch().new_page()
    assert page.goto(f"http://127.0.0.1:{server.port}/").status == 403
    assert "Open the address that it told at its start" in page.inner_text("body")


def test_two_servers_of_one_machine_have_a_page_each(serve: Serve, launch: Launch) -> None:
    one, other = serve(), serve()
    with side_by_side(launch(), one.url, other.url, one.url) as pages:
        for page in pages:
            page.page.reload()
            eventually(lambda: "answers" in page.text("#server"), "each page")  # noqa: B023


def test_a_page_of_an_earlier_run_is_told_to_be_opened_anew(serve: Serve, launch: Launch) -> None:
    server = serve()
    with opened(launch(), server.url) as page:
        server.stop()
        eventually(lambda: page.shows("#trouble", "Is it still running"), "the loss")
        again = serve(PORT=str(server.port))
        eventually(lambda: page.shows("#trouble", "was started anew"), "the words")
        page.page.goto(again.url)
        eventually(lambda: "answers" in page.text("#server"), "the page again")
        assert page.page.url == f"http://127.0.0.1:{server.port}/"

"""What an operator has of calls: the own one and those of others, and what goes wrong with them."""

import http.server
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from browser.rig import Server, eventually, question, silence
from browser.test_softphone import Page, opened

from sts_trio.observe import events

pytestmark = pytest.mark.browser

Launch = Callable[..., Any]
Serve = Callable[..., Server]
Microphone = Callable[..., tuple[str, str]]

WIDTHS = [1280, 390]


def talk(page: Page) -> None:
    page.page.click("#call")
    eventually(lambda: page.shows("#status", "You are talking"), "the call")
    eventually(lambda: page.lines("agent") > 0, "the greeting's words")


def asked_for_tokens(page: Page) -> list[str]:
    """Grows by one with each call that is placed."""
    asked: list[str] = []
    page.page.on(
        "request", lambda request: asked.append("") if "/stream-token" in request.url else None
    )
    return asked


# --- presses that nobody meant ----------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_a_double_click_on_hang_up_places_no_call_and_keeps_the_conversation(
    serve: Serve, launch: Launch, microphone: Microphone, width: int
) -> None:
    server = serve()
    viewport = {"width": width, "height": 800}
    with opened(launch(*microphone(silence(1))), server.url, viewport=viewport) as page:
        asked = asked_for_tokens(page)
        talk(page)
        page.page.dblclick("#hang-up")
        eventually(lambda: server.live == 0, "nothing left")
        eventually(lambda: page.shows("#status", "You hung up"), "the end")
        assert len(asked) == 1
        assert page.lines("agent") == 1
        eventually(lambda: page.shows("#transcript", "You hung up"), "the end, in its place")
        assert page.complaints == []


def test_a_double_click_on_call_places_one_call_and_does_not_end_it(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve()
    with opened(launch(*microphone(silence(1))), server.url) as page:
        asked = asked_for_tokens(page)
        page.page.dblclick("#call")
        eventually(lambda: page.lines("agent") > 0, "the greeting's words")
        assert (len(asked), server.live) == (1, 1)


def test_a_key_that_is_held_down_presses_once(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve()
    with opened(launch(*microphone(silence(1))), server.url) as page:
        asked = asked_for_tokens(page)
        page.page.focus("#call")
        for _ in range(5):
            page.page.keyboard.down("Enter")
        page.page.keyboard.up("Enter")
        eventually(lambda: page.shows("#status", "You are talking"), "the call")
        page.page.focus("#hang-up")
        for _ in range(5):
            page.page.keyboard.down("Enter")
        page.page.keyboard.up("Enter")
        eventually(lambda: page.shows("#status", "You hung up"), "the end")
        eventually(lambda: server.live == 0, "nothing left")
        assert len(asked) == 1
        assert page.focus == "hang-up"


def test_a_call_that_cannot_be_placed_leaves_the_last_conversation_there(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve()
    with opened(launch(*microphone(silence(1))), server.url) as page:
        talk(page)
        page.page.click("#hang-up")
        eventually(lambda: page.shows("#status", "You hung up"), "the end")
        server.kill()
        page.page.click("#call")
        eventually(lambda: page.shows("#trouble", "Is it still running"), "the words")
        assert page.lines("agent") == 1


# --- what is in sight -------------------------------------------------------------------------


def is_in_sight(page: Page, selector: str) -> bool:
    """All of it, and nothing over it."""
    seen: bool = page.page.evaluate(
        """(selector) => {
          const element = document.querySelector(selector);
          const { top, left, bottom, right } = element.getBoundingClientRect();
          if (bottom <= top || top < 0 || left < 0) return false;
          if (bottom > innerHeight || right > innerWidth) return false;
          const there = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
          return element.contains(there);
        }""",
        selector,
    )
    return seen


def is_at_end(page: Page) -> bool:
    ends: bool = page.page.evaluate(
        "area.scrollTop + area.clientHeight > area.scrollHeight - 2 &&"
        " area.scrollHeight > 1.5 * area.clientHeight"
    )
    return ends


class LongCall:
    """A live call of somebody else's, in which as much is said as a test likes."""

    def __init__(self, page: Page) -> None:
        self._facts = many(1)[0] | {"from": "+15005550001"}
        self.sentences = 60
        page.page.route(re.compile(r"/calls$"), self._list)
        page.page.route(re.compile(r"/calls/CA.*after="), self._tell)

    def _list(self, route: Any) -> None:
        route.fulfill(json={"live": 1, "calls": [self._facts]})

    def _tell(self, route: Any) -> None:
        after = int(route.request.url.rpartition("=")[2])
        told = [
            {
                "number": number,
                "told": {
                    "at": number,
                    "event": events.CallTranscript.NAME,
                    "fields": {
                        "role": ("user", "agent")[number // 3 % 2],
                        "text": f"This is number {number} of all that there is to say.",
                    },
                },
            }
            for number in range(after + 1, self.sentences + 1)
        ]
        route.fulfill(json=self._facts | {"is_whole": True, "events": told})


@pytest.mark.parametrize("height", [800, 560])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_transcript_follows_by_itself_and_the_phone_stays_in_sight(
    serve: Serve, launch: Launch, microphone: Microphone, width: int, height: int
) -> None:
    server = serve()
    viewport = {"width": width, "height": height}
    with opened(launch(*microphone(silence(1))), server.url, viewport=viewport) as page:
        other = LongCall(page)
        page.page.reload()
        talk(page)
        page.page.locator("#calls button", has_text="+15005550001").click()
        eventually(lambda: page.shows("#transcript", "number 60 "), "what was said before")
        eventually(lambda: is_at_end(page), "its end")
        other.sentences = 70
        eventually(lambda: page.shows("#transcript", "number 70 "), "more of it")
        eventually(lambda: is_at_end(page), "the end of that")
        if width < 700:
            page.page.click("#keypad-toggle")
            eventually(lambda: is_at_end(page), "the end above the keypad")
        for selector in (
            "#hang-up",
            "#keys button:first-child",
            "#keys button:last-child",
            "#transcript li:last-child .said:last-child",
        ):
            eventually(lambda: is_in_sight(page, selector), selector)  # noqa: B023
        assert page.page.evaluate("document.documentElement.scrollHeight <= innerHeight")
        assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")

        # Who reads what was said before is left there, and comes back when they like to.
        page.page.evaluate("area.scrollTop = 0")
        eventually(lambda: page.page.locator("#newest").is_visible(), "the way back")
        other.sentences = 80
        eventually(lambda: page.shows("#transcript", "number 80 "), "more of it")
        assert page.page.evaluate("area.scrollTop") == 0
        page.page.click("#newest")
        eventually(lambda: is_at_end(page), "the end")
        assert not page.page.locator("#newest").is_visible()
        assert page.focus == "area"
        page.page.keyboard.press("Home")
        eventually(lambda: page.page.evaluate("area.scrollTop") == 0, "the beginning, by a key")


@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_told_of_waits_makes_the_page_no_longer_than_the_window(
    serve: Serve, launch: Launch, microphone: Microphone, width: int
) -> None:
    """Below it there would be an empty space: each part scrolls where it stands."""
    server = serve()
    viewport = {"width": width, "height": 600}
    with opened(launch(*microphone(silence(1))), server.url, viewport=viewport) as page:
        talk(page)
        eventually(lambda: page.shows("#waits", "Greeting"), "its wait")
        assert page.page.evaluate("document.documentElement.scrollHeight <= innerHeight")


# --- what is wrong, told where one looks ------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_a_server_that_dies_in_a_call_is_told_where_one_looks(
    serve: Serve, launch: Launch, microphone: Microphone, width: int
) -> None:
    server = serve()
    viewport = {"width": width, "height": 800}
    with opened(launch(*microphone(silence(1))), server.url, viewport=viewport) as page:
        talk(page)
        server.kill()
        eventually(lambda: page.shows("#trouble", "Is it still running.*start it again"), "words")
        assert is_in_sight(page, "#trouble")
        eventually(lambda: page.shows("#status", "over"), "the end of the call")
        assert "answers" not in page.text("#server")
        assert page.lines("agent") == 1
        eventually(lambda: page.shows("#transcript", "did not say why"), "the end, in its place")
        assert is_in_sight(page, "#call")
        again = serve(PORT=str(server.port))
        page.page.goto(again.url)
        eventually(lambda: "answers" in page.text("#server"), "the server that is back")


def test_a_server_that_dies_without_a_call_is_told_where_one_looks(
    serve: Serve, launch: Launch
) -> None:
    server = serve()
    with opened(launch(), server.url) as page:
        server.kill()
        eventually(lambda: page.shows("#trouble", "Is it still running"), "the words")
        eventually(lambda: page.shows("#no-calls", "Not known"), "no list of the past")


def test_a_server_that_does_not_answer_any_more_is_told_while_the_call_is_on(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    """No socket is closed: there is nothing but silence."""
    server = serve()
    with opened(launch(*microphone(silence(1))), server.url) as page:
        talk(page)
        server.pause()
        try:
            eventually(lambda: page.shows("#trouble", "seems to be lost"), "the words")
            assert is_in_sight(page, "#trouble")
        finally:
            server.resume()
        eventually(lambda: not page.page.locator("#trouble").is_visible(), "all well")
        eventually(lambda: "answers" in page.text("#server"), "the same beside it")


class Proxy:
    """What is between browser and server, and drops websockets when it is told to."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._websockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._run)

    def _start(self, run: Callable[..., None], *args: socket.socket) -> None:
        self._threads.append(threading.Thread(target=run, args=args))
        self._threads[-1].start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                here = self._listener.accept()[0]
                there = socket.create_connection(("127.0.0.1", self._to))
                self._sockets += [here, there]
                self._start(self._pass, here, there)
                self._start(self._pass, there, here)

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if data.startswith(b"GET /twilio/"):
                    self._websockets += [one, other]
                other.sendall(data)
        _shut_down(other)

    def drop_websockets(self) -> None:
        for each in self._websockets:
            _shut_down(each)

    def close(self) -> None:
        _shut_down(self._listener)
        self._listener.close()
        for each in self._sockets:
            _shut_down(each)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()


def _shut_down(socket_: socket.socket) -> None:
    with suppress(OSError):
        socket_.shutdown(socket.SHUT_RDWR)


def test_a_connection_that_breaks_off_is_told_apart_from_a_dead_server(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve()
    with closing(Proxy(server.port)) as proxy:
        url = server.url.replace(f":{server.port}/", f":{proxy.port}/")
        with opened(launch(*microphone(silence(1))), url) as page:
            talk(page)
            proxy.drop_websockets()
            eventually(lambda: page.shows("#trouble", "connection.*call again"), "the words")
            assert "Is it still running" not in page.text("#trouble")
            eventually(lambda: "answers" in page.text("#server"), "a server that is well")
            assert page.lines("agent") == 1
            eventually(lambda: server.live == 0, "nothing left")
            talk(page)
            assert not page.page.locator("#trouble").is_visible()


class _Stranger(http.server.BaseHTTPRequestHandler):
    """An agent that does not know the key."""

    def do_GET(self) -> None:
        self.send_error(401)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"ws://127.0.0.1:{server.server_port}/v1/agent/converse"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("width", WIDTHS)
def test_an_agent_that_lets_nobody_in_is_told_where_one_looks(
    serve: Serve, launch: Launch, microphone: Microphone, stranger: str, width: int
) -> None:
    server = serve(STS_AGENT="deepgram", DEEPGRAM_API_KEY="key", DEEPGRAM_URL=stranger)
    viewport = {"width": width, "height": 800}
    with opened(launch(*microphone(silence(1))), server.url, viewport=viewport) as page:
        page.page.click("#call")
        eventually(lambda: page.shows("#trouble", "does not let the server in"), "the words")
        assert page.shows("#trouble", "DEEPGRAM_API_KEY")
        assert is_in_sight(page, "#trouble")
        eventually(lambda: "refused the last call" in page.text("#server"), "no promises")


NO_LOUDSPEAKER = "AudioContext.prototype.resume = () => new Promise(() => {});"


def test_a_browser_without_a_loudspeaker_is_told_so(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    """Firefox waits for one for ever."""
    server = serve()
    with opened(launch(*microphone(silence(1))), server.url) as page:
        page.page.add_init_script(NO_LOUDSPEAKER)
        page.page.reload()
        page.page.click("#call")
        eventually(lambda: page.shows("#trouble", "no loudspeaker.*call again"), "the words")
        assert page.page.locator("#call").is_enabled()
        assert server.live == 0


# --- calls of others --------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_a_live_call_opens_with_its_past_goes_on_and_can_be_ended(
    serve: Serve, launch: Launch, microphone: Microphone, width: int
) -> None:
    server = serve()
    browser = launch(*microphone(silence(1)))
    viewport = {"width": width, "height": 800}
    with opened(browser, server.url, says=(silence(8), question())) as caller:
        talk(caller)
        greeting = caller.text("#transcript .said >> nth=0")
        with opened(browser, server.url, viewport=viewport) as page:
            row = page.page.locator("#calls button")
            eventually(lambda: row.count() == 1, "the live call")
            row.focus()
            page.page.keyboard.press("Enter")
            eventually(lambda: page.shows("#transcript", greeting), "what was said before")
            assert page.shows("#transcript", "Agent")
            [call] = server.ask("/calls")["calls"]
            assert page.text("#whose") == call["call_sid"]
            eventually(lambda: page.seconds("heard") > 0.5, "its figures")
            eventually(lambda: page.lines("you") > 0, "what is said now")
            assert page.shows("#transcript", "Caller")

            # Nobody is hung up on by one press, nor by two.
            end = page.page.locator("#end-call")
            end.dblclick()
            assert page.page.locator("#confirm").is_visible()
            page.page.keyboard.press("Escape")
            eventually(lambda: not page.page.locator("#confirm").is_visible(), "no question")
            assert server.live == 1
            end.click()
            page.page.click("#end")
            eventually(lambda: caller.shows("#status", "The operator hung up"), "word of it")
            eventually(lambda: server.live == 0, "nothing left")
            eventually(lambda: page.shows("#transcript", "The operator hung up"), "the end")
            assert not end.is_visible()
            eventually(lambda: page.shows("#stands", "over, after 0:"), "how long it was")
            eventually(lambda: page.shows("#calls", "over"), "the same in the list")
            assert page.complaints == caller.complaints == []


def test_the_own_conversation_is_there_again_after_another_was_looked_at(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve()
    browser = launch(*microphone(silence(1)))
    with opened(browser, server.url) as caller, opened(browser, server.url) as page:
        talk(page)
        page.page.keyboard.press("7")
        eventually(lambda: page.shows("#transcript", "A key was pressed"), "the key")
        talk(caller)
        own = page.text("#transcript")
        page.page.locator("#calls button", has_text="CA").click()
        eventually(lambda: "key was pressed" not in page.text("#transcript"), "not the own one")
        eventually(lambda: page.shows("#transcript", "Agent"), "the other one's")
        assert server.live == 2
        assert is_in_sight(page, "#hang-up")
        page.page.click("#hang-up")
        eventually(lambda: server.live == 1, "one call less")
        page.page.locator("#calls button", has_text="This one").click()
        eventually(lambda: page.text("#transcript").startswith(own), "the own words")
        eventually(lambda: page.shows("#transcript", "You hung up"), "their end")


def many(count: int) -> list[dict[str, Any]]:
    """Live calls, as the server lists them, with the longest names."""
    statistics: dict[str, Any] = {}
    return [
        {
            "call_sid": f"CA{number:032}",
            "stream_sid": f"MZ{number:032}",
            "from": f"sip:{'a-very-long-name-' * 6}{number}@{'sub.' * 10}example.com",
            "to": "+15005550006",
            "direction": "inbound",
            "agent": "the-agent-of-" * 6,
            "phase": "talking",
            "seconds": number,
            "statistics": statistics,
        }
        for number in range(count)
    ]


@pytest.mark.parametrize("width", [1280, 800, 390, 320])
def test_many_calls_with_long_names_stay_in_their_place_and_the_focus_with_them(
    serve: Serve, launch: Launch, width: int
) -> None:
    server = serve()
    calls = many(400)
    viewport = {"width": width, "height": 800}
    with opened(launch(), server.url, viewport=viewport) as page:
        page.page.route(
            re.compile(r"/calls$"),
            lambda route: route.fulfill(json={"live": len(calls), "calls": calls}),
        )
        page.page.reload()
        rows = page.page.locator("#calls button")
        eventually(lambda: rows.count() == 400, "all calls")
        assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.page.evaluate("document.documentElement.scrollHeight <= innerHeight")
        assert page.page.evaluate("calls.clientHeight < 300 && calls.scrollHeight > 10000")
        assert is_in_sight(page, "#call")
        rows.nth(200).focus()
        before = rows.nth(200).inner_text()
        eventually(lambda: rows.nth(200).inner_text() != before, "a second more")
        assert page.page.evaluate("document.activeElement.innerText").startswith("sip:")
        assert rows.nth(200).evaluate("row => row === document.activeElement")
        page.page.keyboard.press("Tab")
        assert rows.nth(201).evaluate("row => row === document.activeElement")

"""Calls from the page, in Chromium, through the real server to the offline agent.

No test knows the words that are recognised; only that there are some.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser.rig import PATIENCE, Server, eventually, question, silence, spoken

from sts_trio.observe import events

pytestmark = pytest.mark.browser

Launch = Callable[..., Any]
Serve = Callable[..., Server]
Microphone = Callable[..., tuple[str, str]]

LONG_GREETING = (
    "Hello and welcome. We have many cars here, small ones and big ones, new ones and old ones,"
    " red ones and blue ones. Tell me, if you like, what it is that brings you here today."
)

# Measures what leaves the page for the loudspeaker, whatever the page says of itself.
LISTEN = """
const connect = AudioNode.prototype.connect;
window.heard = { loudest: -Infinity, now: -Infinity };
AudioNode.prototype.connect = function (to, ...rest) {
  if (to instanceof AudioDestinationNode) {
    const analyser = new AnalyserNode(this.context, { fftSize: 2048 });
    connect.call(this, analyser);
    const samples = new Float32Array(2048);
    setInterval(() => {
      if (this.context.state !== "running") return;
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample ** 2, 0) / samples.length;
      if (this.constructor.name === "AudioWorkletNode" && this.numberOfInputs === 0) {
        window.heard.now = 10 * Math.log10(power);
        window.heard.loudest = Math.max(window.heard.loudest, window.heard.now);
      }
    }, 20);
  }
  return connect.call(this, to, ...rest);
};
"""


class Page:
    """The page as its user has it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())

    def seconds(self, figure: str) -> float:
        return float(self.text(f"#line-{figure}").split()[0])

    def shows(self, selector: str, pattern: str) -> bool:
        locator = self.page.locator(selector)
        return bool(locator.is_visible() and re.search(pattern, locator.inner_text()))

    def lines(self, who: str) -> int:
        return int(self.page.locator(f"#transcript .who.{who}").count())

    @property
    def heard(self) -> dict[str, float]:
        """Decibels of full scale, of what the loudspeaker gets."""
        told: dict[str, float] = self.page.evaluate(
            "Object.fromEntries(Object.entries(heard).map(([k, v]) => [k, Math.max(v, -999)]))"
        )
        return told

    @property
    def focus(self) -> str:
        return str(self.page.evaluate("document.activeElement.id"))


@contextmanager
def opened(browser: Any, url: str, *, says: Sequence[bytes] = (), **context: Any) -> Iterator[Page]:
    page = Page(browser.new_context(**context).new_page())
    page.page.set_default_timeout(1000 * PATIENCE)
    page.page.add_init_script(LISTEN)
    if says:
        page.page.add_init_script(spoken(*says))
    page.page.goto(url)
    eventually(lambda: "answers" in page.text("#server"), "the state of the server")
    yield page


def test_a_call_from_hello_to_hanging_up(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve()
    browser = launch(*microphone(silence(1)))
    with opened(browser, server.url, says=(silence(5), question())) as page:
        page.page.get_by_role("button", name="Call", exact=True).press("Enter")
        eventually(lambda: page.shows("#status", "You are talking"), "the call")
        assert page.focus == "call"  # where it was pressed; the next press does nothing
        assert server.live == 1
        eventually(lambda: "This one" in page.text("#calls"), "the live call")
        eventually(lambda: "one call" in page.text("#server"), "its count")

        eventually(lambda: page.lines("agent") > 0, "the greeting's words")
        eventually(lambda: page.heard["loudest"] > -40, "the greeting's sound")
        eventually(lambda: page.seconds("played") > 1, "some of it")
        eventually(lambda: page.seconds("waiting") == 0, "the end of the greeting")
        eventually(lambda: page.heard["now"] < -60, "a silence after it")
        page.page.evaluate("heard.loudest = -Infinity")
        eventually(lambda: page.lines("you") > 0, "the caller's words")
        eventually(lambda: page.heard["loudest"] > -40, "the answer's sound")
        eventually(lambda: page.shows("#waits", r"Greeting\s+\d+\.\d\d s"), "its wait")
        eventually(lambda: page.shows("#waits", r"Answer\s[^s]*\d+\.\d\d s"), "its wait")
        eventually(lambda: page.shows("#waits-summary", r"\d\.\d\d s from your"), "the summary")
        eventually(lambda: page.seconds("sent") > 5, "what was said")
        eventually(lambda: int(page.text("#line-marks")) > 0, "its marks")

        page.page.keyboard.press("5")
        page.page.get_by_role("button", name="Hash").click()
        assert page.text("#pressed") == "Key # sent"

        call_sid = server.ask("/calls")["calls"][0]["call_sid"]
        page.page.get_by_role("button", name="Hang up").click()
        eventually(lambda: server.live == 0, "nothing left")
        eventually(lambda: page.shows("#status", "You hung up"), "the end")
        eventually(lambda: "no calls" in page.text("#server"), "the state after the call")
        eventually(lambda: not page.shows("#calls", "talking"), "the list after it")
        assert page.page.locator("#call").is_enabled()
        story = server.story(call_sid)
        assert story[0] == events.CallStarted.NAME
        assert story.count(events.CallerDtmf.NAME) == 2
        assert page.complaints == []


def test_a_caller_who_interrupts_is_not_talked_over(
    serve: Serve, launch: Launch, microphone: Microphone, tmp_path: Path
) -> None:
    config = tmp_path / "sts-trio.toml"
    config.write_text(f'[agents.default]\ngreeting = "{LONG_GREETING}"\n')
    server = serve(STS_CONFIG=str(config))
    browser = launch(*microphone(silence(1)))
    with opened(browser, server.url, says=(silence(3), question())) as page:
        page.page.click("#call")
        eventually(lambda: page.heard["loudest"] > -40, "the greeting")
        eventually(lambda: page.seconds("waiting") > 1, "a greeting that is still to be heard")
        eventually(lambda: int(page.text("#line-clears")) > 0, "the clear")
        # A pause between two words is quiet as well: what tells a cut is that nothing waits.
        eventually(lambda: page.seconds("waiting") == 0, "nothing of the greeting that waits")
        eventually(lambda: page.heard["now"] < -60, "the agent's silence")
        eventually(lambda: "went unheard" in page.text("#transcript"), "the note of it")
        eventually(lambda: page.page.locator("#transcript s").count() > 0, "the words cut off")
        eventually(lambda: "Barge-in" in page.text("#waits"), "how long it took")
        # All marks came back, those of what was cut as well.
        [call] = server.ask("/calls")["calls"]
        assert call["statistics"]["barge_ins"] >= 1
        assert call["statistics"]["cut"] > 0.5
        assert call["statistics"]["violations"] == {}
        page.page.click("#hang-up")
        eventually(lambda: server.live == 0, "nothing left")
        assert page.complaints == []


def test_a_page_that_is_closed_in_mid_call_leaves_nothing(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve()
    with opened(launch(*microphone(silence(1))), server.url) as page:
        page.page.click("#call")
        eventually(lambda: page.shows("#status", "You are talking"), "the call")
        page.page.close()
        eventually(lambda: server.live == 0, "nothing left")


def test_one_page_calls_again_and_again(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve()
    with opened(launch(*microphone(silence(1))), server.url) as page:
        for _ in range(3):
            page.page.click("#call")
            eventually(lambda: page.heard["loudest"] > -40, "the greeting")
            eventually(lambda: page.lines("agent") == 1, "its words, and none of the last call")
            page.page.click("#hang-up")
            eventually(lambda: page.shows("#status", "You hung up"), "the end")
            page.page.evaluate("heard.loudest = -Infinity")
        eventually(lambda: server.live == 0, "nothing left")
        assert page.complaints == []


def test_a_call_may_be_given_up_before_it_is_placed(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve()
    with opened(launch(*microphone(silence(1))), server.url) as page:
        page.page.evaluate(
            "document.getElementById('call').click(); document.getElementById('hang-up').click()"
        )
        eventually(lambda: page.shows("#status", "You hung up"), "the end")
        assert page.page.locator("#call").is_enabled()
        page.page.click("#call")
        eventually(lambda: page.shows("#status", "You are talking"), "a call after that")
        assert server.live == 1
        assert page.complaints == []


# --- when it cannot be ----------------------------------------------------------------------------


def test_a_refused_microphone_is_told_in_words(serve: Serve, launch: Launch) -> None:
    server = serve()
    with opened(launch("--use-fake-ui-for-media-stream=deny"), server.url) as page:
        page.page.click("#call")
        eventually(lambda: page.shows("#trouble", "Allow it"), "the words")
        assert page.page.locator("#trouble").get_attribute("role") == "alert"
        assert page.focus == "call"
        assert server.live == 0
        assert page.complaints == []


def test_an_address_without_a_microphone_is_told_in_words(serve: Serve, launch: Launch) -> None:
    """Elsewhere over plain http, where the admin token is the password."""
    server = serve(TWILIO_AUTH_TOKEN="12345", STS_ADMIN_TOKEN="operators-own")
    browser = launch("--host-resolver-rules=MAP phone.example 127.0.0.1")
    credentials = {"username": "me", "password": "operators-own"}
    url = f"http://phone.example:{server.port}"
    with opened(browser, url, http_credentials=credentials) as page:
        assert page.shows("#trouble", r"http://localhost:\d+.*https")
        assert page.page.locator("#call").is_disabled()
        assert page.complaints == []


def test_a_call_goes_through_though_twilio_alone_is_let_in_otherwise(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve(TWILIO_AUTH_TOKEN="12345", STS_ADMIN_TOKEN="operators-own")
    credentials = {"username": "me", "password": "operators-own"}
    browser = launch(*microphone(silence(1)))
    with opened(browser, server.url, http_credentials=credentials) as page:
        page.page.click("#call")
        eventually(lambda: page.lines("agent") > 0, "the greeting")
        page.page.click("#hang-up")
        eventually(lambda: server.live == 0, "nothing left")
        assert page.complaints == []


def test_the_password_may_be_in_the_address(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve(TWILIO_AUTH_TOKEN="12345", STS_ADMIN_TOKEN="operators-own")
    browser = launch(*microphone(silence(1)))
    url = server.url.replace("://", "://me:operators-own@")
    with opened(browser, url) as page:
        page.page.click("#call")
        eventually(lambda: page.lines("agent") > 0, "the greeting")
        page.page.click("#hang-up")
        eventually(lambda: server.live == 0, "nothing left")
        assert page.complaints == []


def test_a_full_server_is_told_in_words(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve(STS_MAX_CALLS="1")
    browser = launch(*microphone(silence(1)))
    with opened(browser, server.url) as first, opened(browser, server.url) as second:
        first.page.click("#call")
        eventually(lambda: first.shows("#status", "You are talking"), "the first call")
        eventually(lambda: "All lines are busy" in second.text("#server"), "the news of it")
        second.page.click("#call")
        eventually(lambda: second.shows("#trouble", "full"), "the words")
        first.page.click("#hang-up")
        eventually(lambda: server.live == 0, "nothing left")
        second.page.click("#call")
        eventually(lambda: second.shows("#status", "You are talking"), "the second call")
        assert not second.page.locator("#trouble").is_visible()


def test_a_refused_socket_is_told_in_words(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve()
    with opened(launch(*microphone(silence(1))), server.url) as page:
        page.page.route(
            "**/stream-token", lambda route: route.fulfill(json={"path": "twilio/guessed"})
        )
        page.page.click("#call")
        eventually(lambda: page.shows("#trouble", "refused the call's socket"), "the words")
        assert server.live == 0


def test_a_server_that_is_gone_is_told_in_words(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve()
    with opened(launch(*microphone(silence(1))), server.url) as page:
        page.page.click("#call")
        eventually(lambda: page.shows("#status", "You are talking"), "the call")
        server.kill()
        eventually(lambda: page.shows("#trouble", "Is it still running"), "the words")
        eventually(lambda: page.shows("#transcript", "did not say why"), "the end")
        eventually(lambda: page.shows("#server", "does not answer"), "the same beside it")
        page.page.click("#call")
        eventually(lambda: page.shows("#trouble", "Is it still running"), "the words")


def test_an_agent_that_cannot_be_had_is_told_in_words(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve(
        STS_AGENT="deepgram",
        DEEPGRAM_API_KEY="key",
        DEEPGRAM_URL="ws://127.0.0.1:1/v1/agent/converse",
    )
    with opened(launch(*microphone(silence(1))), server.url) as page:
        assert "Deepgram answers" in page.text("#server")
        page.page.click("#call")
        eventually(lambda: page.shows("#trouble", "could not reach the agent"), "the words")
        assert page.shows("#trouble", "DEEPGRAM_URL")
        eventually(lambda: "could not be reached" in page.text("#server"), "no more promises")
        eventually(lambda: server.live == 0, "nothing left")


# --- how it is read and used ----------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen(serve: Serve, launch: Launch, width: int) -> None:
    server = serve()
    viewport = {"width": width, "height": 800}
    with opened(launch(), server.url, viewport=viewport) as page:
        assert page.page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(serve: Serve, launch: Launch, scheme: str) -> None:
    """Contrast of at least 4.5 to 1, as WCAG 2 asks for (1.4.3)."""
    server = serve()
    with opened(launch(), server.url, color_scheme=scheme) as page:
        colours = page.page.evaluate(
            """() => {
              const style = getComputedStyle(document.documentElement);
              const read = (name) => style.getPropertyValue(name).trim();
              return Object.fromEntries(
                ["paper", "sheet", "ink", "quiet", "you", "agent", "stop", "notice"]
                  .map((name) => [name, read(`--${name}`)]));
            }"""
        )
    for name in ("ink", "quiet", "you", "agent", "stop", "notice"):
        for ground in ("paper", "sheet"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_everything_has_a_name_for_those_who_listen_to_it(serve: Serve, launch: Launch) -> None:
    server = serve()
    with opened(launch(), server.url) as page:
        assert page.page.get_by_role("heading", level=1).inner_text() == "sts_trio"
        for role, name in [
            ("region", "Phone"),
            ("region", "Conversation"),
            ("region", "Waits"),
            ("meter", "You"),
            ("meter", "Agent"),
            ("log", "Conversation"),
            ("button", "Star"),
        ]:
            assert page.page.get_by_role(role, name=name, exact=True).count() == 1, (role, name)
        for button in page.page.get_by_role("button").all():
            assert button.get_attribute("aria-label") or button.inner_text()
        assert page.page.locator("html").get_attribute("lang") == "en"


def test_the_page_follows_again_after_a_refusal(serve: Serve, launch: Launch) -> None:
    """As of a proxy whose server starts anew; to an EventSource that is the end."""
    with opened(launch(), serve().url) as page:
        events = re.compile(r"/events(\?|$)")
        page.page.route(events, lambda route: route.fulfill(status=502))
        page.page.reload()
        eventually(lambda: page.shows("#trouble", "cannot be followed"), "the loss")
        page.page.unroute(events)
        eventually(lambda: not page.page.locator("#trouble").is_visible(), "the return")


NO_GRAPH = """
AudioContext.prototype.createMediaStreamSource = () => {
  throw new DOMException("sample rates differ", "NotSupportedError");
};
"""


def test_a_call_that_cannot_be_heard_is_not_left_open(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve()
    with opened(launch(*microphone(silence(1))), server.url) as page:
        page.page.add_init_script(NO_GRAPH)
        page.page.reload()
        page.page.click("#call")
        eventually(lambda: page.shows("#trouble", "sample rates differ"), "the words")
        eventually(lambda: server.live == 0, "nothing left")


def test_each_call_begins_without_the_waits_of_the_last(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve()
    with opened(launch(*microphone(silence(1))), server.url, says=(question(),)) as page:
        hint = page.text("#waits-summary")
        page.page.click("#call")
        eventually(lambda: " answer" in page.text("#waits-summary"), "an answer")
        page.page.click("#hang-up")
        eventually(lambda: server.live == 0, "nothing left")
        page.page.click("#call")
        eventually(lambda: page.text("#waits-summary") == hint, "the hint")

"""What an operator has of calls that are over: found again, and shown as they were."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from browser.rig import Server, eventually, question, silence
from browser.test_softphone import Page, opened
from call_stories import FROM, Story, sid, whole
from rig_app import make_app

from sts_trio.observe import events
from sts_trio.records.rows import Kind, Row

pytestmark = pytest.mark.browser

Launch = Callable[..., Any]
Serve = Callable[..., Server]
Microphone = Callable[..., tuple[str, str]]

WIDTHS = [1280, 390]
OTHER = "+14155550188"
ODD = "<img src=x onerror=alert(1)>"


def keep(place: Path, rows: Sequence[Row]) -> str:
    """A database with these in it; its URL."""
    url = f"sqlite:///{place / 'calls.db'}"

    async def write() -> None:
        server = make_app(place, STS_AGENT="offline", STS_DATABASE_URL=url).server
        await server.open_records()
        assert server.records is not None
        server.records.store.write(rows)

    trio.run(write)
    return url


def go(page: Page, server: Server, sid: str = "") -> None:
    """To the page of past calls, by who has opened the page before."""
    page.page.goto(f"http://127.0.0.1:{server.port}/past#{sid}")


def count(page: Page) -> int:
    return int(page.page.locator("#calls a").count())


def cut(at: float) -> list[Row]:
    """A call with all that a timeline shows."""
    story = Story(sid(9), at=at).announce(OTHER, agent="sales").start().talk()
    noted: dict[str, Any] = {"sts.call.barge_in": {"cut": 0.4}}
    story.tell(Kind.NOTE, **noted)
    story.tell(Kind.FUNCTION_ASKED, id="a", name="book", arguments="{}", shield=False)
    story.tell(Kind.FUNCTION_ANSWERED, id="a", name="book", outcome="done", seconds=1.0)
    story.tell(Kind.AGENT_LOST, ending="agent_lost", detail="")
    noted = {"sts.agent.reconnected": {"agent": "sales", "gap": 1.0}}
    story.tell(Kind.NOTE, **noted)
    story.tell(Kind.USER, text=ODD, until=story.at)
    return story.end(ending="agent_mute", verdict="agent").rows


@pytest.mark.parametrize("width", WIDTHS)
def test_a_past_call_is_found_and_shown_with_what_was_not_heard(
    serve: Serve, launch: Launch, tmp_path: Path, width: int
) -> None:
    now = time.time()
    rows = [row for number in range(60, 63) for row in whole(number, at=now - 86400 * 3)]
    server = serve(STS_DATABASE_URL=keep(tmp_path, [*rows, *cut(now - 600)]))
    with opened(launch(), server.url, viewport={"width": width, "height": 800}) as page:
        go(page, server)
        eventually(lambda: count(page) == 4, "all calls")
        assert page.shows("#found", "4 calls")
        page.page.fill("#number", "+14155550188")
        eventually(lambda: count(page) == 1, "those of a number")
        assert page.shows("#calls", "The agent owed an answer")
        page.page.click("#clear")
        eventually(lambda: count(page) == 4, "all calls again")
        page.page.fill("#words", "Where is nothing like it?")
        eventually(lambda: page.shows("#found", "0 calls"), "none")
        page.page.fill("#words", "")
        page.page.select_option("#ending", "agent_mute")
        eventually(lambda: count(page) == 1, "those that ended so")

        page.page.locator("#calls a").press("Enter")
        eventually(lambda: page.shows("#transcript", "Three of"), "what was said")
        assert page.page.locator("#transcript s").inner_text() == "them."
        for words in (ODD, "The agent called book", "The agent is back", "said nothing"):
            assert words in page.text("#transcript")
        assert page.text("#whose") == OTHER
        shown = page.page.locator
        assert shown("#timeline .voice.caller").count() == 2
        assert shown("#timeline .voice.agent").count() == 2
        for what in (".cut", ".wait", ".mark.barge-in", ".mark.function", ".mark.loss"):
            assert shown(f"#timeline {what}").count() == 1, what
        assert "2 barge-ins" not in (shown("#timeline").get_attribute("aria-label") or "")
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width

        for name, beginning in (
            (f"{sid(9)}.txt", "    1.5  agent   Hello!"),
            (f"{sid(9)}.vtt", "WEBVTT"),
            (f"{sid(9)}-transcript.json", '{"version"'),
            (f"{sid(9)}.json", '{"version"'),
        ):
            with page.page.expect_download() as download:
                page.page.locator(f'#files a[download="{name}"]').click()
            assert download.value.suggested_filename == name
            assert Path(download.value.path()).read_text().startswith(beginning)
        if width == 390:
            page.page.click("#back")
            eventually(lambda: page.page.locator("#filters").is_visible(), "the list again")
        assert page.complaints == []


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_the_heading_of_a_call_without_a_number_and_the_key_to_its_waits_can_be_read(
    serve: Serve, launch: Launch, tmp_path: Path, width: int
) -> None:
    rows = Story(sid(9), at=time.time() - 600).announce("").start().talk().end().rows
    server = serve(STS_DATABASE_URL=keep(tmp_path, rows))
    with opened(launch(), server.url, viewport={"width": width, "height": 800}) as page:
        go(page, server, sid(9))
        eventually(lambda: page.shows("#transcript", "Three of"), "what was said")
        assert page.text("#whose") == sid(9)
        assert page.page.evaluate("stands.parentElement.scrollHeight") <= page.page.evaluate(
            "stands.parentElement.clientHeight"
        )
        # Each line of the key begins where its words do, right of the coloured square.
        key = page.page.locator("#waits-key .silence")
        lines = key.evaluate(BEGINNINGS_OF_LINES)
        if width == 320:
            assert len(lines) > 1
        assert max(lines) - min(lines) < 1
        assert page.complaints == []


# Pixels from the left, of each line of an element's text.
BEGINNINGS_OF_LINES = """element => {
    const range = document.createRange();
    range.selectNodeContents(element.firstChild);
    return Array.from(range.getClientRects(), ({ left }) => left);
}"""


def test_older_calls_come_when_they_are_asked_for_and_arrows_go_along_them(
    serve: Serve, launch: Launch, tmp_path: Path
) -> None:
    rows = [row for n in range(1, 60) for row in whole(n, at=time.time() - 60 * n)]
    server = serve(STS_DATABASE_URL=keep(tmp_path, rows))
    with opened(launch(), server.url) as page:
        go(page, server)
        eventually(lambda: count(page) == 50, "the newest")
        page.page.click("#more")
        eventually(lambda: count(page) == 59, "all of them")
        assert not page.page.locator("#more").is_visible()

        def focused() -> str:
            return str(page.page.evaluate("document.activeElement.dataset.callSid"))

        eventually(lambda: focused() == sid(51), "the focus on the first of them")
        page.page.keyboard.press("ArrowDown")
        assert focused() == sid(52)
        page.page.keyboard.press("ArrowUp")
        page.page.keyboard.press("ArrowUp")
        page.page.keyboard.press("Enter")
        assert focused() == sid(50)
        eventually(lambda: page.shows("#transcript", "Three of"), "the call")
        assert FROM in page.text("#whose")
        assert page.complaints == []


def _log_of(page: Page) -> set[str]:
    """The events that stand in its log."""
    return {line.split()[0] for line in page.page.locator("#log-lines code").all_inner_texts()}


def test_what_a_live_call_shows_its_record_shows(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve()
    browser = launch(*microphone(silence(1)))
    with opened(browser, server.url) as caller:
        caller.page.click("#call")
        eventually(lambda: caller.lines("agent") > 0, "the greeting")
        [call] = server.ask("/calls")["calls"]
        with opened(browser, server.url) as page:
            page.page.locator("#calls button").click()
            eventually(lambda: page.shows("#timeline", "0:00"), "its timeline")
            caller.page.keyboard.press("7")
            eventually(lambda: page.shows("#transcript", "A key was pressed"), "the key")
            caller.page.click("#hang-up")
            eventually(lambda: page.shows("#transcript", "The caller hung up"), "the end")
            said = page.text("#transcript")
            page.page.click("#log summary")
            eventually(
                lambda: events.CallEnded.NAME in page.text("#log-lines"), "the end in the log"
            )
            logged = _log_of(page)
            # The page tells of an end at once; it is in the database within a second.
            go(page, server, call["call_sid"])
            eventually(lambda: page.shows("#transcript", "The caller hung up"), "its record")
            without_times = [line for line in said.splitlines() if ":" not in line]
            kept = page.text("#transcript").splitlines()
            assert [line for line in kept if ":" not in line] == without_times
            page.page.click("#log summary")
            eventually(lambda: events.CallEnded.NAME in page.text("#log-lines"), "the same log")
            assert _log_of(page) == logged
            assert {
                events.CallStarted.NAME,
                events.AgentWelcomed.NAME,
                events.CallerDtmf.NAME,
                events.CallEnded.NAME,
            } <= logged
            assert page.complaints == caller.complaints == []
    eventually(lambda: server.live == 0, "nothing left")


def test_a_recorded_call_is_heard_with_its_words_running_along(
    serve: Serve, launch: Launch, microphone: Microphone, tmp_path: Path
) -> None:
    recordings = str(tmp_path / "recordings")
    server = serve(STS_OFFLINE_MODE="scripted", STS_RECORD="1", STS_RECORDINGS=recordings)
    browser = launch(
        *microphone(silence(1), question(), again=True),
        "--autoplay-policy=no-user-gesture-required",
    )
    with opened(browser, server.url) as page:
        page.page.click("#call")
        eventually(lambda: page.lines("agent") > 0, "the greeting")
        eventually(lambda: page.seconds("sent") > 5, "what the caller says")
        [call] = server.ask("/calls")["calls"]
        page.page.click("#hang-up")
        eventually(lambda: server.live == 0, "nothing left")
        path = f"/calls/{call['call_sid']}"
        eventually(lambda: bool(server.ask(path).get("recordings")), "its recording")
        go(page, server, call["call_sid"])
        eventually(lambda: page.page.locator("#timeline .wave").count() == 2, "its waveforms")
        assert page.page.evaluate(LOUDEST) > 20
        player = page.page.locator("#player")
        player.evaluate("player => player.play()")
        eventually(lambda: player.evaluate("player => player.currentTime") > 0.2, "its sound")
        assert player.evaluate("player => player.duration") > 3
        # Where somebody clicks in the timeline, it goes on.
        box = page.page.locator("#timeline").bounding_box()
        page.page.mouse.click(box["x"] + 0.95 * box["width"], box["y"] + 5)
        eventually(lambda: player.evaluate("player => player.currentTime") > 2, "its end")
        pointed = page.page.locator('#transcript li[aria-current="true"]')
        eventually(lambda: pointed.count() == 1, "what is being said there")
        assert page.complaints == []


# Of both waveforms, the highest column, in pixels.
LOUDEST = """() => Math.max(...Array.from(document.querySelectorAll(".wave"), (wave) => {
  const { data, width, height } = wave
    .getContext("2d").getImageData(0, 0, wave.width, wave.height);
  let highest = 0;
  for (let x = 0; x < width; x += 2) {
    let column = 0;
    for (let y = 0; y < height; y += 1) column += data[4 * (y * width + x) + 3] > 0;
    highest = Math.max(highest, column);
  }
  return highest;
}))"""


def test_a_call_that_is_not_kept_and_one_that_is_live_are_said_to_be_so(
    serve: Serve, launch: Launch, microphone: Microphone
) -> None:
    server = serve()
    browser = launch(*microphone(silence(1)))
    with opened(browser, server.url) as caller, opened(browser, server.url) as page:
        go(page, server, "CA%2F..%2Fnone")
        eventually(lambda: page.shows("#trouble", "No such call is kept"), "that there is none")
        caller.page.click("#call")
        eventually(lambda: caller.lines("agent") > 0, "the greeting")
        [call] = server.ask("/calls")["calls"]
        go(page, server, call["call_sid"])
        eventually(lambda: page.shows("#trouble", "This call is live"), "that it is live")
        # It is looked at again until it is over.
        caller.page.click("#hang-up")
        eventually(lambda: page.shows("#transcript", "The caller hung up"), "its record")
        assert not page.page.locator("#trouble").is_visible()


def test_where_nothing_is_kept_it_is_said(serve: Serve, launch: Launch) -> None:
    server = serve(STS_DATABASE_URL="none")
    with opened(launch(), server.url) as page:
        go(page, server)
        eventually(lambda: page.shows("#trouble", "STS_DATABASE_URL is none"), "the words")
        assert json.loads(server.get("/readyz"))["status"] == "ready"

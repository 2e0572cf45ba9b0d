"""What the operator is told of past calls over HTTP."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
import trio
from call_stories import FROM, NOON, Story, sid, whole
from limits import HANG
from rig_app import client_of, key, make_app

from sts_trio.records.database import DatabaseAway
from sts_trio.records.recording_file import HEADER_SIZE, RecordingFile
from sts_trio.records.rows import Kind, Row
from sts_trio.web.app import App

OTHER = "+14155550188"


@contextlib.asynccontextmanager
async def keeping(tmp_path: Path, *rows: Row) -> AsyncIterator[App]:
    """An app with these in its database."""
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    app = make_app(tmp_path, STS_AGENT="offline", STS_DATABASE_URL=url)
    await app.server.open_records()
    assert app.server.records is not None
    if rows:
        app.server.records.store.write(rows)
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            await nursery.start(app.server.records.writer.run)
            yield app
            nursery.cancel_scope.cancel()


async def get(app: App, path: str, status: int = 200) -> bytes:
    response = await client_of(app).get(
        path, headers=key(app), scope_base={"client": ("127.0.0.1", 5)}
    )
    assert response.status_code == status
    assert status != 200 or response.headers["Cache-Control"] == "no-store"
    # Whatever a caller is called and says, to no browser is it a page.
    assert response.content_type.partition(";")[0] in ("application/json", "text/plain")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    data: bytes = await response.get_data(as_text=False)
    return data


async def listed(app: App, query: str) -> tuple[list[str], str | None]:
    page = msgspec.json.decode(await get(app, f"/calls?{query}"))
    return [call["call_sid"] for call in page["calls"]], page["after"]


async def test_past_calls_are_listed_the_newest_first_and_page_by_page(tmp_path: Path) -> None:
    rows = [*whole(1), *whole(2, at=NOON + 60), *whole(3, at=NOON + 120)]
    live = Story(sid(4), at=NOON + 180).announce().start().rows
    async with keeping(tmp_path, *rows, *live) as app:
        assert await listed(app, "ended=1") == ([sid(3), sid(2), sid(1)], None)
        first, after = await listed(app, "ended=1&limit=2")
        assert (first, after is not None) == ([sid(3), sid(2)], True)
        assert await listed(app, f"ended=1&limit=2&after={quote(after or '')}") == ([sid(1)], None)


async def test_they_are_chosen_by_what_is_asked_for(tmp_path: Path) -> None:
    rows = [*whole(1), *whole(2, at=NOON + 60, caller=OTHER, agent="sales")]
    async with keeping(tmp_path, *rows) as app:
        for query in (
            f"number={quote(OTHER)}",
            f"number={OTHER}",  # its plus is a space
            "agent=sales",
            f"since={NOON + 30}&until={NOON + 90}",
            "words=cars&agent=sales",
        ):
            assert await listed(app, f"ended=1&{query}") == ([sid(2)], None), query
        assert await listed(app, "ended=1&ending=crashed") == ([], None)


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        (
            "sinec=24h",
            "expected since, until, number, agent, ending, verdict, words, ended, limit or",
        ),
        ("since=24h&Agent=sales", "expected since, until, "),
        ("since=yesterday", "since: expected a date like "),
        ("limit=0", "limit: expected a whole number from 1 to 500, got '0'"),
        ("limit=many", "limit: expected "),
        ("limit=99999999999999999999", "limit: expected "),
        ("after=x", "expected what a page gave as `after`, got 'x'"),
    ],
)
async def test_what_is_asked_for_wrongly_is_told(
    tmp_path: Path, query: str, complaint: str
) -> None:
    async with keeping(tmp_path) as app:
        told = msgspec.json.decode(await get(app, f"/calls?ended=1&{query}", 400))
        assert told["error"].startswith(complaint)


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("since=24h", "expected ended=1 beside 'since': live calls have no filters"),
        ("ended=0&limit=2", "expected ended=1 beside 'limit': live calls have no filters"),
        ("endde=1", "expected ended=1 beside 'endde': live calls have no filters"),
        ("ended=true", "ended: expected 1 or 0, got 'true'"),
        ("ended=1&ended=0&since=24h&since=7d", "expected each name once, got 'ended' again"),
    ],
)
async def test_a_query_that_would_get_other_calls_than_were_meant_is_told(
    tmp_path: Path, query: str, complaint: str
) -> None:
    async with keeping(tmp_path) as app:
        assert msgspec.json.decode(await get(app, f"/calls?{query}", 400)) == {"error": complaint}


async def test_one_call_is_told_with_all_its_events(tmp_path: Path) -> None:
    story = Story().announce().start().talk()
    story.tell(Kind.USER, text="<script>alert(1)</script>")
    async with keeping(tmp_path, *story.end().rows) as app:
        record = msgspec.json.decode(await get(app, f"/calls/{sid(1)}"))
        assert record["call"]["from"] == FROM
        assert [event["kind"] for event in record["events"]] == [row.kind for row in story.rows]
        assert record["turns"][-1]["said"] == "<script>alert(1)</script>"
        assert b"No such call is kept." in await get(app, "/calls/CA0", 404)
        assert b"<" not in await get(app, "/calls/%3Cscript%3E", 404)
        assert b"limit" in await get(app, "/calls?ended=1&limit=%3Cscript%3E", 400)


async def test_live_calls_are_told_as_before(tmp_path: Path) -> None:
    async with keeping(tmp_path, *whole()) as app:
        for query in ("", "?", "?ended=0", "?ended="):
            told = msgspec.json.decode(await get(app, f"/calls{query}"))
            assert (told["live"], told["calls"], told["elsewhere"]) == (0, [], [])


async def test_nobody_but_the_operator_is_told(tmp_path: Path) -> None:
    async with keeping(tmp_path, *whole()) as app:
        for path in ("/calls?ended=1", f"/calls/{sid(1)}", f"/calls/{sid(1)}/transcript.txt"):
            response = await client_of(app).get(path, scope_base={"client": ("127.0.0.1", 5)})
            assert response.status_code in (401, 403)
            assert FROM.encode() not in await response.get_data(as_text=False)


async def test_where_nothing_is_kept_it_is_said(tmp_path: Path) -> None:
    app = make_app(tmp_path, STS_AGENT="offline")
    for path in ("/calls?ended=1", f"/calls/{sid(1)}"):
        assert b"kept here: STS_DATABASE_URL is none." in await get(app, path, 404)


async def test_a_database_that_is_away_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with keeping(tmp_path, *whole()) as app:
        assert app.server.records is not None

        def away(call_sid: str) -> None:
            raise DatabaseAway("it is locked")

        monkeypatch.setattr(app.server.records.store, "record", away)
        told = await get(app, f"/calls/{sid(1)}", 503)
        assert told == b"The database cannot be read now: it is locked.\n"


# --- what was said in one -------------------------------------------------------------------------


async def test_a_transcript_is_a_file_of_the_form_that_is_asked_for(tmp_path: Path) -> None:
    async with keeping(tmp_path, *whole()) as app:
        for form, content_type, beginning in (
            ("txt", "text/plain; charset=utf-8", b"    1.5  agent   Hello!"),
            ("json", "application/json", b'{"version":1'),
            ("vtt", "text/vtt; charset=utf-8", b"WEBVTT"),
        ):
            response = await client_of(app).get(
                f"/calls/{sid(1)}/transcript.{form}",
                headers=key(app),
                scope_base={"client": ("127.0.0.1", 5)},
            )
            assert response.status_code == 200
            assert response.headers["Content-Type"] == content_type
            assert response.headers["Content-Disposition"] == "attachment"
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert (await response.get_data(as_text=False)).startswith(beginning)


async def test_there_is_no_transcript_in_another_form_or_of_another_call(tmp_path: Path) -> None:
    async with keeping(tmp_path, *whole()) as app:
        told = await get(app, f"/calls/{sid(1)}/transcript.html", 404)
        assert told == b"There is no such form: txt, json, vtt.\n"
        assert await get(app, "/calls/CA0/transcript.txt", 404) == b"No such call is kept.\n"


async def test_a_recording_is_given_to_the_operator_alone_and_in_parts(tmp_path: Path) -> None:
    story = Story().announce().start().talk().end()
    uris = [f"2026-11-30/{sid(1)}-{epoch}.wav" for epoch in (10, 11, 12)]
    for number, uri in enumerate(uris):
        story.tell(
            Kind.RECORDED,
            of=10 + number,
            uri=uri if number < 2 else "../../calls.db",
            began_at=NOON + number,
            seconds=0.1,
            bytes=4,
            result="ok",
        )
    async with keeping(tmp_path, *story.rows) as app:
        root = app.server.config.records.recordings
        for number, uri in enumerate(uris[:2]):
            file = RecordingFile(root / uri)
            file.append(0, b"%d" % number * 800, b"a" * 800)
            file.finish()
        client = client_of(app)
        here = {"client": ("127.0.0.1", 5)}
        base = f"/calls/{sid(1)}/recording.wav"
        refused = await client.get(f"{base}?part=1", scope_base=here)
        assert refused.status_code in (401, 403)

        async def got(query: str, span: str = "", status: int = 200) -> bytes:
            headers = {**key(app), "Range": span} if span else key(app)
            response = await client.get(base + query, headers=headers, scope_base=here)
            assert response.status_code == status
            assert response.headers["Content-Type"] == "audio/wav"
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            data: bytes = await response.get_data(as_text=False)
            assert int(response.headers["Content-Length"]) == len(data)
            return data

        assert await got("?part=1") == (root / uris[0]).read_bytes()
        assert await got("?part=2", "bytes=0-4", 206) == b"RIFF" + (b"\x72")
        assert await got("?part=2", "bytes=58-61", 206) == b"1a1a"
        # All of them as one: the third is silent, as it is not here.
        whole = await got("")
        assert len(whole) == HEADER_SIZE + 2 * 8000 * 2 + 1600
        assert whole[HEADER_SIZE:][:4] == b"0a0a"
        assert whole[HEADER_SIZE + 16000 :][:4] == b"1a1a"
        assert await got("", f"bytes={HEADER_SIZE + 16002}-", 206) == whole[HEADER_SIZE + 16002 :]
        headers = {**key(app), "Range": "bytes=999999999-"}
        response = await client.get(base, headers=headers, scope_base=here)
        assert response.status_code == 416
        # The third is none of a recording, whoever wrote that; and there are no others.
        for part in ("3", "4", "0", "99999999999", "first", "-1", ""):
            query = f"?part={part}"
            assert b"No such recording is kept." in await get(app, base + query, 404)
        assert b"No such recording is kept." in await get(app, "/calls/CA0/recording.wav", 404)

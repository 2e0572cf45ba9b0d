"""Past calls, from the database, as answers. Who asks is the operator: `page` has seen to that."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import trio
from quart import Response, request

from sts_trio.net.threads import run_in_thread
from sts_trio.records.joined_recording import JoinedRecording, Part
from sts_trio.records.recordings import find
from sts_trio.server import Server
from sts_trio.web import responses
from sts_trio.web.recording_body import RecordingBody
from sts_trio.wire.printable import quoted

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

    from sts_trio.records.opening import OpenRecords
    from sts_trio.records.record import Record
    from sts_trio.records.store import Store

T = TypeVar("T")

# How many are looked for at once: those that read in the database have as many connections.
READERS = 4
DEFAULT_LIMIT = 50
NOTHING_KEPT = "No past calls are kept here: STS_DATABASE_URL is none."
MAX_LIMIT = 500
BESIDE_FILTERS = ("ended", "limit", "after")  # what a list is asked by that chooses no calls


class PastCalls:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._readers = trio.CapacityLimiter(READERS)

    async def list(self, asked: "MultiDict[str, str]") -> Response | None:
        """What the query asks for (see `records.filters`), the newest first. `after` is where the
        next page begins. None: it asks for live calls."""
        from sts_trio.records.filters import BadFilter, read_wanted
        from sts_trio.records.search import BadCursor

        try:
            if not _is_for_past(asked):
                return None
            wanted = read_wanted(asked, time.time(), BESIDE_FILTERS)
            wanted = msgspec.structs.replace(wanted, has_ended=True)
            limit = _limit(asked.get("limit", ""))
            after = asked.get("after") or None
            return await self._read(lambda store: store.calls(wanted, limit, after))
        except (BadFilter, BadCursor) as exc:
            return responses.json({"error": str(exc)}, 400)

    async def record(self, call_sid: str) -> Response:
        """One call's record, with its events."""
        return await self._read(lambda store: store.record(call_sid))

    async def transcript(self, call_sid: str, form: str) -> Response:
        """What was said in it, as a file."""
        from sts_trio.records import call_transcript

        forms: dict[str, tuple[str, Callable[[Record], bytes]]] = {
            "txt": ("text/plain; charset=utf-8", lambda kept: call_transcript.text(kept).encode()),
            "json": ("application/json", call_transcript.json),
            "vtt": ("text/vtt; charset=utf-8", lambda kept: call_transcript.webvtt(kept).encode()),
        }
        if form not in forms:
            return responses.text(f"There is no such form: {', '.join(forms)}.", 404)
        content_type, write = forms[form]
        response = await self._read(lambda store: store.record(call_sid), write)
        if response.status_code == 200:
            response.content_type = content_type
            response.headers["Content-Disposition"] = "attachment"
        return response

    async def recording(self, call_sid: str, part: int | None) -> Response:
        """The audio of that call, or of one stream of it: the first is number 1."""

        def join(records: "OpenRecords") -> JoinedRecording | None:
            record = records.store.record(call_sid)
            root = self._server.config.records.recordings
            kept = [] if record is None else [each for each in record.recordings if each.uri]
            if part is not None:
                kept = kept[part - 1 : part] if part else []
            parts = [Part(each.began_at, each.seconds, find(root, each.uri)) for each in kept]
            is_there = any(each.file is not None for each in parts)
            return JoinedRecording(parts) if is_there else None

        recording = await self._found(join)
        if isinstance(recording, Response):
            return recording
        if recording is None:
            return responses.text("No such recording is kept.", 404)
        response = Response(
            RecordingBody(recording),
            content_type="audio/wav",
            headers={**responses.UNKEPT},
        )
        response.content_length = recording.size
        # In parts, too, as players ask for them who jump to and fro.
        await response.make_conditional(request, accept_ranges=True, complete_length=recording.size)
        return response

    async def _read(
        self,
        read: "Callable[[Store], Any]",
        write: Callable[[Any], bytes] = msgspec.json.encode,
    ) -> Response:
        def encoded(records: "OpenRecords") -> bytes | None:
            found = read(records.store)
            # Also in the thread: a record may have thousands of events.
            return None if found is None else write(found)

        body = await self._found(encoded)
        if isinstance(body, Response):
            return body
        if body is None:
            return responses.text("No such call is kept.", 404)
        return responses.data(body)

    async def _found(self, look: "Callable[[OpenRecords], T]") -> T | Response:
        """What it finds, in a thread; or the answer where nobody can look."""
        records = self._server.records
        if records is None:
            return responses.text(NOTHING_KEPT, 404)
        from sts_trio.records.database import DatabaseAway

        try:
            return await run_in_thread(lambda: look(records), self._readers)
        except DatabaseAway as exc:
            return responses.text(f"The database cannot be read now: {exc}.", 503)


def _is_for_past(asked: "MultiDict[str, str]") -> bool:
    """Raises `BadFilter`."""
    from sts_trio.records.filters import BadFilter

    if twice := [name for name in asked if len(asked.getlist(name)) > 1]:
        raise BadFilter(f"expected each name once, got {quoted(twice[0])} again")
    ended = asked.get("ended", "").strip() or "0"
    if ended not in ("0", "1"):
        raise BadFilter(f"ended: expected 1 or 0, got {quoted(ended)}")
    others = [name for name in asked if name != "ended"]
    if ended == "0" and others:
        raise BadFilter(f"expected ended=1 beside {quoted(others[0])}: live calls have no filters")
    return ended == "1"


def _limit(text: str) -> int:
    """Raises `BadFilter`."""
    from sts_trio.records.filters import BadFilter

    if not text.strip():
        return DEFAULT_LIMIT
    if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    raise BadFilter(f"limit: expected a whole number from 1 to {MAX_LIMIT}, got {quoted(text)}")

"""Several processes on one database, as their callers, operators and Twilio meet them: whichever
of them is asked, it is one server. The same on both databases."""

import base64
import contextlib
import functools
import hashlib
import hmac
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
import trio
import trio.lowlevel
from call_stories import FROM, Story, sid
from limits import HANG
from quart.wrappers import Response
from rig_postgresql import Cluster
from rig_rest import ACCOUNT, REFUSED, TOKEN, UNCERTAIN, FakeAccount
from rig_server import answer_in, knock

from sts_trio import cli
from sts_trio.config import load
from sts_trio.errors import AgentRejected, AgentUnreachable
from sts_trio.observe import events
from sts_trio.records import schema
from sts_trio.records import shared as shareds
from sts_trio.records.database import Database
from sts_trio.server import Server
from sts_trio.testing import running
from sts_trio.web.app import App
from sts_trio.wire import webhook

BASE = "https://bridge.example.com"
ENVIRON = {
    "STS_AGENT": "offline",
    "STS_OFFLINE_MODE": "scripted",
    "TWILIO_ACCOUNT_SID": ACCOUNT,
    "TWILIO_AUTH_TOKEN": TOKEN,
    "STS_ADMIN_TOKEN": "operators-own",
    "STS_CALLER_ID": "+15005550006",
    "STS_PUBLIC_URL": BASE,
    "STS_DIAL_PREFIXES": "+1500",
    "STS_DIALS_PER_SECOND": "30",
}
AGENTS = """
[agents.default.think]
provider = { type = "open_ai", model = "default" }
[agents.sales.think]
provider = { type = "open_ai", model = "sales" }
"""
OPERATOR = {"authorization": "Bearer operators-own", "content-type": "application/json"}
TO = "+15005550010"
MESSAGE = {"on_machine": "leave_message", "message": "Call us back."}


class Member:
    """A process of the fleet, without a socket."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.server = app.server

    async def place(self, key: str | None = None, **order: Any) -> tuple[int, Any]:
        """Status and answer of POST /calls."""
        named = OPERATOR | ({} if key is None else {"idempotency-key": key})
        response = await self._post("/calls", json.dumps({"to": TO, **order}), named)
        return response.status_code, await response.get_json()

    async def tell(self, path: str, **fields: str) -> str:
        """What Twilio gets for a webhook that it has signed."""
        text = BASE + path + "".join(name + fields[name] for name in sorted(fields))
        digest = hmac.new(TOKEN.encode(), text.encode(), hashlib.sha1).digest()
        form = {
            "content-type": "application/x-www-form-urlencoded",
            "x-twilio-signature": base64.b64encode(digest).decode(),
        }
        response = await self._post(path, urlencode(fields), form)
        assert response.status_code in (200, 204)
        return str(await response.get_data(as_text=True))

    async def get(self, path: str) -> Any:
        response = await self.app.test_client().get(
            path, headers=OPERATOR, scope_base={"client": ("192.0.2.7", 5)}
        )
        return await response.get_json()

    async def hang_up(self, call_sid: str) -> tuple[int, Any]:
        response = await self._post(f"/calls/{call_sid}/hang-up", "", OPERATOR)
        text = str(await response.get_data(as_text=True))
        return response.status_code, json.loads(text) if response.is_json else text

    async def _post(self, path: str, data: str, headers: dict[str, str]) -> Response:
        response = await self.app.test_client().post(
            path, data=data, headers=headers, scope_base={"client": ("192.0.2.7", 5)}
        )
        assert isinstance(response, Response)
        return response

    def told(self, name: str) -> list[str]:
        """Calls of which this was told here."""
        _, entries = self.server.live_calls.event_feed.entries_beyond(0)
        return [entry.call_sid for entry in entries if name == entry.event.NAME]


class Fleet:
    def __init__(self, directory: Path, url: str) -> None:
        self.account = FakeAccount()  # all processes have the same
        self._directory = directory
        self.url = url
        (directory / "sts-trio.toml").write_text(AGENTS)

    @contextlib.asynccontextmanager
    async def member(self, name: str, **environ: str) -> AsyncIterator[Member]:
        own = {
            "STS_DATABASE_URL": self.url,
            "STS_SPOOL": str(self._directory / f"{name}.spool"),
            "STS_PROCESS_NAME": name,
        }
        server = Server(load(ENVIRON | own | environ, self._directory))
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            try:
                yield Member(App(server))
            finally:
                with trio.CancelScope(shield=True):
                    await server.stop()

    @contextlib.asynccontextmanager
    async def members(self, count: int, **environ: str) -> AsyncIterator[list[Member]]:
        with trio.fail_after(HANG):
            async with contextlib.AsyncExitStack() as stack:
                members = [
                    await stack.enter_async_context(self.member(f"s-{number}", **environ))
                    for number in range(count)
                ]
                yield members

    @property
    def created(self) -> int:
        """How many calls Twilio was asked for."""
        return len(self.account.created)


async def until(is_so: Callable[[], bool]) -> None:
    """It comes to be so in a thread, which sets no event."""
    while not is_so():  # noqa: ASYNC110
        await trio.sleep(0.01)


@pytest.fixture
def fleet(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    fleet = Fleet(tmp_path, url)
    of = SimpleNamespace(of=lambda config: fleet.account)
    monkeypatch.setattr("sts_trio.server.TwilioRest", of)
    # A machine that is busy with other things is no database that is away.
    monkeypatch.setattr(shareds, "DIAL_WITHIN", HANG)
    monkeypatch.setattr(shareds.Shared._ask, "__defaults__", (HANG,))
    return fleet


async def at_once(*asked: Callable[[], Any]) -> list[Any]:
    answers: list[Any] = [None] * len(asked)

    async def ask(number: int) -> None:
        answers[number] = await asked[number]()

    async with trio.open_nursery() as nursery:
        for number in range(len(asked)):
            nursery.start_soon(ask, number)
    return answers


# --- calls that are placed ------------------------------------------------------------------------


async def test_of_a_burst_over_three_processes_the_budget_is_placed_and_no_call_more(
    fleet: Fleet,
) -> None:
    async with fleet.members(3, STS_DIAL_PER_DAY="10") as members:
        answers = await at_once(*(members[number % 3].place for number in range(24)))
        assert sorted(status for status, _ in answers) == [201] * 10 + [429] * 14
        assert fleet.created == 10
        refused = next(answer for status, answer in answers if status == 429)
        assert refused["why"] == "budget"
        assert "today's 10 calls are used up" in refused["error"]
    # And a restart is no new day.
    async with fleet.member("s-9", STS_DIAL_PER_DAY="10") as next_start:
        assert (await next_start.place())[0] == 429


async def test_what_twilio_refuses_is_given_back_to_all(fleet: Fleet) -> None:
    async with fleet.members(2, STS_DIAL_PER_DAY="1") as (one, other):
        fleet.account.failures.append(REFUSED)
        assert (await one.place("k"))[0] == 502
        # It is given back behind the answer.
        while (answer := await other.place("k"))[0] == 429:  # noqa: ASYNC110
            await trio.sleep(0.01)
        assert answer[0] == 201
        assert (await one.place())[0] == 429


async def test_a_key_is_one_call_however_many_processes_are_asked(fleet: Fleet) -> None:
    async with fleet.members(3) as members:
        answers = await at_once(*(lambda each=each: each.place("k") for each in members * 4))
        assert {(status, answer["call_sid"]) for status, answer in answers} == {
            (201, FakeAccount.sid(1))
        }
        status, answer = await members[1].place("k", agent="sales")
        assert (status, answer["why"]) == (409, "conflict")
        assert fleet.created == 1
    async with fleet.member("s-9") as next_start:
        assert await next_start.place("k") == answers[0]
    assert fleet.created == 1


async def test_what_may_have_been_placed_is_not_placed_by_another_process(fleet: Fleet) -> None:
    async with fleet.members(2) as (one, other):
        fleet.account.failures.append(UNCERTAIN)
        for each in (one, other, one):
            status, answer = await each.place("k")
            assert (status, answer["uncertain"]) == (502, True)
        assert fleet.created == 1


async def test_of_a_process_that_is_gone_nobody_places_its_call_again(fleet: Fleet) -> None:
    async with fleet.members(1) as (one,):
        shared = one.server.shared
        assert shared is not None
        database = shared._database
        await one.place("k")
        # What came of it is written behind the answer.
        asked = None
        while asked is None or asked.outcome is None:
            asked = await shared.look(fleet.account.token())
        with database.writing() as connection:
            connection.execute(sa.update(schema.dial).values(outcome=sa.null(), process_id="gone"))
    async with fleet.member("s-9") as next_start:
        status, answer = await next_start.place("k")
        assert (status, answer["uncertain"]) == (502, True)
        assert "its process is gone" in answer["error"]
    assert fleet.created == 1


async def test_all_processes_together_keep_one_pace(fleet: Fleet) -> None:
    """At ten a second, in a second of the database's: six take half a second at the least."""
    async with fleet.members(3, STS_DIALS_PER_SECOND="10") as members:
        began = trio.current_time()
        await at_once(*(each.place for each in members * 2))
        assert trio.current_time() - began > 0.4
        assert fleet.created == 6


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # it is given another
async def test_while_the_database_is_away_each_process_goes_by_itself(
    fleet: Fleet, own_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls are placed, by each process's own count, and what it has placed it knows."""
    monkeypatch.undo()
    of = SimpleNamespace(of=lambda config: fleet.account)
    monkeypatch.setattr("sts_trio.server.TwilioRest", of)
    fleet.url = own_cluster.create()
    async with fleet.members(2, STS_DIAL_PER_DAY="1") as (one, other):
        own_cluster.stop("immediate")
        try:
            for number, each in enumerate((one, other)):
                began = trio.current_time()
                status, answer = await each.place("k", agent="sales")
                assert status == 201
                assert (await each.place())[0] == 429
                assert await each.place("k", agent="sales") == (status, answer)
                # Two seconds for each question at the most, and then none for a second.
                assert trio.current_time() - began < 10
                path = f"/twiml?outbound={fleet.account.token(number)}"
                twiml = await each.tell(path, CallSid=answer["call_sid"], To=TO)
                assert answer_in(twiml).parameters["chosen_agent"] == "sales"
        finally:
            own_cluster.start()
        # And when it is back each is counted with all.
        async with fleet.member("s-9", STS_DIAL_PER_DAY="1") as third:
            assert (await third.place())[0] == 201
            async with fleet.member("s-10", STS_DIAL_PER_DAY="1") as fourth:
                assert (await fourth.place())[0] == 429


# --- what Twilio tells of them --------------------------------------------------------------------


async def test_any_process_knows_who_answers_a_call_that_another_has_placed(fleet: Fleet) -> None:
    async with fleet.members(2) as (one, other):
        await one.place(agent="sales", parameters={"name": "Ann"})
        path = f"/twiml?outbound={fleet.account.token()}"
        sid = FakeAccount.sid(1)
        twiml = await other.tell(path, CallSid=sid, CallStatus="in-progress", To=TO)
        parameters = answer_in(twiml).parameters
        assert (parameters["chosen_agent"], parameters["name"]) == ("sales", "Ann")
        assert f"{BASE.replace('https', 'wss')}/twilio/at/s-1/" in twiml
        # It rings for one process: the other has as many lines as before.
        assert [each.server.dialler.placed.ringing() for each in (one, other)] == [1, 0]
        # A token that nobody has given is nobody's.
        twiml = await other.tell("/twiml?outbound=%00guessed", CallSid="CA9", To=TO)
        assert answer_in(twiml).parameters["chosen_agent"] == "default"


async def test_a_number_that_was_asked_for_is_not_to_be_had_from_what_is_shared(
    fleet: Fleet, url: str
) -> None:
    """Neither as it is, nor by a hash that whoever has all numbers could look up."""
    async with fleet.members(1) as (one,):
        await one.place("k", agent="sales")
        shared = one.server.shared
        assert shared is not None
        with shared._database.reading() as connection:
            [row] = connection.execute(sa.select(schema.dial))
    assert TO not in str(row)
    request = json.loads(row.request) | {"to": TO}
    guesses = [request, dict(sorted(request.items()))]
    hashes = [hashlib.sha256(json.dumps(each, separators=(",", ":")).encode()) for each in guesses]
    assert row.digest not in [each.hexdigest() for each in hashes]
    assert row.idempotency_key == hashlib.sha256(b"k").hexdigest()


async def test_what_twilio_tells_twice_is_heard_once_by_all(fleet: Fleet) -> None:
    async with fleet.members(2) as (one, other):
        await one.place(**MESSAGE)
        token, sid = fleet.account.token(), FakeAccount.sid(1)
        for each in (other, one, other):
            await each.tell(
                f"/twiml/status?outbound={token}", CallSid=sid, CallStatus="in-progress"
            )
        machine = {"CallSid": sid, "AnsweredBy": "machine_end_beep"}
        for each in (other, one):
            await each.tell(f"/twiml/amd?outbound={token}", **machine)
        told = [each.told(events.CallStatus.NAME) for each in (one, other)]
        assert told == [[], [sid]]
        assert [each.told(events.CallAnsweredBy.NAME) for each in (one, other)] == [[], [sid]]
        await until(lambda: bool(fleet.account.redirected))
        assert len(fleet.account.redirected) == 1
        assert "Call us back." in str(fleet.account.redirected)
        # It is over, and what was to be said is nobody's any more.
        await other.tell(f"/twiml/status?outbound={token}", CallSid=sid, CallStatus="completed")
        shared = one.server.shared
        assert shared is not None
        while await shared.consult(token, [], 60) != (None, set()):  # noqa: ASYNC110
            await trio.sleep(0.01)


# --- streams --------------------------------------------------------------------------------------


Address = tuple[str, int]


@pytest.fixture
def signed(tmp_path: Path, url: str) -> dict[str, str]:
    return {
        "STS_DATABASE_URL": url,
        "STS_SPOOL": str(tmp_path / "spool"),
        "STS_OFFLINE_MODE": "scripted",
        "STS_DIAL_AHEAD": "0",
        "TWILIO_AUTH_TOKEN": TOKEN,
        "STS_PUBLIC_URL": BASE,
    }


@contextlib.asynccontextmanager
async def listening(environ: dict[str, str], name: str) -> AsyncIterator[tuple[Member, Address]]:
    async with running({**environ, "STS_PROCESS_NAME": name}) as server:
        yield Member(server.app), ("127.0.0.1", int(server.base.rpartition(":")[2]))
        await server.app.live_calls.empty()


async def stream_of(member: Member) -> tuple[str, str]:
    """Path and signature of the stream that Twilio is told to open."""
    twiml = await member.tell("/twiml", CallSid="CA1", CallStatus="ringing", To=TO)
    answer = answer_in(twiml)
    return answer.path, webhook.sign(TOKEN, answer.url)


async def test_a_stream_token_that_one_process_has_spent_is_refused_by_another(
    signed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shareds.Shared._ask, "__defaults__", (HANG,))
    with trio.fail_after(HANG):
        async with listening(signed, "s-1") as (one, here), listening(signed, "s-2") as (_, there):
            path, signature = await stream_of(one)
            assert path.startswith("/twilio/at/s-1/")
            assert await knock(there, path, signature) == 101
            assert await knock(here, path, signature) == 403
            assert await knock(there, path, signature) == 403
        # Nor does a restart make it good again.
        async with listening(signed, "s-1") as (_, again):
            assert await knock(again, path, signature) == 403


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_while_the_database_is_away_a_token_is_good_once_in_each_process(
    signed: dict[str, str], url: str
) -> None:
    """No caller is refused for it."""
    with trio.fail_after(HANG):
        async with listening(signed, "s-1") as (one, here):
            path, signature = await stream_of(one)
            lock = sqlite3.connect(str(Database(url).url.database), isolation_level=None)
            lock.execute("PRAGMA busy_timeout = 30000")
            lock.execute("BEGIN IMMEDIATE")
            try:
                assert await knock(here, path, signature) == 101
                assert await knock(here, path, signature) == 403
            finally:
                lock.close()


# --- calls of the whole fleet ---------------------------------------------------------------------


async def live_at(member: Member, number: int = 1) -> str:
    """A call that this process has, as the database knows it: and it knows the process."""
    records = member.server.records
    assert records is not None
    while records.process_id not in {  # noqa: ASYNC110
        each.process.process_id for each in records.store.processes()
    }:
        await trio.sleep(0.01)
    story = Story(sid(number)).announce(process_id=records.process_id)
    records.store.write(story.start(process_id=records.process_id).rows)
    return story.call_sid


def knows_others(member: Member) -> bool:
    records = member.server.records
    return records is not None and bool(records.writer.others)


async def test_each_process_lists_the_calls_of_all(fleet: Fleet) -> None:
    async with fleet.members(2) as (one, other):
        call_sid = await live_at(other)
        await until(lambda: knows_others(one))
        listed = await one.get("/calls")
        assert (listed["live"], listed["calls"], listed["process"]) == (0, [], "s-0")
        [call] = listed["elsewhere"]
        assert (call["call_sid"], call["process"], call["from"]) == (call_sid, "s-1", FROM)
        assert call["is_alive"] is True
        assert (await one.get(f"/calls/{call_sid}"))["call"]["state"] == "live"
        # Its own it does not list twice.
        await until(lambda: knows_others(other))
        assert (await other.get("/calls"))["elsewhere"] == []


async def test_a_call_of_another_process_is_hung_up_on_by_twilio(fleet: Fleet) -> None:
    async with fleet.members(2) as (one, other):
        call_sid = await live_at(other)
        assert await one.hang_up(call_sid) == (202, {"call_sid": call_sid, "process": "s-1"})
        assert fleet.account.hung_up == [call_sid]
        fleet.account.failures.append(REFUSED)
        assert (await one.hang_up(call_sid))[0] == 502
        assert (await one.hang_up(sid(9)))[0] == 404


async def test_without_an_account_it_is_said_where_that_call_lives(fleet: Fleet) -> None:
    fleet.account = FakeAccount(None, None)
    async with fleet.members(2) as (one, other):
        call_sid = await live_at(other)
        status, text = await one.hang_up(call_sid)
        assert status == 409
        assert "That call is at the process s-1 (" in text
        assert "set TWILIO_ACCOUNT_SID" in text
        assert fleet.account.hung_up == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_while_the_database_is_away_the_calls_elsewhere_are_not_known(
    fleet: Fleet, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet.members(2) as (one, _):
        await until(lambda: knows_others(one))
        shared = one.server.shared
        assert shared is not None

        async def away(call_sid: str | None = None) -> None:
            await trio.lowlevel.checkpoint()

        monkeypatch.setattr(shared, "live_calls", away)
        assert (await one.get("/calls"))["elsewhere"] is None
        assert (await one.hang_up(sid(1)))[0] == 503


async def test_at_its_start_a_process_tells_who_shares_the_database(fleet: Fleet) -> None:
    async with fleet.members(1) as (one,):
        assert await cli._fleet(one.server) == []
        async with fleet.member("s-9") as other:
            await until(lambda: knows_others(one))
            told = "This is s-9. It shares the database with s-0 (an unknown address)."
            assert await cli._fleet(other.server) == [told]


# --- sessions with agents -------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def leg() -> AsyncIterator[None]:
    yield


async def test_all_processes_together_have_so_many_sessions_with_agents(fleet: Fleet) -> None:
    async with fleet.members(2, STS_AGENT_SESSIONS="1") as (one, other):
        for each in (one, other):
            await until(functools.partial(knows_others, each))
        here, there = (each.server.agent_connections._sessions for each in (one, other))
        async with here.dialled(leg, 0):
            with pytest.raises(AgentUnreachable, match="all 1 sessions with agents are taken"):
                async with there.dialled(leg, 0):
                    pytest.fail("it was taken")
        # The other is told behind the call's end.
        async with there.dialled(leg, HANG):
            assert (here.open, there.open) == (0, 1)


async def test_what_the_vendor_refuses_to_one_process_holds_back_the_others(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sts_trio.agents.sessions.REST", 5.0)  # a busy machine misses a second

    @contextlib.asynccontextmanager
    async def refused() -> AsyncIterator[None]:
        await trio.lowlevel.checkpoint()
        raise AgentRejected(429)
        yield

    async with fleet.members(2, STS_AGENT_SESSIONS="5") as (one, other):
        here, there = (each.server.agent_connections._sessions for each in (one, other))
        with pytest.raises(AgentRejected):
            async with here.dialled(refused, 0):
                pytest.fail("there are none")
        told = ""
        with trio.fail_after(HANG):
            while not told:
                try:
                    async with there.dialled(leg, 0):
                        await trio.sleep(0.02)
                except AgentUnreachable as exc:
                    told = str(exc)
                else:
                    # A database that is slow to answer is gone by. It is told for as long as it
                    # holds: then the vendor is asked again.
                    with pytest.raises((AgentRejected, AgentUnreachable)):
                        async with here.dialled(refused, 0):
                            pytest.fail("there are none")
        assert "refuses more sessions" in told
        async with there.dialled(leg, HANG):
            assert there.open == 1

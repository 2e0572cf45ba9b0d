"""What is found out before a call is gone on with, and how long that takes."""

import ssl
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
import pytest
import trio
import trio.testing
import trustme
from call_stories import NOON, Story, sid
from limits import HANG
from rig_mover import LIVE, OTHER, Store, mover

from sts_trio.call.info import CallInfo
from sts_trio.logic.acts import Recalled
from sts_trio.moves.decision import ENDING_WITHIN, SILENT_FOR, Answer, Apologise, Ended, Returned
from sts_trio.moves.mover import AWAY_FOR, MAX_EXPECTED, Taken, ask_address
from sts_trio.records.movable import CallState, Claim, HowEnded, Owner
from sts_trio.records.rows import Kind, Row

Clock = trio.testing.MockClock


async def test_a_call_of_a_dead_process_is_taken_with_what_it_left_behind() -> None:
    story = Story().announce(parameters={"order": "7"}, caller_name="Ann").start().talk()
    known, left = story.rows[:4], story.rows[2:]
    store = Store(LIVE, known)
    goes_on, _ = mover(store, Answer.REFUSED, left=left)
    taken = await goes_on.decide(sid(1), "", "action")
    assert isinstance(taken, Taken)
    assert (taken.how, taken.rows[:-1]) == ("recovered", story.rows)
    assert taken.rows[-1].kind is Kind.MOVED, "by the claim itself"
    assert store.claims == [("me", True, "action")]
    assert taken.lost_at == NOON + 100.0
    call = taken.known(CallInfo(call_sid=sid(1), from_="+1"))
    assert (call.parameters, call.caller_name, call.from_) == ({"order": "7"}, "Ann", "+1")
    assert taken.past.told


async def test_of_a_call_that_was_let_go_of_it_is_known_when() -> None:
    story = Story().start().talk().end("moved")
    store = Store(msgspec.structs.replace(LIVE, state="moving"), story.rows)
    goes_on, asked = mover(store, Answer.SAME)
    taken = await goes_on.decide(sid(1), "", "action")
    assert isinstance(taken, Taken)
    assert (taken.how, taken.lost_at, asked) == ("moved", story.at, [])
    assert Taken(sid(1), "moved", taken.claim, []).lost_at == NOON + 100.0
    assert Taken(sid(1), "moved", taken.claim, []).known(CallInfo()) == CallInfo()


async def test_who_loses_a_claim_looks_again() -> None:
    store = Store(LIVE, [], False)
    goes_on, _ = mover(store, Answer.REFUSED)
    assert isinstance(await goes_on.decide(sid(1), "", "action"), Taken)
    assert len(store.claims) == 2


async def test_a_call_is_claimed_for_another_by_who_has_no_room_for_it() -> None:
    heir = Owner("p3", "s3", "127.0.0.1:3", is_alive=True)
    store = Store(LIVE, [], False)
    goes_on, _ = mover(store, Answer.REFUSED)
    had: list[str] = []

    def heir_of(process_id: str) -> Owner | None:
        had.append(process_id)
        return heir if len(had) < 3 else None

    assert await goes_on.decide(sid(1), "", "action", heir_of) == Returned(heir)
    assert store.claims == [("p3", True, "action")] * 2
    assert isinstance(await goes_on.decide(sid(1), "", "action", heir_of), Apologise)
    assert had == ["p1"] * 3


async def test_a_call_that_its_process_has_is_looked_at_no_more_often_than_it_takes(
    autojump_clock: Clock,
) -> None:
    """A proxy that is started anew has all calls asked about at once."""
    store = Store(LIVE)
    looks: list[float] = []
    look = store.look

    def noted(call_sid: str) -> CallState | None:
        looks.append(trio.current_time())
        return look(call_sid)

    store.look = noted  # type: ignore[method-assign]
    goes_on, _ = mover(store, Answer.SAME)
    assert await goes_on.decide(sid(1), "", "action") == Returned(OTHER)
    assert len(looks) == 5
    assert looks[-1] == pytest.approx(ENDING_WITHIN)


async def test_a_call_of_a_dead_process_is_looked_at_once() -> None:
    """Its calls are asked about all at once, and each look is four queries."""
    store = Store(LIVE)
    looks: list[str] = []
    look = store.look

    def noted(call_sid: str) -> CallState | None:
        looks.append(call_sid)
        return look(call_sid)

    store.look = noted  # type: ignore[method-assign]
    goes_on, _ = mover(store, Answer.REFUSED)
    assert isinstance(await goes_on.decide(sid(1), "", "action"), Taken)
    assert looks == [sid(1)]


async def test_a_process_that_lives_keeps_its_call(autojump_clock: Clock) -> None:
    goes_on, asked = mover(Store(LIVE), Answer.SAME)
    began = trio.current_time()
    assert await goes_on.decide(sid(1), "", "action") == Returned(OTHER)
    assert trio.current_time() - began == pytest.approx(ENDING_WITHIN, abs=0.1)
    assert len(asked) == 1


async def test_a_process_that_answers_nothing_is_asked_again(autojump_clock: Clock) -> None:
    goes_on, asked = mover(Store(LIVE), Answer.SILENT, Answer.SILENT, Answer.SAME)
    assert await goes_on.decide(sid(1), "", "action") == Returned(OTHER)
    assert len(asked) == 3
    goes_on, _ = mover(Store(LIVE), Answer.SILENT)
    began = trio.current_time()
    assert isinstance(await goes_on.decide(sid(1), "", "action"), Taken)
    assert trio.current_time() - began == pytest.approx(SILENT_FOR, abs=0.2)


async def test_another_process_is_asked_anew() -> None:
    """Whoever claimed the call meanwhile is not dead because the last one was."""
    newer = msgspec.structs.replace(OTHER, process_id="p2")
    claimed = msgspec.structs.replace(LIVE, state="moving", claimed_by="p2", owner=newer)
    store = Store(LIVE, [], False)
    goes_on, asked = mover(store, Answer.REFUSED, Answer.SAME)
    look = store.look

    def changed(call_sid: str) -> CallState | None:
        return claimed if store.claims else look(call_sid)

    store.look = changed  # type: ignore[method-assign]
    assert await goes_on.decide(sid(1), "", "action") == Returned(newer)
    assert [each.process_id for each in asked] == ["p1", "p2"]


async def test_what_has_ended_elsewhere_is_told_as_it_was() -> None:
    how = HowEnded("transferred", "+15005550009", apologised=False)
    goes_on, _ = mover(Store(msgspec.structs.replace(LIVE, state="ended", ended=how)), Answer.SAME)
    assert await goes_on.decide(sid(1), "", "action") == Ended(how)


async def test_a_database_that_is_away_moves_nothing(autojump_clock: Clock) -> None:
    store = Store(LIVE)
    store.is_away = True
    goes_on, _ = mover(store, Answer.SAME)
    began = trio.current_time()
    decided = await goes_on.decide(sid(1), "", "action")
    assert decided == Apologise("the database is away: no route to host")
    assert trio.current_time() - began == pytest.approx(AWAY_FOR, abs=0.2)
    assert await goes_on.recall(sid(1), NOON) == Recalled()


async def test_a_database_that_is_back_in_a_moment_is_waited_for(autojump_clock: Clock) -> None:
    """It was locked, or its server was started anew."""
    store = Store(LIVE)
    store.is_away = True
    goes_on, _ = mover(store, Answer.REFUSED)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def come_back() -> None:
            await trio.sleep(AWAY_FOR - 1.0)
            store.is_away = False

        assert isinstance(await goes_on.decide(sid(1), "", "action"), Taken)


async def test_what_is_known_already_is_recalled_once() -> None:
    story = Story().start().talk()
    goes_on, _ = mover(Store(LIVE, story.rows), Answer.SAME)
    goes_on.expect(sid(1), Recalled(agent="sales"))
    assert (await goes_on.recall(sid(1), NOON)).agent == "sales"
    assert (await goes_on.recall(sid(1), NOON)).told
    for number in range(MAX_EXPECTED + 1):
        goes_on.expect(sid(number), Recalled(agent="sales"))
    assert (await goes_on.recall(sid(0), NOON)).agent != "sales"


# --- an address -----------------------------------------------------------------------------------


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is one of real time, and a machine that is busy with something else may need it."""
    monkeypatch.setattr("sts_trio.moves.mover.ASK_WITHIN", HANG)


Serve = Callable[[trio.abc.Stream], Awaitable[None]]


async def asked(serve: Serve, owner: Owner = OTHER, tls: ssl.SSLContext | None = None) -> Answer:
    """What a server of that kind answers."""
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]

        async def handle(stream: trio.abc.Stream) -> None:
            try:
                if tls is not None:
                    stream = trio.SSLStream(stream, tls, server_side=True)
                await serve(stream)
            except trio.BrokenResourceError:
                pass
            finally:
                await trio.aclose_forcefully(stream)

        nursery.start_soon(trio.serve_listeners, handle, [listener])
        address = f"127.0.0.1:{port}"
        answer = await ask_address(msgspec.structs.replace(owner, address=address))
        nursery.cancel_scope.cancel()
    return answer


async def says(body: bytes, stream: trio.abc.Stream) -> None:
    await stream.receive_some()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
    await stream.send_all(head.encode() + body)


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b'{"status": "ok", "process": "p1", "live": 3}', Answer.SAME),
        (b'{"status": "ok", "process": "p9"}', Answer.OTHER),
        (b'{"status": "ok", "live": 3}', Answer.SAME),  # of an older version
        (b"<html>It works!</html>", Answer.OTHER),
        (b"[]", Answer.OTHER),
    ],
)
async def test_who_lives_at_an_address_is_who_says_so(body: bytes, answer: Answer) -> None:
    assert await asked(partial(says, body)) == answer


@pytest.mark.usefixtures("unhurried")
async def test_a_process_that_serves_tls_is_asked_by_tls() -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("s1.test").configure_cert(server)
    body = b'{"status": "ok", "process": "p1"}'
    assert await asked(partial(says, body), tls=server) == Answer.SAME


async def test_who_hangs_or_talks_nonsense_has_not_answered() -> None:
    async def hangs(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    async def babbles(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"SSH-2.0\r\n" * 10)

    with trio.fail_after(HANG):
        assert await asked(hangs) == Answer.SILENT
        assert await asked(babbles) == Answer.SILENT


@pytest.mark.parametrize("address", ["", "nowhere", "127.0.0.1:", "127.0.0.1:http"])
async def test_an_address_that_is_none_answers_nothing(address: str) -> None:
    assert await ask_address(msgspec.structs.replace(OTHER, address=address)) == Answer.SILENT


@pytest.mark.usefixtures("unhurried")
async def test_nobody_listens_where_a_process_was() -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        owner = msgspec.structs.replace(OTHER, address=address)
        assert await ask_address(owner) == Answer.REFUSED


def test_a_row_that_tells_of_no_call_is_passed_over() -> None:
    rows = [Row(sid(1), 1, 0, NOON, Kind.USER, {"text": "Hi."})]
    assert Taken(sid(1), "moved", Claim(1, NOON), rows).known(CallInfo()) == CallInfo()

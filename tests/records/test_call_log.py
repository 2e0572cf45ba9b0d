"""What happens in calls becomes rows, and those a record."""

import re
from pathlib import Path

import msgspec
import pytest
import structlog.testing
from call_stories import FROM, NOON, TO, sid

from sts_trio import web
from sts_trio.call.info import CallInfo
from sts_trio.observe import events
from sts_trio.observe.feed import CallEvent
from sts_trio.records.call_log import MAX_WAITING, CallLog
from sts_trio.records.database import Database
from sts_trio.records.recorder import Recorded
from sts_trio.records.rows import Kind, Row
from sts_trio.records.store import Store
from sts_trio.testing import call, running, scripted_agent

INFO = CallInfo(call_sid=sid(1), stream_sid="MZ1", from_=FROM, to=TO, agent="default")
EPOCH = int(NOON * 1e6)
# Whatever is not the caller's is the agent's.
THE_AGENTS = "agent"


class Sink:
    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.at_once: list[Kind] = []

    def put(self, row: Row) -> None:
        self.rows.append(row)

    def put_at_once(self, row: Row) -> None:
        self.rows.append(row)
        self.at_once.append(row.kind)

    @property
    def kinds(self) -> list[Kind]:
        return [row.kind for row in self.rows]


class Rig:
    def __init__(self) -> None:
        self.now = NOON
        self.sink = Sink()
        versions = {"default": "v1"}
        self.call_log = CallLog(self.sink, "p1", versions, wall=lambda: self.now)

    def hear(self, event: events.OfCall, call_sid: str = sid(1), at: float = 0.0) -> None:
        self.call_log.hear(CallEvent(call_sid, at, event))
        self.call_log.gather()

    @property
    def last(self) -> Row:
        return self.sink.rows[-1]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_call_is_put_down_from_its_announcement_on(rig: Rig) -> None:
    rig.call_log.announce(INFO, "webhook")
    body = rig.last.body
    assert (rig.last.kind, rig.last.at, rig.last.seq) == (Kind.ANNOUNCED, NOON, 0)
    assert (body["from"], body["to"], body["agent"], body["source"]) == (
        FROM,
        TO,
        "default",
        "webhook",
    )
    assert body["process_id"] == "p1"
    rig.call_log.refuse(INFO, "webhook", "full")
    assert rig.last.body == {"ending": "refused", "verdict": "ours", "detail": "full"}
    assert rig.sink.at_once == [Kind.ENDED]


def test_each_stream_has_an_epoch_of_its_own_that_is_greater_than_any_before(rig: Rig) -> None:
    rig.call_log.announce(INFO, "webhook")
    first = rig.call_log.start(INFO)
    second = rig.call_log.start(INFO, how="returned", gap=0.5)
    third = rig.call_log.start(INFO, known_epoch=EPOCH + 10**9)
    assert EPOCH == rig.sink.rows[0].epoch < first < second < EPOCH + 10**9 < third
    assert [row.seq for row in rig.sink.rows] == [0, 0, 0, 0]
    assert (rig.sink.rows[2].body["how"], rig.sink.rows[2].body["gap_seconds"]) == ("returned", 0.5)


def test_two_calls_of_one_moment_have_two_epochs(rig: Rig) -> None:
    assert rig.call_log.start(INFO) != rig.call_log.start(
        msgspec.structs.replace(INFO, call_sid=sid(2))
    )


def test_a_stream_without_a_call_is_not_put_down(rig: Rig) -> None:
    assert rig.call_log.start(CallInfo()) == 0
    rig.hear(events.CallEnded("caller_no_start", "caller", "", 10.0), "")
    assert rig.sink.rows == []


def test_what_is_said_is_put_down_with_when_it_began(rig: Rig) -> None:
    rig.hear(events.CallerStartedSpeaking())
    rig.now += 2
    rig.hear(events.CallTranscript(role="user", text="Hello?"))
    assert (rig.last.kind, rig.last.body) == (Kind.USER, {"text": "Hello?", "began": NOON})
    rig.hear(events.CallTranscript(role="user", text="Anybody?"))
    assert rig.last.body == {"text": "Anybody?"}
    rig.hear(events.CallTranscript(role=THE_AGENTS, text="Hi."))
    assert (rig.last.kind, rig.last.body) == (Kind.AGENT, {"text": "Hi."})
    heard = events.CallHeard("Hi.", "Hi.", 1.0, 1.0)
    rig.hear(heard)
    assert (rig.last.kind, rig.last.body) == (Kind.HEARD, heard.fields())


def test_the_end_of_speech_is_put_down_by_the_clock_of_the_wall(rig: Rig) -> None:
    rig.hear(events.CallTranscript("user", "Hello?", until=2.5), at=3.25)
    assert rig.last.body == {"text": "Hello?", "until": NOON - 0.75}


def test_an_answer_began_when_the_phone_says_so(rig: Rig) -> None:
    """However late it is settled."""
    rig.hear(events.CallTranscript("user", "Hello?", until=2.5), at=3.25)
    rig.hear(events.AgentAnswerHeard(0.8), at=4.0)
    rig.hear(events.CallHeard("Hi.", "Hi.", 1.0, 1.0), at=9.0)
    assert (rig.last.body["waited"], rig.last.body["began"]) == (0.8, NOON - 0.75 + 0.8)
    rig.hear(events.CallHeard("You?", "You?", 1.0, 1.0), at=10.0)
    assert "waited" not in rig.last.body
    # Nor is a wait told of another turn than the one that it was for.
    rig.hear(events.AgentAnswerHeard(0.8), at=11.0)
    rig.hear(events.CallHeard("What", "", 1.0, 0.0), at=12.0)
    assert "waited" not in rig.last.body
    rig.hear(events.CallTranscript("user", "Red."), at=13.0)
    rig.hear(events.CallHeard("Red.", "Red.", 1.0, 1.0), at=14.0)
    assert "waited" not in rig.last.body


def test_what_the_log_tells_of_a_call_is_kept_of_it(rig: Rig) -> None:
    """So the page's log of a call is the same while it lasts and afterwards: it leaves out what is
    in no record, and what was said."""
    kept = rig.call_log._kept - {
        events.AgentAnswerHeard.NAME,
        events.AgentLatency.NAME,
        events.CallerStartedSpeaking.NAME,
    }
    of_calls = {name for name, event in events.EVENTS.items() if issubclass(event, events.OfCall)}
    logged = {name for name in of_calls if events.EVENTS[name].LEVEL >= events.Level.INFO}
    assert logged - kept == {events.CallStarted.NAME}  # by the row with which its stream starts
    script = (Path(web.__file__).parent / "static" / "log.js").read_text()
    left_out = set(re.findall(r'^  "([a-z_.]+)",$', script, re.MULTILINE))
    said = {events.CallTranscript.NAME, events.CallHeard.NAME}
    in_no_record = of_calls - kept - {events.CallStarted.NAME}
    assert left_out == said | in_no_record


def test_a_shielded_function_is_put_down_before_it_runs(rig: Rig) -> None:
    rig.hear(events.FunctionCalled("1", "look_up", "{}", shield=False))
    assert rig.sink.at_once == []
    rig.hear(events.FunctionCalled("2", "pay", "{}", shield=True))
    assert rig.last.body == {"name": "pay", "id": "2", "arguments": "{}", "shield": True}
    assert rig.sink.at_once == [Kind.FUNCTION_ASKED]
    rig.hear(events.FunctionFinished("2", "pay", "done", 0.1, result="true"))
    assert (rig.last.kind, rig.last.body["name"]) == (Kind.FUNCTION_ANSWERED, "pay")
    assert rig.last.body["content"] == "true"


def test_a_function_that_the_agents_side_has_run_is_put_down(rig: Rig) -> None:
    rig.hear(events.FunctionRunByAgent("1", "look_up", '{"n":1}', '{"car":"red"}'))
    assert rig.last.kind is Kind.FUNCTION_RUN_BY_AGENT
    assert rig.last.body == {
        "id": "1",
        "name": "look_up",
        "arguments": '{"n":1}',
        "content": '{"car":"red"}',
    }


def test_sessions_know_their_agent(rig: Rig) -> None:
    rig.call_log.start(INFO)
    rig.hear(events.AgentWelcomed("r1", "default"))
    assert rig.last.body == {"agent": "default", "request_id": "r1", "version": "v1"}
    rig.hear(events.AgentLost(ending="agent_lost", detail="FIN"))
    assert rig.last.kind is Kind.AGENT_LOST
    rig.hear(events.AgentHandedOver(agent="default", to="sales"))
    rig.hear(events.AgentWelcomed("r2", "sales"))
    assert rig.last.body == {"agent": "sales", "request_id": "r2"}


def test_what_the_agent_tells_of_its_latency_is_with_the_turn_that_answers(rig: Rig) -> None:
    rig.hear(events.CallTranscript(THE_AGENTS, "Hello!"))
    rig.hear(events.AgentLatency(stt=0.3))
    rig.hear(events.AgentLatency(stt=0.2))
    rig.hear(events.CallTranscript("user", "What cars?"))
    rig.hear(events.AgentLatency(ttt_text=0.5))
    rig.hear(events.CallTranscript(THE_AGENTS, "Three."))
    rig.hear(events.AgentLatency(tts=0.1, total=0.8))
    rig.hear(events.CallTranscript(THE_AGENTS, "All red."))
    # Somebody speaks already while the first turn is still to be settled.
    rig.hear(events.AgentLatency(stt=0.9))
    rig.hear(events.CallHeard("Hello!", "Hello!", 0.5, 0.5))
    assert "reported" not in rig.last.body
    rig.hear(events.CallHeard("Three. All red.", "Three.", 1.0, 0.5))
    assert rig.last.body["reported"] == {"stt": 0.2, "ttt_text": 0.5, "tts": 0.1, "total": 0.8}
    rig.hear(events.CallTranscript(THE_AGENTS, "Are you there?"))
    rig.hear(events.CallHeard("Are you there?", "Are you there?", 1.0, 0.5))
    assert "reported" not in rig.last.body
    rig.hear(events.CallTranscript("user", "Yes."))
    rig.hear(events.CallTranscript(THE_AGENTS, "Good."))
    rig.hear(events.CallHeard("Good.", "Good.", 1.0, 0.5))
    assert rig.last.body["reported"] == {"stt": 0.9}
    assert Kind.NOTE not in rig.sink.kinds


def test_a_turn_that_is_told_otherwise_than_its_sentences_costs_nothing(rig: Rig) -> None:
    for number in range(1000):
        rig.hear(events.AgentLatency(total=1.0))
        rig.hear(events.CallTranscript(THE_AGENTS, f"{number}."))
    rig.hear(events.CallHeard("Something else.", "", 1.0, 0.5))
    assert "reported" not in rig.last.body


def test_what_twilio_tells_of_some_calls_is_put_down(rig: Rig) -> None:
    rig.call_log.start(msgspec.structs.replace(INFO, caller_name="ADA", forwarded_from=TO))
    assert rig.last.body["caller_name"] == "ADA"
    assert rig.last.body["forwarded_from"] == TO
    assert "caller_parameters" not in rig.last.body


def test_what_the_page_tells_of_a_live_call_is_in_its_record(rig: Rig) -> None:
    story = Path(web.__file__).parent / "static" / "story.js"
    told = set(re.findall(r'"((?:agent|call|caller|function)\.[a-z_]+)"', story.read_text()))
    assert events.AgentUnresponsive.NAME in told
    assert told - rig.call_log._kept == set()


def test_what_the_calls_own_code_notes_is_told_apart_from_what_we_do(rig: Rig) -> None:
    rig.hear(events.CallNoted("mood", "good"))
    assert rig.last.body == {"mood": "good"}
    rig.hear(events.CallBargeIn(cut=0.3))
    assert rig.last.body == {"sts.call.barge_in": {"cut": 0.3}}
    rig.hear(events.AgentMessage(kind="History"))
    assert rig.last.body == {"sts.call.barge_in": {"cut": 0.3}}


def test_the_end_has_what_the_call_counted(rig: Rig) -> None:
    rig.hear(events.CallEnded("stop", "success", "", 9.0, from_=FROM, to=TO, barge_ins=2))
    assert rig.last.body == {
        "ending": "stop",
        "verdict": "success",
        "detail": "",
        "statistics": {"seconds": 9.0, "barge_ins": 2},
    }
    assert rig.sink.at_once == [Kind.ENDED]


@pytest.mark.parametrize("status", ["busy", "no-answer", "failed", "canceled"])
def test_a_call_of_ours_that_nobody_took_has_an_ending(rig: Rig, status: str) -> None:
    rig.hear(events.CallStatus(status="ringing"))
    assert rig.sink.kinds == [Kind.NOTE]
    rig.hear(events.CallStatus(status=status))
    assert rig.last.body == {"ending": status, "verdict": "caller"}


def test_a_call_that_lasts_is_never_forgotten(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sts_trio.records.call_log.REMEMBERED", 3)
    epoch = rig.call_log.start(INFO)
    for number in range(2, 20):
        rig.call_log.announce(msgspec.structs.replace(INFO, call_sid=sid(number)), "webhook")
    rig.hear(events.CallEnded("stop", "success", "", 9.0))
    assert (rig.last.epoch, rig.last.seq) == (epoch, 1)
    rig.hear(events.FunctionFinished("1", "pay", "done", 0.1))
    assert (rig.last.epoch, rig.last.seq) == (epoch, 2)
    assert len(rig.call_log._runs) <= 3


def test_rows_are_made_later_of_what_was_heard_and_have_the_time_it_was_heard_at(rig: Rig) -> None:
    rig.call_log.start(INFO)
    rig.call_log.hear(CallEvent(sid(1), 1.0, events.CallTranscript("user", "Hello?", until=0.5)))
    rig.now += 0.1
    rig.call_log.hear(CallEvent(sid(1), 1.1, events.CallerDtmf()))
    assert rig.sink.kinds == [Kind.STARTED]
    rig.now += 7
    rig.call_log.gather()
    rig.call_log.gather()
    assert rig.sink.kinds == [Kind.STARTED, Kind.USER, Kind.KEYS]
    assert [row.at for row in rig.sink.rows] == pytest.approx([NOON, NOON, NOON + 0.1])
    assert rig.sink.rows[1].body["until"] == pytest.approx(NOON - 0.5)


@pytest.mark.parametrize(
    "event",
    [events.CallEnded("stop", "success", "", 1.0), events.FunctionCalled("1", "pay", "{}", True)],
    ids=["end", "function"],
)
def test_what_must_not_wait_is_a_row_at_once_behind_all_before_it(
    rig: Rig, event: events.OfCall
) -> None:
    rig.call_log.start(INFO)
    rig.call_log.hear(CallEvent(sid(1), 1.0, events.CallerDtmf()))
    rig.call_log.hear(CallEvent(sid(1), 1.0, event))
    assert rig.sink.kinds[:2] == [Kind.STARTED, Kind.KEYS]
    assert rig.sink.at_once == rig.sink.kinds[2:]
    assert len(rig.sink.at_once) == 1


@pytest.mark.parametrize("do", ["announce", "refuse", "start", "record"])
def test_what_was_heard_before_comes_before(rig: Rig, do: str) -> None:
    rig.call_log.start(INFO)
    rig.call_log.hear(CallEvent(sid(1), 1.0, events.CallerDtmf()))
    match do:
        case "announce":
            rig.call_log.announce(INFO, "webhook")
        case "refuse":
            rig.call_log.refuse(INFO, "webhook", "full")
        case "start":
            rig.call_log.start(INFO)
        case "record":
            recorded = Recorded(
                call_sid=sid(1), epoch=1, uri=None, began_at=NOON, seconds=0.0, size=0, result="ok"
            )
            rig.call_log.recorded(recorded)
    assert rig.sink.kinds[:2] == [Kind.STARTED, Kind.KEYS]


def test_no_more_waits_than_there_may_be(rig: Rig) -> None:
    for _ in range(3 * MAX_WAITING):
        rig.call_log.hear(CallEvent(sid(1), 1.0, events.CallerDtmf()))
    assert len(rig.sink.rows) >= 2 * MAX_WAITING


def test_an_event_of_which_no_row_can_be_made_takes_no_other_along(rig: Rig) -> None:
    rig.call_log.start(INFO)
    with structlog.testing.capture_logs() as logs:
        rig.hear(events.CallTranscript(THE_AGENTS, "Hi."))
        rig.call_log.hear(CallEvent(sid(1), 1.0, events.CallHeard(7, "", 0.0, 0.0)))  # type: ignore[arg-type]
        rig.call_log.hear(CallEvent(sid(1), 1.0, events.CallerDtmf()))
        rig.call_log.gather()
    assert rig.sink.kinds == [Kind.STARTED, Kind.AGENT, Kind.KEYS]
    assert [each["event"] for each in logs] == [events.RecordsCrashed.NAME]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_real_call_becomes_a_record(database: Database) -> None:
    sink = Sink()
    log = CallLog(sink, "p1")
    async with scripted_agent("Good morning!") as agent, running(agent=agent) as server:
        report = await call(server.url, ["Hello?"])
        assert report.fault is None
        log.start(msgspec.structs.replace(INFO, call_sid=report.call_sid))
        for entry in await server.happened_in(report):
            log.hear(entry)
    store = Store(database)
    store.write(sink.rows)
    record = store.record(report.call_sid)
    assert record is not None
    assert record.call.state == "ended"
    assert ("agent", "Good morning!") in [(turn.role, turn.heard) for turn in record.turns]
    assert record.call.ending is not None
    assert len(record.sessions) == 1

"""`deploy/prometheus` and `deploy/grafana`: what they ask for is emitted, and alerts fire when they
should and only then. Debian's package prometheus has promtool; skipped as in `test_haproxy`."""

import json
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from rig_app import make_app
from rig_deploy import ROOT, needed

from sts_trio.agents.breaker import Outcome
from sts_trio.errors import Cause, Leg
from sts_trio.observe import events
from sts_trio.observe.events import EVENTS
from sts_trio.observe.feed import call_event
from sts_trio.outbound.budget import utc_now
from sts_trio.records.writer import Figures as RecordFigures
from sts_trio.web.app import App

RULES = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "sts-trio.json").read_text())
EVERY = 15  # seconds from scrape to scrape
MINUTES = 20
# Of Prometheus's own client, and of Prometheus itself.
OTHERS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "up"}
FINE = RecordFigures("ok", 0.1, 0, 0, 0, 100, 0, 0)


def promtool(*arguments: object) -> None:
    program = shutil.which("promtool")
    needed("prometheus", program)
    done = subprocess.run(
        [str(program), *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def rules(kind: str) -> dict[str, tuple[str, str]]:
    """{name: (its expression, all that stands of it)}"""
    text = "".join(path.read_text() for path in sorted(RULES.glob("*.yml")))
    found = {}
    for rule in re.split(r"\n +- (?=record:|alert:)", text)[1:]:
        kind_of_it, name = re.match(r"(record|alert): (\S+)", rule).groups()  # type: ignore[union-attr]
        [expression] = re.findall(r"^ +expr: (.+)$", rule, re.M)
        if kind_of_it == kind:
            found[name] = expression, rule
    return found


RECORDED = {name: expression for name, (expression, _) in rules("record").items()}
ALERTS = rules("alert")
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ASKED = [
    *RECORDED.values(),
    *(expression for expression, _ in ALERTS.values()),
    *(target["expr"] for panel in PANELS for target in panel["targets"]),
    *(each["expr"] for each in DASHBOARD["annotations"]["list"]),
    *(
        each["query"]["query"]
        for each in DASHBOARD["templating"]["list"]
        if each["name"] != "datasource"
    ),
]


class Machine:
    """A process that Prometheus scrapes, and what came of that."""

    def __init__(self, app: App) -> None:
        self.server = app.server
        self.registry = app.server.figures.registry
        self.series: dict[str, list[float | None]] = defaultdict(list)
        self.labels: dict[str, set[str]] = defaultdict(set)
        self.scrapes = 0
        self.records = FINE
        self.delivered = {"delivered": 0, "failed": 0, "dead": 0}
        self.server._kept_calls.records = SimpleNamespace(  # type: ignore[assignment]
            writer=self, courier=SimpleNamespace(results=self.delivered)
        )

    @property
    def figures(self) -> RecordFigures:
        return self.records

    def tell(self, *told: events.OfCall) -> None:
        for event in told:
            self.server.live_calls.event_feed.tell(call_event("CA1", 0.0, event))

    def scrape(self) -> None:
        for family in self.registry.collect():
            for sample in family.samples:
                labels = {"job": "sts-trio", "instance": "one:5000", **sample.labels}
                shown = ",".join(f"{name}={json.dumps(label)}" for name, label in labels.items())
                values = self.series[f"{sample.name}{{{shown}}}"]
                values += [None] * (self.scrapes - len(values))
                values.append(sample.value)
                self.labels[sample.name] |= set(labels)
        self.scrapes += 1

    def story(self, path: Path, questions: list[dict[str, Any]], up: int = 1) -> Path:
        series = dict(self.series)
        series['up{job="sts-trio",instance="two:5000"}'] = [up] * self.scrapes
        told = {
            "rule_files": [str(each) for each in sorted(RULES.glob("*.yml"))],
            "evaluation_interval": f"{EVERY}s",
            "tests": [
                {
                    "interval": f"{EVERY}s",
                    "input_series": [
                        {
                            "series": name,
                            "values": " ".join(
                                "_" if v is None else repr(float(v)) for v in values
                            ),
                        }
                        for name, values in series.items()
                    ],
                    "promql_expr_test": questions,
                }
            ],
        }
        path.write_text(json.dumps(told))  # which YAML is, too
        return path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    app = make_app(tmp_path, STS_MAX_CALLS="10", STS_DIAL_PER_DAY="100", DEEPGRAM_API_KEY="k")
    return Machine(app)


class Busy:
    """A call under way."""

    waiting = dict.fromkeys(Leg, 0.0)


def ended(cause: Cause, **more: Any) -> events.CallEnded:
    return events.CallEnded(cause.label, cause.verdict.value, "", 60.0, **more)


def good_minute(machine: Machine) -> None:
    server = machine.server
    for _ in range(20):
        server.ticker._note(0.0015)
        server.figures.dialled(0.12)
        machine.tell(events.AgentAnswerHeard(0.9), events.CallSilenced(0.12))
    machine.tell(
        events.FunctionFinished("1", "book", "done", 0.2),
        events.AgentLost("agent_lost", ""),
        events.AgentReconnected("default", 1.0),
        ended(Cause.STOP),
        ended(Cause.HUNG_UP),
    )
    server.figures.recorded("ok")
    machine.delivered["delivered"] += 2


def bad_minute(machine: Machine) -> None:
    server = machine.server
    for _ in range(20):
        server.ticker._note(0.3)
        server.figures.dialled(2.5)
        server.figures.refused("full")
        machine.tell(events.AgentAnswerHeard(6.0))
        machine.tell(events.AgentUnresponsive("an answer", 5.0))
    machine.tell(
        events.CallCrashed(),
        events.CallMoved("recovered", 8.0),
        events.FunctionFinished("1", "book", "timed_out", 20.0),
        ended(Cause.AGENT_LOST),
        ended(Cause.CRASHED, violations={"caller: outbox full: audio dropped": 20}),
    )
    server.figures.recorded("failed")
    machine.delivered["dead"] += 1
    server.ticker.stats.late += 300
    lost = machine.records.lost + 10
    machine.records = RecordFigures("behind", 60.0, 10, 10, 1000, 100, 0, lost)
    for known in server.agent_connections._endpoints._known:
        attempt = known.breaker.attempt(trio.current_time())
        if attempt is not None:
            known.conclude(attempt, Outcome.FAILED, "nobody is there")


def firing(minute: int, *alerts: str) -> dict[str, Any]:
    return {
        "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{minute}m",
        "exp_samples": [
            {"labels": f"{{alertname={json.dumps(alert)}}}", "value": 1} for alert in alerts
        ],
    }


def value(minute: int, expression: str, value: float, labels: str) -> dict[str, Any]:
    samples = [{"labels": labels, "value": value}]
    return {"expr": expression, "eval_time": f"{minute}m", "exp_samples": samples}


async def pass_time(machine: Machine, minutes: int, do: Any) -> None:
    for _ in range(minutes):
        do(machine)
        for _ in range(60 // EVERY):
            machine.scrape()
            await trio.sleep(EVERY)


def test_promtool_takes_the_rules() -> None:
    promtool("check", "rules", *sorted(RULES.glob("*.yml")))


# What is emitted by a process that has seen it all, and its labels.
async def emitted(machine: Machine) -> dict[str, set[str]]:
    good_minute(machine)
    bad_minute(machine)
    machine.scrape()
    return machine.labels


async def test_what_is_asked_for_is_emitted_with_these_labels(machine: Machine) -> None:
    known = await emitted(machine)
    for expression in ASKED:
        _check(expression, known)


def _check(expression: str, known: dict[str, set[str]]) -> None:
    without_labels = re.sub(r"\{[^}]*\}|\[[^]]*\]|by \([^)]*\)", "", expression)
    names = set(re.findall(r"[a-z_:0-9]*(?:sts|process)_[a-z_:0-9]+|\bup\b", without_labels))
    assert names, "nothing is asked for"
    assert names <= known.keys() | RECORDED.keys() | OTHERS
    for name, selector in re.findall(r"(sts_\w+)\{([^}]*)\}", expression):
        labels = re.findall(r"(\w+)[=!]", selector)
        assert ":" in name or name in RECORDED or set(labels) <= known.get(name, set(labels))


async def test_labels_are_asked_for_by_values_that_there_are(machine: Machine) -> None:
    await emitted(machine)
    for label in ("ending", "verdict", "result", "reason", "leg", "quota", "how"):
        known = {
            value
            for series in machine.series
            for value in re.findall(rf'[{{,]{label}="([^"]*)"', series)
        } | {"unconfirmed", "cancelled"}  # outcomes of functions
        for expression in ASKED:
            for operator, values in re.findall(rf'[{{,]{label}(=~|!~|=|!=)"([^"]*)"', expression):
                assert set(values.split("|")) <= known, (operator, expression)


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_says_what_has_happened_and_what_to_do(name: str) -> None:
    _, text = ALERTS[name]
    [severity] = re.findall(r"severity: (\w+)", text)
    assert severity in ("page", "ticket")
    for part in ("summary", "action"):
        [said] = re.findall(rf'^ +{part}: "(.+)"$', text, re.M)
        assert said.endswith((".", "?"))
    [action] = re.findall(r'^ +action: "(.+)"$', text, re.M)
    for page in re.findall(r"docs/\S+\.md", action):
        assert (ROOT / page).exists()
    for event in re.findall(r"\b[a-z]+\.[a-z_]+\b", re.sub(r"docs/\S+", "", action)):
        assert event in EVENTS


def test_panels_stand_beside_each_other_and_ask_the_chosen_prometheus() -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in PANELS:
        assert panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(each["datasource"]["uid"] == "${datasource}" for each in panel["targets"])


async def test_in_a_good_hour_nobody_is_woken_and_rules_tell_what_was(
    tmp_path: Path, machine: Machine, autojump_clock: trio.testing.MockClock
) -> None:
    await pass_time(machine, MINUTES, good_minute)

    def of(name: str) -> str:
        return f'{name}{{job="sts-trio"}}'

    half, used = "job:sts_turn_response_seconds:p50_5m", "job:sts_calls_used:ratio"
    failed, live = "job:sts_calls_failed:ratio_rate5m", "job:sts_calls_capacity:sum"
    questions = [
        *[firing(minute) for minute in (1, 10, MINUTES - 1)],
        # Half way through the bucket in which all of them lie.
        value(15, half, 0.875, of(half)),
        value(15, used, 0, of(used)),
        value(15, failed, 0, of(failed)),
        value(15, live, 10, of(live)),
    ]
    promtool("test", "rules", machine.story(tmp_path / "story.yml", questions))


async def test_in_a_bad_hour_each_alert_fires_and_is_over_when_all_is_well(
    tmp_path: Path, machine: Machine, autojump_clock: trio.testing.MockClock
) -> None:
    live_calls, budget = machine.server.live_calls, machine.server.dialler._budget
    await pass_time(machine, MINUTES, good_minute)
    live_calls._calls = {Busy(): None for _ in range(10)}  # type: ignore[misc]
    budget._day, budget._spent = utc_now().date(), 95
    await pass_time(machine, MINUTES, bad_minute)
    live_calls._calls, budget._spent, machine.records = {}, 0, FINE
    with_rest = machine.server.agent_connections
    with_rest.endpoints = with_rest.endpoints  # as if they had rested
    await pass_time(machine, MINUTES, good_minute)
    worst = firing(2 * MINUTES - 1, *sorted(ALERTS))
    promtool("test", "rules", machine.story(tmp_path / "worst.yml", [worst], up=0))
    well = firing(3 * MINUTES - 1)
    promtool("test", "rules", machine.story(tmp_path / "well.yml", [well]))

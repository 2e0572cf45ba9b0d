"""`deploy/helm/sts-trio`, rendered by Helm's own code, and held to the schemas of Kubernetes."""

import contextlib
import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import haproxy
import helm_python as helm
import jsonschema
import kubernetes_validate
import limits
import pytest
import trustme
import yaml
from rig_deploy import ROOT, needed

from sts_trio import __version__
from sts_trio.config.variables import SETTINGS
from sts_trio.web.serve import GRACE, LEAVE_TAKING

pytestmark = pytest.mark.rendered

CHART = ROOT / "deploy" / "helm" / "sts-trio"
SCHEMAS = Path(__file__).parent / "schemas"
OLDEST, NEWEST = "1.29", kubernetes_validate.latest_version()

LEAST: dict[str, Any] = {
    "image": {"repository": "registry.example.com/sts-trio"},
    "secret": "sts-trio",
    "publicUrl": "https://voice.example.com",
    "database": {"url": "postgresql+psycopg://sts_trio@db/sts_trio"},
}
ON_DEMAND = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "spot", "operator": "Exists"}]}]}
ALL: dict[str, Any] = LEAST | {
    "imagePullSecrets": [{"name": "registry"}],
    "files": {"sts-trio.toml": "max_seconds = 600\n", "my_functions.py": "X = '{{ }}'\n"},
    "variables": {"STS_RECORD": 1, "STS_LOG": "json"},
    "storage": {"size": "10Gi", "storageClassName": "fast"},
    "autoscaling": {"enabled": True, "prometheus": "http://prometheus:9090"},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "rules": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboard": {"enabled": True},
    "haproxy": {"tlsSecret": "voice-tls", "service": {"annotations": {"a/b": "c"}}},
    "networkPolicy": {"from": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
    "nodeSelector": {"pool": "calls"},
    "tolerations": [{"key": "calls", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": ON_DEMAND}},
    "priorityClassName": "calls",
    "podAnnotations": {"linkerd.io/inject": "disabled"},
}
ALONE: dict[str, Any] = LEAST | {
    "replicas": 1,
    "database": {"url": "sqlite:////var/lib/sts-trio/sts-trio.db"},
    "storage": {"size": "1Gi"},
    "haproxy": {"enabled": False},
    "networkPolicy": {"from": [{"podSelector": {}}]},
}
FROM_SECRET: dict[str, Any] = LEAST | {"database": {"fromSecret": True}}


@pytest.fixture(scope="module")
def chart() -> Iterator[helm.Chart]:
    with helm.Chart.load(CHART) as chart:
        yield chart


def render(chart: helm.Chart, values: dict[str, Any], name: str = "sts-trio") -> list[Any]:
    chart.validate_schema(values)
    texts = chart.render(values, name=name, namespace="calls")
    files = [text for path, text in texts.items() if path.endswith(".yaml")]
    return [each for text in files for each in yaml.safe_load_all(text) if each]


def the(found: list[Any], kind: str, name: str) -> Any:
    [one] = [each for each in found if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return one


def pods(found: list[Any]) -> list[Any]:
    return [
        each["spec"]["template"]["spec"]
        for each in found
        if each["kind"] in ("StatefulSet", "Deployment", "Job")
    ]


def variables(found: list[Any]) -> dict[str, Any]:
    [container] = the(found, "StatefulSet", "sts-trio")["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value") for each in container["env"]}


def written_down() -> dict[str, Any]:
    """The values of docs/deploying.md."""
    text = (ROOT / "docs" / "deploying.md").read_text()
    [values] = re.findall(r"^# my-values\.yaml.*?(?=^```)", text, re.M | re.S)
    read: dict[str, Any] = yaml.safe_load(values)
    return read


INSTALLATIONS = {
    "least": LEAST,
    "all": ALL,
    "alone": ALONE,
    "from the secret": FROM_SECRET,
    "of the page": written_down(),
}


def configured(found: list[Any]) -> str:
    return str(the(found, "ConfigMap", "sts-trio-haproxy")["data"]["haproxy.cfg"])


@pytest.mark.parametrize("values", INSTALLATIONS.values(), ids=INSTALLATIONS)
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_all_of_it_is_what_kubernetes_takes(
    chart: helm.Chart, values: dict[str, Any], version: str
) -> None:
    found = render(chart, values)
    assert {each["kind"] for each in found} >= {"StatefulSet", "Service", "NetworkPolicy"}
    names = [(each["kind"], each["metadata"]["name"]) for each in found]
    assert len(set(names)) == len(names)
    for each in found:
        of = each["apiVersion"].rpartition("/")[2]
        ours = SCHEMAS / f"{each['kind'].lower()}-{of}.json"
        if ours.exists():
            jsonschema.validate(each, json.loads(ours.read_text()))
        else:
            kubernetes_validate.validate(each, version, strict=True)


def test_a_mistake_in_it_would_be_found(chart: helm.Chart) -> None:
    found = render(chart, ALL)
    pod = the(found, "StatefulSet", "sts-trio")
    pod["spec"]["template"]["spec"]["terminationGracePeriod"] = 60
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, NEWEST, strict=True)
    for kind, name, field in (
        ("ScaledObject", "sts-trio", "maxReplicas"),
        ("ServiceMonitor", "sts-trio", "job"),
        ("PrometheusRule", "sts-trio-alerts", "rules"),
    ):
        wrong = the(found, kind, name)
        wrong["spec"][field] = 3
        [schema] = SCHEMAS.glob(f"{kind.lower()}-*.json")
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, json.loads(schema.read_text()))


def test_helm_finds_nothing_to_say_of_it() -> None:
    told = helm.lint(CHART, ALL, strict=True)
    assert told["errors"] == []
    assert [each["error"] for each in told["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"secret": ""}, "secret"),
        ({"publicUrl": ""}, "publicUrl"),
        ({"image": {"repository": ""}}, "image.repository"),
        ({"database": {}}, "database.url"),
    ],
)
def test_what_is_missing_is_asked_for(
    chart: helm.Chart, values: dict[str, Any], reason: str
) -> None:
    with pytest.raises(helm.HelmError, match=f"{re.escape(reason)}: expected"):
        render(chart, LEAST | values)


SQLITE = {"url": "sqlite:////var/lib/sts-trio/sts-trio.db"}
KEDA = {"enabled": True, "prometheus": "http://p:9090"}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {"database": {"url": "none"}},
            "expected a PostgreSQL for more than one process, got none",
        ),
        ({"database": SQLITE, "storage": {"size": "1Gi"}}, "for more than one process, got sqlite"),
        ({"database": SQLITE, "replicas": 1, "autoscaling": KEDA}, "for more than one process"),
        ({"database": SQLITE, "replicas": 1}, "storage.size: expected one, as the database"),
        (
            {"database": {"url": LEAST["database"]["url"], "fromSecret": True}},
            "expected either it or database.fromSecret",
        ),
        (
            {"database": {"url": "postgresql://me:hunter2@db/calls"}},
            "database.url: expected no password in it",
        ),
        (
            {"database": {"url": "postgresql://me:hun/ter2@db/calls"}},
            "database.url: expected no password in it",
        ),
        (
            {"database": {"url": "postgresql://me@db/calls?sslmode=require&password=hunter2"}},
            "database.url: expected no password in it",
        ),
        ({"terminationGracePeriodSeconds": 49}, "expected 50 at least"),
        ({"drainSeconds": 60}, "expected 80 at least"),
        ({"preStopSeconds": 16}, "expected 61 at least"),
        ({"replicas": 17}, "maxReplicas: expected 17 at least"),
        ({"autoscaling": {"enabled": True}}, "autoscaling.prometheus: expected"),
        ({"variables": {"STS_RECORD": 1}}, "storage.size: expected one, as recordings"),
        ({"variables": {"STS_DRAIN_SECONDS": 9}}, "expected elsewhere: drainSeconds"),
        ({"variables": {"TWILIO_AUTH_TOKEN": "k"}}, "expected elsewhere: secret"),
        ({"haproxy": {"enabled": False}}, "networkPolicy.from: expected who brings calls"),
        ({"serviceMonitor": {"enabled": True}}, "networkPolicy.from: expected where Prometheus is"),
        ({"autoscaling": KEDA}, "networkPolicy.from: expected where Prometheus is"),
    ],
)
def test_what_would_lose_calls_is_not_rendered(
    chart: helm.Chart, values: dict[str, Any], reason: str
) -> None:
    with pytest.raises(helm.HelmError, match=re.escape(reason)) as raised:
        render(chart, LEAST | values)
    assert "ter2" not in str(raised.value)


@pytest.mark.parametrize(
    "values",
    [
        {"replica": 3},
        {"replicas": 0},
        {"replicas": "three"},
        {"autoscaling": {"utilization": 70}},
        {"image": {"pullPolicy": "Sometimes"}},
        {"publicUrl": "voice.example.com"},
        {"database": {"url": "mysql://db"}},
        {"variables": {"sts_log": "json"}},
    ],
)
def test_a_value_that_is_none_of_ours_is_refused(chart: helm.Chart, values: dict[str, Any]) -> None:
    chart.validate_schema(LEAST)
    with pytest.raises(helm.HelmError):
        chart.validate_schema(LEAST | values)


def test_a_name_that_would_be_too_long_for_a_pods_address_is_refused(chart: helm.Chart) -> None:
    with pytest.raises(helm.HelmError, match="no longer than 52"):
        render(chart, LEAST, name="a" * 44)


def test_the_grace_is_what_a_process_takes_to_stop(chart: helm.Chart) -> None:
    """What the chart counts with is what the code takes."""
    assert LEAVE_TAKING + GRACE <= 15


@pytest.mark.parametrize("values", INSTALLATIONS.values(), ids=INSTALLATIONS)
def test_nothing_runs_as_root_or_writes_where_it_should_not(
    chart: helm.Chart, values: dict[str, Any]
) -> None:
    for pod in pods(render(chart, values)):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("values", INSTALLATIONS.values(), ids=INSTALLATIONS)
def test_variables_are_those_of_the_server_and_no_secret_is_written(
    chart: helm.Chart, values: dict[str, Any]
) -> None:
    found = variables(render(chart, values))
    assert found.keys() <= {*SETTINGS, "STS_CONFIG"}
    # With a password in it, it is refused.
    plain = {"STS_CONFIG", "STS_DATABASE_URL"}
    assert not [name for name in found if name not in plain and SETTINGS[name].secret]
    assert ("STS_DATABASE_URL" in found) == (values is not FROM_SECRET)
    # By which a stream comes back to the process that has dialled.
    assert (found.get("STS_DIAL_AHEAD") == "0") == (values is ALONE)


@pytest.mark.parametrize("name", [name for name, each in SETTINGS.items() if each.secret])
def test_a_secret_is_not_taken_among_variables(chart: helm.Chart, name: str) -> None:
    with pytest.raises(helm.HelmError, match=rf"variables\.{name}: expected elsewhere: ") as raised:
        render(chart, LEAST | {"variables": {name: "hunter2"}})
    assert "hunter2" not in str(raised.value)


def test_the_version_is_that_of_the_server(chart: helm.Chart) -> None:
    assert chart.metadata["appVersion"] == __version__


def test_haproxy_takes_its_file_and_knows_each_process_by_its_name(
    chart: helm.Chart, tmp_path: Path
) -> None:
    program = haproxy.program()
    needed("haproxy", program)
    issued = trustme.CA().issue_cert("voice.example.com")
    issued.private_key_pem.write_to_path(str(tmp_path / "tls.key"))
    (tmp_path / "tls.crt").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    for values in (LEAST, ALL):
        found = render(chart, values | {"maxReplicas": 3})
        text = configured(found)
        servers = re.findall(r"^  server (\S+) (\S+)$", text, re.M)
        assert servers == [
            (f"sts-trio-{n}", f"sts-trio-{n}.sts-trio-pods.calls.svc.cluster.local:5000")
            for n in range(3)
        ]
        assert the(found, "StatefulSet", "sts-trio")["spec"]["serviceName"] == "sts-trio-pods"
        assert the(found, "Service", "sts-trio-pods")["spec"]["publishNotReadyAddresses"]
        config = tmp_path / "haproxy.cfg"
        # As a Secret of type kubernetes.io/tls is mounted.
        config.write_text(text.replace("/etc/haproxy/tls", str(tmp_path)))
        assert ("ssl crt /etc/haproxy/tls/tls.crt" in text) == (values is ALL)
        done = subprocess.run([str(program), "-c", "-f", config], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def served(port: int) -> bytes:
    """The certificate."""
    with (
        socket.create_connection(("127.0.0.1", port), limits.HANG) as sock,
        ssl._create_unverified_context().wrap_socket(sock) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


def becomes_true(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + limits.HANG
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if condition():
                return True
        time.sleep(0.05)
    return False


def test_a_certificate_that_is_renewed_is_served_from_then_on(
    chart: helm.Chart, tmp_path: Path
) -> None:
    program = haproxy.program()
    needed("haproxy", program)
    authority, secret, port = trustme.CA(), tmp_path / "tls", haproxy.free_port()
    secret.mkdir()

    def renew() -> bytes:
        issued = authority.issue_cert("voice.example.com")
        issued.private_key_pem.write_to_path(str(secret / "tls.key"))
        (secret / "tls.crt").write_bytes(issued.cert_chain_pems[0].bytes())
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    first = renew()
    found = render(chart, ALL | {"maxReplicas": 2})
    spec = the(found, "Deployment", "sts-trio-haproxy")["spec"]["template"]["spec"]
    # Each container may signal the other's processes.
    assert spec["shareProcessNamespace"] is True
    [command] = [each["command"] for each in spec["containers"] if each["name"] == "certificate"]

    def here(text: str) -> str:
        """As it is deployed, but for where it listens, what it reads, and how often it looks."""
        text = text.replace("/etc/haproxy/tls", str(secret)).replace("/run/haproxy", str(tmp_path))
        text = text.replace(":8443", f"127.0.0.1:{port}").replace("sleep 30", "sleep 0.1")
        return text.replace(":8404", f"127.0.0.1:{haproxy.free_port()}")

    config = tmp_path / "haproxy.cfg"
    config.write_text(here(configured(found)))
    said = tmp_path / "said"
    with contextlib.ExitStack() as started:
        log = started.enter_context(said.open("wb"))
        for run in (
            [str(program), "-W", "-db", "-f", str(config)],
            [here(each) for each in command],
        ):
            process = started.enter_context(subprocess.Popen(run, stderr=log))
            started.callback(process.terminate)
            assert becomes_true(lambda: served(port) == first)
        second = renew()
        assert becomes_true(lambda: served(port) == second)
        # Half of one, which HAProxy does not take: it goes on with what it has.
        (secret / "tls.key").write_text("")
        pid = (tmp_path / "pid").read_text()
        assert becomes_true(lambda: "unable to load private key" in said.read_text())
        assert served(port) == second
        third = renew()
        assert becomes_true(lambda: served(port) == third)
        assert (tmp_path / "pid").read_text() == pid


def test_it_is_scaled_by_figures_that_are_emitted(chart: helm.Chart) -> None:
    scaled = the(render(chart, ALL), "ScaledObject", "sts-trio")["spec"]
    [trigger] = scaled["triggers"]
    asked = set(re.findall(r"sts_\w+", trigger["metadata"]["query"]))
    assert asked == {"sts_calls_live", "sts_calls_capacity"}
    # Which is written of what is emitted.
    assert asked <= set(re.findall(r"`(sts_\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (2, 16)
    assert "replicas" not in the(render(chart, ALL), "StatefulSet", "sts-trio")["spec"]
    assert the(render(chart, LEAST), "StatefulSet", "sts-trio")["spec"]["replicas"] == 2


def selected(found: list[Any], kind: str) -> Iterator[tuple[Any, list[Any]]]:
    """Of each of that kind, the pods that it is for."""
    for each in found:
        if each["kind"] != kind:
            continue
        selector = each["spec"].get("podSelector") or each["spec"]["selector"]
        labels = selector.get("matchLabels", selector).items()
        yield (
            each,
            [
                pod
                for pod in found
                if pod["kind"] in ("StatefulSet", "Deployment")
                and labels <= pod["spec"]["template"]["metadata"]["labels"].items()
            ],
        )


@pytest.mark.parametrize("kind", ["Service", "NetworkPolicy", "PodDisruptionBudget"])
def test_each_leads_to_pods_of_one_kind(chart: helm.Chart, kind: str) -> None:
    found = render(chart, ALL)
    of = {each["metadata"]["name"]: pods for each, pods in selected(found, kind)}
    assert of
    for name, those in of.items():
        [pod] = those
        assert pod["kind"] == ("Deployment" if "haproxy" in name else "StatefulSet")


def ways_out(found: list[Any]) -> list[Any]:
    """To anybody."""
    policy = the(found, "NetworkPolicy", "sts-trio")["spec"]
    return [port["port"] for rule in policy["egress"] if "to" not in rule for port in rule["ports"]]


@pytest.mark.parametrize(
    ("database", "port"),
    [
        ({"url": "postgresql://me@db/calls"}, 5432),
        ({"url": "postgresql://me@db:6432/calls"}, 6432),
        ({"url": "postgresql://db:6432"}, 6432),
        ({"url": "postgresql+psycopg://me@[fd00::5]:6432/calls?sslmode=require"}, 6432),
        ({"url": "postgresql+psycopg://me@[fd00::5]/calls"}, 5432),
        ({"url": "postgresql://me@db/calls?application_name=a:7"}, 5432),
        ({"url": "postgresql://me@db/calls", "port": 6432}, 6432),
        ({"fromSecret": True, "port": 6432}, 6432),
    ],
)
def test_a_process_may_reach_its_database_where_its_url_says(
    chart: helm.Chart, database: dict[str, Any], port: int
) -> None:
    assert ways_out(render(chart, LEAST | {"database": database})) == [53, 53, 443, port]


def test_a_process_may_reach_what_else_is_asked_for(chart: helm.Chart) -> None:
    collector = {
        "ports": [{"port": 4318}],
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "otel"}}}],
    }
    found = render(chart, LEAST | {"networkPolicy": {"egress": [collector]}})
    assert collector in the(found, "NetworkPolicy", "sts-trio")["spec"]["egress"]
    assert len(ways_out(found)) == 4


def test_what_is_scraped_is_a_service_of_the_chart(chart: helm.Chart) -> None:
    found = render(chart, ALL)
    monitor = the(found, "ServiceMonitor", "sts-trio")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    [service] = [
        each
        for each in found
        if each["kind"] == "Service" and wanted <= each["metadata"]["labels"].items()
    ]
    # Also who is full, and so not ready.
    assert service["spec"]["publishNotReadyAddresses"]
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "sts-trio"
    [endpoint] = monitor["endpoints"]
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]


@pytest.mark.parametrize(
    ("tag", "image"),
    [
        ("", f"registry.example.com/sts-trio:{__version__}"),
        ("mine", "registry.example.com/sts-trio:mine"),
        ("sha256:" + "0a" * 32, "registry.example.com/sts-trio@sha256:" + "0a" * 32),
    ],
)
def test_an_image_is_named_by_its_tag_or_its_digest(
    tag: str, image: str, chart: helm.Chart
) -> None:
    found = render(chart, LEAST | {"image": LEAST["image"] | {"tag": tag}})
    named = {each["image"] for pod in pods(found) for each in pod["containers"]}
    assert named == {image, "haproxy:3.0"}


def test_all_pods_are_placed_as_the_operator_says(chart: helm.Chart) -> None:
    found = render(chart, ALL)
    assert len(pods(found)) == 3
    for pod in pods(found):
        for name in ("imagePullSecrets", "nodeSelector", "tolerations", "affinity"):
            assert pod[name] == ALL[name]
        assert pod["priorityClassName"] == "calls"
    for kind, name in (("StatefulSet", "sts-trio"), ("Deployment", "sts-trio-haproxy")):
        metadata = the(found, kind, name)["spec"]["template"]["metadata"]
        assert metadata["annotations"].items() >= ALL["podAnnotations"].items()


def test_pods_of_one_kind_are_spread_over_zones_and_nodes(chart: helm.Chart) -> None:
    found = render(chart, LEAST)
    for kind, name in (("StatefulSet", "sts-trio"), ("Deployment", "sts-trio-haproxy")):
        template = the(found, kind, name)["spec"]["template"]
        over = template["spec"]["topologySpreadConstraints"]
        assert [each["topologyKey"].rpartition("/")[2] for each in over] == ["zone", "hostname"]
        for each in over:
            assert each["labelSelector"]["matchLabels"] == template["metadata"]["labels"]


def test_a_migration_has_the_environment_of_a_process(chart: helm.Chart) -> None:
    """It reaches the database by the same variables and certificates. What is wrong with the
    configuration is found before any process is replaced."""
    given = {
        "files": {"sts-trio.toml": "", "ca.pem": "-----"},
        "variables": {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/etc/sts-trio/ca.pem"},
    }
    found = render(chart, LEAST | given)
    job = the(found, "Job", "sts-trio-migration")
    [container] = job["spec"]["template"]["spec"]["containers"]
    of_a_process = variables(found)
    del of_a_process["STS_PROCESS_NAME"]
    assert {each["name"]: each["value"] for each in container["env"]} == of_a_process
    assert of_a_process.items() >= given["variables"].items()
    [mount] = [each for each in container["volumeMounts"] if each["mountPath"] == "/etc/sts-trio"]
    [volume] = [
        each for each in job["spec"]["template"]["spec"]["volumes"] if each["name"] == mount["name"]
    ]
    files = the(found, "ConfigMap", volume["configMap"]["name"])
    assert files["data"] == given["files"]
    # There before the job, which is there before all else.
    hooks = [each["metadata"]["annotations"] for each in (files, job)]
    assert [each["helm.sh/hook"] for each in hooks] == ["pre-install,pre-upgrade"] * 2
    assert [each.get("helm.sh/hook-weight", "0") for each in hooks] == ["-1", "0"]


def test_rules_and_dashboard_are_those_of_the_repository(chart: helm.Chart) -> None:
    found = render(chart, ALL)
    for name in ("recording", "alerts"):
        rule = the(found, "PrometheusRule", f"sts-trio-{name}")
        text = (ROOT / "deploy" / "prometheus" / f"{name}.yml").read_text()
        assert rule["spec"] == yaml.safe_load(text)
        assert rule["metadata"]["labels"].items() >= ALL["rules"]["labels"].items()
    dashboard = the(found, "ConfigMap", "sts-trio-dashboard")
    text = (ROOT / "deploy" / "grafana" / "sts-trio.json").read_text()
    assert dashboard["data"] == {"sts-trio.json": text}
    # By which Grafana's own chart finds it.
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_processes_that_are_full_are_not_taken_away_all_at_once(chart: helm.Chart) -> None:
    """They are not ready. Where they counted as broken, as many as there are could be evicted, with
    the calls of all of them, while nobody has room."""
    budget = the(render(chart, LEAST), "PodDisruptionBudget", "sts-trio")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "IfHealthyBudget"


def test_a_database_of_several_is_migrated_before_any_process_is_replaced(
    chart: helm.Chart,
) -> None:
    for values in (LEAST, FROM_SECRET):
        job = the(render(chart, values), "Job", "sts-trio-migration")
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        [container] = job["spec"]["template"]["spec"]["containers"]
        assert container["args"] == ["calls", "migrate"]
    assert not [each for each in render(chart, ALONE) if each["kind"] == "Job"]


def test_files_are_as_they_were_given(chart: helm.Chart) -> None:
    assert the(render(chart, ALL), "ConfigMap", "sts-trio")["data"] == ALL["files"]
    assert variables(render(chart, ALL))["STS_CONFIG"] == "/etc/sts-trio/sts-trio.toml"
    assert "STS_CONFIG" not in variables(render(chart, LEAST))

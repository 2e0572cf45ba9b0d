"""Writes what of `deploy/` is made of the templates of `sts-trio serve --print-deploy`.

python deploy/generate.py

A test fails while a file is not what this writes.
"""

from pathlib import Path

from sts_trio.commands.deployment import Machine, haproxy, on_loopback, units

DEPLOY = Path(__file__).parent
# An example: six cores of a host that is called `a`.
MACHINE = Machine(
    host="a",
    cores=6,
    ports=(5001, 5002, 5003),
    user="sts-trio",
    group="sts-trio",
    program="/opt/sts-trio/bin/sts-trio",
    config=Path("/etc/sts-trio/sts-trio.toml"),
)
# In compose.yaml: services with a name of their own.
CONTAINERS = ("a", "b", "c")
STDOUT = "stdout format raw local0"
# Of a chart, in Helm's language. HAProxy looks names up as they are, so they are whole.
PODS = (
    "  {{- range $number := until (int .Values.maxReplicas) }}\n"
    '  server {{ include "name" $ }}-{{ $number }} {{ include "name" $ }}-{{ $number }}.'
    '{{ include "name" $ }}-pods.{{ $.Release.Namespace }}.svc.{{ $.Values.clusterDomain }}:5000\n'
    "  {{- end }}\n"
)
# The key is beside the certificate, as a Secret has it. Who reloads HAProxy when that is renewed
# finds it by this file. Whether HAProxy lives is asked for here.
CHARTS_LOG = (
    f"{STDOUT}\n  ssl-load-extra-del-ext"
    "{{ if .Values.haproxy.tlsSecret }}\n  pidfile /run/haproxy/pid{{ end }}"
)
CHARTS_CERTIFICATE = " ssl crt /etc/haproxy/tls/tls.crt alpn http/1.1"
CHARTS_BIND = ":8443{{ if .Values.haproxy.tlsSecret }}" + CHARTS_CERTIFICATE + "{{ end }}"
CHARTS_HEALTH = """
frontend health
  bind :8404
  monitor-uri /
"""


def written() -> dict[str, str]:
    """{path below deploy/: text}"""
    containers = "".join(f"  server {name} {name}:5000\n" for name in CONTAINERS)
    return {
        "haproxy.cfg": haproxy(on_loopback(MACHINE)),
        **{f"systemd/{name}": text for name, text in units(MACHINE).items()},
        "compose/haproxy.cfg": haproxy(containers, log=STDOUT, is_by_name=True),
        "helm/sts-trio/files/haproxy.cfg": haproxy(
            PODS, bind=CHARTS_BIND, log=CHARTS_LOG, is_by_name=True
        )
        + CHARTS_HEALTH,
    }


if __name__ == "__main__":
    for path, text in written().items():
        (DEPLOY / path).parent.mkdir(parents=True, exist_ok=True)
        (DEPLOY / path).write_text(text, encoding="utf-8")

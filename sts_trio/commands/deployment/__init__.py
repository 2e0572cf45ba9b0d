"""`sts-trio serve --print-deploy`: the files by which systemd and HAProxy run this server on all
cores of a machine. Those in `deploy/` are made of the same templates, by `deploy/generate.py`.
"""

import getpass
import os
import re
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import msgspec

from sts_trio.commands.common import Misuse, make_directory, save, say
from sts_trio.config.variables import SETTINGS

if TYPE_CHECKING:
    from sts_trio.config import Config

# Of systemd's time to stop: the goodbye, and what Hypercorn takes; see `web.serve`.
MARGIN = 15
FIRST_PORT = 5001
LAST_PORT = 65535  # that there is
ENVIRONMENT = Path("/etc/sts-trio/environment")
# Of the processes of a fleet, what is the same for all and has to be told.
COMMON = (
    "TWILIO_AUTH_TOKEN",
    "TWILIO_ACCOUNT_SID",
    "DEEPGRAM_API_KEY",
    "STS_ADMIN_TOKEN",
    "STS_PUBLIC_URL",
    "STS_DATABASE_URL",
)
# One machine can do with a file.
GIVEN = {"STS_DATABASE_URL": "sqlite:////var/lib/sts-trio/sts-trio.db"}
# Below these systemd lets nobody look with `ProtectHome=yes`, ...
HOMES = ("home", "root")
# ... and below these with `PrivateTmp=yes`.
TEMPORARY = ("tmp", "var/tmp")
_TEMPLATES = Path(__file__).parent
# HAProxy, with TLS, takes as much as the processes behind it (docs/deploying.md, What it costs): of
# so many cores that are full one is its own.
CORES_PER_PROXY = 2
# While one is started again the other goes on with its calls.
LEAST = 2


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What the files say of a machine, and of the server on it."""

    host: str  # as systemd's %l has it
    cores: int
    ports: Sequence[int]  # a process for each
    user: str
    group: str
    program: str  # the command, with its arguments
    config: Path | None
    environment: Path = ENVIRONMENT
    drain: float = 30.0
    curl: str = "/usr/bin/curl"


def this_machine(config: "Config", first_port: int) -> Machine:
    """As it is here: so many processes as fill the cores that this one may use, with HAProxy beside
    them, and who starts it is its user, unless that is root.

    Raises:
        Misuse: systemd does not run here, or takes no such path, or there are not so many ports, or
            this machine's name is none for a process.
    """
    if sys.platform != "linux":
        raise Misuse(f"--print-deploy: there is no systemd on {sys.platform}: expected Linux")
    cores = len(os.sched_getaffinity(0))
    processes = max(cores - cores // CORES_PER_PROXY, min(LEAST, cores))
    if not 0 < first_port <= LAST_PORT + 1 - processes:
        raise Misuse(
            f"--port {first_port}: expected 1 to {LAST_PORT + 1 - processes}: processes for"
            f" {cores} cores take {processes} ports from there on"
        )
    host = socket.gethostname().partition(".")[0]
    if not re.fullmatch(r"[a-zA-Z0-9-]{1,57}", host):  # with a port, a name of STS_PROCESS_NAME's
        raise Misuse(
            f"--print-deploy: this machine is called {host}, and so its processes: expected up to"
            " 57 letters, digits and -; hostnamectl set-hostname gives it another name"
        )
    user = getpass.getuser()
    user = "sts-trio" if user == "root" else user
    command = shutil.which(sys.argv[0]) if Path(sys.argv[0]).name == "sts-trio" else None
    program = f"{sys.executable} -m sts_trio" if command is None else os.path.abspath(command)
    file = None if config.file is None else config.file.absolute()
    for path in filter(None, (Path(program), file)):
        if re.search(r"[\s%$\"'\\]", str(path).removesuffix(" -m sts_trio")):
            raise Misuse(
                f"{path}: systemd takes no such path in a unit: expected one without spaces,"
                " quotes, % or $; move it"
            )
    return Machine(
        host=host,
        cores=cores,
        ports=range(first_port, first_port + processes),
        user=user,
        group=user,
        program=program,
        config=file,
        drain=config.drain,
        curl=shutil.which("curl") or Machine.curl,
    )


def units(machine: Machine) -> dict[str, str]:
    """{name: text}, for /etc/systemd/system."""
    paths = [machine.program, str(machine.config)]
    is_at_home, is_temporary = (
        any(path.startswith(tuple(f"/{place}/" for place in places)) for path in paths)
        for places in (HOMES, TEMPORARY)
    )
    service = _template("sts-trio@.service").substitute(
        instances=" ".join(f"sts-trio@{port}" for port in machine.ports),
        user=machine.user,
        group=machine.group,
        environment=machine.environment,
        config="" if machine.config is None else f" STS_CONFIG={machine.config}",
        program=machine.program,
        curl=machine.curl,
        margin=MARGIN,
        stop=f"{machine.drain + MARGIN:g}",
        home="read-only" if is_at_home else "yes",
        tmp="no" if is_temporary else "yes",
    )
    return {
        "sts-trio@.service": service,
        "sts-trio@.socket": _template("sts-trio@.socket").substitute(first=machine.ports[0]),
        "sts-trio.target": _template("sts-trio.target").substitute(),
    }


def haproxy(
    servers: str,
    *,
    bind: str = ":443 ssl crt /etc/haproxy/sts-trio.pem alpn http/1.1",
    log: str = "/dev/log local0",
    is_by_name: bool = False,
) -> str:
    """`servers` is a line for each. With `is_by_name` their addresses are names that may lead
    elsewhere, or nowhere, at any time, as names of containers do."""
    return _template("haproxy.cfg").substitute(
        servers=servers,
        bind=bind,
        log=log,
        resolvers=RESOLVERS if is_by_name else "",
        looked_up=LOOKED_UP if is_by_name else "",
    )


RESOLVERS = """
resolvers system
  parse-resolv-conf
  # A name that is new, or leads elsewhere, is noticed after a second; what was known holds for ten
  # where nobody answers.
  hold valid 1s
  hold other 10s
  hold refused 10s
  hold timeout 10s
"""
LOOKED_UP = """
  # A name is looked up while it runs, and there need not be an address yet.
  default-server init-addr none resolvers system"""


def on_loopback(machine: Machine) -> str:
    """The servers of one machine, for HAProxy on it."""
    return "".join(f"  server {machine.host}-{port} 127.0.0.1:{port}\n" for port in machine.ports)


def plan(machine: Machine) -> str:
    """Why there are so many processes."""
    processes, cores = len(machine.ports), machine.cores
    is_spared = processes < cores
    why = "takes as much as the processes do" if is_spared else "has no core of its own"
    return (
        f"{processes} process{'' if processes == 1 else 'es'} for {cores}"
        f" core{'' if cores == 1 else 's'}: HAProxy {why}."
    )


def environment() -> str:
    """What all processes have in common, to be filled in: no secret of yours is ever printed."""
    lines = ["# For root alone: chmod 600. An empty one counts as not set."]
    for name in COMMON:
        lines += [f"# {SETTINGS[name].expected}", f"{name}={GIVEN.get(name, '')}"]
    return "\n".join(lines) + "\n"


def _template(name: str) -> Template:
    return Template((_TEMPLATES / name).read_text(encoding="utf-8"))


def print_deployment(config: "Config", port: int | None, directory: Path | None) -> None:
    """Writes the files of this machine into the directory, else to stdout.

    Raises:
        Misuse: a file is there already, or nothing can be written; and as `this_machine`.
    """
    machine = this_machine(config, FIRST_PORT if port is None else port)
    files = units(machine) | {
        "haproxy.cfg": haproxy(on_loopback(machine)),
        "environment": environment(),
    }
    places = {
        **{name: f"/etc/systemd/system/{name}" for name in units(machine)},
        "haproxy.cfg": "/etc/haproxy/haproxy.cfg",
        "environment": str(machine.environment),
    }
    if directory is None:
        say(f"# {plan(machine)}")
        for name, text in files.items():
            say(f"# ==> {places[name]}")
            sys.stdout.write(f"{text}\n")
        return
    make_directory(directory)
    for name in files:
        if (directory / name).exists():
            raise Misuse(f"{directory / name}: is there already: give another --out")
    for name, text in files.items():
        save(_write, directory / name, text)
        say(f"{directory / name}, for {places[name]}")
    say(plan(machine))
    if not _is_known(machine.user):
        say(
            "First: useradd --system --user-group --no-create-home --shell /usr/sbin/nologin"
            f" {machine.user}"
        )
    instances = " ".join(f"sts-trio@{port}" for port in machine.ports)
    say(f"Then: systemctl daemon-reload && systemctl enable --now {instances}")
    say("And: haproxy -c -f /etc/haproxy/haproxy.cfg && systemctl reload-or-restart haproxy")


def _is_known(user: str) -> bool:
    import pwd  # there is none where there is no systemd

    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _write(path: Path, text: str) -> None:
    if path.name == "environment":  # secrets are filled in there
        path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")

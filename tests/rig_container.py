"""The image of deploy/Dockerfile, built by Buildah, and what runs in it, without an engine.

Buildah (Debian's package) reads the file as Docker does, and needs no daemon. It takes its base
from nobody: debootstrap makes it from Debian's packages, as the one at Docker Hub is made. What the
image's configuration says is then done by hand, in namespaces: its user, its variables and its
entry point, as the first process, on a root that is read-only, without capabilities.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rig_deploy import ROOT, needed

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
# Where a base that was made before may lie, so that it is made once: a directory.
KEPT_BASE = "STS_TEST_CONTAINER_BASE"
# Of this machine: who has a proxy in between trusts its certificate, too.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP = "[global]\ncert = /etc/pip-certificates.crt\n"
WITHIN = 30.0

# The root is read-only, with a volume, and what each runtime adds.
ENTER = """
set -e
mount --bind "$ROOT" "$ROOT"
mount --bind "$VOLUME" "$ROOT$DATA"
mount --rbind --make-rslave /dev "$ROOT/dev"
mount -o remount,bind,ro "$ROOT"
mount -t proc proc "$ROOT/proc"
exec chroot "$ROOT" setpriv --reuid "$USER_ID" --regid "$GROUP_ID" --clear-groups \
  --no-new-privs --bounding-set -all --inh-caps -all --reset-env \
  env --chdir "$DATA" -i "$@"
"""


class Image(NamedTuple):
    """`config` is what Docker's is: User, Env, Entrypoint, Cmd, Volumes, Healthcheck, …"""

    root: Path
    config: Mapping[str, Any]

    @property
    def data(self) -> str:
        [volume] = self.config["Volumes"]
        return str(volume)


class Container:
    """A process in the image, its first one; without a command the image's own."""

    def __init__(
        self,
        image: Image,
        volume: Path,
        variables: Mapping[str, str],
        command: Sequence[str] | None = None,
        entry: Sequence[str] | None = None,
    ) -> None:
        config = image.config
        user, group = map(int, config["User"].split(":"))
        os.chown(volume, user, group)
        given = [*config["Env"], *(f"{name}={value}" for name, value in variables.items())]
        starts = [*(config["Entrypoint"] if entry is None else entry)]
        starts += config["Cmd"] if command is None else command
        self.log = volume.with_name(f"{volume.name}.log")
        with self.log.open("ab") as log:
            self._unshare = subprocess.Popen(
                [
                    *("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork"),
                    *("--kill-child", "--", "sh", "-c", ENTER, "sh", *given, *starts),
                ],
                env={
                    "PATH": os.environ["PATH"],
                    "ROOT": str(image.root),
                    "VOLUME": str(volume),
                    "DATA": image.data,
                    "USER_ID": str(user),
                    "GROUP_ID": str(group),
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def first(self) -> int:
        """The first process, by its number outside."""
        while True:
            of = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
            if children := of.read_text().split():
                return int(children[0])
            assert self._unshare.poll() is None, self.log.read_text()
            time.sleep(0.01)

    def signal(self, signum: signal.Signals) -> None:
        os.kill(self.first, signum)

    def ended(self, within: float = WITHIN) -> int:
        """Its status."""
        return self._unshare.wait(within)

    def kill(self) -> None:
        self._unshare.kill()
        self._unshare.wait()


@contextmanager
def running(*arguments: Any, **more: Any) -> Iterator[Container]:
    container = Container(*arguments, **more)
    try:
        yield container
    finally:
        container.kill()


@contextmanager
def built(directory: Path) -> Iterator[Image]:
    """The image, and its files."""
    for program, package in (("buildah", "buildah"), ("debootstrap", "debootstrap")):
        needed(package, shutil.which(program))
    # Never the user's own images.
    store = ["--root", f"{directory}/images", "--runroot", f"{directory}/run"]

    def buildah(*arguments: object) -> str:
        done = subprocess.run(
            ["buildah", *store, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout.strip()

    [base] = set(re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.M))
    made = _base(base, Path(os.environ.get(KEPT_BASE, f"{directory}/base")))
    buildah("from", "--name", "base", "scratch")
    buildah("add", "--quiet", "base", made, "/")
    buildah("commit", "--quiet", "--rm", "base", f"docker.io/library/{base}")
    pip = directory / "pip.conf"
    pip.write_text(PIP)
    mounted = {CERTIFICATES: "/etc/pip-certificates.crt", pip: "/etc/pip.conf"}
    volumes = [f"--volume={path}:{at}:ro" for path, at in mounted.items()]
    buildah(
        *("build", "--isolation", "chroot", "--network", "host", "--format", "docker"),
        *("--pull=never", *volumes, "-f", DOCKERFILE.relative_to(ROOT), "-t", "sts-trio", "."),
    )
    config = json.loads(buildah("inspect", "--type", "image", "sts-trio"))["Docker"]["config"]
    buildah("from", "--name", "sts-trio", "--pull=never", "localhost/sts-trio")
    try:
        yield Image(Path(buildah("mount", "sts-trio")), config)
    finally:
        buildah("rm", "--all")


def _base(image: str, directory: Path) -> Path:
    """Debian's own least system, of the release that the image's tag says."""
    suites = {"debian:13-slim": "trixie"}
    if not (directory / "etc" / "debian_version").exists():
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", suites[image], directory],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-4000:]
    return directory

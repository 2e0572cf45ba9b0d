"""On what it was measured: enough to repeat it, nothing that says where the machine is."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import re
from pathlib import Path

from sts_trio.load.figures import Made

PACKAGES = (
    "sts-trio",
    "trio",
    "hypercorn",
    "quart",
    "quart-trio",
    "trio-websocket",
    "wsproto",
    "msgspec",
    "websockets",
    "uvloop",
    "picows",
)


def describe() -> Made:
    return Made(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        cpu=_cpu_model(),
        cores=os.cpu_count() or 1,
        kernel=_kernel(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions=_versions(),
    )


def _cpu_model() -> str:
    with contextlib.suppress(OSError):  # not everybody has it
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _kernel() -> str:
    """Linux and its number: what a builder appends may be a name."""
    number = re.match(r"[\d.]+", platform.release())
    return f"{platform.system()} {number[0] if number else ''}".strip()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found

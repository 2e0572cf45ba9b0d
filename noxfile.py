"""What a developer runs: `nox -s tests lint types browser bench fleet`. Groups: pyproject.toml."""

import os

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests", "lint", "types"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
# Rooms whose own tests reach every branch: the languages, the state, the sockets, the call, and
# what your code is given of it.
WHOLLY_COVERED = ("wire", "logic", "legs", "call", "bridge", "net")
# Two thirds of what tests take is real time in which they wait, so of three processes a core about
# one computes. More would cost more than they give: each collects all tests, for 4 s of CPU.
# Who has nothing left to do takes over tests of another; tests/order.py has what waits begun first.
ALL_CORES = ("-n", str(3 * (os.cpu_count() or 1)), "--dist", "worksteal")


def install(session: nox.Session, group: str, ours: str = ".[demo]") -> None:
    session.install("-e", ours, *nox.project.dependency_groups(PYPROJECT, group))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the whole suite, on the Python that runs nox; or what is asked."""
    install(session, "test")
    # What one process has compiled, servers that tests start and the next run need not.
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
    session.run("pytest", *(session.posargs or ALL_CORES))


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """Hold the rooms that are wholly covered to it, each by the tests of its own folder.

    What would not be counted is not run: `nox -s tests` runs it, and in half the time.
    """
    install(session, "test")
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
    sources = [f"--cov=sts_trio/{room}" for room in WHOLLY_COVERED]
    folders = [f"tests/{room}" for room in WHOLLY_COVERED]
    counted = ("-m", "not no_cover")
    session.run(
        "pytest", *ALL_CORES, *counted, *sources, "--cov-report=", *folders, *session.posargs
    )
    session.run("coverage", "report", "--fail-under=100")


@nox.session(default=False)
def browser(session: nox.Session) -> None:
    """Try the page in Chromium, which has to be there: Debian's package `chromium`."""
    install(session, "browser")
    # Each test has a server, a profile and a microphone of its own, and mostly waits.
    session.run("pytest", "-m", "browser", "-n", "2", "tests/browser", *session.posargs)


@nox.session(default=False)
def deploy(session: nox.Session) -> None:
    """Render the chart and compose.yaml, and hold them to the schemas of those who read them."""
    install(session, "deploy", ".")
    session.run("pytest", "-m", "rendered", "tests/deploy/rendered", *session.posargs)


@nox.session(default=False)
def container(session: nox.Session) -> None:
    """Build deploy/Dockerfile and run it; root, and Debian's packages buildah and debootstrap."""
    install(session, "test", ".")
    session.run("pytest", "-m", "container", "tests/deploy/container", *session.posargs)


@nox.session(default=False)
def thorough(session: nox.Session) -> None:
    """Run all that makes up its examples by chance, with fifty times as many."""
    install(session, "test")
    session.run(
        "pytest", *ALL_CORES, "-m", "hypothesis", "--hypothesis-profile=thorough", *session.posargs
    )


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure the bridge beside its ancestor; see bench/README.md for what can be asked."""
    install(session, "bench")
    session.run("python", "bench/run.py", *session.posargs)


@nox.session(default=False)
def fleet(session: nox.Session) -> None:
    """Kill, hang and replace what a fleet is made of, under calls; see bench/README.md."""
    install(session, "bench")
    session.run("python", "bench/fleet.py", *session.posargs)


@nox.session(python=["3.11", "3.12", "3.13"], default=False)
def versions(session: nox.Session) -> None:
    """Run the suite on every Python we support."""
    install(session, "test")
    session.run("pytest", *(session.posargs or ALL_CORES))


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style and who imports whom."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly, in the package and in its tests."""
    install(session, "types")
    session.run("mypy")

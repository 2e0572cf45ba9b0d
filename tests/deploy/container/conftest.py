"""The container, built and run. Minutes, root and Debian's packages buildah and debootstrap: only
when asked for, by `nox -s container`, or `pytest -m container tests/deploy/container`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from rig_container import Image, built


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "container: needs root, Buildah, debootstrap and minutes")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    is_asked_for = "container" in config.getoption("markexpr", "")
    return None if is_asked_for or collection_path.suffix != ".py" else True


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    with built(tmp_path_factory.mktemp("container")) as image:
        yield image


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (made := tmp_path / "data").mkdir()
    return made

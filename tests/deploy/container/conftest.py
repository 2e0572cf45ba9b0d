"""The container, built and run. Minutes, root and Debian's packages buildah and debootstrap: only
when asked for, by `nox -s container`, or `pytest -m container tests/deploy/container`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from rig_container import Image, built


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "container: needs root, Buildah, debootstrap and minutes")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return None if _are_asked_for(config) or collection_path.suffix != ".py" else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Also where a file of these is named."""
    if not _are_asked_for(config):
        items[:] = [item for item in items if item.get_closest_marker("container") is None]


def _are_asked_for(config: pytest.Config) -> bool:
    return "container" in config.getoption("markexpr", "")


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    with built(tmp_path_factory.mktemp("container")) as image:
        yield image


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (made := tmp_path / "data").mkdir()
    return made

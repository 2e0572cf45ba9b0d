"""What is rendered before it is deployed: the chart, and compose.yaml.

It takes Helm, Docker Compose and the schemas of Kubernetes, all of them packages of PyPI, so these
tests run when asked for: `nox -s deploy`.
"""

from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "rendered: needs the packages of the group `deploy`")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return None if _are_asked_for(config) or collection_path.suffix != ".py" else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Also where a file of these is named."""
    if not _are_asked_for(config):
        items[:] = [item for item in items if item.get_closest_marker("rendered") is None]


def _are_asked_for(config: pytest.Config) -> bool:
    return "rendered" in config.getoption("markexpr", "")

"""What is pure of the page, under the test runner of the Node that comes with Playwright."""

import json
import subprocess
from pathlib import Path

import pytest

from sts_trio.audio import g711

pytestmark = pytest.mark.browser

HERE = Path(__file__).parent
STATIC = HERE.parents[1] / "sts_trio" / "web" / "static"


@pytest.fixture(scope="module")
def node() -> str:
    from playwright._impl._driver import compute_driver_executable

    return str(compute_driver_executable()[0])


@pytest.mark.parametrize("name", sorted(path.name for path in (HERE / "modules").iterdir()))
def test_the_modules_pass_their_own_tests(node: str, name: str) -> None:
    done = subprocess.run(
        [node, "--test", str(HERE / "modules" / name)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout


def test_the_pages_mu_law_is_the_servers(node: str) -> None:
    """All codes, and all samples of 16 bits."""
    script = f"""
    const {{ decode, encode }} = await import({json.dumps((STATIC / "g711.js").as_uri())});
    const samples = Array.from({{ length: 256 }}, (_, byte) => decode(byte) * 32768);
    const codes = Array.from({{ length: 65536 }}, (_, n) => encode((n - 32768) / 32768));
    process.stdout.write(JSON.stringify({{ samples, codes }}));
    """
    done = subprocess.run(
        [node, "--input-type=module", "--eval", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [abs(sample) for sample in told["samples"]] == [abs(each) for each in g711.SAMPLES]
    assert told["samples"] == list(g711.SAMPLES)
    assert bytes(told["codes"]) == g711.encode_samples(range(-32768, 32768))

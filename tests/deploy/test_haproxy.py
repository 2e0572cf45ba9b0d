"""`deploy/haproxy.cfg` in a real HAProxy: who gets which call, and when calls are cut.

Debian's package haproxy. Where it is missing the tests are skipped, but not where the suite decides
what lands (CI=true).
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

import haproxy
import trio
from limits import HANG
from rig_deploy import HANGS, ROOT, Fleet, fleet, needed

NAMES = ("a-5001", "a-5002", "a-5003")


def test_the_file_is_one_that_haproxy_takes(tmp_path: Path) -> None:
    program = haproxy.program()
    needed("haproxy", program)
    config = tmp_path / "haproxy.cfg"
    config.write_text(haproxy.on_loopback(5000, dict.fromkeys(NAMES, ("127.0.0.1", 5001))))
    done = subprocess.run([str(program), "-c", "-f", config], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_it_is_tried_as_it_is_deployed_but_for_the_addresses() -> None:
    deployed = (ROOT / "deploy" / "haproxy.cfg").read_text().splitlines()
    servers = {name: ("127.0.0.1", 5001 + number) for number, name in enumerate(NAMES)}
    tried = haproxy.on_loopback(5000, servers).splitlines()
    other = [(there, here) for there, here in zip(deployed, tried, strict=True) if there != here]
    assert [here.split()[0] for _, here in other] == ["log", "bind"]


async def owner(behind: Fleet, name: str) -> str:
    """Whose a stream is that is led to that one."""
    async with behind.stream(f"/twilio/at/{name}/token") as (_, found):
        return found


async def test_a_name_in_the_path_leads_to_its_process(tmp_path: Path) -> None:
    with trio.fail_after(HANG):
        async with fleet(tmp_path, *NAMES) as behind:
            assert [await owner(behind, name) for name in [*NAMES, "a-5002"]] == [*NAMES, "a-5002"]
            assert await owner(behind, "nobody") in NAMES
            asked: set[str] = set()
            while len(asked) < len(NAMES):  # HAProxy has whom it likes be first
                asked.add(await behind.ask("/twiml"))
            assert asked == set(NAMES)
            for path in ("/metrics", "/healthz", "/readyz", "/lbz"):
                assert await behind.ask(path) == "HTTP/1.1 404 Not Found"


async def test_what_was_asked_of_a_process_that_died_over_it_is_asked_elsewhere(
    tmp_path: Path,
) -> None:
    with trio.fail_after(HANG):
        async with fleet(tmp_path, *NAMES) as behind:
            behind.dying = {"a-5001", "a-5002"}
            for _ in NAMES:
                assert await behind.ask("/twiml/after", "POST") == "a-5003"
            assert await owner(behind, "a-5001") == "a-5003"
            # A call may have been placed by who died.
            placed: set[str] = set()
            while len(placed) < 2:  # HAProxy has whom it likes be first
                placed.add(await behind.ask("/calls", "POST"))
            assert placed == {"a-5003", "HTTP/1.1 502 Bad Gateway"}


async def test_what_a_process_that_is_about_to_end_does_not_take_is_asked_elsewhere(
    tmp_path: Path,
) -> None:
    """Before it is known that it drains."""
    with trio.fail_after(HANG):
        async with fleet(tmp_path, *NAMES) as behind:
            behind.ending = {"a-5001", "a-5002"}
            for _ in NAMES:
                assert await behind.ask("/twiml/after", "POST") == "a-5003"
            assert await owner(behind, "a-5001") == "a-5003"
            behind.ending = set(NAMES)
            assert "503" in await behind.ask("/twiml/after", "POST")


async def test_who_takes_no_calls_keeps_theirs_and_gets_those_that_are_theirs(
    tmp_path: Path,
) -> None:
    with trio.fail_after(HANG):
        async with fleet(tmp_path, *NAMES) as behind:
            async with behind.stream("/twilio/at/a-5001/token") as (live, _):
                behind.health["a-5001"] = 404
                await behind.takes_calls("a-5001", False)
                assert await owner(behind, "a-5001") == "a-5001"
                with trio.move_on_after(2.0) as unheard:  # two more of HAProxy's looks
                    await live.receive_some(1)
                assert unheard.cancelled_caught
            behind.health["a-5001"] = 200
            await behind.takes_calls("a-5001", True)


async def test_who_hangs_has_its_calls_cut_and_others_take_over(
    tmp_path: Path, tell: Callable[[str], None]
) -> None:
    with trio.fail_after(HANG):
        async with fleet(tmp_path, *NAMES) as behind:
            async with behind.stream("/twilio/at/a-5001/token") as (live, _):
                behind.health["a-5001"] = HANGS
                began = trio.current_time()
                assert await live.receive_some(1) == b""
                after = trio.current_time() - began
            tell(f"HAProxy cuts the calls of who hangs after {after:.1f} s")
            assert await owner(behind, "a-5001") in ("a-5002", "a-5003")

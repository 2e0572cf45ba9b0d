"""The key of a run: who finds it, and who is not led to take another's for it."""

import multiprocessing
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog
from limits import HANG

from sts_trio import config
from sts_trio.config import local_key
from sts_trio.config.local_key import find, mint, of_peer, page_url, published
from sts_trio.observe import events

HERE = ("127.0.0.1", 5000)


class Places:
    """The directories that there are, as another user may have left them."""

    def __init__(self, base: Path) -> None:
        self.runtime, self.state, self.shared = base / "run", base / "state", base / "tmp"
        self.own = self.runtime / "sts-trio"
        self.fallback = self.state / "sts-trio"
        self.last = self.shared / f"sts-trio-{os.geteuid()}"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    places = Places(tmp_path)
    places.runtime.mkdir(0o700)
    places.shared.mkdir()
    places.shared.chmod(0o1777)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(places.runtime))
    monkeypatch.setenv("XDG_STATE_HOME", str(places.state))
    monkeypatch.setattr(config.tempfile, "gettempdir", lambda: str(places.shared))  # type: ignore[attr-defined]
    return places


@pytest.fixture
def log() -> Iterator[list[structlog.typing.EventDict]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


# --- the key --------------------------------------------------------------------------------------


def test_each_run_has_another_key() -> None:
    keys = {mint() for _ in range(100)}
    assert len(keys) == 100
    assert {len(key) for key in keys} == {43}
    assert page_url("http://127.0.0.1:5000", "k") == "http://127.0.0.1:5000/?key=k"


def mint_into(queue: "multiprocessing.Queue[str]") -> None:
    queue.put(mint())


def test_the_workers_of_one_server_have_one_key() -> None:
    """As Hypercorn starts them. They accept from the same socket."""
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[str] = context.Queue()
    workers = [context.Process(target=mint_into, args=(queue,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    one, other = (queue.get(timeout=HANG) for _ in workers)
    for worker in workers:
        worker.join()
    assert one == other
    assert len(one) == 43
    assert one not in (mint(), multiprocessing.current_process().authkey.hex())


# --- the file -------------------------------------------------------------------------------------


def test_the_key_is_found_as_long_as_the_server_is_there(places: Places) -> None:
    assert find(HERE) is None
    with published("key", [HERE]):
        assert find(HERE) == "key"
        assert find(("127.0.0.1", 5001)) is None
        assert find(("::1", 5000)) is None
        [file] = places.own.iterdir()
        assert file.name == "127.0.0.1_5000"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(places.own.stat().st_mode) == 0o700
        assert file.read_text() == "key\n"
    assert find(HERE) is None
    assert files(places.own) == []


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_the_mode_of_the_file_is_not_left_to_the_umask(places: Places, mask: int) -> None:
    before = os.umask(mask)
    try:
        with published("key", [HERE]):
            assert find(HERE) == "key"
            assert stat.S_IMODE((places.own / "127.0.0.1_5000").stat().st_mode) == 0o600
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("bound", "reached"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.2"),
        ("::", "127.0.0.1"),
        ("::", "::1"),
        ("::", "::ffff:127.0.0.1"),
        ("127.0.0.1", "::ffff:127.0.0.1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
    ],
)
def test_who_listens_everywhere_is_found_at_each_address(
    places: Places, bound: str, reached: str
) -> None:
    with published("key", [(bound, 5000)]):
        assert find((reached, 5000)) == "key"


@pytest.mark.parametrize("elsewhere", ["192.0.2.7", "0.0.0.0", "fe80::1", "::ffff:192.0.2.7"])
def test_no_other_machine_is_given_a_key(places: Places, elsewhere: str) -> None:
    with published("key", [("0.0.0.0", 5000), ("::", 5000), (elsewhere, 5000)]):
        assert find((elsewhere, 5000)) is None


def test_servers_side_by_side_have_a_file_each(places: Places) -> None:
    with (
        published("one", [HERE, ("127.0.0.1", 5001)]),
        published("two", [("::1", 5000)]),
    ):
        assert [find(HERE), find(("127.0.0.1", 5001)), find(("::1", 5000))] == ["one", "one", "two"]


def test_who_comes_after_a_server_that_was_killed_is_found(places: Places) -> None:
    with ExitStack() as killed:
        killed.enter_context(published("old", [HERE]))
        os.utime(places.own / "127.0.0.1_5000", (1, 1))
        with published("new", [("0.0.0.0", 5000)]):
            assert find(HERE) == "new"
        with published("newer", [HERE]):
            assert find(HERE) == "newer"


def test_the_file_of_who_came_after_is_left_to_them(places: Places) -> None:
    with ExitStack() as stack:
        with published("old", [HERE]):
            stack.enter_context(published("new", [HERE]))
        assert find(HERE) == "new"
    assert find(HERE) is None


def test_a_file_that_is_gone_already_is_no_trouble(places: Places) -> None:
    with published("key", [HERE]):
        (places.own / "127.0.0.1_5000").unlink()
    with published("key", [HERE]):
        (places.own / "127.0.0.1_5000").unlink()
        places.own.rmdir()


def test_a_connected_socket_tells_whose_key_to_give(places: Places) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with published("key", [address]), socket.create_connection(address) as client:
            assert of_peer(client) == "key"
            accepted, _ = listener.accept()
            accepted.close()
        client.close()
        assert of_peer(client) is None


# --- where it goes --------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", ["", "relative", "/nonexistent/run"])
def test_without_a_runtime_directory_the_home_is_used(
    places: Places, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    with published("key", [HERE]):
        assert files(places.fallback) == ["127.0.0.1_5000"]
        assert stat.S_IMODE(places.state.stat().st_mode) == 0o700
        # Who asks may have a runtime directory, as in another session.
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(places.runtime))
        assert find(HERE) == "key"


def test_the_home_is_where_state_goes_unless_told(
    places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.delenv("XDG_STATE_HOME")
    with published("key", [HERE]):
        assert files(tmp_path / "home/.local/state/sts-trio") == ["127.0.0.1_5000"]


def test_without_a_home_there_is_a_directory_of_ones_own_among_all(places: Places) -> None:
    places.state.write_text("no directory")
    places.runtime.rmdir()
    with published("key", [HERE]):
        assert files(places.last) == ["127.0.0.1_5000"]
        assert find(HERE) == "key"


def test_where_nothing_can_be_written_it_is_told_and_served(
    places: Places, log: list[structlog.typing.EventDict]
) -> None:
    for place in (places.own, places.fallback, places.last):
        place.parent.mkdir(exist_ok=True)
        place.write_text("in the way")
    with published("key", [HERE]):
        assert find(HERE) is None
    [line] = log
    assert (line["event"], line["log_level"]) == (events.KeyNotPublished.NAME, "warning")
    assert all(str(each) in line["reason"] for each in (places.own, places.fallback, places.last))
    assert "key\n" not in line["reason"]


def test_where_the_system_has_no_such_files_there_are_none(
    places: Places, monkeypatch: pytest.MonkeyPatch, log: list[structlog.typing.EventDict]
) -> None:
    monkeypatch.setattr(os, "supports_dir_fd", set())
    with published("key", [HERE]):
        assert find(HERE) is None
    assert [line["event"] for line in log] == [events.KeyNotPublished.NAME]


# --- games ----------------------------------------------------------------------------------------


def occupy(place: Path, how: str, tmp_path: Path) -> Path:
    """What another user, or an older self, may have put in the directory's place. Returns where
    a careless server would write."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(0o700)
    place.parent.mkdir(exist_ok=True)
    if how == "a link":
        place.symlink_to(elsewhere)
    elif how == "a link to nothing":
        place.symlink_to(tmp_path / "nothing")
    elif how == "a file":
        place.write_text("")
    elif how == "a pipe":
        os.mkfifo(place, 0o700)
    else:
        place.mkdir(0o700)
        place.chmod(int(how, 8))
        return place
    return elsewhere


@pytest.mark.parametrize(
    "how", ["a link", "a link to nothing", "a file", "a pipe", "0777", "0750", "0701"]
)
def test_what_was_there_before_is_not_trusted(places: Places, how: str, tmp_path: Path) -> None:
    trap = occupy(places.own, how, tmp_path)
    with published("key", [HERE]):
        assert files(trap) == []
        assert not (tmp_path / "nothing").exists()
        assert files(places.fallback) == ["127.0.0.1_5000"]
        assert find(HERE) == "key"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")
def test_another_users_directory_is_not_trusted(places: Places) -> None:
    """`sudo` leaves the variables of who calls it; in /tmp anybody may be the first."""
    places.own.mkdir(0o700)
    os.chown(places.own, 1, 1)
    places.state.mkdir(0o700)
    os.chown(places.state, 1, 1)
    with published("key", [HERE]):
        assert files(places.own) == []
        assert files(places.state) == []
        assert files(places.last) == ["127.0.0.1_5000"]
    (places.own / "127.0.0.1_5000").write_text("theirs")
    assert find(HERE) is None


@pytest.mark.parametrize("how", ["link", "directory", "pipe", "0644", "empty", "long", "binary"])
def test_what_is_no_file_of_ours_is_not_read(places: Places, how: str, tmp_path: Path) -> None:
    places.own.mkdir(0o700)
    file = places.own / "127.0.0.1_5000"
    secret = tmp_path / "secret"
    secret.write_text("theirs")
    secret.chmod(0o600)
    match how:
        case "link":
            file.symlink_to(secret)
        case "directory":
            file.mkdir(0o700)
        case "pipe":
            os.mkfifo(file, 0o600)
        case "0644":
            file.write_text("key")
            file.chmod(0o644)
        case "empty" | "long" | "binary":
            text = {"empty": b"", "long": b"k " * 200, "binary": b"\xff\r\nX: y"}[how]
            file.write_bytes(text)
            file.chmod(0o600)
    assert find(HERE) is None
    if how != "directory":
        with published("key", [HERE]):
            assert find(HERE) == "key"
            assert not file.is_symlink()
        assert secret.read_text() == "theirs"


def test_a_write_that_fails_leaves_nothing(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local_key.os, "replace", full)  # type: ignore[attr-defined]
    with published("key", [HERE]):
        assert files(places.own) == files(places.fallback) == files(places.last) == []

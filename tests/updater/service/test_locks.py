"""The two locks of a folder, against other processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from updater.service.locks import Busy, daemon_of, inherited_pid_file, pass_lock, pid_file

HOLD = """
import sys
from pathlib import Path
from updater.service import locks as lock
with getattr(lock, sys.argv[1])(Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(kind: str, var: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock until it is asked to end, or the block does."""
    command = [sys.executable, "-c", HOLD, kind, str(var)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield holder
        finally:
            assert holder.stdin is not None
            holder.stdin.close()


@pytest.mark.parametrize(("kind", "name"), [("pass_lock", "updater.lock"), ("pid_file", "app.pid")])
def test_a_lock_names_who_holds_it(tmp_path: Path, kind: str, name: str) -> None:
    take = pass_lock if kind == "pass_lock" else pid_file
    with held(kind, tmp_path) as holder:
        with (
            pytest.raises(Busy, match=f"process {holder.pid} holds .*{name}; nothing was touched") as raised,
            take(tmp_path),
        ):
            pytest.fail("two of them")
        assert (raised.value.pid, raised.value.path) == (holder.pid, tmp_path / name)
    with take(tmp_path):
        assert (tmp_path / name).read_text() == f"{os.getpid()}\n"
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("take", "name"), [(pass_lock, "updater.lock"), (pid_file, "app.pid")])
def test_a_shorter_number_takes_the_place_of_a_longer_one(
    tmp_path: Path, take: Callable[[Path], AbstractContextManager[object]], name: str
) -> None:
    (tmp_path / name).write_text("12345678901234567890\n")
    with take(tmp_path):
        assert (tmp_path / name).read_text() == f"{os.getpid()}\n"


def test_one_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    with held("pid_file", tmp_path) as holder:
        holder.kill()
        holder.wait()
    assert (tmp_path / "app.pid").read_text() == f"{holder.pid}\n"  # stale, and no reader is deceived by it
    with pid_file(tmp_path):
        assert (tmp_path / "app.pid").read_text() == f"{os.getpid()}\n"
    assert (tmp_path / "app.pid").read_text() == ""


def test_a_pass_waits_for_the_one_before_it(tmp_path: Path) -> None:
    with held("pass_lock", tmp_path) as holder:
        asked = []

        def ending() -> bool:
            asked.append(True)
            holder.stdin.close()  # type: ignore[union-attr]
            return False

        with pass_lock(tmp_path, wait_s=20, ending=ending):
            assert asked


def test_a_wait_ends_when_we_are_to_end(tmp_path: Path) -> None:
    with held("pass_lock", tmp_path), pytest.raises(Busy), pass_lock(tmp_path, wait_s=60, ending=lambda: True):
        pytest.fail("two of them")


def test_a_wait_ends_in_time(tmp_path: Path) -> None:
    with held("pass_lock", tmp_path), pytest.raises(Busy), pass_lock(tmp_path, wait_s=0.2):
        pytest.fail("two of them")


def test_a_lock_file_without_a_readable_number(tmp_path: Path) -> None:
    with held("pass_lock", tmp_path) as holder:
        (tmp_path / "updater.lock").write_bytes(b"\xff\xfe")
        with pytest.raises(Busy, match=f"process {holder.pid} holds"), pass_lock(tmp_path):
            pytest.fail("two of them")
    with held("pid_file", tmp_path):
        (tmp_path / "app.pid").write_bytes(b"\xff\xfe")
        with pytest.raises(Busy, match=r"process [0-9]+ holds"), pid_file(tmp_path):
            pytest.fail("two of them")


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


NO_FILES: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a socket": a_socket,
    "a directory": os.mkdir,
    "a link to a file": lambda path: path.symlink_to("precious"),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize(("kind", "name"), [("pass_lock", "updater.lock"), ("pid_file", "app.pid")])
def test_where_its_name_is_taken_something_else_serves(
    tmp_path: Path, kind: str, name: str, make: Callable[[Path], object]
) -> None:
    """What crashed is healed all the same, and there is still one at a time."""
    var = tmp_path / "var"
    var.mkdir()
    (var / "precious").write_text("precious")
    make(var / name)
    take = pass_lock if kind == "pass_lock" else pid_file
    with held(kind, var), pytest.raises(Busy), take(var):
        pytest.fail("two of them")
    with take(var):
        pass
    assert (var / "precious").read_text() == "precious"
    assert os.path.lexists(var / name)


def test_a_lock_file_that_was_removed_lets_no_second_pass_in(tmp_path: Path) -> None:
    with held("pass_lock", tmp_path) as holder:
        (tmp_path / "updater.lock").unlink()
        for _ in range(2):  # the second one finds a file that is not locked
            with pytest.raises(Busy, match=f"process {holder.pid} holds") as raised, pass_lock(tmp_path):
                pytest.fail("two of them")
            assert raised.value.pid == holder.pid
    with pass_lock(tmp_path), held("pid_file", tmp_path):
        pass


def test_a_pass_waits_for_one_whose_lock_file_was_removed(tmp_path: Path) -> None:
    with held("pass_lock", tmp_path) as holder:
        (tmp_path / "updater.lock").unlink()

        def ending() -> bool:
            holder.stdin.close()  # type: ignore[union-attr]
            return False

        with pass_lock(tmp_path, wait_s=20, ending=ending):
            assert (tmp_path / "updater.lock").read_text() == f"{os.getpid()}\n"


def test_a_pass_that_is_over_keeps_nothing_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pass_lock(tmp_path):
            pass
    with held("pass_lock", tmp_path), pytest.raises(Busy), pass_lock(tmp_path):
        pytest.fail("two of them")
    assert len(os.listdir("/proc/self/fd")) == before


# The daemon of a folder


def folders(tmp_path: Path, *names: str) -> list[Path]:
    found = [tmp_path / name / "var" for name in names]
    for var in found:
        var.mkdir(parents=True)
    return found


@pytest.mark.parametrize("how", ["removed", "moved", "its folder removed"])
def test_a_daemon_is_found_though_its_pid_file_lies_there_no_more(tmp_path: Path, how: str) -> None:
    [var] = folders(tmp_path, "ours")
    with held("pid_file", var) as holder:
        match how:
            case "removed":
                (var / "app.pid").unlink()
            case "moved":
                (var / "app.pid").rename(var / "old.app.pid")
            case _:
                (var / "app.pid").unlink()
                var.rmdir()
                var.mkdir()
        with pytest.raises(Busy) as raised, pid_file(var):
            pytest.fail("two of them")
        assert (raised.value.pid, raised.value.path) == (holder.pid, var / "app.pid")
    with pid_file(var):
        pass


def test_a_daemon_of_another_folder_and_a_process_with_this_one_open_are_not_ours(tmp_path: Path) -> None:
    ours, other = folders(tmp_path, "ours", "other")
    looking = ["sh", "-c", 'exec 3<"$1"; echo held; read line', "sh", str(ours.parent)]
    with (
        held("pid_file", other),
        subprocess.Popen(looking, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as looks,
    ):
        assert looks.stdout is not None
        assert looks.stdout.readline() == "held\n"
        folder = os.open(ours.parent, os.O_RDONLY)
        try:
            assert daemon_of(folder) == 0
            with pid_file(ours):
                assert daemon_of(folder) == 0, "it is this process"
        finally:
            os.close(folder)
        looks.communicate("\n")


def test_a_released_pid_file_names_no_process_and_keeps_nothing_open(tmp_path: Path) -> None:
    [var] = folders(tmp_path, "ours")
    before = set(os.listdir("/proc/self/fd"))
    with pid_file(var) as one:
        assert (one.is_there, one.folder_is_there) == (True, True)
        fds = one.fds
        assert fds is not None
        assert os.path.samestat(os.fstat(fds[0]), (var / "app.pid").stat())
        assert os.path.samestat(os.fstat(fds[1]), var.parent.stat())
        (var / "app.pid").unlink()
        assert (one.is_there, one.folder_is_there) == (False, True)
        var.parent.rename(tmp_path / "away")
        assert (one.is_there, one.folder_is_there) == (False, False)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_pid_file_is_inherited_open_and_given_back(tmp_path: Path) -> None:
    [var] = folders(tmp_path, "ours")
    (var / "app.pid").write_text(f"{os.getpid()}\n")
    before = set(os.listdir("/proc/self/fd"))
    lock, folder = os.open(var / "app.pid", os.O_RDWR), os.open(var.parent, os.O_RDONLY)
    with inherited_pid_file(var, lock, folder) as one:
        assert one.fds == (lock, folder)
        assert (one.is_there, one.folder_is_there) == (True, True)
    assert (var / "app.pid").read_text() == ""
    assert set(os.listdir("/proc/self/fd")) == before


SHORT = """
import os, resource, sys
from pathlib import Path
from updater.service.locks import pass_lock
least = max(map(int, os.listdir("/proc/self/fd")))
resource.setrlimit(resource.RLIMIT_NOFILE, (least + 1, least + 1))
try:
    with pass_lock(Path(sys.argv[1])):
        print("held")
except OSError as err:
    print(err.strerror)
"""


def test_for_want_of_descriptors_no_pass_is_made_without_its_lock(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", SHORT, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert (run.stdout, run.stderr) == ("Too many open files\n", "")

"""What changes a disk: whole or not at all, never through a link, with nothing left behind."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from probes.observed import MARKER
from reconcile.act.host import atomic_fs, home_lock
from reconcile.errors import DiskTooSmall, HomeBusy, WorkDirMissing, WriteFailed
from tests.support.nobody import as_nobody
from tests.support.odd_files import ODD

REPOSITORY = Path(__file__).resolve().parents[4]
needs_a_plain_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


@pytest.fixture
def home_fd(home: Path) -> Iterator[int]:
    fd = atomic_fs.open_dir(home)
    yield fd
    os.close(fd)


@pytest.fixture
def file_limit() -> Iterator[None]:
    """Let files grow to 64 KiB alone: a write that the kernel refuses halfway, for root too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


@contextmanager
def opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


# -- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_is_a_disk_too_small(number: int) -> None:
    error = atomic_fs.as_error(OSError(number, ""), "write file", "'/srv/a'")
    assert isinstance(error, DiskTooSmall)
    assert "can't write file '/srv/a'" in error.message
    assert "free space" in error.message


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.EROFS, "remount"), (errno.EIO, "failing"), (errno.EACCES, "give the directory"), (errno.EFBIG, "log")],
)
def test_anything_else_is_a_failed_write_with_its_remedy(number: int, remedy: str) -> None:
    error = atomic_fs.as_error(OSError(number, ""), "rename", "'/srv/a'")
    assert isinstance(error, WriteFailed)
    assert os.strerror(number) in error.message
    assert remedy in error.message


def test_an_error_without_a_number_is_reported_by_its_text() -> None:
    assert "truncated read" in atomic_fs.as_error(OSError("truncated read"), "read", "it").message


# -- directories ----------------------------------------------------------------------------------------------------


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkDirMissing, match="nowhere"):
        atomic_fs.open_dir(tmp_path / "nowhere")


def test_a_link_to_a_directory_is_not_opened(home: Path) -> None:
    (home / "link").symlink_to(home)
    with pytest.raises(WriteFailed, match="link or not a directory"):
        atomic_fs.open_dir(home / "link")


def test_a_file_is_not_opened_as_a_directory(home: Path) -> None:
    (home / "file").touch()
    with pytest.raises(WriteFailed, match="link or not a directory"):
        atomic_fs.open_dir(home / "file")


def test_a_child_does_not_inherit_the_descriptor(home_fd: int) -> None:
    assert not os.get_inheritable(home_fd)


def test_a_stage_is_open_to_all_whatever_the_umask(home: Path, home_fd: int) -> None:
    before = os.umask(0o077)
    try:
        name, fd = atomic_fs.make_stage(home_fd)
    finally:
        os.umask(before)
    assert os.fstat(fd).st_ino == (home / name).stat().st_ino
    os.close(fd)
    assert name.startswith(".stage-")
    assert (home / name).stat().st_mode & 0o7777 == 0o755


def test_a_stage_whose_mode_can_not_be_set_is_closed(home_fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "fchmod", failing(errno.EIO))
    with pytest.raises(WriteFailed, match="make directory"):
        atomic_fs.make_stage(home_fd)
    assert os.listdir("/proc/self/fd") == before


def test_what_can_not_be_opened_for_another_cause_is_named_with_it(tmp_path: Path) -> None:
    with pytest.raises(WriteFailed, match=r"can't open directory '.*xxx': File name too long"):
        atomic_fs.open_dir(tmp_path / ("x" * 300))


def test_a_directory_that_is_gone_is_reported_by_its_name_alone() -> None:
    fd = os.open("/", os.O_RDONLY)
    os.close(fd)
    with pytest.raises(WriteFailed, match=r"can't rename 'a' to '\./b': Bad file descriptor"):
        atomic_fs.rename(fd, "a", "b")


# -- on the disk ----------------------------------------------------------------------------------------------------


@pytest.fixture
def steps(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced, renamed and unlinked, in order; the names of stages without their number."""
    seen: list[str] = []

    def recording(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def call(target: int | str, *rest: Any, **keywords: Any) -> None:
            path = target if isinstance(target, str) else os.readlink(f"/proc/self/fd/{target}")
            seen.append(f"{name} {re.sub('-[0-9a-f]{16}', '', os.path.basename(path))}")
            real(target, *rest, **keywords)

        return call

    for name in ("fsync", "rename", "unlink"):
        monkeypatch.setattr(os, name, recording(name, getattr(os, name)))
    return seen


def put_tree(home: Path, *names: str) -> None:
    for name in names:
        (home / name).mkdir()
        (home / name / MARKER).touch()


@pytest.mark.parametrize(
    ("change", "in_order"),
    [
        (lambda fd: atomic_fs.replace_file(fd, "a", b"a"), ["fsync .stage-a", "rename .stage-a", "fsync home"]),
        (lambda fd: atomic_fs.write_beside(fd, "2.0.0", b"a"), ["unlink 2.0.0", "fsync 2.0.0", "fsync home"]),
        (lambda fd: atomic_fs.rename(fd, "1.0.0", "a"), ["rename 1.0.0", "fsync home"]),
        (lambda fd: atomic_fs.exchange(fd, "1.0.0", "1.1.0"), ["fsync home"]),
        (lambda fd: atomic_fs.remove_tree(fd, "2.0.0"), ["unlink 2.0.0", "fsync home"]),
        (lambda fd: atomic_fs.remove_tree(fd, "1.0.0"), [f"unlink {MARKER}", "fsync 1.0.0", "fsync home"]),
        (lambda fd: atomic_fs.remove_tree(fd, "none"), []),
    ],
    ids=["replace", "beside", "rename", "exchange", "a-file", "a-tree", "nothing"],
)
def test_what_was_done_is_on_the_disk_in_this_order(
    change: Callable[[int], object], in_order: list[str], home: Path, home_fd: int, steps: list[str]
) -> None:
    put_tree(home, "1.0.0", "1.1.0")
    (home / "2.0.0").touch()
    change(home_fd)
    assert steps == in_order


def failing(number: int) -> Callable[..., None]:
    def fail(*args: object, **keywords: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_file_system_that_can_not_sync_a_directory_is_believed(
    home: Path, home_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
    atomic_fs.sync_dir(home_fd)
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(WriteFailed, match=r"can't fsync directory '.*/home': Input/output error; the disk is failing"):
        atomic_fs.sync_dir(home_fd)


# -- files ----------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced(home: Path, home_fd: int) -> None:
    atomic_fs.replace_file(home_fd, ".version", b"1.0.0\n")
    assert (home / ".version").stat().st_mode & 0o7777 == 0o644
    atomic_fs.replace_file(home_fd, ".version", b"1.0.1\n", 0o600)
    assert (home / ".version").read_bytes() == b"1.0.1\n"
    assert (home / ".version").stat().st_mode & 0o7777 == 0o600
    assert os.listdir(home) == [".version"]


def test_a_file_can_be_read_by_all_whatever_the_umask(home: Path, home_fd: int) -> None:
    before = os.umask(0o077)
    try:
        atomic_fs.replace_file(home_fd, "a", b"1")
        atomic_fs.write_beside(home_fd, "b", b"1")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in home.iterdir()} == {0o644}


def test_a_reader_keeps_the_file_that_it_opened(home: Path, home_fd: int) -> None:
    atomic_fs.replace_file(home_fd, ".version", b"1.0.0")
    with open(home / ".version", "rb") as reader:
        atomic_fs.replace_file(home_fd, ".version", b"1.0.1")
        assert reader.read() == b"1.0.0"


@pytest.mark.parametrize("put", [atomic_fs.replace_file, atomic_fs.write_beside])
def test_a_link_in_the_way_is_replaced_not_followed(
    put: Callable[[int, str, bytes], object], home: Path, home_fd: int, tmp_path: Path
) -> None:
    (tmp_path / "victim").write_text("untouched")
    (home / "cfg.json").symlink_to(tmp_path / "victim")
    put(home_fd, "cfg.json", b"{}")
    assert (tmp_path / "victim").read_text() == "untouched"
    assert not (home / "cfg.json").is_symlink()
    assert (home / "cfg.json").read_bytes() == b"{}"


@pytest.mark.usefixtures("file_limit")
def test_a_write_that_breaks_off_leaves_the_old_file_and_nothing_else(home: Path, home_fd: int) -> None:
    (home / ".version").write_text("1.0.0")
    with pytest.raises(WriteFailed, match=r"/home/\.version"):
        atomic_fs.replace_file(home_fd, ".version", bytes(100 << 10))
    assert (home / ".version").read_text() == "1.0.0"
    assert os.listdir(home) == [".version"]


@pytest.mark.usefixtures("file_limit")
def test_a_file_beside_that_breaks_off_is_gone(home: Path, home_fd: int) -> None:
    with pytest.raises(WriteFailed):
        atomic_fs.write_beside(home_fd, "cfg.json", bytes(100 << 10))
    assert os.listdir(home) == []


def test_a_rename_that_fails_removes_what_was_written(home: Path, home_fd: int) -> None:
    (home / ".version").mkdir()
    with pytest.raises(WriteFailed, match="replace file"):
        atomic_fs.replace_file(home_fd, ".version", b"1")
    assert os.listdir(home) == [".version"]


def test_a_long_name_still_has_room_for_its_temporary_one(home: Path, home_fd: int) -> None:
    atomic_fs.replace_file(home_fd, "ö" * 127, b"x")
    assert os.listdir(home) == ["ö" * 127]


def test_a_file_beside_replaces_an_older_one_and_returns_its_name(home: Path, home_fd: int) -> None:
    (home / ".stage-config").write_text("older and longer")
    assert atomic_fs.write_beside(home_fd, ".stage-config", b"new", 0o640) == ".stage-config"
    assert (home / ".stage-config").read_bytes() == b"new"
    assert (home / ".stage-config").stat().st_mode & 0o7777 == 0o640


@pytest.mark.parametrize("make", ODD)
def test_a_file_beside_takes_the_place_of_whatever_lies_there(
    home: Path, home_fd: int, make: Callable[[Path], None]
) -> None:
    make(home / MARKER)
    atomic_fs.write_beside(home_fd, MARKER, b"{}")
    assert (home / MARKER).read_bytes() == b"{}"
    assert os.listdir(home) == [MARKER]


def test_a_tree_is_sealed_by_its_marker(home: Path, home_fd: int) -> None:
    atomic_fs.seal(home_fd, b"{}")
    assert (home / MARKER).read_bytes() == b"{}"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/etc/passwd", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(name: str, home_fd: int) -> None:
    calls: list[Callable[[], object]] = [
        lambda: atomic_fs.replace_file(home_fd, name, b""),
        lambda: atomic_fs.write_beside(home_fd, name, b""),
        lambda: atomic_fs.rename(home_fd, name, "a"),
        lambda: atomic_fs.rename(home_fd, "a", name),
        lambda: atomic_fs.exchange(home_fd, name, "a"),
        lambda: atomic_fs.remove_tree(home_fd, name),
    ]
    for call in calls:
        with pytest.raises(WriteFailed, match="one path component"):
            call()


@needs_a_plain_user
def test_a_directory_that_is_not_ours_says_whose_it_should_be(home: Path, home_fd: int) -> None:
    home.chmod(0o500)
    with pytest.raises(WriteFailed, match="give the directory to the user"):
        atomic_fs.replace_file(home_fd, ".version", b"1")
    home.chmod(0o700)


# -- renames --------------------------------------------------------------------------------------------------------


def test_a_tree_appears_by_its_rename(home: Path, home_fd: int) -> None:
    (home / ".stage-1").mkdir()
    (home / ".stage-1" / "control").touch()
    atomic_fs.rename(home_fd, ".stage-1", "1.0.0")
    assert os.listdir(home / "1.0.0") == ["control"]


def test_a_rename_never_replaces_a_tree(home: Path, home_fd: int) -> None:
    for name in (".stage-1", "1.0.0"):
        (home / name).mkdir()
        (home / name / "control").write_text(name)
    with pytest.raises(WriteFailed, match=r"rename '\.stage-1' to '.*/home/1\.0\.0'"):
        atomic_fs.rename(home_fd, ".stage-1", "1.0.0")
    assert (home / "1.0.0" / "control").read_text() == "1.0.0"


def test_two_trees_swap_their_names_or_nothing_happens(home: Path, home_fd: int) -> None:
    for name in (".next-1.0.0", "1.0.0"):
        (home / name).mkdir()
        (home / name / "control").write_text(name)
    done = atomic_fs.exchange(home_fd, ".next-1.0.0", "1.0.0")
    assert (home / "1.0.0" / "control").read_text() == (".next-1.0.0" if done else "1.0.0")
    assert (home / ".next-1.0.0" / "control").read_text() == ("1.0.0" if done else ".next-1.0.0")


def test_a_libc_that_knows_no_exchange_makes_none(home: Path, home_fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (home / name).write_text(name)
    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **kwargs: SimpleNamespace())
    assert atomic_fs.exchange(home_fd, "a", "b") is False
    assert [(home / name).read_text() for name in ("a", "b")] == ["a", "b"]


def test_an_exchange_is_made_where_the_system_knows_it(home: Path, home_fd: int) -> None:
    for name in ("a", "b"):
        (home / name).write_text(name)
    code = "import ctypes, sys; print(ctypes.CDLL(None).renameat2(-100, b'a', -100, b'b', 2))"
    if subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True).stdout != "0\n":
        pytest.skip("this system has no renameat2")
    assert atomic_fs.exchange(home_fd, "a", "b")
    assert [(home / name).read_text() for name in ("a", "b")] == ["a", "b"], "it was exchanged once before"


def test_two_mounts_are_not_the_same(home_fd: int) -> None:
    with opened("/proc") as other, opened("/") as root:
        atomic_fs.check_same_mount(home_fd, home_fd)
        with pytest.raises(WriteFailed, match=r"move a file into '/proc': .* or another mount"):
            atomic_fs.check_same_mount(home_fd, other)
        assert atomic_fs.is_mount_point("proc", root)
    (Path(os.readlink(f"/proc/self/fd/{home_fd}")) / "plain").mkdir()
    assert not atomic_fs.is_mount_point("plain", home_fd)


def test_an_exchange_with_nothing_fails(home: Path, home_fd: int) -> None:
    (home / "1.0.0").mkdir()
    try:
        assert atomic_fs.exchange(home_fd, "1.0.0", ".next-1.0.0") is False  # where the kernel has no exchange
    except WriteFailed as failed:
        assert "exchange '1.0.0' with" in failed.message
    assert os.listdir(home) == ["1.0.0"]


# -- removal --------------------------------------------------------------------------------------------------------


def test_a_missing_tree_is_already_removed(home: Path, home_fd: int) -> None:
    (home / "2.0.0").mkdir()
    atomic_fs.remove_tree(home_fd, "1.0.0")
    assert os.listdir(home) == ["2.0.0"]


def test_a_tree_is_removed_and_its_links_are_not_followed(home: Path, home_fd: int, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").touch()
    tree = home / "1.0.0"
    (tree / "lib" / "empty").mkdir(parents=True)
    (tree / "lib" / "file").touch()
    (tree / "lib" / "out").symlink_to(tmp_path / "victim")
    (tree / "dangling").symlink_to("nothing")
    os.mkfifo(tree / "pipe")
    (tree / MARKER).touch()
    atomic_fs.remove_tree(home_fd, "1.0.0")
    assert os.listdir(home) == []
    assert os.listdir(tmp_path / "victim") == ["file"]


def test_a_link_in_the_tree_s_place_goes_alone(home: Path, home_fd: int, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").touch()
    (home / "1.0.0").symlink_to(tmp_path / "victim")
    atomic_fs.remove_tree(home_fd, "1.0.0")
    assert os.listdir(home) == []
    assert os.listdir(tmp_path / "victim") == ["file"]


@pytest.mark.parametrize("mode", [0o000, 0o500, 0o300, 0o600])
def test_directories_without_permissions_are_removed(mode: int, home: Path, home_fd: int) -> None:
    (home / "1.0.0" / "shut" / "inner").mkdir(parents=True)
    (home / "1.0.0" / "shut" / "inner" / "file").touch()
    for path in (home / "1.0.0" / "shut" / "inner", home / "1.0.0" / "shut", home / "1.0.0"):
        path.chmod(mode)
    atomic_fs.remove_tree(home_fd, "1.0.0")
    assert os.listdir(home) == []


def test_a_directory_whose_mode_can_not_be_changed_is_named_and_closed(
    home: Path, home_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "1.0.0").mkdir(mode=0o500)

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "fchmod", failing(errno.EIO))
    with pytest.raises(WriteFailed, match=r"Input/output error"):
        atomic_fs.remove_tree(home_fd, "1.0.0")
    assert os.listdir("/proc/self/fd") == before


def test_a_tree_deeper_than_stack_and_descriptors_is_removed(home: Path, home_fd: int) -> None:
    fd = os.dup(home_fd)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    atomic_fs.remove_tree(home_fd, "d")
    assert os.listdir(home) == []


def test_many_entries_in_one_directory_are_removed(home: Path, home_fd: int) -> None:
    (home / "1.0.0").mkdir()
    for number in range(3000):
        (home / "1.0.0" / f"file-with-a-longer-name-{number}").touch()
    atomic_fs.remove_tree(home_fd, "1.0.0")
    assert os.listdir(home) == []


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes what another user can't remove")


@needs_root
@pytest.mark.parametrize("empty", [True, False])
def test_what_another_user_has_in_a_tree_keeps_nothing_else(home: Path, empty: bool) -> None:
    tree = home / "1.0.0"
    for path in (tree / "shut" / "inner", tree / "a", tree / "z"):
        path.mkdir(parents=True)
        (path / "file").touch()
    for found in (tree, *tree.rglob("*")):
        os.chown(found, 65534, 65534)
    (tree / "shut").chmod(0)
    for name in ("theirs", "theirs too"):
        (tree / name).mkdir(mode=0o700)
        if not empty:
            (tree / name / "file").touch()
    told = as_nobody(home, 'atomic_fs.remove_tree(fd, "1.0.0")')
    if empty:
        assert (told, os.listdir(home)) == ("done None", [])
        return
    assert re.match(r"WriteFailed can't remove '.*/home/1\.0\.0/theirs( too)?': Operation not permitted", told)
    assert sorted(os.listdir(tree)) == ["theirs", "theirs too"]


MOUNTED = """
import os, subprocess, sys
from pathlib import Path
from reconcile.act.host import atomic_fs
from reconcile.errors import WriteFailed
home, mount = Path(sys.argv[1]), Path(sys.argv[2])
kinds = {"another file system": ["-t", "tmpfs", "tmpfs"], "the same one": ["--bind", str(home.parent / "beside")]}
subprocess.run(["mount", *kinds[sys.argv[3]], str(mount)], check=True)
(mount / "precious").touch()
fd = atomic_fs.open_dir(home)
for work in (lambda: atomic_fs.remove_tree(fd, "1.0.0"), lambda: atomic_fs.check_renamable(fd, ("1.0.0",))):
    try:
        print(work())
    except WriteFailed as err:
        print(err.message)
print(*sorted(str(path.relative_to(home)) for path in home.rglob("*")))
"""


@needs_root
@pytest.mark.parametrize("kind", ["another file system", "the same one"])
@pytest.mark.parametrize("mount", ["1.0.0", "1.0.0/data"])
def test_what_is_mounted_keeps_its_content_and_nothing_else_stays(home: Path, mount: str, kind: str) -> None:
    (home.parent / "beside").mkdir()
    (home / "1.0.0" / "data").mkdir(parents=True)
    (home / "1.0.0" / "rest").touch()
    command = ["unshare", "-m", sys.executable, "-c", MOUNTED, str(home), str(home / mount), kind]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("nothing can be mounted here")
    removed, renamable, left = done.stdout.splitlines()
    assert removed == (
        f"can't remove '{home / mount}': Device or resource busy; something is mounted there: unmount it"
    )
    is_itself = mount == "1.0.0"
    assert ("can't rename" in renamable, renamable == "None") == (is_itself, not is_itself)
    assert left == f"1.0.0 {mount}/precious" if is_itself else f"1.0.0 1.0.0/data {mount}/precious"


@needs_root
def test_what_a_user_may_not_change_is_found_out_before(home: Path) -> None:
    home.chmod(0o755)
    (home / ".version").touch()
    (home.parent / "shut").mkdir()
    told = as_nobody(home, "atomic_fs.check_writable(atomic_fs.open_dir(Path('shut')))")
    assert re.match(r"WriteFailed .*shut.* can't be changed: expected a writable directory", told)
    assert as_nobody(home, "atomic_fs.check_writable(fd)") == "done None"


REMOVE_AND_TELL = """
import os, sys
from pathlib import Path
from reconcile.act.host import atomic_fs as write
def report(event, args):
    if event in ("os.remove", "os.rmdir"):
        print(os.fsdecode(args[0]))
sys.addaudithook(report)
write.remove_tree(write.open_dir(Path(sys.argv[1])), "1.0.0")
"""


def test_the_marker_goes_first(home: Path) -> None:
    """So a removal that is cut off leaves nothing that looks complete; the interpreter's own audit events show it."""
    (home / "1.0.0").mkdir()
    for name in ("a", "control", MARKER, "z"):
        (home / "1.0.0" / name).touch()
    assert python(REMOVE_AND_TELL, str(home)).split("\n")[0] == MARKER


def test_sweep_takes_our_leftovers_alone(home: Path, home_fd: int) -> None:
    (home / ".stage-tree" / "d").mkdir(parents=True)
    (home / ".stage-.version-12").touch()
    kept = {"1.0.0", ".next-1.0.0", ".previous-1.0.0", ".version", ".start.log", "stage-1"}
    for name in kept:
        (home / name).mkdir()
    atomic_fs.sweep(home_fd)
    assert set(os.listdir(home)) == kept


def test_what_has_a_name_is_moved_aside_under_one_that_is_free(home: Path, home_fd: int) -> None:
    (home / ".stage-old-1.0.0").mkdir()
    (home / "1.0.0").mkdir()
    aside = atomic_fs.rename_to_leftover(home_fd, "1.0.0")
    assert aside.startswith(".stage-old-1.0.0-")
    assert sorted(os.listdir(home)) == [".stage-old-1.0.0", aside]


def test_what_can_be_renamed_is_found_out_without_renaming_it(home: Path, home_fd: int) -> None:
    for name in ("1.0.0", "empty"):
        (home / name).mkdir()
    (home / "1.0.0" / "control").touch()
    (home / ".version").write_text("1.0.0")
    before = {path: path.stat().st_ino for path in home.rglob("*")}
    atomic_fs.check_renamable(home_fd, ("1.0.0", "empty", ".version", "missing"))
    atomic_fs.check_replaceable(home_fd, ".version")
    atomic_fs.check_replaceable(home_fd, "missing")
    assert {path: path.stat().st_ino for path in home.rglob("*")} == before


def test_a_directory_in_a_file_s_place_is_found_before(home: Path, home_fd: int) -> None:
    (home / ".version").mkdir()
    with pytest.raises(WriteFailed, match=r"\.version' is a directory, expected a file"):
        atomic_fs.check_replaceable(home_fd, ".version")


# -- the lock -------------------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from reconcile.act.host.home_lock import home_lock
with home_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def python(source: str, *arguments: str) -> str:
    command = [sys.executable, "-c", source, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment(), check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_home_is_held_by_one_process_and_the_other_learns_by_which(home: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)],
        cwd=REPOSITORY,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(HomeBusy, match=rf"process( {holder.pid})? acts on .*/home'"), home_lock.home_lock(home):
            pass
        holder.stdin.close()
    with home_lock.home_lock(home) as fd:
        assert os.fstat(fd).st_ino == home.stat().st_ino


def test_a_killed_holder_frees_the_home(home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)],
        cwd=REPOSITORY,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
        holder.wait()
    with home_lock.home_lock(home):
        pass


def test_the_lock_ends_with_its_block_whatever_happens_inside(home: Path) -> None:
    with pytest.raises(KeyError), home_lock.home_lock(home):
        raise KeyError("inside")
    with home_lock.home_lock(home):
        pass


def test_a_missing_home_can_t_be_held(tmp_path: Path) -> None:
    with pytest.raises(WorkDirMissing), home_lock.home_lock(tmp_path / "nowhere"):
        pass


def test_this_system_shows_who_holds_a_lock(home: Path) -> None:
    """Where /proc/locks shows this file system's inodes as stat does (btrfs and other namespaces do not)."""
    with home_lock.home_lock(home):
        at = home.stat()
        if f":{at.st_ino} " not in Path("/proc/locks").read_text():
            pytest.skip("/proc/locks does not show this file system's inodes")
        with pytest.raises(HomeBusy, match=f"process {os.getpid()} "), home_lock.home_lock(home):
            pass

"""What unpacking makes on the disk, and of what it stops. Hostile archives and their look-alikes: tests/hostile."""

from __future__ import annotations

import errno
import gzip
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconcile.act.host.archive import ArchiveLimits, Unpacked, unpack
from reconcile.act.host.atomic_fs import open_dir
from reconcile.errors import DiskTooSmall, UnpackRefused, WriteFailed
from tests.hostile.archives import HOSTILE, PLAIN, PROGRAM
from tests.hostile.tarballs import CONTROL, CONTROL_MEMBER, directory, extended, hard, member, packed, raw_header, soft
from tests.hostile.unpacking import Bench, snapshot


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    before = made.outside()
    yield made
    assert made.outside() == before


def test_a_charset_that_is_none_is_refused_or_ignored_but_no_crash(bench: Bench) -> None:
    """Python 3.13 ignores it, older ones stumble."""
    refused = False
    try:
        bench.unpack(packed(extended(b"17 hdrcharset=\xff\xfe\n"), member("f")))
    except UnpackRefused:
        refused = True
    assert refused or sorted(os.listdir(bench.into)) == ["control", "f"]


@pytest.mark.parametrize("name", HOSTILE)
def test_each_archive_of_the_corpus_is_refused_for_what_it_is(bench: Bench, name: str) -> None:
    make, why = HOSTILE[name]
    with pytest.raises((UnpackRefused, DiskTooSmall), match=why):
        bench.unpack(make())


def test_a_refusal_names_no_more_than_the_begin_of_a_long_name(bench: Bench) -> None:
    record = b"path=../" + b"n" * 3000 + b"\n"
    with pytest.raises(UnpackRefused, match=r"archive member '\.\./nnn") as raised:
        bench.unpack(packed(extended(b"%d %b" % (len(record) + 5, record)), member("f")))
    assert len(raised.value.message) < 400


def test_the_hostile_tree_is_never_entered_through_a_link(bench: Bench) -> None:
    """Nothing is written through a link even where one lies in the directory before."""
    (bench.into / "lib").symlink_to(bench.folder / "sentinel")
    with pytest.raises(UnpackRefused, match="expected an empty directory"):
        bench.unpack(packed(member("lib/file", b"x")))


LINKS = {
    "a target of too many parts": ([soft("l", "/".join(["a"] * 129))], "its target is too long"),
    "a target with a part too long": ([soft("l", "a" * 256)], "its target is too long"),
    "a target too long": ([soft("l", "/".join(["a" * 200] * 21))], "its target is too long"),
    "a hard link into a folder that is missing": ([hard("h", "none/file")], "none/file"),
    "a hard link below a file": ([hard("h", "control/file")], "control/file"),
    "a hard link to a folder": ([directory("d"), hard("h", "d")], "'d'"),
    "a hard link, then a file of its name": ([hard("h", "control"), member("h")], "a link"),
    "a hard link, then another of its name": (
        [member("f"), hard("h", "control"), hard("h", "f")],
        "a link",
    ),
    "a symbolic link, then a file of its name": ([soft("l", "control"), member("l")], "a link"),
    "links beyond measure": ([soft(f"l{n}", "/".join(["a" * 200] * 20)) for n in range(3200)], "more than 12 MiB"),
}


@pytest.mark.parametrize("name", LINKS)
def test_links_are_held_to_their_bounds(bench: Bench, name: str) -> None:
    members, why = LINKS[name]
    with pytest.raises(UnpackRefused, match=why):
        bench.unpack(packed(*members), ArchiveLimits())


@pytest.mark.parametrize(("links", "fits"), [(40, True), (41, False)])
def test_a_chain_of_links_is_as_long_as_the_kernel_follows_it(bench: Bench, links: int, fits: bool) -> None:
    chain = [soft(f"l{number}", f"l{number + 1}") for number in range(links - 1)]
    tarball = packed(*chain, soft(f"l{links - 1}", "control"))
    if fits:
        bench.unpack(tarball)
        assert (bench.into / "l0").read_bytes() == CONTROL
    else:
        with pytest.raises(UnpackRefused, match="a chain of more than 40 links"):
            bench.unpack(tarball)


@pytest.mark.parametrize(("padding", "fits"), [(16 << 20, True), ((16 << 20) + 1, False)])
def test_zeros_may_follow_an_archive_up_to_their_bound(bench: Bench, padding: int, fits: bool) -> None:
    tarball = gzip.compress(CONTROL_MEMBER + bytes(512) + bytes(padding), 1)
    if fits:
        assert bench.unpack(tarball).files == 1
    else:
        with pytest.raises(UnpackRefused, match="follows the end"):
            bench.unpack(tarball)


def test_links_within_their_bounds_are_made(bench: Bench) -> None:
    targets = ["/".join(["a"] * 128), "a" * 255, "/".join(["a" * 200] * 20)]
    links = [soft(f"l{number}", target) for number, target in enumerate(targets)]
    bench.unpack(packed(*links, hard("h", "control"), hard("h", "control")))
    assert [os.readlink(bench.into / f"l{number}") for number in range(3)] == targets


def test_a_write_that_fails_for_another_cause_than_room_is_named(bench: Bench) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(WriteFailed, match="can't unpack 'big': File too large"):
            bench.unpack(packed(member("big", bytes(2000))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_tarball_that_can_not_be_read_is_the_disks_failure(bench: Bench) -> None:
    fd = open_dir(bench.into)
    with (
        open("/proc/self/mem", "rb", buffering=0) as unreadable,
        pytest.raises(WriteFailed, match="can't read the tarball: Input/output error"),
    ):
        unpack(unreadable, fd, ArchiveLimits())
    os.close(fd)


def test_what_was_made_is_counted(bench: Bench) -> None:
    done = bench.unpack(packed(member("d/f", b"12345"), hard("h", "control"), soft("l", "d")))
    assert done == Unpacked(files=2, bytes=len(CONTROL) + 5)
    assert (bench.into / "h").stat().st_ino == (bench.into / "control").stat().st_ino


def test_each_file_and_directory_is_on_the_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files before links are made to them; the folder itself last."""
    synced: list[str] = []
    real = os.fsync

    def recorded(fd: int) -> None:
        synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), bench.into))
        real(fd)

    monkeypatch.setattr(os, "fsync", recorded)
    bench.unpack(packed(member("d/e/f", b"12345"), directory("empty"), hard("h", "control")))
    assert sorted(synced[:2]) == ["control", "d/e/f"]
    assert sorted(synced[2:-1]) == ["d", "d/e", "empty"]
    assert synced[-1] == "."
    assert synced.index("d/e") < synced.index("d")


def test_modes_do_not_depend_on_the_umask(bench: Bench) -> None:
    before = os.umask(0o077)
    try:
        bench.unpack(packed(member("d/f", b"x")))
    finally:
        os.umask(before)
    assert snapshot(bench.into) == {"control": PROGRAM, "d": "0o755", "d/f": PLAIN}


def test_the_system_tar_is_understood(bench: Bench, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "lib").mkdir(parents=True)
    (source / "control").write_bytes(CONTROL)
    (source / "control").chmod(0o755)
    os.link(source / "control", source / "lib" / "same")
    (source / "lib" / "link").symlink_to("../control")
    (source / ("n" * 150)).write_bytes(b"x")
    made = subprocess.run(["tar", "czf", "-", "-C", str(source), "."], check=True, capture_output=True)
    before = snapshot(tmp_path / "source")
    try:
        bench.unpack(made.stdout)
        assert snapshot(bench.into) == before
    finally:
        subprocess.run(["rm", "-r", str(source)], check=True)


def test_tar_may_be_given_a_file_and_the_folder_that_holds_it(bench: Bench, tmp_path: Path) -> None:
    """`tar -C d . ./control` packs it twice, as a hard link to itself; so does `tar -C d . ./lib` with all that lies
    there, links and what has several names included."""
    source = tmp_path / "source"
    (source / "lib").mkdir(parents=True)
    (source / "control").write_bytes(CONTROL)
    (source / "control").chmod(0o755)
    (source / "lib" / "key").write_bytes(b"x")
    (source / "lib" / "key").chmod(0o600)
    os.link(source / "lib" / "key", source / "lib" / "same")
    (source / "lib" / "link").symlink_to("key")
    command = ["tar", "czf", "-", "-C", str(source), ".", "./control", "./lib"]
    made = subprocess.run(command, check=True, capture_output=True)
    before = snapshot(source)
    try:
        bench.unpack(made.stdout)
        assert snapshot(bench.into) == before
    finally:
        subprocess.run(["rm", "-r", str(source)], check=True)


def test_as_many_members_as_the_host_takes_and_a_message_that_names_the_key(bench: Bench, tmp_path: Path) -> None:
    tarball = packed(*(member(f"d/{n}", b"x") for n in range(8)))  # with `control` and the implied folder: ten
    bench.unpack(tarball, ArchiveLimits(max_files=10))
    other = tmp_path / "other"
    other.mkdir()
    try:
        with pytest.raises(UnpackRefused, match=r"more than 9 members \(max_files.*set max_files higher"):
            Bench(other).unpack(tarball, ArchiveLimits(max_files=9))
    finally:
        subprocess.run(["rm", "-r", str(other)], check=True)


def test_an_archive_may_unpack_to_its_limit_and_to_no_byte_more(tmp_path: Path) -> None:
    tarball = packed(member("a", b"x" * 600), member("b", b"y" * 400))
    size = len(CONTROL) + 1000
    for limit, fits in ((size, True), (size - 1, False)):
        bench = Bench(tmp_path / str(limit))
        try:
            if fits:
                assert bench.unpack(tarball, ArchiveLimits(max_unpacked=limit)).bytes == size
            else:
                with pytest.raises(UnpackRefused, match=rf"'b'.*more than {limit} bytes \(max_unpacked\)"):
                    bench.unpack(tarball, ArchiveLimits(max_unpacked=limit))
        finally:
            subprocess.run(["rm", "-r", str(tmp_path / str(limit))], check=True)


def test_a_folder_whose_mode_can_not_be_set_leaves_nothing_open(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    tarball = packed(member("d/a", b"x"))
    fchmod = os.fchmod

    def refused(fd: int, mode: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/d"):
            raise OSError(errno.EPERM, "not permitted")
        fchmod(fd, mode)

    monkeypatch.setattr(os, "fchmod", refused)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(WriteFailed):
        bench.unpack(tarball)
    assert len(os.listdir("/proc/self/fd")) == before


def test_twenty_one_thousand_files_are_no_reason_to_refuse(bench: Bench) -> None:
    assert bench.unpack(packed(*(member(f"d/{n}") for n in range(21_000))), ArchiveLimits()).files == 21_001


def test_room_that_must_stay_free_stays_free(bench: Bench) -> None:
    with pytest.raises(DiskTooSmall, match="to keep free"):
        bench.unpack(packed(), ArchiveLimits(keep_free=1 << 60))


def test_a_full_disk_is_a_disk_too_small(bench: Bench) -> None:
    """A file that can't fit is met before a byte of it is written."""
    there = os.statvfs(bench.into)
    huge = there.f_bavail * there.f_frsize + (1 << 40)
    base256 = b"\x80" + huge.to_bytes(11, "big")
    with pytest.raises(DiskTooSmall, match="'big'"):
        bench.unpack(packed(raw_header(b"big", b"0", base256)), ArchiveLimits(max_unpacked=1 << 62))
    assert (bench.into / "big").stat().st_size == 0

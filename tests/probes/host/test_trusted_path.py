"""The way to a folder that others may own: no link of theirs leads us elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from probes.host.trusted_path import open_folder, walk

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
NOBODY = 65534


def opened(path: Path) -> os.stat_result:
    fd = open_folder(path)
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A folder that is ours alone, as all above it are."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "a/b"
    folder.mkdir(parents=True, mode=0o755)
    return folder


def test_a_folder_is_opened(there: Path) -> None:
    assert os.path.samestat(opened(there), there.stat())
    assert os.path.samestat(opened(Path("/")), Path("/").stat())


@pytest.mark.parametrize("target", ["{}/b", "b", "../a/b", "./b/../b", "again", "b/inner/.."])
def test_links_of_our_own_are_followed(there: Path, target: str) -> None:
    (there / "inner").mkdir()
    (there.parent / "again").symlink_to("b")
    (there.parent / "link").symlink_to(target.format(there.parent))
    assert os.path.samestat(opened(there.parent / "link"), there.stat())
    assert os.path.samestat(opened(there.parent / "link/inner"), (there / "inner").stat())


def test_a_link_where_others_can_write_is_not(there: Path) -> None:
    (there.parent / "link").symlink_to(there)
    for mode in (0o777, 0o1777, 0o775):
        there.parent.chmod(mode)
        with pytest.raises(OSError, match="'link' on the way is a link in a folder that others can write"):
            opened(there.parent / "link")
        opened(there)


@ROOT_ONLY
def test_a_link_in_another_users_folder_is_not(there: Path) -> None:
    (there / "link").symlink_to("/etc")
    (there.parent / "way").symlink_to("b/link")
    os.chown(there, NOBODY, NOBODY)
    for path in (there / "link", there.parent / "way"):  # the second is our own, and leads through theirs
        with pytest.raises(OSError, match="'link' on the way is a link"):
            opened(path)
    opened(there)


def test_the_walk_ends_after_as_many_links_as_the_kernel_follows(there: Path) -> None:
    (there / "0").symlink_to(".")
    for number in range(1, 41):
        (there / str(number)).symlink_to(str(number - 1))
    assert os.path.samestat(opened(there / "39"), (there / "39").stat())
    for follow in (opened, os.stat):
        with pytest.raises(OSError, match="symbolic links"):
            follow(there / "40")


def test_the_rules_see_each_component_and_each_link_once(there: Path) -> None:
    (there / "link").symlink_to("/")
    (there.parent / "up").symlink_to("b/..")
    seen: list[tuple[str, str]] = []
    os.close(
        walk(
            str(there.parent / "up/b/link"),
            lambda link: seen.append(("link", link.path)),
            lambda component: seen.append(("", component.path)),
        )
    )
    above = ["/", *map(str, reversed(there.parents[:-1]))]
    a, b = str(there.parent), str(there)
    walked = [*(("", path) for path in above), ("link", f"{a}/up"), ("", b), ("", a), ("", b), ("link", f"{b}/link")]
    assert seen == [*walked, ("", "/")]


def test_what_is_no_folder(there: Path) -> None:
    (there / "file").touch()
    (there / "loop").symlink_to("loop")
    (there / "nowhere").symlink_to("none")
    for name, kind in (("file", NotADirectoryError), ("none", FileNotFoundError), ("nowhere", FileNotFoundError)):
        with pytest.raises(kind):
            opened(there / name)
    with pytest.raises(OSError, match="symbolic links"):
        opened(there / "loop")


def test_nothing_stays_open(there: Path) -> None:
    (there / "loop").symlink_to("loop")
    before = os.listdir("/proc/self/fd")
    opened(there)
    with pytest.raises(OSError, match="symbolic links"):
        opened(there / "loop")
    assert os.listdir("/proc/self/fd") == before

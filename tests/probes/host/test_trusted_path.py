"""The way to a folder that others may own: no link of theirs leads us elsewhere."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.host.facts import User
from probes.host.paths import AgentHome
from probes.host.trusted_path import can_execute, open_folder, walk, why_home_refused

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
    for path in (there, there / "none", Path("/bin/sh")):
        can_execute(path, user())
        why_home_refused(AgentHome(path, "falcon-agent"), NOBODY, ())
    assert os.listdir("/proc/self/fd") == before


# -- who may execute --------------------------------------------------------------------------------------------------


def user(uid: int = 4711, gid: int = 4711, groups: tuple[int, ...] = ()) -> User:
    return User(name="agent", uid=uid, gid=gid, home="/", shell="/bin/sh", groups=groups)


def its_owner(path: Path) -> User:
    found = path.stat()
    return user(found.st_uid, found.st_gid)


def its_group(path: Path) -> User:
    return user(groups=(path.stat().st_gid,))


@pytest.fixture
def reached() -> Iterator[Path]:
    """A folder that every user reaches; those of pytest's are its own user's."""
    with tempfile.TemporaryDirectory(prefix="reached-") as top:
        folder = Path(top) / "a/b"
        for path in (folder.parent.parent, folder.parent, folder):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        yield folder


@pytest.mark.parametrize(
    ("mode", "owner", "group", "others"),
    [
        (0o100, True, False, False),
        (0o010, False, True, False),
        (0o001, False, False, True),
        (0o666, False, False, False),
    ],
)
def test_the_permission_bit_that_is_the_users_counts(
    reached: Path, mode: int, owner: bool, group: bool, others: bool
) -> None:
    """As in the kernel the owner is not helped by what others may."""
    program = reached / "program"
    program.touch()
    if os.geteuid() == 0:
        os.chown(program, 1000, 1000)
    program.chmod(mode)
    for who, may in ((its_owner(program), owner), (its_group(program), group), (user(), others)):
        assert can_execute(program, who) is may
    assert can_execute(program, user(gid=program.stat().st_gid)) is group
    assert can_execute(program, user(uid=0))


def test_each_folder_on_the_way_must_let_the_user_through(reached: Path) -> None:
    program = reached / "program"
    program.touch()
    program.chmod(0o755)
    assert can_execute(program, user())
    reached.parent.chmod(0o754)
    assert not can_execute(program, user())


def test_what_is_no_file_is_not_executed(reached: Path) -> None:
    (reached / "folder").mkdir(mode=0o755)
    (reached / "link").symlink_to("/bin/sh")
    assert can_execute(reached / "link", user())
    for path in (reached / "folder", reached / "none", Path("bin/sh")):
        assert not can_execute(path, user())


# -- where root makes a home for another ------------------------------------------------------------------------------


def why(folder: Path, *allowed: str, uid: int = NOBODY) -> str:
    return why_home_refused(AgentHome(folder, "falcon-agent"), uid, allowed)


@ROOT_ONLY
def test_a_folder_that_only_root_and_the_user_change_is_good(there: Path) -> None:
    assert why(there) == ""
    os.chown(there, NOBODY, NOBODY)
    assert why(there) == ""


@ROOT_ONLY
@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_one_that_others_can_write_is_not_but_where_it_is_sticky(there: Path, mode: int) -> None:
    there.chmod(mode)
    assert why(there).startswith(
        f"rule home_parents: {there} is not root's or its user's, or others can write to it, so root makes no "
        f"directory below it; `chown {NOBODY} {there}`"
    )
    there.chmod(mode | 0o1000)
    assert why(there) == ""


@ROOT_ONLY
def test_nor_one_of_a_third_user_or_behind_a_link(there: Path) -> None:
    (there / "link").symlink_to(there)
    assert f"{there / 'link'} is a link or no directory" in why(there / "link")
    (there / "file").touch()
    assert f"{there / 'file'} is a link or no directory" in why(there / "file")
    assert f"{there / 'none'} is a link or no directory" in why(there / "none")
    os.chown(there.parent, NOBODY + 1, NOBODY + 1)
    assert f"{there.parent} is not root's or its user's" in why(there)


@ROOT_ONLY
def test_the_systems_own_is_given_where_the_operator_lets_it_be(tmp_path: Path) -> None:
    home = Path("/usr/share")
    assert why(home).startswith(f"rule home_parents: {home}/falcon-agent would lie among the system's own folders")
    assert why(home, "/usr/shared").startswith("rule home_parents: ")
    assert why(home, "/usr/share") == ""
    (tmp_path / "link").symlink_to("/usr/share")
    assert why(home, str(tmp_path / "link")) == "", "also by the name that the operator knows"

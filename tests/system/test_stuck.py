"""What can't be removed, pruned or exchanged: known before `stop`, reported once, and in the way of nothing.

On real file systems: immutable files, mounts, layers of an overlay, another user's files. Needs root.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from probes.observed import MARKER
from tests.e2e.host import NAME, Completed, Host
from tests.e2e.processes import Processes, end_all_in
from tests.support.faulty_ops_meta import FaultyOpsMeta
from tests.system.users import KESTREL, NEEDS, Users, UsersHost

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.usefixtures("unsharing"),
]

Obstacle = Callable[[Path], Any]


@contextmanager
def a_host(base: Path) -> Iterator[Host]:
    with FaultyOpsMeta(work_dir=base / "agents") as meta, Processes() as processes:
        host = Host(base, meta, processes)
        host.configure(keep=1)
        yield host
        end_all_in(base)


@pytest.fixture
def host(tmp_path: Path, unsharing: None) -> Iterator[Host]:
    with a_host(tmp_path) as host:
        try:
            yield host
        finally:
            clean(tmp_path)


@pytest.fixture
def layered(tmp_path: Path, unsharing: None) -> Iterator[Host]:
    """Its agents live on an overlay, as an image's do in a container; `lower` is the image's layer."""
    for name in ("lower", "upper", "work", "agents"):
        (tmp_path / name).mkdir()
    with a_host(tmp_path) as host:
        try:
            yield host
        finally:
            clean(tmp_path)


def layer(host: Host) -> None:
    """Make what lies in the agents' folder an image's lower layer, which a container then stands on."""
    base = host.work.parent
    run("cp", "-a", f"{host.work}/.", f"{base}/lower")
    run("rm", "-r", *map(str, host.work.iterdir()))
    options = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work,redirect_dir=off"
    run("mount", "-t", "overlay", "overlay", "-o", options, str(host.work))


def clean(base: Path) -> None:
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed([point for point in mounted if point.startswith(f"{base}/")]):
        run("umount", "--lazy", point)
    subprocess.run(["chattr", "-R", "-ia", str(base)], check=False, capture_output=True)


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def immutable_file(tree: Path) -> None:
    (tree / "data").write_text("stays")
    run("chattr", "+i", str(tree / "data"))


def immutable_folder(tree: Path) -> None:
    run("chattr", "+i", str(tree))


def append_only(tree: Path) -> None:
    (tree / "audit.log").write_text("stays")
    run("chattr", "+a", str(tree / "audit.log"))


def mount_inside(tree: Path) -> None:
    (tree / "data").mkdir()
    run("mount", "-t", "tmpfs", "tmpfs", str(tree / "data"))
    (tree / "data" / "file").write_text("another file system's")


def bind_inside(tree: Path) -> None:
    victim = tree.parents[2] / "victim"
    victim.mkdir(exist_ok=True)
    (victim / "file").write_text("somebody else's")
    (tree / "data").mkdir()
    run("mount", "--bind", str(victim), str(tree / "data"))


def mount_on_a_file(tree: Path) -> None:
    (tree.parents[2] / "victim").mkdir(exist_ok=True)
    (tree.parents[2] / "victim" / "file").write_text("somebody else's")
    (tree / "key").touch()
    run("mount", "--bind", str(tree.parents[2] / "victim" / "file"), str(tree / "key"))


def mount_on_it(tree: Path) -> None:
    run("mount", "--bind", str(tree), str(tree))


OBSTACLES = [
    *(immutable_file, immutable_folder, append_only),
    *(mount_inside, bind_inside, mount_on_a_file, mount_on_it),
]


def prunes(result: Completed, name: str = NAME) -> list[str]:
    """The errors of removals in a pass."""
    actions = result.agent(name)["actions"]
    return [action["error"] for action in actions if action["type"] == "prune" and action["result"] == "failed"]


def upgrade(host: Host, version: str) -> list[str]:
    """Bring the agent to another version, and let it be found good; what was said of removals meanwhile."""
    host.publish(version)
    host.desire(version)
    said: list[str] = []
    for _ in range(2):
        done = host.apply()
        assert (done.code, done.condition("Ready")[0]) == (0, "True"), done
        said += prunes(done)
    assert host.version() == version
    assert host.ask().version == version
    assert host.apply().actions() == "", "nothing is pending"
    assert host.updater("apply", "--once").out == "", "and nothing is said once more"
    return said


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_an_old_version_that_can_not_be_removed_is_reported_once_and_in_no_way(host: Host, obstacle: Obstacle) -> None:
    host.install("1.0.0")
    host.settle()
    obstacle(host.home() / "1.0.0")

    said = [text for version in ("2.0.0", "3.0.0") for text in upgrade(host, version)]

    assert len(said) == 1, said
    assert "1.0.0" in said[0]
    left = [name for name in host.versions() if name != "3.0.0"]
    assert len(left) <= 1, "the other versions went"
    victim = host.folder.parent / "victim" / "file"
    assert not victim.exists() or victim.read_text() == "somebody else's"


def test_what_can_be_removed_by_then_goes_with_the_next_change(host: Host) -> None:
    host.install("1.0.0")
    host.settle()
    immutable_file(host.home() / "1.0.0")
    upgrade(host, "2.0.0")
    assert len(host.versions()) == 2
    clean(host.folder.parent)
    upgrade(host, "3.0.0")
    assert host.versions() == ["3.0.0"]


def test_one_that_can_not_be_removed_keeps_no_other(host: Host) -> None:
    """They were kept for long, and may all go at once."""
    host.configure(keep=9)
    for version in ("1.0.0", "2.0.0", "3.0.0", "4.0.0"):
        host.install(version)
        host.settle()
    mount_on_it(host.home() / "1.0.0")
    immutable_file(host.home() / "2.0.0")
    host.configure(keep=1)

    done = host.apply()

    assert done.code == 0
    assert len(prunes(done)) == 1
    assert "and 1 more" in prunes(done)[0]
    assert "3.0.0" not in host.versions()
    assert host.apply().actions() == ""


def test_an_old_version_of_a_lower_layer_goes(layered: Host) -> None:
    """It can't be renamed, so its marker goes first, and the rest where it lies."""
    layered.install("1.0.0")
    layered.settle()
    layer(layered)
    layered.apply()

    assert upgrade(layered, "2.0.0") == []

    assert layered.versions() == ["2.0.0"]


def test_a_version_in_a_lower_layer_is_not_stopped_for_an_exchange_that_can_not_be(layered: Host) -> None:
    pid = prepared_for_other_content(layered)

    for _ in range(2):
        done = layered.apply()
        assert (done.code, done.condition("Ready")) == (3, ("False", "WriteFailed")), done
        actions = {action["type"]: action for action in done.agent()["actions"]}
        assert actions["stop"]["result"] == "failed"
        assert "lower layer of an overlay" in actions["stop"]["error"]
        layered.updater("release", NAME)
    assert layered.pid() == pid

    # What the message says.
    tree, copy = layered.home() / "1.0.0", layered.home() / "copy"
    layered.desire("1.0.0", "stop")
    assert layered.apply().code == 0
    run("cp", "-a", str(tree), str(copy))
    run("rm", "-r", str(tree))
    copy.rename(tree)
    layered.desire("1.0.0")
    layered.updater("release", NAME)
    assert layered.apply().code == 0
    assert (tree / "other").exists()


def prepared_for_other_content(host: Host) -> int:
    """The agent runs from the image's layer, and is wanted with other content under its version: its pid."""
    host.install("1.0.0")
    host.settle()
    host.desire("1.0.0", "stop")
    host.apply()
    layer(host)
    host.desire("1.0.0")
    host.apply()
    host.publish("1.0.0", extra={"other": b"content"})
    host.desire("1.0.0")
    pid = host.pid()
    assert pid is not None
    return pid


@pytest.mark.parametrize("name", ["1.0.0", ".version"])
@pytest.mark.parametrize("obstacle", ["immutable", "mount"])
def test_what_an_exchange_can_not_rename_is_known_before_stop(host: Host, name: str, obstacle: str) -> None:
    pid = host.install("1.0.0")
    host.settle()
    path = host.home() / name
    if obstacle == "mount":
        run("mount", "--bind", str(path), str(path))
    else:
        run("chattr", "+i", str(path))
    version = "1.0.0" if name == "1.0.0" else "2.0.0"
    host.publish(version, extra={"other": b"content"})
    host.desire(version)
    for _ in range(2):
        done = host.apply()
        assert (done.code, done.condition("Ready")) == (3, ("False", "WriteFailed")), done
        assert host.pid() == pid
        host.updater("release", NAME)
    clean(host.folder.parent)
    assert host.apply().code == 0
    assert host.pid() != pid


@pytest.mark.parametrize("obstacle", ["immutable", "mount"])
def test_a_config_that_can_not_be_replaced_is_known_before_stop(host: Host, obstacle: str) -> None:
    host.publish("1.0.0")
    url = host.meta.publish_config("cfg.json", b"{}")
    host.desire("1.0.0", configFileName="cfg.json", configRemoteUrl=url)
    assert host.apply().code == 0
    host.settle()
    pid = host.ask().pid
    config = host.home() / "1.0.0" / "cfg.json"
    if obstacle == "mount":
        run("mount", "--bind", str(config), str(config))
    else:
        run("chattr", "+i", str(config))
    host.meta.publish_config("cfg.json", b'{"other": 1}')
    done = host.apply()
    assert (done.code, done.condition("Ready")) == (3, ("False", "WriteFailed")), done
    assert host.pid() == pid
    clean(host.folder.parent)
    host.updater("release", NAME)
    assert host.apply().code == 0
    assert config.read_bytes() == b'{"other": 1}'


@pytest.mark.parametrize("obstacle", ["immutable tree", "immutable folder", "mounted folder"])
def test_a_tree_that_can_not_be_marked_is_known_before_stop(host: Host, obstacle: str) -> None:
    """As today's updater left it; without a marker there would be no way back to it."""
    pid = host.install("1.0.0")
    host.settle()
    tree = host.home() / "1.0.0"
    (tree / MARKER).unlink()
    if obstacle == "immutable tree":
        run("chattr", "+i", str(tree))
    else:
        (tree / MARKER).mkdir()
        if obstacle == "immutable folder":
            run("chattr", "+i", str(tree / MARKER))
        else:
            run("mount", "-t", "tmpfs", "tmpfs", str(tree / MARKER))
    host.publish("2.0.0")
    host.desire("2.0.0")
    done = host.apply()
    assert (done.code, done.condition("Ready")) == (3, ("False", "WriteFailed")), done
    assert host.pid() == pid
    clean(host.folder.parent)
    host.updater("release", NAME)
    assert host.apply().code == 0
    assert (host.version(), host.ask().version) == ("2.0.0", "2.0.0")


def test_an_interpreter_on_a_noexec_mount_is_known_before_stop(host: Host, tmp_path: Path) -> None:
    pid = host.install("1.0.0")
    host.settle()
    (tmp_path / "noexec").mkdir()
    run("mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", str(tmp_path / "noexec"))
    run("cp", "/bin/sh", str(tmp_path / "noexec"))
    host.publish("2.0.0", control=f"#!{tmp_path}/noexec/sh\necho started\n")
    host.desire("2.0.0")
    done = host.apply()
    assert (done.code, done.condition("Ready")) == (3, ("False", "InterpreterMissing")), done
    assert "mounted noexec" in done.agent()["conditions"][0]["message"]
    assert host.pid() == pid


@pytest.mark.parametrize("way", ["as_root", "by_sudo"])
class TestFilesOfRoot:
    """Root's bytecode lies among the files of another user's agent: a person ran a program of it once."""

    pytestmark = NEEDS

    def test_an_old_version_with_them_is_in_no_way(
        self, way: str, users: Users, request: pytest.FixtureRequest
    ) -> None:
        host: UsersHost = request.getfixturevalue(way)
        host.configure(keep=1)
        home = users.work(KESTREL) / "kestrel"
        said: list[str] = []
        for version in ("1.0.0", "2.0.0", "3.0.0", "4.0.0"):
            host.release(version, "kestrel")
            host.want(version, users, kestrel=KESTREL)
            for _ in range(3):
                done = host.apply()
                assert (done.code, done.condition("Ready", "kestrel")[0]) == (0, "True"), done
                said += prunes(done, "kestrel")
            if version == "1.0.0":
                (home / "1.0.0" / "__pycache__").mkdir()
                (home / "1.0.0" / "__pycache__" / "agent.pyc").touch()
        assert len(said) == 1, said
        assert "__pycache__" in said[0]
        left = sorted(path.name for path in home.iterdir() if path.name not in (".version", ".start.log"))
        assert left == [".stage-old-1.0.0", "4.0.0"]
        assert [path.name for path in (home / left[0]).iterdir()] == ["__pycache__"], "all else of it went"

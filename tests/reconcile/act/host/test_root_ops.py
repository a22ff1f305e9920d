"""What only root does so that an agent has a home. With real users: tests/system."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from probes.host.facts import own_user
from probes.host.paths import AgentHome
from probes.host.trusted_path import is_systems_own
from reconcile.act.host.root_ops import give_home
from reconcile.errors import WriteFailed

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes homes for others")


class Killed(BaseException):
    """The updater is gone."""


@needs_root
@pytest.mark.parametrize("at", ["fchmod", "fchown", "rename"])
def test_killed_amid_it_no_home_is_there_and_the_next_run_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def killed(*args: object, **keys: object) -> NoReturn:
        raise Killed

    home = AgentHome(tmp_path, "falcon-agent")
    monkeypatch.setattr(os, at, killed)
    with pytest.raises(Killed):
        give_home(home, own_user(), (str(tmp_path),))
    monkeypatch.undo()
    assert not home.path.exists()
    give_home(home, own_user(), (str(tmp_path),))
    assert os.listdir(tmp_path) == ["falcon-agent"]
    assert home.path.stat().st_mode & 0o777 == 0o755


@needs_root
def test_a_home_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    home = AgentHome(tmp_path, "falcon-agent")
    home.tree("1.0.0").mkdir(parents=True)
    with pytest.raises(WriteFailed, match="can't make directory"):
        give_home(home, own_user(), (str(tmp_path),))
    assert (os.listdir(tmp_path), os.listdir(home.path)) == (["falcon-agent"], ["1.0.0"])


ROOTS_OWN = [
    "/usr/local/lib/x/a",
    "/usr/local/share/perl/a",
    "/usr/local/etc/profile.d/a",
    "/usr/local/bin",
    "/usr/share/a",
]
ROOTS_OWN += ["/bin/a", "/boot/a", "/dev/a", "/etc/a", "/lib/a", "/lib64/a", "/libx32/a", "/proc/a", "/root/agents/a"]
ROOTS_OWN += ["/run/a", "/sbin/a", "/sys/a", "/usr/a", "/var/a", "/var/opt", "/var/log/x/a", "/var/spool/x", "/var/lib"]


@pytest.mark.parametrize("path", ROOTS_OWN)
def test_the_systems_own_folders(path: str) -> None:
    assert is_systems_own(path, 4711)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/usr/local/open-falcon/a",
            "/usr/local/open-falcon",
            "/var/opt/falcon/a",
            "/var/tmp/x/a",
            "/home/falcon/a",
            "/opt/a",
        ),
        *("/srv/a", "/data1/app/a", "/export/a", "/mnt/a", "/tmp/x/a", "/usrlocal/a"),
        "/var/lib/ops-updater-test-nothing/a",
    ],
)
def test_folders_for_others(path: str) -> None:
    assert not is_systems_own(path, 4711)


def test_a_folder_of_var_lib_is_its_users() -> None:
    name = sorted(os.listdir("/var/lib"))[0]
    owner = os.lstat(f"/var/lib/{name}").st_uid
    assert not is_systems_own(f"/var/lib/{name}/a", owner)
    assert is_systems_own(f"/var/lib/{name}/a", owner + 1)

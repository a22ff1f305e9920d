"""What only root does so that an agent has a home. With real users: tests/system."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from probes.errors import SudoRefused, ToolMissing, UserMissing
from probes.host.facts import own_user
from probes.host.paths import AgentHome
from probes.host.trusted_path import is_systems_own
from reconcile.act.host.root_ops import create_user, give_home, take_back_home
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
def test_a_home_that_was_given_in_vain_is_taken_back_while_it_is_empty(tmp_path: Path) -> None:
    home = AgentHome(tmp_path, "falcon-agent")
    descriptors = os.listdir("/proc/self/fd")
    for content in ((), ("1.0.0",)):
        give_home(home, own_user(), (str(tmp_path),))
        for name in content:
            home.tree(name).mkdir()
        take_back_home(home, own_user(), (str(tmp_path),))
        assert home.path.exists() is bool(content)
    assert os.listdir("/proc/self/fd") == descriptors


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


# Users that are to be created


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Where this host's programs lie; each writes down what it was called with."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def put(tools: Path, *names: str, then: str = "") -> None:
    for name in names:
        program = tools / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >>"${{0%/*}}/called"\n{then}\n')
        program.chmod(0o755)


USERADD = "--system --user-group --create-home --shell /bin/sh -- falcon"


@pytest.mark.parametrize(
    ("uid", "called"), [(0, f"useradd {USERADD}"), (1000, "sudo -n -- {tools}/useradd " + USERADD)]
)
def test_root_creates_a_user_and_others_ask_sudo(
    tools: Path, monkeypatch: pytest.MonkeyPatch, uid: int, called: str
) -> None:
    put(tools, "useradd", "sudo")
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    create_user("falcon", str(tools))
    assert (tools / "called").read_text() == f"{called.format(tools=tools)}\n"


@pytest.mark.parametrize(
    ("there", "uid", "missing"), [("sudo", 0, "useradd"), ("sudo", 1000, "useradd"), ("useradd", 1000, "sudo")]
)
def test_a_tool_that_is_missing_is_named(
    tools: Path, monkeypatch: pytest.MonkeyPatch, there: str, uid: int, missing: str
) -> None:
    put(tools, there)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(ToolMissing, match=f"^{missing} is not on this host; create the user 'falcon' by hand"):
        create_user("falcon", str(tools))
    assert not (tools / "called").exists()


@pytest.mark.parametrize(
    ("said", "kind"), [("sudo: a password is required", SudoRefused), ("useradd: no room", UserMissing)]
)
def test_what_is_refused_is_said_in_its_own_words(tools: Path, said: str, kind: type[Exception]) -> None:
    put(tools, "useradd", "sudo", then=f"echo '{said}' >&2; exit 1")
    with pytest.raises(kind, match=f"the user 'falcon' can't be created: {said}; create it by hand"):
        create_user("falcon", str(tools))


def test_a_tool_that_can_not_be_run_is_said_so(tools: Path) -> None:
    put(tools, "useradd", "sudo")
    for name in ("useradd", "sudo"):
        (tools / name).write_text("#!/no/such/interpreter\n")
    with pytest.raises(UserMissing, match=r"the user 'falcon' can't be created: .*No such file"):
        create_user("falcon", str(tools))

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.updater.lint.agents import control, tarball
from updater.lint.checks import LintReport, LintVerdict
from updater.lint.lint import lint
from updater.lint.runtime_checks import CallLimits
from updater.lint.sandbox import LintUnusable
from updater.lint.static_checks import fixed_paths, named


def read(path: Path) -> LintReport:
    return lint(path, run=False, delivered={}, limits=CallLimits())


def failed(report: LintReport) -> dict[str, str]:
    return {f.check.id: f.seen for f in report.findings if f.verdict is LintVerdict.FAILED}


def test_a_good_tarball_passes_what_can_be_read_and_nothing_runs(tmp_path: Path) -> None:
    witness = tmp_path / "it-ran"
    report = read(tarball(tmp_path, f"#!/bin/sh\ntouch '{witness}'\n"))
    assert failed(report) == {}
    assert not witness.exists()
    assert report.ran_as is None
    assert {f.verdict for f in report.findings if f.check.runs} == {LintVerdict.SKIPPED}
    assert {f.verdict for f in report.findings if not f.check.runs} == {LintVerdict.PASSED}


def test_the_name(tmp_path: Path) -> None:
    assert set(failed(read(tarball(tmp_path, name="agent.tar.gz")))) == {"archive-name"}


@pytest.mark.parametrize(
    ("target", "name", "version"),
    [
        ("falcon-agent-1.0.0.tar.gz", "falcon-agent", "1.0.0"),
        ("a-1.0-rc1.tar.gz", "a", "1.0-rc1"),
        ("a-b-2+x.tar.gz", "a-b", "2+x"),
    ],
)
def test_names_are_taken_apart_at_the_version(target: str, name: str, version: str) -> None:
    found = named(Path(target))
    assert (found.name, found.version, found.wrong) == (name, version, "")


def test_control_in_a_folder_or_missing_or_not_executable(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    plain = tarball(tmp_path / "deep", mode=0o644)
    assert failed(read(plain)) == {"control": "it is not executable (mode 0644)"}
    folder = tmp_path / "no-control"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "control").write_text("#!/bin/sh\n")
    report = read(folder)
    assert failed(report) == {"control": "it lies in a folder: 'inner/control'"}
    assert report.findings[0].verdict is LintVerdict.SKIPPED  # archive-name
    (folder / "inner" / "control").unlink()
    assert failed(read(folder)) == {"control": "there is none"}
    (folder / "control").mkdir()
    assert failed(read(folder)) == {"control": "it is not a regular file"}


def test_control_may_be_a_link_to_a_program_of_the_tree(tmp_path: Path) -> None:
    folder = tmp_path / "linked"
    (folder / "bin").mkdir(parents=True)
    (folder / "control").symlink_to("bin/ctl")
    assert "links to 'bin/ctl', which is missing" in failed(read(folder))["archive"]
    (folder / "bin" / "ctl").write_text("#!/bin/sh\n")
    assert "of mode 0644" in failed(read(folder))["archive"]
    (folder / "bin" / "ctl").chmod(0o755)
    assert failed(read(folder)) == {}


@pytest.mark.parametrize("link", ["../outside", "/etc/passwd"])
def test_what_our_unpacker_refuses(link: str, tmp_path: Path) -> None:
    found = failed(read(tarball(tmp_path, links={"link": link})))
    assert set(found) == {"archive"}
    assert "link" in found["archive"]


def test_what_is_no_tarball(tmp_path: Path) -> None:
    path = tmp_path / "a-1.0.0.tar.gz"
    path.write_bytes(b"hello")
    assert set(failed(read(path))) == {"archive"}


@pytest.mark.parametrize(
    ("script", "seen"),
    [
        ("echo\n", "which is no `#!` line"),
        ("#!/bin/sh\r\n", "CR LF"),
        ("#!bin/sh\n", "not an absolute path"),
        ("#!/no/such/sh\n", "interpreter '/no/such/sh' is missing"),
    ],
)
def test_a_script_that_the_kernel_can_not_execute(script: str, seen: str, tmp_path: Path) -> None:
    found = failed(read(tarball(tmp_path, script)))
    assert set(found) == {"first-line"}
    assert seen in found["first-line"]


def test_a_program_as_control(tmp_path: Path) -> None:
    assert failed(read(tarball(tmp_path, "\x7fELF\x02\x01\x01" + "\0" * 200))) == {}


def test_fixed_paths(tmp_path: Path) -> None:
    script = tmp_path / "control"
    script.write_text(
        "#!/bin/sh\n"
        "# /home/in/a/comment\n"
        'cd "/home/builder/agent"  # /root/too\n'
        "JAVA_HOME=/opt/java; . /etc/profile; $HOME/x; ${HOME}/home/x ../home/x http://h/home/x\n"
        "cat /root/.secret </dev/null | sed s/home/root/ >/tmp/x\n"
        r"awk '$1 ~ /app\.pid$/ || $1 ~ /\/opt\/x/'"
    )
    homes, own = fixed_paths(script)
    assert homes == ("line 3: /home/builder/agent", "line 5: /root/.secret")
    assert own == ("line 4: /opt/java",)
    found = failed(read(tarball(tmp_path, control(("exec ./agent", "exec /home/me/agent")))))
    assert set(found) == {"home-paths"}
    found = failed(read(tarball(tmp_path, control(("exec ./agent", "exec /opt/me/agent")))))
    assert set(found) == {"own-paths"}


def test_litter(tmp_path: Path) -> None:
    found = failed(
        read(tarball(tmp_path, more={"app.pid": "12", "log/agent.log": "x", ".git/HEAD": "x", "catalog": "x"}))
    )
    assert found == {"litter": ".git/HEAD, app.pid, log/agent.log"}


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


@pytest.mark.parametrize("make", [os.mkfifo, a_socket, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "agent-1.0.0.tar.gz")
    with pytest.raises(LintUnusable, match="expected a tarball or a folder"):
        read(tmp_path / "agent-1.0.0.tar.gz")

"""`new-agent`: the template of an agent as a folder, with the name filled in; what is there already is left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from updater.cli import run

TEMPLATE = Path(__file__).parents[3] / "contrib/agent-template"


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_template_is_laid_down_with_the_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new-agent", "falcon-agent"]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    assert "put your program in place of falcon-agent/agent" in out
    assert "`updater lint falcon-agent`" in out
    made = Path("falcon-agent")
    assert {path.name for path in made.iterdir()} == {"control", "agent"} == {path.name for path in TEMPLATE.iterdir()}
    assert all(os.access(path, os.X_OK) for path in made.iterdir())
    control = (made / "control").read_text()
    assert "\nname=falcon-agent  # for messages\n" in control
    assert "my-agent" not in control
    assert len(control.splitlines()) == len((TEMPLATE / "control").read_text().splitlines())


def test_it_runs_and_says_its_name() -> None:
    run(["new-agent", "a"])
    result = subprocess.run(["./a/control", "stop"], capture_output=True, text=True, check=True)
    assert result.stdout == "a is stoped already\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="agents are run on Linux alone")
def test_it_passes_lint_without_a_fail(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):  # as root lint runs it as nobody
        if folder.stat().st_uid == os.geteuid() and folder.name.startswith(("pytest", "popen", "bt")):
            folder.chmod(0o755)
    run(["new-agent", "falcon-agent"])
    capsys.readouterr()
    # In a process of its own: it takes all below it for the agent's, what other tests began here too.
    words = [sys.executable, "-I", "-m", "updater", "lint", "falcon-agent", "-o", "json"]
    linted = subprocess.run(words, capture_output=True, text=True)
    assert linted.returncode == 0
    report = json.loads(linted.stdout)
    assert [check["id"] for check in report["checks"] if check["result"] == "failed"] == []
    assert report["summary"]["errors"] == report["summary"]["warnings"] == 0


def test_an_empty_folder_is_taken() -> None:
    Path("alpha").mkdir()
    assert run(["new-agent", "alpha"]) == 0
    assert Path("alpha/control").exists()


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_what_is_there_is_left_alone(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    there = Path("alpha")
    if kind == "folder":
        there.mkdir()
        (there / "control").write_text("mine")
    elif kind == "file":
        there.write_text("mine")
    else:
        there.symlink_to("nowhere")
    before = sorted(Path().rglob("*"))
    assert run(["new-agent", "alpha"]) == 64
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "alpha" in err
    assert sorted(Path().rglob("*")) == before
    assert kind == "dangling link" or "mine" in (there / "control" if kind == "folder" else there).read_text()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "-x", "a b", "a\nb", ".hidden", "x" * 65, "a$(id)", "é"]
)
def test_a_name_that_no_agent_can_have_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new-agent", name] if not name.startswith("-") else ["new-agent", "--", name]) == 64
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "can't be an agent's name" in err
    assert list(Path().iterdir()) == []


def test_a_folder_that_can_not_be_written_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    tmp_path.chmod(0o555)
    assert run(["new-agent", "alpha"]) == 64
    assert "alpha can't be written: " in capsys.readouterr().err

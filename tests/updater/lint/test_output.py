from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.updater.lint.agents import control, tarball
from updater.cli import run
from updater.commands.context import NOT_AS_DESIRED, OK, USAGE
from updater.lint import output
from updater.lint.checks import CHECKS
from updater.lint.lint import lint
from updater.lint.runtime_checks import CallLimits
from updater.output.rich_view import Screen, console


def linted(path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = run(["lint", "--static", str(path), *words])
    return code, capsys.readouterr().out


def test_text_says_what_was_seen_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tarball(tmp_path, control(("exec ./agent", "exec /home/me/agent")), more={"app.pid": "1"})
    code, out = linted(path, capsys)
    assert code == NOT_AS_DESIRED
    assert "ERROR    home-paths" in out
    assert "         seen: line 15: /home/me/agent\n         do:   begin with cd" in out
    assert "warning  litter" in out
    assert out.endswith("my-agent-1.0.0.tar.gz: 1 error, 1 warning, 22 not judged in 29 checks, only read\n")
    assert "skipped: only read (--static) (runs, status-words" in out
    judged = [line.split()[1] for line in out.splitlines() if line.split()[0] in ("good", "ERROR", "warning")]
    skipped = out.partition("skipped: only read (--static) (")[2].partition(")")[0].split(", ")
    assert [*judged, *skipped] == [check.id for check in CHECKS], "each check is reported once"
    _, quiet = linted(path, capsys, "-q")
    assert [line.split()[0] for line in quiet.splitlines()] == [
        *("ERROR", "seen:", "do:", "warning", "seen:", "do:", "my-agent-1.0.0.tar.gz:")
    ]


def on_a_terminal(path: Path, columns: int, *, quiet: bool = False) -> list[str]:
    written = io.StringIO()
    out = console(written, colour=False)
    out.width = columns
    report = lint(path, run=False, delivered={}, limits=CallLimits(), say=lambda words: None)
    Screen(out).show(output.rows(report, eyes=True, quiet=quiet))
    return written.getvalue().splitlines()


def test_on_a_terminal_what_was_judged_has_a_row_and_the_rest_is_counted(tmp_path: Path) -> None:
    path = tarball(tmp_path, control(("exec ./agent", "exec /home/me/agent")), more={"app.pid": "1"})
    assert on_a_terminal(path, 80) == [
        "✓ archive-name  the tarball is named {name}-{version}.tar.gz",
        "✓ control       an executable `control` lies in the root",
        "✓ archive       the updater's own unpacker accepts it",
        "✓ first-line    the kernel can execute `control`",
        "✗ home-paths    `control` names no home and no build folder",
        "                seen: line 15: /home/me/agent",
        '                do:   begin with cd "$(dirname "$0")" and use relative paths:',
        "                each host and each version has a folder of its own",
        "✓ own-paths     `control` names no fixed place for the agent's own files",
        "● litter        nothing of a former run or of a checkout is packed along",
        "                seen: app.pid",
        "                do:   pack from a clean folder: a pid file that is packed names",
        "                a stranger's process on each host",
        "",
        "skipped: only read (--static) (22 checks)",
        "my-agent-1.0.0.tar.gz  1 error, 1 warning, 22 not judged in 29 checks, only read",
    ]
    quiet = on_a_terminal(path, 120, quiet=True)
    assert [line.split()[1] for line in quiet if line.startswith(("✗", "●"))] == ["home-paths", "litter"]
    assert [line for line in quiet if "✓" in line or line.startswith("skipped")] == []
    well = on_a_terminal(tarball(tmp_path, name="well-1.0.tar.gz"), 120, quiet=True)
    assert well == ["well-1.0.tar.gz  no errors, no warnings, 22 not judged in 29 checks, only read"]


def test_warnings_alone_are_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert linted(tarball(tmp_path, more={"app.pid": "1"}), capsys)[0] == OK


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = linted(tarball(tmp_path, "echo\n"), capsys, "-o", "json")
    document = json.loads(out)
    assert code == NOT_AS_DESIRED
    assert (document["format_version"], document["kind"], document["ran_as"]) == ("1.0", "Lint", None)
    assert document["target"] == "my-agent-1.0.0.tar.gz"
    assert document["summary"] == {"checks": 29, "errors": 1, "warnings": 0, "skipped": 22}
    line = next(check for check in document["checks"] if check["id"] == "first-line")
    assert line == {
        "id": "first-line",
        "title": "the kernel can execute `control`",
        "level": "error",
        "result": "failed",
        "seen": "it begins with 'echo', which is no `#!` line",
        "remedy": "make `#!/bin/sh` its first line, with Unix line ends",
    }


def test_junit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tarball(
        tmp_path, control(("exec ./agent", 'exec "/home/<&>/agent"')), more={"a.pid": "1"}, name="<&>.tar.gz"
    )
    code, out = linted(path, capsys, "-o", "junit")
    suite = ET.fromstring(out).find("testsuite")
    assert suite is not None
    assert code == OK if suite.get("failures") == "0" else NOT_AS_DESIRED
    assert (suite.get("name"), suite.get("tests"), suite.get("skipped")) == ("lint <&>.tar.gz", "29", "22")
    cases = {str(case.get("name")).partition(":")[0]: case for case in suite}
    assert "litter" in cases
    assert str(cases["litter"].findtext("system-out")).startswith("warning: a.pid; ")
    assert cases["starts"].find("skipped") is not None
    assert list(cases["control"]) == []


def test_a_target_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lint", str(tmp_path / "nothing")]) == USAGE
    assert capsys.readouterr().err == f"updater: {tmp_path}/nothing: No such file or directory\n"
    assert run(["lint", "--with", str(tmp_path / "nothing"), str(tmp_path)]) == USAGE

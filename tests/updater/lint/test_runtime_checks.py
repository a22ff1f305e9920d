"""Each check that runs an agent fails for one that was made to fail it, and all pass for the template."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import running_in, until
from tests.updater.lint.agents import PROGRAM, ROOT, TEMPLATE, control, tarball
from updater.lint.checks import BY_ID, CHECKS, Level

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="agents are run on Linux alone")

BEGIN = 'cd "$(dirname "$0")" || exit 1'
ALIVE = 'kill -0 "$pid" 2>/dev/null || return 1'
REDIRECTED = '(run) </dev/null >>"$log_file" 2>&1 &'
IGNORES_TERM = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 0.1; done\n"
HAS_A_CHILD = "#!/bin/sh\nsleep 600 &\nexec sleep 600\n"

# What makes a bad agent of the template: the check that it fails, and those that may fail with it.
SCRIPTS: dict[str, tuple[str, set[str]]] = {
    "runs": (control(("if running; then echo started; else echo stoped; fi", "no-such-command")), set()),
    "status-words": (control(("echo started;", "echo running;"), ("echo stoped;", "echo dead;")), set()),
    "status-plain": (control(("echo started;", 'echo started; echo "all is well";')), set()),
    "status-in-time": (control(("if running; then echo started;", "exec sleep 600; if running; then :;")), set()),
    "fresh-status": (
        control(("if running; then echo started; else echo stoped; fi", "echo started")),
        {"stop-twice", "kill-noticed"},
    ),
    "verbs": (control(('    echo "usage: ./control start|stop|status" >&2\n', "    start\n")), set()),
    "stop-twice": (control(('echo "$name is stoped already"', "exec sleep 600")), set()),
    "start-in-time": (control((REDIRECTED, 'run >>"$log_file" 2>&1')), set()),
    "starts": (control(("exec ./agent", "exit 1")), set()),
    "clean-environment": (control((REDIRECTED, f'[ -n "$OF_THE_TEST" ] || return 1\n{REDIRECTED}')), set()),
    "standard-input": (control((REDIRECTED, f"read -r answer || return 1\n{REDIRECTED}")), set()),
    "held-output": (control((REDIRECTED, "(run) </dev/null &")), set()),
    "start-twice": (
        control(('    if running; then\n        echo "$name is started already', '    if false; then\n        echo "')),
        set(),
    ),
    "kill-noticed": (control((ALIVE, "return 0")), set()),
    "starts-after-kill": (control((REDIRECTED, f'[ ! -e "$pid_file" ] || return 1\n{REDIRECTED}')), set()),
    "foreign-pid": (control(('if [ -d "/proc/$pid" ]', 'if [ "$(cut -d " " -f 3 "/proc/$pid/stat")" = Z ]')), set()),
    "stop-in-time": (control(('|| kill -9 "$pid"', "|| :")), set()),
    "stops": (control(('    kill "$pid"\n', "    return 0\n")), set()),
    "nothing-left": (control(("        find_children\n", ""), ("    find_children\n", "")), set()),
    "exit-codes": (control(('already, pid $pid"\n        return 0', 'already, pid $pid"\n        return 1')), set()),
    # `cd $(dirname $0)` alone would be no fault: hosts call ./control in its own folder.
    "spaces": (control(('cd "$(dirname "$0")"', 'cd $(dirname "$(readlink -f "$0")")')), set()),
    "other-version": (
        control((BEGIN, f'{BEGIN}\n[ -f ../place ] || pwd >../place\ncd "$(cat ../place)" || exit 1')),
        set(),
    ),
}
PROGRAMS = {"stop-in-time": IGNORES_TERM, "nothing-left": HAS_A_CHILD}
HANGING = {
    "fresh-status",
    "kill-noticed",
    "status-in-time",
    "stop-twice",
    "start-in-time",
    "stop-in-time",
    "starts",
    "stops",
    "standard-input",
}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "updater", "lint", *words]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where lint makes its folder: others must be able to enter, so not below a folder of pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="of-lint-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def lint(path: Path, scratch: Path, *words: str) -> dict[str, Any]:
    """Lint it in a process of its own: there every process of the agent is below it."""
    env = {**os.environ, "TMPDIR": str(scratch), "OF_THE_TEST": "1"}
    ran = subprocess.run(command(str(path), "-o", "json", *words), cwd=ROOT, env=env, capture_output=True, text=True)
    assert ran.stderr == ""
    report: dict[str, Any] = json.loads(ran.stdout)
    assert ran.returncode == (3 if report["summary"]["errors"] else 0)
    return report


def failed(report: dict[str, Any]) -> set[str]:
    return {check["id"] for check in report["checks"] if check["result"] == "failed"}


def test_every_check_that_runs_an_agent_has_a_bad_one() -> None:
    assert set(SCRIPTS) == {check.id for check in CHECKS if check.runs}


@pytest.mark.slow
def test_each_check_fails_for_an_agent_that_was_made_to_fail_it(tmp_path: Path, scratch: Path) -> None:
    def problem(id: str) -> str:
        script, along = SCRIPTS[id]
        (tmp_path / id).mkdir()
        path = tarball(tmp_path / id, script, program=PROGRAMS.get(id, PROGRAM))
        found = failed(lint(path, scratch, "--timeout", "4" if id in HANGING else "30"))
        return "" if id in found and found <= {id} | along else f"failed: {sorted(found)}"

    with ThreadPoolExecutor(6) as pool:  # most of it is waiting
        problems = dict(zip(SCRIPTS, pool.map(problem, SCRIPTS), strict=True))
    assert {id: why for id, why in problems.items() if why} == {}
    assert list(scratch.iterdir()) == []
    assert running_in(scratch) == ()


@pytest.mark.slow
def test_the_template_passes_every_check(tmp_path: Path, scratch: Path) -> None:
    folder = tmp_path / "my-agent"
    folder.mkdir()
    (folder / "control").write_text(TEMPLATE)
    (folder / "agent").write_text(PROGRAM)
    for name in ("control", "agent"):
        (folder / name).chmod(0o755)
    report = lint(folder, scratch)
    others = [(check["id"], check["result"]) for check in report["checks"] if check["result"] != "passed"]
    assert others == [("archive-name", "skipped")], "a folder has no archive's name"
    assert report["ran_as"] == ("nobody" if os.geteuid() == 0 else report["ran_as"])
    assert list(scratch.iterdir()) == []


FAMILIES = {
    "a child": HAS_A_CHILD,
    "a child's children": "#!/bin/sh\n(sleep 600 & sleep 600 & wait) &\nexec sleep 600\n",
    "a child in a session of its own": "#!/bin/sh\nsetsid sleep 600 &\nexec sleep 600\n",
    "all deaf to SIGTERM": "#!/bin/sh\ntrap '' TERM\nsleep 600 &\nwhile :; do sleep 0.1; done\n",
    "children that outlive SIGTERM": "#!/bin/sh\n(trap '' TERM; while :; do sleep 0.1; done) &\nexec sleep 600\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("program", FAMILIES.values(), ids=FAMILIES)
def test_the_templates_stop_ends_the_children_too(tmp_path: Path, scratch: Path, program: str) -> None:
    assert failed(lint(tarball(tmp_path, control(), program=program), scratch)) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("running", "stopped"),
    [
        ('echo "running, pid=$pid"', "echo stoped"),
        ('echo "falcon-judge now is running, pid=$pid"', "echo falcon-judge is stoped"),
        ('echo "./bin/app started, pid=$pid"', "echo ./app stopped!"),
        ('echo "$name is running"', 'echo "$name is not running"'),
    ],
)
def test_the_fields_forms_of_status_are_no_fault(tmp_path: Path, scratch: Path, running: str, stopped: str) -> None:
    path = tarball(tmp_path, control(("echo started;", f"{running};"), ("echo stoped;", f"{stopped};")))
    report = lint(path, scratch)
    assert [(check["id"], check["result"]) for check in report["checks"] if check["result"] != "passed"] == []


def test_a_delivered_file_lies_beside_control_before_the_start(tmp_path: Path, scratch: Path) -> None:
    path = tarball(
        tmp_path, control((REDIRECTED, f"grep -q right cfg.json || return 1\n{REDIRECTED}")), more={"cfg.json": "wrong"}
    )
    given = tmp_path / "cfg.json"
    given.write_text("right")
    assert failed(lint(path, scratch, "--with", str(given))) == set()
    assert "starts" in failed(lint(path, scratch, "--timeout", "2"))


DIES = """#!/bin/sh
mkdir -p var
echo "cannot open config: cfg.json" >>var/app.log
ln -s /etc/passwd var/link.log
seq 2000 >&2
echo "fatal: \033[31mno port\033[0m" >&2
exit 1
"""


@pytest.mark.slow
def test_what_a_dying_agent_wrote_is_shown_from_its_logs(tmp_path: Path, scratch: Path) -> None:
    path = tarball(tmp_path, program=DIES)
    report = lint(path, scratch, "--timeout", "2")
    assert "starts" in failed(report)
    wrote = {log["path"]: log["lines"] for log in report["wrote"]}
    assert set(wrote) == {"plain/my-agent/1.0.0/app.log", "plain/my-agent/1.0.0/var/app.log"}
    assert wrote["plain/my-agent/1.0.0/var/app.log"][-1] == "cannot open config: cfg.json"
    errors = wrote["plain/my-agent/1.0.0/app.log"]
    assert errors[-1] == r"fatal: \x1b[31mno port\x1b[0m"
    assert sum(len(line) + 1 for line in errors) <= 4096 + 6  # escaped
    assert (report["kept"], list(scratch.iterdir())) == (None, [])
    assert lint(tarball(tmp_path), scratch)["wrote"] == [], "of a good one there is nothing to say"


@pytest.mark.slow
def test_the_scratch_folder_is_kept_where_that_is_asked(tmp_path: Path, scratch: Path) -> None:
    env = {**os.environ, "TMPDIR": str(scratch)}
    words = command(str(tarball(tmp_path, program=DIES)), "--keep", "--timeout", "2")
    ran = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    [kept] = scratch.iterdir()
    assert f"\nkept: {kept}\n" in ran.stdout
    assert "    | cannot open config: cfg.json\n" in ran.stdout
    assert (kept / "plain" / "my-agent" / "1.0.0" / "var" / "app.log").is_file()
    assert running_in(scratch) == ()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_ends_lint_ends_the_agent(number: signal.Signals, tmp_path: Path, scratch: Path) -> None:
    path = tarball(tmp_path, control((REDIRECTED, f"{REDIRECTED}\nsleep 600")))
    process = subprocess.Popen(
        command(str(path)), cwd=ROOT, env={**os.environ, "TMPDIR": str(scratch)}, stderr=subprocess.PIPE, text=True
    )
    until(lambda: len(running_in(scratch)) >= 3, "the agent and its control run")
    process.send_signal(number)
    _, said = process.communicate()
    assert said == "updater: interrupted\n"
    assert process.returncode == 130
    assert running_in(scratch) == ()
    assert list(scratch.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs agents as nobody")
def test_root_runs_it_as_nobody_or_not_at_all(tmp_path: Path) -> None:
    """A folder that the user nobody may not enter: that is said, and is not the agent's fault."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    ran = subprocess.run(
        command(str(tarball(tmp_path))),
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(closed)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 64
    assert "nobody can't run programs in" in ran.stderr
    assert list(closed.iterdir()) == []


def test_levels_are_what_the_page_for_authors_says() -> None:
    page = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
    for check in BY_ID.values():
        level = "error" if check.level is Level.ERROR else "warning"
        assert f"| `{check.id}` | {level} | {check.title} |" in page

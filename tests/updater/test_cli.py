"""The command line: exit codes, and the one line that a person gets. The commands' real work is tested elsewhere."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.signer import Signer
from tests.support.sample_agents import build
from tests.updater.conftest import CODE, Folder
from updater.cli import run
from updater.commands.context import whoami
from updater.demo import agent
from updater.output.tables import RELEASE_ASKED
from updater.service.locks import pass_lock
from updater.service.pass_runner import make_var
from updater.version import VERSION

NAME = "falcon-agent"
COMMANDS = ("plan", "apply", "daemon", "status", "history", "why", "logs", "hold", "release", "rollback", "demo")


# What was typed


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--fly"], "unrecognized arguments: --fly"),
        (["fly"], "there is no command fly; known: plan apply "),
        (["plan", "--fly"], "unrecognized arguments: --fly"),
        (["plan", "-o", "xml"], "expected text or json, found 'xml'"),
        (["plan", "--color", "red"], "expected auto, always or never, found 'red'"),
        (["--log-level", "loud", "plan"], "expected trace, debug, info, warning, error or critical, found 'loud'"),
        (["--log-level", "warns", "plan"], "found 'warns'"),
        (["apply", "--timeout", "soon"], 'expected seconds or a time such as "10m", found "soon"'),
        (["apply", "--splay", "200"], "--splay goes with --once"),
        (["apply", "--once", "--splay", "-1"], "expected"),
        (["plan", "--desired", "ftp://meta/x.json"], "is not an http:// or https:// URL with a host"),
        (["status", "--desired", "x.json", "--offline"], "--desired and --offline exclude each other"),
        (["daemon", "somebody"], "unrecognized arguments: somebody"),
        (["apply", "--plan", "x.json", "--once"], "--plan goes alone"),
        (["apply", "--plan", "x.json", NAME], "--plan goes alone"),
        (["apply", "--plan", "x.json", "--timeout", "5"], "--plan goes alone"),
        (["apply", "--plan", "none.json"], "none.json can't be read: No such file"),
        (["plan", "--out"], "expected one argument"),
        (["why"], "the following arguments are required: NAME"),
        (["hold", NAME], "the following arguments are required: --reason"),
        (["hold", "--reason", "r"], "expected NAME... or --all, one of them"),
        (["hold", NAME, "--reason", " "], "--reason is empty"),
        (["plan", "--out", "no/such/folder.json"], "--out no/such/folder.json can't be written: No such file or dir"),
        (["hold", NAME, "--all", "--reason", "r"], "expected NAME... or --all, one of them"),
        (["hold", "../evil", "--reason", "r"], "'../evil' is not an agent's name"),
        (["hold", NAME, "--reason", "r", "--for", "ever"], 'expected seconds or a time such as "10m", found "ever"'),
        (["release"], "expected NAME... or --all, one of them"),
        (["release", ""], "'' is not an agent's name"),
        (["rollback"], "the following arguments are required: NAME"),
        (["history", "--all"], "unrecognized arguments: --all"),
        *(
            ([*command, "-n", text], f"expected a number, 1 or more, found {text!r}")
            for command in (["history"], ["logs", NAME])
            for text in ("x", "", "0", "-1", "1.5", "1000000000")
        ),
    ],
)
def test_what_can_not_be_meant(folder: Folder, argv: list[str], message: str) -> None:
    ran = folder.run(*argv)
    assert (ran.code, ran.out) == (64, "")
    [line] = ran.err.splitlines()
    assert line.startswith("updater: ")
    assert message in line
    assert not folder.var.exists()


def test_help_is_the_same_as_its_option(folder: Folder) -> None:
    for words, same in (["help"], ["--help"]), (["help", "plan"], ["plan", "--help"]):
        ran = folder.run(*words)
        with folder.start(*same) as asked:
            whole, _ = asked.communicate()
        assert (ran.code, ran.out) == (0, whole)
    ran = folder.run("help", "plam")
    assert (ran.code, ran.out) == (64, "")
    assert "there is no command plam; did you mean `plan`?" in ran.err


@pytest.mark.parametrize("typed", [[], ["-c", "x.json"], ["--config=x.json"], ["--log-level", "debug"]])
def test_where_no_command_was_typed_the_help_is_shown(typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(typed) == 64
    assert "where to begin:" in capsys.readouterr().out


def test_a_usage_error_says_where_to_look(folder: Folder) -> None:
    assert "see `updater plan --help`" in folder.run("plan", "-o", "xml").err
    assert "see `updater --help`" in folder.run("fly").err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["plna"], "did you mean `plan`? See `updater --help`"),
        (["plan", "--outt"], "did you mean `--out`? See `updater plan"),
        (["plan", "-c", "cfg.json"], "-c goes before the command: `updater -c FILE plan`"),
        (["status", "--config=cfg.json", "-q"], "--config goes before the command: `updater --config FILE status`"),
        (["apply", "--log-level", "debug"], "--log-level goes before the command: `updater --log-level L apply`"),
    ],
)
def test_a_slip_gets_what_was_probably_meant(folder: Folder, typed: list[str], meant: str) -> None:
    assert meant in folder.run(*typed).err


def test_what_a_saved_plan_lacks_is_reported_with_its_remedy(folder: Folder) -> None:
    assert "save one with `updater plan --out p.json`" in folder.run("apply", "--plan", "p.json").err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        run([command, "--help"])
    assert ended.value.code == 0
    reported = capsys.readouterr().out
    assert f"usage: updater {command}" in reported
    assert "examples:" in reported
    assert [line for line in reported.splitlines() if len(line) > 80] == []


def test_help_and_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        run(["--help"])
    reported = capsys.readouterr().out
    assert all(command in reported for command in COMMANDS)
    assert "exit codes:\n  0   well" in reported
    assert [line for line in reported.splitlines() if len(line) > 80] == []
    with pytest.raises(SystemExit):
        run(["--version"])
    assert capsys.readouterr().out == f"ops-updater {VERSION}\n"


def help_at(columns: int, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The help of a command on a terminal that says so of its width."""
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        run([command, "--help"])
    return capsys.readouterr().out


def test_an_example_that_has_no_room_goes_on_further_in(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = help_at(40, "hold", capsys, monkeypatch).partition("examples:\n")[2]
    assert examples == (
        "  updater hold falcon-agent\n"
        '        --reason "debugging a leak"\n'
        "        --for 2h\n"
        "  updater hold --all --reason freeze\n"
        "      until `updater release --all`\n"
    )


def test_a_help_is_as_wide_as_the_terminal_and_no_wider_than_can_be_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = {
        columns: max(map(len, help_at(columns, "apply", capsys, monkeypatch).splitlines())) for columns in (60, 85, 400)
    }
    assert widths[60] <= 58 < widths[85] <= 83 < widths[400] <= 98


# The config


def test_every_error_of_the_config_is_reported(folder: Folder) -> None:
    folder.configure(interval="often", parallel=0)
    ran = folder.run("plan")
    path = folder.path / "cfg.json"
    assert ran.code == 78
    assert sorted(line.partition(": expected")[0] for line in ran.err.splitlines()) == [
        f"updater: config {path}: interval",
        f"updater: config {path}: parallel",
    ]


@pytest.mark.parametrize("command", ["plan", "status", "apply", "daemon"])
def test_a_config_that_is_missing(folder: Folder, command: str) -> None:
    (folder.path / "cfg.json").unlink()
    ran = folder.run(command)
    assert ran.code == 78
    remedy = "make it from cfg.example.json, or name it by -c FILE"
    assert ran.err == f"updater: config: {folder.path}/cfg.json does not exist; {remedy}\n"


@pytest.mark.parametrize("command", [["apply", "--once"], ["daemon"]])
def test_a_folder_that_can_not_be_used(folder: Folder, command: list[str]) -> None:
    folder.var.touch()
    ran = folder.run(*command)
    assert ran.code == 78
    assert "var is not a folder; move it away" in ran.err


# plan and status


@pytest.mark.parametrize(
    "command", ["plan", "status", "apply --once", f"why {NAME}", "history", "check --offline", "config show"]
)
def test_json_is_one_document_in_the_usual_form(folder: Folder, command: str) -> None:
    folder.want(cmd="stop")
    folder.run("apply", "--once")
    text = folder.run(*command.split(), "-o", "json").out
    document = json.loads(text)
    assert list(document)[:2] == ["format_version", "kind"]
    assert text == json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def test_a_plan(folder: Folder) -> None:
    folder.want()
    ran = folder.run("plan")
    assert (ran.code, ran.err) == (0, "")
    assert "FirstInstall" in ran.out
    assert folder.run("plan", "--detailed-exitcode").code == 2
    content = json.loads(folder.run("plan", "-o", "json").out)
    assert (content["kind"], content["summary"]["pending"]) == ("Plan", 1)
    assert not folder.var.exists()
    assert not folder.work.exists()


def test_names(folder: Folder) -> None:
    folder.want()
    folder.meta.desire(
        folder.meta.agent(NAME, "1.0.0"), folder.meta.agent("other", "1.0.0"), folder.meta.agent("../x", "1.0.0")
    )
    content = json.loads(folder.run("plan", "other", "-o", "json").out)
    assert [reported["name"] for reported in content["agents"]] == ["other"]
    assert content["refused"] == []
    ran = folder.run("plan", "other", "nobody", "nothing")
    assert ran.code == 64
    assert "no agent is named nobody, nothing; known: ../x, falcon-agent, other" in ran.err


@pytest.mark.parametrize("command", [["plan"], ["status"], ["apply", "--once"], ["apply", "--once", "--offline"]])
def test_an_unknown_name_is_reported_with_the_known_ones(folder: Folder, command: list[str]) -> None:
    folder.want()
    assert folder.run("apply", "--once").code == 0
    ran = folder.run(*command, "nosuch")
    assert ran.code == 64
    assert f"no agent is named nosuch; known: {NAME}" in ran.err


def test_a_name_where_nothing_is_desired(folder: Folder) -> None:
    folder.meta.desire()
    ran = folder.run("plan", NAME)
    assert ran.code == 64
    assert f"no agent is named {NAME}; known: none" in ran.err


@pytest.mark.parametrize("command", [["plan"], ["plan", "--offline"], ["status"], ["apply", "--once"]])
def test_without_any_desired_state(folder: Folder, command: list[str]) -> None:
    folder.meta.down()
    ran = folder.run(*command)
    assert (ran.code, ran.out) == (69, "")
    assert ran.err.startswith("updater: no answer")


def test_an_operators_file(folder: Folder, tmp_path: Path) -> None:
    folder.want()
    file = tmp_path / "desired.json"
    file.write_text(json.dumps({"errorMessage": "", "desiredAgents": [folder.meta.agent(NAME, "1.0.0")]}))
    for command in ("plan", "status"):
        ran = folder.run(command, "--desired", str(file), "-o", "json")
        assert json.loads(ran.out)["desired_from"] == str(file)
    assert folder.meta.heartbeats == []
    assert folder.run("status", "--desired", str(file), "--detailed-exitcode").code == 3
    file.unlink()
    assert folder.run("plan", "--desired", str(file)).code == 69


def test_a_status(folder: Folder) -> None:
    folder.want()
    folder.run("apply", "--once")
    beats = len(folder.meta.heartbeats)
    ran = folder.run("status")
    assert (ran.code, ran.err) == (0, "")
    assert "1.0.0 started" in ran.out
    assert folder.run("status", "--detailed-exitcode").code == 0
    agent.crash(folder.home())
    assert folder.run("status").code == 0
    assert folder.run("status", "--detailed-exitcode").code == 3
    assert json.loads(folder.run("status", "-o", "json").out)["agents"][0]["observed"]["status"] == "stoped"
    assert len(folder.meta.heartbeats) == beats


def test_colours(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.want()
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" not in folder.run("plan").out
    assert "\x1b[" in folder.run("plan", "--color", "always").out
    assert "\x1b[" not in folder.run("plan", "--color", "always", "-o", "json").out


# apply


def test_apply_once(folder: Folder) -> None:
    folder.want()
    ran = folder.run("apply", "--once", "--detailed-exitcode")
    assert (ran.code, ran.err) == (2, "")
    assert re.search(r"start +done", ran.out)
    ran = folder.run("apply", "--once", "--detailed-exitcode")
    assert (ran.code, ran.out, ran.err) == (0, "", "")  # so cron sends no mail
    content = json.loads(folder.run("apply", "--once", "-o", "json").out)
    assert content["kind"] == "Result"
    assert "fetch" in folder.log()


def test_apply_says_when_not_all_is_as_desired(folder: Folder) -> None:
    folder.want()
    folder.meta.vanish(NAME, "1.0.0")
    ran = folder.run("apply", "--once")
    assert ran.code == 3
    assert "FetchFailed" in ran.out


def test_apply_until_all_is_as_desired(folder: Folder) -> None:
    folder.want()
    assert folder.run("apply").code == 0
    assert agent.ask(folder.home()).version == "1.0.0"


def test_apply_of_some_names(folder: Folder) -> None:
    folder.want()
    ran = folder.run("apply", "--once", "nobody")
    assert ran.code == 64
    assert "no agent is named nobody" in ran.err
    assert not folder.work.exists()
    for once in (["--once"], []):
        ran = folder.run("apply", *once, NAME, "nobody")
        assert (ran.code, ran.out) == (64, "")
        assert not folder.work.exists(), "nothing is done where a name can't be meant"
    assert folder.run("apply", "--once", NAME).code == 0


def test_apply_beside_another_pass(folder: Folder) -> None:
    make_var(folder.var)
    with pass_lock(folder.var):
        ran = folder.run("apply", "--once")
    assert ran.code == 75
    assert f"process {os.getpid()} holds" in ran.err
    assert folder.meta.requests == []


def test_a_log_level_that_was_typed_wins(folder: Folder) -> None:
    folder.want()
    folder.run("--log-level", "DEBUG", "apply", "--once")
    assert "DEBUG" in folder.log()
    before = folder.log()
    assert folder.run("--log-level", "Warn", "apply", "--once").code == 0, "a word of the config is one here, too"
    assert folder.log() == before


def test_apply_that_has_no_time_makes_one_pass(folder: Folder) -> None:
    folder.want()
    folder.meta.vanish(NAME, "1.0.0")
    ran = folder.run("apply", "--timeout", "0")
    assert (ran.code, len(folder.meta.heartbeats)) == (3, 2), "it, and its report"


# A saved plan


def saved(folder: Folder) -> Path:
    path = folder.path.parent / "plan.json"
    assert folder.run("plan", "--out", str(path)).code == 0
    return path


def test_a_saved_plan_is_carried_out_and_then_refused(folder: Folder) -> None:
    folder.want()
    path = saved(folder)
    assert json.loads(path.read_text())["kind"] == "Plan"
    assert (folder.run("apply", "--plan", str(path)).code, agent.ask(folder.home()).version) == (0, "1.0.0")
    pid = agent.ask(folder.home()).pid
    ran = folder.run("apply", "--plan", str(path))
    assert ran.code == 3
    lines = ran.err.splitlines()
    assert all(line.startswith("updater: the plan is refused, nothing was touched: falcon-agent: ") for line in lines)
    assert any('observed.version: was null, is "1.0.0"' in line for line in lines)
    assert agent.ask(folder.home()).pid == pid


def test_a_saved_plan_is_refused_where_the_wish_moved(folder: Folder) -> None:
    folder.want()
    path = saved(folder)
    folder.want("2.0.0")
    ran = folder.run("apply", "--plan", str(path))
    assert ran.code == 3
    assert 'desired.version: was "1.0.0", is "2.0.0"' in ran.err
    assert agent.running_below(folder.work) == ()


def test_a_plan_of_another_host_is_refused(folder: Folder) -> None:
    folder.want()
    path = saved(folder)
    folder.configure(hostname="host-2")
    ran = folder.run("apply", "--plan", str(path))
    assert ran.code == 3
    assert "it was made on host-1, this host is host-2" in ran.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a saved plan: "),
        ("[]", "make one with `updater plan --out"),
        ('{"kind": "Status"}', "make one with"),
    ],
)
def test_what_is_no_saved_plan(folder: Folder, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(content)
    ran = folder.run("apply", "--plan", str(path))
    assert ran.code == 3
    assert message in ran.err
    assert folder.meta.requests == []


# An operator's hand


def running(folder: Folder, *versions: str) -> None:
    """These versions became good, one after the other; the last one runs."""
    for version in versions:
        folder.want(version)
        for _ in range(2):
            assert folder.run("apply", "--once").code == 0


def test_a_hold_and_its_release(folder: Folder) -> None:
    running(folder, "1.0.0")
    ran = folder.run("hold", NAME, "--reason", "looking into it", "--for", "2h")
    assert (ran.code, ran.out) == (0, f"{NAME} held for 2h00m: looking into it (`updater release {NAME}` ends it)\n")
    agent.crash(folder.home())
    assert folder.run("apply", "--once").code == 0  # an operator's hold is no failure
    assert agent.pid_of(folder.home()) is None
    for command in (("plan",), ("status",), ("history",)):
        assert "looking into it" in folder.run(*command).out
    held = json.loads(folder.run("plan", "-o", "json").out)["agents"][0]["held"]
    assert (held["reason"], held["until"] is not None, held["meanwhile"]) == ("HeldByOperator", True, [])
    ran = folder.run("release", NAME)
    assert (ran.code, ran.out) == (
        0,
        f"{NAME}: ended: the hold of {whoami()} (looking into it)\n",
    )
    assert "released: the next pass ends" in folder.run("plan").out
    assert folder.run("apply", "--once").code == 0
    assert agent.ask(folder.home()).version == "1.0.0"


def test_a_name_that_is_mistyped_is_no_hold_and_the_others_are_held_all_the_same(folder: Folder) -> None:
    running(folder, "1.0.0")
    ran = folder.run("hold", "falcon-agnet", NAME, "--reason", "r")
    assert (ran.code, ran.out) == (64, f"{NAME} held until released: r (`updater release {NAME}` ends it)\n")
    assert f"no agent is named falcon-agnet (did you mean `{NAME}`?)" in ran.err
    ran = folder.run("release", "falcon-agnet", NAME)
    assert (ran.code, ran.out) == (64, f"{NAME}: ended: the hold of {whoami()} (r)\n")
    assert "did you mean" in ran.err


def test_the_release_of_all_leaves_what_others_hold(folder: Folder) -> None:
    running(folder, "1.0.0")
    assert folder.run("hold", NAME, "--reason", "mine").code == 0
    assert folder.run("hold", "--all", "--reason", "freeze").code == 0
    ran = folder.run("release", NAME)
    assert "still stands: the hold of" in ran.out
    assert "`updater release --all`" in ran.out
    assert folder.run("hold", NAME, "--reason", "mine").code == 0
    ran = folder.run("release", "--all")
    assert ran.out.splitlines() == [
        f"all agents: ended: the hold of {whoami()} (freeze)",
        f"{NAME}: still stands: the hold of {whoami()} (mine) (`updater release {NAME}`)",
    ]
    agent.crash(folder.home())
    assert folder.run("apply", "--once").code == 0
    assert agent.pid_of(folder.home()) is None


def test_a_release_that_is_asked_for_is_listed_with_its_agent_alone(folder: Folder) -> None:
    for name in (NAME, "other"):
        folder.meta.publish(name, "1.0.0", build(name, "1.0.0"))
    folder.meta.desire(folder.meta.agent(NAME, "1.0.0"), folder.meta.agent("other", "1.0.0"))
    for _ in range(2):
        assert folder.run("apply", "--once").code == 0
    folder.run("release", NAME)
    assert folder.run("status").out.count(RELEASE_ASKED) == 1
    assert folder.run("status", "-q", "--detailed-exitcode").out == "", "it is no trouble"
    assert RELEASE_ASKED not in folder.run("status", "other").out
    assert json.loads(folder.run("status", "other", "-o", "json").out)["releases"] == []
    assert folder.run("apply", "--once", "other").code == 0
    assert RELEASE_ASKED in folder.run("plan", NAME).out, "a pass over another one takes nothing up"
    assert folder.run("apply", "--once", NAME).code == 0
    assert RELEASE_ASKED not in folder.run("plan").out


def test_a_hold_that_can_not_be_written_is_one_line(folder: Folder) -> None:
    running(folder, "1.0.0")
    (folder.var / "holds").write_text("")
    for command in (["hold", NAME, "--reason", "r"], ["release", NAME], ["release", "--all"]):
        ran = folder.run(*command)
        assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1), ran
        assert ran.err.startswith(f"updater: {folder.var}/holds")
        assert "please report it" not in ran.err


def test_a_hold_needs_no_lock_and_may_be_for_all(folder: Folder) -> None:
    running(folder, "1.0.0")
    with pass_lock(folder.var):
        assert folder.run("hold", "--all", "--reason", "freeze").out == (
            "all agents held until released: freeze (`updater release --all` ends it)\n"
        )
        assert "HeldByOperator" in folder.run("status").out
        assert folder.run("release", "--all").out.startswith("all agents: ended: the hold of ")


def test_a_rollback_pins_until_release(folder: Folder) -> None:
    running(folder, "1.0.0", "2.0.0")
    ran = folder.run("rollback", NAME)
    assert (ran.code, agent.ask(folder.home()).version) == (0, "1.0.0")
    assert folder.run("apply", "--once").code == 3  # it is not as desired, and says why
    assert "went back to 1.0.0; `updater release falcon-agent` ends it" in folder.run("status").out
    folder.run("release", NAME)
    assert folder.run("apply", "--once").code == 0
    assert agent.ask(folder.home()).version == "2.0.0"


def test_without_what_verifies_signatures_changes_wait_and_agents_are_kept(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(folder, "1.0.0")
    folder.configure(trusted_keys=[Signer().public])
    monkeypatch.setitem(sys.modules, "nacl", None)
    agent.crash(folder.home())
    assert folder.run("apply", "--once").code == 0
    assert agent.ask(folder.home()).version == "1.0.0"
    ran = folder.run("status", "-o", "json")
    [tools] = [one for one in json.loads(ran.out)["conditions"] if one["type"] == "ToolsPresent"]
    assert (tools["status"], tools["reason"]) == ("False", "ToolMissing")
    assert "./control setup --with signatures" in tools["message"]
    pid = agent.pid_of(folder.home())
    folder.want("2.0.0")
    assert folder.run("apply", "--once").code == 3
    assert agent.pid_of(folder.home()) == pid


def test_a_second_rollback_stays_where_the_first_one_went(folder: Folder) -> None:
    running(folder, "1.0.0", "2.0.0")
    assert folder.run("rollback", NAME).code == 0
    pid = agent.pid_of(folder.home())
    for words in (["rollback", NAME], ["rollback", NAME, "--to", "1.0.0"]):
        ran = folder.run(*words)
        assert (ran.code, agent.ask(folder.home()).version) == (0, "1.0.0")
        assert f"1.0.0 is in use already; it stays there until `updater release {NAME}`" in ran.err
    assert agent.pid_of(folder.home()) == pid


def test_a_rollback_to_what_is_not_there(folder: Folder) -> None:
    running(folder, "1.0.0")
    ran = folder.run("rollback", NAME)
    assert (ran.code, ran.err) == (
        3,
        f"updater: {NAME}: no version that was confirmed good is on disk to go back to; "
        "`--to VERSION` goes to any other (there: 1.0.0)\n",
    )
    ran = folder.run("rollback", NAME, "--to", "0.1.0")
    assert (ran.code, ran.err) == (3, f"updater: {NAME}: 0.1.0 is not on disk (there: 1.0.0)\n")
    assert folder.run("rollback", "nobody").code == 64


def test_a_rollback_beside_another_pass(folder: Folder) -> None:
    running(folder, "1.0.0", "2.0.0")
    with pass_lock(folder.var):
        assert folder.run("rollback", NAME, "--timeout", "0.2").code == 75
    assert agent.ask(folder.home()).version == "2.0.0"


def test_steering_without_any_desired_state(folder: Folder) -> None:
    for command in (("why", NAME), ("rollback", NAME)):
        assert folder.run(*command).code == 69
    assert (folder.run("history").code, folder.run("history").out) == (0, "nothing was done yet\n")


def test_a_rollback_of_an_agent_that_is_not_managed_says_why_it_is_not(folder: Folder) -> None:
    folder.meta.desire(folder.meta.agent("bad-agent", ".."), folder.meta.agent("heron-agent", "1.0.0"))
    folder.configure(allow_agents=["bad-agent"])
    folder.run("apply", "--once")
    refused, ruled_out = (folder.run("rollback", name).err for name in ("bad-agent", "heron-agent"))
    assert refused.startswith("updater: bad-agent: nothing was touched: refused: InvalidSpec, rule version: "), refused
    assert ruled_out.startswith(
        "updater: heron-agent: nothing was touched: not for this host, by rule allow_agents: "
    ), ruled_out


def test_history_of_another_kind_or_time_is_said(folder: Folder) -> None:
    running(folder, "1.0.0")
    for narrowed in (["--failed"], ["--since", "0.001s"]):
        ran = folder.run("history", *narrowed)
        assert (ran.code, ran.out) == (0, "nothing of that kind was done yet\n"), narrowed


def test_a_memory_that_can_t_be_read_is_said_by_all_that_look(folder: Folder) -> None:
    running(folder, "1.0.0")
    path = folder.path / "var" / "state.db"
    path.write_bytes(b"garbage" * 1000)
    trouble = f"updater: {path} can't be read (file is not a database); the next pass sets it aside"
    for code, command in ((69, ["status"]), (69, ["why", NAME]), (69, ["plan", "--offline"]), (69, ["history"])):
        for form in ("text", "json"):
            ran = folder.run(*command, "-o", form)
            assert (ran.code, ran.out) == (code, ""), command
            assert ran.err.startswith(trouble), command
    folder.meta.down()
    assert "(and " + trouble.removeprefix("updater: ") in folder.run("plan").err


def test_history_and_why(folder: Folder) -> None:
    running(folder, "1.0.0")
    folder.configure(control_timeout={"start": 4})
    folder.want("2.0.0", broken_start=True)
    ran = folder.run("apply", "--once")
    assert ran.code == 4
    assert re.search(r"start +failed", ran.out)
    reported = folder.run("history").out
    assert "1.0.0 is good: it kept running through its watch" in reported
    assert re.search(r"start +failed +\S+ s  2\.0\.0\n +StartFailed: control start of 2\.0\.0", reported)
    assert reported.count("2.0.0 -> 1.0.0") == 1
    assert "back to" not in reported, "the way back itself stands there"
    content = json.loads(folder.run("history", NAME, "-o", "json").out)
    assert (content["kind"], content["events"][0]["reason"]) == ("History", "FirstInstall")
    ran = folder.run("history", "falcon-agnet")
    assert (ran.code, ran.out) == (64, "")
    assert f"did you mean `{NAME}`?" in ran.err
    printed = folder.run("why", NAME).out
    assert "Quarantined" in printed
    assert "2.0.0 was rolled back: control start of 2.0.0" in printed
    assert "    | falcon-agent started..., pid=1" in printed  # the control script's own words
    assert re.search(rf"^  Quarantined +.*`updater release {NAME}`", printed, flags=re.MULTILINE)  # the remedy
    assert re.search(rf"^  StartFailed +.*`updater logs {NAME}`", printed, flags=re.MULTILINE)
    content = json.loads(folder.run("why", NAME, "-o", "json").out)
    assert (content["kind"], len(content["agents"])) == ("Why", 1)
    assert content["history"][-1]["name"] == NAME
    assert folder.run("why", "nobody").code == 64


# Tools


@pytest.mark.parametrize("command", [["apply", "--once"], ["daemon"]])
def test_a_tool_that_is_missing(folder: Folder, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("updater.settings.preflight.TOOLS", ("sh", "no-such-tool"))
    ran = folder.run(*command)
    assert ran.code == 72
    assert ran.err == "updater: missing on this host: no-such-tool; agents' control scripts need it\n"
    assert not folder.var.exists()


# daemon, as far as it doesn't run


def test_the_checks_of_a_start(folder: Folder) -> None:
    assert folder.run("daemon", "--check").code == 0
    folder.configure(server="http://")
    assert folder.run("daemon", "--check").code == 78
    assert folder.meta.requests == []


def test_a_second_daemon(folder: Folder) -> None:
    from updater.service.locks import pid_file

    make_var(folder.var)
    with pid_file(folder.var):
        ran = folder.run("daemon")
    assert ran.code == 75
    assert "app.pid" in ran.err


# When it breaks


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("can't start new thread"), BlockingIOError(11, "no process")], ids=repr
)
def test_a_host_that_is_short_of_something_is_one_line_and_no_mistake_of_ours(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken() -> str:
        raise error

    monkeypatch.setattr("socket.gethostname", broken)
    folder.configure(hostname="")
    make_var(folder.var)
    ran = folder.run("plan")
    assert (ran.code, ran.out) == (1, "")
    [line] = ran.err.splitlines()
    assert line.startswith("updater: the host leaves the updater no memory or no process; raise its limits")
    assert not (folder.var / "app.log").exists()


def test_an_unexpected_error_is_one_line_and_the_rest_is_in_the_log(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> str:
        raise RuntimeError("nobody expected this")

    monkeypatch.setattr("socket.gethostname", broken)
    folder.configure(hostname="")
    ran = folder.run("plan")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "updater: it broke, please report it: RuntimeError('nobody expected this')\n"
    assert not folder.var.exists()
    make_var(folder.var)
    ran = folder.run("plan")
    assert ran.code == 1
    [line] = ran.err.splitlines()
    assert line.endswith(f"; the traceback is in {folder.var}/app.log")
    assert "Traceback (most recent call last)" in folder.log()
    assert "nobody expected this" in folder.log()


def test_an_interruption_is_no_error_of_ours(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("socket.gethostname", interrupted)
    folder.configure(hostname="")
    ran = folder.run("plan")
    assert (ran.code, ran.err) == (130, "updater: interrupted\n")


def test_a_reader_that_has_gone_is_no_error(folder: Folder) -> None:
    folder.want(version="1.0.0")
    folder.meta.desire(*(folder.meta.agent(f"agent-{number}", "1.0.0") for number in range(300)))
    with folder.start("plan", "-o", "json") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "{\n"
        process.stdout.close()
        assert process.wait(120) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_signals_that_we_were_started_to_ignore_are_not_ignored_by_agents(folder: Folder) -> None:
    """As `nohup updater apply --once &` does it: what is ignored here, an agent would ignore too, whatever signal."""
    folder.want(
        control="#!/bin/sh\n[ $1 = start ] && grep -E 'Sig(Ign|Blk)' /proc/self/status >ignored\necho started\n"
    )
    ignore = (
        "import os, signal, sys\n"
        "numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, numbers)\n"
        "for number in numbers: signal.signal(number, signal.SIG_IGN)\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", ignore, sys.executable, "-m", "updater", "-c", str(folder.path / "cfg.json")]
    done = subprocess.run([*command, "apply", "--once"], cwd=CODE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    blocked, ignored = (
        int(line.split()[1], 16) for line in (folder.home() / "1.0.0" / "ignored").read_text().splitlines()
    )
    ours = sum(1 << (number - 1) for number in signal.valid_signals())  # the C library has some for itself
    assert (blocked & ours, ignored & ours) == (0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="a rule about what root goes by")
@pytest.mark.parametrize(
    "command",
    [
        *("plan", "status", "status -o json", f"why {NAME}", "history", "check"),
        *(f"hold {NAME} --reason x", f"release {NAME}", f"rollback {NAME}", "apply --once", "daemon"),
    ],
)
def test_root_does_nothing_by_a_config_that_others_can_write(folder: Folder, command: str) -> None:
    """It says what is executed (`agent_env`), and what is sent where: even to look is to do as it says."""
    folder.want()
    assert folder.run("apply", "--once").code == 0
    said = folder.path / "said"
    folder.configure(agent_env={"BASH_ENV": f"{said}"}, auth={"user": "u", "password_file": "/etc/hostname"})
    control = folder.home() / "1.0.0" / "control"
    control.write_text(f"#!/bin/sh\necho $1 >>{said}\necho started\n")
    (folder.path / "cfg.json").chmod(0o666)
    asked, held = len(folder.meta.requests), set(folder.var.rglob("*"))
    ran = folder.run(*command.split())
    assert ran.code == (3 if command == "check" else 78), ran
    reported = ran.out if command == "check" else ran.err
    assert f"{folder.path.resolve()}/cfg.json can be written by everybody" in reported
    assert "chmod o-w" in reported
    assert (said.exists(), len(folder.meta.requests), set(folder.var.rglob("*"))) == (False, asked, held)

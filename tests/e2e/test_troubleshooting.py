"""docs/troubleshooting.md: each symptom is made, and each command of its row is typed and shows what the row says."""

from __future__ import annotations

import io
import re
import shlex
import tarfile
from collections.abc import Callable

import pytest

from tests.e2e.host import NAME, ROOT, Host
from tests.e2e.processes import Processes
from tests.e2e.steps import holding
from tests.signer import Signer
from tests.support.sample_agents import build

pytest.importorskip("nacl", reason="needs PyNaCl, which ./control test brings")
pytestmark = [pytest.mark.slow, pytest.mark.warm]

# What needs another host than that of these tests, and the test that makes it.
ELSEWHERE = {
    "in a container it is dead, and `status` says started": (
        *("tests/system/test_container.py", "test_check_says_where_orphans_are_not_reaped"),
    ),
    "it stops when you log out": (
        *("tests/updater/check/test_conflicts.py", "test_sessions_that_kill_agents_are_bad_for_whom_they_hit"),
    ),
    "certificate errors": (
        "tests/reconcile/net/test_http_client.py",
        "test_what_is_wrong_with_a_certificate_has_its_own_remedy",
    ),
    "it downloads, ends, and goes on at the next run": (
        *(
            "tests/e2e/test_budget.py",
            "test_a_download_goes_on_from_run_to_run_and_is_reported_when_it_begins_and_ends",
        ),
    ),
    "it says `it broke, please report it`": (
        *("tests/updater/test_cli.py", "test_an_unexpected_error_is_one_line_and_the_rest_is_in_the_log"),
    ),
}

# What `control start` of this one says, and what it writes itself.
DIES = """\
#!/bin/sh
cd "$(dirname "$0")" || exit 1
case $1 in
start) echo 'cannot open config' >>app.log; echo 'port 8000 is taken'; exit 1 ;;
status) echo stoped ;;
esac
"""
# Its `stop` leaves the process.
LEAVES_ITS_PROCESS = """\
#!/bin/sh
cd "$(dirname "$0")" || exit 1
case $1 in
start) nohup sleep 600 </dev/null >/dev/null 2>&1 & touch on ;;
stop) rm -f on ;;
status) if [ -f on ]; then echo started; else echo stoped; fi ;;
esac
"""
UNCLEAR = "#!/bin/sh\necho so so\n"


def rows() -> dict[str, str]:
    """Each symptom of the page, and where its row says to look."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (.+?) \| .+? \| (.+) \|$", page, re.MULTILINE)
    return {symptom: look for symptom, look in found if symptom != "you see"}


class Row:
    """A row of the page, which types its own commands alone. `untyped`: those that are left."""

    def __init__(self, host: Host, processes: Processes, look: str) -> None:
        self.host = host
        self.processes = processes
        self.look = look
        self.untyped = {span for span in re.findall(r"`([^`]+)`", look) if span.startswith(("updater ", "./control "))}

    def type(self, command: str) -> str:
        """What it prints."""
        assert f"`{command}`" in self.look, f"not in its row: {command}"
        self.untyped.discard(command)
        program, *words = shlex.split(command.replace("NAME", NAME))
        if program == "./control":
            result = self.host.run(str(ROOT / "control"), "-c", str(self.host.folder / "cfg.json"), *words)
        else:
            result = self.host.updater(*words)
        return result.out + result.err


def no_agent(host: Host, row: Row) -> None:
    host.apply()
    assert '"host": "liutian-01"' in row.type("updater status -o json")


def nothing_runs(host: Host, row: Row) -> None:
    host.publish("1.0.0")
    host.desire("1.0.0")
    assert "FirstInstall" in host.updater("plan").out
    assert row.type("./control status") == "stoped\n"


def held(host: Host, row: Row) -> None:
    host.install()
    host.updater("hold", NAME, "--for", "2h", "--reason", "a look")
    said = row.type("updater why NAME")
    assert re.search(r"^plan\n  held until 20\S+ \S+: HeldByOperator: .*a look$", said, re.MULTILINE), said
    assert f"`updater release {NAME}`" in said.partition("\nwhat to do\n")[2]


def another_pass(host: Host, row: Row) -> None:
    host.install()
    with holding(host.var / "updater.lock", row.processes) as pid:
        result = host.updater("apply", "--once")
        assert (result.code, str(pid) in result.err) == (75, True), result
        assert NAME in row.type("updater status")


def wrong_config(host: Host, row: Row) -> None:
    host.configure(interval="soon", keep=-1)
    result = host.updater("plan")
    assert result.code == 78
    assert "interval: " in result.err
    assert "keep: " in result.err


def no_answer(host: Host, row: Row) -> None:
    host.configure(server="127.0.0.1:9")
    assert host.updater("plan").code == 69
    assert re.search(r"bad +server +.*127\.0\.0\.1:9", row.type("updater check"))


def newer_at_the_server(host: Host, row: Row) -> None:
    host.install("1.0.0")
    host.publish("2.0.0")
    host.desire("2.0.0")
    assert f"{NAME}  VersionDiffers  1.0.0 -> 2.0.0" in row.type("updater plan")


def start_failed(host: Host, row: Row) -> None:
    host.configure(control_timeout={"start": 1})
    host.publish("1.0.0", control=DIES)
    host.desire("1.0.0")
    applied = host.apply()
    assert applied.condition("Ready") == ("False", "StartFailed"), applied
    assert "cannot open config" in row.type("updater logs NAME")
    assert "port 8000 is taken" in row.type("updater why NAME")


def backing_off(host: Host, row: Row) -> None:
    host.configure(control_timeout={"start": 1})
    host.install("1.0.0")
    host.settle()
    (host.home() / "1.0.0" / "control").write_text(DIES)
    host.crash()
    applied = [host.apply() for _ in range(3)][-1]
    assert applied.agent()["held"]["reason"] == "BackingOff", applied
    assert "cannot open config" in row.type("updater logs NAME")
    assert NAME in row.type("updater release NAME")
    assert "start" in host.apply().actions()


def status_unknown(host: Host, row: Row) -> None:
    host.install("1.0.0")
    host.settle()
    (host.home() / "1.0.0" / "control").write_text(UNCLEAR)
    applied = host.apply()
    assert applied.condition("Ready") == ("Unknown", "StatusUnknown"), applied
    assert "so so" in row.type("updater why NAME")


def left_behind(host: Host, row: Row) -> None:
    for version in ("1.0.0", "2.0.0"):
        host.publish(version, control=LEAVES_ITS_PROCESS)
        host.desire(version)
        assert host.apply().code == 0
    assert re.search(r"sleep", row.type("updater history NAME"))


def rolled_back(host: Host, row: Row) -> None:
    host.configure(control_timeout={"start": 1})
    host.install("1.0.0")
    host.settle()
    host.publish("2.0.0", control=DIES)
    host.desire("2.0.0")
    assert host.apply().code == 4
    assert "2.0.0 was rolled back" in row.type("updater why NAME")
    assert NAME in row.type("updater release NAME")
    assert host.apply().code == 4, "it was tried once more"


def missing_on_this_host(host: Host, row: Row) -> None:
    host.publish("1.0.0")
    host.desire("1.0.0", runUser="nobody-has-this-name")
    assert re.search(r"bad +desired +.*user .nobody-has-this-name. does not exist", row.type("updater check"))


def whole_group(host: Host, row: Row) -> None:
    assert "\nKillMode=process\n" in (ROOT / "contrib/systemd/ops-updater.service").read_text()


def refused(host: Host, reason: str) -> str:
    """What a run prints of the one agent, which is not as it should be for this reason."""
    result = host.updater("apply", "--once")
    assert result.code == 3, result
    assert f"{NAME}  {reason}" in result.out or f"{reason}:" in result.out
    return result.out


def not_found(host: Host, row: Row) -> None:
    host.install("1.0.0")
    host.desire("9.9.9")
    assert re.search(rf"http://\S+/{NAME}-9\.9\.9\.tar\.gz.*404", refused(host, "FetchFailed"))


def wrong_digest(host: Host, row: Row) -> None:
    host.install("1.0.0")
    host.settle()
    host.publish("2.0.0")
    host.desire("2.0.0", md5=host.meta.release(NAME, "1.0.0").md5)
    assert "1.0.0" in refused(host, "DigestMismatch").partition("DigestMismatch:")[2]


def bad_archive(host: Host, row: Row) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../outside"))
    host.meta.publish(NAME, "1.0.0", target.getvalue())
    host.desire("1.0.0")
    assert "../outside" in refused(host, "UnpackRefused")


def wrong_signer(host: Host, row: Row) -> None:
    host.configure(trusted_keys=[Signer(1).public])
    tarball = build(NAME, "1.0.0")
    host.meta.publish(NAME, "1.0.0", tarball, minisig=Signer(2).sign_release(tarball, NAME, "1.0.0"))
    host.desire("1.0.0")
    assert "not among trusted_keys" in refused(host, "SignatureInvalid")


def rule_of_this_host(host: Host, row: Row) -> None:
    host.configure(allow_work_dirs=["/srv/agents"])
    host.publish("1.0.0")
    host.desire("1.0.0")
    said = refused(host, "PolicyRefused")
    assert "allow_work_dirs" in said
    assert str(host.work) in said


def mails_at_each_run(host: Host, row: Row) -> None:
    host.install("1.0.0")
    host.settle()
    control = host.home() / "1.0.0" / "control"
    for script in (UNCLEAR, control.read_text(), UNCLEAR):
        control.write_text(script)
        assert NAME in host.updater("apply", "--once").out
    assert NAME in row.type("updater history NAME")


def never_mails(host: Host, row: Row) -> None:
    host.install("1.0.0")
    host.settle()
    assert host.updater("apply", "--once").out == ""
    assert NAME in row.type("updater status --detailed-exitcode")


def no_log(host: Host, row: Row) -> None:
    host.var.mkdir(mode=0o700)
    (host.var / "app.log").mkdir()
    assert re.search(r"bad +folders +.*app\.log", row.type("updater check"))


SYMPTOMS: dict[str, Callable[[Host, Row], None]] = {
    "no agent is listed": no_agent,
    "`plan` says what is pending, and nothing is done": nothing_runs,
    "an agent is held": held,
    "75": another_pass,
    "78": wrong_config,
    "69": no_answer,
    "a new version is at the server, and not here": newer_at_the_server,
    "`StartFailed`": start_failed,
    "`BackingOff`": backing_off,
    "`StatusUnknown`": status_unknown,
    "it is started again and again, and runs": left_behind,
    "`RolledBack`": rolled_back,
    "`SudoRefused`, `UserMissing`, `InterpreterMissing`": missing_on_this_host,
    "it stops when the updater is restarted": whole_group,
    "`FetchFailed`, 404": not_found,
    "`DigestMismatch`": wrong_digest,
    "`UnpackRefused`": bad_archive,
    "`SignatureInvalid`": wrong_signer,
    "`PolicyRefused`, `InvalidSpec`": rule_of_this_host,
    "cron mails at each run": mails_at_each_run,
    "cron never mails": never_mails,
    "the log is empty": no_log,
}


@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_a_symptom_is_found_as_the_page_says(symptom: str, host: Host, processes: Processes) -> None:
    row = Row(host, processes, rows()[symptom])
    SYMPTOMS[symptom](host, row)
    assert row.untyped == set(), "each command of its row was typed"


def test_each_row_is_tried() -> None:
    assert SYMPTOMS.keys() | ELSEWHERE.keys() == rows().keys()
    for path, name in ELSEWHERE.values():
        assert f"def {name}(" in (ROOT / path).read_text(), name

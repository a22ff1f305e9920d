"""The table of reasons leads from each to its remedy; here each is followed on a real host, and helps.

A reason is met, the remedy that its row names is carried out, and the agent is as desired (or, where the
row says so, stays as it is). `ELSEWHERE` names the tests that follow those that are not followed here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from reconcile.act.host.home_lock import home_lock
from tests.e2e.host import NAME, Host
from updater.output.reasons import REASONS

pytestmark = pytest.mark.warm

WELL = ("True", "AsDesired")

ELSEWHERE = {
    "AsDesired": "test_apply_once.py",
    "FirstInstall": "test_interface.py",
    "VersionDiffers": "test_interface.py",
    "DigestDiffers": "test_interface.py",
    "ConfigDiffers": "test_config_delivery.py",
    "ConfigEdited": "test_config_delivery.py",
    "StatusUnknown": "test_bad_input.py",
    "Confirming": "test_watch.py",
    "RolledBack": "test_rollback.py",
    "Quarantined": "test_rollback.py",
    "BackingOff": "test_backoff.py",
    "Pinned": "test_holds.py",
    "HeldByOperator": "test_holds.py",
    "DigestMismatch": "test_backoff.py",
    "UnpackRefused": "test_bad_input.py",
    "StateSetAside": "test_bad_input.py",
    "StopFailed": "test_backoff.py",
    "StartFailed": "test_rollback.py",
    "DiskTooSmall": "../system/test_disk.py",
    "SignatureInvalid": "test_signed.py",
    "SudoRefused": "../system/test_users.py",
    "UserMissing": "../system/test_users.py",
    "Healing": "test_hanging_servers.py",
    "NotYet": "test_fleet_rules.py",
    "OutsideWindow": "test_fleet_rules.py",
    "WaitingForPlace": "test_fleet_lock.py",
}
# One is a defect of ours, of the tools a host always has the one that counts here, the others are not met.
NOT_FOLLOWED = {"InternalError", "ToolMissing", "ControlMissing", "RunUserChanged", "InterpreterMissing"}


def met(host: Host, reason: str) -> None:
    """A pass meets the reason."""
    applied = host.apply()
    assert applied.condition("Ready")[1] == reason, applied


def well(host: Host) -> None:
    """As desired, in this pass or, where something new was started, in the one that finds it good."""
    applied = host.apply()
    if applied.condition("Ready")[1] == "Confirming":
        applied = host.apply()
    assert (applied.code, applied.condition("Ready")) == (0, WELL), applied


def not_running(host: Host) -> None:
    host.install()
    host.settle()
    host.crash()
    assert host.plan().agent()["reason"] == "NotRunning"
    well(host)


def unexpectedly_running(host: Host) -> None:
    host.install()
    host.desire("1.0.0", "stop")
    assert host.plan().agent()["reason"] == "UnexpectedlyRunning"
    well(host)
    assert host.pid() is None


def observe_only(host: Host) -> None:
    """Nothing to do: what is wanted is that nothing is done."""
    pid = host.install()
    host.settle()
    host.desire("2.0.0", "")
    applied = host.apply()
    assert (applied.code, applied.condition("Ready")) == (0, ("True", "ObserveOnly"))
    assert host.pid() == pid


def nothing_desired(host: Host) -> None:
    host.install()
    host.settle()
    host.meta.desire()
    assert host.apply().agent()["reason"] == "NothingDesired"
    host.desire("1.0.0")  # the host was added at ops-meta
    well(host)


def work_dir_missing(host: Host) -> None:
    host.publish("1.0.0")
    deep = host.work / "not" / "there"
    host.desire("1.0.0", workDir=str(deep))
    met(host, "WorkDirMissing")
    deep.mkdir(parents=True)
    host.updater("release", NAME)
    well(host)
    assert host.version(f"not/there/{NAME}") == "1.0.0"


def invalid_spec(host: Host) -> None:
    host.install()
    host.settle()
    host.desire("1.0.0", "restart")
    refused = host.apply()
    assert (refused.code, refused.document["refused"][0]["reason"]) == (3, "InvalidSpec")
    host.desire("1.0.0")
    well(host)


def policy_refused(host: Host) -> None:
    host.publish("1.0.0")
    host.desire("1.0.0", workDir="/etc")
    refused = host.apply().document["refused"][0]
    assert (refused["reason"], refused["rule"]) == ("PolicyRefused", "work_dir")
    host.desire("1.0.0")
    well(host)


def server_unreachable(host: Host) -> None:
    pid = host.install()
    host.settle()
    right = host.meta.server
    host.configure(server="127.0.0.1:1")
    host.publish("2.0.0")
    host.desire("2.0.0")
    assert host.apply().condition("ServerReachable", None) == ("False", "ServerUnreachable")
    assert host.pid() == pid
    host.configure(server=right)
    well(host)
    assert host.version() == "2.0.0"


def response_invalid(host: Host) -> None:
    pid = host.install()
    host.settle()
    page = host.folder / "page.html"
    page.write_text("<html>a proxy's page</html>")
    host.configure(server=None, desired=str(page))
    answered = host.apply().condition("ServerReachable", None)
    assert answered == ("False", "ResponseInvalid")
    assert host.pid() == pid
    page.write_text(json.dumps({"errorMessage": "", "desiredAgents": [host.meta.agent(NAME, "1.0.0")]}))
    well(host)


def fetch_failed(host: Host) -> None:
    """The 404 of a digest file: the other meaning of `md5` was meant."""
    host.publish("1.0.0")
    host.desire("1.0.0", md5=f"{host.meta.url}/not/there")
    met(host, "FetchFailed")
    host.desire("1.0.0")
    host.updater("release", NAME)
    well(host)


def write_failed(host: Host) -> None:
    """Something is in the way, at the path that the message names."""
    host.install()
    host.settle()
    host.publish("2.0.0")
    host.desire("2.0.0")
    cache = host.var / "cache"
    shutil.rmtree(cache)
    cache.write_text("somebody's notes")
    refused = host.apply()
    ready = refused.agent()["conditions"][0]
    assert ready["reason"] == "WriteFailed", refused
    assert str(cache) in ready["message"]
    cache.unlink()
    host.updater("release", NAME)
    well(host)


def home_busy(host: Host) -> None:
    host.install()
    host.settle()
    host.publish("2.0.0")
    host.desire("2.0.0")
    with home_lock(host.home()):  # what another updater does while it acts
        met(host, "HomeBusy")
    host.updater("release", NAME)
    well(host)


def control_timeout(host: Host) -> None:
    """A merely slow start, for which the limit is too low."""
    host.install()
    host.settle()
    control = host.home() / "1.0.0" / "control"
    slow = control.read_text().replace("start() {\n", 'start() {\n    [ -e "$0.slow" ] && sleep 3\n', 1)
    control.write_text(slow)
    control.with_name("control.slow").touch()
    host.crash()
    host.configure(control_timeout={"start": 1})
    met(host, "ControlTimeout")
    host.configure(control_timeout={"start": 30})
    host.updater("release", NAME)
    well(host)


def work_dir_changed(host: Host) -> None:
    host.install()
    host.settle()
    elsewhere = host.work.with_name("elsewhere")
    host.desire("1.0.0", workDir=str(elsewhere))
    assert host.status("--offline").condition("Ready") == WELL, "of the last answer"
    assert host.plan().agent()["reason"] == "WorkDirChanged"
    well(host)  # the next pass moves it
    assert (elsewhere / NAME / ".version").read_text() == "1.0.0"


FOLLOWED: dict[str, Callable[[Host], None]] = {
    "NotRunning": not_running,
    "UnexpectedlyRunning": unexpectedly_running,
    "ObserveOnly": observe_only,
    "NothingDesired": nothing_desired,
    "WorkDirChanged": work_dir_changed,
    "PolicyRefused": policy_refused,
    "InvalidSpec": invalid_spec,
    "ServerUnreachable": server_unreachable,
    "ResponseInvalid": response_invalid,
    "FetchFailed": fetch_failed,
    "WriteFailed": write_failed,
    "WorkDirMissing": work_dir_missing,
    "HomeBusy": home_busy,
    "ControlTimeout": control_timeout,
}


@pytest.mark.parametrize("reason", FOLLOWED)
def test_the_remedy_helps(host: Host, reason: str) -> None:
    FOLLOWED[reason](host)


def test_no_reason_is_forgotten() -> None:
    assert set(REASONS) == {*FOLLOWED, *ELSEWHERE, *NOT_FOLLOWED}


@pytest.mark.parametrize(("reason", "file"), ELSEWHERE.items())
def test_what_is_followed_elsewhere_is_there(reason: str, file: str) -> None:
    assert f'"{reason}"' in (Path(__file__).parent / file).read_text(encoding="utf-8")

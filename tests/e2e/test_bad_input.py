"""Bad tarballs, control scripts, entries: a clear reason naming it, the running agent untouched, its sibling served."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.host import NAME, Host
from tests.support.sample_agents import build
from updater.demo import agent as agents

pytestmark = [pytest.mark.slow, pytest.mark.warm]

GOOD = build(NAME, "2.0.0", lifetime=600)


def packed(*members: tarfile.TarInfo, control: bool = True) -> bytes:
    """A tarball of these members, behind a good control script."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        if control:
            content = b"#!/bin/sh\necho started\n"
            tar.addfile(_file("control", len(content), 0o755), io.BytesIO(content))
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return target.getvalue()


def _file(path: str, size: int = 1, mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.size, member.mode = size, mode
    return member


def _link(path: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type, member.linkname = kind, target
    return member


EVIL: dict[str, bytes] = {
    "truncated": GOOD[:-100],
    "not gzip": b"PK\x03\x04 some other archive",
    "empty": b"",
    "a wrong checksum": GOOD[:-8] + b"\0\0\0\0" + GOOD[-4:],
    "garbage behind its end": GOOD + b"garbage",
    "a path above": packed(_file("../outside")),
    "an absolute path": packed(_file("/tmp/outside")),
    "a link that leads out": packed(_link("out", "../../..")),
    "a hard link that leads out": packed(_link("passwd", "/etc/passwd", tarfile.LNKTYPE)),
    "a file through a link": packed(_link("dir", "/tmp"), _file("dir/outside")),
    "a device": packed(_link("null", "", tarfile.CHRTYPE)),
    "a marker of ours": packed(_file(".ops-updater.json")),
    "no control": packed(_file("README"), control=False),
    "a link in a file's place": packed(_file("twice"), _link("twice", "control")),
}


def test_evil_tarballs_are_refused_with_the_agent_running_on(host: Host) -> None:
    pid = host.install("1.0.0")
    outside = set(host.folder.parent.iterdir())

    for what, tarball in EVIL.items():
        host.meta.publish(NAME, "2.0.0", tarball)
        host.desire("2.0.0")
        result = host.apply()

        assert result.code == 3, what
        assert result.condition("Ready") == ("False", "UnpackRefused"), (what, result.out)
        assert result.agent()["conditions"][0]["message"], what
        assert host.pid() == pid, what
        assert sorted(os.listdir(host.home())) == [".start.log", ".version", "1.0.0"], what
    assert set(host.folder.parent.iterdir()) == outside
    assert not Path("/tmp/outside").exists()

    host.meta.publish(NAME, "2.0.0", GOOD)
    host.desire("2.0.0")
    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"


def test_a_corrupt_tarball_never_reaches_the_home_and_its_sibling_is_served(host: Host) -> None:
    pid = host.install("1.0.0")
    for name in (NAME, "sibling"):
        host.publish("2.0.0", name)
    host.meta.desire(host.meta.agent(NAME, "2.0.0"), host.meta.agent("sibling", "2.0.0"))
    host.meta.corrupt(NAME, "2.0.0")

    result = host.apply()

    assert result.code == 3
    assert result.condition("Ready") == ("False", "DigestMismatch")
    results = [action["result"] for action in result.agent()["actions"]]
    assert results == ["done", "failed", "skipped", "skipped", "skipped", "skipped"]
    assert host.pid() == pid
    assert sorted(os.listdir(host.home())) == [".start.log", ".version", "1.0.0"]
    assert host.ask("sibling").version == "2.0.0"
    assert not list((host.var / "cache").glob("*.part*")), "bytes that are no good are thrown away"


def test_two_digests_must_both_be_right(host: Host) -> None:
    pid = host.install("1.0.0")
    host.publish("2.0.0")
    host.desire("2.0.0", sha256="0" * 64)

    result = host.apply()

    assert (result.code, result.condition("Ready")) == (3, ("False", "DigestMismatch"))
    assert host.pid() == pid


Spoil = Callable[[Path], object]

SPOILT: dict[str, tuple[Spoil, str]] = {
    "it is not executable": (lambda control: control.chmod(0o644), "not executable"),
    "it has no first line": (lambda control: control.write_text("echo started\n"), "#!"),
    "its interpreter is missing": (lambda control: control.write_text("#!/nowhere/sh\n"), "/nowhere/sh"),
    "it says nothing": (lambda control: control.write_text("#!/bin/sh\n"), ""),
    "it says what is not understood": (lambda control: control.write_text("#!/bin/sh\necho so so\n"), "so so"),
    "it says that it is not started": (lambda control: control.write_text("#!/bin/sh\necho not started\n"), "not"),
}


def test_a_status_that_can_not_be_understood_never_starts_or_stops_anything(host: Host) -> None:
    pid = host.install("1.0.0")
    control = host.home() / "1.0.0" / "control"
    good = control.read_bytes()

    for what, (spoil, says) in SPOILT.items():
        spoil(control)
        result = host.apply()

        assert (result.code, result.actions()) == (3, ""), what
        assert result.condition("Ready") == ("Unknown", "StatusUnknown"), what
        assert says in result.agent()["message"], (what, result.agent()["message"])
        assert host.pid() == pid, what
        assert (host.meta.reported(NAME) or {})["status"] not in ("started", "stoped"), what
        control.write_bytes(good)
        control.chmod(0o755)
    assert host.apply().code == 0


def test_a_control_that_vanished_is_no_reason_to_start_a_second_copy(host: Host) -> None:
    pid = host.install("1.0.0")
    (host.home() / "1.0.0" / "control").unlink()

    result = host.apply()

    assert (result.code, result.actions()) == (3, "")
    assert result.condition("Ready") == ("Unknown", "StatusUnknown")
    assert str(pid) in result.agent()["message"]
    assert host.pid() == pid
    assert agents.running_below(host.work) == (pid,)


def test_an_agent_that_runs_without_its_version_file_is_not_joined_by_a_second_copy(host: Host) -> None:
    pid = host.install("1.0.0")
    (host.home() / ".version").unlink()

    result = host.apply()

    assert (result.code, result.actions()) == (3, "")
    assert result.condition("Ready") == ("Unknown", "StatusUnknown")
    assert "1.0.0" in result.agent()["message"]
    assert agents.running_below(host.work) == (pid,)


@pytest.mark.parametrize("content", [b"", b"\x00\xff\n", b"7.7.7", b"../1.0.0"])
def test_a_broken_version_file_is_no_reason_to_start_a_second_copy(host: Host, content: bytes) -> None:
    pid = host.install("1.0.0")
    (host.home() / ".version").write_bytes(content)

    assert host.apply().code == 3

    assert agents.running_below(host.work) == (pid,)


def test_a_hanging_status_costs_its_time_limit_and_no_other_agent(host: Host) -> None:
    pid = host.install("1.0.0")
    host.configure(control_timeout={"status": 2})  # enough for the sibling's
    (host.home() / "1.0.0" / "control").write_text("#!/bin/sh\nexec sleep 600\n")
    host.publish("1.0.0", "sibling")
    host.meta.desire(host.meta.agent(NAME, "1.0.0"), host.meta.agent("sibling", "1.0.0"))

    result = host.apply()

    assert result.code == 3
    assert result.condition("Ready") == ("Unknown", "StatusUnknown")
    assert result.condition("Ready", "sibling") == ("True", "Confirming")
    assert host.ask("sibling").version == "1.0.0"
    assert host.pid() == pid
    [reported] = [agent for agent in host.meta.heartbeats[-1]["realAgents"] if agent["name"] == NAME]
    assert reported["status"] == "no answer within 2 s"


def test_a_start_that_does_nothing_is_said_and_the_next_version_gets_its_chance(host: Host) -> None:
    host.configure(control_timeout={"start": 2})
    host.publish("1.0.0", broken_start=True)
    host.desire("1.0.0")

    broken = host.apply()
    assert (broken.code, broken.condition("Ready")) == (3, ("False", "StartFailed"))
    assert host.pid() is None

    host.publish("1.0.1")
    host.desire("1.0.1")
    host.configure(control_timeout=None)
    assert host.apply().code == 0
    assert host.ask().version == "1.0.1"


def test_a_stop_that_fails_switches_nothing(host: Host) -> None:
    """`control stop` says that it did it, and the agent ignores the signal."""
    host.configure(control_timeout={"stop": 1})
    pid = host.install("1.0.0", ignores_term=True)
    host.publish("2.0.0")
    host.desire("2.0.0")

    result = host.apply()

    assert (result.code, result.condition("Ready")) == (3, ("False", "StopFailed"))
    assert host.version() == "1.0.0"
    assert host.pid() == pid
    assert agents.running_below(host.work) == (pid,)


def test_refused_entries_are_reported_with_their_rule_and_the_others_served(host: Host) -> None:
    host.publish("1.0.0")
    good = host.meta.agent(NAME, "1.0.0")
    entries: dict[str, tuple[str, str, dict[str, Any]]] = {
        "../evil": ("InvalidSpec", "name", {}),
        "other-user": ("UserMissing", "run_user", {"runUser": "no-such-user"}),
        "system-folder": ("PolicyRefused", "work_dir", {"workDir": "/etc"}),
        "relative": ("InvalidSpec", "work_dir", {"workDir": "agents"}),
        "unknown-cmd": ("InvalidSpec", "cmd", {"cmd": "restart"}),
        "no-version": ("InvalidSpec", "version", {"version": ""}),
        "no-tarball": ("InvalidSpec", "tarball", {"tarball": ""}),
        "wrong-type": ("InvalidSpec", "form", {"version": 7.5}),
        "free-text": ("InvalidSpec", "md5", {"md5": "ask Bob"}),
        "own-folder": ("PolicyRefused", "own_folder", {"workDir": str(host.folder.parent), "name": host.folder.name}),
    }
    host.meta.desire(good, *({**good, "name": name, **keys} for name, (_, _, keys) in entries.items()))

    result = host.apply()

    assert result.code == 3
    expected = {name: (reason, rule) for name, (reason, rule, _) in entries.items()}
    expected[host.folder.name] = expected.pop("own-folder")
    reported = {entry["name"]: (entry["reason"], entry["rule"]) for entry in result.document["refused"]}
    assert reported == expected
    assert all(entry["message"] for entry in result.document["refused"])
    assert host.ask().version == "1.0.0"
    assert sorted(os.listdir(host.work)) == [NAME], "nothing was made for any of them"


def test_two_entries_for_one_home_are_both_refused(host: Host) -> None:
    pid = host.install("1.0.0")
    host.publish("2.0.0")
    host.meta.desire(host.meta.agent(NAME, "1.0.0"), host.meta.agent(NAME, "2.0.0"))

    result = host.apply()

    assert result.code == 3
    assert [entry["rule"] for entry in result.document["refused"]] == ["one_home", "one_home"]
    assert host.pid() == pid


def test_a_user_that_changed_at_the_server_is_refused_and_the_agent_untouched(host: Host) -> None:
    pid = host.install("1.0.0")
    host.desire("1.0.0", runUser="no-such-user")

    result = host.apply()

    assert result.code == 3
    assert [(entry["name"], entry["rule"]) for entry in result.document["refused"]] == [(NAME, "run_user")]
    assert host.pid() == pid


def test_a_memory_that_is_damaged_is_set_aside_and_the_disk_counts(host: Host) -> None:
    pid = host.install("1.0.0")
    (host.var / "state.db").write_bytes(b"no database at all" * 100)

    result = host.apply()

    assert result.code == 0
    assert result.actions() == ""
    assert host.pid() == pid
    assert result.condition("StateStored", None) == ("False", "StateSetAside")
    assert list(host.var.glob("state.db.set-aside-*"))
    assert host.apply().condition("StateStored", None) == ("True", "AsDesired")


def test_a_tarball_may_be_very_compressible(host: Host) -> None:
    """Refusing bombs must not refuse these."""
    host.install("1.0.0", extra={"zeros": bytes(5_000_000)})
    assert (host.home() / "1.0.0" / "zeros").stat().st_size == 5_000_000


def test_a_tarball_that_can_not_be_had_leaves_no_home_behind(host: Host) -> None:
    """Nor does one that isn't what its digest says."""
    host.desire("9.9.9")
    assert host.apply().condition("Ready") == ("False", "FetchFailed")
    assert not host.home().exists()
    host.publish("1.0.0")
    host.desire("1.0.0", md5="0" * 32)
    assert host.apply().condition("Ready") == ("False", "DigestMismatch")
    assert not host.home().exists()


@pytest.mark.parametrize("is_there", [False, True], ids=["no workDir", "a workDir"])
def test_a_first_version_that_is_refused_leaves_no_home_behind(host: Host, is_there: bool) -> None:
    """What was made for it alone goes again; a workDir that was there stays, and so does a home."""
    if is_there:
        host.work.mkdir(exist_ok=True)
    host.meta.publish(NAME, "1.0.0", b"no gzip file, as its digest says" * 100)
    host.desire("1.0.0")
    for _ in range(2):
        assert host.apply().condition("Ready") == ("False", "UnpackRefused")
        assert host.work.exists() == is_there
        assert not host.home().exists()
        host.updater("release", NAME)
    host.home().mkdir(parents=True)
    assert host.apply().condition("Ready") == ("False", "UnpackRefused")
    assert host.home().exists()
    host.publish("1.0.1")
    host.desire("1.0.1")
    assert host.apply().code == 0

"""The units in contrib/systemd, read by systemd itself. They are not run here: that would take a machine of its own."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.host import ROOT

ANALYZE = shutil.which("systemd-analyze", path=f"{os.environ.get('PATH', '')}:/usr/bin")
UNITS = sorted((ROOT / "contrib" / "systemd").iterdir())
# What agents would inherit, or what would end them with us.
SANDBOX = (
    "Protect",
    "Private",
    "Restrict",
    "NoNewPrivileges",
    "ReadOnly",
    "Inaccessible",
    "Memory",
    "CapabilityBounding",
)

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(ANALYZE is None, reason="needs Debian's systemd; `./control test --system` installs it"),
]


def read(unit: Path) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(unit)
    return found


def test_systemd_has_nothing_to_say_against_them(tmp_path: Path) -> None:
    updater = tmp_path / ".venv" / "bin" / "updater"
    updater.parent.mkdir(parents=True)
    updater.write_text("#!/bin/sh\n")
    updater.chmod(0o755)
    copies = []
    for unit in UNITS:
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(unit.read_text().replace("/opt/ops-updater", str(tmp_path)))
    command = [str(ANALYZE), "verify", "--man=no", *map(str, copies)]
    ran = subprocess.run(command, capture_output=True, text=True)
    about_ours = [line for line in (ran.stdout + ran.stderr).splitlines() if "ops-updater" in line]
    assert (ran.returncode, about_ours) == (0, [])

    copies[-1].write_text(copies[-1].read_text().replace("[Service]", "[Service]\nType=nonsense"))
    wrong = subprocess.run(command, capture_output=True, text=True)
    assert "nonsense" in wrong.stderr  # it looks


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: str(unit.name))
def test_a_stop_leaves_the_agents_and_nothing_confines_them(unit: Path) -> None:
    service = read(unit)["Service"]
    assert (service["KillMode"], service["OOMPolicy"], service["TasksMax"]) == ("process", "continue", "infinity")
    assert service["TimeoutStopSec"] == "125"
    assert [key for key in service if key.startswith(SANDBOX)] == []

"""The Debian package on a machine of its own: the real dpkg, on a private copy of this system's folders
(overlays in a mount namespace). An agent runs through all of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ops_meta import OpsMetaServer
from tests.support.page_shell import blocks
from tests.support.sample_agents import build
from tests.system.test_pack import ROOT, SYSTEM_PYTHON, pack
from updater.demo import agent as agents

NAME = "falcon-agent"
_LIMIT_S = 300

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="dpkg needs root"),
    pytest.mark.skipif(shutil.which("dpkg") is None, reason="needs dpkg"),
    pytest.mark.skipif(shutil.which("mandoc") is None, reason="needs mandoc; `./control test --system` installs it"),
    pytest.mark.skipif(shutil.which("man") is None, reason="needs man; `./control test --system` installs it"),
    pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="needs the system's python3"),
    pytest.mark.usefixtures("unsharing"),
]

STORY = """\
set -eu
mount -t tmpfs own /mnt
for folder in usr etc var opt; do
    mkdir -p /mnt/$folder/upper /mnt/$folder/work
    mount -t overlay -o lowerdir=/$folder,upperdir=/mnt/$folder/upper,workdir=/mnt/$folder/work own /$folder
done
mount -t tmpfs own /run
rm -rf /opt/ops-updater
unset PYTHON

echo "== install"
dpkg -i "$DEB"
updater --version
cp "$CONFIG" /opt/ops-updater/cfg.json
cd /
updater -c /opt/ops-updater/cfg.json apply --once
/opt/ops-updater/control start
/opt/ops-updater/control status
cat "$HOME_OF_AGENT/.version"; echo

echo "== the manual page"
man -w updater
man --warnings updater 2>&1 >/dev/null
mandoc -T lint -W warning "$(man -w updater)" | grep -v "missing date" || true
for page in $(sed -n 's,^Documentation=file://,,p' /usr/lib/systemd/system/ops-updater*); do [ -f "$page" ]; done

echo "== upgrade"
old=$(/opt/ops-updater/control pid)
cd "$(dirname "$DEB")"
{upgrade}
/opt/ops-updater/control status
[ "$(/opt/ops-updater/control pid)" != "$old" ]
updater -c /opt/ops-updater/cfg.json status -q --detailed-exitcode
cd /

echo "== remove"
old=$(/opt/ops-updater/control pid)
{remove}
! kill -0 "$old" 2>/dev/null
ls -A /opt/ops-updater
! [ -e /usr/bin/updater ]

echo "== install again"
dpkg -i "$DEB"
updater -c /opt/ops-updater/cfg.json history -o json | grep -c FirstInstall
/opt/ops-updater/control start
/opt/ops-updater/control status

echo "== purge"
old=$(/opt/ops-updater/control pid)
{purge}
! kill -0 "$old" 2>/dev/null
! [ -e /opt/ops-updater ]

echo "== under systemd"
mkdir -p /run/systemd/system /opt/stand-in
printf '#!/bin/sh\necho "systemctl $*"\n' >/opt/stand-in/systemctl
chmod +x /opt/stand-in/systemctl
PATH=/opt/stand-in:$PATH
dpkg -i "$DEB"
echo "-- upgrade"
dpkg -i "$DEB"
echo "-- remove"
dpkg -P ops-updater
"""


def page_story() -> str:
    """The story, with the commands of docs/upgrade.md. What `check` says of this machine does not matter here."""
    [upgrade] = [block for block in blocks("upgrade.md") if "dpkg -i" in block]
    text = (ROOT / "docs" / "upgrade.md").read_text(encoding="utf-8")
    [remove, purge] = re.findall(r"`(dpkg -[rP] ops-updater)`", text)
    return (
        STORY.replace("{upgrade}", upgrade.replace(" check\n", " check || [ $? = 3 ]\n"))
        .replace("{remove}", remove)
        .replace("{purge}", purge)
    )


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory, unsharing: None) -> Path:
    return pack(tmp_path_factory.mktemp("deb"), "--deb")


@pytest.fixture
def meta(tmp_path: Path) -> Iterator[OpsMetaServer]:
    with OpsMetaServer(work_dir=tmp_path / "agents") as meta:
        yield meta
    agents.end_all(tmp_path)


def test_install_upgrade_remove_and_purge_leave_a_running_agent_alone(
    deb: Path, meta: OpsMetaServer, tmp_path: Path
) -> None:
    meta.publish(NAME, "1.0.0", build(NAME, "1.0.0", lifetime=600))
    meta.desire(meta.agent(NAME, "1.0.0", "start"))
    config = tmp_path / "cfg.json"
    config.write_text(json.dumps({"server": meta.server, "hostname": "deb-01", "interval": 300, "watch": 0}))
    home = tmp_path / "agents" / NAME
    environ = {**os.environ, "DEB": str(deb), "CONFIG": str(config), "HOME_OF_AGENT": str(home)}
    ran = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", page_story()],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    parts = {part.partition("\n")[0]: part for part in ran.stdout.split("== ")}
    assert "make /opt/ops-updater/cfg.json from cfg.example.json" in parts["install"]
    assert "\nstarted\n1.0.0\n" in parts["install"]
    assert parts["upgrade"].count("\nstoped\n") == parts["upgrade"].count("\nstarted\n") == 1
    assert "\ncfg.json\nvar\n" in parts["remove"]
    assert "\n1\n" in parts["install again"]
    _, page, *complaints = parts["the manual page"].splitlines()
    assert (page, complaints) == ("/usr/share/man/man1/updater.1", [])
    fresh, again, gone = parts["under systemd"].split("-- ")
    assert "systemctl daemon-reload" in fresh
    assert "systemctl start" not in fresh, "it starts nothing by itself"
    assert re.search(r"systemctl stop ops-updater\.service\n.*systemctl start ops-updater\.service", again, re.DOTALL)
    assert "systemctl stop ops-updater.service" in gone
    assert "systemctl disable --quiet --now ops-updater.service ops-updater-once.timer" in gone
    said = agents.ask(home, within=60)
    assert said.version == "1.0.0"
    started = [line for line in (home / ".start.log").read_text().splitlines() if "start" in line]
    assert agents.pid_of(home) == said.pid, started


def test_the_same_sources_make_the_same_package(deb: Path, tmp_path: Path) -> None:
    assert pack(tmp_path, "--deb").read_bytes() == deb.read_bytes()

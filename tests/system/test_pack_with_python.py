"""A pack that takes a Python and signatures along, on a host without any Python (a mount namespace hides it): its
daemon installs what the real minisign signed, and nothing else. Needs root and the package index."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.host import NAME
from tests.e2e.processes import end_all_in, until
from tests.support.ops_meta import OpsMetaServer, host_arch
from tests.support.sample_agents import build
from tests.system.test_pack import SYSTEM_PYTHON, pack

MINISIGN = shutil.which("minisign")

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root"),
    pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="needs the system's python3, which is taken along"),
    pytest.mark.skipif(MINISIGN is None, reason="needs Debian's minisign; `./control test --system` installs it"),
    pytest.mark.usefixtures("unsharing"),
]

# Every Python of this machine is out of sight, and its library, too.
WITHOUT_PYTHON = """\
set -eu
mount -t tmpfs own /mnt
mkdir /mnt/upper /mnt/work /mnt/empty
mount -t overlay -o lowerdir=/usr,upperdir=/mnt/upper,workdir=/mnt/work own /usr
rm -rf /usr/bin/python* /usr/local/bin/python* /usr/lib/python3* /usr/local/lib/python3*
for folder in $HIDDEN; do mount --bind /mnt/empty "$folder"; done
unset PYTHON PYENV_ROOT
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
if command -v python3 || command -v python; then exit 99; fi
cd "$FOLDER"
"""
CONTROL = """#!/bin/sh
cd "$(dirname "$0")"
running() { [ -f pid ] && kill -0 "$(cat pid)" 2>/dev/null; }
case $1 in
start) nohup sleep 600 </dev/null >app.log 2>&1 & echo $! >pid ;;
stop) kill "$(cat pid)" ;;
status) if running; then echo started; else echo stoped; fi ;;
esac
"""


def relocatable(folder: Path) -> Path:
    """A Python that can be moved, made of the system's: its program and its library, without links that lead out."""
    named = subprocess.run(
        [SYSTEM_PYTHON, "-I", "-c", "import sys, os; print(os.path.realpath(sys.executable), os.__file__)"],
        check=True,
        capture_output=True,
        text=True,
    )
    program, library = map(Path, named.stdout.split())
    into = folder / "lib" / library.parent.name

    def left_out(where: str, names: list[str]) -> list[str]:
        leads_out = [name for name in names if not Path(where, name).resolve().is_relative_to(library.parent)]
        return [*leads_out, *({"test", "__pycache__", "dist-packages"} & set(names))]

    shutil.copytree(library.parent, into, symlinks=True, ignore=left_out)
    (folder / "bin").mkdir()
    shutil.copy(program, folder / "bin" / "python3")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, unsharing: None) -> Path:
    """An unpacked pack."""
    made = tmp_path_factory.mktemp("made")
    python = relocatable(tmp_path_factory.mktemp("python"))
    tarball = pack(made, "--with", "web,signatures", "--python", str(python))
    folder = tmp_path_factory.mktemp("host") / "ops-updater"
    with tarfile.open(tarball) as tar:
        tar.extraction_filter = lambda member, path: member  # it is ours; Python 3.12 and 3.13 warn without one
        tar.extractall(folder)
    shutil.rmtree(python)
    return folder


@pytest.fixture
def meta(tmp_path: Path) -> Iterator[OpsMetaServer]:
    with OpsMetaServer(work_dir=tmp_path / "agents") as meta:
        yield meta
    end_all_in(tmp_path)


def on_the_host(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run it where no Python is to be seen but the pack's own."""
    hidden = sorted({sys.prefix, sys.base_prefix} - {"/usr", "/usr/local"})
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", WITHOUT_PYTHON + script],
        env={**os.environ, "FOLDER": str(folder), "HIDDEN": " ".join(hidden)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


def publish(meta: OpsMetaServer, keys: Path, version: str, signed_as: str) -> None:
    """Publish a release, signed by the real minisign for this version."""
    tarball = keys / "tarball"
    tarball.write_bytes(build(NAME, version, control=CONTROL))
    comment = f"{host_arch()}/{NAME}-{signed_as}.tar.gz"
    subprocess.run(
        ["minisign", "-S", "-s", "ops.key", "-m", "tarball", "-t", comment], cwd=keys, check=True, capture_output=True
    )
    minisig = (keys / "tarball.minisig").read_bytes()
    meta.publish(NAME, version, tarball.read_bytes(), minisig=minisig)
    meta.desire(meta.agent(NAME, version, "start"))


def test_its_daemon_verifies_signatures_without_any_python_of_the_host(
    folder: Path, meta: OpsMetaServer, tmp_path: Path
) -> None:
    subprocess.run(
        ["minisign", "-G", "-W", "-p", "ops.pub", "-s", "ops.key"], cwd=tmp_path, check=True, capture_output=True
    )
    key = (tmp_path / "ops.pub").read_text().splitlines()[1]
    config = {"server": meta.server, "hostname": "host-1", "interval": 1, "watch": 0, "trusted_keys": [key]}
    (folder / "cfg.json").write_text(json.dumps({**config, "http": {"enabled": True, "listen": "127.0.0.1:0"}}))
    version = tmp_path / "agents" / NAME / ".version"
    publish(meta, tmp_path, "1.0.0", "1.0.0")

    started = on_the_host(folder, "./updater check --offline; ./control start && ./control status\n")
    try:
        assert started.returncode == 0, f"{started.stdout}\n{started.stderr}"
        assert started.stdout.endswith("\nstarted\n")
        assert "all tools that it needs are there" in started.stdout, "PyNaCl, and what the page needs"
        until(lambda: version.exists() and version.read_text() == "1.0.0", "what is signed is installed")
        publish(meta, tmp_path, "2.0.0", signed_as="1.0.0")
        log = folder / "var" / "app.log"
        until(lambda: "SignatureInvalid" in log.read_text(), "what is signed as another version is refused")
        assert version.read_text() == "1.0.0"
        pid = (folder / "var" / "app.pid").read_text().strip()
        assert os.readlink(f"/proc/{pid}/exe") == str(folder / "python" / "bin" / "python3")
    finally:
        stopped = on_the_host(folder, "./control stop\n")
    assert stopped.stdout == "stoped\n", stopped

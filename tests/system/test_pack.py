"""A packed updater on a host with no network but loopback and no Python but the system's own: what it can do there.

It is made once, with wheels from the package index, and unpacked below a path with spaces. Each command is run in a
network of its own (`unshare -n`), with an empty environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import until
from tests.support.ops_meta import OpsMetaServer
from tests.support.page_shell import blocks, page_shell
from tests.support.sample_agents import build, build_file
from updater.demo import agent as agents
from updater.version import VERSION

ROOT = Path(__file__).parents[2]
SYSTEM_PYTHON = Path("/usr/bin/python3")
# Loopback is down in a new network; this brings it up (linux/sockios.h: SIOCSIFFLAGS, IFF_UP).
WITH_LOOPBACK = """\
import fcntl, os, socket, struct, sys
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 1))
os.execv(sys.argv[1], sys.argv[1:])
"""

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root"),
    pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="needs the system's python3"),
    pytest.mark.usefixtures("unsharing"),
]


def pack(folder: Path, *words: str) -> Path:
    command = [sys.executable, "-m", "updater.packaging.pack", "--out", str(folder), *words]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return Path(ran.stdout.splitlines()[0])


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory, unsharing: None) -> Path:
    return pack(tmp_path_factory.mktemp("dist"))


class Packed:
    """An unpacked pack."""

    def __init__(self, tarball: Path, folder: Path) -> None:
        self.folder = folder
        with tarfile.open(tarball) as tar:
            tar.extraction_filter = lambda member, path: member  # it is ours; Python 3.12 and 3.13 warn without one
            tar.extractall(folder)

    def configure(self, **keys: Any) -> None:
        (self.folder / "cfg.json").write_text(json.dumps({"hostname": "host-1", "server": "127.0.0.1:9", **keys}))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["unshare", "-n", str(SYSTEM_PYTHON), "-I", "-c", WITH_LOOPBACK, *words]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def control(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(self.folder / "control"), *words)


@pytest.fixture
def packed(tarball: Path, tmp_path: Path) -> Packed:
    return Packed(tarball, tmp_path / "a folder with spaces")


def test_the_same_sources_give_the_same_bytes(tarball: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
    assert hashlib.sha256(pack(tmp_path).read_bytes()).hexdigest() == digest


def test_it_starts_and_stops_as_a_daemon(packed: Packed) -> None:
    packed.configure()
    assert packed.control("status").stdout == "stoped\n"
    started = packed.control("start")
    try:
        assert started.stdout.startswith("started (pid "), started.stderr
        assert packed.control("status").stdout == "started\n"
        pid = packed.control("pid").stdout.strip()
        assert os.readlink(f"/proc/{pid}/exe") == str(SYSTEM_PYTHON.resolve())
    finally:
        assert packed.control("stop").stdout == "stoped\n"
    assert packed.control("status").stdout == "stoped\n"
    assert not (packed.folder / ".venv").exists()


def test_it_plans(packed: Packed, tmp_path: Path) -> None:
    entry = {"name": "falcon-agent", "version": "1.0.0", "cmd": "start", "tarball": "http://127.0.0.1:9/x"}
    (packed.folder / "desired.json").write_text(json.dumps({"desiredAgents": [{**entry, "md5": "0" * 32}]}))
    packed.configure(server=None, desired="desired.json", work_dir=str(tmp_path))
    ran = packed.control("plan")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "falcon-agent  FirstInstall" in ran.stdout


def test_it_shows_the_demo(packed: Packed) -> None:
    ran = packed.control("demo")
    assert ran.returncode == 0, ran.stdout[-2000:]
    assert "That was it" in ran.stdout


def test_it_lints(packed: Packed, tmp_path: Path) -> None:
    agent = build_file(tmp_path / "falcon-agent-1.0.0.tar.gz", "falcon-agent", "1.0.0", python=str(SYSTEM_PYTHON))
    ran = packed.run(str(packed.folder / "updater"), "lint", str(agent))
    assert (ran.returncode, ran.stderr) == (0, "")


def test_it_passes_our_own_lint(tarball: Path, packed: Packed) -> None:
    packed.configure()
    words = ["lint", "-o", "json", "--with", str(packed.folder / "cfg.json"), str(tarball)]
    ran = subprocess.run([sys.executable, "-m", "updater", *words], cwd=ROOT, capture_output=True, text=True)
    assert [check for check in json.loads(ran.stdout)["checks"] if check["result"] != "passed"] == []


def test_it_runs_on_the_interpreter_that_it_brings(tmp_path: Path) -> None:
    """A script stands in for one, and leaves a trace: real ones have 100 MB."""
    python = tmp_path / "py"
    (python / "bin").mkdir(parents=True)
    trace = tmp_path / "trace"
    (python / "bin" / "python3").write_text(f'#!/bin/sh\necho ran >>"{trace}"\nexec {SYSTEM_PYTHON} "$@"\n')
    (python / "bin" / "python3").chmod(0o755)
    packed = Packed(pack(tmp_path / "dist", "--python", str(python)), tmp_path / "host")
    trace.unlink()
    packed.configure()
    assert packed.control("plan").returncode == 69
    assert trace.exists()


def test_another_pack_takes_its_place_while_the_agent_runs_on(tarball: Path, tmp_path: Path) -> None:
    """By the commands of docs/upgrade.md. What `check` says of this machine does not matter here."""
    name, newer = "falcon-agent", tmp_path / "newer"
    [commands] = [block for block in blocks("upgrade.md") if "-new" in block]
    commands = commands.replace("/opt/ops-updater", f"{tmp_path}/ops-updater")
    commands = re.sub(r"^(\S+/updater -c \S+ check)$", r"\1 || [ $? = 3 ]", commands, flags=re.MULTILINE)
    packed = Packed(tarball, tmp_path / "ops-updater")
    version = packed.folder / "updater-lib" / "updater" / "version.py"
    version.write_text(version.read_text().replace(VERSION, "0.0.9"))
    newer.mkdir()
    shutil.copy(tarball, newer)
    with OpsMetaServer(work_dir=tmp_path / "agents") as meta:
        home = tmp_path / "agents" / name
        meta.publish(name, "1.0.0", build(name, "1.0.0", lifetime=600))
        meta.desire(meta.agent(name, "1.0.0", "start"))
        packed.configure(server=meta.server, interval=1, watch=0)
        with page_shell(newer, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}) as shell:
            shell.type(f"{packed.folder}/control start")
            try:
                until(lambda: meta.reported(name) is not None, "the agent runs")
                agent = agents.pid_of(home)
                shell.type(commands)
                until(lambda: meta.heartbeats[-1]["updaterVersion"] == VERSION, "the newer one reports")
            finally:
                shell.type(f"{packed.folder}/control stop")
            assert (agents.pid_of(home), (tmp_path / "ops-updater-old" / "control").exists()) == (agent, True)
            history = shell.type(f"{packed.folder}/updater -c {packed.folder}/cfg.json history")
            assert "FirstInstall" in history, "its memory came along"
    agents.end_all(tmp_path)


def test_an_optional_part_is_not_to_be_had(packed: Packed) -> None:
    ran = packed.control("setup", "--with", "web")
    assert (ran.returncode, "./control pack --with, in a checkout" in ran.stderr) == (64, True)


def test_its_help_names_no_verb_that_needs_a_checkout(packed: Packed) -> None:
    said = packed.control("help").stdout
    assert re.findall(r"^  (\w+) ", said, re.MULTILINE)[-2:] == ["demo", "help"]
    assert "Any other verb is handed to `updater`" in said


def test_its_hints_name_what_a_pack_has(packed: Packed) -> None:
    key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
    packed.configure(http={"enabled": True}, trusted_keys=[key])
    said = packed.run(
        str(packed.folder / "updater"), "-c", str(packed.folder / "cfg.json"), "check", "--offline"
    ).stdout
    for part in ("web", "signatures"):
        assert f"take a pack with it, which `./control pack --with {part}` makes in a checkout" in " ".join(
            said.split()
        )
    assert "control setup" not in said


@pytest.mark.parametrize("verb", ["test", "prove", "pack", "dist", "bench"])
def test_what_needs_a_checkout_says_so(verb: str, packed: Packed) -> None:
    ran = packed.control(verb)
    assert (ran.returncode, ran.stderr) == (64, f"control: {verb} needs a checkout, and this is a packed updater\n")

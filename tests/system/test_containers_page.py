"""docs/containers.md as it is written: its Dockerfile, carried out without docker on a copy of this system's folders
(overlays in namespaces), its command as PID 1 on a read-only root. Needs root and the package index."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from probes.host import processes
from tests.e2e.host import NAME
from tests.e2e.processes import end_all_in, until
from tests.support.ops_meta import OpsMetaServer, host_arch
from tests.support.page_shell import blocks
from tests.support.sample_agents import build
from tests.system.test_container import below, is_zombie
from tests.system.test_pack import SYSTEM_PYTHON, pack

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="needs the system's python3"),
    pytest.mark.skipif(shutil.which("useradd") is None, reason="needs useradd"),
    pytest.mark.usefixtures("unsharing"),
]

PAGE = "containers.md"
NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "sh"]
# Debian, as this machine has it; what is written goes to memory.
FROM = """\
set -eu
mount -t tmpfs own /mnt
for folder in usr etc var opt home; do
    mkdir -p /mnt/$folder/upper /mnt/$folder/work
    mount -t overlay -o lowerdir=/$folder,upperdir=/mnt/$folder/upper,workdir=/mnt/$folder/work own /$folder
done
mount -t tmpfs own /run
rm -rf /opt/ops-updater
rm -f /etc/*.lock  # of who edits users on this machine just now
"""
# A volume that is empty gets what the image has in that place, as docker has it.
VOLUME = """\
mkdir -p {path} {volume}
[ -n "$(ls -A {volume})" ] || cp -a {path}/. {volume}
chown --reference={path} {volume}
mount --bind {volume} {path}
"""
READ_ONLY = """\
for folder in usr etc var opt home; do mount -o remount,ro /$folder; done
mount --bind / /
mount -o remount,bind,ro /
mount -t tmpfs own /tmp
unset PYTHON
cd /
"""
# It judges by `kill -0` alone, as many do: a zombie counts as alive. Its stop takes a while.
CONTROL = """#!/bin/sh
cd "$(dirname "$0")"
running() { [ -f pid ] && kill -0 "$(cat pid)" 2>/dev/null; }
case $1 in
start) nohup /bin/sh ./agent.sh </dev/null >app.log 2>&1 & echo $! >pid ;;
stop) sleep 2; kill "$(cat pid)"; while running; do sleep 0.1; done ;;
status) if running; then echo started; else echo stoped; fi ;;
esac
"""
AGENT = b"for second in $(seq 600); do sleep 1; done\n"


class Image:
    """The page's image: how to make it, and what it runs."""

    def __init__(self, page: str, context: Path) -> None:
        [dockerfile] = blocks(page, "dockerfile")
        self.volumes: list[str] = []
        self.command: list[str] = []
        self._steps: list[str] = []
        for line in dockerfile.splitlines():
            word, _, rest = line.partition(" ")
            self._take(word, rest, context)

    def _take(self, word: str, rest: str, context: Path) -> None:
        if word in ("ADD", "COPY"):
            source, into = rest.split()
            self._steps.append(f"mkdir -p {into}")
            self._steps.append(
                f"tar xzf {context / source} -C {into}" if word == "ADD" else f"cp {context / source} {into}"
            )
        elif word == "RUN" and not rest.startswith("apt-get "):  # this machine has them
            self._steps.append(rest)
        elif word == "VOLUME":
            self.volumes = json.loads(rest)
        elif word == "CMD":
            self.command = json.loads(rest)

    def on_a_host(self, command: str) -> str:
        """The same files on the host itself, and a command there."""
        return "".join([FROM, *(f"{step}\n" for step in self._steps), command])

    def script(self, volumes: Path) -> str:
        """What a new container does, down to its first process."""
        mounts = [VOLUME.format(path=path, volume=volumes / str(number)) for number, path in enumerate(self.volumes)]
        return "".join(
            [FROM, *(f"{step}\n" for step in self._steps), *mounts, READ_ONLY, f"exec {shlex.join(self.command)}"]
        )


class Container:
    """One that runs. `first`: its first process, as it is seen from here."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.first = 0

    def has_come_up(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()[0]
        for pid in below(self.process.pid):
            with suppress(OSError):
                if b"updater" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    self.first = pid
        return self.first != 0 and below(self.first) != []

    def execute(self, command: str) -> subprocess.CompletedProcess[str]:
        """As `docker exec` does."""
        words = ["nsenter", "--target", str(self.first), "--pid", "--mount", "--root", "--wd", *shlex.split(command)]
        return subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def agent(self) -> int | None:
        """The agent's main process."""
        for pid in below(self.first):
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"agent.sh" in words and not is_zombie(pid):
                    return pid
        return None


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory, unsharing: None) -> Path:
    """The folder that the image is made from."""
    folder = tmp_path_factory.mktemp("context")
    made = pack(folder, "--with", "web,signatures", "--arch", host_arch())
    made.rename(folder / f"ops-updater-0.1.0-{host_arch()}.tar.gz")
    return folder


@pytest.fixture
def meta(tmp_path: Path) -> Iterator[OpsMetaServer]:
    with OpsMetaServer(work_dir=Path("/home/falcon/open-falcon")) as meta:
        yield meta
    end_all_in(tmp_path)


@pytest.fixture
def image(context: Path, meta: OpsMetaServer) -> Image:
    config = {"server": meta.server, "hostname": "liutian-01", "interval": 1, "watch": 0}
    (context / "cfg.json").write_text(json.dumps(config))
    image = Image(PAGE, context)
    assert image.volumes == ["/opt/ops-updater/var", "/home/falcon"]
    return image


def publish(meta: OpsMetaServer, version: str) -> None:
    meta.publish(NAME, version, build(NAME, version, control=CONTROL, extra={"agent.sh": AGENT}))
    meta.desire(meta.agent(NAME, version, "start", runUser="falcon"))


@contextmanager
def running(image: Image, volumes: Path) -> Iterator[Container]:
    process = subprocess.Popen(
        [*NAMESPACES, "-c", image.script(volumes)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    container = Container(process)
    try:
        until(container.has_come_up, "the updater is the first process")
        yield container
    finally:
        if process.poll() is None:
            for pid in below(process.pid):
                os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=60)


def reported(meta: OpsMetaServer) -> list[tuple[str, str, str]]:
    """What the last heartbeat said."""
    agents = meta.heartbeats[-1]["realAgents"] if meta.heartbeats else []
    return [(one["version"], one["status"], one["runUser"]) for one in agents]


def version_in(volumes: Path) -> str:
    path = volumes / "1" / "open-falcon" / NAME / ".version"
    return path.read_text() if path.exists() else ""


def log_in(volumes: Path) -> str:
    path = volumes / "0" / "app.log"
    return path.read_text() if path.exists() else ""


def test_the_image_runs_reaps_heals_and_finishes_a_change(image: Image, meta: OpsMetaServer, tmp_path: Path) -> None:
    volumes = tmp_path / "volumes"
    publish(meta, "1.0.0")
    with running(image, volumes) as container:
        until(lambda: reported(meta) == [("1.0.0", "started", "falcon")], "the agent runs as its user")
        [block] = [block for block in blocks(PAGE) if "docker exec" in block]
        [command] = re.findall(r"^docker exec agents (.+)$", block, re.MULTILINE)
        checked = container.execute(command)
        assert checked.returncode == 0, checked.stdout
        assert "processes that lost their parent are reaped" in checked.stdout
        assert container.execute("touch /opt/ops-updater/here").returncode != 0, "its root is read-only"

        killed = container.agent()
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        until(lambda: container.agent() not in (None, killed), "it is healed")

        publish(meta, "2.0.0")
        until(lambda: version_in(volumes) == "1.0.0" and stopping(container), "its stop is under way")
        os.kill(container.first, signal.SIGTERM)  # as `docker stop` does
        container.process.communicate(timeout=120)
        assert container.process.returncode == 0
        assert version_in(volumes) == "2.0.0"


def test_control_on_the_host_takes_no_container_s_daemon_for_its_own(
    image: Image, meta: OpsMetaServer, tmp_path: Path
) -> None:
    """Both lie in /opt/ops-updater."""
    publish(meta, "1.0.0")
    with running(image, tmp_path / "volumes") as container:
        until(lambda: reported(meta) == [("1.0.0", "started", "falcon")], "the agent runs")
        script = image.on_a_host("/opt/ops-updater/control status; /opt/ops-updater/control stop\n")
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        result = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert result.stdout == "stoped\nstoped\n", result
        inside = container.execute("/opt/ops-updater/control status")
        assert inside.stdout == "started\n", inside
        assert container.process.poll() is None


def stopping(container: Container) -> bool:
    """Whether the agent's `control stop` runs."""
    for pid in Path("/proc").iterdir():
        with suppress(OSError):
            if pid.name.isdigit() and (pid / "cmdline").read_bytes().endswith(b"control\0stop\0"):
                return os.readlink(pid / "ns" / "pid") == os.readlink(f"/proc/{container.first}/ns/pid")
    return False


def test_another_container_on_its_volumes_starts_the_agent_before_any_answer(
    image: Image, meta: OpsMetaServer, context: Path, tmp_path: Path
) -> None:
    volumes = tmp_path / "volumes"
    publish(meta, "1.0.0")
    with running(image, volumes) as container:
        until(lambda: reported(meta) == [("1.0.0", "started", "falcon")], "the agent runs")
        until(lambda: version_in(volumes) == "1.0.0" and container.agent() is not None, "it is noted")
    asked = len(meta.requests)
    config = json.loads((context / "cfg.json").read_text())
    (context / "cfg.json").write_text(json.dumps({**config, "server": "127.0.0.1:9"}))
    with running(image, volumes) as container:
        until(lambda: container.agent() is not None, "it is started by memory")
    assert len(meta.requests) == asked
    with running(image, tmp_path / "none") as container:
        until(lambda: "no pass was made: no answer" in log_in(tmp_path / "none"), "a pass is over")
        assert container.agent() is None, "without its volumes it knows of none"


@contextmanager
def in_another_file_system(path: Path, *command: str) -> Iterator[int]:
    """A process that works in a folder of this path in a root of its own, as in a container; its pid."""
    inside = f"umount -l /old; mkdir -p {path}; cd {path}; printf x; exec {shlex.join(command)}"
    script = (
        "set -e; mkdir /mnt/root; mount -t tmpfs own /mnt/root; cd /mnt/root; mkdir old; "
        "for folder in bin lib lib64 usr proc dev; do mkdir $folder; mount --rbind /$folder $folder; done; "
        f"pivot_root . old; exec chroot . sh -ec {shlex.quote(inside)}"
    )
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"mount -t tmpfs own /mnt; {script}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"x"
            until(lambda: os.readlink(f"/proc/{process.pid}/cwd") == str(path), "it works in its folder")
            yield process.pid
        finally:
            process.kill()


def test_what_runs_at_the_same_path_in_a_container_is_no_process_of_ours(tmp_path: Path) -> None:
    tree = tmp_path / "falcon-agent" / "1.0.0"
    tree.mkdir(parents=True)
    with in_another_file_system(tree, "sleep", "600") as stranger:
        assert stranger not in [process.pid for process in processes.running_from(tree) or ()]
        assert stranger not in (processes.left_of(tree, ()) or ())
        with subprocess.Popen(["unshare", "--mount", "sleep", "600"], cwd=tree) as own:
            try:
                until(
                    lambda: own.pid in [process.pid for process in processes.running_from(tree) or ()],
                    "with a mount namespace alone, as of a unit with PrivateTmp=, it is one",
                )
            finally:
                own.kill()


def test_what_was_removed_in_a_container_is_not_ended(tmp_path: Path) -> None:
    home = tmp_path / "falcon-agent"
    tree = home / "1.0.0"
    tree.mkdir(parents=True)
    lost = f"rmdir {tree} && exec sleep 600"
    with in_another_file_system(tree, "sh", "-c", lost) as stranger:
        until(lambda: os.readlink(f"/proc/{stranger}/cwd").endswith(" (deleted)"), "its folder is removed there")
        assert processes.end_removed(home, 0.0) == ()
        assert not is_zombie(stranger)
        assert Path(f"/proc/{stranger}").exists()


def test_pgrep_finds_what_runs_in_a_container_unless_an_option_excludes_it() -> None:
    """What the page says of control scripts on the host."""
    mark = f"{os.getpid()}.{os.getpid()}"  # seconds; no other process has them in its command line
    with subprocess.Popen([*NAMESPACES, "-c", f"sleep {mark} & wait"]) as process:
        try:
            found = ["pgrep", "-f", f"^sleep {mark}"]
            until(lambda: subprocess.run(found, stdout=subprocess.DEVNULL).returncode == 0, "pgrep finds it")
            of_ours = ["sh", "-c", f"pgrep --ns $$ -f '^sleep {mark}'"]
            assert subprocess.run(of_ours, stdout=subprocess.DEVNULL).returncode == 1
        finally:
            for pid in below(process.pid):
                os.kill(pid, signal.SIGKILL)

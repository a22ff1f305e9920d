"""Hosts to measure on: a folder with agents whose control scripts do as little as such a script can, and a config."""

from __future__ import annotations

import getpass
import io
import json
import tarfile
from pathlib import Path

from probes.host import facts

INSTANT = "#!/bin/sh\necho started\n"
SLOW = "#!/bin/sh\nsleep 0.2\necho started\n"
# Its own stop takes 30 ms, and it is ready 30 ms after its start. When it was gone, and ready, stands in the home.
TIMED = """#!/bin/sh
cd "$(dirname "$0")" || exit 1
case $1 in
start) sleep 0.03; touch up; date +%s.%N >>../ready ;;
stop) sleep 0.03; rm -f up; date +%s.%N >>../gone ;;
status) if [ -e up ]; then echo started; else echo stoped; fi ;;
esac
"""


def host(folder: Path, agents: int, control: str, **options: object) -> Path:
    """Make a host with agents that run as desired; return its config, which has these `options`, too."""
    folder.mkdir(parents=True)
    work = folder / "agents"
    entries = []
    for n in range(agents):
        tree = work / f"agent-{n}" / "1.0"
        tree.mkdir(parents=True)
        (tree / "control").write_text(control)
        (tree / "control").chmod(0o755)
        (work / f"agent-{n}" / ".version").write_text("1.0\n")
        entries.append(entry(f"agent-{n}", "1.0", work))
    desire(folder, entries)
    keys = {"desired": "desired.json", "hostname": "bench", "watch": 0, **options}
    (folder / "cfg.json").write_text(json.dumps(keys))
    return folder / "cfg.json"


def entry(
    name: str, version: str, work: Path, url: str = "http://127.0.0.1:9/r", md5: str = "0" * 32
) -> dict[str, str]:
    return {
        "name": name,
        "version": version,
        "tarball": url,
        "md5": md5,
        "cmd": "start",
        "runUser": getpass.getuser(),
        "workDir": str(work),
    }


def desire(folder: Path, entries: list[dict[str, str]]) -> None:
    (folder / "desired.json").write_text(json.dumps({"errorMessage": "", "desiredAgents": entries}))


def published(folder: Path, version: str) -> Path:
    """Where the tarball of agent-0 lies for a server of this folder, on this machine's architecture."""
    return folder / facts.arch() / f"agent-0-{version}.tar.gz"


def tarball(path: Path, control: str, payload: int = 0, files: int = 1) -> None:
    """Pack a release: its control, and `payload` bytes that compress as programs do, in so many files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    some = Path("/usr/bin/python3").resolve().read_bytes()[: 2**22]
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content, mode in [
            ("control", control.encode(), 0o755),
            *(
                (f"lib/{n}", (some * (payload // files // len(some) + 1))[: payload // files], 0o644)
                for n in range(files)
            ),
        ]:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))

"""The real minisign program, Debian's: what it signs is taken, by the very commands of docs/security.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.host import NAME, ROOT, Host
from tests.e2e.processes import Processes, end_all_in
from tests.support.faulty_ops_meta import FaultyOpsMeta
from tests.support.ops_meta import host_arch
from tests.support.sample_agents import build
from updater.demo import agent as agents

MINISIGN = shutil.which("minisign")

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(MINISIGN is None, reason="needs Debian's minisign; `./control test --system` installs it"),
]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Processes() as processes, FaultyOpsMeta(work_dir=tmp_path / "agents") as meta:
        yield Host(tmp_path, meta, processes)
        agents.end_all(tmp_path)
        end_all_in(tmp_path)


def guide(version: str, key: str) -> str:
    """The commands of the guide, for this host, this version and this key; without a password, which is asked for."""
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```sh\n(minisign -G.*?)```", page, flags=re.DOTALL)
    script = str(block).replace("minisign -G ", "minisign -G -W ").replace("ops.", f"{key}.")
    return script.replace("linux_amd64", host_arch()).replace("5.1.3", version)


def sign(www: Path, host: Host, version: str, key: str = "ops", *options: str) -> str:
    """Publish a version as the guide says; return the line for `trusted_keys`."""
    tarball = build(NAME, version, lifetime=600)
    path = www / host_arch() / f"{NAME}-{version}.tar.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tarball)
    script = guide(version, key)
    if (www / f"{key}.key").exists():
        script = re.sub(r"^minisign -G.*$", "", script, flags=re.MULTILINE)
    script = script.replace("minisign -S ", " ".join(("minisign -S", *options, "")))
    done = subprocess.run(["sh", "-eu", "-c", script], cwd=www, check=True, capture_output=True, text=True)
    host.meta.publish(NAME, version, tarball, minisig=Path(f"{path}.minisig").read_bytes())
    host.desire(version)
    return next(line for line in str(done.stdout).splitlines() if line.startswith("RW"))


def test_the_guide_works_as_it_is_written(host: Host, tmp_path: Path) -> None:
    www = tmp_path / "www"
    first = sign(www, host, "1.0.0")
    host.configure(trusted_keys=[first])
    assert host.apply().code == 0
    host.settle()

    assert sign(www, host, "1.1.0", "ops", "-l") == first
    assert host.apply().code == 0, "the legacy form, too"
    host.settle()

    second = sign(www, host, "2.0.0", "next")
    refused = host.apply()
    assert (refused.code, refused.condition("Ready")) == (3, ("False", "SignatureInvalid"))
    host.configure(trusted_keys=[first, second])
    assert host.updater("release", NAME).code == 0
    assert host.apply().code == 0
    assert host.ask().version == "2.0.0"

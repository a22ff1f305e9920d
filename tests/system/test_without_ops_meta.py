"""docs/without-ops-meta.md as it is written, to its end: with Debian's nginx by the page's own lines, and the real
minisign."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.processes import Processes, end_all_in, until
from tests.support.page_shell import blocks, free_port, installed, listens, page_shell

PAGE = "without-ops-meta.md"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(NGINX is None, reason="needs Debian's nginx; `./control test --system` installs it"),
    pytest.mark.skipif(shutil.which("minisign") is None, reason="needs Debian's minisign, as above"),
    pytest.mark.skipif(shutil.which("git") is None, reason="the page is typed as it stands, with git"),
]


@contextmanager
def nginx(folder: Path, root: Path, port: int) -> Iterator[Path]:
    """Serve `root` as the page says, on loopback, by a process of our own; yield its log."""
    [site] = blocks(PAGE, "nginx")
    site = site.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("/srv/fleet/www", str(root))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    log = folder / "access.log"
    (folder / "nginx.conf").write_text(
        f"user root;\ndaemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log {log};\n{places}{site}}}\n"
    )
    process = subprocess.Popen([str(NGINX), "-c", str(folder / "nginx.conf"), "-p", str(folder)])
    try:
        until(lambda: listens(port), "nginx serves")
        yield log
    finally:
        process.terminate()
        process.wait(60)


def asked(log: Path, path: str) -> list[str]:
    """The statuses with which a path was answered."""
    return re.findall(rf'"GET {re.escape(path)} HTTP/1.1" (\d+)', log.read_text())


def test_the_page_to_its_end(tmp_path: Path) -> None:
    begin, agent, publish, _, host, daemon, upgrade, back, sign, trust = blocks(PAGE)
    port = free_port()
    begin = begin.replace("/opt/ops-updater ", f"{installed(tmp_path)} ").replace(":8000", f":{port}")
    fleet, web = tmp_path / "fleet", tmp_path / "nginx"
    web.mkdir()
    home = fleet / "agents" / "hello-agent"

    def runs(version: str) -> bool:
        return (home / ".version").read_text() == version

    def log() -> str:
        return (fleet / "host" / "var" / "app.log").read_text()

    with Processes(), page_shell(tmp_path) as shell, nginx(web, fleet / "www", port) as access:
        for block in (begin, agent, publish, host):
            shell.type(block)
        assert runs("1.0.0")
        shell.type(daemon)
        until(lambda: asked(access, "/desired.json")[-2:] == ["304", "304"], "nothing changes: it answers so")
        shell.type(upgrade)
        until(lambda: runs("1.1.0"), "the new version is taken up")
        shell.type(back)
        until(lambda: runs("1.0.0"), "and the old one")

        shell.type(sign.replace("minisign -G ", "minisign -G -W "))  # without a password, which is asked for
        until(lambda: runs("1.1.0"), "a signed one, by a host that does not ask for it")
        shell.type(trust)
        until(lambda: "config read again" in log(), "the key is trusted")
        signed = sign.splitlines()[1]
        pid = (home / "1.1.0" / "app.pid").read_text()
        stranger = "minisign -G -W -p other.pub -s ../other.key\n"
        shell.type(stranger + signed.replace("1.1.0", "1.0.0").replace("fleet.key", "other.key"))
        until(lambda: "is now False (SignatureInvalid)" in log(), "another key's is refused")
        assert (home / "1.1.0" / "app.pid").read_text() == pid
        shell.type(signed.replace("1.1.0", "1.0.0"))
        until(lambda: runs("1.0.0"), "the signed one counts")

        # Two in one second, of the same size: each is a change by nginx's ETag.
        shell.type(signed)
        shell.type(signed.replace("1.1.0", "1.0.0"))
        shell.type(signed)
        until(lambda: runs("1.1.0"), "the last one of three counts")
        until(lambda: asked(access, "/desired.json")[-2:] == ["304", "304"], "and nothing after it")
    end_all_in(tmp_path)

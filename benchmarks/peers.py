"""P10's peers: configuration management that makes sure of the same 20 agents as a no-op `apply --once` does.

`./control bench --install-peers` puts those that can be had into `.venv-peers`: pyinfra, Ansible and Salt from PyPI,
Puppet and CFEngine from Debian's archives, unpacked there and not installed. Nothing is fetched while it is measured,
and what is not there is left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import field, frozen

from benchmarks import hosts
from benchmarks.measure import Ratio, command, interleaved

FOLDER = Path(__file__).parent.parent / ".venv-peers"
_BIN = FOLDER / "bin"
_DEBIAN = FOLDER / "debian"
_FROM_PYPI = ("pyinfra", "ansible-core", "salt")
_FROM_DEBIAN = ("puppet-agent", "cfengine3")
AGENTS = 20


@frozen(kw_only=True)
class Peer:
    """`program`: what must be there. `prepare` writes its policy into a folder, for these control scripts, and returns
    the command line that makes sure of them. `most`: how slow we may be beside it."""

    program: Path
    prepare: Callable[[Path, list[Path]], list[str]]
    env: Mapping[str, str] = field(factory=dict)
    most: float | None = None


def install() -> None:
    """Fetch the peers. Each that can't be had is told, and is no error."""
    FOLDER.mkdir(exist_ok=True)
    if not (_BIN / "python").exists():
        venv.create(FOLDER, with_pip=True)
    for name in _FROM_PYPI:
        _tell(name, subprocess.run([_BIN / "python", "-m", "pip", "install", "--quiet", name]).returncode)
    archives = FOLDER / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    for name in _FROM_DEBIAN:
        # With what this machine lacks for it. Unpacked, not installed: no maintainer script starts a daemon here.
        options = ["-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=1"]
        argv = ["apt-get", "install", "--yes", "--quiet", "--download-only", "--no-install-recommends", *options, name]
        _tell(name, subprocess.run(argv, stdout=subprocess.DEVNULL).returncode)
    for archive in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg", "-x", archive, _DEBIAN], check=True)
    print("there:", ", ".join(present()) or "none")


def _tell(name: str, code: int) -> None:
    if code:
        print(f"{name} can't be had here (code {code}); it is left out", file=sys.stderr)


def present() -> dict[str, Peer]:
    return {name: peer for name, peer in PEERS.items() if peer.program.exists()}


def beside(name: str, folder: Path) -> Ratio:
    """A no-op `apply --once` over 20 agents, exec to exit; beside it this peer."""
    peer = PEERS[name]
    config = hosts.host(folder / "host", AGENTS, hosts.INSTANT)
    controls = sorted(config.parent.glob("agents/*/1.0/control"))
    (folder / "peer").mkdir()
    argv = peer.prepare(folder / "peer", controls)
    ours = [sys.executable, "-m", "updater", "-c", str(config), "apply", "--once"]
    env = {**os.environ, "HOME": str(folder / "peer"), **peer.env}
    return interleaved(lambda: command(ours), lambda: command(argv, env=env), 3)


def _pyinfra(folder: Path, controls: list[Path]) -> list[str]:
    deploy = folder / "deploy.py"
    deploy.write_text(
        "from pyinfra import host\nfrom pyinfra.facts.server import Command\nfrom pyinfra.operations import server\n"
        f"for tree in {[str(path.parent) for path in controls]!r}:\n"
        "    if 'started' not in host.get_fact(Command, command=f'cd {tree} && ./control status'):\n"
        "        server.shell(name=tree, commands=[f'cd {tree} && ./control start'])\n"
    )
    return [str(_BIN / "pyinfra"), "-y", "@local", str(deploy)]


def _ansible(folder: Path, controls: list[Path]) -> list[str]:
    status = {
        "name": "status",
        "ansible.builtin.command": {"cmd": "./control status", "chdir": "{{ item }}"},
        "loop": [str(path.parent) for path in controls],
        "register": "found",
        "changed_when": False,
    }
    start = {
        "name": "start",
        "ansible.builtin.command": {"cmd": "./control start", "chdir": "{{ item.item }}"},
        "loop": "{{ found.results }}",
        "when": "item.stdout != 'started'",
    }
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [status, start]}
    (folder / "play.yml").write_text(json.dumps([play]))  # JSON is YAML
    python = f"ansible_python_interpreter={_BIN / 'python'}"
    return [str(_BIN / "ansible-playbook"), "-i", "localhost,", "-e", python, str(folder / "play.yml")]


def _salt(folder: Path, controls: list[Path]) -> list[str]:
    states = {
        path.parent.parent.name: {
            "cmd.run": [
                {"name": "./control start"},
                {"cwd": str(path.parent)},
                {"unless": f"cd {path.parent} && ./control status | grep -qx started"},
            ]
        }
        for path in controls
    }
    (folder / "agents.sls").write_text(json.dumps(states))
    minion = {"root_dir": str(folder), "file_client": "local", "file_roots": {"base": [str(folder)]}}
    (folder / "minion").write_text(json.dumps({**minion, "id": "bench"}))
    return [str(_BIN / "salt-call"), "--local", "-c", str(folder), "state.apply", "agents"]


def _puppet(folder: Path, controls: list[Path]) -> list[str]:
    resources = [
        f'exec {{ "{path.parent}": command => "./control start", cwd => "{path.parent}", provider => shell,\n'
        '  unless => "./control status | grep -qx started" }'
        for path in controls
    ]
    (folder / "site.pp").write_text("\n".join(resources))
    places = [f"--{name}dir={folder}" for name in ("conf", "var", "ssl", "public", "run", "log")]
    ruby, puppet = _DEBIAN / "usr/bin/ruby3.1", _DEBIAN / "usr/bin/puppet"
    return [str(ruby), str(puppet), "apply", *places, str(folder / "site.pp")]


def _cfengine(folder: Path, controls: list[Path]) -> list[str]:
    (folder / "bin").mkdir()
    (folder / "bin" / "cf-promises").symlink_to(_DEBIAN / "usr/bin/cf-promises")
    (folder / "ppkeys").mkdir(mode=0o700)
    key = ["-f", str(folder / "ppkeys" / "localhost")]
    subprocess.run([_DEBIAN / "usr/bin/cf-key", *key], check=True, env={**os.environ, **_debian_env()})
    classes = [
        f'"up_{n}" expression => returnszero("cd {p.parent} && ./control status | grep -qx started", "useshell");'
        for n, p in enumerate(controls)
    ]
    starts = [f'!up_{n}:: "{p} start";' for n, p in enumerate(controls)]
    policy = folder / "policy.cf"
    policy.write_text(
        'body common control { bundlesequence => { "agents" }; }\nbundle agent agents {\nclasses:\n'
        + "\n".join(classes)
        + "\ncommands:\n"
        + "\n".join(starts)
        + "\n}\n"
    )
    policy.chmod(0o600)
    return [str(_DEBIAN / "usr/bin/cf-agent"), "-K", "-w", str(folder), "-f", str(policy)]


def _debian_env() -> dict[str, str]:
    """Where programs that were unpacked and not installed find what belongs to them."""
    libraries = [_DEBIAN / "usr/lib", *_DEBIAN.glob("usr/lib/*-linux-gnu"), *_DEBIAN.glob("lib/*-linux-gnu")]
    ruby = [
        *(_DEBIAN / "usr/lib/ruby" / name for name in ("vendor_ruby", "3.1.0")),
        *_DEBIAN.glob("usr/lib/*-linux-gnu/ruby/3.1.0"),
        *_DEBIAN.glob("usr/lib/*-linux-gnu/ruby/vendor_ruby/3.1.0"),
        *_DEBIAN.glob("usr/share/rubygems-integration/all/gems/*/lib"),
        *_DEBIAN.glob("usr/share/rubygems-integration/all/gems/*/lib/concurrent-ruby"),
    ]
    return {"LD_LIBRARY_PATH": ":".join(map(str, libraries)), "RUBYLIB": ":".join(map(str, ruby))}


PEERS = {
    "pyinfra": Peer(program=_BIN / "pyinfra", prepare=_pyinfra, most=0.1),
    "ansible": Peer(program=_BIN / "ansible-playbook", prepare=_ansible),
    "salt": Peer(program=_BIN / "salt-call", prepare=_salt),
    "puppet": Peer(program=_DEBIAN / "usr/bin/puppet", prepare=_puppet, env=_debian_env()),
    "cfengine": Peer(program=_DEBIAN / "usr/bin/cf-agent", prepare=_cfengine, env=_debian_env(), most=1.0),
}

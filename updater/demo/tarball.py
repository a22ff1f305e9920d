"""The tarballs of the demo's agent, made on the spot. What it does is in agent_program.py, how to ask it in
agent.py."""

from __future__ import annotations

import io
import shlex
import sys
import tarfile
from pathlib import Path

_PROGRAM = Path(__file__).with_name("agent_program.py")
_LIFETIME_S = 600  # so that an agent of a demo that was itself killed ends all the same
# Of a start that starts nothing only its words are left.
_START = """\
    running && return 0
    nohup @python@ -I -S "$PWD/agent.py" @name@ @version@ port lifetime=@lifetime@ </dev/null >>app.log 2>&1 &
    echo $! >app.pid
    echo "@name@ started..., pid=$!"
"""
_BROKEN_START = """\
    echo "@name@ started..., pid=1"
"""
_CONTROL = """\
#!/bin/sh
# Starts, stops and tells the state of @name@ @version@.
cd "$(dirname "$0")" || exit 1

running() {
    pid=
    read -r pid 2>/dev/null <app.pid
    [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || return 1
    # Dead, but its parent has not looked yet: kill -0 can't tell.
    state=
    read -r _ _ state _ 2>/dev/null <"/proc/$pid/stat"
    [ "$state" != Z ]
}

start() {
@start@}

stop() {
    running || return 0
    kill "$pid"
    while running; do sleep 0.01; done
    rm -f app.pid port
    echo "@name@ stoped..."
}

status() {
    if running; then echo started; else echo stoped; fi
}

case "${1-}" in
start | stop | status) "$1" ;;
*) exit 1 ;;
esac
"""


def build(name: str, version: str, *, starts: bool = True) -> bytes:
    """Make the tarball of one version. `starts`: False: its `control start` starts nothing."""
    words = {
        "@start@": _START if starts else _BROKEN_START,
        "@name@": name,
        "@version@": version,
        "@python@": shlex.quote(sys.executable),
        "@lifetime@": str(_LIFETIME_S),
    }
    control = _CONTROL
    for word, meaning in words.items():
        control = control.replace(word, meaning)
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for path, content in {"control": control.encode(), "agent.py": _PROGRAM.read_bytes()}.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    return target.getvalue()

"""Make the pictures of a terminal in docs/pictures/: `python -m tests.terminal_pictures [FOLDER]`.

Real commands, agents and failures on a real terminal, as SVG. The agents' folder, the server's address, this
machine's name and user are replaced; nothing else is.
"""

from __future__ import annotations

import io
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.e2e.host import NAME, ROOT, Host
from tests.e2e.processes import Processes, end_all_in
from tests.support.faulty_ops_meta import FaultyOpsMeta
from tests.terminal import Terminal
from updater.commands.context import whoami
from updater.demo import agent as agents

COLUMNS = 100
_ROOM = 5  # a line in which something was replaced may have become longer
_FIELD = "/home/falcon/open-falcon"
_META = "http://meta:2000"
_OTHERS = {"smart-agent": "2.0.7", "dash-agent": "1.4.0"}
# rich's picture would fetch a font from elsewhere; this one uses what the reader's machine has.
_FONT_FACE = re.compile(r"@font-face \{.*?\}\n", re.S)
_FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono"
_MOVES = re.compile(r"\r|\x1b\[[0-9;?]*[AKHhl]")


def main(folder: Path) -> None:
    """Play the scenes, and draw each."""
    folder.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as base,
        FaultyOpsMeta(work_dir=Path(base) / "agents") as meta,
        Processes() as processes,
    ):
        host = Host(Path(base), meta, processes)
        try:
            for name, typed, screen in _scenes(host):
                draw(folder / f"{name}.svg", typed, _as_in_the_field(host, screen))
            draw(folder / "demo.svg", "./control demo", _third_act(processes))
        finally:
            agents.end_all(Path(base))
            end_all_in(Path(base))


def _scenes(host: Host) -> Iterator[tuple[str, str, str]]:
    """The picture's name, what was typed, what stood on the terminal."""
    host.configure(control_timeout={"start": 3}, max_download_rate=300_000)
    host.publish("5.1.2")
    for name, version in _OTHERS.items():
        host.publish(version, name)
    _desire(host, "5.1.2")
    for _ in range(2):
        assert host.apply().code == 0
    host.updater("hold", "dash-agent", "--reason", "debugging a leak", "--for", "2h")
    host.publish("5.1.3", size=2_000_000)
    url = host.meta.publish_config("falcon/cfg.json", b'{"greeting": "hello"}\n')
    _desire(host, "5.1.3", configFileName="cfg.json", configRemoteUrl=url)
    yield "plan", "updater plan", host.terminal("plan", columns=COLUMNS).text
    working = host.at_terminal("apply", "--once", columns=COLUMNS)
    working.wait_for("1.0 MiB of", "KiB/s", " left")
    yield "progress", "updater apply", working.text.rpartition("\x1b[2K")[2]
    assert working.end().code == 0
    host.configure(max_download_rate=None)
    assert host.apply().code == 0
    host.publish("5.1.4", broken_start=True)
    _desire(host, "5.1.4", configFileName="cfg.json", configRemoteUrl=url)
    rolled_back = host.terminal("apply", "--once", columns=COLUMNS)
    yield "apply", "updater apply", rolled_back.text.rpartition("\x1b[?25h")[2]
    yield "status", "updater status", host.terminal("status", columns=COLUMNS).text
    yield "why", f"updater why {NAME}", host.terminal("why", NAME, columns=COLUMNS).text


def _desire(host: Host, version: str, **keys: str) -> None:
    others = (host.meta.agent(name, other) for name, other in _OTHERS.items())
    host.meta.desire(host.meta.agent(NAME, version, **keys), *others)


def _third_act(processes: Processes) -> str:
    demo = [sys.executable, "-m", "updater", "demo"]
    result = Terminal(processes, demo, cwd=ROOT, columns=COLUMNS).end()
    assert result.code == 0, result.text
    act = next(screen for screen in result.text.split("\x1b[H") if "3. A crash" in screen)
    return act.partition("\x1b[2mEnter: go on")[0].replace(
        f"\x1b[1m{platform.node()}\x1b[0m", "\x1b[1mliutian-01\x1b[0m"
    )


def _as_in_the_field(host: Host, screen: str) -> str:
    field = screen.replace(str(host.work), _FIELD).replace(host.meta.url, _META)
    return field.replace(f"{whoami()}: debugging", "alice: debugging")


def draw(path: Path, typed: str, screen: str) -> None:
    """Draw what stood on a terminal below what was typed."""
    console = Console(
        record=True, width=COLUMNS + _ROOM, file=io.StringIO(), force_terminal=True, color_system="standard"
    )
    rows = "\n".join(line.rstrip() for line in _MOVES.sub("", screen).strip("\n").split("\n"))
    console.print(Text.assemble(("$ ", "dim"), (typed, "bold")), end="\n\n")
    console.print(Text.from_ansi(rows), soft_wrap=True)
    drawn = _FONT_FACE.sub("", console.export_svg(title="", unique_id=path.stem)).replace("Fira Code", _FONTS)
    path.write_text("\n".join(line.rstrip() for line in drawn.split("\n")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures")

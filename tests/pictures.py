"""Make the pictures in docs/, of the page and of the terminal: `python -m tests.pictures [FOLDER]`. Needs Debian's
chromium-driver; `python -m tests.terminal_pictures` makes those of the terminal alone, without it.

A real daemon, real agents and a real browser. Only the path of the agents' folder is replaced.
"""

from __future__ import annotations

import re
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx

from tests import terminal_pictures
from tests.browser import Browser
from tests.e2e.host import NAME, ROOT, Host
from tests.e2e.processes import Processes, end_all_in, until
from tests.support.faulty_ops_meta import FaultyOpsMeta
from updater.demo import agent as agents

_FIELD = "/home/falcon/open-falcon"
_LOOKS = {"light": {}, "dark": {"dark": True}, "narrow": {"width": 390}, "narrow-dark": {"width": 390, "dark": True}}
_RESTS = re.compile(r"Next pass<.{,150}>in \d+m")
_IN_DOCS = {"healthy-light": "page-light.png", "failing-dark": "page-dark.png"}


def install(host: Host) -> None:
    versions = {NAME: "5.1.2", "smart-agent": "2.0.7", "dash-agent": "1.4.0"}
    for name, version in versions.items():
        host.publish(version, name)
    host.meta.desire(*(host.meta.agent(name, version) for name, version in versions.items()))


def healthy(host: Host) -> str:
    host.publish("5.1.3")
    host.meta.desire(
        host.meta.agent(NAME, "5.1.3"), host.meta.agent("smart-agent", "2.0.7"), host.meta.agent("dash-agent", "1.4.0")
    )
    return "5.1.3 started"


def failing(host: Host) -> str:
    host.publish("5.1.4", broken_start=True)
    host.publish("2.0.8", "smart-agent")
    host.meta.corrupt("smart-agent", "2.0.8")
    host.meta.desire(
        host.meta.agent(NAME, "5.1.4"),
        host.meta.agent("smart-agent", "2.0.8"),
        host.meta.agent("dash-agent", "1.4.0"),
        {**host.meta.agent("dash-agent", "1.4.0"), "name": "../evil"},
    )
    return "5.1.4 was rolled back"


def held(host: Host) -> str:
    host.updater("hold", NAME, "--reason", "debugging a leak", "--for", "2h")
    return "HeldByOperator"


def empty(host: Host) -> str:
    host.meta.desire()
    return "named no agents"


def many(host: Host) -> str:
    names = [f"agent-{number:02d}" for number in range(43)]
    for number, name in enumerate(names):
        host.publish("1.0.0", name, broken_start=number % 14 == 3)
    host.meta.desire(*(host.meta.agent(name, "1.0.0") for name in names))
    return "3 of 43 need attention"


_SCENES: tuple[Callable[[Host], str], ...] = (healthy, failing, held, empty, many)


def main(folder: Path) -> None:
    """Play the scenes, and take each with all looks; those in docs/ alone where that is the folder."""
    docs = folder.resolve() == (ROOT / "docs").resolve()
    with (
        tempfile.TemporaryDirectory() as base,
        FaultyOpsMeta(work_dir=Path(base) / "agents") as meta,
        Processes() as processes,
        Browser(Path(base) / "profile") as browser,
    ):
        host = Host(Path(base), meta, processes)
        host.configure(interval=2, control_timeout={"start": 3}, http={"enabled": True, "listen": "127.0.0.1:0"})
        install(host)
        try:
            with host.daemon("--now") as daemon:
                url = host.local_http()
                until(lambda: "3 agents as desired" in httpx.get(url, trust_env=False).text, "all is installed")
                for scene in _SCENES[:2] if docs else _SCENES:
                    word = scene(host)
                    until(lambda word=word: word in httpx.get(url, trust_env=False).text, word, within=180)  # type: ignore[misc]
                    # A picture amid a pass says less.
                    host.configure(interval=1200)
                    daemon.send(signal.SIGHUP)
                    until(lambda: _RESTS.search(httpx.get(url, trust_env=False).text), "it rests", within=120)
                    for look, wishes in _LOOKS.items():
                        name = f"{scene.__name__}-{look}"
                        if docs and name not in _IN_DOCS:
                            continue
                        browser.looks(height=400, **wishes)  # type: ignore[arg-type]
                        browser.go(url)
                        browser.run(_REPLACE, str(host.work), _FIELD)
                        browser.picture(folder / (_IN_DOCS[name] if docs else f"{name}.png"))
                    host.configure(interval=2)
                    daemon.send(signal.SIGHUP)
        finally:
            agents.end_all(Path(base))
            end_all_in(Path(base))


_REPLACE = """
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  walk.currentNode.data = walk.currentNode.data.replaceAll(arguments[0], arguments[1]);
}
"""

if __name__ == "__main__":
    chosen = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    main(chosen)
    terminal_pictures.main(chosen / "pictures")

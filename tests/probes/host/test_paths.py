"""The layout of docs/contract.md, section 4, path by path."""

from __future__ import annotations

from pathlib import Path

from probes.host.paths import AgentHome

HOME = AgentHome(Path("/home/falcon/open-falcon"), "falcon-agent")


def test_the_layout() -> None:
    assert HOME.path == Path("/home/falcon/open-falcon/falcon-agent")
    assert HOME.version_file == Path("/home/falcon/open-falcon/falcon-agent/.version")
    assert HOME.start_log == Path("/home/falcon/open-falcon/falcon-agent/.start.log")
    assert HOME.tree("1.0.0") == Path("/home/falcon/open-falcon/falcon-agent/1.0.0")
    assert HOME.tree(".next-1.0.0") == Path("/home/falcon/open-falcon/falcon-agent/.next-1.0.0")
    assert HOME.control("1.0.0") == Path("/home/falcon/open-falcon/falcon-agent/1.0.0/control")

"""The keys of local HTTP and metrics: their form, and what is said where the packages for them are missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.updater.check.findings import found
from tests.updater.conftest import Folder
from updater.check.subject import CheckState
from updater.settings.config import ConfigWrong, lacks_web, load
from updater.settings.sections import HttpConfig
from updater.settings.values import parse_listen


def errors(tmp_path: Path, **keys: Any) -> list[str]:
    path = tmp_path / "cfg.json"
    path.write_text(json.dumps({"server": "meta:2000", **keys}))
    try:
        load(path)
    except ConfigWrong as err:
        return err.errors
    return []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:2001", ("127.0.0.1", 2001)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:2001", ("::1", 2001)),
        (":2001", ("", 2001)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_where_to_listen(text: str, parts: tuple[str, int]) -> None:
    assert parse_listen(text) == parts


@pytest.mark.parametrize("text", ["2001", "::1:2001", "127.0.0.1", "127.0.0.1:65536", "http://127.0.0.1:2001", "a b:1"])
def test_what_is_no_place_to_listen_is_said(text: str, tmp_path: Path) -> None:
    (error,) = errors(tmp_path, http={"listen": text})
    assert error.startswith("http.listen: expected host:port such as 127.0.0.1:2001, found ")


def test_an_empty_listen_of_an_old_config_is_the_default(tmp_path: Path) -> None:
    assert errors(tmp_path, http={"enabled": True, "listen": ""}) == []
    assert load(tmp_path / "cfg.json").http == HttpConfig(enabled=True, listen="127.0.0.1:2001")


def test_the_metrics_file_is_one_that_node_exporter_reads(tmp_path: Path) -> None:
    assert errors(tmp_path, metrics_textfile="x.prom") == []
    assert load(tmp_path / "cfg.json").metrics_textfile == tmp_path / "x.prom"
    (error,) = errors(tmp_path, metrics_textfile="x.txt")
    assert "expected a name that ends in .prom" in error


def test_missing_packages_are_said_with_the_remedy(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lacks_web() == ""
    monkeypatch.setitem(sys.modules, "waitress", None)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    remedy = "it needs waitress and prometheus_client: run `./control setup --with web`"
    assert errors(tmp_path, metrics_textfile="x.prom") == []

    # An old config may have the key, and must start: it is said, and the agents are kept.
    folder.configure(http={"enabled": True, "listen": "0.0.0.0:2001"})
    result = folder.run("daemon", "--check")
    assert (result.code, result.err) == (0, f"updater: config http.enabled: local HTTP is not served: {remedy}\n")
    [note] = found(folder, "tools", offline=True)
    assert (note.state, note.remedy) == (CheckState.NOTE, "run `./control setup --with web`")
    assert note.message.endswith("local HTTP is not served: it needs waitress and prometheus_client")
    folder.configure(http={"enabled": False})
    assert folder.run("daemon", "--check").err == ""


def test_agents_are_kept_where_the_part_for_metrics_is_missing(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    folder.want()
    folder.configure(metrics_textfile="ops.prom")
    assert folder.run("apply", "--once").code == 0, "an agent is installed"
    said = "is not written: it needs prometheus_client: run `./control setup --with web`"
    assert said in folder.log()
    assert not (folder.path / "ops.prom").exists()
    for command in ("plan", "status"):
        assert folder.run(command).code == 0
    assert said in folder.run("daemon", "--check").err
    [note] = found(folder, "tools", offline=True)
    assert (note.state, note.message) == (
        CheckState.NOTE,
        "metrics_textfile is set, and not written: it needs prometheus_client",
    )

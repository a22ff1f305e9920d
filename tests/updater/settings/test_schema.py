"""The schema takes what the updater takes, and refuses what has no right form."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.json_schema import faults
from tests.updater.conftest import Folder
from updater.settings.config import ConfigWrong, load
from updater.settings.keys import KEYS, leaves
from updater.settings.schema import config_schema

ROOT = Path(__file__).parents[3]
SCHEMA = config_schema()
EXAMPLES = re.findall(r"```json\n(.*?)```", (ROOT / "docs/configuration.md").read_text(), flags=re.DOTALL)
GOOD: list[dict[str, Any]] = [
    json.loads((ROOT / "cfg.example.json").read_text()),
    *(json.loads(text) for text in EXAMPLES if "desiredAgents" not in text),
    {"server": "m:1", **{key.name: None for key in KEYS if key.name != "server"}},
    {"server": "m:1", **{key.name: key.default for key in KEYS if key.default is not None}},
    {"desired": "/etc/desired.json"},
    {"server": " m:1 ", "hostname": "", "http": {"listen": ""}},
    {"server": "m:1", "log_level": "DEBUG", "interval": " 1.5 h ", "max_tarball": "3 GiB", "watch": 0, "keep": 100},
    {
        "server": "m:1",
        "windows": [{"start": "23:30", "length": "2h"}, {"days": ["sun"], "start": "00:00", "length": 60}],
    },
    {"server": "m:1", "status_words": {"*": {"started": ["up"]}, "odd": {"stoped": ["down"], "started": None}}},
    {"server": "m:1", "fleet_lock": {"url": "HTTPS://lock.test/", "group": {"falcon-agent": "a", "*": "web"}}},
    {"server": "https://m", "tls": {"pin_sha256": [":".join(["AB"] * 32), "0c" * 32]}},
    {"server": "https://m", "tls": {"pin_sha256": ["0c" * 32]}},
    {"server": "m:1", "trusted_keys": ["RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"]},
    {"server": "m:1", "windows": [{"days": ["sun"], "start": "00:00", "length": 60}]},
    {"server": "m:1", "agent_env": {"LANG": "C", "_x": ""}, "min_version": {"a": "1"}, "proxy": "http://u:p@proxy"},
    {"server": "m:1", "allow_agents": [], "allow_users": ["DOMAIN\\me"], "allow_work_dirs": ["/srv"]},
]


@pytest.mark.parametrize("config", GOOD, ids=range(len(GOOD)))
def test_what_the_updater_takes_is_in_form(config: dict[str, Any], tmp_path: Path) -> None:
    for name in ("meta.password", "ca.pem"):
        (tmp_path / name).write_text("x")
    text = json.dumps(config).replace("/etc/ssl/private-ca.pem", "ca.pem")
    (tmp_path / "cfg.json").write_text(text)
    load(tmp_path / "cfg.json")
    assert faults(SCHEMA, json.loads(text)) == []


@pytest.mark.parametrize("path", [path for path, _ in leaves()])
@pytest.mark.parametrize("value", [[[1]], {"": [1]}], ids=["list", "object"])
def test_a_value_of_another_form_is_refused_at_its_place(path: str, value: Any) -> None:
    outer, _, inner = path.partition(".")
    config = {"server": "m:1", outer: {inner: value} if inner else value}
    assert any(fault.startswith(f"$.{path}") for fault in faults(SCHEMA, config)), faults(SCHEMA, config)


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({}, "$: anyOf"),
        ({"server": None}, "$: anyOf"),
        ({"server": "m:1", "wrok_dir": "/x"}, "$.wrok_dir: additionalProperties"),
        ({"server": "m:1", "http": {"port": 1}}, "$.http.port: additionalProperties"),
        ({"server": "m:1", "auth": {"user": "me"}}, "$.auth: required"),
        ({"server": "m:1", "auth": {"user": "me", "password_file": None}}, "$.auth.password_file: type"),
        ({"server": "m:1", "interval": "often"}, "$.interval: anyOf"),
        ({"server": "m:1", "interval": 0}, "$.interval: anyOf"),
        ({"server": "m:1", "keep": 0}, "$.keep: minimum"),
        ({"server": "m:1", "parallel": 1025}, "$.parallel: maximum"),
        ({"server": "m:1", "parallel": True}, "$.parallel: type"),
        ({"server": "m:1", "max_tarball": "1MB"}, "$.max_tarball: anyOf"),
        ({"server": "m:1", "log_level": "loud"}, "$.log_level: enum"),
        ({"server": "m:1", "work_dir": "home"}, "$.work_dir: pattern"),
        ({"server": "m:1", "metrics_textfile": "x.txt"}, "$.metrics_textfile: pattern"),
        ({"server": "m:1", "windows": []}, "$.windows: minItems"),
        ({"server": "m:1", "windows": [{"length": "1h"}]}, "$.windows[0]: required"),
        ({"server": "m:1", "windows": [{"start": "24:00", "length": "1h"}]}, "$.windows[0].start: pattern"),
        ({"server": "m:1", "windows": [{"start": "1:00", "length": "1h", "day": []}]}, "$.windows[0].day: additional"),
        ({"server": "m:1", "status_words": {"a": {"stopped": ["down"]}}}, "$.status_words.a.stopped: additional"),
        ({"server": "m:1", "agent_env": {"A B": "x"}}, "$.agent_env.A B: pattern"),
        ({"server": "m:1", "fleet_lock": {"url": "lock.test"}}, "$.fleet_lock.url: pattern"),
        ({"server": "m:1", "trusted_keys": []}, "$.trusted_keys: minItems"),
        ({"server": "m:1", "tls": {"pin_sha256": ["ab"]}}, "$.tls.pin_sha256[0]: pattern"),
    ],
)
def test_what_the_updater_refuses_is_refused(keys: dict[str, Any], fault: str, tmp_path: Path) -> None:
    found = faults(SCHEMA, keys)
    assert any(one.startswith(fault) for one in found), found
    (tmp_path / "cfg.json").write_text(json.dumps(keys))
    with pytest.raises(ConfigWrong):
        load(tmp_path / "cfg.json")


@pytest.mark.parametrize(
    ("key", "least", "most", "beyond"),
    [
        ("keep", 1, 100, 101),
        ("parallel", 1, 1024, 1025),
        ("status_parallel", 1, 1024, 1025),
        ("max_files", 1, 10_000_000, 10_000_001),
        ("interval", 1, 10**9 - 1, 10**9),
        ("watch", 0, 10**9 - 1, 10**9),
        ("max_tarball", 1, 2**62 - 1, 2**62),
    ],
)
def test_bounds_are_those_of_the_updater(key: str, least: int, most: int, beyond: int, tmp_path: Path) -> None:
    path = tmp_path / "cfg.json"
    for value in (least, most):
        path.write_text(json.dumps({"server": "m:1", key: value}))
        assert getattr(load(path), key) == value
        assert faults(SCHEMA, {"server": "m:1", key: value}) == []
    for value in (least - 1, beyond):
        path.write_text(json.dumps({"server": "m:1", key: value}))
        with pytest.raises(ConfigWrong) as refused:
            load(path)
        assert str(refused.value).startswith(f"{key}: expected ")
    assert faults(SCHEMA, {"server": "m:1", key: least - 1}) != []


def test_the_command_prints_it_and_needs_no_config(folder: Folder) -> None:
    (folder.path / "cfg.json").unlink()
    ran = folder.run("config", "schema")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == SCHEMA
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"

"""`config show`: every key once, its value and where that is from; no secret."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.updater.conftest import Folder
from updater.settings.in_force import without_secrets
from updater.settings.keys import leaves

PATHS = [path for path, _ in leaves()]


def printable(folder: Folder, *before: str) -> dict[str, Any]:
    ran = folder.run(*before, "config", "show", "-o", "json")
    assert (ran.code, ran.err) == (0, "")
    document = json.loads(ran.out)
    assert (document["format_version"], document["kind"]) == ("1.0", "Config")
    assert document["path"] == str(folder.path / "cfg.json")
    keys: dict[str, Any] = document["keys"]
    assert list(keys) == PATHS
    return keys


def test_every_key_has_its_value_and_where_it_is_from(folder: Folder) -> None:
    folder.configure(interval="10m", max_tarball="1KiB", http={"enabled": True}, hostname="", keep=None, mirrors=[])
    keys = printable(folder)
    assert keys["interval"] == {"value": 600, "from": "file"}
    assert keys["max_tarball"] == {"value": 1024, "from": "file"}
    assert keys["max_unpacked"] == {"value": 2 * 2**30, "from": "default"}
    assert keys["http.enabled"] == {"value": True, "from": "file"}
    assert keys["http.listen"] == {"value": "127.0.0.1:2001", "from": "default"}
    assert keys["hostname"] == {"value": None, "from": "default"}, "an empty one is not set"
    assert keys["keep"] == {"value": 2, "from": "default"}, "null is not set"
    assert keys["mirrors"] == {"value": [], "from": "file"}


@pytest.mark.parametrize(
    ("config", "before", "level"),
    [
        ({}, (), ("info", "default")),
        ({"log_level": "error"}, (), ("error", "file")),
        ({"debug": True}, (), ("debug", "file")),
        ({"debug": True, "log_level": "error"}, (), ("error", "file")),
        ({"debug": True, "log_level": "error"}, ("--log-level", "trace"), ("trace", "command line")),
    ],
)
def test_where_the_log_level_is_from(
    config: dict[str, Any], before: tuple[str, ...], level: tuple[str, str], folder: Folder
) -> None:
    folder.configure(**config)
    assert printable(folder, *before)["log_level"] == {"value": level[0], "from": level[1]}


def test_the_text_has_a_line_for_each_key(folder: Folder) -> None:
    folder.configure(interval="10m", windows=[{"start": "23:00", "length": "1h"}])
    ran = folder.run("config", "show")
    head, blank, *lines = ran.out.splitlines()
    assert (head, blank) == (str(folder.path / "cfg.json"), "")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines}
    assert list(rows) == PATHS
    assert rows["interval"] == ["file", '"10m"']
    assert rows["windows"] == ["file", '[{"start": "23:00", "length": "1h"}]']
    assert rows["quarantine_for"] == ["default", "none"]


def test_no_secret_is_shown(folder: Folder) -> None:
    (folder.path / "password").write_text("s3cret")
    folder.configure(
        auth={"user": "me", "password_file": "password"},
        proxy="http://me:s3cret@proxy.test:3128",
        desired="https://files.test/desired.json?X-Signature=s3cret",
        agent_env={"API_TOKEN": "s3cret", "DB": "postgres://me:s3cret@db.test/x"},
    )
    keys = printable(folder)
    assert keys["auth.password_file"]["value"] == "password"
    assert keys["proxy"]["value"] == "http://(not shown)@proxy.test:3128"
    assert keys["desired"]["value"] == "https://files.test/desired.json?(not shown)"
    assert keys["agent_env"]["value"] == {"API_TOKEN": "(not shown)", "DB": "(not shown)"}
    for form in ("text", "json"):
        assert "s3cret" not in folder.run("config", "show", "-o", form).out


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://a:b/c@host/x", "http://(not shown)@host/x"),
        ("http://a:b@c@host/x", "http://(not shown)@host/x"),
        ("meta:2000/heartbeat?token=x", "meta:2000/heartbeat?(not shown)"),
        (["https://h/?a=1", {"inner": "https://u@h"}], ["https://h/?(not shown)", {"inner": "https://(not shown)@h"}]),
        ("started?", "started?"),
        (True, True),
        (None, None),
    ],
)
def test_what_is_masked(value: Any, expected: Any) -> None:
    assert without_secrets({"key": value}) == {"key": expected}


def test_a_wrong_config_is_reported_as_by_any_command(folder: Folder) -> None:
    folder.configure(intervall=1, keep="x")
    ran = folder.run("config", "show")
    assert (ran.code, ran.out) == (78, "")
    assert "intervall: unknown key; did you mean `interval`?" in ran.err
    assert "keep: expected a number" in ran.err

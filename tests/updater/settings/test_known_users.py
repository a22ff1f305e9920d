"""What is known of users is kept from run to run, and nothing in its place can hold up or end one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from probes.host import facts
from tests.updater.conftest import Folder
from updater.settings import known_users

USER = facts.User(name="svc", uid=4_000_001, gid=4_000_002, home="/home/svc", shell="/bin/sh", groups=(4_000_002, 7))


@pytest.fixture(autouse=True)
def _forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_known", {})


def test_it_is_kept_and_taken_up(tmp_path: Path) -> None:
    facts.know_users({"svc@corp": USER})
    known_users.save(tmp_path)
    assert os.listdir(tmp_path) == ["state.db.users"]
    assert (tmp_path / "state.db.users").stat().st_mode & 0o777 == 0o600
    facts._known.clear()
    known_users.load(tmp_path)
    assert facts.known_users() == {"svc@corp": USER}


def test_it_is_written_where_it_is_news_alone(tmp_path: Path) -> None:
    facts.know_users({"svc": USER})
    known_users.save(tmp_path)
    before = (tmp_path / "state.db.users").stat()
    known_users.save(tmp_path)
    assert os.path.samestat((tmp_path / "state.db.users").stat(), before)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"svc": 1}', b"\xff", b'{"svc": {"name": "svc", "uid": "0"}}'])
def test_a_damaged_file_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.db.users").write_bytes(content)
    known_users.load(tmp_path)
    assert facts.known_users() == {}


def test_an_obstacle_in_place_of_the_file_holds_no_agent_up(tmp_path: Path) -> None:
    facts.know_users({"svc": USER})
    os.mkfifo(tmp_path / "state.db.users")
    os.mkfifo(tmp_path / "state.db.users.new")
    known_users.load(tmp_path)
    known_users.save(tmp_path)
    known_users.save(tmp_path / "none")
    known_users.load(tmp_path / "none")
    (tmp_path / "folder" / "state.db.users").mkdir(parents=True)
    known_users.load(tmp_path / "folder")


def test_a_pass_keeps_them(folder: Folder) -> None:
    folder.want()
    assert folder.run("apply", "--once").code == 0
    assert facts.own_user().name in json.loads((folder.var / "state.db.users").read_text())

"""Passes under the lock, with a workshop made of a config, and what they leave in the log."""

from __future__ import annotations

import os
import re
import stat
import threading
from pathlib import Path

import pytest

from reconcile.assess.pass_context import DesiredFrom, NoDesiredState
from reconcile.engine.reconciler import PassRequest
from reconcile.engine.results import PassResult
from tests.updater.conftest import Folder
from updater.demo import agent
from updater.service import log_setup
from updater.service.locks import Busy, pass_lock
from updater.service.pass_runner import PassObserver, locked_pass, make_var, pass_runtime
from updater.settings.preflight import FolderUnusable


@pytest.fixture
def log(folder: Folder) -> Folder:
    """The folder, made, with its log set up."""
    make_var(folder.var)
    log_setup.set_up("debug", folder.var / "app.log", to_stderr=False)
    return folder


def one_pass(folder: Folder, ask: DesiredFrom = DesiredFrom.EXCHANGE) -> PassResult:
    return locked_pass(folder.config, folder.around(), PassRequest(ask=ask), ending=threading.Event())


# var/


def test_var_is_ours_alone(tmp_path: Path) -> None:
    make_var(tmp_path / "var")
    (tmp_path / "var").chmod(0o755)
    make_var(tmp_path / "var")
    assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ["no folder", "a file in its place", "a file as folder"])
def test_a_folder_that_can_not_be_used(tmp_path: Path, kind: str) -> None:
    var = tmp_path / "none" / "var"
    if kind != "no folder":
        var = tmp_path / "file" / "var" if kind == "a file as folder" else tmp_path / "file"
        (tmp_path / "file").touch()
    remedy = "move it away" if kind == "a file in its place" else "give it to the user that runs the updater"
    with pytest.raises(FolderUnusable, match=remedy):
        make_var(var)


def test_a_folder_that_can_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_var(tmp_path / "var")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may always
    make_var(tmp_path / "var")  # our own: it is the disk that doesn't let us, and passes heal without it
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(FolderUnusable, match="can't be written to"):
        make_var(tmp_path / "var")


# The workshop


def test_a_workshop_is_made_of_the_config(log: Folder) -> None:
    timeouts = {"start": 6, "stop": 7}
    log.configure(max_tarball=1, max_unpacked=2, max_files=4, cache_size=3, parallel=5, control_timeout=timeouts)
    with pass_runtime(log.config, log.around(), threading.Event(), PassObserver()) as runtime:
        bounds, control = runtime.context.bounds, runtime.context.control
        assert (bounds.max_tarball, bounds.cache_size) == (1, 3)
        assert (bounds.archive.max_unpacked, bounds.archive.max_files) == (2, 4)
        assert (runtime.parallel, control.start_s, control.stop_s) == (5, 6.0, 7.0)
        assert runtime.context.cache == log.var / "cache"


def test_a_store_that_was_set_aside_is_logged(log: Folder) -> None:
    (log.var / "state.db").write_bytes(b"garbage" * 1000)
    log.want()
    one_pass(log)
    assert re.search(r"WARNING the memory could not be read; it lies in .*state\.db\.set-aside-", log.log())


# A pass


def test_the_begin_of_each_action_is_reported(log: Folder) -> None:
    log.want()
    reported: list[str] = []
    locked_pass(
        log.config,
        log.around(),
        PassRequest(ask=DesiredFrom.EXCHANGE),
        ending=threading.Event(),
        observer=PassObserver(begins=lambda view, action: reported.append(f"{view.desired.name} {action.type}")),
    )
    assert reported == [f"falcon-agent {step}" for step in ("fetch", "verify", "unpack", "switch", "start")]


def test_only_what_is_wanted(log: Folder) -> None:
    log.want()
    order = PassRequest(ask=DesiredFrom.EXCHANGE, wanted=lambda name: False)
    result = locked_pass(log.config, log.around(), order, ending=threading.Event())
    assert result.agents == ()
    assert agent.running_below(log.work) == ()


def test_one_pass_at_a_time(log: Folder) -> None:
    with pass_lock(log.var), pytest.raises(Busy):
        one_pass(log)
    assert log.meta.requests == []
    log.want()
    assert one_pass(log).all_ready


def test_the_lock_is_free_after_a_pass_that_could_not_be_made(log: Folder) -> None:
    log.meta.down()
    with pytest.raises(NoDesiredState):
        one_pass(log)
    with pass_lock(log.var):
        pass
